"""From a source into the store: only what is missing is asked for, and each piece is kept before the next is asked for.

A run that is interrupted at any point, even killed, leaves what it had merged, and the next run goes on from there: to
merge a piece is one atomic commit, and to repeat it changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from forexgpt_core.candles.asking import HolePolicy, Slice, due, holes_within, remembered, requests_for, slices
from forexgpt_core.candles.cleaning import REASONS, Cleaned, clean
from forexgpt_core.candles.quality import QualityLimits, Verdict, judge
from forexgpt_core.candles.source import CandleSource, left_out
from forexgpt_core.candles.store import CANDLES, QUARANTINE_SCHEMA, CandleStore, Merged
from forexgpt_core.domain.bars import empty_bars
from forexgpt_core.domain.clock import Timeframe, from_utc, to_utc
from forexgpt_core.errors import NotReady

DEFAULT_HISTORY = timedelta(days=730)  # of a source that is asked piece by piece, where no start is set


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestTerms:
    """How a pair is ingested.

    Attributes:
        start_utc: from when on history is wanted; None for the source's beginning (two years where it is asked in
            pieces).
        hold_back_bars: newest bars of the source that are kept out of the store.
        origin: where rows in quarantine are said to come from.
        limits: of the quality gate.
        holes: how persistent to be about holes.
    """

    start_utc: datetime | None = None
    hold_back_bars: int = 0
    origin: str = ""
    limits: QualityLimits = field(default_factory=QualityLimits)
    holes: HolePolicy = field(default_factory=HolePolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Piece number `done` of `total` was merged; rows and bars count from the run's beginning."""

    done: int
    total: int
    what: str
    fetched_rows: int
    inserted: int


@dataclass(slots=True, kw_only=True)
class Ingested:
    """What one run did.

    Attributes:
        version: of the candle table; None where there is none.
        verdict: of all pieces together. Not passed: the last piece was refused, the ones before it are merged.
        refused: the piece that was refused, if one was.
        requests: how often the source was asked, `hole_requests` of them about holes.
        inserted, revised: see `store.Merged`.
        dropped: raw rows by the reason why they are no candles.
        left_out: what the source itself gave no bar for, by reason; see `source.left_out`.
        quarantined: rows that are new in quarantine.
        filled: bars inserted by asking about holes.
    """

    version: int | None = None
    verdict: Verdict = field(default_factory=lambda: Verdict(passed=True, rows=0, failures=(), figures={"rows": 0}))
    refused: str | None = None
    requests: int = 0
    hole_requests: int = 0
    fetched_rows: int = 0
    inserted: int = 0
    revised: int = 0
    filled: int = 0
    quarantined: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def refusal(self) -> str | None:
        """Return why the last piece was refused, in one line; None where nothing was."""
        if self.verdict.passed:
            return None
        reasons = "; ".join([*(failure.line for failure in self.verdict.failures), *self.verdict.warnings])
        before = f"the {self.inserted} bars merged before it are kept" if self.inserted else "nothing was merged"
        return f"{self.refused} refused, {before}: {reasons}" if self.refused else f"refused, {before}: {reasons}"


Progress = Callable[[Step], None]


def ingest(
    source: CandleSource | None,
    store: CandleStore,
    symbol: str,
    timeframe: Timeframe,
    terms: IngestTerms,
    *,
    now_utc: datetime | None = None,
    progress: Progress | None = None,
) -> Ingested:
    """Bring the store up to the source, and return what that changed.

    An archive is read whole. Any other source is asked for what is missing: from the newest stored bar on (that bar
    included, for it may have been revised), or from `terms.start_utc` where nothing is stored; then for the holes in
    what is stored, as often as `terms.holes` allows. Each piece is judged, cleaned and merged before the next one is
    asked for; what the cleaning drops goes to quarantine first. A stored bar that comes again with other values is
    replaced, and counted as revised.

    Args:
        source: where to ask; None where there is nowhere to ask.
        now_utc: the clock, by default the machine's; nothing that closes later is asked for.
        progress: told after each piece.

    Raises:
        NotReady: nothing is stored and the source has nothing.
        ForexGPTError: whatever the source raises; pieces merged before stay.
    """
    run = _Run(store, symbol, timeframe, terms, now_utc or datetime.now(UTC), progress)
    if source is not None and source.archive:
        run.whole(source)
    elif source is not None:
        run.newest(source)
        if run.done.verdict.passed:
            run.holes(source)
    run.done.left_out = {} if source is None else left_out(source)
    if run.done.verdict.passed and not store.exists(CANDLES, symbol, timeframe):
        raise NotReady(f"the source of {symbol} gave no bars")
    if store.exists(CANDLES, symbol, timeframe):
        run.done.version = store.candles_version(symbol, timeframe)
    return run.done


