"""Which members of a campaign to keep: those that are best out of sample in at least one regime of the market.

Choosing the lowest of many means finds the lucky beside the good. So each winner carries its Diebold-Mariano p-value
against the random walk, corrected by Holm for every comparison of the campaign, and the random walk wins every tie.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.domain.forecasts import Floats, Times
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.report_card import LEAST_ROWS, SIGNIFICANT, holm
from forexgpt_core.evaluation.significance import ConstantLossDifference, UnpairedLosses, diebold_mariano
from forexgpt_core.optimisation.campaign import CampaignMember

Bools = NDArray[np.bool_]
Labels = NDArray[np.str_]

NOT_TOLD = ""  # the regime of an origin with too little past
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MemberLosses:
    """Out-of-sample losses of a member.

    Attributes:
        origin_utc: (n,) increasing.
        crps: (n, H), one column per horizon of the member.
        regimes: (n,) label of each origin, `NOT_TOLD` where there is none; those of the random walk are used.
    """

    member: CampaignMember
    origin_utc: Times
    crps: Floats
    regimes: Labels

    def __post_init__(self) -> None:
        n, horizons = len(self.origin_utc), len(self.member.horizons_bars)
        title = self.member.title
        if self.crps.shape != (n, horizons) or self.regimes.shape != (n,):
            raise BadInput(f"{title}: losses {self.crps.shape} and regimes {self.regimes.shape} must have {n} rows")
        if (np.diff(self.origin_utc.astype(np.int64)) <= 0).any():
            raise BadInput(f"{title}: origins must be strictly increasing")
        if not np.isfinite(self.crps).all():
            raise BadInput(f"{title}: losses must be finite; score matured origins only")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One member at one horizon in one regime.

    Attributes:
        member: its hash.
        n: origins in the regime.
        crps_reference: of the random walk of the same horizons, on the same origins.
        skill: 1 - crps / crps_reference.
        dm_p: one-sided Diebold-Mariano p of "better than the random walk in this regime"; 1 for the walk itself, NaN
            where it cannot be tested.
        holm_p: the same, corrected for all comparisons of the campaign.
        best: the member has the lowest mean CRPS of all that forecast this horizon.
    """

    symbol: str
    timeframe: str
    horizon_bars: int
    regime: str
    member: str
    n: int
    crps: float
    crps_reference: float
    skill: float
    dm_p: float
    holm_p: float
    best: bool

    def to_dict(self) -> dict[str, object]:
        """Return a JSON-safe copy: NaN becomes None."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a campaign keeps.

    Attributes:
        cells: of every member, horizon and regime with enough rows.
        kept_for: by member hash, the cells it is best in; the random walks are kept without any.
        cleaned_up: hashes of members that are best in no regime.
        unjudged: hashes of members without a random walk beside them, or with too few shared origins; kept.
        verdict: in a sentence.
    """

    cells: tuple[Cell, ...]
    kept_for: Mapping[str, tuple[Cell, ...]]
    cleaned_up: tuple[str, ...]
    unjudged: tuple[str, ...]
    verdict: str


def select(outcomes: Sequence[MemberLosses]) -> Selection:
    """Return what is kept of finished members.

    Members of a pair and timeframe that forecast a horizon are compared on the origins that all of them have, regime
    by regime; a regime with fewer than 30 of them is left out.

    Raises:
        BadInput: a member is given twice.
    """
    hashes = [one.member.hash12 for one in outcomes]
    if len(set(hashes)) < len(hashes):
        raise BadInput("a member of the campaign is given twice")
    markets = defaultdict(list)
    for one in outcomes:
        markets[one.member.symbol, one.member.timeframe].append(one)
    cells = _corrected([cell for market in markets.values() for cell in _judged(market)])
    seen = {cell.member for cell in cells}
    references = {one.member.hash12 for one in outcomes if one.member.is_reference}
    winners = {name: tuple(c for c in cells if c.best and c.member == name) for name in hashes}
    kept_for = {name: won for name, won in winners.items() if won or name in references}
    return Selection(
        cells=tuple(cells),
        kept_for=kept_for,
        cleaned_up=tuple(name for name in hashes if name in seen and name not in kept_for),
        unjudged=tuple(name for name in hashes if name not in seen and name not in references),
        verdict=_verdict(cells, kept_for, references, len(hashes)),
    )


