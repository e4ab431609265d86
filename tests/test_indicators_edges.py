"""Where an indicator has nothing to work with: flat bars, no volume, holes in time, one bar, a long standstill."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
import talib.abstract
from numpy.typing import NDArray

from forexgpt_core.domain.clock import Timeframe, next_opens, week_opens
from forexgpt_core.features.catalogue import OWN, indicators
from forexgpt_core.features.indicator import Bars, Value

Floats = NDArray[np.float64]
OURS = {family.name for family in OWN} - {"events"}  # the calendar has its plain reading in test_events_features.py
ALL = {name: one for name, one in indicators().items() if one.family in OURS}
OF_BARS = [name for name, one in ALL.items() if not one.per_row]
PAIRS = ("GBPUSD", "USDJPY")
PRICE_LEVELS = (1.1, 112.123, 0.00731)  # none of them exact in binary
WITH_VOLUME = [name for name, one in ALL.items() if "volume" in one.needs]

# What each column is while all prices, volumes and spreads stand still, where that is not 0; parameters are the usual.
STILL = {
    "inside_bar": -1,
    "up_share": 0.5,
    "percent_b": 0.5,
    "keltner_position": 0.5,
    "donchian_position": 0.5,
    "volatility_ratio": 1,
    "mass_index": 25,
    "choppiness": 100,
    "stochastic_k": 50,
    "stochastic_d": 50,
    "stochastic_rsi": 50,
    "williams_r": -50,
    "ultimate_oscillator": 50,
    "aroon_up": 100,
    "aroon_down": 100,
    "vortex_plus": 1,
    "vortex_minus": 1,
    "mfi": 50,
    "relative_volume": 1,
    "variance_ratio": 1,
    "hurst": 0.5,
    "return_rank": 0.5,
    "range_rank": 0.5,
    "spread": 1e-4,
}
SAID_AS = {"up_share": "counts half", "return_rank": "ties counted half", "range_rank": "ties counted half"}
NO_VOLUME = {"mfi": 50, "relative_volume": 1}  # what columns are where volumes are 0 and prices move; 0 but for these


def market(bars: int, seed: int, *, level: float = 1.1, still_from: int | None = None) -> pl.DataFrame:
    """Return lawful H1 bars; from `still_from` on nothing moves."""
    rng = np.random.default_rng(seed)
    moves = rng.standard_t(4, bars) * 1e-3
    moves[still_from:] = 0 if still_from is not None else moves[still_from:]
    close = level * np.exp(np.cumsum(moves))
    open_ = np.concatenate([[level], close[:-1]])
    wicks = np.exp(np.abs(rng.normal(0, 5e-4, (2, bars))) * (moves != 0))
    return pl.DataFrame(
        {
            "ts_utc": _opens(next_opens(week_opens()[1500:1501], Timeframe.H1, bars)[0]),
            "open": open_,
            "high": np.maximum(open_, close) * wicks[0],
            "low": np.minimum(open_, close) / wicks[1],
            "close": close,
            "volume": np.where(moves != 0, rng.integers(1, 1000, bars), 7.0),
            "ask_close": close * 1.0001,
        }
    )


def _opens(times: NDArray[np.datetime64]) -> pl.Series:
    return pl.Series(times, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC")


def columns(name: str, table: pl.DataFrame, values: dict[str, Value] | None = None) -> dict[str, Floats]:
    """Return an indicator's columns by output name, of the first other pair; other pairs stand still."""
    one, others = ALL[name], {pair: np.full(table.height, 1.3) for pair in PAIRS}
    built = one.columns(Bars(table, Timeframe.H1, symbol="EURUSD", others=others), values or one.defaults, PAIRS)
    return dict(zip(one.outputs, built.values()))


@pytest.mark.parametrize("name", OF_BARS)
def test_flat_bars_give_the_documented_value(name: str) -> None:
    one = ALL[name]
    warm_up = one.warm_up(**one.defaults)
    for level in PRICE_LEVELS:
        flat = market(warm_up + 30, seed=1, level=level, still_from=0)
        for output, found in columns(name, flat).items():
            wanted = STILL.get(output, 0)
            np.testing.assert_allclose(found[warm_up:], wanted, rtol=1e-9, atol=1e-12, err_msg=f"{output} at {level}")


