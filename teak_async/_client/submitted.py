"""The calls that were submitted: made by themselves, for a tick loop that cannot await.

A caller of `submit` gets a future and may drop it. Nothing is lost with it: `Undelivered` says what became of each call that
was not delivered when the session closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from teak_async._notify import log
from teak_async.errors import BacklogFull, Delivery, TeakError
from teak_async.models import Request

R = TypeVar("R")


class Backlog:
    """Submitted calls under way.

    Args:
        most: calls at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: dict[asyncio.Task[Any], Request] = {}
        self._cancelled = 0

    @property
    def busy(self) -> bool:
        """Whether a call is under way."""
        return bool(self._calls)

    @property
    def abandoned(self) -> int:
        """Calls that have not ended, or were cancelled: a loop that ends cancels all that is left."""
        return len(self._calls) + self._cancelled

    def check_room(self) -> None:
        """See that there is room for one more call.

        Raises:
            BacklogFull: when there is none.
        """
        # Without a bound what piles up is lost all at once later, so a call beyond it fails now.
        if len(self._calls) >= self._most:
            raise BacklogFull(
                f"{self._most:,} submitted calls are under way already, which is what backlog= allows: submit less, or await"
            )

    def add(self, request: Request, call: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Make a call for which `check_room` found room."""
        task = asyncio.get_running_loop().create_task(call)
        self._calls[task] = request
        task.add_done_callback(self._drop)
        return task

    def _drop(self, task: asyncio.Task[Any]) -> None:
        del self._calls[task]
        self._cancelled += task.cancelled()

    async def drain(self, seconds: float) -> None:
        """Wait for what was submitted."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=seconds)

    def undelivered(self) -> Undelivered:
        """Note the calls that have not ended yet."""
        return Undelivered(self._calls)


class Undelivered:
    """Submitted calls that had not ended when their session began to close."""

    def __init__(self, calls: dict[asyncio.Task[Any], Request]) -> None:
        self._calls = dict(calls)

    async def collect(self) -> tuple[tuple[Request, TeakError], ...]:
        """Wait for them, and return those that were not delivered, each with what became of it; the log says it, too."""
        if self._calls:
            await asyncio.wait(self._calls)
        errors = ((request, _error_of(task)) for task, request in self._calls.items())
        undelivered = tuple((request, error) for request, error in errors if error is not None)
        if undelivered:
            unknown = sum(error.delivery is Delivery.UNKNOWN for _, error in undelivered)
            log(
                logging.WARNING,
                "submitted calls not delivered when the session closed: %d; that may have been: %d; see session.undelivered",
                len(undelivered) - unknown,
                unknown,
            )
        return undelivered


def _error_of(task: asyncio.Task[Any]) -> TeakError | None:
    if task.cancelled():
        return None  # its caller wanted it no more
    error = task.exception()
    return error if isinstance(error, TeakError) else None
