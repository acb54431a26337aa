from __future__ import annotations

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teak_async._limits.allowance import SECOND
from teak_async._limits.credit import RttCredit
from teak_async._limits.permits import GUARD, LATE, PermitWindow


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


def test_a_lost_request_costs_more_than_a_second_and_the_credit() -> None:
    """Without an answer there is no credit, for this permit or for any other."""
    window = PermitWindow(3)
    now = feed(window.credit, [0.1] * 100)
    assert window.credit.at(now) > 0
    assert window.try_acquire(now)
    window.release_lost(now)
    assert window.credit.at(now) == 0
    assert window.in_use(now + SECOND + LATE) == 1
    assert window.in_use(now + SECOND + LATE + 2 * GUARD) == 0


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


def test_credit_follows_a_slower_route_little_by_little() -> None:
    """A route that flaps is a fast one again before its first fast answer can tell, so the floor rises 0.1 ms a second."""
    credit = RttCredit()
    now = feed(credit, [0.03] * 100)
    before, began = credit.at(now), now
    now = feed(credit, [0.12] * 3000, now)
    assert before < credit.at(now) <= before + RttCredit.RISE * (now - began)
    now = feed(credit, [0.12] * 200, now + RttCredit.STALE + 1)
    assert credit.at(now) > 0.1, "after a pause all is learnt anew"


def test_credit_is_no_more_than_a_permits_own_round_trip() -> None:
    """Answers that came fast get no credit for slow ones after them."""
    window = PermitWindow(1)
    now = feed(window.credit, [0.4] * 300)
    assert window.credit.at(now) > 0.3
    window.try_acquire(now)
    window.release_answered(now, 0.004, 0.004)
    assert window.in_use(now + 0.9) == 1
    assert window.in_use(now + SECOND + 2 * GUARD) == 0


def test_permits_with_credit_come_back_evenly() -> None:
    """A wave of answers does not come back as a wave: no closer together than 1/L, no later than without credit."""
    window = PermitWindow(10)
    now = feed(window.credit, [0.4] * 300)
    for _ in range(10):
        window.try_acquire(now)
    for _ in range(10):
        window.release_answered(now, 0.4, 0.4)
    early = now + SECOND + GUARD - window.credit.at(now)
    in_use = [window.in_use(early + 0.1 * step + 0.001) for step in range(5)]
    assert in_use == [9, 8, 7, 6, 0], "what is left has waited for a second"


def passed_of(window: PermitWindow, count: int, now: float) -> None:
    """Have so many requests answered at a moment, and none rate-limited."""
    for _ in range(count):
        assert window.try_acquire(now)
        window.release_answered(now, 0.0)


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


def test_a_refusal_pauses_and_keeps_what_passed() -> None:
    """Nothing is granted until a second after a refusal; then what somebody else is known to leave."""
    window = PermitWindow(10)
    passed_of(window, 6, 0.0)
    assert window.try_acquire(0.0)
    window.record_rate_limit(0.1, 0.0, None)
    window.release_answered(0.1, 0.1)
    assert not window.try_acquire(1.0)
    assert window.next_chance(0.5) == pytest.approx(1.1)
    assert window.allowance(1.2) == window.left(1.2) == 6
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
    passed_of(window, 80, 0.95)
    for _ in range(5):
        window.record_rate_limit(1.0, 0.9, None)
    assert window.allowance(1.0) == 79
    assert window.rate_limited == 5


def test_the_allowance_is_won_back_by_a_steep_probe() -> None:
    """The good level holds for eleven seconds after the pause; then come 2, 10 and 42 % more, and all of the limit."""
    window = PermitWindow(100)
    passed_of(window, 51, 0.0)
    window.record_rate_limit(0.0, 0.0, None)
    moments = (1.9, 11.9, 12.0, 13.0, 14.0, 15.0, 17.0)
    assert [window.allowance(second) for second in moments] == [50, 50, 52, 60, 92, 100, 100]
    assert window.left(17.0) == 50, "the limit has not yet passed for long enough"
    assert window.left(18.0) is None


def test_bulk_leaves_what_live_calls_will_need() -> None:
    """After a burst of live calls the last permits are not bulk's: live calls find one until others are back."""
    window = PermitWindow(200)
    for number in range(1500):
        window.expect_live(number / 50)  # fifty a second, for half a minute
    now = 30.0
    passed_of(window, 100, now)
    taken = 0
    while window.try_acquire_bulk(now):
        taken += 1
    assert 0 < taken < 50
    assert window.next_bulk_chance(now) == pytest.approx(now + PermitWindow.ASK_AGAIN)
    assert window.try_acquire(now)


def test_bulk_alone_leaves_nothing() -> None:
    """Without live calls within the last minute a bulk run takes every permit."""
    window = PermitWindow(200)
    window.expect_live(0.0)
    taken = 0
    while window.try_acquire_bulk(100.0):
        taken += 1
    assert taken == 200


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
