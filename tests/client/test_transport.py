"""The transport against servers of raw sockets, which end the connection wherever it hurts."""

from __future__ import annotations

import asyncio
import os
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from support import WAIT, sample

from teak_async import (
    ConnectFailed,
    ConnectionLost,
    Delivery,
    RetryPolicy,
    TeakError,
    TeakSession,
    TimedOut,
    Timeout,
    UnexpectedResponse,
)
from teak_async._client.connections import ConnectionWatch
from teak_async._client.exchange import Exchange
from teak_async._client.pool import MAX_BODY
from teak_async._client.transport import RedactedHeaders

SECRET = "canary/secret+key=31"
BODY = sample("identify.201")
ANSWER = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
STATUS_BODY = sample("status.get.200")
STATUS_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(STATUS_BODY),
    STATUS_BODY,
)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Reads whole requests and counts them; what it says is up to the test."""

    def __init__(self) -> None:
        self.requests = 0
        self.connections = 0
        self.url = ""

    async def read(self, reader: asyncio.StreamReader) -> bool:
        """Read one request; false when the client has gone."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        await reader.readexactly(length)
        self.requests += 1
        return True


@asynccontextmanager
async def serving(answer: Callable[[Server, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[Server]:
    """RawResponse every request with `answer`, which may close the connection."""
    server = Server()
    handlers: set[asyncio.Task[Any] | None] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())
        server.connections += 1
        try:
            while not writer.is_closing() and await server.read(reader):
                await answer(server, writer)
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        for handler in handlers:
            assert handler is not None
            handler.cancel()
        await asyncio.gather(*(handler for handler in handlers if handler), return_exceptions=True)


def session(url: str, **options: Any) -> TeakSession:
    options.setdefault("timeout", Timeout(connect=1, response=0.3))
    options.setdefault("retry", RetryPolicy(max_attempts=2, initial_wait=0.001))
    return TeakSession("1", SECRET, base_url=url, **options)


def saying(data: bytes, *, then_close: bool = True) -> Callable[[Server, asyncio.StreamWriter], Awaitable[None]]:
    async def answer(server: Server, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if then_close:
            writer.close()

    return answer


@pytest.mark.parametrize("count", [*range(0, len(ANSWER), 7), len(ANSWER) - 1])
async def test_a_connection_closed_at_any_byte_leaves_the_fate_unknown(count: int) -> None:
    """Wherever the answer breaks off, the identify may have been done, and is sent once."""
    async with serving(saying(ANSWER[:count])) as server, session(server.url) as teak:
        with pytest.raises(ConnectionLost) as lost:
            await teak.identify("p1", country_code="US")
    assert (lost.value.delivery, server.requests) == (Delivery.UNKNOWN, 1)


UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@pytest.mark.parametrize("given", [False, True], ids=["own pool", "http="])
@pytest.mark.parametrize(
    ("before", "status"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n", 201),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n", 201),
        (UPGRADE, 101),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 101),
        (b"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 0\r\n\r\n", 101),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + UPGRADE, 101),
    ],
)
async def test_a_response_that_announces_another(before: bytes, status: int, *, given: bool) -> None:
    """What is interim is passed over; a switch to another protocol is none, and no response follows it."""
    answer = saying(before + (ANSWER if status == 201 else b""), then_close=False)
    async with (
        serving(answer) as server,
        aiohttp.ClientSession() as http,
        session(server.url, http=http if given else None) as teak,
    ):
        if status == 201:
            assert (await teak.identify("example_user", country_code="US")).session_id
        else:
            with pytest.raises(UnexpectedResponse) as switched:
                await teak.identify("example_user", country_code="US")
            assert (switched.value.status, switched.value.delivery) == (101, Delivery.UNKNOWN)
    assert server.requests == 1


