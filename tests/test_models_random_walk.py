from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forexgpt_core.domain.clock import Timeframe, expected_opens, hour_of_week, slot
from forexgpt_core.domain.forecasts import INTERVALS, MEDIAN
from forexgpt_core.errors import BadInput, BundleError
from forexgpt_core.features.splits import SplitShares, evidence_parts
from forexgpt_core.features.windows import MarketArrays, Windows, market_arrays, usable
from forexgpt_core.models.forecaster import FitRun
from forexgpt_core.models.random_walk import RandomWalk
from forexgpt_core.models.seasonality import HourFactor
from forexgpt_core.models.student import StudentT

HORIZONS = (1, 4, 24)
RUN = FitRun(seed=0, folder=Path())


def seasonal_market(
    bars: int = 6000, seed: int = 2, timeframe: Timeframe = Timeframe.H1, loud: float = 6.0
) -> tuple[MarketArrays, np.ndarray]:
    """GARCH(1,1)-t bars, `loud` times the variance for eight hours of each day; also the true factor by hour."""
    rng = np.random.default_rng(seed)
    ts = expected_opens(np.datetime64("2015-01-01"), np.datetime64("2020-01-01"), timeframe)[:bars]
    factor = np.where((np.arange(120) % 24 >= 10) & (np.arange(120) % 24 < 18), loud, 1.0)
    factor /= factor.mean()
    shocks, variance, level = rng.standard_t(6, size=bars) / np.sqrt(1.5), np.empty(bars), 1.0
    for i in range(bars):
        variance[i] = level
        level = 0.02 + 0.06 * level * shocks[i] ** 2 + 0.92 * level
    returns = 5e-4 * shocks * np.sqrt(variance * factor[hour_of_week(ts)])
    return bars_of(ts, 1.1 * np.exp(np.cumsum(returns)), timeframe), factor


def bars_of(ts: np.ndarray, close: np.ndarray, timeframe: Timeframe) -> MarketArrays:
    stamps = pl.Series("ts_utc", ts)
    candles = pl.DataFrame({"ts_utc": stamps, "close": close})
    return market_arrays("EURUSD", timeframe, candles, pl.DataFrame({"ts_utc": stamps}), HORIZONS)


def coverage(model: RandomWalk, windows: Windows, percent: int) -> np.ndarray:
    low, high = INTERVALS[percent]
    batch, y = model.forecast(windows), windows.returns
    return ((y >= batch.quantiles[..., low]) & (y <= batch.quantiles[..., high])).mean(axis=0)


@pytest.fixture(scope="module")
def market() -> tuple[MarketArrays, np.ndarray]:
    return seasonal_market()


@pytest.fixture(scope="module")
def walk(market: tuple[MarketArrays, np.ndarray]) -> RandomWalk:
    parts = evidence_parts(usable(market[0], matured=True), SplitShares())
    return RandomWalk().fit(parts.train, parts.valid, run=RUN)


def test_no_move_is_expected_and_the_law_is_symmetric(
    walk: RandomWalk, market: tuple[MarketArrays, np.ndarray]
) -> None:
    quantiles = walk.forecast(usable(market[0], matured=True)).quantiles
    assert (quantiles[..., MEDIAN] == 0).all()
    assert np.array_equal(quantiles, -quantiles[..., ::-1])


def test_the_hours_of_the_week_are_found(walk: RandomWalk, market: tuple[MarketArrays, np.ndarray]) -> None:
    factor = np.array(walk.walk.hour_factor)
    assert factor.mean() == pytest.approx(1)
    inner = np.ones(120, dtype=bool)
    inner[0] = False
    assert np.corrcoef(factor[inner], market[1][inner])[0, 1] > 0.95


def test_intervals_cover_on_unseen_bars(walk: RandomWalk, market: tuple[MarketArrays, np.ndarray]) -> None:
    test = evidence_parts(usable(market[0], matured=True), SplitShares()).test
    np.testing.assert_allclose(coverage(walk, test, 90)[:2], 0.9, atol=0.03)
    np.testing.assert_allclose(coverage(walk, test, 50)[:2], 0.5, atol=0.05)


