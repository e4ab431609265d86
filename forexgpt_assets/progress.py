"""Where long work tells how far it is: the event log of a run, and a bar on the terminal that started it."""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic

import dagster as dg

from forexgpt_assets.metadata import figures
from forexgpt_core.candles.ingest import Progress, Step
from forexgpt_core.cli.output import say
from forexgpt_core.optimisation.search import Progress as SearchProgress

_OBSERVE_SECONDS = 2.0

_lines: ContextVar[bool] = ContextVar("forexgpt_lines", default=False)
_terminal: ContextVar[Progress | None] = ContextVar("forexgpt_terminal", default=None)
_share: ContextVar[Callable[[float, str], None] | None] = ContextVar("forexgpt_share", default=None)


def progress_of(context: dg.AssetExecutionContext) -> Progress:
    """Return what to tell each step of an ingestion."""
    terminal = _terminal.get()

    def tell(step: Step) -> None:
        context.log.info(f"{step.done} of {step.total}: {step.what}; {step.fetched_rows} rows so far")
        if terminal is not None:
            terminal(step)

    return tell


def lines_of(context: dg.OpExecutionContext) -> Callable[[str], None]:
    """Return what to tell each step of long work in words."""

    def tell(line: str) -> None:
        context.log.info(line)
        if _lines.get():
            say(line)

    return tell


def shares_of(context: dg.OpExecutionContext | dg.AssetExecutionContext) -> Callable[[float, str], None]:
    """Return what to tell each step of long work: the share done, in [0, 1], and words."""
    bar = _share.get()

    def tell(share: float, line: str) -> None:
        context.log.info(line)
        if bar is not None:
            bar(share, line)

    return tell


def search_progress_of(context: dg.AssetExecutionContext) -> Callable[[SearchProgress], None]:
    """Return what to tell each generation of a search.

    A line for every one; and every few seconds an observation of the asset, so that its page draws how far it is.
    """
    line, told_at = shares_of(context), [-math.inf]

    def tell(told: SearchProgress) -> None:
        line(told.generation / told.generations, search_line(told))
        if monotonic() - told_at[0] < _OBSERVE_SECONDS:
            return
        told_at[0] = monotonic()
        known = {
            "phase": told.phase,
            "generation": told.generation,
            "generations": told.generations,
            "trials": told.trials,
            "hypervolume": told.hypervolume,
            "seconds_left": told.seconds_left,
            **{f"best_{name}": value for name, value in told.best.items()},
        }
        context.log_event(
            dg.AssetObservation(context.asset_key, partition=context.partition_key, metadata=figures(known))
        )

    return tell


def search_line(told: SearchProgress) -> str:
    """Return how far a search is, in words."""
    best = ", ".join(f"{name.removesuffix('_pct')} {value:.2f}" for name, value in told.best.items()) or "none yet"
    left = "" if told.seconds_left is None else f", about {told.seconds_left:.0f} s left"
    return f"{told.phase} {told.generation}/{told.generations}: {told.trials} configurations, best {best}{left}"


@contextmanager
def lines_on_terminal() -> Iterator[None]:
    """Show on stderr, where that is a terminal, what runs in this process tell `lines_of`."""
    token = _lines.set(sys.stderr.isatty())
    try:
        yield
    finally:
        _lines.reset(token)


@contextmanager
def bar_on_terminal(what: str) -> Iterator[None]:
    """Show a bar on stderr, where that is a terminal, while runs in this process ingest candles."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("asking", total=None)

        def tell(step: Step) -> None:
            bar.update(
                task, completed=step.done, total=step.total, description=f"{step.what}, {step.inserted} new bars"
            )

        token = _terminal.set(tell)
        try:
            yield
        finally:
            _terminal.reset(token)


@contextmanager
def share_on_terminal(what: str) -> Iterator[None]:
    """Show a bar on stderr, where that is a terminal, while a run in this process tells `shares_of`."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn(what), BarColumn(bar_width=20), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("beginning", total=1.0)
        token = _share.set(lambda share, line: bar.update(task, completed=share, description=line))
        try:
            yield
        finally:
            _share.reset(token)
