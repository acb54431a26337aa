"""The journal of a bulk run: a SQLite file that knows of every row whether it was meant to be sent, and how it ended.

Theory of operation. Before a row is sent its *intent* is on disk, after its answer its *result*. A killed run so leaves
three kinds of rows: ended ones, ones that were never intended, and those in between, whose fate only the server knows.
A thread of its own writes in groups, one transaction and one sync a group (WAL, `synchronous=FULL`), and tells the loop
when a group is durable. At most `GROUP` rows are intended ahead of their send, so what is in doubt after a kill is what
was on the wire and no more than a group.

Rules of this module:

- A row is known by its place in the input and by a digest of what it asks. A journal met with other input is an error.
- A row whose try certainly did nothing, and that will be tried again, is `waiting` until its next intent.
- One process at a time: the file beside it that ends in `-lock` is held as long as the journal is open, and stays.
- The secret is not in it. The rows are, so it is as confidential as the input.

To look into it, also while a run goes on:

    sqlite3 run.db "SELECT state, count(*) FROM rows GROUP BY state"
    sqlite3 run.db "SELECT idx, user_id, error FROM rows WHERE state = 'failed' LIMIT 20"

    table run   what the run is, as names and values: game_id, form and header of the input, created (seconds, Unix time)
    table rows  idx       place in the input, from 0
                call      the endpoint's name
                user_id   the player
                digest    of what the row asks
                source    the row as it stood in the input, or as JSON
                state     waiting, intent, done, failed, in_doubt
                attempts, delivery, error, response (JSON) of the result
                at        when the state was written, in seconds of Unix time
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from attrs import field, frozen

from .endpoints import ENDPOINTS
from .errors import JournalError
from .models import Request
from .wire import unstructure

APPLICATION = 0x7465616B
"""What marks a SQLite file as ours: "teak"."""
VERSION = 1
GROUP = 64
"""Rows intended ahead of their send at most."""
GATHER = 0.025
"""Seconds for which the writer gathers a group that is less than half full; at the documented limits that is ten rows."""
CHUNK = 500
"""Rows of an earlier run read at a time."""
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
_INTENT = """
INSERT INTO rows (idx, call, user_id, digest, source, state, at) VALUES (?, ?, ?, ?, ?, 'intent', ?)
ON CONFLICT (idx) DO UPDATE SET state = 'intent', at = excluded.at
"""
_WAITING = "UPDATE rows SET state = 'waiting', at = ? WHERE idx = ?"
_RESULT = """
INSERT INTO rows (idx, call, user_id, digest, source, state, attempts, delivery, error, response, at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (idx) DO UPDATE SET state = excluded.state, attempts = attempts + excluded.attempts,
    delivery = excluded.delivery, error = excluded.error, response = excluded.response, at = excluded.at
"""


@frozen
class Entry:
    """A row as the journal names it.

    Attributes:
        index: place in the input, from 0.
        digest: of what it asks.
        source: as it stood in the input, or as JSON.
        call: the endpoint's name; `None` for a row that could not be read.
        user_id: the player.
    """

    index: int
    digest: str
    source: str | None = field(repr=False)
    call: str | None
    user_id: str | None

    @classmethod
    def of(cls, index: int, request: Request | None, source: str | None) -> Entry:
        """Make the entry of a request, or of the source of a row that is none."""
        if request is None:
            return cls(index, _digest("?", source or ""), source, None, None)
        name = ENDPOINTS[type(request)].name
        asked = json.dumps(unstructure(request), sort_keys=True)
        return cls(index, _digest(name, asked), asked if source is None else source, name, request.user_id)


@frozen
class Known:
    """What an earlier run wrote of a row."""

    digest: str
    state: str


@frozen
class Result:
    """How a row ended, as it is written."""

    state: str
    attempts: int
    delivery: str
    error: str | None
    response: str | None


def _digest(name: str, asked: str) -> str:
    return blake2b(f"{name}\0{asked}".encode(errors="surrogatepass"), digest_size=16).hexdigest()


Then = Callable[[Exception | None, Any], None]
"""Is told on the loop that a job is durable, with what it gave, or what prevented it."""
Work = Callable[[sqlite3.Connection], Any]


class _Writer(threading.Thread):
    """Owns the connection: everything that touches the file runs here, in groups."""

    def __init__(self, path: Path, about: dict[str, str], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="teak_async journal", daemon=True)
        self._path = path
        self._about = about
        self._loop = loop
        self._jobs: queue.SimpleQueue[tuple[Work, Then | None] | None] = queue.SimpleQueue()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()

    def put(self, work: Work, then: Then | None = None) -> None:
        """Have something done with the connection in the next group."""
        self._jobs.put((work, then))

    def ask(self, work: Work) -> asyncio.Future[Any]:
        """The same, as a future."""
        answer = self._loop.create_future()
        self.put(work, partial(_answer, answer))
        return answer

    def end(self) -> None:
        """Do what is left and let go of the file."""
        self._jobs.put(None)

    def run(self) -> None:
        try:
            with closing(_locked(self._path)), closing(_opened(self._path, self._about)) as connection:
                self._on_loop(partial(_answer, self.opened, None, None))
                self._work(connection)
        except Exception as error:  # noqa: BLE001 - told to whoever opened the journal
            self._on_loop(partial(_answer, self.opened, error, None))
        self._on_loop(partial(_answer, self.ended, None, None))

    def _work(self, connection: sqlite3.Connection) -> None:
        failure: Exception | None = None
        group: list[tuple[Work, Then | None] | None] = []
        while None not in group:
            group = self._gather()
            jobs = [job for job in group if job is not None]
            given: list[Any] = [None] * len(jobs)
            if failure is None and jobs:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    given = [work(connection) for work, _ in jobs]
                    connection.execute("COMMIT")
                except sqlite3.Error as error:
                    failure = JournalError(f"{self._path}: the journal cannot be written any more: {error}")
            self._on_loop(partial(_tell, [then for _, then in jobs], failure, given))

    def _gather(self) -> list[tuple[Work, Then | None] | None]:
        group = [self._jobs.get()]
        until = time.monotonic() + GATHER
        while len(group) < GROUP * 16 and group[-1] is not None:
            left = until - time.monotonic() if len(group) < GROUP // 2 else 0.0
            try:
                group.append(self._jobs.get(timeout=left) if left > 0 else self._jobs.get_nowait())
            except queue.Empty:
                break
        return group

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


class Journal:
    """An open journal.

    Attributes:
        last: the highest index of an earlier run; -1 for a new journal.
        spent: calls by endpoint's name that an earlier run may have sent within the last moments.
    """

    def __init__(self, writer: _Writer, last: int, spent: Counter[str]) -> None:
        self._writer = writer
        self._known: dict[int, Known] = {}
        self._read = 0
        self.last = last
        self.spent = spent

    @classmethod
    async def open(cls, path: str | Path, about: dict[str, str]) -> Journal:
        """Open a journal or make it.

        Args:
            path: of the SQLite file.
            about: what the run is; an existing journal has to say the same.

        Raises:
            JournalError: when it is another run's, in use, no journal, or cannot be written.
        """
        writer = _Writer(Path(path), about, asyncio.get_running_loop())
        writer.start()
        try:
            await writer.opened
            last, spent = await writer.ask(_state)
        except BaseException:
            writer.end()
            raise
        return cls(writer, last, spent)

    async def known(self, index: int) -> Known | None:
        """What an earlier run wrote of a row; to be asked in the order of the input."""
        while index >= self._read and self._read <= self.last:
            start, self._read = self._read, self._read + CHUNK
            self._known = await self._writer.ask(partial(_chunk, start))
        return self._known.pop(index, None)

    async def intend(self, entry: Entry) -> None:
        """Write that a row is about to be sent; durable on return."""
        values = (entry.index, entry.call, entry.user_id, entry.digest, entry.source, time.time())
        await self._writer.ask(partial(_execute, _INTENT, values))

    def withdraw(self, entry: Entry) -> None:
        """Write that an intended row was certainly not done, and may be sent again."""
        self._writer.put(partial(_execute, _WAITING, (time.time(), entry.index)))

    def settle(self, entry: Entry, result: Result, then: Callable[[Exception | None], None]) -> None:
        """Write how a row ended; `then` is called once that is durable, or with what prevented it."""
        values = (
            *(entry.index, entry.call, entry.user_id, entry.digest, entry.source, result.state, result.attempts),
            *(result.delivery, result.error, result.response, time.time()),
        )
        self._writer.put(partial(_execute, _RESULT, values), lambda failure, _: then(failure))

    async def close(self) -> None:
        """Write what is left and let go of the file."""
        self._writer.end()
        await asyncio.shield(self._writer.ended)


def _execute(sql: str, values: tuple[Any, ...], connection: sqlite3.Connection) -> None:
    connection.execute(sql, values)


def _locked(path: Path) -> sqlite3.Connection:
    """Hold the lock as long as the connection is open; the system lets go of it even when the process is killed."""
    try:
        lock = sqlite3.connect(f"{path}-lock", timeout=0, isolation_level=None)
        lock.execute("PRAGMA journal_mode = MEMORY")
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise JournalError(f"{path}: in use by another run; let that one end, or give this one its own journal") from None
        raise JournalError(f"{path}: cannot be written: {error}") from None
    except sqlite3.DatabaseError as error:
        raise JournalError(f"{path}-lock: {error}; is it another program's?") from None
    return lock


def _opened(path: Path, about: dict[str, str]) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        _check(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if not connection.execute("PRAGMA application_id").fetchone()[0]:
            connection.executescript("BEGIN IMMEDIATE;" + _SCHEMA + "COMMIT;")
            values = {**about, "created": f"{time.time():.3f}"}
            connection.executemany("INSERT INTO run VALUES (?, ?)", values.items())
    except sqlite3.Error as error:
        raise JournalError(f"{path}: cannot be used as a journal: {error}") from None
    found = dict(connection.execute("SELECT name, value FROM run"))
    for name, value in about.items():
        if found.get(name) != value:
            raise JournalError(f"{path}: the journal of another run: its {name} is {found.get(name)!r}, not {value!r}")
    return connection


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


def _state(connection: sqlite3.Connection) -> tuple[int, Counter[str]]:
    last = connection.execute("SELECT coalesce(max(idx), -1) FROM rows").fetchone()[0]
    # An intent may have been sent up to the very kill. A clock set back since then makes rows look recent, which is safe.
    recent = "SELECT call, count(*) FROM rows WHERE at > ? AND state <> 'waiting' AND call IS NOT NULL GROUP BY call"
    return last, Counter(dict(connection.execute(recent, (time.time() - RECENT,))))


def _chunk(start: int, connection: sqlite3.Connection) -> dict[int, Known]:
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
    with closing(_reading(path)) as connection:
        states = dict(connection.execute("SELECT state, count(*) FROM rows GROUP BY state"))
        return Record(dict(connection.execute("SELECT name, value FROM run")), states)


def sources(path: str | Path, *states: str) -> Iterator[str]:
    """Give the rows in some states as they stood in the input, in its order."""
    with closing(_reading(path)) as connection:
        marks = ", ".join("?" * len(states))
        select = f"SELECT source FROM rows WHERE state IN ({marks}) ORDER BY idx"  # noqa: S608 - marks are question marks
        for (source,) in connection.execute(select, states):
            yield source or ""


def states(path: str | Path) -> Iterator[tuple[int, Known]]:
    """Give what a journal knows of each row, by index."""
    with closing(_reading(path)) as connection:
        for index, digest, state in connection.execute("SELECT idx, digest, state FROM rows ORDER BY idx"):
            yield index, Known(digest, state)


def _reading(path: str | Path) -> sqlite3.Connection:
    if not Path(path).is_file():
        raise JournalError(f"{path}: no such journal")
    try:
        connection = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)
        _check(connection, Path(path))
        connection.execute("SELECT 1 FROM run")
    except sqlite3.Error as error:
        raise JournalError(f"{path}: cannot be read as a journal: {error}") from None
    return connection