def test_quiet_and_loud_hours_are_covered_alike(walk: RandomWalk, market: tuple[MarketArrays, np.ndarray]) -> None:
    test = evidence_parts(usable(market[0], matured=True), SplitShares()).test
    loud = market[1][hour_of_week(test.origin_utc)] > 1
    for mask in (loud, ~loud):
        assert abs(coverage(walk, test.take(mask), 80)[1] - 0.8) < 0.05
    plain = RandomWalk(seasonal=False).fit(test, test, run=RUN)
    gap = [coverage(plain, test.take(mask), 80)[0] for mask in (loud, ~loud)]
    assert abs(gap[0] - gap[1]) > 0.03  # what the plain walk gets wrong


def test_variance_of_a_horizon_is_that_of_its_bars(walk: RandomWalk, market: tuple[MarketArrays, np.ndarray]) -> None:
    arrays, factor = market[0], np.array(walk.walk.hour_factor)
    row = 3001
    origin = Windows(arrays=arrays, rows=np.array([row]))
    coming = np.array([factor[hour_of_week(arrays.ts_utc[row + 1 : row + 1 + h])].sum() for h in HORIZONS])
    expected = np.sqrt(walk.level(origin)[0] * coming) * np.array(walk.walk.unit)
    np.testing.assert_allclose(walk.scale(origin)[0], expected, rtol=1e-12)


def test_the_weekend_takes_no_variance_time() -> None:
    factor = HourFactor.flat(Timeframe.H1)
    friday = slot(np.array(["2018-07-06T20:00"], dtype="datetime64[us]"), Timeframe.H1)
    sunday = slot(np.array(["2018-07-08T21:00"], dtype="datetime64[us]"), Timeframe.H1)
    assert factor.between(friday, sunday) == pytest.approx(1)


@pytest.mark.parametrize("options", [{}, {"seasonal": False}, {"seasonal": False, "volatility": "rolling"}])
def test_every_reference_saves_and_loads_every_bit(
    options: dict[str, object], market: tuple[MarketArrays, np.ndarray], tmp_path: Path
) -> None:
    windows = usable(market[0], matured=True)
    model = RandomWalk(**options).fit(windows.take(np.arange(2000)), windows, run=RUN)
    model.save(tmp_path)
    loaded = RandomWalk.load(tmp_path)
    assert np.array_equal(loaded.forecast(windows).quantiles, model.forecast(windows).quantiles)
    assert loaded.walk == model.walk


def test_a_rolling_walk_is_the_mean_of_its_window(market: tuple[MarketArrays, np.ndarray]) -> None:
    windows = usable(market[0], matured=True)
    model = RandomWalk(seasonal=False, volatility="rolling", window_bars=100).fit(windows, windows, run=RUN)
    row = 900
    squares = np.diff(np.log(market[0].close[row - 100 : row + 1])) ** 2
    assert model.level(Windows(arrays=market[0], rows=np.array([row])))[0] == pytest.approx(squares.mean(), rel=1e-10)


def test_a_cut_history_changes_nothing_once_forgotten(
    walk: RandomWalk, market: tuple[MarketArrays, np.ndarray]
) -> None:
    arrays = market[0]
    tail = bars_of(arrays.ts_utc[-5000:], arrays.close[-5000:], Timeframe.H1)
    alone = walk.forecast(Windows(arrays=tail, rows=np.array([4999])))
    whole = walk.forecast(Windows(arrays=arrays, rows=np.array([5999])))
    np.testing.assert_allclose(alone.quantiles, whole.quantiles, rtol=1e-5)


def test_gaps_and_off_week_bars_neither_fail_nor_explode(market: tuple[MarketArrays, np.ndarray]) -> None:
    arrays, _ = market
    keep = np.ones(arrays.close.size, dtype=bool)
    keep[1000:1060] = False
    ts = arrays.ts_utc[keep]
    saturday = np.array(["2015-05-16T12:00"], dtype="datetime64[us]")
    place = int(np.searchsorted(ts, saturday)[0])
    ragged = bars_of(np.insert(ts, place, saturday), np.insert(arrays.close[keep], place, 1.1), Timeframe.H1)
    windows = usable(ragged, matured=True)
    scale = RandomWalk().fit(windows.take(np.arange(3000)), windows, run=RUN).scale(windows)
    assert np.isfinite(scale).all()
    assert (scale > 0).all()


