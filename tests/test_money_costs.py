"""What costs accept and refuse, how they are stored, and what a round trip is expected to cost."""

import json
import math
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forexgpt_core.deployment.symbol_settings import SymbolSettings
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.instruments import INSTRUMENTS, instrument
from forexgpt_core.errors import BadInput

HOURS = tuple(0.5 + hour / 10 for hour in range(24))
EVERYTHING = Costs(
    account_currency="EUR",
    spread_source="session",
    spread_by_hour_pips=HOURS,
    commission_percent=0.002,
    slippage_range_share=0.05,
    slippage_spread_share=0.1,
    swap_long_pips=-0.6,
    swap_short_pips=0.2,
    swap_triple_weekday=3,
    min_lots=0.1,
    lot_step=0.05,
    stop_out=0.0,
)


def test_the_test_changes_every_new_setting() -> None:
    first = ("spread_pips", "commission_per_lot", "slippage_pips", "leverage")
    assert {f.name for f in fields(Costs) if getattr(EVERYTHING, f.name) == f.default} == set(first)


@pytest.mark.parametrize("costs", [Costs(), EVERYTHING])
def test_costs_come_back_from_json_and_yaml_equal(costs: Costs) -> None:
    back = Costs(**json.loads(json.dumps(asdict(costs))))
    assert back == costs
    assert hash(back) == hash(costs)
    settings = replace(SymbolSettings(symbol="EURUSD"), costs=costs)
    assert SymbolSettings.from_yaml(settings.to_yaml()) == settings


