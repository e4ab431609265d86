"""Laws of the decision function that backtest, paper and live share."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import SCORES, law_cdf
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.domain.orders import Side
from forexgpt_core.errors import BadInput
from forexgpt_core.strategy.config import StrategyConfig
from forexgpt_core.strategy.decide import Decision, HeldPosition, MarketView, decide, decide_given, entry_probabilities
from forexgpt_core.strategy.rules import MARGIN_CEILING
from forexgpt_core.strategy.sizing import Outlook, lots_for

LOT_STEP = 0.01

CONFIG = StrategyConfig(entry_probability=0.5, stop_scales=2.0, take_profit_scales=3.0, holding_limit_bars=5)

laws = st.builds(
    lambda mean, sd, bends: mean + sd * np.sort(SCORES + np.array(bends)),
    st.floats(-0.01, 0.01),
    st.floats(1e-5, 0.02),
    st.lists(st.floats(-0.5, 0.5), min_size=9, max_size=9),
)
thresholds = st.floats(0.01, 0.99)
costs = st.floats(0, 0.005)
views = st.builds(
    lambda q, scale, cost, close: MarketView(close=close, quantiles=q, scale=scale, cost_return=cost),
    laws,
    st.floats(1e-4, 0.03),
    costs,
    st.floats(0.01, 3000.0),
)
positions = st.none() | st.builds(
    lambda side, bars: HeldPosition(side=side, bars_held=bars), st.sampled_from(list(Side)), st.integers(1, 10)
)


def normal_view(mean: float, sd: float = 0.002, close: float = 1.2, cost: float = 0.0001) -> MarketView:
    return MarketView(close=close, quantiles=mean + sd * SCORES, scale=sd, cost_return=cost)


def turned(view: MarketView) -> MarketView:
    return replace(view, quantiles=-view.quantiles[::-1])


def test_a_rising_law_is_bought_with_levels_in_reference_scales() -> None:
    decision = decide(normal_view(0.002), None, CONFIG)
    assert decision.action == "enter"
    assert decision.side is Side.BUY
    assert decision.probability == pytest.approx(0.8289438736915181, abs=1e-9)  # P(N > -0.95)
    assert decision.stop_price == pytest.approx(1.2 * math.exp(-2 * 0.002), rel=1e-15)
    assert decision.take_profit_price == pytest.approx(1.2 * math.exp(3 * 0.002), rel=1e-15)


def test_a_falling_law_is_sold_with_the_levels_on_the_other_sides() -> None:
    decision = decide(normal_view(-0.002), None, CONFIG)
    assert (decision.action, decision.side) == ("enter", Side.SELL)
    assert decision.stop_price == pytest.approx(1.2 * math.exp(2 * 0.002), rel=1e-15)
    assert decision.take_profit_price == pytest.approx(1.2 * math.exp(-3 * 0.002), rel=1e-15)


def test_nothing_is_entered_on_a_law_that_favours_neither_side() -> None:
    decision = decide(normal_view(0.0), None, replace(CONFIG, entry_probability=0.3))
    assert (decision.action, decision.reason) == ("hold", "both sides alike")


@given(view=views, threshold=thresholds)
def test_an_entry_needs_the_probability_beyond_the_cost(view: MarketView, threshold: float) -> None:
    decision = decide(view, None, replace(CONFIG, entry_probability=threshold))
    up = 1 - float(law_cdf(view.quantiles, view.cost_return))
    down = 1 - float(law_cdf(-view.quantiles[::-1], view.cost_return))
    if decision.action == "enter":
        expected = up if decision.side is Side.BUY else down
        assert decision.probability == expected == max(up, down)
        assert expected >= threshold
    if max(up, down) < threshold:
        assert decision.action == "hold"


@given(view=views, held=positions, lower=thresholds, higher=thresholds)
def test_a_higher_threshold_never_adds_an_entry_nor_a_signal_exit(
    view: MarketView, held: HeldPosition | None, lower: float, higher: float
) -> None:
    lower, higher = sorted((lower, higher))
    strict = decide(view, held, replace(CONFIG, entry_probability=higher))
    loose = decide(view, held, replace(CONFIG, entry_probability=lower))
    if strict.action != "hold":
        assert (loose.action, loose.side) == (strict.action, strict.side)


@given(view=views, held=positions, threshold=thresholds)
def test_turning_the_law_around_turns_the_decision_around(
    view: MarketView, held: HeldPosition | None, threshold: float
) -> None:
    config = replace(CONFIG, entry_probability=threshold)
    other_held = None if held is None else replace(held, side=held.side.opposite)
    one, other = decide(view, held, config), decide(turned(view), other_held, config)
    assert (one.action, one.reason, one.probability) == (other.action, other.reason, other.probability)
    assert one.side == (None if other.side is None else other.side.opposite)
    if one.stop_price is not None and other.stop_price is not None:
        assert one.stop_price * other.stop_price == pytest.approx(view.close**2, rel=1e-12)


@given(view=views, held=positions, threshold=thresholds)
def test_the_same_view_gives_the_same_decision_alone_and_among_others(
    view: MarketView, held: HeldPosition | None, threshold: float
) -> None:
    config = replace(CONFIG, entry_probability=threshold)
    rows = np.stack([turned(view).quantiles, view.quantiles, view.quantiles + 0.001])
    up, down = entry_probabilities(rows, np.array([0.0, view.cost_return, 0.1]))
    given = decide_given(
        (float(up[1]), float(down[1])),
        close=view.close,
        scale=view.scale,
        cost_return=view.cost_return,
        held=held,
        config=config,
    )
    assert given == decide(view, held, config) == decide(view, held, config)


@given(view=views, threshold=thresholds)
def test_an_entry_stands_between_its_levels_beyond_the_cost(view: MarketView, threshold: float) -> None:
    decision = decide(view, None, replace(CONFIG, entry_probability=threshold))
    if decision.action != "enter":
        return
    assert decision.side is not None
    assert decision.stop_price is not None
    assert decision.take_profit_price is not None
    sign, cost = decision.side.sign, view.cost_return * view.close
    assert sign * (view.close - decision.stop_price) > 0
    assert sign * (decision.take_profit_price - view.close) > 0
    assert decision.side is Side.BUY or decision.stop_price - cost > view.close  # a short is not born stopped out


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["close", "scale", "cost_return", "quantiles"])
@pytest.mark.parametrize("held", [None, HeldPosition(side=Side.BUY, bars_held=4)])
def test_a_view_that_is_not_finite_changes_nothing(bad: float, where: str, held: HeldPosition | None) -> None:
    view = normal_view(0.01)
    if where == "quantiles":
        for position in range(9):
            quantiles = view.quantiles.copy()
            quantiles[position] = bad
            _assert_refused(decide(replace(view, quantiles=quantiles), held, CONFIG))
    else:
        _assert_refused(decide(replace(view, **{where: bad}), held, CONFIG))


def _assert_refused(decision: Decision) -> None:
    assert (decision.action, decision.side, decision.reason) == ("hold", None, "not finite")
    assert decision.probability == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"close": 0.0}, "price, scale or cost out of range"),
        ({"scale": -0.001}, "price, scale or cost out of range"),
        ({"cost_return": -1e-9}, "price, scale or cost out of range"),
        ({"scale": 1e-5}, "stop or target inside the cost"),
        ({"scale": 1e6}, "stop or target out of range"),
        ({"quantiles": 0.01 - 0.002 * SCORES}, "quantiles cross"),
    ],
)
def test_an_absurd_view_is_held_with_its_reason(change: dict[str, float], reason: str) -> None:
    decision = decide(replace(normal_view(0.01), **change), None, CONFIG)
    assert (decision.action, decision.reason) == ("hold", reason)


@pytest.mark.parametrize(
    "change",
    [{"close": math.nan}, {"scale": math.inf}, {"cost_return": math.nan}]
    + [{"quantiles": quantiles} for quantiles in (np.full(9, math.nan), 0.01 - 0.002 * SCORES)],
)
def test_no_forecast_prolongs_the_holding_limit(change: dict[str, float]) -> None:
    view = replace(normal_view(0.01), **change)
    assert decide(view, HeldPosition(side=Side.SELL, bars_held=4), CONFIG).action == "hold"
    decision = decide(view, HeldPosition(side=Side.SELL, bars_held=5), CONFIG)
    assert (decision.action, decision.side, decision.reason) == ("exit", Side.SELL, "holding limit")
    assert math.isfinite(decision.probability)


@pytest.mark.parametrize("name", ["horizon_bars", "holding_limit_bars", "max_entries"])
@pytest.mark.parametrize("value", [0, 1.5, math.nan, math.inf])
def test_a_number_of_bars_or_entries_is_whole(name: str, value: float) -> None:
    with pytest.raises(BadInput, match=f"{name} must be 1 or more and whole, was {value}"):
        replace(CONFIG, **{name: value})


@pytest.mark.parametrize("name", ["cost_multiple", "trailing_scales", "lots"])
def test_an_endless_amount_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match=f"{name} must be .* finite, was inf"):
        replace(CONFIG, **{name: math.inf})


def test_a_law_of_another_length_is_refused() -> None:
    with pytest.raises(BadInput, match="9 quantiles"):
        decide(replace(normal_view(0.01), quantiles=np.zeros(8)), None, CONFIG)


def test_a_position_is_left_at_the_holding_limit_whatever_the_forecast() -> None:
    assert decide(normal_view(0.01), HeldPosition(side=Side.BUY, bars_held=4), CONFIG).action == "hold"
    decision = decide(normal_view(0.01), HeldPosition(side=Side.BUY, bars_held=5), CONFIG)
    assert (decision.action, decision.side, decision.reason) == ("exit", Side.BUY, "holding limit")


def test_the_opposite_signal_ends_a_position_and_does_not_turn_it() -> None:
    decision = decide(normal_view(0.01), HeldPosition(side=Side.SELL, bars_held=1), CONFIG)
    assert (decision.action, decision.side, decision.reason) == ("exit", Side.SELL, "opposite signal")
    assert decision.stop_price is None


EURUSD = Costs()


def lots(equity: float, price: float, config: StrategyConfig, symbol: str, costs: Costs) -> float:
    one_lot = price * float(instrument(symbol).lot_units)
    cost = costs.round_trip_return(symbol, price) if price > 0 else 0.0
    return lots_for(
        Outlook(
            equity=equity,
            one_lot=one_lot,
            cost_return=cost,
            side=1,
            probability=0.6,
            scale=0.001,
            width=0.004,
            bars_per_year=6240,
        ),
        config,
        costs,
    )


@given(
    equity=st.floats(0, 1e8),
    price=st.floats(0.2, 250),
    fraction=st.floats(0.001, 1),
    leverage=st.floats(1, 500),
)
def test_lots_are_whole_steps_whose_margin_and_costs_fit(
    equity: float, price: float, fraction: float, leverage: float
) -> None:
    costs_ = Costs(leverage=leverage)
    found = lots(equity, price, replace(CONFIG, size_fraction=fraction), "EURUSD", costs_)
    exposure = found * 100_000 * price
    assert found >= 0
    assert found == round(found, 2)
    assert exposure <= fraction * equity * leverage * (1 + 1e-7) + 1e-9
    assert exposure / leverage + exposure * costs_.round_trip_return("EURUSD", price) <= MARGIN_CEILING * equity + 1e-3
    bigger = (found + LOT_STEP) * 100_000 * price
    affordable = bigger / leverage + bigger * costs_.round_trip_return("EURUSD", price)
    assert bigger > fraction * equity * leverage * (1 - 1e-7) or affordable > MARGIN_CEILING * equity * (1 - 1e-7)


def test_lots_of_the_docstring() -> None:
    config = replace(CONFIG, size_fraction=0.1)
    assert lots(100_000, 1.25, config, "EURUSD", Costs(leverage=30)) == 2.4  # 300,000 / 125,000
    assert lots(400, 1.25, config, "EURUSD", Costs(leverage=3)) == 0  # 120 USD is below 0.01 lot
    assert lots(10_000, 1250.0, config, "XAUUSD", Costs(leverage=30)) == 0.24  # an ounce is 0.01 lot
    assert lots(-5.0, 1.25, config, "EURUSD", EURUSD) == 0


@pytest.mark.parametrize(("equity", "price"), [(math.nan, 1.2), (1000.0, 0.0), (1000.0, math.inf)])
def test_sizing_refuses_numbers_that_are_none(equity: float, price: float) -> None:
    with pytest.raises(BadInput, match="sizing needs"):
        lots(equity, price, CONFIG, "EURUSD", EURUSD)
