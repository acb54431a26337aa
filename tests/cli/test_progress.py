from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from teak_async import BulkReport, Channel, Outcome, SetSubscription, State
from teak_async._bulk.breaker import OutageSoFar
from teak_async._cli import progress as module
from teak_async._cli.progress import (
    LIVE_EVERY,
    PLAIN_EVERY,
    RATE_WINDOW,
    ProgressReporter,
    RateEstimator,
    describe,
    find_notes,
    format_duration,
)
from teak_async._cli.wrap import wrap
from teak_async._limits.bucket import Rate
from teak_async.errors import Delivery


class Terminal(io.StringIO):
    """Standard error as a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error as a file."""
    return _stderr(monkeypatch, io.StringIO())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    return _stderr(monkeypatch, Terminal())


def _stderr(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> io.StringIO:
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=stream))
    return stream


def lines_of(log: io.StringIO) -> list[str]:
    """The lines of a log without the time with which each has to begin."""
    clocks, lines = zip(*(line.split(" ", 1) for line in log.getvalue().splitlines()), strict=True)
    assert all(re.fullmatch(r"\d\d:\d\d:\d\dZ", clock) for clock in clocks)
    return list(lines)


def report(total: int, *, failed: int = 0, in_doubt: int = 0, rate: float = 100.0) -> BulkReport:
    """A run so far."""
    return BulkReport(
        total=total,
        succeeded=total - failed - in_doubt,
        failed=failed,
        in_doubt=in_doubt,
        skipped=0,
        not_sent=0,
        failed_earlier=0,
        sent=total,
        elapsed=total / rate if rate else 0.0,
        rate=rate,
    )


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "under 1 s"),
        (0.6, "0:01"),
        (59.4, "0:59"),
        (59.6, "1:00"),
        (61, "1:01"),
        (3599.4, "59:59"),
        (3600, "1:00:00"),
        (363_723, "101:02:03"),
    ],
)
def test_clock(seconds: float, shown: str) -> None:
    """A time is shown as people write it, hours only where there are some."""
    assert format_duration(seconds) == shown


@pytest.mark.parametrize(
    ("so_far", "total", "shown"),
    [
        (report(100), 700, "100/s of 200/s, 0:06 to go, 0 failed, 0 in doubt"),
        (report(1_000_000, failed=1234, in_doubt=5678), None, "100/s of 200/s, 1,234 failed, 5,678 in doubt"),
        (report(700, rate=199.6), 700, "200/s of 200/s, 0 failed, 0 in doubt"),
        (report(0, rate=0.0), 700, "0/s of 200/s, 0 failed, 0 in doubt"),
    ],
)
def test_describe(so_far: BulkReport, total: int | None, shown: str) -> None:
    """The rate stands beside the limit, and the time to go is told where it can be known."""
    assert describe(so_far, 200, total, so_far.rate) == shown


def test_what_went_before_and_again_is_told() -> None:
    """Retries and rows of an earlier run are named where there are any; its failed rows are counted as those of the report."""
    before = attrs.evolve(report(100, failed=1), skipped=40, failed_earlier=12)
    said = "100/s of 200/s, 13 failed, 0 in doubt, 7 retries, 40 finished before"
    assert describe(before, 200, None, before.rate, 7) == said


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, "100/s of 200/s, 0:06 to go, 0 failed, 0 in doubt"),
        ({"held": True}, "100/s of 200/s, 590 not sent, 0 failed, 0 in doubt"),
        (
            {"channels": {"push": 60.0, "email": 39.6}},
            "push 60/s, email 40/s of 200/s each, 0:06 to go, 0 failed, 0 in doubt",
        ),
    ],
)
def test_rates(options: dict[str, Any], shown: str) -> None:
    """Each channel has its own rate beside its limit, and a run that ends or waits has no time to go."""
    assert describe(report(110), 200, 700, 100.0, **options) == shown


def test_what_a_deadline_left_is_no_progress() -> None:
    """Rows that were read and not sent belong to those that nobody has sent."""
    left = attrs.evolve(report(100), total=700, not_sent=600)
    assert describe(left, 200, 800, 100.0) == "100/s of 200/s, 700 not sent, 0 failed, 0 in doubt"


@pytest.mark.parametrize(
    ("outage", "said"),
    [
        (OutageSoFar(32.0, 540.0, 60.0), "the next probe is in 0:32; the run goes on when one succeeds, and gives up in 9:00;"),
        (OutageSoFar(0.0, -1.0, 601.0), "probing now; the run goes on when one succeeds, and gives up after this probe;"),
    ],
)
def test_an_outage_says_what_the_run_does(outage: OutageSoFar, said: str) -> None:
    """It names the next probe and the end; the reason stands by itself."""
    notes = find_notes([], ConnectionError("no connection"), outage=outage)
    assert notes == [f"the server is out: {said} see whether it is up", "last attempt: no connection"]
    with_journal = find_notes([], None, outage=outage, resumable=True)
    assert with_journal == [f"the server is out: {said} if it is up by now, interrupt, and repeat the command"]
    interrupted = find_notes([], ConnectionError("no connection"), outage=outage, stopping=True, resumable=True)
    assert interrupted == ["last attempt: no connection"]


