"""What a call's attempts make of it: a table of effect, how the last attempt ended, and what was in doubt before."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from teak_async import (
    ConnectFailed,
    ConnectionLost,
    Delivery,
    GetSubscription,
    Identify,
    InvalidRequest,
    RateLimited,
    Request,
    RetryPolicy,
    SetSubscription,
    State,
    SubscriptionChange,
    TeakError,
    UnexpectedResponse,
)
from teak_async._api.codec import Message
from teak_async._client.call import Call
from teak_async._limits.bucket import Lane

NOT_SENT, REJECTED, UNKNOWN, DONE = Delivery.NOT_SENT, Delivery.REJECTED, Delivery.UNKNOWN, Delivery.DONE
REQUESTS: dict[str, Request] = {
    "read": GetSubscription("p1"),
    "set": SetSubscription("p1", "opt_out"),
    "record": Identify("p1", country_code="US"),
}
ERRORS: dict[Delivery, Callable[[], TeakError]] = {
    NOT_SENT: lambda: ConnectFailed("no connection"),
    REJECTED: lambda: InvalidRequest("invalid", delivery=REJECTED, status=400),
    UNKNOWN: lambda: ConnectionLost("lost"),
    DONE: lambda: UnexpectedResponse("not understood", delivery=DONE, status=200),
}
POLICY = RetryPolicy(max_attempts=3, max_rate_limited=2, initial_wait=1.0)


def call_of(effect: str, lane: Lane = Lane.LIVE) -> Call:
    call = Call(REQUESTS[effect], lane)
    call.attempts = 1
    return call


def take_in(call: Call, error: TeakError) -> float | TeakError:
    """The wait before the next attempt, or what the call ended with."""
    try:
        return call.next_wait(error, POLICY, 0.0)
    except TeakError as ended:
        return ended


def test_what_an_earlier_attempt_leaves_in_doubt_is_said() -> None:
    """A refusal alone would say that the call was not done; the attempt before it may have done it."""
    call = call_of("set")
    assert isinstance(take_in(call, ERRORS[UNKNOWN]()), float)
    call.attempts = 2
    assert str(take_in(call, ERRORS[REJECTED]())) == "invalid; but an earlier attempt may have done it"
    resumed = call_of("set", Lane.BULK)
    resumed.resent, resumed.stopping = True, True
    assert (
        str(take_in(resumed, ERRORS[NOT_SENT]()))
        == "set state (desktop_push): no connection; but an earlier run may have done it"
    )
    assert str(take_in(call_of("set"), ERRORS[REJECTED]())) == "invalid"


@pytest.mark.parametrize(
    ("effect", "before", "last", "again", "truth"),
    [
        # What reading leaves in doubt is nothing: its own last error is the truth.
        ("read", "", NOT_SENT, True, NOT_SENT),
        ("read", "", UNKNOWN, True, UNKNOWN),
        ("read", "", DONE, True, DONE),
        ("read", "", REJECTED, False, REJECTED),
        ("read", "uncertain", NOT_SENT, True, NOT_SENT),
        ("read", "uncertain", REJECTED, False, REJECTED),
        # A set may be repeated, and is in doubt from the first attempt that may have been done until the server responds.
        ("set", "", NOT_SENT, True, NOT_SENT),
        ("set", "", UNKNOWN, True, UNKNOWN),
        ("set", "", DONE, False, DONE),
        ("set", "", REJECTED, False, REJECTED),
        ("set", "uncertain", NOT_SENT, True, UNKNOWN),
        ("set", "uncertain", REJECTED, False, UNKNOWN),
        ("set", "uncertain", DONE, False, DONE),
        ("set", "resent", NOT_SENT, True, UNKNOWN),
        ("set", "resent", REJECTED, False, REJECTED),
        # A session that may be recorded is never sent again by itself.
        ("record", "", NOT_SENT, True, NOT_SENT),
        ("record", "", UNKNOWN, False, UNKNOWN),
        ("record", "", DONE, False, DONE),
        ("record", "", REJECTED, False, REJECTED),
        ("record", "uncertain", NOT_SENT, True, UNKNOWN),
        ("record", "uncertain", REJECTED, False, UNKNOWN),
        ("record", "resent", NOT_SENT, True, UNKNOWN),
    ],
)
def test_next_wait(effect: str, before: str, last: Delivery, again: bool, truth: Delivery) -> None:
    """Whether there is another attempt, and what the call would end with if it were left now."""
    call = call_of(effect)
    if before:
        setattr(call, before, True)
    result = take_in(call, ERRORS[last]())
    assert isinstance(result, float) is again
    assert call.error is not None
    assert (call.error.delivery, call.error.attempts) == (truth, 1)


def test_a_rate_limited_attempt_keeps_its_ticket_and_does_not_count() -> None:
    """It goes on at once, for its bucket's pause is where it waits; too many of them end the call."""
    call = call_of("record")
    call.ticket = 7
    for count in (1, 2):
        call.attempts = count
        assert take_in(call, RateLimited("429", retry_after=1.0)) == 0.0
    assert (call.ticket, call.rate_limited) == (7, 2)
    assert isinstance(take_in(call, RateLimited("429", retry_after=1.0)), RateLimited)
    assert take_in(call_of("record"), ConnectFailed("no connection")) == 0.5


def test_another_failure_drops_the_ticket() -> None:
    """Only who was rate-limited has a place at the head of the lane."""
    call = call_of("record")
    call.ticket = 7
    take_in(call, ConnectFailed("no connection"))
    assert call.ticket is None


@pytest.mark.parametrize(("lane", "gives_up"), [(Lane.LIVE, True), (Lane.BULK, False)])
def test_a_row_that_was_not_sent_goes_on_where_a_live_call_fails(lane: Lane, gives_up: bool) -> None:
    """A run ends for all of its rows or for none; a live call fails fast."""
    call = call_of("record", lane)
    call.attempts = 1000
    assert isinstance(take_in(call, ConnectFailed("no connection")), TeakError) is gives_up
    uncertain = call_of("set", lane)
    uncertain.attempts = 3
    assert isinstance(take_in(uncertain, ConnectionLost("lost")), ConnectionLost)


@pytest.mark.parametrize(("again", "cut"), [(NOT_SENT, True), (REJECTED, False)])
def test_the_last_attempt_of_a_run_that_stops(again: Delivery, cut: bool) -> None:
    """A call that would go on is cut off, one that has its response has ended by itself."""
    call = call_of("record")
    call.stopping = True
    assert isinstance(take_in(call, ERRORS[again]()), TeakError)
    assert call.stopped_before_retry is cut


@pytest.mark.parametrize("before", ["", "uncertain", "resent"])
def test_a_change_says_whether_it_may_be_repeated(before: str) -> None:
    """The state before it may be its own doing then."""
    call = call_of("set")
    if before:
        setattr(call, before, True)
    change = SubscriptionChange("p1", "desktop_push", State.OPT_OUT, State.OPT_OUT, False, {})
    finished = call.finish(change)
    assert isinstance(finished, SubscriptionChange)
    assert finished.repeated is bool(before)


def test_a_call_that_is_done_keeps_no_message() -> None:
    """A row of a bulk run stays in memory until somebody has read how it ended."""
    call = call_of("set")
    call.message = Message("POST", "/me", body=b"{}")
    call.finish(SubscriptionChange("p1", "desktop_push", State.OPT_OUT, State.OPT_OUT, False, {}))
    assert call.message is None
