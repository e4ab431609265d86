"""Do one family's forecasts over several horizons agree with one another, and with what a price can do?

Where returns to come cannot be told from those that went, the return over a longer horizon is the shorter one's plus
something uncorrelated: it cannot be easier to forecast, nor less spread. What breaks that law is a leak, a fault in the
labels or a model that is bad at one horizon; each finding says which numbers broke it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from forexgpt_core.domain.forecasts import INTERVALS, MEDIAN, ForecastBatch
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.dependence import long_run_variance, variance_of_window_mean
from forexgpt_core.evaluation.pairing import origin_slots, overlapping_rows, require_paired, require_time_order
from forexgpt_core.evaluation.report_card import DifferentOrigins, holm
from forexgpt_core.evaluation.scores import crps
from forexgpt_core.evaluation.significance import diebold_mariano

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_LEAST_CALL = 0.01  # of the 50 % interval; a median nearer to 0 says nothing about direction
_LEAST_CALLS = 30  # fewer say nothing about how often directions disagree
_NARROWER = 1 - 1e-9  # widths that differ by rounding are equal
_MOST_NARROW = 0.01  # share of origins; each horizon has its own tails and calibration, so a few may cross


@dataclass(frozen=True, slots=True, kw_only=True)
class CrpsOrder:
    """Whether a longer horizon scores better than a shorter one, in log return.

    Attributes:
        p_value: one-sided, of equal CRPS on the same origins, after Holm's correction over all pairs.
    """

    shorter_bars: int
    longer_bars: int
    crps_shorter: float
    crps_longer: float
    p_value: float
    flagged: bool

    @property
    def sentence(self) -> str:
        """Return the finding in one plain sentence."""
        both = f"{self.crps_longer:.3g} at {_bars(self.longer_bars)} and {self.crps_shorter:.3g} at {self.shorter_bars}"
        if self.flagged:
            return (
                f"The mean CRPS is {both} (p {self.p_value:.2g}): a longer horizon cannot be easier, look for a leak."
            )
        return f"The mean CRPS is {both}, in the order it should be or as near as luck allows."


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillOrder:
    """Whether a horizon shows more skill than every shorter one.

    Attributes:
        rival_bars: the shorter horizon hardest to tell from it.
        p_value: one-sided, of no more skill than the rival's on the same origins, with Holm's correction over horizons.
        flagged: the skill is above 0, above that of every shorter horizon, and by more than noise allows.
    """

    horizon_bars: int
    rival_bars: int
    skill: float
    skill_rival: float
    p_value: float
    flagged: bool

    @property
    def sentence(self) -> str:
        """Return the finding in one plain sentence."""
        both = (
            f"The skill is {100 * self.skill:+.2f} % at {_bars(self.horizon_bars)} and {100 * self.skill_rival:+.2f} %"
            f" at {self.rival_bars}"
        )
        if self.flagged:
            return (
                f"{both} (p {self.p_value:.2g}), more than at any shorter horizon: implausible, look for a leak or for"
                " a reference that fails there."
            )
        return f"{both}, no more than noise allows."


@dataclass(frozen=True, slots=True, kw_only=True)
class MedianContradiction:
    """How often the medians of two horizons point to opposite sides.

    Attributes:
        calls: origins at which both medians lie at least a hundredth of their 50 % interval away from 0.
        share: of the calls with opposite signs; NaN without calls.
        p_value: one-sided, of half of them: unrelated signs disagree half of the time. Holm's correction over all
            pairs; NaN below 30 calls or where these cover not more than two labels.
    """

    shorter_bars: int
    longer_bars: int
    calls: int
    share: float
    p_value: float
    flagged: bool

    @property
    def sentence(self) -> str:
        """Return the finding in one plain sentence."""
        pair = f"{_bars(self.shorter_bars)} and {_bars(self.longer_bars)}"
        if math.isnan(self.p_value):
            return f"The medians at {pair} make {self.calls} calls, too few to see whether they contradict each other."
        seen = f"The medians at {pair} have opposite signs in {100 * self.share:.0f} % of {self.calls} calls"
        if self.flagged:
            return f"{seen} (p {self.p_value:.2g}), more often than unrelated ones would: they contradict each other."
        return f"{seen}, no more often than unrelated ones would."


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowing:
    """How often the 90 % interval is narrower at a longer horizon; flagged above 1 % of the origins."""

    shorter_bars: int
    longer_bars: int
    share: float
    flagged: bool

    @property
    def sentence(self) -> str:
        """Return the finding in one plain sentence."""
        seen = (
            f"The 90 % interval is narrower at {_bars(self.longer_bars)} than at {self.shorter_bars} at"
            f" {100 * self.share:.1f} % of the origins"
        )
        return f"{seen}: uncertainty cannot shrink with time." if self.flagged else f"{seen}, as good as never."


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonConsistency:
    """All findings on one family; a family with one horizon has none."""

    family: str
    crps_order: tuple[CrpsOrder, ...]
    skill_order: tuple[SkillOrder, ...]
    contradictions: tuple[MedianContradiction, ...]
    narrowings: tuple[Narrowing, ...]

    @property
    def flags(self) -> tuple[str, ...]:
        """Return one sentence per finding that was flagged."""
        findings: list[CrpsOrder | SkillOrder | MedianContradiction | Narrowing] = [
            *self.crps_order,
            *self.skill_order,
            *self.contradictions,
            *self.narrowings,
        ]
        return tuple(one.sentence for one in findings if one.flagged)


def horizon_consistency(
    forecasts: ForecastBatch, returns: Floats, reference: ForecastBatch, *, significance: float = 0.05
) -> HorizonConsistency:
    """Compare each horizon of a family with the shorter ones.

    Args:
        forecasts: origins in time order.
        returns: (n, H) realised cumulative log returns, all known.
        reference: of the same origins and horizons.
        significance: chance of any false flag within each of the three tests, in (0, 1).

    Raises:
        UnsortedOrigins: origins repeat or go back in time.
        DifferentOrigins: the reference has other origins or horizons.
        UnpairedReturns: a return is not known, or shapes differ.
        UnpairedLosses: there are not more than two of the longest horizon's rows.
    """
    if not 0 < significance < 1:
        raise BadInput(f"significance must lie in (0, 1), was {significance}")
    _require_comparable(forecasts, reference)
    y = require_paired(forecasts, returns)
    plain = crps(reference.quantiles, y)
    losses = crps(forecasts.quantiles, y)
    losses = np.where(np.isclose(losses, plain, rtol=1e-9, atol=0.0), plain, losses)  # rounding is no evidence
    slots = origin_slots(forecasts)
    overlaps = [overlapping_rows(slots, h) for h in forecasts.horizons_bars]
    return HorizonConsistency(
        family=forecasts.family,
        crps_order=_crps_order(forecasts.horizons_bars, losses, overlaps, significance),
        skill_order=_skill_order(forecasts.horizons_bars, losses, plain, overlaps, significance),
        contradictions=_contradictions(forecasts, overlaps, significance),
        narrowings=_narrowings(forecasts),
    )


def _crps_order(
    horizons: Sequence[int], losses: Floats, overlaps: Sequence[int], significance: float
) -> tuple[CrpsOrder, ...]:
    pairs = list(combinations(range(len(horizons)), 2))
    raw = [diebold_mariano(losses[:, b], losses[:, a], overlaps[b]).p_better for a, b in pairs]
    return tuple(
        CrpsOrder(
            shorter_bars=horizons[a],
            longer_bars=horizons[b],
            crps_shorter=float(losses[:, a].mean()),
            crps_longer=float(losses[:, b].mean()),
            p_value=p,
            flagged=p < significance,
        )
        for (a, b), p in zip(pairs, holm(raw))
    )


def _skill_order(
    horizons: Sequence[int], losses: Floats, plain: Floats, overlaps: Sequence[int], significance: float
) -> tuple[SkillOrder, ...]:
    """Test each horizon against its hardest rival: to beat all of them is to beat that one (intersection-union)."""
    ratio = losses.mean(axis=0) / plain.mean(axis=0)
    # rows whose mean is the ratio of means, and whose variance that of the ratio to first order (delta method)
    linear = ratio + (losses - ratio * plain) / plain.mean(axis=0)
    longer = range(1, len(horizons))
    tests = [[diebold_mariano(linear[:, b], linear[:, a], overlaps[b]).p_better for a in range(b)] for b in longer]
    rivals = [int(np.argmax(row)) for row in tests]
    adjusted = holm([max(row) for row in tests])
    skill = 1 - ratio
    return tuple(
        SkillOrder(
            horizon_bars=horizons[b],
            rival_bars=horizons[a],
            skill=float(skill[b]),
            skill_rival=float(skill[a]),
            p_value=p,
            flagged=bool(p < significance and skill[b] > 0),
        )
        for b, a, p in zip(longer, rivals, adjusted)
    )


def _contradictions(
    forecasts: ForecastBatch, overlaps: Sequence[int], significance: float
) -> tuple[MedianContradiction, ...]:
    median, (low, high) = forecasts.quantiles[..., MEDIAN], INTERVALS[50]
    called = np.abs(median) > _LEAST_CALL * (forecasts.quantiles[..., high] - forecasts.quantiles[..., low])
    pairs = list(combinations(range(len(overlaps)), 2))
    opposite = [(np.sign(median[:, a]) != np.sign(median[:, b]))[called[:, a] & called[:, b]] for a, b in pairs]
    raw = [_more_than_half(one, overlaps[b]) for one, (_, b) in zip(opposite, pairs)]
    judged = [n for n, p in enumerate(raw) if not math.isnan(p)]
    adjusted = dict(zip(judged, holm([raw[n] for n in judged])))
    return tuple(
        MedianContradiction(
            shorter_bars=forecasts.horizons_bars[a],
            longer_bars=forecasts.horizons_bars[b],
            calls=opposite[n].size,
            share=float(opposite[n].mean()) if opposite[n].size else math.nan,
            p_value=adjusted.get(n, math.nan),
            flagged=adjusted.get(n, 1.0) < significance,
        )
        for n, (a, b) in enumerate(pairs)
    )


def _more_than_half(opposite: Flags, overlap: int) -> float:
    """Return the one-sided p of a share of one half; directions keep for long, so slow dependence counts too."""
    n = opposite.size
    if n < _LEAST_CALLS or n <= 2 * overlap:
        return math.nan
    x = opposite.astype(np.float64)
    if opposite.all() or not opposite.any():
        return float(0.5 ** (n // overlap)) if opposite.all() else 1.0  # no variance to estimate
    bandwidth = min(max(2 * overlap, math.ceil(n ** (1 / 3))), n - 1)
    variance = max(variance_of_window_mean(x, n), long_run_variance(x, bandwidth) / n)
    return float(stdtr(min(n - 1, 1.5 * n / (bandwidth + 1)), (0.5 - x.mean()) / math.sqrt(variance)))


def _narrowings(forecasts: ForecastBatch) -> tuple[Narrowing, ...]:
    low, high = INTERVALS[90]
    width = forecasts.quantiles[..., high] - forecasts.quantiles[..., low]
    found = []
    for a, b in combinations(range(len(forecasts.horizons_bars)), 2):
        share = float((width[:, b] < _NARROWER * width[:, a]).mean())
        shorter, longer = forecasts.horizons_bars[a], forecasts.horizons_bars[b]
        found.append(Narrowing(shorter_bars=shorter, longer_bars=longer, share=share, flagged=share > _MOST_NARROW))
    return tuple(found)


def _require_comparable(forecasts: ForecastBatch, reference: ForecastBatch) -> None:
    require_time_order(forecasts)
    if forecasts.horizons_bars != reference.horizons_bars or not np.array_equal(
        forecasts.origin_utc, reference.origin_utc
    ):
        raise DifferentOrigins(
            f"{forecasts.family} and {reference.family} have other origins or horizons; restrict both to common ones"
        )


def _bars(horizon_bars: int) -> str:
    return "1 bar" if horizon_bars == 1 else f"{horizon_bars} bars"
