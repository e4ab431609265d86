"""The report card of a pair: what it is made from, where it is kept, and its figures as a person reads them."""

import json
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import polars as pl

from forexgpt_core import evidence
from forexgpt_core.composition import ENSEMBLE, REFERENCE, Platform
from forexgpt_core.deployment.symbol_settings import SymbolSettings
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.forecast_table import from_table
from forexgpt_core.domain.forecasts import Floats, ForecastBatch
from forexgpt_core.ensemble.regimes import REGIMES, RegimeSettings, running_labels
from forexgpt_core.errors import NotReady
from forexgpt_core.evaluation.card import CardInputs
from forexgpt_core.evaluation.card_entries import JudgedFamily, Names
from forexgpt_core.evaluation.card_money import StrategyRecord
from forexgpt_core.evaluation.report_card import HorizonScore
from forexgpt_core.reporting.canvas import p_text
from forexgpt_core.searches import trials_ever

CARD = "report_card"


def card_inputs(platform: Platform, symbol: str) -> CardInputs:
    """Return what the report card of a pair is made from: all that stands on the data of its newest evaluation.

    Raises:
        NotReady: the random walk was never evaluated.
    """
    settings = platform.pair(symbol)
    evaluated = platform.version(settings, REFERENCE, "evaluation").data_version
    judged, missing = evidence.judged_families(platform, settings, data_version=evaluated), list[str]()
    walk = _stored(platform, settings, REFERENCE)
    families = {family: _judged(platform, settings, family, walk, missing) for family in judged}
    pool = _of_ensemble(platform, settings, evaluated, missing)
    bars = platform.lake.candles(settings.symbol, Timeframe.parse(settings.timeframe))
    costed = settings
    if pool is not None:
        beside = _stored(platform, settings, ENSEMBLE, mode="reference")
        families[ENSEMBLE] = _judged(platform, settings, ENSEMBLE, beside, missing)
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
        regimes=_regimes(bars, settings.ensemble.regimes, kept, missing),
        round_trip_cost=costed.costs.round_trip_return(settings.symbol, float(cast("float", bars["close"].mean()))),
        tested=None if pool is None else _tested(platform, settings, pool, missing),
        paths=_cross_validated(platform, settings, evaluated, missing),
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


def _stored(
    platform: Platform, settings: SymbolSettings, family: str, *, mode: str | None = None
) -> tuple[ForecastBatch, Floats]:
    """Return stored forecasts; of an ensemble those that are deployed, or of another mode of combination.

    Raises:
        NotReady: a family's are not of its newest evaluation.
    """
    if family == ENSEMBLE:
        rows = platform.lake.read(f"forecasts_{family}", settings.symbol, Timeframe.parse(settings.timeframe))
        rows = rows.filter(pl.col("deployed") if mode is None else pl.col("mode") == mode)
    else:
        rows = evidence.walk_forward_table(platform, settings, family)
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
        newest, _, _ = evidence.traded_forecasts(platform, settings)
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


def _regimes(
    bars: pl.DataFrame, wanted: RegimeSettings | None, families: Mapping[str, JudgedFamily], missing: list[str]
) -> dict[str, Names]:
    """Return the regime at every origin, by what was known there."""
    places = running_labels(bars["close"].to_numpy(), wanted or RegimeSettings())
    labels = np.array([*REGIMES, "unknown"])[places]
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
    deployed = settings.ensemble.mode
    if stats is not None and stats.get("mode") not in (None, deployed):
        missing.append(
            f"backtest: the newest traded the mode '{stats['mode']}', not '{deployed}': materialize backtest"
        )
        stats = None
    elif stats is None:
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
    trials = trials_ever(platform, settings)
    return StrategyRecord(stats=stats, period_returns=returns, trials=trials, search=search)


def _cross_validated(
    platform: Platform, settings: SymbolSettings, data_version: str, missing: list[str]
) -> pl.DataFrame | None:
    """Return the newest backtest paths where they stand on the current data; those of other data are named."""
    key = ("cross_validation", settings.symbol, Timeframe.parse(settings.timeframe))
    if not platform.lake.exists(*key):
        return None
    paths = platform.lake.read(*key)
    stood = paths["data_version"][0] if "data_version" in paths.columns else "of an earlier release"
    if stood == data_version:
        return paths
    missing.append(f"cross-validation: it stands on data {stood}, the families on {data_version}: ask for it again")
    return None


def _beside(
    platform: Platform, settings: SymbolSettings, pool: str | None, judged: tuple[str, ...]
) -> list[HorizonScore]:
    """Return scores that were stored with the walk's evaluation and with the ensemble, of what keeps no forecasts."""
    hashes = [platform.version(settings, REFERENCE, "evaluation").bundle_hash]
    hashes += [] if pool is None else [pool]
    return [score for one in hashes for score in evidence.scores_of(platform, one) if score.family not in judged]
