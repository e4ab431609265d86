"""How many lots a strategy trades."""

import math

from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.errors import BadInput
from forexgpt_core.strategy.config import StrategyConfig

LOT_STEP = 0.01
MARGIN_CEILING = 0.98  # of equity, so that a small gap between decision and fill does not exceed the margin


def lots_for(equity: float, price: float, config: StrategyConfig, symbol: str, costs: Costs) -> float:
    """Return the lots of a new position, rounded down to 0.01 lot; 0 means: do not enter.

    The exposure is size_fraction x equity x leverage, so its margin is size_fraction x equity. Margin and the costs
    of both sides together never exceed 98 % of equity. The account is kept in the pair's quote currency.

    Args:
        equity: of the account, in quote currency.
        price: quote currency per unit of base currency.

    Raises:
        BadInput: equity is not finite, or the price is not a finite number above 0.
    """
    if not (math.isfinite(equity) and math.isfinite(price) and price > 0):
        raise BadInput(f"sizing needs a finite equity and a price above 0, got equity {equity} and price {price}")
    if equity <= 0:
        return 0.0
    one_lot = price * float(instrument(symbol).lot_units)
    wanted = config.size_fraction * equity * costs.leverage / one_lot
    affordable = MARGIN_CEILING * equity / (one_lot * (1 / costs.leverage + costs.round_trip_return(symbol, price)))
    steps = math.floor(min(wanted, affordable) / LOT_STEP + 1e-9)  # 0.29 / 0.01 is 28.999999999999996
    return round(steps * LOT_STEP, 2)
