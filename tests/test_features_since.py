"""Building only the newest rows gives the rows of a full build, whatever the indicator, the timeframe and the day."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forexgpt_core.adapters.providers.sample import SampleSource
from forexgpt_core.domain.bars import PRICES
from forexgpt_core.domain.clock import Timeframe, in_fx_week, next_opens, week_opens
from forexgpt_core.features.build import build_features
from forexgpt_core.features.catalogue import OWN, indicators
from forexgpt_core.features.inputs import FeatureInputs
from forexgpt_core.features.recipe import Recipe

OURS = {family.name for family in OWN} - {"events"}  # the calendar is built so in test_features_inputs.py
ALL = {name: one for name, one in indicators().items() if one.family in OURS}
PAIRS = ["GBPUSD", "USDJPY"]
REAL = Path(__file__).parents[1].parent / "shared" / "data" / "fx"
TINY = 1e-9  # of a value, or of the column's largest


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def recipe(name: str, frames: Sequence[str], values: dict[str, object] | None = None) -> Recipe:
    """Return a recipe of one indicator alone, so that no other one's memory helps it."""
    pairs = {"pairs": PAIRS} if "pairs" in ALL[name].needs else {}
    return Recipe.from_document({"timeframes": list(frames), "indicators": {name: values or {}}, **pairs})


