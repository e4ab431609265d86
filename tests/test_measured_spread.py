"""The spread of the candles as the spread that is paid."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import SymbolSettings, default_settings
from forexgpt_core.domain.bars import PRICES
from forexgpt_core.domain.forecasts import LEVELS, ForecastBatch
from forexgpt_core.errors import NotReady
from forexgpt_core.settings import load_settings

START = datetime(2018, 7, 2, tzinfo=UTC)


def bars(spreads_pips: list[float]) -> pl.DataFrame:
    times = [START + timedelta(hours=n) for n in range(len(spreads_pips))]
    prices = {name: [1.1] * len(times) for name in PRICES}
    ask = {f"ask_{name}": [1.1 + pips * 1e-4 for pips in spreads_pips] for name in PRICES}
    return pl.DataFrame({"ts_utc": times, **prices, **ask}, schema_overrides={"ts_utc": pl.Datetime("us", "UTC")})


def forecasts(first: int, last: int) -> ForecastBatch:
    origins = np.datetime64("2018-07-02", "us") + np.arange(first, last + 1) * np.timedelta64(1, "h")
    shape = (origins.size, 1)
    return ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family="ensemble",
        origin_utc=origins,
        horizons_bars=(1,),
        quantiles=np.zeros((*shape, LEVELS.size)),
        scale=np.ones(shape),
    )


@pytest.fixture
def platform() -> Platform:
    return Platform(load_settings({}))


def measuring() -> SymbolSettings:
    return replace(default_settings("EURUSD"), spread_from_candles=True)


def test_the_mean_spread_of_the_bars_traded_over_stands_in_for_the_fixed_one(platform: Platform) -> None:
    table = bars([9.0, 1.0, 2.0, 3.0, 9.0])
    measured = platform.with_measured_spread(measuring(), table, forecasts(1, 3))
    assert measured.costs.spread_pips == pytest.approx(2.0)
    assert replace(measured.costs, spread_pips=1.0) == measuring().costs, "nothing else changes"
    fixed = default_settings("EURUSD")
    assert platform.with_measured_spread(fixed, table, forecasts(1, 3)) is fixed


def test_without_ask_prices_there_is_nothing_to_measure(platform: Platform) -> None:
    without = bars([1.0, 1.0]).drop(f"ask_{name}" for name in PRICES)
    with pytest.raises(NotReady, match="candles of EURUSD have no ask prices to measure a spread by"):
        platform.with_measured_spread(measuring(), without, forecasts(0, 1))
