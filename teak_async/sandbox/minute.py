"""The last minute of one path: how many requests came in each second up to each quarter of a second, and which were too many.

It is made while somebody looks, from the requests that the sandbox remembers. `now` and the stamps are seconds of the
sandbox's clock.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from attrs import define

from .limit_models import LIMIT_MODELS

QUARTERS = 4
"""Points of the plot in a second."""
POINTS = 60 * QUARTERS
SPAN = 62.0
"""Seconds of requests that the plot needs: its minute, the second before it, and the quarter that is not over."""


@define
class Quarter:
    """The requests of a quarter of a second: all, and those too many by the sandbox's count and by each limit model's."""

    number: int
    requests: int = 0
    rate_limited: int = 0
    sliding: int = 0
    fixed: int = 0


class Minute:
    """Counts of one path.

    Args:
        limit: requests per second, for what the limit models would have said.
    """

    def __init__(self, limit: int) -> None:
        self._quarters: deque[Quarter] = deque([Quarter(0)], maxlen=round(SPAN * QUARTERS))
        self.set_limit(limit)

    def set_limit(self, limit: int) -> None:
        """Let the limit models count anew, against another limit."""
        self.limit = limit
        self._models = {name: make(limit) for name, make in LIMIT_MODELS.items()}

    def add(self, stamp: float, *, rate_limited: bool, counted: bool = True) -> None:
        """Count a request; stamps come in their order.

        Args:
            stamp: when it came.
            rate_limited: whether it got a 429.
            counted: whether it counts against the limit.
        """
        number = int(stamp * QUARTERS)
        quarter = self._quarters[-1]
        if quarter.number != number:
            quarter = Quarter(number)
            self._quarters.append(quarter)
        quarter.requests += 1
        quarter.rate_limited += rate_limited
        if counted:
            quarter.sliding += not self._models["sliding"].admits(stamp)
            quarter.fixed += not self._models["fixed"].admits(stamp)

    def look(self, now: float) -> dict[str, Any]:
        """Return the counts of the minute up to the last quarter that is over, ready for JSON.

        `plot` has for each of its quarters the requests of the second that it ends, so `plot[-1]` is the last second's.
        `marks` has the quarters with rate-limited requests, each with its place in `plot` and how many there were.
        """
        end = int(now * QUARTERS)
        first = end - POINTS
        counts = [0] * (POINTS + QUARTERS - 1)
        recent = [quarter for quarter in self._quarters if first - QUARTERS < quarter.number < end]
        for quarter in recent:
            counts[quarter.number - first + QUARTERS - 1] = quarter.requests
        shown = [quarter for quarter in recent if quarter.number >= first]
        return {
            "plot": [sum(counts[place : place + QUARTERS]) for place in range(POINTS)],
            "marks": [(quarter.number - first, quarter.rate_limited) for quarter in shown if quarter.rate_limited],
            "minute": {
                name: sum(getattr(quarter, name) for quarter in shown)
                for name in ("requests", "rate_limited", "sliding", "fixed")
            },
        }
