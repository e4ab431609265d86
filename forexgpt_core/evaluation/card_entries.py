"""One family on the report card: every score, test and condition of it, at every horizon, or why it cannot be said."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.conditional import LEAST_ROWS, RegimeComparison, compare_by_regime
from forexgpt_core.evaluation.conditional_coverage import conditional_coverage
from forexgpt_core.evaluation.consistency import horizon_consistency
from forexgpt_core.evaluation.coverage import coverage_band
from forexgpt_core.evaluation.degradation import Degradation, Losses, degradation
from forexgpt_core.evaluation.direction import DirectionScore, direction_scores, needed_trials
from forexgpt_core.evaluation.economics import break_even_hit_rate, independent_observations
from forexgpt_core.evaluation.log_score import log_score
from forexgpt_core.evaluation.pairing import origin_slots, overlapping_rows, require_paired
from forexgpt_core.evaluation.point_errors import mae, mape, r2_out_of_sample, rmse
from forexgpt_core.evaluation.probability_integral import PitCheck, check_pit
from forexgpt_core.evaluation.report_card import HorizonScore, score_family
from forexgpt_core.evaluation.scores import crps, interval_score, wql

Floats = NDArray[np.float64]
Names = NDArray[np.str_]
Said = TypeVar("Said")

OTHER = "other"  # regimes too short to stand alone
_GROUPS = 15  # ten deciles, four sessions and all rows: a band that all of them keep in 99 of 100 right forecasters
_BAND, _GROUP_BAND = 0.99, 1 - 0.01 / _GROUPS
_PIT_REPLICATES = 200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedFamily:
    """What a family said, and what came.

    Attributes:
        forecasts: out of sample, origins in time order.
        returns: (n, H) realised cumulative log returns, all known.
        reference: of the same origins and horizons.
        fitted: the family's and the reference's forecasts of rows they were fitted on, and their returns; None where
            there are none.
    """

    forecasts: ForecastBatch
    returns: Floats
    reference: ForecastBatch
    fitted: tuple[ForecastBatch, ForecastBatch, Floats] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstGroup:
    """The volatility decile or session whose 90 % interval misses by most, of those that miss by more than luck if any.

    Attributes:
        condition: "volatility_decile" or "session".
        off: 90 % lies outside coverage_low to coverage_high, by more than luck in any of a horizon's 15 groups.
    """

    condition: str
    group: str
    coverage: float
    coverage_low: float
    coverage_high: float
    width: float
    n_independent: int
    off: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CardEntry:
    """One family at one horizon. Losses and widths are in log return; what cannot be said is NaN or None.

    Attributes:
        score: the headline figures.
        coverage_low, coverage_high: 99 % band about the coverage of the 90 % interval at the independent rows.
        log_score_gain: mean log density beyond the reference's, in nats; not finite where a density is.
        wql_skill, interval_skill_90, mae_skill, rmse_skill, mape_skill: 1 - loss over the reference's.
        r2: out of sample, against no change.
        needed_calls: independent calls that would show the hit rate seen; None where chance gives as much.
        break_even_direction: hit rate at which equal bets over the horizon pay their cost.
        effective_observations: independent rows that the mean loss difference is worth; None against itself.
        pit: uniformity of the PIT on rows that do not overlap, and by blocks.
        worst: the worst volatility decile and session.
        regimes: Giacomini and White's test by regime; on a card holm_p is corrected over all its families and horizons.
        degradation: skill on rows it was fitted on against later ones.
    """

    score: HorizonScore
    coverage_low: float
    coverage_high: float
    log_score: float
    log_score_gain: float
    wql: float
    wql_skill: float
    interval_score_90: float
    interval_skill_90: float
    r2: float | None
    mae_skill: float
    rmse_skill: float
    mape_skill: float
    direction: DirectionScore
    needed_calls: int | None
    break_even_direction: float | None
    effective_observations: float | None
    pit: PitCheck | None
    worst: tuple[WorstGroup, ...]
    regimes: RegimeComparison | None
    degradation: Degradation | None

    @property
    def calibrated(self) -> bool:
        """Return whether 90 % lies inside the band of the coverage seen."""
        return self.coverage_low <= 0.9 <= self.coverage_high

    @property
    def can_tell(self) -> bool:
        """Return whether the origins are enough to see intervals that are far too wide, at 99 %."""
        return coverage_band(1.0, self.score.n_independent, level=_BAND)[0] > 0.9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FamilyCard:
    """One family: its entries by horizon, coverage in every group, and what contradicts itself over horizons.

    Attributes:
        coverage: see `conditional_coverage`, with bands that all 15 groups of a horizon keep; None where unsaid.
        flags: one sentence per inconsistency.
    """

    family: str
    calibrator: str
    entries: tuple[CardEntry, ...]
    coverage: pl.DataFrame | None
    flags: tuple[str, ...]

    @property
    def groups_can_tell(self) -> bool:
        """Return whether every decile and session has enough origins to see intervals that are far too wide."""
        if self.coverage is None:
            return False
        fewest = self.coverage["n_independent"].to_numpy().min()
        return coverage_band(1.0, int(fewest), level=_GROUP_BAND)[0] > 0.9


class Unsaid:
    """The lines that a card prints in place of what it cannot say."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, what: str, why: object) -> None:
        """Add a line."""
        line = f"{what}: {why}"
        if line not in self.lines:
            self.lines.append(line)

    def attempt(self, what: str, compute: Callable[[], Said]) -> Said | None:
        """Return what can be computed; where it is refused, add a line and return None."""
        try:
            return compute()
        except BadInput as refused:
            self.say(what, refused)
            return None


