"""Whether orders followed decisions: how many were filled or refused, and how far from the price reckoned with."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from forexgpt_core.domain.instruments import instrument
from forexgpt_core.domain.orders import OrderState, Side

_REJECTED = (OrderState.REJECTED, OrderState.CANCELLED)
_EXPIRED = (OrderState.EXPIRED, OrderState.NEVER_ARRIVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderOutcome:
    """One order: the price its decision reckoned with, and what it got."""

    symbol: str
    side: Side
    state: OrderState
    lots: Decimal
    filled_lots: Decimal
    intended_price: Decimal
    fill_price: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adherence:
    """Figures over some orders; a ratio is None where nothing is at its end yet.

    Attributes:
        fill_ratio: share of ended orders that were filled, even in part.
        rejection_rate: share of ended orders that the venue refused or cancelled unfilled.
        slippage_mean_pips, slippage_std_pips, slippage_max_pips: adverse distance of the fill from the intended price;
            the move from a bar's close to the next open is part of it. Negative is better than intended.
    """

    intents: int
    filled: int
    rejected: int
    expired: int
    fill_ratio: float | None
    rejection_rate: float | None
    slippage_mean_pips: float | None
    slippage_std_pips: float | None
    slippage_max_pips: float | None


def measure_adherence(orders: Sequence[OrderOutcome]) -> Adherence:
    """Return the figures of some orders, protective exits aside (nobody decided those)."""
    filled = [order for order in orders if order.filled_lots > 0]
    unfilled = [order for order in orders if order.filled_lots == 0]
    rejected = sum(order.state in _REJECTED for order in unfilled)
    expired = sum(order.state in _EXPIRED for order in unfilled)
    ended = len(filled) + rejected + expired
    slippage = np.array([slip for order in filled if (slip := slippage_pips(order)) is not None])
    return Adherence(
        intents=len(orders),
        filled=len(filled),
        rejected=rejected,
        expired=expired,
        fill_ratio=len(filled) / ended if ended else None,
        rejection_rate=rejected / ended if ended else None,
        slippage_mean_pips=float(slippage.mean()) if slippage.size else None,
        slippage_std_pips=float(slippage.std(ddof=1)) if slippage.size > 1 else None,
        slippage_max_pips=float(slippage.max()) if slippage.size else None,
    )


def slippage_pips(order: OrderOutcome) -> float | None:
    """Return how many pips worse than intended an order was filled; None where it was not."""
    if order.fill_price is None:
        return None
    return order.side.sign * float(order.fill_price - order.intended_price) / instrument(order.symbol).pip
