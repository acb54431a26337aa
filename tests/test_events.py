"""What a session tells: the events, who hears them, and the lines of the log."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections import Counter
from contextvars import ContextVar
from functools import partial
from typing import Any, get_args

import attrs
import pytest
from support import FAST, internals, session_on

from teak_async import Delivery, Identify, Limits, RetryPolicy, TeakError, TeakSession, Timeout, events
from teak_async._limits.allowance import Allowance
from teak_async._notify import Notifier
from teak_async.events import (
    AllowanceChanged,
    AttemptFailed,
    AttemptStarted,
    BucketPaused,
    Event,
    LedgerLost,
    LedgerRegained,
    PermitAcquired,
    RateLimitHit,
    ResponseReceived,
    RetryScheduled,
)
from teak_async.sandbox import IDENTIFY, STATUS, Faults, Sandbox

KINDS: tuple[type[Event], ...] = get_args(Event)
OF_NO_ATTEMPT = BucketPaused | AllowanceChanged | LedgerLost | LedgerRegained
FAULTS = Faults(
    seed=3, reset=0.03, response_lost=0.03, error_before=0.03, error_after=0.03, stall=0.03, not_json=0.03, stall_for=0.6
)


@pytest.fixture(autouse=True)
def won_back_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is won back a second after the pause, and not fourteen."""
    monkeypatch.setattr(Allowance, "HOLD", 0.0)
    monkeypatch.setattr(Allowance, "STEPS", 1)


def kinds(heard: list[Event]) -> Counter[str]:
    return Counter(type(event).__name__ for event in heard)


async def let_everything_happen(server: Sandbox, teak: TeakSession) -> None:
    """A refusal and all that follows from it until the limit is won back, and a set that is lost and made again."""
    server.add_player("p1")
    server.fail_next("desktop_push_status", "reset")
    await teak.desktop_push.opt_out("p1")
    await asyncio.gather(*(teak.identify(f"p{number}", country_code="US") for number in range(4)))
    while teak.rates[IDENTIFY].allowance < 4:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)


async def test_every_kind_of_event_is_told() -> None:
    """One run with a refusal and a lost connection tells of each kind, in an order that makes sense."""
    heard: list[Event] = []
    async with Sandbox(identify=3) as server, session_on(server, limits=Limits(identify=4), on_event=heard.append) as teak:
        await let_everything_happen(server, teak)
    assert {type(event) for event in heard} == set(KINDS) - {LedgerLost, LedgerRegained}, "these need a ledger"
    first = [event for event in heard if getattr(event, "endpoint", "") == "set state"]
    assert [type(event) for event in first] == [
        PermitAcquired,
        AttemptStarted,
        AttemptFailed,
        RetryScheduled,
        PermitAcquired,
        AttemptStarted,
        ResponseReceived,
    ]
    assert [event.attempt for event in first if not isinstance(event, OF_NO_ATTEMPT)] == [1, 1, 1, 1, 2, 2, 2]
    (lost,) = (event for event in first if isinstance(event, AttemptFailed))
    assert (lost.error, lost.delivery, lost.lane) == ("ConnectionLost", Delivery.UNKNOWN, "live")
    (refused,) = (event for event in heard if isinstance(event, RateLimitHit))
    assert (refused.bucket, refused.retry_after, refused.allowance, refused.attempt) == (IDENTIFY, None, 3, 1)
    (paused,) = (event for event in heard if isinstance(event, BucketPaused))
    assert paused.bucket == IDENTIFY
    assert paused.pause == pytest.approx(1.0)
    changes = [(event.before, event.allowance, event.limit) for event in heard if isinstance(event, AllowanceChanged)]
    assert changes == [(4, 3, 4), (3, 4, 4)]
    again = [event for event in heard if isinstance(event, RetryScheduled)]
    assert [(event.error, event.wait > 0) for event in again] == [("ConnectionLost", True), ("RateLimited", False)]


