"""Errors of a single number per forecast: of the law's mean in returns, of its median in prices, against no change."""

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.domain.forecasts import LEVELS, MEDIAN, ForecastBatch, law_quantiles
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.pairing import require_paired

Floats = NDArray[np.float64]

_TO_MEAN: Floats = law_quantiles(np.eye(LEVELS.size), (np.arange(200) + 0.5) / 200).mean(axis=1)


class ConstantReturns(BadInput):
    """Returns are the same in every row, so nothing can be explained."""

    def __init__(self, value: float, rows: int, horizon_bars: int) -> None:
        super().__init__(value, rows, horizon_bars)
        self.value, self.rows, self.horizon_bars = value, rows, horizon_bars

    def __str__(self) -> str:
        return (
            f"all {self.rows} returns over {self.horizon_bars} bars are {self.value:.6g}, so R2 says nothing; check"
            " that the candles move"
        )


def law_mean(quantiles: Floats) -> Floats:
    """Return the mean of the law from its 200 equally likely points; shape (...,)."""
    return np.asarray(quantiles @ _TO_MEAN)


def rmse(forecasts: ForecastBatch, returns: Floats) -> Floats:
    """Return the root mean squared error of the law's mean, in log return; (H,)."""
    return np.asarray(np.sqrt((_errors(forecasts, returns) ** 2).mean(axis=0)))


def mae(forecasts: ForecastBatch, returns: Floats) -> Floats:
    """Return the mean absolute error of the law's mean, in log return; (H,)."""
    return np.asarray(np.abs(_errors(forecasts, returns)).mean(axis=0))


def mape(forecasts: ForecastBatch, returns: Floats) -> Floats:
    """Return the mean absolute error of the forecast price as a share of the price that came; (H,), .001 is 0.1 %.

    The forecast price is the median, close exp(q50), and the close cancels: |exp(q50 - y) - 1|. It is as small as
    prices are steady, so it flatters every forecast alike: never compare it between pairs or horizons.
    """
    y = require_paired(forecasts, returns)
    return np.asarray(np.abs(np.expm1(forecasts.quantiles[..., MEDIAN] - y)).mean(axis=0))


def r2_out_of_sample(forecasts: ForecastBatch, returns: Floats) -> Floats:
    """Return 1 - sum (y - mean)^2 / sum y^2, the law's mean against the walk without change; (H,).

    Below 0 the forecast is worse than no change. On FX it lies within 1 % of 0; above 2 % suspect a leak.

    Raises:
        ConstantReturns: a horizon's returns do not vary.
        UnpairedReturns: returns do not pair.

    Source: Campbell and Thompson (2008), RFS 21(4), with the zero forecast as the benchmark.
    """
    y = require_paired(forecasts, returns)
    for column in np.flatnonzero((y == y[0]).all(axis=0)):
        raise ConstantReturns(float(y[0, column]), len(y), forecasts.horizons_bars[column])
    return np.asarray(1 - (_errors(forecasts, y) ** 2).sum(axis=0) / (y**2).sum(axis=0))


def _errors(forecasts: ForecastBatch, returns: Floats) -> Floats:
    return np.asarray(require_paired(forecasts, returns) - law_mean(forecasts.quantiles))
