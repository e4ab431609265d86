"""What a round trip costs, in the units a broker quotes."""

from dataclasses import dataclass

from forexgpt_core.domain.instruments import instrument
from forexgpt_core.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Costs of trading one pair.

    Attributes:
        spread_pips: ask minus bid, paid once per round trip.
        commission_per_lot: quote currency per lot and side.
        slippage_pips: adverse price change per side, beyond the spread.
        leverage: units of exposure per unit of margin; 30 means 1/30 margin.
    """

    spread_pips: float = 1.0
    commission_per_lot: float = 3.5
    slippage_pips: float = 0.1
    leverage: float = 30.0

    def __post_init__(self) -> None:
        for name in ("spread_pips", "commission_per_lot", "slippage_pips"):
            if not getattr(self, name) >= 0:
                raise BadInput(f"costs.{name} must be 0 or more, was {getattr(self, name)}")
        if not self.leverage >= 1:
            raise BadInput(f"costs.leverage must be 1 or more, was {self.leverage}")

    def round_trip_return(self, symbol: str, price: float) -> float:
        """Return the cost of buying and selling again, as a share of notional (a log return)."""
        pair = instrument(symbol)
        pips = self.spread_pips + 2 * self.slippage_pips
        return pips * pair.pip / price + 2 * self.commission_per_lot / (float(pair.lot_units) * price)
