"""A home with the candles of one pair and an ensemble's forecasts of them, both generated: all that a search needs."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from forexgpt_core import searches
from forexgpt_core.adapters.database.schema import upgrade
from forexgpt_core.adapters.database.studies import StudyHandle
from forexgpt_core.backtest.engine import Sweep
from forexgpt_core.composition import ENSEMBLE, Platform
from forexgpt_core.domain.bars import SCHEMA
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.domain.forecast_table import to_table
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.evidence import TradedMarket, traded_market
from forexgpt_core.optimisation import pareto
from forexgpt_core.optimisation.pareto import ParetoSettings
from forexgpt_core.searches import FoundStudy
from forexgpt_core.settings import Settings
from forexgpt_core.strategy.config import StrategyConfig

SYMBOL, FRAME = "EURUSD", Timeframe.H1
HORIZONS = (1, 4, 24)
BUNDLE = "e1" * 6
_VOLATILITY = 0.0015
_FIRST, _LAST = np.datetime64("2012-01-02T00:00"), np.datetime64("2018-01-01T00:00")


def platform_of(home: Path, database_url: str) -> Platform:
    """Return the platform of a home; nothing is created."""
    return Platform(
        Settings(
            home=home,
            database_url=database_url,
            lake=str(home / "lake"),
            mlflow_tracking_uri=f"sqlite:///{home / 'mlflow.sqlite'}",
        )
    )


def made(home: Path, database_url: str, *, bars: int = 700, seed: int = 0) -> Platform:
    """Return a platform with its schema, generated candles and an ensemble's forecasts from their tenth bar on."""
    upgrade(database_url)
    platform = platform_of(home, database_url)
    candles = random_candles(bars, seed)
    platform.lake.merge_candles(SYMBOL, FRAME, candles)
    forecast(platform, candles, seed=seed)
    return platform


def random_candles(bars: int, seed: int) -> pl.DataFrame:
    """Return a random walk; the first bars of a longer one are those of a shorter one."""
    draw = np.random.default_rng(seed).normal(size=(bars, 3))
    hours = expected_opens(_FIRST, _LAST, FRAME)[:bars]
    close = 1.2 * np.exp(_VOLATILITY * np.cumsum(draw[:, 0]))
    opened = np.concatenate(([1.2], close[:-1]))
    wicks = _VOLATILITY / 2 * np.abs(draw[:, 1:])
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(hours).dt.replace_time_zone("UTC"),
            "open": opened,
            "high": np.maximum(opened, close) * np.exp(wicks[:, 0]),
            "low": np.minimum(opened, close) * np.exp(-wicks[:, 1]),
            "close": close,
            "volume": pl.Series([None] * hours.size, dtype=pl.Float64),
        },
        schema=SCHEMA,
    )


def forecast(platform: Platform, candles: pl.DataFrame, *, seed: int, bundle_hash: str = BUNDLE) -> None:
    """Store an ensemble's forecasts of candles, and the ensemble as the newest one."""
    origins = candles["ts_utc"].to_numpy()[10:]
    scale = np.tile(_VOLATILITY * np.sqrt(HORIZONS), (origins.size, 1))
    means = np.random.default_rng([seed, 1]).normal(0, 0.4, scale.shape) * scale
    laws = ForecastBatch(
        symbol=SYMBOL,
        timeframe=str(FRAME),
        family=ENSEMBLE,
        origin_utc=origins.astype("datetime64[us]"),
        horizons_bars=HORIZONS,
        quantiles=means[..., None] + scale[..., None] * SCORES,
        scale=scale,
    )
    rows = to_table(laws, np.zeros(scale.shape)).with_columns(
        mode=pl.lit("weighted"), deployed=pl.lit(True), bundle_hash=pl.lit(bundle_hash)
    )
    platform.lake.replace("forecasts_ensemble", SYMBOL, FRAME, rows)
    platform.training.record_version(
        symbol=SYMBOL,
        timeframe=str(FRAME),
        family=ENSEMBLE,
        kind=ENSEMBLE,
        bundle_hash=bundle_hash,
        data_version="c1.f1",
    )


def market_of(platform: Platform) -> TradedMarket:
    """Return what the pair's searches trade on."""
    return traded_market(platform, platform.pair(SYMBOL))


def told(found: FoundStudy) -> str:
    """Return everything that a search found and how it was judged; equal texts are equal to the last bit."""
    result = found.result
    members = [(one.hash12, one.in_sample, one.out_of_sample, one.later_spans) for one in result.members]
    evaluated = [(one.config.hash12, one.in_sample) for one in result.evaluated]
    return json.dumps([found.study_id, result.document(), members, evaluated, dict(found.overfitting)], sort_keys=True)


class Watched:
    """Counts what the engine is asked for on the part searched, and hangs at a chosen moment of a search."""

    def __init__(self, log: Path | None = None, hang: str = "") -> None:
        self.log, self.hang = log, hang
        self.backtested: list[str] = []
        self._sweep = pareto.sweep

    def sweep(self, span: object, configs: Sequence[StrategyConfig], **rest: Any) -> Sweep:
        if "blocks" in rest:  # not when members are scored later
            self.backtested += [one.hash12 for one in configs]
            if self.log is not None:
                self.log.write_text("\n".join(self.backtested))
            self._hang_if(self.hang.isdigit() and len(self.backtested) >= int(self.hang))
        return self._sweep(span, configs, **rest)

    def scored(self, *given: Any) -> Any:
        self._hang_if(self.hang == "scoring")
        return _scored(*given)

    def finish(self, *given: Any) -> Any:
        self._hang_if(self.hang == "finishing")
        return _finish(*given)

    def __enter__(self) -> Self:
        pareto.sweep, pareto._scored, StudyHandle.finish = self.sweep, self.scored, lambda *given: self.finish(*given)
        return self

    def __exit__(self, *_: object) -> None:
        pareto.sweep, pareto._scored, StudyHandle.finish = self._sweep, _scored, _finish

    def _hang_if(self, now: bool) -> None:
        if now:
            say("hanging")
            time.sleep(600)


_scored, _finish = pareto._scored, StudyHandle.finish


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def work(home: str, url: str, log: str, hang: str, settings: dict[str, Any]) -> None:
    """Search as a process of its own does, and tell what was found."""
    platform = platform_of(Path(home), url)
    market = market_of(platform)
    say("ready")
    sys.stdin.readline()
    with Watched(Path(log), hang):
        say(told(searches.find(platform, market, ParetoSettings(**settings))))


if __name__ == "__main__":
    work(**json.loads(sys.argv[1]))
