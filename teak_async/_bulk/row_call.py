"""The rows that a bulk run has in hand: calls that write their intents into the journal, a little ahead of their sends.

Rules of this module:

- A row is intended when it has a place in the lead, and keeps that until its permit, so few are intended and not yet sent.
- An intent that is not followed by a send is withdrawn, and what is tried again after that is intended again. The intent of
  an earlier run, which may have been followed by one, stays.
"""

from __future__ import annotations

import asyncio
from typing import cast

from attrs import define, field, frozen

from teak_async._client.executor import Call
from teak_async._journal.database import GROUP
from teak_async._journal.journal import Entry, Journal
from teak_async._limits.bucket import Lane
from teak_async.errors import ConnectionLost, Delivery, InvalidRequest, TeakError
from teak_async.models import Request, Response

from .outcomes import Outcome, Row

MIN_INTENTS = 8
"""Rows intended ahead of their send at first."""
MAX_INTENTS = GROUP // 2
"""Rows intended ahead of their send at most. The other half of a group is for what was answered and is not written yet."""


class IntentSlots:
    """Places for rows that are intended and have no permit yet: after a kill they are in doubt, so they are few.

    There is one more each time that sends have to wait for intents: on a slow disk, at a high limit, or behind a slow input.

    Args:
        least: places at first.
        most: places at most.
    """

    def __init__(self, least: int = MIN_INTENTS, most: int = MAX_INTENTS) -> None:
        self._size = least
        self._most = most
        self._free = asyncio.Semaphore(least)
        self._durable = 0

    async def acquire(self) -> None:
        """Wait for a place. Exactly one `release` has to follow."""
        await self._free.acquire()

    def written(self) -> None:
        """The intent is durable, and the row is ready to be sent."""
        self._durable += 1

    def release(self, *, written: bool) -> None:
        """The row is sent, or left."""
        self._free.release()
        self._durable -= written
        if written and not self._durable and self._size < self._most:
            # One by one: it never shrinks, and doubled at each hiccup of the disk it left twice as many rows in doubt.
            self._size += 1
            self._free.release()


@define
class RunContext:
    """What the rows in hand of one run have in common.

    Attributes:
        ahead: room for players who wait for their first permit.
        deadline: the loop's time after which nothing is sent any more.
        journal: where intents go; `None` for a run without one.
        lead: who is intended and not yet sent.
        trouble: why a row was last tried again, or left, until one ends.
    """

    ahead: asyncio.Semaphore
    deadline: float | None
    journal: Journal | None = None
    lead: IntentSlots = field(factory=IntentSlots)
    trouble: TeakError | None = None


class RowCall(Call):
    """A row's call.

    Args:
        index: the row's place in the input, from 0.
        row: what to send.
        hand: what it has in common with the others.

    Raises:
        InvalidRequest: when the row asks for nothing that can be sent.
    """

    __slots__ = ("_first", "_hand", "_intended", "_leads", "_written", "entry", "index", "line")

    def __init__(self, index: int, row: Row, hand: RunContext) -> None:
        super().__init__(cast(Request, row.request), Lane.BULK, hand.deadline)
        self.index = index
        self.line = row.line
        self.entry = None if hand.journal is None else Entry.of(index, self.request, row.source)
        self._hand = hand
        self._first = self._intended = self._leads = self._written = False

    async def reserve_lookahead(self) -> None:
        """Wait until there is room for one more player, whose first row in hand this is."""
        await self._hand.ahead.acquire()
        self._first = True

    async def write_intent(self) -> None:
        journal = self._hand.journal
        if journal is None or self.entry is None or self._intended:
            return
        await self._hand.lead.acquire()
        self._intended = self._leads = True
        await journal.write_intent(self.entry)
        self._hand.lead.written()
        self._written = True

    def release_slots(self) -> None:
        if self._first:
            self._hand.ahead.release()
            self._first = False
        if self._leads:
            self._hand.lead.release(written=self._written)
            self._leads = self._written = False

    def retract_intent(self) -> None:
        self.release_slots()
        self._hand.trouble = self.error
        if self._hand.journal is not None and self.entry is not None and self._intended and not self.resent:
            self._intended = False
            self._hand.journal.retract_intent(self.entry)


@frozen
class InvalidRow:
    """A row that asks for nothing."""

    index: int
    line: int
    error: InvalidRequest
    entry: Entry | None
    attempts: int = 0


def outcome_of(taken: RowCall | InvalidRow, response: Response | None, error: TeakError | None) -> Outcome:
    """How a row ended."""
    delivery = Delivery.DONE if error is None else error.delivery
    request = taken.request if isinstance(taken, RowCall) else None
    return Outcome(taken.index, request, response, error, delivery, taken.attempts, taken.line)


def in_doubt_error() -> ConnectionLost:
    """What a row ends with that an earlier run may have sent, and that is not sent now."""
    return ConnectionLost("an earlier run ended without knowing whether this was done")
