"""What features read beside the pair's own candles: other pairs, and the economic calendar."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from forexgpt_core.errors import NotReady
from forexgpt_core.features.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureInputs:
    """Other sources of features.

    Attributes:
        symbol: the pair that features are built for.
        pairs: lawful bars of other pairs, of the base timeframe, by symbol; what is not there is undefined.
        events: the economic calendar (see `domain.events`), or None.
    """

    symbol: str = ""
    pairs: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    events: pl.DataFrame | None = None

    def require(self, recipe: Recipe) -> None:
        """Refuse a recipe that reads what is not here.

        Raises:
            NotReady: another pair's candles or the calendar are missing.
        """
        if missing := [pair for pair in recipe.pairs if pair not in self.pairs]:
            raise NotReady(
                f"the recipe reads {', '.join(missing)}, of which there are no candles: import or fetch them"
            )
        if "events" in recipe.needs and self.events is None:
            raise NotReady("the recipe reads the economic calendar, which is empty: run 'forexgpt events import FILE'")
