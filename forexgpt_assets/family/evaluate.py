"""Walk-forward of a family: plan the folds, fit and forecast each in a step of its own, score them together."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import dagster as dg
import polars as pl

from forexgpt_assets.checks import coverage_check, coverage_unknown
from forexgpt_assets.family.work import Work
from forexgpt_assets.metadata import MetadataDict, figures, picture, table
from forexgpt_core.composition import REFERENCE, DataPin
from forexgpt_core.domain.clock import from_utc
from forexgpt_core.domain.forecast_table import from_table
from forexgpt_core.domain.forecasts import Floats, ForecastBatch
from forexgpt_core.errors import NotReady
from forexgpt_core.evaluation.references import SECOND_REFERENCES
from forexgpt_core.evaluation.report_card import HorizonScore
from forexgpt_core.evaluation.walk_forward import (
    TEST,
    Candidate,
    Fold,
    WalkForwardSettings,
    as_trained,
    fold_key,
    plan_folds,
    run_fold,
)
from forexgpt_core.evidence import walk_forward_table
from forexgpt_core.features.windows import Windows
from forexgpt_core.models.forecaster import FitRun

if TYPE_CHECKING:
    from forexgpt_core.calibration.split import ConformalCalibrator

Document = dict[str, object]  # plain JSON values: what steps hand to one another


def plan(work: Work) -> list[Document]:
    """Return the folds of the newest calibrated model's configuration; none where the family is off."""
    if not work.is_on:
        return []
    trained = work.platform.version(work.settings, work.family, "calibration")
    pin = DataPin.parse(trained.data_version)
    calibrator = _calibrator(work, trained.bundle_hash)
    model = work.platform.bundles.open(
        work.symbol, str(work.timeframe), f"{work.family}_model", trained.parent_hash or ""
    )
    wanted = as_trained(work.settings.walk_forward, work.split_of(model))
    basis = {
        "calibration": trained.bundle_hash,
        "data": str(pin),
        "horizons_bars": list(calibrator.horizons_bars),
        "method": calibrator.method,
        "walk_forward": asdict(wanted),
    }
    folds = plan_folds(_windows(work, basis), wanted)
    run_id = trained.training_run_id
    trained_with = work.platform.training.run(run_id) if run_id is not None else None
    chosen = {
        "options": dict(trained_with.hyperparameters) if trained_with else {},
        "seed": trained_with.seed if trained_with else work.settings.seed,
    }
    return [{**basis, **chosen, "mlflow": trained.mlflow_run_id, "fold": fold.to_document()} for fold in folds]


