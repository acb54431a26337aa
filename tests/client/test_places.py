"""What a session's pool may be, how many connections it has, and what its errors say."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
import uvloop
from scripted import Peer, Server, answering, running
from support import ROOT

from teak_async import (
    ConnectFailed,
    ConnectionLost,
    Delivery,
    Limits,
    RetryPolicy,
    SessionClosed,
    TeakSession,
    TimedOut,
    Timeout,
)
from teak_async._client.places import Places, places_for


def session(url: str, **options: Any) -> TeakSession:
    options.setdefault("limits", Limits(5000, 5000))
    options.setdefault("retry", RetryPolicy(max_attempts=1))
    options.setdefault("timeout", Timeout(connect=2, response=2))
    return TeakSession("1", "secret", base_url=url, **options)


PROGRAM = """
import asyncio, resource, sys, teak_async
files, url, taken = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
async def main():
    limits, timeout = teak_async.Limits(5000, 5000), teak_async.Timeout(connect=0.5, response=10)
    async with teak_async.TeakSession("1", "secret", base_url=url, limits=limits, timeout=timeout) as teak:
        kept = [open("/dev/null") for _ in range(taken)]
        calls = [teak.identify(f"p{number}", country_code="US") for number in range(500)]
        done = await asyncio.gather(*calls, return_exceptions=True)
    print(sum(isinstance(one, teak_async.PlayerSession) for one in done), {type(one).__name__ for one in done})
asyncio.run(main())
"""


@pytest.mark.parametrize(("files", "taken"), [(64, 0), (32, 0), (64, 40)], ids=["64", "32", "64, most of them taken later"])
async def test_few_files_are_enough(files: int, taken: int) -> None:
    """With 64 open files at most, 500 calls at once all succeed, though they wait for longer than connecting may take."""

    async def slowly(peer: Peer) -> None:
        while (user := await peer.read()) is not None:
            await asyncio.sleep(0.05)
            peer.answer(user)

    with running(server := Server(slowly)):
        ran = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", PROGRAM, str(files), server.url, str(taken)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert ran.stdout == "500 {'PlayerSession'}\n", ran.stderr
    assert server.connections <= files


async def test_closing_ends_what_waits_for_a_place() -> None:
    """However many wait: each would take as long as a response."""

    async def slowly(peer: Peer) -> None:
        while (user := await peer.read()) is not None:
            await asyncio.sleep(0.1)
            peer.answer(user)

    with running(server := Server(slowly)):
        async with session(server.url) as teak:
            teak._transport._places = Places(2)
            calls = [asyncio.create_task(teak.identify(f"p{number}", country_code="US")) for number in range(12)]
            while len(server.users) < 2:
                await asyncio.sleep(0.01)
        ended = await asyncio.gather(*calls, return_exceptions=True)
    closed = [error for error in ended if isinstance(error, SessionClosed)]
    assert {error.delivery for error in closed} == {Delivery.NOT_SENT}
    assert len(closed) == 12 - len(server.users) >= 8
    assert max(server.users.values()) == 1


async def test_what_waits_for_a_place_is_unsent() -> None:
    """A call cancelled, or closed, while it waits for a place was not sent, and leaves the others theirs."""
    release = threading.Event()

    async def held(peer: Peer) -> None:
        while (user := await peer.read()) is not None:
            await asyncio.to_thread(release.wait, 5)
            peer.answer(user)

    with running(server := Server(held)):
        async with session(server.url) as teak:
            teak._transport._places = Places(1)
            first, second, third = (asyncio.create_task(teak.identify(f"p{n}", country_code="US")) for n in range(3))
            while not server.users:
                await asyncio.sleep(0.01)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            assert teak.rates["/v2/identify"].in_window == 2
            release.set()
            assert (await first).session_id == "of p0"
            assert (await third).session_id == "of p2"
    assert server.users == {"p0": 1, "p2": 1}


async def test_places_go_to_who_came_first() -> None:
    """Nobody passes those who wait, and who gives up in the moment of the grant passes it on."""
    places, order = Places(1), list[int]()

    async def take(number: int) -> None:
        await places.take()
        order.append(number)
        await asyncio.sleep(0)
        places.give()

    assert places.try_take()
    tasks = [asyncio.create_task(take(number)) for number in range(4)]
    await asyncio.sleep(0)
    places.give()
    assert not places.try_take()
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [1, 2, 3]
    assert places.used == 0


def test_places_shrink_to_one_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where files are short there are fewer places for a minute; the last one stays."""
    places = Places(3)
    assert all(places.try_take() for _ in range(3))
    assert (places.shrink(), places.size) == (True, 2)
    places.give()
    places.give()
    assert (places.shrink(), places.size) == (False, 2)
    assert places.try_take()
    assert not places.try_take()
    monkeypatch.setattr(Places, "RESTORED", 0.0)
    assert not places.try_take()
    assert places.try_take()


