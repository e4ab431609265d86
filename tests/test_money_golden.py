"""Whole trades, booked on laid out quotes with the money functions, agree to the cent with ledgers kept by hand."""

from decimal import Decimal

import pytest
from money_scenarios import CENTS, SCENARIOS, THURSDAY_BAR, WEDNESDAY_BAR, Scenario, cents

from forexgpt_core.backtest.quotes import lay_out_quotes
from forexgpt_core.domain import money
from forexgpt_core.domain.orders import Side

NAMES = [one.name for one in SCENARIOS]


def booked(one: Scenario) -> dict[str, float]:
    """Return what an engine books: filled at both opens, swapped at every open between, converted as it goes."""
    quotes, costs = lay_out_quotes(one.candles, one.costs, symbol=one.symbol, rates=one.rates), one.costs
    bought, base = one.side is Side.BUY, quotes.base_is_account
    sign, units = float(one.side.sign), one.lots * quotes.lot_units
    opening, closing = one.entry_bar, one.exit_bar
    entry_quote = quotes.ask_open if bought else quotes.bid_open
    exit_quote = quotes.bid_open if bought else quotes.ask_open
    entry = float(entry_quote[opening] + sign * quotes.slippage[opening])
    exit_ = float(exit_quote[closing] - sign * quotes.slippage[closing])
    swaps = quotes.swap_long if bought else quotes.swap_short
    gross = money.profit_in_account(sign, units, entry, exit_, quotes.rate_open[closing], base)
    held = range(opening + 1, closing + 1)
    swap = sum(
        money.swap_in_account(units, swaps[n], quotes.bid_open[n], quotes.rate_open[n], base) for n in held if swaps[n]
    )
    commission = sum(
        money.commission_of(
            one.lots, units, price, quotes.rate_open[n], costs.commission_per_lot, costs.commission_percent, base
        )
        for n, price in ((opening, entry), (closing, exit_))
    )
    return {"entry_price": entry, "exit_price": exit_, "gross": gross, "swap": swap, "commission": commission}


def test_every_account_side_and_outcome_is_there() -> None:
    assert len(SCENARIOS) == 32
    assert set(CENTS) == set(NAMES)
    for one in SCENARIOS:
        assert (one.net_cents > 0) == (("rise" in one.name) == (one.side is Side.BUY)), one.name


@pytest.mark.parametrize("one", SCENARIOS, ids=NAMES)
def test_a_trade_is_worth_what_the_ledger_says_to_the_cent(one: Scenario) -> None:
    found, ledger = booked(one), one.ledger
    for part in ("entry_price", "exit_price"):
        assert found[part] == pytest.approx(float(getattr(ledger, part)), abs=1e-9), part
    for part in ("gross", "swap", "commission"):
        assert found[part] == pytest.approx(float(getattr(ledger, part)), abs=1e-6), part
    assert cents(ledger.net) == one.net_cents
    assert cents(Decimal(found["gross"] + found["swap"] - found["commission"])) == one.net_cents


@pytest.mark.parametrize(
    ("sign", "balance", "units", "entry", "rate", "base", "price"),
    [
        # 100,000 euros at 1.20 and 1:30 tie up 4,000 dollars; 5,000 may shrink to 2,000: 3,000 dollars are 300 pips
        (1.0, 5_000.0, 100_000.0, 1.20, 1.0, False, "1.17"),
        (-1.0, 5_000.0, 100_000.0, 1.20, 1.0, False, "1.23"),
        # 100,000 dollars tie up 3,333.33 of them; 4,000 may shrink to 1,666.67: lost are 7/3 % of the dollars
        (1.0, 4_000.0, 100_000.0, 110.0, 1 / 110, True, "107.491857"),  # 100,000 (1 - 110 / price) = -2,333.33
        (-1.0, 4_000.0, 100_000.0, 110.0, 1 / 110, True, "112.627986"),
        # 100,000 euros at .88 pounds of 1.25 dollars tie up 3,666.67; of 5,000 may go 3,166.67 dollars: 2,533.33 pounds
        (1.0, 5_000.0, 100_000.0, 0.88, 1.25, False, "0.854667"),
        (-1.0, 5_000.0, 100_000.0, 0.88, 1.25, False, "0.905333"),
    ],
)
def test_the_broker_closes_at_the_price_that_halves_the_margin(
    sign: float, balance: float, units: float, entry: float, rate: float, base: bool, price: str
) -> None:
    used = money.margin(units, entry, rate, 30.0, base)
    found = money.liquidation_price(balance, sign, units, entry, used, 0.5, rate, base)
    assert found == pytest.approx(float(price), abs=5e-7)


def test_wednesday_counts_three_nights_and_no_other_bar_charges() -> None:
    one = SCENARIOS[0]
    swaps = lay_out_quotes(one.candles, one.costs, symbol=one.symbol).swap_long / -0.000062
    charged = {n: round(nights, 9) for n, nights in enumerate(swaps) if nights}
    assert charged == {WEDNESDAY_BAR: 3, THURSDAY_BAR: 1}
