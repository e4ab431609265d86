"""Pictures of a training campaign."""

from collections.abc import Mapping, Sequence

import numpy as np

from forexgpt_core.errors import BadInput
from forexgpt_core.optimisation.campaign_selection import Cell
from forexgpt_core.reporting.canvas import bars_text, new_figure, png

MOST_ROWS = 40
_LEAST_REACH = 0.5  # percent of skill at which colours are full, however small all of it is


def skill_by_regime_picture(cells: Sequence[Cell], titles: Mapping[str, str], title: str) -> bytes:
    """Return a PNG: skill over the random walk of each member (rows) in each regime and at each horizon (columns).

    A dot marks the best of its column and market, a star one whose Holm-adjusted p is below .05. Members that are best
    somewhere come first, then those with the highest mean skill, 40 in all.

    Args:
        titles: of each member, by its hash.

    Raises:
        BadInput: there are no cells.
    """
    if not cells:
        raise BadInput("no member of the campaign was judged in any regime, so there is nothing to draw")
    by_member: dict[str, list[Cell]] = {}
    for cell in cells:
        by_member.setdefault(cell.member, []).append(cell)
    order = sorted(by_member, key=lambda name: _rank(by_member[name]))
    drawn = order[:MOST_ROWS]
    columns = sorted({(cell.horizon_bars, cell.regime) for cell in cells})
    skill = np.full((len(drawn), len(columns)), np.nan)
    figure = new_figure(4.5 + 0.55 * len(columns), 2.4 + 0.3 * len(drawn))
    axes = figure.add_subplot()
    for row, name in enumerate(drawn):
        for cell in by_member[name]:
            column = columns.index((cell.horizon_bars, cell.regime))
            skill[row, column] = 100 * cell.skill
            if cell.best:
                axes.text(column, row, "★" if cell.holm_p < 0.05 else "•", ha="center", va="center", fontsize=11)
    reach = max(_LEAST_REACH, float(np.nanmax(np.abs(skill))))
    image = axes.imshow(skill, cmap="RdBu", vmin=-reach, vmax=reach, aspect="auto")
    axes.set_facecolor("#dfe3e8")
    axes.set_xticks(
        range(len(columns)), [f"{regime}, {bars_text(h)}" for h, regime in columns], rotation=60, ha="right"
    )
    axes.set_yticks(range(len(drawn)), [titles[name] for name in drawn])
    axes.tick_params(labelsize=8, length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="skill over the random walk, %", shrink=0.8)
    more = f"; {len(order) - len(drawn)} more members not drawn" if len(order) > len(drawn) else ""
    axes.set_title(f"{title}: • best in its regime, ★ shown to beat the walk{more}", fontsize=10, loc="left")
    return png(figure)


def _rank(cells: Sequence[Cell]) -> tuple[bool, float]:
    return (not any(cell.best for cell in cells), -float(np.mean([cell.skill for cell in cells])))
