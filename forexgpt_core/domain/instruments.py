"""What a currency pair is: pip, digits, contract size, currencies."""

import re
from dataclasses import dataclass
from decimal import Decimal

from forexgpt_core.errors import UnknownName

CURRENCIES = ("EUR", "GBP", "AUD", "NZD", "USD", "CAD", "CHF", "JPY")  # market order: earlier ones are the base
_SYMBOL = re.compile(r"^[A-Z]{6}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One tradable pair.

    Attributes:
        pip: price change that traders call one pip, in quote currency.
        digits: decimals a venue quotes, one finer than the pip.
        lot_units: units of base currency (ounces for gold) in one lot.
    """

    symbol: str
    base: str
    quote: str
    pip: float
    digits: int
    lot_units: Decimal

    @property
    def lowest(self) -> float:
        """Return a price that the pair has never come near from above, since 1990."""
        return 100.0 if self.base == "XAU" else 20.0 if self.quote == "JPY" else 0.1

    @property
    def highest(self) -> float:
        """Return a price that the pair has never come near from below, since 1990."""
        return 100_000.0 if self.base == "XAU" else 1000.0 if self.quote == "JPY" else 10.0


def _pair(base: str, quote: str) -> Instrument:
    yen = quote == "JPY"
    return Instrument(
        symbol=base + quote,
        base=base,
        quote=quote,
        pip=0.01 if yen else 0.0001,
        digits=3 if yen else 5,
        lot_units=Decimal(100_000),
    )


_GOLD = Instrument(symbol="XAUUSD", base="XAU", quote="USD", pip=0.1, digits=2, lot_units=Decimal(100))

INSTRUMENTS: dict[str, Instrument] = {
    i.symbol: i
    for i in [
        *(_pair(base, quote) for n, base in enumerate(CURRENCIES) for quote in CURRENCIES[n + 1 :]),
        _GOLD,
    ]
}


def normalise_symbol(text: str) -> str:
    """Return `text` as a partition key: upper case, without a slash or other separator.

    >>> normalise_symbol("eur/usd")
    'EURUSD'

    Raises:
        UnknownName: what remains is not six letters.
    """
    symbol = re.sub(r"[/\s_.\-]", "", text).upper()
    if not _SYMBOL.match(symbol):
        raise UnknownName(f"'{text}' is not a currency pair: expected six letters such as EURUSD or EUR/USD")
    return symbol


def instrument(symbol: str) -> Instrument:
    """Return the instrument of `symbol`, written with or without a slash.

    >>> instrument("USD/JPY").pip
    0.01

    Raises:
        UnknownName: the pair is not among the 28 major crosses and gold.
    """
    key = normalise_symbol(symbol)
    if key not in INSTRUMENTS:
        turned = key[3:] + key[:3]
        hint = f"; did you mean {turned}?" if turned in INSTRUMENTS else f"; known: {', '.join(sorted(INSTRUMENTS))}"
        raise UnknownName(f"unknown symbol '{symbol}'{hint}")
    return INSTRUMENTS[key]
