from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
import math
import os
import pickle
import re
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, assert_type
from unittest.mock import AsyncMock, create_autospec

import aiohttp
import pytest
from aioresponses import aioresponses
from support import Answering, internals, sample, session_on

from teak_async import (
    CategorySubscriptionChange,
    ConnectFailed,
    ConnectionLost,
    Delivery,
    Forbidden,
    GameNotFound,
    GetSubscription,
    Identify,
    InvalidRequest,
    Limits,
    PlayerNotFound,
    PlayerSession,
    RateLimited,
    Request,
    Response,
    RetryPolicy,
    ServerError,
    SessionClosed,
    SetCategorySubscription,
    SetSubscription,
    State,
    SubscriptionChange,
    SubscriptionStatus,
    TeakError,
    TeakSession,
    TimedOut,
    Timeout,
    UnexpectedResponse,
)
from teak_async._client.call import Call
from teak_async._limits.bucket import Lane
from teak_async.sandbox import CATEGORY, IDENTIFY, STATUS, Faults, Sandbox


async def test_identify_records_a_session_and_decodes_its_answer(teak: TeakSession, sandbox: Sandbox) -> None:
    """The documented call gives back the documented answer."""
    player = await teak.identify(
        42, client_ip="203.0.113.42", timezone_id="Europe/Paris", email="p@example.com", deep_link="teak1:///r?u={{user_id}}"
    )
    assert player == PlayerSession(
        country_code="US",
        opt_out_states=dict.fromkeys(("email", "push", "sms"), State.OPT_IN),
        session_id="1",
        deep_link="teak1:///r?u=42",
    )
    assert sandbox.players["42"].sessions == 1
    assert sandbox.players["42"].email == "p@example.com"


async def test_subscriptions_are_read_and_set(teak: TeakSession, sandbox: Sandbox) -> None:
    """Reading, setting, and setting a category speak to the same player."""
    sandbox.add_player("p1")
    assert (await teak.desktop_push.status("p1")).state is State.OPT_IN
    change = await teak.desktop_push.set_state("p1", "opt_out")
    assert (change.previous_state, change.state, change.repeated) == (State.OPT_IN, State.OPT_OUT, False)
    category = await teak.desktop_push.set_category_state("p1", "sales", "opt_out")
    assert (category.category, category.previous_state, category.state) == ("sales", State.OPT_IN, State.OPT_OUT)
    status = await teak.desktop_push.status("p1")
    assert (status.state, status.categories) == (State.OPT_OUT, {"sales": State.OPT_OUT, "events": State.OPT_IN})
    await teak.desktop_push.opt_in("p1")
    await teak.desktop_push.opt_in("p1", "sales")
    await teak.desktop_push.opt_out("p1", category="events")
    assert sandbox.players["p1"].state == "opt_in"
    assert sandbox.players["p1"].categories == {"sales": "opt_in", "events": "opt_out"}


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (Identify("p1", country_code="US"), PlayerSession),
        (GetSubscription("p1"), SubscriptionStatus),
        (SetSubscription("p1", State.OPT_IN), SubscriptionChange),
        (SetCategorySubscription("p1", "sales", State.OPT_IN), CategorySubscriptionChange),
    ],
)
async def test_every_request_is_also_a_value(teak: TeakSession, sandbox: Sandbox, request_: Any, response: type) -> None:
    """`call` takes any request and gives its response."""
    sandbox.add_player("p1")
    assert type(await teak.call(request_)) is response


async def test_a_category_reaches_no_other_path(teak: TeakSession, sandbox: Sandbox) -> None:
    """A category that looks like a path stays one segment."""
    sandbox.add_player("p1")
    name = "a/../../identify?x=1#y %2e"
    assert (await teak.desktop_push.opt_out("p1", name)).state is State.OPT_OUT
    assert sandbox.players["p1"].categories[name] == "opt_out"
    assert sandbox.seen[IDENTIFY].requests == 0


