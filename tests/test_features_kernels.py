"""The compiled windows against their formulas, and their independence of where history starts."""

import math
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from forexgpt_core.features import kernels
from forexgpt_core.features.kernels import (
    carry_forward,
    fading_mean,
    fisher_transform,
    rolling_covariance,
    rolling_line,
    rolling_moments,
    rolling_rank,
    rolling_sum,
    smoothed,
)

Floats = NDArray[np.float64]
LAWS = settings(deadline=None, max_examples=60)
SEEDS = st.integers(0, 2**32 - 1)


def walk(n: int, seed: int, level: float = 1.1) -> Floats:
    return level * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 1e-4, n)))


def lead(bars: int, values: Floats) -> Floats:
    return np.concatenate([np.full(min(bars - 1, values.size + bars - 1), np.nan), values])


@LAWS
@given(seed=SEEDS, n=st.integers(0, 80), bars=st.integers(2, 30))
def test_windows_are_their_formulas(seed: int, n: int, bars: int) -> None:
    x, y = walk(n, seed), walk(n, seed + 1)
    if n < bars:
        for out in (rolling_sum(x, bars), *rolling_moments(x, bars, 4), *rolling_line(x, bars), rolling_rank(x, bars)):
            assert out.shape == (n,)
            assert np.isnan(out).all()
        return
    a, b = sliding_window_view(x, bars), sliding_window_view(y, bars)
    close = {"rtol": 1e-9, "atol": 1e-18}
    np.testing.assert_allclose(rolling_sum(x, bars), lead(bars, a.sum(axis=1)), rtol=1e-13)
    around = a - a.mean(axis=1, keepdims=True)
    mean, second, third, fourth = rolling_moments(x, bars, 4)
    np.testing.assert_allclose(mean, lead(bars, a.mean(axis=1)), rtol=1e-13)
    np.testing.assert_allclose(second, lead(bars, (around**2).mean(axis=1)), **close)
    np.testing.assert_allclose(third, lead(bars, (around**3).mean(axis=1)), rtol=1e-6, atol=1e-20)
    np.testing.assert_allclose(fourth, lead(bars, (around**4).mean(axis=1)), rtol=1e-6, atol=1e-24)
    both, first, other = rolling_covariance(x, y, bars)
    beside = b - b.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(both, lead(bars, (around * beside).mean(axis=1)), rtol=1e-7, atol=1e-17)
    np.testing.assert_allclose(first, second, **close)
    np.testing.assert_allclose(other, rolling_moments(y, bars, 2)[1], **close)
    place = np.arange(bars) - (bars - 1) / 2
    slope = around @ place / (place**2).sum()
    end, found, r2 = rolling_line(x, bars)
    np.testing.assert_allclose(found, lead(bars, slope), rtol=1e-7, atol=1e-15)
    np.testing.assert_allclose(end, lead(bars, a.mean(axis=1) + slope * (bars - 1) / 2), rtol=1e-13)
    left = around - slope[:, None] * place
    expected = 1 - (left**2).sum(axis=1) / (around**2).sum(axis=1)
    np.testing.assert_allclose(r2, lead(bars, expected), rtol=1e-6, atol=1e-9)
    rank = (a[:, :-1] < a[:, -1:]).sum(axis=1) + 0.5 * (a[:, :-1] == a[:, -1:]).sum(axis=1)
    np.testing.assert_allclose(rolling_rank(x, bars), lead(bars, rank / (bars - 1)), rtol=1e-13)


@LAWS
@given(seed=SEEDS, bars=st.integers(2, 60), start=st.integers(1, 200))
def test_a_window_has_the_same_value_wherever_history_starts(seed: int, bars: int, start: int) -> None:
    x = walk(400, seed)
    for kernel in (rolling_sum, lambda v, n: rolling_moments(v, n, 2)[1], lambda v, n: rolling_line(v, n)[0]):
        whole, later = kernel(x, bars), kernel(x[start:], bars)
        np.testing.assert_allclose(later[bars:], whole[start + bars :], rtol=1e-11)


def test_a_running_sum_would_not_pass_where_these_do() -> None:
    """After a large value has left, a running sum keeps its rounding error for ever: why these kernels are our own."""
    x = np.concatenate([[1e12], np.full(200, 1e-6)])
    running = np.cumsum(x)[20:] - np.cumsum(x)[:-20]
    assert abs(running[-1] / 2e-5 - 1) > 0.1
    assert rolling_sum(x, 20)[-1] == pytest.approx(2e-5, rel=1e-12)


@LAWS
@given(seed=SEEDS, bars=st.integers(2, 30), hole=st.integers(0, 79))
def test_an_undefined_value_spoils_just_the_windows_that_hold_it(seed: int, bars: int, hole: int) -> None:
    x = walk(80, seed)
    holed = x.copy()
    holed[hole] = np.nan
    spoilt = np.zeros(80, dtype=np.bool_)
    spoilt[hole : hole + bars] = True
    spoilt[: bars - 1] = True
    outs = (
        rolling_sum(holed, bars),
        *rolling_moments(holed, bars, 4),
        *rolling_covariance(holed, x, bars),
        *rolling_line(holed, bars),
        rolling_rank(holed, bars),
    )
    for place, out in enumerate(outs):
        if place == 7:
            continue  # the variance of the other series does not read the hole
        np.testing.assert_array_equal(np.isnan(out), spoilt)


