"""The bars and forecasts of a backtest, checked and laid out once for any number of runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.backtest.performance import Floats, Ints, Times, day_ends
from forexgpt_core.backtest.quotes import Quotes, lay_out_quotes
from forexgpt_core.domain.bars import require_bars
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import ForecastBatch, interval_width
from forexgpt_core.domain.instruments import normalise_symbol
from forexgpt_core.errors import BadInput
from forexgpt_core.strategy.decide import entry_probabilities
from forexgpt_core.strategy.sizing import WALK_WIDTH

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Signals:
    """What one horizon says at every bar of a span; NaN at bars without a forecast.

    Attributes:
        up, down: probability of a move beyond the hurdle.
        scale: standard deviation of the return under the reference walk.
        width: of the forecast's 90 % interval, log return.
        width_ratio: see `sizing.width_ratio`.
    """

    up: Floats
    down: Floats
    scale: Floats
    width: Floats
    width_ratio: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Span:
    """The bars from the first forecast origin to the last one, and the forecasts on them.

    Attributes:
        bars: `ts_utc, open, high, low, close`, bid.
        rows: (n,) which bar each forecast belongs to.
        quotes: both sides of the market, costs and conversion at every bar.
        ends, periods_per_year: see `performance.day_ends`.
        no_entry: (bars,) closes at which no position may be opened; None where any may.
    """

    symbol: str
    bars: pl.DataFrame
    ts_utc: Times
    close: Floats
    forecasts: ForecastBatch
    rows: Ints
    costs: Costs
    quotes: Quotes
    ends: Ints
    periods_per_year: int
    no_entry: Bools | None = None
    known: dict[tuple[int, float], Signals] = field(default_factory=dict, repr=False)

    @property
    def bars_per_year(self) -> float:
        """Return how many bars of the timeframe a year has."""
        return float(Timeframe.parse(self.forecasts.timeframe).per_year)

    def signals(self, horizon_bars: int, cost_multiple: float = 1.0) -> Signals:
        """Return what one horizon says with a hurdle of so many round-trip costs, computed on first use.

        Raises:
            BadInput: the forecasts lack that horizon.
        """
        key = (horizon_bars, cost_multiple)
        if key not in self.known:
            self.known[key] = self._signals(horizon_bars, cost_multiple)
        return self.known[key]

    def _signals(self, horizon_bars: int, cost_multiple: float) -> Signals:
        horizons = self.forecasts.horizons_bars
        if horizon_bars not in horizons:
            raise BadInput(f"the strategy wants horizon_bars {horizon_bars}; the forecasts have {horizons}")
        column = horizons.index(horizon_bars)
        quantiles = self.forecasts.quantiles[:, column]
        up, down = entry_probabilities(quantiles, cost_multiple * self.quotes.cost_return[self.rows])
        scale, width = self.forecasts.scale[:, column], interval_width(quantiles)
        with np.errstate(divide="ignore"):
            ratio = np.where(width > 0, WALK_WIDTH * scale / width, np.inf)
        said = {"up": up, "down": down, "scale": scale, "width": width, "width_ratio": ratio}
        return Signals(**{name: self._on_bars(values) for name, values in said.items()})

    def _on_bars(self, values: Floats) -> Floats:
        laid = np.full(self.close.size, np.nan)
        laid[self.rows] = values
        return laid


def lay_out(
    candles: pl.DataFrame,
    forecasts: ForecastBatch,
    costs: Costs,
    *,
    symbol: str,
    no_entry: Bools | None = None,
    rates: Mapping[str, pl.DataFrame] | None = None,
) -> Span:
    """Return the span of a backtest.

    Args:
        no_entry: (bars of `candles`,) closes at which no position may be opened, such as
            `strategy.event_guard.held_back` says; exits are not held back by it.
        rates: candles of other pairs, for an account in another currency; see `quotes.lay_out_quotes`.

    Raises:
        BadInput: the bars are unlawful or fewer than 2, the forecasts belong to another symbol, are not in strictly
            increasing time, stand on bars that are absent, or hold values that are not finite; or `no_entry` has
            another length than the bars.
    """
    require_bars(candles)
    if no_entry is not None and no_entry.shape != (candles.height,):
        raise BadInput(f"no_entry must have one value for each of {candles.height} bars, has shape {no_entry.shape}")
    _require_forecasts(forecasts, symbol)
    ts = candles["ts_utc"].to_numpy().astype("datetime64[us]")
    origins = forecasts.origin_utc.astype("datetime64[us]")
    rows = np.searchsorted(ts, origins)
    absent = (rows >= ts.size) | (ts[np.minimum(rows, ts.size - 1)] != origins) if ts.size else np.ones(rows.size, bool)
    if absent.any():
        raise BadInput(
            f"{int(absent.sum())} of {origins.size} forecast origins have no candle, first {origins[absent][0]};"
            " forecast again on the present candles"
        )
    first, last = int(rows[0]), int(rows[-1])
    if last - first < 1:
        raise BadInput(f"a backtest needs at least 2 bars, the forecasts of {symbol} span {last - first + 1}")
    bars = candles.slice(first, last - first + 1)
    close, span_ts = bars["close"].to_numpy().astype(np.float64), ts[first : last + 1]
    ends, periods = day_ends(span_ts)
    return Span(
        symbol=normalise_symbol(symbol),
        bars=bars.select("ts_utc", "open", "high", "low", "close"),
        ts_utc=span_ts,
        close=close,
        forecasts=forecasts,
        rows=(rows - first).astype(np.int64),
        costs=costs,
        quotes=lay_out_quotes(bars, costs, symbol=symbol, rates=rates),
        ends=ends,
        periods_per_year=periods,
        no_entry=None if no_entry is None else no_entry[first : last + 1],
    )


def _require_forecasts(forecasts: ForecastBatch, symbol: str) -> None:
    if normalise_symbol(forecasts.symbol) != normalise_symbol(symbol):
        raise BadInput(f"forecasts belong to {forecasts.symbol}, the backtest was asked for {symbol}")
    if len(forecasts) == 0:
        raise BadInput(f"there is no forecast for {symbol}; materialize its ensemble first")
    if not (np.diff(forecasts.origin_utc.astype("datetime64[us]")) > np.timedelta64(0, "us")).all():
        raise BadInput(f"forecasts of {symbol} are not in strictly increasing time")
    if not np.isfinite(forecasts.quantiles).all():
        raise BadInput(f"forecasts of {symbol} hold quantiles that are not finite")
    if not (np.isfinite(forecasts.scale).all() and (forecasts.scale > 0).all()):
        raise BadInput(f"forecasts of {symbol} hold scales that are not finite and above 0")
