"""The leak finder: honest builds pass, every planted leak is caught and named, subtle ones too."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.domain.bars import empty_bars, require_bars
from forexgpt_core.domain.clock import Timeframe, bar_close, bar_open, next_opens, week_opens
from forexgpt_core.errors import ForexGPTError
from forexgpt_core.features.build import build_features
from forexgpt_core.features.inputs import FeatureInputs, disturbed_bars
from forexgpt_core.features.leaks import LeakFound, find_leaks, recipe_leaks, require_no_leaks
from forexgpt_core.features.recipe import Recipe

H1, H4, D1 = Timeframe.H1, Timeframe.H4, Timeframe.D1
RECIPE = Recipe.usual()
SOME = Recipe.from_document({"timeframes": ["H4"], "indicators": {"ohlc": {}, "rsi": {}}})
seeds = st.integers(0, 2**32 - 1)


def random_walk(bars: int, seed: int, timeframe: Timeframe = H1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    before = week_opens()[rng.integers(900, 1500)] - np.timedelta64(1, "s")
    close = 1.1 * np.exp(np.cumsum(rng.normal(0, 1e-3, bars)))
    open_ = np.concatenate([[1.1], close[:-1]])
    wicks = np.exp(np.abs(rng.normal(0, 5e-4, (2, bars))))
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(next_opens(np.array([before]), timeframe, bars)[0]).dt.replace_time_zone("UTC"),
            "open": open_,
            "high": np.maximum(open_, close) * wicks[0],
            "low": np.minimum(open_, close) / wicks[1],
            "close": close,
            "volume": np.full(bars, np.nan),
        }
    ).with_columns(pl.col("volume").fill_nan(None))


def honest(candles: pl.DataFrame) -> pl.DataFrame:
    return build_features(candles, H1, RECIPE)


def joined_by_open(candles: pl.DataFrame, higher: Timeframe) -> pl.Series:
    """Return the close of the higher bar each row lies in, as a join on the higher bar's OPEN gives it."""
    opens = pl.Series(bar_open(candles["ts_utc"].to_numpy(), higher))
    return candles.select(pl.col("close").last().over(opens)).to_series()


LEAKS: dict[str, Callable[[pl.DataFrame], pl.Series]] = {
    "future_return": lambda c: c.select((pl.col("close").shift(-1) / pl.col("close")).log()).to_series(),
    "return_in_a_day": lambda c: c.select((pl.col("close").shift(-24) / pl.col("close")).log()).to_series(),
    "full_sample_z_score": lambda c: (c["close"] - c["close"].mean()) / c["close"].std(),
    "full_sample_rank": lambda c: c["close"].rank(),
    "centred_mean": lambda c: c["close"].rolling_mean(5, center=True),
    "backfilled_mean": lambda c: c["close"].rolling_mean(14).fill_null(strategy="backward"),
    "h4_joined_by_open": lambda c: joined_by_open(c, H4),
    "d1_joined_by_open": lambda c: joined_by_open(c, D1),
    "w1_joined_by_open": lambda c: joined_by_open(c, Timeframe.W1),
    "flag_of_a_rising_future": lambda c: c["close"].shift(-1) > c["close"],
}


@settings(deadline=None, max_examples=20)
@given(seed=seeds, bars=st.integers(2, 400))
def test_our_own_features_are_honest(seed: int, bars: int) -> None:
    assert find_leaks(honest, random_walk(bars, seed), seed=seed) == ()


def test_the_default_recipe_is_honest_after_its_daily_warm_up() -> None:
    candles = random_walk(2500, seed=1)
    assert find_leaks(honest, candles, cuts=5) == ()


@pytest.mark.parametrize("name", LEAKS)
@settings(deadline=None, max_examples=15)
@given(seed=seeds, bars=st.integers(200, 600))
def test_a_planted_leak_is_caught_alone_among_honest_columns(name: str, seed: int, bars: int) -> None:
    def build(candles: pl.DataFrame) -> pl.DataFrame:
        return build_features(candles, H1, SOME).with_columns(LEAKS[name](candles).alias(name))

    leaks = find_leaks(build, random_walk(bars, seed), seed=seed)
    assert {leak.column for leak in leaks} == {name}
    assert "perturbation" in {leak.how for leak in leaks} or name == "flag_of_a_rising_future"


