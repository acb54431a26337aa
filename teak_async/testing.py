"""The pytest plugin: a Teak server for a test that asks, and a session on it. Installed with the package, it needs only pytest.

    async def test_arrival(teak_session, teak_sandbox):
        await teak_session.identify("p1", country_code="US")
        assert teak_sandbox.players["p1"].sessions == 1

The servers run in a thread with an event loop of its own, started when a test first asks, so a test may be asynchronous under
any plugin, or synchronous, or block. A session belongs to the loop that uses it, which only its first call knows; so the
test's session opens itself with that call. It closes at the end of that loop or of the test, whichever is first.

Rules of this module:

- Each test that asks has a server of its own, without limits and faults until the test sets some.
- A test reads and changes its server on the server's loop, between two of its steps.
- While a test has its server, `TeakSession()` and the command line go there too, by the three environment variables.
- Every run of pytest where the package is installed imports this module, so functions import the server.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from attrs import fields_dict

from ._client.retry import RetryPolicy
from ._client.transport import Timeout
from ._limits.session_limits import Limits
from ._session import TeakSession
from .errors import SessionClosed

if TYPE_CHECKING:
    from typing import Self

    from ._bulk.run import BulkRun
    from ._client.deadline import Deadline
    from .models import Request, Response
    from .sandbox import Fault, Faults, Player, Received, Sandbox
    from .sandbox.limit_models import PathStats

PLENTY = 100_000
"""Requests per second that the server allows: more than a test makes."""
QUICK = Limits(**dict.fromkeys(fields_dict(Limits), 5000))
"""Requests per second that a test's session makes at most."""
PATIENCE = 60.0
"""Seconds after which a server or session that does not respond fails the test; none ever takes as long."""

_T = TypeVar("_T")
R = TypeVar("R", bound="Response")


class TeakSandbox:
    """One test's server, as its test uses it.

    Attributes:
        url: its address.
        game_id: Teak App ID that it knows.
        secret_key: Teak Server Secret of that game.
    """

    def __init__(self, server: Sandbox, loop: asyncio.AbstractEventLoop) -> None:
        self.url = server.url
        self.game_id = server.game_id
        self.secret_key = server.secret_key
        self._server = server
        self._loop = loop
        self._sessions: list[SandboxSession] = []

    def __repr__(self) -> str:
        return f"<TeakSandbox {self.url}>"

    @property
    def players(self) -> dict[str, Player]:
        """The players as they are now, by user id: `sessions`, `email`, `state`, `categories`."""
        return self._run_on_loop(lambda: dict(self._server.players))

    @property
    def requests(self) -> list[Received]:
        """The requests received so far, in their order."""
        return self._run_on_loop(lambda: list(self._server.requests))

    @property
    def seen(self) -> dict[str, PathStats]:
        """The counts of each call, by the names of `fail_next`: `requests`, `rate_limited`, `busiest`."""
        from .sandbox import CALLS  # noqa: PLC0415 - every run of pytest imports this module

        return {name: self._server.seen[path] for name, path in CALLS.items()}

    def add_player(self, user_id: str, *, state: str = "opt_in", categories: dict[str, str] | None = None) -> Player:
        """Add a player without a session; an earlier player of that id is forgotten."""
        return self._run_on_loop(lambda: self._server.add_player(user_id, state=state, categories=categories))

    def fail_next(self, call: str, *faults: Fault) -> None:
        """Let the next requests of a call go wrong, one after the other.

        Args:
            call: `identify`; `desktop_push_status`, `push_status`, `email_status`: reading and setting;
                `desktop_push_category`, `push_category`, `email_category`: setting one category; `address`, `delivery_fault`,
                `unsubscriptions`, `exclusions` (listing, creating, ending), `exclusion` (reading), `removals`, `categories`.
            faults: `reset`: the connection is reset before the work; `response_lost`: after it; `error_before`: a 500 before
                the work; `error_after`: a 502 after it; `stall`: the response is five seconds late; `not_json`: a web page
                after the work; `rate_limited`: a 429.
        """
        self._run_on_loop(lambda: self._server.fail_next(call, *faults))

    def set_faults(self, faults: Faults) -> None:
        """Let shares of all requests go wrong, or make the network slow; see `teak_async.sandbox.Faults`."""
        self._run_on_loop(lambda: self._server.set_faults(faults))

    def set_limits(self, *, window: str | None = None, **limits: int) -> None:
        """Respond 429 to requests beyond these limits per second, counted from now on.

        Args:
            window: the limit model, `sliding` or `fixed`; left out, it stays as it is, `sliding` at first.
            limits: by the names of `teak_async.Limits`, such as `identify=200`; one that is left out is never reached.
        """
        from .sandbox import LIMITS  # noqa: PLC0415 - every run of pytest imports this module

        self._run_on_loop(lambda: self._server.set_limits(window=window, **{**dict.fromkeys(LIMITS, PLENTY), **limits}))

    def session(
        self,
        *,
        limits: Limits = QUICK,
        retry: RetryPolicy = RetryPolicy(initial_wait=0.01, outage=0),  # noqa: B008 - frozen
        timeout: Timeout = Timeout(connect=2, response=2),  # noqa: B008 - frozen
    ) -> SandboxSession:
        """Make another session on the server, by default with short waits; the end of the test closes it."""
        session = SandboxSession(self.game_id, self.secret_key, base_url=self.url, limits=limits, retry=retry, timeout=timeout)
        self._sessions.append(session)
        return session

    def _run_on_loop(self, step: Callable[[], _T]) -> _T:
        async def run() -> _T:
            return step()

        return _run_in_thread(run(), self._loop)

    def close(self) -> None:
        """Close the sessions; the end of the test does it."""
        for session in self._sessions:
            session.finish()