async def test_buckets_are_per_path(teak: TeakSession, sandbox: Sandbox) -> None:
    """Reading and setting share a bucket; identify and the categories have their own."""
    sandbox.add_player("p1")
    await teak.identify("p1", country_code="US")
    await teak.desktop_push.status("p1")
    await teak.desktop_push.opt_out("p1")
    await teak.desktop_push.opt_out("p1", "sales")
    spent = {path: (rate.in_window, rate.limit) for path, rate in teak.rates.items() if rate.in_window}
    assert spent == {IDENTIFY: (1, 200), STATUS: (2, 300), CATEGORY: (1, 300)}


async def test_errors_are_raised_as_documented(sandbox: Sandbox) -> None:
    """Each documented refusal is its own error, and says that nothing was done."""
    async with session_on(sandbox) as teak:
        with pytest.raises(PlayerNotFound) as unknown:
            await teak.desktop_push.status("nobody")
        with pytest.raises(InvalidRequest) as invalid:
            await teak.identify("p1", country_code="US", timezone_id="Mars/Olympus_Mons")
    assert unknown.value.delivery is Delivery.REJECTED
    assert invalid.value.delivery is Delivery.REJECTED
    assert list(invalid.value.errors) == ["timezone_id"]
    async with TeakSession("other", sandbox.secret_key, base_url=sandbox.url) as teak:
        with pytest.raises(GameNotFound):
            await teak.desktop_push.status("nobody")
    async with TeakSession(sandbox.game_id, "other", base_url=sandbox.url) as teak:
        with pytest.raises(Forbidden):
            await teak.identify("p1", country_code="US")
    assert sandbox.players == {}


async def test_a_request_knows_the_type_of_its_response(teak: TeakSession, sandbox: Sandbox) -> None:
    """The type checker and the running program agree on the response to each request."""
    sandbox.add_player("p1")
    change = await teak.call(SetSubscription("p1", "opt_out"))
    assert type(assert_type(change, SubscriptionChange)) is SubscriptionChange
    category_change = await teak.submit(SetCategorySubscription("p1", "sales", "opt_in"))
    assert type(assert_type(category_change, CategorySubscriptionChange)) is CategorySubscriptionChange
    requests: list[Request] = [Identify("p1", country_code="US"), GetSubscription("p1")]
    responses = [await teak.call(request) for request in requests]
    assert [type(response) for response in assert_type(responses, list[Response])] == [PlayerSession, SubscriptionStatus]


async def test_invalid_requests_are_not_sent(teak: TeakSession, sandbox: Sandbox) -> None:
    """What cannot be right raises before anything goes out."""
    with pytest.raises(InvalidRequest) as invalid:
        await teak.identify("", client_ip="nowhere")
    assert set(invalid.value.errors) == {"user_id", "client_ip"}
    assert invalid.value.delivery is Delivery.NOT_SENT
    with pytest.raises(InvalidRequest):
        await teak.call("p1")  # type: ignore[arg-type] # what is refused
    assert sandbox.seen[IDENTIFY].requests == 0


SPOILED: list[tuple[str, type[TeakError], Delivery]] = [
    ("reset", ConnectionLost, Delivery.UNKNOWN),
    ("response_lost", ConnectionLost, Delivery.UNKNOWN),
    ("error_before", ServerError, Delivery.UNKNOWN),
    ("error_after", ServerError, Delivery.UNKNOWN),
    ("not_json", UnexpectedResponse, Delivery.UNKNOWN),
    ("stall", TimedOut, Delivery.UNKNOWN),
]


@pytest.fixture
async def slow() -> AsyncIterator[Sandbox]:
    async with Sandbox(faults=Faults(stall_for=0.4)) as server:
        server.add_player("p1")
        yield server


@pytest.mark.parametrize(("fault", "error", "delivery"), SPOILED)
async def test_an_identify_of_unknown_fate_is_never_repeated(
    slow: Sandbox, fault: Any, error: type[TeakError], delivery: Delivery
) -> None:
    """One request reaches the server, and the error says that nobody knows."""
    slow.fail_next("identify", fault)
    async with session_on(slow, timeout=Timeout(connect=1, response=0.1)) as teak:
        with pytest.raises(error) as failed:
            await teak.identify("p1", country_code="US")
    assert (failed.value.delivery, failed.value.attempts) == (delivery, 1)
    assert slow.seen[IDENTIFY].requests == 1


