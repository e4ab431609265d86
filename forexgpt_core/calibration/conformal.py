"""Split conformal calibration as the other rooms use it; see `ranks`, `split` and `bundled` for what is behind it."""

from forexgpt_core.calibration.bundled import CalibratedModel, load_calibrated, write_calibration_bundle
from forexgpt_core.calibration.ranks import (
    TooFewScores,
    conformal_interval,
    conformal_radius,
    exact_rank,
    radius_or_infinity,
)
from forexgpt_core.calibration.split import METHODS, ConformalCalibrator, Method

__all__ = [
    "METHODS",
    "CalibratedModel",
    "ConformalCalibrator",
    "Method",
    "TooFewScores",
    "conformal_interval",
    "conformal_radius",
    "exact_rank",
    "load_calibrated",
    "radius_or_infinity",
    "write_calibration_bundle",
]
