"""An account kept by hand, bar by bar, in plain Python: what the compiled engine is judged by.

Written from what costs, settings and results promise, with nothing of the engine, its quotes or its money functions in
it. The decision is `decide`, the very function of paper and live trading.
"""

import bisect
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import LEVELS, ForecastBatch
from forexgpt_core.domain.orders import Side
from forexgpt_core.strategy.config import StrategyConfig
from forexgpt_core.strategy.decide import Decision, HeldPosition, MarketView, decide

NEW_YORK = ZoneInfo("America/New_York")
PIPS = {"EURUSD": 0.0001, "USDJPY": 0.01, "EURGBP": 0.0001, "XAUUSD": 0.1}
LOTS = {"EURUSD": 100_000.0, "USDJPY": 100_000.0, "EURGBP": 100_000.0, "XAUUSD": 100.0}
HOURS_PER_YEAR = 52 * 5 * 24


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How much account money a unit of quote currency is; in an account of base currency the price itself says it."""

    value: float
    base: bool

    def worth(self, amount: float, price: float) -> float:
        return amount / price if self.base else amount * self.value


@dataclass(frozen=True, kw_only=True)
class Quoted:
    """A bar as a trader sees it. Prices are (open, high, low, close)."""

    bid: tuple[float, float, float, float]
    ask: tuple[float, float, float, float]
    slippage: float
    opened: Rate
    closed: Rate
    nights: int
    cost_return: float


@dataclass(kw_only=True)
class Entry:
    """An open trade."""

    bar: int
    side: int
    lots: float
    units: float
    price: float
    stop: float
    first_stop: float
    target: float
    trail: float | None
    probability: float
    margin: float
    notional: float
    commission: float
    swap: float = 0.0
    leaving: str = ""


@dataclass(kw_only=True)
class Account:
    """Everything that happened."""

    symbol: str
    costs: Costs
    balance: float
    entries: list[Entry] = field(default_factory=list)
    trades: list[dict[str, object]] = field(default_factory=list)
    equity: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    turnover: float = 0.0

    @property
    def used_margin(self) -> float:
        return sum(entry.margin for entry in self.entries)

    def notional(self, units: float, price: float, rate: Rate) -> float:
        return rate.worth(units * price, price)

    def fee(self, lots: float, notional: float) -> float:
        return lots * self.costs.commission_per_lot + notional * self.costs.commission_percent / 100

    def worth(self, bid: float, ask: float, rate: Rate) -> float:
        """Return the equity with every entry closed at these quotes, free of charge."""
        return self.balance + sum(self.gross(e, bid if e.side > 0 else ask, rate) for e in self.entries)

    def gross(self, entry: Entry, price: float, rate: Rate) -> float:
        return rate.worth(entry.side * (price - entry.price) * entry.units, price)

    def close(self, entry: Entry, bar: int, price: float, rate: Rate, reason: str) -> None:
        gross = self.gross(entry, price, rate)
        notional = self.notional(entry.units, price, rate)
        fee = self.fee(entry.lots, notional)
        self.balance += gross - fee
        self.turnover += notional
        self.entries.remove(entry)
        profit = gross - entry.commission - fee + entry.swap
        self.trades.append(
            {
                "entry_bar": entry.bar,
                "exit_bar": bar,
                "side": (Side.BUY if entry.side > 0 else Side.SELL).value,
                "lots": entry.lots,
                "entry_price": entry.price,
                "exit_price": price,
                "stop_price": entry.first_stop,
                "take_profit_price": entry.target,
                "probability": entry.probability,
                "commission": entry.commission + fee,
                "swap": entry.swap,
                "profit": profit,
                "return_pct": 100 * profit / entry.notional,
                "exit_reason": reason,
            }
        )


def play(
    candles: pl.DataFrame,
    forecasts: ForecastBatch,
    config: StrategyConfig,
    costs: Costs,
    *,
    symbol: str,
    cash: float,
    rates: Mapping[str, pl.DataFrame] | None = None,
    no_entry: Sequence[bool] | None = None,
) -> Account:
    """Return the account after trading from the first forecast to the last; bars count from the first one."""
    times = candles["ts_utc"].to_list()
    told = {moment.replace(tzinfo=UTC): n for n, moment in enumerate(forecasts.origin_utc.tolist())}
    first, last = times.index(min(told)), times.index(max(told))
    quotes = quoted(candles.slice(first, last - first + 1), costs, symbol, rates or {})
    account, order = Account(symbol=symbol, costs=costs, balance=cash), None
    for n, quote in enumerate(quotes):
        let_happen(account, quote, n, order, is_last=n == len(quotes) - 1)
        order = None
        if account.equity[-1] == 0:
            account.equity += [0.0] * (len(quotes) - 1 - n)
            break
        law = told.get(times[first + n])
        if n < len(quotes) - 1 and law is None:  # nothing but time ends a position
            for entry in account.entries:
                entry.leaving = "holding limit" if n - entry.bar + 1 >= config.holding_limit_bars else ""
        elif n < len(quotes) - 1 and law is not None:
            held_back = no_entry is not None and bool(no_entry[first + n])
            order = ask(account, quote, n, forecasts, law, config, held_back)
    account.trades.sort(key=lambda trade: trade["entry_bar"])
    return account


def let_happen(account: Account, quote: Quoted, n: int, order: tuple[Decision, float] | None, *, is_last: bool) -> None:
    """Let a bar happen: swap, exits, the entry, what lies inside the bar, and the close."""
    costs, slip, side_quotes = account.costs, quote.slippage, {1: quote.bid, -1: quote.ask}
    pip = PIPS[account.symbol]
    if quote.nights:
        for entry in account.entries:
            pips = costs.swap_long_pips if entry.side > 0 else costs.swap_short_pips
            credited = quote.opened.worth(entry.units * pips * pip * quote.nights, quote.bid[0])
            entry.swap += credited
            account.balance += credited
    for entry in [e for e in account.entries if e.leaving]:
        price = side_quotes[entry.side][0] - entry.side * slip
        account.close(entry, n, price, quote.opened, entry.leaving)
    if order is not None:
        enter(account, quote, n, *order)
    inside(account, quote, n)
    if is_last:
        for entry in list(account.entries):
            account.close(entry, n, side_quotes[entry.side][3] - entry.side * slip, quote.closed, "end")
    equity = account.worth(quote.bid[3], quote.ask[3], quote.closed)
    if equity <= 0:
        for entry in list(account.entries):
            account.close(entry, n, side_quotes[entry.side][3] - entry.side * slip, quote.closed, "ruin")
        equity = 0.0
    account.equity.append(equity)
    for entry in account.entries:
        if entry.trail is not None:
            follower = quote.bid[3] * math.exp(-entry.side * entry.trail)
            entry.stop = max(entry.stop, follower) if entry.side > 0 else min(entry.stop, follower)


def enter(account: Account, quote: Quoted, n: int, decision: Decision, lots: float) -> None:
    """Open what was decided, where margin and commission fit into the equity that no other entry ties up."""
    assert decision.side is not None
    assert decision.stop_price is not None
    assert decision.take_profit_price is not None
    side = decision.side.sign
    price = quote.ask[0] + quote.slippage if side > 0 else quote.bid[0] - quote.slippage
    units = lots * LOTS[account.symbol]
    notional = account.notional(units, price, quote.opened)
    fee, margin = account.fee(lots, notional), notional / account.costs.leverage
    free = account.worth(quote.bid[0], quote.ask[0], quote.opened) - account.used_margin
    if margin + fee > free:
        account.counts["entries_refused"] += 1
        return
    account.balance -= fee
    account.turnover += notional
    account.entries.append(
        Entry(
            bar=n,
            side=side,
            lots=lots,
            units=units,
            price=price,
            stop=decision.stop_price,
            first_stop=decision.stop_price,
            target=decision.take_profit_price,
            trail=decision.trail_distance,
            probability=decision.probability,
            margin=margin,
            notional=notional,
            commission=fee,
        )
    )


def inside(account: Account, quote: Quoted, n: int) -> None:
    """Let the market go from its open to its worst price, meeting stops and stop-out in order, then to its best."""
    while account.entries:
        side = account.entries[0].side
        opened, high, low, _ = quote.bid if side > 0 else quote.ask
        worst, best = (low, high) if side > 0 else (high, low)
        nearest = max(account.entries, key=lambda entry: side * entry.stop)
        broker = stop_out_line(account, side, opened, worst, quote.opened)
        if broker is not None and side * broker > side * nearest.stop:
            price = min(side * opened, side * broker) * side
            for entry in list(account.entries):
                account.close(entry, n, price - side * quote.slippage, quote.opened, "stop_out")
        elif side * worst <= side * nearest.stop:
            price = min(side * opened, side * nearest.stop) * side
            account.close(nearest, n, price - side * quote.slippage, quote.opened, "stop")
        else:
            for entry in [e for e in account.entries if side * best >= side * e.target]:
                price = max(side * opened, side * entry.target) * side
                account.close(entry, n, price - side * quote.slippage, quote.opened, "take_profit")
            return


def stop_out_line(account: Account, side: int, opened: float, worst: float, rate: Rate) -> float | None:
    """Return the price at which equity is the broker's share of the margin, or None where the bar does not reach it.

    Found by halving: equity falls all the way. A market that opens beyond it was at it before.
    """
    line = account.costs.stop_out * account.used_margin

    def safe(price: float) -> bool:
        return account.worth(price, price, rate) > line

    if account.costs.stop_out == 0 or safe(worst):
        return None
    good = opened
    while not safe(good):
        good *= 1.1**side
        if not 1e-9 < good < 1e9:
            return side * math.inf  # no price saves it
    bad = worst
    for _ in range(200):
        middle = (good + bad) / 2
        good, bad = (middle, bad) if safe(middle) else (good, middle)
    return bad


def ask(
    account: Account,
    quote: Quoted,
    n: int,
    forecasts: ForecastBatch,
    law: int,
    config: StrategyConfig,
    held_back: bool,
) -> tuple[Decision, float] | None:
    """Ask `decide` about every entry and, where none leaves and there is room, about a new one."""
    column = forecasts.horizons_bars.index(config.horizon_bars)
    view = MarketView(
        close=quote.bid[3],
        quantiles=forecasts.quantiles[law, column],
        scale=float(forecasts.scale[law, column]),
        cost_return=quote.cost_return,
    )
    for entry in account.entries:
        side = Side.BUY if entry.side > 0 else Side.SELL
        answer = decide(view, HeldPosition(side=side, bars_held=n - entry.bar + 1), config)
        entry.leaving = answer.reason if answer.action == "exit" else ""
    if any(entry.leaving for entry in account.entries) or len(account.entries) >= config.max_entries:
        return None
    answer = decide(view, None, config)
    if answer.action != "enter" or answer.side is None or any(e.side != answer.side.sign for e in account.entries):
        return None
    if held_back:
        account.counts["entries_held_back"] += 1
        return None
    lots = size(account, quote, view, answer, config)
    if lots == 0:
        account.counts["entries_too_small"] += 1
        return None
    return answer, lots


def size(account: Account, quote: Quoted, view: MarketView, answer: Decision, config: StrategyConfig) -> float:
    """Return lots as StrategyConfig describes them, in whole steps, at most what 98 % of the free equity carries."""
    costs, equity = account.costs, account.equity[-1]
    assert answer.side is not None
    one_lot = account.notional(LOTS[account.symbol], view.close, quote.closed)
    unit = view.scale if config.distance_unit == "volatility" else 0.01
    up = math.exp(config.take_profit_scales * unit * answer.side.sign)
    down = math.exp(-config.stop_scales * unit * answer.side.sign)
    lost, won = abs(down - 1), abs(up - 1)
    by_margin = config.size_fraction * equity * costs.leverage / one_lot
    if config.sizing == "lots":
        wanted = config.lots
    elif config.sizing == "risk":
        wanted = config.size_fraction * equity / (lost * one_lot)
    elif config.sizing == "kelly":
        chance = answer.probability
        best = (chance * won - (1 - chance) * lost) / won
        wanted = min(max(best, 0.0), config.size_fraction) * equity / (lost * one_lot)
    elif config.sizing == "volatility":
        yearly = view.scale * math.sqrt(HOURS_PER_YEAR / config.horizon_bars)
        wanted = config.size_fraction * equity / (yearly * one_lot)
    elif config.sizing == "uncertainty":
        levels = LEVELS.tolist()
        width = view.quantiles[levels.index(0.95)] - view.quantiles[levels.index(0.05)]
        walk = 2 * 1.6448536269514722 * view.scale
        wanted = by_margin * min(1.0, walk / width)
    else:
        wanted = by_margin
    carried = 0.98 * (equity - account.used_margin) / (one_lot / costs.leverage + one_lot * view.cost_return)
    steps = math.floor(min(wanted, carried) / costs.lot_step + 1e-9)
    lots = round(steps * costs.lot_step, 9)
    return lots if lots >= costs.min_lots - 1e-9 else 0.0


def quoted(candles: pl.DataFrame, costs: Costs, symbol: str, rates: Mapping[str, pl.DataFrame]) -> list[Quoted]:
    """Return the bars as a trader sees them."""
    rows, pip = candles.to_dicts(), PIPS[symbol]
    length = timedelta(hours=1)
    out: list[Quoted] = []
    for n, row in enumerate(rows):
        bid = (row["open"], row["high"], row["low"], row["close"])
        ask = asks(row, bid, costs, pip)
        spread_open, spread_close = (ask[0] - bid[0]) / pip, (ask[3] - bid[3]) / pip
        before = rows[n - 1]["high"] - rows[n - 1]["low"] if n else 0.0
        opened = rate_at(row["ts_utc"], symbol, costs, rates, row["open"])
        closed = rate_at(row["ts_utc"] + length, symbol, costs, rates, row["close"])
        expected = slippage_pips(costs, (row["high"] - row["low"]) / pip, spread_close)
        unit_worth = closed.worth(bid[3], bid[3])
        a_trip = (spread_close + 2 * expected) * pip / bid[3] + 2 * costs.commission_percent / 100
        a_trip += 2 * costs.commission_per_lot / (LOTS[symbol] * unit_worth)
        out.append(
            Quoted(
                bid=bid,
                ask=ask,
                slippage=slippage_pips(costs, before / pip, spread_open) * pip,
                opened=opened,
                closed=closed,
                nights=nights(rows[n - 1]["ts_utc"], row["ts_utc"], costs.swap_triple_weekday) if n else 0,
                cost_return=a_trip,
            )
        )
    return out


def asks(
    row: Mapping[str, object], bid: tuple[float, float, float, float], costs: Costs, pip: float
) -> tuple[float, float, float, float]:
    known = [row.get(f"ask_{name}") for name in ("open", "high", "low", "close")]
    spread = costs.spread_pips
    if costs.spread_source == "candles" and None not in known:
        a, b, c, d = (max(float(price), low) for price, low in zip(known, bid, strict=True))
        return a, b, c, d
    if costs.spread_source == "session":
        moment = row["ts_utc"]
        assert isinstance(moment, datetime)
        spread = costs.spread_by_hour_pips[moment.astimezone(NEW_YORK).hour]
    a, b, c, d = (price + spread * pip for price in bid)
    return a, b, c, d


def slippage_pips(costs: Costs, range_pips: float, spread_pips: float) -> float:
    return costs.slippage_pips + costs.slippage_range_share * range_pips + costs.slippage_spread_share * spread_pips


def nights(since: datetime, until: datetime, triple_weekday: int) -> int:
    """Return the nights that began after `since` and by `until`: at 17:00 New York, Monday to Friday."""
    days = itertools.count(since.astimezone(NEW_YORK).date().toordinal())
    held = 0
    for day in map(date.fromordinal, days):
        begins = datetime.combine(day, time(17), NEW_YORK).astimezone(UTC)
        if begins > until:
            return held
        if begins > since and day.weekday() < 5:
            held += 3 if day.weekday() == triple_weekday else 1
    raise AssertionError  # the count has no end


def rate_at(moment: datetime, symbol: str, costs: Costs, rates: Mapping[str, pl.DataFrame], price: float) -> Rate:
    """Return what quote currency is worth in the account, from the last candle of one other pair that has ended."""
    base, quote = symbol[:3], symbol[3:]
    account = costs.account_currency or quote
    if account == quote:
        return Rate(value=1.0, base=False)
    if account == base:
        return Rate(value=1 / price, base=True)
    turned = account + quote in rates
    frame = rates[account + quote if turned else quote + account]
    ends = [opened + timedelta(hours=1) for opened in frame["ts_utc"].to_list()]
    last = frame["close"][bisect.bisect_right(ends, moment) - 1]
    return Rate(value=1 / last if turned else last, base=False)
