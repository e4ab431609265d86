"""The picture of a backtest, and the parts of pictures over time."""

import io
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from forexgpt_core.backtest.performance import StatValue, drawdown
from forexgpt_core.backtest.result import BacktestResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _LOSS, _WIN, _MUTED = "#1f4e79", "#c0392b", "#1e8449", "#8a8f98"
_DPI = 110


def equity_picture(result: BacktestResult, title: str) -> bytes:
    """Return a PNG: equity with trades shaded by outcome, drawdown below, profit of every trade at the bottom."""
    figure, (equity, fall, profits) = dated_figure(rows=3, ratios=(3, 1.1, 1.3))
    draw_equity(equity, result.equity, title)
    _shade_trades(equity, result)
    draw_drawdown(fall, result.equity)
    _draw_profits(profits, result.trades)
    _caption(figure, result.stats)
    return png(figure)


def dated_figure(rows: int, ratios: tuple[float, ...]) -> "tuple[Figure, list[Axes]]":
    """Return axes over one another on a common axis of dates."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1 + 1.05 * sum(ratios)), dpi=_DPI, layout="constrained")
    axes = list(figure.subplots(rows, 1, sharex=True, height_ratios=ratios))
    for one in axes:
        one.grid(color="#e6e8eb", linewidth=0.7)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
        one.margins(x=0.01)
    dates = AutoDateLocator(minticks=4, maxticks=9)
    axes[-1].xaxis.set_major_locator(dates)
    axes[-1].xaxis.set_major_formatter(ConciseDateFormatter(dates))
    return figure, axes


def times_of(frame: pl.DataFrame, column: str = "ts_utc") -> "np.ndarray[tuple[int], np.dtype[np.datetime64]]":
    """Return a column of UTC times as matplotlib reads them."""
    return frame[column].dt.replace_time_zone(None).to_numpy()


def draw_equity(axes: "Axes", curve: pl.DataFrame, title: str) -> None:
    """Draw `ts_utc, equity`."""
    axes.plot(times_of(curve), curve["equity"].to_numpy(), color=_INK, linewidth=1.3)
    axes.axhline(float(curve["equity"][0]), color=_MUTED, linewidth=0.8, linestyle="--")
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.set_ylabel("equity")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}")


def _shade_trades(axes: "Axes", result: BacktestResult) -> None:
    """Colour the background while a position is open: one collection per outcome, not one patch per trade."""
    times = times_of(result.equity)
    for won, colour in ((True, _WIN), (False, _LOSS)):
        chosen = result.trades.filter((pl.col("profit") > 0) == won)
        inside = np.zeros(times.size + 1, dtype=np.int64)
        np.add.at(inside, chosen["entry_bar"].to_numpy(), 1)
        np.add.at(inside, chosen["exit_bar"].to_numpy(), -1)
        open_here = np.cumsum(inside)[:-1] > 0
        label = f"{'winning' if won else 'losing'} trades ({chosen.height})"
        axes.fill_between(
            times,
            0,
            1,
            where=open_here,
            step="post",
            transform=axes.get_xaxis_transform(),
            color=colour,
            alpha=0.13,
            linewidth=0,
            label=label,
        )
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=8, frameon=False, ncols=2)


def draw_drawdown(axes: "Axes", curve: pl.DataFrame) -> None:
    """Draw what is lost since the highest of `ts_utc, equity`, in per cent."""
    fall = -100 * drawdown(curve["equity"].to_numpy())
    axes.fill_between(times_of(curve), fall, 0, color=_LOSS, alpha=0.3, linewidth=0)
    axes.set_ylim(top=0, bottom=min(1.05 * float(fall.min()), -0.1))
    axes.set_ylabel("drawdown %")


def _draw_profits(axes: "Axes", trades: pl.DataFrame) -> None:
    axes.set_ylabel("profit of trade")
    axes.axhline(0, color=_MUTED, linewidth=0.8)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if trades.height == 0:
        axes.set_yticks([])
        axes.text(0.5, 0.6, "no trades", transform=axes.transAxes, ha="center", va="center", color=_MUTED)
        return
    profit = trades["profit"].to_numpy()
    axes.vlines(times_of(trades, "exit_utc"), 0, profit, colors=np.where(profit > 0, _WIN, _LOSS), linewidth=1.1)


def _caption(figure: "Figure", stats: dict[str, StatValue]) -> None:
    shown = (
        ("return", "return_pct", "{:+.2f} %"),
        ("drawdown", "max_drawdown_pct", "{:.2f} %"),
        ("Sharpe", "sharpe", "{:.2f}"),
        ("trades", "trades", "{}"),
        ("win rate", "win_rate_pct", "{:.0f} %"),
        ("profit factor", "profit_factor", "{:.2f}"),
        ("buy and hold", "buy_hold_return_pct", "{:+.2f} %"),
    )
    parts = [f"{name} {'–' if stats[key] is None else form.format(stats[key])}" for name, key, form in shown]
    figure.supxlabel("   ·   ".join(parts), fontsize=9, color="#333333")


def png(figure: "Figure") -> bytes:
    """Return the figure as PNG bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
