"""Is this feature table fit to be stored? Great Expectations judges one row per column, and the times."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl

from forexgpt_core.candles.expectations import Expect, broken_laws

HOLES_SHARE = 0.01  # of the rows after a column's first value; an indicator may be undefined on a few flat bars


def summarise_features(features: pl.DataFrame) -> pl.DataFrame:
    """Return one row per feature: `feature, rows, warm_up_rows, finite_share, holes_share, infinite`."""
    names = [name for name in features.columns if name != "ts_utc"]
    values = features.select(names).to_numpy().astype(np.float64) if names else np.empty((features.height, 0))
    finite = np.isfinite(values)
    known = finite.any(axis=0)
    first = np.where(known, finite.argmax(axis=0), values.shape[0])
    after = np.maximum(values.shape[0] - first, 1)
    return pl.DataFrame(
        {
            "feature": names,
            "rows": np.full(len(names), values.shape[0]),
            "warm_up_rows": first,
            "finite_share": finite.mean(axis=0) if values.size else np.zeros(len(names)),
            "holes_share": (values.shape[0] - first - finite.sum(axis=0)) / after,
            "infinite": np.isinf(values).sum(axis=0),
        }
    )


def judge_features(features: pl.DataFrame) -> tuple[str, ...]:
    """Return what is wrong with a feature table, one sentence per broken law; empty when it is lawful.

    Raises:
        SuiteBroken: the suite could not run.
    """
    summary = summarise_features(features)
    times = pl.DataFrame(
        {
            "repeated": [features.height - features["ts_utc"].n_unique()],
            "sorted": [bool(features["ts_utc"].is_sorted())],
            "features": [summary.height],
        }
    )
    sentences = {
        "some_features": "the table holds no feature",
        "times_unique": "ts_utc repeats",
        "times_increasing": "ts_utc goes back in time",
        "no_infinity": f"infinite values in {_offenders(summary, pl.col('infinite') > 0)}",
        "no_holes": f"more than {HOLES_SHARE:.0%} undefined after warm-up in"
        f" {_offenders(summary, pl.col('holes_share') > HOLES_SHARE)}",
    }
    broken = broken_laws(times, _TIME_LAWS, suite_name="feature_times")
    if summary.height:
        broken += broken_laws(summary.select("infinite", "holes_share"), _COLUMN_LAWS, suite_name="feature_columns")
    return tuple(sentences[name] for name in broken)


def _at_most(column: str, limit: float) -> Expect:
    def expect(expectations: ModuleType) -> Any:
        return expectations.ExpectColumnValuesToBeBetween(column=column, min_value=0, max_value=limit)

    return expect


def _some_features(expectations: ModuleType) -> Any:
    return expectations.ExpectColumnValuesToBeBetween(column="features", min_value=1)


def _sorted(expectations: ModuleType) -> Any:
    return expectations.ExpectColumnValuesToBeInSet(column="sorted", value_set=[True])


_TIME_LAWS: Mapping[str, Expect] = {
    "some_features": _some_features,
    "times_unique": _at_most("repeated", 0),
    "times_increasing": _sorted,
}
_COLUMN_LAWS: Mapping[str, Expect] = {
    "no_infinity": _at_most("infinite", 0),
    "no_holes": _at_most("holes_share", HOLES_SHARE),
}


def _offenders(summary: pl.DataFrame, condition: pl.Expr) -> str:
    return ", ".join(summary.filter(condition)["feature"].head(5))