def test_what_stands_still_has_no_variance_slope_or_fit() -> None:
    x = np.full(50, 1.2345678)
    assert (rolling_moments(x, 7, 4)[1:, 6:] == 0).all()
    assert (rolling_line(x, 7)[1:, 6:] == 0).all()


def test_carrying_forward_ends_at_its_limit() -> None:
    nan = np.nan
    x = np.array([nan, 1.0, nan, nan, nan, 2.0, nan])
    np.testing.assert_array_equal(carry_forward(x, 2), [nan, 1.0, 1.0, 1.0, nan, 2.0, 2.0])
    np.testing.assert_array_equal(carry_forward(x, 0), x)
    np.testing.assert_array_equal(carry_forward(x[1:], 2), [1.0, 1.0, 1.0, nan, 2.0, 2.0])


def test_smoothing_begins_at_the_first_value() -> None:
    nan = np.nan
    np.testing.assert_allclose(smoothed(np.array([nan, 1.0, 2.0, 3.0]), 0.5), [nan, 1.0, 1.5, 2.25])


def test_a_fading_mean_goes_on_fading_through_a_hole() -> None:
    nan = np.nan
    x = np.array([nan, 1.0, nan, 3.0, 4.0])
    np.testing.assert_allclose(fading_mean(x, 0.5), [nan, 1.0, nan, 3.25 / 1.25, (0.125 + 1.5 + 4.0) / 1.625])
    long = np.concatenate([x, np.full(20_000, nan), x])
    np.testing.assert_array_equal(fading_mean(long, 0.5)[-5:], fading_mean(x, 0.5))


def exact_moments(window: Floats) -> tuple[float, float, float]:
    """Return the second to fourth central moments in exact arithmetic."""
    values = [Fraction(float(x)) for x in window]
    mean = sum(values) / len(values)
    return tuple(float(sum((v - mean) ** k for v in values) / len(values)) for k in (2, 3, 4))


def hard_series(name: str) -> Floats:
    noise = np.random.default_rng(1).normal(0, 1e-5, 300)
    outliers, jump = noise.copy(), noise + 1.1
    outliers[::37] = 10.0
    jump[150:] += 1e6
    return {
        "a high level": 1e8 + np.cumsum(noise),
        "a low level": 1e-12 * (1 + noise),
        "huge values": 1e70 * (1 + noise),
        "outliers": outliers,
        "a jump": jump,
    }[name]


@pytest.mark.parametrize("bars", [2, 7, 37, 150])
@pytest.mark.parametrize("name", ["a high level", "a low level", "huge values", "outliers", "a jump"])
def test_neither_level_nor_outliers_cost_digits(name: str, bars: int) -> None:
    x = hard_series(name)
    found = rolling_moments(x, bars, 4)
    for i in range(bars - 1, x.size, 11):
        second, third, fourth = exact_moments(x[i - bars + 1 : i + 1])
        assert found[1, i] == pytest.approx(second, rel=1e-11, abs=0)
        assert found[2, i] == pytest.approx(third, rel=1e-9, abs=1e-10 * second**1.5)
        assert found[3, i] == pytest.approx(fourth, rel=1e-9, abs=0)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, 1e308, 5e-324])
@pytest.mark.parametrize("place", [0, 6, 7, 13, 14, 79])
def test_an_extreme_value_is_gone_when_its_window_is(bad: float, place: int) -> None:
    bars, x, y = 7, walk(80, seed=1), walk(80, seed=2)
    spoilt = x.copy()
    spoilt[place] = bad
    reads = np.zeros(80, dtype=np.bool_)
    reads[place : place + bars] = True
    for kernel in (
        lambda v: rolling_sum(v, bars)[None],
        lambda v: rolling_moments(v, bars, 4),
        lambda v: rolling_covariance(v, y, bars),
        lambda v: rolling_line(v, bars),
        lambda v: rolling_rank(v, bars)[None],
    ):
        found, wanted = kernel(spoilt), kernel(x)
        np.testing.assert_allclose(found[:, ~reads], wanted[:, ~reads], rtol=1e-9, atol=1e-20)


def test_the_fisher_transform_is_its_program_and_skips_what_is_undefined() -> None:
    nan = math.nan
    first = math.atanh(0.33 * 0.5)
    second = math.atanh(0.33 * -1 + 0.67 * 0.33 * 0.5) + 0.5 * first
    np.testing.assert_allclose(fisher_transform(np.array([nan, 0.5, nan, -1.0])), [nan, first, nan, second])
    topped = fisher_transform(np.ones(200))
    assert topped[-1] == pytest.approx(2 * math.atanh(0.999)), "beyond 0.99 it is held at 0.999"


def test_kernels_work_where_nothing_can_be_written(tmp_path: Path) -> None:
    """As in a container with a read-only file system: compiled code can be kept nowhere."""
    source = Path(kernels.__file__)
    shutil.copy(source, tmp_path / "kernels.py")
    (tmp_path / "__pycache__").touch()  # a file, so that not even root can put anything into that folder
    program = "import numpy as np, kernels; print(kernels.rolling_sum(np.arange(4.0), 2).tolist())"
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "HOME": os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout == "[nan, 1.0, 3.0, 5.0]\n", run.stderr
