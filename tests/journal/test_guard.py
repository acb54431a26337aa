"""What another program does to the files of an open journal: the run stops, and says what is safe."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Container
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import pytest
from support import MANY, identifies, pairs, rows_of

from teak_async import Identify, JournalError, TeakSession
from teak_async._journal import database, guard, tables, writer
from teak_async._journal.guard import FileGuard
from teak_async._journal.row import INTENT, PARTS, JournalRow, Write
from teak_async.sandbox import Sandbox

ROWS = 30_000
"""More than any of these runs gets to send."""
DEED_AT = 500 if MANY else 250
"""The outcome at which another program does its deed; each one before it costs time only."""
Deed = Callable[[Path, Path], None]


def move(part: Path, backup: Path) -> None:
    part.rename(f"{part}.away")


def remove(part: Path, backup: Path) -> None:
    part.unlink()


def replace_by_a_copy(part: Path, backup: Path) -> None:
    shutil.copy(part, f"{part}.copy")
    part.with_name(f"{part.name}.copy").replace(part)


def make_anew(part: Path, backup: Path) -> None:
    content = part.read_bytes()
    part.unlink()
    part.write_bytes(content)


def empty(part: Path, backup: Path) -> None:
    os.truncate(part, 0)


def halve(part: Path, backup: Path) -> None:
    os.truncate(part, part.stat().st_size // 2)


def cut_and_stretch(part: Path, backup: Path) -> None:
    size = part.stat().st_size
    os.truncate(part, 0)
    os.truncate(part, size)


def copy_backup(part: Path, backup: Path) -> None:
    with part.open("r+b") as file:  # makes no file where there is none
        file.write(backup.with_name(backup.name + part.name.removeprefix("run.db")).read_bytes())
        file.truncate()


def blank_the_first(size: int, part: Path) -> None:
    with part.open("r+b") as file:
        file.write(bytes(size))


def blank_the_beginning(part: Path, backup: Path) -> None:
    blank_the_first(16_384, part)  # so pages of the file that groups do not write again, such as those of the schema


async def run_into(fast: TeakSession, path: Path, end: str, deed: Deed, at: Container[int] = (DEED_AT,)) -> str:
    """Have a run meet a deed at some of its outcomes; give what it says."""
    backup = path.with_name("backup.db")
    numbers = count()  # since a row that was held up would come after the deed, and find no file to copy
    with pytest.raises(JournalError) as said:
        async with fast.bulk(identifies(ROWS), journal=path) as run:
            async for _ in run:
                nth = next(numbers)
                if nth == 100:
                    shutil.copy(path, backup)
                    shutil.copy(f"{path}-wal", f"{backup}-wal")
                if nth in at:
                    with suppress(FileNotFoundError):  # the run has ended, and put the damaged log aside
                        deed(path.with_name(f"run.db{end}"), backup)
    assert DEED_AT <= run.report.total < ROWS
    return str(said.value)


SIDE_FILES = [
    ("-wal", "its log, run.db-wal, was removed, moved or replaced while the run went on; what was written before is in"),
    ("-shm", "its log's index, run.db-shm, was removed, moved or replaced while the run went on; what was written before"),
    (
        "-lock",
        "its lock, run.db-lock, was removed, moved or replaced while the run went on, and another run may have begun",
    ),
]


@pytest.mark.parametrize(("deed", "side_file"), pairs([move, remove, replace_by_a_copy, make_anew], SIDE_FILES))
async def test_a_side_file_that_leaves_its_place_ends_the_run(
    fast: TeakSession, server: Sandbox, path: Path, deed: Deed, side_file: tuple[str, str]
) -> None:
    """What was written is in the journal, and the run that is repeated sends no row again."""
    end, problem = side_file
    assert problem in await run_into(fast, path, end, deed)
    known = {row for row, _ in rows_of(path)}
    assert {int(name[1:]) for name in server.players} <= known
    await fast.bulk(identifies(max(known) + 100), journal=path)
    assert {player.sessions for player in server.players.values()} == {1}


@pytest.mark.parametrize("deed", [move, replace_by_a_copy, make_anew])
async def test_a_file_that_leaves_its_place_ends_the_run(fast: TeakSession, server: Sandbox, path: Path, deed: Deed) -> None:
    """Of a file that was moved all is safe once it is put back; of one that was replaced, no row is sent that it lacks."""
    said = await run_into(fast, path, "", deed)
    assert "the journal was removed, moved or replaced while the run went on; put it back before you repeat the run" in said
    if deed is move:
        path.with_name("run.db.away").rename(path)
        known = {row for row, _ in rows_of(path)}
        assert {int(name[1:]) for name in server.players} <= known
        await fast.bulk(identifies(max(known) + 100), journal=path)
        assert {player.sessions for player in server.players.values()} == {1}


async def test_a_folder_that_leaves_its_place_ends_the_run(fast: TeakSession, server: Sandbox, tmp_path: Path) -> None:
    """Its journal is what has to be put back, as after a file system that was taken away."""
    folder, away = tmp_path / "folder", tmp_path / "away"
    folder.mkdir()
    with pytest.raises(JournalError, match=r"run\.db: the journal was removed, moved or replaced .*; put it back"):
        async with fast.bulk(identifies(ROWS), journal=folder / "run.db") as run:
            async for outcome in run:
                if outcome.index == 300:
                    folder.rename(away)
    away.rename(folder)
    known = {row for row, _ in rows_of(folder / "run.db")}
    assert {int(name[1:]) for name in server.players} <= known
    await fast.bulk(identifies(max(known) + 100), journal=folder / "run.db")
    assert {player.sessions for player in server.players.values()} == {1}


async def test_a_link_that_leads_elsewhere_ends_the_run(fast: TeakSession, path: Path) -> None:
    """A run that is repeated would take the other journal."""
    real, link = path.with_name("real.db"), path
    link.symlink_to(real)
    with pytest.raises(JournalError, match=r"run\.db: the journal was removed, moved or replaced"):
        async with fast.bulk(identifies(ROWS), journal=link) as run:
            async for outcome in run:
                if outcome.index == 300:
                    link.unlink()
                    link.symlink_to(path.with_name("other.db"))
                    path.with_name("other.db").touch()


@pytest.mark.parametrize(
    ("deed", "part"),
    pairs([empty, halve, cut_and_stretch, copy_backup, blank_the_beginning], [("-wal", 5), ("", 50), ("-wal", 1000)]),
)
async def test_a_file_that_is_written_to_ends_the_run(
    fast: TeakSession, server: Sandbox, path: Path, deed: Deed, part: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was lost is said, and the run that is repeated is refused: it sends nothing until a person has decided."""
    end, every = part
    monkeypatch.setattr(writer, "CHECKPOINT_EVERY", every)
    # More than once: what is written over a log that a checkpoint has just brought into the file is no loss, and not said.
    said = await run_into(fast, path, end, deed, range(DEED_AT, ROWS, 100))
    # Where SQLite met the damage before a check did, it does not say in which of the files.
    what = rf"({'its log, run.db-wal,' if end else 'the journal'}|the journal or its log \(now run\.db-wal\.damaged\))"
    assert re.search(f"{what} was overwritten or cut short while the run went on; ", said)
    sent = len(server.players)
    with pytest.raises(JournalError):
        await fast.bulk(identifies(ROWS), journal=path)
    assert len(server.players) == sent
    assert {player.sessions for player in server.players.values()} == {1}


