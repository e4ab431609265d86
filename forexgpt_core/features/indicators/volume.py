"""Tick volume beside price. Every column is NaN where the source has no volume for a bar it reads."""

import numpy as np

from forexgpt_core.features.indicator import Bars, Columns, Family, Floats, ema_fades, share, window
from forexgpt_core.features.kernels import fading_mean, rolling_moments, rolling_sum

FAMILY = Family("volume")


@FAMILY.indicator(warm_up=lambda bars: bars, needs="volume", bars=window(20))
def obv(b: Bars, bars: int) -> Columns:
    """On-balance volume of the newest `bars`, as a share of their volume, -1 to 1; 0 without any.

    The change of the classic sum over the window: the classic sum itself depends on where history starts.
    """
    signed = np.sign(b.change) * b.volume
    return {"obv": share(rolling_sum(signed, bars), rolling_sum(b.volume, bars), where_none=0.0)}


@FAMILY.indicator(warm_up=lambda bars: bars - 1, needs="volume", bars=window(20))
def vwap(b: Bars, bars: int) -> Columns:
    """Close over the volume-weighted typical price of `bars`, less 1; 0 where they hold no volume."""
    volume = rolling_sum(b.volume, bars)
    return {
        "vwap": share(b.close, share(rolling_sum(b.typical * b.volume, bars), volume, where_none=0.0), where_none=1.0)
        - 1
    }


@FAMILY.indicator(warm_up=lambda bars: bars, needs="volume", bars=window(14))
def mfi(b: Bars, bars: int) -> Columns:
    """Money flow index, 0 to 100; 50 where no money flows.

    Equal typical prices of bars of different shapes differ by rounding, and that is no rise or fall.
    """
    flow = b.typical * b.volume
    rise = np.diff(b.typical, prepend=np.nan)
    least = 1e-12 * b.typical
    unknown = np.isnan(rise) | np.isnan(flow)
    up, down = (
        rolling_sum(np.where(unknown, np.nan, np.where(way, flow, 0.0)), bars) for way in (rise > least, rise < -least)
    )
    return {"mfi": 100 * share(up, up + down, where_none=0.5)}


def _close_location(b: Bars) -> Floats:
    return share((b.close - b.low) - (b.high - b.close), b.high - b.low, where_none=0.0)


@FAMILY.indicator(warm_up=lambda bars: bars - 1, needs="volume", bars=window(20))
def chaikin_money_flow(b: Bars, bars: int) -> Columns:
    """Volume weighted by where the close lies in its bar, as a share of that of `bars`, -1 to 1; 0 without any."""
    flow = rolling_sum(_close_location(b) * b.volume, bars)
    return {"chaikin_money_flow": share(flow, rolling_sum(b.volume, bars), where_none=0.0)}


@FAMILY.indicator(
    warm_up=lambda fast, slow, bars: bars - 1,
    forget=lambda fast, slow, bars: ema_fades(slow),
    needs="volume",
    rule=("fast must be below slow and slow at most bars", lambda fast, slow, bars: fast < slow <= bars),
    fast=window(3),
    slow=window(10),
    bars=window(20),
)
def accumulation_oscillator(b: Bars, fast: int, slow: int, bars: int) -> Columns:
    """Exponential mean of `fast` less that of `slow` of the money flow, over the mean volume of `bars`; 0 without any.

    The flow of each bar is averaged, so unlike Chaikin's oscillator of the running sum it does not depend on where
    history starts. A bar without volume has no weight in either mean.
    """
    flow = _close_location(b) * b.volume
    apart = fading_mean(flow, 2 / (fast + 1)) - fading_mean(flow, 2 / (slow + 1))
    return {"accumulation_oscillator": share(apart, rolling_sum(b.volume, bars) / bars, where_none=0.0)}


@FAMILY.indicator(warm_up=lambda bars: bars - 1, forget=ema_fades, needs="volume", bars=window(13))
def force_index(b: Bars, bars: int) -> Columns:
    """Exponential mean of log return times volume, over the mean volume of `bars`; 0 without any (Elder 1993).

    Elder takes the price change and leaves the volume in. A bar without volume has no weight in the exponential mean.
    """
    force = fading_mean(b.log_return * b.volume, 2 / (bars + 1))
    return {"force_index": share(force, rolling_sum(b.volume, bars) / bars, where_none=0.0)}


@FAMILY.indicator(warm_up=lambda bars: bars, needs="volume", bars=window(14))
def ease_of_movement(b: Bars, bars: int) -> Columns:
    """Mean over `bars` of move times range per volume, relative to price and mean volume; 0 without any volume."""
    middle = (b.high + b.low) / 2
    move = np.diff(middle, prepend=np.nan) / b.close * (b.high - b.low) / b.close
    volume = rolling_sum(b.volume, bars) / bars
    return {"ease_of_movement": rolling_sum(share(move, b.volume, where_none=0.0), bars) / bars * volume}


@FAMILY.indicator(warm_up=lambda bars: bars - 1, needs="volume", bars=window(48))
def volume_z(b: Bars, bars: int) -> Columns:
    """Log of volume plus 1 less its mean of `bars`, in their standard deviations; 0 where it does not vary."""
    logs = np.log1p(b.volume)
    mean, variance = rolling_moments(logs, bars, 2)
    return {"volume_z": share(logs - mean, np.sqrt(variance), where_none=0.0)}


@FAMILY.indicator(warm_up=lambda bars: bars - 1, needs="volume", bars=window(20))
def relative_volume(b: Bars, bars: int) -> Columns:
    """Volume over its mean of `bars`; 1 where they hold none."""
    return {"relative_volume": share(b.volume, rolling_sum(b.volume, bars) / bars, where_none=1.0)}


@FAMILY.indicator(warm_up=lambda bars: bars - 1, needs="volume", bars=window(20))
def vwma(b: Bars, bars: int) -> Columns:
    """Simple over volume-weighted mean of the closes of `bars`, less 1; 0 where they hold no volume."""
    weighed = share(rolling_sum(b.close * b.volume, bars), rolling_sum(b.volume, bars), where_none=0.0)
    return {"vwma": share(rolling_sum(b.close, bars) / bars, weighed, where_none=1.0) - 1}


@FAMILY.indicator(warm_up=lambda bars: bars, needs="volume", bars=window(48, least=5))
def volume_volatility(b: Bars, bars: int) -> Columns:
    """Correlation of absolute log return and volume over `bars`; 0 where one does not vary."""
    from forexgpt_core.features.kernels import rolling_covariance

    both, first, second = rolling_covariance(np.abs(b.log_return), b.volume, bars)
    return {"volume_volatility": np.clip(share(both, np.sqrt(first * second), where_none=0.0), -1, 1)}
