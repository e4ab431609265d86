"""No new position around a release, in backtest and live alike, and none where the calendar is silent."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.backtest.engine import run_backtest
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.records import DeploymentRequest
from forexgpt_core.deployment.symbol_settings import SymbolSettings, default_settings
from forexgpt_core.domain.bars import SCHEMA
from forexgpt_core.domain.clock import Timeframe, expected_opens, to_utc
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.event_history import Knowledge
from forexgpt_core.domain.events import CalendarEntry, EconomicEvent, event_table
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.errors import BadInput
from forexgpt_core.live.guard import EventWatch, Veto
from forexgpt_core.live.history import HistoryFeed
from forexgpt_core.optimisation.pareto import ParetoSettings, search
from forexgpt_core.optimisation.search_space import SearchSpace
from forexgpt_core.service import LiveSession
from forexgpt_core.strategy.config import StrategyConfig
from forexgpt_core.strategy.event_guard import EventGuard, held_back

START = datetime(2018, 7, 3, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
GUARD = EventGuard(event_minutes_before=30, event_minutes_after=15)
PAIR = ("EUR", "USD")
CONFIG = StrategyConfig(horizon_bars=1, entry_probability=0.6, stop_scales=2.0, take_profit_scales=2.0)


def event(minutes: float, known_days: float = 7.0, **changes: object) -> EconomicEvent:
    at = START + minutes * MINUTE
    facts = {"currency": "USD", "impact": "high", "title": f"release {minutes}"} | changes
    return EconomicEvent(
        entry=CalendarEntry(scheduled_utc=at, **facts),
        revision=1,
        announced_utc=at - known_days * DAY,
        released_utc=None,
        source="test",
    )


LATER = event(5 * 24 * 60, impact="low", title="later")


def times(*minutes: float) -> np.ndarray:
    return np.array([to_utc(START + m * MINUTE) for m in minutes])


def test_entries_are_held_back_from_before_until_after_both_ends_included() -> None:
    found = held_back(times(29, 30, 60, 75, 76), event_table([event(60), LATER]), PAIR, GUARD)
    assert found.event.tolist() == [False, True, True, True, False]
    assert not found.unknown.any()
    medium = event_table([event(60, impact="medium"), LATER])
    assert not held_back(times(60), medium, PAIR, GUARD).event.any()
    assert held_back(times(60), medium, PAIR, replace(GUARD, impact="medium")).event.all()
    assert not held_back(times(60), event_table([event(60, currency="JPY"), LATER]), PAIR, GUARD).event.any()
    assert held_back(times(60), event_table([event(60, currency="ALL"), LATER]), PAIR, GUARD).event.all()


def test_what_nobody_knew_holds_nothing_back_before_its_time() -> None:
    found = held_back(times(45, 59, 60, 70), event_table([event(60, known_days=0), LATER]), PAIR, GUARD)
    assert found.event.tolist() == [False, False, True, True]


def test_a_silent_calendar_holds_everything_back() -> None:
    nothing = event_table([])
    assert held_back(times(0, 1), nothing, PAIR, GUARD).unknown.all()
    found = held_back(times(0, 59, 60, 61), event_table([event(60, impact="low")]), PAIR, GUARD)
    assert found.unknown.tolist() == [False, False, True, True]
    assert held_back(times(0), event_table([event(60, currency="JPY")]), PAIR, GUARD).unknown.all()
    assert held_back(times(0), event_table([event(9 * 24 * 60, known_days=30)]), PAIR, GUARD).unknown.all()


def test_a_guard_that_is_off_holds_nothing_back() -> None:
    found = held_back(times(0, 60), event_table([event(60)]), PAIR, EventGuard())
    assert not EventGuard().on
    assert not found.any.any()


@pytest.mark.parametrize("bad", [{"event_minutes_before": -1}, {"event_minutes_after": 1441}, {"impact": "holiday"}])
def test_a_guard_is_checked_at_birth(bad: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=r"guard\."):
        EventGuard(**bad)


# ---- the backtest


def market(bars: int, seed: int) -> tuple[pl.DataFrame, ForecastBatch]:
    rng = np.random.default_rng(seed)
    ts = expected_opens(to_utc(START), to_utc(START + 30 * DAY), Timeframe.H1)[:bars]
    close = 1.2 * np.exp(np.cumsum(rng.normal(0, 0.002, bars)))
    opened = np.concatenate(([1.2], close[:-1]))
    prices = {"open": opened, "high": np.maximum(opened, close) * 1.001, "low": np.minimum(opened, close) * 0.999}
    stamps = {"ts_utc": pl.Series(ts).dt.cast_time_unit("us").dt.replace_time_zone("UTC")}
    table = pl.DataFrame({**stamps, **prices, "close": close, "volume": np.ones(bars)}, schema=SCHEMA)
    lean = rng.normal(0, 1.0, bars)[:, None, None]
    law = ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family="test",
        origin_utc=ts.astype("datetime64[us]"),
        horizons_bars=(1,),
        quantiles=0.002 * (lean + SCORES),
        scale=np.full((bars, 1), 0.002),
    )
    return table, law


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), share=st.floats(0, 1))
def test_no_trade_of_a_backtest_is_decided_where_entries_are_held_back(seed: int, share: float) -> None:
    bars, law = market(80, seed)
    closed = np.random.default_rng(seed).random(bars.height) < share
    result = run_backtest(bars, law, CONFIG, Costs(), symbol="EURUSD", no_entry=closed)
    assert not closed[result.trades["entry_bar"].to_numpy() - 1].any()
    assert result.stats["entries_held_back"] >= 0
    free = run_backtest(bars, law, CONFIG, Costs(), symbol="EURUSD")
    none = run_backtest(bars, law, CONFIG, Costs(), symbol="EURUSD", no_entry=np.zeros(bars.height, dtype=bool))
    assert none.trades.equals(free.trades)
    assert run_backtest(bars, law, CONFIG, Costs(), symbol="EURUSD", no_entry=~closed | closed).trades.is_empty()


def test_the_backtest_of_a_part_reads_the_guard_of_that_part() -> None:
    bars, law = market(80, 1)
    closed = np.zeros(bars.height, dtype=bool)
    closed[40:] = True
    part = law.take(np.arange(30, 80))
    result = run_backtest(bars, part, CONFIG, Costs(), symbol="EURUSD", no_entry=closed)
    assert result.trades.height > 0
    assert (result.trades["entry_bar"] + 30).max() <= 40
    with pytest.raises(BadInput, match="no_entry must have one value for each of 80 bars"):
        run_backtest(bars, part, CONFIG, Costs(), symbol="EURUSD", no_entry=closed[:50])


def test_a_search_for_strategies_trades_under_the_guard_too() -> None:
    bars, law = market(140, 1)
    space, settings_ = (
        SearchSpace(horizons_bars=(1,)),
        ParetoSettings(method="nsga2", later_spans=1, population=4, generations=1),
    )
    ports = {"symbol": "EURUSD", "space": space, "settings": settings_}
    free, _ = search(bars, law, Costs(), **ports)
    held, _ = search(bars, law, Costs(), **ports, no_entry=np.ones(bars.height, dtype=bool))
    assert any(m.in_sample["trades"] and m.out_of_sample["trades"] for m in free.members)
    assert not any(m.in_sample["trades"] or m.out_of_sample["trades"] for m in held.members)


# ---- live


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    from forexgpt_core.adapters.database.schema import upgrade

    monkeypatch.setenv("FOREXGPT_HOME", str(tmp_path / "home"))
    platform = Platform.from_environment()
    upgrade(platform.settings.database_url)
    yield platform
    platform.database.close()


class Bullish:
    """A forecaster that always wants to buy."""

    def forecast(self, bars: pl.DataFrame) -> ForecastBatch:
        _, law = market(1, 1)
        return replace(
            law,
            origin_utc=np.array([to_utc(bars["ts_utc"][-1])]),
            quantiles=0.002 * (2.0 + SCORES)[None, None, :],
        )


def deployed(platform: Platform, guard: EventGuard) -> tuple[LiveSession, pl.DataFrame, SymbolSettings]:
    pair = replace(default_settings("EURUSD"), guard=guard)
    platform.pairs.save(pair, by="test")
    request = DeploymentRequest(
        symbol="EURUSD",
        timeframe="H1",
        bundle_hash="b",
        config=CONFIG,
        costs=Costs(),
        approved_by="ann",
        reason="test",
        allow_no_skill=True,
        skill=None,
    )
    session = LiveSession(platform, platform.deployments.deploy(request))
    bars, _ = market(60, 1)
    vars(session).update(feed=HistoryFeed(bars=bars), forecaster=Bullish())
    return session, bars, pair


def store(platform: Platform, *events: EconomicEvent) -> None:
    entries = [one.entry for one in events]
    platform.events.import_entries(entries, Knowledge(now_utc=START - DAY), source="test")


def test_a_tick_is_held_back_by_a_release_and_says_so(platform: Platform) -> None:
    session, bars, pair = deployed(platform, GUARD)
    store(platform, event(10 * 60 + 20), LATER)
    near, free = bars["ts_utc"][9] + HOUR, bars["ts_utc"][10] + HOUR
    assert near == START + 10 * HOUR
    report = session.tick(near)
    assert (report.decision, report.vetoes, report.orders) == ("enter", ("EVENT",), ())
    assert "held back by EVENT" in str(session.status()["last_decision"])
    assert session.event_guard(near) == "EVENT: no position is opened around a release"
    assert session.tick(free).vetoes == ()
    assert session.event_guard(free) == "clear"
    mask = platform.no_entry(pair, bars)
    assert mask is not None
    assert mask[[9, 10]].tolist() == [True, False]


def test_the_moment_of_the_tick_counts_beside_that_of_the_bar(platform: Platform) -> None:
    session, bars, _ = deployed(platform, GUARD)
    store(platform, event(10 * 60 + 35), LATER)
    close = bars["ts_utc"][9] + HOUR
    assert session.tick(close + 6 * MINUTE).vetoes == ("EVENT",), "at the close it would still have been free"


def test_without_a_calendar_nothing_is_opened_and_the_status_says_what_to_do(platform: Platform) -> None:
    session, bars, _ = deployed(platform, GUARD)
    assert session.tick(bars["ts_utc"][9] + HOUR).vetoes == ("EVENTS_UNKNOWN",)
    told = str(session.status()["event_guard"])
    assert told.startswith("EVENTS_UNKNOWN: no event of EUR or USD is stored for the coming week")
    assert "forexgpt events import" in told


def test_an_exit_is_never_held_back(platform: Platform) -> None:
    session, bars, _ = deployed(platform, GUARD)
    short = replace(session.deployment.config, holding_limit_bars=1, stop_scales=400.0, take_profit_scales=400.0)
    session = replace(session, deployment=replace(session.deployment, config=short))
    vars(session).update(feed=HistoryFeed(bars=bars), forecaster=Bullish())
    store(platform, event(11 * 60), LATER)
    assert session.tick(bars["ts_utc"][8] + HOUR).vetoes == ()
    report = session.tick(bars["ts_utc"][10] + HOUR)
    assert report.position is not None
    assert (report.decision, report.vetoes, len(report.orders)) == ("exit", (), 1)


def test_a_guard_that_is_off_asks_for_no_calendar(platform: Platform) -> None:
    session, bars, pair = deployed(platform, EventGuard())
    assert session.tick(bars["ts_utc"][9] + HOUR).vetoes == ()
    assert session.status()["event_guard"] == "off"
    assert platform.no_entry(pair, bars) is None


def test_a_watch_names_every_reason() -> None:
    watch = EventWatch(guard=GUARD, events=event_table([event(60)]), currencies=PAIR)
    assert watch.vetoes(START + 50 * MINUTE) == (Veto.EVENT,)
    assert watch.vetoes(START + 65 * MINUTE) == (Veto.EVENT, Veto.EVENTS_UNKNOWN)
