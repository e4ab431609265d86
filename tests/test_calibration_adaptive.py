"""Adaptive conformal calibration: its bound for any sequence, its memory, and what it does for wild times."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.calibration.adaptive import AdaptiveCalibrator, AdaptiveSettings
from forexgpt_core.calibration.conformal import ConformalCalibrator, exact_rank, radius_or_infinity
from forexgpt_core.calibration.online import aci
from forexgpt_core.calibration.ranks import MISCOVERAGES, outside, widened
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.errors import BadInput, BundleError

HORIZONS = (1, 4)
HOUR = np.timedelta64(3600, "s")
FEW = AdaptiveSettings(gammas=(0.0, 0.01, 0.1), window_scores=40)


def batch(
    scale: np.ndarray, rows: np.ndarray, width: float = 0.7, horizons: tuple[int, ...] = HORIZONS
) -> ForecastBatch:
    scales = np.repeat(scale[:, None], len(horizons), axis=1)
    return ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family="forest",
        origin_utc=np.datetime64("2018-01-01", "us") + rows * HOUR,
        horizons_bars=horizons,
        quantiles=width * scales[..., None] * SCORES,
        scale=scales,
    )


def market(n: int, seed: int, gaps: float = 0.0) -> tuple[ForecastBatch, np.ndarray, np.ndarray]:
    """Forecasts, returns that turn wilder now and then, and rows with some bars left out."""
    rng = np.random.default_rng(seed)
    rows = np.cumsum(1 + rng.geometric(1 - gaps, n) - 1 if gaps else np.ones(n, dtype=int))
    scale = 1e-3 * np.exp(0.3 * rng.normal(size=n))
    hidden = np.where(np.arange(n) // 30 % 2, 2.0, 0.7)
    return batch(scale, rows), scale[:, None] * hidden[:, None] * rng.normal(size=(n, len(HORIZONS))), rows


def started(
    n: int, seed: int, settings: AdaptiveSettings = FEW, gaps: float = 0.0, past: int = 30
) -> tuple[AdaptiveCalibrator, ForecastBatch, np.ndarray, np.ndarray]:
    forecasts, returns, rows = market(n + past, seed, gaps)
    head = np.arange(n + past) < past
    state = AdaptiveCalibrator.start(forecasts.take(head), returns[head], rows[head], settings=settings)
    return state, forecasts.take(~head), returns[~head], rows[~head]


def same(a: AdaptiveCalibrator, b: AdaptiveCalibrator) -> bool:
    return json.dumps(a.to_document()) == json.dumps(b.to_document())


def stepped(
    state: AdaptiveCalibrator, forecasts: ForecastBatch, returns: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, AdaptiveCalibrator]:
    """Walk as live forecasting does: at each bar, first what has come of earlier ones, then the newest forecast."""
    known = dict(zip(forecasts.origin_utc, returns))
    nothing = np.full(len(HORIZONS), np.nan)
    made = []
    for i in range(len(forecasts)):
        due = state.pending.rows[:, None] + np.array(HORIZONS) <= rows[i]
        outcomes = [known.get(origin, nothing) for origin in state.pending.origin_utc]
        state = state.observe(int(rows[i]), np.where(due, np.array(outcomes).reshape(due.shape), np.nan))
        one, state = state.apply(forecasts.take(np.array([i])), int(rows[i]))
        made.append(one.quantiles[0])
    return np.array(made), state


# ---- the bound of ACI, for any sequence


def bound(gamma: float, start: float, steps: int) -> float:
    return (max(start, 1 - start) + gamma) / (gamma * steps)


def nasty(kind: str, steps: int, seed: int = 0) -> np.ndarray:
    rng, t = np.random.default_rng(seed), np.arange(steps)
    return {
        "always a new worst": 1.0 * t,
        "always a new best": -1.0 * t,
        "regimes": np.abs(rng.normal(size=steps)) * np.where(t // 617 % 2, 9.0, 1.0),
        "exploding": np.abs(rng.standard_cauchy(size=steps)) * np.exp(t / steps * 20),
        "constant": np.ones(steps),
        "alternating": np.where(t % 2, 1e6, -1e6),
    }[kind]


@pytest.mark.parametrize("gamma", [0.005, 0.05])
@pytest.mark.parametrize(
    "kind", ["always a new worst", "always a new best", "regimes", "exploding", "constant", "alternating"]
)
@pytest.mark.parametrize("window", [None, 100])
def test_the_share_of_misses_keeps_its_bound_on_nasty_sequences(kind: str, gamma: float, window: int | None) -> None:
    """Without infinite radii an always worse score would be missed every time."""
    path = aci(nasty(kind, 5000), 0.1, gamma=gamma, window=window)
    assert abs(path.missed.mean() - 0.1) <= bound(gamma, 0.1, 5000)


def test_a_static_radius_breaks_that_bound() -> None:
    """The trap named "adaptive that never uses its rate": the assertion above fails for a rate of 0."""
    missed = aci(nasty("always a new worst", 5000), 0.1, gamma=0.0).missed.mean()
    assert missed > 0.99 > 0.1 + bound(0.005, 0.1, 5000)
    assert missed > 0.1 + bound(0.05, 0.1, 5000)


@settings(max_examples=150, deadline=None)
@given(
    scores=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300),
    alpha=st.sampled_from([0.05, 0.1, 0.2, 0.5]),
    gamma=st.floats(0.001, 1.0),
    start=st.floats(0.0, 1.0),
    window=st.sampled_from([None, 1, 7, 50]),
)
def test_the_bound_holds_for_any_sequence(
    scores: list[float], alpha: float, gamma: float, start: float, window: int | None
) -> None:
    path = aci(np.array(scores), alpha, gamma=gamma, start=start, window=window)
    assert abs(path.missed.mean() - alpha) <= bound(gamma, start, len(scores)) + 1e-9
    assert -gamma - 1e-9 <= path.last <= 1 + gamma + 1e-9


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), delay=st.integers(1, 24), gamma=st.sampled_from([0.005, 0.05]))
def test_feedback_that_comes_late_adds_at_most_its_delay(seed: int, delay: int, gamma: float) -> None:
    """The working miscoverage can overrun by `delay` steps before it hears of it; misses not heard of count too."""
    steps = 1500
    scores = np.random.default_rng(seed).standard_cauchy(steps).cumsum()
    path = aci(scores, 0.1, gamma=gamma, delay=delay)
    heard = path.missed[: steps - delay]
    assert abs(heard.mean() - 0.1) <= (0.9 + delay * gamma) / (gamma * heard.size)


def test_infinite_at_zero_and_empty_at_one() -> None:
    scores = np.arange(50.0)
    assert aci(scores, 0.1, gamma=0.0, start=0.0, past=scores).radii[0] == math.inf
    assert aci(scores, 0.1, gamma=0.0, start=1.0, past=scores).radii[0] == -math.inf
    assert aci(scores, 0.1, gamma=0.0, past=scores[:8]).radii[0] == math.inf
    assert aci(scores, 0.1, gamma=0.0, past=scores[:9]).radii[0] == 8.0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), window=st.integers(1, 60), alpha=st.sampled_from([0.05, 0.1, 0.5]))
def test_a_rate_of_zero_is_the_rolling_exact_rank(seed: int, window: int, alpha: float) -> None:
    scores = np.round(np.random.default_rng(seed).normal(size=90), 1)  # with ties
    path = aci(scores, alpha, gamma=0.0, window=window)
    assert path.radii.tolist() == [radius_or_infinity(scores[max(0, t - window) : t], alpha) for t in range(90)]


@pytest.mark.parametrize(
    ("scores", "changes"),
    [
        (np.array([1.0, np.nan]), {}),
        (np.array([1.0, np.inf]), {}),
        (np.ones(3), {"gamma": -0.1}),
        (np.ones(3), {"delay": 0}),
        (np.ones(3), {"window": 0}),
    ],
)
def test_what_is_no_sequence_is_refused(scores: np.ndarray, changes: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=r"finite numbers|expected miscoverage"):
        aci(scores, 0.1, **{"gamma": 0.01} | changes)


# ---- the calibrator against a plain rewrite of its definition


def plainly(
    scores: np.ndarray, rows: np.ndarray, past: int, horizon: int, alpha: float, chosen: AdaptiveSettings
) -> np.ndarray:
    """Return the average radius at each origin after the first `past`, by the words of the docstrings alone."""
    gammas, experts = np.array(chosen.gammas), len(chosen.gammas)
    window: list[float] = []
    working, regret, spread, largest = np.full(experts, alpha), np.zeros(experts), 0.0, 0.0
    made: dict[int, tuple[np.ndarray, np.ndarray, float]] = {}
    fed = 0

    def rate() -> float:
        return min(1 / (2 * largest), math.sqrt(math.log(experts) / spread)) if largest else 0.0

    def radius(alpha: float, held: np.ndarray) -> float:
        if not 0 < alpha < 1:
            return math.inf if alpha <= 0 else -math.inf
        rank = exact_rank(held.size, alpha)
        return math.inf if rank > held.size else float(held[rank - 1])

    def shares() -> np.ndarray:
        raw = np.exp(rate() * (regret - regret.max()))
        return raw / raw.sum()

    for i in range(past, len(scores)):
        while fed < i and rows[fed] + horizon <= rows[i]:
            score = scores[fed]
            if fed >= past:
                radii, bounded, average = made[fed]
                working = working + gammas * (alpha - (score > radii))
                step = (-(1 - alpha) if score > average else alpha) * (average - bounded)
                if experts > 1:
                    spread += float((shares() * step**2).sum())
                    largest = max(largest, float(np.abs(step).max()))
                    regret = regret + step - rate() * step**2
            window = [*window, score][-chosen.window_scores :]
            fed += 1
        held = np.sort(window)
        radii = np.array([radius(one, held) for one in working])
        bounded = np.clip(radii, held[0], held[-1] + abs(held[-1]))
        made[i] = radii, bounded, float(shares() @ bounded)
    return np.array([made[i][2] for i in range(past, len(scores))])


@pytest.mark.parametrize("chosen", [FEW, AdaptiveSettings(gammas=(0.2,), window_scores=25)])
@pytest.mark.parametrize("gaps", [0.0, 0.4])
def test_it_does_what_its_definition_says(chosen: AdaptiveSettings, gaps: float) -> None:
    state, forecasts, returns, rows = started(400, 3, chosen, gaps)
    calibrated, _ = state.follow(forecasts, returns, rows)
    every, outcomes, places = market(430, 3, gaps)
    scores = outside(every, outcomes) / every.scale[..., None]
    radii = np.array(
        [
            [plainly(scores[:, h, k], places, 30, horizon, alpha, chosen) for k, alpha in enumerate(MISCOVERAGES)]
            for h, horizon in enumerate(HORIZONS)
        ]
    ).transpose(2, 0, 1)
    expected = widened(forecasts.quantiles, radii * forecasts.scale[..., None])
    np.testing.assert_allclose(calibrated.quantiles, expected, rtol=1e-8, atol=1e-14)


# ---- stepping, memory and time


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60), gaps=st.sampled_from([0.0, 0.3]))
def test_stepping_bar_by_bar_is_following_in_batch_to_the_last_bit(seed: int, n: int, gaps: float) -> None:
    state, forecasts, returns, rows = started(n, seed, gaps=gaps)
    whole, after = state.follow(forecasts, returns, rows)
    made, end = stepped(state, forecasts, returns, rows)
    assert np.array_equal(made, whole.quantiles)
    told = end.told(after.pending.returns)  # a batch has been told the newest outcomes already, before they are due
    assert same(told, after)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 80))
def test_two_batches_are_one(seed: int, cut: int) -> None:
    state, forecasts, returns, rows = started(80, seed, gaps=0.2)
    whole, after = state.follow(forecasts, returns, rows)
    head = np.arange(80) < cut
    first, middle = state.follow(forecasts.take(head), returns[head], rows[head])
    second, end = middle.follow(forecasts.take(~head), returns[~head], rows[~head])
    assert np.array_equal(np.concatenate([first.quantiles, second.quantiles]), whole.quantiles)
    assert same(end, after)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 40))
def test_a_state_survives_json_to_the_last_bit(seed: int, n: int) -> None:
    state, forecasts, returns, rows = started(n, seed)
    _, after = state.follow(forecasts, returns, rows)
    again = AdaptiveCalibrator.from_document(json.loads(json.dumps(after.to_document())))
    assert same(again, after)
    later, outcomes, places = market(120, seed + 1)
    later = replace(later, origin_utc=later.origin_utc + 10_000 * HOUR)
    ours, theirs = (s.follow(later, outcomes, places + 10_000)[0] for s in (after, again))
    assert np.array_equal(ours.quantiles, theirs.quantiles)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), i=st.integers(0, 59))
def test_outcomes_that_are_not_due_change_nothing(seed: int, i: int) -> None:
    state, forecasts, returns, rows = started(60, seed, gaps=0.2)
    later = rows[:, None] + np.array(HORIZONS) > rows[i]
    calibrated, _ = state.follow(forecasts, returns, rows)
    other, _ = state.follow(forecasts, np.where(later, 1.0, returns), rows)
    assert np.array_equal(calibrated.quantiles[: i + 1], other.quantiles[: i + 1])
    if i < 59:
        due = ~later & (rows[:, None] + np.array(HORIZONS) <= rows[i])
        changed, _ = state.follow(forecasts, np.where(due, 1.0, returns), rows)
        assert not due.any() or not np.array_equal(calibrated.quantiles, changed.quantiles)


def test_the_end_of_the_calibration_block_is_not_known_before_its_time() -> None:
    forecasts, returns, rows = market(31, 5)
    head = np.arange(31) < 30
    outcomes = returns[head]
    outcomes[-3:, 1] = 50.0  # over four bars: not known at the block's last row, nor at the next
    a, b = (
        AdaptiveCalibrator.start(forecasts.take(head), r, rows[head], settings=FEW) for r in (returns[head], outcomes)
    )
    assert a.learned.size.tolist() == [29, 26]
    after = [s.follow(forecasts.take(~head), returns[~head], rows[~head])[0].quantiles for s in (a, b)]
    assert np.array_equal(after[0], after[1])


def test_the_same_bar_again_changes_nothing() -> None:
    state, forecasts, _, rows = started(10, 6)
    for i in range(10):
        one = forecasts.take(np.array([i]))
        first, after = state.apply(one, int(rows[i]))
        second, again = after.apply(one, int(rows[i]))
        assert np.array_equal(first.quantiles, second.quantiles)
        assert (first.calibrator, second.calibrator) == (f"adaptive v{i + 1}",) * 2
        assert again is after
        outcomes = np.full(after.pending.returns.shape, 1e-4)
        state = after.observe(int(rows[i]) + 1, outcomes)
        assert same(state.observe(int(rows[i]) + 1, np.full(state.pending.returns.shape, np.nan)), state)
    assert state.version == 10
    with pytest.raises(BadInput, match="cannot go back"):
        state.apply(forecasts.take(np.array([3])), int(rows[3]))


def test_a_bar_that_vanished_is_lost_and_counted_and_rows_are_found_by_time() -> None:
    state, forecasts, returns, rows = started(20, 7)
    _, after = state.follow(forecasts, np.full_like(returns, np.nan), rows)
    assert after.learned.fed[:, 1].tolist() == [19, 16]  # due, but nobody knew them
    waiting = after.pending.waiting.sum(axis=1)
    stamps = np.datetime64("2018-01-01", "us") + np.arange(100) * HOUR
    shifted = after.placed(stamps[10:])
    assert np.array_equal(shifted.pending.rows, after.pending.rows - 10)
    gone = after.placed(stamps[stamps != after.pending.origin_utc[-1]])
    assert len(gone.pending) == len(after.pending) - 1
    assert (gone.learned.fed[:, 1] - after.learned.fed[:, 1]).tolist() == [1, 1]
    assert len(after.placed(stamps[:0]).pending) == 0
    assert (after.placed(stamps[:0]).learned.fed[:, 1] - after.learned.fed[:, 1] == waiting).all()


# ---- what it gives


def test_it_reacts_to_its_rate() -> None:
    _, forecasts, returns, rows = started(300, 8)
    made = {}
    for gamma in (0.0, 0.005, 0.1):
        chosen = AdaptiveSettings(gammas=(gamma,), window_scores=100)
        made[gamma] = started(300, 8, chosen)[0].follow(forecasts, returns, rows)[0].quantiles
    assert not np.allclose(made[0.0], made[0.005])
    assert not np.allclose(made[0.005], made[0.1])


def test_radii_that_are_infinite_are_bounded_and_counted() -> None:
    chosen = AdaptiveSettings(gammas=(0.2,), window_scores=50)
    state, forecasts, _, rows = started(60, 9, chosen)
    worse = forecasts.scale * (10.0 + np.arange(60)[:, None])
    calibrated, after = state.follow(forecasts, worse, rows)
    assert np.isfinite(calibrated.quantiles).all()
    assert (after.learned.capped > 0).all()
    assert (after.learned.capped < 60).all()
    largest = (worse / forecasts.scale).max() * 2 + 10
    assert (np.abs(calibrated.quantiles) <= largest * forecasts.scale[..., None]).all()


def test_without_any_score_the_model_is_left_as_it_is() -> None:
    forecasts, returns, rows = market(2, 10)
    one = np.arange(2) == 0
    state = AdaptiveCalibrator.start(forecasts.take(one), returns[one], rows[one], settings=FEW)
    calibrated, after = state.follow(forecasts.take(~one), returns[~one], rows[~one])
    assert np.array_equal(calibrated.quantiles[:, 1], forecasts.quantiles[1:, 1])
    assert after.learned.capped[1].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("seed", range(3))
def test_many_rates_lose_little_against_the_best_of_them(seed: int) -> None:
    """Pinball loss of the radius, in scales, over a market that changes its ways every thousand bars."""
    rng = np.random.default_rng(seed)
    n = 8000
    rows, scale = np.arange(n), np.full(n, 1e-3)
    forecasts = batch(scale, rows, horizons=(1,))
    returns = (scale * np.where(rows // 1000 % 2, 2.5, 0.8) * rng.normal(size=n))[:, None]
    scores = outside(forecasts, returns)[:, 0, 2] / scale
    head = rows < 500

    def loss(gammas: tuple[float, ...]) -> float:
        chosen = AdaptiveSettings(gammas=gammas)
        state = AdaptiveCalibrator.start(forecasts.take(head), returns[head], rows[head], settings=chosen)
        after = state.follow(forecasts.take(~head), returns[~head], rows[~head])[0]
        radius = (after.quantiles[:, 0, 7] - forecasts.quantiles[~head, 0, 7]) / scale[~head]
        miss = scores[~head] - radius
        return float(np.maximum(0.9 * miss, -0.1 * miss).mean())

    grid = AdaptiveSettings().gammas
    alone = [loss((gamma,)) for gamma in grid]
    assert loss(grid) < min(alone) * 1.03
    assert loss(grid) < alone[0] * 0.97  # the one that never adapts


# ---- refusals and files


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"gammas": ()}, "increasing"),
        ({"gammas": (0.1, 0.01)}, "increasing"),
        ({"gammas": (-0.1, 0.1)}, "between 0 and 1"),
        ({"window_scores": 5}, "at least 20"),
    ],
)
def test_settings_are_checked_at_birth(changes: dict[str, object], text: str) -> None:
    with pytest.raises(BadInput, match=text):
        AdaptiveSettings(**changes)


def test_forecasts_out_of_order_of_another_horizon_or_without_volatility_are_refused() -> None:
    """The trap named "random permutation as split": rows out of time are no calibration block."""
    state, forecasts, returns, rows = started(20, 11)
    mixed = np.random.default_rng(0).permutation(20)
    with pytest.raises(BadInput, match="time order"):
        state.follow(forecasts.take(mixed), returns[mixed], rows[mixed])
    with pytest.raises(BadInput, match="time order"):
        AdaptiveCalibrator.start(forecasts.take(mixed), returns[mixed], rows[mixed])
    with pytest.raises(BadInput, match="horizons"):
        state.follow(replace(forecasts, horizons_bars=(1, 2)), returns, rows)
    with pytest.raises(BadInput, match="not above 0"):
        state.follow(replace(forecasts, scale=np.zeros_like(forecasts.scale)), returns, rows)
    with pytest.raises(BadInput, match="shape"):
        state.follow(forecasts, returns[:3], rows)
    with pytest.raises(BadInput, match="rows must be 20"):
        state.follow(forecasts, returns, rows[:3])
    with pytest.raises(BadInput, match="no forecast"):
        AdaptiveCalibrator.start(forecasts.take(rows < 0), returns[rows < 0], rows[rows < 0])
    with pytest.raises(BadInput, match="outcomes must be"):
        state.observe(5, np.full((1, 9), np.nan))
    with pytest.raises(BadInput, match="row 3"):
        state.follow(forecasts, returns, np.arange(3, 23))
    assert state.follow(forecasts.take(rows < 0), returns[rows < 0], rows[rows < 0])[1] is state


def test_a_file_keeps_the_state_and_another_is_refused(tmp_path: Path) -> None:
    state, *_ = started(5, 12)
    state.save(tmp_path)
    assert same(AdaptiveCalibrator.load(tmp_path), state)
    document = state.to_document()
    for changes in ({"format": 2}, {"coverages": [50]}, {"learned": {}}, {"horizons_bars": [1, 4, 8]}):
        (tmp_path / "adaptive.json").write_text(json.dumps(document | changes))
        with pytest.raises(BundleError, match="cannot be read"):
            AdaptiveCalibrator.load(tmp_path)
    document["learned"]["scores"]["base64"] = "!!!"
    with pytest.raises(BadInput, match="no adaptive state"):
        AdaptiveCalibrator.from_document(document)


# ---- volatility that moves: GARCH(1,1) with Student-t shocks


def garch(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return returns and their true volatility: omega for a variance of 1e-6, alpha .09, beta .90, t of 6 degrees."""
    rng = np.random.default_rng(seed)
    shocks = rng.standard_t(6, n) * math.sqrt(4 / 6)
    variance = np.empty(n)
    variance[0] = 1e-6
    returns = np.empty(n)
    for t in range(n):  # a recursion
        returns[t] = math.sqrt(variance[t]) * shocks[t]
        if t + 1 < n:
            variance[t + 1] = 1e-8 + 0.09 * returns[t] ** 2 + 0.90 * variance[t]
    return returns, np.sqrt(variance)


