"""A deadline, as callers give it, as the time of the running loop."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TypeAlias

Deadline: TypeAlias = float | datetime | None


def loop_time(deadline: Deadline) -> float | None:
    """A deadline as the running loop's time."""
    if deadline is None:
        return None
    now = asyncio.get_running_loop().time()
    if isinstance(deadline, datetime):
        if deadline.tzinfo is None:
            raise ValueError("a deadline needs a time zone: datetime.now(timezone.utc) + timedelta(hours=1)")
        return now + (deadline - datetime.now(UTC)).total_seconds()
    return now + deadline
