from __future__ import annotations

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teak_async._limits.permits import GUARD, SECOND, PermitWindow, RttCredit


def feed(credit: RttCredit, round_trips: list[float], start: float = 0.0) -> float:
    """Let a credit learn round trips, one every 11 ms; give the time of the last."""
    now = start
    for round_trip in round_trips:
        now += 0.011
        credit.learn(now, round_trip)
    return now


def test_a_permit_comes_back_one_second_after_the_answer() -> None:
    """A permit is out from the send until a second after the answer, and no shorter."""
    window = PermitWindow(1)
    assert window.try_acquire(0.0)
    assert not window.try_acquire(5.0), "still on the wire"
    window.release_answered(5.0, 5.0)
    assert not window.try_acquire(5.0 + SECOND)
    assert window.next_chance(5.5) == pytest.approx(6.0 + GUARD)
    assert window.try_acquire(6.0 + GUARD)


def test_nothing_frees_a_permit_but_an_answer() -> None:
    """While all permits are on the wire there is no moment to wait for."""
    window = PermitWindow(2)
    assert window.try_acquire(0.0)
    assert window.try_acquire(0.0)
    assert window.next_chance(0.0) is None


def test_an_unsent_permit_comes_back_at_once() -> None:
    """A request that was never sent costs nothing."""
    window = PermitWindow(1)
    assert window.try_acquire(0.0)
    window.release_unused()
    assert window.try_acquire(0.0)


def test_a_lost_request_costs_a_whole_second_and_the_credit() -> None:
    """Without an answer there is no credit, for this permit or for any other."""
    window = PermitWindow(3)
    now = feed(window.credit, [0.1] * 100)
    assert window.credit.at(now) > 0
    assert window.try_acquire(now)
    window.release_lost(now)
    assert window.credit.at(now) == 0
    assert window.in_use(now + SECOND) == 1
    assert window.in_use(now + SECOND + 2 * GUARD) == 0


def test_credit_is_earned_by_a_whole_generation() -> None:
    """Ninety-nine answers earn nothing, a hundred do, if they took half a second."""
    hurried = RttCredit()
    for number in range(400):
        hurried.learn(number / 801, 0.1)
    assert hurried.at(0.5) == 0
    credit = RttCredit()
    now = feed(credit, [0.1] * 99)
    assert credit.at(now) == 0
    now = feed(credit, [0.1], now)
    assert credit.at(now) == pytest.approx(0.1 - 0.005 - 0.002)


def test_credit_follows_a_faster_route_at_once() -> None:
    """One shorter round trip lowers the credit without waiting for a generation."""
    credit = RttCredit()
    now = feed(credit, [0.12] * 150)
    now = feed(credit, [0.03], now)
    assert credit.at(now) < 0.03


def test_credit_follows_a_slower_route_after_two_generations() -> None:
    """The shortest of the last one to two hundred answers counts, so an old short one is forgotten in the end."""
    credit = RttCredit()
    now = feed(credit, [0.03] * 100)
    now = feed(credit, [0.12] * 99, now)
    assert credit.at(now) < 0.03
    now = feed(credit, [0.12], now)
    assert credit.at(now) > 0.1


def test_credit_is_no_more_than_a_permits_own_round_trip() -> None:
    """Answers that came fast get no credit for slow ones after them."""
    window = PermitWindow(3)
    window.try_acquire(0.0)
    window.release_answered(0.004, 0.004, 0.004, warm=True)
    now = feed(window.credit, [0.4] * 300, 0.004)
    assert window.credit.at(now) > 0.3
    fresh = PermitWindow(1)
    fresh.credit = window.credit
    fresh.try_acquire(now)
    fresh.release_answered(now, 0.004, 0.004)
    assert fresh.in_use(now + 0.9) == 1
    assert fresh.in_use(now + SECOND + 2 * GUARD) == 0


