"""The report card at a glance: one picture, drawn from the card's JSON document alone."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from forexgpt_core.reporting.canvas import BAD, BAND, INK, MUTED, SERIES, bars_text, new_figure, png, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = Mapping[str, Any]
Entry = Mapping[str, Any]

_LINE = 135  # characters of the verdict in a line


def report_picture(document: Document) -> bytes:
    """Return a PNG: verdict, skill, coverage, direction, and what is lost out of sample."""
    entries = [entry for family in document["families"] for entry in family["horizons"]]
    horizons = sorted({entry["score"]["horizon_bars"] for entry in entries})
    names = [family["family"] for family in document["families"]]
    figure = new_figure(12, 10.5 + 0.16 * max(len(entries) - 12, 0))
    verdict = textwrap.fill(document["verdict"], _LINE)
    figure.suptitle(f"{document['symbol']} {document['timeframe']}\n{verdict}", fontsize=10.5, x=0.01, ha="left")
    panels = figure.subplots(3, 2, height_ratios=(1.2, 1, 1))
    colours = {h: SERIES[n % len(SERIES)] for n, h in enumerate(horizons)}
    _draw_skill(panels[0, 0], names, entries, colours)
    _draw_direction(panels[0, 1], names, entries, colours)
    _draw_coverage(panels[1, 0], names, entries, colours)
    told = next((f for f in document["families"] if f["family"] == document["told"]), None)
    _draw_groups(panels[1, 1], told, colours)
    _draw_lost(panels[2, 0], entries, colours)
    _write_money(panels[2, 1], document)
    for horizon, colour in colours.items():
        panels[0, 0].plot([], [], "o", color=colour, label=bars_text(horizon))
    if horizons:
        figure.legend(loc="outside lower center", ncols=min(len(horizons), 10), frameon=False)
    return png(figure)


def _rows(axes: "Axes", names: Sequence[str], entries: Sequence[Entry]) -> list[tuple[float, Entry]]:
    """Return the place of every entry, top down, and label the families."""
    places, ticks, place = [], [], 0.0
    for name in names:
        card = [entry for entry in entries if entry["score"]["family"] == name]
        ticks.append(place + (len(card) - 1) / 2)
        places += [(place + number, entry) for number, entry in enumerate(card)]
        place += len(card) + 0.8
    axes.set_yticks(ticks, [name.replace("_", " ") for name in names])
    axes.set_ylim(max(place - 0.8, 1), -1)
    axes.tick_params(axis="y", length=0)
    return places


def _draw_skill(axes: "Axes", names: Sequence[str], entries: Sequence[Entry], colours: Mapping[int, str]) -> None:
    axes.axvline(0, color=INK, linewidth=1)
    for place, entry in _rows(axes, names, entries):
        score, colour = entry["score"], colours[entry["score"]["horizon_bars"]]
        if entry["equals_reference"]:
            axes.plot([0], [place], "D", color=MUTED, markersize=5)
            continue
        axes.plot([100 * score["skill_low"], 100 * score["skill_high"]], [place] * 2, color=colour, linewidth=1.6)
        face = colour if entry["shown"] else "white"
        axes.plot([100 * score["skill"]], [place], "o", color=colour, markerfacecolor=face, markersize=6)
    _finish(axes, "Skill over the random walk, % (filled: shown after correction)")


def _draw_direction(axes: "Axes", names: Sequence[str], entries: Sequence[Entry], colours: Mapping[int, str]) -> None:
    axes.axvline(50, color=INK, linewidth=1)
    for place, entry in _rows(axes, names, entries):
        called, colour = entry["direction"], colours[entry["score"]["horizon_bars"]]
        if called["hit_rate"] is None:
            axes.text(50, place, "  no call", color=MUTED, fontsize=8, va="center")
            continue
        error = 196 * (called["standard_error"] or 0.0)
        axes.errorbar([100 * called["hit_rate"]], [place], xerr=[error], fmt="o", color=colour, capsize=2, markersize=5)
        axes.plot([100 * called["by_chance"]], [place], "|", color=MUTED, markersize=11, markeredgewidth=2)
        if called["detectable"] is not None:
            axes.plot([100 * called["detectable"]], [place], "|", color=BAD, markersize=11, markeredgewidth=2)
    _finish(axes, "Right signs, % (grey: by chance; red: detectable from)")


def _draw_coverage(axes: "Axes", names: Sequence[str], entries: Sequence[Entry], colours: Mapping[int, str]) -> None:
    axes.axvline(90, color=INK, linewidth=1)
    for place, entry in _rows(axes, names, entries):
        colour = colours[entry["score"]["horizon_bars"]]
        axes.plot([100 * entry["coverage_low"], 100 * entry["coverage_high"]], [place] * 2, color=BAND, linewidth=6)
        face = colour if entry["calibrated"] else "white"
        axes.plot([100 * entry["score"]["coverage_90"]], [place], "o", color=colour, markerfacecolor=face, markersize=6)
    _finish(axes, "90 % intervals cover, % (band: 99 %; hollow: 90 lies outside)")


def _draw_groups(axes: "Axes", family: Entry | None, colours: Mapping[int, str]) -> None:
    rows = [] if family is None else [r for r in family["coverage"] if r["coverage_percent"] == 90]
    deciles = [r for r in rows if r["condition"] == "volatility_decile"]
    name = "" if family is None else family["family"].replace("_", " ")
    if not deciles:
        _say(axes, f"No volatility deciles of {name or 'any family'}; the page says why.")
        return
    axes.axhline(90, color=INK, linewidth=1)
    for number, (horizon, colour) in enumerate(colours.items()):
        here = sorted((r for r in deciles if r["horizon_bars"] == horizon), key=lambda r: int(r["group"]))
        if not here:
            continue
        low, mid, high = (
            100 * np.array([r[key] for r in here]) for key in ("coverage_low", "coverage", "coverage_high")
        )
        x = np.array([int(r["group"]) for r in here]) + 0.15 * (number - (len(colours) - 1) / 2)
        reach = np.maximum(np.vstack([mid - low, high - mid]), 0)
        axes.errorbar(x, mid, yerr=reach, fmt="o", color=colour, markersize=4, capsize=2, elinewidth=0.9)
    axes.set_xticks(range(1, 11))
    axes.set_xlabel("volatility decile, 1 calmest", fontsize=9)
    quiet(axes)
    axes.set_title(f"90 % intervals of {name} by volatility", fontsize=10)


def _draw_lost(axes: "Axes", entries: Sequence[Entry], colours: Mapping[int, str]) -> None:
    kept = [entry for entry in entries if entry["degradation"]]
    if not kept:
        _say(axes, "No in-sample skill to compare with; the page says why.")
        return
    names = list(dict.fromkeys(entry["score"]["family"] for entry in kept))
    axes.axvline(0, color=INK, linewidth=1)
    for place, entry in _rows(axes, names, kept):
        lost, colour = entry["degradation"], colours[entry["score"]["horizon_bars"]]
        inside, outside = 100 * lost["in_sample_skill"], 100 * lost["out_of_sample_skill"]
        axes.annotate(
            "",
            xy=(outside, place),
            xytext=(inside, place),
            arrowprops={"arrowstyle": "->", "color": BAD if entry["overfitted"] else colour},
        )
        axes.plot([inside], [place], "s", color=colour, markersize=4)
        axes.plot([outside], [place], "o", color=colour, markersize=5)
    _finish(axes, "Skill, %: from rows fitted on (square) to later ones (red: overfitted)")


def _write_money(axes: "Axes", document: Document) -> None:
    lines = []
    if one := document["backtest"]:
        lines += [
            f"Backtest: {_figure(one['return_pct'], '+.1f', ' %')} after cost, {one['trades']} trades",
            f"break-even cost {_figure(one['break_even_pips'], '.2f', ' pips')}, paid"
            f" {_figure(one['cost_pips'], '.2f', ' pips')}, turnover"
            f" {_figure(one['turnover_per_year'], ',.0f')} a year",
            f"Sharpe {_figure(one['sharpe'], '.2f')}, probabilistic {_figure(one['probabilistic_sharpe'], '.2f')},"
            f" deflated {_figure(one['deflated_sharpe'], '.2f')}",
            "",
        ]
    if one := document["search"]:
        lines += [
            f"Search: best deflated Sharpe (a probability) {_figure(one['deflated_sharpe'], '.2f')} after"
            f" {one['trials_ever']:,} trials",
            f"probability of overfitting {_figure(one['pbo'], '.2f')}, {one['fall_apart']} of {one['members']} members"
            " fall apart",
            "",
        ]
    lines += [f"WARNING: {line}" for line in document["warnings"][:2]]
    lines.append(f"{len(document['unsaid'])} things this card cannot say: see the end of the page.")
    _say(axes, "\n".join(textwrap.fill(line, 68) for line in lines))
    axes.set_title("Money", fontsize=10)


def _figure(value: float | None, how: str, unit: str = "") -> str:
    return "undefined" if value is None else f"{value:{how}}{unit}"


def _say(axes: "Axes", text: str) -> None:
    axes.set_axis_off()
    axes.text(0, 0.95, text, fontsize=9.5, va="top", transform=axes.transAxes)


def _finish(axes: "Axes", title: str) -> None:
    quiet(axes)
    axes.set_title(title, fontsize=10)
