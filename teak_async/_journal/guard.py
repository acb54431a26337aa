"""The guard of an open journal's files: they are the ones that were opened, and no other program has written to them.

A journal is a file with a log (`-wal`), the log's index (`-shm`) and a lock beside it. SQLite keeps them open, so it does not
notice that one was moved, and takes what another program writes into one for its own. So the guard checks the files twice for
each group: all before it is written, and those that have its rows again before anybody learns that it is durable.

- Another program may checkpoint the log: the guard then reads again a row that has to be in the file, once all is written.
- After damage, the log is not brought into the file, and a later run is refused until a person has decided.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import NamedTuple

from teak_async.errors import JournalError

from .database import checkpoint
from .row import Write

HEADER = 32
"""Bytes of the log's header: a magic number, and salts by which SQLite knows the log's own frames."""
MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
MAX_RESTARTS = 1000
"""Restarts of the log between two checks, at most; each increments the header's first salt."""
TAIL = 1 << 18
"""Bytes before the end of the last group in which a hole shows that the log was cut meanwhile."""
SEEK_HOLE = getattr(os, "SEEK_HOLE", None)
WRITTEN_WITHIN = 1.0
"""Seconds without a change after which another program's checkpoint, which writes page after page, is no longer half-way."""
DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_SHORT_READ")
"""Beginnings of SQLite's names for errors that come from what is in the files, or no longer in them."""


class Entry(NamedTuple):
    """What `stat` says of a file."""

    device: int
    inode: int
    size: int
    modified: int


class Proof(NamedTuple):
    """The id of a row that has to be in the journal, and when it was written."""

    id: int
    at: float


