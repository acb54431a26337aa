"""The guard of an open journal's files: they are the ones that were opened, and nobody else has written to them.

A journal is a file with a log (`-wal`), the log's index (`-shm`) and a lock beside it. SQLite has them open, so it does not
notice that one of them has left its place, and it takes for its own what another program writes into one. So a group is
looked at twice: before it is written, that nothing has changed since the last one, and after that, before a send or a reader
learns that it is durable. Four looks at the system's entry of a file cost some microseconds.

Rules of this module:

- Only a run writes to its journal. What another program brought from the log into the file is let pass, once a row that has
  to be there was read again.
- After damage, the log is not brought into the file, and a later run is refused until a person has decided.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from teak_async.errors import JournalError

from .database import checkpoint
from .row import JournalRow

HEADER = 32
"""Bytes at the log's beginning: a mark, and numbers by which SQLite knows the log's own frames."""
MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
MAX_RESTARTS = 1000
"""Times that the log has begun anew, at most, between two looks; each time its number grows by one."""
TAIL = 1 << 18
"""Bytes at the log's end, up to where the last group ended, in which a hole would show that the log was cut in between."""
SEEK_HOLE = getattr(os, "SEEK_HOLE", None)


class Entry(NamedTuple):
    """What the system says of a file."""

    device: int
    inode: int
    size: int
    modified: int


class Proof(NamedTuple):
    """A row that has to be there, and when it was written."""

    row: int
    at: float


