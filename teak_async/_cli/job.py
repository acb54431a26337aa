"""A command's run from a file: rows in, a bulk run, results as JSON Lines out, an exit code.

Rules of this module:

- Every row that ends is one line of output, with what became of it. A kill may cut off lines of rows that the journal has.
- The first interrupt (Ctrl-C, SIGTERM) sends nothing new and finishes what is on the wire; the second leaves at once.
- A resumed run adds to its output.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from enum import IntEnum
from functools import partial
from math import ceil, inf
from pathlib import Path
from typing import Any, TextIO, cast

from attrs import frozen

from teak_async._api.codec import unstructure
from teak_async._bulk.outcomes import BulkReport, Outcome
from teak_async._bulk.run import BulkRun
from teak_async._client.deadline import Deadline, loop_time
from teak_async._journal.database import check_place, check_run, is_new, iter_states, read_summary
from teak_async._journal.row import DOUBTED, FINISHED, JournalRow, KnownRow
from teak_async._session import TeakSession
from teak_async.errors import Forbidden, GameNotFound, InvalidRequest, JournalError
from teak_async.models import GetSubscription, Identify

from .input import InputError, RowReader
from .progress import ProgressReporter, format_duration

ERRORS = "backslashreplace"
"""What becomes of a character that no encoding has, and that a server may send: a backslash escape, which is still JSON.
Results are written a line at a time, so that a killed command leaves whole lines."""


class OutputError(Exception):
    """The results cannot be written any more; the message says what became of the rows."""


class Exit(IntEnum):
    """Exit codes of the commands."""

    SUCCEEDED = 0
    SOME_FAILED = 1
    WRONG_USAGE = 2
    IN_DOUBT = 3
    INTERRUPTED = 130


@frozen
class Job:
    """What to run.

    Attributes:
        label: what is being done, for the progress and the journal.
        rows: the input.
        limit: requests per second that the job's budget allows, to show beside the rate.
        output: where results go; standard output when `None`.
        quiet: show no progress.
        journal: makes the run survive being killed.
        resend_in_doubt: send identifies of which an earlier run does not know whether they were recorded.
        deadline: after which nothing is sent any more.
    """

    label: str
    rows: RowReader
    limit: int
    output: Path | None = None
    quiet: bool = False
    journal: Path | None = None
    resend_in_doubt: bool = False
    deadline: Deadline = None

    @property
    def about(self) -> dict[str, str]:
        """What the journal is to say of the run."""
        return {"command": self.label, "form": self.rows.form, "header": self.rows.header}


async def run_job(job: Job, session: TeakSession) -> tuple[Exit, BulkReport]:
    """Run it to its end or to an interrupt.

    Args:
        job: what to run.
        session: not opened yet.

    Raises:
        InputError: when the output cannot be written; nothing was sent.
        OutputError: when it cannot be written any more; what was on the wire was finished.
        TeakError: what ended the run: the journal, or wrong credentials.
    """
    try:
        resumed = job.journal is not None and job.journal.exists()
        total = await asyncio.to_thread(job.rows.count)
        run = session.bulk(
            job.rows,
            journal=job.journal,
            resend_in_doubt=job.resend_in_doubt,
            deadline=job.deadline,
            about=job.about,
        )
        with (
            _output(job, run, resumed=resumed) as (output, start),
            ProgressReporter(job.label, job.limit, total, quiet=job.quiet) as meter,
        ):
            async with session, run, _shown(meter, run):
                with _interrupts(run, meter) as interrupts:
                    start()
                    async for outcome in run:
                        output.write(json.dumps(result(outcome), ensure_ascii=False) + "\n")
            meter.show(run)
    except (Forbidden, GameNotFound) as error:
        raise type(error)(f"stopped, since every row would get the same answer: {error}") from None
    finally:
        job.rows.close()
    interrupted = bool(interrupts)
    if not job.quiet:
        print(summary(run.report, interrupted=interrupted), file=sys.stderr)
        if interrupted:
            print(_how_to_go_on(job), file=sys.stderr)
    return exit_code(run.report, interrupted=interrupted), run.report


def _how_to_go_on(job: Job) -> str:
    if job.journal is not None:
        return f"to go on where it was, repeat the command with the same --journal {job.journal}"
    return "without --journal nothing knows which rows were sent but the results; with one, repeating the command goes on"


@frozen
class DryRun:
    """What a job would do.

    Attributes:
        rows: in the input.
        unreadable: of these, rows that cannot be sent.
        finished: rows that an earlier run finished.
        failed: of these, rows that failed.
        in_doubt: rows that would be reported in doubt, and not sent.
        resent: rows to send that an earlier run may have done.
        first_problems: the messages of a few unreadable rows.
        limit: requests per second.
        time_left: seconds until the deadline.
    """

    rows: int
    unreadable: int
    finished: int
    failed: int
    in_doubt: int
    resent: int
    first_problems: tuple[str, ...]
    limit: int
    time_left: float = inf

    @property
    def exit(self) -> Exit:
        """What the run would end with, if all that is sent succeeds."""
        if self.in_doubt or self.late > self.to_send - self.resent:  # what is sent again goes first
            return Exit.IN_DOUBT
        return Exit.SOME_FAILED if self.unreadable or self.failed or self.late else Exit.SUCCEEDED

    @property
    def to_send(self) -> int:
        """Rows that would be sent."""
        return self.rows - self.unreadable - self.finished - self.in_doubt

    @property
    def seconds(self) -> float:
        """How long that takes at the limit."""
        return self.to_send / self.limit

    @property
    def late(self) -> int:
        """Rows that the deadline would leave unsent, even at the limit."""
        return ceil(max(self.to_send - self.limit * max(self.time_left, 0), 0))


async def dry_run_job(job: Job, game_id: str) -> DryRun:
    """Read and check the whole input and the journal, and send nothing.

    Raises:
        InputError: when the output cannot be written.
        JournalError: when the journal is not this input's, or cannot be made.
    """
    try:
        if job.output is not None:
            _check_output(job, job.output)
        return await _rehearse(job, _known_rows(job, game_id))
    finally:
        job.rows.close()


async def _rehearse(job: Job, known: Iterator[tuple[int, KnownRow]]) -> DryRun:
    rows = unreadable = finished = failed = in_doubt = resent = 0
    problems: list[str] = []
    index, following = next(known, (-1, None))
    async for row in job.rows:
        request = None if isinstance(row.request, InvalidRequest) else row.request
        before = None
        if following is not None and index == rows:
            before = following
            index, following = next(known, (-1, None))
        if before is not None and before.digest != JournalRow.of(rows, request, row.source).digest:
            raise JournalError(f"{job.journal}: the journal of another input: line {row.line} is not what it was")
        rows += 1
        if before is not None and before.state in FINISHED:
            finished += 1
            failed += before.state != "done"
        elif before is not None and before.state in DOUBTED and not isinstance(request, GetSubscription):
            left = isinstance(request, Identify) and not job.resend_in_doubt
            in_doubt += left
            resent += not left
        elif isinstance(row.request, InvalidRequest):
            unreadable += 1
            problems += [str(row.request)] if len(problems) < 5 else []
    if following is not None:
        raise JournalError(f"{job.journal}: the journal of a longer input: it knows row {index}, and here are {rows} rows")
    until = loop_time(job.deadline)
    time_left = inf if until is None else until - asyncio.get_running_loop().time()
    return DryRun(rows, unreadable, finished, failed, in_doubt, resent, tuple(problems), job.limit, time_left)


def _known_rows(job: Job, game_id: str) -> Iterator[tuple[int, KnownRow]]:
    if job.journal is None:
        return iter(())
    check_place(job.journal)
    if is_new(job.journal):
        return iter(())
    check_run(job.journal, read_summary(job.journal).about, {"game_id": game_id, **job.about})
    return iter_states(job.journal)


def exit_code(report: BulkReport, *, interrupted: bool = False) -> Exit:
    """The exit code of a run, which is about the whole of its journal."""
    if interrupted:
        return Exit.INTERRUPTED
    if report.in_doubt:
        return Exit.IN_DOUBT
    return Exit.SOME_FAILED if report.failed or report.failed_earlier else Exit.SUCCEEDED


def summary(report: BulkReport, *, interrupted: bool = False) -> str:
    """The run in one line."""
    counts = f"{report.succeeded:,} succeeded, {report.failed:,} failed, {report.in_doubt:,} in doubt"
    skipped = f", {report.skipped:,} skipped" if report.skipped else ""
    skipped += f", {report.failed_earlier:,} of which had failed" if report.failed_earlier else ""
    began = "interrupted: " if interrupted else ""
    rows = "1 row" if report.total == 1 else f"{report.total:,} rows"
    return f"{began}{rows}: {counts}{skipped} in {format_duration(report.elapsed)} ({report.rate:.1f}/s)"


def result(outcome: Outcome) -> dict[str, Any]:
    """One row's line of output."""
    shown: dict[str, Any] = {"index": outcome.index, "line": outcome.line}
    if outcome.request is not None:
        shown["user_id"] = outcome.request.user_id
    shown |= {"delivery": outcome.delivery.value, "attempts": outcome.attempts}
    if outcome.response is not None:
        shown["response"] = unstructure(outcome.response)
    if outcome.error is not None:
        error: dict[str, Any] = {"type": type(outcome.error).__name__, "message": str(outcome.error)}
        if outcome.error.status is not None:
            error["status"] = outcome.error.status
        if isinstance(outcome.error, InvalidRequest) and outcome.error.errors:
            error["errors"] = outcome.error.errors
        shown["error"] = error
    return shown


