"""What features read beside the pair's own candles: other pairs, and the economic calendar."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import polars as pl

from forexgpt_core.errors import BadInput, NotReady
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
            BadInput: it names the pair itself among the other pairs.
            NotReady: another pair's candles or the calendar are missing.
        """
        if self.symbol in recipe.pairs:
            raise BadInput(
                f"the recipe of {self.symbol} names {self.symbol} itself among the other pairs: leave it out"
            )
        if missing := [pair for pair in recipe.pairs if pair not in self.pairs]:
            raise NotReady(
                f"the recipe reads {', '.join(missing)}, of which there are no candles: import or fetch them"
            )
        if "events" in recipe.needs and self.events is None:
            raise NotReady("the recipe reads the economic calendar, which is empty: run 'forexgpt events import FILE'")

    def cut_off(self, moment: datetime) -> "FeatureInputs":
        """Return the inputs without what was not known at a moment."""
        pairs = {pair: bars.filter(pl.col("ts_utc") < moment) for pair, bars in self.pairs.items()}
        return replace(
            self, pairs=pairs, events=None if self.events is None else _without_outcomes(self.events, moment)
        )

    def disturbed(self, moment: datetime, rng: np.random.Generator, size: float) -> "FeatureInputs":
        """Return the inputs with everything changed that was not known at a moment."""
        pairs = {
            pair: disturbed_bars(bars, int(bars["ts_utc"].search_sorted(moment)), rng, size)
            for pair, bars in self.pairs.items()
        }
        return replace(self, pairs=pairs, events=None if self.events is None else _other_events(self.events, moment))


def _without_outcomes(events: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    """Return what was announced by a moment, without the outcomes that were not out."""
    out = pl.col("released_utc") <= moment
    hidden = ("actual", "actual_text", "released_utc")
    known = events.filter(pl.col("announced_utc") <= moment)
    return known.with_columns(pl.when(out).then(pl.col(name)) for name in hidden)


def _other_events(events: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    """Return the calendar with every later announcement moved by an hour, and every later outcome multiplied."""
    later, to_come = pl.col("announced_utc") > moment, pl.col("released_utc") > moment
    return events.with_columns(
        scheduled_utc=pl.when(later).then(pl.col("scheduled_utc") + pl.duration(hours=1)).otherwise("scheduled_utc"),
        actual=pl.when(later | to_come).then(pl.col("actual") * 3 + 1).otherwise("actual"),
    )


def disturbed_bars(bars: pl.DataFrame, first: int, rng: np.random.Generator, size: float) -> pl.DataFrame:
    """Return lawful bars, those from row `first` on changed at random: their level, shape, spread and volume."""
    later = max(bars.height - first, 0)
    level, body, spread, volume = np.exp(rng.normal(0.0, size, (4, later)))
    spread = np.maximum(spread, 1 / spread)
    wick = np.maximum(body, 1 / body) * (1 + 1e-9)  # a hair more than the body, which rounding may lengthen
    prices = {"open": level * body, "high": level * wick, "low": level / wick, "close": level}
    factors = {**prices, **{f"ask_{name}": by * spread for name, by in prices.items()}, "volume": volume}
    return bars.with_columns(
        pl.col(name) * pl.Series(np.concatenate([np.ones(bars.height - later), by]))
        for name, by in factors.items()
        if name in bars.columns
    )
