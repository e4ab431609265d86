"""The Great Expectations suite over candles: one list of laws, and what each failure says.

The suite sees three small pandas views, however long the history: the column names, one row that counts the offenders
against each row law, and one row per month. Polars counts and finds the examples; Great Expectations decides. It is
imported on use because that takes seconds.
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
        bad: finds the offending rows.
    """

    name: str
    column: str
    wanted: str  # may name a term in braces
    expect: Callable[[Any, float, Terms], Any] | None = None
    share: str = ""
    least: bool = False
    bad: Callable[[Terms], pl.Expr] | None = None

    def tolerated(self, terms: Terms, of: int) -> float:
        """Return how many of `of` rows may offend."""
        return max(terms.shares.get(self.share, 0.0) * of, float(terms.least_bars if self.least else 0))

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
        expect=lambda gx, most, terms: gx.ExpectColumnDistinctValuesToContainSet(
            column="column", value_set=list(SCHEMA)
        ),
    ),
    _Law(
        name="columns_known",
        column="column",
        wanted=f"be one of {', '.join(_KNOWN)}",
        expect=lambda gx, most, terms: gx.ExpectColumnValuesToBeInSet(column="column", value_set=list(_KNOWN)),
        bad=lambda terms: ~pl.col("column").is_in(_KNOWN),
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
        wanted="lie on the timeframe's grid (is the timeframe right? H4, D1 and W1 bars start at 17:00 New York)",
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
    _bounded_move("few_spikes", "spike", lambda terms: terms.spike),
    _bounded_move("no_absurd_move", "", lambda terms: terms.absurd),
)
_GAPS = _Law(
    name="few_gaps",
    column="bars",
    wanted="be present on ordinary trading days",
    share="gap",
    least=True,
    expect=lambda gx, most, terms: gx.ExpectColumnSumToBeBetween(column="missing", max_value=most),
    bad=lambda terms: pl.col("missing") > 0,
)
_FRESH = _Law(
    name="fresh",
    column="bars",
    wanted="be present up to the clock",
    expect=lambda gx, most, terms: gx.ExpectColumnMaxToBeBetween(column="stale_bars", max_value=most),
)

EXPECTATIONS: tuple[str, ...] = tuple(law.name for law in (*_COLUMN_LAWS, *_ROW_LAWS, _GAPS, _FRESH))
"""Names of all expectations, in the order in which failures are reported."""


def judge_columns(raw: pl.DataFrame) -> tuple[Failure, ...]:
    """Return what is wrong with the columns of a raw table."""
    names = pl.DataFrame({"column": raw.columns}, schema={"column": pl.String})
    offenders = {
        "columns_complete": [f"'{name}' is missing" for name in SCHEMA if name not in raw.columns],
        "columns_known": [f"'{name}' is unknown" for name in raw.columns if name not in _KNOWN],
    }
    terms = Terms(shares={}, least_rows=0, least_bars=0, spike=0.0, absurd=0.0, max_stale_bars=None)
    return tuple(
        _failure(law, len(offenders[law.name]), raw.width, terms, 0.0, offenders[law.name][:_EXAMPLES])
        for law in _broken(names, dict.fromkeys(_COLUMN_LAWS, 0.0), terms)
    )


def judge_rows(measures: Measures, terms: Terms) -> tuple[Failure, ...]:
    """Return what is wrong with the rows and the months of a table whose columns are right."""
    rows, n = measures.rows, measures.rows.height
    tolerated = {law: law.tolerated(terms, n) for law in _ROW_LAWS}
    broken = _broken(_offenders(rows, terms), tolerated, terms)
    failures = [_row_failure(law, rows, tolerated[law], terms) for law in broken]
    return (*failures, *_month_failures(measures, terms))


def _offenders(rows: pl.DataFrame, terms: Terms) -> pl.DataFrame:
    """Return one row: under the name of each law how many rows offend, and how many there are under `some_rows`."""
    counts = [law.bad(terms).sum().cast(pl.Int64).alias(law.name) for law in _ROW_LAWS if law.bad]
    return rows.select(pl.len().cast(pl.Int64).alias(_SOME_ROWS.name), *counts)


def _month_failures(measures: Measures, terms: Terms) -> list[Failure]:
    months = measures.months
    expected, missing = int(months["expected"].sum()), int(months["missing"].sum())
    asked = {_GAPS: _GAPS.tolerated(terms, expected)}
    stale = measures.stale_bars or 0
    unexpected, of = {_GAPS: missing, _FRESH: stale}, {_GAPS: expected, _FRESH: stale + measures.rows.height}
    if measures.stale_bars is not None and terms.max_stale_bars is not None:
        asked[_FRESH] = float(terms.max_stale_bars)
    worst = months.filter(pl.col("missing") > 0).sort("missing", descending=True).head(_EXAMPLES)
    examples = {
        _GAPS: [f"{row['month']} lacks {row['missing']} of {row['expected']}" for row in worst.to_dicts()],
        _FRESH: [f"the newest bar is of {measures.figures['last_utc']}"],
    }
    broken = _broken(months.select("missing", "stale_bars"), asked, terms) if months.height else []
    return [_failure(law, unexpected[law], of[law], terms, asked[law], examples[law]) for law in broken]


def _row_failure(law: _Law, rows: pl.DataFrame, tolerated: float, terms: Terms) -> Failure:
    bad = rows.with_row_index("row", offset=1).filter(law.bad(terms)) if law.bad else rows.head(0)
    examples = [
        f"row {row['row']} {row['ts_utc']:%Y-%m-%d %H:%M}" if row["ts_utc"] else f"row {row['row']}"
        for row in bad.head(_EXAMPLES).to_dicts()
    ]
    shown = [f"{text} {_value(row, law.column)}" for text, row in zip(examples, bad.head(_EXAMPLES).to_dicts())]
    return _failure(law, bad.height, rows.height, terms, tolerated, shown)


def _value(row: dict[str, Any], column: str) -> str:
    if column in (*PRICES, "move"):
        return f"{column} {row[column]}"
    return " ".join(f"{name} {row[name]}" for name in PRICES) if column == "bar" else ""


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


def _broken(view: pl.DataFrame, asked: dict[_Law, float], terms: Terms) -> list[_Law]:
    """Return the laws broken in one view; `asked` is per law how many rows or bars are tolerated."""
    named = {law.name: law for law in asked}
    broken = broken_laws(view, {law.name: law.stated(most, terms) for law, most in asked.items()}, suite_name="candles")
    return [named[name] for name in broken]
