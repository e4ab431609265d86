"""Pictures of candles."""

import io

import numpy as np
import polars as pl

_COLUMNS_DRAWN = 1500  # about one per pixel; more bars than that are drawn as the range of each column


def price_with_gaps(bars: pl.DataFrame, gaps: pl.DataFrame, title: str) -> bytes:
    """Return a PNG of the price over time with the missing bars marked.

    Args:
        bars: lawful bars, any number of them.
        gaps: `start_utc, end_utc, missing_bars` as `candles.gaps.find_gaps` returns them.
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
    if gaps.height:
        starts, ends = (gaps[c].dt.replace_time_zone(None).to_numpy() for c in ("start_utc", "end_utc"))
        axes.broken_barh(
            list(zip(starts, ends - starts)),
            (0, 1),
            transform=axes.get_xaxis_transform(),
            facecolor="tab:red",
            edgecolor="tab:red",
            alpha=0.5,
            linewidth=0.5,
            label="missing bars",
        )
    missing = int(gaps["missing_bars"].sum())
    axes.set_title(f"{title}: {bars.height:,} bars, {missing:,} missing in {gaps.height:,} gaps")
    axes.set_xlabel("UTC")
    axes.set_ylabel("price")
    axes.margins(x=0.005)
    axes.grid(alpha=0.3)
    if bars.height:
        axes.legend(loc="upper left")
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


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
