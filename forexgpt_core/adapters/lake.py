"""The lake: Delta tables of candles, features and everything else that is long, one per kind, symbol and timeframe.

Layout: `{root}/{kind}/{symbol}/{timeframe}`, where root is a folder or the address of an object store. Every change is
one atomic commit, every commit is a version that can be read again, and no version is ever cleaned away. Only what a
campaign tried and did not keep is removed, as a whole table.
"""

import random
import re
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import polars as pl

from forexgpt_core.candles.store import ASKED, ASKED_SCHEMA, CANDLES, QUARANTINE, QUARANTINE_SCHEMA, Merged
from forexgpt_core.domain.bars import OPTIONAL_SCHEMA, PRICES, SCHEMA, require_bars
from forexgpt_core.domain.clock import Timeframe, from_utc, to_utc
from forexgpt_core.domain.instruments import normalise_symbol
from forexgpt_core.errors import BadInput, NotReady, StaleVersion, StoreError, UnknownName

PARTITIONED = frozenset({CANDLES, "features"})  # long histories; the rest is small enough for one folder
REMOVABLE = "campaign_"  # beginning of the kinds whose tables may be removed
_MONTH = "month"
_KIND = re.compile(r"[a-z][a-z0-9_]{0,62}")
_ATTEMPTS = 20
_JITTER = random.SystemRandom()  # seeds that runs share must not make them wait alike
_Result = TypeVar("_Result")


