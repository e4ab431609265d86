"""What the stores of a home say about a pair, as rows and figures for the command line and the demo."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, cast

import numpy as np
import polars as pl

from forexgpt_core import evidence
from forexgpt_core.composition import ENSEMBLE, REFERENCE, Platform
from forexgpt_core.deployment.symbol_settings import SymbolSettings
from forexgpt_core.domain.clock import Timeframe, bar_close, from_utc
from forexgpt_core.domain.forecast_table import from_table
from forexgpt_core.domain.forecasts import LEVELS, Floats, ForecastBatch
from forexgpt_core.errors import NotReady
from forexgpt_core.evaluation.card import CardInputs
from forexgpt_core.evaluation.card_entries import JudgedFamily, Names
from forexgpt_core.evaluation.card_money import StrategyRecord
from forexgpt_core.evaluation.report_card import HorizonScore, rank
from forexgpt_core.features.windows import Windows
from forexgpt_core.models.catalogue import FAMILIES
from forexgpt_core.reporting.canvas import p_text

CARD = "report_card"


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


def card_inputs(platform: Platform, symbol: str) -> CardInputs:
    """Return what the report card of a pair is made from: all that stands on its current data, and what does not.

    Raises:
        NotReady: the random walk has not been evaluated on the current data.
    """
    settings = platform.pair(symbol)
    judged, missing = platform.judged_families(settings), list[str]()
    walk = _stored(platform, settings, REFERENCE)
    families = {family: _judged(platform, settings, family, walk, missing) for family in judged}
    pool = _of_ensemble(platform, settings, judged[REFERENCE].data_version, missing)
    bars = platform.lake.candles(
        settings.symbol, Timeframe.parse(settings.timeframe), version=platform.pin(settings).candles
    )
    costed = settings
    if pool is not None:
        families[ENSEMBLE] = _judged(platform, settings, ENSEMBLE, walk, missing)
    try:
        costed = platform.with_measured_spread(settings, bars, walk[0])
    except NotReady as refused:
        missing.append(f"measured spread: {refused}")
    kept = {family: one for family, one in families.items() if one is not None}
    return CardInputs(
        symbol=settings.symbol,
        timeframe=settings.timeframe,
        families=kept,
        reference=REFERENCE,
        traded=ENSEMBLE,
        regimes=_regimes(bars, kept, missing),
        round_trip_cost=costed.costs.round_trip_return(settings.symbol, float(cast("float", bars["close"].mean()))),
        tested=None if pool is None else _tested(platform, settings, pool, missing),
        paths=_cross_validated(platform, settings),
        beside=_beside(platform, settings, pool, tuple(kept)),
        absent=tuple(family for family in settings.families if family not in kept),
        missing=missing,
        seed=settings.seed,
    )


def newest_card(platform: Platform, symbol: str) -> dict[str, Any]:
    """Return the newest report card of a pair, as it was stored.

    Raises:
        NotReady: there is none.
    """
    settings = platform.pair(symbol)
    timeframe = Timeframe.parse(settings.timeframe)
    if not platform.lake.exists(CARD, settings.symbol, timeframe):
        raise NotReady(f"{settings.symbol} {timeframe} has no report card yet: materialize report_card")
    document: dict[str, Any] = json.loads(platform.lake.read(CARD, settings.symbol, timeframe)["document"][-1])
    return document


def store_card(platform: Platform, symbol: str, document: Mapping[str, Any]) -> int:
    """Make a report card the newest of its pair and return the version of the lake's table; earlier ones are kept."""
    settings = platform.pair(symbol)
    row = pl.DataFrame(
        {"recorded_utc": [document["recorded_utc"]], "document": [json.dumps(document, allow_nan=False)]}
    )
    return platform.lake.replace(CARD, settings.symbol, Timeframe.parse(settings.timeframe), row)


