"""Windows and splits: returns and label times are right, and no label reaches into a later part."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.domain.clock import Timeframe, bar_close, next_opens, slot, week_opens
from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.features.leaks import find_leaks
from forexgpt_core.features.splits import SplitShares, deployment_parts, evidence_parts, purge, purge_around
from forexgpt_core.features.windows import MarketArrays, Windows, market_arrays, usable

H1 = Timeframe.H1
SHARES = SplitShares()


def arrays_of(
    bars: int, horizons: tuple[int, ...] = (1, 4, 24), *, warm_up: int = 10, seed: int = 0, holes: float = 0.0
) -> MarketArrays:
    rng = np.random.default_rng(seed)
    before = week_opens()[1400] - np.timedelta64(1, "s")
    kept = rng.random(bars) >= holes
    opens = next_opens(np.array([before]), H1, bars)[0][kept]
    close = 1.1 * np.exp(np.cumsum(rng.normal(0, 1e-3, opens.size)))
    ts = pl.Series("ts_utc", opens).dt.replace_time_zone("UTC")
    feature = rng.normal(size=opens.size)
    feature[:warm_up] = np.nan
    candles = pl.DataFrame({"ts_utc": ts, "close": close})
    return market_arrays("EURUSD", H1, candles, pl.DataFrame({"ts_utc": ts, "a": feature, "b": close}), horizons)


@settings(deadline=None)
@given(bars=st.integers(1, 80), horizons=st.sets(st.integers(1, 30), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_returns_and_label_times_follow_the_definition(bars: int, horizons: set[int], seed: int) -> None:
    arrays = arrays_of(bars, tuple(sorted(horizons)), seed=seed, warm_up=min(10, bars))
    for row in range(bars):
        for column, h in enumerate(arrays.horizons_bars):
            if row + h < bars:
                expected = np.log(arrays.close[row + h] / arrays.close[row])
                assert arrays.returns[row, column] == pytest.approx(expected, rel=1e-12)
            else:
                assert np.isnan(arrays.returns[row, column])
        last = row + max(horizons)
        if last < bars:
            assert arrays.label_end_utc[row] == bar_close(arrays.ts_utc[last], H1)
        else:
            assert np.isnat(arrays.label_end_utc[row])
    assert arrays.known_utc[0] - arrays.ts_utc[0] == np.timedelta64(1, "h")


def test_usable_rows_have_warm_features_and_matured_labels_where_asked() -> None:
    arrays = arrays_of(100, (1, 5), warm_up=12)
    assert usable(arrays, matured=False).rows.tolist() == list(range(12, 100))
    matured = usable(arrays, matured=True)
    assert matured.rows.tolist() == list(range(12, 95))
    assert np.isfinite(matured.returns).all()
    assert matured.features.shape == (83, 2)
    np.testing.assert_array_equal(matured.origin_utc, arrays.ts_utc[12:95])
    assert matured.take(matured.rows < 20).rows.tolist() == list(range(12, 20))


def test_windows_share_the_arrays_and_copy_nothing() -> None:
    arrays = arrays_of(1000)
    parts = evidence_parts(usable(arrays, matured=True), SHARES)
    assert parts.train.arrays is parts.test.arrays is arrays


@settings(deadline=None)
@given(
    bars=st.integers(700, 1500),
    longest=st.integers(1, 60),
    seed=st.integers(0, 2**32 - 1),
    holes=st.sampled_from([0.0, 0.2]),
    train=st.floats(0.5, 0.7),
)
def test_no_label_of_a_part_reaches_past_the_first_origin_of_the_next(
    bars: int, longest: int, seed: int, holes: float, train: float
) -> None:
    arrays = arrays_of(bars, tuple(sorted({1, longest})), seed=seed, holes=holes)
    windows = usable(arrays, matured=True)
    shares = SplitShares(train=train, calibration=0.2)
    try:
        evidence, deployed = evidence_parts(windows, shares), deployment_parts(windows, calibration=0.2)
    except NotReady:
        return  # the purge left too few rows, which is refused and not hidden
    for parts in (
        [evidence.train, evidence.valid, evidence.calibration, evidence.test],
        [deployed.train, deployed.valid, deployed.calibration],
    ):
        for earlier, later in pairwise(parts):
            assert earlier.arrays.label_end_utc[earlier.rows].max() <= arrays.known_utc[later.rows[0]]
            assert earlier.rows[-1] < later.rows[0]
        assert parts[-1].rows[-1] == windows.rows[-1], "the newest rows are used"
    assert len(deployed.test) == 0
    assert deployed.train.rows.size > evidence.train.rows.size


def test_the_purge_drops_exactly_the_rows_whose_labels_are_still_open() -> None:
    arrays = arrays_of(400, (1, 24))
    windows = usable(arrays, matured=True)
    first, second = windows.take(np.arange(0, 100)), windows.take(np.arange(100, 200))
    kept = purge(first, second)
    assert len(kept) == 100 - 23, "the row 24 bars before the first later one ends when that one is known"
    assert kept.rows.tolist() == first.rows[:77].tolist()
    assert purge(first, second.take(np.empty(0, dtype=np.int64))) is first


def test_a_row_without_a_matured_label_never_stays_before_a_later_part() -> None:
    arrays = arrays_of(60, (5,))
    windows = Windows(arrays=arrays, rows=np.arange(20, 60))
    assert purge(windows.take(windows.rows < 59), windows.take(windows.rows == 59)).rows.max() == 54


@settings(deadline=None, max_examples=40)
@given(
    longest=st.integers(1, 60),
    embargo=st.integers(0, 40),
    first=st.integers(150, 450),
    seed=st.integers(0, 2**32 - 1),
    holes=st.sampled_from([0.0, 0.3]),
)
def test_an_embargo_keeps_so_many_market_bars_between_a_label_and_the_next_part(
    longest: int, embargo: int, first: int, seed: int, holes: float
) -> None:
    arrays = arrays_of(700, (longest,), seed=seed, holes=holes)
    windows = usable(arrays, matured=True)
    cut = min(first, len(windows) - 1)
    earlier, later = windows.take(np.arange(cut)), windows.take(np.arange(cut, len(windows)))
    kept = purge(earlier, later, embargo_bars=embargo)
    numbers = slot(arrays.ts_utc, H1)
    gap = numbers[later.rows[0]] - numbers[earlier.rows + longest]  # bars from the label's last bar to the origin
    np.testing.assert_array_equal(kept.rows, earlier.rows[gap >= embargo])
    assert purge(earlier, later).rows.tolist() == purge(earlier, later, embargo_bars=0).rows.tolist()


@pytest.mark.parametrize("embargo", [1_000, 320_000, 10**6, 10**30])
def test_an_embargo_longer_than_the_history_or_the_calendar_leaves_nothing(embargo: int) -> None:
    windows = usable(arrays_of(700, (24,)), matured=True)
    earlier, later = windows.take(np.arange(300)), windows.take(np.arange(300, 500))
    assert len(purge(earlier, later, embargo_bars=embargo)) == 0
    assert len(purge_around(windows, later, embargo_bars=embargo)) == 0
    with pytest.raises(NotReady, match=f"leaves 0 for train.* or shorten the embargo of {embargo} bars"):
        deployment_parts(windows, embargo_bars=embargo)


def test_an_embargo_in_bars_skips_the_weekend() -> None:
    arrays = arrays_of(400, (1,))
    sunday = int(np.flatnonzero(np.diff(arrays.ts_utc) > np.timedelta64(1, "h"))[0]) + 1
    windows = usable(arrays, matured=True)
    earlier, later = windows.take(windows.rows < sunday), windows.take(windows.rows >= sunday)
    kept = purge(earlier, later, embargo_bars=10)
    assert kept.rows[-1] == sunday - 11, "ten bars of Friday, though the weekend lasts 48 hours by itself"


@settings(deadline=None, max_examples=40)
@given(
    horizon=st.integers(2, 40),
    hole=st.integers(0, 200),
    after=st.integers(0, 30),
    seed=st.integers(0, 2**32 - 1),
)
def test_purging_by_hours_leaks_across_a_weekend_or_a_hole_and_purging_by_label_time_does_not(
    horizon: int, hole: int, after: int, seed: int
) -> None:
    arrays = with_hole(arrays_of(500, (horizon,), seed=seed), first=150, bars=hole)
    gaps = np.flatnonzero(np.diff(arrays.ts_utc) > horizon * np.timedelta64(1, "h"))
    reopening = int(gaps[gaps > 60][0]) + 1  # the first bar after a weekend, or after the hole where there is one
    cut = reopening + after % (horizon - 1)  # the label of the last bar before the gap ends after this one
    windows = usable(arrays, matured=True)
    earlier, later = windows.take(windows.rows < cut), windows.take(windows.rows >= cut)
    first_known = arrays.known_utc[later.rows[0]]
    by_hours = earlier.take(arrays.known_utc[earlier.rows] + horizon * np.timedelta64(1, "h") <= first_known)
    by_time = purge(earlier, later)
    assert (arrays.label_end_utc[by_hours.rows] > first_known).any(), "counted in hours, labels reach into the test"
    assert (arrays.label_end_utc[by_time.rows] <= first_known).all()
    assert by_time.rows[-1] == cut - horizon, "and no row more is lost than must be"


def test_purging_by_rows_throws_good_rows_away_where_usable_rows_are_sparse() -> None:
    arrays = arrays_of(400, (24,))
    windows = usable(arrays, matured=True)
    sparse = windows.take((windows.rows < 300) & (windows.rows % 3 == 0))  # an indicator undefined on flat bars
    later = windows.take(windows.rows >= 300)
    kept = purge(sparse, later)
    assert len(sparse) - len(kept) == 7, "seven rows stand in the last 23 bars"
    assert (arrays.label_end_utc[kept.rows] <= arrays.known_utc[300]).all()


def with_hole(arrays: MarketArrays, *, first: int, bars: int) -> MarketArrays:
    kept = np.r_[0:first, min(first + bars, arrays.ts_utc.size - 100) : arrays.ts_utc.size]
    ts = pl.Series("ts_utc", arrays.ts_utc[kept]).dt.replace_time_zone("UTC")
    candles = pl.DataFrame({"ts_utc": ts, "close": arrays.close[kept]})
    return market_arrays("EURUSD", H1, candles, candles.select("ts_utc", a="close"), arrays.horizons_bars)


@settings(deadline=None, max_examples=40)
@given(
    longest=st.integers(1, 40),
    embargo=st.integers(0, 30),
    start=st.integers(0, 500),
    size=st.integers(1, 150),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_label_interval_meets_that_of_a_held_out_block_on_either_side(
    longest: int, embargo: int, start: int, size: int, seed: int
) -> None:
    arrays = arrays_of(800, (longest,), seed=seed, holes=0.2)
    windows = usable(arrays, matured=True)
    places = np.arange(start, min(start + size, len(windows)))
    block = windows.take(places)
    rest = windows.take(np.setdiff1d(np.arange(len(windows)), places))
    kept = purge_around(rest, block, embargo_bars=embargo)
    begins, ends = arrays.known_utc[kept.rows], arrays.label_end_utc[kept.rows]
    block_begins, block_ends = arrays.known_utc[block.rows[0]], arrays.label_end_utc[block.rows].max()
    before, after = ends <= block_begins, begins >= block_ends
    assert (before | after).all(), "intervals intersect"
    numbers = slot(arrays.ts_utc, H1)
    first, last = numbers[block.rows[0]], numbers[block.rows.max() + longest]
    assert (first - numbers[kept.rows[before & ~after] + longest] >= embargo).all()
    assert (numbers[kept.rows[after & ~before]] - last >= embargo).all()
    # and nothing more is thrown away than that
    lost = np.setdiff1d(rest.rows, kept.rows)
    near = (first - numbers[lost + longest] < embargo) & (numbers[lost] - last < embargo)
    touching = (arrays.label_end_utc[lost] > block_begins) & (arrays.known_utc[lost] < block_ends)
    assert (near | touching).all()
    assert kept.rows.dtype == np.int64, "indices are row numbers, not flags"


def test_a_block_without_matured_labels_cannot_be_held_out() -> None:
    arrays = arrays_of(60, (5,))
    rows = Windows(arrays=arrays, rows=np.arange(20, 60))
    with pytest.raises(BadInput, match="rows whose labels are known"):
        purge_around(rows, rows.take(rows.rows >= 50))
    assert purge_around(rows, rows.take(rows.rows < 0)) is rows


@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_without_an_embargo_the_parts_are_what_they_always_were(holes: float) -> None:
    windows = usable(arrays_of(2000, (1, 24), holes=holes), matured=True)
    n = len(windows)
    ends = (int(n * 0.6) - int(int(n * 0.6) / 6), int(n * 0.6), int(n * 0.8), n)
    parts = evidence_parts(windows, SplitShares(embargo_bars=0))
    for part, (a, b) in zip((parts.train, parts.valid, parts.calibration), pairwise((0, *ends[:-1]))):
        known = windows.arrays.known_utc[windows.rows[b]]
        rows = windows.rows[a:b]
        np.testing.assert_array_equal(part.rows, rows[windows.arrays.label_end_utc[rows] <= known])
    np.testing.assert_array_equal(parts.test.rows, windows.rows[ends[2] :])


def test_embargoed_parts_lie_apart_and_start_where_they_did() -> None:
    windows = usable(arrays_of(3000, (1, 24)), matured=True)
    plain, apart = (evidence_parts(windows, SplitShares(embargo_bars=bars)) for bars in (0, 48))
    numbers = slot(windows.arrays.ts_utc, H1)
    for name, follower in pairwise(("train", "valid", "calibration", "test")):
        part, later = getattr(apart, name), getattr(apart, follower)
        assert numbers[later.rows[0]] - numbers[part.rows[-1] + 24] == 48
        assert later.rows[0] == getattr(plain, follower).rows[0]
    deployed = deployment_parts(windows, embargo_bars=48)
    assert numbers[deployed.calibration.rows[0]] - numbers[deployed.valid.rows[-1] + 24] == 48
    with pytest.raises(NotReady, match="or shorten the embargo of 900 bars"):
        evidence_parts(windows, SplitShares(embargo_bars=900))


@pytest.mark.parametrize("embargo", [-1, 1.5, True, "3"])
def test_an_unlawful_embargo_is_refused(embargo: object) -> None:
    windows = usable(arrays_of(100), matured=True)
    for ask in (
        lambda: SplitShares(embargo_bars=embargo),
        lambda: purge(windows, windows, embargo_bars=embargo),
        lambda: purge_around(windows, windows, embargo_bars=embargo),
    ):
        with pytest.raises(BadInput, match="embargo_bars must be a whole number of 0 or more"):
            ask()


def test_a_feature_that_is_the_future_return_is_caught_by_perturbing_the_future() -> None:
    arrays = arrays_of(600, (1,))
    ts = pl.Series("ts_utc", arrays.ts_utc).dt.replace_time_zone("UTC")
    candles = pl.DataFrame({"ts_utc": ts, "close": arrays.close})

    def canary(bars: pl.DataFrame) -> pl.DataFrame:
        return bars.select("ts_utc", past=pl.col("close").log().diff(), canary=pl.col("close").log().diff().shift(-1))

    planted = market_arrays("EURUSD", H1, candles, canary(candles), (1,))
    perfect = np.corrcoef(planted.features[1:-1, 1], planted.returns[1:-1, 0])[0, 1]
    assert perfect == pytest.approx(1), "it scores perfectly"
    assert [leak.column for leak in find_leaks(canary, candles)] == ["canary", "canary"]


def test_the_valid_rows_are_the_last_sixth_of_train() -> None:
    windows = usable(arrays_of(2000, (1,)), matured=True)
    parts = evidence_parts(windows, SHARES)
    assert len(parts.valid) / (len(parts.train) + len(parts.valid)) == pytest.approx(1 / 6, abs=0.01)
    assert len(parts.test) / len(windows) == pytest.approx(0.2, abs=0.01)
    assert len(parts.calibration) / len(windows) == pytest.approx(0.2, abs=0.01)


def test_too_short_a_history_is_not_ready_and_says_which_part() -> None:
    windows = usable(arrays_of(200), matured=True)
    for split in (lambda: evidence_parts(windows, SHARES), lambda: deployment_parts(windows)):
        with pytest.raises(NotReady, match=r"EURUSD H1 has 166 usable rows, which leaves \d+ for valid; at least 50"):
            split()
    with pytest.raises(NotReady, match="0 usable rows"):
        evidence_parts(usable(arrays_of(5, warm_up=5), matured=True), SHARES)


@pytest.mark.parametrize(
    "shares", [{"train": 0.0}, {"train": 0.9}, {"train": 0.8, "calibration": 0.2}, {"valid_of_train": 1.0}]
)
def test_unlawful_shares_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="must lie in"):
        SplitShares(**shares)


@pytest.mark.parametrize("horizons", [(), (0, 1), (4, 1), (1, 1)])
def test_unlawful_horizons_are_refused(horizons: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="increasing whole numbers of bars"):
        arrays_of(50, horizons)


def test_features_of_other_bars_are_refused() -> None:
    arrays = arrays_of(50)
    ts = pl.Series("ts_utc", arrays.ts_utc).dt.replace_time_zone("UTC")
    candles = pl.DataFrame({"ts_utc": ts, "close": arrays.close})
    features = pl.DataFrame({"ts_utc": ts, "a": arrays.close}).tail(49)
    with pytest.raises(BadInput, match="other bars than its candles"):
        market_arrays("EURUSD", H1, candles, features, (1,))


def test_a_null_feature_counts_as_missing_and_no_feature_is_legal() -> None:
    arrays = arrays_of(30, (1,))
    ts = pl.Series("ts_utc", arrays.ts_utc).dt.replace_time_zone("UTC")
    candles = pl.DataFrame({"ts_utc": ts, "close": arrays.close})
    holed = pl.DataFrame({"ts_utc": ts, "a": [None, *[1.0] * 29]})
    assert usable(market_arrays("EURUSD", H1, candles, holed, (1,)), matured=False).rows[0] == 1
    bare = market_arrays("EURUSD", H1, candles, candles.select("ts_utc"), (1,))
    assert bare.features.shape == (30, 0)
    assert len(usable(bare, matured=True)) == 29
