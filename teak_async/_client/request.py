"""A request on the session's own connection pool: written at once, and its response read whole.

Theory of operation. aiohttp's session makes requests by a class that it is given, and passes the caller's `data` to each: the
`Exchange` here. So the exchange knows its connection and the instant before the first byte. A call does not pay for what it has
no use for: a task that writes the body, a response that is read later, a merge of headers. aiohttp connects, serializes and
parses as ever.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

import aiohttp
from aiohttp import hdrs
from aiohttp.connector import Connection
from aiohttp.helpers import TimerNoop
from aiohttp.http import StreamWriter
from multidict import CIMultiDict

from .connections import ConnectionWatch
from .exchange import Exchange

MAX_BODY = 1 << 20
"""Bytes of a response that are read at most; Teak's have a few hundred."""
_WANTS_WRITER = "stream_writer" in signature(aiohttp.ClientResponse).parameters
"""From aiohttp 3.14 on."""
_NO_TIMER = TimerNoop()
"""`ResponseTimer` bounds the time of all exchanges."""


class WatchedRequest(aiohttp.ClientRequest):
    """A request that is written in one step with its body, and notes it in its exchange."""

    exchange: Exchange | None = None
    watch: ConnectionWatch | None = None

    def update_headers(self, headers: Any) -> None:
        """Take the session's headers, of which aiohttp has made a copy for this request; the host is among them."""
        if type(headers) is CIMultiDict and hdrs.HOST in headers:
            self.headers = headers
        else:
            super().update_headers(headers)

    def update_body_from_data(self, body: Any, _stacklevel: int = 3) -> None:
        """Take the exchange, which has the body."""
        if not isinstance(body, Exchange):
            super().update_body_from_data(body, _stacklevel)
            return
        self.exchange = body
        if body.body is not None:
            self.headers[hdrs.CONTENT_TYPE] = "application/json"
            self.headers[hdrs.CONTENT_LENGTH] = str(len(body.body))
        elif self.method not in self.GET_METHODS:
            self.headers[hdrs.CONTENT_LENGTH] = "0"

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write the request; nothing here waits."""
        exchange, watch, protocol = self.exchange, self.watch, conn.protocol
        if exchange is None or watch is None or protocol is None or conn.transport is None:
            raise aiohttp.ClientConnectionError  # it was lost just after it was made: the call is unsent
        # A proxy without a tunnel wants the whole address.
        target = str(self.url) if self.proxy is not None and not self.is_ssl() else self.url.raw_path_qs
        writer = StreamWriter(protocol, self.loop)
        # Made before the write: where a release of aiohttp wants it made otherwise, nothing is sent.
        response = WatchedResponse(
            self.method,
            self.original_url,
            writer=None,
            continue100=None,
            timer=_NO_TIMER,
            request_info=self.request_info,
            traces=[],
            loop=self.loop,
            session=self.session,
            **({"stream_writer": writer} if _WANTS_WRITER else {}),
        )
        await writer.write_headers(f"{self.method} {target} HTTP/1.1", self.headers)
        exchange.prepare_write(watch, self.loop.time())
        await writer.write(exchange.body or b"", drain=False)
        exchange.note_refusal()
        return response


class WatchedResponse(aiohttp.ClientResponse):
    """A response that is read whole before anybody sees it, after which its connection is free.

    Attributes:
        body: at most `MAX_BODY` bytes; empty where it is longer.
    """

    body = b""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}>"  # aiohttp's has the URL, which has the secret

    async def start(self, connection: Connection) -> WatchedResponse:
        """Read the response. Its connection is free as soon as the body is whole."""
        await super().start(connection)
        body = await read_body(self.content)
        if body is None:
            self.close()
        else:
            self.body = body
        return self


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
