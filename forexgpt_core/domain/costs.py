"""What a round trip costs, in the units a broker quotes."""

import math
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.domain.instruments import CURRENCIES, Instrument, instrument
from forexgpt_core.errors import BadInput

Floats = NDArray[np.float64]

SPREAD_SOURCES = ("constant", "candles", "session")

_FROM_ZERO = (
    "spread_pips",
    "commission_per_lot",
    "slippage_pips",
    "commission_percent",
    "slippage_range_share",
    "slippage_spread_share",
)
_HOURS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Costs of trading one pair, and what the broker asks of the account.

    Attributes:
        spread_pips: ask minus bid, paid once per round trip.
        commission_per_lot: account currency per lot and side.
        slippage_pips: adverse price change per side, beyond the spread.
        leverage: units of exposure per unit of margin; 30 means 1/30 margin.
        account_currency: that money is counted in; empty: the quote currency of the pair.
        spread_source: "constant": `spread_pips`; "candles": ask minus bid of every bar, `spread_pips` where a bar has
            no ask; "session": `spread_by_hour_pips`.
        spread_by_hour_pips: one spread for every hour of the New York day, that from midnight first.
        commission_percent: of the notional, per side, in per cent; paid on top of `commission_per_lot`.
        slippage_range_share: of the high-low range of the bar before the execution, per side, besides `slippage_pips`.
        slippage_spread_share: of the spread, per side, likewise.
        swap_long_pips, swap_short_pips: for each night that a position is held; above 0 it is received, below 0 paid.
        swap_triple_weekday: the night that counts three, for the weekend: 0 is that from Monday to Tuesday.
        min_lots: of an order; less is not traded.
        lot_step: lots come in multiples of it.
        stop_out: equity over used margin at which the broker closes everything; 0: never.
    """

    spread_pips: float = 1.0
    commission_per_lot: float = 3.5
    slippage_pips: float = 0.1
    leverage: float = 30.0
    account_currency: str = ""
    spread_source: str = "constant"
    spread_by_hour_pips: tuple[float, ...] = ()
    commission_percent: float = 0.0
    slippage_range_share: float = 0.0
    slippage_spread_share: float = 0.0
    swap_long_pips: float = 0.0
    swap_short_pips: float = 0.0
    swap_triple_weekday: int = 2
    min_lots: float = 0.01
    lot_step: float = 0.01
    stop_out: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "spread_by_hour_pips", tuple(self.spread_by_hour_pips))  # JSON knows lists alone
        for name in _FROM_ZERO:
            if not 0 <= getattr(self, name) < math.inf:
                raise BadInput(f"costs.{name} must be 0 or more and finite, was {getattr(self, name)}")
        if not 1 <= self.leverage < math.inf:
            raise BadInput(f"costs.leverage must be 1 or more and finite, was {self.leverage}")
        if self.account_currency not in ("", *CURRENCIES):
            known = ", ".join(CURRENCIES)
            raise BadInput(f"unknown costs.account_currency '{self.account_currency}'; known: {known}, or empty")
        self._check_spread()
        for name in ("swap_long_pips", "swap_short_pips"):
            if not math.isfinite(getattr(self, name)):
                raise BadInput(f"costs.{name} must be a finite number, was {getattr(self, name)}")
        if self.swap_triple_weekday not in range(5):
            raise BadInput(
                f"costs.swap_triple_weekday must be 0 (Monday) to 4 (Friday), was {self.swap_triple_weekday}"
            )
        for name in ("min_lots", "lot_step"):
            if not 0 < getattr(self, name) < math.inf:
                raise BadInput(f"costs.{name} must be a number above 0, was {getattr(self, name)}")
        if not 0 <= self.stop_out < 1:
            raise BadInput(f"costs.stop_out must lie in [0, 1), 0.5 for 50 %, was {self.stop_out}")

    def _check_spread(self) -> None:
        if self.spread_source not in SPREAD_SOURCES:
            known = ", ".join(SPREAD_SOURCES)
            raise BadInput(f"unknown costs.spread_source '{self.spread_source}'; known: {known}")
        hours = self.spread_by_hour_pips
        if (hours and len(hours) != _HOURS) or not all(0 <= pips < math.inf for pips in hours):
            raise BadInput(
                f"costs.spread_by_hour_pips must be {_HOURS} numbers from 0 on, one for every hour of the New York day,"
                f" were {list(hours)}"
            )
        if self.spread_source == "session" and not hours:
            raise BadInput("costs.spread_source 'session' needs costs.spread_by_hour_pips, 24 numbers")

    def account_of(self, symbol: str) -> str:
        """Return the currency that money of the pair is counted in."""
        return self.account_currency or instrument(symbol).quote

    @overload
    def round_trip_return(
        self,
        symbol: str,
        price: float,
        *,
        spread_pips: None = None,
        slippage_pips: None = None,
        rate: float | None = None,
    ) -> float: ...

    @overload
    def round_trip_return(
        self,
        symbol: str,
        price: Floats,
        *,
        spread_pips: float | Floats | None = None,
        slippage_pips: float | Floats | None = None,
        rate: float | Floats | None = None,
    ) -> Floats: ...

    def round_trip_return(
        self,
        symbol: str,
        price: float | Floats,
        *,
        spread_pips: float | Floats | None = None,
        slippage_pips: float | Floats | None = None,
        rate: float | Floats | None = None,
    ) -> float | Floats:
        """Return the cost of buying and selling again, as a share of notional (a log return); elementwise.

        Args:
            price: quote currency per unit of base currency.
            spread_pips: where it is not `costs.spread_pips`.
            slippage_pips: of one side, whole; without it, what is known without a bar: no share of its range.
            rate: account currency per unit of quote currency, where the account is kept in a third currency.

        Raises:
            BadInput: a commission per lot is paid in a third currency, and there is no rate.
        """
        pair = instrument(symbol)
        spread = self.spread_pips if spread_pips is None else spread_pips
        slippage = self.slippage_pips + self.slippage_spread_share * spread if slippage_pips is None else slippage_pips
        moved = (spread + 2 * slippage) * pair.pip / price + 2 * self.commission_percent / 100
        return moved + 2 * self.commission_per_lot / (float(pair.lot_units) * self._in_account(pair, price, rate))

    def _in_account(self, pair: Instrument, price: float | Floats, rate: float | Floats | None) -> float | Floats:
        """Return what a unit of base currency is worth in the account."""
        account = self.account_currency or pair.quote
        if account == pair.quote:
            return price
        if account == pair.base:
            return 1.0
        if rate is not None:
            return price * rate
        if self.commission_per_lot == 0:
            return price  # nothing is converted
        raise BadInput(f"the commission on {pair.symbol} is paid in {account}: its cost needs a rate of {pair.quote}")
