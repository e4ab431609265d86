"""Bad input gives one clear line, exit code 1, and leaves nothing half-written."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forexgpt_core.adapters.lake import Lake
from forexgpt_core.domain.clock import Timeframe, expected_opens

Run = Callable[..., subprocess.CompletedProcess[str]]
BARS = 600


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad-input") / "home"


@pytest.fixture(scope="module")
def run(home: Path) -> Run:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "FOREXGPT_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}
        forexgpt = Path(sys.executable).parent / "forexgpt"
        return subprocess.run(
            [forexgpt, *arguments], capture_output=True, text=True, check=False, env=environment, timeout=300
        )

    return call


def bars(n: int = BARS, seed: int = 1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    opens = expected_opens(np.datetime64("2018-01-01T22", "us"), np.datetime64("2018-06-01T20", "us"), Timeframe.H1)[:n]
    close = 1.3 * np.exp(np.cumsum(rng.normal(0, 1e-3, n)))
    open_ = np.concatenate([[1.3], close[:-1]])
    return pl.DataFrame(
        {
            "time": pl.Series(opens).dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "open": open_,
            "high": np.maximum(open_, close) * 1.0002,
            "low": np.minimum(open_, close) * 0.9998,
            "close": close,
            "volume": rng.integers(1, 100, n),
        }
    )


def text_in_a_price(table: pl.DataFrame) -> pl.DataFrame:
    prices = table["close"].cast(pl.String).to_list()
    return table.with_columns(close=pl.Series([*prices[:99], "n/a", *prices[100:]]))


BAD_FILES: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "a wrong column": (lambda t: t.rename({"close": "settle"}), "close"),
    "text in a price": (text_in_a_price, "n/a"),
    "local time without a zone": (lambda t: t.with_columns(time=pl.col("time").str.strip_chars("Z")), "time zone"),
    "an empty table": (lambda t: t.head(0), "empty"),
    "duplicate bars": (lambda t: pl.concat([t, t.tail(12)]), "612"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_in_one_line(case: str, run: Run, home: Path, tmp_path: Path) -> None:
    spoil, wanted = BAD_FILES[case]
    file = tmp_path / "GBPUSD.csv"
    spoil(bars()).write_csv(file)
    refused = run("candles", "import", str(file), "--symbol", "GBPUSD")
    assert refused.returncode == 1, refused.stderr
    assert refused.stdout == ""
    assert len(refused.stderr.strip().splitlines()) == 1, refused.stderr
    assert wanted in refused.stderr
    assert "GBPUSD" not in Lake(str(home / "lake")).symbols("candles")


def test_what_does_not_exist_is_named(run: Run, tmp_path: Path) -> None:
    missing = run("candles", "import", str(tmp_path / "nowhere.csv"), "--symbol", "GBPUSD")
    unknown = run("candles", "info", "GBPUDS")
    frame = run("candles", "info", "GBPUSD", "--timeframe", "H2")
    for call, wanted in ((missing, "nowhere.csv"), (unknown, "GBPUDS"), (frame, "H2")):
        assert call.returncode == 1
        assert call.stderr.count("\n") == 1
        assert wanted in call.stderr


def test_wrong_usage_is_exit_code_2(run: Run) -> None:
    assert run("candles", "import").returncode == 2
    assert run("nonsense").returncode == 2


def test_a_good_file_is_imported_once(run: Run, tmp_path: Path) -> None:
    import json

    file = tmp_path / "AUDUSD.csv"
    bars().write_csv(file)
    first, again = (run("candles", "import", str(file), "--symbol", "aud/usd", "--json") for _ in range(2))
    assert first.returncode == 0, first.stderr
    facts, repeated = json.loads(first.stdout), json.loads(again.stdout)
    assert facts["bars"] == facts["new_bars"] == BARS
    assert repeated["new_bars"] == 0
    assert repeated["lake_version"] == facts["lake_version"]


def test_settings_with_an_unknown_key_are_refused(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "eurusd.yaml"
    file.write_text(run("symbols", "export", "EURUSD").stdout.replace("families:", "familes:"))
    refused = run("symbols", "import", str(file))
    assert refused.returncode == 1
    assert "familes" in refused.stderr
    assert "families" in refused.stderr


def test_settings_travel_as_yaml(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "usdjpy.yaml"
    exported = run("symbols", "export", "USDJPY").stdout
    file.write_text(exported.replace("- forest\n", ""))
    saved = run("symbols", "import", str(file))
    assert saved.returncode == 0, saved.stderr
    assert run("symbols", "export", "USDJPY").stdout == file.read_text()


def test_a_locked_database_fails_closed_in_one_line(run: Run, home: Path) -> None:
    import sqlite3

    assert run("doctor").returncode == 0
    holder = sqlite3.connect(home / "forexgpt.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        refused = run("live", "halt", "--reason", "test")
    finally:
        holder.close()
    assert refused.returncode == 1
    assert "another process holds its lock" in refused.stderr
    assert refused.stderr.count("\n") == 1
