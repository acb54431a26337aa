"""How rows get into a journal, and what a reader finds there."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from teak_async import Channel, Identify, Request, SetCategorySubscription, SetSubscription, State
from teak_async._journal import tables
from teak_async._journal.database import open_database
from teak_async._journal.row import JournalRow, RowState, Write, id_of

REQUESTS: tuple[Callable[[str], Request], ...] = (
    lambda player: Identify(player, country_code="US"),
    lambda player: SetSubscription(player, State.OPT_OUT),
    lambda player: SetSubscription(player, State.OPT_OUT, channel=Channel.PUSH),
    lambda player: SetCategorySubscription(player, "news", State.OPT_IN),
)


def one(
    row: int, state: str = "succeeded", *, part: int = 0, new: bool = True, request: Request | None = None, **what: Any
) -> Write:
    source = b"\xff" if request is not None and row % 7 == 0 else None
    asked = JournalRow.of(row, request or Identify(f"p{row}", country_code="US"), source, part=part)
    return Write(asked.id, RowState.of(state, **what), asked if new else None)


def written(path: Path, *groups: list[Write]) -> list[Any]:
    with closing(open_database(path, path, {})) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)  # as in older ones
        for group in groups:
            tables.write(connection, group, 1.5)
        columns = ", ".join(JournalRow._fields + RowState._fields)
        return connection.execute(f"SELECT {columns} FROM rows ORDER BY id").fetchall()


@pytest.mark.parametrize("kinds", [1, 2, 5])
def test_a_group_of_any_size_is_written_whole(path: Path, kinds: int) -> None:
    """Whatever statements it takes, each row is there once, and an older SQLite takes the largest."""
    groups, start = [], 0
    for size in range(tables.GROUP + 1):
        groups.append([one(row, attempts=row % kinds) for row in range(start, start + size)])
        start += size
    assert [row[0] for row in written(path, *groups)] == [id_of(row) for row in range(start)]


@pytest.mark.parametrize("text", ["", "0", "NULL", "\0"])
def test_no_value_is_kept_apart_from_any_text(path: Path, text: str) -> None:
    """A column without a value is NULL, and a text that looks like nothing stays a text."""
    row = JournalRow(id_of(0), text, None, text, text, text, text, 0)
    state = RowState(text, 0, 0, None, text, None, text, 2.5)
    empty = JournalRow(id_of(1), None, text, None, None, "", None, 0)._replace(source=text.encode())
    rest = RowState("", 0, 0, text, None, text, None, 0.0)
    assert written(path, [Write(row.id, state, row), Write(empty.id, rest, empty)]) == [(*row, *state), (*empty, *rest)]


def test_a_result_has_the_time_of_its_end_and_an_intent_that_of_its_writing(path: Path) -> None:
    """However long a slow disk held the group up: a report would count results of one second for another."""
    began, held_up = time.time(), time.time() + 3600
    group = [one(0), one(1, "intent"), one(2, "not_sent")]
    with closing(open_database(path, path, {})) as connection:
        tables.write(connection, group, held_up)
        times = [at for (at,) in connection.execute("SELECT at FROM rows ORDER BY id")]
    assert times[1] == held_up
    assert began <= times[0] <= times[2] <= time.time()


@pytest.mark.parametrize("column", ["user_id", "error"])
def test_a_group_is_written_whole_or_not_at_all(path: Path, column: str) -> None:
    """Where its last statement fails, of either table, nothing of it is in the journal."""
    bad = one(7)
    if column == "user_id":
        assert bad.row is not None
        bad = bad._replace(row=bad.row._replace(user_id="\ud83d"))
    else:
        bad = bad._replace(state=bad.state._replace(error="\ud83d"))
    with closing(open_database(path, path, {})) as connection:
        with pytest.raises(UnicodeEncodeError):
            tables.write(connection, [*(one(row) for row in range(7)), bad], 1.5)
        assert not connection.in_transaction
    assert [row[0] for row in written(path, [one(9)])] == [id_of(9)]


@pytest.mark.parametrize("seed", range(40))
def test_the_state_of_a_row_is_what_was_written_last(path: Path, seed: int) -> None:
    """Whatever rows, parts, states and runs come in whatever groups; first errors stay, attempts and pauses add up."""
    chance = random.Random(seed)
    clock = 1000.0
    known: dict[tuple[int, int], dict[str, Any]] = {}
    asked: dict[tuple[int, int], JournalRow] = {}
    with closing(open_database(path, path, {})) as connection:
        for _ in range(3):  # runs
            seen: set[tuple[int, int]] = set()
            for _ in range(chance.randrange(12)):
                group: list[Write] = []
                apart = chance.choice([1, len(REQUESTS)])  # else all rows of the group ask for the same
                clock += 0.25
                for _ in range(chance.randrange(1, 1 + chance.choice([3, 30, tables.GROUP]))):
                    place = chance.randrange(chance.choice([6, 600])) * apart, chance.choice([0, 0, 0, len(REQUESTS), 1])
                    said: dict[str, Any] = {
                        "state": chance.choice(["intent", "intent", "succeeded", "failed", "in_doubt", "not_sent"]),
                        "attempts": 0,
                        "pauses": 0,
                        "delivery": None,
                        "first_error": None,
                        "error": None,
                        "response": None,
                    }
                    if said["state"] != "intent":
                        said |= {"attempts": chance.randrange(4), "pauses": chance.randrange(2), "response": f"r{len(group)}"}
                        said |= {"error": chance.choice([None, f"e{clock}"]), "first_error": chance.choice([None, f"f{clock}"])}
                    asks = REQUESTS[sum(place) % len(REQUESTS)](f"p{place[0]}")
                    row = one(place[0], part=place[1], new=place not in seen, request=asks)
                    at = None if said["state"] == "intent" else clock - chance.choice([0, 0.125])
                    group.append(row._replace(state=RowState(**said, at=at)))
                    if row.row is not None:
                        asked[place] = row.row
                    seen.add(place)
                    if (before := known.get(place)) is not None:
                        said["attempts"] += before["attempts"]
                        said["pauses"] += before["pauses"]
                        said["first_error"] = before["first_error"] or said["first_error"]
                    known[place] = {**said, "at": at or clock}
                tables.write(connection, group, clock)
    with closing(sqlite3.connect(path)) as reader:
        reader.row_factory = sqlite3.Row
        found = {(line["row"], line["part"]): dict(line) for line in reader.execute("SELECT * FROM rows ORDER BY row, part")}
    assert list(found) == sorted(known)
    for place, said in known.items():
        whole = {**said, **asked[place]._asdict()}
        assert {name: found[place][name] for name in whole} == whole
