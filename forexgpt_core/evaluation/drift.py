"""Have features or forecast errors left what the model was fitted on, or is it only that they move slowly?

Drift tests that count every bar as an observation raise an alarm on half of all stationary but persistent series. Here
a row counts for as much as its persistence leaves of it; Evidently draws the page, but does not decide.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import stdtr

from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.dependence import Persistence, persistence, variance_of_window_mean
from forexgpt_core.evaluation.report_card import holm
from forexgpt_core.features.calendar import calendar

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

CALENDAR_COLUMNS: tuple[str, ...] = tuple(calendar(np.array(["2018-01-02"], dtype="datetime64[us]")))


class UnlikeFrames(BadInput):
    """Reference and current features cannot be compared: other columns, too few rows, or times that go back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftLimits:
    """When drift is called.

    Attributes:
        false_alarm_rate: share of reports without drift that may raise an alarm; half is spent on features, half on
            errors.
        least_location_shift: P(current > reference) - 1/2 below which a column is called unchanged, whatever its p.
        least_spread_shift: relative change of the variance of ranks, likewise.
        least_loss_rise: relative rise of the mean loss, likewise.
        feature_share: share of judged columns that must have drifted for features to raise an alarm; 0 means any.
        least_rows: rows below which a column is not judged.
        excluded_columns: columns not judged, besides the calendar's, which rotate by design.
    """

    false_alarm_rate: float = 0.05
    least_location_shift: float = 0.05
    least_spread_shift: float = 0.1
    least_loss_rise: float = 0.02
    feature_share: float = 0.0
    least_rows: int = 100
    excluded_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.false_alarm_rate < 1:
            raise BadInput(f"false_alarm_rate must lie in (0, 1), was {self.false_alarm_rate}")
        if not 0 <= self.feature_share <= 1:
            raise BadInput(f"feature_share must lie in [0, 1], was {self.feature_share}")
        if self.least_rows < 10:
            raise BadInput(f"least_rows must be at least 10, was {self.least_rows}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDrift:
    """One column's comparison.

    Attributes:
        location_shift: P(current > reference) - 1/2, from -1/2 to 1/2; 0 without drift.
        spread_shift: relative change of the variance of ranks about 1/2, from -1 to 2; 0 without drift.
        effective_rows: independent rows that carry as much about the current mean rank.
        p_value: of no change in location and spread.
        p_adjusted: after Holm's correction over all judged columns.
        evidently_score: Evidently's normed Wasserstein distance, for comparison with other tools.
    """

    name: str
    location_shift: float
    spread_shift: float
    effective_rows: float
    p_value: float
    p_adjusted: float
    drifted: bool
    evidently_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """What drifted, how sure that is, and the page to look at.

    Attributes:
        drifted: the alarm: features or errors left the reference.
        drifted_columns: feature columns called drifted.
        share: of judged columns.
        loss_shift: mean current loss over mean reference loss, minus 1; NaN without losses.
        loss_p: one-sided p of "errors have not risen"; NaN without losses.
        loss_drifted: whether errors raise the alarm.
        feature_level: adjusted p below which a column counts as drifted.
        false_alarm_note: how often this alarm is wrong, and how that was arranged.
        columns: every judged column, smallest p first.
        unjudged: columns with too few finite rows, and those excluded.
        html: Evidently's page with the decision above it.
    """

    drifted: bool
    drifted_columns: tuple[str, ...]
    share: float
    loss_shift: float
    loss_p: float
    loss_drifted: bool
    feature_level: float
    false_alarm_note: str
    columns: tuple[ColumnDrift, ...]
    unjudged: tuple[str, ...]
    reference_rows: int
    current_rows: int
    html: str

    def to_dict(self) -> dict[str, object]:
        """Return a JSON-safe summary without the page: NaN becomes None."""
        summary = {k: v for k, v in asdict(self).items() if k not in ("html", "columns")}
        return {**_without_nan(summary), "columns": [_without_nan(asdict(c)) for c in self.columns]}


def _without_nan(values: dict[str, object]) -> dict[str, object]:
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


def drift_report(
    reference: "pl.DataFrame | pd.DataFrame",
    current: "pl.DataFrame | pd.DataFrame",
    reference_losses: Floats | None,
    current_losses: Floats | None,
    *,
    limits: DriftLimits,
    seed: int,
) -> DriftReport:
    """Return whether features or errors drifted, with Evidently's page.

    Args:
        reference: features of the model's own period, rows in time order; `ts_utc` is not judged.
        current: the same columns of a later period.
        reference_losses: (n,) or (n, H) out-of-sample losses of that period in time order, best divided by the scale
            each forecast had, or a rise of volatility reads as a worse model; NaN rows are left out. None: not judged.
        current_losses: matured losses since.
        limits: when to call drift.
        seed: of the sample of rows that Evidently draws.

    Raises:
        UnlikeFrames: columns differ, nothing can be judged, or times go back.
    """
    from forexgpt_core.evaluation.drift_page import evidently_page

    before, after = _numeric(reference, limits), _numeric(current, limits)
    if before.columns != after.columns:
        unshared = sorted(set(before.columns) ^ set(after.columns)) or "in another order"
        raise UnlikeFrames(f"reference and current features must have the same columns; {unshared} differ")
    judged = [c for c in before.columns if min(_finite(before[c]).size, _finite(after[c]).size) >= limits.least_rows]
    if not judged:
        raise UnlikeFrames(
            f"no feature has {limits.least_rows} finite rows in both periods ({before.height} and {after.height} rows)"
        )
    losses = _losses(reference_losses, current_losses, limits)
    page, evidently_scores = evidently_page(before.select(judged), after.select(judged), losses, seed=seed)
    columns = _judge([(c, _finite(before[c]), _finite(after[c])) for c in judged], evidently_scores, limits)
    drifted = tuple(c.name for c in columns if c.drifted)
    share = len(drifted) / len(judged)
    loss_shift, loss_p = _loss_shift(losses)
    loss_drifted = loss_p < limits.false_alarm_rate / 2 and loss_shift >= limits.least_loss_rise
    alarm = loss_drifted or (bool(drifted) and share >= limits.feature_share)
    note = _note(columns, limits, after.height)
    return DriftReport(
        drifted=alarm,
        drifted_columns=drifted,
        share=share,
        loss_shift=loss_shift,
        loss_p=loss_p,
        loss_drifted=loss_drifted,
        feature_level=limits.false_alarm_rate / 2,
        false_alarm_note=note,
        columns=columns,
        unjudged=tuple(sorted({*_names(reference), *_names(current)} - set(judged) - {"ts_utc"})),
        reference_rows=before.height,
        current_rows=after.height,
        html=page(_headline(alarm, drifted, len(judged), loss_shift, loss_p), note),
    )


def _names(frame: "pl.DataFrame | pd.DataFrame") -> list[str]:
    return [str(c) for c in frame.columns]


def _numeric(frame: "pl.DataFrame | pd.DataFrame", limits: DriftLimits) -> pl.DataFrame:
    table = frame if isinstance(frame, pl.DataFrame) else pl.from_pandas(frame)
    if "ts_utc" in table.columns and not table["ts_utc"].is_sorted():
        raise UnlikeFrames("features must be sorted by ts_utc; dependence in time decides what an alarm is worth")
    left_out = {"ts_utc", *CALENDAR_COLUMNS, *limits.excluded_columns}
    kept = [c for c, dtype in table.schema.items() if c not in left_out and dtype.is_numeric()]
    return table.select(pl.col(kept).cast(pl.Float64))


def _finite(column: pl.Series) -> Floats:
    values = column.to_numpy()
    return np.asarray(values[np.isfinite(values)])


def _losses(reference: Floats | None, current: Floats | None, limits: DriftLimits) -> tuple[Floats, Floats] | None:
    """Return both periods' losses as (n,), each horizon in units of its reference mean; None if too few."""
    if reference is None or current is None:
        return None
    rows = [np.asarray(x, dtype=np.float64).reshape(len(x), -1) for x in (reference, current)]
    if rows[0].shape[1] != rows[1].shape[1]:
        raise UnlikeFrames(
            f"losses have {rows[0].shape[1]} and {rows[1].shape[1]} horizons; both periods need the same"
        )
    before, after = (x[np.isfinite(x).all(axis=1)] for x in rows)
    if min(len(before), len(after)) < limits.least_rows:
        return None
    unit = before.mean(axis=0)
    if not (unit > 0).all():
        raise UnlikeFrames("reference losses must have a mean above 0 at every horizon")
    return np.asarray((before / unit).mean(axis=1)), np.asarray((after / unit).mean(axis=1))


def _judge(
    samples: Sequence[tuple[str, Floats, Floats]], evidently_scores: dict[str, float], limits: DriftLimits
) -> tuple[ColumnDrift, ...]:
    compared = [_compare(before, after) for _, before, after in samples]
    adjusted = holm([p for *_, p in compared])
    columns = []
    for (name, _, _), (location, spread, effective, p), p_adjusted in zip(samples, compared, adjusted, strict=True):
        large = abs(location) >= limits.least_location_shift or abs(spread) >= limits.least_spread_shift
        columns.append(
            ColumnDrift(
                name=name,
                location_shift=location,
                spread_shift=spread,
                effective_rows=effective,
                p_value=p,
                p_adjusted=p_adjusted,
                drifted=large and p_adjusted < limits.false_alarm_rate / 2,
                evidently_score=evidently_scores.get(name, math.nan),
            )
        )
    return tuple(sorted(columns, key=lambda c: (c.p_value, c.name)))


def _compare(before: Floats, after: Floats) -> tuple[float, float, float, float]:
    """Return location shift, spread shift, effective current rows and the p of neither."""
    ranks, now = _ranks(before, before), _ranks(before, after)
    location = float(now.mean() - 0.5)
    if np.ptp(before) == 0:  # a constant has no variance to test against: it is the same constant, or it is not
        return location, 0.0, float(after.size), float(np.array_equal(np.unique(after), before[:1]))
    spread, spread_now = (ranks - 0.5) ** 2, (now - 0.5) ** 2
    p_location = 2 * stdtr(*_student(ranks, now, two_sided=True))
    # The spread of a slow series is skewed over a short window: it is given no more rows than the series itself.
    p_spread = 2 * stdtr(*_student(spread, spread_now, at_least=persistence(ranks), two_sided=True))
    effective = min(float(ranks.var()) / variance_of_window_mean(ranks, after.size), float(after.size))
    return (
        location,
        float(spread_now.mean() / spread.mean() - 1),
        effective,
        float(min(2 * min(p_location, p_spread), 1.0)),
    )


def _ranks(reference: Floats, x: Floats) -> Floats:
    """Return the share of reference values below each x, ties counting half."""
    ordered = np.sort(reference)
    below = np.searchsorted(ordered, x, side="left") + np.searchsorted(ordered, x, side="right")
    return np.asarray(below / (2 * ordered.size))


def _student(
    before: Floats, after: Floats, *, two_sided: bool, at_least: Persistence | None = None
) -> tuple[float, float]:
    """Return degrees of freedom and the statistic whose lower tail is the p-value (one-sided: of a rise)."""
    own = variance_of_window_mean(before, before.size, at_least=at_least)
    variance = own + variance_of_window_mean(before, after.size, at_least=at_least)
    freedom = max(float(before.var()) / own - 1, 1.0) if own > 0 else before.size - 1.0
    shift = float(after.mean() - before.mean())
    if variance <= 0:
        return freedom, 0.0 if shift == 0 else -math.inf
    statistic = shift / math.sqrt(variance)
    return freedom, -abs(statistic) if two_sided else -statistic


def _loss_shift(losses: tuple[Floats, Floats] | None) -> tuple[float, float]:
    if losses is None:
        return math.nan, math.nan
    before, after = losses
    p = float(stdtr(*_student(_ranks(before, before), _ranks(before, after), two_sided=False)))
    return float(after.mean() / before.mean() - 1), p


def _headline(alarm: bool, drifted: tuple[str, ...], judged: int, loss_shift: float, loss_p: float) -> str:
    features = f"{len(drifted)} of {judged} features drifted" + (f" ({', '.join(drifted)})" if drifted else "")
    errors = (
        "errors were not judged, for too few have matured"
        if math.isnan(loss_p)
        else f"errors changed by {100 * loss_shift:+.1f} % (one-sided p {loss_p:.3f})"
    )
    return f"{'Drift' if alarm else 'No drift'}: {features}; {errors}."


def _note(columns: Sequence[ColumnDrift], limits: DriftLimits, rows: int) -> str:
    effective = float(np.median([c.effective_rows for c in columns]))
    return (
        f"Without drift an alarm is raised in at most about {100 * limits.false_alarm_rate:g} % of reports: half of"
        f" that is spent on {len(columns)} features with Holm's correction, half on errors. Neighbouring bars repeat"
        f" one another, so {rows} current rows count as {effective:.0f} independent ones for the median feature."
        " Evidently's own verdicts count every row and do not decide."
    )
