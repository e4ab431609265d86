"""Regimes: terciles of volatility times trend, from the past alone, in bundles and in the database."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.adapters.database.engine import Database, open_database
from forexgpt_core.adapters.database.regimes import RegimeRecord, RegimeRepository
from forexgpt_core.adapters.database.schema import upgrade
from forexgpt_core.ensemble.regimes import (
    REGIMES,
    UNKNOWN,
    RegimeModel,
    RegimeSettings,
    measures,
    running_labels,
)
from forexgpt_core.errors import BadInput, BundleError

SHORT = RegimeSettings(volatility_bars=10, trend_bars=8, least_bars=40)
seeds = st.integers(0, 2**32 - 1)


def closes(seed: int, n: int = 300) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 1.2 * np.exp(np.cumsum(1e-3 * np.exp(0.5 * np.sin(np.arange(n) / 20)) * rng.standard_t(5, size=n)))


@settings(deadline=None, max_examples=50)
@given(seed=seeds, cut=st.integers(1, 299))
def test_later_prices_change_no_label_and_no_measure(seed: int, cut: int) -> None:
    prices = closes(seed)
    other = prices.copy()
    other[cut:] = closes(seed + 1)[cut:] * 7
    for one, two in zip(measures(prices, SHORT), measures(other, SHORT)):
        np.testing.assert_array_equal(one[:cut], two[:cut])
    np.testing.assert_array_equal(running_labels(prices, SHORT)[:cut], running_labels(other, SHORT)[:cut])
    np.testing.assert_array_equal(running_labels(prices[:cut], SHORT), running_labels(prices, SHORT)[:cut])


@settings(deadline=None, max_examples=20)
@given(seed=seeds, at=st.integers(60, 299))
def test_a_running_label_is_that_of_a_model_fitted_up_to_that_bar(seed: int, at: int) -> None:
    prices = closes(seed)
    fitted = RegimeModel.fit(prices[: at + 1], SHORT)
    assert running_labels(prices, SHORT)[at] == fitted.labels(prices)[at]


def test_measures_are_those_of_a_plain_loop() -> None:
    prices = closes(4)
    volatility, trend = measures(prices, SHORT)
    logs = np.log(prices)
    for row in (10, 57, 299):
        expected = np.sqrt(np.mean(np.diff(logs[row - 10 : row + 1]) ** 2))
        assert volatility[row] == pytest.approx(expected, rel=1e-9)
        assert trend[row] == pytest.approx((logs[row] - logs[row - 8]) / expected / np.sqrt(8), rel=1e-9)
    assert np.isnan(volatility[:10]).all()
    assert np.isnan(trend[:10]).all()


def test_a_third_of_the_span_is_in_each_volatility_and_a_third_is_flat() -> None:
    prices = closes(1, 4000)
    labels = RegimeModel.fit(prices, SHORT).labels(prices)
    known = labels[labels != UNKNOWN]
    for level in range(3):
        assert (known // 3 == level).mean() == pytest.approx(1 / 3, abs=0.002)
    assert (known % 3 == 1).mean() == pytest.approx(1 / 3, abs=0.002)


def test_up_is_up_down_is_down_and_wild_is_high() -> None:
    quiet, wild = 1e-4 * np.tile([1, -1], 200), 1e-2 * np.tile([1, -1], 60)
    prices = np.exp(np.cumsum(np.concatenate([quiet, wild])))
    labels = RegimeModel.fit(prices, SHORT).labels(prices)
    assert REGIMES[labels[-1]].startswith("high")
    assert REGIMES[labels[100]].startswith(("low", "middle"))
    rising = closes(2, 1000) * np.exp(np.where(np.arange(1000) > 900, 0.004 * (np.arange(1000) - 900), 0))
    model = RegimeModel.fit(rising[:900], SHORT)
    assert REGIMES[model.labels(rising)[-1]].endswith("up")
    assert REGIMES[model.labels(1 / rising)[-1]].endswith("down")


def test_prices_turned_upside_down_turn_the_trend_and_leave_the_volatility() -> None:
    prices = closes(8)
    labels, turned = running_labels(prices, SHORT), running_labels(1 / prices, SHORT)
    known = labels != UNKNOWN
    assert known.sum() > 200
    np.testing.assert_array_equal(labels[known] // 3, turned[known] // 3)
    np.testing.assert_array_equal(labels[known] % 3, 2 - turned[known] % 3)


def test_prices_that_stand_still_are_quiet_and_flat() -> None:
    prices = np.concatenate([closes(3), np.full(60, 1.1)])
    label = running_labels(prices, SHORT)[-1]
    assert REGIMES[label] == "low_flat"


def test_it_comes_back_from_its_document() -> None:
    model = RegimeModel.fit(closes(1), SHORT)
    assert RegimeModel.from_document(json.loads(json.dumps(model.to_document()))) == model
    with pytest.raises(BundleError, match="stored regimes cannot be read"):
        RegimeModel.from_document({"settings": {}})
    with pytest.raises(BundleError, match="stored regimes cannot be read"):
        RegimeModel.from_document({**model.to_document(), "settings": {"volatility_bars": 0}})


@pytest.mark.parametrize("bad", [np.array([1.0, np.nan, 1.1]), np.array([1.0, 0.0]), np.ones((3, 2))])
def test_prices_that_cannot_be_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(BadInput, match="finite and above 0"):
        running_labels(bad, SHORT)


def test_too_few_bars_and_windows_that_mean_nothing_are_refused() -> None:
    with pytest.raises(BadInput, match="40 bars give 30 with a volatility and a trend; regimes need 40"):
        RegimeModel.fit(closes(1, 40), SHORT)
    assert (running_labels(closes(1, 40), SHORT) == UNKNOWN).all()
    assert (running_labels(closes(1, 5), SHORT) == UNKNOWN).all()
    for name in ("volatility_bars", "trend_bars", "least_bars"):
        with pytest.raises(BadInput, match=name):
            RegimeSettings(**{name: 0})


# ---- the record


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    upgrade(database_url)
    database = open_database(database_url)
    yield database
    database.close()


BAR = datetime(2018, 1, 2, 9, tzinfo=UTC)
RECORD = RegimeRecord(
    origin_utc=BAR,
    regime="high_up",
    volatility_low=1e-4,
    volatility_high=2e-4,
    trend_band=0.4,
)


def test_a_regime_is_recorded_once_with_its_thresholds_and_read_by_time(database: Database) -> None:
    repository = RegimeRepository(database)
    later = replace(RECORD, origin_utc=BAR + timedelta(hours=1), regime="low_flat")
    assert repository.record("EURUSD", "H1", "e" * 12, [RECORD, later]) == 2
    assert repository.record("EURUSD", "H1", "e" * 12, [replace(RECORD, regime="low_down")]) == 0
    assert repository.record("EURUSD", "H1", "f" * 12, [RECORD]) == 1
    assert repository.between("EURUSD", "H1", "e" * 12) == [RECORD, later]
    assert repository.between("EURUSD", "H1", "e" * 12, since_utc=later.origin_utc) == [later]
    assert repository.between("EURUSD", "H1", "e" * 12, until_utc=BAR) == [RECORD]
    assert repository.newest("EURUSD", "H1") == later
    assert repository.newest("GBPUSD", "H1") is None


def test_a_regime_that_does_not_exist_is_refused(database: Database) -> None:
    with pytest.raises(BadInput, match="'sideways' is no regime"):
        RegimeRepository(database).record("EURUSD", "H1", "e" * 12, [replace(RECORD, regime="sideways")])
