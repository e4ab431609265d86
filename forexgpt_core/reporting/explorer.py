"""The Pareto explorer: one self-contained page on which a person compares the members of a front and chooses one.

The page asks no network for anything: plotly.js, style and data stand in it, and its content security policy lets
nothing else run. Names and notes come as text, in the heading escaped and elsewhere as one JSON block.
"""

import base64
import hashlib
import html
import math
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from forexgpt_core.reporting.explorer_data import explorer_json
from forexgpt_core.reporting.explorer_document import ExplorerDocument, Objective, Value

_SCRIPTS = ("figures", "state", "front", "table", "account", "member", "compare", "main")  # in the order they run
_NOTHING = "–"
_LABELS = {
    "pbo": "Probability of overfitting",
    "pbo_slope": "Slope of out-of-sample on in-sample Sharpe",
    "pbo_loss_probability": "Probability that the chosen one loses",
    "pbo_days": "Days searched",
    "pbo_blocks": "Blocks compared",
    "trials_ever": "Configurations ever tried",
    "sharpe_std": "Spread of the tried Sharpe ratios",
    "best_of_worthless": "Sharpe of the best of as many worthless ones",
    "fall_apart": "Members that fall apart",
}


def explorer_page(document: ExplorerDocument) -> str:
    """Return the page as HTML: about 5 MB of plotly.js and some 50 kB for each member; small for an empty front."""
    empty = not document.members
    scripts = () if empty else (_plotly(), _script())
    parts = {
        "TITLE": _text(f"{document.symbol} {document.timeframe}: strategies on the Pareto front"),
        "POLICY": " ".join(_hash_source(script) for script in scripts) or "'none'",
        "STYLE": _resource("page.css"),
        "HEADING": _heading(document),
        "CONTENT": _resource("empty.html") if empty else _resource("main.html"),
        "DATA": explorer_json(document),
        "SCRIPTS": "".join(f"<script>{script}</script>" for script in scripts),
    }
    # One pass, so that a name which looks like a placeholder stays a name.
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda found: parts[found[1]], _resource("page.html"))


def honest_line(document: ExplorerDocument) -> str:
    """Return what stands on top: how many were tried, and what the best of as many worthless ones would show."""
    tried = f"{document.trials:,} configuration{' was' if document.trials == 1 else 's were'} tried"
    bar = document.best_of_worthless
    if bar is None or not math.isfinite(bar):
        return f"{tried}; too few to say what Sharpe the best of as many worthless ones would show."
    return f"{tried}; the best of as many worthless ones would show a Sharpe of {bar:.2f}."


def _heading(document: ExplorerDocument) -> str:
    lines = "".join(f"<p class='note'>{_text(note)}</p>" for note in document.notes if note)
    facts = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in _facts(document))
    (from_, until), (later_from, later_until) = document.searched, document.later
    return (
        f"<h1>{_text(document.symbol)} <span>{_text(document.timeframe)}</span></h1>"
        f"<p class='spans'>searched <b>{_text(from_)} to {_text(until)}</b>, then scored on"
        f" <b>{_text(later_from)} to {_text(later_until)}</b></p>"
        f"<p class='verdict' id='honest'><strong>{_text(honest_line(document))}</strong>"
        f" {_text(_standing(document))}</p>"
        f"{lines}<details class='about'><summary>About this search</summary><dl>{facts}</dl></details>"
    )


def _standing(document: ExplorerDocument) -> str:
    """Say how the front itself did, beside the honest line."""
    members = document.members
    sharpes = [one for member in members if (one := _number(member.in_sample.get("sharpe"))) is not None]
    best = f"The best here shows {max(sharpes):.2f} in sample. " if sharpes else ""
    fallen = sum(member.falls_apart for member in members)
    verb = "falls" if fallen == 1 else "fall"
    return f"{best}{fallen} of {len(members)} {verb} apart out of sample." if members else ""


def _facts(document: ExplorerDocument) -> Iterator[tuple[str, str]]:
    yield "Study", document.study
    yield "Money", document.money
    yield "Searched for", ", ".join(_goal(one) for one in document.objectives) or _NOTHING
    for name, value in document.overfitting.items():
        yield _LABELS.get(name, name.replace("_", " ").capitalize()), _shown(value)


def _goal(objective: Objective) -> str:
    wanted = "largest" if objective.goal == "max" else "smallest"
    return f"{wanted} {objective.name.removesuffix('_pct').replace('_', ' ')}"


def _shown(value: Value) -> str:
    if isinstance(value, str | bool):
        return str(value)
    number = _number(value)
    if number is None:
        return _NOTHING
    return f"{number:,.0f}" if number == round(number) and abs(number) > 1 else f"{number:.3g}"


def _number(value: Value) -> float | None:
    if value is None or isinstance(value, str | bool) or not math.isfinite(value):
        return None
    return float(value)


@cache
def _script() -> str:
    body = "\n".join(_resource(f"{name}.js") for name in _SCRIPTS)
    return f'(() => {{\n"use strict";\n{body}\n}})();'


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _hash_source(script: str) -> str:
    """Return the source by which a content security policy allows this very script and no other."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"


@cache
def _resource(name: str) -> str:
    return files("forexgpt_core.reporting").joinpath("explorer_page", name).read_text(encoding="utf-8")


def _text(value: str) -> str:
    return html.escape(value, quote=True)
