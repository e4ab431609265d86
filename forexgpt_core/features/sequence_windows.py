"""Which origins have the history a sequence model asks for, and their windows in batches of bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import DTypeLike, NDArray

from forexgpt_core.candles.resampling import resample
from forexgpt_core.domain.bars import PRICES
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import BadInput
from forexgpt_core.features.sequences import BarSequence, SequenceSpec, bar_sequence
from forexgpt_core.features.windows import Floats, MarketArrays, Windows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SequenceWindows:
    """The windows that can be built, and how many could not, each counted under its first reason.

    Attributes:
        short_history: origins with too few closed bars of some timeframe behind them.
        not_finite: origins whose window holds an unknown value, such as an indicator that warms up.
        missing_bars: origins whose window spans more absent bars than `most_missing_bars`.
        strided_over: good origins that the stride skips.
    """

    windows: Windows
    short_history: int
    not_finite: int
    missing_bars: int
    strided_over: int

    @property
    def line(self) -> str:
        """Return the counts as one sentence."""
        return (
            f"{len(self.windows)} windows; left out: {self.short_history} with too short a history, {self.not_finite}"
            f" with unknown values, {self.missing_bars} across holes, {self.strided_over} by the stride"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SequenceBatch:
    """Some windows with their sequences; `sequences[timeframe]` is (len, length, f)."""

    windows: Windows
    sequences: dict[Timeframe, NDArray[np.floating]]


def with_sequences(
    arrays: MarketArrays,
    candles: pl.DataFrame,
    timeframes: tuple[Timeframe, ...],
    *,
    columns: tuple[str, ...] = PRICES,
) -> MarketArrays:
    """Return the arrays with the closed bars of each timeframe beside them, built from their own candles.

    Args:
        candles: the lawful bars the arrays were made of, inside the FX week.
        timeframes: the base timeframe or longer ones.
        columns: of the candles, such as `volume`; a null counts as unknown, and its windows are left out.

    Raises:
        BadInput: the candles are others, a timeframe is below the base, or a column does not exist.
    """
    if not np.array_equal(candles["ts_utc"].to_numpy().astype("datetime64[us]"), arrays.ts_utc):
        raise BadInput(f"the sequences of {arrays.symbol} must come from the candles its rows were made of")
    absent = [name for name in columns if name not in candles.columns]
    if absent:
        raise BadInput(f"candles of {arrays.symbol} have no column {', '.join(absent)}")
    prices = tuple(name for name in columns if name.removeprefix("ask_") in PRICES)
    made = {
        frame: bar_sequence(
            (candles if frame == arrays.timeframe else resample(candles, arrays.timeframe, frame)).select(
                "ts_utc", *columns
            ),
            frame,
            base_open_utc=arrays.ts_utc,
            base=arrays.timeframe,
            price_columns=prices,
        )
        for frame in timeframes
    }
    return replace(arrays, sequences={**arrays.sequences, **made})


def with_feature_sequence(arrays: MarketArrays) -> MarketArrays:
    """Return the arrays with their own feature rows as the sequence of the base timeframe; nothing is copied."""
    rows = BarSequence(
        timeframe=arrays.timeframe,
        ts_utc=arrays.ts_utc,
        values=arrays.features,
        names=arrays.feature_names,
        price_columns=(),
        newest=np.arange(arrays.ts_utc.size, dtype=np.int64),
    )
    return replace(arrays, sequences={**arrays.sequences, arrays.timeframe: rows})


def sequence_windows(windows: Windows, spec: SequenceSpec) -> SequenceWindows:
    """Return the windows that have the whole history of every timeframe, `stride_bars` or more rows apart.

    Whether an origin is kept depends on bars known at its close alone.

    Args:
        windows: rows in time order. Split into parts first, so that the stride starts afresh in each.
    """
    short, unknown, holed = (np.zeros(len(windows), dtype=np.bool_) for _ in range(3))
    for frame, length in spec.lengths_bars.items():
        bars = windows.arrays.sequence(frame)
        asked = (bars.newest[windows.rows], length, spec.spacing_bars)
        enough = bars.enough(*asked)
        short |= ~enough
        unknown |= enough & ~bars.complete(*asked)
        if spec.most_missing_bars is not None:
            holed |= enough & (bars.missing_bars(*asked) > spec.most_missing_bars)
    good = windows.take(~(short | unknown | holed))
    kept = good.take(_apart(good.rows, spec.stride_bars))
    return SequenceWindows(
        windows=kept,
        short_history=int(short.sum()),
        not_finite=int((unknown & ~short).sum()),
        missing_bars=int((holed & ~unknown & ~short).sum()),
        strided_over=len(good) - len(kept),
    )


def sequence_batches(
    windows: Windows,
    spec: SequenceSpec,
    *,
    batch_rows: int = 256,
    shuffle: np.random.Generator | None = None,
    dtype: DTypeLike = np.float32,
) -> Iterator[SequenceBatch]:
    """Yield all windows with their sequences, some at a time, so memory depends on `batch_rows` and not on the history.

    Args:
        windows: as returned by `sequence_windows`.
        shuffle: order the windows at random, for training; without it they come in time order.
        dtype: of the sequences.

    Raises:
        BadInput: `batch_rows` is below 1, or a window has too little history.
    """
    if batch_rows < 1:
        raise BadInput(f"batch_rows must be 1 or more, was {batch_rows}")
    order = np.arange(len(windows)) if shuffle is None else shuffle.permutation(len(windows))
    for start in range(0, order.size, batch_rows):
        batch = windows.take(order[start : start + batch_rows])
        yield SequenceBatch(
            windows=batch,
            sequences={frame: batch.sequence(frame, spec).astype(dtype, order="C") for frame in spec.timeframes},
        )


def known_values(windows: Windows, timeframe: Timeframe) -> Floats:
    """Return the bars known at the last origin whose values are all finite, for fitting a scaler or PCA; (k, f)."""
    bars = windows.arrays.sequence(timeframe)
    values = bars.values[: int(bars.newest[windows.rows].max(initial=-1)) + 1]
    return np.asarray(values[np.isfinite(values).all(axis=1)])


def _apart(rows: NDArray[np.int64], stride: int) -> NDArray[np.int64]:
    """Return positions of rows such that each kept row is `stride` or more after the one kept before it."""
    n = rows.size
    step = np.append(np.searchsorted(rows, rows + stride), n)  # position n stands for the end
    kept = np.zeros(1, dtype=np.int64)
    while step[0] < n:  # each pass doubles the steps taken, so there are log2(n) of them
        kept = np.concatenate([kept, step[kept]])
        step = step[step]
    return np.asarray(kept[kept < n], dtype=np.int64)
