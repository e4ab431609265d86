"""Margin, commission, profit, swap and stop-out against slow exact arithmetic, in Python and compiled."""

import math
from collections.abc import Callable
from decimal import Decimal, getcontext

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from forexgpt_core.domain import money

getcontext().prec = 50
EXACT = 1e-12  # relative: a few roundings of float64

UNITS = st.floats(1, 1e8)
PRICES = st.floats(0.05, 5e3)
RATES = st.floats(1e-3, 300)
SIGNS = st.sampled_from([1.0, -1.0])
PERCENTS = st.floats(0, 1)


def exact(*numbers: float) -> list[Decimal]:
    return [Decimal(number) for number in numbers]  # of the very binary numbers


def slow_notional(units: float, price: float, rate: float, base_is_account: bool) -> Decimal:
    u, p, r = exact(units, price, rate)
    return u if base_is_account else u * p * r


def slow_profit(sign: float, units: float, entry: float, exit_: float, rate: float, base_is_account: bool) -> Decimal:
    s, u, a, b, r = exact(sign, units, entry, exit_, rate)
    earned = s * (b - a) * u
    return earned / b if base_is_account else earned * r


@given(units=UNITS, price=PRICES, rate=RATES, leverage=st.floats(1, 1000), base=st.booleans())
def test_margin_is_the_notional_over_leverage(
    units: float, price: float, rate: float, leverage: float, base: bool
) -> None:
    slow = slow_notional(units, price, rate, base) / Decimal(leverage)
    assert money.margin(units, price, rate, leverage, base) == pytest.approx(float(slow), rel=EXACT)


@given(
    lots=st.floats(0, 1000),
    units=UNITS,
    price=PRICES,
    rate=RATES,
    lot=st.floats(0, 50),
    share=PERCENTS,
    base=st.booleans(),
)
def test_commission_adds_what_a_lot_and_what_the_notional_cost(
    lots: float, units: float, price: float, rate: float, lot: float, share: float, base: bool
) -> None:
    slow = Decimal(lots) * Decimal(lot) + slow_notional(units, price, rate, base) * Decimal(share) / 100
    assert money.commission_of(lots, units, price, rate, lot, share, base) == pytest.approx(float(slow), rel=EXACT)
    assert money.commission_of(lots, units, price, 1.0, lot, 0.0, base) == lots * lot, "to the bit without a percentage"


@given(sign=SIGNS, units=UNITS, entry=PRICES, exit_=PRICES, rate=RATES, base=st.booleans())
def test_profit_is_converted_once_at_the_exit(
    sign: float, units: float, entry: float, exit_: float, rate: float, base: bool
) -> None:
    slow = slow_profit(sign, units, entry, exit_, rate, base)
    found = money.profit_in_account(sign, units, entry, exit_, rate, base)
    assert found == pytest.approx(float(slow), rel=EXACT)
    assert found == -money.profit_in_account(-sign, units, entry, exit_, rate, base)
    assert math.copysign(1, found) == math.copysign(1, sign * (exit_ - entry)) or found == 0


@given(units=UNITS, swap=st.floats(-0.1, 0.1), price=PRICES, rate=RATES, base=st.booleans())
def test_swap_is_converted_at_the_night(units: float, swap: float, price: float, rate: float, base: bool) -> None:
    assume(swap == 0 or abs(swap) > 1e-12)
    u, s, p, r = exact(units, swap, price, rate)
    slow = u * s / p if base else u * s * r
    assert money.swap_in_account(units, swap, price, rate, base) == pytest.approx(float(slow), rel=EXACT)


POSITIONS = {
    "balance": st.floats(-1e5, 1e7),
    "sign": SIGNS,
    "units": UNITS,
    "entry": PRICES,
    "rate": RATES,
    "leverage": st.floats(1, 500),
    "stop_out": st.floats(0.01, 0.99),
    "base": st.booleans(),
}


@given(**POSITIONS)
def test_at_the_liquidation_price_equity_is_the_stop_out_share_of_margin(
    balance: float, sign: float, units: float, entry: float, rate: float, leverage: float, stop_out: float, base: bool
) -> None:
    used = money.margin(units, entry, rate, leverage, base)
    price = money.liquidation_price(balance, sign, units, entry, used, stop_out, rate, base)
    level = Decimal(stop_out) * Decimal(used)
    if not 0 < price < math.inf:
        return
    left = Decimal(balance) + slow_profit(sign, units, entry, price, rate, base) - level
    scale = (
        abs(Decimal(balance))
        + level
        + slow_notional(units, max(price, entry), rate, base) * (1 + Decimal(entry) / Decimal(price) if base else 1)
    )
    assert abs(left) <= scale * Decimal("1e-13")


@given(**POSITIONS, share=st.floats(1e-4, 1e4))
def test_comparing_with_the_liquidation_price_says_who_is_closed(
    balance: float,
    sign: float,
    units: float,
    entry: float,
    rate: float,
    leverage: float,
    stop_out: float,
    base: bool,
    share: float,
) -> None:
    """At any price whatever, also where the answer is never or always."""
    used = money.margin(units, entry, rate, leverage, base)
    limit = money.liquidation_price(balance, sign, units, entry, used, stop_out, rate, base)
    price = entry * share
    left = Decimal(balance) + slow_profit(sign, units, entry, price, rate, base) - Decimal(stop_out) * Decimal(used)
    assume(abs(left) > Decimal("1e-9") * (abs(Decimal(balance)) + slow_notional(units, max(price, entry), rate, base)))
    assert (sign * price <= sign * limit) == (left < 0)


