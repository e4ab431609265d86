"""Holes by cause and what is odd about candles: on planted defects, and on real files with known ones."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forexgpt_core.candles.causes import CAUSES, explain_gaps, missing_by_cause
from forexgpt_core.candles.cleaning import ASIDE_SCHEMA, Cleaned, clean
from forexgpt_core.candles.gaps import find_gaps
from forexgpt_core.candles.health import HealthReport, HealthTerms, health
from forexgpt_core.candles.spread import spread_figures
from forexgpt_core.domain.bars import PRICES, SCHEMA, empty_bars
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.errors import BadInput

DATA = Path(__file__).parents[1].parent / "shared" / "data" / "fx"
H1, PIP = Timeframe.H1, 1e-4
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared candles are not on this machine")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def walk(first: str = "2018-11-01", last: str = "2019-02-01", frame: Timeframe = H1, seed: int = 0) -> pl.DataFrame:
    opens = expected_opens(np.datetime64(first, "us"), np.datetime64(last, "us"), frame)
    rng = np.random.default_rng(seed)
    close = 1.2 * np.exp(np.cumsum(rng.normal(0, 3e-4, opens.size)))
    open_ = np.concatenate([[1.2], close[:-1]])
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"),
            "open": open_,
            "high": np.maximum(open_, close) + 1e-4,
            "low": np.minimum(open_, close) - 1e-4,
            "close": close,
            "volume": rng.integers(900, 1100, opens.size).astype(float),
        },
        schema=SCHEMA,
    )


def lacking(bars: pl.DataFrame, first: str, last: str) -> pl.DataFrame:
    """Return the bars without those that open in [first, last)."""
    return bars.filter(~pl.col("ts_utc").is_between(at(first), at(last), closed="left"))


@pytest.mark.parametrize(
    ("first", "last", "cause"),
    [
        ("2018-12-24 22:00", "2018-12-25 22:00", "holiday"),  # the day itself, 17:00 to 17:00 New York
        ("2018-12-24 19:00", "2018-12-26 04:00", "holiday"),  # from the afternoon before to the morning after
        ("2018-12-24 18:00", "2018-12-24 20:00", "holiday"),  # closed early, and back
        ("2018-12-31 22:00", "2019-01-01 23:00", "holiday"),
        ("2018-12-24 14:00", "2018-12-24 16:00", "provider"),  # the morning before is an ordinary one
        ("2018-12-26 09:00", "2018-12-26 11:00", "provider"),  # so is the day after, by itself
        ("2018-12-18 22:00", "2018-12-28 12:00", "provider"),  # a holiday does not explain ten days
        ("2018-11-11 22:00", "2018-11-11 23:00", "weekend"),  # Sunday 17:00 New York
        ("2018-11-11 22:00", "2018-11-12 00:00", "weekend"),
        ("2018-11-09 21:00", "2018-11-11 23:00", "weekend"),  # the last hour and the first
        ("2018-11-11 22:00", "2018-11-12 01:00", "provider"),  # three hours
        ("2018-11-12 00:00", "2018-11-12 01:00", "provider"),  # the third hour alone
        ("2018-11-13 22:00", "2018-11-13 23:00", "rollover"),  # Tuesday 17:00 New York
        ("2018-11-13 22:00", "2018-11-14 00:00", "rollover"),
        ("2018-11-13 21:00", "2018-11-13 23:00", "provider"),
        ("2018-11-14 08:00", "2018-11-14 09:00", "provider"),
        ("2018-11-14 22:00", "2018-11-15 22:00", "provider"),  # a whole day
    ],
)
def test_each_hole_has_its_cause(first: str, last: str, cause: str) -> None:
    [hole] = explain_gaps(lacking(walk(), first, last), H1).to_dicts()
    assert (hole["start_utc"], hole["end_utc"], hole["cause"]) == (at(first), at(last), cause)


def test_a_sundays_holiday_is_kept_on_monday_and_a_saturdays_is_not() -> None:
    monday = lacking(walk("2016-12-01", "2017-01-20"), "2016-12-25 22:00", "2016-12-26 22:00")
    assert explain_gaps(monday, H1)["cause"].to_list() == ["holiday"]
    ordinary = lacking(walk("2010-12-01", "2011-01-20"), "2010-12-26 23:00", "2010-12-27 20:00")
    assert explain_gaps(ordinary, H1)["cause"].to_list() == ["provider"]


def test_minutes_before_the_rollover_belong_to_it_and_longer_bars_are_never_explained_by_it() -> None:
    minutes = walk("2018-11-12", "2018-11-15", Timeframe.M1)
    hole = lacking(minutes, "2018-11-13 21:57", "2018-11-13 22:04")
    assert explain_gaps(hole, Timeframe.M1)["cause"].to_list() == ["rollover"]
    for frame in (Timeframe.H4, Timeframe.D1, Timeframe.W1):
        bars = walk("2018-06-01", "2018-09-01", frame)
        without = bars.filter(pl.int_range(pl.len()) != 6)
        assert explain_gaps(without, frame)["cause"].to_list() == ["provider"]


@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.0, 0.9))
@settings(deadline=None, max_examples=20)
def test_explaining_holes_changes_none_and_accounts_for_every_missing_bar(seed: int, share: float) -> None:
    bars = walk("2018-12-10", "2019-01-20", seed=seed)
    kept = bars.filter(pl.Series(np.random.default_rng(seed).random(bars.height) >= share))
    holes = explain_gaps(kept, H1)
    assert_frame_equal(holes.drop("cause"), find_gaps(kept, H1))
    assert set(holes["cause"]) <= set(CAUSES)
    assert sum(missing_by_cause(holes).values()) == holes["missing_bars"].sum()


def changed(bars: pl.DataFrame, row: int, **factors: float) -> pl.DataFrame:
    hit = pl.int_range(pl.len()) == row
    return bars.with_columns(pl.when(hit).then(pl.col(c) * f).otherwise(c).alias(c) for c, f in factors.items())


def found(report: HealthReport, kind: str) -> list[datetime]:
    return report.examples.filter(pl.col("kind") == kind)["ts_utc"].to_list()


def test_calm_candles_are_healthy() -> None:
    report = health(walk(), H1, PIP)
    assert report.examples.is_empty()
    assert report.figures["bars"] == walk().height
    assert {n: v for n, v in report.figures.items() if v and n != "bars"} == {}


def test_a_move_that_comes_back_is_a_spike_and_one_that_stays_a_jump() -> None:
    bars = walk()
    spiked = changed(bars, 600, close=1.02, high=1.02)
    report = health(spiked, H1, PIP)
    assert (report.figures["spikes"], report.figures["jumps"], report.figures["large_moves"]) == (1, 0, 2)
    assert found(report, "spike") == [bars["ts_utc"][600]]
    assert report.examples["size"][0] == pytest.approx(0.02 * bars["close"][600] / PIP, rel=0.1)

    later = pl.int_range(pl.len()) >= 600
    jumped = bars.with_columns(pl.when(later).then(pl.col(c) * 1.02).otherwise(c).alias(c) for c in PRICES)
    report = health(jumped, H1, PIP)
    assert (report.figures["spikes"], report.figures["jumps"]) == (0, 1)
    assert found(report, "jump") == [bars["ts_utc"][600]]


@pytest.mark.parametrize(("column", "factor", "kind"), [("high", 1.02, "lone_high"), ("low", 0.98, "lone_low")])
def test_an_extreme_far_from_its_body_and_both_neighbours_is_a_spike(column: str, factor: float, kind: str) -> None:
    bars = walk()
    report = health(changed(bars, 600, **{column: factor}), H1, PIP)
    assert report.figures["spikes"] == 1
    assert found(report, kind) == [bars["ts_utc"][600]]


def test_a_jump_over_a_hole_or_a_weekend_is_no_jump() -> None:
    later = pl.col("ts_utc") >= at("2018-12-09 22:00")  # a Sunday evening
    gapped = walk().with_columns(pl.when(later).then(pl.col(c) * 1.02).otherwise(c).alias(c) for c in PRICES)
    report = health(gapped, H1, PIP)
    assert (report.figures["jumps"], report.figures["large_moves"]) == (0, 1)


def flat(bars: pl.DataFrame, first: int, count: int) -> pl.DataFrame:
    inside = pl.int_range(pl.len()).is_between(first, first + count - 1)
    price = bars["close"][first]
    return bars.with_columns(pl.when(inside).then(price).otherwise(c).alias(c) for c in PRICES)


def test_flat_runs_are_found_and_at_the_end_they_are_a_stale_tail() -> None:
    bars = walk()
    report = health(flat(bars, 300, 6), H1, PIP)
    assert (report.figures["flat_bars"], report.figures["longest_flat_run_bars"]) == (6, 6)
    assert (report.figures["stale_tail_bars"], found(report, "flat_run")) == (0, [bars["ts_utc"][300]])
    tail = health(flat(bars, bars.height - 9, 9), H1, PIP)
    assert tail.figures["stale_tail_bars"] == 9
    assert found(health(flat(bars, 300, 2), H1, PIP), "flat_run") == []


def test_a_last_bar_of_the_week_that_holds_next_to_nothing_is_a_stub() -> None:
    friday = pl.col("ts_utc") == at("2018-11-16 21:00")
    thin = walk().with_columns(volume=pl.when(friday).then(2.0).otherwise("volume"))
    report = health(thin, H1, PIP)
    assert (report.figures["stub_bars"], found(report, "stub")) == (1, [at("2018-11-16 21:00")])
    silent = thin.with_columns(pl.when(friday).then("close").otherwise(c).alias(c) for c in PRICES).with_columns(
        volume=pl.lit(None, dtype=pl.Float64)
    )
    assert found(health(silent, H1, PIP), "stub") == [at("2018-11-16 21:00")], "without ticks the range tells"


def test_rows_put_aside_are_counted_by_reason_and_shown() -> None:
    bars = walk()
    stub = bars[:1].with_columns(ts_utc=pl.lit(at("2018-11-16 22:00")), volume=pl.lit(1.0))
    cleaned = clean(pl.concat([bars, bars[5:6], bars[7:8].with_columns(pl.col("high") * 1.1), stub]), H1)
    report = health(cleaned.bars, H1, PIP, aside=cleaned.aside)
    assert {n: v for n, v in report.figures.items() if n.startswith("put_aside") and v} == {
        "put_aside_outside_week": 1,
        "put_aside_exact_repeat": 1,
        "put_aside_conflicting_repeat": 1,
    }
    assert report.figures["stub_bars_put_aside"] == 1
    versions = report.examples.filter(pl.col("kind") == "conflicting_repeat")["what"].to_list()
    assert len(versions) == 2
    assert sum(text.endswith("this one is the candle") for text in versions) == 1


def test_no_bars_and_one_bar_are_reported_without_a_word() -> None:
    for bars in (empty_bars(), walk().head(1)):
        report = health(bars, H1, PIP, aside=pl.DataFrame(schema=ASIDE_SCHEMA))
        assert report.figures["bars"] == bars.height
        assert report.examples.is_empty()
        assert not any(v for n, v in report.figures.items() if n != "bars")


def test_unlawful_terms_are_refused() -> None:
    with pytest.raises(BadInput, match="scales above 0"):
        HealthTerms(scales=0)
    with pytest.raises(BadInput, match=r"must lie in \(0, 1\)"):
        HealthTerms(reverted=1.0)


def test_the_spread_is_told_in_pips_where_ask_prices_are_known() -> None:
    bars = walk()
    assert spread_figures(bars, PIP) == {}
    ask = {f"ask_{c}": pl.col(c) + 0.00015 for c in PRICES}
    half = bars.with_columns(**ask).with_columns(ask_close=pl.when(pl.int_range(pl.len()) > 9).then("ask_close"))
    figures = spread_figures(half, PIP)
    assert figures["spread_median_pips"] == figures["spread_99_pips"] == pytest.approx(1.5)
    assert (figures["spread_bars"], figures["negative_spreads"]) == (bars.height - 10, 0)


# The real files and what their README says about them ----------------------------------------------------------------


def real(name: str) -> tuple[Cleaned, HealthReport, Timeframe]:
    frame = Timeframe.parse(name.split("_")[1])
    cleaned = clean(pl.read_parquet(DATA / f"{name}.parquet"), frame)
    pair = instrument(name.split("_")[0])
    return cleaned, health(cleaned.bars, frame, pair.pip, aside=cleaned.aside), frame


def cause_of(report: HealthReport, start: str) -> tuple[str, int]:
    row = report.holes.filter(pl.col("start_utc") == at(start)).row(0, named=True)
    return row["cause"], row["missing_bars"]


@needs_data
@pytest.mark.parametrize(
    ("pair", "missing", "holes", "flat_bars", "large", "may"),
    [
        ("EURUSD", 4156, 916, 6618, 0, 720),
        ("GBPUSD", 4645, 1193, 9742, 5, 720),
        ("USDJPY", 4726, 1914, 7484, 2, 179),
        ("AUDUSD", 7509, 3970, 12884, 12, 720),
        ("USDCAD", 9023, 5022, 9876, 7, 780),
    ],
)
def test_the_defects_of_the_minute_files_are_found(
    pair: str, missing: int, holes: int, flat_bars: int, large: int, may: int
) -> None:
    _, report, _ = real(f"{pair}_M1")
    told = report.figures
    assert (told["missing_bars"], told["holes"], told["flat_bars"], told["large_moves"]) == (
        missing,
        holes,
        flat_bars,
        large,
    )
    assert told["missing_holiday"] > 1440 + 800, "New Year and the rest of Christmas"
    spring = report.holes.filter(pl.col("start_utc") == at("2019-03-31 23:00"))
    assert spring.select("missing_bars", "cause").rows() == [(60, "provider")]
    whitsun = report.holes.filter(
        pl.col("start_utc").is_between(at("2019-05-26 20:00"), at("2019-05-27 09:00")) & (pl.col("missing_bars") > 100)
    )
    assert set(whitsun["cause"]) == {"provider"}
    assert whitsun["missing_bars"].sum() == may
    if pair in ("USDJPY", "USDCAD"):
        assert cause_of(report, "2019-03-10 21:00") == ("weekend", 60)


@needs_data
@pytest.mark.parametrize(
    ("pair", "outside"),
    [("AUDJPY", 19), ("AUDUSD", 26), ("EURGBP", 25), ("EURJPY", 19), ("GBPJPY", 20), ("GBPUSD", 21), ("USDCAD", 36)],
)
def test_the_defects_of_the_hourly_files_of_a_broker_are_found(pair: str, outside: int) -> None:
    cleaned, report, _ = real(f"{pair}_H1")
    told = report.figures
    assert (told["put_aside_conflicting_repeat"], told["put_aside_outside_week"]) == (2, outside)
    assert told["stub_bars_put_aside"] >= outside - 1, "one of them all may be more than a stub"
    versions = cleaned.aside.filter(pl.col("reason") == "conflicting_repeat").sort("ts_utc", "kept")
    assert versions.select("ts_utc", "kept").rows() == [
        (at(moment), kept) for moment in ("2013-06-05 21:00", "2013-06-26 21:00") for kept in (False, True)
    ]
    assert cause_of(report, "2017-11-02 14:00") == ("provider", 1)
    assert cause_of(report, "2013-06-13 21:00") == ("rollover", 1)
    assert told["missing_weekend"] == 127, "no Sunday bars up to 2014, and when summer times differ"
    long = report.holes.filter(pl.col("missing_bars") >= 24)
    assert set(long["cause"]) == {"holiday"}
    assert 24 <= long["missing_bars"].min() <= long["missing_bars"].max() <= 37


@needs_data
@pytest.mark.parametrize("pair", ["EURUSD", "NZDUSD"])
def test_the_defects_of_the_hourly_files_of_oanda_are_found(pair: str) -> None:
    _, report, _ = real(f"{pair}_H1")
    assert cause_of(report, "2016-12-11 22:00") == ("provider", 103)
    assert cause_of(report, "2018-12-24 22:00") == ("holiday", 50)
    assert cause_of(report, "2012-12-24 19:00") == ("holiday", 42)
    assert cause_of(report, "2012-12-31 19:00") == ("holiday", 34)
    assert cause_of(report, "2016-12-30 19:00") == ("holiday", 28)
    assert report.figures["longest_provider_hole_bars"] == 103


@needs_data
@pytest.mark.parametrize(("pair", "median"), [("EURUSD", 1.3), ("NZDUSD", 2.5)])
def test_the_spread_of_real_bid_and_ask_is_the_measured_one(pair: str, median: float) -> None:
    bid, ask = (pl.read_parquet(DATA / folder / f"{pair}_H1.parquet") for folder in ("", "ask"))
    both = bid.with_columns(ask[c].alias(f"ask_{c}") for c in PRICES)
    figures = spread_figures(clean(both, H1).bars, PIP)
    assert figures["spread_median_pips"] == pytest.approx(median, abs=0.05)
    assert figures["negative_spreads"] == 0
    if pair == "EURUSD":
        assert figures["spread_99_pips"] == pytest.approx(10.0, abs=0.1)


def test_a_stub_is_not_looked_for_where_it_cannot_be_told() -> None:
    quiet = walk("2018-11-01", "2018-11-20", Timeframe.M1).with_columns(volume=pl.lit(None, dtype=pl.Float64))
    assert health(flat(quiet, 0, quiet.height), Timeframe.M1, PIP).figures["stub_bars"] == 0
    assert health(walk(frame=Timeframe.D1), Timeframe.D1, PIP).figures["stub_bars"] == 0
