"""What a tick does first: book the venue's fills, and settle every order an earlier tick left open."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from forexgpt_core.domain.orders import OrderIntent, OrderState, Position, TradingState
from forexgpt_core.live.broker import AccountView, Submission
from forexgpt_core.live.journal import JournalView
from forexgpt_core.live.tick import Tick


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The account after fills were booked and open intents were settled."""

    view: JournalView
    account: AccountView
    matched: bool
    pending: bool
    sent: tuple[OrderIntent, ...]


def settle(tick: Tick) -> Settled:
    """Let the venue live through the newest bars, book its fills, and bring open intents to their end where known."""
    view = tick.journal.look(
        deployment_id=tick.deployment.deployment_id,
        account=tick.broker.account,
        symbol=tick.deployment.symbol,
        bar_close_utc=tick.bar_close_utc,
    )
    ids = [pending.intent.client_order_id for pending in view.open_intents]
    account = tick.broker.advance(tick.bars, after_fill_id=view.last_fill_id, ask_about=ids, rates=tick.rates)
    booked = tick.journal.book_fills(tick.broker.account, account.fills) if account.fills else view.position
    matched = _follow(tick, booked, account.position)
    if not matched and view.trading_state is not TradingState.HALTED:
        tick.journal.halt(tick.deployment.symbol, "the journal's position is not the venue's")
    unsent, pending = [], False
    for open_intent in view.open_intents:
        verdict = _settle_one(tick, open_intent.intent, open_intent.state, account.orders)
        unsent += [open_intent.intent] if verdict == "send" else []
        pending |= verdict == "pending"
    allowed = [i for i in unsent if matched and _may_still_go(i, view.trading_state)]
    sent = send(tick, allowed)
    return Settled(view=view, account=account, matched=matched, pending=pending or bool(unsent), sent=tuple(sent))


def _follow(tick: Tick, booked: Position | None, held: Position | None) -> bool:
    """Return whether journal and venue agree on the position; a stop that trails is moved by the venue alone."""
    if booked is None or held is None or booked.trail_distance is None:
        return booked == held
    if booked != held and held.stop_price is not None:
        booked = replace(booked, stop_price=held.stop_price)
        if booked == held:
            tick.journal.move_stop(tick.broker.account, held.stop_price)
    return booked == held


def _settle_one(tick: Tick, intent: OrderIntent, state: OrderState, known: Mapping[str, Submission]) -> str:
    """Return "send", "pending" or "settled" for one open intent, moving it by the venue's evidence alone."""
    found = known.get(intent.client_order_id)
    order_id, journal = intent.client_order_id, tick.journal
    if found is not None:
        journal.mark(order_id, found.state, found.reason or "the venue knows it", tick.lease)
        return "pending" if found.state in (OrderState.ACKED, OrderState.PARTIAL, OrderState.UNKNOWN) else "settled"
    if state is OrderState.INTENT:
        if tick.now_utc < intent.expires_utc and intent.bar_close_utc == tick.bar_close_utc:
            return "send"
        journal.mark(order_id, OrderState.EXPIRED, "not sent in time", tick.lease)
        return "settled"
    if state is not OrderState.UNKNOWN:
        journal.mark(order_id, OrderState.UNKNOWN, "the venue does not know it", tick.lease)
    if tick.now_utc < intent.expires_utc:
        return "pending"
    journal.mark(order_id, OrderState.NEVER_ARRIVED, "expired, and the venue does not know it", tick.lease)
    return "settled"


def _may_still_go(intent: OrderIntent, state: TradingState) -> bool:
    if intent.action == "flatten":
        return True
    return state is TradingState.ACTIVE or (state is TradingState.REDUCING and intent.action == "exit")


def send(tick: Tick, intents: Sequence[OrderIntent]) -> list[OrderIntent]:
    """Send committed intents, each under the lease, and return those that left."""
    sent = []
    for intent in intents:
        if not tick.journal.begin_sending(intent.client_order_id, tick.lease):
            continue
        answer = tick.broker.submit(intent)
        tick.journal.mark(intent.client_order_id, answer.state, answer.reason, tick.lease)
        sent.append(intent)
    return sent


def facts_of(settled: Settled) -> dict[str, object]:
    """Return what a report says about the account."""
    account = settled.account
    return {
        "orders": settled.sent,
        "fills": tuple(account.fills),
        "position": account.position,
        "equity": account.equity,
    }
