"""Combinatorial purged cross-validation: the skill of a family as a distribution over backtest paths, not one number.

A walk forward tests one order of events. Here each group of rows is forecast by several fits that never saw it, so a
result that hangs on one lucky stretch shows. Most fits have seen what came after the rows they forecast: this tells how
much of a skill is luck, and never what would have been earned.

Source: Lopez de Prado (2018), Advances in Financial Machine Learning, chapter 12.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.calibration.conformal import ConformalCalibrator
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import NotReady, StoreError
from forexgpt_core.evaluation.combinatorial_splits import (
    CombinatorialSettings,
    CombinatorialSplit,
    combinatorial_splits,
    group_bounds,
    held_out_groups,
    path_splits,
)
from forexgpt_core.evaluation.scores import crps
from forexgpt_core.features.windows import Windows
from forexgpt_core.models.catalogue import family_options, new_forecaster
from forexgpt_core.models.forecaster import FitRun

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REFERENCE = "random_walk"
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # of the distribution over paths


class SplitStore(Protocol):
    """Keeps the forecasts of finished splits by key, so that an interrupted run goes on where it was."""

    def get(self, key: str) -> ForecastBatch | None:
        """Return what was put under `key`, to the last bit, or None."""
        ...

    def put(self, key: str, forecasts: ForecastBatch) -> None:
        """Keep the calibrated forecasts of a split's held-out rows, in time order."""
        ...


class _NoStore:
    def get(self, key: str) -> ForecastBatch | None:
        return None

    def put(self, key: str, forecasts: ForecastBatch) -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BacktestPath:
    """One history of forecasts that covers every row once, stitched from the splits.

    Attributes:
        splits: (N,) the split that forecast each group.
        forecasts, reference: of the family and of the walk refitted in the very same splits, origins in time order.
        returns: (n, H) realised log returns.
    """

    number: int
    splits: tuple[int, ...]
    forecasts: ForecastBatch
    reference: ForecastBatch
    returns: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SkillDistribution:
    """Skill over the reference on the paths, per horizon.

    Paths share rows and fits, so the spread over them is no standard error: a skill whose low quantile is above 0 did
    not hang on the choice of training rows, and may still be luck of these returns.

    Attributes:
        std: (H,) with divisor paths - 1; NaN for a single path.
        quantiles: (len(LEVELS), H).
        below_zero: (H,) share of the paths that did worse than the reference.
    """

    horizons_bars: tuple[int, ...]
    mean: Floats
    std: Floats
    quantiles: Floats
    below_zero: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class CrossValidation:
    """The forecasts of every split, and the paths they make.

    Attributes:
        forecasts, reference: one batch per split, of its held-out rows in time order.
    """

    windows: Windows
    family: str
    settings: CombinatorialSettings
    forecasts: tuple[ForecastBatch, ...]
    reference: tuple[ForecastBatch, ...]

    @cached_property
    def skill(self) -> Floats:
        """Return 1 - CRPS / CRPS of the reference of each path; shape (paths, H)."""
        bounds, table = group_bounds(len(self.windows), self.settings.groups), path_splits(self.settings)
        model, plain = (
            _group_losses(batches, self.windows.returns, bounds, self.settings)
            for batches in (self.forecasts, self.reference)
        )
        groups = np.arange(self.settings.groups)
        return np.asarray(1 - model[table, groups].sum(axis=1) / plain[table, groups].sum(axis=1))

    @property
    def distribution(self) -> SkillDistribution:
        """Return mean, spread and quantiles of the skill over the paths."""
        skill = self.skill
        single = np.full(skill.shape[1], np.nan)
        return SkillDistribution(
            horizons_bars=self.windows.arrays.horizons_bars,
            mean=skill.mean(axis=0),
            std=skill.std(axis=0, ddof=1) if len(skill) > 1 else single,
            quantiles=np.quantile(skill, LEVELS, axis=0),
            below_zero=(skill < 0).mean(axis=0),
        )

    def path(self, number: int) -> BacktestPath:
        """Return one path; stitched when asked for, because all of them are large.

        Raises:
            IndexError: there are not so many.
        """
        splits = path_splits(self.settings)[number]
        return BacktestPath(
            number=number,
            splits=tuple(int(split) for split in splits),
            forecasts=self._stitched(self.forecasts, splits),
            reference=self._stitched(self.reference, splits),
            returns=self.windows.returns,
        )

    def _stitched(self, batches: tuple[ForecastBatch, ...], splits: Ints) -> ForecastBatch:
        bounds, held_out = group_bounds(len(self.windows), self.settings.groups), held_out_groups(self.settings)
        parts = [batches[int(n)].take(_places(held_out[n], group, bounds)) for group, n in enumerate(splits)]
        return replace(
            parts[0],
            origin_utc=np.concatenate([part.origin_utc for part in parts]),
            quantiles=np.concatenate([part.quantiles for part in parts]),
            scale=np.concatenate([part.scale for part in parts]),
        )


