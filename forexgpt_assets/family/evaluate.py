"""Score a family's evidence fit on the newest 20 % of the rows, which nothing fitted has seen."""

from collections.abc import Mapping, Sequence

import dagster as dg
import polars as pl

from forexgpt_assets.family.work import SHARES, Work
from forexgpt_assets.metadata import figures, picture, table
from forexgpt_core.composition import REFERENCE, DataPin
from forexgpt_core.domain.clock import from_utc
from forexgpt_core.domain.forecast_table import from_table, to_table, with_part
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import NotReady
from forexgpt_core.evaluation.report_card import HorizonScore
from forexgpt_core.features.splits import Parts, evidence_parts
from forexgpt_core.models.forecaster import FitRun


def evaluate(work: Work) -> dg.MaterializeResult:
    """Forecast the test part, score it against the random walk, and store forecasts and scores."""
    from forexgpt_core.calibration.conformal import load_calibrated
    from forexgpt_core.evaluation.report_card import score_family
    from forexgpt_core.reporting.evaluation import reliability_and_pit_picture, skill_picture

    platform, settings = work.platform, work.settings
    trained = platform.version(settings, work.family, "evidence_calibration")
    kind, frame = f"{work.family}_evidence_calibration", str(work.timeframe)
    calibrated = load_calibrated(platform.bundles, work.symbol, frame, kind, trained.bundle_hash)
    pin = DataPin.parse(trained.data_version)
    parts = evidence_parts(work.windows(pin, calibrated.model.forecaster.horizons_bars), SHARES)
    test, forecasts = parts.test, calibrated.forecast(parts.test)
    against = forecasts if work.family == REFERENCE else _reference(work, trained.data_version)
    scores = score_family(forecasts, test.returns, against, seed=settings.seed)
    beside = _plainer_walks(work, parts, against) if work.family == REFERENCE else []
    before = calibrated.forecast(parts.calibration)  # starts the ensemble's weights; never scored
    rows = [
        with_part(to_table(before, parts.calibration.returns), "calibration"),
        with_part(to_table(forecasts, test.returns), "test"),
    ]
    version = platform.lake.replace(f"forecasts_{work.family}", work.symbol, work.timeframe, pl.concat(rows))
    _store(work, [*scores, *beside], trained.bundle_hash)
    work.record("evaluation", trained.bundle_hash, trained.data_version, mlflow_run_id=trained.mlflow_run_id)
    skill = skill_picture([*scores, *beside], work.title)
    reliability = reliability_and_pit_picture(forecasts, test.returns, work.title)
    platform.registry.add_evaluation(
        trained.mlflow_run_id or "",
        {f"{name}_h{s.horizon_bars}": value for s in scores for name, value in _numbers(s.to_dict()).items()},
        {"skill.png": skill, "reliability.png": reliability},
    )
    shown = {
        "first_utc": from_utc(test.origin_utc[0]),
        "last_utc": from_utc(test.origin_utc[-1]),
        "lake_version": version,
        "bundle_hash": trained.bundle_hash,
        "seconds": work.seconds,
    }
    return dg.MaterializeResult(
        data_version=dg.DataVersion(f"{trained.bundle_hash}.{version}"),
        metadata={
            "dagster/row_count": len(test),
            **figures({f"crps_h{s.horizon_bars}": s.crps for s in scores}),
            **figures({f"skill_h{s.horizon_bars}": s.skill for s in scores}),
            **figures({f"coverage_90_h{s.horizon_bars}": s.coverage_90 for s in scores}),
            **figures(shown),
            "scores": table([s.to_dict() for s in (*scores, *beside)]),
            "skill": picture(skill, "skill over the random walk"),
            "reliability": picture(reliability, "reliability and PIT"),
            "mlflow": dg.MetadataValue.url(platform.registry.run_url(trained.mlflow_run_id or "")),
        },
    )


def _reference(work: Work, data_version: str) -> ForecastBatch:
    """Return the random walk's stored test forecasts, which must stand on the same data."""
    judged = work.platform.version(work.settings, REFERENCE, "evaluation")
    if judged.data_version != data_version:
        raise NotReady(
            f"{work.symbol}: the random walk was evaluated on data {judged.data_version}, this family on"
            f" {data_version}; materialize random_walk_model to random_walk_evaluation first"
        )
    stored = work.platform.lake.read(f"forecasts_{REFERENCE}", work.symbol, work.timeframe)
    tested = stored.filter(pl.col("part") == "test")
    return from_table(tested, symbol=work.symbol, timeframe=str(work.timeframe), family=REFERENCE)[0]


def _plainer_walks(work: Work, parts: Parts, reference: ForecastBatch) -> list[HorizonScore]:
    from forexgpt_core.evaluation.references import second_references
    from forexgpt_core.evaluation.report_card import score_family

    run = FitRun(seed=work.settings.seed, folder=work.platform.working_folder(work.run_id, work.family))
    walks = second_references(parts, run).values()
    return [s for walk in walks for s in score_family(walk, parts.test.returns, reference, seed=run.seed)]


def _store(work: Work, scores: Sequence[HorizonScore], bundle_hash: str) -> None:
    for family in dict.fromkeys(score.family for score in scores):
        rows = [score.to_dict() for score in scores if score.family == family]
        work.platform.scores.replace_evaluation(work.symbol, str(work.timeframe), family, bundle_hash, rows)


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    return {k: float(v) for k, v in values.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
