"""One call, from its first try to the truth about it.

Theory of operation. Each try of a call waits for a permit, then runs as an `Attempt`: permit → encode → send → answer →
permit back → decode. When the caller is cancelled, the attempt is cancelled too as long as nothing was sent. Once bytes may
be on the wire it goes on by itself until the answer is there or its time is up, since only the answer tells when the permit
may come back. `retry.next_wait` says whether there is another try.

Rules of this module:

- This is the one path that every request takes.
- The outcome of a call is the truth about all of its tries: when an earlier one may have been done, then so may the call.
- A refused try keeps its ticket, and with it its place at the head of the lane.
- Closing ends the calls that wait, lets those on the wire finish, and leaves nothing running.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count

import attrs

from teak_async._api.codec import Message, decode, encode
from teak_async._api.credentials import Credentials
from teak_async._api.endpoints import ENDPOINTS, Effect
from teak_async._limits.bucket import Lane
from teak_async._limits.session_limits import Budget
from teak_async._notify import Notifier
from teak_async.errors import (
    ConnectionLost,
    DeadlinePassed,
    Delivery,
    InvalidRequest,
    RateLimited,
    SessionClosed,
    TeakError,
    UnexpectedResponse,
)
from teak_async.events import AttemptFailed, AttemptStarted, PermitAcquired, RateLimitHit, ResponseReceived, RetryScheduled
from teak_async.models import CategorySubscriptionChange, Request, Response, SubscriptionChange

from .attempt import Attempt
from .retry import RetryPolicy, next_wait
from .transport import Exchange, RawResponse, Transport

_numbers = count(1)


class Call:
    """One call on its way, as a bulk run watches it.

    Attributes:
        deadline: the loop's time after which nothing is sent any more; `None` for no such time.
        on_wire: whether a try of it may be at the server right now.
        last: make no further try after the present one.
        cut: whether it ended by that, and not by itself.
        uncertain: whether a try of it may have been done.
        resent: whether an earlier run may have done it. What may be repeated is in doubt by that until it is answered.
        attempts: tries so far.
        error: what the call would end with if it were left now; `None` before its first try.
        message: the request as it goes out; `None` before its first try.
        number: tells it from every other call of the process.
        asked_at: the loop's time at which its present try asked for a permit, where somebody hears of each try.
    """

    __slots__ = (
        "asked_at",
        "attempts",
        "cut",
        "deadline",
        "endpoint",
        "error",
        "lane",
        "last",
        "message",
        "number",
        "on_wire",
        "request",
        "resent",
        "uncertain",
    )

    def __init__(self, request: Request, lane: Lane, deadline: float | None = None) -> None:
        endpoint = ENDPOINTS.get(type(request))
        if endpoint is None:
            raise InvalidRequest(f"not a request: {type(request).__name__}; make an Identify, GetSubscription, …")
        self.request = request
        self.endpoint = endpoint
        self.lane = lane
        self.deadline = deadline
        self.attempts = 0
        self.on_wire = False
        self.last = False
        self.cut = False
        self.uncertain = False
        self.resent = False
        self.error: TeakError | None = None
        self.message: Message | None = None
        self.number = next(_numbers)
        self.asked_at: float | None = None

    @property
    def event_fields(self) -> tuple[str, str, int, int]:
        """How events name its present try."""
        return self.endpoint.name, self.lane.value, self.number, self.attempts

    async def write_intent(self) -> None:
        """Told before each try; a run with a journal writes the intent here."""

    def release_slots(self) -> None:
        """Told when the try has its permit."""

    def retract_intent(self) -> None:
        """Told when the try was certainly not done and another one will follow, or may in a later run."""


class CallExecutor:
    """Makes the calls of one session.

    Args:
        transport: what sends.
        credentials: sent with each call.
        retry: how persistent to be.
        bucket_of: gives the budget of a path, or raises `SessionClosed`.
        notifier: who hears of what happens.
    """

    def __init__(
        self,
        transport: Transport,
        credentials: Credentials,
        retry: RetryPolicy,
        bucket_of: Callable[[str], Budget],
        notifier: Notifier,
    ) -> None:
        self._transport = transport
        self._credentials = credentials
        self._retry = retry
        self.bucket_of = bucket_of
        self._notifier = notifier
        self._closed = asyncio.Event()
        self._quiet = asyncio.Event()
        self.attempts: dict[Exchange, Attempt[Response | TeakError]] = {}

    async def close(self, *, hurry: bool = False) -> None:
        """Wait for what is on the wire and has somebody who waits for it; in a hurry or cancelled, leave that too."""
        self._closed.set()
        try:
            self._interrupt(attempt for attempt in self.attempts.values() if attempt.left)
            if self.attempts and not hurry:
                await self._quiet.wait()
        finally:
            self._interrupt(self.attempts.values())
            if self.attempts:
                await self._quiet.wait()

    def _interrupt(self, attempts: Iterable[Attempt[Response | TeakError]]) -> None:
        for attempt in list(attempts):
            if attempt.exchange.unsent:
                attempt.exchange.interrupt(SessionClosed("the session was closed before this call was sent"))
            else:
                attempt.exchange.interrupt(ConnectionLost("the session was closed before the answer came"))

    async def execute(self, call: Call) -> Response:
        """Make a call: as many tries as it may have, and the truth about all of them."""
        endpoint = call.endpoint
        bucket = self.bucket_of(endpoint.bucket)
        refusals = 0
        cut_off_at: float | None = None
        ticket: int | None = None
        while True:
            call.asked_at = asyncio.get_running_loop().time() if self._notifier.is_enabled() else None
            try:
                ticket = await self._permit(call, bucket, ticket)
                call.release_slots()
                call.attempts += 1
                result = await self._attempt(call, bucket)
            except SessionClosed as closed:
                result = closed
            except TimeoutError:
                last = "" if call.error is None else f"; its last try: {type(call.error).__name__}: {call.error}"
                result = DeadlinePassed(f"{endpoint.name}: the deadline passed before it was sent{last}")
            if not isinstance(result, TeakError):
                if (call.uncertain or call.resent) and isinstance(result, SubscriptionChange | CategorySubscriptionChange):
                    result = attrs.evolve(result, repeated=True)
                return result
            if isinstance(result, RateLimited):
                refusals += 1
            else:
                ticket = None
            tries = call.attempts - refusals
            now = asyncio.get_running_loop().time()
            cut_off_at = (cut_off_at or now) if result.delivery is Delivery.NOT_SENT else None
            cut_off = now - cut_off_at if cut_off_at is not None and call.lane is Lane.BULK else None
            wait = next_wait(self._retry, endpoint.effect, result, tries, refusals, random.random(), cut_off)  # noqa: S311 - spreads waits
            call.uncertain = call.uncertain or result.delivery is Delivery.UNKNOWN
            doubtful = call.uncertain or (call.resent and result.delivery is Delivery.NOT_SENT)
            if doubtful and endpoint.effect is not Effect.READ and result.delivery is not Delivery.DONE:
                result.delivery = Delivery.UNKNOWN
            result.attempts = call.attempts
            call.error = result
            call.cut = wait is not None and call.last
            if wait is None or call.last:
                raise result
            if self._notifier.is_enabled(logging.INFO):
                self._notifier.emit(RetryScheduled(*call.event_fields, type(result).__name__, wait))
            if not call.uncertain:
                call.retract_intent()
            if wait:
                await self._pause(wait, call.deadline)

    async def _permit(self, call: Call, bucket: Budget, ticket: int | None) -> int:
        """Wait for a permit, unless the deadline passes meanwhile."""
        if call.deadline is None:
            await call.write_intent()
            return await bucket.acquire(call.lane, ticket)
        if asyncio.get_running_loop().time() >= call.deadline:
            raise TimeoutError
        async with asyncio.timeout_at(call.deadline):
            await call.write_intent()
            return await bucket.acquire(call.lane, ticket)

    async def _pause(self, seconds: float, deadline: float | None) -> None:
        """Wait before the next try, unless the session is closed or the deadline passes meanwhile."""
        until = asyncio.get_running_loop().time() + seconds
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until if deadline is None else min(until, deadline)):
                await self._closed.wait()

    async def _attempt(self, call: Call, bucket: Budget) -> Response | TeakError:
        """Make one try with a permit in hand, and see to it that the permit comes back when it may."""
        exchange = self._transport.begin()

        def end() -> None:
            if exchange in self.attempts:  # the task was cancelled before its first step, so nothing has released the permit
                bucket.release_unused()
                self._end(exchange)

        attempt = self.attempts[exchange] = Attempt(self._exchange(call, bucket, exchange), exchange, end)
        call.on_wire = True
        try:
            return await attempt
        except asyncio.CancelledError:
            if attempt.left:
                call.error = ConnectionLost("the call was left before its answer came")
                call.error.attempts = call.attempts
            raise
        finally:
            call.on_wire = False

    async def _exchange(self, call: Call, bucket: Budget, exchange: Exchange) -> Response | TeakError:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            if call.asked_at is not None:
                told = call.event_fields
                self._notifier.emit(PermitAcquired(*told, began - call.asked_at))
                self._notifier.emit(AttemptStarted(*told, self._transport.server))
            if call.message is None:
                # Not before it has a permit: a hundred thousand calls may wait for one, and what waits is kept small.
                call.message = encode(call.endpoint, call.request, self._credentials)
            answer = await self._transport.send(call.message, exchange)
        except BaseException as failure:
            not_sent = exchange.unsent or (isinstance(failure, TeakError) and failure.delivery is Delivery.NOT_SENT)
            if not_sent:
                bucket.release_unused()
            else:
                bucket.release_lost()
            self._end(exchange)
            if self._notifier.is_enabled(logging.WARNING):
                became = Delivery.NOT_SENT if not_sent else Delivery.UNKNOWN
                self._notifier.emit(AttemptFailed(*call.event_fields, became, type(failure).__name__, loop.time() - began))
            if isinstance(failure, TeakError):
                return failure
            raise
        result: Response | TeakError
        try:
            result = decode(call.endpoint, answer.status, answer.headers, answer.body)
        except TeakError as error:
            if isinstance(error, RateLimited):
                bucket.record_rate_limit(began, error.retry_after)
            result = error
        except Exception as error:  # noqa: BLE001 - an answer that no line here foresaw must not cost the call its truth
            what = f"{call.endpoint.name}: the answer could not be understood ({type(error).__name__})"
            result = UnexpectedResponse(what, status=answer.status)
        finally:
            on_wire = loop.time() - began
            bucket.release_answered(on_wire, answer.round_trip, warm=answer.warm)
            self._end(exchange)
        if call.asked_at is not None or (isinstance(result, TeakError) and self._notifier.is_enabled(logging.WARNING)):
            self._tell_answer(call, bucket, answer, result, on_wire)
        return result

    def _tell_answer(
        self, call: Call, bucket: Budget, answer: RawResponse, result: Response | TeakError, on_wire: float
    ) -> None:
        error = result if isinstance(result, TeakError) else None
        became, what = (Delivery.DONE, None) if error is None else (error.delivery, type(error).__name__)
        self._notifier.emit(ResponseReceived(*call.event_fields, answer.status, became, what, answer.round_trip, on_wire))
        if isinstance(error, RateLimited):
            allowance = bucket.window.allowance(asyncio.get_running_loop().time())
            self._notifier.emit(RateLimitHit(*call.event_fields, call.endpoint.bucket, error.retry_after, allowance))

    def _end(self, exchange: Exchange) -> None:
        del self.attempts[exchange]
        if not self.attempts and self._closed.is_set():
            self._quiet.set()
