"""A caller's `aiohttp.ClientSession` (`http=`): what it is known to do with a request, and what it must not do.

aiohttp by itself repeats a GET or DELETE after a kept connection was lost. For these the exchange is a client middleware: it
translates each exception before aiohttp sees it, and so prevents the repetition. Redirects are not followed: aiohttp would send
the secret wherever they point.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp
from yarl import URL

from teak_async._api.codec import Message
from teak_async.errors import ConnectFailed

from .connections import loop_of
from .exchange import Exchange
from .pool import Received, read_body


class CallersSession:
    """The connections of a caller's session, which stay the caller's.

    Args:
        base: the server's address.
        headers: those of each request.
        connect: seconds for connecting.
        http: the session.
    """

    def __init__(self, base: str, headers: Mapping[str, str], connect: float, http: aiohttp.ClientSession) -> None:
        self._base = base
        self._headers = headers
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect)
        self._http = http

    async def exchange(self, message: Message, exchange: Exchange) -> Received:
        """Send a request and receive its response."""
        if self._http.closed:
            raise ConnectFailed("the aiohttp.ClientSession that was given as http is closed")
        body = message.body
        response = await self._http.request(
            message.method,
            URL(self._base + message.target, encoded=True),
            data=None if body is None else aiohttp.BytesPayload(body, content_type="application/json"),
            headers=self._headers,
            timeout=self._timeout,
            middlewares=(exchange,) if body is None else (),
            allow_redirects=False,
            raise_for_status=False,
            auto_decompress=False,
        )
        try:
            received = await read_body(response.content)
        except BaseException:
            response.close()
            raise
        if received is None:
            response.close()
        return response.status, response.headers, received or b""

    async def close(self) -> None:
        """Leave it open."""

    def abandon(self) -> None:
        """Leave it open."""


def check(http: object) -> None:
    """Check that something can be used as a caller's session.

    Raises:
        TypeError: when it is something else.
    """
    if not isinstance(http, aiohttp.ClientSession):
        kind = http.__name__ if isinstance(http, type) else type(http).__name__
        what = "the class" if isinstance(http, type) else "an object of"
        raise TypeError(f"http must be an open aiohttp.ClientSession, not {what} {kind}: one that retries breaks the limits")


def check_loop(http: aiohttp.ClientSession) -> None:
    """Check that a caller's session can be used on the running loop.

    Raises:
        ValueError: when it is closed or belongs to another loop.
    """
    if http.closed:
        raise ValueError("the aiohttp.ClientSession given as http= is closed")
    if loop_of(http) not in (None, asyncio.get_running_loop()):
        raise ValueError("the aiohttp.ClientSession given as http= belongs to another event loop: make it on this one")
