"""Runs and sessions that are left at seeded moments, by every means that applications have: nothing lives on after them."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from support import MANY, WAIT, identifies, rows_of, session_on

from teak_async import Delivery, Identify, Limits, TeakSession
from teak_async._leaving import Decisions
from teak_async.sandbox import Faults, Sandbox

MOMENTS = 20 if MANY else 1
"""Of each way; ten ways."""
ROWS = 400 if MANY else 200
LIMIT = 300

Work = Callable[[], Coroutine[Any, Any, None]]


async def by_move_on_after(work: Work, moment: float) -> None:
    with anyio.move_on_after(moment):
        await work()


async def by_fail_after(work: Work, moment: float) -> None:
    with suppress(TimeoutError):
        with anyio.fail_after(moment):
            await work()


async def by_cancelled_group(work: Work, moment: float) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await anyio.sleep(moment)
        group.cancel_scope.cancel()


async def by_failing_anyio_sibling(work: Work, moment: float) -> None:
    async def fail() -> None:
        await anyio.sleep(moment)
        raise ZeroDivisionError

    with suppress(BaseExceptionGroup):
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            group.start_soon(fail)


async def by_timeout(work: Work, moment: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(moment):
            await work()


async def by_failing_sibling(work: Work, moment: float) -> None:
    async def fail() -> None:
        await asyncio.sleep(moment)
        raise ZeroDivisionError

    with suppress(BaseExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(work())
            group.create_task(fail())


def by_cancels(count: int) -> Callable[[Work, float], Awaitable[None]]:
    async def leave(work: Work, moment: float) -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(moment)
        for _ in range(count):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait({task})

    return leave


async def by_wait_for(work: Work, moment: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(work(), moment)


WAYS: dict[str, tuple[Callable[[Work, float], Awaitable[None]], int]] = {
    "anyio.move_on_after": (by_move_on_after, 1),
    "anyio.fail_after": (by_fail_after, 1),
    "anyio group cancelled": (by_cancelled_group, 1),
    "anyio sibling fails": (by_failing_anyio_sibling, 1),
    "asyncio.timeout": (by_timeout, 1),
    "asyncio.wait_for": (by_wait_for, 1),
    "TaskGroup sibling fails": (by_failing_sibling, 1),
    "one cancel": (by_cancels(1), 1),
    "two cancels": (by_cancels(2), 2),
    "three cancels": (by_cancels(3), 3),
}
"""How a caller leaves, and how many decisions to leave that is."""


@pytest.mark.parametrize("way", WAYS)
async def test_a_run_is_left(way: str, tmp_path: Path) -> None:
    """Nothing lives on, the journal opens at once, and rows are in doubt only after the second decision to leave."""
    leave, decisions = WAYS[way]
    chance = random.Random(way)
    for number in range(MOMENTS):
        path = tmp_path / f"{number}.db"
        moment = chance.uniform(0.0, 0.5)
        async with Sandbox(identify=5000, faults=Faults(delay=0.15)) as server:
            async with session_on(server, limits=Limits(LIMIT, LIMIT)) as teak:
                before = asyncio.all_tasks()

                async def work(teak: TeakSession = teak, path: Path = path) -> None:
                    async with teak.bulk(identifies(ROWS), journal=path) as run:
                        async for _ in run:
                            pass

                await leave(work, moment)
                left = asyncio.all_tasks() - before
                assert not [task for task in left if "teak_async" in str(task.get_coro())], left
                if path.exists():
                    states = dict(rows_of(path))
                    doubtful = [index for index, state in states.items() if state in ("intent", "in_doubt")]
                    assert not doubtful or decisions > 1, (moment, doubtful)
            async with session_on(server, limits=Limits(5000, 5000)) as again:
                report = await again.bulk(identifies(ROWS), journal=path)
            assert report.total == ROWS
            assert max(player.sessions for player in server.players.values()) == 1
            assert len(server.players) >= ROWS - report.in_doubt


@pytest.mark.parametrize("way", WAYS)
async def test_a_session_is_left(way: str) -> None:
    """Every call that was submitted is delivered or in `undelivered`, however hastily the session is left."""
    leave, _ = WAYS[way]
    chance = random.Random(way)
    for _number in range(MOMENTS):
        moment = chance.uniform(0.0, 0.4)
        sessions: list[TeakSession] = []
        asked: list[Identify] = []
        async with Sandbox(identify=5000, faults=Faults(delay=0.1)) as server:
            before = asyncio.all_tasks()

            async def work(
                server: Sandbox = server, sessions: list[TeakSession] = sessions, asked: list[Identify] = asked
            ) -> None:
                async with session_on(server, limits=Limits(LIMIT, LIMIT), drain_timeout=0.5) as teak:
                    sessions.append(teak)
                    for number in range(405):
                        request = Identify(f"p{number}", country_code="US")
                        teak.submit(request)
                        asked.append(request)
                        if number % 20 == 0:
                            await asyncio.sleep(0.01)
                    await asyncio.sleep(60)

            await leave(work, moment)
            left = asyncio.all_tasks() - before
            assert not [task for task in left if "teak_async" in str(task.get_coro())], left
            await asyncio.sleep(0.3)  # what was left on the wire may still be done
            for teak in sessions:
                fates = {request.subject: error.delivery for request, error in teak.undelivered}
                for request in asked:
                    done = request.user_id in server.players
                    fate = fates.get(request.user_id, Delivery.DONE)
                    assert fate is not Delivery.DONE or done, (moment, request)
                    assert fate is not Delivery.NOT_SENT or not done, (moment, request)


async def test_leaving_waits_for_the_run_however_often_the_scope_cancels() -> None:
    """At 600 ms of round trip: what was on the wire is finished, and nothing is in doubt."""
    limits = Limits(200, 200)
    async with Sandbox(identify=5000, faults=Faults(delay=0.3)) as server, session_on(server, limits=limits) as teak:
        run = teak.bulk(identifies(ROWS))
        with anyio.move_on_after(0.8):
            async with run:
                async for _ in run:
                    pass
        assert run.report.in_doubt == 0
        assert run.report.succeeded == len(server.players) > 0
        assert run.report.total == run.report.succeeded + run.report.not_sent


@pytest.mark.parametrize("slow", ["async", "thread"])
async def test_a_session_that_closes_ends_a_run_whose_input_waits(slow: str, sandbox: Sandbox) -> None:
    """At once, and not when the input gives its next row."""

    async def rows() -> Any:
        yield Identify("p0", country_code="US")
        if slow == "async":
            await asyncio.sleep(60)
        else:
            await asyncio.to_thread(lambda: asyncio.run(asyncio.sleep(0.5)))
        yield Identify("p1", country_code="US")

    teak = await session_on(sandbox).open()
    run = teak.bulk(rows())
    async with asyncio.timeout(WAIT):
        with pytest.raises(Exception, match="the session was closed"):
            async with run:
                async for _ in run:
                    await teak.close()


async def test_an_input_that_fails_as_it_is_closed_is_told_on_leaving(teak: TeakSession) -> None:
    """After a `break`, too; an error that the caller leaves with is not hidden by it."""

    async def rows() -> Any:
        try:
            for number in range(100):
                yield Identify(f"p{number}", country_code="US")
        finally:
            raise OSError("the cursor is gone")

    with pytest.raises(OSError, match="the cursor is gone"):
        async with teak.bulk(rows()) as run:
            async for _ in run:
                break
    with pytest.raises(ZeroDivisionError):
        async with teak.bulk(rows()) as run:
            async for _ in run:
                raise ZeroDivisionError


async def test_a_journal_that_is_lost_after_a_break_is_told_on_leaving(
    teak: TeakSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader has gone, and has to know that results are missing."""
    path = tmp_path / "run.db"

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    with pytest.raises(Exception, match="no space left on device"):
        async with teak.bulk(identifies(50), journal=path) as run:
            async for _ in run:
                monkeypatch.setattr("teak_async._journal.writer.write", fail)
                break


