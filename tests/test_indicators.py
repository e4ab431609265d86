"""Every indicator of the catalogue obeys the same laws, whatever its parameters."""

from collections.abc import Mapping

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forexgpt_core.domain.bars import empty_bars
from forexgpt_core.domain.clock import Timeframe, next_opens, week_opens
from forexgpt_core.errors import BadInput
from forexgpt_core.features.catalogue import indicators, merged
from forexgpt_core.features.indicator import Bars, Family, Indicator, Value
from forexgpt_core.features.recipe import Recipe

CATALOGUE = indicators()
ALL = {name: one for name, one in CATALOGUE.items() if "events" not in one.needs}  # the calendar has tests of its own
OF_BARS = [name for name, one in ALL.items() if not one.per_row]
NAMED_BY_THE_FIELD = {
    *("atr", "bollinger", "keltner", "rsi", "stochastic", "cci", "williams_r", "mfi", "macd", "adx", "ema", "sma"),
    *("trix", "obv", "vwap", "donchian", "hurst", "ultimate_oscillator"),
}
SEEDS = st.integers(0, 2**32 - 1)
LAWS = settings(deadline=None, max_examples=4, suppress_health_check=[HealthCheck.too_slow])


def market(bars: int, seed: int, *, level: float = 1.1, still: float = 0.05) -> pl.DataFrame:
    """Return lawful H1 bars with ask prices; some bars stand still."""
    rng = np.random.default_rng(seed)
    moves = rng.standard_t(4, bars) * 1e-3 * (rng.random(bars) > still)
    close = level * np.exp(np.cumsum(moves))
    open_ = np.concatenate([[level], close[:-1]])
    wicks = np.exp(np.abs(rng.normal(0, 5e-4, (2, bars))) * (moves != 0))
    opens = next_opens(week_opens()[1500:1501], Timeframe.H1, bars)[0]
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(opens, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC"),
            "open": open_,
            "high": np.maximum(open_, close) * wicks[0],
            "low": np.minimum(open_, close) / wicks[1],
            "close": close,
            "volume": rng.integers(1, 1000, bars).astype(np.float64),
            "ask_close": close * (1 + rng.uniform(1e-5, 1e-4, bars)),
        }
    )


def bars_of(table: pl.DataFrame, seed: int = 0, *, start: int = 0) -> Bars:
    """Return a table as bars, beside two other pairs that are there from the table's beginning on."""
    rng = np.random.default_rng(seed + 1)
    others = {
        pair: np.exp(np.cumsum(rng.normal(0, 1e-3, table.height + start)))[start:] for pair in ("GBPUSD", "USDJPY")
    }
    return Bars(table, Timeframe.H1, symbol="EURUSD", others=others)


def built(one: Indicator, bars: Bars, values: Mapping[str, Value]) -> dict[str, np.ndarray]:
    return one.columns(bars, values, tuple(bars.others))


def lawful_values(one: Indicator, rng: np.random.Generator) -> dict[str, Value]:
    """Return random parameters that the indicator accepts, short enough for a few hundred bars."""
    while True:
        values: dict[str, Value] = {}
        for name, parameter in one.parameters.items():
            if isinstance(parameter.default, int):
                values[name] = int(rng.integers(parameter.least, min(parameter.most, parameter.least + 20) + 1))
            else:
                values[name] = float(rng.uniform(parameter.least, min(parameter.most, 5)))
        if one.rule[1](**values):
            return values


def test_the_catalogue_offers_the_named_ones_and_over_eighty_in_all() -> None:
    assert set(ALL) >= NAMED_BY_THE_FIELD
    assert len(CATALOGUE) > 80
    assert all(one.about.endswith(".") for one in ALL.values()), "each says what it is"


def test_every_indicator_is_offered_on_every_timeframe() -> None:
    frames = ["M1", "M5", "M15", "M30", "H1", "H4", "D1"]
    recipe = Recipe.from_document({"timeframes": frames, "indicators": dict.fromkeys(ALL), "pairs": ["GBPUSD"]})
    on_d1 = {choice.indicator for choice in recipe.on(Timeframe.D1)}
    assert on_d1 == set(OF_BARS)
    assert all(len(choice.timeframes) == 7 for choice in recipe.choices if choice.indicator in OF_BARS)


@pytest.mark.parametrize("name", ALL)
@LAWS
@given(seed=SEEDS)
def test_the_first_value_comes_after_the_warm_up_and_all_later_ones_are_finite(name: str, seed: int) -> None:
    one, rng = ALL[name], np.random.default_rng(seed)
    values = lawful_values(one, rng)
    warm_up = one.warm_up(**values)
    columns = built(one, bars_of(market(warm_up + 60, seed, still=0.0), seed), values)
    for column, found in columns.items():
        finite = np.isfinite(found)
        assert finite[warm_up:].all(), f"{column} {values} is undefined after its warm-up of {warm_up}"
    if warm_up:
        assert not np.isfinite(np.stack(list(columns.values())))[:, :warm_up].all(axis=0).any()


