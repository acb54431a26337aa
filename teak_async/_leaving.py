"""Wait for a task that has to end in order, however often the caller is cancelled meanwhile.

Scopes of anyio, and so of Starlette and FastAPI, cancel a task again at every await until it leaves. That is one decision to
leave, delivered many times: all of its cancellations carry the same message. A bare `cancel()` carries none, and each is a
new decision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Decisions:
    """The decisions to leave so far, which tell a new one from another delivery of an earlier one.

    Args:
        first: the exception that the caller leaves with, if any; a cancellation is a decision that is known already.
    """

    def __init__(self, first: BaseException | None = None) -> None:
        self._known: set[tuple[Any, ...]] = set()
        if isinstance(first, asyncio.CancelledError):
            self.is_new(first)

    def is_new(self, cancelled: asyncio.CancelledError) -> bool:
        """Return whether a cancellation is a new decision, and remember it."""
        message = tuple(map(repr, cancelled.args))
        if not message:
            return True
        if message in self._known:
            return False
        self._known.add(message)
        return True


async def wait_for_end(
    task: asyncio.Future[Any], decisions: Decisions, on_decision: Callable[[], object]
) -> asyncio.CancelledError | None:
    """Wait until a task has ended, and return the last cancellation that came meanwhile.

    Args:
        task: what has to end; it is not cancelled.
        decisions: those that are known.
        on_decision: called at each new decision to leave.
    """
    last: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as cancelled:
            last = cancelled
            if decisions.is_new(cancelled):
                on_decision()
    return last
