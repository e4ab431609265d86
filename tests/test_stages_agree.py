"""Stages that ran at different times, under different settings or not to their end are never mixed in silence."""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forexgpt_assets.definitions import defs
from forexgpt_assets.family.evaluate import _candidates
from forexgpt_assets.runs import RunFailed, add_symbol, materialize, session
from forexgpt_core import evidence, readings
from forexgpt_core.adapters.database.calibrators import CalibratorRepository
from forexgpt_core.adapters.database.forecasts import ForecastRepository
from forexgpt_core.backtest.engine import run_backtest
from forexgpt_core.calibration.adaptive import AdaptiveCalibrator
from forexgpt_core.composition import ENSEMBLE, DataPin, Platform
from forexgpt_core.deployment.records import Deployment, DeploymentRequest
from forexgpt_core.deployment.symbol_settings import DeploymentPolicy, Source, SymbolSettings, default_settings
from forexgpt_core.domain.clock import Timeframe, expected_opens, to_utc
from forexgpt_core.domain.forecast_table import from_table
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.ensemble.evidence import ensemble_evidence
from forexgpt_core.ensemble.pooling import MODES
from forexgpt_core.ensemble.regimes import RegimeSettings
from forexgpt_core.ensemble.weights import WeightSettings
from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.evaluation.combinatorial_splits import CombinatorialSplit
from forexgpt_core.evaluation.references import SECOND_REFERENCES
from forexgpt_core.evaluation.walk_forward import Fold, WalkForwardSettings
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.windows import Windows, usable
from forexgpt_core.live.calibrating import CalibratorKey
from forexgpt_core.models.files import write_json
from forexgpt_core.optimisation.pareto import ParetoSettings
from forexgpt_core.service import LiveSession, tidy
from forexgpt_core.strategy.config import StrategyConfig

pytestmark = pytest.mark.xdist_group("stages")
PAIR, H1 = "GBPUSD", Timeframe.H1
_numbers = itertools.count()
FAMILIES = ("random_walk", "linear")
TO_ENSEMBLE = [
    "features",
    *(f"{family}_{stage}" for stage in ("model", "calibration", "evaluation") for family in FAMILIES),
    "leaderboard",
    "ensemble",
]


class Home(NamedTuple):
    platform: Platform
    instance: dg.DagsterInstance

    @property
    def settings(self) -> SymbolSettings:
        return self.platform.pair(PAIR)

    def run(self, *assets: str, config: dict[str, dict[str, object]] | None = None) -> None:
        materialize(self.instance, assets, PAIR, config)

    def change(self, **settings: object) -> None:
        self.platform.pairs.save(replace(self.settings, **settings), by="test")


def bars(count: int) -> pl.DataFrame:
    ts = expected_opens(np.datetime64("2018-01-01T22", "us"), np.datetime64("2018-12-31T20", "us"), H1)[:count]
    close = 1.3 * np.exp(np.cumsum(np.random.default_rng(5).normal(0, 1e-3, ts.size)))
    open_ = np.concatenate([[1.3], close[:-1]])
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(ts).dt.replace_time_zone("UTC"),
            "open": open_,
            "high": np.maximum(open_, close) * 1.0002,
            "low": np.minimum(open_, close) * 0.9998,
            "close": close,
            "volume": np.ones(ts.size),
        }
    )


@pytest.fixture(scope="module")
def finished() -> Iterator[Path]:
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(prefix="forexgpt-", dir=memory if memory.is_dir() else None) as folder,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("FOREXGPT_HOME", str(Path(folder) / "home"))
        environment.setenv("DAGSTER_HOME", str(Path(folder) / "home" / "dagster"))
        with session() as (platform, instance):
            platform.pairs.save(
                replace(
                    default_settings(PAIR),
                    families=FAMILIES,
                    recipe={"timeframes": ["H1"]},
                    horizons_bars=(1, 4),
                    pareto=ParetoSettings(method="nsga2", population=4, generations=1, later_spans=1),
                    deployment=DeploymentPolicy(allow_no_skill=True),
                ),
                by="test",
            )
            platform.lake.merge_candles(PAIR, H1, bars(1_500))
            add_symbol(instance, PAIR)
            materialize(instance, [*TO_ENSEMBLE, "backtest", "pareto_configs"], PAIR)
        yield Path(folder) / "home"


