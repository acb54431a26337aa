"""A command's run of a file: a bulk run of its rows, results as JSON Lines, an exit code.

- Each row that ends is one line of results, except where the results of an earlier run have the same, or the next run of the
  journal sends it. After a kill, lines of rows that the journal has may be missing.
- Threads write the results and the messages, so that a reader that does not read blocks neither the loop nor an interrupt.
- The first interrupt (Ctrl-C, SIGTERM, SIGHUP) stops new calls and finishes those on the wire. The second abandons these, too,
  and writes their results. The third ends the process.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, redirect_stderr
from enum import IntEnum
from pathlib import Path

from attrs import evolve, frozen

from teak_async._bulk.outcomes import BulkReport
from teak_async._bulk.run import BulkRun
from teak_async._client.deadline import Deadline
from teak_async._journal.database import read_summary
from teak_async._journal.earlier_run import count_not_repeated
from teak_async._journal.row import Note
from teak_async._session import TeakSession
from teak_async.errors import Forbidden, GameNotFound, Outage
from teak_async.models import PlayerRemoval, Response

from .counts import Counts
from .failures import Failures, read_reasons
from .lines import OffLoopStream
from .logs import log_events
from .output import OutputError, ResultWriter, check_output
from .progress import Outages, ProgressReporter, find_notes, format_duration
from .signals import INTERRUPTED, LISTENER
from .source import RowSource
from .summary import RunEnd, how_to_go_on, on_channels, opening, resume_hint


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
        label: the command's name, for the progress and the journal.
        rows: the input.
        limit: requests per second on each channel, to show beside the rate.
        output: the file for results. Default: standard output.
        quiet: show no progress.
        journal: the journal, with which the run survives being killed. Default: none.
        resend_in_doubt: send identifies again that an earlier run left in doubt.
        deadline: when to stop sending. Default: never.
        overwrite: whether results may replace those in a file.
        max_failures: failed rows that end the run. Default: the rule of `SAME_AT_FIRST`.
        verbose: show retries and pauses, too.
        log_file: the file for the library's events. Default: none.
        server: the server's address, to show it.
        share: the ledger of a shared limit, to show it; empty for none.
        notes: what to say of the options at first.
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
    max_failures: int | None = None
    verbose: bool = False
    log_file: Path | None = None
    server: str = ""
    share: str = ""
    notes: Sequence[str] = ()

    @property
    def about(self) -> dict[str, str]:
        """What the journal keeps about the run."""
        return {
            "command": self.label,
            "file": Note(self.rows.name.encode(errors="backslashreplace").decode()),
            **({"channels": Note(",".join(self.rows.channels))} if self.rows.channels else {}),
            "limit": Note(self.limit),
            **self.rows.about,
        }

    @property
    def title(self) -> str:
        """The command's name, with its channels."""
        return self.label + on_channels(self.rows.channels)

    def opening(self, game_id: str, *, resumed: bool = False) -> str:
        """Return the first line of the run."""
        where = f"{self.server}, its limit shared by {self.share}" if self.share else self.server
        return opening(self.title, where, game_id, self.rows.description, self.journal, resumed=resumed)

    @property
    def unit(self) -> str:
        """What is counted: `row`, or `call` where a row may be several."""
        return "call" if self.rows.most_calls > 1 else "row"


async def run_job(job: Job, session: TeakSession) -> tuple[Exit, BulkReport]:
    """Run a job to its end or to an interrupt.

    Args:
        job: what to run.
        session: a session that is not open yet.

    Raises:
        InputError: when the output cannot be written, before anything is sent, or when the input cannot be used.
        OutputError: when the output cannot be written any more. The run finished the calls on the wire; the message counts the
            rows.
        TeakError: when the journal or the credentials cannot be used, or the server is out.
    """
    interrupts: list[int] = []
    with ExitStack() as listening:
        listening.callback(LISTENER.set_exit_message, "the run had ended")
        try:
            check_output(job.output, job.rows, job.journal, overwrite=job.overwrite)
            if sys.stderr is None:
                report = await _run(job, session, interrupts, listening)
            else:
                stderr = OffLoopStream(sys.stderr)
                with redirect_stderr(stderr):
                    try:
                        report = await _run(job, session, interrupts, listening)
                    finally:
                        await stderr.drain(interrupts)
        except (Forbidden, GameNotFound) as error:
            raise type(error)(f"stopped, since every row would get the same response: {error}") from None
        finally:
            job.rows.close()
    return exit_code(report, interrupted=bool(interrupts)), report


