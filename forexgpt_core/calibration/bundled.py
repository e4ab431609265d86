"""A calibrator beside the model it belongs to, as a bundle that names its parent."""

from collections.abc import Mapping
from dataclasses import dataclass

from forexgpt_core.calibration.split import ConformalCalibrator
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import BundleError
from forexgpt_core.features.windows import Windows
from forexgpt_core.models.bundle import Bundle, BundleStore, parent_references
from forexgpt_core.models.bundled import LoadedModel, load_model


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedModel:
    """A model with its calibrator."""

    model: LoadedModel
    calibrator: ConformalCalibrator
    bundle: Bundle

    def forecast(self, windows: Windows) -> ForecastBatch:
        """Return calibrated forecasts."""
        return self.calibrator.apply(self.model.forecaster.forecast(windows))


def write_calibration_bundle(
    store: BundleStore,
    calibrator: ConformalCalibrator,
    *,
    symbol: str,
    timeframe: str,
    kind: str,
    parent: Bundle,
    metadata: Mapping[str, object],
) -> Bundle:
    """Return the bundle of a calibrator, which names the model bundle it belongs to."""
    return store.write(symbol, timeframe, kind, calibrator.save, metadata=metadata, parents=(parent,))


def load_calibrated(store: BundleStore, symbol: str, timeframe: str, kind: str, hash12: str) -> CalibratedModel:
    """Return the calibrator of a bundle together with its model.

    Raises:
        BundleError: either bundle is missing, altered, or does not fit the other.
    """
    bundle = store.open(symbol, timeframe, kind, hash12)
    parents = parent_references(bundle.path)
    if len(parents) != 1:
        raise BundleError(f"calibration bundle {hash12} names {len(parents)} models, expected one")
    model = load_model(store, **parents[0])
    calibrator = ConformalCalibrator.load(bundle.path)
    if calibrator.horizons_bars != model.forecaster.horizons_bars:
        raise BundleError(
            f"calibration bundle {hash12} has horizons {calibrator.horizons_bars}, its model"
            f" {model.forecaster.horizons_bars}"
        )
    return CalibratedModel(model=model, calibrator=calibrator, bundle=bundle)
