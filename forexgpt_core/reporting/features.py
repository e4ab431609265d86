"""Pictures of the feature table. Imports matplotlib, so import this module on use."""

import io

import numpy as np
import polars as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_TIME_BINS = 120
_MOST_SHOWN = 80  # a picture of a thousand columns is read by nobody


def coverage_picture(features: pl.DataFrame, title: str) -> bytes:
    """Return a PNG of the share of finite values: per column on the left, over time on the right.

    Of more than 80 columns those with the fewest values are shown, in their own order, and the title says so.

    Args:
        features: `ts_utc` and one float column per feature.
    """
    names = [name for name in features.columns if name != "ts_utc"]
    heading = f"{title}: {features.height:,} rows, {len(names)} features"
    if len(names) > _MOST_SHOWN:
        names = _least_covered(features, names)
        heading += f", the {_MOST_SHOWN} with the fewest values"
    finite = features.select(pl.col(names).is_finite().fill_null(False)).to_numpy() if names else np.empty((0, 0), bool)
    height = 1.6 + 0.16 * max(len(names), 6)
    figure = Figure(figsize=(12, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(heading)
    if finite.size == 0:
        figure.text(0.5, 0.5, "no rows yet", ha="center", va="center")
        return _png(figure)
    by_column, over_time = figure.subplots(1, 2, width_ratios=(1, 2), sharey=True)
    places = np.arange(len(names))
    by_column.barh(places, finite.mean(axis=0), color="#4c72b0")
    by_column.set(xlim=(0, 1), xlabel="share of rows with a value", yticks=places)
    by_column.set_yticklabels(names, fontsize=7)
    by_column.invert_yaxis()
    shares, edges = _over_time(finite)
    picture = over_time.imshow(
        shares.T, aspect="auto", vmin=0, vmax=1, cmap="viridis", interpolation="nearest", origin="upper"
    )
    ticks = np.linspace(0, shares.shape[0] - 1, min(6, shares.shape[0])).round().astype(np.int64)
    times = features["ts_utc"].to_numpy().astype("datetime64[D]")[edges[ticks]]
    over_time.set_xticks(ticks, [str(day) for day in times])
    over_time.set_xlabel("from (UTC)")
    figure.colorbar(picture, ax=over_time, label="share of rows with a value", fraction=0.03)
    return _png(figure)


def _least_covered(features: pl.DataFrame, names: list[str]) -> list[str]:
    shares = features.select(pl.col(names).is_finite().fill_null(False).mean()).row(0)
    least = sorted(range(len(names)), key=lambda place: (shares[place], place))[:_MOST_SHOWN]
    return [names[place] for place in sorted(least)]


def _over_time(finite: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.int64]]:
    """Return the share of True in up to 120 equal stretches of rows, (bins, columns), and the first row of each."""
    bins = min(_TIME_BINS, finite.shape[0])
    edges = np.linspace(0, finite.shape[0], bins + 1).astype(np.int64)
    sums = np.add.reduceat(finite.astype(np.float64), edges[:-1], axis=0)
    return sums / np.diff(edges)[:, None], edges[:-1]


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue()
