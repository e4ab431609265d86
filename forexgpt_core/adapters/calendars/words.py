"""The words calendars use for currencies, impacts and times of day."""

import re

from forexgpt_core.domain.events import CURRENCIES, EVERY

UNTIMED = ("", "all day", "allday", "tentative", "day 1", "day 2", "day 3", "day 4", "day 5")

# money of other countries: real calendars carry them, and no pair here needs them
ELSEWHERE = frozenset(
    {
        "AED", "ARS", "BRL", "CLP", "CNH", "CNY", "COP", "CZK", "DKK", "HKD", "HUF", "IDR", "ILS", "INR", "KRW", "MXN",
        "MYR", "NOK", "PHP", "PLN", "RON", "RUB", "SAR", "SEK", "SGD", "THB", "TRY", "TWD", "UAH", "VND", "ZAR",
    }
)  # fmt: skip

_COUNTRIES = {
    "USD": ("us", "usa", "united states"),
    "EUR": (
        "eu", "emu", "ez", "euro zone", "eurozone", "euro area", "european union", "germany", "france", "italy",
        "spain", "netherlands", "belgium", "austria", "ireland", "portugal", "greece", "finland",
        "de", "fr", "it", "es",
    ),
    "GBP": ("uk", "gb", "united kingdom"),
    "JPY": ("jp", "japan"),
    "AUD": ("au", "australia"),
    "NZD": ("nz", "new zealand"),
    "CAD": ("ca", "canada"),
    "CHF": ("ch", "switzerland"),
    EVERY: ("all", "world", "global", "worldwide"),
    "CNY": ("cn", "china"),
    "SEK": ("se", "sweden"),
    "NOK": ("no", "norway"),
}  # fmt: skip
_CURRENCY_OF = {name: currency for currency, names in _COUNTRIES.items() for name in names}

_IMPACTS = {
    "high": ("high", "red", "h", "3", "***", "★★★", "calendar_importance_high", "bull3", "critical"),
    "medium": (
        "medium", "med", "moderate", "orange", "m", "2", "**", "★★", "★★☆", "calendar_importance_moderate", "bull2",
    ),
    "low": (
        "low", "yellow", "l", "1", "*", "★", "★☆☆", "calendar_importance_low", "bull1",
        "none", "0", "☆☆☆", "calendar_importance_none",
    ),
    "holiday": ("holiday", "bank holiday", "holidays", "non-economic", "gray", "grey"),
}  # fmt: skip
_IMPACT_OF = {word: impact for impact, words in _IMPACTS.items() for word in words}
_FILLER = re.compile(r"\b(impact|volatility|importance|expected)\b")
IMPACT_HELP = "expected low, medium, high or holiday (also 1 to 3, stars, yellow, orange, red)"
CURRENCY_HELP = f"expected one of {', '.join(CURRENCIES)}"


def currency_of(text: str) -> str | None:
    """Return the currency that a code or a country's name stands for, None where it is neither.

    >>> currency_of("usd"), currency_of("Euro Zone"), currency_of("XYZ")
    ('USD', 'EUR', None)
    """
    word = " ".join(text.split())
    code = word.upper()
    return code if code in CURRENCIES or code in ELSEWHERE else _CURRENCY_OF.get(word.casefold())


def impact_of(text: str) -> str | None:
    """Return the impact that a word, a number or stars stand for, None where they are none.

    >>> impact_of("High Impact Expected"), impact_of("**"), impact_of("huge")
    ('high', 'medium', None)
    """
    word = " ".join(_FILLER.sub(" ", text.casefold().strip()).split())
    return _IMPACT_OF.get(word) or _IMPACT_OF.get(text.casefold().strip())
