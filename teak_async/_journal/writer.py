"""The thread that writes a journal.

The event loop gathers work and hands it over in groups, so the thread wakes up, and takes the interpreter from the loop, once
for a group. The thread writes the groups, runs queries between them, and has the loop report both.

Rules of this module:

- One thread owns the connection that writes.
- The `done` of a row is called on the loop when the row is durable, or with the error that prevented it.
- After the first failure, which may be the guard's, the thread writes nothing more.
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
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from teak_async._notify import LOG
from teak_async.errors import JournalError

from .database import acquire_lock, check_place, forget_holder, open_database, write_notes
from .guard import FileGuard
from .row import Write
from .tables import GROUP, write

GATHER = 0.03
"""Seconds for which a group is gathered, unless it fills up; at the documented limits a dozen rows come in them."""
IDLE_TURNS = 3
"""Turns of the loop without another row after which a group that rows wait for is handed over. They take as long as a server
beside the client takes for its next response."""
CHECKPOINT_EVERY = 50
"""Groups from one checkpoint to the next: some megabytes of log at most. To sync a log that grows takes longer than to sync one
that is written over: with 200 groups, a row took the thread 1.3 us more."""
LOG_BOUND = 64_000_000
"""Bytes of the log from which a warning names its cause, a reader: some 90,000 rows were written since it began to read."""
REMEDIES = {
    "SQLITE_FULL": "make room, then repeat the run",
    "SQLITE_IOERR": "the disk failed, or is at a limit (a quota, the largest file): mend that, then repeat the run",
    "SQLITE_BUSY": "another program is writing to it: end that, then repeat the run",
    "SQLITE_READONLY": "make its folder one that may be written to again, then repeat the run",
}
"""Beginning of SQLite's name for an error → what to do about it."""


@define
class Group:
    """Rows to write in one transaction.

    Attributes:
        rows: the rows, in the order in which they were given.
        intents: how many of these are about to be sent.
    """

    rows: list[Write] = field(factory=list)
    intents: int = 0


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
        self.loop = loop
        self._group = Group()
        self._intents_ahead = 0
        self._hurries = False
        self._timer: asyncio.TimerHandle | None = None
        self._handed_over: queue.SimpleQueue[Group | Read | None] = queue.SimpleQueue()
        self._ahead: list[Group | Read | None] = []
        self._failure: JournalError | None = None
        self._warned = False
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[JournalError | None] = loop.create_future()

    def write(self, write: Write) -> None:
        """Add a row to the next group."""
        group = self._group
        group.rows.append(write)
        group.intents += write.state.state == "intent"
        if len(group.rows) >= GROUP:
            self._hand_over()
        elif self._timer is None:
            self._timer = self.loop.call_later(GATHER, self._hand_over)

    def read(self, query: Callable[[sqlite3.Connection], Any]) -> asyncio.Future[Any]:
        """Have a query run, at once."""
        self._hand_over()
        done: asyncio.Future[Any] = self.loop.create_future()
        self._handed_over.put(Read(query, done))
        return done

    def end(self) -> None:
        """Have the rest written and the file closed."""
        self._hand_over()
        self._handed_over.put(None)

    def hurry(self) -> None:
        """Have the next group written soon, unless intents are being written: the rows of those can be sent first."""
        if not self._intents_ahead and not self._hurries:
            self._hurries = True
            self._end_hurry(0, 0)

    def _end_hurry(self, before: int, idle: int) -> None:
        """Hand the group over when some turns of the loop in a row have added nothing to it."""
        if not self._hurries:
            return  # it has become full meanwhile
        rows = len(self._group.rows)
        idle = 0 if rows > before else idle + 1
        if idle < IDLE_TURNS:
            # The loop may be at work. If the thread began now, the two would take the interpreter from each other time and
            # again, and the next rows and responses would miss this group.
            self.loop.call_soon(self._end_hurry, rows, idle)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        self._hurries = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._group.rows:
            self._intents_ahead += self._group.intents
            self._handed_over.put(self._group)
            self._group = Group()

    def _report(self, group: Group, failure: JournalError | None) -> None:
        self._intents_ahead -= group.intents
        for _, _, _, done, subject in group.rows:
            if done is not None:
                done(subject, failure)

    def run(self) -> None:
        try:
            check_place(self._path)
            file = Path(os.path.realpath(self._path))
            with (
                closing(acquire_lock(file, self._path)),
                closing(open_database(file, self._path, self._about)) as connection,
                closing(FileGuard(connection, self._path, file)) as guard,
            ):
                self._call_on_loop(_resolve, self.opened, None, None)
                self._work(connection, guard)
        except Exception as error:  # noqa: BLE001 - `opened` or `ended` reports it on the loop
            self._failure = self._failure or self._as_journal_error(error)
            self._call_on_loop(_resolve, self.opened, None, self._failure)
        self._call_on_loop(_resolve, self.ended, self._failure, None)

    def _work(self, connection: sqlite3.Connection, guard: FileGuard) -> None:
        groups = 0
        while (work := self._take()) is not None:
            result = None
            if self._failure is None:
                try:
                    guard.check_untouched()
                    if isinstance(work, Read):
                        result = work.query(connection)
                    else:
                        groups += 1
                        if groups == 1:
                            # Not before: a run that is refused over its input leaves the journal as it was.
                            write_notes(connection, self._about)
                        elif groups % CHECKPOINT_EVERY == 0:
                            self._checkpoint(guard)
                        now = time.time()
                        write(connection, work.rows, now)
                        guard.check_written(work.rows, now)
                except Exception as error:  # noqa: BLE001 - a row that SQLite cannot take must not end the thread
                    self._failure = self._find_cause(error, guard)
            if isinstance(work, Read):
                self._call_on_loop(_resolve, work.done, result, self._failure)
            else:
                self._call_on_loop(self._report, work, self._failure)
            del work  # else the rows would be freed here, at the next group, and not where they are in the processor's cache
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

    def _take(self) -> Group | Read | None:
        """Take what was handed over first, with the groups behind it as far as they fit into one; `None` at the end."""
        work = self._ahead.pop() if self._ahead else self._handed_over.get()
        with suppress(queue.Empty):
            while isinstance(work, Group) and not self._ahead:
                more = self._handed_over.get_nowait()
                if isinstance(more, Group) and len(work.rows) + len(more.rows) <= GROUP:
                    work.rows += more.rows
                    work.intents += more.intents
                else:
                    self._ahead.append(more)
        return work

    def _as_journal_error(self, error: Exception) -> JournalError:
        if isinstance(error, JournalError):
            return error
        name = getattr(error, "sqlite_errorname", "")
        remedy = "".join(f"; {remedy}" for code, remedy in REMEDIES.items() if name.startswith(code))
        return JournalError(f"{self._path}: the journal cannot be written any more: {error}{remedy}")

    def _call_on_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # a closed loop has nothing left that waits
            self.loop.call_soon_threadsafe(function, *arguments)


def _resolve(future: asyncio.Future[Any], result: Any, failure: JournalError | None) -> None:
    if not future.done():  # a future is cancelled with the task that waits for it
        if failure is None:
            future.set_result(result)
        else:
            future.set_exception(failure)


def _warn(path: Path, size: int) -> None:
    with suppress(Exception):  # a handler of the application may raise
        message = "%s: a reader holds the journal's log: end it (a sqlite3 shell, a backup); the log is %d MB, and grows"
        LOG.warning(message, path, size // 1_000_000)
