from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import each

from teak_async._api.endpoints import Effect
from teak_async._client.retry import RetryPolicy, next_wait
from teak_async.errors import (
    ConnectFailed,
    ConnectionLost,
    DeadlinePassed,
    Delivery,
    Forbidden,
    GameNotFound,
    InvalidRequest,
    JournalError,
    NotFound,
    PlayerNotFound,
    RateLimited,
    ServerError,
    SessionClosed,
    TeakError,
    TimedOut,
    TransportError,
    UnexpectedResponse,
    UnknownState,
)

NETWORK: list[type[TeakError]] = [TransportError, ConnectFailed, ConnectionLost, TimedOut]
OTHERS: list[type[TeakError]] = [
    TeakError,
    InvalidRequest,
    Forbidden,
    NotFound,
    PlayerNotFound,
    GameNotFound,
    UnknownState,
    ServerError,
    UnexpectedResponse,
    JournalError,
    SessionClosed,
]
TABLE = {
    Delivery.NOT_SENT: {Effect.READ: True, Effect.SET: True, Effect.RECORD: True},
    Delivery.REJECTED: {Effect.READ: False, Effect.SET: False, Effect.RECORD: False},
    Delivery.UNKNOWN: {Effect.READ: True, Effect.SET: True, Effect.RECORD: False},
    Delivery.DONE: {Effect.READ: True, Effect.SET: False, Effect.RECORD: False},
}
"""Whether a call of some effect is repeated after it ended with some delivery."""
NEVER = dict.fromkeys(Effect, False)
"""The row of what was refused on this side: it would be refused again."""


@each("effect, delivery, kind", [*product(Effect, Delivery, NETWORK + OTHERS)])
def test_what_is_repeated(effect: Effect, delivery: Delivery, kind: type[TeakError]) -> None:
    """A call is repeated just where the table allows it: never where that could do its work twice."""
    row = NEVER if delivery is Delivery.NOT_SENT and kind in OTHERS else TABLE[delivery]
    wait = next_wait(RetryPolicy(), effect, kind("what happened", delivery=delivery), attempts=1, rate_limited=0, chance=0.5)
    assert (wait is not None) is row[effect]


@pytest.mark.parametrize("effect", Effect)
@pytest.mark.parametrize(
    ("status", "delivery", "repeated"),
    [
        (421, Delivery.REJECTED, True),
        (425, Delivery.REJECTED, True),
        (301, Delivery.REJECTED, False),
        (413, Delivery.REJECTED, False),
        (400, Delivery.REJECTED, False),
        (421, Delivery.UNKNOWN, False),
    ],
)
def test_statuses_that_are_repeated(effect: Effect, status: int, delivery: Delivery, repeated: bool) -> None:
    """An attempt that did nothing and may succeed elsewhere or later is repeated, an identify's too, as often as others."""
    error = UnexpectedResponse("what happened", delivery=delivery, status=status)
    wait = next_wait(RetryPolicy(max_attempts=2), effect, error, attempts=1, rate_limited=0, chance=0.5)
    assert (wait is not None) is (repeated or TABLE[delivery][effect])
    assert next_wait(RetryPolicy(max_attempts=2), effect, error, attempts=2, rate_limited=0, chance=0.5) is None


@pytest.mark.parametrize("effect", Effect)
@pytest.mark.parametrize("attempts", [0, 1, 5, 1000])
def test_a_refusal_waits_in_its_budget(effect: Effect, attempts: int) -> None:
    """A refused call of any effect goes on without a wait of its own, and the tries beside it do not count."""
    assert next_wait(RetryPolicy(max_attempts=5), effect, RateLimited("slower"), attempts, rate_limited=1, chance=1.0) == 0.0


@pytest.mark.parametrize("most", [0, 1, 30])
def test_rate_limited_end(most: int) -> None:
    """So many rate_limited are borne as was said, and not one more."""
    answers = [
        next_wait(RetryPolicy(max_rate_limited=most), Effect.READ, RateLimited("slower"), 0, count, 0.5)
        for count in range(1, most + 2)
    ]
    assert answers == [0.0] * most + [None]


@pytest.mark.parametrize("most", [1, 2, 5])
def test_attempts_end(most: int) -> None:
    """So many tries are made as was said, and not one more."""
    lost = ConnectionLost("gone")
    waits = [next_wait(RetryPolicy(max_attempts=most), Effect.SET, lost, count, 0, 0.5) for count in range(1, most + 1)]
    assert [wait is None for wait in waits] == [False] * (most - 1) + [True]


def test_rate_limited_do_not_count_as_tries() -> None:
    """A call that was refused often has all of its tries left."""
    assert (
        next_wait(RetryPolicy(max_attempts=2), Effect.READ, ServerError("down"), attempts=1, rate_limited=30, chance=0.0)
        is not None
    )


@given(
    wait=st.floats(0.001, 100),
    longest=st.floats(0.001, 100),
    attempts=st.integers(1, 60),
    chance=st.floats(0, 1),
)
def test_bounds_of_a_wait(wait: float, longest: float, attempts: int, chance: float) -> None:
    """A wait lies between half and the whole of its step, which doubles with each try up to the longest."""
    step = wait
    for _ in range(attempts - 1):
        step = min(step * 2, longest)
    step = min(step, longest)
    chosen = next_wait(
        RetryPolicy(max_attempts=61, max_rate_limited=0, initial_wait=wait, max_wait=longest),
        Effect.READ,
        ServerError("down"),
        attempts,
        0,
        chance,
    )
    assert chosen is not None
    assert step / 2 * (1 - 1e-9) <= chosen <= step * (1 + 1e-9)


@given(attempts=st.integers(1, 60), chances=st.lists(st.floats(0, 1), min_size=2, max_size=2).map(sorted))
def test_chance_spreads(attempts: int, chances: list[float]) -> None:
    """More chance is never less wait, and its two ends are half a step apart, so calls that failed together part."""
    error = ConnectFailed("refused")
    less, more, least, most = (
        next_wait(RetryPolicy(max_attempts=61), Effect.RECORD, error, attempts, 0, chance) for chance in (*chances, 0.0, 1.0)
    )
    assert less is not None
    assert more is not None
    assert least is not None
    assert less <= more
    assert most == pytest.approx(2 * least)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"max_attempts": -1},
        {"max_rate_limited": -1},
        {"initial_wait": 0},
        {"initial_wait": -1.0},
        {"max_wait": 0.0},
        {"initial_wait": math.nan},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    """A figure that makes no sense is refused where it is given."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetryPolicy(**wrong)


def test_a_row_that_was_not_sent_is_patient() -> None:
    """It is attempted again however often it was, unless something else than the network keeps it from being sent."""
    retry = RetryPolicy(max_attempts=2, max_wait=8.0)
    assert next_wait(retry, Effect.RECORD, ConnectFailed("no"), 1000, 0, 1.0, patient=True) == 8.0
    assert next_wait(retry, Effect.RECORD, ConnectFailed("no"), 1000, 0, 1.0) is None
    assert next_wait(retry, Effect.RECORD, DeadlinePassed("late"), 1, 0, 1.0, patient=True) is None
    assert next_wait(retry, Effect.SET, ConnectionLost("lost"), 2, 0, 1.0, patient=True) is None
