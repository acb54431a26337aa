"""Runs that are left, cancelled or aborted, and what their journals say then."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from support import FAST, MANY, identifies, rows_of, session_on

from teak_async import (
    Delivery,
    TeakSession,
)
from teak_async._bulk.run import BulkRun
from teak_async._journal.database import read_summary
from teak_async.events import Event, ResponseReceived
from teak_async.sandbox import IDENTIFY, Faults, Sandbox


async def test_a_run_that_is_cancelled_while_it_closes_has_an_end(
    fast: TeakSession, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads it is not left waiting, nor told that this was all."""
    run = await fast.bulk(identifies(3), journal=path).__aenter__()
    assert run.journal is not None
    assert run._main is not None
    monkeypatch.setattr(run.journal, "close", asyncio.Event().wait)  # a disk that takes its time
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
    assert rows_of(path) == [(0, "succeeded" if outcomes == [Delivery.DONE] else "in_doubt")]


async def test_leaving_a_run_leaves_a_journal_that_goes_on(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """After a `break` nothing is in doubt, and the rest is sent when the run is repeated."""
    async with fast.bulk(identifies(1000), journal=path) as run:
        async for outcome in run:
            if outcome.index > 100:
                break
    assert {state for _, state in rows_of(path)} <= {"succeeded", "not_sent"}
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
        assert sum(state == "succeeded" for _, state in rows_of(path)) == server.seen[IDENTIFY].requests
        assert "intent" not in {state for _, state in rows_of(path)}
        report = await teak.bulk(identifies(2000), journal=path)
        assert (report.total, report.in_doubt) == (2000, 0)
        assert {player.sessions for player in server.players.values()} == {1}


@pytest.mark.parametrize(("count", "main_first"), [(2000, True), (2000, False), (150, True), (150, False)][:: 1 if MANY else 3])
async def test_a_loop_that_ends_under_a_run_leaves_a_journal_that_knows(path: Path, count: int, main_first: bool) -> None:
    """When all of its tasks are cancelled, as when a program's main function returns, a run still writes what it knows.

    It does so when all of the input was pulled, too, and who reads it hears that this is not its end.
    """
    # The responses come one after the other, so that some are still under way when a hundred have come.
    faults = Faults(delay=0.02, jitter=0.3)
    async with Sandbox(identify=100_000, faults=faults) as server, session_on(server, limits=FAST) as teak:
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
    assert known.keys() <= {"succeeded", "in_doubt", "not_sent"}, (
        "each row that was intended is known to be done, in doubt or not sent"
    )
    assert 100 <= known["succeeded"] <= sent
    async with Sandbox(identify=100_000) as server, session_on(server, limits=FAST) as teak:
        assert (await teak.bulk(identifies(count), journal=path)).total == count  # and its lock is free
