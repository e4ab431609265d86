"""The paper venue as a pure function of orders and bars, and the limits before it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from forexgpt_core.backtest.fills import entry_price, exit_price
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.orders import Fill, OrderIntent, OrderState, Protection, Side, TradingState, exact_price
from forexgpt_core.errors import BadInput
from forexgpt_core.live.guard import LiveLimits, Situation, Veto, entry_vetoes, exit_vetoes
from forexgpt_core.live.journal import ALLOWED, after_fill
from forexgpt_core.live.paper import Books, PaperAccount, PaperBroker, realised
from forexgpt_core.strategy.event_guard import EventGuard

COSTS = Costs(spread_pips=1.0, commission_per_lot=3.5, slippage_pips=0.1, leverage=30.0)
RICH = replace(COSTS, spread_source="candles", slippage_range_share=0.03, swap_long_pips=-0.7, commission_percent=0.001)
START = datetime(2018, 1, 3, 8, tzinfo=UTC)
GUARD = EventGuard(event_minutes_before=180, event_minutes_after=60)


class MemoryLedger:
    """The ledger's contract in a dictionary."""

    def __init__(self) -> None:
        self.books: dict[str, Books] = {}
        self.deals: list[Fill] = []

    def change(
        self, account: str, opening: PaperAccount, ask_about: Sequence[str], change: Callable[[Books], Books]
    ) -> Books:
        before = self.books.get(account, Books(account=opening))
        after = change(before)
        self.deals += after.fills
        self.books[account] = replace(after, fills=())
        return after

    def fills(self, account: str, after_fill_id: str | None) -> list[Fill]:
        return [f for f in self.deals if after_fill_id is None or f.fill_id > after_fill_id]


def bars_of(*rows: tuple[float, float, float, float]) -> pl.DataFrame:
    times = pl.Series("ts_utc", [START + timedelta(hours=n) for n in range(len(rows))], dtype=pl.Datetime("us", "UTC"))
    return (
        pl.DataFrame(rows, schema=["open", "high", "low", "close"], orient="row")
        .insert_column(0, times)
        .with_columns(volume=1.0)
    )


def order(
    action: str = "enter", side: Side = Side.BUY, lots: str = "0.10", **levels: Decimal | float | None
) -> OrderIntent:
    return OrderIntent(
        client_order_id=f"id-{action}-{side}-{lots}",
        deployment_id="d",
        symbol="EURUSD",
        bar_close_utc=START + timedelta(hours=1),
        action=action,
        side=side,
        lots=Decimal(lots),
        stop_price=levels.get("stop"),
        take_profit_price=levels.get("target"),
        trail_distance=levels.get("trail_distance"),
        expires_utc=START + timedelta(hours=2),
        reason="test",
    )


def broker(ledger: MemoryLedger | None = None, cash: float = 10_000.0) -> PaperBroker:
    return PaperBroker(ledger or MemoryLedger(), symbol="EURUSD", costs=COSTS, cash=cash)


QUIET = (1.2, 1.201, 1.199, 1.2)


def test_no_order_before_a_bar_was_seen() -> None:
    answer = broker().submit(order())
    assert (answer.state, "no bar" in answer.reason) == (OrderState.REJECTED, True)


def test_submitting_twice_trades_once() -> None:
    ledger = MemoryLedger()
    venue, bars = broker(ledger), bars_of(QUIET, (1.21, 1.22, 1.2, 1.21), QUIET)
    venue.advance(bars.head(1), after_fill_id=None)
    assert venue.submit(order()) == venue.submit(order())
    view = venue.advance(bars.head(2), after_fill_id=None, ask_about=["id-enter-buy-0.10"])
    assert venue.submit(order()).state is OrderState.FILLED
    assert [f.price for f in view.fills] == [exact_price(entry_price(1.21, Side.BUY, COSTS, "EURUSD"))]
    assert view.orders["id-enter-buy-0.10"].state is OrderState.FILLED
    assert len(venue.advance(bars, after_fill_id=view.fills[0].fill_id).fills) == 0
    assert len(ledger.deals) == 1


def test_an_order_waits_for_a_bar_that_is_new() -> None:
    venue, bars = broker(), bars_of(QUIET, QUIET)
    venue.advance(bars.head(1), after_fill_id=None)
    venue.submit(order())
    assert venue.advance(bars.head(1), after_fill_id=None).fills == ()
    assert len(venue.advance(bars, after_fill_id=None).fills) == 1


