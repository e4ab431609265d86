"""Pictures of a Pareto front."""

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.backtest.performance import Stats
from forexgpt_core.optimisation.pareto import ParetoResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _LATER, _MUTED = "#1f4e79", "#d35400", "#b5bac2"
_MARKERS = {"knee": "*", "ideal": "D", "best_sharpe": "^", "lowest_drawdown": "s", "best": "^"}
_DPI = 110


def front_picture(result: ParetoResult, title: str) -> bytes:
    """Return a PNG: return over drawdown in and out of sample, Sharpe of one over the other, and the hypervolume.

    Left: a line ties what a member promised to what it did later. Middle: members below the diagonal did worse later.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4.9), dpi=_DPI, layout="constrained")
    promised, kept, history = figure.subplots(1, 3, width_ratios=(1.35, 1, 0.8))
    _draw_promise(promised, result)
    _draw_sharpe(kept, result)
    _draw_history(history, result)
    for axes in (promised, kept, history):
        axes.grid(color="#e6e8eb", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(_headline(result, title), x=0.01, ha="left", fontsize=11, fontweight="bold")
    figure.supxlabel(_footnote(result), fontsize=9, color="#333333")
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _headline(result: ParetoResult, title: str) -> str:
    return f"{title}: {len(result.members)} members out of {result.trials} configurations tried"


def _footnote(result: ParetoResult) -> str:
    parts = f"searched until {result.searched_utc[1]:%Y-%m-%d}, scored from {result.later_utc[0][0]:%Y-%m-%d}"
    gained = sum(_number(member.out_of_sample, "return_pct") > 0 for member in result.members)
    text = f"{parts}, purge {result.purge_bars} bars; {gained} of {len(result.members)} members gained later"
    return f"{text}; {result.note}" if result.note else text


def _draw_promise(axes: "Axes", result: ParetoResult) -> None:
    tried = [trial.in_sample for trial in result.evaluated]
    before, after = [m.in_sample for m in result.members], [m.out_of_sample for m in result.members]
    axes.scatter(_column(tried, "max_drawdown_pct"), _column(tried, "return_pct"), s=8, color=_MUTED, label="tried")
    for one, two in zip(before, after):
        axes.annotate("", _point(two), _point(one), arrowprops={"arrowstyle": "-", "color": _MUTED, "linewidth": 0.8})
    axes.scatter(*_points(before), s=34, color=_INK, label="front, in sample", zorder=3)
    axes.scatter(*_points(after), s=34, facecolors="white", edgecolors=_LATER, label="same, later", zorder=3)
    axes.axhline(0, color="#555555", linewidth=0.8)
    for how, hash12 in result.picks.items():
        chosen, marker = result.member(hash12), _MARKERS[how]
        drawdown, gain = _point(chosen.in_sample)
        label = f"{how.replace('_', ' ')} {chosen.hash12[:6]}"
        marks = axes.scatter([drawdown], [gain], s=150, marker=marker, label=label, linewidths=1.2, zorder=4)
        marks.set(facecolor="none", edgecolor="black")
    axes.set_xlabel("max drawdown %")
    axes.set_ylabel("return %")
    axes.legend(fontsize=8, frameon=False, loc="best")


def _draw_sharpe(axes: "Axes", result: ParetoResult) -> None:
    before = _column([m.in_sample for m in result.members], "sharpe")
    after = _column([m.out_of_sample for m in result.members], "sharpe")
    both = np.concatenate((before, after, [0.0]))
    room = 0.06 * (np.ptp(both) or 1.0)
    ends = (both.min() - room, both.max() + room)
    axes.plot(ends, ends, color=_MUTED, linewidth=1, linestyle="--")
    axes.axhline(0, color="#555555", linewidth=0.8)
    axes.scatter(before, after, s=34, color=_LATER, zorder=3)
    axes.set(xlim=ends, ylim=ends, xlabel="Sharpe in sample", ylabel="Sharpe later")


def _draw_history(axes: "Axes", result: ParetoResult) -> None:
    from matplotlib.ticker import MaxNLocator

    share = 100 * np.array(result.hypervolume)
    axes.plot(np.arange(1, share.size + 1), share, color=_INK, marker="o", markersize=3.5)
    axes.set(xlabel="generation", ylabel="hypervolume, % of the box tried", ylim=(0, 100))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _number(stats: Stats, name: str) -> float:
    value = stats[name]
    return float(value) if isinstance(value, int | float) else 0.0  # undefined, as the search counts it


def _column(stats: list[Stats], name: str) -> NDArray[np.float64]:
    return np.array([_number(one, name) for one in stats])


def _points(stats: list[Stats]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return _column(stats, "max_drawdown_pct"), _column(stats, "return_pct")


def _point(stats: Stats) -> tuple[float, float]:
    return _number(stats, "max_drawdown_pct"), _number(stats, "return_pct")
