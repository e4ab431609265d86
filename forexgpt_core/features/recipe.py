"""Which feature columns to build, as a value that can be stored, compared and hashed."""

import difflib
import hashlib
import json
from dataclasses import asdict, dataclass, fields

from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import BadInput

GROUPS = ("ohlc", "calendar", "volatility", "rsi", "atr", "macd", "bollinger", "adx")
_WINDOWS = ("rsi_bars", "atr_bars", "bollinger_bars", "adx_bars", "volatility_bars")
_LONGEST_BARS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Which feature columns to build. Equal recipes build equal columns, so `hash12` is a cache key.

    Attributes:
        timeframes: bars the indicators are computed on: the base timeframe or longer ones; kept shortest first.
        macd_bars: fast, slow and signal windows.
        ewma_decay: weight of yesterday's variance against today's squared return, in (0, 1).
        ohlc, calendar, volatility, rsi, atr, macd, bollinger, adx: switches, one per group of columns.
    """

    timeframes: tuple[Timeframe, ...] = (Timeframe.H1, Timeframe.H4, Timeframe.D1)
    rsi_bars: int = 14
    atr_bars: int = 14
    macd_bars: tuple[int, int, int] = (12, 26, 9)
    bollinger_bars: int = 20
    adx_bars: int = 14
    volatility_bars: int = 24
    ewma_decay: float = 0.94
    ohlc: bool = True
    calendar: bool = True
    volatility: bool = True
    rsi: bool = True
    atr: bool = True
    macd: bool = True
    bollinger: bool = True
    adx: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "timeframes", _timeframes(self.timeframes))
        for name in _WINDOWS:
            _require_window(name, getattr(self, name), least=2)
        object.__setattr__(self, "macd_bars", _macd_bars(self.macd_bars))
        decay = self.ewma_decay
        if not isinstance(decay, float) or not 0 < decay < 1:
            raise BadInput(f"recipe ewma_decay must be a number between 0 and 1, was {decay!r}")
        for name in GROUPS:
            if not isinstance(getattr(self, name), bool):
                raise BadInput(f"recipe {name} must be true or false, was {getattr(self, name)!r}")
        if not any(getattr(self, name) for name in GROUPS):
            raise BadInput(f"recipe switches every group off; switch on at least one of {', '.join(GROUPS)}")

    @property
    def hash12(self) -> str:
        """Return the first 12 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """Return the recipe as canonical JSON: every setting, keys sorted, no spaces."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Return the recipe of a JSON object; what it leaves out has its default.

        Raises:
            BadInput: not a JSON object, an unknown key, a wrong type or an unlawful value.
        """
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise BadInput(f"recipe is not valid JSON: {error}") from None
        if not isinstance(document, dict):
            raise BadInput(f"recipe must be a JSON object of settings, was {type(document).__name__}")
        known = [field.name for field in fields(cls)]
        for key in document:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
                raise BadInput(f"unknown recipe setting '{key}'; {hint}")
        return cls(**document)

    def require_base(self, timeframe: Timeframe) -> None:
        """Refuse a recipe that asks for bars shorter than those of the base timeframe.

        Raises:
            BadInput: it does.
        """
        below = [t for t in self.timeframes if t.seconds < timeframe.seconds]
        if below:
            kept = [t for t in self.timeframes if t not in below] or [timeframe]
            raise BadInput(
                f"recipe timeframe {', '.join(below)} is below the base timeframe {timeframe} and cannot be built from"
                f" it; set the recipe's timeframes to [{', '.join(kept)}]"
            )


def _timeframes(value: object) -> tuple[Timeframe, ...]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(item, str) for item in value):
        raise BadInput(f"recipe timeframes must be a list of one or more of {', '.join(Timeframe)}, was {value!r}")
    parsed = [Timeframe.parse(item) for item in value]
    if len(set(parsed)) != len(parsed):
        raise BadInput(f"recipe timeframes name one twice: {', '.join(parsed)}")
    return tuple(sorted(parsed, key=lambda t: t.seconds))


def _macd_bars(value: object) -> tuple[int, int, int]:
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise BadInput(f"recipe macd_bars must be three windows (fast, slow, signal), was {value!r}")
    fast, slow, signal = value
    for window in (fast, slow, signal):
        _require_window("macd_bars", window, least=2)
    if fast >= slow:
        raise BadInput(f"recipe macd_bars must have the fast window below the slow one, were {fast} and {slow}")
    return fast, slow, signal


def _require_window(name: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _LONGEST_BARS:
        raise BadInput(f"recipe {name} must be a whole number from {least} to {_LONGEST_BARS}, was {value!r}")
