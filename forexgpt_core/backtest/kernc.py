"""The strategy on backtesting.py: the oracle of every later engine.

A decision is taken at a bar's close by `strategy.decide` and filled at the next open; stops and targets are watched
from the bar of the fill on. How the library's parameters are used, so that its money equals `backtest.fills`:

- its `spread` is relative to the price and moves the entry only, so it stays 0. Spread and slippage are absolute here
  and travel with the commission callable: opening pays spread + slippage + commission, closing slippage + commission.
  A short position thus pays its ask at the entry instead of at the exit, which is the same money and the same
  marked-to-market equity at every close; the prices in `trades` are those of `fills`.
- the library sees bid prices only: the ask levels of a short position are handed over one spread lower.
- margin is 1 / leverage and is asked for at the entry only. There is no margin call (`costs.stop_out` must be 0): a
  position runs until its own exit or until equity reaches 0 ("ruin"), where the library stops and the account stays
  at 0.
- trailing stops are moved by the strategy at each close, several entries of one side are several of its trades.
- its first bar never decides, so one flat bar is put before the span and taken away afterwards.
- what is open at the end is closed at the last close, costs paid ("end").

Everything in which the library and `backtest.engine` mean different things stands in DIFFERENCES.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl

from forexgpt_core.backtest.fills import (
    commission,
    entry_price,
    exit_price,
    slippage_price,
    spread_price,
    trade_profit,
)
from forexgpt_core.backtest.performance import Floats, Stats
from forexgpt_core.backtest.result import TRADES_SCHEMA, BacktestResult, summarise
from forexgpt_core.backtest.span import Bools, Span, lay_out
from forexgpt_core.domain.clock import from_utc
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.domain.orders import Side
from forexgpt_core.errors import BadInput
from forexgpt_core.strategy.config import StrategyConfig
from forexgpt_core.strategy.decide import Decision, HeldPosition, decide_given
from forexgpt_core.strategy.rules import trailed
from forexgpt_core.strategy.sizing import Outlook, lots_for

if TYPE_CHECKING:
    import pandas as pd
    from backtesting import Backtest

DIFFERENCES = {
    "margin": "the library tests an entry's margin with what is known at the close of the bar that fills it, revalues"
    " the margin of open trades there, and divides the commission by the leverage; the engine tests at the open, with"
    " the margin of each entry as it was opened and the whole commission. Entries near the ceiling are refused by one"
    " and not by the other",
    "stop-out": "the library knows no margin call: a position runs until equity is 0",
    "swap": "the library charges nothing for a night",
    "spread": "the library has no ask side: its own spread is one share of the price, paid at the entry alone, so it"
    " does not change from bar to bar and stops of a short position do not see it",
    "slippage": "the library has none; here it travels with the commission, and as one number",
    "conversion": "the library's cash is in quote currency",
    "commission": "one in per cent would be of the library's prices, which are bids; here it is of the price paid",
    "units": "the library trades whole units of base currency",
    "levels": "the library raises an error where a stop or a target equals the last close, to the last bit",
    "end": "the library closes what is open at the end at the last bar's open, if told to (finalize_trades)",
    "ruin": "at the end of the money the library closes every second open trade and keeps the others open",
    "first bar": "the library's strategy is first asked at the second bar",
    "figures": "the library's Sharpe and Sortino compound the returns of calendar days in UTC and its drawdown starts"
    " with the first bar; `performance` takes the mean over FX days and starts with the cash",
}
"""Where backtesting.py and the engine do not mean the same thing, and what each means."""

LEAD = 1  # bars put before the span


def unsaid(costs: Costs, symbol: str) -> str:
    """Return the cost that this library cannot count, in words; empty where it can count them all."""
    step = costs.lot_step * float(instrument(symbol).lot_units)
    refused = {
        "an account in another currency": costs.account_of(symbol) != instrument(symbol).quote,
        "a spread that changes": costs.spread_source != "constant",
        "a commission in per cent": costs.commission_percent > 0,
        "slippage that changes": costs.slippage_range_share > 0 or costs.slippage_spread_share > 0,
        "swap": costs.swap_long_pips != 0 or costs.swap_short_pips != 0,
        "a stop-out (set costs.stop_out to 0)": costs.stop_out > 0,
        "parts of a unit": abs(step - round(step)) > 1e-9,
    }
    return ", ".join(name for name, there in refused.items() if there)


def run_backtest(
    candles: pl.DataFrame,
    forecasts: ForecastBatch,
    config: StrategyConfig,
    costs: Costs,
    *,
    symbol: str,
    cash: float = 100_000.0,
    no_entry: Bools | None = None,
) -> BacktestResult:
    """Return how the strategy would have done on the bars from the first forecast origin to the last.

    At bars without a forecast only the holding limit decides. Besides the figures of `result.summarise`, stats count
    what did not happen: entries_too_small (less than 0.01 lot), entries_refused (margin), entries_held_back
    (`no_entry`), bars_without_forecast.

    Args:
        candles: lawful bid bars; those outside the span are not read.
        cash: of the account at the start, in quote currency.
        no_entry: see `span.lay_out`.

    Raises:
        BadInput: see `span.lay_out`; or cash is not above 0; the forecasts lack the configured horizon; or the costs
            are more than the library can count.
    """
    return run_span(lay_out(candles, forecasts, costs, symbol=symbol, no_entry=no_entry), config, cash=cash)


def run_span(span: Span, config: StrategyConfig, *, cash: float = 100_000.0) -> BacktestResult:
    """Return the backtest of one configuration on a span that is laid out already."""
    return run_with_plot(span, config, cash=cash)[1]


def run_with_plot(span: Span, config: StrategyConfig, *, cash: float = 100_000.0) -> "tuple[Backtest, BacktestResult]":
    """Return the library's own object, which can plot the run, beside what `run_span` returns."""
    if not (np.isfinite(cash) and cash > 0):
        raise BadInput(f"cash must be a finite number above 0, was {cash}")
    if missing := unsaid(span.costs, span.symbol):
        raise BadInput(f"backtesting.py cannot count {missing}; use backtest.engine")
    session = _session(span, config)
    from backtesting import Backtest

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of cancelled and open trades, which are counted here
        backtest = Backtest(
            _frame(span), _strategy_class(), cash=cash, commission=session.charge, margin=1 / span.costs.leverage
        )
        run = backtest.run(session=session)
    return backtest, _result(span, session, run, cash)


