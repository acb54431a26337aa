"""The circuit breaker by itself: when it opens, when it probes, when it gives up."""

from __future__ import annotations

import pytest

from teak_async import (
    ConnectFailed,
    ConnectionLost,
    DeadlinePassed,
    Delivery,
    InvalidRequest,
    RateLimited,
    ServerError,
    SessionClosed,
    TimedOut,
    UnexpectedResponse,
)
from teak_async._bulk.breaker import CircuitBreaker

FAILURES = [
    ServerError("503", status=503),
    UnexpectedResponse("a page", delivery=Delivery.UNKNOWN, status=302),
    UnexpectedResponse("a gateway", delivery=Delivery.UNKNOWN, status=401),
    ConnectionLost("lost"),
    ConnectFailed("nobody listens"),
    TimedOut("no connection", delivery=Delivery.NOT_SENT),
    TimedOut("no response", delivery=Delivery.UNKNOWN),
]
WORDS = [
    None,
    RateLimited("429", retry_after=1.0),
    InvalidRequest("400", delivery=Delivery.REJECTED, status=400),
    UnexpectedResponse("not understood", delivery=Delivery.DONE, status=200),
]


def tripped(outage: float = 600.0, error: Exception = FAILURES[0], now: float = 0.0) -> CircuitBreaker:
    breaker = CircuitBreaker(outage)
    for _ in range(5):
        breaker.record(error, now, probe=False)
    return breaker


@pytest.mark.parametrize("error", FAILURES)
def test_five_in_a_row_open_it(error: Exception) -> None:
    """For whatever reason nobody can vouch for them, also mixed, and not four."""
    breaker = CircuitBreaker(600)
    for count in range(4):
        breaker.record((error, *FAILURES)[count], 0.0, probe=False)
        assert breaker.closed
    breaker.record(error, 0.0, probe=False)
    assert not breaker.closed
    assert not breaker.admit(0.99)


@pytest.mark.parametrize("word", WORDS)
def test_a_word_of_the_servers_begins_the_count_anew(word: Exception | None) -> None:
    """Whatever it says, it is there."""
    breaker = CircuitBreaker(600)
    for count in range(20):
        breaker.record(word if count % 5 == 4 else FAILURES[count % 5], 0.0, probe=False)
    assert breaker.closed


@pytest.mark.parametrize("error", [SessionClosed("closed"), DeadlinePassed("late"), InvalidRequest("not sent")])
def test_what_was_never_sent_says_nothing_of_the_server(error: Exception) -> None:
    """Neither for an outage nor against it."""
    breaker = CircuitBreaker(600)
    for _ in range(20):
        breaker.record(error, 0.0, probe=False)
    assert breaker.closed
    for _ in range(4):
        breaker.record(FAILURES[0], 0.0, probe=False)
        breaker.record(error, 0.0, probe=False)
    breaker.record(FAILURES[0], 0.0, probe=False)
    assert not breaker.closed


def test_one_probe_at_a_time_at_1_2_4_and_so_on_to_60_seconds() -> None:
    """Each failed probe doubles the wait."""
    breaker, now, waits = tripped(3600.0), 0.0, []
    for _ in range(9):
        began = now
        while not breaker.admit(now):
            now += 0.25
        assert not breaker.admit(now + 1000)
        waits.append(now - began)
        breaker.record(FAILURES[0], now, probe=True)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert breaker.error is None


def test_a_probe_that_succeeds_closes_it_and_only_that() -> None:
    """What was on the wire when it opened may have been done before the outage."""
    breaker = tripped()
    breaker.record(None, 0.5, probe=False)
    assert not breaker.closed
    assert breaker.admit(1.0)
    breaker.record(None, 1.1, probe=True)
    assert breaker.closed
    assert breaker.admit(1.1)
    assert breaker.admit(1.1)
    for _ in range(4):
        breaker.record(FAILURES[0], 2.0, probe=False)
    assert breaker.closed


def test_a_probe_that_ends_without_a_result_is_followed_by_another() -> None:
    """Its row was left, or its deadline passed."""
    breaker = tripped()
    assert breaker.admit(1.0)
    assert not breaker.admit(1.0)
    breaker.release_probe()
    assert breaker.admit(1.0)


@pytest.mark.parametrize(("asked", "wait"), [(4.0, 4.0), (0.5, 1.0), (90.0, 90.0)])
def test_it_waits_as_long_as_it_is_asked_to(asked: float, wait: float) -> None:
    """The longer of Retry-After and its own wait."""
    error = ServerError("503", status=503)
    error.retry_after = asked
    breaker = tripped(error=error)
    assert not breaker.admit(wait - 0.01)
    assert breaker.admit(wait)


def test_what_was_on_the_wire_may_ask_for_more_and_does_not_double_the_wait() -> None:
    """Two hundred failures of one moment are one outage."""
    breaker = tripped()
    for _ in range(200):
        breaker.record(FAILURES[0], 0.1, probe=False)
    assert breaker.admit(1.0)
    breaker = tripped()
    late = ServerError("503", status=503)
    late.retry_after = 7.0
    breaker.record(late, 0.1, probe=False)
    assert not breaker.admit(7.0)
    assert breaker.admit(7.1)


def test_it_gives_up_when_the_outage_lasts_too_long() -> None:
    """The last probe is made when the time is over."""
    breaker, now = tripped(10.0), 0.0
    probes = []
    while breaker.error is None:
        now += 0.25
        if breaker.admit(now):
            probes.append(now)
            breaker.record(FAILURES[0], now, probe=True)
    assert probes == [1, 3, 7, 10]
    assert "calls in a row failed: ServerError: 503" in str(breaker.error)


@pytest.mark.parametrize(("outage", "asked"), [(0.0, None), (10.0, 11.0)])
def test_it_gives_up_at_once_where_waiting_is_of_no_use(outage: float, asked: float | None) -> None:
    """No outage is to be waited for, or the server asks for longer than that."""
    error = ServerError("503", status=503)
    error.retry_after = asked
    assert tripped(outage, error).error is not None
