"""A command's run of a file: rows in, a bulk run, results as JSON Lines out, an exit code.

Rules of this module:

- Every row that ends is one line of output. A kill may cut off the lines of rows that the journal has.
- The first interrupt (Ctrl-C, SIGTERM) sends nothing new and finishes what is on the wire; the second leaves at once.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from enum import IntEnum
from pathlib import Path

from attrs import frozen

from teak_async._bulk.outcomes import BulkReport
from teak_async._bulk.run import BulkRun
from teak_async._client.deadline import Deadline
from teak_async._session import TeakSession
from teak_async.errors import Forbidden, GameNotFound

from .input import RowReader
from .output import OutputError, begin_output, check_output, open_output, write_result
from .progress import ProgressReporter, format_duration


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
        limit: requests per second, to show beside the rate.
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
        return {"command": self.label, "form": self.rows.format, "header": self.rows.header}


async def run_job(job: Job, session: TeakSession) -> tuple[Exit, BulkReport]:
    """Run it to its end or to an interrupt.

    Args:
        job: what to run.
        session: not opened yet.

    Raises:
        InputError: when the output cannot be written; nothing was sent.
        OutputError: when it cannot be written any more; the run finished what was on the wire, and the message counts the rows.
        TeakError: what ended the run: the journal, or wrong credentials.
    """
    try:
        if job.output is not None:
            check_output(job.output, job.rows, job.journal)
        resumed = job.journal is not None and job.journal.exists()
        total = await asyncio.to_thread(job.rows.count)
        run = session.bulk(
            job.rows,
            journal=job.journal,
            resend_in_doubt=job.resend_in_doubt,
            deadline=job.deadline,
            about=job.about,
        )
        try:
            with open_output(job.output) as output, ProgressReporter(job.label, job.limit, total, quiet=job.quiet) as progress:
                async with session, run, _show_progress(progress, run):
                    with _handle_interrupts(progress, run) as signals:
                        # The journal is open by now. A run that cannot begin leaves the results of an earlier one as they are.
                        begin_output(output, job.output, resumed=resumed)
                        async for outcome in run:
                            write_result(output, outcome)
                progress.show(run.report, run.retries, run.trouble)
        except OutputError as error:
            raise OutputError(f"{error}; {summary(run.report)}") from None
    except (Forbidden, GameNotFound) as error:
        raise type(error)(f"stopped, since every row would get the same response: {error}") from None
    finally:
        job.rows.close()
    interrupted = bool(signals)
    if not job.quiet:
        print(summary(run.report, interrupted=interrupted), file=sys.stderr)
        if interrupted:
            print(_resume_hint(job.journal), file=sys.stderr)
    return exit_code(run.report, interrupted=interrupted), run.report


def exit_code(report: BulkReport, *, interrupted: bool = False) -> Exit:
    """Give the exit code of a run, which is about the whole of its journal."""
    if interrupted:
        return Exit.INTERRUPTED
    if report.in_doubt:
        return Exit.IN_DOUBT
    return Exit.SOME_FAILED if report.failed or report.failed_earlier or report.not_sent else Exit.SUCCEEDED


def summary(report: BulkReport, *, interrupted: bool = False) -> str:
    """Describe a run in one line."""
    counts = f"{report.succeeded:,} succeeded, {report.failed:,} failed, {report.in_doubt:,} in doubt"
    counts += f", {report.not_sent:,} not sent" if report.not_sent else ""
    skipped = f", {report.skipped:,} skipped" if report.skipped else ""
    skipped += f", {report.failed_earlier:,} of which had failed" if report.failed_earlier else ""
    began = "interrupted: " if interrupted else ""
    rows = "1 row" if report.total == 1 else f"{report.total:,} rows"
    return f"{began}{rows}: {counts}{skipped} in {format_duration(report.elapsed)} ({report.rate:.1f}/s)"


def _resume_hint(journal: Path | None) -> str:
    if journal is not None:
        return f"to go on where it was, repeat the command with the same --journal {journal}"
    return "without --journal nothing knows which rows were sent but the results; with one, repeating the command goes on"


@asynccontextmanager
async def _show_progress(progress: ProgressReporter, run: BulkRun) -> AsyncIterator[None]:
    """Show the run's counts time and again, also while no row ends."""

    async def show() -> None:
        while True:
            await asyncio.sleep(progress.every)
            progress.show(run.report, run.retries, run.trouble)

    showing = asyncio.create_task(show())
    try:
        yield
    finally:
        showing.cancel()


@contextmanager
def _handle_interrupts(progress: ProgressReporter, run: BulkRun) -> Iterator[list[int]]:
    """Stop the run at the first interrupt and abort it at the second; gives the list of their signals."""
    loop = asyncio.get_running_loop()
    signals: list[int] = []

    def interrupt(number: int) -> None:
        signals.append(number)
        if len(signals) == 1:
            progress.say("interrupted: finishing what is on the wire; once more to leave at once")
            run.stop()
        else:
            run.abort()

    handled = []
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError, RuntimeError):  # no handlers on Windows, nor outside of the main thread
            loop.add_signal_handler(number, interrupt, number)
            handled.append(number)
    try:
        yield signals
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
