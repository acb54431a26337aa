"""aiohttp: a message goes out, an answer comes back, and aiohttp's exceptions become ours.

Rules of this module:

- One exchange is one request on the wire. aiohttp sends a GET again by itself when a kept connection turns out dead; for a
  GET the exchange is a client middleware, turns every exception into ours before aiohttp sees it, and so there is nothing
  it would retry. Redirects are not followed: aiohttp would carry the secret to wherever they point.
- Foreign exceptions end here. Ours are raised outside of the `except` block, because an exception remembers the one
  during which it was raised, and aiohttp's remember the address that has the secret in its query.
- On a connection pool of our own we know the instant before the first byte is written. So "not sent" is known, not
  guessed, and round trips are measured without the time for connecting. On a caller's `aiohttp.ClientSession` the kind of
  exception has to tell: less is known to be unsent, and no credit is earned.
- An answer is small. One that is larger than `MAX_BODY` is not read to its end.
- What every call does is kept short: one timer for all exchanges, the headers once for the session, those of an answer read
  only where somebody asks. Each of these was measured (`python -m benchmarks cpu`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import aiohttp
from attrs import field, frozen
from attrs.validators import gt
from multidict import MultiMapping
from yarl import URL

from teak_async._api.codec import Message
from teak_async.errors import ConnectFailed, ConnectionLost, Delivery, TeakError, TimedOut

HEADERS = ("Content-Type", "Date", "Location", "Retry-After")
"""The headers of an answer that are read."""
MAX_BODY = 1 << 20
"""Bytes of an answer that are read at most; Teak's have a few hundred."""
KEEP_ALIVE = 15.0
"""Seconds that an idle connection is kept: less than servers keep theirs, so that they seldom close one as we write."""


@frozen
class Timeout:
    """How long the network may take. The wait for a permit is not part of it.

    Attributes:
        connect: seconds for name resolution, connecting and TLS.
        response: seconds from sending to the whole response.
    """

    connect: float = field(default=10.0, validator=gt(0))
    response: float = field(default=30.0, validator=gt(0))


class RedactedHeaders(Mapping[str, str]):
    """The headers of an answer, cleansed when they are read; most answers are understood without them."""

    __slots__ = ("_headers", "_redact")

    def __init__(self, headers: MultiMapping[str], redact: Callable[[bytes], bytes]) -> None:
        self._headers = headers
        self._redact = redact

    def __getitem__(self, name: str) -> str:
        # Several of one name mean the same as one with commas between.
        return self._redact(", ".join(self._headers.getall(name)).encode(errors="replace")).decode()

    def __iter__(self) -> Iterator[str]:
        return (name for name in HEADERS if name in self._headers)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@frozen
