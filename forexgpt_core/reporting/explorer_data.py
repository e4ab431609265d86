"""The explorer's data as one compact JSON text: curves thinned to what a screen can show, trades as columns."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.reporting.explorer_document import (
    Curve,
    ExplorerDocument,
    ExplorerMember,
    ExplorerTrade,
    Figures,
    Value,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_POINTS = 1_500  # of one curve: more than a screen has pixels for it
MOST_TRADES = 400  # of one member
_DIGITS = 8  # of equity: cents below a million


def explorer_json(document: ExplorerDocument) -> str:
    """Return the document as JSON that may stand inside a script element: no `<`, `>` or `&` in it.

    Numbers that are not finite become null. Times are a start, a unit in milliseconds and whole steps of it.
    """
    content = {
        "symbol": document.symbol,
        "study": document.study,
        "objectives": [one._asdict() for one in document.objectives],
        "picks": dict(document.picks),
        "later": list(document.later),
        "members": [_member(member) for member in document.members],
    }
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def thin(values: Floats, most: int = MOST_POINTS) -> Ints:
    """Return the rows of a curve to draw, in order: at most `most`, which must be 8 or more.

    The first and last row, the lowest and highest of equally long buckets, and the two ends of the deepest fall are
    among them. So the drawn curve has the range, the outcome and the maximum drawdown of the whole one.
    """
    n = values.size
    if n <= most:
        return np.arange(n, dtype=np.int64)
    buckets = (most - 4) // 2
    bucket = np.arange(n) * buckets // n
    order = np.lexsort((values, bucket))  # within each bucket from the lowest to the highest
    starts = np.searchsorted(bucket, np.arange(buckets))
    ends = np.append(starts[1:], n) - 1
    rows = np.concatenate(([0, n - 1], order[starts], order[ends], _deepest_fall(values)))
    return np.unique(rows).astype(np.int64)


def _deepest_fall(values: Floats) -> list[int]:
    peaks = np.maximum.accumulate(values)
    fall = np.divide(peaks - values, peaks, out=np.zeros_like(values), where=peaks > 0)
    trough = int(fall.argmax())
    return [int(values[: trough + 1].argmax()), trough]


def _member(member: ExplorerMember) -> dict[str, Any]:
    return {
        "hash": member.hash12,
        "parameters": _safe(member.parameters),
        "in": _safe(member.in_sample),
        "out": _safe(member.out_of_sample),
        "spans": [{"label": label, "figures": _safe(figures)} for label, figures in member.later_spans.items()],
        "verdict": _safe(
            {"probabilistic_sharpe": member.probabilistic_sharpe, "deflated_sharpe": member.deflated_sharpe}
        ),
        "fallsApart": bool(member.falls_apart),
        "searched": _curve(member.searched),
        "later": _curve(member.later),
        "trades": _trades(member.trades),
    }


def _safe(figures: Figures) -> dict[str, Value]:
    return {str(name): _plain(value) for name, value in figures.items()}


def _plain(value: Value) -> Value:
    """Return the value as JSON knows it; a numpy number becomes Python's, one that is not finite None."""
    found = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(found, float) and not math.isfinite(found) else found


def _curve(curve: Curve) -> dict[str, Any]:
    values = np.asarray(curve.values, dtype=np.float64)
    rows = thin(values)
    return {
        "times": _steps(np.asarray(curve.times_ms, dtype=np.int64)[rows]),
        "values": _rounded(values[rows], _DIGITS),
        "total": int(values.size),
    }


def _trades(trades: Sequence[ExplorerTrade]) -> dict[str, Any]:
    newest = trades[-MOST_TRADES:]
    columns = list(zip(*newest)) or [()] * len(ExplorerTrade._fields)
    entry, leave, side, lots, entry_price, exit_price, profit, reason = columns
    return {
        "total": len(trades),
        "entry": _steps(np.array(entry, dtype=np.int64)),
        "held": _scaled(np.array(leave, dtype=np.int64) - np.array(entry, dtype=np.int64)),
        "side": _words(side),
        "lots": _rounded(np.array(lots, dtype=np.float64), 6),
        "entry_price": _rounded(np.array(entry_price, dtype=np.float64), 8),
        "exit_price": _rounded(np.array(exit_price, dtype=np.float64), 8),
        "profit": _rounded(np.array(profit, dtype=np.float64), 8),
        "exit_reason": _words(reason),
    }


def _steps(times: Ints) -> dict[str, Any]:
    return {"start": int(times[0]) if times.size else 0, **_scaled(np.diff(times))}


def _scaled(spans: Ints) -> dict[str, Any]:
    unit = int(np.gcd.reduce(spans)) if spans.size else 1
    unit = abs(unit) or 1
    return {"unit": unit, "steps": (spans // unit).tolist()}


def _rounded(values: Floats, digits: int) -> list[float | None]:
    """Return values to that many digits of the largest of them, whole numbers as such; None where not finite."""
    finite = np.isfinite(values)
    largest = float(np.abs(values[finite]).max(initial=0.0))
    decimals = max(digits - 1 - math.floor(math.log10(largest)), 0) if largest > 0 else 0
    return [
        (int(value) if value.is_integer() else value) if math.isfinite(value) else None
        for value in np.round(values, decimals).tolist()
    ]


def _words(column: Sequence[str]) -> Mapping[str, Any]:
    """Return each different word once and, for every row, which of them it is."""
    words = sorted(set(column))
    place = {word: number for number, word in enumerate(words)}
    return {"words": words, "rows": [place[word] for word in column]}
