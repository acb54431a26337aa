"""One attempt in a task of its own, which outlives its caller once bytes may be on the wire.

Only the response tells when a permit may come back, so an attempt must not end because its caller left. The caller waits for
the task behind a shield; the task ends by itself, by its `Exchange.interrupt`, or because its caller left before the send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

from .transport import Exchange

T = TypeVar("T")


class Attempt(Generic[T]):
    """Await it once for what the exchange returns.

    Args:
        work: the exchange as a coroutine.
        exchange: what is known of it.
        on_end: called when a task that was cancelled has ended: cancelled before its first step, `work` never began.

    Attributes:
        left: whether its caller has gone while it may have been sent.
    """

    __slots__ = ("_on_end", "_task", "exchange", "left")

    def __init__(self, work: Coroutine[Any, None, T], exchange: Exchange, on_end: Callable[[], None] | None = None) -> None:
        self.exchange = exchange
        self.left = False
        self._task = asyncio.get_running_loop().create_task(work)
        exchange.cancel = self._task.cancel
        self._on_end = on_end

    def __await__(self) -> Generator[Any, None, T]:
        return self._result().__await__()

    async def _result(self) -> T:
        task, exchange = self._task, self.exchange
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # A task that is cancelled before its first step never runs `work`. Its caller still waits then, so the caller's
            # cancellation is the place to watch for that; a callback for every attempt cost 2 % of a call.
            if (on_end := self._on_end) is not None:
                task.add_done_callback(lambda _: on_end())
            if task.cancelled() and exchange.error is not None:
                raise exchange.error from None  # interrupted before its first step
            # Also if it has ended in this very moment: nobody has seen what it returned.
            self.left = not exchange.unsent
            if not self.left:
                await self._end()
            raise

    async def _end(self) -> None:
        """Cancel the task and wait for its end, however often the caller is cancelled meanwhile."""
        while not self._task.done():
            self._task.cancel()
            try:
                await asyncio.wait({self._task})
            except asyncio.CancelledError:
                continue
