"""Reads a time that an option names, as a person writes it.

- A time without a zone is in this machine's zone. A time without a day is the next such time, or the last one where the time
  is in the past.
- A date such as 01/02/2026 is an error, since it does not say whether the day or the month comes first.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

_DAY_FORMS = "write 2026-01-31 18:00, 2026-01-31T18:00+01:00, 2026-01-31 18:00 Europe/Berlin"
FORMS = f"{_DAY_FORMS}, tomorrow 6:30, 18:00, or 2h30m"
"""The forms of a time to come, as messages list them."""
PAST_FORMS = f"{_DAY_FORMS}, yesterday 6:30, 18:00, or 2h30m ago"
"""The forms of a time in the past."""

_SECONDS = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hr": 3600, "hour": 3600, "d": 86400}
_SECONDS |= {"day": 86400, "w": 604800, "week": 604800}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*(?:,|and\b)?\s*")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ZONE = re.compile(r"(?<=[\d\s])(z|utc|gmt)$|(?<=\s)([a-z_]+(?:/[a-z_+\-0-9]+)+)$|(?<=\d)\s*([+-]\d\d)(?::?(\d\d))?$")
_CLOCK = re.compile(
    r"(?:^|(?<=[\s,t]))(?:(\d{1,2}):(\d\d)(?::(\d\d)(?:\.\d+)?)?(?:\s*([ap])\.?m\.?)?|(\d{1,2})\s*([ap])\.?m\.?|(noon|midnight))(?=$|[\s,])"
)
_DATES = (
    re.compile(r"(?P<y>\d{4})[-/](?P<m>\d{1,2})[-/](?P<d>\d{1,2})"),
    re.compile(r"(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4})"),
    re.compile(r"(?P<d>\d{1,2})(?:st|nd|rd|th)?\s+(?P<name>[a-z]{3,9})\.?,?\s+(?P<y>\d{4})"),
    re.compile(r"(?P<name>[a-z]{3,9})\.?\s+(?P<d>\d{1,2})(?:st|nd|rd|th)?,?\s+(?P<y>\d{4})"),
)


def read_time(text: str, now: datetime, *, past: bool = False) -> datetime:
    """Read a time that a person wrote.

    Args:
        text: the person's words.
        now: the present, with this machine's zone.
        past: whether a span counts back from the present, and a time without a day is the last such time.

    Raises:
        ValueError: when the text is no time; the message lists the forms.
    """
    forms, before, after = (PAST_FORMS, "since|from|at|on", r"\s*\bago$") if past else (FORMS, r"in|at|on|until|by|\+", "$")
    words = re.sub(rf"^(?:{before})\s*(?=\S)", "", re.sub(after, "", " ".join(text.lower().split())))
    if words.replace(".", "", 1).isdigit() and len(words) != len("20260131"):
        raise ValueError(f"{words} has no unit: write {words}m for minutes, {words}h for hours; for a time, {forms}")
    written: object = text
    try:
        if (span := _read_span(words)) is not None:
            return now - span if past else now + span
        written = moment = _read_iso(text.strip()) or _read_words(words, now, past=past)
        return moment.astimezone() if moment.tzinfo is None else moment
    except _UnreadableError as problem:
        raise ValueError(f"{text!r} cannot be read as a time{problem}; {forms}") from None
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{written} is a time too far away for this machine") from None


def read_span(text: str) -> timedelta:
    """Read a span of time that a person wrote, such as 2h30m.

    Raises:
        ValueError: when the text is none.
    """
    try:
        span = timedelta() if text.strip() == "0" else _read_span(" ".join(text.lower().split()))
    except OverflowError:
        span = None
    if span is None:
        raise ValueError(f"{text!r} is no span of time; write 30s, 10m or 2h30m")
    return span


class _UnreadableError(Exception):
    """The text is no time. The message begins with a colon, or is empty."""


def _read_span(words: str) -> timedelta | None:
    seconds, end = 0.0, 0
    while match := _SPAN.match(words, end):
        unit = match[2] if match[2] in _SECONDS else match[2].removesuffix("s")
        if unit not in _SECONDS:
            return None
        seconds += float(match[1]) * _SECONDS[unit]
        end = match.end()
    return timedelta(seconds=seconds) if end and end == len(words) else None


def _read_iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _read_words(words: str, now: datetime, *, past: bool) -> datetime:
    words, zone = _take_zone(words)
    here = now if zone is None else now.astimezone(zone)
    words, clock = _take_clock(words)
    day, at = re.sub(r"(?:\bat|(?<=\d)t|[\s,])+$", "", words.strip(" ,")), clock or timedelta()
    midnight = datetime.combine(here.date(), time())
    weekday = next((place for place, name in enumerate(_DAYS) if len(day) > 2 and name.startswith(day)), None)
    if not day and clock is not None:
        written = _move(midnight + at, 1, here, past=past)
    elif day == "today" and (past or clock is not None):
        written = midnight + at
    elif day == "tomorrow":
        written = midnight + timedelta(days=1) + at
    elif day == "yesterday":
        written = midnight - timedelta(days=1) + at
    elif weekday is not None:
        written = _move(midnight + timedelta(days=(weekday - here.weekday()) % 7) + at, 7, here, past=past)
    else:
        written = _read_date(day) + at
    return written if zone is None else written.replace(tzinfo=zone)


def _move(written: datetime, days: int, here: datetime, *, past: bool) -> datetime:
    """Move a time that comes again after so many days to the other side of the present, if need be."""
    passed = written <= here.replace(tzinfo=None)
    return written + timedelta(days=days * ((not past and passed) - (past and not passed)))


def _take_zone(words: str) -> tuple[str, tzinfo | None]:
    match = _ZONE.search(words)
    if match is None:
        return words, None
    # The end of 2026-01-31 looks like an offset; only a time of day has one.
    if match[3] and ":" not in words[: match.start()] and not re.search(r"[ap]\.?m\.?$", words[: match.start()]):
        return words, None
    rest = words[: match.start()].rstrip()
    if match[1]:
        return rest, UTC
    if match[2]:
        names = ("/".join(part.capitalize() for part in match[2].split("/")), match[2])
        for name in (re.sub(r"_([a-z])", lambda found: "_" + found[1].upper(), names[0]), *names):
            try:
                return rest, ZoneInfo(name)
            except (OSError, ValueError, LookupError):
                continue
        raise _UnreadableError(f": this machine does not know the zone {match[2]}")
    offset = timedelta(hours=int(match[3]), minutes=int(match[3][0] + (match[4] or "0")))
    if abs(offset) >= timedelta(days=1):
        raise _UnreadableError(": an offset is less than 24 hours")
    return rest, timezone(offset)


def _take_clock(words: str) -> tuple[str, timedelta | None]:
    match = _CLOCK.search(words)
    if match is None:
        return words, None
    hours, minutes, seconds = int(match[1] or match[5] or 0), int(match[2] or 0), int(match[3] or 0)
    if match[7]:
        hours = 12 if match[7] == "noon" else 0
    elif half := match[4] or match[6]:
        if not 1 <= hours <= 12:
            raise _UnreadableError(": an hour before a.m. or p.m. is from 1 to 12")
        hours = hours % 12 + 12 * (half == "p")
    if hours > 24 or minutes > 59 or seconds > 59 or (hours == 24 and (minutes or seconds)):
        raise _UnreadableError(": there is no such time of day")
    return f"{words[: match.start()]} {words[match.end() :]}".strip(), timedelta(hours=hours, minutes=minutes, seconds=seconds)


def _read_date(day: str) -> datetime:
    for form in _DATES:
        if match := form.fullmatch(day):
            parts = match.groupdict()
            name = str(parts.get("name", ""))[:3]
            if name and name not in _MONTHS:
                break
            month = _MONTHS.index(name) + 1 if name else int(parts["m"])
            try:
                return datetime(int(parts["y"]), month, int(parts["d"]))  # noqa: DTZ001 - the caller adds the zone
            except ValueError as problem:
                raise _UnreadableError(f": {problem}") from None
    if re.fullmatch(r"\d{1,2}/\d{1,2}/\d{2,4}", day):
        raise _UnreadableError(": does the day or the month come first?")
    raise _UnreadableError
