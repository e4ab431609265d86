"""From the command line to a provider: settings, keys, and real runs against a server on loopback."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml
from simulators.bars import walk_bars
from simulators.feeds import Dukascopy
from simulators.http import Simulator

from forexgpt_assets.definitions import defs
from forexgpt_assets.runs import session
from forexgpt_core.candles.ranges import range_end
from forexgpt_core.cli.main import main
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import PROVIDERS, SOURCES, Source, SymbolSettings, default_settings
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import BadInput
from forexgpt_core.settings import load_settings

ROOT = Path(__file__).parents[1]
NOW = datetime.now(UTC)
START = (NOW - timedelta(days=20)).date()


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that is set up once; the tests that share it leave other pairs in it, or none."""
    return tmp_path_factory.mktemp("fetch") / "home"


@pytest.fixture
def home(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOREXGPT_HOME", str(shared_home))
    monkeypatch.setenv("DAGSTER_HOME", str(shared_home / "dagster"))
    for name in ("FOREXGPT_TIINGO_KEY", "FOREXGPT_ALPHA_VANTAGE_KEY"):
        monkeypatch.delenv(name, raising=False)
    return shared_home


@pytest.fixture(scope="module")
def feed() -> Iterator[Simulator]:
    minutes = walk_bars(Timeframe.M1, datetime(START.year, START.month, START.day, tzinfo=UTC), NOW)
    with Simulator(Dukascopy({"GBPUSD": minutes}, today=NOW.date(), fill=True)) as running:
        yield running


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_keys_and_addresses_are_read_from_the_environment_and_not_shown() -> None:
    settings = load_settings(
        {
            "FOREXGPT_TIINGO_KEY": " s3cr3t \n",
            "FOREXGPT_ALPHA_VANTAGE_KEY": "s3cr3t",
            "FOREXGPT_DUKASCOPY_URL": "http://user:s3cr3t@127.0.0.1:1",
        }
    )
    assert (settings.tiingo_key, settings.alpha_vantage_key) == ("s3cr3t", "s3cr3t")
    assert "s3cr3t" not in repr(settings)
    bare = load_settings({"FOREXGPT_TIINGO_KEY": "  "})
    assert (bare.tiingo_key, bare.alpha_vantage_key, bare.tiingo_url) == (None, None, None)


def test_every_provider_may_be_a_pairs_source_and_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLIENT_ID", "CLIENT_SECRET", "ACCESS_TOKEN", "ACCOUNT_ID"):
        monkeypatch.setenv(f"FOREXGPT_CTRADER_{name}", "7")
    environment = {"FOREXGPT_TIINGO_KEY": "k", "FOREXGPT_ALPHA_VANTAGE_KEY": "k"}
    platform = Platform(load_settings(environment))
    for kind in PROVIDERS:
        document = {**default_settings("EURUSD").to_document(), "source": {"kind": kind, "start": "2018-01-31"}}
        source = platform.source(SymbolSettings.from_document(document))
        assert source.archive is False
    assert set(PROVIDERS) < set(SOURCES)
    with pytest.raises(BadInput, match="did you mean 'tiingo'"):
        Source(kind="tingo")


@pytest.mark.slow
def test_a_new_pair_is_fetched_with_bid_and_ask_and_stays_with_its_provider(
    home: Path, feed: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOREXGPT_DUKASCOPY_URL", feed.url)
    ended = START + timedelta(days=15)
    provider = ["--provider", "dukascopy", "--start", str(START)]
    main(["candles", "fetch", "GBP/USD", *provider, "--end", str(ended)])
    assert f"GBPUSD now has its candles from dukascopy, from {START} on" in capsys.readouterr().err
    with session() as (platform, instance):
        assert "GBPUSD" in instance.get_dynamic_partitions("symbol")
        assert platform.pair("GBPUSD").source == Source(kind="dukascopy", start=str(START))
        bars = platform.lake.candles("GBPUSD", Timeframe.H1)
    assert bars.height > 200
    assert bars["ts_utc"][-1] + timedelta(hours=1) <= range_end(str(ended), now_utc=NOW)
    assert bars["ts_utc"][-1] > NOW - timedelta(days=9)
    assert bars["ts_utc"][0] >= datetime(START.year, START.month, START.day, tzinfo=UTC)
    assert bars["ask_close"].null_count() == 0
    before = feed.count()
    main(["candles", "fetch", "GBPUSD"])
    assert feed.count() - before < 60  # the newest days only
    with session() as (platform, _):
        later = platform.lake.candles("GBPUSD", Timeframe.H1)
    assert later.head(bars.height).equals(bars)
    assert later.height > bars.height
    capsys.readouterr()
    assert "is no time: expected a day" in fails(capsys, "candles", "fetch", "GBPUSD", "--end", "yesterday")


def test_without_a_key_one_line_names_the_variable_and_nothing_is_saved(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = fails(capsys, "candles", "fetch", "AUDUSD", "--provider", "tiingo")
    assert "no key is set; set FOREXGPT_TIINGO_KEY" in told
    assert "FOREXGPT_ALPHA_VANTAGE_KEY" in fails(capsys, "candles", "fetch", "AUDUSD", "--provider", "alpha_vantage")
    with session() as (platform, instance):
        assert platform.pair("AUDUSD").source.kind == "none"
        assert "AUDUSD" not in instance.get_dynamic_partitions("symbol")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--provider", "dukascopi"], "unknown provider 'dukascopi'; did you mean 'dukascopy'?"),
        (["--provider", "file"], "unknown provider 'file'"),
        (["--provider", "dukascopy", "--start", "31.1.2018"], "must be a day such as 2018-01-31, was '31.1.2018'"),
        (["--provider", "dukascopy", "--start", "2055-01-01"], "--start 2055-01-01 lies in the future"),
        (["--start", "2018-01-01"], "unknown provider 'none'"),
    ],
)
def test_wrong_options_are_one_line(
    home: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    assert told in fails(capsys, "candles", "fetch", "AUDUSD", *options)


def test_an_unreachable_provider_is_one_line_without_an_address_to_hide(
    home: Path, feed: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOREXGPT_DUKASCOPY_URL", feed.url)
    feed.fail(403, times=200)
    with pytest.raises(SystemExit):
        main(["candles", "fetch", "NZDUSD", "--provider", "dukascopy", "--start", str(START)])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("forexgpt: candles: dukascopy: asked for datafeed/NZDUSD/")
    assert "HTTP 403" in last


def test_the_candles_asset_stands_in_the_pool_that_both_configurations_limit() -> None:
    asset = defs().resolve_assets_def("candles")
    assert asset.op.pool == "candle_provider"
    assert isinstance(asset.key, dg.AssetKey)
    for name in ("dagster.yaml", "deploy/dagster.postgres.yaml"):
        pools = yaml.safe_load((ROOT / name).read_text())["concurrency"]["pools"]
        assert pools == {"default_limit": 1, "granularity": "run"}


def files_by_month(feed: Simulator) -> Counter[str]:
    """Return how many of the feed's files were asked for, by year and month counted from 00."""
    return Counter("/".join(asked.path.split("/")[3:5]) for asked in feed.asked)


def months_ago(count: int) -> str:
    month = NOW.year * 12 + NOW.month - 1 - count
    return f"{month // 12:04d}/{month % 12:02d}"


@pytest.mark.slow
def test_a_killed_and_a_refused_download_go_on_at_the_month_where_they_stopped(tmp_path: Path) -> None:
    year, month = (int(part) for part in months_ago(3).split("/"))
    begin = datetime(year, month + 1, 1, tzinfo=UTC)
    minutes = walk_bars(Timeframe.M1, begin, NOW, missing=0.03)  # with holes in every month
    with Simulator(Dukascopy({"GBPUSD": minutes}, today=NOW.date(), fill=True)) as feed:
        home = {"FOREXGPT_HOME": str(tmp_path / "home"), "FOREXGPT_DUKASCOPY_URL": feed.url}
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("FOREXGPT_", "DAGSTER_"))} | home

        def fetch(*options: str) -> subprocess.Popen[str]:
            code = "import sys; from forexgpt_core.cli.main import main; main(sys.argv[1:])"
            command = [sys.executable, "-c", code, "candles", "fetch", "GBPUSD", *options]
            return subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)

        def asked_in_a_run() -> tuple[Counter[str], int, str]:
            feed.asked.clear()
            process = fetch()
            told = process.communicate(timeout=200)[1].strip().splitlines()
            return files_by_month(feed), process.returncode, told[-1]

        killed = fetch("--provider", "dukascopy", "--start", f"{begin:%Y-%m-%d}")
        while feed.count(f"/{months_ago(2)}/") < 5 and killed.poll() is None:
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        assert killed.returncode == -signal.SIGKILL

        feed.fail(403, times=1000, where=f"/{months_ago(1)}/")
        asked, code, told = asked_in_a_run()
        assert code == 1
        assert asked[months_ago(3)] <= 2 < 40 < asked[months_ago(2)], "a last day again, and the month that was cut"
        assert "HTTP 403" in told

        feed.stop_failing()
        asked, code, told = asked_in_a_run()
        assert code == 0, told
        assert asked[months_ago(3)] == 0
        assert asked[months_ago(2)] <= 2 < 40 < asked[months_ago(1)]
        asked, code, told = asked_in_a_run()
        assert code == 0, told
        assert sum(asked.values()) <= 2 * 25, "hours of the newest day"
        assert set(asked) <= {months_ago(0), months_ago(1)}
    hours = Platform(load_settings(home)).lake.candles("GBPUSD", Timeframe.H1)
    assert hours["ts_utc"].is_between(begin, NOW).all()
    assert hours.height > 60 * 24 * 5 / 7