@dataclass(slots=True, kw_only=True)
class _Session:
    """One run: what the strategy reads at every bar, and what it leaves behind. Bars count from the lead bar."""

    config: StrategyConfig
    costs: Costs
    symbol: str
    probabilities: list[tuple[float, float]]
    close: list[float]
    scale: list[float]
    width: list[float]
    cost_return: list[float]
    bars_per_year: float
    spread: float
    charge_per_unit: float  # slippage and commission of one execution
    no_entry: list[bool]
    open_trades: Callable[[], Sequence[object]] = tuple
    booked_open: int = 0  # trades that were listed when the library last charged
    entries: dict[int, tuple[Decision, float]] = field(default_factory=dict)  # decision and lots by fill bar
    stops: dict[int, float] = field(default_factory=dict)  # where they trailed to, by fill bar
    exits: dict[int, str] = field(default_factory=dict)  # reason by fill bar of the entry
    too_small: int = 0
    held_back: int = 0

    def charge(self, size: float, price: float) -> float:
        """Return what the library books as commission; the spread is paid when opening (see the module).

        The library lists a trade before it charges the opening, and strikes it off before it charges the closing.
        """
        listed = len(self.open_trades())
        opening, self.booked_open = listed > self.booked_open, listed
        return abs(size) * (self.charge_per_unit + (self.spread if opening else 0.0))

    def decide(self, bar: int, held: HeldPosition | None) -> Decision:
        """Return the decision at the close of a bar."""
        return decide_given(
            self.probabilities[bar],
            close=self.close[bar],
            scale=self.scale[bar],
            cost_return=self.cost_return[bar],
            held=held,
            config=self.config,
        )

    def stop(self, entered: int) -> float:
        """Return where the stop of an entry stands: a bid for a long position, an ask for a short one."""
        decision, _ = self.entries[entered]
        assert decision.stop_price is not None  # as every entry has
        return self.stops.get(entered, decision.stop_price)

    def bid_level(self, side: Side, level: float) -> float:
        """Return a level as the bid at which it is reached."""
        return level if side is Side.BUY else level - self.spread

    def paid(self, entry_bid: float, side: Side) -> float:
        """Return the price of an entry, whose margin is that of it and no other."""
        return entry_price(entry_bid, side, self.costs, self.symbol)

    def outlook(self, bar: int, decision: Decision, equity: float, used_margin: float) -> Outlook:
        """Return what sizes a new position."""
        assert decision.side is not None  # an entry has one
        return Outlook(
            equity=equity,
            used_margin=used_margin,
            one_lot=self.close[bar] * float(instrument(self.symbol).lot_units),
            cost_return=self.cost_return[bar],
            side=decision.side.sign,
            probability=decision.probability,
            scale=self.scale[bar],
            width=self.width[bar],
            bars_per_year=self.bars_per_year,
        )


