"""The ensemble of the families that exist, weighted by what they got wrong before."""

from dataclasses import asdict
from time import perf_counter

import dagster as dg
import numpy as np
import polars as pl

from forexgpt_assets.defs.evaluation import leaderboard
from forexgpt_assets.metadata import figures, picture, table
from forexgpt_assets.partitions import symbols
from forexgpt_core.composition import REFERENCE, Platform
from forexgpt_core.domain.clock import Timeframe, from_utc
from forexgpt_core.domain.forecast_table import from_table, to_table


@dg.asset(deps=[leaderboard], partitions_def=symbols, group_name="strategy")
def ensemble(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
    """Inverse-CRPS pool of the calibrated families, recalibrated, as the bundle a deployment names.

    Weights at an origin use errors matured by then. The first fold of the families' walk-forward starts weights and
    recalibrator; the ensemble is scored and traded on the others.
    """
    from forexgpt_core.ensemble.evidence import WeightSettings, ensemble_evidence
    from forexgpt_core.ensemble.inference import write_ensemble_bundle
    from forexgpt_core.evaluation.report_card import score_family
    from forexgpt_core.reporting.ensemble import weights_picture
    from forexgpt_core.reporting.evaluation import reliability_and_pit_picture, skill_picture

    started = perf_counter()
    settings = platform.pair(context.partition_key)
    symbol, timeframe = settings.symbol, Timeframe.parse(settings.timeframe)
    judged = platform.judged_families(settings)
    weighting = WeightSettings()
    stored = {family: platform.lake.read(f"forecasts_{family}", symbol, timeframe) for family in judged}
    evidence = ensemble_evidence(
        {
            family: from_table(rows, symbol=symbol, timeframe=str(timeframe), family=family)
            for family, rows in stored.items()
        },
        reference=REFERENCE,
        scored_from_utc=_second_fold(stored[REFERENCE]),
        settings=weighting,
    )
    bundle = write_ensemble_bundle(
        platform.bundles,
        symbol=symbol,
        timeframe=str(timeframe),
        members={family: (f"{family}_calibration", version.bundle_hash) for family, version in judged.items()},
        weights=dict(zip(evidence.names, evidence.today, strict=True)),
        recalibrator=evidence.recalibrator,
        recipe_json=platform.stored_recipe(settings).to_json(),
        metadata={"weighting": asdict(weighting), **platform.provenance()},
    )
    scores = [
        score
        for forecasts in (evidence.forecasts, evidence.equal_weights)
        for score in score_family(forecasts, evidence.returns, evidence.reference, seed=settings.seed)
    ]
    forecast_rows = to_table(evidence.forecasts, evidence.returns).with_columns(bundle_hash=pl.lit(bundle.hash12))
    version = platform.lake.replace("forecasts_ensemble", symbol, timeframe, forecast_rows)
    last = from_utc(evidence.forecasts.origin_utc[-1])
    for family in ("ensemble", "equal_weights"):
        platform.scores.replace_evaluation(
            symbol,
            str(timeframe),
            family,
            bundle.hash12,
            [score.to_dict() for score in scores if score.family == family],
        )
    platform.scores.record_weights(
        symbol,
        str(timeframe),
        bundle.hash12,
        {
            horizon: dict(zip(evidence.names, map(float, evidence.today[:, column]), strict=True))
            for column, horizon in enumerate(evidence.forecasts.horizons_bars)
        },
    )
    platform.training.record_version(
        symbol=symbol,
        timeframe=str(timeframe),
        family="ensemble",
        kind="ensemble",
        bundle_hash=bundle.hash12,
        data_version=judged[REFERENCE].data_version,
    )
    title = f"{symbol} {timeframe} ensemble"
    return dg.MaterializeResult(
        data_version=dg.DataVersion(bundle.hash12),
        metadata={
            "dagster/row_count": len(evidence.forecasts),
            **figures({f"crps_h{s.horizon_bars}": s.crps for s in scores if s.family == "ensemble"}),
            **figures({f"skill_h{s.horizon_bars}": s.skill for s in scores if s.family == "ensemble"}),
            **figures(
                {
                    "bundle_hash": bundle.hash12,
                    "members": ", ".join(evidence.names),
                    "absent": ", ".join(f for f in settings.families if f not in judged) or "none",
                    "first_utc": from_utc(evidence.forecasts.origin_utc[0]),
                    "last_utc": last,
                    "lake_version": version,
                    "seconds": perf_counter() - started,
                }
            ),
            "scores": table([s.to_dict() for s in scores]),
            "weights": picture(
                weights_picture(evidence.origin_utc, evidence.weights[:, :, 0], evidence.names, title), "weights"
            ),
            "skill": picture(skill_picture(scores, title), "skill over the random walk"),
            "reliability": picture(
                reliability_and_pit_picture(evidence.forecasts, evidence.returns, title), "reliability and PIT"
            ),
        },
    )


def _second_fold(rows: pl.DataFrame) -> np.datetime64:
    """Return the first origin after the fold that starts the weights."""
    return np.datetime64(rows.filter(pl.col("fold") > 0)["ts_utc"].to_numpy().min(), "us")
