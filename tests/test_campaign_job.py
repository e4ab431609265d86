"""A campaign as a Dagster run: what is done is skipped, what was interrupted goes on, what fails fails alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from simulators.bars import walk_bars

from forexgpt_assets.campaign_work import stored_kind
from forexgpt_assets.definitions import defs
from forexgpt_assets.defs.campaigns import campaign_job
from forexgpt_core.adapters.database.schema import upgrade
from forexgpt_core.cli.main import main
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import Source, default_settings
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.ensemble.regimes import REGIMES, RegimeSettings, running_labels
from forexgpt_core.evaluation import walk_forward
from forexgpt_core.evaluation.walk_forward import WalkForwardSettings
from forexgpt_core.optimisation import campaign_run
from forexgpt_core.optimisation.campaign import Campaign
from forexgpt_core.optimisation.campaign_records import CampaignRecord
from forexgpt_core.settings import load_settings

H1 = Timeframe.H1
CAMPAIGN = Campaign(
    name="spring",
    symbols=("EURUSD",),
    timeframes=("H1",),
    horizons=((1, 4),),
    families=("linear", "random_walk"),
    parameters={"linear": {"pca_components": [0, 2]}, "random_walk": {"seasonal": [False]}},
    recipe={"timeframes": ["H1"], "indicators": {"rsi": None, "ewma_volatility": None, "returns": None}},
    walk_forward=WalkForwardSettings(folds=2),
)
FOLDS = 2 * CAMPAIGN.size


class Stopped(BaseException):
    """What ends a process in the middle: nothing of ours catches it."""


def candles(until: datetime = datetime(2018, 4, 15, tzinfo=UTC), seed: int = 5) -> pl.DataFrame:
    return walk_bars(H1, datetime(2018, 1, 2, tzinfo=UTC), until, seed=seed)


def platform_at(home: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.setenv("FOREXGPT_HOME", str(home))
    platform = Platform(load_settings())
    upgrade(platform.settings.database_url)  # MLflow is not asked for anything here
    for symbol in ("EURUSD", "GBPUSD"):
        platform.pairs.save(replace(default_settings(symbol), source=Source(kind="none")), by="test")
    platform.lake.merge_candles("EURUSD", H1, candles())
    return platform


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    platform = platform_at(tmp_path / "home", monkeypatch)
    yield platform
    platform.database.close()


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folds that were really fitted, as the name of the family and the number of the fold."""
    done: list[str] = []

    def counted(windows: Any, fold: Any, candidate: Any, *rest: Any) -> pl.DataFrame:
        outcome = walk_forward.run_fold(windows, fold, candidate, *rest)
        done.append(f"{candidate.family} {fold.number}")
        return outcome

    monkeypatch.setattr(campaign_run, "run_fold", counted)
    return done


def run(platform: Platform, campaign: Campaign = CAMPAIGN, **config: object) -> dg.ExecuteInProcessResult:
    return campaign_job.execute_in_process(
        resources={"platform": platform},
        run_config={"ops": {"plan_campaign": {"config": config or {"document": campaign.to_document()}}}},
        raise_on_error=False,
    )


def stored(platform: Platform, record: CampaignRecord) -> dict[str, pl.DataFrame]:
    """The forecasts in the lake, by member."""
    return {
        one.member.hash12: platform.lake.read(*key)
        for one in record.members
        if platform.lake.exists(*(key := (stored_kind(record.name, one.member), one.member.symbol, H1)))
    }


def results(platform: Platform, name: str = "spring") -> dict[str, object]:
    """What a campaign came to, without the moments at which it did."""
    record = platform.campaigns.load(name)
    told = [one.to_document() for one in record.members]
    details = {key: value for key, value in record.details.items() if key != "seconds"}
    return {
        "state": record.state,
        "details": details,
        "members": [{k: v for k, v in one.items() if not k.endswith("_utc")} for one in told],
        "lake": {name: table.write_csv() for name, table in stored(platform, record).items()},
    }


