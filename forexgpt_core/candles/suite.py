"""The Great Expectations suite over candles: one list of laws, and what each failure says.

However long the history, the suite sees one row: under the name of each law how many columns, rows or bars offend.
Polars counts and finds the examples; Great Expectations decides. It is imported on use because that takes seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from forexgpt_core.candles.expectations import Expect, broken_laws
from forexgpt_core.candles.measures import Measures
from forexgpt_core.domain.bars import ASK_PRICES, PRICES, SCHEMA

_KNOWN = (*SCHEMA, *ASK_PRICES)
_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The tolerances the laws refer to; see `quality.QualityLimits`."""

    shares: dict[str, float]
    least_rows: int
    least_bars: int
    spike: float
    absurd: float
    max_stale_bars: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An expectation that did not hold.

    Attributes:
        expectation: one of EXPECTATIONS.
        column: the column it is about.
        wanted: what was expected, as the end of the sentence "{column} must …".
        unexpected: rows (or bars) against it, of `rows`.
        limit: how many of them are tolerated.
        examples: the first few offenders.
    """

    expectation: str
    column: str
    wanted: str
    unexpected: int
    rows: int
    limit: float
    examples: tuple[str, ...]

    @property
    def line(self) -> str:
        """Return one sentence a person can act upon."""
        if self.expectation == _SOME_ROWS.name:
            return f"{self.column} must {self.wanted}; it has {self.rows}"
        tolerated = f"{self.limit:.1f}".removesuffix(".0")
        examples = f": {'; '.join(self.examples)}" if self.examples else ""
        count = f"{self.unexpected} of {self.rows} do not, {tolerated} tolerated"
        return f"{self.column} must {self.wanted}; {count}{examples}"


def _count_at_most(law: "_Law", gx: Any, most: float) -> Any:
    """Expect that the view's one row counts `most` offenders or fewer."""
    return gx.ExpectColumnMaxToBeBetween(column=law.name, max_value=most)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Law:
    """One expectation.

    Attributes:
        expect: builds it from the expectations module, the number of rows (or bars) tolerated and the terms; by default
            it bounds the number of offenders.
        share: name of the share of rows tolerated; "" for none.
        least: whether Terms.least_bars are tolerated in any case.
        few: so many are tolerated in any case.
        bad: finds the offending rows.
    """

    name: str
    column: str
    wanted: str  # may name a term in braces
    expect: Callable[[Any, float, Terms], Any] | None = None
    share: str = ""
    least: bool = False
    few: int = 0
    bad: Callable[[Terms], pl.Expr] | None = None

    def tolerated(self, terms: Terms, of: int) -> float:
        """Return how many of `of` rows may offend."""
        return max(terms.shares.get(self.share, 0.0) * of, float(terms.least_bars if self.least else self.few))

    def stated(self, most: float, terms: Terms) -> Expect:
        """Return how to put the law to Great Expectations."""
        return lambda gx: self.expect(gx, most, terms) if self.expect else _count_at_most(self, gx, most)


def _given(column: str) -> _Law:
    return _Law(
        name=f"{column}_given",
        column=column,
        wanted="be given",
        share="null",
        bad=lambda terms: pl.col(column).is_null(),
    )


def _positive(column: str) -> _Law:
    return _Law(
        name=f"{column}_positive",
        column=column,
        wanted="be finite and above 0",
        share="impossible",
        bad=lambda terms: ~pl.col(column).is_between(0, 1e12, closed="right"),
    )


def _bounded_move(name: str, share: str, bound: Callable[[Terms], float]) -> _Law:
    return _Law(
        name=name,
        column="move",
        wanted=f"stay below {{{share or 'absurd'}:.3g}}, as |log return| or log(high / low)",
        share=share,
        bad=lambda terms: pl.col("move") > bound(terms),
    )