def test_channels_are_counted(plain: io.StringIO) -> None:
    """Only calls that were attempted count for the rate of a channel."""
    with ProgressReporter("opt-out", 300, None, ["push", "email"]) as meter:
        for elapsed in (1, 3):
            for number in range(40):
                request = SetSubscription("p", State.OPT_OUT, channel=Channel.PUSH)
                meter.count(Outcome(number, request, None, None, Delivery.DONE, attempts=number % 2))
            meter.show(report(100 * elapsed))
    assert lines_of(plain)[-1] == "opt-out: 300, push 10/s, email 0/s of 300/s each, 0 failed, 0 in doubt"


@pytest.mark.parametrize(
    ("line", "wrapped"),
    [
        ("one two three four five six seven", "one two three four five\n  six seven"),
        (
            "      1,234 failed, first line 3: one two",
            "      1,234 failed,\n            first line\n            3: one two",
        ),
        ("add --resend-in-doubt-and-more to the command", "add\n  --resend-in-doubt-and-more\n  to the command"),
        ("    teak-async report run.db --failed failed.csv", "    teak-async report run.db --failed failed.csv"),
        ("  ▁▂▃▄  ▅▆▇█  ▁▂▃▄  ▅▆▇█", "  ▁▂▃▄  ▅▆▇█  ▁▂▃▄  ▅▆▇█"),
        ("short\nlines", "short\nlines"),
    ],
)
def test_lines_break_at_blanks(line: str, wrapped: str) -> None:
    """What follows is indented, an option stays whole, and so do a command to copy and a plot."""
    assert wrap(line, 24) == wrapped


