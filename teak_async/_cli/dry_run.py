"""A dry run: read and check the input and the journal, count what a run would do, send nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing
from math import ceil, inf

from attrs import frozen

from teak_async._api.endpoints import endpoint_of
from teak_async._api.structure import as_json
from teak_async._bulk.outcomes import REST_LEFT
from teak_async._bulk.resume import Disposition, check_same_row, check_whole_input, disposition
from teak_async._client.deadline import due_time
from teak_async._journal.database import check_place, check_run, is_new, iter_states, read_summary
from teak_async._journal.row import JournalRow, KnownRow
from teak_async.errors import InvalidRequest
from teak_async.models import Request

from .job import Exit, Job
from .output import check_output
from .progress import format_duration
from .summary import count_rows

FIRST_ROWS = 3
"""Rows that are shown as they would be sent."""
SENT = (Disposition.SEND, Disposition.RESEND)


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
        first_rows: the first rows to send, as they would be sent.
        limit: requests per second.
        time_left: seconds until the deadline.
        recognised: what the input was recognised as.
        findings: what is odd about its values.
        repeated: rows of players who were there before.
        first_repeated: the line of the first of these.
    """

    rows: int
    unreadable: int
    finished: int
    failed: int
    in_doubt: int
    resent: int
    first_problems: tuple[str, ...]
    first_rows: tuple[str, ...]
    limit: int
    time_left: float = inf
    recognised: str = ""
    findings: tuple[str, ...] = ()
    repeated: int = 0
    first_repeated: int = 0

    @property
    def exit(self) -> Exit:
        """The exit code of the run, if all that it sends succeeds."""
        if self.in_doubt or self.late > self.to_send - self.resent:  # rows that are sent again go first
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
        check_output(job.output, job.rows, job.journal, overwrite=job.overwrite)
        return await _count_rows(job, _known_rows(job, game_id))
    finally:
        job.rows.close()


def _describe_row(request: Request, line: int) -> str:
    endpoint = endpoint_of(request)
    return f"line {line:,}: {endpoint.method} {endpoint.bucket} {as_json(request)}"


async def _count_rows(job: Job, known: Iterator[tuple[int, KnownRow]]) -> DryRun:
    counts: Counter[Disposition] = Counter()
    unreadable = rows = place = 0
    problems: list[str] = []
    first_rows: list[str] = []
    whole = True
    index, following = next(known, (-1, None))
    async with aclosing(job.rows.batches()) as batches:
        async for batch in batches:
            for row in batch:
                if row is REST_LEFT:
                    whole = False
                    break
                invalid = isinstance(row.request, InvalidRequest)
                what = Disposition.SEND
                if following is not None:
                    request = None if isinstance(row.request, InvalidRequest) else row.request
                    before = None
                    if index == place:
                        before = following
                        digest = JournalRow.of(place, request, row.source).digest
                        check_same_row(job.journal, before, place, digest, row.line)
                        index, following = next(known, (-1, None))
                    effect = None if request is None else endpoint_of(request).effect
                    what = disposition(before, effect, resend_in_doubt=job.resend_in_doubt)
                place += 1
                if not row.selected:
                    continue
                if invalid and what is Disposition.SEND:
                    unreadable += 1
                    problems += [str(row.request)] if len(problems) < 5 else []
                if not isinstance(row.request, InvalidRequest) and len(first_rows) < FIRST_ROWS and what in SENT:
                    first_rows.append(_describe_row(row.request, row.line))
                if what is not Disposition.SEND:
                    counts[what] += 1
                rows += 1
    if whole and following is not None:
        check_whole_input(job.journal, max([index, *(later for later, _ in known)]) + 1, place)
    now = asyncio.get_running_loop().time()
    due = due_time(job.deadline, now)
    seen = job.rows.seen
    return DryRun(
        rows=rows,
        unreadable=unreadable,
        finished=counts[Disposition.SKIP] + counts[Disposition.SKIP_FAILED],
        failed=counts[Disposition.SKIP_FAILED],
        in_doubt=counts[Disposition.IN_DOUBT] + counts[Disposition.STILL_IN_DOUBT] + counts[Disposition.OVERTAKEN],
        resent=counts[Disposition.RESEND],
        first_problems=tuple(problems),
        first_rows=tuple(first_rows),
        limit=job.limit,
        time_left=inf if due is None else due.seconds_left(now),
        recognised=job.rows.recognised,
        findings=tuple(job.rows.findings.lines()),
        repeated=0 if seen is None else seen.repeated,
        first_repeated=0 if seen is None else seen.first,
    )


def _known_rows(job: Job, game_id: str) -> Iterator[tuple[int, KnownRow]]:
    if job.journal is None:
        return iter(())
    check_place(job.journal)
    if is_new(job.journal):
        return iter(())
    check_run(job.journal, read_summary(job.journal).about, {"game_id": game_id, **job.about})
    return iter_states(job.journal)


def describe_dry_run(dry_run: DryRun) -> str:
    """Put what a run would do into words."""
    finished = f"{dry_run.finished:,} finished before"
    finished += f" ({dry_run.failed:,} of which had failed)" if dry_run.failed else ""
    lines = [
        f"{count_rows(dry_run.rows)}: {dry_run.to_send:,} to send, in {format_duration(dry_run.seconds)} at {dry_run.limit}/s",
        f"  {finished}, {dry_run.in_doubt:,} in doubt, {dry_run.unreadable:,} cannot be sent",
        *(f"  {problem}" for problem in dry_run.first_problems),
    ]
    if dry_run.late:
        lines.insert(1, f"  the deadline is too early: it leaves at least {dry_run.late:,} of these unsent")
    elif dry_run.time_left < inf:
        spare = format_duration(dry_run.time_left - dry_run.seconds)
        lines.insert(1, f"  the deadline is late enough: {spare} are left at the limit, without retries and pauses")
    if dry_run.unreadable > len(dry_run.first_problems):
        lines.append(f"  and {dry_run.unreadable - len(dry_run.first_problems):,} more")
    lines += [f"  {finding}" for finding in dry_run.findings]
    if dry_run.repeated:
        lines.append(
            f"  {dry_run.repeated:,} rows of players who were there before; the first is line {dry_run.first_repeated:,}"
        )
    lines += ["the first rows as they would be sent, beside game_id and secret_key:"] if dry_run.first_rows else []
    lines += [f"  {row}" for row in dry_run.first_rows]
    return "\n".join([*lines, "Nothing was sent."])
