"""The stored feature table of a pair: what of it still stands, what must be built, and storing that.

A row depends on bars up to its own and on nothing later, so everything before the first bar that changed still stands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import polars as pl

from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.features.recipe import Recipe

KIND = "features"


class TableStore(Protocol):
    """What is asked of the lake; see `adapters.lake.Lake`."""

    def exists(self, kind: str, symbol: str, timeframe: Timeframe) -> bool:
        """Return whether there is a table."""
        ...

    def version(self, kind: str, symbol: str, timeframe: Timeframe) -> int:
        """Return the newest version."""
        ...

    def notes(self, kind: str, symbol: str, timeframe: Timeframe, version: int) -> dict[str, str]:
        """Return what was noted with a version."""
        ...

    def read(self, kind: str, symbol: str, timeframe: Timeframe, *, version: int | None = None) -> pl.DataFrame:
        """Return a table."""
        ...

    def columns(self, kind: str, symbol: str, timeframe: Timeframe) -> tuple[str, ...]:
        """Return the names of a table's columns."""
        ...

    def candles(self, symbol: str, timeframe: Timeframe, *, version: int | None = None) -> pl.DataFrame:
        """Return bars."""
        ...

    def candles_version(self, symbol: str, timeframe: Timeframe) -> int:
        """Return the newest version of the bars."""
        ...

    def replace(
        self, kind: str, symbol: str, timeframe: Timeframe, table: pl.DataFrame, *, metadata: Mapping[str, str] | None
    ) -> int:
        """Make `table` the whole content."""
        ...

    def replace_from(
        self,
        kind: str,
        symbol: str,
        timeframe: Timeframe,
        rows: pl.DataFrame,
        since_utc: datetime,
        *,
        metadata: Mapping[str, str] | None,
    ) -> int:
        """Put `rows` in the place of all later ones."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a feature table is built from.

    Attributes:
        candles: version of the pair's bars.
        pairs: versions of the bars of other pairs.
        events: state of the economic calendar, "" where it is not read.
        overridden: the recipe is this run's and not that of the pair's settings.
    """

    recipe: Recipe
    candles: int
    pairs: Mapping[str, int] = field(default_factory=dict)
    events: str = ""
    overridden: bool = False

    def notes(self) -> dict[str, str]:
        """Return the basis as notes of a commit."""
        return {
            "recipe": self.recipe.hash12,
            "recipe_json": self.recipe.to_json(),
            "candles_version": str(self.candles),
            "pairs": ",".join(f"{pair}={version}" for pair, version in sorted(self.pairs.items())),
            "events": self.events,
            "overridden": str(self.overridden),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be built.

    Attributes:
        since_utc: open of the first row to build; None for all of them.
        columns: of the stored table, where rows are added to it.
        why: in a few words.
    """

    since_utc: datetime | None
    columns: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureTable:
    """The feature table of one pair and timeframe in a store."""

    store: TableStore
    symbol: str
    timeframe: Timeframe

    def plan(self, basis: Basis, candles: pl.DataFrame) -> Plan | None:
        """Return what to build so that the table stands on `basis`; None where it does already.

        Args:
            candles: the pair's bars at `basis.candles`.
        """
        if not self.store.exists(KIND, self.symbol, self.timeframe):
            return Plan(since_utc=None, columns=(), why="there is no table yet")
        version = self.store.version(KIND, self.symbol, self.timeframe)
        notes, wanted = self.store.notes(KIND, self.symbol, self.timeframe, version), basis.notes()
        if wanted.items() <= notes.items():
            return None
        if "candles_version" not in notes or notes.get("recipe") != wanted["recipe"]:
            return Plan(since_utc=None, columns=(), why="the recipe changed")
        if notes.get("events") != wanted["events"]:
            return Plan(since_utc=None, columns=(), why="the economic calendar changed")
        before = {self.symbol: int(notes["candles_version"]), **_versions(notes["pairs"])}
        changes = [self._first_change(pair, before.get(pair), now) for pair, now in basis.pairs.items()]
        changes.append(first_change(self._bars(self.symbol, before[self.symbol]), candles))
        found = [moment for moment in changes if moment is not None]
        columns = self.store.columns(KIND, self.symbol, self.timeframe)
        if not found:
            return Plan(since_utc=candles["ts_utc"][-1], columns=columns, why="nothing changed but the versions")
        return Plan(since_utc=min(found), columns=columns, why=f"bars changed from {min(found):%Y-%m-%d %H:%M} on")

    def save(self, rows: pl.DataFrame, plan: Plan, basis: Basis) -> int:
        """Store what a plan asked for and return the version."""
        key = (KIND, self.symbol, self.timeframe)
        if plan.since_utc is None:
            return self.store.replace(*key, rows, metadata=basis.notes())
        return self.store.replace_from(*key, rows.select(plan.columns), plan.since_utc, metadata=basis.notes())

    def _first_change(self, pair: str, before: int | None, now: int) -> datetime | None:
        if before == now:
            return None
        new = self._bars(pair, now)
        return new["ts_utc"].min() if before is None else first_change(self._bars(pair, before), new)  # type: ignore[return-value]

    def _bars(self, pair: str, version: int) -> pl.DataFrame:
        return self.store.candles(pair, self.timeframe, version=version)


def first_change(old: pl.DataFrame, new: pl.DataFrame) -> datetime | None:
    """Return the open of the first bar that is new, gone or different; None where the tables are equal."""
    if old.columns != new.columns:
        return min((frame["ts_utc"][0] for frame in (old, new) if frame.height), default=None)
    rows = min(old.height, new.height)
    one, other = old.head(rows), new.head(rows)
    same = one.select(pl.all_horizontal(pl.col(name).eq_missing(other[name]) for name in old.columns)).to_series()
    differs = same.arg_min() if rows and not same.all() else None
    if differs is not None:
        return min(old["ts_utc"][differs], new["ts_utc"][differs])  # type: ignore[no-any-return]
    longer = old if old.height > rows else new
    return longer["ts_utc"][rows] if longer.height > rows else None


def well_covered(table: pl.DataFrame, summary: pl.DataFrame, least: float) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return the table without the columns that have a value in too few rows, and the names of those.

    Args:
        summary: of the table, from `quality.summarise_features`.
        least: share of rows that must have a value.
    """
    below: Sequence[str] = summary.filter(pl.col("finite_share") < least)["feature"].to_list()
    return table.drop(below), tuple(below)


def _versions(text: str) -> dict[str, int]:
    return {pair: int(version) for pair, version in (part.split("=") for part in text.split(",") if part)}
