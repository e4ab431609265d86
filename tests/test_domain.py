"""The FX week, instruments and the law."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from forexgpt_core.domain.clock import (
    NEW_YORK,
    Timeframe,
    bar_close,
    bar_open,
    closes_at,
    expected_opens,
    from_utc,
    in_fx_week,
    next_opens,
    places,
    slot,
    slot_open,
    week_opens,
)
from forexgpt_core.domain.forecasts import LEVELS, law_cdf, law_mean_std, law_quantiles
from forexgpt_core.domain.instruments import INSTRUMENTS, instrument
from forexgpt_core.domain.orders import client_order_id
from forexgpt_core.errors import BadInput, UnknownName

moments = st.integers(0, int(60 * 365.25 * 86400)).map(
    lambda s: np.array(["1995-01-01"], dtype="datetime64[us]") + np.timedelta64(s, "s")
)
frames = st.sampled_from(list(Timeframe))


def test_there_are_28_crosses_and_gold() -> None:
    assert len(INSTRUMENTS) == 29
    assert {"EURUSD", "EURGBP", "GBPJPY", "AUDNZD", "USDCAD", "CADCHF", "XAUUSD"} <= set(INSTRUMENTS)


def test_an_unknown_symbol_names_what_was_meant() -> None:
    with pytest.raises(UnknownName, match="did you mean EURUSD"):
        instrument("USDEUR")
    assert instrument("eur/usd").pip == 0.0001
    assert instrument("XAUUSD").pip == 0.1


@given(ts=moments, frame=frames)
def test_a_slot_and_its_open_are_inverse_inside_the_week(ts: np.ndarray, frame: Timeframe) -> None:
    if in_fx_week(ts)[0]:
        assert slot_open(slot(ts, frame), frame)[0] == bar_open(ts, frame)[0]
        assert bar_open(ts, frame)[0] <= ts[0] < bar_close(bar_open(ts, frame), frame)[0]


@given(ts=moments, frame=st.sampled_from([Timeframe.H4, Timeframe.D1, Timeframe.W1]))
def test_long_bars_start_on_the_new_york_grid_in_winter_and_summer(ts: np.ndarray, frame: Timeframe) -> None:
    local = from_utc(bar_open(ts, frame)[0]).astimezone(NEW_YORK)
    if in_fx_week(ts)[0]:
        assert (local.hour - 17) % (4 if frame is Timeframe.H4 else 24) == 0
        assert local.minute == local.second == 0


def test_new_york_midnight_moves_with_daylight_saving() -> None:
    winter, summer = np.array(["2018-01-10T23:00", "2018-07-10T23:00"], dtype="datetime64[us]")
    opens = bar_open(np.array([winter, summer]), Timeframe.D1)
    assert [str(o)[11:16] for o in opens] == ["22:00", "21:00"]


@given(ts=moments, frame=frames, count=st.integers(1, 200))
def test_coming_bars_follow_one_another_and_skip_the_weekend(ts: np.ndarray, frame: Timeframe, count: int) -> None:
    coming = next_opens(ts, frame, count)[0]
    assert in_fx_week(coming).all()
    assert (np.diff(slot(coming, frame)) == 1).all()


def test_every_week_of_the_calendar_begins_at_its_opening_to_the_microsecond() -> None:
    opens, one = week_opens()[1:-1], np.timedelta64(1, "us")
    before, at = places(opens - one), places(opens)
    np.testing.assert_array_equal(at.week, np.arange(1, opens.size + 1))
    np.testing.assert_array_equal(before.week, at.week - 1)
    assert (at.since_open == 0).all()
    assert (at.off_grid(Timeframe.M1) == 0).all()
    assert (places(opens + one).off_grid(Timeframe.M1) == 1).all()
    assert at.inside.all()
    assert not before.inside.any()


@pytest.mark.parametrize("moment", ["NaT", "1989-12-30", "2061-01-01"])
def test_times_outside_the_calendar_are_refused(moment: str) -> None:
    with pytest.raises(BadInput, match="must lie between 1989-12-31"):
        places(np.array(["2018-07-02", moment], dtype="datetime64[us]"))


def test_the_grid_between_two_bars_holds_both() -> None:
    friday, sunday = np.datetime64("2018-07-06T20:00", "us"), np.datetime64("2018-07-08T21:00", "us")
    assert list(expected_opens(friday, sunday, Timeframe.H1)) == [friday, sunday]


def test_every_week_opens_on_sunday_at_17_in_new_york() -> None:
    local = [from_utc(t).astimezone(NEW_YORK) for t in week_opens()[::50]]
    assert {(t.weekday(), t.hour) for t in local} == {(6, 17)}


@given(mean=st.floats(-1, 1), std=st.floats(0.01, 5))
def test_the_law_is_exact_for_a_normal(mean: float, std: float) -> None:
    quantiles = norm.ppf(LEVELS, mean, std)
    levels = np.array([0.001, 0.3, 0.62, 0.999])
    assert np.allclose(law_quantiles(quantiles, levels), norm.ppf(levels, mean, std))
    assert np.allclose(law_cdf(quantiles, mean + 0.37 * std), norm.cdf(0.37))


@given(seed=st.integers(0, 2**32 - 1))
def test_cdf_undoes_quantile(seed: int) -> None:
    quantiles = np.sort(np.random.default_rng(seed).normal(size=(5, 3, 9)), axis=-1)
    levels = np.array([0.01, 0.2, 0.5, 0.77, 0.99])
    points = law_quantiles(quantiles, levels)
    back = np.stack([law_cdf(quantiles, points[..., k]) for k in range(levels.size)], axis=-1)
    assert np.allclose(back, levels, atol=1e-9)


def test_mean_and_std_of_a_standard_normal_law() -> None:
    mean, std = law_mean_std(norm.ppf(LEVELS))
    assert abs(float(mean)) < 1e-12
    assert float(std) == pytest.approx(1, abs=0.01)


def test_an_order_id_depends_on_the_decision_alone() -> None:
    bar = from_utc(np.datetime64("2018-07-06T20:00", "us"))
    assert client_order_id("d", "EURUSD", bar, "enter") == client_order_id("d", "EURUSD", bar, "enter")
    assert client_order_id("d", "EURUSD", bar, "enter") != client_order_id("d", "EURUSD", bar, "exit")
    assert len(client_order_id("d", "EURUSD", bar, "enter")) == 28


def test_a_law_that_is_one_point_has_all_its_probability_there() -> None:
    point = np.zeros(9)
    assert list(law_cdf(np.stack([point] * 3), np.array([-1.0, 0.0, 1.0]))) == [0.0, law_cdf(point, 0.0), 1.0]
    assert law_cdf(point, 0.0) >= 0.975


@given(ts=moments, frame=frames)
def test_a_bar_closes_where_the_next_one_opens(ts: np.ndarray, frame: Timeframe) -> None:
    if in_fx_week(ts)[0]:
        close = from_utc(bar_close(bar_open(ts, frame), frame)[0])
        assert closes_at(close, frame)
        assert not closes_at(close + timedelta(seconds=1), frame)
