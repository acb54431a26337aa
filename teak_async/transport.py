"""aiohttp: a message goes out, an answer comes back, and aiohttp's exceptions become ours.

Rules of this module:

- One exchange is one request on the wire. aiohttp sends a GET again by itself when a kept connection turns out dead; the
  exchange is a client middleware, turns every exception into ours before aiohttp sees it, and so there is nothing it
  would retry. Redirects are not followed: aiohttp would carry the secret to wherever they point.
- Foreign exceptions end here. Ours are raised outside of the `except` block, because an exception remembers the one
  during which it was raised, and aiohttp's remember the address that has the secret in its query.
- On a connection pool of our own we know the instant before the first byte is written. So "not sent" is known, not
  guessed, and round trips are measured without the time for connecting. On a caller's `aiohttp.ClientSession` the kind of
  exception has to tell: less is known to be unsent, and no credit is earned.
- An answer is small. One that is larger than `MOST_BODY` is not read to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakSet

import aiohttp
from attrs import field, frozen
from attrs.validators import gt
from yarl import URL

from .errors import ConnectFailed, ConnectionLost, Delivery, TimedOut, TransportError
from .wire import Message

HEADERS = ("Content-Type", "Date", "Location", "Retry-After")
"""The headers of an answer that are read."""
MOST_BODY = 1 << 20
"""Bytes of an answer that are read at most; Teak's have a few hundred."""
KEEP_ALIVE = 15.0
"""Seconds that an idle connection is kept: less than servers keep theirs, so that they seldom close one as we write."""


@frozen
class Timeout:
    """How long the network may take. The wait for a permit is not part of it.

    Attributes:
        connect: seconds for name resolution, connecting and TLS.
        answer: seconds from sending to the whole answer.
    """

    connect: float = field(default=10.0, validator=gt(0))
    answer: float = field(default=30.0, validator=gt(0))


