"""Shows the progress of a command on standard error: a block on a terminal, plain lines elsewhere.

Standard output has the results, so this module writes nothing there.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.control import Control
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from teak_async._bulk.breaker import OutageSoFar
from teak_async._bulk.outcomes import BulkReport, Outcome
from teak_async._limits.bucket import Rate

from .counts import Counts
from .wrap import wrap

if TYPE_CHECKING:
    from typing import Self

PLAIN_EVERY = 5.0
"""Seconds between two plain lines."""
SAME_EVERY = 60.0
"""Seconds between two plain lines while the run waits, as in an outage."""
LIVE_EVERY = 0.1
"""Seconds between two updates of the block."""
BURST = 1.0
"""Seconds at the beginning of a run in which more than the rate may be sent."""
RATE_WINDOW = 10.0
"""Seconds over which the rate is averaged: enough for a steady figure."""
PAUSE = 5.0
"""Seconds without a call that make a pause, such as an outage. It says nothing about the rate after it."""


class RateEstimator:
    """Estimates the rows sent per second since the last pause, but for its first second, in which permits may burst. Pure."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, int]] = deque()
        self._sent = 0
        self._moved = 0.0
        self._steady = BURST

    def rate(self, elapsed: float, sent: int) -> float | None:
        """Return rows per second over about the last `RATE_WINDOW`; 0 in a pause, `None` until a second has been counted.

        Args:
            elapsed: seconds since the run began.
            sent: rows sent since then.
        """
        counts = self._counts
        if sent != self._sent:
            self._sent, self._moved = sent, elapsed
        elif elapsed - self._moved >= PAUSE:
            counts.clear()
            self._steady = elapsed + BURST
            return 0.0
        if elapsed >= self._steady:
            counts.append((elapsed, sent))
        while len(counts) > 2 and counts[1][0] <= elapsed - RATE_WINDOW:
            counts.popleft()
        if not counts or elapsed - counts[0][0] < BURST:
            return None
        began, before = counts[0]
        return (sent - before) / (elapsed - began)


class Outages:
    """Measures the outages of a run. Pure."""

    def __init__(self) -> None:
        self._present = self._past = 0.0

    @property
    def seconds(self) -> float:
        """How long all of them lasted, as far as they were followed."""
        return self._past + self._present

    def follow(self, outage: OutageSoFar | None) -> float | None:
        """Take in the present outage; when the server is back, return how long the last one was."""
        lasted, self._present = self._present, 0.0 if outage is None else outage.lasted
        if outage is not None or not lasted:
            return None
        self._past += lasted
        return lasted


