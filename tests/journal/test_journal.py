"""What a journal keeps of its rows, and what a run makes of a journal that cannot be written."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import ABOUT, identifies, internals, rows_of, session_on, sources_of, write_durably

from teak_async import (
    Delivery,
    Identify,
    InvalidRequest,
    JournalError,
    Limits,
    Request,
    RetryPolicy,
    Row,
    SessionClosed,
    SetSubscription,
    State,
    TeakSession,
)
from teak_async._journal import database, row, writer
from teak_async._journal.database import read_summary
from teak_async._journal.earlier_run import iter_states
from teak_async._journal.guard import FileGuard
from teak_async._journal.journal import Journal
from teak_async._journal.row import JournalRow, KnownRow, RowState
from teak_async.sandbox import GAME_ID, IDENTIFY, SECRET_KEY, Sandbox


async def test_a_row_tells_its_story(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """What was asked, what came, and nothing of the secret, is there for whoever looks."""
    server.add_player("p1")
    asked: list[Any] = [
        SetSubscription("p1", State.OPT_OUT),
        SetSubscription("nobody", State.OPT_OUT),
        InvalidRequest("line 3: no"),
    ]
    await fast.bulk(asked, journal=path)
    done, failed, unreadable = rows_of(path, "call, user_id, state, attempts, delivery, error, response, source")
    assert done[:6] == ("set state", "p1", "succeeded", 1, "done", None)
    assert json.loads(done[6])["previous_state"] == "opt_in"
    assert json.loads(done[7]) == {"user_id": "p1", "state": "opt_out"}
    assert failed[:5] == ("set state", "nobody", "failed", 1, "rejected")
    assert failed[5].startswith("PlayerNotFound: ")
    assert unreadable == (None, None, "failed", 0, "not_sent", "InvalidRequest: line 3: no", None, "line 3: no")
    assert SECRET_KEY not in str(rows_of(path, "*"))


async def test_a_row_keeps_its_first_reason(path: Path) -> None:
    """Later attempts and runs add to the counts; what first went wrong is never written over."""
    async with Sandbox() as server, session_on(server) as teak:
        server.add_player("p1")
        server.fail_next("desktop_push_status", "rate_limited", "error_before")
        await teak.bulk([SetSubscription("p1", State.OPT_OUT)], journal=path)
        server.fail_next("identify", "response_lost")
        for _ in range(3):
            await teak.bulk([SetSubscription("p1", State.OPT_OUT), Identify("p2", country_code="US")], journal=path)
    story = rows_of(path, "row, part, channel, state, attempts, pauses, first_error, error")
    assert [row[:6] for row in story] == [(0, 0, "desktop_push", "succeeded", 3, 1), (1, 0, None, "in_doubt", 1, 0)]
    assert story[0][6].startswith("RateLimited: ")
    assert story[0][7] is None
    assert story[1][6] == story[1][7]
    assert story[1][6].startswith("ConnectionLost: ")
    with closing(sqlite3.connect(path)) as connection:
        about = dict(connection.execute("SELECT * FROM run"))
    assert about["member"] == f"{socket.gethostname()}:{os.getpid()}"
    assert datetime.fromisoformat(about["begun"]) <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("text", "kept", "shown"),
    [
        (
            "line 3: caf\xe9 \N{GRINNING FACE} \0",
            "line 3: caf\xe9 \N{GRINNING FACE} \0",
            "line 3: caf\xe9 \N{GRINNING FACE} \0",
        ),
        ("not UTF-8: caf\udce9", b"not UTF-8: caf\xe9", r"not UTF-8: caf\udce9"),
        ("half: \ud83d", r"half: \ud83d", r"half: \ud83d"),
    ],
)
async def test_text_of_any_kind_is_kept(fast: TeakSession, path: Path, text: str, kept: str | bytes, shown: str) -> None:
    """What no encoding has may be in a row and in what is said of it; a source that was no UTF-8 is kept as it was."""
    wrong = InvalidRequest(text)
    given: list[Any] = [wrong, Row(wrong, text), Row(Identify("p1", country_code="US"), text)]
    for skipped in (0, 3):
        assert (await fast.bulk(given, journal=path)).skipped == skipped
    assert rows_of(path, "source, error") == [(kept, f"InvalidRequest: {shown}")] * 2 + [(kept, None)]
    assert sources_of(path, "failed", "succeeded") == [kept] * 3


async def test_known_rows_are_told_in_order(path: Path) -> None:
    """What an earlier run wrote is read in pieces, also where rows are missing in between."""
    journal = await Journal.open(path, ABOUT)
    entries = {index: JournalRow.of(index, request, None) for index, request in enumerate(identifies(1300)) if index % 3}
    await asyncio.gather(*(write_durably(journal, entry, RowState.of("intent")) for entry in entries.values()))
    await journal.close()
    journal = await Journal.open(path, ABOUT)
    assert journal.last_known == 1298
    found = [await journal.find_known_row(index) for index in range(1300)]
    await journal.close()
    assert found == [KnownRow(entries[index].digest, "intent") if index in entries else None for index in range(1300)]
    assert dict(iter_states(path)) == {(index, 0): KnownRow(entry.digest, "intent") for index, entry in entries.items()}
    assert read_summary(path).states == {"intent": len(entries)}
    assert sources_of(path, "intent", "failed")[0] == entries[1].source


async def test_rows_that_wait_for_a_connection_are_not_in_doubt(path: Path) -> None:
    """A try that found no server was not sent, and the journal says so between the tries."""
    async with TeakSession(
        GAME_ID, SECRET_KEY, base_url="http://127.0.0.1:1", retry=RetryPolicy(initial_wait=60, max_wait=60)
    ) as teak:
        async with teak.bulk(identifies(20), journal=path):
            async with asyncio.timeout(20):
                while [state for _, state in rows_of(path)] != ["not_sent"] * 20:
                    await asyncio.sleep(0.02)
        assert [state for _, state in rows_of(path)] == ["not_sent"] * 20


async def test_a_run_that_cannot_begin_lets_go_of_its_journal(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """After an attempt on a session that was closed, the journal can be opened."""
    await fast.bulk(identifies(1), journal=path)
    closed = session_on(server)
    await (await closed.open()).close()
    with pytest.raises(SessionClosed):
        await closed.bulk(identifies(2), journal=path)
    assert (await fast.bulk(identifies(2), journal=path)).succeeded == 1


@pytest.mark.parametrize("late", [False, True])
async def test_a_journal_that_is_taken_away_ends_the_run(
    fast: TeakSession, server: Sandbox, path: Path, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is left to think that a run can be repeated which nothing remembers; put back, the journal knows what was sent."""
    away = path.with_name("away.db")
    end = writer.Writer.end

    def move_and_end(thread: writer.Writer) -> None:
        path.rename(away)
        end(thread)

    if late:
        monkeypatch.setattr(writer.Writer, "end", move_and_end)
    with pytest.raises(JournalError, match="removed, moved or replaced while the run went on; put it back"):
        async with fast.bulk(identifies(300 if late else 100_000), journal=path) as run:
            async for _ in run:
                if run.report.total > 100 and path.exists() and not late:
                    path.rename(away)
    assert len(server.players) == run.report.succeeded
    assert run.report.succeeded == 300 if late else 100 < run.report.succeeded < 100_000
    away.rename(path)
    monkeypatch.undo()
    report = await fast.bulk(identifies(run.report.total + 100), journal=path)
    assert report.total == run.report.total + 100
    assert {player.sessions for player in server.players.values()} == {1}