def card_rows(document: Mapping[str, Any]) -> list[dict[str, object]]:
    """Return a report card's figures by family and horizon as a person reads them."""
    rows = []
    for family in document["families"]:
        for entry in family["horizons"]:
            score, called, lost = entry["score"], entry["direction"], entry["degradation"]
            rows.append(
                {
                    "family": family["family"],
                    "bars": score["horizon_bars"],
                    "skill %": _skill_range(score),
                    "p Holm": p_text(entry["holm_p"]),
                    "fitted on %": "-" if lost is None else f"{100 * lost['in_sample_skill']:+.2f}",
                    "90 % covers": f"{100 * score['coverage_90']:.1f}" + ("" if entry["calibrated"] else " off"),
                    "PIT p": "-" if entry["pit"] is None else p_text(entry["pit"]["independent"]["p_value"]),
                    "right % (detectable)": _hits(called),
                    "R2 %": "-" if entry["r2"] is None else f"{100 * entry['r2']:+.2f}",
                    "origins (apart)": f"{score['n']:,} ({score['n_independent']:,})",
                }
            )
    return rows


def _skill_range(score: Mapping[str, Any]) -> str:
    skill, low, high = (100 * score[name] for name in ("skill", "skill_low", "skill_high"))
    return f"{skill:+.2f} ({low:+.2f} to {high:+.2f})"


def _hits(called: Mapping[str, Any]) -> str:
    if called["hit_rate"] is None:
        return "no call"
    seen = called["detectable"]
    return f"{100 * called['hit_rate']:.1f} ({'-' if seen is None else f'{100 * seen:.1f}'})"


def _stored(platform: Platform, settings: SymbolSettings, family: str) -> tuple[ForecastBatch, Floats]:
    rows = platform.lake.read(f"forecasts_{family}", settings.symbol, Timeframe.parse(settings.timeframe))
    if "deployed" in rows.columns:  # an ensemble is stored in every mode of combination
        rows = rows.filter(pl.col("deployed"))
    return from_table(rows, symbol=settings.symbol, timeframe=settings.timeframe, family=family)


def _judged(
    platform: Platform,
    settings: SymbolSettings,
    family: str,
    walk: tuple[ForecastBatch, Floats],
    missing: list[str],
) -> JudgedFamily | None:
    """Return a family's forecasts beside the walk's of the same origins, None where they cannot stand side by side."""
    forecasts, returns = _stored(platform, settings, family)
    if forecasts.horizons_bars != walk[0].horizons_bars:
        missing.append(f"{family}: forecasts {forecasts.horizons_bars} bars ahead, {REFERENCE} {walk[0].horizons_bars}")
        return None
    shared = np.isin(forecasts.origin_utc, walk[0].origin_utc)
    if not shared.all():
        missing.append(
            f"{family}: {int((~shared).sum())} of {shared.size} forecasts have none of {REFERENCE} beside them"
        )
    if not shared.any():
        return None
    kept = forecasts.take(shared)
    rows = np.searchsorted(walk[0].origin_utc, kept.origin_utc)
    return JudgedFamily(
        forecasts=kept,
        returns=returns[shared],
        reference=walk[0].take(rows),
        fitted=_fitted(platform, settings, family),
    )


def _fitted(
    platform: Platform, settings: SymbolSettings, family: str
) -> tuple[ForecastBatch, ForecastBatch, Floats] | None:
    """Return forecasts of the rows a family was fitted on, each by the newest fold that the walk has too."""
    lake, timeframe = platform.lake, Timeframe.parse(settings.timeframe)
    kinds = [f"in_sample_{name}" for name in (family, REFERENCE)]
    if not all(lake.exists(kind, settings.symbol, timeframe) for kind in kinds):
        return None
    own, plain = (lake.read(kind, settings.symbol, timeframe) for kind in kinds)
    key = ["ts_utc", "horizon_bars", "fold"]
    own = own.join(plain.select(key), on=key, how="semi").sort("fold")
    own = own.unique(subset=["ts_utc", "horizon_bars"], keep="last", maintain_order=True)
    if own.is_empty():
        return None
    plain = plain.join(own.select(key), on=key, how="semi")
    names = {"symbol": settings.symbol, "timeframe": settings.timeframe}
    inside, returns = from_table(own, **names, family=family)
    return inside, from_table(plain, **names, family=REFERENCE)[0], returns


