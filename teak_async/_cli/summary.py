"""The text of a command at the start and the end of its run. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from attrs import frozen

from teak_async._bulk.outcomes import BulkReport

from .counts import Counts
from .files import free_name
from .progress import RATE_WINDOW, format_duration
from .wrap import COMMAND

NO_JOURNAL = "no journal: after an interruption only the results tell which rows were sent (--journal FILE keeps one)"


def opening(title: str, server: str, game_id: str, description: str, journal: Path | None, *, resumed: bool = False) -> str:
    """Return the first line of a run: command and channels, game, server, input and journal."""
    kept = NO_JOURNAL if journal is None else f"journal {journal}" + (", which goes on" if resumed else "")
    return f"{title} for game {game_id} at {server}; {description}; {kept}"


def on_channels(channels: Sequence[str]) -> str:
    """Return the words that follow a command's name: ` on push and email`, or nothing where there are no channels."""
    *others, last = channels or ("",)
    return f" on {', '.join(others)}{' and ' if others else ''}{last}" if last else ""


@frozen
class RunEnd:
    """A run that has ended, or broken off.

    Attributes:
        report: the counts of the run.
        total: calls of the input; `None` if they were not counted.
        title: the command with its channels, where calls have some.
        rows: rows of the input, where a row may be several calls and all were read.
        earlier: the calls in doubt that an earlier run left so.
        kept: what the journal of a resumed run has; `None` for a run that did not resume another.
        journal: the run's journal; `None` for none.
        interrupted: whether a signal ended the run.
        unwritten: results that were not written.
        waited: seconds of outages.
        partial: lines on rows without a value for some channel, where all rows were read.
        not_found: removals of this run that succeeded, since nothing was there to remove.
        identify: whether the calls are identifies.
        unit: `row`, or `call` where a row may be several.
    """

    report: BulkReport
    total: int | None = None
    title: str = ""
    rows: int | None = None
    earlier: int = 0
    kept: Counts | None = None
    journal: Path | None = None
    interrupted: bool = False
    unwritten: int = 0
    waited: float = 0.0
    partial: Sequence[str] = ()
    not_found: int = 0
    identify: bool = False
    unit: str = "row"

    @property
    def counts(self) -> Counts:
        """The calls of the input by how they ended, in this run or an earlier one."""
        return self.kept or Counts.of_run(self.report, self.total)

    @property
    def selected(self) -> Counts:
        """The calls of the part of the input that the run was asked for."""
        # A resumed run may have ended before it had read all that an earlier one sent. A journal may have other parts, too.
        return Counts.of_run(self.report, self.total) if self.kept is None or self.kept.total is None else self.kept

    @property
    def left(self) -> int | None:
        """Calls that the next run sends; `None` if the total is not known."""
        return self.selected.left(identify=self.identify)

    def summary(self) -> list[str]:
        """Return the line that counts how the input's calls ended; of a resumed run, one line for the run and one for all."""
        report, counts = self.report, self.counts
        began = ("interrupted: " if self.interrupted else "") + (f"{self.title}: " if self.title else "")
        rows = "" if self.rows is None else f"{count_rows(self.rows)}, "
        read = " read" if self.kept is None and self.total is None else ""  # and nobody knows how many there are
        whole = f"{rows}{count_rows(counts.known, self.unit)}{read}: {counts.describe()}"
        kept = " (the journal has them)" if self.journal else ""
        lost = f"; results not written: {self.unwritten:,}{kept}" if self.unwritten else ""
        together = " on all channels together" if self.unit == "call" else ""
        # Permits may burst in the first second, so a short run has no rate.
        worked = report.elapsed - self.waited
        rate = f" ({report.sent / worked:.1f}/s at work{together})" if worked >= RATE_WINDOW else ""
        out = f", {format_duration(self.waited)} of it in outages" if self.waited else ""
        took = f"in {format_duration(report.elapsed)}{out}{rate}{lost}"
        if self.kept is None:
            return [f"{began}{whole}, {took}"]
        doubt = report.in_doubt - self.earlier
        ended = count_rows(report.succeeded + report.failed + doubt, self.unit)
        return [
            f"{began}this run: {ended}: {report.succeeded:,} succeeded, {report.failed:,} failed, {doubt:,} in doubt, {took}",
            f"the journal, of all runs: {whole}",
        ]

    def closing(self, reasons: Iterable[str], *, ended_early: bool = False) -> list[str]:
        """Return the lines on rows that lack a channel, why calls did not succeed, what is left to do, and how to go on.

        Args:
            reasons: a line for each reason.
            ended_early: whether a signal or failures ended the run.
        """
        lines, counts, left = [*(f"  {line}" for line in self.partial), *reasons], self.counts, self.left
        if self.not_found:
            lines.append(f"of those that succeeded, {self.not_found:,} had nothing to remove: Teak knows no such player")
        if left or (left is None and (ended_early or self.report.not_sent)):
            lines.append(left_to_do(self.selected, left, self.unit, resume_hint(self.journal)))
        if counts.failed:
            lines += retry_hint(self.journal, self.unit)
        if counts.in_doubt and self.identify:
            lines += [doubt_hint(self.journal), *list_doubts(self.journal)]
        if self.journal is not None and (lines or self.kept is not None):
            lines += ["what the journal has of all runs:", f"{COMMAND}teak-async report {shlex.quote(str(self.journal))}"]
        return lines


