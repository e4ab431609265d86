"""Which model families exist. A new family is one line here; its module is imported when it is asked for."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import cast

from forexgpt_core.errors import BadInput, UnknownName
from forexgpt_core.models.forecaster import Forecaster

FAMILIES: dict[str, str] = {
    "random_walk": "forexgpt_core.models.random_walk:RandomWalk",
    "linear": "forexgpt_core.models.linear:Linear",
    "forest": "forexgpt_core.models.forest:Forest",
    "boosting": "forexgpt_core.models.boosting:Boosting",
}


def forecaster_class(family: str) -> type[Forecaster]:
    """Return the class of `family`, importing its module.

    Raises:
        UnknownName: no family of that name.
    """
    if family not in FAMILIES:
        raise UnknownName(f"unknown model family '{family}'; known: {', '.join(FAMILIES)}")
    module, name = FAMILIES[family].split(":")
    return cast("type[Forecaster]", getattr(import_module(module), name))


def family_options(family: str) -> dict[str, object]:
    """Return the options of `family` with their defaults."""
    parameters = inspect.signature(forecaster_class(family)).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


def new_forecaster(family: str, options: Mapping[str, object] | None = None) -> Forecaster:
    """Return an unfitted model of `family`.

    Raises:
        UnknownName: no family of that name.
        BadInput: an option the family does not have, or a value it refuses.
    """
    known, given = family_options(family), dict(options or {})
    for name in given:
        if name not in known:
            raise BadInput(f"{family} has no option '{name}'; known: {', '.join(known)}")
    return forecaster_class(family)(**given)
