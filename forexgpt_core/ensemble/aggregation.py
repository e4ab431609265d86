"""Online aggregation of members: weights after each row that guarantee little regret, whatever the outcomes are.

Regret is the aggregate's summed loss less that of the best member, where the aggregate's loss is at most the weighted
mean of its members'. That holds for averaged quantiles and CRPS, which is convex in them. Both methods find their own
learning rates and do not care for the unit of the losses. The bounds are for losses that are known one row later; with
a delay the weights lag behind, and so does the aggregate.
"""

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.features.kernels import compiled

Floats = NDArray[np.float64]


def ewa_weights(losses: Floats, *, learning_rate: float | None = None) -> Floats:
    """Return exponentially weighted average weights after 0, 1 … n rows.

    The weight of a member falls with exp(-rate x its summed loss). With a fixed rate the regret is at most
    ln k / rate + rate / 8 x V, where V sums the squared ranges of the rows' losses over members. Without one the rate
    is sqrt(8 ln k / V so far), and the regret at most sqrt(V) (1.36 sqrt(ln k) + 3.42).

    Args:
        losses: (k, n, H), finite.
        learning_rate: above 0, per unit of loss; None to let it follow from the losses seen.

    Returns:
        (k, n + 1, H), 0 or more, summing to 1 over members.

    Source: Cesa-Bianchi and Lugosi (2006), theorem 2.2; de Rooij et al. (2014), JMLR 15, for rates that fall.
    """
    members = losses.shape[0]
    excess = _from_zero(losses - losses.min(axis=0))  # the rate may be large: only differences enter
    if learning_rate is None:
        spread = _from_zero(np.ptp(losses, axis=0)[None] ** 2)
        rate = np.sqrt(np.divide(8 * np.log(members), spread, out=np.zeros_like(spread), where=spread > 0))
    else:
        rate = np.full((1, 1, 1), learning_rate)
    exponent = -rate * excess
    raw = np.exp(exponent - exponent.max(axis=0))
    return np.asarray(raw / raw.sum(axis=0))


def _from_zero(x: Floats) -> Floats:
    return np.concatenate([np.zeros_like(x[:, :1]), np.cumsum(x, axis=1)], axis=1)


def boa_weights(losses: Floats) -> Floats:
    """Return Bernstein online aggregation weights after 0, 1 … n rows, each member with its own learning rate.

    With r the weighted mean loss less the member's, B the largest |r| so far and V a member's summed r squared, its
    rate is min(1 / 2B, sqrt(ln k / V)), and its weight is proportional to rate x exp(rate x sum of (r - rate r²)). A
    row larger than any before is first shrunk to the B before it, which costs B in all and makes the bound hold for
    losses of unknown range. The regret against a member is about 2.8 sqrt(V ln k), with *its* V: small against a
    member that the aggregate already resembles.

    Args:
        losses: (k, n, H), finite.

    Returns:
        (k, n + 1, H), 0 or more, summing to 1 over members.

    Source: Wintenberger (2017), Machine Learning 106, section 3; Mhammedi, Koolen and van Erven (2019), COLT, for the
        rows larger than any before. No package for Python has it.
    """
    return np.asarray(_boa(np.ascontiguousarray(losses, dtype=np.float64)))


@compiled
def _boa(losses: Floats) -> Floats:
    members, rows, horizons = losses.shape
    log_members = np.log(members)
    out = np.full((members, rows + 1, horizons), 1.0 / members)
    if members == 1:
        return out
    for h in range(horizons):
        largest = 0.0
        squares, score = np.zeros(members), np.zeros(members)
        rate, weight = np.ones(members), np.full(members, 1.0 / members)
        for row in range(rows):
            regret = (weight * losses[:, row, h]).sum() - losses[:, row, h]
            reach = max(largest, np.abs(regret).max())
            if reach > 0.0:
                regret = regret * (largest / reach)
                score += regret - rate * regret**2
                squares += regret**2
                largest = reach
                for member in range(members):
                    rate[member] = 0.5 / largest
                    if squares[member] * 0.25 > log_members * largest**2:
                        rate[member] = np.sqrt(log_members / squares[member])
                exponent = rate * score
                weight = rate * np.exp(exponent - exponent.max())
                weight = weight / weight.sum()
            out[:, row + 1, h] = weight
    return out
