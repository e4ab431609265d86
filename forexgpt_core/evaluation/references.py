"""The plainer random walks beside the reference, so that nobody sells the time of day as skill."""

from collections.abc import Mapping
from dataclasses import replace

from forexgpt_core.calibration.conformal import ConformalCalibrator
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.features.splits import Parts
from forexgpt_core.models.catalogue import new_forecaster
from forexgpt_core.models.forecaster import FitRun

SECOND_REFERENCES: Mapping[str, Mapping[str, object]] = {
    "ewma_walk": {"seasonal": False},
    "walk_250": {"seasonal": False, "volatility": "rolling", "window_bars": 250},
}


def second_references(parts: Parts, run: FitRun) -> dict[str, ForecastBatch]:
    """Return the test forecasts of the walks without an hour-of-week factor, fitted and calibrated like any family."""
    forecasts = {}
    for name, options in SECOND_REFERENCES.items():
        walk = new_forecaster("random_walk", options).fit(parts.train, parts.valid, run=run)
        calibrator = ConformalCalibrator.fit(walk.forecast(parts.calibration), parts.calibration.returns)
        forecasts[name] = replace(calibrator.apply(walk.forecast(parts.test)), family=name)
    return forecasts
