"""What the benchmarks of honesty measure, on fewer series: false claims, power, coverage, and the real walk."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, kstest

from forexgpt_core.domain.bars import require_bars
from forexgpt_core.domain.forecasts import MEDIAN, SCORES, ForecastBatch
from forexgpt_core.evaluation.report_card import rank, score_family
from forexgpt_core.evaluation.scores import crps

ROOT = Path(__file__).parents[1]
REAL = pytest.mark.skipif(
    not (ROOT.parent / "shared" / "data" / "fx").is_dir(), reason="needs the real hourly bars of the shared folder"
)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the benchmarks importable, and keep them in this process."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import bench_honesty

    monkeypatch.setattr(bench_honesty, "PROCESSES", 1)


def walk(deviations: np.ndarray, horizons: tuple[int, ...] = (1, 4)) -> ForecastBatch:
    """Return the Gaussian law of a walk whose bars have these deviations."""
    scale = deviations[:, None] * np.sqrt(horizons)
    return ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family="walk",
        origin_utc=np.datetime64("2018-01-01T00", "us") + np.arange(deviations.size) * np.timedelta64(1, "h"),
        horizons_bars=horizons,
        quantiles=scale[:, :, None] * SCORES,
        scale=scale,
    )


@given(n=st.integers(20, 2000))
def test_the_band_holds_its_promise_and_no_share_more(n: int) -> None:
    from benchmarks.bench_honesty import binomial_band

    low, high = (round(n * edge) for edge in binomial_band(n))
    assert binom.cdf(high, n, 0.05) - binom.cdf(low - 1, n, 0.05) >= 0.99
    assert binom.cdf(high - 1, n, 0.05) < 0.995, "the upper edge is the first that will do"


@pytest.mark.parametrize("name", ["Gaussian walk", "GARCH-t walk", "white noise"])
def test_generated_returns_have_the_law_that_is_told_of_them(name: str) -> None:
    from benchmarks.generated_pairs import NOISE, SIZE, candles

    law, rng = NOISE[name], np.random.default_rng(3)
    returns, deviations = law.draw(rng, 20_000)
    shocks = returns / deviations
    assert shocks.var() == pytest.approx(1, abs=0.1)
    assert np.corrcoef(shocks[1:], shocks[:-1])[0, 1] == pytest.approx(0, abs=0.03)
    assert returns.std() == pytest.approx(SIZE, rel=0.2)
    bars = candles(returns, rng)
    require_bars(bars)
    np.testing.assert_allclose(np.diff(np.log(bars["close"].to_numpy())), returns[1:], atol=1e-12)


def test_futures_start_from_the_volatility_that_is_known_and_are_alike_up_and_down() -> None:
    from benchmarks.generated_pairs import NOISE, SIZE

    law = NOISE["GARCH-t walk"]
    futures = law.futures(np.random.default_rng(1), np.repeat([0.5, 2.0], 4000) * SIZE, (1, 24), 10)
    assert np.array_equal(futures[:, :5], -futures[:, 5:])
    quiet, wild = futures[:4000].std(axis=(0, 1)), futures[4000:].std(axis=(0, 1))
    lasting = 0.98 ** np.arange(24)  # of the distance from the long-run variance
    expected = [np.sqrt((1 + (v - 1) * lasting).sum()) * SIZE for v in (0.25, 4.0)]
    np.testing.assert_allclose([quiet[0], wild[0]], [0.5 * SIZE, 2 * SIZE], rtol=0.05)
    np.testing.assert_allclose([quiet[1], wild[1]], expected, rtol=0.05)


def test_truth_is_told_by_the_law_and_not_by_what_happened() -> None:
    from benchmarks.bench_honesty import expected_losses, mirrored
    from benchmarks.generated_pairs import SIZE, Law

    rng = np.random.default_rng(2)
    true = walk(np.full(300, SIZE))
    futures = Law().futures(rng, np.full(300, SIZE), (1, 4), 100)
    losses = expected_losses(true, futures)
    np.testing.assert_allclose(losses, SIZE * np.sqrt([1, 4]) / np.sqrt(np.pi), rtol=0.02)
    drifting = replace(true, quantiles=true.quantiles + 0.3 * SIZE)
    assert (expected_losses(drifting, futures) > losses).all()
    np.testing.assert_allclose(expected_losses(mirrored(drifting), futures), expected_losses(drifting, futures))


def test_a_mirror_turns_the_law_round_and_a_rescaled_pair_meets_in_the_walk() -> None:
    from benchmarks.bench_honesty import mirrored, rescaled

    rng = np.random.default_rng(4)
    base = walk(rng.uniform(1e-4, 1e-3, 400))
    assert np.allclose(mirrored(base).quantiles, base.quantiles, rtol=1e-12, atol=0), "a walk is its own mirror image"
    up, down = rescaled(base, rng)
    np.testing.assert_allclose(up.quantiles * down.quantiles, base.quantiles**2, rtol=1e-9)
    assert (up.quantiles[..., MEDIAN] == 0).all()
    factor = np.log(up.quantiles[:, 0, -1] / base.quantiles[:, 0, -1])
    assert 0.1 < factor.std() < 0.3


def test_best_power_is_that_of_a_forecaster_who_knows_the_law() -> None:
    from benchmarks.bench_honesty import best_power

    rng, n, r2 = np.random.default_rng(5), 2000, 0.01
    told, rest = rng.normal(size=(2, 500, n))
    returns = np.sqrt(r2) * told + np.sqrt(1 - r2) * rest
    knows = crps(np.sqrt(r2) * told[..., None] + np.sqrt(1 - r2) * SCORES, returns)
    gains = crps(np.broadcast_to(SCORES, (500, n, SCORES.size)), returns) - knows
    t = gains.mean(axis=1) / gains.std(axis=1) * np.sqrt(n)
    assert best_power(n, r2) == pytest.approx((t > 1.96).mean(), abs=0.06)
    assert best_power(10, r2) < 0.05 < 0.99 < best_power(20_000, r2)


def test_a_family_that_is_handed_the_future_is_said_to_have_skill() -> None:
    from benchmarks.bench_honesty import HORIZONS
    from benchmarks.generated_pairs import NOISE, candles
    from benchmarks.honest_pipeline import walk_forward, with_columns
    from forexgpt_core.evaluation.walk_forward import WalkForwardSettings
    from forexgpt_core.features.windows import usable

    rng = np.random.default_rng(6)
    returns, _ = NOISE["white noise"].draw(rng, 3000)
    leak = np.append(returns[1:], 0.0) + 2e-3 * rng.normal(size=3000)
    windows = usable(with_columns(candles(returns, rng), leak[:, None], HORIZONS), matured=True)
    settings = WalkForwardSettings()
    reference, y = walk_forward(windows, "random_walk", {}, settings)
    forecasts, _ = walk_forward(windows, "linear", {}, settings)
    assert ("linear", 1) in rank(score_family(forecasts, y, reference, seed=0)).shown_skill


def test_a_calibrator_is_handed_what_it_may_learn_from() -> None:
    from benchmarks.bench_walk import pipeline_coverage, split_conformal
    from benchmarks.honest_pipeline import Matured

    handed: list[tuple[Matured, Matured]] = []

    def spread(past: Matured, coming: Matured) -> ForecastBatch:
        handed.append((past, coming))
        return replace(coming.forecasts, quantiles=100 * coming.forecasts.quantiles)

    wide = pipeline_coverage(spread, seeds=[0, 1])
    assert (wide.by_seed == 1).all()
    assert wide.top_decile == 1
    assert wide.width > 100
    assert len(handed) == 8, "four folds of two series"
    for past, coming in handed:
        assert past.rows[-1] + 24 <= coming.rows[0], "every outcome of the calibration block is due by then"
        assert np.isfinite(coming.returns).all()
        assert len(coming.forecasts) == coming.rows.size
    assert 0.8 < pipeline_coverage(split_conformal, seeds=[0, 1]).marginal < 0.96


@pytest.mark.slow
def test_where_nothing_can_be_known_no_more_verdicts_claim_skill_than_chance_allows() -> None:
    from benchmarks.bench_honesty import binomial_band, judge_noise, share
    from benchmarks.generated_pairs import NOISE

    series = [judge_noise((law, seed), [("linear", {"caution": 0.0})]) for seed in range(20) for law in NOISE]
    _, most = binomial_band(len(series))
    assert share(bool(one.families.p_values) for one in series) > 0.9, "else the walk is compared with itself"
    assert share(one.families.false_claims for one in series) <= most
    for name in ("mirrors", "rescaled"):
        verdicts = [getattr(one, name) for one in series]
        assert share(one.claims for one in verdicts) <= most, name
        first = np.array([one.p_values[0] for one in verdicts if one.p_values])  # one a series, so independent
        assert kstest(first, "uniform").pvalue > 1e-3, name


@pytest.mark.slow
def test_a_signal_is_found_when_the_sample_is_large_enough_and_not_shown_when_it_is_not() -> None:
    from benchmarks.bench_honesty import power_curve

    small, large = power_curve((1000, 20_000), 12)
    assert small.found <= 1 / 12
    assert large.found == 1
    assert (small.origins, large.origins) == (390, 7990)
    assert small.theory < 0.2
    assert large.theory > 0.98


@pytest.mark.slow
@REAL
@pytest.mark.parametrize("symbol", ["EURUSD", "GBPUSD", "USDJPY"])
def test_hours_and_volatility_can_be_forecast_on_real_bars(symbol: str) -> None:
    from benchmarks.bench_walk import over_walk_250

    one, _, day = over_walk_250(symbol)
    assert (one.horizon_bars, day.horizon_bars) == (1, 24)
    assert one.t > 2
    assert one.skill > 0.01
    assert day.t < one.t / 2, "over a day hours even out"
    assert abs(day.skill) < 0.005


@pytest.mark.slow
@REAL
@pytest.mark.parametrize("symbol", ["EURUSD", "GBPUSD", "USDJPY"])
def test_the_direction_of_real_bars_is_not_worth_its_cost(symbol: str) -> None:
    from benchmarks.bench_walk import next_direction

    found = next_direction(symbol)
    assert found.calls > 5000
    assert found.share < 0.53, "more would be a leak"
    assert found.gain_pips < 0.8, "the round trip costs that much"
    assert found.share < found.plain_reversal + 2 * found.error, "no more than the sign of the last bar tells"


@pytest.mark.slow
def test_intervals_of_the_pipeline_cover_on_garch() -> None:
    from benchmarks.bench_walk import adaptive, pipeline_coverage, split_conformal, uncalibrated

    for calibrate in (split_conformal, adaptive):
        reached = pipeline_coverage(calibrate)
        assert reached.by_seed.size == 30
        assert reached.marginal == pytest.approx(0.9, abs=0.01)
        assert reached.top_decile >= 0.87
    bare = pipeline_coverage(uncalibrated, seeds=range(6))
    assert bare.marginal < pipeline_coverage(split_conformal, seeds=range(6)).marginal
