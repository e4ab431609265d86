"""What a portfolio returns: its figures, what each pair brought in, and how much risk they took from one another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from forexgpt_core.backtest.performance import Floats, Stats
from forexgpt_core.backtest.portfolio_layout import REFUSED_CORRELATION, REFUSED_EXPOSURE, REFUSED_POSITIONS, Account

REFUSALS = {
    "entries_refused_by_positions": REFUSED_POSITIONS,
    "entries_refused_by_exposure": REFUSED_EXPOSURE,
    "entries_refused_by_correlation": REFUSED_CORRELATION,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PortfolioResult:
    """Several pairs on one account. Money is in account currency.

    Attributes:
        stats: JSON-safe figures, None where undefined: those of a single pair (see `engine.run_backtest`), and pairs;
            entries_refused (margin), entries_refused_by_positions, _by_exposure, _by_correlation; risk_pct, the
            standard deviation of the returns per FX day over a year; summed_risk_pct, the sum of those of the pairs'
            shares in the returns; diversification_ratio, the latter over the former, 1 or more.
        pairs: a row for each, by symbol: symbol, trades, win_rate_pct, profit_factor, profit (net, of closed trades;
            they sum to what the account gained), contribution_pct (profit over cash), risk_pct (of its share in the
            returns per day, standing alone), risk_share_pct (of the account's variance; they sum to 100, and a pair
            that offsets others has less than 0), exposure_pct, commission, swap, spread_cost, slippage_cost, turnover
            and the counts of entries that did not happen.
        trades: columns of `result.TRADES_SCHEMA` after `symbol`, in order of entry, then of symbol. Bars are rows of
            `equity`. The broker closes a pair without a bar at that moment at its last close.
        equity: `ts_utc, equity`, the account at the close of the bars opened at ts_utc.
        exposure: `ts_utc` and a column for each currency, the net position at that close over equity; 0 after ruin.
    """

    stats: Stats
    pairs: pl.DataFrame
    trades: pl.DataFrame
    equity: pl.DataFrame
    exposure: pl.DataFrame


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Risks:
    """Deviations over a year, in per cent; None where there is no second day.

    Attributes:
        of_account, of_pairs: of returns per FX day, and of the pairs' shares in them.
        shares_pct: of the pairs in the account's variance.
    """

    of_account: float | None
    of_pairs: list[float | None]
    shares_pct: list[float | None]

    def stats(self) -> Stats:
        """Return the figures that are told of the account."""
        known = [risk for risk in self.of_pairs if risk is not None]
        summed = sum(known) if known else None
        ratio = summed / self.of_account if summed is not None and self.of_account else None
        return {"risk_pct": self.of_account, "summed_risk_pct": summed, "diversification_ratio": ratio}


def risks(earned: Floats, equity: Floats, cash: float, yearly: float) -> Risks:
    """Return what each pair's share in the daily returns adds to their risk.

    Args:
        earned: (days, pairs) brought in by each day's end.
        equity: (days,) at each day's end.
        yearly: square root of the days in a year.
    """
    before = np.concatenate(([cash], equity[:-1]))[:, None]
    gained = np.diff(earned, axis=0, prepend=np.zeros((1, earned.shape[1])))
    shares = np.divide(gained, before, out=np.zeros_like(gained), where=before > 0)
    if shares.shape[0] < 2:
        none: list[float | None] = [None] * shares.shape[1]
        return Risks(of_account=None, of_pairs=none, shares_pct=none)
    centred = shares - shares.mean(axis=0)
    covariance = centred.T @ centred / (shares.shape[0] - 1)
    variance = float(covariance.sum())
    to_percent = 100 * yearly
    return Risks(
        of_account=to_percent * math.sqrt(max(variance, 0.0)),
        of_pairs=[to_percent * math.sqrt(float(v)) for v in np.diag(covariance)],
        shares_pct=[100 * float(v) / variance if variance > 1e-30 else None for v in covariance.sum(axis=1)],
    )


def pairs_table(symbols: Sequence[str], figures: Sequence[Stats], account: Account, told: Risks) -> pl.DataFrame:
    """Return the rows of `PortfolioResult.pairs`.

    Args:
        figures: of each pair, as `engine.figures` gives them.
    """
    tallies = account.tallies
    profit = tallies["won"] - tallies["lost"]
    cash = float(figures[0]["cash"] or 0.0)
    rows = [
        {
            "symbol": symbol,
            **{name: one[name] for name in ("trades", "win_rate_pct", "profit_factor")},
            "profit": float(profit[n]),
            "contribution_pct": 100 * float(profit[n]) / cash,
            "risk_pct": told.of_pairs[n],
            "risk_share_pct": told.shares_pct[n],
            **{name: one[name] for name in _OF_A_PAIR},
            **{name: int(account.refusals[n, kind]) for name, kind in REFUSALS.items()},
        }
        for n, (symbol, one) in enumerate(zip(symbols, figures, strict=True))
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


_OF_A_PAIR = (
    *("exposure_pct", "commission", "swap", "spread_cost", "slippage_cost", "turnover"),
    *("entries_too_small", "entries_held_back", "entries_refused"),
)
