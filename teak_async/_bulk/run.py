"""Bulk runs: thousands of calls at once, under the limits, as a stream of outcomes.

Theory of operation. A puller takes rows from the input as long as fewer than `capacity` are in hand; a row is in hand from
then until its outcome is taken by whoever reads the run. That one bound is why memory does not grow with the input and
why a slow reader slows the run. Each player in hand has a task, which makes the player's rows one after the other; the
tasks of different players overlap. The puller waits, too, while half a second's worth of players have no permit yet, since
more would only wait. The session does the rest, in its bulk lane.

Rules of this module:

- Rows of one player keep their input order.
- With a journal, an intent is durable before its row is sent, and an outcome is given out when its result is durable, or
  when it cannot become so: then nobody else tells what became of the row.
- On resuming nothing is sent before all that the journal knows was seen again in the input, unless `MAX_HELD` rows of it
  would have to be held back for that.
- An identify that an earlier run left in doubt stays in doubt until an answer says that it was done.
- A row that fails is an outcome. A run ends early, and finishes what was sent, only when no row could do better: the
  input breaks, the credentials are wrong, the journal cannot be written, the session is closed.
- Leaving a run, by `break`, an error or cancellation, sends nothing new and finishes what is on the wire. Being cancelled
  once more while that goes on aborts it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Mapping
from contextlib import aclosing, suppress
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from teak_async._api.endpoints import ENDPOINTS, Effect
from teak_async._client.executor import CallExecutor
from teak_async._journal.database import KnownRow
from teak_async._journal.journal import DOUBTED, FINISHED, Entry, Journal
from teak_async._limits.bucket import GRANTS_A_TURN
from teak_async._limits.session_limits import Limits
from teak_async.errors import (
    DeadlinePassed,
    Delivery,
    Forbidden,
    GameNotFound,
    InvalidRequest,
    JournalError,
    SessionClosed,
    TeakError,
)
from teak_async.models import Response

from .outcomes import BulkReport, Outcome, Row, each, result_of
from .row_call import InvalidRow, RowCall, RunContext, in_doubt_error, outcome_of

MAX_IN_FLIGHT = 500
"""Rows in hand at most, whatever the limit: each may have a connection of its own, and systems allow about a thousand."""
MAX_LOOKAHEAD = 250
"""Players in hand at most who wait for their first permit; half a second's worth, at most limits, of an input that comes in
pages. With 500, at a very high limit, Python's collector of garbage went through them all time and again, for 5 ms each."""
MAX_HELD = 10_000
"""Unfinished rows of an earlier run held back at most, some 3 kB each, until the whole input has shown to be the same."""
ENDING = (SessionClosed, JournalError, Forbidden, GameNotFound)
"""Errors of a row that every other row would get, too."""
BUDGETS = {endpoint.name: endpoint.bucket for endpoint in ENDPOINTS.values()}


