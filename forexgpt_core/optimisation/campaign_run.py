"""Run one member of a campaign: its walk-forward, fold by fold, each kept as soon as it is finished."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from forexgpt_core.domain.forecast_table import from_table
from forexgpt_core.domain.forecasts import Floats, ForecastBatch, Times
from forexgpt_core.ensemble.regimes import REGIMES, RegimeSettings, running_labels
from forexgpt_core.errors import NotReady
from forexgpt_core.evaluation.walk_forward import TEST, Fold, fold_key, plan_folds, run_fold
from forexgpt_core.features.windows import MarketArrays, Windows, usable
from forexgpt_core.models.forecaster import FitRun
from forexgpt_core.optimisation.campaign import CampaignMember
from forexgpt_core.optimisation.campaign_selection import NOT_TOLD, Labels


class Folds(Protocol):
    """Finished folds; see `adapters.fold_store.FoldStore`."""

    def get(self, key: str) -> pl.DataFrame | None:
        """Return a fold's outcome, or None where it has not been finished."""
        ...

    def put(self, key: str, outcome: pl.DataFrame) -> None:
        """Store a fold's outcome."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberPlan:
    """The folds of a member on given data.

    Attributes:
        keys: one per fold; each names what is fitted on what.
        result_hash: of all of them: equal hashes are equal results.
    """

    member: CampaignMember
    windows: Windows
    folds: tuple[Fold, ...]
    keys: tuple[str, ...]
    result_hash: str


def plan_member(member: CampaignMember, arrays: MarketArrays) -> MemberPlan:
    """Return what a member has to fit.

    Raises:
        NotReady: there are fewer usable rows than its folds need.
    """
    windows = usable(arrays, matured=True)
    folds = plan_folds(windows, member.walk_forward)
    keys = tuple(fold_key(windows, fold, member.candidate, member.walk_forward) for fold in folds)
    named = hashlib.sha256("\n".join((member.hash12, *keys)).encode()).hexdigest()[:16]
    return MemberPlan(member=member, windows=windows, folds=folds, keys=keys, result_hash=named)


def missing_folds(plan: MemberPlan, store: Folds) -> tuple[Fold, ...]:
    """Return the folds that are not finished."""
    return tuple(fold for fold, key in zip(plan.folds, plan.keys, strict=True) if store.get(key) is None)


def fit_missing(plan: MemberPlan, store: Folds, folder: Path, say: Callable[[str], None]) -> int:
    """Fit, calibrate and forecast every fold that is not finished, and return how many those were.

    Stopped in the middle, the next call goes on with the fold that was being fitted.
    """
    run = FitRun(seed=plan.member.seed, folder=folder)
    unfinished = missing_folds(plan, store)
    for fold in unfinished:
        say(f"{plan.member.title}: fitting fold {fold.number} of {len(plan.folds)}")
        named = replace(run, progress=lambda share, message: say(f"{plan.member.title}: {share:.0%} {message}"))
        outcome = run_fold(plan.windows, fold, plan.member.candidate, plan.member.walk_forward, named)
        store.put(plan.keys[plan.folds.index(fold)], outcome)
    return len(unfinished)


def labels_on(plan: MemberPlan, forecasts: ForecastBatch) -> Labels:
    """Return the regime of each origin of a member's forecasts, told by the bars up to it; (n,)."""
    arrays = plan.windows.arrays
    places = running_labels(arrays.close, RegimeSettings())[np.searchsorted(arrays.ts_utc, forecasts.origin_utc)]
    return np.array([*REGIMES, NOT_TOLD])[places]  # an unknown one is -1, the last


def outcome_table(keys: Sequence[str], store: Folds) -> pl.DataFrame:
    """Return the tested forecasts of some folds, one after the other; raise NotReady where one is not finished."""
    tables = [store.get(key) for key in keys]
    found = [table for table in tables if table is not None]
    if len(found) < len(keys):
        raise NotReady(f"{len(keys) - len(found)} of {len(keys)} folds are not finished: run the campaign again")
    return pl.concat(found).filter(pl.col("part") == TEST).drop("part")


def forecasts_of(table: pl.DataFrame, member: CampaignMember) -> tuple[ForecastBatch, Floats]:
    """Return a member's stored forecasts (n, H) and the returns that followed (n, H)."""
    return from_table(table, symbol=member.symbol, timeframe=member.timeframe, family=member.family)


def with_labels(table: pl.DataFrame, origin_utc: Times, regimes: Labels) -> pl.DataFrame:
    """Return a member's forecasts with the regime of each origin beside them, in the form the lake stores."""
    origins = pl.Series("ts_utc", origin_utc).dt.replace_time_zone("UTC")
    named = pl.DataFrame({"ts_utc": origins, "regime": regimes})
    return table.join(named, on="ts_utc", how="left", maintain_order="left")


def labels_of(table: pl.DataFrame) -> Labels:
    """Return the regime of each origin of what `with_labels` made, in time order; (n,)."""
    first = table.group_by("ts_utc").agg(pl.col("regime").first()).sort("ts_utc")
    return first["regime"].to_numpy().astype(np.str_)
