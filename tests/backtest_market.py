"""Markets, forecasts and settings that tests of backtests trade on: by hand, generated, and real ones."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import strategies as st

from forexgpt_core.domain.bars import PRICES, SCHEMA
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import SCORES, Floats, ForecastBatch
from forexgpt_core.strategy.config import StrategyConfig

COSTS = Costs(spread_pips=2.0, slippage_pips=0.5, commission_per_lot=4.0, leverage=10, stop_out=0.0)
CONFIG = StrategyConfig(
    horizon_bars=1,
    entry_probability=0.6,
    stop_scales=2.0,
    take_profit_scales=3.0,
    size_fraction=0.1,
    holding_limit_bars=3,
)
SCALE = 0.001
UP, DOWN, FLAT = 0.002, -0.002, 0.0
HOURS = expected_opens(np.datetime64("2018-01-02T00:00"), np.datetime64("2018-12-01"), Timeframe.H1)
HORIZONS = (1, 6)
REAL = Path(__file__).parents[1].parent / "shared" / "data" / "fx"
needs_real_bars = pytest.mark.skipif(not REAL.is_dir(), reason="needs the real hourly bars of the shared folder")


def candles(rows: Sequence[tuple[float, float, float, float]]) -> pl.DataFrame:
    """Return hourly bid bars of these prices."""
    table = np.array(rows, dtype=np.float64)
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(HOURS[: len(rows)]).dt.replace_time_zone("UTC"),
            **dict(zip(PRICES, table.T)),
            "volume": pl.Series([None] * len(rows), dtype=pl.Float64),
        },
        schema=SCHEMA,
    )


def forecasts(means: Sequence[float], scale: float = SCALE, bars: Sequence[int] | None = None) -> ForecastBatch:
    """Return normal laws of the next bar's return, at these bars or at the first ones."""
    n = len(means)
    quantiles = (np.array(means)[:, None] + scale * SCORES)[:, None, :]
    rows = np.arange(n) if bars is None else np.array(bars)
    return ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family="test",
        origin_utc=HOURS[rows],
        horizons_bars=(1,),
        quantiles=quantiles,
        scale=np.full((n, 1), scale),
    )


def random_bars(rng: np.random.Generator, bars: int, volatility: float, start: float = 1.2) -> pl.DataFrame:
    """Return a random walk with gaps between the bars."""
    close = start * np.exp(np.cumsum(rng.normal(0, volatility, bars)))
    opened = np.concatenate(([start], close[:-1])) * np.exp(rng.normal(0, volatility / 3, bars))
    wicks = np.abs(rng.normal(0, volatility / 2, (2, bars)))
    high, low = np.maximum(opened, close) * np.exp(wicks[0]), np.minimum(opened, close) * np.exp(-wicks[1])
    return candles(np.column_stack((opened, high, low, close)).tolist())


def random_market(seed: int, bars: int = 90, volatility: float = 0.002) -> tuple[pl.DataFrame, ForecastBatch]:
    """Return a random walk, and a forecast of the next bar at nine bars of ten."""
    rng = np.random.default_rng(seed)
    walk = random_bars(rng, bars, volatility)
    told = np.sort(rng.choice(bars, size=int(bars * 0.9), replace=False))  # some bars have no forecast
    means = rng.normal(0, volatility, told.size)
    return walk, forecasts(means, volatility, told.tolist())


