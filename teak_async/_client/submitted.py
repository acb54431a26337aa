"""The calls that were submitted: made by themselves, for a tick loop that cannot await.

Rules of this module:

- There is a bound, and a call beyond it is refused at once: what piles up without one is lost all at once later.
- Who submits gets a future and may drop it. Nothing is lost with it: what was not delivered when the session ended is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from teak_async.errors import BacklogFull, Delivery, TeakError
from teak_async.models import Request

R = TypeVar("R")

_log = logging.getLogger("teak_async")


class Backlog:
    """Submitted calls under way.

    Args:
        most: calls at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: dict[asyncio.Task[Any], Request] = {}

    def check(self) -> None:
        """Refuse what is too much.

        Raises:
            BacklogFull: when there is no room.
        """
        if len(self._calls) >= self._most:
            raise BacklogFull(
                f"{self._most:,} submitted calls are waiting already, which is what backlog= allows: submit less, or await"
            )

    def add(self, request: Request, call: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Make a call of which `check` said that there is room."""
        task = asyncio.get_running_loop().create_task(call)
        self._calls[task] = request
        task.add_done_callback(self._calls.pop)
        return task

    async def drain(self, seconds: float) -> None:
        """Wait for what was submitted."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=seconds)

    def left(self) -> Left:
        """Note what has not ended yet; to be asked for what became of it when the session is closed."""
        return Left(self._calls)


class Left:
    """Submitted calls that a session leaves behind."""

    def __init__(self, calls: dict[asyncio.Task[Any], Request]) -> None:
        self._calls = dict(calls)

    async def told(self) -> tuple[tuple[Request, TeakError], ...]:
        """What became of each that was not delivered; said in the log, too."""
        if self._calls:
            await asyncio.wait(self._calls)
        errors = ((request, _error(task)) for task, request in self._calls.items())
        told = tuple((request, error) for request, error in errors if error is not None)
        if told:
            unknown = sum(error.delivery is Delivery.UNKNOWN for _, error in told)
            _log.warning(
                "submitted calls not delivered when the session closed: %d; that may have been: %d; see session.undelivered",
                len(told) - unknown,
                unknown,
            )
        return told


def _error(task: asyncio.Task[Any]) -> TeakError | None:
    if task.cancelled():
        return None  # whoever submitted it wanted it no more
    error = task.exception()
    return error if isinstance(error, TeakError) else None
