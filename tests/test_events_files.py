"""Calendar files: what real exports look like, and what is refused in one line that names row, column and value."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.adapters.calendars.files import read_calendar
from forexgpt_core.adapters.source_files.refusal import BadFile
from forexgpt_core.domain.calendar_files import CalendarFile, CalendarOptions
from forexgpt_core.domain.figures import read_figures
from forexgpt_core.errors import BadInput

FOREX_FACTORY = """\
Title,Country,Date,Time,Impact,Forecast,Previous
Non-Farm Employment Change,USD,07-06-2018,8:30am,High,195K,"244K"
"German Factory Orders m/m",EUR,07-06-2018,2:00am,Low,1.1%,-1.6%
Bank Holiday,USD,07-04-2018,All Day,Holiday,,
OPEC Meetings,All,07-05-2018,Tentative,Medium,,
CPI y/y,CNY,07-13-2018,9:30pm,Medium,1.9%,1.8%
"""
META_TRADER = """\
<DATE>\t<TIME>\t<CURRENCY>\t<IMPORTANCE>\t<EVENT>\t<ACTUAL>\t<FORECAST>\t<PREVIOUS>
2018.07.06\t15:30\tUSD\tCALENDAR_IMPORTANCE_HIGH\tNonfarm Payrolls\t213 K\t195 K\t244 K
2018.07.06\t09:00\tEUR\t1\tIndustrial Production m/m\t2.6%\t0.3%\t-1.3%
"""
OWN = """\
scheduled_utc;currency;impact;title;actual;forecast;previous;announced_utc;released_utc;status
2018-07-06 12:30;USD;high;Payrolls;213000;195000;244000;2018-01-02T10:00Z;2018-07-06T12:30:05Z;scheduled
2018-07-12 12:30;USD;medium;CPI m/m;;0.2%;0.2%;;;cancelled
"""


def read(folder: Path, text: str, name: str = "week.csv", **options: str) -> CalendarFile:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return read_calendar(path, CalendarOptions(**options))


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def test_a_forexfactory_week(tmp_path: Path) -> None:
    found = read(tmp_path, FOREX_FACTORY, timezone="America/New_York")
    payrolls, orders, holiday, opec = found.entries
    assert (payrolls.scheduled_utc, payrolls.currency, payrolls.impact) == (utc(2018, 7, 6, 12, 30), "USD", "high")
    assert (payrolls.figures.forecast, payrolls.figures.previous, payrolls.figures.unit) == (195e3, 244e3, "")
    assert payrolls.figures.actual is None
    assert (orders.figures.forecast, orders.figures.unit) == (1.1, "%")
    assert (holiday.impact, holiday.timed, holiday.scheduled_utc) == ("holiday", False, utc(2018, 7, 4, 4))
    assert (opec.currency, opec.timed) == ("ALL", False)
    assert found.left_out == {"CNY": 1}
    assert (found.untimed, found.unreadable_figures) == (2, 0)


def test_a_metatrader_export(tmp_path: Path) -> None:
    payrolls, production = read(tmp_path, META_TRADER, timezone="Europe/Helsinki").entries
    assert (payrolls.scheduled_utc, payrolls.impact) == (utc(2018, 7, 6, 12, 30), "high")
    assert (payrolls.figures.actual, payrolls.figures.actual_text) == (213e3, "213 K")
    assert (production.impact, production.figures.actual) == ("low", 2.6)


def test_our_own_columns_say_what_was_known_when(tmp_path: Path) -> None:
    payrolls, prices = read(tmp_path, OWN).entries
    assert payrolls.announced_utc == utc(2018, 1, 2, 10)
    assert payrolls.released_utc == utc(2018, 7, 6, 12, 30, 5)
    assert (prices.cancelled, prices.announced_utc) == (True, None)


@pytest.mark.parametrize(
    ("date", "clock", "expected"),
    [
        ("2018-07-06", "12:30", utc(2018, 7, 6, 12, 30)),
        ("2018.07.06", "12:30:15", utc(2018, 7, 6, 12, 30, 15)),
        ("Jul 6, 2018", "12:30pm", utc(2018, 7, 6, 12, 30)),
        ("Fri Jul 6 2018", "12:30am", utc(2018, 7, 6, 0, 30)),
        ("6 July 2018", "1:05 PM", utc(2018, 7, 6, 13, 5)),
        ("20180706", "08:30-04:00", utc(2018, 7, 6, 12, 30)),
        ("13/07/2018", "12:30Z", utc(2018, 7, 13, 12, 30)),
        ("07/13/2018", "12:30Z", utc(2018, 7, 13, 12, 30)),
    ],
)
def test_dates_and_times_as_calendars_write_them(tmp_path: Path, date: str, clock: str, expected: datetime) -> None:
    text = f'Date,Time,Currency,Impact,Event\n"{date}",{clock},USD,high,x\n'
    zone = {} if "Z" in clock or "-" in clock else {"timezone": "UTC"}
    assert read(tmp_path, text, **zone).entries[0].scheduled_utc == expected


@pytest.mark.parametrize(
    ("word", "impact"),
    [
        ("High Impact Expected", "high"), ("red", "high"), ("3", "high"), ("***", "high"), ("★★★", "high"),
        ("Moderate Volatility Expected", "medium"), ("orange", "medium"), ("Medium", "medium"), ("**", "medium"),
        ("Low Impact Expected", "low"), ("yellow", "low"), ("*", "low"), ("NONE", "low"),
        ("Non-Economic", "holiday"), ("Bank Holiday", "holiday"),
    ],
)  # fmt: skip
def test_impact_is_spelled_in_many_ways(tmp_path: Path, word: str, impact: str) -> None:
    text = f"scheduled_utc,currency,impact,title\n2018-07-06 12:30,USD,{word},x\n"
    assert read(tmp_path, text).entries[0].impact == impact


def test_a_file_of_one_currency_and_impact_is_told_so(tmp_path: Path) -> None:
    entry = read(tmp_path, "datetime,event\n2018-06-13T18:00Z,FOMC\n", currency="USD", impact="high").entries[0]
    assert (entry.currency, entry.impact, entry.title) == ("USD", "high", "FOMC")
    with pytest.raises(BadInput, match="unknown currency 'XAU'; known: EUR"):
        CalendarOptions(currency="XAU")


GOOD = "2018-07-06,12:30,USD,high,x,1,2,3\n"
HEAD = "Date,Time,Currency,Impact,Event,Actual,Forecast,Previous\n"


@pytest.mark.parametrize(
    ("text", "zone", "message"),
    [
        (HEAD + GOOD, None, r"column 'Date Time': times have no time zone; pass --timezone NAME, e.g. UTC"),
        (HEAD + GOOD, "Mars/Base", r"unknown time zone 'Mars/Base'"),
        (HEAD + GOOD.replace("12:30", "12:30Z"), "Europe/London", r"leave out --timezone Europe/London"),
        (HEAD + GOOD * 2 + GOOD.replace("12:30", "noon"), "UTC", r"row 3, column 'Time', value 'noon'"),
        (HEAD + GOOD.replace("12:30", "13:30pm"), "UTC", r"row 1, column 'Time', value '13:30pm'"),
        (HEAD + GOOD.replace("2018-07-06", "Fri Jul 6"), "UTC", r"row 1, .* value 'Fri Jul 6': .* its year"),
        (HEAD + GOOD.replace("2018-07-06", "2018-02-30"), "UTC", r"value '2018-02-30'"),
        (HEAD + GOOD.replace("2018-07-06", ""), "UTC", r"row 1, column 'Date', value '': the date is missing"),
        (HEAD + GOOD.replace("2018-07-06", "01/02/2018"), "UTC", r"'01/02/2018': .*pass --dates dmy or --dates mdy"),
        (
            HEAD + GOOD.replace("2018-07-06", "13/02/2018") + GOOD.replace("2018-07-06", "02/13/2018"),
            "UTC",
            "some dates have the day first and others the month",
        ),
        (HEAD + GOOD.replace("USD", "USX"), "UTC", r"row 1, column 'Currency', value 'USX': .*did you mean USD\?"),
        (HEAD + GOOD.replace("high", "huge"), "UTC", r"row 1, column 'Impact', value 'huge': expected low"),
        (HEAD + GOOD.replace(",x,", ", ,"), "UTC", r"row 1, column 'Event', value '': the title is missing"),
        (HEAD + GOOD + "2018-07-06,12:30,USD\n", "UTC", r"row 2, .*has 3 fields, expected the 8 of the header"),
        (HEAD, "UTC", "there is a header and no event below it"),
        ("Date,Time,Currency,Impact\n", "UTC", "no event below it|no column for 'event' or 'title'"),
        ("Date,Time,Impact,Event\n2018-07-06,12:30,high,x\n", "UTC", "there is no column for 'currency'"),
        ("Date,Date,Currency,Impact,Event\na,b,USD,high,x\n", "UTC", "the column 'Date' stands there 2 times"),
        ("", "UTC", "the file is empty"),
        ("scheduled_utc,currency,impact,title\n2018-07-06 12:30,USD,high,x\n", "Asia/Tokyo", "leave out --timezone"),
        ("date,time,currency,impact,event\n2018-11-04,1:30am,USD,high,x\n", "America/New_York", "happened twice"),
        ("date,time,currency,impact,event\n2018-03-11,2:30am,USD,high,x\n", "America/New_York", "no such hour"),
        (OWN.replace("cancelled", "maybe"), None, r"row 2, column 'status', value 'maybe': expected scheduled or"),
        (OWN.replace("2018-01-02T10:00Z", "soon"), None, r"row 1, column 'announced_utc', value 'soon'"),
    ],
)  # fmt: skip
def test_a_bad_csv_is_refused_in_one_line(tmp_path: Path, text: str, zone: str | None, message: str) -> None:
    with pytest.raises(BadFile, match=message) as caught:
        read(tmp_path, text, **({} if zone is None else {"timezone": zone}))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("week.csv: ")


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"Date,Time\n\xff\xfe")
    with pytest.raises(BadFile, match=r"not UTF-8 text \(byte 10\)"):
        read_calendar(tmp_path / "x.csv")
    with pytest.raises(BadFile, match="there is no file"):
        read_calendar(tmp_path / "none.csv")


# ---- figures


@pytest.mark.parametrize(
    ("text", "number", "unit"),
    [
        ("213K", 213e3, ""), ("-0.3%", -0.3, "%"), ("−0.3 %", -0.3, "%"), ("+1.2M", 1.2e6, ""),
        ("$1,234.5B", 1.2345e12, ""),
        ("-€0.5bn", -5e8, ""), ("50.1", 50.1, ""), (".5%", 0.5, "%"), ("1,234", 1234.0, ""), ("0", 0.0, ""),
    ],
)  # fmt: skip
def test_figures_become_numbers(text: str, number: float, unit: str) -> None:
    found = read_figures(text, None, None)
    assert (found.actual, found.unit, found.unreadable) == (pytest.approx(number, rel=1e-15), unit, 0)


@pytest.mark.parametrize("text", ["0-0-9", "2.98|2.5", "1,2%", "about 3", "1.2.3", "12Q", "<0.1%"])
def test_what_is_no_number_stays_text_and_is_counted(text: str) -> None:
    found = read_figures(text, "1%", None)
    assert (found.actual, found.actual_text, found.unreadable) == (None, text, 1)


def test_a_figure_in_another_unit_is_never_compared() -> None:
    found = read_figures("0.2%", "5K", "-")
    assert (found.actual, found.forecast, found.forecast_text, found.previous_text) == (0.2, None, "5K", None)
    assert found.unreadable == 1


# ---- iCalendar

ZONE = """\
BEGIN:VTIMEZONE
TZID:Broker time
BEGIN:STANDARD
DTSTART:19701025T040000
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU
TZOFFSETFROM:+0300
TZOFFSETTO:+0200
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:19700329T030000
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU
TZOFFSETFROM:+0200
TZOFFSETTO:+0300
END:DAYLIGHT
END:VTIMEZONE
"""


def ics(*events: str, zone: str = "", method: str = "") -> str:
    body = "".join(f"BEGIN:VEVENT\n{event}\nEND:VEVENT\n" for event in events)
    return f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:test\n{method}{zone}{body}END:VCALENDAR\n".replace("\n", "\r\n")


def test_an_icalendar_file_with_every_kind_of_time(tmp_path: Path) -> None:
    text = ics(
        "UID:1\nDTSTART:20180706T123000Z\nDURATION:PT15M\nSUMMARY:USD: Non-Farm Employment\\, tot\n al [High]\n"
        "DESCRIPTION:Actual: 213K\\nForecast: 195K\\nPrevious: n/a\nCREATED:20180101T000000Z",
        "UID:2\nDTSTART;TZID=America/New_York:20180706T100000\nSUMMARY:Ivey PMI (CAD)\nPRIORITY:5",
        "UID:3\nDTSTART;TZID=Broker time:20180706T153000\nSUMMARY:Speech\nCATEGORIES:EUR,Low Impact Expected",
        "UID:4\nDTSTART;VALUE=DATE:20180704\nSUMMARY:USD Bank Holiday\nX-IMPACT:holiday",
        "UID:5\nSEQUENCE:2\nDTSTART:20180706T133000\nSUMMARY:Rate\nCATEGORIES:United Kingdom\n"
        "CATEGORIES:High\nSTATUS:CANCELLED",
        zone=ZONE,
    )
    found = read(tmp_path, text, "week.ics", timezone="Europe/London").entries
    assert [e.scheduled_utc for e in found] == [
        utc(2018, 7, 6, 12, 30),
        utc(2018, 7, 6, 14),
        utc(2018, 7, 6, 12, 30),
        utc(2018, 7, 3, 23),  # the day begins in London
        utc(2018, 7, 6, 12, 30),
    ]
    assert [e.title for e in found] == ["Non-Farm Employment, total", "Ivey PMI", "Speech", "Bank Holiday", "Rate"]
    assert [e.currency for e in found] == ["USD", "CAD", "EUR", "USD", "GBP"]
    assert [e.impact for e in found] == ["high", "medium", "low", "holiday", "high"]
    assert (found[0].figures.actual, found[0].figures.forecast, found[0].figures.previous) == (213e3, 195e3, None)
    assert found[0].announced_utc == utc(2018, 1, 1)
    assert [e.timed for e in found] == [True, True, True, False, True]
    assert (found[4].cancelled, found[4].sequence, found[4].uid) == (True, 2, "5")


def test_a_calendar_says_when_a_change_became_known(tmp_path: Path) -> None:
    event = "DTSTART:20180706T123000Z\nSUMMARY:USD x [High]\nCREATED:20180101T000000Z"
    changed = f"UID:2\n{event}\nSEQUENCE:1\nLAST-MODIFIED:20180501T000000Z"
    late = f"UID:3\n{event}".replace("20180101", "20190101").replace("123000", "133000")
    unclear = f"UID:4\n{event}\nSEQUENCE:1".replace("123000", "143000")
    told = [e.announced_utc for e in read(tmp_path, ics(f"UID:1\n{event}", changed, late, unclear), "a.ics").entries]
    assert told == [utc(2018, 1, 1), utc(2018, 5, 1), None, None]


def test_a_cancelling_calendar_cancels(tmp_path: Path) -> None:
    event = "UID:1\nDTSTART:20180706T123000Z\nSUMMARY:USD x [High]"
    assert read(tmp_path, ics(event, method="METHOD:CANCEL\n"), "a.ics").entries[0].cancelled


def test_a_calendar_without_currency_or_impact_is_told_them(tmp_path: Path) -> None:
    text = ics("UID:1\nDTSTART:20180706T123000Z\nSUMMARY:Employment Situation")
    entry = read(tmp_path, text, "bls.ics", currency="USD", impact="high").entries[0]
    assert (entry.currency, entry.impact, entry.title) == ("USD", "high", "Employment Situation")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("<html></html>", {}, "not readable as iCalendar"),
        (ics("UID:1\nDTSTART:20180706T123000Z\nSUMMARY:USD x [High]")[:-40], {}, "the calendar is cut off"),
        (ics(*["UID:1\nDTSTART:20180706T123000Z\nSUMMARY:USD x [High]"] * 2)[:-50], {}, "the calendar is cut off"),
        (ics("UID:1\nDTSTART:20180706T123000Z\nSUMMARY USD x [High]"), {}, "a line cannot be read"),
        (ics(), {}, "holds no VEVENT"),
        (ics("UID:1\nDTSTART:20180706T123000Z\nSUMMARY:x"), {}, "event 1 'x': names no currency; expected one of"),
        (ics("UID:1\nDTSTART:20180706T123000Z\nSUMMARY:USD x"), {}, "event 1 'USD x': names no impact"),
        (ics("UID:1\nSUMMARY:USD x [High]"), {}, r"column 'DTSTART': event 1 'USD x \[High\]': it has no DTSTART"),
        (ics("UID:1\nDTSTART:20180706T123000Z"), {}, "it has no SUMMARY"),
        (ics("UID:1\nDTSTART:2018nonsense\nSUMMARY:USD x [High]"), {}, "Expected datetime, date, or time"),
        (ics("UID:1\nDTSTART:20180706T123000\nSUMMARY:USD x [High]"), {}, "pass --timezone NAME"),
        (ics("UID:1\nDTSTART;TZID=No/Where:20180706T123000\nSUMMARY:USD x [High]"), {}, "'No/Where' is neither"),
        (
            ics("UID:1\nDTSTART;TZID=America/New_York:20181104T013000\nSUMMARY:USD x [High]"),
            {},
            "this hour happened twice in America/New_York",
        ),
        (
            ics("UID:1\nDTSTART;TZID=America/New_York:20180311T023000\nSUMMARY:USD x [High]"),
            {},
            "this hour never happened in America/New_York",
        ),
        (
            ics("UID:1\nDTSTART:20180706T123000Z\nSUMMARY:USD x [High]\nRRULE:FREQ=WEEKLY"),
            {},
            r"it repeats \(RRULE\), which is not read: export each occurrence",
        ),
        (
            ics("UID:1\nDTSTART:20180706T123000Z\nSUMMARY:USD x [High]"),
            {"timezone": "Asia/Tokyo"},
            "the times say their own zone: leave out --timezone Asia/Tokyo",
        ),
        (ics("UID:1\nDTSTART:20180706T123000Z\nSUMMARY:x [High]\nCATEGORIES:EUR,USD"), {}, "more than one currency"),
        (ics("UID:1\nSEQUENCE:x\nDTSTART:20180706T123000Z\nSUMMARY:USD x [High]"), {}, "SEQUENCE|whole number"),
    ],
)  # fmt: skip
def test_a_bad_icalendar_is_refused_in_one_line(
    tmp_path: Path, text: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(BadFile, match=message) as caught:
        read(tmp_path, text, "week.ics", **options)
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(noise=st.text(st.characters(codec="utf-8"), max_size=200))
def test_no_text_ends_in_anything_but_events_or_a_refusal(tmp_path_factory: pytest.TempPathFactory, noise: str) -> None:
    folder = tmp_path_factory.mktemp("noise")
    for name, text in (("a.csv", noise), ("b.csv", HEAD + GOOD + noise), ("c.ics", noise), ("d.ics", ics(noise))):
        refusal = None
        try:
            found = read(folder, text, name, timezone="UTC")
        except BadInput as error:
            refusal = str(error)
        assert found.entries if refusal is None else "\n" not in refusal
