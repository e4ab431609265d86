"""Is the best of many tried strategies more than the luckiest one?

Every Sharpe ratio here is per period of the returns it comes from and never annualised, and kurtosis is raw: 3 for
normal returns. A formula that takes an annualised ratio or an excess kurtosis looks right and gives other numbers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from forexgpt_core.errors import BadInput

Floats = NDArray[np.float64]

_EULER = 0.5772156649015329
_LEAST_RETURNS = 3


class ConstantReturns(BadInput):
    """Returns do not vary, so a Sharpe ratio is undefined."""


class ImpossibleKurtosis(BadInput):
    """A kurtosis is below 1 + skew^2, which no distribution has: it was probably given in excess of 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharpeEvidence:
    """A Sharpe ratio and what its standard error depends on.

    Attributes:
        sharpe: mean over standard deviation of the returns, per period.
        rows: how many returns, 3 or more.
        skew: third standardised moment.
        kurtosis: fourth standardised moment, 3 for normal returns.
    """

    sharpe: float
    rows: int
    skew: float = 0.0
    kurtosis: float = 3.0

    def __post_init__(self) -> None:
        if self.rows < _LEAST_RETURNS:
            raise BadInput(f"a Sharpe ratio needs at least {_LEAST_RETURNS} returns, had {self.rows}")
        if not all(math.isfinite(value) for value in (self.sharpe, self.skew, self.kurtosis)):
            raise BadInput(
                f"sharpe, skew and kurtosis must be finite, were {self.sharpe}, {self.skew}, {self.kurtosis}"
            )
        if self.kurtosis < 1 + self.skew**2 - 1e-9 * self.kurtosis**2:
            raise ImpossibleKurtosis(
                f"kurtosis {self.kurtosis:.4g} with skew {self.skew:.4g} is below 1 + skew^2; give the raw kurtosis,"
                " which is 3 for normal returns, and not the excess over it"
            )

    @property
    def standard_error(self) -> float:
        """Return the standard error of the ratio; independent returns of any distribution with four moments.

        Source: Mertens (2002); Bailey and Lopez de Prado (2012), Journal of Risk 15(2).
        """
        return self._spread / math.sqrt(self.rows - 1)

    @property
    def _spread(self) -> float:
        return math.sqrt(max(1 - self.skew * self.sharpe + (self.kurtosis - 1) / 4 * self.sharpe**2, 0.0))


def sharpe_evidence(returns: Floats) -> SharpeEvidence:
    """Return the Sharpe ratio of returns with its moments.

    Args:
        returns: (n,) simple returns, one per period, at least 3.

    Raises:
        ConstantReturns: they do not vary.
        BadInput: they are too few or not finite.
    """
    x = np.asarray(returns, dtype=np.float64)
    if x.ndim != 1 or x.size < _LEAST_RETURNS:
        raise BadInput(f"a Sharpe ratio needs a series of at least {_LEAST_RETURNS} returns, had shape {x.shape}")
    if not np.isfinite(x).all():
        raise BadInput(f"{int((~np.isfinite(x)).sum())} of {x.size} returns are not finite")
    d = x - x.mean()
    variance = float(np.mean(d**2))
    if float(np.ptp(x)) <= 1e-12 * float(np.abs(x).max()):
        raise ConstantReturns(f"all {x.size} returns are {x[0]:.6g}; a strategy that never trades has no Sharpe ratio")
    return SharpeEvidence(
        sharpe=float(x.mean() / x.std(ddof=1)),
        rows=x.size,
        skew=float(np.mean(d**3)) / variance**1.5,
        kurtosis=float(np.mean(d**4)) / variance**2,
    )


def probabilistic_sharpe(evidence: SharpeEvidence, *, benchmark: float = 0.0) -> float:
    """Return the probability that the true Sharpe ratio exceeds a benchmark, both per period.

    Source: Bailey and Lopez de Prado (2012), Journal of Risk 15(2).
    """
    if evidence.standard_error == 0:
        return float(evidence.sharpe > benchmark)
    return float(ndtr((evidence.sharpe - benchmark) / evidence.standard_error))