@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
def test_money_after_a_round_trip_is_what_the_prices_say(side: Side) -> None:
    ledger = MemoryLedger()
    venue, bars = broker(ledger), bars_of(QUIET, QUIET, (1.21, 1.22, 1.2, 1.21))
    venue.advance(bars.head(1), after_fill_id=None)
    venue.submit(order(side=side))
    held = venue.advance(bars.head(2), after_fill_id=None)
    assert held.position is not None
    assert held.position.side is side
    venue.submit(order("exit", side.opposite))
    view = venue.advance(bars, after_fill_id=None)
    move = exit_price(1.21, side, COSTS, "EURUSD") - entry_price(1.2, side, COSTS, "EURUSD")
    assert float(view.equity) == pytest.approx(10_000 + side.sign * move * 10_000 - 2 * 0.35, abs=1e-6)
    assert view.equity == 10_000 + realised(ledger.deals)["EURUSD"]
    assert view.position is None


@pytest.mark.parametrize(
    ("bar", "reason", "bid"),
    [
        ((1.2, 1.201, 1.18, 1.19), "stop", 1.19),
        ((1.2, 1.23, 1.199, 1.22), "take_profit", 1.22),
        ((1.2, 1.23, 1.18, 1.2), "stop", 1.19),  # both in one bar: the worse came first
        ((1.17, 1.18, 1.16, 1.17), "stop", 1.17),  # opened beyond the stop
    ],
)
def test_protective_levels_work_inside_bars(bar: tuple[float, ...], reason: str, bid: float) -> None:
    venue = broker()
    bars = bars_of(QUIET, QUIET, bar)
    venue.advance(bars.head(1), after_fill_id=None)
    venue.submit(order(stop=Decimal("1.19"), target=Decimal("1.22")))
    venue.advance(bars.head(2), after_fill_id=None)
    fills = venue.advance(bars, after_fill_id=None).fills
    assert (fills[-1].reason, fills[-1].side) == (reason, Side.SELL)
    assert float(fills[-1].price) == pytest.approx(bid - 0.1e-4)
    assert fills[-1].client_order_id == fills[0].client_order_id


def test_a_stop_can_be_hit_in_the_bar_of_the_fill() -> None:
    venue, bars = broker(), bars_of(QUIET, (1.2, 1.201, 1.18, 1.19))
    venue.advance(bars.head(1), after_fill_id=None)
    venue.submit(order(stop=Decimal("1.19"), target=Decimal("1.22")))
    assert [f.reason for f in venue.advance(bars, after_fill_id=None).fills] == ["market", "stop"]


def test_orders_that_cannot_be_filled_end_with_a_reason() -> None:
    venue, bars = broker(cash=1_000.0), bars_of(QUIET, QUIET, QUIET)
    venue.advance(bars.head(1), after_fill_id=None)
    venue.submit(order(lots="0.50"))  # 60,000 of exposure at 1/30 is more than the account holds
    venue.submit(order("exit", Side.SELL))
    view = venue.advance(bars, after_fill_id=None, ask_about=["id-enter-buy-0.50", "id-exit-sell-0.10"])
    assert {o.state: o.reason for o in view.orders.values()} == {
        OrderState.REJECTED: "not enough money",
        OrderState.CANCELLED: "no position to close",
    }
    assert (view.fills, view.equity) == ((), Decimal(1000))


def test_bars_in_one_go_or_one_by_one_give_the_same_deals() -> None:
    rng = np.random.default_rng(5)
    close = 1.2 + np.cumsum(rng.normal(0, 0.002, 40))
    rows = [(c, c + 0.003, c - 0.003, c + 0.001) for c in close]
    bars, deals = bars_of(*rows), []
    for chunks in ([40], range(2, 41), [7, 20, 40]):
        ledger = MemoryLedger()
        venue = PaperBroker(ledger, symbol="EURUSD", costs=RICH, cash=10_000.0)
        venue.advance(bars.head(1), after_fill_id=None)
        venue.submit(order(stop=Decimal("1.17"), target=Decimal("1.25"), trail_distance=0.01))
        for until in chunks:
            venue.advance(bars.head(until), after_fill_id=None)
        deals.append(ledger.deals)
    assert len(deals[0]) == 2
    assert deals[0][-1].swap < 0
    assert deals[0] == deals[1] == deals[2]


