from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest

from teak_async import ConnectionLost, SessionClosed
from teak_async._client.attempt import Attempt
from teak_async._client.transport import Exchange, Patience


class Work:
    """An exchange that waits for what the test gives it, and writes down how it ended."""

    def __init__(self, *, sent: bool) -> None:
        loop = asyncio.get_running_loop()
        self.exchange = Exchange(Patience(60), exact=True)
        self.sent = sent
        self.answer: asyncio.Future[str] = loop.create_future()
        self.ended: object = None
        self.attempt = Attempt(self._work(), self.exchange)

    async def _work(self) -> str:
        try:
            await asyncio.sleep(0)
            if self.sent:
                self.exchange.sent_at = 1.0
            self.ended = await self.answer
        except BaseException as error:
            self.ended = error
            raise
        return str(self.ended)


async def awaiting(work: Work) -> str:
    return await work.attempt


async def start(work: Work) -> asyncio.Task[str]:
    task = asyncio.create_task(awaiting(work))
    for _ in range(4):
        await asyncio.sleep(0)
    return task


async def test_a_caller_gets_what_the_work_returns() -> None:
    """Whatever it waits for, and also when it only lets others go first."""
    work = Work(sent=True)
    caller = await start(work)
    work.answer.set_result("done")
    assert await caller == "done"
    assert not work.attempt.left


async def test_what_does_not_wait_returns_at_once() -> None:
    """Work without a wait takes no turn of the loop."""

    async def at_once() -> int:
        return 7

    turns = 0

    def count() -> None:
        nonlocal turns
        turns += 1

    asyncio.get_running_loop().call_soon(count)
    assert await Attempt(at_once(), Exchange(Patience(60), exact=True)) == 7
    assert turns == 0


async def test_leaving_before_the_send_cancels_the_work() -> None:
    """Nothing is sent for a caller who has gone."""
    work = Work(sent=False)
    caller = await start(work)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert isinstance(work.ended, asyncio.CancelledError)
    assert not work.attempt.left


async def test_leaving_after_the_send_lets_the_work_go_on() -> None:
    """The caller is gone at once, and the work ends when its answer comes."""
    work = Work(sent=True)
    caller = await start(work)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.attempt.left
    assert work.ended is None
    work.answer.set_result("late")
    for _ in range(4):
        await asyncio.sleep(0)
    assert work.ended == "late"


async def test_leaving_in_the_turn_of_the_answer_loses_nothing() -> None:
    """The answer and the cancellation may come together: the work still has the answer."""
    work = Work(sent=True)
    caller = await start(work)
    work.answer.set_result("just in time")
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    for _ in range(4):
        await asyncio.sleep(0)
    assert work.ended == "just in time"


async def test_a_timeout_of_the_callers_is_the_callers() -> None:
    """`asyncio.timeout` around a call ends the call, and the work goes on."""
    work = Work(sent=True)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await work.attempt
    assert work.attempt.left
    work.attempt.interrupt(ConnectionLost("closed"))
    await asyncio.sleep(0.001)
    assert isinstance(work.ended, ConnectionLost)


@pytest.mark.parametrize("sent", [False, True])
async def test_interrupting_throws_into_the_work(sent: bool) -> None:
    """The error ends the work where it waits, and reaches the caller."""
    work = Work(sent=sent)
    caller = await start(work)
    work.attempt.interrupt(SessionClosed("closed"))
    with pytest.raises(SessionClosed):
        await caller
    assert isinstance(work.ended, SessionClosed)


async def test_interrupting_what_was_just_answered_is_remembered() -> None:
    """It cannot slip through between the answer and the next wait."""
    work = Work(sent=True)
    caller = await start(work)
    work.answer.set_result("done")
    await asyncio.sleep(0)
    work.attempt.interrupt(SessionClosed("closed"))
    with pytest.raises(SessionClosed):
        await caller


async def test_the_task_that_took_over_can_be_cancelled() -> None:
    """When a loop ends it cancels all tasks: the work of callers who left ends, too."""
    work = Work(sent=True)
    caller = await start(work)
    before = asyncio.all_tasks()
    caller.cancel()
    await asyncio.wait([caller])
    (taker,) = asyncio.all_tasks() - before
    await asyncio.sleep(0)
    taker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taker
    assert isinstance(work.ended, asyncio.CancelledError)


async def test_work_that_waits_again_after_being_cancelled_is_waited_for() -> None:
    """Cleaning up may take a while."""
    cleaned = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.001)
            cleaned.set()

    attempt = Attempt(stubborn(), Exchange(Patience(60), exact=True))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(awaited(attempt), 0.01)
    assert cleaned.is_set()


async def awaited(attempt: Attempt[None]) -> None:
    await attempt


async def test_the_timeouts_of_the_work_are_its_own() -> None:
    """A timeout inside of the work, as aiohttp has for connecting, is seen by the work alone."""

    async def slow() -> Any:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            return "timed out"

    assert await Attempt(slow(), Exchange(Patience(60), exact=True)) == "timed out"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


def test_an_attempt_is_an_iterator_of_what_it_waits_for() -> None:
    """Whoever drives it by hand gets a generator, as from any awaitable."""

    async def main() -> bool:
        attempt = Attempt(asyncio.sleep(0), Exchange(Patience(60), exact=True))
        steps = attempt.__await__()
        is_generator = isinstance(steps, Generator)
        await attempt_of(steps)
        return is_generator

    async def attempt_of(steps: Generator[Any, None, None]) -> None:
        class Steps:
            def __await__(self) -> Generator[Any, None, None]:
                return steps

        await Steps()

    assert asyncio.run(main())


@pytest.mark.parametrize("sent", [False, True])
async def test_where_nobody_knows_what_was_sent_a_caller_who_leaves_leaves_it_going(sent: bool) -> None:
    """On a pool that is not ours the work has a task of its own from the start, and what is thrown into it stays there."""
    work = Work(sent=sent)
    work.exchange.exact = False
    caller = await start(work)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.attempt.left
    work.answer.set_result("late")
    for _ in range(4):
        await asyncio.sleep(0)
    assert work.ended == "late"


async def test_where_nobody_knows_what_was_sent_a_timeout_of_the_work_is_not_the_callers() -> None:
    """The work's own timeout, as aiohttp's for connecting, cancels the task of the work and not the caller's."""

    async def slow() -> str:
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            return "timed out"
        return ""

    assert await Attempt(slow(), Exchange(Patience(60), exact=False)) == "timed out"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_who_leaves_in_the_moment_of_the_answer_has_left() -> None:
    """What came, nobody has seen: on a pool that is not ours the end of the work is one turn earlier than its caller's."""
    work = Work(sent=True)
    work.exchange.exact = False
    caller = await start(work)
    work.answer.set_result("done")
    while work.ended is None:
        await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.attempt.left


@pytest.mark.parametrize("exact", [True, False])
async def test_a_task_that_is_cancelled_before_it_begins_drops_nothing(exact: bool) -> None:
    """As a loop does that ends: it cancels all tasks, also one that was made in its last turn."""
    work = Work(sent=True)
    work.exchange.exact = exact
    before = asyncio.all_tasks()
    if exact:
        caller = await start(work)
        caller.cancel()
    else:
        caller = asyncio.create_task(awaiting(work))
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - before:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    for _ in range(4):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert isinstance(work.ended, asyncio.CancelledError)
