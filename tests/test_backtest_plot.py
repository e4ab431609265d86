"""The library's interactive plot: drawn of the engine's own trades, offline, or refused with the reason."""

import base64
import gzip
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from backtest_market import CONFIG, COSTS, candles, forecasts, needs_real_bars, real_market, varied_market
from browser import running_browser

from forexgpt_core.backtest import plot
from forexgpt_core.backtest.engine import run_span
from forexgpt_core.backtest.plot import InteractivePlot, first_difference, interactive_plot
from forexgpt_core.backtest.result import BacktestResult
from forexgpt_core.backtest.span import Span, lay_out
from forexgpt_core.domain.costs import Costs

QUIET = replace(COSTS, spread_pips=0.3, stop_out=0.5)


def drawn(seed: int = 1, bars: int = 150, costs: Costs = QUIET) -> tuple[Span, BacktestResult, InteractivePlot]:
    walk, laws = varied_market(seed, bars=bars)
    span = lay_out(walk, laws, costs, symbol="EURUSD")
    result = run_span(span, CONFIG)
    return span, result, interactive_plot(span, CONFIG, result)


def sources(html: str) -> list[dict[str, Any]]:
    """Return the columns that the page holds."""
    [embedded] = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html, re.DOTALL)
    found: list[dict[str, Any]] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if node.get("name") == "ColumnDataSource":
                entries = node["attributes"]["data"].get("entries", [])
                found.append(dict(entries))
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(json.loads(embedded.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")))
    return found


def numbers(column: Any) -> list[float]:
    """Return a column of a page, packed or plain."""
    if isinstance(column, list):
        return column
    array = column["array"]
    if isinstance(array, list):
        return array
    packed = base64.b64decode(array["data"])
    if packed[:2] == b"\x1f\x8b":
        packed = gzip.decompress(packed)
    return np.frombuffer(packed, dtype=column["dtype"]).tolist()


def fetched(html: str) -> list[str]:
    """Return what the elements of a page name to be fetched."""
    found: list[str] = []

    class Elements(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.extend(f"{tag} {value}" for name, value in attrs if name in ("src", "href", "data"))

    Elements().feed(html)
    return found


def test_a_browser_draws_the_page_with_the_network_off(tmp_path: Path) -> None:
    _, _, page = drawn()
    file = tmp_path / "plot.html"
    file.write_text(str(page.html), encoding="utf-8")
    asked: list[str] = []
    complaints: list[str] = []
    with running_browser() as browser:
        tab = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True).new_page()
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("console", lambda told: complaints.append(told.text) if told.type == "error" else None)
        tab.goto(file.as_uri())
        tab.locator(".bk-Div").get_by_text(page.said).wait_for(timeout=15_000)
        tab.wait_for_function("Bokeh.documents.length == 1 && Bokeh.documents[0].is_idle", timeout=15_000)
        assert tab.locator(".bk-Figure").count() == 3  # equity, profits, prices
        tab.screenshot(path=str(tmp_path / "plot.png"))
    assert complaints == []
    assert asked == [file.as_uri()]


def test_the_page_draws_the_trades_of_the_engine_and_needs_no_network() -> None:
    _, result, page = drawn()
    assert page.html is not None
    assert page.said == f"{result.equity.height} bars at the bid, {result.trades.height} trades at the prices paid"
    [trades] = [one for one in sources(page.html) if "returns" in one]
    assert numbers(trades["returns"]) == pytest.approx((result.trades["return_pct"] / 100).to_list(), abs=1e-12)
    assert numbers(trades["size"]) == pytest.approx(
        [lots if side == "buy" else -lots for lots, side in result.trades.select("lots", "side").rows()]
    )
    assert fetched(page.html) == []
    assert "plx.gif" not in page.html  # the library's plot calls its author's site
    assert len(page.html) < 3e6


def test_trades_that_the_end_closed_are_drawn_and_paid_for() -> None:
    for seed in range(20):
        _, result, page = drawn(seed, bars=60)
        if result.trades.height and result.trades["exit_reason"][-1] == "end":
            assert page.html is not None
            [account] = [one for one in sources(page.html) if "equity" in one]
            final = float(result.stats["final_equity"] or 0) / 100_000
            assert numbers(account["equity"])[-1] == pytest.approx(final, rel=1e-12)
            [trades] = [one for one in sources(page.html) if "returns" in one]
            assert len(numbers(trades["returns"])) == result.trades.height
            return
    pytest.fail("no market ends with an open trade")


@pytest.mark.parametrize(
    ("costs", "reason"),
    [
        (replace(QUIET, account_currency="EUR"), "cannot count an account in another currency"),
        (replace(QUIET, swap_long_pips=-1.0, commission_percent=0.01), "cannot count a commission in per cent, swap"),
    ],
)
def test_costs_that_the_library_cannot_count_are_named(costs: Costs, reason: str) -> None:
    _, _, page = drawn(costs=costs)
    assert page == InteractivePlot(html=None, said=f"no interactive plot: backtesting.py {reason}")


def test_a_stop_out_is_a_difference_that_is_told() -> None:
    full = replace(CONFIG, size_fraction=0.9, distance_unit="percent", stop_scales=50.0, holding_limit_bars=30)
    bars = candles([(1.2, 1.2, 1.2, 1.2)] * 2 + [(1.2, 1.2, 1.10, 1.2), (1.2, 1.2, 1.2, 1.2)])
    span = lay_out(bars, forecasts([0.002, 0.0, 0.0, 0.0]), QUIET, symbol="EURUSD")
    page = interactive_plot(span, full, run_span(span, full))
    assert page.html is None
    assert page.said.startswith("no interactive plot: backtesting.py trades otherwise, first in trade 1: buy 7.5 lots")
    assert "end at 1.1999" in page.said
    assert "stop_out at" in page.said


def test_a_level_at_the_last_close_is_a_reason() -> None:
    free = Costs(spread_pips=0, slippage_pips=0, commission_per_lot=0, leverage=10)
    near = replace(CONFIG, stop_scales=1e-15, cost_multiple=0.0)
    span = lay_out(candles([(1.25, 1.25, 1.25, 1.25)] * 3), forecasts([0.002, 0.0, 0.0]), free, symbol="EURUSD")
    page = interactive_plot(span, near, run_span(span, near))
    assert page.html is None
    assert page.said.startswith("no interactive plot: backtesting.py refuses an order: Long orders require")


def test_nothing_traded_is_a_reason() -> None:
    walk, laws = varied_market(1, bars=60)
    span, never = lay_out(walk, laws, QUIET, symbol="EURUSD"), replace(CONFIG, entry_probability=0.999)
    page = interactive_plot(span, never, run_span(span, never))
    assert page == InteractivePlot(html=None, said="no interactive plot: the strategy made no trade")


def test_the_first_difference_is_found_wherever_it_is() -> None:
    _, result, _ = drawn()
    trades = result.trades
    assert first_difference(trades, trades) == ""
    assert first_difference(trades, trades.head(3)).startswith("first in trade 4: ")
    assert first_difference(trades, trades.head(3)).endswith("here alone")
    assert first_difference(trades.head(3), trades).endswith("there alone")
    row = pl.int_range(pl.len()) == 5
    for name, other in (("profit", pl.col("profit") + 0.01), ("exit_bar", pl.col("exit_bar") + 1)):
        changed = trades.with_columns(pl.when(row).then(other).otherwise(pl.col(name)).alias(name))
        assert first_difference(trades, changed).startswith("first in trade 6: ")
    rounded = trades.with_columns(pl.col("entry_price") * (1 + 1e-12))
    assert first_difference(trades, rounded) == ""


@needs_real_bars
def test_years_of_bars_are_drawn_longer_and_said_so() -> None:
    bars, laws = real_market(3, bars=15_000)
    costs = replace(COSTS, spread_pips=0.5, slippage_pips=0.0, stop_out=0.5)
    config = replace(CONFIG, entry_probability=0.72, size_fraction=0.02, horizon_bars=6, holding_limit_bars=12)
    span = lay_out(bars, laws, costs, symbol="EURUSD")
    result = run_span(span, config)
    page = interactive_plot(span, config, result)
    assert page.html is not None
    bars_told, trades_told = f"{span.close.size:,} bars, drawn in bars of 4h", f"{result.trades.height:,} trades"
    assert page.said == f"{bars_told} at the bid, {trades_told} added up by bar at the prices paid"
    assert len(page.html) < 15e6
    [account] = [one for one in sources(page.html) if "equity" in one]
    assert 3_000 < len(numbers(account["equity"])) <= plot.MOST_BARS


def test_bars_are_made_longer_only_as_far_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot, "MOST_BARS", 149)
    _, _, page = drawn(bars=150)
    assert page.html is not None
    assert "drawn in bars of 4h" in page.said


def test_the_library_is_loaded_only_to_draw() -> None:
    code = (
        "import sys; import forexgpt_core.backtest.plot, forexgpt_core.backtest.statistics;"
        "print(sorted({'backtesting', 'bokeh', 'pandas', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
