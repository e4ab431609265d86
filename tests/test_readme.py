"""The README as a newcomer reads it: its commands run, in its order, and what it names exists."""

import importlib.util
import json
import os
import re
import shlex
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
import typer
import yaml
from click.testing import CliRunner
from simulators.bars import walk_bars
from simulators.feeds import Dukascopy
from simulators.http import Simulator

from forexgpt_core.cli.main import build_app
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.settings import load_settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    block
    for text in (README, *GUIDES)
    for block in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
]
UNRUN = ("make", "source", "createdb", "export", "umask")  # servers, installation and another machine's PostgreSQL
ANY_HASH = "0123456789ab"
NOW = datetime.now(UTC)
RECENT = (NOW - timedelta(days=20)).date()
VERBS = {
    "doctor", "symbols list", "symbols add", "symbols export", "symbols import", "candles import", "candles fetch",
    "candles info", "candles gaps", "candles health", "candles quarantine", "candles compare", "candles freshness",
    "features build", "features list", "features info", "features leaks", "events import", "events list", "train",
    "forecast", "evaluate", "report", "campaign run", "campaign status", "campaign list", "backtest", "optimise",
    "pareto", "deploy", "live tick", "live status", "live halt", "live resume", "live flatten", "bundle list",
    "bundle verify", "demo",
}  # fmt: skip
READING = {
    "doctor", "symbols list", "candles info", "candles gaps", "candles health", "candles quarantine", "candles compare",
    "candles freshness", "features list", "features info", "features leaks", "events list", "forecast", "evaluate",
    "report", "campaign status", "campaign list", "backtest", "pareto",
    "live status", "bundle list", "bundle verify", "demo",
}  # fmt: skip


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from leaves(child, (*path, name))
    else:
        yield " ".join(path), command


COMMAND = typer.main.get_command(build_app())
LEAVES = dict(leaves(COMMAND))
COMMANDS = [
    line
    for language, text in BLOCKS
    if language in ("console", "bash")
    for line in text.splitlines()
    if line.strip()
]  # fmt: skip


# What can be held without running anything


def test_every_line_of_a_command_block_is_known() -> None:
    assert len(COMMANDS) > 20
    for line in COMMANDS:
        first = line.split()[0]
        assert first == "forexgpt" or first in UNRUN, f"neither run here nor known as not runnable: {line}"


def test_console_blocks_hold_verbs_alone_and_no_server() -> None:
    lines = [line for language, text in BLOCKS if language == "console" for line in text.splitlines()]
    for line in lines:
        assert line.startswith("forexgpt "), line
        assert not line.startswith("forexgpt ui"), line


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", README)) | {
        line.split()[1] for line in COMMANDS if line.startswith("make")
    }
    assert {"demo", "test", "ui"} <= named
    assert named <= targets


def test_environment_variables_are_those_that_are_read() -> None:
    source = (ROOT / "forexgpt_core" / "settings.py").read_text()
    read = set(re.findall(r'(?:env\.get\(|_text\(env, )"([A-Z_]+)"\)', source))
    table = set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE))
    assert table == read
    for name in table:
        assert load_settings({name: "elsewhere"}) != load_settings({}), name
    others = set(re.findall(r"\b((?:FOREXGPT|MLFLOW|DAGSTER)_[A-Z_]+)\b", README)) - table
    assert others == {"DAGSTER_PG_URL", "FOREXGPT_CTRADER_"}
    for name in set(re.findall(r"\bFOREXGPT_[A-Z_]+\b", " ".join(GUIDES))) - table - {"FOREXGPT_CTRADER_"}:
        assert name.startswith("FOREXGPT_CTRADER_"), name
        assert f'"{name.removeprefix("FOREXGPT_CTRADER_")}"' in source, name
    assert "{env: DAGSTER_PG_URL}" in (ROOT / "deploy" / "dagster.postgres.yaml").read_text()