def failure(result: dg.ExecuteInProcessResult, step: str) -> str:
    event = next(event for event in result.all_events if event.is_step_failure and event.step_key == step)
    return str(event.event_specific_data.user_failure_data.description)


def test_a_run_validates_every_member_and_keeps_the_best_of_each_regime(platform: Platform, fitted: list[str]) -> None:
    result = run(platform)
    assert result.success
    record = platform.campaigns.load("spring")
    assert record.state == "completed"
    assert record.counts()["completed"] == CAMPAIGN.size == 4
    assert len(fitted) == FOLDS
    kept = {one.member.hash12 for one in record.members if one.kept_for is not None}
    assert set(stored(platform, record)) == kept
    for one in record.members:
        assert one.member.is_reference or bool(one.kept_for) == (one.member.hash12 in kept)
        assert [score["horizon_bars"] for score in one.scores] == [1, 4]
        assert one.scores[0]["crps_reference"] == record.members[0].scores[0]["crps"]
    best = [cell for cell in record.details["cells"] if cell["best"]]
    assert {(c["member"], c["horizon_bars"], c["regime"]) for c in best} == {
        (one.member.hash12, c["horizon_bars"], c["regime"]) for one in record.members for c in one.kept_for or ()
    }
    table = stored(platform, record)[record.members[0].member.hash12]
    assert table.columns[:4] == ["ts_utc", "horizon_bars", "scale", "realised_return"]
    assert {"fold", "regime"} <= set(table.columns)
    closes = platform.lake.candles("EURUSD", H1)
    known = [*REGIMES, ""]
    for row in table.filter(pl.col("regime") != "").sample(20, seed=0).iter_rows(named=True):
        until = closes.filter(pl.col("ts_utc") <= row["ts_utc"])["close"].to_numpy()
        assert row["regime"] == known[running_labels(until, RegimeSettings())[-1]], "told by the bars up to it"
    assert platform.campaigns.trials("EURUSD") == 4
    output = next(e for e in result.all_events if e.is_successful_output and e.step_key == "select_members")
    metadata = output.event_specific_data.metadata
    assert {"verdict", "members", "winners", "skill", "kept", "cleaned_up", "trials", "failures"} <= set(metadata)
    assert metadata["skill"].value.startswith("![skill by member and regime](data:image/png;base64,")
    assert metadata["trials"].value == 4


def test_running_it_again_fits_nothing_and_comes_to_the_same(platform: Platform, fitted: list[str]) -> None:
    run(platform)
    first = results(platform)
    fitted.clear()
    assert run(platform, name="spring").success, "by the name of what was recorded"
    assert fitted == []
    assert results(platform) == {**first, "details": {**first["details"], "forecasts_removed": 0}}


def test_what_another_campaign_fitted_is_not_fitted_again(platform: Platform, fitted: list[str]) -> None:
    run(platform)
    fitted.clear()
    wider = replace(CAMPAIGN, name="summer", parameters={"linear": {"pca_components": [0, 1, 2]}})
    assert run(platform, wider).success
    assert fitted == ["linear 0", "linear 1"]
    before = stored(platform, platform.campaigns.load("spring"))
    assert before, "what one campaign cleans up is its own"


def test_kept_forecasts_that_are_gone_from_the_lake_are_stored_again_without_fitting(
    platform: Platform, fitted: list[str]
) -> None:
    run(platform)
    before = results(platform)
    for one in platform.campaigns.load("spring").members:
        if one.kept_for is not None:
            assert platform.lake.remove(stored_kind("spring", one.member), "EURUSD", H1)
    fitted.clear()
    assert run(platform).success
    assert fitted == []
    assert results(platform)["lake"] == before["lake"]


