"""The session's own connection pool: a request is written at once with its body, and its response is read whole.

Theory of operation. aiohttp connects and parses as ever. Its `ClientSession` is left out: a call has no use for its
redirects, cookies, timeouts, middlewares and traces, which take half of its processor time. One `aiohttp.ClientRequest` for the
whole session says where connections go, and has the headers that all requests have in common. An `Exchange` knows its
connection and the instant before its first byte.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, TypeAlias

import aiohttp
from aiohttp import hdrs
from multidict import MultiMapping
from yarl import URL

from teak_async._api.codec import Message

from .connections import Connections
from .exchange import Exchange
from .proxy import Proxy

MAX_BODY = 1 << 20
"""Bytes of a response that are read at most; Teak's have a few hundred."""

Received: TypeAlias = tuple[int, MultiMapping[str], bytes]
"""A response: its status, its headers, and its body, which is empty where it is longer than `MAX_BODY`."""


class Pool:
    """The connections of one session, on the running loop.

    Args:
        base: the server's address.
        headers: those of each request.
        connect: seconds for connecting.
        tls: the context for https, when it is not the system's.
        proxy: through which connections go.
    """

    def __init__(
        self, base: URL, headers: Mapping[str, str], connect: float, tls: ssl.SSLContext | None, proxy: Proxy | None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connections = Connections(tls)
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect)
        self._prefix = base.raw_path.rstrip("/")
        through: dict[str, Any] = {}
        if proxy is not None:
            through = {"proxy": proxy.url, "proxy_headers": {**headers, **proxy.headers}}
            if base.scheme == "http":
                # Without a tunnel the request itself goes to the proxy, which wants the whole address; a tunnel's server
                # must not see what is for the proxy.
                self._prefix = str(base.with_user(None)).rstrip("/")
                headers = {**headers, **proxy.headers}
        self._where = aiohttp.ClientRequest(hdrs.METH_GET, base, headers=headers, loop=self._loop, **through)
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in self._where.headers.items())

    async def exchange(self, message: Message, exchange: Exchange) -> Received:
        """Send a request and receive its response."""
        connections = self._connections
        watch = connections.take_idle() or await connections.open(self._where, self._timeout)
        try:
            exchange.prepare_write(watch, self._loop.time())
            watch.transport.write(self._bytes_of(message))
            exchange.note_refusal()
            head, content = await watch.protocol.read()
            while 100 <= head.code < 200 and head.code != 101:
                head, content = await watch.protocol.read()  # the one before announced it
            body = await read_body(content)
            exchange.record_response(head.headers, body or b"")
        except BaseException:
            watch.connection.close()
            raise
        if body is None:
            watch.connection.close()
        else:
            connections.keep(watch)
        return head.code, head.headers, body or b""

    def _bytes_of(self, message: Message) -> bytes:
        body = message.body or b""
        head = f"{message.method} {self._prefix}{message.target} HTTP/1.1\r\n{self._headers}"
        if message.method != "GET":
            head += f"Content-Length: {len(body)}\r\n"
        if body:
            head += "Content-Type: application/json\r\n"
        return f"{head}\r\n".encode() + body

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.close()

    def abandon(self) -> None:
        """Close the connections of a session that nobody closed."""
        self._connections.abandon()


async def read_body(content: aiohttp.StreamReader) -> bytes | None:
    """Read the body of a response; `None` for one that is longer than `MAX_BODY`.

    Half of it says nothing, and may end within the secret, where it would not be redacted.
    """
    if content.is_eof():
        # It came whole with the headers, as Teak's responses do.
        return content.read_nowait()
    parts: list[bytes] = []
    size = 0
    async for part in content.iter_any():
        parts.append(part)
        size += len(part)
        if size > MAX_BODY:
            return None
    return b"".join(parts)
