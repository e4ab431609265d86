"""A backtest's figures under the names that users of backtesting.py know, and the figures that library lacks.

`familiar_stats` has the formulas of the library's `compute_stats` (0.6.6); where it means something else stands in
DIFFERENCES. As there, and unlike in a result's own stats: drawdowns are negative, the profit factor is one of returns
and not of money, and the Sharpe ratio is the compounded yearly return over its volatility.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.backtest.performance import Floats, Stats, StatValue, Times, day_ends, day_returns, drawdown
from forexgpt_core.backtest.result import BacktestResult
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.economics import TradeEconomics, trade_economics
from forexgpt_core.evaluation.overfitting import (
    TrialRegistry,
    deflated_sharpe,
    probabilistic_sharpe,
    sharpe_evidence,
)

Micros = NDArray[np.int64]
_Told = dict[str, Any]

_SECOND = 1_000_000  # microseconds
_DAY = 86_400 * _SECOND
_UNITS = (_DAY, 3_600 * _SECOND, 60 * _SECOND, _SECOND, 1)
_STEPS = 100  # of the last bars, whose usual length is that of a bar
_YEAR_DAYS = 365.25
_THOUSAND = 1000  # from here on hundredths are shown, and no more
_LEAST_BARS = 3  # of a regression on returns

DIFFERENCES = {
    "days": "Days are FX days, 17:00 to 17:00 New York, 260 a year (52 weeks, for weekly bars). The library has UTC"
    " days, six in an FX week with its Sunday evening, and annualises with 252, or 365 where weekends are traded.",
    "first day": "The first day's return is measured from the cash. In the library the first day has none.",
    "ruin": "Ruin is a loss of 100 % a year, without volatility, Sharpe or Sortino ratio. The library says 0 %.",
    "trade returns": "A trade's return is its net profit, swap included, over its entry notional, both in account"
    " currency and at the price that was paid. The library's leaves the spread out, which `kernc` charges to the"
    " account at the entry, and divides by the bid.",
    "open trades": "What is open at the end is closed at the last close and counted. The library leaves it out.",
    "commissions": "Commissions are the broker's alone and always there. In the library slippage is among them, see"
    " `kernc`, and the line is missing where there are none.",
    "undefined": "What is undefined is None: NaN in the library, and infinity for a Sortino ratio that never lost.",
    "text": "Times and durations are text, so that a document can hold them.",
}
"""Where a figure of `familiar_stats` is not the one that the library prints of the same strategy."""

LABELS = (
    "Start",
    "End",
    "Duration",
    "Exposure Time [%]",
    "Equity Final [$]",
    "Equity Peak [$]",
    "Commissions [$]",
    "Return [%]",
    "Buy & Hold Return [%]",
    "Return (Ann.) [%]",
    "Volatility (Ann.) [%]",
    "CAGR [%]",
    "Sharpe Ratio",
    "Sortino Ratio",
    "Calmar Ratio",
    "Alpha [%]",
    "Beta",
    "Max. Drawdown [%]",
    "Avg. Drawdown [%]",
    "Max. Drawdown Duration",
    "Avg. Drawdown Duration",
    "# Trades",
    "Win Rate [%]",
    "Best Trade [%]",
    "Worst Trade [%]",
    "Avg. Trade [%]",
    "Max. Trade Duration",
    "Avg. Trade Duration",
    "Profit Factor",
    "Expectancy [%]",
    "SQN",
    "Kelly Criterion",
)
"""The library's names in its order."""


