"""A command's run from a file: rows in, a bulk run, results as JSON Lines out, an exit code.

Rules of this module:

- Every row that ends is one line of output, with what became of it.
- The first interrupt (Ctrl-C, SIGTERM) sends nothing new and finishes what is on the wire; the second leaves at once.
- Wrong credentials end the run at their first answer: a million rows would get the same.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from typing import Any, TextIO

from attrs import frozen

from .bulk import BulkRun, Outcome, Report
from .errors import Forbidden, GameNotFound, InvalidRequest, TeakError
from .progress import Meter, clock
from .rows import InputError, Rows
from .session import TeakSession
from .wire import unstructure


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
        label: what is being done, for the progress.
        rows: the input.
        limit: requests per second that the job's budget allows, to show beside the rate.
        output: where results go; standard output when `None`.
        quiet: show no progress.
    """

    label: str
    rows: Rows
    limit: int
    output: Path | None = None
    quiet: bool = False


async def run_job(job: Job, session: TeakSession) -> tuple[Exit, Report]:
    """Run it to its end or to an interrupt.

    Args:
        job: what to run.
        session: not opened yet.

    Raises:
        InputError: when the output cannot be written; nothing was sent.
        OutputError: when it cannot be written any more; what was on the wire was finished.
    """
    rows = job.rows
    refused: TeakError | None = None
    try:
        total = await asyncio.to_thread(rows.count)
        with _output(job) as output, Meter(job.label, job.limit, total, quiet=job.quiet) as meter:
            async with session, session.bulk(rows) as run, _shown(meter, run):
                with _interrupts(run, meter) as interrupts:
                    async for outcome in run:
                        output.write(json.dumps(result(outcome, rows.line(outcome.index)), ensure_ascii=False) + "\n")
                        if isinstance(outcome.error, Forbidden | GameNotFound) and refused is None:
                            refused = outcome.error
                            run.stop()
            report = run.report
            meter.show(report)
    except OSError as error:
        raise OutputError(f"the results cannot be written: {error.strerror}; {summary(run.report)}") from None
    finally:
        rows.close()
    interrupted = bool(interrupts)
    if refused is not None:
        print(f"teak-async: stopped, since every row would get the same answer: {refused}", file=sys.stderr)
    if not job.quiet:
        print(summary(report, interrupted=interrupted), file=sys.stderr)
    return verdict(report, interrupted=interrupted, refused=refused is not None), report


def verdict(report: Report, *, interrupted: bool = False, refused: bool = False) -> Exit:
    """The exit code of a run."""
    if interrupted:
        return Exit.INTERRUPTED
    if refused:
        return Exit.WRONG_USAGE
    if report.in_doubt:
        return Exit.IN_DOUBT
    return Exit.SOME_FAILED if report.failed else Exit.SUCCEEDED


def summary(report: Report, *, interrupted: bool = False) -> str:
    """The run in one line."""
    counts = f"{report.succeeded:,} succeeded, {report.failed:,} failed, {report.in_doubt:,} in doubt"
    skipped = f", {report.skipped:,} skipped" if report.skipped else ""
    began = "interrupted: " if interrupted else ""
    rows = "1 row" if report.total == 1 else f"{report.total:,} rows"
    return f"{began}{rows}: {counts}{skipped} in {clock(report.elapsed)} ({report.rate:.1f}/s)"


def result(outcome: Outcome, line: int) -> dict[str, Any]:
    """One row's line of output."""
    shown: dict[str, Any] = {"index": outcome.index, "line": line}
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
def _output(job: Job) -> Iterator[TextIO]:
    # A line at a time, so that a killed command leaves whole lines and has written all that it knew. What a server says
    # may be beyond any encoding; as a backslash escape it is still JSON.
    path = job.output
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
        yield sys.stdout
        return
    if path.exists() and job.rows.is_file(path):
        raise InputError(f"{path}: this is the input; write the results to another file")
    try:
        opened = path.open("w", encoding="utf-8", errors="backslashreplace", buffering=1)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    with opened:
        yield opened


@asynccontextmanager
async def _shown(meter: Meter, run: BulkRun) -> AsyncIterator[None]:
    """Show the run's count time and again, also while no row ends."""

    async def show() -> None:
        while True:
            await asyncio.sleep(meter.every)
            meter.show(run.report)

    showing = asyncio.create_task(show())
    try:
        yield
    finally:
        showing.cancel()


@contextmanager
def _interrupts(run: BulkRun, meter: Meter) -> Iterator[list[int]]:
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
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
