"""Does a model beat the reference when something known at the origin holds: in a regime, or after it was better?

The Diebold-Mariano test asks about the mean over all rows. A model that wins in quiet markets and loses as much in
wild ones passes it as equal; this test sees it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, fdtrc, stdtr

from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.dependence import centred_long_run_variance, moves_slowly, slow_inflation
from forexgpt_core.evaluation.report_card import holm
from forexgpt_core.evaluation.significance import ConstantLossDifference, loss_difference

Floats = NDArray[np.float64]

LEAST_ROWS = 30
_DEPENDENT = 1e-8  # of the largest singular value of instruments of unit length
_SINGULAR = 1e-12  # of the largest eigenvalue of a covariance


class ConstantInstrument(BadInput):
    """An instrument has one value in every row, so nothing can be conditional on it."""


class DependentInstruments(BadInput):
    """An instrument is a combination of the constant and the others, so their covariance cannot be inverted."""


class TooFewInRegime(BadInput):
    """A regime has too few rows to say anything about it."""

    def __init__(self, regime: str, have: int, need: int) -> None:
        super().__init__(regime, have, need)
        self.regime, self.have, self.need = regime, have, need

    def __str__(self) -> str:
        return f"regime '{self.regime}' needs {self.need} rows, found {self.have}; join it with another or score longer"


class OneRegime(BadInput):
    """Every row belongs to the same regime, so a test by regime would be Diebold and Mariano's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GiacominiWhite:
    """Outcome of the test of equal conditional predictive ability.

    Attributes:
        statistic: n mean(z)' S^-1 mean(z), large where the difference can be foretold.
        p_value: by Hotelling's F, which knows that S was estimated.
        p_chi_squared: of the same statistic with as many degrees of freedom as instruments, its limit for long series.
        instruments: names, the constant first; of a comparison by regime, the regimes in which the losses differ.
        bandwidth_rows: last lag in S; 0 for one-step forecasts.
        rows: that were tested.
    """

    statistic: float
    p_value: float
    p_chi_squared: float
    instruments: tuple[str, ...]
    bandwidth_rows: int
    rows: int


def giacomini_white(
    loss_model: Floats,
    loss_reference: Floats,
    horizon_bars: int,
    *,
    instruments: Floats | None = None,
    names: Sequence[str] = (),
    lag_rows: int | None = None,
    bandwidth_rows: int | None = None,
) -> GiacominiWhite:
    """Test that the loss difference has mean 0 whatever the instruments, known at the origin, say.

    z is the difference times a constant 1 and each instrument; S is its Newey-West covariance about the mean. Under the
    hypothesis one-step differences are martingale differences, so horizon 1 takes bandwidth 0; longer ones take
    max(2 h, n^(1/3)), as `diebold_mariano` does and for its reason. The statistic is judged as Hotelling's T^2 with
    1.5 n / (bandwidth + 1) degrees of freedom (n - 1 at bandwidth 0).

    Args:
        loss_model: (n,) in time order.
        loss_reference: (n,) of the same origins.
        horizon_bars: how many consecutive rows share part of a label, 1 or more.
        instruments: (n, q) known at each origin, such as regime dummies; None for none beyond the constant and the lag.
        names: of the q columns; by default "instrument 1" onwards.
        lag_rows: adds the difference of this many rows earlier as an instrument; at least horizon_bars, because a
            younger one is not known at the origin. The first lag_rows rows then serve as instruments only.
        bandwidth_rows: last lag of S, at least horizon_bars - 1; None chooses as above.

    Returns:
        Equal losses in every row give statistic 0 and p 1.

    Raises:
        UnpairedLosses: as in `diebold_mariano`.
        ConstantLossDifference: the difference is the same in every row, and not 0.
        ConstantInstrument, DependentInstruments: an instrument adds nothing to the constant, or to the others.
        BadInput: the lag or bandwidth is too short, or instruments do not fit the rows, are not finite or too many.

    Source: Giacomini and White (2006), Econometrica 74(6), theorems 1 and 3; Lazarus, Lewis, Stock and Watson (2018),
    JBES 36(4), on F in place of chi-squared.
    """
    d = loss_difference(loss_model, loss_reference, horizon_bars)
    columns, labels = _columns(d, instruments, names, lag_rows, horizon_bars)
    start = lag_rows or 0
    return _test(d[start:], _centred(columns[start:], labels), labels, horizon_bars, bandwidth_rows)


