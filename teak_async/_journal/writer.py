"""The thread that writes a journal.

The loop gathers work into groups and hands each group over at once, so the thread wakes up, and takes the interpreter from the
loop, once for a group. The thread writes the group, answers its reads, and has the loop resolve the futures of both.

Rules of this module:

- One thread owns the connection that writes.
- A future is resolved when its row is durable, or with what prevented that.
- After the first failure the thread writes nothing more. A file that is no longer in its place is a failure.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

from attrs import frozen

from teak_async.errors import JournalError

from .database import GROUP, acquire_lock, check_place, check_unmoved, checkpoint, open_database, write
from .row import JournalRow

GATHER = 0.03
"""Seconds for which a group is gathered that is less than half full; at the documented limits that is a dozen rows."""
CHECKPOINT_EVERY = 200
"""Groups after which the log is brought into the file, and begins anew: some megabytes."""
CHECK_FILE_EVERY = 1.0
"""Seconds between two checks that the file is still there."""


@frozen
class Write:
    """A row to write; `done` is `None` where nothing waits for it."""

    row: JournalRow
    done: asyncio.Future[None] | None = None


@frozen
class Read:
    """A query to answer after all that was put before it."""

    query: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]


class Writer(threading.Thread):
    """Owns the connection. The thread has `run` and what that calls, the loop all other methods."""

    def __init__(self, path: Path, about: dict[str, str], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="teak_async journal", daemon=True)
        self._path = path
        self._about = about
        self._loop = loop
        self._group: list[Write | Read] = []
        self._timer: asyncio.TimerHandle | None = None
        self._groups: queue.SimpleQueue[list[Write | Read] | None] = queue.SimpleQueue()
        self._failure: JournalError | None = None
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[JournalError | None] = loop.create_future()

    def put(self, work: Write | Read) -> None:
        """Have work done with the next group; a read closes its group."""
        self._group.append(work)
        if len(self._group) >= GROUP // 2 or isinstance(work, Read):
            self._hand_over()
        elif self._timer is None:
            self._timer = self._loop.call_later(GATHER, self._hand_over)

    def write(self, row: JournalRow) -> asyncio.Future[None]:
        """Have a row written; the future is done when it is durable."""
        done: asyncio.Future[None] = self._loop.create_future()
        self.put(Write(row, done))
        return done

    def read(self, query: Callable[[sqlite3.Connection], Any]) -> asyncio.Future[Any]:
        """Have a query answered, at once."""
        done: asyncio.Future[Any] = self._loop.create_future()
        self.put(Read(query, done))
        return done

    def end(self) -> None:
        """Have the rest written and the file closed."""
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
            check_place(self._path)
            file = Path(os.path.realpath(self._path))
            with closing(acquire_lock(file, self._path)), closing(open_database(file, self._path, self._about)) as connection:
                check_file = partial(check_unmoved, file, file.stat(), self._path)
                self._call_on_loop(_resolve, [self.opened], [None], None)
                self._work(connection, check_file)
        except Exception as error:  # noqa: BLE001 - `opened` or `ended` tells it on the loop
            self._failure = self._failure or self._as_journal_error(error)
            self._call_on_loop(_resolve, [self.opened], [None], self._failure)
        self._call_on_loop(_resolve, [self.ended], [self._failure], None)

    def _work(self, connection: sqlite3.Connection, check_file: Callable[[], None]) -> None:
        checked = time.monotonic()
        groups = 0
        last = False
        while not last:
            works, last = self._take()
            for start in range(0, len(works), GROUP):
                group = works[start : start + GROUP]
                answers: Iterable[Any] = repeat(None, len(group))
                if self._failure is None:
                    try:
                        if time.monotonic() >= checked + CHECK_FILE_EVERY:
                            checked = time.monotonic()
                            check_file()
                        groups += 1
                        if groups % CHECKPOINT_EVERY == 0:
                            checkpoint(connection)
                        write(connection, [work.row for work in group if isinstance(work, Write)])
                        answers = [work.query(connection) if isinstance(work, Read) else None for work in group]
                    except Exception as error:  # noqa: BLE001 - a row that SQLite cannot take must not end the thread
                        self._failure = self._as_journal_error(error)
                self._call_on_loop(_resolve, [work.done for work in group], answers, self._failure)
        check_file()

    def _take(self) -> tuple[list[Write | Read], bool]:
        """Take all that was handed over since the last time; say whether it is the last."""
        works: list[Write | Read] = []
        group = self._groups.get()
        with suppress(queue.Empty):
            while group is not None:
                works += group
                group = self._groups.get_nowait()
        return works, group is None

    def _as_journal_error(self, error: Exception) -> JournalError:
        if isinstance(error, JournalError):
            return error
        return JournalError(f"{self._path}: the journal cannot be written any more: {error}")

    def _call_on_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # a closed loop has nothing left that waits
            self._loop.call_soon_threadsafe(function, *arguments)


def _resolve(futures: Iterable[asyncio.Future[Any] | None], answers: Iterable[Any], failure: JournalError | None) -> None:
    for future, answer in zip(futures, answers, strict=True):
        if future is None or future.done():  # a future is cancelled with the task that waits for it
            continue
        if failure is None:
            future.set_result(answer)
        else:
            future.set_exception(failure)