@contextmanager
def _output(job: Job, run: BulkRun, *, resumed: bool) -> Iterator[tuple[TextIO, Callable[[], None]]]:
    """Open what results are written to; gives what to call, too, before the first is: until then it is left as it was."""
    try:
        if job.output is None:
            yield _standard_output(), lambda: None
        else:
            with _results_file(job, job.output) as file:
                yield file, partial(_add_to if resumed else _empty, file, job.output)
    except OSError as error:
        raise OutputError(f"the results cannot be written: {error.strerror}; {summary(run.report)}") from None


def _standard_output() -> TextIO:
    if sys.stdout is None:
        raise InputError("standard output is closed; name a file with --output")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors=ERRORS, line_buffering=True)
    return sys.stdout


def _check_output(job: Job, path: Path) -> None:
    if path.exists() and job.rows.is_file(path):
        raise InputError(f"{path}: this is the input; write the results to another file")
    if job.journal is not None and same_file(path, job.journal):
        raise InputError(f"{path}: this is the journal; write the results to another file")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"{path}: cannot be written; name a file in a folder that you may write to")


def _results_file(job: Job, path: Path) -> TextIO:
    _check_output(job, path)
    try:
        return cast(TextIO, path.open("a", encoding="utf-8", errors=ERRORS, buffering=1))
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def same_file(path: Path, other: Path) -> bool:
    """Whether two names are of one file, be it there or not."""
    if path.exists() and other.exists():
        return path.samefile(other)
    return os.path.realpath(path) == os.path.realpath(other)