def _of_ensemble(platform: Platform, settings: SymbolSettings, data_version: str, missing: list[str]) -> str | None:
    """Return the bundle hash of the newest ensemble where it and its stored forecasts stand on the current data."""
    try:
        newest, _, _ = platform.traded_forecasts(settings)
    except NotReady as refused:
        missing.append(f"ensemble: {refused}")
        return None
    if newest.data_version != data_version:
        missing.append(
            f"ensemble: the newest stands on data {newest.data_version}, the families on {data_version}:"
            " materialize ensemble"
        )
        return None
    return newest.bundle_hash


def _regimes(bars: pl.DataFrame, families: Mapping[str, JudgedFamily], missing: list[str]) -> dict[str, Names]:
    """Return the regime at every origin, by what was known there."""
    from forexgpt_core.ensemble.regimes import REGIMES, RegimeSettings, running_labels

    labels = np.array([*REGIMES, "unknown"])[running_labels(bars["close"].to_numpy(), RegimeSettings())]
    times, found = bars["ts_utc"].to_numpy().astype("datetime64[us]"), {}
    for family, judged in families.items():
        origins = judged.forecasts.origin_utc
        rows = np.minimum(np.searchsorted(times, origins), times.size - 1)
        if (times[rows] == origins).all():
            found[family] = labels[rows]
        else:
            missing.append(f"regimes of {family}: {int((times[rows] != origins).sum())} origins have no candle")
    return found


def _tested(platform: Platform, settings: SymbolSettings, bundle_hash: str, missing: list[str]) -> StrategyRecord:
    """Return backtest and search of that ensemble; those of another one are named and left out."""
    from forexgpt_core.backtest.performance import day_ends, day_returns

    symbol, timeframe = settings.symbol, Timeframe.parse(settings.timeframe)
    rows = platform.scores.latest(symbol, settings.timeframe, "backtest")
    stats = next((row for row in rows if row["bundle_hash"] == bundle_hash), None)
    if stats is None:
        missing.append(
            f"backtest: {'none is' if not rows else 'the newest is not'} of this ensemble: materialize backtest"
        )
    study = platform.studies.newest(symbol, settings.timeframe)
    search = None
    if study is not None and study.bundle_hash == bundle_hash:
        search = study.details.get("overfitting")
    if search is None:
        missing.append(
            f"search: {'none is' if study is None else 'the newest is not'} of this ensemble:"
            " materialize pareto_configs"
        )
    returns = np.array([])
    if stats is not None:
        equity = platform.lake.read("backtest_equity", symbol, timeframe)
        ends, _ = day_ends(equity["ts_utc"].to_numpy().astype("datetime64[us]"))
        returns = day_returns(equity["equity"].to_numpy(), float(stats["cash"]), ends)
    trials = platform.studies.trial_registry(symbol, settings.timeframe)
    return StrategyRecord(stats=stats, period_returns=returns, trials=trials, search=search)


def _cross_validated(platform: Platform, settings: SymbolSettings) -> pl.DataFrame | None:
    key = ("cross_validation", settings.symbol, Timeframe.parse(settings.timeframe))
    return platform.lake.read(*key) if platform.lake.exists(*key) else None


def _beside(
    platform: Platform, settings: SymbolSettings, pool: str | None, judged: tuple[str, ...]
) -> list[HorizonScore]:
    """Return scores that were stored with the walk's evaluation and with the ensemble, of what keeps no forecasts."""
    hashes = [platform.version(settings, REFERENCE, "evaluation").bundle_hash]
    hashes += [] if pool is None else [pool]
    names = [field.name for field in fields(HorizonScore)]
    rows = [row for one in hashes for row in platform.scores.of_bundle(one) if row["family"] not in judged]
    known: list[dict[str, Any]] = [{n: math.nan if row.get(n) is None else row[n] for n in names} for row in rows]
    return [HorizonScore(**values) for values in known]
