"""Model confidence sets and superior predictive ability: laws, arch itself, and what chance really does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.dependence import slow_inflation
from forexgpt_core.evaluation.model_sets import BootstrapSettings, model_confidence_set, superior_ability
from forexgpt_core.evaluation.significance import ConstantLossDifference, UnpairedLosses, bootstrap_stretch

FAST = BootstrapSettings(replicates=200, seed=1)
NAMES = ["random_walk", "linear", "forest", "boosting"]
seeds = st.integers(0, 2**32 - 1)


def losses(seed: int, n: int = 300, k: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.exponential(size=(n, 1)) + 0.3 * rng.normal(size=(n, k))


def test_a_bad_model_leaves_the_set_and_a_good_one_beats_the_reference() -> None:
    x = losses(0)
    x[:, 2] += 0.2
    found = model_confidence_set(x, NAMES, 1, settings=FAST)
    assert "forest" not in found.included
    assert found.p_values["forest"] < 0.01
    assert max(found.p_values.values()) == 1.0
    x[:, 1] -= 0.2
    assert model_confidence_set(x, NAMES, 1, settings=FAST).included == ("linear",)
    better = superior_ability(x, NAMES, "random_walk", 1, settings=FAST)
    assert (better.best, better.better) == ("linear", ("linear",))
    assert better.p_consistent < 0.01
    worst = superior_ability(x, NAMES, "linear", 1, settings=FAST)
    assert worst.p_consistent > 0.5
    assert worst.better == ()


def test_the_p_values_are_those_of_arch_on_the_same_blocks() -> None:
    from arch.bootstrap import MCS, SPA

    x = losses(3)
    means = x.mean(axis=0)
    about = x - x.mean(axis=1, keepdims=True)
    slow = max(np.sqrt(slow_inflation(column, 12)) for column in about.T)
    stretch = bootstrap_stretch(300, 12, 6, 0.05)
    drawn = x - means + means.mean() + (means - means.mean()) / (stretch * slow)
    theirs = MCS(drawn, size=0.1, reps=200, block_size=12, method="R", bootstrap="circular", seed=1)
    theirs.compute()
    ours = model_confidence_set(x, NAMES, 6, size=0.1, settings=FAST)
    assert ours.block_rows == 12
    assert ours.p_values == {NAMES[i]: float(p) for i, p in theirs.pvalues["Pvalue"].items()}
    assert ours.included == tuple(NAMES[i] for i in sorted(theirs.included))
    gain = x[:, 0] - x[:, 1]
    gain += gain.mean() * (1 / (stretch * np.sqrt(slow_inflation(gain, 12))) - 1)
    plain = SPA(np.zeros(300), -gain, reps=200, block_size=12, bootstrap="circular", seed=1)
    plain.compute()
    mine = superior_ability(x[:, :2], NAMES[:2], "random_walk", 6, settings=FAST)
    theirs_p = tuple(float(p) for p in plain.pvalues)
    assert (mine.p_lower, mine.p_consistent, mine.p_upper) == theirs_p, "of one model, the scale cancels"


@settings(deadline=None, max_examples=15)
@given(seed=seeds, loud=st.floats(2, 1000))
def test_a_loud_useless_model_does_not_drown_a_quiet_good_one(seed: int, loud: float) -> None:
    x = losses(seed, 200)
    x[:, 1] = x[:, 0] - 0.1 + 0.1 * (x[:, 1] - x[:, 0])
    mild = superior_ability(x, NAMES, "random_walk", 1, settings=FAST)
    x[:, 3] = x[:, 0] + loud * (x[:, 3] - x[:, 0])
    drowned = superior_ability(x, NAMES, "random_walk", 1, settings=FAST)
    assert drowned.p_consistent == mild.p_consistent < 0.05
    assert drowned.best == "linear"


@settings(deadline=None, max_examples=15)
@given(seed=seeds)
def test_the_order_of_the_models_and_a_common_loss_do_not_matter(seed: int) -> None:
    x, rng = losses(seed, 120), np.random.default_rng(seed)
    order = rng.permutation(4)
    here = model_confidence_set(x, NAMES, 2, settings=FAST)
    common = x[:, order] + rng.exponential(size=(120, 1))
    there = model_confidence_set(common, [NAMES[i] for i in order], 2, settings=FAST)
    assert there.p_values == pytest.approx(here.p_values)
    assert set(there.included) == set(here.included)
    one = superior_ability(x, NAMES, "forest", 2, settings=FAST)
    other = superior_ability(common, [NAMES[i] for i in order], "forest", 2, settings=FAST)
    assert (other.p_lower, other.p_consistent, other.p_upper) == (one.p_lower, one.p_consistent, one.p_upper)
    assert one.p_lower <= one.p_consistent <= one.p_upper


def test_models_that_lose_the_same_share_their_fate_and_break_nothing() -> None:
    x = losses(0)
    x[:, 2] = x[:, 0] * (1 + 1e-13)
    found = model_confidence_set(x, NAMES, 1, settings=FAST)
    assert found.same_as == {"forest": "random_walk"}
    assert found.p_values["forest"] == found.p_values["random_walk"]
    without = model_confidence_set(x[:, [0, 1, 3]], ["random_walk", "linear", "boosting"], 1, settings=FAST)
    assert without.p_values == {n: p for n, p in found.p_values.items() if n != "forest"}
    superior = superior_ability(x, NAMES, "random_walk", 1, settings=FAST)
    assert superior.same_as_reference == ("forest",)
    alike = np.repeat(x[:, :1], 4, axis=1)
    assert model_confidence_set(alike, NAMES, 1, settings=FAST).included == tuple(NAMES)
    nothing = superior_ability(alike, NAMES, "linear", 1, settings=FAST)
    assert (nothing.p_lower, nothing.p_consistent, nothing.p_upper, nothing.best) == (1, 1, 1, "linear")


def test_the_same_seed_repeats_and_another_does_not() -> None:
    x = losses(5)
    other = BootstrapSettings(replicates=200, seed=2)
    assert model_confidence_set(x, NAMES, 1, settings=FAST) == model_confidence_set(x, NAMES, 1, settings=FAST)
    assert model_confidence_set(x, NAMES, 1, settings=FAST) != model_confidence_set(x, NAMES, 1, settings=other)


def test_bad_input_is_refused_by_name() -> None:
    x = losses(0)
    holed = x.copy()
    holed[3, 2] = np.nan
    for refuse in (
        lambda x, names, h=1: model_confidence_set(x, names, h, settings=FAST),
        lambda x, names, h=1: superior_ability(x, names, names[0], h, settings=FAST),
    ):
        with pytest.raises(UnpairedLosses, match="'forest' are not all finite"):
            refuse(holed, NAMES)
        with pytest.raises(UnpairedLosses, match="at least 2 models"):
            refuse(x[:, :1], NAMES[:1])
        with pytest.raises(UnpairedLosses, match="k different names"):
            refuse(x, ["a", "b", "c", "a"])
        with pytest.raises(UnpairedLosses, match="labels of 24 rows need at least 96 losses, found 90"):
            refuse(x[:90], NAMES, 24)
        with pytest.raises(ConstantLossDifference, match="exactly"):
            refuse(np.column_stack([x[:, 0], x[:, 0] + 0.5]), NAMES[:2])
        with pytest.raises(BadInput, match="horizon_bars"):
            refuse(x, NAMES, 0)
    with pytest.raises(UnpairedLosses, match="'walk' is not among the models"):
        superior_ability(x, NAMES, "walk", 1, settings=FAST)
    with pytest.raises(BadInput, match="size must lie"):
        model_confidence_set(x, NAMES, 1, size=0, settings=FAST)
    wide, many = np.random.default_rng(0).normal(size=(50, 60)), BootstrapSettings(replicates=20_000, seed=0)
    with pytest.raises(BadInput, match="at most 50 models"):
        model_confidence_set(wide, [str(i) for i in range(60)], 1, settings=many)
    with pytest.raises(BadInput, match="replicates"):
        BootstrapSettings(replicates=99, seed=0)
    with pytest.raises(BadInput, match="block_rows must be 1"):
        BootstrapSettings(block_rows=0, seed=0)
    with pytest.raises(BadInput, match="between the horizon 6 and half of 300"):
        model_confidence_set(x, NAMES, 6, settings=BootstrapSettings(block_rows=5, seed=0))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "h"), [(400, 1), (800, 12)])
def test_equal_models_stay_in_the_set_and_beat_nobody_about_as_often_as_stated(n: int, h: int) -> None:
    """The set of equally good models should lose one of them, and one should seem better, 5 % of the time.

    Measured 5.6 and 5.2 % for the set, 3.2 and 6.8 % for the test; arch alone expels one in 17 % at horizon 12.
    """
    rng = np.random.default_rng(n)
    shrunk, superior = [], []
    for seed in range(250):
        noise = np.cumsum(rng.normal(size=(6, n + h)), axis=1)
        y, *forecasts = noise[:, h:] - noise[:, :-h]
        x = np.column_stack([(y - 0.3 * one) ** 2 for one in forecasts])
        names, few = [str(i) for i in range(5)], BootstrapSettings(replicates=250, seed=seed)
        shrunk.append(len(model_confidence_set(x, names, h, settings=few).included) < 5)
        superior.append(superior_ability(x, names, "0", h, settings=few).p_consistent < 0.05)
    assert np.mean(shrunk) < 0.10
    assert 0.01 < np.mean(superior) < 0.10


@pytest.mark.slow
def test_slow_moves_of_losses_neither_expel_models_nor_make_one_superior() -> None:
    """Five models as good as one another whose losses swing over 50 rows; arch expels one in 7 of 10 such cases."""
    from scipy.signal import lfilter

    rng, n, runs = np.random.default_rng(0), 1200, 100
    names, expelled, superior = [str(i) for i in range(5)], 0, 0
    for seed in range(runs):
        slow = lfilter([1.0], [1.0, -0.98], np.sqrt(1 - 0.98**2) * rng.normal(size=(n + 500, 5)), axis=0)[500:]
        x = np.abs(rng.normal(size=(n, 1))) + 0.05 * (np.sqrt(0.95) * rng.normal(size=(n, 5)) + np.sqrt(0.05) * slow)
        few = BootstrapSettings(replicates=200, seed=seed)
        expelled += len(model_confidence_set(x, names, 1, settings=few).included) < 5
        superior += superior_ability(x, names, "0", 1, settings=few).p_consistent < 0.05
    assert expelled / runs <= 0.12
    assert superior / runs <= 0.20
