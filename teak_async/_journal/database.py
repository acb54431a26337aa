"""The SQLite file under a journal: how it is made and opened, its lock, and what it says of its run.

During a run, and after a kill, the newest rows are in the log beside the file (`-wal`). The file alone says that its log is
missing, and the log overrules that, so a file that was moved without its log is refused. Readers of a summary or an export open
a connection of their own and disturb no run.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import frozen

from teak_async.errors import JournalError

from .row import Note, text_of
from .tables import APPLICATION, PAGE_SIZE, SCHEMA, VERSION

LOCK_TIMEOUT = 0.05
"""Seconds to wait for the lock of a journal: a report looks for a moment whether it is held."""
OWN_NAMES = ("begun", "holder", "log", "member", "runs", "whole")
"""The journal's own names in the table `run`. The holder is the member of a shared limit that makes the run; one that is there
when the run is over was killed, or lost its journal. Of each run, `runs` has when it wrote its first row. It is `whole` when
the last one read its input to the end, and every row of that is here."""
_REMEDIES = {
    "SQLITE_NOTADB": "name the file that a run was given as its journal",
    "SQLITE_CORRUPT": "name a copy of it from before",
    "SQLITE_FULL": "make room",
    "SQLITE_READONLY": "name one that may be written",
}
"""What to do about SQLite's errors."""


def checkpoint(connection: sqlite3.Connection, check_log: Callable[[], None] = lambda: None) -> bool:
    """Bring the log into the file, and return whether all of it was. Alone, the file says from then on that its log is missing.

    Args:
        connection: the one that writes.
        check_log: raises if the log was not the journal's own.
    """
    connection.execute("PRAGMA wal_checkpoint")  # takes most of the time, so that the next one takes little
    check_log()  # now: the next statement may restart the log, and hide what another program wrote over its beginning
    connection.execute("UPDATE run SET value = 'missing' WHERE name = 'log'")
    try:
        # A kill between the updates leaves a file that says `missing` even after another program's checkpoint.
        busy, frames, moved = connection.execute("PRAGMA wal_checkpoint").fetchone()
    finally:
        connection.execute("UPDATE run SET value = 'here' WHERE name = 'log'")
    return not busy and frames == moved


def acquire_lock(file: Path, path: Path) -> sqlite3.Connection:
    """Lock a journal for as long as the connection is open.

    Raises:
        JournalError: when another run holds the lock, or there can be none.
    """
    try:
        # A transaction on a SQLite file: every system ends it with the process. Beside `file`, so that links share one lock.
        lock = sqlite3.connect(f"{file}-lock", timeout=LOCK_TIMEOUT, isolation_level=None)
    except sqlite3.Error as error:
        raise JournalError(f"{path}: cannot be written: {error}") from None
    try:
        lock.execute("PRAGMA journal_mode = MEMORY")
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        lock.close()
        if "locked" in str(error):
            raise JournalError(f"{path}: in use by another run; let that one end, or give this one its own journal") from None
        remedy = "a network file system may have no locks: name a file on a local disk"
        raise JournalError(f"{path}: its lock, {file}-lock, cannot be taken: {error}; {remedy}") from None
    return lock