def test_a_night_is_booked_at_its_first_open_and_three_of_them_on_wednesday() -> None:
    rows = [QUIET] * 60
    venue, equity = PaperBroker(MemoryLedger(), symbol="EURUSD", costs=RICH, cash=10_000.0), []
    bars = bars_of(*rows)
    venue.advance(bars.head(1), after_fill_id=None)
    venue.submit(order())
    for until in range(2, 61):
        equity.append(venue.advance(bars.head(until), after_fill_id=None).equity)
    charged = {n + 1: float(b - a) for n, (a, b) in enumerate(pairwise(equity), 1) if a != b}
    assert charged == {14: pytest.approx(-3 * 0.7), 38: pytest.approx(-0.7)}  # 22:00 UTC on Wednesday and Thursday


def test_a_trailing_stop_moves_at_the_close_and_works_from_the_next_bar_on() -> None:
    rise = (1.2, 1.23, 1.199, 1.23)  # its low lies under where the stop will stand
    venue, bars = broker(), bars_of(QUIET, QUIET, rise, (1.23, 1.231, 1.20, 1.21))
    venue.advance(bars.head(1), after_fill_id=None)
    venue.submit(order(stop=Decimal("1.19"), target=Decimal("1.4"), trail_distance=0.01))
    held = venue.advance(bars.head(3), after_fill_id=None).position
    assert held is not None
    assert float(held.stop_price) == 1.23 * math.exp(-0.01)
    out = venue.advance(bars, after_fill_id=None).fills[-1]
    assert (out.reason, float(out.price)) == ("stop", pytest.approx(1.23 * math.exp(-0.01) - 0.1e-4))


def test_the_broker_closes_a_position_that_its_equity_no_longer_carries() -> None:
    costs = replace(COSTS, spread_pips=0, slippage_pips=0, commission_per_lot=0, stop_out=0.5)
    venue = PaperBroker(MemoryLedger(), symbol="EURUSD", costs=costs, cash=4_200.0)
    bars = bars_of(QUIET, QUIET, (1.2, 1.2, 1.1, 1.15))
    venue.advance(bars.head(1), after_fill_id=None)
    venue.submit(order(lots="1.00"))  # 4,000 of margin: the broker acts at an equity of 2,000, 220 pips lower
    assert venue.advance(bars.head(2), after_fill_id=None).used_margin == 4_000
    view = venue.advance(bars, after_fill_id=None)
    assert (view.fills[-1].reason, float(view.fills[-1].price)) == ("stop_out", pytest.approx(1.178))
    assert (float(view.equity), view.used_margin) == (pytest.approx(2_000.0), 0)


def test_bars_that_do_not_follow_are_refused_while_something_is_open() -> None:
    venue, bars = broker(), bars_of(*[QUIET] * 6)
    venue.advance(bars.head(1), after_fill_id=None)
    venue.advance(bars[3:4], after_fill_id=None)  # nothing is open: nothing can be missed
    venue.submit(order())
    with pytest.raises(BadInput, match="hand over those between"):
        venue.advance(bars[5:], after_fill_id=None)
    assert len(venue.advance(bars, after_fill_id=None).fills) == 1


# ---- the guard


def situation(**changes: object) -> Situation:
    calm = Situation(
        now_utc=START,
        expires_utc=START + timedelta(hours=1),
        trading_state=TradingState.ACTIVE,
        pending=False,
        matched=True,
        position=None,
        spread_pips=1.0,
        orders_today=0,
    )
    return replace(calm, **changes)


LEVELS = Protection(Decimal("1.19"), Decimal("1.22"))


def test_a_calm_situation_lets_a_sound_entry_pass() -> None:
    assert entry_vetoes(Decimal("0.1"), LEVELS, situation(), LiveLimits()) == ()


