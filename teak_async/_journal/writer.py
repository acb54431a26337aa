"""The thread that writes a journal: rows are gathered on the loop, written in groups, and told on the loop when durable.

Rules of this module:

- One thread owns the connection that writes. What it has done it tells the loop, group by group.
- After the first failure nothing more is written. A file that is no longer where it was is such a failure.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from teak_async.errors import JournalError

from .database import GROUP, Values, acquire_lock, check_unmoved, checkpoint, open_database, write

GATHER = 0.03
"""Seconds for which a group is gathered that is less than half full; at the documented limits that is a dozen rows."""
CHECKPOINT = 200
"""Groups after which the log is brought into the file, and begins anew: some megabytes."""
LOOK = 1.0
"""Seconds between two looks whether the file is still there."""

Read = Callable[[sqlite3.Connection], Any]
Then = Callable[[Exception | None, Any], None]
"""Is told on the loop that a job is done and durable, with what it gave, or what prevented it."""
Job = tuple[Values | Read, Then | None]


class Writer(threading.Thread):
    """Owns the connection: everything that touches the file runs here, in groups. All else is called on the loop."""

    def __init__(self, path: Path, about: dict[str, str], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="teak_async journal", daemon=True)
        self._path = path
        self._about = about
        self._loop = loop
        # Gathered on the loop, so that the thread wakes up once for each group, and takes the interpreter from the loop once.
        self._group: list[Job] = []
        self._timer: asyncio.TimerHandle | None = None
        self._groups: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self.failure: JournalError | None = None
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[JournalError | None] = loop.create_future()

    def put(self, values: Values, then: Then | None = None) -> None:
        """Have a row written in the next group."""
        self._group.append((values, then))
        if len(self._group) >= GROUP // 2:
            self._hand_over()
        elif self._timer is None:
            self._timer = self._loop.call_later(GATHER, self._hand_over)

    def written(self, values: Values) -> asyncio.Future[None]:
        """The same as a future."""
        done: asyncio.Future[None] = self._loop.create_future()
        self.put(values, partial(_answer, done))
        return done

    def read(self, work: Read) -> asyncio.Future[Any]:
        """Have something read, at once, after all that was put before."""
        answer = self._loop.create_future()
        self._group.append((work, partial(_answer, answer)))
        self._hand_over()
        return answer

    def end(self) -> None:
        """Do what is left and let go of the file."""
        self._hand_over()
        self._groups.put(None)

    def _hand_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._group:
            self._groups.put(self._group)
            self._group = []

    def run(self) -> None:
        try:
            file = Path(os.path.realpath(self._path))
            with closing(acquire_lock(file, self._path)), closing(open_database(file, self._path, self._about)) as connection:
                found = file.stat()
                self._on_loop(partial(_answer, self.opened, None, None))
                self._work(connection, partial(check_unmoved, file, found, self._path))
        except Exception as error:  # noqa: BLE001 - told to whoever opened the journal, or closes it
            self.failure = self.failure or self._trouble(error)
            self._on_loop(partial(_answer, self.opened, self.failure, None))
        self._on_loop(partial(_answer, self.ended, None, self.failure))

    def _work(self, connection: sqlite3.Connection, look: Callable[[], None]) -> None:
        looked = time.monotonic()
        groups = 0
        last = False
        while not last:
            jobs, last = self._next()
            for place in range(0, len(jobs), GROUP):
                group = jobs[place : place + GROUP]
                given: list[Any] = [None] * len(group)
                if self.failure is None:
                    try:
                        if time.monotonic() >= looked + LOOK:
                            looked = time.monotonic()
                            look()
                        groups += 1
                        if groups % CHECKPOINT == 0:
                            checkpoint(connection)
                        write(connection, [work for work, _ in group if isinstance(work, tuple)])
                        given = [None if isinstance(work, tuple) else work(connection) for work, _ in group]
                    except Exception as error:  # noqa: BLE001 - a row that SQLite cannot take must not end the thread either
                        self.failure = self._trouble(error)
                self._on_loop(partial(_tell, [then for _, then in group], self.failure, given))
        look()

    def _trouble(self, error: Exception) -> JournalError:
        if isinstance(error, JournalError):
            return error
        return JournalError(f"{self._path}: the journal cannot be written any more: {error}")

    def _next(self) -> tuple[list[Job], bool]:
        """All that was handed over since the last time, and whether it is the last."""
        jobs: list[Job] = []
        group = self._groups.get()
        with suppress(queue.Empty):
            while group is not None:
                jobs += group
                group = self._groups.get_nowait()
        return jobs, group is None

    def _on_loop(self, function: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has gone, and with it whoever would have listened
            self._loop.call_soon_threadsafe(function)


def _tell(thens: list[Then | None], failure: Exception | None, given: list[Any]) -> None:
    for then, value in zip(thens, given, strict=True):
        if then is not None:
            then(failure, value)


def _answer(future: asyncio.Future[Any], error: Exception | None, value: Any) -> None:
    if not future.done():
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
