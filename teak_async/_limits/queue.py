"""The queue of one lane: which call gets the next permit."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import OrderedDict
from collections.abc import Iterator
from typing import Protocol

from teak_async.errors import SessionClosed


class Holder(Protocol):
    """Whose calls wait for permits: one of the sessions that use a bucket.

    Attributes:
        closed: whether none of its calls may be sent any more.
    """

    closed: bool

    def closed_error(self) -> SessionClosed:
        """Return the error of a call that is not sent, since this holder or the bucket was closed."""
        ...


class LaneQueue:
    """The waiting calls of one lane: the rate-limited ones by their tickets, then the others in order of arrival.

    Attributes:
        waiting: calls in it.
    """

    __slots__ = ("_new", "_rate_limited", "waiting")

    def __init__(self) -> None:
        self._rate_limited: list[tuple[int, asyncio.Future[int], Holder | None]] = []
        # Ordered, since the first key of a plain dict is slow to find behind those that were deleted.
        self._new: OrderedDict[asyncio.Future[int], Holder | None] = OrderedDict()
        self.waiting = 0

    def add(self, future: asyncio.Future[int], ticket: int | None, holder: Holder | None) -> bool:
        """Let a call wait. Exactly one `remove` has to follow.

        Returns:
            Whether nobody waits for a grant before or behind it, so that nobody has set a timer for the next one.
        """
        alone = not self._new and not self._rate_limited
        self.waiting += 1
        if ticket is None:
            self._new[future] = holder
        else:
            insort(self._rate_limited, (ticket, future, holder))
        return alone

    def remove(self, future: asyncio.Future[int], ticket: int | None) -> None:
        """Drop a call that waits no longer, wherever it stands: the one at the head may wait for an hour."""
        self.waiting -= 1
        self._new.pop(future, None)
        if ticket is not None:
            self._rate_limited = [entry for entry in self._rate_limited if entry[1] is not future]

    def grant(self, number: int) -> None:
        """Grant a permit to the call that `head` returned."""
        self._pop().set_result(number)

    def head(self) -> asyncio.Future[int] | None:
        """Return the next call, and pass over those that ended in this turn of the loop."""
        while self._rate_limited or self._new:
            future = self._rate_limited[0][1] if self._rate_limited else next(iter(self._new))
            if not future.done():
                return future
            self._pop()
        return None

    def calls(self) -> Iterator[tuple[asyncio.Future[int], Holder | None]]:
        """Return the calls that wait for a grant, in their order, each with its holder."""
        for _, future, holder in self._rate_limited:
            if not future.done():
                yield future, holder
        for future, holder in self._new.items():
            if not future.done():
                yield future, holder

    def _pop(self) -> asyncio.Future[int]:
        return self._rate_limited.pop(0)[1] if self._rate_limited else self._new.popitem(last=False)[0]