def family_card(
    judged: JudgedFamily, regimes: Names | None, round_trip_cost: float | None, unsaid: Unsaid, *, seed: int
) -> FamilyCard:
    """Return everything about one family.

    Args:
        regimes: (n,) name of the regime that was known to hold at each origin; None without.
        round_trip_cost: of one trade in log return; None where unknown.
        unsaid: takes a line for everything that cannot be computed.
        seed: of every bootstrap.

    Raises:
        UnsortedOrigins, UnpairedReturns, DifferentOrigins, TooFewForecasts: see `score_family`.
    """
    forecasts, y = judged.forecasts, require_paired(judged.forecasts, judged.returns)
    family, scores = forecasts.family, score_family(forecasts, y, judged.reference, seed=seed)
    places = unsaid.attempt(
        f"coverage of {family} by volatility and session", lambda: conditional_coverage(forecasts, y, level=_GROUP_BAND)
    )
    consistency = unsaid.attempt(
        f"consistency of {family} across horizons", lambda: horizon_consistency(forecasts, y, judged.reference)
    )
    parts = _Parts(
        judged=judged,
        scores=scores,
        directions=direction_scores(forecasts, y),
        own=_mean_losses(forecasts, y),
        plain=_mean_losses(judged.reference, y),
        r2=unsaid.attempt(f"R2 of {family}", lambda: r2_out_of_sample(forecasts, y)),
        pits=unsaid.attempt(f"PIT of {family}", lambda: check_pit(forecasts, y, replicates=_PIT_REPLICATES, seed=seed)),
        places=places,
        lost=_degradations(judged, all(score.equals_reference for score in scores), unsaid, seed),
        losses=(crps(forecasts.quantiles, y), crps(judged.reference.quantiles, y)),
        regimes=regimes,
        round_trip_cost=round_trip_cost,
    )
    _say_missing(parts, unsaid)
    return FamilyCard(
        family=family,
        calibrator=forecasts.calibrator,
        entries=tuple(_entry(parts, column, unsaid) for column in range(len(scores))),
        coverage=places,
        flags=() if consistency is None else consistency.flags,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Parts:
    """What was computed for all horizons of a family at once."""

    judged: JudgedFamily
    scores: Sequence[HorizonScore]
    directions: Sequence[DirectionScore]
    own: Mapping[str, Floats]
    plain: Mapping[str, Floats]
    r2: Floats | None
    pits: Sequence[PitCheck] | None
    places: pl.DataFrame | None
    lost: Sequence[Degradation] | None
    losses: tuple[Floats, Floats]
    regimes: Names | None
    round_trip_cost: float | None


def _entry(parts: _Parts, column: int, unsaid: Unsaid) -> CardEntry:
    score, called = parts.scores[column], parts.directions[column]
    own, plain = ({name: float(values[column]) for name, values in each.items()} for each in (parts.own, parts.plain))
    low, high = coverage_band(score.coverage_90, score.n_independent, level=_BAND)
    moved = float(np.abs(parts.judged.returns[:, column]).mean())
    chance = max(0.5, called.by_chance)  # 0.5 where by_chance is NaN
    against = None if score.equals_reference else _Against.of(parts, column)
    return CardEntry(
        score=score,
        coverage_low=low,
        coverage_high=high,
        log_score=own["log_score"],
        log_score_gain=plain["log_score"] - own["log_score"] if np.isfinite(own["log_score"]) else math.nan,
        wql=own["wql"],
        wql_skill=_skill(own["wql"], plain["wql"]),
        interval_score_90=own["interval_score_90"],
        interval_skill_90=_skill(own["interval_score_90"], plain["interval_score_90"]),
        r2=None if parts.r2 is None else float(parts.r2[column]),
        mae_skill=_skill(own["mae"], plain["mae"]),
        rmse_skill=_skill(own["rmse"], plain["rmse"]),
        mape_skill=_skill(own["mape"], plain["mape"]),
        direction=called,
        needed_calls=needed_trials(called.hit_rate, chance=chance) if chance < called.hit_rate else None,
        break_even_direction=None
        if parts.round_trip_cost is None or moved == 0
        else break_even_hit_rate(parts.round_trip_cost, moved),
        effective_observations=None if against is None else against.effective(unsaid),
        pit=None if parts.pits is None else parts.pits[column],
        worst=() if parts.places is None else worst_groups(parts.places, score.horizon_bars),
        regimes=None if against is None or parts.regimes is None else against.by_regime(parts.regimes, unsaid),
        degradation=None if parts.lost is None else parts.lost[column],
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Against:
    """Losses of a family and of the reference at one horizon."""

    name: str
    horizon_bars: int
    model: Floats
    reference: Floats
    overlap: int

    @classmethod
    def of(cls, parts: _Parts, column: int) -> "_Against":
        horizon = parts.scores[column].horizon_bars
        model, reference = (losses[:, column] for losses in parts.losses)
        return cls(
            name=f"{parts.judged.forecasts.family} at {bars_text(horizon)}",
            horizon_bars=horizon,
            model=model,
            reference=reference,
            overlap=overlapping_rows(origin_slots(parts.judged.forecasts), horizon),
        )

    def effective(self, unsaid: Unsaid) -> float | None:
        found = unsaid.attempt(
            f"observations behind {self.name}",
            lambda: independent_observations(self.model - self.reference, self.overlap),
        )
        return None if found is None else found.effective

    def by_regime(self, regimes: Names, unsaid: Unsaid) -> RegimeComparison | None:
        labels, joined = joined_regimes(regimes, max(LEAST_ROWS, 2 * self.overlap + 1))
        if joined:
            where = f"regimes of {regimes.size:,} origins at {bars_text(self.horizon_bars)}"
            unsaid.say(where, f"{', '.join(joined)} have too few rows and stand together as '{OTHER}'")
        return unsaid.attempt(
            f"regimes of {self.name}", lambda: compare_by_regime(self.model, self.reference, labels, self.overlap)
        )


def _say_missing(parts: _Parts, unsaid: Unsaid) -> None:
    """Add one line for each reason, naming the horizons it holds at."""
    family = parts.judged.forecasts.family
    reasons: dict[str, list[int]] = {}
    for score, called in zip(parts.scores, parts.directions, strict=True):
        if called.missing:
            reasons.setdefault(f"direction of {family}|{called.missing}", []).append(score.horizon_bars)
    infinite = ~np.isfinite(parts.own["log_score"]) | ~np.isfinite(parts.plain["log_score"])
    for column in map(int, np.flatnonzero(infinite)):
        why = f"log score of {family}|a law has an atom or a tail without spread, so a density is not finite"
        reasons.setdefault(why, []).append(parts.scores[column].horizon_bars)
    for reason, horizons in reasons.items():
        what, why = reason.split("|", 1)
        unsaid.say(f"{what} at {', '.join(map(str, horizons))} bars", why)


def _mean_losses(forecasts: ForecastBatch, y: Floats) -> dict[str, Floats]:
    """Return the mean of every loss that is not in the headline figures; each (H,)."""
    by_row = {
        "log_score": log_score(forecasts.quantiles, y),
        "wql": wql(forecasts.quantiles, y),
        "interval_score_90": interval_score(forecasts.quantiles, y, 90),
    }
    with np.errstate(invalid="ignore"):  # inf - inf, where densities are not finite
        means = {name: np.asarray(losses.mean(axis=0)) for name, losses in by_row.items()}
    return means | {"mae": mae(forecasts, y), "rmse": rmse(forecasts, y), "mape": mape(forecasts, y)}


def _skill(own: float, plain: float) -> float:
    return 1 - own / plain if plain > 0 else math.nan


def worst_groups(places: pl.DataFrame, horizon: int) -> tuple[WorstGroup, ...]:
    """Return the worst volatility decile and session at a horizon, from a table of `conditional_coverage`."""
    here = places.filter(pl.col("horizon_bars") == horizon, pl.col("coverage_percent") == 90)
    found = []
    for condition in ("volatility_decile", "session"):
        off = ~pl.lit(0.9).is_between("coverage_low", "coverage_high")
        groups = here.filter(pl.col("condition") == condition).with_columns(off=off)
        row = groups.sort("off", (pl.col("coverage") - 0.9).abs(), descending=True).row(0, named=True)
        found.append(WorstGroup(**{name: row[name] for name in WorstGroup.__dataclass_fields__}))
    return tuple(found)


def joined_regimes(regimes: Names, least_rows: int) -> tuple[Names, tuple[str, ...]]:
    """Return labels in which every regime has that many rows, as far as there are rows, and the names that were joined.

    Regimes that are too short become `OTHER`, and the shortest of the rest joins them while that is too short itself.
    """
    names, which, counts = np.unique(regimes.astype(str), return_inverse=True, return_counts=True)
    order = np.argsort(counts, kind="stable")
    short = int((counts < least_rows).sum())
    total = np.cumsum(counts[order])
    while 0 < short < names.size and total[short - 1] < least_rows:
        short += 1
    joined = order[:short]
    labels = names.astype(f"U{max(names.dtype.itemsize // 4, len(OTHER))}")
    labels[joined] = OTHER
    return labels[which], tuple(str(name) for name in sorted(names[joined]))


def _degradations(judged: JudgedFamily, itself: bool, unsaid: Unsaid, seed: int) -> Sequence[Degradation] | None:
    family = judged.forecasts.family
    if itself:
        return None
    if judged.fitted is None:
        unsaid.say(f"in-sample skill of {family}", "no forecasts of the rows it was fitted on are stored")
        return None
    inside, plain, returns = judged.fitted
    if inside.horizons_bars != judged.forecasts.horizons_bars:
        unsaid.say(f"in-sample skill of {family}", f"stored at horizons {inside.horizons_bars} bars")
        return None
    slots = origin_slots(judged.forecasts)
    overlaps = [overlapping_rows(slots, h) for h in judged.forecasts.horizons_bars]
    found = unsaid.attempt(
        f"in-sample skill of {family}",
        lambda: degradation(
            Losses(model=crps(inside.quantiles, returns), reference=crps(plain.quantiles, returns)),
            Losses(
                model=crps(judged.forecasts.quantiles, judged.returns),
                reference=crps(judged.reference.quantiles, judged.returns),
            ),
            overlaps,
            seed=seed,
        ),
    )
    if found is None:
        return None
    return [replace(one, horizon_bars=h) for one, h in zip(found, judged.forecasts.horizons_bars, strict=True)]


def bars_text(horizon_bars: int) -> str:
    """Return '1 bar' or 'h bars'."""
    return "1 bar" if horizon_bars == 1 else f"{horizon_bars} bars"
