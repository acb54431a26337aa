"""A made-up world around the bucket, in virtual time: ways that take their time, clients that ask, a server that counts.

Only the bucket is the client's own code. The server counts by itself, and shares no arithmetic with it.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Coroutine, Iterator
from typing import Any, Protocol

from teak_async._limits.bucket import Bucket, Lane

from .processes import LIMIT

WAITERS = 16
"""Calls that wait in a lane that always wants more: as many as a turn of the loop can grant."""
SEEDS = 3
FRESH = 20_000
"""The first seed. No constant of the client was chosen by a seed from here on."""


class Way(Protocol):
    """Returns the seconds that one way takes which begins now."""

    def __call__(self, now: float, /) -> float: ...


class Server(Protocol):
    """Counts a request that came now, and returns whether it is within the limit."""

    def __call__(self, now: float, /) -> bool: ...


class Client:
    """One bucket, and all that is sent with its permits.

    Attributes:
        sent: requests that got a permit.
        tasks: those that call.
        waits: seconds that each call of `call` waited for its first permit, with the moment at which it asked.
    """

    def __init__(self, up: Way, down: Way, server: Server) -> None:
        self.bucket = Bucket("/v2/virtual", LIMIT)
        self.waits: list[tuple[float, float]] = []
        self.sent = 0
        self._up, self._down, self._server = up, down, server
        self._loop = asyncio.get_running_loop()
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the rest, until `stop`."""
        task = self._loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def want_more(self, lane: Lane) -> None:
        """From now on there are always calls waiting in a lane."""
        for _ in range(WAITERS):
            self.start(self._ask_again(lane))

    async def come_by(self, draw: random.Random, rate: float) -> None:
        """Live calls at random moments, so many a second."""
        while True:
            await asyncio.sleep(draw.expovariate(rate))
            self.start(self.call(Lane.LIVE))

    async def call(self, lane: Lane, ticket: int | None = None) -> None:
        """Make one call."""
        asked = self._loop.time()
        granted = await self.bucket.acquire(lane, ticket)
        now = self._loop.time()
        if ticket is None:
            self.waits.append((asked, now - asked))
        self._send(now, lane, granted)

    async def stop(self) -> None:
        """Cancel all that waits."""
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)

    async def _ask_again(self, lane: Lane) -> None:
        while True:
            granted = await self.bucket.acquire(lane)
            self._send(self._loop.time(), lane, granted)

    def _send(self, now: float, lane: Lane, ticket: int) -> None:
        self.sent += 1
        self._loop.call_at(now + self._up(now), self._arrive, now, lane, ticket)

    def _arrive(self, sent: float, lane: Lane, ticket: int) -> None:
        now = self._loop.time()
        self._loop.call_at(now + self._down(now), self._respond, sent, lane, ticket, self._server(now))

    def _respond(self, sent: float, lane: Lane, ticket: int, admitted: bool) -> None:
        taken = self._loop.time() - sent
        if not admitted:
            self.bucket.record_rate_limit(sent, None)
        self.bucket.release_answered(taken, taken, warm=True)
        if not admitted:
            self.start(self.call(lane, ticket))


class Stamps:
    """A server that admits everything and keeps the moments; what a sliding window would say is counted afterwards."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def __call__(self, now: float) -> bool:
        self.stamps.append(now)
        return True

    def busiest(self) -> int:
        """The most in any one second."""
        most = start = 0
        for end, stamp in enumerate(self.stamps):
            while self.stamps[start] <= stamp - 1.0:
                start += 1
            most = max(most, end - start + 1)
        return most

    def over(self) -> int:
        """How many a sliding window would not have admitted."""
        window: deque[float] = deque()
        over = 0
        for stamp in self.stamps:
            while window and window[0] <= stamp - 1.0:
                window.popleft()
            if len(window) < LIMIT:
                window.append(stamp)
            else:
                over += 1
        return over

    def rate(self, since: float, until: float) -> float:
        """Requests a second between two moments."""
        return sum(since <= stamp < until for stamp in self.stamps) / (until - since)


class SharedServer:
    """A server that counts one limit for us and for somebody else.

    Args:
        fixed: whether it counts by the seconds of its clock; else by any second.
        counts_all: whether rate-limited requests count, too.
        others: the moments at which somebody else's requests come.

    Attributes:
        admitted: the moments of our requests that it admitted.
        rate_limited: the moments of the others of ours.
    """

    def __init__(self, *, fixed: bool, counts_all: bool, others: Iterator[float]) -> None:
        self.admitted: list[float] = []
        self.rate_limited: list[float] = []
        self._fixed, self._counts_all = fixed, counts_all
        self._others = others
        self._next = next(others, float("inf"))
        self._window: deque[float] = deque()

    def __call__(self, now: float) -> bool:
        while self._next <= now:
            self._admits(self._next)
            self._next = next(self._others, float("inf"))
        admitted = self._admits(now)
        (self.admitted if admitted else self.rate_limited).append(now)
        return admitted

    def _admits(self, now: float) -> bool:
        window = self._window
        begin = int(now) if self._fixed else now - 1.0
        while window and (window[0] < begin if self._fixed else window[0] <= begin):
            window.popleft()
        admitted = len(window) < LIMIT
        if admitted or self._counts_all:
            window.append(now)
        return admitted


def evenly_jittered(draw: random.Random, delay: float, jitter: float) -> Way:
    """A way of so many seconds and up to so many more."""
    return lambda _: delay + jitter * draw.random()
