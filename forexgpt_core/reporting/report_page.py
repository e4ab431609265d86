"""The report card as one self-contained page, drawn from the card's JSON document alone.

Every number stands in a span that names its place in the document (`data-at`) and how it was written (`data-as`), so
page and JSON cannot say different things.
"""

import base64
import html
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from forexgpt_core.reporting.canvas import p_text

Document = Mapping[str, Any]
Place = tuple[str | int, ...]

_STYLE = (
    "body{font-family:system-ui,sans-serif;margin:2rem auto;max-width:84rem;padding:0 1rem;color:#222;line-height:1.4}"
    "h1{font-size:1.5rem}h2{font-size:1.15rem;margin:2.2rem 0 .2rem}"
    ".how{color:#555;font-size:.9rem;margin:.2rem 0 .7rem}"
    "table{border-collapse:collapse;font-size:.85rem;width:100%}"
    "th,td{padding:.25rem .5rem;border-bottom:1px solid #ddd;"
    "text-align:right;white-space:nowrap}th{background:#f4f6f8;font-weight:600;white-space:normal;vertical-align:bottom}"
    "th:first-child,td:first-child{text-align:left}.shown td{background:#eaf6ee}.off td{background:#fdf1ef}"
    ".verdict{font-size:1.1rem;background:#f4f6f8;border-left:4px solid #1f4e79;padding:.8rem 1rem}"
    ".warning{border-left:4px solid #c0392b;background:#fdf1ef;padding:.6rem 1rem}.wide{overflow-x:auto}"
    "img{max-width:100%}figure{margin:1.2rem 0}li{margin:.2rem 0}details{margin:.6rem 0}summary{cursor:pointer}"
)

FORMATS: Mapping[str, Callable[[Any], str]] = {
    "text": lambda v: str(v).replace("_", " "),
    "count": lambda v: f"{v:,.0f}",
    "skill": lambda v: f"{100 * v:+.2f}",
    "share": lambda v: f"{100 * v:.1f}",
    "percent": lambda v: f"{v:+.1f}",
    "plain": lambda v: f"{v:.1f}",
    "p": p_text,
    "basis": lambda v: f"{1e4 * v:.2f}",
    "nats": lambda v: f"{v:+.4f}",
    "ratio": lambda v: f"{v:.2f}",
}
NOTHING = "–"
_Column = tuple[str, str]  # a heading, and "place:format" of one or more numbers in literal text


def at(document: Any, place: Iterable[str | int]) -> Any:
    """Return what stands at a place of a document; None where the way there ends early."""
    for step in place:
        if document is None:
            return None
        document = document[step]
    return document


def report_page(document: Document, pictures: Mapping[str, bytes] | None = None) -> str:
    """Return the page.

    Args:
        document: `ReportCard.to_dict()`, or the same read back from JSON.
        pictures: PNG by caption.
    """
    title = f"Report card {document['symbol']} {document['timeframe']}"
    body = [
        f"<h1>{_text(title)}</h1>",
        f"<p class='verdict'>{_text(document['verdict'])}</p>",
        *(f"<p class='warning'>{_text(line)}</p>" for line in document["warnings"]),
        f"<p class='how'>Out-of-sample forecasts of origins from {_text(document['first_utc'])} to"
        f" {_text(document['last_utc'])}, refitted in every fold, beside {_text(document['reference'])}."
        f" Not evaluated on these data: {_text(', '.join(document['absent']) or 'none')}.</p>",
        *(_figure(caption, data) for caption, data in (pictures or {}).items()),
        *(section(document) for section in _SECTIONS),
    ]
    head = f"<meta charset='utf-8'><title>{_text(title)}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(body)}</body></html>"


def _skill(document: Document) -> str:
    columns = (
        ("family", "../../family:text"),
        ("rank", "../../rank:count"),
        ("bars", "score/horizon_bars:count"),
        ("CRPS, bp (reference)", "score/crps:basis (score/crps_reference:basis)"),
        ("skill, % (95 % interval)", "score/skill:skill (score/skill_low:skill to score/skill_high:skill)"),
        ("p, Holm", "holm_p:p"),
        ("p, no overlap", "score/dm_p_nonoverlapping:p"),
        ("log score gain, nats", "log_score_gain:nats"),
        ("WQL, skill %", "wql_skill:skill"),
        ("interval score 90, skill %", "interval_skill_90:skill"),
        ("R², %", "r2:skill"),
        ("MAE, skill %", "mae_skill:skill"),
        ("RMSE, skill %", "rmse_skill:skill"),
        ("MAPE, % (skill %)", "score/mape:skill (mape_skill:skill)"),
        ("origins (apart, worth)", "score/n:count (score/n_independent:count, effective_observations:count)"),
    )
    return _section(
        "Skill over the random walk",
        "Skill is 1 - loss / loss of the reference: above 0 is better. Shaded: the interval lies above 0 and p is below"
        " .05 after correction for every comparison. R² and the errors of a single number are against no change; on FX"
        " they lie near 0. Rows overlap: 'apart' share no bar, 'worth' is how many independent ones the mean rests on.",
        _table(document, columns, _entries(document), lambda place: "shown" if at(document, (*place, "shown")) else ""),
    )


