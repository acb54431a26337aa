"""One attempt in a task of its own, which outlives its caller once bytes may be on the wire.

Only the response shows when a permit may come back, so an attempt must not end because its caller left. The caller waits for
a future beside the task; the task ends by itself, by `Exchange.interrupt`, or because its caller left before the send.

    the attempt is            its caller leaves            its session closes
    not begun                 `CallExecutor` discards it: the task never runs, the permit comes back at once
    begun, unsent             it is cancelled              it may still be sent
    sent, or maybe sent       it goes on, `left`           with `left` interrupted at once, else waited for

One that waits for a place (`places`) ends as the session closes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from teak_async._limits.bucket import Bucket

from .exchange import Exchange

T = TypeVar("T")


class Attempt(Generic[T]):
    """The task of one exchange, as its caller and its session see it.

    Attributes:
        exchange: what is known of the request on the wire.
        bucket: the one of its permit.
        begun: whether the task has taken its first step; one that is cancelled before never runs.
        left: whether its caller has gone while it may have been sent.
    """

    __slots__ = ("_outcome", "_task", "begun", "bucket", "exchange", "left")

    def __init__(self, exchange: Exchange, bucket: Bucket) -> None:
        self.exchange = exchange
        self.bucket = bucket
        self.begun = self.left = False

    async def run(self, work: Coroutine[Any, Any, None]) -> T:
        """Run the exchange in a task, and wait for its result.

        Args:
            work: sets `begun` with its first step, and ends with `finish` or `fail`.
        """
        loop = asyncio.get_running_loop()
        # A future by hand costs half of what `asyncio.shield` does, which makes one and two callbacks.
        self._outcome: asyncio.Future[T] = loop.create_future()
        self._task = loop.create_task(work)
        self.exchange.task = self._task
        try:
            return await self._outcome
        except asyncio.CancelledError:
            # Also if the result came in this very step: the caller has not seen it.
            self.left = self.begun and not self.exchange.unsent
            if not self.left:
                await self._end()
            raise

    def finish(self, result: T) -> None:
        """Set the result for the caller, if it still waits."""
        if not self._outcome.done():
            self._outcome.set_result(result)

    def fail(self, failure: BaseException) -> None:
        """Raise in the caller, if it still waits, what ended the work without a result."""
        if isinstance(failure, asyncio.CancelledError):
            self._outcome.cancel()
        elif not self._outcome.done():
            self._outcome.set_exception(failure)

    def cancel(self) -> None:
        """Cancel the task."""
        self._task.cancel()

    async def _end(self) -> None:
        """Cancel the task and wait for its end, however often the caller is cancelled meanwhile."""
        while not self._task.done():
            self._task.cancel()
            try:
                await asyncio.wait({self._task})
            except asyncio.CancelledError:
                continue
