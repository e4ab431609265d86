"""The stored feature table of a pair: what of it still stands, what must be built, and storing that.

A row depends on bars up to its own and on nothing later, so everything before the first bar that changed still stands.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

import polars as pl

from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import NotReady, StoreError
from forexgpt_core.features.recipe import Recipe

KIND = "features"
NO_TABLE = -1  # in place of a version
_NOTED = {"recipe", "candles_version", "pairs", "events", "left_out"}


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
        self,
        kind: str,
        symbol: str,
        timeframe: Timeframe,
        table: pl.DataFrame,
        *,
        metadata: Mapping[str, str] | None,
        on_version: int | None,
    ) -> int:
        """Make `table` the whole content; raise StaleVersion where its version is no longer `on_version`."""
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
        on_version: int | None,
    ) -> int:
        """Put `rows` in the place of all later ones; raise StaleVersion as `replace` does."""
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
        version: of the stored table that the plan is for, `NO_TABLE` where there is none.
        left_out: how many rows have a value, by column that the stored table does without.
    """

    since_utc: datetime | None
    columns: tuple[str, ...] = ()
    why: str
    version: int = NO_TABLE
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """Rows to be stored.

    Attributes:
        rows: in the columns of the table.
        left_out: how many rows have a value, by column that has one in too few.
    """

    plan: Plan
    rows: pl.DataFrame
    left_out: Mapping[str, int]


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
        key = (KIND, self.symbol, self.timeframe)
        if not self.store.exists(*key):
            return Plan(since_utc=None, why="there is no table yet")
        version = self.store.version(*key)
        notes, wanted = self.store.notes(*key, version), basis.notes()
        if wanted.items() <= notes.items():
            return None
        why = _reason_for_all(notes, wanted)
        plan = Plan(since_utc=None, why=why) if why else self._changed(notes, basis, candles)
        if plan.since_utc is None:
            return replace(plan, version=version)
        return replace(plan, version=version, columns=self.store.columns(*key), left_out=json.loads(notes["left_out"]))

    def build(self, plan: Plan, recipe: Recipe, rows: int, build: Callable[[datetime | None], pl.DataFrame]) -> Built:
        """Return what a plan asks for, without the columns that have a value in too few rows.

        Which those are is settled when all rows are built, and that is done again as soon as one of them may have
        enough. A column that is in stays in, whatever becomes of it, because models read it.

        Args:
            rows: of the whole table.
            build: returns the recipe's columns from a moment on, None for all rows; see `build.build_features`.

        Raises:
            NotReady: no column has a value in enough rows.
        """
        made = build(plan.since_utc)
        if plan.since_utc is not None:
            known = {name: plan.left_out.get(name, 0) + n for name, n in _known(made, plan.left_out).items()}
            enough = [name for name, n in known.items() if n >= recipe.min_coverage * rows]
            if not enough:
                return Built(plan=plan, rows=made.select(plan.columns), left_out=known)
            plan = replace(plan, since_utc=None, why=f"{_few(enough)} may have a value in enough rows by now")
            made = build(None)
        counts = _known(made, [name for name in made.columns if name != "ts_utc"])
        left_out = {name: n for name, n in counts.items() if n < recipe.min_coverage * rows}
        if len(left_out) == len(counts):
            raise NotReady(
                f"no feature of {self.symbol} has a value in {recipe.min_coverage:.0%} of its {rows} rows: import more"
                " candles, choose shorter timeframes, or lower the recipe's min_coverage"
            )
        return Built(plan=plan, rows=made.drop(left_out), left_out=left_out)

    def whole(self, built: Built) -> pl.DataFrame:
        """Return the table as it will be once `built` is saved."""
        since = built.plan.since_utc
        if since is None:
            return built.rows
        stored = self.store.read(KIND, self.symbol, self.timeframe, version=built.plan.version)
        return pl.concat([stored.filter(pl.col("ts_utc") < since), built.rows])

    def save(self, built: Built, basis: Basis) -> int:
        """Store what was built and return the version.

        Raises:
            StaleVersion: another run stored the table since the plan was made; nothing was stored.
        """
        key, plan = (KIND, self.symbol, self.timeframe), built.plan
        notes = {**basis.notes(), "left_out": json.dumps(dict(built.left_out), sort_keys=True)}
        if plan.since_utc is None:
            return self.store.replace(*key, built.rows, metadata=notes, on_version=plan.version)
        return self.store.replace_from(*key, built.rows, plan.since_utc, metadata=notes, on_version=plan.version)

    def _changed(self, notes: Mapping[str, str], basis: Basis, candles: pl.DataFrame) -> Plan:
        """Return what to build because bars changed."""
        before = {self.symbol: int(notes["candles_version"]), **_versions(notes["pairs"])}
        try:
            changes = [self._first_change(pair, before[pair], now) for pair, now in basis.pairs.items()]
            changes.append(first_change(self._bars(self.symbol, before[self.symbol]), candles))
        except StoreError:  # somebody removed the candles and began anew
            return Plan(since_utc=None, why="the bars of before can no longer be read")
        found = [moment for moment in changes if moment is not None]
        if not found:
            return Plan(since_utc=candles["ts_utc"][-1], why="nothing changed but the versions")
        since = min(found)
        if since <= candles["ts_utc"][0]:
            return Plan(since_utc=None, why="bars changed from the first one on")
        return Plan(since_utc=since, why=f"bars changed from {since:%Y-%m-%d %H:%M} on")

    def _first_change(self, pair: str, before: int, now: int) -> datetime | None:
        return None if before == now else first_change(self._bars(pair, before), self._bars(pair, now))

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


def _reason_for_all(notes: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """Return why no stored row stands any longer, "" where some may."""
    if not notes.keys() >= _NOTED:
        return "an earlier release stored the table"
    if notes["recipe"] != wanted["recipe"]:
        return "the recipe changed"
    return "the economic calendar changed" if notes["events"] != wanted["events"] else ""


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _known(table: pl.DataFrame, names: Iterable[str]) -> dict[str, int]:
    """Return how many rows have a value, by column."""
    counted = table.select(pl.col(name).is_finite().fill_null(False).sum().cast(pl.Int64) for name in names)
    return dict(counted.row(0, named=True)) if counted.width else {}


def _versions(text: str) -> dict[str, int]:
    return {pair: int(version) for pair, version in (part.split("=") for part in text.split(",") if part)}
