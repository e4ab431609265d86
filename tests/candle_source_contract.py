"""What every provider of candles owes, stated once: inherit it, give the fixture `source`, say what the source holds.

    from candle_source_contract import CandleSourceContract

    class TestMyProvider(CandleSourceContract):
        symbol, timeframe = "GBPUSD", Timeframe.M1

        @pytest.fixture
        def source(self) -> CandleSource:
            return MyProvider(...)

`tests` is on the path by `pythonpath` in pyproject.toml.
"""

from datetime import UTC, datetime, timedelta
from typing import ClassVar

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forexgpt_core.candles.cleaning import clean
from forexgpt_core.candles.provider_errors import ProviderError
from forexgpt_core.candles.quality import judge
from forexgpt_core.candles.source import CandleSource
from forexgpt_core.domain.bars import ASK_PRICES, SCHEMA
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import BadInput, UnknownName


class CandleSourceContract:
    """A provider inherits this and overrides `source`, and what of the following is not so.

    Attributes:
        symbol: a pair the source serves.
        timeframe: one it serves, with at least 100 bars between the next two.
        since_utc: where to look from; None for the beginning.
        until_utc: where to look to; None for the end.
        now_utc: what the source's clock shows; None for an archive.
        has_ask: whether ask prices are promised.
        any_symbol: whether the source cannot know which pair it holds, as a file cannot.
        lawful_share: how much of the bars survives cleaning at least.
    """

    symbol: ClassVar[str] = "EURUSD"
    timeframe: ClassVar[Timeframe] = Timeframe.H1
    since_utc: ClassVar[datetime | None] = None
    until_utc: ClassVar[datetime | None] = None
    now_utc: ClassVar[datetime | None] = None
    has_ask: ClassVar[bool] = False
    any_symbol: ClassVar[bool] = False
    lawful_share: ClassVar[float] = 0.99

    @pytest.fixture
    def source(self) -> CandleSource:
        raise NotImplementedError

    def ask(
        self, source: CandleSource, since_utc: datetime | None = None, until_utc: datetime | None = None
    ) -> pl.DataFrame:
        """Return what the source gives for a range, its own whole one by default."""
        since, until = since_utc or self.since_utc, until_utc or self.until_utc
        return source.fetch(self.symbol, self.timeframe, since_utc=since, until_utc=until)

    @property
    def length(self) -> timedelta:
        """Return the length of a bar."""
        return timedelta(seconds=self.timeframe.seconds)

    def test_bars_have_the_columns_of_the_schema_first_and_ask_where_promised(self, source: CandleSource) -> None:
        bars = self.ask(source)
        assert bars.height > 100
        assert list(bars.schema.items())[: len(SCHEMA)] == list(SCHEMA.items())
        asks = bars.columns[len(SCHEMA) :]
        assert asks == (list(ASK_PRICES) if self.has_ask else [])
        assert all(bars.schema[name] == pl.Float64() for name in asks)
        if self.has_ask:
            assert bars["ask_close"].null_count() < 0.1 * bars.height

    def test_it_says_whether_it_is_an_archive_and_how_much_to_ask_for_at_once(self, source: CandleSource) -> None:
        assert source.archive in (True, False)
        assert source.chunk is None or source.chunk > timedelta(0)

    def test_the_bars_pass_the_quality_suite_and_survive_cleaning(self, source: CandleSource) -> None:
        bars = self.ask(source)
        verdict = judge(bars, self.timeframe)
        assert verdict.passed, [failure.line for failure in verdict.failures]
        assert clean(bars, self.timeframe).bars.height >= self.lawful_share * bars.height

    def test_since_is_the_earliest_open_and_until_the_latest_close(self, source: CandleSource) -> None:
        bars = self.ask(source)
        since, last = bars["ts_utc"][20], bars["ts_utc"][40]
        assert_frame_equal(self.ask(source, since, last + self.length), bars[20:41])
        just_before = last + self.length - timedelta(seconds=1)
        assert_frame_equal(self.ask(source, since, just_before), bars[20:40])
        assert_frame_equal(self.ask(source, since + timedelta(seconds=1), last + self.length), bars[21:41])

    def test_parts_put_together_are_the_whole(self, source: CandleSource) -> None:
        bars = self.ask(source)
        for cut in (37, 64):
            a, b, c = bars["ts_utc"][10], bars["ts_utc"][cut], bars["ts_utc"][90] + self.length
            parts = [self.ask(source, a, b), self.ask(source, b, c)]
            assert_frame_equal(pl.concat(parts), self.ask(source, a, c))

    def test_a_range_without_bars_is_an_empty_table_of_the_same_columns(self, source: CandleSource) -> None:
        bars = self.ask(source)
        nothing = [
            source.fetch(self.symbol, self.timeframe, since_utc=datetime(2055, 1, 1, tzinfo=UTC), until_utc=None),
            self.ask(source, bars["ts_utc"][50], bars["ts_utc"][50]),
            self.ask(source, bars["ts_utc"][50], bars["ts_utc"][40]),
        ]
        for table in nothing:
            assert table.is_empty()
            assert table.schema == bars.schema

    def test_a_bar_still_forming_is_never_given(self, source: CandleSource) -> None:
        bars = self.ask(source)
        inside = bars["ts_utc"][60] + self.length / 2
        assert self.ask(source, None, inside)["ts_utc"].max() == bars["ts_utc"][59]
        if self.now_utc is not None:
            late = source.fetch(
                self.symbol, self.timeframe, since_utc=bars["ts_utc"][50], until_utc=self.now_utc + 9 * self.length
            )
            newest = source.fetch(self.symbol, self.timeframe, since_utc=bars["ts_utc"][50], until_utc=None)
            assert_frame_equal(late, newest)
            assert newest["ts_utc"].max() + self.length <= self.now_utc

    def test_asking_twice_gives_the_same(self, source: CandleSource) -> None:
        assert_frame_equal(self.ask(source), self.ask(source))

    def test_a_moment_without_a_zone_is_refused(self, source: CandleSource) -> None:
        for since, until in ((datetime(2018, 1, 1), None), (self.since_utc, datetime(2018, 1, 1))):
            with pytest.raises(BadInput, match="no time zone"):
                source.fetch(self.symbol, self.timeframe, since_utc=since, until_utc=until)

    def test_a_slash_in_the_pair_is_no_matter(self, source: CandleSource) -> None:
        bars = self.ask(source)
        range_ = {"since_utc": bars["ts_utc"][0], "until_utc": bars["ts_utc"][30]}
        for written in (f"{self.symbol[:3]}/{self.symbol[3:]}", self.symbol.lower()):
            assert_frame_equal(
                source.fetch(written, self.timeframe, **range_), source.fetch(self.symbol, self.timeframe, **range_)
            )

    def test_an_unknown_pair_is_refused(self, source: CandleSource) -> None:
        if self.any_symbol:
            return
        for unknown in ("ABCXYZ", "EUR"):
            with pytest.raises((UnknownName, ProviderError)) as refused:
                source.fetch(unknown, self.timeframe, since_utc=self.since_utc, until_utc=self.until_utc)
            assert "\n" not in str(refused.value)
