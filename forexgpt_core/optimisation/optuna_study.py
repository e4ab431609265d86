"""Optuna studies that may be killed at any moment and still end as if nobody had.

What to try is asked of a study in memory; only finished trials are kept (`StudyKeeper`), batch by batch. Trial n is
drawn by a sampler of its own, seeded with (seed, n), from nothing but the trials of earlier batches and the params of
its own batch. So a study that starts again loads its whole batches, asks the rest anew and is told the same: what the
kept trials say and what a new process draws do not depend on when it was killed.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from forexgpt_core.errors import StoreError
from forexgpt_core.optimisation.trials import Candidate

Direction = Literal["minimize", "maximize"]
Sampler = Literal["tpe", "nsga2", "random"]
C_co = TypeVar("C_co", bound=Candidate, covariant=True)


class Asked(Protocol[C_co]):
    """What Optuna is asked about: named parameters, and the candidate that their values make."""

    def distributions(self) -> dict[str, Any]:
        """Return Optuna's distribution of every parameter."""
        ...

    def candidate(self, params: Mapping[str, Any]) -> C_co:
        """Return the candidate with these values."""
        ...


class StudyKeeper(Protocol):
    """Where finished trials are kept; see `adapters.optuna_storage.OptunaStudies`."""

    def read(self, name: str, directions: Sequence[Direction]) -> list[Any]:
        """Return the finished trials of a study (optuna.trial.FrozenTrial) in the order tried; none of a new one."""
        ...

    def append(self, name: str, directions: Sequence[Direction], trials: Sequence[Any], *, first: int) -> None:
        """Keep trials number `first` and on; those kept already, such as by another worker, stay as they are."""
        ...


class NotKept:
    """Keeps nothing: a study that ends with its process."""

    def read(self, name: str, directions: Sequence[Direction]) -> list[Any]:
        """Return no trial."""
        return []

    def append(self, name: str, directions: Sequence[Direction], trials: Sequence[Any], *, first: int) -> None:
        """Do nothing."""


@cache
def quiet_optuna() -> Any:
    """Return the package, imported on first use; it logs through ours, warnings and worse, and prints nothing."""
    import optuna

    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    optuna.logging.set_verbosity(logging.WARNING)
    return optuna


class ResumableStudy:
    """One study, asked and told batch by batch."""

    def __init__(
        self,
        name: str,
        directions: Sequence[Direction],
        *,
        seed: int,
        batch: int,
        most: int,
        sampler: Sampler = "tpe",
        pruner: Any = None,
        keeper: StudyKeeper | None = None,
    ) -> None:
        """Load the finished trials of the study: all `most` of them, or else those of whole batches."""
        self._name, self._directions, self._seed = name, tuple(directions), seed
        self._batch, self._most, self._sampler = batch, most, sampler
        self._keeper: StudyKeeper = keeper or NotKept()
        optuna = quiet_optuna()
        self._study = optuna.create_study(directions=list(directions), pruner=pruner or optuna.pruners.NopPruner())
        self._kept = self._keeper.read(name, self._directions)
        whole = most if len(self._kept) >= most else len(self._kept) // batch * batch
        self._study.add_trials(self._kept[:whole])
        self._told = whole

    @property
    def finished(self) -> list[Any]:
        """Return all finished trials (optuna.trial.FrozenTrial) in the order tried."""
        trials: list[Any] = self._study.get_trials(deepcopy=False)[: self._told]
        return trials

    @property
    def done(self) -> bool:
        """Return whether nothing is left to ask."""
        return self._told >= self._most

    def ask(self, distributions: Mapping[str, Any]) -> list[Any]:
        """Return the trials (optuna.trial.Trial) of the next batch.

        Raises:
            StoreError: one of them was kept earlier with other values.
        """
        numbers = range(self._told, min(self._told + self._batch, self._most))
        return [self._ask_one(number, distributions) for number in numbers]

    def tell(self, trial: Any, values: Sequence[float] | None, lacking: Mapping[str, float] | None = None) -> None:
        """Finish a trial of the batch.

        Args:
            values: of the objectives; None prunes it.
            lacking: by how much it misses each constraint; 0 or less keeps it.
        """
        for name, amount in (lacking or {}).items():
            trial.set_constraint(name, amount)
        state = quiet_optuna().trial.TrialState
        if values is None:
            self._study.tell(trial, state=state.PRUNED)
        else:
            self._study.tell(trial, list(values))

    def keep(self) -> None:
        """Keep the batch, all of whose trials were told."""
        batch = self._study.get_trials(deepcopy=False)[self._told :]
        self._keeper.append(self._name, self._directions, batch, first=self._told)
        self._told += len(batch)

    def _ask_one(self, number: int, distributions: Mapping[str, Any]) -> Any:
        self._study.sampler = _sampler(self._sampler, _seed_of(self._seed, number), population=self._batch)
        trial = self._study.ask(dict(distributions))
        if number < len(self._kept) and self._kept[number].params != trial.params:
            raise StoreError(
                f"trial {number} of the study {self._name} was kept with {self._kept[number].params}, asked again it is"
                f" {trial.params}: another space, seed or release of Optuna made it; begin a new study"
            )
        return trial


def _seed_of(seed: int, number: int) -> int:
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def _sampler(kind: Sampler, seed: int, *, population: int) -> Any:
    samplers = quiet_optuna().samplers
    if kind == "random":
        return samplers.RandomSampler(seed=seed)
    if kind == "tpe":
        return samplers.TPESampler(seed=seed)  # its constant liar keeps the members of a batch apart
    return _nsga2()(seed=seed, population_size=max(population, 2))


@cache
def _nsga2() -> Callable[..., Any]:
    class NSGAIISampler(quiet_optuna().samplers.NSGAIISampler):  # type: ignore[misc]  # Optuna is not typed here
        """Optuna's, with parents in the order tried: its own order depends on whether it remembers them."""

        def get_parent_population(self, study: Any, generation: int) -> list[Any]:
            return sorted(super().get_parent_population(study, generation), key=lambda trial: trial.number)

    return NSGAIISampler
