"""Which strategy settings a search may try."""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any, Self

import numpy as np

from forexgpt_core.errors import BadInput, UnknownName
from forexgpt_core.optimisation.goals import hint
from forexgpt_core.optimisation.space import Floats, spread
from forexgpt_core.strategy.config import StrategyConfig

Bounds = tuple[float, float]

_DECIMALS = {
    "entry_probability": 3,
    "stop_scales": 2,
    "take_profit_scales": 2,
    "size_fraction": 3,
    "trailing_scales": 2,
    "lots": 2,
}
_WHOLE = ("holding_limit_bars", "max_entries")
_CHOICES = {  # our name: name in StrategyConfig
    "horizons_bars": "horizon_bars",
    "cost_multiples": "cost_multiple",
    "sizings": "sizing",
    "opposite_exits": "opposite_exit",
}
_ORDER = (  # of the coordinates
    "horizons_bars",
    "entry_probability",
    "stop_scales",
    "take_profit_scales",
    "size_fraction",
    "holding_limit_bars",
    "cost_multiples",
    "trailing_scales",
    "sizings",
    "lots",
    "max_entries",
    "opposite_exits",
)
_MOST_VALUES = 100_000  # of one setting
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "volatility": {},
    "classic": {
        "entry_probability": (0.50, 0.70),
        "stop_scales": (1.0, 5.0),
        "take_profit_scales": (2.0, 10.0),
        "size_fraction": (0.05, 0.20),
        "holding_limit_bars": (1, 48),
        "distance_unit": "percent",
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """Bounds or choices of every field of StrategyConfig; a `Space` whose coordinates are the settings left open.

    Settings are tried on a grid (thousandths of a probability or of equity, hundredths of a scale or of a lot, whole
    bars), so that a search meets the same configuration again instead of a thousand neighbours that trade alike. Every
    value on the grid has the same share of its coordinate.

    Attributes:
        horizons_bars, cost_multiples, sizings, opposite_exits: values that may be chosen, in any order.
        entry_probability, stop_scales, take_profit_scales, size_fraction, holding_limit_bars, trailing_scales, lots,
            max_entries: (least, most), both included, with the meaning and unit of StrategyConfig; equal ends fix the
            setting and take its coordinate away.
        distance_unit: of stops, targets and trailing stops, see StrategyConfig.
    """

    horizons_bars: tuple[int, ...] = (6, 24)
    entry_probability: Bounds = (0.40, 0.65)
    stop_scales: Bounds = (0.5, 4.0)
    take_profit_scales: Bounds = (0.5, 6.0)
    size_fraction: Bounds = (0.02, 0.20)
    holding_limit_bars: tuple[int, int] = (1, 48)
    cost_multiples: tuple[float, ...] = (1.0,)
    distance_unit: str = "volatility"
    trailing_scales: Bounds = (0.0, 0.0)
    sizings: tuple[str, ...] = ("fraction",)
    lots: Bounds = (0.1, 0.1)
    max_entries: tuple[int, int] = (1, 1)
    opposite_exits: tuple[bool, ...] = (True,)

    def __post_init__(self) -> None:
        for name in _CHOICES:
            object.__setattr__(self, name, _choices(name, getattr(self, name)))
        for name in (*_DECIMALS, *_WHOLE):
            object.__setattr__(self, name, _bounds(name, getattr(self, name)))
        for name in _ORDER:  # a value that no strategy may have is refused here, in StrategyConfig's own words
            for end in _ends(getattr(self, name)):
                self._config({name: end})

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """Return a named space: "volatility", the default, or "classic", in per cent and hourly bars.

        Raises:
            UnknownName: there is no such preset, or a change names no setting of a strategy.
            BadInput: a changed value is not what its name needs.
        """
        if name not in PRESETS:
            raise UnknownName(f"unknown preset '{name}'{hint(name, PRESETS)}")
        return cls.parse({**PRESETS[name], **changes})

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Return the space written as a mapping, such as a YAML or JSON document; absent names keep their default.

        Args:
            document: settings by name; "preset" names the space whose values the absent names keep instead.

        Raises:
            UnknownName: a name is no setting of a strategy, or no preset.
            BadInput: a value is not what its name needs.
        """
        given = dict(document)
        if "preset" in given:
            return cls.preset(str(given.pop("preset")), **given)
        known = [f.name for f in fields(cls)]
        for name in given:
            if name not in known:
                raise UnknownName(f"unknown search setting '{name}'{hint(name, known)}")
        return cls(**given)

    def document(self) -> dict[str, Any]:
        """Return the space as plain JSON types, the inverse of `parse`."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @property
    def hash12(self) -> str:
        """Return the first 12 hex digits of the SHA-256 of the canonical JSON; equal spaces have equal ones."""
        return hashlib.sha256(json.dumps(self.document(), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def dimensions(self) -> int:
        """Return how many coordinates a point has: one for each setting left open, and one if there is none."""
        return max(len(_open(self)), 1)

    @property
    def steps(self) -> Floats:
        """Return (dimensions,) one over the number of values of each open setting."""
        return np.array([1 / len(values) for values in _open(self).values()] or [1.0])

    @property
    def size(self) -> int:
        """Return how many configurations the space has."""
        return math.prod(len(values) for values in _open(self).values())

    def decode(self, x: Floats) -> StrategyConfig:
        """Return the configuration at a point of the unit cube.

        Args:
            x: (dimensions,) in [0, 1]: the open settings, the horizon first, then in the order of StrategyConfig.
        """
        shares = zip(_open(self).items(), x.tolist())
        return self._config({n: values[min(int(s * len(values)), len(values) - 1)] for (n, values), s in shares})

    def encode(self, candidate: StrategyConfig) -> Floats:
        """Return the middle of the cell that holds the configuration, or of the nearest one between its bounds.

        Raises:
            BadInput: a setting of it is not in the space; the text names it.
        """
        for name in _ORDER:
            self._require_inside(name, getattr(candidate, _CHOICES.get(name, name)), candidate)
        if candidate.distance_unit != self.distance_unit:
            raise BadInput(
                f"configuration {candidate.hash12} measures distances in {candidate.distance_unit}, the space in"
                f" {self.distance_unit}"
            )
        cells = [_cell(values, getattr(candidate, _CHOICES.get(n, n))) for n, values in _open(self).items()]
        return np.array(cells or [0.5])

    def grid(self, count: int) -> list[StrategyConfig]:
        """Return `count` different configurations that cover the space (see `space.spread`), or all where it has less.

        Raises:
            BadInput: count is below 1.
        """
        if self.size > count:
            return spread(self.decode, self.dimensions, count)
        names = list(_open(self))
        return [self._config(dict(zip(names, values))) for values in itertools.product(*_open(self).values())]

    def _config(self, chosen: Mapping[str, Any]) -> StrategyConfig:
        values = {_CHOICES.get(n, n): chosen[n] if n in chosen else getattr(self, n)[0] for n in _ORDER}
        return StrategyConfig(distance_unit=self.distance_unit, **values)  # type: ignore[arg-type]  # it checks

    def _require_inside(self, name: str, value: Any, candidate: StrategyConfig) -> None:
        allowed = getattr(self, name)
        if value not in allowed if name in _CHOICES else not allowed[0] <= value <= allowed[1]:
            shown = ", ".join(map(str, allowed)) if name in _CHOICES else f"{allowed[0]} to {allowed[1]}"
            raise BadInput(f"configuration {candidate.hash12} has {name} {value}, outside of the space's {shown}")


@lru_cache(maxsize=64)
def _open(space: SearchSpace) -> dict[str, tuple[Any, ...]]:
    """Return the values of every setting that has more than one, in the order of the coordinates."""
    every = {name: _values(name, getattr(space, name)) for name in _ORDER}
    return {name: values for name, values in every.items() if len(values) > 1}


def _values(name: str, allowed: tuple[Any, ...]) -> tuple[Any, ...]:
    if name in _CHOICES:
        return allowed
    least, most = allowed
    if name in _WHOLE:
        return tuple(range(least, most + 1))
    decimals = _DECIMALS[name]
    ticks = range(math.ceil(round(least * 10**decimals, 6)), math.floor(round(most * 10**decimals, 6)) + 1)
    return tuple(sorted({least, most, *(round(tick / 10**decimals, decimals) for tick in ticks)}))


def _cell(values: tuple[Any, ...], value: Any) -> float:
    index = values.index(value) if value in values else min(range(len(values)), key=lambda i: abs(values[i] - value))
    return (index + 0.5) / len(values)


def _ends(allowed: tuple[Any, ...]) -> tuple[Any, ...]:
    return allowed if isinstance(allowed[0], str | bool) else (min(allowed), max(allowed))


def _choices(name: str, given: Any) -> tuple[Any, ...]:
    """Return the choices in order, so that the same ones are the same space."""
    what, fits, kind = _KINDS[name]
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(map(fits, given)):
        raise BadInput(f"{name} must be a list of {what}, was {given!r}")
    if name == "horizons_bars":
        _require_whole(name, given)
    chosen = tuple(sorted(map(kind, given)))
    if not chosen or len(set(chosen)) != len(chosen):
        one = "horizon" if name == "horizons_bars" else "choice"
        raise BadInput(f"{name} must name at least one {one}, each once, was {given}")
    return chosen


def _bounds(name: str, given: Any) -> tuple[Any, Any]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise BadInput(f"a search space needs lists of numbers: {name} must be (least, most), was {given!r}")
    if len(given) != 2 or not all(map(_is_number, given)) or not given[0] <= given[1]:
        raise BadInput(f"{name} must be (least, most), finite numbers with least <= most, was {given}")
    if name in _WHOLE:
        _require_whole(name, given)
    if (given[1] - given[0]) * 10 ** _DECIMALS.get(name, 0) > _MOST_VALUES:
        raise BadInput(f"{name} from {given[0]} to {given[1]} has over {_MOST_VALUES} values to try: narrow it")
    kind = int if name in _WHOLE else float
    return kind(given[0]) + 0, kind(given[1]) + 0  # no -0.0: equal spaces have equal hashes


def _require_whole(name: str, given: Sequence[Any]) -> None:
    if any(int(one) != one for one in given):
        raise BadInput(f"{name} must be whole numbers, was {given}")


def _is_number(one: object) -> bool:
    return isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one)


def _is_text(one: object) -> bool:
    return isinstance(one, str)


def _is_flag(one: object) -> bool:
    return isinstance(one, bool)


_KINDS: dict[str, tuple[str, Callable[[object], bool], Callable[[Any], Any]]] = {
    "horizons_bars": ("numbers", _is_number, int),
    "cost_multiples": ("numbers", _is_number, float),
    "sizings": ("names", _is_text, str),
    "opposite_exits": ("true or false", _is_flag, bool),
}
