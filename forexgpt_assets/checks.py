"""Checks that several assets share."""

from typing import TYPE_CHECKING

import dagster as dg

from forexgpt_assets.metadata import figures, table
from forexgpt_assets.partitions import symbols

if TYPE_CHECKING:
    from forexgpt_core.domain.forecasts import Floats, ForecastBatch

COVERAGE = "intervals_cover"


def coverage_spec(asset: str) -> dg.AssetCheckSpec:
    """Return the check that an asset's forecasts cover what they promise."""
    return dg.AssetCheckSpec(
        COVERAGE,
        asset=asset,
        partitions_def=symbols,
        description="Every interval covers what it promises, as far as a 99 % binomial band of all together can tell.",
    )


def coverage_check(asset: str, forecasts: "ForecastBatch", returns: "Floats") -> dg.AssetCheckResult:
    """Judge every interval and horizon. A warning and no error: what misses its band is shown, and may be traded."""
    from dataclasses import asdict

    from forexgpt_core.evaluation.coverage import coverage_holds

    judged = coverage_holds(forecasts, returns)
    missed = [one for one in judged if not one.holds]
    mute = [one for one in judged if not one.can_fail]
    words = [f"{one.coverage:.1%} of {one.nominal:.0%} at {one.horizon_bars}" for one in missed]
    line = f"{len(judged) - len(missed)} of {len(judged)} intervals cover what they promise"
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=COVERAGE,
        passed=not missed,
        severity=dg.AssetCheckSeverity.WARN,
        description=line + (f"; outside their band: {', '.join(words)} bars" if words else ""),
        metadata={
            **figures({"calibrator": forecasts.calibrator, "too_few_to_fail": len(mute)}),
            "coverage_and_width": table([asdict(one) for one in judged]),
        },
    )


def coverage_unknown(asset: str, why: str) -> dg.AssetCheckResult:
    """Return the result of a check for which there are no forecasts."""
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=COVERAGE,
        passed=True,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"nothing to judge: {why}",
    )