class ProgressReporter:
    """Shows how far a run has come.

    Args:
        label: the command's name.
        limit: the limit, in requests per second, on each channel.
        total: calls of the input; `None` when that is not known.
        channels: the channels of the calls, where there are several.
        quiet: show nothing.
    """

    def __init__(self, label: str, limit: int, total: int | None, channels: Sequence[str] = (), *, quiet: bool = False) -> None:
        self._label = label
        self._limit = limit
        self._total = total
        self._quiet = quiet
        self._console = Console(file=sys.stderr, highlight=False)
        self._live: Live | None = None
        self._in_log = False
        self._said = -1, 0.0
        self._block: RenderableType = ""
        self._drawn: list[int] = []
        self._estimator = RateEstimator()
        self._channels = {channel: RateEstimator() for channel in channels if len(channels) > 1}
        self._sent: Counter[str] = Counter()

    @property
    def every(self) -> float:
        """Seconds between two updates."""
        return LIVE_EVERY if self._live is not None else PLAIN_EVERY

    def __enter__(self) -> Self:
        if not self._quiet and self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
            self._live.start()
        self._in_log = self._live is None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._in_log = False
        if self._live is not None:
            self._follow_resize()
            self._live.stop()

    def count(self, outcome: Outcome) -> None:
        """Count a call for the rate of its channel."""
        if self._channels and outcome.attempts:
            self._sent[str(getattr(outcome.request, "channel", ""))] += 1

    def show(self, report: BulkReport, retries: int = 0, notes: Sequence[str] = (), *, held: bool = False) -> None:
        """Show the counts, and notes on what holds the run up.

        Args:
            report: the counts so far.
            retries: attempts beyond the first of each call.
            notes: what holds the run up.
            held: whether the run ends or waits, so that its rate says nothing about the time to go.
        """
        if self._quiet:
            return
        rate = self._estimator.rate(report.elapsed, report.sent)
        rates = {name: channel.rate(report.elapsed, self._sent[name]) for name, channel in self._channels.items()}
        ended = report.total - report.not_sent
        count = f"{self._label}: {ended:,}" + ("" if self._total is None else f" of {self._total:,}")
        figures = describe(report, self._limit, self._total, rate, retries, channels=rates, held=held)
        if self._live is None:
            if not held or ended != self._said[0] or report.elapsed - self._said[1] >= SAME_EVERY:
                self._said = (ended, report.elapsed) if held else (-1, 0.0)
                self.say("; ".join([f"{count}, {figures}", *notes]))
            return
        # The bar has the width that the count leaves free.
        head = Table.grid(padding=(0, 1), expand=True)
        head.add_column(no_wrap=True)
        head.add_column(ratio=1)
        head.add_row(Text(count), ProgressBar(self._total, ended) if self._total else "")
        # One column stays free: a line as wide as the terminal may wrap.
        width = self._console.width - 1
        self._block = Constrain(Group(head, *(Text(wrap(line, width)) for line in (figures, *notes))), width)
        self._follow_resize()
        self._live.update(self._block, refresh=True)
        self._measure()

    def _follow_resize(self) -> None:
        """Erase the extra lines of a block that a terminal has wrapped, because it became narrower.

        rich erases as many lines as it has drawn.
        """
        width = self._console.width
        wrapped = sum((length - 1) // width for length in self._drawn if length)
        self._console.control(Control(*((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)) * wrapped))

    def _measure(self) -> None:
        """Note the lengths of the lines of the block, as they are drawn now."""
        lines = self._console.render_lines(self._block, pad=False)
        self._drawn = [sum(cell_len(segment.text) for segment in line) for line in lines]

    def say(self, message: str) -> None:
        """Write a line between the counts."""
        if not self._quiet:
            self.say_always(message)

    def say_always(self, message: str) -> None:
        """Write a line, even if progress is not shown. In a log, one between the counts begins with the time, as they do."""
        if self._in_log:
            message = f"{datetime.now(UTC):%H:%M:%SZ} {message}"
        self._follow_resize()
        if self._console.is_terminal:
            message = wrap(message, self._console.width - 1)
        self._console.print(Text(message), soft_wrap=True)
        if self._live is not None:
            self._measure()


def describe(
    report: BulkReport,
    limit: int,
    total: int | None,
    rate: float | None,
    retries: int = 0,
    *,
    channels: Mapping[str, float | None] = {},
    held: bool = False,
) -> str:
    """Put the rate beside the limit, the time to go, and the calls that went wrong, in this run or an earlier one, into words.

    With several channels each has its own rate: no sum of limits can be reached where a channel has fewer calls.
    """
    each = f" on each of {len(channels)} channels" if channels else ""
    if rate is None:
        parts = [f"at most {limit}/s{each}"]
    elif channels:
        parts = [*(f"{name} {channel or 0:.0f}/s" for name, channel in channels.items())]
        parts[-1] += f" of {limit}/s each"
    else:
        parts = [f"{rate:.0f}/s of {limit}/s"]
    ended = report.total - report.not_sent
    if total is not None and ended < total:
        if held or report.not_sent:
            parts.append(f"{total - ended:,} not sent")
        elif rate:
            parts.append(f"{format_duration((total - ended) / rate)} to go")
    counts = Counts.of_run(report, total)
    parts += [f"{counts.failed:,} failed", f"{counts.in_doubt:,} in doubt"]
    parts += [f"{retries:,} {'retry' if retries == 1 else 'retries'}"] if retries else []
    parts += [f"{report.skipped:,} finished before"] if report.skipped else []
    return ", ".join(parts)


def find_notes(
    rates: Iterable[Rate],
    trouble: Exception | None,
    last_failure: str = "",
    outage: OutageSoFar | None = None,
    *,
    stopping: bool = False,
    resumable: bool = False,
) -> list[str]:
    """Say what holds a run up, and why the last row failed.

    Args:
        rates: the rates of the session's buckets.
        trouble: why nothing is sent, or why the last retry was made; `None` for neither.
        last_failure: the reason of the last failed row; empty for none.
        outage: what the run does while the server is out; `None` while it is not.
        stopping: whether nothing new is sent any more, so not even a probe.
        resumable: whether the run has a journal, so that the command may be repeated.
    """
    notes = [f"paused for {rate.paused:.0f} s after a 429" for rate in rates if rate.paused > 0.5]
    notes += [
        f"another client uses this limit, and leaves {rate.left}/s of {rate.limit}/s"
        for rate in rates
        if rate.shared_with_others
    ]
    if outage is not None and not stopping:
        probe = f"the next probe is in {format_duration(outage.next_probe)}" if outage.next_probe > 0 else "probing now"
        ends = f"in {format_duration(outage.gives_up)}" if outage.gives_up > 0 else "after this probe"
        now = "if it is up by now, interrupt, and repeat the command" if resumable else "see whether it is up"
        notes.append(f"the server is out: {probe}; the run goes on when one succeeds, and gives up {ends}; {now}")
    notes += [] if trouble is None else [f"{'last attempt' if outage or stopping else 'retrying'}: {trouble}"]
    return notes + ([f"last failure: {last_failure}"] if last_failure else [])


def format_duration(seconds: float) -> str:
    """Write seconds as `1:02:03`, `2:03`, `0:03` or `under 1 s`."""
    if (whole := round(seconds)) < 1:
        return "under 1 s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
