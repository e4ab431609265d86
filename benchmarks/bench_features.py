"""Indicators on seven timeframes of M1 bars: against the `ta` library, against bare TA-Lib, and one day at a time."""

import resource
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import ta
import talib

from benchmarks.measurement import Measurement, against_peer, alone, alternating_seconds, median_seconds, seconds
from forexgpt_core.adapters.lake import Lake
from forexgpt_core.candles.resampling import resample
from forexgpt_core.domain.bars import SCHEMA
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.features.build import build_features
from forexgpt_core.features.inputs import FeatureInputs
from forexgpt_core.features.leaks import recipe_leaks
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.table import KIND, Basis, FeatureTable

NAMES = ("features_vs_talib", "features_vs_ta", "features_incremental", "features_leaks")  # ours alone tells its peak
FRAMES = ("M1", "M5", "M15", "M30", "H1", "H4", "D1")
NAMED = (  # the 18 indicators of the field
    *("atr", "bollinger", "keltner", "rsi", "stochastic", "cci", "williams_r", "mfi", "macd", "adx", "ema", "sma"),
    *("trix", "obv", "vwap", "donchian", "hurst", "ultimate_oscillator"),
)
NOT_IN_TALIB = ("keltner", "vwap", "hurst")
REPEATS = 5
BARS = 651_224  # of the walk that stands in for real bars
LEAST_VS_TA, LEAST_VS_TALIB, MOST_OF_FULL, MOST_LEAK_SECONDS = 25.0, 1 / 5, 0.05, 60.0

_SHARED = Path(__file__).parents[2] / "shared" / "data" / "fx" / "EURUSD_M1.parquet"
_OFFSETS = {"M1": "1min", "M5": "5min", "M15": "15min", "M30": "30min", "H1": "1h", "H4": "4h", "D1": "1D"}
_TO_MIDNIGHT = pd.Timedelta("7h")  # a trading day opens at 17:00 New York
_DAY = 1440

Columns = dict[str, "pd.Series"]


def measure(only: set[str] | None) -> list[Measurement]:
    """Return the measurements named in `only`, None for all."""
    wanted = set(NAMES) if only is None else only & set(NAMES)
    if not wanted:
        return []
    candles, source = m1_candles()
    measures: dict[str, Callable[[pl.DataFrame, str], Measurement]] = {
        "features_vs_talib": _against_talib,
        "features_vs_ta": _against_ta,
        "features_incremental": _one_day,
        "features_leaks": _leaks,
    }
    return [measure_(candles, source) for name, measure_ in measures.items() if name in wanted]


def recipe(without: tuple[str, ...] = ()) -> Recipe:
    """Return the 18 indicators on seven timeframes, some left out."""
    chosen = [name for name in NAMED if name not in without]
    return Recipe.from_document({"timeframes": list(FRAMES), "indicators": dict.fromkeys(chosen)})


def build(candles: pl.DataFrame, wanted: Recipe) -> pl.DataFrame:
    """Return the features of M1 candles."""
    return build_features(candles, Timeframe.M1, wanted)


def _against_ta(candles: pl.DataFrame, source: str) -> Measurement:
    """Time the same columns by `ta` and pandas: 17 of the 18 indicators, as `ta` has no Hurst exponent."""
    wanted = recipe(("hurst",))
    prices = candles.select("ts_utc", "open", "high", "low", "close", "volume").to_pandas().set_index("ts_utc")
    theirs: list[pd.DataFrame] = []
    peer = seconds(lambda: theirs.append(ta_features(prices)))  # minutes, so once
    require_same(build(candles, wanted), theirs[0])
    ours = [seconds(lambda: build(candles, wanted)) for _ in range(REPEATS)]
    note = f"17 indicators x 7 timeframes, {candles.height:,} M1 bars of {source}; ours median of {REPEATS}, `ta` once"
    return against_peer("features_vs_ta", float(np.median(ours)), peer, unit="s", least_ratio=LEAST_VS_TA, note=note)


