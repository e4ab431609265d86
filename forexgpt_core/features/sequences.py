"""Stretches of one timeframe's bars that end at an origin, as views of one array per timeframe."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.domain.clock import Ints, Timeframe, Times, bar_close, slot
from forexgpt_core.errors import BadInput
from forexgpt_core.features.multi_timeframe import newest_closed

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

SHORTEST_BARS, LONGEST_BARS = 10, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceSpec:
    """What a sequence model reads at each origin. Equal specs read equal windows.

    Attributes:
        timeframes: kept shortest first.
        length_bars: observations in a window, 10 to 500, of every timeframe.
        same_span: give a longer timeframe only the bars that cover the market time of the shortest one's window, so
            500 bars of M5 stand beside 166 of M15, 41 of H1 and 10 of H4.
        stride_bars: at least so many base rows from one origin to the next; 1 takes every origin.
        spacing_bars: bars from one observation to the next inside a window; 1 takes every bar.
        relative_prices: turn price columns into log(price / base close at the origin), which has no scale.
        most_missing_bars: bars of the FX week that may be absent inside a window; None accepts any hole.
    """

    timeframes: tuple[Timeframe, ...]
    length_bars: int = 100
    same_span: bool = False
    stride_bars: int = 1
    spacing_bars: int = 1
    relative_prices: bool = True
    most_missing_bars: int | None = None

    def __post_init__(self) -> None:
        order = list(Timeframe)
        if not self.timeframes or len(set(self.timeframes)) != len(self.timeframes):
            raise BadInput(f"a sequence needs one or more different timeframes, was given {self.timeframes}")
        object.__setattr__(self, "timeframes", tuple(sorted(map(Timeframe.parse, self.timeframes), key=order.index)))
        _require_whole("length_bars", self.length_bars, SHORTEST_BARS, LONGEST_BARS)
        _require_whole("stride_bars", self.stride_bars, 1)
        _require_whole("spacing_bars", self.spacing_bars, 1)
        if self.most_missing_bars is not None:
            _require_whole("most_missing_bars", self.most_missing_bars, 0)
        for timeframe, length in self.lengths_bars.items():
            if length < SHORTEST_BARS:
                raise BadInput(
                    f"{self.length_bars} bars of {self.timeframes[0]} span only {length} of {timeframe}, at least"
                    f" {SHORTEST_BARS} are needed: take a longer window, or leave {timeframe} out"
                )

    @property
    def lengths_bars(self) -> dict[Timeframe, int]:
        """Return the observations per window of each timeframe."""
        shortest = self.timeframes[0].seconds
        return {
            frame: self.length_bars * shortest // frame.seconds if self.same_span else self.length_bars
            for frame in self.timeframes
        }


def _require_whole(name: str, value: int, least: int, most: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        wanted = f"of {least} or more" if most is None else f"from {least} to {most}"
        raise BadInput(f"{name} must be a whole number {wanted}, was {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BarSequence:
    """One timeframe's bars, and for each base row the newest of them that is known at the base bar's close.

    Attributes:
        ts_utc: (m,) opens, strictly increasing.
        values: (m, f), NaN where unknown.
        names: f names, in column order.
        price_columns: positions of the columns that are prices, all above 0.
        newest: (n,) one position in the m bars per base row, never decreasing; -1 where no bar has closed yet.
    """

    timeframe: Timeframe
    ts_utc: Times
    values: Floats
    names: tuple[str, ...]
    price_columns: tuple[int, ...]
    newest: Ints

    def __post_init__(self) -> None:
        if self.values.shape != (self.ts_utc.size, len(self.names)):
            raise BadInput(
                f"a {self.timeframe} sequence of {self.ts_utc.size} bars and {len(self.names)} columns cannot hold"
                f" values of shape {self.values.shape}"
            )
        if (self.values[:, list(self.price_columns)] <= 0).any():
            raise BadInput(f"prices of a {self.timeframe} sequence must be above 0")

    @property
    def known_utc(self) -> Times:
        """Return when each bar is known: at its close; shape (m,)."""
        return bar_close(self.ts_utc, self.timeframe)

    @property
    def nbytes(self) -> int:
        """Return the memory that is held, whatever the number of windows."""
        return self.values.nbytes + self.ts_utc.nbytes + self.newest.nbytes

    def windows(self, newest: Ints, length_bars: int, spacing_bars: int = 1) -> Floats:
        """Return the windows that end at the bars `newest`, oldest observation first.

        Where the ends are evenly spaced this is a read-only view that copies nothing, otherwise a copy.

        Args:
            newest: (k,) positions of the last bars.

        Returns:
            (k, length_bars, f).

        Raises:
            BadInput: a window would begin before the first bar.
        """
        reach = (length_bars - 1) * spacing_bars
        if newest.size and newest.min() < reach:
            raise BadInput(
                f"{int((newest < reach).sum())} of {newest.size} origins have fewer than {reach + 1} closed"
                f" {self.timeframe} bars behind them: keep those that `sequence_windows` returns"
            )
        if newest.size == 0:
            return np.empty((0, length_bars, len(self.names)))
        every = np.lib.stride_tricks.sliding_window_view(self.values, reach + 1, axis=0)[:, :, ::spacing_bars]
        return np.asarray(np.moveaxis(every[_even(newest - reach)], 2, 1))

    def relative(self, windows: Floats, origin_close: Floats) -> Floats:
        """Return a copy of windows whose prices are log(price / origin_close); the other columns are unchanged."""
        scaled = np.array(windows)
        prices = list(self.price_columns)
        scaled[:, :, prices] = np.log(windows[:, :, prices] / origin_close[:, None, None])
        return scaled

    def enough(self, newest: Ints, length_bars: int, spacing_bars: int) -> Flags:
        """Return which windows begin at or after the first bar; shape (k,)."""
        return np.asarray(newest >= (length_bars - 1) * spacing_bars)

    def complete(self, newest: Ints, length_bars: int, spacing_bars: int) -> Flags:
        """Return which windows hold finite values only; shape (k,). Windows that are too short count as incomplete."""
        unknown = np.flatnonzero(~np.isfinite(self.values).all(axis=1))
        counts = np.append(_counts_behind(unknown, self.ts_utc.size, length_bars, spacing_bars), 1)  # -1 is no bar
        return np.asarray(self.enough(newest, length_bars, spacing_bars) & (counts[newest] == 0))

    def missing_bars(self, newest: Ints, length_bars: int, spacing_bars: int) -> Ints:
        """Return how many bars of the FX week are absent between the first and last bar of each window; shape (k,)."""
        numbers, reach = np.append(slot(self.ts_utc, self.timeframe), 0), (length_bars - 1) * spacing_bars
        first = np.maximum(newest - reach, 0)
        return np.asarray(numbers[newest] - numbers[first] - (newest - first))


def bar_sequence(
    table: pl.DataFrame,
    timeframe: Timeframe,
    *,
    base_open_utc: Times,
    base: Timeframe,
    price_columns: tuple[str, ...] = (),
) -> BarSequence:
    """Return a table of bars aligned with base bars.

    Args:
        table: `ts_utc` (opens) and one number column per value; row i must read nothing after the close of its bar.
        timeframe: of the table; it may be shorter than, equal to or longer than `base`.
        base_open_utc: (n,) opens of the base bars, increasing.

    Raises:
        BadInput: times are not strictly increasing, or a price is not above 0.
    """
    ts = table["ts_utc"].to_numpy().astype("datetime64[us]")
    if (np.diff(ts) <= np.timedelta64(0)).any():
        raise BadInput(f"{timeframe} bars of a sequence must be strictly increasing in ts_utc")
    names = tuple(name for name in table.columns if name != "ts_utc")
    columns = [table[name].cast(pl.Float64).to_numpy() for name in names]
    return BarSequence(
        timeframe=timeframe,
        ts_utc=ts,
        values=np.column_stack(columns) if columns else np.empty((ts.size, 0)),
        names=names,
        price_columns=tuple(names.index(name) for name in price_columns),
        newest=newest_closed(base_open_utc, base, ts, timeframe),
    )


def _even(first: Ints) -> Ints | slice:
    """Return positions as a slice where they are evenly spaced, so that indexing makes a view."""
    step = int(first[1] - first[0]) if first.size > 1 else 1
    if step > 0 and (np.diff(first) == step).all():
        return slice(int(first[0]), int(first[-1]) + 1, step)
    return first


def _counts_behind(marked: Ints, size: int, length: int, spacing: int) -> Ints:
    """Return how many of bars `k, k - spacing, ...` (`length` of them) are marked, for each k; shape (size,)."""
    flags = np.zeros(-(-size // spacing) * spacing, dtype=np.int64)
    flags[marked] = 1
    running = flags.reshape(-1, spacing).cumsum(axis=0).ravel()
    counts = running.copy()
    counts[length * spacing :] -= running[: max(running.size - length * spacing, 0)]
    return counts[:size]