@pytest.mark.parametrize("fault", [fault for fault, _, _ in SPOILED])
async def test_reads_and_sets_are_repeated(slow: Sandbox, fault: Any) -> None:
    """A read or a set whose try was spoiled is made again; a change says that its previous state may be our own."""
    slow.fail_next("desktop_push_status", fault, fault)
    async with session_on(slow, timeout=Timeout(connect=1, response=0.1)) as teak:
        change = await teak.desktop_push.opt_out("p1")
        slow.fail_next("desktop_push_status", fault)
        status = await teak.desktop_push.status("p1")
        again = await teak.desktop_push.opt_out("p1")
    assert change.repeated
    assert not again.repeated
    assert status.state is State.OPT_OUT
    assert slow.seen[STATUS].requests == 6


async def test_a_call_that_gives_up_says_what_any_of_its_tries_may_have_done(slow: Sandbox) -> None:
    """When an early try of a set may have been applied, a later refusal does not make the call rejected."""
    slow.fail_next("desktop_push_status", "response_lost")
    async with session_on(slow) as teak:
        call = asyncio.create_task(teak.desktop_push.opt_out("p1"))
        while not slow.requests:
            await asyncio.sleep(0)
        del slow.players["p1"]
        with pytest.raises(PlayerNotFound) as failed:
            await call
    assert (failed.value.delivery, failed.value.attempts) == (Delivery.UNKNOWN, 2)


async def test_no_server_is_not_sent_and_is_tried_again() -> None:
    """An identify that found no connection is tried as often as `RetryPolicy` says, and was never sent."""
    async with TeakSession(
        "1", "s", base_url="http://127.0.0.1:1", retry=RetryPolicy(max_attempts=3, initial_wait=0.001)
    ) as teak:
        with pytest.raises(ConnectFailed) as failed:
            await teak.identify("p1", country_code="US")
        assert (failed.value.delivery, failed.value.attempts) == (Delivery.NOT_SENT, 3)
        assert teak.rates[IDENTIFY].in_window == 0, "a permit whose request was never sent comes back at once"


async def test_a_refused_identify_is_repeated_after_the_pause(sandbox: Sandbox) -> None:
    """A refusal is not processed, so even an identify comes again, and the limit is lowered meanwhile."""
    async with Sandbox(identify=3) as tight, session_on(tight, limits=Limits(identify=4)) as teak:
        await asyncio.gather(*(teak.identify(f"p{number}", country_code="US") for number in range(4)))
        rate = teak.rates[IDENTIFY]
        assert (rate.rate_limited, rate.limit, rate.allowance) == (1, 4, 3)
        assert all(player.sessions == 1 for player in tight.players.values())
        assert len(tight.players) == 4


@contextlib.asynccontextmanager
async def mocked(key: str = "s", **options: Any) -> AsyncIterator[TeakSession]:
    """A session on an aiohttp session that a test has replaced."""
    async with (
        aiohttp.ClientSession() as http,
        TeakSession("1", key, base_url="http://teak.test", http=http, **options) as teak,
    ):
        yield teak


async def test_a_call_refused_too_often_gives_up_as_rejected() -> None:
    """After as many refusals as `RetryPolicy` allows the call fails, and was certainly not done."""
    with aioresponses() as server:
        server.post(
            "http://teak.test/v2/identify", status=429, body=sample("identify.429"), repeat=True, response_class=Answering
        )
        async with mocked(retry=RetryPolicy(max_rate_limited=0)) as teak:
            with pytest.raises(RateLimited) as refused:
                await teak.identify("p1", country_code="US")
    assert (refused.value.delivery, refused.value.attempts) == (Delivery.REJECTED, 1)


async def test_a_users_test_may_replace_aiohttp() -> None:
    """The session works on aioresponses, which knows nothing of connections, and then earns no credit."""
    with aioresponses() as server:
        server.post("http://teak.test/v2/identify", status=201, body=sample("identify.201"), response_class=Answering)
        async with mocked() as teak:
            assert (await teak.identify("p1", country_code="US")).session_id == "12345"


