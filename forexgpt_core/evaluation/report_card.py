"""The report card of a family: every score beside the reference's, with interval, test, coverage and counts."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.call_trades import call_trades
from forexgpt_core.evaluation.direction import direction, direction_calls
from forexgpt_core.evaluation.pairing import origin_slots, overlapping_rows, require_paired, require_time_order
from forexgpt_core.evaluation.point_errors import mae, mape, rmse
from forexgpt_core.evaluation.scores import coverage, crps, width
from forexgpt_core.evaluation.significance import diebold_mariano, skill_interval

Floats = NDArray[np.float64]

LEAST_ROWS = 30
SIGNIFICANT = 0.05
_CREDIBLE_DIRECTION, _CREDIBLE_SKILL = 0.55, 0.05  # shares of right signs and of CRPS; above them a leak is likelier
_LEAST_INDEPENDENT = 8  # a t test on fewer non-overlapping rows says nothing


class TooFewForecasts(BadInput):
    """A report card was asked of too few matured forecasts to say anything."""

    def __init__(self, have: int, need: int, family: str) -> None:
        super().__init__(have, need, family)
        self.have, self.need, self.family = have, need, family

    def __str__(self) -> str:
        return f"a report card of {self.family} needs {self.need} matured forecasts, found {self.have}"


class DifferentOrigins(BadInput):
    """A family and its reference were asked about different bars or horizons, so their losses do not pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonScore:
    """Scores of one family at one horizon. Losses and widths are in log return; what cannot be said is NaN.

    Attributes:
        n: scored origins.
        n_independent: origins whose labels do not overlap.
        skill: 1 - crps / crps_reference, with a 95 % block-bootstrap interval skill_low to skill_high.
        dm_p: one-sided Diebold-Mariano p of "better than the reference"; 1 for the reference itself.
        dm_p_nonoverlapping: the same on non-overlapping origins only, a check with less power.
        direction: share of right signs of the median over direction_calls calls; NaN without a call.
        mape: of the forecast price, a share; see `point_errors.mape`.
        win_rate, profit_factor: of trades on the forecast's own calls, before cost; see `call_trades`.
    """

    family: str
    horizon_bars: int
    n: int
    n_independent: int
    crps: float
    crps_reference: float
    skill: float
    skill_low: float
    skill_high: float
    dm_p: float
    dm_p_nonoverlapping: float
    coverage_50: float
    coverage_80: float
    coverage_90: float
    coverage_95: float
    width_50: float
    width_80: float
    width_90: float
    width_95: float
    direction: float
    direction_se: float
    direction_calls: int
    rmse: float
    mae: float
    mape: float = math.nan  # these three are absent from scores of earlier releases
    win_rate: float = math.nan
    profit_factor: float = math.nan

    @property
    def equals_reference(self) -> bool:
        """Return whether every forecast scored as the reference's own: the reference, or a model that learned none."""
        return self.skill == 0 and self.skill_low == 0 and self.skill_high == 0

    def to_dict(self) -> dict[str, str | int | float | None]:
        """Return a JSON-safe copy: NaN becomes None."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}


def score_family(
    forecasts: ForecastBatch, returns: Floats, reference: ForecastBatch, *, seed: int
) -> tuple[HorizonScore, ...]:
    """Return the report card of a family, one entry per horizon.

    Args:
        forecasts: of the family, origins in time order.
        returns: (n, H) realised cumulative log returns, all known.
        reference: forecasts of the reference for the same origins and horizons.
        seed: of the bootstrap.

    Raises:
        UnsortedOrigins: origins repeat or go back in time.
        DifferentOrigins: the reference has other origins or horizons.
        UnpairedReturns: a return is not known, or shapes differ.
        TooFewForecasts: fewer than 30 origins, or not more than two of the longest horizon.
    """
    _require_comparable(forecasts, reference)
    y = require_paired(forecasts, returns)
    slots = origin_slots(forecasts)
    overlaps = [overlapping_rows(slots, h) for h in forecasts.horizons_bars]
    need = max(LEAST_ROWS, 2 * max(overlaps) + 1)
    if len(forecasts) < need:
        raise TooFewForecasts(len(forecasts), need, forecasts.family)
    reference_losses = crps(reference.quantiles, y)
    losses = _without_rounding(crps(forecasts.quantiles, y), reference_losses)
    covered, widths = coverage(forecasts, y), width(forecasts)
    (right, right_se), (calls, _) = direction(forecasts, y), direction_calls(forecasts, y)
    squared, absolute, of_price = rmse(forecasts, y), mae(forecasts, y), mape(forecasts, y)
    traded = call_trades(forecasts, y)
    scores = []
    for column, horizon in enumerate(forecasts.horizons_bars):
        model, plain, overlap = losses[:, column], reference_losses[:, column], overlaps[column]
        low, high = skill_interval(model, plain, horizon_bars=overlap, seed=seed + column)
        scores.append(
            HorizonScore(
                family=forecasts.family,
                horizon_bars=horizon,
                n=len(forecasts),
                n_independent=math.ceil(len(forecasts) / overlap),
                crps=float(model.mean()),
                crps_reference=float(plain.mean()),
                skill=1 - float(model.mean()) / float(plain.mean()),
                skill_low=low,
                skill_high=high,
                dm_p=diebold_mariano(model, plain, overlap).p_better,
                dm_p_nonoverlapping=_nonoverlapping_p(model[::overlap], plain[::overlap]),
                coverage_50=float(covered[50][column]),
                coverage_80=float(covered[80][column]),
                coverage_90=float(covered[90][column]),
                coverage_95=float(covered[95][column]),
                width_50=float(widths[50][column]),
                width_80=float(widths[80][column]),
                width_90=float(widths[90][column]),
                width_95=float(widths[95][column]),
                direction=float(right[column]),
                direction_se=float(right_se[column]),
                direction_calls=int(calls[column]),
                rmse=float(squared[column]),
                mae=float(absolute[column]),
                mape=float(of_price[column]),
                win_rate=float(traded.win_rate[column]),
                profit_factor=float(traded.profit_factor[column]),
            )
        )
    return tuple(scores)


def _without_rounding(losses: Floats, reference_losses: Floats) -> Floats:
    """Return losses equal to the reference's where they differ by rounding alone.

    A family that learned nothing is the walk computed in another order; its last bits are no evidence of anything.
    """
    return np.where(np.isclose(losses, reference_losses, rtol=1e-9, atol=0.0), reference_losses, losses)


def _require_comparable(forecasts: ForecastBatch, reference: ForecastBatch) -> None:
    require_time_order(forecasts)
    if forecasts.horizons_bars != reference.horizons_bars:
        raise DifferentOrigins(
            f"{forecasts.family} forecasts {forecasts.horizons_bars} bars ahead, {reference.family}"
            f" {reference.horizons_bars}; score both at the same horizons"
        )
    if not np.array_equal(forecasts.origin_utc, reference.origin_utc):
        shared = np.intersect1d(forecasts.origin_utc, reference.origin_utc).size
        raise DifferentOrigins(
            f"{forecasts.family} has {len(forecasts)} origins and {reference.family} {len(reference)}, {shared} of them"
            " shared; restrict both to their common origins first"
        )


def _nonoverlapping_p(loss_model: Floats, loss_reference: Floats) -> float:
    if loss_model.size < _LEAST_INDEPENDENT:
        return math.nan
    return diebold_mariano(loss_model, loss_reference, 1).p_better


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderboardRow:
    """One family's place.

    Attributes:
        mean_skill: over its horizons.
        scores: its report card, by horizon.
        holm_p: dm_p of each score after Holm's correction over every comparison on the board.
    """

    rank: int
    family: str
    mean_skill: float
    scores: tuple[HorizonScore, ...]
    holm_p: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """Families by mean skill over the reference, and what of it is more than luck.

    Attributes:
        rows: best first.
        shown_skill: (family, horizon_bars) whose skill interval lies above 0 and whose Holm-adjusted p is below .05.
        absent: families switched on but not evaluated on these data.
        verdict: one plain sentence.
        warnings: results better than FX credibly allows, to be treated as leaks until the leak checks pass.
    """

    rows: tuple[LeaderboardRow, ...]
    shown_skill: tuple[tuple[str, int], ...]
    absent: tuple[str, ...]
    verdict: str
    warnings: tuple[str, ...]


def rank(scores: Sequence[HorizonScore], *, absent: Sequence[str] = ()) -> Leaderboard:
    """Return the leaderboard of some report cards against one reference.

    Raises:
        BadInput: there are no scores, or a family has two for one horizon.
    """
    if not scores:
        raise BadInput("a leaderboard needs at least the reference's own report card; evaluate random_walk first")
    keys = [(s.family, s.horizon_bars) for s in scores]
    if len(set(keys)) < len(keys):
        raise BadInput(f"scores repeat a family and horizon: {sorted(k for k in set(keys) if keys.count(k) > 1)}")
    tested = [s for s in scores if not s.equals_reference]
    adjusted = dict(zip(keys, (1.0 for _ in keys), strict=True))
    adjusted |= {(s.family, s.horizon_bars): p for s, p in zip(tested, holm([s.dm_p for s in tested]), strict=True)}
    cards = {family: sorted((s for s in scores if s.family == family), key=_horizon) for family, _ in keys}
    mean_skill = {family: sum(s.skill for s in card) / len(card) for family, card in cards.items()}
    order = sorted(cards, key=lambda family: (-mean_skill[family], family))
    rows = tuple(
        LeaderboardRow(
            rank=place,
            family=family,
            mean_skill=mean_skill[family],
            scores=tuple(cards[family]),
            holm_p=tuple(adjusted[family, s.horizon_bars] for s in cards[family]),
        )
        for place, family in enumerate(order, start=1)
    )
    shown = [s for row in rows for s, p in zip(row.scores, row.holm_p) if s.skill_low > 0 and p < SIGNIFICANT]
    return Leaderboard(
        rows=rows,
        shown_skill=tuple((s.family, s.horizon_bars) for s in shown),
        absent=tuple(absent),
        verdict=_verdict(shown, tested, adjusted),
        warnings=tuple(text for s in scores for text in _incredible(s)),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted so that the chance of any false claim among them stays below the level asked.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Source: Holm (1979), Scandinavian Journal of Statistics 6(2).
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values, dtype=np.float64)[order] * factors), 1.0)
    return [float(p) for p in adjusted]


def _horizon(score: HorizonScore) -> int:
    return score.horizon_bars


def _verdict(
    shown: Sequence[HorizonScore], tested: Sequence[HorizonScore], adjusted: dict[tuple[str, int], float]
) -> str:
    if not tested:
        return "Only the random walk, or models equal to it, were evaluated, so no skill over it can be shown."
    if not shown:
        best = max(tested, key=lambda s: s.skill)
        luck = ", no more than luck explains" if best.skill > 0 else ""
        return (
            f"Nothing beats the random walk: of {_comparisons(len(tested))} the best is {best.family} at"
            f" {_bars(best.horizon_bars)} with {_skill_text(best)}{luck}."
        )
    best = max(shown, key=lambda s: s.skill)
    families = len({s.family for s in shown})
    return (
        f"{families} {'family beats' if families == 1 else 'families beat'} the random walk in {len(shown)} of"
        f" {_comparisons(len(tested))}, at best {best.family} at {_bars(best.horizon_bars)} with {_skill_text(best)},"
        f" Holm-adjusted p {adjusted[best.family, best.horizon_bars]:.2g}."
    )


def _comparisons(count: int) -> str:
    return "1 comparison" if count == 1 else f"{count} comparisons"


def _skill_text(score: HorizonScore) -> str:
    low, high = 100 * score.skill_low, 100 * score.skill_high
    return f"skill {100 * score.skill:+.2f} % (95 % interval {low:+.2f} to {high:+.2f} %)"


def _bars(horizon_bars: int) -> str:
    return "1 bar" if horizon_bars == 1 else f"{horizon_bars} bars"


def _incredible(score: HorizonScore) -> list[str]:
    where = f"{score.family} at {_bars(score.horizon_bars)}"
    warnings = []
    if score.direction - 1.96 * score.direction_se > _CREDIBLE_DIRECTION:
        warnings.append(
            f"{where} calls the direction right {100 * score.direction:.1f} % of the time, more than the"
            f" {100 * _CREDIBLE_DIRECTION:.0f} % that FX credibly allows: treat it as a leak until leak checks pass."
        )
    if score.skill_low > _CREDIBLE_SKILL:
        warnings.append(
            f"{where} has skill {100 * score.skill:.1f} %, more than the {100 * _CREDIBLE_SKILL:.0f} % that FX credibly"
            " allows over a volatility-aware random walk: treat it as a leak until leak checks pass."
        )
    return warnings