_COLUMN_LAWS = (
    _Law(
        name="columns_complete",
        column="column",
        wanted=f"include {', '.join(SCHEMA)}",
    ),
    _Law(
        name="columns_known",
        column="column",
        wanted=f"be one of {', '.join(_KNOWN)}",
    ),
)
_SOME_ROWS = _Law(
    name="some_rows",
    column="table",
    wanted="hold {least_rows} bars or more",
    expect=lambda gx, most, terms: gx.ExpectColumnMinToBeBetween(column="some_rows", min_value=terms.least_rows),
)
_ROW_LAWS = (
    _SOME_ROWS,
    *(_given(column) for column in ("ts_utc", *PRICES)),
    *(_positive(column) for column in PRICES),
    _Law(
        name="ohlc_ordered",
        column="bar",
        wanted="satisfy low <= open, close <= high",
        share="impossible",
        bad=lambda terms: pl.col("ohlc_margin") < 0,
    ),
    _Law(
        name="volume_counts",
        column="volume",
        wanted="be 0 or more where it is given",
        share="impossible",
        bad=lambda terms: ~(pl.col("volume").is_finite() & (pl.col("volume") >= 0)),
    ),
    _Law(
        name="ask_possible",
        column="ask",
        wanted="be above 0 and satisfy ask_low <= ask_open, ask_close <= ask_high where it is given",
        share="impossible",
        bad=lambda terms: pl.col("ask_impossible"),
    ),
    _Law(
        name="ask_above_bid",
        column="ask",
        wanted="not lie below the bid (are the two exchanged?)",
        share="crossed",
        bad=lambda terms: pl.col("narrowest_spread") < 0,
    ),
    _Law(
        name="ask_near_bid",
        column="ask",
        wanted="stand close above the bid, log(ask / bid) below {spike:.3g} (are both in the same unit?)",
        share="impossible",
        bad=lambda terms: pl.col("widest_spread") > terms.spike,
    ),
    _Law(
        name="times_unique",
        column="ts_utc",
        wanted="be unique",
        share="repeat",
        bad=lambda terms: pl.col("repeated"),
    ),
    _Law(
        name="times_increasing",
        column="ts_utc",
        wanted="not go back (sort the source oldest first)",
        share="disorder",
        bad=lambda terms: pl.col("backwards"),
    ),
    _Law(
        name="on_grid",
        column="ts_utc",
        wanted="lie on the timeframe's grid (is the timeframe right? H4, D1 and W1 bars start at 17:00 New"
        " York: bring shorter bars where a server's start at other times)",
        share="off_grid",
        bad=lambda terms: pl.col("seconds_off_grid") != 0,
    ),
    _Law(
        name="inside_fx_week",
        column="ts_utc",
        wanted="lie in the FX week, Sunday 17:00 to Friday 17:00 New York (is the time zone right?)",
        share="outside_week",
        least=True,
        bad=lambda terms: pl.col("outside_week"),
    ),
    _Law(
        name="opens_follow_closes",
        column="bar",
        wanted="open nearer to the close before than it closes to the open before (are open and close exchanged?)",
        share="turned",
        few=20,  # of 30 bars in a row real feeds turn up to 17
        bad=lambda terms: pl.col("turned"),
    ),
    _Law(
        name="not_in_future",
        column="ts_utc",
        wanted="lie in the past, up to the bar's close (is the year right, and this machine's clock?)",
        share="future",
        least=True,
        bad=lambda terms: pl.col("in_future"),
    ),
    _bounded_move("few_spikes", "spike", lambda terms: terms.spike),
    _bounded_move("no_absurd_move", "", lambda terms: terms.absurd),
    _Law(
        name="near_stored",
        column="stored_move",
        wanted="stay below {absurd:.3g}, as |log(close / close of the nearest stored bar)| (is it this pair, in this"
        " unit? if what is stored is wrong, remove its table from the lake first)",
        bad=lambda terms: pl.col("stored_move") > terms.absurd,
    ),
)
_GAPS = _Law(
    name="few_gaps",
    column="bars",
    wanted="be present on ordinary trading days",
    share="gap",
    least=True,
)
_CONNECTED = _Law(
    name="bars_connected",
    column="bars",
    wanted="follow each other without a hole (is the timeframe right?)",
    share="lone",
    least=True,
)
_FRESH = _Law(
    name="fresh",
    column="bars",
    wanted="be present up to the clock",
)

EXPECTATIONS: tuple[str, ...] = tuple(law.name for law in (*_COLUMN_LAWS, *_ROW_LAWS, _GAPS, _CONNECTED, _FRESH))
"""Names of all expectations, in the order in which failures are reported."""