async def test_a_redirect_is_not_followed() -> None:
    """The secret goes nowhere else, and the message says what to look at."""
    with aioresponses() as server:
        headers = {"Location": "http://elsewhere.test/v2?secret_key=s3cret"}
        server.get(
            "http://teak.test/v2/desktop_push/subscription_status?game_id=1&secret_key=s3cret&user_id=p1",
            status=302,
            headers=headers,
            response_class=Answering,
        )
        async with mocked("s3cret", retry=RetryPolicy(max_attempts=1)) as teak:
            with pytest.raises(
                UnexpectedResponse, match=r"redirect to http://elsewhere\.test/v2, which is not followed"
            ) as moved:
                await teak.desktop_push.status("p1")
    assert moved.value.delivery is Delivery.UNKNOWN
    assert "s3cret" not in str(moved.value)


@pytest.mark.parametrize(("status", "attempts"), [(421, 2), (425, 2), (413, 1), (408, 1)])
async def test_an_identify_is_repeated_after_an_attempt_that_did_nothing(status: int, attempts: int) -> None:
    """A response that may come from a proxy ends the call unless its status says "not on this connection" or "not yet"."""
    with aioresponses() as server:
        url = "http://teak.test/v2/identify"
        server.post(url, status=status, body="<h1>Sorry</h1>", response_class=Answering)
        server.post(url, status=201, body=sample("identify.201"), response_class=Answering)
        async with mocked(retry=RetryPolicy(initial_wait=0.001)) as teak:
            call = Call(Identify("p1", country_code="US"), Lane.LIVE)
            with contextlib.suppress(UnexpectedResponse):
                await internals(teak).executor.execute(call)
    assert call.attempts == attempts
    assert call.error is not None
    assert call.error.delivery is (Delivery.UNKNOWN if status == 408 else Delivery.REJECTED)


async def test_everything_comes_from_the_environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments the three variables count, as they do for the command line."""
    monkeypatch.setenv("TEAK_GAME_ID", sandbox.game_id)
    monkeypatch.setenv("TEAK_SECRET_KEY", sandbox.secret_key)
    monkeypatch.setenv("TEAK_BASE_URL", sandbox.url)
    async with TeakSession() as teak:
        assert (await teak.identify("p1", country_code="US")).session_id == "1"


async def test_arguments_win_over_the_environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given as an argument is taken, whatever the environment says."""
    for variable in ("TEAK_GAME_ID", "TEAK_SECRET_KEY", "TEAK_BASE_URL"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    async with session_on(sandbox) as teak:
        assert (await teak.identify("p1", country_code="US")).session_id == "1"


@pytest.mark.parametrize("unset", [None, ""])
def test_the_server_is_teaks_unless_said_otherwise(monkeypatch: pytest.MonkeyPatch, unset: str | None) -> None:
    """Without a word about it, or with an empty one, calls go to Teak's own address."""
    monkeypatch.delenv("TEAK_BASE_URL", raising=False)
    if unset is not None:
        monkeypatch.setenv("TEAK_BASE_URL", unset)
    assert internals(TeakSession("1", "s")).limits.server == "https://api.gocarrot.com"


def test_a_wrong_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address from the environment has to be one, too."""
    monkeypatch.setenv("TEAK_BASE_URL", "api.gocarrot.com")
    with pytest.raises(ValueError, match="base_url must be like"):
        TeakSession("1", "s")


@pytest.mark.parametrize(
    ("game_id", "secret_key", "named"),
    [
        (None, "s", "TEAK_GAME_ID"),
        ("1", None, "TEAK_SECRET_KEY"),
        ("1", " ", "TEAK_SECRET_KEY"),
        ("1", "no text: \udcff", "TEAK_SECRET_KEY"),
        ("1", b"no text", "secret_key must be text, not bytes; decode it"),
        (7.5, "s", "game_id must be text, not float"),
    ],
)
def test_missing_credentials_are_named(game_id: Any, secret_key: Any, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which variable to set, when the session is made."""
    for variable in [variable for variable in os.environ if variable.startswith("TEAK_")]:
        monkeypatch.delenv(variable)
    with pytest.raises((ValueError, TypeError), match=named) as wrong:
        TeakSession(game_id, secret_key)
    assert "no text" not in str(wrong.value)


@pytest.mark.parametrize("base_url", ["", "api.gocarrot.com", "ftp://x", "http://", "http://x/?a=b", 7])
def test_a_wrong_base_url_is_refused(base_url: Any) -> None:
    """What is no address is found when the session is made."""
    with pytest.raises(ValueError, match="base_url must be like"):
        TeakSession("1", "s", base_url=base_url)


@pytest.mark.parametrize("user", ["user:%D0%BFsekret", "%D0%BFsekret", "us%3Aer:sekret"])
def test_a_user_that_cannot_be_sent_is_refused(user: str) -> None:
    """In an address, before anything is sent, and without a word of it."""
    with pytest.raises(ValueError, match="base_url has a user or password that HTTP cannot send") as wrong:
        TeakSession("1", "s", base_url=f"http://{user}@teak.test")
    assert "sekret" not in repr(wrong.value)
    assert wrong.value.__context__ is None


@pytest.mark.parametrize("figure", [0, -1, 1.5, "200", True])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("identify", lambda figure: Limits(identify=figure)),
        ("max_attempts", lambda figure: RetryPolicy(max_attempts=figure)),
        ("backlog", lambda figure: TeakSession("1", "s", backlog=figure)),
    ],
)
def test_a_wrong_number_is_refused(name: str, make: Callable[[Any], object], figure: Any) -> None:
    """What is no whole number is an error of the type, and one that is too low of the value."""
    wanted = re.escape(f"{name} must be a whole number from 1 on, not {figure!r}")
    with pytest.raises(ValueError if type(figure) is int else TypeError, match=wanted):
        make(figure)


