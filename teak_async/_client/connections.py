"""The connections of a session's own pool: each is watched, so what the server did to an idle one is known before use.

Theory of operation. aiohttp connects, and parses what comes. A `ConnectionWatch` stands between the system's transport and
aiohttp's protocol, by asyncio's `set_protocol`. It passes on data that come while a request is on the wire. Data that come at
another time are no response: the connection is closed. `Connections` hands out watched ones only, and passes over those that
are spoiled or were idle for too long. Just before the first byte of a request the system is asked again if the loop may not
have read all data.

Rules of this module:

- All that depends on what aiohttp does not document is here and in `pool`: `ClientSession._loop`, `ClientRequest` without a
  session, with its `headers`, `TCPConnector.connect`, and `Connection.protocol` with what is called of it.
  A test names each of them and fails when it goes.
- aiohttp hands out each connection once, and idle ones are kept here. It would use the one that was idle for longest, so that
  all connections of a burst take turns from then on: with 500 of them a row cost a tenth more.
- A connection is used again only when the last byte that came on it was its response's, see `ConnectionWatch.record_response`.
"""

from __future__ import annotations

import asyncio
import errno
import select
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any

import aiohttp
from aiohttp import hdrs
from aiohttp.connector import Connection

from .keep_alive import KEEP_ALIVE, KeepAlive, read_keep_alive

_END_OF_HEAD = b"\r\n\r\n"
_NO_FILES = (errno.EMFILE, errno.ENFILE)


class UnusableConnection(Exception):
    """A kept connection turned out to be closed, or spoiled, before a byte was written."""


class NoFilesLeft(Exception):
    """The process may not open another connection."""


class ConnectionWatch(asyncio.Protocol):
    """One connection of the pool, between the system's transport and aiohttp's protocol.

    Args:
        connection: aiohttp's. To close it closes the transport, which first writes what it still has to.
        protocol: aiohttp's, which parses the responses. Of any type, since none is documented.
        transport: the system's.
        keep: what is known of how long the server keeps idle connections.

    Attributes:
        requests: the number that it has carried.
        spoiled: whether it may not be used again.
        received: whether anything came since the last request was written.
        error: what the system said when it was lost.
    """

    __slots__ = (
        "_age",
        "_asked",
        "_forward",
        "_idle_since",
        "_keep",
        "_last",
        "_most",
        "_readable",
        "_told",
        "connection",
        "ended",
        "error",
        "protocol",
        "requests",
        "spoiled",
        "transport",
    )

    def __init__(self, connection: Connection, protocol: Any, transport: asyncio.Transport, keep: KeepAlive) -> None:
        self.connection = connection
        self.protocol = protocol
        self.transport = transport
        self._keep = keep
        self._forward: Callable[[bytes], None] = protocol.data_received
        self._readable = _reader(transport)
        self._asked = self.spoiled = self.ended = False
        self._last = b""
        self._idle_since = self._age = 0.0
        self._told: float | None = None
        self._most: int | None = None
        self.requests = 0
        self.error: BaseException | None = None

    @property
    def received(self) -> bool:
        return bool(self._last)

    def data_received(self, data: bytes) -> None:
        """Pass on data while a request is on the wire; nothing else is a response."""
        if self._asked:
            self._last = data
            self._forward(data)
        else:
            self._end_idle()

    def eof_received(self) -> bool | None:
        """The server sends no more: FIN, or TLS's close_notify."""
        self._note_end()
        result: bool | None = self.protocol.eof_received()
        return result

    def pause_writing(self) -> None:
        """The system's buffer is full."""
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        """The system's buffer has room again."""
        self.protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.error = exc
        if exc is not None:
            self._note_end()
        self.spoiled = self.ended = True
        self.protocol.connection_lost(exc)

    def is_usable(self, now: float) -> bool:
        """Say whether it may be kept on, or used: nothing came on it, and its server keeps it for longer than it was idle."""
        return not self.spoiled and now - self._idle_since <= self._keep.usable_for(now, self._told)

    def ask(self, now: float) -> bool:
        """Say, right before a request is written, whether neither data nor an end came since the last response."""
        if self.spoiled or self.transport.is_closing():
            return False
        if self._keep.must_look(now) and self._has_to_read():
            self._end_idle()
            return False
        self._age = now - self._idle_since
        self._asked = True
        self._last = b""
        self.requests += 1
        return True

    def _has_to_read(self) -> bool:
        # On a new TLS connection the server's session tickets may be unread; they are no response.
        return self._readable is not None and (self.requests > 0 or not self._is_tls) and bool(self._readable())

    @property
    def _is_tls(self) -> bool:
        return self.transport.get_extra_info("ssl_object") is not None

    def has_refused(self) -> bool:
        """Say, right after the write, whether the system took no byte of it.

        asyncio closes a transport at once when the first `send` fails; nothing else has happened to this one meanwhile. A
        write that was taken in part, or is taken later (uvloop, TLS), is not seen here, and counts as sent.
        """
        return self.transport.is_closing() and not self.ended and not self._last and not self._is_tls

    def record_response(self, now: float, round_trip: float, body: bytes, headers: Mapping[str, str]) -> None:
        """Keep the connection after a response, unless more than the response came, or the server keeps it only briefly.

        The last bytes that came have to be the last of the response. aiohttp finds a whole second response by itself, but not
        the beginning of one.
        """
        last, keep = self._last, self._keep
        self._asked = False
        self._idle_since = now
        keep.learn_round_trip(now, round_trip)
        if (kept := headers.get(hdrs.KEEP_ALIVE)) is not None:
            self._told, more = read_keep_alive(kept)
            if more is not None:
                # Some servers count down, others repeat the whole.
                self._most = min(more if self._most is None else self._most, self.requests + more)
        # The usual case first: no `Keep-Alive` header, and a response in one piece.
        if (
            (self._told is not None or self._most is not None or keep.seen is not None or keep.most is not None)
            and (
                (self._most is not None and self.requests >= self._most)
                or keep.is_worn(now, self.requests)
                or keep.usable_for(now, self._told) <= 0
            )
        ) or not ((body and (last.endswith(body) or body.endswith(last))) or last.endswith(_END_OF_HEAD)):
            self.close()
        elif self.transport.get_write_buffer_size():
            self.close()  # the server answered before it had read the request, and may never read the rest

    def prepare(self) -> None:
        """Let go of the last response, and make the parser of the next one.

        Each has a parser of its own: aiohttp's takes the last trailer of one for a header of the next. A used one, and a body,
        are some twenty objects. On hundreds of idle connections the collector of garbage came to these again and again.
        """
        self._last = b""
        self.protocol.set_parser(None, None)  # whose part is to let go of the body
        self.protocol.set_response_params(read_until_eof=True, auto_decompress=False)

    def close(self) -> None:
        """Close the connection: no data on it belong to a call."""
        self.spoiled = True
        self.transport.abort()

    def _note_end(self) -> None:
        """Learn from the end of the connection, if it was idle or the request was on its way."""
        if self.requests and not self.ended:
            now = monotonic()
            if not self._asked:
                self._keep.learn_closing(now, now - self._idle_since, self.requests)
            elif not self._last and self.requests > 1:
                # The server had closed it before the request came there.
                late = self._age if self._keep.is_short(self._age) else self._age + self._keep.round_trip
                self._keep.learn_closing(now, late, self.requests - 1)
        self.ended = True
        if not self._asked:
            self.spoiled = True

    def _end_idle(self) -> None:
        """Close it after data that belong to no request."""
        self._note_end()
        self.close()


