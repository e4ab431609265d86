"""How often the sign of a forecast was right, how sure that is, and how many trials it would take to know."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrc, bdtri, bdtrik, ndtri

from forexgpt_core.domain.forecasts import MEDIAN, ForecastBatch
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.dependence import centred_long_run_variance
from forexgpt_core.evaluation.pairing import independent_rows, origin_slots, require_paired
from forexgpt_core.evaluation.scores import interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_NO_CALL = 1e-9  # a median this small against the 50 % interval is rounding, not an opinion


def direction(forecasts: ForecastBatch, returns: Floats) -> tuple[Floats, Floats]:
    """Return how often the sign of the median was right, and the standard error of that share.

    Bars that did not move are left out, and so are forecasts whose median is 0: `direction_calls` counts both. A
    family whose median is always 0, like the driftless random walk, makes no call and gets NaN; so does one whose
    called moves all went the same way, where any constant call is always right (`direction_scores` says which). Where
    labels overlap, the standard error has Bartlett weights up to lag max(2 h, n^(1/3)): up to h - 1 they see two thirds
    of the variance.

    Returns:
        share (H,) and standard error (H,).
    """
    y = require_paired(forecasts, returns)
    called, right = _calls(forecasts, y)
    calls = called.sum(axis=0).astype(np.float64)
    judged = np.asarray((called & (y > 0)).any(axis=0) & (called & (y < 0)).any(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(judged, right.sum(axis=0) / calls, np.nan)
    deviations = np.where(called, right - share, 0.0)
    error = np.full(share.shape, np.nan)
    for column, horizon in enumerate(forecasts.horizons_bars):
        if judged[column]:
            n = len(forecasts)
            bandwidth = max(2 * horizon, math.ceil(n ** (1 / 3))) if horizon > 1 else 0
            variance = centred_long_run_variance(deviations[:, column], bandwidth) * n / calls[column] ** 2
            error[column] = np.sqrt(variance)
    return np.asarray(share), error


def direction_calls(forecasts: ForecastBatch, returns: Floats) -> tuple[Ints, Ints]:
    """Return how many directional calls were scored and how many bars did not move; each (H,)."""
    y = require_paired(forecasts, returns)
    called, _ = _calls(forecasts, y)
    return called.sum(axis=0), (y == 0).sum(axis=0)


def call_signs(forecasts: ForecastBatch) -> Floats:
    """Return the sign of the median, 0 where it is no opinion: a median of 0, or of rounding size; (n, H)."""
    median = forecasts.quantiles[..., MEDIAN]
    low, high = interval(forecasts.quantiles, 50)
    return np.asarray(np.where(np.abs(median) > _NO_CALL * (high - low), np.sign(median), 0.0))


def _calls(forecasts: ForecastBatch, y: Floats) -> tuple[Bools, Bools]:
    sign = call_signs(forecasts)
    called = (sign != 0) & (y != 0)
    return called, called & (sign == np.sign(y))


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionScore:
    """Right signs at one horizon, with what they are worth. What cannot be said is NaN, and `missing` says why.

    Attributes:
        hit_rate: share of right signs among `calls`.
        standard_error: of it, allowing for overlapping labels.
        calls: forecasts with an opinion about bars that moved.
        unmoved: bars that did not move.
        by_chance: share expected if calls were shuffled: above one half where calls and moves both lean one way.
        independent_calls: calls whose targets do not overlap.
        p_value: exact binomial chance of as many right independent calls at the larger of one half and by_chance.
        detectable: smallest true hit rate that independent_calls would show, against the same share as p_value, at 5 %
            with power 80 %; NaN if none.
        missing: why hit_rate is NaN; empty otherwise.
    """

    horizon_bars: int
    hit_rate: float
    standard_error: float
    calls: int
    unmoved: int
    by_chance: float
    independent_calls: int
    p_value: float
    detectable: float
    missing: str


def direction_scores(forecasts: ForecastBatch, returns: Floats) -> tuple[DirectionScore, ...]:
    """Return the direction of every horizon with its power.

    Raises:
        UnsortedOrigins: origins repeat or go back in time.
        UnpairedReturns: returns do not pair.
    """
    y, slots = require_paired(forecasts, returns), origin_slots(forecasts)
    (share, error), (called, right) = direction(forecasts, y), _calls(forecasts, y)
    scores = []
    for column, horizon in enumerate(forecasts.horizons_bars):
        rows = np.flatnonzero(called[:, column])
        kept = rows[independent_rows(slots[rows], horizon)]
        chance = _by_chance(np.sign(y[rows, column]), right[rows, column])
        judged, null = not math.isnan(share[column]), max(0.5, chance)  # 0.5 where chance is NaN
        hits = int(right[kept, column].sum())
        scores.append(
            DirectionScore(
                horizon_bars=horizon,
                hit_rate=float(share[column]),
                standard_error=float(error[column]),
                calls=rows.size,
                unmoved=int((y[:, column] == 0).sum()),
                by_chance=chance,
                independent_calls=kept.size,
                p_value=float(bdtrc(hits - 1, kept.size, null)) if judged else math.nan,
                detectable=detectable_hit_rate(kept.size, chance=null) if judged else math.nan,
                missing="" if judged else _why_missing(y[:, column], rows),
            )
        )
    return tuple(scores)


def _by_chance(moves: Floats, right: Bools) -> float:
    if not moves.size:
        return math.nan
    up, called_up = float((moves > 0).mean()), float(((moves > 0) == right).mean())
    return up * called_up + (1 - up) * (1 - called_up)


def _why_missing(y: Floats, called_rows: Ints) -> str:
    if not (y != 0).any():
        return "no bar moved"
    if not called_rows.size:
        return "no forecast has a direction"
    way = "up" if y[called_rows[0]] > 0 else "down"
    return f"all {called_rows.size} called moves went {way}: one class"


def needed_trials(hit_rate: float, *, chance: float = 0.5, level: float = 0.05, power: float = 0.8) -> int:
    """Return how many independent trials show a true hit rate above chance, one-sided, by the normal approximation.

    Exact tests need about 1 % more, see `direction_power`.

    >>> needed_trials(0.51), needed_trials(0.52), needed_trials(0.55)
    (15455, 3863, 617)

    Args:
        hit_rate: true share of right signs, in (chance, 1].
        chance: share of right signs without skill, in [0.5, 1); above one half where calls and moves lean one way.
        level: of the test, in (0, 0.5).
        power: chance of showing it, in [0.5, 1).

    Source: Fleiss, Levin and Paik (2003), Statistical Methods for Rates and Proportions, section 2.5.
    """
    _require_test(level, power, chance)
    if not chance < hit_rate <= 1:
        raise BadInput(
            f"hit_rate must lie in ({chance:g}, 1], was {hit_rate}; what chance gives cannot be told from luck"
        )
    spread = _deviation(chance) * float(ndtri(1 - level)) + _deviation(hit_rate) * float(ndtri(power))
    return math.ceil((spread / (hit_rate - chance)) ** 2)


def direction_power(trials: int, hit_rate: float, *, chance: float = 0.5, level: float = 0.05) -> float:
    """Return the exact chance that a one-sided binomial test at `level` shows a true hit rate.

    Args:
        trials: independent calls, 1 or more.
        hit_rate: true share of right signs, in [0, 1].
        chance: see `needed_trials`.
        level: of the test; the test itself is a little stricter, as hits are whole numbers.
    """
    _require_test(level, 0.5, chance)
    if not 0 <= hit_rate <= 1:
        raise BadInput(f"hit_rate must lie in [0, 1], was {hit_rate}")
    return float(bdtrc(_most_hits_by_luck(trials, level, chance), trials, hit_rate))


def detectable_hit_rate(trials: int, *, chance: float = 0.5, level: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest true hit rate that a one-sided binomial test shows with this power; NaN if not even 1.

    Args:
        trials: independent calls, 1 or more.
        chance: see `needed_trials`.
        level: of the test, in (0, 0.5).
        power: chance of showing it, in [0.5, 1).
    """
    _require_test(level, power, chance)
    most = _most_hits_by_luck(trials, level, chance)
    return float(bdtri(most, trials, 1 - power)) if most < trials else math.nan


def _most_hits_by_luck(trials: int, level: float, chance: float) -> int:
    """Return the smallest k with P(more than k hits by chance) <= level; `trials` where none is smaller."""
    if trials < 1:
        raise BadInput(f"trials must be 1 or more, was {trials}")
    most = min(max(math.ceil(float(bdtrik(1 - level, trials, chance))), 0), trials)
    while most < trials and bdtrc(most, trials, chance) > level:  # rounding of the inverse, one step at most
        most += 1
    while most > 0 and bdtr(most - 1, trials, chance) >= 1 - level:
        most -= 1
    return most


def _deviation(rate: float) -> float:
    return math.sqrt(rate * (1 - rate))


def _require_test(level: float, power: float, chance: float) -> None:
    if not (0 < level < 0.5 <= power < 1):
        raise BadInput(f"level must lie in (0, 0.5) and power in [0.5, 1), were {level} and {power}")
    if not 0.5 <= chance < 1:
        raise BadInput(f"chance must lie in [0.5, 1), was {chance}")
