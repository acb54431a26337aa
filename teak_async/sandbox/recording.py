"""The latest requests with their answers, kept for the page.

The sandbox records every request whether somebody looks or not, so recording is an append to a list of bounded length, and
nothing is written in words before somebody looks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from .server import Received

KEPT = 100
"""Requests kept of each kind."""
UNSEEN = 20
"""Requests kept while nobody looks: to keep more takes a busy sandbox one percent of its time, in memory that has gone cold."""
MAX_BODY = 4096
"""Bytes kept of an answer."""


Answer: TypeAlias = tuple[int, bytes, str]
"""What goes down to the client: status, body, media type."""


class Exchange(NamedTuple):
    """A request and what became of it.

    Attributes:
        number: from 0, in the order of the stamps.
        received: the request as the sandbox remembers it.
        method: of HTTP.
        answer: `None` where the connection was cut; its body is cut after `MAX_BODY` bytes.
        secret: the one that the client sent, so that it can be masked.
    """

    number: int
    received: Received
    method: str
    answer: Answer | None
    secret: Any


class Recording:
    """The latest requests, and the latest of those that went wrong, which a busy client would soon push out.

    Attributes:
        failures: how many went wrong: with a fault, or a status of 400 or more.
    """

    def __init__(self) -> None:
        # Plain tuples, which are made in a fraction of the time.
        self._latest: deque[tuple[int, Received, str, Answer | None, Any]] = deque(maxlen=UNSEEN)
        self._failed: deque[tuple[int, Received, str, Answer | None, Any]] = deque(maxlen=KEPT)
        self._numbers = count()
        self._readers = 0
        self.failures = 0

    def add(self, received: Received, method: str, answer: Answer | None, secret: Any) -> None:
        """Keep a request."""
        if answer is not None and len(answer[1]) > MAX_BODY:
            answer = answer[0], answer[1][:MAX_BODY], answer[2]
        exchange = (next(self._numbers), received, method, answer, secret)
        self._latest.append(exchange)
        if received.status >= 400 or received.fault is not None:
            self._failed.append(exchange)
            self.failures += 1

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Keep more while somebody looks."""
        self._count_reader(1)
        try:
            yield
        finally:
            self._count_reader(-1)

    def _count_reader(self, change: int) -> None:
        self._readers += change
        self._latest = deque(self._latest, maxlen=KEPT if self._readers else UNSEEN)

    def since(self, number: int) -> list[Exchange]:
        """Return what is kept from a number on, oldest first."""
        found = {one[0]: one for kept in (self._failed, self._latest) for one in kept if one[0] >= number}
        return [Exchange(*found[number]) for number in sorted(found)]
