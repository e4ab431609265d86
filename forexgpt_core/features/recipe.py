"""Which feature columns to build, as a value that can be stored, compared and hashed."""

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.errors import BadInput

if TYPE_CHECKING:
    from forexgpt_core.features.indicator import Indicator, Value

DEFAULT_TIMEFRAMES = (Timeframe.H1, Timeframe.H4, Timeframe.D1)
DEFAULT_INDICATORS = (
    "calendar",
    "ohlc",
    "candle",
    "relative_range",
    "volatility",
    "ewma_volatility",
    "rsi",
    "atr",
    "macd",
    "bollinger",
    "adx",
)
MIN_COVERAGE = 0.15
_KEYS = ("timeframes", "indicators", "pairs", "min_coverage")
_FORMER = (  # settings of recipes that earlier releases stored
    *("rsi_bars", "atr_bars", "macd_bars", "bollinger_bars", "adx_bars", "volatility_bars", "ewma_decay"),
    *("ohlc", "calendar", "volatility", "rsi", "atr", "macd", "bollinger", "adx"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One indicator with all its parameters, on some timeframes.

    Attributes:
        timeframes: shortest first; empty for an indicator of the base bar itself.
        parameters: every one, in the indicator's order.
        pairs: other pairs it reads, sorted.
    """

    indicator: str
    timeframes: tuple[Timeframe, ...]
    parameters: tuple[tuple[str, "Value"], ...] = ()
    pairs: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, "Value"]:
        """Return the parameters by name."""
        return dict(self.parameters)

    @property
    def definition(self) -> "Indicator":
        """Return the catalogue's entry."""
        return _catalogue()[self.indicator]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of its columns without timeframe."""
        return self.definition.column_names(self.values, self.pairs)

    def document(self) -> dict[str, object]:
        """Return the choice as plain JSON types."""
        frames: dict[str, object] = {"timeframes": [str(t) for t in self.timeframes]} if self.timeframes else {}
        return {**frames, **({"pairs": list(self.pairs)} if self.pairs else {}), **self.values}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Which feature columns to build. Equal recipes build equal columns, so `hash12` is a cache key.

    A document of it has the keys `indicators`, `timeframes`, `pairs` and `min_coverage`, all optional:

        timeframes: [H1, H4, D1]            # where an indicator names none
        pairs: [GBPUSD]                     # other pairs, where an indicator that reads some names none
        indicators:
          rsi: [H1, D1]                     # on these timeframes, usual parameters
          macd: {fast: 5, slow: 20}         # on all of them, own parameters
          returns: [{bars: 1}, {bars: 24, timeframes: [H1]}]
          calendar: {}
        min_coverage: 0.15

    `indicators: all` is every indicator of the catalogue that needs no other data. Without `indicators` it is the
    usual set.

    Attributes:
        choices: in the catalogue's order.
        min_coverage: share of rows that must have a value; a column below it is left out and listed.
    """

    choices: tuple[Choice, ...]
    min_coverage: float = MIN_COVERAGE

    def __post_init__(self) -> None:
        order = {name: place for place, name in enumerate(_catalogue())}
        ranked = sorted(self.choices, key=lambda c: (order[c.indicator], c.parameters, c.pairs, c.timeframes))
        object.__setattr__(self, "choices", tuple(ranked))
        if twice := sorted(name for name, times in Counter(self.columns).items() if times > 1):
            raise BadInput(
                f"recipe builds the column '{twice[0]}' twice; name each indicator once per set of parameters"
            )

    @classmethod
    def usual(cls, timeframes: Sequence[str] = DEFAULT_TIMEFRAMES) -> "Recipe":
        """Return the usual indicators on some timeframes."""
        return cls.from_document({"timeframes": list(timeframes)})

    @property
    def timeframes(self) -> tuple[Timeframe, ...]:
        """Return every timeframe named, shortest first."""
        return _sorted({frame for choice in self.choices for frame in choice.timeframes})

    @property
    def pairs(self) -> tuple[str, ...]:
        """Return every other pair that is read, sorted."""
        return tuple(sorted({pair for choice in self.choices for pair in choice.pairs}))

    @property
    def needs(self) -> frozenset[str]:
        """Return what is read beyond prices."""
        return frozenset().union(*(choice.definition.needs for choice in self.choices))

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of all columns, in the order in which they are built."""
        own = [name for choice in self.choices if choice.definition.per_row for name in choice.names]
        of_bars = [f"{n}_{frame.lower()}" for frame in self.timeframes for c in self.on(frame) for n in c.names]
        return (*own, *of_bars)

    @property
    def may_lack(self) -> frozenset[str]:
        """Return the columns that read more than prices, and lack a value where that is missing."""
        given = [choice for choice in self.choices if choice.definition.needs]
        return frozenset(self._names_of(given))

    def about(self) -> dict[str, str]:
        """Return what each column is, by its name."""
        told: dict[str, str] = {}
        for choice in self.choices:
            definition = choice.definition
            with_values = ", ".join(f"{name} {value:g}" for name, value in choice.values.items())
            text = f"{definition.about} ({with_values})" if with_values else definition.about
            told |= dict.fromkeys(self._names_of([choice]), text)
        return told

    @staticmethod
    def _names_of(choices: Iterable[Choice]) -> list[str]:
        return [
            f"{name}_{frame.lower()}" if frame else name
            for choice in choices
            for frame in choice.timeframes or (None,)
            for name in choice.names
        ]

    def on(self, timeframe: Timeframe) -> tuple[Choice, ...]:
        """Return the choices on one timeframe."""
        return tuple(choice for choice in self.choices if timeframe in choice.timeframes)

    def parts(self, columns: int) -> "list[Recipe]":
        """Return recipes that build the same columns, about so many each."""
        single = [
            Choice(indicator=c.indicator, timeframes=(t,) if t else (), parameters=c.parameters, pairs=c.pairs)
            for t in (None, *self.timeframes)
            for c in self.choices
            if (t in c.timeframes if t else not c.timeframes)
        ]
        groups: list[list[Choice]] = [[]]
        for choice in single:
            if sum(len(c.names) for c in groups[-1]) >= columns:
                groups.append([])
            groups[-1].append(choice)
        return [Recipe(choices=tuple(group), min_coverage=self.min_coverage) for group in groups]

    def memory_bars(self, timeframe: Timeframe) -> int:
        """Return how many bars of a timeframe before a row decide its values; see `Indicator.memory`."""
        return max((choice.definition.memory(choice.values) for choice in self.on(timeframe)), default=0)

    def warm_up_bars(self, timeframe: Timeframe) -> int:
        """Return how many bars of a timeframe pass before all its columns have a value."""
        return max((choice.definition.warm_up(**choice.values) for choice in self.on(timeframe)), default=0)

    def warm_up_seconds(self) -> int:
        """Return how much trading time passes before every column has a value."""
        return max(((self.warm_up_bars(t) + 1) * t.seconds for t in self.timeframes), default=0)

    @property
    def hash12(self) -> str:
        """Return the first 12 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def to_document(self) -> dict[str, object]:
        """Return the recipe as plain JSON types, every setting written out."""
        indicators: dict[str, list[object]] = {}
        for choice in self.choices:
            indicators.setdefault(choice.indicator, []).append(choice.document())
        return {"indicators": indicators, "min_coverage": self.min_coverage}

    def to_json(self) -> str:
        """Return the recipe as canonical JSON: every setting, keys sorted, no spaces."""
        return json.dumps(self.to_document(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Return the recipe of a JSON object; see `from_document`.

        Raises:
            BadInput: not JSON, or not a recipe.
        """
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise BadInput(f"recipe is not valid JSON: {error}") from None
        return cls.from_document(document)

    @classmethod
    def from_document(cls, document: object) -> "Recipe":
        """Return the recipe of a mapping; what it leaves out has its default.

        Raises:
            BadInput: an unknown key, indicator, timeframe, pair or parameter, or an unlawful value.
        """
        if not isinstance(document, Mapping):
            raise BadInput(f"recipe must be a mapping of settings (a JSON object), was {type(document).__name__}")
        for key in document:
            if key in _FORMER:
                raise BadInput(
                    f"recipe names '{key}' beside its settings, as recipes of earlier releases did; name indicators"
                    " under `indicators`, such as {indicators: {rsi: {bars: 14}}}"
                )
            _require_known("recipe setting", key, _KEYS)
        frames = _timeframes("timeframes", document.get("timeframes", list(DEFAULT_TIMEFRAMES)))
        pairs = _pairs("pairs", document.get("pairs", []))
        wanted = document.get("indicators", dict.fromkeys(DEFAULT_INDICATORS))
        if wanted == "all":
            wanted = {name: None for name, one in _catalogue().items() if not one.needs - {"volume"}}
        if not isinstance(wanted, Mapping) or not wanted:
            raise BadInput(f"recipe indicators must map names to timeframes or parameters, or be 'all'; was {wanted!r}")
        choices = [choice for name, value in wanted.items() for choice in _choices(name, value, frames, pairs)]
        return cls(choices=tuple(choices), min_coverage=_coverage(document.get("min_coverage", MIN_COVERAGE)))

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


def _catalogue() -> "dict[str, Indicator]":
    from forexgpt_core.features.catalogue import indicators

    return indicators()


def _choices(name: object, value: object, frames: tuple[Timeframe, ...], pairs: tuple[str, ...]) -> list[Choice]:
    _require_known("indicator", name, _catalogue())
    if value is None or (isinstance(value, list | tuple) and value and all(isinstance(v, str) for v in value)):
        value = {} if value is None else {"timeframes": value}
    entries = value if isinstance(value, list | tuple) else [value]
    if not entries or not all(isinstance(entry, Mapping) for entry in entries):
        raise BadInput(
            f"recipe indicator '{name}' must be a list of timeframes, a mapping of parameters, or a list of such"
            f" mappings; was {value!r}"
        )
    return [_choice(str(name), entry, frames, pairs) for entry in entries]  # type: ignore[arg-type]


def _choice(name: str, entry: Mapping[str, object], frames: tuple[Timeframe, ...], pairs: tuple[str, ...]) -> Choice:
    one = _catalogue()[name]
    takes = [*([] if one.per_row else ["timeframes"]), *(["pairs"] if "pairs" in one.needs else []), *one.parameters]
    for key in entry:
        if key == "timeframes" and one.per_row:
            raise BadInput(
                f"recipe indicator '{name}' is of the bar itself and takes no timeframes; write '{name}: {{}}'"
            )
        _require_known(f"parameter of '{name}'", key, takes)
    values = {k: p.checked(f"recipe {name}.{k}", entry.get(k, p.default)) for k, p in one.parameters.items()}
    text, holds = one.rule
    if not holds(**values):
        raise BadInput(f"recipe {name}: {text}, were {', '.join(f'{k} {v:g}' for k, v in values.items())}")
    chosen = _pairs(f"{name}.pairs", entry["pairs"]) if "pairs" in entry else pairs
    if "pairs" in one.needs and not chosen:
        raise BadInput(f"recipe indicator '{name}' reads other pairs: name them, such as '{name}: {{pairs: [GBPUSD]}}'")
    return Choice(
        indicator=name,
        timeframes=() if one.per_row else _timeframes(f"{name}.timeframes", entry.get("timeframes", list(frames))),
        parameters=tuple(values.items()),
        pairs=chosen if "pairs" in one.needs else (),
    )


def _require_known(what: str, name: object, known: Iterable[str]) -> None:
    names = list(known)
    if name in names:
        return
    near = difflib.get_close_matches(str(name).lower(), names, n=1)
    listed = ", ".join(names) if len(names) < 20 else "see 'forexgpt features list'"
    hint = f"did you mean '{near[0]}'?" if near else f"known: {listed}" if names else "it takes none"
    raise BadInput(f"unknown {what} '{name}'; {hint}")


def _timeframes(where: str, value: object) -> tuple[Timeframe, ...]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(item, str) for item in value):
        raise BadInput(f"recipe {where} must be a list of one or more of {', '.join(Timeframe)}, was {value!r}")
    parsed = [Timeframe.parse(item) for item in value]
    if len(set(parsed)) != len(parsed):
        raise BadInput(f"recipe {where} name one twice: {', '.join(parsed)}")
    return _sorted(parsed)


def _pairs(where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise BadInput(f"recipe {where} must be a list of pairs such as [GBPUSD], was {value!r}")
    return tuple(sorted({instrument(item).symbol for item in value}))


def _coverage(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise BadInput(f"recipe min_coverage must be a number from 0 to 1, was {value!r}")
    return float(value)


def _sorted(frames: Iterable[Timeframe]) -> tuple[Timeframe, ...]:
    return tuple(sorted(frames, key=lambda t: t.seconds))
