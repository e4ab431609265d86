"""What the stores of a home say about a pair, as rows and figures for the command line and the demo."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from forexgpt_core import evidence
from forexgpt_core.composition import ENSEMBLE, Platform
from forexgpt_core.domain.clock import Timeframe, bar_close, from_utc
from forexgpt_core.domain.forecasts import LEVELS
from forexgpt_core.errors import NotReady
from forexgpt_core.evaluation.report_card import HorizonScore, rank
from forexgpt_core.features.windows import Windows
from forexgpt_core.models.catalogue import FAMILIES

_OF_BACKTEST = (  # besides the familiar statistics
    "turnover_per_year",
    "cost_per_trade",
    "cost_share",
    "cost_pips",
    "break_even_pips",
    "spread_cost",
    "slippage_cost",
    "swap",
    "probabilistic_sharpe",
    "deflated_sharpe",
    "trials_ever",
    "entries_too_small",
    "entries_refused",
    "entries_held_back",
    "missing_ask_bars",
    "crossed_ask_bars",
    "stale_rate_bars",
    "config",
    "plot",
)


def scores(platform: Platform, symbol: str) -> list[HorizonScore]:
    """Return the evaluation of every family on the current data, and of the ensemble where there is one."""
    settings = platform.pair(symbol)
    judged = [
        s
        for family in evidence.judged_families(platform, settings)
        for s in evidence.horizon_scores(platform, settings, family)
    ]
    try:
        return [*judged, *evidence.horizon_scores(platform, settings, ENSEMBLE)]
    except NotReady:
        return judged


def verdict(platform: Platform, symbol: str) -> str:
    """Return one sentence on a pair's families and ensemble, corrected for every comparison among them."""
    judged = scores(platform, symbol)
    present = {score.family for score in judged}
    return rank(judged, absent=tuple(f for f in FAMILIES if f not in present)).verdict


def score_rows(judged: Sequence[HorizonScore]) -> list[dict[str, object]]:
    """Return scores as a person reads them."""
    return [
        {
            "family": s.family,
            "bars ahead": s.horizon_bars,
            "CRPS, bp": f"{1e4 * s.crps:.2f}",
            "skill": f"{s.skill:+.2%}",
            "95 % interval": f"{s.skill_low:+.2%} to {s.skill_high:+.2%}",
            "DM p": f"{s.dm_p:.3f}",
            "inside 90 %": f"{s.coverage_90:.1%}",
            "direction": "no call" if math.isnan(s.direction) else f"{s.direction:.1%}",
            "n": s.n,
        }
        for s in judged
    ]


def path_rows(platform: Platform, symbol: str) -> list[dict[str, object]]:
    """Return the newest cross-validation of a pair: skill over the backtest paths, by horizon.

    Raises:
        NotReady: there is none.
    """
    settings = platform.pair(symbol)
    stored = platform.lake.read("cross_validation", settings.symbol, Timeframe.parse(settings.timeframe))
    skill = pl.col("skill")
    told = stored.group_by("family", "horizon_bars").agg(
        paths=pl.len(), mean=skill.mean(), lowest=skill.min(), highest=skill.max(), share_below_zero=(skill < 0).mean()
    )
    return told.sort("horizon_bars").to_dicts()


def strategy_line(stats: Mapping[str, Any]) -> str:
    """Return a strategy's figures in one line."""
    if not stats:
        return "not scored"
    sharpe = "-" if stats.get("sharpe") is None else f"{stats['sharpe']:.1f}"
    gain, fall = f"{stats['return_pct']:+.1f} %", f"drawdown {stats['max_drawdown_pct']:.1f} %"
    return f"{gain}, {fall}, Sharpe {sharpe}, {stats['trades']} trades"


def backtest_figures(platform: Platform, symbol: str) -> dict[str, object]:
    """Return the figures of a pair's newest backtest.

    Raises:
        NotReady: there is none.
    """
    settings = platform.pair(symbol)
    rows = platform.scores.latest(settings.symbol, settings.timeframe, "backtest")
    if not rows:
        raise NotReady(f"{settings.symbol} has no backtest yet: run 'forexgpt backtest {settings.symbol}'")
    return {name: value for name, value in rows[-1].items() if value is not None and name != "recorded_utc"}


def backtest_lines(told: Mapping[str, Any]) -> dict[str, str]:
    """Return what a person reads first of a backtest: the familiar statistics in their order, then those of our own."""
    from forexgpt_core.backtest.statistics import shown

    own = {name: told.get(name) for name in _OF_BACKTEST}
    return {**shown(told.get("statistics") or {}), **shown(own)}


def backtest_plot(platform: Platform, symbol: str) -> str:
    """Return the page of the interactive plot of a pair's newest backtest.

    Raises:
        NotReady: there is no backtest, or it has no plot, and why.
    """
    told = backtest_figures(platform, symbol)
    file = platform.page(str(told["symbol"]), "backtest")
    if not told.get("plot_drawn") or not file.exists():
        raise NotReady(str(told.get("plot") or f"{told['symbol']} has no plot: run 'forexgpt backtest {symbol}'"))
    return file.read_text(encoding="utf-8")


def forecast_rows(
    platform: Platform, symbol: str, *, horizons: Sequence[int] | None = None, unit: str = ""
) -> list[dict[str, object]]:
    """Return the newest ensemble's forecast from the newest bar in the lake: prices at every level, by horizon.

    It is calibrated by the live state, which stays as it is.

    Args:
        horizons: those that were trained by default.
        unit: timeframe whose bars they count, or "minutes"; the pair's own by default.

    Raises:
        NotReady: there is no ensemble, or a feature is missing at the newest bar.
        BadInput: a horizon is no whole number of bars, or outside the trained ones.
    """
    settings = platform.pair(symbol)
    timeframe = Timeframe.parse(settings.timeframe)
    newest = platform.version(settings, ENSEMBLE, ENSEMBLE)
    source = platform.forecast_source(settings.symbol, timeframe, newest.bundle_hash, only_read=True)
    bars = platform.lake.candles(settings.symbol, timeframe)
    arrays = source.arrays(bars)
    answer = platform.inference.forecast(
        Windows(arrays=arrays, rows=np.array([bars.height - 1])),
        newest.bundle_hash,
        horizons=horizons,
        unit=unit or None,
        calibrate=lambda _: source.calibrated(arrays),
    )
    batch, made_of = answer.forecasts, answer.provenance
    close = float(bars["close"][-1])
    prices = close * np.exp(batch.quantiles[0])
    return [
        {
            "symbol": settings.symbol,
            "known_utc": from_utc(bar_close(batch.origin_utc, timeframe)[0]),
            "horizon_bars": horizon,
            "close": close,
            **{f"q{1000 * level:03.0f}": float(price) for level, price in zip(LEVELS, prices[column], strict=True)},
            "interpolated": horizon in made_of.interpolated_bars,
            "calibrator": made_of.calibrator,
            "bundle_hash": newest.bundle_hash,
            "input_hash": made_of.input_hash[:12],
            "latency_ms": round(answer.latency_ms, 1),
        }
        for column, horizon in enumerate(batch.horizons_bars)
    ]


def deployment_facts(platform: Platform, symbol: str) -> dict[str, object]:
    """Return who deployed what for a pair.

    Raises:
        NotReady: nothing is deployed.
    """
    deployment = platform.deployments.active(platform.pair(symbol).symbol)
    if deployment is None:
        raise NotReady(f"nothing is deployed for {symbol}")
    facts = asdict(deployment)
    return {
        **facts,
        "config": {**facts["config"], "hash": deployment.config.hash12},
        "skill_shown": deployment.skill_shown,
    }
