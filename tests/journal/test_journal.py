"""Runs that survive being killed: the file itself, the runs on it, and the judge that kills the command."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from support import FAST, identifies, internals, session_on

from benchmarks.kill import command, killed_until_done, players_at, sandbox_process
from teak_async import (
    ConnectionLost,
    DeadlinePassed,
    Delivery,
    Forbidden,
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
    SubscriptionChange,
    TeakSession,
)
from teak_async._bulk import resume
from teak_async._bulk.run import BulkRun
from teak_async._journal import database as store
from teak_async._journal import row, writer
from teak_async._journal.database import GROUP, iter_sources, iter_states, read_summary
from teak_async._journal.journal import Journal
from teak_async._journal.row import JournalRow, KnownRow
from teak_async.events import Event, ResponseReceived
from teak_async.sandbox import GAME_ID, IDENTIFY, SECRET_KEY, STATUS, Faults, Sandbox

ABOUT = {"game_id": "1"}
KILLS = 25 if "CI" in os.environ else 5
"""SIGKILLs in one run; many only in CI, since each costs a second."""
ROWS = 120 * KILLS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def rows(path: Path, columns: str = "idx, state") -> list[Any]:
    """What the file says, asked with nothing of ours."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT {columns} FROM rows ORDER BY idx").fetchall()  # noqa: S608 - a test's own words


async def intend_all(path: Path, requests: Iterator[Request]) -> None:
    """Leave a journal as a run leaves it that was killed with these on the wire."""
    opened = await Journal.open(path, {"game_id": GAME_ID})
    await asyncio.gather(*(opened.write_intent(JournalRow.of(index, request, None)) for index, request in enumerate(requests)))
    await opened.close()


