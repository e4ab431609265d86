"""Is this feature table fit to be stored? Great Expectations judges one row per column, and the times."""

from collections.abc import Collection, Mapping
from types import ModuleType
from typing import Any

import polars as pl

from forexgpt_core.candles.expectations import Expect, broken_laws

HOLES_SHARE = 0.01  # of the rows after a column's first value; an indicator may be undefined on a few flat bars
_SUMMARY = {
    "feature": pl.String,
    "rows": pl.Int64,
    "warm_up_rows": pl.Int64,
    "finite_share": pl.Float64,
    "holes_share": pl.Float64,
    "infinite": pl.Int64,
}


def summarise_features(features: pl.DataFrame) -> pl.DataFrame:
    """Return one row per feature: `feature, rows, warm_up_rows, finite_share, holes_share, infinite`."""
    names, n = [name for name in features.columns if name != "ts_utc"], features.height
    finite = [pl.col(name).is_finite().fill_null(False) for name in names]
    counts = features.select(
        *(one.sum().cast(pl.Int64).alias(f"{name} known") for name, one in zip(names, finite)),
        *(one.arg_max().cast(pl.Int64).alias(f"{name} first") for name, one in zip(names, finite)),
        *(pl.col(name).is_infinite().sum().cast(pl.Int64).alias(f"{name} infinite") for name in names),
    )
    found = counts.row(0, named=True) if names else {}
    rows = []
    for name in names:
        known = found[f"{name} known"]
        first = found[f"{name} first"] if known else n
        rows.append(
            {
                "feature": name,
                "rows": n,
                "warm_up_rows": first,
                "finite_share": known / n if n else 0.0,
                "holes_share": (n - first - known) / max(n - first, 1),
                "infinite": found[f"{name} infinite"],
            }
        )
    return pl.DataFrame(rows, schema=_SUMMARY)


def judge_features(features: pl.DataFrame, *, may_lack: Collection[str] = ()) -> tuple[str, ...]:
    """Return what is wrong with a feature table, one sentence per broken law; empty when it is lawful.

    Args:
        may_lack: columns that other sources may leave undefined (volume, ask, other pairs); their coverage is reported.

    Raises:
        SuiteBroken: the suite could not run.
    """
    summary = summarise_features(features).with_columns(
        holes_share=pl.when(pl.col("feature").is_in(list(may_lack))).then(0.0).otherwise("holes_share")
    )
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
