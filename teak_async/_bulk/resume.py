"""What to do with each row of the input, by what the journal of an earlier run says of it.

`disposition` is the one rule, pure: a run acts on it, and a dry run counts it. `plan_rows` reads the input by it. Nothing of
an earlier run's rows is sent before all that the journal knows was seen again in the input, unless `MAX_HELD` rows of it
would have to be held back for that.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from contextlib import aclosing
from enum import Enum, auto
from pathlib import Path
from typing import Any

from teak_async._api.endpoints import Effect
from teak_async._journal.row import FINISHED, MAYBE_DONE, JournalRow, KnownRow
from teak_async.errors import InvalidRequest, JournalError

from .outcomes import REST_LEFT, Row
from .row_call import InvalidRow, RowCall, RunContext

MAX_HELD = 10_000
"""Unfinished rows of an earlier run held back at most, some 3 kB each, until the whole input has shown to be the same."""


class Disposition(Enum):
    """What a run does with a row."""

    SEND = auto()
    RESEND = auto()
    """Send it; an earlier run may have done it."""
    SKIP = auto()
    SKIP_FAILED = auto()
    """Skip it; it failed in an earlier run."""
    IN_DOUBT = auto()
    """Report it in doubt: an earlier run may have done it, and doing it twice would do harm."""
    STILL_IN_DOUBT = auto()
    """The same, and the journal says so already."""
    OVERTAKEN = auto()
    """Report it in doubt: an earlier run may have done it, and a later row of its player was done since."""


def disposition(known: KnownRow | None, effect: Effect | None, *, resend_in_doubt: bool) -> Disposition:
    """Decide what to do with a row.

    Args:
        known: what an earlier run wrote of it; `None` when it wrote nothing.
        effect: what doing it twice would do; `None` for a row that cannot be sent.
        resend_in_doubt: whether to rather do a row twice than not at all.
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
    path: Path | str | None, known: KnownRow, row: JournalRow, line: int, sent: str = "nothing was sent"
) -> None:
    """See that a row is the one that an earlier run met at its place.

    Raises:
        JournalError: when it is not.
    """
    if known.digest != row.digest:
        where = f"line {line}" if line else f"row {row.index}"
        raise JournalError(f"{path}: the journal of another input: {where} is not what it was; {sent}")


def check_whole_input(path: Path | str | None, known: int, rows: int) -> None:
    """See that the input has all the rows that an earlier run met.

    Raises:
        JournalError: when it ended before.
    """
    if rows < known:
        raise JournalError(f"{path}: the journal of a longer input: {known:,} rows, and here are {rows:,}")


async def plan_rows(
    source: Iterable[Any] | AsyncIterable[Any], context: RunContext, path: Path | str | None, *, resend_in_doubt: bool
) -> AsyncGenerator[tuple[RowCall | InvalidRow, Disposition], None]:
    """Give each row of the input with what to do with it; those to skip at once, the others as soon as they may be sent.

    Raises:
        JournalError: when the journal is not this input's.
    """
    held: list[tuple[RowCall | InvalidRow, Disposition]] = []
    sent = "nothing was sent"
    journal = context.journal
    last = -1 if journal is None else journal.last_known
    index = -1
    async with aclosing(iter_rows(source)) as rows:
        async for item in rows:
            if item is REST_LEFT:
                last = index  # rows that the journal knows behind this one are no sign of another input
                break
            index += 1
            row = _read_row(index, item if isinstance(item, Row) else Row(item), context)
            known = None
            if journal is not None and index <= last:
                assert row.journal_row is not None
                known = await journal.take_known_row(index)
                if known is not None:
                    check_same_row(path, known, row.journal_row, row.line, sent)
            if isinstance(item, Row) and not item.selected:
                continue
            effect = row.call.endpoint.effect if isinstance(row, RowCall) else None
            planned = row, disposition(known, effect, resend_in_doubt=resend_in_doubt)
            if planned[1] in (Disposition.SKIP, Disposition.SKIP_FAILED):
                yield planned
                continue
            held.append(planned)
            if index > last or len(held) >= MAX_HELD:
                sent = "what was sent before it is in the journal"
                for one in held:
                    yield one
                held.clear()
    check_whole_input(path, last + 1, index + 1)
    for one in held:
        yield one


def _read_row(index: int, row: Row, context: RunContext) -> RowCall | InvalidRow:
    try:
        return RowCall(index, row, context)
    except InvalidRequest as unknown:
        error = row.request if isinstance(row.request, InvalidRequest) else unknown
    source = str(error) if row.source is None else row.source
    return InvalidRow(index, row.line, error, None if context.journal is None else JournalRow.of(index, None, source))


async def iter_rows(source: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    """Give the rows of any iterable or async iterable, and close it when they are no longer wanted."""
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
