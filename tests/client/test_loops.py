"""The promises hold on every event loop: asyncio's, uvloop's, with eager tasks and in debug mode."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
from support import MANY, WAIT, identifies, make_loop, session_on

from teak_async import Identify, Limits, RateLimited, TeakSession, TimedOut, Timeout
from teak_async.sandbox import IDENTIFY, Faults, Sandbox

LOOPS = [
    "asyncio",
    "debug",
    "uvloop",
    # Python 3.11, the oldest that is supported, has none; .ci/run tries later ones, too.
    pytest.param("eager", marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are of Python 3.12")),
]


def run_on(kind: str, main: Callable[[], Awaitable[None]]) -> None:
    """Run something on a loop of a kind."""

    async def within() -> None:
        async with asyncio.timeout(4 * WAIT):  # a busy machine takes half a minute for what follows
            await main()

    with asyncio.Runner(loop_factory=partial(make_loop, kind), debug=kind == "debug") as runner:
        runner.run(within())


@pytest.mark.parametrize("loop", LOOPS)
def test_live_calls_and_a_run_at_once(loop: str, tmp_path: Path) -> None:
    """None hangs, and none is rate-limited by a strict sliding window."""
    each = 100 if loop == "debug" else 800 if MANY else 300

    async def main() -> None:
        async with (
            # More than the machine can do would make this loop the slow part of the route, and then a fast one.
            Sandbox(identify=400, faults=Faults(delay=0.01, jitter=0.005)) as server,
            session_on(server, limits=Limits(400, 1000), timeout=Timeout(connect=2 * WAIT, response=2 * WAIT)) as teak,
        ):
            live = [asyncio.create_task(teak.identify(f"live{number}", country_code="US")) for number in range(each)]
            report = await teak.bulk(identifies(each), journal=tmp_path / "run.db")
            await asyncio.gather(*live)
            assert report.succeeded == each
            assert server.seen[IDENTIFY].rate_limited == 0
            assert len(server.players) == 2 * each
            assert all(player.sessions == 1 for player in server.players.values())

    run_on(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_permit_comes_back_when_a_call_is_left(loop: str) -> None:
    """Calls that are cancelled in every stage leave no permit out and no task behind."""

    async def main() -> None:
        async with Sandbox(identify=50, faults=Faults(delay=0.005)) as server:
            async with session_on(server, limits=Limits(50, 50)) as teak:
                for turns in range(30):
                    call = asyncio.create_task(teak.identify(f"p{turns}", country_code="US"))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    call.cancel()
                    await asyncio.wait({call})
                while teak.rates[IDENTIFY].in_window:
                    await asyncio.sleep(0.01)
                await teak.identify("last", country_code="US")
            assert server.seen[IDENTIFY].rate_limited == 0
        assert len(asyncio.all_tasks()) <= 2  # this one, and the timeout's on some loops

    run_on(loop, main)


async def blocked_while_it_answers(teak: TeakSession, server: Sandbox, call: Callable[[], Awaitable[Any]]) -> Any:
    """Make a call, and stop the whole loop once the server has it, for longer than the response may take."""
    task = asyncio.ensure_future(call())
    await asyncio.sleep(0.02)
    time.sleep(0.6)  # noqa: ASYNC251 - the stall
    return await task


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("what", ["identify", "status", "run"])
def test_a_loop_that_stood_still_reads_its_sockets_first(loop: str, what: str, tmp_path: Path) -> None:
    """A response that lies in the socket is taken before time is called, whatever made the loop stand."""

    async def main() -> None:
        async with (
            ServerInThread() as server,
            TeakSession(
                server.game_id, server.secret_key, base_url=server.url, timeout=Timeout(connect=2, response=0.3)
            ) as teak,
        ):
            await teak.identify("p1", country_code="US")
            calls: dict[str, Callable[[], Awaitable[Any]]] = {
                "identify": lambda: teak.identify("p1", country_code="US"),
                "status": lambda: teak.desktop_push.status("p1"),
                "run": lambda: drain(teak, tmp_path),
            }
            await blocked_while_it_answers(teak, server.sandbox, calls[what])

    async def drain(teak: TeakSession, folder: Path) -> None:
        report = await teak.bulk([Identify("p1", country_code="US")], journal=folder / "run.db")
        assert (report.succeeded, report.in_doubt) == (1, 0)

    run_on(loop, main)


class ServerInThread:
    """A sandbox on a loop of its own, which goes on while the test's stands still. It takes 0.1 s each way."""

    def __init__(self) -> None:
        self.sandbox = Sandbox(faults=Faults(delay=0.05))
        self.game_id, self.secret_key = self.sandbox.game_id, self.sandbox.secret_key

    async def __aenter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        await self._do(self.sandbox.__aenter__())
        self.url = self.sandbox.url
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._do(self.sandbox.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _do(self, work: Any) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


@pytest.mark.parametrize("loop", LOOPS)
def test_time_is_called_where_no_response_came(loop: str) -> None:
    """Two turns of the loop are all that a late response gets."""

    async def main() -> None:
        timeout = Timeout(connect=1, response=0.05)
        async with Sandbox(faults=Faults(delay=0.5)) as server, session_on(server, timeout=timeout) as teak:
            with pytest.raises(TimedOut):
                await teak.identify("p1", country_code="US")

    run_on(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_rate_limited_call_keeps_its_place(loop: str) -> None:
    """After a 429 the pause is kept by the loop's own timers."""

    async def main() -> None:
        async with Sandbox() as server, session_on(server) as teak:
            server.fail_next("identify", "rate_limited")
            try:
                await teak.identify("p1", country_code="US")
            except RateLimited:
                pytest.fail("it gave up")
            assert server.players["p1"].sessions == 1

    run_on(loop, main)
