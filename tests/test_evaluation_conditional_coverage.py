"""Coverage by volatility and session: who belongs where, what the band allows, and what an average hides."""

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from evaluation_batches import batch, normal
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.domain.clock import Timeframe, bar_close, in_fx_week, to_utc
from forexgpt_core.domain.forecasts import LEVELS, SCORES
from forexgpt_core.domain.sessions import Session, trading_session
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.conditional_coverage import (
    COLUMNS,
    NoDeciles,
    conditional_coverage,
    volatility_decile,
)
from forexgpt_core.evaluation.pairing import UnpairedReturns, UnsortedOrigins
from forexgpt_core.evaluation.scores import coverage, width


def one_session(moment: datetime) -> str:
    """Return the session by the clocks on the wall, one moment at a time."""
    at_work = [8 <= moment.astimezone(ZoneInfo(city)).hour < 17 for city in ("Europe/London", "America/New_York")]
    if not in_fx_week(np.array([to_utc(moment)]))[0]:
        return Session.ASIA
    return {(1, 0): Session.LONDON, (1, 1): Session.OVERLAP, (0, 1): Session.NEW_YORK}.get(
        (int(at_work[0]), int(at_work[1])), Session.ASIA
    )


@settings(deadline=None, max_examples=300)
@given(minutes=st.integers(0, 60 * 365 * 24 * 60))
def test_a_session_is_what_the_clocks_of_both_cities_say(minutes: int) -> None:
    moment = datetime(1995, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    assert trading_session(np.array([to_utc(moment)]))[0] == one_session(moment)


@pytest.mark.parametrize("start", [datetime(2018, 3, 4), datetime(2018, 10, 21), datetime(2018, 7, 1)])
def test_sessions_follow_both_clock_changes(start: datetime) -> None:
    """America changes on 11 March and 4 November 2018, London on 25 March and 28 October."""
    moments = [start.replace(tzinfo=UTC) + timedelta(minutes=30 * k) for k in range(48 * 28)]
    found = trading_session(np.array([to_utc(m) for m in moments]))
    assert list(found) == [one_session(m) for m in moments]
    assert set(found) == set(Session)


def test_the_overlap_is_an_hour_longer_while_america_alone_has_changed() -> None:
    def overlap_hours(day: str) -> int:
        hours = np.datetime64(day, "us") + np.arange(24) * np.timedelta64(1, "h")
        return int((trading_session(hours) == Session.OVERLAP).sum())

    assert [overlap_hours(day) for day in ("2018-03-07", "2018-03-14", "2018-03-28")] == [4, 5, 4]


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(10, 500))
def test_deciles_are_even_and_in_order(seed: int, n: int) -> None:
    scale = np.random.default_rng(seed).lognormal(size=n)
    deciles = volatility_decile(scale)
    counts = np.bincount(deciles, minlength=11)[1:]
    assert counts.sum() == n
    assert counts.max() - counts.min() <= 1
    assert (np.diff(deciles[np.argsort(scale)]) >= 0).all()


def test_equal_scales_share_a_decile() -> None:
    scale = np.repeat([1.0, 2.0], [30, 70])
    deciles = volatility_decile(scale)
    assert set(deciles[:30]) == {2}
    assert set(deciles[30:]) == {7}


def test_scales_without_deciles_are_refused_by_name() -> None:
    with pytest.raises(NoDeciles, match=r"at least 10 forecasts, were \(9,\)"):
        volatility_decile(np.arange(1.0, 10.0))
    with pytest.raises(NoDeciles, match=r"the reference scale is 0\.5 in all 20 rows"):
        volatility_decile(np.full(20, 0.5))
    with pytest.raises(NoDeciles, match="1 of 20 scales are not finite"):
        volatility_decile(np.where(np.arange(20) == 3, math.nan, 1.0))


