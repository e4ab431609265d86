"""The suite over feature tables: real tables pass, each broken law is named."""

import numpy as np
import polars as pl
import pytest

from forexgpt_core.adapters.providers.sample import SampleSource
from forexgpt_core.candles.cleaning import clean
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.features.build import build_features
from forexgpt_core.features.quality import judge_features, summarise_features
from forexgpt_core.features.recipe import Recipe


@pytest.fixture(scope="module")
def real() -> pl.DataFrame:
    raw = SampleSource().fetch("EURUSD", Timeframe.H1, since_utc=None, until_utc=None)
    return build_features(clean(raw, Timeframe.H1).bars, Timeframe.H1, Recipe.usual())


def test_real_features_are_lawful(real: pl.DataFrame) -> None:
    assert judge_features(real) == ()


def test_a_summary_tells_warm_up_from_holes() -> None:
    values = [np.nan, np.nan, 1.0, np.nan, 2.0, np.inf, 3.0, 4.0]
    row = summarise_features(pl.DataFrame({"ts_utc": range(8), "x": values})).row(0, named=True)
    assert (row["warm_up_rows"], row["infinite"], row["finite_share"]) == (2, 1, 0.5)
    assert row["holes_share"] == pytest.approx(2 / 6)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda t: t.with_columns(rsi_14_h1=pl.lit(np.inf)), "infinite values in rsi_14_h1"),
        (
            lambda t: t.with_columns(
                body_h4=pl.when(pl.int_range(t.height) % 20 == 7).then(np.nan).otherwise("body_h4")
            ),
            "undefined after warm-up in body_h4",
        ),
        (lambda t: t.reverse(), "goes back in time"),
        (lambda t: pl.concat([t, t.tail(1)]), "repeats"),
        (lambda t: t.select("ts_utc"), "no feature"),
    ],
)
def test_a_broken_law_is_named(spoil, sentence: str, real: pl.DataFrame) -> None:
    assert any(sentence in line for line in judge_features(spoil(real)))
