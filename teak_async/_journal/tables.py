"""The tables of a journal, and how rows get into them.

What a row asks does not change, and how far it came does: each has a table, so that neither is written again for the other.
An intent is written as a call without a state. So a row that comes to its end at once takes a line of each table, both behind
the last one, where SQLite writes the fewest pages.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain, count
from typing import Any

from .row import PARTS, JournalRow, RowState, Write

APPLICATION = 0x7465616B
"""The `application_id` of a journal: "teak"."""
VERSION = 5
GROUP = 234
"""Rows of one transaction, so of one sync, at most: the intents of a run at a very high limit, and twice as many results."""
STATEMENTS = (78, 52, 26, 16, 8, 4, 2, 1)
"""Rows of one statement: few sizes, since to prepare a statement takes SQLite longer than to run it. Older SQLites take no more
than 999 values."""
PAGE_SIZE = 2048
"""Bytes of a page of a new journal. A group puts each page that it changes into the log: with SQLite's 4096 bytes the log grows
by a third more a row, and with 1024 a row takes the thread 2 us more."""

SCHEMA = f"""
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
CREATE TABLE run (  -- What the run is.
    name TEXT PRIMARY KEY,  -- game_id, server, what the input is, begun (ISO 8601), member (host:process), log, runs.
    value TEXT
) WITHOUT ROWID;
CREATE TABLE calls (  -- What the rows ask. Each is written once, when it is first about to be sent, or ends without that.
    id INTEGER PRIMARY KEY,  -- {PARTS} times the row's place in the input, from 0, and the call's among those of its row.
    call TEXT,  -- Name of the endpoint.
    channel TEXT,  -- Of a subscription.
    category TEXT,  -- Of a subscription to a category.
    user_id TEXT,  -- The player, or the address.
    digest TEXT NOT NULL,  -- Of what the row asks.
    source TEXT,  -- The row as it stood, or as JSON. A blob where it is no UTF-8, empty where it was too long.
    line INTEGER NOT NULL,  -- Of the input, from 1; 0 where it has no lines.
    at REAL NOT NULL  -- When it was written, in seconds of Unix time.
);
CREATE TABLE states (  -- How far the calls came. One that has no state here is an intent.
    id INTEGER PRIMARY KEY,  -- Of the call.
    state TEXT NOT NULL,  -- One of: not_sent, intent (about to be sent, or sent), succeeded, failed, in_doubt.
    attempts INTEGER NOT NULL,  -- Of all runs in which the row ended. A run that was killed, or left the row, adds none.
    pauses INTEGER NOT NULL,  -- Of these, attempts that were rate-limited, each followed by a pause.
    delivery TEXT,  -- One of: not_sent, rejected, done, unknown. Of a failed row that was done, the response is unreadable.
    first_error TEXT,  -- How the first attempt that failed ended. It stays, whatever comes later.
    error TEXT,  -- Of the result.
    response TEXT,  -- Of the result, as JSON.
    at REAL NOT NULL  -- When the state was written, in seconds of Unix time.
);
CREATE VIEW rows AS  -- All of that: a line for each call of each row.
    SELECT id / {PARTS} AS row, id % {PARTS} AS part, call, channel, category, user_id, digest, source,
        coalesce(state, 'intent') AS state, coalesce(attempts, 0) AS attempts, coalesce(pauses, 0) AS pauses,
        delivery, first_error, error, response, coalesce(states.at, calls.at) AS at, line, id
    FROM calls LEFT JOIN states USING (id);
"""  # noqa: S608 - constants only
_COLUMNS = {"calls": (*JournalRow._fields, "at"), "states": ("id", *RowState._fields)}
_ALIKE = {
    "calls": frozenset({"call", "channel", "category", "at"}),
    "states": frozenset({"state", "attempts", "pauses", "delivery", "first_error", "error"}),
}
"""Columns that mostly have one value each in all rows of a statement. To bind it once saves a fifth of the work."""
_AGAIN = {
    "calls": "DO NOTHING",
    "states": """DO UPDATE SET state = excluded.state, attempts = attempts + excluded.attempts,
        pauses = pauses + excluded.pauses, delivery = excluded.delivery, at = excluded.at,
        first_error = coalesce(first_error, excluded.first_error), error = excluded.error, response = excluded.response""",
}
"""What becomes of a line that its table has already."""
DONE = "(state = 'succeeded' OR (state = 'failed' AND delivery = 'done'))"
"""Rows that were certainly done: with a response, or with one that cannot be understood."""


@cache
def _sizes(rows: int) -> list[int]:
    """Return the sizes of the statements that write so many rows."""
    sizes = []
    for size in STATEMENTS:
        sizes += [size] * (rows // size)
        rows %= size
    return sizes


@cache
def _insert(table: str, rows: int, shared: frozenset[str]) -> str:
    """Return a statement whose first parameters are the values of the shared columns; then come the others, row by row."""
    columns, others = _COLUMNS[table], count(1)
    values = ", ".join("?" if name in shared else f"column{next(others)}" for name in columns)
    row = f"({', '.join('?' * (len(columns) - len(shared)))})"
    source = f"SELECT {values} FROM (VALUES {', '.join([row] * rows)}) WHERE true"  # noqa: S608 - constants only
    return f"INSERT INTO {table} ({', '.join(columns)}) {source} ON CONFLICT (id) {_AGAIN[table]}"


def _insert_all(connection: sqlite3.Connection, table: str, columns: list[Sequence[Any]]) -> int:
    """Insert lines into a table, given column by column, and return how many were added or changed."""
    # SQLite lets go of the interpreter after each statement: with one statement a row, a journal cost twice as much.
    start = changed = 0
    for size in _sizes(len(columns[0])):
        part = {name: column[start : start + size] for name, column in zip(_COLUMNS[table], columns, strict=True)}
        # All of them or none, since each choice is another statement to prepare.
        shared = _ALIKE[table] if all(part[name].count(part[name][0]) == size for name in _ALIKE[table]) else frozenset[str]()
        alike = [values[0] for name, values in part.items() if name in shared]
        others = zip(*(values for name, values in part.items() if name not in shared), strict=True)
        changed += connection.execute(_insert(table, size, shared), [*alike, *chain.from_iterable(others)]).rowcount
        start += size
    return changed


def write(connection: sqlite3.Connection, rows: list[Write], at: float) -> None:
    """Write at most a `GROUP` of rows; durable on return.

    Args:
        connection: the one that writes.
        rows: in the order in which they came so far.
        at: the time at which they are written, in seconds of Unix time.
    """
    with connection:
        connection.execute("BEGIN")
        new = [write.row for write in rows if write.row is not None]
        if new and _insert_all(connection, "calls", [*zip(*new, strict=True), [at] * len(new)]) == len(new):
            # Those that an intent begins have no state yet.
            rows = [write for write in rows if write.row is None or write.state.state != "intent"]
        if rows:
            ids, times = [write.id for write in rows], [write.state.moment(at) for write in rows]
            *states, _ = zip(*(write.state for write in rows), strict=True)
            _insert_all(connection, "states", [ids, *states, times])
