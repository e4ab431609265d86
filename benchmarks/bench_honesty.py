"""Does a report card find nothing where there is nothing, and what is there once the sample is large enough?"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from benchmarks.generated_pairs import NOISE, SIZE, candles
from benchmarks.honest_pipeline import Options, walk_forward, with_columns, with_indicators
from benchmarks.measurement import Measurement, alone
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.evaluation.report_card import SIGNIFICANT, HorizonScore, rank, score_family
from forexgpt_core.evaluation.scores import crps
from forexgpt_core.evaluation.walk_forward import WalkForwardSettings
from forexgpt_core.features.windows import usable

NAMES = ("false_discovery", "power_curve")
SERIES, BARS, HORIZONS = 80, 2000, (1, 4, 24)  # series per law
SIZES, SEEDS, R2 = (1000, 2500, 5000, 10_000, 20_000, 40_000), 20, 0.01
PROCESSES = 2

_TWO_FOLDS, _DRAWS = WalkForwardSettings(folds=2), 100
_OUTSPOKEN: Sequence[tuple[str, Options]] = (  # any gain on `valid` is believed, so few fits equal the walk
    ("linear", {"caution": 0.0}),
    ("boosting", {"caution": 0.0, "rounds": 20}),
    ("forest", {"caution": 0.0, "trees": 20}),
)
_JITTER = 0.2  # standard deviation of the log factor by which a rescaled walk is stretched
_USUAL, _SLOW = 0.9, 0.98  # its autocorrelation: a memory of 10 bars, and of 50
_BURN_IN = 500

Floats = NDArray[np.float64]
Job, Outcome = TypeVar("Job"), TypeVar("Outcome")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the report card said of one series.

    Attributes:
        claims: whether it shows skill of anything.
        false_claims: whether it shows skill of something that in truth is no better.
        p_values: one-sided, of comparisons whose forecasts differ.
        p_values_false: those of them where the family is in truth no better.
    """

    claims: bool
    false_claims: bool
    p_values: tuple[float, ...]
    p_values_false: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The verdicts on one series without a direction to forecast.

    Attributes:
        families: against the random walk, as on any report card.
        mirrors: each family against its own mirror image, the law of the opposite return. Up and down are alike in
            these series, so both lose the same on average, given every fit, and every claim is false.
        rescaled: the walk stretched by a random, slowly varying factor, against itself shrunk by the same factor. The
            factor is as likely to be its own inverse, so here too every claim is false.
        slowly_rescaled: the same with a factor that remembers 50 bars, longer than the test looks back.
    """

    law: str
    families: Verdict
    mirrors: Verdict
    rescaled: Verdict
    slowly_rescaled: Verdict


def measure(only: set[str] | None) -> list[Measurement]:
    """Return the measurements named in `only`, None for all."""
    measures: dict[str, Callable[[], Measurement]] = {"false_discovery": false_discovery, "power_curve": power}
    return [measure_() for name, measure_ in measures.items() if only is None or name in only]


def false_discovery() -> Measurement:
    """Return the share of noise series whose report card claims skill, refits included; see `Series`."""
    series = in_processes(judge_noise, [(law, seed) for seed in range(SERIES) for law in NOISE])
    low, high = binomial_band(len(series))
    shares = {name: share(getattr(one, name).claims for one in series) for name in ("families", "mirrors", "rescaled")}
    by_law = {law: share(one.families.claims for one in series if one.law == law) for law in NOISE}
    note = (
        f"{len(series)} series of {BARS:,} bars, 2 folds refitted, horizons {HORIZONS}; 99 % band of 5 %: {low:.1%} to"
        f" {high:.1%}. Families without caution, which differ from the walk in"
        f" {share(bool(one.families.p_values) for one in series):.0%} of series, are said to have skill in"
        f" {shares['families']:.1%} ({', '.join(f'{law} {claimed:.1%}' for law, claimed in by_law.items())}), and in"
        f" {share(one.families.false_claims for one in series):.1%} have none under the law that made the series: on"
        f" GARCH the spread can be learnt. Single comparisons at p < 5 %: {_single(series, 'families')}, of those in"
        f" truth no better {share(p < SIGNIFICANT for one in series for p in one.families.p_values_false):.1%}, since"
        " what is fitted to noise is worse than the walk. Where nothing can be better or worse: mirror images"
        f" {shares['mirrors']:.1%} of verdicts, {_single(series, 'mirrors')} of single comparisons; rescaled walks"
        f" {shares['rescaled']:.1%} and {_single(series, 'rescaled')}. Beyond what the test can see: walks rescaled by"
        f" a factor that remembers 50 bars {share(one.slowly_rescaled.claims for one in series):.1%} and"
        f" {_single(series, 'slowly_rescaled')}"
    )
    return Measurement(
        name="false_discovery",
        ours=shares["families"],
        unit="share",
        goal=f"{low:.3f} <= ours <= {high:.3f}, mirrors and rescaled walks as well",
        met=all(low <= one <= high for one in shares.values()),
        note=note,
    )


def _single(series: Sequence[Series], name: str) -> str:
    return f"{share(p < SIGNIFICANT for one in series for p in getattr(one, name).p_values):.1%}"


def judge_noise(job: tuple[str, int], families: Sequence[tuple[str, Options]] | None = None) -> Series:
    """Return the verdicts on one series.

    Args:
        job: name of a law in NOISE, and a seed.
        families: None for linear and, in turn, boosting or forest.
    """
    name, seed = job
    law, rng = NOISE[name], np.random.default_rng([seed, list(NOISE).index(name)])
    returns, deviations = law.draw(rng, BARS)
    arrays = with_indicators(candles(returns, rng), HORIZONS)
    windows = usable(arrays, matured=True)
    reference, y = walk_forward(windows, "random_walk", {}, _TWO_FOLDS, seed=seed)
    following = deviations[np.searchsorted(arrays.ts_utc, reference.origin_utc) + 1]
    futures = law.futures(rng, following, HORIZONS, _DRAWS)
    scores: list[HorizonScore] = []
    mirrors: list[HorizonScore] = []
    better: set[tuple[str, int]] = set()
    for family, options in families or (_OUTSPOKEN[0], _OUTSPOKEN[1 + seed % 2]):
        forecasts, _ = walk_forward(windows, family, options, _TWO_FOLDS, seed=seed)
        scores += score_family(forecasts, y, reference, seed=seed)
        mirrors += score_family(forecasts, y, mirrored(forecasts), seed=seed)
        gained = expected_losses(reference, futures) - expected_losses(forecasts, futures)
        better |= {(family, h) for h, gain in zip(HORIZONS, gained) if gain > 0}
    pairs = [rescaled(reference, rng, persistence) for persistence in (_USUAL, _SLOW)]
    usual, slow = (_verdict(score_family(up, y, down, seed=seed), set()) for up, down in pairs)
    return Series(
        law=name,
        families=_verdict(scores, better),
        mirrors=_verdict(mirrors, set()),
        rescaled=usual,
        slowly_rescaled=slow,
    )


def _verdict(scores: Sequence[HorizonScore], better: set[tuple[str, int]]) -> Verdict:
    shown = rank(scores).shown_skill
    differ = [score for score in scores if not score.equals_reference]
    return Verdict(
        claims=bool(shown),
        false_claims=any(key not in better for key in shown),
        p_values=tuple(score.dm_p for score in differ),
        p_values_false=tuple(score.dm_p for score in differ if (score.family, score.horizon_bars) not in better),
    )


def mirrored(forecasts: ForecastBatch) -> ForecastBatch:
    """Return the forecasts of the opposite return."""
    return replace(forecasts, quantiles=-forecasts.quantiles[..., ::-1])


def rescaled(
    walk: ForecastBatch, rng: np.random.Generator, persistence: float = _USUAL
) -> tuple[ForecastBatch, ForecastBatch]:
    """Return a walk stretched by a slowly varying factor that knows nothing, and shrunk by the same."""
    from scipy.signal import lfilter

    shocks = _JITTER * np.sqrt(1 - persistence**2) * rng.normal(size=len(walk) + _BURN_IN)
    log_factor = lfilter([1.0], [1.0, -persistence], shocks)[_BURN_IN:, None, None]
    up, down = (np.exp(sign * log_factor) for sign in (1, -1))
    return replace(walk, quantiles=walk.quantiles * up), replace(walk, quantiles=walk.quantiles * down)


def expected_losses(forecasts: ForecastBatch, futures: Floats) -> Floats:
    """Return the mean CRPS (H,) under the law that made the series; futures (n, draws, H)."""
    n, draws, horizons = futures.shape
    laws = np.broadcast_to(forecasts.quantiles[:, None], (n, draws, horizons, forecasts.quantiles.shape[-1]))
    return np.asarray(crps(laws, futures).mean(axis=(0, 1)))


def binomial_band(n: int, *, chance: float = SIGNIFICANT, level: float = 0.99) -> tuple[float, float]:
    """Return the shares between which n independent events of this chance fall, with probability `level` or more."""
    tail = (1 - level) / 2
    return float(binom.ppf(tail, n, chance)) / n, float(binom.ppf(1 - tail, n, chance)) / n


def share(of: Iterable[bool]) -> float:
    """Return how many are true; NaN of none."""
    values = list(of)
    return sum(values) / len(values) if values else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerPoint:
    """How often a planted signal was shown at one sample size.

    Attributes:
        origins: out-of-sample forecasts that a verdict rests on.
        found: share of seeds whose verdict was "shown", at the horizon of the signal.
        theory: of a forecaster who knows the law and is not corrected for other comparisons; see `best_power`.
    """

    bars: int
    origins: int
    found: float
    theory: float


def power() -> Measurement:
    """Return how often a signal of true R2 1 % is shown in the largest sample, and the whole curve."""
    curve = power_curve(SIZES, SEEDS)
    told = ", ".join(f"{p.bars:,} bars {p.found:.0%} ({p.theory:.0%})" for p in curve)
    note = (
        f"one input explains {R2:.0%} of the variance of the next return; linear family as shipped, {SEEDS} seeds a"
        f" size; verdicts `shown` (in brackets: of a forecaster who knows the law): {told}"
    )
    return alone("power_curve", curve[-1].found, unit="share", at_least=0.95, note=note)


def power_curve(sizes: Sequence[int], seeds: int) -> list[PowerPoint]:
    """Return the power of the whole pipeline, smallest sample first."""
    jobs = [(bars, seed) for seed in range(seeds) for bars in sorted(sizes, reverse=True)]
    outcomes = list(zip(jobs, in_processes(find_signal, jobs), strict=True))
    points = []
    for bars in sorted(sizes):
        found = [shown for (size, _), (shown, _) in outcomes if size == bars]
        origins = next(n for (size, _), (_, n) in outcomes if size == bars)
        points.append(PowerPoint(bars=bars, origins=origins, found=share(found), theory=best_power(origins, R2)))
    return points


def find_signal(job: tuple[int, int], *, r2: float = R2) -> tuple[bool, int]:
    """Return whether the verdict shows a planted signal, and on how many origins it rests.

    Args:
        job: number of bars, and a seed.
        r2: share of the next return's variance that the first of five inputs explains.
    """
    bars, seed = job
    rng = np.random.default_rng([seed, bars])
    inputs = rng.normal(size=(bars, 5))
    told = np.concatenate([[0.0], inputs[:-1, 0]])
    returns = SIZE * (np.sqrt(r2) * told + np.sqrt(1 - r2) * rng.normal(size=bars))
    windows = usable(with_columns(candles(returns, rng), inputs, HORIZONS), matured=True)
    settings = WalkForwardSettings()
    reference, y = walk_forward(windows, "random_walk", {}, settings, seed=seed)
    forecasts, _ = walk_forward(windows, "linear", {}, settings, seed=seed)
    shown = rank(score_family(forecasts, y, reference, seed=seed)).shown_skill
    return ("linear", 1) in shown, len(reference)


def best_power(origins: int, r2: float) -> float:
    """Return the power of a 2.5 % one-sided test on the CRPS of a forecaster who knows a Gaussian law.

    He gains 1 - sqrt(1 - R2) of the walk's 1 / sqrt(pi). To first order in R the gain of one origin varies by
    R x (2 U - 1), U uniform, so by R / sqrt(3).
    """
    gain = (1 - np.sqrt(1 - r2)) / np.sqrt(np.pi)
    return float(ndtr(np.sqrt(origins) * gain / np.sqrt(r2 / 3) - ndtri(0.975)))


def in_processes(work: Callable[[Job], Outcome], jobs: Sequence[Job]) -> list[Outcome]:
    """Return the outcomes of some jobs, in order, from PROCESSES processes of one thread each; 1 starts none."""
    if PROCESSES == 1:
        return [work(job) for job in jobs]
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        return list(pool.map(work, jobs, chunksize=4))


def _one_thread() -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
