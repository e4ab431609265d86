"""Which forecasts a search sees, and which ones its finds are scored on afterwards."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import NotReady
from forexgpt_core.optimisation.front import Ints

_LEAST_EARLIER, _LEAST_LATER = 50, 30  # forecasts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """Rows of the forecasts by what they are for, in order of time.

    Attributes:
        searched: the earlier ones.
        later: all that are scored later.
        spans: the later ones in consecutive spans of equal numbers, some of them shorter by one.
    """

    searched: Ints
    later: Ints
    spans: tuple[Ints, ...]


def split(
    candles: pl.DataFrame,
    forecasts: ForecastBatch,
    in_sample_share: float,
    *,
    embargo_bars: int = 0,
    later_spans: int = 1,
) -> Parts:
    """Return which forecasts are searched and which are scored later.

    Between the last earlier origin and the first later one lie at least as many bars as the longest horizon, so no
    outcome of an earlier forecast reaches into the later part, and the embargo besides.

    Raises:
        NotReady: the earlier part would have fewer than 50 forecasts, or a later span fewer than 30.
    """
    ts = candles["ts_utc"].to_numpy().astype("datetime64[us]")
    bar = np.searchsorted(ts, forecasts.origin_utc.astype("datetime64[us]"))
    count = int(len(forecasts) * in_sample_share)
    held_out = forecasts.horizons_bars[-1] + embargo_bars
    later = np.flatnonzero(bar > bar[count - 1] + held_out) if count else np.zeros(0, dtype=np.int64)
    if count < _LEAST_EARLIER or later.size < _LEAST_LATER * later_spans:
        raise NotReady(
            f"{len(forecasts)} forecasts of {forecasts.symbol} leave {count} to search and {later.size} to score after"
            f" the purge; at least {_LEAST_EARLIER} and {_LEAST_LATER * later_spans} are needed: evaluate over a longer"
            " span, allow shorter horizons or fewer later spans"
        )
    spans = tuple(part.astype(np.int64) for part in np.array_split(later, later_spans))
    return Parts(searched=np.arange(count, dtype=np.int64), later=later.astype(np.int64), spans=spans)
