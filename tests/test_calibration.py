import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from forexgpt_core.calibration.conformal import ConformalCalibrator, TooFewScores, conformal_radius
from forexgpt_core.domain.forecasts import INTERVALS, LEVELS, MEDIAN, ForecastBatch
from forexgpt_core.errors import BadInput, BundleError


def batch(sigma: np.ndarray, *, width: float = 1.0, horizons: tuple[int, ...] = (1, 4)) -> ForecastBatch:
    """Normal forecasts of standard deviation sigma x width."""
    scale = np.repeat(sigma[:, None], len(horizons), axis=1)
    return ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family="forest",
        origin_utc=np.datetime64("2018-01-01", "us") + np.arange(sigma.size) * np.timedelta64(3600, "s"),
        horizons_bars=horizons,
        quantiles=width * scale[..., None] * ndtri(LEVELS),
        scale=scale,
    )


def market(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Volatility of n bars, and returns over two horizons."""
    rng = np.random.default_rng(seed)
    sigma = 1e-3 * np.exp(0.5 * np.sin(np.arange(n) / 40) + 0.2 * rng.normal(size=n))
    return sigma, sigma[:, None] * rng.normal(size=(n, 2))


def covered(forecasts: ForecastBatch, returns: np.ndarray, percent: int) -> np.ndarray:
    low, high = INTERVALS[percent]
    inside = (returns >= forecasts.quantiles[..., low]) & (returns <= forecasts.quantiles[..., high])
    return inside.mean(axis=0)


class TestRadius:
    def test_it_is_the_score_of_the_exact_rank(self) -> None:
        scores = np.random.default_rng(0).permutation(np.arange(1.0, 100.0))
        assert conformal_radius(scores, 0.1) == 90.0
        assert conformal_radius(np.arange(1.0, 10.0), 0.1) == 9.0
        assert conformal_radius(np.arange(1.0, 10.0), 1 - 0.9) == 9.0  # 1 - 0.9 < 0.1 in floating point

    @pytest.mark.parametrize(("n", "miscoverage", "need"), [(15, 0.05, 19), (8, 0.1, 9), (0, 0.5, 1)])
    def test_too_few_scores_are_refused_with_the_numbers(self, n: int, miscoverage: float, need: int) -> None:
        with pytest.raises(TooFewScores, match=f"needs {need} calibration scores, found {n}") as caught:
            conformal_radius(np.zeros(n), miscoverage)
        again = pickle.loads(pickle.dumps(caught.value))
        assert (again.have, again.need, again.miscoverage) == (n, need, miscoverage)
        assert conformal_radius(np.zeros(need), miscoverage) == 0

    @pytest.mark.parametrize("miscoverage", [0.0, 1.0, -0.1])
    def test_a_share_that_is_none_is_refused(self, miscoverage: float) -> None:
        with pytest.raises(BadInput, match="miscoverage"):
            conformal_radius(np.ones(5), miscoverage)

    @pytest.mark.parametrize(("n", "miscoverage"), [(15, 0.1), (99, 0.1), (999, 0.05)])
    def test_coverage_lies_within_its_theory(self, n: int, miscoverage: float) -> None:
        """The next score falls below the radius with probability rank / (n + 1), for any continuous law."""
        rng = np.random.default_rng(1)
        repeats = 4000
        draws = rng.exponential(size=(repeats, n + 1))
        radii = np.array([conformal_radius(row[:-1], miscoverage) for row in draws])
        hit = (draws[:, -1] <= radii).mean()
        exact = math.ceil((n + 1) * (1 - miscoverage) - 1e-9) / (n + 1)
        assert 1 - miscoverage <= exact <= 1 - miscoverage + 1 / (n + 1)
        assert abs(hit - exact) < 4 * math.sqrt(exact * (1 - exact) / repeats)

    @settings(max_examples=60, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), n=st.integers(20, 300), miscoverage=st.sampled_from([0.05, 0.1, 0.2, 0.5]))
    def test_it_is_the_higher_empirical_quantile(self, seed: int, n: int, miscoverage: float) -> None:
        scores = np.random.default_rng(seed).normal(size=n)
        rank = math.ceil(round((n + 1) * (1 - miscoverage), 9))
        expected = np.sort(scores)[rank - 1]
        assert conformal_radius(scores, miscoverage) == expected
        assert (scores <= expected).sum() >= (n + 1) * (1 - miscoverage) - 1e-9

    @pytest.mark.parametrize("n", [99, 250, 999])
    def test_mapie_gives_the_same_intervals(self, n: int) -> None:
        mapie = pytest.importorskip("mapie.regression", reason="mapie is not installed")
        from sklearn.dummy import DummyRegressor

        rng = np.random.default_rng(3)
        x, y = np.zeros((n, 1)), rng.normal(size=n)
        zero = DummyRegressor(strategy="constant", constant=0.0).fit(x, y)
        peer = mapie.SplitConformalRegressor(zero, confidence_level=0.9, prefit=True)
        _, interval = peer.conformalize(x, y).predict_interval(np.zeros((1, 1)))
        assert conformal_radius(np.abs(y), 0.1) == pytest.approx(float(interval[0, 1, 0]), rel=1e-12)


class TestCalibrator:
    @pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
    def test_intervals_of_any_width_come_to_cover(self, width: float) -> None:
        sigma, returns = market(3000, 1)
        calibrator = ConformalCalibrator.fit(batch(sigma, width=width), returns)
        fresh_sigma, fresh = market(6000, 2)
        calibrated = calibrator.apply(batch(fresh_sigma, width=width))
        for percent in INTERVALS:
            np.testing.assert_allclose(covered(calibrated, fresh, percent), percent / 100, atol=0.025)
        assert calibrator.uncalibrated == ()

    def test_wild_hours_are_covered_like_quiet_ones(self) -> None:
        sigma, returns = market(4000, 3)
        calibrator = ConformalCalibrator.fit(batch(sigma, width=0.6), returns)
        fresh_sigma, fresh = market(8000, 4)
        wild = fresh_sigma > np.quantile(fresh_sigma, 0.9)
        calibrated = calibrator.apply(batch(fresh_sigma, width=0.6).take(wild))
        assert (covered(calibrated, fresh[wild], 90) > 0.87).all()

    def test_median_family_and_order_stay(self) -> None:
        sigma, returns = market(500, 5)
        before = batch(sigma, width=3.0)
        after = ConformalCalibrator.fit(before, returns).apply(before)
        assert np.array_equal(after.quantiles[..., MEDIAN], before.quantiles[..., MEDIAN])
        assert after.family == before.family
        assert (np.diff(after.quantiles, axis=-1) >= 0).all()
        assert np.array_equal(after.scale, before.scale)

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60))
    def test_any_calibrator_keeps_the_quantiles_in_order(self, seed: int, n: int) -> None:
        rng = np.random.default_rng(seed)
        forecasts = batch(np.exp(rng.normal(size=n)), width=float(np.exp(rng.normal())))
        after = ConformalCalibrator.fit(forecasts, rng.standard_cauchy(size=(n, 2))).apply(forecasts)
        assert (np.diff(after.quantiles, axis=-1) >= 0).all()

    def test_too_few_scores_leave_an_interval_alone_and_say_so(self) -> None:
        sigma, returns = market(15, 6)
        returns[4:, 1] = np.nan
        forecasts = batch(sigma, width=0.1)
        calibrator = ConformalCalibrator.fit(forecasts, returns)
        assert calibrator.uncalibrated == ((1, 95), (4, 90), (4, 95))
        assert calibrator.score_count.tolist() == [15, 4]
        after = calibrator.apply(batch(sigma, width=5.0))
        assert np.array_equal(after.quantiles[:, 1, 0], batch(sigma, width=5.0).quantiles[:, 1, 0])

    def test_without_any_score_nothing_changes(self) -> None:
        sigma, returns = market(30, 7)
        calibrator = ConformalCalibrator.fit(batch(sigma), np.full_like(returns, np.nan))
        assert len(calibrator.uncalibrated) == 8
        assert np.array_equal(calibrator.apply(batch(sigma)).quantiles, batch(sigma).quantiles)

    def test_it_is_stored_to_the_last_bit(self, tmp_path: Path) -> None:
        sigma, returns = market(15, 8)
        calibrator = ConformalCalibrator.fit(batch(sigma), returns)
        calibrator.save(tmp_path)
        loaded = ConformalCalibrator.load(tmp_path)
        np.testing.assert_array_equal(loaded.radii, calibrator.radii)
        assert loaded.uncalibrated == calibrator.uncalibrated == ((1, 95), (4, 95))
        assert loaded.horizons_bars == calibrator.horizons_bars

    def test_a_file_of_something_else_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "calibrator.json").write_text('{"coverages": [50, 80], "radii": [], "horizons_bars": []}')
        with pytest.raises(BundleError, match="calibrates coverages"):
            ConformalCalibrator.load(tmp_path)

    def test_other_horizons_and_shapes_are_refused(self) -> None:
        sigma, returns = market(50, 9)
        calibrator = ConformalCalibrator.fit(batch(sigma), returns)
        with pytest.raises(BadInput, match="horizons"):
            calibrator.apply(batch(sigma, horizons=(1, 2)))
        with pytest.raises(BadInput, match="shape"):
            ConformalCalibrator.fit(batch(sigma), returns[:10])
