"""A picture of live trading: price with entries and exits above, equity below."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from forexgpt_core.domain.orders import Fill, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class EquityPoint:
    """Equity at the close of a bar, in quote currency."""

    ts_utc: datetime
    equity: float


def live_picture(equity: Sequence[EquityPoint], fills: Sequence[Fill], candles: pl.DataFrame, title: str) -> bytes:
    """Return a PNG of the closes with every fill, and the equity with its worst fall shaded.

    Args:
        equity: in time order; may be empty.
        fills: of the same pair; purchases point up, sales down, protective exits are hollow.
        candles: bars of the range to show.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    FigureCanvasAgg(figure)
    price, money = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    price.plot(candles["ts_utc"].to_numpy(), candles["close"].to_numpy(), color="0.45", linewidth=0.8)
    for side, marker, colour in ((Side.BUY, "^", "tab:green"), (Side.SELL, "v", "tab:red")):
        for decided in (True, False):
            shown = [f for f in fills if f.side is side and (f.reason == "market") is decided]
            if shown:
                label = f"{side.value}, {'market' if decided else 'stop or target'} ({len(shown)})"
                style = {"facecolors": colour} if decided else {"facecolors": "none"}
                times = [f.filled_utc.replace(tzinfo=None) for f in shown]
                price.scatter(
                    times, [float(f.price) for f in shown], marker=marker, edgecolors=colour, s=36, label=label, **style
                )
    if fills:
        price.legend(loc="best", fontsize=8)
    price.set_title(title)
    price.set_ylabel("bid price")
    if equity:
        curve = pl.DataFrame(
            {"ts": [p.ts_utc.replace(tzinfo=None) for p in equity], "equity": [p.equity for p in equity]}
        )
        peak = curve["equity"].cum_max()
        money.plot(curve["ts"].to_numpy(), curve["equity"].to_numpy(), color="tab:blue", linewidth=1.0)
        money.fill_between(
            curve["ts"].to_numpy(), curve["equity"].to_numpy(), peak.to_numpy(), color="tab:red", alpha=0.15
        )
    money.set_ylabel("equity (quote currency)")
    locator = AutoDateLocator()
    money.xaxis.set_major_locator(locator)
    money.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    money.set_xlabel("UTC")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()
