"""Candle history of a cTrader account: real candles through a simulated server come back bar for bar."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
from candle_source_contract import CandleSourceContract
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forexgpt_core.adapters.ctrader.errors import Refused
from forexgpt_core.adapters.ctrader.history import PAGE, CTraderHistory
from forexgpt_core.adapters.ctrader.transport import Timings
from forexgpt_core.candles.ranges import range_end, range_start
from forexgpt_core.candles.resampling import resample
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import Source, SymbolSettings
from forexgpt_core.domain.bars import PRICES, SCHEMA
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.errors import NotReady, UnknownName
from forexgpt_core.settings import CTraderSettings, load_settings
from tests.simulators.certificates import TestAuthority
from tests.simulators.clocks import JumpingClock
from tests.simulators.ctrader_limits import Quota
from tests.simulators.ctrader_market import TIDY, Habits, Listed, Market
from tests.simulators.ctrader_server import CTraderServer, Fault

FX = Path(__file__).parents[1].parent / "shared" / "data" / "fx"
BARS = "ProtoOAGetTrendbarsReq"
LATE = datetime(2019, 10, 5, 12, tzinfo=UTC)
HABITS = {
    "as live servers": Habits(),
    "as the documentation": TIDY,
    "end excluded": Habits(end_inclusive=False),
    "beginning bounds": Habits(from_bounds=True),
    "N bars": Habits(one_short=False),
    "period set": Habits(period_set=True),
    "no forming bar": Habits(forming_served=False),
    "honest about more": Habits(has_more=None),
    "never more": Habits(has_more=False),
    "timestamp set": Habits(timestamp_set=True),
    "short pages": Habits(at_most=701),
    "tiny pages": Habits(at_most=37, end_inclusive=False),
}


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def real(name: str, since: str, until: str) -> pl.DataFrame:
    """Real candles that open in [since, until); a source without volume gets the simulator's."""
    path = FX / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"real candles are not here: {path.name}")
    inside = pl.col("ts_utc").is_between(moment(since), moment(until), closed="left")
    bars = pl.scan_parquet(path).filter(inside).collect()
    return bars.with_columns(pl.col("volume").cast(pl.Float64).fill_null(7.0)).select(*SCHEMA).cast(SCHEMA)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def hours() -> pl.DataFrame:
    """Seven weeks of hours around a change of clocks, generated, so that these tests run anywhere."""
    opens = expected_opens(np.datetime64("2018-02-20"), np.datetime64("2018-04-09T23"), Timeframe.H1)
    rng = np.random.default_rng(5)
    opens = opens[rng.random(len(opens)) < 0.98]  # with holes
    steps = rng.integers(-80, 81, (4, len(opens)))
    opened, closed = 123_000 + np.cumsum(steps[0]), 123_000 + np.cumsum(steps[0]) + steps[1]
    high, low = np.maximum(opened, closed) + abs(steps[2]), np.minimum(opened, closed) - abs(steps[3])
    prices = {name: p / 100_000 for name, p in zip(PRICES, (opened, high, low, closed), strict=True)}
    ts = pl.Series(opens).dt.replace_time_zone("UTC")
    return pl.DataFrame({"ts_utc": ts, **prices, "volume": rng.integers(1, 9999, len(opens)) * 1.0}, schema=SCHEMA)


class Venue:
    """A simulated server with candles, and a source that reads them."""

    def __init__(
        self, authority: TestAuthority, bars: dict[str, pl.DataFrame], *, now: datetime = LATE, **options: Any
    ) -> None:
        self.clock = JumpingClock(now)
        habits = options.pop("habits", Habits())
        self.market = Market(bars={("EURUSD", frame): table for frame, table in bars.items()}, habits=habits)
        self.server = CTraderServer(authority.good, self.market, clock=self.clock, **options)
        self.authority = authority

    def source(self, **options: Any) -> CTraderHistory:
        access = self.server.access
        account = CTraderSettings(
            host="localhost", port=self.server.port, ca_file=self.authority.file, account_id=111,
            client_id=access.client_id, client_secret=access.client_secret, access_token=access.token,
        )  # fmt: skip
        return CTraderHistory(account, clock=self.clock, **options)

    def fetch(
        self, frame: str, since: datetime | None = None, until: datetime | None = None, symbol: str = "EURUSD"
    ) -> pl.DataFrame:
        source = self.source(timings=Timings(request_s=1.0))
        return source.fetch(symbol, Timeframe(frame), since_utc=since, until_utc=until)


