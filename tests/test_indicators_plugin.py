"""Indicators of another package: installed, offered, built, and judged like ours."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import default_settings
from forexgpt_core.domain.clock import Timeframe, next_opens, week_opens
from forexgpt_core.errors import BadInput
from forexgpt_core.features.indicator import Bars, Columns, Family
from forexgpt_core.settings import load_settings

MODULE = """
from forexgpt_core.features.indicator import Family, shifted, window

FAMILY = Family("theirs")


@FAMILY.indicator(warm_up=lambda bars: bars, bars=window(3, least=1))
def their_change(b, bars):
    return {"their_change": b.close - shifted(b.close, bars)}


@FAMILY.indicator()
def tomorrow(b):
    return {"tomorrow": (shifted(b.close[::-1], 1)[::-1] > b.close).astype(float)}
"""
RECIPE = "timeframes: [H1, D1]\nindicators:\n  their_change: {bars: 2}\n  tomorrow: [D1]\n  rsi: {}\n"


def install(folder: Path) -> None:
    """Lay a package out as an installer does."""
    described = folder / "their_indicators-1.0.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: their-indicators\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[forexgpt.indicators]\ntheirs = their_indicators:FAMILY\n")
    (folder / "their_indicators.py").write_text(MODULE)


def walk(bars: int) -> pl.DataFrame:
    opens = next_opens(week_opens()[1490:1491] - np.timedelta64(1, "s"), Timeframe.H1, bars)[0]
    close = 1.1 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 1e-3, bars)))
    prices = {"open": close, "high": close * 1.001, "low": close / 1.001, "close": close, "volume": np.ones(bars)}
    return pl.DataFrame({"ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"), **prices})


def forexgpt(home: Path, packages: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"from forexgpt_core.cli.main import main; main({list(arguments)!r})"
    paths = os.pathsep.join([str(packages), *sys.path])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths, "FOREXGPT_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_an_installed_indicator_is_judged_and_its_leak_is_named(tmp_path: Path) -> None:
    home, packages = tmp_path / "home", tmp_path / "packages"
    platform = Platform(load_settings({"FOREXGPT_HOME": str(home)}))
    platform.prepare()
    platform.pairs.save(replace(default_settings("GBPUSD"), timeframe="H1"), by="test")
    platform.lake.merge_candles("GBPUSD", Timeframe.H1, walk(1500))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    judge = ("features", "leaks", "GBPUSD", "--recipe", str(tmp_path / "recipe.yaml"), "--json")
    without = forexgpt(home, packages, *judge)
    assert (without.returncode, without.stdout) == (1, "")
    assert "unknown indicator 'their_change'" in without.stderr
    install(packages)
    judged = forexgpt(home, packages, *judge)
    assert judged.returncode == 1, judged.stderr
    assert {leak["column"] for leak in json.loads(judged.stdout)["leaks"]} == {"tomorrow_d1"}
    (packages / "their_indicators.py").write_text("import no_such_module")
    broken = forexgpt(home, packages, "features", "list", "--json")
    assert (broken.returncode, broken.stdout) == (1, "")
    told = " ".join(broken.stderr.split())
    assert "the package 'their-indicators' adds indicators by 'their_indicators:FAMILY', which cannot be loaded" in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("returned", "line"),
    [
        ({}, "indicator 'careless' did not return its column 'careless'"),
        ({"careless": np.ones(3)}, r"returned float64 of shape \(3,\) for its column 'careless', expected float64 of"),
        (None, r"'careless' failed on 50 H1 bars \(TypeError: .*; it must work on any number of bars, none included"),
        ({"careless": np.ones(50, dtype=np.int64)}, r"returned int64 of shape \(50,\)"),
    ],
)
def test_an_indicator_that_does_not_return_a_value_per_bar_is_refused(returned: Columns | None, line: str) -> None:
    family = Family("theirs")

    @family.indicator()
    def careless(b: Bars) -> Columns:
        """Return what the test says."""
        return {**returned}

    with pytest.raises(BadInput, match=line):
        family.members[0].columns(Bars(walk(50), Timeframe.H1), {})