def fit_fold(work: Work, document: Document, say: Callable[[str], None]) -> Document:
    """Fit, calibrate and forecast one fold, unless that very fold was finished before; return where it is stored."""
    windows, fold = _windows(work, document), Fold.from_document(_mapping(document["fold"]))
    wanted = WalkForwardSettings(**cast("dict[str, Any]", document["walk_forward"]))
    keys, store = {}, work.platform.folds
    for candidate in _candidates(work.family, document):
        key = fold_key(windows, fold, candidate, wanted)
        keys[candidate.name] = key
        if store.get(key) is not None:
            say(f"fold {fold.number} of {candidate.name} was finished before; not fitted again")
            continue
        run = FitRun(
            seed=candidate.seed,
            folder=work.platform.working_folder(work.run_id, f"{work.family}_fold_{fold.number}"),
            progress=lambda share, message, name=candidate.name: say(f"{name} {share:.0%} {message}"),
        )
        store.put(key, run_fold(windows, fold, candidate, wanted, run))
    return {**document, "keys": keys}


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a walk-forward shows, its data version, and whether its intervals cover."""

    shown: MetadataDict
    version: str
    coverage: dg.AssetCheckResult


def score(work: Work, folds: Sequence[Document]) -> Scored:
    """Score the forecasts of all folds against the random walk, and store both."""
    from forexgpt_core.evaluation.report_card import score_family
    from forexgpt_core.reporting.evaluation import reliability_and_pit_picture, skill_picture

    if not folds:
        unknown = coverage_unknown(f"{work.family}_evaluation", f"{work.family} is off")
        return Scored(shown=dict(work.off_facts), version="off", coverage=unknown)
    folds = sorted(folds, key=_number)
    stored = _outcomes(work, folds, work.family)
    tested = stored.filter(pl.col("part") == TEST).drop("part")
    forecasts, returns = _batch(work, tested, work.family)
    data_version, hash12 = str(folds[0]["data"]), _hash(folds)
    against = forecasts if work.family == REFERENCE else _reference(work, data_version, tested)
    scores = score_family(forecasts, returns, against, seed=work.settings.seed)
    beside = [
        one
        for name in (SECOND_REFERENCES if work.family == REFERENCE else ())
        for one in _plain_walk(work, folds, name, against)
    ]
    platform, mlflow_run = work.platform, str(folds[0]["mlflow"] or "")
    in_sample = stored.filter(pl.col("part") != TEST).drop("part")
    platform.lake.replace(f"in_sample_{work.family}", work.symbol, work.timeframe, in_sample)
    named = tested.with_columns(evaluation=pl.lit(hash12))
    version = platform.lake.replace(f"forecasts_{work.family}", work.symbol, work.timeframe, named)
    _store(work, [*scores, *beside], hash12)
    work.record("evaluation", hash12, data_version, parent_hash=str(folds[0]["calibration"]), mlflow_run_id=mlflow_run)
    skill = skill_picture([*scores, *beside], work.title)
    reliability = reliability_and_pit_picture(forecasts, returns, work.title)
    platform.registry.add_evaluation(
        mlflow_run,
        {f"{name}_h{s.horizon_bars}": value for s in scores for name, value in _numbers(s.to_dict()).items()},
        {"skill.png": skill, "reliability.png": reliability},
    )
    facts = {
        "calibrator": forecasts.calibrator,
        "first_utc": from_utc(forecasts.origin_utc[0]),
        "last_utc": from_utc(forecasts.origin_utc[-1]),
        "lake_version": version,
        "walk_forward": hash12,
        "seconds": work.seconds,
    }
    shown = {
        "dagster/row_count": dg.MetadataValue.int(len(forecasts)),
        **figures({f"crps_h{s.horizon_bars}": s.crps for s in scores}),
        **figures({f"skill_h{s.horizon_bars}": s.skill for s in scores}),
        **figures({f"coverage_90_h{s.horizon_bars}": s.coverage_90 for s in scores}),
        **figures({f"width_90_h{s.horizon_bars}": s.width_90 for s in scores}),
        **figures(facts),
        "folds": table([_mapping(one["fold"]) for one in folds]),
        "scores": table([s.to_dict() for s in (*scores, *beside)]),
        "skill": picture(skill, "skill over the random walk"),
        "reliability": picture(reliability, "reliability and PIT"),
        "mlflow": dg.MetadataValue.url(platform.registry.run_url(mlflow_run)),
    }
    coverage = coverage_check(f"{work.family}_evaluation", forecasts, returns)
    return Scored(shown=shown, version=f"{hash12}.{version}", coverage=coverage)


def _reference(work: Work, data_version: str, tested: pl.DataFrame) -> ForecastBatch:
    """Return the random walk's stored forecasts, which must stand on the same data and folds.

    Raises:
        NotReady: they do not.
    """
    judged = work.platform.version(work.settings, REFERENCE, "evaluation")
    if judged.data_version != data_version:
        raise NotReady(
            f"{work.symbol}: the random walk was evaluated on data {judged.data_version}, this family on"
            f" {data_version}; materialize random_walk_model to random_walk_evaluation first"
        )
    stored = walk_forward_table(work.platform, work.settings, REFERENCE)
    key = ("ts_utc", "horizon_bars", "fold")
    if not stored.select(key).sort(key).equals(tested.select(key).sort(key)):
        raise NotReady(
            f"{work.symbol}: the random walk was validated on other folds than this family; materialize"
            " random_walk_evaluation first"
        )
    return _batch(work, stored, REFERENCE)[0]


def _calibrator(work: Work, calibration_hash: str) -> "ConformalCalibrator":
    """Return the calibrator whose horizons and method are to be validated, whatever the settings say by now."""
    from forexgpt_core.calibration.split import ConformalCalibrator

    kind = f"{work.family}_calibration"
    bundle = work.platform.bundles.open(work.symbol, str(work.timeframe), kind, calibration_hash)
    return ConformalCalibrator.load(bundle.path)


def _windows(work: Work, document: Mapping[str, object]) -> Windows:
    horizons = tuple(int(h) for h in _list(document["horizons_bars"]))
    return work.windows(DataPin.parse(str(document["data"])), horizons)


def _candidates(family: str, document: Document) -> list[Candidate]:
    named = {family: _mapping(document["options"]), **(SECOND_REFERENCES if family == REFERENCE else {})}
    return [
        Candidate(
            name=name,
            family=family,
            options=options,
            seed=int(str(document["seed"])),
            calibration=str(document["method"]),
        )
        for name, options in named.items()
    ]


def _outcomes(work: Work, folds: Sequence[Document], name: str) -> pl.DataFrame:
    found = {str(_mapping(fold["keys"])[name]): fold for fold in folds}
    tables = {key: work.platform.folds.get(key) for key in found}
    missing = [key for key, outcome in tables.items() if outcome is None]
    if missing:
        raise NotReady(
            f"{len(missing)} of {len(folds)} folds of {name} are gone from {work.platform.folds.root}: materialize"
            f" {work.family}_evaluation again"
        )
    return pl.concat([outcome for outcome in tables.values() if outcome is not None])


def _batch(work: Work, rows: pl.DataFrame, family: str) -> tuple[ForecastBatch, Floats]:
    return from_table(rows, symbol=work.symbol, timeframe=str(work.timeframe), family=family)


def _plain_walk(work: Work, folds: Sequence[Document], name: str, against: ForecastBatch) -> Sequence[HorizonScore]:
    from forexgpt_core.evaluation.report_card import score_family

    tested = _outcomes(work, folds, name).filter(pl.col("part") == TEST)
    forecasts, returns = _batch(work, tested, name)
    return score_family(forecasts, returns, against, seed=work.settings.seed)


def _hash(folds: Sequence[Document]) -> str:
    """Return 12 hex digits that name this walk-forward: of its folds and of the model it speaks for."""
    named = [str(folds[0]["calibration"]), *(str(sorted(_mapping(fold["keys"]).items())) for fold in folds)]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()[:12]


def _store(work: Work, scores: Sequence[HorizonScore], hash12: str) -> None:
    for family in dict.fromkeys(score.family for score in scores):
        rows = [score.to_dict() for score in scores if score.family == family]
        work.platform.scores.replace_evaluation(work.symbol, str(work.timeframe), family, hash12, rows)


def _number(document: Document) -> int:
    return int(str(_mapping(document["fold"])["number"]))


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    return {k: float(v) for k, v in values.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}


def _mapping(value: object) -> dict[str, object]:
    assert isinstance(value, Mapping)
    return dict(value)


def _list(value: object) -> list[int]:
    assert isinstance(value, list)
    return value
