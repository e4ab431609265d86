"""Picture of a drift report."""

import math

import numpy as np

from forexgpt_core.evaluation.drift import DriftReport
from forexgpt_core.reporting.canvas import BAD, INK, MUTED, new_figure, p_text, png, quiet

_MOST_COLUMNS = 25
_LEAST_P = 1e-6


def drift_picture(report: DriftReport, title: str) -> bytes:
    """Return a PNG: per feature how far its location moved and how sure that is; the alarm and the errors above."""
    columns = report.columns[:_MOST_COLUMNS]
    figure = new_figure(10, 1.9 + 0.27 * len(columns))
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(columns))
    colours = [BAD if c.drifted else MUTED for c in columns]
    left.barh(places, [100 * c.location_shift for c in columns], color=colours, height=0.65)
    left.axvline(0, color=INK, linewidth=1)
    reach = max(10.0, 1.1 * max(abs(100 * c.location_shift) for c in columns))
    left.set_xlim(-reach, reach)
    left.set_xlabel("location shift: P(now > before) − 50 %, points")
    left.set_yticks(places, [c.name for c in columns], fontsize=8)
    left.set_ylim(len(columns) - 0.4, -0.6)
    evidence = [-math.log10(max(c.p_adjusted, _LEAST_P)) for c in columns]
    right.barh(places, evidence, color=colours, height=0.65)
    limit = -math.log10(report.feature_level)
    right.axvline(limit, color=BAD, linewidth=1, linestyle="--", label=f"alarm at p = {report.feature_level:g}")
    right.set_xlim(0, max(1.15 * max(evidence), 1.6 * limit))
    right.set_xlabel("evidence: −log10 of the adjusted p, location and spread")
    right.legend(loc="lower right", frameon=False, fontsize=8)
    for axes in (left, right):
        quiet(axes)
        axes.tick_params(axis="y", length=0)
    figure.suptitle(f"{title}: {'DRIFT' if report.drifted else 'no drift'}\n{_errors(report)}", fontsize=11)
    return png(figure)


def _errors(report: DriftReport) -> str:
    count = f"{len(report.drifted_columns)} of {len(report.columns)} features drifted"
    hidden = len(report.columns) - _MOST_COLUMNS
    drawn = f", {hidden} with the largest p not drawn" if hidden > 0 else ""
    if math.isnan(report.loss_p):
        return f"{count}{drawn}; too few errors have matured to judge them"
    return f"{count}{drawn}; errors {100 * report.loss_shift:+.1f} % (one-sided p {p_text(report.loss_p)})"