class FileGuard:
    """Watches the files of an open journal, and ends its connection.

    Args:
        connection: the one that writes.
        path: the journal's, as it was given.
        file: the same without links.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, file: Path) -> None:
        self._connection = connection
        self._path = path
        self._file = file
        self._place = Path.cwd() / path  # by the name that a repeated run takes, so through its links
        self._log, self._index, self._lock = (Path(f"{file}-{end}") for end in ("wal", "shm", "lock"))
        self._damaged = False
        self._folded_at = time.time()
        self._unfolded = 0
        # A second connection: while it is open, SQLite does not bring the log into the file as the first one closes.
        self._keeper = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            index, at = self._keeper.execute("SELECT row, max(at) FROM rows").fetchone()
            self._written = None if index is None else Proof(index, at)
            self._folded = self._written if self._file_has(self._written) else None
            # No file but the log may be opened beside SQLite: closing it would end the locks that SQLite has on it.
            self._log_file = self._log.open("rb", buffering=0)
            self._header = self._read_header()
            self._entries = {part: _entry_of(part) for part in (self._place, self._log, self._index, self._lock)}
        except BaseException:
            self._keeper.close()
            raise

    @property
    def log_size(self) -> int:
        """Bytes of the log."""
        return self._entries[self._log].size

    def check_untouched(self) -> None:
        """Check that nobody has written to the journal since the last group.

        Raises:
            JournalError: when somebody has, or one of its files is not in its place.
        """
        self._check_file()  # first, since a folder that was moved takes all of them along
        self._look(self._lock)
        self._look(self._index)
        entry = self._look(self._log)
        if entry != self._entries[self._log]:
            self._check_log(entry)

    def check_written(self, rows: list[JournalRow]) -> None:
        """Check that a group is in the journal's own log.

        Raises:
            JournalError: when it is not.
        """
        self._written = Proof(rows[-1].index, rows[-1].at)
        self._unfolded += len(rows)
        self._check_file()
        self._look(self._lock)
        self._look(self._index)
        entry, before = self._look(self._log), self._entries[self._log]
        if entry.size < before.size:
            self._check_log(entry)
        elif self._is_cut(before.size, entry.size):
            raise self._overwritten(self._log)
        self._check_header()
        self._entries[self._log] = entry

    def fold(self) -> bool:
        """Bring the log into the file, as far as readers allow; say whether all of it was.

        Raises:
            JournalError: when one of the two is not what was written.
        """
        self._check_log(self._look(self._log))
        written, rows, now = self._written, self._unfolded, time.time()
        try:
            whole = checkpoint(self._connection, self._check_header)
        finally:
            # Also where it fails half-way, as on a full disk: the file is no whole one then without the log, by our own doing.
            self._entries[self._place] = self._look(self._place)
            self._entries[self._log] = self._look(self._log)
        self._check_header()
        if whole:
            self._folded = written
            self._unfolded -= rows
            self._folded_at = now
            if not self._file_has(self._folded):
                raise self._overwritten(self._place)
        return whole

    def close(self) -> None:
        """Close the connection; leave the log beside the file where one of the two was damaged."""
        self._log_file.close()
        if not self._damaged:
            self._keeper.close()
            self._connection.close()
            return
        self._connection.close()
        self._keeper.close()  # may only read, so it leaves the log as it is
        # An empty file beside a log is refused by the next run as it is.
        with suppress(OSError, sqlite3.Error):
            if self._place.stat().st_size:
                self._log.replace(f"{self._log}.damaged")
                with closing(sqlite3.connect(self._file, isolation_level=None)) as connection:
                    connection.execute("UPDATE run SET value = 'missing' WHERE name = 'log'")

    def _look(self, part: Path) -> Entry:
        before = self._entries[part]
        try:
            entry = _entry_of(part)
        except OSError:
            raise self._gone(part) from None
        if entry[:2] != before[:2]:
            raise self._gone(part)
        if part == self._index and entry.size < before.size:
            os.truncate(part, before.size)  # SQLite has it mapped, and would be killed by a signal as it closes
            raise self._gone(part)
        return entry

    def _check_file(self) -> None:
        entry = self._look(self._place)
        before = self._entries[self._place]
        if entry == before:
            return
        if entry.size < before.size or not self._file_has(self._folded):
            raise self._overwritten(self._place)
        self._entries[self._place] = entry

    def _check_log(self, entry: Entry) -> None:
        before, header = self._header, self._read_header()
        whole = entry.size >= self.log_size or header != before  # SQLite cuts the log only where it begins it anew
        if not (whole and self._continues(header) and self._has(self._keeper, self._written)):
            raise self._overwritten(self._log)
        self._entries[self._log] = entry

    def _file_has(self, proof: Proof | None) -> bool:
        """Say whether the file has a row by itself, without the log."""
        with closing(sqlite3.connect(f"{self._file.as_uri()}?immutable=1", uri=True)) as connection:
            return self._has(connection, proof)

    def _has(self, connection: sqlite3.Connection, proof: Proof | None) -> bool:
        index = -1 if proof is None else proof.row
        try:
            found = connection.execute("SELECT max(at) FROM rows WHERE row = ?", (index,)).fetchone()[0]
        except sqlite3.Error:
            return False
        return proof is None or (found is not None and found >= proof.at)

    def _check_header(self) -> None:
        if not self._continues(self._read_header()):
            raise self._overwritten(self._log)

    def _read_header(self) -> bytes:
        self._log_file.seek(0)
        return self._log_file.read(HEADER)

    def _continues(self, header: bytes) -> bool:
        """Say whether a header is the log's own: the one it had, or that of the same log begun anew."""
        if header == self._header:
            return True
        if not header and not self._log_file.seek(0, os.SEEK_END):
            return True  # another program has brought all of it into the file; whether that has it, the rows will tell
        restarts = (int.from_bytes(header[16:20]) - int.from_bytes(self._header[16:20])) % (1 << 32)
        if header[:4] not in MAGIC or not 0 < restarts <= MAX_RESTARTS:
            return False
        self._header = header
        return True

    def _is_cut(self, before: int, size: int) -> bool:
        if SEEK_HOLE is None:
            return False
        try:
            return self._log_file.seek(max(0, before - TAIL), SEEK_HOLE) < size
        except OSError:
            return False  # a file system that does not tell

    def _gone(self, part: Path) -> JournalError:
        went = f"{part.name}, was removed, moved or replaced while the run went on"
        if part == self._place:
            remedy = "put it back before you repeat the run, else all of it is sent again"
            return JournalError(f"{self._path}: the journal was removed, moved or replaced while the run went on; {remedy}")
        if part == self._lock:
            problem = f"its lock, {went}, and another run may have begun"
            return JournalError(f"{self._path}: {problem}; what was written before is in it: see that no other one goes on")
        if part == self._index:
            return JournalError(f"{self._path}: its log's index, {went}; what was written before is in it: repeat the run")
        whole = False
        with suppress(sqlite3.Error):
            whole = checkpoint(self._connection)  # SQLite still has the log that is gone
        safe = "what was written before is in the journal: repeat the run without that log"
        held = f"the rows written since {self._when()} are only in that log: put it back before you repeat the run"
        return JournalError(f"{self._path}: its log, {went}; {safe if whole else held}")

    def _overwritten(self, part: Path) -> JournalError:
        self._damaged = True
        wrote = "was overwritten or cut short while the run went on"
        log = f"{self._log.name}.damaged"
        if part == self._log:
            safe = f"what was written before {self._when()} is in the journal, {self._unfolded:,} rows since then may be lost"
            remedy = f"put a whole log in place of {log}, or repeat the run and do as it says"
            return JournalError(f"{self._path}: its log, {part.name}, {wrote}; {safe}; {remedy}")
        safe = f"only what was written since {self._when()} is safe, in its log ({log}, where the journal has a size)"
        remedy = "put a copy of the journal back before you repeat the run, else what it lacks is sent again"
        return JournalError(f"{self._path}: the journal {wrote}; {safe}; {remedy}")

    def _when(self) -> str:
        return time.strftime("%H:%M:%S", time.localtime(self._folded_at))


def _entry_of(part: Path) -> Entry:
    found = part.stat()
    return Entry(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