class _Run:
    """One ingestion: the steps share where they write and what they count."""

    def __init__(
        self,
        store: CandleStore,
        symbol: str,
        timeframe: Timeframe,
        terms: IngestTerms,
        now_utc: datetime,
        progress: Progress | None,
    ) -> None:
        self.store, self.symbol, self.timeframe, self.terms = store, symbol, timeframe, terms
        self.now, self.now_utc, self.progress = to_utc(now_utc), now_utc, progress
        self.done = Ingested()
        self._here = timeframe, self.now
        there = store.exists(CANDLES, symbol, timeframe)
        self.stored = store.candles(symbol, timeframe).select("ts_utc", "close") if there else None

    def whole(self, source: CandleSource) -> None:
        """Take an archive as it is; its age means nothing."""
        raw = source.fetch(self.symbol, self.timeframe, since_utc=None, until_utc=None)
        self.done.requests += 1
        if self.terms.hold_back_bars:
            raw = raw.head(-self.terms.hold_back_bars)
        stored = self.store.exists(CANDLES, self.symbol, self.timeframe)
        if raw.is_empty() and not stored:
            raise NotReady(f"the source of {self.symbol} gave no bars")
        limits = replace(self.terms.limits, least_rows=0 if stored else 1)
        self._take(raw, limits, what=f"the candles of {self.symbol}", clock=None)
        self._tell(1, 1, "all")

    def newest(self, source: CandleSource) -> None:
        """Ask from the newest stored bar up to now, piece by piece."""
        since = self.store.newest_candle(self.symbol, self.timeframe)
        asked, kept = self.store.asked_holes(self.symbol, self.timeframe), pl.DataFrame()
        pieces = self._pieces(source, since)
        for number, one in enumerate(pieces, 1):
            raw, last = self._ask(source, one), number == len(pieces)
            ready, kept = self._held_back(raw if kept.is_empty() else pl.concat([kept, raw]))
            clock = self.now_utc if last and not self.terms.hold_back_bars else None
            cleaned = self._take(ready, self._limits(), what=self._what(one), clock=clock)
            if cleaned is None:
                break
            if one is not None and not self.terms.hold_back_bars:
                asked = self._remember(asked, remembered(asked, one, cleaned.bars, *self._here, open_end=last))
            self._tell(number, len(pieces), "newest bars" if one is None else one.line)

    def holes(self, source: CandleSource) -> None:
        """Ask about the holes in what is stored that the source may fill."""
        if not self.store.exists(CANDLES, self.symbol, self.timeframe):
            return
        asked = self.store.asked_holes(self.symbol, self.timeframe)
        bars = self.store.candles(self.symbol, self.timeframe)
        self.stored = bars.select("ts_utc", "close")
        start = self._start() if self.terms.start_utc else bars["ts_utc"].to_numpy()[0].astype("datetime64[us]")
        holes = due(holes_within(bars, start, self.timeframe, source.chunk), asked, self.now, self.terms.holes)
        wanted = requests_for(holes, source.chunk, self.terms.holes)
        for number, one in enumerate(wanted, 1):
            before = self.done.inserted
            cleaned = self._take(self._ask(source, one), self._limits(), what=self._what(one), clock=None)
            self.done.hole_requests += 1
            if cleaned is None:
                break
            self.done.filled += self.done.inserted - before
            asked = self._remember(asked, remembered(asked, one, cleaned.bars, *self._here, open_end=False))
            self._tell(number, len(wanted), f"hole {one.line}")

    def _pieces(self, source: CandleSource, since: datetime | None) -> list[Slice | None]:
        """Return the requests up to now; None stands for everything the source has."""
        if since is not None:
            return [*slices(to_utc(since), max(self.now, to_utc(since) + np.timedelta64(1, "us")), source.chunk)]
        if self.terms.start_utc is None and source.chunk is None:
            return [None]
        return [*slices(self._start(), self.now, source.chunk)]

    def _start(self) -> np.datetime64:
        return to_utc(self.terms.start_utc or self.now_utc - DEFAULT_HISTORY)

    def _ask(self, source: CandleSource, one: Slice | None) -> pl.DataFrame:
        """Return what the source has of a slice."""
        self.done.requests += 1
        if one is None:
            return source.fetch(self.symbol, self.timeframe, since_utc=None, until_utc=self.now_utc)
        until = min(one.last_close(self.timeframe), self.now)
        if until <= one.start:  # nothing closes in it: a weekend, or the first moments of a month
            return empty_bars()
        return source.fetch(self.symbol, self.timeframe, since_utc=from_utc(one.start), until_utc=from_utc(until))

    def _held_back(self, raw: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the rows to take now, and the newest ones that wait for newer ones to come."""
        count = self.terms.hold_back_bars
        return (raw.head(-count), raw.tail(count)) if count else (raw, raw.head(0))

    def _take(self, raw: pl.DataFrame, limits: QualityLimits, *, what: str, clock: datetime | None) -> Cleaned | None:
        """Judge, clean and merge raw bars; return None where they are refused."""
        self.done.fetched_rows += raw.height
        verdict = judge(
            raw, self.timeframe, limits=limits, now_utc=clock, closed_by_utc=self.now_utc, stored=self.stored
        )
        self.done.verdict = together(self.done.verdict, self._with_holes_told(verdict, what))
        if not verdict.passed:
            self.done.refused = what
            return None
        cleaned = clean(raw, self.timeframe, now_utc=self.now_utc)
        for reason, count in cleaned.dropped.items():
            self.done.dropped[reason] += count
        if cleaned.aside.height:
            seen = cleaned.aside.with_columns(source=pl.lit(self.terms.origin), first_seen_utc=pl.lit(self.now_utc))
            rows = seen.cast(pl.Schema(QUARANTINE_SCHEMA))
            self.done.quarantined += self.store.quarantine(self.symbol, self.timeframe, rows)
        if cleaned.bars.height:
            self._count(self.store.merge(self.symbol, self.timeframe, cleaned.bars))
            self.stored = self._beside(cleaned.bars.select("ts_utc", "close"))
        return cleaned

    def _beside(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Return the stored closes after a merge; of a long download its newest piece says enough about the next."""
        if self.stored is None or self.stored["ts_utc"][-1] < bars["ts_utc"][0]:
            return bars
        return pl.concat([self.stored, bars]).unique("ts_utc", keep="last").sort("ts_utc")

    def _with_holes_told(self, verdict: Verdict, what: str) -> Verdict:
        """Return the verdict with a warning where a provider lacks more than the gate would let pass in a file."""
        missing, share = verdict.figures.get("missing_bars", 0), verdict.figures.get("gap_share", 0.0)
        limits = self.terms.limits
        if not verdict.passed or float(share) <= limits.gap_share or float(missing) <= limits.least_bars:
            return verdict
        told = f"{what} lack {missing} bars, {float(share):.0%} of those expected"
        return replace(verdict, warnings=(*verdict.warnings, told))

    def _count(self, merged: Merged) -> None:
        self.done.inserted += merged.inserted
        self.done.revised += merged.revised

    def _limits(self) -> QualityLimits:
        """Return the gate's limits for a piece of a provider's history.

        Nothing new is no fault, and a day's bars may be late whatever their length. Nor is a hole, however long beside
        a short piece: refusing it would only keep out the bars after it. Holes are counted and asked about again.
        """
        limits = self.terms.limits
        late = limits.max_stale_bars
        day = 86_400 // self.timeframe.seconds
        return replace(limits, least_rows=0, gap_share=1.0, max_stale_bars=None if late is None else max(late, day))

    def _remember(self, before: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
        """Keep and return what was asked in vain; piece by piece, for a run may end before its last one."""
        if not asked.equals(before):
            self.store.remember_asked(self.symbol, self.timeframe, asked)
        return asked

    def _what(self, one: Slice | None) -> str:
        return f"the candles of {self.symbol}" + ("" if one is None else f" from {one.line}")

    def _tell(self, done: int, total: int, what: str) -> None:
        if self.progress is not None:
            self.progress(
                Step(
                    done=done,
                    total=total,
                    what=what,
                    fetched_rows=self.done.fetched_rows,
                    inserted=self.done.inserted,
                )
            )


def together(first: Verdict, second: Verdict) -> Verdict:
    """Return one verdict on two pieces: counts are summed, shares and moves are the larger, times span both."""
    if not first.rows or not second.rows:
        later = second if second.rows or not first.rows or second.failures else first
        said = (*first.warnings, *second.warnings)
        return replace(later, rows=first.rows + second.rows, passed=first.passed and second.passed, warnings=said)
    return Verdict(
        passed=first.passed and second.passed,
        rows=first.rows + second.rows,
        failures=(*first.failures, *second.failures),
        figures={name: _joined(name, first.figures, second.figures) for name in {**first.figures, **second.figures}},
        warnings=(*first.warnings, *second.warnings),
    )


def _joined(name: str, first: dict[str, float | int | str], second: dict[str, float | int | str]) -> float | int | str:
    if name not in first or name not in second:
        return first[name] if name in first else second[name]
    a, b = first[name], second[name]
    if isinstance(a, str) or isinstance(b, str):
        return a if name == "first_utc" else b
    return max(a, b) if isinstance(a, float) or name.startswith("longest") or name == "stale_bars" else a + b
