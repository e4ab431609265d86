"""Training and forecasting rows as an index over shared arrays, never copied until a model asks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.domain.clock import Timeframe, bar_close
from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.features.sequences import BarSequence, SequenceSpec

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Times = NDArray[np.datetime64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MarketArrays:
    """One pair's history as arrays that every window shares; row i is known at the close of bar i.

    Attributes:
        ts_utc: (n,) bar opens, strictly increasing.
        close: (n,) prices.
        features: (n, f), NaN while an indicator warms up.
        feature_names: f names, in column order.
        horizons_bars: H horizons, increasing.
        returns: (n, H) log return from the close of bar i to the close of bar i + h; NaN where not known yet.
        label_end_utc: (n,) when the return of the longest horizon is known; NaT where it is not yet.
        sequences: bars for sequence models by timeframe, each aligned with the n rows; see `sequence_windows`.
    """

    symbol: str
    timeframe: Timeframe
    ts_utc: Times
    close: Floats
    features: Floats
    feature_names: tuple[str, ...]
    horizons_bars: tuple[int, ...]
    returns: Floats
    label_end_utc: Times
    sequences: Mapping[Timeframe, BarSequence] = field(default_factory=dict)

    @property
    def known_utc(self) -> Times:
        """Return when each row is known: the close of its bar; shape (n,)."""
        return bar_close(self.ts_utc, self.timeframe)

    def sequence(self, timeframe: Timeframe) -> BarSequence:
        """Return the bars of a timeframe.

        Raises:
            NotReady: these arrays were made without them.
        """
        if timeframe not in self.sequences:
            held = ", ".join(self.sequences) or "none"
            raise NotReady(f"{self.symbol} has no {timeframe} sequence (held: {held}); add it with `with_sequences`")
        return self.sequences[timeframe]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Windows:
    """Some rows of MarketArrays, in time order."""

    arrays: MarketArrays
    rows: Rows

    def __len__(self) -> int:
        return self.rows.size

    @property
    def features(self) -> Floats:
        """Return the feature rows; shape (len, f)."""
        return self.arrays.features[self.rows]

    @property
    def returns(self) -> Floats:
        """Return the realised cumulative log returns; shape (len, H), NaN where not matured."""
        return self.arrays.returns[self.rows]

    @property
    def origin_utc(self) -> Times:
        """Return the opens of the origin bars; shape (len,)."""
        return self.arrays.ts_utc[self.rows]

    def sequence(self, timeframe: Timeframe, spec: SequenceSpec) -> Floats:
        """Return one timeframe's bars up to each origin, oldest first; shape (len, lengths_bars[timeframe], f).

        With raw prices and evenly spaced rows this is a read-only view. Otherwise all windows are copied: ask
        `sequence_batches` for many.

        Raises:
            BadInput: the spec does not hold the timeframe, or a row has too little history.
            NotReady: the arrays were made without this timeframe.
        """
        if timeframe not in spec.timeframes:
            raise BadInput(f"the sequence spec has no {timeframe}, only {', '.join(spec.timeframes)}")
        bars = self.arrays.sequence(timeframe)
        windows = bars.windows(bars.newest[self.rows], spec.lengths_bars[timeframe], spec.spacing_bars)
        if not (spec.relative_prices and bars.price_columns):
            return windows
        return bars.relative(windows, self.arrays.close[self.rows])

    def take(self, keep: NDArray[np.bool_] | Rows) -> "Windows":
        """Return some of these windows, by mask or by position."""
        return Windows(arrays=self.arrays, rows=self.rows[keep])


def market_arrays(
    symbol: str,
    timeframe: Timeframe,
    candles: pl.DataFrame,
    features: pl.DataFrame,
    horizons_bars: tuple[int, ...],
) -> MarketArrays:
    """Return the shared arrays of one pair.

    Args:
        candles: lawful bars (see `domain.bars`).
        features: `ts_utc` and one float column per feature, row for row the bars of `candles`.
        horizons_bars: horizons in bars, increasing, at least 1.

    Raises:
        BadInput: the two tables do not stand on the same bars, or the horizons are not increasing from 1.
    """
    if not horizons_bars or horizons_bars[0] < 1 or list(horizons_bars) != sorted(set(horizons_bars)):
        raise BadInput(f"horizons must be increasing whole numbers of bars from 1, were {horizons_bars}")
    if not candles["ts_utc"].equals(features["ts_utc"]):
        raise BadInput(f"features of {symbol} stand on other bars than its candles; rebuild the features")
    names = tuple(c for c in features.columns if c != "ts_utc")
    ts = candles["ts_utc"].to_numpy().astype("datetime64[us]")
    close = candles["close"].to_numpy().astype(np.float64)
    n, longest = close.size, horizons_bars[-1]
    returns = np.full((n, len(horizons_bars)), np.nan)
    for column, h in enumerate(horizons_bars):
        if n > h:
            returns[: n - h, column] = np.log(close[h:] / close[: n - h])
    label_end = np.full(n, np.datetime64("NaT", "us"), dtype="datetime64[us]")
    if n > longest:
        label_end[: n - longest] = bar_close(ts[longest:], timeframe)
    return MarketArrays(
        symbol=symbol,
        timeframe=timeframe,
        ts_utc=ts,
        close=close,
        features=features.select(names).to_numpy().astype(np.float64) if names else np.empty((n, 0)),
        feature_names=names,
        horizons_bars=horizons_bars,
        returns=returns,
        label_end_utc=label_end,
    )


def usable(arrays: MarketArrays, *, matured: bool) -> Windows:
    """Return the rows whose features are all finite and, if `matured`, whose longest label is known."""
    keep = np.isfinite(arrays.features).all(axis=1)
    if matured:
        keep &= ~np.isnat(arrays.label_end_utc)
    return Windows(arrays=arrays, rows=np.flatnonzero(keep).astype(np.int64))