async def test_the_counts_agree_with_the_servers() -> None:
    """Over hundreds of calls with every fault the events count what the sandbox counted, and every attempt ends once."""
    heard: list[Event] = []
    async with (
        Sandbox(identify=100_000, faults=FAULTS) as server,
        session_on(server, limits=FAST, timeout=Timeout(connect=5, response=0.5), on_event=heard.append) as teak,
    ):
        report = await teak.bulk(Identify(f"p{number}", country_code="US") for number in range(600))
    requests = server.requests
    answered = [event for event in heard if isinstance(event, ResponseReceived)]
    lost = [event for event in heard if isinstance(event, AttemptFailed)]
    ended: list[ResponseReceived | AttemptFailed] = [*answered, *lost]
    spoiled = {"error_before": 500, "error_after": 502}
    said = Counter(
        spoiled.get(received.fault or "", received.status)
        for received in requests
        if received.fault not in ("reset", "response_lost", "stall")
    )
    assert Counter(event.status for event in answered) == said
    assert len(lost) == len(requests) - said.total() > 0
    assert {event.error for event in lost} == {"ConnectionLost", "TimedOut"}
    assert kinds(heard)["AttemptStarted"] == kinds(heard)["PermitAcquired"] == len(requests)
    assert sum(event.delivery is Delivery.DONE for event in answered) == report.succeeded
    assert sum(event.delivery is Delivery.UNKNOWN for event in ended) == report.in_doubt
    began = Counter((event.call, event.attempt) for event in heard if isinstance(event, AttemptStarted))
    assert began == Counter((event.call, event.attempt) for event in ended)
    assert set(began.values()) == {1}
    assert all(0 <= event.round_trip <= event.on_wire for event in answered)
    assert {event.lane for event in answered} == {"bulk"}


async def test_every_rate_limit_is_told() -> None:
    """The session takes more than there is: 429s and retries are as many as the server's."""
    heard: list[Event] = []
    async with (
        Sandbox(identify=20) as server,
        session_on(server, limits=Limits(identify=30), on_event=heard.append) as teak,
    ):
        await asyncio.gather(*(teak.identify(f"p{number}", country_code="US") for number in range(40)))
    seen = server.seen[IDENTIFY]
    counted = kinds(heard)
    assert counted["RateLimitHit"] == counted["RetryScheduled"] == seen.rate_limited >= 10
    assert counted["AttemptStarted"] == counted["ResponseReceived"] == seen.requests == 40 + seen.rate_limited
    lowered = [event for event in heard if isinstance(event, AllowanceChanged) and event.allowance < event.before]
    assert 1 <= len(lowered) < seen.rate_limited
    assert 1 <= counted["BucketPaused"] < seen.rate_limited, "one pause is told once, however many were refused together"


async def test_no_connection_is_told_for_each_attempt() -> None:
    """An attempt that found no server was not sent."""
    heard: list[Event] = []
    retry = RetryPolicy(max_attempts=3, initial_wait=0.001)
    async with TeakSession("1", "s", base_url="http://u:pw@127.0.0.1:1/x/", retry=retry, on_event=heard.append) as teak:
        with pytest.raises(TeakError):
            await teak.identify("p1", country_code="US")
    failed = [event for event in heard if isinstance(event, AttemptFailed)]
    assert [(event.attempt, event.error, event.delivery) for event in failed] == [
        (number, "ConnectFailed", Delivery.NOT_SENT) for number in (1, 2, 3)
    ]
    assert kinds(heard)["RetryScheduled"] == 2
    assert {event.server for event in heard if isinstance(event, AttemptStarted)} == {"http://127.0.0.1:1/x"}


async def test_every_attempt_ends_once_whenever_its_caller_leaves(sandbox: Sandbox) -> None:
    """Cancelled at any moment, an attempt that began is told to have ended: unsent, or answered with nobody waiting."""
    heard: list[Event] = []
    async with session_on(sandbox, on_event=heard.append) as teak:
        for step in range(60):
            call = asyncio.create_task(teak.identify(f"p{step}", country_code="US"))
            for _ in range(step):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
        while internals(teak).executor.under_way:
            await asyncio.sleep(0.001)
    ended = [event for event in heard if isinstance(event, ResponseReceived | AttemptFailed)]
    assert Counter(event.call for event in ended) == Counter(event.call for event in heard if isinstance(event, AttemptStarted))
    left = [event for event in ended if isinstance(event, AttemptFailed)]
    assert {(event.error, event.delivery) for event in left} == {("CancelledError", Delivery.NOT_SENT)}
    assert len(ended) - len(left) == sandbox.seen[IDENTIFY].requests


