"""What goes into a bulk run and what comes out of it: rows, outcomes, the report."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from typing import Any

from attrs import field, frozen

from teak_async._api.codec import as_json
from teak_async._journal.journal import Result
from teak_async.errors import Delivery, InvalidRequest, TeakError
from teak_async.models import Request, Response


@frozen
class Row:
    """A request and the text it came from, for runs whose journal should give failed rows back as they were.

    Attributes:
        request: what is asked, or what is wrong with the row.
        source: the row as it stood in the input; the request as JSON when `None`.
        line: its line's number in the input, from 1; 0 where there are no lines.
    """

    request: Request | InvalidRequest = field(repr=False)
    source: str | None = field(default=None, repr=False)
    line: int = 0


@frozen
class Outcome:
    """How one row ended.

    Attributes:
        index: the row's place in the input, from 0.
        request: what was asked; `None` where the row could not be read.
        response: what the server said, when it succeeded.
        error: why it failed, otherwise.
        delivery: what became of it at the server.
        attempts: how many tries were made.
        line: the number of its line in the input, from 1; 0 where there are no lines.
    """

    index: int
    request: Request | None
    response: Response | None
    error: TeakError | None
    delivery: Delivery
    attempts: int
    line: int = 0


@frozen
class BulkReport:
    """The count of a run. `succeeded + failed + in_doubt + skipped == total`, always.

    Attributes:
        total: rows that ended.
        succeeded: rows with a response.
        failed: rows with an error that tells what became of them.
        in_doubt: rows that end `UNKNOWN`.
        skipped: rows finished in an earlier run.
        failed_earlier: of these, rows that failed there.
        sent: rows of which there was a try.
        elapsed: seconds since the first row that was not skipped.
        rate: rows sent per second.
    """

    total: int
    succeeded: int
    failed: int
    in_doubt: int
    skipped: int
    failed_earlier: int
    sent: int
    elapsed: float
    rate: float


def result_of(outcome: Outcome) -> Result:
    """An outcome as the journal keeps it."""
    unsuccessful = {Delivery.UNKNOWN: "in_doubt", Delivery.DONE: "unread"}.get(outcome.delivery, "failed")
    return Result(
        "done" if outcome.error is None else unsuccessful,
        outcome.attempts,
        outcome.delivery.value,
        None if outcome.error is None else f"{type(outcome.error).__name__}: {outcome.error}",
        None if outcome.response is None else as_json(outcome.response),
    )


async def each(source: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    """Give the rows of any iterable or async iterable, and close it when they are no longer wanted."""
    if isinstance(source, AsyncIterable):
        later = aiter(source)
        try:
            async for row in later:
                yield row
        finally:
            if isinstance(later, AsyncGenerator):
                await later.aclose()
    else:
        rows = iter(source)
        try:
            for row in rows:
                yield row
        finally:
            if isinstance(rows, Generator):
                rows.close()
