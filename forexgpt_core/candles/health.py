"""What is odd about a table of lawful bars: holes by cause, repeats, spikes, jumps, stub bars, flat runs, stale tail.

Nothing here refuses a bar or changes one: the gate (`quality`) refuses, the cleaning puts aside, this tells.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from forexgpt_core.candles.causes import PROVIDER, explain_gaps, missing_by_cause
from forexgpt_core.candles.cleaning import REASONS
from forexgpt_core.candles.spread import spread_figures
from forexgpt_core.domain.clock import Timeframe, hour_of_week
from forexgpt_core.errors import BadInput

EXAMPLE_SCHEMA = {"kind": pl.String(), "ts_utc": pl.Datetime("us", "UTC"), "size": pl.Float64(), "what": pl.String()}
KINDS = ("hole", "spike", "lone_high", "lone_low", "jump", "stub", "flat_run", *REASONS)
_LEAST_SCALE = 5e-6  # of a move, half a tenth of a pip: what is below it is no move at all
_LAST_HOUR, _STUB_HOURS = 119, (120, 121)  # of the week: the last one, and the first two after it


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthTerms:
    """What counts as odd.

    Attributes:
        scales: a move of so many robust standard deviations is a spike or a jump.
        reverted: a spike's next bar takes back more than this share of it; a jump's does not.
        window_bars: the scale is the median absolute move of so many bars before.
        thin: a stub has less than this share of the usual ticks (or range, where ticks are not known).
        large_move: a relative move from close to close that is counted by itself.
        examples: rows shown of each kind, the largest first.
    """

    scales: float = 20.0
    reverted: float = 0.5
    window_bars: int = 240
    thin: float = 0.02
    large_move: float = 0.005
    examples: int = 5

    def __post_init__(self) -> None:
        if self.scales <= 0 or self.window_bars < 2 or self.examples < 0:
            raise BadInput("health terms need scales above 0, window_bars of 2 or more and examples of 0 or more")
        if not (0 < self.reverted < 1 and 0 < self.thin < 1 and 0 < self.large_move < 1):
            raise BadInput("health terms reverted, thin and large_move must lie in (0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HealthReport:
    """What was found.

    Attributes:
        figures: by name, for the record and for plots over time.
        holes: as `causes.explain_gaps` returns them.
        examples: `kind` (one of KINDS), `ts_utc`, `size` and `what`, the largest of each kind first. The size of a
            hole and a flat run is in bars, of a move in pips, of a stub in ticks (or pips of range).
    """

    figures: dict[str, float | int]
    holes: pl.DataFrame
    examples: pl.DataFrame


def health(
    bars: pl.DataFrame,
    timeframe: Timeframe,
    pip: float,
    *,
    aside: pl.DataFrame | None = None,
    terms: HealthTerms | None = None,
) -> HealthReport:
    """Return what is odd about lawful bars.

    Args:
        bars: sorted, see `domain.bars`.
        pip: price change of one pip.
        aside: what the cleaning has put aside of the same history, in the columns of `cleaning.ASIDE_SCHEMA`.
    """
    terms = terms or HealthTerms()
    holes = explain_gaps(bars, timeframe)
    moves, runs = _moves(bars, timeframe, pip, terms), _flat_runs(bars)
    flats = runs.filter(pl.col("size") >= max(5, 1800 // timeframe.seconds))  # half an hour; a minute or two is usual
    stubs, aside_stubs = _stubs(bars, aside, timeframe, pip, terms)
    odd = [_hole_examples(holes), moves.drop("large"), stubs, aside_stubs, flats, *_aside_examples(aside)]
    counts = dict(moves.group_by("kind").len().iter_rows())
    causes = missing_by_cause(holes)
    figures: dict[str, float | int] = {
        "bars": bars.height,
        "holes": holes.height,
        "missing_bars": sum(causes.values()),
        **{f"missing_{cause}": count for cause, count in causes.items()},
        "longest_provider_hole_bars": int(
            holes.filter(pl.col("cause") == PROVIDER).select(pl.col("missing_bars").max().fill_null(0)).item()
        ),
        **{f"put_aside_{reason}": count for reason, count in _aside_counts(aside).items()},
        "spikes": sum(counts.get(kind, 0) for kind in ("spike", "lone_high", "lone_low")),
        "jumps": counts.get("jump", 0),
        "large_moves": int(moves["large"].sum()) + counts.get("large", 0),
        "stub_bars": stubs.height,
        "stub_bars_put_aside": aside_stubs.height,
        "flat_bars": int(bars.select(_flat().sum()).item()),
        "longest_flat_run_bars": int(runs.select(pl.col("size").max().fill_null(0)).item()),
        "stale_tail_bars": _stale_tail(bars),
        **spread_figures(bars, pip),
    }
    return HealthReport(figures=figures, holes=holes, examples=_largest(odd, terms.examples))


def _moves(bars: pl.DataFrame, timeframe: Timeframe, pip: float, terms: HealthTerms) -> pl.DataFrame:
    """Return spikes, lone extremes and jumps with their size in pips, and whether each is a large move besides.

    Other large moves follow as kind `large`.
    """
    move = (pl.col("close") / pl.col("close").shift()).log()
    usual = pl.col("move").abs().rolling_median(terms.window_bars, min_samples=2).shift() * 1.4826
    typical = pl.col("move").abs().median() * 1.4826
    body = pl.max_horizontal("open", "close"), pl.min_horizontal("open", "close")
    above = pl.col("high") - pl.max_horizontal(body[0], pl.col("high").shift(), pl.col("high").shift(-1))
    below = pl.min_horizontal(body[1], pl.col("low").shift(), pl.col("low").shift(-1)) - pl.col("low")
    between = pl.col("high").shift().is_not_null() & pl.col("high").shift(-1).is_not_null()
    table = (
        bars.lazy()
        .select("ts_utc", "open", "high", "low", "close", move=move)
        .with_columns(
            limit=terms.scales * pl.max_horizontal(usual, typical / 2, pl.lit(_LEAST_SCALE)),  # a dead hour has none
            next=pl.col("move").shift(-1),
            above=pl.when(between).then(above / pl.col("close")),
            below=pl.when(between).then(below / pl.col("close")),
            joined=pl.col("ts_utc").diff() <= pl.duration(seconds=timeframe.seconds),
        )
        .with_columns(
            big=pl.col("move").abs() > pl.col("limit"), large=pl.col("move").exp().sub(1).abs() > terms.large_move
        )
        .with_columns(
            back=pl.col("big") & ((pl.col("move") + pl.col("next")).abs() < (1 - terms.reverted) * pl.col("move").abs())
        )
        .with_columns(
            kind=pl.when(pl.col("back"))
            .then(pl.lit("spike"))
            .when(pl.col("above") > pl.col("limit"))
            .then(pl.lit("lone_high"))
            .when(pl.col("below") > pl.col("limit"))
            .then(pl.lit("lone_low"))
            .when(pl.col("big") & pl.col("joined") & ~pl.col("back").shift(fill_value=False))
            .then(pl.lit("jump"))
            .when(pl.col("large"))
            .then(pl.lit("large"))
        )
        .filter(pl.col("kind").is_not_null())
        .collect()
    )
    relative = pl.when(pl.col("kind") == "lone_high").then("above").when(pl.col("kind") == "lone_low").then("below")
    scales = relative.otherwise(pl.col("move").abs()) / pl.col("limit") * terms.scales
    return table.select(
        "kind",
        "ts_utc",
        size=relative.otherwise(pl.col("move").abs()) * pl.col("close") / pip,
        what=pl.format("{} times the usual move, close {}", scales.round(0).cast(pl.Int64), "close"),
        large=(pl.col("kind") != "large") & pl.col("large"),
    )


def _flat() -> pl.Expr:
    return (pl.col("high") == pl.col("low")) & (pl.col("open") == pl.col("close"))


def _flat_runs(bars: pl.DataFrame) -> pl.DataFrame:
    """Return every run of flat bars at one price."""
    runs = (
        bars.lazy()
        .select("ts_utc", "close", flat=_flat())
        .with_columns(run=(~pl.col("flat") | (pl.col("close") != pl.col("close").shift())).fill_null(True).cum_sum())
        .filter("flat")
        .group_by("run", maintain_order=True)
        .agg(pl.col("ts_utc").first(), pl.col("close").first(), size=pl.len().cast(pl.Float64))
        .collect()
    )
    return runs.select(
        pl.lit("flat_run").alias("kind"), "ts_utc", "size", what=pl.format("bars without a move at {}", "close")
    )


def _stale_tail(bars: pl.DataFrame) -> int:
    """Return how many bars at the end are flat at one price."""
    same = bars.select((_flat() & (pl.col("close") == pl.col("close").last())).reverse().cast(pl.Int8).cum_min().sum())
    return int(same.item() or 0)


def _stubs(
    bars: pl.DataFrame, aside: pl.DataFrame | None, timeframe: Timeframe, pip: float, terms: HealthTerms
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the bars around the weekly close that hold next to nothing: among the candles, and among those aside."""
    counted = bars["volume"].null_count() < bars.height
    filling = pl.col("volume") if counted else (pl.col("high") - pl.col("low")) / pip
    nothing = pl.DataFrame(schema=EXAMPLE_SCHEMA)
    hours = hour_of_week(bars["ts_utc"].to_numpy().astype("datetime64[us]"))
    edge = bars.filter(pl.Series(hours == _LAST_HOUR, dtype=pl.Boolean))
    usual = edge.select(filling.median()).item() if edge.height else bars.select(filling.median()).item()
    if not usual or timeframe.seconds > 3600 or (not counted and timeframe.seconds < 900):
        return nothing, nothing  # a minute without a move is usual, a longer bar than an hour does not end so
    unit = "ticks" if counted else "pips of range"
    what = pl.format(
        "{} {}, usual in the last hour of the week: {}", filling.round(1), pl.lit(unit), pl.lit(round(usual, 1))
    )
    shape = (pl.lit("stub").alias("kind"), "ts_utc", filling.cast(pl.Float64).alias("size"), what.alias("what"))
    thin = filling <= terms.thin * usual
    return edge.filter(thin).select(shape), _after_the_close(aside).filter(thin).select(shape)


