"""The stages of a training campaign: plan its members, run each on its own, keep what is best in some regime."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from forexgpt_assets.metadata import MetadataDict, figures, picture, table
from forexgpt_core.composition import Platform
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.forecasts import Floats
from forexgpt_core.errors import ForexGPTError, NotReady
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.table import Basis
from forexgpt_core.optimisation.campaign import Campaign, CampaignMember
from forexgpt_core.optimisation.campaign_data import StoredBars, member_arrays
from forexgpt_core.optimisation.campaign_run import (
    MemberPlan,
    fit_missing,
    forecasts_of,
    labels_of,
    labels_on,
    missing_folds,
    outcome_table,
    plan_member,
    with_labels,
)
from forexgpt_core.optimisation.campaign_selection import MemberLosses, Selection, select

Document = dict[str, object]  # plain JSON values: what steps hand to one another


@dataclass(frozen=True, kw_only=True)
class CampaignWork:
    """One run of one campaign.

    Attributes:
        say: tells the run's log how far the work is.
    """

    platform: Platform
    run_id: str
    say: Callable[[str], None]

    def plan(self, campaign: Campaign) -> list[Document]:
        """Record the campaign and the data it stands on, and return its members.

        One that was interrupted goes on with the data it began with; one that ended begins with the newest.

        Raises:
            BadInput: an option that a family does not have or take, or another campaign has the name.
        """
        campaign.require_buildable()
        self.platform.campaigns.require_free(campaign)
        before = {one.name: one for one in self.platform.campaigns.all()}.get(campaign.name)
        kept = before.basis if before is not None and before.state == "running" else {}
        basis = {
            symbol: kept[symbol] if "candles" in kept.get(symbol, {}) else self._basis(campaign, symbol)
            for symbol in campaign.symbols
        }
        record = self.platform.campaigns.begin(campaign, basis, run_key=self.run_id)
        self.say(f"campaign {campaign.name}: {len(record.members)} members, {record.counts()['completed']} completed")
        return [{"campaign": campaign.name, "member": one.member.hash12} for one in record.members]

    def run(self, document: Document) -> Document:
        """Fit what is missing of one member and record it; a failure is recorded and returned, never raised."""
        name, hash12 = str(document["campaign"]), str(document["member"])
        member, campaigns = self.platform.campaigns.member(name, hash12).member, self.platform.campaigns
        try:
            done = self._run(name, member)
        except Exception as error:
            told = " ".join(str(error).split()) or "no text"
            text = told if isinstance(error, ForexGPTError) else f"unexpected {type(error).__name__}: {told}"
            campaigns.fail(name, hash12, text)
            self.say(f"{member.title} failed: {text}")
            return {**document, "title": member.title, "error": text}
        self.say(f"{member.title}: {done}")
        return {**document, "title": member.title, "done": done}

    def finish(self, name: str) -> tuple[MetadataDict, str | None]:
        """Judge what is completed, remove the forecasts of what is best in no regime, and return what to show.

        Returns:
            metadata, and which members failed, None where none did.
        """
        started = perf_counter()
        scored = list(self._scored(name))
        selection = select([losses for losses, _ in scored])
        for losses, scores in scored:
            hash12 = losses.member.hash12
            kept = None if hash12 in selection.cleaned_up else selection.kept_for.get(hash12, ())
            shown = None if kept is None else [cell.to_dict() for cell in kept]
            self.platform.campaigns.judge(name, hash12, scores=scores, kept_for=shown)
        removed = self._clean(name, selection, [losses.member for losses, _ in scored])
        record = self.platform.campaigns.load(name)
        failed, counts = record.failures(), record.counts()
        error = f"{counts['failed']} of {len(record.members)} members failed: {'; '.join(failed)}" if failed else None
        shown_figures = {
            "verdict": selection.verdict,
            **counts,
            "kept": len(selection.kept_for) + len(selection.unjudged),
            "cleaned_up": len(selection.cleaned_up),
            "forecasts_removed": removed,
            "unjudged": len(selection.unjudged),
            "trials": sum(self.platform.campaigns.trials(symbol) for symbol in record.basis),
            "seconds": perf_counter() - started,
        }
        cells = [cell.to_dict() for cell in selection.cells]
        self.platform.campaigns.finish(name, details={**shown_figures, "cells": cells}, error=error)
        return self._metadata(name, selection, shown_figures, error), error

    # -----------------------------------------------------------------------------------------------------------------

    def _basis(self, campaign: Campaign, symbol: str) -> dict[str, object]:
        """Return the versions that a pair's members stand on, or why there are none."""
        try:
            settings = self.platform.pair(symbol)
            recipe = Recipe.from_document(campaign.recipe) if campaign.recipe else self.platform.recipe(settings)
            basis = self.platform.feature_basis(settings, recipe)
        except ForexGPTError as error:
            return {"refused": str(error)}
        return {
            "timeframe": settings.timeframe,
            "candles": basis.candles,
            "pairs": dict(basis.pairs),
            "recipe": basis.recipe.to_document(),
        }

    def _member_plan(self, name: str, member: CampaignMember) -> MemberPlan:
        basis = self.platform.campaigns.load(name).basis[member.symbol]
        if "refused" in basis:
            raise NotReady(basis["refused"])
        timeframe, recipe = Timeframe.parse(basis["timeframe"]), Recipe.from_document(basis["recipe"])
        read = Basis(recipe=recipe, candles=basis["candles"], pairs=basis["pairs"])
        stored = StoredBars(
            symbol=member.symbol,
            timeframe=timeframe,
            bars=self.platform.lake.candles(member.symbol, timeframe, version=read.candles),
            inputs=self.platform.feature_inputs(member.symbol, timeframe, read),
        )
        wanted = Timeframe.parse(member.timeframe)
        if below := [frame for frame in recipe.timeframes if frame.seconds < wanted.seconds]:
            self.say(
                f"{member.title}: {', '.join(below)} of the recipe lie below {wanted}; features of {wanted} and up"
            )
        arrays = member_arrays(stored, wanted, recipe, member.horizons_bars)
        return plan_member(member, arrays)

    def _run(self, name: str, member: CampaignMember) -> str:
        campaigns, folds = self.platform.campaigns, self.platform.folds
        plan, record = self._member_plan(name, member), campaigns.member(name, member.hash12)
        done = record.state == "completed" and record.result_hash == plan.result_hash
        if done and not missing_folds(plan, folds) and not (member.is_reference and not self._is_stored(name, member)):
            return "done before; nothing fitted"
        campaigns.start(name, member.hash12)
        folder = self.platform.working_folder(self.run_id, f"campaign_{member.hash12}")
        fitted = fit_missing(plan, folds, folder, self.say)
        tested = outcome_table(plan.keys, folds)
        forecasts, returns = forecasts_of(tested, member)
        labelled = with_labels(tested, forecasts.origin_utc, labels_on(plan, forecasts))
        self.platform.lake.replace(stored_kind(name, member), member.symbol, Timeframe(member.timeframe), labelled)
        campaigns.complete(
            name,
            member.hash12,
            result_hash=plan.result_hash,
            fold_keys=plan.keys,
            rows=len(forecasts),
            scores=_plain_scores(member, forecasts.quantiles, returns),
        )
        return f"fitted {fitted} of {len(plan.keys)} folds, {len(forecasts)} out-of-sample forecasts"

    def _scored(self, name: str) -> Iterator[tuple[MemberLosses, list[dict[str, object]]]]:
        """Yield the losses and scores of every completed member that has its random walk beside it."""
        from forexgpt_core.evaluation.report_card import score_family
        from forexgpt_core.evaluation.scores import crps

        completed = [one for one in self.platform.campaigns.load(name).members if one.state == "completed"]
        groups = defaultdict(list)
        for one in completed:
            groups[one.member.symbol, one.member.timeframe, one.member.horizons_bars].append(one)
        for group in groups.values():
            walk = next((one.member for one in group if one.member.is_reference), None)
            if walk is None:  # it failed, and says so
                continue
            stored = self.platform.lake.read(stored_kind(name, walk), walk.symbol, Timeframe(walk.timeframe))
            labels = labels_of(stored)
            reference, _ = forecasts_of(stored.drop("regime"), walk)
            for one in group:
                forecasts, returns = forecasts_of(outcome_table(one.fold_keys, self.platform.folds), one.member)
                try:
                    scores = score_family(forecasts, returns, reference, seed=one.member.seed)
                except ForexGPTError as error:
                    self.platform.campaigns.fail(name, one.member.hash12, str(error))
                    continue
                losses = MemberLosses(
                    member=one.member,
                    origin_utc=forecasts.origin_utc,
                    crps=crps(forecasts.quantiles, returns),
                    regimes=labels,
                )
                yield losses, [dict(score.to_dict()) for score in scores]

    def _is_stored(self, name: str, member: CampaignMember) -> bool:
        return self.platform.lake.exists(stored_kind(name, member), member.symbol, Timeframe(member.timeframe))

    def _clean(self, name: str, selection: Selection, members: Sequence[CampaignMember]) -> int:
        """Remove the forecasts of what is not kept, and return how many tables that were; store those missing."""
        removed = 0
        for member in members:
            key = (stored_kind(name, member), member.symbol, Timeframe(member.timeframe))
            if member.hash12 in selection.cleaned_up:
                removed += self.platform.lake.remove(*key)
            elif not self.platform.lake.exists(*key):  # a run before this one removed them
                self._store_again(name, member)
        return removed

    def _store_again(self, name: str, member: CampaignMember) -> None:
        keys = self.platform.campaigns.member(name, member.hash12).fold_keys
        tested = outcome_table(keys, self.platform.folds)
        forecasts, _ = forecasts_of(tested, member)
        labelled = with_labels(tested, forecasts.origin_utc, labels_on(self._member_plan(name, member), forecasts))
        self.platform.lake.replace(stored_kind(name, member), member.symbol, Timeframe(member.timeframe), labelled)

    def _metadata(
        self, name: str, selection: Selection, shown: Mapping[str, object], error: str | None
    ) -> MetadataDict:
        from forexgpt_core.reporting.campaigns import skill_by_regime_picture

        record = self.platform.campaigns.load(name)
        titles = {one.member.hash12: one.member.title for one in record.members}
        drawn: MetadataDict = {}
        if selection.cells:
            drawing = skill_by_regime_picture(selection.cells, titles, f"campaign {name}")
            drawn["skill"] = picture(drawing, "skill by member and regime")
        return {
            **figures({**shown, "failures": error or "none"}),
            "members": table([one.to_row() for one in record.members]),
            "winners": table([{"title": titles[c.member], **c.to_dict()} for c in selection.cells if c.best]),
            **drawn,
        }


def _plain_scores(member: CampaignMember, quantiles: Floats, returns: Floats) -> list[dict[str, object]]:
    """Return the mean CRPS per horizon; skill waits for the random walk."""
    from forexgpt_core.evaluation.scores import crps

    means = crps(quantiles, returns).mean(axis=0)
    return [{"horizon_bars": h, "crps": float(mean)} for h, mean in zip(member.horizons_bars, means, strict=True)]


def stored_kind(name: str, member: CampaignMember) -> str:
    """Return the kind of table in the lake that holds a member's forecasts."""
    return f"campaign_{name}_{member.hash12}"
