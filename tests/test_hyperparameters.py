"""Options of a family are searched inside its training part, the hopeless given up early, and noise changes nothing."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_optuna_tpe import Kept
from test_walk_forward import market

from forexgpt_core.adapters.optuna_storage import OptunaStudies
from forexgpt_core.backtest.performance import Stats
from forexgpt_core.deployment.symbol_settings import SymbolSettings, default_settings
from forexgpt_core.errors import BadInput, NotReady, UnknownName
from forexgpt_core.evaluation.walk_forward import WalkForwardSettings, fold_parts, plan_folds
from forexgpt_core.features.windows import Windows
from forexgpt_core.models.catalogue import FAMILIES, family_options, new_forecaster
from forexgpt_core.optimisation.hyperparameters import TuningResult, TuningSettings, search_options, tune
from forexgpt_core.optimisation.inner_folds import InnerFolds, OptionSet, inner_settings, training_part
from forexgpt_core.optimisation.option_space import SPACES, option_space
from forexgpt_core.optimisation.trials import Memory

FOLDS = 4
SHORT = TuningSettings(proposals=16, batch=2, seed=3)
FAST = {"rounds": [4, 8], "max_depth": [1, 2]}


class Synthetic:
    """Figures of boosting with a known best learning rate, on folds as different as years are."""

    def __init__(self, *, slope: float = 0.1, noise: float = 0.002, seed: int = 0, pause: float = 0.0) -> None:
        self.slope, self.noise, self.seed, self.pause = slope, noise, seed, pause
        self.asked: list[OptionSet] = []

    def __call__(self, asked: Sequence[OptionSet]) -> list[Stats]:
        self.asked += asked
        time.sleep(self.pause)
        return [self.figures(one) for one in asked]

    def figures(self, one: OptionSet) -> Stats:
        rate = float(one.everything["learning_rate"])
        drawn = np.random.default_rng([self.seed, int(one.hash12, 16)])
        level = (0.5, 2.0, 1.0, 4.0)[one.fold] * (1 + self.slope * abs(np.log(rate / 0.04)))
        blocks = level * (1 + self.noise * drawn.normal(size=8))
        return {"crps": float(blocks.mean()), "rows": 80, **{f"block_{n}": float(b) for n, b in enumerate(blocks)}}


def search(evaluate: Any = None, wanted: TuningSettings = SHORT, **told: Any) -> TuningResult:
    given = {"study": "boosting", "trials": Memory(), "folds": FOLDS} | told
    return search_options(option_space("boosting"), evaluate or Synthetic(), wanted, **given)


def test_every_family_but_the_reference_says_what_to_search_and_accepts_it() -> None:
    assert set(SPACES) == set(FAMILIES) - {"random_walk"}
    for family, searched in SPACES.items():
        assert set(searched) <= set(family_options(family))
        option_space(family)  # which lets the family judge every end
        for name, freedom in searched.items():
            usual = family_options(family)[name]
            ends = freedom.ends()
            assert usual in ends or ends[0] <= usual <= ends[-1], f"the default of {family}.{name} can be found"


@pytest.mark.parametrize(
    ("family", "changes", "error", "message"),
    [
        ("prophet", {}, UnknownName, "unknown model family 'prophet'; known: random_walk, linear"),
        ("random_walk", {}, BadInput, "random_walk has no options to search; families that have: linear"),
        ("linear", {"trees": [1, 2]}, BadInput, "option 'trees' of linear does not exist; searched: penalty"),
        ("boosting", {"rounds": [50, 20]}, BadInput, r"boosting.rounds must be \[least, most\] .* was \[50, 20\]"),
        ("boosting", {"rounds": [20]}, BadInput, r"boosting.rounds must be \[least, most\]"),
        ("boosting", {"rounds": ["a", "b"]}, BadInput, r"boosting.rounds must be \[least, most\]"),
        ("boosting", {"rounds": [1.5, 20]}, BadInput, "boosting.rounds must be whole numbers"),
        ("boosting", {"learning_rate": [0, 1]}, BadInput, "boosting.learning_rate must begin above 0"),
        ("boosting", {"learning_rate": [0.1, 3]}, BadInput, r"learning_rate must lie in \(0, 1\]"),
        ("linear", {"penalty": ["ridge", "ridge"]}, BadInput, "linear.penalty must list values, each once"),
        ("linear", {"penalty": ["none"]}, BadInput, "penalty must be one of ridge, lasso, elastic_net, was 'none'"),
        (
            "linear",
            {"penalty": "ridge", "pca_components": 0, "caution": 1},
            BadInput,
            "every option of linear is fixed",
        ),
    ],
)
def test_an_unlawful_space_is_refused_in_one_line(
    family: str, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as refused:
        option_space(family, changes=changes)
    assert "\n" not in str(refused.value)


def test_a_space_keeps_what_is_fixed_and_searches_the_rest() -> None:
    space = option_space("boosting", changes={"rounds": [5, 9], "max_depth": 2}, fixed={"caution": 1.0})
    assert set(space.distributions()) == {"rounds", "learning_rate", "leaf_share", "caution"}
    assert space.options({"rounds": 7, "learning_rate": 0.123456}) == {
        "caution": 1.0,
        "max_depth": 2,
        "rounds": 7,
        "learning_rate": 0.1235,
    }
    assert option_space("linear").document()["searched"]["pca_components"] == [0, 16]


def test_a_default_written_out_is_the_same_set() -> None:
    assert (
        OptionSet(family="boosting", options={"rounds": 60}).hash12 == OptionSet(family="boosting", options={}).hash12
    )
    assert OptionSet(family="boosting", options={}, fold=0).hash12 != OptionSet(family="boosting", options={}).hash12


def test_a_bad_set_is_given_up_before_its_last_fold() -> None:
    evaluate = Synthetic()
    found = search(evaluate)
    assert found.pruned > 0
    fits = {one.hash12 for one in evaluate.asked}
    assert len(fits) == len(evaluate.asked), "nothing is fitted twice"
    assert len(fits) == FOLDS + sum(len(one.crps_by_fold) for one in found.tried) < FOLDS * (1 + len(found.tried))
    through = [one for one in found.tried if not one.pruned]
    for one in found.tried:
        assert len(one.crps_by_fold) == FOLDS or (one.pruned and len(one.crps_by_fold) >= SHORT.prune_after_folds)
        if one.pruned:  # judged by folds seen, so never one of the best
            same_folds = [np.mean(other.crps_by_fold[: len(one.crps_by_fold)]) for other in through]
            assert one.crps > min(same_folds)
    assert all(not one.pruned for one in found.tried[: SHORT.complete_first])


def test_a_clear_gain_is_taken_and_named() -> None:
    found = search(wanted=replace(SHORT, proposals=24))
    assert found.convincing
    assert found.best.crps == min(one.crps for one in found.tried if not one.pruned) < found.usual.crps
    assert abs(np.log(found.best.options["learning_rate"] / 0.04)) < abs(np.log(0.1 / 0.04)) / 2
    assert found.family_options() == {"boosting": dict(found.best.options)}
    document = found.document()
    assert document["tried"] == len(document["trials"]) == 24
    assert document["pruned"] == sum(trial["pruned"] for trial in document["trials"]) > 0
    assert document["gain_percent"] > 0
    assert found.note == ""


def test_the_luckiest_of_many_equals_does_not_replace_what_is_in_use() -> None:
    found = [search(Synthetic(slope=0.0, seed=seed)) for seed in range(20)]
    assert sum(one.best.crps < one.usual.crps for one in found) > 15, "the best of many nearly always looks better"
    assert sum(one.convincing for one in found) <= 1
    usual = next(one for one in found if not one.convincing)
    assert usual.family_options() == {"boosting": {}}
    assert "beats the options in use beyond noise, so they stay" in usual.note


@settings(max_examples=6, deadline=None)
@given(lost=st.integers(0, 16))
def test_wherever_it_was_killed_it_ends_as_if_it_had_not_been(lost: int) -> None:
    keeper, trials = Kept(), Memory()
    whole = search(keeper=keeper, trials=trials)
    keeper.trials["boosting"] = keeper.trials["boosting"][: 16 - lost]
    evaluate = Synthetic()
    assert search(evaluate, keeper=keeper, trials=trials) == whole
    assert evaluate.asked == [], "every fold was in the store"
    assert search(keeper=keeper) == whole, "and had it not been, it would be fitted again"


def test_the_same_seed_gives_the_same_result_and_another_another() -> None:
    assert search() == search()
    assert search(wanted=replace(SHORT, seed=4)).tried != search().tried


def test_a_stopped_search_keeps_what_ran_to_its_end_and_goes_on_later() -> None:
    keeper, trials, told = Kept(), Memory(), []
    found = search(
        keeper=keeper,
        trials=trials,
        progress=lambda share, message: told.append((share, message)),
        should_stop=lambda: len(told) >= 17,
    )
    assert not found.finished
    assert found.proposals == 4
    assert found.note.endswith("stopped after 4 proposals")
    assert told[0] == (1 / 64, "set 1 of 16, fold 1")
    assert search(keeper=keeper, trials=trials) == search()
    for fits in (0, 6):  # before the options in use, and inside the first batch
        told.clear()
        left = iter([False] * fits + [True])
        with pytest.raises(NotReady, match="stopped before one option set ran to its end"):
            search(should_stop=left.__next__)


def test_time_ends_a_search_between_fits() -> None:
    hands = iter(range(1000))
    found = search(wanted=replace(SHORT, seconds=30.0), clock=lambda: float(next(hands)))
    assert not found.finished
    assert "out of its 30 s after" in found.note


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"proposals": 0}, "proposals and batch must be 1 or more"),
        ({"complete_first": 0}, "complete_first and prune_after_folds must be 1 or more"),
        ({"seconds": -1.0}, "seconds must be above 0"),
    ],
)
def test_unlawful_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        replace(SHORT, **change)


def poisoned(windows: Windows, after: int, seed: int) -> Windows:
    """The same rows, with whatever lies after a bar replaced by nonsense."""
    arrays, rng = windows.arrays, np.random.default_rng(seed)
    close, features, returns = arrays.close.copy(), arrays.features.copy(), arrays.returns.copy()
    close[after:] = rng.uniform(0.1, 10, close[after:].shape)
    features[after:] = rng.normal(0, 1e6, features[after:].shape)
    returns[after:] = rng.normal(0, 10, returns[after:].shape)
    return Windows(arrays=replace(arrays, close=close, features=features, returns=returns), rows=windows.rows)


def tuned(windows: Windows, family: str, folder: Path, changes: dict[str, Any], outer: WalkForwardSettings) -> Any:
    folds = InnerFolds(
        windows=training_part(windows, outer), settings=inner_settings(outer, folds=2), seed=7, folder=folder
    )
    wanted = TuningSettings(proposals=3, batch=1, complete_first=1, prune_after_folds=1)
    return tune(option_space(family, changes=changes), folds, wanted, study="canary", trials=Memory())


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), family=st.sampled_from(["linear", "boosting"]))
def test_rows_after_the_training_part_change_nothing(tmp_path: Path, seed: int, family: str) -> None:
    outer = WalkForwardSettings(embargo_bars=2)
    windows, changes = market(2600, seed=1, horizons=(1, 4)), FAST if family == "boosting" else {"caution": [0.0, 0.5]}
    first = fold_parts(windows, plan_folds(windows, outer)[0], embargo_bars=outer.embargo_bars)
    beyond = int(first.calibration.rows[0])
    assert int(training_part(windows, outer).rows.max()) < beyond
    clean = tuned(windows, family, tmp_path, changes, outer)
    assert tuned(poisoned(windows, beyond, seed), family, tmp_path, changes, outer) == clean
    inside = int(first.valid.rows[0])
    assert tuned(poisoned(windows, inside, seed), family, tmp_path, changes, outer) != clean, "the canary can sing"


def test_what_is_found_fits_the_settings_of_a_pair(tmp_path: Path) -> None:
    found = tuned(market(2600, seed=1, horizons=(1, 4)), "boosting", tmp_path, FAST, WalkForwardSettings())
    assert 0.3 < found.usual.crps < 1.0, "in reference scales, where N(0, 1) scores .564"
    for options in (found.best.options, found.family_options()["boosting"]):
        saved = replace(default_settings("EURUSD"), family_options={"boosting": dict(options)})
        assert SymbolSettings.from_yaml(saved.to_yaml()) == saved
        new_forecaster("boosting", saved.family_options["boosting"])


def test_too_short_a_history_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=r"the training part is too short for 2 inner folds: .* import a longer history"):
        tuned(market(1800), "linear", tmp_path, {}, WalkForwardSettings())
    with pytest.raises(NotReady, match=r"EURUSD H1 has \d+ usable rows.* import a longer history"):
        tuned(market(700), "linear", tmp_path, {}, WalkForwardSettings())


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from forexgpt_core.adapters.optuna_storage import OptunaStudies
from test_hyperparameters import Synthetic, search

def told(share, message):
    print(message, flush=True)

search(Synthetic(pause=0.02), keeper=OptunaStudies(sys.argv[2]), progress=told)
"""


def test_a_killed_process_is_continued_to_the_same_result(sqlite_url: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(Path(__file__).parent), sqlite_url], stdout=subprocess.PIPE, text=True
    )
    while "set 8 of 16" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    studies = OptunaStudies(sqlite_url)
    kept = studies.read("boosting", ["minimize"])
    assert 6 <= len(kept) < 16
    assert search(keeper=studies) == search()
    states = [trial.state.name for trial in studies.read("boosting", ["minimize"])]
    assert len(states) == 16
    assert states.count("PRUNED") == search().pruned
    studies.close()
