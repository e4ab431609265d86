"""The ensemble of the families that exist, weighted by what they got wrong before."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from time import perf_counter
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from forexgpt_assets.checks import coverage_check, coverage_spec
from forexgpt_assets.defs.evaluation import leaderboard
from forexgpt_assets.defs.features import features
from forexgpt_assets.metadata import figures, picture, table
from forexgpt_assets.partitions import symbols
from forexgpt_core import evidence
from forexgpt_core.composition import ENSEMBLE, REFERENCE, Platform
from forexgpt_core.deployment.symbol_settings import SymbolSettings
from forexgpt_core.domain.clock import Timeframe, from_utc
from forexgpt_core.domain.forecast_table import to_table
from forexgpt_core.evaluation.report_card import HorizonScore

if TYPE_CHECKING:
    from forexgpt_core.ensemble.evidence import EnsembleEvidence
    from forexgpt_core.models.bundle import Bundle


@dg.asset(
    deps=[features, leaderboard],
    partitions_def=symbols,
    group_name="strategy",
    check_specs=[coverage_spec("ensemble")],
)
def ensemble(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
    """The calibrated families in one forecast, calibrated once more, as the bundle a deployment names.

    Weights and intervals at an origin use outcomes known by then. The first fold of the families' walk-forward starts
    both; the ensemble is scored and traded on what followed. Run again after new bars, it weighs the same models by
    their newest errors, without training.
    """
    from forexgpt_core.ensemble.evidence import ensemble_evidence
    from forexgpt_core.reporting.ensemble import weights_picture
    from forexgpt_core.reporting.evaluation import reliability_and_pit_picture, skill_picture

    started = perf_counter()
    settings = platform.pair(context.partition_key)
    members = evidence.members(platform, settings)
    found = ensemble_evidence(
        members.forecasts,
        reference=REFERENCE,
        scored_from_utc=members.scored_from,
        settings=settings.ensemble,
        adaptive=settings.calibration.adaptive,
        candles=members.candles,
    )
    bundle = _write_bundle(platform, settings, members, found)
    scores = _scores(found, settings)
    version = _store(platform, settings, bundle, members.data_version, found, scores)
    title = f"{settings.symbol} {settings.timeframe} ensemble"
    shown = {
        "bundle_hash": bundle.hash12,
        "method": settings.ensemble.method,
        "mode": settings.ensemble.mode,
        "calibrator": found.forecasts.calibrator,
        "capped_intervals": 0 if found.adaptive is None else int(found.adaptive.learned.capped.sum()),
        "members": ", ".join(found.names),
        "absent": ", ".join(f for f in settings.families if f not in members.judged) or "none",
        "newer_bars": members.newer,
        "newer_bars_note": members.note or "none left out",
        "first_utc": from_utc(found.forecasts.origin_utc[0]),
        "last_utc": from_utc(found.forecasts.origin_utc[-1]),
        "lake_version": version,
        "seconds": perf_counter() - started,
    }
    own = [score for score in scores if score.family == ENSEMBLE]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(bundle.hash12),
        metadata={
            "dagster/row_count": len(found.forecasts),
            **figures({f"crps_h{s.horizon_bars}": s.crps for s in own}),
            **figures({f"skill_h{s.horizon_bars}": s.skill for s in own}),
            **figures({f"coverage_90_h{s.horizon_bars}": s.coverage_90 for s in own}),
            **figures({f"width_90_h{s.horizon_bars}": s.width_90 for s in own}),
            **figures(shown),
            "scores": table([s.to_dict() for s in scores]),
            "newest_weights": table(_weight_rows(found)),
            "weights": picture(
                weights_picture(found.origin_utc, found.weights[:, :, 0], found.names, title), "weights"
            ),
            "skill": picture(skill_picture(scores, title), "skill over the random walk"),
            "reliability": picture(
                reliability_and_pit_picture(found.forecasts, found.returns, title), "reliability and PIT"
            ),
        },
        check_results=[coverage_check("ensemble", found.forecasts, found.returns)],
    )


def _write_bundle(
    platform: Platform, settings: SymbolSettings, members: evidence.Members, found: "EnsembleEvidence"
) -> "Bundle":
    from forexgpt_core.ensemble.bundle import write_ensemble_bundle
    from forexgpt_core.ensemble.evidence import by_family

    return write_ensemble_bundle(
        platform.bundles,
        symbol=settings.symbol,
        timeframe=settings.timeframe,
        members={family: (f"{family}_calibration", one.bundle_hash) for family, one in members.judged.items()},
        weights=by_family(found.names, found.today),
        recalibrator=found.recalibrator,
        recipe_json=evidence.recipe_of(platform, members.judged[REFERENCE]),
        metadata={
            "weighting": asdict(settings.ensemble),
            "data_version": members.data_version,
            "newer_bars": members.newer,
            **platform.provenance(),
        },
        mode=settings.ensemble.mode,
        uncertainty_exponent=settings.ensemble.uncertainty_exponent,
        regimes=found.regimes,
        regime_weights={regime: by_family(found.names, one) for regime, one in found.today_by_regime.items()},
        adaptive=found.adaptive,
    )


def _scores(found: "EnsembleEvidence", settings: SymbolSettings) -> list[HorizonScore]:
    """Return the report card of the deployed forecast and of every other mode under the mode's name.

    They are judged beside a random walk that learns from every outcome as they do; what that alone is worth stands
    beside them as "adaptive_walk".
    """
    from forexgpt_core.evaluation.report_card import score_family

    modes = [replace(one, family=f"ensemble_{mode}") for mode, one in found.modes.items() if mode not in _SHOWN_ANYHOW]
    judged = [found.forecasts, found.equal_weights, *modes]
    walk = replace(found.reference, family="adaptive_walk")
    return [
        *(s for one in judged for s in score_family(one, found.returns, found.reference, seed=settings.seed)),
        *score_family(walk, found.returns, found.plain_reference, seed=settings.seed),
    ]


_SHOWN_ANYHOW = ("mean",)  # as equal weights


def _store(
    platform: Platform,
    settings: SymbolSettings,
    bundle: "Bundle",
    data_version: str,
    found: "EnsembleEvidence",
    scores: Sequence[HorizonScore],
) -> int:
    """Store forecasts of every mode and of their reference, scores, weights and regimes; return the lake's version."""
    symbol, frame = settings.symbol, settings.timeframe
    rows = [
        to_table(forecasts, found.returns).with_columns(
            bundle_hash=pl.lit(bundle.hash12), mode=pl.lit(mode), deployed=pl.lit(mode == settings.ensemble.mode)
        )
        for mode, forecasts in {**found.modes, "reference": found.reference}.items()
    ]
    version = platform.lake.replace("forecasts_ensemble", symbol, Timeframe.parse(frame), pl.concat(rows))
    for family in dict.fromkeys(score.family for score in scores):
        of_family = [score.to_dict() for score in scores if score.family == family]
        platform.scores.replace_evaluation(symbol, frame, family, bundle.hash12, of_family)
    for regime, weights in {"all": found.today, **found.today_by_regime}.items():
        by_horizon = {
            horizon: dict(zip(found.names, map(float, weights[:, column]), strict=True))
            for column, horizon in enumerate(found.forecasts.horizons_bars)
        }
        platform.scores.record_weights(symbol, frame, bundle.hash12, by_horizon, regime=regime)
    evidence.record_regimes(platform, settings, bundle.hash12, found)
    platform.training.record_version(
        symbol=symbol,
        timeframe=frame,
        family=ENSEMBLE,
        kind=ENSEMBLE,
        bundle_hash=bundle.hash12,
        data_version=data_version,
    )
    return version


def _weight_rows(found: "EnsembleEvidence") -> list[dict[str, object]]:
    return [
        {"regime": regime, "horizon_bars": horizon}
        | {name: float(weights[place, column]) for place, name in enumerate(found.names)}
        for regime, weights in {"all": found.today, **found.today_by_regime}.items()
        for column, horizon in enumerate(found.forecasts.horizons_bars)
    ]