@pytest.mark.parametrize("name", [n for n in OF_BARS if not ALL[n].forget(**ALL[n].defaults) and n != "obv"])
def test_windows_that_became_flat_give_the_same_value(name: str) -> None:
    """What a window remembers of livelier times is nothing, not rounding."""
    one = ALL[name]
    memory = one.memory(one.defaults)
    for level in PRICE_LEVELS:
        table = market(2 * memory + 130, seed=2, level=level, still_from=memory + 100)
        for output, found in columns(name, table).items():
            wanted = STILL.get(output, 0)
            np.testing.assert_allclose(found[-20:], wanted, rtol=1e-9, atol=1e-12, err_msg=f"{output} at {level}")


@pytest.mark.parametrize("output", STILL)
def test_a_value_that_is_not_0_is_in_the_docstring(output: str) -> None:
    one = next(one for one in ALL.values() if output in one.outputs)
    if output not in ("spread", "mass_index"):  # its own value; named by its parameter
        assert SAID_AS.get(output, f"{STILL[output]:g}") in one.about


@pytest.mark.parametrize("name", OF_BARS)
def test_a_long_standstill_and_its_end_give_no_wild_values(name: str) -> None:
    """Averages of what has come to rest fade below the last digit of a price; ratios of them must not blow up."""
    one = ALL[name]
    before = one.warm_up(**one.defaults) + 200
    table = market(before + 9000, seed=3, still_from=before)
    after = market(300, seed=4, level=table["close"][-1]).drop("ts_utc")
    times = _opens(next_opens(week_opens()[1500:1501], Timeframe.H1, table.height + after.height)[0])
    whole = pl.concat([table.drop("ts_utc"), after]).insert_column(0, times.alias("ts_utc"))
    for output, found in columns(name, whole).items():
        lively = np.nanmax(np.abs(found[:before]))
        assert np.isfinite(found[before:]).all(), output
        limit = {"chaikin_volatility": 1e5}.get(output, 100 * lively)
        assert np.max(np.abs(found[before:])) <= max(limit, STILL.get(output, 0)), output


@pytest.mark.parametrize("name", WITH_VOLUME)
def test_no_volume_gives_the_documented_value(name: str) -> None:
    one = ALL[name]
    warm_up = one.warm_up(**one.defaults)
    dry = market(warm_up + 30, seed=5).with_columns(volume=pl.lit(0.0))
    for output, found in columns(name, dry).items():
        np.testing.assert_array_equal(found[warm_up:], NO_VOLUME.get(output, 0), err_msg=output)


@pytest.mark.parametrize("name", WITH_VOLUME)
def test_a_missing_volume_is_undefined_wherever_it_is_read(name: str) -> None:
    one = ALL[name]
    warm_up, hole = one.warm_up(**one.defaults), one.memory(one.defaults) + 20
    table = market(hole + one.memory(one.defaults) + 40, seed=6).with_row_index("row")
    unmoved = table.with_columns(  # also of a bar that changes nothing
        pl.when(pl.col("row") == hole).then(pl.col(c).shift(1)).otherwise(c).alias(c) for c in ("high", "low", "close")
    )
    for bars in (table, unmoved):
        spoilt = bars.with_columns(volume=pl.when(pl.col("row") == hole).then(None).otherwise("volume"))
        whole, holed = columns(name, bars), columns(name, spoilt)
        for output, found in holed.items():
            undefined = np.flatnonzero(np.isnan(found[warm_up:])) + warm_up
            assert hole in undefined, output
            assert undefined.max() <= hole + warm_up, output
            assert np.array_equal(undefined, np.arange(hole, undefined.max() + 1)), output
            np.testing.assert_array_equal(found[:hole], whole[output][:hole])


@pytest.mark.parametrize("name", OF_BARS)
def test_bars_are_counted_and_not_hours(name: str) -> None:
    """A hole in time changes nothing: the bar after it follows the bar before it."""
    one = ALL[name]
    table = market(one.warm_up(**one.defaults) + 60, seed=7)
    times = next_opens(week_opens()[1500:1501], Timeframe.H1, 3 * table.height)[0]
    chosen = np.sort(np.random.default_rng(8).choice(times, table.height, replace=False))
    holed = table.with_columns(ts_utc=_opens(chosen))
    for output, found in columns(name, holed).items():
        np.testing.assert_array_equal(found, columns(name, table)[output])


