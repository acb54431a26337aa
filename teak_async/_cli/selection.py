"""Selects the rows of an input to send: those of `--rows`, and with `--once` the first of each player."""

from __future__ import annotations

import sqlite3
from hashlib import blake2b
from math import inf

from attrs import frozen

from .errors import InputError


@frozen
class Part:
    """The rows that `--rows` names.

    Attributes:
        rows: how many, from the start of the input.
        first: the first line.
        last: the last line.
    """

    rows: float = inf
    first: int = 1
    last: float = inf

    def has(self, index: int, line: int) -> bool:
        """Tell whether a row belongs to the part."""
        return index < self.rows and self.first <= line <= self.last

    def ends_before(self, index: int, line: int) -> bool:
        """Tell whether a row, and so each later one, comes after the part."""
        return index >= self.rows or line > self.last


ALL = Part()


def read_part(text: str | None) -> Part:
    """Read the value of `--rows`: `100` for the first hundred rows, `5001-6000` for these lines of the file.

    Raises:
        InputError: when it is neither.
    """
    if text is None:
        return ALL
    first, dash, last = (part.strip() for part in text.replace(",", "").replace("_", "").partition("-"))
    numbers = [part for part in (first, last) if part]
    if all(part.isascii() and part.isdecimal() and len(part) < 19 for part in numbers):
        if not dash and first and int(first):
            return Part(rows=int(first))
        if dash and first and int(first) and (not last or int(last) >= int(first)):
            return Part(first=int(first), last=int(last) if last else inf)
        if first and last and int(first) > int(last):
            raise InputError(f"--rows: {text!r} goes backwards; write {last}-{first}")
    raise InputError(f"--rows: {text!r} is neither a count, such as 100, nor lines of the file, such as 5001-6000")


MAX_WAITING = 100_000
"""Players held in memory at most, some 10 MB."""


class SeenPlayers:
    """The players seen so far: in memory, and beyond `MAX_WAITING` in a temporary file, which SQLite makes and removes.

    Attributes:
        repeated: rows that repeat a player.
        first: the line of the first of these rows; 0 while there is none.
    """

    def __init__(self) -> None:
        self.repeated = 0
        self.first = 0
        self._waiting: dict[int | bytes, int] = {}
        self._database: sqlite3.Connection | None = None

    def add(self, player: str, line: int) -> bool:
        """Add a player; return whether the row is the player's first."""
        digest = blake2b(player.encode(errors="surrogatepass"), digest_size=16).digest()
        if digest in self._waiting or (self._database is not None and self._has(digest)):
            self.repeated += 1
            self.first = self.first or line
            return False
        self._wait(digest, line)
        return True

    def close(self) -> None:
        """Remove the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _wait(self, digest: int | bytes, line: int) -> None:
        self._waiting[digest] = line
        if len(self._waiting) >= MAX_WAITING:
            self._write()

    def _has(self, digest: bytes) -> bool:
        assert self._database is not None
        return self._database.execute("SELECT 1 FROM seen WHERE player = ?", (digest,)).fetchone() is not None

    def _write(self) -> None:
        if self._database is None:
            self._database = sqlite3.connect("", isolation_level=None)
            self._database.execute("PRAGMA cache_size = -16384")
            self._database.execute("CREATE TABLE seen (player PRIMARY KEY, again INTEGER) WITHOUT ROWID")
            self._database.execute("BEGIN")
        insert = "INSERT INTO seen (player) VALUES (?) ON CONFLICT (player) DO UPDATE SET again = min(ifnull(again, ?), ?)"
        # Sorted, the keys touch each page of the table once.
        rows = [(digest, line, line) for digest, line in sorted(self._waiting.items())]
        self._database.executemany(insert, rows)
        self._waiting.clear()


class RepeatCounter(SeenPlayers):
    """Counts repeated players for a dry run. It looks players up in groups, which is faster, so the counts hold after `close`.

    It compares 64-bit hashes: among five million players, the chance that two share one is one in a million.
    """

    def __init__(self) -> None:
        super().__init__()
        self._added = 0

    def add(self, player: str, line: int) -> bool:
        """Add a player; return `True` always."""
        digest = hash(player)
        if digest in self._waiting:
            self.repeated += 1
            self.first = min(self.first or line, line)
        else:
            self._added += 1
            self._wait(digest, line)
        return True

    def close(self) -> None:
        """Complete the counts, and remove the file."""
        if self._database is not None:
            self._write()
            different, again = self._database.execute("SELECT count(*), min(again) FROM seen").fetchone()
            self.repeated += self._added - different
            if again is not None:
                self.first = min(self.first or again, again)
        super().close()
