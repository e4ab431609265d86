"""The deployed ensemble as a source of live forecasts."""

import logging
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.ensemble.forecaster import EnsembleForecaster
from forexgpt_core.errors import ForexGPTError, NotReady
from forexgpt_core.features.build import build_features
from forexgpt_core.features.inputs import FeatureInputs
from forexgpt_core.features.windows import MarketArrays, Windows, market_arrays
from forexgpt_core.live.calibrating import LiveCalibration

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleSource:
    """Forecasts of one deployed bundle. The features are built as in training, from the whole history given.

    Equal bars therefore give equal forecasts, live and in a replay.

    Attributes:
        calibration: the adaptive state the pool is calibrated by; without one, or where it cannot be used, the
            recalibrator in the bundle does it.
    """

    ensemble: EnsembleForecaster
    symbol: str
    timeframe: Timeframe
    inputs: FeatureInputs = field(default_factory=FeatureInputs)
    calibration: LiveCalibration | None = None

    def forecast(self, bars: pl.DataFrame) -> ForecastBatch:
        """Return the forecast made at the close of the newest bar.

        Raises:
            NotReady: a feature has no value there, which no model was trained on.
        """
        return self.calibrated(self.arrays(bars))

    def arrays(self, bars: pl.DataFrame) -> MarketArrays:
        """Return bars and features as the ensemble reads them.

        Raises:
            NotReady: a feature has no value at the newest bar.
        """
        features = build_features(bars, self.timeframe, self.ensemble.recipe, inputs=self.inputs)
        features = features.select("ts_utc", *self.ensemble.feature_names)
        self._require_known(features)
        return market_arrays(self.symbol, self.timeframe, bars, features, self.ensemble.horizons_bars)

    def calibrated(self, arrays: MarketArrays) -> ForecastBatch:
        """Return the forecast of the newest bar by the adaptive state, or for want of one by the bundle alone."""
        if self.calibration is None:
            return self._static(arrays)
        try:
            return self.calibration.calibrate(arrays, self.ensemble.pooled)
        except ForexGPTError as error:  # a member that fails does so again below, and is no matter of calibration
            _log.warning("%s %s is calibrated without its adaptive state: %s", self.symbol, self.timeframe, error)
            batch = self._static(arrays)
            return replace(batch, calibrator=f"{batch.calibrator}, for want of the adaptive state: {error}")

    def _static(self, arrays: MarketArrays) -> ForecastBatch:
        """Return the newest bar's forecast by the recalibrator in the bundle."""
        return self.ensemble.forecast(Windows(arrays=arrays, rows=np.array([arrays.ts_utc.size - 1])))

    def _require_known(self, features: pl.DataFrame) -> None:
        newest = features.row(-1, named=True)
        missing = [name for name in self.ensemble.feature_names if not np.isfinite(newest[name])]
        if not missing:
            return
        newest_of = {pair: bars["ts_utc"][-1] for pair, bars in self.inputs.pairs.items() if bars.height}
        ends = [f"{pair} end at {moment:%Y-%m-%d %H:%M}" for pair, moment in newest_of.items()]
        beside = f"; candles of {', '.join(ends)}: fetch what is missing" if ends else ""
        raise NotReady(
            f"{len(missing)} feature(s) of {self.symbol} have no value at {newest['ts_utc']:%Y-%m-%d %H:%M}:"
            f" {', '.join(missing[:3])}{beside}"
        )