async def test_what_each_method_says_of_its_body() -> None:
    """A read has none and says nothing of it; a DELETE without one says so, since some servers wait for one."""
    heads: list[dict[bytes, bytes]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, *lines = head.strip().split(b"\r\n")
        heads.append({b"method": method.split()[0], **dict(line.split(b": ", 1) for line in lines)})
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listening, session(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}") as teak:
        for call in (teak.email.remove_address, teak.desktop_push.status):
            with pytest.raises(TeakError):
                await call("p1")
        with pytest.raises(TeakError):
            await teak.identify("p1", country_code="US")
    delete, read, post = heads[0], next(head for head in heads if head[b"method"] == b"GET"), heads[-1]
    assert (delete[b"method"], delete[b"Content-Length"], b"Content-Type" in delete) == (b"DELETE", b"0", False)
    assert {b"Content-Length", b"Content-Type"}.isdisjoint(read)
    assert (post[b"method"], post[b"Content-Type"]) == (b"POST", b"application/json")
    assert int(post[b"Content-Length"]) > 0


def test_a_write_that_the_system_refuses_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of it no byte went out, so even an identify is sent again. On asyncio's own loop, since uvloop writes later."""
    prepare_write = Exchange.prepare_write

    def refuse_first(exchange: Exchange, connection: ConnectionWatch, now: float) -> None:
        prepare_write(exchange, connection, now)
        if connection.requests == 1 and not refused:
            refused.append(exchange)
            plain = connection.transport.get_extra_info("socket")
            with socket.socket(fileno=os.dup(plain.fileno())) as own:
                own.shutdown(socket.SHUT_WR)

    async def main() -> None:
        async with serving(saying(ANSWER, then_close=False)) as server, session(server.url) as teak:
            assert (await teak.identify("example_user", country_code="US")).session_id
        assert server.requests == 1

    refused: list[Exchange] = []
    monkeypatch.setattr(Exchange, "prepare_write", refuse_first)
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())
    assert [exchange.unsent for exchange in refused] == [True]


async def test_one_permit_is_one_request_on_the_wire() -> None:
    """A GET on a kept connection that dies is sent again by us, with a permit of its own, and not by aiohttp."""

    async def answer(server: Server, writer: asyncio.StreamWriter) -> None:
        if server.requests == 1:
            writer.write(STATUS_ANSWER)
        else:
            writer.transport.abort()

    async with serving(answer) as server, session(server.url) as teak:
        await teak.desktop_push.status("example_user")
        with pytest.raises(ConnectionLost) as lost:
            await teak.desktop_push.status("example_user")
        path = "/v2/desktop_push/subscription_status"
        assert (server.requests, lost.value.attempts, teak.rates[path].in_window) == (3, 2, 3)


async def test_a_kept_connection_closed_while_idle_is_not_used() -> None:
    """What the server closed before we write is found out without sending anything into it."""
    async with serving(saying(ANSWER)) as server, session(server.url) as teak:
        for number in range(5):
            await teak.identify(f"p{number}", country_code="US")
            await asyncio.sleep(0.01)
    assert (server.requests, server.connections) == (5, 5)


async def test_no_answer_in_time_is_unknown() -> None:
    """A server that reads and says nothing leaves the fate unknown after the time for answering."""
    async with serving(saying(b"", then_close=False)) as server, session(server.url) as teak:
        with pytest.raises(TimedOut) as late:
            await teak.identify("p1", country_code="US")
    assert (late.value.delivery, server.requests) == (Delivery.UNKNOWN, 1)


async def test_an_answer_that_never_ends_is_unknown() -> None:
    """A server that keeps sending a byte now and then is left after the whole time, too."""

    async def drip(server: Server, writer: asyncio.StreamWriter) -> None:
        writer.write(ANSWER[:-50])
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.1)

    async with serving(drip) as server, session(server.url, timeout=Timeout(connect=0.2, response=0.2)) as teak:
        with pytest.raises((TimedOut, UnexpectedResponse)) as late:
            await teak.identify("p1", country_code="US")
    assert late.value.delivery is Delivery.UNKNOWN


