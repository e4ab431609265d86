"""Direction: its count, its error, its power, and the cases where a hit rate says nothing."""

import math

import numpy as np
import pytest
from evaluation_batches import batch, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from forexgpt_core.domain.forecasts import LEVELS, SCORES
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.call_trades import call_trades
from forexgpt_core.evaluation.direction import (
    detectable_hit_rate,
    direction,
    direction_calls,
    direction_power,
    direction_scores,
    needed_trials,
)
from forexgpt_core.evaluation.pairing import UnpairedReturns, UnsortedOrigins


def calling(signs: np.ndarray, horizons: tuple[int, ...] = (1,), slots: np.ndarray | None = None):
    medians = np.broadcast_to(np.asarray(signs, dtype=float)[:, None, None], (len(signs), len(horizons), 1))
    return batch(0.1 * medians + SCORES, horizons, slots=slots)


def test_direction_counts_right_signs_and_leaves_out_what_did_not_move() -> None:
    medians = np.array([1.0, 1.0, -1.0, -1.0, 1.0, 0.0])
    moves = np.array([0.5, -0.5, -0.5, 0.0, 2.0, 1.0])
    forecasts = batch((medians[:, None] * 0.1)[:, :, None] + SCORES, horizons=(1,))
    share, error = direction(forecasts, moves[:, None])
    calls, unmoved = direction_calls(forecasts, moves[:, None])
    assert (int(calls[0]), int(unmoved[0])) == (4, 1)
    assert share[0] == pytest.approx(3 / 4)
    assert error[0] == pytest.approx(math.sqrt(0.75 * 0.25 / 4))


def test_a_family_without_a_median_makes_no_call() -> None:
    forecasts, y = normal(50), np.random.default_rng(0).normal(size=(50, 2))
    rounding = batch(forecasts.quantiles + 1e-17)
    for driftless in (forecasts, rounding):
        share, error = direction(driftless, y)
        assert np.isnan(share).all()
        assert np.isnan(error).all()
        assert not direction_calls(driftless, y)[0].any()


def test_the_error_of_a_direction_allows_for_overlapping_labels() -> None:
    rng = np.random.default_rng(0)
    signs = np.repeat(rng.choice([-1.0, 1.0], 200), 10)  # ten rows share one outcome
    forecasts = batch(np.broadcast_to(0.1 + SCORES, (2000, 2, LEVELS.size)).copy(), horizons=(1, 10))
    _, error = direction(forecasts, np.stack([signs, signs], axis=1))
    assert error[1] > 2 * error[0]


