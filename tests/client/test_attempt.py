from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from unittest.mock import Mock

import pytest

from teak_async import ConnectionLost, SessionClosed, TeakError
from teak_async._client.attempt import Attempt
from teak_async._client.exchange import Exchange, ResponseTimer


class Work:
    """An exchange that waits for what the test gives it, and writes down how it ended."""

    def __init__(self, *, sent: bool, here: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self.exchange = Exchange(ResponseTimer(60), exact=True)
        self.sent = sent
        self.answer: asyncio.Future[str] = loop.create_future()
        self.ended: object = None
        self.attempt: Attempt[str] = Attempt(self.exchange, Mock())
        self._here = here

    async def run(self) -> str:
        if self._here:
            return await run_here(self.attempt, self.attempt_work)
        return await self.attempt.run(self.attempt_work)

    async def attempt_work(self) -> str:
        try:
            await asyncio.sleep(0)
            if self.sent:
                self.exchange.sent_at = 1.0
            self.ended = await self.answer
        except (asyncio.CancelledError, TeakError) as error:
            self.ended = self.exchange.find_interruption() or error
            raise self.ended from None
        return str(self.ended)


async def run_here(attempt: Attempt[str], work: Callable[[], Awaitable[str]]) -> str:
    task = asyncio.current_task()
    assert task is not None
    attempt.begin_in(task)
    try:
        return await work()
    except asyncio.CancelledError:
        attempt.leave()
        raise


async def awaiting(work: Work) -> str:
    return await work.run()


async def awaited(ending: Awaitable[str]) -> str:
    return await ending


async def start(work: Work) -> asyncio.Task[str]:
    task = asyncio.create_task(awaiting(work))
    for _ in range(4):
        await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("here", [False, True])
async def test_a_caller_gets_what_the_work_returns(here: bool) -> None:
    """Whatever it waits for, and also when it only lets others go first."""
    work = Work(sent=True, here=here)
    caller = await start(work)
    work.answer.set_result("done")
    assert await caller == "done"
    assert not work.attempt.left


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
            await work.run()
    assert work.attempt.left
    work.exchange.interrupt(ConnectionLost("closed"))
    await asyncio.sleep(0.001)
    assert isinstance(work.ended, ConnectionLost)


@pytest.mark.parametrize("here", [False, True])
@pytest.mark.parametrize("sent", [False, True])
async def test_interrupting_throws_into_the_work(sent: bool, here: bool) -> None:
    """The error ends the work where it waits, and reaches the caller, whose task does not count as cancelled."""
    work = Work(sent=sent, here=here)
    caller = await start(work)
    work.exchange.interrupt(SessionClosed("closed"))
    work.exchange.interrupt(ConnectionLost("late"))
    with pytest.raises(SessionClosed):
        await caller
    assert isinstance(work.ended, SessionClosed)
    assert caller.cancelling() == 0


async def test_an_interruption_that_ends_as_another_error_leaves_nothing_behind() -> None:
    """The task of a player goes on to the next row, and must not count as cancelled there."""
    exchange = Exchange(ResponseTimer(60), exact=True)
    attempt: Attempt[str] = Attempt(exchange, Mock())

    async def stubborn() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "another error"
        finally:
            exchange.end()
        return ""

    caller = asyncio.create_task(awaited(run_here(attempt, stubborn)))
    await asyncio.sleep(0)
    exchange.interrupt(SessionClosed("closed"))
    assert await caller == "another error"
    assert caller.cancelling() == 0


@pytest.mark.parametrize("sent", [False, True])
async def test_a_rows_task_that_is_cancelled_ends_its_work(sent: bool) -> None:
    """Also where it was interrupted in the same turn: whoever cancels it waits for its end."""
    for interrupted in (False, True):
        work = Work(sent=sent, here=True)
        caller = await start(work)
        if interrupted:
            work.exchange.interrupt(SessionClosed("closed"))
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert isinstance(work.ended, asyncio.CancelledError)
        assert work.attempt.left is sent


@pytest.mark.parametrize("here", [False, True])
async def test_interrupting_what_was_just_answered_is_remembered(here: bool) -> None:
    """It cannot slip through between the response and the moment in which the work takes it."""
    work = Work(sent=True, here=here)
    caller = await start(work)
    work.answer.set_result("done")
    work.exchange.interrupt(SessionClosed("closed"))
    with pytest.raises(SessionClosed):
        await caller


async def test_interrupting_what_has_its_response_changes_nothing() -> None:
    """What the work has taken is the truth, whatever comes after."""
    work = Work(sent=True)
    caller = await start(work)
    work.answer.set_result("done")
    await asyncio.sleep(0)
    work.exchange.interrupt(SessionClosed("closed"))
    assert await caller == "done"


async def test_the_task_of_a_caller_who_left_can_be_cancelled() -> None:
    """When a loop ends it cancels all tasks: the work of callers who left ends, too."""
    before = asyncio.all_tasks()
    work = Work(sent=True)
    caller = await start(work)
    caller.cancel()
    await asyncio.wait([caller])
    (task,) = asyncio.all_tasks() - before
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
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

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(attempted(stubborn), 0.01)
    assert cleaned.is_set()


async def attempted(work: Callable[[], Coroutine[Any, Any, Any]], *, exact: bool = True) -> Any:
    attempt: Attempt[Any] = Attempt(Exchange(ResponseTimer(60), exact=exact), Mock())
    return await attempt.run(work)


async def test_the_timeouts_of_the_work_are_its_own() -> None:
    """A timeout inside of the work, as aiohttp has for connecting, is seen by the work alone."""

    async def slow() -> Any:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            return "timed out"

    assert await attempted(slow) == "timed out"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


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

    assert await attempted(slow, exact=False) == "timed out"
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
async def test_a_task_that_is_cancelled_before_it_begins_says_so(exact: bool) -> None:
    """As a loop does that ends: it cancels all tasks, also one made in its last turn, whose work then never begins."""
    before = asyncio.all_tasks()
    work = Work(sent=True)
    work.exchange.exact = exact
    caller = asyncio.create_task(work.run())
    await asyncio.sleep(0)
    if work.attempt.begun:
        pytest.skip("an eager task begins when it is made")
    for task in asyncio.all_tasks() - before:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert (work.ended, work.attempt.begun, work.attempt.left) == (None, False, False)


async def test_a_caller_who_is_cancelled_again_and_again_still_waits_for_the_end() -> None:
    """Some scopes cancel at every await. The work was not sent, and its cleaning up takes a while."""
    cleaned = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(60)
            await asyncio.sleep(0)
            cleaned.set()

    caller = asyncio.create_task(attempted(stubborn))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for _ in range(2):
        caller.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.wait({caller})
    assert caller.cancelled()
    assert cleaned.is_set()