def _test(
    d: Floats,
    columns: Floats,
    names: tuple[str, ...],
    horizon_bars: int,
    wanted: int | None = None,
    visits: Sequence[Floats] = (),
) -> GiacominiWhite:
    """Return the test that d has mean 0 whatever the columns say; they need no constant among them.

    Args:
        visits: of dummies, the rows of d that each holds, whose slow moves widen S; none leaves S as it is.
    """
    n, q = columns.shape
    bandwidth = _bandwidth(n, horizon_bars, wanted)
    freedom = n - 1 if bandwidth == 0 else min(n - 1, 1.5 * n / (bandwidth + 1))
    if freedom < q:
        raise BadInput(
            f"{n} rows at bandwidth {bandwidth} are worth {freedom:.1f} observations, too few for {q} instruments;"
            " drop some or score longer"
        )
    if not d.any():
        return _outcome(0.0, freedom, names, bandwidth, n)
    if float(np.ptp(d)) <= 1e-12 * float(np.abs(d).max()):
        raise ConstantLossDifference(float(d.mean()), n)
    z = _independent(columns, names) * d[:, None]
    mean, covariance = z.mean(axis=0), _long_run_covariance(z, bandwidth)
    spectrum = np.linalg.eigvalsh(covariance)
    if spectrum[0] <= _SINGULAR * spectrum[-1]:
        raise DependentInstruments(
            f"the difference times {', '.join(names)} has no invertible covariance in {n} rows; drop an instrument"
        )
    if visits:
        slow = moves_slowly(d)
        wider = np.sqrt([slow_inflation(rows, bandwidth, known_slow=slow) for rows in visits])
        covariance = covariance * np.outer(wider, wider)
    return _outcome(n * float(mean @ np.linalg.solve(covariance, mean)), freedom, names, bandwidth, n)


def _outcome(statistic: float, freedom: float, names: tuple[str, ...], bandwidth: int, rows: int) -> GiacominiWhite:
    q = len(names)
    scaled = statistic * (freedom - q + 1) / (freedom * q)
    return GiacominiWhite(
        statistic=statistic,
        p_value=float(fdtrc(q, freedom - q + 1, scaled)),
        p_chi_squared=float(chdtrc(q, statistic)),
        instruments=names,
        bandwidth_rows=bandwidth,
        rows=rows,
    )


def _columns(
    d: Floats, instruments: Floats | None, names: Sequence[str], lag_rows: int | None, horizon_bars: int
) -> tuple[Floats, tuple[str, ...]]:
    given = np.empty((d.size, 0)) if instruments is None else np.asarray(instruments, dtype=np.float64)
    if given.ndim != 2 or given.shape[0] != d.size:
        raise BadInput(f"instruments must be (n, q) beside {d.size} losses, were {given.shape}")
    labels = tuple(names) or tuple(f"instrument {number + 1}" for number in range(given.shape[1]))
    if len(labels) != given.shape[1] or len(set(labels)) != len(labels):
        raise BadInput(f"{given.shape[1]} instruments need as many different names, got {list(labels)}")
    if not np.isfinite(given).all():
        bad = labels[int(np.flatnonzero(~np.isfinite(given).all(axis=0))[0])]
        raise BadInput(f"instrument '{bad}' is not finite in every row; drop those rows from losses and instruments")
    columns, labels = np.column_stack([np.ones(d.size), given]), ("constant", *labels)
    if lag_rows is None:
        return columns, labels
    if not horizon_bars <= lag_rows < d.size // 2:
        raise BadInput(
            f"lag_rows must be at least horizon_bars = {horizon_bars}, or the difference is not known at the origin,"
            f" and less than half of {d.size} rows; was {lag_rows}"
        )
    lagged = np.concatenate([np.zeros(lag_rows), d[:-lag_rows]])
    return np.column_stack([columns, lagged]), (*labels, f"difference {lag_rows} rows ago")


def _centred(columns: Floats, names: tuple[str, ...]) -> Floats:
    """Return the constant and the instruments about their mean, which changes the arithmetic and not the statistic."""
    given = columns[:, 1:]
    still = np.flatnonzero(np.ptp(given, axis=0) <= 1e-12 * np.abs(given).max(axis=0))
    if still.size:
        name = names[1 + int(still[0])]
        raise ConstantInstrument(f"instrument '{name}' has one value in all {len(columns)} rows; drop it")
    return np.column_stack([columns[:, 0], given - given.mean(axis=0)])


def _independent(columns: Floats, names: tuple[str, ...]) -> Floats:
    """Return columns of mean square 1, none of them a combination of the others."""
    unit = columns / np.linalg.norm(columns, axis=0)
    singular = np.linalg.svd(unit, compute_uv=False)
    if singular[-1] <= _DEPENDENT * singular[0]:
        raise DependentInstruments(
            f"one of {', '.join(names)} is a combination of the others; of regime dummies leave one out"
        )
    return np.asarray(unit * math.sqrt(len(columns)))


def _bandwidth(rows: int, horizon_bars: int, wanted: int | None) -> int:
    if wanted is None:
        return 0 if horizon_bars == 1 else min(max(2 * horizon_bars, math.ceil(rows ** (1 / 3))), rows - 1)
    if not horizon_bars - 1 <= wanted < rows:
        raise BadInput(f"bandwidth_rows must lie between horizon_bars - 1 = {horizon_bars - 1} and {rows - 1}")
    return wanted


