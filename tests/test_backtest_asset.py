"""The backtest asset and its verb, in a real home, on a market that is given to them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from backtest_market import varied_market

from forexgpt_assets.defs.backtest import BacktestConfig
from forexgpt_assets.runs import RunFailed, add_symbol, materialize, session
from forexgpt_core import evidence, readings
from forexgpt_core.backtest.engine import run_backtest
from forexgpt_core.backtest.statistics import LABELS
from forexgpt_core.cli.main import main
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import default_settings
from forexgpt_core.domain.costs import Costs
from forexgpt_core.errors import NotReady
from forexgpt_core.strategy.config import StrategyConfig

PAIR = "EURUSD"
STRATEGY = {
    "horizon_bars": 6,
    "entry_probability": 0.55,
    "stop_scales": 1.0,
    "take_profit_scales": 1.5,
    "size_fraction": 0.05,
    "holding_limit_bars": 9,
    "cost_multiple": 0.5,
    "distance_unit": "volatility",
    "trailing_scales": 1.2,
    "sizing": "risk",
    "lots": 0.2,
    "max_entries": 2,
    "opposite_exit": False,
}


@dataclass
class Home:
    platform: Platform
    instance: dg.DagsterInstance
    folder: Path

    def metadata(self) -> dict[str, Any]:
        event = self.instance.get_latest_materialization_event(dg.AssetKey("backtest"))
        assert event is not None
        assert event.asset_materialization is not None
        return {name: value.value for name, value in event.asset_materialization.metadata.items()}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("backtest")
    bars, laws = varied_market(3, bars=400)

    def market(platform: Platform, settings: Any, *, mode: str | None = None) -> evidence.TradedMarket:
        traded = SimpleNamespace(bundle_hash="a" * 12)
        return evidence.TradedMarket(
            settings=settings, traded=traded, bars=bars, forecasts=laws, no_entry=None, rates={}
        )  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOREXGPT_HOME", str(folder / "home"))
        patch.setenv("DAGSTER_HOME", str(folder / "home" / "dagster"))
        patch.setattr(evidence, "traded_market", market)
        with session() as (platform, instance):
            settings = replace(default_settings(PAIR), costs=Costs(spread_pips=0.4), cash=50_000.0)
            platform.pairs.save(settings, by="test")
            add_symbol(instance, PAIR)
            yield Home(platform, instance, folder)


@pytest.fixture(scope="module")
def drawn(home: Home) -> dict[str, Any]:
    """The metadata of a backtest with a plot."""
    materialize(home.instance, ["backtest"], PAIR, {"backtest": STRATEGY})
    return home.metadata()


def test_every_setting_of_a_strategy_can_be_given() -> None:
    assert set(BacktestConfig.model_fields) == {field.name for field in fields(StrategyConfig)} | {"mode"}
    assert set(STRATEGY) == {field.name for field in fields(StrategyConfig)}
    given = BacktestConfig().model_dump(exclude={"mode", "horizon_bars"})
    assert StrategyConfig(**given) == StrategyConfig()


def test_the_strategy_given_is_the_one_that_is_traded(home: Home, drawn: dict[str, Any]) -> None:
    bars, laws = varied_market(3, bars=400)
    strategy = StrategyConfig(**STRATEGY)  # type: ignore[arg-type]
    expected = run_backtest(bars, laws, strategy, Costs(spread_pips=0.4), symbol=PAIR, cash=50_000.0)
    (row,) = home.platform.scores.latest(PAIR, "H1", "backtest")
    assert row["strategy"] == strategy.document()
    assert row["config"] == drawn["config"] == strategy.hash12
    assert drawn["dagster/row_count"] == expected.trades.height > 20
    assert row["final_equity"] == drawn["final_equity"] == expected.stats["final_equity"]


def test_the_metadata_hold_every_figure_and_the_plot(home: Home, drawn: dict[str, Any]) -> None:
    listed = [record.data["figure"] for record in drawn["statistics"].records]
    assert tuple(listed) == LABELS
    names = {"probabilistic_sharpe", "deflated_sharpe", "trials_ever", "turnover_per_year", "cost_share"}
    assert names | {"break_even_pips", "missing_ask_bars", "crossed_ask_bars", "stale_rate_bars"} <= set(drawn)
    assert drawn["plot"].endswith("backtest.html")
    assert drawn["plot_shows"].endswith("at the prices paid")
    page = Path(drawn["file"]).read_text(encoding="utf-8")
    assert "Bokeh" in page
    assert readings.backtest_plot(home.platform, PAIR) == page


def test_the_verb_shows_the_familiar_figures_first_and_writes_the_plot(
    home: Home, drawn: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("forexgpt_assets.verbs._run", lambda *_: None)  # it was run
    file = home.folder / "plot.html"
    main(["backtest", PAIR, "--plot", str(file)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[: len(LABELS)]] == list(LABELS)
    assert {"turnover_per_year", "deflated_sharpe", "break_even_pips"} <= {line.split(":")[0] for line in lines}
    assert f"# Trades: {drawn['dagster/row_count']}" in lines
    assert file.read_text(encoding="utf-8") == Path(drawn["file"]).read_text(encoding="utf-8")
    main(["backtest", PAIR, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert tuple(document["statistics"]) == LABELS
    assert document["strategy"] == STRATEGY
    assert document["final_equity"] == drawn["final_equity"]


def test_a_plot_that_cannot_be_written_is_refused_before_anything_runs(
    home: Home, drawn: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("forexgpt_assets.verbs._run", lambda *_: pytest.fail("ran"))
    with pytest.raises(SystemExit) as stopped:
        main(["backtest", PAIR, "--plot", str(home.folder / "nowhere" / "plot.html")])
    assert stopped.value.code == 1
    assert f"there is no folder {home.folder / 'nowhere'}" in capsys.readouterr().err
    monkeypatch.setattr("forexgpt_assets.verbs._run", lambda *_: None)
    with pytest.raises(SystemExit):
        main(["backtest", PAIR, "--plot", str(home.folder)])
    assert "cannot be written: Is a directory" in capsys.readouterr().err


def test_a_setting_that_is_none_is_named(home: Home) -> None:
    with pytest.raises(RunFailed, match="unknown sizing 'martingale'; known: fraction, lots"):
        materialize(home.instance, ["backtest"], PAIR, {"backtest": {"sizing": "martingale"}})


def test_without_a_plot_the_reason_stands_everywhere_and_no_older_plot_stays(
    home: Home, drawn: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = home.platform.pair(PAIR)
    home.platform.pairs.save(replace(settings, costs=replace(settings.costs, swap_long_pips=-0.5)), by="test")
    try:
        materialize(home.instance, ["backtest"], PAIR, {"backtest": STRATEGY})
    finally:
        home.platform.pairs.save(settings, by="test")
    said = "no interactive plot: backtesting.py cannot count swap"
    assert home.metadata()["plot"] == said
    assert said in Path(home.metadata()["file"]).read_text(encoding="utf-8")
    with pytest.raises(NotReady, match=said):
        readings.backtest_plot(home.platform, PAIR)
    monkeypatch.setattr("forexgpt_assets.verbs._run", lambda *_: None)
    with pytest.raises(SystemExit) as stopped:
        main(["backtest", PAIR, "--plot", str(home.folder / "none.html")])
    assert stopped.value.code == 1
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out.startswith("Start: ")
    assert not (home.folder / "none.html").exists()


def test_a_strategy_that_never_trades_is_told_without_a_figure_made_up(home: Home) -> None:
    never = {**STRATEGY, "entry_probability": 0.9999}
    materialize(home.instance, ["backtest"], PAIR, {"backtest": never})
    told = readings.backtest_figures(home.platform, PAIR)
    assert (told["trades"], told["statistics"]["# Trades"]) == (0, 0)  # type: ignore[index]
    lines = readings.backtest_lines(told)
    assert (lines["Win Rate [%]"], lines["break_even_pips"]) == ("--", "--")
    assert lines["plot"] == "no interactive plot: the strategy made no trade"
