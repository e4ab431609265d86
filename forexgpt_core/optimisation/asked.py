"""A search led by Optuna's TPE, told in the words of every other search, so that it is scored and judged like one."""

from collections.abc import Callable

import numpy as np

from forexgpt_core.optimisation.front import hypervolumes
from forexgpt_core.optimisation.goals import Goals, Objective
from forexgpt_core.optimisation.methods import SearchSettings, require_fit
from forexgpt_core.optimisation.optuna_study import StudyKeeper
from forexgpt_core.optimisation.search import Progress, SearchRun, Trial
from forexgpt_core.optimisation.tpe import AskSettings, Cube, Found, Goal, search_strategies
from forexgpt_core.optimisation.trials import Evaluate, TrialStore
from forexgpt_core.strategy.config import StrategyConfig


def run_asked(
    space: Cube,
    evaluate: Evaluate[StrategyConfig],
    goals: Goals,
    settings: SearchSettings,
    store: TrialStore,
    *,
    study: str,
    keeper: StudyKeeper | None = None,
    progress: Callable[[Progress], None] = lambda told: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SearchRun[StrategyConfig]:
    """Return what TPE tried for a single objective: `population` proposals at a time, `generations` times at most.

    Args:
        study, keeper, store: the name of the study, and where Optuna's and our trials are kept; see `tpe.search`.

    Raises:
        BadInput: there are several objectives, or see `tpe.search`.
        NotReady, StoreError: see `tpe.search`.
    """
    require_fit(settings, goals)
    found = search_strategies(
        space,
        evaluate,
        _ask_settings(goals, settings),
        study=study,
        trials=store,
        keeper=keeper,
        progress=progress,
        should_stop=should_stop,
    )
    return _as_run(found, goals, settings)


def _ask_settings(goals: Goals, settings: SearchSettings) -> AskSettings:
    bounds = goals.constraints
    return AskSettings(
        goals=tuple(map(_goal, goals.objectives)),
        proposals=settings.population * settings.generations,
        batch=settings.population,
        seed=settings.seed,
        least={one.name: one.least for one in bounds if one.least is not None},
        most={one.name: one.most for one in bounds if one.most is not None},
        patience=settings.patience,
        seconds=settings.time_limit_seconds,
    )


def _goal(objective: Objective) -> Goal:
    return Goal(figure=objective.name, larger=objective.direction == "max", undefined=objective.undefined)


def _as_run(found: Found[StrategyConfig], goals: Goals, settings: SearchSettings) -> SearchRun[StrategyConfig]:
    figures = [one.stats for one in found.tried]
    values, violations = goals.values(figures), goals.violations(figures)
    trials = [
        Trial(number=place, candidate=one.candidate, figures=one.stats, violation=float(violation))
        for place, (one, violation) in enumerate(zip(found.tried, violations, strict=True))
    ]
    firsts = np.array([one.number for one in found.tried])
    ends = [int((firsts < end).sum()) for end in range(settings.population, found.proposals + 1, settings.population)]
    return SearchRun(
        goals=goals,
        settings=settings,
        trials=tuple(trials),
        values=values,
        violations=violations,
        repeats=found.repeats,
        generation_ends=tuple(ends),
        hypervolume=hypervolumes(values, violations <= 0, ends),
        stopped=found.stopped,
        note=found.note,
    )
