"""The picture of a portfolio."""

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from forexgpt_core.backtest.portfolio_result import PortfolioResult
from forexgpt_core.reporting.backtest import dated_figure, draw_drawdown, draw_equity, png, times_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STRETCHES = 300  # as many as the picture can show


def portfolio_picture(result: PortfolioResult, title: str) -> bytes:
    """Return a PNG: equity, drawdown, and below them the net exposure of each currency over time."""
    figure, (equity, fall, exposed) = dated_figure(rows=3, ratios=(3, 1.1, 1.9))
    draw_equity(equity, result.equity, title)
    draw_drawdown(fall, result.equity)
    _draw_exposure(exposed, result.exposure)
    _caption(figure, result)
    return png(figure)


def _draw_exposure(axes: "Axes", exposure: pl.DataFrame) -> None:
    """Draw a strip of colour for each currency: lines would cover one another, positions come and go too fast."""
    every = max(1, exposure.height // _STRETCHES)
    numbered = exposure.with_row_index("n").group_by(pl.col("n") // every, maintain_order=True)
    drawn = numbered.agg(pl.col("ts_utc").first(), pl.exclude("n", "ts_utc").mean())
    currencies = exposure.columns[1:]
    values = drawn.select(currencies).to_numpy().T
    most = max(float(np.abs(values).max()), 1e-9)
    places = np.arange(len(currencies))
    axes.pcolormesh(times_of(drawn), places, values, cmap="RdBu", vmin=-most, vmax=most, shading="nearest")
    axes.set_yticks(places, currencies, fontsize=8)
    axes.grid(visible=False)
    said = f"net exposure, mean of {every} bars: blue long, red short, full colour at {most:.1f} times equity"
    axes.set_title(said, loc="left", fontsize=8)


def _caption(figure: "Figure", result: PortfolioResult) -> None:
    shown = (
        ("return", "return_pct", "{:+.2f} %"),
        ("drawdown", "max_drawdown_pct", "{:.2f} %"),
        ("Sharpe", "sharpe", "{:.2f}"),
        ("trades", "trades", "{}"),
        ("pairs", "pairs", "{}"),
        ("risk a year", "risk_pct", "{:.1f} %"),
        ("sum of the pairs' risks", "summed_risk_pct", "{:.1f} %"),
    )
    stats = result.stats
    parts = [f"{name} {'–' if stats[key] is None else form.format(stats[key])}" for name, key, form in shown]
    figure.supxlabel("   ·   ".join(parts), fontsize=9, color="#333333")
