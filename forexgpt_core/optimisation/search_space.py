"""Which strategy settings a search may try."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.errors import BadInput, UnknownName
from forexgpt_core.strategy.config import StrategyConfig

Bounds = tuple[float, float]

_DECIMALS = {"entry_probability": 3, "stop_scales": 2, "take_profit_scales": 2, "size_fraction": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """Bounds of every field of StrategyConfig, both ends included.

    Settings are tried on a grid (thousandths of a probability or of equity, hundredths of a scale, whole bars), so
    that a search meets the same configuration again instead of a thousand neighbours that trade alike.

    Attributes:
        horizons_bars: forecast horizons that may decide, in any order.
        entry_probability, stop_scales, take_profit_scales, size_fraction, holding_limit_bars: (least, most), with
            the meaning and unit of StrategyConfig; equal ends fix the setting.
    """

    horizons_bars: tuple[int, ...] = (6, 24)
    entry_probability: Bounds = (0.40, 0.65)
    stop_scales: Bounds = (0.5, 4.0)
    take_profit_scales: Bounds = (0.5, 6.0)
    size_fraction: Bounds = (0.02, 0.20)
    holding_limit_bars: tuple[int, int] = (1, 48)

    def __post_init__(self) -> None:
        if not self.horizons_bars or len(set(self.horizons_bars)) != len(self.horizons_bars):
            raise BadInput(f"horizons_bars must name at least one horizon, each once, was {self.horizons_bars}")
        for name in self._ranges():
            bounds = getattr(self, name)
            if len(bounds) != 2 or not bounds[0] <= bounds[1]:
                raise BadInput(f"{name} must be (least, most) with least <= most, was {bounds}")
        if any(int(bound) != bound for bound in self.holding_limit_bars):
            raise BadInput(f"holding_limit_bars must be whole numbers, was {self.holding_limit_bars}")
        for end in (0, 1):  # a bound that no strategy may have is refused here, in StrategyConfig's own words
            for horizon in self.horizons_bars:
                self._corner(end, horizon)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Return the space written as a mapping, such as a YAML or JSON document; absent names keep their default.

        Raises:
            UnknownName: a name is no setting of a strategy.
            BadInput: a value is not what its name needs.
        """
        known = [f.name for f in fields(cls)]
        for name in document:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
                raise UnknownName(f"unknown search setting '{name}'{hint}")
        try:
            return cls(**{name: tuple(values) for name, values in document.items()})
        except TypeError as error:
            raise BadInput(f"a search space needs lists of numbers, got {dict(document)}") from error

    def document(self) -> dict[str, list[float]]:
        """Return the space as JSON-safe lists, the inverse of `parse`."""
        return {name: list(values) for name, values in asdict(self).items()}

    @property
    def dimensions(self) -> int:
        """Return how many coordinates `config` reads."""
        return 1 + len(self._ranges())

    def config(self, x: NDArray[np.float64]) -> StrategyConfig:
        """Return the configuration at a point of the unit cube.

        Args:
            x: (dimensions,) in [0, 1]: the horizon, then the other settings in the order of StrategyConfig.
        """
        horizons = sorted(self.horizons_bars)
        chosen = horizons[min(int(x[0] * len(horizons)), len(horizons) - 1)]
        values = {name: self._at(name, float(share)) for name, share in zip(self._ranges(), x[1:])}
        limit = round(values.pop("holding_limit_bars"))
        return StrategyConfig(horizon_bars=chosen, holding_limit_bars=limit, **values)  # type: ignore[arg-type]

    def _at(self, name: str, share: float) -> float:
        least, most = getattr(self, name)
        value = round(least + share * (most - least), _DECIMALS.get(name, 0))
        return float(min(max(value, least), most))

    def _corner(self, end: int, horizon: int) -> StrategyConfig:
        corner = {name: getattr(self, name)[end] for name in self._ranges()}
        return StrategyConfig(horizon_bars=horizon, **corner)

    @staticmethod
    def _ranges() -> tuple[str, ...]:
        return ("entry_probability", "stop_scales", "take_profit_scales", "size_fraction", "holding_limit_bars")