def judge_columns(raw: pl.DataFrame) -> tuple[Failure, ...]:
    """Return what is wrong with the columns of a raw table; where nothing is, `judge_rows` tells the suite so."""
    offenders = {
        "columns_complete": [f"'{name}' is missing" for name in SCHEMA if name not in raw.columns],
        "columns_known": [f"'{name}' is unknown" for name in raw.columns if name not in _KNOWN],
    }
    if not any(offenders.values()):
        return ()
    counts = {name: len(found) for name, found in offenders.items()}
    terms = Terms(shares={}, least_rows=0, least_bars=0, spike=0.0, absurd=0.0, max_stale_bars=None)
    return tuple(
        _failure(law, counts[law.name], raw.width, terms, 0.0, offenders[law.name][:_EXAMPLES])
        for law in _broken(counts, dict.fromkeys(_COLUMN_LAWS, 0.0), terms)
    )


def judge_rows(measures: Measures, terms: Terms) -> tuple[Failure, ...]:
    """Return what is wrong with the rows and the months of a table whose columns are right."""
    rows, months = measures.rows, measures.months
    expected, missing, stale = int(months["expected"].sum()), int(months["missing"].sum()), measures.stale_bars
    counts = {**{law.name: 0 for law in _COLUMN_LAWS}, **_offenders(rows, terms), _GAPS.name: missing}
    counts[_CONNECTED.name] = measures.holes
    asked = {law: law.tolerated(terms, rows.height) for law in (*_COLUMN_LAWS, *_ROW_LAWS)}
    asked |= {_GAPS: _GAPS.tolerated(terms, expected), _CONNECTED: _CONNECTED.tolerated(terms, measures.steps)}
    if stale is not None and terms.max_stale_bars is not None:
        counts[_FRESH.name], asked[_FRESH] = stale, float(terms.max_stale_bars)
    of = {_GAPS: expected, _CONNECTED: measures.steps, _FRESH: (stale or 0) + rows.height}
    return tuple(
        _failure(law, counts[law.name], of.get(law, rows.height), terms, asked[law], _examples(law, measures, terms))
        for law in _broken(counts, asked, terms)
    )


def _offenders(rows: pl.DataFrame, terms: Terms) -> dict[str, int]:
    """Return how many rows offend against each row law, and how many there are under `some_rows`."""
    counts = rows.select(law.bad(terms).sum().alias(law.name) for law in _ROW_LAWS if law.bad)
    return {_SOME_ROWS.name: rows.height, **counts.row(0, named=True)}


def _examples(law: _Law, measures: Measures, terms: Terms) -> list[str]:
    """Return the first few offenders, or the worst months."""
    if law is _FRESH:
        return [f"the newest bar is of {measures.figures['last_utc']}"]
    if law is _GAPS:
        worst = measures.months.filter(pl.col("missing") > 0).sort("missing", descending=True).head(_EXAMPLES)
        return [f"{row['month']} lacks {row['missing']} of {row['expected']}" for row in worst.to_dicts()]
    if law.bad is None:
        return []
    bad = measures.rows.with_row_index("row", offset=1).filter(law.bad(terms)).head(_EXAMPLES)
    return [f"{_place(row)} {_value(row, law.column)}" for row in bad.to_dicts()]


def _place(row: dict[str, Any]) -> str:
    return f"row {row['row']} {row['ts_utc']:%Y-%m-%d %H:%M}" if row["ts_utc"] else f"row {row['row']}"


def _value(row: dict[str, Any], column: str) -> str:
    if column in (*PRICES, "volume", "move", "stored_move"):
        return f"{column} {row[column]}"
    shown = {"bar": PRICES, "ask": (*ASK_PRICES, *PRICES)}.get(column, ())
    return " ".join(f"{name} {row[name]}" for name in shown if name in row)


def _failure(law: _Law, unexpected: int, of: int, terms: Terms, limit: float, examples: list[str]) -> Failure:
    return Failure(
        expectation=law.name,
        column=law.column,
        wanted=law.wanted.format(spike=terms.spike, absurd=terms.absurd, least_rows=terms.least_rows),
        unexpected=unexpected,
        rows=of,
        limit=limit,
        examples=tuple(text.rstrip() for text in examples),
    )


def _broken(counts: dict[str, int], asked: dict[_Law, float], terms: Terms) -> list[_Law]:
    """Return the laws that more offend against than tolerated; `asked` is per law how many are."""
    named = {law.name: law for law in asked}
    stated = {law.name: law.stated(most, terms) for law, most in asked.items()}
    return [named[name] for name in broken_laws(pl.DataFrame([counts]), stated, suite_name="candles")]
