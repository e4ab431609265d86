"""Walk-forward: folds lie apart in time, real refits see nothing of their test block, and what is finished is kept."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forexgpt_core.adapters.fold_store import FoldStore, SplitStore
from forexgpt_core.calibration.split import METHODS
from forexgpt_core.domain.clock import Timeframe, next_opens, slot, to_utc, week_opens
from forexgpt_core.errors import BadInput, NotReady, StoreError
from forexgpt_core.evaluation.walk_forward import (
    KINDS,
    Candidate,
    Fold,
    WalkForwardSettings,
    as_trained,
    fold_key,
    fold_parts,
    newest_parts,
    plan_folds,
    run_fold,
)
from forexgpt_core.features.windows import Windows, market_arrays, usable
from forexgpt_core.models.catalogue import FAMILIES
from forexgpt_core.models.forecaster import FitRun
from forexgpt_core.models.random_walk import RandomWalk

H1 = Timeframe.H1
HORIZONS = (1, 4, 24)


def market(bars: int = 1500, *, seed: int = 0, holes: float = 0.0, horizons: tuple[int, ...] = HORIZONS) -> Windows:
    rng = np.random.default_rng(seed)
    before = week_opens()[1400] - np.timedelta64(1, "s")
    kept = rng.random(bars) >= holes
    opens = next_opens(np.array([before]), H1, bars)[0][kept]
    features = rng.normal(size=(opens.size, 3))
    close = 1.1 * np.exp(np.cumsum(rng.normal(0, 1e-3, opens.size) + 3e-4 * np.roll(features[:, 0], 1)))
    ts = pl.Series("ts_utc", opens).dt.replace_time_zone("UTC")
    table = pl.DataFrame({"ts_utc": ts, **{f"f{n}": features[:, n] for n in range(3)}})
    arrays = market_arrays("EURUSD", H1, pl.DataFrame({"ts_utc": ts, "close": close}), table, horizons)
    return usable(arrays, matured=True)


def candidate(family: str, **options: object) -> Candidate:
    return Candidate(name=family, family=family, options=options, seed=3)


@settings(deadline=None, max_examples=60)
@given(
    bars=st.integers(600, 3000),
    folds=st.integers(2, 8),
    kind=st.sampled_from(KINDS),
    out_of_sample=st.floats(0.2, 0.7),
    embargo=st.integers(0, 60),
    longest=st.integers(1, 40),
    holes=st.floats(0, 0.5),
    seed=st.integers(0, 999),
)
def test_no_part_of_a_fold_knows_anything_of_the_next(
    bars: int, folds: int, kind: str, out_of_sample: float, embargo: int, longest: int, holes: float, seed: int
) -> None:
    windows = market(bars, seed=seed, holes=holes, horizons=tuple(sorted({1, longest})))
    wanted = WalkForwardSettings(kind=kind, folds=folds, out_of_sample=out_of_sample, embargo_bars=embargo)
    try:
        planned = plan_folds(windows, wanted)
        split = [fold_parts(windows, fold, embargo_bars=embargo) for fold in planned]
    except NotReady:
        return  # too few rows are refused, not hidden
    arrays, numbers = windows.arrays, slot(windows.arrays.ts_utc, H1)
    for parts in split:
        ordered = (parts.train, parts.valid, parts.calibration, parts.test)
        for earlier, later in pairwise(ordered):
            assert arrays.label_end_utc[earlier.rows].max() <= arrays.known_utc[later.rows[0]]
            ends = slot(arrays.label_end_utc[earlier.rows] - np.timedelta64(1, "us"), H1)
            assert numbers[later.rows[0]] - ends.max() >= embargo
    tested = np.concatenate([parts.test.rows for parts in split])
    assert tested.tolist() == windows.rows[-tested.size :].tolist(), "the newest rows, each tested once, in order"
    assert tested.size == int(len(windows) * out_of_sample)
    starts = [parts.train.rows[0] for parts in split]
    assert (starts == sorted(set(starts))) if kind == "rolling" else (len(set(starts)) == 1)


def test_folds_are_dates_that_can_be_written_down() -> None:
    planned = plan_folds(market(), WalkForwardSettings())
    assert [fold.number for fold in planned] == [0, 1, 2, 3]
    for fold in planned:
        assert Fold.from_document(fold.to_document()) == fold
        assert fold.to_document()["test_from_utc"].endswith("+00:00")
    with pytest.raises(BadInput, match="fold 1 overlaps: its dates must increase"):
        replace(planned[1], test_from_utc=planned[1].valid_from_utc)


def test_what_is_deployed_is_split_like_a_fold() -> None:
    windows, wanted = market(), WalkForwardSettings(embargo_bars=5)
    fold = plan_folds(windows, wanted)[-1]
    start = int(np.searchsorted(windows.origin_utc, to_utc(fold.test_from_utc)))
    newest = newest_parts(windows.take(np.arange(start)), wanted)
    validated = fold_parts(windows, fold, embargo_bars=5)
    for name in ("train", "valid"):
        assert getattr(newest, name).rows.tolist() == getattr(validated, name).rows.tolist()
    held = newest.calibration.rows.tolist()
    assert held[: len(validated.calibration)] == validated.calibration.rows.tolist(), "all but those the test purges"
    assert len(newest.test) == 0


def test_a_rolling_family_is_deployed_on_as_many_bars_as_its_folds_saw() -> None:
    windows = market()
    for embargo in (0, 5):
        wanted = WalkForwardSettings(kind="rolling", folds=3, embargo_bars=embargo)
        newest = newest_parts(windows, wanted)
        for fold in plan_folds(windows, wanted):
            validated = fold_parts(windows, fold, embargo_bars=embargo)
            for name in ("train", "valid"):
                assert abs(len(getattr(newest, name)) - len(getattr(validated, name))) <= 1, "but for rounding"
    assert newest.calibration.rows[-1] == windows.rows[-1]


def test_a_model_is_validated_as_it_was_trained_in_the_blocks_that_are_wanted_now() -> None:
    trained = WalkForwardSettings(folds=4, out_of_sample=0.4, calibration=0.2, valid_of_train=0.1, embargo_bars=5)
    now = WalkForwardSettings(kind="rolling", folds=3, out_of_sample=0.3, calibration=0.5, embargo_bars=0)
    assert as_trained(now, trained) == replace(trained, folds=3, out_of_sample=0.3)
    rolled = replace(trained, kind="rolling")
    assert as_trained(now, rolled) == replace(rolled, folds=3), "its first block is what it was fitted on"


def changed_after(windows: Windows, row: int) -> Windows:
    """The same rows with every price, feature and label from `row` on replaced."""
    arrays, rng = windows.arrays, np.random.default_rng(9)
    close, features = arrays.close.copy(), arrays.features.copy()
    close[row:] *= np.exp(np.cumsum(rng.normal(0, 0.01, close.size - row)))
    features[row:] += rng.normal(size=features[row:].shape)
    ts = pl.Series("ts_utc", arrays.ts_utc).dt.replace_time_zone("UTC")
    table = pl.DataFrame({"ts_utc": ts, **{name: features[:, n] for n, name in enumerate(arrays.feature_names)}})
    bars = pl.DataFrame({"ts_utc": ts, "close": close})
    return usable(market_arrays("EURUSD", H1, bars, table, arrays.horizons_bars), matured=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_refit_sees_nothing_from_the_first_tested_bar_on(family: str, tmp_path: Path) -> None:
    windows, wanted = market(), WalkForwardSettings(folds=2)
    fold, run = plan_folds(windows, wanted)[1], FitRun(seed=0, folder=tmp_path)
    first = int(windows.rows[np.searchsorted(windows.origin_utc, to_utc(fold.test_from_utc))])
    known = run_fold(windows, fold, candidate(family), wanted, run)
    other = run_fold(changed_after(windows, first + 1), fold, candidate(family), wanted, run)
    told = ("ts_utc", "horizon_bars", "scale", *(c for c in known.columns if c.startswith("q")))
    at_first = pl.col("ts_utc") == fold.test_from_utc
    for rows in (pl.col("part") == "in_sample", (pl.col("part") == "test") & at_first):
        assert_frame_equal(known.filter(rows).select(told), other.filter(rows).select(told), check_exact=True)
    assert not known.equals(other)
    assert set(known["fold"]) == {1}
    assert known.filter(pl.col("part") == "test")["ts_utc"].min() == fold.test_from_utc
    assert known.filter(pl.col("part") == "test")["ts_utc"].max() == fold.test_to_utc


def test_every_fold_is_a_real_refit(tmp_path: Path) -> None:
    windows, wanted = market(), WalkForwardSettings(folds=2)
    run = FitRun(seed=0, folder=tmp_path)
    first, second = plan_folds(windows, wanted)
    late = Fold.from_document({**second.to_document(), "train_from_utc": first.valid_from_utc.isoformat()})
    full = run_fold(windows, second, candidate("random_walk"), wanted, run).filter(pl.col("part") == "test")
    short = run_fold(windows, late, candidate("random_walk"), wanted, run).filter(pl.col("part") == "test")
    assert not np.allclose(full["q950"], short["q950"], rtol=1e-6), "what is trained on changes the forecasts"


def test_a_fold_is_calibrated_by_the_method_asked_for(tmp_path: Path) -> None:
    windows, wanted = market(), WalkForwardSettings(folds=2)
    fold, run = plan_folds(windows, wanted)[0], FitRun(seed=0, folder=tmp_path)
    for method in METHODS:
        outcome = run_fold(windows, fold, replace(candidate("random_walk"), calibration=method), wanted, run)
        assert set(outcome["calibrator"]) == {f"split {method}"}


def test_the_key_of_a_fold_tells_apart_whatever_would_change_it_and_nothing_else() -> None:
    windows, wanted = market(), WalkForwardSettings()
    fold, walk = plan_folds(windows, wanted)[1], candidate("random_walk")
    key = fold_key(windows, fold, walk, wanted)
    last = int(windows.rows[np.searchsorted(windows.origin_utc, to_utc(fold.test_to_utc))])
    longer = changed_after(windows, last + HORIZONS[-1] + 1)
    assert fold_key(longer, fold, walk, wanted) == key, "bars beyond its last label"
    assert fold_key(windows, fold, candidate("random_walk", window_bars=250), wanted) == key, "defaults are named too"
    others = [
        fold_key(changed_after(windows, last + HORIZONS[-1]), fold, walk, wanted),
        fold_key(windows, plan_folds(windows, wanted)[2], walk, wanted),
        fold_key(windows, fold, candidate("linear"), wanted),
        fold_key(windows, fold, candidate("random_walk", seasonal=False), wanted),
        fold_key(windows, fold, replace(walk, seed=4), wanted),
        fold_key(windows, fold, replace(walk, calibration="plain"), wanted),
        fold_key(windows, fold, walk, replace(wanted, embargo_bars=1)),
        fold_key(market(horizons=(1, 4, 23)), fold, walk, wanted),
    ]
    assert len({key, *others}) == 1 + len(others)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kind": "random"}, "walk_forward.kind must be one of expanding, rolling, was 'random'"),
        ({"folds": 1}, "walk_forward.folds must lie in 2 to 100, was 1"),
        ({"out_of_sample": 1.0}, r"walk_forward.out_of_sample must lie in \(0, 1\), was 1.0"),
        ({"calibration": 0.0}, "walk_forward.calibration must lie in"),
        ({"valid_of_train": float("nan")}, "walk_forward.valid_of_train must lie in"),
        ({"embargo_bars": -1}, "walk_forward.embargo_bars must be 0 or more, was -1"),
    ],
)
def test_unlawful_settings_are_refused_by_name(change: dict[str, object], text: str) -> None:
    with pytest.raises(BadInput, match=text):
        WalkForwardSettings(**change)


def test_too_few_rows_and_rows_out_of_order_are_refused() -> None:
    with pytest.raises(NotReady, match=r"usable rows: .* before the first of 4 test blocks"):
        plan_folds(market(300), WalkForwardSettings())
    windows = market()
    with pytest.raises(BadInput, match="in time order, each once"):
        plan_folds(Windows(arrays=windows.arrays, rows=windows.rows[::-1]), WalkForwardSettings())


def test_a_finished_fold_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    store, key = FoldStore(tmp_path / "folds"), "0123456789abcdef"
    assert store.get(key) is None
    rows = pl.DataFrame({"a": [1.5, 2.5]})
    store.put(key, rows)
    assert_frame_equal(store.get(key), rows)
    assert [path.name for path in store.root.iterdir()] == [f"{key}.parquet"]
    (store.root / f"{key}.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(StoreError, match="cannot be read: remove it and run again"):
        store.get(key)
    with pytest.raises(BadInput, match="is not the key of a fold"):
        store.get("../../etc/passwd")
    assert store.forget(older_than_days=1) == 0
    assert store.forget(older_than_days=-1) == 1


def test_a_disk_that_is_full_leaves_what_was_there_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, key, rows = FoldStore(tmp_path / "folds"), "0123456789abcdef", pl.DataFrame({"a": [1.5, 2.5]})
    store.put(key, rows)

    def full(_table: pl.DataFrame, path: Path) -> None:
        path.write_bytes(b"PAR1")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(StoreError, match=r"cannot be stored \(.*No space left on device\): make room and run again"):
        store.put(key, rows * 2)
    assert_frame_equal(store.get(key), rows)
    assert len(list(store.root.iterdir())) == 1


def test_a_finished_split_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    windows = market()
    batch = RandomWalk().fit(windows, windows, run=FitRun(seed=0, folder=tmp_path)).forecast(windows)
    store, key = SplitStore(FoldStore(tmp_path / "folds")), "0" * 64
    assert store.get(key) is None
    store.put(key, batch)
    found = store.get(key)
    assert found is not None
    assert (found.symbol, found.timeframe, found.family) == ("EURUSD", "H1", "random_walk")
    assert found.horizons_bars == batch.horizons_bars
    assert np.array_equal(found.origin_utc, batch.origin_utc)
    assert np.array_equal(found.quantiles, batch.quantiles)
    assert np.array_equal(found.scale, batch.scale)
