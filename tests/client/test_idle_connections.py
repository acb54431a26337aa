"""What a server does to a connection while no request is out on it."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import struct
import time
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import nullcontext
from time import monotonic
from typing import Any

import aiohttp
import pytest
import trustme
from scripted import Peer, Server, answering, reach, recorded, response, running
from yarl import URL

from teak_async import (
    ConnectFailed,
    ConnectionLost,
    Delivery,
    Limits,
    RetryPolicy,
    TeakError,
    TeakSession,
    Timeout,
)
from teak_async._client.connections import Connections, loop_of
from teak_async._client.exchange import Exchange
from teak_async._client.keep_alive import KEEP_ALIVE, KeepAlive, read_keep_alive
from teak_async._client.pool import Pool, read_body
from teak_async.events import RateLimitHit

STRAY = response(recorded("a stranger"))
TIMED_OUT = response(b"<h1>408</h1>", "408 Request Time-out", "Connection: close")


def session(url: str, **options: Any) -> TeakSession:
    options.setdefault("limits", Limits(5000, 5000))
    options.setdefault("retry", RetryPolicy(max_attempts=1))
    return TeakSession("1", "secret", base_url=url, timeout=Timeout(connect=5, response=5), **options)


OF_A_RESPONSE = ("StreamReader", "RawResponseMessage")


def of_aiohttp() -> Counter[str]:
    """The objects of aiohttp's that are alive, by the name of their class."""
    gc.collect()
    kinds = (type(found) for found in gc.get_objects())
    return Counter(kind.__name__ for kind in kinds if kind.__module__.startswith("aiohttp."))


async def keep(peer: Peer) -> None:
    pass


async def end(peer: Peer) -> None:
    peer.writer.write_eof()


async def close(peer: Peer) -> None:
    peer.writer.close()


async def reset(peer: Peer) -> None:
    plain = peer.writer.get_extra_info("socket")
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.writer.transport.abort()


SEGMENTS: dict[str, tuple[bytes, Callable[[Peer], Awaitable[None]]]] = {
    "a whole response": (STRAY, keep),
    "half a head": (STRAY[:30], keep),
    "one byte": (STRAY[:1], keep),
    "half a body": (STRAY[:-20], keep),
    "a response and half of one": (STRAY + STRAY[:40], keep),
    "a response to no request, then the end": (TIMED_OUT, close),
    "an interim response": (b"HTTP/1.1 103 Early Hints\r\n\r\n", keep),
    "no HTTP": (b"\x00\x01garbage", keep),
    "a line": (b"\r\n", keep),
    "the end": (b"", end),
    "the close": (b"", close),
    "a reset": (b"", reset),
}


async def call_twice(server: Server, between: Callable[[], Awaitable[None]], kind: str, **options: Any) -> None:
    """Make two calls of a kind, and show that each got its own response, having been sent once."""
    async with session(server.url, **options) as teak:
        for user in ("first", "second"):
            if kind == "identify":
                player = await teak.identify(user, country_code="US")
                assert player.session_id == f"of {user}"
            else:
                status = await teak.desktop_push.status(user)
                assert status.user_id == user
            await between()
    assert server.users == {"first": 1, "second": 1}
    assert server.connections == 2


def stray(name: str) -> Callable[[Peer], Coroutine[Any, Any, None]]:
    """Answer each call, and send a segment that nobody asked for a moment later."""
    extra, then = SEGMENTS[name]

    async def script(peer: Peer) -> None:
        while (user := await peer.read()) is not None:
            peer.answer(user)
            await asyncio.sleep(0.05)
            peer.writer.write(extra)
            await then(peer)

    return script


@pytest.mark.parametrize("kind", ["identify", "status"])
@pytest.mark.parametrize("name", SEGMENTS)
async def test_what_comes_later_answers_no_call(name: str, kind: str) -> None:
    """Bytes or an end that come while a connection is idle close it, and the next call goes out on another one."""
    with running(server := Server(stray(name))):
        await call_twice(server, lambda: asyncio.sleep(0.15), kind)


