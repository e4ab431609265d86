"""Evidently's drift page: the table and the distributions, under a headline that says what was decided."""

import html
import os
import re
from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ERROR_COLUMN = "forecast_error"
DISTANCE, DISTANCE_LIMIT = "wasserstein", 0.1  # Evidently's defaults for samples above 1,000 rows
_MOST_ROWS = 5000

Page = Callable[[str, str], str]


def evidently_page(
    reference: pl.DataFrame, current: pl.DataFrame, losses: tuple[Floats, Floats] | None, *, seed: int
) -> tuple[Page, dict[str, float]]:
    """Run Evidently on features and errors.

    Args:
        reference: float columns of the earlier period.
        current: the same columns of the later one.
        losses: errors of both periods, (n,) each, or None.
        seed: of the rows drawn where a period has more than 5,000.

    Returns:
        A function from a headline and a note to the whole page, and the distance of each column.
    """
    for switch in ("DO_NOT_TRACK", "ITERATIVE_DO_NOT_TRACK"):
        os.environ.setdefault(switch, "1")  # Evidently reads it on import; a drift report tells nobody else
    os.environ.setdefault("EVIDENTLY_DISABLE_TELEMETRY", "1")
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    rng = np.random.default_rng(seed)
    frames = [_sample(frame, rng) for frame in (reference, current)]
    if losses is not None:
        frames = [_beside(frame, _thin(loss, rng)) for frame, loss in zip(frames, losses, strict=True)]
    definition = DataDefinition(numerical_columns=frames[0].columns)
    before, after = (Dataset.from_pandas(frame.to_pandas(), data_definition=definition) for frame in frames)
    preset = DataDriftPreset(num_method=DISTANCE, num_threshold=DISTANCE_LIMIT)
    with np.errstate(divide="ignore", invalid="ignore"):  # a constant column has no standard deviation to divide by
        snapshot = Report([preset], include_tests=True).run(after, before)
    scores = {
        str(metric["config"]["column"]): float(metric["value"])
        for metric in snapshot.dict()["metrics"]
        if "column" in metric["config"]
    }
    body = snapshot.get_html_str(as_iframe=False)

    def page(headline: str, note: str) -> str:
        banner = (
            '<div style="font-family:sans-serif;padding:16px 24px;background:#f4f4f4;border-bottom:1px solid #ccc">'
            f"<h2 style='margin:0 0 8px'>{html.escape(headline)}</h2><p style='margin:0'>{html.escape(note)}</p></div>"
        )
        return re.sub(r"(<body[^>]*>)", lambda match: match.group(1) + banner, body, count=1)

    return page, scores


def _sample(frame: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    return frame[_rows(frame.height, rng)]


def _thin(values: Floats, rng: np.random.Generator) -> Floats:
    return np.asarray(values[_rows(values.size, rng)])


def _rows(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if count <= _MOST_ROWS:
        return np.arange(count)
    return np.sort(rng.choice(count, _MOST_ROWS, replace=False))


def _beside(frame: pl.DataFrame, losses: Floats) -> pl.DataFrame:
    """Put errors beside features; the shorter of the two is filled with nulls, which Evidently leaves out."""
    return pl.concat([frame, pl.DataFrame({ERROR_COLUMN: losses})], how="horizontal_extend")