def _after_the_close(aside: pl.DataFrame | None) -> pl.DataFrame:
    if aside is None or aside.is_empty():
        return pl.DataFrame(
            schema={"ts_utc": EXAMPLE_SCHEMA["ts_utc"], **dict.fromkeys(("high", "low", "volume"), pl.Float64)}
        )
    outside = aside.filter(pl.col("reason") == "outside_week")
    hours = hour_of_week(outside["ts_utc"].to_numpy().astype("datetime64[us]"))
    return outside.filter(pl.Series(np.isin(hours, _STUB_HOURS), dtype=pl.Boolean))


def _hole_examples(holes: pl.DataFrame) -> pl.DataFrame:
    """Return the holes that only the provider explains; all of them are in `HealthReport.holes`."""
    return holes.filter(pl.col("cause") == PROVIDER).select(
        pl.lit("hole").alias("kind"),
        pl.col("start_utc").alias("ts_utc"),
        pl.col("missing_bars").cast(pl.Float64).alias("size"),
        pl.format("{} until {}", "cause", pl.col("end_utc").dt.strftime("%Y-%m-%d %H:%M")).alias("what"),
    )


def _aside_examples(aside: pl.DataFrame | None) -> list[pl.DataFrame]:
    if aside is None or aside.is_empty():
        return []
    prices = pl.format(
        "open {} high {} low {} close {}",
        *(pl.col(c).cast(pl.String).fill_null("none") for c in ("open", "high", "low", "close")),
    )
    kept = pl.when("kept").then(pl.lit(", this one is the candle")).otherwise(pl.lit(""))
    return [aside.select(pl.col("reason").alias("kind"), "ts_utc", size=pl.lit(None, pl.Float64), what=prices + kept)]


def _aside_counts(aside: pl.DataFrame | None) -> dict[str, int]:
    if aside is None:
        return dict.fromkeys(REASONS, 0)
    counts = dict(aside.filter(~pl.col("kept")).group_by("reason").len().iter_rows())
    return {reason: int(counts.get(reason, 0)) for reason in REASONS}


def _largest(parts: list[pl.DataFrame], count: int) -> pl.DataFrame:
    """Return at most `count` rows of each kind, the largest first, kinds in the order of KINDS."""
    rows = pl.concat(part.select(list(EXAMPLE_SCHEMA)).cast(pl.Schema(EXAMPLE_SCHEMA)) for part in parts)
    return (
        rows.filter(pl.col("kind").is_in(KINDS))
        .sort("size", descending=True, nulls_last=True, maintain_order=True)
        .group_by("kind", maintain_order=True)
        .head(count)
        .sort(pl.col("kind").cast(pl.Enum(KINDS)), maintain_order=True)
        .select(list(EXAMPLE_SCHEMA))
    )
