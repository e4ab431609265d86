"""Pictures of an ensemble."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.errors import BadInput
from forexgpt_core.reporting.canvas import MUTED, SERIES, new_figure, png, quiet

_POINTS_DRAWN = 1500  # about one per pixel


def weights_picture(
    origin_utc: NDArray[np.datetime64], weights: NDArray[np.float64], names: Sequence[str], title: str
) -> bytes:
    """Return a PNG of each member's weight over time beside the equal weight, with its newest weight.

    Lines and not a stack: weights by inverse loss differ by a few percent, which a stack would hide.

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
    times = origin_utc.astype("datetime64[us]")[rows]
    equal = 1 / len(names)
    axes.axhline(equal, color=MUTED, linewidth=1, linestyle="--", label=f"equal weights  {100 * equal:.1f} %")
    for place in np.argsort(-weights[:, -1], kind="stable"):
        label = f"{names[place]}  {100 * weights[place, -1]:.1f} %"
        axes.plot(times, weights[place, rows], color=SERIES[place % len(SERIES)], linewidth=1.5, label=label)
    reach = max(0.02, 1.08 * float(np.abs(weights - equal).max()))
    axes.set_ylim(max(equal - reach, 0), min(equal + reach, 1))
    axes.margins(x=0)
    axes.set_ylabel("weight")
    dates = AutoDateLocator(minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(dates)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(dates))
    axes.set_title(f"{title}: weight of each member, from errors known at that time", fontsize=11)
    quiet(axes)
    figure.legend(loc="outside right center", frameon=False, title="newest weight", alignment="left")
    return png(figure)
