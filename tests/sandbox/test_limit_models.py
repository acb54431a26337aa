from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teak_async.sandbox.limit_models import Fixed, PathStats, Sliding

TICKS = 64
"""Stamps are whole multiples of 1/64 s: exact as floats, so a window's edges are hit and not just missed."""

stamps = st.lists(st.integers(0, 4 * TICKS), max_size=60).map(sorted)
limits = st.integers(1, 12)


def in_last_second(arrivals: list[int], now: int) -> int:
    """How many stamps lie within the second that ends now; one that is a whole second old does not."""
    return sum(1 for stamp in arrivals if now - TICKS < stamp <= now)


def busiest(arrivals: list[int]) -> int:
    """The most stamps in any one second, by looking at each that could be it."""
    return max((in_last_second(arrivals, now) for now in arrivals), default=0)


@given(stamps, limits)
def test_sliding(arrivals: list[int], limit: int) -> None:
    """The sliding window lets a request through just when fewer than the limit went through in the second up to it."""
    model = Sliding(limit)
    passed: list[int] = []
    for stamp in arrivals:
        expected = in_last_second(passed, stamp) < limit
        assert model.admits(stamp / TICKS) is expected
        passed += [stamp] * expected
    assert busiest(passed) <= limit


@given(stamps, limits)
def test_fixed(arrivals: list[int], limit: int) -> None:
    """The fixed window lets the first requests of each second of the clock through, up to the limit."""
    model = Fixed(limit)
    for place, stamp in enumerate(arrivals):
        earlier = [other for other in arrivals[:place] if other // TICKS == stamp // TICKS]
        assert model.admits(stamp / TICKS) is (len(earlier) < limit)


def test_a_rate_limited_request_costs_nothing() -> None:
    """Requests that were rate-limited do not count against those after them."""
    model = Sliding(1)
    assert [model.admits(now) for now in (0.0, 0.5, 0.9, 1.0)] == [True, False, False, True]


@given(stamps)
def test_seen(arrivals: list[int]) -> None:
    """What the server saw is what a plain count over all stamps finds."""
    seen = PathStats()
    for stamp in arrivals:
        seen.count(stamp / TICKS)
    assert seen.requests == len(arrivals)
    assert seen.busiest == busiest(arrivals)
    assert seen.rate_limited == 0
    if arrivals:
        assert (seen.first, seen.last) == (arrivals[0] / TICKS, arrivals[-1] / TICKS)
        assert seen.first_second == sum(stamp - arrivals[0] <= TICKS for stamp in arrivals)


@given(stamps)
def test_rate_after_the_first_second(arrivals: list[int]) -> None:
    """The steady rate is what arrivals after the first second over the time that it took, and 0 where there was none."""
    seen = PathStats()
    for stamp in arrivals:
        seen.count(stamp / TICKS)
    later = [stamp for stamp in arrivals if stamp > arrivals[0] + TICKS]
    expected = len(later) * TICKS / (later[-1] - arrivals[0] - TICKS) if later else 0.0
    assert seen.rate_after_first_second == pytest.approx(expected)


def test_seen_as_dict() -> None:
    """What is shown of a path is its counts and its steady rate."""
    seen = PathStats()
    for stamp in (0.0, 1.5, 2.0, 3.0):
        seen.count(stamp)
    seen.rate_limited += 1
    assert seen.as_dict() == {"requests": 4, "rate_limited": 1, "busiest": 2, "rate_after_first_second": 1.5}