@contextmanager
def _close_on_error(connection: sqlite3.Connection, problem: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        connection.close()
        raise JournalError(f"{problem}: {_explain(error)}") from None
    except BaseException:
        connection.close()
        raise


def _explain(error: sqlite3.Error) -> str:
    return f"{error}; {_REMEDIES.get(getattr(error, 'sqlite_errorname', ''), 'name another file')}"


def is_new(path: str | Path) -> bool:
    """Return whether a run would make a journal there, since there is no file, or an empty one."""
    return not _size(Path(os.path.realpath(path)))


def check_place(path: str | Path) -> None:
    """Check, before SQLite sees the file, that a journal can be there and was not emptied after a kill.

    Raises:
        JournalError: when none can be there, or it was emptied.
    """
    try:
        os.fsencode(path)
        file = Path(os.path.realpath(path))
    except ValueError as error:
        raise JournalError(f"{os.fspath(path)!r}: no name of a file: {error}; name a file in a folder") from None
    if file.is_dir() or not file.parent.is_dir():
        raise JournalError(f"{path}: {'a folder' if file.is_dir() else 'its folder is not there'}; name a file in a folder")
    for part in (file, *(Path(f"{file}-{end}") for end in ("wal", "shm", "lock"))):
        if part.exists() and not part.is_file():
            # SQLite would wait for the other end of a pipe, and write rows to a device that forgets them.
            named = "it" if part == file else part.name
            raise JournalError(f"{path}: {named} is no regular file; name one, or one that is not there yet")
    if not os.access(file.parent, os.W_OK):
        raise JournalError(f"{path}: its folder may not be written to; name a file in one that may")
    _check_log(path)


def _check_log(path: str | Path) -> None:
    if is_new(path) and _size(log := _log_of(path)):
        # SQLite takes the log for the rest of an older file and removes it, even if it only reads.
        raise JournalError(f"{path}: empty, and {log.name} is not: put the journal back, or remove both to begin anew")


def _log_of(path: str | Path) -> Path:
    return Path(f"{os.path.realpath(path)}-wal")


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def open_database(file: Path, path: Path, about: dict[str, str]) -> sqlite3.Connection:
    """Open a journal to write it, or make it.

    Raises:
        JournalError: when it is of another run, no journal, or cannot be written.
    """
    try:
        connection = sqlite3.connect(file, isolation_level=None)
    except sqlite3.Error as error:
        raise JournalError(f"{path}: cannot be used as a journal: {error}") from None
    with _close_on_error(connection, f"{path}: cannot be used as a journal"):
        _prepare(connection, path, about)
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, about: dict[str, str]) -> None:
    _check_format(connection, path)
    if not connection.execute("PRAGMA application_id").fetchone()[0]:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        # One transaction, before there is a log: a kill leaves a whole journal or none.
        connection.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA.split(";\n"):
            connection.execute(statement)
        values = {**about, "begun": describe_time(time.time()), "log": "here"}
        connection.executemany("INSERT INTO run VALUES (?, ?)", values.items())
        connection.execute("COMMIT")
    check_run(path, dict(connection.execute("SELECT name, value FROM run")), about)
    if (mode := connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]) != "wal":
        # Without a log, a reader would hold up the run, and each group would cost three syncs.
        problem = f"its folder can hold no log (SQLite stays at {mode!r}), as on a network file system"
        raise JournalError(f"{path}: {problem}; name a file on a local disk")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("INSERT OR REPLACE INTO run VALUES ('member', ?)", (f"{socket.gethostname()}:{os.getpid()}",))
    checkpoint(connection)


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION and not (empty and application == version == 0):
        raise JournalError(f"{path}: a SQLite file, but no journal of a run; name another file")
    if application == APPLICATION and version != VERSION:
        raise JournalError(
            f"{path}: written by another version (journal {version}, this is {VERSION}); finish it with that one"
        )
    if application == APPLICATION and not _size(log := _log_of(path)):
        missing = "SELECT count(*) FROM run WHERE (name, value) = ('log', 'missing')"
        if connection.execute(missing).fetchone()[0]:
            lost = "UPDATE run SET value = 'lost' WHERE name = 'log'"
            problem = f"{log.name} is not beside it, which has the newest rows: put it there"
            remedy = f'to go on without it, and send those again: sqlite3 {path} "{lost}"'
            raise JournalError(f"{path}: {problem}; or, {remedy}")


def describe_run(path: Path, about: Mapping[Any, Any], holder: str) -> dict[str, str]:
    """Return the description of a run as the journal keeps it: as text.

    Raises:
        JournalError: when a value has no text, or a name is the journal's own.
    """
    texts = {}
    for name, value in about.items():
        try:
            key, text = text_of(name, "a name in about="), text_of(value, f"about[{name!r}]")
            f"{key}{text}".encode()
        except TypeError as error:
            raise JournalError(f"{path}: {error}") from None
        except UnicodeEncodeError as error:
            raise JournalError(
                f"{path}: about[{name!r}] cannot be kept: {error}; give it as text of whole characters"
            ) from None
        if key in OWN_NAMES:
            raise JournalError(f"{path}: about[{name!r}] is the journal's own; give it another name")
        texts[key] = text
    return {**texts, "holder": Note(holder)} if holder else texts


