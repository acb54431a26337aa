"""The sandbox's own counting: whether a request is within the limit, and what came in the busiest second.

It judges the client, so it shares no arithmetic with it. `now` is seconds of a monotonic clock.

Nobody outside knows by which model a server counts, so the common ones are all here. `Sliding` is exact. Whoever keeps to it
keeps to `Fixed`, `Gcra` and `TokenBucket` too, which allow up to twice the limit in some seconds. `WindowCounter` estimates,
and is both laxer and stricter: it takes the last second's requests as spread evenly, wherever in it they came.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from attrs import define, field


class LimitModel(Protocol):
    """Decides, request by request, what a limit lets through."""

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


class WindowCounter:
    """Less than `limit` by estimate: this second's requests, and of the last one's the share that a sliding window sees."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._second = 0
        self._count = 0
        self._before = 0

    def admits(self, now: float) -> bool:
        second = int(now)
        if second != self._second:
            self._before = self._count if second == self._second + 1 else 0
            self._second, self._count = second, 0
        still_seen = 1.0 - (now - second)
        if self._before * still_seen + self._count >= self._limit:
            return False
        self._count += 1
        return True


class Gcra:
    """The generic cell rate algorithm: a cell every `limit`-th of a second, and up to `limit` of them early.

    Time is counted in cells, so that the sums are exact.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._due = 0.0

    def admits(self, now: float) -> bool:
        arrived = now * self._limit
        due = max(self._due, arrived)
        if due - arrived > self._limit - 1:
            return False
        self._due = due + 1
        return True


class TokenBucket:
    """A bucket of `limit` tokens, full at first, that fills by `limit` a second; a request takes one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tokens = float(limit)
        self._at = 0.0

    def admits(self, now: float) -> bool:
        self._tokens = min(self._limit, self._tokens + (now - self._at) * self._limit)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


LIMIT_MODELS: dict[str, type[LimitModel]] = {
    "sliding": Sliding,
    "fixed": Fixed,
    "counter": WindowCounter,
    "gcra": Gcra,
    "bucket": TokenBucket,
}


@define
class PathStats:
    """What the server saw on one path.

    Attributes:
        requests: all of them.
        refused: those answered 429.
        busiest: the most requests in any one second, refused ones included.
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