def _against_talib(candles: pl.DataFrame, source: str) -> Measurement:
    """Time bare TA-Lib calls on bars that are resampled already, against ours with resampling and joining."""
    wanted = recipe(NOT_IN_TALIB)
    arrays = [_arrays(resample(candles, Timeframe.M1, Timeframe(frame))) for frame in FRAMES]
    ours, peer = alternating_seconds(
        lambda: build(candles, wanted), lambda: [talib_calls(*bars) for bars in arrays], REPEATS
    )
    parts = {share: median_seconds(lambda n=n: build(candles.head(n), wanted), 3) for share, n in _shares(candles)}
    grown = ", ".join(f"{share} of the bars {took:.3f} s" for share, took in parts.items())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    note = (
        f"15 indicators x 7 timeframes, {candles.height:,} M1 bars of {source}; reshaping and joining on our side only;"
        f" {grown}; peak memory of the process {peak:.2f} GB"
    )
    return against_peer("features_vs_talib", ours, peer, unit="s", least_ratio=LEAST_VS_TALIB, note=note)


def _shares(candles: pl.DataFrame) -> list[tuple[str, int]]:
    return [("1/4", candles.height // 4), ("1/2", candles.height // 2), ("1", candles.height)]


def _one_day(candles: pl.DataFrame, source: str) -> Measurement:
    """Time the whole update of a stored table, read to commit: all bars at first, then one new day at a time."""
    wanted = recipe()
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        table = FeatureTable(store=lake, symbol="EURUSD", timeframe=Timeframe.M1)
        days = REPEATS
        lake.merge_candles("EURUSD", Timeframe.M1, candles.head(-days * _DAY))
        full = seconds(lambda: _update(lake, table, wanted))
        took = []
        for day in range(days, 0, -1):
            lake.merge_candles("EURUSD", Timeframe.M1, candles.slice(candles.height - day * _DAY, _DAY))
            took.append(seconds(lambda: _update(lake, table, wanted)))
        stored = lake.read(KIND, "EURUSD", Timeframe.M1).tail(_DAY)
    whole = build(candles, wanted).tail(_DAY)
    names = list(wanted.columns)
    mine, theirs = stored.select(names).to_numpy(), whole.select(names).to_numpy()
    apart = float(np.nanmax(np.abs(mine - theirs) / np.nanmax(np.abs(theirs), axis=0)))
    since = candles["ts_utc"][-_DAY]
    alone_ = median_seconds(lambda: build_features(candles, Timeframe.M1, wanted, since_utc=since), REPEATS)
    whole_build = median_seconds(lambda: build(candles, wanted), REPEATS)
    day_seconds = float(np.median(took))
    note = (
        f"18 indicators x 7 timeframes, {candles.height:,} M1 bars of {source}, from reading candles to the commit:"
        f" {day_seconds:.3f} s for a new day ({_DAY} bars), median of {days}, {full:.2f} s for all; of it building in"
        f" memory {1e3 * alone_:.0f} ms and {whole_build:.3f} s; rows agree to {apart:.1e} of the column's size"
    )
    share = day_seconds / full
    return alone("features_incremental", share, unit="share of the full build", at_most=MOST_OF_FULL, note=note)


def _update(lake: Lake, table: FeatureTable, wanted: Recipe) -> None:
    """Bring the stored features up to the stored candles."""
    basis = Basis(recipe=wanted, candles=lake.candles_version(table.symbol, table.timeframe))
    bars = lake.candles(table.symbol, table.timeframe)
    plan = table.plan(basis, bars)
    if plan is None:
        raise ValueError("the table is up to date already; expected something to build")
    rows = partial(build_features, bars, table.timeframe, wanted)
    table.save(table.build(plan, wanted, bars.height, lambda since: rows(since_utc=since)), basis)


def _leaks(candles: pl.DataFrame, source: str) -> Measurement:
    everything = Recipe.from_document({"timeframes": list(FRAMES), "indicators": "all"})
    found: list[object] = []
    inputs = FeatureInputs(symbol="EURUSD")
    took = seconds(lambda: found.extend(recipe_leaks(build_features, candles, Timeframe.M1, everything, inputs)))
    note = f"{len(everything.columns)} columns on 7 timeframes of {source}, {len(found)} leaks, once"
    return alone("features_leaks", took, unit="s", at_most=MOST_LEAK_SECONDS, note=note)


def talib_calls(high: np.ndarray, low: np.ndarray, close: np.ndarray, volume: np.ndarray) -> list[object]:
    """Compute the raw values behind our columns with TA-Lib and nothing else."""
    return [
        talib.ATR(high, low, close, 14),
        talib.BBANDS(close, 20, 2.0, 2.0),
        talib.RSI(close, 14),
        talib.STOCH(high, low, close, 14, 3, 0, 3, 0),
        talib.CCI(high, low, close, 20),
        talib.WILLR(high, low, close, 14),
        talib.MFI(high, low, close, volume, 14),
        talib.MACD(close, 12, 26, 9),
        talib.ADX(high, low, close, 14),
        talib.EMA(close, 20),
        talib.SMA(close, 20),
        talib.TRIX(close, 15),
        talib.OBV(close, volume),
        (talib.MAX(high, 20), talib.MIN(low, 20)),
        talib.ULTOSC(high, low, close, 7, 14, 28),
    ]


def ta_features(prices: pd.DataFrame) -> pd.DataFrame:
    """Return the same columns by `ta`, higher bars by pandas resampling, joined by their close."""
    minute = pd.Timedelta("1min")
    rows = pd.DataFrame({"known": pd.DatetimeIndex(prices.index) + minute}, index=prices.index)
    for frame in FRAMES:
        length = pd.Timedelta(_OFFSETS[frame])
        bars = prices if frame == "M1" else _resampled(prices, length)
        built = ta_indicators(bars).add_suffix(f"_{frame.lower()}")
        built["known"] = pd.DatetimeIndex(bars.index) + length
        rows = pd.merge_asof(rows, built, on="known")
    return rows.drop(columns="known").set_index(prices.index)


def _resampled(prices: pd.DataFrame, length: pd.Timedelta) -> pd.DataFrame:
    local = pd.DatetimeIndex(prices.index).tz_convert("America/New_York").tz_localize(None) + _TO_MIDNIGHT
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    bars = prices.set_axis(local).resample(length).agg(rules).dropna()
    opens = pd.DatetimeIndex(bars.index) - _TO_MIDNIGHT
    return bars.set_axis(opens.tz_localize("America/New_York").tz_convert("UTC"))


def ta_indicators(bars: pd.DataFrame) -> pd.DataFrame:
    """Return our columns of one timeframe by `ta`, named as ours."""
    high, low, close, volume = bars["high"], bars["low"], bars["close"], bars["volume"]
    atr = {n: ta.volatility.AverageTrueRange(high, low, close, window=n).average_true_range() for n in (14, 10)}
    bands = ta.volatility.BollingerBands(close, window=20, window_dev=2)
    middle = ta.trend.EMAIndicator(close, window=20).ema_indicator()
    stochastic = ta.momentum.StochasticOscillator(high, low, close, window=14, smooth_window=3)
    slow = stochastic.stoch_signal()
    macd = ta.trend.MACD(close, window_slow=26, window_fast=12, window_sign=9)
    donchian = ta.volatility.DonchianChannel(high, low, close, window=20)
    signed = volume * np.sign(close.diff())  # `ta` adds the volume of a close that stands, so its OBV is another column
    vwap = ta.volume.VolumeWeightedAveragePrice(high, low, close, volume, window=20)
    return pd.DataFrame(
        {
            "atr_14": atr[14] / close,
            "percent_b_20_2": bands.bollinger_pband(),
            "bollinger_width_20_2": bands.bollinger_wband() / 100,
            "keltner_position_20_10_2": (close - middle + 2 * atr[10]) / (4 * atr[10]),
            "keltner_width_20_10_2": 4 * atr[10] / middle,
            "donchian_position_20": donchian.donchian_channel_pband(),
            "donchian_width_20": (donchian.donchian_channel_hband() - donchian.donchian_channel_lband()) / close,
            "rsi_14": ta.momentum.RSIIndicator(close, window=14).rsi(),
            "macd_12_26_9": macd.macd() / close,
            "macd_signal_12_26_9": macd.macd_signal() / close,
            "macd_histogram_12_26_9": macd.macd_diff() / close,
            "stochastic_k_14_3_3": slow,
            "stochastic_d_14_3_3": slow.rolling(3).mean(),
            "cci_20": ta.trend.CCIIndicator(high, low, close, window=20).cci(),
            "williams_r_14": ta.momentum.WilliamsRIndicator(high, low, close, lbp=14).williams_r(),
            "ultimate_oscillator_7_14_28": ta.momentum.UltimateOscillator(high, low, close).ultimate_oscillator(),
            "trix_15": ta.trend.TRIXIndicator(close, window=15).trix(),
            "sma_20": close / ta.trend.SMAIndicator(close, window=20).sma_indicator() - 1,
            "ema_20": close / middle - 1,
            "adx_14": ta.trend.ADXIndicator(high, low, close, window=14).adx(),
            "obv_20": signed.rolling(20).sum() / volume.rolling(20).sum(),
            "vwap_20": close / vwap.volume_weighted_average_price() - 1,
            "mfi_14": ta.volume.MFIIndicator(high, low, close, volume, window=14).money_flow_index(),
        }
    )


def require_same(ours: pl.DataFrame, peer: pd.DataFrame) -> None:
    """Refuse to compare times of unequal work: the newest rows, where starting values have faded, must agree."""
    names = [name for name in ours.columns if name != "ts_utc"]
    if names != list(peer.columns):
        raise ValueError(f"the peer builds {list(peer.columns)}, expected {names}")
    # `ta` takes the rounding between equal typical prices for a flow of money, so its MFI differs wherever prices tie.
    compared = [name for name in names if not name.startswith("mfi")]
    mine, theirs = (frame[compared].to_numpy()[-500:] for frame in (ours, peer))
    apart = np.nanmax(np.abs(mine - theirs), axis=0) / np.nanmax(np.abs(mine), axis=0)
    if not (apart < 1e-3).all():
        worst = int(np.nanargmax(apart))
        raise ValueError(f"ours and the peer's {compared[worst]} differ by {apart[worst]:.2g} of the column's size")


def _arrays(bars: pl.DataFrame) -> tuple[np.ndarray, ...]:
    return tuple(np.ascontiguousarray(bars[name].to_numpy()) for name in ("high", "low", "close", "volume"))


def m1_candles() -> tuple[pl.DataFrame, str]:
    """Return the real EURUSD M1 bars where they lie beside the project, else as many of a seeded walk.

    The source has no volume, so both sides get the same seeded tick counts.
    """
    rng = np.random.default_rng(7)
    if _SHARED.exists():
        bars, source = pl.read_parquet(_SHARED).select(list(SCHEMA)), "EURUSD 2018-01 to 2019-09"
    else:
        bars, source = _walk(rng), "a seeded walk"
    volume = pl.Series("volume", rng.integers(1, 200, bars.height).astype(np.float64))
    return bars.with_columns(volume), f"{source}, seeded volume"


def _walk(rng: np.random.Generator) -> pl.DataFrame:
    opens = expected_opens(np.datetime64("2018-01-01T22:00"), np.datetime64("2019-12-30T23:59"), Timeframe.M1)[:BARS]
    close = 1.2 * np.exp(np.cumsum(rng.standard_t(4, opens.size) * 5e-5))
    open_ = np.concatenate([[1.2], close[:-1]])
    wicks = np.exp(np.abs(rng.normal(0, 2e-5, (2, opens.size))))
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(opens, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC"),
            "open": open_,
            "high": np.maximum(open_, close) * wicks[0],
            "low": np.minimum(open_, close) / wicks[1],
            "close": close,
        }
    )
