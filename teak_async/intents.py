"""The rows that a bulk run has in hand: calls that write their intents into the journal, a little ahead of their sends.

Rules of this module:

- A row without a permit has a place in the lead, so few are intended ahead of their send, and few wait in vain.
- A row has its place before its task exists. One that is tried again, or waited for another row of its player, gets it then.
- An intent that is not followed by a send is withdrawn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from attrs import frozen

from .bucket import Lane
from .calls import Call
from .errors import InvalidRequest, TeakError
from .journal import Entry, Journal
from .models import Request
from .outcomes import Row
from .store import GROUP

LEAST_INTENDED = 8
MOST_INTENDED = GROUP // 2
"""Places in the lead of a run with a journal. The other half of a group is for what was answered and is not written yet."""


class Lead:
    """Places for rows that are to be sent and have no permit yet.

    With a journal they are intended, and after a kill in doubt. So there are few places, and more only where sends have to
    wait for intents, on a slow disk or at a high limit.

    Args:
        least: places at first.
        most: places at most.
    """

    def __init__(self, least: int, most: int) -> None:
        self._size = least
        self._most = most
        self._free = asyncio.Semaphore(least)
        self._durable = 0

    async def take(self) -> None:
        """Wait for a place. Exactly one `give_back` has to follow."""
        await self._free.acquire()

    def written(self) -> None:
        """The intent is durable, and the row is ready to be sent."""
        self._durable += 1

    def give_back(self, *, written: bool) -> None:
        """The row is sent, or left."""
        self._free.release()
        self._durable -= written
        if written and not self._durable and self._size < self._most:
            self._size += 1
            self._free.release()


class RowCall(Call):
    """A row's call.

    Args:
        index: the row's place in the input, from 0.
        row: what to send.
        journal: where its intents go; `None` for a run without one.
        lead: where it has its place.
        deadline: the loop's time after which nothing is sent any more.
        tried_again: told when the row will be tried again, with the reason, or is left.

    Raises:
        InvalidRequest: when the row asks for nothing that can be sent.
    """

    __slots__ = ("_intended", "_journal", "_lead", "_leads", "_tried_again", "_written", "entry", "index", "line")

    def __init__(
        self,
        index: int,
        row: Row,
        journal: Journal | None,
        lead: Lead,
        deadline: float | None,
        tried_again: Callable[[TeakError | None], None],
    ) -> None:
        super().__init__(cast(Request, row.request), Lane.BULK, deadline)
        self.index = index
        self.line = row.line
        self.entry = None if journal is None else Entry.of(index, self.request, row.source)
        self._journal = journal
        self._lead = lead
        self._tried_again = tried_again
        self._intended = self._leads = self._written = False

    async def place(self) -> None:
        """Wait for a place in the lead."""
        await self._lead.take()
        self._leads = True

    async def intend(self) -> None:
        if self._journal is None or self.entry is None or self._intended:
            return
        if not self._leads:
            await self.place()
        self._intended = True
        await self._journal.intend(self.entry)
        self._lead.written()
        self._written = True

    def granted(self) -> None:
        if self._leads:
            self._lead.give_back(written=self._written)
            self._leads = self._written = False

    def withdraw(self) -> None:
        self.granted()
        self._tried_again(self.error)
        if self._journal is not None and self.entry is not None and self._intended:
            self._intended = False
            self._journal.withdraw(self.entry)


@frozen
class Unreadable:
    """A row that asks for nothing."""

    index: int
    line: int
    error: InvalidRequest
    entry: Entry | None
    attempts: int = 0