def familiar_stats(
    result: BacktestResult, close: Floats | None = None, *, periods_per_year: int | None = None
) -> Stats:
    """Return the library's figures in its order and under its names; JSON-safe, None where undefined.

    Args:
        close: (bars,) of the market, for alpha and beta, which are None without it.
        periods_per_year: FX days (weeks, for weekly bars) in a year, in place of 260 (52).

    Raises:
        BadInput: `close` is not as long as the equity.
    """
    times = result.equity["ts_utc"].to_numpy().astype("datetime64[us]")
    equity = result.equity["equity"].to_numpy()
    if close is not None and close.size != equity.size:
        raise BadInput(f"the close of {close.size} bars does not fit an account over {equity.size} bars")
    stats, cash = result.stats, float(result.stats["cash"] or 0)
    ends, usual = day_ends(times)
    told: _Told = {
        "Start": stats["start"],
        "End": stats["end"],
        "Duration": _text(_micros(times[-1] - times[0]), 1),
        "Exposure Time [%]": stats["exposure_pct"],
        "Equity Final [$]": equity[-1],
        "Equity Peak [$]": equity.max(),
        "Commissions [$]": stats["commission"],
        "Return [%]": (equity[-1] / cash - 1) * 100,
        "Buy & Hold Return [%]": stats["buy_hold_return_pct"],
        **_yearly(day_returns(equity, cash, ends), periods_per_year or usual),
        "CAGR [%]": _growth_a_year(equity[-1] / cash, times) * 100,
        **_against_market(equity, close),
        **_drawdowns(drawdown(equity), times),
        **_of_trades(result.trades, times),
    }
    told["Calmar Ratio"] = _ratio(told["Return (Ann.) [%]"], -told["Max. Drawdown [%]"])
    told["Alpha [%]"] = told["Return [%]"] - told["Beta"] * (told["Buy & Hold Return [%]"] or 0)
    return {label: _plain(told[label]) for label in LABELS}


def own_stats(result: BacktestResult, symbol: str, trials: TrialRegistry) -> Stats:
    """Return what the library lacks: costs and turnover, and how likely the Sharpe ratio is more than luck.

    Those of `economics.TradeEconomics`, None without a trade; probabilistic_sharpe: that the true ratio is above 0;
    deflated_sharpe: that it is above what the best of all trials would show if all were worthless; trials_ever.

    Args:
        result: with the figures that `engine` counts.
        trials: every strategy that searches and campaigns ever tried on the pair. Backtests asked for one by one are
            not among them.
    """
    if result.trades.height and result.equity.height > 1:
        economics: Stats = asdict(trade_economics(result.trades, result.equity, result.stats, symbol))
    else:
        economics = {field.name: None for field in fields(TradeEconomics)}
    return {**economics, "trades": result.trades.height, **_luck(result, trials), "trials_ever": trials.count}


def shown(stats: Mapping[str, object]) -> dict[str, str]:
    """Return figures as a person reads them; what is undefined is two dashes, as in the library."""
    return {name: _shown(value) for name, value in stats.items()}


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= _THOUSAND else f"{value:.5g}"
    return "--" if value is None else str(value)


def _luck(result: BacktestResult, trials: TrialRegistry) -> Stats:
    times = result.equity["ts_utc"].to_numpy().astype("datetime64[us]")
    ends, _ = day_ends(times)
    returns = day_returns(result.equity["equity"].to_numpy(), float(result.stats["cash"] or 0), ends)
    try:
        evidence = sharpe_evidence(returns)
    except BadInput:  # too few days, or a strategy that never traded
        return {"probabilistic_sharpe": None, "deflated_sharpe": None}
    std = trials.sharpe_std
    known = math.isfinite(std)
    return {
        "probabilistic_sharpe": probabilistic_sharpe(evidence),
        "deflated_sharpe": deflated_sharpe(evidence, trials=trials.count, sharpe_std=std) if known else None,
    }


def _yearly(returns: Floats, periods: int) -> _Told:
    """Return growth and risk of a year of such days, compounded."""
    if (returns <= -1).any():
        return {"Return (Ann.) [%]": -100.0} | dict.fromkeys(
            ("Volatility (Ann.) [%]", "Sharpe Ratio", "Sortino Ratio"), math.nan
        )
    growth = float(np.log1p(returns).mean())  # log, a day
    variance = float(returns.var(ddof=1)) if returns.size > 1 else math.nan
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0) ** 2)) * periods)
    with np.errstate(over="ignore", invalid="ignore"):
        gain = np.expm1(periods * growth)
        # (variance + (1 + mean)^2)^periods - (1 + mean)^(2 periods), without the difference of two near numbers
        volatility = (1 + gain) * np.sqrt(np.expm1(periods * np.log1p(variance / np.exp(2 * growth))))
    return {
        "Return (Ann.) [%]": gain * 100,
        "Volatility (Ann.) [%]": volatility * 100,
        "Sharpe Ratio": _ratio(gain, volatility),
        "Sortino Ratio": _ratio(gain, downside),
    }