def cross_validate(
    windows: Windows,
    family: str,
    options: Mapping[str, object],
    settings: CombinatorialSettings,
    run: FitRun,
    *,
    store: SplitStore | None = None,
) -> CrossValidation:
    """Fit, calibrate and forecast in every split, and do the same with the reference.

    Args:
        windows: rows in time order whose labels are known.
        options: of the family; what is left out takes its default.
        run: its folder gets one folder per fit; asked to stop, it stops between splits.
        store: finished splits are taken from it and put into it; None keeps nothing.

    Raises:
        UnsortedRows, BadInput, NotReady: as in `combinatorial_splits`.
        NotReady: it was asked to stop; the splits that are stored need not be fitted again.
        StoreError: the store gave the forecasts of other rows.
    """
    store = store or _NoStore()
    splits, data = combinatorial_splits(windows, settings), data_identity(windows)
    same = family == REFERENCE and _full_options(family, options) == family_options(REFERENCE)
    forecasts, reference = [], []
    for split in splits:
        part = replace(run, progress=_share_of(run.progress, split.number, len(splits)))
        forecasts.append(_forecast_split(split, family, options, settings, part, store, data))
        plain = forecasts[-1] if same else _forecast_split(split, REFERENCE, {}, settings, part, store, data)
        reference.append(plain)
    return CrossValidation(
        windows=windows,
        family=family,
        settings=settings,
        forecasts=tuple(forecasts),
        reference=tuple(reference),
    )


def forecast_split(
    split: CombinatorialSplit, family: str, options: Mapping[str, object], run: FitRun, method: str = "normalised"
) -> ForecastBatch:
    """Return the calibrated forecasts of a split's held-out rows by a model fitted in it; rows in time order.

    Train, valid and calibration rows alone are fitted on.

    Args:
        method: of the split conformal calibrator.
    """
    model = new_forecaster(family, options).fit(split.train, split.valid, run=run)
    calibrator = ConformalCalibrator.fit(model.forecast(split.calibration), split.calibration.returns, method=method)
    return calibrator.apply(model.forecast(split.test))


def split_key(
    split: CombinatorialSplit,
    family: str,
    options: Mapping[str, object],
    settings: CombinatorialSettings,
    *,
    seed: int,
    data: str,
) -> str:
    """Return the content hash of everything that a split's forecasts depend on, but for the program itself.

    Args:
        data: see `data_identity`.
    """
    content = {
        "data": data,
        "family": family,
        "held_out": split.held_out,
        "options": _full_options(family, options),
        "seed": seed,
        "settings": asdict(settings),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def data_identity(windows: Windows) -> str:
    """Return the content hash of rows and all that a family can read at them: prices, features, labels, sequences."""
    arrays, digest = windows.arrays, hashlib.sha256()
    named = {
        "rows": windows.rows,
        "ts_utc": arrays.ts_utc,
        "close": arrays.close,
        "features": arrays.features,
        "returns": arrays.returns,
        "label_end_utc": arrays.label_end_utc,
    }
    heads: list[object] = [arrays.symbol, str(arrays.timeframe), arrays.feature_names, arrays.horizons_bars]
    for frame, bars in sorted(arrays.sequences.items()):
        heads.append([str(frame), bars.names, bars.price_columns])
        named |= {f"{frame}.ts_utc": bars.ts_utc, f"{frame}.values": bars.values, f"{frame}.newest": bars.newest}
    digest.update(json.dumps(heads).encode())
    for name, array in named.items():
        digest.update(f"|{name} {array.dtype} {array.shape}|".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _forecast_split(
    split: CombinatorialSplit,
    family: str,
    options: Mapping[str, object],
    settings: CombinatorialSettings,
    run: FitRun,
    store: SplitStore,
    data: str,
) -> ForecastBatch:
    key = split_key(split, family, options, settings, seed=run.seed, data=data)
    found = store.get(key)
    if found is not None:
        _require_rows_of(found, split, key)
        return found
    folder = run.folder / f"{family}-split-{split.number}"
    folder.mkdir(parents=True, exist_ok=True)
    _require_going(run, split)
    made = forecast_split(split, family, options, replace(run, folder=folder), settings.method)
    _require_going(run, split)  # a fit that was stopped keeps what it has, which is not what was asked for
    store.put(key, made)
    return made


def _require_going(run: FitRun, split: CombinatorialSplit) -> None:
    if run.should_stop():
        raise NotReady(f"cross-validation was stopped at split {split.number}; run it again to go on from there")


def _require_rows_of(found: ForecastBatch, split: CombinatorialSplit, key: str) -> None:
    test = split.test
    same = found.horizons_bars == test.arrays.horizons_bars and np.array_equal(found.origin_utc, test.origin_utc)
    if not same:
        raise StoreError(f"what is stored as {key[:12]} holds other rows than split {split.number}; remove it")


def _full_options(family: str, options: Mapping[str, object]) -> dict[str, object]:
    return {**family_options(family), **options}


def _share_of(progress: Callable[[float, str], None], split: int, splits: int) -> Callable[[float, str], None]:
    def report(share: float, message: str) -> None:
        progress((split + share) / splits, f"split {split + 1} of {splits}: {message}")

    return report


def _places(held_out: tuple[int, ...], group: int, bounds: Ints) -> Ints:
    """Return where a group's rows stand among those of all groups that a split holds out."""
    sizes = np.diff(bounds)
    start = int(sum(sizes[g] for g in held_out if g < group))
    return np.arange(start, start + sizes[group], dtype=np.int64)


def _group_losses(
    batches: tuple[ForecastBatch, ...], returns: Floats, bounds: Ints, settings: CombinatorialSettings
) -> Floats:
    """Return the summed CRPS of each split in each group it holds out; shape (splits, groups, H), NaN elsewhere."""
    losses = np.full((settings.splits, settings.groups, returns.shape[1]), np.nan)
    for split, held_out in enumerate(held_out_groups(settings)):
        for group in held_out:
            y = returns[bounds[group] : bounds[group + 1]]
            forecast = batches[split].quantiles[_places(held_out, group, bounds)]
            losses[split, group] = crps(forecast, y).sum(axis=0)
    return losses