def garch_like(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 2) slow scales and returns with those standard deviations."""
    rng = np.random.default_rng(seed)
    scale = np.exp(0.6 * np.sin(np.arange(n) / 300))[:, None] * np.array([1.0, 2.0])
    return scale, scale * rng.normal(size=scale.shape)


def test_what_an_average_hides_is_seen_by_volatility() -> None:
    scale, y = garch_like(12_000, seed=0)
    static = batch(np.broadcast_to(np.std(y, axis=0)[:, None] * SCORES, (*y.shape, LEVELS.size)), scale=scale)
    scaled = batch(scale[..., None] * SCORES, scale=scale)
    wanted = (pl.col("condition") == "volatility_decile") & (pl.col("coverage_percent") == 90)
    by_decile = conditional_coverage(static, y).filter(wanted, pl.col("horizon_bars") == 1)
    assert by_decile["group"].to_list() == [str(k) for k in range(1, 11)]
    assert by_decile["coverage"][0] > 0.97
    assert by_decile["coverage"][9] < 0.8
    assert by_decile["coverage_high"][9] < 0.9, "more than luck"
    right = conditional_coverage(scaled, y).filter(wanted)
    inside = (right["coverage_low"] <= 0.9) & (right["coverage_high"] >= 0.9)
    assert inside.all()
    widths = right.filter(pl.col("horizon_bars") == 1)["width"].to_list()
    assert widths == sorted(widths)
    assert by_decile["width"].max() == pytest.approx(by_decile["width"].min()), "a static width does not know"


def test_the_table_holds_every_row_once_and_agrees_with_the_overall_scores() -> None:
    scale, y = garch_like(3000, seed=1)
    forecasts = batch(scale[..., None] * SCORES, scale=scale)
    table = conditional_coverage(forecasts, y)
    assert dict(table.schema) == COLUMNS
    assert table.select("horizon_bars", "condition", "group", "coverage_percent").is_duplicated().sum() == 0
    for condition in ("volatility_decile", "session"):
        counts = table.filter(pl.col("condition") == condition).group_by("horizon_bars", "coverage_percent")
        assert set(counts.agg(pl.col("n").sum())["n"]) == {3000}
    everything = table.filter(pl.col("condition") == "all")
    for column, horizon in enumerate(forecasts.horizons_bars):
        for percent, share in coverage(forecasts, y).items():
            row = everything.filter(pl.col("horizon_bars") == horizon, pl.col("coverage_percent") == percent)
            assert row["coverage"].item() == pytest.approx(share[column])
            assert row["width"].item() == pytest.approx(width(forecasts)[percent][column])
            assert row["n_independent"].item() == math.ceil(3000 / horizon)


def test_a_session_counts_its_own_independent_targets_at_the_close_of_the_origin() -> None:
    n = 24 * 5 * 8
    quantiles = np.broadcast_to(SCORES, (n, 2, LEVELS.size))
    scale = np.random.default_rng(0).uniform(1, 2, (n, 2))
    forecasts = batch(quantiles, (1, 24), scale=scale)
    table = conditional_coverage(forecasts, np.zeros((n, 2))).filter(
        pl.col("condition") == "session", pl.col("coverage_percent") == 50
    )
    sessions = trading_session(bar_close(forecasts.origin_utc, Timeframe.H1))
    for session in Session:
        rows = int((sessions == session).sum())
        near, far = (table.filter(pl.col("group") == session, pl.col("horizon_bars") == h) for h in (1, 24))
        assert (near["n"].item(), near["n_independent"].item()) == (rows, rows)
        assert far["n"].item() == rows
        assert 35 <= far["n_independent"].item() <= 40, "one a trading day, of 40 days, not rows / 24"


def test_a_session_is_that_of_the_close_when_the_forecast_is_known() -> None:
    n = 600
    scale = np.random.default_rng(1).uniform(1, 2, (n, 1))
    hours = batch(np.broadcast_to(SCORES, (n, 1, LEVELS.size)), (1,), scale=scale)
    known = trading_session(bar_close(hours.origin_utc, Timeframe.H1))
    spread = {session: 1.0 + k for k, session in enumerate(Session)}
    told_apart = np.array([spread[Session(name)] for name in known])[:, None, None] * SCORES
    table = conditional_coverage(batch(told_apart, (1,), scale=scale), np.zeros((n, 1)))
    rows = table.filter(pl.col("condition") == "session", pl.col("coverage_percent") == 90)
    assert dict(zip(rows["group"], rows["width"])) == pytest.approx(
        {session: 2 * SCORES[7] * spread[session] for session in Session}
    )


def test_what_cannot_be_judged_is_refused_by_name() -> None:
    scale, y = garch_like(30, seed=2)
    forecasts = batch(scale[..., None] * SCORES, scale=scale)
    with pytest.raises(NoDeciles, match="in all 30 rows"):
        conditional_coverage(normal(30), y)
    with pytest.raises(UnpairedReturns, match="not known"):
        conditional_coverage(forecasts, np.where(y == y[0, 0], math.nan, y))
    with pytest.raises(BadInput, match=r"level must lie in \(0, 1\)"):
        conditional_coverage(forecasts, y, level=1.0)
    with pytest.raises(UnsortedOrigins, match="row 1"):
        conditional_coverage(batch(forecasts.quantiles, slots=np.arange(30)[::-1], scale=scale), y)
