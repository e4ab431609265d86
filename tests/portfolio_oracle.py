"""A portfolio in plain Python, one event after another, from `decide` and `lots_for` and money counted by hand."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from forexgpt_core.backtest.portfolio_settings import PortfolioSettings
from forexgpt_core.backtest.span import Span
from forexgpt_core.domain.forecasts import interval_width
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.strategy.config import StrategyConfig
from forexgpt_core.strategy.decide import HeldPosition, MarketView, decide
from forexgpt_core.strategy.sizing import Outlook, lots_for


@dataclass
class Held:
    symbol: str
    side: Any
    lots: float
    entry: float
    stop: float
    target: float
    trail: float | None
    bar: int
    moment: int
    margin: float
    commission: float
    swap: float = 0.0
    leaving: str = ""

    @property
    def units(self) -> float:
        return self.lots * float(instrument(self.symbol).lot_units)


@dataclass
class Oracle:
    COLUMNS: ClassVar = ["entry_bar", "symbol", "exit_bar", "side", "lots", "entry", "exit", "profit", "exit_reason"]
    spans: Mapping[str, Span]
    configs: Mapping[str, StrategyConfig]
    settings: PortfolioSettings
    held: list[Held] = field(default_factory=list)
    orders: dict[str, tuple[Any, float]] = field(default_factory=dict)  # by symbol: decision and lots
    newest: dict[str, int] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)
    trades: list[tuple[Any, ...]] = field(default_factory=list)
    equity: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    moment: int = 0

    def run(self) -> "Oracle":
        self.cash = self.settings.cash
        times = sorted({t for span in self.spans.values() for t in span.ts_utc})
        places = {s: {t: n for n, t in enumerate(span.ts_utc)} for s, span in self.spans.items()}
        for self.moment, time in enumerate(times):
            self.fresh = {symbol for symbol, known in places.items() if time in known}
            self.newest |= {symbol: places[symbol][time] for symbol in self.fresh}
            self.open_bars()
            self.inside_bars()
            worth = self.worth("close")
            if self.held and 0 < worth <= self.settings.stop_out * sum(one.margin for one in self.held):
                self.leave_all("stop_out")
            if (worth := self.worth("close")) <= 0:
                self.leave_all("ruin")
                self.equity += [0.0] * (len(times) - self.moment)
                break
            self.equity.append(worth)
            self.trail()
            for symbol in sorted(self.fresh):
                if self.newest[symbol] < self.spans[symbol].close.size - 1:
                    self.decide(symbol, worth)
        return self

    def quote(self, symbol: str, name: str) -> float:
        return float(getattr(self.spans[symbol].quotes, name)[self.newest[symbol]])

    def when(self, symbol: str, when: str) -> str:
        return when if symbol in self.fresh else "close"

    def price(self, symbol: str, side: int, when: str) -> float:
        """Return what a position of that side is closed at, before slippage."""
        return self.quote(symbol, f"{'bid' if side > 0 else 'ask'}_{self.when(symbol, when)}")

    def money(self, symbol: str, amount: float, price: float, when: str) -> float:
        """Return quote currency as account currency."""
        if self.spans[symbol].quotes.base_is_account:
            return amount / price
        return amount * self.quote(symbol, f"rate_{self.when(symbol, when)}")

    def worth(self, when: str) -> float:
        total = self.cash
        for one in self.held:
            price = self.price(one.symbol, one.side.sign, when)
            total += self.money(one.symbol, one.side.sign * (price - one.entry) * one.units, price, when)
        return total

    def fee(self, one: str, lots: float, worth: float) -> float:
        costs = self.spans[one].costs
        return lots * costs.commission_per_lot + costs.commission_percent / 100 * worth

    def leave(self, one: Held, price: float, when: str, reason: str) -> None:
        price -= one.side.sign * self.quote(one.symbol, "slippage")
        gain = self.money(one.symbol, one.side.sign * (price - one.entry) * one.units, price, when)
        fee = self.fee(one.symbol, one.lots, self.money(one.symbol, one.units * price, price, when))
        self.cash += gain - fee
        profit = gain - fee - one.commission + one.swap
        self.held.remove(one)
        self.trades.append(
            (one.moment, one.symbol, self.moment, one.side.value, one.lots, one.entry, price, profit, reason)
        )

    def leave_all(self, reason: str) -> None:
        for one in list(self.held):
            self.leave(one, self.price(one.symbol, one.side.sign, "close"), "close", reason)

    def open_bars(self) -> None:
        for one in [one for one in self.held if one.symbol in self.fresh]:
            long = one.side.sign > 0
            night = self.quote(one.symbol, "swap_long" if long else "swap_short") * one.units
            paid = self.money(one.symbol, night, self.quote(one.symbol, "bid_open"), "open")
            one.swap, self.cash = one.swap + paid, self.cash + paid
        for one in [one for one in self.held if one.symbol in self.fresh and one.leaving]:
            self.leave(one, self.price(one.symbol, one.side.sign, "open"), "open", one.leaving)
        waiting = [symbol for symbol in self.orders if symbol in self.fresh]
        for symbol in sorted(waiting, key=lambda s: (-self.orders[s][0].probability, s)):
            self.fill(symbol, *self.orders.pop(symbol))

    def fill(self, symbol: str, decision: Any, lots: float) -> None:
        side, units = decision.side, lots * float(instrument(symbol).lot_units)
        price = self.price(symbol, -side.sign, "open") + side.sign * self.quote(symbol, "slippage")
        value, equity = self.money(symbol, units * price, price, "open"), self.worth("open")
        if kind := self.limit_against(symbol, side.sign, value, equity):
            self.refused[kind] += 1
            return
        margin, fee = value / self.leverage(symbol), self.fee(symbol, lots, value)
        if margin + fee > equity - sum(one.margin for one in self.held):
            self.refused["margin"] += 1
            return
        self.cash -= fee
        self.held.append(
            Held(
                symbol, side, lots, price, decision.stop_price, decision.take_profit_price, decision.trail_distance,
                self.newest[symbol], self.moment, margin, fee,
            )
        )  # fmt: skip

    def leverage(self, symbol: str) -> float:
        return self.settings.leverage or self.spans[symbol].costs.leverage

    def limit_against(self, symbol: str, sign: int, value: float, equity: float) -> str:
        limits = self.settings
        if limits.max_positions is not None and len(self.held) >= limits.max_positions:
            return "positions"
        if limits.max_currency_exposure is not None:
            pair, net = instrument(symbol), self.exposure("open")
            net[pair.base] += sign * value
            net[pair.quote] -= sign * value
            if max(abs(net[pair.base]), abs(net[pair.quote])) > limits.max_currency_exposure * equity:
                return "exposure"
        if limits.max_correlation is not None:
            for other in self.held:
                if other.symbol != symbol:
                    alike = sign * other.side.sign * self.correlation(symbol, other.symbol)
                    if not alike <= limits.max_correlation:
                        return "correlation"
        return ""

    def exposure(self, when: str) -> Counter[str]:
        net: Counter[str] = Counter()
        for one in self.held:
            price, pair = self.price(one.symbol, one.side.sign, when), instrument(one.symbol)
            value = one.side.sign * self.money(one.symbol, one.units * price, price, when)
            net[pair.base] += value
            net[pair.quote] -= value
        return net

    def correlation(self, one: str, other: str) -> float:
        closes = []
        for symbol in (one, other):
            known = self.newest[symbol] + (symbol not in self.fresh)
            span = self.spans[symbol]
            closes.append(dict(zip(span.ts_utc[:known], span.close[:known])))
        common = sorted(closes[0].keys() & closes[1].keys())[-self.settings.correlation_bars - 1 :]
        if len(common) <= self.settings.correlation_bars:
            return float("nan")
        x, y = (np.diff(np.log([known[t] for t in common])) for known in closes)
        return float(np.corrcoef(x, y)[0, 1])

    def inside_bars(self) -> None:
        for symbol in sorted(self.fresh):
            mine = [one for one in self.held if one.symbol == symbol]
            for reason in ("stop", "take_profit"):
                for one in [one for one in mine if one in self.held]:
                    self.touch(one, reason)
            if self.newest[symbol] == self.spans[symbol].close.size - 1:
                for one in [one for one in mine if one in self.held]:
                    self.leave(one, self.price(symbol, one.side.sign, "close"), "close", "end")

    def touch(self, one: Held, reason: str) -> None:
        sign, side = one.side.sign, "bid" if one.side.sign > 0 else "ask"
        opened = sign * self.quote(one.symbol, f"{side}_open")
        low, high = sorted(sign * self.quote(one.symbol, f"{side}_{name}") for name in ("low", "high"))
        if reason == "stop" and low <= sign * one.stop:
            self.leave(one, sign * min(opened, sign * one.stop), "open", reason)
        if reason == "take_profit" and high >= sign * one.target:
            self.leave(one, sign * max(opened, sign * one.target), "open", reason)

    def trail(self) -> None:
        for one in self.held:
            if one.trail and one.symbol in self.fresh:
                follower = self.quote(one.symbol, "bid_close") * float(np.exp(-one.side.sign * one.trail))
                one.stop = max(one.stop, follower) if one.side.sign > 0 else min(one.stop, follower)

    def decide(self, symbol: str, equity: float) -> None:
        span, config, bar = self.spans[symbol], self.configs[symbol], self.newest[symbol]
        told = np.flatnonzero(span.rows == bar)
        mine = [one for one in self.held if one.symbol == symbol]
        if told.size == 0:  # nothing but time ends a position
            for one in mine:
                one.leaving = "holding limit" if bar - one.bar + 1 >= config.holding_limit_bars else ""
            return
        laws, column = span.forecasts, span.forecasts.horizons_bars.index(config.horizon_bars)
        view = MarketView(
            close=float(span.close[bar]),
            quantiles=laws.quantiles[told[0], column],
            scale=float(laws.scale[told[0], column]),
            cost_return=float(span.quotes.cost_return[bar]),
        )
        for one in mine:
            answer = decide(view, HeldPosition(side=one.side, bars_held=bar - one.bar + 1), config)
            one.leaving = answer.reason if answer.action == "exit" else ""
        entry = decide(view, None, config)
        if any(one.leaving for one in mine) or len(mine) >= config.max_entries or entry.action != "enter":
            return
        if mine and mine[0].side is not entry.side:
            return
        assert entry.side is not None
        price = view.close
        outlook = Outlook(
            equity=equity,
            used_margin=sum(one.margin for one in self.held),
            one_lot=self.money(symbol, float(instrument(symbol).lot_units) * price, price, "close"),
            cost_return=view.cost_return,
            side=entry.side.sign,
            probability=entry.probability,
            scale=view.scale,
            width=float(interval_width(view.quantiles)),
            bars_per_year=span.bars_per_year,
        )
        lots = lots_for(outlook, config, self.priced(symbol))
        if lots:
            self.orders[symbol] = (entry, lots)
        else:
            self.refused["too small"] += 1

    def priced(self, symbol: str) -> Any:
        from dataclasses import replace

        return replace(self.spans[symbol].costs, leverage=self.leverage(symbol))