@pytest.mark.parametrize("kind", ["identify", "status"])
@pytest.mark.parametrize("name", [name for name, (extra, _) in SEGMENTS.items() if extra and name != "no HTTP"])
async def test_what_comes_with_a_response_answers_no_other_call(name: str, kind: str) -> None:
    """Bytes in the segment of a response close its connection, also when the next call comes at once."""
    extra, then = SEGMENTS[name]

    async def script(peer: Peer) -> None:
        while (user := await peer.read()) is not None:
            peer.answer(user, more=extra)
            await then(peer)

    with running(server := Server(script)):
        await call_twice(server, lambda: asyncio.sleep(0), kind)


async def test_a_response_with_garbage_behind_it_is_in_doubt() -> None:
    """What is no HTTP in the segment of a response makes that one doubtful, too, and no other call hears of it."""

    async def script(peer: Peer) -> None:
        while (user := await peer.read()) is not None:
            peer.answer(user, more=b"\x00garbage" if peer.number == 1 else b"")

    with running(server := Server(script)):
        async with session(server.url) as teak:
            with pytest.raises(ConnectionLost) as lost:
                await teak.identify("p1", country_code="US")
            assert (await teak.identify("p2", country_code="US")).session_id == "of p2"
    assert lost.value.delivery is Delivery.UNKNOWN


@pytest.mark.parametrize("name", SEGMENTS)
async def test_what_the_loop_has_not_read_yet_is_seen(name: str) -> None:
    """A loop that stood still has not read what came: the system is asked before the next request is written."""

    async def stand() -> None:
        time.sleep(0.12)  # noqa: ASYNC251 - that is what it is about

    with running(server := Server(stray(name))):
        await call_twice(server, stand, "identify")


async def test_a_body_in_many_pieces_keeps_its_connection() -> None:
    """A response that comes byte by byte, or in chunks, is whole, and its connection serves on."""

    async def script(peer: Peer) -> None:
        while (user := await peer.read()) is not None:
            whole = response(recorded(user))
            if peer.served == 2:
                body = recorded(user)
                whole = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            for place in range(0, len(whole), 25):
                peer.writer.write(whole[place : place + 25])
                await asyncio.sleep(0.001)

    with running(server := Server(script)):
        async with session(server.url) as teak:
            for number in range(4):
                assert (await teak.identify(f"p{number}", country_code="US")).session_id == f"of p{number}"
    assert server.connections == 1


async def test_a_connection_takes_responses_of_every_kind_one_after_the_other() -> None:
    """What one response was says nothing of the next."""

    def chunked(body: bytes) -> bytes:
        pieces = b"".join(b"%x;more=1\r\n%s\r\n" % (len(body[at : at + 9]), body[at : at + 9]) for at in range(0, len(body), 9))
        return b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n%s0\r\nRetry-After: 9\r\n\r\n" % pieces

    kinds: list[Callable[[bytes], bytes]] = [
        response,
        lambda body: b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + response(body),
        chunked,
        lambda _: response(b'{"errors": {"country_code": ["is unknown"]}}', "422 Unprocessable Entity"),
        lambda body: response(body, "201 Created", *(f"X-{number}: {number}" for number in range(60))),
        lambda _: b"HTTP/1.1 204 No Content\r\n\r\n",
        lambda _: response(b"", "500 Oops"),
    ]

    async def script(peer: Peer) -> None:
        while (user := await peer.read()) is not None:
            lap, place = divmod(peer.served - 1, len(kinds))
            peer.writer.write(kinds[place * (lap + 1) % len(kinds)](recorded(user)))  # each behind each other one

    said: Counter[str] = Counter()
    with running(server := Server(script)):
        async with session(server.url) as teak:
            for number in range(6 * len(kinds)):
                try:
                    player = await teak.identify(f"p{number}", country_code="US")
                except TeakError as error:
                    said[f"{error.status} {error.delivery.value}"] += 1
                else:
                    assert player.session_id == f"of p{number}"
    assert server.connections == 1
    assert said == {"204 unknown": 6, "422 unknown": 6, "500 unknown": 6}


