"""Training campaigns: a grid over pairs, timeframes, horizons, families and options as one run."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pydantic

from forexgpt_assets.campaign_work import CampaignWork, Document
from forexgpt_assets.defs.models import FOLD
from forexgpt_assets.progress import lines_of
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.campaign_documents import campaign_of
from forexgpt_core.errors import BadInput


class CampaignConfig(dg.Config):
    """The campaign as a document, or the name of one that was recorded; one of the two."""

    document: dict[str, Any] = pydantic.Field(default_factory=dict)
    name: str = ""


@dg.op(out={"one": dg.DynamicOut(dict), "name": dg.Out(str)})
def plan_campaign(
    context: dg.OpExecutionContext, config: CampaignConfig, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.DynamicOutput[Document] | dg.Output[str]]:
    """Record the campaign and the data it stands on; one that was interrupted goes on with the data it began with."""
    if bool(config.document) == bool(config.name):
        raise BadInput("a campaign is run by its document or by the name of a recorded one: give one of the two")
    campaign = campaign_of(config.document or platform.campaigns.load(config.name).document)
    planned = _work(context, platform).plan(campaign)
    context.add_output_metadata({"members": len(planned)}, output_name="name")
    yield dg.Output(campaign.name, "name")
    for one in planned:
        yield dg.DynamicOutput(one, mapping_key=str(one["member"]), output_name="one")


@dg.op(tags=FOLD)
def run_member(
    context: dg.OpExecutionContext, one: dict[str, Any], platform: dg.ResourceParam[Platform]
) -> dict[str, Any]:
    """Validate one member; folds that are finished are not fitted again, and a failure stops no other member."""
    result = _work(context, platform).run(one)
    context.add_output_metadata({name: str(value) for name, value in result.items()})
    return result


@dg.op(out=dg.Out(dg.Nothing))
def select_members(
    context: dg.OpExecutionContext, name: str, ran: list[dict[str, Any]], platform: dg.ResourceParam[Platform]
) -> Iterator[dg.Output[None]]:
    """Keep what is best in at least one regime, remove the forecasts of the rest, and say which members failed."""
    shown, failed = _work(context, platform).finish(name)
    fresh = sum("nothing fitted" not in str(one.get("done", "")) for one in ran)
    context.log.info(f"campaign {name}: {len(ran)} members, {fresh} of them worked on in this run")
    if failed:  # nothing hangs on the output, and what was judged is recorded
        raise dg.Failure(failed, metadata=shown, allow_retries=False)
    yield dg.Output(None, metadata=shown)


@dg.job(
    description="Validate every member of a grid, skip what is done, keep what is best in some regime.",
    tags={"stage": "training"},  # one such run at a time
)
def campaign_job() -> None:
    """Plan, run every member, select."""
    one, name = plan_campaign()
    select_members(name, one.map(run_member).collect())


def _work(context: dg.OpExecutionContext, platform: Platform) -> CampaignWork:
    return CampaignWork(platform=platform, run_id=context.run.run_id, say=lines_of(context))
