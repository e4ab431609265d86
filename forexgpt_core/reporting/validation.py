"""Pictures of validation: skill on every path of cross-validation."""

import numpy as np
import polars as pl

from forexgpt_core.evaluation.cross_validation import CrossValidation
from forexgpt_core.reporting.canvas import INK, MUTED, SERIES, bars_text, new_figure, png, quiet


def path_rows(found: CrossValidation) -> pl.DataFrame:
    """Return `family, path, horizon_bars, skill`, one row per backtest path and horizon."""
    skill, horizons = found.skill, found.windows.arrays.horizons_bars
    return pl.DataFrame(
        {
            "family": [found.family] * skill.size,
            "path": np.repeat(np.arange(len(skill)), len(horizons)),
            "horizon_bars": np.tile(np.array(horizons, dtype=np.int64), len(skill)),
            "skill": skill.reshape(-1),
        }
    )


def paths_picture(found: CrossValidation, title: str) -> bytes:
    """Return a PNG of the skill over the random walk of every path, by horizon, with their mean, against 0."""
    skill, horizons = found.skill, found.windows.arrays.horizons_bars
    figure = new_figure(9, 1.8 + 0.5 * len(horizons))
    axes = figure.add_subplot()
    axes.axvline(0, color=INK, linewidth=1)
    for column in range(len(horizons)):
        places = column + np.linspace(-0.18, 0.18, len(skill)) if len(skill) > 1 else np.array([column])
        axes.plot(100 * skill[:, column], places, "o", color=SERIES[column % len(SERIES)], markersize=5, alpha=0.75)
        axes.plot([100 * skill[:, column].mean()] * 2, [column - 0.3, column + 0.3], color=MUTED, linewidth=2)
    axes.set_yticks(range(len(horizons)), [bars_text(h) for h in horizons])
    axes.set_ylim(len(horizons) - 0.5, -0.5)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -0.2), max(high, 0.2))
    axes.set_xlabel("skill in CRPS over the random walk, %, one point per backtest path; bar: their mean")
    axes.set_title(f"{title}: {len(skill)} paths of combinatorial purged cross-validation", fontsize=11)
    quiet(axes)
    return png(figure)