def test_folds_that_another_campaign_fitted_on_newer_data_replace_those_of_a_finished_member(
    platform: Platform, fitted: list[str]
) -> None:
    small = replace(CAMPAIGN, families=("random_walk",), parameters={})
    run(platform, small)
    before = platform.campaigns.load("spring").members[0]
    platform.lake.merge_candles("EURUSD", H1, candles(datetime(2018, 5, 1, tzinfo=UTC), seed=5))
    run(platform, replace(small, name="summer"))
    fitted.clear()
    assert run(platform, small).success
    assert fitted == [], "the other campaign fitted the very same folds"
    after, other = (platform.campaigns.load(name).members[0] for name in ("spring", "summer"))
    assert (after.fold_keys, after.rows, after.scores) == (other.fold_keys, other.rows, other.scores)
    assert not set(after.fold_keys) & set(before.fold_keys)


@pytest.mark.parametrize("after", [1, FOLDS - 1])
def test_an_interrupted_campaign_fits_what_is_missing_and_ends_like_an_uninterrupted_one(
    after: int, platform: Platform, fitted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = campaign_run.run_fold

    def stopping(*arguments: Any) -> pl.DataFrame:
        if len(fitted) == after:
            raise Stopped
        return counted(*arguments)

    monkeypatch.setattr(campaign_run, "run_fold", stopping)
    assert not run(platform).success
    record = platform.campaigns.load("spring")
    assert (record.state, record.counts()["completed"]) == ("running", after // 2)
    assert len(fitted) == after
    monkeypatch.setattr(campaign_run, "run_fold", counted)
    platform.lake.merge_candles("EURUSD", H1, candles(datetime(2018, 5, 1, tzinfo=UTC), seed=5))  # arrived meanwhile
    assert run(platform).success
    assert len(fitted) == FOLDS, "no fold twice"
    other = platform_at(tmp_path / "other", monkeypatch)
    assert run(other).success
    assert results(platform) == results(other)
    other.database.close()
    fitted.clear()
    assert run(platform).success
    assert len(fitted) == FOLDS, "a campaign that ended begins with the newest data"


def test_a_member_that_cannot_be_run_fails_alone_and_is_told_at_the_end(platform: Platform, fitted: list[str]) -> None:
    wide = replace(CAMPAIGN, symbols=("EURUSD", "GBPUSD"), timeframes=("H1", "M15", "W1"))
    result = run(platform, wide)
    assert not result.success
    told = failure(result, "select_members")
    assert told.startswith("20 of 24 members failed: EURUSD M15 [1, 4] random_walk and 3 more: EURUSD M15 cannot be")
    assert "EURUSD W1 [1, 4] random_walk" in told
    assert "usable rows" in told
    assert "no candles for GBPUSD H1 yet" in told
    record = platform.campaigns.load("spring")
    assert (record.state, record.counts()["completed"]) == ("failed", 4)
    assert len(fitted) == FOLDS
    assert record.error == told[:2000]
    assert any(one.kept_for for one in record.members if one.state == "completed"), "those that ran are judged"
    fitted.clear()
    platform.lake.merge_candles("GBPUSD", H1, candles(seed=6))
    run(platform, wide)
    after = platform.campaigns.load("spring").counts()
    assert (after["completed"], after["failed"]) == (8, 16)
    assert len(fitted) == FOLDS, "GBPUSD alone"


def test_an_error_nobody_raised_on_purpose_is_named_and_stops_no_other_member(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(windows: Any, fold: Any, candidate: Any, *rest: Any) -> pl.DataFrame:
        if candidate.options.get("pca_components") == 2:
            raise ZeroDivisionError("in two\nlines")
        return walk_forward.run_fold(windows, fold, candidate, *rest)

    monkeypatch.setattr(campaign_run, "run_fold", faulty)
    told = failure(run(platform), "select_members")
    assert told == (
        "1 of 4 members failed: EURUSD H1 [1, 4] linear pca_components=2: unexpected ZeroDivisionError: in two lines"
    )
    assert platform.campaigns.load("spring").counts()["completed"] == 3


def test_without_its_random_walk_nothing_is_judged_and_nothing_removed(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(windows: Any, fold: Any, candidate: Any, *rest: Any) -> pl.DataFrame:
        if candidate.family == "random_walk" and not candidate.options:
            raise MemoryError("killed")
        return walk_forward.run_fold(windows, fold, candidate, *rest)

    monkeypatch.setattr(campaign_run, "run_fold", faulty)
    assert "random_walk: unexpected MemoryError: killed" in failure(run(platform), "select_members")
    record = platform.campaigns.load("spring")
    assert len(stored(platform, record)) == 3
    assert record.details["cells"] == []


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"document": {}, "name": ""}, "give one of the two"),
        ({"name": "autumn"}, "there is no campaign 'autumn'; known: none yet"),
        ({"document": {"name": "x", "symbols": ["EURUSD"]}}, "campaign must have the setting 'timeframes'"),
        ({"document": {**CAMPAIGN.to_document(), "parameters": {"linear": {"x": [1]}}}}, "linear has no option 'x'"),
    ],
)
def test_a_run_of_no_campaign_is_refused_by_name(config: dict[str, object], text: str, platform: Platform) -> None:
    result = run(platform, **config)
    assert not result.success
    event = next(event for event in result.all_events if event.is_step_failure)
    assert event.step_key == "plan_campaign"
    assert text in str(event.event_specific_data.error)
    assert platform.campaigns.all() == []


