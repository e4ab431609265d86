"""The report card of a pair in the graph: what it reads, where it is stored, and what it says of stages that lack."""

import json
import math
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from forexgpt_assets.runs import add_symbol, materialize, session
from forexgpt_core import cards, evidence
from forexgpt_core.adapters.database.campaigns import CampaignRepository
from forexgpt_core.adapters.database.scores import ScoresRepository
from forexgpt_core.cli.main import main
from forexgpt_core.composition import ENSEMBLE, Platform
from forexgpt_core.deployment.symbol_settings import Source, default_settings
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.errors import NotReady
from forexgpt_core.evaluation.card import report_card
from forexgpt_core.optimisation.pareto import ParetoSettings

pytestmark = pytest.mark.xdist_group("stages")
PAIR, H1 = "GBPUSD", Timeframe.H1
FAMILIES = ("random_walk", "linear")
STAGES = [
    "features",
    *(f"{family}_{stage}" for stage in ("model", "calibration", "evaluation") for family in FAMILIES),
    "leaderboard",
    "ensemble",
]


def bars(count: int) -> pl.DataFrame:
    ts = expected_opens(np.datetime64("2018-01-01T22", "us"), np.datetime64("2018-12-31T20", "us"), H1)[:count]
    noise = np.random.default_rng(5).normal(0, 1e-3, ts.size)
    close = 1.3 * np.exp(np.cumsum(noise + 0.4 * np.roll(noise, 1)))  # one bar tells of the next: there are calls
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
def home() -> Iterator[tuple[Platform, dg.DagsterInstance]]:
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
                    families=(*FAMILIES, "forest"),
                    family_options={"linear": {"caution": 0.0}},
                    recipe={"timeframes": ["H1"]},
                    horizons_bars=(1, 4),
                    pareto=ParetoSettings(method="nsga2", later_spans=1, population=4, generations=1),
                ),
                by="test",
            )
            platform.lake.merge_candles(PAIR, H1, bars(1_500))
            add_symbol(instance, PAIR)
            materialize(instance, STAGES, PAIR)
            yield platform, instance


def metadata(instance: dg.DagsterInstance) -> dict[str, Any]:
    event = instance.get_latest_materialization_event(dg.AssetKey("report_card"))
    assert event is not None
    assert event.asset_materialization is not None
    return dict(event.asset_materialization.metadata)


