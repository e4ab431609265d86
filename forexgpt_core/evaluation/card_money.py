"""What the strategies of a pair earned, after cost, and what is left of it after everything that was tried."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.evaluation.card_entries import Unsaid
from forexgpt_core.evaluation.overfitting import (
    TrialRegistry,
    deflated_sharpe,
    probabilistic_sharpe,
    sharpe_evidence,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestMoney:
    """The strategy of the newest backtest over all out-of-sample forecasts; None where undefined.

    Attributes:
        cost_pips, break_even_pips, turnover_per_year: see `economics.TradeEconomics`.
        cost_share: of the gain before cost that costs took; above 1 they took more than there was.
        sharpe: annualised; the probabilities below rest on the ratio per day.
        probabilistic_sharpe: that the true ratio is above 0.
        deflated_sharpe: that it is above what the best of all trials would show if all were worthless.
    """

    horizon_bars: int
    trades: int
    return_pct: float | None
    max_drawdown_pct: float | None
    win_rate_pct: float | None
    profit_factor: float | None
    cost_pips: float | None
    break_even_pips: float | None
    cost_share: float | None
    turnover_per_year: float | None
    sharpe: float | None
    probabilistic_sharpe: float | None
    deflated_sharpe: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchMoney:
    """What the newest search found, on the later part that it never saw.

    Attributes:
        trials_ever: configurations ever tried on the pair and timeframe.
        best: hash of the member with the highest deflated Sharpe ratio; None where none has one.
        pbo: probability of backtest overfitting.
        best_of_worthless: annualised Sharpe ratio that the best of as many worthless trials is expected to show.
        fall_apart: members that earned in sample and do not out of sample.
    """

    trials_ever: int
    members: int
    best: str | None
    deflated_sharpe: float | None
    probabilistic_sharpe: float | None
    pbo: float | None
    pbo_loss_probability: float | None
    best_of_worthless: float | None
    fall_apart: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StrategyRecord:
    """What the stores hold of a pair's strategies.

    Attributes:
        stats: the newest backtest's figures; None where there is none of the judged forecasts.
        period_returns: of its account, per FX day or week.
        trials: every configuration ever tried on the pair.
        search: details of the newest search's verdict; None where there is none of the judged forecasts.
    """

    stats: Mapping[str, Any] | None
    period_returns: Floats
    trials: TrialRegistry
    search: Mapping[str, Any] | None


def backtest_money(tested: StrategyRecord, unsaid: Unsaid) -> BacktestMoney | None:
    """Return the backtested strategy's figures, None where it was not tested."""
    if tested.stats is None:
        return None
    stats = tested.stats
    cost, free = _number(stats.get("cost_pips")), _number(stats.get("break_even_pips"))
    if free is None:
        unsaid.say("break-even cost and turnover", "the backtest made no trade, or an earlier release stored it")
    evidence = unsaid.attempt("Sharpe ratio of the backtest", lambda: sharpe_evidence(tested.period_returns))
    std, count = tested.trials.sharpe_std, tested.trials.count
    if math.isnan(std):
        unsaid.say("deflated Sharpe ratio of the backtest", f"{count} trials are logged; two with a ratio are needed")
    return BacktestMoney(
        horizon_bars=int(stats["horizon_bars"]),
        trades=int(stats.get("trades") or 0),
        return_pct=_number(stats.get("return_pct")),
        max_drawdown_pct=_number(stats.get("max_drawdown_pct")),
        win_rate_pct=_number(stats.get("win_rate_pct")),
        profit_factor=_number(stats.get("profit_factor")),
        cost_pips=cost,
        break_even_pips=free,
        cost_share=cost / free if cost is not None and free is not None and free > 0 else None,
        turnover_per_year=_number(stats.get("turnover_per_year")),
        sharpe=_number(stats.get("sharpe")),
        probabilistic_sharpe=None if evidence is None else probabilistic_sharpe(evidence),
        deflated_sharpe=None
        if evidence is None or math.isnan(std)
        else deflated_sharpe(evidence, trials=count, sharpe_std=std),
    )


def search_money(tested: StrategyRecord, unsaid: Unsaid) -> SearchMoney | None:
    """Return the newest search's figures, None where nothing was searched."""
    if tested.search is None:
        return None
    told, members = tested.search, dict(tested.search.get("members", {}))
    for name, what in (("pbo", "probability of backtest overfitting"), ("best_of_worthless", "deflated Sharpe ratio")):
        if told.get(name) is None:
            unsaid.say(what, "the search had too few trials that traded, or too short a span")
    deflated = {hash12: one["deflated_sharpe"] for hash12, one in members.items() if one["deflated_sharpe"] is not None}
    best = max(deflated, key=lambda hash12: deflated[hash12]) if deflated else None
    return SearchMoney(
        trials_ever=int(told["trials_ever"]),
        members=len(members),
        best=best,
        deflated_sharpe=deflated[best] if best else None,
        probabilistic_sharpe=_number(members[best]["probabilistic_sharpe"]) if best else None,
        pbo=_number(told.get("pbo")),
        pbo_loss_probability=_number(told.get("pbo_loss_probability")),
        best_of_worthless=_number(told.get("best_of_worthless")),
        fall_apart=int(told.get("fall_apart", 0)),
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