def test_messages_are_wrapped_on_a_terminal(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with ProgressReporter("identify", 200, None) as meter:
        meter.say("left to do: 8,115 of 10,000 rows; to go on, repeat the command")
    assert "left to do: 8,115 of 10,000 rows; to go\n  on, repeat the command\n" in terminal.getvalue().replace("\r", "")


def test_trouble_is_named(plain: io.StringIO) -> None:
    """While rows are repeated, the reason stands beside the count."""
    with ProgressReporter("identify", 200, None) as meter:
        meter.show(report(0, rate=0.0), notes=find_notes([], ConnectionError("no connection"), "no such player"))
    shown = "identify: 0, at most 200/s, 0 failed, 0 in doubt; retrying: no connection; last failure: no such player"
    assert lines_of(plain) == [shown]


def test_plain_lines(plain: io.StringIO) -> None:
    """Where standard error is no terminal, each count is a line, and they come every few seconds."""
    with ProgressReporter("identify", 200, 2000) as meter:
        assert meter.every == PLAIN_EVERY
        for done in (500, 1000, 2000):
            meter.show(report(done))
    assert lines_of(plain) == [
        "identify: 500 of 2,000, at most 200/s, 0 failed, 0 in doubt",
        "identify: 1,000 of 2,000, 100/s of 200/s, 0:10 to go, 0 failed, 0 in doubt",
        "identify: 2,000 of 2,000, 100/s of 200/s, 0 failed, 0 in doubt",
    ]


def test_plain_line_of_unknown_length(plain: io.StringIO) -> None:
    """Where nobody knows how many rows come, no total is made up."""
    with ProgressReporter("status", 300, None) as meter:
        meter.show(report(7))
    assert lines_of(plain) == ["status: 7, at most 300/s, 0 failed, 0 in doubt"]


def test_plain_line_is_not_wrapped(plain: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line stays a line in a log, however narrow the log thinks it is, and brackets are no markup."""
    monkeypatch.setenv("COLUMNS", "20")
    message = "[bold]interrupted[/bold]: finishing what is on the wire"
    with ProgressReporter("status", 300, None) as meter:
        meter.say(message)
    assert lines_of(plain) == [message]


def test_live_block(terminal: io.StringIO) -> None:
    """On a terminal one block is drawn again and again, as often as eyes can follow."""
    with ProgressReporter("identify", 200, 2000) as meter:
        assert meter.every == LIVE_EVERY
        meter.show(report(110))
        meter.show(report(440, failed=1))
    drawn = terminal.getvalue()
    assert "\x1b[2K" in drawn
    assert "identify" in drawn
    assert "110 of 2,000" in drawn
    assert "440 of 2,000" in drawn
    assert "100/s of 200/s, 0:16 to go, 1 failed, 0 in doubt" in drawn


@pytest.mark.parametrize("width", [40, 80, 120])
def test_figures_fit_any_width(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """The figures are whole, no line is longer than the terminal is wide, and a note is broken at blanks."""
    monkeypatch.setenv("COLUMNS", str(width))
    rate = Rate(200, 65, 0, 0, 0, 3, 0.0, 2.0, shared_with_others=True, left=65, held=0)
    with ProgressReporter("identify", 200, 1_000_000) as meter:
        meter.show(report(123_456, failed=1_234), notes=find_notes([rate], None, "word " * 40))
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue().replace("\r", "\n")).splitlines()
    assert max(map(len, drawn)) <= width
    shown = " ".join(" ".join(drawn).split())
    assert re.search("identify: 123,456 of 1,000,000 [━╸]", shown)
    assert "at most 200/s, 1,234 failed, 0 in doubt" in shown
    assert "paused for 2 s after a 429" in shown
    assert "another client uses this limit" in shown


@pytest.mark.parametrize("then", ["show", "say", "end"])
@pytest.mark.parametrize(("width", "rows"), [(120, 3), (80, 5), (40, 7)])
def test_no_old_block_is_left_by_a_resize(terminal: io.StringIO, width: int, rows: int, then: str) -> None:
    """A terminal that becomes narrower breaks the block's lines in pieces; all of them are erased before anything else."""
    note = "x" * 100
    with ProgressReporter("identify", 200, 1_000_000) as meter:
        meter.show(report(123_456), notes=[note])
        before = len(terminal.getvalue())
        meter._console.width = width
        if then == "show":
            meter.show(report(123_457))
        elif then == "say":
            meter.say("interrupted")
    # The bar's line has 119 cells, the figures' 36, the note's 100.
    erased, _, _ = terminal.getvalue()[before:].partition("identify" if then != "say" else "interrupted")
    assert erased.count("\x1b[1A") == rows - 1
    assert erased.count("\x1b[2K") == rows


def test_live_line_gives_way(terminal: io.StringIO) -> None:
    """What is said during the live line stands as a line of its own, and the cursor comes back at the end."""
    with ProgressReporter("identify", 200, None) as meter:
        meter.show(report(1))
        meter.say("interrupted")
    assert "interrupted\n" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[?25h")


@pytest.mark.parametrize("stream", ["plain", "terminal"])
def test_quiet(stream: str, request: pytest.FixtureRequest) -> None:
    """A quiet meter shows nothing, on a terminal or off it."""
    shown: io.StringIO = request.getfixturevalue(stream)
    with ProgressReporter("identify", 200, 10, quiet=True) as meter:
        meter.show(report(5))
        meter.show(report(10))
    assert shown.getvalue() == ""


def test_nothing_on_standard_output(terminal: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output is for results alone."""
    with ProgressReporter("identify", 200, 10) as meter:
        meter.show(report(10))
    assert capsys.readouterr().out == ""
    assert terminal.getvalue()


@pytest.mark.parametrize("every", [LIVE_EVERY, PLAIN_EVERY])
def test_the_time_to_go_is_true_after_ten_seconds(every: float) -> None:
    """With a slow first second, and from the first figure after an outage on, the rate is within 5 % of what follows."""
    pace = RateEstimator()

    def ended(elapsed: float) -> int:
        outage = min(max(elapsed - 60, 0), 60)
        return int(198 * (elapsed - outage) - min(elapsed, 1) * 100)

    for step in range(1, int(200 / every)):
        elapsed = step * every
        rate = pace.rate(elapsed, ended(elapsed))
        if RATE_WINDOW + every <= elapsed < 60 or elapsed > 120 + RATE_WINDOW + every:
            assert rate == pytest.approx(198, rel=0.05)
        if elapsed > 120 and rate is not None and rate > 0:
            assert rate == pytest.approx(198, rel=0.05)  # the outage is no part of it
        if 60 + RATE_WINDOW + every < elapsed < 120:
            assert rate == 0


def test_the_rate_before_any_time_has_passed() -> None:
    """Without a second to go by there is no rate, and the burst of the first second is no part of it."""
    pace = RateEstimator()
    assert [pace.rate(0.0, 0), pace.rate(0.5, 300), pace.rate(1.0, 300), pace.rate(1.5, 350)] == [None] * 4
    assert pace.rate(2.0, 500) == 200


def test_a_log_is_spared_while_a_run_waits(plain: io.StringIO) -> None:
    """In an outage a line says so at once, then once a minute, and at once when a row ends."""
    with ProgressReporter("identify", 200, 2000) as meter:
        meter.show(report(100), held=False)
        for second in range(0, 130, 5):
            meter.show(attrs.evolve(report(100), elapsed=10.0 + second), held=True)
        meter.show(attrs.evolve(report(101), elapsed=141.0), held=True)
        meter.show(attrs.evolve(report(101), elapsed=146.0), held=False)
    assert len(lines_of(plain)) == 6
