"""Makes calls: one attempt after the other, each with a permit, until the call has succeeded or may not be retried.

Theory of operation. Each attempt waits for a permit, then runs as an `Attempt`: permit → encode → send → response → decode →
permit back. When the caller is cancelled, the attempt is cancelled too as long as nothing was sent. Once bytes may be on the
wire it goes on by itself until the response or its timeout, since only the response shows when the permit may come back.
`Call.next_wait` decides whether there is another attempt.

- Every request takes this one path.
- Every permit that was acquired is released once: by `_perform`, by `_discard` where that never began, or at once when the
  call is not sent any more (`make_attempt`, `_acquire_in_time`, `acquire` of `BucketHandle` and of `Bucket`).
- Closing ends the calls that wait, lets those on the wire finish, and leaves nothing running.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeAlias

from teak_async._api.codec import decode, encode
from teak_async._api.credentials import Credentials
from teak_async._limits.bucket import Bucket, Lane
from teak_async._limits.session_limits import BucketHandle, Membership
from teak_async._notify import Notifier
from teak_async.errors import (
    ConnectionLost,
    DeadlinePassed,
    Delivery,
    LedgerUnavailable,
    RateLimited,
    SessionClosed,
    TeakError,
    TimedOut,
    UnexpectedResponse,
)
from teak_async.events import AttemptFailed, AttemptStarted, PermitAcquired, RateLimitHit, ResponseReceived, RetryScheduled
from teak_async.models import Response

from .attempt import Attempt
from .call import Call
from .deadline import DueTime
from .exchange import Exchange
from .retry import RetryPolicy
from .transport import RawResponse, Transport

AttemptResult: TypeAlias = Response | TeakError
"""How an attempt ended."""


class Sender(Protocol):
    """Who makes a call in a task of its own: a row of a bulk run."""

    def write_intent(self) -> Awaitable[None] | None:
        """Prepare for an attempt; it asks for its permit once what this returns is done."""
        ...

    def take_permit(self) -> bool:
        """Say, with the permit, whether to go on; if not, nothing is sent."""
        ...


class CallExecutor:
    """Makes the calls of one session.

    Args:
        transport: sends the messages.
        credentials: sent with each call.
        retry: the retry policy.
        bucket_of: returns the session's handle on the bucket of a path, or raises `SessionClosed`.
        notifier: emits the events.
    """

    def __init__(
        self,
        transport: Transport,
        credentials: Credentials,
        retry: RetryPolicy,
        bucket_of: Callable[[str], BucketHandle],
        notifier: Notifier,
    ) -> None:
        self._transport = transport
        self._credentials = credentials
        self.retry = retry
        self.bucket_of = bucket_of
        self._notifier = notifier
        self.on_close: set[Callable[[], None]] = set()
        self.member: Membership | None = None
        """Of the processes that share the limits: a bulk run that goes on takes over what the killed one held."""
        self._closed = asyncio.Event()
        self._quiet = asyncio.Event()
        self.under_way: dict[Exchange, Attempt[AttemptResult]] = {}

    async def close(self, *, hurry: bool = False) -> None:
        """Wait for attempts on the wire whose callers wait; in a hurry, or when cancelled, interrupt those too."""
        self._closed.set()
        for callback in list(self.on_close):
            callback()
        self._transport.end_waiting()
        try:
            self._close_attempts(attempt for attempt in self.under_way.values() if attempt.left)
            if self.under_way and not hurry:
                await self._quiet.wait()
        finally:
            self._close_attempts(self.under_way.values())
            if self.under_way:
                await self._quiet.wait()

    def _close_attempts(self, attempts: Iterable[Attempt[AttemptResult]]) -> None:
        for attempt in list(attempts):
            self._interrupt(
                attempt,
                SessionClosed("the session was closed before this call was sent"),
                ConnectionLost("the session was closed before the response came"),
            )

    def _interrupt(self, attempt: Attempt[AttemptResult], unsent: TeakError, sent: TeakError | None) -> None:
        """End an attempt: with `unsent` while nothing was sent, afterwards with `sent`, if there is one."""
        if attempt.exchange not in self.under_way:
            return  # it ended in this turn of the loop, and its caller has not seen that yet
        if not attempt.begun:
            self._discard(attempt)  # a task that is cancelled before its first step never runs: its caller would wait for ever
            attempt.finish(unsent)
        elif attempt.exchange.unsent:
            attempt.exchange.interrupt(unsent)
        elif sent is not None:
            attempt.exchange.interrupt(sent)

    async def execute(self, call: Call) -> Response:
        """Make a call: attempt after attempt, and return its response or raise what became of all attempts."""
        while True:
            result = await self.make_attempt(call)
            assert result is not None  # only a sender causes `None`
            if not isinstance(result, TeakError):
                return call.finish(result)
            await self.pause(call, self.next_wait(call, result))

    def next_wait(self, call: Call, error: TeakError) -> float:
        """Return the seconds until the call's next attempt, or raise its error; see `Call.next_wait`."""
        wait = call.next_wait(error, self.retry, random.random())  # noqa: S311 - spreads waits
        if self._notifier.is_enabled(logging.INFO):
            self._notifier.emit(RetryScheduled(*call.event_fields, type(error).__name__, wait))
        return wait

    async def pause(self, call: Call, seconds: float) -> None:
        """Wait before the next attempt, unless the session is closed or the deadline passes meanwhile."""
        if not seconds:
            return
        if call.deadline is not None:
            seconds = min(seconds, call.deadline.seconds_left(asyncio.get_running_loop().time()))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    async def make_attempt(
        self,
        call: Call,
        sender: Sender | None = None,
        task: asyncio.Task[None] | None = None,
    ) -> AttemptResult | None:
        """Make one attempt, and return how it ended; the session's close and the deadline are results, too.

        Args:
            call: the call.
            sender: whose attempt it is; the result is `None` if it gives up its permit. `None` for the caller's own.
            task: the sender's, which is running: the attempt runs in it, and ends with it.
        """
        call.asked_at = asyncio.get_running_loop().time() if self._notifier.is_enabled() else None
        try:
            handle = self.bucket_of(call.endpoint.bucket)
            if call.deadline is None:
                if sender is not None and (intent := sender.write_intent()) is not None:
                    await intent
                call.ticket = await handle.acquire(call.lane, call.ticket)
            else:
                await self._acquire_in_time(call, handle, call.deadline, sender)
        except (SessionClosed, LedgerUnavailable) as ended:
            return ended
        except TimeoutError:
            return _deadline_passed(call)
        if sender is not None and not sender.take_permit():
            handle.bucket.release_unused()
            return None
        call.attempts += 1
        exchange = self._transport.begin()
        attempt: Attempt[AttemptResult] = Attempt(exchange, handle.bucket)
        self.under_way[exchange] = attempt
        call.on_wire = True
        timer = None
        if call.deadline is not None:
            loop = asyncio.get_running_loop()
            left = call.deadline.seconds_left(loop.time())
            timer = loop.call_later(left, self._interrupt_at_deadline, call, attempt)
        try:
            if task is None:
                return await attempt.run(partial(self._perform, call, attempt))
            attempt.begin_in(task)
            return await self._perform(call, attempt)
        except asyncio.CancelledError:
            if task is not None:
                attempt.leave()
            elif exchange in self.under_way and not attempt.begun:
                self._discard(attempt)
            if attempt.left:
                call.error = ConnectionLost("the call was left before its response came")
                call.error.attempts = call.attempts
            raise
        finally:
            call.on_wire = False
            if timer is not None:
                timer.cancel()

    async def _acquire_in_time(self, call: Call, handle: BucketHandle, deadline: DueTime, sender: Sender | None) -> None:
        left = deadline.seconds_left(asyncio.get_running_loop().time())
        if left <= 0:
            raise TimeoutError
        async with asyncio.timeout(left):
            if sender is not None and (intent := sender.write_intent()) is not None:
                await intent
            call.ticket = await handle.acquire(call.lane, call.ticket)
        if deadline.seconds_left(asyncio.get_running_loop().time()) <= 0:
            # The machine was suspended meanwhile, and the loop's timer with it.
            handle.bucket.release_unused()
            raise TimeoutError

    def _interrupt_at_deadline(self, call: Call, attempt: Attempt[AttemptResult]) -> None:
        """End an attempt at its call's deadline if it is unsent or live."""
        late = None
        if call.lane is Lane.LIVE:
            late = TimedOut("no response before the deadline", delivery=Delivery.UNKNOWN)
            call.stopping = not attempt.exchange.unsent
        self._interrupt(attempt, _deadline_passed(call), late)

    async def _perform(self, call: Call, attempt: Attempt[AttemptResult]) -> AttemptResult:
        """Make the exchange of an attempt, and release its permit by what is known of that."""
        began = attempt.bucket.loop.time()
        try:
            if call.asked_at is not None:
                fields = call.event_fields
                self._notifier.emit(PermitAcquired(*fields, began - call.asked_at))
                self._notifier.emit(AttemptStarted(*fields, self._transport.server))
            if call.message is None:
                # Only with a permit: a hundred thousand calls may wait for one, so a waiting call has to be small.
                call.message = encode(call.endpoint, call.request, self._credentials)
            response = await self._transport.send(call.message, attempt.exchange)
        except BaseException as failure:
            self._settle_failure(call, attempt, failure, began)
            if not isinstance(failure, TeakError):
                raise
            return failure
        return self._settle(call, attempt, response, began)

    def _settle_failure(self, call: Call, attempt: Attempt[AttemptResult], failure: BaseException, began: float) -> None:
        """Release the permit of an attempt without a response."""
        not_sent = attempt.exchange.unsent or (isinstance(failure, TeakError) and failure.delivery is Delivery.NOT_SENT)
        if not_sent:
            attempt.bucket.release_unused()
        else:
            attempt.bucket.release_lost()
        self._end(attempt.exchange)
        if self._notifier.is_enabled(logging.WARNING):
            delivery = Delivery.NOT_SENT if not_sent else Delivery.UNKNOWN
            lasted = asyncio.get_running_loop().time() - began
            self._notifier.emit(AttemptFailed(*call.event_fields, delivery, type(failure).__name__, lasted))

    def _settle(self, call: Call, attempt: Attempt[AttemptResult], response: RawResponse, began: float) -> AttemptResult:
        """Release the permit of an attempt with a response, and return what it says."""
        bucket = attempt.bucket
        result: AttemptResult
        try:
            result = decode(call.endpoint, call.request, response.status, response.headers, response.body, time.time())
        except TeakError as error:
            if isinstance(error, RateLimited):
                # The attempt may have waited for a place and a connection first.
                sent_at = asyncio.get_running_loop().time() - response.round_trip if response.round_trip else began
                bucket.record_rate_limit(sent_at, error.retry_after)
            elif isinstance(error, UnexpectedResponse) and error.spoils_connection:
                attempt.exchange.close_connection()
            result = error
        except Exception as error:  # noqa: BLE001 - the call must get its error, whatever the response is
            what = f"{call.endpoint.title}: the response could not be understood ({type(error).__name__})"
            result = UnexpectedResponse(what, status=response.status)
        finally:
            on_wire = bucket.loop.time() - began
            bucket.release_answered(on_wire, response.round_trip, warm=response.warm)
            self._end(attempt.exchange)
        if call.asked_at is not None or (isinstance(result, TeakError) and self._notifier.is_enabled(logging.WARNING)):
            self._emit_response(call, bucket, response, result, on_wire)
        return result

    def _emit_response(self, call: Call, bucket: Bucket, response: RawResponse, result: AttemptResult, on_wire: float) -> None:
        error = result if isinstance(result, TeakError) else None
        delivery, name = (Delivery.DONE, None) if error is None else (error.delivery, type(error).__name__)
        fields = call.event_fields
        self._notifier.emit(ResponseReceived(*fields, response.status, delivery, name, response.round_trip, on_wire))
        if isinstance(error, RateLimited):
            allowance = bucket.window.allowance(asyncio.get_running_loop().time())
            self._notifier.emit(RateLimitHit(*fields, call.endpoint.bucket, error.retry_after, allowance))

    def _discard(self, attempt: Attempt[AttemptResult]) -> None:
        """Release the permit of an attempt whose task has not taken its first step: `_perform` never runs."""
        attempt.cancel()
        attempt.bucket.release_unused()
        self._end(attempt.exchange)

    def _end(self, exchange: Exchange) -> None:
        del self.under_way[exchange]
        if not self.under_way and self._closed.is_set():
            self._quiet.set()


def _deadline_passed(call: Call) -> DeadlinePassed:
    again = "" if call.error is None else f" again; its last attempt: {type(call.error).__name__}: {call.error}"
    return DeadlinePassed(f"the deadline passed before it was sent{again}")
