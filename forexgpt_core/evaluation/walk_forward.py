"""Walk-forward validation: a family is fitted again and again on the past and judged on the bars that followed.

Every fold is train → valid → calibration → test in time, each purged by label time and an embargo apart. Its test
forecasts come from a model and a calibrator that saw nothing of the test block, so strung together they are what the
family would have said live, retrained at every fold. They, and only they, feed backtests and searches.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import pairwise

import numpy as np
import polars as pl

from forexgpt_core.calibration.split import ConformalCalibrator
from forexgpt_core.domain.clock import from_utc, to_utc
from forexgpt_core.domain.forecast_table import to_table
from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.features.splits import Parts, deployment_parts, purged_parts
from forexgpt_core.features.windows import Windows
from forexgpt_core.models.catalogue import family_options, new_forecaster
from forexgpt_core.models.forecaster import FitRun

KINDS = ("expanding", "rolling")
IN_SAMPLE, TEST = "in_sample", "test"
_IN_SAMPLE_ROWS = 2000  # newest training rows whose forecasts are kept, to measure what is lost out of sample
_FORM = 1  # of the stored outcome; another number and every fold is fitted again


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkForwardSettings:
    """How a pair's families are validated.

    Attributes:
        kind: "expanding": every fold trains on all bars before it; "rolling": on as many as the first fold.
        folds: test blocks, one after the other, 2 or more; the first also starts the ensemble's weights.
        out_of_sample: share of the usable rows, the newest, that the test blocks divide among them.
        calibration: share of a fold's history, its newest rows, kept from training for the calibrator.
        valid_of_train: share of the rest, its newest rows, for early stopping and tuning.
        embargo_bars: FX-week bars between the last label of a part and the first origin of the next, on top of the
            purge.
    """

    kind: str = "expanding"
    folds: int = 4
    out_of_sample: float = 0.4
    calibration: float = 0.25
    valid_of_train: float = 1 / 6
    embargo_bars: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadInput(f"walk_forward.kind must be one of {', '.join(KINDS)}, was '{self.kind}'")
        if not 2 <= self.folds <= 100:
            raise BadInput(f"walk_forward.folds must lie in 2 to 100, was {self.folds}")
        for name in ("out_of_sample", "calibration", "valid_of_train"):
            if not 0 < getattr(self, name) < 1:
                raise BadInput(f"walk_forward.{name} must lie in (0, 1), was {getattr(self, name)}")
        if self.embargo_bars < 0:
            raise BadInput(f"walk_forward.embargo_bars must be 0 or more, was {self.embargo_bars}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One fold, written as dates: opens of the first origin of each part, and of the last origin tested.

    Each part lasts until the next begins, less the rows that purge and embargo take.
    """

    number: int
    train_from_utc: datetime
    valid_from_utc: datetime
    calibration_from_utc: datetime
    test_from_utc: datetime
    test_to_utc: datetime

    def __post_init__(self) -> None:
        moments = [getattr(self, name) for name in _DATES]
        if moments != sorted(set(moments)):
            raise BadInput(f"fold {self.number} overlaps: its dates must increase, were {[str(m) for m in moments]}")

    def to_document(self) -> dict[str, object]:
        """Return the fold as plain JSON values."""
        return {"number": self.number} | {name: getattr(self, name).isoformat() for name in _DATES}

    @classmethod
    def from_document(cls, document: Mapping[str, object]) -> "Fold":
        """Return the fold that `to_document` wrote."""
        dates = {name: datetime.fromisoformat(str(document[name])) for name in _DATES}
        return cls(number=int(str(document["number"])), **dates)


