"""One way to put laws to Great Expectations: a table and a named list, evaluated completely or not at all."""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import polars as pl

from forexgpt_core.errors import ForexGPTError

Expect = Callable[[ModuleType], Any]  # given great_expectations.expectations, returns an expectation


class SuiteBroken(ForexGPTError):
    """Great Expectations could not evaluate the suite, so nothing is known about the table."""


def broken_laws(view: pl.DataFrame, laws: Mapping[str, Expect], *, suite_name: str) -> list[str]:
    """Return the names of the laws that do not hold, in the order given.

    Args:
        view: becomes a pandas table; times as naive UTC.
        laws: by name, how to state it.

    Raises:
        SuiteBroken: an expectation could not be evaluated, or not all of them were.
    """
    import great_expectations
    from great_expectations import expectations
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = great_expectations.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    suite = great_expectations.ExpectationSuite(name=suite_name)
    for name, expect in laws.items():
        expectation = expect(expectations)
        expectation.meta = {"law": name}
        suite.add_expectation(expectation)
    naive = view.with_columns(pl.col(pl.Datetime("us", "UTC")).dt.replace_time_zone(None))
    asset = context.data_sources.add_pandas("polars").add_dataframe_asset(suite_name)
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": naive.to_pandas()})
    results = batch.validate(suite).results
    for result in results:
        if _raised(result.exception_info):
            name = result.expectation_config.meta["law"]
            raise SuiteBroken(f"the expectation '{name}' could not run: {_message(result.exception_info)}")
    passed = {result.expectation_config.meta["law"]: bool(result.success) for result in results}
    if set(passed) != set(laws):
        raise SuiteBroken(f"{len(passed)} of {len(laws)} expectations were evaluated")
    return [name for name in laws if not passed[name]]


def _message(info: Any) -> str:
    found = info.get("exception_message") if isinstance(info, dict) else None
    if found or not isinstance(info, dict):
        return str(found or info)
    return "; ".join(_message(value) for value in info.values() if isinstance(value, dict))


def _raised(info: Any) -> bool:
    """Return whether an exception is recorded, in either of the shapes Great Expectations uses."""
    if not isinstance(info, dict):
        return False
    return info.get("raised_exception") is True or any(_raised(value) for value in info.values())