def _session(span: Span, config: StrategyConfig) -> _Session:
    signals = span.signals(config.horizon_bars, config.cost_multiple)
    lot_units = float(instrument(span.symbol).lot_units)
    silent = [float("nan")]  # the lead bar has no forecast
    return _Session(
        config=config,
        costs=span.costs,
        symbol=span.symbol,
        probabilities=list(zip(silent + signals.up.tolist(), silent + signals.down.tolist())),
        close=silent + span.close.tolist(),
        scale=silent + signals.scale.tolist(),
        width=silent + signals.width.tolist(),
        cost_return=silent + span.quotes.cost_return.tolist(),
        bars_per_year=span.bars_per_year,
        no_entry=[False, *(np.zeros(span.close.size, dtype=bool) if span.no_entry is None else span.no_entry).tolist()],
        spread=spread_price(span.costs, span.symbol),
        charge_per_unit=slippage_price(span.costs, span.symbol) + commission(1.0, span.costs) / lot_units,
    )


@cache
def _strategy_class() -> type[Any]:
    """Return the library's strategy; made on first use, because importing the library brings bokeh along."""
    from backtesting import Strategy, backtesting

    backtesting._tqdm = lambda bars, **_: bars  # no bar of its own: progress is the caller's

    class ForecastStrategy(Strategy):  # type: ignore[misc]  # the library is not typed
        session = cast(_Session, None)  # the library sets what run() is given, if the class has that name

        def init(self) -> None:
            self.session.open_trades = lambda: self._broker.trades
            self.units_per_lot = float(instrument(self.session.symbol).lot_units)
            self.last_bar = len(self.session.close) - 1

        def next(self) -> None:
            bar, trades = len(self.data) - 1, tuple(self._broker.trades)
            if bar == self.last_bar:
                return
            for trade in trades:
                self.trail(trade, bar)
            leaving = [self.leave(trade, bar) for trade in trades]
            if not any(leaving) and len(trades) < self.session.config.max_entries:
                self.consider_entry(bar, trades)

        def leave(self, trade: Any, bar: int) -> bool:
            side = Side.BUY if trade.is_long else Side.SELL
            decision = self.session.decide(bar, HeldPosition(side=side, bars_held=bar - trade.entry_bar + 1))
            if decision.action == "exit":
                trade.close()
                self.session.exits[trade.entry_bar] = decision.reason
            return decision.action == "exit"

        def trail(self, trade: Any, bar: int) -> None:
            session, entered = self.session, trade.entry_bar
            decision, _ = session.entries[entered]
            if decision.trail_distance and decision.side is not None:
                close, stop = session.close[bar], session.stop(entered)
                session.stops[entered] = trailed(stop, decision.side.sign, close, decision.trail_distance)
                trade.sl = session.bid_level(decision.side, session.stops[entered])

        def consider_entry(self, bar: int, trades: Sequence[Any]) -> None:
            session = self.session
            decision = session.decide(bar, None)
            if decision.action != "enter" or decision.side is None:
                return
            if trades and trades[0].is_long != (decision.side is Side.BUY):
                return
            if session.no_entry[bar]:
                session.held_back += 1
                return
            used = (
                sum(session.paid(t.entry_price, decision.side) * abs(t.size) for t in trades) / session.costs.leverage
            )
            lots = lots_for(session.outlook(bar, decision, self.equity, used), session.config, session.costs)
            if not lots:
                session.too_small += 1
                return
            self.place(decision, lots)
            session.entries[bar + 1] = (decision, lots)

        def place(self, decision: Decision, lots: float) -> None:
            assert decision.side is not None  # as every entry has
            assert decision.stop_price is not None
            assert decision.take_profit_price is not None
            stop, target = decision.stop_price, decision.take_profit_price
            order = self.buy if decision.side is Side.BUY else self.sell
            order(
                size=round(lots * self.units_per_lot),
                sl=self.session.bid_level(decision.side, stop),
                tp=self.session.bid_level(decision.side, target),
            )

    return ForecastStrategy


