"""One request on the wire: what is known of it, and its timeout.

Rules of this module:

- Nothing is written on a connection that changed after its last response.
- "Not sent" is known: before the first byte, or when the system took none of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic

import aiohttp

from teak_async.errors import TeakError

from .connections import ConnectionWatch, UnusableConnection
from .failures import Route, translate

_NOWHERE = Route()


class Exchange:
    """What is known of one request on the wire. It is also the middleware that keeps a caller's session from repeating it.

    Attributes:
        exact: whether `sent_at` can be known: the connection pool is the session's own.
        sent_at: `time.monotonic()` just before the first byte; `None` before that.
        round_trip: seconds from there to the last byte in; 0 where that is not known.
        warm: whether the connection had carried a response before.
        connection: that of the request, on the session's own pool.
        task: the task that makes it, a player's or its own; `None` before and after.
        error: the error that interrupted it.
        unsent: whether certainly no byte was sent, and none will be unless the exchange goes on.
    """

    __slots__ = (
        "_cancels",
        "_refused_write",
        "_route",
        "_timer",
        "connection",
        "error",
        "exact",
        "round_trip",
        "sent_at",
        "task",
        "warm",
    )

    def __init__(self, timer: ResponseTimer, *, exact: bool, route: Route = _NOWHERE) -> None:
        self.exact = exact
        self._timer = timer
        self._route = route
        self.task: asyncio.Task[None] | None = None
        self.connection: ConnectionWatch | None = None
        self.error: TeakError | None = None
        self.sent_at: float | None = None
        self.round_trip = 0.0
        self.warm = False
        self._refused_write = False
        self._cancels = 0

    def __deepcopy__(self, memo: object) -> Exchange:
        return self  # mocks of aiohttp copy the arguments of a request, and this refers to the whole loop

    @property
    def unsent(self) -> bool:
        return self.exact and (self.sent_at is None or self._refused_write)

    def prepare_write(self, connection: ConnectionWatch, loop_now: float) -> None:
        """Record its connection, and that the first byte is written now.

        Raises:
            UnusableConnection: when it cannot be written; nothing was.
            aiohttp.ClientConnectionError: as above, on a connection just made.
        """
        self.connection = connection
        self.warm = connection.requests > 0
        # The loop's time may be that of the turn's beginning (uvloop), and a round trip too long would break the limits.
        now = monotonic()
        if not connection.ask(now):
            if self.warm:
                raise UnusableConnection
            raise aiohttp.ClientConnectionError
        self._timer.watch(self, loop_now)
        self.sent_at = now

    def note_refusal(self) -> None:
        """Record a write of which the system took nothing."""
        assert self.connection is not None
        self._refused_write = self.connection.has_refused()

    def record_response(self, headers: Mapping[str, str], body: bytes) -> None:
        """Record that its whole response is there; the connection decides whether it can carry another one."""
        assert self.connection is not None
        assert self.sent_at is not None
        now = monotonic()
        self.round_trip = now - self.sent_at
        self.connection.record_response(now, self.round_trip, body, headers)

    def close_connection(self) -> None:
        """Close the connection after another call's response came on it; on a caller's pool do nothing."""
        if self.connection is not None:
            self.connection.close()

    def begin(self) -> None:
        """Record that it begins."""
        if not self.exact:
            self._timer.watch(self, asyncio.get_running_loop().time())

    def expire(self) -> None:
        """End it by its timeout."""
        self.interrupt(self.translate_error(TimeoutError()))

    def interrupt(self, error: TeakError) -> None:
        """End it with an error, wherever it waits."""
        if self.task is not None:
            self.error = self.error or error
            self._cancels += 1
            self.task.cancel()

    def find_interruption(self) -> TeakError | None:
        """Return the error that interrupted it, when its task was cancelled; `None` if it was cancelled by others, too."""
        return None if self._uncancel() else self.error

    def _uncancel(self) -> int:
        """Take back the cancels of its interruptions, since a player's task goes on; return how many others there are."""
        others = 0
        while self._cancels and self.task is not None:
            self._cancels -= 1
            others = self.task.uncancel()
        return others

    def end(self) -> None:
        """Record that it is over."""
        self._uncancel()
        self._timer.forget(self)
        self.task = None

    async def __call__(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        try:
            return await handler(request)
        except Exception as error:  # noqa: BLE001 - any error ended the exchange
            failure = self.translate_error(error)
        raise failure

    def translate_error(self, error: Exception) -> TeakError:
        """Translate an exception of aiohttp or the system to ours, with the delivery as far as it is known."""
        return translate(error, self._route, self.connection, unsent=self.unsent)


class ResponseTimer:
    """Ends exchanges that take too long. All have the same timeout, so one timer, for the oldest, is enough."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[Exchange, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, exchange: Exchange, now: float) -> None:
        """Start the timeout of an exchange."""
        self._due[exchange] = now + self._seconds
        if self._timer is None:
            self._look()

    def forget(self, exchange: Exchange) -> None:
        """Stop the timeout of an exchange."""
        self._due.pop(exchange, None)

    def close(self) -> None:
        """Cancel the timer."""
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
            # After a stall of the loop the response may be in the socket: one turn reads it, the next processes it.
            loop.call_soon(loop.call_soon, exchange.expire)
