"""cTrader on the wire: message classes without Twisted, frames in pieces of any size, bars, refusals."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forexgpt_core.adapters.ctrader.bars import decode_bars, timeframe_of
from forexgpt_core.adapters.ctrader.errors import BrokenLine, Refusal, Remedy, refusal_in
from forexgpt_core.adapters.ctrader.frames import CAP, Envelope, FrameDecoder, encode, open_envelope
from forexgpt_core.adapters.ctrader.messages import schema, unknown_number
from forexgpt_core.domain.bars import SCHEMA
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import BadInput
from tests.simulators.ctrader_market import encode_bar
from tests.simulators.ctrader_server import frame, refusal

ROOT = Path(__file__).parents[1]
FEW = settings(deadline=None, max_examples=50)


def python(code: str, *options: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class TestMessages:
    def test_they_load_without_twisted_and_leave_the_package_importable(self) -> None:
        out = python(
            "import sys\n"
            "from forexgpt_core.adapters.ctrader.messages import schema\n"
            "ours = schema().classes['ProtoOATraderReq']\n"
            "print('twisted' in sys.modules, 'ctrader_open_api' in sys.modules)\n"
            "from importlib.util import find_spec\n"
            "if find_spec('twisted') is None:\n"
            "    raise SystemExit\n"
            "from ctrader_open_api import Protobuf\n"
            "print(type(Protobuf.get('ProtoOATraderReq')) is ours)\n"
        )
        assert out.split() in (["False", "False", "True"], ["False", "False"])

    def test_after_the_package_itself_was_imported_they_are_the_same_classes(self) -> None:
        pytest.importorskip("twisted", reason="cTrader's own client needs Twisted, which is optional")
        out = python(
            "from ctrader_open_api import Protobuf\n"
            "from forexgpt_core.adapters.ctrader.messages import schema\n"
            "print(type(Protobuf.get('ProtoOATraderReq')) is schema().classes['ProtoOATraderReq'])\n"
        )
        assert out == "True"

    def test_without_the_package_one_line_says_how_to_install_it(self) -> None:
        out = python(
            "from forexgpt_core.adapters.ctrader.messages import schema\n"
            "from forexgpt_core.errors import NotReady\n"
            "try:\n"
            "    schema()\n"
            "except NotReady as error:\n"
            "    print(error)\n",
            "-S",  # no site-packages, so nothing that pip installed
        )
        assert "ctrader-open-api, which is not installed: 'pip install --no-deps" in out
        assert "\n" not in out

    def test_payload_types_and_names_are_each_others_inverse(self) -> None:
        protocol = schema()
        assert len(protocol.by_type) > 80
        for number, known in protocol.by_type.items():
            assert protocol.payload_type(known.DESCRIPTOR.name) == number
        assert protocol.name_of(2106) == "ProtoOANewOrderReq"
        assert protocol.name_of(9999) == "9999"

    def test_a_number_in_an_unknown_field_is_read(self) -> None:
        name, payload = refusal("BLOCKED_PAYLOAD_TYPE", "slow down", 300)
        message = schema().classes[name].FromString(payload)
        assert unknown_number(message, 6) == 300
        assert unknown_number(message, 7) is None


class TestFrames:
    @FEW
    @given(
        bodies=st.lists(st.tuples(st.integers(1, 4000), st.binary(max_size=300), st.text("abc", max_size=9))),
        data=st.data(),
    )
    def test_a_stream_cut_anywhere_gives_the_same_frames(
        self, bodies: list[tuple[int, bytes, str]], data: st.DataObject
    ) -> None:
        sent = [Envelope(*body) for body in bodies]
        stream = b"".join(encode(envelope) for envelope in sent)
        assert stream == b"".join(frame(*body) for body in bodies), "as the simulator builds them by hand"
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
        decoder, received = FrameDecoder(), []
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            received += [open_envelope(body) for body in decoder.feed(stream[start:end])]
        assert received == sent

    @FEW
    @given(noise=st.binary(max_size=400))
    def test_noise_is_refused_or_held_back_and_never_understood_as_too_much(self, noise: bytes) -> None:
        decoder = FrameDecoder()
        try:
            bodies = list(decoder.feed(noise))
        except BrokenLine:
            return
        assert sum(4 + len(body) for body in bodies) <= len(noise)
        assert all(open_envelope(body) is None or isinstance(open_envelope(body), Envelope) for body in bodies)

    def test_the_length_is_big_endian(self) -> None:
        assert encode(Envelope(51, b"", ""))[:4] == b"\x00\x00\x00\x04"

    def test_an_announced_length_above_the_cap_breaks_the_line_at_once(self) -> None:
        with pytest.raises(BrokenLine, match="15,000,001 bytes; at most 15,000,000"):
            list(FrameDecoder().feed((CAP + 1).to_bytes(4, "big")))
        assert list(FrameDecoder().feed(CAP.to_bytes(4, "big"))) == []

    def test_a_message_above_the_cap_is_not_framed(self) -> None:
        with pytest.raises(BadInput, match="does not fit a frame"):
            encode(Envelope(2106, bytes(CAP), ""))


def bars_of(rows: list[tuple[int, ...]]) -> pl.DataFrame:
    """Candles of minutes, open, high, low, close in points and a volume, made without numpy or the codec."""
    table = [
        (datetime.fromtimestamp(minutes * 60, UTC), *(float(f"{p // 100_000}.{p % 100_000:05d}") for p in prices), vol)
        for minutes, *prices, vol in rows
    ]
    return pl.DataFrame(table, schema=SCHEMA, orient="row")


@st.composite
def wire_rows(draw: st.DrawFn) -> tuple[int, ...]:
    low = draw(st.integers(1, 30_000_000_000))
    opened, closed = (low + draw(st.integers(0, 5_000_000)) for _ in range(2))
    high = max(opened, closed) + draw(st.integers(0, 5_000_000))
    return (draw(st.integers(0, 60_000_000)), opened, high, low, closed, draw(st.integers(0, 2**40)))


class TestBars:
    @FEW
    @given(rows=st.lists(wire_rows(), max_size=30), period=st.sampled_from([None, 1, 12]))
    def test_what_the_server_encodes_is_decoded_to_the_same_candles(
        self, rows: list[tuple[int, ...]], period: int | None
    ) -> None:
        sent = [encode_bar(list(row), period).SerializeToString() for row in rows]
        received = [schema().classes["ProtoOATrendbar"].FromString(payload) for payload in sent]
        assert_frame_equal(decode_bars(received), bars_of(rows), check_exact=True)

    def test_prices_stand_above_the_low_whatever_the_digits(self) -> None:
        bar = schema().make(
            "ProtoOATrendbar", low=11_012_300, deltaOpen=1_200, deltaHigh=4_500, deltaClose=300, volume=42,
            utcTimestampInMinutes=25_000_000,
        )  # fmt: skip
        row = decode_bars([bar]).row(0, named=True)
        assert (row["open"], row["high"], row["low"], row["close"]) == (110.135, 110.168, 110.123, 110.126)
        assert row["volume"] == 42
        assert row["ts_utc"] == datetime.fromtimestamp(25_000_000 * 60, UTC)

    def test_a_delta_left_out_is_none_above_the_low(self) -> None:
        bar = schema().make("ProtoOATrendbar", low=100_000, volume=1, utcTimestampInMinutes=1)
        assert decode_bars([bar]).select("open", "high", "low", "close").row(0) == (1.0, 1.0, 1.0, 1.0)

    def test_an_impossible_bar_stays_as_it_is_for_the_quarantine(self) -> None:
        bar = schema().make("ProtoOATrendbar", low=100_000, deltaOpen=500, deltaHigh=100, volume=1)
        bar.utcTimestampInMinutes = 7
        row = decode_bars([bar]).row(0, named=True)
        assert row["open"] > row["high"]

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({}, "without its time"),
            ({"utcTimestampInMinutes": 1, "deltaOpen": 2**64 - 1}, "beyond 64 bits"),
            ({"utcTimestampInMinutes": 2**32 - 1}, "after the year 2100"),
        ],
    )
    def test_a_bar_that_cannot_be_read_refuses_the_answer(self, fields: dict[str, int], says: str) -> None:
        with pytest.raises(BadInput, match=says):
            decode_bars([schema().make("ProtoOATrendbar", volume=1, **fields)])

    def test_the_period_is_the_responses_because_the_bars_leave_theirs_unset(self) -> None:
        response = schema().make("ProtoOAGetTrendbarsRes", period=12, trendbar=[encode_bar([1, 5, 6, 4, 5, 1])])
        assert response.trendbar[0].period == 1
        assert timeframe_of(response) is Timeframe.D1
        with pytest.raises(BadInput, match="period 11; known: M1"):
            timeframe_of(schema().make("ProtoOAGetTrendbarsRes", period=11))


class TestRefusals:
    @pytest.mark.parametrize(
        ("code", "description", "remedy"),
        [
            ("BLOCKED_PAYLOAD_TYPE", "", Remedy.LATER),
            ("SERVER_IS_UNDER_MAINTENANCE", "", Remedy.LATER),
            ("CH_ACCESS_TOKEN_INVALID", "", Remedy.AUTHENTICATE),
            ("INVALID_REQUEST", "Trading account is Not Authorized", Remedy.AUTHENTICATE),
            ("INVALID_REQUEST", "no such field", Remedy.NOTHING),
            ("ALREADY_LOGGED_IN", "", Remedy.ALREADY),
            ("CH_CLIENT_AUTH_FAILURE", "", Remedy.HALT),
            ("MARKET_CLOSED", "", Remedy.SKIP_TRADE),
            ("POSITION_NOT_FOUND", "", Remedy.READ_STATE),
            ("INTERNAL_SERVER_ERROR", "a code outside every list", Remedy.READ_STATE),
        ],
    )
    def test_each_code_asks_for_its_remedy(self, code: str, description: str, remedy: Remedy) -> None:
        assert Refusal(code=code, description=description).remedy is remedy

    def test_all_four_carriers_are_read_and_a_filled_order_is_no_refusal(self) -> None:
        make = schema().make
        carriers = [
            make("ProtoOAErrorRes", errorCode="A"),
            make("ProtoErrorRes", errorCode="A"),
            make("ProtoOAOrderErrorEvent", errorCode="A", ctidTraderAccountId=1),
            make("ProtoOAExecutionEvent", errorCode="A", ctidTraderAccountId=1, executionType=7),
        ]
        assert [found.code for found in map(refusal_in, carriers) if found] == ["A"] * 4
        assert refusal_in(make("ProtoOAExecutionEvent", ctidTraderAccountId=1, executionType=3)) is None
        assert refusal_in(make("ProtoOATraderReq", ctidTraderAccountId=1)) is None

    def test_the_end_of_maintenance_comes_in_seconds_or_milliseconds_by_carrier(self) -> None:
        end = datetime(2026, 11, 28, 6, tzinfo=UTC)
        code, stamp = "SERVER_IS_UNDER_MAINTENANCE", int(end.timestamp())
        for message in (
            schema().make("ProtoOAErrorRes", errorCode=code, maintenanceEndTimestamp=stamp),
            schema().make("ProtoErrorRes", errorCode=code, maintenanceEndTimestamp=stamp * 1000),
        ):
            found = refusal_in(message)
            assert found is not None
            assert found.maintenance_end_utc == end
            assert "maintenance until 2026-11-28 06:00 UTC" in str(found)
        nonsense = refusal_in(schema().make("ProtoOAErrorRes", errorCode=code, maintenanceEndTimestamp=2**62))
        assert nonsense is not None
        assert nonsense.maintenance_end_utc is None
