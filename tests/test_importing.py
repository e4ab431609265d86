"""A file becomes the pair's own candles: worked on its timeframe, and never overwritten by the sample."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forexgpt_assets.importing import import_file
from forexgpt_assets.runs import RunFailed, materialize, session
from forexgpt_core.deployment.symbol_settings import default_settings
from forexgpt_core.domain.clock import Timeframe, expected_opens


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOREXGPT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home" / "dagster"))
    return tmp_path / "home"


def candle_file(folder: Path, timeframe: Timeframe, count: int) -> Path:
    """Write bars of 2017, where the sample has bars too."""
    ts = expected_opens(np.datetime64("2017-05-01T22", "us"), np.datetime64("2018-06-01T20", "us"), timeframe)[:count]
    close = 1.3 * np.exp(np.cumsum(np.random.default_rng(3).normal(0, 1e-3, ts.size)))
    prices = {"open": close, "high": close * 1.001, "low": close * 0.999, "close": close}
    file = folder / "bars.parquet"
    pl.DataFrame({"time": pl.Series(ts).dt.replace_time_zone("UTC"), **prices}).write_parquet(file)
    return file


def test_the_sample_never_overwrites_imported_candles(home: Path, tmp_path: Path) -> None:
    file = candle_file(tmp_path, Timeframe.H1, 300)
    import_file(file, "EURUSD", "H1", "")
    with session() as (platform, instance):
        mine = platform.lake.candles("EURUSD", Timeframe.H1)
        materialize(instance, ["candles"], "EURUSD")
        assert platform.pair("EURUSD").source.kind == "none"
        assert platform.lake.candles("EURUSD", Timeframe.H1).equals(mine)


@pytest.mark.parametrize(
    ("timeframe", "recipe"), [(Timeframe.M15, ["M15", "H1", "H4", "D1"]), (Timeframe.H4, ["H4", "D1"])]
)
def test_a_new_pair_is_worked_on_the_timeframe_of_its_file(
    timeframe: Timeframe, recipe: list[str], home: Path, tmp_path: Path
) -> None:
    import_file(candle_file(tmp_path, timeframe, 400), "GBPUSD", timeframe.value, "")
    with session() as (platform, instance):
        settings = platform.pair("GBPUSD")
        assert (settings.timeframe, settings.recipe) == (timeframe.value, {"timeframes": recipe})
        materialize(instance, ["features"], "GBPUSD")
        assert platform.pin(settings).features == 0


def test_a_refused_file_leaves_the_pair_as_it_was(home: Path, tmp_path: Path) -> None:
    file = candle_file(tmp_path, Timeframe.M15, 400)
    pl.read_parquet(file).with_columns(low=pl.col("high") * 2).write_parquet(file)
    for pair in ("EURUSD", "GBPUSD"):
        with pytest.raises(RunFailed, match="refused, nothing was merged"):
            import_file(file, pair, "M15", "")
    with session() as (platform, instance):
        assert [platform.pair(pair) for pair in ("EURUSD", "GBPUSD")] == [
            default_settings(pair) for pair in ("EURUSD", "GBPUSD")
        ]
        assert not instance.get_dynamic_partitions("symbol")
        assert not platform.lake.symbols("candles")


def test_what_cannot_be_written_is_told_in_the_words_of_the_lake(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("FOREXGPT_LAKE", str(tmp_path / "file" / "lake"))
    with pytest.raises(RunFailed, match=r"^candles: cannot (merge|look for|read) .*GBPUSD H1: ") as told:
        import_file(candle_file(tmp_path, Timeframe.H1, 300), "GBPUSD", "H1", "")
    assert "\n" not in str(told.value)
