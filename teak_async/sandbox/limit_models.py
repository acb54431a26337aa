"""How the sandbox counts: whether a request is within the limit, and how many came in the busiest second.

It judges the client, so it shares no arithmetic with the client. Teak documents limits per second, but not where a second
begins: `Sliding` limits every window of one second, `Fixed` each second of the clock. A client within `Sliding` is within
`Fixed`, too.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from attrs import define, field


class LimitModel(Protocol):
    """A way to count requests against a limit. `now` is seconds of a monotonic clock."""

    def __init__(self, limit: int) -> None: ...

    def admits(self, now: float) -> bool: ...


class Sliding:
    """At most `limit` in any window of one second."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._stamps: deque[float] = deque()

    def admits(self, now: float) -> bool:
        stamps = self._stamps
        while stamps and stamps[0] <= now - 1.0:
            stamps.popleft()
        if len(stamps) >= self._limit:
            return False
        stamps.append(now)
        return True


class Fixed:
    """At most `limit` in each second of the clock."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._second = 0
        self._count = 0

    def admits(self, now: float) -> bool:
        if int(now) != self._second:
            self._second, self._count = int(now), 0
        if self._count >= self._limit:
            return False
        self._count += 1
        return True


LIMIT_MODELS: dict[str, type[LimitModel]] = {"sliding": Sliding, "fixed": Fixed}


@define
class PathStats:
    """What the server received on one path.

    Attributes:
        requests: all of them.
        rate_limited: those that got a 429.
        busiest: the most requests in any one second, rate-limited ones included.
        first: stamp of the first request, in seconds of the server's monotonic clock; 0 before it.
        last: stamp of the last one.
        first_second: requests in the second after the first.
    """

    requests: int = 0
    rate_limited: int = 0
    busiest: int = 0
    first: float = 0.0
    last: float = 0.0
    first_second: int = 0
    _recent: deque[float] = field(factory=deque, repr=False)

    def count(self, now: float) -> None:
        if not self.requests:
            self.first = now
        self.requests += 1
        self.last = now
        self.first_second += now - self.first <= 1.0
        recent = self._recent
        recent.append(now)
        while recent[0] <= now - 1.0:
            recent.popleft()
        self.busiest = max(self.busiest, len(recent))

    @property
    def rate_after_first_second(self) -> float:
        """Requests per second from one second after the first request to the last one."""
        span = self.last - self.first - 1.0
        return (self.requests - self.first_second) / span if span > 0 else 0.0

    def as_dict(self) -> dict[str, float]:
        names = ("requests", "rate_limited", "busiest", "rate_after_first_second")
        return {name: getattr(self, name) for name in names}
