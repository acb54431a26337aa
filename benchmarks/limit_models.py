"""The limit models that servers commonly have: the sandbox's two, and three more.

Teak does not say by which model its server counts, so the benchmarks count by all of them. A client within `Sliding` is
within `Fixed`, `Gcra` and `TokenBucket`, too: they allow up to twice the limit in some seconds. `WindowCounter` estimates,
and is both laxer and stricter: it takes the last second's requests as spread evenly, wherever in it they came.
"""

from __future__ import annotations

from teak_async.sandbox import limit_models
from teak_async.sandbox.limit_models import LimitModel


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
    **limit_models.LIMIT_MODELS,
    "counter": WindowCounter,
    "gcra": Gcra,
    "bucket": TokenBucket,
}
