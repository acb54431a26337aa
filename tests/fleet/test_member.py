"""Sessions of one process as members of a fleet."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from attrs import fields_dict
from support import WAIT, session_on

from benchmarks.members import Valkey
from teak_async import Identify, Limits, Rate, TeakSession
from teak_async._fleet import member
from teak_async._fleet.ledger import DEAD, Answer, Sync
from teak_async._fleet.policy import Demand
from teak_async._fleet.share import Share
from teak_async._fleet.sqlite_ledger import SqliteLedger
from teak_async.errors import LedgerError, LedgerUnavailable, SessionClosed
from teak_async.events import AllowanceChanged, Event, LedgerLost, LedgerRegained
from teak_async.sandbox import IDENTIFY, Sandbox

REQUESTS = [Identify(f"p{number}", country_code="US") for number in range(60)]


def shared(session: TeakSession) -> Rate:
    return session.rates[IDENTIFY]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that has to come."""
    async with asyncio.timeout(WAIT):
        while not condition():
            await asyncio.sleep(0.02)


async def test_two_sessions_are_two_members(sandbox: Sandbox, address: str) -> None:
    """Each says what it holds, how many they are, and what all may do together; and neither warns of the other."""
    async with session_on(sandbox, share=address) as one, session_on(sandbox, share=address) as other:
        await asyncio.gather(*(teak.bulk(REQUESTS) for teak in (one, other)))
        await until(lambda: shared(one).members == 2)
        rates = [shared(one), shared(other)]
        assert [(rate.limit, rate.reached) for rate in rates] == [(200, True)] * 2
        assert rates[0].held + rates[1].held <= 200
        async with session_on(sandbox, share=one) as third:
            assert shared(third).members == 2
    assert sandbox.seen[IDENTIFY].rate_limited == 0


async def test_a_rate_limited_call_lowers_the_limit_for_all(sandbox: Sandbox, address: str) -> None:
    """Once."""
    heard: list[Event] = []
    async with (
        session_on(sandbox, share=address, on_event=heard.append) as one,
        session_on(sandbox, share=address) as other,
    ):
        sandbox.fail_next("identify", "rate_limited")
        calls = asyncio.gather(one.bulk(REQUESTS), other.bulk(REQUESTS))
        await until(lambda: [shared(teak).allowance for teak in (one, other)] == [50, 50])  # a quarter, since little passed
        await calls
    assert next(event.allowance for event in heard if isinstance(event, AllowanceChanged)) == 50
    assert sandbox.seen[IDENTIFY].rate_limited == 1


