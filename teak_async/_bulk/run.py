"""Bulk runs: thousands of calls at once, under the limits, as a stream of outcomes.

Theory of operation. A puller takes rows from the input as long as the hand has room; a row is in hand from then until its
outcome is taken by the reader of the run. That is why memory does not grow with the input and why a slow reader slows the
run. `resume` says what to do with each row, `Players` sends them, `Results` records and delivers how they ended. The session
does the rest, in its bulk lane.

- With a journal, an intent is durable before its row is sent, and an outcome is delivered when its result is durable.
- A row that fails is an outcome. A run ends early, and finishes what was sent, only when no row could do better: the input
  breaks, the credentials or the certificate are wrong, the journal cannot be written, the server stays out, the session closes.
- Leaving a run, by `break`, an error or cancellation, sends nothing new and finishes what is on the wire. Being cancelled
  once more while that goes on aborts it.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Generator, Iterable, Mapping
from contextlib import aclosing, suppress
from io import IOBase
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, Self

from attrs import evolve, frozen

from teak_async._api.endpoints import ENDPOINTS, Effect
from teak_async._client.deadline import DueTime
from teak_async._client.executor import CallExecutor
from teak_async._journal.journal import Journal
from teak_async._leaving import Decisions, wait_for_end
from teak_async._limits.bucket import GRANTS_A_TURN
from teak_async._limits.session_limits import Limits
from teak_async.errors import JournalError, SessionClosed, TeakError

from .breaker import OutageSoFar
from .hand import Hand
from .outcomes import BulkReport, FinishedRows, Outcome, Tally
from .players import Players
from .results import Results
from .resume import Disposition, plan_rows
from .row_call import IntentSlots, InvalidRow, RowCall, RunContext, in_doubt_error, intents_at_first, outcome_of

ENDED = (Disposition.OVERTAKEN, Disposition.IN_DOUBT, Disposition.STILL_IN_DOUBT)
"""Of a row that is not sent, since an earlier run may have done it."""
BUCKETS = {endpoint.name: endpoint.bucket for endpoint in ENDPOINTS.values()}


NO_REQUESTS = (str, bytes, bytearray, memoryview, IOBase, Mapping)
"""What one might give for requests, and what can be iterated over all the same: each letter or line would be a failed row."""
_OPEN_FIRST = "open the run first: `async with teak.bulk(...) as run:`, or await it for its report"


@frozen
class RunOptions:
    """What a run was asked to do."""

    source: Iterable[Any] | AsyncIterable[Any]
    path: str | Path | None
    about: dict[str, object]
    resend_in_doubt: bool


class BulkRun(Coroutine[Any, Any, BulkReport]):
    """One bulk run: `async with teak.bulk(requests) as run:` and `async for outcome in run`, or `await teak.bulk(requests)`.

    Outcomes come as they finish. The rows in flight are bounded by the limit, so input of any length takes the same memory.
    A run is a coroutine of its report, so `asyncio.create_task` and a `TaskGroup` take it.
    """

    def __init__(
        self,
        executor: CallExecutor,
        limits: Limits,
        requests: Iterable[Any] | AsyncIterable[Any],
        path: str | Path | None,
        about: Mapping[str, object],
        deadline: DueTime | None,
        check_open: Callable[[], None],
        *,
        resend_in_doubt: bool,
    ) -> None:
        if not isinstance(requests, Iterable | AsyncIterable) or isinstance(requests, NO_REQUESTS):
            kind = type(requests).__name__
            hint = "; the command teak-async reads files" if isinstance(requests, str | bytes | PurePath | IOBase) else ""
            raise TypeError(f"requests must be an iterable or an async iterable of requests, not {kind}{hint}")
        self._executor = executor
        self._options = RunOptions(requests, path, dict(about), resend_in_doubt)
        self._context = RunContext(deadline, slots=IntentSlots(intents_at_first(limits)))
        self._check_open = check_open
        self._tally = Tally()
        self._results = Results(self._context, self._tally, self.stop)
        self._hand = Hand(limits, journal=path is not None)
        self._players = Players(executor, self._results, self._hand)
        self._puller: asyncio.Task[None] | None = None
        self._main: asyncio.Task[None] | None = None
        self._drained: Coroutine[Any, Any, BulkReport] | None = None
        self._begun = False

    @property
    def report(self) -> BulkReport:
        """The count so far."""
        return self._tally.report(asyncio.get_running_loop().time() if self._main and not self._tally.ended else 0.0)

    @property
    def retries(self) -> int:
        """Attempts beyond the first of each row, so far."""
        return self._tally.retries

    @property
    def journal(self) -> Journal | None:
        """The open journal; `None` for a run without one."""
        return self._context.journal

    @property
    def trouble(self) -> TeakError | None:
        """What holds the run up: the error of an outage, or of the last attempt that is made again; `None` once a row ends."""
        return self._players.gate.last_error or self._context.trouble

    @property
    def outage(self) -> OutageSoFar | None:
        """When the next probe is made, and when the run gives up; `None` while the server is not out."""
        return self._players.gate.outage

    @property
    def stopping(self) -> bool:
        """Whether nothing new is sent any more."""
        return self._players.stopping

    def __repr__(self) -> str:
        state = "not begun" if self._main is None else "ended" if self._tally.ended else "under way"
        report = self._tally.report(0.0)
        return f"<BulkRun: {state}, {report.total} rows ended, {report.failed} failed, {report.in_doubt} in doubt>"

    def __del__(self) -> None:
        # As for a coroutine that nobody awaits: without a word, nothing would be sent.
        if not getattr(self, "_begun", True):
            warnings.warn("teak.bulk(…) was never awaited, so nothing was sent", RuntimeWarning, source=self, stacklevel=2)

    async def __aenter__(self) -> Self:
        self._begun = True
        if self._main is not None:
            raise RuntimeError("a run is made once; make another one with teak.bulk(...)")
        self._check_open()
        if self._options.path is not None:
            member = self._executor.member
            holder = member.name if member is not None else ""
            journal = self._context.journal = await Journal.open(self._options.path, self._options.about, holder)
            journal.ended.add_done_callback(self._journal_ended)
            try:
                self._check_open()  # it may have closed while the journal was opened
                if member is not None and journal.last_holder:
                    member.take_over(journal.last_holder)
                for name, count in journal.recently_sent.items():
                    self._executor.bucket_of(BUCKETS[name]).bucket.charge(count)
            except BaseException:
                with suppress(JournalError):
                    await journal.close()
                raise
        self._executor.on_close.add(self._session_closed)
        self._puller = asyncio.create_task(self._pull())
        if self._players.stopping:
            self._puller.cancel()
        self._main = asyncio.create_task(self._run(self._puller))
        self._main.add_done_callback(lambda _: self._end_dropped())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._main is not None
        self.stop()
        cancelled = await wait_for_end(self._main, Decisions(error), self.abort)
        if error is not None:
            return  # what the caller leaves with is raised again by Python
        if cancelled is not None:
            raise cancelled
        if (unseen := self._results.unseen_error) is not None:
            raise unseen  # the journal was lost, or the input failed as it was closed, after the caller had left off reading

    def __aiter__(self) -> AsyncIterator[Outcome]:
        if self._main is None:
            raise TypeError(_OPEN_FIRST)
        return self

    async def __anext__(self) -> Outcome:
        if self._main is None:
            raise TypeError(_OPEN_FIRST)
        row, outcome = self._results.take() or await self._results.next()
        self._players.take(row)
        return outcome

    def __await__(self) -> Generator[Any, None, BulkReport]:
        return self._drain().__await__()

    def send(self, value: Any, /) -> Any:
        """Run on to the next wait; for the event loop, as in a coroutine."""
        if self._drained is None:
            self._drained = self._drain()
        return self._drained.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error where the run waits; for the event loop, as in a coroutine."""
        self._begun = True
        if self._drained is None:
            self._drained = self._drain()
        return self._drained.throw(*error)

    def close(self) -> None:
        """Drop the run where it waits; for the event loop, as in a coroutine. Users call `stop`."""
        self._begun = True
        if self._drained is not None:
            self._drained.close()

    async def _drain(self) -> BulkReport:
        async with self:
            async for _ in self:
                pass
        return self.report

    def stop(self) -> None:
        """Send nothing new, and finish what is on the wire. Rows that were not sent get no outcome."""
        if not self._players.stopping:
            self._players.stop()
            if self._puller is not None:  # else the run has not opened yet
                self._puller.cancel()

    def abort(self) -> None:
        """Leave even what is on the wire."""
        self.stop()
        if self._puller is not None:
            self._puller.cancel()  # once more: the input may have swallowed the first
        self._players.abort()

    async def _run(self, puller: asyncio.Task[None]) -> None:
        results = self._results
        try:
            await asyncio.wait({puller})
            stopping = self._players.stopping
            if puller.cancelled():
                results.error = results.error or (None if stopping else RuntimeError("the input was cancelled"))
            else:
                # What a broken input raised is the reader's to see, after all that was sent.
                results.error = results.error or puller.exception()
            await self._players.wait()
        except asyncio.CancelledError:
            # The loop ends under the run. The journal has to hear of that, and a reader must not take it for the end.
            results.error = results.error or _cancelled()
            self.abort()
            await asyncio.wait({puller})
            await self._players.wait()
            raise
        finally:
            try:
                if self.journal is not None:
                    self._mark_whole(self.journal)
                    await self.journal.close()
            except JournalError as error:
                results.error = results.error or error
            except asyncio.CancelledError:
                results.error = results.error or _cancelled()
                raise
            finally:
                self._end()

    def _mark_whole(self, journal: Journal) -> None:
        """Note whether the input has ended, and nothing of it was left; a run that was refused says nothing about that."""
        if not isinstance(self._results.error, JournalError):
            left = self._tally.not_sent or self._players.stopping or self._results.error is not None
            journal.mark_whole(whole=self._context.whole and not left)

    def _end_dropped(self) -> None:
        if not self._tally.ended:  # cancelled before its first step, it has ended nothing
            self._results.error = self._results.error or _cancelled()
            self.abort()
            if self.journal is not None:
                self.journal.end()
            self._end()

    def _session_closed(self) -> None:
        # The input may wait for long, and no row of it can be sent any more.
        self._results.fail(SessionClosed("the session was closed before this run had ended"))

    def _end(self) -> None:
        self._executor.on_close.discard(self._session_closed)
        self._tally.ended = asyncio.get_running_loop().time()
        self._results.end()

    def _journal_ended(self, ended: asyncio.Future[JournalError | None]) -> None:
        if (failure := ended.result()) is not None:  # a thread that died records no result any more
            self._results.fail(failure)
            self.abort()

    async def _pull(self) -> None:
        options = self._options
        planned = plan_rows(options.source, self._context, options.path, resend_in_doubt=options.resend_in_doubt)
        async with aclosing(planned) as rows:
            async for item in rows:
                if self._players.stopping:
                    return  # the input has swallowed our cancelling it
                if isinstance(item, FinishedRows):
                    self._tally.skip(item)
                    continue
                if not self._hand.has_room:
                    await self._players.wait_for_room()
                row, what = item
                self._start_row(row, what)
                if row.index % GRANTS_A_TURN == 0:
                    # As the grants: rows of players in flight, and those that cannot be sent, wait for nothing.
                    await asyncio.sleep(0)

    def _start_row(self, row: RowCall | InvalidRow, what: Disposition) -> None:
        if not self._tally.began:
            self._tally.began = asyncio.get_running_loop().time()
        if isinstance(row, InvalidRow) or what in ENDED:
            self._hand.add_ended()
        if isinstance(row, InvalidRow):
            self._results.record(row, None, row.error)
        elif what is Disposition.OVERTAKEN:
            self._results.record(
                row, None, in_doubt_error(", and a later row of this player was done since, which it would undo")
            )
        elif what is Disposition.IN_DOUBT:
            self._results.record(row, None, in_doubt_error())
        elif what is Disposition.STILL_IN_DOUBT:
            self._results.deliver(row, evolve(outcome_of(row, None, in_doubt_error()), known=True))  # the journal has why
        else:
            if what is Disposition.RESEND:
                row.call.resent = True
                # It stays in doubt until the server says that it was done.
                row.call.uncertain = row.call.endpoint.effect is Effect.RECORD
            self._players.add(row)


def _cancelled() -> RuntimeError:
    return RuntimeError("the run was cancelled")