@pytest.mark.parametrize("name", ALL)
@LAWS
@given(seed=SEEDS, cut=st.integers(0, 150))
def test_no_row_changes_when_later_bars_arrive(name: str, seed: int, cut: int) -> None:
    one = ALL[name]
    values, table = lawful_values(one, np.random.default_rng(seed)), market(150, seed)
    whole = built(one, bars_of(table, seed), values)
    bars = bars_of(table, seed)
    bars = Bars(table.head(cut), Timeframe.H1, symbol="EURUSD", others={p: x[:cut] for p, x in bars.others.items()})
    for column, found in built(one, bars, values).items():
        np.testing.assert_array_equal(found, whole[column][:cut], err_msg=column)


@pytest.mark.parametrize("name", ALL)
@LAWS
@given(seed=SEEDS)
def test_what_lies_beyond_its_memory_does_not_matter(name: str, seed: int) -> None:
    one = ALL[name]
    values = lawful_values(one, np.random.default_rng(seed))
    memory = one.memory(values)
    table = market(memory + 300, seed, still=0.0)
    cut = table.height - memory - 40
    whole = built(one, bars_of(table, seed), values)
    tail = Bars(
        table.slice(cut),
        Timeframe.H1,
        symbol="EURUSD",
        others={p: x[cut:] for p, x in bars_of(table, seed).others.items()},
    )
    for column, found in built(one, tail, values).items():
        size = np.nanmax(np.abs(whole[column]))
        np.testing.assert_allclose(
            found[memory:], whole[column][cut + memory :], rtol=1e-9, atol=1e-9 * size, err_msg=f"{column} {values}"
        )


@pytest.mark.parametrize("name", ALL)
@LAWS
@given(seed=SEEDS, power=st.integers(-4, 8))
def test_no_column_knows_the_price_level(name: str, seed: int, power: int) -> None:
    one = ALL[name]
    values, table = lawful_values(one, np.random.default_rng(seed)), market(200, seed)
    prices = ["open", "high", "low", "close", "ask_close"]
    scaled = table.with_columns(pl.col(prices) * 2.0**power)  # exact in binary
    mine, moved = (built(one, bars_of(t, seed), values) for t in (table, scaled))
    for column, found in mine.items():
        size = np.nanmax(np.abs(found), initial=0.0, where=np.isfinite(found))
        np.testing.assert_allclose(moved[column], found, rtol=1e-7, atol=1e-7 * size, err_msg=column)


@pytest.mark.parametrize("name", ALL)
def test_a_market_that_stands_still_gives_finite_values(name: str) -> None:
    one = ALL[name]
    table = market(one.warm_up(**one.defaults) + 50, seed=3)
    still = table.with_columns(pl.lit(1.25).alias(c) for c in ("open", "high", "low", "close", "ask_close"))
    for column, found in built(one, bars_of(still), one.defaults).items():
        assert np.isfinite(found[one.warm_up(**one.defaults) :]).all(), column


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("bars", [0, 1, 2])
def test_few_bars_give_as_many_rows(name: str, bars: int) -> None:
    one = ALL[name]
    table = market(2, seed=4).head(bars) if bars else empty_bars()
    for column, found in built(one, bars_of(table), one.defaults).items():
        assert found.shape == (bars,), column
        assert found.dtype == np.float64, column


@pytest.mark.parametrize("name", ALL)
def test_without_volume_or_ask_just_those_that_read_them_are_undefined(name: str) -> None:
    one = ALL[name]
    table = market(one.warm_up(**one.defaults) + 20, seed=5).drop("ask_close")
    table = table.with_columns(volume=pl.lit(None, dtype=pl.Float64))
    for column, found in built(one, bars_of(table), one.defaults).items():
        assert np.isfinite(found[-1]) == (not one.needs & {"volume", "ask"}), column


@pytest.mark.parametrize("name", [n for n, one in ALL.items() if "volume" in one.needs])
def test_one_bar_without_volume_spoils_just_the_rows_that_read_it(name: str) -> None:
    one = ALL[name]
    memory = one.memory(one.defaults)
    hole = one.warm_up(**one.defaults) + 5
    table = market(hole + memory + 10, seed=6, still=0.0).with_row_index("row")
    holed = table.with_columns(volume=pl.when(pl.col("row") == hole).then(None).otherwise("volume"))
    for column, found in built(one, bars_of(holed), one.defaults).items():
        assert not np.isfinite(found[hole]), column
        assert np.isfinite(found[hole + memory + 1 :]).all(), column


def test_columns_are_named_by_output_parameters_and_pair() -> None:
    assert ALL["macd"].column_names(ALL["macd"].defaults) == (
        "macd_12_26_9",
        "macd_signal_12_26_9",
        "macd_histogram_12_26_9",
    )
    assert ALL["bollinger"].column_names({"bars": 20, "deviations": 2.5})[0] == "percent_b_20_2.5"
    assert ALL["cross_beta"].column_names({"bars": 48}, ("GBPUSD",)) == ("cross_beta_48_gbpusd",)


def test_other_packages_may_add_indicators_but_not_take_a_name() -> None:
    own, other = Family("own"), Family("other")

    @own.indicator()
    def doubled(b: Bars) -> dict[str, np.ndarray]:
        """Twice the close over the close."""
        return {"doubled": 2 * b.close / b.close}

    other.members.append(own.members[0])
    assert merged([own])["doubled"].columns(bars_of(market(3, seed=7)), {})["doubled"].tolist() == [2.0, 2.0, 2.0]
    with pytest.raises(BadInput, match="two indicators are named 'doubled': of own and other"):
        merged([own, other])
    with pytest.raises(BadInput, match="is str, expected a Family"):
        merged(["own"])
