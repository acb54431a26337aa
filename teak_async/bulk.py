"""Bulk runs: thousands of calls at once, under the limits, as a stream of outcomes.

Theory of operation. A puller takes rows from the input as long as fewer than `capacity` are in hand; a row is in hand from
then until its outcome is taken by whoever reads the run. That one bound is why memory does not grow with the input and
why a slow reader slows the run. Each player in hand has a task, which makes the player's rows one after the other; the
tasks of different players overlap. The session does the rest, in its bulk lane.

Rules of this module:

- Rows of one player keep their input order.
- A row that fails is an outcome. Only the input itself breaking ends a run early, and then what was sent is finished first.
- Leaving a run, by `break`, an error or cancellation, sends nothing new and finishes what is on the wire. Being cancelled
  once more while that goes on aborts it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any

from attrs import frozen

from .bucket import Lane
from .errors import Delivery, InvalidRequest, SessionClosed, TeakError
from .models import Request, Response
from .session import Call

if TYPE_CHECKING:
    from typing import Self

    from .session import TeakSession

MOST_IN_HAND = 500
"""Rows in hand at most, whatever the limit: each may have a connection of its own, and systems allow about a thousand."""


@frozen
class Outcome:
    """How one row ended.

    Attributes:
        index: the row's place in the input, from 0.
        request: what was asked; `None` where the row could not be read.
        response: what the server said, when it succeeded.
        error: why it failed, otherwise.
        delivery: what became of it at the server.
        attempts: how many tries were made.
    """

    index: int
    request: Request | None
    response: Response | None
    error: TeakError | None
    delivery: Delivery
    attempts: int


@frozen
class Report:
    """The count of a run. `succeeded + failed + in_doubt + skipped == total`, always.

    Attributes:
        total: rows that ended.
        succeeded: rows with a response.
        failed: rows with an error that tells what became of them.
        in_doubt: rows that end `UNKNOWN`.
        skipped: rows finished in an earlier run.
        elapsed: seconds.
        rate: rows ended per second, the skipped left out.
    """

    total: int
    succeeded: int
    failed: int
    in_doubt: int
    skipped: int
    elapsed: float
    rate: float


class BulkRun:
    """One bulk run: `async with teak.bulk(requests) as run:` and `async for outcome in run`, or `await teak.bulk(requests)`.

    Outcomes come as they finish. The rows in hand are bounded by the limit, so input of any length takes the same memory.
    """

    def __init__(self, session: TeakSession, requests: Iterable[Any] | AsyncIterable[Any]) -> None:
        if not isinstance(requests, Iterable | AsyncIterable):
            raise TypeError(f"requests must be an iterable or an async iterable, not {type(requests).__name__}")
        self._session = session
        self._source = requests
        limits = session.limits
        self._capacity = asyncio.Semaphore(min(max(limits.identify, limits.subscription), MOST_IN_HAND))
        self._players: dict[str, deque[tuple[int, Call]]] = {}
        self._tasks: dict[asyncio.Task[None], Call] = {}
        self._outcomes: asyncio.Queue[Outcome | None] = asyncio.Queue()
        self._main: asyncio.Task[None] | None = None
        self._puller: asyncio.Task[None] | None = None
        self._broken: Exception | None = None
        self._stopping = False
        self._began = self._ended = 0.0
        self._succeeded = self._failed = self._in_doubt = self._skipped = 0

    @property
    def report(self) -> Report:
        """The count so far."""
        ended = self._succeeded + self._failed + self._in_doubt
        now = self._ended or (asyncio.get_running_loop().time() if self._main else 0.0)
        elapsed = now - self._began
        return Report(
            total=ended + self._skipped,
            succeeded=self._succeeded,
            failed=self._failed,
            in_doubt=self._in_doubt,
            skipped=self._skipped,
            elapsed=elapsed,
            rate=ended / elapsed if elapsed > 0 else 0.0,
        )

    async def __aenter__(self) -> Self:
        if self._main is not None:
            raise RuntimeError("a run is made once; make another one with teak.bulk(...)")
        self._began = asyncio.get_running_loop().time()
        self._puller = asyncio.create_task(self._pull())
        self._main = asyncio.create_task(self._run(self._puller))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._main is not None
        self.stop()
        try:
            await asyncio.wait({self._main})
        except asyncio.CancelledError:
            self.abort()
            await asyncio.wait({self._main})
            raise

    def __aiter__(self) -> AsyncIterator[Outcome]:
        if self._main is None:
            raise TypeError("open the run first: `async with teak.bulk(...) as run:`, or await it for its report")
        return self

    async def __anext__(self) -> Outcome:
        outcome = await self._outcomes.get()
        if outcome is None:
            self._outcomes.put_nowait(None)
            if self._broken is not None:
                raise self._broken
            raise StopAsyncIteration
        self._capacity.release()
        return outcome

    def __await__(self) -> Generator[Any, None, Report]:
        return self._drain().__await__()

    async def _drain(self) -> Report:
        async with self:
            async for _ in self:
                pass
        return self.report

    def stop(self) -> None:
        """Send nothing new, and finish what is on the wire. Rows that were not sent get no outcome."""
        if self._stopping or self._puller is None:
            return
        self._stopping = True
        self._puller.cancel()
        for task, call in self._tasks.items():
            call.last = True
            if not call.on_wire:
                task.cancel()

    def abort(self) -> None:
        """Leave even what is on the wire."""
        self.stop()
        for task in self._tasks:
            task.cancel()

    async def _run(self, puller: asyncio.Task[None]) -> None:
        await asyncio.wait({puller})
        if not self._stopping:
            # What a broken input raised is the reader's to see, after all that was sent.
            error = RuntimeError("the input was cancelled") if puller.cancelled() else puller.exception()
            self._broken = error if isinstance(error, Exception) else self._broken
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._ended = asyncio.get_running_loop().time()
        self._outcomes.put_nowait(None)

    async def _pull(self) -> None:
        index = 0
        async with aclosing(_rows(self._source)) as rows:
            await self._capacity.acquire()
            async for row in rows:
                try:
                    if isinstance(row, InvalidRequest):
                        raise row
                    call = Call(row, Lane.BULK)
                except InvalidRequest as error:
                    self._settle(index, None, None, error, 0)
                else:
                    self._admit(index, call)
                index += 1
                await self._capacity.acquire()

    def _admit(self, index: int, call: Call) -> None:
        player = call.request.user_id
        if (queue := self._players.get(player)) is not None:
            queue.append((index, call))
            return
        self._players[player] = deque([(index, call)])
        task = asyncio.create_task(self._play(player))
        self._tasks[task] = call
        task.add_done_callback(self._tasks.pop)

    async def _play(self, player: str) -> None:
        """Make one player's calls, one after the other, until none is in hand."""
        queue = self._players[player]
        task = asyncio.current_task()
        assert task is not None
        try:
            while queue and not self._stopping:
                index, call = queue[0]
                self._tasks[task] = call
                response, error = None, None
                try:
                    response = await self._session.perform(call)
                except asyncio.CancelledError:
                    self._leave(index, call)
                    raise
                except SessionClosed:
                    self._leave(index, call)
                    raise
                except TeakError as failure:
                    error = failure
                self._settle(index, call.request, response, error, call.attempts)
                queue.popleft()
        except Exception as error:  # noqa: BLE001 - raised again by whoever reads the outcomes
            self._broken = self._broken or error
            self.stop()
        finally:
            del self._players[player]

    def _leave(self, index: int, call: Call) -> None:
        """Tell of a row that was left: only where a try of it may have been done is that an outcome."""
        if call.error is not None and call.error.delivery is Delivery.UNKNOWN:
            self._settle(index, call.request, None, call.error, call.attempts)

    def _settle(
        self, index: int, request: Request | None, response: Response | None, error: TeakError | None, attempts: int
    ) -> None:
        delivery = Delivery.DONE if error is None else error.delivery
        if error is None:
            self._succeeded += 1
        elif delivery is Delivery.UNKNOWN:
            self._in_doubt += 1
        else:
            self._failed += 1
        self._outcomes.put_nowait(Outcome(index, request, response, error, delivery, attempts))


async def _rows(source: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    if isinstance(source, AsyncIterable):
        try:
            async for row in source:
                yield row
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()
    else:
        try:
            for row in source:
                yield row
        finally:
            if isinstance(source, Generator):
                source.close()
