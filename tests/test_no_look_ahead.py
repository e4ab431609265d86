"""The whole graph twice, on prices that part after some bar: what was said by then may not differ by a bit."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forexgpt_assets.runs import add_symbol, materialize, session
from forexgpt_core import evidence
from forexgpt_core.composition import REFERENCE, Platform
from forexgpt_core.deployment.symbol_settings import SymbolSettings, default_settings
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.domain.forecast_table import LEVEL_COLUMNS
from forexgpt_core.ensemble.evidence import EnsembleEvidence, ensemble_evidence
from forexgpt_core.ensemble.pooling import MODES
from forexgpt_core.ensemble.regimes import UNKNOWN, RegimeSettings
from forexgpt_core.ensemble.weights import METHODS, WeightSettings
from forexgpt_core.evaluation.walk_forward import WalkForwardSettings

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("look_ahead")]
PAIR, H1 = "GBPUSD", Timeframe.H1
HORIZONS = (1, 4, 24)
TRAINED, BARS, PARTING = 1_500, 1_560, 1_350  # the last fold tests from about row 1,180 on
HOLE_FROM, HOLE_TO = 1_000, 1_003
BOLD = {"caution": 0.0}  # or a family may say what the walk says, which would prove nothing of it
FAMILIES: dict[str, dict[str, object]] = {
    REFERENCE: {},
    "linear": BOLD,
    "forest": {"trees": 8, **BOLD},
    "boosting": {"rounds": 8, **BOLD},
}
REGIMES = RegimeSettings(volatility_bars=40, trend_bars=30, least_bars=100)
WEIGHING = WeightSettings(method="boa", regimes=REGIMES, uncertainty_exponent=1.0, least_weight=0.0)


class World(NamedTuple):
    """What one history made of the graph.

    Attributes:
        stored: by table, as the evaluation left it, and of the ensemble after newer bars came.
        members: of the ensemble after newer bars came.
    """

    stored: dict[str, pl.DataFrame]
    members: evidence.Members


def bars(*, parted: bool) -> pl.DataFrame:
    """Hourly bars of changing volatility with a hole; with `parted`, other ones after hour PARTING."""
    ts = expected_opens(np.datetime64("2018-01-01T22", "us"), np.datetime64("2018-12-31T20", "us"), H1)[
        : BARS + HOLE_TO - HOLE_FROM
    ]
    rng = np.random.default_rng(5)
    wild = 1e-3 * np.exp(0.8 * np.sin(np.arange(ts.size) / 90))
    steps, wicks = rng.normal(0, wild), np.abs(rng.normal(0, 2e-4, (2, ts.size)))
    if parted:
        steps[PARTING + 1 :] = rng.normal(1e-3, 5e-3, ts.size - PARTING - 1)
        wicks[:, PARTING + 1 :] *= 3
    close = 1.3 * np.exp(np.cumsum(steps))
    open_ = np.concatenate([[1.3], close[:-1]])
    table = pl.DataFrame(
        {
            "ts_utc": pl.Series(ts).dt.replace_time_zone("UTC"),
            "open": open_,
            "high": np.maximum(open_, close) * (1 + wicks[0]),
            "low": np.minimum(open_, close) * (1 - wicks[1]),
            "close": close,
            "volume": np.where(np.arange(ts.size) > PARTING, 2.0 if parted else 1.0, 1.0),
        }
    )
    return pl.concat([table.head(HOLE_FROM), table.slice(HOLE_TO)])


def settings_of() -> SymbolSettings:
    return replace(
        default_settings(PAIR),
        families=tuple(FAMILIES),
        family_options={family: options for family, options in FAMILIES.items() if options},
        recipe={"timeframes": ["H1", "H4"]},
        horizons_bars=HORIZONS,
        walk_forward=WalkForwardSettings(folds=2),
        ensemble=WEIGHING,
    )


def lived(folder: Path, environment: pytest.MonkeyPatch, *, parted: bool) -> World:
    environment.setenv("FOREXGPT_HOME", str(folder))
    environment.setenv("DAGSTER_HOME", str(folder / "dagster"))
    stages = [f"{family}_{stage}" for stage in ("model", "calibration", "evaluation") for family in FAMILIES]
    with session() as (platform, instance):
        platform.pairs.save(settings_of(), by="test")
        history = bars(parted=parted)
        platform.lake.merge_candles(PAIR, H1, history.head(TRAINED))
        add_symbol(instance, PAIR)
        materialize(instance, ["features", *stages, "leaderboard", "ensemble"], PAIR)
        evaluated = {name: table_of(platform, name) for name in (*FAMILIES, "ensemble")}
        platform.lake.merge_candles(PAIR, H1, history)
        materialize(instance, ["features", "ensemble"], PAIR)
        stored = {**evaluated, "extended": table_of(platform, "ensemble")}
        return World(stored=stored, members=evidence.members(platform, platform.pair(PAIR)))


def table_of(platform: Platform, name: str) -> pl.DataFrame:
    return platform.lake.read(f"forecasts_{name}", PAIR, H1).sort("ts_utc", "horizon_bars", maintain_order=True)


@pytest.fixture(scope="module")
def worlds() -> Iterator[tuple[World, World]]:
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(prefix="forexgpt-", dir=memory if memory.is_dir() else None) as folder,
        pytest.MonkeyPatch.context() as environment,
    ):
        yield (
            lived(Path(folder) / "one", environment, parted=False),
            lived(Path(folder) / "other", environment, parted=True),
        )


def parting() -> datetime:
    moment = bars(parted=False)["ts_utc"][PARTING - (HOLE_TO - HOLE_FROM)]
    assert isinstance(moment, datetime)
    return moment.astimezone(UTC)


SAID = ("ts_utc", "horizon_bars", "scale", *LEVEL_COLUMNS)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_stored_forecast_of_a_family_knows_a_later_price(worlds: tuple[World, World], family: str) -> None:
    one, other = (world.stored[family] for world in worlds)
    by_then = pl.col("ts_utc") <= parting()
    assert_frame_equal(one.filter(by_then).select(SAID), other.filter(by_then).select(SAID), check_exact=True)
    assert one.filter(by_then)["fold"].unique().sort().to_list() == [0, 1]
    assert not one.filter(~by_then).select(LEVEL_COLUMNS).equals(other.filter(~by_then).select(LEVEL_COLUMNS))
    if family != REFERENCE:
        walk = worlds[0].stored[REFERENCE]
        assert not one.select(LEVEL_COLUMNS).equals(walk.select(LEVEL_COLUMNS)), "it says something of its own"


@pytest.mark.parametrize("table", ["ensemble", "extended"])
@pytest.mark.parametrize("mode", [*MODES, "reference"])
def test_no_stored_forecast_of_an_ensemble_knows_a_later_price(
    worlds: tuple[World, World], mode: str, table: str
) -> None:
    one, other = (world.stored[table].filter(pl.col("mode") == mode) for world in worlds)
    by_then = pl.col("ts_utc") <= parting()
    assert one.filter(by_then).height > 100
    assert_frame_equal(one.filter(by_then).select(SAID), other.filter(by_then).select(SAID), check_exact=True)
    assert not one.filter(~by_then).select(LEVEL_COLUMNS).equals(other.filter(~by_then).select(LEVEL_COLUMNS))


def combined(world: World, *, method: str, regimes: RegimeSettings | None, adaptive: bool) -> EnsembleEvidence:
    members = world.members
    return ensemble_evidence(
        members.forecasts,
        reference=REFERENCE,
        scored_from_utc=members.scored_from,
        settings=replace(WEIGHING, method=method, regimes=regimes),
        adaptive=adaptive,
        candles=members.candles,
    )


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("regimes", [REGIMES, None])
@pytest.mark.parametrize("method", METHODS)
def test_weights_regimes_and_intervals_know_nothing_later(
    worlds: tuple[World, World], method: str, regimes: RegimeSettings | None, adaptive: bool
) -> None:
    one, other = (combined(world, method=method, regimes=regimes, adaptive=adaptive) for world in worlds)
    n = int((one.origin_utc <= np.datetime64(parting().replace(tzinfo=None))).sum())
    scored = n - int((~np.isin(one.origin_utc, one.forecasts.origin_utc)).sum())
    assert np.array_equal(one.origin_utc[:n], other.origin_utc[:n])
    assert np.array_equal(one.weights[:, :n], other.weights[:, :n])
    assert not np.array_equal(one.weights[:, n:], other.weights[:, n:])
    for mode in MODES:
        assert np.array_equal(one.modes[mode].quantiles[:scored], other.modes[mode].quantiles[:scored])
        assert not np.array_equal(one.modes[mode].quantiles[scored:], other.modes[mode].quantiles[scored:])
    if regimes is not None:
        assert one.labels is not None
        assert other.labels is not None
        assert np.array_equal(one.labels[:n], other.labels[:n])
        assert np.unique(one.labels[:n][one.labels[:n] != UNKNOWN]).size > 3
        assert not np.array_equal(one.labels[n:], other.labels[n:])
