"""Deadlines of single calls."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from support import session_on

from teak_async import DeadlinePassed, Delivery, Identify, Limits, RetryPolicy, SessionClosed, TeakSession, TimedOut
from teak_async.sandbox import STATUS, Faults, Sandbox


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
        with pytest.raises(DeadlinePassed, match="sent again; its last attempt: ConnectFailed: no connection to ") as late:
            await teak.identify("p1", country_code="US", deadline=1)
    assert late.value.delivery is Delivery.NOT_SENT


@pytest.mark.parametrize("call", ["identify", "status", "opt_out"])
async def test_a_deadline_ends_a_live_call_that_was_sent(call: str) -> None:
    """It bounds the whole call, as a web handler needs it, and says that nobody knows what became of it."""
    async with Sandbox(faults=Faults(delay=1)) as server, session_on(server) as teak:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "identify": lambda: teak.identify("p1", country_code="US", deadline=0.2),
            "status": lambda: teak.desktop_push.status("p1", deadline=timedelta(seconds=0.2)),
            "opt_out": lambda: teak.desktop_push.opt_out("p1", deadline=datetime.now(UTC) + timedelta(seconds=0.2)),
        }
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimedOut, match="no response before the deadline") as late:
            await calls[call]()
        assert asyncio.get_running_loop().time() - began < 0.9
    assert (late.value.delivery, late.value.attempts) == (Delivery.UNKNOWN, 1)


async def test_a_deadline_ends_a_call_that_connects() -> None:
    """What waits for its connection is not sent, and says so."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.create_connection(full.getsockname(), 1) for _ in range(1)]
        async with TeakSession("g", "s", base_url="http://{}:{}".format(*full.getsockname())) as teak:
            calls = [asyncio.create_task(teak.identify("p", country_code="US", deadline=0.3)) for _ in range(4)]
            ended = await asyncio.gather(*calls, return_exceptions=True)
        for filler in fillers:
            filler.close()
    assert {type(error) for error in ended} <= {DeadlinePassed, TimedOut}
    assert any(isinstance(error, DeadlinePassed) and error.delivery is Delivery.NOT_SENT for error in ended)


async def test_a_set_that_was_attempted_before_the_deadline_is_in_doubt(server: Sandbox) -> None:
    """`DeadlinePassed` says that it was not sent again, and its delivery what all of its attempts say."""
    server.add_player("p1")
    server.fail_next("desktop_push_status", "response_lost")
    async with session_on(server, retry=RetryPolicy(initial_wait=5)) as teak:
        with pytest.raises(DeadlinePassed, match="before it was sent again; its last attempt: ConnectionLost") as late:
            await teak.desktop_push.opt_out("p1", deadline=1.5)
    assert late.value.delivery is Delivery.UNKNOWN


class HastyLoop(asyncio.SelectorEventLoop):
    """Takes a timer of less than a millisecond for one that is due, as loops do that count in milliseconds."""

    def call_later(self, delay: float, *args: Any, **options: Any) -> Any:  # type: ignore[override] # passed on as it comes
        return self.call_soon(*args, **options) if delay < 0.001 else super().call_later(delay, *args, **options)


@pytest.mark.parametrize("closing", [False, True])
def test_a_deadline_that_passes_before_the_first_step_ends_the_call(closing: bool) -> None:
    """Its timer may fire before the task of the attempt begins; nothing hangs, and the permit is back, once."""

    async def main() -> None:
        async with Sandbox() as server, session_on(server, limits=Limits(1, 1)) as teak:
            closes: list[asyncio.Future[None]] = []
            loop = asyncio.get_running_loop()
            call = asyncio.ensure_future(teak.identify("p1", country_code="US", deadline=0.0009))
            if closing:
                loop.call_soon(lambda: closes.append(asyncio.ensure_future(teak.close())))
            with pytest.raises((DeadlinePassed, SessionClosed)) as late:
                await asyncio.wait_for(call, 5)
            assert late.value.delivery is Delivery.NOT_SENT
            assert not server.requests
            assert {rate.in_window for rate in teak.rates.values()} <= {0}

    loop = HastyLoop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


async def test_a_run_waits_for_what_is_on_the_wire_at_its_deadline() -> None:
    """Its deadline stops sending, and no more."""
    async with Sandbox(faults=Faults(delay=0.2)) as server, session_on(server) as teak:
        report = await teak.bulk([Identify(f"p{number}", country_code="US") for number in range(3)], deadline=0.2)
    assert (report.succeeded, report.in_doubt) == (3, 0)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
async def test_a_deadline_is_finite(fast: TeakSession, server: Sandbox, wrong: float) -> None:
    """A number that is none would break the loop's timers."""
    with pytest.raises(ValueError, match="deadline must be a finite number of seconds"):
        await fast.identify("p1", country_code="US", deadline=wrong)
    with pytest.raises(ValueError, match="deadline must be a finite number of seconds"):
        fast.bulk([], deadline=wrong)
    assert not server.requests


@pytest.mark.parametrize("wrong", ["5", True, b"5", object(), date(2026, 1, 1)])
async def test_a_deadline_is_a_time(fast: TeakSession, wrong: Any) -> None:
    """Anything else is an error at the call."""
    with pytest.raises(TypeError, match="deadline must be a number of seconds, a timedelta or a datetime, not"):
        await fast.identify("p1", country_code="US", deadline=wrong)


async def test_a_far_deadline_is_one(fast: TeakSession) -> None:
    """Loops cannot sleep for as long as people can write."""
    await fast.identify("p1", country_code="US", deadline=1e300)
    await fast.identify("p1", country_code="US", deadline=datetime.max.replace(tzinfo=UTC))


@pytest.mark.parametrize("what", ["live", "waiting", "run"])
async def test_a_date_is_the_wall_clocks(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """A machine that was suspended past a date sends nothing after it, though the loop's clock stood still."""
    async with Sandbox(identify=20) as server, session_on(server, limits=Limits(20, 20)) as teak:
        until = datetime.now(UTC) + timedelta(hours=1)
        if what == "live":
            suspend(monkeypatch)
            with pytest.raises(DeadlinePassed):
                await teak.identify("p1", country_code="US", deadline=until)
            assert not server.requests
        elif what == "waiting":
            calls = [asyncio.create_task(teak.identify(f"p{n}", country_code="US", deadline=until)) for n in range(30)]
            await asyncio.sleep(0.3)
            suspend(monkeypatch)
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert sum(isinstance(error, DeadlinePassed) for error in ended) == 10
            assert len(server.requests) == 20
        else:
            run = teak.bulk([Identify(f"p{number}", country_code="US") for number in range(100)], deadline=until)
            async with run:
                async for _ in run:
                    if run.report.total == 30:
                        sent = len(server.requests)
                        suspend(monkeypatch)
            assert len(server.requests) <= sent + 2
        assert all(rate.in_window <= 20 for rate in teak.rates.values())


def suspend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the wall clock go on by a day, as it does while a machine sleeps."""
    real = time.time
    monkeypatch.setattr("teak_async._client.deadline.time.time", lambda: real() + 86400)
