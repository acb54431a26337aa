"""How rows get into a journal, and what a reader finds there."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from teak_async import Identify
from teak_async._journal import tables
from teak_async._journal.database import open_database
from teak_async._journal.row import JournalRow, RowState, Write, id_of


def one(row: int, state: str = "succeeded", *, part: int = 0, new: bool = True, **what: Any) -> Write:
    request = Identify(f"p{row}", country_code="US")
    asked = JournalRow.of(row, request, None, part=part)
    return Write(asked.id, RowState.of(state, **what), asked if new else None)


def written(path: Path, *groups: list[Write]) -> list[Any]:
    with closing(open_database(path, path, {})) as connection:
        for group in groups:
            tables.write(connection, group, 1.5)
        columns = ", ".join(JournalRow._fields + RowState._fields)
        return connection.execute(f"SELECT {columns} FROM rows ORDER BY id").fetchall()


def test_a_group_of_any_size_is_written_whole(path: Path) -> None:
    """Whatever statements it takes, each row is there once, and an older SQLite takes the largest."""
    groups, start = [], 0
    for size in range(tables.GROUP + 1):
        groups.append([one(row) for row in range(start, start + size)])
        start += size
    assert [row[0] for row in written(path, *groups)] == [id_of(row) for row in range(start)]
    assert max(tables.STATEMENTS) * max(map(len, tables._COLUMNS.values())) <= 999


@pytest.mark.parametrize("text", ["", "0", "NULL", "\0"])
def test_no_value_is_kept_apart_from_any_text(path: Path, text: str) -> None:
    """A column without a value is NULL, and a text that looks like nothing stays a text."""
    row = JournalRow(id_of(0), text, None, text, text, text, text, 0)
    state = RowState(text, 0, 0, None, text, None, text)
    empty = JournalRow(id_of(1), None, text, None, None, "", None, 0)._replace(source=text.encode())
    rest = RowState("", 0, 0, text, None, text, None)
    assert written(path, [Write(row.id, state, row), Write(empty.id, rest, empty)]) == [(*row, *state), (*empty, *rest)]


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
    with closing(open_database(path, path, {})) as connection:
        for _ in range(3):  # runs
            seen: set[tuple[int, int]] = set()
            for _ in range(chance.randrange(12)):
                group: list[Write] = []
                clock += 0.25
                for _ in range(chance.randrange(1, 1 + chance.choice([3, 30, tables.GROUP]))):
                    place = chance.randrange(chance.choice([6, 600])), chance.choice([0, 0, 1, 700_000])
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
                    row = one(place[0], part=place[1], new=place not in seen)
                    group.append(row._replace(state=RowState(**said)))
                    seen.add(place)
                    if (before := known.get(place)) is not None:
                        said["attempts"] += before["attempts"]
                        said["pauses"] += before["pauses"]
                        said["first_error"] = before["first_error"] or said["first_error"]
                    known[place] = {**said, "at": clock}
                tables.write(connection, group, clock)
    with closing(sqlite3.connect(path)) as reader:
        reader.row_factory = sqlite3.Row
        found = {(line["row"], line["part"]): dict(line) for line in reader.execute("SELECT * FROM rows ORDER BY row, part")}
    assert list(found) == sorted(known)
    for place, said in known.items():
        assert {name: found[place][name] for name in said} == said
        assert found[place]["user_id"] == f"p{place[0]}"
