"""Options of a model family, searched by TPE over inner walk-forward folds, the hopeless ones given up early.

An option set is judged by its mean CRPS over the test blocks of the folds, in reference scales. After each fold it is
compared with those that ran to the end, and given up where the median of them was better: the median rule needs no
more than the few steps that folds give, where successive halving would drop most sets after the first one, on noise.
Compared is the CRPS relative to that of the options in use over the same folds, because folds differ far more among
themselves (calm years, wild years) than options do.

Nothing is applied here. `TuningResult.family_options` holds the options in use wherever the best found is not better
than them beyond noise, all sets tried allowed for.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtr

from forexgpt_core.backtest.performance import Stats
from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.optimisation.inner_folds import InnerFolds, OptionSet, scaled_losses
from forexgpt_core.optimisation.option_space import OptionSpace
from forexgpt_core.optimisation.optuna_study import ResumableStudy, StudyKeeper, quiet_optuna
from forexgpt_core.optimisation.trials import Evaluate, TrialStore, try_all

_BLOCKS = 8  # of a fold's test rows; their means are compared
_LEAST_BLOCKS = 4  # to say anything of noise
_LEVEL = 0.05
_LEASE_SECONDS = 1800.0  # a fit may take long, and nobody else shall begin it meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningSettings:
    """How to search options.

    Attributes:
        proposals: option sets asked of Optuna, those that come back included.
        batch: sets asked together; those of one batch know nothing of one another's figures.
        complete_first: sets that run to the end before any is given up.
        prune_after_folds: folds seen before a set may be given up.
        seconds: no fit begins after so long; None for no limit.
    """

    proposals: int = 30
    batch: int = 2
    seed: int = 0
    complete_first: int = 5
    prune_after_folds: int = 2
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.proposals < 1 or self.batch < 1 or self.seed < 0:
            raise BadInput(
                f"proposals and batch must be 1 or more and seed 0 or more,"
                f" were {self.proposals}, {self.batch} and {self.seed}"
            )
        if self.complete_first < 1 or self.prune_after_folds < 1:
            raise BadInput(
                f"complete_first and prune_after_folds must be 1 or more,"
                f" were {self.complete_first} and {self.prune_after_folds}"
            )
        if self.seconds is not None and not self.seconds > 0:
            raise BadInput(f"seconds must be above 0, was {self.seconds}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedOptions:
    """One option set and its mean CRPS per fold, in reference scales; fewer folds than there are where it was pruned.

    Attributes:
        number: of its first proposal; None for the options in use.
    """

    number: int | None
    options: Mapping[str, object]
    crps_by_fold: tuple[float, ...]
    pruned: bool

    @property
    def crps(self) -> float:
        """Return the mean over its folds; sets with different folds do not compare."""
        return float(np.mean(self.crps_by_fold))


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningResult:
    """What a search of options found.

    Attributes:
        usual: the options in use, judged on the same folds.
        best: the least mean CRPS among the sets that ran to the end.
        tried: all different sets, in the order proposed, the pruned ones among them.
        proposals: how many Optuna made; the rest had been tried.
        p_value: of "the best is no better than the options in use", one-sided, from the means of blocks of rows and
            times the number of sets tried (Bonferroni); 1 where too few blocks allow no judgement.
        finished: False where time or the caller ended it.
        note: in words, what a reader has to know; empty if nothing.
    """

    family: str
    usual: TriedOptions
    best: TriedOptions
    tried: tuple[TriedOptions, ...]
    proposals: int
    p_value: float
    finished: bool
    note: str

    @property
    def convincing(self) -> bool:
        """Return whether the best beats the options in use beyond noise."""
        return self.p_value < _LEVEL and self.best.crps < self.usual.crps

    @property
    def pruned(self) -> int:
        """Return how many sets were given up before their last fold."""
        return sum(one.pruned for one in self.tried)

    def family_options(self) -> dict[str, dict[str, object]]:
        """Return the entry for `SymbolSettings.family_options`: the best where it convinces, else what is in use."""
        chosen = self.best if self.convincing else self.usual
        return {self.family: dict(chosen.options)}

    def document(self) -> dict[str, Any]:
        """Return the result as plain JSON types."""
        return {
            "family": self.family,
            "family_options": self.family_options(),
            "convincing": self.convincing,
            "p_value": self.p_value,
            "usual": {"options": dict(self.usual.options), "crps": self.usual.crps},
            "best": {"options": dict(self.best.options), "crps": self.best.crps},
            "gain_percent": 100 * (1 - self.best.crps / self.usual.crps),
            "proposals": self.proposals,
            "tried": len(self.tried),
            "pruned": self.pruned,
            "finished": self.finished,
            "note": self.note,
            "trials": [
                {"number": t.number, "options": dict(t.options), "crps_by_fold": list(t.crps_by_fold)}
                | {"pruned": t.pruned}
                for t in self.tried
            ],
        }


def tune(
    space: OptionSpace,
    folds: InnerFolds,
    settings: TuningSettings,
    *,
    study: str,
    trials: TrialStore,
    keeper: StudyKeeper | None = None,
    progress: Callable[[float, str], None] = lambda share, message: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TuningResult:
    """Search the options of a family on the inner folds of a training part; see `search_options`."""
    return search_options(
        space,
        lambda asked: [fold_figures(one, folds) for one in asked],
        settings,
        folds=len(folds.folds),
        study=study,
        trials=trials,
        keeper=keeper,
        progress=progress,
        should_stop=should_stop,
    )


def fold_figures(one: OptionSet, folds: InnerFolds) -> Stats:
    """Return the mean CRPS of an option set on its fold, of all rows and of equal consecutive blocks of them."""
    assert one.fold is not None  # as every set that a search of options tries has
    forecasts, returns = folds.forecast(one, one.fold)
    losses = scaled_losses(forecasts, returns)
    count = max(1, min(_BLOCKS, losses.size // forecasts.horizons_bars[-1]))
    blocks = {f"block_{n}": float(block.mean()) for n, block in enumerate(np.array_split(losses, count))}
    return {"crps": float(losses.mean()), "rows": losses.size, **blocks}


def search_options(
    space: OptionSpace,
    evaluate: Evaluate[OptionSet],
    settings: TuningSettings,
    *,
    folds: int,
    study: str,
    trials: TrialStore,
    keeper: StudyKeeper | None = None,
    progress: Callable[[float, str], None] = lambda share, message: None,
    should_stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> TuningResult:
    """Return the best options that TPE finds, beside those in use.

    Each fold of each set is stored as soon as it is fitted: killed and started again under the same name, with the
    same stores, the search loses one fit at most and ends with what one run gives.

    Args:
        evaluate: figures of option sets on their folds, see `fold_figures`.
        folds: how many there are.
        study: name of the study: a hash of whatever decides its figures (data, folds, space, settings, seeds).
        trials: figures per set and fold; those found there are not evaluated again.
        keeper: keeps Optuna's trials; None forgets them with the process.
        progress: called after every fit with (share done, message).
        should_stop: asked before every fit; what was found by then is returned.

    Raises:
        NotReady: it was stopped before one set ran to its end.
        StoreError: a store failed, or it holds a study of that name that was made otherwise.
    """
    search = _Search(space, evaluate, settings, folds, trials, progress, should_stop, clock)
    session = ResumableStudy(
        study,
        ["minimize"],
        seed=settings.seed,
        batch=settings.batch,
        most=settings.proposals,
        pruner=quiet_optuna().pruners.MedianPruner(
            n_startup_trials=settings.complete_first, n_warmup_steps=settings.prune_after_folds - 1
        ),
        keeper=keeper,
    )
    judged: dict[int, TriedOptions] = {}
    reason = ""
    try:
        usual = search.usual()
        judged |= {trial.number: search.remembered(trial) for trial in session.finished}
        distributions = space.distributions()
        while not session.done:
            batch = [(trial, search.judge(trial, usual)) for trial in session.ask(distributions)]
            for trial, one in batch:
                session.tell(trial, None if one.pruned else [one.crps])
            session.keep()
            judged |= {trial.number: one for trial, one in batch}
    except _Stopped as stopped:
        reason = str(stopped)
    if all(one.pruned for one in judged.values()):
        raise NotReady(f"the search was {reason or 'ended'} before one option set ran to its end; nothing was found")
    return _result(space, search, usual, judged, reason)


class _Stopped(Exception):
    """Time or the caller ended the search; carries which."""


class _Search:
    """Figures of option sets, fold by fold."""

    def __init__(
        self,
        space: OptionSpace,
        evaluate: Evaluate[OptionSet],
        settings: TuningSettings,
        folds: int,
        trials: TrialStore,
        progress: Callable[[float, str], None],
        should_stop: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._space, self._evaluate, self._settings, self._folds = space, evaluate, settings, folds
        self._trials, self._progress, self._should_stop, self._clock = trials, progress, should_stop, clock
        self._began = clock()

    def usual(self) -> TriedOptions:
        """Return the options in use on every fold."""
        figures = [self.figures(-1, self._space.fixed, fold) for fold in range(self._folds)]
        return TriedOptions(
            number=None, options=self._space.fixed, crps_by_fold=tuple(map(_crps, figures)), pruned=False
        )

    def judge(self, trial: Any, usual: TriedOptions) -> TriedOptions:
        """Return a proposal on fold after fold, until it is given up or through."""
        options = self._space.options(trial.params)
        seen: list[float] = []
        for fold in range(self._folds):
            seen.append(_crps(self.figures(trial.number, options, fold)))
            trial.report(sum(seen) / sum(usual.crps_by_fold[: fold + 1]), fold)
            share = (trial.number + (fold + 1) / self._folds) / self._settings.proposals
            self._progress(share, f"set {trial.number + 1} of {self._settings.proposals}, fold {fold + 1}")
            if fold + 1 < self._folds and trial.should_prune():
                return TriedOptions(number=trial.number, options=options, crps_by_fold=tuple(seen), pruned=True)
        return TriedOptions(number=trial.number, options=options, crps_by_fold=tuple(seen), pruned=False)

    def remembered(self, trial: Any) -> TriedOptions:
        """Return a kept trial on the folds it was tried on."""
        options, folds = self._space.options(trial.params), len(trial.intermediate_values)
        seen = tuple(_crps(self.figures(trial.number, options, fold)) for fold in range(folds))
        return TriedOptions(number=trial.number, options=options, crps_by_fold=seen, pruned=folds < self._folds)

    def figures(self, number: int, options: Mapping[str, object], fold: int) -> Stats:
        """Return the figures of a set on a fold, evaluated unless they are stored."""
        one = OptionSet(family=self._space.family, options=options, fold=fold)
        known = self._trials.finished([one.hash12])
        if one.hash12 in known:
            return known[one.hash12]
        self._stop_if_asked()
        place = (number + 1) * self._folds + fold  # the options in use come first
        return try_all({place: one}, self._evaluate, self._trials, lease_seconds=_LEASE_SECONDS)[one.hash12]

    def _stop_if_asked(self) -> None:
        if self._should_stop():
            raise _Stopped("stopped")
        limit = self._settings.seconds
        if limit is not None and self._clock() - self._began >= limit:
            raise _Stopped(f"out of its {limit:g} s")

    def blocks(self, one: TriedOptions) -> np.ndarray:
        """Return the mean loss of every block of every fold of a set that ran to its end, in time order."""
        figures = [self.figures(one.number or 0, one.options, fold) for fold in range(self._folds)]
        return np.array([figure[name] for figure in figures for name in figure if name.startswith("block_")])


def _crps(figures: Stats) -> float:
    found = figures["crps"]
    if not isinstance(found, int | float) or not np.isfinite(found):
        raise BadInput(f"'crps' must be a finite number to search by, was {found!r}")
    return float(found)


def _result(
    space: OptionSpace, search: _Search, usual: TriedOptions, judged: Mapping[int, TriedOptions], reason: str
) -> TuningResult:
    tried: dict[str, TriedOptions] = {}
    for _, one in sorted(judged.items()):
        name = OptionSet(family=space.family, options=one.options).hash12
        if name not in tried or tried[name].pruned:  # one that comes back may run further
            tried[name] = one
    through = [one for one in tried.values() if not one.pruned]
    best = min(through, key=lambda one: one.crps)
    p_value = min(1.0, len(tried) * _p_no_better(search.blocks(best), search.blocks(usual)))
    convinces = p_value < _LEVEL and best.crps < usual.crps
    remarks = [] if convinces else [f"no set of {len(tried)} beats the options in use beyond noise, so they stay"]
    if reason:
        remarks.append(f"{reason} after {len(judged)} proposals")
    return TuningResult(
        family=space.family,
        usual=usual,
        best=best,
        tried=tuple(tried.values()),
        proposals=len(judged),
        p_value=p_value,
        finished=not reason,
        note="; ".join(remarks),
    )


def _p_no_better(best: Sequence[float] | np.ndarray, usual: Sequence[float] | np.ndarray) -> float:
    """Return the one-sided p-value of equal mean losses, by Student's t over the differences of block means."""
    gain = np.asarray(usual) - np.asarray(best)
    if gain.size < _LEAST_BLOCKS or not gain.std() > 0:
        return 1.0
    t = gain.mean() / (gain.std(ddof=1) / np.sqrt(gain.size))
    return float(stdtr(gain.size - 1, -t))
