from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teak_async.sandbox.limit_models import LIMIT_MODELS, Fixed, Gcra, PathStats, Sliding, TokenBucket, WindowCounter

TICKS = 64
"""Stamps are whole multiples of 1/64 s: exact as floats, so a window's edges are hit and not just missed."""

stamps = st.lists(st.integers(0, 4 * TICKS), max_size=60).map(sorted)
limits = st.integers(1, 12)


def in_last_second(came: list[int], now: int) -> int:
    """How many stamps lie within the second that ends now; one that is a whole second old does not."""
    return sum(1 for stamp in came if now - TICKS < stamp <= now)


def busiest(came: list[int]) -> int:
    """The most stamps in any one second, by looking at each that could be it."""
    return max((in_last_second(came, now) for now in came), default=0)


@given(stamps, limits)
def test_sliding(came: list[int], limit: int) -> None:
    """The sliding window lets a request through just when fewer than the limit went through in the second up to it."""
    judge = Sliding(limit)
    passed: list[int] = []
    for stamp in came:
        expected = in_last_second(passed, stamp) < limit
        assert judge.admits(stamp / TICKS) is expected
        passed += [stamp] * expected
    assert busiest(passed) <= limit


@given(stamps, limits)
def test_fixed(came: list[int], limit: int) -> None:
    """The fixed window lets the first requests of each second of the clock through, up to the limit."""
    judge = Fixed(limit)
    for place, stamp in enumerate(came):
        earlier = [other for other in came[:place] if other // TICKS == stamp // TICKS]
        assert judge.admits(stamp / TICKS) is (len(earlier) < limit)


@given(stamps, limits)
def test_counter(came: list[int], limit: int) -> None:
    """The counter adds to this second's requests the part of the last second's that a window up to now would overlap."""
    judge = WindowCounter(limit)
    passed: list[int] = []
    for stamp in came:
        second = stamp // TICKS
        now = sum(1 for other in passed if other // TICKS == second)
        before = sum(1 for other in passed if other // TICKS == second - 1)
        estimate = now + before * Fraction(TICKS - stamp % TICKS, TICKS)
        assert judge.admits(stamp / TICKS) is (estimate < limit)
        passed += [stamp] * (estimate < limit)


@pytest.mark.parametrize("kind", [Gcra, TokenBucket])
@given(stamps, limits)
def test_buckets(kind: type[Gcra | TokenBucket], came: list[int], limit: int) -> None:
    """Cells and tokens are one law: from any request on, at most the limit and what has been filled since then."""
    judge = kind(limit)
    passed: list[int] = []
    for stamp in came:
        expected = all(
            len(passed) - place + 1 <= limit + limit * Fraction(stamp - since, TICKS) for place, since in enumerate(passed)
        )
        assert judge.admits(stamp / TICKS) is expected
        passed += [stamp] * expected


@pytest.mark.parametrize("kind", [Fixed, Gcra, TokenBucket])
@given(stamps, limits)
def test_sliding_is_stricter(kind: type[Fixed | Gcra | TokenBucket], came: list[int], limit: int) -> None:
    """What a sliding window lets through is refused by no fixed window, no cells and no bucket."""
    sliding, judge = Sliding(limit), kind(limit)
    assert all(judge.admits(stamp / TICKS) for stamp in came if sliding.admits(stamp / TICKS))


@pytest.mark.parametrize(
    ("came", "verdicts"),
    [
        # Around the edge of a second: a fixed window lets twice the limit through.
        (
            [0.875, 0.9375, 1.0, 1.0625],
            {"sliding": "yynn", "fixed": "yyyy", "counter": "yyny", "gcra": "yynn", "bucket": "yynn"},
        ),
        # After a pause of half a second: cells and tokens let more through than the limit.
        (
            [0.0, 0.0, 0.5, 0.75],
            {"sliding": "yynn", "fixed": "yynn", "counter": "yynn", "gcra": "yyyn", "bucket": "yyyn"},
        ),
        # They came at the start of a second: the counter holds them against a window that they have left.
        (
            [0.0, 0.0, 1.0, 1.0],
            {"sliding": "yyyy", "fixed": "yyyy", "counter": "yynn", "gcra": "yyyy", "bucket": "yyyy"},
        ),
        # They came at its end: the counter forgets too many of them.
        (
            [0.875, 0.875, 1.75, 1.75],
            {"sliding": "yynn", "fixed": "yyyy", "counter": "yyyy", "gcra": "yyyn", "bucket": "yyyn"},
        ),
    ],
    ids=["edge", "half a second", "early", "late"],
)
def test_how_they_differ(came: list[float], verdicts: dict[str, str]) -> None:
    """Each model has requests on which it and another one disagree; a limit of two."""
    told = {}
    for name, kind in LIMIT_MODELS.items():
        judge = kind(2)
        told[name] = "".join("y" if judge.admits(now) else "n" for now in came)
    assert told == verdicts


def test_the_counter_forgets_after_two_seconds() -> None:
    """Of a second before the last one nothing is left."""
    judge = WindowCounter(2)
    assert [judge.admits(now) for now in (0.5, 0.5, 2.0, 2.0, 2.0)] == [True, True, True, True, False]


def test_a_refused_request_costs_nothing() -> None:
    """Requests that were refused do not count against those after them."""
    judge = Sliding(1)
    assert [judge.admits(now) for now in (0.0, 0.5, 0.9, 1.0)] == [True, False, False, True]


@given(stamps)
def test_seen(came: list[int]) -> None:
    """What the server saw is what a plain count over all stamps finds."""
    seen = PathStats()
    for stamp in came:
        seen.count(stamp / TICKS)
    assert seen.requests == len(came)
    assert seen.busiest == busiest(came)
    assert seen.rate_limited == 0
    if came:
        assert (seen.first, seen.last) == (came[0] / TICKS, came[-1] / TICKS)
        assert seen.first_second == sum(stamp - came[0] <= TICKS for stamp in came)


@given(stamps)
def test_rate_after_the_first_second(came: list[int]) -> None:
    """The steady rate is what came after the first second over the time that it took, and 0 where there was none."""
    seen = PathStats()
    for stamp in came:
        seen.count(stamp / TICKS)
    later = [stamp for stamp in came if stamp > came[0] + TICKS]
    expected = len(later) * TICKS / (later[-1] - came[0] - TICKS) if later else 0.0
    assert seen.rate_after_first_second == pytest.approx(expected)


def test_seen_as_dict() -> None:
    """What is shown of a path is its counts and its steady rate."""
    seen = PathStats()
    for stamp in (0.0, 1.5, 2.0, 3.0):
        seen.count(stamp)
    seen.rate_limited += 1
    assert seen.as_dict() == {"requests": 4, "rate_limited": 1, "busiest": 2, "rate_after_first_second": 1.5}