@pytest.fixture(scope="module")
def early(home: tuple[Platform, dg.DagsterInstance]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The card before there is a backtest or a search, and its metadata."""
    platform, instance = home
    with pytest.raises(NotReady, match=r"GBPUSD H1 has no report card yet: materialize report_card$"):
        cards.newest_card(platform, PAIR)
    materialize(instance, ["report_card"], PAIR)
    return cards.newest_card(platform, PAIR), metadata(instance)


@pytest.fixture(scope="module")
def late(home: tuple[Platform, dg.DagsterInstance], early: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """The card after them."""
    platform, instance = home
    often = {"backtest": {"entry_probability": 0.501, "horizon_bars": 4}}
    materialize(instance, ["backtest", "pareto_configs", "report_card"], PAIR, often)
    return cards.newest_card(platform, PAIR), metadata(instance)


def test_stages_that_were_not_run_are_named(early: tuple[dict[str, Any], dict[str, Any]]) -> None:
    card, _ = early
    said = "\n".join(card["unsaid"])
    assert card["backtest"] is None
    assert card["search"] is None
    assert card["absent"] == ["forest"]
    assert "backtest: none is of this ensemble: materialize backtest" in said
    assert "search: none is of this ensemble: materialize pareto_configs" in said
    assert "cross-validation: it was not run" in said
    assert card["verdict"].endswith("no strategy of these forecasts was tested.")


def test_the_headline_figures_are_those_that_were_evaluated(
    home: tuple[Platform, dg.DagsterInstance], late: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    platform, _ = home
    settings = platform.pair(PAIR)
    card = {family["family"]: family for family in late[0]["families"]}
    assert set(card) == {*FAMILIES, ENSEMBLE}
    for family, one in card.items():
        told = [entry["score"] for entry in one["horizons"]]
        assert told == [
            pytest.approx(s.to_dict(), nan_ok=True) for s in evidence.horizon_scores(platform, settings, family)
        ]
        assert all(score["mape"] > 0 for score in told)
    stored = platform.scores.latest(PAIR, "H1")
    assert all(row["mape"] > 0 for row in stored)
    assert any(row["win_rate"] is not None and row["profit_factor"] is not None for row in stored)
    beside = {score["family"] for score in late[0]["beside"]}
    assert {"ewma_walk", "walk_250", "equal_weights"} <= beside


def test_fitted_rows_are_those_that_both_were_fitted_on(home: tuple[Platform, dg.DagsterInstance]) -> None:
    platform, _ = home
    inputs = cards.card_inputs(platform, PAIR)
    fitted = inputs.families["linear"].fitted
    assert fitted is not None
    own, plain, returns = fitted
    assert (own.origin_utc == plain.origin_utc).all()
    assert (np.diff(own.origin_utc) > np.timedelta64(0)).all()
    assert returns.shape == own.scale.shape
    stored = platform.lake.read("in_sample_linear", PAIR, H1)
    assert own.origin_utc.size == stored["ts_utc"].n_unique()
    at = (
        stored.filter(pl.col("ts_utc") == stored["ts_utc"][0], pl.col("horizon_bars") == 1)
        .sort("fold")
        .row(-1, named=True)
    )
    row = np.searchsorted(own.origin_utc, np.datetime64(at["ts_utc"].replace(tzinfo=None)))
    assert own.quantiles[row, 0, 4] == at["q500"]
    assert inputs.families[ENSEMBLE].fitted is None


def test_regimes_are_those_known_at_each_origin(home: tuple[Platform, dg.DagsterInstance]) -> None:
    from forexgpt_core.ensemble.regimes import REGIMES, RegimeSettings, running_labels

    platform, _ = home
    inputs = cards.card_inputs(platform, PAIR)
    candles = platform.lake.candles(PAIR, H1)
    for family, names in inputs.regimes.items():
        origin = inputs.families[family].forecasts.origin_utc[-7]
        until = candles.filter(pl.col("ts_utc") <= pl.lit(origin).dt.replace_time_zone("UTC"))["close"].to_numpy()
        assert names[-7] == REGIMES[running_labels(until, RegimeSettings())[-1]]


def test_money_is_that_of_the_backtest_and_of_the_search(
    home: tuple[Platform, dg.DagsterInstance], late: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    platform, _ = home
    card = late[0]
    (row,) = platform.scores.latest(PAIR, "H1", "backtest")
    for name in ("return_pct", "sharpe", "trades", "cost_pips", "break_even_pips", "turnover_per_year"):
        assert card["backtest"][name] == row[name]
    assert row["mode"] is None, "that of the deployed forecasts"
    assert len(row["config"]) == 12
    net = row["return_pct"] / 100 * row["cash"]
    assert math.copysign(1, row["break_even_pips"] - row["cost_pips"]) == math.copysign(1, net)
    study = platform.studies.newest(PAIR, "H1")
    assert study is not None
    told = study.details["overfitting"]
    assert card["search"]["trials_ever"] == told["trials_ever"]
    known = [m["deflated_sharpe"] for m in told["members"].values() if m["deflated_sharpe"] is not None]
    assert card["search"]["deflated_sharpe"] == (max(known) if known else None)


def test_a_backtest_of_another_mode_is_named_and_left_out(
    home: tuple[Platform, dg.DagsterInstance], late: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform, _ = home
    settings = platform.pair(PAIR)
    newest = platform.version(settings, ENSEMBLE, ENSEMBLE)
    (row,) = platform.scores.latest(PAIR, "H1", "backtest")
    for mode, shown in ((None, True), ("weighted", True), ("median", False)):
        monkeypatch.setattr(ScoresRepository, "latest", lambda *_, mode=mode: [{**row, "mode": mode}])
        missing: list[str] = []
        tested = cards._tested(platform, settings, newest.bundle_hash, missing)
        assert (tested.stats is not None) is shown
        assert shown or missing == [
            "backtest: the newest traded the mode 'median', not 'weighted': materialize backtest"
        ]


def test_models_that_campaigns_validated_are_trials_of_the_backtest_too(
    home: tuple[Platform, dg.DagsterInstance], late: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform, _ = home
    before = cards.card_inputs(platform, PAIR)
    monkeypatch.setattr(CampaignRepository, "trials", lambda _, symbol: {PAIR: 500}[symbol])
    after = cards.card_inputs(platform, PAIR)
    assert before.tested is not None
    assert after.tested is not None
    assert after.tested.trials.count == before.tested.trials.count + 500
    plain, deflated = (report_card(inputs).backtest for inputs in (before, after))
    assert plain is not None
    assert deflated is not None
    assert plain.deflated_sharpe is not None
    assert deflated.deflated_sharpe is not None
    assert deflated.deflated_sharpe < plain.deflated_sharpe


def test_paths_of_other_data_are_named_and_left_out() -> None:
    settings = replace(default_settings(PAIR), source=Source(kind="none"))
    rows = pl.DataFrame({"family": ["linear"], "path": [0], "horizon_bars": [1], "skill": [0.1]})

    def told(data_version: str | None) -> tuple[pl.DataFrame | None, list[str]]:
        stored = rows if data_version is None else rows.with_columns(data_version=pl.lit(data_version))
        lake, missing = SimpleNamespace(exists=lambda *_: True, read=lambda *_: stored), list[str]()
        platform: Any = SimpleNamespace(lake=lake)
        return cards._cross_validated(platform, settings, "c0.f0", missing), missing

    for version, named in (("c9.f9", "c9.f9"), (None, "of an earlier release")):
        assert told(version) == (
            None, [f"cross-validation: it stands on data {named}, the families on c0.f0: ask for it again"]
        )  # fmt: skip
    paths, missing = told("c0.f0")
    assert paths is not None
    assert missing == []


def test_strategies_of_another_ensemble_are_named_and_left_out(
    home: tuple[Platform, dg.DagsterInstance], late: object
) -> None:
    platform, _ = home
    missing: list[str] = []
    tested = cards._tested(platform, platform.pair(PAIR), "0" * 12, missing)
    assert tested.stats is None
    assert tested.search is None
    assert [line.split(":")[1] for line in missing] == [" the newest is not of this ensemble"] * 2
    card = report_card(replace(cards.card_inputs(platform, PAIR), tested=tested, missing=missing))
    assert card.backtest is None
    assert "the newest is not of this ensemble" in "".join(card.unsaid)


def test_the_page_stands_in_mlflow_and_in_the_home_and_the_picture_in_dagster(
    home: tuple[Platform, dg.DagsterInstance], late: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    from mlflow import MlflowClient

    platform, _ = home
    card, shown = late
    assert shown["verdict"].value == card["verdict"]
    assert shown["card"].value.startswith("![report card](data:image/png;base64,")
    assert shown["trials_ever"].value == card["search"]["trials_ever"]
    assert {"skill_h1", "skill_h4", "coverage_90_h1", "direction_h1", "seconds", "not_said"} <= set(shown)
    assert len(shown["figures"].value.records) == 6
    run_id = re.search(r"/runs/(\w+)/artifacts/report_card.html", shown["page"].value)
    assert run_id is not None
    client = MlflowClient(tracking_uri=platform.registry.tracking_uri)
    assert {item.path for item in client.list_artifacts(run_id[1])} == {
        "report_card.html", "report_card.json", "report_card.png",
    }  # fmt: skip
    kept = json.loads(Path(client.download_artifacts(run_id[1], "report_card.json")).read_text())
    assert kept == card
    linear = next(f for f in card["families"] if f["family"] == "linear")
    assert client.get_run(run_id[1]).data.metrics["linear_skill_h1"] == linear["horizons"][0]["score"]["skill"]
    page = Path(shown["file"].value).read_text(encoding="utf-8")
    assert page == Path(client.download_artifacts(run_id[1], "report_card.html")).read_text(encoding="utf-8")


def test_the_verb_prints_the_newest_card(
    late: tuple[dict[str, Any], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["report", PAIR, "--json"])
    assert json.loads(capsys.readouterr().out) == late[0]
    main(["report", PAIR])
    text = capsys.readouterr().out
    assert late[0]["verdict"] in text
    assert all(f"not said: {line}" in text for line in late[0]["unsaid"])


def test_without_a_card_the_verb_fails_in_one_line(home: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["report", "AUDUSD"])
    assert stopped.value.code == 1
    assert capsys.readouterr().err == "forexgpt: AUDUSD H1 has no report card yet: materialize report_card\n"


def test_an_ensemble_of_older_data_is_named_and_left_out(
    home: tuple[Platform, dg.DagsterInstance], late: object
) -> None:
    platform, _ = home
    missing: list[str] = []
    assert cards._of_ensemble(platform, platform.pair(PAIR), "c9.f9", missing) is None
    assert "ensemble: the newest stands on data" in missing[0]


def test_a_card_names_the_data_its_families_stand_on_though_newer_ones_have_come(
    home: tuple[Platform, dg.DagsterInstance], late: object
) -> None:
    platform, instance = home
    evaluated = platform.version(platform.pair(PAIR), "random_walk", "evaluation").data_version
    platform.lake.merge_candles(PAIR, H1, bars(1_510))
    materialize(instance, ["features", "report_card"], PAIR)
    assert cards.newest_card(platform, PAIR)["data_version"] == evaluated
    assert str(platform.pin(platform.pair(PAIR))) != evaluated
