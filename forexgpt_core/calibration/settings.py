"""How a pair's forecasts are calibrated."""

from dataclasses import dataclass

from forexgpt_core.calibration.split import METHODS
from forexgpt_core.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSettings:
    """How members and ensemble are calibrated.

    Attributes:
        method: of the families' split conformal calibrators: "normalised", "plain" or "mondrian".
        adaptive: whether the ensemble's intervals go on learning from every outcome, in the evidence and live; if not,
            they are set right once.
    """

    method: str = "normalised"
    adaptive: bool = True

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise BadInput(f"calibration.method must be one of {', '.join(METHODS)}, was '{self.method}'")