async def test_a_wait_is_told_with_its_seconds_and_lane(sandbox: Sandbox) -> None:
    """A call that found no permit tells how long it waited for one."""
    heard: list[Event] = []
    async with session_on(sandbox, limits=Limits(identify=1), on_event=heard.append) as teak:
        await teak.identify("p1", country_code="US")
        await teak.bulk([Identify("p2", country_code="US")])
    first, second = (event for event in heard if isinstance(event, PermitAcquired))
    assert (first.lane, second.lane) == ("live", "bulk")
    assert first.wait < 0.1
    assert 0.9 < second.wait < 2


PLAYER: ContextVar[str] = ContextVar("player", default="")


async def test_events_are_told_in_their_callers_context(sandbox: Sandbox) -> None:
    """A context variable set before a call is seen by the hook: whether awaited, submitted, or made in bulk."""
    seen: dict[int, set[str]] = {}

    def hook(event: Event) -> None:
        if not isinstance(event, OF_NO_ATTEMPT):
            seen.setdefault(event.call, set()).add(PLAYER.get())

    async with session_on(sandbox, on_event=hook) as teak:
        PLAYER.set("a")
        await teak.identify("p1", country_code="US")
        PLAYER.set("b")
        teak.submit(Identify("p2", country_code="US"))
        PLAYER.set("c")
        await teak.bulk([Identify("p3", country_code="US")])
    assert list(seen.values()) == [{"a"}, {"b"}, {"c"}]