@pytest.mark.parametrize(
    "answer",
    [
        b"not HTTP at all\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 201 Created\r\nContent-Length: nine\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        b"HTTP/1.1 201 Created\r\n\r\n<html>a portal</html>",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        b"\x00" * 100,
    ],
)
async def test_garbage_is_unknown(answer: bytes) -> None:
    """An answer that is not Teak's says nothing about the call, which is not repeated."""
    async with serving(saying(answer)) as server, session(server.url) as teak:
        with pytest.raises(TeakError) as failed:
            await teak.identify("p1", country_code="US")
    assert (failed.value.delivery, server.requests) == (Delivery.UNKNOWN, 1)


async def test_a_huge_answer_is_not_read_to_its_end() -> None:
    """An answer without end is cut off, whatever it was going to say."""
    sent = 0

    async def flood(server: Server, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n")
        part = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        try:
            while True:
                writer.write(part)
                await writer.drain()
                sent += 0x10000
        except ConnectionError:
            writer.close()

    async with serving(flood) as server, session(server.url, timeout=Timeout(response=5)) as teak:
        with pytest.raises(UnexpectedResponse) as failed:
            await teak.identify("p1", country_code="US")
    assert failed.value.delivery is Delivery.UNKNOWN
    assert sent < 16 * MAX_BODY


async def test_a_server_that_answers_before_it_has_read() -> None:
    """The rest of the request is not sent, no call follows it on the connection, and the session closes at once."""
    connections: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        if len(connections) == 1:
            writer.transport.pause_reading()  # type: ignore[attr-defined] # a transport of sockets has it
        writer.write(ANSWER)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        teak = session(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=Timeout(response=WAIT))
        async with asyncio.timeout(WAIT), teak:
            for user in ("x" * 8_000_000, "example_user"):
                await teak.identify(user, country_code="US")
        for writer in connections:
            writer.close()
    assert len(connections) == 2


@pytest.mark.parametrize("given", [True, False], ids=["http=", "own pool"])
async def test_an_agent_that_traces_aiohttp(monkeypatch: pytest.MonkeyPatch, *, given: bool) -> None:
    """What an observability agent adds to every session of aiohttp changes no call, and sees those of a caller's session."""
    seen: list[tuple[str, int]] = []

    async def look(http: aiohttp.ClientSession, context: Any, ended: aiohttp.TraceRequestEndParams) -> None:
        seen.append((ended.method, ended.response.status))

    made = aiohttp.ClientSession.__init__

    def make(self: aiohttp.ClientSession, *args: Any, **kwargs: Any) -> None:
        traces = aiohttp.TraceConfig()
        traces.on_request_end.append(look)
        made(self, *args, trace_configs=[traces], **kwargs)

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", make)

    async def answer(server: Server, writer: asyncio.StreamWriter) -> None:
        writer.write(STATUS_ANSWER if server.requests == 2 else ANSWER)

    async with (
        serving(answer) as server,
        aiohttp.ClientSession() as http,
        session(server.url, http=http if given else None) as teak,
    ):
        await teak.identify("example_user", country_code="US")
        await teak.desktop_push.status("example_user")
    # The address of a read has the secret, so it is well that no agent sees the session's own.
    assert seen == ([("POST", 201), ("GET", 200)] if given else [])
    assert (server.requests, server.connections) == (2, 1)


async def refusing() -> str:
    """An address where nobody listens."""
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"127.0.0.1:{port}"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_connection_is_not_sent(scheme: str) -> None:
    """Refused connections were never sent."""
    async with session(f"{scheme}://{await refusing()}") as teak:
        with pytest.raises(ConnectFailed) as failed:
            await teak.identify("p1", country_code="US")
    assert failed.value.delivery is Delivery.NOT_SENT


async def test_tls_that_fails_is_not_sent() -> None:
    """A server that hangs up on the handshake, or never answers it, got no request."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"what?\r\n")
        writer.close()
        await writer.wait_closed()

    listening = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with listening, session(f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}") as teak:
        with pytest.raises(ConnectFailed) as failed:
            await teak.identify("p1", country_code="US")
    assert failed.value.delivery is Delivery.NOT_SENT
    async with serving(saying(b"")) as server, session(server.url.replace("http", "https")) as teak:
        with pytest.raises(TimedOut) as late:
            await teak.identify("p1", country_code="US")
    assert (late.value.delivery, server.requests) == (Delivery.NOT_SENT, 0)


async def test_a_name_that_does_not_exist_is_not_sent() -> None:
    """Without an address nothing goes out."""
    async with session("http://no-such-host.invalid") as teak:
        with pytest.raises(ConnectFailed) as failed:
            await teak.identify("p1", country_code="US")
    assert failed.value.delivery is Delivery.NOT_SENT


async def test_connecting_for_too_long_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that takes longer than its time was never used."""

    async def forever(*args: Any, **kwargs: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("aiohttp.TCPConnector._create_direct_connection", forever)
    async with session("http://127.0.0.1:1", timeout=Timeout(connect=0.05)) as teak:
        with pytest.raises(TimedOut) as late:
            await teak.identify("p1", country_code="US")
    assert (late.value.delivery, late.value.attempts) == (Delivery.NOT_SENT, 2)


FAILURES: dict[str, bytes] = {
    "closed": b"",
    "html": b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n",
    "echo": b'HTTP/1.1 403 No\r\nContent-Length: 58\r\n\r\n{"status":"error","errors":{"x":["canary/secret+key=31"]}}',
    "moved": b"HTTP/1.1 302 Found\r\nLocation: /v2?secret_key=canary%2Fsecret%2Bkey%3D31\r\nContent-Length: 0\r\n\r\n",
    "garbage": b"no HTTP\r\n\r\n",
}


def everything_said(error: BaseException) -> str:
    """All that a log or an error reporter could show of an error but this file's own frames."""
    parts = []
    seen: BaseException | None = error
    while seen is not None:
        frames = seen.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
            frames = frames.tb_next
        shown = traceback.TracebackException(type(seen), seen, frames, capture_locals=True)
        parts += [str(seen), repr(seen), repr(seen.args), repr(vars(seen)), *shown.format()]
        seen = seen.__cause__ or seen.__context__
    return "\n".join(parts)


@pytest.mark.parametrize("answer", FAILURES.values(), ids=FAILURES)
async def test_no_error_tells_the_secret(answer: bytes) -> None:
    """Whatever went wrong with a read, whose address has the secret in it, the error does not show it in any corner."""
    async with serving(saying(answer)) as server, session(server.url) as teak:
        with pytest.raises(TeakError) as failed:
            await teak.desktop_push.status("p1")
    shown = everything_said(failed.value)
    assert "canary" not in shown
    assert failed.value.__cause__ is None
    assert failed.value.__context__ is None


async def test_no_connection_tells_no_secret() -> None:
    """Neither does an error of connecting."""
    async with session(f"http://{await refusing()}") as teak:
        with pytest.raises(ConnectFailed) as failed:
            await teak.desktop_push.status("p1")
    assert "canary" not in everything_said(failed.value)


def test_several_headers_of_one_name() -> None:
    """None of them is lost, and each is cleansed."""
    sent = CIMultiDict([("Retry-After", "2"), ("retry-after", "s3cret"), ("X-Other", "1")])
    headers = RedactedHeaders(CIMultiDictProxy(sent), lambda text: text.replace(b"s3cret", b"[secret]"))
    assert headers["RETRY-AFTER"] == "2, [secret]"
    assert dict(headers) == {"Retry-After": "2, [secret]"}
    assert headers.get("Date") is None
