"""Find feature columns that read the future, by taking the future away and by changing it.

Two tests at several cuts. Truncation: build again without the bars from the cut on. Perturbation: build again with the
bars from the cut on changed. Neither may alter one bit of a row before the cut. Other pairs and the economic calendar
are cut and changed at the same moment. Some cuts lie anywhere, some where a day and a week end: a higher bar joined one
row early shows nowhere else. What a build brings along instead of computing it from what it is given stays unseen.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np
import polars as pl

from forexgpt_core.domain.clock import Ints, Timeframe, Times, bar_close, bar_open, slot
from forexgpt_core.errors import ForexGPTError
from forexgpt_core.features.inputs import FeatureInputs, disturbed_bars
from forexgpt_core.features.recipe import Recipe

Build = Callable[..., pl.DataFrame]  # of candles, and of FeatureInputs where some are given
How = Literal["truncation", "perturbation"]

_EARLY_BAR = 5  # a cut inside every warm-up, where a filled-in value can only come from later bars
_PERTURBATION = 0.02  # standard deviation of the log factor on each later bar
_LEAST_BARS = 5000
_COLUMNS_AT_ONCE = 64  # bounds memory: a recipe may have a thousand columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A column whose earlier rows changed with later bars.

    Attributes:
        first_ts_utc: open of the earliest row seen to change.
        how: what was done to the later bars.
    """

    column: str
    first_ts_utc: datetime
    how: How

    @property
    def line(self) -> str:
        """Return the finding as one sentence."""
        done = "cut off" if self.how == "truncation" else "changed"
        when = f"{self.first_ts_utc:%Y-%m-%d %H:%M}"
        return f"{self.column} reads the future: its row of {when} UTC changed when later bars were {done} ({self.how})"


class LeakFound(ForexGPTError, ValueError):
    """Feature columns read bars that were not known yet."""

    def __init__(self, leaks: tuple[Leak, ...]) -> None:
        super().__init__(leaks)
        self.leaks = leaks

    def __str__(self) -> str:
        columns = list(dict.fromkeys(leak.column for leak in self.leaks))
        first = min(self.leaks, key=lambda leak: leak.first_ts_utc)
        return (
            f"{len(columns)} feature column(s) read the future: {', '.join(columns)}; {first.line};"
            " build each row from bars that have closed by then"
        )


def find_leaks(
    build: Build, candles: pl.DataFrame, *, inputs: FeatureInputs | None = None, cuts: int = 3, seed: int = 0
) -> tuple[Leak, ...]:
    """Return every column found to read the future, once per way it was found, in column order.

    Args:
        build: makes feature rows out of candles: `ts_utc` and any columns, at most one row per bar.
        candles: lawful bars.
        inputs: what `build` reads besides, handed to it as the second argument; None where it takes none.
        cuts: how many places to cut at, one in each equal stretch of the history, besides one near its start. Each is
            inside a bar of the next longer timeframe, where a higher bar that has not closed shows. Others are added at
            the last bar of a day and of a week, and at the first bar of the next.
        seed: of the places and of the changes to the prices.
    """
    rng = np.random.default_rng(seed)
    full = _built(build, candles, inputs)
    found: dict[tuple[str, How], datetime] = {}
    for cut in _cuts(candles, cuts, rng):
        for how, other, beside in _altered(candles, inputs, cut, rng):
            for column, first in _changes(full, _built(build, other, beside), candles["ts_utc"][cut]).items():
                key = (column, how)
                found[key] = min(first, found.get(key, first))
    return _ranked(found, full.columns)


def recipe_leaks(
    build: Build, candles: pl.DataFrame, timeframe: Timeframe, recipe: Recipe, inputs: FeatureInputs, *, cuts: int = 3
) -> tuple[Leak, ...]:
    """Return every column of a recipe found to read the future; see `find_leaks`.

    The newest bars are judged, enough of them for every column to have warmed up in the first half, and some columns at
    a time: what a column reads does not depend on where history starts, nor on the other columns.

    Args:
        build: `features.build.build_features`, or what stands in its place.
    """
    warm_up = recipe.warm_up_seconds() // timeframe.seconds
    newest = candles.tail(max(_LEAST_BARS, 2 * max(warm_up, timeframe.per_week)))  # a week's end in the second half
    found: dict[tuple[str, How], datetime] = {}
    for part in recipe.parts(_COLUMNS_AT_ONCE):
        for leak in find_leaks(partial(_build_recipe, build, timeframe, part), newest, inputs=inputs, cuts=cuts):
            key = (leak.column, leak.how)
            found[key] = min(leak.first_ts_utc, found.get(key, leak.first_ts_utc))
    return _ranked(found, recipe.columns)


def _build_recipe(
    build: Build, timeframe: Timeframe, recipe: Recipe, candles: pl.DataFrame, inputs: FeatureInputs
) -> pl.DataFrame:
    return build(candles, timeframe, recipe, inputs=inputs)