async def test_the_connection_that_was_used_last_is_used_next() -> None:
    """After a burst the others rest, until they are too old and are closed."""
    served: Counter[int] = Counter()
    all_are_out = asyncio.Barrier(6)

    async def script(peer: Peer) -> None:
        while (user := await peer.read()) is not None:
            if user.startswith("burst"):
                await all_are_out.wait()
            served[peer.number] += 1  # before the answer: the test reads it from another thread
            peer.answer(user)

    with running(server := Server(script)):
        async with session(server.url) as teak:
            await asyncio.gather(*(teak.identify(f"burst{number}", country_code="US") for number in range(6)))
            assert sorted(served.values()) == [1] * 6
            for number in range(9):
                await teak.identify(f"p{number}", country_code="US")
    assert sorted(served.values()) == [1, 1, 1, 1, 1, 10]


async def test_an_idle_connection_keeps_nothing_of_a_response() -> None:
    """Neither its headers nor its body, of whatever kind it was: with hundreds of connections that is most of what is kept."""

    async def script(peer: Peer) -> None:
        while (user := await peer.read()) is not None:
            body = recorded(user)
            if user == "in chunks":
                head = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
                peer.writer.write(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            elif user == "refused":
                peer.writer.write(b"HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n")
            else:
                peer.writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" if user == "announced" else b"")
                peer.answer(user)

    with running(server := Server(script)):
        async with session(server.url) as teak:
            before, pool = of_aiohttp(), teak._executor._transport._pool
            assert isinstance(pool, Pool)
            for user in ("plain", "in chunks", "refused", "announced"):
                with pytest.raises(TeakError) if user == "refused" else nullcontext():
                    await teak.identify(user, country_code="US")
                now = of_aiohttp()
                assert [now[kind] - before[kind] for kind in ("ResponseHandler", *OF_A_RESPONSE)] == [1, 0, 0], user
                (watch,) = pool._connections._idle
                assert [part for part in gc.get_referents(watch.protocol._parser) if isinstance(part, list) and part] == []
    assert server.connections == 1


async def test_idle_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session closes those that nobody uses, without another call, and goes on with the one in use."""
    ends: list[int] = []
    all_are_out = asyncio.Barrier(4)

    async def script(peer: Peer) -> None:
        while (user := await peer.read()) is not None:
            if user.startswith("burst"):
                await all_are_out.wait()
            peer.answer(user)
        ends.append(peer.number)

    monkeypatch.setattr("teak_async._client.connections.KEEP_ALIVE", 0.1)
    monkeypatch.setattr("teak_async._client.keep_alive.KEEP_ALIVE", 0.1)
    with running(server := Server(script)):
        async with session(server.url) as teak:
            await asyncio.gather(*(teak.identify(f"burst{number}", country_code="US") for number in range(4)))
            while len(ends) < 3:
                await teak.identify("p", country_code="US")
                await asyncio.sleep(0.01)
            assert server.connections == 4
            while len(ends) < 4:
                await asyncio.sleep(0.01)
            await teak.identify("q", country_code="US")
    assert server.connections == 5


@pytest.mark.parametrize("trailer", ["Retry-After: 3600", "Connection: close", "ETag: x"])
async def test_a_trailer_belongs_to_no_other_response(trailer: str) -> None:
    """What a chunked response says behind its body is no header of the next one."""

    async def script(peer: Peer) -> None:
        while (user := await peer.read()) is not None:
            if peer.served % 2:
                body = recorded(user)
                whole = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n%s\r\n\r\n"
                peer.writer.write(whole % (len(body), body, trailer.encode()))
            else:
                peer.writer.write(response(b"{}", "429 Too Many Requests", "Retry-After: 0", "ETag: y"))

    said: list[object] = []
    with running(server := Server(script)):
        async with session(server.url, on_event=said.append) as teak:
            for user in ("p1", "p2"):
                assert (await teak.identify(user, country_code="US", deadline=3)).session_id == f"of {user}"
    assert [event.retry_after for event in said if isinstance(event, RateLimitHit)] == [0]
    assert server.connections == 1


async def test_a_connection_that_comes_back_to_closed_ones_is_closed() -> None:
    """A response that came just before the close is taken just after it."""
    with running(server := Server(answering)):
        opened = Connections(None)
        where = aiohttp.ClientRequest("GET", URL(server.url), loop=asyncio.get_running_loop())
        watch = await opened.open(where, aiohttp.ClientTimeout())
        while not server.connections:  # one that ends before it is accepted is left open there
            await asyncio.sleep(0.005)
        await opened.close()
        opened.keep(watch)
        assert watch.connection.protocol is None


async def test_nothing_is_left_of_closed_connections() -> None:
    """No timer holds them."""
    with running(server := Server(answering)):
        opened = Connections(None)
        loop = asyncio.get_running_loop()
        where = aiohttp.ClientRequest("GET", URL(server.url), loop=loop)
        opened.keep(await opened.open(where, aiohttp.ClientTimeout()))
        while not server.connections:
            await asyncio.sleep(0.005)
        await opened.close()
        gone = weakref.ref(opened)
        del opened
        assert gone() is None


@pytest.mark.parametrize(
    ("place", "name"),
    [(aiohttp.TCPConnector, "connect"), (Connections, "open")],
    ids=["before it is watched", "while it is watched"],
)
@pytest.mark.parametrize("greeting", [STRAY, STRAY[:30], TIMED_OUT])
async def test_a_server_that_speaks_first_is_not_heard(
    monkeypatch: pytest.MonkeyPatch, greeting: bytes, place: type, name: str
) -> None:
    """Bytes on a new connection before its request are no response to it: nothing is sent there."""
    connect = getattr(place, name)
    connected: list[object] = []
    greeted: list[Peer] = []

    async def slowly(self: Any, *args: Any, **kwargs: Any) -> Any:
        connection = await connect(self, *args, **kwargs)
        connected.append(connection)
        while len(greeted) < len(connected):
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        return connection

    async def script(peer: Peer) -> None:
        peer.writer.write(greeting)
        await peer.writer.drain()
        greeted.append(peer)
        await answering(peer)

    monkeypatch.setattr(place, name, slowly)
    with running(server := Server(script)):
        async with session(server.url, retry=RetryPolicy(max_attempts=2, initial_wait=0.001)) as teak:
            for call in (teak.identify("p1", country_code="US"), teak.desktop_push.status("p1")):
                with pytest.raises(ConnectFailed, match=r"no connection to http://127\.0\.0\.1:") as failed:
                    await call
                assert (failed.value.delivery, failed.value.attempts) == (Delivery.NOT_SENT, 2)
    assert (server.users, server.connections) == ({}, 4)


@pytest.mark.parametrize("what", ["data", "close_notify", "end"])
async def test_tls_connections_are_watched_too(what: str) -> None:
    """A second response inside of TLS, or TLS's own end, closes the connection; session tickets do not."""
    ca = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(tls)
    trusting = ssl.create_default_context()
    ca.configure_trust(trusting)

    async def script(peer: Peer) -> None:
        while (user := await peer.read()) is not None:
            peer.answer(user)
            await asyncio.sleep(0.03)
            if what == "data":
                peer.writer.write(STRAY)
            elif what == "close_notify":
                ssl_protocol = peer.writer.transport._ssl_protocol  # type: ignore[attr-defined] # half a close
                with pytest.raises(ssl.SSLError):
                    ssl_protocol._sslobj.unwrap()
                ssl_protocol._process_outgoing()
                await asyncio.sleep(1)
            else:
                peer.writer.transport.abort()

    with running(server := Server(script, tls)):
        await call_twice(server, lambda: asyncio.sleep(0.1), "identify", ssl=trusting)
    with running(server := Server(answering, tls)):
        async with session(server.url, ssl=trusting) as teak:
            for number in range(20):
                await teak.identify(f"p{number}", country_code="US")
    assert server.connections == 1


async def test_an_exchange_can_have_its_connection_closed() -> None:
    """Who finds that a response is another call's has the connection closed, and it carries nothing more."""
    with running(server := Server(answering)):
        async with session(server.url) as teak:
            transport = teak._transport
            begin, exchanges = transport.begin, list[Exchange]()

            def keep() -> Exchange:
                exchanges.append(begin())
                return exchanges[-1]

            transport.begin = keep  # type: ignore[method-assign] # no other way leads to an exchange
            await teak.identify("p1", country_code="US")
            exchanges[-1].close_connection()
            await teak.identify("p2", country_code="US")
    assert (server.connections, server.users) == (2, {"p1": 1, "p2": 1})


async def _identify_all(teak: TeakSession, count: int, pause: Callable[[], float], width: int = 10) -> list[TeakError]:
    failures: list[TeakError] = []
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            try:
                await teak.identify(f"p{number}", country_code="US")
            except TeakError as error:
                failures.append(error)
            await asyncio.sleep(pause())

    await asyncio.gather(*(worker() for _ in range(width)))
    return failures


def impatient(idle: float, most: int, *headers: str, delay: float = 0.0) -> Callable[[Peer], Awaitable[None]]:
    """Make a script that closes a connection after so many seconds without a request, and after so many requests."""

    async def script(peer: Peer) -> None:
        while peer.served < most:
            try:
                async with asyncio.timeout(idle):
                    user = await peer.read()
            except TimeoutError:
                return
            if user is None:
                return
            peer.answer(user, *headers)
            await asyncio.sleep(delay)

    return script


TRIES = 5
"""Times that a bound is tried which holds on a machine at ease: server and client share a loop, and one whose timers are late
moves the server's closes onto the client's sends."""
LATE = 0.005
"""Seconds by which one timer in ten is late at most on a machine at ease. Seen: 1 ms on an idle one, 3 ms beside two busy
processes, and 6 to 8 ms on a slow one beside other tests, where the bound was missed in three of five tries."""


class Ticker:
    """Notices how late the loop's timers are."""

    def __init__(self) -> None:
        self._late = [0.0]

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(0.005)
            self._late.append(loop.time() - began - 0.005)

    def lateness(self) -> float:
        """Return the seconds by which one timer in ten was late, or more."""
        return sorted(self._late)[len(self._late) * 9 // 10]


async def _tried(attempt: Callable[[], Awaitable[int]], most: int) -> None:
    """Have an attempt end with at most so many failures, as it does wherever the loop's timers are on time."""
    counts: list[int] = []
    late: list[float] = []
    while len(counts) < TRIES and (not counts or counts[-1] > most):
        ticker = Ticker()
        ticking = asyncio.create_task(ticker.run())
        counts.append(await attempt())
        ticking.cancel()
        late.append(ticker.lateness())
    if min(counts) > most and min(late) > LATE:
        pytest.skip(f"the machine was too busy in each of {TRIES} tries: its timers were {min(late) * 1000:.0f} ms late")
    assert min(counts) <= most


async def test_a_server_that_closes_idle_connections_early() -> None:
    """Of a thousand identifies, some just when the server closes, at most one in a hundred ends in doubt."""

    async def attempt() -> int:
        pauses = iter([number // 10 % 13 * 0.008 for number in range(1000)])
        with running(server := Server(impatient(0.05, 20))):
            async with session(server.url, retry=RetryPolicy(initial_wait=0.01)) as teak:
                failures = await _identify_all(teak, 1000, lambda: next(pauses))
        assert {failure.delivery for failure in failures} <= {Delivery.UNKNOWN}
        assert max(server.users.values()) == 1
        assert len(server.users) >= 1000 - len(failures)
        return len(failures)

    await _tried(attempt, 10)


async def test_a_far_server_that_closes_idle_connections_early() -> None:
    """With 10 ms each way the close and the next request cross; after a few of them its time is learnt."""

    async def attempt() -> int:
        pauses = iter([0.015 + 0.005 * (number // 10 % 11) for number in range(1000)])
        with running(far := Server(impatient(0.05, 20))), running(near := Server(_delayed(far, 0.01))):
            async with session(near.url, retry=RetryPolicy(initial_wait=0.01)) as teak:
                failures = await _identify_all(teak, 1000, lambda: next(pauses))
        assert {failure.delivery for failure in failures} <= {Delivery.UNKNOWN}
        assert max(far.users.values()) == 1
        return len(failures)

    await _tried(attempt, 80)  # about twenty until the time is learnt; two hundred if it never were


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not writer.is_closing():
        writer.write(data)


def _delayed(far: Server, seconds: float) -> Callable[[Peer], Awaitable[None]]:
    """Make a script that carries bytes and ends both ways, each later by some seconds."""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await reader.read(1 << 16)
            except ConnectionError:
                data = b""  # a reset ends what the far side sees, too
            if not data:
                loop.call_later(seconds, writer.close)
                return
            loop.call_later(seconds, _write, writer, data)

    async def script(peer: Peer) -> None:
        async with reach("127.0.0.1", far.port) as (reader, writer):
            await asyncio.gather(pipe(peer.reader, writer), pipe(reader, peer.writer), return_exceptions=True)
            await asyncio.sleep(seconds)

    return script


@pytest.mark.parametrize(
    ("headers", "connections"),
    [
        (("Keep-Alive: timeout=0",), 6),
        (("Keep-Alive: timeout=60",), 1),
        (("Keep-Alive: timeout=60, max=2",), 3),
        (("Keep-Alive: max=3",), 2),
        (("keep-alive: TIMEOUT=60; Max=1",), 6),
        (("Connection: close",), 6),
        (("Connection: Keep-Alive",), 1),
        (("Keep-Alive: nonsense",), 1),
        ((), 1),
    ],
)
async def test_a_servers_word_on_its_connections_holds(headers: tuple[str, ...], connections: int) -> None:
    """What it says of their time and of their requests is kept to, whatever it does itself."""

    async def script(peer: Peer) -> None:
        while (user := await peer.read()) is not None:
            peer.answer(user, *headers)

    with running(server := Server(script)):
        async with session(server.url) as teak:
            for number in range(6):
                await teak.identify(f"p{number}", country_code="US")
    assert server.connections == connections


async def test_a_connection_is_not_used_for_as_long_as_its_server_keeps_it() -> None:
    """A second before it is closed by the server's word, a connection is left alone."""

    async def script(peer: Peer) -> None:
        while (user := await peer.read()) is not None:
            peer.answer(user, "Keep-Alive: timeout=1")

    with running(server := Server(script)):
        async with session(server.url) as teak:
            for number, wait in enumerate([0.5, 0.93, 0.0]):
                await teak.identify(f"p{number}", country_code="US")
                await asyncio.sleep(wait)
    assert server.connections == 2


def test_a_keep_alive_time_is_learnt_from_closings_that_agree() -> None:
    """Four closings at about the same age show a time; a restart, which closes all connections at once, shows none."""
    keep_alive = KeepAlive()
    for age in (0.2, 3.0, 3.1, 3.2, 3.3, 9.0):
        keep_alive.learn_closing(1.0, age, 5)
    assert keep_alive.usable_for(1.0, None) == KEEP_ALIVE
    for moment, age in enumerate([5.0, 0.9, 5.5, 5.2, 20.0, 6.0]):
        keep_alive.learn_closing(2.0 + moment, age, 7)
    keep_alive.learn_round_trip(8.0, 0.3)
    assert keep_alive.usable_for(8.0, None) == pytest.approx(4.2)
    assert keep_alive.usable_for(8.0, 2.0) == pytest.approx(1.5)
    assert keep_alive.usable_for(8.0, 60.0) == pytest.approx(4.2)
    assert keep_alive.usable_for(7.0 + KeepAlive.BELIEVED, None) == KEEP_ALIVE
    assert not keep_alive.is_worn(8.0, 7)


async def test_the_system_is_asked_where_it_matters() -> None:
    """After a pause, for all requests of the turn and the next, and for a minute after a server closed a connection."""
    keep_alive = KeepAlive()
    assert keep_alive.must_look(1.0)
    assert keep_alive.must_look(1.001)
    await asyncio.sleep(0)
    assert keep_alive.must_look(1.002)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not keep_alive.must_look(1.003)
    assert keep_alive.must_look(1.02)
    for _ in range(3):
        await asyncio.sleep(0)
    keep_alive.learn_round_trip(1.03, 0.01)
    assert not keep_alive.must_look(1.031)
    keep_alive.learn_closing(1.032, 0.05, 3)
    assert keep_alive.must_look(1.033)


def test_how_many_requests_a_connection_may_carry_is_learnt() -> None:
    """Four closings right after a response that agree on the count show it, for a minute."""
    keep_alive = KeepAlive()
    for moment, count in enumerate([20, 3, 20, 20]):
        keep_alive.learn_closing(float(moment), 0.001, count)
        assert not keep_alive.is_worn(float(moment), 20)
    keep_alive.learn_closing(4.0, 0.001, 20)
    assert (keep_alive.is_worn(5.0, 19), keep_alive.is_worn(5.0, 20)) == (False, True)
    assert not keep_alive.is_worn(4.0 + KeepAlive.BELIEVED, 20)
    assert keep_alive.usable_for(5.0, None) == KEEP_ALIVE


@pytest.mark.parametrize(
    ("header", "read"),
    [
        ("timeout=5", (5.0, None)),
        ("timeout=5, max=100", (5.0, 100)),
        ("max=1", (None, 1)),
        ('Timeout = "15"', (15.0, None)),
        ("", (None, None)),
        ("timeout=-1", (None, None)),
        ("timeout=99999999999999999999", (999999999.0, None)),
    ],
)
def test_keep_alive_headers(header: str, read: tuple[float | None, int | None]) -> None:
    assert read_keep_alive(header) == read


async def test_what_is_used_of_aiohttp_inside_is_there() -> None:
    """The attributes that aiohttp does not document are what this package takes them for."""
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession() as http:
        assert loop_of(http) is loop
    where = aiohttp.ClientRequest("GET", URL("http://u:pw@127.0.0.1:1"), headers={"Accept": "x"}, loop=loop)
    assert (where.headers["Host"], where.headers["Accept"]) == ("127.0.0.1:1", "x")
    assert where.headers["Authorization"].startswith("Basic ")
    with running(server := Server(answering)):
        opened = Connections(None)
        where = aiohttp.ClientRequest("GET", URL(server.url), loop=loop)
        watch = await opened.open(where, aiohttp.ClientTimeout())
        protocol = watch.protocol
        assert (watch.connection.protocol, watch.connection.transport) == (protocol, watch.transport)
        assert protocol.should_close is False
        assert "should_close" in vars(type(protocol))
        assert watch.ask(monotonic())
        watch.transport.write(b'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\n\r\n{"user_id": "p"}')
        head, content = await protocol.read()
        assert (head.code, head.headers["Content-Type"]) == (201, "application/json")
        assert await read_body(content)
        protocol.set_parser(None, None)
        protocol.set_response_params(read_until_eof=True, auto_decompress=False)
        assert protocol.should_close is False
        watch.connection.release()
        await opened.close()