def _calibration(document: Document) -> str:
    columns = (
        ("family", "../../family:text"),
        ("bars", "score/horizon_bars:count"),
        ("90 % covers (99 % band)", "score/coverage_90:share (coverage_low:share to coverage_high:share)"),
        ("50 %", "score/coverage_50:share"),
        ("80 %", "score/coverage_80:share"),
        ("95 %", "score/coverage_95:share"),
        ("width 90, bp", "score/width_90:basis"),
        ("PIT p, apart (rows)", "pit/independent/p_value:p (pit/independent/rows:count)"),
        ("PIT p, blocks", "pit/overlapping/p_value:p"),
        ("worst volatility decile", "worst/0/group:text covers worst/0/coverage:share"),
        ("worst session", "worst/1/group:text covers worst/1/coverage:share"),
        ("calibrator", "../../calibrator:text"),
    )
    off = lambda place: "" if at(document, (*place, "calibrated")) else "off"  # noqa: E731
    return _section(
        "Calibration",
        "A 90 % interval should hold 90 % of what came. Shaded: 90 lies outside the band of what was seen. Low PIT p:"
        " outcomes are not spread evenly over the forecast probabilities. Width is what the coverage costs: of two that"
        " cover alike, the narrower is better. Bands of deciles and sessions are wider: all 15 of a horizon keep"
        " theirs in 99 of 100 right forecasters.",
        _table(document, columns, _entries(document), off) + "".join(_groups(document)),
    )


def _groups(document: Document) -> Iterable[str]:
    columns = (
        ("group", "condition:text group:text"),
        ("bars", "horizon_bars:count"),
        ("interval, %", "coverage_percent:count"),
        ("covers, %", "coverage:share"),
        ("band, %", "coverage_low:share to coverage_high:share"),
        ("width, bp", "width:basis"),
        ("origins (apart)", "n:count (n_independent:count)"),
    )

    def off(place: Place) -> str:
        row = at(document, place)
        return "" if row["coverage_low"] <= row["coverage_percent"] / 100 <= row["coverage_high"] else "off"

    for number, family in enumerate(document["families"]):
        rows = [("families", number, "coverage", row) for row in range(len(family["coverage"]))]
        if rows:
            table = _table(document, columns, rows, off)
            yield (
                f"<details><summary>{_text(family['family'])}: coverage by volatility decile"
                f" (1 calmest, 10 wildest) and trading session</summary>{table}</details>"
            )


def _direction(document: Document) -> str:
    columns = (
        ("family", "../../family:text"),
        ("bars", "score/horizon_bars:count"),
        ("right, %", "direction/hit_rate:share"),
        ("by chance, %", "direction/by_chance:share"),
        ("p", "direction/p_value:p"),
        ("calls (apart)", "direction/calls:count (direction/independent_calls:count)"),
        ("detectable from, %", "direction/detectable:share"),
        ("calls that would show it", "needed_calls:count"),
        ("pays from, %", "break_even_direction:share"),
        ("trades won, % (before cost)", "score/win_rate:share"),
        ("profit factor (before cost)", "score/profit_factor:ratio"),
        ("bars that did not move", "direction/unmoved:count"),
    )
    return _section(
        "Direction",
        "How often the sign of the median was right. A true hit rate below 'detectable' would go unseen by this many"
        " calls (5 %, power 80 %): then 'not shown' is no proof of absence. Equal bets earn their cost from 'pays' on.",
        _table(document, columns, _entries(document)),
    )