@pytest.mark.parametrize("horizon", [1, 4])
def test_the_error_of_a_direction_is_how_much_it_varies(horizon: int) -> None:
    """Calls keep their side for long; measured 1.0 of the truth, and 0.88 at 4 bars with lags up to h - 1."""
    rng, n, runs = np.random.default_rng(horizon + 1), 1200, 500
    share, error = np.empty(runs), np.empty(runs)
    for run in range(runs):
        total = np.concatenate([[0.0], rng.normal(size=n + horizon - 1).cumsum()])
        signs = np.where(rng.random(n // 150) < 0.5, 1.0, -1.0).repeat(150)
        y = (total[horizon:] - total[:-horizon])[:, None]
        one, other = direction(calling(signs, horizons=(horizon,)), y)
        share[run], error[run] = one[0], other[0]
    assert 0.92 < error.mean() / share.std() < 1.1


@pytest.mark.parametrize(
    ("hit_rate", "trials"),
    [(0.51, 15_456), (0.52, 3863), (0.55, 617)],
)
def test_the_trials_that_a_small_edge_needs(hit_rate: float, trials: int) -> None:
    assert needed_trials(hit_rate) == pytest.approx(trials, abs=1), "published with normal scores of four digits"
    assert direction_power(trials, hit_rate) == pytest.approx(0.8, abs=0.015), "exact; hits are whole numbers"
    assert direction_power(trials, 0.5) <= 0.05
    assert detectable_hit_rate(trials) == pytest.approx(hit_rate, abs=1e-3)


@settings(deadline=None)
@given(
    trials=st.integers(1, 20_000),
    hit_rate=st.floats(0.0, 1.0),
    level=st.sampled_from([0.01, 0.05, 0.2]),
    chance=st.sampled_from([0.5, 0.58, 0.9]),
)
def test_power_is_that_of_the_exact_test(trials: int, hit_rate: float, level: float, chance: float) -> None:
    most = binom.isf(level, trials, chance)
    assert binom.sf(most, trials, chance) <= level < binom.sf(most - 1, trials, chance)
    found = direction_power(trials, hit_rate, level=level, chance=chance)
    assert found == pytest.approx(binom.sf(most, trials, hit_rate), abs=1e-9)


@settings(deadline=None)
@given(trials=st.integers(1, 20_000), power=st.floats(0.5, 0.99))
def test_a_detectable_rate_has_just_the_power_asked(trials: int, power: float) -> None:
    rate = detectable_hit_rate(trials, power=power)
    if trials < 5:
        assert math.isnan(rate), "even five in five are needed"
    else:
        assert direction_power(trials, rate) == pytest.approx(power, abs=1e-6)


def test_the_power_is_what_simulated_trials_show() -> None:
    trials, simulated = 617, 20_000
    hits = np.random.default_rng(0).binomial(trials, 0.55, size=simulated)
    shown = (binom.sf(hits - 1, trials, 0.5) <= 0.05).mean()
    assert shown == pytest.approx(direction_power(trials, 0.55), abs=4 * math.sqrt(0.16 / simulated))


def test_hit_rates_and_levels_that_make_no_test_are_refused_by_name() -> None:
    for wrong in (0.5, 0.4, 1.1):
        with pytest.raises(BadInput, match=r"hit_rate must lie in \(0\.5, 1\]"):
            needed_trials(wrong)
    with pytest.raises(BadInput, match=r"hit_rate must lie in \(0\.58, 1\]"):
        needed_trials(0.58, chance=0.58)
    with pytest.raises(BadInput, match=r"chance must lie in \[0\.5, 1\)"):
        needed_trials(0.6, chance=0.4)
    with pytest.raises(BadInput, match="level must lie in"):
        needed_trials(0.6, level=0.6)
    with pytest.raises(BadInput, match="power in"):
        detectable_hit_rate(10, power=1.0)
    with pytest.raises(BadInput, match="trials must be 1 or more, was 0"):
        direction_power(0, 0.6)


@pytest.mark.parametrize(
    ("moves", "why"),
    [(1.0, "all 30 called moves went up: one class"), (-1.0, "went down: one class"), (0.0, "no bar moved")],
)
def test_one_class_of_moves_is_answered_nan_by_name(moves: float, why: str) -> None:
    forecasts, y = calling(np.ones(30)), np.full((30, 1), moves)
    share, error = direction(forecasts, y)
    assert np.isnan(share[0])
    assert np.isnan(error[0])
    (score,) = direction_scores(forecasts, y)
    assert why in score.missing
    assert math.isnan(score.hit_rate)
    assert math.isnan(score.p_value)


def test_a_family_without_an_opinion_says_so() -> None:
    scores = direction_scores(normal(40), np.random.default_rng(0).normal(size=(40, 2)))
    assert {s.missing for s in scores} == {"no forecast has a direction"}
    assert all(s.calls == s.independent_calls == 0 and math.isnan(s.detectable) for s in scores)


def test_calls_that_only_lean_with_the_market_are_not_taken_for_skill() -> None:
    y = np.where(np.arange(1000) % 10 < 7, 1.0, -1.0)[:, None]  # 70 % up
    (always_up,) = direction_scores(calling(np.ones(1000)), y)
    assert always_up.hit_rate == pytest.approx(0.7)
    assert always_up.by_chance == pytest.approx(0.7)
    assert always_up.p_value > 0.4
    assert always_up.detectable == pytest.approx(detectable_hit_rate(1000, chance=0.7))
    assert always_up.detectable > 0.73, "what would show skill lies above what the lean gives for nothing"
    (right,) = direction_scores(calling(y[:, 0]), y)
    assert right.by_chance == pytest.approx(0.58)
    assert right.p_value < 1e-100


def test_the_p_value_counts_only_calls_that_do_not_overlap() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat(rng.choice([-1.0, 1.0], 40), 10)[:, None]
    signs = np.repeat(rng.choice([-1.0, 1.0], 40), 10)
    signs[:200] = y[:200, 0]
    (score,) = direction_scores(calling(signs, horizons=(10,)), y)
    hits = int((signs[::10] == y[::10, 0]).sum())
    assert (score.calls, score.independent_calls) == (400, 40)
    assert score.p_value == pytest.approx(binom.sf(hits - 1, 40, max(0.5, score.by_chance)))
    assert score.detectable == pytest.approx(detectable_hit_rate(40, chance=max(0.5, score.by_chance)))


@pytest.mark.slow
@pytest.mark.parametrize("horizon", [1, 12])
def test_calls_without_skill_are_called_skilled_in_at_most_five_percent(horizon: int) -> None:
    rng, runs, n = np.random.default_rng(0), 400, 600
    found = 0
    for _ in range(runs):
        steps = rng.normal(size=n + horizon - 1)
        total = np.concatenate([[0.0], steps.cumsum()])
        y = (total[horizon:] - total[:-horizon])[:, None]
        (score,) = direction_scores(calling(np.sign(rng.normal(size=n)), horizons=(horizon,)), y)
        found += score.p_value <= 0.05
    assert binom.sf(found - 1, runs, 0.05) > 0.005


def test_trades_do_not_overlap_and_pay_their_cost() -> None:
    signs = np.array([0, 1, 1, -1, 0, -1, 1, 1])
    y = np.array([9, 2, -8, 8, 9, 3, -5, 1], dtype=float)[:, None]
    every = call_trades(calling(signs), y)
    assert int(every.trades[0]) == 6
    assert every.win_rate[0] == pytest.approx(2 / 6)
    assert every.profit_factor[0] == pytest.approx((2 + 1) / (8 + 8 + 3 + 5))
    # held three bars: bar 1 to 4, the next call after it is that of bar 5, then that of bar 8 is too late
    held = call_trades(calling(signs, horizons=(3,)), y, round_trip_cost=1.0)
    assert int(held.trades[0]) == 2
    assert held.win_rate[0] == pytest.approx(1 / 2)
    assert held.profit_factor[0] == pytest.approx((2 - 1) / (3 + 1))
    assert held.mean_return[0] == pytest.approx((1 - 4) / 2)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cost=st.floats(0, 2))
def test_a_cost_never_helps_and_a_win_must_exceed_it(seed: int, cost: float) -> None:
    rng = np.random.default_rng(seed)
    forecasts, y = calling(rng.choice([-1, 0, 1], 60), horizons=(1, 5)), rng.normal(size=(60, 2))
    gross, net = call_trades(forecasts, y), call_trades(forecasts, y, round_trip_cost=cost)
    np.testing.assert_array_equal(gross.trades, net.trades)
    np.testing.assert_allclose(net.mean_return, gross.mean_return - cost)
    assert (net.win_rate <= gross.win_rate).all()
    per_row = call_trades(forecasts, y, round_trip_cost=np.full((60, 1), cost))
    np.testing.assert_array_equal(per_row.win_rate, net.win_rate)


def test_a_trade_on_a_bar_that_stood_still_is_no_win_and_without_losses_there_is_no_factor() -> None:
    still = call_trades(calling(np.ones(4)), np.array([[0.0], [1.0], [0.0], [1.0]]))
    assert (int(still.trades[0]), float(still.win_rate[0])) == (4, 0.5)
    assert np.isnan(still.profit_factor[0])
    none = call_trades(normal(5), np.ones((5, 2)))
    assert list(none.trades) == [0, 0]
    assert np.isnan([none.win_rate, none.profit_factor, none.mean_return]).all()


def test_trades_that_cannot_be_told_are_refused_by_name() -> None:
    forecasts, y = calling(np.ones(4)), np.ones((4, 1))
    for cost in (-1.0, math.nan):
        with pytest.raises(BadInput, match="round_trip_cost must be finite and 0 or more"):
            call_trades(forecasts, y, round_trip_cost=cost)
    with pytest.raises(BadInput, match=r"round_trip_cost of shape \(3,\) does not fit"):
        call_trades(forecasts, y, round_trip_cost=np.ones(3))
    with pytest.raises(UnpairedReturns, match="not known"):
        call_trades(forecasts, np.array([[1.0], [1.0], [1.0], [math.nan]]))
    with pytest.raises(UnsortedOrigins, match="row 2"):
        call_trades(calling(np.ones(4), slots=np.array([0, 2, 1, 3])), y)
    with pytest.raises(UnsortedOrigins, match="row 2"):
        direction_scores(calling(np.ones(4), slots=np.array([0, 2, 1, 3])), y)
