"""The file under a journal: SQLite, written by a thread of its own, in groups.

Rules of this module:

- SQLite is spoken here and nowhere else. One thread owns the connection that writes; what it has done it tells the loop.
- A group is one statement, so one transaction and one sync (WAL, `synchronous=FULL`), and is told as one. Between statements
  SQLite lets go of the interpreter and asks for it again: a statement for each row made a journal cost twice as much.
- After the first failure nothing more is written. A file that is no longer where it was is such a failure.
- The lock beside the file is a SQLite file too, held in a transaction, so that every system lets go of it when it kills. It is
  beside the file itself, whatever links to that.
- Reading opens a connection of its own and disturbs no run.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from attrs import frozen

from .errors import JournalError

APPLICATION = 0x7465616B
"""What marks a SQLite file as ours: "teak"."""
VERSION = 1
GROUP = 90
"""Rows written together at most, in one statement: older SQLites take no more than 999 values."""
GATHER = 0.03
"""Seconds for which a group is gathered that is less than half full; at the documented limits that is a dozen rows."""
CHUNK = 250
"""Rows of an earlier run read at a time: the loop is held up for no longer than it takes to pass over so many."""
LOOK = 1.0
"""Seconds between two looks whether the file is still there."""
RECENT = 2.0
"""Seconds. What an earlier run sent longer ago than this is out of every window."""

_SCHEMA = f"""
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
CREATE TABLE run (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE rows (
    idx INTEGER PRIMARY KEY,
    call TEXT,
    user_id TEXT,
    digest TEXT NOT NULL,
    source TEXT,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    delivery TEXT,
    error TEXT,
    response TEXT,
    at REAL NOT NULL
);
"""
_COLUMNS = "idx, call, user_id, digest, source, state, attempts, delivery, error, response, at"
_ROW = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPSERT = """ON CONFLICT (idx) DO UPDATE SET state = excluded.state, attempts = attempts + excluded.attempts,
    delivery = excluded.delivery, error = excluded.error, response = excluded.response, at = excluded.at"""


@frozen
class Known:
    """What an earlier run wrote of a row."""

    digest: str
    state: str


Values = tuple[int, str | None, str | None, str, str | None, str, int, str | None, str | None, str | None, float]
"""A row's columns. Written over an earlier row of that index, what it asks stays, the attempts add up, the rest is new."""
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
        self.failure: Exception | None = None
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[Exception | None] = loop.create_future()

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
            with closing(_locked(file, self._path)), closing(_opened(file, self._path, self._about)) as connection:
                found = file.stat()
                self._on_loop(partial(_answer, self.opened, None, None))
                self._work(connection, partial(_stay, file, found, self._path))
        except Exception as error:  # noqa: BLE001 - told to whoever opened the journal, or closes it
            self.failure = self.failure or error
            self._on_loop(partial(_answer, self.opened, error, None))
        self._on_loop(partial(_answer, self.ended, None, self.failure))

    def _work(self, connection: sqlite3.Connection, stay: Callable[[], None]) -> None:
        looked = time.monotonic()
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
                            stay()
                        _write(connection, [work for work, _ in group if isinstance(work, tuple)])
                        given = [None if isinstance(work, tuple) else work(connection) for work, _ in group]
                    except JournalError as error:
                        self.failure = error
                    except Exception as error:  # noqa: BLE001 - a row that SQLite cannot take must not end the thread either
                        self.failure = JournalError(f"{self._path}: the journal cannot be written any more: {error}")
                self._on_loop(partial(_tell, [then for _, then in group], self.failure, given))
        stay()

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


@cache
def _insert(rows: int) -> str:
    return f"INSERT INTO rows ({_COLUMNS}) VALUES {', '.join([_ROW] * rows)} {_UPSERT}"  # noqa: S608 - constants only


def _write(connection: sqlite3.Connection, rows: list[Values]) -> None:
    if rows:
        connection.execute(_insert(len(rows)), [value for row in rows for value in row])


def _stay(file: Path, found: os.stat_result, path: Path) -> None:
    with suppress(OSError):
        if os.path.samestat(file.stat(), found):
            return
    remedy = "put it back before you repeat the run, else all of it is sent again"
    raise JournalError(f"{path}: the journal was removed, moved or replaced while the run went on; {remedy}")


def _locked(file: Path, path: Path) -> sqlite3.Connection:
    """Hold the lock as long as the connection is open; the system lets go of it even when the process is killed."""
    try:
        lock = sqlite3.connect(f"{file}-lock", timeout=0, isolation_level=None)
    except sqlite3.Error as error:
        raise JournalError(f"{path}: cannot be written: {error}") from None
    try:
        lock.execute("PRAGMA journal_mode = MEMORY")
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        lock.close()
        if "locked" in str(error):
            raise JournalError(f"{path}: in use by another run; let that one end, or give this one its own journal") from None
        raise JournalError(f"{path}: its lock, {file}-lock, cannot be had: {error}") from None
    return lock


@contextmanager
def _closed_on_error(connection: sqlite3.Connection, problem: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        connection.close()
        raise JournalError(f"{problem}: {error}") from None
    except JournalError:
        connection.close()
        raise


def is_new(path: str | Path) -> bool:
    """Whether a run would make a journal there: there is no file, or an empty one."""
    return not _size(Path(os.path.realpath(path)))


def check_log(path: str | Path) -> None:
    """See that a journal was not emptied after a kill; to be done before SQLite sees it.

    Raises:
        JournalError: when it was.
    """
    log = Path(f"{os.path.realpath(path)}-wal")
    if is_new(path) and _size(log):
        # SQLite would take the log for the rest of an older file, and remove it, even where it only reads.
        raise JournalError(f"{path}: empty, and {log.name} is not: put the journal back, or remove both to begin anew")


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _opened(file: Path, path: Path, about: dict[str, str]) -> sqlite3.Connection:
    check_log(path)
    try:
        connection = sqlite3.connect(file, isolation_level=None)
    except sqlite3.Error as error:
        raise JournalError(f"{path}: cannot be used as a journal: {error}") from None
    with _closed_on_error(connection, f"{path}: cannot be used as a journal"):
        _prepare(connection, path, about)
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, about: dict[str, str]) -> None:
    _check(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if not connection.execute("PRAGMA application_id").fetchone()[0]:
        # In one transaction: killed in between, a journal is either whole or not there.
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        values = {**about, "created": f"{time.time():.3f}"}
        connection.executemany("INSERT INTO run VALUES (?, ?)", values.items())
        connection.execute("COMMIT")
    check_run(path, dict(connection.execute("SELECT name, value FROM run")), about)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION and not (empty and application == version == 0):
        raise JournalError(f"{path}: a SQLite file, but no journal of a run; name another file")
    if application == APPLICATION and version != VERSION:
        raise JournalError(
            f"{path}: written by another version (journal {version}, this is {VERSION}); finish it with that one"
        )


def check_run(path: Path, found: Mapping[str, str], about: Mapping[str, str]) -> None:
    """See that a journal is of the run that one is about to make.

    Raises:
        JournalError: when it is another's.
    """
    for name, value in about.items():
        if found.get(name) != value:
            was = f"its {name} is {found.get(name)!r}, not {value!r}"
            raise JournalError(f"{path}: the journal of another run: {was}; give this one its own journal")


def state_of(connection: sqlite3.Connection) -> tuple[int, Counter[str]]:
    last = connection.execute("SELECT coalesce(max(idx), -1) FROM rows").fetchone()[0]
    # An intent may have been sent up to the very kill. A clock set back since then makes rows look recent, which is safe.
    recent = "SELECT call, count(*) FROM rows WHERE at > ? AND state <> 'waiting' AND call IS NOT NULL GROUP BY call"
    return last, Counter(dict(connection.execute(recent, (time.time() - RECENT,))))


def chunk(start: int, connection: sqlite3.Connection) -> dict[int, Known]:
    select = "SELECT idx, digest, state FROM rows WHERE idx >= ? AND idx < ?"
    return {index: Known(digest, state) for index, digest, state in connection.execute(select, (start, start + CHUNK))}


@frozen
class Record:
    """What a journal says of its run.

    Attributes:
        about: what the run is.
        states: rows by state.
    """

    about: dict[str, str]
    states: dict[str, int]


def look(path: str | Path) -> Record:
    """Read a journal's counts, also while its run goes on.

    Raises:
        JournalError: when it is none.
    """
    with _reading(path) as connection:
        states = dict(connection.execute("SELECT state, count(*) FROM rows GROUP BY state"))
        return Record(dict(connection.execute("SELECT name, value FROM run")), states)


def sources(path: str | Path, *states: str) -> Iterator[str]:
    """Give the rows in some states as they stood in the input, in its order."""
    with _reading(path) as connection:
        marks = ", ".join("?" * len(states))
        select = f"SELECT source FROM rows WHERE state IN ({marks}) ORDER BY idx"  # noqa: S608 - adds only question marks
        for (source,) in connection.execute(select, states):
            yield source or ""


def states(path: str | Path) -> Iterator[tuple[int, Known]]:
    """Give what a journal knows of each row, by index."""
    with _reading(path) as connection:
        for index, digest, state in connection.execute("SELECT idx, digest, state FROM rows ORDER BY idx"):
            yield index, Known(digest, state)


@contextmanager
def _reading(path: str | Path) -> Iterator[sqlite3.Connection]:
    file = Path(os.path.realpath(path))
    if not file.is_file():
        raise JournalError(f"{path}: no such journal")
    check_log(path)
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        try:
            _check(connection, Path(path))
            yield connection
        except sqlite3.Error as error:
            raise JournalError(f"{path}: cannot be read as a journal: {error}") from None
