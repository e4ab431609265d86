"""Weights of ensemble members from their matured errors: what was not known at an origin cannot weigh there."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.ensemble.pooling import MODES
from forexgpt_core.ensemble.regimes import REGIMES, RegimeSettings
from forexgpt_core.errors import BadInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Times = NDArray[np.datetime64]

METHODS = ("equal", "inverse_crps", "ewa", "boa")
_FLOOR = 1e-6  # a loss this small against the worst member's is as good as none; keeps 1 / loss finite


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSettings:
    """How past errors become weights, and weights a forecast.

    Attributes:
        method: one of METHODS.
        mode: one of `pooling.MODES`, for the deployed forecast; evidence holds all of them.
        halflife_bars: age at which an error counts half; "inverse_crps" alone forgets.
        shrink_rows: matured errors at which weights have moved half-way from equal to what the method says.
        learning_rate: of "ewa", per reference scale of loss; None lets it follow from the losses.
        least_weight: share that every member keeps, so that none (the reference least of all) drops out for good.
        uncertainty_exponent: weights are divided by a member's relative spread to this power; 0 leaves them alone.
        regimes: where set, each regime has its own weights, from errors made in it.
        regime_shrink_rows: matured errors in a regime at which its weights have moved half-way from those of all rows.
    """

    method: str = "inverse_crps"
    mode: str = "weighted"
    halflife_bars: float = 500.0
    shrink_rows: float = 200.0
    learning_rate: float | None = None
    least_weight: float = 0.01
    uncertainty_exponent: float = 0.0
    regimes: RegimeSettings | None = None
    regime_shrink_rows: float = 200.0

    def __post_init__(self) -> None:
        for name, known in (("method", METHODS), ("mode", MODES)):
            if getattr(self, name) not in known:
                raise BadInput(f"{name} must be one of {', '.join(known)}, was '{getattr(self, name)}'")
        for name in ("halflife_bars", "shrink_rows", "regime_shrink_rows"):
            if not getattr(self, name) > 0:
                raise BadInput(f"{name} must be above 0, was {getattr(self, name)}")
        if self.learning_rate is not None and not 0 < self.learning_rate < np.inf:
            raise BadInput(f"learning_rate must be above 0, was {self.learning_rate}")
        if not 0 <= self.least_weight < 1:
            raise BadInput(f"least_weight must lie in [0, 1), was {self.least_weight}")
        if not 0 <= self.uncertainty_exponent <= 4:
            raise BadInput(f"uncertainty_exponent must lie in [0, 4], was {self.uncertainty_exponent}")


def matured_rows(rows: Ints, horizons_bars: tuple[int, ...]) -> Ints:
    """Return how many of the first origins have matured AT each origin: those j with row_j + h <= row_i.

    Args:
        rows: (n,) bar row of each origin, strictly increasing. Where bars are missing this is exact; the number of
            the origin itself may stand in, as an origin is at least one bar after the one before it.

    Returns:
        (n, H).

    Raises:
        BadInput: rows do not increase, or a horizon is below 1 bar.
    """
    if min(horizons_bars) < 1:
        raise BadInput(f"horizons must be 1 bar or more, were {horizons_bars}")
    if (np.diff(rows) <= 0).any():
        raise BadInput("origins must stand on strictly increasing bar rows")
    return np.stack([np.searchsorted(rows + h, rows, side="right") for h in horizons_bars], axis=1)


def matured_by_time(known_utc: Times, label_known_utc: Times) -> Ints:
    """Return the same by the clock: origins j whose label is known when the forecast of i is made; shape (n, H).

    Args:
        known_utc: (n,) when each origin's forecast is made, never going back.
        label_known_utc: (n, H) when each label is known, never going back along the origins.

    Raises:
        BadInput: the shapes do not fit, or times go back.
    """
    known, label = known_utc.astype("datetime64[us]"), label_known_utc.astype("datetime64[us]")
    if known.ndim != 1 or label.ndim != 2 or label.shape[0] != known.size:
        raise BadInput(f"times have shapes {known.shape} and {label.shape}, expected (n,) and (n, H)")
    if (np.diff(known) < np.timedelta64(0)).any() or (np.diff(label, axis=0) < np.timedelta64(0)).any():
        raise BadInput("known_utc and label_known_utc must not go back in time")
    return np.stack([np.searchsorted(label[:, h], known, side="right") for h in range(label.shape[1])], axis=1)


def matured_weights(losses: Floats, matured: Ints, settings: WeightSettings) -> Floats:
    """Return weights usable AT each origin, from the first `matured` rows of losses and no others.

    A row where any member's loss is NaN counts for none, so members are compared on the same outcomes.

    Args:
        losses: (k, n, H) losses of k members, origins in time order, 0 or more; NaN where there is none. Losses in
            reference scales let quiet and wild hours count alike.
        matured: (m, H) rows of losses known at each of m origins.

    Returns:
        (k, m, H), 0 or more, summing to 1 over members.

    Raises:
        BadInput: shapes do not fit, or a loss is negative or infinite.
    """
    clean = _require_losses(losses)
    return _kept(_of_all_rows(clean, _require_matured(matured, clean), settings), settings)


def final_weights(losses: Floats, settings: WeightSettings) -> Floats:
    """Return (k, H) weights from every row of `losses`, all taken as matured; NaN rows count for none."""
    return np.asarray(matured_weights(losses, _all_rows(losses), settings)[:, 0])


def regime_weights(losses: Floats, matured: Ints, labels: Ints, settings: WeightSettings) -> Floats:
    """Return weights usable at each origin were it in each regime, from matured errors made in that regime.

    Shrunk towards the weights of all rows by c / (c + regime_shrink_rows) for c matured rows of the regime: a regime
    never met has the weights of all.

    Args:
        losses, matured: as in `matured_weights`.
        labels: (n,) place in REGIMES at each origin of `losses`, -1 where unknown.

    Returns:
        (R, k, m, H).

    Raises:
        BadInput: as there, or the labels do not fit.
    """
    clean = _require_losses(losses)
    if labels.shape != clean.shape[1:2]:
        raise BadInput(f"regime labels have shape {labels.shape}, expected {clean.shape[1:2]}")
    counts = _require_matured(matured, clean)
    overall = _of_all_rows(clean, counts, settings)
    in_regime = [np.where((labels == place)[:, None], clean, np.nan) for place in range(len(REGIMES))]
    of_each = [_shrunk(one, counts, settings, overall, settings.regime_shrink_rows) for one in in_regime]
    return np.stack([_kept(one, settings) for one in of_each])


def final_regime_weights(losses: Floats, labels: Ints, settings: WeightSettings) -> Floats:
    """Return (R, k, H) weights of each regime from every row of `losses`."""
    return np.asarray(regime_weights(losses, _all_rows(losses), labels, settings)[:, :, 0])


def _of_all_rows(losses: Floats, matured: Ints, settings: WeightSettings) -> Floats:
    equal = np.full((losses.shape[0], 1, 1), 1 / losses.shape[0])
    return _shrunk(losses, matured, settings, equal, settings.shrink_rows)


def _shrunk(losses: Floats, matured: Ints, settings: WeightSettings, prior: Floats, shrink_rows: float) -> Floats:
    """Return prior weights moved towards those of the method, the further the more rows have matured."""
    judged = np.logical_not(np.isnan(losses).any(axis=0))
    raw, count = _METHODS[settings.method](np.where(judged, losses, 0.0), judged[None].astype(np.float64), settings)
    raw_then, count_then = _at(raw, matured), _at(count, matured)
    trust = count_then / (count_then + shrink_rows)
    return np.asarray(trust * raw_then + (1 - trust) * prior)


def _kept(weights: Floats, settings: WeightSettings) -> Floats:
    members = weights.shape[0]
    least = min(settings.least_weight, 1 / members)
    kept = (1 - members * least) * weights + least
    return np.asarray(kept / kept.sum(axis=0))


def _equal(losses: Floats, judged: Floats, settings: WeightSettings) -> tuple[Floats, Floats]:
    members, rows, horizons = losses.shape
    return np.full((members, rows + 1, horizons), 1 / members), _summed(judged, 1.0)


def _inverse(losses: Floats, judged: Floats, settings: WeightSettings) -> tuple[Floats, Floats]:
    decay = 0.5 ** (1 / settings.halflife_bars)
    sums, counts = _summed(losses, decay), _summed(judged, decay)
    mean = np.divide(sums, counts, out=np.ones_like(sums), where=counts > 0)
    worst = mean.max(axis=0)
    inverse = 1 / np.maximum(mean, np.where(worst > 0, _FLOOR * worst, 1.0))
    return np.asarray(inverse / inverse.sum(axis=0)), counts


def _ewa(losses: Floats, judged: Floats, settings: WeightSettings) -> tuple[Floats, Floats]:
    from forexgpt_core.ensemble.aggregation import ewa_weights

    return ewa_weights(losses, learning_rate=settings.learning_rate), _summed(judged, 1.0)


def _boa(losses: Floats, judged: Floats, settings: WeightSettings) -> tuple[Floats, Floats]:
    from forexgpt_core.ensemble.aggregation import boa_weights  # numba, which most processes do without

    return boa_weights(losses), _summed(judged, 1.0)


_METHODS: dict[str, Callable[[Floats, Floats, WeightSettings], tuple[Floats, Floats]]] = dict(
    zip(METHODS, (_equal, _inverse, _ewa, _boa))
)


def _summed(x: Floats, decay: float) -> Floats:
    """Return the discounted sums after 0, 1 … n rows; shape (k, n + 1, H)."""
    from scipy.signal import lfilter

    running = np.asarray(lfilter([1.0], [1.0, -decay], x, axis=1))
    return np.concatenate([np.zeros_like(running[:, :1]), running], axis=1)


def _at(after: Floats, matured: Ints) -> Floats:
    return np.take_along_axis(after, matured[None], axis=1)


def _all_rows(losses: Floats) -> Ints:
    return np.full((1, losses.shape[2] if losses.ndim == 3 else 1), losses.shape[1] if losses.ndim > 1 else 0)


def _require_losses(losses: Floats) -> Floats:
    values = np.asarray(losses, dtype=np.float64)
    if values.ndim != 3 or not values.shape[0]:
        raise BadInput(f"losses have shape {values.shape}, expected (members, origins, horizons)")
    if (values < 0).any() or np.isinf(values).any():
        raise BadInput("losses must be finite and 0 or more, or NaN where there is none")
    return values


def _require_matured(matured: Ints, losses: Floats) -> Ints:
    _, rows, horizons = losses.shape
    if matured.ndim != 2 or matured.shape[1] != horizons:
        raise BadInput(f"matured counts have shape {matured.shape}, expected (origins, {horizons})")
    if matured.size and (matured.min() < 0 or matured.max() > rows):
        raise BadInput(f"matured counts must lie in [0, {rows}]")
    return matured
