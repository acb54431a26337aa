"""The players that a bulk run has in flight: one task each, which makes the player's rows one after the other."""

from __future__ import annotations

import asyncio
from collections import deque

from teak_async._client.executor import CallExecutor
from teak_async.errors import Forbidden, GameNotFound, JournalError, SessionClosed, TeakError
from teak_async.models import Response

from .results import Results
from .row_call import RowCall

ENDING = (SessionClosed, JournalError, Forbidden, GameNotFound)
"""Errors of a row that every other row would get, too."""


class Players:
    """Sends rows: those of one player in the input's order, those of different players at once.

    Args:
        executor: makes the calls.
        results: takes how rows end.

    Attributes:
        stopping: whether nothing new is sent any more.
    """

    def __init__(self, executor: CallExecutor, results: Results) -> None:
        self._executor = executor
        self._results = results
        self._queues: dict[str, deque[RowCall]] = {}
        self._tasks: dict[asyncio.Task[None], RowCall] = {}
        self.stopping = False

    async def add(self, row: RowCall) -> None:
        """Have a row sent after the others of its player; waits for room when it is the player's first."""
        player = row.call.request.user_id
        if (queue := self._queues.get(player)) is not None:
            queue.append(row)
            return
        await row.reserve_lookahead()
        self._queues[player] = deque([row])
        task = asyncio.create_task(self._run_player(player))
        self._tasks[task] = row
        task.add_done_callback(self._tasks.pop)

    def stop(self) -> None:
        """Send nothing new, and finish what is on the wire."""
        self.stopping = True
        for task, row in self._tasks.items():
            row.call.stopping = True
            if not row.call.on_wire:
                task.cancel()

    def abort(self) -> None:
        """Leave even what is on the wire."""
        for task in self._tasks:
            task.cancel()

    async def wait(self) -> None:
        """Wait until no row is in flight."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run_player(self, player: str) -> None:
        queue = self._queues[player]
        task = asyncio.current_task()
        assert task is not None
        try:
            while queue and not self.stopping:
                row = self._tasks[task] = queue.popleft()
                try:
                    self._results.record(row, await self._send_row(row), None)
                except (asyncio.CancelledError, *ENDING):
                    self._results.abandon(row)
                    raise
                except TeakError as error:
                    if row.call.stopped_before_retry:
                        self._results.abandon(row)
                    else:
                        self._results.record(row, None, error)
                finally:
                    row.release_slots()
        except Exception as error:  # noqa: BLE001 - raised again by whoever reads the outcomes
            self._results.fail(error)
        finally:
            del self._queues[player]

    async def _send_row(self, row: RowCall) -> Response:
        """Make a row's call: as `CallExecutor.execute`, with an intent in the journal before each attempt that needs one."""
        executor, call = self._executor, row.call
        while True:
            result = await executor.make_attempt(call, row.write_intent, row.release_slots)
            if not isinstance(result, TeakError):
                return call.finish(result)
            wait = executor.next_wait(call, result)
            if not call.uncertain:
                row.retract_intent()
            await executor.pause(call, wait)
