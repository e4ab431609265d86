"""The tick over all deployments: one pair's failure is its own, and a replaced deployment leaves nothing open."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest

from forexgpt_assets.defs.live import live_execution_job
from forexgpt_core.adapters.database.schema import upgrade
from forexgpt_core.cli.main import main
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.records import Deployment, DeploymentRequest
from forexgpt_core.deployment.symbol_settings import Source, default_settings
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.domain.orders import TradingState
from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.service import LiveSession, active_sessions, replaced_sessions
from forexgpt_core.settings import load_settings
from forexgpt_core.strategy.config import StrategyConfig

PAIRS = ("EURUSD", "GBPUSD", "USDCHF")
HOUR = timedelta(hours=1)
CONFIG = StrategyConfig(horizon_bars=1, entry_probability=0.5, stop_scales=8.0, take_profit_scales=8.0)
COSTS = Costs()
OTHER = replace(CONFIG, stop_scales=9.0)


class Bull:
    """Always sure that the pair rises."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol

    def forecast(self, bars: pl.DataFrame) -> ForecastBatch:
        scale = np.array([[0.004]])
        return ForecastBatch(
            symbol=self.symbol,
            timeframe="H1",
            family="bull",
            origin_utc=bars["ts_utc"].tail(1).to_numpy().astype("datetime64[us]"),
            horizons_bars=(1,),
            quantiles=scale[..., None] * (2.0 + SCORES),
            scale=scale,
        )


def flat(hours: int) -> pl.DataFrame:
    ts = expected_opens(np.datetime64("2018-01-02T00"), np.datetime64("2018-01-03T00"), Timeframe.H1)[:hours]
    prices = {name: np.full(hours, 1.2) for name in ("open", "high", "low", "close", "volume")}
    return pl.DataFrame({"ts_utc": pl.Series(ts).dt.cast_time_unit("us").dt.replace_time_zone("UTC"), **prices})