def ewma(returns: np.ndarray, decay: float = 0.94) -> np.ndarray:
    """Return the volatility known before each return."""
    variance = np.empty(returns.size)
    variance[0] = returns[:100].var()
    for t in range(1, returns.size):
        variance[t] = decay * variance[t - 1] + (1 - decay) * returns[t - 1] ** 2
    return np.sqrt(variance)


def coverages(forecasts: ForecastBatch, returns: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return the coverage of the 90 % interval, overall and in the top decile of the true volatility."""
    inside = (forecasts.quantiles[:, 0, 1] <= returns) & (returns <= forecasts.quantiles[:, 0, 7])
    return float(inside.mean()), float(inside[truth > np.quantile(truth, 0.9)].mean())


@pytest.mark.slow
def test_wild_times_are_covered_when_scores_are_normalised_and_adaptive() -> None:
    """The table of the reference, on our own classes: marginal and top-decile coverage at a target of .90, 30 seeds."""
    found: dict[str, list[tuple[float, float]]] = {}
    n, past = 5000, 1000
    rows = np.arange(n)
    head = rows < past
    for seed in range(30):
        returns, truth = garch(n, seed)
        labels = returns[:, None]
        flat = batch(np.full(n, returns[:past].std()), rows, horizons=(1,))
        alive = batch(ewma(returns), rows, horizons=(1,))

        def judge(name: str, made: ForecastBatch, returns: np.ndarray = returns, truth: np.ndarray = truth) -> None:
            found.setdefault(name, []).append(coverages(made, returns[~head], truth[~head]))

        def adaptive(base: ForecastBatch, labels: np.ndarray = labels, **chosen: object) -> ForecastBatch:
            settings = AdaptiveSettings(**chosen)
            state = AdaptiveCalibrator.start(base.take(head), labels[head], rows[head], settings=settings)
            return state.follow(base.take(~head), labels[~head], rows[~head])[0]

        for name, base, method in (("static", flat, "plain"), ("normalised", alive, "normalised")):
            judge(name, ConformalCalibrator.fit(base.take(head), labels[head], method=method).apply(base.take(~head)))
        judge("rolling 250", adaptive(flat, gammas=(0.0,), window_scores=250))
        judge("ACI .005", adaptive(flat, gammas=(0.005,)))
        judge("ACI .02", adaptive(flat, gammas=(0.02,)))
        judge("normalised ACI", adaptive(alive, gammas=(0.005,)))
        judge("normalised AgACI", adaptive(alive))
    table = {name: np.mean(pairs, axis=0) for name, pairs in found.items()}
    expected = {  # marginal, its tolerance, top decile, its tolerance
        "static": (0.908, 0.015, 0.70, 0.06),
        "rolling 250": (0.897, 0.01, 0.771, 0.04),
        "ACI .005": (0.900, 0.005, 0.833, 0.04),
        "ACI .02": (0.900, 0.005, 0.901, 0.02),
        "normalised": (0.899, 0.01, 0.923, 0.02),
        "normalised ACI": (0.900, 0.005, 0.938, 0.02),
        "normalised AgACI": (0.900, 0.005, 0.938, 0.02),
    }
    for name, (marginal, near, top, about) in expected.items():
        assert abs(table[name][0] - marginal) <= near, (name, table[name])
        assert abs(table[name][1] - top) <= about, (name, table[name])
    assert table["static"][1] < 0.8 < 0.87 <= min(table["normalised ACI"][1], table["normalised AgACI"][1])
