"""How long a server keeps idle connections, and for how many requests: by its headers, and by when it closed others."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from functools import lru_cache

KEEP_ALIVE = 15.0
"""Seconds that an idle connection is kept if the server neither says nor shows its own time."""
KEPT_SHARE = 0.9
"""The share of a server's keep-alive time, less the round trip, in which a connection is used."""


class KeepAlive:
    """How long a server keeps idle connections, learnt from the connections that it closed.

    Closings at about the same age show a keep-alive time, those right after a response that had carried as many requests each
    show how many a connection may carry. Those of a restart come at any age and count, and show nothing.
    """

    ENOUGH = 4
    """Closed connections that have to agree."""
    OF = 12
    """The last closed connections, among which they are sought."""
    SPREAD = 1.5
    """The longest of their ages to the shortest, at most; servers check idle connections at intervals."""
    SHORTEST = 0.005
    """Seconds, or the round trip. A connection that is closed sooner was not closed for its age."""
    APART = 0.01
    """Seconds. Connections that are closed together count as one: a server that goes down closes all of them."""
    BELIEVED = 60.0
    """Seconds for which the learnt values hold: the server may have changed."""

    STILL = 0.005
    """Seconds without an exchange's step after which the loop may have stood still."""

    __slots__ = (
        "_ages",
        "_counted_until",
        "_counts",
        "_last",
        "_look_until",
        "_stepped_at",
        "_stood_still",
        "_until",
        "most",
        "round_trip",
        "seen",
    )

    def __init__(self) -> None:
        self._ages: deque[float] = deque(maxlen=self.OF)
        self._counts: deque[int] = deque(maxlen=self.OF)
        self._until = self._counted_until = 0.0
        self._last = self._look_until = self._stepped_at = float("-inf")
        self._stood_still = False
        self.seen: float | None = None
        self.most: int | None = None
        self.round_trip = float("inf")

    def is_short(self, age: float) -> bool:
        """Say whether a connection of this age was closed for another reason."""
        return age < self.SHORTEST or (self.SHORTEST < self.round_trip < float("inf") and age < self.round_trip)

    def learn_closing(self, now: float, age: float, requests: int) -> None:
        """Record that the server closed a connection that had been idle for so long, after so many requests."""
        self._look_until = now + self.BELIEVED
        if now - self._last < self.APART:
            return
        self._last = now
        if self.is_short(age):
            self._counts.append(requests)
            if self._counts.count(requests) >= self.ENOUGH:
                self.most = requests
                self._counted_until = now + self.BELIEVED
            return
        self._ages.append(age)
        ages = sorted(self._ages)
        for shortest, longest in zip(ages, ages[self.ENOUGH - 1 :], strict=False):
            if longest <= self.SPREAD * shortest:
                self.seen = shortest
                self._until = now + self.BELIEVED
                return

    def must_look(self, now: float) -> bool:
        """Say whether the system has to be asked for data on an idle connection, which takes a system call for each request.

        The loop has read all data that came before its present turn. So the answer is yes where turns are long and the
        server closes idle connections.
        """
        still = now - self._stepped_at >= self.STILL
        self._stepped_at = now
        if still and not self._stood_still:
            self._stood_still = True
            loop = asyncio.get_running_loop()
            # Data that came meanwhile are read in the next turn, maybe after the callbacks that are ready now.
            loop.call_soon(loop.call_soon, self._go_on)
        return self._stood_still or now < self._look_until

    def _go_on(self) -> None:
        self._stood_still = False

    def learn_round_trip(self, now: float, seconds: float) -> None:
        """Record the round trip of one exchange; about the shortest of the last ones is used."""
        self._stepped_at = now
        self.round_trip = seconds if seconds < self.round_trip else self.round_trip * 1.01

    def is_worn(self, now: float, requests: int) -> bool:
        """Say whether a connection that has carried so many requests is about to be closed."""
        if self.most is None:
            return False
        if now >= self._counted_until:
            self.most = None
            self._counts.clear()
            return False
        return requests >= self.most

    def usable_for(self, now: float, announced: float | None) -> float:
        """Return the seconds for which an idle connection may be used, by what its server announced."""
        if self.seen is not None and now >= self._until:
            self.seen = None
            self._ages.clear()
        if self.seen is None and announced is None:
            return KEEP_ALIVE
        kept = min(seconds for seconds in (self.seen, announced) if seconds is not None)
        return min(KEPT_SHARE * kept - self.round_trip, KEEP_ALIVE)


@lru_cache(maxsize=256)
def read_keep_alive(header: str) -> tuple[float | None, int | None]:
    """Read the seconds and the further requests that a `Keep-Alive` header promises."""
    found = {name.lower(): int(number[:9]) for name, number in re.findall(r"(?i)\b(timeout|max)\s*=\s*\"?(\d+)", header)}
    seconds = found.get("timeout")
    return None if seconds is None else float(seconds), found.get("max")
