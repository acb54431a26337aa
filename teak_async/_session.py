"""`TeakSession`: the public client.

It puts the parts together, has a method for each call, and hands the calls to the `CallExecutor`. A session is opened once, on
a running loop, and closed. It has one bucket per limited path, or shares another session's, and one connection pool.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncIterable, Coroutine, Iterable, Mapping
from datetime import timedelta, tzinfo
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from ssl import SSLContext
from types import NoneType, TracebackType
from typing import Any, NoReturn, Self, TypeVar, cast

import aiohttp

from ._api.credentials import Credentials
from ._bulk.outcomes import Row
from ._bulk.run import BulkRun
from ._client.call import Call
from ._client.deadline import Deadline, DueTime, as_seconds, due_time
from ._client.executor import CallExecutor
from ._client.lifetime import Lifetime, report_unclosed, running_loop
from ._client.retry import NO_RETRIES, RetryPolicy
from ._client.settings import check_credential, check_type, credential, set_in_environment
from ._client.submitted import Backlog
from ._client.transport import Timeout, Transport
from ._fleet.member import Member, ledger_at
from ._leaving import Decisions, wait_for_end
from ._limits.bucket import Lane, Rate
from ._limits.session_limits import BucketHandle, Limits, SessionLimits
from ._notify import Hook, Notifier
from ._parts.parts import SessionParts
from ._values import check_whole
from ._version import __version__
from .errors import InvalidRequest, SessionClosed, TeakError
from .models import Identify, PlayerSession, Request, Response

API = "https://api.gocarrot.com"

R = TypeVar("R", bound=Response)


class TeakSession(SessionParts):
    """A session with Teak's server API for one game.

    Open one for each process: `async with TeakSession() as teak:`. It keeps the limits for the calls that go through it. With
    `share` several processes keep them together.

    Args:
        game_id: Teak App ID. Default: `TEAK_GAME_ID` in the environment.
        secret_key: Teak Server Secret. Default: `TEAK_SECRET_KEY` in the environment.
        base_url: address of the server, `https://…` or `http://…`. Default: `TEAK_BASE_URL` in the environment, else Teak's
            own. The secret is sent there, whatever server it is.
        limits: requests per second. Default: what Teak documents, as is each figure that `Limits(…)` leaves out.
        retry: how often and after which waits a failed attempt is retried. Default: `RetryPolicy()`, five attempts. `None`:
            one attempt a call, and no wait in an outage.
        timeout: bounds of one attempt. Default: `Timeout(connect=10, response=30)`, in seconds.
        http: the caller's `aiohttp.ClientSession`. It is used and never closed. Default: a connection pool of the session's
            own. The middlewares of `http` are left out, since one that retries would break the limits. No credit is earned
            on it, so bulk runs are slower by the round trip. It brings its own proxies and certificates.
        ssl: an `ssl.SSLContext`, for a private CA or a client's certificate. Default: what the system trusts.
        backlog: calls that may be submitted and under way at a time, from 1 on. Default: 2000. See `submit`.
        drain_timeout: seconds from 0 on, or a `timedelta`, for which closing waits for submitted calls. Default: 10.
        on_event: called with each event of `teak_async.events`, on the loop, so it has to be quick. An error that it raises
            is logged once and harms no call. Default: none.
        share: the ledger by which the sessions of all processes keep `limits` together: a file on a local disk for one host,
            or `redis://host`, `rediss://host`, `unix:///socket` for many. Or an open `TeakSession` for the same game on the
            same loop; its limits hold for both together. Close it last. Default: `TEAK_SHARE` in the environment, else
            limits of its own.

    Raises:
        TypeError: a parameter is of another type.
        ValueError: a credential is missing, a number is too low, `base_url` is no address, `share` is no address, or is a
            session for another game or comes with `limits`.
    """

    def __init__(
        self,
        game_id: str | int | None = None,
        secret_key: str | None = None,
        *,
        base_url: str | None = None,
        limits: Limits | None = None,
        retry: RetryPolicy | None = RetryPolicy(),  # noqa: B008 - frozen, so all sessions may share it
        timeout: Timeout = Timeout(),  # noqa: B008 - frozen, too
        http: aiohttp.ClientSession | None = None,
        ssl: SSLContext | None = None,
        backlog: int = 2000,
        drain_timeout: float | timedelta = 10.0,
        on_event: Hook | None = None,
        share: TeakSession | str | Path | None = None,
    ) -> None:
        self._lifetime = Lifetime()
        self._credentials = Credentials(credential(game_id, "TEAK_GAME_ID"), credential(secret_key, "TEAK_SECRET_KEY"))
        given = type(game_id), type(secret_key)
        del secret_key  # an error from here on may be reported with the variables of this frame
        check_credential("Teak App ID", "game_id", given[0], is_set=bool(self._credentials.game_id))
        check_credential("Teak Server Secret", "secret_key", given[1], is_set=bool(self._credentials.secret_key))
        check_type("limits", limits, (Limits, NoneType), "limits=Limits(identify={0}, subscription={0})", 100)
        check_type("retry", retry, (RetryPolicy, NoneType), "retry=RetryPolicy(max_attempts={0}), or None for no retries", 3)
        check_type("timeout", timeout, (Timeout,), "timeout=Timeout(response={0:g})", 5.0)
        check_type("share", share, (TeakSession, str, Path, NoneType), 'share="redis://host", or share=another_session')
        check_whole("backlog", backlog, 1)
        if base_url is None:
            # Like the credentials: a program, a command or a test sets all three in its environment.
            base_url = set_in_environment("TEAK_BASE_URL") or API
        transport = Transport(base_url, timeout, f"teak_async/{__version__}", self._credentials.redact, http, ssl)
        self._transport = transport
        notifier = Notifier(on_event)
        owner, member = None, None
        if isinstance(share, TeakSession):
            owner = share._limits  # noqa: SLF001 - another session's, of this class
        elif address := set_in_environment("TEAK_SHARE") if share is None else str(share):
            member = Member(ledger_at(address), self.game_id, transport.server, timeout.response, notifier)
        self._limits: SessionLimits = SessionLimits(self.game_id, transport.server, limits, notifier, owner, member)
        self._buckets = self._limits.buckets
        self._executor = CallExecutor(transport, self._credentials, retry or NO_RETRIES, self._bucket_of, notifier)
        self._executor.member = self._limits.member
        self._closing: asyncio.Task[None] | None = None
        self._draining = False
        self._backlog = Backlog(backlog)
        self._drain_timeout = as_seconds("drain_timeout", drain_timeout, least=0)
        self._undelivered: tuple[tuple[Request, TeakError], ...] = ()

    def __repr__(self) -> str:
        return f"<TeakSession: game {self.game_id}, {self._lifetime.state}>"

    def __reduce__(self) -> NoReturn:
        # A copy would use the same sockets and permits, and close them under the session.
        raise TypeError("a session cannot be copied or pickled: pass it on as it is, or open another one")

    async def open(self) -> Self:
        """Open the session on the running loop; `async with` does it.

        Connections go through the proxy that `HTTPS_PROXY`, `HTTP_PROXY` or `ALL_PROXY` names now, unless `NO_PROXY` names
        the server.

        Raises:
            SessionClosed: the session was opened before, since each is opened once; or it was closed meanwhile; or that given
                as `share` is not open.
            RuntimeError: the session given as `share` is on another loop.
            ValueError: the proxy's address is not a valid one, or the session given as `http` is closed or on another loop.
            LedgerError: the ledger that `share` names cannot be used, and waiting does not mend it.
            LedgerUnavailable: the ledger cannot be reached now.
        """
        self._begin()
        try:
            await self._limits.join()
            self._lifetime.check()
        except BaseException:
            await self.close()
            raise
        return self

    def _begin(self) -> None:
        if self._lifetime.loop is not None:
            raise SessionClosed("a session is opened once; make another one")
        self._transport.check()
        self._limits.open()
        try:
            self._transport.open(sum(handle.bucket.window.limit for handle in self._buckets.values()))
        except BaseException:
            self._limits.close()
            raise
        self._lifetime.begin()
        # Given the parts and not this session, which could never be collected then.
        left = (self._transport, self._backlog, self._limits)
        self._unclosed = weakref.finalize(self, report_unclosed, *left, os.getpid())

    async def close(self) -> None:
        """Close the session; `async with` does it.

        Submitted calls have `drain_timeout` seconds. Then calls that wait for a permit end with `SessionClosed`, and those on
        the wire get their responses, but for cancelled ones. `undelivered` has the submitted calls that failed meanwhile. End
        bulk runs before: they end with `SessionClosed`.
        """
        await self._close(None)

    async def _close(self, error: BaseException | None) -> None:
        """Close the session, however often the caller is cancelled meanwhile. A new decision to leave cuts the waits short."""
        if self._closing is None:
            if self._lifetime.ended:
                return
            self._lifetime.check_place()
            self._unclosed.detach()
            self._draining = True
            if not self._backlog.busy:
                self._end_waiting()
            # A task of its own: a cancelled caller must not end the account of the submitted calls.
            self._closing = asyncio.create_task(self._finish())
        hurried = False

        def hurry() -> None:
            nonlocal hurried
            if self._closing is not None and not hurried:
                self._closing.cancel()
            hurried = True

        cancelled = await wait_for_end(self._closing, Decisions(error), hurry)
        if not self._closing.cancelled():
            self._closing.result()
        if cancelled is not None and error is None:
            raise cancelled

    async def _finish(self) -> None:
        hurry = True
        undelivered = self._backlog.undelivered()
        try:
            await self._backlog.drain(self._drain_timeout)
            hurry = False
        finally:
            self._end_waiting()
            try:
                try:
                    await self._executor.close(hurry=hurry)
                finally:
                    await self._limits.leave()
            finally:
                try:
                    self._undelivered = await undelivered.collect()
                finally:
                    await self._transport.close()

    def _end_waiting(self) -> None:
        self._lifetime.end()
        self._limits.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close(error)

    @property
    def undelivered(self) -> tuple[tuple[Request, TeakError], ...]:
        """The submitted calls under way as the session closed that failed, but for cancelled ones: each with its error."""
        return self._undelivered

    @property
    def rates(self) -> Mapping[str, Rate]:
        """A snapshot of each bucket, by the path that Teak's 429 names: `/v2/identify`; see `Rate`. Empty until it is open."""
        return self._limits.rates()

    @property
    def game_id(self) -> str:
        """Teak App ID."""
        return self._credentials.game_id

    @property
    def limits(self) -> Limits:
        """Requests per second, of this session and those it shares them with."""
        return self._limits.limits

    async def call(self, request: Request[R], *, deadline: Deadline = None) -> R:
        """Make one call, before any call of a bulk run.

        Args:
            request: one of `teak_async.models`, such as an `Identify` or a `SetSubscription`.
            deadline: when the call has to end: seconds from now (not a time of the loop's clock), a `timedelta`, or a
                `datetime` with a time zone. Default: none; each attempt has the session's `timeout`.

        Returns:
            The response to the request, such as a `PlayerSession` or a `SubscriptionChange`.

        Raises:
            TypeError, ValueError: `deadline` is of another type, a `datetime` without a time zone, or not finite.
            InvalidRequest: `request` is none of those.
            DeadlinePassed: the deadline passed before the call was sent (`NOT_SENT`), or sent again after an attempt in doubt
                (`UNKNOWN`).
            TimedOut: the call was sent, and no response came before the deadline (`UNKNOWN`).
            TeakError: with what became of the call in `.delivery`.
        """
        return await self._execute(request, deadline)

    def _execute(self, request: Request[R], deadline: Deadline) -> Coroutine[Any, Any, R]:
        # No coroutine of its own: a hundred thousand calls may wait, and each coroutine is what the collector has to visit.
        return cast(Coroutine[Any, Any, R], self._executor.execute(Call(request, Lane.LIVE, _due(deadline))))

    def submit(self, request: Request[R], *, deadline: Deadline = None) -> asyncio.Future[R]:
        """Make one call without waiting for it: for a tick loop that cannot await.

        Leaving the session waits `drain_timeout` seconds for it. A call that fails meanwhile is in `undelivered`.

        Args:
            request: as for `call`.
            deadline: as for `call`.

        Returns:
            A future of the response. If it is dropped and the call fails, asyncio logs the error, in which Teak's words may
            name the player. Both the method and the future belong to the loop's thread.

        Raises:
            TypeError, ValueError, InvalidRequest: as for `call`.
            BacklogFull: `backlog` calls are submitted and under way already; this one was not taken.
            SessionClosed: the session is not open, or is being closed.
        """
        call = Call(request, Lane.LIVE, _due(deadline))
        self._check_open()
        if self._draining:
            raise SessionClosed("the session is being closed")
        self._backlog.check_room()
        return cast("asyncio.Future[R]", self._backlog.add(request, self._executor.execute(call)))

    async def identify(
        self,
        user_id: str | int,
        *,
        client_ip: str | IPv4Address | IPv6Address | None = None,
        country_code: str | None = None,
        timezone_id: str | tzinfo | None = None,
        email: str | None = None,
        deep_link: str | None = None,
        deadline: Deadline = None,
    ) -> PlayerSession:
        """Record that a player started a session: `POST /v2/identify`.

        Not idempotent: each call that the server processes is a session. The client repeats it only when the attempt before
        was certainly not processed. Teak's page: "Server to Server Player Sessions".

        Args:
            user_id: the game's own player id: text, or a whole number.
            client_ip: the player's address, for the country. This or `country_code` is needed: `127.0.0.1` if neither is known.
            country_code: two letters (ISO 3166-1), in place of `client_ip`, which wins if both are given.
            timezone_id: IANA name such as `Europe/Paris`, or a `ZoneInfo`. Default: the server takes UTC.
            email: stored for the player. Default: none.
            deep_link: a link that the response returns resolved. Default: none.
            deadline: as for `call`.

        Returns:
            The session's id, the player's country, and the opt-out states of each channel.

        Raises:
            TypeError, ValueError: as for `call`.
            InvalidRequest: with every problem in `.errors`, by parameter.
            TeakError: with what became of the call in `.delivery`.
        """
        request = Identify(
            user_id, client_ip=client_ip, country_code=country_code, timezone_id=timezone_id, email=email, deep_link=deep_link
        )
        return await self._execute(request, deadline)

    def bulk(
        self,
        requests: Iterable[Request | InvalidRequest | Row] | AsyncIterable[Request | InvalidRequest | Row],
        *,
        journal: str | Path | None = None,
        resend_in_doubt: bool = False,
        deadline: Deadline = None,
        about: Mapping[str, object] | None = None,
    ) -> BulkRun:
        """Make many calls at once, as fast as the limits allow.

        Await the run for its `BulkReport`; or read its outcomes with `async with teak.bulk(…) as run`, `async for … in run`.

        Args:
            requests: any iterable or async iterable, also an endless one; it is read as fast as its calls are sent. An
                iterable is read in the loop's thread; one that waits, for a file or a database, has to be async. An
                `InvalidRequest` stands for a row that could not be read and becomes a failed outcome. A `Row` adds a source.
            journal: path of a SQLite file that makes the run survive a kill: the same call with the same journal goes on
                where it was. One process at a time. Default: no journal.
            resend_in_doubt: whether to send identifies again that an earlier run left in doubt; some players may then have
                two sessions. Default: they stay in doubt.
            deadline: when the run stops sending: seconds from now, a `timedelta`, or a `datetime` with a time zone. Responses
                under way are waited for. The input is read to its end, and its other rows end with `DeadlinePassed`; the next
                run with the same journal sends them. Default: none.
            about: names and values that the journal keeps of the run, beside the game. A run that goes on has to give the
                same. Default: none.

        Raises:
            TypeError: `requests` is no iterable, or is text.
            TypeError, ValueError: `deadline`, as for `call`.
            SessionClosed: a `deadline` is given where no loop runs, as in another thread.
            JournalError, Outage, SessionClosed, Forbidden, GameNotFound, CertificateError: from the run, when no other row
                could succeed; and any error that the input raises. Its `delivery` is that of the rows that were left; what
                became of the others is in their outcomes, in `run.report` and in the journal.
        """
        known = {**(about or {}), "game_id": self.game_id}
        due = _due(deadline)
        parts = self._executor, self.limits, requests, journal, known, due, self._check_open
        return BulkRun(*parts, resend_in_doubt=resend_in_doubt)

    def _bucket_of(self, path: str) -> BucketHandle:
        self._check_open()
        return self._buckets[path]

    def _check_open(self) -> None:
        self._lifetime.check()


def _due(deadline: Deadline) -> DueTime | None:
    return None if deadline is None else due_time(deadline, running_loop().time())
