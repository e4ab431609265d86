"""Weights of ensemble members from their matured errors: what was not known at an origin cannot weigh there."""

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.errors import BadInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Times = NDArray[np.datetime64]

_FLOOR = 1e-6  # a loss this small against the worst member's is as good as none; keeps 1 / loss finite


def matured_inverse_crps_weights(
    losses: Floats, *, horizons_bars: tuple[int, ...], halflife_bars: float, shrink_rows: float
) -> Floats:
    """Return weights usable AT each origin: at origin i and horizon h only losses of origins j with j + h <= i enter.

    One row per bar is assumed; where rows are missing a row reaches further in time, so j + h <= i stays safe. Each
    member's discounted mean loss E gives 1 / E, normalised, and shrunk towards equal weights by m / (m + shrink_rows)
    for m discounted matured rows. A row where any member's loss is NaN counts for none, so members are compared on the
    same outcomes.

    Args:
        losses: (k, n, H) losses of k members, origins in time order, 0 or more; NaN where there is none.
        horizons_bars: H horizons in rows.
        halflife_bars: rows after which a loss counts half.
        shrink_rows: matured rows at which weights are half-way from equal to inverse loss.

    Returns:
        (k, n, H), 0 or more, summing to 1 over members.

    Raises:
        BadInput: shapes do not fit, a loss is negative or infinite, or a setting is not positive.
    """
    clean = _require_losses(losses, horizons_bars, halflife_bars, shrink_rows)
    rows = np.arange(clean.shape[1])[:, None]
    matured = np.maximum(rows - np.array(horizons_bars, dtype=np.int64) + 1, 0)
    return _weights(clean, matured, halflife_bars, shrink_rows)


def matured_weights_by_time(
    losses: Floats,
    *,
    known_utc: Times,
    label_known_utc: Times,
    horizons_bars: tuple[int, ...],
    halflife_bars: float,
    shrink_rows: float,
) -> Floats:
    """Return the same with maturity by the clock: a loss enters at origins known no earlier than its own label.

    Args:
        known_utc: (n,) when each origin's forecast is made, increasing.
        label_known_utc: (n, H) when each label is known, increasing along the origins.
        losses, horizons_bars, halflife_bars, shrink_rows: as in `matured_inverse_crps_weights`.

    Raises:
        BadInput: as there, or times do not fit the losses or go back.
    """
    clean = _require_losses(losses, horizons_bars, halflife_bars, shrink_rows)
    known, label = known_utc.astype("datetime64[us]"), label_known_utc.astype("datetime64[us]")
    if known.shape != clean.shape[1:2] or label.shape != clean.shape[1:]:
        raise BadInput(f"times have shapes {known.shape} and {label.shape}, losses {clean.shape} need (n,) and (n, H)")
    if (np.diff(known) < np.timedelta64(0)).any() or (np.diff(label, axis=0) < np.timedelta64(0)).any():
        raise BadInput("known_utc and label_known_utc must not go back in time")
    columns = [np.searchsorted(label[:, column], known, side="right") for column in range(label.shape[1])]
    return _weights(clean, np.stack(columns, axis=1), halflife_bars, shrink_rows)


def final_weights(
    losses: Floats, *, horizons_bars: tuple[int, ...], halflife_bars: float, shrink_rows: float
) -> Floats:
    """Return (k, H) weights from every row of `losses`, all taken as matured; NaN rows count for none."""
    clean = _require_losses(losses, horizons_bars, halflife_bars, shrink_rows)
    n = clean.shape[1]
    return np.asarray(_weights(clean, np.full((1, clean.shape[2]), n), halflife_bars, shrink_rows)[:, 0])


def _require_losses(losses: Floats, horizons_bars: tuple[int, ...], halflife_bars: float, shrink_rows: float) -> Floats:
    values = np.asarray(losses, dtype=np.float64)
    if values.ndim != 3 or not values.shape[0] or values.shape[2] != len(horizons_bars):
        raise BadInput(f"losses have shape {values.shape}, expected (members, origins, {len(horizons_bars)} horizons)")
    if min(horizons_bars) < 1:
        raise BadInput(f"horizons must be 1 bar or more, were {horizons_bars}")
    if not (halflife_bars > 0 and shrink_rows > 0):
        raise BadInput(f"halflife_bars and shrink_rows must be above 0, were {halflife_bars} and {shrink_rows}")
    if (values < 0).any() or np.isinf(values).any():
        raise BadInput("losses must be finite and 0 or more, or NaN where there is none")
    return values


def _weights(losses: Floats, matured: Ints, halflife_bars: float, shrink_rows: float) -> Floats:
    """Return (k, m, H) weights from the first `matured` (m, H) rows of each horizon."""
    judged: NDArray[np.bool_] = np.logical_not(np.isnan(losses).any(axis=0))
    decay = 0.5 ** (1 / halflife_bars)
    sums = _at(_discounted(np.where(judged, losses, 0.0), decay), matured)
    counts = _at(_discounted(judged[None].astype(np.float64), decay), matured)
    mean = np.divide(sums, counts, out=np.ones_like(sums), where=counts > 0)
    worst = mean.max(axis=0)
    inverse = 1 / np.maximum(mean, np.where(worst > 0, _FLOOR * worst, 1.0))
    raw = inverse / inverse.sum(axis=0)
    trust = counts / (counts + shrink_rows)
    weights = trust * raw + (1 - trust) / losses.shape[0]
    return np.asarray(weights / weights.sum(axis=0))


def _discounted(x: Floats, decay: float) -> Floats:
    from scipy.signal import lfilter

    return np.asarray(lfilter([1.0], [1.0, -decay], x, axis=1))


def _at(running: Floats, matured: Ints) -> Floats:
    """Return the running sums after `matured` rows, 0 before the first."""
    started = np.concatenate([np.zeros_like(running[:, :1]), running], axis=1)
    return np.take_along_axis(started, matured[None], axis=1)