@pytest.mark.parametrize(
    ("lots", "levels", "changes", "veto"),
    [
        ("0.1", LEVELS, {"trading_state": TradingState.HALTED}, Veto.HALTED),
        ("0.1", LEVELS, {"trading_state": TradingState.REDUCING}, Veto.REDUCING),
        ("0.1", LEVELS, {"now_utc": START + timedelta(hours=1)}, Veto.STALE_BAR),
        ("0.1", LEVELS, {"pending": True}, Veto.ORDER_PENDING),
        ("0.1", LEVELS, {"matched": False}, Veto.POSITION_MISMATCH),
        ("0.1", LEVELS, {"spread_pips": float("nan")}, Veto.SPREAD),
        ("0.1", LEVELS, {"spread_pips": 10.1}, Veto.SPREAD),
        ("0.1", LEVELS, {"orders_today": 50}, Veto.MAX_ORDERS_PER_DAY),
        ("0.1", LEVELS, {"event": True}, Veto.EVENT),
        ("0.1", LEVELS, {"events_unknown": True}, Veto.EVENTS_UNKNOWN),
        ("0", LEVELS, {}, Veto.NO_LOTS),
        ("NaN", LEVELS, {}, Veto.NO_LOTS),
        ("10.01", LEVELS, {}, Veto.MAX_LOTS),
        ("0.1", Protection(None, Decimal(1)), {}, Veto.BAD_LEVELS),
        ("0.1", Protection(Decimal("NaN"), Decimal(1)), {}, Veto.BAD_LEVELS),
        ("0.1", Protection(Decimal("-1"), Decimal(1)), {}, Veto.BAD_LEVELS),
        ("0.1", LEVELS._replace(trail_distance=0.0), {}, Veto.BAD_LEVELS),
        ("0.1", LEVELS._replace(trail_distance=float("nan")), {}, Veto.BAD_LEVELS),
    ],
)
def test_each_limit_has_its_code(lots: str, levels: Protection, changes: dict[str, object], veto: Veto) -> None:
    assert entry_vetoes(Decimal(lots), levels, situation(**changes), LiveLimits()) == (veto,)


def test_an_exit_is_held_back_by_little() -> None:
    held = after_fill(None, fill_of(Side.BUY, "0.1", 1.2), LEVELS)
    busy = {"position": held, "orders_today": 99, "spread_pips": 99.0, "now_utc": START + timedelta(days=1)}
    busy |= {"event": True, "events_unknown": True}
    assert exit_vetoes(situation(**busy, trading_state=TradingState.REDUCING)) == ()
    assert exit_vetoes(situation(**busy, trading_state=TradingState.HALTED)) == (Veto.HALTED,)
    assert exit_vetoes(situation()) == (Veto.NO_POSITION,)


@pytest.mark.parametrize("bad", [{"max_lots": Decimal(0)}, {"grace_seconds": -1.0}, {"grace_seconds": float("nan")}])
def test_limits_are_checked_at_birth(bad: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        LiveLimits(**bad)


# ---- positions and transitions


def fill_of(side: Side, lots: str, price: float) -> Fill:
    return Fill(
        fill_id="f",
        client_order_id="c",
        symbol="EURUSD",
        side=side,
        lots=Decimal(lots),
        price=Decimal(str(price)),
        commission=Decimal(0),
        filled_utc=START,
        reason="market",
    )


def test_fills_add_up_to_a_position() -> None:
    held = after_fill(None, fill_of(Side.BUY, "0.1", 1.2), LEVELS)
    held = after_fill(held, fill_of(Side.BUY, "0.3", 1.24), LEVELS)
    assert held is not None
    assert (held.lots, held.entry_price, held.stop_price) == (Decimal("0.4"), Decimal("1.23"), LEVELS.stop_price)
    part = after_fill(held, fill_of(Side.SELL, "0.1", 1.3), Protection())
    assert part is not None
    assert (part.lots, part.entry_price) == (Decimal("0.3"), Decimal("1.23"))
    assert after_fill(part, fill_of(Side.SELL, "0.3", 1.3), Protection()) is None
    turned = after_fill(part, fill_of(Side.SELL, "0.5", 1.3), Protection())
    assert turned is not None
    assert (turned.side, turned.lots, turned.entry_price) == (Side.SELL, Decimal("0.2"), Decimal("1.3"))


def test_an_order_at_its_end_stays_there_and_nothing_follows_from_silence() -> None:
    assert set(ALLOWED) == set(OrderState)
    ended = {s for s in OrderState if not ALLOWED[s]}
    assert ended == {
        OrderState.FILLED,
        OrderState.CANCELLED,
        OrderState.REJECTED,
        OrderState.EXPIRED,
        OrderState.NEVER_ARRIVED,
    }
    assert [s for s in OrderState if OrderState.NEVER_ARRIVED in ALLOWED[s]] == [OrderState.UNKNOWN]
    assert [s for s in OrderState if OrderState.SENDING in ALLOWED[s]] == [OrderState.INTENT]