async def test_a_disk_that_fills_up_stops_the_run(
    fast: TeakSession, server: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on the wire is finished, the run raises, and a row whose intent was never written is never sent."""
    prepare = database._prepare

    def fill_up(connection: sqlite3.Connection, path: Path, about: dict[str, str]) -> None:
        prepare(connection, path, about)
        connection.execute("PRAGMA max_page_count = 12")  # what SQLite has for a full disk

    monkeypatch.setattr(database, "_prepare", fill_up)
    seen = 0
    with pytest.raises(JournalError, match="cannot be written any more: database or disk is full"):
        async with fast.bulk(identifies(10_000), journal=path) as run:
            async for outcome in run:
                seen += outcome.delivery is Delivery.DONE
    assert seen == len(server.players)
    intended = {index for index, _ in rows_of(path)}
    assert {int(name[1:]) for name in server.players} <= intended
    monkeypatch.undo()
    report = await fast.bulk(identifies(400), journal=path)
    assert report.total == 400
    assert {player.sessions for player in server.players.values()} == {1}
    assert report.skipped + report.succeeded + report.in_doubt == 400


@pytest.mark.parametrize(("where", "after"), [("check_untouched", 0), ("_take", 0), ("_take", 2), ("_take", 9)])
async def test_a_trouble_nobody_foresaw_ends_the_run(
    fast: TeakSession, server: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch, where: str, after: int
) -> None:
    """Whatever befalls the thread that writes, and wherever, the run hears of it, and the next one goes on."""
    place: Any = FileGuard if where == "check_untouched" else writer.Writer
    real, calls = getattr(place, where), count()

    def no_memory(*given: Any) -> Any:
        if next(calls) >= after:
            raise MemoryError("none left")
        return real(*given)

    monkeypatch.setattr(place, where, no_memory)
    with pytest.raises(JournalError, match="cannot be written any more: none left"):
        async with asyncio.timeout(20):
            await fast.bulk(identifies(1000), journal=path)
    monkeypatch.undo()
    report = await fast.bulk(identifies(1000), journal=path, resend_in_doubt=True)
    assert report.total == len(server.players) == 1000


async def test_a_row_that_cannot_be_written_ends_the_run(
    fast: TeakSession, server: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that SQLite does not take is an error, and not a run that hangs."""
    monkeypatch.setattr(row, "blake2b", lambda *_, **__: SimpleNamespace(hexdigest=lambda: "\ud800"))
    with pytest.raises(JournalError, match=r"cannot be written any more: .*surrogates not allowed"):
        await fast.bulk(identifies(1), journal=path)
    assert not server.players


@pytest.mark.parametrize("journaled", [True, False])
async def test_pages_of_input_are_bridged(path: Path, journaled: bool) -> None:
    """While there is no permit, half a second's worth of the limit is pulled ahead, with a journal as without."""
    pulled = 0

    async def endless() -> AsyncIterator[Request]:
        nonlocal pulled
        while True:
            pulled += 1
            yield Identify(f"p{pulled}", country_code="US")

    async with Sandbox(identify=100_000) as server, session_on(server, limits=Limits(200, 200)) as teak:
        internals(teak).bucket(IDENTIFY).charge(200)
        loop = asyncio.get_running_loop()
        until = loop.time() + 0.9
        async with teak.bulk(endless(), journal=path if journaled else None):
            while pulled < 100 and loop.time() < until:
                await asyncio.sleep(0.01)
            assert pulled >= 100
