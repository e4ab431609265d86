"""Deflated Sharpe ratios and the probability of backtest overfitting: published figures, the textbook, and chance."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.cscv import ConstantTrial, TooFewRows, backtest_overfitting, largest_blocks
from forexgpt_core.evaluation.overfitting import (
    ConstantReturns,
    ImpossibleKurtosis,
    SharpeEvidence,
    best_of_trials_p,
    deflated_sharpe,
    expected_maximum_sharpe,
    minimum_track_record,
    probabilistic_sharpe,
    sharpe_evidence,
)

seeds = st.integers(0, 2**32 - 1)
YEAR = 250


# ---- Sharpe ratios


@pytest.mark.parametrize(
    ("trials", "years", "expected"),
    [
        *((10, 1, 1.57), (10, 3, 0.91), (100, 1, 2.53), (100, 3, 1.46)),
        *((100, 5, 1.13), (1000, 1, 3.26), (1000, 3, 1.88), (1000, 5, 1.46)),
    ],
)
def test_the_best_of_worthless_trials_shows_the_published_sharpe(trials: int, years: int, expected: float) -> None:
    assert round(expected_maximum_sharpe(trials, 1 / math.sqrt(years)), 2) == expected


def test_the_best_of_worthless_trials_by_simulation() -> None:
    best = np.random.default_rng(0).normal(size=(20_000, 100)).max(axis=1)
    assert expected_maximum_sharpe(100, 1.0) == pytest.approx(best.mean(), abs=0.03)
    assert expected_maximum_sharpe(1, 1.0) == 0.0
    assert expected_maximum_sharpe(10, 0.0) == 0.0


def test_the_deflated_sharpe_of_the_paper() -> None:
    """Annualised 2.5 over 1,250 days, skew -3, raw kurtosis 10, 100 trials of annualised variance 1/2: .9004."""
    evidence = SharpeEvidence(sharpe=2.5 / math.sqrt(YEAR), rows=1250, skew=-3, kurtosis=10)
    std = math.sqrt(0.5 / YEAR)
    assert expected_maximum_sharpe(100, std) == pytest.approx(0.1132, abs=5e-5)
    assert deflated_sharpe(evidence, trials=100, sharpe_std=std) == pytest.approx(0.9004, abs=1e-4)


@pytest.mark.parametrize(("per_year", "years"), [(250, 2.73), (52, 2.83), (12, 3.24)])
def test_the_minimum_track_record_of_the_paper(per_year: int, years: float) -> None:
    """Annualised 2 against 1 with confidence .95 on normal returns."""
    evidence = SharpeEvidence(sharpe=2 / math.sqrt(per_year), rows=100)
    needed = minimum_track_record(evidence, benchmark=1 / math.sqrt(per_year))
    assert round(needed / per_year, 2) == years


@given(
    sharpe=st.floats(0.02, 1),
    benchmark=st.floats(-0.5, 0.01),
    skew=st.floats(-2, 2),
    more=st.floats(0.1, 20),
    confidence=st.floats(0.6, 0.999),
)
def test_a_track_record_of_the_least_length_has_just_that_confidence(
    sharpe: float, benchmark: float, skew: float, more: float, confidence: float
) -> None:
    evidence = SharpeEvidence(sharpe=sharpe, rows=100, skew=skew, kurtosis=1 + skew**2 + more)
    needed = minimum_track_record(evidence, benchmark=benchmark, confidence=confidence)
    error = evidence.standard_error * math.sqrt(99 / (needed - 1))
    assert (sharpe - benchmark) / error == pytest.approx(float(np.sqrt(2)) * _erfinv(2 * confidence - 1))


def _erfinv(x: float) -> float:
    from scipy.special import erfinv

    return float(erfinv(x))


def test_no_length_is_enough_for_a_ratio_below_the_benchmark() -> None:
    assert minimum_track_record(SharpeEvidence(sharpe=0.1, rows=100), benchmark=0.1) == math.inf


def test_evidence_is_the_moments_of_the_returns() -> None:
    from scipy.stats import kurtosis, skew

    x = np.random.default_rng(0).exponential(size=300) - 0.9
    found = sharpe_evidence(x)
    assert found.sharpe == pytest.approx(x.mean() / x.std(ddof=1))
    assert found.skew == pytest.approx(skew(x))
    assert found.kurtosis == pytest.approx(kurtosis(x, fisher=False))
    assert found.rows == 300


@given(seed=seeds, scale=st.floats(1e-6, 1e3))
def test_evidence_does_not_depend_on_the_size_of_the_bets(seed: int, scale: float) -> None:
    x = np.random.default_rng(seed).standard_t(4, size=50)
    one, other = sharpe_evidence(x), sharpe_evidence(scale * x)
    assert (other.sharpe, other.skew, other.kurtosis) == pytest.approx((one.sharpe, one.skew, one.kurtosis))
    mirrored = sharpe_evidence(-x)
    assert probabilistic_sharpe(one) + probabilistic_sharpe(mirrored) == pytest.approx(1)


@pytest.mark.parametrize("shape", ["normal", "exponential", "-exponential", "t"])
def test_the_true_ratio_is_exceeded_as_often_as_stated(shape: str) -> None:
    """An annualised ratio, or a kurtosis in excess of 3, in the formula fails this for skewed or large ratios."""
    rng = np.random.default_rng(1)
    draws = {
        "normal": lambda size: rng.normal(size=size),
        "exponential": lambda size: rng.exponential(size=size) - 1,
        "-exponential": lambda size: 1 - rng.exponential(size=size),
        "t": lambda size: rng.standard_t(6, size=size) / math.sqrt(1.5),
    }
    truth = 0.6
    x = draws[shape]((3000, 400)) + truth
    above = [probabilistic_sharpe(sharpe_evidence(row), benchmark=truth) for row in x]
    assert 0.03 < np.mean(np.array(above) > 0.95) < 0.075
    assert 0.03 < np.mean(np.array(above) < 0.05) < 0.075


def worthless(rng: np.random.Generator, trials: int, rows: int = 250) -> tuple[SharpeEvidence, float]:
    """Return the best of worthless trials and the standard deviation over all of them."""
    x = rng.normal(size=(trials, rows))
    sharpes = x.mean(axis=1) / x.std(axis=1, ddof=1)
    return sharpe_evidence(x[sharpes.argmax()]), float(sharpes.std(ddof=1))


@pytest.mark.parametrize("trials", [10, 100])
def test_the_best_of_worthless_trials_is_exposed(trials: int) -> None:
    """Undeflated, most look real. Deflated, hardly one does; the test of the best has the size it states."""
    rng = np.random.default_rng(trials)
    found = [worthless(rng, trials) for _ in range(3000)]
    plain = np.mean([probabilistic_sharpe(best) > 0.95 for best, _ in found])
    deflated = np.array([deflated_sharpe(best, trials=trials, sharpe_std=std) for best, std in found])
    p = np.array([best_of_trials_p(best, trials=trials) for best, _ in found])
    assert plain > 0.35
    assert np.mean(deflated > 0.95) < 0.02
    assert np.mean(deflated) == pytest.approx(0.5, abs=0.05), "the best is as good as the best is expected to be"
    assert 0.035 < np.mean(p < 0.05) < 0.07


def test_a_real_edge_survives_its_trials_and_a_lucky_one_does_not() -> None:
    real = SharpeEvidence(sharpe=0.25, rows=1000)
    lucky = SharpeEvidence(sharpe=0.10, rows=1000)
    std = 1 / math.sqrt(1000)
    assert probabilistic_sharpe(lucky) > 0.99
    assert deflated_sharpe(lucky, trials=1000, sharpe_std=std) < 0.5
    assert deflated_sharpe(real, trials=1000, sharpe_std=std) > 0.99
    assert best_of_trials_p(real, trials=1000) < 1e-6
    assert best_of_trials_p(lucky, trials=1) == pytest.approx(1 - probabilistic_sharpe(lucky))


@given(trials=st.integers(1, 10_000), more=st.integers(1, 1000), sharpe=st.floats(-1, 1))
def test_more_trials_never_make_a_result_look_better(trials: int, more: int, sharpe: float) -> None:
    evidence = SharpeEvidence(sharpe=sharpe, rows=200)
    few, many = (deflated_sharpe(evidence, trials=n, sharpe_std=0.07) for n in (trials, trials + more))
    assert many <= few <= probabilistic_sharpe(evidence)
    assert best_of_trials_p(evidence, trials=trials) <= best_of_trials_p(evidence, trials=trials + more) + 1e-12


def test_bad_sharpe_input_is_refused_by_name() -> None:
    with pytest.raises(ConstantReturns, match="all 10 returns are 0; a strategy that never trades"):
        sharpe_evidence(np.zeros(10))
    with pytest.raises(BadInput, match="1 of 4 returns are not finite"):
        sharpe_evidence(np.array([0.1, np.nan, 0.2, 0.3]))
    with pytest.raises(BadInput, match="at least 3 returns"):
        sharpe_evidence(np.array([0.1, 0.2]))
    with pytest.raises(ImpossibleKurtosis, match="not the excess"):
        SharpeEvidence(sharpe=0.1, rows=100, kurtosis=0.0)
    with pytest.raises(BadInput, match="must be finite"):
        SharpeEvidence(sharpe=math.nan, rows=100)
    with pytest.raises(BadInput, match="count everything"):
        expected_maximum_sharpe(0, 1.0)
    with pytest.raises(BadInput, match="sharpe_std"):
        expected_maximum_sharpe(10, math.nan)
    with pytest.raises(BadInput, match="confidence"):
        minimum_track_record(SharpeEvidence(sharpe=0.1, rows=100), confidence=0.5)


# ---- probability of backtest overfitting


def textbook_logits(returns: np.ndarray, blocks: int) -> list[float]:
    """Return the logits of Bailey et al., half by half and trial by trial."""
    from scipy.stats import rankdata

    def sharpe(x: np.ndarray) -> float:
        return float(x.mean() / x.std(ddof=1)) if x.std() > 0 else 0.0

    rows, trials = returns.shape
    parts = np.split(returns, [rows * b // blocks for b in range(1, blocks)])
    logits = []
    for half in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[b] for b in half])
        outside = np.concatenate([parts[b] for b in range(blocks) if b not in half])
        best = int(np.argmax([sharpe(inside[:, n]) for n in range(trials)]))
        ranks = rankdata([sharpe(outside[:, n]) for n in range(trials)])
        share = ranks[best] / (trials + 1)
        logits.append(math.log(share / (1 - share)))
    return logits


@settings(deadline=None, max_examples=25)
@given(seed=seeds, rows=st.integers(16, 41), trials=st.integers(2, 6), blocks=st.sampled_from([4, 6, 8]))
def test_the_logits_are_those_of_the_textbook(seed: int, rows: int, trials: int, blocks: int) -> None:
    rng = np.random.default_rng(seed)
    returns = 1e-4 * rng.normal(0.1, 1, size=(rows, trials))
    returns[:, -1] *= rng.random(rows) < 0.1  # hardly ever trades
    found = backtest_overfitting(returns, blocks=blocks)
    expected = textbook_logits(returns, blocks)
    np.testing.assert_allclose(found.logits, expected, atol=1e-12)
    assert found.pbo == np.mean(np.array(expected) <= 0)
    assert found.logits.size == math.comb(blocks, blocks // 2)


def test_worthless_trials_overfit_and_one_good_one_does_not() -> None:
    rng = np.random.default_rng(0)
    noise = [backtest_overfitting(rng.normal(size=(400, 50)), blocks=8) for _ in range(40)]
    assert 0.4 < np.mean([one.pbo for one in noise]) < 0.65
    assert np.mean([one.slope for one in noise]) < 0, "what is won inside the span is lost outside"
    assert np.mean([one.loss_probability for one in noise]) > 0.4
    good = rng.normal(size=(400, 50))
    good[:, 17] += 0.3
    found = backtest_overfitting(good, blocks=8)
    assert found.pbo < 0.05
    assert found.loss_probability < 0.05


def test_it_is_a_rank_below_the_median_and_not_a_negative_ratio() -> None:
    """All trials earn, so none has a negative ratio out of sample; which one is best is still luck."""
    rich = np.random.default_rng(1).normal(1.0, 1.0, size=(400, 30))
    found = backtest_overfitting(rich, blocks=8)
    assert found.loss_probability == 0
    assert found.pbo > 0.3
    poor = np.random.default_rng(2).normal(-1.0, 1.0, size=(400, 30))
    poor[:, 3] += 0.5
    found = backtest_overfitting(poor, blocks=8)
    assert found.loss_probability == 1
    assert found.pbo < 0.05


@settings(deadline=None, max_examples=20)
@given(seed=seeds, scale=st.floats(1e-6, 1e3))
def test_neither_the_order_nor_the_size_of_the_trials_matters(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    returns = rng.normal(size=(60, 9))
    found = backtest_overfitting(returns, blocks=6)
    other = backtest_overfitting(scale * returns[:, rng.permutation(9)], blocks=6)
    np.testing.assert_allclose(other.logits, found.logits, atol=1e-12)
    assert other.slope == pytest.approx(found.slope, abs=1e-9)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from forexgpt_core.evaluation import cscv

    returns = np.random.default_rng(0).normal(size=(100, 20)).astype(np.float32)
    whole = backtest_overfitting(returns, blocks=10)
    monkeypatch.setattr(cscv, "_CELLS", 100)
    parts = backtest_overfitting(returns, blocks=10)
    np.testing.assert_array_equal(parts.logits, whole.logits)
    assert (parts.pbo, parts.slope) == (whole.pbo, pytest.approx(whole.slope))


def test_trials_that_are_all_alike_stand_at_the_median() -> None:
    one = np.random.default_rng(0).normal(size=(40, 1))
    found = backtest_overfitting(np.repeat(one, 5, axis=1), blocks=4)
    assert (found.logits == 0).all()
    assert found.pbo == 1
    idle = backtest_overfitting(np.zeros((40, 5)), blocks=4)
    assert (idle.logits == 0).all()
    assert math.isnan(idle.slope)


def test_blocks_fit_the_rows() -> None:
    assert [largest_blocks(rows) for rows in (7, 8, 11, 12, 31, 32, 5000)] == [0, 4, 4, 6, 14, 16, 16]


def test_bad_returns_are_refused_by_name() -> None:
    noise = np.random.default_rng(0).normal(size=(40, 3))
    with pytest.raises(TooFewRows, match="16 blocks need at least 32 rows of returns, found 31"):
        backtest_overfitting(noise[:31])
    with pytest.raises(ConstantTrial, match=r"trial 1 returns 0\.5 in all 40 rows"):
        backtest_overfitting(np.column_stack([noise[:, 0], np.full(40, 0.5)]), blocks=4)
    holed = noise.copy()
    holed[5, 2] = np.inf
    with pytest.raises(BadInput, match="trial 2 in row 5 is not finite"):
        backtest_overfitting(holed, blocks=4)
    with pytest.raises(BadInput, match="at least 2 trials"):
        backtest_overfitting(noise[:, :1], blocks=4)
    for blocks in (5, 2, 22):
        with pytest.raises(BadInput, match="even and between 4 and 20"):
            backtest_overfitting(noise, blocks=blocks)
