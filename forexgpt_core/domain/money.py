"""Money as a broker counts it, one scalar at a time.

Every function takes and returns plain numbers and calls no other, so numba compiles it as it stands and Python runs it
with the same result. Units are of base currency, prices are quote currency per unit of base currency, `rate` is account
currency per unit of quote currency, and `sign` is +1 for a long position and -1 for a short one. Where the account is
kept in the pair's base currency (`base_is_account`), the pair's own price converts, and `rate` is not read.
"""

import math


def notional_in_account(units: float, price: float, rate: float, base_is_account: bool) -> float:
    """Return what a position is worth in account currency."""
    return units if base_is_account else units * price * rate


def margin(units: float, price: float, rate: float, leverage: float, base_is_account: bool) -> float:
    """Return the account money that opening a position ties up; it stays as it was at the entry."""
    notional = units if base_is_account else units * price * rate
    return notional / leverage


def commission_of(
    lots: float, units: float, price: float, rate: float, per_lot: float, percent: float, base_is_account: bool
) -> float:
    """Return one side's commission in account currency: `per_lot` of it and `percent` per cent of the notional."""
    notional = units if base_is_account else units * price * rate
    return lots * per_lot + percent / 100.0 * notional


def profit_in_account(
    sign: float, units: float, entry: float, exit_: float, rate: float, base_is_account: bool
) -> float:
    """Return the profit of closing at `exit_` in account currency, before commission and swap."""
    earned = sign * (exit_ - entry) * units
    if base_is_account:
        return earned / exit_
    return earned * rate


def swap_in_account(units: float, swap: float, price: float, rate: float, base_is_account: bool) -> float:
    """Return what a night credits (+) or charges (-) in account currency; `swap` is in quote currency per unit."""
    if base_is_account:
        return units * swap / price
    return units * swap * rate


def liquidation_price(
    balance: float,
    sign: float,
    units: float,
    mean_entry: float,
    used_margin: float,
    stop_out: float,
    rate: float,
    base_is_account: bool,
) -> float:
    """Return the price at which equity falls to `stop_out` times the used margin: a bid for a long, an ask for a short.

    A long position is closed at this bid or a lower one, a short one at this ask or a higher one. Where that cannot
    happen it is -inf for a long and +inf for a short position, where no price avoids it the other way round, so
    comparing with it is right without asking. Equity is the balance plus what closing there brings, before slippage and
    commission; the rate is held still, but where base_is_account it moves with the price.
    """
    never = -sign * math.inf
    if stop_out <= 0.0 or units <= 0.0:
        return never
    missing = stop_out * used_margin - balance  # the profit at which the broker acts, in account currency
    if base_is_account:  # sign * units * (1 - entry / price) = missing
        share = 1.0 - sign * missing / units  # entry / price
        if share > 0.0:
            return mean_entry / share
        return math.inf  # no rise of the price costs a short that much, and none saves a long
    price = mean_entry + sign * missing / (units * rate)
    if price > 0.0:
        return price
    return -math.inf  # no price is that low


def rounded_lots(wanted: float, affordable: float, min_lots: float, lot_step: float) -> float:
    """Return the lots to trade: the smaller amount, rounded down to the step.

    It is 0 where that is below the least lot, and where an amount is no number or beyond any account.
    """
    if not (wanted > 0.0 and affordable > 0.0):
        return 0.0
    lots = min(wanted, affordable)
    if not lots < 1e15 * lot_step:  # whole numbers up to there are exact
        return 0.0
    steps = math.floor(lots / lot_step + 1e-9)  # 0.29 / 0.01 is 28.999999999999996
    per_lot = math.floor(1.0 / lot_step + 0.5)
    # a quotient of whole numbers is the number that people write: 29 / 100 is 0.29, 29 * 0.01 is not
    rounded = steps / per_lot if abs(per_lot * lot_step - 1.0) < 1e-9 else steps * lot_step
    return rounded if rounded >= min_lots - 1e-9 else 0.0