@settings(deadline=None, max_examples=10)
@given(seed=seeds, frame=st.sampled_from([Timeframe.M15, Timeframe.M30, H4]))
def test_a_join_by_open_is_caught_on_every_base(seed: int, frame: Timeframe) -> None:
    def build(candles: pl.DataFrame) -> pl.DataFrame:
        columns = {str(t): joined_by_open(candles, t) for t in Timeframe if t.seconds > frame.seconds}
        return candles.select("ts_utc").with_columns(column.alias(name) for name, column in columns.items())

    leaks = find_leaks(build, random_walk(300, seed, frame), seed=seed, cuts=1)
    assert {leak.column for leak in leaks} == {t for t in Timeframe if t.seconds > frame.seconds}


def at_the_end_of(candles: pl.DataFrame, higher: Timeframe) -> pl.Series:
    """Return the next bar's close in the last row of each higher bar, and the own close elsewhere."""
    bar = pl.Series(bar_open(candles["ts_utc"].to_numpy(), higher))
    last = bar.ne(bar.shift(-1)).fill_null(False)
    return candles.select(pl.when(last).then(pl.col("close").shift(-1)).otherwise("close")).to_series()


@pytest.mark.parametrize("higher", [H4, D1, Timeframe.W1])
@settings(deadline=None, max_examples=10)
@given(seed=seeds, holes=st.booleans())
def test_a_leak_in_nothing_but_the_last_row_of_higher_bars_is_caught(higher: Timeframe, seed: int, holes: bool) -> None:
    candles = random_walk(2000, seed, Timeframe.M15)
    if holes:
        candles = candles.filter(pl.int_range(pl.len()) % 7 != seed % 7)
    leaks = find_leaks(lambda c: c.select("ts_utc", leak=at_the_end_of(c, higher)), candles, seed=seed)
    assert {leak.column for leak in leaks} == {"leak"}


