"""The file of a journal: which one is opened, which is refused, and what can be read of it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import ABOUT, MANY, identifies, rows_of, session_on, sources_of

from teak_async import (
    JournalError,
    Request,
    TeakSession,
)
from teak_async._journal import database, tables, writer
from teak_async._journal.database import read_summary
from teak_async._journal.earlier_run import iter_states
from teak_async._journal.journal import Journal
from teak_async._journal.row import Note, Write
from teak_async.sandbox import Sandbox

ROWS = 2000 if MANY else 800
"""More than any of the groups that are copied are of."""


async def test_a_refused_run_leaves_the_journal_as_it_was(fast: TeakSession, path: Path) -> None:
    """It may say otherwise of its input, and the process is another one; but it has sent nothing."""
    about = {"file": Note("players.csv"), "rows": Note("20")}
    await fast.bulk(identifies(20), journal=path, about=about)
    with closing(sqlite3.connect(path)) as connection:
        before = dict(connection.execute("SELECT * FROM run"))
    for other in (identifies(20, start=1), identifies(3), iter([])):
        with pytest.raises(JournalError, match=r"of (another|a longer) input"):
            await fast.bulk(other, journal=path, about={"file": Note("others.csv"), "rows": Note("3")})
    assert read_summary(path).about == {name: value for name, value in before.items() if name != "log"}
    await fast.bulk(identifies(30), journal=path, about={"file": Note("players.csv"), "rows": Note("30")})
    assert read_summary(path).about["rows"] == "30"


async def test_another_game_is_refused(server: Sandbox, path: Path) -> None:
    """A journal belongs to one game."""
    await (await Journal.open(path, ABOUT)).close()
    with pytest.raises(JournalError, match="another run: its game_id is '1', not 'sandbox'"):
        async with session_on(server) as teak:
            await teak.bulk(identifies(1), journal=path)


async def endless(count: int) -> AsyncIterator[Request]:
    """An input that waits behind its rows, so that its run goes on."""
    for request in identifies(count):
        yield request
    await asyncio.Event().wait()


async def test_one_run_at_a_time(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """The second one to open a journal is told, and sends nothing; after the first has ended it may."""
    async with fast.bulk(endless(10), journal=path):
        with pytest.raises(JournalError, match="in use by another run"):
            await fast.bulk(identifies(10), journal=path)
    await fast.bulk(identifies(10), journal=path)
    assert {player.sessions for player in server.players.values()} == {1}


async def test_one_run_at_a_time_through_a_link(fast: TeakSession, path: Path) -> None:
    """A journal with a second name is one journal."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    async with fast.bulk(endless(10), journal=path):
        with pytest.raises(JournalError, match=r"link\.db: in use by another run"):
            await fast.bulk(identifies(10), journal=link)