class SandboxSession(TeakSession):
    """A session that opens itself with its first call, on the loop that makes it; `async with` works as well."""

    _end: AsyncGenerator[None, None]

    def _check_open(self) -> None:
        self._open_on_this_loop()
        super()._check_open()

    async def open(self) -> Self:
        self._open_on_this_loop()
        return self

    async def close(self) -> None:
        _check_backend()
        await super().close()

    # Each of these reads the loop's clock before it checks that the session is open.

    def _execute(self, request: Request[R], deadline: Deadline) -> Coroutine[Any, Any, R]:
        _check_backend()
        return super()._execute(request, deadline)

    def submit(self, request: Request[R], *, deadline: Deadline = None) -> asyncio.Future[R]:
        _check_backend()
        return super().submit(request, deadline=deadline)

    if not TYPE_CHECKING:  # a type checker sees the session's own signature

        def bulk(self, *arguments: Any, deadline: Deadline = None, **options: Any) -> BulkRun:
            # A run may be made where no loop runs yet, though not with a deadline.
            if deadline is not None or _is_trio_running():
                _check_backend()
            return super().bulk(*arguments, deadline=deadline, **options)

    def _open_on_this_loop(self) -> None:
        """Open the session with its first call, and let the end of the loop close it."""
        _check_backend()
        if self._lifetime.loop is None:
            self._begin()
            self._end = self._close_at_end()
            # `asyncio.run` closes at its end the generators that were begun on its loop. The first step of this one waits
            # for nothing, so it needs no loop to take it.
            with suppress(StopIteration):
                anext(self._end).__await__().__next__()
        elif self._lifetime.loop is not asyncio.get_running_loop():
            raise SessionClosed("the session began on another event loop: let a test make all of its calls on one")

    async def _close_at_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.close()

    def finish(self) -> None:
        """Close the session from outside of its loop, unless the end of the loop has closed it."""

        async def end() -> None:
            await self._end.aclose()

        loop = self._lifetime.loop
        if loop is None or loop.is_closed():
            return
        if loop.is_running():
            _run_in_thread(end(), loop)
        else:
            loop.run_until_complete(end())


def _is_trio_running() -> bool:
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_run())


def _check_backend() -> None:
    """Check that an asyncio loop runs this test, and not another library's.

    Raises:
        RuntimeError: when none does; the message says what to set.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "teak_async needs asyncio, and no asyncio event loop runs this code. Where anyio runs tests on trio, too, let it"
            ' run on asyncio only, by this fixture in conftest.py: @pytest.fixture def anyio_backend(): return "asyncio"'
        ) from None


def _run_in_thread(work: Coroutine[Any, Any, _T], loop: asyncio.AbstractEventLoop) -> _T:
    """Run a coroutine on another thread's loop, and wait for it."""
    return asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE)


@pytest.fixture(scope="session")
def _teak_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The loop of the servers, in a thread of its own."""
    begun: Future[asyncio.AbstractEventLoop] = Future()
    over = asyncio.Event()

    async def serve() -> None:
        begun.set_result(asyncio.get_running_loop())
        await over.wait()

    # At its end `asyncio.run` cancels what the servers still do for clients that have gone.
    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="teak_sandbox", daemon=True)
    thread.start()
    loop = begun.result(PATIENCE)
    yield loop
    loop.call_soon_threadsafe(over.set)
    thread.join()


@pytest.fixture
def teak_sandbox(_teak_loop: asyncio.AbstractEventLoop) -> Iterator[TeakSandbox]:
    """A stand-in for Teak's server, new for this test. TEAK_BASE_URL and the credentials in the environment are its own."""
    from .sandbox import LIMITS, Sandbox  # noqa: PLC0415 - every run of pytest imports this module

    server = Sandbox(limits=dict.fromkeys(LIMITS, PLENTY), page=False)
    _run_in_thread(server.__aenter__(), _teak_loop)
    sandbox = TeakSandbox(server, _teak_loop)
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("TEAK_BASE_URL", server.url)
            environment.setenv("TEAK_GAME_ID", server.game_id)
            environment.setenv("TEAK_SECRET_KEY", server.secret_key)
            yield sandbox
        sandbox.close()
    finally:
        _run_in_thread(server.__aexit__(None, None, None), _teak_loop)


@pytest.fixture
def teak_session(teak_sandbox: TeakSandbox) -> SandboxSession:
    """A session on `teak_sandbox`: `await teak_session.identify(...)`. It opens itself with its first call."""
    return teak_sandbox.session()
