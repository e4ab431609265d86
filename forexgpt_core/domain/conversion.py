"""What a unit of one currency is worth in another over time, from the candles of pairs, without look-ahead."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.domain.bars import require_bars
from forexgpt_core.domain.clock import WEEK_SECONDS, Ints, Times, places
from forexgpt_core.domain.instruments import CURRENCIES, INSTRUMENTS, instrument
from forexgpt_core.errors import BadInput

Floats = NDArray[np.float64]

_BETWEEN = ("USD", "EUR", *(name for name in CURRENCIES if name not in ("USD", "EUR")))  # most traded first
_SECOND = 1_000_000  # microseconds


@dataclass(frozen=True, slots=True)
class Leg:
    """One step of a conversion: times the pair's price, or divided by it."""

    symbol: str
    inverted: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AccountRates:
    """What quote currency is worth in the account over the bars of a pair.

    Attributes:
        open, close: (n,) account currency per unit of quote currency as known at each bar's open and close.
        base_is_account: the pair's own price converts, at the moment of an execution; the arrays are one over it.
        path: the pairs that convert; empty where none has to.
        stale_bars: bars at whose open or close a newer rate should have been known, but its candle is absent.
    """

    open: Floats
    close: Floats
    base_is_account: bool
    path: tuple[Leg, ...] = ()
    stale_bars: int = 0


def conversion_path(source: str, target: str, available: Collection[str]) -> tuple[Leg, ...]:
    """Return the pairs that turn `source` into `target`: one of them, else two with the most traded between them.

    >>> conversion_path("JPY", "EUR", {"USDJPY", "EURUSD"})
    (Leg(symbol='USDJPY', inverted=True), Leg(symbol='EURUSD', inverted=True))

    Args:
        available: symbols whose candles are there.

    Raises:
        BadInput: no one or two of them lead there; the text says which to fetch.
    """
    if source == target:
        return ()
    for path in _paths(source, target):
        if all(leg.symbol in available for leg in path):
            return path
    choices = [" and ".join(leg.symbol for leg in path) for path in _paths(source, target)]
    raise BadInput(
        f"turning {source} into {target} needs the candles of {choices[0] if choices else 'a pair'};"
        f" fetch them (or those of {choices[1]})"
        if len(choices) > 1
        else f"there is no pair that turns {source} into {target}"
    )


def account_rates(
    candles: pl.DataFrame, *, symbol: str, account: str, rates: Mapping[str, pl.DataFrame]
) -> AccountRates:
    """Return what the quote currency of a pair is worth in the account, bar by bar.

    A candle's close is a rate from its end on, and its end is the usual step of its table after its open. Candles are
    bids. The pair itself may be part of the way; its price at its own open and close is what it opens and closes at.

    Args:
        candles: lawful bars of the pair.
        account: the currency of the account.
        rates: candles of other pairs by symbol; those not on the way are not read.

    Raises:
        BadInput: no pairs lead to the account, their candles are unlawful, or they begin after the first bar.
    """
    pair = instrument(symbol)
    if account == pair.quote:
        ones = np.ones(candles.height)
        return AccountRates(open=ones, close=ones.copy(), base_is_account=False)
    if account == pair.base:
        opened, closed = (1.0 / candles[name].to_numpy() for name in ("open", "close"))
        return AccountRates(open=opened, close=closed, base_is_account=True)
    others = {instrument(name).symbol: frame for name, frame in rates.items()}
    path = conversion_path(pair.quote, account, {pair.symbol, *others})
    opens = _opens(candles)
    moments = np.concatenate([opens, _ends(opens)])
    value, stale = np.ones(moments.size), np.zeros(moments.size, dtype=np.bool_)
    for leg in path:
        if leg.symbol == pair.symbol:
            price = np.concatenate([candles["open"].to_numpy(), candles["close"].to_numpy()])
        else:
            price, old = _last_known(others[leg.symbol], leg.symbol, moments)
            stale |= old
        value = value / price if leg.inverted else value * price
    opened, closed = (np.ascontiguousarray(half) for half in np.split(value, 2))
    either = np.logical_or(*np.split(stale, 2))
    return AccountRates(open=opened, close=closed, base_is_account=False, path=path, stale_bars=int(either.sum()))


def _paths(source: str, target: str) -> Iterator[tuple[Leg, ...]]:
    direct = _leg(source, target)
    if direct is not None:
        yield (direct,)
    for between in _BETWEEN:
        first, second = _leg(source, between), _leg(between, target)
        if first is not None and second is not None:
            yield first, second


def _leg(source: str, target: str) -> Leg | None:
    if source + target in INSTRUMENTS:
        return Leg(source + target, inverted=False)
    return Leg(target + source, inverted=True) if target + source in INSTRUMENTS else None


def _last_known(candles: pl.DataFrame, symbol: str, moments: Times) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the newest close known at each moment, and where a newer one should have been known."""
    try:
        require_bars(candles)
    except BadInput as error:
        raise BadInput(f"{symbol}, whose price converts into the account's currency: {error}") from None
    if candles.height < 2:
        raise BadInput(f"{symbol} converts into the account's currency and has {candles.height} candles; fetch more")
    ends = _ends(_opens(candles))
    place = np.searchsorted(ends, moments, side="right") - 1
    if (early := place < 0).any():
        raise BadInput(
            f"the first rate of {symbol} is known at {ends[0]}, after {int(early.sum())} moments that need it;"
            f" fetch {symbol} from before {moments.min()}"
        )
    bar = np.diff(_trading_time(ends)).astype(np.int64)
    usual = int(np.median(bar))
    return candles["close"].to_numpy()[place], _trading_time(moments) - _trading_time(ends[place]) >= usual


def _opens(candles: pl.DataFrame) -> Times:
    return candles["ts_utc"].to_numpy().astype("datetime64[us]")


def _ends(opens: Times) -> Times:
    """Return when bars end: the commonest step after their opens; a week's bar ends on its Friday."""
    if opens.size < 2:
        return opens  # its length is not known, and its open is the safe side
    steps, counts = np.unique(np.diff(opens), return_counts=True)
    length = min(steps[counts.argmax()], np.timedelta64(WEEK_SECONDS * _SECOND, "us"))
    return np.asarray(opens + length)


def _trading_time(moments: Times) -> Ints:
    """Return microseconds of open market since 1990: the weekend does not count."""
    place = places(moments)
    week = WEEK_SECONDS * _SECOND
    return np.asarray(place.week * week + np.minimum(place.since_open, week))
