"""`TeakSession`: the one path that every request takes.

Theory of operation. A call is encoded once. Each try of it waits for a permit, then runs as a task of its own, its attempt:
permit → send → answer → permit back → decode. When the caller is cancelled, the attempt is cancelled too as long as
nothing was sent. Once bytes may be on the wire it goes on by itself until the answer is there or its time is up, since
only the answer tells when the permit may come back. `retry.decide` says whether there is another try.

Rules of this module:

- The outcome of a call is the truth about all of its tries: when an earlier one may have been done, then so may the call.
- A refused try keeps its ticket, and with it its place at the head of the lane.
- Closing ends the calls that wait, lets those on the wire finish, and leaves nothing running.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, overload

import aiohttp
import attrs
from attrs import field, frozen
from attrs.validators import ge, instance_of

from .bucket import Bucket, Lane, Rate
from .endpoints import ENDPOINTS, Effect, Endpoint
from .errors import ConnectionLost, Delivery, InvalidRequest, RateLimited, SessionClosed, TeakError, UnexpectedResponse
from .models import (
    CategorySubscriptionChange,
    GetSubscription,
    Identify,
    PlayerSession,
    Request,
    Response,
    SetCategorySubscription,
    SetSubscription,
    State,
    SubscriptionChange,
    SubscriptionStatus,
)
from .retry import Retry, decide
from .transport import Exchange, Timeout, Transport
from .version import __version__
from .wire import Credentials, Message, decode, encode

if TYPE_CHECKING:
    from typing import Self

    from .bulk import BulkRun

API = "https://api.gocarrot.com"


@frozen
class Limits:
    """Requests per second that the session may make.

    Attributes:
        identify: for `POST /v2/identify`; Teak documents 200.
        subscription: for reading and setting together, and again for all categories together; Teak documents 300 each.

    Lower figures take a share, where others spend from the same game's budget.
    """

    identify: int = field(default=200, validator=[instance_of(int), ge(1)])
    subscription: int = field(default=300, validator=[instance_of(int), ge(1)])


class Call:
    """One call on its way, as a bulk run watches it.

    Attributes:
        on_wire: whether a try of it may be at the server right now.
        last: make no further try after the present one.
        attempts: tries so far.
        error: what the call would end with if it were left now; `None` before its first try.
    """

    __slots__ = ("attempts", "endpoint", "error", "lane", "last", "on_wire", "request")

    def __init__(self, request: Request, lane: Lane) -> None:
        endpoint = ENDPOINTS.get(type(request))
        if endpoint is None:
            raise InvalidRequest(f"not a request: {type(request).__name__}; make an Identify, GetSubscription, …")
        self.request = request
        self.endpoint = endpoint
        self.lane = lane
        self.attempts = 0
        self.on_wire = False
        self.last = False
        self.error: TeakError | None = None


class TeakSession:
    """A session with Teak's server API for one game.

    Use it as `async with TeakSession() as teak:`, one for the whole program: its rate limits hold for what goes through it.

    Args:
        game_id: Teak App ID; `TEAK_GAME_ID` in the environment when left out.
        secret_key: Teak Server Secret; `TEAK_SECRET_KEY` in the environment when left out.
        base_url: another server, such as the sandbox.
        limits: requests per second.
        retry: how persistent to be.
        timeout: how long the network may take.
        http: an `aiohttp.ClientSession` of yours, used and never closed. Its middlewares are left out, since one that
            retries would break the limits; on it no credit is earned (see the README), so bulk runs are slower by the
            round trip.

    Raises:
        ValueError: when the credentials are missing or `base_url` is none.
    """

    def __init__(
        self,
        game_id: str | None = None,
        secret_key: str | None = None,
        *,
        base_url: str = API,
        limits: Limits = Limits(),
        retry: Retry = Retry(),  # noqa: B008
        timeout: Timeout = Timeout(),  # noqa: B008
        http: aiohttp.ClientSession | None = None,
    ) -> None:
        self._credentials = Credentials(
            _credential("game_id", game_id, "TEAK_GAME_ID", "Teak App ID"),
            _credential("secret_key", secret_key, "TEAK_SECRET_KEY", "Teak Server Secret"),
        )
        self._limits = limits
        self._retry = retry
        self._transport = Transport(base_url, timeout, f"teak_async/{__version__}", self._credentials.cleanse, http)
        self._buckets: dict[str, Bucket] = {}
        self._attempts: set[asyncio.Task[Response | TeakError]] = set()
        self._abandoned: set[asyncio.Task[Response | TeakError]] = set()
        self._state = "not opened yet: use `async with TeakSession(...) as teak:` or `await teak.open()`"
        self._closing = asyncio.Lock()
        self._closed = asyncio.Event()
        self.desktop_push = Subscriptions(self)

    async def open(self) -> Self:
        """Make the session ready, on the running loop; `async with` does it."""
        if self._buckets:
            raise SessionClosed("a session is opened once; make another one")
        self._transport.open()
        for endpoint in ENDPOINTS.values():
            if endpoint.budget not in self._buckets:
                self._buckets[endpoint.budget] = Bucket(endpoint.budget, getattr(self._limits, endpoint.limit))
        self._state = ""
        return self

    async def close(self) -> None:
        """End waiting calls with `SessionClosed`, let those on the wire finish, close the connections."""
        async with self._closing:
            if self._state:
                return
            self._state = "closed"
            self._closed.set()
            for bucket in self._buckets.values():
                bucket.close()
            for attempt in self._abandoned:
                attempt.cancel()
            try:
                while self._attempts:
                    await asyncio.wait(self._attempts)
            finally:
                # Only when this very wait was cancelled is anything left.
                for attempt in self._attempts:
                    attempt.cancel()
                await asyncio.gather(*self._attempts, return_exceptions=True)
                await self._transport.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def rates(self) -> Mapping[str, Rate]:
        """A snapshot of each bucket, by its path as the server's refusal names it."""
        return {name: bucket.rate() for name, bucket in self._buckets.items()}

    @property
    def limits(self) -> Limits:
        """What the session was made with."""
        return self._limits

    @overload
    async def call(self, request: Identify) -> PlayerSession: ...
    @overload
    async def call(self, request: GetSubscription) -> SubscriptionStatus: ...
    @overload
    async def call(self, request: SetSubscription) -> SubscriptionChange: ...
    @overload
    async def call(self, request: SetCategorySubscription) -> CategorySubscriptionChange: ...

    async def call(self, request: Request) -> Response:
        """Make the call that a request stands for, in the live lane.

        Raises:
            TeakError: with what became of the call in `.delivery`.
        """
        return await self.perform(Call(request, Lane.LIVE))

    async def identify(
        self,
        user_id: str | int,
        *,
        client_ip: str | None = None,
        country_code: str | None = None,
        timezone_id: str | None = None,
        email: str | None = None,
        deep_link: str | None = None,
    ) -> PlayerSession:
        """Record that a player started a session: `POST /v2/identify`. See `Identify` for the parameters.

        Not idempotent: each call that the server processes is a session. It is repeated by itself only when the try
        before it was certainly not processed.

        Raises:
            InvalidRequest: with every problem in `.errors`.
            TeakError: with what became of the call in `.delivery`.
        """
        return await self.call(
            Identify(
                user_id,
                client_ip=client_ip,
                country_code=country_code,
                timezone_id=timezone_id,
                email=email,
                deep_link=deep_link,
            )
        )

    def bulk(self, requests: Iterable[Request | InvalidRequest] | AsyncIterable[Request | InvalidRequest]) -> BulkRun:
        """Make many calls at once, as fast as the limits allow; see `BulkRun`.

        Args:
            requests: any iterable or async iterable; it is pulled only as fast as is sent. An `InvalidRequest` among
                them stands for a row that could not be read, and becomes a failed outcome.
        """
        from .bulk import BulkRun  # noqa: PLC0415 - bulk stands above the session and imports it

        return BulkRun(self, requests)

    def bucket_of(self, path: str) -> Bucket:
        """The budget of a path, named as in `rates`."""
        if self._state:
            raise SessionClosed(f"the session is {self._state}")
        return self._buckets[path]

    async def perform(self, call: Call) -> Response:
        """Make a call: as many tries as it may have, and the truth about all of them."""
        endpoint = call.endpoint
        bucket = self.bucket_of(endpoint.budget)
        message = encode(endpoint, call.request, self._credentials)
        refusals = 0
        ticket: int | None = None
        uncertain = False
        while True:
            try:
                ticket = await bucket.acquire(call.lane, ticket)
                call.attempts += 1
                result = await self._attempt(call, bucket, message)
            except SessionClosed as closed:
                result = closed
            if not isinstance(result, TeakError):
                if uncertain and isinstance(result, SubscriptionChange | CategorySubscriptionChange):
                    result = attrs.evolve(result, repeated=True)
                return result
            if isinstance(result, RateLimited):
                refusals += 1
            else:
                ticket = None
            tries = call.attempts - refusals
            wait = decide(self._retry, endpoint.effect, result, tries, refusals, random.random())  # noqa: S311
            uncertain = uncertain or result.delivery is Delivery.UNKNOWN
            if uncertain and endpoint.effect is not Effect.READ and result.delivery is not Delivery.DONE:
                result.delivery = Delivery.UNKNOWN
            result.attempts = call.attempts
            call.error = result
            if wait is None or call.last:
                raise result
            if wait:
                await self._pause(wait)

    async def _pause(self, seconds: float) -> None:
        """Wait before the next try, unless the session is closed meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    async def _attempt(self, call: Call, bucket: Bucket, message: Message) -> Response | TeakError:
        """Make one try with a permit in hand, and see to it that the permit comes back when it may."""
        exchange = self._transport.begin()
        attempt = asyncio.create_task(self._exchange(call.endpoint, bucket, message, exchange))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempts.discard)
        call.on_wire = True
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            if attempt.cancelled() and not cancelling():
                # It was not the caller who left: the session was closed in a hurry.
                if exchange.unsent:
                    return SessionClosed("the session was closed before this call was sent")
                return ConnectionLost("the session was closed before the answer came")
            if exchange.unsent:
                if not exchange.begun:
                    # Cancelled before its first step it never runs, so it cannot give the permit back itself.
                    bucket.unsent()
                attempt.cancel()
            else:
                call.error = ConnectionLost("the call was left before its answer came")
                call.error.attempts = call.attempts
                if not attempt.done():
                    self._abandoned.add(attempt)
                    attempt.add_done_callback(self._abandoned.discard)
            raise
        finally:
            call.on_wire = False

    async def _exchange(self, endpoint: Endpoint, bucket: Bucket, message: Message, exchange: Exchange) -> Response | TeakError:
        exchange.begun = True
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            answer = await self._transport.send(message, exchange)
        except BaseException as failure:
            if exchange.unsent or (isinstance(failure, TeakError) and failure.delivery is Delivery.NOT_SENT):
                bucket.unsent()
            else:
                bucket.lost()
            if isinstance(failure, TeakError):
                return failure
            raise
        try:
            return decode(endpoint, answer.status, answer.headers, answer.body)
        except TeakError as error:
            if isinstance(error, RateLimited):
                bucket.refuse(began, error.retry_after)
            return error
        except Exception as error:  # noqa: BLE001 - an answer that no line here foresaw must not cost the call its truth
            what = f"{endpoint.name}: the answer could not be understood ({type(error).__name__})"
            return UnexpectedResponse(what, status=answer.status)
        finally:
            bucket.answered(loop.time() - began, answer.round_trip, warm=answer.warm)


class Subscriptions:
    """A player's subscription on one push channel, as `teak.desktop_push`."""

    def __init__(self, session: TeakSession) -> None:
        self._session = session

    async def status(self, user_id: str | int) -> SubscriptionStatus:
        """Read the status: `GET /v2/desktop_push/subscription_status`.

        Raises:
            TeakError: `PlayerNotFound` and the others, with the delivery.
        """
        return await self._session.call(GetSubscription(user_id))

    async def set_state(self, user_id: str | int, state: State | str) -> SubscriptionChange:
        """Opt a player in or out of everything: `POST /v2/desktop_push/subscription_status`.

        Raises:
            TeakError: `PlayerNotFound` and the others, with the delivery.
        """
        return await self._session.call(SetSubscription(user_id, state))

    async def set_category_state(self, user_id: str | int, category: str, state: State | str) -> CategorySubscriptionChange:
        """Opt a player in or out of one category: `POST /v2/desktop_push/subscription_status/{category}`.

        Raises:
            TeakError: `PlayerNotFound` and the others, with the delivery.
        """
        return await self._session.call(SetCategorySubscription(user_id, category, state))

    async def opt_out(self, user_id: str | int, category: str | None = None) -> SubscriptionChange | CategorySubscriptionChange:
        """Stop notifications, all or one category's; the same as setting the state."""
        return await self._set(user_id, category, State.OPT_OUT)

    async def opt_in(self, user_id: str | int, category: str | None = None) -> SubscriptionChange | CategorySubscriptionChange:
        """Allow notifications, all or one category's; the same as setting the state."""
        return await self._set(user_id, category, State.OPT_IN)

    async def _set(
        self, user_id: str | int, category: str | None, state: State
    ) -> SubscriptionChange | CategorySubscriptionChange:
        if category is None:
            return await self.set_state(user_id, state)
        return await self.set_category_state(user_id, category, state)


def cancelling() -> bool:
    """Whether somebody asked the running task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _credential(name: str, given: str | None, variable: str, what: str) -> str:
    value = os.environ.get(variable, "") if given is None else given
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"no {what}: pass {name}=… to TeakSession or set {variable} in the environment")
    return value