_DATES = ("train_from_utc", "valid_from_utc", "calibration_from_utc", "test_from_utc", "test_to_utc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What is validated: a configuration of a family under the name that its scores carry.

    Attributes:
        calibration: method of its split conformal calibrator.
    """

    name: str
    family: str
    options: Mapping[str, object]
    seed: int
    calibration: str = "normalised"


def plan_folds(windows: Windows, settings: WalkForwardSettings) -> tuple[Fold, ...]:
    """Return the folds of some rows, oldest first.

    Args:
        windows: usable rows whose labels are known, in time order.

    Raises:
        NotReady: there are fewer rows than a fold needs.
        BadInput: rows repeat or go back in time.
    """
    _require_increasing(windows)
    n = len(windows)
    edges = np.linspace(n - int(n * settings.out_of_sample), n, settings.folds + 1).astype(int)
    if edges[0] < 200 or np.diff(edges).min() < 50:
        raise NotReady(
            f"{windows.arrays.symbol} {windows.arrays.timeframe} has {n} usable rows: {edges[0]} before the first of"
            f" {settings.folds} test blocks, the shortest of {np.diff(edges).min()}; 200 and 50 are needed: import a"
            " longer history or ask for fewer folds"
        )
    opens = windows.origin_utc
    folds = []
    for number, (start, stop) in enumerate(pairwise(edges)):
        first = 0 if settings.kind == "expanding" else start - edges[0]
        calibration = start - int((start - first) * settings.calibration)
        valid = calibration - int((calibration - first) * settings.valid_of_train)
        dates = (opens[row] for row in (first, valid, calibration, start, stop - 1))
        folds.append(Fold(number=number, **dict(zip(_DATES, map(from_utc, dates), strict=True))))
    return tuple(folds)


def fold_parts(windows: Windows, fold: Fold, *, embargo_bars: int) -> Parts:
    """Return the rows of a fold; every label of one part is known before the first origin of the next is.

    Raises:
        NotReady: a part would hold fewer than 50 rows.
    """
    opens = windows.origin_utc
    first, *ends = (int(np.searchsorted(opens, to_utc(getattr(fold, name)))) for name in _DATES[:-1])
    stop = int(np.searchsorted(opens, to_utc(fold.test_to_utc), side="right"))
    span = Windows(arrays=windows.arrays, rows=windows.rows[first:stop])
    valid, calibration, test = (end - first for end in ends)
    return purged_parts(span, (valid, calibration, test, stop - first), embargo_bars)


def newest_parts(windows: Windows, settings: WalkForwardSettings) -> Parts:
    """Return the parts of what is deployed: split like a fold whose test begins after the newest row.

    Raises:
        NotReady: a part would hold fewer than 50 rows.
    """
    n = len(windows)
    first = int(n * settings.out_of_sample) if settings.kind == "rolling" else 0
    return deployment_parts(
        windows.take(np.arange(first, n)),
        calibration=settings.calibration,
        valid_of_train=settings.valid_of_train,
        embargo_bars=settings.embargo_bars,
    )


def as_trained(wanted: WalkForwardSettings, trained: WalkForwardSettings) -> WalkForwardSettings:
    """Return how to validate a model that was trained under other settings than are wanted by now.

    Test blocks are as wanted; whatever shapes a fit is as it was, so that the evidence is that of the model.
    """
    rolling = trained.kind == "rolling"  # the first block then says how many bars every fit sees
    return replace(
        trained, folds=wanted.folds, out_of_sample=trained.out_of_sample if rolling else wanted.out_of_sample
    )


def fold_key(windows: Windows, fold: Fold, candidate: Candidate, settings: WalkForwardSettings) -> str:
    """Return the name of a fold's outcome: 16 hex digits of a hash over the configuration and every value it rests on.

    Bars that came later change nothing of it, so a longer history finds the folds again that it shares.
    """
    arrays = windows.arrays
    last = int(windows.rows[np.searchsorted(windows.origin_utc, to_utc(fold.test_to_utc))]) + arrays.horizons_bars[-1]
    described = {
        "form": _FORM,
        "candidate": asdict(candidate) | {"options": {**family_options(candidate.family), **candidate.options}},
        "fold": fold.to_document(),
        "embargo_bars": settings.embargo_bars,
        "pair": [arrays.symbol, str(arrays.timeframe), list(arrays.horizons_bars), list(arrays.feature_names)],
    }
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
    for values in (arrays.ts_utc, arrays.close, arrays.features, windows.rows[windows.rows <= last]):
        digest.update(values[: last + 1].tobytes())
    return digest.hexdigest()[:16]


def run_fold(
    windows: Windows, fold: Fold, candidate: Candidate, settings: WalkForwardSettings, run: FitRun
) -> pl.DataFrame:
    """Fit, calibrate and forecast one fold.

    Returns:
        `to_table` of the calibrated forecasts with `part` ("test": the fold's block; "in_sample": the newest 2,000
        training rows, forecast by the model that was fitted on them) and `fold`.

    Raises:
        NotReady: a part would hold too few rows.
    """
    parts = fold_parts(windows, fold, embargo_bars=settings.embargo_bars)
    seeded = replace(run, seed=candidate.seed)
    model = new_forecaster(candidate.family, candidate.options).fit(parts.train, parts.valid, run=seeded)
    block = parts.calibration
    calibrator = ConformalCalibrator.fit(model.forecast(block), block.returns, method=candidate.calibration)
    recent = parts.train.take(np.arange(max(0, len(parts.train) - _IN_SAMPLE_ROWS), len(parts.train)))
    tables = [
        to_table(calibrator.apply(model.forecast(rows)), rows.returns).with_columns(part=pl.lit(part))
        for part, rows in ((IN_SAMPLE, recent), (TEST, parts.test))
    ]
    return pl.concat(tables).with_columns(fold=pl.lit(fold.number, dtype=pl.Int64))


def _require_increasing(windows: Windows) -> None:
    if (np.diff(windows.rows) <= 0).any():
        raise BadInput("rows of a walk-forward must be in time order, each once")
