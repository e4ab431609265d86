"""How many lots a strategy trades."""

import math
from dataclasses import dataclass

from forexgpt_core.domain import money
from forexgpt_core.domain.costs import Costs
from forexgpt_core.errors import BadInput
from forexgpt_core.strategy import rules
from forexgpt_core.strategy.config import Sizing, StrategyConfig

SIZING_CODES: dict[Sizing, int] = {
    "fraction": rules.BY_FRACTION,
    "lots": rules.BY_LOTS,
    "risk": rules.BY_RISK,
    "volatility": rules.BY_VOLATILITY,
    "kelly": rules.BY_KELLY,
    "uncertainty": rules.BY_UNCERTAINTY,
}
WALK_WIDTH = 2 * 1.6448536269514722  # 90 % of a normal law lies within so many standard deviations, end to end


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a new position is sized by, at the close that decides it.

    Attributes:
        equity, used_margin: in account currency.
        one_lot: value of a lot at that close, in account currency.
        cost_return: of a round trip at that close, log return.
        side: 1 long, -1 short.
        probability: of that side moving beyond the hurdle.
        scale: standard deviation of the horizon's return under the reference walk.
        width: of the forecast's 90 % interval, log return.
        bars_per_year: of the timeframe.
    """

    equity: float
    used_margin: float = 0.0
    one_lot: float
    cost_return: float
    side: int
    probability: float
    scale: float
    width: float
    bars_per_year: float


def lots_for(outlook: Outlook, config: StrategyConfig, costs: Costs) -> float:
    """Return the lots of a new position, rounded down to the venue's step; 0 means: do not enter.

    Margin and the costs of both sides together never exceed 98 % of the free equity.

    Raises:
        BadInput: equity is not finite, or the value of a lot is not a finite number above 0.
    """
    equity, one_lot = outlook.equity, outlook.one_lot
    if not (math.isfinite(equity) and math.isfinite(one_lot) and one_lot > 0):
        raise BadInput(f"sizing needs a finite equity and a lot worth more than 0, got equity {equity}, lot {one_lot}")
    if equity <= 0:
        return 0.0
    one_scale = outlook.scale if config.distance_unit == "volatility" else rules.PERCENT
    wanted = rules.wanted_lots(
        SIZING_CODES[config.sizing],
        config.size_fraction,
        config.lots,
        equity,
        one_lot,
        costs.leverage,
        outlook.side,
        outlook.probability,
        config.stop_scales * one_scale,
        config.take_profit_scales * one_scale,
        outlook.scale * scales_per_year(config, outlook.bars_per_year),
        width_ratio(outlook.scale, outlook.width),
    )
    affordable = rules.affordable_lots(equity - outlook.used_margin, one_lot, costs.leverage, outlook.cost_return)
    return money.rounded_lots(wanted, affordable, costs.min_lots, costs.lot_step)


def scales_per_year(config: StrategyConfig, bars_per_year: float) -> float:
    """Return how many standard deviations of the horizon make one of a year."""
    return math.sqrt(bars_per_year / config.horizon_bars)


def width_ratio(scale: float, width: float) -> float:
    """Return the width of the reference walk's 90 % interval over the forecast's; inf where that has none."""
    return WALK_WIDTH * scale / width if width > 0 else math.inf
