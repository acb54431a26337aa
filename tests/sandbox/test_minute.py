from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from teak_async.sandbox.limit_models import Fixed, Sliding
from teak_async.sandbox.minute import POINTS, QUARTERS, Minute

TICKS = 16
"""Stamps are whole multiples of 1/16 s, so that the edges of quarters and seconds are hit."""
LIMIT = 3

stamps = st.lists(st.integers(1000 * TICKS, 1070 * TICKS), max_size=80).map(sorted)
too_many = st.sets(st.integers(0, 79))


@given(stamps, too_many, st.integers(1060 * TICKS, 1070 * TICKS))
def test_look(arrivals: list[int], refused: set[int], tick: int) -> None:
    """The plot, its marks and the sums are those that one gets by looking at every stamp."""
    minute, now = Minute(LIMIT), tick / TICKS
    known = [(stamp / TICKS, number in refused) for number, stamp in enumerate(arrivals) if stamp <= tick]
    for stamp, rate_limited in known:
        minute.add(stamp, rate_limited=rate_limited)
    looked = minute.look(now)
    end = int(now * QUARTERS) / QUARTERS
    ends = [end - (POINTS - 1 - place) / QUARTERS for place in range(POINTS)]
    assert looked["plot"] == [sum(last - 1 <= stamp < last for stamp, _ in known) for last in ends]
    marks = [sum(limited and last - 1 / QUARTERS <= stamp < last for stamp, limited in known) for last in ends]
    assert looked["marks"] == [(place, count) for place, count in enumerate(marks) if count]
    shown = [(stamp, limited) for stamp, limited in known if end - 60 <= stamp < end]
    assert looked["minute"]["requests"] == len(shown)
    assert looked["minute"]["rate_limited"] == sum(limited for _, limited in shown)
    for name, model in (("sliding", Sliding(LIMIT)), ("fixed", Fixed(LIMIT))):
        said = [(stamp, model.admits(stamp)) for stamp, _ in known]
        assert looked["minute"][name] == sum(not admitted and end - 60 <= stamp < end for stamp, admitted in said)


def test_another_limit() -> None:
    """The limit models count anew against another limit; what was counted stays."""
    minute = Minute(1)
    for _ in range(3):
        minute.add(1000.0, rate_limited=False)
    minute.set_limit(2)
    for _ in range(3):
        minute.add(1000.0, rate_limited=False)
    assert minute.look(1001.0)["minute"] == {"requests": 6, "rate_limited": 0, "sliding": 3, "fixed": 3}


def test_it_is_bounded() -> None:
    """A day of requests leaves a minute of counts."""
    minute = Minute(1)
    for second in range(86400):
        minute.add(second, rate_limited=False)
    assert minute.look(86400.0)["minute"]["requests"] == 60
    assert len(minute._quarters) < 2 * POINTS