@pytest.fixture
def home(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    copy = finished.with_name(f"copy{next(_numbers)}")  # MLflow keeps its connections by path
    shutil.copytree(finished, copy)
    monkeypatch.setenv("FOREXGPT_HOME", str(copy))
    monkeypatch.setenv("DAGSTER_HOME", str(copy / "dagster"))
    try:
        with session() as (platform, instance):
            yield Home(platform, instance)
    finally:
        shutil.rmtree(copy)


def approve(home: Home) -> None:
    study = home.platform.studies.newest(PAIR, "H1")
    assert study is not None
    wanted = {"approve": study.front[0].config.hash12, "approved_by": "anna", "reason": "test"}
    home.run("deployed_strategy", config={"deployed_strategy": wanted})


def test_the_data_of_a_result_are_the_candles_its_features_were_built_from(home: Home) -> None:
    before = home.platform.pin(home.settings)
    home.run("features")
    assert home.platform.pin(home.settings) == before, "the same features again are the same data"
    home.platform.lake.merge_candles(PAIR, H1, bars(1_510))
    assert home.platform.pin(home.settings) == before, "candles without features are no data yet"
    home.run("features")
    after = home.platform.pin(home.settings)
    assert after.candles > before.candles
    assert after.features > before.features


def test_features_of_an_earlier_release_are_refused_in_one_line_and_built_again(home: Home) -> None:
    """They noted only the hash of a recipe of another form, and the version of the candles."""
    stored = home.platform.lake.read("features", PAIR, H1)
    home.platform.lake.replace("features", PAIR, H1, stored, metadata={"recipe": "0f" * 6, "candles_version": "0"})
    line = r"do not say what they were built from: run 'forexgpt features build GBPUSD'"
    for ask in (home.platform.pin, home.platform.stored_recipe):
        with pytest.raises(NotReady, match=line):
            ask(home.settings)
    with pytest.raises(RunFailed, match=line):
        home.run("linear_model")
    home.run("features")
    assert home.platform.stored_recipe(home.settings) == home.platform.recipe(home.settings)
    assert home.platform.lake.read("features", PAIR, H1).equals(stored)


def test_a_run_of_features_that_is_overtaken_begins_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from forexgpt_assets.defs import features as stage

    lake, judged, judge = home.platform.lake, [], stage.recipe_leaks
    stored, noted = lake.read("features", PAIR, H1), {"recipe": "another", "candles_version": "0"}
    lake.merge_candles(PAIR, H1, bars(1_510))

    def while_another_run_stores(*arguments: object) -> object:
        if not judged:
            lake.replace("features", PAIR, H1, stored, metadata=noted)
        judged.append(len(judged))
        return judge(*arguments)

    monkeypatch.setattr(stage, "recipe_leaks", while_another_run_stores)
    home.run("features")
    assert len(judged) == 2
    assert lake.read("features", PAIR, H1).height == 1_510


def test_a_recipe_of_one_run_is_trained_on_and_gone_after_the_next(home: Home) -> None:
    own = home.platform.stored_recipe(home.settings)
    other = {"timeframes": ["H1"], "indicators": {"rsi": [{"bars": 5}], "ohlc": {}}, "min_coverage": 0.2}
    home.run("features", "linear_model", config={"features": {"recipe": other}})
    assert home.platform.stored_recipe(home.settings) == Recipe.from_document(other)
    names = home.platform.lake.columns("features", PAIR, H1)
    assert "rsi_5_h1" in names
    newest = home.platform.version(home.settings, "linear", "model")
    assert str(home.platform.pin(home.settings)) == newest.data_version
    home.run("features", "linear_model")
    assert home.platform.stored_recipe(home.settings) == own
    assert "rsi_5_h1" not in home.platform.lake.columns("features", PAIR, H1)


def test_features_of_another_recipe_are_refused_before_anything_is_trained(home: Home) -> None:
    home.change(recipe={"timeframes": ["H1"], "min_coverage": 0.2})  # the columns stay the same
    with pytest.raises(RunFailed, match=r"built by the recipe .* run 'forexgpt features build GBPUSD'"):
        home.run("linear_model")
    home.run("features", "linear_model")


def test_a_trained_model_shows_how_far_its_validation_rows_have_moved(home: Home) -> None:
    event = home.instance.get_latest_materialization_event(dg.AssetKey("linear_model"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    rows = [record.data for record in metadata["train_vs_valid_largest"].value.records]
    assert 0 < len(rows) <= 10
    sizes = [row["statistic"] for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert rows[0]["train_rows"] > rows[0]["valid_rows"] > rows[0]["valid_effective"] > 0
    sentence = str(metadata["train_vs_valid"].value)
    assert "features differ beyond chance" in sentence
    assert f"most: {rows[0]['feature']}, statistic" in sentence


def test_a_family_trained_again_is_absent_until_it_is_evaluated(home: Home) -> None:
    assert set(evidence.judged_families(home.platform, home.settings)) == {"random_walk", "linear"}
    home.change(family_options={"linear": {"caution": 0.0}})
    home.run("linear_model", "linear_calibration")
    assert set(evidence.judged_families(home.platform, home.settings)) == {"random_walk"}
    home.run("linear_evaluation")
    assert set(evidence.judged_families(home.platform, home.settings)) == {"random_walk", "linear"}


def test_a_calibrator_never_sees_rows_that_its_model_was_fitted_on(home: Home) -> None:
    trained = home.platform.version(home.settings, "linear", "model")
    windows = usable(home.platform.arrays(PAIR, H1, DataPin.parse(trained.data_version), (1, 4)), matured=True)
    before = newest_calibration(home)
    changed = WalkForwardSettings(calibration=0.6, valid_of_train=0.3, embargo_bars=3)
    home.change(walk_forward=changed)
    home.run("linear_calibration", "linear_evaluation")
    assert newest_calibration(home) == before, "it is split as its model was"
    assert "linear" in evidence.judged_families(home.platform, home.settings)
    folds = metadata(home, "linear_evaluation")["folds"].records
    starts = [[np.datetime64(one.data[f"{part}_from_utc"][:19]) for part in ("calibration", "test")] for one in folds]
    rows = np.searchsorted(windows.origin_utc, np.array(starts))
    assert np.allclose(1 - rows[:, 0] / rows[:, 1], 0.25, atol=0.002), "and so is every fold"
    home.run("linear_model", "linear_calibration")
    assert newest_calibration(home) != before, "trained again it stands on the new settings"


def test_a_family_judged_on_other_bars_than_the_walk_is_absent(home: Home) -> None:
    home.change(walk_forward=WalkForwardSettings(out_of_sample=0.3))
    home.run("random_walk_evaluation", "leaderboard", "ensemble")
    assert set(evidence.judged_families(home.platform, home.settings)) == {"random_walk"}
    assert "linear" in metadata(home, "leaderboard")["absent"]
    home.run("linear_evaluation")
    assert set(evidence.judged_families(home.platform, home.settings)) == {"random_walk", "linear"}


def test_a_walk_forward_that_failed_goes_on_from_there_as_it_was_begun(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forexgpt_assets.family import evaluate

    fit, fitted = evaluate.run_fold, []

    def stopped_once(windows: Windows, fold: Fold, *rest: Any) -> pl.DataFrame:
        fitted.append(fold.number)
        if fitted == [0, 1, 2]:
            raise BadInput("stopped")
        return fit(windows, fold, *rest)

    speak_up(home)
    home.change(family_options={"linear": {"caution": 0.5}})
    home.run("linear_model", "linear_calibration")
    monkeypatch.setattr(evaluate, "run_fold", stopped_once)
    asked: dict[str, Any] = {"instance": home.instance, "tags": {"dagster/partition": PAIR}, "raise_on_error": False}
    with dg.execute_job(dg.reconstructable(linear_evaluation_job), **asked) as first:
        assert not first.success
    assert fitted == [0, 1, 2, 3], "the others were finished"
    other = WalkForwardSettings(folds=3, out_of_sample=0.3)
    home.change(walk_forward=other, seed=99, horizons_bars=(1,), family_options={})
    again = dg.ReexecutionOptions.from_failure(first.run_id, home.instance)
    with dg.execute_job(dg.reconstructable(linear_evaluation_job), reexecution_options=again, **asked) as second:
        assert second.success
    assert fitted == [0, 1, 2, 3, 2]
    assert set(evidence.judged_families(home.platform, home.settings)) == {"random_walk", "linear"}
    assert [s.horizon_bars for s in evidence.horizon_scores(home.platform, home.settings, "linear")] == [1, 4]


def linear_evaluation_job() -> dg.JobDefinition:
    job = dg.define_asset_job("again", "linear_evaluation", executor_def=dg.in_process_executor)
    return dg.Definitions.merge(defs(), dg.Definitions(jobs=[job])).resolve_job_def("again")


def test_folds_that_were_finished_are_not_fitted_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from forexgpt_assets.family import evaluate

    fitted: list[int] = []
    fit = evaluate.run_fold

    def until_stopped(windows: Windows, fold: Fold, *rest: Any) -> pl.DataFrame:
        if len(fitted) == stop_at:
            raise BadInput("stopped")
        fitted.append(fold.number)
        return fit(windows, fold, *rest)

    monkeypatch.setattr(evaluate, "run_fold", until_stopped)
    stop_at = 2
    home.run("linear_evaluation")
    assert fitted == [], "the same configuration on the same bars"
    before = evidence.horizon_scores(home.platform, home.settings, "linear")
    home.change(walk_forward=WalkForwardSettings(folds=3))
    with pytest.raises(RunFailed, match="stopped"):
        home.run("linear_evaluation")
    assert fitted == [0, 1]
    stop_at = 3
    with pytest.raises(RunFailed, match="on other folds than this family; materialize random_walk_evaluation"):
        home.run("linear_evaluation")
    assert fitted == [0, 1, 2], "two were kept; against the walk's old folds they are not scored"
    assert evidence.horizon_scores(home.platform, home.settings, "linear") == before


def test_new_bars_reweigh_the_same_models_without_training(home: Home) -> None:
    speak_up(home)
    before = home.platform.version(home.settings, ENSEMBLE, ENSEMBLE)
    evaluated, _ = stored(home)
    home.platform.lake.merge_candles(PAIR, H1, bars(1_560))
    home.run("features", "ensemble")
    after = home.platform.version(home.settings, ENSEMBLE, ENSEMBLE)
    assert after.bundle_hash != before.bundle_hash
    assert after.data_version == before.data_version, "what the models were trained on"
    extended, _ = stored(home)
    newer = extended.origin_utc[extended.origin_utc > evaluated.origin_utc[-1]]
    trained = usable(home.platform.arrays(PAIR, H1, DataPin.parse(before.data_version), (1, 4)), matured=True)
    known = newer + np.timedelta64(1, "h")
    assert known[0] == trained.arrays.label_end_utc[trained.rows[-1]], "the first origin whose label no model has seen"
    assert newer.size == 57
    shown = metadata(home, "ensemble")
    assert shown["newer_bars"] == newer.size
    old, new = (home.platform.scores.weights(PAIR, "H1", one.bundle_hash)[1] for one in (before, after))
    assert old != new
    assert home.platform.scores.of_bundle(after.bundle_hash)[0]["n"] == len(extended)
    home.change(recipe={"timeframes": ["H1"], "min_coverage": 0.2})
    home.run("features", "ensemble")
    assert metadata(home, "ensemble")["newer_bars"] == newer.size, "the columns are still those that were trained on"


def test_old_outcomes_stand_on_the_bars_they_were_measured_on_whatever_became_of_those(home: Home) -> None:
    before = evidence.members(home.platform, home.settings)
    history = bars(1_560)
    revised = history.with_columns(close=pl.when(pl.int_range(pl.len()) == 1_250).then(1.31).otherwise("close"))
    revised = revised.with_columns(high=pl.max_horizontal("high", "close"), low=pl.min_horizontal("low", "close"))
    home.platform.lake.replace("candles", PAIR, H1, pl.concat([revised.head(1_300), revised.slice(1_301)]))
    home.run("features", "ensemble")
    after = evidence.members(home.platform, home.settings)
    assert after.newer == 57
    assert_frame_equal(after.candles, history.select("ts_utc", "close"))
    for family, (batch, returns) in before.forecasts.items():
        extended, more = after.forecasts[family]
        assert np.array_equal(extended.quantiles[: len(batch)], batch.quantiles)
        assert np.array_equal(more[: len(batch)], returns)


def test_forecasts_of_another_evaluation_than_the_newest_are_not_combined(home: Home) -> None:
    """A run was stopped after it stored them, or two ran at once."""
    stored = home.platform.lake.read("forecasts_random_walk", PAIR, H1)
    assert stored["evaluation"].unique().to_list() == [
        home.platform.version(home.settings, "random_walk", "evaluation").bundle_hash
    ]
    named = stored.with_columns(evaluation=pl.lit("0" * 12))
    home.platform.lake.replace("forecasts_random_walk", PAIR, H1, named)
    for asset in ("ensemble", "linear_evaluation"):
        with pytest.raises(RunFailed, match=r"random_walk are not those of its newest evaluation: materialize random_"):
            home.run(asset)
    home.platform.lake.replace("forecasts_random_walk", PAIR, H1, stored.drop("evaluation"))
    home.run("ensemble")


def test_a_model_names_the_recipe_of_the_features_it_was_trained_on(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run stored features of another recipe while it was trained."""
    from forexgpt_assets.family import train

    own, new = home.platform.stored_recipe(home.settings), train.new_forecaster

    def meanwhile(*arguments: Any) -> Any:
        home.run("features", config={"features": {"recipe": {"timeframes": ["H1"], "indicators": {"ohlc": {}}}}})
        return new(*arguments)

    monkeypatch.setattr(train, "new_forecaster", meanwhile)
    home.run("linear_model")
    assert home.platform.stored_recipe(home.settings) != own
    trained = home.platform.version(home.settings, "linear", "model").bundle_hash
    stored = home.platform.bundles.open(PAIR, "H1", "linear_model", trained).path / "recipe.json"
    assert Recipe.from_json(stored.read_text()) == own


def test_switching_families_off_makes_no_skill_more_significant(home: Home) -> None:
    speak_up(home)
    before = {h: one.dm_p for h, one in evidence.ensemble_skills(home.platform, home.settings).items()}
    home.change(families=("random_walk",))
    after = {h: one.dm_p for h, one in evidence.ensemble_skills(home.platform, home.settings).items()}
    assert after == before


def test_data_of_an_unknown_form_are_refused_in_one_line() -> None:
    for text in ("3", "c3", "c3.f", "c3.f5.e1", ""):
        with pytest.raises(NotReady, match=f"'{text}' names no version of the data, such as c3.f5"):
            DataPin.parse(text)


def speak_up(home: Home) -> None:
    """Let the linear family say something else than the walk."""
    home.change(family_options={"linear": {"caution": 0.0}})
    home.run(*(f"linear_{stage}" for stage in ("model", "calibration", "evaluation")), "leaderboard", "ensemble")


def test_every_mode_of_the_ensemble_can_be_traded(home: Home) -> None:
    speak_up(home)
    modes = {mode: evidence.traded_forecasts(home.platform, home.settings, mode=mode)[2] for mode in MODES}
    deployed = evidence.traded_forecasts(home.platform, home.settings)[2]
    assert np.array_equal(deployed.quantiles, modes["weighted"].quantiles)
    assert len({batch.quantiles.tobytes() for batch in modes.values()}) > 1
    home.run("backtest", config={"backtest": {"mode": "median"}})
    with pytest.raises(RunFailed, match="the ensemble was not combined by 'mode'; there are mean, median, voting"):
        home.run("backtest", config={"backtest": {"mode": "mode"}})
    home.change(ensemble=WeightSettings(method="boa", mode="median", regimes=RegimeSettings(volatility_bars=40)))
    home.run("ensemble")
    assert metadata(home, "ensemble")["mode"] == "median"
    newest = home.platform.version(home.settings, ENSEMBLE, ENSEMBLE)
    loaded = home.platform.inference.ensemble(PAIR, "H1", newest.bundle_hash)
    assert loaded.mode == "median"
    assert loaded.regimes is not None
    assert home.platform.regimes.newest(PAIR, "H1") is not None
    assert set(home.platform.scores.weights(PAIR, "H1", newest.bundle_hash, regime="high_up")) == {1, 4}


def test_a_deployed_ensemble_goes_on_calibrating_where_its_evidence_ended(home: Home) -> None:
    approve(home)
    deployed = home.platform.deployments.active(PAIR)
    assert deployed is not None
    states = CalibratorRepository(home.platform.database)
    key = CalibratorKey(symbol=PAIR, timeframe="H1", bundle_hash=deployed.bundle_hash)
    rows = readings.forecast_rows(home.platform, PAIR, horizons=[60, 120, 240], unit="minutes")
    assert [(row["horizon_bars"], row["interpolated"]) for row in rows] == [(1, False), (2, True), (4, False)]
    assert states.newest(key) is None, "who looks changes nothing"
    candles = home.platform.lake.candles(PAIR, H1)
    live = LiveSession(home.platform, deployed).forecaster.forecast(candles)
    evidence_ended = stored(home)[0].origin_utc[-1]
    missed = int(np.searchsorted(candles["ts_utc"].to_numpy(), live.origin_utc[0])) - int(
        np.searchsorted(candles["ts_utc"].to_numpy(), evidence_ended)
    )
    state = states.newest(key)
    assert state is not None
    assert state.as_of_utc == live.origin_utc[0]
    assert live.calibrator == rows[0]["calibrator"] == f"adaptive v{state.version}"
    assert state.version == len(stored(home)[0]) + missed, "one step per bar, those since the evidence included"
    close = float(candles["close"][-1])
    assert rows[0]["q050"] == pytest.approx(close * np.exp(live.quantiles[0, 0, 1]), rel=1e-12)
    assert readings.forecast_rows(home.platform, PAIR)[0]["q050"] == rows[0]["q050"], "asked again after the tick"


def test_paper_trading_goes_on_with_the_forecasts_and_the_trades_of_its_evidence(home: Home, tmp_path: Path) -> None:
    """Replayed bar by bar through the real stores: the forecasts `follow` gives in one go, and their backtest."""
    speak_up(home)
    traded = deployed_to_trade(home)
    bars(1_560).write_parquet(newer := tmp_path / "GBPUSD.parquet")
    home.change(source=Source(kind="file", path=str(newer)))
    live = LiveSession(home.platform, traded)
    reports = live.replay()
    assert len(reports) == 60
    assert {report.calibrator.rpartition("v")[0] for report in reports} == {"adaptive "}
    whole = followed(live)
    assert np.array_equal(recorded(home, traded), whole.quantiles)
    result = run_backtest(live.feed.bars, whole, traded.config, traded.costs, symbol=PAIR, cash=live.settings.cash)
    fills = [fill for report in reports for fill in report.fills]
    trades = result.trades.filter(pl.col("exit_reason") != "end")
    entries, exits = fills[0 : 2 * trades.height : 2], fills[1 : 2 * trades.height : 2]
    assert trades.height > 3
    assert [f.filled_utc for f in entries] == trades["entry_utc"].to_list()
    assert [f.filled_utc for f in exits] == trades["exit_utc"].to_list()
    assert [float(f.lots) for f in entries] == trades["lots"].to_list()
    assert [float(f.price) for f in exits] == pytest.approx(trades["exit_price"].to_list(), abs=1e-9)


def deployed_to_trade(home: Home) -> Deployment:
    """Deploy the newest ensemble with a strategy that trades often."""
    newest = home.platform.version(home.settings, ENSEMBLE, ENSEMBLE)
    config = StrategyConfig(horizon_bars=4, entry_probability=0.3, stop_scales=0.8, take_profit_scales=0.8)
    return home.platform.deployments.deploy(
        DeploymentRequest(
            symbol=PAIR,
            timeframe="H1",
            bundle_hash=newest.bundle_hash,
            config=config,
            costs=home.settings.costs,
            approved_by="anna",
            reason="test",
            allow_no_skill=True,
            skill=None,
        )
    )


def followed(live: LiveSession) -> ForecastBatch:
    """Return what the bundle's own state makes, in one go, of every bar since its evidence: those beyond the lake."""
    source, newest = live.forecaster, live.platform.lake.newest_candle(PAIR, H1)
    arrays, state = source.arrays(live.feed.bars), AdaptiveCalibrator.load(source.ensemble.bundle.path)
    state = state.placed(arrays.ts_utc)
    state = state.told(arrays.returns[state.pending.rows])
    rows = np.flatnonzero(arrays.ts_utc > state.as_of_utc)
    windows = Windows(arrays=arrays, rows=rows)
    made, _ = state.follow(source.ensemble.pooled(windows), windows.returns, rows)
    return made.take(made.origin_utc > to_utc(newest))


def recorded(home: Home, deployment: Deployment) -> np.ndarray:
    """Return the quantiles of every recorded forecast; shape (n, H, 9)."""
    found = ForecastRepository(home.platform.database).unmatured(PAIR, "H1")
    return np.stack([one.quantiles for one in found if one.bundle_hash == deployment.bundle_hash]).reshape(-1, 2, 9)


def stored(home: Home) -> tuple[ForecastBatch, np.ndarray]:
    """The deployed forecasts of the newest ensemble, and what came."""
    rows = home.platform.lake.read("forecasts_ensemble", PAIR, H1).filter(pl.col("deployed"))
    return from_table(rows, symbol=PAIR, timeframe="H1", family=ENSEMBLE)


def metadata(home: Home, asset: str) -> dict[str, Any]:
    event = home.instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def test_what_is_validated_is_the_trained_configuration_with_its_seed_and_calibration() -> None:
    asked = {"options": {"seasonal": False}, "seed": 11, "method": "mondrian"}
    walk, *beside = _candidates("random_walk", asked)
    assert (walk.options, walk.seed, walk.calibration) == ({"seasonal": False}, 11, "mondrian")
    assert [one.name for one in beside] == list(SECOND_REFERENCES)
    assert {(one.seed, one.calibration) for one in beside} == {(11, "mondrian")}
    assert [one.name for one in _candidates("linear", asked)] == ["linear"]


def test_a_family_is_cross_validated_on_every_path_and_goes_on_where_it_was_stopped(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forexgpt_core.evaluation import cross_validation

    made: list[int] = []
    forecast = cross_validation.forecast_split

    def counted(split: CombinatorialSplit, *rest: Any) -> ForecastBatch:
        if len(made) == 5:
            raise BadInput("stopped")
        made.append(split.number)
        return forecast(split, *rest)

    monkeypatch.setattr(cross_validation, "forecast_split", counted)
    asked = {"cross_validation": {"family": "linear", "groups": 4, "test_groups": 2, "embargo_bars": 4}}
    with pytest.raises(RunFailed, match="stopped"):
        home.run("cross_validation", config=asked)
    made.clear()
    monkeypatch.setattr(
        cross_validation, "forecast_split", lambda split, *rest: made.append(split.number) or forecast(split, *rest)
    )
    home.run("cross_validation", config=asked)
    assert len(made) == 2 * 6 - 5, "six splits of the family and of the walk, five of them done before"
    shown = metadata(home, "cross_validation")
    assert (shown["splits"], shown["paths"]) == (6, 3)
    stored = home.platform.lake.read("cross_validation", PAIR, H1)
    assert set(stored["data_version"]) == {shown["data_version"]}, "the report card leaves out those of other data"
    rows = readings.path_rows(home.platform, PAIR)
    assert [(row["horizon_bars"], row["paths"]) for row in rows] == [(1, 3), (4, 3)]
    assert rows[0]["mean"] == pytest.approx(shown["skill_h1"])
    assert rows[0]["lowest"] <= rows[0]["mean"] <= rows[0]["highest"]


def test_newer_candles_do_not_take_an_approval_away(home: Home) -> None:
    home.platform.lake.merge_candles(PAIR, H1, bars(1_510))
    home.run("features")
    approve(home)
    deployed = home.platform.deployments.active(PAIR)
    assert deployed is not None
    assert deployed.bundle_hash == home.platform.version(home.settings, ENSEMBLE, ENSEMBLE).bundle_hash


def test_the_evidence_of_a_deployment_is_that_of_the_bundle_it_names(home: Home) -> None:
    study = home.platform.studies.newest(PAIR, "H1")
    assert study is not None
    home.platform.lake.merge_candles(PAIR, H1, bars(1_600))
    home.run(*TO_ENSEMBLE)
    newest = home.platform.version(home.settings, ENSEMBLE, ENSEMBLE)
    assert newest.bundle_hash != study.bundle_hash
    approve(home)
    deployed = home.platform.deployments.active(PAIR)
    assert deployed is not None
    assert deployed.bundle_hash == study.bundle_hash
    scored = {row["n"] for row in home.platform.scores.of_bundle(study.bundle_hash) if row["family"] == ENSEMBLE}
    assert deployed.skill is not None
    assert {deployed.skill.n} == scored
    newer = evidence.ensemble_skills(home.platform, home.settings)[deployed.config.horizon_bars]
    assert newer.n > deployed.skill.n, "the newest ensemble was judged on more bars"


def test_forecasts_of_another_ensemble_than_the_newest_are_not_traded(home: Home) -> None:
    stored = home.platform.lake.read("forecasts_ensemble", PAIR, H1)
    home.platform.lake.replace("forecasts_ensemble", PAIR, H1, stored.with_columns(bundle_hash=pl.lit("0" * 12)))
    for asset in ("backtest", "pareto_configs"):
        with pytest.raises(RunFailed, match="not of its newest ensemble: materialize ensemble"):
            home.run(asset)


def test_a_search_is_deflated_by_all_that_was_tried_and_a_repeat_of_it_counts_nothing_twice(home: Home) -> None:
    first = home.platform.studies.newest(PAIR, "H1")
    assert first is not None
    assert len(first.trials) == first.details["trials"] >= len(first.front)
    told = first.details["overfitting"]
    assert told["trials_ever"] == home.platform.studies.trial_registry(PAIR, "H1").count == len(first.trials)
    assert set(told["members"]) == {trial.config.hash12 for trial in first.front}
    home.run("pareto_configs")
    second = home.platform.studies.newest(PAIR, "H1")
    assert second is not None
    assert second.study_id == first.study_id, "the same search is one study"
    assert second.details == first.details
    home.run("pareto_configs", config={"pareto_configs": {"seed": 1}})
    third = home.platform.studies.newest(PAIR, "H1")
    assert third is not None
    tried = {trial.config.hash12 for trial in (*first.trials, *third.trials)}
    assert third.details["overfitting"]["trials_ever"] == len(tried) > len(third.trials)
    event = home.instance.get_latest_materialization_event(dg.AssetKey("pareto_configs"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert metadata["trials_ever"].value == third.details["overfitting"]["trials_ever"]
    assert {"pbo", "sharpe_std", "best_of_worthless", "fall_apart"} <= set(metadata)
    shown = metadata["members"].value.records[0].data
    assert {"probabilistic_sharpe", "deflated_sharpe", "falls_apart"} <= set(shown)


def test_an_ensemble_that_is_not_whole_is_not_deployed(home: Home) -> None:
    folder = home.platform.bundles.open(PAIR, "H1", "linear_calibration", newest_calibration(home)).path
    shutil.rmtree(folder)
    with pytest.raises(RunFailed, match="there is no bundle GBPUSD/H1/linear_calibration"):
        approve(home)
    assert home.platform.deployments.active(PAIR) is None


def test_retention_keeps_what_may_still_be_approved(home: Home) -> None:
    study = home.platform.studies.newest(PAIR, "H1")
    assert study is not None
    for number in range(6):  # newer ensembles than the one the front was found with
        home.platform.bundles.write(
            PAIR, "H1", ENSEMBLE, lambda folder, n=number: write_json(folder / "a.json", {"n": n}), metadata={}
        )
        home.platform.bundles.write(
            PAIR, "H1", "linear_model", lambda folder, n=number: write_json(folder / "a.json", {"n": n}), metadata={}
        )
    assert tidy(home.platform)["bundles"] == 2
    approve(home)
    deployed = home.platform.deployments.active(PAIR)
    assert deployed is not None
    assert deployed.bundle_hash == study.bundle_hash


def newest_calibration(home: Home) -> str:
    return home.platform.training.versions(PAIR, "H1", "linear", "calibration")[0].bundle_hash


def test_families_of_other_horizons_are_refused_by_name() -> None:
    def member(family: str, horizons: tuple[int, ...]) -> tuple[ForecastBatch, np.ndarray]:
        start = datetime(2018, 1, 2, tzinfo=UTC).replace(tzinfo=None)
        origins = np.array([start + timedelta(hours=n) for n in range(200)], dtype="datetime64[us]")
        scale = np.ones((200, len(horizons)))
        batch = ForecastBatch(
            symbol=PAIR,
            timeframe="H1",
            family=family,
            origin_utc=origins,
            horizons_bars=horizons,
            quantiles=scale[..., None] * SCORES,
            scale=scale,
        )
        return batch, np.zeros_like(scale)

    with pytest.raises(BadInput, match=r"linear was evaluated at horizons \(1,\), random_walk at \(1, 4\)"):
        ensemble_evidence(
            {"random_walk": member("random_walk", (1, 4)), "linear": member("linear", (1,))},
            reference="random_walk",
            scored_from_utc=np.datetime64("2018-01-06"),
            settings=WeightSettings(),
        )


def test_what_is_missing_is_called_by_the_asset_that_makes_it(home: Home) -> None:
    empty = default_settings("AUDUSD")
    for family, kind, asset in (
        (ENSEMBLE, ENSEMBLE, "has no ensemble yet: materialize ensemble$"),
        ("linear", "model", "has no linear model yet: materialize linear_model$"),
        ("linear", "evaluation", "has no linear evaluation yet: materialize linear_evaluation$"),
    ):
        with pytest.raises(NotReady, match=asset):
            home.platform.version(empty, family, kind)