def _growth_a_year(growth: float, times: Times) -> float:
    years = _micros(times[-1] - times[0]) / (_YEAR_DAYS * _DAY)
    with np.errstate(over="ignore"):
        return float(np.float64(growth) ** (1 / years) - 1) if years > 0 else math.nan


def _against_market(equity: Floats, close: Floats | None) -> _Told:
    if close is None or close.size < _LEAST_BARS:
        return {"Beta": math.nan}
    with np.errstate(divide="ignore", invalid="ignore"):  # an account that is ruined has no log return
        ours, market = np.diff(np.log(equity)), np.diff(np.log(close))
        covariance = np.cov(ours, market)
        return {"Beta": covariance[0, 1] / covariance[1, 1]}


def _drawdowns(fall: Floats, times: Times) -> _Told:
    """Return the figures of the times under water: from a high to the next one, or to the last bar.

    Args:
        fall: (n,) share lost since the highest equity so far.
    """
    highs = np.unique(np.append(np.flatnonzero(fall == 0), fall.size - 1))
    first, last = highs[:-1], highs[1:]
    under = last > first + 1  # a fall of the last bar alone is no time
    first, last = first[under], last[under]
    edges = np.column_stack((first, last + 1)).ravel()
    deepest = np.maximum.reduceat(np.append(fall, 0.0), edges)[::2] if edges.size else np.empty(0)
    lasted = _micros(times[last] - times[first])
    return {
        "Max. Drawdown [%]": -float(fall.max()) * 100 + 0.0,
        "Avg. Drawdown [%]": -_mean(deepest) * 100,
        "Max. Drawdown Duration": _longest(lasted, times),
        "Avg. Drawdown Duration": _average(lasted, times),
    }


def _of_trades(trades: pl.DataFrame, times: Times) -> _Told:
    profit, returns = trades["profit"].to_numpy(), trades["return_pct"].to_numpy() / 100
    lasted = _micros(times[trades["exit_bar"].to_numpy()] - times[trades["entry_bar"].to_numpy()])
    won, lost = profit[profit > 0], profit[profit < 0]
    win_rate = won.size / profit.size if profit.size else math.nan
    kept = profit.size > 0 and bool((returns > -1).all())
    deviation = float(profit.std(ddof=1)) if profit.size > 1 else math.nan
    return {
        "# Trades": profit.size,
        "Win Rate [%]": win_rate * 100,
        "Best Trade [%]": returns.max() * 100 if returns.size else None,
        "Worst Trade [%]": returns.min() * 100 if returns.size else None,
        "Avg. Trade [%]": np.expm1(np.log1p(returns).mean()) * 100 if kept else None,
        "Max. Trade Duration": _longest(lasted, times),
        "Avg. Trade Duration": _average(lasted, times),
        "Profit Factor": _ratio(returns[returns > 0].sum(), -returns[returns < 0].sum()),
        "Expectancy [%]": _mean(returns) * 100,
        "SQN": math.sqrt(profit.size) * _ratio(_mean(profit), deviation),
        "Kelly Criterion": win_rate - _ratio(1 - win_rate, _ratio(_mean(won), -_mean(lost))),
    }


def _longest(lasted: Micros, times: Times) -> str | None:
    return _text(int(lasted.max()), 1, times) if lasted.size else None


def _average(lasted: Micros, times: Times) -> str | None:
    return _text(int(lasted.sum()), lasted.size, times) if lasted.size else None


def _text(micros: int, count: int, times: Times | None = None) -> str:
    """Return `micros / count` as the library prints it: rounded up to the unit that the bars are counted in."""
    unit = 1 if times is None else _unit(times)
    rounded = -(-micros // (count * unit)) * unit
    days, rest = divmod(rounded // _SECOND, 86_400)
    return f"{days} days {rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"


def _unit(times: Times) -> int:
    steps = np.diff(times[-_STEPS:])
    usual = int(np.median(_micros(steps))) if steps.size else 1
    return next(unit for unit in _UNITS if usual % unit == 0)


def _micros(span: Any) -> Any:
    """Return a time span, or many, in whole microseconds."""
    return span.astype("timedelta64[us]").astype(np.int64)


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else math.nan


def _ratio(one: float, other: float) -> float:
    return float(one) / float(other) if other else math.nan


def _plain(value: Any) -> StatValue:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