def do_before_checkpoints(deed: Callable[[int], None], every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have something done before each checkpoint, by its number from 1, behind the back of the guard's checks."""
    monkeypatch.setattr(writer, "CHECKPOINT_EVERY", every)
    numbers = count(1)

    def do_and_checkpoint(connection: sqlite3.Connection, check_log: Callable[[], None]) -> bool:
        deed(next(numbers))
        return database.checkpoint(connection, check_log)

    monkeypatch.setattr(guard, "checkpoint", do_and_checkpoint)


@pytest.mark.parametrize("deed", [empty, halve, cut_and_stretch, copy_backup, blank_the_beginning] if MANY else [empty, halve])
async def test_damage_that_sqlite_meets_before_a_check_ends_the_run(
    fast: TeakSession, server: Sandbox, path: Path, deed: Deed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever SQLite calls it; and the run that is repeated is refused all the same."""
    backup = path.with_name("backup.db")

    def back_up_and_do(nth: int) -> None:
        if nth == 5:
            shutil.copy(path, backup)
        if nth >= 10:
            deed(path, backup)

    do_before_checkpoints(back_up_and_do, 5, monkeypatch)
    with pytest.raises(JournalError, match=r"the journal (or its log \(now .*\) )?was overwritten or cut short"):
        await fast.bulk(identifies(ROWS), journal=path)
    sent = len(server.players)
    with pytest.raises(JournalError):
        await fast.bulk(identifies(ROWS), journal=path)
    assert len(server.players) == sent
    assert {player.sessions for player in server.players.values()} == {1}


async def test_damage_that_the_log_makes_good_is_no_loss(
    fast: TeakSession, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups that make the file grow write its first page again, and each checkpoint the second."""
    damaged: list[int] = []

    def blank(nth: int) -> None:
        damaged.append(nth)
        blank_the_first(2 * tables.PAGE_SIZE, path)

    do_before_checkpoints(blank, 10, monkeypatch)
    await fast.bulk(identifies(4_000), journal=path)
    assert len(damaged) >= 3
    assert rows_of(path) == [(row, "succeeded") for row in range(4_000)]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("deed", [empty, halve])
async def test_an_index_that_is_cut_ends_the_run_and_not_the_process(
    fast: TeakSession, server: Sandbox, path: Path, deed: Deed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite has the index mapped: a look at what was cut off is a SIGBUS. So this is about the time between two groups."""
    check_untouched, groups = FileGuard.check_untouched, 0

    def cut_and_check(guard: FileGuard) -> None:
        nonlocal groups
        groups += 1
        if groups == 20:
            deed(path.with_name("run.db-shm"), path)
        check_untouched(guard)

    monkeypatch.setattr(FileGuard, "check_untouched", cut_and_check)
    with pytest.raises(JournalError, match="its log's index"):
        await fast.bulk(identifies(ROWS), journal=path)
    assert groups >= 20
    known = {row for row, _ in rows_of(path)}
    assert {int(name[1:]) for name in server.players} <= known


@pytest.mark.parametrize(
    ("deed", "moment"), pairs([move, remove, make_anew, empty, halve, cut_and_stretch], ["before", "after"])
)
async def test_nothing_is_sent_after_an_intent_that_is_not_in_the_file(
    fast: TeakSession, server: Sandbox, path: Path, deed: Deed, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whatever moment of a group the log goes, what the group intends is not sent."""
    groups = 0
    sent: list[int] = []

    def write_and_do(connection: sqlite3.Connection, rows: list[Write], at: float) -> None:
        nonlocal groups
        groups += 1
        intended = [write.id // PARTS for write in rows if write.state.state == "intent"]
        due = groups >= 20 and bool(intended) and not sent
        if due and moment == "before":
            deed(path.with_name("run.db-wal"), path)
        try:
            tables.write(connection, rows, at)
        finally:
            if due:
                sent.extend(intended)
        if due and moment == "after":
            deed(path.with_name("run.db-wal"), path)

    monkeypatch.setattr(writer, "write", write_and_do)
    with pytest.raises(JournalError, match=r"its log, run\.db-wal, was"):
        await fast.bulk(identifies(ROWS), journal=path)
    assert sent
    assert not {f"p{index}" for index in sent} & server.players.keys()


def test_a_clock_that_is_set_back_is_no_damage(path: Path) -> None:
    """A row that is written again with an earlier time is in the file once another program has checkpointed the log."""
    lock, connection = database.acquire_lock(path, path), database.open_database(path, path, {})
    with closing(lock), closing(connection):
        written = FileGuard(connection, path, path)
        first, later = (JournalRow.of(index, Identify("p", country_code="US"), None) for index in range(2))
        groups = [Write(first.id, INTENT, first)], [Write(first.id, INTENT, None), Write(later.id, INTENT, later)]
        for at, group in zip((1000.0, 998.0), groups, strict=True):
            tables.write(connection, group, at)
            written.check_written(group, at)
            if at == 1000.0:
                assert written.checkpoint()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        written.check_untouched()
        written.close()


async def test_a_journal_in_a_directory_that_is_gone(fast: TeakSession, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deploy may remove the current directory under a process; a journal with a whole path is elsewhere."""
    gone = path.with_name("gone")
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert (await fast.bulk(identifies(3), journal=path)).succeeded == 3


async def test_what_sqlite_does_itself_is_let_pass(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """A reader, a copy, and another program that brings the log into the file and empties it, disturb no run."""
    async with fast.bulk(identifies(1500), journal=path) as run:
        async for outcome in run:
            if outcome.index % 500 == 250:
                with closing(sqlite3.connect(path, isolation_level=None)) as other:
                    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            if outcome.index % 500 == 400:
                rows_of(path)
                shutil.copy(path, path.with_name("copy.db"))
                os.utime(path)
                await asyncio.sleep(0.01)
                path.chmod(0o600)
    assert run.report.succeeded == 1500
    assert rows_of(path) == [(row, "succeeded") for row in range(1500)]


def checkpoint_slowly(path: Path, gap: float) -> None:
    """Bring the log into the file page by page, as SQLite does, and stop half-way for so many seconds."""
    copy = path.with_name("copy.db")
    for end in ("", "-wal"):
        shutil.copy(f"{path}{end}", f"{copy}{end}")
    with closing(sqlite3.connect(copy, isolation_level=None)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b", buffering=0) as file:
        before, after = file.read(), copy.read_bytes()
        changed = [at for at in range(0, len(after), 4096) if after[at : at + 4096] != before[at : at + 4096]]
        assert len(changed) > 2
        for number, at in enumerate(changed):
            if number == len(changed) // 2:
                time.sleep(gap)
            file.seek(at)
            file.write(after[at : at + 4096])


async def test_a_checkpoint_of_another_program_that_is_half_way_is_let_pass(fast: TeakSession, path: Path) -> None:
    """The file alone is not whole then; that is no damage, as soon as it is."""
    checkpoints: list[asyncio.Future[None]] = []

    async def go_on_meanwhile() -> AsyncIterator[Identify]:
        for number in count():
            if number == 500:
                checkpoints.append(asyncio.ensure_future(asyncio.to_thread(checkpoint_slowly, path, 0.3)))
            if number > 500 and checkpoints[0].done():
                return
            if number % 10 == 0:
                await asyncio.sleep(0.005)
            yield Identify(f"p{number}", country_code="US")

    report = await fast.bulk(go_on_meanwhile(), journal=path)
    await checkpoints[0]
    assert rows_of(path) == [(row, "succeeded") for row in range(report.succeeded)]
