"""The players of a bulk run: one task each, which sends the player's rows one after the other."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress

from teak_async._client.executor import CallExecutor
from teak_async._notify import log
from teak_async.errors import CertificateError, Forbidden, GameNotFound, JournalError, Outage, SessionClosed, TeakError
from teak_async.models import Response

from .breaker import CircuitBreaker, OutageSoFar
from .hand import Hand, Player
from .results import Results
from .row_call import InvalidRow, RowCall

ENDING = (SessionClosed, JournalError, Outage, CertificateError)
"""Errors that every other row would get, too."""
SURE = 3
"""Consecutive answers of wrong credentials, after some rows succeeded, that end the run."""


class Gate:
    """Where rows wait while the server is out.

    Args:
        outage: seconds that an outage may last.
    """

    def __init__(self, outage: float) -> None:
        self._breaker = CircuitBreaker(outage)
        self._last: object = None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.Handle | None = None

    @property
    def outage(self) -> OutageSoFar | None:
        """What is known of the outage; `None` while the server is not out."""
        return self._breaker.outage(asyncio.get_running_loop().time())

    @property
    def open(self) -> bool:
        """Whether any row may be sent, without a wait."""
        return self._breaker.closed and self._breaker.error is None

    @property
    def last_error(self) -> TeakError | None:
        """How the last attempt ended, while the server is out."""
        return self._last if isinstance(self._last, TeakError) and not self._breaker.closed else None

    def admits(self, *, probe: bool) -> bool:
        """Say whether a row that has its permit may be sent: the breaker may have opened while it waited for that."""
        return probe or self._breaker.closed

    async def enter(self) -> bool:
        """Wait until a row may be sent, and return whether it is a probe.

        Raises:
            Outage: when the outage lasts too long.
        """
        loop, breaker = asyncio.get_running_loop(), self._breaker
        while breaker.error is None and not breaker.admit(loop.time()):
            waiting = loop.create_future()
            self._waiting.append(waiting)
            try:
                await waiting
            except asyncio.CancelledError:
                if not waiting.cancelled():
                    self._wake_up()  # it was woken in this very step, so another row has to be woken
                raise
        if breaker.error is not None:
            raise Outage(str(breaker.error))
        return not breaker.closed

    def leave(self, *, probe: bool) -> None:
        """Record that a row ended without a result."""
        if probe:
            self._breaker.release_probe()
            self._wake_up()

    def record(self, result: object, now: float, *, probe: bool) -> None:
        """Record how the attempt of a row ended."""
        breaker, was_closed = self._breaker, self._breaker.closed
        self._last = result
        breaker.record(result, now, probe=probe)
        is_closed = breaker.closed
        if was_closed and is_closed:
            return
        if was_closed:
            log(logging.WARNING, "the server is out (%s): the run sends nothing but probes until one succeeds", result)
        elif is_closed:
            log(logging.INFO, "the server is back: the run goes on")
        self._wake_up()

    def close(self) -> None:
        """Cancel the timer of the next probe."""
        if self._timer is not None:
            self._timer.cancel()

    def _wake_up(self) -> None:
        """Wake the rows that may be sent: all, or one as the probe when it is due."""
        self.close()
        breaker, loop = self._breaker, asyncio.get_running_loop()
        one_alone = breaker.error is None and breaker.next_probe is not None
        if one_alone and breaker.next_probe is not None and breaker.next_probe > loop.time():
            self._timer = loop.call_at(breaker.next_probe, self._wake_up)
            return
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                if one_alone:
                    return


class Players:
    """Sends rows: those of one player in the input's order, those of different players at once.

    Args:
        executor: makes the calls.
        results: records how rows end.
        hand: the rows of the run.

    Attributes:
        stopping: whether nothing new is sent any more.
    """

    def __init__(self, executor: CallExecutor, results: Results, hand: Hand) -> None:
        self._executor = executor
        self._results = results
        self._hand = hand
        self.gate = Gate(executor.retry.outage)
        self._tasks: dict[asyncio.Task[None], RowCall] = {}
        self._room: asyncio.Future[None] | None = None
        self._admitting = False
        self._denials = 0
        self._on_permit = self._take_permit  # once for all rows: each look-up of a method makes an object
        self.stopping = False

    async def wait_for_room(self) -> None:
        """Wait until another row may be read."""
        while not self._hand.has_room:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def add(self, row: RowCall) -> None:
        """Send a row, after the others of its player."""
        if (player := self._hand.add(row)) is not None:
            self._start(player)

    def take(self, row: RowCall | InvalidRow) -> None:
        """Record that the reader of the run has the outcome of a row."""
        self._hand.take(row)
        self._use_room()

    def _use_room(self) -> None:
        if self.stopping:
            return
        admitted = [] if self._admitting else self._hand.admit_waiting()
        for player in admitted:
            self._start(player)
        if admitted:
            # As the grants: few rows begin in one turn of the loop, and responses are read between them.
            self._admitting = True
            asyncio.get_running_loop().call_soon(self._admit_more)
        if self._room is not None and not self._room.done() and (admitted or self._hand.has_room):
            self._room.set_result(None)

    def _admit_more(self) -> None:
        self._admitting = False
        self._use_room()

    def _start(self, player: Player) -> None:
        row = player.queue[0]
        task = asyncio.create_task(self._run_player(player))
        if not task.done():
            self._tasks.setdefault(task, row)  # an eager task has begun, and is perhaps at a later row

    def stop(self) -> None:
        """Send nothing new, and finish what is on the wire."""
        self.stopping = True
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        for task, row in self._tasks.items():
            row.call.stopping = True
            if not row.call.on_wire:
                task.cancel()

    def abort(self) -> None:
        """Leave even what is on the wire."""
        for task in self._tasks:
            task.cancel()

    async def wait(self) -> None:
        """Wait until no row is in flight, and none waits for room."""
        while self._tasks or (self._hand.has_waiting and not self.stopping):
            if self._tasks:
                ended, _ = await asyncio.wait(self._tasks)
                for task in ended:  # one that was cancelled before its first step has not removed itself
                    self._tasks.pop(task, None)
            else:  # the reader has to take outcomes before there is room
                self._room = asyncio.get_running_loop().create_future()
                await self._room
        self._results.leave(self._hand.unbegun_rows())
        self.gate.close()

    async def _run_player(self, player: Player) -> None:
        queue = player.queue
        goes_on = True
        task = asyncio.current_task()
        assert task is not None
        try:
            while goes_on and not self.stopping:
                row = self._tasks[task] = queue.pop(0)
                try:
                    self._results.record(row, await self._send_row(row, task), None)
                    self._denials = 0
                except (asyncio.CancelledError, *ENDING):
                    self._results.abandon(row)
                    raise
                except TeakError as error:
                    if self._ends_run(error):
                        self._results.abandon(row)
                        raise
                    if row.call.stopped_before_retry:
                        self._results.abandon(row)
                    else:
                        self._results.record(row, None, error)
                finally:
                    self._release(row)
                if not queue:
                    break
                bucket = player.bucket
                goes_on = self._hand.go_on(player)
                if player.bucket is not bucket:
                    self._use_room()
        except Exception as error:  # noqa: BLE001 - the reader of the outcomes gets it
            self._results.fail(error)
        finally:
            if goes_on:  # else the player waits for room, or another task sends its rows already
                player.running = False
            self._tasks.pop(task, None)

    def _ends_run(self, error: TeakError) -> bool:
        """Return whether the credentials are wrong for the whole run: a firewall may reject a single row."""
        if not isinstance(error, Forbidden | GameNotFound):
            if error.status is not None:  # any other answer is about the row alone, so the credentials are right
                self._denials = 0
            return False
        self._denials += 1
        return not self._results.any_succeeded or self._denials >= SURE

    async def _send_row(self, row: RowCall, task: asyncio.Task[None]) -> Response:
        """Make a row's call: as `CallExecutor.execute`, but with the gate and an intent in the journal before each attempt."""
        executor, call, gate = self._executor, row.call, self.gate
        row.on_permit = self._on_permit
        while True:
            probe = row.probe = False if gate.open else await self._enter_gate(row)
            try:
                result = await executor.make_attempt(call, row, task)
            except BaseException:
                gate.leave(probe=probe)
                raise
            if result is None:
                row.retract_intent()
                continue
            gate.record(result, task.get_loop().time(), probe=probe)
            if not isinstance(result, TeakError):
                return call.finish(result)
            wait = executor.next_wait(call, result)
            if not call.uncertain:
                row.retract_intent()
            await executor.pause(call, wait)

    def _take_permit(self, row: RowCall) -> bool:
        self._release(row)
        return self.gate.admits(probe=row.probe)

    def _release(self, row: RowCall) -> None:
        """Make room for other rows: this one has its permit, or is left."""
        row.release_slot()
        if self._hand.permit(row):
            self._use_room()

    async def _enter_gate(self, row: RowCall) -> bool:
        deadline = row.call.deadline
        if deadline is None:
            return await self.gate.enter()
        with suppress(TimeoutError):  # the attempt ends with the passed deadline
            async with asyncio.timeout(deadline.seconds_left(asyncio.get_running_loop().time())):
                return await self.gate.enter()
        return False
