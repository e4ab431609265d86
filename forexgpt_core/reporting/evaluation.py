"""Pictures and pages of an evaluation: reliability, skill, leaderboard, report card."""

import base64
import html
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.domain.forecasts import INTERVALS, ForecastBatch
from forexgpt_core.evaluation.probability_integral import pit
from forexgpt_core.evaluation.report_card import SIGNIFICANT, HorizonScore, Leaderboard
from forexgpt_core.evaluation.scores import coverage
from forexgpt_core.reporting.canvas import BAND, INK, MUTED, SERIES, bars_text, new_figure, p_text, png, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

_PIT_BINS = 20
_STYLE = (
    "body{font-family:system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;font-size:.9rem;width:100%}th,td{padding:.3rem .6rem;border-bottom:1px solid #ddd;"
    "text-align:right;white-space:nowrap}th:first-child,td:first-child{text-align:left}.shown td{background:#eaf6ee}"
    "img{max-width:100%}.verdict{font-size:1.15rem;background:#f4f6f8;border-left:4px solid #1f4e79;padding:.8rem 1rem}"
    ".warning{border-left:4px solid #c0392b;background:#fdf1ef;padding:.6rem 1rem}figure{margin:1.5rem 0}"
    ".wide{overflow-x:auto}"
)


def reliability_and_pit_picture(forecasts: ForecastBatch, returns: Floats, title: str) -> bytes:
    """Return a PNG: how far coverage is from nominal at 50, 80, 90 and 95 %, and the PIT histogram, per horizon.

    Bars and band hold 95 % of what a perfect forecaster would show, counting origins whose labels do not overlap.
    """
    figure = new_figure(11, 4.6)
    left, right = figure.subplots(1, 2)
    figure.suptitle(f"{title}: {len(forecasts):,} forecasts", fontsize=11)
    _draw_coverage(left, forecasts, returns)
    _draw_pit(right, forecasts, pit(forecasts, returns))
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 8), frameon=False)
    return png(figure)


def _draw_coverage(axes: "Axes", forecasts: ForecastBatch, returns: Floats) -> None:
    observed = coverage(forecasts, returns)
    places = np.arange(len(INTERVALS), dtype=np.float64)
    nominal = np.array(list(INTERVALS)) / 100
    horizons = forecasts.horizons_bars
    for column, horizon in enumerate(horizons):
        miss = np.array([observed[percent][column] for percent in INTERVALS]) - nominal
        error = 1.96 * np.sqrt(nominal * (1 - nominal) * horizon / len(forecasts))
        axes.errorbar(
            places + 0.14 * (column - (len(horizons) - 1) / 2),
            100 * miss,
            yerr=100 * error,
            fmt="o",
            color=SERIES[column % len(SERIES)],
            capsize=3,
            markersize=5,
            elinewidth=1.2,
            label=bars_text(horizon),
        )
    axes.axhline(0, color=INK, linewidth=1)
    axes.set_xticks(places, [f"{percent} %" for percent in INTERVALS])
    axes.set_xlabel("nominal coverage of the central interval")
    axes.set_ylabel("observed minus nominal, percentage points")
    axes.set_title("Reliability: above 0 too wide, below 0 too narrow", fontsize=10)
    reach = max(1.0, *(abs(limit) for limit in axes.get_ylim()))
    axes.set_ylim(-reach, reach)
    quiet(axes)


def _draw_pit(axes: "Axes", forecasts: ForecastBatch, values: Floats) -> None:
    edges = np.linspace(0, 1, _PIT_BINS + 1)
    independent = max(len(forecasts) / forecasts.horizons_bars[-1], 1.0)
    spread = 1.96 * math.sqrt((_PIT_BINS - 1) / independent)
    axes.axhspan(max(1 - spread, 0), 1 + spread, color=BAND, linewidth=0)
    axes.axhline(1, color=INK, linewidth=1)
    highest = 1.0
    for column in range(values.shape[1]):
        density = np.histogram(values[:, column], bins=edges)[0] * _PIT_BINS / len(values)
        highest = max(highest, float(density.max()))
        axes.stairs(density, edges, color=SERIES[column % len(SERIES)], linewidth=1.4, baseline=None)
    axes.set_ylim(0, max(1.6, 1.1 * highest))
    axes.set_xlim(0, 1)
    axes.set_xlabel("PIT: probability given to values up to the return")
    axes.set_ylabel("density")
    axes.set_title(
        f"PIT: flat is right; band: sampling at {bars_text(forecasts.horizons_bars[-1])}",
        fontsize=10,
    )
    quiet(axes)


