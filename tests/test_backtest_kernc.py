"""The strategy on backtesting.py, beyond what every backtest owes."""

import subprocess
import sys

import pytest
from backtest_market import CONFIG, COSTS, random_market

from forexgpt_core.backtest.kernc import run_backtest

BARS, LAWS = random_market(4)


def test_a_run_is_silent(capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    run_backtest(BARS, LAWS, CONFIG, COSTS, symbol="EURUSD")
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_importing_the_backtest_imports_neither_the_library_nor_a_compiler() -> None:
    heavy = {"backtesting", "bokeh", "pandas", "pymoo", "matplotlib", "plotly", "numba"}
    code = (
        "import sys, forexgpt_core.backtest.kernc, forexgpt_core.backtest.engine, forexgpt_core.optimisation.pareto,"
        " forexgpt_core.reporting.pareto, forexgpt_core.reporting.backtest;"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
