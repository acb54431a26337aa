"""A disk that is full or fails, and a reader that makes the log grow."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, WAIT, identifies, rows_of, write_durably

from teak_async import JournalError, TeakSession
from teak_async._journal import database, writer
from teak_async._journal.journal import Journal
from teak_async._journal.row import JournalRow, RowState
from teak_async.sandbox import Sandbox

LIMITED = """
import asyncio, json, resource, sys
from teak_async import Identify, JournalError
from teak_async._journal import writer
from teak_async._journal.journal import Journal
from teak_async._journal.row import PARTS, JournalRow, RowState
sys.path.insert(0, "tests")
from support import write_durably

async def main(path, limit, every):
    writer.CHECKPOINT_EVERY = every
    journal = await Journal.open(path, {"game_id": "1"})
    durable, said = {}, ""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        for start in range(0, 5000, 40):
            rows = [JournalRow.of(index, Identify(f"p{index}", country_code="US"), None) for index in range(start, start + 40)]
            for state in ("intent", "succeeded"):
                written = [write_durably(journal, row, RowState.of(state)) for row in rows]
                for row, done in zip(rows, await asyncio.gather(*written, return_exceptions=True)):
                    if isinstance(done, JournalError):
                        raise done
                    durable[row.id // PARTS] = state
    except JournalError as error:
        said = str(error)
    finally:
        journal.end()
        await journal._writer.ended
    print(json.dumps([said, durable]))

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


@pytest.mark.parametrize(
    ("limit", "every"),
    [
        (100_000, 1000),  # the log
        (300_000, 1000),
        (200_000, 10),  # the file, as the log is brought into it
        (65_000, 3),
    ],
)
async def test_what_was_durable_is_there_after_a_limit_was_met(path: Path, limit: int, every: int) -> None:
    """A file that may not grow is said, in the log as in a checkpoint, and loses nothing that was durable."""
    command = [sys.executable, "-c", textwrap.dedent(LIMITED), str(path), str(limit), str(every)]
    run = partial(subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=WAIT)
    ran = await asyncio.to_thread(run)
    said, durable = json.loads(ran.stdout)
    assert "the journal cannot be written any more: " in said
    assert said.endswith("mend that, then repeat the run")
    assert len(durable) >= 40
    journal = await Journal.open(path, {"game_id": "1"})
    found = {str(index): await journal.find_known_row(index) for index in range(journal.last_known + 1)}
    more = JournalRow.of(9999, next(identifies(1)), None)
    await write_durably(journal, more, RowState.of("intent"))
    await journal.close()
    order = ["intent", "succeeded"]
    for index, state in durable.items():
        known = found[index]
        assert known is not None
        assert order.index(known.state) >= order.index(state)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("error", ["database or disk is full", "disk I/O error"])
@pytest.mark.parametrize("at", [1, 2, 3])
async def test_a_disk_that_fails_in_a_checkpoint_ends_the_run(
    fast: TeakSession, server: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch, error: str, at: int
) -> None:
    """The rows are in the log, the run that is repeated knows all that were sent, and the error is said as it came."""
    monkeypatch.setattr(writer, "CHECKPOINT_EVERY", 7)
    folds = 0

    def fail(connection: sqlite3.Connection, check_log: Callable[[], None]) -> bool:
        nonlocal folds
        folds += 1
        if folds == at:
            raise sqlite3.OperationalError(error)
        return database.checkpoint(connection, check_log)

    monkeypatch.setattr("teak_async._journal.guard.checkpoint", fail)
    with pytest.raises(JournalError, match=f"cannot be written any more: {error}"):
        await fast.bulk(identifies(30_000), journal=path)
    known = {row for row, _ in rows_of(path)}
    assert {int(name[1:]) for name in server.players} <= known
    monkeypatch.undo()
    await fast.bulk(identifies(max(known) + 10), journal=path)
    assert {player.sessions for player in server.players.values()} == {1}


async def test_a_program_that_writes_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to end is in the error."""
    journal = await Journal.open(path, {"game_id": "1"})
    await journal._writer.read(lambda connection: connection.execute("PRAGMA busy_timeout = 50"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="database is locked; another program is writing to it: end that"):
            await write_durably(journal, JournalRow.of(0, next(identifies(1)), None), RowState.of("intent"))
    with pytest.raises(JournalError):
        await journal.close()


async def test_a_reader_that_holds_the_log_is_warned_of_once(
    fast: TeakSession, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Checkpoints that cannot end fail no run; when the reader has gone, the log is brought into the file."""
    monkeypatch.setattr(writer, "CHECKPOINT_EVERY", 5)
    monkeypatch.setattr(writer, "LOG_BOUND", 1_000_000)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader, caplog.at_level(logging.WARNING, "teak_async"):
        async with fast.bulk(identifies(2500), journal=path) as run:
            async for outcome in run:
                if outcome.index == 10:
                    reader.execute("BEGIN")
                    reader.execute("SELECT count(*) FROM rows").fetchone()
        told = [record.getMessage() for record in caplog.records if "holds" in record.message]
        assert told == [
            f"{path}: a reader holds the journal's log: end it (a sqlite3 shell, a backup); the log is 1 MB, and grows"
        ]
        reader.execute("COMMIT")
    assert run.report.succeeded == 2500
    assert (await fast.bulk(identifies(2500), journal=path)).skipped == 2500
    assert not path.with_name("run.db-wal").exists()


async def test_a_handler_that_raises_does_not_reach_the_run(
    fast: TeakSession, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning is no reason to end."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no log")

    monkeypatch.setattr(writer, "CHECKPOINT_EVERY", 5)
    monkeypatch.setattr(writer, "LOG_BOUND", 0)
    monkeypatch.setattr("teak_async._notify.LOG.warning", fail)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        async with fast.bulk(identifies(500), journal=path) as run:
            async for outcome in run:
                if outcome.index == 10:
                    reader.execute("BEGIN")
                    reader.execute("SELECT count(*) FROM rows").fetchone()
    assert run.report.succeeded == 500
