"""What a backtest returns, whichever engine ran it."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from forexgpt_core.backtest.performance import Floats, Ints, Stats, Times, curve_stats, trade_stats

TRADES_SCHEMA: dict[str, pl.DataType] = {
    "entry_utc": pl.Datetime("us", "UTC"),
    "exit_utc": pl.Datetime("us", "UTC"),
    "entry_bar": pl.Int64(),
    "exit_bar": pl.Int64(),
    "side": pl.String(),
    "lots": pl.Float64(),
    "entry_price": pl.Float64(),
    "exit_price": pl.Float64(),
    "stop_price": pl.Float64(),
    "take_profit_price": pl.Float64(),
    "probability": pl.Float64(),
    "commission": pl.Float64(),
    "swap": pl.Float64(),
    "profit": pl.Float64(),
    "return_pct": pl.Float64(),
    "exit_reason": pl.String(),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BacktestResult:
    """One strategy over one span of bars. Money is in account currency.

    Attributes:
        stats: JSON-safe figures, None where undefined (see `summarise`).
        trades: columns of TRADES_SCHEMA in order of entry. Bars are rows of `equity`; times are the opens of the bars
            that filled; prices include spread and slippage; profit is net of both commissions and has the swap in it;
            return_pct is profit over entry notional; exit_reason is "stop", "take_profit", "holding limit", "opposite
            signal", "stop_out" (the broker closed it), "end" (closed at the last close of the span) or "ruin" (equity
            reached 0).
        equity: `ts_utc, equity`, the account at the close of the bar opened at ts_utc, open positions marked at what
            closing them would bring before slippage and commission.
    """

    stats: Stats
    trades: pl.DataFrame
    equity: pl.DataFrame


def summarise(
    *,
    ts_utc: Times,
    close: Floats,
    equity: Floats,
    trades: pl.DataFrame,
    cash: float,
    ends: Ints,
    periods_per_year: int,
    counted: Stats,
) -> Stats:
    """Return the figures of a run.

    return_pct, max_drawdown_pct, sharpe and sortino are those of `performance.curve_stats`; trades, win_rate_pct and
    profit_factor those of `performance.trade_stats`; exposure_pct is the share of bars with a position open at any
    moment; commission is money; buy_hold_return_pct is one unit bought at the first close, without costs; start and
    end are bar opens. `counted` is added as it is.
    """
    inside = np.zeros(close.size + 1, dtype=np.int64)
    np.add.at(inside, trades["entry_bar"].to_numpy(), 1)
    np.add.at(inside, trades["exit_bar"].to_numpy() + 1, -1)
    profit = trades["profit"].to_numpy()
    return {
        **curve_stats(equity, cash, ends, periods_per_year),
        **trade_stats(profit),
        "average_trade_pct": float(trades["return_pct"].to_numpy().mean()) if trades.height else None,
        "exposure_pct": float((np.cumsum(inside)[:-1] > 0).mean()) * 100,
        "commission": float(trades["commission"].sum()),
        "final_equity": float(equity[-1]),
        **describe(ts_utc, close, cash),
        **counted,
    }


def describe(ts_utc: Times, close: Floats, cash: float) -> Stats:
    """Return what is true of a span whatever was traded on it: cash, the unit bought and held, first and last bar."""
    return {
        "cash": cash,
        "buy_hold_return_pct": float(close[-1] / close[0] - 1) * 100,
        "start": str(np.datetime_as_string(ts_utc[0], unit="s")) + "Z",
        "end": str(np.datetime_as_string(ts_utc[-1], unit="s")) + "Z",
        "bars": int(close.size),
    }
