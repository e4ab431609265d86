"""Live forecasts are calibrated by a state that steps once per bar, whoever asks, how often, and after any outage."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa

from forexgpt_core.adapters.database.calibrators import CalibratorRepository
from forexgpt_core.adapters.database.deployments import DeploymentRepository
from forexgpt_core.adapters.database.engine import Database, open_database
from forexgpt_core.adapters.database.journal import DatabaseJournal
from forexgpt_core.adapters.database.paper import DatabaseLedger
from forexgpt_core.adapters.database.schema import upgrade
from forexgpt_core.calibration.adaptive import AdaptiveCalibrator, AdaptiveSettings
from forexgpt_core.calibration.conformal import ConformalCalibrator
from forexgpt_core.deployment.records import Deployment, DeploymentRequest
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.errors import BundleError, NotReady, StoreError
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.windows import MarketArrays, Windows, market_arrays
from forexgpt_core.live.calibrating import CalibratorKey, LiveCalibration
from forexgpt_core.live.forecasting import EnsembleSource
from forexgpt_core.live.history import HistoryFeed
from forexgpt_core.live.paper import PaperBroker
from forexgpt_core.live.step import step
from forexgpt_core.live.tick import TickReport
from forexgpt_core.strategy.config import StrategyConfig

HORIZONS = (1, 4)
BARS, PAST = 260, 100
KEY = CalibratorKey(symbol="EURUSD", timeframe="H1", bundle_hash="b0")
FEW = AdaptiveSettings(gammas=(0.0, 0.02, 0.1), window_scores=60)
RECIPE = Recipe.from_document({"timeframes": ["H1"], "indicators": {"ohlc": {}}})
STATIC = ConformalCalibrator(horizons_bars=HORIZONS, radii=np.full((2, 4), 0.01), score_count=np.array([9, 9]))


def walk(bars: int = BARS) -> pl.DataFrame:
    rng = np.random.default_rng(1)
    ts = expected_opens(np.datetime64("2018-01-02", "us"), np.datetime64("2018-03-02", "us"), Timeframe.H1)[:bars]
    close = 1.2 * np.exp(np.cumsum(rng.normal(0, 1e-3, bars) * np.where(np.arange(bars) // 40 % 2, 2.0, 0.7)))
    open_ = np.concatenate([[1.2], close[:-1]])
    high, low = np.maximum(open_, close) * 1.0002, np.minimum(open_, close) / 1.0002
    prices = {"open": open_, "high": high, "low": low, "close": close, "volume": np.ones(bars)}
    return pl.DataFrame({"ts_utc": pl.Series(ts).dt.replace_time_zone("UTC"), **prices})


CANDLES = walk()


def arrays_to(bars: int, candles: pl.DataFrame = CANDLES) -> MarketArrays:
    shown = candles.head(bars)
    features = shown.select("ts_utc", f=pl.col("close") / pl.col("open"))
    return market_arrays("EURUSD", Timeframe.H1, shown, features, HORIZONS)


def pooled(windows: Windows) -> ForecastBatch:
    """Normal forecasts that are a little too narrow, of a volatility that follows from the bar alone."""
    sigma = 1e-3 * (1 + 0.3 * np.sin(windows.arrays.close[windows.rows] * 1e4))
    scale = sigma[:, None] * np.sqrt(HORIZONS)
    return ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family="ensemble",
        origin_utc=windows.origin_utc,
        horizons_bars=HORIZONS,
        quantiles=0.7 * scale[..., None] * SCORES,
        scale=scale,
    )


def initial() -> AdaptiveCalibrator:
    """The state that the bundle carries: of a calibration block that ends at bar PAST."""
    past = Windows(arrays=arrays_to(PAST), rows=np.arange(PAST))
    return AdaptiveCalibrator.start(pooled(past), past.returns, past.rows, settings=FEW)


def in_batch(bars: int) -> tuple[ForecastBatch, AdaptiveCalibrator]:
    """What `follow` makes of every bar after the block, up to some bar."""
    state, later = initial(), Windows(arrays=arrays_to(bars), rows=np.arange(PAST, bars))
    state = state.told(later.arrays.returns[state.pending.rows])
    return state.follow(pooled(later), later.returns, later.rows)


def same(a: AdaptiveCalibrator | None, b: AdaptiveCalibrator) -> bool:
    return a is not None and json.dumps(a.to_document()) == json.dumps(b.to_document())


@dataclass
class Memory:
    """A store without a database, whose next step can be taken by somebody else."""

    kept: list[AdaptiveCalibrator] = field(default_factory=list)
    intrude: int = 0

    def newest(self, key: CalibratorKey) -> AdaptiveCalibrator | None:
        return self.kept[-1] if self.kept else None

    def at(self, key: CalibratorKey, as_of_utc: np.datetime64) -> AdaptiveCalibrator | None:
        return next((state for state in self.kept if state.as_of_utc == as_of_utc), None)

    def advance(self, key: CalibratorKey, state: AdaptiveCalibrator, *, after: int | None) -> bool:
        newest = self.kept[-1].version if self.kept else None
        if self.intrude:
            self.intrude -= 1
            self.kept.append(state)
            return False
        if newest != after:
            return False
        self.kept.append(state)
        return True


def calibration(store: object, **changes: object) -> LiveCalibration:
    return LiveCalibration(**{"store": store, "key": KEY, "initial": initial} | changes)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    upgrade(database_url)
    database = open_database(database_url)
    yield database
    database.close()


# ---- one step per bar


def test_a_replay_equals_the_batch_to_the_last_bit(database: Database) -> None:
    store = CalibratorRepository(database)
    live = calibration(store)
    made = [live.calibrate(arrays_to(bars), pooled) for bars in range(PAST + 1, BARS + 1)]
    whole, after = in_batch(BARS)
    assert np.array_equal(np.concatenate([one.quantiles for one in made]), whole.quantiles)
    assert [one.calibrator for one in made] == [f"adaptive v{n}" for n in range(1, BARS - PAST + 1)]
    newest = store.newest(KEY)
    assert newest is not None
    assert same(newest.told(after.pending.returns), after)  # a batch knows outcomes before they are due
    assert not np.array_equal(
        whole.quantiles, pooled(Windows(arrays=arrays_to(BARS), rows=np.arange(PAST, BARS))).quantiles
    )


def test_the_same_bar_again_gives_the_same_forecast_and_steps_once() -> None:
    store = Memory()
    live = calibration(store)
    for bars in range(PAST + 1, PAST + 20):
        first, second = (live.calibrate(arrays_to(bars), pooled) for _ in range(2))
        assert np.array_equal(first.quantiles, second.quantiles)
        assert first.calibrator == second.calibrator
    assert [state.version for state in store.kept] == list(range(1, 20))


def test_an_outage_leaves_what_there_would_be_without_one() -> None:
    steady, interrupted = Memory(), Memory()
    for bars in range(PAST + 1, PAST + 61):
        steady_made = calibration(steady).calibrate(arrays_to(bars), pooled)
    for bars in (PAST + 1, PAST + 2, PAST + 40, PAST + 60):
        made = calibration(interrupted).calibrate(arrays_to(bars), pooled)
    assert np.array_equal(made.quantiles, steady_made.quantiles)
    assert made.calibrator == steady_made.calibrator == "adaptive v60"
    assert [state.version for state in interrupted.kept] == [1, 2, 40, 60]


def test_after_a_long_outage_the_newest_bars_alone_are_followed() -> None:
    store = Memory()
    made = calibration(store, catch_up_bars=10).calibrate(arrays_to(BARS), pooled)
    assert made.calibrator == "adaptive v10"
    assert len(made) == 1


def test_a_missed_bar_whose_features_are_not_known_is_left_out() -> None:
    arrays = arrays_to(PAST + 5)
    features = arrays.features.copy()
    features[PAST + 2] = np.nan
    store = Memory()
    assert calibration(store).calibrate(replace(arrays, features=features), pooled).calibrator == "adaptive v4"
    assert PAST + 2 not in store.kept[-1].pending.rows


def test_bars_are_known_by_their_time_wherever_the_history_begins() -> None:
    whole, shorter = Memory(), Memory()
    for bars in range(PAST + 1, PAST + 21):
        a = calibration(whole).calibrate(arrays_to(bars), pooled)
        b = calibration(shorter).calibrate(arrays_to(bars - 90, CANDLES.slice(90)), pooled)
        assert np.array_equal(a.quantiles, b.quantiles)
    assert shorter.kept[-1].learned.fed[:, 1].tolist() == initial().learned.fed[:, 1].tolist()


def test_the_loser_of_a_race_makes_the_same_forecast() -> None:
    store = Memory(intrude=1)
    lost = calibration(store).calibrate(arrays_to(PAST + 1), pooled)
    won = calibration(Memory()).calibrate(arrays_to(PAST + 1), pooled)
    assert np.array_equal(lost.quantiles, won.quantiles)
    assert len(store.kept) == 1


def test_an_earlier_bar_is_calibrated_by_its_own_state_or_not_at_all() -> None:
    store = Memory()
    made = {bars: calibration(store).calibrate(arrays_to(bars), pooled) for bars in range(PAST + 1, PAST + 4)}
    again = calibration(store).calibrate(arrays_to(PAST + 2), pooled)
    assert np.array_equal(again.quantiles, made[PAST + 2].quantiles)
    assert len(store.kept) == 3
    with pytest.raises(NotReady, match="after the bar of"):
        calibration(store).calibrate(arrays_to(PAST - 5), pooled)


# ---- in the loop


@dataclass
class Pool:
    """The deployed ensemble, as far as its source needs it."""

    recipe: Recipe = RECIPE
    feature_names: tuple[str, ...] = ()
    horizons_bars: tuple[int, ...] = HORIZONS
    broken: bool = False

    def pooled(self, windows: Windows) -> ForecastBatch:
        if self.broken:
            raise NotReady("the member is ill")
        return pooled(windows)

    def forecast(self, windows: Windows) -> ForecastBatch:
        return STATIC.apply(self.pooled(windows))


def source(**changes: object) -> EnsembleSource:
    facts = {"ensemble": Pool(), "symbol": "EURUSD", "timeframe": Timeframe.H1} | changes
    return EnsembleSource(**facts)


@dataclass
class Broken(Memory):
    """A store that cannot be reached."""

    def newest(self, key: CalibratorKey) -> AdaptiveCalibrator | None:
        raise StoreError("the database is away")


def unreadable() -> AdaptiveCalibrator:
    raise BundleError("adaptive.json cannot be read: no adaptive state of this release")


def test_without_a_state_everything_is_as_before() -> None:
    bars = CANDLES.head(PAST + 1)
    made = source().forecast(bars)
    assert made.calibrator == "split normalised"
    assert np.array_equal(
        made.quantiles, STATIC.apply(pooled(Windows(arrays=arrays_to(PAST + 1), rows=np.array([PAST])))).quantiles
    )


@pytest.mark.parametrize(
    ("live", "reason"),
    [
        (calibration(Broken()), "the database is away"),
        (calibration(Memory(), initial=unreadable), "cannot be read"),
    ],
)
def test_a_state_that_cannot_be_used_falls_back_and_says_so(
    live: LiveCalibration, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    bars = CANDLES.head(PAST + 1)
    with caplog.at_level(logging.WARNING):
        made = source(calibration=live).forecast(bars)
    assert np.array_equal(made.quantiles, source().forecast(bars).quantiles)
    assert made.calibrator.startswith("split normalised, for want of the adaptive state: ")
    assert reason in made.calibrator
    assert reason in caplog.text


def test_a_failing_member_is_told_as_such() -> None:
    store = Memory()
    with pytest.raises(NotReady, match="the member is ill"):
        source(ensemble=Pool(broken=True), calibration=calibration(store)).forecast(CANDLES.head(PAST + 1))
    assert store.kept == []


@dataclass
class Desk:
    """A deployment with its paper account on one database."""

    database: Database
    deployment: Deployment
    live: LiveCalibration

    def tick(self, bar: int, **changes: object) -> TickReport:
        ports = {
            "feed": HistoryFeed(bars=CANDLES),
            "forecaster": source(calibration=self.live),
            "journal": DatabaseJournal(self.database),
            "broker": PaperBroker(DatabaseLedger(self.database), symbol="EURUSD", costs=Costs(), cash=1e4),
        } | changes
        return step(self.deployment, CANDLES["ts_utc"][bar] + timedelta(hours=1), **ports)

    def rows(self) -> list[tuple[object, ...]]:
        text = "SELECT calibrator, calibrator_version FROM forecast WHERE horizon_bars = 1 ORDER BY origin_utc"
        with self.database.read() as connection:
            return [tuple(row) for row in connection.execute(sa.text(text))]


@pytest.fixture
def desk(database: Database) -> Desk:
    request = DeploymentRequest(
        symbol="EURUSD",
        timeframe="H1",
        bundle_hash="b0",
        config=StrategyConfig(horizon_bars=4),
        costs=Costs(),
        approved_by="ann",
        reason="test",
        allow_no_skill=True,
        skill=None,
    )
    deployment = DeploymentRepository(database).deploy(request)
    return Desk(database=database, deployment=deployment, live=calibration(CalibratorRepository(database)))


def test_a_tick_records_the_calibrator_that_made_its_forecast(desk: Desk) -> None:
    reports = [desk.tick(bar) for bar in range(PAST, PAST + 5)]
    assert [report.calibrator for report in reports] == [f"adaptive v{n}" for n in range(1, 6)]
    assert desk.tick(PAST + 4).duplicates == 1
    assert desk.rows() == [("adaptive", n) for n in range(1, 6)]
    newest = CalibratorRepository(desk.database).newest(KEY)
    assert newest is not None
    assert newest.version == 5


def test_a_tick_killed_before_its_decision_was_stored_is_repeated_without_a_second_step(desk: Desk) -> None:
    class Dying(DatabaseJournal):
        def commit_decision(self, *_: object, **__: object) -> bool:
            raise StoreError("power cut")

    desk.tick(PAST)
    with pytest.raises(StoreError, match="power cut"):
        desk.tick(PAST + 1, journal=Dying(desk.database))
    assert desk.tick(PAST + 1).calibrator == "adaptive v2"
    assert desk.rows() == [("adaptive", 1), ("adaptive", 2)]


def test_a_tick_without_its_state_is_calibrated_statically_and_its_row_says_so(desk: Desk) -> None:
    desk.live = replace(desk.live, initial=unreadable)
    assert "for want of the adaptive state" in desk.tick(PAST).calibrator
    [(name, version)] = desk.rows()
    assert str(name).startswith("split normalised, for want of the adaptive state")
    assert version is None
