"""Searches asked for at the terminal: by every method, stopped and gone on with, read back, and refused in one line."""

import io
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from forexgpt_assets.runs import add_symbol, materialize, session
from forexgpt_core.cli.main import main
from forexgpt_core.composition import ENSEMBLE, Platform
from forexgpt_core.deployment.symbol_settings import default_settings
from forexgpt_core.domain.bars import SCHEMA
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.domain.forecast_table import to_table
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.optimisation import hyperparameters, pareto
from forexgpt_core.optimisation.pareto import ParetoSettings
from forexgpt_core.strategy.config import StrategyConfig

PAIR, H1 = "EURUSD", Timeframe.H1
BARS, VOLATILITY, HORIZONS = 2_400, 0.0015, (1, 4)
QUICK = ParetoSettings(method="nsga2", population=6, generations=2, min_trades=1, later_spans=1)
Ask = Callable[..., Any]


def candles() -> pl.DataFrame:
    draw = np.random.default_rng(3).normal(size=(BARS, 3))
    hours = expected_opens(np.datetime64("2017-01-02T00:00"), np.datetime64("2018-01-01"), H1)[:BARS]
    close = 1.2 * np.exp(VOLATILITY * np.cumsum(draw[:, 0]))
    opened, wicks = np.concatenate(([1.2], close[:-1])), VOLATILITY / 2 * np.abs(draw[:, 1:])
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(hours).dt.replace_time_zone("UTC"),
            "open": opened,
            "high": np.maximum(opened, close) * np.exp(wicks[:, 0]),
            "low": np.minimum(opened, close) * np.exp(-wicks[:, 1]),
            "close": close,
            "volume": np.ones(BARS),
        },
        schema=SCHEMA,
    )


def forecast(platform: Platform, seed: int) -> None:
    """Store an ensemble's forecasts, drawn at random, as those of the newest one."""
    origins = candles()["ts_utc"].to_numpy()[10:700]
    scale = np.tile(VOLATILITY * np.sqrt(HORIZONS), (origins.size, 1))
    means = np.random.default_rng(seed).normal(0, 0.4, scale.shape) * scale
    laws = ForecastBatch(
        symbol=PAIR,
        timeframe="H1",
        family=ENSEMBLE,
        origin_utc=origins.astype("datetime64[us]"),
        horizons_bars=HORIZONS,
        quantiles=means[..., None] + scale[..., None] * SCORES,
        scale=scale,
    )
    rows = to_table(laws, np.zeros(scale.shape))
    named = {"mode": pl.lit("weighted"), "deployed": pl.lit(True), "bundle_hash": pl.lit("e1" * 6)}
    platform.lake.replace("forecasts_ensemble", PAIR, H1, rows.with_columns(**named))


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("optimise") / "home"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FOREXGPT_HOME", str(home))
        environment.setenv("DAGSTER_HOME", str(home / "dagster"))
        with session() as (made, instance):
            pair = replace(default_settings(PAIR), horizons_bars=HORIZONS, recipe={"timeframes": ["H1"]}, pareto=QUICK)
            made.pairs.save(pair, by="test")
            made.lake.merge_candles(PAIR, H1, candles())
            for symbol in (PAIR, "GBPUSD"):
                add_symbol(instance, symbol)
            materialize(instance, ["features"], PAIR)
            forecast(made, seed=1)
            made.training.record_version(
                symbol=PAIR, timeframe="H1", family=ENSEMBLE, kind=ENSEMBLE, bundle_hash="e1" * 6, data_version="c0.f0"
            )
        yield made


