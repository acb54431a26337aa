from __future__ import annotations

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teak_async._limits.allowance import SECOND
from teak_async._limits.credit import RttCredit
from teak_async._limits.permits import GUARD, HOLD, LATE, PermitWindow


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
    """The floor rises by a tenth of a millisecond in a second, so a route that flaps every half minute is never believed."""
    credit = RttCredit()
    now = feed(credit, [0.04] * 100)
    before = credit.at(now)
    later = feed(credit, [0.06] * 2800, now)
    assert later - now == pytest.approx(30, abs=1)
    assert credit.at(later) - before == pytest.approx(0.003, abs=0.0003)
    assert credit.at(later) < 0.04, "all that is sent now may come back on the fast route"
    later = feed(credit, [0.06] * 18_000, later)
    assert credit.at(later) == pytest.approx(0.06 - 0.003 - 0.002)


def test_a_lost_request_does_not_raise_the_floor() -> None:
    """The credit is earned anew, and the short round trips of before still count."""
    credit = RttCredit()
    now = feed(credit, [0.04] * 100)
    credit.forget()
    assert credit.at(now) == 0
    now = feed(credit, [0.2] * 100, now)
    assert 0 < credit.at(now) < 0.04


def test_credit_is_no_more_than_a_permits_own_round_trip() -> None:
    """Answers that came fast get no credit for slow ones after them."""
    window = PermitWindow(1)
    now = feed(window.credit, [0.4] * 300)
    assert window.credit.at(now) > 0.3
    window.try_acquire(now)
    window.release_answered(now, 0.004, 0.004)
    assert window.in_use(now + 0.9) == 1
    assert window.in_use(now + SECOND + 2 * GUARD) == 0


def test_permits_that_come_back_early_do_so_evenly() -> None:
    """Of a wave of ten, one is back each tenth of a second while credit brings it back early, and the rest after a second."""
    window = PermitWindow(10)
    now = feed(window.credit, [0.4] * 300)
    credit = window.credit.at(now)
    for _ in range(10):
        assert window.try_acquire(now)
    for _ in range(10):
        window.release_answered(now, 0.4, 0.4)
    first = now + HOLD - credit
    assert [window.in_use(first + tenth / 10 + 1e-6) for tenth in range(4)] == [9, 8, 7, 6]
    assert window.next_chance(first + 0.31) == pytest.approx(now + HOLD)
    assert window.in_use(now + HOLD + 1e-6) == 0


def test_a_permit_that_joins_others_delays_few_of_them() -> None:
    """A member with bulk work was given one just as another came back: the tenth after them is as early as before."""
    window = PermitWindow(101)
    now = feed(window.credit, [0.04] * 300)
    window.resize(101, apart=0.5)
    answers = sorted([now + number * 0.0101 for number in (*range(100), 50)])
    for at in answers:
        assert window.try_acquire(at)
        window.release_answered(at, 0.04, 0.04)
    early = [at + HOLD - window.credit.at(at) + 1e-6 for at in answers]
    assert [window.in_use(early[index]) for index in (50, 51, 61, 100)] == [50, 50, 39, 0]


def test_who_looks_late_does_not_move_the_returns() -> None:
    """The returns are spaced from where the formula puts them, not from when somebody asked."""
    window = PermitWindow(10)
    now = feed(window.credit, [0.4] * 300)
    for _ in range(10):
        window.try_acquire(now)
    for _ in range(10):
        window.release_answered(now, 0.4, 0.4)
    first = now + HOLD - window.credit.at(now)
    assert window.in_use(first + 0.25) == 7
    assert window.in_use(first + 0.3 + 1e-6) == 6


def test_bulk_leaves_what_live_calls_will_need() -> None:
    """After a burst of 150 nothing comes back for a second, in which forty live calls are expected: bulk leaves those."""
    window = PermitWindow(200)
    for number in range(2000):
        window.expect_live(number / 40)
    now = 50.0
    for _ in range(150):
        assert window.try_acquire(now)
    for _ in range(150):
        window.release_answered(now, 0.0)
    assert not window.try_acquire_bulk(now)
    assert window.next_bulk_chance(now) == pytest.approx(now + PermitWindow.ASK_AGAIN)
    assert sum(window.try_acquire_bulk(now + 0.5) for _ in range(50)) == pytest.approx(50 - 20 - 9, abs=2)
    assert window.try_acquire(now + 0.5), "what bulk leaves is there for live calls"


def test_bulk_leaves_nothing_where_nobody_calls() -> None:
    """A run without live calls beside it takes every permit, and so it does when they ended."""
    window = PermitWindow(200)
    window.expect_live(0.0)
    assert sum(window.try_acquire_bulk(0.0) for _ in range(300)) == 199
    assert window.try_acquire_bulk(60.0)
    assert not window.try_acquire_bulk(60.0)
    assert window.next_bulk_chance(60.0) is None


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


def pass_through(window: PermitWindow, now: float, count: int) -> None:
    """Let so many requests pass within the second before a moment."""
    for number in range(count):
        assert window.try_acquire(now)
        window.release_answered(now - SECOND + (number + 1) / (count + 1), 0.0)


def rate_limit(window: PermitWindow, now: float, sent_at: float) -> None:
    """Have one response be a 429, as the bucket says it."""
    window._out += 1
    window.record_rate_limit(now, sent_at, None)
    window.release_answered(now, now - sent_at)


def test_a_refusal_pauses_and_keeps_to_what_passed() -> None:
    """Nothing is granted until a second after a refusal, and then what passed in the second before it."""
    window = PermitWindow(200)
    pass_through(window, 0.1, 120)
    rate_limit(window, 0.1, 0.0)
    assert not window.try_acquire(1.0)
    assert window.next_chance(0.5) == pytest.approx(1.1)
    assert window.allowance(1.2) == window.left(1.2) == 120
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
    pass_through(window, 1.0, 80)
    for _ in range(5):
        rate_limit(window, 1.0, 0.9)
    assert window.allowance(1.0) == 80
    assert window.rate_limited == 5


def test_what_was_rate_limited_has_not_passed() -> None:
    """A second cut counts the answers that were no 429."""
    window = PermitWindow(100)
    pass_through(window, 1.0, 60)
    for _ in range(10):
        rate_limit(window, 1.0, 0.9)
    for number in range(50):
        window.try_acquire(2.05)
        window.release_answered(2.05 + number / 1000, 0.01)
    rate_limit(window, 2.1, 2.05)
    assert window.allowance(2.1) == 50, "fifty passed since the pause, and the ten of before the pause did not"


def test_the_whole_limit_is_won_back_and_the_other_one_forgotten() -> None:
    """After the hold in three steps, and the next step is known before it comes."""
    window = PermitWindow(100)
    pass_through(window, 0.0, 50)
    rate_limit(window, 0.0, 0.0)
    assert window.next_step(0.5) == pytest.approx(12.0)
    seconds = (11.9, 12.0, 13.0, 14.0, 15.0, 60.0)
    assert [window.allowance(second) for second in seconds] == [50, 52, 60, 92, 100, 100]
    assert window.left(60.0) is None
    assert window.next_step(60.0) == float("inf")


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
