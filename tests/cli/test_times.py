from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest

from teak_async._cli.times import FORMS, read_span, read_time

DAY, HOUR, MINUTE = 86400, 3600, 60


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> Iterator[datetime]:
    """A Wednesday afternoon in Paris."""
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    yield datetime(2026, 1, 28, 14, 30, 5, tzinfo=timezone(timedelta(hours=1)))
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        *("2026-01-31 18:00", "2026-01-31T18:00:00", "2026-01-31t18:00", " 2026-01-31  18:00 ", "20260131T180000"),
        *("2026-01-31T17:00Z", "2026-01-31 17:00 UTC", "2026-01-31 17:00 gmt", "2026-01-31T18:00+01:00"),
        *(
            "2026-01-31 18:00 +0100",
            "2026-01-31 12:00 -05",
            "31 Jan 2026 22:30 +05:30",
            "2026-01-31 18:00 Europe/Berlin",
            "2026-01-31 12:00 america/new_york",
        ),
        *("2026/01/31 18:00", "2026-1-31 18:00", "31.01.2026 18:00", "31.1.2026, 6 pm", "31 Jan 2026 18:00"),
        *(
            "January 31, 2026 at 6 p.m.",
            "jan 31st 2026 6:00pm",
            "2026-01-31 6 PM",
            "saturday 18:00",
            "Sat 6pm",
            "18:00 saturday",
        ),
        *("3 days, 3 hours and 29 minutes and 55 seconds", "3d3h29m55s", "in 75h 29min 55s", "+3d 3h 29m 55s"),
    ],
)
def test_one_time_in_many_words(text: str, now: datetime) -> None:
    """What a person writes for a time is that time."""
    assert read_time(text, now) == datetime(2026, 1, 31, 17, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        *(("2026-01-31", 72), ("31.01.2026", 72), ("20260131", 72), ("saturday", 72), ("tomorrow", 24), ("2026-W05-6", 72)),
        *(("18:00", 18), ("6pm", 18), ("6:30", 30.5), ("today 18:00", 18), ("today 6:00", 6), ("until 18:00", 18)),
        *(("tomorrow 6:30", 30.5), ("tomorrow at 6:30", 30.5), ("noon", 36), ("midnight", 24), ("24:00", 24), ("12am", 24)),
        *(("12 pm", 36), ("wednesday 14:00", 7 * 24 + 14), ("wed 18:00", 18), ("2026-01-31 24:00", 96), ("today noon", 12)),
    ],
)
def test_days_and_hours(text: str, hours: float, now: datetime) -> None:
    """A day without a time begins it, and a time without a day is the next one that the clock shows."""
    assert read_time(text, now) == datetime(2026, 1, 28, tzinfo=now.tzinfo) + timedelta(hours=hours)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("90 min", 90 * MINUTE),
        ("2h", 2 * HOUR),
        ("1.5 hours", 1.5 * HOUR),
        ("in 2 Days", 2 * DAY),
        ("1 week", 7 * DAY),
    ],
)
def test_spans(text: str, seconds: float, now: datetime) -> None:
    """A span begins now."""
    assert read_time(text, now) == now + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        *(("2026-01-27", 24), ("yesterday", 24), ("yesterday 18:00", 6), ("today", 0), ("today 6:30", -6.5), ("monday", 48)),
        *(("18:00", 6), ("6:30", -6.5), ("since noon", -12), ("midnight", 0), ("wednesday 18:00", 150), ("wed 6am", -6)),
        *(("saturday", 4 * 24), ("12:00 UTC", -13), ("23:00 Asia/Tokyo", 9)),
    ],
)
def test_the_past(text: str, hours: float, now: datetime) -> None:
    """Where a time is in the past, one without a day is the last that the clock showed."""
    assert read_time(text, now, past=True) == datetime(2026, 1, 28, tzinfo=now.tzinfo) - timedelta(hours=hours)


@pytest.mark.parametrize("text", ["2h30m", "2h30m ago", "since 2.5 hours", "150 min ago", "from 2h 30m ago"])
def test_spans_back(text: str, now: datetime) -> None:
    """Where a time is in the past, a span ends now."""
    assert read_time(text, now, past=True) == now - timedelta(hours=2.5)


def test_a_span() -> None:
    """Without a direction, and nothing else."""
    assert read_span("0") == timedelta()
    assert read_span("2h 30m") == timedelta(hours=2.5)
    for wrong in ("", "soon", "2026-01-31", "90", "-5m", "9" * 400 + "h"):
        with pytest.raises(ValueError, match="is no span of time; write 30s, 10m or 2h30m"):
            read_span(wrong)


@pytest.mark.parametrize(
    ("text", "past"), [("5 ago", True), ("2h ago", False), ("in 2h", True), ("ago", True), ("lately", True), ("18", True)]
)
def test_words_of_the_other_direction(text: str, past: bool, now: datetime) -> None:
    """The words of one direction are refused in the other, with the forms that it takes."""
    with pytest.raises(ValueError, match="time") as refused:
        read_time(text, now, past=past)
    assert ("2h30m ago" in str(refused.value)) is past


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *(
            ("", "'' cannot be read as a time"),
            ("soon", "'soon' cannot be read"),
            ("-2h", "'-2h'"),
            ("2 fortnights", "cannot be read"),
        ),
        *(
            ("90", "90 has no unit: write 90m for minutes, 90h for hours"),
            ("18.30", "18.30 has no unit"),
            ("1767225600", "has no unit"),
        ),
        *(("01/02/2026", "does the day or the month come first?"), ("1/2/26 18:00", "does the day or the month come first?")),
        *(
            ("2026-02-30", "day is out of range"),
            ("2026-13-01 18:00", "month must be in 1..12"),
            ("32 Jan 2026", "out of range"),
        ),
        *(
            ("25:00", "there is no such time of day"),
            ("18:60", "no such time of day"),
            ("24:01", "no such time of day"),
            ("13pm", "is from 1 to 12"),
            ("0am", "1 to 12"),
        ),
        *(
            ("18:00 PST", "cannot be read"),
            ("18:00 Mars/Base", "does not know the zone mars/base"),
            ("18:00 +25:00", "an offset is less than 24 hours"),
        ),
        *(
            ("today", "cannot be read"),
            ("31 Foo 2026", "cannot be read"),
            ("mo", "cannot be read"),
            ("2026-01-31 18:00 19:00", "cannot"),
        ),
        *(
            ("0001-01-01", "0001-01-01 00:00:00 is a time too far away"),
            ("999999999999 weeks", "too far away"),
            ("9" * 400 + "h", ""),
        ),
    ],
)
def test_what_cannot_be_read(text: str, said: str, now: datetime) -> None:
    """What is no time, or two, is refused with what can be read."""
    with pytest.raises(ValueError, match="time") as refused:
        read_time(text, now)
    assert said in str(refused.value)
    assert FORMS in str(refused.value) or "too far away" in str(refused.value)
