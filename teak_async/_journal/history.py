"""Read a journal for reports: how rows ended, when, and all about one row.

Each function opens a connection of its own that only reads, so it disturbs no run.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from attrs import fields, frozen

from .database import open_to_read
from .row import Text


@frozen
class PastRow:
    """A row as the journal has it; the schema in `tables` explains the columns."""

    row: int
    part: int
    line: int
    call: str | None
    channel: str | None
    user_id: str | None
    source: Text
    state: str
    attempts: int
    pauses: int
    delivery: str | None
    first_error: str | None
    error: str | None
    response: str | None
    at: float


_COLUMNS = ", ".join(column.name for column in fields(PastRow))


def iter_in_states(path: str | Path, *states: str) -> Iterator[PastRow]:
    """Yield the rows in some states, in the input's order.

    Raises:
        JournalError: when it is no journal.
    """
    return _select(path, f"state IN ({', '.join('?' * len(states))})", *states)


def iter_at_line(path: str | Path, line: int) -> Iterator[PastRow]:
    """Yield the rows of a line of the input; of an input without lines, of that place, from 0."""
    return _select(path, "line = ? AND line > 0 OR row = ? AND line = 0", line, line)


def iter_of_user(path: str | Path, user_id: str) -> Iterator[PastRow]:
    """Yield all calls of a player's rows, and rows without a player whose source contains the id."""
    found = "SELECT row FROM rows WHERE user_id = ? OR user_id IS NULL AND instr(source, ?)"
    return _select(path, f"row IN ({found})", user_id, user_id)


def describe_extent(path: str | Path) -> str:
    """Say which part of the input the journal has rows of."""
    with open_to_read(path) as connection:
        ends = connection.execute("SELECT min(line), max(line), min(row), max(row) FROM rows").fetchone()
    if ends[0] is None:
        return "no row was read yet"
    first, last = ends[:2] if ends[0] else ends[2:]
    places = f"{'lines' if ends[0] else 'rows'} {first:,} to {last:,}"
    return f"the rows that were read are {places} of the input; no other was sent"


def _select(path: str | Path, where: str, *values: object) -> Iterator[PastRow]:
    with open_to_read(path) as connection:
        select = f"SELECT {_COLUMNS} FROM rows WHERE {where} ORDER BY id"  # noqa: S608 - constants only
        for columns in connection.execute(select, values):
            yield PastRow(*columns)


def read_seconds(path: str | Path) -> list[tuple[int, int, int, int]]:
    """Return each second in which attempted calls were written.

    Returns:
        For each second, in order: Unix time, the calls, those of the endpoint with most, and the rate-limited attempts.
    """
    by_call = """SELECT CAST(at AS INTEGER) AS second, count(*) AS calls, sum(pauses) AS pauses
        FROM rows WHERE attempts > 0 GROUP BY second, call"""
    select = f"SELECT second, sum(calls), max(calls), sum(pauses) FROM ({by_call}) GROUP BY second ORDER BY second"  # noqa: S608 - constants only
    with open_to_read(path) as connection:
        return connection.execute(select).fetchall()


def read_channels(path: str | Path) -> dict[str | None, dict[str, int]]:
    """Return the calls of each channel by state; `None` stands for those that could not be made."""
    found: dict[str | None, dict[str, int]] = {}
    with open_to_read(path) as connection:
        for channel, state, count in connection.execute("SELECT channel, state, count(*) FROM rows GROUP BY 1, 2"):
            found.setdefault(channel, {})[state] = count
    return found


def read_partial_rows(path: str | Path, calls: int) -> list[tuple[str, int, int, int]]:
    """Return the rows of fewer calls than others, without those of which a call could not be made.

    Args:
        path: of the journal.
        calls: the calls of a row at most.

    Returns:
        For each set of channels: their names with commas, the rows, and line and place of the first.
    """
    in_order = "SELECT row, line, channel FROM rows ORDER BY id"
    rows = f"SELECT row, line, group_concat(channel) AS channels FROM ({in_order}) GROUP BY row"  # noqa: S608 - constants only
    partial = f"{rows} HAVING count(*) < ? AND count(channel) = count(*)"
    with open_to_read(path) as connection:
        select = f"SELECT channels, count(*), line, min(row) FROM ({partial}) GROUP BY channels"  # noqa: S608 - constants only
        return connection.execute(select, (calls,)).fetchall()


def count_whole_rows(path: str | Path) -> int:
    """Count the rows of which every call that the journal has succeeded."""
    rows = "SELECT row FROM rows GROUP BY row HAVING min(state = 'succeeded')"
    with open_to_read(path) as connection:
        count: int = connection.execute(f"SELECT count(*) FROM ({rows})").fetchone()[0]  # noqa: S608 - constants only
        return count


def is_in_use(path: str | Path) -> bool:
    """Return whether a run has the journal open."""
    lock = Path(f"{os.path.realpath(path)}-lock")
    with suppress(sqlite3.Error):
        if lock.is_file():
            with closing(sqlite3.connect(f"{lock.as_uri()}?mode=ro", uri=True, timeout=0)) as connection:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return False
    return True