async def test_a_session_is_shown_without_its_secret(sandbox: Sandbox) -> None:
    """It shows whose it is and whether it can be used, and so do its parts."""
    teak = session_on(sandbox)
    shown = f"<TeakSession: game {sandbox.game_id}"
    assert repr(teak) == f"{shown}, not opened yet>"
    async with teak:
        assert repr(teak) == f"{shown}, open>"
        assert repr(teak.push) == f"<Subscriptions (push) of {shown}, open>>"
        assert repr(teak.email) == f"<Email of {shown}, open>>"
    assert repr(teak) == f"{shown}, closed>"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
async def test_a_session_is_not_copied(copied: Callable[[object], object], teak: TeakSession) -> None:
    """A copy would share its sockets, and a part brings the session along."""
    with pytest.raises(TypeError, match="a session cannot be copied or pickled: pass it on"):
        copied(teak)
    with pytest.raises(TypeError, match="a session cannot be copied or pickled: pass it on"):
        copy.deepcopy(teak.push)


async def test_a_session_says_when_it_is_not_open(sandbox: Sandbox) -> None:
    """A call before opening and one after closing tell what to do, and were not sent."""
    teak = session_on(sandbox)
    with pytest.raises(SessionClosed, match="identify: the session is not opened yet: use `async with") as early:
        await teak.identify("p1", country_code="US")
    await teak.open()
    with pytest.raises(SessionClosed, match="opened once"):
        await teak.open()
    await teak.close()
    await teak.close()
    with pytest.raises(SessionClosed, match=r"read status \(desktop_push\): the session is closed"):
        await teak.desktop_push.status("p1")
    assert early.value.delivery is Delivery.NOT_SENT
    assert sandbox.seen[IDENTIFY].requests == 0


async def test_closing_ends_the_waiting_and_lets_the_sent_finish() -> None:
    """Calls on the wire get their answers, those still waiting hear that the session closed."""
    async with Sandbox(faults=Faults(delay=0.05)) as server:
        teak = await session_on(server, limits=Limits(identify=2)).open()
        calls = [asyncio.create_task(teak.identify(f"p{number}", country_code="US")) for number in range(5)]
        while server.seen[IDENTIFY].requests < 2:
            await asyncio.sleep(0.001)
        await teak.close()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(end) for end in ended] == [PlayerSession] * 2 + [SessionClosed] * 3
        assert server.seen[IDENTIFY].requests == 2