@pytest.mark.parametrize("limit", [200, 300, 1000])
def test_a_server_that_is_fast_and_slow_in_turn_breaks_no_window(limit: int) -> None:
    """The worst case for a credit: it is learnt from slow answers, and spent after fast ones."""
    window = PermitWindow(limit)
    flying: list[tuple[float, float]] = []
    stamps: list[float] = []
    for millisecond in range(20_000):
        now = millisecond / 1000
        while flying and flying[0][0] <= now:
            _, sent = heapq.heappop(flying)
            window.release_answered(now, now - sent, now - sent, warm=True)
        at_server = 0.45 if (now // 3.3) % 2 else 0.0
        while (now > 1 or len(stamps) < limit * now) and window.try_acquire(now):
            stamps.append(now + 0.002)
            heapq.heappush(flying, (now + 0.004 + at_server, now))
    late = zip(stamps, stamps[limit:], strict=False)
    assert min(after - before for before, after in late) >= SECOND


def test_credit_grows_stale() -> None:
    """What was learnt before a pause of ten seconds is not trusted after it."""
    credit = RttCredit()
    now = feed(credit, [0.12] * 100)
    assert credit.at(now + RttCredit.STALE + 0.1) == 0
    now = feed(credit, [0.12], now + RttCredit.STALE + 0.1)
    assert credit.at(now) == 0


def test_credit_is_bounded() -> None:
    """A slow server is not taken for a long way."""
    credit = RttCredit()
    assert credit.at(feed(credit, [5.0] * 100)) == RttCredit.MOST


@given(
    floor=st.floats(0, 0.3),
    jitter=st.floats(0, 0.1),
    seed=st.randoms(use_true_random=False),
)
def test_credit_stays_below_the_shortest_way_there_and_back(floor: float, jitter: float, seed: object) -> None:
    """With the times up and down spread evenly and apart from each other, the credit is a true lower bound."""
    draw = seed.random  # type: ignore[attr-defined] # Hypothesis names no type
    credit = RttCredit()
    now = feed(credit, [floor + jitter * (draw() + draw()) for _ in range(200)])
    assert credit.at(now) <= floor


def test_a_refusal_pauses_and_cuts_the_allowance() -> None:
    """Nothing is granted until a second after a refusal, and less than before after it."""
    window = PermitWindow(10)
    assert window.try_acquire(0.0)
    window.record_rate_limit(0.1, 0.0, None)
    window.release_answered(0.1, 0.1)
    assert not window.try_acquire(1.0)
    assert window.next_chance(0.5) == pytest.approx(1.1)
    assert window.allowance(1.2) == 8
    assert window.try_acquire(1.2)


def test_a_refusal_obeys_retry_after() -> None:
    """The server's own figure replaces the second."""
    window = PermitWindow(10)
    window.record_rate_limit(0.0, 0.0, 7.5)
    assert not window.try_acquire(7.4)
    assert window.try_acquire(7.5)


def test_refusals_of_one_burst_cut_once() -> None:
    """A request sent before the cut says nothing about the allowance after it."""
    window = PermitWindow(100)
    for _ in range(5):
        window.record_rate_limit(1.0, 0.9, None)
    assert window.allowance(1.0) == 80
    assert window.rate_limited == 5


def test_the_allowance_is_won_back_step_by_step() -> None:
    """Two seconds after a refusal it grows by a twentieth of the limit a second, to the limit and no further."""
    window = PermitWindow(100)
    window.record_rate_limit(0.0, 0.0, None)
    assert [window.allowance(second) for second in (1.9, 2.0, 3.0, 5.0, 60.0)] == [80, 85, 90, 100, 100]


def test_the_allowance_never_falls_to_nothing() -> None:
    """However often it is refused, a session keeps asking, one at a time."""
    window = PermitWindow(3)
    now = 0.0
    for _ in range(20):
        window.record_rate_limit(now, now, None)
        now += 1.5
    assert window.allowance(now) >= 1


def test_the_rate_counts_the_time_on_the_wire() -> None:
    """Permits that are away for longer sustain less."""
    window = PermitWindow(200)
    assert window.rate(0.0) == pytest.approx(200 / (SECOND + GUARD))
    for number in range(100):
        window.try_acquire(0.0)
        window.release_answered(number / 100, 0.25)
    assert window.rate(1.0) == pytest.approx(200 / (SECOND + GUARD + 0.25))
