"""aiohttp: send a message, read the response, and translate aiohttp's exceptions to ours.

Rules of this module:

- One exchange is one request on the wire, by the session's own `Pool` or a `CallersSession`.
- aiohttp's exceptions end here. Ours are raised outside of the `except` block, because an exception refers to the one
  during which it was raised, and aiohttp's refer to the URL, which has the secret in its query.
- On the session's own connection pool the instant before the first byte is known. So "not sent" is certain, and round
  trips are measured without the time for connecting. On a caller's `aiohttp.ClientSession` the kind of exception decides:
  less is known to be unsent, and no credit is earned.
- A response is small. One that is larger than `MAX_BODY` (`pool`) is not read to its end.
- The work for each call is kept short: one timer for all exchanges, request headers once for the session, response headers
  read on demand. Each of these was measured (`python -m benchmarks cpu`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator, Mapping

import aiohttp
from attrs import define, evolve, field, frozen
from attrs.validators import gt
from multidict import MultiMapping
from yarl import URL

from teak_async._api.codec import Message
from teak_async.errors import SessionClosed, TeakError

from . import callers_session
from .callers_session import CallersSession
from .connections import NoFilesLeft, UnusableConnection
from .deadline import seconds_of
from .exchange import Exchange, ResponseTimer
from .failures import Route
from .places import Places, places_for
from .pool import Pool, Received
from .proxy import find_proxy

HEADERS = ("Content-Type", "Date", "Location", "Retry-After")
"""The headers of a response that are read."""


@frozen(kw_only=True)
class Timeout:
    """Bounds of one attempt. The wait for a permit is not part of it.

    Attributes:
        connect: seconds above 0, or a `timedelta`, for name resolution, connecting and TLS. Default: 10.
        response: seconds above 0, or a `timedelta`, from the send to the end of the response. Default: 30.
    """

    connect: float = field(default=10.0, converter=seconds_of("connect"), validator=gt(0))  # type: ignore[misc] # mypy knows named ones only
    response: float = field(default=30.0, converter=seconds_of("response"), validator=gt(0))  # type: ignore[misc] # mypy knows named ones only


class RedactedHeaders(Mapping[str, str]):
    """The headers of a response, redacted when they are read; most responses are decoded without them."""

    __slots__ = ("_headers", "_redact")

    def __init__(self, headers: MultiMapping[str], redact: Callable[[bytes], bytes]) -> None:
        self._headers = headers
        self._redact = redact

    def __getitem__(self, name: str) -> str:
        # Several headers of one name mean the same as one with their values joined by commas.
        return self._redact(", ".join(self._headers.getall(name)).encode(errors="replace")).decode()

    def __iter__(self) -> Iterator[str]:
        return (name for name in HEADERS if name in self._headers)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@define
class RawResponse:
    """A response as it was read. Nothing changes one; a frozen one takes three times as long to make.

    Attributes:
        status: HTTP status.
        headers: those that are read, redacted.
        body: redacted.
        round_trip: seconds from the first byte out to the last byte in; 0 where that is not known.
        warm: whether its connection had carried a request before.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    round_trip: float
    warm: bool


