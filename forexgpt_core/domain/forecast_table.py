"""Forecasts with their outcomes as a table, one row per origin and horizon: the form the lake stores."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl

from forexgpt_core.domain.forecasts import LEVELS, Floats, ForecastBatch
from forexgpt_core.errors import BadInput

LEVEL_COLUMNS = tuple(f"q{level * 1000:03.0f}" for level in LEVELS)  # q025 is the 2.5 % quantile


def to_table(forecasts: ForecastBatch, returns: Floats) -> pl.DataFrame:
    """Return `ts_utc, horizon_bars, scale, realised_return, q025 … q975, calibrator`, sorted by origin then horizon.

    Args:
        returns: (n, H) realised log returns, NaN where not matured.
    """
    n, horizons = len(forecasts), len(forecasts.horizons_bars)
    origins = pl.Series(np.repeat(forecasts.origin_utc.astype("datetime64[us]"), horizons)).dt.replace_time_zone("UTC")
    flat = forecasts.quantiles.reshape(n * horizons, LEVELS.size)
    return pl.DataFrame(
        {
            "ts_utc": origins,
            "horizon_bars": np.tile(np.array(forecasts.horizons_bars, dtype=np.int64), n),
            "scale": forecasts.scale.reshape(-1),
            "realised_return": returns.reshape(-1),
            **{name: flat[:, column] for column, name in enumerate(LEVEL_COLUMNS)},
        }
    ).with_columns(calibrator=pl.lit(forecasts.calibrator))


def from_table(table: pl.DataFrame, *, symbol: str, timeframe: str, family: str) -> tuple[ForecastBatch, Floats]:
    """Return what `to_table` was given; where several calibrators made the rows, all are named.

    Raises:
        BadInput: some origin lacks a horizon.
    """
    rows = table.sort("ts_utc", "horizon_bars")
    horizons = tuple(int(h) for h in rows["horizon_bars"].unique().sort())
    origins = rows["ts_utc"].unique().sort().to_numpy().astype("datetime64[us]")
    shape = (origins.size, len(horizons))
    if rows.height != shape[0] * shape[1]:
        raise BadInput(
            f"forecast table of {family} has {rows.height} rows for {shape[0]} origins x {shape[1]} horizons"
        )
    batch = ForecastBatch(
        symbol=symbol,
        timeframe=timeframe,
        family=family,
        origin_utc=origins,
        horizons_bars=horizons,
        quantiles=rows.select(LEVEL_COLUMNS).to_numpy().reshape(*shape, LEVELS.size),
        scale=rows["scale"].to_numpy().reshape(shape),
        calibrator=_calibrators(rows),
    )
    return batch, rows["realised_return"].to_numpy().reshape(shape)


def _calibrators(rows: pl.DataFrame) -> str:
    if "calibrator" not in rows.columns:  # tables of earlier releases do not say
        return ""
    return ", ".join(rows["calibrator"].drop_nulls().unique(maintain_order=True))


def common_origins(batches: list[tuple[ForecastBatch, Floats]]) -> list[tuple[ForecastBatch, Floats]]:
    """Return the same forecasts restricted to the origins that all of them have."""
    shared = batches[0][0].origin_utc
    for batch, _ in batches[1:]:
        shared = np.intersect1d(shared, batch.origin_utc)
    kept = []
    for batch, returns in batches:
        rows = np.searchsorted(batch.origin_utc, shared)
        kept.append((batch.take(rows), returns[rows]))
    return kept


def joined(batches: Sequence[ForecastBatch]) -> ForecastBatch:
    """Return the forecasts of one family from several stretches, one after the other; paths are left out.

    Raises:
        BadInput: they are not of one pair, family and set of horizons, or a stretch begins before the last one ended.
    """
    first = batches[0]
    for earlier, later in pairwise(batches):
        for name in ("symbol", "timeframe", "family", "horizons_bars"):
            if getattr(later, name) != getattr(first, name):
                raise BadInput(
                    f"forecasts of {name} {getattr(first, name)} and {getattr(later, name)} cannot be joined"
                )
        if len(earlier) and len(later) and later.origin_utc[0] <= earlier.origin_utc[-1]:
            raise BadInput(
                f"forecasts from {later.origin_utc[0]} on do not follow those until {earlier.origin_utc[-1]}"
            )
    names = [batch.calibrator for batch in batches if batch.calibrator]
    return replace(
        first,
        origin_utc=np.concatenate([batch.origin_utc for batch in batches]),
        quantiles=np.concatenate([batch.quantiles for batch in batches]),
        scale=np.concatenate([batch.scale for batch in batches]),
        paths=None,
        class_probabilities=None,
        calibrator=", ".join(dict.fromkeys(names)),
    )
