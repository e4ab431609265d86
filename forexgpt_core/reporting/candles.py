"""Pictures of candles."""

import io
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CAUSE_COLOURS = {"holiday": "tab:green", "weekend": "tab:purple", "rollover": "tab:orange", "provider": "tab:red"}
_LONG_HOLES = 20  # of the provider are drawn large
_COLUMNS_DRAWN = 1500  # about one per pixel; more bars than that are drawn as the range of each column


def price_with_gaps(bars: pl.DataFrame, gaps: pl.DataFrame, title: str) -> bytes:
    """Return a PNG of the price over time with the missing bars marked.

    Args:
        bars: lawful bars, any number of them.
        gaps: `start_utc, end_utc, missing_bars` as `candles.gaps.find_gaps` returns them, and the `cause` of each as
            `candles.causes` tells it, where it is known; each cause has its colour and its own row of marks.
        title: drawn above; the counts follow it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    drawn = _drawn(bars)
    times = drawn["ts_utc"].dt.replace_time_zone(None).to_numpy()
    axes.fill_between(times, drawn["low"], drawn["high"], color="tab:blue", alpha=0.35, linewidth=0, step="post")
    axes.plot(times, drawn["close"], color="tab:blue", linewidth=0.8, label="close, and range of the bars")
    _mark_gaps(axes, gaps)
    missing = int(gaps["missing_bars"].sum())
    axes.set_title(f"{title}: {bars.height:,} bars, {missing:,} missing in {gaps.height:,} gaps")
    axes.set_xlabel("UTC")
    axes.set_ylabel("price")
    axes.margins(x=0.005)
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom - 0.1 * (top - bottom), top)  # room for the rows of marks
    axes.grid(alpha=0.3)
    if bars.height:
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def _mark_gaps(axes: "Axes", gaps: pl.DataFrame) -> None:
    """Mark missing bars, each cause in a row of its own; the provider's long holes over the whole height besides."""
    known = gaps if "cause" in gaps.columns else gaps.with_columns(cause=pl.lit("provider"))
    for row, (cause, colour) in enumerate(_CAUSE_COLOURS.items()):
        some = known.filter(pl.col("cause") == cause)
        if some.height:
            missing, times = int(some["missing_bars"].sum()), "1 gap" if some.height == 1 else f"{some.height:,} gaps"
            label = f"{cause}: {missing:,} missing in {times}"
            _band(axes, some, (0.01 + 0.025 * row, 0.02), colour, alpha=0.9, label=label)
    hour = pl.col("end_utc") - pl.col("start_utc") >= pl.duration(hours=1)
    long = known.filter((pl.col("cause") == "provider") & hour).sort("missing_bars", descending=True)
    _band(axes, long.head(_LONG_HOLES), (0, 1), _CAUSE_COLOURS["provider"], alpha=0.3, label=None)


def _band(
    axes: "Axes", gaps: pl.DataFrame, rows: tuple[float, float], colour: str, *, alpha: float, label: str | None
) -> None:
    """Draw gaps at a height of the axes, from 0 to 1."""
    starts, ends = (gaps[c].dt.replace_time_zone(None).to_numpy() for c in ("start_utc", "end_utc"))
    axes.broken_barh(
        list(zip(starts, ends - starts)),
        rows,
        transform=axes.get_xaxis_transform(),
        facecolor=colour,
        edgecolor=colour,
        alpha=alpha,
        linewidth=0.5,
        label=label,
    )


def _drawn(bars: pl.DataFrame) -> pl.DataFrame:
    """Return at most _COLUMNS_DRAWN rows: the range and last close of equally many bars each."""
    if bars.height <= _COLUMNS_DRAWN:
        return bars.select("ts_utc", "high", "low", "close")
    column = pl.Series("column", np.arange(bars.height) * _COLUMNS_DRAWN // bars.height)
    return (
        bars.with_columns(column)
        .group_by("column", maintain_order=True)
        .agg(pl.col("ts_utc").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last())
    )