def with_volume_and_ask(candles: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return candles with made tick counts, some of them missing, and a made ask side."""
    rng = np.random.default_rng(seed)
    volume = np.where(rng.random(candles.height) < 0.001, np.nan, rng.integers(0, 60, candles.height))
    spread = pl.Series(rng.choice([1e-5, 2e-5, 9e-5], candles.height))
    return candles.with_columns(
        pl.Series(volume).fill_nan(None).alias("volume"), *((pl.col(p) + spread).alias(f"ask_{p}") for p in PRICES)
    )


def with_holes(candles: pl.DataFrame, share: float, seed: int) -> pl.DataFrame:
    return candles.filter(pl.Series(np.random.default_rng(seed).random(candles.height) >= share))


def generated(bars: int, seed: int) -> pl.DataFrame:
    """Return H1 bars on a grid of quotes with jumps, holes and two stretches that stand still."""
    rng = np.random.default_rng(seed)
    moves = rng.standard_t(3, bars) * 4e-4 + (rng.random(bars) < 0.003) * 0.01
    for begin in (bars // 3, bars * 3 // 4):
        moves[begin : begin + 90] = 0.0
    close = np.round(1.1 * np.exp(np.cumsum(moves)), 5)
    open_ = np.concatenate([close[:1], close[:-1]])
    wicks = np.round(np.abs(rng.normal(0, 3e-4, (2, bars))) * (moves != 0), 5)
    table = pl.DataFrame(
        {
            "ts_utc": pl.Series(next_opens(week_opens()[1500:1501], Timeframe.H1, bars)[0]).dt.replace_time_zone("UTC"),
            "open": open_,
            "high": np.maximum(open_, close) + wicks[0],
            "low": np.minimum(open_, close) - wicks[1],
            "close": close,
        }
    )
    return with_volume_and_ask(with_holes(table, 0.02, seed), seed)


def market(candles: pl.DataFrame, others: Sequence[pl.DataFrame]) -> tuple[pl.DataFrame, FeatureInputs]:
    return candles, FeatureInputs(symbol="EURUSD", pairs=dict(zip(PAIRS, others, strict=True)))


def check(
    chosen: Recipe, frame: Timeframe, candles: pl.DataFrame, inputs: FeatureInputs, starts: list[datetime]
) -> None:
    full = build_features(candles, frame, chosen, inputs=inputs)
    for start in starts:
        part = build_features(candles, frame, chosen, inputs=inputs, since_utc=start)
        wanted = full.filter(pl.col("ts_utc") >= start)
        assert part["ts_utc"].equals(wanted["ts_utc"])
        assert part.columns == full.columns
        for name in full.columns[1:]:
            values = full[name].to_numpy()
            size = np.max(np.abs(values), initial=0.0, where=np.isfinite(values))
            found, expected = part[name].to_numpy(), wanted[name].to_numpy()
            np.testing.assert_allclose(found, expected, rtol=TINY, atol=TINY * size, err_msg=f"{name} since {start}")


@pytest.fixture(scope="module")
def hours() -> list[tuple[pl.DataFrame, FeatureInputs, list[datetime]]]:
    """Two H1 markets and days to begin on: anywhere, the week's opening, inside and after a standstill."""
    made, beside = generated(1800, seed=1), [generated(1800, seed=2), generated(1800, seed=3)]
    times = made["ts_utc"]
    gap = made.filter(pl.col("ts_utc").diff() > timedelta(days=1))["ts_utc"][-1]
    still = made.with_row_index().filter(pl.col("close").diff() == 0)["index"][-1]
    real = SampleSource().fetch("EURUSD", Timeframe.H1, since_utc=None, until_utc=None).tail(1700)
    real = with_volume_and_ask(real.filter(pl.Series(in_fx_week(real["ts_utc"].to_numpy()))), seed=4)
    others = [with_holes(real, 0.05, seed) for seed in (5, 6)]
    return [
        (*market(made, beside), [gap, times[still - 30], times[still + 2]]),
        (*market(real, others), [utc("2018-01-08T03:30"), utc("2018-02-01T00:00")]),
    ]


@pytest.mark.parametrize("name", ALL)
def test_the_newest_rows_are_those_of_a_full_build(
    name: str, hours: list[tuple[pl.DataFrame, FeatureInputs, list[datetime]]]
) -> None:
    for candles, inputs, starts in hours:
        check(recipe(name, ["H1", "H4", "D1"]), Timeframe.H1, candles, inputs, starts)


SHORT: dict[str, dict[str, object]] = {  # fades within a few of these bars, so that little history is read
    "ema": {"bars": 3},
    "t3": {"bars": 2},
    "rsi": {"bars": 3},
    "macd": {"fast": 2, "slow": 3, "signal": 2},
    "adx": {"bars": 2},
    "adxr": {"bars": 3},
    "trix": {"bars": 2},
    "keltner": {"bars": 3, "atr_bars": 2, "multiple": 0.5},
    "mass_index": {"ema": 2, "bars": 3},
    "stochastic_rsi": {"bars": 2, "window": 3},
    "true_strength": {"long": 3, "short": 2},
    "ewma_volatility": {"decay": 0.5},
    "chaikin_volatility": {"bars": 2, "change": 1},
    "force_index": {"bars": 2},
    "fisher": {"bars": 2},
    "cross_beta": {"bars": 8},
}


@pytest.mark.parametrize("name", SHORT)
def test_a_short_memory_is_long_enough_wherever_it_begins(
    name: str, hours: list[tuple[pl.DataFrame, FeatureInputs, list[datetime]]]
) -> None:
    candles, inputs, _ = hours[0]
    starts = candles["ts_utc"].gather_every(131, offset=700).to_list()
    check(recipe(name, ["H1", "H4"], SHORT[name]), Timeframe.H1, candles, inputs, starts)


@pytest.mark.parametrize("name", [name for name, one in ALL.items() if one.needs & {"volume", "ask", "pairs"}])
def test_a_long_hole_in_volume_ask_or_another_pair_ends_all_memory_of_what_came_before(name: str) -> None:
    """Longer than any memory, and the bars themselves go on: what came before must not come back."""
    rows = pl.int_range(pl.len())
    hole = rows.is_between(300, 1500)
    candles = generated(1800, seed=12)
    lacking = [column for column in candles.columns if column == "volume" or column.startswith("ask_")]
    candles = candles.with_columns(pl.when(hole).then(None).otherwise(pl.col(c)).alias(c) for c in lacking)
    others = [generated(1800, seed).filter(~hole) for seed in (13, 14)]
    starts = [candles["ts_utc"][row] for row in (1495, 1502, 1520, 1560)]
    check(recipe(name, ["H1"]), Timeframe.H1, *market(candles, others), starts)


def test_a_memory_longer_than_history_reads_all_of_it() -> None:
    """The clock knows no bars before 1990, where 10,000 daily bars before these would lie."""
    candles = generated(400, seed=7)
    check(recipe("ema", ["H1", "D1"], {"bars": 5000}), Timeframe.H1, candles, FeatureInputs(), [candles["ts_utc"][350]])


@pytest.mark.parametrize("days", [-1, 0, 365])
def test_a_day_before_history_builds_all_and_one_after_it_nothing(days: int) -> None:
    candles = generated(300, seed=8)
    chosen = recipe("rsi", ["H1", "H4"])
    built = build_features(candles, Timeframe.H1, chosen, since_utc=candles["ts_utc"][0] + timedelta(days=days))
    full = build_features(candles, Timeframe.H1, chosen)
    assert_frame_equal(built, full if days <= 0 else full.clear())


@pytest.fixture(scope="module")
def minutes() -> tuple[pl.DataFrame, FeatureInputs]:
    if not REAL.exists():
        pytest.skip("real candles are not beside the project")

    def read(symbol: str) -> pl.DataFrame:
        span = pl.col("ts_utc").is_between(utc("2018-11-05"), utc("2019-01-20"))
        return pl.scan_parquet(REAL / f"{symbol}_M1.parquet").filter(span).collect()

    return market(with_volume_and_ask(read("EURUSD"), seed=9), [read(pair) for pair in PAIRS])


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_the_newest_rows_of_real_minutes_are_those_of_a_full_build(
    name: str, minutes: tuple[pl.DataFrame, FeatureInputs]
) -> None:
    starts = [
        utc("2018-11-07T13:17"),
        utc("2018-12-09T22:00"),  # the week's opening
        utc("2018-12-10T08:00"),
        utc("2018-12-24T20:01"),  # among bars that stand still
        utc("2018-12-25T22:00"),  # right after the hole
        utc("2018-12-25T23:30"),
        utc("2019-01-01T22:05"),
        utc("2019-01-02T22:40"),  # the crash of that night
        utc("2019-01-18T21:03"),
    ]
    check(recipe(name, ["M1", "M5", "M15", "M30", "H1", "H4", "D1"]), Timeframe.M1, *minutes, starts)
