"""Every indicator of the catalogue equals its formula, written a second time, and TA-Lib where that has it."""

import importlib
import pkgutil
import zlib
from pathlib import Path

import indicator_oracles
import numpy as np
import polars as pl
import pytest
from indicator_oracles.plain import NAN, PLAIN, TALIB, Oracle, Quotes
from numpy.typing import NDArray

from forexgpt_core.adapters.providers.sample import SampleSource
from forexgpt_core.domain.clock import Timeframe, in_fx_week, next_opens, week_opens
from forexgpt_core.features.catalogue import OWN, indicators
from forexgpt_core.features.indicator import Bars, Indicator, Value

for _module in pkgutil.iter_modules(indicator_oracles.__path__):
    importlib.import_module(f"indicator_oracles.{_module.name}")  # registers its oracles

Floats = NDArray[np.float64]
OURS = {family.name for family in OWN} - {"events"}  # the calendar has its plain reading in test_events_features.py
ALL = {name: one for name, one in indicators().items() if one.family in OURS}
PAIRS = ("GBPUSD", "USDJPY")
REAL_M1 = Path(__file__).parents[1].parent / "shared" / "data" / "fx" / "EURUSD_M1.parquet"
H1 = Timeframe.H1


def generated(bars: int, seed: int, *, level: float = 1.1, digits: int = 5) -> pl.DataFrame:
    """Return lawful H1 bars on a grid of quotes: jumps, ties, stretches that stand still, holes in time."""
    rng = np.random.default_rng(seed)
    moves = rng.standard_t(3, bars) * 4e-4 * (rng.random(bars) > 0.1) + (rng.random(bars) < 0.01) * 0.01
    moves[bars // 2 : bars // 2 + 40] = 0.0
    close = np.round(level * np.exp(np.cumsum(moves)), digits)
    open_ = np.concatenate([close[:1], close[:-1]]) + np.round(rng.normal(0, 1e-4, bars) * (moves != 0), digits)
    high, low = np.maximum(open_, close), np.minimum(open_, close)
    wicks = np.round(np.abs(rng.normal(0, 3e-4 * level, (2, bars))) * (moves != 0), digits)
    opens = next_opens(week_opens()[1500:1501], H1, 2 * bars)[0]
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(np.sort(rng.choice(opens, bars, replace=False))).dt.replace_time_zone("UTC"),
            "open": open_,
            "high": high + wicks[0],
            "low": low - wicks[1],
            "close": close,
            "volume": rng.integers(0, 40, bars).astype(np.float64),
            "ask_close": close * (1 + rng.choice([1e-5, 2e-5, 8e-5], bars)),
        }
    )


def sample(bars: int, start: int) -> pl.DataFrame:
    """Return real H1 bars, with a made ask side."""
    table = SampleSource().fetch("EURUSD", H1, since_utc=None, until_utc=None)
    table = table.filter(pl.Series(in_fx_week(table["ts_utc"].to_numpy()))).slice(start, bars)
    spread = np.random.default_rng(start).choice([1e-5, 2e-5, 8e-5], bars)
    return table.with_columns(ask_close=pl.col("close") * (1 + spread))


def without_some_volume(table: pl.DataFrame) -> pl.DataFrame:
    """Return the table with volumes missing in one place, and zero in a long stretch."""
    row, third = pl.int_range(pl.len()), table.height // 3
    gone = row.is_in([third, third + 1, third + 7])
    none = (row > 2 * third) & (row < 2 * third + 120)
    return table.with_columns(volume=pl.when(gone).then(None).when(none).then(0.0).otherwise("volume"))


