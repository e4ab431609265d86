"""What features read beside the pair's own candles: other pairs, and the economic calendar."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import polars as pl

from forexgpt_core.domain.bars import ASK_PRICES, PRICES
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

    def cut_off(self, newest_open_utc: datetime) -> "FeatureInputs":
        """Return the inputs without what became known after the bar of this open."""
        kept = {pair: bars.filter(pl.col("ts_utc") <= newest_open_utc) for pair, bars in self.pairs.items()}
        return replace(self, pairs=kept)

    def disturbed(self, newest_open_utc: datetime, rng: np.random.Generator, size: float) -> "FeatureInputs":
        """Return the inputs with everything changed that became known after the bar of this open."""
        changed = {
            pair: disturbed_bars(bars, int(bars["ts_utc"].search_sorted(newest_open_utc, side="right")), rng, size)
            for pair, bars in self.pairs.items()
        }
        return replace(self, pairs=changed)


def disturbed_bars(bars: pl.DataFrame, first: int, rng: np.random.Generator, size: float) -> pl.DataFrame:
    """Return lawful bars with each one from row `first` on moved by a random log factor of its own."""
    factors = np.ones(bars.height)
    factors[first:] = np.exp(rng.normal(0.0, size, max(bars.height - first, 0)))
    moved = [name for name in (*PRICES, *ASK_PRICES, "volume") if name in bars.columns]
    return bars.with_columns(pl.col(name) * pl.Series(factors) for name in moved)