class Lake:
    """All tables under one root. Safe for several processes at once: a lost race is run again on the newer version."""

    def __init__(self, root: str) -> None:
        """Remember where the lake is; nothing is read or created before a method is called."""
        self.root = root.rstrip("/") if len(root) > 1 else root

    # Candles ---------------------------------------------------------------------------------------------------------

    def merge_candles(self, symbol: str, timeframe: Timeframe, bars: pl.DataFrame) -> int:
        """Insert new bars, replace those that differ, and return the table's version.

        See `merge`.
        """
        return self.merge(symbol, timeframe, bars).version

    def merge(self, symbol: str, timeframe: Timeframe, bars: pl.DataFrame) -> Merged:
        """Insert new bars, replace those that differ, and return what that changed.

        Bars that are there already change nothing, and if nothing changes there is no new version. Two processes that
        merge at once lose nothing. Columns that the table lacks are added. Ask prices that `bars` lack are kept as
        long as the bid is the same, and become unknown with another bid: they were never quoted beside it. What a bar
        was before it was replaced stays readable at the version before.

        Args:
            bars: lawful bars (see `domain.bars`), ask prices optional.

        Raises:
            BadInput: the bars are not lawful, or there are none and no table either.
            StoreError: the lake cannot be written.
        """
        columns = [*SCHEMA, *(c for c in OPTIONAL_SCHEMA if c in bars.columns)]
        wanted = _with_month(require_bars(bars).select(columns))
        address = self._address(CANDLES, symbol, timeframe)
        if wanted.is_empty():
            if not self.exists(CANDLES, symbol, timeframe):
                raise BadInput(f"no bars of {symbol} {timeframe} to store: the table would be empty")
            return Merged(version=self.candles_version(symbol, timeframe), inserted=0, revised=0)
        return _retried(lambda: _merge_once(address, wanted), f"merge {symbol} {timeframe}")

    def candles(
        self, symbol: str, timeframe: Timeframe, *, version: int | None = None, until_utc: datetime | None = None
    ) -> pl.DataFrame:
        """Return the bars, oldest first, in the columns of `SCHEMA` and ask prices where there are any.

        Args:
            version: of the table; by default the newest.
            until_utc: leave out bars that close later.

        Raises:
            NotReady: there is no table yet.
            StoreError: the version does not exist or the table cannot be read.
        """
        rows = self._scan(CANDLES, symbol, timeframe, version)
        if until_utc is not None:
            last_open = pl.lit(to_utc(until_utc).astype(datetime)).dt.replace_time_zone("UTC")
            rows = rows.filter(pl.col("ts_utc") <= last_open - pl.duration(seconds=timeframe.seconds))
        bars = _collected(rows, f"read {CANDLES} of {symbol} {timeframe}")
        ask = [c for c in OPTIONAL_SCHEMA if c in bars.columns]
        return bars.select(*SCHEMA, *ask).sort("ts_utc")

    def candles_version(self, symbol: str, timeframe: Timeframe) -> int:
        """Return the newest version of the candle table, or raise NotReady."""
        return self.version(CANDLES, symbol, timeframe)

    def newest_candle(self, symbol: str, timeframe: Timeframe) -> datetime | None:
        """Return the open of the newest bar, None where there is none."""
        if not self.exists(CANDLES, symbol, timeframe):
            return None
        what = f"read {CANDLES} of {symbol} {timeframe}"
        months = _guarded(lambda: self._table(CANDLES, symbol, timeframe, None).partitions(), what)
        if not months:
            return None
        newest = max(part[_MONTH] for part in months)  # only this month's file is read
        rows = self._scan(CANDLES, symbol, timeframe, None).filter(pl.col(_MONTH) == newest)
        found: datetime | None = _collected(rows.select(pl.col("ts_utc").max()), what).item()
        return found

    # What ingestion knows beside the candles -------------------------------------------------------------------------

    def quarantine(self, symbol: str, timeframe: Timeframe, rows: pl.DataFrame) -> int:
        """Add rows that did not become candles, each once, and return how many were new.

        Rows are the same when everything but `source` and `first_seen_utc` is; the first of them stays.

        Args:
            rows: in the columns of `candles.store.QUARANTINE_SCHEMA`.

        Raises:
            StoreError: the lake cannot be written.
        """
        identity = [name for name in QUARANTINE_SCHEMA if name not in ("source", "first_seen_utc")]
        wanted = rows.select(list(QUARANTINE_SCHEMA)).unique(identity, keep="first", maintain_order=True)
        if wanted.is_empty():
            return 0
        address = self._address(QUARANTINE, symbol, timeframe)
        return _retried(lambda: _add_once(address, wanted, identity), f"quarantine rows of {symbol} {timeframe}")

    def quarantined(self, symbol: str, timeframe: Timeframe) -> pl.DataFrame:
        """Return the rows in quarantine, oldest first; none where there never were any."""
        if not self.exists(QUARANTINE, symbol, timeframe):
            return pl.DataFrame(schema=QUARANTINE_SCHEMA)
        return self.read(QUARANTINE, symbol, timeframe).select(list(QUARANTINE_SCHEMA))

    def asked_holes(self, symbol: str, timeframe: Timeframe) -> pl.DataFrame:
        """Return the holes the source was asked about in vain, in the columns of `candles.store.ASKED_SCHEMA`."""
        if not self.exists(ASKED, symbol, timeframe):
            return pl.DataFrame(schema=ASKED_SCHEMA)
        return self.read(ASKED, symbol, timeframe).sort("start_utc")

    def remember_asked(self, symbol: str, timeframe: Timeframe, holes: pl.DataFrame) -> None:
        """Make `holes` the whole memory. Of two writers at once one is forgotten, and its holes are asked again."""
        self.replace(ASKED, symbol, timeframe, holes.select(list(ASKED_SCHEMA)))

    # Any table -------------------------------------------------------------------------------------------------------

    def replace(
        self,
        kind: str,
        symbol: str,
        timeframe: Timeframe,
        table: pl.DataFrame,
        *,
        metadata: Mapping[str, str] | None = None,
        on_version: int | None = None,
    ) -> int:
        """Make `table` the whole content in one commit, columns included, and return the version.

        Delta knows no unsigned integers: they come back signed. Other types come back as they went in.

        Args:
            metadata: noted in the commit, for whoever reads the table's history.
            on_version: the newest version must still be this one, -1 for no table at all; by default it may be any.

        Raises:
            StaleVersion: it is another one.
            StoreError: the lake cannot be written.
        """
        address = self._address(kind, symbol, timeframe)
        partitioned = kind in PARTITIONED and "ts_utc" in table.columns
        content = _with_month(table) if partitioned else table
        return _retried(
            lambda: _overwrite_once(address, content, [_MONTH] if partitioned else None, metadata or {}, on_version),
            f"replace {kind} of {symbol} {timeframe}",
        )

    def replace_from(
        self,
        kind: str,
        symbol: str,
        timeframe: Timeframe,
        rows: pl.DataFrame,
        since_utc: datetime,
        *,
        metadata: Mapping[str, str] | None = None,
        on_version: int | None = None,
    ) -> int:
        """Put `rows` in the place of all rows of `since_utc` and later, in one commit, and return the version.

        Args:
            rows: in the columns of the table, none of them earlier than `since_utc`.
            on_version: the newest version must still be this one; by default it may be any.

        Raises:
            BadInput: other columns than the table's, or an earlier row.
            NotReady: there is no table yet.
            StaleVersion: the newest version is another one.
            StoreError: the lake cannot be written.
        """
        _table, what = self._table(kind, symbol, timeframe, None), f"extend {kind} of {symbol} {timeframe}"
        if tuple(rows.columns) != self.columns(kind, symbol, timeframe):
            raise BadInput(f"cannot {what}: the rows have other columns than the table")
        if early := rows.filter(pl.col("ts_utc") < since_utc).height:
            raise BadInput(f"cannot {what}: {early} rows lie before {since_utc}")
        address = self._address(kind, symbol, timeframe)
        content = _with_month(rows)
        return _retried(lambda: _overwrite_from(address, content, since_utc, metadata or {}, on_version), what)

    def read(self, kind: str, symbol: str, timeframe: Timeframe, *, version: int | None = None) -> pl.DataFrame:
        """Return a table as `replace` was given it, rows with a `ts_utc` sorted by it.

        Raises:
            NotReady: there is no table yet.
            StoreError: the version does not exist or the table cannot be read.
        """
        rows = _collected(self._scan(kind, symbol, timeframe, version), f"read {kind} of {symbol} {timeframe}")
        if kind in PARTITIONED:
            rows = rows.drop(_MONTH, strict=False)
        return rows.sort("ts_utc", maintain_order=True) if "ts_utc" in rows.columns else rows

    def columns(self, kind: str, symbol: str, timeframe: Timeframe) -> tuple[str, ...]:
        """Return the names of a table's columns, as `replace` was given them; raise NotReady where there is none."""
        names = self._scan(kind, symbol, timeframe, None).collect_schema().names()
        return tuple(name for name in names if name != _MONTH or kind not in PARTITIONED)

    def version(self, kind: str, symbol: str, timeframe: Timeframe) -> int:
        """Return the newest version of a table, or raise NotReady."""
        return int(self._table(kind, symbol, timeframe, None).version())

    def notes(self, kind: str, symbol: str, timeframe: Timeframe, version: int) -> dict[str, str]:
        """Return the metadata that `replace` was given for a version; empty where there was none.

        Raises:
            NotReady: there is no table yet.
            StoreError: the version does not exist or the table cannot be read.
        """
        table, what = self._table(kind, symbol, timeframe, None), f"the history of {kind} of {symbol} {timeframe}"
        commits = _guarded(lambda: table.history(table.version() - version + 1), f"read {what}")  # the newest first
        for commit in commits:
            if commit.get("version") == version:
                return {name: value for name, value in commit.items() if isinstance(value, str)}
        raise StoreError(f"{what} lacks version {version}; the newest is {table.version()}")

    def exists(self, kind: str, symbol: str, timeframe: Timeframe) -> bool:
        """Return whether there is a table."""
        from deltalake import DeltaTable

        address = self._address(kind, symbol, timeframe)
        return bool(_guarded(lambda: DeltaTable.is_deltatable(address), f"look for {kind} of {symbol} {timeframe}"))

    def compact(self, kind: str, symbol: str, timeframe: Timeframe) -> int:
        """Join the small files that many merges leave behind, and return the version; the content stays the same.

        Raises:
            NotReady: there is no table yet.
            StoreError: the lake cannot be written.
        """
        return _retried(
            lambda: _compact_once(self._table(kind, symbol, timeframe, None)), f"compact {kind} of {symbol} {timeframe}"
        )

    def remove(self, kind: str, symbol: str, timeframe: Timeframe) -> bool:
        """Remove a table with all its versions, and return whether there was one; safe to repeat.

        In a folder it is gone for readers at once. In an object store its log goes first, so that what is left of a
        removal that was stopped is no table, and goes with the next one.

        Raises:
            BadInput: tables of this kind are never removed, because runs and deployments name their versions.
            StoreError: it cannot be removed.
        """
        if not _kind(kind).startswith(REMOVABLE):
            raise BadInput(
                f"tables of kind '{kind}' are never removed, only those of kinds that begin with {REMOVABLE}"
            )
        address = self._address(kind, symbol, timeframe)
        existed, what = self.exists(kind, symbol, timeframe), f"remove {kind} of {symbol} {timeframe}"
        _guarded(lambda: _remove_objects(address) if "://" in address else _remove_folder(Path(address)), what)
        return existed

    def symbols(self, kind: str) -> list[str]:
        """Return the symbols that have a table of this kind, sorted."""
        return _guarded(lambda: sorted(_folders(f"{self.root}/{_kind(kind)}")), f"list the symbols of {kind}")

    # -----------------------------------------------------------------------------------------------------------------

    def _address(self, kind: str, symbol: str, timeframe: Timeframe) -> str:
        """Return where a table lies; every part is checked first, so no name can leave the root."""
        return f"{self.root}/{_kind(kind)}/{normalise_symbol(symbol)}/{Timeframe.parse(timeframe)}"

    def _table(self, kind: str, symbol: str, timeframe: Timeframe, version: int | None) -> Any:
        from deltalake import DeltaTable

        if not self.exists(kind, symbol, timeframe):
            raise NotReady(f"no {kind} for {symbol} {timeframe} yet: {_remedy(kind, symbol, timeframe)}")
        address = self._address(kind, symbol, timeframe)
        newest = _guarded(lambda: DeltaTable(address), f"open {kind} of {symbol} {timeframe}")
        if version is None or version == newest.version():
            return newest
        if not 0 <= version < newest.version():
            raise StoreError(
                f"{kind} of {symbol} {timeframe} has no version {version}; the newest is {newest.version()}"
            )
        return _guarded(
            lambda: DeltaTable(address, version=version), f"open version {version} of {kind} of {symbol} {timeframe}"
        )

    def _scan(self, kind: str, symbol: str, timeframe: Timeframe, version: int | None) -> pl.LazyFrame:
        table = self._table(kind, symbol, timeframe, version)
        return _guarded(lambda: pl.scan_delta(table), f"read {kind} of {symbol} {timeframe}")


