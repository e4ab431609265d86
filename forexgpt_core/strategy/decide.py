"""The one decision function of backtest, paper and live: forecast, position and settings in, one decision out."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.domain.forecasts import LEVELS, law_cdf
from forexgpt_core.domain.orders import Side
from forexgpt_core.errors import BadInput
from forexgpt_core.strategy import rules
from forexgpt_core.strategy.config import StrategyConfig

Floats = NDArray[np.float64]
Action = Literal["hold", "enter", "exit"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MarketView:
    """What is known at the close of a bar.

    Attributes:
        close: bid price at that close.
        quantiles: (9,) law of the log return over `config.horizon_bars`, at `domain.forecasts.LEVELS`.
        scale: one standard deviation of that return under the reference walk, log return.
        cost_return: what a round trip costs, as a log return (see `Costs.round_trip_return`).
    """

    close: float
    quantiles: Floats
    scale: float
    cost_return: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPosition:
    """An open position.

    Attributes:
        bars_held: bars closed since the entry fill; 1 at the close of the bar whose open filled the entry.
    """

    side: Side
    bars_held: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do at the next open.

    Attributes:
        side: of the position to open, or of the position to close; None for "hold".
        probability: of the likelier side moving beyond the cost; 0 where the view was refused.
        stop_price, take_profit_price: levels of a new position on the side that closes it: bid for a long one, ask
            for a short one. None unless entering.
        trail_distance: log return at which the stop follows the closes since the entry; None where it stays.
        reason: in words, for the journal.
    """

    action: Action
    side: Side | None
    probability: float
    reason: str
    stop_price: float | None = None
    take_profit_price: float | None = None
    trail_distance: float | None = None


REASONS = {
    rules.NOT_FINITE: "not finite",
    rules.OUT_OF_RANGE: "price, scale or cost out of range",
    rules.BELOW: "below threshold",
    rules.ALIKE: "both sides alike",
    rules.INSIDE_COST: "stop or target inside the cost",
    rules.TOO_FAR: "stop or target out of range",
    rules.KEEP: "keep",
    rules.ENTER_LONG: "signal",
    rules.ENTER_SHORT: "signal",
    rules.LEAVE_AT_LIMIT: "holding limit",
    rules.LEAVE_OPPOSITE: "opposite signal",
}
_REFUSED = (rules.NOT_FINITE, rules.OUT_OF_RANGE)


def entry_probabilities(quantiles: Floats, cost: Floats | float) -> tuple[Floats, Floats]:
    """Return P(return > cost) and P(return < -cost) under each law.

    Turning every law around (q -> -q reversed) swaps the two exactly. Each row is computed on its own, so a row
    gives the same bits alone and among others.

    Args:
        quantiles: (n, 9) at LEVELS, non-decreasing.
        cost: round-trip cost as a log return, one number or (n,).

    Returns:
        Two arrays (n,).
    """
    turned = -quantiles[..., ::-1]
    return 1.0 - law_cdf(quantiles, cost), 1.0 - law_cdf(turned, cost)


def decide(view: MarketView, held: HeldPosition | None, config: StrategyConfig) -> Decision:
    """Return the decision at a bar's close; pure, and the same for the same arguments.

    Flat: buy when P(return > hurdle) is the larger side and reaches the threshold, sell likewise. Holding: leave at the
    holding limit or when the opposite side would be entered (the new entry is the next bar's decision). A view that
    is not finite or not a law ends a position at the holding limit alone, see `decide_unforecast`. The rules stand in
    `strategy.rules`.

    Raises:
        BadInput: the law has not nine quantiles.
    """
    quantiles = np.asarray(view.quantiles, dtype=np.float64)
    if quantiles.shape != LEVELS.shape:
        raise BadInput(f"a market view needs {LEVELS.size} quantiles, got an array of shape {quantiles.shape}")
    if not (np.isfinite(quantiles).all() and math.isfinite(view.cost_return)):
        return decide_unforecast(held, config, REASONS[rules.NOT_FINITE])
    if (np.diff(quantiles) < 0).any():
        return decide_unforecast(held, config, "quantiles cross")
    up, down = entry_probabilities(quantiles[None, :], config.cost_multiple * view.cost_return)
    return decide_given(
        (float(up[0]), float(down[0])),
        close=view.close,
        scale=view.scale,
        cost_return=view.cost_return,
        held=held,
        config=config,
    )


def decide_unforecast(held: HeldPosition | None, config: StrategyConfig, reason: str) -> Decision:
    """Return the decision where there is no lawful forecast: only the holding limit closes a position.

    Args:
        reason: why there is none, told where nothing is done.
    """
    if held is not None and held.bars_held >= config.holding_limit_bars:
        limit = REASONS[rules.LEAVE_AT_LIMIT]
        return Decision(action="exit", side=held.side, probability=0.0, reason=limit)
    return Decision(action="hold", side=None, probability=0.0, reason=reason)


def decide_given(
    probabilities: tuple[float, float],
    *,
    close: float,
    scale: float,
    cost_return: float,
    held: HeldPosition | None,
    config: StrategyConfig,
) -> Decision:
    """Return what `decide` returns, from the probabilities of `entry_probabilities` (up, down) of a lawful forecast.

    A backtest computes those once for all bars.
    """
    up, down = probabilities
    one_scale = scale if config.distance_unit == "volatility" else rules.PERCENT
    stop_distance, target_distance = config.stop_scales * one_scale, config.take_profit_scales * one_scale
    code = rules.judge(
        up,
        down,
        close,
        scale,
        cost_return,
        rules.FLAT if held is None else held.side.sign,
        0 if held is None else held.bars_held,
        config.entry_probability,
        stop_distance,
        target_distance,
        config.holding_limit_bars,
        config.opposite_exit,
    )
    known = code not in _REFUSED and math.isfinite(up) and math.isfinite(down)
    likelier = max(up, down) if known else 0.0
    if code in (rules.LEAVE_AT_LIMIT, rules.LEAVE_OPPOSITE):
        assert held is not None  # only a held position is left
        return Decision(action="exit", side=held.side, probability=likelier, reason=REASONS[code])
    if code not in (rules.ENTER_LONG, rules.ENTER_SHORT):
        return Decision(action="hold", side=None, probability=likelier, reason=REASONS[code])
    side = Side.BUY if code == rules.ENTER_LONG else Side.SELL
    return Decision(
        action="enter",
        side=side,
        probability=likelier,
        stop_price=rules.level(close, -side.sign * stop_distance),
        take_profit_price=rules.level(close, side.sign * target_distance),
        trail_distance=config.trailing_scales * one_scale if config.trailing_scales > 0 else None,
        reason=REASONS[code],
    )
