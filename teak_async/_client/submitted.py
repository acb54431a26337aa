"""Submitted calls: made in the background, for a tick loop that cannot await.

`Undelivered` says what became of each call that was under way when the session began to close, since its caller may be gone by
then.
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
        """Calls that have not ended, or were cancelled, as by the end of the loop."""
        return len(self._calls) + self._cancelled

    def check_room(self) -> None:
        """Check that there is room for one more call.

        Raises:
            BacklogFull: when there is none.
        """
        # Without a bound the calls would pile up and all be lost later, so a call beyond it fails now.
        if len(self._calls) >= self._most:
            raise BacklogFull(
                f"{self._most:,} submitted calls are under way already, which is all that backlog= allows: submit it later"
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
        """Wait for the submitted calls."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=seconds)

    def undelivered(self) -> Undelivered:
        """Note the calls that are under way."""
        return Undelivered(self._calls)


class Undelivered:
    """Submitted calls that were under way when their session began to close."""

    def __init__(self, calls: dict[asyncio.Task[Any], Request]) -> None:
        self._calls = dict(calls)

    async def collect(self) -> tuple[tuple[Request, TeakError], ...]:
        """Wait for them, and return those that failed, each with its error; how many is logged."""
        if self._calls:
            await asyncio.wait(self._calls)
        errors = ((request, _error_of(task)) for task, request in self._calls.items())
        undelivered = tuple((request, error) for request, error in errors if error is not None)
        if undelivered:
            unknown = sum(error.delivery is Delivery.UNKNOWN for _, error in undelivered)
            log(
                logging.WARNING,
                "as the session closed, submitted calls were not delivered: %d; may have been: %d; its `undelivered` has them",
                len(undelivered) - unknown,
                unknown,
            )
        return undelivered


def _error_of(task: asyncio.Task[Any]) -> TeakError | None:
    if task.cancelled():
        return None  # its caller has cancelled it
    error = task.exception()
    return error if isinstance(error, TeakError) else None
