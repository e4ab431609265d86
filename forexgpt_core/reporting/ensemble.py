"""Pictures of an ensemble."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.errors import BadInput
from forexgpt_core.reporting.canvas import SERIES, new_figure, png, quiet

_POINTS_DRAWN = 1500  # about one per pixel


def weights_picture(
    origin_utc: NDArray[np.datetime64], weights: NDArray[np.float64], names: Sequence[str], title: str
) -> bytes:
    """Return a PNG of the members' weights over time, stacked to 1, each with its newest weight.

    Args:
        origin_utc: (n,) in time order.
        weights: (k, n).
        names: k members.

    Raises:
        BadInput: the three do not fit.
    """
    if weights.shape != (len(names), len(origin_utc)) or not weights.size:
        raise BadInput(f"weights have shape {weights.shape}, expected {(len(names), len(origin_utc))} and some rows")
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    rows = np.unique(np.linspace(0, len(origin_utc) - 1, min(len(origin_utc), _POINTS_DRAWN)).astype(np.int64))
    figure = new_figure(10, 4.2)
    axes = figure.add_subplot()
    colours = [SERIES[i % len(SERIES)] for i in range(len(names))]
    labels = [f"{name}  {100 * w:.0f} %" for name, w in zip(names, weights[:, -1], strict=True)]
    times = origin_utc.astype("datetime64[us]")[rows]
    axes.stackplot(times, weights[:, rows], colors=colours, labels=labels, alpha=0.85, linewidth=0)
    axes.axhline(0, color="white", linewidth=0)
    for edge in np.cumsum(weights[:, rows], axis=0)[:-1]:
        axes.plot(times, edge, color="white", linewidth=1)
    axes.set_ylim(0, 1)
    axes.margins(x=0)
    axes.set_ylabel("weight")
    dates = AutoDateLocator(minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(dates)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(dates))
    axes.set_title(f"{title}: weight of each member, from errors known at that time", fontsize=11)
    quiet(axes)
    handles, shown = axes.get_legend_handles_labels()
    figure.legend(
        handles[::-1], shown[::-1], loc="outside right center", frameon=False, title="newest weight", alignment="left"
    )
    return png(figure)
