"""Live forecasts meet what happened: realised returns are filled in, and scored per day and horizon."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.domain.clock import to_utc
from forexgpt_core.domain.forecasts import INTERVALS, MEDIAN, SCORES, law_mean_std
from forexgpt_core.evaluation.scores import crps

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredForecast:
    """A live forecast of one origin and horizon: nine quantiles, and the realised return once it is known."""

    forecast_id: int
    family: str
    bundle_hash: str
    origin_utc: datetime
    horizon_bars: int
    quantiles: Floats
    scale: float
    realised_return: float | None


class ForecastStore(Protocol):
    """Where live forecasts are kept."""

    def unmatured(self, symbol: str, timeframe: str) -> Sequence[StoredForecast]:
        """Return forecasts whose realised return is not known yet."""
        ...

    def fill_realised(self, realised: Mapping[int, float]) -> int:
        """Store realised returns by forecast id, once each."""
        ...

    def matured(self, symbol: str, timeframe: str, since_utc: datetime | None = None) -> Sequence[StoredForecast]:
        """Return forecasts whose realised return is known, of origins from `since_utc` on."""
        ...


def mature_forecasts(store: ForecastStore, symbol: str, timeframe: str, candles: pl.DataFrame) -> list[dict[str, Any]]:
    """Fill in realised returns from closed candles, and return the score rows of every day that changed.

    Each row has family, bundle_hash, horizon_bars, day (of the origin, UTC), n, crps, crps_reference, skill, coverages,
    width_90, direction, rmse and mae. The reference is the normal law with the reference walk's volatility at that
    origin, the walk's tails aside, which forecasts do not carry: it is a monitor, the evidence is the evaluation.
    """
    waiting = store.unmatured(symbol, timeframe)
    realised = realised_returns(waiting, candles)
    if not realised:
        return []
    store.fill_realised(realised)
    days = {forecast.origin_utc.date() for forecast in waiting if forecast.forecast_id in realised}
    since = datetime.combine(min(days), time(0), UTC)
    known = [f for f in store.matured(symbol, timeframe, since) if f.origin_utc.date() in days]
    return score_rows(known)


def realised_returns(waiting: Sequence[StoredForecast], candles: pl.DataFrame) -> dict[int, float]:
    """Return the log return of each forecast whose horizon the candles reach, by forecast id.

    Horizons count bars that exist, as the labels of training do; an origin missing from the candles stays unknown.
    """
    if not waiting or candles.is_empty():
        return {}
    ts = candles["ts_utc"].to_numpy().astype("datetime64[us]")
    close = candles["close"].to_numpy()
    origins = np.array([to_utc(f.origin_utc) for f in waiting])
    first = np.searchsorted(ts, origins)
    last = first + np.array([f.horizon_bars for f in waiting])
    known = (last < ts.size) & (ts[np.minimum(first, ts.size - 1)] == origins)
    start, end = first[known], last[known]
    values = np.log(close[end] / close[start])
    ids = [f.forecast_id for f, is_known in zip(waiting, known) if is_known]
    return {forecast_id: float(value) for forecast_id, value in zip(ids, values)}


def score_rows(matured: Sequence[StoredForecast]) -> list[dict[str, Any]]:
    """Return one row of scores per family, bundle, horizon and UTC day of the origin."""

    def key(forecast: StoredForecast) -> tuple[str, str, int, date]:
        return (forecast.family, forecast.bundle_hash, forecast.horizon_bars, forecast.origin_utc.date())

    names = ("family", "bundle_hash", "horizon_bars", "day")
    groups = groupby(sorted(matured, key=key), key=key)
    return [dict(zip(names, found)) | _scores(list(group)) for found, group in groups]


def _scores(group: Sequence[StoredForecast]) -> dict[str, Any]:
    q = np.stack([f.quantiles for f in group])
    y = np.array([f.realised_return for f in group], dtype=np.float64)
    reference = np.array([f.scale for f in group])[:, None] * SCORES
    ours, theirs = float(crps(q, y).mean()), float(crps(reference, y).mean())
    median, error = q[:, MEDIAN], law_mean_std(q)[0] - y
    called = (median != 0) & (y != 0)
    inside = {c: (q[:, low] <= y) & (y <= q[:, high]) for c, (low, high) in INTERVALS.items()}
    low, high = INTERVALS[90]
    return {
        "n": len(group),
        "crps": ours,
        "crps_reference": theirs,
        "skill": 1 - ours / theirs if theirs > 0 else None,
        **{f"coverage_{c}": float(hit.mean()) for c, hit in inside.items()},
        "width_90": float((q[:, high] - q[:, low]).mean()),
        "direction": float((np.sign(median) == np.sign(y))[called].mean()) if called.any() else None,
        "rmse": float(np.sqrt((error**2).mean())),
        "mae": float(np.abs(median - y).mean()),
    }