def _judged(market: Sequence[MemberLosses]) -> Iterator[Cell]:
    """Yield the cells of one pair and timeframe."""
    walks = {one.member.horizons_bars: one for one in market if one.member.is_reference}
    beside = [one for one in market if one.member.horizons_bars in walks]
    for horizon in sorted({h for one in beside for h in one.member.horizons_bars}):
        compared = [one for one in beside if horizon in one.member.horizons_bars]
        shared = compared[0].origin_utc
        for one in compared[1:]:
            shared = np.intersect1d(shared, one.origin_utc)
        if not shared.size:
            continue
        losses = {one.member.hash12: _losses(one, horizon, shared) for one in compared}
        plain = {h: losses[walk.member.hash12] for h, walk in walks.items() if walk.member.hash12 in losses}
        first = next(one for one in compared if one.member.is_reference)
        labels = first.regimes[np.searchsorted(first.origin_utc, shared)]
        for regime in sorted(set(labels.tolist()) - {NOT_TOLD}):
            inside = labels == regime
            if inside.sum() >= LEAST_ROWS:
                yield from _cells(compared, losses, plain, horizon, regime, inside)


def _losses(one: MemberLosses, horizon: int, shared: Times) -> Floats:
    column = one.member.horizons_bars.index(horizon)
    return np.asarray(one.crps[np.searchsorted(one.origin_utc, shared), column])


def _cells(
    compared: Sequence[MemberLosses],
    losses: Mapping[str, Floats],
    plain: Mapping[tuple[int, ...], Floats],
    horizon: int,
    regime: str,
    inside: Bools,
) -> list[Cell]:
    cells = []
    for one in compared:
        own, reference = losses[one.member.hash12], plain[one.member.horizons_bars]
        own = np.where(np.isclose(own, reference, rtol=_ROUNDING, atol=0.0), reference, own)
        mean, beside = float(own[inside].mean()), float(reference[inside].mean())
        cells.append(
            Cell(
                symbol=one.member.symbol,
                timeframe=one.member.timeframe,
                horizon_bars=horizon,
                regime=regime,
                member=one.member.hash12,
                n=int(inside.sum()),
                crps=mean,
                crps_reference=beside,
                skill=1 - mean / beside if beside else 0.0,
                dm_p=1.0 if one.member.is_reference else _p_better(own, reference, horizon, inside),
                holm_p=math.nan,
                best=False,
            )
        )
    winner = _best(cells, [one.member.is_reference for one in compared])
    cells[winner] = replace(cells[winner], best=True)
    return cells


def _p_better(own: Floats, reference: Floats, horizon: int, inside: Bools) -> float:
    """Return the p-value of a lower loss inside a regime.

    All origins stay in the series, with no difference outside the regime, so that neighbours in it are neighbours in
    time: the conditional test of Giacomini and White (2006), Econometrica 74(6), with the regime as instrument.
    """
    try:
        return diebold_mariano(np.where(inside, own, 0.0), np.where(inside, reference, 0.0), horizon).p_better
    except (UnpairedLosses, ConstantLossDifference):
        return math.nan


def _best(cells: Sequence[Cell], walks: Sequence[bool]) -> int:
    """Return the place of the lowest mean; of equal ones the random walk, then the first."""
    order = sorted(range(len(cells)), key=lambda place: (not walks[place], place))
    best = order[0]
    for place in order[1:]:
        if cells[place].crps < cells[best].crps * (1 - _ROUNDING):
            best = place
    return best


def _is_tested(cell: Cell) -> bool:
    """Return whether a cell is a comparison; the random walk, and a model that equals it, are none."""
    return cell.crps != cell.crps_reference and not math.isnan(cell.dm_p)


def _corrected(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells with p-values corrected for all comparisons."""
    tested = [place for place, cell in enumerate(cells) if _is_tested(cell)]
    corrected = [replace(cell, holm_p=cell.dm_p) for cell in cells]
    for place, p in zip(tested, holm([cells[place].dm_p for place in tested]), strict=True):
        corrected[place] = replace(cells[place], holm_p=p)
    return corrected


def _verdict(cells: Sequence[Cell], kept_for: Mapping[str, object], references: set[str], members: int) -> str:
    others = [name for name in kept_for if name not in references]
    shown = {cell.member for cell in cells if cell.best and cell.holm_p < SIGNIFICANT}
    compared = sum(_is_tested(cell) for cell in cells)
    kept = f"{len(others)} of {members - len(references)} models are best in at least one regime"
    if not cells:
        return "Nothing was judged: no member was completed beside its random walk with enough forecasts in a regime."
    if not compared and others:
        return f"{kept}; none has enough forecasts to be tested, so nothing can be shown."
    if not compared:
        return "Only the random walk, or models equal to it, were judged, so nothing can be shown."
    if not others:
        return f"Nothing is better than the random walk in any regime, in {compared} comparisons."
    if not shown:
        return f"{kept}; none is shown to beat the random walk there after {compared} comparisons (Holm)."
    return f"{kept}; {len(shown)} of them beat the random walk there after {compared} comparisons (Holm, 5 %)."