class Transport:
    """Sends messages to one server.

    Args:
        base_url: the server's address.
        timeout: the bounds of one attempt.
        user_agent: the value of `User-Agent`.
        redact: removes the secret from a server's bytes.
        http: the caller's session, with a pool of its own.
        tls: the context for https on the session's own pool. Default: the system's.

    Attributes:
        server: its address, without user and password.

    Raises:
        TypeError: when `http` or `tls` is something else.
        ValueError: when `base_url` is no address, or `tls` cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        timeout: Timeout,
        user_agent: str,
        redact: Callable[[bytes], bytes],
        http: aiohttp.ClientSession | None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._base = _checked(base_url.strip() if isinstance(base_url, str) else base_url)
        if http is not None:
            callers_session.check(http)
        _check_tls(http, tls)
        self.server = str(URL(self._base).with_user(None)).rstrip("/")
        self._redact = redact
        self._tls = tls
        # Compression saves nothing on small responses, and could hide a decompression bomb.
        self._headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": user_agent}
        self._http = http
        # On the session's own pool the timeout begins with the write, since connecting has its own; else with the exchange.
        if http is None:
            self._route = Route(self.server, timeout.connect, timeout.response)
        else:
            both = "Timeout.connect + Timeout.response"
            self._route = Route(self.server, timeout.connect, timeout.connect + timeout.response, both)
        self._timer = ResponseTimer(self._route.response)
        self._places = Places(float("inf"))
        self._pool: Pool | CallersSession | None = None

    def check(self) -> None:
        """Check, on the running loop, that the pool can be used, and find the proxy to the server.

        Raises:
            ValueError: when the caller's session is closed or belongs to another loop, or the proxy's address is not valid.
        """
        if self._http is not None:
            callers_session.check_loop(self._http)
            return
        proxy = find_proxy(URL(self._base))
        if proxy is not None:
            self._route = evolve(self._route, proxy=proxy)
            secret = self._redact
            self._redact = lambda data: proxy.redact(secret(data))

    def open(self, most: int) -> None:
        """Make the connection pool, on the running loop, for so many exchanges at a time."""
        connect = self._route.connect
        if self._http is not None:
            self._pool = CallersSession(self._base, self._headers, connect, self._http)
        else:
            self._places = Places(places_for(most))
            self._pool = Pool(URL(self._base), self._headers, connect, self._tls, self._route.proxy)

    def end_waiting(self) -> None:
        """End the exchanges that wait for a place: the session is being closed, and they are unsent."""
        self._places.end_waiting(lambda: SessionClosed("the session was closed before this call was sent"))

    async def close(self) -> None:
        """Close the connection pool, unless it is the caller's."""
        self._timer.close()
        if self._pool is not None:
            await self._pool.close()

    def abandon(self) -> None:
        """Close the connections of a session that nobody closed, unless they are the caller's."""
        if self._pool is not None:
            self._pool.abandon()

    def begin(self) -> Exchange:
        """Make the next exchange."""
        return Exchange(self._timer, exact=self._http is None, route=self._route)

    async def send(self, message: Message, exchange: Exchange) -> RawResponse:
        """Send one request and read its response.

        Raises:
            TransportError: when no whole response came.
        """
        assert self._pool is not None
        failure: TeakError
        exchange.begin()
        places = self._places
        try:
            # The wait for a place is no part of the connect timeout.
            if not places.try_take():
                await places.take()
            held = True
            try:
                while True:
                    try:
                        # Without a name for what came, which is not redacted: the variables of this frame are in tracebacks.
                        return _redacted(await self._pool.exchange(message, exchange), exchange, self._redact)
                    except UnusableConnection:
                        continue  # it carried nothing, and is closed: try the next one
                    except NoFilesLeft as full:
                        if not places.shrink():
                            raise OSError(*full.args) from None
                    places.give()
                    held = False
                    await places.take()
                    held = True
            finally:
                if held:
                    places.give()
        except asyncio.CancelledError:
            interruption = exchange.find_interruption()
            if interruption is None:
                raise
            failure = interruption
        except Exception as error:  # noqa: BLE001 - as above
            failure = exchange.translate_error(error)
        finally:
            exchange.end()
        failure.__context__ = None
        raise failure.with_traceback(None)


def _redacted(received: Received, exchange: Exchange, redact: Callable[[bytes], bytes]) -> RawResponse:
    status, headers, body = received
    return RawResponse(status, RedactedHeaders(headers, redact), redact(body), exchange.round_trip, exchange.warm)


def _check_tls(http: object, tls: object) -> None:
    if tls is None:
        return
    if not isinstance(tls, ssl.SSLContext):
        raise TypeError(f"ssl must be an ssl.SSLContext, such as ssl.create_default_context(), not {type(tls).__name__}")
    if http is not None:
        raise ValueError("ssl= and http= together: give the context to the aiohttp.TCPConnector of the session given as http")
    if tls.protocol is ssl.PROTOCOL_TLS_SERVER:
        raise ValueError("ssl must be a client's context, such as ssl.create_default_context() makes, not a server's")


def _checked(base_url: str) -> str:
    try:
        url = URL(base_url)
    except (ValueError, TypeError):
        url = URL()
    if url.scheme not in ("http", "https") or not url.host or url.query_string or url.fragment:
        raise ValueError(f"base_url must be like https://api.gocarrot.com, not {base_url!r}")
    user, password = url.user or "", url.password or ""
    if ":" in user or not all(ord(character) < 256 for character in user + password):
        # The message quotes neither.
        raise ValueError("base_url has a user or password that HTTP cannot send: no colon in the user, and Latin-1 in both")
    return str(url).rstrip("/")
