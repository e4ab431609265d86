"""Indicator columns on H1, H4 and D1: ours against the `ta` library with pandas resampling."""

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import ta

from benchmarks.measurement import Measurement, against_peer, alternating_seconds
from forexgpt_core.domain.bars import SCHEMA
from forexgpt_core.domain.clock import Timeframe, in_fx_week
from forexgpt_core.features.build import build_features
from forexgpt_core.features.recipe import Recipe

NAMES = ("features_vs_ta",)

RECIPE = Recipe(ohlc=False, calendar=False, volatility=False)  # the columns `ta` has too
REPEATS = 3
LEAST_RATIO = 10.0

_SHARED = Path(__file__).parents[2] / "shared" / "data" / "fx" / "EURUSD_H1.parquet"
_BARS = {"h1": pd.Timedelta("1h"), "h4": pd.Timedelta("4h"), "d1": pd.Timedelta("1D")}
_TO_MIDNIGHT = pd.Timedelta("7h")  # a trading day opens at 17:00 New York


def measure(only: set[str] | None) -> list[Measurement]:
    """Return the measurements named in `only`, None for all."""
    if only is not None and not only & set(NAMES):
        return []
    candles, source = _candles()
    prices = candles.select("ts_utc", "open", "high", "low", "close").to_pandas().set_index("ts_utc")
    _require_same_work(build_features(candles, Timeframe.H1, RECIPE), ta_features(prices))
    ours, peer = alternating_seconds(
        lambda: build_features(candles, Timeframe.H1, RECIPE), lambda: ta_features(prices), REPEATS
    )
    note = f"{len(_BARS)} timeframes x 7 columns, {candles.height:,} H1 bars of {source}, median of {REPEATS}"
    return [against_peer("features_vs_ta", ours, peer, unit="s", least_ratio=LEAST_RATIO, note=note)]


def ta_features(prices: pd.DataFrame) -> pd.DataFrame:
    """Return the recipe's columns by `ta`, higher bars joined by their close."""
    rows = pd.DataFrame({"known": pd.DatetimeIndex(prices.index) + _BARS["h1"]}, index=prices.index)
    for frame, length in _BARS.items():
        bars = prices if frame == "h1" else _resampled(prices, length)
        built = _indicators(bars).add_suffix(f"_{frame}")
        built["known"] = pd.DatetimeIndex(bars.index) + length
        rows = pd.merge_asof(rows, built, on="known")
    return rows.drop(columns="known").set_index(prices.index)


def _resampled(prices: pd.DataFrame, length: pd.Timedelta) -> pd.DataFrame:
    local = pd.DatetimeIndex(prices.index).tz_convert("America/New_York").tz_localize(None) + _TO_MIDNIGHT
    rules = {"open": "first", "high": "max", "low": "min", "close": "last"}
    bars = prices.set_axis(local).resample(length).agg(rules).dropna()
    opens = pd.DatetimeIndex(bars.index) - _TO_MIDNIGHT
    return bars.set_axis(opens.tz_localize("America/New_York").tz_convert("UTC"))


def _indicators(bars: pd.DataFrame) -> pd.DataFrame:
    high, low, close = bars["high"], bars["low"], bars["close"]
    fast, slow, signal = RECIPE.macd_bars
    macd = ta.trend.MACD(close, window_slow=slow, window_fast=fast, window_sign=signal)
    bands = ta.volatility.BollingerBands(close, window=RECIPE.bollinger_bars, window_dev=2)
    atr = ta.volatility.AverageTrueRange(high, low, close, window=RECIPE.atr_bars)
    return pd.DataFrame(
        {
            f"rsi_{RECIPE.rsi_bars}": ta.momentum.RSIIndicator(close, window=RECIPE.rsi_bars).rsi(),
            f"atr_{RECIPE.atr_bars}": atr.average_true_range() / close,
            f"macd_{fast}_{slow}": macd.macd() / close,
            f"macd_histogram_{fast}_{slow}_{signal}": macd.macd_diff() / close,
            f"percent_b_{RECIPE.bollinger_bars}": bands.bollinger_pband(),
            f"bollinger_width_{RECIPE.bollinger_bars}": bands.bollinger_wband() / 100,
            f"adx_{RECIPE.adx_bars}": ta.trend.ADXIndicator(high, low, close, window=RECIPE.adx_bars).adx(),
        }
    )


def _require_same_work(ours: pl.DataFrame, peer: pd.DataFrame) -> None:
    """Refuse to compare times of unequal work: the newest rows, where starting values have faded, must agree."""
    names = [name for name in ours.columns if name != "ts_utc"]
    if names != list(peer.columns):
        raise ValueError(f"the peer builds {list(peer.columns)}, expected {names}")
    mine = ours.tail(500).select(names).to_numpy()
    theirs = peer.tail(500).to_numpy()
    size = np.abs(mine).max(axis=0)
    apart = np.abs(mine - theirs).max(axis=0) / size
    if not (apart < 1e-3).all():
        worst = int(np.nanargmax(apart))
        raise ValueError(f"ours and the peer's {names[worst]} differ by {apart[worst]:.2g} of the column's size")


def _candles() -> tuple[pl.DataFrame, str]:
    """Return EURUSD H1 bars: twelve years where they lie beside the project, else the sample of backtesting.py."""
    if _SHARED.exists():
        bars, source = pl.read_parquet(_SHARED), "EURUSD 2007 to 2018"
    else:
        from backtesting.test import EURUSD

        sample = EURUSD.rename(columns=str.lower).rename_axis("ts_utc").reset_index()
        bars = pl.from_pandas(sample).with_columns(
            pl.col("ts_utc").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"), pl.col("volume").cast(pl.Float64)
        )
        source = "the backtesting.py sample"
    inside = in_fx_week(bars["ts_utc"].to_numpy())
    return bars.select(list(SCHEMA)).filter(pl.Series(inside)), source
