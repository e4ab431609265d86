"""The report card of a pair: all families, all horizons, every score with what it is worth, and one sentence.

Nothing is left out in silence: what cannot be computed is a line in `unsaid` that says why.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.domain.clock import from_utc
from forexgpt_core.domain.forecast_table import common_origins
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.card_entries import (
    CardEntry,
    FamilyCard,
    JudgedFamily,
    Names,
    Unsaid,
    bars_text,
    family_card,
)
from forexgpt_core.evaluation.card_money import BacktestMoney, SearchMoney, StrategyRecord, backtest_money, search_money
from forexgpt_core.evaluation.card_sets import HorizonSets, horizon_sets
from forexgpt_core.evaluation.card_verdict import verdict_sentence
from forexgpt_core.evaluation.pairing import UnpairedReturns, origin_slots, overlapping_rows, require_paired
from forexgpt_core.evaluation.report_card import HorizonScore, Leaderboard, TooFewForecasts, holm, rank
from forexgpt_core.evaluation.scores import crps
from forexgpt_core.evaluation.significance import ConstantLossDifference

Floats = NDArray[np.float64]

CROSS_VALIDATION_COLUMNS = ("family", "path", "horizon_bars", "skill")
_ALWAYS_UNSAID = "energy score and fair sample CRPS: the lake keeps quantiles of each horizon and no joint paths"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CardInputs:
    """What a card is made from.

    Attributes:
        families: by name, the reference among them; forecasts of each with the reference's of the same origins.
        reference: name of the family that all are measured against.
        traded: name of the family whose calibration and direction the verdict tells; the best ranked where absent.
        regimes: by family, (n,) names of the regimes known at its origins; empty without.
        round_trip_cost: of one trade in log return; None where unknown.
        tested: strategies on these forecasts; None where none was tried.
        paths: CROSS_VALIDATION_COLUMNS of combinatorial cross-validation; None where none was run.
        beside: scores of walks and pools whose forecasts are not kept, as they were evaluated.
        absent: families that are switched on and not judged on these data.
        missing: lines about stages that were not run or do not fit.
        seed: of every bootstrap.
    """

    symbol: str
    timeframe: str
    families: Mapping[str, JudgedFamily]
    reference: str
    traded: str = "ensemble"
    regimes: Mapping[str, Names] = field(default_factory=dict)
    round_trip_cost: float | None = None
    tested: StrategyRecord | None = None
    paths: pl.DataFrame | None = None
    beside: Sequence[HorizonScore] = ()
    absent: Sequence[str] = ()
    missing: Sequence[str] = ()
    seed: int

    def __post_init__(self) -> None:
        if self.reference not in self.families:
            known = ", ".join(self.families) or "none"
            raise BadInput(f"a report card needs forecasts of the reference {self.reference}, got {known}")
        for name, judged in self.families.items():
            if judged.forecasts.family != name:
                raise BadInput(f"forecasts of '{judged.forecasts.family}' were given as those of '{name}'")
            require_paired(judged.forecasts, judged.returns)
            labels = self.regimes.get(name)
            if labels is not None and labels.shape != (len(judged.forecasts),):
                raise UnpairedReturns(f"{name} has {len(judged.forecasts)} origins and regimes of shape {labels.shape}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSkill:
    """Skill over all backtest paths of combinatorial cross-validation; paths share rows, so it is no interval."""

    family: str
    horizon_bars: int
    paths: int
    mean: float
    low: float
    high: float
    below_zero: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportCard:
    """Everything that is known about the forecasts of a pair.

    Attributes:
        verdict: one sentence on skill, calibration, direction and money.
        told: family whose calibration and direction the verdict tells; "" where nothing could be scored.
        first_utc, last_utc: opens of the first and last origin of the reference.
        board: ranks, corrected p-values and warnings; None where nothing could be scored.
        families: by name, in the order of rank.
        sets: by horizon.
        unsaid: what the card cannot say, and why; one line each.
    """

    symbol: str
    timeframe: str
    reference: str
    verdict: str
    told: str
    first_utc: str
    last_utc: str
    board: Leaderboard | None
    families: tuple[FamilyCard, ...]
    sets: tuple[HorizonSets, ...]
    beside: tuple[HorizonScore, ...]
    backtest: BacktestMoney | None
    search: SearchMoney | None
    paths: tuple[PathSkill, ...]
    absent: tuple[str, ...]
    unsaid: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the card as strict JSON values; what is undefined is None."""
        rows = {} if self.board is None else {row.family: row for row in self.board.rows}
        shown = set() if self.board is None else set(self.board.shown_skill)
        families = [
            {
                "family": card.family,
                "rank": rows[card.family].rank,
                "mean_skill": rows[card.family].mean_skill,
                "calibrator": card.calibrator,
                "flags": card.flags,
                "horizons": [
                    {
                        **asdict(entry),
                        "calibrated": entry.calibrated,
                        "equals_reference": entry.score.equals_reference,
                        "holm_p": holm_p,
                        "shown": (card.family, entry.score.horizon_bars) in shown,
                        "degradation_sentence": entry.degradation.sentence if entry.degradation else None,
                        "overfitted": entry.degradation.overfitted if entry.degradation else None,
                    }
                    for entry, holm_p in zip(card.entries, rows[card.family].holm_p, strict=True)
                ],
                "coverage": [] if card.coverage is None else card.coverage.to_dicts(),
            }
            for card in self.families
        ]
        facts = {name: getattr(self, name) for name in _FACTS}
        parts = {
            "warnings": () if self.board is None else self.board.warnings,
            "families": families,
            "sets": [asdict(one) for one in self.sets],
            "beside": [one.to_dict() for one in self.beside],
            "backtest": None if self.backtest is None else asdict(self.backtest),
            "search": None if self.search is None else asdict(self.search),
            "paths": [asdict(one) for one in self.paths],
            "unsaid": self.unsaid,
        }
        return {name: _plain(value) for name, value in {**facts, **parts}.items()}