class RawResponse:
    """What came back.

    Attributes:
        status: HTTP status.
        headers: those that are read, cleansed.
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
        cancel: cancels the task that makes it.
        error: what it was interrupted with.
        unsent: certainly no byte has left, nor will without the exchange going on.
    """

    __slots__ = ("_refused_write", "_timer", "cancel", "error", "exact", "sent_at", "warm")

    def __init__(self, patience: ResponseTimer, *, exact: bool) -> None:
        self.exact = exact
        self._timer = patience
        self.cancel: Callable[[], object] | None = None
        self.error: TeakError | None = None
        self.sent_at: float | None = None
        self.warm = False
        self._refused_write = False

    def __deepcopy__(self, memo: object) -> Exchange:
        return self  # stand-ins for aiohttp in tests keep a copy of what was sent, and this leads to the whole loop

    @property
    def unsent(self) -> bool:
        return self.exact and (self.sent_at is None or self._refused_write)

    def writing(self, now: float, transport: asyncio.Transport | None) -> None:
        """The request is about to be written: said once when its connection is had, and again just before the first byte."""
        if self.sent_at is None:
            self._timer.watch(self, now)
        self.sent_at = now
        self._refused_write = transport is None or transport.is_closing()

    def begin(self) -> None:
        """It is about to be made."""
        if not self.exact:
            self._timer.watch(self, asyncio.get_running_loop().time())

    def expire(self) -> None:
        """Its time is up."""
        self.interrupt(self.translate_error(TimeoutError()))

    def interrupt(self, error: TeakError) -> None:
        """End it with an error, wherever it waits."""
        if self.cancel is not None:
            self.error = self.error or error
            self.cancel()

    def end(self) -> None:
        """It is over, whatever came of it."""
        self._timer.forget(self)
        self.cancel = None

    async def __call__(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if isinstance(request, _Request):
            request.exchange = self
        try:
            return await handler(request)
        except Exception as error:  # noqa: BLE001 - whatever it was, it ended the exchange
            failure = self.translate_error(error)
        raise failure

    def translate_error(self, error: Exception) -> TeakError:
        """Turn what aiohttp or the system raised into ours, with the delivery as far as it is known."""
        if isinstance(error, TeakError):
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


class ResponseTimer:
    """Ends exchanges that take too long. All have the same time, so the oldest is always the next: one timer does."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[Exchange, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, exchange: Exchange, now: float) -> None:
        """Give an exchange its time from now on."""
        self._due[exchange] = now + self._seconds
        if self._timer is None:
            self._look()

    def forget(self, exchange: Exchange) -> None:
        """An exchange is over."""
        self._due.pop(exchange, None)

    def close(self) -> None:
        """Watch nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._due:
            exchange, due = next(iter(self._due.items()))
            if due > loop.time():
                self._timer = loop.call_at(due, self._look)
                return
            del self._due[exchange]
            # After a stall of the loop the response may be in the socket already: one turn reads it, and one takes it.
            loop.call_soon(loop.call_soon, exchange.expire)


_USED: WeakSet[Any] = WeakSet()
"""The connections that have carried a request, of every session."""


class _Body(aiohttp.BytesPayload):
    """A body that knows its exchange, since aiohttp hands nothing else through to the request."""

    def __init__(self, body: bytes, exchange: Exchange) -> None:
        super().__init__(body, content_type="application/json")
        self.exchange = exchange


class _Request(aiohttp.ClientRequest):
    """A request that tells its exchange when it is written."""

    exchange: Exchange | None = None

    def _current_exchange(self) -> Exchange:
        body = self.body
        exchange = body.exchange if isinstance(body, _Body) else self.exchange
        assert exchange is not None
        return exchange

    def send(self, conn: aiohttp.connector.Connection) -> Any:
        exchange = self._current_exchange()
        exchange.warm = conn.protocol in _USED
        if not exchange.warm:
            _USED.add(conn.protocol)
        exchange.writing(self.loop.time(), conn.transport)
        return super().send(conn)

    async def write_bytes(self, writer: Any, conn: aiohttp.connector.Connection, *args: Any, **kwargs: Any) -> None:
        self._current_exchange().writing(self.loop.time(), conn.transport)
        await super().write_bytes(writer, conn, *args, **kwargs)


class Transport:
    """Sends messages to one server.

    Attributes:
        server: its address, without a user or password that it may have.
    """

    def __init__(
        self,
        base_url: str,
        timeout: Timeout,
        user_agent: str,
        redact: Callable[[bytes], bytes],
        http: aiohttp.ClientSession | None,
    ) -> None:
        self._base = _checked(base_url.strip() if isinstance(base_url, str) else base_url)
        self.server = str(URL(self._base).with_user(None)).rstrip("/")
        self._redact = redact
        self._connecting = aiohttp.ClientTimeout(total=None, connect=timeout.connect)
        # An answer is shorter than its compression would save; uncompressed, no bomb can hide in it.
        self._headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": user_agent}
        self._http = http
        self._ours = http is None
        # On a pool of ours the time begins with the write, since connecting has its own; elsewhere with the exchange.
        self._timer = ResponseTimer(timeout.response if self._ours else timeout.connect + timeout.response)

    def open(self) -> None:
        """Make the connection pool, on the running loop."""
        if self._ours:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
                cookie_jar=aiohttp.DummyCookieJar(),
                request_class=_Request,
                headers=self._headers,
            )

    async def close(self) -> None:
        """Close the connection pool, unless it is the caller's."""
        self._timer.close()
        if self._ours and self._http is not None:
            await self._http.close()

    def abandon(self) -> None:
        """Let go of the connections of a session that nobody closed, without the warnings of aiohttp."""
        if self._ours and self._http is not None and (connector := self._http.connector) is not None:
            self._http.detach()
            with suppress(StopIteration):  # its first step closes everything, and there is no loop to wait on
                connector.close().__await__().__next__()

    def begin(self) -> Exchange:
        """Make the record of the next exchange."""
        return Exchange(self._timer, exact=self._ours)

    async def send(self, message: Message, exchange: Exchange) -> RawResponse:
        """Send one request and read its answer.

        Raises:
            TransportError: when no whole answer came.
        """
        failure: TeakError
        exchange.begin()
        try:
            return await self._exchange(message, exchange)
        except asyncio.CancelledError:
            if exchange.error is None:
                raise
            failure = exchange.error
        except Exception as error:  # noqa: BLE001 - as above
            failure = exchange.translate_error(error)
        finally:
            exchange.end()
        failure.__context__ = None
        raise failure.with_traceback(None)

    async def _exchange(self, message: Message, exchange: Exchange) -> RawResponse:
        # In a frame of its own, because aiohttp's response shows the address, and the frame of `send` is seen in errors.
        assert self._http is not None
        if self._http.closed:
            raise ConnectFailed("the aiohttp.ClientSession that was given as http is closed")
        response = await self._http.request(
            message.method,
            self._url(message),
            data=None if message.body is None else _Body(message.body, exchange),
            headers=None if self._ours else self._headers,
            timeout=self._connecting,
            middlewares=(exchange,) if message.body is None else (),
            allow_redirects=False,
            raise_for_status=False,
            auto_decompress=False,
        )
        body = self._redact(await _read(response))
        round_trip = 0.0 if exchange.sent_at is None else asyncio.get_running_loop().time() - exchange.sent_at
        return RawResponse(response.status, RedactedHeaders(response.headers, self._redact), body, round_trip, exchange.warm)

    def _url(self, message: Message) -> URL:
        address = self._base + message.path
        return URL(f"{address}?{message.query}" if message.query else address, encoded=True)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    if response.content.is_eof():
        # It came whole with the headers, as answers of Teak's do.
        return await response.read()
    parts: list[bytes] = []
    size = 0
    try:
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > MAX_BODY:
                break
        else:
            return b"".join(parts)
    except BaseException:
        response.close()
        raise
    response.close()
    return b""  # half of it says nothing, and may end within the secret, where cleansing would not know it


def _checked(base_url: str) -> str:
    try:
        url = URL(base_url)
    except (ValueError, TypeError):
        url = URL()
    if url.scheme not in ("http", "https") or not url.host or url.query_string or url.fragment:
        raise ValueError(f"base_url must be like https://api.gocarrot.com, not {base_url!r}")
    return str(url).rstrip("/")
