"""Both sides of the market, its slippage, rates and swaps at every bar, laid out once for any number of backtests."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.domain.costs import Costs

Floats = NDArray[np.float64]


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


def lay_out_quotes(
    candles: pl.DataFrame, costs: Costs, *, symbol: str, rates: Mapping[str, pl.DataFrame] | None = None
) -> Quotes:
    """Return the quotes of a pair on these candles.

    Args:
        candles: lawful bid bars of the pair, ask side optional.
        rates: candles of other pairs by symbol, for an account in a currency that is not the quote one.

    Raises:
        BadInput: the bars are unlawful, or a pair that converts is missing or begins too late; the text names it.
    """
    raise NotImplementedError