_FACTS = ("symbol", "timeframe", "reference", "verdict", "told", "first_utc", "last_utc", "absent")


def report_card(inputs: CardInputs) -> ReportCard:
    """Return the report card of a pair.

    A family with too few forecasts, or whose losses differ from the reference's by the same in every row, is named in
    `unsaid`, and the others are judged.

    Raises:
        UnsortedOrigins: origins of a family repeat or go back in time.
        DifferentOrigins: a family and its reference differ in origins or horizons.
    """
    unsaid = Unsaid()
    unsaid.lines.extend(inputs.missing)
    cards = {}
    for name, judged in inputs.families.items():
        labels = inputs.regimes.get(name)
        if labels is None and name != inputs.reference:
            unsaid.say(f"regimes of {name}", "no regime is known at its origins")
        try:
            cards[name] = family_card(judged, labels, inputs.round_trip_cost, unsaid, seed=inputs.seed)
        except (TooFewForecasts, ConstantLossDifference) as refused:
            unsaid.say(name, refused)
    cards = _corrected(cards)
    scores = [entry.score for card in cards.values() for entry in card.entries]
    board = rank(scores, absent=inputs.absent) if scores else None
    order = [row.family for row in board.rows] if board else []
    told = inputs.traded if inputs.traded in cards else next(iter(order), "")
    backtest = backtest_money(inputs.tested, unsaid) if inputs.tested else None
    search = search_money(inputs.tested, unsaid) if inputs.tested else None
    if inputs.round_trip_cost is None:
        unsaid.say("break-even direction", "the cost of a trade is not known")
    where = f"{inputs.symbol} {inputs.timeframe}"
    sets = _sets(inputs, tuple(cards), unsaid)
    paths = _paths(inputs.paths, unsaid)
    unsaid.lines.append(_ALWAYS_UNSAID)
    origins = inputs.families[inputs.reference].forecasts.origin_utc
    return ReportCard(
        symbol=inputs.symbol,
        timeframe=inputs.timeframe,
        reference=inputs.reference,
        verdict=verdict_sentence(where, board, cards.get(told), backtest, search),
        told=told,
        first_utc=from_utc(origins[0]).isoformat(),
        last_utc=from_utc(origins[-1]).isoformat(),
        board=board,
        families=tuple(cards[name] for name in order),
        sets=sets,
        beside=tuple(inputs.beside),
        backtest=backtest,
        search=search,
        paths=paths,
        absent=tuple(inputs.absent),
        unsaid=tuple(unsaid.lines),
    )


