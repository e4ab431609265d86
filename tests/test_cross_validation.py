"""Combinatorial purged cross-validation: against skfolio where both agree, by label time where counts mislead."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.domain.clock import Timeframe, next_opens, slot, week_opens
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import BadInput, NotReady, StoreError
from forexgpt_core.evaluation.combinatorial_splits import (
    CombinatorialSettings,
    CombinatorialSplit,
    OverlappingParts,
    UnsortedRows,
    combinatorial_splits,
    group_bounds,
    held_out_groups,
    path_splits,
)
from forexgpt_core.evaluation.cross_validation import cross_validate, data_identity, forecast_split, split_key
from forexgpt_core.evaluation.scores import crps
from forexgpt_core.features.sequences import BarSequence
from forexgpt_core.features.windows import MarketArrays, Windows, market_arrays, usable
from forexgpt_core.models.forecaster import FitRun

H1 = Timeframe.H1
SMALL = CombinatorialSettings(groups=4, test_groups=2)


def market(
    bars: int, horizons: tuple[int, ...], *, seed: int = 0, holes: float = 0.0, sparse: float = 0.0
) -> MarketArrays:
    """Hourly bars over weekends; `holes` of the bars are absent, and at `sparse` of them the feature is not known."""
    rng = np.random.default_rng(seed)
    kept = rng.random(bars) >= holes
    opens = next_opens(np.array([week_opens()[1400] - np.timedelta64(1, "s")]), H1, bars)[0][kept]
    close = 1.1 * np.exp(np.cumsum(1e-3 * rng.standard_t(5, size=opens.size)))
    features = rng.normal(size=(opens.size, 2))
    features[rng.random(opens.size) < sparse, 0] = np.nan
    ts = pl.Series("ts_utc", opens).dt.replace_time_zone("UTC")
    candles = pl.DataFrame({"ts_utc": ts, "close": close})
    return market_arrays(
        "EURUSD", H1, candles, pl.DataFrame({"ts_utc": ts, "a": features[:, 0], "b": features[:, 1]}), horizons
    )


def rows_of(bars: int, horizons: tuple[int, ...] = (1, 4), **more: float) -> Windows:
    return usable(market(bars, horizons, **more), matured=True)  # type: ignore[arg-type]


def run(folder: Path, seed: int = 3, should_stop: Callable[[], bool] = lambda: False) -> FitRun:
    return FitRun(seed=seed, folder=folder, should_stop=should_stop)


class Memory:
    """A store that counts."""

    def __init__(self) -> None:
        self.kept: dict[str, ForecastBatch] = {}
        self.puts = 0

    def get(self, key: str) -> ForecastBatch | None:
        return self.kept.get(key)

    def put(self, key: str, forecasts: ForecastBatch) -> None:
        self.puts += 1
        self.kept[key] = forecasts


# the geometry


@given(data=st.data(), groups=st.integers(2, 9), rows=st.integers(20, 500))
def test_every_path_covers_each_row_once_and_uses_each_held_out_group_once(
    data: st.DataObject, groups: int, rows: int
) -> None:
    k = data.draw(st.integers(1, groups - 1))
    cut = CombinatorialSettings(groups=groups, test_groups=k)
    table, held_out, bounds = path_splits(cut), held_out_groups(cut), group_bounds(rows, groups)
    assert len(held_out) == cut.splits == math.comb(groups, k)
    assert len(table) == cut.paths == k * math.comb(groups, k) // groups
    for path in table:
        covered = np.concatenate([np.arange(bounds[g], bounds[g + 1]) for g in range(groups)])
        assert covered.tolist() == list(range(rows))
        assert all(g in held_out[split] for g, split in enumerate(path)), "a group is forecast by a fit without it"
    used = Counter((int(split), g) for path in table for g, split in enumerate(path))
    assert used == Counter((n, g) for n, one in enumerate(held_out) for g in one)
    assert table.dtype == bounds.dtype == np.int64


@pytest.mark.parametrize(
    ("groups", "k", "horizon", "embargo"), [(4, 2, 1, 0), (6, 2, 5, 0), (7, 3, 4, 6), (10, 8, 3, 2)]
)
def test_splits_and_paths_are_those_of_skfolio_on_regular_bars(groups: int, k: int, horizon: int, embargo: int) -> None:
    skfolio = pytest.importorskip("skfolio.model_selection", reason="no skfolio: the dev extra is not installed")
    cut = CombinatorialSettings(groups=groups, test_groups=k)
    n = 310 * groups + groups - 1
    windows = rows_of(n + horizon, (horizon,))
    # a label of h bars meets h - 1 neighbours; skfolio puts its embargo after a held-out group only, ours on both sides
    theirs = skfolio.CombinatorialPurgedCV(n_folds=groups, n_test_folds=k, purged_size=horizon - 1 + embargo)
    ours = combinatorial_splits(windows, replace(cut, embargo_bars=embargo))
    assert (cut.splits, cut.paths) == (theirs.n_splits, theirs.n_test_paths)
    np.testing.assert_array_equal(np.array(held_out_groups(cut)), theirs.test_set_index)
    np.testing.assert_array_equal(path_splits(cut).T, theirs.recombined_paths)
    for split, (train, tests) in zip(ours, theirs.split(np.zeros((n, 1))), strict=True):
        np.testing.assert_array_equal(split.training.rows, train)
        for ours_test, theirs_test in zip(split.tests, tests, strict=True):
            np.testing.assert_array_equal(ours_test.rows, theirs_test)
    ids = theirs.get_path_ids()  # (splits, k): the path that each held-out group belongs to
    for number, one in enumerate(held_out_groups(cut)):
        assert [int(np.flatnonzero(path_splits(cut)[:, g] == number)[0]) for g in one] == ids[number].tolist()


def test_counting_rows_leaks_or_wastes_where_usable_rows_are_sparse_and_label_time_does_neither() -> None:
    skfolio = pytest.importorskip("skfolio.model_selection", reason="no skfolio: the dev extra is not installed")
    windows = rows_of(2400, (12,), sparse=0.5)  # half of the rows are missing: 12 bars are about 6 rows
    theirs = skfolio.CombinatorialPurgedCV(n_folds=4, n_test_folds=2, purged_size=11)
    ours = combinatorial_splits(windows, SMALL)
    for split, (train, _) in zip(ours, theirs.split(np.zeros((len(windows), 1))), strict=True):
        counted = windows.take(train)
        assert not overlaps(counted, split.tests)
        assert len(counted) < len(split.training), "counting rows throws good ones away"
    # and a purge of as many rows as stand in a label on average leaks
    few = skfolio.CombinatorialPurgedCV(n_folds=4, n_test_folds=2, purged_size=5)
    leaks = [
        overlaps(windows.take(train), split.tests)
        for split, (train, _) in zip(ours, few.split(np.zeros((len(windows), 1))), strict=True)
    ]
    assert any(leaks)
    assert not any(overlaps(split.training, split.tests) for split in ours)


def overlaps(fitted: Windows, tests: tuple[Windows, ...]) -> int:
    """Return by brute force how many pairs of rows last at the same time."""
    arrays, found = fitted.arrays, 0
    begin, end = arrays.known_utc[fitted.rows], arrays.label_end_utc[fitted.rows]
    for test in tests:
        known, over = arrays.known_utc[test.rows], arrays.label_end_utc[test.rows]
        found += int(((begin[:, None] < over) & (known < end[:, None])).sum())
    return found


@settings(deadline=None, max_examples=40)
@given(data=st.data(), groups=st.integers(3, 6), seed=st.integers(0, 2**32 - 1))
def test_no_label_interval_meets_one_that_is_held_out_whatever_the_holes(
    data: st.DataObject, groups: int, seed: int
) -> None:
    k, embargo = data.draw(st.integers(1, groups - 2)), data.draw(st.integers(0, 12))
    cut = CombinatorialSettings(groups=groups, test_groups=k, embargo_bars=embargo, valid_of_train=0.3)
    longest, holes = data.draw(st.integers(1, 20)), data.draw(st.sampled_from([0.0, 0.3]))
    windows = rows_of(3000, (longest,), seed=seed, holes=holes, sparse=data.draw(st.sampled_from([0.0, 0.4])))
    arrays, numbers = windows.arrays, slot(windows.arrays.ts_utc, H1)
    for split in combinatorial_splits(windows, cut):
        assert not overlaps(split.training, split.tests)
        begins, last = numbers[split.training.rows], numbers[split.training.rows + longest]
        for test in split.tests:
            first, end = numbers[test.rows[0]], numbers[test.rows[-1] + longest]
            assert ((first - last >= cut.embargo_bars) | (begins - end >= cut.embargo_bars)).all(), "on both sides"
        lost = np.setdiff1d(windows.rows, np.concatenate([split.training.rows, split.test.rows]))
        near = [
            (numbers[test.rows[0]] - numbers[lost + longest] < max(cut.embargo_bars, 1))
            & (numbers[lost] - numbers[test.rows[-1] + longest] < max(cut.embargo_bars, 1))
            for test in split.tests
        ]
        assert np.any(near, axis=0).all(), "and nothing more is thrown away"
        for earlier, later in ((split.train, split.valid), (split.valid, split.calibration)):
            assert arrays.label_end_utc[earlier.rows].max() <= arrays.known_utc[later.rows[0]]
            assert numbers[later.rows[0]] - numbers[earlier.rows[-1] + longest] >= cut.embargo_bars
            assert np.isin(earlier.rows, split.training.rows).all()
        assert np.isin(split.calibration.rows, split.training.rows).all()
        assert len(split.calibration) == int(len(split.training) * cut.calibration)
        parts = (split.training, split.train, split.valid, split.calibration, split.test, *split.tests)
        assert {part.rows.dtype for part in parts} == {np.dtype(np.int64)}, "row numbers, not flags"


# what is refused


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"groups": 4, "test_groups": 4}, "leave a group to train on, was 4 of 4"),
        ({"groups": 4, "test_groups": 5}, "leave a group to train on"),
        ({"test_groups": 0}, "test_groups must be at least 1"),
        ({"test_groups": -1}, "test_groups must be a whole number"),
        ({"groups": True}, "groups must be a whole number"),
        ({"groups": 6.0}, "groups must be a whole number"),
        ({"embargo_bars": -1}, "embargo_bars must be a whole number"),
        ({"groups": 40, "test_groups": 20}, "each a refit; at most 1000"),
        ({"calibration": 1.0}, "calibration must be a share"),
        ({"valid_of_train": 0.0}, "valid_of_train must be a share"),
    ],
)
def test_unlawful_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        CombinatorialSettings(**wrong)  # type: ignore[arg-type]


def test_too_few_rows_are_not_ready_and_say_where() -> None:
    with pytest.raises(NotReady, match=r"EURUSD H1 has 196 usable rows, which leaves 49 for each of 4 groups"):
        combinatorial_splits(rows_of(200), SMALL)
    with pytest.raises(NotReady, match=r"split 0 of EURUSD H1 leaves \d+ rows for valid beside the held-out groups"):
        combinatorial_splits(rows_of(300), SMALL)


def test_rows_that_are_no_rows_in_time_order_are_refused() -> None:
    windows = rows_of(2000)
    for rows, message in (
        (windows.rows[::-1], "rows must increase"),
        (np.repeat(windows.rows, 2), "row 0 follows 0 at position 1"),
        (windows.rows > 0, "whole row numbers, were bool"),
        (windows.rows.astype(float), "whole row numbers, were float64"),
    ):
        with pytest.raises(UnsortedRows, match=message):
            combinatorial_splits(Windows(arrays=windows.arrays, rows=rows), SMALL)
    with pytest.raises(BadInput, match="4 of 2000 labels are not known yet"):
        combinatorial_splits(usable(windows.arrays, matured=False), SMALL)


@pytest.mark.parametrize("part", ["training", "train", "valid", "calibration"])
def test_train_and_test_that_overlap_are_refused_when_given_by_hand(part: str) -> None:
    split = combinatorial_splits(rows_of(2000), SMALL)[0]
    test = split.tests[1]
    with pytest.raises(OverlappingParts, match=f"{len(test)} {part} rows of split 0 share time"):
        replace(split, **{part: test})
    beside = Windows(arrays=test.arrays, rows=test.rows[-1:] + 1)  # no shared row, but three bars of a shared label
    with pytest.raises(OverlappingParts, match=f"1 {part} rows"):
        replace(split, **{part: beside})
    touching = Windows(arrays=test.arrays, rows=test.rows[-1:] + 4)  # known when the last label ends
    assert isinstance(replace(split, **{part: touching}), CombinatorialSplit)
    with pytest.raises(BadInput, match="holds out 2 groups, was given 1"):
        replace(split, tests=split.tests[:1])


# the runner


@pytest.fixture(scope="module")
def windows() -> Windows:
    return rows_of(1700, holes=0.05, sparse=0.1)  # so that rows, places and bars are three different counts


def test_paths_are_stitched_from_fits_that_did_not_see_their_rows(windows: Windows, tmp_path: Path) -> None:
    result = cross_validate(windows, "linear", {}, SMALL, run(tmp_path))
    splits = combinatorial_splits(windows, SMALL)
    by_hand = [forecast_split(split, "linear", {}, run(tmp_path)) for split in splits]
    for number in range(SMALL.paths):
        path = result.path(number)
        np.testing.assert_array_equal(path.forecasts.origin_utc, windows.origin_utc)
        np.testing.assert_array_equal(path.reference.origin_utc, windows.origin_utc)
        np.testing.assert_array_equal(path.returns, windows.returns)
        assert (path.forecasts.family, path.reference.family) == ("linear", "random_walk")
        for group, split in enumerate(path.splits):
            a, b = group_bounds(len(windows), 4)[group : group + 2]
            origin = np.isin(by_hand[split].origin_utc, windows.origin_utc[a:b])
            np.testing.assert_array_equal(path.forecasts.quantiles[a:b], by_hand[split].quantiles[origin])
        losses = crps(path.forecasts.quantiles, path.returns), crps(path.reference.quantiles, path.returns)
        expected = 1 - losses[0].mean(axis=0) / losses[1].mean(axis=0)
        np.testing.assert_allclose(result.skill[number], expected, rtol=1e-9, atol=1e-12)
    told = result.distribution
    np.testing.assert_allclose(told.mean, result.skill.mean(axis=0))
    np.testing.assert_allclose(told.std, result.skill.std(axis=0, ddof=1))
    np.testing.assert_allclose(told.quantiles[2], np.median(result.skill, axis=0))
    np.testing.assert_allclose(told.below_zero, (result.skill < 0).mean(axis=0))
    assert told.horizons_bars == (1, 4)
    with pytest.raises(IndexError):
        result.path(SMALL.paths)


def test_the_reference_has_no_skill_over_itself_and_a_single_path_no_spread(windows: Windows, tmp_path: Path) -> None:
    store = Memory()
    result = cross_validate(
        windows, "random_walk", {}, CombinatorialSettings(groups=3, test_groups=1), run(tmp_path), store=store
    )
    assert (result.skill == 0).all()
    assert store.puts == 3, "fitted once as the family and not again as its own reference"
    assert np.isnan(result.distribution.std).all()
    assert result.skill.shape == (1, 2)


@pytest.mark.parametrize("family", ["random_walk", "linear"])
def test_a_fit_reads_no_label_outside_its_own_parts(windows: Windows, family: str, tmp_path: Path) -> None:
    split = combinatorial_splits(windows, SMALL)[2]
    own = np.concatenate([split.train.rows, split.valid.rows, split.calibration.rows])
    hidden = np.full_like(windows.arrays.returns, 1e6)
    hidden[own] = windows.arrays.returns[own]
    blind = replace(windows.arrays, returns=hidden)
    parts = {
        name: Windows(arrays=blind, rows=getattr(split, name).rows)
        for name in ("training", "train", "valid", "calibration")
    }
    tests = tuple(Windows(arrays=blind, rows=test.rows) for test in split.tests)
    one = forecast_split(split, family, {}, run(tmp_path))
    other = forecast_split(replace(split, **parts, tests=tests), family, {}, run(tmp_path))
    np.testing.assert_array_equal(one.quantiles, other.quantiles)


def test_a_run_that_stops_goes_on_and_fits_nothing_twice(windows: Windows, tmp_path: Path) -> None:
    store, whole = Memory(), Memory()
    complete = cross_validate(windows, "linear", {}, SMALL, run(tmp_path), store=whole)
    assert whole.puts == 2 * SMALL.splits
    with pytest.raises(NotReady, match="stopped at split 2; run it again to go on"):
        cross_validate(windows, "linear", {}, SMALL, run(tmp_path, should_stop=lambda: store.puts >= 4), store=store)
    assert store.puts == 4
    resumed = cross_validate(windows, "linear", {}, SMALL, run(tmp_path), store=store)
    assert store.puts == whole.puts, "the four that were stored are not fitted again"
    np.testing.assert_array_equal(resumed.skill, complete.skill)
    again = cross_validate(windows, "linear", {}, SMALL, run(tmp_path, should_stop=lambda: True), store=store)
    np.testing.assert_array_equal(again.skill, complete.skill)
    assert store.puts == whole.puts


def test_a_fit_that_was_stopped_is_not_stored(windows: Windows, tmp_path: Path) -> None:
    asked: list[int] = []

    def during_the_fit() -> bool:
        asked.append(1)
        return len(asked) > 1

    store = Memory()
    with pytest.raises(NotReady, match="stopped at split 0"):
        cross_validate(windows, "linear", {}, SMALL, run(tmp_path, should_stop=during_the_fit), store=store)
    assert store.puts == 0


def test_other_rows_from_the_store_are_refused(windows: Windows, tmp_path: Path) -> None:
    store = Memory()
    cross_validate(windows, "random_walk", {}, SMALL, run(tmp_path), store=store)
    keys = list(store.kept)
    store.kept[keys[0]], store.kept[keys[1]] = store.kept[keys[1]], store.kept[keys[0]]
    with pytest.raises(StoreError, match="other rows than split 0"):
        cross_validate(windows, "random_walk", {}, SMALL, run(tmp_path), store=store)


def test_a_key_changes_with_everything_the_forecasts_depend_on(windows: Windows) -> None:
    splits, data = combinatorial_splits(windows, SMALL), data_identity(windows)
    key = split_key(splits[0], "linear", {}, SMALL, seed=1, data=data)
    assert key == split_key(splits[0], "linear", {"penalty": "ridge"}, SMALL, seed=1, data=data), "a default said aloud"
    others = [
        split_key(splits[1], "linear", {}, SMALL, seed=1, data=data),
        split_key(splits[0], "forest", {}, SMALL, seed=1, data=data),
        split_key(splits[0], "linear", {"penalty": "lasso"}, SMALL, seed=1, data=data),
        split_key(splits[0], "linear", {}, replace(SMALL, embargo_bars=1), seed=1, data=data),
        split_key(splits[0], "linear", {}, SMALL, seed=2, data=data),
        split_key(splits[0], "linear", {}, SMALL, seed=1, data="other"),
    ]
    assert len({key, *others}) == 7
    arrays = windows.arrays
    moved = arrays.close.copy()
    moved[700] *= 1 + 1e-12
    changed = [
        replace(windows, rows=windows.rows[1:]),
        replace(windows, arrays=replace(arrays, close=moved)),
        replace(windows, arrays=replace(arrays, features=arrays.features[:, ::-1])),
        replace(windows, arrays=replace(arrays, feature_names=("b", "a"))),
        replace(windows, arrays=replace(arrays, symbol="GBPUSD")),
    ]
    bars = BarSequence(
        timeframe=H1,
        ts_utc=arrays.ts_utc,
        values=arrays.close[:, None],
        names=("close",),
        price_columns=(0,),
        newest=np.arange(arrays.close.size),
    )
    changed += [
        replace(windows, arrays=replace(arrays, sequences={H1: one}))
        for one in (bars, replace(bars, values=2 * bars.values), replace(bars, newest=bars.newest - 1))
    ]
    assert data_identity(rows_of(1700, holes=0.05, sparse=0.1)) == data
    assert len({data, *(data_identity(one) for one in changed)}) == 9
    bare = replace(arrays, features=np.empty((arrays.close.size, 0)), feature_names=())
    assert len(data_identity(replace(windows, arrays=bare))) == 64
