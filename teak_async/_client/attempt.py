"""One attempt: of a live call in a task of its own, which outlives its caller once bytes may be on the wire.

Only the response shows when a permit may come back, so an attempt must not end because its caller left. The caller waits for
a future beside the task; the task ends by itself, by `Exchange.interrupt`, or because its caller left before the send.

    the attempt is            its caller leaves            its session closes
    not begun                 `CallExecutor` discards it: the task never runs, the permit comes back at once
    begun, unsent             it is cancelled              it may still be sent
    sent, or maybe sent       it goes on, `left`           with `left` interrupted at once, else waited for

One that waits for a place (`places`) ends as the session closes. The attempt of a row runs in its player's task, which is the
run's own, and is cancelled on the wire only when the run is aborted: then the connection is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from teak_async._limits.bucket import Bucket

from .exchange import Exchange

T = TypeVar("T")


class Attempt(Generic[T]):
    """The task of one exchange, as its caller and its session see it.

    Attributes:
        exchange: what is known of the request on the wire.
        bucket: the one of its permit.
        begun: whether it has taken its first step; a task that is cancelled before never runs.
        left: whether its caller has gone while it may have been sent.
    """

    __slots__ = ("_outcome", "_task", "begun", "bucket", "exchange", "left")

    def __init__(self, exchange: Exchange, bucket: Bucket) -> None:
        self.exchange = exchange
        self.bucket = bucket
        self.begun = self.left = False

    def begin_in(self, task: asyncio.Task[Any]) -> None:
        """Record that the exchange is made in the running task; who cancels that ends the exchange."""
        self.begun = True
        self.exchange.task = task

    def leave(self) -> None:
        """Record that the task in which it is made was cancelled: it may have been sent."""
        self.left = not self.exchange.unsent

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run the exchange in a task, and wait for its result."""
        loop = asyncio.get_running_loop()
        # A future by hand costs half of what `asyncio.shield` does, which makes one and two callbacks.
        self._outcome: asyncio.Future[T] = loop.create_future()
        self._task = loop.create_task(self._run(work))
        self.exchange.task = self._task
        try:
            return await self._outcome
        except asyncio.CancelledError:
            # Also if the result came in this very step: the caller has not seen it.
            self.left = self.begun and not self.exchange.unsent
            if not self.left:
                await self._end()
            raise

    async def _run(self, work: Callable[[], Awaitable[T]]) -> None:
        self.begun = True
        try:
            self.finish(await work())
        except BaseException as failure:
            if isinstance(failure, asyncio.CancelledError):
                self._outcome.cancel()
            elif not self._outcome.done():
                self._outcome.set_exception(failure)
            if not isinstance(failure, Exception):
                raise  # a task that is cancelled says so, also to a loop that ends

    def finish(self, result: T) -> None:
        """Set the result for the caller, if it still waits."""
        if not self._outcome.done():
            self._outcome.set_result(result)

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
