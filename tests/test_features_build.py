"""The laws of feature rows: no look-ahead, higher bars only once closed, the formulas, and no price level."""

from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from polars.testing import assert_frame_equal

from forexgpt_core.candles.resampling import resample
from forexgpt_core.domain.bars import empty_bars
from forexgpt_core.domain.clock import Timeframe, bar_close, bar_open, in_fx_week, next_opens, week_opens
from forexgpt_core.errors import BadInput
from forexgpt_core.features.build import build_features
from forexgpt_core.features.calendar import calendar
from forexgpt_core.features.multi_timeframe import newest_closed
from forexgpt_core.features.recipe import Recipe

Floats = NDArray[np.float64]

SHARED = Path(__file__).parents[1].parent / "shared" / "data" / "fx" / "EURUSD_H1.parquet"
H1, H4, D1 = Timeframe.H1, Timeframe.H4, Timeframe.D1
RECIPE = Recipe.usual()
SHORT = Recipe.from_document(  # warms up on D1 within a few hundred hourly bars
    {
        "indicators": {
            "calendar": {},
            "ohlc": {},
            "relative_range": {"bars": 3},
            "volatility": {"bars": 3},
            "rsi": {"bars": 3},
            "atr": {"bars": 3},
            "macd": {"fast": 2, "slow": 4, "signal": 2},
            "bollinger": {"bars": 3},
            "adx": {"bars": 2},
        }
    }
)


def random_walk(
    bars: int, seed: int, *, timeframe: Timeframe = H1, holes: float = 0.0, level: float = 1.1
) -> pl.DataFrame:
    """Return lawful bars from a random Sunday on; a share of them is missing."""
    rng = np.random.default_rng(seed)
    before = week_opens()[rng.integers(900, 1500)] - np.timedelta64(1, "s")
    opens = next_opens(np.array([before]), timeframe, bars)[0]
    close = level * np.exp(np.cumsum(rng.standard_t(4, bars) * 1e-3))
    open_ = np.concatenate([[level], close[:-1]]) * np.exp(rng.normal(0, 1e-4, bars))
    wicks = np.exp(np.abs(rng.normal(0, 5e-4, (2, bars))))
    table = pl.DataFrame(
        {
            "ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"),
            "open": open_,
            "high": np.maximum(open_, close) * wicks[0],
            "low": np.minimum(open_, close) / wicks[1],
            "close": close,
            "volume": rng.integers(1, 1000, bars).astype(np.float64),
        }
    )
    return table.filter(pl.Series(rng.random(bars) >= holes))


def values(features: pl.DataFrame, name: str) -> Floats:
    return features[name].to_numpy()


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    cut=st.floats(0, 1),
    frame=st.sampled_from([Timeframe.M15, Timeframe.M30, H1]),
    holes=st.sampled_from([0.0, 0.1, 0.6]),
)
def test_a_feature_row_never_changes_when_later_bars_arrive(
    seed: int, cut: float, frame: Timeframe, holes: float
) -> None:
    candles = random_walk(400, seed, timeframe=frame, holes=holes)
    seen = round(cut * candles.height)
    with_future = build_features(candles, frame, SHORT).head(seen)
    assert_frame_equal(build_features(candles.head(seen), frame, SHORT), with_future, check_exact=True)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1200, 1500))
def test_nor_does_a_row_of_the_default_recipe(seed: int, cut: int) -> None:
    candles = random_walk(1500, seed)
    with_future = build_features(candles, H1, RECIPE).head(cut)
    assert with_future.select(pl.last().is_finite().any()).item(), "the daily columns have warmed up"
    assert_frame_equal(build_features(candles.head(cut), H1, RECIPE), with_future, check_exact=True)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), frame=st.sampled_from([H4, D1]), holes=st.sampled_from([0.0, 0.3]))
def test_a_row_holds_the_newest_higher_bar_that_has_closed_by_then(seed: int, frame: Timeframe, holes: float) -> None:
    candles = random_walk(150, seed, holes=holes)
    built = values(build_features(candles, H1, SHORT), f"log_return_{frame.lower()}")
    ts = candles["ts_utc"].to_numpy()
    known, close = bar_close(ts, H1), candles["close"].to_numpy()
    higher_close = bar_close(bar_open(ts, frame), frame)
    for row in range(candles.height):  # the law spelled out, bar by bar, without the resampler
        closed = [close[higher_close == moment][-1] for moment in np.unique(higher_close) if moment <= known[row]]
        expected = np.log(closed[-1] / closed[-2]) if len(closed) > 1 else np.nan
        np.testing.assert_allclose(built[row], expected, rtol=1e-12)


