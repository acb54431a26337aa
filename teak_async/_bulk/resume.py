"""What to do with each row of the input, by what the journal of an earlier run says of it.

`disposition` is the one rule, pure: a run acts on it, and a dry run counts it. `plan_rows` reads the input by it. Nothing of
an earlier run's rows is sent before all that the journal knows was seen again in the input, unless `MAX_HELD` rows of it
would have to be held back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from contextlib import aclosing
from enum import Enum, auto
from pathlib import Path
from typing import Any, TypeAlias

from teak_async._api.endpoints import Effect
from teak_async._journal.row import FINISHED, MAYBE_DONE, PARTS, JournalRow, KnownRow, digest_of
from teak_async.errors import InvalidRequest, JournalError
from teak_async.models import Request

from .outcomes import REST_LEFT, FinishedRows, Row
from .row_call import InvalidRow, RowCall, RunContext

TURN = 250
"""Rows of an earlier run skipped in one turn of the loop."""
MAX_HELD = 10_000
"""Unfinished rows of an earlier run held back at most, some 3 kB each, until the whole input has been compared."""


REMEDY = "give it the input that it was begun with, or give this input (corrected rows, too) a journal of its own"
"""What to do about a journal of another input."""


class Disposition(Enum):
    """What a run does with a row."""

    SEND = auto()
    RESEND = auto()
    """Send it; an earlier run may have done it."""
    SKIP = auto()
    SKIP_FAILED = auto()
    """Skip it; it failed in an earlier run."""
    IN_DOUBT = auto()
    """Report it in doubt: an earlier run may have done it, and it must not be done twice."""
    STILL_IN_DOUBT = auto()
    """The same, and the journal says so already."""
    OVERTAKEN = auto()
    """Report it in doubt: an earlier run may have done it, and a later row of its player was done since."""


def disposition(known: KnownRow | None, effect: Effect | None, *, resend_in_doubt: bool) -> Disposition:
    """Decide what to do with a row.

    Args:
        known: what an earlier run wrote of it; `None` when it wrote nothing.
        effect: the effect of doing it twice; `None` for a row that cannot be sent.
        resend_in_doubt: whether doing a row twice is better than not at all.
    """
    if known is None:
        return Disposition.SEND
    if known.state in FINISHED:
        return Disposition.SKIP if known.state == "succeeded" else Disposition.SKIP_FAILED
    if known.state not in MAYBE_DONE or effect in (None, Effect.READ):
        return Disposition.SEND
    if known.overtaken:
        return Disposition.OVERTAKEN
    if effect is Effect.SET or resend_in_doubt:
        return Disposition.RESEND
    return Disposition.STILL_IN_DOUBT if known.state == "in_doubt" else Disposition.IN_DOUBT


def check_same_row(
    path: Path | str | None, known: KnownRow, index: int, digest: str, line: int, sent: str = "nothing was sent"
) -> None:
    """Check that a row has the request that an earlier run met at its place.

    Raises:
        JournalError: when it does not.
    """
    if known.digest != digest:
        where = f"line {line}" if line else f"row {index}"
        raise JournalError(f"{path}: the journal of another input: {where} is not what it was; {sent}; {REMEDY}")


def check_whole_input(path: Path | str | None, known: int, rows: int) -> None:
    """Check that the input has all rows that an earlier run met.

    Raises:
        JournalError: when it ended before.
    """
    if rows < known:
        raise JournalError(f"{path}: the journal of a longer input: {known:,} rows, and here are {rows:,}; {REMEDY}")


Planned: TypeAlias = tuple[RowCall | InvalidRow, Disposition]
_READ = (Row, FinishedRows)


async def plan_rows(
    source: Iterable[Any] | AsyncIterable[Any], context: RunContext, path: Path | str | None, *, resend_in_doubt: bool
) -> AsyncGenerator[Planned | FinishedRows, None]:
    """Yield each row of the input with what to do with it: finished rows at once, the others as soon as they may be sent.

    Raises:
        JournalError: when the journal is not this input's.
        ValueError: when the parts of a row do not count from 0.
    """
    held: list[Planned] = []
    passed = _PassedOver()
    journal = context.journal
    last = -1 if journal is None else journal.last_known
    index, part, sent = -1, -1, "nothing was sent"
    async with aclosing(iter_rows(source)) as rows:
        async for item in rows:
            # Most requests of a resumed run are finished: no row is made of one to see that, and nobody is awaited.
            # Each `TURN`-th row takes the longer way: it reads on in the journal, and lets the loop turn.
            known = None if journal is None or not (index + 1) % TURN else journal.find_loaded_row(index + 1)
            if passed.add_if_finished(item, known):
                index, part = index + 1, 0
                continue
            row = item if isinstance(item, _READ) else Row(item)
            context.whole = context.whole and row.selected
            if row is REST_LEFT:
                last = index  # the journal may have rows behind the selected ones
                break
            if isinstance(row, FinishedRows):
                index += row.count
                part = -1
                yield row
                continue
            part = _next_part(row, index, part)
            index += part == 0
            if journal is not None and index <= last:
                if not index % TURN:
                    yield passed.take()
                    await asyncio.sleep(0)
                known = await journal.find_known_row(index, row.part)
            if passed.add_if_finished(row.request, known, selected=row.selected):
                continue
            call = _read_row(index, row, context)
            if known is not None:
                assert call.journal_row is not None
                check_same_row(path, known, index, call.journal_row.digest, row.line, sent)
            if not row.selected:
                continue
            effect = call.call.endpoint.effect if isinstance(call, RowCall) else None
            what = disposition(known, effect, resend_in_doubt=resend_in_doubt)
            if known is not None and what in (Disposition.SKIP, Disposition.SKIP_FAILED):
                passed.add(known, selected=row.selected)
                continue
            held.append((call, what))
            if index > last or len(held) >= MAX_HELD:
                sent = "what was sent before it is in the journal"
                for one in held:
                    yield one
                held.clear()
    yield passed.take()
    check_whole_input(path, last + 1, index + 1)
    for one in held:
        yield one


def _next_part(row: Row, index: int, part: int) -> int:
    """Check the part of a row behind another call. One that the journal takes for another is made again by each run."""
    if row.part not in (0, part + 1):
        raise ValueError(f"a Row with part={row.part} behind row {index}, part {part}: parts count 0, 1, 2, …")
    if row.part >= PARTS:
        raise ValueError(f"row {index} has more than {PARTS:,} parts: give the rest as another row")
    return row.part


class _PassedOver:
    """Counts rows that an earlier run finished, so that they are reported together."""

    def __init__(self) -> None:
        self._count = self._failed = 0

    def add_if_finished(self, request: object, known: KnownRow | None, *, selected: bool = True) -> bool:
        """Count a row if an earlier run finished just this request; return whether it did."""
        if known is None or known.state not in FINISHED or known.digest != _digest_of(request):
            return False
        self.add(known, selected=selected)
        return True

    def add(self, known: KnownRow, *, selected: bool) -> None:
        self._count += selected
        self._failed += selected and known.state == "failed"

    def take(self) -> FinishedRows:
        taken = FinishedRows(self._count, self._count, self._failed)
        self._count = self._failed = 0
        return taken


def _digest_of(request: object) -> str | None:
    """Return the digest of a row's request, or `None` if it is none that can be sent."""
    try:
        return digest_of(request) if isinstance(request, Request) else None
    except InvalidRequest:
        return None


def _read_row(index: int, row: Row, context: RunContext) -> RowCall | InvalidRow:
    try:
        return RowCall(index, row, context)
    except InvalidRequest as unknown:
        error = row.request if isinstance(row.request, InvalidRequest) else unknown
    source = str(error) if row.source is None else row.source
    kept = None if context.journal is None else JournalRow.of(index, None, source, row.line, row.user_id, part=row.part)
    return InvalidRow(index, row.part, row.line, error, kept, row.user_id)


async def iter_rows(source: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    """Yield the items of any iterable or async iterable, and close it afterwards."""
    if isinstance(source, AsyncIterable):
        async_rows = aiter(source)
        try:
            async for row in async_rows:
                yield row
        finally:
            if isinstance(async_rows, AsyncGenerator):
                await async_rows.aclose()
    else:
        rows = iter(source)
        try:
            for row in rows:
                yield row
        finally:
            if isinstance(rows, Generator):
                rows.close()