def test_a_document_of_the_first_release_loads() -> None:
    old = {"spread_pips": 1.0, "commission_per_lot": 3.5, "slippage_pips": 0.1, "leverage": 30.0}
    assert Costs(**old) == Costs()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"spread_pips": -1.0}, "costs.spread_pips must be 0 or more and finite, was -1.0"),
        ({"spread_pips": math.inf}, "costs.spread_pips must be 0 or more and finite, was inf"),
        ({"commission_percent": math.nan}, "costs.commission_percent must be 0 or more and finite, was nan"),
        ({"slippage_range_share": -0.1}, "costs.slippage_range_share must be 0 or more"),
        ({"slippage_spread_share": -0.1}, "costs.slippage_spread_share must be 0 or more"),
        ({"leverage": 0.5}, "costs.leverage must be 1 or more and finite, was 0.5"),
        ({"leverage": math.inf}, "costs.leverage must be 1 or more and finite, was inf"),
        ({"account_currency": "usd"}, "unknown costs.account_currency 'usd'; known: EUR, GBP"),
        ({"account_currency": "XAU"}, "unknown costs.account_currency 'XAU'"),
        ({"spread_source": "tick"}, "unknown costs.spread_source 'tick'; known: constant, candles, session"),
        ({"spread_source": "session"}, "costs.spread_source 'session' needs costs.spread_by_hour_pips, 24 numbers"),
        ({"spread_by_hour_pips": (1.0,) * 23}, "costs.spread_by_hour_pips must be 24 numbers from 0 on"),
        ({"spread_by_hour_pips": (*HOURS[1:], -1.0)}, "costs.spread_by_hour_pips must be 24 numbers from 0 on"),
        ({"spread_by_hour_pips": (*HOURS[1:], math.inf)}, "costs.spread_by_hour_pips must be 24 numbers from 0 on"),
        ({"swap_long_pips": math.inf}, "costs.swap_long_pips must be a finite number, was inf"),
        ({"swap_short_pips": math.nan}, "costs.swap_short_pips must be a finite number, was nan"),
        ({"swap_triple_weekday": 5}, r"costs.swap_triple_weekday must be 0 \(Monday\) to 4 \(Friday\), was 5"),
        ({"min_lots": 0.0}, "costs.min_lots must be a number above 0, was 0.0"),
        ({"lot_step": math.inf}, "costs.lot_step must be a number above 0, was inf"),
        ({"stop_out": 1.0}, r"costs.stop_out must lie in \[0, 1\), 0.5 for 50 %, was 1.0"),
        ({"stop_out": 50.0}, "0.5 for 50 %, was 50"),
    ],
)
def test_wrong_costs_are_refused_in_one_line(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        Costs(**wrong)
    assert "\n" not in str(caught.value)


COSTS = st.builds(
    Costs, spread_pips=st.floats(0, 20), commission_per_lot=st.floats(0, 900), slippage_pips=st.floats(0, 5)
)


@given(costs=COSTS, symbol=st.sampled_from(sorted(INSTRUMENTS)), price=st.floats(0.1, 5000))
def test_a_constant_round_trip_costs_what_it_ever_did_to_the_last_bit(costs: Costs, symbol: str, price: float) -> None:
    pair = instrument(symbol)
    pips = costs.spread_pips + 2 * costs.slippage_pips
    first_release = pips * pair.pip / price + 2 * costs.commission_per_lot / (float(pair.lot_units) * price)
    assert costs.round_trip_return(symbol, price) == first_release
    several = costs.round_trip_return(symbol, np.array([price, 2 * price]))
    assert several.tolist() == [costs.round_trip_return(symbol, p) for p in (price, 2 * price)]


def test_a_round_trip_counts_what_is_known_of_it() -> None:
    costs = replace(EVERYTHING, account_currency="", spread_pips=2.0, slippage_pips=0.5, commission_per_lot=4.0)
    price = 1.25
    percent, lot = 2 * 0.002 / 100, 2 * 4.0 / 125_000
    usual = (2.0 + 2 * (0.5 + 0.1 * 2.0)) * 0.0001 / price
    assert costs.round_trip_return("EURUSD", price) == pytest.approx(usual + percent + lot, rel=1e-12)
    told = costs.round_trip_return(
        "EURUSD", np.array([price]), spread_pips=np.array([3.0]), slippage_pips=np.array([1.5])
    )
    assert told[0] == pytest.approx((3.0 + 2 * 1.5) * 0.0001 / price + percent + lot, rel=1e-12)


def test_a_commission_in_account_currency_is_a_share_of_the_notional_there() -> None:
    free = {"spread_pips": 0.0, "slippage_pips": 0.0, "commission_per_lot": 5.0}
    base = Costs(**free, account_currency="USD").round_trip_return("USDJPY", 110.0)
    assert base == 10 / 100_000, "a lot is 100,000 dollars at any price"
    euros = Costs(**free, account_currency="EUR")
    assert euros.round_trip_return("USDJPY", 110.0, rate=1 / 132) == pytest.approx(10 / (100_000 * 110 / 132))
    with pytest.raises(BadInput, match="commission on USDJPY is paid in EUR: its cost needs a rate of JPY"):
        euros.round_trip_return("USDJPY", 110.0)
    assert replace(euros, commission_per_lot=0.0).round_trip_return("USDJPY", 110.0) == 0


@pytest.mark.parametrize(
    ("symbol", "account", "cash", "commission"),
    [("USDJPY", "", 1e6, 350.0), ("USDJPY", "USD", 1e4, 3.5), ("EURUSD", "", 1e4, 3.5), ("EURUSD", "JPY", 1e6, 350.0)],
)
def test_absent_amounts_of_money_are_those_of_the_accounts_currency(
    symbol: str, account: str, cash: float, commission: float
) -> None:
    told = SymbolSettings.from_document({"symbol": symbol, "costs": {"account_currency": account}})
    assert (told.cash, told.costs.commission_per_lot) == (cash, commission)


@pytest.mark.parametrize(
    ("symbol", "pip", "units", "price", "pip_of_a_lot"),
    [
        ("EURUSD", 0.0001, 100_000, 1.2, 10.0),  # dollars
        ("EURGBP", 0.0001, 100_000, 0.9, 10.0),  # pounds
        ("USDJPY", 0.01, 100_000, 110.0, 1000.0),  # yen
        ("XAUUSD", 0.1, 100, 1300.0, 10.0),  # dollars: a hundred ounces
    ],
)
def test_pips_and_lots_are_those_of_the_market(
    symbol: str, pip: float, units: int, price: float, pip_of_a_lot: float
) -> None:
    pair = instrument(symbol)
    assert (pair.pip, int(pair.lot_units)) == (pip, units)
    assert pair.pip * float(pair.lot_units) == pytest.approx(pip_of_a_lot)
    assert pair.lowest < price < pair.highest
    one_pip = Costs(spread_pips=1.0, slippage_pips=0.0, commission_per_lot=0.0).round_trip_return(symbol, price)
    assert one_pip * price * units == pytest.approx(pip_of_a_lot)
