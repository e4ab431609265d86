"""The one decision function of backtest, paper and live: forecast, position and settings in, one decision out."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.domain.forecasts import LEVELS, law_cdf
from forexgpt_core.domain.orders import Side
from forexgpt_core.errors import BadInput
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
        reason: in words, for the journal.
    """

    action: Action
    side: Side | None
    probability: float
    stop_price: float | None
    take_profit_price: float | None
    reason: str


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

    Flat: buy when P(return > cost) is the larger side and reaches the threshold, sell likewise. Holding: leave at the
    holding limit or when the opposite side would be entered (the new entry is the next bar's decision). A view that
    is not finite or not a law changes nothing: the answer is "hold" and says why.

    Raises:
        BadInput: the law has not nine quantiles.
    """
    quantiles = np.asarray(view.quantiles, dtype=np.float64)
    if quantiles.shape != LEVELS.shape:
        raise BadInput(f"a market view needs {LEVELS.size} quantiles, got an array of shape {quantiles.shape}")
    if not (np.isfinite(quantiles).all() and math.isfinite(view.cost_return)):
        return _hold("not finite")
    if (np.diff(quantiles) < 0).any():
        return _hold("quantiles cross")
    up, down = entry_probabilities(quantiles[None, :], view.cost_return)
    return decide_given(
        (float(up[0]), float(down[0])),
        close=view.close,
        scale=view.scale,
        cost_return=view.cost_return,
        held=held,
        config=config,
    )


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

    A backtest computes those once for all bars; every other rule of `decide` stands here.
    """
    up, down = probabilities
    if not all(map(math.isfinite, (up, down, close, scale, cost_return))):
        return _hold("not finite")
    if close <= 0 or scale <= 0 or cost_return < 0:
        return _hold("price, scale or cost out of range")
    likelier = max(up, down)
    signal = _signal(up, down, config.entry_probability)
    if held is not None:
        return _decide_held(held, signal, likelier, config)
    if signal is None:
        return _hold("both sides alike" if likelier >= config.entry_probability else "below threshold", likelier)
    return _enter(signal, likelier, close, scale, cost_return, config)


def _signal(up: float, down: float, threshold: float) -> Side | None:
    if max(up, down) < threshold or up == down:
        return None
    return Side.BUY if up > down else Side.SELL


def _decide_held(held: HeldPosition, signal: Side | None, likelier: float, config: StrategyConfig) -> Decision:
    if held.bars_held >= config.holding_limit_bars:
        reason = "holding limit"
    elif signal is held.side.opposite:
        reason = "opposite signal"
    else:
        return _hold("keep", likelier)
    return Decision(
        action="exit", side=held.side, probability=likelier, stop_price=None, take_profit_price=None, reason=reason
    )


def _enter(
    side: Side, probability: float, close: float, scale: float, cost_return: float, config: StrategyConfig
) -> Decision:
    stop_distance, target_distance = config.stop_scales * scale, config.take_profit_scales * scale
    if min(stop_distance, target_distance) <= cost_return:  # it would be stopped, or win nothing, by the spread alone
        return _hold("stop or target inside the cost", probability)
    if max(stop_distance, target_distance) > 1:  # prices e times apart: no currency law, and exp could overflow
        return _hold("stop or target out of range", probability)
    return Decision(
        action="enter",
        side=side,
        probability=probability,
        stop_price=close * math.exp(-side.sign * stop_distance),
        take_profit_price=close * math.exp(side.sign * target_distance),
        reason="signal",
    )


def _hold(reason: str, probability: float = 0.0) -> Decision:
    return Decision(
        action="hold", side=None, probability=probability, stop_price=None, take_profit_price=None, reason=reason
    )