def beside(bars: int, seed: int, *, holes: bool) -> dict[str, Floats]:
    """Return closes of other pairs; some are missing, one or many in a row."""
    rng = np.random.default_rng(seed)
    closes = {pair: np.round(1.3 * np.exp(np.cumsum(rng.normal(0, 4e-4, bars))), 5) for pair in PAIRS}
    for close in closes.values() if holes else ():
        close[rng.random(bars) < 0.1] = NAN
        close[bars // 2 : bars // 2 + 12] = NAN
        close[1] = NAN
    return closes


def both(table: pl.DataFrame, timeframe: Timeframe = H1, *, holes: bool = True) -> tuple[Bars, Quotes]:
    """Return the same market for the code and for the oracles."""
    closes = beside(table.height, seed=table.height, holes=holes)
    lists = {pair: list(map(float, close)) for pair, close in closes.items()}
    return (
        Bars(table, timeframe, symbol="EURUSD", others=closes),
        Quotes.of(table, seconds=timeframe.seconds, others=lists),
    )


def expected_of(oracle: Oracle, one: Indicator, quotes: Quotes, values: dict[str, Value]) -> dict[str, Floats]:
    """Return an oracle's columns under the indicator's column names; of some only where TA-Lib has no more."""
    if one.each_pair:
        parts = [(pair, oracle(quotes, other=quotes.others[pair], **values)) for pair in PAIRS]
    else:
        parts = [(PAIRS[0], oracle(quotes, **values))]
    named = [
        (one.column_names(values, (pair,))[one.outputs.index(name)], x) for pair, p in parts for name, x in p.items()
    ]
    return {name: np.array(x, dtype=np.float64) for name, x in named}


def lawful_values(one: Indicator, seed: int, most_bars: int) -> dict[str, Value]:
    """Return the usual parameters for seed 0, else random ones that warm up within `most_bars`."""
    rng = np.random.default_rng([seed, zlib.crc32(one.name.encode())])
    values = dict(one.defaults)
    while seed:
        for name, parameter in one.parameters.items():
            low, high = parameter.least, min(parameter.most, parameter.least + 40)
            whole = isinstance(parameter.default, int)
            values[name] = int(rng.integers(low, high + 1)) if whole else round(float(rng.uniform(low, high)), 3)
        if one.rule[1](**values) and one.warm_up(**values) <= most_bars:
            break
    return values


def check(oracle: Oracle, one: Indicator, bars: Bars, quotes: Quotes, values: dict[str, Value]) -> None:
    found, warm_up = one.columns(bars, values, PAIRS), one.warm_up(**values)
    expected = expected_of(oracle, one, quotes, values)
    if oracle is PLAIN.get(one.name):
        assert set(expected) == set(found)
    for column, wanted in expected.items():
        mine, wanted = found[column][warm_up:], wanted[warm_up:]
        size = np.max(np.abs(wanted), initial=0.0, where=np.isfinite(wanted))
        assert np.isfinite(wanted).any(), f"{column}: nothing to compare"
        np.testing.assert_allclose(mine, wanted, rtol=1e-9, atol=1e-9 * size, err_msg=f"{column} {values}")


def test_every_indicator_has_an_oracle() -> None:
    """An indicator without a second, independent implementation does not enter the catalogue."""
    assert set(ALL) - set(PLAIN) == set(), "write the formula a second time in tests/indicator_oracles"
    assert set(PLAIN) - set(ALL) == set()
    assert set(TALIB) <= set(ALL)


@pytest.fixture(scope="module")
def markets() -> dict[str, tuple[Bars, Quotes]]:
    return {
        "generated": both(without_some_volume(generated(520, seed=1))),
        "yen": both(without_some_volume(generated(420, seed=2, level=112.0, digits=3))),
        "sample": both(sample(500, 1200)),
    }


@pytest.mark.parametrize("name", ALL)
def test_an_indicator_is_its_published_formula(name: str, markets: dict[str, tuple[Bars, Quotes]]) -> None:
    one = ALL[name]
    for seed, market in enumerate(markets.values()):
        check(PLAIN[name], one, *market, lawful_values(one, seed, 300))


@pytest.fixture(scope="module")
def lively() -> tuple[Bars, Quotes]:
    """A market without flat windows or missing volume, in which TA-Lib has conventions of its own."""
    return both(sample(1500, 300), holes=False)


@pytest.mark.parametrize("name", TALIB)
def test_an_indicator_is_that_of_talib(name: str, lively: tuple[Bars, Quotes]) -> None:
    for seed in range(4):
        check(TALIB[name], ALL[name], *lively, lawful_values(ALL[name], seed, 700))


@pytest.mark.parametrize("name", ALL)
def test_real_minutes_of_christmas_give_the_published_formula(name: str, christmas: tuple[Bars, Quotes]) -> None:
    values = lawful_values(ALL[name], 0, 300)
    if "volume" in ALL[name].needs:
        assert not any(np.isfinite(x).any() for x in ALL[name].columns(christmas[0], values, PAIRS).values())
    else:
        check(PLAIN[name], ALL[name], *christmas, values)


@pytest.fixture(scope="module")
def christmas() -> tuple[Bars, Quotes]:
    if not REAL_M1.exists():
        pytest.skip(f"real candles are not at {REAL_M1.name} beside the project")
    start = pl.datetime(2018, 12, 24, 16, time_zone="UTC")
    table = pl.scan_parquet(REAL_M1).filter(pl.col("ts_utc") >= start).head(500).collect()
    return both(table.with_columns(ask_close=pl.col("close") + 1e-5), Timeframe.M1)


def _by_ta(table: pl.DataFrame) -> dict[tuple[str, str], Floats]:
    """Return what the library `ta` makes of a market, for definitions that it shares with us, in our units."""
    import ta

    frame = table.to_pandas()
    h, low, c, v = (frame[name].astype(float) for name in ("high", "low", "close", "volume"))
    vortex, kst = ta.trend.VortexIndicator(h, low, c, 14), ta.trend.KSTIndicator(c)
    cloud = ta.trend.IchimokuIndicator(h, low, 9, 26, 52)
    series = {
        ("awesome_oscillator", "awesome_oscillator"): ta.momentum.AwesomeOscillatorIndicator(
            h, low
        ).awesome_oscillator()
        / c,
        ("vortex", "vortex_plus"): vortex.vortex_indicator_pos(),
        ("vortex", "vortex_minus"): vortex.vortex_indicator_neg(),
        ("know_sure_thing", "kst"): kst.kst(),
        ("know_sure_thing", "kst_signal"): kst.kst_sig(),
        ("ichimoku", "senkou_a"): c / cloud.ichimoku_a() - 1,
        ("ichimoku", "senkou_b"): c / cloud.ichimoku_b() - 1,
        ("ulcer_index", "ulcer_index"): ta.volatility.UlcerIndex(c, 14).ulcer_index() / 100,
        ("chaikin_money_flow", "chaikin_money_flow"): ta.volume.ChaikinMoneyFlowIndicator(
            h, low, c, v
        ).chaikin_money_flow(),
        ("vwap", "vwap"): c / ta.volume.VolumeWeightedAveragePrice(h, low, c, v, 20).volume_weighted_average_price()
        - 1,
        ("donchian", "donchian_position"): ta.volatility.DonchianChannel(h, low, c).donchian_channel_pband(),
    }
    return {key: found.to_numpy() for key, found in series.items()}


def test_some_are_those_of_the_library_ta_as_well(lively: tuple[Bars, Quotes]) -> None:
    bars, _ = lively
    for (name, output), expected in _by_ta(sample(1500, 300)).items():
        one = ALL[name]
        found = dict(zip(one.outputs, one.columns(bars, one.defaults, PAIRS).values()))[output]
        size = np.nanmax(np.abs(expected[200:]))
        np.testing.assert_allclose(found[200:], expected[200:], rtol=1e-9, atol=1e-8 * size, err_msg=output)
