"""Augmentation: for training rows only, repeatable, harmless at 0, and blind to what lies beyond the origin."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.domain.clock import Timeframe, next_opens, week_opens
from forexgpt_core.errors import BadInput
from forexgpt_core.features.augmentation import Augmentation, NotTraining, TrainingAugmentation
from forexgpt_core.features.sequence_windows import sequence_batches, sequence_windows, with_feature_sequence
from forexgpt_core.features.sequences import SequenceSpec
from forexgpt_core.features.splits import Parts, SplitShares, evidence_parts
from forexgpt_core.features.windows import market_arrays, usable

H1 = Timeframe.H1
KINDS = ("time_warp", "jitter", "magnitude_warp", "scaling", "noise")
ALL = Augmentation(time_warp=0.3, jitter=0.5, magnitude_warp=0.2, scaling=0.1, noise=0.2)
SPEC = SequenceSpec(timeframes=(H1,), length_bars=40)


@pytest.fixture(scope="module")
def parts() -> Parts:
    rng = np.random.default_rng(0)
    opens = next_opens(np.array([week_opens()[1400] - np.timedelta64(1, "s")]), H1, 1500)[0].astype("datetime64[us]")
    close = 1.1 * np.exp(np.cumsum(rng.normal(0, 1e-3, 1500)))
    ts = pl.Series("ts_utc", opens).dt.replace_time_zone("UTC")
    table = pl.DataFrame({"ts_utc": ts, "a": np.log(close), "b": rng.standard_t(4, 1500)})
    arrays = market_arrays("EURUSD", H1, pl.DataFrame({"ts_utc": ts, "close": close}), table, (1, 6))
    found = sequence_windows(usable(with_feature_sequence(arrays), matured=True), SPEC)
    return evidence_parts(found.windows, SplitShares())


def varied(parts: Parts, settings: Augmentation, x: np.ndarray, *, seed: int = 0) -> np.ndarray:
    augmentation = TrainingAugmentation(train=parts.train, settings=settings)
    origins = parts.train.take(np.arange(x.shape[0]))
    return augmentation.apply(x, origins=origins, rng=np.random.default_rng(seed))


def windows_of(parts: Parts, count: int, dtype: type = np.float64) -> np.ndarray:
    return parts.train.take(np.arange(count)).sequence(H1, SPEC).astype(dtype)


@settings(deadline=None, max_examples=30)
@given(
    strength=st.fixed_dictionaries({kind: st.sampled_from([0.0, 0.3, 1.0]) for kind in KINDS}),
    n=st.integers(0, 5),
    length=st.integers(2, 60),
    f=st.integers(0, 3),
    dtype=st.sampled_from([np.float32, np.float64]),
    knots=st.integers(2, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_shape_type_finiteness_and_the_seed_are_kept(
    parts: Parts, strength: dict[str, float], n: int, length: int, f: int, dtype: type, knots: int, seed: int
) -> None:
    x = np.random.default_rng(seed).normal(size=(n, length, f)).astype(dtype)
    before = x.copy()
    settings_ = Augmentation(**strength, knots=knots)
    once, again = (varied(parts, settings_, x, seed=seed) for _ in range(2))
    assert once.shape == x.shape
    assert once.dtype == dtype
    assert np.isfinite(once).all()
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(x, before), "what was given is not changed"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_at_strength_0_nothing_changes_by_a_bit(parts: Parts, dtype: type) -> None:
    x = windows_of(parts, 8, dtype)
    result = varied(parts, Augmentation(), x)
    np.testing.assert_array_equal(result, x)
    assert result is not x
    for kind in KINDS:
        tiny = varied(parts, Augmentation(**{kind: 1e-12}), windows_of(parts, 8))
        np.testing.assert_allclose(tiny, windows_of(parts, 8), atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_changes_windows_and_another_seed_changes_them_otherwise(parts: Parts, kind: str) -> None:
    x = windows_of(parts, 6)
    one, other = (varied(parts, Augmentation(**{kind: 0.3}), x, seed=seed) for seed in (1, 2))
    assert (one != x).any(axis=(1, 2)).all(), "each window"
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("kind", ["time_warp", "jitter", "magnitude_warp", "noise"])
def test_the_observation_at_the_origin_stays(parts: Parts, kind: str) -> None:
    x = windows_of(parts, 20)
    changed = varied(parts, Augmentation(**{kind: 1.0}), x)
    np.testing.assert_allclose(changed[:, -1], x[:, -1], rtol=1e-14)
    if kind in ("time_warp", "jitter"):
        np.testing.assert_allclose(changed[:, 0], x[:, 0], rtol=1e-14)


def test_scaling_is_one_factor_per_window_and_column(parts: Parts) -> None:
    x = windows_of(parts, 50)
    ratio = varied(parts, Augmentation(scaling=0.2), x) / x
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-9)
    assert np.log(ratio[:, 0]).std() == pytest.approx(0.2, rel=0.25)
    assert (ratio > 0).all(), "no sign is turned"


def test_a_magnitude_curve_is_smooth(parts: Parts) -> None:
    curve = np.log(varied(parts, Augmentation(magnitude_warp=0.3), np.ones((200, 400, 1))))[:, :, 0]
    assert curve[:, 0].std() == pytest.approx(0.3, rel=0.2), "as strong as it says at its first knot"
    assert np.abs(np.diff(curve, axis=1)).max() < 0.05
    white = varied(parts, Augmentation(noise=0.3), np.random.default_rng(0).normal(size=(200, 400, 1)))
    assert np.abs(np.diff(white[:, :, 0], axis=1)).max() > 0.5, "which noise is not"


@settings(deadline=None, max_examples=30)
@given(strength=st.floats(0.01, 1.0), length=st.integers(2, 80), knots=st.integers(2, 6), seed=st.integers(0, 2**31))
def test_warped_time_runs_forward_from_the_first_observation_to_the_last(
    parts: Parts, strength: float, length: int, knots: int, seed: int
) -> None:
    clock = np.broadcast_to(np.arange(length, dtype=np.float64)[None, :, None], (4, length, 2))
    warped = varied(parts, Augmentation(time_warp=strength, knots=knots), clock, seed=seed)
    assert (np.diff(warped, axis=1) > 0).all(), "time never runs back"
    np.testing.assert_allclose(warped[:, [0, -1]], clock[:, [0, -1]], atol=1e-9)
    assert warped.max() <= length - 1, "nothing is read from beyond the origin"
    np.testing.assert_array_equal(warped[:, :, 0], warped[:, :, 1]), "columns stay beside each other"


@settings(deadline=None, max_examples=20)
@given(strength=st.floats(0.01, 1.0), seed=st.integers(0, 2**31))
def test_jittered_time_reads_earlier_and_never_later(parts: Parts, strength: float, seed: int) -> None:
    clock = np.broadcast_to(np.arange(50, dtype=np.float64)[None, :, None], (4, 50, 1))
    late = clock - varied(parts, Augmentation(jitter=strength), clock, seed=seed)
    assert (late >= -1e-12).all()
    assert late.max() <= strength + 1e-12
    assert late[:, 1:-1].mean() == pytest.approx(strength / 2, rel=0.3)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31))
def test_windows_are_varied_each_by_itself(parts: Parts, seed: int) -> None:
    x = windows_of(parts, 6)
    other = x.copy()
    other[3] += 5.0
    one, two = (varied(parts, ALL, given_, seed=seed) for given_ in (x, other))
    keep = np.arange(6) != 3
    np.testing.assert_array_equal(one[keep], two[keep])


@pytest.mark.parametrize("kind", KINDS)
def test_the_distribution_is_roughly_kept(parts: Parts, kind: str) -> None:
    x = np.random.default_rng(5).normal(size=(len(parts.train), 60, 1)).cumsum(axis=1)
    changed = varied(parts, Augmentation(**{kind: 0.1}), x)
    assert changed.std() == pytest.approx(x.std(), rel=0.05)
    assert changed.mean() == pytest.approx(x.mean(), abs=0.05 * x.std())
    quantiles = [0.01, 0.1, 0.5, 0.9, 0.99]
    np.testing.assert_allclose(np.quantile(changed, quantiles), np.quantile(x, quantiles), atol=0.15 * x.std())


def test_labels_are_untouched(parts: Parts) -> None:
    returns, ends = parts.train.returns.copy(), parts.train.arrays.label_end_utc.copy()
    varied(parts, ALL, windows_of(parts, 10))
    np.testing.assert_array_equal(parts.train.returns, returns)
    np.testing.assert_array_equal(parts.train.arrays.label_end_utc, ends)


def test_shuffled_training_batches_can_be_varied_and_no_other_part_can(parts: Parts) -> None:
    augmentation = TrainingAugmentation(train=parts.train, settings=ALL)
    rng = np.random.default_rng(0)
    batches = list(sequence_batches(parts.train, SPEC, batch_rows=128, shuffle=rng))
    for batch in batches:
        x = batch.sequences[H1]
        assert augmentation.apply(x, origins=batch.windows, rng=rng).shape == x.shape
    assert sum(len(batch.windows) for batch in batches) == len(parts.train)
    for part in (parts.valid, parts.calibration, parts.test):
        some = part.take(np.arange(5))
        with pytest.raises(NotTraining, match=r"5 of 5 windows are no training rows.*for training only"):
            augmentation.apply(some.sequence(H1, SPEC), origins=some, rng=rng)
    mixed = replace(parts.train, rows=np.append(parts.train.rows[:4], parts.test.rows[0]))
    with pytest.raises(NotTraining, match="1 of 5 windows"):
        augmentation.apply(mixed.sequence(H1, SPEC), origins=mixed, rng=rng)
    elsewhere = replace(parts.train, arrays=replace(parts.train.arrays, symbol="GBPUSD"))
    with pytest.raises(NotTraining, match="other arrays"):
        augmentation.apply(elsewhere.sequence(H1, SPEC), origins=elsewhere, rng=rng)


def test_windows_that_do_not_fit_are_refused(parts: Parts) -> None:
    x = windows_of(parts, 4)
    augmentation = TrainingAugmentation(train=parts.train, settings=ALL)
    rng, origins = np.random.default_rng(0), parts.train.take(np.arange(4))
    for bad in (x[:3], x[:, 0], x[:, :1]):
        with pytest.raises(BadInput, match="one window per origin"):
            augmentation.apply(bad, origins=origins, rng=rng)
    x[0, 0, 0] = np.nan
    with pytest.raises(BadInput, match="not finite"):
        augmentation.apply(x, origins=origins, rng=rng)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_an_unlawful_strength_is_refused(kind: str, value: float) -> None:
    with pytest.raises(BadInput, match=f"augmentation {kind} must lie from 0 to 1"):
        Augmentation(**{kind: value})


@pytest.mark.parametrize("knots", [1, 2.0, True])
def test_an_unlawful_number_of_knots_is_refused(knots: object) -> None:
    with pytest.raises(BadInput, match="knots must be a whole number of 2 or more"):
        Augmentation(knots=knots)
