"""Train a family up to now, minus a calibration block: what a deployment uses."""

from collections.abc import Callable
from dataclasses import asdict

import dagster as dg

from forexgpt_assets.family.work import Work, span
from forexgpt_assets.metadata import MetadataDict, figures, picture, table
from forexgpt_core.composition import DataPin
from forexgpt_core.domain.clock import from_utc
from forexgpt_core.evaluation.walk_forward import newest_parts
from forexgpt_core.features.comparison import compare_parts, comparison_line
from forexgpt_core.features.splits import Parts
from forexgpt_core.features.windows import Windows
from forexgpt_core.models.bundle import Bundle
from forexgpt_core.models.catalogue import new_forecaster
from forexgpt_core.models.forecaster import FitRun, Forecaster

_LARGEST = 10  # features shown of the comparison of train and valid


def train(work: Work, seed: int | None, debug: Callable[[str], None]) -> dg.MaterializeResult:
    """Fit, write the bundle, and record it in the database and in MLflow."""
    seed = work.settings.seed if seed is None else seed
    pin = work.platform.pin(work.settings)
    windows = work.windows(pin, work.settings.horizons_bars)
    parts = newest_parts(windows, work.settings.walk_forward)
    training_id = work.platform.training.start(
        symbol=work.symbol,
        timeframe=str(work.timeframe),
        family=work.family,
        seed=seed,
        hyperparameters=_options(work),
        data_version=str(pin),
        run_key=work.run_id,
    )
    run = FitRun(
        seed=seed,
        folder=work.platform.working_folder(work.run_id, work.family),
        progress=lambda share, message: debug(f"{work.family} {share:.0%} {message}"),
    )
    try:
        bundle, forecaster = _fit(work, parts, run, pin)
    except Exception as error:
        work.platform.training.fail(training_id, str(error))
        raise
    except BaseException:  # stopped from the UI or the keyboard
        work.platform.training.interrupted(training_id)
        raise
    work.platform.training.complete(training_id)
    shown = _record(work, bundle, forecaster, windows, seed, pin, training_id)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(bundle.hash12),
        metadata={"dagster/row_count": len(windows), **shown, **_train_against_valid(parts)},
    )


def _options(work: Work) -> dict[str, object]:
    return dict(work.settings.family_options.get(work.family, {}))


def _fit(work: Work, parts: Parts, run: FitRun, pin: DataPin) -> tuple[Bundle, Forecaster]:
    from forexgpt_core.models.bundled import write_model_bundle

    forecaster = new_forecaster(work.family, _options(work)).fit(parts.train, parts.valid, run=run)
    named = {"train": parts.train, "valid": parts.valid, "calibration": parts.calibration}
    metadata = {
        "data_version": str(pin),
        "seed": run.seed,
        "parts": {name: span(part) for name, part in named.items()},
        **work.platform.provenance(),
    }
    bundle = write_model_bundle(
        work.platform.bundles,
        forecaster,
        parts.train,
        recipe_json=work.platform.stored_recipe(work.settings, pin).to_json(),
        kind=f"{work.family}_model",
        metadata=metadata,
        split=asdict(work.settings.walk_forward),
    )
    return bundle, forecaster


def _record(
    work: Work, bundle: Bundle, forecaster: Forecaster, windows: Windows, seed: int, pin: DataPin, training_id: int
) -> MetadataDict:
    from forexgpt_core.reporting.models import training_picture

    drawing = training_picture(forecaster, work.title)
    registry = work.platform.registry
    recipe = work.platform.stored_recipe(work.settings, pin).hash12
    mlflow_run = registry.record_training(
        symbol=work.symbol,
        timeframe=str(work.timeframe),
        family=work.family,
        params={**_options(work), "seed": seed, "horizons_bars": work.settings.horizons_bars, "recipe": recipe},
        metrics={"seconds": work.seconds, "rows": float(len(windows))},
        tags={"dagster_run_id": work.run_id, "data_version": str(pin), "bundle_hash": bundle.hash12},
        artifacts={"training.png": drawing},
    )
    version = registry.register(work.symbol, str(work.timeframe), work.family, bundle.path, bundle.hash12, mlflow_run)
    work.record("model", bundle.hash12, str(pin), training_run_id=training_id, mlflow_run_id=mlflow_run)
    shown = {
        "bundle_hash": bundle.hash12,
        "registry_version": version,
        "data_version": str(pin),
        "seed": seed,
        "first_utc": from_utc(windows.origin_utc[0]),
        "last_utc": from_utc(windows.origin_utc[-1]),
        "seconds": work.seconds,
    }
    return {
        **figures(shown),
        "mlflow": dg.MetadataValue.url(registry.run_url(mlflow_run)),
        "training": picture(drawing, "training"),
    }


def _train_against_valid(parts: Parts) -> MetadataDict:
    """Return how far the features of the validation rows have moved from those of the training rows."""
    compared = compare_parts(parts.train, parts.valid)
    return {
        **figures({"train_vs_valid": comparison_line(compared)}),
        "train_vs_valid_largest": table(compared.head(_LARGEST).to_dicts()),
    }