def test_without_a_stop_out_or_a_position_nobody_is_closed() -> None:
    assert money.liquidation_price(-5.0, 1.0, 1e5, 1.2, 4000.0, 0.0, 1.0, False) == -math.inf
    assert money.liquidation_price(-5.0, -1.0, 1e5, 1.2, 4000.0, 0.0, 1.0, True) == math.inf
    assert money.liquidation_price(-5.0, 1.0, 0.0, 1.2, 0.0, 0.5, 1.0, False) == -math.inf


def test_a_short_position_in_a_base_account_that_covers_its_notional_is_never_closed() -> None:
    """Short 10,000 dollars against yen with 10,300 dollars: the yen can at most become worthless."""
    assert money.liquidation_price(10_300.0, -1.0, 10_000.0, 110.0, 333.33, 0.5, 1.0, True) == math.inf
    assert money.liquidation_price(5_000.0, -1.0, 10_000.0, 110.0, 333.33, 0.5, 1.0, True) < 230.0


STEPS = st.sampled_from(["0.001", "0.01", "0.05", "0.1", "0.25", "0.5", "1", "2", "10"])


@given(step=STEPS, steps=st.integers(0, 100_000), least=st.integers(1, 20), beyond=st.floats(0.001, 0.99))
def test_lots_are_the_whole_steps_below_as_people_write_them(step: str, steps: int, least: int, beyond: float) -> None:
    exactly = Decimal(step) * steps
    expected = float(exactly) if steps >= least else 0.0
    least_lots = float(Decimal(step) * least)
    for wanted in (float(exactly), float(exactly + Decimal(step) * Decimal(beyond))):
        assert money.rounded_lots(wanted, math.inf, least_lots, float(step)) == expected
        assert money.rounded_lots(math.inf, wanted, least_lots, float(step)) == expected


@given(wanted=st.floats(), affordable=st.floats())
def test_lots_never_exceed_what_is_wanted_or_affordable(wanted: float, affordable: float) -> None:
    lots = money.rounded_lots(wanted, affordable, 0.01, 0.01)
    assert lots == 0 or 0.01 <= lots <= min(wanted, affordable) * (1 + 1e-9) + 1e-11


@pytest.mark.parametrize(
    "amounts", [(math.nan, 4.0), (4.0, math.nan), (math.inf, math.inf), (-1.0, 4.0), (1e300, 1e300)]
)
def test_an_amount_that_cannot_be_meant_trades_nothing(amounts: tuple[float, float]) -> None:
    assert money.rounded_lots(*amounts, 0.01, 0.01) == 0


@given(equity=st.floats(0, 1e9))
def test_hundredths_of_a_lot_are_rounded_as_ever(equity: float) -> None:
    steps = math.floor(equity / 12_345.6 / 0.01 + 1e-9)
    assert money.rounded_lots(equity / 12_345.6, math.inf, 0.01, 0.01) == round(steps * 0.01, 2)


CALLS: list[tuple[Callable[..., float], tuple[float | bool, ...]]] = [
    (money.rounded_lots, (1.239, 4.0, 0.01, 0.01)),
    (money.rounded_lots, (math.nan, 4.0, 0.01, 0.01)),
    (money.rounded_lots, (4.0, math.nan, 0.01, 0.01)),
    (money.rounded_lots, (4e300, 4e300, 0.01, 0.01)),
    (money.rounded_lots, (17.0, 16.9, 5.0, 5.0)),
    (money.liquidation_price, (9_000.0, 1.0, 250_000.0, 1.21, 9_000.0, 0.5, 0.9, False)),
    (money.liquidation_price, (9_000.0, 1.0, 2_000.0, 1.21, 9_000.0, 0.5, 0.9, False)),
    (money.liquidation_price, (9_000.0, -1.0, 250_000.0, 110.3, 9_000.0, 0.5, 1.0, True)),
    (money.liquidation_price, (-9e9, 1.0, 250_000.0, 110.3, 9_000.0, 0.5, 1.0, True)),
    (money.margin, (250_000.0, 1.2345, 0.77, 30.0, False)),
    (money.commission_of, (2.5, 250_000.0, 1.2345, 0.77, 3.5, 0.002, False)),
    (money.profit_in_account, (-1.0, 250_000.0, 1.2345, 1.2299, 0.77, True)),
    (money.swap_in_account, (250_000.0, -0.00005, 1.2345, 0.77, True)),
]


def test_compiled_functions_say_the_same_to_the_last_bit() -> None:
    from numba import njit

    for function in {function for function, _ in CALLS}:
        compiled = njit(function)
        for arguments in (told for one, told in CALLS if one is function):
            assert compiled(*arguments) == function(*arguments), (function.__name__, arguments)
