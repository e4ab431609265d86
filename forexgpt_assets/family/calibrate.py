"""Calibrate a family's model on the block that follows its training rows."""

import dagster as dg

from forexgpt_assets.family.work import Work, span
from forexgpt_assets.metadata import figures, picture
from forexgpt_core.composition import DataPin
from forexgpt_core.evaluation.walk_forward import newest_parts


def calibrate(work: Work) -> dg.MaterializeResult:
    """Write the calibration bundle of the newest model."""
    from forexgpt_core.calibration.conformal import ConformalCalibrator, write_calibration_bundle
    from forexgpt_core.models.bundled import load_model
    from forexgpt_core.reporting.evaluation import reliability_and_pit_picture

    platform, frame = work.platform, str(work.timeframe)
    trained = platform.version(work.settings, work.family, "model")
    loaded = load_model(platform.bundles, work.symbol, frame, f"{work.family}_model", trained.bundle_hash)
    pin = DataPin.parse(trained.data_version)
    windows = work.windows(pin, loaded.forecaster.horizons_bars)
    block = newest_parts(windows, work.split_of(loaded.bundle)).calibration
    forecasts = loaded.forecaster.forecast(block)
    calibrator = ConformalCalibrator.fit(forecasts, block.returns, method=work.settings.calibration.method)
    bundle = write_calibration_bundle(
        platform.bundles,
        calibrator,
        symbol=work.symbol,
        timeframe=frame,
        kind=f"{work.family}_calibration",
        parent=loaded.bundle,
        metadata={"data_version": str(pin), "calibration": span(block), **platform.provenance()},
    )
    work.record(
        "calibration",
        bundle.hash12,
        trained.data_version,
        parent_hash=trained.bundle_hash,
        training_run_id=trained.training_run_id,
        mlflow_run_id=trained.mlflow_run_id,
    )
    drawing = reliability_and_pit_picture(forecasts, block.returns, f"{work.title}, before calibration")
    shown = {
        "bundle_hash": bundle.hash12,
        "parent": loaded.bundle.hash12,
        "method": calibrator.method,
        "uncalibrated_intervals": len(calibrator.uncalibrated),
        "seconds": work.seconds,
    }
    return dg.MaterializeResult(
        data_version=dg.DataVersion(bundle.hash12),
        metadata={
            "dagster/row_count": len(block),
            **figures(shown),
            "reliability": picture(drawing, "reliability and PIT before calibration"),
        },
    )