@pytest.mark.parametrize("written", [1, 4, 5, 6, 22] if MANY else [5])
async def test_a_journal_that_was_moved_without_its_log_is_refused(
    fast: TeakSession, server: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """Whoever moves the file of a killed run and forgets the log beside it hears of that, however long the run was."""
    monkeypatch.setattr(writer, "CHECKPOINT_EVERY", 5)
    moved, log = path.with_name("moved.db"), path.with_name("moved.db-wal")
    groups: list[bytes] = []

    def write_and_copy(connection: sqlite3.Connection, rows: list[Write], at: float) -> None:
        tables.write(connection, rows, at)
        if rows:
            groups.append(path.with_name("run.db-wal").read_bytes())
        if rows and len(groups) == written:
            moved.write_bytes(path.read_bytes())

    monkeypatch.setattr(writer, "write", write_and_copy)
    await fast.bulk(identifies(ROWS), journal=path)
    monkeypatch.undo()
    problem = r"moved\.db: moved\.db-wal is not beside it, which has the newest rows: put it there"
    with pytest.raises(JournalError, match=problem):
        await fast.bulk(identifies(ROWS), journal=moved)
    with pytest.raises(JournalError, match=problem) as refused:
        read_summary(moved)
    with closing(sqlite3.connect(shutil.copy(moved, path.with_name("lost.db")), isolation_level=None)) as connection:
        connection.execute(str(refused.value).split('"')[1])
    assert sum(read_summary(path.with_name("lost.db")).states.values()) < ROWS
    assert {player.sessions for player in server.players.values()} == {1}
    log.write_bytes(groups[written - 1])
    assert sum(read_summary(moved).states.values()) > 0
    assert (await fast.bulk(identifies(ROWS), journal=moved)).total == ROWS


async def test_a_journal_that_was_closed_needs_no_log(fast: TeakSession, path: Path) -> None:
    """After a run that ended by itself there is one file, that can be moved; so can what another program has closed."""
    await fast.bulk(identifies(10), journal=path)
    assert not path.with_name("run.db-wal").exists()
    moved = path.rename(path.with_name("moved.db"))
    assert read_summary(moved).states == {"succeeded": 10}
    copy = path.with_name("copy.db")
    async with fast.bulk(identifies(1000), journal=moved) as run:
        await anext(aiter(run))
        copy.write_bytes(moved.read_bytes())
        copy.with_name("copy.db-wal").write_bytes(moved.with_name("moved.db-wal").read_bytes())
    assert rows_of(copy)  # brings the log into the file, and removes it
    assert not copy.with_name("copy.db-wal").exists()
    assert (await fast.bulk(identifies(1000), journal=copy)).skipped >= 11


async def test_a_journal_without_its_log_is_refused(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """A journal that was emptied, while what SQLite keeps beside it says that there was more, is not a new one."""
    log = path.with_name("run.db-wal")
    async with fast.bulk(identifies(1000), journal=path) as run:
        await anext(aiter(run))
        kept = log.read_bytes()
    path.write_bytes(b"")
    log.write_bytes(kept)
    problem = r"empty, and run\.db-wal is not: put the journal back, or remove both"
    with pytest.raises(JournalError, match=problem):
        await fast.bulk(identifies(100), journal=path)
    with pytest.raises(JournalError, match=problem):
        read_summary(path)  # SQLite would remove the log even so
    assert log.read_bytes() == kept
    assert {player.sessions for player in server.players.values()} == {1}


def write_text(path: Path) -> None:
    path.write_text("user_id,client_ip\n" * 100)


def write_other_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE precious (value)")


def write_other_version(path: Path) -> None:
    asyncio.run(_make(path))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


async def _make(path: Path) -> None:
    await (await Journal.open(path, ABOUT)).close()


def make_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (write_text, "cannot be used as a journal|file is not a database"),
        (write_other_database, "no journal of a run"),
        (write_other_version, "written by another version"),
        (make_folder, "a folder; name a file"),
    ],
)
def test_what_is_no_journal_is_refused(path: Path, make: Any, problem: str) -> None:
    """A file of another kind is left as it is."""
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(JournalError, match=problem):
        asyncio.run(_make(path))
    assert (path.read_bytes() if path.is_file() else b"") == before


async def test_a_journal_is_made_whole_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stops the making in the middle, as a kill does, leaves nothing that a later run would stumble over."""
    monkeypatch.setattr(database, "SCHEMA", f"{tables.SCHEMA}CREATE TABLE calls (again);\n")
    with pytest.raises(JournalError, match="already exists"):
        await Journal.open(path, ABOUT)
    monkeypatch.undo()
    await (await Journal.open(path, ABOUT)).close()
    assert read_summary(path).about["game_id"] == "1"


async def test_a_folder_that_is_not_there_is_said() -> None:
    """Where nothing can be written, nothing is sent."""
    with pytest.raises(JournalError, match="its folder is not there; name a file in a folder"):
        await Journal.open("/no/such/folder/run.db", ABOUT)


async def test_what_a_journal_cannot_say_of_its_run_is_refused(fast: TeakSession, path: Path) -> None:
    """Nothing is held by a journal that could not be made."""
    with pytest.raises(JournalError, match="surrogates not allowed"):
        await fast.bulk(identifies(1), journal=path, about={"note": "\ud83d"})
    assert (await fast.bulk(identifies(1), journal=path)).succeeded == 1


async def test_a_journal_can_be_read_while_its_run_goes_on(fast: TeakSession, path: Path) -> None:
    """Looking does not disturb the run."""
    async with fast.bulk(identifies(300), journal=path) as run:
        async for outcome in run:
            if outcome.index % 50 == 0:
                assert read_summary(path).states["succeeded"] >= 1
    assert run.report.succeeded == 300


def test_what_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    """Reading makes no file."""
    with pytest.raises(JournalError, match="no such journal"):
        read_summary(tmp_path / "none.db")
    write_text(tmp_path / "text.db")
    with pytest.raises(JournalError, match="cannot be read as a journal"):
        read_summary(tmp_path / "text.db")
    assert [entry.name for entry in tmp_path.iterdir()] == ["text.db"]


async def test_a_damaged_journal_is_said(fast: TeakSession, path: Path) -> None:
    """What cannot be read of it is one clear error, for a run as for a report, and nothing is left behind."""
    await fast.bulk(identifies(1), journal=path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE calls")
    for read in (read_summary, lambda path: sources_of(path, "succeeded"), lambda path: list(iter_states(path))):
        with pytest.raises(JournalError, match=r"cannot be read as a journal: no such table: main\.calls"):
            read(path)
    for _ in range(2):
        with pytest.raises(JournalError, match=r"no such table: main\.calls"):
            await fast.bulk(identifies(1), journal=path)
