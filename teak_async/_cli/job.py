"""A command's run of a file: rows in, a bulk run, results as JSON Lines out, an exit code.

Rules of this module:

- Every row that ends is one line of output. A kill may cut off the lines of rows that the journal has.
- Results and words are written by threads, so that a reader that does not read holds up neither the loop nor an interrupt.
- The first interrupt (Ctrl-C, SIGTERM, SIGHUP) sends nothing new and finishes what is on the wire; the second leaves even
  that, and gives its rows their results; the third ends the process.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, redirect_stderr
from enum import IntEnum
from pathlib import Path

from attrs import frozen

from teak_async._bulk.outcomes import BulkReport
from teak_async._bulk.run import BulkRun
from teak_async._client.deadline import Deadline
from teak_async._session import TeakSession
from teak_async.errors import Forbidden, GameNotFound, Outage

from .lines import OffLoopStream
from .output import OutputError, ResultWriter, check_output
from .progress import ProgressReporter, format_duration
from .signals import INTERRUPTED, LISTENER
from .source import RowSource


class Exit(IntEnum):
    """Exit codes of the commands."""

    SUCCEEDED = 0
    SOME_FAILED = 1
    WRONG_USAGE = 2
    IN_DOUBT = 3
    OUTAGE = 75
    INTERRUPTED = INTERRUPTED


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
        overwrite: whether results may go over a file that is there.
    """

    label: str
    rows: RowSource
    limit: int
    output: Path | None = None
    quiet: bool = False
    journal: Path | None = None
    resend_in_doubt: bool = False
    deadline: Deadline = None
    overwrite: bool = False

    @property
    def about(self) -> dict[str, str]:
        """What the journal is to say of the run."""
        return {"command": self.label, **self.rows.about}


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
    interrupts: list[int] = []
    with ExitStack() as listening:
        listening.callback(LISTENER.set_last_words, "the run had ended")
        try:
            check_output(job.output, job.rows, job.journal, overwrite=job.overwrite)
            if sys.stderr is None:
                report = await _run(job, session, interrupts, listening)
            else:
                words = OffLoopStream(sys.stderr)
                with redirect_stderr(words):
                    try:
                        report = await _run(job, session, interrupts, listening)
                    finally:
                        await words.drain(interrupts)
        except (Forbidden, GameNotFound) as error:
            raise type(error)(f"stopped, since every row would get the same response: {error}") from None
        finally:
            job.rows.close()
    return exit_code(report, interrupted=bool(interrupts)), report


async def _run(job: Job, session: TeakSession, interrupts: list[int], listening: ExitStack) -> BulkReport:
    resumed = job.journal is not None and job.journal.exists()
    job.rows.journal = job.journal if resumed else None
    total = await asyncio.to_thread(job.rows.count)
    run = session.bulk(
        job.rows,
        journal=job.journal,
        resend_in_doubt=job.resend_in_doubt,
        deadline=job.deadline,
        about=job.about,
    )
    progress = ProgressReporter(job.label, job.limit, total, quiet=job.quiet)
    try:
        async with ResultWriter(job.output, interrupts, progress.insist) as results, session, run:
            # From here on rows are sent. Nothing was awaited since the run began, so none was before.
            listening.enter_context(_hand_interrupts_to(run, interrupts, progress))
            # The journal is open by now. A run that cannot begin leaves the results of an earlier one as they are.
            results.begin(run.stop, resumed=resumed)
            if job.rows.leaves_out:
                progress.say(job.rows.recognised)
            with progress:
                async with _show_progress(progress, run):
                    async for outcome in run:
                        await results.write(outcome)
                progress.show(run.report, run.retries, run.trouble)
    except Outage as outage:
        raise Outage(f"{outage}; {summary(run.report, journal=job.journal)}; {_resume_hint(job.journal)}") from None
    said = summary(run.report, interrupted=bool(interrupts), unwritten=results.unwritten, journal=job.journal)
    if results.problem and not interrupts:
        raise OutputError(f"the results {results.problem}; {said}")
    if results.problem or (results.unwritten and job.quiet):
        progress.insist(f"the results {results.problem or 'were not read'}; {said}")
    elif not job.quiet:
        progress.say(said)
    if interrupts:
        progress.say(_resume_hint(job.journal))
    return run.report


def exit_code(report: BulkReport, *, interrupted: bool = False) -> Exit:
    """Give the exit code of a run, which is about the whole of its journal."""
    if interrupted:
        return Exit.INTERRUPTED
    if report.in_doubt:
        return Exit.IN_DOUBT
    return Exit.SOME_FAILED if report.failed or report.failed_earlier or report.not_sent else Exit.SUCCEEDED


def summary(report: BulkReport, *, interrupted: bool = False, unwritten: int = 0, journal: Path | None = None) -> str:
    """Describe a run in one line."""
    counts = f"{report.succeeded:,} succeeded, {report.failed:,} failed, {report.in_doubt:,} in doubt"
    counts += f", {report.not_sent:,} not sent" if report.not_sent else ""
    skipped = f", {report.skipped:,} skipped" if report.skipped else ""
    skipped += f", {report.failed_earlier:,} of which had failed" if report.failed_earlier else ""
    began = "interrupted: " if interrupted else ""
    rows = "1 row" if report.total == 1 else f"{report.total:,} rows"
    lost = f"; results not written: {unwritten:,}{' (the journal has them)' if journal else ''}" if unwritten else ""
    return f"{began}{rows}: {counts}{skipped} in {format_duration(report.elapsed)} ({report.rate:.1f}/s){lost}"


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


def _hand_interrupts_to(run: BulkRun, interrupts: list[int], progress: ProgressReporter) -> AbstractContextManager[None]:
    """Stop the run at the first interrupt, abort it at the second, and end the process at the third."""
    loop = asyncio.get_running_loop()

    def interrupt(count: int) -> None:
        if count == 1:
            progress.say("interrupted: finishing what is on the wire; once more to leave at once")
            run.stop()
        else:
            run.abort()

    def react(number: int) -> None:
        interrupts.append(number)
        if len(interrupts) > 2:
            LISTENER.leave()
        loop.call_soon_threadsafe(interrupt, len(interrupts))

    LISTENER.set_last_words("what was on the wire is in doubt")
    return LISTENER.taken_over(react)
