"""Runs of assets and jobs from the command line: same instance, same history as the UI."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster import DagsterEventType, DagsterInstance
from filelock import FileLock

from forexgpt_assets.definitions import defs
from forexgpt_assets.failures import interrupted, reason
from forexgpt_core.composition import Platform
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.errors import ForexGPTError
from forexgpt_core.settings import Settings

ROOT = Path(__file__).parents[1]
CONFIGURATION = "dagster.yaml"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class RunFailed(ForexGPTError):
    """A Dagster run did not succeed; the text is the first failure's own."""


class RunInterrupted(RunFailed):
    """A person stopped a run, with Ctrl-C or in the UI; what it had finished is kept."""


def prepare_home(settings: Settings) -> None:
    """Create DAGSTER_HOME with its dagster.yaml and storage, and let this process use it; safe to repeat.

    It is made beside its place and moved there whole: Dagster never completes tables that a killed start left undone.
    """
    home = settings.dagster_home
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (home / CONFIGURATION).exists():
        with FileLock(settings.home / ".dagster.lock"):
            if not (home / CONFIGURATION).exists():
                _create_home(home)
    os.environ["DAGSTER_HOME"] = str(home)


def _create_home(home: Path) -> None:
    new = home.with_name(f"{home.name}.new")
    shutil.rmtree(new, ignore_errors=True)  # of a start that was killed
    new.mkdir(mode=0o700)
    shutil.copyfile(ROOT / CONFIGURATION, new / CONFIGURATION)
    if home.exists() and any(home.iterdir()):  # somebody else's storage: only the configuration is missing
        (new / CONFIGURATION).replace(home / CONFIGURATION)
        shutil.rmtree(new)
        return
    with DagsterInstance.from_config(str(new)) as instance:
        instance.get_dynamic_partitions("symbol")  # opens the storage, which creates its tables
        instance.all_instigator_state()
    new.rename(home)  # an empty folder gives way


@contextmanager
def open_instance(platform: Platform) -> Iterator[DagsterInstance]:
    """Yield the Dagster instance that the UI shows."""
    prepare_home(platform.settings)
    with DagsterInstance.get() as instance:
        yield instance


def add_symbol(instance: DagsterInstance, symbol: str) -> str:
    """Add the pair to the partition set and return its key; nothing happens where it is there."""
    key = instrument(symbol).symbol
    if not instance.has_dynamic_partition("symbol", key):
        instance.add_dynamic_partitions("symbol", [key])
    return key


def require_symbol(instance: DagsterInstance, symbol: str) -> str:
    """Return the pair's partition key.

    Raises:
        UnknownName: there is no such pair.
        RunFailed: the pair was never added.
    """
    key = instrument(symbol).symbol
    if not instance.has_dynamic_partition("symbol", key):
        raise RunFailed(f"{key} has not been added: run 'forexgpt symbols add {key}' or import its candles")
    return key


def materialize(
    instance: DagsterInstance,
    assets: Sequence[str],
    symbol: str | None,
    config: Mapping[str, Mapping[str, object]] | None = None,
) -> dg.ExecuteInProcessResult:
    """Materialize assets of one pair in this process, recorded like any run.

    Raises:
        RunFailed: a step failed; the text says which and why. RunInterrupted where somebody stopped it.
    """
    selection = [dg.AssetKey(name) for name in assets]
    job = defs().resolve_implicit_global_asset_job_def()
    ops = {name: {"config": dict(values)} for name, values in (config or {}).items()}
    result = job.execute_in_process(
        instance=instance,
        partition_key=symbol,
        asset_selection=selection,
        run_config={**QUIET, **({"ops": ops} if ops else {})},
        raise_on_error=False,
        tags={"forexgpt/launched_by": "command line"},
    )
    return _succeeded(result)


def run_job(
    instance: DagsterInstance,
    name: str,
    config: Mapping[str, Mapping[str, object]] | None = None,
    symbol: str | None = None,
) -> dg.ExecuteInProcessResult:
    """Run a job that is not made of assets, of one pair where it is partitioned; raises as `materialize` does."""
    ops = {op: {"config": dict(values)} for op, values in (config or {}).items()}
    job = defs().resolve_job_def(name)
    result = job.execute_in_process(
        instance=instance,
        partition_key=symbol,
        run_config={**QUIET, **({"ops": ops} if ops else {})},
        raise_on_error=False,
    )
    return _succeeded(result)


def _succeeded(result: dg.ExecuteInProcessResult) -> dg.ExecuteInProcessResult:
    if result.success:
        return result
    for event in result.all_events:
        if event.event_type in (DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_FAILURE):
            raise (RunInterrupted if interrupted(event) else RunFailed)(reason(event))
    raise RunFailed(f"run {result.run_id} failed; see it in the UI")


@contextmanager
def session() -> Iterator[tuple[Platform, DagsterInstance]]:
    """Yield the prepared platform and its Dagster instance."""
    platform = Platform.prepared()
    with open_instance(platform) as instance:
        yield platform, instance
