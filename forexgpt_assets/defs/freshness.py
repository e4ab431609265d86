"""Are the candles up to date? Per pair as a check, and for all pairs in one table. Both know the FX week."""

from datetime import UTC, datetime

import dagster as dg

from forexgpt_assets.defs.candles import candles
from forexgpt_assets.metadata import figures, table
from forexgpt_assets.partitions import symbols
from forexgpt_core.candles.freshness import EMPTY, STALE, Freshness, market_open
from forexgpt_core.candles.freshness import table as worst_first
from forexgpt_core.composition import Platform

CHECK = "candles_are_fresh"


@dg.asset_check(
    asset=candles,
    name=CHECK,
    blocking=False,
    partitions_def=symbols,
    description="The newest bar is as new as the FX week allows; weekends, holidays and archives are no fault.",
)
def candles_are_fresh(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.AssetCheckResult:
    """Compare the close of a pair's newest bar with the bars that the market has traded since."""
    state = platform.freshness(platform.pair(context.partition_key))
    return dg.AssetCheckResult(
        passed=_passed(state),
        severity=dg.AssetCheckSeverity.WARN,
        description=state.line,
        metadata=figures(state.row()),
    )


@dg.asset(deps=[candles], group_name="monitoring", kinds={"deltalake"})
def candles_freshness(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
    """How up to date each pair is at this moment, the stale ones first; the check of each pair is renewed as well.

    A pair whose runs fail has no run in which its own check could be renewed, and is the one that falls behind.
    """
    now = datetime.now(UTC)
    keys = sorted(context.instance.get_dynamic_partitions("symbol"))
    states = [platform.freshness(platform.pair(key), now) for key in keys]
    for state in states:
        context.instance.report_runless_asset_event(_evaluation(state))
    stale = [s for s in states if s.state == STALE]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(states),
            **figures(
                {
                    "market_open": market_open(now),
                    "stale_pairs": len(stale),
                    "stale": ", ".join(s.symbol for s in stale) or "none",
                    "pairs_without_candles": sum(s.state == EMPTY for s in states),
                    "most_bars_behind": max((s.bars_behind for s in stale), default=0),
                    "checked_utc": now,
                }
            ),
            "pairs": table(worst_first(states).to_dicts()),
        }
    )


def _passed(state: Freshness) -> bool:
    return state.state not in (STALE, EMPTY)


def _evaluation(state: Freshness) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=candles.key,
        check_name=CHECK,
        passed=_passed(state),
        severity=dg.AssetCheckSeverity.WARN,
        description=state.line,
        metadata=figures(state.row()),
        blocking=False,
        partition=state.symbol,
    )
