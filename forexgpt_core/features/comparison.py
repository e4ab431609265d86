"""Do the features of two parts follow the same law? Kolmogorov-Smirnov, with sizes that allow for dependence.

Neighbouring rows of a feature are alike, so 100,000 of them carry the news of far fewer, and the usual p-value calls
almost every difference significant. The p-value here is taken at effective sizes, n (1 - r) / (1 + r), where r is the
first-order autocorrelation of the feature's ranks, not below 0. That allows for the short memory of an AR(1); a feature
with long swings still looks more certain than it is, so the statistic, which needs no such assumption, comes first.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import kolmogorov

from forexgpt_core.errors import BadInput
from forexgpt_core.features.windows import Windows

Floats = NDArray[np.float64]

_BLOCK_CELLS = 4_000_000  # values ranked at a time, so memory does not grow with the number of features
_LEVEL = 0.05


def compare_parts(train: Windows, valid: Windows) -> pl.DataFrame:
    """Return `compare_samples` of the feature rows of two parts.

    Raises:
        BadInput: the parts have different features, or as `compare_samples`.
    """
    names = train.arrays.feature_names
    if names != valid.arrays.feature_names:
        raise BadInput("only parts with the same features can be compared")
    return compare_samples(train.features, valid.features, names)


def compare_samples(train: Floats, valid: Floats, names: Sequence[str]) -> pl.DataFrame:
    """Return the two-sample Kolmogorov-Smirnov comparison of each column, largest statistic first.

    Args:
        train: (n, f), oldest row first, all finite.
        valid: (m, f), likewise.
        names: f names.

    Returns:
        One row per feature: `feature`; `statistic`, the largest distance of the two distribution functions, 0 to 1;
        `train_rows, valid_rows`; `train_effective, valid_effective`, the rows they are worth; and `p_value` at those.

    Raises:
        BadInput: shapes do not fit, a part is empty, or a value is not finite.

    Source: Stephens (1970), JRSS B 32(1), for the p-value at finite sizes; Bayley and Hammersley (1946), Supplement to
    the JRSS 8(2), for the effective size of an autocorrelated series.
    """
    _require_samples(train, valid, names)
    n, m = train.shape[0], valid.shape[0]
    width = max(_BLOCK_CELLS // (n + m), 1)
    blocks = [_compared(train[:, i : i + width], valid[:, i : i + width]) for i in range(0, len(names), width)]
    statistic, worth_train, worth_valid = (
        np.concatenate(parts) for parts in zip(*blocks or [(np.empty(0), np.empty(0), np.empty(0))])
    )
    root = np.sqrt(worth_train * worth_valid / (worth_train + worth_valid))
    table = pl.DataFrame(
        {
            "feature": pl.Series(list(names), dtype=pl.String),
            "statistic": statistic,
            "train_rows": np.full(len(names), n, dtype=np.int64),
            "valid_rows": np.full(len(names), m, dtype=np.int64),
            "train_effective": worth_train,
            "valid_effective": worth_valid,
            "p_value": kolmogorov((root + 0.12 + 0.11 / root) * statistic),
        }
    )
    return table.sort("statistic", "feature", descending=[True, False])


def comparison_line(table: pl.DataFrame) -> str:
    """Return a comparison as one sentence; beyond chance means p below 5 % after Bonferroni's correction."""
    if table.is_empty():
        return "no feature to compare"
    beyond, first = int((table["p_value"] < _LEVEL / table.height).sum()), table.row(0, named=True)
    return (
        f"{beyond} of {table.height} features differ beyond chance between train ({first['train_rows']} rows) and valid"
        f" ({first['valid_rows']}); most: {first['feature']}, statistic {first['statistic']:.3f} at"
        f" {first['train_effective']:.0f} and {first['valid_effective']:.0f} effective rows"
    )


def _compared(train: Floats, valid: Floats) -> tuple[Floats, Floats, Floats]:
    """Return statistic and effective sizes of some columns at once; each (columns,)."""
    n, m = train.shape[0], valid.shape[0]
    both = np.ascontiguousarray(np.concatenate([train, valid]).T)  # (columns, n + m)
    order = both.argsort(axis=1, kind="stable")
    ordered = np.take_along_axis(both, order, axis=1)
    rises = np.diff(ordered, axis=1) > 0
    from_train = (order < n).cumsum(axis=1)
    from_valid = np.arange(1, n + m + 1) - from_train
    last_of_its_value = np.pad(rises, ((0, 0), (0, 1)), constant_values=True)
    distance = np.where(last_of_its_value, np.abs(from_train / n - from_valid / m), 0.0)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.pad(rises.cumsum(axis=1), ((0, 0), (1, 0))), axis=1)  # equal values, equal rank
    return distance.max(axis=1), _worth(ranks[:, :n]), _worth(ranks[:, n:])


def _worth(ranks: NDArray[np.int64]) -> Floats:
    """Return how many independent rows each series of ranks is worth, from 1 to its length; (columns,)."""
    n = ranks.shape[1]
    d = ranks - ranks.mean(axis=1, keepdims=True)
    power = (d**2).sum(axis=1)
    together = (d[:, 1:] * d[:, :-1]).sum(axis=1)
    r = np.clip(np.divide(together, power, out=np.zeros_like(power), where=power > 0), 0.0, 1.0)
    return np.asarray(np.maximum(n * (1 - r) / (1 + r), 1.0))


def _require_samples(train: Floats, valid: Floats, names: Sequence[str]) -> None:
    for part, values in (("train", train), ("valid", valid)):
        if values.ndim != 2 or values.shape[1] != len(names) or values.shape[0] == 0:
            raise BadInput(f"{part} must hold one or more rows of {len(names)} features, has shape {values.shape}")
        broken = ~np.isfinite(values).all(axis=0)
        if broken.any():
            raise BadInput(f"'{names[int(broken.argmax())]}' is not finite on every row of {part}; compare usable rows")
