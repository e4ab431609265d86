"""The coverage picture: a PNG that shows where columns have values."""

import io
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import matplotlib.image
import numpy as np
import polars as pl
import pytest

from forexgpt_core.reporting.features import coverage_picture


def table(rows: int, columns: int) -> pl.DataFrame:
    start = datetime(2018, 1, 1, 22, tzinfo=UTC)
    times = pl.Series("ts_utc", [start + timedelta(hours=n) for n in range(rows)], dtype=pl.Datetime("us", "UTC"))
    values = np.ones((rows, columns))
    for column in range(columns):
        values[: column * 7, column] = np.nan
    return pl.DataFrame({"ts_utc": times, **{f"c{i}": values[:, i] for i in range(columns)}})


def pixels(png: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(png), format="png")


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (0, 3), (1, 1), (50, 0), (500, 5)])
def test_any_table_has_a_picture(rows: int, columns: int) -> None:
    png = coverage_picture(table(rows, columns), "EURUSD H1")
    assert png.startswith(b"\x89PNG")
    assert pixels(png).shape[0] > 100


def test_more_columns_make_a_taller_picture_and_holes_show() -> None:
    few, many = (pixels(coverage_picture(table(400, n), "EURUSD H1")) for n in (5, 50))
    assert many.shape[0] > few.shape[0]
    whole = table(400, 5).with_columns(pl.exclude("ts_utc").fill_nan(1.0))
    assert not np.array_equal(pixels(coverage_picture(whole, "EURUSD H1")), few)


def test_of_many_columns_those_with_the_fewest_values_are_shown() -> None:
    eighty, many = (pixels(coverage_picture(table(900, n), "EURUSD H1")) for n in (80, 120))
    assert many.shape[0] == eighty.shape[0]
    assert not np.array_equal(many, eighty), "the last of 120 columns have the fewest values"


def test_drawing_never_imports_pyplot() -> None:
    code = "import sys, forexgpt_core.reporting.features; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
