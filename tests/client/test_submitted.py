from __future__ import annotations

import asyncio
import logging

import pytest
from support import session_on

from teak_async import (
    BacklogFull,
    Delivery,
    GetSubscription,
    Identify,
    InvalidRequest,
    Limits,
    PlayerNotFound,
    RetryPolicy,
    SessionClosed,
    TeakSession,
    Timeout,
)
from teak_async.sandbox import IDENTIFY, Faults, Sandbox


def arrival(number: int) -> Identify:
    return Identify(f"p{number}", country_code="US")


async def test_a_tick_submits_and_goes_on(teak: TeakSession, sandbox: Sandbox) -> None:
    """The tick has its future at once, and the call is made without anybody waiting for it."""
    futures = [teak.submit(arrival(number)) for number in range(20)]
    assert sandbox.seen[IDENTIFY].requests == 0
    sessions = await asyncio.gather(*futures)
    assert {session.country_code for session in sessions} == {"US"}
    assert len(sandbox.players) == 20


async def test_an_error_is_the_futures(teak: TeakSession) -> None:
    """What goes wrong later is raised where the future is looked at; what is no request is refused at once."""
    with pytest.raises(PlayerNotFound):
        await teak.submit(GetSubscription("nobody"))
    with pytest.raises(InvalidRequest):
        teak.submit("p1")  # type: ignore[arg-type] # what is refused
    assert teak.undelivered == ()


async def test_a_full_backlog_is_said_at_once(sandbox: Sandbox) -> None:
    """One more than the bound is an error that was not sent, and there is room again when one has ended."""
    async with session_on(sandbox, backlog=3) as teak:
        futures = [teak.submit(arrival(number)) for number in range(3)]
        with pytest.raises(BacklogFull, match=r"3 submitted calls.*backlog=") as full:
            teak.submit(arrival(3))
        assert full.value.delivery is Delivery.NOT_SENT
        await asyncio.gather(*futures)
        await teak.submit(arrival(4))
    assert set(sandbox.players) == {"p0", "p1", "p2", "p4"}


async def test_leaving_delivers_what_was_submitted(sandbox: Sandbox) -> None:
    """Whoever leaves the session right after submitting loses nothing."""
    async with session_on(sandbox) as teak:
        for number in range(50):
            teak.submit(arrival(number))
    assert {player.sessions for player in sandbox.players.values()} == {1}
    assert len(sandbox.players) == 50
    assert teak.undelivered == ()


async def test_what_the_drain_timeout_left_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """After the time is up the session says which calls were not delivered, and what became of each."""
    async with Sandbox(identify=10) as server:
        async with session_on(server, limits=Limits(identify=10), drain_timeout=0.3) as teak:
            futures = [teak.submit(arrival(number)) for number in range(30)]
        told = {request.subject: error for request, error in teak.undelivered}
        assert len(server.players) + len(told) == 30
        assert set(server.players) | set(told) == {f"p{number}" for number in range(30)}
        assert {(type(error), error.delivery) for error in told.values()} == {(SessionClosed, Delivery.NOT_SENT)}
        assert all(future.done() for future in futures)
    ((name, level, said),) = caplog.record_tuples
    assert (name, level) == ("teak_async", logging.WARNING)
    assert said.startswith(f"as the session closed, submitted calls were not delivered: {len(told)}; may have been: 0")


async def test_a_submitted_call_on_the_wire_is_finished() -> None:
    """What was sent when the time was up still gets its answer."""
    async with Sandbox(faults=Faults(delay=0.1)) as server:
        async with session_on(server, drain_timeout=0.05) as teak:
            future = teak.submit(arrival(1))
        assert future.result().session_id
        assert teak.undelivered == ()


async def test_leaving_in_a_hurry_tells_the_unknown() -> None:
    """Cancelled while it waits, the close leaves what is on the wire, and says that it may have been delivered."""
    async with Sandbox(faults=Faults(stall_for=30)) as server:
        teak = await session_on(server, timeout=Timeout(response=30)).open()
        server.fail_next("identify", "stall")
        teak.submit(arrival(1))
        while not server.requests:
            await asyncio.sleep(0.001)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(teak.close(), 0.05)
    ((request, error),) = teak.undelivered
    assert request == arrival(1)
    assert error.delivery is Delivery.UNKNOWN


@pytest.mark.parametrize("away", [False, True], ids=["silent", "away"])
async def test_a_call_that_fails_while_leaving_is_undelivered(away: bool) -> None:
    """Also where it failed by itself, long before `drain_timeout` had passed: its caller may be gone."""
    async with Sandbox(faults=Faults(stall=1.0, stall_for=600.0)) as server:
        url = "http://127.0.0.1:9" if away else server.url
        retry = RetryPolicy(initial_wait=0.01, max_wait=0.01)
        async with TeakSession("g", "s", base_url=url, timeout=Timeout(response=0.2), retry=retry) as teak:
            teak.submit(arrival(1))
    ((request, error),) = teak.undelivered
    assert request == arrival(1)
    assert error.delivery is (Delivery.NOT_SENT if away else Delivery.UNKNOWN)


async def test_nothing_is_taken_while_leaving(sandbox: Sandbox) -> None:
    """A session that is being left, is closed or was never opened takes nothing more."""
    teak = session_on(sandbox)
    with pytest.raises(SessionClosed, match="not opened yet"):
        teak.submit(arrival(0))
    await teak.open()
    teak.submit(arrival(1))
    closing = asyncio.create_task(teak.close())
    await asyncio.sleep(0)
    with pytest.raises(SessionClosed, match="being closed"):
        teak.submit(arrival(2))
    await closing
    with pytest.raises(SessionClosed, match="closed"):
        teak.submit(arrival(3))
    assert set(sandbox.players) == {"p1"}


async def test_a_submitted_call_can_be_cancelled(teak: TeakSession, sandbox: Sandbox) -> None:
    """Who changes his mind before it was sent cancels the future, and it counts as nothing."""
    teak.submit(arrival(1)).cancel()
    await asyncio.sleep(0)
    await teak.close()
    assert teak.undelivered == ()
    assert not sandbox.players