class BulkRun:
    """One bulk run: `async with teak.bulk(requests) as run:` and `async for outcome in run`, or `await teak.bulk(requests)`.

    Outcomes come as they finish. The rows in hand are bounded by the limit, so input of any length takes the same memory.

    Attributes:
        journal: the open journal; `None` for a run without one.
        retries: tries beyond the first of each row, so far.
    """

    def __init__(
        self,
        caller: CallExecutor,
        limits: Limits,
        requests: Iterable[Any] | AsyncIterable[Any],
        path: str | Path | None,
        about: Mapping[str, str],
        deadline: float | None,
        *,
        resend_in_doubt: bool,
    ) -> None:
        if not isinstance(requests, Iterable | AsyncIterable):
            raise TypeError(f"requests must be an iterable or an async iterable, not {type(requests).__name__}")
        self.journal: Journal | None = None
        self.retries = 0
        self._caller = caller
        self._source = requests
        self._path = path
        self._about = dict(about)
        self._resend_in_doubt = resend_in_doubt
        self._capacity = asyncio.Semaphore(min(max(limits.identify, limits.subscription), MAX_IN_FLIGHT))
        ahead = min(ceil(max(limits.identify, limits.subscription) / 2), MAX_LOOKAHEAD)
        self._hand = RunContext(asyncio.Semaphore(ahead), deadline)
        self._players: dict[str, deque[RowCall]] = {}
        self._tasks: dict[asyncio.Task[None], RowCall] = {}
        self._outcomes: asyncio.Queue[Outcome | None] = asyncio.Queue()
        self._main: asyncio.Task[None] | None = None
        self._puller: asyncio.Task[None] | None = None
        self._broken: BaseException | None = None
        self._stopping = False
        self._began = self._ended = 0.0
        self._succeeded = self._failed = self._in_doubt = self._skipped = self._failed_earlier = self._sent = 0

    @property
    def report(self) -> BulkReport:
        """The count so far."""
        now = self._ended or (asyncio.get_running_loop().time() if self._main else 0.0)
        elapsed = now - self._began if self._began else 0.0
        return BulkReport(
            total=self._succeeded + self._failed + self._in_doubt + self._skipped,
            succeeded=self._succeeded,
            failed=self._failed,
            in_doubt=self._in_doubt,
            skipped=self._skipped,
            failed_earlier=self._failed_earlier,
            sent=self._sent,
            elapsed=elapsed,
            rate=self._sent / elapsed if elapsed > 0 else 0.0,
        )

    @property
    def trouble(self) -> TeakError | None:
        """Why a row was last tried again, until one ends."""
        return self._hand.trouble

    async def __aenter__(self) -> Self:
        if self._main is not None:
            raise RuntimeError("a run is made once; make another one with teak.bulk(...)")
        if self._path is not None:
            self.journal = self._hand.journal = await Journal.open(self._path, self._about)
            self.journal.ended.add_done_callback(self._journal_ended)
            try:
                for name, count in self.journal.recently_sent.items():
                    self._caller.bucket_of(BUDGETS[name]).charge(count)
            except BaseException:
                with suppress(JournalError):
                    await self.journal.close()
                raise
        self._puller = asyncio.create_task(self._pull())
        self._main = asyncio.create_task(self._run(self._puller))
        self._main.add_done_callback(lambda _: self._end_dropped())
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

    def __await__(self) -> Generator[Any, None, BulkReport]:
        return self._drain().__await__()

    async def _drain(self) -> BulkReport:
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
        if self._puller is not None:
            self._puller.cancel()  # once more: the input may have swallowed the first
        for task in self._tasks:
            task.cancel()

    async def _run(self, puller: asyncio.Task[None]) -> None:
        try:
            await asyncio.wait({puller})
            if not self._stopping:
                # What a broken input raised is the reader's to see, after all that was sent.
                self._broken = RuntimeError("the input was cancelled") if puller.cancelled() else puller.exception()
            await self._finished()
        except asyncio.CancelledError:
            # The loop ends under the run. The journal has to hear of that, and a reader must not take it for the end.
            self._broken = self._broken or _cancelled()
            self.abort()
            await asyncio.wait({puller})
            await self._finished()
            raise
        finally:
            try:
                if self.journal is not None:
                    await self.journal.close()
            except JournalError as error:
                self._broken = self._broken or error
            except asyncio.CancelledError:
                self._broken = self._broken or _cancelled()
                raise
            finally:
                self._end()

    def _end_dropped(self) -> None:
        if not self._ended:  # cancelled before its first step, it has ended nothing
            self._broken = self._broken or _cancelled()
            self.abort()
            if self.journal is not None:
                self.journal.end()
            self._end()

    def _end(self) -> None:
        self._ended = asyncio.get_running_loop().time()
        self._outcomes.put_nowait(None)

    def _journal_ended(self, ended: asyncio.Future[JournalError | None]) -> None:
        if (failure := ended.result()) is not None:  # with a thread that died nothing will be told any more
            self._fail(failure)
            self.abort()

    async def _finished(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _pull(self) -> None:
        held: list[tuple[RowCall | InvalidRow, KnownRow | None]] = []
        index = -1
        last = -1 if self.journal is None else self.journal.last
        async with aclosing(each(self._source)) as rows:
            async for item in rows:
                if self._stopping:
                    return  # the input has swallowed our cancelling it
                index += 1
                row = item if isinstance(item, Row) else Row(item)
                try:
                    taken: RowCall | InvalidRow = RowCall(index, row, self._hand)
                except InvalidRequest as unknown:
                    error = row.request if isinstance(row.request, InvalidRequest) else unknown
                    source = str(error) if row.source is None else row.source
                    entry = None if self.journal is None else Entry.of(index, None, source)
                    taken = InvalidRow(index, row.line, error, entry)
                if index > last:
                    await self._start_held(held)
                    await self._start_row(taken, None)
                else:
                    known = await self._known(taken)
                    if known is not None and known.state in FINISHED:
                        self._skipped += 1
                        self._failed_earlier += known.state != "done"
                    else:
                        held.append((taken, known))
                        if len(held) >= MAX_HELD:
                            await self._start_held(held)
        if index < last:
            raise JournalError(f"{self._path}: the journal of a longer input: {last + 1:,} rows, and here are {index + 1:,}")
        await self._start_held(held)

    async def _known(self, taken: RowCall | InvalidRow) -> KnownRow | None:
        """What the journal knows of a row of an earlier run, which has to be the same row."""
        assert self.journal is not None
        assert taken.entry is not None
        known = await self.journal.known(taken.index)
        if known is not None and known.digest != taken.entry.digest:
            where = f"line {taken.line}" if taken.line else f"row {taken.index}"
            sent = "what was sent before it is in the journal" if self._began else "nothing was sent"
            raise JournalError(f"{self._path}: the journal of another input: {where} is not what it was; {sent}")
        return known

    async def _start_held(self, held: list[tuple[RowCall | InvalidRow, KnownRow | None]]) -> None:
        for taken, known in held:
            await self._start_row(taken, known)
        held.clear()

    async def _start_row(self, taken: RowCall | InvalidRow, known: KnownRow | None) -> None:
        await self._capacity.acquire()
        if not self._began:
            self._began = asyncio.get_running_loop().time()
        if isinstance(taken, InvalidRow):
            self._record(taken, None, taken.error)
        elif known is None or known.state not in DOUBTED:
            await self._enqueue(taken)
        else:
            taken.resent = True
            taken.uncertain = taken.endpoint.effect is Effect.RECORD
            if self._resend_in_doubt or not taken.uncertain:
                await self._enqueue(taken)
            elif known.state == "in_doubt":
                self._deliver(outcome_of(taken, None, in_doubt_error()))  # the journal has it, and why
            else:
                self._record(taken, None, in_doubt_error())
        if taken.index % GRANTS_A_TURN == 0:
            await asyncio.sleep(0)  # as the grants: rows of players in hand, and those that cannot be sent, wait for nothing

    async def _enqueue(self, call: RowCall) -> None:
        player = call.request.user_id
        if (queue := self._players.get(player)) is not None:
            queue.append(call)
            return
        await call.reserve_lookahead()
        self._players[player] = deque([call])
        task = asyncio.create_task(self._run_player(player))
        self._tasks[task] = call
        task.add_done_callback(self._tasks.pop)

    async def _run_player(self, player: str) -> None:
        """Make one player's calls, one after the other, until none is in hand."""
        queue = self._players[player]
        task = asyncio.current_task()
        assert task is not None
        try:
            while queue and not self._stopping:
                call = self._tasks[task] = queue.popleft()
                try:
                    self._record(call, await self._caller.execute(call), None)
                except (asyncio.CancelledError, *ENDING):
                    self._abandon(call)
                    raise
                except TeakError as error:
                    if call.cut:
                        self._abandon(call)
                    else:
                        self._record(call, None, error)
                finally:
                    call.release_slots()
        except Exception as error:  # noqa: BLE001 - raised again by whoever reads the outcomes
            self._fail(error)
        finally:
            del self._players[player]

    def _abandon(self, call: RowCall) -> None:
        """Tell of a row that was left: only where a try of it may have been done is that an outcome."""
        error = call.error or (in_doubt_error() if call.uncertain else None)
        if error is not None and error.delivery is Delivery.UNKNOWN:
            self._record(call, None, error)
        else:
            call.retract_intent()

    def _fail(self, error: BaseException) -> None:
        self._broken = self._broken or error
        self.stop()

    def _record(self, taken: RowCall | InvalidRow, response: Response | None, error: TeakError | None) -> None:
        outcome = outcome_of(taken, response, error)
        if self.journal is None or taken.entry is None:
            self._deliver(outcome)
        elif isinstance(error, DeadlinePassed) and outcome.delivery is Delivery.NOT_SENT and isinstance(taken, RowCall):
            taken.retract_intent()  # no result: a resumed run with a later deadline sends it
            self._deliver(outcome)
        else:

            def then(failure: Exception | None) -> None:
                if failure is not None:
                    self._fail(failure)
                self._deliver(outcome)

            self.journal.record_result(taken.entry, result_of(outcome), then)

    def _deliver(self, outcome: Outcome) -> None:
        if outcome.error is None:
            self._succeeded += 1
        elif outcome.delivery is Delivery.UNKNOWN:
            self._in_doubt += 1
        else:
            self._failed += 1
        self._sent += outcome.attempts > 0
        self.retries += max(outcome.attempts - 1, 0)
        self._hand.trouble = None
        self._outcomes.put_nowait(outcome)


def _cancelled() -> RuntimeError:
    return RuntimeError("the run was cancelled")