def test_members_of_a_longer_timeframe_are_judged_too(platform: Platform) -> None:
    platform.lake.merge_candles("EURUSD", H1, candles(datetime(2019, 1, 1, tzinfo=UTC)))
    assert run(platform, replace(CAMPAIGN, timeframes=("H4",), families=("random_walk",), parameters={})).success
    record = platform.campaigns.load("spring")
    (only,) = record.members
    table = platform.lake.read(stored_kind("spring", only.member), "EURUSD", Timeframe.H4)
    assert only.rows == table.height / 2
    assert set(table["ts_utc"].dt.minute().unique()) == {0}
    assert table["ts_utc"].unique().diff().drop_nulls().min().total_seconds() == 4 * 3600


def test_the_job_stands_in_the_code_location_and_its_members_share_the_limit_of_folds() -> None:
    job = defs().resolve_job_def("campaign_job")
    assert job.tags["stage"] == "training", "one such run at a time"
    member = next(node for node in job.graph.nodes if node.name == "run_member")
    assert member.definition.tags["forexgpt/step"] == "fold"


# ---- the command line


def forexgpt(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    stopped = 0
    try:
        main(list(arguments))
    except SystemExit as stop:
        stopped = int(str(stop.code))
    told = capsys.readouterr()
    assert stopped == code, told.err
    return told.out if code == 0 else told.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: [", "not valid YAML (line"),
        ("symbols: [EURUSD]", "campaign must have the setting 'name'"),
        ("name: a\nname: b", "the key 'name' stands there twice (line 2)"),
        ("- name", "campaign must be a mapping of settings"),
    ],
)
def test_a_file_that_is_no_campaign_is_refused_in_one_line(
    text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "campaign.yaml"
    file.write_text(text)
    line = forexgpt(capsys, "campaign", "run", str(file), code=1)
    assert told in line
    assert line.count("\n") == 1
    missing = forexgpt(capsys, "campaign", "run", str(tmp_path / "none.yaml"), code=1)
    assert "cannot read a campaign from" in missing
    assert "No such file" in missing


def test_the_command_runs_a_campaign_and_shows_it(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home" / "dagster"))
    monkeypatch.setattr(Platform, "prepare", lambda _: None)  # MLflow's store takes ten seconds and is not used
    file = tmp_path / "spring.json"
    file.write_text(json.dumps(CAMPAIGN.to_document()))
    told = json.loads(forexgpt(capsys, "campaign", "run", str(file), "--json"))
    assert (told["campaign"], told["state"], told["completed"]) == ("spring", "completed", 4)
    assert [one["state"] for one in told["member_records"]] == ["completed"] * 4
    assert json.loads(forexgpt(capsys, "campaign", "status", "spring", "--json")) == told
    shown = forexgpt(capsys, "campaign", "status", "spring")
    assert "campaign spring: completed" in shown
    assert told["verdict"] in " ".join(shown.split())
    (listed,) = json.loads(forexgpt(capsys, "campaign", "list", "--json"))
    assert (listed["campaign"], listed["members"]) == ("spring", 4)
    assert "spring" in forexgpt(capsys, "campaign", "list")
    assert "there is no campaign 'x'; known: spring" in forexgpt(capsys, "campaign", "status", "x", code=1)
    file.write_text(json.dumps(replace(CAMPAIGN, seed=9).to_document()))
    refused = forexgpt(capsys, "campaign", "run", str(file), code=1)
    assert "another campaign was recorded as 'spring'" in refused
    for verb in ("run", "status", "list"):
        assert "Example: forexgpt campaign" in forexgpt(capsys, "campaign", verb, "--help")


def test_a_campaign_that_is_interrupted_or_cannot_write_says_so_in_one_line(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> pl.DataFrame:
        raise dg.DagsterExecutionInterruptedError  # what Dagster makes of Ctrl-C

    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home" / "dagster"))
    monkeypatch.setattr(Platform, "prepare", lambda _: None)
    file = tmp_path / "spring.json"
    file.write_text(json.dumps(CAMPAIGN.to_document()))
    with monkeypatch.context() as stopping:
        stopping.setattr(campaign_run, "run_fold", interrupted)
        (told,) = [
            line for line in forexgpt(capsys, "campaign", "run", str(file), code=1).splitlines() if "run_" in line
        ]
    assert told.endswith("]: interrupted; what was finished is kept, so run it again to go on")
    assert platform.campaigns.load("spring").state == "running"
    platform.settings.work.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(platform.settings.work)
    platform.settings.work.write_text("a file where a folder belongs, as good as a full disk")
    (told,) = [line for line in forexgpt(capsys, "campaign", "run", str(file), code=1).splitlines() if "failed" in line]
    assert "4 of 4 members failed: EURUSD H1 [1, 4] random_walk: unexpected NotADirectoryError" in told
    assert str(platform.settings.work) in told
    platform.settings.work.unlink()
    assert forexgpt(capsys, "campaign", "run", str(file))
    assert platform.campaigns.load("spring").counts()["completed"] == 4


@pytest.mark.slow
def test_a_killed_process_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = replace(CAMPAIGN, families=("boosting",), parameters={"boosting": {"rounds": [30, 60, 90, 120]}})
    killed, whole = (platform_at(tmp_path / name, monkeypatch) for name in ("killed", "whole"))
    file = tmp_path / "spring.json"
    file.write_text(json.dumps(campaign.to_document()))
    program = [Path(sys.executable).parent / "forexgpt", "campaign", "run", str(file)]

    home = str(killed.settings.home)
    environment = {**os.environ, "FOREXGPT_HOME": home, "DAGSTER_HOME": f"{home}/dagster"}

    def started() -> subprocess.Popen[str]:
        return subprocess.Popen(program, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    process, deadline = started(), time.monotonic() + 50
    while len(before := list(killed.folds.root.glob("*.parquet"))) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    record = killed.campaigns.load("spring")
    assert record.state == "running"
    assert record.counts()["completed"] < campaign.size
    written = {path: path.stat().st_mtime_ns for path in before}
    again = started()
    told = again.communicate(timeout=50)
    assert again.returncode == 0, told
    assert run(whole, campaign).success
    assert {path: path.stat().st_mtime_ns for path in before} == written, "what was finished is not written again"
    assert results(killed) == results(whole)
    for one, other in zip(*(stored(p, p.campaigns.load("spring")).values() for p in (killed, whole)), strict=True):
        assert_frame_equal(one, other)
    for platform in (killed, whole):
        platform.database.close()
