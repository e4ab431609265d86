"""How much of a skill stays behind on the rows that were fitted on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.significance import UnpairedLosses, skill_interval

Floats = NDArray[np.float64]

_KEPT = 0.5  # share of the in-sample skill that must survive; a fit always loses some


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Losses of a model and of the reference on the same rows, in time order.

    Attributes:
        model, reference: (n, H), finite; the reference's mean above 0 at each horizon.
    """

    model: Floats
    reference: Floats

    def __post_init__(self) -> None:
        if self.model.ndim != 2 or self.model.shape != self.reference.shape:
            raise UnpairedLosses(
                f"losses must be two (n, H) tables, were {self.model.shape} and {self.reference.shape}"
            )
        if not self.model.size:
            raise UnpairedLosses("there are no losses; score some matured origins first")
        if not (np.isfinite(self.model).all() and np.isfinite(self.reference).all()):
            raise UnpairedLosses("losses must be finite; score matured origins only")
        if not (self.reference.mean(axis=0) > 0).all():
            raise BadInput("the reference's mean loss must be above 0, or there is no skill to speak of")


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """Skill over the reference in and out of sample, and what lies between.

    Attributes:
        gap: in-sample minus out-of-sample skill, with the interval gap_low to gap_high.
        overfitted: skill was seen in sample (its interval lies above 0), the gap is more than luck (its interval lies
            above 0), and less than half of the skill survives. A change of market looks the same.
    """

    horizon_bars: int
    in_sample_skill: float
    in_sample_low: float
    in_sample_high: float
    out_of_sample_skill: float
    out_of_sample_low: float
    out_of_sample_high: float
    gap: float
    gap_low: float
    gap_high: float

    @property
    def overfitted(self) -> bool:
        """Return whether the skill was learnt by heart, by the rule above."""
        kept = self.out_of_sample_skill >= _KEPT * self.in_sample_skill
        return self.in_sample_low > 0 and self.gap_low > 0 and not kept

    @property
    def sentence(self) -> str:
        """Return the finding in one plain sentence."""
        inside, outside = f"{100 * self.in_sample_skill:+.2f} %", f"{100 * self.out_of_sample_skill:+.2f} %"
        bars = "1 bar" if self.horizon_bars == 1 else f"{self.horizon_bars} bars"
        seen = f"At {bars} the skill is {inside} on the rows it was fitted on and {outside} on later ones"
        if self.overfitted:
            return f"{seen}: it is overfitted, or the market changed."
        if self.gap_low > 0:
            return f"{seen}: it loses more than luck explains, but not what marks an overfitted model."
        return f"{seen}: no more is lost than luck explains."


def degradation(
    in_sample: Losses,
    out_of_sample: Losses,
    horizons_bars: Sequence[int],
    *,
    seed: int,
    replicates: int = 1000,
    level: float = 0.95,
) -> tuple[Degradation, ...]:
    """Compare skill on the rows a model was fitted on with skill on rows it never saw, per horizon.

    Both skills get their block-bootstrap interval. Where the two stretches share no label the distances from estimate
    to limit add as squares; unlike a bootstrap of the difference this keeps the width that few blocks need. Rows that
    one fold was fitted on and another was tested on move both skills alike, so the interval is wide.

    Args:
        in_sample: losses on the training rows.
        out_of_sample: losses of the same fit on later, purged rows.
        horizons_bars: H horizons; of each, how many consecutive rows share part of a label.
        seed: of the bootstrap.
        level: confidence of the intervals, in (0, 1).

    Raises:
        UnpairedLosses: a horizon is missing, or there are not more than two of the longest horizon's rows.

    Source: Zou and Donner (2008), Statistics in Medicine 27(10), intervals of a difference from those of its terms.
    """
    columns = in_sample.model.shape[1], out_of_sample.model.shape[1]
    if columns != (len(horizons_bars), len(horizons_bars)):
        raise UnpairedLosses(
            f"losses of {columns[0]} horizons in sample and {columns[1]} out of sample were given for"
            f" {len(horizons_bars)} horizons"
        )
    return tuple(
        _one(in_sample, out_of_sample, column, horizon, seed + 2 * column, replicates, level)
        for column, horizon in enumerate(horizons_bars)
    )


def _one(
    in_sample: Losses, out_of_sample: Losses, column: int, horizon: int, seed: int, replicates: int, level: float
) -> Degradation:
    skills, lows, highs = [], [], []
    for place, losses in enumerate((in_sample, out_of_sample)):
        model, reference = losses.model[:, column], losses.reference[:, column]
        low, high = skill_interval(
            model, reference, horizon_bars=horizon, replicates=replicates, seed=seed + place, level=level
        )
        skills.append(1 - float(model.mean()) / float(reference.mean()))
        lows.append(low)
        highs.append(high)
    gap = skills[0] - skills[1]
    return Degradation(
        horizon_bars=horizon,
        in_sample_skill=skills[0],
        in_sample_low=lows[0],
        in_sample_high=highs[0],
        out_of_sample_skill=skills[1],
        out_of_sample_low=lows[1],
        out_of_sample_high=highs[1],
        gap=gap,
        gap_low=gap - math.hypot(skills[0] - lows[0], highs[1] - skills[1]),
        gap_high=gap + math.hypot(highs[0] - skills[0], skills[1] - lows[1]),
    )