def _empty(file: TextIO, path: Path) -> None:
    if path.is_file():  # and no pipe
        file.truncate(0)


def _add_to(file: TextIO, path: Path) -> None:
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as written:
            written.seek(-1, os.SEEK_END)
            if written.read() != b"\n":
                file.write("\n")  # a full disk has cut a line off


@asynccontextmanager
async def _shown(meter: ProgressReporter, run: BulkRun) -> AsyncIterator[None]:
    """Show the run's count time and again, also while no row ends."""

    async def show() -> None:
        while True:
            await asyncio.sleep(meter.every)
            meter.show(run)

    showing = asyncio.create_task(show())
    try:
        yield
    finally:
        showing.cancel()


@contextmanager
def _interrupts(run: BulkRun, meter: ProgressReporter) -> Iterator[list[int]]:
    """Stop the run at the first interrupt and abort it at the second; gives the list of those that came."""
    loop = asyncio.get_running_loop()
    came: list[int] = []

    def interrupt(number: int) -> None:
        came.append(number)
        if len(came) == 1:
            meter.say("interrupted: finishing what is on the wire; once more to leave at once")
            run.stop()
        else:
            run.abort()

    handled = []
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError, RuntimeError):  # no handlers on Windows, nor outside of the main thread
            loop.add_signal_handler(number, interrupt, number)
            handled.append(number)
    try:
        yield came
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


def silence_broken_pipe() -> None:
    """Let nothing be said at exit when whoever read our output has gone."""
    if sys.stdout is not None:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