def _built(build: Build, candles: pl.DataFrame, inputs: FeatureInputs | None) -> pl.DataFrame:
    return build(candles) if inputs is None else build(candles, inputs)


def _altered(
    candles: pl.DataFrame, inputs: FeatureInputs | None, cut: int, rng: np.random.Generator
) -> Iterator[tuple[How, pl.DataFrame, FeatureInputs | None]]:
    moment = candles["ts_utc"][cut]  # what the rows before the cut know, they know by then
    yield "truncation", candles.head(cut), inputs and inputs.cut_off(moment)
    yield (
        "perturbation",
        disturbed_bars(candles, cut, rng, _PERTURBATION),
        (inputs and inputs.disturbed(moment, rng, _PERTURBATION)),
    )


def _ranked(found: Mapping[tuple[str, How], datetime], columns: Sequence[str]) -> tuple[Leak, ...]:
    order = {name: place for place, name in enumerate(columns)}
    ranked = sorted(found.items(), key=lambda item: (order.get(item[0][0], len(order)), item[0]))
    return tuple(Leak(column=column, first_ts_utc=first, how=how) for (column, how), first in ranked)


def require_no_leaks(build: Build, candles: pl.DataFrame, *, cuts: int = 3, seed: int = 0) -> None:
    """Refuse a build that reads the future; see `find_leaks`.

    Raises:
        LeakFound: naming the columns.
    """
    leaks = find_leaks(build, candles, cuts=cuts, seed=seed)
    if leaks:
        raise LeakFound(leaks)


def _cuts(candles: pl.DataFrame, count: int, rng: np.random.Generator) -> list[int]:
    """Return row numbers from 1 to n - 1; rows before a cut may not depend on those from it on."""
    n = candles.height
    if n < 2:
        return []
    ts = candles["ts_utc"].to_numpy().astype("datetime64[us]")
    spacing = np.diff(ts).min() / np.timedelta64(1, "s")
    inside = _inside_longer_bars(ts, spacing)
    edges = np.linspace(1, n, count + 1).astype(np.int64)
    wanted = [min(_EARLY_BAR, n - 1), *(int(rng.integers(a, max(b, a + 1))) for a, b in pairwise(edges))]
    anywhere = {_nearest(inside, cut) if inside.size else min(cut, n - 1) for cut in wanted}
    return sorted(anywhere | _where_bars_end(ts, spacing))


def _inside_longer_bars(ts: Times, spacing: float) -> Ints:
    longer = next((frame for frame in Timeframe if frame.seconds > spacing), Timeframe.W1)
    return np.flatnonzero(bar_open(ts[1:], longer) != ts[1:]) + 1


def _where_bars_end(ts: Times, spacing: float) -> set[int]:
    """Return the last row of a day and of a week, and the row after each: the first of the second half, or the last.

    Where the source lacks the last bar of most days, an end without a hole is taken before one with a hole.
    """
    found: set[int] = set()
    for frame in (Timeframe.D1, Timeframe.W1):
        first = np.flatnonzero(np.diff(slot(ts, frame))) + 1  # rows that begin another bar
        if frame.seconds <= spacing or not first.size:
            continue
        ended = bar_close(bar_open(ts[first - 1], frame), frame) - ts[first - 1] == np.timedelta64(int(spacing), "s")
        chosen = first[ended] if ended.any() else first
        place = chosen[min(int(np.searchsorted(chosen, ts.size // 2)), chosen.size - 1)]
        found |= {int(place) - 1, int(place)}
    return found - {0}


def _nearest(rows: Ints, wanted: int) -> int:
    return int(rows[np.abs(rows - wanted).argmin()])


def _changes(full: pl.DataFrame, other: pl.DataFrame, cut_utc: datetime) -> dict[str, datetime]:
    """Return the columns that differ before the cut, with the time of the first difference; NaN equals NaN."""
    left, right = (frame.head(int(frame["ts_utc"].search_sorted(cut_utc))) for frame in (full, other))
    if not left["ts_utc"].equals(right["ts_utc"]):
        times = set(left["ts_utc"]), set(right["ts_utc"])
        return {"ts_utc": min(times[0] ^ times[1] or times[0])}  # the rows themselves depend on later bars
    if left.is_empty():
        return {}
    changes: dict[str, datetime] = {}
    for name in dict.fromkeys([*left.columns, *right.columns]):
        if name not in left.columns or name not in right.columns:
            changes[name] = left["ts_utc"][0]
        elif not _same_bits(left[name], right[name]) and (differs := left[name].ne_missing(right[name])).any():
            changes[name] = left["ts_utc"].filter(differs)[0]
    return changes


def _same_bits(left: pl.Series, right: pl.Series) -> bool:
    """Return whether two columns are known to be equal at once; False where it takes a closer look."""
    if left.dtype != pl.Float64 or right.dtype != pl.Float64 or left.null_count() or right.null_count():
        return False
    return bool(np.array_equal(left.to_numpy().view(np.int64), right.to_numpy().view(np.int64)))