def _reader(transport: asyncio.Transport) -> Callable[[], object] | None:
    """Return a function that says whether the system has data, or the end of the connection, to read."""
    plain = transport.get_extra_info("socket")
    if plain is None:
        return None
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(plain.fileno(), select.POLLIN)
        return partial(poll.poll, 0)
    return lambda: select.select([plain.fileno()], [], [], 0)[0]


class Connections:
    """The open connections of a pool; on each that it hands out, the next data can only be the response.

    Args:
        tls: for https, when it is not the system's.
    """

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._keep = KeepAlive()
        self._connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=None, ssl=True if tls is None else tls)
        self._idle: deque[ConnectionWatch] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def take_idle(self) -> ConnectionWatch | None:
        """Take the idle connection that was used last; `None` where none can be used."""
        now = monotonic()
        while self._idle:
            watch = self._idle.pop()
            if watch.is_usable(now):
                return watch
            watch.connection.close()
        return None

    async def open(self, where: aiohttp.ClientRequest, timeout: aiohttp.ClientTimeout) -> ConnectionWatch:
        """Open a connection.

        Raises:
            NoFilesLeft: when the process may not open another one.
        """
        try:
            connection = await self._connector.connect(where, [], timeout)
        except aiohttp.ClientConnectorError as error:
            if error.errno not in _NO_FILES:
                raise
            raise NoFilesLeft(*error.os_error.args) from None
        protocol, transport = connection.protocol, connection.transport
        if transport is None or protocol is None or protocol.should_close:
            connection.close()
            raise aiohttp.ClientConnectionError("it ended, or the server spoke, before anything was sent")
        watch = ConnectionWatch(connection, protocol, transport, self._keep)
        watch.prepare()
        transport.set_protocol(watch)
        return watch

    def keep(self, watch: ConnectionWatch) -> None:
        """Keep a connection for the next request, after a whole response."""
        if self._connector.closed or watch.spoiled or watch.protocol.should_close:
            watch.connection.close()
            return
        watch.prepare()
        self._idle.append(watch)
        if self._timer is None:
            self._timer = self._loop.call_later(KEEP_ALIVE, self._close_old)

    def _close_old(self) -> None:
        self._timer = None
        now = monotonic()
        idle, self._idle = self._idle, deque()
        for watch in idle:
            if watch.is_usable(now):
                self.keep(watch)
            else:
                watch.connection.close()

    async def close(self) -> None:
        """Close all of them."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._idle:
            self._idle.pop().connection.release()  # aiohttp closes them as its own
        await self._connector.close()

    def abandon(self) -> None:
        """Close the connections of a session that nobody closed."""
        with suppress(StopIteration):  # its first step closes everything, and there is no loop to wait on
            self.close().send(None)


def loop_of(http: aiohttp.ClientSession) -> asyncio.AbstractEventLoop | None:
    """Return the loop of a caller's session; its public property is deprecated, and warns."""
    loop: asyncio.AbstractEventLoop | None = getattr(http, "_loop", None)
    return loop