def count_rows(count: int, unit: str = "row") -> str:
    """Return a number of rows, or of their calls, in words."""
    return f"{count:,} {unit}{'' if count == 1 else 's'}"


def left_to_do(counts: Counts, left: int | None, unit: str, how: str) -> str:
    """Return the line on what the next run sends, with how to go on.

    Args:
        counts: the calls of the input.
        left: how many the next run sends; `None` if the length of the input is not known.
        unit: `row`, or `call` where a row may be several.
        how: how to go on.
    """
    if left is None:
        unsent = f"{count_rows(counts.not_sent, unit)} and " if counts.not_sent else ""
        return f"left to do: {unsent}the rows that were not read; {how}"
    parts = f" ({counts.not_sent:,} not sent, {counts.in_doubt:,} in doubt)" if left != counts.not_sent else ""
    return f"left to do: {left:,} of {count_rows(counts.total or 0, unit)}{parts}; {how}"


def doubt_hint(journal: Path | None, *, by_program: bool = False) -> str:
    """Return what to do about sessions in doubt."""
    again = "repeat the command with --resend-in-doubt" if journal is not None else "run their lines by themselves"
    again = "make the run again with resend_in_doubt=True" if by_program else again
    return f"sessions in doubt may be recorded or not: leave them, or {again}, at the risk of recording a session twice"


def list_doubts(journal: Path | None) -> list[str]:
    """Return the command that writes the rows in doubt to a file."""
    if journal is None:
        return []
    return [f"{COMMAND}teak-async report {shlex.quote(str(journal))} --in-doubt {free_name('doubt.csv')}   # to see which"]


def resume_hint(journal: Path | None, *, by_program: bool = False) -> str:
    """Return how to go on with a run; `by_program` if no command made it."""
    if by_program:
        return f"to go on, make the run again with journal={str(journal)!r}"
    if journal is not None:
        return f"to go on, repeat the command with the same --journal {journal}"
    return "without --journal only the results tell which rows were sent; with one, repeating the command goes on"


def how_to_go_on(journal: Path | None) -> str:
    """Return how to go on with a run that ended by its failures."""
    if journal is None:
        return "to go on all the same, start again with --rows after the failed rows, or with a larger --max-failures"
    return "the same command goes on after the failed rows and counts from 0; --max-failures N sets how many may fail"


def retry_hint(journal: Path | None, unit: str) -> list[str]:
    """Return how to send failed rows again."""
    again = f"the failed {unit}s are not sent again: "
    if journal is None:
        return [f"{again}take their lines out of the input, correct them, and run them by themselves"]
    return [
        f"{again}write them to a file, correct that file, and run it with a new journal:",
        f"{COMMAND}teak-async report {shlex.quote(str(journal))} --failed {free_name('failed.csv')}",
    ]
