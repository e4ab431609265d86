"""The compiled walk of adaptive conformal inference: radii that learn from every miss, as soon as it is known.

Adaptive conformal inference (ACI) keeps a working miscoverage a. It forecasts with the radius of the exact rank at a
and, once the outcome is known, moves a by gamma (alpha - miss): a miss widens what follows, a hit narrows it. Where a
is 0 or less the radius is infinite, where a is 1 or more the interval is empty, and this alone, whatever the sequence,
keeps the share of misses within (max(a_1, 1 - a_1) + gamma) / (gamma T) of alpha over T steps.

Several gammas run side by side as experts. Their radii are averaged with weights of Bernstein online aggregation on the
pinball loss of the radius at level 1 - alpha, in its gradient form, with one learning rate
min(1 / 2B, sqrt(ln E / V)) for all experts, where B is the largest regret so far and V the sum of their weighted
squares. One rate rather than one per expert: an expert that stays close to the average would otherwise be given an ever
larger rate for agreeing with it. An average needs finite radii: an infinite one counts as the largest score of the
window and as much again, an empty one as the smallest score, for the average alone; the experts keep theirs.

Sources: Gibbs and Candes (2021), arXiv:2106.00170, ACI and its bound; Zaffran et al. (2022), arXiv:2202.07282, AgACI;
Wintenberger (2017), Machine Learning 106, Bernstein online aggregation.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.domain.forecasts import Floats
from forexgpt_core.errors import BadInput
from forexgpt_core.features.kernels import compiled

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@compiled
def _expert_radius(ordered: Floats, size: int, alpha: float) -> float:
    """Return the score of the exact rank at a working miscoverage: inf at 0 and below, -inf at 1 and above."""
    if alpha <= 0.0:
        return math.inf
    if alpha >= 1.0:
        return -math.inf
    rank = max(math.ceil((size + 1) * (1.0 - alpha) - 1e-9), 1)
    return float(ordered[rank - 1]) if rank <= size else math.inf


@compiled
def _shares(regrets: Floats, spread: float, largest: float) -> Floats:
    """Return the weights of the experts, equal before they ever differed; shape (E,)."""
    experts = regrets.size
    shares = np.full(experts, 1.0 / experts)
    if largest <= 0.0:
        return shares
    rate = min(0.5 / largest, math.sqrt(math.log(experts) / spread))
    top = regrets.max()
    total = 0.0
    for e in range(experts):
        shares[e] = math.exp(rate * (regrets[e] - top))
        total += shares[e]
    return shares / total


@compiled
def _replace(ordered: Floats, size: int, old: float, new: float) -> None:
    """Put `new` in the place of one `old` in an ascending array, or add it where `size` still lacks it (old is NaN)."""
    place = size if old != old else np.searchsorted(ordered[:size], old)
    while place > 0 and ordered[place - 1] > new:
        ordered[place] = ordered[place - 1]
        place -= 1
    while old == old and place + 1 < size and ordered[place + 1] < new:
        ordered[place] = ordered[place + 1]
        place += 1
    ordered[place] = new


@compiled
def _learn(
    misses: Floats, alpha: float, gammas: Floats, working: Floats, regrets: Floats, gradient: Floats, moments: Floats
) -> None:
    """Move every expert's working miscoverage, and the experts' regrets; all in place.

    Args:
        misses: (E,) 1 where the outcome lay outside the expert's interval.
        gradient: (E,) regret of the average against each expert, on the linearised pinball loss.
        moments: V and B.
    """
    for e in range(gammas.size):
        working[e] += gammas[e] * (alpha - misses[e])
    if gammas.size == 1:
        return
    shares = _shares(regrets, moments[0], moments[1])
    for e in range(gammas.size):
        moments[0] += shares[e] * gradient[e] * gradient[e]
        moments[1] = max(moments[1], abs(gradient[e]))
    if moments[0] > 0.0:
        rate = min(0.5 / moments[1], math.sqrt(math.log(gammas.size) / moments[0]))
        for e in range(gammas.size):
            regrets[e] += gradient[e] - rate * gradient[e] * gradient[e]


@compiled
def walk(
    horizon: int,
    until: int,
    first_new: int,
    rows: Ints,
    offsets: Floats,
    waiting: Bools,
    radii: Floats,
    mixed: Floats,
    bounds: Floats,
    alphas: Floats,
    gammas: Floats,
    scores: Floats,
    size: int,
    working: Floats,
    regrets: Floats,
    moments: Floats,
    missed: Ints,
    capped: Ints,
    fed: Ints,
) -> int:
    """Walk one horizon along its origins: before each, learn from what is due; at each, give radii. All in place.

    Args:
        horizon: bars until an outcome is known: that of origin j at row rows[j] + horizon.
        until: row up to which outcomes are due after the last origin.
        first_new: origins before it have their radii already and only wait for outcomes.
        rows: (m,) increasing.
        offsets: (m, K) score of every outcome in scales, NaN where it is not known (even when due: then it is lost).
        waiting: (m,) whether the outcome has still to be learnt from.
        radii: (m, K, E) of every expert, not bounded; NaN for origins that only lend their score to the window.
        mixed: (m, K) average radius.
        bounds: (m, K, 2) what an empty and an infinite radius counted as in it.
        alphas: (K,) miscoverage asked for.
        gammas: (E,) step of each expert.
        scores: (K, W) window, oldest first, of which `size` are there.
        working: (K, E) working miscoverages.
        regrets: (K, E), moments: (K, 2), of the aggregation.
        missed: (K,) outcomes outside the average interval. fed: (2,) outcomes learnt from, and lost.
        capped: (K,) origins at which experts without a finite radius had more than half the weight.

    Returns:
        How many scores the window holds now.
    """
    m, levels, experts, window = rows.size, alphas.size, gammas.size, scores.shape[1]
    ordered = np.empty((levels, window))
    for k in range(levels):
        ordered[k, :size] = np.sort(scores[k, :size])
    oldest = 0
    due = 0
    misses, gradient = np.empty(experts), np.empty(experts)
    for i in range(first_new, m + 1):
        now = rows[i] if i < m else until
        while due < i and rows[due] + horizon <= now:
            j = due
            due += 1
            if not waiting[j]:
                continue
            waiting[j] = False
            if offsets[j, 0] != offsets[j, 0]:
                fed[1] += 1
                continue
            judged = mixed[j, 0] == mixed[j, 0]
            fed[0] += 1 if judged else 0
            place = size if size < window else oldest
            for k in range(levels):
                score = offsets[j, k]
                if judged:
                    slope = -(1.0 - alphas[k]) if score > mixed[j, k] else alphas[k]
                    missed[k] += 1 if score > mixed[j, k] else 0
                    for e in range(experts):
                        misses[e] = 1.0 if score > radii[j, k, e] else 0.0
                        bounded = min(max(radii[j, k, e], bounds[j, k, 0]), bounds[j, k, 1])
                        gradient[e] = slope * (mixed[j, k] - bounded)
                    _learn(misses, alphas[k], gammas, working[k], regrets[k], gradient, moments[k])
                if window > 0:
                    _replace(ordered[k], size, scores[k, place] if size == window else np.nan, score)
                    scores[k, place] = score
            if window > 0 and size == window:
                oldest = (oldest + 1) % window
            elif window > 0:
                size += 1
        if i == m:
            break
        for k in range(levels):
            if size > 0:
                top = ordered[k, size - 1]
                bounds[i, k, 0] = ordered[k, 0]
                bounds[i, k, 1] = top + abs(top)
            else:
                bounds[i, k, :] = 0.0
            shares = _shares(regrets[k], moments[k, 0], moments[k, 1])
            average, unbounded = 0.0, 0.0
            for e in range(experts):
                radius = _expert_radius(ordered[k], size, working[k, e])
                radii[i, k, e] = radius
                average += shares[e] * min(max(radius, bounds[i, k, 0]), bounds[i, k, 1])
                unbounded += shares[e] if math.isinf(radius) else 0.0
            mixed[i, k] = average
            capped[k] += 1 if unbounded > 0.5 else 0
    for k in range(levels):
        turned = np.empty(size)
        for n in range(size):
            turned[n] = scores[k, (oldest + n) % size]
        scores[k, :size] = turned
    return size


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AciPath:
    """What adaptive conformal inference did along one sequence.

    Attributes:
        radii: (T,) infinite where the interval is the whole line, minus infinite where it is empty.
        missed: (T,) whether the score lay above the radius.
        last: working miscoverage after every outcome that came within the sequence.
    """

    radii: Floats
    missed: Bools
    last: float


def aci(
    scores: Floats,
    miscoverage: float,
    *,
    gamma: float,
    start: float | None = None,
    window: int | None = None,
    past: Floats | None = None,
    delay: int = 1,
) -> AciPath:
    """Return the radii of adaptive conformal inference along a sequence, each made before its score was known.

    Args:
        scores: (T,) in time order.
        miscoverage: share of scores allowed above their radius, in (0, 1).
        gamma: step, 0 for a rolling window that never adapts.
        start: working miscoverage at the beginning; by default the one asked for.
        window: scores that the rank is taken among, the newest; by default all so far.
        past: scores known before the sequence.
        delay: steps after which a score is known; h for returns over h bars.

    Raises:
        BadInput: a score is not finite, or a setting lies outside its range.

    For delay 1, abs(missed.mean() - miscoverage) <= (max(start, 1 - start) + gamma) / (gamma T), for any scores.
    """
    known = np.empty(0) if past is None else np.asarray(past, dtype=np.float64)
    sequence = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(sequence).all() or not np.isfinite(known).all():
        raise BadInput("scores must be finite numbers in time order; leave out what is not known")
    if not 0 < miscoverage < 1 or gamma < 0 or delay < 1 or (window is not None and window < 1):
        raise BadInput(
            f"expected miscoverage in (0, 1), gamma >= 0, delay >= 1 and window >= 1, was {miscoverage}, {gamma},"
            f" {delay} and {window}"
        )
    steps, width = sequence.size, window or max(known.size + sequence.size, 1)
    held = np.zeros((1, width))
    newest = known[-width:]
    held[0, : newest.size] = newest
    radii, mixed = np.full((steps, 1, 1), np.nan), np.full((steps, 1), np.nan)
    working = np.full((1, 1), miscoverage if start is None else start)
    walk(
        delay,
        steps,
        0,
        np.arange(steps),
        sequence[:, None] + 0.0,
        np.ones(steps, dtype=np.bool_),
        radii,
        mixed,
        np.zeros((steps, 1, 2)),
        np.array([miscoverage]),
        np.array([gamma], dtype=np.float64),
        held,
        newest.size,
        working,
        np.zeros((1, 1)),
        np.zeros((1, 2)),
        np.zeros(1, dtype=np.int64),
        np.zeros(1, dtype=np.int64),
        np.zeros(2, dtype=np.int64),
    )
    return AciPath(radii=radii[:, 0, 0], missed=sequence > radii[:, 0, 0], last=float(working[0, 0]))
