"""The spread, ask less bid at the close. Every column is NaN where the source has no ask side."""

import numpy as np

from forexgpt_core.features.indicator import Bars, Columns, Family, Floats, share, window
from forexgpt_core.features.kernels import rolling_moments

FAMILY = Family("spread")


def _spread(b: Bars) -> Floats:
    return np.asarray((b.ask_close - b.close) / b.close)


@FAMILY.indicator(needs="ask")
def spread(b: Bars) -> Columns:
    """Spread as a share of the bid."""
    return {"spread": _spread(b)}


@FAMILY.indicator(needs="ask", warm_up=lambda bars: bars - 1, bars=window(48, least=5))
def spread_z(b: Bars, bars: int) -> Columns:
    """Spread less its mean of `bars`, in their standard deviations; 0 where it does not vary."""
    mean, variance = rolling_moments(_spread(b), bars, 2)
    return {"spread_z": share(_spread(b) - mean, np.sqrt(variance), where_none=0.0)}


@FAMILY.indicator(needs="ask", warm_up=lambda bars: bars, bars=window(24))
def spread_to_volatility(b: Bars, bars: int) -> Columns:
    """Spread over the root mean square log return of `bars`; 0 where nothing moves."""
    from forexgpt_core.features.kernels import rolling_sum

    usual = np.sqrt(np.maximum(rolling_sum(b.log_return**2, bars), 0.0) / bars)
    return {"spread_to_volatility": share(_spread(b), usual, where_none=0.0)}