@frozen
class Answer:
    """What came back.

    Attributes:
        status: HTTP status.
        headers: those of `HEADERS` that came, cleansed.
        body: cleansed.
        round_trip: seconds from the first byte out to the last byte in; 0 where that is not known.
        warm: whether its connection had carried a request before.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    round_trip: float
    warm: bool


class Exchange:
    """What is known of one request while it is on its way. It is also the middleware that watches it.

    Attributes:
        exact: whether `sent_at` can be known, i.e. the connection pool is ours.
        sent_at: the loop's time just before the first byte; `None` before that.
        warm: whether the connection had carried an answer before.
        begun: whether its task has run at all.
        on_write: is told when the request is about to be written.
        unsent: certainly no byte has left, nor will without the exchange going on.
    """

    __slots__ = ("_refused_write", "begun", "exact", "on_write", "sent_at", "warm")

    def __init__(self, *, exact: bool) -> None:
        self.exact = exact
        self.on_write: Callable[[float], None] | None = None
        self.begun = False
        self.sent_at: float | None = None
        self.warm = False
        self._refused_write = False

    @property
    def unsent(self) -> bool:
        return not self.begun or (self.exact and (self.sent_at is None or self._refused_write))

    def writing(self, now: float, transport: asyncio.Transport | None) -> None:
        """The request is about to be written: said once when its connection is had, and again just before the first byte."""
        self.sent_at = now
        if self.on_write is not None:
            self.on_write(now)
        self._refused_write = transport is None or transport.is_closing()

    async def __call__(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if isinstance(request, _Request):
            request.exchange = self
        try:
            return await handler(request)
        except Exception as error:  # noqa: BLE001 - whatever it was, it ended the exchange
            failure = self.explain(error)
        raise failure

    def explain(self, error: Exception) -> TransportError:
        """Turn what aiohttp or the system raised into ours, with the delivery as far as it is known."""
        if isinstance(error, TransportError):
            return error
        # Class names and system messages only: aiohttp's own texts carry the address, and so the secret.
        cause: BaseException = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        what = (
            f"{type(cause).__name__}: {cause.strerror}"
            if isinstance(cause, OSError) and cause.strerror
            else type(cause).__name__
        )
        connecting = self.unsent or isinstance(
            error,
            aiohttp.ClientConnectorError
            | aiohttp.ConnectionTimeoutError
            | aiohttp.ServerFingerprintMismatch
            | aiohttp.ClientHttpProxyError,
        )
        if isinstance(error, TimeoutError):
            if connecting:
                return TimedOut("no connection in the time for connecting", delivery=Delivery.NOT_SENT)
            return TimedOut("no answer in the time for answering", delivery=Delivery.UNKNOWN)
        if connecting:
            return ConnectFailed(f"no connection: {what}")
        return ConnectionLost(f"the connection was lost before the answer was whole: {what}")


_USED: WeakSet[Any] = WeakSet()
"""The connections that have carried a request, of every session."""


class _Request(aiohttp.ClientRequest):
    """A request that tells its exchange when it is written."""

    exchange: Exchange | None = None

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        if self.exchange is not None:
            self.exchange.warm = conn.protocol in _USED
            _USED.add(conn.protocol)
            self.exchange.writing(self.loop.time(), conn.transport)
        return await super().send(conn)

    async def write_bytes(self, writer: Any, conn: aiohttp.connector.Connection, *args: Any, **kwargs: Any) -> None:
        if self.exchange is not None:
            self.exchange.writing(self.loop.time(), conn.transport)
        await super().write_bytes(writer, conn, *args, **kwargs)


class Transport:
    """Sends messages to one server."""

    def __init__(
        self,
        base_url: str,
        timeout: Timeout,
        user_agent: str,
        cleanse: Callable[[bytes], bytes],
        http: aiohttp.ClientSession | None,
    ) -> None:
        self._base = _checked(base_url)
        self._cleanse = cleanse
        self._timeout = timeout
        self._connecting = aiohttp.ClientTimeout(total=None, connect=timeout.connect)
        # An answer is shorter than its compression would save; uncompressed, no bomb can hide in it.
        self._headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": user_agent}
        self._post_headers = {**self._headers, "Content-Type": "application/json"}
        self._http = http
        self._ours = http is None

    def open(self) -> None:
        """Make the connection pool, on the running loop."""
        if self._ours:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
                cookie_jar=aiohttp.DummyCookieJar(),
                request_class=_Request,
            )

    async def close(self) -> None:
        """Close the connection pool, unless it is the caller's."""
        if self._ours and self._http is not None:
            await self._http.close()

    def begin(self) -> Exchange:
        """Make the record of the next exchange."""
        return Exchange(exact=self._ours)

    async def send(self, message: Message, exchange: Exchange) -> Answer:
        """Send one request and read its answer.

        Raises:
            TransportError: when no whole answer came.
        """
        failure: TransportError
        try:
            return await self._exchange(message, exchange)
        except Exception as error:  # noqa: BLE001 - as above
            failure = exchange.explain(error)
        failure.__context__ = None
        raise failure.with_traceback(None)

    async def _exchange(self, message: Message, exchange: Exchange) -> Answer:
        # In a frame of its own, because aiohttp's response shows the address, and the frame of `send` is seen in errors.
        assert self._http is not None
        if self._http.closed:
            raise ConnectFailed("the aiohttp.ClientSession that was given as http is closed")
        loop = asyncio.get_running_loop()
        timeout = self._timeout
        async with asyncio.timeout(timeout.connect + timeout.answer) as limit:
            exchange.on_write = lambda now: limit.reschedule(now + timeout.answer)
            response = await self._http.request(
                message.method,
                self._url(message),
                data=message.body,
                headers=self._headers if message.body is None else self._post_headers,
                timeout=self._connecting,
                middlewares=(exchange,),
                allow_redirects=False,
                raise_for_status=False,
                auto_decompress=False,
            )
            body = self._cleanse(await _read(response))
        round_trip = 0.0 if exchange.sent_at is None else loop.time() - exchange.sent_at
        return Answer(response.status, self._told(response.headers), body, round_trip, exchange.warm)

    def _told(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {name: self._cleanse(headers[name].encode(errors="replace")).decode() for name in HEADERS if name in headers}

    def _url(self, message: Message) -> URL:
        address = self._base + message.path
        return URL(f"{address}?{message.query}" if message.query else address, encoded=True)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    if response.content_length is not None and response.content_length <= MOST_BODY:
        return await response.read()
    parts: list[bytes] = []
    size = 0
    try:
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > MOST_BODY:
                break
        else:
            return b"".join(parts)
    except BaseException:
        response.close()
        raise
    response.close()
    return b"".join(parts)


def _checked(base_url: str) -> str:
    try:
        url = URL(base_url)
    except (ValueError, TypeError):
        url = URL()
    if url.scheme not in ("http", "https") or not url.host or url.query_string or url.fragment:
        raise ValueError(f"base_url must be like https://api.gocarrot.com, not {base_url!r}")
    return str(url).rstrip("/")