async def _run(job: Job, session: TeakSession, interrupts: list[int], listening: ExitStack) -> BulkReport:
    resumed = job.journal is not None and job.journal.exists()
    if job.rows.blank and not resumed:
        job = evolve(job, journal=None)  # it would be the journal of rows without columns
    job.rows.journal = job.journal if resumed else None
    total = await asyncio.to_thread(job.rows.count)
    if total == 0:
        job.rows.refuse_empty()
    run = session.bulk(
        job.rows,
        journal=job.journal,
        resend_in_doubt=job.resend_in_doubt,
        deadline=job.deadline,
        about={
            **job.about,
            "server": Note(job.server),
            # The length of a part says nothing of a journal that may have other parts, too.
            f"{job.unit}s": Note("" if total is None or not job.rows.selects_all else total),
        },
    )
    failures = Failures(job.max_failures)
    progress = ProgressReporter(job.label, job.limit, total, job.rows.channels, quiet=job.quiet)
    earlier = not_found = 0
    outages = Outages()

    def show() -> None:
        if (lasted := outages.follow(run.outage)) is not None:
            progress.say(f"the server is back after {format_duration(lasted)}")
        last = "" if failures.last is None else failures.last.message
        rates, resumable = session.rates.values(), job.journal is not None
        notes = find_notes(rates, run.trouble, last, run.outage, stopping=run.stopping, resumable=resumable)
        progress.show(run.report, run.retries, notes, held=run.stopping or run.outage is not None)

    try:
        writer = ResultWriter(job.output, interrupts, progress.say_always, journaled=job.journal is not None)
        async with writer as results, session, run:
            # From here on rows are sent. None was sent before, since nothing was awaited after the run began.
            listening.enter_context(_hand_interrupts_to(run, interrupts, progress))
            # Only now, with the journal open: a run that cannot begin keeps the results of an earlier one.
            results.begin(run.stop, resumed=resumed)
            for line in (*job.notes, job.opening(session.game_id, resumed=resumed)):
                progress.say(line)
            with progress, log_events(job.log_file, progress.say if job.verbose else None):
                async with _show_progress(progress, show):
                    async for outcome in run:
                        await results.write(outcome)
                        progress.count(outcome)
                        # Without an attempt of this run, an earlier one left it in doubt.
                        earlier += outcome.state == "in_doubt" and not outcome.attempts
                        not_found += _had_nothing(outcome.response)
                        failures.add(outcome)
                        if failures.too_many:
                            run.stop()
                show()
    except Outage as error:
        end = await _end_of(job, run.report, total, resumed=resumed, earlier=earlier, waited=outages.seconds)
        raise Outage("\n".join([str(error), *end.summary(), resume_hint(job.journal)])) from None
    finally:
        run.close()  # if it never began
    if total is None and job.rows.ended:
        total = run.report.total
    end = await _end_of(job, run.report, total, resumed=resumed, earlier=earlier, waited=outages.seconds)
    end = evolve(end, interrupted=bool(interrupts), unwritten=results.unwritten, not_found=not_found)
    await _say_end(job, end, results, failures, progress)
    return run.report


def _had_nothing(response: Response | None) -> bool:
    """Tell whether a removal had nothing to remove; a repeated one may find what an earlier attempt left."""
    return isinstance(response, PlayerRemoval) and not (response.found or response.repeated)