def _kind(kind: str) -> str:
    if not _KIND.fullmatch(kind):
        raise UnknownName(
            f"'{kind}' is no kind of table: expected lower-case letters, digits and _, such as 'features'"
        )
    return kind


def _remedy(kind: str, symbol: str, timeframe: Timeframe) -> str:
    if kind == CANDLES:
        return f"run 'forexgpt candles import FILE --symbol {symbol} --timeframe {timeframe}' or materialize 'candles'"
    if kind == "features":
        return f"run 'forexgpt features build {symbol}'"
    if kind.startswith("forecasts_"):
        family = kind.removeprefix("forecasts_")
        return f"materialize {family if family == 'ensemble' else f'{family}_evaluation'} of {symbol}"
    return f"materialize '{kind}' of {symbol}"


def _with_month(rows: pl.DataFrame) -> pl.DataFrame:
    months = rows["ts_utc"].dt.truncate("1mo")  # a name per month is made once, not once per bar
    names = months.unique().to_frame("first").with_columns(pl.col("first").dt.strftime("%Y-%m").alias(_MONTH))
    named = rows.with_columns(months.alias("first")).join(names, on="first", how="left", maintain_order="left")
    return named.drop("first")


def _folders(address: str) -> list[str]:
    if "://" not in address:
        folder = Path(address)
        return [entry.name for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []
    from pyarrow import fs

    system, path = fs.FileSystem.from_uri(address)
    entries = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return [entry.base_name for entry in entries if entry.type == fs.FileType.Directory]


def _remove_folder(folder: Path) -> None:
    """Rename the table out of sight, delete it, and whatever an earlier removal that was stopped left behind."""
    hidden = f".removed_{folder.name}_"
    if folder.exists():
        folder.rename(folder.with_name(f"{hidden}{uuid4().hex}"))
    for left in folder.parent.glob(f"{hidden}*"):
        shutil.rmtree(left)
    for empty in (folder.parent, folder.parent.parent):  # those of the pair and of the kind
        if not empty.is_dir() or any(empty.iterdir()):
            return
        empty.rmdir()


def _remove_objects(address: str) -> None:
    from pyarrow import fs

    system, path = fs.FileSystem.from_uri(address)
    for part in (f"{path}/_delta_log", path):
        if system.get_file_info(part).type == fs.FileType.Directory:
            system.delete_dir(part)


# ---------------------------------------------------------------------------------------------------------------------
# Commits. Each attempt reads the newest version and commits the next one, or fails because somebody else did: no
# rebasing (max_commit_retries=0), so what was compared is what is changed. Old log entries are never cleaned away,
# because training runs name the versions they were made from.
# ---------------------------------------------------------------------------------------------------------------------


class _LostRace(Exception):
    """Another writer committed first."""


def _merge_once(address: str, wanted: pl.DataFrame) -> Merged:
    from deltalake import DeltaTable

    if not DeltaTable.is_deltatable(address):
        return Merged(version=_create(address, wanted, [_MONTH], {}), inserted=wanted.height, revised=0)
    table = DeltaTable(address)
    months = wanted[_MONTH].unique().to_list()
    stored = pl.scan_delta(table).filter(pl.col(_MONTH).is_in(months)).collect()
    columns = [c for c in wanted.columns if c != _MONTH]
    changed = wanted
    if all(c in stored.columns for c in columns):
        changed = wanted.join(stored.select(columns), on=columns, how="anti", nulls_equal=True)
    revised = changed.join(stored, on="ts_utc", how="semi").height
    inserted = changed.height - revised
    if revised == 0 and inserted and set(columns) <= set(stored.columns):
        return Merged(version=_append(table, changed), inserted=inserted, revised=0)  # no file is written again
    if changed.is_empty():
        return Merged(version=int(table.version()), inserted=0, revised=0)
    asks = [c for c in OPTIONAL_SCHEMA if c in stored.columns and c not in columns]
    if asks:  # those quoted beside the very same bid stay
        changed = changed.join(stored.select("ts_utc", *PRICES, *asks), on=["ts_utc", *PRICES], how="left")
        columns = [*columns, *asks]
    merge = table.merge(
        changed.to_arrow(),
        predicate=f"new.{_MONTH} = old.{_MONTH} AND new.ts_utc = old.ts_utc",
        source_alias="new",
        target_alias="old",
        merge_schema=True,
        commit_properties=_strict({}),
        post_commithook_properties=_keep_history(),
    )
    updates, inserts = ({c: f"new.{c}" for c in names} for names in (columns, changed.columns))
    merge.when_matched_update(updates).when_not_matched_insert(inserts).execute()
    return Merged(version=int(table.version()), inserted=inserted, revised=revised)


def _add_once(address: str, wanted: pl.DataFrame, identity: list[str]) -> int:
    from deltalake import DeltaTable

    if not DeltaTable.is_deltatable(address):
        _create(address, wanted, None, {})
        return wanted.height
    table = DeltaTable(address)
    stored = pl.scan_delta(table).select(identity).collect()
    new = wanted.join(stored, on=identity, how="anti", nulls_equal=True, maintain_order="left")
    if new.height:
        _append(table, new)
    return new.height


def _append(table: Any, rows: pl.DataFrame) -> int:
    from deltalake import write_deltalake

    write_deltalake(
        table,
        rows.to_arrow(),
        mode="append",
        schema_mode="merge",
        commit_properties=_strict({}),
        post_commithook_properties=_keep_history(),
    )
    return int(table.version())


def _overwrite_once(
    address: str,
    content: pl.DataFrame,
    partition_by: list[str] | None,
    metadata: Mapping[str, str],
    on_version: int | None,
) -> int:
    from deltalake import DeltaTable, write_deltalake

    if not DeltaTable.is_deltatable(address):
        return _create(address, content, partition_by, metadata)
    table = DeltaTable(address)
    _require_version(table, on_version)
    write_deltalake(
        table,
        content.to_arrow(),
        mode="overwrite",
        schema_mode="overwrite",
        partition_by=partition_by,
        commit_properties=_strict(metadata),
        post_commithook_properties=_keep_history(),
    )
    return int(table.version())


def _overwrite_from(
    address: str, rows: pl.DataFrame, since_utc: datetime, metadata: Mapping[str, str], on_version: int | None
) -> int:
    from deltalake import DeltaTable, write_deltalake

    table = DeltaTable(address)
    _require_version(table, on_version)
    moment = from_utc(to_utc(since_utc))
    write_deltalake(
        table,
        rows.to_arrow(),
        mode="overwrite",
        predicate=f"{_MONTH} >= '{moment:%Y-%m}' AND ts_utc >= '{moment:%Y-%m-%dT%H:%M:%SZ}'",
        commit_properties=_strict(metadata),
        post_commithook_properties=_keep_history(),
    )
    return int(table.version())


def _require_version(table: Any, wanted: int | None) -> None:
    """Refuse to write over what somebody else wrote since; the commit itself then loses no race unseen."""
    if wanted is not None and table.version() != wanted:
        raise StaleVersion(
            f"the table is at version {table.version()}, not at {wanted} as it was read: another run wrote it meanwhile"
            " and nothing was stored; run this again"
        )


def _compact_once(table: Any) -> int:
    table.optimize.compact(commit_properties=_strict({}), post_commithook_properties=_keep_history())
    return int(table.version())


def _create(address: str, content: pl.DataFrame, partition_by: list[str] | None, metadata: Mapping[str, str]) -> int:
    """Write version 0 with its content in one commit, so nobody ever reads an empty table that was just made."""
    from deltalake import DeltaTable, write_deltalake
    from deltalake.exceptions import DeltaError

    try:
        write_deltalake(
            address, content.to_arrow(), mode="error", partition_by=partition_by, commit_properties=_strict(metadata)
        )
    except DeltaError as error:
        if DeltaTable.is_deltatable(address):
            raise _LostRace from error
        raise
    return 0


def _strict(metadata: Mapping[str, str]) -> Any:
    from deltalake import CommitProperties

    return CommitProperties(custom_metadata=dict(metadata), max_commit_retries=0)


def _keep_history() -> Any:
    from deltalake import PostCommitHookProperties

    return PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)


def _retried(commit: Callable[[], _Result], what: str) -> _Result:
    """Run a commit until it wins; each attempt starts from the newest version.

    Raises:
        StoreError: it lost every race, or the store failed in another way.
    """
    from deltalake.exceptions import CommitFailedError

    for attempt in range(_ATTEMPTS):
        try:
            return _guarded(commit, what, passing=(CommitFailedError, _LostRace))
        except (CommitFailedError, _LostRace):
            time.sleep(_JITTER.uniform(0, 0.05 * min(attempt + 1, 10)))  # two losers must not meet again
    raise StoreError(f"cannot {what}: {_ATTEMPTS} attempts lost to other writers; try again when they are done")


def _guarded(action: Callable[[], _Result], what: str, *, passing: tuple[type[Exception], ...] = ()) -> _Result:
    """Return what `action` returns; whatever the store raises becomes one line."""
    from deltalake.exceptions import DeltaError

    try:
        return action()
    except passing:
        raise
    except (DeltaError, OSError, pl.exceptions.PolarsError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise StoreError(f"cannot {what}: {reason}") from error


def _collected(rows: pl.LazyFrame, what: str) -> pl.DataFrame:
    return _guarded(rows.collect, what)
