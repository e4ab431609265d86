"""Backtests by the compiled event loop: one configuration in full, or thousands of them over the same arrays.

It trades as `backtest.kernc` does where the two can say the same, which tests hold trade by trade. What it has beyond
that library: spread, slippage and conversion that change from bar to bar, swap, the broker's stop-out, and a margin
that counts the commission.
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.backtest import layout
from forexgpt_core.backtest.performance import Floats, Stats, Times
from forexgpt_core.backtest.result import BacktestResult, describe
from forexgpt_core.backtest.span import Bools, Signals, Span, lay_out
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.domain.orders import Side
from forexgpt_core.errors import BadInput
from forexgpt_core.strategy import rules
from forexgpt_core.strategy.config import StrategyConfig
from forexgpt_core.strategy.sizing import SIZING_CODES, scales_per_year

_REASONS = {
    layout.STOP: "stop",
    layout.TARGET: "take_profit",
    layout.LIMIT: "holding limit",
    layout.OPPOSITE: "opposite signal",
    layout.END: "end",
    layout.RUIN: "ruin",
    layout.STOP_OUT: "stop_out",
}
_WHY = pl.Series([_REASONS.get(code, "") for code in range(max(_REASONS) + 1)])  # by code
_SIDES = pl.Series([Side.SELL.value, Side.BUY.value])
_UTC = pl.Datetime("us", "UTC")
_CHUNK = 64  # most configurations that one thread takes at a time
_NO_CURVE, _NO_TRADES = np.empty(0), np.empty(0, layout.ENTRY)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sweep:
    """What many configurations did on one span.

    Attributes:
        stats: of each configuration that was run, in the order given; fewer than asked for where it was stopped.
        moments: (configurations, blocks, 2) sum and sum of squares of the returns per FX day in each block of days.
        edges: (blocks + 1,) days at which blocks begin, and the number of days.
    """

    stats: Sequence[Stats]
    moments: Floats
    edges: NDArray[np.int64]


def run_backtest(
    candles: pl.DataFrame,
    forecasts: ForecastBatch,
    config: StrategyConfig,
    costs: Costs,
    *,
    symbol: str,
    cash: float = 100_000.0,
    no_entry: Bools | None = None,
    rates: Mapping[str, pl.DataFrame] | None = None,
) -> BacktestResult:
    """Return how the strategy would have done on the bars from the first forecast origin to the last.

    At bars without a forecast only the holding limit decides, as in live trading. Stats count what did not happen:
    entries_too_small (less than the venue's least lot), entries_refused (margin), entries_held_back (`no_entry`),
    bars_without_forecast.

    Args:
        candles: lawful bid bars; those outside the span are not read.
        cash: of the account at the start, in account currency.
        no_entry, rates: see `span.lay_out`.

    Raises:
        BadInput: see `span.lay_out`; or cash is not above 0; or the forecasts lack the configured horizon.
    """
    span = lay_out(candles, forecasts, costs, symbol=symbol, no_entry=no_entry, rates=rates)
    return run_span(span, config, cash=cash)


def run_span(span: Span, config: StrategyConfig, *, cash: float = 100_000.0) -> BacktestResult:
    """Return the backtest of one configuration on a span that is laid out already.

    Raises:
        BadInput: cash is not above 0, or the forecasts lack the configured horizon.
    """
    bars = span.close.size
    curve, trades = np.empty(bars), np.empty(bars, layout.ENTRY)
    tallies = np.zeros(1, layout.TALLY)
    laid = laid_out(span, [config], cash)
    _run(laid, laid.strategies, tallies, np.zeros((1, 0, 2)), curve, trades)
    tally = tallies[0]
    rows = trades[: tally["trades"]]
    rows = rows[np.argsort(rows["bar"], kind="stable")]
    return BacktestResult(
        stats=_stats(tallies, laid)[0] | describe(span.ts_utc, span.close, cash),
        trades=trades_table(span.ts_utc, rows),
        equity=pl.DataFrame({"ts_utc": span.bars["ts_utc"], "equity": curve}),
    )


def sweep(
    span: Span,
    configs: Sequence[StrategyConfig],
    *,
    cash: float = 100_000.0,
    blocks: int = 0,
    workers: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Sweep:
    """Return the figures of many configurations; the same, bit for bit, as each would give alone.

    Memory beside the result is that of one configuration per worker, however many there are.

    Args:
        blocks: of days whose moments are wanted; 0 for none.
        workers: threads; by default as many as this process may use cores.
        should_stop: asked before every batch of configurations.

    Raises:
        BadInput: see `run_span`; or blocks are below 0, or workers below 1.
    """
    if blocks < 0 or (workers is not None and workers < 1):
        raise BadInput(f"blocks must be 0 or more and workers 1 or more, were {blocks} and {workers}")
    laid = laid_out(span, configs, cash)
    edges = block_edges(span.ends.size, blocks)
    tallies, moments = np.zeros(len(configs), layout.TALLY), np.zeros((len(configs), blocks, 2))

    threads = workers or len(os.sched_getaffinity(0))
    size = max(1, min(_CHUNK, math.ceil(len(configs) / (2 * threads))))  # two turns each, so that none waits long

    def work(start: int) -> bool:
        if should_stop():
            return False
        part = slice(start, start + size)
        _run(laid, laid.strategies[part], tallies[part], moments[part], _NO_CURVE, _NO_TRADES, edges)
        return True

    done = _side_by_side(work, range(0, len(configs), size), threads)
    count = min(done * size, len(configs))
    return Sweep(stats=_stats(tallies[:count], laid), moments=moments[:count], edges=edges)


def block_edges(days: int, blocks: int) -> NDArray[np.int64]:
    """Return (blocks + 1,) the days at which consecutive blocks begin, and the number of days."""
    return np.asarray(np.linspace(0, days, blocks + 1).astype(np.int64))


def _side_by_side(work: Callable[[int], bool], starts: Iterable[int], workers: int) -> int:
    """Return how many batches were done, from the first on without a gap."""
    turns = list(starts)
    if workers == 1 or len(turns) == 1:  # a pool would take as long as a configuration
        done = list(map(work, turns))
    else:
        with ThreadPoolExecutor(workers) as pool:  # the kernel lets go of the interpreter's lock
            done = list(pool.map(work, turns))
    return done.index(False) if False in done else len(done)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Laid:
    """A span as the kernel reads it, with the configurations to run on it."""

    market: layout.Market
    signals: layout.Signals
    terms: layout.Terms
    strategies: layout.Records
    common: Stats = field(default_factory=dict)


def laid_out(span: Span, configs: Sequence[StrategyConfig], cash: float) -> Laid:
    """Return a span and configurations as the compiled loops read them.

    Raises:
        BadInput: see `run_span`.
    """
    if not (math.isfinite(cash) and cash > 0):
        raise BadInput(f"cash must be a finite number above 0, was {cash}")
    wanted = sorted({(config.horizon_bars, config.cost_multiple) for config in configs})
    numbers = {key: number for number, key in enumerate(wanted)}
    said = [span.signals(*key) for key in wanted]
    quotes, costs = span.quotes, span.costs
    market = layout.Market(
        **{name: getattr(quotes, name) for name in layout.Market._fields if name not in ("no_entry", "ends")},
        no_entry=np.zeros(span.close.size, dtype=np.bool_) if span.no_entry is None else span.no_entry,
        ends=span.ends,
    )
    terms = layout.Terms(  # a whole number would be another type, and compile everything again
        cash=float(cash),
        leverage=float(costs.leverage),
        lot_units=float(quotes.lot_units),
        commission_per_lot=float(costs.commission_per_lot),
        commission_percent=float(costs.commission_percent),
        min_lots=float(costs.min_lots),
        lot_step=float(costs.lot_step),
        stop_out=float(costs.stop_out),
        base_is_account=quotes.base_is_account,
        yearly=math.sqrt(span.periods_per_year),
    )
    return Laid(
        market=market,
        signals=_stacked(said),
        terms=terms,
        strategies=_strategies(configs, numbers, span),
        common={"bars_without_forecast": int(span.close.size - span.rows.size)},
    )


def _stacked(said: Sequence[Signals]) -> layout.Signals:
    if not said:
        none = np.empty((0, 0))
        return layout.Signals(up=none, down=none, scale=none, width_ratio=none)
    if len(said) == 1:  # nothing to copy
        return layout.Signals(*(getattr(said[0], name)[None] for name in layout.Signals._fields))
    return layout.Signals(*(np.stack([getattr(one, name) for one in said]) for name in layout.Signals._fields))


def _strategies(configs: Sequence[StrategyConfig], numbers: dict[tuple[int, float], int], span: Span) -> layout.Records:
    bars = span.close.size  # there is room for as many entries as may be open, and for one at a bar
    rows = [
        (
            numbers[one.horizon_bars, one.cost_multiple],
            one.entry_probability,
            one.stop_scales,
            one.take_profit_scales,
            one.trailing_scales,
            0.0 if one.distance_unit == "volatility" else rules.PERCENT,
            SIZING_CODES[one.sizing],
            one.size_fraction,
            one.lots,
            min(one.holding_limit_bars, bars + 1),
            min(one.max_entries, bars),
            one.opposite_exit,
            scales_per_year(one, span.bars_per_year),
        )
        for one in configs
    ]
    return np.array(rows, dtype=layout.STRATEGY)


def _run(
    laid: Laid,
    strategies: layout.Records,
    tallies: layout.Records,
    moments: Floats,
    curve: Floats,
    trades: layout.Records,
    edges: NDArray[np.int64] | None = None,
) -> None:
    from forexgpt_core.backtest.kernels import run_all  # the compiler is loaded where something runs

    no_blocks = np.zeros(1, dtype=np.int64)
    run_all(
        laid.market,
        laid.signals,
        laid.terms,
        strategies,
        no_blocks if edges is None else edges,
        curve,
        trades,
        tallies,
        moments,
    )


def _stats(tallies: layout.Records, laid: Laid) -> list[Stats]:
    told = figures(tallies, bars=laid.market.bid_open.size, cash=laid.terms.cash, yearly=laid.terms.yearly)
    return [one | laid.common for one in told]


def figures(tallies: layout.Records, *, bars: int, cash: float, yearly: float) -> list[Stats]:
    """Return the figures of each run; those that a run does not have are None.

    Args:
        yearly: see `layout.Terms`.
    """
    columns = _columns(tallies, bars, cash, yearly)
    names = list(columns)
    lists = [_plain(values) for values in columns.values()]
    return [dict(zip(names, row)) for row in zip(*lists)]


def _columns(tallies: layout.Records, bars: int, cash: float, yearly: float) -> dict[str, NDArray[np.generic]]:
    t, trades = tallies, tallies["trades"]
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "return_pct": (t["final_equity"] / cash - 1) * 100,
            "max_drawdown_pct": t["max_drawdown"] * 100,
            "sharpe": np.where(t["deviation"] > 1e-15, t["mean"] / t["deviation"] * yearly, np.nan),
            "sortino": np.where(t["downside"] > 1e-15, t["mean"] / t["downside"] * yearly, np.nan),
            "trades": trades,
            "win_rate_pct": t["wins"] / trades * 100,
            "profit_factor": np.where(t["lost"] > 0, t["won"] / t["lost"], np.nan),
            "average_trade_pct": t["return_sum"] / trades * 100,
            "average_bars_held": t["bars_held"] / trades,
            "exposure_pct": t["exposed_bars"] / bars * 100,
            "final_equity": t["final_equity"],
            "commission": t["commission"],
            "swap": t["swap"],
            "spread_cost": t["spread"],
            "slippage_cost": t["slippage"],
            "turnover": t["turnover"],
            "entries_too_small": t["too_small"],
            "entries_refused": t["refused"],
            "entries_held_back": t["held_back"],
            "ruined": t["ruined"],
        }


def _plain(values: NDArray[np.generic]) -> list[float | int | bool | None]:
    if values.dtype.kind != "f":
        return list(values.tolist())
    return [value if math.isfinite(value) else None for value in values.tolist()]


def trades_table(times: Times, rows: layout.Records) -> pl.DataFrame:
    """Return closed entries as the columns of TRADES_SCHEMA, in the order given."""
    opens = times.astype("datetime64[us]").astype(np.int64)
    taken = {name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names or ()}
    return pl.DataFrame(
        [
            pl.Series("entry_utc", opens[taken["bar"]]).cast(_UTC),
            pl.Series("exit_utc", opens[taken["exit_bar"]]).cast(_UTC),
            pl.Series("entry_bar", taken["bar"]),
            pl.Series("exit_bar", taken["exit_bar"]),
            _SIDES[(taken["side"] == rules.LONG).astype(np.int64)].alias("side"),
            pl.Series("lots", taken["lots"]),
            pl.Series("entry_price", taken["entry_price"]),
            pl.Series("exit_price", taken["exit_price"]),
            pl.Series("stop_price", taken["first_stop"]),
            pl.Series("take_profit_price", taken["target"]),
            pl.Series("probability", taken["probability"]),
            pl.Series("commission", taken["commission"]),
            pl.Series("swap", taken["swap"]),
            pl.Series("profit", taken["profit"]),
            pl.Series("return_pct", 100 * taken["profit"] / taken["notional"]),
            _WHY[taken["reason"]].alias("exit_reason"),
        ]
    )
