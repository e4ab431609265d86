"""The symbols an account serves: found by the pair's name, however the broker writes it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Protocol

from forexgpt_core.adapters.ctrader.messages import Message
from forexgpt_core.domain.instruments import normalise_symbol
from forexgpt_core.errors import BadInput, UnknownName

MOST_DIGITS = 5  # prices on the wire are in 1/100000


class Asks(Protocol):
    """What reads from an account."""

    async def ask(self, doing: str, name: str, **fields: object) -> Message:
        """Return the answer to a request that changes nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """A symbol of the venue.

    Attributes:
        symbol_id: its number in requests.
        name: as the broker writes it.
        digits: decimals of its prices.
        pip_position: which decimal is a pip.
        lot_size: units in one lot, in cents of a unit; 0 where the server does not say. So are the volumes.
        schedule: trading intervals, in seconds from Sunday 00:00 of `schedule_timezone`.
        trading_mode: 0 where trading is enabled.
    """

    symbol_id: int
    name: str
    digits: int
    pip_position: int
    lot_size: int = 0
    min_volume: int = 0
    step_volume: int = 0
    max_volume: int = 0
    schedule: tuple[tuple[int, int], ...] = ()
    schedule_timezone: str = ""
    trading_mode: int = 0


async def find_symbol(session: Asks, text: str) -> Symbol:
    """Return the symbol of a pair, written with or without a slash.

    Raises:
        UnknownName: it is not a pair, or the account does not serve it, or serves it under several names.
        BadInput: its prices have more decimals than the wire carries.
    """
    key = normalise_symbol(text)
    listed = await session.ask("the list of symbols", "ProtoOASymbolsListReq", includeArchivedSymbols=False)
    light = choose(key, listed.symbol)
    name = str(light.symbolName)
    full = await session.ask(f"the symbol {name}", "ProtoOASymbolByIdReq", symbolId=[int(light.symbolId)])
    for entry in full.symbol:
        if int(entry.symbolId) == int(light.symbolId):
            return read_symbol(entry, name)
    raise UnknownName(f"cTrader lists {name} but does not describe it; is it archived?")


def choose(key: str, listed: Iterable[Message]) -> Message:
    """Return the listed symbol of a pair: of this very name, or else the only one with this name and an ending.

    Disabled symbols are taken only where there is no other, since their past can still be read.

    Raises:
        UnknownName: there is none, or more than one.
    """
    symbols = [symbol for symbol in listed if symbol.symbolName]
    exact = [s for s in symbols if _plain(s.symbolName) == key]
    found = exact or [s for s in symbols if re.split(r"[^A-Z]", _started(s.symbolName), maxsplit=1)[0] == key]
    found = [s for s in found if s.enabled] or found
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(sorted(str(s.symbolName) for s in found))
        raise UnknownName(f"the account serves {key} under several names: {names}; which one is meant cannot be told")
    names_by_key = {_plain(s.symbolName): str(s.symbolName) for s in symbols}
    near = [names_by_key[match] for match in get_close_matches(key, sorted(names_by_key), n=3, cutoff=0.8)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"it serves {len(symbols)} others"
    raise UnknownName(f"the account serves no symbol {key}; {hint}")


def read_symbol(entry: Message, name: str) -> Symbol:
    """Return a described symbol.

    Raises:
        BadInput: its prices have more decimals than the wire carries.
    """
    if not 0 <= entry.digits <= MOST_DIGITS:
        raise BadInput(f"{name} has {entry.digits} decimals, prices of cTrader carry at most {MOST_DIGITS}")
    return Symbol(
        symbol_id=int(entry.symbolId),
        name=name,
        digits=int(entry.digits),
        pip_position=int(entry.pipPosition),
        lot_size=int(entry.lotSize),
        min_volume=int(entry.minVolume),
        step_volume=int(entry.stepVolume),
        max_volume=int(entry.maxVolume),
        schedule=tuple((int(i.startSecond), int(i.endSecond)) for i in entry.schedule),
        schedule_timezone=str(entry.scheduleTimeZone),
        trading_mode=int(entry.tradingMode),
    )


def _started(name: str) -> str:
    """Return a name in upper case from its first letter on, without slashes: `#EUR/USD.r` is `EURUSD.R`."""
    return re.sub(r"^[^A-Z]+|/", "", str(name).upper())


def _plain(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", str(name).upper())
