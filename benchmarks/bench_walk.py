"""Is the random walk a reference worth beating: on real hourly bars, and how well its intervals cover on GARCH."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.bench_honesty import in_processes
from benchmarks.generated_pairs import NOISE, candles
from benchmarks.honest_pipeline import Calibrate, Matured, uncalibrated_folds, walk_forward, with_columns
from benchmarks.measurement import Measurement, alone
from forexgpt_core.calibration.adaptive import AdaptiveCalibrator
from forexgpt_core.calibration.conformal import ConformalCalibrator
from forexgpt_core.candles.cleaning import clean
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.forecasts import INTERVALS, MEDIAN, ForecastBatch
from forexgpt_core.evaluation.references import SECOND_REFERENCES
from forexgpt_core.evaluation.report_card import score_family
from forexgpt_core.evaluation.scores import crps
from forexgpt_core.evaluation.significance import diebold_mariano
from forexgpt_core.evaluation.walk_forward import WalkForwardSettings
from forexgpt_core.features.build import build_features
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.windows import market_arrays, usable

NAMES = ("random_walk_vs_250", "garch_coverage")
PAIRS, HORIZONS = ("EURUSD", "GBPUSD", "USDJPY"), (1, 4, 24)
SEEDS, BARS, GARCH = 30, 4000, "GARCH-t walk"
DATA = Path(__file__).parents[2] / "shared" / "data" / "fx"

_SETTINGS = WalkForwardSettings()
_POWER = 1.645 + 0.842  # standard errors that a one-sided test at 5 % finds with probability 80 %

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Advantage:
    """How far one forecaster is ahead of another at one horizon, out of sample.

    Attributes:
        skill: 1 - CRPS / CRPS of the other.
        t: Diebold-Mariano, positive where it is ahead.
    """

    horizon_bars: int
    skill: float
    t: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """How often a family calls the sign of the next return right, out of sample.

    Attributes:
        share: of the calls; NaN without one.
        error: its standard error.
        gain_pips: mean return in the direction of the call, before any cost.
        plain_reversal: how often the sign of one return is the opposite of the one before, with no model at all.
    """

    calls: int
    share: float
    error: float
    gain_pips: float
    plain_reversal: float

    @property
    def least_found(self) -> float:
        """Return the share that so many calls find with probability 80 %."""
        return 0.5 + _POWER * self.error


def measure(only: set[str] | None) -> list[Measurement]:
    """Return the measurements named in `only`, None for all; without real bars the first is absent."""
    measures: dict[str, Callable[[], Measurement]] = {"garch_coverage": garch_coverage}
    if all(file(symbol).exists() for symbol in PAIRS):
        measures = {"random_walk_vs_250": random_walk_vs_250, **measures}
    return [measure_() for name, measure_ in measures.items() if only is None or name in only]


def file(symbol: str) -> Path:
    """Return where the real hourly bars of a pair are, if they are."""
    return DATA / f"{symbol}_H1.parquet"


def random_walk_vs_250() -> Measurement:
    """Return by how much the reference beats the 250-bar walk at 1 bar: the smallest t of three pairs."""
    ahead = {symbol: over_walk_250(symbol) for symbol in PAIRS}
    calls = {symbol: next_direction(symbol) for symbol in PAIRS}
    told = "; ".join(
        f"{symbol} "
        + ", ".join(f"{one.horizon_bars} bars {one.skill:+.2%} (t {one.t:.1f})" for one in by_horizon)
        + f", next direction {called.share:.1%} of {called.calls:,} calls (80 % power from {called.least_found:.1%}),"
        f" {called.gain_pips:+.2f} pips a call before costs, plain reversal {called.plain_reversal:.1%}"
        for (symbol, by_horizon), called in zip(ahead.items(), calls.values())
    )
    least = min(by_horizon[0].t for by_horizon in ahead.values())
    note = f"CRPS of the walk with hours and EWMA over the 250-bar walk, {_SETTINGS.folds} folds refitted: {told}"
    return alone("random_walk_vs_250", least, unit="t", at_least=2, note=note)


def over_walk_250(symbol: str) -> list[Advantage]:
    """Return how far the reference is ahead of the 250-bar walk on real bars, per horizon of HORIZONS."""
    bars = _bars(symbol)
    windows = usable(with_columns(bars, np.empty((bars.height, 0)), HORIZONS), matured=True)
    ours, y = walk_forward(windows, "random_walk", {}, _SETTINGS)
    plain, _ = walk_forward(windows, "random_walk", SECOND_REFERENCES["walk_250"], _SETTINGS)
    ahead = []
    for column, horizon in enumerate(HORIZONS):
        loss, other = (crps(one.quantiles[:, column], y[:, column]) for one in (ours, plain))
        test = diebold_mariano(loss, other, horizon)
        ahead.append(Advantage(horizon_bars=horizon, skill=float(1 - loss.mean() / other.mean()), t=-test.statistic))
    return ahead


def next_direction(symbol: str) -> Direction:
    """Return how well the linear family, with every gain on `valid` believed, calls the next hour's direction."""
    bars = _bars(symbol)
    features = build_features(bars, Timeframe.H1, Recipe.usual())
    windows = usable(market_arrays(symbol, Timeframe.H1, bars, features, (1,)), matured=True)
    forecasts, y = walk_forward(windows, "linear", {"caution": 0.0}, _SETTINGS)
    reference, _ = walk_forward(windows, "random_walk", {}, _SETTINGS)
    (score,) = score_family(forecasts, y, reference, seed=0)
    median = forecasts.quantiles[:, 0, MEDIAN]
    pip = 1e-4 if not symbol.endswith("JPY") else 1e-2
    price = float(bars["close"].mean())  # type: ignore[arg-type]  # bars are numbers
    moves = np.sign(np.diff(np.log(bars["close"].to_numpy())))
    both = (moves[1:] != 0) & (moves[:-1] != 0)
    return Direction(
        calls=score.direction_calls,
        share=score.direction,
        error=score.direction_se,
        gain_pips=float((np.sign(median) * y[:, 0])[median != 0].mean()) * price / pip,
        plain_reversal=float((moves[1:] != moves[:-1])[both].mean()),
    )


