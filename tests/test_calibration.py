import json
import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from forexgpt_core.calibration.conformal import (
    ConformalCalibrator,
    TooFewScores,
    conformal_interval,
    conformal_radius,
    exact_rank,
    radius_or_infinity,
)
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

    def test_a_file_of_an_earlier_release_is_read_as_what_it_was(self, tmp_path: Path) -> None:
        stored = {"coverages": list(INTERVALS), "horizons_bars": [1, 4], "score_count": [15, 4]}
        radii = [[0.1, 0.2, 0.3, None], [0.1, 0.2, None, None]]
        (tmp_path / "calibrator.json").write_text(json.dumps(stored | {"radii": radii}))
        loaded = ConformalCalibrator.load(tmp_path)
        assert (loaded.method, loaded.groups) == ("normalised", ())
        assert loaded.uncalibrated == ((1, 95), (4, 90), (4, 95))

    def test_a_forecast_says_what_calibrated_it(self) -> None:
        sigma, returns = market(200, 20)
        calibrated = ConformalCalibrator.fit(batch(sigma), returns, method="plain").apply(batch(sigma))
        assert calibrated.calibrator == "split plain"
        assert calibrated.take(np.array([1])).calibrator == "split plain"
        assert batch(sigma).calibrator == ""

    def test_a_series_that_never_moved_is_refused_by_name(self) -> None:
        sigma, returns = market(50, 21)
        still = replace(batch(sigma), scale=np.zeros((50, 2)))
        with pytest.raises(BadInput, match="100 of 100 scales of EURUSD are not above 0"):
            ConformalCalibrator.fit(still, returns)
        assert ConformalCalibrator.fit(still, returns, method="plain").uncalibrated == ()
        with pytest.raises(BadInput, match="infinite"):
            ConformalCalibrator.fit(batch(sigma), np.full((50, 2), np.inf))