async def test_a_lost_ledger_is_told_once_and_so_is_its_return(
    sandbox: Sandbox, valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    """With why, and for how long it was away."""
    heard: list[Event] = []
    with caplog.at_level(logging.WARNING, "teak_async"):
        async with session_on(sandbox, share=valkey.address, on_event=heard.append) as teak:
            await teak.identify("p", country_code="US")
            valkey.kill()
            await teak.bulk(REQUESTS[:2])
            await until(lambda: any(isinstance(event, LedgerLost) for event in heard))
            assert not shared(teak).reached
            valkey.start()
            await until(lambda: any(isinstance(event, LedgerRegained) for event in heard))
            assert shared(teak).reached
    assert len([record for record in caplog.records if "ledger" in record.getMessage()]) == 1
    assert len([event for event in heard if isinstance(event, LedgerLost | LedgerRegained)]) == 2


async def test_the_lowest_limit_holds_and_is_warned_of(
    sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = tmp_path / "ledger.db"
    async with (
        session_on(sandbox, share=address, limits=Limits(identify=50)),
        session_on(sandbox, share=address) as other,
    ):
        await until(lambda: shared(other).limit == 50)
    assert any("the lower one holds" in record.getMessage() for record in caplog.records)


async def test_a_run_that_is_repeated_takes_nothing_from_the_living(sandbox: Sandbox, tmp_path: Path) -> None:
    """Its session and its process made the first run, too, and have other sessions; so has the session that repeats it."""
    with_limit = partial(session_on, sandbox, share=tmp_path / "ledger.db", limits=Limits(identify=20))
    async with with_limit() as idle, with_limit() as first, with_limit() as other:
        sessions = [idle, first, other]
        await until(lambda: all(shared(teak).held for teak in sessions))
        await first.bulk(REQUESTS[:5], journal=tmp_path / "run.db")
        await until(lambda: shared(first).held == 1)
        await asyncio.sleep(DEAD / 1000 + 0.1)  # as long as a member that is killed is unseen
        for teak in (first, other):
            run = teak.bulk(REQUESTS, journal=tmp_path / "run.db")
            task = asyncio.create_task(run)
            while not task.done():
                await asyncio.sleep(0.02)
                assert sum(shared(each).held for each in sessions) <= 20
    assert sandbox.seen[IDENTIFY].rate_limited == 0


async def test_a_journal_names_the_member_until_its_run_is_over(sandbox: Sandbox, tmp_path: Path) -> None:
    """So one that is named when nobody has the journal was killed."""

    def named() -> list[str]:
        with closing(sqlite3.connect(tmp_path / "run.db")) as connection:
            return [name for (name,) in connection.execute("SELECT value FROM run WHERE name = 'holder'")]

    async with session_on(sandbox, share=tmp_path / "ledger.db") as teak:
        async with teak.bulk(REQUESTS, journal=tmp_path / "run.db") as run:
            await anext(run)
            (name,) = named()
        assert name.split(":")[:2] == [socket.gethostname(), str(os.getpid())]
        assert named() == []


async def test_an_address_that_is_wrong(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is none is told when the session is made, and others when it is opened."""
    with pytest.raises(ValueError, match="no address of a ledger"):
        session_on(sandbox, share="ftp://host")
    with pytest.raises(LedgerError, match="folder"):
        await session_on(sandbox, share=tmp_path).open()
    monkeypatch.setenv("TEAK_SHARE", "redis://127.0.0.1:1")
    with pytest.raises(LedgerUnavailable, match="cannot be reached"):
        await session_on(sandbox).open()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_session_that_closes_while_it_opens_is_no_member(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    """Its ledger is slow meanwhile. Nothing of it is left, and whoever opens it is told; a cancelled close ends as well."""
    address = tmp_path / "ledger.db"
    async with session_on(sandbox, share=address) as other:
        reached, answers, open_ledger = asyncio.Event(), asyncio.Event(), SqliteLedger.open

        async def slow(ledger: SqliteLedger) -> None:
            reached.set()
            await answers.wait()
            await open_ledger(ledger)

        monkeypatch.setattr(SqliteLedger, "open", slow)
        teak = session_on(sandbox, share=address)
        opening = asyncio.create_task(teak.open())
        await reached.wait()
        assert (shared(teak).held, shared(teak).members) == (0, 1)
        closing = asyncio.create_task(teak.close())
        await asyncio.sleep(0.05)
        if cancelled:
            closing.cancel()
            await asyncio.sleep(0.05)
        answers.set()
        await asyncio.wait({opening, closing})
        assert closing.cancelled() == cancelled
        with pytest.raises(SessionClosed):
            await opening
        assert [task.get_name() for task in asyncio.all_tasks()].count("teak_async member") == 1
        await until(lambda: shared(other).members == 1)
        await other.bulk(REQUESTS[:5])


async def test_a_session_that_closes_gives_its_permits_back(sandbox: Sandbox, address: str) -> None:
    """The others have them as soon as they are back; also when it is cancelled."""
    async with session_on(sandbox, share=address) as one:
        other = await session_on(sandbox, share=address).open()
        await other.bulk(REQUESTS)
        closing = asyncio.create_task(other.close())
        for _ in range(3):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait({closing})
        await one.bulk(REQUESTS)
        await until(lambda: shared(one).members == 1 and shared(one).held + shared(one).free == 200)


async def test_a_ledger_that_fails_otherwise_is_lost(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session goes on with what it holds. It has the ledger again when that answers; no answer is none."""
    heard: list[Event] = []
    sync, answers, kinds = SqliteLedger.sync, asyncio.Event(), list[str]()

    async def failing(ledger: SqliteLedger, syncs: dict[str, Sync]) -> dict[str, Answer]:
        kinds.append("silent" if kinds else "failing")
        if kinds[-1] == "failing":
            raise ZeroDivisionError("by nobody")
        return await sync(ledger, syncs) if answers.is_set() else {}

    monkeypatch.setattr(member, "UNREACHED", 0.01)
    async with session_on(sandbox, share=tmp_path / "ledger.db", on_event=heard.append) as teak:
        await teak.identify("p", country_code="US")
        monkeypatch.setattr(SqliteLedger, "sync", failing)
        await teak.bulk(REQUESTS[:2])
        await until(lambda: kinds.count("silent") > 1)
        assert not shared(teak).reached
        answers.set()
        await until(lambda: shared(teak).reached)
    lost, regained = (event for event in heard if isinstance(event, LedgerLost | LedgerRegained))
    assert isinstance(lost, LedgerLost)
    assert lost.reason == "ZeroDivisionError: by nobody"
    assert isinstance(regained, LedgerRegained)


@pytest.mark.parametrize("early", [True, False])
async def test_a_locked_ledger_lets_no_call_wait_long(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    """The one permit that is held sends a call a second. The calls that wait for it learn soon that they were not sent."""
    monkeypatch.setattr(member, "PATIENCE", 0.3)
    monkeypatch.setattr(member, "REACH", 1.5)
    ledger, heard, ended = tmp_path / "ledger.db", list[Event](), list[object]()
    async with session_on(sandbox, share=ledger, limits=Limits(identify=8), on_event=heard.append) as teak:

        async def call(count: int) -> None:
            calls = (teak.identify("p", country_code="US") for _ in range(count))
            ended.extend(await asyncio.gather(*calls, return_exceptions=True))

        await until(lambda: shared(teak).held == 1)
        with closing(sqlite3.connect(ledger, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            async with asyncio.timeout(WAIT):
                if not early:
                    await call(2)
                    await until(lambda: any(isinstance(event, LedgerLost) for event in heard))
                    await asyncio.sleep(0.4)
                await call(250)
    failed = [error for error in ended if isinstance(error, LedgerUnavailable)]
    assert len(failed) >= 245
    assert "no permit within 1.5 s, since the ledger of the shared limit is lost (" in str(failed[0])
    assert sandbox.seen[IDENTIFY].requests + len(failed) == len(ended)


async def test_a_session_that_closes_waits_for_no_ledger(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync that has no end is left, and so is the last one."""
    begun = asyncio.Event()

    async def hang(ledger: SqliteLedger, syncs: dict[str, Sync]) -> dict[str, Answer]:
        begun.set()
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr(member, "LEAVING", 0.01)
    async with asyncio.timeout(WAIT), session_on(sandbox, share=tmp_path / "ledger.db") as teak:
        await teak.identify("p", country_code="US")
        monkeypatch.setattr(SqliteLedger, "sync", hang)
        await begun.wait()
    assert [task.get_name() for task in asyncio.all_tasks()].count("teak_async member") == 0


@pytest.mark.parametrize("ended", [False, True])
def test_a_session_that_nobody_closed_is_no_member_any_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ended: bool
) -> None:
    """Also one whose loop has ended."""
    loop = asyncio.new_event_loop()
    teak = TeakSession("1", "secret", base_url="http://127.0.0.1:1", share=tmp_path / "ledger.db")
    loop.run_until_complete(teak.open())
    (task,) = (task for task in asyncio.all_tasks(loop) if task.get_name() == "teak_async member")
    if ended:
        task.cancel()
        loop.run_until_complete(asyncio.wait({task}))
        loop.close()
    del teak
    gc.collect()
    assert "was never closed" in caplog.text
    if not ended:
        loop.run_until_complete(asyncio.wait({task}, timeout=WAIT))
        loop.close()
    assert task.cancelled()


def holder(permits: int) -> Share:
    """A member's part of a bucket, in which it holds so many of 60."""
    share = Share(Sync("host:1:a", 0, 60))
    share.sync(0.0)
    said = {"granted": permits, "members": 3, "allowance": 60}
    share.take(0.0, Answer(**{**dict.fromkeys(fields_dict(Answer), 0), **said}))
    return share


@pytest.mark.parametrize(("lost", "left"), [(True, 8), (False, 1)])
def test_what_is_held_is_kept_while_the_ledger_is_lost(lost: bool, left: int) -> None:
    """Each quiet moment would give permits back that nobody grants again, until a busy session has one left."""
    share = holder(8)
    for number, busy in enumerate((8, 1, 3, 0, 5), 1):
        share.plan(number / 4, Demand(in_use=busy), 0.0, lost=lost)
        share.sync(number / 4 + 0.1)  # nobody answers
    assert (share.limit, share.holding) == (left, left)


def test_each_permit_is_given_back_when_its_own_credit_has_gone_by() -> None:
    """One that comes back waits for no other; one that was in use meanwhile waits anew."""
    share = holder(8)
    held = []
    for moment, busy in enumerate((8, 6, 5, 7, 4, 4, 3, 3, 3)):
        now = 1 + moment / 100
        share.plan(now, Demand(in_use=busy), 0.025)  # and three milliseconds, so it is out of use at three of these moments
        held.append(share.sync(now).holding)
    assert held == [8, 8, 8, 8, 7, 7, 7, 4, 4]


def test_what_was_taken_back_is_not_given_back_again() -> None:
    """The lease is over while permits wait to be given back: of what is left then, none is made."""
    share = holder(8)
    for now, busy in ((1.0, 8), (1.1, 6), (99.0, 2)):
        share.plan(now, Demand(in_use=busy), 0.0)
    assert share.sync(99.1).holding == share.holding == 2
