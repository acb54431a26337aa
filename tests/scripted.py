"""Servers and a proxy of raw sockets, each in a thread of its own, which do what a script says. Independent of the client."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

STATES = {"email": {"state": "opt_in"}, "push": {"state": "opt_in"}, "sms": {"state": "opt_in"}}


def response(body: bytes, status: str = "201 Created", *headers: str) -> bytes:
    """Write a response."""
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def recorded(user: str) -> bytes:
    """The body of Teak's response to an identify; its session is named for the player."""
    return json.dumps({"session_id": f"of {user}", "country_code": "US", "opt_out_states": STATES}).encode()


def status_of(user: str) -> bytes:
    """The body of Teak's response to a read."""
    status = {"status": "ok", "channel": "desktop_push", "user_id": user, "state": "opt_in", "reachable": False}
    return json.dumps(status | {"categories": {}}).encode()


class Peer:
    """One connection, as its server sees it.

    Attributes:
        number: which connection of its server's it is, from 1.
        served: requests that it has brought.
        target: the last request's target.
        head: the last request's head.
    """

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.number = server.connections
        self.served = 0
        self.target = ""
        self.head = b""

    async def read(self) -> str | None:
        """Read a request, and name its player; `None` when the client has gone."""
        try:
            self.head = await self.reader.readuntil(b"\r\n\r\n")
            body = await self.reader.readexactly(_length(self.head))
        except (asyncio.IncompleteReadError, ConnectionError, OSError):
            return None
        self.served += 1
        self.target = self.head.split()[1].decode()
        user = json.loads(body)["user_id"] if body else parse_qs(urlsplit(self.target).query)["user_id"][0]
        self.server.users[user] += 1
        return str(user)

    def answer(self, user: str, *headers: str, more: bytes = b"") -> None:
        """Write Teak's response to the last request."""
        if self.head.startswith(b"GET"):
            self.writer.write(response(status_of(user), "200 OK", *headers) + more)
        else:
            self.writer.write(response(recorded(user), "201 Created", *headers) + more)


Script: TypeAlias = Callable[[Peer], Awaitable[None]]


class Server:
    """A server that does with each connection what its script says.

    Attributes:
        users: how often each player's request was read.
        connections: how many were accepted.
    """

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        self.users: Counter[str] = Counter()
        self.connections = 0
        self.port = 0
        self.faults: list[BaseException] = []
        self._open: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        self.connections += 1
        try:
            await self._script(Peer(self, reader, writer))
        except (OSError, asyncio.CancelledError):
            pass  # the test is over, or cuts it
        except Exception as fault:  # noqa: BLE001 - the test is told in the end
            self.faults.append(fault)
        finally:
            del self._open[task]
            writer.close()

    async def start(self) -> asyncio.Server:
        """Listen, always on the same port."""
        listening = await asyncio.start_server(self._handle, "127.0.0.1", self.port, ssl=self._tls, backlog=1024)
        self.port = listening.sockets[0].getsockname()[1]
        return listening

    async def cut(self) -> None:
        """End all connections at once."""
        open_now = dict(self._open)
        for writer in open_now.values():
            writer.transport.abort()
        if open_now:
            # Most scripts end with their connection; a task cancelled while it connects would leave a socket behind.
            _, left = await asyncio.wait(open_now, timeout=0.5)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)


@asynccontextmanager
async def reach(host: str, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to another server, and hang up in the end."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def carry(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes both ways until one side ends."""

    async def one_way(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 16):
                sink.write(data)

    ways = [asyncio.create_task(one_way(peer.reader, writer)), asyncio.create_task(one_way(reader, peer.writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()


@contextmanager
def running(*servers: Server) -> Iterator[Callable[[Callable[[], Awaitable[Any]]], None]]:
    """Run servers in a thread; what is given does something there, and waits for it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    listening: dict[Server, asyncio.Server] = {}

    def do(work: Callable[[], Awaitable[Any]]) -> None:
        async def act() -> None:
            await work()

        asyncio.run_coroutine_threadsafe(act(), loop).result(10)

    async def start() -> None:
        for server in servers:
            listening[server] = await server.start()

    async def stop() -> None:
        for server, socket in listening.items():
            socket.close()
            await server.cut()
        await asyncio.sleep(0.02)  # what was closed is gone a few turns later

    do(start)
    try:
        yield do
    finally:
        do(stop)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
    assert [fault for server in servers for fault in server.faults] == []


async def answering(peer: Peer) -> None:
    """Answer whatever comes."""
    while (user := await peer.read()) is not None:
        peer.answer(user)


class Forwarder(Server):
    """A forward proxy: CONNECT tunnels and plain requests in absolute form.

    Args:
        user: who may use it, as `name:password`; anybody when left out.
        refusal: what it says to CONNECT instead of making a tunnel.

    Attributes:
        heads: the heads of what it was asked.
    """

    def __init__(self, user: str = "", refusal: bytes = b"", tls: ssl.SSLContext | None = None) -> None:
        super().__init__(self._forward, tls)
        self._user = user
        self._refusal = refusal
        self.heads: list[bytes] = []

    async def _forward(self, peer: Peer) -> None:
        try:
            head = await peer.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        self.heads.append(head)
        token = base64.b64encode(self._user.encode())
        if self._user and b"Proxy-Authorization: Basic " + token not in head:
            peer.writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        if self._refusal:
            peer.writer.write(self._refusal)
            return
        method, target, _ = head.split(b" ", 2)
        if method != b"CONNECT":
            await self._relay(peer, head)
            return
        host, _, port = target.decode().rpartition(":")
        try:
            async with reach(host, int(port)) as (reader, writer):
                peer.writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await carry(peer, reader, writer)
        except ConnectionRefusedError:
            peer.writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")

    async def _relay(self, peer: Peer, head: bytes) -> None:
        """Pass on plain requests, each in the form that a server takes, and their responses."""
        parts = urlsplit(head.split()[1].decode())
        with suppress(asyncio.IncompleteReadError):
            async with reach(parts.hostname or "", parts.port or 80) as (reader, writer):
                while True:
                    body = await peer.reader.readexactly(_length(head))
                    writer.write(head.replace(f"{parts.scheme}://{parts.netloc}".encode(), b"", 1) + body)
                    said = await reader.readuntil(b"\r\n\r\n")
                    peer.writer.write(said + await reader.readexactly(_length(said)))
                    head = await peer.reader.readuntil(b"\r\n\r\n")
                    self.heads.append(head)


def _length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    return next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
