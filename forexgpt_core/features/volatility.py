"""How much a pair has been moving, per bar, from log returns of closes; row i reads bars up to i."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def log_returns(close: Floats) -> Floats:
    """Return log close-to-close returns; (n,), NaN for the first bar."""
    returns = np.full(close.size, np.nan)
    returns[1:] = np.log(close[1:] / close[:-1])
    return returns


def realised_volatility(close: Floats, bars: int) -> Floats:
    """Return the root mean square log return of the newest `bars` returns, NaN until there are so many.

    The mean is taken as 0: over so few bars it is noise, and its true value is far below the deviation.
    """
    squared = pl.Series(log_returns(close)[1:] ** 2)
    mean = squared.rolling_mean(bars, min_samples=bars).fill_null(float("nan")).to_numpy()
    # A running sum may end a hair below 0 on a flat stretch.
    return _with_first(np.sqrt(np.maximum(mean, 0.0)), close.size)


def ewma_volatility(close: Floats, decay: float, warm_up_bars: int) -> Floats:
    """Return the exponentially weighted root mean square log return, NaN for the first `warm_up_bars` returns but one.

    Weights are decay^age, normalised over the returns seen, so no starting value is assumed.

    Source: RiskMetrics Technical Document (1996), which has decay 0.94 for daily returns.
    """
    squared = pl.Series(log_returns(close)[1:] ** 2)
    mean = squared.ewm_mean(alpha=1 - decay, adjust=True, min_samples=warm_up_bars)
    return _with_first(np.sqrt(mean.fill_null(float("nan")).to_numpy()), close.size)


def _with_first(values: Floats, size: int) -> Floats:
    return np.concatenate([np.full(min(1, size), np.nan), values])