async def test_a_finished_run_is_skipped_when_repeated(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """The same call with the same journal sends nothing twice, and goes on with what is new at the end."""
    first = await fast.bulk(identifies(300), journal=path)
    again = await fast.bulk(identifies(300), journal=path)
    more = await fast.bulk(identifies(350), journal=path)
    assert (first.succeeded, first.skipped) == (300, 0)
    assert (again.total, again.succeeded, again.skipped) == (300, 0, 300)
    assert (more.total, more.succeeded, more.skipped) == (350, 50, 300)
    assert {player.sessions for player in server.players.values()} == {1}
    assert rows(path) == [(index, "done") for index in range(350)]


async def test_a_row_tells_its_story(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """What was asked, what came, and nothing of the secret, is there for whoever looks."""
    server.add_player("p1")
    asked: list[Any] = [
        SetSubscription("p1", State.OPT_OUT),
        SetSubscription("nobody", State.OPT_OUT),
        InvalidRequest("line 3: no"),
    ]
    await fast.bulk(asked, journal=path)
    done, failed, unreadable = rows(path, "call, user_id, state, attempts, delivery, error, response, source")
    assert done[:6] == ("set state", "p1", "done", 1, "done", None)
    assert json.loads(done[6])["previous_state"] == "opt_in"
    assert json.loads(done[7]) == {"user_id": "p1", "state": "opt_out"}
    assert failed[:5] == ("set state", "nobody", "failed", 1, "rejected")
    assert failed[5].startswith("PlayerNotFound: ")
    assert unreadable == (None, None, "failed", 0, "not_sent", "InvalidRequest: line 3: no", None, "line 3: no")
    assert SECRET_KEY not in str(rows(path, "*"))


async def test_identifies_cut_off_are_reported_in_doubt(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """An intent without a result may be a session: it is named and not sent, every time, until somebody decides."""
    await intend_all(path, identifies(5))
    for _ in range(2):
        async with fast.bulk(identifies(8), journal=path) as run:
            outcomes = [outcome async for outcome in run]
        doubtful = [outcome for outcome in outcomes if outcome.delivery is Delivery.UNKNOWN]
        assert sorted(outcome.index for outcome in doubtful) == [0, 1, 2, 3, 4]
        assert {type(outcome.error) for outcome in doubtful} == {ConnectionLost}
        assert run.report.in_doubt == 5
        assert run.report.total == 8
    assert set(server.players) == {"p5", "p6", "p7"}
    report = await fast.bulk(identifies(8), journal=path, resend_in_doubt=True)
    assert (report.succeeded, report.skipped, report.in_doubt) == (5, 3, 0)
    assert len(server.players) == 8


async def test_sets_cut_off_are_sent_again(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """What may be repeated is repeated."""
    for number in range(3):
        server.add_player(f"p{number}")
    asked = [SetSubscription(f"p{number}", State.OPT_OUT) for number in range(3)]
    await intend_all(path, iter(asked))
    report = await fast.bulk(asked, journal=path)
    assert report.succeeded == 3
    assert {player.state for player in server.players.values()} == {"opt_out"}


@pytest.mark.parametrize(
    ("again", "options"),
    [
        ("rate_limited", {"retry": RetryPolicy(max_rate_limited=0)}),
        ("forbidden", {"secret_key": "wrong"}),
        ("cut off", {"base_url": "http://127.0.0.1:9", "retry": RetryPolicy(max_attempts=1, outage=0)}),
        ("late", {}),
        ("left", {"base_url": "http://127.0.0.1:9"}),
        ("left before", {"limits": Limits(1, 1)}),
    ],
)
async def test_doubt_outlives_a_resending_that_fails(server: Sandbox, path: Path, again: str, options: dict[str, Any]) -> None:
    """Until an answer says that it was done, an identify that may be a session stays in doubt, however it was sent again."""
    server.fail_next("identify", "response_lost")
    async with session_on(server) as teak:
        assert (await teak.bulk(identifies(1), journal=path)).in_doubt == 1
    if again == "rate_limited":
        server.fail_next("identify", "rate_limited")
    given = {"game_id": server.game_id, "secret_key": server.secret_key, "base_url": server.url, **options}
    async with TeakSession(**given) as teak:
        internals(teak).bucket(IDENTIFY).charge(1 if again == "left before" else 0)
        run = teak.bulk(identifies(1), journal=path, resend_in_doubt=True, deadline=0 if again == "late" else None)
        async with run:
            if again == "left before":
                while not teak.rates[IDENTIFY].waiting_bulk:
                    await asyncio.sleep(0.001)
            elif again == "left":
                while not any(row.call.error for row in run._players._tasks.values()):
                    await asyncio.sleep(0.001)
            else:
                with pytest.raises(Forbidden) if again == "forbidden" else nullcontext():
                    assert {outcome.delivery async for outcome in run} == {Delivery.UNKNOWN}
    assert run.report.in_doubt == run.report.total == 1
    assert rows(path) == [(0, "in_doubt")]
    async with session_on(server) as teak:
        assert (await teak.bulk(identifies(1), journal=path)).in_doubt == 1
        assert server.players["p0"].sessions == 1
        assert (await teak.bulk(identifies(1), journal=path, resend_in_doubt=True)).succeeded == 1


async def test_a_set_cut_off_says_that_it_may_be_repeated(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """What a set of an earlier run may have changed already is marked: the state before it may be our own."""
    server.add_player("p0", state="opt_out")
    asked = SetSubscription("p0", State.OPT_OUT)
    await intend_all(path, iter([asked]))
    async with fast.bulk([asked], journal=path) as run:
        outcomes = [outcome async for outcome in run]
    assert isinstance(outcomes[0].response, SubscriptionChange)
    assert outcomes[0].response.repeated


async def test_a_set_cut_off_ends_with_the_answer_to_its_repetition(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """What may be repeated is not in doubt for ever: the server says what it makes of it now."""
    asked = SetSubscription("nobody", State.OPT_OUT)
    await intend_all(path, iter([asked]))
    async with fast.bulk([asked], journal=path) as run:
        outcomes = [outcome async for outcome in run]
    assert [outcome.delivery for outcome in outcomes] == [Delivery.REJECTED]
    assert rows(path) == [(0, "failed")]


async def test_a_set_cut_off_and_too_late_may_have_been_done(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """A deadline that keeps a set from being repeated does not undo it."""
    server.add_player("p0", state="opt_out")
    asked = SetSubscription("p0", State.OPT_OUT)
    await intend_all(path, iter([asked]))
    async with fast.bulk([asked], journal=path, deadline=0) as run:
        outcomes = [outcome async for outcome in run]
    assert [(outcome.delivery, type(outcome.error)) for outcome in outcomes] == [(Delivery.UNKNOWN, DeadlinePassed)]
    assert rows(path) == [(0, "in_doubt")]
    assert (await fast.bulk([asked], journal=path)).succeeded == 1


async def test_a_repetition_keeps_why_a_row_is_in_doubt(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """What the server said to it is still there for whoever has to next_wait."""
    server.fail_next("identify", "error_after")
    await fast.bulk(identifies(1), journal=path)
    before = rows(path, "*")
    assert (await fast.bulk(identifies(1), journal=path)).in_doubt == 1
    assert rows(path, "*") == before


async def test_a_set_cut_off_and_left_keeps_its_intent(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """A run that is left before it repeats a set does not say that it was never sent."""
    server.add_player("p0", state="opt_out")
    asked = SetSubscription("p0", State.OPT_OUT)
    await intend_all(path, iter([asked]))
    async with session_on(server, limits=Limits(1, 1)) as teak:
        internals(teak).bucket(STATUS).charge(1)
        async with teak.bulk([asked], journal=path):
            while not teak.rates[STATUS].waiting_bulk:
                await asyncio.sleep(0.001)
    assert rows(path) == [(0, "intent")]
    async with fast.bulk([asked], journal=path) as run:
        outcomes = [outcome async for outcome in run]
    assert isinstance(outcomes[0].response, SubscriptionChange)
    assert outcomes[0].response.repeated


@pytest.mark.parametrize(
    ("again", "problem"),
    [
        (lambda: identifies(10), "longer input: 20 rows, and here are 10"),
        (lambda: identifies(21, 1), "another input: row 0"),
        (lambda: [*identifies(19), Identify("other", country_code="US")], "another input: row 19"),
        (lambda: [*identifies(19), "p19"], "another input: row 19"),
    ],
)
async def test_other_input_is_refused_before_anything_is_sent(
    fast: TeakSession, server: Sandbox, path: Path, again: Any, problem: str
) -> None:
    """Not even rows that would have to be sent again go out before all of the earlier input was seen again."""
    await intend_all(path, (SetSubscription(f"q{number}", State.OPT_IN) for number in range(0)))
    await intend_all(path, identifies(20))
    with pytest.raises(JournalError, match=problem):
        await fast.bulk(again(), journal=path, resend_in_doubt=True)
    assert server.seen[IDENTIFY].requests == 0


async def test_other_input_is_told_apart_with_bounded_memory(
    fast: TeakSession, server: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an earlier run's unfinished rows only so many are held back; what was sent by then is said to be in the journal."""
    await intend_all(path, identifies(50))
    monkeypatch.setattr(resume, "MAX_HELD", 10)
    with pytest.raises(JournalError, match="row 45 is not what it was; what was sent before it is in the journal"):
        await fast.bulk([*identifies(45), *identifies(50, 46)], journal=path, resend_in_doubt=True)
    assert set(server.players) <= {f"p{number}" for number in range(40)}
    report = await fast.bulk(identifies(60), journal=path, resend_in_doubt=True)
    assert (report.total, report.failed, report.in_doubt) == (60, 0, 0)
    assert len(server.players) == 60


async def test_another_game_is_refused(server: Sandbox, path: Path) -> None:
    """A journal belongs to one game."""
    await (await Journal.open(path, ABOUT)).close()
    with pytest.raises(JournalError, match="another run: its game_id is '1', not 'sandbox'"):
        async with session_on(server) as teak:
            await teak.bulk(identifies(1), journal=path)


async def test_one_run_at_a_time(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """The second one to open a journal is told, and sends nothing; after the first has ended it may."""
    async with fast.bulk(identifies(10), journal=path):
        with pytest.raises(JournalError, match="in use by another run"):
            await fast.bulk(identifies(10), journal=path)
    await fast.bulk(identifies(10), journal=path)
    assert {player.sessions for player in server.players.values()} == {1}


async def test_one_run_at_a_time_through_a_link(fast: TeakSession, path: Path) -> None:
    """A journal with a second name is one journal."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    async with fast.bulk(identifies(10), journal=path):
        with pytest.raises(JournalError, match=r"link\.db: in use by another run"):
            await fast.bulk(identifies(10), journal=link)


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
    fast: TeakSession, server: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """Nobody is left to think that a run can be repeated which nothing remembers; put back, the journal knows what was sent."""
    monkeypatch.setattr(writer, "CHECK_FILE_EVERY", 3600.0 if late else 0.0)
    away = path.with_name("away.db")
    with pytest.raises(JournalError, match="removed, moved or replaced while the run went on; put it back"):
        async with fast.bulk(identifies(300 if late else 100_000), journal=path) as run:
            async for outcome in run:
                if outcome.index == 100:
                    path.rename(away)
    assert len(server.players) == run.report.succeeded >= (300 if late else 100)
    away.rename(path)
    monkeypatch.undo()
    report = await fast.bulk(identifies(run.report.total + 100), journal=path)
    assert report.total == run.report.total + 100
    assert {player.sessions for player in server.players.values()} == {1}


@pytest.mark.parametrize("written", [1, 4, 5, 6, 22])
async def test_a_journal_that_was_moved_without_its_log_is_refused(
    fast: TeakSession, server: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """Whoever moves the file of a killed run and forgets the log beside it hears of that, however long the run was."""
    monkeypatch.setattr(writer, "CHECKPOINT_EVERY", 5)
    moved, log = path.with_name("moved.db"), path.with_name("moved.db-wal")
    groups: list[bytes] = []

    def write_and_copy(connection: sqlite3.Connection, rows: list[JournalRow]) -> None:
        store.write(connection, rows)
        if rows:
            groups.append(path.with_name("run.db-wal").read_bytes())
        if rows and len(groups) == written:
            moved.write_bytes(path.read_bytes())

    monkeypatch.setattr(writer, "write", write_and_copy)
    await fast.bulk(identifies(2000), journal=path)
    monkeypatch.undo()
    problem = r"moved\.db: moved\.db-wal is not beside it, which has the newest rows: put it there"
    with pytest.raises(JournalError, match=problem):
        await fast.bulk(identifies(2000), journal=moved)
    with pytest.raises(JournalError, match=problem) as refused:
        read_summary(moved)
    with closing(sqlite3.connect(shutil.copy(moved, path.with_name("lost.db")), isolation_level=None)) as connection:
        connection.execute(str(refused.value).split('"')[1])
    assert sum(read_summary(path.with_name("lost.db")).states.values()) < 2000
    assert {player.sessions for player in server.players.values()} == {1}
    log.write_bytes(groups[written - 1])
    assert sum(read_summary(moved).states.values()) > 0
    assert (await fast.bulk(identifies(2000), journal=moved)).total == 2000


async def test_a_journal_that_was_closed_needs_no_log(fast: TeakSession, path: Path) -> None:
    """After a run that ended by itself there is one file, that can be moved; so can what another program has closed."""
    await fast.bulk(identifies(10), journal=path)
    assert not path.with_name("run.db-wal").exists()
    moved = path.rename(path.with_name("moved.db"))
    assert read_summary(moved).states == {"done": 10}
    copy = path.with_name("copy.db")
    async with fast.bulk(identifies(20), journal=moved) as run:
        await anext(aiter(run))
        copy.write_bytes(moved.read_bytes())
        copy.with_name("copy.db-wal").write_bytes(moved.with_name("moved.db-wal").read_bytes())
    assert rows(copy)  # brings the log into the file, and removes it
    assert not copy.with_name("copy.db-wal").exists()
    assert (await fast.bulk(identifies(20), journal=copy)).skipped >= 11


async def test_a_journal_without_its_log_is_refused(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """A journal that was emptied, while what SQLite keeps beside it says that there was more, is not a new one."""
    log = path.with_name("run.db-wal")
    async with fast.bulk(identifies(100), journal=path) as run:
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


async def test_a_journal_is_made_whole_or_not_at_all(path: Path) -> None:
    """What stops the making in the middle, as a kill does, leaves nothing that a later run would stumble over."""
    with pytest.raises(JournalError):
        await Journal.open(path, {"game_id": object()})  # type: ignore[dict-item] # what breaks it
    await (await Journal.open(path, ABOUT)).close()
    assert read_summary(path).about["game_id"] == "1"


async def test_a_folder_that_is_not_there_is_said() -> None:
    """Where nothing can be written, nothing is sent."""
    with pytest.raises(JournalError, match="its folder is not there; name a file in a folder"):
        await Journal.open("/no/such/folder/run.db", ABOUT)


async def test_a_disk_that_fills_up_stops_the_run(
    fast: TeakSession, server: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on the wire is finished, the run raises, and a row whose intent was never written is never sent."""
    prepare = store._prepare

    def fill_up(connection: sqlite3.Connection, path: Path, about: dict[str, str]) -> None:
        prepare(connection, path, about)
        connection.execute("PRAGMA max_page_count = 12")  # what SQLite has for a full disk

    monkeypatch.setattr(store, "_prepare", fill_up)
    seen = 0
    with pytest.raises(JournalError, match="cannot be written any more: database or disk is full"):
        async with fast.bulk(identifies(10_000), journal=path) as run:
            async for outcome in run:
                seen += outcome.delivery is Delivery.DONE
    assert seen == len(server.players)
    intended = {index for index, _ in rows(path)}
    assert {int(name[1:]) for name in server.players} <= intended
    monkeypatch.undo()
    report = await fast.bulk(identifies(200), journal=path)
    assert report.total == 200
    assert {player.sessions for player in server.players.values()} == {1}
    assert report.skipped + report.succeeded + report.in_doubt == 200


@pytest.mark.parametrize(("where", "after"), [("check_unmoved", 0), ("_take", 0), ("_take", 2), ("_take", 9)])
async def test_a_trouble_nobody_foresaw_ends_the_run(
    fast: TeakSession, server: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch, where: str, after: int
) -> None:
    """Whatever befalls the thread that writes, and wherever, the run hears of it, and the next one goes on."""
    place: Any = writer if where == "check_unmoved" else writer.Writer
    real, calls = getattr(place, where), count()

    def no_memory(*given: Any) -> Any:
        if next(calls) >= after:
            raise MemoryError("none left")
        return real(*given)

    monkeypatch.setattr(writer, "CHECK_FILE_EVERY", 0.0)
    monkeypatch.setattr(place, where, no_memory)
    with pytest.raises(JournalError, match="cannot be written any more: none left"):
        async with asyncio.timeout(20):
            await fast.bulk(identifies(1000), journal=path)
    monkeypatch.undo()
    report = await fast.bulk(identifies(1000), journal=path, resend_in_doubt=True)
    assert report.total == len(server.players) == 1000


async def test_what_a_journal_cannot_say_of_its_run_is_refused(fast: TeakSession, path: Path) -> None:
    """Nothing is held by a journal that could not be made."""
    with pytest.raises(JournalError, match="surrogates not allowed"):
        await fast.bulk(identifies(1), journal=path, about={"note": "\ud83d"})
    assert (await fast.bulk(identifies(1), journal=path)).succeeded == 1


async def test_a_run_that_is_cancelled_while_it_closes_has_an_end(fast: TeakSession, path: Path) -> None:
    """Who reads it is not left waiting, nor told that this was all."""
    run = await fast.bulk(identifies(3), journal=path).__aenter__()
    assert run.journal is not None
    assert run._main is not None
    run.journal.close = asyncio.Event().wait  # type: ignore[method-assign, assignment] # a disk that takes its time
    while run.report.succeeded < 3 or run._players._tasks:
        await asyncio.sleep(0.001)
    for _ in range(5):
        await asyncio.sleep(0)
    run._main.cancel()
    outcomes = []
    with pytest.raises(RuntimeError, match="the run was cancelled"):
        async with asyncio.timeout(5):
            async for outcome in run:
                outcomes.append(outcome)
    assert len(outcomes) == 3
    run.journal.end()


@pytest.mark.parametrize("journaled", [False, True])
async def test_a_run_that_is_cancelled_before_it_begins_has_an_end(fast: TeakSession, path: Path, journaled: bool) -> None:
    """As by a loop that ends in the turn in which a run was opened; and the journal is free for the next one."""
    own = asyncio.all_tasks()
    run = await fast.bulk(identifies(3), journal=path if journaled else None).__aenter__()
    for task in asyncio.all_tasks() - own:
        task.cancel()
    with pytest.raises(RuntimeError, match="the run was cancelled"):
        async with asyncio.timeout(5):
            await anext(aiter(run))
    if run.journal is not None:
        await run.journal.ended
    assert (await fast.bulk(identifies(3), journal=path)).succeeded == 3


@pytest.mark.parametrize("turns", range(5))
async def test_a_run_that_is_aborted_in_the_moment_of_an_answer(server: Sandbox, path: Path, turns: int) -> None:
    """On a pool that is not ours either, nobody takes a row for unsent that was done and whose answer nobody has seen."""
    running: list[BulkRun] = []

    def abort_after(event: Event, turns: int = turns) -> None:
        if isinstance(event, ResponseReceived) and turns:
            asyncio.get_running_loop().call_soon(abort_after, event, turns - 1)
        elif isinstance(event, ResponseReceived):
            running[0].abort()

    async with (
        aiohttp.ClientSession() as http,
        session_on(server, http=http, on_event=abort_after) as teak,
        teak.bulk(identifies(1), journal=path) as run,
    ):
        running.append(run)
        outcomes = [outcome.delivery async for outcome in run]
    assert outcomes in ([Delivery.DONE], [Delivery.UNKNOWN])
    assert rows(path) == [(0, "done" if outcomes == [Delivery.DONE] else "in_doubt")]


async def test_leaving_a_run_leaves_a_journal_that_goes_on(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """After a `break` nothing is in doubt, and the rest is sent when the run is repeated."""
    async with fast.bulk(identifies(1000), journal=path) as run:
        async for outcome in run:
            if outcome.index > 100:
                break
    assert {state for _, state in rows(path)} <= {"done", "waiting"}
    report = await fast.bulk(identifies(1000), journal=path)
    assert (report.total, report.in_doubt) == (1000, 0)
    assert len(server.players) == 1000
    assert {player.sessions for player in server.players.values()} == {1}


async def test_cancelling_a_run_leaves_a_journal_that_goes_on(path: Path) -> None:
    """The task that runs it is cancelled: what was on the wire is finished and written."""
    async with Sandbox(identify=100_000, faults=Faults(delay=0.02)) as server, session_on(server, limits=FAST) as teak:
        task = asyncio.ensure_future(teak.bulk(identifies(2000), journal=path))
        while server.seen[IDENTIFY].requests < 100:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sum(state == "done" for _, state in rows(path)) == server.seen[IDENTIFY].requests
        assert "intent" not in {state for _, state in rows(path)}
        report = await teak.bulk(identifies(2000), journal=path)
        assert (report.total, report.in_doubt) == (2000, 0)
        assert {player.sessions for player in server.players.values()} == {1}


async def test_rows_that_wait_for_a_connection_are_not_in_doubt(path: Path) -> None:
    """A try that found no server was not sent, and the journal says so between the tries."""
    async with TeakSession(
        GAME_ID, SECRET_KEY, base_url="http://127.0.0.1:1", retry=RetryPolicy(initial_wait=60, max_wait=60)
    ) as teak:
        async with teak.bulk(identifies(20), journal=path):
            async with asyncio.timeout(20):
                while [state for _, state in rows(path)] != ["waiting"] * 20:
                    await asyncio.sleep(0.02)
        assert [state for _, state in rows(path)] == ["waiting"] * 20


async def test_wrong_credentials_finish_no_row(server: Sandbox, path: Path, fast: TeakSession) -> None:
    """Rows refused for the secret's sake are sent when it is right."""
    async with TeakSession(GAME_ID, "wrong-secret", base_url=server.url) as teak:
        with pytest.raises(Forbidden):
            await teak.bulk(identifies(50), journal=path)
    report = await fast.bulk(identifies(50), journal=path)
    assert report.succeeded == 50


async def test_a_deadline_reports_the_rest_as_not_sent(server: Sandbox, path: Path) -> None:
    """After it nothing is sent, every row has an outcome, and a later run sends the rest."""
    async with session_on(server, limits=Limits(100, 100)) as teak:
        async with teak.bulk(identifies(400), journal=path, deadline=0.5) as run:
            outcomes = [outcome async for outcome in run]
        assert len(outcomes) == run.report.total == 400
        late = [outcome for outcome in outcomes if outcome.error is not None]
        assert {type(outcome.error) for outcome in late} == {DeadlinePassed}
        assert {outcome.delivery for outcome in late} == {Delivery.NOT_SENT}
        assert len(server.players) == run.report.succeeded < 150
    async with session_on(server, limits=FAST) as teak:
        report = await teak.bulk(identifies(400), journal=path)
    assert (report.total, report.failed) == (400, 0)
    assert {player.sessions for player in server.players.values()} == {1}
    assert len(server.players) == 400


@pytest.mark.parametrize("main_first", [True, False])
@pytest.mark.parametrize("count", [10_000, 150])
async def test_a_loop_that_ends_under_a_run_leaves_a_journal_that_knows(path: Path, count: int, main_first: bool) -> None:
    """When all of its tasks are cancelled, as when a program's main function returns, a run still writes what it knows.

    It does so when all of the input was pulled, too, and who reads it hears that this is not its end.
    """
    async with Sandbox(identify=100_000, faults=Faults(delay=0.05)) as server, session_on(server, limits=FAST) as teak:
        run = await teak.bulk(identifies(count), journal=path).__aenter__()
        assert run._main is not None
        assert run._puller is not None
        while run.report.total < 100 or (count == 150 and not run._puller.done()):
            await asyncio.sleep(0.001)
        ended = [run._main, run._puller, *run._players._tasks] if main_first else [*run._players._tasks, run._puller, run._main]
        for task in ended:
            task.cancel()
        await asyncio.wait(ended)
        with pytest.raises(RuntimeError, match="the run was cancelled"):
            async for _ in run:
                pass
        sent = server.seen[IDENTIFY].requests
    known = read_summary(path).states
    assert known.keys() <= {"done", "in_doubt", "waiting"}, (
        "each row that was intended is known to be done, in doubt or not sent"
    )
    assert 100 <= known["done"] <= sent
    async with Sandbox(identify=100_000) as server, session_on(server, limits=FAST) as teak:
        assert (await teak.bulk(identifies(count), journal=path)).total == count  # and its lock is free


async def test_a_row_that_cannot_be_written_ends_the_run(
    fast: TeakSession, server: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that SQLite does not take is an error, and not a run that hangs."""
    monkeypatch.setattr(row, "blake2b", lambda *_, **__: SimpleNamespace(hexdigest=lambda: "\ud800"))
    with pytest.raises(JournalError, match=r"cannot be written any more: .*surrogates not allowed"):
        await fast.bulk(identifies(1), journal=path)
    assert not server.players


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
    assert rows(path, "source, error") == [(kept, f"InvalidRequest: {shown}")] * 2 + [(kept, None)]
    assert list(iter_sources(path, "failed", "done")) == [kept] * 3


class Puzzling(Sandbox):
    """Says what no documentation has, of whoever is named `odd`."""

    def _identify(self, parameters: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        status, answer = super()._identify(parameters)
        return status, answer | ({"country_code": None} if parameters["user_id"] == "odd" else {})


async def test_a_row_that_was_done_is_not_given_back_as_failed(path: Path) -> None:
    """An answer that cannot be understood makes a row fail, and its session is one all the same: fed in again it were two."""
    asked: list[Any] = [Identify("odd", country_code="US"), InvalidRequest("line 3: no"), Identify("even", country_code="US")]
    async with Puzzling() as server, session_on(server) as teak:
        first = await teak.bulk(asked, journal=path)
        again = await teak.bulk(asked, journal=path)
        assert server.players["odd"].sessions == 1
    assert (first.succeeded, first.failed, first.failed_earlier) == (1, 2, 0)
    assert (again.skipped, again.failed, again.failed_earlier) == (3, 0, 2)
    assert rows(path, "state, delivery") == [("unread", "done"), ("failed", "not_sent"), ("done", "done")]
    assert list(iter_sources(path, "failed")) == ["line 3: no"]


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


async def test_a_deadline_of_a_single_call(fast: TeakSession, server: Sandbox) -> None:
    """A call whose time has passed is not sent; one that has time is; a date without a zone is refused."""
    with pytest.raises(DeadlinePassed) as late:
        await fast.identify("p1", country_code="US", deadline=datetime.now(UTC) - timedelta(seconds=1))
    assert late.value.delivery is Delivery.NOT_SENT
    await fast.identify("p2", country_code="US", deadline=30)
    with pytest.raises(ValueError, match="time zone"):
        await fast.identify("p3", country_code="US", deadline=datetime.now())  # noqa: DTZ005 - what is refused
    assert set(server.players) == {"p2"}
    push = fast.desktop_push
    for late_call in (
        push.status("p2", deadline=0),
        push.opt_out("p2", deadline=0),
        push.opt_in("p2", "sales", deadline=0),
    ):
        with pytest.raises(DeadlinePassed):
            await late_call
    assert server.seen[STATUS].requests == 0


async def test_a_deadline_says_what_kept_a_call_from_being_sent() -> None:
    """Where no connection could be had until the deadline, the error says so."""
    async with TeakSession(
        "g", "s", base_url="http://127.0.0.1:9", retry=RetryPolicy(max_attempts=1000, initial_wait=0.01, max_wait=0.01)
    ) as teak:
        with pytest.raises(DeadlinePassed, match="its last try: ConnectFailed: no connection: ") as late:
            await teak.identify("p1", country_code="US", deadline=0.2)
    assert late.value.delivery is Delivery.NOT_SENT


async def test_a_resumed_run_counts_what_was_just_sent(path: Path) -> None:
    """Killed and started again within a second, a run does not send two seconds' worth in one."""
    async with Sandbox(identify=100) as server:
        for count in (60, 120):
            async with session_on(server, limits=Limits(identify=100)) as teak:
                await teak.bulk(identifies(count), journal=path)
        assert server.seen[IDENTIFY].rate_limited == 0
        assert server.seen[IDENTIFY].busiest <= 100


async def test_known_rows_are_told_in_order(path: Path) -> None:
    """What an earlier run wrote is read in pieces, also where rows are missing in between."""
    journal = await Journal.open(path, ABOUT)
    entries = {index: JournalRow.of(index, request, None) for index, request in enumerate(identifies(1300)) if index % 3}
    await asyncio.gather(*(journal.write_intent(entry) for entry in entries.values()))
    await journal.close()
    journal = await Journal.open(path, ABOUT)
    assert journal.last == 1298
    found = [await journal.known_row(index) for index in range(1300)]
    await journal.close()
    assert found == [KnownRow(entries[index].digest, "intent") if index in entries else None for index in range(1300)]
    assert dict(iter_states(path)) == {index: KnownRow(entry.digest, "intent") for index, entry in entries.items()}
    assert read_summary(path).states == {"intent": len(entries)}
    assert next(iter_sources(path, "intent", "failed")) == entries[1].source


async def test_a_journal_can_be_read_while_its_run_goes_on(fast: TeakSession, path: Path) -> None:
    """Looking does not disturb the run."""
    async with fast.bulk(identifies(300), journal=path) as run:
        async for outcome in run:
            if outcome.index % 50 == 0:
                assert read_summary(path).states["done"] >= 1
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
        connection.execute("DROP TABLE rows")
    for read in (read_summary, lambda path: list(iter_sources(path, "done")), lambda path: list(iter_states(path))):
        with pytest.raises(JournalError, match="cannot be read as a journal: no such table: rows"):
            read(path)
    for _ in range(2):
        with pytest.raises(JournalError, match="no such table: rows"):
            await fast.bulk(identifies(1), journal=path)


# The judge: a sandbox in a process of its own, the command in another, and SIGKILL.


def count_states(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT state, count(*) FROM rows GROUP BY state"))


async def test_sigkill_loses_nothing_and_doubles_nothing(tmp_path: Path, path: Path) -> None:
    """Killed again and again, a backfill ends with one session for every player that is not named in doubt, none twice."""
    draw = random.Random(1)
    source = tmp_path / "players.csv"
    source.write_text("user_id,country_code\n" + "".join(f"p{number},US\n" for number in range(ROWS)))
    arguments = ["identify", str(source), "--journal", str(path), "--output", str(tmp_path / "out"), "--rate", "500"]
    async with sandbox_process("--identify", 500) as url:
        code, left = await killed_until_done(url, arguments, path, draw, KILLS, 1.1)
        players = await players_at(url)
    assert code in (0, 3)
    told = dict(rows(path, "user_id, state"))
    assert set(told) == {f"p{number}" for number in range(ROWS)}
    doubtful = {name for name, state in told.items() if state == "in_doubt"}
    assert code == (3 if doubtful else 0)
    assert {name for name, state in told.items() if state == "done"} == set(told) - doubtful
    assert all(players[name]["sessions"] == 1 for name in set(told) - doubtful)
    assert max(player["sessions"] for player in players.values()) == 1
    assert len(left) >= KILLS * 4 // 5
    on_wire = 20  # at most, at this rate on loopback
    assert max(left) <= on_wire + GROUP
    assert len(doubtful) <= sum(left)


async def test_sigkill_with_resending_leaves_no_player_without_a_session(tmp_path: Path, path: Path) -> None:
    """Who prefers a double to a gap gets no gap."""
    draw = random.Random(2)
    source = tmp_path / "players.csv"
    source.write_text("user_id,country_code\n" + "".join(f"p{number},US\n" for number in range(1000)))
    arguments = [
        "identify",
        str(source),
        "--journal",
        str(path),
        "--resend-in-doubt",
        "--rate",
        "500",
        "-o",
        str(tmp_path / "o"),
    ]
    async with sandbox_process("--identify", 500) as url:
        code, _ = await killed_until_done(url, arguments, path, draw, 6, 1.1)
        players = await players_at(url)
    assert code == 0
    assert len(players) == 1000
    assert all(player["sessions"] >= 1 for player in players.values())


async def test_sigkill_with_sets_ends_in_the_last_state(tmp_path: Path, path: Path) -> None:
    """Killed again and again, nothing is in doubt, and every player's state is what the last row says."""
    draw = random.Random(3)
    names = [f"p{number}" for number in range(ROWS // 2)]
    known = tmp_path / "known.csv"
    known.write_text("user_id,country_code\n" + "".join(f"{name},US\n" for name in names))
    wanted = {name: draw.choice(["sales", "news"]) for name in names}
    source = tmp_path / "rows.csv"
    lines = [f"{name},{wanted[name] if last else 'other'}\n" for last in (False, True) for name in names]
    source.write_text("user_id,category\n" + "".join(lines))
    async with sandbox_process("--identify", 500, "--subscription", 500) as url:
        await killed_until_done(url, ["identify", str(known), "--rate", "500", "-o", str(tmp_path / "o")], None, draw, 0, 1)
        arguments = ["opt-out", str(source), "--journal", str(path), "--rate", "500", "-o", str(tmp_path / "out")]
        code, left = await killed_until_done(url, arguments, path, draw, KILLS, 1.1)
        players = await players_at(url)
    assert code == 0
    assert len(left) >= KILLS * 4 // 5
    assert count_states(path) == {"done": ROWS}
    assert all(players[name]["categories"][wanted[name]] == "opt_out" for name in names)


async def test_an_interrupted_command_says_how_to_go_on(tmp_path: Path, path: Path) -> None:
    """Ctrl-C finishes what is on the wire, writes it, and names the journal; repeated, the command does the rest."""
    source = tmp_path / "players.csv"
    source.write_text("user_id,country_code\n" + "".join(f"p{number},US\n" for number in range(400)))
    arguments = ["identify", str(source), "--journal", str(path), "-o", str(tmp_path / "out.jsonl"), "--rate", "200"]
    async with sandbox_process() as url:
        process = await command(url, arguments)
        async with aiohttp.ClientSession() as http, asyncio.timeout(20):
            while (await (await http.get(f"{url}/sandbox")).json())["sessions"] < 20:
                await asyncio.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, told = await process.communicate()
        assert process.returncode == 130
        assert f"the same --journal {path}" in told.decode()
        assert set(count_states(path)) <= {"done", "waiting"}
        code, _ = await killed_until_done(url, arguments, path, random.Random(0), 0, 1)
        players = await players_at(url)
    assert code == 0
    assert {player["sessions"] for player in players.values()} == {1}
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 400
