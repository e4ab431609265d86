"""What to do about unknown feature values, using nothing but the past, and saying how much was filled."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.domain.clock import Ints, Timeframe, slot
from forexgpt_core.errors import BadInput, UnknownName

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

POLICIES = ("drop", "forward_fill", "zero", "constant")
_LEAKS = {
    "backward_fill": "copies the next known value back",
    "bfill": "copies the next known value back",
    "interpolate": "draws a line to the next known value",
}
_FLAG_SUFFIX = "_missing"


class LeakRefused(BadInput):
    """A way of filling that would carry later values to earlier rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingPolicy:
    """How unknown values (null or NaN) are treated.

    Policies:
        drop: leave them unknown; `windows.usable` then leaves their rows out. Rows are never taken out of the table,
            because labels count its bars.
        forward_fill: carry the last known value for at most `limit_bars` bars. The cells of a longer hole that lie
            beyond the limit stay unknown; how long a hole will last is not known inside it.
        zero, constant: write 0 or `value`, also where an indicator is still warming up.

    Attributes:
        limit_bars: FX-week bars since the last known value, absent rows counted too and weekends not; forward_fill
            needs it, the others refuse it.
        value: for `constant`.
        flags: add a column `{name}_missing` for every column, 1 where it was filled, so that a model can tell. Every
            column gets one, whatever was missing, so training and live rows have the same columns.
    """

    policy: str = "drop"
    limit_bars: int = 0
    value: float = 0.0
    flags: bool = False

    def __post_init__(self) -> None:
        _require_policy(self.policy)
        if isinstance(self.limit_bars, bool) or not isinstance(self.limit_bars, int):
            raise BadInput(f"limit_bars must be a whole number, was {self.limit_bars!r}")
        if (self.policy == "forward_fill") != (self.limit_bars >= 1) or self.limit_bars < 0:
            raise BadInput(
                f"limit_bars must be 1 or more with forward_fill and 0 otherwise, was {self.limit_bars} with"
                f" {self.policy}"
            )
        if not np.isfinite(self.value) or (self.value != 0 and self.policy != "constant"):
            raise BadInput(f"value must be a finite number, given with constant only, was {self.value} ({self.policy})")
        if self.flags and self.policy == "drop":
            raise BadInput("flags tell what was filled, and drop fills nothing; switch flags off")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Filled:
    """A table of values after a policy, and what the policy did.

    Attributes:
        values: (n, f), or (n, 2 f) with flags.
        names: of the columns.
        report: one row per feature: `feature, rows, missing, filled, still_missing`.
        incomplete_rows: rows that hold an unknown value after all, which `windows.usable` will leave out.
    """

    values: Floats
    names: tuple[str, ...]
    report: pl.DataFrame
    incomplete_rows: int

    @property
    def line(self) -> str:
        """Return the outcome as one sentence."""
        filled, missing = int(self.report["filled"].sum()), int(self.report["missing"].sum())
        return (
            f"{filled} of {missing} unknown values filled; {self.incomplete_rows} of {self.values.shape[0]} rows still"
            " hold one and are left out"
        )


def fill_values(
    values: Floats, policy: MissingPolicy, *, names: Sequence[str], bar_numbers: Ints | None = None
) -> Filled:
    """Return values after a policy. Row i of the result reads rows up to i only.

    Args:
        values: (n, f), oldest row first, NaN where unknown.
        names: f names.
        bar_numbers: (n,) increasing running numbers of the rows' bars (`clock.slot`), so that absent rows count as
            time; by default the rows are consecutive.

    Raises:
        BadInput: shapes do not fit, numbers go back, or a value is infinite (a broken calculation, not a missing one).
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(names):
        raise BadInput(f"values of {len(names)} features must be a table of as many columns, have {values.shape}")
    numbers = np.arange(values.shape[0]) if bar_numbers is None else bar_numbers
    if numbers.shape != values.shape[:1] or (np.diff(numbers) < 0).any():
        raise BadInput("bar_numbers must hold one number per row and never decrease")
    _require_no_infinity(values, names)
    unknown = np.isnan(values)
    filled = _filled(values, unknown, policy, numbers)
    still = np.isnan(filled)
    flags = (unknown & ~still).astype(np.float64)
    return Filled(
        values=np.column_stack([filled, flags]) if policy.flags else filled,
        names=(*names, *(f"{name}{_FLAG_SUFFIX}" for name in names)) if policy.flags else tuple(names),
        report=_report(names, unknown, still),
        incomplete_rows=int(still.any(axis=1).sum()),
    )


def fill_table(features: pl.DataFrame, policy: MissingPolicy, timeframe: Timeframe) -> tuple[pl.DataFrame, Filled]:
    """Return a feature table (`ts_utc` and number columns) after a policy, row for row the same bars, and the report.

    Raises:
        BadInput: as `fill_values`, or a column is named like a flag.
    """
    names = [name for name in features.columns if name != "ts_utc"]
    columns = [features[name].cast(pl.Float64).to_numpy() for name in names]
    values = np.column_stack(columns) if columns else np.empty((features.height, 0))
    numbers = slot(features["ts_utc"].to_numpy(), timeframe)
    filled = fill_values(values, policy, names=names, bar_numbers=numbers)
    if len(set(filled.names)) < len(filled.names):
        raise BadInput(f"a feature is named like a flag of another, with '{_FLAG_SUFFIX}' at its end; rename it")
    made = {name: filled.values[:, place] for place, name in enumerate(filled.names)}
    return pl.DataFrame({"ts_utc": features["ts_utc"], **made}), filled


def _filled(values: Floats, unknown: Flags, policy: MissingPolicy, numbers: Ints) -> Floats:
    if policy.policy == "drop":
        return values
    if policy.policy != "forward_fill":
        return np.where(unknown, policy.value, values)
    rows = np.arange(values.shape[0])[:, None]
    last_known = np.maximum.accumulate(np.where(unknown, -1, rows), axis=0)  # -1: nothing is known yet
    age = numbers[:, None] - numbers[np.maximum(last_known, 0)]
    carried = np.take_along_axis(values, np.maximum(last_known, 0), axis=0)
    return np.where((last_known >= 0) & (age <= policy.limit_bars), carried, np.nan)


def _report(names: Sequence[str], unknown: Flags, still: Flags) -> pl.DataFrame:
    missing, remaining = unknown.sum(axis=0, dtype=np.int64), still.sum(axis=0, dtype=np.int64)
    return pl.DataFrame(
        {
            "feature": pl.Series(list(names), dtype=pl.String),
            "rows": np.full(len(names), unknown.shape[0], dtype=np.int64),
            "missing": missing,
            "filled": missing - remaining,
            "still_missing": remaining,
        }
    )


def _require_policy(policy: str) -> None:
    if policy in _LEAKS:
        raise LeakRefused(
            f"'{policy}' {_LEAKS[policy]}, so earlier rows would hold what was only known later: a leak, which no score"
            " would survive live; use forward_fill with limit_bars, which carries the past forward"
        )
    if policy not in POLICIES:
        close = difflib.get_close_matches(policy, POLICIES, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise UnknownName(f"unknown missing-data policy '{policy}'; known: {', '.join(POLICIES)}{hint}")


def _require_no_infinity(values: Floats, names: Sequence[str]) -> None:
    infinite = np.isinf(values).any(axis=0)
    if infinite.any():
        raise BadInput(
            f"'{names[int(infinite.argmax())]}' holds infinite values: that is a broken calculation and not a missing"
            " value; mend the feature"
        )
