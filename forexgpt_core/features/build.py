"""Feature rows of a pair: row i reads what is known at the close of base bar i and nothing later."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import numpy as np
import polars as pl

from forexgpt_core.candles.resampling import resample
from forexgpt_core.domain.bars import ASK_PRICES, SCHEMA, require_bars
from forexgpt_core.domain.clock import Timeframe, Times, bar_close, from_utc, slot, slot_open
from forexgpt_core.features.indicator import Bars, Columns, Floats
from forexgpt_core.features.inputs import FeatureInputs
from forexgpt_core.features.multi_timeframe import first_rows, seen_rows, spread_over
from forexgpt_core.features.recipe import Recipe

_MANY_ROWS = 100_000


def build_features(
    candles: pl.DataFrame,
    timeframe: Timeframe,
    recipe: Recipe,
    *,
    inputs: FeatureInputs | None = None,
    since_utc: datetime | None = None,
) -> pl.DataFrame:
    """Return the recipe's columns, row for row the bars of `candles`.

    Args:
        candles: lawful bars (see `domain.bars`) of the base timeframe, inside the FX week; the whole history, so that
            every indicator begins where it began before.
        inputs: other pairs and the economic calendar, where the recipe reads them.
        since_utc: build only the rows from this open on. They equal those of a full build to 1e-9, at a cost that
            hardly depends on the length of the history.

    Returns:
        `ts_utc` and float64 columns such as `rsi_14_h4`, NaN while an indicator warms up. A column of a higher
        timeframe holds the value of the newest higher bar whose close is at or before the close of the row's bar.

    Raises:
        BadInput: the candles are not lawful, or the recipe names a timeframe below the base.
        NotReady: the recipe reads a pair or a calendar that `inputs` lacks.
    """
    recipe.require_base(timeframe)
    inputs = inputs or FeatureInputs()
    inputs.require(recipe)
    first = 0 if since_utc is None else int(candles["ts_utc"].search_sorted(since_utc))
    require_bars(candles.slice(first))
    frames = _Frames(candles, timeframe, inputs)
    columns = _of_the_bars_themselves(frames, recipe, first)
    # Half of a long build goes into getting memory, which threads share out well; a short one is over sooner than they.
    threads = (os.cpu_count() or 1) if candles.height - first > _MANY_ROWS else 1
    with ThreadPoolExecutor(threads) as pool:
        for part in pool.map(lambda frame: _of_timeframe(frames, recipe, frame, first), recipe.timeframes):
            columns |= part
    return pl.DataFrame({"ts_utc": candles["ts_utc"].slice(first), **columns})


def _of_the_bars_themselves(frames: "_Frames", recipe: Recipe, first: int) -> Columns:
    own = [choice for choice in recipe.choices if choice.definition.per_row]
    if not own:
        return {}
    start = max(0, first - 1)  # what speaks of a bar may look at the one before
    bars = frames.bars(frames.table(frames.base, start), frames.base, ())
    columns: Columns = {}
    for choice in own:
        columns |= choice.definition.columns(bars, choice.values)
    return {name: values[first - start :] for name, values in columns.items()}


def _of_timeframe(frames: "_Frames", recipe: Recipe, frame: Timeframe, first: int) -> Columns:
    table = frames.deep_enough(frame, first, recipe.memory_bars(frame))
    bars = frames.bars(table, frame, recipe.pairs)
    closes = bar_close(frames.base_opens[first:], frames.base)
    base = frame == frames.base
    seen = None if base else seen_rows(first_rows(bar_close(bars.ts_utc, frame), closes), closes.size)
    built: Columns = {}
    for choice in recipe.on(frame):
        built |= choice.definition.columns(bars, choice.values, choice.pairs)
    names = [f"{name}_{frame.lower()}" for name in built]
    if seen is None:
        return dict(zip(names, (values[values.size - closes.size :] for values in built.values())))
    return dict(zip(names, spread_over(list(built.values()), seen)))


class _Frames:
    """The closed bars of every timeframe of one history."""

    def __init__(self, candles: pl.DataFrame, base: Timeframe, inputs: FeatureInputs) -> None:
        self.candles = candles.select(*SCHEMA, *(name for name in ASK_PRICES if name in candles.columns))
        self.base, self.inputs = base, inputs
        self.base_opens: Times = self.candles["ts_utc"].to_numpy().astype("datetime64[us]")
        self.known = from_utc(bar_close(self.base_opens[-1:], base)[0]) if self.base_opens.size else None

    def deep_enough(self, frame: Timeframe, first: int, memory: int) -> pl.DataFrame:
        """Return the bars of a timeframe from so far back that base rows from `first` on have their full values.

        That is `memory` bars that moved before the newest one such a row sees: what stands still makes nothing fade.
        """
        depth = memory + memory // 4 + 16
        newest = min(first, self.base_opens.size - 1)  # beyond the last row there is nothing to build
        while first:
            start = self._row_before(frame, newest, depth)
            table = self.table(frame, start)
            seen = int(np.searchsorted(table["ts_utc"].to_numpy(), self.base_opens[newest]))
            moved = np.count_nonzero(np.diff(table["close"].to_numpy()[:seen]))
            if moved > memory or not start:
                return table
            depth *= 2
        return self.table(frame, 0)

    def _row_before(self, frame: Timeframe, row: int, bars: int) -> int:
        """Return the first base row of the bar that lies about `bars` bars of the FX week before a row; 0 for none.

        Never further back than the first bar: the clock knows no weeks before 1990.
        """
        oldest, at = slot(self.base_opens[[0, row]], frame)
        return int(np.searchsorted(self.base_opens, slot_open(np.array([max(oldest, at - bars)]), frame)[0]))

    def table(self, frame: Timeframe, start: int) -> pl.DataFrame:
        """Return the bars of a timeframe made of the base rows from `start` on, where one of its bars begins."""
        return resample(self.candles.slice(start), self.base, frame, known_until_utc=self.known)

    def bars(self, table: pl.DataFrame, frame: Timeframe, pairs: tuple[str, ...]) -> Bars:
        """Return a table as arrays, with the closes of other pairs beside them."""
        others = {pair: self._close_beside(table["ts_utc"], pair, frame) for pair in pairs}
        return Bars(table, frame, symbol=self.inputs.symbol, others=others, events=self.inputs.events)

    def _close_beside(self, opens: pl.Series, pair: str, frame: Timeframe) -> Floats:
        """Return another pair's closes of the bars with these opens, NaN where it has none."""
        if opens.is_empty():
            return np.empty(0)
        bars = self.inputs.pairs[pair].filter(pl.col("ts_utc") >= opens[0])
        other = resample(require_bars(bars), self.base, frame, known_until_utc=self.known)
        beside = pl.DataFrame({"ts_utc": opens}).join(
            other.select("ts_utc", "close"), on="ts_utc", how="left", maintain_order="left"
        )
        return beside["close"].fill_null(float("nan")).to_numpy()
