"""Compiled sums over moving windows whose result does not depend on where history starts.

A running sum (add the newest, subtract the oldest) carries the rounding error of every bar since the beginning, so the
same window gives another value when history starts elsewhere, and one undefined value spoils all later ones. Libraries
(TA-Lib, pandas, polars) work like that. Here every window is the tail of one block of `bars` values and the head of the
next (van Herk 1992): two additions per bar whatever the length, nothing older than the window is ever touched, and an
undefined value spoils just the windows that hold it. Sums of squares and products are taken around the first value of
the block, so a large price level cancels nothing.

Every function takes float64 arrays, oldest first, and returns (n,) float64, NaN until there are `bars` values.
"""

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_Kernel = TypeVar("_Kernel", bound=Callable[..., object])


def compiled(kernel: _Kernel) -> _Kernel:
    """Compile a kernel, and keep the machine code beside its file where that can be written."""
    made: _Kernel
    try:
        made = njit(cache=True, nogil=True, error_model="numpy")(kernel)
    except RuntimeError:  # neither this folder nor a home can be written: compiled anew in every process
        made = njit(nogil=True, error_model="numpy")(kernel)
    return made


def part(kernel: _Kernel) -> _Kernel:
    """Compile a function that only kernels of the same file call; it is kept on disk with them."""
    made: _Kernel = njit(nogil=True, error_model="numpy", forceinline=True)(kernel)
    return made


@compiled
def rolling_sum(x: Floats, bars: int) -> Floats:
    """Return the sum of the newest `bars` values."""
    n = x.size
    out = np.full(n, np.nan)
    tail = np.zeros(bars + 1)  # tail[r]: sum of the block before, from its place r on
    for start in range(0, n, bars):
        head = 0.0
        for r in range(min(bars, n - start)):
            head += x[start + r]
            if start + r >= bars - 1:
                out[start + r] = tail[r + 1] + head
        for r in range(min(bars, n - start) - 1, -1, -1):
            tail[r] = tail[r + 1] + x[start + r]
    return out


@compiled
def rolling_moments(x: Floats, bars: int, order: int) -> Floats:
    """Return the mean and the central moments of the newest `bars` values up to an order of 2 to 4; shape (order, n).

    Row 0 is the mean, row k the mean of (x - mean)^(k + 1). Moments of even order are at least 0.
    """
    n = x.size
    out = np.full((order, n), np.nan)
    tail = np.zeros((order, bars + 1))
    head = np.zeros(order)
    for start in range(0, n, bars):
        centre = x[start]  # every window that reads this block's head holds it
        if start:
            for r in range(bars - 1, -1, -1):
                power = 1.0
                for k in range(order):
                    power *= x[start - bars + r] - centre
                    tail[k, r] = tail[k, r + 1] + power
        head[:] = 0.0
        for r in range(min(bars, n - start)):
            power = 1.0
            for k in range(order):
                power *= x[start + r] - centre
                head[k] += power
            if start + r < bars - 1:
                continue
            shift = (tail[0, r + 1] + head[0]) / bars
            second = (tail[1, r + 1] + head[1]) / bars
            out[0, start + r] = centre + shift
            out[1, start + r] = max(second - shift * shift, 0.0) if second == second else np.nan
            if order > 2:
                third = (tail[2, r + 1] + head[2]) / bars
                out[2, start + r] = third - 3 * shift * second + 2 * shift**3
            if order > 3:
                fourth = (tail[3, r + 1] + head[3]) / bars
                raw = fourth - 4 * shift * third + 6 * shift**2 * second - 3 * shift**4
                out[3, start + r] = max(raw, 0.0) if raw == raw else np.nan
    return out


@compiled
def rolling_covariance(x: Floats, y: Floats, bars: int) -> Floats:
    """Return the covariance of x and y and the variances of both over the newest `bars` pairs; shape (3, n)."""
    n = x.size
    out = np.full((3, n), np.nan)
    tail = np.zeros((5, bars + 1))
    head = np.zeros(5)
    for start in range(0, n, bars):
        cx, cy = x[start], y[start]
        if start:
            for r in range(bars - 1, -1, -1):
                a, b = x[start - bars + r] - cx, y[start - bars + r] - cy
                tail[0, r] = tail[0, r + 1] + a
                tail[1, r] = tail[1, r + 1] + b
                tail[2, r] = tail[2, r + 1] + a * b
                tail[3, r] = tail[3, r + 1] + a * a
                tail[4, r] = tail[4, r + 1] + b * b
        head[:] = 0.0
        for r in range(min(bars, n - start)):
            a, b = x[start + r] - cx, y[start + r] - cy
            head[0] += a
            head[1] += b
            head[2] += a * b
            head[3] += a * a
            head[4] += b * b
            if start + r < bars - 1:
                continue
            mx, my = (tail[0, r + 1] + head[0]) / bars, (tail[1, r + 1] + head[1]) / bars
            vx, vy = (tail[3, r + 1] + head[3]) / bars - mx * mx, (tail[4, r + 1] + head[4]) / bars - my * my
            out[0, start + r] = (tail[2, r + 1] + head[2]) / bars - mx * my
            out[1, start + r] = max(vx, 0.0) if vx == vx else np.nan
            out[2, start + r] = max(vy, 0.0) if vy == vy else np.nan
    return out


