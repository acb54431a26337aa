"""The limit models that the benchmarks have beside the sandbox's, and how all of them differ."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.limit_models import LIMIT_MODELS, Gcra, TokenBucket, WindowCounter
from teak_async.sandbox.limit_models import Fixed, Sliding

TICKS = 64
"""Stamps are whole multiples of 1/64 s: exact as floats, so a window's edges are hit and not just missed."""

stamps = st.lists(st.integers(0, 4 * TICKS), max_size=60).map(sorted)
limits = st.integers(1, 12)


@given(stamps, limits)
def test_counter(arrivals: list[int], limit: int) -> None:
    """The counter adds to this second's requests the part of the last second's that a window up to now would overlap."""
    model = WindowCounter(limit)
    passed: list[int] = []
    for stamp in arrivals:
        second = stamp // TICKS
        now = sum(1 for other in passed if other // TICKS == second)
        before = sum(1 for other in passed if other // TICKS == second - 1)
        estimate = now + before * Fraction(TICKS - stamp % TICKS, TICKS)
        assert model.admits(stamp / TICKS) is (estimate < limit)
        passed += [stamp] * (estimate < limit)


@pytest.mark.parametrize("kind", [Gcra, TokenBucket])
@given(stamps, limits)
def test_buckets(kind: type[Gcra | TokenBucket], arrivals: list[int], limit: int) -> None:
    """Cells and tokens are one law: from any request on, at most the limit and what has been filled since then."""
    model = kind(limit)
    passed: list[int] = []
    for stamp in arrivals:
        expected = all(
            len(passed) - place + 1 <= limit + limit * Fraction(stamp - since, TICKS) for place, since in enumerate(passed)
        )
        assert model.admits(stamp / TICKS) is expected
        passed += [stamp] * expected


@pytest.mark.parametrize("kind", [Fixed, Gcra, TokenBucket])
@given(stamps, limits)
def test_sliding_is_stricter(kind: type[Fixed | Gcra | TokenBucket], arrivals: list[int], limit: int) -> None:
    """What a sliding window lets through passes a fixed window, cells and a bucket, too."""
    sliding, model = Sliding(limit), kind(limit)
    assert all(model.admits(stamp / TICKS) for stamp in arrivals if sliding.admits(stamp / TICKS))


@pytest.mark.parametrize(
    ("arrivals", "admitted"),
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
        # Two came at the start of a second: the counter holds them against a window that they have left.
        (
            [0.0, 0.0, 1.0, 1.0],
            {"sliding": "yyyy", "fixed": "yyyy", "counter": "yynn", "gcra": "yyyy", "bucket": "yyyy"},
        ),
        # Two came at its end: the counter forgets too many of them.
        (
            [0.875, 0.875, 1.75, 1.75],
            {"sliding": "yynn", "fixed": "yyyy", "counter": "yyyy", "gcra": "yyyn", "bucket": "yyyn"},
        ),
    ],
    ids=["edge", "half a second", "early", "late"],
)
def test_how_they_differ(arrivals: list[float], admitted: dict[str, str]) -> None:
    """Each model has requests on which it and another one disagree; a limit of two."""
    told = {}
    for name, kind in LIMIT_MODELS.items():
        model = kind(2)
        told[name] = "".join("y" if model.admits(now) else "n" for now in arrivals)
    assert told == admitted


def test_the_counter_forgets_after_two_seconds() -> None:
    """Of a second before the last one nothing is left."""
    model = WindowCounter(2)
    assert [model.admits(now) for now in (0.5, 0.5, 2.0, 2.0, 2.0)] == [True, True, True, True, False]