@pytest.mark.parametrize("problem", [ValueError("of the hook"), asyncio.CancelledError(), RecursionError()])
async def test_a_hook_that_raises_harms_nothing(problem: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """Calls, refusals and permits go on as without it, and the log says so once, with the traceback and no secret."""

    def hook(event: Event) -> None:
        raise problem

    async with Sandbox(identify=3) as server, session_on(server, limits=Limits(identify=4), on_event=hook) as teak:
        await let_everything_happen(server, teak)
        assert all(handle.bucket.window._out == 0 for handle in internals(teak).limits.buckets.values())
        assert server.secret_key not in caplog.text
    assert [player.sessions for player in server.players.values()].count(1) == 4
    (blame,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert f"on_event raised {type(problem).__name__}" in blame.getMessage()
    assert blame.exc_info is not None
    assert "in hook" in caplog.text


async def test_a_log_that_raises_harms_nothing(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """A filter of the application's may fail, too, and even on the line about the hook."""

    def refuse(record: logging.LogRecord) -> bool:
        raise ZeroDivisionError

    def hook(event: Event) -> None:
        raise ValueError

    caplog.set_level(logging.DEBUG, "teak_async")
    logger = logging.getLogger("teak_async")
    logger.addFilter(refuse)
    try:
        async with session_on(sandbox, on_event=hook) as teak:
            await teak.identify("p1", country_code="US")
    finally:
        logger.removeFilter(refuse)
    assert teak.rates[IDENTIFY].in_window == 1


@pytest.mark.parametrize("hook", [5, "print"])
def test_a_hook_that_cannot_be_called_is_refused(hook: Any) -> None:
    """The error comes when the session is made."""
    with pytest.raises(TypeError, match="on_event must be something to call"):
        TeakSession("1", "s", on_event=hook)


async def _hook(event: Event) -> None: ...


class _Hook:
    async def __call__(self, event: Event) -> None: ...


@pytest.mark.parametrize("hook", [_hook, partial(_hook), _Hook()])
def test_a_hook_that_has_to_be_awaited_is_refused(hook: Any) -> None:
    """It would never be awaited."""
    with pytest.raises(TypeError, match="called, not awaited"):
        TeakSession("1", "s", on_event=hook)


async def test_nothing_is_made_while_nobody_listens(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a hook, and with the log as it is by default, a call makes no event."""

    def explode(*args: Any) -> Any:
        raise AssertionError(args)

    for kind in ("PermitAcquired", "AttemptStarted", "ResponseReceived"):
        monkeypatch.setattr(f"teak_async._client.executor.{kind}", explode)
    monkeypatch.setattr("teak_async._notify.Notifier.emit", explode)
    async with session_on(sandbox) as teak:
        await teak.identify("p1", country_code="US")
        await teak.bulk([Identify("p2", country_code="US")])


def test_the_log_is_silent_by_default() -> None:
    """A program that sets up no logging sees nothing on its terminal, even of refusals and unknown fates."""
    program = """
import asyncio
from teak_async import Limits, TeakError, TeakSession
from teak_async.sandbox import Sandbox
async def main():
    async with Sandbox(identify=3) as server:
        async with TeakSession(server.game_id, server.secret_key, base_url=server.url, limits=Limits(4, 4)) as teak:
            await asyncio.gather(*(teak.identify(f"p{number}", country_code="US") for number in range(4)))
            server.fail_next("identify", "response_lost")
            try:
                await teak.identify("p5", country_code="US")
            except TeakError as error:
                print(error.delivery, teak.rates["/v2/identify"].rate_limited)
asyncio.run(main())
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("unknown 1\n", "")


async def test_the_log_has_a_line_for_each_trouble_with_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    """At INFO: 429s, retries, pauses, lost connections and changed limits, each readable and with fields to search by."""
    caplog.set_level(logging.INFO, "teak_async")
    async with Sandbox(identify=3) as server, session_on(server, limits=Limits(identify=4)) as teak:
        await let_everything_happen(server, teak)
        server.fail_next("identify", "response_lost")
        with pytest.raises(TeakError):
            await teak.identify("p5", country_code="US")
    lines = [(record.levelname, vars(record)["teak_event"]) for record in caplog.records]
    assert sorted(lines) == sorted(
        [
            ("INFO", "attemptfailed"),
            ("INFO", "retryscheduled"),
            ("WARNING", "bucketpaused"),
            ("WARNING", "allowancechanged"),
            ("INFO", "ratelimithit"),
            ("INFO", "retryscheduled"),
            ("INFO", "allowancechanged"),
            ("WARNING", "attemptfailed"),
        ]
    )
    fields = {vars(record)["teak_event"]: vars(record) for record in caplog.records}
    assert (fields["ratelimithit"]["teak_endpoint"], fields["ratelimithit"]["teak_attempt"]) == ("identify", 1)
    assert (fields["ratelimithit"]["teak_allowance"], fields["allowancechanged"]["teak_limit"]) == (3, 4)
    assert (fields["bucketpaused"]["teak_bucket"], fields["bucketpaused"]["teak_pause"]) == (IDENTIFY, pytest.approx(1.0))
    assert (fields["retryscheduled"]["teak_error"], fields["retryscheduled"]["teak_wait"]) == ("RateLimited", 0.0)
    assert (fields["attemptfailed"]["teak_delivery"], fields["attemptfailed"]["teak_lane"]) == ("unknown", "live")
    said = [record.getMessage() for record in caplog.records]
    assert f"{IDENTIFY}: rate-limited (429), nothing is sent for 1.0 s" in said
    assert f"{IDENTIFY}: rate-limited within the limit, so it takes less: 3 of 4 a second, 4 before" in said
    assert f"{IDENTIFY}: won back: 4 of 4 a second, 3 before" in said


async def test_the_log_tells_of_every_attempt_when_asked(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG, which may be set while the session is open, each call has three lines."""
    async with session_on(sandbox) as teak:
        await teak.identify("p1", country_code="US")
        caplog.set_level(logging.DEBUG, "teak_async")
        await teak.identify("p2", country_code="US")
    assert [(record.levelname, vars(record)["teak_event"]) for record in caplog.records] == [
        ("DEBUG", "permitacquired"),
        ("DEBUG", "attemptstarted"),
        ("DEBUG", "responsereceived"),
    ]
    assert [vars(record)["teak_status"] for record in caplog.records[-1:]] == [201]


CANARIES = ("canary-player", "canary@example.com", "203.0.113.77", "canary-secret-key")


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
async def test_nothing_of_a_player_and_no_secret_is_told(level: int, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever happens to a call, neither events nor any field of a log line have who it was for, or the secret."""
    caplog.set_level(level, "teak_async")
    heard: list[Event] = []
    player, email, address, secret = CANARIES
    async with (
        Sandbox(secret_key=secret, faults=Faults(stall_for=0.2)) as server,
        session_on(server, timeout=Timeout(response=0.1), on_event=heard.append) as teak,
    ):
        for fault in ("reset", "response_lost", "error_before", "error_after", "not_json", "stall"):
            server.fail_next("identify", fault)
            server.fail_next("desktop_push_status", fault)
            with pytest.raises(TeakError):
                await teak.identify(player, client_ip=address, email=email)
            try:
                await teak.desktop_push.status(player)
            except TeakError:
                server.add_player(player)
        await teak.identify(player, client_ip=address, email=email)
    assert kinds(heard)["AttemptFailed"] == 6
    told = repr(heard) + caplog.text + repr([vars(record) for record in caplog.records])
    assert not [canary for canary in CANARIES if canary in told]


IDENTIFIED = ("identify", "live", 1, 1)
SET = ("set state", "bulk", 1, 1)


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (PermitAcquired(*SET, 0.5), logging.DEBUG),
        (AttemptStarted(*SET, "https://x"), logging.DEBUG),
        (ResponseReceived(*IDENTIFIED, 201, Delivery.DONE, None, 0.1, 0.2), logging.DEBUG),
        (ResponseReceived(*IDENTIFIED, 403, Delivery.REJECTED, "Forbidden", 0.1, 0.2), logging.WARNING),
        (ResponseReceived(*IDENTIFIED, 502, Delivery.UNKNOWN, "ServerError", 0.1, 0.2), logging.WARNING),
        (ResponseReceived(*SET, 502, Delivery.UNKNOWN, "ServerError", 0.1, 0.2), logging.INFO),
        (ResponseReceived(*SET, 200, Delivery.UNKNOWN, "UnexpectedResponse", 0.1, 0.2), logging.INFO),
        (ResponseReceived(*SET, 404, Delivery.REJECTED, "PlayerNotFound", 0.1, 0.2), logging.DEBUG),
        (AttemptFailed(*IDENTIFIED, Delivery.UNKNOWN, "TimedOut", 30.0), logging.WARNING),
        (AttemptFailed(*IDENTIFIED, Delivery.NOT_SENT, "ConnectFailed", 0.1), logging.INFO),
        (AttemptFailed(*IDENTIFIED, Delivery.NOT_SENT, "CancelledError", 0.1), logging.DEBUG),
        (AttemptFailed(*SET, Delivery.UNKNOWN, "ConnectionLost", 0.1), logging.INFO),
        (RateLimitHit(*SET, STATUS, 1.5, 240), logging.INFO),
        (RateLimitHit(*SET, STATUS, None, 240), logging.INFO),
        (RetryScheduled(*SET, "ServerError", 0.15), logging.INFO),
        (RetryScheduled(*SET, "RateLimited", 0.0), logging.INFO),
        (BucketPaused(STATUS, 1.0), logging.WARNING),
        (AllowanceChanged(STATUS, 300, 300, 240), logging.WARNING),
        (AllowanceChanged(STATUS, 300, 240, 255), logging.INFO),
    ],
)
def test_each_event_has_its_level_and_its_sentence(event: Event, level: int, caplog: pytest.LogCaptureFixture) -> None:
    """What needs attention is a warning; a sentence has no place that its event does not fill."""
    caplog.set_level(logging.DEBUG, "teak_async")
    Notifier(None).emit(event)
    ((_, logged, sentence),) = caplog.record_tuples
    assert logged == level
    assert sentence.startswith(("set state, attempt 1 of call 1: ", "identify, attempt 1 of call 1: ", f"{STATUS}: "))
    assert "None" not in sentence
    assert "%(" not in sentence


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_says_what_its_fields_are(kind: type[Event]) -> None:
    """Each attribute is described where it is declared, and events are values that cannot be changed."""
    described = "".join(parent.__doc__ or "" for parent in kind.__mro__)
    assert [field.name for field in attrs.fields(kind) if f" {field.name}: " not in described] == []
    assert all("__slots__" in vars(parent) for parent in kind.__mro__[:-1])
    assert kind.__setattr__ is not object.__setattr__
    assert getattr(events, kind.__name__) is kind