@compiled
def rolling_line(x: Floats, bars: int) -> Floats:
    """Return the least-squares line through the newest `bars` values; shape (3, n): its end, its slope per bar, its R2.

    R2 is 0 where the values do not vary.
    """
    n = x.size
    out = np.full((3, n), np.nan)
    tail = np.zeros((3, bars + 1))
    head = np.zeros(3)
    middle = (bars - 1) / 2
    spread = (bars * bars - 1) / 12  # variance of 0 … bars - 1
    for start in range(0, n, bars):
        centre = x[start]
        if start:
            for r in range(bars - 1, -1, -1):
                d = x[start - bars + r] - centre
                tail[0, r] = tail[0, r + 1] + d
                tail[1, r] = tail[1, r + 1] + d * (r - bars)  # places count from the block's start
                tail[2, r] = tail[2, r + 1] + d * d
        head[:] = 0.0
        for r in range(min(bars, n - start)):
            d = x[start + r] - centre
            head[0] += d
            head[1] += d * r
            head[2] += d * d
            if start + r < bars - 1:
                continue
            mean = (tail[0, r + 1] + head[0]) / bars
            slope = ((tail[1, r + 1] + head[1]) / bars - (r - middle) * mean) / spread
            variance = (tail[2, r + 1] + head[2]) / bars - mean * mean
            out[0, start + r] = centre + mean + slope * middle
            out[1, start + r] = slope
            if variance > 0:
                out[2, start + r] = min(slope * slope * spread / variance, 1.0)
            elif variance == variance:
                out[2, start + r] = 0.0
    return out


@compiled
def rolling_rank(x: Floats, bars: int) -> Floats:
    """Return the share of the newest `bars` values, the newest left out, that lie below it; ties count half."""
    n = x.size
    out = np.full(n, np.nan)
    for i in range(bars - 1, n):
        below = 0.0
        for j in range(i - bars + 1, i):
            if x[j] < x[i]:
                below += 1.0
            elif x[j] == x[i]:
                below += 0.5
            elif x[j] != x[j]:
                below = np.nan
        out[i] = below / (bars - 1) if x[i] == x[i] else np.nan
    return out


@compiled
def carry_forward(x: Floats, limit: int) -> Floats:
    """Return x with NaN replaced by the newest value before it, at most `limit` bars old."""
    out = x.copy()
    age = limit  # nothing to carry yet
    for i in range(x.size):
        if x[i] == x[i]:
            age = 0
        elif age < limit:
            age += 1
            out[i] = out[i - 1]
    return out


@compiled
def smoothed(x: Floats, share: float) -> Floats:
    """Return the exponential average y += share * (x - y), begun at the first value; for x without holes."""
    out = np.full(x.size, np.nan)
    state = np.nan
    for i in range(x.size):
        if x[i] == x[i]:
            state = x[i] if state != state else state + share * (x[i] - state)
            out[i] = state
    return out


@compiled
def fading_mean(x: Floats, share: float) -> Floats:
    """Return the exponentially weighted mean; weights fall by `share` per row and are normalised over the values there.

    An undefined value has no weight and leaves its row undefined, and what came before goes on fading: after a long
    hole the mean does not depend on whether history begins before or inside it.
    """
    out = np.full(x.size, np.nan)
    total = 0.0
    weight = 0.0
    for i in range(x.size):
        total *= 1 - share
        weight *= 1 - share
        if weight < 1e-200:  # nothing is left, and smaller numbers are slow
            total = 0.0
            weight = 0.0
        if x[i] == x[i]:
            total += share * x[i]
            weight += share
            out[i] = total / weight
    return out


@compiled
def fisher_transform(place: Floats) -> Floats:
    """Return Ehlers' Fisher transform of places between -1 and 1, by the recursion he published; NaN where undefined.

    Both of its states begin at 0 with the first place, and an undefined place leaves them as they are.
    """
    out = np.full(place.size, np.nan)
    smooth = 0.0
    state = 0.0
    for i in range(place.size):
        if place[i] == place[i]:
            smooth = 0.33 * place[i] + 0.67 * smooth
            if abs(smooth) > 0.99:
                smooth = math.copysign(0.999, smooth)
            state = 0.5 * math.log((1 + smooth) / (1 - smooth)) + 0.5 * state
            out[i] = state
    return out
