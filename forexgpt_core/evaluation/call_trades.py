"""What a family's own directional calls would have earned, one trade at a time, before and after cost."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.direction import call_signs
from forexgpt_core.evaluation.pairing import independent_rows, origin_slots, require_paired

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTrades:
    """Trades of the sign of the median, held for the horizon, never two at once; each (H,).

    Attributes:
        trades: calls taken.
        win_rate: share that earned more than its cost; NaN without a trade.
        profit_factor: sum of gains over sum of losses in log return; NaN where nothing was lost, or without a trade.
        mean_return: log return per trade; NaN without one.
    """

    trades: Ints
    win_rate: Floats
    profit_factor: Floats
    mean_return: Floats


def call_trades(forecasts: ForecastBatch, returns: Floats, *, round_trip_cost: Floats | float = 0.0) -> CallTrades:
    """Return how trades on the family's own calls fared.

    A call is taken when the trade before it is over, so trades do not overlap; forecasts without an opinion are passed
    over. No size, stop or limit enters: this is the forecast's figure, the strategy has its own in the backtest.

    Args:
        forecasts: origins in time order.
        returns: (n, H) realised cumulative log returns.
        round_trip_cost: of one trade in log return, 0 or more, broadcastable to (n, H); 0 gives the gross figures.

    Raises:
        UnsortedOrigins: origins repeat or go back in time.
        UnpairedReturns: returns do not pair.
        BadInput: a cost is negative or not finite, or its shape does not fit.
    """
    y, slots, sign = require_paired(forecasts, returns), origin_slots(forecasts), call_signs(forecasts)
    earned = sign * y - _costs(round_trip_cost, y.shape)
    columns = []
    for column, horizon in enumerate(forecasts.horizons_bars):
        rows = np.flatnonzero(sign[:, column])
        columns.append(_figures(earned[rows[independent_rows(slots[rows], horizon)], column]))
    trades, *figures = (np.array(values) for values in zip(*columns, strict=True))
    win_rate, profit_factor, mean_return = (f.astype(np.float64) for f in figures)
    return CallTrades(
        trades=trades.astype(np.int64), win_rate=win_rate, profit_factor=profit_factor, mean_return=mean_return
    )


def _figures(earned: Floats) -> tuple[int, float, float, float]:
    if not earned.size:
        return 0, np.nan, np.nan, np.nan
    won, lost = float(earned[earned > 0].sum()), float(-earned[earned < 0].sum())
    return earned.size, float((earned > 0).mean()), won / lost if lost > 0 else np.nan, float(earned.mean())


def _costs(round_trip_cost: Floats | float, shape: tuple[int, ...]) -> Floats:
    costs = np.asarray(round_trip_cost, dtype=np.float64)
    if not (np.isfinite(costs) & (costs >= 0)).all():
        raise BadInput("round_trip_cost must be finite and 0 or more, in log return per trade")
    try:
        return np.broadcast_to(costs, shape)
    except ValueError:
        raise BadInput(f"round_trip_cost of shape {costs.shape} does not fit forecasts of shape {shape}") from None
