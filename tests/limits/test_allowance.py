"""What is taken of a limit beside somebody else: the level that held, the hold, the probe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teak_async._limits.allowance import Allowance

HOLD = Allowance.HOLD
FIRST, SECOND_, THIRD, WHOLE = (HOLD + step + 0.5 for step in range(4))
"""Seconds after the pause, in the middle of each step of a probe."""


def lowered(passed: int = 100) -> Allowance:
    """A limit of 200, of which so much passed."""
    allowance = Allowance(200)
    allowance.cut(float("inf"), passed)
    return allowance


def test_a_level_is_held_and_then_probed_steeply() -> None:
    """Eleven seconds at what passed, then 2 %, 10 % and 42 % of the limit more, then all of it."""
    allowance = lowered()
    assert [allowance.after(since) for since in (0.0, HOLD - 0.1, FIRST, SECOND_, THIRD, WHOLE)] == [
        100,
        100,
        104,
        120,
        184,
        200,
    ]


def test_a_probe_without_room_doubles_the_hold_once() -> None:
    """Each such probe costs a pause, so they become rare; one that found room makes them frequent again."""
    allowance = lowered()
    allowance.cut(FIRST, 100)
    assert (allowance.level, allowance.after(FIRST), allowance.after(HOLD + FIRST)) == (100, 100, 104)
    allowance.cut(HOLD + FIRST, 100)
    assert allowance.after(HOLD + FIRST) == 104, "not doubled again"
    allowance.cut(HOLD + THIRD, 150)
    assert (allowance.level, allowance.after(FIRST)) == (150, 154)


def test_a_small_step_that_fails_leaves_what_passed_before_it() -> None:
    """Its own second may have passed because somebody else took the loss."""
    allowance = lowered()
    allowance.cut(SECOND_, 120)
    assert allowance.level == 104


def test_a_raised_level_that_fails_falls_back_to_the_one_that_held() -> None:
    """What held for a whole hold is not cut below, since it was not what failed."""
    allowance = lowered()
    allowance.cut(SECOND_, 120)
    allowance.cut(1.0, 104)
    assert allowance.level == 100
    allowance.cut(1.0, 100)
    assert allowance.level == 85, "this time it was"


def test_a_large_step_that_fails_leaves_nine_tenths_of_it() -> None:
    """Or what passed, if that is less; never less than what passed before the step."""
    allowance = lowered()
    allowance.cut(THIRD, 184)
    assert allowance.level == int(0.9 * 184)


def test_a_second_refusal_in_the_hold_cuts_whatever_passed() -> None:
    """Before a fixed window more may have passed in a second than it allows, so what passed is no proof."""
    allowance = lowered(200)
    assert allowance.level == 199
    allowance.cut(0.7, 190)
    assert allowance.level == int(0.85 * 199)


def test_a_session_that_asks_for_little_keeps_a_quarter() -> None:
    """That one request passed in a second in which one was made says little about what more would have."""
    assert lowered(1).level == 50


@pytest.mark.parametrize(("passed", "shared"), [(100, True), (197, False)])
def test_somebody_else_is_seen_by_what_is_missing(passed: int, shared: bool) -> None:
    """A 429 after nearly all of the limit passed may be a route that got faster."""
    assert lowered(passed).shared is shared
    assert not Allowance(200).shared


def test_who_has_left_is_forgotten() -> None:
    """After two and a half seconds at the whole limit a refusal is as the first one."""
    allowance = lowered()
    assert not allowance.is_proven(WHOLE)
    assert allowance.is_proven(WHOLE + 2.5)
    allowance.restore()
    assert (allowance.after(0.0), allowance.shared) == (200, False)


@given(st.integers(1, 400), st.lists(st.tuples(st.floats(0, 60), st.integers(0, 500)), max_size=20), st.floats(0, 60))
def test_the_allowance_stays_within_the_limit(limit: int, cuts: list[tuple[float, int]], since: float) -> None:
    """Whatever passes and whenever it is cut: between one and the limit, and never falling with time."""
    allowance = Allowance(limit)
    for when, passed in cuts:
        allowance.cut(when, passed)
    assert 1 <= allowance.after(since) <= limit
    assert allowance.after(since) <= allowance.after(since + 1.0)
    step = allowance.next_step(since)
    assert step > since
    assert allowance.after(60.0) == limit