def skill_picture(scores: Sequence[HorizonScore], title: str) -> bytes:
    """Return a PNG of the skill over the random walk with its 95 % interval, per family and horizon, against 0."""
    families = list(dict.fromkeys(s.family for s in scores))
    horizons = sorted({s.horizon_bars for s in scores})
    colours = {h: SERIES[i % len(SERIES)] for i, h in enumerate(horizons)}
    figure = new_figure(9, 1.7 + 0.24 * len(scores) + 0.2 * len(families))
    axes = figure.add_subplot()
    axes.axvline(0, color=INK, linewidth=1)
    place, ticks = 0.0, []
    for family in families:
        card = sorted((s for s in scores if s.family == family), key=lambda s: s.horizon_bars)
        ticks.append(place + (len(card) - 1) / 2)
        for score in card:
            _draw_skill(axes, score, place, colours[score.horizon_bars])
            place += 1
        place += 0.9
    for h in horizons:
        axes.plot([], [], "o", color=colours[h], markersize=6, label=bars_text(h))
    axes.set_yticks(ticks, families)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(place - 0.9, -1)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -0.2), max(high, 0.2))
    axes.set_xlabel("skill in CRPS over the random walk, % (filled: the whole 95 % interval lies above 0)")
    axes.set_title(f"{title}: skill over the random walk", fontsize=11)
    quiet(axes)
    figure.legend(loc="outside lower center", ncols=min(len(horizons), 8), frameon=False)
    return png(figure)


def _draw_skill(axes: "Axes", score: HorizonScore, place: float, colour: str) -> None:
    if score.equals_reference:
        axes.plot([0], [place], "D", color=MUTED, markersize=5)
        return
    axes.plot([100 * score.skill_low, 100 * score.skill_high], [place, place], color=colour, linewidth=1.6)
    face = colour if score.skill_low > 0 else "white"
    axes.plot([100 * score.skill], [place], "o", color=colour, markerfacecolor=face, markersize=6)


_COLUMNS = (
    "family",
    "rank",
    "horizon, bars",
    "skill (95 % interval), %",
    "p (Holm)",
    "p, no overlap",
    "coverage 90, %",
    "direction, %",
    "forecasts (independent)",
)


def leaderboard_markdown(leaderboard: Leaderboard) -> str:
    """Return verdict, warnings and table as Markdown; shown skill is bold."""
    lines = [f"**{leaderboard.verdict}**", ""]
    lines += [f"- {text}" for text in leaderboard.warnings] + ([""] if leaderboard.warnings else [])
    lines += ["| " + " | ".join(_COLUMNS) + " |", "|" + "|".join(["---"] + ["--:"] * (len(_COLUMNS) - 1)) + "|"]
    for shown, cells in _rows(leaderboard):
        marked = [f"**{cells[0]}**", *cells[1:3], f"**{cells[3]}**", *cells[4:]] if shown else cells
        lines.append("| " + " | ".join(marked) + " |")
    if leaderboard.absent:
        lines += ["", f"Not evaluated on these data: {', '.join(leaderboard.absent)}."]
    return "\n".join(lines) + "\n"


def _rows(leaderboard: Leaderboard) -> list[tuple[bool, list[str]]]:
    shown = set(leaderboard.shown_skill)
    rows = []
    for row in leaderboard.rows:
        for score, p in zip(row.scores, row.holm_p, strict=True):
            interval = f"{100 * score.skill:+.2f} ({100 * score.skill_low:+.2f} to {100 * score.skill_high:+.2f})"
            cells = [
                score.family,
                str(row.rank),
                str(score.horizon_bars),
                "reference" if score.equals_reference else interval,
                "–" if score.equals_reference else p_text(p),
                "–" if score.equals_reference else p_text(score.dm_p_nonoverlapping),
                f"{100 * score.coverage_90:.1f}",
                _share(score.direction, score.direction_se),
                f"{score.n:,} ({score.n_independent:,})",
            ]
            rows.append(((score.family, score.horizon_bars) in shown, cells))
    return rows


def _share(value: float | None, error: float | None) -> str:
    if value is None or error is None or math.isnan(value):
        return "no call"
    return f"{100 * value:.1f} ± {196 * error:.1f}"


def report_card_html(
    scores: Sequence[HorizonScore],
    leaderboard: Leaderboard,
    pictures: Mapping[str, bytes] | None = None,
    *,
    title: str = "Report card",
) -> str:
    """Return one self-contained page: verdict, leaderboard, pictures (PNG by caption) and every score."""
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p class='verdict'>{html.escape(leaderboard.verdict)}</p>",
        *(f"<p class='warning'>{html.escape(text)}</p>" for text in leaderboard.warnings),
        _html_table(_COLUMNS, _rows(leaderboard)),
        f"<p>Shaded: interval above 0 and p below {SIGNIFICANT:g} after Holm's correction over all comparisons.</p>",
    ]
    if leaderboard.absent:
        parts.append(f"<p>Not evaluated on these data: {html.escape(', '.join(leaderboard.absent))}.</p>")
    for caption, data in (pictures or {}).items():
        source = base64.b64encode(data).decode("ascii")
        text = html.escape(caption, quote=True)
        parts.append(f"<figure><img alt='{text}' src='data:image/png;base64,{source}'></figure>")
    if scores:
        names = tuple(scores[0].to_dict())
        every = [(False, [_number(value) for value in s.to_dict().values()]) for s in scores]
        parts += ["<h2>Every score</h2>", "<div class='wide'>" + _html_table(names, every) + "</div>"]
    head = f"<meta charset='utf-8'><title>{html.escape(title)}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>"


def _html_table(names: Sequence[str], rows: Sequence[tuple[bool, Sequence[str]]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr{' class=shown' if shown else ''}>" + "".join(f"<td>{html.escape(c)}</td>" for c in cells) + "</tr>"
        for shown, cells in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _number(value: str | float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