class TestRealCandles:
    def test_minutes_come_back_bar_for_bar_over_many_pages(self, authority: TestAuthority) -> None:
        minutes = real("EURUSD_M1", "2019-05-20", "2019-06-03")  # with its hole of 12 hours on 26 and 27 May
        assert minutes.height > 2 * PAGE
        venue = Venue(authority, {"M1": minutes})
        with venue.server.in_thread():
            bars = venue.fetch("M1", moment("2019-05-20"), moment("2019-06-03"))
        assert_frame_equal(bars, minutes, check_exact=True)
        assert venue.server.refused == 0, "the request rates were kept"
        spans = [r.message.toTimestamp - r.message.fromTimestamp for r in venue.server.received if r.name == BARS]
        assert max(spans) <= 3_024_000_000

    def test_hours_and_days_come_back_over_a_change_of_clocks(self, authority: TestAuthority) -> None:
        hours = real("EURUSD_H1", "2018-02-20", "2018-04-10")
        higher = {frame: resample(hours, Timeframe.H1, Timeframe(frame)) for frame in ("H4", "D1", "W1")}
        venue = Venue(authority, {"H1": hours, **higher})
        with venue.server.in_thread():
            for frame, table in {"H1": hours, **higher}.items():
                assert_frame_equal(venue.fetch(frame), table, check_exact=True)
        opens = higher["D1"]["ts_utc"]
        assert set(opens.filter(opens < moment("2018-03-11")).dt.hour()) == {22}
        assert set(opens.filter(opens > moment("2018-03-11")).dt.hour()) == {21}
        assert set(higher["H4"]["ts_utc"].dt.hour()) == {2, 6, 10, 14, 18, 22, 1, 5, 9, 13, 17, 21}

    def test_a_history_from_its_beginning_ends_where_the_account_has_no_more(
        self, authority: TestAuthority, hours: pl.DataFrame
    ) -> None:
        for habits in (Habits(), TIDY):
            venue = Venue(authority, {"H1": hours}, now=moment("2018-06-01"), habits=habits)
            with venue.server.in_thread():
                assert_frame_equal(venue.fetch("H1"), hours, check_exact=True)
            assert venue.server.count(BARS) <= 6


class TestHabits:
    @pytest.mark.parametrize("name", HABITS)
    def test_whatever_the_server_does_with_a_range_the_same_bars_come_back(
        self, authority: TestAuthority, hours: pl.DataFrame, name: str
    ) -> None:
        since, until = moment("2018-03-01 05:00"), moment("2018-04-04 10:00")
        now = until + timedelta(minutes=17)  # within an hour that is still forming
        wanted = hours.filter(pl.col("ts_utc").is_between(since, until - timedelta(hours=1)))
        venue = Venue(authority, {"H1": hours}, now=now, habits=HABITS[name])
        with venue.server.in_thread():
            assert_frame_equal(venue.fetch("H1", since), wanted, check_exact=True)
            assert_frame_equal(venue.fetch("H1", since, until), wanted, check_exact=True)

    @settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_any_habits_and_any_range_give_the_bars_of_that_range(
        self, authority: TestAuthority, hours: pl.DataFrame, data: st.DataObject
    ) -> None:
        flags = ("end_inclusive", "from_bounds", "one_short", "period_set", "forming_served", "timestamp_set")
        habits = Habits(**{flag: data.draw(st.booleans(), flag) for flag in flags})
        habits = replace(habits, at_most=data.draw(st.integers(30, 600), "at_most"))
        table = hours.filter(
            pl.Series(data.draw(st.lists(st.booleans(), min_size=24, max_size=24)) * 100)[: len(hours)]
        )
        ends = sorted(data.draw(st.lists(st.integers(0, 40 * 24 * 60), min_size=2, max_size=2), "minutes"))
        since, until = (moment("2018-02-25") + timedelta(minutes=minutes) for minutes in ends)
        venue = Venue(authority, {"H1": table}, now=moment("2018-04-02 11:31"), habits=habits)
        with venue.server.in_thread():
            bars = venue.fetch("H1", since, until)
        last = min(until, venue.clock.now_utc() - timedelta(seconds=2)) - timedelta(hours=1)
        assert_frame_equal(
            bars, table.filter((pl.col("ts_utc") >= since) & (pl.col("ts_utc") <= last)), check_exact=True
        )

    def test_exact_repeats_between_pages_are_dropped_and_conflicting_bars_kept(
        self, authority: TestAuthority, hours: pl.DataFrame
    ) -> None:
        conflicting = hours[100].with_columns(volume=pl.lit(999.0))
        table = pl.concat([hours[:100], conflicting, hours[100:]])  # the server holds two bars of one time
        for at_most in (len(hours) - 100, len(hours) - 99, 14_000):  # the page's edge between, before, far from them
            venue = Venue(authority, {"H1": table}, habits=Habits(at_most=at_most))
            with venue.server.in_thread():
                assert_frame_equal(venue.fetch("H1"), table, check_exact=True)

    def test_an_answer_of_another_timeframe_is_refused(self, authority: TestAuthority, hours: pl.DataFrame) -> None:
        venue = Venue(authority, {"H1": hours})
        honest = venue.market.trendbars

        def confused(request: Any, now: datetime) -> bytes:
            return honest(request, now).replace(b"\x18\x09", b"\x18\x0a", 1)  # field 3: H4 instead of H1

        venue.market.trendbars = confused  # type: ignore[method-assign]
        with venue.server.in_thread(), pytest.raises(ValueError, match="asked for H1 bars and answered with H4 bars"):
            venue.fetch("H1", moment("2018-03-01"), moment("2018-03-02"))


