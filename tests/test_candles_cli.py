"""`forexgpt candles ...` as a person types it: what it prints, in JSON and on paper, and how it refuses."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from forexgpt_core.candles.ingest import IngestTerms, ingest
from forexgpt_core.cli.main import main
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import default_settings
from forexgpt_core.domain.bars import SCHEMA
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.settings import load_settings

Run = Callable[..., Any]
HOLE = datetime(2018, 2, 6, 9, tzinfo=UTC)


class Archive:
    archive, chunk = True, None

    def __init__(self, bars: pl.DataFrame) -> None:
        self.bars = bars

    def fetch(self, *_: object, **__: object) -> pl.DataFrame:
        return self.bars


def history() -> pl.DataFrame:
    opens = expected_opens(np.datetime64("2018-01-07T22"), np.datetime64("2018-12-14T20"), Timeframe.M15)
    close = 1.2 * np.exp(np.cumsum(np.random.default_rng(2).normal(0, 2e-4, opens.size)))
    prices = {"open": close, "high": close * 1.0001, "low": close * 0.9999, "close": close}
    ask = {f"ask_{name}": values + 0.0001 for name, values in prices.items()}
    return pl.DataFrame(
        {"ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"), **prices, "volume": np.full(opens.size, 50.0), **ask}
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose GBPUSD is worked on M15, with a hole, a contradiction and a bar on a Saturday."""
    folder = tmp_path_factory.mktemp("home")
    platform = Platform(load_settings({"FOREXGPT_HOME": str(folder)}))
    platform.prepare()
    settings = replace(default_settings("GBPUSD"), timeframe="M15", recipe={"timeframes": ["M15"]})
    platform.pairs.save(settings, by="test")
    bars = history()
    kept = bars.filter(~pl.col("ts_utc").is_between(HOLE, HOLE + timedelta(hours=1), closed="left"))
    other = kept[40:41].with_columns(pl.col("high") * 1.0002)
    stray = kept[480:481].with_columns(ts_utc=pl.lit(datetime(2018, 1, 13, 12, tzinfo=UTC)).cast(SCHEMA["ts_utc"]))
    raw = pl.concat([kept, other, stray]).sort("ts_utc", maintain_order=True)
    ingest(Archive(raw), platform.lake, "GBPUSD", Timeframe.M15, IngestTerms(origin="file feed.csv"))
    bars.with_columns(pl.col("ts_utc") + timedelta(hours=1)).write_csv(folder / "shifted.csv")
    return folder


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("FOREXGPT_HOME", str(home))

    def one(*arguments: str) -> Any:
        main(["candles", *arguments])
        printed = capsys.readouterr().out
        return json.loads(printed) if "--json" in arguments else printed

    return one


def test_the_pairs_own_timeframe_is_meant_where_none_is_given(run: Run) -> None:
    told = run("info", "gbp/usd", "--json")
    assert (told["timeframe"], told["missing_bars"], told["missing_provider"]) == ("M15", 4, 4)
    assert told["spread_median_pips"] == pytest.approx(1.0)
    assert told["quarantined_rows"] == 3
    assert "spread_99_pips: 1" in run("info", "GBPUSD")


def test_gaps_are_listed_by_cause(run: Run) -> None:
    [hole] = run("gaps", "GBPUSD", "--cause", "provider", "--json")
    assert (hole["start_utc"], hole["missing_bars"], hole["cause"]) == (HOLE.isoformat(), 4, "provider")
    assert run("gaps", "GBPUSD", "--cause", "holiday", "--json") == []
    assert "1 gaps; missing bars: provider 4" in run("gaps", "GBPUSD")


def test_the_quarantine_shows_every_version_with_its_reason_and_source(run: Run) -> None:
    rows = run("quarantine", "GBPUSD", "--json")
    assert [(row["reason"], row["kept"]) for row in rows] == [
        ("conflicting_repeat", False),
        ("conflicting_repeat", True),
        ("outside_week", False),
    ]
    assert {row["source"] for row in rows} == {"file feed.csv"}
    assert "3 rows in quarantine" in run("quarantine", "GBPUSD")


def test_health_is_one_document_or_figures_with_examples(run: Run) -> None:
    told = run("health", "GBPUSD", "--json")
    assert (told["missing_provider"], told["put_aside_conflicting_repeat"], told["stale_tail_bars"]) == (4, 1, 0)
    assert {example["kind"] for example in told["examples"]} >= {"hole", "conflicting_repeat", "outside_week"}
    printed = run("health", "GBPUSD")
    assert "missing_provider: 4" in printed
    assert "examples, the largest of each kind" in printed


def test_another_feed_is_compared_and_its_wrong_clock_found(run: Run, home: Path) -> None:
    file = str(home / "shifted.csv")
    told = run("compare", "GBPUSD", "--with", file, "--timezone", "UTC", "--json")
    assert (told["lag_minutes"], told["weeks_at_lag_0"], told["timeframe"]) == (60, 0, "M15")
    assert len(told["weeks_with_another_lag"]) == told["weeks"] > 40
    assert "lag_minutes: 60" in run("compare", "GBPUSD", "--with", file, "--timezone", "UTC")


def test_freshness_lists_every_pair(run: Run) -> None:
    [row] = run("freshness", "--json")
    assert (row["symbol"], row["state"], row["source"]) == ("GBPUSD", "archive", "no source")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("gaps", "GBPUSD", "--cause", "luck"), "unknown cause 'luck'; known: holiday, weekend, rollover, provider"),
        (("health", "USDJPY"), "no candles for USDJPY H1 yet"),
        (("info", "GBPUSD", "--timeframe", "M7"), "unknown timeframe 'M7'"),
        (("compare", "GBPUSD", "--with", "/nowhere.csv"), "there is no file /nowhere.csv"),
    ],
)
def test_a_wrong_question_is_answered_in_one_line(
    run: Run, arguments: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    told = capsys.readouterr().err
    assert stop.value.code == 1
    assert line in told
    assert told.count("\n") == 1
