"""How rows end: recorded in the journal, then delivered to the reader of the run."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeAlias

from teak_async._journal.row import Write
from teak_async._limits.bucket import GRANTS_A_TURN
from teak_async.errors import Delivery, JournalError, TeakError
from teak_async.models import Response

from .outcomes import Outcome, Tally
from .row_call import InvalidRow, RowCall, RunContext, in_doubt_error, outcome_of, result_of

Ended: TypeAlias = tuple[RowCall | InvalidRow, Outcome]
"""A row that ended, and how."""


class Results:
    """The stream of outcomes of one run.

    An outcome is delivered when its result is durable, or cannot become durable: then only the reader gets to know what became
    of the row.

    Args:
        context: what the rows have in common.
        tally: counts what is delivered.
        stop: called when the run cannot go on.

    Attributes:
        error: raised in the reader after the last outcome; `None` when the run ended well.
    """

    def __init__(self, context: RunContext, tally: Tally, stop: Callable[[], None]) -> None:
        self._context = context
        self._tally = tally
        self._stop = stop
        self._ended: deque[Ended | None] = deque()
        self._arrival = asyncio.Event()
        self._taken = 0
        self._on_written = self._deliver_written  # once for all rows: each look-up of a method makes an object
        self.error: BaseException | None = None
        self._seen = False

    @property
    def unseen_error(self) -> BaseException | None:
        """The error that ended the run early, if the reader left before it was raised."""
        return None if self._seen else self.error

    def record(self, row: RowCall | InvalidRow, response: Response | None, error: TeakError | None) -> None:
        """Write how a row ended, and deliver it."""
        outcome = outcome_of(row, response, error)
        journal = self._context.journal
        if journal is None:
            self.deliver(row, outcome)
        elif isinstance(row, RowCall) and outcome.state == "not_sent":
            row.retract_intent()  # no result: a resumed run with a later deadline sends it
            self.deliver(row, outcome)
        else:
            journal.write(Write(row.journal_id, result_of(row, outcome), row.journal_row, self._on_written, (row, outcome)))

    def _deliver_written(self, ended: Ended, failure: JournalError | None) -> None:
        if failure is not None:
            self.fail(failure)
        self._deliver(ended)

    def deliver(self, row: RowCall | InvalidRow, outcome: Outcome) -> None:
        """Count an outcome, and deliver it to the reader."""
        self._deliver((row, outcome))

    def _deliver(self, ended: Ended) -> None:
        self._tally.add(ended[1])
        self._context.trouble = None
        self._put(ended)

    @property
    def any_succeeded(self) -> bool:
        """Whether a row of this run has succeeded."""
        return self._tally.succeeded > 0

    def abandon(self, row: RowCall) -> None:
        """End a row that was left: an outcome only where an attempt of it may have been done."""
        error = row.call.error or (in_doubt_error() if row.call.uncertain else None)
        if error is not None and error.delivery is Delivery.UNKNOWN:
            self.record(row, None, error)
        else:
            row.retract_intent()
            self._tally.not_sent += 1

    def leave(self, rows: Iterable[RowCall]) -> None:
        """Count rows that were not begun, except those that an earlier run left in doubt."""
        self._tally.not_sent += sum(not row.call.uncertain for row in rows)

    def fail(self, error: BaseException) -> None:
        """End the run early: no row could do better."""
        self.error = self.error or error
        self._stop()

    def end(self) -> None:
        """Deliver no more."""
        self._put(None)

    def _put(self, ended: Ended | None) -> None:
        # An `asyncio.Queue` does the same, and took a fortieth of all that a row takes.
        self._ended.append(ended)
        self._arrival.set()

    def take(self) -> Ended | None:
        """Return the next row that has ended already, if there is one; as many in a turn of the loop as rows begin in one."""
        if not self._ended or self._ended[0] is None or self._taken >= GRANTS_A_TURN:
            return None
        self._taken += 1
        return self._ended.popleft()

    async def next(self) -> Ended:
        """Wait for the next row that ends, and its outcome.

        Raises:
            StopAsyncIteration: after the last one, or what ended the run early.
        """
        taken, self._taken = self._taken, 1
        if taken >= GRANTS_A_TURN:
            # The rows of a journal's group end at once. If all were freed in one turn, and as many new ones made in the next
            # ones, Python would collect garbage more often, and it looks at all objects of the process.
            await asyncio.sleep(0)
        while not self._ended:
            self._arrival.clear()
            await self._arrival.wait()
        ended = self._ended.popleft()
        if ended is not None:
            return ended
        self._put(None)
        self._seen = True
        if self.error is not None:
            raise self.error
        raise StopAsyncIteration
