"""The common look of pictures about forecasts: figure, palette, PNG."""

import io
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GOOD, BAD, MUTED, BAND = "#1f4e79", "#1e8449", "#c0392b", "#8a8f98", "#dfe3e8"
SERIES = ("#1f4e79", "#d9822b", "#1e8449", "#8e44ad", "#c0392b", "#16a5a5", "#7f6a3f", "#5d6d7e", "#e377c2", "#9a9a00")
_DPI = 110


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of that many inches, drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def quiet(axes: "Axes") -> None:
    """Give axes a light grid behind the data and no frame on top and right."""
    axes.grid(color="#e6e8eb", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def png(figure: "Figure") -> bytes:
    """Return the figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def bars_text(horizon_bars: int) -> str:
    """Return '1 bar' or 'h bars'."""
    return "1 bar" if horizon_bars == 1 else f"{horizon_bars} bars"


def p_text(value: float | None) -> str:
    """Return a p-value as people write it; 'too few' where there was too little to test."""
    if value is None or math.isnan(value):
        return "too few"
    return "<.001" if value < 0.001 else f"{value:.3f}"
