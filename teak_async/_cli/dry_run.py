"""A dry run: it reads and checks the input and the journal, counts what a run would do, and sends nothing."""

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
from teak_async._journal.database import check_place, check_run, is_new, read_summary
from teak_async._journal.earlier_run import iter_states
from teak_async._journal.row import JournalRow, KnownRow, Place
from teak_async.errors import InvalidRequest
from teak_async.models import Request

from .failures import describe_error
from .job import Exit, Job
from .output import check_output
from .progress import format_duration
from .reasons import describe_place, split_error
from .summary import count_rows

FIRST_PROBLEMS = 5
"""Problems of rows that cannot be sent that a dry run shows at most."""
FIRST_ROWS = 3
"""Calls at most that a dry run shows as they would be sent."""


@frozen
class DryRun:
    """What a job would do.

    Attributes:
        calls: calls of all selected rows; most commands make one call of a row.
        invalid: of these, calls that cannot be sent.
        finished: calls that an earlier run finished.
        failed: of these, calls that failed.
        in_doubt: calls that would be reported in doubt, and not sent.
        resent: calls to send that an earlier run may have done.
        first_problems: the messages of the first invalid rows.
        first_rows: the first calls to send, as they would be sent.
        limit: requests per second of each bucket.
        sends: how many calls go to each bucket.
        rows: selected rows, where a row may be several calls; else `None`.
        time_left: seconds until the deadline.
        findings: a line for each kind of odd value, and of rows without a value for some channel.
        repeated: rows, or calls where a row may be several, that repeat a player.
        first_repeated: the line of the first of them.
    """

    calls: int
    invalid: int
    finished: int
    failed: int
    in_doubt: int
    resent: int
    first_problems: tuple[str, ...]
    first_rows: tuple[str, ...]
    limit: int
    sends: tuple[int, ...]
    rows: int | None = None
    time_left: float = inf
    findings: tuple[str, ...] = ()
    repeated: int = 0
    first_repeated: int = 0

    @property
    def exit(self) -> Exit:
        """The exit code of the run, if all that it sends succeeds."""
        if self.in_doubt or self.late > self.to_send - self.resent:  # rows to send again go first
            return Exit.IN_DOUBT
        return Exit.SOME_FAILED if self.invalid or self.failed or self.late else Exit.SUCCEEDED

    @property
    def to_send(self) -> int:
        """Calls that would be sent."""
        return sum(self.sends)

    @property
    def seconds(self) -> float:
        """Seconds that the calls take at the limit."""
        return max(self.sends, default=0) / self.limit

    @property
    def late(self) -> int:
        """Calls that would not be sent before the deadline, even at the limit."""
        in_time = self.limit * max(self.time_left, 0)
        return sum(ceil(max(count - in_time, 0)) for count in self.sends)