async def test_cancelling_before_the_send_sends_nothing(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """Cancelled while connecting, the request never leaves, and its permit is free at once."""
    connecting = asyncio.Event()

    async def connect(*args: Any, **kwargs: Any) -> Any:
        connecting.set()
        await asyncio.Event().wait()

    async with session_on(sandbox) as teak:
        with monkeypatch.context() as patched:
            patched.setattr(aiohttp.TCPConnector, "_create_connection", connect)
            call = asyncio.create_task(teak.identify("p1", country_code="US"))
            await connecting.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        await asyncio.sleep(0)
        assert teak.rates[IDENTIFY].in_window == 0
        await teak.identify("p2", country_code="US")
    assert sandbox.seen[IDENTIFY].requests == 1


async def test_cancelling_after_the_send_keeps_the_permit_until_the_answer() -> None:
    """The caller is gone at once, but the server still has the request, so its permit comes back with its answer."""
    async with Sandbox(faults=Faults(delay=0.1)) as server, session_on(server) as teak:
        await teak.identify("warm", country_code="US")
        call = asyncio.create_task(teak.identify("p1", country_code="US"))
        await asyncio.sleep(0.03)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert internals(teak).bucket(IDENTIFY).window._out == 1
        while internals(teak).bucket(IDENTIFY).window._out:
            await asyncio.sleep(0.01)
        assert server.players["p1"].sessions == 1


async def test_cancelling_at_every_moment_leaks_no_permit(sandbox: Sandbox) -> None:
    """However long a call has run when it is cancelled, in the end every permit is back and all tasks are gone."""
    async with session_on(sandbox) as teak:
        began = asyncio.get_running_loop().time()
        for step in range(60):
            call = asyncio.create_task(teak.identify(f"p{step}", country_code="US"))
            for _ in range(step):
                await asyncio.sleep(0)
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await call
        bucket = internals(teak).bucket(IDENTIFY)
        while bucket.window._out:
            await asyncio.sleep(0.001)
        assert not internals(teak).executor.under_way
        in_window, sent = bucket.rate().in_window, sandbox.seen[IDENTIFY].requests
        # A busy machine may take more than a second for all of it; the first permits are back then.
        assert in_window == sent or (in_window < sent and asyncio.get_running_loop().time() - began > 1)
    assert all(player.sessions == 1 for player in sandbox.players.values())


async def test_closing_does_not_wait_for_the_abandoned() -> None:
    """Answers nobody waits for any more do not hold up the end."""
    async with Sandbox(faults=Faults(stall_for=30)) as server:
        async with session_on(server, timeout=Timeout(response=30)) as teak:
            server.fail_next("identify", "stall")
            call = asyncio.create_task(teak.identify("p1", country_code="US"))
            while not server.requests:
                await asyncio.sleep(0.001)
            call.cancel()
            await asyncio.wait([call])
        assert not internals(teak).executor.under_way


async def test_cancelling_close_ends_everything() -> None:
    """A close that is itself cancelled leaves no task and no connection behind."""
    async with Sandbox(faults=Faults(stall_for=30)) as server:
        teak = await session_on(server, timeout=Timeout(response=30)).open()
        server.fail_next("identify", "stall")
        call = asyncio.create_task(teak.identify("p1", country_code="US"))
        while not server.requests:
            await asyncio.sleep(0.001)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(teak.close(), 0.05)
        assert not internals(teak).executor.under_way
        with pytest.raises(ConnectionLost) as lost:
            await call
    assert lost.value.delivery is Delivery.UNKNOWN


async def test_closing_ends_a_pause_between_tries(sandbox: Sandbox) -> None:
    """A call that waits for its next try hears of the closing, and says what its last try may have done."""
    sandbox.add_player("p1")
    sandbox.fail_next("desktop_push_status", "response_lost")
    teak = await session_on(sandbox, retry=RetryPolicy(initial_wait=60, max_wait=60)).open()
    call = asyncio.create_task(teak.desktop_push.opt_out("p1"))
    while not (sandbox.requests and not internals(teak).executor.under_way):
        await asyncio.sleep(0.001)
    await asyncio.gather(teak.close(), teak.close())
    with pytest.raises(SessionClosed) as closed:
        await asyncio.wait_for(call, 5)
    assert (closed.value.delivery, closed.value.attempts) == (Delivery.UNKNOWN, 1)


def respond_oddly(call: Any, **values: Any) -> tuple[int, dict[str, Any]]:
    body = {"status": "ok", "user_id": call.user_id, "channel": "desktop_push", "reachable": False, "state": "opt_out"}
    return 200, body | {"previous_state": 5, "categories": {}}


async def test_a_done_call_stays_done(slow: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """An uncertain try before it does not make a change that was certainly made uncertain."""
    slow.fail_next("desktop_push_status", "error_before")
    monkeypatch.setattr("teak_async.sandbox.game._respond_ok", respond_oddly)
    async with session_on(slow) as teak:
        with pytest.raises(UnexpectedResponse) as odd:
            await teak.desktop_push.opt_out("p1")
    assert (odd.value.delivery, odd.value.attempts) == (Delivery.DONE, 2)


async def test_an_answer_beyond_understanding_is_unknown(teak: TeakSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever reading an answer stumbles over, the call ends with the truth, and its permit comes back."""

    def stumble(*args: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("teak_async._client.executor.decode", stumble)
    with pytest.raises(UnexpectedResponse, match="ZeroDivisionError") as odd:
        await teak.identify("p1", country_code="US")
    assert odd.value.delivery is Delivery.UNKNOWN
    assert internals(teak).bucket(IDENTIFY).window._out == 0


async def test_a_callers_aiohttp_session_is_used_and_not_closed(sandbox: Sandbox) -> None:
    """The caller's connection pool serves, however small and however strict, and stays the caller's."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1), raise_for_status=True) as http:
        async with session_on(sandbox, http=http) as teak:
            await asyncio.gather(*(teak.identify(f"p{number}", country_code="US") for number in range(5)))
            with pytest.raises(PlayerNotFound):
                await teak.desktop_push.status("nobody")
        assert not http.closed
        assert teak.rates[IDENTIFY].credit == 0
    async with aiohttp.ClientSession() as http, session_on(sandbox, http=http) as teak:
        await http.close()
        with pytest.raises(ConnectFailed, match="closed"):
            await teak.identify("p1", country_code="US")


RESPONSE = 8.0
"""Seconds for a response where some stall; a busy machine has taken two for one that does not."""
FAULTS = Faults(
    seed=7,
    reset=0.02,
    response_lost=0.02,
    error_before=0.02,
    error_after=0.02,
    stall=0.02,
    not_json=0.02,
    stall_for=RESPONSE + 1,
)


def _make(number: int) -> Request:
    return Identify(f"p{number}", country_code="US")


async def test_delivery_agrees_with_the_server_for_every_call() -> None:
    """Over thousands of calls with every fault, no player has two sessions, and no call claims what the server denies."""
    count = 3000
    make: Callable[[int], Request] = _make
    async with (
        Sandbox(identify=100_000, faults=FAULTS) as server,
        session_on(server, limits=Limits(identify=2_000), timeout=Timeout(connect=10, response=RESPONSE)) as teak,
    ):
        told = {}
        async with teak.bulk(make(number) for number in range(count)) as run:
            async for outcome in run:
                told[outcome.index] = outcome.delivery
        sessions = [server.players[f"p{number}"].sessions if f"p{number}" in server.players else 0 for number in range(count)]
    assert len(told) == count
    assert max(sessions) == 1
    for number in range(count):
        assert told[number] is Delivery.UNKNOWN or (told[number] is Delivery.DONE) == (sessions[number] == 1)
    unknown = sum(delivery is Delivery.UNKNOWN for delivery in told.values())
    spoiled = sum(received.fault is not None for received in server.requests)
    assert 0 < unknown <= spoiled


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"timeout": 20}, "timeout must be Timeout, not the number 20: write timeout=Timeout(response=20)"),
        ({"timeout": 0.5}, "timeout=Timeout(response=0.5)"),
        ({"timeout": math.inf}, "timeout=Timeout(response=5)"),
        ({"retry": 2.5}, "not the number 2.5: write retry=RetryPolicy(max_attempts=3)"),
        ({"limits": 0}, "limits=Limits(identify=100, subscription=100)"),
        ({"timeout": None}, "timeout=Timeout(response=5)"),
        ({"limits": 50}, "limits must be Limits or None, not the number 50: write limits=Limits(identify=50, subscription=50)"),
        ({"limits": (200, 300)}, "limits=Limits(identify=100, subscription=100)"),
        ({"retry": 7}, "retry=RetryPolicy(max_attempts=7), or None for no retries"),
        ({"retry": RetryPolicy}, "retry=RetryPolicy(max_attempts=3), or None for no retries"),
        ({"share": 1}, "share=another_session"),
        ({"backlog": "5"}, "backlog must be a whole number from 1 on, not '5'"),
        ({"backlog": 0}, "backlog must be a whole number from 1 on, not 0"),
        ({"backlog": True}, "backlog must be a whole number from 1 on, not True"),
        ({"drain_timeout": "5"}, "drain_timeout must be a number of seconds or a timedelta, not str"),
        ({"drain_timeout": -1}, "drain_timeout must be 0 or more seconds, not -1"),
        ({"drain_timeout": timedelta(seconds=-2)}, "drain_timeout must be 0 or more seconds, not -2.0"),
        ({"share": "redis:/x"}, "share='redis:/x' lacks a slash: write redis://…"),
        ({"share": "sqlite:x.db"}, "share='sqlite:x.db' lacks a slash: write sqlite://…"),
        ({"drain_timeout": None}, "drain_timeout must be a number of seconds or a timedelta, not NoneType"),
    ],
)
def test_a_parameter_that_cannot_be_is_told_when_the_session_is_made(given: dict[str, Any], remedy: str) -> None:
    """With what to write, and not when the first call fails."""
    with pytest.raises((TypeError, ValueError), match=re.escape(remedy)):
        TeakSession("1", "s", **given)


