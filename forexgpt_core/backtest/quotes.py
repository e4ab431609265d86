"""Both sides of the market, its slippage, rates and swaps at every bar, laid out once for any number of backtests."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.domain.bars import ASK_PRICES, PRICES, require_bars
from forexgpt_core.domain.clock import Ints, Times, places
from forexgpt_core.domain.conversion import account_rates
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.instruments import instrument

Floats = NDArray[np.float64]

_HOUR = 3600 * 1_000_000  # microseconds
_WEEK_OPENS = 17  # New York, and every night begins at this hour


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quotes:
    """What an execution in any bar costs. Every array is (n,), float64 and C-contiguous.

    Attributes:
        bid_open, bid_high, bid_low, bid_close: quote currency per unit of base currency.
        ask_open, ask_high, ask_low, ask_close: likewise, never below the bid.
        slippage: adverse price change of an execution in the bar, in quote currency; known at its open.
        rate_open, rate_close: account currency per unit of quote currency, as known at the bar's open and close.
        swap_long, swap_short: quote currency per unit of base currency, credited (+) or charged (-) at the bar's open
            to a position that was open before it.
        cost_return: the round trip to expect at the bar's close from what is known there, a log return.
        base_is_account: the account is kept in the base currency: 1 / price converts, of the very execution.
        lot_units: units of base currency in one lot.
        missing_ask_bars: bars whose ask the candles lack, where costs ask for it; they have the constant spread.
        crossed_ask_bars: bars whose ask stood below the bid; it was raised to the bid.
        stale_rate_bars: bars at whose open or close a newer rate should have been known, but its candle is absent.
    """

    bid_open: Floats
    bid_high: Floats
    bid_low: Floats
    bid_close: Floats
    ask_open: Floats
    ask_high: Floats
    ask_low: Floats
    ask_close: Floats
    slippage: Floats
    rate_open: Floats
    rate_close: Floats
    swap_long: Floats
    swap_short: Floats
    cost_return: Floats
    base_is_account: bool
    lot_units: float
    missing_ask_bars: int = 0
    crossed_ask_bars: int = 0
    stale_rate_bars: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Market:
    """The ask side and the spread in pips at every bar's open and close."""

    asks: list[Floats]
    spread_open: Floats
    spread_close: Floats
    missing: int = 0
    crossed: int = 0


def mean_spread_pips(quotes: Quotes, symbol: str) -> float:
    """Return the mean over the bars of ask minus bid at the close."""
    return float((quotes.ask_close - quotes.bid_close).mean()) / instrument(symbol).pip


def lay_out_quotes(
    candles: pl.DataFrame, costs: Costs, *, symbol: str, rates: Mapping[str, pl.DataFrame] | None = None
) -> Quotes:
    """Return the quotes of a pair on these candles.

    Args:
        candles: lawful bid bars of the pair, ask side optional.
        rates: candles of other pairs by symbol, for an account in a currency that is not the quote one; see
            `domain.conversion.account_rates`.

    Raises:
        BadInput: the bars are unlawful, or a pair that converts is missing or begins too late; the text names it.
    """
    require_bars(candles)
    pair = instrument(symbol)
    times = candles["ts_utc"].to_numpy().astype("datetime64[us]")
    bids = [_column(candles, name) for name in PRICES]
    market = _market(candles, times, bids, costs, pair.pip)
    account = account_rates(candles, symbol=symbol, account=costs.account_of(symbol), rates=rates or {})
    range_pips = (bids[1] - bids[2]) / pair.pip
    range_before = np.concatenate([np.zeros(min(1, times.size)), range_pips[:-1]])  # of the bar before; none at first
    nights = nights_held(times, costs.swap_triple_weekday).astype(np.float64)
    return Quotes(
        **dict(zip((f"bid_{name}" for name in PRICES), bids, strict=True)),
        **dict(zip(ASK_PRICES, market.asks, strict=True)),
        slippage=_slippage_pips(costs, range_before, market.spread_open) * pair.pip,
        rate_open=account.open,
        rate_close=account.close,
        swap_long=np.asarray(nights * (costs.swap_long_pips * pair.pip)),
        swap_short=np.asarray(nights * (costs.swap_short_pips * pair.pip)),
        cost_return=costs.round_trip_return(
            symbol,
            bids[3],
            spread_pips=market.spread_close,
            slippage_pips=_slippage_pips(costs, range_pips, market.spread_close),
            rate=account.close,
        ),
        base_is_account=account.base_is_account,
        lot_units=float(pair.lot_units),
        missing_ask_bars=market.missing,
        crossed_ask_bars=market.crossed,
        stale_rate_bars=account.stale_bars,
    )


def nights_held(opens_utc: Times, triple_weekday: int) -> Ints:
    """Return for how many nights each bar's open charges a position that was open at the bar before.

    A night begins at 17:00 New York, from Monday to Friday; that of the triple weekday counts three, for the weekend,
    so a whole week has seven.

    Args:
        opens_utc: (n,) increasing.
        triple_weekday: 0 (Monday) to 4 (Friday).
    """
    place = places(opens_utc)
    counts = np.ones(5, dtype=np.int64)
    counts[triple_weekday] = 3
    passed = np.concatenate([[0], np.cumsum(counts)])  # nights of a week by whole days since its opening on Sunday
    so_far = place.week * passed[-1] + passed[np.minimum(place.since_open // (24 * _HOUR), 5)]
    return np.asarray(np.diff(so_far, prepend=so_far[:1]))


def new_york_hour(moments_utc: Times) -> Ints:
    """Return the hour of the New York day, 0 to 23."""
    return np.asarray((places(moments_utc).since_open // _HOUR + _WEEK_OPENS) % 24)


def _market(candles: pl.DataFrame, times: Times, bids: list[Floats], costs: Costs, pip: float) -> _Market:
    if costs.spread_source == "candles":
        return _quoted_market(candles, bids, costs.spread_pips, pip)
    if costs.spread_source == "session":  # every price of a bar stands at the spread of the hour it opens in
        spread = np.asarray(costs.spread_by_hour_pips, dtype=np.float64)[new_york_hour(times)]
    else:
        spread = np.full(times.size, costs.spread_pips, dtype=np.float64)
    return _Market(asks=[bid + spread * pip for bid in bids], spread_open=spread, spread_close=spread)


def _quoted_market(candles: pl.DataFrame, bids: list[Floats], usual_pips: float, pip: float) -> _Market:
    quoted = [
        _column(candles, name) if name in candles.columns else np.full(candles.height, np.nan) for name in ASK_PRICES
    ]
    missing = np.isnan(quoted).any(axis=0)
    crossed = ~missing & (np.less(quoted, bids).any(axis=0))
    asks = [
        np.where(missing, bid + usual_pips * pip, np.maximum(ask, bid)) for ask, bid in zip(quoted, bids, strict=True)
    ]
    opened, closed = (np.where(missing, usual_pips, (asks[n] - bids[n]) / pip) for n in (0, 3))
    return _Market(
        asks=asks, spread_open=opened, spread_close=closed, missing=int(missing.sum()), crossed=int(crossed.sum())
    )


def _slippage_pips(costs: Costs, range_pips: Floats, spread_pips: Floats) -> Floats:
    shares = costs.slippage_range_share * range_pips + costs.slippage_spread_share * spread_pips
    return np.asarray(costs.slippage_pips + shares)


def _column(candles: pl.DataFrame, name: str) -> Floats:
    """Return a column as an array of its own; null is NaN."""
    return np.array(candles[name].cast(pl.Float64).to_numpy(), dtype=np.float64, order="C")
