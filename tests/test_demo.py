"""The demo as a newcomer runs it: the real command, twice, and what it leaves behind."""

import base64
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster import AssetKey, AssetRecordsFilter, DagsterInstance

from forexgpt_core.composition import Platform
from forexgpt_core.models.catalogue import FAMILIES
from forexgpt_core.service import LiveSession
from forexgpt_core.settings import load_settings

FORBIDDEN = "canary-5f1d3c0b"


def demo(home: Path) -> dict[str, Any]:
    environment = {
        **os.environ,
        "FOREXGPT_HOME": str(home),
        "DAGSTER_HOME": str(home / "dagster"),
        "FOREXGPT_CTRADER_CLIENT_SECRET": FORBIDDEN,
    }
    run = subprocess.run(
        [Path(sys.executable).parent / "forexgpt", "demo", "--json"],
        capture_output=True, text=True, check=False, env=environment, timeout=900,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def card(home: Path) -> dict[str, Any]:
    return demo(home)


@pytest.fixture
def platform(card: dict[str, Any], home: Path) -> Platform:
    return Platform(load_settings({"FOREXGPT_HOME": str(home)}))


@pytest.fixture
def instance(card: dict[str, Any], home: Path) -> Iterator[DagsterInstance]:
    with DagsterInstance.from_config(str(home / "dagster")) as found:
        yield found


def newest(instance: DagsterInstance, asset: str, partition: str | None = "EURUSD") -> dict[str, Any]:
    wanted = AssetRecordsFilter(asset_key=AssetKey(asset), asset_partitions=[partition] if partition else None)
    record = instance.fetch_materializations(wanted, limit=1).records[0]
    assert record.asset_materialization is not None
    return dict(record.asset_materialization.metadata)


def test_the_document_has_what_is_promised(card: dict[str, Any]) -> None:
    assert {"symbol", "timeframe", "bars", "seconds", "models", "backtest", "pareto", "deployed", "live"} <= set(card)
    assert (card["symbol"], card["timeframe"]) == ("EURUSD", "H1")
    assert 4_700 < card["bars"] < 4_800
    keys = {"family", "horizon_bars", "crps", "crps_random_walk", "skill", "skill_ci", "dm_p", "coverage_90"}
    keys |= {"direction", "n"}
    assert all(keys == set(model) for model in card["models"])
    assert {(m["family"], m["horizon_bars"]) for m in card["models"]} == {
        (family, h) for family in (*FAMILIES, "ensemble") for h in (1, 4, 24)
    }
    assert {"config", "bundle_hash", "approved_by"} <= set(card["deployed"])
    assert all({"config", "in_sample", "out_of_sample"} == set(member) for member in card["pareto"])
    assert card["report"].startswith("Nothing beats the random walk at EURUSD H1")


def test_scores_are_credible_and_consistent(card: dict[str, Any]) -> None:
    for model in card["models"]:
        assert model["n"] > 500
        assert model["skill"] == pytest.approx(1 - model["crps"] / model["crps_random_walk"], abs=1e-12)
        assert model["skill_ci"][0] <= model["skill"] <= model["skill_ci"][1]
        assert abs(model["skill"]) < 0.05, "more than this on hourly rates is a leak until shown otherwise"
        assert 0.8 < model["coverage_90"] < 0.97
        if model["family"] == "random_walk":
            assert model["skill"] == 0
        # a longer horizon moves further: about the square root of its length
    walk = {m["horizon_bars"]: m["crps"] for m in card["models"] if m["family"] == "random_walk"}
    assert 1.5 < walk[4] / walk[1] < 2.5
    assert 4 < walk[24] / walk[1] < 7


def test_the_paper_account_lived_through_every_bar_and_sent_nothing_twice(
    card: dict[str, Any], platform: Platform
) -> None:
    live = card["live"]
    assert live["ticks"] == 240
    assert live["duplicates"] == 0
    assert live["orders"] > 0
    deployment = platform.deployments.active("EURUSD")
    assert deployment is not None
    session = LiveSession(platform, deployment)
    decided = [d.bar_close_utc for d in session.journal.decisions(deployment.deployment_id)]
    assert len(set(decided)) == len(decided) == 240
    assert min(decided) > platform.lake.newest_candle("EURUSD", "H1")  # nothing earlier had seen these bars


def test_a_repeated_replay_decides_nothing_again(platform: Platform, card: dict[str, Any]) -> None:
    deployment = platform.deployments.active("EURUSD")
    assert deployment is not None
    session = LiveSession(platform, deployment)
    before = session.counts()
    reports = session.replay()
    assert all(report.duplicates == 1 and not report.orders for report in reports)
    assert session.counts() == before


def test_every_stage_shows_a_picture_and_figures(instance: DagsterInstance) -> None:
    assets = ["candles", "features", "leaderboard", "ensemble", "backtest", "pareto_configs", "drift_report"]
    assets += ["adherence_report", "portfolio_backtest", "report_card"]
    assets += [f"{family}_{stage}" for family in FAMILIES for stage in ("model", "calibration", "evaluation")]
    for asset in assets:
        metadata = newest(instance, asset, None if asset == "portfolio_backtest" else "EURUSD")
        assert "dagster/row_count" in metadata, asset
        assert "seconds" in metadata, asset
        pictures = re.findall(
            r"data:image/png;base64,([A-Za-z0-9+/=]+)", " ".join(str(v.value) for v in metadata.values())
        )
        assert pictures, asset
        for encoded in pictures:
            assert base64.b64decode(encoded).startswith(b"\x89PNG\r\n\x1a\n"), asset


def test_the_gates_passed_with_their_figures(instance: DagsterInstance) -> None:
    from dagster import AssetCheckKey

    for asset, name in (
        ("candles", "candles_are_lawful"),
        ("features", "features_are_lawful"),
        ("features", "features_never_see_the_future"),
    ):
        key = AssetCheckKey(AssetKey(asset), name)
        history = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
        assert history[0].status.value == "SUCCEEDED"


def test_training_is_recorded_and_registered(platform: Platform) -> None:
    for family in FAMILIES:
        runs = platform.training.runs("EURUSD", "H1", family)
        assert runs[0].state == "completed"
        version = platform.version(platform.pair("EURUSD"), family, "model")
        assert platform.registry.run_url(version.mlflow_run_id or "").startswith("http://127.0.0.1:5000")
    aliases = platform.registry.aliases("EURUSD", "H1")
    assert "challenger" in aliases
    assert platform.bundles.find(aliases["challenger"]).symbol == "EURUSD"


def test_no_secret_reaches_any_file(card: dict[str, Any], home: Path) -> None:
    needle = FORBIDDEN.encode()
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len(files) > 100
    assert not [path for path in files if needle in path.read_bytes()]


def test_files_are_nobody_elses_business(card: dict[str, Any], home: Path) -> None:
    assert (home / "forexgpt.sqlite").stat().st_mode & 0o077 == 0


def test_a_flipped_byte_in_the_deployed_bundle_is_refused(card: dict[str, Any], home: Path, platform: Platform) -> None:
    bundle = platform.bundles.find(card["deployed"]["bundle_hash"])
    victim = bundle.path / "config.json"
    content = victim.read_bytes()
    victim.chmod(0o600)
    victim.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    try:
        run = subprocess.run(
            [Path(sys.executable).parent / "forexgpt", "bundle", "verify", bundle.hash12],
            capture_output=True, text=True, check=False, env={**os.environ, "FOREXGPT_HOME": str(home)},
        )  # fmt: skip
        assert run.returncode == 1
        assert run.stderr.count("\n") == 1
        assert "config.json" in run.stderr
    finally:
        victim.write_bytes(content)


def test_reading_verbs_print_one_json_document(card: dict[str, Any], home: Path) -> None:
    for verb in (
        ["symbols", "list"], ["candles", "info", "EURUSD"], ["candles", "gaps", "EURUSD"], ["forecast", "EURUSD"],
        ["pareto", "EURUSD"], ["bundle", "list"], ["live", "status"], ["doctor"],
    ):  # fmt: skip
        run = subprocess.run(
            [Path(sys.executable).parent / "forexgpt", *verb, "--json"],
            capture_output=True, text=True, check=False, env={**os.environ, "FOREXGPT_HOME": str(home)},
        )  # fmt: skip
        assert run.returncode == 0, (verb, run.stderr)
        assert json.loads(run.stdout), verb


def without_clocks(card: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in card.items() if key != "seconds"}


def without_luck(card: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a backtest knows of the searches before it: the second demo follows the search of the first."""
    known = {key: value for key, value in card["backtest"].items() if key not in ("trials_ever", "deflated_sharpe")}
    return {**without_clocks(card), "backtest": known}


@pytest.mark.slow
def test_a_second_run_and_another_home_give_the_same_figures(
    card: dict[str, Any], home: Path, tmp_path: Path, platform: Platform
) -> None:
    again = demo(home)
    assert without_luck(again) == without_luck(card)
    tried = platform.studies.trial_registry("EURUSD", "H1").count
    assert (card["backtest"]["trials_ever"], again["backtest"]["trials_ever"]) == (0, tried)
    assert "deflated_sharpe" not in card["backtest"], "nothing was tried yet"
    assert again["backtest"]["deflated_sharpe"] < again["backtest"]["probabilistic_sharpe"]
    elsewhere = demo(tmp_path / "elsewhere")
    twin = Platform(load_settings({"FOREXGPT_HOME": str(tmp_path / "elsewhere")}))
    assert without_clocks(elsewhere) == without_clocks(card)
    hashes = [sorted(b.hash12 for b in p.bundles.all()) for p in (platform, twin)]
    assert hashes[0] == hashes[1], "equal content has equal hashes: weights and probe outputs are the same bits"
    assert math.isfinite(card["models"][0]["crps"])