def test_places_are_bounded_by_need() -> None:
    assert places_for(7) == 7


class Retrying:
    """A client that retries, and is no `aiohttp.ClientSession`."""

    async def request(self) -> None: ...


@pytest.mark.parametrize("wrong", [Retrying(), aiohttp.ClientSession, "http", object(), Mock(), 1, lambda: None])
def test_http_is_an_aiohttp_session(wrong: Any) -> None:
    """Anything else is told when the session is made."""
    with pytest.raises(TypeError, match=r"http must be an open aiohttp\.ClientSession, not "):
        session("https://api.example", http=wrong)


async def test_a_session_that_cannot_serve_is_told_at_open() -> None:
    """One that is closed, or of another loop."""
    async with aiohttp.ClientSession() as http:
        teak = session("https://api.example", http=http)
        with pytest.raises(ValueError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, teak.open())
    teak = session("https://api.example", http=http)
    with pytest.raises(ValueError, match="closed"):
        await teak.open()
    with pytest.raises(ValueError, match="ssl= and http= together"):
        session("https://api.example", http=http, ssl=__import__("ssl").create_default_context())


async def test_errors_say_what_happened() -> None:
    """How long, to whom, and by which parameter; never with the query, which has the secret."""

    async def silent(peer: Peer) -> None:
        await peer.read()
        await peer.reader.read()

    async def hang_up(peer: Peer) -> None:
        await peer.read()

    with running(mute := Server(silent), lost := Server(hang_up)):
        async with session(mute.url, timeout=Timeout(connect=1, response=0.2)) as teak:
            with pytest.raises(
                TimedOut,
                match=r"^read status \(desktop_push\): no response from http://\S+ within 0\.2 s \(Timeout\.response\)$",
            ):
                await teak.desktop_push.status("p1")
        patience = Timeout(connect=0.1, response=0.1)
        async with aiohttp.ClientSession() as http, session(mute.url, http=http, timeout=patience) as teak:
            with pytest.raises(
                TimedOut,
                match=r"^read status \(desktop_push\): no response from http://\S+ within 0\.2 s "
                r"\(Timeout\.connect \+ Timeout\.response\)$",
            ):
                await teak.desktop_push.status("p1")
        async with session(mute.url.replace("http", "https"), timeout=Timeout(connect=0.1, response=5)) as teak:
            with pytest.raises(
                TimedOut,
                match=r"^read status \(desktop_push\): no connection within 0\.1 s \(Timeout\.connect\) to https://127.0.0.1:\d+$",
            ):
                await teak.desktop_push.status("p1")
        async with session(lost.url) as teak:
            with pytest.raises(ConnectionLost, match=r"the connection was lost before the whole response came from http://127"):
                await teak.desktop_push.status("p1")
    async with session(lost.url) as teak:
        with pytest.raises(ConnectFailed) as failed:
            await teak.desktop_push.status("p1")
    assert str(failed.value).startswith(f"read status (desktop_push): no connection to {lost.url}: ConnectionRefusedError: ")
    assert failed.value.delivery is Delivery.NOT_SENT


def test_it_all_works_on_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another loop's transports take a watch, too, and its cached clock makes no round trip."""
    seen: list[Any] = []

    async def calls() -> None:
        async with session(server.url) as teak:
            send = teak._transport.send

            async def spying(*args: Any) -> Any:
                seen.append(await send(*args))
                return seen[-1]

            monkeypatch.setattr(teak._transport, "send", spying)
            await asyncio.gather(*(teak.identify(f"p{number}", country_code="US") for number in range(100)))
            for number in range(5):
                assert (await teak.identify(f"q{number}", country_code="US")).session_id == f"of q{number}"

    with running(server := Server(answering)), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(calls())
    assert max(server.users.values()) == 1
    assert all(raw.round_trip > 0 for raw in seen)