@pytest.fixture
def ask(platform: Platform, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a verb that succeeds and return the JSON it prints."""

    def asked(*arguments: str) -> Any:
        main([*arguments, "--json"])
        return json.loads(capsys.readouterr().out)

    return asked


@pytest.fixture
def refused(platform: Platform, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a verb that is refused, and return its one line."""

    def asked(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(list(arguments))
        told = capsys.readouterr()
        assert stopped.value.code == 1
        assert told.out == ""
        assert told.err.count("\n") == 1, told.err
        return told.err

    return asked


@pytest.fixture(scope="module")
def front(platform: Platform) -> list[Any]:
    """The front of one search, as `optimise --json` prints it."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        main(["optimise", PAIR, "--seed", "4", "--json"])
    found: list[Any] = json.loads(printed.getvalue())
    return found


def as_judged(front: list[Any]) -> list[Any]:
    """Return members as their search judged them, whatever was tried since."""
    return [{**one, "search": {**one["search"], "tried_since": None}} for one in front]


def studies(platform: Platform) -> list[tuple[int, str, int]]:
    return [(one.study_id, one.state, one.trials) for one in platform.studies.list(PAIR, "H1")]


def test_a_search_ends_with_what_pareto_shows_and_a_repeat_is_the_same_study(
    platform: Platform, front: list[Any], ask: Ask
) -> None:
    found = front
    assert as_judged(found) == as_judged(ask("pareto", PAIR))
    assert len({one["hash"] for one in found}) == len(found) > 0
    for one in found:
        assert one["hash"] == StrategyConfig(**one["config"]).hash12
        assert {"falls_apart", "deflated_sharpe", "stability", "later_spans", "picks"} <= set(one)
        assert one["search"]["trials"] <= one["search"]["trials_ever"]
    picked = {how: one for one in found for how in one["picks"]}
    assert set(picked) == {"knee", "ideal", "best_sharpe", "lowest_drawdown"}
    assert all(one["stability"]["neighbours"] > 0 for one in picked.values())
    before = studies(platform)
    assert as_judged(ask("optimise", PAIR, "--seed", "4")) == as_judged(found)
    assert studies(platform) == before


@pytest.mark.slow
@pytest.mark.parametrize(("method", "objective"), [("ga", "return_pct"), ("tpe", "sharpe"), ("hybrid", "sortino")])
def test_a_single_objective_keeps_its_best_few_marked_as_such_and_deployable(
    method: str, objective: str, platform: Platform, ask: Ask
) -> None:
    found = ask("optimise", PAIR, "--method", method, "--objective", objective, "--grid", "8")
    values = [one["in_sample"][objective] for one in found]
    assert values == sorted(values, reverse=True)
    assert 1 <= len(found) <= 10
    assert found[0]["picks"] == ["best"]
    assert found[0]["search"]["objectives"] == [objective]
    assert f"the best few by {objective} alone, not a front" in found[0]["search"]["note"]
    study = platform.studies.newest(PAIR, "H1")
    assert study is not None
    tried = {trial.config.hash12: trial.in_sample[objective] for trial in study.trials}
    assert values[0] >= max(tried[one["hash"]] for one in found)
    assert [config.hash12 for config in study.candidates.front] == [one["hash"] for one in found]


@pytest.mark.slow
def test_tpe_is_remembered_by_optuna_and_by_our_trials(platform: Platform, ask: Ask) -> None:
    ask("optimise", PAIR, "--method", "tpe", "--objective", "sharpe", "--grid", "8")
    study = platform.studies.newest(PAIR, "H1")
    assert study is not None
    [summary] = [one for one in platform.studies.list(PAIR) if one.study_id == study.study_id]
    assert summary.method == "tpe"
    kept = platform.optuna.read(_key(platform, study.study_id), ["maximize"])
    asked = {trial.user_attrs["candidate"] for trial in kept}
    assert len(kept) == 12
    assert asked <= {trial.config.hash12 for trial in study.trials}


def _key(platform: Platform, study_id: int) -> str:
    import sqlalchemy as sa

    with platform.database.read() as connection:
        query = sa.text("SELECT key FROM optimisation_study WHERE id = :id")
        return str(connection.execute(query, {"id": study_id}).scalar_one())


@pytest.mark.parametrize("method", ["nsga2", pytest.param("tpe", marks=pytest.mark.slow)])
def test_interrupted_it_says_what_is_kept_and_the_same_command_goes_on(
    method: str, platform: Platform, ask: Ask, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, batches = pareto.sweep, []

    def interrupted(span: Any, configs: Sequence[StrategyConfig], **rest: Any) -> Any:
        batches.append(len(configs))
        if len(batches) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return sweep(span, configs, **rest)

    command = ("optimise", PAIR, "--method", method, "--objective", "sharpe", "--generations", "8", "--seed", "21")
    with monkeypatch.context() as patched:
        patched.setattr(pareto, "sweep", interrupted)
        told = refused(*command)
    study, state, trials = studies(platform)[0]
    assert state == "stopped"
    assert trials == sum(batches[:2])
    assert f"interrupted: {trials} trials of study {study} are kept, and the same command goes on" in told
    assert ask(*command)[0]["search"]["study"] == study
    assert next(state for one, state, _ in studies(platform) if one == study) == "finished"


def test_a_member_is_chosen_by_what_matters_to_a_person(front: list[Any], ask: Ask) -> None:
    study = str(front[0]["search"]["study"])
    returns = sorted(one["in_sample"]["return_pct"] for one in front)
    above = str(returns[len(returns) // 2])
    [calm] = ask("pareto", PAIR, "--study", study, "--above", above)
    eligible = [one["in_sample"] for one in front if one["in_sample"]["return_pct"] >= float(above)]
    assert calm["in_sample"]["max_drawdown_pct"] == min(one["max_drawdown_pct"] for one in eligible)
    [rich] = ask("pareto", PAIR, "--study", study, "--weights", "return_pct=1")
    assert rich["in_sample"]["return_pct"] == returns[-1]


def test_studies_are_listed_and_shown_and_drawn(
    platform: Platform, front: list[Any], ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = ask("pareto", PAIR, "--studies")
    assert {"study_id", "method", "state", "trials", "started_utc", "finished_utc", "best"} <= set(listed[0])
    study = front[0]["search"]["study"]
    assert study in {one["study_id"] for one in listed}
    ask("optimise", PAIR, "--seed", "5")
    page = tmp_path / "front.html"
    again = ask("pareto", PAIR, "--study", str(study), "--explorer", str(page))
    assert as_judged(again) == as_judged(front)
    since = len(platform.studies.trial_registry(PAIR, "H1").sharpes) - front[0]["search"]["trials_ever"]
    assert {one["search"]["tried_since"] for one in again} == {since}
    assert since > 0
    html = page.read_text()
    assert all(one["hash"] in html for one in front)
    main(["pareto", PAIR, "--study", str(study)])
    shown = capsys.readouterr().out
    assert "ask for this search again to make it that" in shown
    assert "neighbours keep" in shown
    assert f"{since} more were tried on this pair since" in shown
    main(["pareto", PAIR])
    assert f"forexgpt deploy {PAIR} HASH" in capsys.readouterr().out


def test_a_member_that_never_earned_is_not_said_to_hold(
    front: list[Any], ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ask("optimise", PAIR, "--method", "random", "--objective", "max_drawdown_pct", "--seed", "6")
    losers = [one["hash"] for one in found if one["in_sample"]["sharpe"] <= 0]
    assert losers, "the generated forecasts are noise"
    main(["pareto", PAIR, "--study", str(found[0]["search"]["study"])])
    shown = capsys.readouterr().out.splitlines()
    for name in losers:
        assert "never earned" in next(line for line in shown if name in line)
    ask("optimise", PAIR, "--seed", "4")  # the newest again, as the tests that follow expect


REFUSED = {
    "optimise EURUSD --method hybird": "unknown 'method' 'hybird'; did you mean 'hybrid'?",
    "optimise EURUSD --preset clasic": "unknown preset 'clasic'; did you mean classic?",
    "optimise EURUSD --objective sharp": "unknown objective 'sharp'; did you mean sharpe?",
    "optimise EURUSD --method ga --objective sharpe --objective return_pct": "ga searches for a single objective",
    "optimise EURUSD --method nsga3 --objective sharpe": "nsga3 needs two objectives or more",
    "optimise EURUSD --population 3": "population must be 4 or more",
    "optimise EURUSD --time-limit 0": "time_limit_seconds must be above 0",
    "optimise EURUSD --trials 5": "--trials belongs to --family",
    "optimise EURUSD --family boosting --method ga": "--method searches strategies",
    "optimise EURUSD --family bosting": "unknown model family 'bosting'",
    "optimise EURUSD --family random_walk": "random_walk has no options to search",
    "optimise EURUSD --family linear --trials 0": "trials must be 1 or more",
    "optimise GBPUSD": "GBPUSD H1 has no ensemble yet: materialize ensemble",
    "optimise GBPUSD --family linear": "GBPUSD",
    "optimise USDJPY": "USDJPY has not been added",
    "pareto GBPUSD": "GBPUSD has no Pareto front yet: run 'forexgpt optimise GBPUSD'",
    "pareto EURUSD --study 9999": "there is no study 9999",
    "pareto GBPUSD --study 1": "study 1 is of EURUSD H1, not of GBPUSD H1",
    "pareto EURUSD --studies --above 1": "--studies lists searches, the other options show one of them",
    "pareto EURUSD --weights sharp=1": "unknown objective 'sharp'; did you mean sharpe?",
    "pareto EURUSD --weights return_pct": "--weights takes NAME=NUMBER separated by commas",
    "pareto EURUSD --weights return_pct=-1": "the weight of return_pct must be 0 or more",
    "pareto EURUSD --above 1e9": "no member returned",
    "pareto EURUSD --above 1 --weights return_pct=1": "give one of the two",
    "pareto EURUSD --explorer /nowhere/front.html": "cannot write the explorer to /nowhere/front.html",
}


@pytest.mark.parametrize("command", REFUSED)
def test_what_cannot_be_done_is_refused_in_one_line(
    command: str, front: list[Any], refused: Callable[..., str]
) -> None:
    assert REFUSED[command] in refused(*command.split())


def test_a_space_upside_down_is_refused_with_the_settings(
    platform: Platform, refused: Callable[..., str], tmp_path: Path
) -> None:
    document = platform.pair(PAIR).to_document()
    document["pareto"]["space"] = {"stop_scales": [4.0, 0.5]}
    file = tmp_path / "eurusd.yaml"
    file.write_text(yaml.safe_dump(document))
    assert "stop_scales must be (least, most), finite numbers with least <= most" in refused(
        "symbols", "import", str(file)
    )


def test_a_page_of_data_that_is_gone_is_refused_by_name(
    platform: Platform, front: list[Any], refused: Callable[..., str], tmp_path: Path
) -> None:
    study = front[0]["search"]["study"]
    forecast(platform, seed=2)
    try:
        told = refused("pareto", PAIR, "--study", str(study), "--explorer", str(tmp_path / "x.html"))
    finally:
        forecast(platform, seed=1)
    assert f"study {study} of {PAIR} stands on bars, forecasts" in told
    assert "that are others now: its members cannot be traded again" in told
    assert not (tmp_path / "x.html").exists()


TUNE = ("optimise", PAIR, "--family", "linear", "--trials", "2")


@pytest.mark.slow
def test_options_are_searched_on_the_training_part_and_applied_by_nobody(
    platform: Platform, ask: Ask, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = platform.pair(PAIR)
    found = ask(*TUNE)
    assert platform.pair(PAIR) == before
    assert found["tried"] == 2
    assert found["usual"]["crps"] > 0
    assert found["family_options"]["linear"] == (found["best"] if found["convincing"] else found["usual"])["options"]
    first_test = candles()["ts_utc"].to_numpy()[int(BARS * 0.6)]
    assert np.datetime64(found["training_part"][1]) < first_test
    main(list(TUNE))
    shown = capsys.readouterr()
    assert "nothing was applied" in shown.err
    file = tmp_path / "eurusd.yaml"
    file.write_text(shown.out)
    main(["symbols", "import", str(file)])
    assert platform.pair(PAIR).family_options == found["family_options"]
    platform.pairs.save(before, by="test")


@pytest.mark.slow
def test_a_search_of_options_that_is_stopped_loses_the_fit_it_was_at(
    platform: Platform, ask: Ask, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, fits = hyperparameters.fold_figures, []

    def counted(one: Any, folds: Any) -> Any:
        fits.append(one.hash12)
        if len(fits) == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return fit(one, folds)

    monkeypatch.setattr(hyperparameters, "fold_figures", counted)
    command = (*TUNE, "--seed", "31")
    assert "interrupted: the figures of 5 fits are kept, and the same command goes on" in refused(*command)
    found = ask(*command)
    assert len(set(fits)) == len(fits) - 1, "the one that was under way, and no other, is fitted again"
    again = len(fits)
    assert ask(*command) == found
    assert len(fits) == again, "a finished search fits nothing"


@pytest.mark.slow
def test_options_are_searched_for_several_figures_beside_those_in_use(ask: Ask) -> None:
    found = ask(*TUNE, "--figures")
    assert found["family_options"] == {"linear": {}}
    assert found["front"]
    for one in (found["usual"], *found["front"]):
        assert {"direction", "crps", "max_drawdown_pct", "trades"} <= set(one)
