"""Feature rows of a pair: row i reads what is known at the close of base bar i and nothing later."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.candles.resampling import resample
from forexgpt_core.domain.bars import SCHEMA, require_bars
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.features.calendar import calendar
from forexgpt_core.features.indicators import (
    Prices,
    bollinger,
    directional_movement,
    relative_atr,
    relative_macd,
    relative_ohlc,
    relative_strength,
)
from forexgpt_core.features.multi_timeframe import newest_closed, seen_from
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.volatility import ewma_volatility, realised_volatility

Columns = dict[str, NDArray[np.float64]]


def build_features(candles: pl.DataFrame, timeframe: Timeframe, recipe: Recipe) -> pl.DataFrame:
    """Return the recipe's columns, row for row the bars of `candles`.

    Args:
        candles: lawful bars (see `domain.bars`) of the base timeframe, inside the FX week.

    Returns:
        `ts_utc` and float64 columns such as `rsi_14_h4`, NaN while an indicator warms up. A column of a higher
        timeframe holds the value of the newest higher bar whose close is at or before the close of the row's bar.

    Raises:
        BadInput: the candles are not lawful, or the recipe names a timeframe below the base.
    """
    recipe.require_base(timeframe)
    bars = require_bars(candles).select(list(SCHEMA))
    ts = bars["ts_utc"].to_numpy().astype("datetime64[us]")
    columns: Columns = calendar(ts) if recipe.calendar else {}
    for higher in recipe.timeframes:
        own = bars if higher == timeframe else resample(bars, timeframe, higher)
        built = _indicators(Prices.of(own), recipe)
        if higher != timeframe:
            positions = newest_closed(ts, timeframe, own["ts_utc"].to_numpy(), higher)
            built = {name: seen_from(values, positions) for name, values in built.items()}
        columns |= {f"{name}_{higher.lower()}": values for name, values in built.items()}
    return pl.DataFrame({"ts_utc": bars["ts_utc"], **columns})


def _indicators(prices: Prices, recipe: Recipe) -> Columns:
    columns: Columns = {}
    if recipe.ohlc:
        columns |= relative_ohlc(prices, recipe.atr_bars)
    if recipe.volatility:
        bars = recipe.volatility_bars
        columns[f"volatility_{bars}"] = realised_volatility(prices.close, bars)
        columns["ewma_volatility"] = ewma_volatility(prices.close, recipe.ewma_decay, bars)
    if recipe.rsi:
        columns |= relative_strength(prices, recipe.rsi_bars)
    if recipe.atr:
        columns |= relative_atr(prices, recipe.atr_bars)
    if recipe.macd:
        columns |= relative_macd(prices, *recipe.macd_bars)
    if recipe.bollinger:
        columns |= bollinger(prices, recipe.bollinger_bars)
    if recipe.adx:
        columns |= directional_movement(prices, recipe.adx_bars)
    return columns