def _sets(document: Document) -> str:
    rows: list[Place] = [
        ("sets", number, "set_p", name) for number, one in enumerate(document["sets"]) for name in one["set_p"]
    ]
    lines = []
    for place in rows:
        one, name = at(document, place[:2]), str(place[-1])
        cells = [
            _text(name),
            _number(document, (*place[:2], "horizon_bars"), "count"),
            _number(document, place, "p"),
            "yes" if name in one["included"] else "no",
            "yes" if name in one["superior"] else ("reference" if name == document["reference"] else "no"),
            _number(document, (*place[:2], "superior_p"), "p"),
            _number(document, (*place[:2], "rows"), "count"),
            _number(document, (*place[:2], "rows_averaged"), "count"),
        ]
        lines.append(("", cells))
    heads = (
        "family",
        "bars",
        "p of being the best",
        "in the 95 % set",
        "better than the reference",
        "p of none better",
    )
    return _section(
        "Which may be the best",
        "The model confidence set holds the best family in 95 of 100 cases: one in it may be the best, one that is not"
        " is worse. 'None better' is Hansen's test of superior predictive ability over all families tried. Each horizon"
        " is judged by itself: of several, one may seem better by luck, which the verdict allows for.",
        _grid((*heads, "shared origins", "averaged by"), lines),
    )


def _regimes(document: Document) -> str:
    rows: list[tuple[str, list[str]]] = []
    for place in _entries(document):
        found = at(document, (*place, "regimes"))
        for number, one in enumerate(found["regimes"] if found else ()):
            here = (*place, "regimes", "regimes", number)
            cells = [
                _number(document, (*place[:2], "family"), "text"),
                _number(document, (*place, "score", "horizon_bars"), "count"),
                _number(document, (*here, "regime"), "text"),
                _number(document, (*here, "rows"), "count"),
                _number(document, (*here, "mean_difference"), "basis"),
                _number(document, (*here, "holm_p"), "p"),
                _number(document, (*place, "regimes", "test", "p_value"), "p"),
            ]
            rows.append(("shown" if one["holm_p"] < 0.05 and one["mean_difference"] < 0 else "", cells))
    heads = ("family", "bars", "regime", "origins", "CRPS beyond the reference, bp", "p here, Holm", "p in any regime")
    return _section(
        "By regime",
        "Volatility and trend as they were known at each origin (Giacomini and White). Below 0 the family is better"
        " there; shaded: by more than luck, all rows of this table allowed for. 'In any regime' is of one family and"
        " horizon alone.",
        f"<details><summary>{len(rows)} rows</summary>{_grid(heads, rows)}</details>" if rows else _grid(heads, rows),
    )


def _stability(document: Document) -> str:
    rows = [place for place in _entries(document) if at(document, (*place, "degradation"))]
    of = "degradation/"
    columns = (
        ("family", "../../family:text"),
        ("bars", "score/horizon_bars:count"),
        ("on rows fitted on, %", f"{of}in_sample_skill:skill ({of}in_sample_low:skill to {of}in_sample_high:skill)"),
        ("later, %", f"{of}out_of_sample_skill:skill ({of}out_of_sample_low:skill to {of}out_of_sample_high:skill)"),
        ("lost, %", f"{of}gap:skill ({of}gap_low:skill to {of}gap_high:skill)"),
    )
    flags = [f"{one['family']}: {line}" for one in document["families"] for line in one["flags"]]
    told = _list(flags) if flags else "<p>Horizons do not contradict one another.</p>"
    off = lambda place: "off" if at(document, (*place, "overfitted")) else ""  # noqa: E731
    return _section(
        "In and out of sample, and across horizons",
        "Skill on the newest rows each fold was fitted on, against the rows that came later. Shaded: skill was seen,"
        " less than half survives, and the loss is more than luck. Below: what no horizon should do to another.",
        _table(document, columns, rows, off) + told,
    )


def _money(document: Document) -> str:
    strategy = (
        ("trades", "trades:count"),
        ("return, %", "return_pct:percent"),
        ("deepest fall, %", "max_drawdown_pct:plain"),
        ("won, %", "win_rate_pct:plain"),
        ("profit factor", "profit_factor:ratio"),
        ("cost, pips", "cost_pips:ratio"),
        ("break-even cost, pips", "break_even_pips:ratio"),
        ("cost over gain", "cost_share:ratio"),
        ("turnover a year", "turnover_per_year:count"),
        ("Sharpe", "sharpe:ratio"),
        ("probabilistic", "probabilistic_sharpe:ratio"),
        ("deflated", "deflated_sharpe:ratio"),
    )
    searched = (
        ("best member", "best:text"),
        ("members", "members:count"),
        ("trials ever", "trials_ever:count"),
        ("deflated Sharpe", "deflated_sharpe:ratio"),
        ("probabilistic Sharpe", "probabilistic_sharpe:ratio"),
        ("best of worthless, Sharpe", "best_of_worthless:ratio"),
        ("probability of overfitting", "pbo:ratio"),
        ("loses after selection", "pbo_loss_probability:ratio"),
        ("fall apart", "fall_apart:count"),
    )
    parts = [
        f"<p><b>{what}</b></p>{_table(document, columns, [(name,)] if document[name] else [])}"
        for what, name, columns in (
            ("Backtest, all of the span", "backtest", strategy),
            ("Newest search, on the later part it never saw", "search", searched),
        )
    ]
    return _section(
        "Money",
        "After spread, commission and slippage. A probabilistic Sharpe ratio is the chance that the true one is above"
        " 0, had nothing else been tried; a deflated one that it is above what the best of as many worthless trials"
        " would show: below .95 nothing is shown. The probability of overfitting: how often the best of the search ends"
        " below the median elsewhere.",
        "".join(parts),
    )


