"""Measure, print a table and write the figures: `python -m benchmarks.run [--only NAME] [--json PATH]`.

A benchmark is a module `benchmarks/bench_*.py` with `NAMES`, the measurements it can make, and `measure(only)`, which
returns those in `only` (None for all). The JSON holds what this run measured and nothing else.
"""

import argparse
import importlib
import json
import os
import pkgutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

import benchmarks
from benchmarks.measurement import Measurement

RESULTS = Path(__file__).with_name("results.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A module that measures."""

    module: str
    names: tuple[str, ...]
    measure: Callable[[set[str] | None], list[Measurement]]


def discover(failed: list[str]) -> list[Benchmark]:
    """Return the benchmarks of this folder; a module that cannot be imported adds one line to `failed`."""
    found = []
    for info in sorted(pkgutil.iter_modules(benchmarks.__path__), key=lambda info: info.name):
        if not info.name.startswith("bench_"):
            continue
        try:
            module = importlib.import_module(f"benchmarks.{info.name}")
            found.append(Benchmark(module=info.name, names=tuple(module.NAMES), measure=module.measure))
        except Exception as error:
            failed.append(_line(info.name, error))
    return found


def measure_all(chosen: Iterable[Benchmark], only: set[str] | None, failed: list[str]) -> list[Measurement]:
    """Return what the benchmarks measured; one that raises adds one line to `failed` and the others go on."""
    measured: list[Measurement] = []
    for benchmark in chosen:
        wanted = None if only is None else only & set(benchmark.names)
        if wanted is not None and not wanted:
            continue
        try:
            rows = benchmark.measure(wanted)
        except Exception as error:
            failed.append(_line(benchmark.module, error))
            continue
        measured += [row for row in rows if only is None or row.name in only]
    return measured


def write_json(measured: list[Measurement], path: Path) -> None:
    """Write the figures as a JSON list; a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump([asdict(row) for row in measured], file, indent=2, allow_nan=False)
            file.write("\n")
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def table_of(measured: list[Measurement]) -> Table:
    """Return the figures as a table for a terminal."""
    table = Table(title="ForexGPT benchmarks")
    for heading in ("name", "ours", "peer", "times faster", "unit", "goal", "met"):
        numeric = heading in ("ours", "peer", "times faster")
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=heading == "name")
    for row in measured:
        met = {True: "yes", False: "NO", None: ""}[row.met]
        figures = (_figure(row.ours), _figure(row.peer), _figure(row.ratio))
        table.add_row(row.name, *figures, row.unit, row.goal or "", met)
    return table


def main(arguments: list[str] | None = None) -> int:
    """Return 0 when every benchmark ran, 1 when one failed, 2 for an unknown name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Measure ForexGPT against its peers.")
    parser.add_argument("--only", action="append", metavar="NAME", help="measure this one; may be repeated")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="PATH", help="file for the figures")
    options = parser.parse_args(arguments)
    only = set(options.only) if options.only else None
    failed: list[str] = []
    found = discover(failed)
    known = {name for benchmark in found for name in benchmark.names}
    if only and (unknown := only - known):
        lines = [*failed, f"unknown benchmark {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}"]
        print("\n".join(lines), file=sys.stderr)
        return 2
    measured = measure_all(found, only, failed)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table_of(measured))
    for row in measured:
        print(f"{row.name}: {row.note}")
    write_json(measured, options.json)
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0


def _line(module: str, error: Exception) -> str:
    return f"{module} failed: {type(error).__name__}: {' '.join(str(error).split())}"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(main())
