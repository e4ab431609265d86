"""Horizons as they are asked for, and forecasts at horizons between those that were trained."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.forecasts import MEDIAN, Floats, ForecastBatch
from forexgpt_core.errors import BadInput

MINUTES = "minutes"


def in_bars(horizons: Sequence[int], unit: Timeframe | str, base: Timeframe) -> tuple[int, ...]:
    """Return horizons in bars of the base timeframe.

    Lengths are market time: a D1 bar is 24 bars of H1 and a W1 bar 120, weekends do not count.

    Args:
        horizons: increasing, 1 or more.
        unit: the timeframe whose bars `horizons` count, or "minutes".

    Raises:
        BadInput: they do not increase from 1 on, or one is not a whole number of base bars.

    >>> in_bars([1, 6], Timeframe.H4, Timeframe.H1), in_bars([60, 240], "minutes", Timeframe.H1)
    ((4, 24), (1, 4))
    """
    asked = [int(h) for h in horizons]
    if not asked or asked != list(horizons) or asked[0] < 1 or asked != sorted(set(asked)):
        raise BadInput(f"horizons must be increasing whole numbers from 1, were {list(horizons)}")
    seconds = 60 if unit == MINUTES else Timeframe.parse(str(unit)).seconds
    for horizon in asked:
        if horizon * seconds % base.seconds:
            name = MINUTES if unit == MINUTES else f"bar(s) of {unit}"
            raise BadInput(f"{horizon} {name} is not a whole number of {base} bars, which the forecast is made of")
    return tuple(horizon * seconds // base.seconds for horizon in asked)


def at_horizons(forecasts: ForecastBatch, horizons_bars: tuple[int, ...]) -> tuple[ForecastBatch, tuple[int, ...]]:
    """Return the forecasts at the horizons asked, and which of these were interpolated.

    A trained horizon comes back as it is. Between trained neighbours a < h < b, with s = (h - a) / (b - a):
    the variance (scale squared) is (1 - s) times that at a plus s times that at b; the median likewise; the quantiles
    around the median, in scales, likewise. So each is linear in variance time, exact for Brownian motion with drift,
    and never crosses. The hours of the week between a and b count alike, for the trained horizons say no more. Joint
    paths and class probabilities are left out.

    Raises:
        BadInput: a horizon lies outside the trained ones, where nothing is known.
    """
    trained = np.array(forecasts.horizons_bars)
    wanted = np.array(horizons_bars)
    if wanted.min() < trained[0] or wanted.max() > trained[-1]:
        raise BadInput(
            f"the ensemble was trained for horizons of {trained[0]} to {trained[-1]} {forecasts.timeframe} bars; asked"
            f" for {wanted.min()} to {wanted.max()}: train it for those"
        )
    right = np.searchsorted(trained, wanted)
    held = trained[right] == wanted
    left = np.where(held, right, right - 1)
    share = np.where(held, 0.0, (wanted - trained[left]) / np.maximum(trained[right] - trained[left], 1))
    quantiles, scale = forecasts.quantiles[:, right], forecasts.scale[:, right]
    if not held.all():
        between_quantiles, between_scale = _between(forecasts, left, right, share)
        quantiles = np.where(held[:, None], quantiles, between_quantiles)
        scale = np.where(held, scale, between_scale)
    batch = replace(
        forecasts,
        origin_utc=forecasts.origin_utc.copy(),
        horizons_bars=tuple(int(h) for h in wanted),
        quantiles=quantiles,
        scale=scale,
        paths=None,
        class_probabilities=None,
    )
    return batch, tuple(int(h) for h in wanted[~held])


def _between(forecasts: ForecastBatch, left: np.ndarray, right: np.ndarray, share: Floats) -> tuple[Floats, Floats]:
    median = forecasts.quantiles[..., MEDIAN]
    around = (forecasts.quantiles - median[..., None]) / forecasts.scale[..., None]

    def linear(x: Floats, weight: Floats) -> Floats:
        return np.asarray((1 - weight) * x[:, left] + weight * x[:, right])

    scale = np.sqrt(linear(forecasts.scale**2, share))
    quantiles = linear(median, share)[..., None] + scale[..., None] * linear(around, share[:, None])
    return np.maximum.accumulate(quantiles, axis=-1), scale
