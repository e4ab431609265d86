"""Calibrate both fits of a family on the block that follows their training rows."""

from collections.abc import Callable
from dataclasses import dataclass

import dagster as dg

from forexgpt_assets.family.work import SHARES, Work, span
from forexgpt_assets.metadata import figures, picture
from forexgpt_core.composition import DataPin
from forexgpt_core.features.splits import Parts, SplitShares, deployment_parts, evidence_parts
from forexgpt_core.features.windows import Windows
from forexgpt_core.models.bundle import Bundle


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A calibration bundle, the model it belongs to, and what the block looked like before."""

    bundle: Bundle
    parent: Bundle
    rows: int
    uncalibrated: int
    drawing: bytes


def calibrate(work: Work) -> dg.MaterializeResult:
    """Write a calibration bundle for the evidence fit and one for the deployment fit."""
    evidence = _calibrate_one(work, "evidence_", evidence_parts)
    deployed = _calibrate_one(work, "", deployment_parts)
    shown = {
        "bundle_hash": deployed.bundle.hash12,
        "evidence_hash": evidence.bundle.hash12,
        "parent": deployed.parent.hash12,
        "uncalibrated_intervals": deployed.uncalibrated,
        "seconds": work.seconds,
    }
    return dg.MaterializeResult(
        data_version=dg.DataVersion(deployed.bundle.hash12),
        metadata={
            "dagster/row_count": deployed.rows,
            **figures(shown),
            "reliability": picture(deployed.drawing, "reliability and PIT before calibration"),
        },
    )


def _calibrate_one(work: Work, prefix: str, split: Callable[[Windows, SplitShares], Parts]) -> Calibrated:
    from forexgpt_core.calibration.conformal import ConformalCalibrator, write_calibration_bundle
    from forexgpt_core.models.bundled import load_model
    from forexgpt_core.reporting.evaluation import reliability_and_pit_picture

    trained = work.platform.version(work.settings, work.family, f"{prefix}model")
    kind, frame = f"{work.family}_{prefix}model", str(work.timeframe)
    loaded = load_model(work.platform.bundles, work.symbol, frame, kind, trained.bundle_hash)
    pin = DataPin.parse(trained.data_version)
    block = split(work.windows(pin, loaded.forecaster.horizons_bars), SHARES).calibration
    forecasts = loaded.forecaster.forecast(block)
    calibrator = ConformalCalibrator.fit(forecasts, block.returns)
    bundle = write_calibration_bundle(
        work.platform.bundles,
        calibrator,
        symbol=work.symbol,
        timeframe=frame,
        kind=f"{work.family}_{prefix}calibration",
        parent=loaded.bundle,
        metadata={"data_version": str(pin), "calibration": span(block), **work.platform.provenance()},
    )
    work.record(
        f"{prefix}calibration",
        bundle.hash12,
        trained.data_version,
        parent_hash=trained.bundle_hash,
        training_run_id=trained.training_run_id,
        mlflow_run_id=trained.mlflow_run_id,
    )
    return Calibrated(
        bundle=bundle,
        parent=loaded.bundle,
        rows=len(block),
        uncalibrated=len(calibrator.uncalibrated),
        drawing=reliability_and_pit_picture(forecasts, block.returns, f"{work.title}, before calibration"),
    )
