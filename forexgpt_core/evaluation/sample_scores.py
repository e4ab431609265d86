"""Scores of forecasts given as samples: the fair CRPS of each horizon and the fair energy score of joint paths.

Fair means 1 / (m (m - 1)) over distinct pairs: the expected score is that of the law the samples come from, whatever
m. The usual 1 / m^2 adds half the mean distance over m, which is 20 % of the CRPS of a right forecast at m = 5.
"""

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.pairing import BadSamples, require_paired, require_samples

Floats = NDArray[np.float64]

_BLOCK_BYTES = 1 << 24  # sorted copies of this size stay near the processor


class NoPaths(BadInput):
    """A sample score was asked of a family that gave quantiles alone."""


def fair_crps(samples: Floats, y: Floats | float) -> Floats:
    """Return mean |X - y| - sum over pairs |Xi - Xj| / (m (m - 1)), by sorting: O(m log m) per forecast.

    Args:
        samples: (..., m) in any order, m >= 2, finite.
        y: (...) outcomes in the same unit; NaN (not known yet) gives NaN.

    Returns:
        (...) in the unit of y. Below 0 is possible: the estimate is unbiased, so it scatters about the true score.

    Raises:
        BadSamples: fewer than 2 samples, one not finite, or outcomes of another shape.

    Source: Ferro (2014), QJRMS 140(683); sorted form as in Jordan, Krüger and Lerch (2019), JSS 90(12).
    """
    x, outcomes = require_samples(samples, y, least=2)
    m = x.shape[-1]
    flat, flat_y = x.reshape(-1, m), outcomes.reshape(-1)
    weights = (2 * np.arange(1, m + 1) - m - 1) / (m * (m - 1))  # of the sorted samples in the mean half distance
    scores = np.empty(flat_y.size)
    rows = max(_BLOCK_BYTES // (8 * m), 1)
    for start in range(0, flat_y.size, rows):
        part = slice(start, start + rows)
        deviations = np.sort(flat[part] - flat_y[part, None], axis=-1)  # about y, so a price level cancels nothing
        scores[part] = np.abs(deviations).mean(axis=-1) - deviations @ weights
    return scores.reshape(outcomes.shape)


def path_crps(forecasts: ForecastBatch, returns: Floats) -> Floats:
    """Return the fair sample CRPS of every forecast from its paths; (n, H) in log return.

    Raises:
        NoPaths: the family gave no paths.
        BadSamples: as in `fair_crps`.
        UnpairedReturns: returns do not pair.
    """
    y = require_paired(forecasts, returns)
    return fair_crps(np.moveaxis(_paths(forecasts), 1, 2), y)


def energy_score(paths: Floats, y: Floats, *, scale: Floats | None = None) -> Floats:
    """Return the fair energy score of joint paths: mean |X - y| minus half the mean |X - X'| over distinct pairs.

    It judges the dependence between horizons too, which no score of single horizons sees. Compiled: memory O(n), time
    O(n m^2 H).

    Args:
        paths: (n, m, H), m >= 2, finite.
        y: (n, H) outcomes; a NaN gives NaN.
        scale: (n, H) units to divide both by, above 0; without it the longest horizons weigh most, as they vary most.

    Returns:
        (n,), in the unit of y or in that of `scale`. At H = 1 it is `fair_crps`.

    Raises:
        BadSamples: fewer than 2 paths, one not finite, shapes that do not fit, or a scale that is not above 0.

    Source: Gneiting and Raftery (2007), JASA 102(477), section 4.3.
    """
    x, outcomes = np.asarray(paths, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 3 or outcomes.shape != (x.shape[0], x.shape[2]):
        raise BadSamples(f"paths (n, m, H) and outcomes (n, H) are needed, were {x.shape} and {outcomes.shape}")
    if x.shape[1] < 2:
        raise BadSamples(f"{x.shape[1]} samples are too few, at least 2 are needed")
    if not np.isfinite(x).all():
        raise BadSamples(f"{int((~np.isfinite(x)).sum())} of {x.size} samples are not finite")
    if scale is not None:
        if scale.shape != outcomes.shape or not (np.isfinite(scale) & (scale > 0)).all():
            raise BadSamples(f"scale must be {outcomes.shape} numbers above 0, was {scale.shape}")
        x, outcomes = x / scale[:, None, :], outcomes / scale
    from forexgpt_core.evaluation.kernels import fair_energy

    return fair_energy(np.ascontiguousarray(x), np.ascontiguousarray(outcomes))


def path_energy(forecasts: ForecastBatch, returns: Floats) -> Floats:
    """Return the fair energy score of every origin's paths in units of the reference scale; (n,).

    Raises:
        NoPaths: the family gave no paths.
        BadSamples: as in `energy_score`.
        UnpairedReturns: returns do not pair.
    """
    y = require_paired(forecasts, returns)
    return energy_score(_paths(forecasts), y, scale=forecasts.scale)


def _paths(forecasts: ForecastBatch) -> Floats:
    if forecasts.paths is None:
        raise NoPaths(f"{forecasts.family} gave no paths; ask it for some (n_paths) or score its quantiles")
    expected = (len(forecasts), len(forecasts.horizons_bars))
    if forecasts.paths.ndim != 3 or (forecasts.paths.shape[0], forecasts.paths.shape[2]) != expected:
        raise BadSamples(
            f"paths of {forecasts.family} have shape {forecasts.paths.shape}, expected (n, paths, H) ="
            f" ({expected[0]}, paths, {expected[1]})"
        )
    return forecasts.paths