@pytest.mark.parametrize("timeframe", [Timeframe.M15, Timeframe.H4, Timeframe.D1, Timeframe.W1])
def test_it_works_on_every_length_of_bar(timeframe: Timeframe) -> None:
    arrays, _ = seasonal_market(bars=250 if timeframe is Timeframe.W1 else 1200, timeframe=timeframe)
    windows = usable(arrays, matured=True)
    model = RandomWalk().fit(windows, windows, run=RUN)
    assert abs(coverage(model, windows, 90)[0] - 0.9) < 0.05
    assert len(model.walk.hour_factor) == min(120, timeframe.per_week)


def test_prices_that_stand_still_are_refused_in_training_and_survived_later(walk: RandomWalk) -> None:
    ts = expected_opens(np.datetime64("2018-01-01"), np.datetime64("2019-01-01"), Timeframe.H1)[:6000]
    still = bars_of(ts, np.full(6000, 1.1), Timeframe.H1)
    windows = usable(still, matured=True)
    with pytest.raises(BadInput, match="never move"):
        RandomWalk().fit(windows, windows, run=RUN)
    assert (walk.scale(windows) > 0).all()


def test_another_timeframe_is_refused(walk: RandomWalk) -> None:
    arrays, _ = seasonal_market(bars=300, timeframe=Timeframe.H4)
    with pytest.raises(BadInput, match="fitted on H1 bars, not on H4"):
        walk.forecast(usable(arrays, matured=True))


def test_a_file_that_describes_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"options": {"seasonal": true}, "fitted": {"speed": 1}}')
    with pytest.raises(BundleError, match="cannot be read"):
        RandomWalk.load(tmp_path)


@pytest.mark.parametrize("nu", [3.0, 6.0, 20.0])
def test_student_tails_are_recovered(nu: float) -> None:
    x = 2.5 * np.random.default_rng(4).standard_t(nu, size=40_000)
    law = StudentT.fit(x)
    assert law.nu == pytest.approx(nu, rel=0.25)
    assert law.scale == pytest.approx(2.5, rel=0.03)
    np.testing.assert_allclose(
        law.quantiles(), np.quantile(x, [0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975]), atol=0.15
    )


def test_student_fit_agrees_with_scipy() -> None:
    from scipy import stats

    x = np.random.default_rng(7).standard_t(5, size=5000)
    nu, _, scale = stats.t.fit(x, floc=0)
    law = StudentT.fit(x)
    assert law.nu == pytest.approx(nu, rel=0.02)
    assert law.scale == pytest.approx(scale, rel=0.005)
    assert law.mean_loss(x) == pytest.approx(-stats.t.logpdf(x, law.nu, scale=law.scale).mean(), rel=1e-9)


def test_the_time_of_day_is_worth_a_few_percent_on_real_candles() -> None:
    from backtesting.test import EURUSD

    ts = EURUSD.index.to_numpy().astype("datetime64[us]")
    parts = evidence_parts(usable(bars_of(ts, EURUSD.Close.to_numpy(), Timeframe.H1), matured=True), SplitShares())
    loss = {}
    for seasonal in (True, False):
        model = RandomWalk(seasonal=seasonal).fit(parts.train, parts.valid, run=RUN)
        batch, y = model.forecast(parts.test), parts.test.returns[:, :2, None]
        miss = y - batch.quantiles[:, :2]
        levels = np.array([0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975])
        loss[seasonal] = np.maximum(levels * miss, (levels - 1) * miss).mean()
    assert 0.005 < 1 - loss[True] / loss[False] < 0.06


def test_bars_held_out_between_training_rows_teach_it_nothing(market: tuple[MarketArrays, object]) -> None:
    windows = usable(market[0], matured=True)
    kept = np.concatenate([np.arange(0, 400), np.arange(900, 1400)])
    held_out = windows.rows[450:850]
    close = market[0].close.copy()
    close[held_out] *= np.exp(np.random.default_rng(1).normal(0, 0.05, held_out.size))
    other = Windows(arrays=replace(market[0], close=close), rows=windows.rows)
    fitted = [RandomWalk().fit(part.take(kept), part.take(kept[-50:]), run=RUN).walk for part in (windows, other)]
    assert fitted[0].start_variance == fitted[1].start_variance
    assert fitted[0].hour_factor == fitted[1].hour_factor