async def dry_run_job(job: Job, game_id: str) -> DryRun:
    """Read and check the whole input and the journal, and send nothing.

    Raises:
        InputError: when the output cannot be written, or the input cannot be used.
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


async def _count_rows(job: Job, known: Iterator[tuple[Place, KnownRow]]) -> DryRun:
    counts: Counter[Disposition] = Counter()
    sends: dict[tuple[type[Request], str | None], int] = {}
    buckets: dict[tuple[type[Request], str | None], str] = {}
    invalid = calls = 0
    place = -1
    none = (-1, 0), None
    problems: list[str] = []
    first_rows: list[str] = []
    whole = True
    send = Disposition.SEND
    ahead, following = next(known, none)
    async with aclosing(job.rows.batches()) as batches:
        async for batch in batches:
            for row in batch:
                if row is REST_LEFT:
                    whole = False
                    break
                place += not row.part
                request = None if isinstance(row.request, InvalidRequest) else row.request
                what = send
                if following is not None:
                    before = None
                    if ahead == (place, row.part):
                        before = following
                        digest = JournalRow.of(place, request, row.source).digest
                        check_same_row(job.journal, before, place, digest, row.line)
                        ahead, following = next(known, none)
                    effect = None if request is None else endpoint_of(request).effect
                    what = disposition(before, effect, resend_in_doubt=job.resend_in_doubt)
                if not row.selected:
                    continue
                calls += 1
                if what is not send:
                    counts[what] += 1
                elif request is None:
                    invalid += 1
                    if len(problems) < FIRST_PROBLEMS:
                        problems.append(f"{describe_place(row.line, place)}: {split_error(describe_error(row.request))[1]}")
                if request is not None and (what is send or what is Disposition.RESEND):
                    # By kind, since a lookup of the endpoint for each row took a tenth of a dry run.
                    kind = type(request), getattr(request, "channel", None)
                    if kind not in buckets:
                        buckets[kind], sends[kind] = endpoint_of(request).bucket, 0
                    sends[kind] += 1
                    if len(first_rows) < FIRST_ROWS:
                        first_rows.append(_describe_row(request, row.line))
    if whole and following is not None:
        check_whole_input(job.journal, max([ahead[0], *(row for (row, _), _ in known)]) + 1, place + 1)
    now = asyncio.get_running_loop().time()
    due = due_time(job.deadline, now)
    seen = job.rows.seen
    return DryRun(
        calls=calls,
        rows=job.rows.rows if job.rows.most_calls > 1 else None,
        sends=tuple(sum(sends[kind] for kind in sends if buckets[kind] == bucket) for bucket in set(buckets.values())),
        invalid=invalid,
        finished=counts[Disposition.SKIP] + counts[Disposition.SKIP_FAILED],
        failed=counts[Disposition.SKIP_FAILED],
        in_doubt=counts[Disposition.IN_DOUBT] + counts[Disposition.STILL_IN_DOUBT] + counts[Disposition.OVERTAKEN],
        resent=counts[Disposition.RESEND],
        first_problems=tuple(problems),
        first_rows=tuple(first_rows),
        limit=job.limit,
        time_left=inf if due is None else due.seconds_left(now),
        findings=(*job.rows.findings.lines(), *job.rows.partial.lines()),
        repeated=0 if seen is None else seen.repeated,
        first_repeated=0 if seen is None else seen.first,
    )


def _known_rows(job: Job, game_id: str) -> Iterator[tuple[Place, KnownRow]]:
    if job.journal is None:
        return iter(())
    check_place(job.journal)
    if is_new(job.journal):
        return iter(())
    check_run(job.journal, read_summary(job.journal).about, {"game_id": game_id, **job.about})
    return iter_states(job.journal)


def describe_dry_run(dry_run: DryRun) -> str:
    """Return what a run would do as text."""
    finished = f"{dry_run.finished:,} finished before"
    finished += f" ({dry_run.failed:,} of which had failed)" if dry_run.failed else ""
    in_doubt = f"{dry_run.in_doubt + dry_run.resent:,} in doubt"
    in_doubt += f" ({dry_run.resent:,} of which {'is' if dry_run.resent == 1 else 'are'} sent again)" if dry_run.resent else ""
    whole, each = count_rows(dry_run.calls), ""
    if dry_run.rows is not None:
        whole, each = f"{count_rows(dry_run.rows)}, {count_rows(dry_run.calls, 'call')}", " on each channel"
    lines = [
        f"{whole}: {dry_run.to_send:,} to send, in {format_duration(dry_run.seconds)} at {dry_run.limit}/s{each}",
        f"  {finished}, {in_doubt}, {dry_run.invalid:,} cannot be sent",
        *(f"  {problem}" for problem in dry_run.first_problems),
    ]
    if dry_run.late:
        lines.insert(1, f"  the deadline is too early: it leaves at least {dry_run.late:,} of these unsent")
    elif dry_run.time_left < inf:
        spare = format_duration(dry_run.time_left - dry_run.seconds)
        lines.insert(1, f"  the deadline is late enough: at the limit, {spare} are left for retries and pauses")
    if dry_run.invalid > len(dry_run.first_problems):
        lines.append(f"  and {dry_run.invalid - len(dry_run.first_problems):,} more")
    lines += [f"  {finding}" for finding in dry_run.findings]
    if dry_run.repeated:
        again = count_rows(dry_run.repeated, "row" if dry_run.rows is None else "call")
        verb = "repeats" if dry_run.repeated == 1 else "repeat"
        lines.append(f"  {again} {verb} a player of an earlier row; the first is line {dry_run.first_repeated:,}")
    lines += ["the first rows as they would be sent, without game_id and secret_key:"] if dry_run.first_rows else []
    lines += [f"  {row}" for row in dry_run.first_rows]
    if dry_run.exit is not Exit.SUCCEEDED:
        causes = {
            "in doubt": dry_run.in_doubt,
            "failed before": dry_run.failed,
            "cannot be sent": dry_run.invalid,
            "left by the deadline": dry_run.late,
        }
        listed = ", ".join(f"{count:,} {cause}" for cause, count in causes.items() if count)
        lines.append(f"even if all that it sends succeeds, the run ends with exit code {dry_run.exit}: {listed}")
    return "\n".join([*lines, "Nothing was sent."])