@pytest.mark.parametrize("frame", [H4, D1])
def test_a_higher_bar_shows_on_the_bar_that_completes_it_and_not_before(frame: Timeframe) -> None:
    candles = random_walk(480, seed=1)
    column = values(build_features(candles, H1, RECIPE), f"log_return_{frame.lower()}")
    changed = np.flatnonzero(column[1:] != column[:-1]) + 1
    changed = changed[np.isfinite(column[changed])]
    closes = bar_close(candles["ts_utc"].to_numpy()[changed], H1)
    assert changed.size >= 480 // (frame.seconds // 3600) - 2
    assert set(closes) <= set(bar_close(bar_open(candles["ts_utc"].to_numpy(), frame), frame))


def test_before_any_closed_bar_there_is_no_position() -> None:
    base = np.array(["2018-07-01T21:00", "2018-07-02T00:00", "2018-07-02T01:00"], dtype="datetime64[us]")
    higher = np.array(["2018-07-01T21:00"], dtype="datetime64[us]")
    positions = newest_closed(base, H1, higher, H4)
    assert positions.tolist() == [-1, 0, 0], "the H4 bar of 21:00 closes with the H1 bar of 00:00"


def test_columns_on_the_base_are_those_of_talib() -> None:
    candles = random_walk(600, seed=2)
    built = build_features(candles, H1, RECIPE)
    high, low, close = (candles[name].to_numpy() for name in ("high", "low", "close"))
    macd, _, histogram = talib.MACD(close, 12, 26, 9)
    upper, middle, lower = talib.BBANDS(close, 20, 2.0, 2.0)
    expected = {
        "rsi_14_h1": talib.RSI(close, 14),
        "atr_14_h1": talib.ATR(high, low, close, 14) / close,
        "macd_12_26_9_h1": macd / close,
        "macd_histogram_12_26_9_h1": histogram / close,
        "percent_b_20_2_h1": (close - lower) / (upper - lower),
        "bollinger_width_20_2_h1": (upper - lower) / middle,
        "adx_14_h1": talib.ADX(high, low, close, 14),
    }
    for name, column in expected.items():
        np.testing.assert_allclose(values(built, name), column, rtol=1e-9, err_msg=name)


def test_columns_of_a_higher_timeframe_are_those_of_its_own_bars() -> None:
    candles = random_walk(960, seed=3)
    higher = resample(candles, H1, H4)
    recipe = Recipe.from_document({"timeframes": ["H4"], "indicators": dict.fromkeys(["ohlc", "rsi", "adx"])})
    own, seen = build_features(higher, H4, recipe), build_features(candles, H1, recipe)
    last = seen.filter(pl.col("ts_utc") + pl.duration(hours=1) == higher["ts_utc"][-1] + pl.duration(hours=4))
    assert_frame_equal(last.drop("ts_utc"), own.tail(1).drop("ts_utc"), check_exact=True)


def test_wilder_and_bollinger_by_hand() -> None:
    candles = random_walk(300, seed=4)
    built, close = build_features(candles, H1, RECIPE), candles["close"].to_numpy()
    moves = np.diff(close)
    gain, loss = np.maximum(moves, 0)[:14].mean(), np.maximum(-moves, 0)[:14].mean()
    for move in moves[14:]:
        gain, loss = (13 * gain + max(move, 0)) / 14, (13 * loss + max(-move, 0)) / 14
    assert values(built, "rsi_14_h1")[-1] == pytest.approx(100 * gain / (gain + loss), rel=1e-9)
    middle, deviation = close[-20:].mean(), close[-20:].std()
    assert values(built, "percent_b_20_2_h1")[-1] == pytest.approx(
        (close[-1] - middle + 2 * deviation) / (4 * deviation), rel=1e-6
    )
    assert values(built, "bollinger_width_20_2_h1")[-1] == pytest.approx(4 * deviation / middle, rel=1e-6)


def test_the_shape_of_a_bar() -> None:
    candles = random_walk(200, seed=5)
    built = build_features(candles, H1, RECIPE)
    parts = [values(built, f"{name}_h1") for name in ("body", "upper_wick", "lower_wick")]
    np.testing.assert_allclose(np.abs(parts[0]) + parts[1] + parts[2], 1.0)
    close, open_ = candles["close"].to_numpy(), candles["open"].to_numpy()
    np.testing.assert_allclose(values(built, "log_return_h1")[1:], np.diff(np.log(close)), atol=1e-15)
    np.testing.assert_allclose(values(built, "log_open_h1")[1:], np.log(open_[1:] / close[:-1]), atol=1e-15)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), power=st.integers(-3, 10))
