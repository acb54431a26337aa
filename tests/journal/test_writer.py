"""When a group is written: by its timer, when it is full, or because rows wait for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from sqlite3 import Connection

import pytest
from support import ABOUT, write_durably

from teak_async import Identify
from teak_async._journal import tables, writer
from teak_async._journal.journal import Journal
from teak_async._journal.row import JournalRow, RowState, Write
from teak_async._journal.tables import GROUP
from teak_async._journal.writer import IDLE_TURNS

LONG = 0.2
"""Seconds in which a group is written on any machine, if it is not held back for longer."""


@pytest.fixture
async def journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Journal]:
    """A journal whose groups wait for so long that nothing is written by the timer."""
    monkeypatch.setattr(writer, "GATHER", 3600)
    journal = await Journal.open(path, ABOUT)
    yield journal
    await journal.close()


def write(journal: Journal, index: int, state: str = "intent") -> asyncio.Future[None]:
    return write_durably(journal, JournalRow.of(index, Identify(f"p{index}", country_code="US"), None), RowState.of(state))


async def test_a_group_waits_for_more(journal: Journal) -> None:
    """Until it is full."""
    rows = [write(journal, index) for index in range(GROUP - 1)]
    await asyncio.sleep(LONG)
    assert not any(row.done() for row in rows)
    rows.append(write(journal, GROUP))
    more = write(journal, GROUP + 1)
    await asyncio.gather(*rows)
    assert not more.done()


async def test_a_group_that_is_waited_for_is_written_at_once(journal: Journal) -> None:
    """With the rows that come in the next turns of the loop."""
    rows = [write(journal, 0)]
    journal.hurry()
    journal.hurry()
    rows += [write(journal, 1, "succeeded")]
    await asyncio.gather(*rows)
    later = write(journal, 2)
    await asyncio.sleep(LONG)
    assert not later.done()
    journal.hurry()
    await later


async def test_groups_that_are_written_together_are_done_together(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that pile up while the disk is slow: a group that is waited for later is not held up by their intents."""
    goes_on = threading.Event()
    groups: list[int] = []

    def write_slowly(connection: Connection, rows: list[Write], at: float) -> None:
        groups.append(len(rows))
        goes_on.wait(10)
        tables.write(connection, rows, at)

    monkeypatch.setattr("teak_async._journal.writer.write", write_slowly)
    rows = [write(journal, 0)]
    journal._writer._hand_over()
    while not groups:
        await asyncio.sleep(0)
    for index in range(1, 4):
        rows.append(write(journal, index))
        journal._writer._hand_over()
    goes_on.set()
    await asyncio.gather(*rows)
    assert groups == [1, 3]
    later = write(journal, 4)
    journal.hurry()
    async with asyncio.timeout(10):
        await later
    assert journal._writer._intents_ahead == 0


@pytest.mark.parametrize("turns", [1, 2, 30, GROUP - 1])
async def test_a_group_that_is_waited_for_gathers_while_the_loop_adds_to_it(
    journal: Journal, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one group, and is handed over a few turns after the last row, or full."""
    groups: list[int] = []

    def count_rows(connection: Connection, rows: list[Write], at: float) -> None:
        groups.append(len(rows))
        tables.write(connection, rows, at)

    monkeypatch.setattr("teak_async._journal.writer.write", count_rows)
    rows = [write(journal, 0)]
    journal.hurry()
    for turn in range(turns):
        await asyncio.sleep(0)
        rows.append(write(journal, 1 + turn, "intent" if turn % 2 else "succeeded"))
    for _ in range(IDLE_TURNS + 1):
        await asyncio.sleep(0)
    later = write(journal, GROUP + 1)
    await asyncio.gather(*rows)
    assert groups == [turns + 1]
    assert not later.done()


async def test_a_group_that_became_full_meanwhile_takes_the_hurry_along(journal: Journal) -> None:
    """What comes behind it waits for more."""
    rows = [write(journal, 0)]
    journal.hurry()
    rows += [write(journal, index, "succeeded") for index in range(1, GROUP)]
    later = write(journal, GROUP)
    await asyncio.gather(*rows)
    await asyncio.sleep(LONG)
    assert not later.done()


async def test_no_group_hurries_while_intents_are_written(journal: Journal) -> None:
    """Their rows can be sent first, and the next group is larger for it; results alone hold nothing back."""
    first = write(journal, 0)
    journal.hurry()
    for _ in range(IDLE_TURNS):
        await asyncio.sleep(0)  # it is handed over in the last of these turns, and cannot be durable in that
    second = write(journal, 1)
    journal.hurry()
    await first
    await asyncio.sleep(LONG)
    assert not second.done()
    journal.hurry()
    await second
    result = write(journal, 1, "succeeded")
    journal.hurry()
    for _ in range(IDLE_TURNS):
        await asyncio.sleep(0)
    third = write(journal, 2)
    journal.hurry()
    await asyncio.gather(result, third)


async def test_a_query_sees_what_was_put_before_it(journal: Journal) -> None:
    """It closes the group that is gathered."""
    row = write(journal, 0)
    assert await journal._writer.read(lambda connection: connection.execute("SELECT count(*) FROM rows").fetchone()[0]) == 1
    assert row.done()
