"""The rules of a strategy on plain numbers, written once for everything that trades by them.

The live loop and the paper account call them as they stand, the backtest engine compiles them one by one, so they use
floats, whole numbers and `math`, and not even one another. Both give the same bits.
"""

import math

LONG, SHORT, FLAT = 1, -1, 0

# What a bar's close asks for.
NOT_FINITE, OUT_OF_RANGE, BELOW, ALIKE, INSIDE_COST, TOO_FAR, KEEP = 0, 1, 2, 3, 4, 5, 6
ENTER_LONG, ENTER_SHORT, LEAVE_AT_LIMIT, LEAVE_OPPOSITE = 7, 8, 9, 10

# How a position is sized, see StrategyConfig.
BY_FRACTION, BY_LOTS, BY_RISK, BY_VOLATILITY, BY_KELLY, BY_UNCERTAINTY = 0, 1, 2, 3, 4, 5

MARGIN_CEILING = 0.98  # of free equity, so that a small gap between decision and fill does not exceed the margin
PERCENT = 0.01
_LARGEST_EXPONENT = 700.0  # e to 710 is no number


def judge(
    up: float,
    down: float,
    close: float,
    scale: float,
    cost_return: float,
    held: int,
    bars_held: int,
    threshold: float,
    stop_distance: float,
    target_distance: float,
    limit_bars: int,
    opposite_exit: bool,
) -> int:
    """Return what the close of a bar asks for, as one of the codes above.

    Args:
        up, down: probability of a move beyond the hurdle, either way.
        scale: standard deviation of the horizon's return under the reference walk.
        cost_return: of a round trip, log return.
        held: LONG, SHORT or FLAT.
        bars_held: bars closed since the entry's fill; 1 at the close of the bar that filled it.
        stop_distance, target_distance: of a new position, log return.
    """
    if held != FLAT and bars_held >= limit_bars:  # a bar that says nothing does not prolong it
        return LEAVE_AT_LIMIT
    finite = math.isfinite(up) and math.isfinite(down) and math.isfinite(close)
    if not (finite and math.isfinite(scale) and math.isfinite(cost_return)):
        return NOT_FINITE
    if close <= 0 or scale <= 0 or cost_return < 0:
        return OUT_OF_RANGE
    signal = LONG if up > down else SHORT
    if max(up, down) < threshold or up == down:
        signal = FLAT
    if held != FLAT:
        return LEAVE_OPPOSITE if opposite_exit and signal == -held else KEEP
    if signal == FLAT:
        return ALIKE if max(up, down) >= threshold else BELOW
    if min(stop_distance, target_distance) <= cost_return:  # it would be stopped, or win nothing, by the spread alone
        return INSIDE_COST
    if max(stop_distance, target_distance) > 1:  # prices e times apart: no currency law, and exp could overflow
        return TOO_FAR
    return ENTER_LONG if signal == LONG else ENTER_SHORT


def level(close: float, distance: float) -> float:
    """Return the price that lies a log return above `close`; below it where the return is negative."""
    return close * math.exp(distance)


def trailed(stop: float, side: int, close: float, distance: float) -> float:
    """Return where a stop stands after a close: nearer where the price has gone its way, and never farther."""
    follower = close * math.exp(min(-side * distance, _LARGEST_EXPONENT))
    return max(stop, follower) if side == LONG else min(stop, follower)


def wanted_lots(
    sizing: int,
    size: float,
    lots: float,
    equity: float,
    one_lot: float,
    leverage: float,
    side: int,
    probability: float,
    stop_distance: float,
    target_distance: float,
    yearly_scale: float,
    width_ratio: float,
) -> float:
    """Return how many lots a strategy wants, before margin and rounding.

    Args:
        sizing: one of the codes above; `size` and `lots` are StrategyConfig's size_fraction and lots.
        one_lot: value of a lot in account currency.
        yearly_scale: standard deviation of a year's log return under the reference walk.
        width_ratio: of the reference walk's 90 % interval to the forecast's.
    """
    loss = abs(math.expm1(-side * stop_distance))  # of a unit at the stop, as a share of its price
    if sizing == BY_LOTS:
        return lots
    if sizing == BY_RISK:
        return size * equity / (one_lot * loss)
    if sizing == BY_VOLATILITY:
        return size * equity / (one_lot * yearly_scale)
    if sizing == BY_KELLY:
        payoff = abs(math.expm1(side * target_distance)) / loss
        best = probability - (1 - probability) / payoff
        return min(max(best, 0.0), size) * equity / (one_lot * loss)
    if sizing == BY_UNCERTAINTY:
        return size * min(width_ratio, 1.0) * equity * leverage / one_lot
    return size * equity * leverage / one_lot


def affordable_lots(free_equity: float, one_lot: float, leverage: float, cost_return: float) -> float:
    """Return the lots whose margin and costs of both sides take 98 % of what is free."""
    return MARGIN_CEILING * free_equity / (one_lot * (1 / leverage + cost_return))
