"""One try on its way: it runs in the task of its caller, and goes on without the caller once bytes may be on the wire.

Theory of operation. Only the answer tells when a permit may come back, so an exchange must not end because its caller left.
A task of its own for each would do, for some four hundredths more processor time a call. Instead the exchange, a coroutine, is
driven from within the caller's task. What it waits for is watched through a gate, a future of ours. When the caller is
cancelled, only the gate is. Then, as long as nothing was sent, the exchange is cancelled, too; otherwise a task takes over and
drives it to its end.

Rules of this module:

- The exchange always ends by itself or by an exception thrown into it where it waits, never by being dropped. A task that is
  cancelled before its first step drops what it was made for, so what it drives has begun, and is ended when that happens.
- Where nobody can say what was sent, the exchange begins by letting others go first: that much is done by the caller.
- A cancellation of whoever drives is the caller's once: the task that took over has no caller, so cancelling it ends the
  exchange.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import suppress
from inspect import CORO_SUSPENDED, getcoroutinestate
from types import coroutine
from typing import Any, Generic, TypeVar

from teak_async.errors import TeakError

from .transport import Exchange

T = TypeVar("T")


class Attempt(Generic[T]):
    """Await it once for what the exchange returns.

    Args:
        work: the exchange as a coroutine.
        exchange: what is known of it.

    Attributes:
        left: whether its caller has gone, and it goes on in a task of its own.
    """

    __slots__ = ("_error", "_gate", "_loop", "_work", "exchange", "left")

    def __init__(self, work: Coroutine[Any, None, T], exchange: Exchange) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._gate: asyncio.Future[None] | None = None
        self._error: TeakError | None = None
        self.exchange = exchange
        exchange.interrupt = self.interrupt
        self.left = False

    def __await__(self) -> Generator[Any, None, T]:
        return self._drive(None, alone=False) if self.exchange.exact else self._apart().__await__()

    async def _apart(self) -> T:
        # A cancellation may be aiohttp's own timeout for connecting or the caller's. Where nobody can say that nothing was
        # sent yet, the two cannot be told apart in one task.
        self._work.send(None)
        task = self._go_on(None)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self.left = True  # even if it has ended in this very moment: nobody has seen what it returned
            raise

    def interrupt(self, error: TeakError) -> None:
        """End it with an error, at the next point where it waits."""
        self._error = error
        if self._gate is not None and not self._gate.done():
            self._gate.set_result(None)

    def _open(self, _: object) -> None:
        if self._gate is not None and not self._gate.done():
            self._gate.set_result(None)

    def _drive(self, awaited: asyncio.Future[Any] | None, *, alone: bool) -> Generator[Any, None, T]:
        work = self._work
        try:
            if awaited is None:
                awaited = work.send(None)
            while True:
                if self._error is not None:
                    error, self._error = self._error, None
                    awaited = self._throw(error, awaited)
                    continue
                gate = self._gate = self._loop.create_future()
                if awaited is None:
                    self._loop.call_soon(self._open, None)  # it only lets others go first
                else:
                    # What a task does with what its coroutine yields: the flag says that a future is awaited.
                    awaited._asyncio_future_blocking = False  # noqa: SLF001 - the protocol of awaiting, which tasks share
                    awaited.add_done_callback(self._open)
                try:
                    yield from gate
                except asyncio.CancelledError as left:
                    if not alone and not self.exchange.unsent:
                        self.left = True
                        self._go_on(awaited)
                        raise
                    awaited = self._throw(left, awaited)
                    continue
                if self._error is None:
                    awaited = work.send(None)
        except StopIteration as end:
            result: T = end.value
            return result

    def _throw(self, error: BaseException, awaited: asyncio.Future[Any] | None) -> asyncio.Future[Any] | None:
        if awaited is not None:
            awaited.remove_done_callback(self._open)  # it must not open the gate of what comes next
            awaited.cancel()
        after: asyncio.Future[Any] | None = self._work.throw(error)
        return after

    def _go_on(self, awaited: asyncio.Future[Any] | None) -> asyncio.Task[T]:
        """Drive it in a task of its own."""
        task = self._loop.create_task(self._alone(awaited))
        task.add_done_callback(lambda _: self._end_dropped(awaited))
        return task

    def _end_dropped(self, awaited: asyncio.Future[Any] | None) -> None:
        if getcoroutinestate(self._work) == CORO_SUSPENDED:
            with suppress(StopIteration, asyncio.CancelledError):
                self._go_on(self._throw(asyncio.CancelledError(), awaited))

    async def _alone(self, awaited: asyncio.Future[Any] | None) -> T:
        return await self._rest(awaited)

    @coroutine
    def _rest(self, awaited: asyncio.Future[Any] | None) -> Generator[Any, None, T]:
        return (yield from self._drive(awaited, alone=True))