def _corrected(cards: Mapping[str, FamilyCard]) -> dict[str, FamilyCard]:
    """Return cards whose p-values by regime are corrected for all families, horizons and regimes that stand there."""
    compared = [entry.regimes for card in cards.values() for entry in card.entries if entry.regimes is not None]
    adjusted = iter(holm([one.p_value for found in compared for one in found.regimes]))

    def corrected(entry: CardEntry) -> CardEntry:
        if entry.regimes is None:
            return entry
        regimes = tuple(replace(one, holm_p=next(adjusted)) for one in entry.regimes.regimes)
        return replace(entry, regimes=replace(entry.regimes, regimes=regimes))

    return {
        name: replace(card, entries=tuple(corrected(entry) for entry in card.entries)) for name, card in cards.items()
    }


def _sets(inputs: CardInputs, names: tuple[str, ...], unsaid: Unsaid) -> tuple[HorizonSets, ...]:
    what = "model confidence set and superior ability"
    if inputs.reference not in names or len(names) < 2:
        unsaid.say(what, "they compare two families or more with the reference")
        return ()
    horizons = {inputs.families[name].forecasts.horizons_bars for name in names}
    if len(horizons) > 1:
        unsaid.say(what, f"families were judged at different horizons: {sorted(horizons)}")
        return ()
    shared = common_origins([(inputs.families[n].forecasts, inputs.families[n].returns) for n in names])
    losses = np.stack([crps(batch.quantiles, returns) for batch, returns in shared], axis=-1)  # (n, H, k)
    if not len(losses):
        unsaid.say(what, "the families share no origin")
        return ()
    slots = origin_slots(shared[0][0])

    def at(column: int, horizon: int) -> HorizonSets:
        overlap = overlapping_rows(slots, horizon)
        return horizon_sets(losses[:, column], names, inputs.reference, horizon, overlap, seed=inputs.seed)

    found = [
        unsaid.attempt(f"{what} at {bars_text(horizon)}", partial(at, column, horizon))
        for column, horizon in enumerate(next(iter(horizons)))
    ]
    sets = tuple(one for one in found if one is not None)
    if sets and sets[0].rows_averaged > 1:
        unsaid.say(what, f"each row is the mean of {sets[0].rows_averaged} neighbouring origins, for speed")
    return sets


def _paths(paths: pl.DataFrame | None, unsaid: Unsaid) -> tuple[PathSkill, ...]:
    if paths is None:
        unsaid.say("cross-validation", "it was not run; materialize cross_validation to see how much one order matters")
        return ()
    absent = [name for name in CROSS_VALIDATION_COLUMNS if name not in paths.columns]
    if absent:
        raise BadInput(f"the paths of cross-validation lack {', '.join(absent)}")
    told = (
        paths.group_by("family", "horizon_bars", maintain_order=True)
        .agg(
            paths=pl.len(),
            mean=pl.col("skill").mean(),
            low=pl.col("skill").quantile(0.05, "linear"),
            high=pl.col("skill").quantile(0.95, "linear"),
            below_zero=(pl.col("skill") < 0).mean(),
        )
        .sort("family", "horizon_bars")
    )
    return tuple(PathSkill(**row) for row in told.to_dicts())


def _plain(value: Any) -> Any:
    """Return a value as strict JSON carries it."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
