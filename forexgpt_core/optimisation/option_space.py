"""Which options of a model family a search may try: declared here for every family, changed by whoever searches."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from forexgpt_core.errors import BadInput
from forexgpt_core.models.catalogue import family_options, new_forecaster
from forexgpt_core.optimisation.optuna_study import quiet_optuna


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """A number with both ends included, tried to four digits.

    Attributes:
        log: whether its order of magnitude matters more than its size.
    """

    least: float
    most: float
    log: bool = False
    whole: bool = False

    def distribution(self) -> Any:
        """Return it as Optuna's."""
        made = quiet_optuna().distributions
        if self.whole:
            return made.IntDistribution(int(self.least), int(self.most), log=self.log)
        return made.FloatDistribution(self.least, self.most, log=self.log)

    def ends(self) -> tuple[object, object]:
        """Return the least and the most."""
        return self.value(self.least), self.value(self.most)

    def value(self, drawn: Any) -> object:
        """Return what the family is handed."""
        return int(drawn) if self.whole else min(max(float(f"{drawn:.4g}"), self.least), self.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOf:
    """One of some values without an order."""

    values: tuple[str | int | float | bool, ...]

    def distribution(self) -> Any:
        """Return it as Optuna's."""
        return quiet_optuna().distributions.CategoricalDistribution(self.values)

    def ends(self) -> tuple[object, ...]:
        """Return all of them."""
        return self.values

    def value(self, drawn: Any) -> object:
        """Return what the family is handed."""
        return drawn


Freedom = Between | OneOf

_CAUTION = Between(least=0.5, most=2.5)  # how much the family asks of a candidate before it believes it
SPACES: dict[str, dict[str, Freedom]] = {
    "linear": {
        "penalty": OneOf(values=("ridge", "lasso", "elastic_net")),
        "pca_components": Between(least=0, most=16, whole=True),
        "caution": _CAUTION,
    },
    "forest": {
        "trees": Between(least=25, most=200, log=True, whole=True),
        "max_depth": Between(least=2, most=10, whole=True),
        "leaf_share": Between(least=0.005, most=0.1, log=True),
        "caution": _CAUTION,
    },
    "boosting": {
        "rounds": Between(least=20, most=200, log=True, whole=True),
        "learning_rate": Between(least=0.02, most=0.3, log=True),
        "max_depth": Between(least=1, most=6, whole=True),
        "leaf_share": Between(least=0.02, most=0.3, log=True),
        "caution": _CAUTION,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionSpace:
    """The options of one family that a search tries, and those it leaves as they are.

    Attributes:
        fixed: options in use now; those that are not searched stay, and all of them together are what is to be beaten.
    """

    family: str
    searched: Mapping[str, Freedom]
    fixed: Mapping[str, object] = field(default_factory=dict)

    def distributions(self) -> dict[str, Any]:
        """Return Optuna's distribution of every option searched."""
        return {name: freedom.distribution() for name, freedom in self.searched.items()}

    def options(self, params: Mapping[str, Any]) -> dict[str, object]:
        """Return the options that these draws make, the fixed ones among them."""
        return {**self.fixed, **{name: self.searched[name].value(drawn) for name, drawn in params.items()}}

    def document(self) -> dict[str, Any]:
        """Return the space as plain JSON types, the bounds as lists."""
        return {
            "family": self.family,
            "searched": {name: list(freedom.ends()) for name, freedom in self.searched.items()},
            "fixed": dict(self.fixed),
        }


def option_space(
    family: str, *, changes: Mapping[str, Any] | None = None, fixed: Mapping[str, object] | None = None
) -> OptionSpace:
    """Return the space of a family, narrowed or widened by option.

    Args:
        changes: [least, most] of a number, a list of values of a choice, or one value that is not searched.
        fixed: options in use now.

    Raises:
        UnknownName: no family of that name.
        BadInput: nothing of the family can be searched, it has no such option, the least exceeds the most, or the
            family refuses an end.
    """
    known = family_options(family)
    if family not in SPACES:
        raise BadInput(f"{family} has no options to search; families that have: {', '.join(SPACES)}")
    searched, held = dict(SPACES[family]), dict(fixed or {})
    for name, bounds in (changes or {}).items():
        if name not in searched:
            hint = "is not searched" if name in known else "does not exist"
            raise BadInput(f"the option '{name}' of {family} {hint}; searched: {', '.join(SPACES[family])}")
        if isinstance(bounds, str) or not isinstance(bounds, Sequence):
            held[name] = bounds
            del searched[name]
        else:
            searched[name] = _changed(f"{family}.{name}", searched[name], bounds)
    if not searched:
        raise BadInput(f"every option of {family} is fixed, which leaves nothing to search")
    space = OptionSpace(family=family, searched=searched, fixed=held)
    _require_lawful(space)
    return space


def _changed(name: str, usual: Freedom, bounds: Sequence[Any]) -> Freedom:
    if isinstance(usual, OneOf):
        if not bounds or len(set(bounds)) != len(bounds):
            raise BadInput(f"{name} must list values, each once, was {list(bounds)}")
        return OneOf(values=tuple(bounds))
    numbers = [b for b in bounds if isinstance(b, int | float) and not isinstance(b, bool) and math.isfinite(b)]
    if len(bounds) != 2 or len(numbers) != 2 or not bounds[0] <= bounds[1]:
        raise BadInput(f"{name} must be [least, most] with least <= most, was {list(bounds)}")
    if usual.whole and any(int(bound) != bound for bound in bounds):
        raise BadInput(f"{name} must be whole numbers, was {list(bounds)}")
    if usual.log and not bounds[0] > 0:
        raise BadInput(f"{name} must begin above 0, was {list(bounds)}")
    return Between(least=bounds[0], most=bounds[1], log=usual.log, whole=usual.whole)


def _require_lawful(space: OptionSpace) -> None:
    """Let the family itself judge what is fixed, and every end of what is searched."""
    new_forecaster(space.family, space.fixed)
    for name, freedom in space.searched.items():
        for end in freedom.ends():
            new_forecaster(space.family, {**space.fixed, name: end})
