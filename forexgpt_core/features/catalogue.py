"""Every indicator by name. Importing it imports TA-Lib and the compiled kernels, so it is imported on use.

Other packages add indicators under the entry-point group `forexgpt.indicators`: each entry is a
`forexgpt_core.features.indicator.Family`.
"""

from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from forexgpt_core.errors import BadInput
from forexgpt_core.features.indicator import Family, Indicator
from forexgpt_core.features.indicators import (
    clock,
    cross,
    events,
    momentum,
    returns,
    shape,
    spread,
    statistics,
    trend,
    volatility,
    volume,
)

GROUP = "forexgpt.indicators"
OWN: tuple[Family, ...] = tuple(
    module.FAMILY
    for module in (clock, shape, returns, volatility, momentum, trend, volume, statistics, cross, spread, events)
)


@cache
def indicators() -> dict[str, Indicator]:
    """Return every indicator by name, in the order in which columns are built: ours, then those of other packages.

    Raises:
        BadInput: two of them share a name, or an entry point cannot be loaded or is no family of indicators.
    """
    return merged([*OWN, *(_loaded(point) for point in sorted(entry_points(group=GROUP), key=lambda p: p.name))])


def _loaded(point: EntryPoint) -> object:
    try:
        return point.load()
    except Exception as error:  # whatever another package does when it is imported
        package = point.dist.name if point.dist else point.module
        raise BadInput(
            f"the package '{package}' adds indicators by '{point.value}', which cannot be loaded"
            f" ({type(error).__name__}: {error}): mend or uninstall it"
        ) from error


def merged(families: Iterable[object]) -> dict[str, Indicator]:
    """Return the indicators of families by name; see `indicators`."""
    found: dict[str, Indicator] = {}
    for family in families:
        if not isinstance(family, Family):
            raise BadInput(f"an entry of '{GROUP}' is {type(family).__name__}, expected a Family of indicators")
        for member in family.members:
            if member.name in found:
                raise BadInput(
                    f"two indicators are named '{member.name}': of {found[member.name].family} and {family.name}"
                )
            found[member.name] = member
    return found
