"""The portfolio in the graph: pairs from candles to backtest, then one account for all of them."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from forexgpt_assets.defs.portfolio import _of_one_timeframe
from forexgpt_assets.runs import RunFailed, add_symbol, materialize, session
from forexgpt_core import evidence
from forexgpt_core.composition import ENSEMBLE, Platform
from forexgpt_core.deployment.symbol_settings import default_settings
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.strategy.config import StrategyConfig

pytestmark = pytest.mark.xdist_group("stages")
H1 = Timeframe.H1
FAMILIES = ("random_walk", "linear")
STAGES = [
    "features",
    *(f"{family}_{stage}" for stage in ("model", "calibration", "evaluation") for family in FAMILIES),
    "leaderboard",
    "ensemble",
    "backtest",
]
TRADED = {"EURUSD": 0.501, "AUDCAD": 0.503}  # the probability to enter at


def bars(seed: int, level: float) -> pl.DataFrame:
    ts = expected_opens(np.datetime64("2018-01-01T22", "us"), np.datetime64("2018-12-31T20", "us"), H1)[:1_100]
    noise = np.random.default_rng(seed).normal(0, 1e-3, ts.size)
    close = level * np.exp(np.cumsum(noise + 0.4 * np.roll(noise, 1)))  # one bar tells of the next: there are calls
    open_ = np.concatenate([[level], close[:-1]])
    prices = {
        "open": open_,
        "high": np.maximum(open_, close) * 1.0002,
        "low": np.minimum(open_, close) * 0.9998,
        "close": close,
    }
    return pl.DataFrame({"ts_utc": pl.Series(ts).dt.replace_time_zone("UTC"), **prices, "volume": np.ones(ts.size)})


@pytest.fixture(scope="module")
def home() -> Iterator[tuple[Platform, dg.DagsterInstance]]:
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(prefix="forexgpt-", dir=memory if memory.is_dir() else None) as folder,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("FOREXGPT_HOME", str(Path(folder) / "home"))
        environment.setenv("DAGSTER_HOME", str(Path(folder) / "home" / "dagster"))
        with session() as (platform, instance):
            with pytest.raises(RunFailed, match="no pair has a backtest yet"):
                materialize(instance, ["portfolio_backtest"], None)
            for seed, (symbol, probability) in enumerate(TRADED.items()):
                platform.pairs.save(
                    replace(
                        default_settings(symbol),
                        families=FAMILIES,
                        family_options={"linear": {"caution": 0.0}},
                        recipe={"timeframes": ["H1"]},
                        horizons_bars=(1, 4),
                    ),
                    by="test",
                )
                platform.lake.merge_candles(symbol, H1, bars(seed, 1.2 - 0.3 * seed))
                add_symbol(instance, symbol)
                often = {"backtest": {"entry_probability": probability, "horizon_bars": 4}}
                materialize(instance, STAGES, symbol, often)
            yield platform, instance


def portfolio(instance: dg.DagsterInstance, **config: object) -> dict[str, Any]:
    materialize(instance, ["portfolio_backtest"], None, {"portfolio_backtest": config} if config else None)
    event = instance.get_latest_materialization_event(dg.AssetKey("portfolio_backtest"))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def rows(found: Any) -> dict[str, dict[str, Any]]:
    return {record.data["symbol"]: record.data for record in found.records}


@pytest.fixture(scope="module")
def shown(home: tuple[Platform, dg.DagsterInstance]) -> dict[str, Any]:
    """The metadata of the first portfolio, once there are candles that turn Canadian dollars into US dollars."""
    platform, instance = home
    with pytest.raises(RunFailed, match="AUDCAD: turning CAD into USD needs the candles of USDCAD; fetch them"):
        portfolio(instance)
    platform.lake.merge_candles("USDCAD", H1, bars(7, 1.3))
    return portfolio(instance)


def test_the_strategy_of_a_backtest_can_be_read_back(home: tuple[Platform, dg.DagsterInstance]) -> None:
    platform, _ = home
    for symbol, probability in TRADED.items():
        row = platform.scores.latest(symbol, "H1", "backtest")[-1]
        strategy = StrategyConfig(**row["strategy"])
        assert strategy.hash12 == row["config"]
        assert (strategy.entry_probability, strategy.horizon_bars) == (probability, 4)


def test_a_pairs_costs_keep_the_currency_of_its_commission(
    home: tuple[Platform, dg.DagsterInstance], shown: dict[str, Any]
) -> None:
    platform, _ = home
    assert shown["pairs"] == 2  # with the candles that convert
    histories, rates = evidence.portfolio_histories(platform, evidence.backtested(platform)[0], "USD")
    assert {symbol: one.costs.account_currency for symbol, one in histories.items()} == dict.fromkeys(TRADED, "")
    assert "USDCAD" in rates


def test_every_pair_with_a_backtest_is_traded_by_its_own_strategy(
    home: tuple[Platform, dg.DagsterInstance], shown: dict[str, Any]
) -> None:
    assert shown["symbols"] == "AUDCAD, EURUSD"
    assert shown["left_out_pairs"] == "none"
    contributions = rows(shown["contributions"])
    assert {symbol: one["trades"] > 0 for symbol, one in contributions.items()} == dict.fromkeys(TRADED, True)
    assert sum(one["trades"] for one in contributions.values()) == shown["trades"] == shown["dagster/row_count"]
    assert sum(one["profit"] for one in contributions.values()) == pytest.approx(
        shown["final_equity"] - 100_000, rel=1e-4
    )
    assert {s: one["entry_probability"] for s, one in rows(shown["strategies"]).items()} == TRADED
    assert shown["equity"].startswith("![equity, drawdown and exposure](data:image/png;base64,")
    assert {"sharpe", "entries_refused", "entries_refused_by_exposure", "diversification_ratio", "seconds"} <= set(
        shown
    )


def test_the_account_and_its_limits_are_settings_of_the_run(
    home: tuple[Platform, dg.DagsterInstance], shown: dict[str, Any]
) -> None:
    _, instance = home
    limited = portfolio(instance, account_currency="EUR", cash=50_000.0, max_positions=1, max_currency_exposure=2.0)
    assert limited["cash"] == 50_000
    assert limited["trades"] < shown["trades"]
    assert limited["entries_refused_by_positions"] + limited["entries_refused_by_exposure"] > 0
    with pytest.raises(RunFailed, match="cash of a portfolio must be a finite number above 0"):
        portfolio(instance, cash=0.0)


def test_the_calendar_of_each_pair_holds_entries_back(
    home: tuple[Platform, dg.DagsterInstance], shown: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, instance = home

    def no_entry(_: Platform, settings: Any, candles: pl.DataFrame) -> Any:
        return np.full(candles.height, settings.symbol == "EURUSD")

    monkeypatch.setattr(Platform, "no_entry", no_entry)
    held = rows(portfolio(instance)["contributions"])
    assert (held["EURUSD"]["trades"], held["AUDCAD"]["trades"] > 0) == (0, True)
    assert held["EURUSD"]["entries_held_back"] > 0


def test_pairs_that_cannot_be_traded_as_they_were_are_left_out_by_name(
    home: tuple[Platform, dg.DagsterInstance], shown: dict[str, Any]
) -> None:
    platform, instance = home
    usual = platform.pair("EURUSD")
    platform.pairs.save(replace(usual, timeframe="M15"), by="test")
    try:
        found = portfolio(instance)
    finally:
        platform.pairs.save(usual, by="test")
    assert (found["symbols"], found["left_out_pairs"]) == ("AUDCAD", "EURUSD")
    assert rows(found["left_out"])["EURUSD"]["why"] == "it has no backtest at M15: materialize backtest"

    row = platform.scores.latest("EURUSD", "H1", "backtest")[-1]
    row = {name: value for name, value in row.items() if name != "recorded_utc"}
    ensemble = platform.version(usual, ENSEMBLE, ENSEMBLE)
    try:
        older = {name: value for name, value in row.items() if name != "strategy"}
        platform.scores.replace_backtest("EURUSD", "H1", ENSEMBLE, ensemble.bundle_hash, [older])
        assert "earlier release" in evidence.backtested(platform)[1]["EURUSD"]
        platform.scores.replace_backtest("EURUSD", "H1", ENSEMBLE, "0" * 12, [row])
        assert "not of its newest ensemble" in evidence.backtested(platform)[1]["EURUSD"]
    finally:
        platform.scores.replace_backtest("EURUSD", "H1", ENSEMBLE, ensemble.bundle_hash, [row])


def test_pairs_of_another_timeframe_than_most_are_left_out_by_name() -> None:
    settings = [replace(default_settings(s), timeframe=t) for s, t in [("EURUSD", "H1"), ("GBPUSD", "M15")]]
    settings.append(replace(default_settings("USDJPY"), timeframe="M15"))
    pairs = {one.symbol: evidence.Backtested(settings=one, strategy=StrategyConfig(), mode=None) for one in settings}
    left_out: dict[str, str] = {}
    assert list(_of_one_timeframe(pairs, left_out)) == ["GBPUSD", "USDJPY"]
    assert left_out == {"EURUSD": "its bars are H1, those of most pairs M15"}
