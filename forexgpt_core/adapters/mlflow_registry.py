"""Experiments and the model registry, kept by MLflow.

One experiment per symbol, one run per training, one registered model per symbol and timeframe whose versions point at
bundles and carry the bundle's hash. MLflow never loads a model here: it stores figures, pages and pointers.
"""

import json
import math
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from time import time
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from forexgpt_core.adapters.mlflow_store import MlflowStore, redacted
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.instruments import normalise_symbol
from forexgpt_core.errors import BadInput, NotReady

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

Alias = Literal["champion", "challenger"]
Outcome = Literal["FINISHED", "FAILED"]

DEFAULT_UI = "http://127.0.0.1:5000"  # where `mlflow server` listens
PARAM_CHARACTERS = 6000  # MLflow cuts longer ones off without a word

_HASH = re.compile(r"^[0-9a-f]{12,64}$")


@dataclass(frozen=True)
class Registry:
    """The MLflow store of this home. Opens nothing until a method is called, and creates the store when it is missing.

    Attributes:
        tracking_uri: `sqlite:///…`, `postgresql://…` or the address of an MLflow server.
        artifacts: folder of artifacts, for a database store; a server keeps its own.
        lock_folder: where the lock and the mark of a finished set-up stand, one per machine.
        ui: address of the MLflow pages, for links.
    """

    tracking_uri: str
    artifacts: Path
    lock_folder: Path
    ui: str = DEFAULT_UI

    def prepare(self) -> None:
        """Create the store unless it is there. Safe from several processes at once, and quick when nothing is to do.

        Raises:
            StoreError: the store cannot be read or created.
        """
        self._store.prepare()

    def record_training(
        self,
        *,
        symbol: str,
        timeframe: str,
        family: str,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        artifacts: Mapping[str, bytes],
        outcome: Outcome = "FINISHED",
    ) -> str:
        """Store one training as a run of the symbol's experiment and return its run id.

        Args:
            symbol, timeframe, family: what was trained; also stored as tags.
            params: settings of the training; values are stored as text, longer ones whole in `params.json`.
            metrics: figures; those that are not finite are left out and named in the tag `metrics_not_finite`.
            tags: origin of the run, such as its Dagster run and data version. Never a secret.
            artifacts: file name, with folders if wanted, to content.
            outcome: how the training ended.

        Raises:
            StoreError: nothing, or not everything, could be stored; the run is then marked FAILED.
        """
        symbol = normalise_symbol(symbol)
        identity = {"symbol": symbol, "timeframe": str(timeframe), "family": family}
        texts, long = _param_texts(params)
        files = {**artifacts, **({"params.json": _json(params)} if long else {})}
        notes = {"params_shortened": ", ".join(long)} if long else {}
        with self._store.errors(f"record the training of {family} for {symbol}"):
            name = f"{family} {timeframe}"
            return self._record(symbol, name, texts, metrics, {**tags, **identity, **notes}, files, outcome)

    def record_report(
        self,
        *,
        symbol: str,
        timeframe: str,
        name: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        artifacts: Mapping[str, bytes],
    ) -> str:
        """Store a report on a pair as a run of its own in the symbol's experiment and return its run id.

        Args:
            symbol, timeframe: what it is about; also stored as tags.
            name: what is reported; stored as the tag `report`.
            metrics, tags, artifacts: as in `record_training`.

        Raises:
            StoreError: nothing, or not everything, could be stored; the run is then marked FAILED.
        """
        symbol = normalise_symbol(symbol)
        identity = {"symbol": symbol, "timeframe": str(timeframe), "report": name}
        with self._store.errors(f"record the {name} of {symbol}"):
            return self._record(symbol, f"{name} {timeframe}", {}, metrics, {**tags, **identity}, artifacts, "FINISHED")

    def _record(
        self,
        symbol: str,
        name: str,
        params: Mapping[str, str],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        artifacts: Mapping[str, bytes],
        outcome: Outcome,
    ) -> str:
        client = self._store.client()
        experiment = self._experiment(client, symbol)
        run_id = str(client.create_run(experiment, run_name=name, tags=dict(tags)).info.run_id)
        try:
            _log(client, run_id, params, metrics, artifacts)
        except BaseException:
            client.set_terminated(run_id, status="FAILED")
            raise
        client.set_terminated(run_id, status=outcome)
        return run_id

    def add_evaluation(
        self, run_id: str, metrics: Mapping[str, float], artifacts: Mapping[str, bytes] | None = None
    ) -> None:
        """Add out-of-sample figures and pages to the run of a training.

        Raises:
            StoreError: the run does not exist or could not be written.
        """
        with self._store.errors(f"add an evaluation to run {run_id}"):
            _log(self._store.client(), run_id, {}, metrics, artifacts or {}, note="evaluation_metrics_not_finite")

    def register(
        self,
        symbol: str,
        timeframe: str,
        family: str,
        bundle_path: Path,
        bundle_hash: str,
        run_id: str | None,
        tags: Mapping[str, str] | None = None,
    ) -> int:
        """Register a bundle as a version of `{symbol}-{timeframe}` and return the version's number.

        A bundle registered before keeps its version: its content, which is its hash, cannot have changed.

        Raises:
            BadInput: `bundle_hash` is not one.
            StoreError: the registry could not be written.
        """
        name, known = _model_name(symbol, timeframe), _checked_hash(bundle_hash)
        facts = {**(tags or {}), "family": family, "bundle_hash": known}
        with self._store.errors(f"register bundle {known} as {name}"):
            client = self._store.client()
            # MLflow has no unique constraint on a tag: without the lock two processes would make two versions.
            with self._store.lock("mlflow-versions"):
                found = _find_version(client, name, known)
                if found is not None:
                    return int(found.version)
                _ensure_registered_model(client, name)
                source = _source(bundle_path, local=not self._store.remote)
                return int(client.create_model_version(name, source, run_id=run_id, tags=facts).version)

    def set_alias(self, symbol: str, timeframe: str, alias: Alias, bundle_hash: str) -> None:
        """Point `alias` at a registered bundle, away from whatever it named before.

        Raises:
            NotReady: the bundle has not been registered.
            StoreError: the registry could not be written.
        """
        name, known = _model_name(symbol, timeframe), _checked_hash(bundle_hash)
        with self._store.errors(f"set alias {alias} of {name}"):
            client = self._store.client()
            found = _find_version(client, name, known)
            if found is None:
                raise NotReady(f"{name} has no registered version of bundle {known}: register it before naming it")
            client.set_registered_model_alias(name, alias, str(found.version))

    def clear_alias(self, symbol: str, timeframe: str, alias: Alias) -> None:
        """Remove `alias`; without effect where it names nothing.

        Raises:
            StoreError: the registry could not be written.
        """
        name = _model_name(symbol, timeframe)
        with self._store.errors(f"clear alias {alias} of {name}"):
            client = self._store.client()
            if alias in _alias_versions(client, name):
                client.delete_registered_model_alias(name, alias)

    def aliases(self, symbol: str, timeframe: str) -> dict[str, str]:
        """Return the hash of the bundle behind each alias; empty where nothing was registered.

        Raises:
            StoreError: the registry could not be read.
        """
        name = _model_name(symbol, timeframe)
        with self._store.errors(f"read the aliases of {name}"):
            client = self._store.client()
            versions = _alias_versions(client, name)
            return {
                alias: str(client.get_model_version(name, str(version)).tags["bundle_hash"])
                for alias, version in sorted(versions.items())
            }

    def run_url(self, run_id: str) -> str:
        """Return the address of a run's page, which opens while `mlflow server` runs.

        Raises:
            StoreError: there is no such run.
        """
        with self._store.errors(f"find run {run_id}"):
            experiment = self._store.client().get_run(run_id).info.experiment_id
        base = self.tracking_uri if self._store.remote else self.ui
        return f"{redacted(base).replace('***@', '').rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"

    def artifact_url(self, run_id: str, name: str) -> str:
        """Return the address of the page that shows one artifact of a run."""
        return f"{self.run_url(run_id)}/artifacts/{quote(name)}"

    @property
    def _store(self) -> MlflowStore:
        return MlflowStore(self.tracking_uri, self.artifacts, self.lock_folder)

    def _experiment(self, client: "MlflowClient", symbol: str) -> str:
        """Return the id of the symbol's experiment, made or brought back from the bin where needed."""
        from mlflow.exceptions import MlflowException

        name = f"forexgpt/{symbol}"
        found = client.get_experiment_by_name(name)
        if found is None:
            location = None if self._store.remote else (self.artifacts.resolve() / symbol).as_uri()
            try:
                return str(client.create_experiment(name, artifact_location=location))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = client.get_experiment_by_name(name)  # another process was quicker
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)


