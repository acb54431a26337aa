from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from teak_async._fleet.ledger import Answer
from teak_async._fleet.policy import (
    ASKING,
    HOLDER,
    IDLE,
    OFTEN,
    QUIET,
    SOON,
    SOON_AT_MOST,
    SOONER,
    SPARE,
    Demand,
    Wish,
    ahead,
    allowance_at,
    bulk_part,
    floor_of,
    kept,
    reserve,
    until_next,
    wish,
)

ANSWER = Answer(
    granted=0,
    free=10,
    allowance=200,
    limit=200,
    members=16,
    bulk=4,
    place=0,
    live_held=50,
    idle=4,
    short=0,
    missed=0,
    pause=0,
    passed=0,
    cuts=0,
    level=0,
    held=0,
    hold=0,
    since=0,
)


@given(
    allowance=st.integers(1, 300),
    bulk=st.integers(1, 20),
    live=st.integers(0, 20),
    held=st.integers(0, 300),
    short=st.integers(0, 30),
)
def test_parts_never_add_up_to_more_than_is_left(allowance: int, bulk: int, live: int, held: int, short: int) -> None:
    """All bulk members together hold what the others and the reserve leave, and parts differ by one at most."""
    answer = evolve(
        ANSWER, allowance=allowance, bulk=bulk, members=bulk + live, live_held=held, idle=min(live, held), short=short
    )
    parts = [bulk_part(evolve(answer, place=place), 0, reserve(answer, 0.0)) for place in range(bulk)]
    assert sum(parts) == max(allowance - reserve(answer, 0.0) - held - short, 0)
    assert max(parts) - min(parts) <= 1


def test_the_reserve_lasts_while_a_permit_is_kept_back() -> None:
    """Where members have different ways to the server, bulk work gives a permit back only when its credit has gone by."""
    answer = evolve(ANSWER, allowance=200, bulk=1, members=16, live_held=31, idle=7)
    assert [reserve(answer, credit) for credit in (0.0, 0.04, 0.2)] == [4, 5, 8]


@pytest.mark.parametrize("limit", range(1, 60))
def test_bulk_work_goes_on_at_any_limit(limit: int) -> None:
    """A reserve that takes all would let bulk work wait for ever."""
    answer = evolve(ANSWER, allowance=limit, limit=limit, members=3, bulk=1, live_held=0, idle=2)
    assert wish(Demand(bulk=True), 0, answer, 0.0).ask >= 1


def test_an_idle_member_keeps_a_permit_where_there_are_enough() -> None:
    assert kept(evolve(ANSWER, members=50)) == 1
    assert kept(evolve(ANSWER, members=51)) == 0
    assert kept(evolve(ANSWER, members=50, allowance=199)) == 0
    assert wish(Demand(), 5, ANSWER, 0.0) == Wish(1)
    assert wish(Demand(), 0, ANSWER, 0.0) == Wish(1, ask=1)


def test_live_calls_ask_for_all_of_the_pool() -> None:
    """And nobody asks during a pause."""
    assert wish(Demand(in_use=2, live=3), 2, ANSWER, 0.0) == Wish(5, ask=3, short=3)
    assert wish(Demand(in_use=2, live=3, paused=True), 2, ANSWER, 0.0) == Wish(2)
    assert wish(Demand(in_use=30, live=3, bulk=True), 30, ANSWER, 0.0).keep_free == 0
    assert wish(Demand(in_use=30, bulk=True), 30, ANSWER, 0.0).keep_free == reserve(ANSWER, 0.0) > 1


CALM = evolve(ANSWER, members=4, bulk=0, free=100)


def test_live_calls_ask_for_some_that_are_to_come() -> None:
    """Each would cost a sync; and what an ebb leaves over is kept for the next flood, but for what is much."""
    assert wish(Demand(in_use=20, live=1), 20, CALM, 0.0) == Wish(27, ask=7, short=1, ahead=6)
    assert wish(Demand(in_use=17), 27, CALM, 0.0) == Wish(27, ahead=5)
    assert wish(Demand(in_use=10), 27, CALM, 0.0) == Wish(13, ahead=3)
    assert wish(Demand(), 27, CALM, 0.0) == Wish(1)
    alone = evolve(CALM, members=1, free=3)
    assert wish(Demand(in_use=100, live=1), 100, alone, 0.0) == Wish(104, ask=4, short=1, ahead=3)
    assert wish(Demand(in_use=170), 200, evolve(CALM, members=1, free=0), 0.0) == Wish(200, ahead=30)


@pytest.mark.parametrize("needed", [{"bulk": 1}, {"short": 1}, {"free": 39}, {"allowance": 199}])
def test_nobody_holds_what_others_need(needed: dict[str, int]) -> None:
    """Bulk work, a call that waits, a burst for which a low pool has too little; and beside another client all sync often."""
    assert wish(Demand(in_use=20, live=1), 20, evolve(CALM, **needed), 0.0) == Wish(21, ask=1, short=1)
    assert wish(Demand(in_use=20), 27, evolve(CALM, **needed), 0.0) == Wish(20)


@given(needs=st.lists(st.integers(0, 200), min_size=2, max_size=30), free=st.integers(-20, 200))
def test_members_that_ask_at_once_leave_a_part_of_the_pool(needs: list[int], free: int) -> None:
    answer = evolve(CALM, members=len(needs), free=free)
    assert sum(ahead(answer, need, need) for need in needs) <= max(free - 40, 0)


def test_how_often_a_member_syncs() -> None:
    """An idle one less than ten times a second, and after a minute less than once in ten seconds."""
    assert until_next(Demand(), Wish(1), 1, ANSWER, 1.0, 0.0) == QUIET > 0.1
    assert until_next(Demand(), Wish(1), 1, ANSWER, 61.0, 0.0) == IDLE > 10
    assert until_next(Demand(), Wish(1), 1, evolve(ANSWER, missed=9), 61.0, 0.0) == HOLDER < 1
    assert until_next(Demand(live=1), Wish(2, ask=1, short=1), 1, ANSWER, 0.0, 0.0) == ASKING
    assert until_next(Demand(live=9), Wish(10, ask=9, short=9), 1, ANSWER, 0.0, 0.0) == SPARE
    assert until_next(Demand(bulk=True), Wish(40), 40, evolve(ANSWER, short=1), 0.0, 0.0) == SOONER
    assert until_next(Demand(bulk=True), Wish(40), 40, evolve(ANSWER, short=9), 0.0, 0.0) == SPARE > SOONER
    assert until_next(Demand(bulk=True), Wish(40), 40, evolve(ANSWER, members=4, live_held=0, idle=0), 0.0, 0.0) == OFTEN
    assert until_next(Demand(bulk=True), Wish(40), 40, ANSWER, 0.0, 0.0) == SOON_AT_MOST
    assert until_next(Demand(bulk=True), Wish(160), 160, evolve(ANSWER, bulk=1), 0.0, 0.0) == SOON < SOON_AT_MOST


def test_a_member_that_is_cut_off_has_its_equal_part() -> None:
    assert floor_of(ANSWER) == 12


@pytest.mark.parametrize(("since", "allowed", "shared"), [(1.0, 50, True), (14.5, 200, True), (17.0, 200, False)])
def test_another_client_is_forgotten_once_the_limit_is_proven(since: float, allowed: int, shared: bool) -> None:
    """Each member counts that for itself from the last cut, as a session alone does."""
    law = allowance_at(evolve(ANSWER, cuts=1, level=50, hold=11_000), since)
    assert (law.after(since), law.shared) == (allowed, shared)
