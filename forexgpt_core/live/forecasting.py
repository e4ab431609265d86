"""The deployed ensemble as a source of live forecasts."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.ensemble.inference import EnsembleForecaster
from forexgpt_core.errors import NotReady
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
        """Return the forecast made at the close of the newest bar.

        Raises:
            NotReady: a feature has no value there, which no model was trained on.
        """
        features = build_features(bars, self.timeframe, self.ensemble.recipe, inputs=self.inputs)
        features = features.select("ts_utc", *self.ensemble.feature_names)
        self._require_known(features)
        arrays = market_arrays(self.symbol, self.timeframe, bars, features, self.ensemble.horizons_bars)
        return self.ensemble.forecast(Windows(arrays=arrays, rows=np.array([bars.height - 1])))

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
