"""In which regime a forecast was made: how volatile the pair was, and where it had been heading, by then."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.domain.forecasts import Floats, Times
from forexgpt_core.errors import BadInput

UNKNOWN = ""  # too little past to say
VOLATILITIES, TRENDS = ("calm", "middling", "volatile"), ("falling", "rising")
TREND_BARS = 24
_LEAST_PAST, _PAST = 100, 2_000  # forecasts whose scales tell what is volatile

Labels = NDArray[np.str_]


def regime_labels(origin_utc: Times, scale: Floats, ts_utc: Times, close: Floats) -> Labels:
    """Return the regime of each origin, such as 'volatile rising'; `UNKNOWN` for those with too little past.

    Volatility is the scale's place among the terciles of the 2,000 origins before it (100 at least), trend the sign
    of the return over the 24 bars up to it; a price that did not move falls. Nothing later than the origin's close
    is read.

    Args:
        origin_utc: (n,) opens of the origins, increasing.
        scale: (n,) one standard deviation of the next return, as forecast at each origin.
        ts_utc: (m,) opens of all bars, increasing, the origins among them.
        close: (m,) prices.

    Raises:
        BadInput: shapes differ, or an origin is not among the bars.
    """
    if scale.shape != origin_utc.shape or close.shape != ts_utc.shape:
        raise BadInput(f"scales {scale.shape} and origins {origin_utc.shape}, closes and bars must have equal shapes")
    rows = np.searchsorted(ts_utc, origin_utc)
    if not np.array_equal(ts_utc[np.minimum(rows, ts_utc.size - 1)], origin_utc):
        raise BadInput("an origin of the forecasts is not among the bars")
    past = pl.Series(scale).shift(1)
    bounds = [
        past.rolling_quantile(level, interpolation="linear", window_size=_PAST, min_samples=_LEAST_PAST).to_numpy()
        for level in (1 / 3, 2 / 3)
    ]
    level = np.sum([scale > bound for bound in bounds], axis=0)
    moved = np.log(close[rows] / close[np.maximum(rows - TREND_BARS, 0)])
    names = np.array([[f"{volatility} {trend}" for trend in TRENDS] for volatility in VOLATILITIES])
    told = (rows >= TREND_BARS) & np.isfinite(bounds[0])
    return np.where(told, names[level, (moved > 0).astype(np.int64)], UNKNOWN)