class TestSource:
    """What every source of candles owes, asked of this one."""

    def test_the_range_holds_opens_from_since_and_closes_to_until(
        self, authority: TestAuthority, hours: pl.DataFrame
    ) -> None:
        venue = Venue(authority, {"H1": hours})
        with venue.server.in_thread():
            bars = venue.fetch("H1", moment("2018-03-06 10:00"), moment("2018-03-06 12:00"))
            assert list(bars["ts_utc"].dt.hour()) == [10, 11]
            bars = venue.fetch("H1", moment("2018-03-06 10:01"), moment("2018-03-06 11:59"))
            assert bars.is_empty()
            assert bars.schema == SCHEMA

    def test_ranges_compose(self, authority: TestAuthority, hours: pl.DataFrame) -> None:
        venue = Venue(authority, {"H1": hours})
        edges = [moment("2018-03-06"), moment("2018-03-08 07:00"), moment("2018-03-11"), moment("2018-03-13")]
        with venue.server.in_thread():
            parts = [venue.fetch("H1", *edge) for edge in pairwise(edges)]
            whole = venue.fetch("H1", edges[0], edges[-1])
        assert_frame_equal(pl.concat(parts), whole)
        assert whole.height > 100

    def test_a_bar_still_forming_or_just_closed_is_never_returned(
        self, authority: TestAuthority, hours: pl.DataFrame
    ) -> None:
        close = moment("2018-03-06 12:00")
        for after, newest in ((-1, 10), (0, 10), (1, 10), (2, 11), (30, 11)):
            venue = Venue(authority, {"H1": hours}, now=close + timedelta(seconds=after))
            with venue.server.in_thread():
                bars = venue.fetch("H1", moment("2018-03-06"), moment("2018-03-07"))
            assert bars["ts_utc"][-1].hour == newest

    def test_a_weekend_and_the_future_have_no_bars(self, authority: TestAuthority, hours: pl.DataFrame) -> None:
        venue = Venue(authority, {"H1": hours})
        with venue.server.in_thread():
            for since, until in (("2018-03-10", "2018-03-11"), ("2030-01-01", "2030-01-02"), ("2018-03-06",) * 2):
                bars = venue.fetch("H1", moment(since), moment(until))
                assert bars.is_empty()
                assert bars.schema == SCHEMA

    def test_a_symbol_with_a_slash_is_taken_and_an_unknown_one_refused(
        self, authority: TestAuthority, hours: pl.DataFrame
    ) -> None:
        venue = Venue(authority, {"H1": hours})
        venue.market.symbols.append(Listed(symbol_id=2, name="USDJPY", digits=3, pip_position=2))
        since, until = moment("2018-03-06"), moment("2018-03-07")
        with venue.server.in_thread():
            assert_frame_equal(venue.fetch("H1", since, until, "eur/usd"), venue.fetch("H1", since, until))
            for symbol, says in (("GBPUSD", "the account serves no symbol GBPUSD"), ("EUR", "not a currency pair")):
                with pytest.raises(UnknownName, match=says):
                    venue.fetch("H1", since, until, symbol)
            assert venue.fetch("H1", since, until, "USDJPY").is_empty(), "listed, without bars"

    def test_a_day_as_the_end_holds_that_trading_day_and_as_both_ends_one_bar(
        self, authority: TestAuthority, hours: pl.DataFrame
    ) -> None:
        days = resample(hours, Timeframe.H1, Timeframe.D1)
        venue = Venue(authority, {"D1": days})
        with venue.server.in_thread():
            for day, opens in (("2018-03-07", "2018-03-06 22:00"), ("2018-03-13", "2018-03-12 21:00")):
                bars = venue.fetch("D1", range_start(day), range_end(day, now_utc=LATE))
                assert bars["ts_utc"].to_list() == [moment(opens)]

    def test_it_also_works_inside_a_running_event_loop(self, authority: TestAuthority, hours: pl.DataFrame) -> None:
        venue = Venue(authority, {"H1": hours})

        async def inside() -> pl.DataFrame:
            return venue.fetch("H1", moment("2018-03-06"), moment("2018-03-07"))

        with venue.server.in_thread():
            assert asyncio.run(inside()).height == 24

    def test_the_platform_makes_it_for_a_pair_that_names_it(
        self, authority: TestAuthority, hours: pl.DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        platform = Platform(load_settings({"FOREXGPT_HOME": str(tmp_path)}))
        pair = SymbolSettings(symbol="EURUSD", source=Source(kind="ctrader"))
        for name in ("CLIENT_ID", "CLIENT_SECRET", "ACCESS_TOKEN", "ACCOUNT_ID"):
            monkeypatch.delenv(f"FOREXGPT_CTRADER_{name}", raising=False)
        with pytest.raises(NotReady, match=r"FOREXGPT_CTRADER_CLIENT_ID, .* are not set in the environment"):
            platform.source(pair)
        venue = Venue(authority, {"H1": hours})
        with venue.server.in_thread():
            access = venue.server.access
            values = {
                "HOST": "localhost", "PORT": str(venue.server.port), "CA_FILE": str(authority.file),
                "ACCOUNT_ID": "111",
                "CLIENT_ID": access.client_id, "CLIENT_SECRET": access.client_secret, "ACCESS_TOKEN": access.token,
            }  # fmt: skip
            for name, value in values.items():
                monkeypatch.setenv(f"FOREXGPT_CTRADER_{name}", value)
            source = platform.source(pair)
            bars = source.fetch("EURUSD", Timeframe.H1, since_utc=moment("2018-03-06"), until_utc=moment("2018-03-07"))
        assert bars.height == 24
        assert not source.archive
        assert source.chunk is not None


class TestContract(CandleSourceContract):
    since_utc: ClassVar[datetime | None] = moment("2018-02-20")
    until_utc: ClassVar[datetime | None] = moment("2018-03-21")
    now_utc: ClassVar[datetime | None] = moment("2018-04-06 11:30")

    @pytest.fixture
    def source(self, authority: TestAuthority, hours: pl.DataFrame) -> Iterator[CTraderHistory]:
        venue = Venue(authority, {"H1": hours}, now=self.now_utc or LATE, habits=Habits(at_most=150))
        with venue.server.in_thread():
            yield venue.source(timings=Timings(request_s=5.0))


class TestFaults:
    @pytest.mark.parametrize("kind", ["disconnect", "half", "garbage", "unreadable", "slow", "logged_out", "silence"])
    def test_a_fault_in_the_middle_of_a_download_changes_no_bar(
        self, authority: TestAuthority, hours: pl.DataFrame, kind: str
    ) -> None:
        venue = Venue(authority, {"H1": hours}, habits=Habits(at_most=200))
        venue.server.script(BARS, Fault(), Fault(kind=kind), Fault(), Fault(kind=kind))
        with venue.server.in_thread():
            assert_frame_equal(venue.fetch("H1", moment("2018-02-20")), hours, check_exact=True)

    def test_request_rates_and_a_drained_quota_are_waited_out(
        self, authority: TestAuthority, hours: pl.DataFrame
    ) -> None:
        quota = Quota(requests=12, window_s=60)
        venue = Venue(authority, {"H1": hours}, habits=Habits(at_most=60), quota=quota)
        with venue.server.in_thread():
            assert_frame_equal(venue.fetch("H1", moment("2018-02-20")), hours, check_exact=True)
        times = [r.at for r in venue.server.received if r.name == BARS]
        assert venue.server.refused > 0, "the quota was drained"
        assert max(sum(first <= at < first + 1 - 1e-9 for at in times) for first in times) <= 4
        assert venue.server.refused < len(times) / 2, "waits that grow waste few attempts"

    def test_a_refusal_says_which_bars_were_asked_for(self, authority: TestAuthority, hours: pl.DataFrame) -> None:
        venue = Venue(authority, {"H1": hours})
        venue.server.script(BARS, Fault(kind="error", code="INCORRECT_BOUNDARIES"))
        with (
            venue.server.in_thread(),
            pytest.raises(Refused, match="H1 bars of 2018-03-06 to 2018-03-07: INCORRECT_BOUNDARIES") as refused,
        ):
            venue.fetch("H1", moment("2018-03-06"), moment("2018-03-07"))
        assert "\n" not in str(refused.value)

    @pytest.mark.parametrize("profile", ["self-signed", "wrong-name", "expired"])
    def test_no_secret_goes_to_a_server_that_is_not_trusted(
        self, authority: TestAuthority, hours: pl.DataFrame, profile: str
    ) -> None:
        venue = Venue(authority, {"H1": hours})
        venue.server.tls = authority.server_context(profile)
        with venue.server.in_thread():
            with pytest.raises(Exception, match="not to be trusted") as refused:
                venue.fetch("H1", moment("2018-03-06"), moment("2018-03-07"))
            assert venue.server.plaintext == 0
        assert venue.server.access.token not in str(refused.value)