def _log(
    client: "MlflowClient",
    run_id: str,
    params: Mapping[str, str],
    metrics: Mapping[str, float],
    artifacts: Mapping[str, bytes],
    note: str = "metrics_not_finite",
) -> None:
    """Write everything of a run in one batch and one copy of files; name in tag `note` the metrics left out."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time() * 1000)
    finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
    absent = sorted(set(metrics) - set(finite))
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, now, 0) for name, value in finite.items()],
        params=[Param(name, value) for name, value in params.items()],
        tags=[RunTag(note, ", ".join(absent))] if absent else [],
    )
    if artifacts:
        with tempfile.TemporaryDirectory(prefix="forexgpt-") as folder:
            for name, content in artifacts.items():
                target = Path(folder) / _safe_name(name)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            client.log_artifacts(run_id, folder)


def _safe_name(name: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name:
        raise BadInput(f"'{name}' is no artifact name: expected a relative one such as pages/skill.html")
    return str(path)


def _param_texts(params: Mapping[str, object]) -> tuple[dict[str, str], list[str]]:
    """Return every parameter as text that MLflow takes, and the names of those that had to be shortened."""
    texts = {name: str(value) for name, value in params.items()}
    long = sorted(name for name, text in texts.items() if len(text) > PARAM_CHARACTERS)
    return {name: text[: PARAM_CHARACTERS - 1] + "…" if name in long else text for name, text in texts.items()}, long


def _json(params: Mapping[str, object]) -> bytes:
    return json.dumps({name: str(value) for name, value in params.items()}, indent=2, sort_keys=True).encode()


def _model_name(symbol: str, timeframe: str) -> str:
    return f"{normalise_symbol(symbol)}-{Timeframe.parse(timeframe)}"


def _checked_hash(bundle_hash: str) -> str:
    if not _HASH.match(bundle_hash):
        raise BadInput(f"'{bundle_hash}' is no bundle hash: expected 12 to 64 hexadecimal digits in lower case")
    return bundle_hash


def _source(bundle_path: Path, *, local: bool) -> str:
    """Return where the bundle is; for a server, which refuses paths of its clients, its place in the bundle store."""
    return bundle_path.resolve().as_uri() if local else "forexgpt-bundle:/" + "/".join(bundle_path.parts[-4:])


def _find_version(client: "MlflowClient", name: str, bundle_hash: str) -> "ModelVersion | None":
    # Both texts passed a pattern, so neither can end the quotes.
    found = client.search_model_versions(f"name = '{name}' and tags.bundle_hash = '{bundle_hash}'")
    return min(found, key=lambda version: int(version.version), default=None)


def _ensure_registered_model(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _alias_versions(client: "MlflowClient", name: str) -> dict[str, str]:
    from mlflow.exceptions import MlflowException

    try:
        return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
