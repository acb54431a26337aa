"""What is taken of a limit beside somebody else: seconds since the pause are arguments."""

from __future__ import annotations

import pytest

from teak_async._limits.allowance import Allowance


def cut_to(passed: int, limit: int = 200) -> Allowance:
    """An allowance that was at the whole limit, and met a 429."""
    allowance = Allowance(limit)
    allowance.cut(60.0, passed)
    return allowance


def test_the_hold_doubles_once_after_a_probe_that_found_no_room() -> None:
    """Each such probe costs a pause, so they are rare while the other one stays, and soon after there was room."""
    allowance = cut_to(100)
    assert (allowance.level, allowance.next_step(0.0)) == (99, 11.0)
    for _ in range(2):
        allowance.cut(11.5, 99)  # in the first, small step
        assert allowance.level <= 99
        assert allowance.next_step(0.0) == 22.0
    allowance.cut(24.5, 150)  # after the large one
    assert allowance.level > 120
    assert allowance.next_step(0.0) == 11.0


def test_a_429_in_the_hold_lowers_the_level() -> None:
    """A fixed window may have let more pass in a second than it allows, so what passed is not taken at its word."""
    allowance = cut_to(150)
    allowance.cut(3.0, 190)
    assert allowance.level == int(Allowance.CUT * 148)


def test_the_limit_is_whole_again_when_it_has_passed_for_a_while() -> None:
    """Then the next 429 is the first one of somebody new."""
    allowance = cut_to(100)
    assert not allowance.is_proven(16.0)
    assert allowance.is_proven(17.0)
    assert allowance.shared
    allowance.restore()
    assert (allowance.after(0.0), allowance.shared) == (200, False)


@pytest.mark.parametrize("limit", [1, 2, 10, 200, 5000])
def test_something_is_always_taken(limit: int) -> None:
    """However often it is cut, and however little passed."""
    allowance = Allowance(limit)
    for since in (60.0, 0.5, 3.0, 11.5, 0.2, 12.5, 40.0, 1.0):
        allowance.cut(since, 0)
        assert 1 <= allowance.after(0.0) <= max(1, limit - 1)


def test_a_429_of_a_route_that_got_faster_is_not_somebody_else() -> None:
    """Nearly all of the limit passed."""
    assert not cut_to(199).shared
    assert cut_to(150).shared