async def _say_end(job: Job, end: RunEnd, results: ResultWriter, failures: Failures, progress: ProgressReporter) -> None:
    """Say what the run did, why calls did not succeed, and how to go on.

    Raises:
        OutputError: when the results could not be written, unless a signal ended the run.
    """
    stopped = failures.too_many and end.left != 0
    said, *others = end.summary()
    if stopped:
        said = f"stopped, since {failures.too_many}: {said}"
    if results.problem and not end.interrupted:
        raise OutputError("\n".join([f"the results {results.problem}; {said}", *others]))
    if results.problem or (results.unwritten and job.quiet):
        progress.say_always(f"the results {results.problem or 'were not read'}; {said}")
    else:
        progress.say(said)
    if not job.quiet:
        reasons = await _reasons(end, failures)
        for line in [*others, *end.closing(reasons, ended_early=bool(end.interrupted or stopped))]:
            progress.say(line)
        if stopped:
            progress.say(how_to_go_on(job.journal))


async def _end_of(job: Job, report: BulkReport, total: int | None, *, resumed: bool, earlier: int, waited: float) -> RunEnd:
    """Count what a run and the journal that it went on with have. A read of the journal tells what earlier runs did."""
    kept = None
    if resumed and job.journal is not None:
        states = (await asyncio.to_thread(read_summary, job.journal)).states
        _, not_repeated = await asyncio.to_thread(count_not_repeated, job.journal)
        kept = Counts.of_journal(states, total if job.rows.selects_all else None, not_repeated=not_repeated)
    return RunEnd(
        report,
        total,
        job.title if job.rows.channels else "",
        job.rows.rows if job.unit == "call" and job.rows.ended else None,
        earlier,
        kept,
        job.journal,
        waited=waited,
        partial=(*job.rows.findings.lines(), *(job.rows.partial.lines() if job.rows.ended else ())),
        identify=job.label == "identify",
        unit=job.unit,
    )


async def _reasons(end: RunEnd, failures: Failures) -> list[str]:
    """Say why rows did not succeed. With a journal, the reasons are those of all its runs."""
    reasons, counts = failures.reasons, end.counts
    if end.journal is not None and (counts.failed or counts.in_doubt or counts.not_sent):
        reasons = await asyncio.to_thread(read_reasons, end.journal)
    return reasons.lines()


def exit_code(report: BulkReport, *, interrupted: bool = False) -> Exit:
    """Return the exit code of a run. Rows of earlier runs of its journal count, too."""
    if interrupted:
        return Exit.INTERRUPTED
    if report.in_doubt:
        return Exit.IN_DOUBT
    return Exit.SOME_FAILED if report.failed or report.failed_earlier or report.not_sent else Exit.SUCCEEDED


@asynccontextmanager
async def _show_progress(progress: ProgressReporter, show: Callable[[], None]) -> AsyncIterator[None]:
    """Show the run's counts at intervals, also while no row ends."""

    async def go_on() -> None:
        while True:
            await asyncio.sleep(progress.every)
            show()

    showing = asyncio.create_task(go_on())
    try:
        yield
    finally:
        showing.cancel()


def _hand_interrupts_to(run: BulkRun, interrupts: list[int], progress: ProgressReporter) -> AbstractContextManager[None]:
    """Stop the run at the first interrupt, abort it at the second, and end the process at the third."""
    loop = asyncio.get_running_loop()

    def interrupt(count: int) -> None:
        if count == 1:
            progress.say("interrupted: finishing what is on the wire; interrupt again to end without it")
            run.stop()
        else:
            run.abort()

    def react(number: int) -> None:
        interrupts.append(number)
        if len(interrupts) > 2:
            LISTENER.exit_process()
        loop.call_soon_threadsafe(interrupt, len(interrupts))

    LISTENER.set_exit_message("calls that were on the wire are in doubt")
    return LISTENER.hand_to(react)
