"""The deployed ensemble as a source of live forecasts."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.ensemble.inference import EnsembleForecaster
from forexgpt_core.features.build import build_features
from forexgpt_core.features.inputs import FeatureInputs
from forexgpt_core.features.windows import Windows, market_arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleSource:
    """Forecasts of one deployed bundle. The features are built as in training, from the whole history given.

    Equal bars therefore give equal forecasts, live and in a replay.
    """

    ensemble: EnsembleForecaster
    symbol: str
    timeframe: Timeframe
    inputs: FeatureInputs = field(default_factory=FeatureInputs)

    def forecast(self, bars: pl.DataFrame) -> ForecastBatch:
        """Return the forecast made at the close of the newest bar."""
        features = build_features(bars, self.timeframe, self.ensemble.recipe, inputs=self.inputs)
        features = features.select("ts_utc", *self.ensemble.feature_names)
        arrays = market_arrays(self.symbol, self.timeframe, bars, features, self.ensemble.horizons_bars)
        return self.ensemble.forecast(Windows(arrays=arrays, rows=np.array([bars.height - 1])))
