"""The graph finds nothing in noise, and finds what is there: generated pairs through the real assets."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from forexgpt_assets.runs import add_symbol, materialize, session
from forexgpt_core import evidence
from forexgpt_core.composition import REFERENCE, Platform
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.evaluation.report_card import HorizonScore
from forexgpt_core.models.catalogue import FAMILIES

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("honesty")]
Floats = NDArray[np.float64]
BARS, STEPS = 6_000, 8  # bars, and price steps inside each
STAGES = ("model", "calibration", "evaluation")


def white_noise(shocks: Floats) -> Floats:
    """Independent returns of one size."""
    return 1e-3 * shocks


def clustered_volatility(shocks: Floats) -> Floats:
    """A random walk whose volatility follows GARCH(1, 1), persistence .97; its direction cannot be known."""
    returns, variance = np.empty_like(shocks), 1e-6
    for row, shock in enumerate(shocks):
        returns[row] = np.sqrt(variance) * shock
        variance = 3e-8 + 0.09 * returns[row] ** 2 + 0.88 * variance
    return returns


def momentum(shocks: Floats) -> Floats:
    """Each return carries on a quarter of the one before: far more than any market gives away."""
    returns = np.empty_like(shocks)
    last = 0.0
    for row, shock in enumerate(shocks):
        last = returns[row] = 0.25 * last + 1e-3 * shock
    return returns


PAIRS = {"AUDUSD": white_noise, "GBPUSD": clustered_volatility, "NZDUSD": momentum}


@dataclass(frozen=True)
class Found:
    """What the graph said of a pair."""

    scores: list[HorizonScore]
    board: dict[str, Any]

    def challengers(self) -> list[HorizonScore]:
        return [score for score in self.scores if score.family != REFERENCE]


def bars(returns: Floats, rng: np.random.Generator) -> pl.DataFrame:
    """Candles with those returns close to close, and a path inside each bar, so that ranges tell of volatility."""
    n = returns.size
    opens = expected_opens(np.datetime64("2016-01-03T22", "us"), np.datetime64("2018-12-31T20", "us"), Timeframe.H1)[:n]
    size = np.abs(returns).mean() * 1.25 / np.sqrt(STEPS)
    noise = rng.normal(0, size, (n, STEPS))
    inside = np.cumsum(noise - noise.mean(axis=1, keepdims=True) + returns[:, None] / STEPS, axis=1)
    close = np.cumsum(returns)
    start = np.concatenate([[0.0], close[:-1]])
    high = start + np.maximum(inside.max(axis=1), 0)
    low = start + np.minimum(inside.min(axis=1), 0)
    prices = {"open": start, "high": np.maximum(high, close), "low": np.minimum(low, close), "close": close}
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"),
            **{name: 1.3 * np.exp(values) for name, values in prices.items()},
        }
    )


def judged(platform: Platform, instance: dg.DagsterInstance, symbol: str) -> Found:
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey("leaderboard"), asset_partitions=[symbol])
    record = instance.fetch_materializations(wanted, limit=1).records[0]
    assert record.asset_materialization is not None
    settings = platform.pair(symbol)
    return Found(
        scores=[score for family in FAMILIES for score in evidence.horizon_scores(platform, settings, family)],
        board={name: value.value for name, value in record.asset_materialization.metadata.items()},
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Found]]:
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(prefix="forexgpt-", dir=memory if memory.is_dir() else None) as folder,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("FOREXGPT_HOME", folder)
        environment.setenv("DAGSTER_HOME", str(Path(folder) / "dagster"))
        results = {}
        with session() as (platform, instance):
            assets = [f"{family}_{stage}" for family in FAMILIES for stage in STAGES]
            for seed, (symbol, law) in enumerate(PAIRS.items(), start=1):
                rng = np.random.default_rng(seed)
                file = Path(folder) / f"{symbol}.parquet"
                bars(law(rng.standard_normal(BARS)), rng).write_parquet(file)
                add_symbol(instance, symbol)
                chosen = ["candles", "features", *assets, "leaderboard"]
                materialize(instance, chosen, symbol, {"candles": {"file": str(file)}})
                results[symbol] = judged(platform, instance, symbol)
        yield results


@pytest.mark.parametrize("symbol", ["AUDUSD", "GBPUSD"])
def test_nothing_is_found_in_noise(symbol: str, found: dict[str, Found]) -> None:
    card = found[symbol]
    challengers = card.challengers()
    assert len(challengers) == 3 * (len(FAMILIES) - 1)
    outside = [s for s in challengers if not s.skill_low <= 0 <= s.skill_high]
    assert len(outside) <= 1, outside  # nine intervals of 95 %
    assert not any(s.skill_low > 0 and s.dm_p < 0.01 for s in challengers)
    assert card.board["families_with_shown_skill"] == 0
    assert card.board["verdict"].startswith(("Nothing beats the random walk", "Only the random walk, or models equal"))


@pytest.mark.parametrize("symbol", ["AUDUSD", "GBPUSD"])
def test_coverage_in_noise_is_what_was_promised(symbol: str, found: dict[str, Found]) -> None:
    for score in found[symbol].scores:
        slack = 3 * np.sqrt(0.9 * 0.1 / score.n_independent)
        assert abs(score.coverage_90 - 0.9) < max(slack, 0.03), score


def test_a_planted_signal_is_found_where_it_is(found: dict[str, Found]) -> None:
    card = found["NZDUSD"]
    by_key = {(s.family, s.horizon_bars): s for s in card.scores}
    for family in ("linear", "boosting"):
        score = by_key[family, 1]
        assert score.skill_low > 0, score
        assert score.dm_p < 1e-3
        assert 0.01 < score.skill < 0.06, "a quarter of the last return is worth 3 % of CRPS"
        assert score.direction > 0.54
    assert card.board["families_with_shown_skill"] >= 2
    assert "the random walk in" in card.board["verdict"]
    assert "beat" in card.board["verdict"]
    assert not card.board["verdict"].startswith("Nothing")
