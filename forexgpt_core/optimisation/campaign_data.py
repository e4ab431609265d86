"""What a member of a campaign is trained on: bars of its timeframe out of those that are stored, and its features."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from forexgpt_core.candles.resampling import resample
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.features.build import build_features
from forexgpt_core.features.inputs import FeatureInputs
from forexgpt_core.features.recipe import Choice, Recipe
from forexgpt_core.features.windows import MarketArrays, market_arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBars:
    """What the lake holds of a pair.

    Attributes:
        timeframe: of `bars` and of the other pairs' bars in `inputs`.
        bars: lawful bars, the whole history.
        inputs: what the recipe reads besides.
    """

    symbol: str
    timeframe: Timeframe
    bars: pl.DataFrame
    inputs: FeatureInputs


def bars_of(stored: StoredBars, timeframe: Timeframe) -> pl.DataFrame:
    """Return the closed bars of a timeframe.

    Raises:
        BadInput: it is shorter than the stored one.
        NotReady: no bar of it has closed.
    """
    if timeframe.seconds < stored.timeframe.seconds:
        raise BadInput(
            f"{stored.symbol} {timeframe} cannot be trained on: its stored candles are {stored.timeframe}, and shorter"
            f" bars cannot be made of longer ones; import {timeframe} candles or leave {timeframe} out"
        )
    bars = resample(stored.bars, stored.timeframe, timeframe)
    if bars.is_empty():
        raise NotReady(f"{stored.symbol} has no closed {timeframe} bar in its {stored.bars.height} stored bars")
    return bars


def recipe_on(recipe: Recipe, timeframe: Timeframe) -> Recipe:
    """Return the recipe as it can be built on bars of a timeframe.

    An indicator stays on those of its timeframes that are not below the base; where none is left it is built on the
    base itself. Equal indicators that thereby meet are one.
    """
    merged: dict[tuple[object, ...], Choice] = {}
    for choice in recipe.choices:
        frames = {frame for frame in choice.timeframes if frame.seconds >= timeframe.seconds}
        if choice.timeframes and not frames:
            frames = {timeframe}
        key = (choice.indicator, choice.parameters, choice.pairs)
        if key in merged:
            frames |= set(merged[key].timeframes)
        merged[key] = replace(choice, timeframes=tuple(sorted(frames, key=lambda frame: frame.seconds)))
    return replace(recipe, choices=tuple(merged.values()))


def member_arrays(
    stored: StoredBars, timeframe: Timeframe, recipe: Recipe, horizons_bars: tuple[int, ...]
) -> MarketArrays:
    """Return the bars of a timeframe with the recipe's features, row i known at the close of bar i.

    Columns that have a value in too few rows are left out, as in a pair's feature table.

    Raises:
        BadInput: the timeframe is shorter than the stored one, or the recipe names the pair itself.
        NotReady: there are no bars, no feature has values, or something the recipe reads is missing.
    """
    bars = bars_of(stored, timeframe)
    pairs = _resampled(stored.inputs.pairs, stored.timeframe, timeframe)
    adapted = recipe_on(recipe, timeframe)
    built = build_features(bars, timeframe, adapted, inputs=replace(stored.inputs, pairs=pairs))
    kept = _covered(built, adapted.min_coverage)
    if not kept:
        raise NotReady(
            f"no feature of {stored.symbol} {timeframe} has a value in {adapted.min_coverage:.0%} of its {bars.height}"
            " rows: import more candles or choose shorter timeframes"
        )
    return market_arrays(stored.symbol, timeframe, bars, built.select("ts_utc", *kept), horizons_bars)


def _resampled(pairs: Mapping[str, pl.DataFrame], source: Timeframe, target: Timeframe) -> dict[str, pl.DataFrame]:
    return {pair: resample(bars, source, target) for pair, bars in pairs.items()}


def _covered(built: pl.DataFrame, least: float) -> list[str]:
    names = [name for name in built.columns if name != "ts_utc"]
    shares = built.select(pl.col(name).is_finite().fill_null(False).mean() for name in names).row(0, named=True)
    return [name for name, share in shares.items() if share >= least]
