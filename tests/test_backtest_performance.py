"""Figures of equity curves and trades."""

import math

import numpy as np
import pytest

from forexgpt_core.backtest.performance import curve_stats, day_ends, drawdown, trade_stats
from forexgpt_core.domain.clock import Timeframe, expected_opens


def test_days_end_at_five_in_the_afternoon_of_new_york() -> None:
    times = expected_opens(np.datetime64("2018-01-02T00:00"), np.datetime64("2018-01-03T23:00"), Timeframe.H1)
    ends, per_year = day_ends(times)
    assert [str(times[end])[:13] for end in ends] == ["2018-01-02T21", "2018-01-03T21", "2018-01-03T23"]
    assert per_year == 260


def test_weekly_bars_are_counted_in_weeks() -> None:
    times = expected_opens(np.datetime64("2018-01-02"), np.datetime64("2018-06-01"), Timeframe.W1)
    ends, per_year = day_ends(times)
    assert ends.tolist() == list(range(times.size))
    assert per_year == 52


def test_sharpe_and_sortino_by_hand() -> None:
    equity = np.array([101.0, 99.99, 101.9898])  # +1 %, -1 %, +2 %
    stats = curve_stats(equity, 100.0, np.array([0, 1, 2]), 260)
    returns = np.array([0.01, -0.01, 0.02])
    assert stats["sharpe"] == pytest.approx(returns.mean() / returns.std(ddof=1) * math.sqrt(260), rel=1e-9)
    assert stats["sortino"] == pytest.approx(returns.mean() / math.sqrt(0.01**2 / 3) * math.sqrt(260), rel=1e-9)
    assert stats["max_drawdown_pct"] == pytest.approx(1.0, abs=1e-9)
    assert stats["return_pct"] == pytest.approx(1.9898, abs=1e-9)


def test_the_first_loss_counts_as_drawdown_from_the_cash() -> None:
    assert curve_stats(np.array([90.0, 95.0]), 100.0, np.array([1]), 260)["max_drawdown_pct"] == pytest.approx(10)


def test_a_flat_account_has_no_ratio() -> None:
    stats = curve_stats(np.full(5, 100.0), 100.0, np.array([1, 4]), 260)
    assert (stats["sharpe"], stats["sortino"], stats["return_pct"]) == (None, None, 0)


def test_drawdown_is_zero_at_every_new_high() -> None:
    np.testing.assert_allclose(drawdown(np.array([1.0, 2.0, 1.5, 2.0, 4.0, 1.0])), [0, 0, 0.25, 0, 0, 0.75])


def test_trades_that_break_even_do_not_win() -> None:
    assert trade_stats(np.array([2.0, 0.0, -1.0, 1.0])) == {"trades": 4, "win_rate_pct": 50, "profit_factor": 3}
    assert trade_stats(np.array([2.0]))["profit_factor"] is None