def test_the_map_shows_every_room_and_no_other() -> None:
    (drawn,) = [text for language, text in BLOCKS if language == "text" and text.startswith("forexgpt_core/")]
    rooms = set(re.findall(r"^  ([a-z]+(?:/|\.py)) ", drawn, re.MULTILINE))
    core = ROOT / "forexgpt_core"
    there = {f"{p.name}/" for p in core.iterdir() if (p / "__init__.py").is_file()} | {
        p.name for p in core.glob("*.py")
    }
    assert rooms == there - {"__init__.py", "errors.py", "settings.py"}
    for folder in re.findall(r"\b([a-z_]+)/(?= )", drawn.split("forexgpt_assets/")[1]):
        assert (ROOT / folder).is_dir(), folder


def test_links_and_pictures_are_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert len(links) >= 3
    for link in links:
        assert (ROOT / link).is_file(), link
    for guide in GUIDES:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", guide):
            assert (ROOT / "docs" / link).is_file(), link
    for png in (ROOT / "docs" / "images").iterdir():
        assert f"docs/images/{png.name}" in README, f"{png.name} is shown nowhere"
        _require_small_png(png)


def _require_small_png(path: Path) -> None:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    assert width > 600
    assert height > 300
    assert len(content) < 150_000


# The command line as it describes itself


def test_the_verbs_of_the_contract_are_reachable() -> None:
    assert set(LEAVES) >= VERBS
    for name in READING:
        assert "--json" in {option for p in LEAVES[name].params for option in p.opts}, name


@pytest.mark.parametrize("name", [*LEAVES, *(n for n, c in COMMAND.commands.items() if isinstance(c, click.Group)), ""])
def test_help_answers(name: str) -> None:
    shown = CliRunner().invoke(COMMAND, [*name.split(), "--help"], prog_name="forexgpt")
    assert shown.exit_code == 0, shown.output
    assert "Usage: forexgpt" in shown.output
    if name in LEAVES:
        assert f"Example: forexgpt {name}" in " ".join(shown.output.split())


@pytest.mark.parametrize("name", LEAVES)
def test_the_example_of_a_verb_is_lawful_usage(name: str) -> None:
    command = LEAVES[name]
    assert (command.help or "").strip(), "a verb says in one sentence what it does"
    example = shlex.split((command.epilog or "").removeprefix("Example: forexgpt ").split(" > ")[0])
    assert " ".join(example).startswith(name)
    command.make_context(name, example[len(name.split()) :]).close()  # raises UsageError where it does not fit


# The commands, run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the file that the README imports: candles as MetaTrader exports them from a server in Helsinki."""
    from backtesting.test import EURUSD

    folder = tmp_path_factory.mktemp("readme")
    local = EURUSD.tz_localize("UTC").tz_convert("Europe/Helsinki")
    lines = ["<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>"]
    for moment, bar in zip(local.index, local.to_numpy(), strict=True):
        prices = "\t".join(f"{1.15 * price:.5f}" for price in bar[:4])
        lines.append(f"{moment:%Y.%m.%d\t%H:%M:%S}\t{prices}\t{bar[4]:.0f}\t0\t8")
    (folder / "GBPUSD_H1.csv").write_text("\n".join(lines) + "\n")
    (calendar,) = [text for language, text in BLOCKS if language == "csv"]
    (folder / "week.csv").write_text(calendar)
    files = [text for language, text in BLOCKS if language == "yml"]
    for name, key in (("recipe.yaml", "indicators:"), ("spring.yaml", "families:")):
        (text,) = [text for text in files if key in text]
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def feed() -> Iterator[Simulator]:
    """A server that speaks Dukascopy's format, for the pairs that the documents fetch from there."""
    minutes = {
        pair: walk_bars(Timeframe.M1, datetime(RECENT.year, RECENT.month, RECENT.day, tzinfo=UTC), NOW)
        for pair in ("AUDUSD", "USDJPY")
    }
    with Simulator(Dukascopy(minutes, today=NOW.date(), fill=True)) as running:
        yield running


