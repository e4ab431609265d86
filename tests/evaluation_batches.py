"""Forecasts of chosen quantiles, for tests of scores."""

import numpy as np

from forexgpt_core.domain.clock import Timeframe, slot_open
from forexgpt_core.domain.forecasts import LEVELS, SCORES, ForecastBatch

_FIRST_SLOT = 175_000  # a bar of 2018 on H1


def batch(
    quantiles: np.ndarray,
    horizons: tuple[int, ...] = (1, 4),
    *,
    slots: np.ndarray | None = None,
    scale: np.ndarray | None = None,
    paths: np.ndarray | None = None,
) -> ForecastBatch:
    """Return H1 forecasts with these (n, H, 9) quantiles, at consecutive bars of the FX week or those of `slots`."""
    n = len(quantiles)
    at = np.arange(n) if slots is None else np.asarray(slots)
    return ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family="test",
        origin_utc=slot_open(_FIRST_SLOT + at, Timeframe.H1),
        horizons_bars=horizons,
        quantiles=np.ascontiguousarray(quantiles),
        scale=np.ones((n, len(horizons))) if scale is None else scale,
        paths=paths,
    )


def normal(n: int, *, spread: float = 1.0, shift: float = 0.0, horizons: tuple[int, ...] = (1, 4)) -> ForecastBatch:
    """Return n equal normal forecasts, the same at every horizon."""
    return batch(np.broadcast_to(shift + spread * SCORES, (n, len(horizons), LEVELS.size)), horizons)


def overlapping(n: int, horizon: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return n standard normal bar returns' own next bar, and their next `horizon` bars in units of their spread."""
    steps = np.random.default_rng(seed).normal(size=n + horizon - 1)
    total = np.concatenate([[0.0], steps.cumsum()])
    return steps[:n], (total[horizon:] - total[:-horizon]) / np.sqrt(horizon)