def _long_run_covariance(z: Floats, bandwidth_rows: int) -> Floats:
    """Return the Bartlett covariance of a vector series, as `dependence.long_run_variance` does for one series."""
    n, window = z.shape[0], bandwidth_rows + 1
    running = np.concatenate([np.zeros((1, z.shape[1])), np.cumsum(z - z.mean(axis=0), axis=0)])
    ends = np.arange(1, n + window)
    sums = running[np.minimum(ends, n)] - running[np.maximum(ends - window, 0)]
    return np.asarray(sums.T @ sums / (n * window))


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeDifference:
    """How model and reference compare inside one regime.

    Attributes:
        rows: origins in the regime.
        mean_difference: loss of the model minus that of the reference; negative where the model is better.
        statistic: Diebold and Mariano's, of these rows.
        p_value: two-sided.
        holm_p: the same after Holm's correction over all regimes.
    """

    regime: str
    rows: int
    mean_difference: float
    statistic: float
    p_value: float
    holm_p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeComparison:
    """The test of equal losses in every regime at once, and each regime by itself, in the order of their names."""

    test: GiacominiWhite
    regimes: tuple[RegimeDifference, ...]


def compare_by_regime(
    loss_model: Floats, loss_reference: Floats, regimes: Sequence[str] | NDArray[np.generic], horizon_bars: int
) -> RegimeComparison:
    """Return whether two forecasters differ in any regime, and in which.

    The variance inside a regime counts neighbours in time only: rows of other regimes hold 0, so two visits to a regime
    that lie further apart than the bandwidth are independent. Where the losses of a regime move slowly, it is as wide
    as that of `diebold_mariano`, in both tests.

    Args:
        loss_model, loss_reference, horizon_bars: see `giacomini_white`.
        regimes: (n,) name of the regime that was known to hold at each origin.

    Raises:
        OneRegime: all rows have the same regime.
        TooFewInRegime: a regime has fewer than 30 rows, or not more than two horizons of them.
        UnpairedLosses, ConstantLossDifference: as in `diebold_mariano`.
        BadInput: there is not one regime per row.
    """
    d = loss_difference(loss_model, loss_reference, horizon_bars)
    labels = np.asarray(regimes)
    if labels.shape != d.shape:
        raise BadInput(f"regimes must name one regime for each of {d.size} rows, have shape {labels.shape}")
    names, which = np.unique(labels.astype(str), return_inverse=True)
    if names.size < 2:
        raise OneRegime(f"all {d.size} rows belong to regime '{names[0]}'; use diebold_mariano for them")
    need = max(LEAST_ROWS, 2 * horizon_bars + 1)
    counts = np.bincount(which)
    if counts.min() < need:
        raise TooFewInRegime(str(names[counts.argmin()]), int(counts.min()), need)
    masks = [which == number for number in range(names.size)]
    alive = [number for number, here in enumerate(masks) if d[here].any()]  # elsewhere both lose the same: no evidence
    dummies = np.column_stack([masks[number] for number in alive or [0]]).astype(np.float64)
    visits = [d[masks[number]] for number in alive]
    test = _test(d, dummies, tuple(str(names[number]) for number in alive or [0]), horizon_bars, visits=visits)
    inside = [_inside(d, here, horizon_bars) for here in masks]
    adjusted = holm([p for _, _, p in inside])
    return RegimeComparison(
        test=test,
        regimes=tuple(
            RegimeDifference(
                regime=str(name), rows=int(rows), mean_difference=mean, statistic=statistic, p_value=p, holm_p=holm_p
            )
            for name, rows, (mean, statistic, p), holm_p in zip(names, counts, inside, adjusted, strict=True)
        ),
    )


def _inside(d: Floats, here: NDArray[np.bool_], horizon_bars: int) -> tuple[float, float, float]:
    """Return mean, statistic and two-sided p of the rows of one regime."""
    n, h = int(here.sum()), horizon_bars
    rows = d[here]
    if not rows.any():
        return 0.0, 0.0, 1.0
    mean = float(rows.mean())
    if float(np.ptp(rows)) <= 1e-12 * float(np.abs(rows).max()):
        raise ConstantLossDifference(mean, n)
    bandwidth = min(max(2 * h, math.ceil(n ** (1 / 3))), n - 1)
    long_run = centred_long_run_variance(np.where(here, d - mean, 0.0), bandwidth) * d.size / n
    long_run *= slow_inflation(rows, bandwidth, known_slow=moves_slowly(d))
    harvey = math.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    statistic = harvey * mean / math.sqrt(long_run / n)
    return mean, statistic, float(2 * stdtr(min(n - 1, 1.5 * n / (bandwidth + 1)), -abs(statistic)))
