"""The thread that writes a journal.

The event loop gathers work and hands it over in groups, so the thread wakes up, and takes the interpreter from the loop, once
for a group. The thread writes the group, runs its queries, and has the loop resolve the futures of both.

Rules of this module:

- One thread owns the connection that writes.
- A future is resolved when its row is durable, or with the error that prevented it.
- After the first failure, which may be the guard's, the thread writes nothing more.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from itertools import repeat
from pathlib import Path
from typing import Any

from attrs import frozen

from teak_async._notify import LOG
from teak_async.errors import JournalError

from .database import GROUP, acquire_lock, check_place, forget_holder, open_database, write, write_notes
from .guard import FileGuard
from .row import JournalRow

GATHER = 0.03
"""Seconds for which a group is gathered until it is half full; at the documented limits a dozen rows come in them."""
CHECKPOINT_EVERY = 200
"""Groups from one checkpoint to the next: some megabytes of log."""
LOG_BOUND = 64_000_000
"""Bytes of the log from which a warning names its cause, a reader: some 50,000 rows were written since it began to read."""
REMEDIES = {
    "SQLITE_FULL": "make room, then repeat the run",
    "SQLITE_IOERR": "the disk failed, or is at a limit (a quota, the largest file): mend that, then repeat the run",
    "SQLITE_BUSY": "another program is writing to it: end that, then repeat the run",
    "SQLITE_READONLY": "make its folder one that may be written to again, then repeat the run",
}
"""Beginning of SQLite's name for an error → what to do about it."""


@frozen
class Write:
    """A row to write; `done` is `None` where nothing waits for it."""

    row: JournalRow
    done: asyncio.Future[None] | None = None


@frozen
class Read:
    """A query to run after all work that was put before it."""

    query: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]


class Writer(threading.Thread):
    """Owns the connection that writes. The thread runs `run` and its helpers, the event loop all other methods."""

    def __init__(self, path: Path, about: dict[str, str], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="teak_async journal", daemon=True)
        self._path = path
        self._about = about
        self._loop = loop
        self._group: list[Write | Read] = []
        self._timer: asyncio.TimerHandle | None = None
        self._groups: queue.SimpleQueue[list[Write | Read] | None] = queue.SimpleQueue()
        self._failure: JournalError | None = None
        self._warned = False
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[JournalError | None] = loop.create_future()

    def put(self, work: Write | Read) -> None:
        """Add work to the next group; a read closes its group."""
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
        """Have a query run, at once."""
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
            with (
                closing(acquire_lock(file, self._path)),
                closing(open_database(file, self._path, self._about)) as connection,
                closing(FileGuard(connection, self._path, file)) as guard,
            ):
                self._call_on_loop(_resolve, [self.opened], [None], None)
                self._work(connection, guard)
        except Exception as error:  # noqa: BLE001 - `opened` or `ended` reports it on the loop
            self._failure = self._failure or self._as_journal_error(error)
            self._call_on_loop(_resolve, [self.opened], [None], self._failure)
        self._call_on_loop(_resolve, [self.ended], [self._failure], None)

    def _work(self, connection: sqlite3.Connection, guard: FileGuard) -> None:
        groups = 0
        noted = False
        last = False
        while not last:
            works, last = self._take()
            for start in range(0, len(works), GROUP):
                group = works[start : start + GROUP]
                results: Iterable[Any] = repeat(None, len(group))
                if self._failure is None:
                    try:
                        guard.check_untouched()
                        groups += 1
                        if groups % CHECKPOINT_EVERY == 0:
                            self._checkpoint(guard)
                        if rows := [work.row for work in group if isinstance(work, Write)]:
                            if not noted:
                                # Not before: a run that is refused over its input leaves the journal as it was.
                                write_notes(connection, self._about)
                                noted = True
                            write(connection, rows)
                            guard.check_written(rows)
                        results = [work.query(connection) if isinstance(work, Read) else None for work in group]
                    except Exception as error:  # noqa: BLE001 - a row that SQLite cannot take must not end the thread
                        self._failure = self._find_cause(error, guard)
                self._call_on_loop(_resolve, [work.done for work in group], results, self._failure)
        if self._failure is None:
            guard.check_untouched()
            forget_holder(connection, self._about)

    def _checkpoint(self, guard: FileGuard) -> None:
        if not guard.checkpoint() and guard.log_size > LOG_BOUND and not self._warned:
            self._warned = True
            self._call_on_loop(_warn, self._path, guard.log_size)

    def _find_cause(self, error: Exception, guard: FileGuard) -> JournalError:
        """Return what prevented a group: damage to the files, if that is the cause."""
        if isinstance(error, sqlite3.Error):
            try:
                guard.check_after(error)
            except JournalError as cause:
                return cause
            except OSError:
                pass  # the files cannot be looked at either; what SQLite said is what is known
        return self._as_journal_error(error)

    def _take(self) -> tuple[list[Write | Read], bool]:
        """Take all that was handed over since the last time, and return whether it is the last."""
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
        name = getattr(error, "sqlite_errorname", "")
        remedy = "".join(f"; {remedy}" for code, remedy in REMEDIES.items() if name.startswith(code))
        return JournalError(f"{self._path}: the journal cannot be written any more: {error}{remedy}")

    def _call_on_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # a closed loop has nothing left that waits
            self._loop.call_soon_threadsafe(function, *arguments)


def _resolve(futures: Iterable[asyncio.Future[Any] | None], results: Iterable[Any], failure: JournalError | None) -> None:
    for future, result in zip(futures, results, strict=True):
        if future is None or future.done():  # a future is cancelled with the task that waits for it
            continue
        if failure is None:
            future.set_result(result)
        else:
            future.set_exception(failure)


def _warn(path: Path, size: int) -> None:
    with suppress(Exception):  # a handler of the application may raise
        message = "%s: a reader holds the journal's log: end it (a sqlite3 shell, a backup); the log is %d MB, and grows"
        LOG.warning(message, path, size // 1_000_000)
