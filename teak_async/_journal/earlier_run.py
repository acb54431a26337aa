"""What an earlier run left in a journal, for the run that resumes it."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

from teak_async._api.endpoints import ENDPOINTS, EVERYTHING, Effect

from .database import open_to_read
from .row import MAYBE_DONE, PARTS, KnownRow, Place, Text, id_of
from .tables import DONE

CHUNK = 2_000
"""Rows of an earlier run read at a time."""
FINISHED_CHUNK = 2_000
"""Sources of finished rows read at a time, by the thread that reads the input."""
RECENT = 2.0
"""Seconds after which a request of an earlier run no longer counts against a limit."""
CHANGES = {endpoint.name: endpoint for endpoint in ENDPOINTS.values() if endpoint.effect is not Effect.READ}
"""The calls that change something, by their names."""


@frozen
class PastCall:
    """A call of a journal as far as it may undo another one of its player."""

    place: Place
    call: str
    channel: str | None
    category: str | None

    def is_overtaken_by(self, other: PastCall) -> bool:
        """Return whether doing this again would undo the other call, which came later and was done."""
        if self.place >= other.place:
            return False
        mine, its = CHANGES[self.call], CHANGES[other.call]
        if EVERYTHING in (mine.target, its.target):
            return True
        if its.effect is Effect.RECORD:
            return mine.target == "address"  # an identify may have brought another one
        return (mine.target, self.channel, self.category) == (its.target, other.channel, other.category)


def read_resume_point(connection: sqlite3.Connection) -> tuple[int, Counter[str], frozenset[Place], str]:
    """Read where an earlier run was, and who held its permits if it was killed."""
    holder = dict(connection.execute("SELECT name, value FROM run WHERE name = 'holder'")).get("holder", "")
    last = connection.execute("SELECT coalesce(max(id), -1) FROM calls").fetchone()[0] // PARTS
    # An intent may have been sent up to the kill. A clock that was set back makes rows look recent, which is safe.
    recent = "SELECT call, count(*) FROM rows WHERE at > ? AND state <> 'not_sent' AND call IS NOT NULL GROUP BY call"
    return last, Counter(dict(connection.execute(recent, (time.time() - RECENT,)))), read_overtaken(connection), holder


def read_overtaken(connection: sqlite3.Connection) -> frozenset[Place]:
    """Find calls that may have been done, and whose player has a later call that was done and that they would undo."""
    # One pass over the rows for each select, and no index: such rows are few.
    select = "SELECT user_id, row, part, call, channel, category FROM rows WHERE"
    changes = f"call IN ({_listed(CHANGES)})"
    doubtful = f"state IN ({_listed(MAYBE_DONE)}) AND {changes}"
    calls = [(user_id, _past_call(*columns)) for user_id, *columns in connection.execute(f"{select} {doubtful}")]
    done: dict[str, list[PastCall]] = {}
    if calls:
        of_these = f"user_id IN (SELECT user_id FROM rows WHERE {doubtful})"  # noqa: S608 - constants only
        for user_id, *columns in connection.execute(f"{select} {DONE} AND {changes} AND {of_these}"):
            done.setdefault(user_id, []).append(_past_call(*columns))
    return frozenset(
        call.place for user_id, call in calls if any(call.is_overtaken_by(other) for other in done.get(user_id, ()))
    )


def count_not_repeated(path: str | Path, states: Iterable[str] = ("intent", "in_doubt")) -> tuple[int, int]:
    """Count the identifies in doubt, and all calls in doubt that no run makes again by itself: these, and overtaken ones.

    Args:
        path: of the journal.
        states: of rows in doubt; while a run goes on, an intent is none.
    """
    records = _listed(name for name, endpoint in CHANGES.items() if endpoint.effect is Effect.RECORD)
    doubtful = f"SELECT row, part, call IN ({records}) FROM rows WHERE state IN ({_listed(states)})"  # noqa: S608 - constants
    with open_to_read(path) as connection:
        overtaken = read_overtaken(connection)
        calls = connection.execute(doubtful).fetchall()
    sessions = sum(is_record for *_, is_record in calls)
    return sessions, sum(is_record or (row, part) in overtaken for row, part, is_record in calls)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _past_call(row: int, part: int, *what: Any) -> PastCall:
    return PastCall((row, part), *what)


def read_known(start: int, connection: sqlite3.Connection) -> dict[int, KnownRow]:
    select = "SELECT id, digest, state FROM rows WHERE id >= ? AND id < ?"
    found = connection.execute(select, (id_of(start), id_of(start + CHUNK)))
    return {number: KnownRow(digest, state) for number, digest, state in found}


def read_finished(path: str | Path, start: int, parts: int) -> dict[int, tuple[Text, int]]:
    """Read the sources of rows whose calls are all finished, and how many failed: `FINISHED_CHUNK` rows from an index on.

    Args:
        path: of the journal.
        start: the first index.
        parts: calls of a row at most. Only where it has so many is it known, without reading it, that these are all.
    """
    select = """SELECT row, source, sum(state = 'failed') FROM rows
        WHERE id >= ? AND id < ? AND state IN ('succeeded', 'failed') GROUP BY row HAVING count(*) = ?"""
    with open_to_read(path) as connection:
        found = connection.execute(select, (id_of(start), id_of(start + FINISHED_CHUNK), parts))
        return {index: (source, failed) for index, source, failed in found}


def iter_states(path: str | Path) -> Iterator[tuple[Place, KnownRow]]:
    """Yield the place of each call and what is known of it, in the input's order."""
    with open_to_read(path) as connection:
        overtaken = read_overtaken(connection)
        for row, part, digest, state in connection.execute("SELECT row, part, digest, state FROM rows ORDER BY id"):
            yield (row, part), KnownRow(digest, state, (row, part) in overtaken)