def _bars(symbol: str) -> pl.DataFrame:
    return clean(pl.read_parquet(file(symbol)), Timeframe.H1).bars


@dataclass(frozen=True, slots=True, kw_only=True)
class GarchCoverage:
    """Coverage of the 90 % interval of the next bar on GARCH(1, 1)-t series.

    Attributes:
        by_seed: (seeds,) of all test rows of a series.
        top_decile: of the rows whose true volatility is in the top tenth of their series, over all series.
        width: mean width of the interval over the true standard deviation.
    """

    by_seed: Floats
    top_decile: float
    width: float

    @property
    def marginal(self) -> float:
        """Return the coverage over all series, which are equally long."""
        return float(self.by_seed.mean())

    @property
    def marginal_error(self) -> float:
        """Return its standard error, from series to series."""
        return float(self.by_seed.std(ddof=1) / np.sqrt(self.by_seed.size))


def garch_coverage() -> Measurement:
    """Return the marginal coverage that the pipeline reaches with the calibrators of walk-forward and ensemble."""
    reached, split = pipeline_coverage(adaptive), pipeline_coverage(split_conformal)
    bare = pipeline_coverage(uncalibrated)
    note = (
        f"GARCH(1,1)-t, {SEEDS} seeds of {BARS:,} bars, {_SETTINGS.folds} folds refitted, 90 % interval of the next"
        f" bar: adaptive, as the ensemble, {reached.marginal:.4f} (s.e. {reached.marginal_error:.4f}, lowest series"
        f" {reached.by_seed.min():.3f}), top decile of true volatility {reached.top_decile:.3f}, width"
        f" {reached.width:.2f} true standard deviations; split conformal, as the families, {split.marginal:.4f} and"
        f" {split.top_decile:.3f}, width {split.width:.2f}; without a calibrator {bare.marginal:.4f} and"
        f" {bare.top_decile:.3f}, width {bare.width:.2f}"
    )
    met = abs(reached.marginal - 0.9) <= 0.01 and reached.top_decile >= 0.87
    return Measurement(
        name="garch_coverage",
        ours=reached.marginal,
        unit="share",
        goal="0.89 <= ours <= 0.91, top volatility decile >= 0.87",
        met=met,
        note=note,
    )


def pipeline_coverage(
    calibrate: Calibrate, *, seeds: Sequence[int] = range(SEEDS), processes: int = 2
) -> GarchCoverage:
    """Return what the random walk's intervals cover on GARCH series, fitted and calibrated fold by fold.

    Args:
        calibrate: takes the calibration and the test block of one fold, both uncalibrated and with their outcomes, and
            returns the calibrated forecasts of the test block. A calibrator that learns along the way may use the
            outcome of a test row once it is due, `horizon` rows later, and no sooner. A function of a module, so that
            a process can be handed it.
        seeds: one series each.
    """
    found = in_processes(partial(_series_coverage, calibrate), list(seeds))
    covered = np.stack([inside for inside, _, _ in found])
    top = np.stack([decile for _, decile, _ in found])
    return GarchCoverage(
        by_seed=covered.mean(axis=1),
        top_decile=float(covered[top].mean()),
        width=float(np.mean([width for _, _, width in found])),
    )


def split_conformal(past: Matured, coming: Matured) -> ForecastBatch:
    """Calibrate as a walk-forward does: by the exact ranks of the calibration block."""
    return ConformalCalibrator.fit(past.forecasts, past.returns).apply(coming.forecasts)


def adaptive(past: Matured, coming: Matured) -> ForecastBatch:
    """Calibrate as the ensemble does: on from the calibration block, by every outcome once it is due."""
    started = AdaptiveCalibrator.start(past.forecasts, past.returns, past.rows)
    return started.follow(coming.forecasts, coming.returns, coming.rows)[0]


def uncalibrated(past: Matured, coming: Matured) -> ForecastBatch:
    """Leave the forecasts as the model gave them."""
    return coming.forecasts


def _series_coverage(calibrate: Calibrate, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_], float]:
    """Return per test row whether the interval held the next return, and whether volatility was high; and the width."""
    rng = np.random.default_rng([seed, BARS])
    returns, deviations = NOISE[GARCH].draw(rng, BARS)
    bars = candles(returns, rng)
    windows = usable(with_columns(bars, np.empty((BARS, 0)), HORIZONS), matured=True)
    low, high = INTERVALS[90]
    inside, true, width = [], [], []
    for past, coming in uncalibrated_folds(windows, "random_walk", {}, _SETTINGS):
        quantiles = calibrate(past, coming).quantiles[:, 0]
        outcome, deviation = coming.returns[:, 0], deviations[coming.rows + 1]
        inside.append((quantiles[:, low] <= outcome) & (outcome <= quantiles[:, high]))
        true.append(deviation)
        width.append((quantiles[:, high] - quantiles[:, low]) / deviation)
    volatility = np.concatenate(true)
    top = volatility >= np.quantile(volatility, 0.9)
    return np.concatenate(inside), top, float(np.concatenate(width).mean())