def _paths(document: Document) -> str:
    columns = (
        ("family", "family:text"),
        ("bars", "horizon_bars:count"),
        ("paths", "paths:count"),
        ("mean skill, %", "mean:skill"),
        ("5 % to 95 % of paths", "low:skill to high:skill"),
        ("paths below 0, %", "below_zero:share"),
    )
    rows = [("paths", number) for number in range(len(document["paths"]))]
    return _section(
        "Other orders of events",
        "Skill on every path of combinatorial purged cross-validation. Most fits saw later rows: this shows how much"
        " hangs on one order of events, never what would have been earned.",
        _table(document, columns, rows),
    )


def _beside(document: Document) -> str:
    columns = (
        ("forecaster", "family:text"),
        ("bars", "horizon_bars:count"),
        ("skill, % (95 % interval)", "skill:skill (skill_low:skill to skill_high:skill)"),
        ("p of being better", "dm_p:p"),
        ("90 % covers", "coverage_90:share"),
        ("origins (apart)", "n:count (n_independent:count)"),
    )
    rows = [("beside", number) for number in range(len(document["beside"]))]
    return _section(
        "Plainer walks and equal weights",
        "Scored when they were evaluated. Plainer walks below 0 show that volatility and the time of day can be"
        " forecast, which the reference does already.",
        _table(document, columns, rows),
    )


def _unsaid(document: Document) -> str:
    return _section("What this card cannot say", "", _list(document["unsaid"]) if document["unsaid"] else "<p>–</p>")


_SECTIONS: tuple[Callable[[Document], str], ...] = (
    _skill,
    _calibration,
    _direction,
    _sets,
    _regimes,
    _stability,
    _money,
    _paths,
    _beside,
    _unsaid,
)


def _entries(document: Document) -> list[Place]:
    return [
        ("families", number, "horizons", column)
        for number, family in enumerate(document["families"])
        for column in range(len(family["horizons"]))
    ]


def _table(
    document: Document,
    columns: Sequence[_Column],
    rows: Sequence[Place],
    mark: Callable[[Place], str] = lambda place: "",
) -> str:
    lines = [(mark(row), [_cell(document, row, pattern) for _, pattern in columns]) for row in rows]
    return _grid([heading for heading, _ in columns], lines)


def _grid(headings: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    if not rows:
        return "<p>Nothing to show; see the end of the page.</p>"
    head = "".join(f"<th>{_text(heading)}</th>" for heading in headings)
    body = "".join(f"<tr class='{mark}'>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for mark, cells in rows)
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(document: Document, row: Place, pattern: str) -> str:
    """Return a cell: words with a colon are numbers, the rest is text; a dash where the first number is absent."""
    written: list[str] = []
    for word in pattern.split(" "):
        core = word.strip("(),")
        if ":" not in core:
            written.append(_text(word))
            continue
        place, how = core.split(":")
        full = _resolved(row, place)
        if not written and at(document, full) is None:
            return NOTHING
        before, after = word.split(core)
        written.append(f"{before}{_number(document, full, how)}{after}")
    return " ".join(written)


def _resolved(row: Place, place: str) -> Place:
    full: list[str | int] = list(row)
    for step in place.split("/"):
        if step == "..":
            full.pop()
        else:
            full.append(int(step) if step.isdigit() else step)
    return tuple(full)


def _number(document: Document, place: Place, how: str) -> str:
    value = at(document, place)
    text = NOTHING if value is None else FORMATS[how](value)
    return f"<span data-at='{html.escape(json.dumps(place), quote=True)}' data-as='{how}'>{_text(text)}</span>"


def _section(title: str, how: str, content: str) -> str:
    return f"<h2>{_text(title)}</h2><p class='how'>{_text(how)}</p>{content}"


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{_text(line)}</li>' for line in lines)}</ul>"


def _figure(caption: str, data: bytes) -> str:
    source, text = base64.b64encode(data).decode("ascii"), _text(caption)
    return f"<figure><img alt='{text}' src='data:image/png;base64,{source}'></figure>"


def _text(value: str) -> str:
    return html.escape(value, quote=True)
