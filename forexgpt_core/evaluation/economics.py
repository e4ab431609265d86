"""Can the skill pay for the trading, and are there observations enough to know?"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtri

from forexgpt_core.domain.instruments import instrument
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.dependence import variance_of_window_mean

Floats = NDArray[np.float64]

_LEAST_ROWS = 10
_YEAR_SECONDS = 365.25 * 86_400
_TRADE_COLUMNS = ("lots", "entry_price", "exit_price", "profit")
_COUNTED = ("spread_cost", "slippage_cost", "commission", "swap", "turnover")


def break_even_hit_rate(round_trip_cost: float, mean_absolute_return: float) -> float:
    """Return the share of right signs at which equal bets neither win nor lose: (1 + cost / E|r|) / 2.

    Above 1 the cost exceeds the mean move, and not even a perfect forecaster of the sign earns it.

    Args:
        round_trip_cost: log return, or any unit that both arguments share; 0 or more.
        mean_absolute_return: E|r| over the holding period, above 0.
    """
    if not (math.isfinite(round_trip_cost) and round_trip_cost >= 0):
        raise BadInput(f"round_trip_cost must be finite and 0 or more, was {round_trip_cost}")
    if not (math.isfinite(mean_absolute_return) and mean_absolute_return > 0):
        raise BadInput(f"mean_absolute_return must be finite and above 0, was {mean_absolute_return}")
    return (1 + round_trip_cost / mean_absolute_return) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeEconomics:
    """What the trades of a backtest have cost, what they could have cost, and how much was traded.

    A pip is worth what it was on average over all that was bought and sold, so pips mean the same in every account.

    Attributes:
        trades: finished trades.
        cost: spread, slippage and commissions paid, less swap received (or with swap paid), in account currency.
        cost_per_trade: likewise.
        cost_share: of what the trades would have earned for free; above 1 costs took more than there was, None where
            there was nothing to take.
        cost_pips: cost of a round trip.
        break_even_pips: the round-trip cost at which these very trades earn 0; below 0 they lose even for free. Other
            costs would also change which trades are made, so it is a margin and no forecast.
        turnover_per_year: notional bought and sold over mean equity, both sides counted, per year of the span.
    """

    trades: int
    cost: float
    cost_per_trade: float
    cost_share: float | None
    cost_pips: float
    break_even_pips: float
    turnover_per_year: float


def trade_economics(
    trades: pl.DataFrame, equity: pl.DataFrame, stats: Mapping[str, object], symbol: str
) -> TradeEconomics:
    """Return costs, break-even cost and turnover of a backtest, whatever its costs and the currency of its account.

    Args:
        trades: with lots, entry_price, exit_price and profit (net, account currency) of each trade.
        equity: `ts_utc, equity` of the account over the whole span.
        stats: spread_cost, slippage_cost, commission, swap and turnover of those trades, in account currency, as
            `backtest.engine` counts them: each at the rate of the moment it was paid.

    Raises:
        BadInput: there is no trade, a column or figure is absent or not finite, or the span has no length.
    """
    absent = [name for name in _TRADE_COLUMNS if name not in trades.columns]
    if absent or not {"ts_utc", "equity"} <= set(equity.columns):
        raise BadInput(f"trades need {', '.join(_TRADE_COLUMNS)} and equity ts_utc, equity; trades lack {absent}")
    if trades.height == 0:
        raise BadInput(f"the backtest of {symbol} made no trade, so it has no break-even cost")
    spread, slippage, commission, swap, turnover = (_figure(stats, name) for name in _COUNTED)
    lots, bought, sold, profit = (trades[name].cast(pl.Float64).to_numpy() for name in _TRADE_COLUMNS)
    if not (np.isfinite(profit).all() and np.isfinite(bought).all() and np.isfinite(sold).all() and (lots > 0).all()):
        raise BadInput(f"trades of {symbol} hold prices or profits that are not finite, or lots not above 0")
    pair = instrument(symbol)
    units = lots * float(pair.lot_units)
    rate = turnover / float((units * (bought + sold)).sum())  # account currency per unit of quote currency
    pip_value = pair.pip * float(units.sum()) * rate  # of one pip on every trade
    if not pip_value > 0:
        raise BadInput(f"the turnover of trades of {symbol} must be above 0, was {turnover}")
    cost = spread + slippage + commission - swap
    gross = float(profit.sum()) + cost
    return TradeEconomics(
        trades=trades.height,
        cost=cost,
        cost_per_trade=cost / trades.height,
        cost_share=cost / gross if gross > 0 else None,
        cost_pips=cost / pip_value,
        break_even_pips=gross / pip_value,
        turnover_per_year=turnover / _mean_equity(equity, symbol) / _years(equity, symbol),
    )


def _figure(stats: Mapping[str, object], name: str) -> float:
    value = stats.get(name)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise BadInput(f"the figures of the backtest need {', '.join(_COUNTED)}, finite; {name} was {value}")
    return float(value)


def _years(equity: pl.DataFrame, symbol: str) -> float:
    times = equity["ts_utc"]
    seconds = (times[-1] - times[0]).total_seconds() if equity.height > 1 else 0.0
    if not seconds > 0:
        raise BadInput(f"the account of {symbol} needs equity over more than one bar")
    return seconds / _YEAR_SECONDS


def _mean_equity(equity: pl.DataFrame, symbol: str) -> float:
    mean = float(equity["equity"].to_numpy().mean()) if equity.height else math.nan
    if not (math.isfinite(mean) and mean > 0):
        raise BadInput(f"the account of {symbol} needs a mean equity that is finite and above 0, was {mean}")
    return mean


def turnover_of_positions(positions: Floats, periods_per_year: float) -> float:
    """Return how many times the account is turned over in a year: mean |change of position| per period x periods.

    Args:
        positions: (n,) exposure over equity held in each period, signed; it starts and ends flat.
        periods_per_year: how many such periods a year has.

    Raises:
        BadInput: there is no position, or one is not finite.
    """
    held = np.asarray(positions, dtype=np.float64)
    if held.ndim != 1 or held.size == 0 or not np.isfinite(held).all():
        raise BadInput(f"positions must be a series of finite numbers, had shape {held.shape}")
    if not periods_per_year > 0:
        raise BadInput(f"periods_per_year must be above 0, was {periods_per_year}")
    return float(np.abs(np.diff(held, prepend=0.0, append=0.0)).sum()) / held.size * periods_per_year


@dataclass(frozen=True, slots=True, kw_only=True)
class IndependentObservations:
    """How many observations some dependent rows are worth.

    Attributes:
        rows: as they stand.
        nonoverlapping: rows whose labels share no bar.
        effective: independent rows that would give a mean of the same variance, never more than `nonoverlapping`.
    """

    rows: int
    nonoverlapping: int
    effective: float


def independent_observations(x: Floats, overlap_rows: int) -> IndependentObservations:
    """Return how many independent observations the mean of a series rests on.

    Args:
        x: (n,) in time order, such as loss differences; at least 10.
        overlap_rows: how many consecutive rows share part of a label; 1 where none do.

    Raises:
        BadInput: too few rows, not finite, or all the same.
    """
    values = np.asarray(x, dtype=np.float64)
    if values.ndim != 1 or values.size < _LEAST_ROWS:
        raise BadInput(f"independent observations need a series of at least {_LEAST_ROWS} rows, had {values.shape}")
    if overlap_rows < 1:
        raise BadInput(f"overlap_rows must be 1 or more, was {overlap_rows}")
    if not np.isfinite(values).all():
        raise BadInput(f"{int((~np.isfinite(values)).sum())} of {values.size} rows are not finite")
    if float(np.ptp(values)) <= 1e-12 * float(np.abs(values).max()):
        raise BadInput(f"all {values.size} rows are {values[0]:.6g}; a constant series holds no observation of chance")
    apart = math.ceil(values.size / overlap_rows)
    worth = float(values.var()) / variance_of_window_mean(values, values.size)
    return IndependentObservations(rows=values.size, nonoverlapping=apart, effective=min(worth, float(apart)))


def rows_for_effect(
    effect: float, *, rows_per_observation: float = 1.0, power: float = 0.8, level: float = 0.05
) -> int:
    """Return how many rows it takes to show a mean above 0, one-sided.

    Args:
        effect: mean over standard deviation of a row: of loss differences for a skill, of returns for a Sharpe ratio.
        rows_per_observation: rows over `IndependentObservations.effective`, 1 or more.
    """
    if not (math.isfinite(effect) and effect > 0):
        raise BadInput(f"effect must be finite and above 0, was {effect}; no number of rows shows what is absent")
    if not rows_per_observation >= 1:
        raise BadInput(f"rows_per_observation must be 1 or more, was {rows_per_observation}")
    return math.ceil((sum(_quantiles(power, level)) / effect) ** 2 * rows_per_observation)


def _quantiles(power: float, level: float) -> tuple[float, float]:
    if not (0.5 <= power < 1 and 0 < level <= 0.5):
        raise BadInput(f"power must lie in [0.5, 1) and level in (0, 0.5], were {power} and {level}")
    return float(ndtri(1 - level)), float(ndtri(power))
