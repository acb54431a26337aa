"""What a command shows while it runs, on standard error: a live line on a terminal, plain lines elsewhere.

Standard output is for results, so this module writes nothing there.
"""

from __future__ import annotations

import sys
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from teak_async._bulk.outcomes import BulkReport

if TYPE_CHECKING:
    from typing import Self

PLAIN_EVERY = 5.0
"""Seconds between two plain lines."""
LIVE_EVERY = 0.1
"""Seconds between two updates of the live line."""

RATE_WINDOW = 10.0
"""Seconds over which the rate is taken: long enough to be steady, short enough that an outage an hour ago does not spoil
the time to go."""


class RateEstimator:
    """How many rows a second were sent in the last seconds. Pure."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, int]] = deque([(0.0, 0)])

    def rate(self, elapsed: float, sent: int) -> float:
        """Take the count of rows sent in so many seconds; give the rows per second over about the last `RATE_WINDOW`."""
        counts = self._counts
        counts.append((elapsed, sent))
        while len(counts) > 2 and counts[1][0] <= elapsed - RATE_WINDOW:
            counts.popleft()
        began, before = counts[0]
        return (sent - before) / (elapsed - began) if elapsed > began else 0.0


class ProgressReporter:
    """Shows how far a run has come.

    Args:
        label: what is being done.
        limit: requests per second that the limit allows.
        total: rows, when known.
        quiet: show nothing.
    """

    def __init__(self, label: str, limit: int, total: int | None, *, quiet: bool = False) -> None:
        self._label = label
        self._limit = limit
        self._total = total
        self._quiet = quiet
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._estimator = RateEstimator()

    @property
    def every(self) -> float:
        """Seconds between two counts."""
        return LIVE_EVERY if self._bar is not None else PLAIN_EVERY

    def __enter__(self) -> Self:
        if not self._quiet and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}"),
                console=self._console,
                auto_refresh=False,
                expand=True,
            )
            self._task = self._bar.add_task(self._label, total=self._total, detail="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, report: BulkReport, retries: int = 0, trouble: Exception | None = None) -> None:
        """Show the present counts, and what keeps rows from being done."""
        if self._quiet:
            return
        rate = self._estimator.rate(report.elapsed, report.sent)
        detail = describe(report, self._limit, self._total, rate, retries)
        if trouble is not None:
            detail += f"; retrying: {trouble}"
        if self._bar is not None:
            self._bar.update(self._task, completed=report.total, detail=detail, refresh=True)
        else:
            of = "" if self._total is None else f" of {self._total:,}"
            self.say(f"{self._label}: {report.total:,}{of}, {detail}")

    def say(self, message: str) -> None:
        """Write a line between the counts."""
        if not self._quiet:
            self.insist(message)

    def insist(self, message: str) -> None:
        """Write a line also where progress is not shown."""
        self._console.print(Text(message))


def describe(report: BulkReport, limit: int, total: int | None, rate: float, retries: int = 0) -> str:
    """Put the rate beside the limit, the time to go, and what went wrong into words."""
    parts = [f"{rate:.0f}/s of {limit}/s"]
    if total is not None and rate > 0 and report.total < total:
        parts.append(f"{format_duration((total - report.total) / rate)} to go")
    parts += [f"{report.failed:,} failed", f"{report.in_doubt:,} in doubt"]
    parts += [f"{retries:,} retries"] if retries else []
    parts += [f"{report.skipped:,} skipped"] if report.skipped else []
    return ", ".join(parts)


def format_duration(seconds: float) -> str:
    """Write seconds as `1:02:03`, `2:03` or `0:03`."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