def deploy(platform: Platform, symbol: str, config: StrategyConfig = CONFIG, costs: Costs = COSTS) -> Deployment:
    return platform.deployments.deploy(
        DeploymentRequest(
            symbol=symbol,
            timeframe="H1",
            bundle_hash="0123456789ab",
            config=config,
            costs=costs,
            approved_by="anna",
            reason="test",
            allow_no_skill=True,
            skill=None,
        )
    )


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    monkeypatch.setenv("FOREXGPT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(LiveSession, "forecaster", property(lambda session: Bull(session.deployment.symbol)))
    platform = Platform(load_settings())
    upgrade(platform.settings.database_url)  # MLflow is not asked for anything here
    for symbol in PAIRS:
        platform.pairs.save(replace(default_settings(symbol), source=Source(kind="none")), by="test")
        platform.lake.merge_candles(symbol, Timeframe.H1, flat(4))
        deploy(platform, symbol)
    yield platform
    platform.database.close()


def run(platform: Platform, *, replay: bool) -> dg.ExecuteInProcessResult:
    return live_execution_job.execute_in_process(
        resources={"platform": platform},
        run_config={"ops": {"live_tick": {"config": {"replay": replay}}}},
        raise_on_error=False,
    )


def held(platform: Platform, symbol: str, now: datetime) -> LiveSession:
    """Return the session of a deployment after it has bought."""
    session = next(s for s in active_sessions(platform) if s.deployment.symbol == symbol)
    assert session.tick(now - HOUR).orders
    assert session.tick(now).position is not None
    return session


def test_one_failing_pair_keeps_no_other_from_its_tick(platform: Platform) -> None:
    (platform.settings.home / "lake" / "candles" / "EURUSD").rename(platform.settings.home / "gone")
    result = run(platform, replay=False)
    assert not result.success
    [failure] = result.get_step_failure_events()
    assert "EURUSD did not tick: no candles for EURUSD H1 yet" in str(failure.step_failure_data.user_failure_data)
    ticked = {s.deployment.symbol: s.counts()["ticks"] for s in active_sessions(platform)}
    assert ticked == {"EURUSD": 0, "GBPUSD": 1, "USDCHF": 1}


def test_a_replay_without_newer_bars_is_no_failure(platform: Platform) -> None:
    assert run(platform, replay=True).success
    assert {s.counts()["ticks"] for s in active_sessions(platform)} == {0}


def test_a_pair_moved_to_another_timeframe_is_refused_and_never_traded_on_its_bars(platform: Platform) -> None:
    platform.pairs.save(replace(platform.pair("EURUSD"), timeframe="H4"), by="test")
    platform.lake.merge_candles("EURUSD", Timeframe.H4, flat(4).gather_every(4))
    session = next(s for s in active_sessions(platform) if s.deployment.symbol == "EURUSD")
    with pytest.raises(NotReady, match="on H1, but its settings say H4: set `timeframe` back to H1"):
        session.tick(datetime(2018, 1, 2, 4, tzinfo=UTC))


def test_an_account_in_a_third_currency_is_counted_by_the_candles_of_other_pairs(platform: Platform) -> None:
    before = flat(1).with_columns(pl.col("ts_utc") - timedelta(hours=4))
    rising = flat(5).with_columns(pl.col("close", "high") + 0.1)
    platform.lake.merge_candles("GBPUSD", Timeframe.H1, pl.concat([before, rising]))
    deploy(platform, "EURUSD", costs=Costs(account_currency="GBP"))
    session = held(platform, "EURUSD", flat(4)["ts_utc"][-1] + HOUR)
    [fill] = session.journal.fills(session.account)
    view = session.broker.advance(flat(0), after_fill_id=None)
    assert set(session.conversions) == {"GBPUSD"}
    in_pounds = float(fill.price) / 1.3  # what the candle before the fill closed at
    assert float(view.used_margin) == pytest.approx(float(fill.lots) * 100_000 * in_pounds / 30, abs=1e-9)


def test_a_currency_that_no_candles_lead_to_stops_the_pair_and_says_what_to_fetch(platform: Platform) -> None:
    deploy(platform, "EURUSD", costs=Costs(account_currency="JPY"))
    assert not run(platform, replay=False).success
    session = next(s for s in active_sessions(platform) if s.deployment.symbol == "EURUSD")
    with pytest.raises(BadInput, match="turning USD into JPY needs the candles of USDJPY; fetch them"):
        session.tick(flat(4)["ts_utc"][-1] + HOUR)
    assert session.counts()["ticks"] == session.counts()["orders"] == 0
    assert session.status()["position"] is None


def test_a_replaced_deployment_closes_what_it_holds(platform: Platform) -> None:
    now = flat(4)["ts_utc"][-1] + HOUR
    old = held(platform, "EURUSD", now)
    new = deploy(platform, "EURUSD", OTHER)
    assert [s.account for s in replaced_sessions(platform)] == [old.account]
    assert run(platform, replay=False).success
    platform.lake.merge_candles("EURUSD", Timeframe.H1, flat(5))
    assert run(platform, replay=False).success
    assert replaced_sessions(platform) == []
    assert LiveSession(platform, old.deployment).counts()["fills"] == 2
    assert LiveSession(platform, new).counts()["duplicates"] == 0


def test_a_replaced_deployment_of_a_halted_pair_waits(platform: Platform) -> None:
    now = flat(4)["ts_utc"][-1] + HOUR
    old = held(platform, "EURUSD", now)
    deploy(platform, "EURUSD", OTHER)
    platform.trading_state.set(TradingState.HALTED, reason="test", by="anna")
    assert run(platform, replay=False).success
    assert len(LiveSession(platform, old.deployment).journal.intents(old.account)) == 1


def test_flatten_and_status_reach_a_replaced_deployment(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    now = flat(4)["ts_utc"][-1] + HOUR
    old = held(platform, "EURUSD", now)
    deploy(platform, "EURUSD", OTHER)
    main(["live", "status"])
    assert f"deployment: {old.deployment.deployment_id}\nreplaced: True" in capsys.readouterr().out
    main(["live", "flatten", "--reason", "test", "--symbol", "EURUSD"])
    assert "EURUSD: exit, test" in capsys.readouterr().out
    main(["live", "flatten", "--reason", "test", "--symbol", "AUDUSD"])
    assert "nothing is deployed for AUDUSD" in capsys.readouterr().out
