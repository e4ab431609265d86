"""The interactive plot of backtesting.py for a backtest of the engine, as one page that needs no network."""

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from forexgpt_core.backtest import kernc
from forexgpt_core.backtest.performance import drawdown
from forexgpt_core.backtest.result import BacktestResult
from forexgpt_core.backtest.span import Span
from forexgpt_core.domain.orders import Side
from forexgpt_core.strategy.config import StrategyConfig

if TYPE_CHECKING:
    import pandas as pd
    from backtesting import Backtest

MOST_BARS = 10_000  # a browser draws that many at once
_PERIODS = ("1min", "5min", "15min", "30min", "1h", "4h", "1D", "7D", "28D")
_EXACT = ("entry_bar", "exit_bar", "side", "lots", "exit_reason")
_CLOSE = ("entry_price", "exit_price", "profit")


@dataclass(frozen=True, slots=True, kw_only=True)
class InteractivePlot:
    """A page, or the reason why there is none.

    Attributes:
        html: the page; None where there is none.
        said: what the page shows and what it leaves out, or the reason.
    """

    html: str | None
    said: str


def interactive_plot(
    span: Span, config: StrategyConfig, result: BacktestResult, cash: float = 100_000.0, *, title: str = "backtest"
) -> InteractivePlot:
    """Return the library's plot of a run, if the library makes the very same trades.

    The strategy runs on `backtest.kernc` without the broker's stop-out, which the library lacks. The trades drawn
    are those of `result`, costs in their prices and returns, with those that the end closed. Above MOST_BARS it draws
    longer bars, and the trades that were closed in one of them as one.

    Args:
        result: of `engine.run_span` with the same span, configuration and cash.
    """
    if result.trades.height == 0:
        return InteractivePlot(html=None, said="no interactive plot: the strategy made no trade")
    library = replace(span, costs=replace(span.costs, stop_out=0.0))
    if missing := kernc.unsaid(library.costs, span.symbol):
        return InteractivePlot(html=None, said=f"no interactive plot: backtesting.py cannot count {missing}")
    try:
        backtest, theirs = kernc.run_with_plot(library, config, cash=cash)
    except ValueError as error:  # a level at the last close, to the last bit
        return InteractivePlot(html=None, said=f"no interactive plot: backtesting.py refuses an order: {error}")
    if different := first_difference(result.trades, theirs.trades):
        return InteractivePlot(html=None, said=f"no interactive plot: backtesting.py trades otherwise, {different}")
    period = _period(span)
    shown = f"{span.close.size:,} bars" + (f", drawn in bars of {period}" if period else "")
    added = " added up by bar" if period else ""
    said = f"{shown} at the bid, {result.trades.height:,} trades{added} at the prices paid"
    return InteractivePlot(html=_page(backtest, result, period, f"{title}: {said}"), said=said)


def first_difference(ours: pl.DataFrame, theirs: pl.DataFrame) -> str:
    """Return the first trade that two tables do not share, in words; empty where they are the same."""
    both = min(ours.height, theirs.height)
    one, other = ours.head(both), theirs.head(both)
    same = np.ones(both, dtype=np.bool_)
    for name in _EXACT:
        same &= (one[name] == other[name]).to_numpy()
    for name in _CLOSE:
        same &= np.isclose(one[name].to_numpy(), other[name].to_numpy(), rtol=1e-9, atol=1e-6)
    if not same.all():
        row = int(np.argmin(same))
        return f"first in trade {row + 1}: {_told(other, row)}, here {_told(one, row)}"
    if ours.height != theirs.height:
        longer, whose = (ours, "here") if ours.height > theirs.height else (theirs, "there")
        return f"first in trade {both + 1}: {_told(longer, both)} {whose} alone"
    return ""


def _told(trades: pl.DataFrame, row: int) -> str:
    t = trades.row(row, named=True)
    return (
        f"{t['side']} {t['lots']:g} lots at {t['entry_price']:.6g} on {t['entry_utc']:%Y-%m-%d %H:%M},"
        f" {t['exit_reason']} at {t['exit_price']:.6g} on {t['exit_utc']:%Y-%m-%d %H:%M}"
    )


def _period(span: Span) -> str | None:
    """Return the shortest period that leaves few enough bars; None where the bars are few enough as they are."""
    if span.close.size <= MOST_BARS:
        return None
    import pandas as pd

    micros = span.ts_utc.astype(np.int64)
    for period in _PERIODS:
        if np.unique(micros // (pd.Timedelta(period).value // 1000)).size <= MOST_BARS:
            return period
    return _PERIODS[-1]


def _page(backtest: "Backtest", result: BacktestResult, period: str | None, title: str) -> str:
    from backtesting import _plotting
    from backtesting._util import patch
    from bokeh.document import Document
    from bokeh.embed import file_html
    from bokeh.layouts import column
    from bokeh.models.widgets import Div
    from bokeh.resources import INLINE

    run = backtest._results.copy()
    run["_equity_curve"] = _account_drawn(run["_equity_curve"], result)
    run["_trades"] = _trades_drawn(run["_equity_curve"].index, result)
    # The library writes a file into the present folder, and the document it shows calls its author's site.
    with warnings.catch_warnings(), patch(_plotting, "show", lambda *_, **__: None):
        warnings.simplefilter("ignore")
        grid = backtest.plot(
            results=run, filename="backtest", superimpose=False, resample=period or False, open_browser=False
        )
    page = Document(title=title)
    page.add_root(column(Div(text=title), grid, sizing_mode="stretch_width"))
    return str(file_html(page, INLINE, title=title))


def _account_drawn(curve: "pd.DataFrame", result: BacktestResult) -> "pd.DataFrame":
    """Return the library's account with the equity of the result, which has paid for what the end closed."""
    equity = np.concatenate((curve["Equity"].to_numpy()[: kernc.LEAD], result.equity["equity"].to_numpy()))
    return curve.assign(Equity=equity, DrawdownPct=drawdown(equity))


def _trades_drawn(index: "pd.DatetimeIndex", result: BacktestResult) -> "pd.DataFrame":
    """Return trades as the library lists them: one bar, the lead bar of `kernc`, is before theirs."""
    import pandas as pd

    rows = result.trades
    entry, exit_ = (rows[name].to_numpy() + kernc.LEAD for name in ("entry_bar", "exit_bar"))
    side = np.where(rows["side"].to_numpy() == Side.BUY.value, 1.0, -1.0)
    columns = {
        "Size": side * rows["lots"].to_numpy(),
        "EntryBar": entry,
        "ExitBar": exit_,
        "EntryPrice": rows["entry_price"].to_numpy(),
        "ExitPrice": rows["exit_price"].to_numpy(),
        "PnL": rows["profit"].to_numpy(),
        "ReturnPct": rows["return_pct"].to_numpy() / 100,
        "EntryTime": index[entry],
        "ExitTime": index[exit_],
        "Duration": index[exit_] - index[entry],
    }
    return pd.DataFrame(columns)
