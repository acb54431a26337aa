"""Deadlines, after which nothing is sent. Pure, except that a date is compared with the wall clock each time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from math import inf, isfinite
from numbers import Real
from typing import TypeAlias

from attrs import frozen

Deadline: TypeAlias = float | timedelta | datetime | None

FAR = 1e9
"""Seconds, some thirty years: no loop has to sleep for longer."""


@frozen
class DueTime:
    """A deadline of one call or run.

    Attributes:
        at: a time of the running loop, or of Unix.
        on_wall_clock: whether it is of Unix. While a machine is suspended the loop's clock stands still, and the wall clock
            goes on.
    """

    at: float
    on_wall_clock: bool = False

    def seconds_left(self, now: float) -> float:
        """Return the seconds from `now`, the loop's time; 0 or less when the deadline has passed."""
        return min(self.at - (time.time() if self.on_wall_clock else now), FAR)


def due_time(deadline: Deadline, now: float) -> DueTime | None:
    """Return when a deadline passes.

    Args:
        deadline: seconds or a `timedelta` from now, or a `datetime` with a time zone; `None` for no deadline.
        now: the loop's time.

    Raises:
        ValueError: for a number that is not finite, or a `datetime` without a time zone.
        TypeError: for anything else.
    """
    if deadline is None:
        return None
    if isinstance(deadline, datetime):
        if deadline.tzinfo is None:
            raise ValueError("a deadline needs a time zone: datetime.now(timezone.utc) + timedelta(hours=1)")
        return DueTime(deadline.timestamp(), on_wall_clock=True)
    return DueTime(now + as_seconds("deadline", deadline, kinds="a number of seconds, a timedelta or a datetime"))


def as_seconds(
    name: str, value: float | timedelta, *, least: float = -inf, kinds: str = "a number of seconds or a timedelta"
) -> float:
    """Return a span of time in seconds; `name` and `kinds`, what it may be, stand in messages.

    Raises:
        ValueError: for a number that is not finite, or is below `least`.
        TypeError: for a value that is no span of time.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be {kinds}, not {type(value).__name__}")
    if not isfinite(value):
        raise ValueError(f"{name} must be a finite number of seconds, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least:g} or more seconds, not {value!r}")
    return float(value)


def seconds_of(name: str) -> Callable[[float | timedelta], float]:
    """Make the converter of an attrs field that is a span of time."""
    return partial(as_seconds, name)
