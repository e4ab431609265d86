"""Coverage and width where it matters: by how volatile the market was, and by who was at work.

A model that is right on average may cover too much in calm and far too little in storms: on GARCH returns a static
90 % interval covers 72 % in the most volatile tenth.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.domain.clock import Timeframe, bar_close
from forexgpt_core.domain.forecasts import INTERVALS, ForecastBatch
from forexgpt_core.domain.sessions import trading_session
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.coverage import coverage_band
from forexgpt_core.evaluation.pairing import independent_rows, origin_slots, require_paired
from forexgpt_core.evaluation.scores import interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

DECILES = 10
COLUMNS = {
    "horizon_bars": pl.Int64, "condition": pl.String, "group": pl.String, "coverage_percent": pl.Int64,
    "n": pl.Int64, "n_independent": pl.Int64,
    "coverage": pl.Float64, "coverage_low": pl.Float64, "coverage_high": pl.Float64, "width": pl.Float64,
}  # fmt: skip


class NoDeciles(BadInput):
    """Rows cannot be told apart by volatility: too few, all the same, or not finite."""


def conditional_coverage(forecasts: ForecastBatch, returns: Floats, *, level: float = 0.99) -> pl.DataFrame:
    """Return coverage and mean width of every central interval, overall, by volatility decile and by session.

    Args:
        forecasts: origins in time order.
        returns: (n, H) realised cumulative log returns.
        level: confidence of the band about coverage.

    Returns:
        One row per horizon, condition ("all", "volatility_decile" or "session"), group ("all"; "1" calmest to "10"; a
        session's name) and interval, with COLUMNS: n rows of which n_independent have targets that do not overlap, the
        share covered with its band at n_independent, and the mean width in log return. A nominal coverage outside the
        band is more than luck; with fifteen groups, some will be at a low level. Groups without rows are absent.

    Raises:
        NoDeciles: fewer than 10 rows, or a reference scale that is constant or not finite.
        UnsortedOrigins: origins repeat or go back in time.
        UnpairedReturns: returns do not pair.
        BadInput: level is not in (0, 1).
    """
    y, slots = require_paired(forecasts, returns), origin_slots(forecasts)
    known_utc = bar_close(forecasts.origin_utc, Timeframe.parse(forecasts.timeframe))
    sessions = trading_session(known_utc)
    rows: list[dict[str, object]] = []
    for column, horizon in enumerate(forecasts.horizons_bars):
        quantiles, outcomes = forecasts.quantiles[:, column], y[:, column]
        for condition, group, members in _groups(forecasts.scale[:, column], sessions):
            independent = independent_rows(slots[members], horizon).size
            key = {"horizon_bars": horizon, "condition": condition, "group": group}
            counts = {"n": int(members.sum()), "n_independent": independent}
            for percent in INTERVALS:
                figures = _figures(quantiles[members], outcomes[members], percent, independent, level)
                rows.append({**key, "coverage_percent": percent, **counts, **figures})
    return pl.DataFrame(rows, schema=COLUMNS)


def volatility_decile(scale: Floats) -> Ints:
    """Return the tenth that each scale lies in by rank among all, 1 calmest to 10; equal scales share a decile.

    Raises:
        NoDeciles: fewer than 10 scales, one not finite, or all the same.
    """
    values = np.asarray(scale, dtype=np.float64)
    if values.ndim != 1 or values.size < DECILES:
        raise NoDeciles(f"volatility deciles need (n,) scales of at least {DECILES} forecasts, were {values.shape}")
    if not np.isfinite(values).all():
        raise NoDeciles(f"{int((~np.isfinite(values)).sum())} of {values.size} scales are not finite")
    if (values == values[0]).all():
        raise NoDeciles(f"the reference scale is {values[0]:.6g} in all {values.size} rows, so there are no deciles")
    ranks = pl.Series(values).rank("average").to_numpy()
    return np.asarray(np.floor((ranks - 0.5) / values.size * DECILES), dtype=np.int64) + 1


def _groups(scale: Floats, sessions: NDArray[np.str_]) -> Iterator[tuple[str, str, Bools]]:
    yield "all", "all", np.ones(scale.size, dtype=np.bool_)
    deciles = volatility_decile(scale)
    for decile in np.unique(deciles):
        yield "volatility_decile", str(decile), deciles == decile
    for session in np.unique(sessions):
        yield "session", str(session), sessions == session


def _figures(quantiles: Floats, y: Floats, percent: int, independent: int, level: float) -> dict[str, float]:
    low, high = interval(quantiles, percent)
    share = float(((low <= y) & (y <= high)).mean())
    least, most = coverage_band(share, independent, level=level)
    width = float(np.mean(high - low))
    return {"coverage": share, "coverage_low": least, "coverage_high": most, "width": width}