def test_reopening_counts_the_bars_that_are_missing() -> None:
    times = ["2018-07-05T20", "2018-07-05T21", "2018-07-06T01", "2018-07-06T20", "2018-07-08T21", "2018-07-09T00"]
    table = market(6, seed=9).with_columns(ts_utc=_opens(np.array(times, dtype="datetime64[us]")))
    assert columns("reopening", table)["bars_missing"].tolist() == [0, 0, 3, 18, 0, 2], "a weekend misses nothing"


@pytest.mark.parametrize(
    ("day", "today", "ahead"),
    [
        ("2017-12-21T23", 0, 1),  # Friday's trading day, before Monday 25 December
        ("2017-12-21T21", 0, 0),  # Thursday's
        ("2017-12-24T23", 1, 0),
        ("2017-12-25T21", 1, 0),
        ("2017-12-25T22", 0, 0),
        ("2018-12-23T23", 0, 1),
        ("2018-12-31T21", 0, 1),
        ("2018-12-31T22", 1, 0),
        ("2021-12-24T20", 0, 0),  # Friday, before a 25 December on which nobody trades anyway
    ],
)
def test_holidays_are_trading_days_and_so_are_the_days_before(day: str, today: int, ahead: int) -> None:
    table = market(1, seed=10).with_columns(ts_utc=_opens(np.array([day], dtype="datetime64[us]")))
    assert {name: x.tolist() for name, x in columns("holiday", table).items()} == {
        "holiday": [today],
        "holiday_ahead": [ahead],
    }


@pytest.mark.parametrize("name", ALL)
def test_one_bar_gives_one_row_that_is_undefined_unless_the_bar_says_it_all(name: str) -> None:
    for output, found in columns(name, market(1, seed=11)).items():
        assert found.shape == (1,)
        assert np.isfinite(found[0]) == (ALL[name].warm_up(**ALL[name].defaults) == 0), output


def _same(*names: str) -> Callable[..., dict[str, Value]]:
    return lambda **values: dict(zip(names, values.values()))


_TIMEPERIOD = _same("timeperiod")
_FAST = {"fastd_period": 1}
OF_TALIB: dict[str, tuple[str, Callable[..., dict[str, Value]]]] = {
    **{name: (name.upper(), _TIMEPERIOD) for name in ("sma", "ema", "wma", "dema", "tema", "trima", "kama")},
    **{name: (name.upper(), _TIMEPERIOD) for name in ("rsi", "atr", "adx", "adxr", "cci", "cmo", "trix", "mfi")},
    **{name: (name.upper(), _TIMEPERIOD) for name in ("midpoint", "aroon")},
    "true_range": ("TRANGE", dict),
    "rate_of_change": ("ROC", _TIMEPERIOD),
    "williams_r": ("WILLR", _TIMEPERIOD),
    "directional": ("PLUS_DI", _TIMEPERIOD),
    "linear_trend": ("LINEARREG", _TIMEPERIOD),
    "t3": ("T3", _same("timeperiod", "vfactor")),
    "macd": ("MACD", _same("fastperiod", "slowperiod", "signalperiod")),
    "ppo": ("PPO", _same("fastperiod", "slowperiod")),
    "bollinger": ("BBANDS", lambda bars, deviations: {"timeperiod": bars, "nbdevup": deviations}),
    "stochastic": ("STOCH", _same("fastk_period", "slowk_period", "slowd_period")),
    "stochastic_rsi": ("STOCHRSI", lambda bars, window: {**_FAST, "timeperiod": bars, "fastk_period": window}),
    "ultimate_oscillator": ("ULTOSC", _same("timeperiod1", "timeperiod2", "timeperiod3")),
}


@pytest.mark.parametrize("name", OF_TALIB)
def test_the_warm_up_is_the_lookback_of_talib(name: str) -> None:
    one, (function, parameters) = ALL[name], OF_TALIB[name]
    rng, tried = np.random.default_rng(12), 0
    while tried < 20:
        values: dict[str, Value] = {}
        for key, p in one.parameters.items():
            whole, low, high = isinstance(p.default, int), p.least, min(p.most, p.least + 100)
            values[key] = int(rng.integers(low, high + 1)) if whole else float(rng.uniform(low, high))
        if not one.rule[1](**values):
            continue
        tried += 1
        talibs = talib.abstract.Function(function)
        talibs.parameters = parameters(**values)
        assert talibs.lookback == one.warm_up(**values), values
