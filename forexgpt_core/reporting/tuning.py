"""A picture of a search of options."""

from collections.abc import Mapping
from typing import Any

from forexgpt_core.reporting.canvas import INK, MUTED, SERIES, new_figure, png, quiet


def tuning_picture(document: Mapping[str, Any], title: str) -> bytes:
    """Return a PNG of the mean CRPS of every option set over the folds it was tried on, against that of those in use.

    Args:
        document: see `hyperparameters.TuningResult.document`.
    """
    figure = new_figure(9, 3.6)
    axes = figure.add_subplot()
    for pruned, colour, label in ((True, MUTED, "given up early"), (False, SERIES[0], "ran to the end")):
        trials = [one for one in document["trials"] if one["pruned"] is pruned]
        means = [sum(one["crps_by_fold"]) / len(one["crps_by_fold"]) for one in trials]
        axes.plot([one["number"] for one in trials], means, "o", color=colour, markersize=5, label=label)
    axes.axhline(document["usual"]["crps"], color=INK, linewidth=1, label="options in use")
    axes.set_xlabel("proposal")
    axes.set_ylabel("CRPS, reference scales")
    axes.set_title(f"{title}: {document['tried']} option sets tried", fontsize=11)
    axes.legend(fontsize=8, frameon=False)
    quiet(axes)
    return png(figure)