def check_run(path: Path, found: Mapping[str, str], about: Mapping[str, str]) -> None:
    """Check that a journal describes the run that is about to start.

    Raises:
        JournalError: when it is of another run.
    """
    for name, value in about.items():
        if found.get(name) != value and not isinstance(value, Note):
            before, now = (repr(text) if text else "the default" for text in (found.get(name), value))
            was = f"its {name} {'are' if name.endswith('s') else 'is'} {before}, not {now}"
            raise JournalError(f"{path}: the journal of another run: {was}; give this one its own journal")


def write_notes(connection: sqlite3.Connection, about: Mapping[str, str]) -> None:
    """Write what a run says of itself otherwise than the run before."""
    notes = {name: value for name, value in about.items() if isinstance(value, Note)}
    connection.executemany("INSERT OR REPLACE INTO run VALUES (?, ?)", notes.items())
    add = "INSERT INTO run VALUES ('runs', ?) ON CONFLICT (name) DO UPDATE SET value = value || ' ' || excluded.value"
    connection.execute(add, (describe_time(time.time()),))
    mark_whole(False, connection)


def mark_whole(whole: bool, connection: sqlite3.Connection) -> None:
    """Write whether each row of the input is in the journal."""
    connection.execute("DELETE FROM run WHERE name = 'whole'")
    if whole:
        connection.execute("INSERT INTO run VALUES ('whole', 'yes')")


def forget_holder(connection: sqlite3.Connection, about: Mapping[str, str]) -> None:
    """Write that a run is over whose process goes on: nobody may take over the permits of its member."""
    connection.execute("DELETE FROM run WHERE (name, value) = ('holder', ?)", (about.get("holder"),))


@frozen
class JournalSummary:
    """What a journal says of its run.

    Attributes:
        about: the run's description.
        states: rows by state.
        failed_done: failed rows that were done: their response cannot be understood.
        last_written: when a row was last written, in ISO 8601; empty for a journal without rows.
        rows: of the input; each may be several of the rows by state, which are calls.
    """

    about: dict[str, str]
    states: dict[str, int]
    failed_done: int = 0
    last_written: str = ""
    rows: int = 0


def read_summary(path: str | Path) -> JournalSummary:
    """Read what a journal says of its run, also during the run.

    Raises:
        JournalError: when it is no journal.
    """
    with open_to_read(path) as connection:
        about = dict(connection.execute("SELECT name, value FROM run WHERE name NOT IN ('holder', 'log')"))
        states: dict[str, int] = {}
        failed_done, latest = 0, 0.0
        counts = "SELECT state, count(*), sum(delivery IS 'done'), max(at) FROM rows GROUP BY state"
        for state, count, done, at in connection.execute(counts):
            states[state] = count
            failed_done += done if state == "failed" else 0
            latest = max(latest, at)
        rows = connection.execute("SELECT count(DISTINCT row) FROM rows").fetchone()[0]
        return JournalSummary(about, states, failed_done, describe_time(latest) if latest else "", rows)


def describe_time(moment: float) -> str:
    """Return seconds of Unix time as ISO 8601, in UTC."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@contextmanager
def open_to_read(path: str | Path) -> Iterator[sqlite3.Connection]:
    file = Path(os.path.realpath(path))
    if not file.is_file():
        raise JournalError(f"{path}: no such journal; name the file that a run was given as its journal")
    _check_log(path)
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        try:
            _check_format(connection, Path(path))
            yield connection
        except sqlite3.Error as error:
            said = f"{error}; copy it, and its -wal, to a folder that you may write to"
            why = _explain(error) if os.access(file.parent, os.W_OK) else said
            raise JournalError(f"{path}: cannot be read as a journal: {why}") from None