def exchangeable(repeats: int, n: int, miscoverage_index: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return, per repeat, the coverage of 200 fresh outcomes by our interval, and of the n it was fitted on."""
    rng = np.random.default_rng(seed)
    fresh_n = 200
    fresh_and_fitted = np.empty((repeats, 2))
    ones, later = batch(np.ones(n), horizons=(1,), width=0.5), batch(np.ones(fresh_n), horizons=(1,), width=0.5)
    for repeat in range(repeats):
        fitted, fresh = rng.standard_t(4, (n, 1)), rng.standard_t(4, (fresh_n, 1))
        calibrator = ConformalCalibrator.fit(ones, fitted)
        for place, (forecasts, outcome) in enumerate(((later, fresh), (ones, fitted))):
            low, high = calibrator.intervals(forecasts)
            k = miscoverage_index
            fresh_and_fitted[repeat, place] = (
                (low[:, 0, k] <= outcome[:, 0]) & (outcome[:, 0] <= high[:, 0, k])
            ).mean()
    return fresh_and_fitted[:, 0], fresh_and_fitted[:, 1]


class TestTheoryOnExchangeableData:
    @pytest.mark.parametrize("n", [15, 99, 999])
    @pytest.mark.parametrize(("k", "miscoverage"), [(2, 0.1), (3, 0.05)])
    def test_coverage_has_its_exact_mean_and_spread(self, n: int, k: int, miscoverage: float) -> None:
        """Given the n scores, coverage is Beta(rank, n + 1 - rank): 200 fresh outcomes are beta-binomial."""
        repeats = 400
        fresh, _ = exchangeable(repeats, n, k, seed=n + k)
        rank = exact_rank(n, miscoverage)
        if rank > n:
            assert (n, miscoverage) == (15, 0.05)
            assert (fresh == 1.0).all()  # infinite, and it says so
            return
        a, b = rank, n + 1 - rank
        mean = a / (a + b)
        variance = mean * (1 - mean) / 200 * (1 + 199 / (a + b + 1))
        assert abs(fresh.mean() - mean) < 4 * math.sqrt(variance / repeats)
        assert fresh.var() == pytest.approx(variance, rel=0.35)
        assert 1 - miscoverage <= mean <= 1 - miscoverage + 1 / (n + 1)

    def test_the_constant_for_99_scores(self) -> None:
        assert exact_rank(99, 0.1) / 100 == 0.9

    def test_numpy_quantile_covers_too_little(self) -> None:
        """The trap: np.quantile(scores, .9) covers .856 at n = 15, ours 15/16."""
        rng = np.random.default_rng(2)
        draws = np.abs(rng.normal(size=(20_000, 16)))
        naive = (draws[:, -1] <= np.quantile(draws[:, :-1], 0.9, axis=1)).mean()
        ours = (draws[:, -1] <= np.array([conformal_radius(row, 0.1) for row in draws[:, :-1]])).mean()
        assert naive == pytest.approx(0.856, abs=0.008)
        assert ours == pytest.approx(15 / 16, abs=0.006)

    def test_coverage_on_the_calibration_set_flatters(self) -> None:
        fresh, fitted = exchangeable(300, 15, 2, seed=4)
        assert (fitted == 1.0).all()
        assert fresh.mean() < 0.96

    def test_quantiles_of_absolute_residuals_on_both_sides_cover_half(self) -> None:
        """The trap: [y + q05(|r|), y + q95(|r|)] leaves out one whole side; ours is two-sided by its score."""
        r = np.random.default_rng(5).normal(size=20_000)
        low, high = np.quantile(np.abs(r), [0.05, 0.95])
        assert ((low <= r) & (r <= high)).mean() == pytest.approx(0.45, abs=0.06)
        zero = replace(batch(np.ones(10_000), horizons=(1,)), quantiles=np.zeros((10_000, 1, 9)))
        calibrated = ConformalCalibrator.fit(zero, r[:10_000, None]).apply(zero)
        assert covered(calibrated, r[10_000:, None], 90)[0] == pytest.approx(0.90, abs=0.015)

    def test_a_random_permutation_as_split_flatters(self) -> None:
        """The trap: rows shuffled over time hide that volatility has risen since; blocks in time order do not."""
        rng = np.random.default_rng(6)
        n = 6000
        returns = (np.linspace(1, 4, n) * rng.normal(size=n))[:, None]
        still = batch(np.ones(n), horizons=(1,))

        def coverage(order: np.ndarray) -> float:
            fit, judge = order[: n // 2], order[n // 2 :]
            calibrated = ConformalCalibrator.fit(still.take(fit), returns[fit]).apply(still.take(judge))
            return float(covered(calibrated, returns[judge], 90)[0])

        assert coverage(rng.permutation(n)) == pytest.approx(0.90, abs=0.015)
        assert coverage(np.arange(n)) < 0.80

    def test_an_infinite_interval_is_the_whole_line(self) -> None:
        assert conformal_interval(-1.0, 1.0, np.zeros(15), 0.05) == (-math.inf, math.inf)
        assert conformal_interval(-1.0, 1.0, np.zeros(19), 0.05) == (-1.0, 1.0)
        assert radius_or_infinity(np.zeros(0), 0.5) == math.inf
        assert radius_or_infinity(np.arange(5.0), 1 - 1e-12) == 0.0
        with pytest.raises(BadInput, match="1 of 3 scores are NaN"):
            radius_or_infinity(np.array([1.0, np.nan, 2.0]), 0.1)
        calibrator = ConformalCalibrator.fit(batch(np.ones(15)), np.zeros((15, 2)))
        low, high = calibrator.intervals(batch(np.ones(3)))
        assert (np.isneginf(low[..., 3]).all(), np.isposinf(high[..., 3]).all()) == (True, True)
        assert calibrator.left_alone(batch(np.ones(3))).tolist() == [[0, 0, 0, 3], [0, 0, 0, 3]]

    def test_mapie_conformalises_quantiles_to_the_same_interval(self) -> None:
        mapie = pytest.importorskip("mapie.regression", reason="mapie is not installed")
        from sklearn.dummy import DummyRegressor

        rng = np.random.default_rng(7)
        n = 250
        x, y = np.zeros((n, 1)), 1e-3 * rng.standard_t(4, n)
        model = batch(np.full(n, 1e-3), horizons=(1,), width=0.6)
        low, high = INTERVALS[90]
        ends = [float(model.quantiles[0, 0, level]) for level in (low, high, 4)]
        trained = [DummyRegressor(strategy="constant", constant=end).fit(x, y) for end in ends]
        peer = mapie.ConformalizedQuantileRegressor(trained, confidence_level=0.9, prefit=True).conformalize(x, y)
        _, interval = peer.predict_interval(np.zeros((1, 1)), symmetric_correction=True)
        ours_low, ours_high = ConformalCalibrator.fit(model, y[:, None], method="plain").intervals(model)
        assert (ours_low[0, 0, 2], ours_high[0, 0, 2]) == pytest.approx(interval[0, :, 0], rel=1e-12)


class TestMethods:
    def test_plain_leaves_wild_hours_short_and_the_others_do_not(self) -> None:
        rng = np.random.default_rng(8)
        sigma = 1e-3 * np.exp(rng.normal(0, 0.7, 12_000))
        returns = sigma[:, None] * rng.standard_t(4, (12_000, 2))
        fixed = replace(batch(np.full(12_000, 1e-5)), scale=np.repeat(sigma[:, None], 2, axis=1))
        fit = np.arange(12_000) < 6000
        wild = ~fit & (sigma > np.quantile(sigma, 0.9))
        got = {}
        for method in ("plain", "normalised", "mondrian"):
            calibrator = ConformalCalibrator.fit(fixed.take(fit), returns[fit], method=method)
            overall = covered(calibrator.apply(fixed.take(~fit)), returns[~fit], 90)
            np.testing.assert_allclose(overall, 0.90, atol=0.012)
            got[method] = covered(calibrator.apply(fixed.take(wild)), returns[wild], 90).mean()
        assert got["plain"] < 0.75
        assert got["normalised"] == pytest.approx(0.90, abs=0.03)
        assert got["mondrian"] == pytest.approx(0.90, abs=0.03)

    def test_mondrian_covers_in_every_tercile(self) -> None:
        """A model that is too sure in calm hours and too shy in wild ones: one radius cannot mend both."""
        rng = np.random.default_rng(9)
        sigma = 1e-3 * np.exp(rng.normal(0, 0.5, 18_000))
        returns = (np.sqrt(sigma * 1e-3))[:, None] * rng.normal(size=(18_000, 2))
        fit = np.arange(18_000) < 9000
        forecasts = batch(sigma)
        calibrator = ConformalCalibrator.fit(forecasts.take(fit), returns[fit], method="mondrian")
        single = ConformalCalibrator.fit(forecasts.take(fit), returns[fit])
        assert calibrator.groups == ("calm", "normal", "wild")
        assert calibrator.score_count.tolist() == [[3000, 3000]] * 3
        cuts = np.quantile(sigma[fit], [1 / 3, 2 / 3])
        tercile = np.searchsorted(cuts, sigma)
        worst = {}
        for name, one in (("mondrian", calibrator), ("single", single)):
            rates = [covered(one.apply(forecasts.take(~fit & (tercile == t))), returns[~fit & (tercile == t)], 90)
                     for t in range(3)]  # fmt: skip
            worst[name] = np.abs(np.array(rates) - 0.90).max()
        assert worst["mondrian"] < 0.03 < 0.05 < worst["single"]

    def test_labels_are_groups_and_travel_with_the_file(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(10)
        n = 4000
        labels = np.where(rng.random(n) < 0.5, "trend", "range").tolist()
        wide = np.array([3.0 if label == "trend" else 1.0 for label in labels])
        returns = 1e-3 * wide[:, None] * rng.normal(size=(n, 2))
        forecasts = batch(np.full(n, 1e-3))
        calibrator = ConformalCalibrator.fit(forecasts, returns, method="mondrian", labels=labels)
        calibrator.save(tmp_path)
        loaded = ConformalCalibrator.load(tmp_path)
        assert (loaded.groups, loaded.method, loaded.edges) == (("range", "trend"), "mondrian", None)
        np.testing.assert_array_equal(loaded.radii, calibrator.radii)
        after = loaded.apply(forecasts, labels)
        assert after.calibrator == "split mondrian"
        spread = after.quantiles[:, 0, 7] - after.quantiles[:, 0, 1]
        assert spread[wide == 3].mean() / spread[wide == 1].mean() == pytest.approx(3, rel=0.1)
        with pytest.raises(BadInput, match="fitted with the labels range, trend"):
            loaded.apply(forecasts)
        with pytest.raises(BadInput, match="no radius was fitted for the label storm; known are range, trend"):
            loaded.apply(forecasts, ["storm"] * n)
        with pytest.raises(BadInput, match="3 labels for 4000 origins"):
            loaded.apply(forecasts, ["trend"] * 3)

    @pytest.mark.parametrize("method", ["normalised", "plain", "mondrian"])
    def test_every_method_is_stored_to_the_last_bit(self, tmp_path: Path, method: str) -> None:
        sigma, returns = market(40, 11)
        calibrator = ConformalCalibrator.fit(batch(sigma), returns, method=method)
        calibrator.save(tmp_path)
        loaded = ConformalCalibrator.load(tmp_path)
        assert loaded.method == method
        assert np.array_equal(loaded.apply(batch(sigma)).quantiles, calibrator.apply(batch(sigma)).quantiles)
        np.testing.assert_array_equal(loaded.radii, calibrator.radii)
        assert loaded.uncalibrated == calibrator.uncalibrated

    def test_a_group_too_small_is_left_alone_and_counted(self) -> None:
        sigma, returns = market(40, 12)
        calibrator = ConformalCalibrator.fit(batch(sigma), returns, method="mondrian")
        assert calibrator.uncalibrated == ((1, 95), (4, 95))
        assert calibrator.left_alone(batch(sigma))[:, 3].tolist() == [40, 40]

    def test_what_is_no_method_is_refused(self, tmp_path: Path) -> None:
        sigma, returns = market(40, 13)
        with pytest.raises(BadInput, match="named 'magic'; there are normalised, plain, mondrian"):
            ConformalCalibrator.fit(batch(sigma), returns, method="magic")
        with pytest.raises(BadInput, match="has no groups"):
            ConformalCalibrator.fit(batch(sigma), returns, labels=["a"] * 40)
        with pytest.raises(BadInput, match="takes no labels"):
            ConformalCalibrator.fit(batch(sigma), returns, method="mondrian").apply(batch(sigma), ["a"] * 40)
        ConformalCalibrator.fit(batch(sigma), returns).save(tmp_path)
        document = json.loads((tmp_path / "calibrator.json").read_text())
        (tmp_path / "calibrator.json").write_text(json.dumps(document | {"method": "magic"}))
        with pytest.raises(BundleError, match="magic"):
            ConformalCalibrator.load(tmp_path)