def test_no_column_knows_the_price_level(seed: int, power: int) -> None:
    candles = random_walk(500, seed)
    moved = candles.with_columns(pl.col("open", "high", "low", "close") * 2.0**power)  # exact in binary
    assert_frame_equal(build_features(moved, H1, SHORT), build_features(candles, H1, SHORT), rel_tol=1e-5, abs_tol=1e-9)


@settings(deadline=None)
@given(second=st.integers(0, 20 * 365 * 86400))
def test_the_calendar_follows_new_york_through_its_clock_changes(second: int) -> None:
    moment = week_opens()[1000] + np.timedelta64(60 * (second // 60), "s")
    local = (
        moment.astype("datetime64[us]").item().replace(tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo("America/New_York"))
    )
    if not in_fx_week(np.array([moment]))[0]:
        return  # no bar opens on the weekend
    columns = calendar(np.array([moment]))
    angle = 2 * np.pi * (local.hour + local.minute / 60) / 24
    assert columns["hour_sin"][0] == pytest.approx(np.sin(angle), abs=1e-9)
    assert columns["hour_cos"][0] == pytest.approx(np.cos(angle), abs=1e-9)
    trading_day = (local.weekday() + (local.hour >= 17)) % 7  # 0 on Monday, which opens on Sunday at 17:00
    assert columns["weekday_sin"][0] == pytest.approx(np.sin(2 * np.pi * trading_day / 7), abs=1e-9)
    assert columns["weekday_cos"][0] == pytest.approx(np.cos(2 * np.pi * trading_day / 7), abs=1e-9)


@pytest.mark.parametrize("bars", [0, 1, 2, 30])
def test_few_bars_give_as_many_rows_and_no_nulls(bars: int) -> None:
    candles = random_walk(30, seed=6).head(bars) if bars else empty_bars()
    built = build_features(candles, H1, RECIPE)
    assert built.height == bars
    assert built.columns == build_features(random_walk(900, seed=6), H1, RECIPE).columns
    assert set(built.dtypes[1:]) == {pl.Float64()}
    assert sum(built.null_count().row(0)) == 0


def test_bars_that_stand_still_still_give_finite_columns() -> None:
    still = random_walk(1200, seed=7).with_columns(pl.lit(1.25).alias(c) for c in ("open", "high", "low", "close"))
    last = build_features(still, H1, RECIPE).tail(1)
    assert last.select(pl.all_horizontal(pl.exclude("ts_utc").is_finite())).item()
    assert last["percent_b_20_2_h1"][0] == 0.5
    assert last["volatility_24_h1"][0] == 0.0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c.with_columns(high=pl.col("low") / 2), "impossible bars"),
        (lambda c: c.reverse(), "not sorted"),
        (lambda c: c.with_columns(close=pl.lit(None, dtype=pl.Float64)), "impossible bars"),
        (lambda c: c.drop("close"), "lack the column"),
    ],
)
def test_unlawful_candles_are_refused(spoil: Callable[[pl.DataFrame], pl.DataFrame], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        build_features(spoil(random_walk(50, seed=8)), H1, RECIPE)


def test_a_timeframe_below_the_base_is_refused_with_one_line() -> None:
    with pytest.raises(BadInput, match=r"H1 is below the base timeframe H4 .* \[H4, D1\]") as refusal:
        build_features(random_walk(50, seed=9, timeframe=H4), H4, RECIPE)
    assert "\n" not in str(refusal.value)


def test_names_carry_window_and_timeframe() -> None:
    wanted = {"rsi": {"bars": 7}, "atr": {}, "volatility": {}, "bollinger": {}, "ewma_volatility": {}}
    recipe = Recipe.from_document({"timeframes": ["H4"], "indicators": wanted})
    built = build_features(random_walk(60, seed=10), H1, recipe)
    assert built.columns == [
        "ts_utc",
        "atr_14_h4",
        "volatility_24_h4",
        "ewma_volatility_0.94_h4",
        "percent_b_20_2_h4",
        "bollinger_width_20_2_h4",
        "rsi_7_h4",
    ]
    assert built.columns[1:] == list(recipe.columns)


def test_real_candles_are_covered_but_for_the_warm_up() -> None:
    if not SHARED.exists():
        pytest.skip(f"real candles are not at {SHARED.name} beside the project")
    candles = pl.read_parquet(SHARED)
    built = build_features(candles, H1, RECIPE)
    finite = built.select(pl.all_horizontal(pl.exclude("ts_utc").is_finite())).to_series()
    assert finite.to_numpy()[900:].all()
