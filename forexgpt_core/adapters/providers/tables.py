"""A file as a table: Parquet as it is and text as text, so that nothing is guessed on the way."""

import csv
import io
import itertools
import re
import zipfile
from pathlib import Path

import polars as pl

from forexgpt_core.adapters.providers.columns import find_columns
from forexgpt_core.adapters.source_files.refusal import BadFile

_PARQUET, _ZIP = b"PAR1", b"PK\x03\x04"
_LARGEST = 8 * 2**30  # bytes that a packed file may unpack to; a decade of M1 bars is a few hundred MB
_CSV = "CSV (UTF-8 text, separated by comma, semicolon or tab)"

_STAMP = re.compile(r"\d{4}([-./]?)\d{2}\1\d{2}([ T]\d{2}:?\d{2}.*)?|\d{10}(\d{3})?")
_DATE = re.compile(r"\d{4}([-./]?)\d{2}\1\d{2}")
_CLOCK = re.compile(r"\d{2}:\d{2}(:\d{2}(\.\d+)?)?")
_NUMBER = re.compile(r"[-+]?\d*[.,]?\d+([eE][-+]?\d+)?")
_PRICES = ["open", "high", "low", "close"]
# What the numbers after the time are, in files without a header, by how many there are. All publishers of such files
# agree on this order; another one breaks low <= open, close <= high in most rows and is refused for that.
_UNNAMED = {4: _PRICES, 5: [*_PRICES, "tick_volume"], 7: [*_PRICES, "tick_volume", "real_volume", "spread"]}


def read_table(path: Path) -> pl.DataFrame:
    """Return the whole file; a CSV as text, without its blank lines, in a ZIP or not.

    A CSV without a header is known by its first line, which must be a time (or a date and a time) and 4, 5 or 7
    numbers: that is how HistData and MetaTrader 4 write. Its columns get the names they would have.

    Raises:
        BadFile: the file is missing or empty, not readable as one of these, its header is wrong, or a row has too many
            or too few fields.
    """
    if not path.is_file():
        raise BadFile(path, f"there is no file {path}")
    kind = "Parquet" if path.suffix.lower() in (".parquet", ".pq") else _CSV
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == _PARQUET:
            kind = "Parquet"
            return pl.read_parquet(path, hive_partitioning=False)
        if kind == "Parquet":
            raise BadFile(path, "not readable as Parquet: it does not begin as a Parquet file does")
        return _text(path, _unpacked(path) if magic == _ZIP else path)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError, zipfile.BadZipFile, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise BadFile(path, f"not readable as {kind}: {reason}") from error


def header_again(table: pl.DataFrame, row: int) -> bool:
    """Return whether this row (from 1) of a CSV holds the header once more, as in files that were joined."""
    found = [str(value).strip().lower() for value in table.row(row - 1) if value is not None]
    return bool(found) and found == [name.lower() for name in table.columns if name][: len(found)]


def _unpacked(path: Path) -> bytes:
    """Return the one CSV of a ZIP; HistData packs a report in .txt with it."""
    with zipfile.ZipFile(path) as packed:
        entries = [entry for entry in packed.infolist() if entry.filename.lower().endswith(".csv")]
        if len(entries) != 1:
            held = f"{len(entries)} CSV files" if entries else "no CSV file"
            raise BadFile(path, f"the ZIP holds {held}, expected one; unpack it (or save a workbook as CSV)")
        if entries[0].file_size > _LARGEST:
            raise BadFile(path, f"unpacks to {entries[0].file_size:,} bytes; at most {_LARGEST:,} are read")
        return packed.read(entries[0])


def _text(path: Path, content: Path | bytes) -> pl.DataFrame:
    first, blank_before, blank_after = _beginning(content)
    if not first:
        raise BadFile(path, "the file is empty; expected a header and at least one bar")
    if "\0" in first:
        raise BadFile(path, "the file begins with binary data; expected a header and at least one bar")
    separator = max(",;\t", key=first.count)
    fields = [field.strip() for field in next(csv.reader([first], delimiter=separator))]
    unnamed = _names_without_header(path, fields)
    columns = unnamed or _distinct(fields, path)
    find_columns(columns, path)  # a wrong header is told before a wrong row
    skip = blank_before if unnamed else blank_before + 1 + blank_after
    what = "first row" if unnamed else "header"
    try:
        rows = pl.read_csv(
            content, separator=separator, has_header=False, skip_rows=skip, schema=dict.fromkeys(columns, pl.String())
        )
    except pl.exceptions.PolarsError:
        _refuse_ragged(path, content, separator, skip, len(columns), what)
        raise
    rows = rows.filter(~pl.all_horizontal(pl.all().is_null()))  # a blank line is no row
    if rows.to_series(-1).has_nulls():  # an empty cell, or a line that was cut off
        _refuse_ragged(path, content, separator, skip, len(columns), what)
    return rows


def _beginning(content: Path | bytes) -> tuple[str, int, int]:
    """Return the first line with text ("" if there is none), and how many blank lines stand before and after it."""
    raw = io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")
    with io.TextIOWrapper(raw, encoding="utf-8-sig") as file:
        lines = iter(lambda: file.readline(100_000), "")
        before, first = next(((n, line) for n, line in enumerate(lines) if line.strip()), (0, ""))
        after = sum(1 for _ in itertools.takewhile(lambda line: not line.strip(), lines))
    return first, before, after


def _names_without_header(path: Path, fields: list[str]) -> list[str]:
    """Return the names of the columns if the first line is a bar already, else none."""
    times = 2 if len(fields) > 1 and _DATE.fullmatch(fields[0]) and _CLOCK.fullmatch(fields[1]) else 1
    numbers = fields[times:] if fields[-1] else fields[times:-1]  # a separator may end every line
    if not _STAMP.fullmatch(fields[0]) or not all(_NUMBER.fullmatch(text) for text in numbers):
        return []
    if len(numbers) not in _UNNAMED:
        raise BadFile(
            path,
            f"there is no header and {len(numbers)} numbers after the time; expected 4 (open, high, low, close), 5 (and"
            " volume) or 7 (and MetaTrader's volume and spread), or a header that names the columns",
        )
    named = ["date", "time"] if times == 2 else ["time"]
    return [*named, *_UNNAMED[len(numbers)], *([] if fields[-1] else [""])]


def _distinct(names: list[str], path: Path) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            raise BadFile(path, f"the column '{name}' stands there {names.count(name)} times; expected it once")
    return names


def _refuse_ragged(path: Path, content: Path | bytes, separator: str, skip: int, fields: int, what: str) -> None:
    """Refuse the first row whose number of fields is not that of the header, if there is one."""
    lines = pl.read_csv(content, separator="\x01", quote_char=None, has_header=False, skip_rows=skip).to_series()
    lines = lines.filter(lines.str.strip_chars() != "")
    found = lines.str.replace_all(r'"[^"]*"', "").str.count_matches(separator, literal=True) + 1
    bad = (found != fields).arg_true()
    if bad.len():
        row = int(bad[0])
        raise BadFile(path, f"has {found[row]} fields, expected the {fields} of the {what}", row + 1, None, lines[row])