def _frame(span: Span) -> "pd.DataFrame":
    import pandas as pd

    prices = span.bars.select("open", "high", "low", "close").to_numpy()
    lead = np.full((LEAD, 4), prices[0, 0])
    step = span.ts_utc[1] - span.ts_utc[0]
    index = pd.DatetimeIndex(np.concatenate((span.ts_utc[:1] - step, span.ts_utc)))
    return pd.DataFrame(np.vstack((lead, prices)), index=index, columns=["Open", "High", "Low", "Close"])


def _result(span: Span, session: _Session, run: "pd.Series[Any]", cash: float) -> BacktestResult:
    strategy = run["_strategy"]
    equity: Floats = run["_equity_curve"]["Equity"].to_numpy()[LEAD:].copy()
    ruin = np.flatnonzero(equity <= 0)
    rows = [_trade_row(span, session, trade) for trade in strategy.closed_trades]
    for trade in strategy.trades:  # closed here, see the module
        if ruin.size:
            rows.append(_trade_row(span, session, trade, at=int(ruin[0]) + LEAD, reason="ruin"))
        else:
            equity[-1] -= session.charge_per_unit * abs(trade.size)
            rows.append(_trade_row(span, session, trade))
    trades = pl.DataFrame(sorted(rows, key=_entered), schema=TRADES_SCHEMA, orient="row")  # by entry
    counted: Stats = {
        "entries_too_small": session.too_small,
        "entries_refused": len(session.entries) - trades.height,
        "entries_held_back": session.held_back,
        "bars_without_forecast": int(span.close.size - span.rows.size),
    }
    stats = summarise(
        ts_utc=span.ts_utc,
        close=span.close,
        equity=equity,
        trades=trades,
        cash=cash,
        ends=span.ends,
        periods_per_year=span.periods_per_year,
        counted=counted,
    )
    return BacktestResult(
        stats=stats, trades=trades, equity=pl.DataFrame({"ts_utc": span.bars["ts_utc"], "equity": equity})
    )


def _entered(row: tuple[Any, ...]) -> int:
    return int(row[2])


def _trade_row(
    span: Span, session: _Session, trade: Any, *, at: int | None = None, reason: str = "end"
) -> tuple[Any, ...]:
    """Return a trade as a row; what the library left open is closed at the close of the bar `at`, or of the last."""
    decision, lots = session.entries[trade.entry_bar]
    costs, symbol = span.costs, span.symbol
    side = Side.BUY if trade.is_long else Side.SELL
    finished = trade.exit_price is not None
    exit_bar = trade.exit_bar if finished else len(session.close) - 1 if at is None else at
    exit_bid = trade.exit_price if finished else session.close[exit_bar]
    bought = entry_price(trade.entry_price, side, costs, symbol)
    closed = exit_price(exit_bid, side, costs, symbol)
    profit = trade_profit(side, lots, bought, closed, costs, symbol)
    return (
        _moment(span, trade.entry_bar),
        _moment(span, exit_bar),
        trade.entry_bar - LEAD,
        exit_bar - LEAD,
        side.value,
        lots,
        bought,
        closed,
        decision.stop_price,
        decision.take_profit_price,
        decision.probability,
        2 * commission(lots, costs),
        0.0,
        profit,
        100 * profit / (abs(trade.size) * bought),
        _exit_reason(session, trade, exit_bid) if finished else reason,
    )


def _exit_reason(session: _Session, trade: Any, exit_bid: float) -> str:
    if trade.entry_bar in session.exits:
        return session.exits[trade.entry_bar]  # its order stands first in the queue of that bar
    decision, _ = session.entries[trade.entry_bar]
    side, target = decision.side, decision.take_profit_price
    assert side is not None  # as every entry has
    assert target is not None
    if side.sign * exit_bid <= side.sign * session.bid_level(side, session.stop(trade.entry_bar)):
        return "stop"
    return "take_profit" if side.sign * exit_bid >= side.sign * session.bid_level(side, target) else "ruin"


def _moment(span: Span, bar: int) -> datetime:
    return from_utc(span.ts_utc[bar - LEAD])
