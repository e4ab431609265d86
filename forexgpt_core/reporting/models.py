"""What a training run chose, as one picture per family."""

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from forexgpt_core.models.forecaster import Forecaster
from forexgpt_core.models.random_walk import RandomWalk
from forexgpt_core.models.tabular import TabularForecaster, Trial
from forexgpt_core.reporting.canvas import BAND, GOOD, INK, MUTED, SERIES, bars_text, new_figure, png, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BARS_SHOWN = 12
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri")  # each from 17:00 New York of the day before


def training_picture(forecaster: Forecaster, title: str) -> bytes:
    """Return a PNG: the walk's hours and decays, or what the other families tried against it and what they read."""
    figure = new_figure(10, 4.2)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    if isinstance(forecaster, RandomWalk):
        _hours(left, forecaster)
        _decays(right, forecaster)
    elif isinstance(forecaster, TabularForecaster):
        _trials(left, forecaster.fitted.trials)
        _importance(right, forecaster.fitted.importance)
    else:
        left.text(0.5, 0.5, f"{forecaster.family} keeps no record of its training", ha="center")
    for axes in (left, right):
        quiet(axes)
    figure.suptitle(title)
    return png(figure)


def _hours(axes: "Axes", walk: RandomWalk) -> None:
    factor = np.array(walk.walk.hour_factor)
    axes.step(np.arange(factor.size), factor, where="mid", color=INK, linewidth=1.3)
    axes.axhline(1, color=MUTED, linewidth=1, linestyle="--")
    per_day = factor.size / len(_DAYS)
    if per_day >= 1:
        axes.set_xticks([(day + 0.5) * per_day for day in range(len(_DAYS))], _DAYS)
        for day in range(1, len(_DAYS), 2):
            axes.axvspan(day * per_day - 0.5, (day + 1) * per_day - 0.5, color=BAND, alpha=0.5, zorder=0)
    axes.set_ylim(bottom=0)
    axes.set_title("variance by hour of the FX week, 1 is average", fontsize=10)


def _decays(axes: "Axes", walk: RandomWalk) -> None:
    tried = walk.walk.decay_losses
    if len(tried) < 2:
        axes.set_title("rolling volatility: nothing to choose", fontsize=10)
        return
    losses = np.array([loss for _, loss in tried])
    names = [f"{decay:g}" for decay, _ in tried]
    axes.plot(names, losses - losses.min(), color=INK, marker="o", markersize=4)
    axes.plot(names[int(losses.argmin())], 0.0, "o", color=GOOD, label="chosen")
    axes.set_title("log loss of each EWMA decay, above the best", fontsize=10)
    axes.legend(frameon=False)


def _trials(axes: "Axes", trials: list[Trial]) -> None:
    """Draw each candidate's gain on `valid`; the first of a part is the model that learned nothing."""
    series = [list(group) for _, group in groupby(trials, key=lambda t: (t.horizon_bars, t.part))]
    for number, group in enumerate(series):
        gains = [100 * (1 - trial.loss / group[0].loss) for trial in group]
        colour = SERIES[number % len(SERIES)]
        label = f"{group[0].part}, {bars_text(group[0].horizon_bars)}"
        axes.plot(range(len(group)), gains, color=colour, marker=".", label=label)
        chosen = next(place for place, trial in enumerate(group) if trial.chosen)
        axes.plot(chosen, gains[chosen], "o", color=colour, markersize=9, fillstyle="none")
    axes.axhline(0, color=MUTED, linewidth=1, linestyle="--")
    axes.set_xlabel("candidate, freer to the right; ringed: chosen, and only if the gain is clear")
    axes.set_title("gain over the random walk on the tuning rows, %", fontsize=10)
    if series:
        axes.legend(frameon=False, fontsize=8)


def _importance(axes: "Axes", importance: dict[str, float]) -> None:
    total = sum(importance.values())
    if total <= 0:
        axes.set_title("nothing convinced: this model is the random walk", fontsize=10)
        return
    largest = sorted(importance.items(), key=lambda pair: pair[1])[-_BARS_SHOWN:]
    axes.barh([name for name, _ in largest], [100 * value / total for _, value in largest], color=INK)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_title("share of what moves the forecast, %", fontsize=10)