@pytest.fixture(scope="module")
def shell(place: Path, feed: Simulator) -> Callable[[str], subprocess.CompletedProcess[str]]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FOREXGPT_", "MLFLOW_", "DAGSTER_"))}
    environment["FOREXGPT_HOME"] = str(place / "home")
    environment["FOREXGPT_DUKASCOPY_URL"] = feed.url
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"

    def run(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", line], cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=900
        )

    return run


@pytest.fixture(scope="module")
def printed(shell: Callable[[str], subprocess.CompletedProcess[str]]) -> str:
    """What the demo prints, in the home that the other commands then use."""
    demo = shell("forexgpt demo")
    assert demo.returncode == 0, demo.stderr[-3000:]
    return demo.stdout


def _without_figures(line: str) -> str:
    """Blank what may differ from one processor to the next: figures, hashes, and how wide a column is."""
    line = re.sub(r"\b[0-9a-f]{12}\b", "HASH", line)
    line = re.sub(r"no call|[+-]?\d[\d.]*", "N", line.replace("┃", "│"))
    return " ".join(line.split())


@pytest.mark.slow
@pytest.mark.xdist_group("readme")
def test_the_excerpt_is_what_the_demo_prints(printed: str) -> None:
    (excerpt,) = [text for language, text in BLOCKS if language == "text" and "skill over" in text]
    lines = {_without_figures(line) for line in printed.splitlines()}
    for line in excerpt.splitlines():
        if not line.startswith(("Nothing beats", "In one")):  # the best family may be another elsewhere
            assert _without_figures(line) in lines, line
    assert "Nothing beats the random walk: of " in printed


@pytest.mark.slow
@pytest.mark.xdist_group("readme")
def test_every_verb_of_the_readme_runs_in_its_order(
    printed: str, shell: Callable[[str], subprocess.CompletedProcess[str]], place: Path
) -> None:
    ran = []
    for language, text in BLOCKS:
        if language == "yaml":
            _edit(place / "gbpusd.yaml", text.replace("/data/", f"{place}/"))
        for line in text.splitlines() if language in ("console", "bash") else ():
            if not line.startswith("forexgpt "):
                continue
            meant = line.replace("2024-01-01", str(RECENT))  # the server has the newest days alone
            done = shell(meant.replace(ANY_HASH, _a_hash(shell)) if ANY_HASH in line else meant)
            assert done.returncode == 0, f"{line}\n{done.stderr[-2000:]}"
            assert "Traceback" not in done.stderr, line
            ran.append(line)
    assert len(ran) > 20
    status = json.loads(shell("forexgpt live status --json").stdout)
    assert {row["symbol"] for row in status} == {"EURUSD", "GBPUSD"}
    info = json.loads(shell("forexgpt candles info GBPUSD --json").stdout)
    assert info["first_utc"] == "2017-04-19T09:00:00+00:00", "read by the clock of Helsinki, kept in UTC"
    exported = yaml.safe_load(shell("forexgpt symbols export GBPUSD").stdout)
    assert exported["costs"]["spread_pips"] == 1.4, "the edit was saved"


def _edit(file: Path, text: str) -> None:
    """Do what the README tells the reader to do by hand; every key must be one that the export shows."""
    settings, wanted = yaml.safe_load(file.read_text()), yaml.safe_load(text)
    assert set(wanted) <= set(settings)
    file.write_text(yaml.safe_dump(settings | wanted))


def _a_hash(shell: Callable[[str], subprocess.CompletedProcess[str]]) -> str:
    return str(json.loads(shell("forexgpt pareto GBPUSD --json").stdout)[0]["hash"])


@pytest.mark.slow
@pytest.mark.xdist_group("readme")
def test_the_pictures_can_be_drawn_again_from_a_demo(
    printed: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("make_images", ROOT / "docs" / "make_images.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setenv("FOREXGPT_HOME", str(place / "home"))
    script.main(tmp_path)
    shown = {path.name for path in (ROOT / "docs" / "images").iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == shown
    for path in tmp_path.iterdir():
        _require_small_png(path)
    monkeypatch.setenv("FOREXGPT_HOME", str(tmp_path / "empty"))
    with pytest.raises(SystemExit, match="run 'forexgpt demo' first"):
        script.main(tmp_path)
