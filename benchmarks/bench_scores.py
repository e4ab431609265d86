"""Scores of 10,000 origins of 100 sampled paths at 4 horizons, against scoringrules on the same samples."""

from collections.abc import Callable

import numpy as np
import scoringrules

from benchmarks.measurement import Measurement, alternating_seconds
from forexgpt_core.evaluation.sample_scores import energy_score, fair_crps

NAMES = ("crps", "energy_score")
ORIGINS, SAMPLES, HORIZONS = 10_000, 100, 4
REPEATS = 5
MOST_SECONDS = 1.0
FAIR = {"estimator": "fair", "backend": "numba"}  # its default backend takes several times as long

Floats = np.ndarray
Score = Callable[[], Floats]


def measure(only: set[str] | None) -> list[Measurement]:
    """Return the measurements named in `only`, None for all."""
    wanted = [name for name in NAMES if only is None or name in only]
    if not wanted:
        return []
    paths, y = samples()
    return [_timed(name, *scorers(name, paths, y)) for name in wanted]


def samples() -> tuple[Floats, Floats]:
    """Return (origins, samples, horizons) paths with fat tails, and one (origins, horizons) outcome of the same law."""
    steps = 1e-3 * np.random.default_rng(7).standard_t(4, (ORIGINS, SAMPLES + 1, HORIZONS))
    together = steps.cumsum(axis=2)
    return together[:, 1:], together[:, 0]


def scorers(name: str, paths: Floats, y: Floats) -> tuple[Score, Score]:
    """Return ours and the peer's, both fair, the peer compiled; samples of a horizon lie side by side for both CRPS."""
    if name == "energy_score":
        return lambda: energy_score(paths, y), lambda: scoringrules.es_ensemble(y, paths, **FAIR)
    each = np.ascontiguousarray(np.moveaxis(paths, 1, 2))
    return lambda: fair_crps(each, y), lambda: scoringrules.crps_ensemble(y, each, **FAIR)


def _timed(name: str, ours: Score, peer: Score) -> Measurement:
    apart = float(np.abs(ours() - peer()).max() / np.abs(peer()).mean())
    if not apart < 1e-9:
        raise ValueError(f"{name}: ours and the peer's differ by {apart:.2g} of the mean score")
    took, peer_took = alternating_seconds(ours, peer, REPEATS)
    return Measurement(
        name=name,
        ours=took,
        peer=peer_took,
        ratio=peer_took / took,
        unit="s",
        goal=f"ours <= {MOST_SECONDS:g}",
        met=took <= MOST_SECONDS,
        note=(
            f"fair estimator, {ORIGINS:,} origins x {SAMPLES} samples x {HORIZONS} horizons, median of {REPEATS};"
            f" peer scoringrules {scoringrules.__version__} on numba; scores agree to {apart:.1e} of their mean"
        ),
    )
