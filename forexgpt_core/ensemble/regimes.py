"""Market regimes: how volatile the last days were against the past, and whether prices went anywhere.

Nine of them: volatility low, middle or high by the terciles of the past, times trend down, flat or up. A trend is the
move over `trend_bars` in units of what volatility alone would make of it; the flattest third of the past is flat.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.errors import BadInput, BundleError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

VOLATILITIES, TRENDS = ("low", "middle", "high"), ("down", "flat", "up")
REGIMES = tuple(f"{volatility}_{trend}" for volatility in VOLATILITIES for trend in TRENDS)
UNKNOWN = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeSettings:
    """What volatility and trend are measured over.

    Attributes:
        volatility_bars: returns in the root mean square; 120 bars of H1 are a week, so the time of day cancels.
        trend_bars: length of the move.
        least_bars: measured bars before thresholds mean anything.
    """

    volatility_bars: int = 120
    trend_bars: int = 120
    least_bars: int = 300

    def __post_init__(self) -> None:
        for name, least in (("volatility_bars", 2), ("trend_bars", 1), ("least_bars", 30)):
            if getattr(self, name) < least:
                raise BadInput(f"{name} must be at least {least}, was {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeModel:
    """Thresholds fitted on a training span.

    Attributes:
        volatility_low, volatility_high: terciles of volatility per bar, log return.
        trend_band: largest |trend| that is flat.
        fitted_bars: bars with both measures in the span.
    """

    settings: RegimeSettings
    volatility_low: float
    volatility_high: float
    trend_band: float
    fitted_bars: int

    @classmethod
    def fit(cls, closes: Floats, settings: RegimeSettings) -> Self:
        """Return the thresholds of a training span.

        Args:
            closes: (n,) prices of the span, oldest first.

        Raises:
            BadInput: a price is not finite and above 0, prices never move, or there are too few.
        """
        volatility, trend = measures(closes, settings)
        known = np.isfinite(trend)
        if known.sum() < settings.least_bars:
            raise BadInput(
                f"{closes.size} bars give {known.sum()} with a volatility and a trend; regimes need"
                f" {settings.least_bars}: take a longer span, or lower least_bars"
            )
        low, high = np.quantile(volatility[known], [1 / 3, 2 / 3])
        return cls(
            settings=settings,
            volatility_low=float(low),
            volatility_high=float(high),
            trend_band=float(np.quantile(np.abs(trend[known]), 1 / 3)),
            fitted_bars=int(known.sum()),
        )

    def labels(self, closes: Floats) -> Ints:
        """Return the place in REGIMES of every bar, from closes up to it; UNKNOWN while a measure warms up.

        Raises:
            BadInput: a price is not finite and above 0.
        """
        volatility, trend = measures(closes, self.settings)
        return _labels(volatility, trend, self.volatility_low, self.volatility_high, self.trend_band)

    def to_document(self) -> dict[str, object]:
        """Return everything as JSON values."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, object]) -> Self:
        """Return what `to_document` described.

        Raises:
            BundleError: it describes something else.
        """
        try:
            settings = RegimeSettings(**cast("dict[str, int]", document["settings"]))
            numbers = {name: float(cast("float", document[name])) for name in _THRESHOLDS}
            return cls(settings=settings, fitted_bars=int(cast("int", document["fitted_bars"])), **numbers)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"the stored regimes cannot be read: {error}") from error


_THRESHOLDS = ("volatility_low", "volatility_high", "trend_band")


def measures(closes: Floats, settings: RegimeSettings) -> tuple[Floats, Floats]:
    """Return volatility per bar (log return) and trend (in units of its own noise) at every bar; NaN in warm-up.

    Both read closes up to the bar itself. Where prices stood still for the whole window the trend is 0.

    Args:
        closes: (n,) prices, oldest first.

    Raises:
        BadInput: a price is not finite and above 0.
    """
    prices = np.asarray(closes, dtype=np.float64)
    if prices.ndim != 1 or not (np.isfinite(prices) & (prices > 0)).all():
        raise BadInput("regimes need one series of closes, finite and above 0")
    from forexgpt_core.features.kernels import rolling_sum  # numba, which most processes do without

    logs, n = np.log(prices), prices.size
    volatility, trend = np.full(n, np.nan), np.full(n, np.nan)
    if n > settings.volatility_bars:
        squares = rolling_sum(np.diff(logs) ** 2, settings.volatility_bars)
        volatility[1:] = np.sqrt(squares / settings.volatility_bars)
    if n > settings.trend_bars:
        move = logs[settings.trend_bars :] - logs[: -settings.trend_bars]
        noise = volatility[settings.trend_bars :] * np.sqrt(settings.trend_bars)
        trend[settings.trend_bars :] = np.where(noise > 0, move / np.where(noise > 0, noise, 1.0), 0 * noise)
    volatility[np.isnan(trend)] = np.nan
    return volatility, trend


def running_labels(closes: Floats, settings: RegimeSettings) -> Ints:
    """Return the place in REGIMES of every bar by the thresholds of everything up to that bar and nothing later.

    UNKNOWN until `least_bars` bars have been measured.

    Args:
        closes: (n,) prices, oldest first.

    Raises:
        BadInput: a price is not finite and above 0.
    """
    volatility, trend = measures(closes, settings)
    low, high = (_running_quantile(volatility, share, settings.least_bars) for share in (1 / 3, 2 / 3))
    return _labels(volatility, trend, low, high, _running_quantile(np.abs(trend), 1 / 3, settings.least_bars))


def _running_quantile(x: Floats, share: float, least: int) -> Floats:
    """Return the quantile of all known values up to each place, NaN before there are `least`."""
    known = np.isfinite(x)
    out = np.full(x.size, np.nan)
    values = pl.Series(x[known])
    if values.len() >= least:
        out[known] = values.rolling_quantile(
            share, window_size=values.len(), min_samples=least, interpolation="linear"
        ).to_numpy()
    return out


def _labels(volatility: Floats, trend: Floats, low: Floats | float, high: Floats | float, band: Floats | float) -> Ints:
    level = (volatility > low).astype(np.int64) + (volatility > high)
    direction = 1 + np.where(np.abs(trend) > band, np.sign(trend), 0).astype(np.int64)
    known = np.isfinite(volatility) & np.isfinite(trend) & np.isfinite(low) & np.isfinite(high) & np.isfinite(band)
    return np.where(known, len(TRENDS) * level + direction, UNKNOWN)
