"""Ingestion from a source that answers like a provider, into real Delta tables: what is asked, kept and remembered."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forexgpt_core.adapters.lake import Lake
from forexgpt_core.candles.asking import HolePolicy, slices
from forexgpt_core.candles.ingest import Ingested, IngestTerms, Step, ingest
from forexgpt_core.candles.quality import QualityLimits
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import Source, SymbolSettings
from forexgpt_core.domain.bars import PRICES, SCHEMA, empty_bars
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.settings import load_settings

H1, MONTH = Timeframe.H1, timedelta(days=31)
START, NOW = datetime(2018, 1, 10, tzinfo=UTC), datetime(2018, 4, 12, 10, 30, tzinfo=UTC)


def history(seed: int = 0, first: str = "2018-01-10", last: str = "2018-05-01", frame: Timeframe = H1) -> pl.DataFrame:
    """Return a lawful random walk over every bar of the FX week."""
    opens = expected_opens(np.datetime64(first, "us"), np.datetime64(last, "us"), frame)
    rng = np.random.default_rng(seed)
    close = 1.2 * np.exp(np.cumsum(rng.normal(0, 3e-4, opens.size)))
    open_ = np.concatenate([[1.2], close[:-1]])
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"),
            "open": open_,
            "high": np.maximum(open_, close) * 1.0001,
            "low": np.minimum(open_, close) * 0.9999,
            "close": close,
            "volume": rng.integers(1, 99, opens.size).astype(float),
        },
        schema=SCHEMA,
    )


class Feed:
    """A provider of one history: answers ranges as the port demands, remembers what it was asked, may fail at one."""

    archive = False

    def __init__(self, bars: pl.DataFrame, chunk: timedelta | None = MONTH, fails_at: int | None = None) -> None:
        self.bars, self.chunk, self.fails_at = bars, chunk, fails_at
        self.asked: list[tuple[datetime | None, datetime | None]] = []

    def fetch(
        self, symbol: str, timeframe: Timeframe, *, since_utc: datetime | None, until_utc: datetime | None
    ) -> pl.DataFrame:
        if len(self.asked) == self.fails_at:
            raise BadInput("the line is cut")
        self.asked.append((since_utc, until_utc))
        inside = pl.lit(True)
        if since_utc is not None:
            inside &= pl.col("ts_utc") >= since_utc
        if until_utc is not None:
            inside &= pl.col("ts_utc") + timedelta(seconds=timeframe.seconds) <= until_utc
        return self.bars.filter(inside)


class Eager(Feed):
    """A provider that gives what it has from `since` on, whatever the end it was asked for."""

    def fetch(
        self, symbol: str, timeframe: Timeframe, *, since_utc: datetime | None, until_utc: datetime | None
    ) -> pl.DataFrame:
        super().fetch(symbol, timeframe, since_utc=since_utc, until_utc=until_utc)
        return self.bars if since_utc is None else self.bars.filter(pl.col("ts_utc") >= since_utc)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def run(lake: Lake, feed: Feed, *, now: datetime = NOW, frame: Timeframe = H1, **terms: object) -> Ingested:
    return ingest(feed, lake, "EURUSD", frame, IngestTerms(**{"start_utc": START, **terms}), now_utc=now)


def closed(bars: pl.DataFrame, now: datetime = NOW, frame: Timeframe = H1) -> pl.DataFrame:
    return bars.filter(pl.col("ts_utc") + timedelta(seconds=frame.seconds) <= now)


def test_an_empty_table_is_filled_month_by_month_from_the_start(lake: Lake) -> None:
    feed, steps = Feed(history()), list[Step]()
    done = ingest(feed, lake, "EURUSD", H1, IngestTerms(start_utc=START), now_utc=NOW, progress=steps.append)
    assert_frame_equal(lake.candles("EURUSD", H1), closed(feed.bars))
    assert [since for since, _ in feed.asked] == [START, *(datetime(2018, m, 1, tzinfo=UTC) for m in (2, 3, 4))]
    assert [(step.done, step.total) for step in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert (done.inserted, done.revised, done.version) == (closed(feed.bars).height, 0, 3)
    assert done.verdict.rows == done.fetched_rows == done.inserted


@pytest.mark.parametrize("frame", [Timeframe.H4, Timeframe.D1, Timeframe.W1])
def test_bars_that_close_in_the_next_month_are_asked_for_once(lake: Lake, frame: Timeframe) -> None:
    feed = Feed(history(frame=frame))
    done = run(lake, feed, frame=frame)
    opens = feed.bars.filter(pl.col("ts_utc") >= START)
    assert_frame_equal(lake.candles("EURUSD", frame), closed(opens, frame=frame))
    assert done.fetched_rows == done.inserted


def test_a_later_run_asks_from_the_newest_bar_on_and_an_idle_one_makes_no_version(lake: Lake) -> None:
    feed = Feed(history())
    first = run(lake, feed)
    feed.asked.clear()
    later = NOW + timedelta(hours=3)
    done = run(lake, feed, now=later)
    assert feed.asked == [(datetime(2018, 4, 12, 9, tzinfo=UTC), later)]
    assert (done.inserted, done.fetched_rows) == (3, 4)
    assert run(lake, feed, now=later).version == done.version == (first.version or 0) + 1
    assert_frame_equal(lake.candles("EURUSD", H1), closed(feed.bars, later))


def test_a_revised_bar_replaces_the_old_one_is_counted_and_the_old_one_stays_readable(lake: Lake) -> None:
    feed = Feed(history())
    before = run(lake, feed)
    old = lake.candles("EURUSD", H1)
    last = pl.col("ts_utc") == old["ts_utc"][-1]
    feed.bars = feed.bars.with_columns(high=pl.when(last).then(pl.col("high") * 1.001).otherwise("high"))
    done = run(lake, feed)
    assert (done.inserted, done.revised) == (0, 1)
    assert lake.candles("EURUSD", H1)["high"][-1] == pytest.approx(old["high"][-1] * 1.001)
    assert_frame_equal(lake.candles("EURUSD", H1, version=before.version), old)


def test_a_cut_download_keeps_its_pieces_and_goes_on_from_there(lake: Lake) -> None:
    feed = Feed(history(), fails_at=2)
    with pytest.raises(BadInput, match="the line is cut"):
        run(lake, feed)
    assert lake.candles("EURUSD", H1)["ts_utc"][-1] < datetime(2018, 3, 1, tzinfo=UTC)
    feed.fails_at = None
    feed.asked.clear()
    run(lake, feed)
    assert feed.asked[0][0] == datetime(2018, 2, 28, 23, tzinfo=UTC)
    assert_frame_equal(lake.candles("EURUSD", H1), closed(feed.bars))


def test_a_refused_piece_stops_with_one_line_and_keeps_the_pieces_before_it(lake: Lake) -> None:
    march = pl.col("ts_utc").is_between(datetime(2018, 3, 5, tzinfo=UTC), datetime(2018, 3, 20, tzinfo=UTC))
    feed = Feed(history().with_columns(low=pl.when(march).then(-1.0).otherwise("low")))
    done = run(lake, feed)
    assert not done.verdict.passed
    assert done.refusal is not None
    assert "\n" not in done.refusal
    assert done.refusal.startswith("the candles of EURUSD from 2018-03-01T00:00 to 2018-04-01T00:00 UTC refused, the")
    assert len(feed.asked) == 3
    stored = lake.candles("EURUSD", H1)
    assert_frame_equal(stored, feed.bars.filter(pl.col("ts_utc") < datetime(2018, 3, 1, tzinfo=UTC)))
    assert done.inserted == stored.height


def test_the_day_set_as_start_is_a_trading_day_whose_own_bar_is_fetched_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = Feed(history(first="2018-01-01", frame=Timeframe.D1))
    monkeypatch.setattr(Platform, "source", lambda self, settings: days)
    platform = Platform(load_settings({"FOREXGPT_HOME": str(tmp_path)}))
    pair = SymbolSettings(symbol="EURUSD", timeframe="D1", source=Source(kind="dukascopy", start="2018-01-31"))
    assert platform.ingest(pair, now_utc=NOW).verdict.passed
    assert platform.lake.candles("EURUSD", Timeframe.D1)["ts_utc"][0] == datetime(2018, 1, 30, 22, tzinfo=UTC)


def test_a_source_without_bars_is_not_ready(lake: Lake) -> None:
    with pytest.raises(NotReady, match="gave no bars"):
        run(lake, Feed(empty_bars()))


def test_after_a_cut_the_pieces_before_it_are_not_asked_about_again_for_their_holes(lake: Lake) -> None:
    leaky = history().filter(pl.int_range(pl.len()) % 60 != 7)
    feed = Feed(leaky, fails_at=2)
    with pytest.raises(BadInput, match="the line is cut"):
        run(lake, feed)
    feed.fails_at = None
    feed.asked.clear()
    assert run(lake, feed).hole_requests == 0
    assert min(since for since, _ in feed.asked if since) == datetime(2018, 2, 28, 23, tzinfo=UTC)


def test_a_provider_that_gives_everything_at_once_is_asked_once_about_all_holes(lake: Lake) -> None:
    whole = history()
    lake.merge_candles("EURUSD", H1, closed(whole.filter(pl.int_range(pl.len()) % 60 != 7)))
    done = run(lake, Feed(whole, chunk=None))
    assert (done.requests, done.hole_requests) == (2, 1)
    assert_frame_equal(lake.candles("EURUSD", H1), closed(whole))


@pytest.mark.parametrize("hours", [12, 100])
def test_a_long_hole_of_the_provider_does_not_keep_out_the_bars_after_it(lake: Lake, hours: int) -> None:
    feed = Feed(without(history(), YOUNG - timedelta(hours=hours), hours + 4))
    start = YOUNG - timedelta(hours=hours + 50)
    run(lake, feed, start_utc=start, now=start + timedelta(hours=30))
    done = run(lake, feed, start_utc=start)
    assert done.verdict.passed, done.refusal
    assert_frame_equal(lake.candles("EURUSD", H1), closed(feed.bars).filter(pl.col("ts_utc") >= start))
    assert "bars, " in done.verdict.warnings[0]
    assert "of those expected" in done.verdict.warnings[0]


def test_a_provider_that_serves_a_longer_timeframe_is_refused(lake: Lake) -> None:
    done = run(lake, Feed(history().gather_every(4)))
    assert [f.expectation for f in done.verdict.failures] == ["bars_connected"]


def test_bars_of_the_future_and_the_one_still_forming_are_never_merged(lake: Lake) -> None:
    whole = history()
    forming = closed(whole).height + 1
    done = run(lake, Eager(whole.head(forming), chunk=None))
    assert (done.dropped["unfinished"], done.quarantined) == (1, 1)
    assert_frame_equal(lake.candles("EURUSD", H1), closed(whole))
    refused = run(lake, Eager(whole))
    assert [f.expectation for f in refused.verdict.failures] == ["not_in_future"]
    assert_frame_equal(lake.candles("EURUSD", H1), closed(whole))


def test_a_day_in_another_unit_is_refused_also_where_it_comes_alone(lake: Lake) -> None:
    feed = Feed(history())
    run(lake, feed)
    before, day = lake.candles("EURUSD", H1), NOW - timedelta(hours=2)
    tenth = [pl.when(pl.col("ts_utc") >= day).then(pl.col(c) / 10).otherwise(pl.col(c)).alias(c) for c in PRICES]
    feed.bars = feed.bars.with_columns(tenth)
    done = run(lake, feed, now=NOW + timedelta(days=1))
    assert [f.expectation for f in done.verdict.failures] == ["near_stored"]
    assert_frame_equal(lake.candles("EURUSD", H1), before)


def without(bars: pl.DataFrame, first: datetime, hours: int) -> pl.DataFrame:
    return bars.filter(~pl.col("ts_utc").is_between(first, first + timedelta(hours=hours), closed="left"))


HOLE = datetime(2018, 2, 14, 9, tzinfo=UTC)
YOUNG = datetime(2018, 4, 12, 2, tzinfo=UTC)


def test_a_hole_that_the_provider_has_filled_since_is_filled_and_nothing_else_is_asked(lake: Lake) -> None:
    whole = history()
    lake.merge_candles("EURUSD", H1, closed(without(whole, HOLE, 5)))  # by whatever run, long ago
    feed = Feed(whole)
    done = run(lake, feed)
    assert feed.asked[1:] == [(HOLE, HOLE + timedelta(hours=5))]
    assert (done.filled, done.hole_requests, done.inserted) == (5, 1, 5)
    assert_frame_equal(lake.candles("EURUSD", H1), closed(whole))


def test_a_hole_the_provider_does_not_have_is_not_asked_about_again(lake: Lake) -> None:
    feed = Feed(without(history(), HOLE, 5))
    run(lake, feed)  # the download itself has asked about it
    for later in range(1, 4):
        feed.asked.clear()
        done = run(lake, feed, now=NOW + timedelta(hours=later))
        assert (len(feed.asked), done.hole_requests) == (1, 0)
    assert lake.asked_holes("EURUSD", H1)["start_utc"].to_list() == [HOLE]
    version = lake.version("asked_holes", "EURUSD", H1)
    run(lake, feed, now=NOW + timedelta(hours=4))
    assert lake.version("asked_holes", "EURUSD", H1) == version, "remembering nothing new writes nothing"


def test_a_young_hole_is_asked_about_again_when_it_is_a_day_and_a_week_old_and_then_left(lake: Lake) -> None:
    feed = Feed(without(history(), YOUNG, 3))
    run(lake, feed)
    asked = []
    for hours in (0, 6, 12, 24, 30, 48, 96, 168, 180, 400):
        feed.asked.clear()
        done = run(lake, feed, now=NOW + timedelta(hours=hours))
        asked += [hours] * done.hole_requests
    assert asked == [24, 168]
    row = lake.asked_holes("EURUSD", H1).filter(pl.col("start_utc") == YOUNG).row(0, named=True)
    assert row["asks"] == 3


def test_a_hole_filled_in_part_leaves_its_rest_as_known(lake: Lake) -> None:
    whole = history()
    lake.merge_candles("EURUSD", H1, closed(without(whole, HOLE, 9)))
    feed = Feed(without(whole, HOLE + timedelta(hours=4), 2))
    assert run(lake, feed).filled == 7
    feed.asked.clear()
    assert run(lake, feed).hole_requests == 0
    assert lake.asked_holes("EURUSD", H1).select("start_utc", "end_utc").rows() == [
        (HOLE + timedelta(hours=4), HOLE + timedelta(hours=6))
    ]


def test_an_earlier_start_is_a_hole_in_front_and_is_filled_piece_by_piece(lake: Lake) -> None:
    whole = history()
    lake.merge_candles("EURUSD", H1, closed(whole).filter(pl.col("ts_utc") >= datetime(2018, 3, 7, tzinfo=UTC)))
    feed = Feed(whole)
    done = run(lake, feed, holes=HolePolicy(requests=2))
    assert done.hole_requests == 2
    assert lake.candles("EURUSD", H1)["ts_utc"][0] == datetime(2018, 2, 1, tzinfo=UTC)
    run(lake, feed, holes=HolePolicy(requests=2))
    assert_frame_equal(lake.candles("EURUSD", H1), closed(whole))


def test_bars_held_back_stay_out_also_where_they_reach_into_the_month_before(lake: Lake) -> None:
    feed = Feed(history())
    run(lake, feed, hold_back_bars=300)
    assert_frame_equal(lake.candles("EURUSD", H1), closed(feed.bars).head(-300))
    run(lake, feed, hold_back_bars=300, now=NOW + timedelta(hours=2))
    assert_frame_equal(lake.candles("EURUSD", H1), closed(feed.bars, NOW + timedelta(hours=2)).head(-300))


def test_rows_that_are_no_candles_are_put_aside_once_however_often_they_come(lake: Lake) -> None:
    bars = history()
    other = bars[50:51].with_columns(pl.col("high") * 1.001)
    stub = bars[50:51].with_columns(ts_utc=pl.lit(datetime(2018, 1, 13, 12, tzinfo=UTC)).cast(SCHEMA["ts_utc"]))
    raw = pl.concat([bars, other, stub]).sort("ts_utc", maintain_order=True)
    limits = QualityLimits(repeat_share=0.01)
    first, second = (run(lake, Feed(raw), limits=limits, origin="a feed") for _ in range(2))
    assert first.dropped["conflicting_repeat"] == first.dropped["outside_week"] == 1
    assert (first.quarantined, second.quarantined) == (3, 0)
    aside = lake.quarantined("EURUSD", H1)
    assert aside.select("ts_utc", "reason", "kept").rows() == [
        (bars["ts_utc"][50], "conflicting_repeat", False),
        (bars["ts_utc"][50], "conflicting_repeat", True),
        (stub["ts_utc"][0], "outside_week", False),
    ]
    assert set(aside["source"]) == {"a feed"}
    assert set(aside["first_seen_utc"]) == {NOW}
    assert aside["high"][:2].to_list() == [other["high"][0], bars["high"][50]]


def test_a_provider_far_behind_is_refused_and_one_an_hour_behind_is_not(lake: Lake) -> None:
    minutes = history(frame=Timeframe.M1, first="2018-04-09", last="2018-04-13")
    late = minutes.filter(pl.col("ts_utc") < NOW - timedelta(hours=1))
    start = datetime(2018, 4, 9, tzinfo=UTC)
    assert run(lake, Feed(late), frame=Timeframe.M1, start_utc=start).verdict.passed
    stopped = Feed(history().filter(pl.col("ts_utc") < NOW - timedelta(days=2)))
    assert [f.expectation for f in run(lake, stopped).verdict.failures] == ["fresh"]


@pytest.mark.parametrize(("chunk", "count"), [(None, 1), (timedelta(days=7), 15), (timedelta(days=30), 4)])
def test_slices_cover_a_range_once_and_are_no_longer_than_a_chunk(chunk: timedelta | None, count: int) -> None:
    pieces = slices(np.datetime64("2018-01-10T05"), np.datetime64("2018-04-18T07"), chunk)
    assert len(pieces) == count
    assert pieces[0].start == np.datetime64("2018-01-10T05")
    assert pieces[-1].end == np.datetime64("2018-04-18T07")
    assert all(a.end == b.start for a, b in pairwise(pieces))


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=10)
def test_any_split_into_overlapping_shuffled_pieces_merged_in_any_order_gives_the_same_table(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng, whole = np.random.default_rng(seed), history(seed, last="2018-03-10")
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    cuts = np.sort(rng.integers(0, whole.height, 4))
    pieces = [
        whole[max(0, int(a) - int(rng.integers(0, 60))) : int(b) + int(rng.integers(0, 60))]
        for a, b in zip([0, *cuts], [*cuts, whole.height])
    ]
    for number in rng.permutation(np.concatenate([np.arange(5), rng.integers(0, 5, 2)])):
        lake.merge("EURUSD", H1, pieces[number].sample(fraction=1, shuffle=True, seed=1).sort("ts_utc"))
    assert_frame_equal(lake.candles("EURUSD", H1), whole)