async def test_none_is_no_retries(server: Sandbox) -> None:
    """One attempt, and its own error."""
    async with session_on(server, retry=None) as teak:
        server.fail_next("desktop_push_status", "reset", "reset")
        with pytest.raises(ConnectionLost) as lost:
            await teak.desktop_push.status("p1")
    assert lost.value.attempts == 1


@pytest.mark.parametrize("space", ["\n", " ", "\r\n", "\t"])
async def test_white_space_around_credentials_and_address_is_dropped(server: Sandbox, space: str) -> None:
    """A file that was read, a line that was copied."""
    async with TeakSession(space + server.game_id, server.secret_key + space, base_url=space + server.url + space) as teak:
        await teak.identify("p1", country_code="US")


def test_quotes_around_a_credential_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """An env file's quotes are no part of a key, in most cases."""
    TeakSession("1", '"s3cret"')
    assert "TEAK_SECRET_KEY begins and ends with a quotation mark" in caplog.text
    assert "s3cret" not in caplog.text


async def test_a_users_test_may_replace_a_session() -> None:
    """An autospec knows the parts of a session, and which of their methods are awaited."""
    teak = create_autospec(TeakSession, instance=True)
    teak.desktop_push.opt_out.return_value = "out"
    assert await teak.desktop_push.opt_out("p1", deadline=1) == "out"
    teak.identify.return_value = "session"
    assert await teak.identify("p1", country_code="US") == "session"
    with pytest.raises(TypeError):
        teak.desktop_push.status()
    with pytest.raises(AttributeError):
        teak.desktop_push.nonsense  # noqa: B018 - looking is what raises
    assert await AsyncMock(spec=TeakSession).identify("p1")
    doc = inspect.getdoc(inspect.getattr_static(TeakSession, "desktop_push"))
    assert "opt_out" in (doc or "")


async def test_an_error_of_the_network_names_call_server_and_attempts() -> None:
    """A line in a log is enough to know what was tried, where and how often."""
    retry = RetryPolicy(max_attempts=3, initial_wait=0.001)
    async with TeakSession("1", "s", base_url="http://127.0.0.1:9", retry=retry) as teak:
        with pytest.raises(TeakError) as failed:
            await teak.desktop_push.opt_out("p1")
    said = str(failed.value)
    assert said.startswith("set state (desktop_push): no connection to http://127.0.0.1:9: ConnectionRefusedError: ")
    assert said.endswith(" (3 attempts)")
    assert failed.value.args == (said,)