def laws_on(bars: pl.DataFrame, rng: np.random.Generator, volatility: Floats, symbol: str = "EURUSD") -> ForecastBatch:
    """Return laws over HORIZONS that come in spells of a few bars, on most bars, of changing width.

    Args:
        volatility: (n,) of a bar's return, as known at its close.
    """
    n = bars.height
    told = np.flatnonzero(rng.random(n) < 0.92)
    told = np.union1d(told, [0, n - 1])
    spells = np.repeat(rng.normal(0, 0.6, n // 3 + 1), 3)[:n] + rng.normal(0, 0.3, n)
    scale = volatility[told, None] * np.sqrt(HORIZONS)
    widths = scale * rng.uniform(0.5, 2.0, (told.size, 1))
    quantiles = (spells[told, None] * scale)[..., None] + widths[..., None] * SCORES
    opens = bars["ts_utc"].to_numpy().astype("datetime64[us]")
    return ForecastBatch(
        symbol=symbol,
        timeframe="H1",
        family="test",
        origin_utc=opens[told],
        horizons_bars=HORIZONS,
        quantiles=quantiles,
        scale=scale,
    )


def varied_market(
    seed: int, bars: int = 150, volatility: float = 0.002, start: float = 1.2, symbol: str = "EURUSD"
) -> tuple[pl.DataFrame, ForecastBatch]:
    """Return a random walk, and forecasts in spells that pyramids can grow in; see `laws_on`."""
    rng = np.random.default_rng(seed)
    walk = random_bars(rng, bars, volatility, start)
    return walk, laws_on(walk, rng, volatility * rng.uniform(0.7, 1.4, bars), symbol)


@cache
def real_bars() -> pl.DataFrame:
    """Return the bid bars of EURUSD, and the ask side of each."""
    bid, ask = (pl.read_parquet(REAL / part / "EURUSD_H1.parquet") for part in (".", "ask"))
    sides = ask.select("ts_utc", *(pl.col(name).alias(f"ask_{name}") for name in PRICES))
    return bid.join(sides, on="ts_utc", how="left", maintain_order="left")


def real_market(seed: int, first: int = 0, bars: int | None = None) -> tuple[pl.DataFrame, ForecastBatch]:
    """Return real hourly bars from a row on, and random forecasts as wide as the last hundred bars moved."""
    part = real_bars().slice(first, bars)
    moved = part["close"].log().diff().rolling_std(100, min_samples=2).fill_null(0.001)
    return part, laws_on(part, np.random.default_rng(seed), np.maximum(moved.to_numpy(), 1e-4))


distances = st.floats(0.3, 4.0)
configs = st.builds(
    StrategyConfig,
    horizon_bars=st.sampled_from(HORIZONS),
    entry_probability=st.floats(0.35, 0.75),
    stop_scales=distances,
    take_profit_scales=distances,
    size_fraction=st.floats(0.01, 1.0),
    holding_limit_bars=st.integers(1, 30),
    cost_multiple=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    distance_unit=st.sampled_from(["volatility", "percent"]),
    trailing_scales=st.just(0.0) | st.floats(0.05, 3.0),
    sizing=st.sampled_from(["fraction", "lots", "risk", "volatility", "kelly", "uncertainty"]),
    lots=st.floats(0.01, 2.0),
    max_entries=st.integers(1, 4),
    opposite_exit=st.booleans(),
)
seeds = st.integers(0, 2**32 - 1)


def random_configs(seed: int, count: int) -> list[StrategyConfig]:
    """Return strategies from all over the space of `configs`."""
    rng = np.random.default_rng(seed)
    sizings = ["fraction", "lots", "risk", "volatility", "kelly", "uncertainty"]
    return [
        StrategyConfig(
            horizon_bars=int(rng.choice(HORIZONS)),
            entry_probability=float(rng.uniform(0.4, 0.75)),
            stop_scales=float(rng.uniform(0.3, 4)),
            take_profit_scales=float(rng.uniform(0.3, 4)),
            size_fraction=float(10 ** rng.uniform(-2.5, -0.3)),
            holding_limit_bars=int(rng.integers(1, 40)),
            cost_multiple=float(rng.choice([0.0, 0.5, 1.0, 2.0])),
            distance_unit="percent" if rng.random() < 0.3 else "volatility",
            trailing_scales=0.0 if rng.random() < 0.5 else float(rng.uniform(0.05, 3)),
            sizing=sizings[int(rng.integers(len(sizings)))],
            lots=float(np.round(rng.uniform(0.01, 1), 2)),
            max_entries=int(rng.integers(1, 5)),
            opposite_exit=bool(rng.random() < 0.7),
        )
        for _ in range(count)
    ]


def join(one: ForecastBatch, other: ForecastBatch) -> ForecastBatch:
    """Return the forecasts of both, one after the other."""
    return replace(
        one,
        origin_utc=np.concatenate((one.origin_utc, other.origin_utc)),
        quantiles=np.concatenate((one.quantiles, other.quantiles)),
        scale=np.concatenate((one.scale, other.scale)),
    )