class FileGuard:
    """Checks the files of an open journal, and closes its connection.

    Args:
        connection: the one that writes.
        path: the journal's, as it was given.
        file: the same, with links resolved.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, file: Path) -> None:
        self._connection = connection
        self._path = path
        self._file = file
        # By the name that a repeated run takes, so through its links. The current directory may be gone.
        self._place = os.fspath(path if path.is_absolute() else Path.cwd() / path)
        self._log, self._index, self._lock = (f"{file}-{end}" for end in ("wal", "shm", "lock"))
        self._damaged = False
        self._checkpoint_at = time.time()
        self._only_in_log = 0
        # A second connection: while it is open, SQLite makes no checkpoint when the first one closes.
        self._keeper = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, isolation_level=None)
        with ExitStack() as stack:
            stack.callback(self._keeper.close)
            place, at = self._keeper.execute("SELECT id, max(at) FROM rows").fetchone()
            self._written = None if place is None else Proof(place, at)
            self._in_file = self._written if self._file_has(self._written) else None
            # No file but the log may be opened beside SQLite: closing it would end the locks that SQLite has on it.
            self._log_file = stack.enter_context(Path(self._log).open("rb", buffering=0))
            self._header = self._read_header()
            self._entries = {part: _entry_of(part) for part in (self._place, self._log, self._index, self._lock)}
            stack.pop_all()  # they stay open

    @property
    def log_size(self) -> int:
        """Bytes of the log."""
        return self._entries[self._log].size

    def check_untouched(self) -> None:
        """Check that nobody has written to the journal since the last group.

        Raises:
            JournalError: when somebody has, or one of its files is not in its place.
        """
        self._check_file()  # first, since a folder that was moved takes all files along
        self._stat(self._lock)
        self._stat(self._index)
        entry = self._stat(self._log)
        if entry != self._entries[self._log]:
            self._check_log(entry)

    def check_after(self, error: sqlite3.Error) -> None:
        """Check whether damage to the files is what made SQLite fail.

        Raises:
            JournalError: when it is.
        """
        self.check_untouched()
        # SQLite may meet the damage first, and even write over its traces: a checkpoint makes a file that was cut long again.
        if getattr(error, "sqlite_errorname", "").startswith(DAMAGE):
            raise self._record_damage(None)

    def check_written(self, rows: list[Write], at: float) -> None:
        """Check that a group is in the journal's own log.

        Args:
            rows: the group.
            at: when it was written, as the journal says.

        Raises:
            JournalError: when it is not.
        """
        last = rows[-1]
        self._written = Proof(last.id, last.state.moment(at))
        if (proof := self._in_file) is not None:
            # A clock that was set back: what another program brings into the file may then be older than what is there.
            again = (Proof(write.id, write.state.moment(at)) for write in rows if write.id == proof.id)
            self._in_file = min([proof, *again])
        self._only_in_log += len(rows)
        self._check_file()
        entry, before = self._stat(self._log), self._entries[self._log]
        if entry.size < before.size:
            self._check_log(entry)
        elif self._is_cut(before.size, entry.size):
            raise self._record_damage(self._log)
        self._check_header()
        self._entries[self._log] = entry

    def checkpoint(self) -> bool:
        """Bring the log into the file, as far as readers allow, and return whether all of it was.

        Raises:
            JournalError: when the log or the file is not what was written.
        """
        self._check_log(self._stat(self._log))
        written, rows, now = self._written, self._only_in_log, time.time()
        try:
            whole = checkpoint(self._connection, self._check_header)
        finally:
            # Also after a failure half-way, as on a full disk: then this checkpoint has changed the file, not another program.
            self._entries[self._place] = self._stat(self._place)
            self._entries[self._log] = self._stat(self._log)
        self._check_header()
        if whole:
            self._in_file = written
            self._only_in_log -= rows
            self._checkpoint_at = now
            if not self._file_has(self._in_file):
                raise self._record_damage(self._place)
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
        # The next run refuses an empty file beside a log anyway. Any other file is marked as lacking its log.
        with suppress(OSError, sqlite3.Error):
            if Path(self._place).stat().st_size:
                Path(self._log).replace(f"{self._log}.damaged")
                with closing(sqlite3.connect(self._file, isolation_level=None)) as connection:
                    connection.execute("UPDATE run SET value = 'missing' WHERE name = 'log'")

    def _stat(self, part: str) -> Entry:
        before = self._entries[part]
        try:
            entry = _entry_of(part)
        except OSError:
            raise self._describe_missing(part) from None
        if entry[:2] != before[:2]:
            raise self._describe_missing(part)
        if part == self._index and entry.size < before.size:
            os.truncate(part, before.size)  # SQLite has it mapped, and a signal would kill the process at its close
            raise self._describe_missing(part)
        return entry

    def _check_file(self) -> None:
        entry = self._stat(self._place)
        before = self._entries[self._place]
        if entry == before:
            return
        if entry.size < before.size or not self._comes_to_have(self._in_file):
            raise self._record_damage(self._place)
        self._entries[self._place] = entry

    def _comes_to_have(self, proof: Proof | None) -> bool:
        """Return whether the file has a row, now or once nobody writes to it: a checkpoint may be half-way."""
        before, since = None, 0.0
        while not self._file_has(proof):
            entry, now = self._stat(self._place), time.monotonic()
            if entry != before:
                before, since = entry, now
            elif now - since > WRITTEN_WITHIN:
                return False
            time.sleep(0.01)
        return True

    def _check_log(self, entry: Entry) -> None:
        before, header = self._header, self._read_header()
        whole = entry.size >= self.log_size or header != before  # SQLite cuts the log only when it restarts it
        if not (whole and self._continues(header) and self._has(self._keeper, self._written)):
            raise self._record_damage(self._log)
        self._entries[self._log] = entry

    def _file_has(self, proof: Proof | None) -> bool:
        """Return whether the file has a row by itself, without the log."""
        with closing(sqlite3.connect(f"{self._file.as_uri()}?immutable=1", uri=True)) as connection:
            return self._has(connection, proof)

    def _has(self, connection: sqlite3.Connection, proof: Proof | None) -> bool:
        place = -1 if proof is None else proof.id
        try:
            found = connection.execute("SELECT max(at) FROM rows WHERE id = ?", (place,)).fetchone()[0]
        except sqlite3.Error:
            return False
        return proof is None or (found is not None and found >= proof.at)

    def _check_header(self) -> None:
        if not self._continues(self._read_header()):
            raise self._record_damage(self._log)

    def _read_header(self) -> bytes:
        self._log_file.seek(0)
        return self._log_file.read(HEADER)

    def _continues(self, header: bytes) -> bool:
        """Return whether a header is the log's own: unchanged, or that of the same log restarted."""
        if header == self._header:
            return True
        if not header and not self._log_file.seek(0, os.SEEK_END):
            return True  # another program has checkpointed all of it; the rows show whether the file has it
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
            return False  # a file system that cannot tell

    def _describe_missing(self, part: str) -> JournalError:
        if part != self._place and not self._in_place():
            part = self._place  # its folder was moved, between two looks: what is beside it went with it
        went = f"{Path(part).name}, was removed, moved or replaced while the run went on"
        if part == self._place:
            remedy = "put it back before you repeat the run, else all of it is sent again"
            return JournalError(f"{self._path}: the journal was removed, moved or replaced while the run went on; {remedy}")
        if part == self._lock:
            problem = f"its lock, {went}, and another run may have begun"
            return JournalError(
                f"{self._path}: {problem}; what was written before is in the journal: make sure that no other run goes on"
            )
        if part == self._index:
            return JournalError(
                f"{self._path}: its log's index, {went}; what was written before is in the journal: repeat the run"
            )
        whole = False
        with suppress(sqlite3.Error):
            whole = checkpoint(self._connection)  # SQLite still has the log that is gone
        safe = "what was written before is in the journal: repeat the run without that log"
        held = f"the rows written since {self._when()} are only in that log: put it back before you repeat the run"
        return JournalError(f"{self._path}: its log, {went}; {safe if whole else held}")

    def _in_place(self) -> bool:
        try:
            return _entry_of(self._place)[:2] == self._entries[self._place][:2]
        except OSError:
            return False

    def _record_damage(self, part: str | None) -> JournalError:
        """Remember that the journal, its log or, where that is not known, one of them is damaged; return what to say of it."""
        self._damaged = True
        wrote = "was overwritten or cut short while the run went on"
        name = Path(self._log).name
        log = f"{name}.damaged"
        if part == self._log:
            safe = (
                f"what was written before {self._when()} is in the journal, {self._only_in_log:,} rows since then may be lost"
            )
            remedy = f"put a whole log in place of {log}, or repeat the run and follow its message"
            return JournalError(f"{self._path}: its log, {name}, {wrote}; {safe}; {remedy}")
        remedy = "put a copy of the journal back before you repeat the run, else what it lacks is sent again"
        if part is None:
            return JournalError(f"{self._path}: the journal or its log (now {log}) {wrote}; {remedy}")
        safe = f"only what was written since {self._when()} is safe, in its log ({log}, unless the journal is empty)"
        return JournalError(f"{self._path}: the journal {wrote}; {safe}; {remedy}")

    def _when(self) -> str:
        return time.strftime("%H:%M:%S", time.localtime(self._checkpoint_at))


def _entry_of(part: str) -> Entry:
    found = os.stat(part)  # noqa: PTH116 - a path by name, since an object for each look cost as much as a row
    return Entry(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