@pytest.mark.parametrize(
    ("first", "later", "decisions"),
    [
        (asyncio.CancelledError("scope 1"), [asyncio.CancelledError("scope 1")] * 3, 0),
        (asyncio.CancelledError("scope 1"), [asyncio.CancelledError("scope 2"), asyncio.CancelledError("scope 1")], 1),
        (asyncio.CancelledError(), [asyncio.CancelledError()] * 2, 2),
        (None, [asyncio.CancelledError("scope 1")] * 3, 1),
        (ValueError(), [asyncio.CancelledError(), asyncio.CancelledError("x")], 2),
    ],
)
def test_one_decision_is_one_however_often_it_is_delivered(
    first: BaseException | None, later: list[asyncio.CancelledError], decisions: int
) -> None:
    """Cancellations with the same message are one; a bare one is one each."""
    known = Decisions(first)
    assert sum(known.is_new(cancelled) for cancelled in later) == decisions


async def test_iterating_a_run_that_was_not_opened_is_told(teak: TeakSession) -> None:
    """`anext` waits for nothing that could ever come."""
    run = teak.bulk([])
    with pytest.raises(TypeError, match="open the run first"):
        await anext(run)
    run.close()


async def test_a_run_that_nobody_awaits_warns(teak: TeakSession) -> None:
    """As a coroutine does: nothing was sent."""
    teak.bulk(identifies(1))
    with pytest.warns(RuntimeWarning, match="never awaited, so nothing was sent"):
        gc.collect()


async def test_what_a_run_is_may_be_anything_with_a_text(teak: TeakSession, tmp_path: Path) -> None:
    """The journal keeps text, and knows it again."""
    for _ in range(2):
        await teak.bulk(identifies(1), journal=tmp_path / "run.db", about={"n": 1, "day": "0131"})


@pytest.mark.parametrize("what", ["handler", "filter"])
async def test_a_log_that_raises_loses_nothing(sandbox: Sandbox, what: str) -> None:
    """A listener's fault ends at the listener: a session opens beside another one, and accounts for what was submitted."""

    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("the log is full")

        def filter(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("the filter is broken")

    logger, raising = logging.getLogger("teak_async"), Raising()
    add, remove = (logger.addHandler, logger.removeHandler) if what == "handler" else (logger.addFilter, logger.removeFilter)
    add(raising)
    try:
        async with session_on(sandbox), session_on(sandbox, drain_timeout=0) as teak:
            for number in range(300):
                teak.submit(Identify(f"p{number}", country_code="US"))
        assert len(teak.undelivered) + len(sandbox.players) >= 300
    finally:
        remove(raising)