def minimum_track_record(evidence: SharpeEvidence, *, benchmark: float = 0.0, confidence: float = 0.95) -> float:
    """Return how many periods the same ratio would have to last to exceed the benchmark with that confidence.

    Infinite where the ratio does not exceed the benchmark: then no length is enough.

    Source: Bailey and Lopez de Prado (2012), Journal of Risk 15(2).
    """
    if not 0.5 < confidence < 1:
        raise BadInput(f"confidence must lie in (0.5, 1), was {confidence}")
    if evidence.sharpe <= benchmark:
        return math.inf
    return 1 + (evidence._spread * float(ndtri(confidence)) / (evidence.sharpe - benchmark)) ** 2


def expected_maximum_sharpe(trials: int, sharpe_std: float) -> float:
    """Return what the best of some worthless trials is expected to show, in the unit of `sharpe_std`.

    The trials are taken for independent, so trials that trade alike make it too high, which is the safe side.

    Args:
        trials: how many were tried, 1 or more.
        sharpe_std: standard deviation of the Sharpe ratios over trials.

    >>> round(expected_maximum_sharpe(100, 1.0), 2)
    2.53

    Source: Bailey and Lopez de Prado (2014), Journal of Portfolio Management 40(5).
    """
    if trials < 1:
        raise BadInput(f"trials must be 1 or more, was {trials}; count everything that was ever tried")
    if not (math.isfinite(sharpe_std) and sharpe_std >= 0):
        raise BadInput(f"sharpe_std must be finite and 0 or more, was {sharpe_std}")
    if trials == 1:
        return 0.0
    quantiles = ndtri([1 - 1 / trials, 1 - 1 / (trials * math.e)])
    return sharpe_std * float((1 - _EULER) * quantiles[0] + _EULER * quantiles[1])


def deflated_sharpe(evidence: SharpeEvidence, *, trials: int, sharpe_std: float) -> float:
    """Return the probability that the true Sharpe ratio exceeds what the best of worthless trials would show.

    Cautious by construction: the best of N independent worthless trials exceeds .95 less often than 5 % of the time
    (measured over 250 days: 2 % for N = 2, 0.1 % for 10 and for 100), because the benchmark is already the mean of the
    best. `best_of_trials_p` is the test whose size is 5 % (measured: 4.6 to 5.4 %).

    Args:
        evidence: of the selected strategy, per period.
        trials: how many were tried in all.
        sharpe_std: standard deviation of the trials' Sharpe ratios, per the same period.

    Source: Bailey and Lopez de Prado (2014), Journal of Portfolio Management 40(5).
    """
    return probabilistic_sharpe(evidence, benchmark=expected_maximum_sharpe(trials, sharpe_std))


def best_of_trials_p(evidence: SharpeEvidence, *, trials: int) -> float:
    """Return the chance that the best of independent worthless trials shows at least this Sharpe ratio.

    Source: Sidak (1967), JASA 62(318).
    """
    if trials < 1:
        raise BadInput(f"trials must be 1 or more, was {trials}; count everything that was ever tried")
    worse = 1 - probabilistic_sharpe(evidence)
    return 1.0 if worse >= 1 else -math.expm1(trials * math.log1p(-worse))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRegistry:
    """Every configuration that was ever tried on a pair and timeframe: what the best of them has to be deflated by.

    Attributes:
        sharpes: in-sample Sharpe ratio per period by configuration, None where it was undefined.
        unrecorded: trials known by their number only.
    """

    sharpes: Mapping[str, float | None]
    unrecorded: int = 0

    @property
    def count(self) -> int:
        """Return how many trials there were, those without a Sharpe ratio included."""
        return len(self.sharpes) + self.unrecorded

    @property
    def sharpe_std(self) -> float:
        """Return the standard deviation of the Sharpe ratios that are defined, NaN for fewer than two."""
        known = [sharpe for sharpe in self.sharpes.values() if sharpe is not None]
        return float(np.std(known, ddof=1)) if len(known) > 1 else math.nan

    def including(self, sharpes: Mapping[str, float | None]) -> "TrialRegistry":
        """Return the registry with further trials; one tried before counts once, with its newer figure."""
        return TrialRegistry(sharpes={**self.sharpes, **sharpes}, unrecorded=self.unrecorded)
