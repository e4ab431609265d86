"""The pair beside other pairs: what they did by the same close, and how strong its two currencies are.

Another pair's bar counts only where it has the same open. Where it is missing, its newest close stands in for
`STALE_BARS` bars at most; then the value is undefined, because missing is NaN and never a guess.
"""

import numpy as np

from forexgpt_core.domain.instruments import instrument
from forexgpt_core.features.indicator import Bars, Columns, Family, Floats, share, shifted, window
from forexgpt_core.features.kernels import carry_forward, rolling_covariance, rolling_moments

FAMILY = Family("cross")
STALE_BARS = 5


def _returns(close: Floats, bars: int) -> Floats:
    known = carry_forward(close, STALE_BARS)
    return np.asarray(np.log(known / shifted(known, bars)))


@FAMILY.indicator(each_pair=True, needs="pairs", warm_up=lambda bars: bars, forget=STALE_BARS, bars=window(1, least=1))
def cross_return(b: Bars, other: Floats, bars: int) -> Columns:
    """Log return of another pair over `bars`."""
    return {"cross_return": _returns(other, bars)}


@FAMILY.indicator(each_pair=True, needs="pairs", warm_up=lambda bars: bars, forget=STALE_BARS, bars=window(4, least=1))
def cross_lead(b: Bars, other: Floats, bars: int) -> Columns:
    """Log return over `bars` less that of another pair."""
    return {"cross_lead": _returns(b.close, bars) - _returns(other, bars)}


@FAMILY.indicator(each_pair=True, needs="pairs", warm_up=lambda bars: bars, forget=STALE_BARS, bars=window(48, least=8))
def cross_correlation(b: Bars, other: Floats, bars: int) -> Columns:
    """Correlation of log returns with those of another pair over `bars`, -1 to 1; 0 where one does not vary."""
    both, own, theirs = rolling_covariance(b.log_return, _returns(other, 1), bars)
    return {"cross_correlation": np.clip(share(both, np.sqrt(own * theirs), where_none=0.0), -1, 1)}


@FAMILY.indicator(each_pair=True, needs="pairs", warm_up=lambda bars: bars, forget=STALE_BARS, bars=window(48, least=8))
def cross_beta(b: Bars, other: Floats, bars: int) -> Columns:
    """Least-squares slope of log returns on those of another pair over `bars`; 0 where that does not move."""
    both, _, theirs = rolling_covariance(b.log_return, _returns(other, 1), bars)
    return {"cross_beta": share(both, theirs, where_none=0.0)}


@FAMILY.indicator(
    each_pair=True, needs="pairs", warm_up=lambda bars: bars - 1, forget=STALE_BARS, bars=window(96, least=8)
)
def cross_z(b: Bars, other: Floats, bars: int) -> Columns:
    """Log price ratio to another pair, less its mean of `bars`, in their deviations; 0 where it does not vary."""
    ratio = np.log(b.close) - np.log(carry_forward(other, STALE_BARS))
    mean, variance = rolling_moments(ratio, bars, 2)
    return {"cross_z": share(ratio - mean, np.sqrt(variance), where_none=0.0)}


@FAMILY.indicator(
    "strength_base",
    "strength_quote",
    needs="pairs",
    warm_up=lambda bars: bars,
    forget=STALE_BARS,
    bars=window(24, least=1),
)
def currency_strength(b: Bars, bars: int) -> Columns:
    """Mean log return over `bars` of the pair's base, and of its quote currency, against what they are paired with.

    Over this pair and the recipe's other pairs that hold the currency; undefined while one of them is.
    """
    pair = instrument(b.symbol)
    moves = {b.symbol: _returns(b.close, bars), **{name: _returns(close, bars) for name, close in b.others.items()}}
    return {"strength_base": _strength(pair.base, moves), "strength_quote": _strength(pair.quote, moves)}


def _strength(currency: str, moves: dict[str, Floats]) -> Floats:
    signed = []
    for name, move in moves.items():
        pair = instrument(name)
        if currency in (pair.base, pair.quote):
            signed.append(move if currency == pair.base else -move)
    return np.asarray(np.mean(signed, axis=0))
