"""A search and its replayed front as the explorer shows them."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from forexgpt_core.backtest.result import BacktestResult
from forexgpt_core.domain.costs import Costs
from forexgpt_core.optimisation.pareto import ParetoMember, ParetoResult
from forexgpt_core.optimisation.replay import Replay
from forexgpt_core.reporting.explorer_document import (
    Curve,
    ExplorerDocument,
    ExplorerMember,
    ExplorerTrade,
    Objective,
)

_UNITS = {"return_pct": "%", "max_drawdown_pct": "%", "win_rate_pct": "%"}
_TOLD_ALREADY = ("trials_ever", "best_of_worthless", "members")  # the page says these on top


def explorer_document(
    result: ParetoResult,
    overfitting: Mapping[str, Any],
    replays: Mapping[str, Replay],
    *,
    symbol: str,
    timeframe: str,
    study: int,
    cash: float,
    costs: Costs,
) -> ExplorerDocument:
    """Return what the explorer shows of a search.

    Args:
        overfitting: see `verdict.SearchVerdict.to_dict`.
        replays: of every member by its hash.
    """
    return ExplorerDocument(
        symbol=symbol,
        timeframe=timeframe,
        study=str(study),
        objectives=[
            Objective(one.name, one.direction, _UNITS.get(one.name, "")) for one in result.settings.goals.objectives
        ],
        members=[
            _member(one, result, overfitting["members"][one.hash12], replays[one.hash12]) for one in result.members
        ],
        trials=int(overfitting["trials_ever"]),
        best_of_worthless=overfitting["best_of_worthless"],
        overfitting={name: value for name, value in overfitting.items() if name not in _TOLD_ALREADY},
        picks=dict(result.picks),
        searched=(f"{result.searched_utc[0]:%Y-%m-%d}", f"{result.searched_utc[1]:%Y-%m-%d}"),
        later=(f"{result.later_utc[0][0]:%Y-%m-%d}", f"{result.later_utc[-1][1]:%Y-%m-%d}"),
        money=money_in_words(cash, costs, symbol),
        notes=[result.note] if result.note else [],
    )


def money_in_words(cash: float, costs: Costs, symbol: str) -> str:
    """Return the account and what trading costs it, in one line."""
    spread = {
        "constant": f"spread {costs.spread_pips:g} pips",
        "candles": "spread of the candles",
        "session": "spread by the hour",
    }[costs.spread_source]
    parts = [
        f"{cash:,.0f} {costs.account_of(symbol)}",
        f"leverage {costs.leverage:g}",
        spread,
        f"slippage {costs.slippage_pips:g} pips",
        f"commission {costs.commission_per_lot:g} per lot and side",
    ]
    if costs.swap_long_pips or costs.swap_short_pips:
        parts.append(f"swap {costs.swap_long_pips:g} and {costs.swap_short_pips:g} pips a night")
    return ", ".join(parts)


def _member(member: ParetoMember, result: ParetoResult, told: Mapping[str, Any], both: Replay) -> ExplorerMember:
    spans = {
        f"{one:%Y-%m-%d} to {two:%Y-%m-%d}": dict(s) for (one, two), s in zip(result.later_utc, member.later_spans)
    }
    return ExplorerMember(
        hash12=member.hash12,
        parameters=member.config.document(),
        in_sample=dict(member.in_sample),
        out_of_sample={name: value for name, value in member.out_of_sample.items() if name in member.in_sample},
        later_spans=spans if len(spans) > 1 else {},
        probabilistic_sharpe=told["probabilistic_sharpe"],
        deflated_sharpe=told["deflated_sharpe"],
        falls_apart=bool(told["falls_apart"]),
        searched=_curve(both.searched),
        later=_curve(both.later),
        trades=[*_trades(both.searched), *_trades(both.later)],
    )


def _curve(run: BacktestResult) -> Curve:
    return Curve(run.equity["ts_utc"].dt.epoch("ms").to_list(), run.equity["equity"].to_list())


def _trades(run: BacktestResult) -> list[ExplorerTrade]:
    told = run.trades.with_columns(pl.col("entry_utc", "exit_utc").dt.epoch("ms")).select(
        "entry_utc", "exit_utc", "side", "lots", "entry_price", "exit_price", "profit", "exit_reason"
    )
    return [ExplorerTrade(*row) for row in told.iter_rows()]
