"""The ledger in a SQLite file, for the processes of one host: one `BEGIN IMMEDIATE` a sync, on a thread of its own.

Rules of this module:

- The only one of this package that imports `sqlite3`.
- Time is the machine's CLOCK_MONOTONIC, which all of its processes share. After a boot the ledger is a new one.
- Nothing here outlives the machine, so nothing waits for the disk (`synchronous=OFF`). A kill leaves a whole state.
- A file that was deleted or replaced is another ledger: before each sync the file's name and number are compared.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from teak_async.errors import LedgerError

from .ledger import Answer, LedgerDownError, State, Sync, apply, at

APPLICATION = 0x7465616C
"""The `application_id` of a ledger: "teal"."""
VERSION = 1
BUSY = 0.5
"""Seconds for which a sync tries to get the lock."""
REMEDIES = {
    "SQLITE_BUSY": "another program holds its lock: end that",
    "SQLITE_LOCKED": "another program holds its lock: end that",
    "SQLITE_FULL": "its disk is full: make room",
    "SQLITE_IOERR": "its disk failed, or is at a limit: mend that",
    "SQLITE_READONLY": "it may not be written to: give this user the right to write it and its folder",
    "SQLITE_CANTOPEN": "it cannot be opened: give this user the right to write it and its folder",
    "SQLITE_CORRUPT": "it is damaged: delete it",
    "SQLITE_NOTADB": "it is no ledger any more: delete it",
}
"""The remedy, by the beginning of SQLite's name for an error."""
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs", "ceph", "glusterfs", "fuse.glusterfs", "lustre"}
"""File systems whose locks do not hold between hosts, or not at all."""
MOUNTS = Path("/proc/self/mounts")
"""The system's table of mounts."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""The system's name for this boot."""

T = TypeVar("T")


class SqliteLedger:
    """A ledger in a file on a local disk.

    Args:
        path: of the file, which is made if there is none.
    """

    one_host = True

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._file = Path(os.path.realpath(path))
        self._thread = ThreadPoolExecutor(1, "teak_async ledger")
        self._connection: sqlite3.Connection | None = None
        self._number: tuple[int, int] | None = None
        self._boot = _boot()

    async def open(self) -> None:
        await self._run(self._open_first)

    async def sync(self, syncs: dict[str, Sync], now: int | None = None) -> dict[str, Answer]:
        """Make a sync of some buckets; see `Ledger.sync`. `now` is for tests."""
        return await self._run(lambda: self._sync(syncs, now))

    async def read(self) -> dict[str, State]:
        """Read all buckets as they are by now, by their keys."""
        return await self._run(self._read)

    async def close(self) -> None:
        """Close the file, without waiting for a sync that is under way."""
        self.abandon()

    def abandon(self) -> None:
        """Have the thread close the file."""
        with suppress(RuntimeError):  # Python ends, or it is closed already
            self._thread.submit(self._drop)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._translate, work)

    def _translate(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except sqlite3.Error as error:
            self._drop()
            name = getattr(error, "sqlite_errorname", "")
            remedy = next((remedy for begin, remedy in REMEDIES.items() if name.startswith(begin)), str(error))
            raise LedgerDownError(f"{self._path} cannot be used: {remedy}") from None
        except OSError as error:
            self._drop()
            raise LedgerDownError(f"{self._path} cannot be used: {error}") from None

    def _open_first(self) -> None:
        if self._file.is_dir() or not self._file.parent.is_dir():
            what = "is a folder" if self._file.is_dir() else "is in a folder that is not there"
            raise LedgerError(f"share='{self._path}' {what}: name a file in a folder on a local disk")
        if self._file.exists() and not self._file.is_file():
            raise LedgerError(f"share='{self._path}' is no regular file: name one, or one that is not there yet")
        if (kind := _file_system(self._file.parent)) in NETWORK:
            raise LedgerError(
                f"share='{self._path}' is on a network file system ({kind}), whose locks do not hold: name a file on a local"
                " disk, or use Valkey for several hosts"
            )
        try:
            self._connect()
        except sqlite3.DatabaseError as error:
            self._drop()
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith("SQLITE_NOTADB"):
                raise LedgerError(f"share='{self._path}' is no ledger: name another file") from None
            if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
                raise LedgerError(f"share='{self._path}' cannot be opened: {REMEDIES['SQLITE_CANTOPEN']}") from None
            raise

    def _connect(self) -> sqlite3.Connection:
        """Return a connection to the file that is there now."""
        if self._connection is not None and self._number == _number(self._file):
            return self._connection
        self._drop()
        connection = sqlite3.connect(self._file, timeout=BUSY, isolation_level=None, check_same_thread=False)
        self._connection = connection
        connection.execute("PRAGMA synchronous = OFF")
        _begin(connection)
        try:
            self._prepare(connection)
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
        # The journal's file stays between transactions; it is made and deleted each time otherwise.
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        self._number = _number(self._file)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if application == APPLICATION:
            if version != VERSION:
                raise LedgerError(
                    f"share='{self._path}' is of another version ({version}, this is {VERSION}): name another file"
                )
            return
        if application or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise LedgerError(f"share='{self._path}' is a SQLite file, but no ledger: name another file")
        connection.execute("CREATE TABLE bucket (key TEXT PRIMARY KEY, boot TEXT, state TEXT) WITHOUT ROWID")
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {VERSION}")

    def _sync(self, syncs: dict[str, Sync], now: int | None) -> dict[str, Answer]:
        try:
            connection = self._connect()
        except LedgerError as error:  # another file was put there
            raise LedgerDownError(str(error)) from None
        answers: dict[str, Answer] = {}
        _begin(connection)
        try:
            moment = _now() if now is None else now
            for key, sync in syncs.items():
                row = connection.execute("SELECT boot, state FROM bucket WHERE key = ?", (key,)).fetchone()
                known = json.loads(row[1]) if row is not None and row[0] == self._boot else None
                state, answer = apply(known, sync, moment)
                values = (key, self._boot, json.dumps(state, separators=(",", ":")))
                connection.execute("INSERT OR REPLACE INTO bucket VALUES (?, ?, ?)", values)
                if answer is not None:
                    answers[key] = answer
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.rollback()
            raise
        return answers

    def _read(self) -> dict[str, State]:
        rows = self._connect().execute("SELECT key, state FROM bucket WHERE boot = ?", (self._boot,)).fetchall()
        return {key: at(json.loads(state), _now()) for key, state in rows}

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._number = None


def _begin(connection: sqlite3.Connection) -> None:
    """Take the lock. SQLite's own waiting sleeps up to 100 ms at a time; a sync takes a tenth of a millisecond."""
    until = time.monotonic() + BUSY
    connection.execute("PRAGMA busy_timeout = 0")
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(0.0005)
        else:
            connection.execute("PRAGMA busy_timeout = 500")  # for a reader that is there when the transaction ends
            return


def _now() -> int:
    return time.monotonic_ns() // 1_000_000


def _number(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _boot() -> str:
    """Return the id of this boot of the machine; empty where the system has none."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        # The clock restarts with a boot, and `apply` counts a clock that went back as no time.
        return ""


def _file_system(folder: Path) -> str:
    """Return the type of a folder's file system; empty if the system does not say."""
    best, kind = "", ""
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in mounts.splitlines():
        _, place, name, *_ = line.split()
        place = place.replace("\\040", " ")
        if len(place) >= len(best) and (place == "/" or folder == Path(place) or Path(place) in folder.parents):
            best, kind = place, name
    return kind