@pytest.mark.parametrize("base", [Timeframe.M1, H1])
def test_higher_bars_joined_one_row_early_are_caught_on_every_timeframe(
    base: Timeframe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day's bar seen one minute before it closes is wrong in one of 1,440 rows."""
    from forexgpt_core.features import build

    honest_rows = build.first_rows
    monkeypatch.setattr(build, "first_rows", lambda higher, own: np.maximum(honest_rows(higher, own) - 1, 0))
    frames = [t for t in (Timeframe.M30, H4, D1, Timeframe.W1) if t.seconds > base.seconds]
    recipe = Recipe.from_document({"timeframes": list(frames), "indicators": {"true_range": {}}})
    leaks = recipe_leaks(build_features, random_walk(20_000, 3, base), base, recipe, FeatureInputs())
    assert {leak.column for leak in leaks} == set(recipe.columns)


@pytest.mark.parametrize("ratio", [("close", "open"), ("high", "close"), ("ask_close", "close"), ("volume", "close")])
def test_a_leak_in_what_a_common_factor_would_leave_alone_is_caught_by_change(ratio: tuple[str, str]) -> None:
    candles = random_walk(300, 8)
    rng = np.random.default_rng(9)
    candles = candles.with_columns(
        ask_close=pl.col("close") * pl.Series(1 + 1e-4 * rng.random(300)), volume=pl.Series(rng.random(300) + 1.0)
    )
    leaks = find_leaks(lambda c: c.select("ts_utc", leak=(pl.col(ratio[0]) / pl.col(ratio[1])).shift(-1)), candles)
    assert {leak.how for leak in leaks} == {"truncation", "perturbation"}


@settings(deadline=None, max_examples=30)
@given(seed=seeds, frame=st.sampled_from([Timeframe.M1, Timeframe.M15, H1, D1]), bars=st.integers(20, 200))
def test_cuts_lie_inside_a_bar_of_the_next_longer_timeframe_and_where_a_day_and_a_week_end(
    seed: int, frame: Timeframe, bars: int
) -> None:
    candles, heights = random_walk(bars, seed, frame), set()
    find_leaks(lambda c: heights.add(c.height) or c.select("ts_utc"), candles, seed=seed)
    ts = candles["ts_utc"].to_numpy()
    opens = ts[sorted(heights - {bars})]
    longer = next(t for t in Timeframe if t.seconds > frame.seconds)
    assert 1 <= opens.size <= 8
    assert (np.isin(opens, bar_open(opens, longer), invert=True)).sum() >= 1
    for higher in (t for t in (D1, Timeframe.W1) if t.seconds > frame.seconds):
        firsts = np.flatnonzero(np.diff(bar_open(ts, higher)).astype(np.int64)) + 1
        assert not firsts.size or np.isin(ts[firsts], opens).any()
        assert not firsts.size or np.isin(ts[firsts - 1], opens).any()


def test_both_ways_and_the_first_row_are_reported_in_column_order() -> None:
    candles = random_walk(300, seed=2)

    def build(part: pl.DataFrame) -> pl.DataFrame:
        return part.select("ts_utc", z=pl.col("close") - pl.col("close").mean(), a=pl.col("close").shift(-1))

    leaks = find_leaks(build, candles)
    assert [(leak.column, leak.how) for leak in leaks] == [
        ("z", "perturbation"),
        ("z", "truncation"),
        ("a", "perturbation"),
        ("a", "truncation"),
    ]
    assert leaks[0].first_ts_utc == candles["ts_utc"][0]
    assert leaks[0].line.startswith("z reads the future: its row of ")
    assert "\n" not in leaks[0].line


def test_rows_or_columns_that_come_and_go_with_the_future_are_leaks() -> None:
    candles = random_walk(300, seed=3)
    last_dropped = find_leaks(lambda c: c.select("ts_utc", "close").head(c.height - 1), candles)
    assert {leak.column for leak in last_dropped} == {"ts_utc"}
    fewer = find_leaks(lambda c: c.select("ts_utc", "close", *(["open"] if c.height == 300 else [])), candles)
    assert {(leak.column, leak.how) for leak in fewer} == {("open", "truncation")}
    warm_up_dropped = find_leaks(lambda c: c.select("ts_utc", r=pl.col("close").pct_change(9)).drop_nulls(), candles)
    assert warm_up_dropped == (), "dropping one's own warm-up reads nothing later"


def test_text_and_nulls_compare_as_equal_to_themselves() -> None:
    candles = random_walk(100, seed=4)
    build = lambda c: c.select("ts_utc", "volume", up=pl.when(pl.col("close") > 1.1).then(pl.lit("up")))  # noqa: E731
    assert find_leaks(build, candles) == ()


@pytest.mark.parametrize("bars", [0, 1, 2, 3])
def test_a_short_history_has_no_leak_to_show(bars: int) -> None:
    candles = random_walk(4, seed=5).head(bars) if bars else empty_bars()
    assert find_leaks(honest, candles) == ()


def test_the_same_seed_finds_the_same_and_perturbed_bars_stay_lawful() -> None:
    candles = random_walk(200, seed=6)
    seen: list[pl.DataFrame] = []

    def build(part: pl.DataFrame) -> pl.DataFrame:
        seen.append(require_bars(part))
        return part.select("ts_utc", "close")

    assert find_leaks(build, candles, seed=9) == find_leaks(build, candles, seed=9)
    half = len(seen) // 2
    assert all(a.equals(b) for a, b in zip(seen[:half], seen[half:]))
    assert bar_close(candles["ts_utc"].to_numpy(), H1).size == 200


def test_changed_bars_stay_lawful_where_bars_have_no_wick() -> None:
    flat = random_walk(500, 11).with_columns(
        high=pl.max_horizontal("open", "close"), low=pl.min_horizontal("open", "close")
    )
    changed = require_bars(disturbed_bars(flat, 100, np.random.default_rng(1), 0.02))
    assert changed.head(100).equals(flat.head(100))
    assert changed.filter(pl.col("close") == flat["close"]).height == 100


def test_requiring_no_leaks_names_the_guilty_columns() -> None:
    candles = random_walk(300, seed=7)
    require_no_leaks(honest, candles)
    with pytest.raises(LeakFound, match=r"1 feature column\(s\) read the future: canary;") as found:
        require_no_leaks(lambda c: honest(c).with_columns(LEAKS["future_return"](c).alias("canary")), candles)
    assert isinstance(found.value, ForexGPTError)
    assert found.value.leaks[0].column == "canary"
    assert "\n" not in str(found.value)
