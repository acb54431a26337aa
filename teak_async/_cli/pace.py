"""Plots the rate of a run over time, and finds its pauses. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from math import ceil
from typing import Any

from attrs import frozen

from .progress import PAUSE, RATE_WINDOW, format_duration
from .summary import count_rows

WIDTH = 60
"""Bars of the plot at most."""
ENOUGH = 2
"""Whole seconds that a rate takes at least."""
SHOWN = 5
"""Pauses shown at most: the longest."""
_BARS = " ▁▂▃▄▅▆▇█"

Seconds = Sequence[tuple[int, int, int, int]]
"""For each second with calls, in order: Unix time, calls written, those of the endpoint with most, and how often these were
rate-limited."""


@frozen
class Pause:
    """A time in which no call ended."""

    began: int
    seconds: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, ready for JSON."""
        return {"from": datetime.fromtimestamp(self.began, UTC).isoformat().replace("+00:00", "Z"), "seconds": self.seconds}


def find_pauses(seconds: Seconds) -> list[Pause]:
    """Return the pauses, also those between two runs of a journal."""
    pairs = pairwise(seconds)
    return [Pause(before[0] + 1, after[0] - before[0] - 1) for before, after in pairs if after[0] - before[0] > PAUSE]


@frozen
class Pace:
    """How fast a run was, without its pauses.

    Attributes:
        calls: calls that ended after an attempt.
        at_work: seconds in which they ended.
        paused: seconds of the pauses, also of those between two runs.
        busiest: calls that ended in one second at most, of those that share a limit.
    """

    calls: int
    at_work: int
    paused: int
    busiest: int

    @property
    def mean(self) -> float:
        """Calls per second at work."""
        return self.calls / self.at_work if self.at_work else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, ready for JSON."""
        return {
            "calls": self.calls,
            "seconds_at_work": self.at_work,
            "seconds_paused": self.paused,
            "mean_rate": round(self.mean, 1),
            "busiest_second": self.busiest,
        }


def find_pace(seconds: Seconds) -> Pace:
    """Return how fast a run was."""
    paused = sum(pause.seconds for pause in find_pauses(seconds))
    spanned = seconds[-1][0] - seconds[0][0] + 1 if seconds else 0
    busiest = max((most for _, _, most, _ in seconds), default=0)
    return Pace(sum(calls for _, calls, *_ in seconds), spanned - paused, paused, busiest)


def present_rate(seconds: Seconds, now: float) -> float:
    """Return the calls per second that ended in about the last `RATE_WINDOW`; 0 where it is too early to say."""
    end = int(now)  # the second that goes on is not complete
    pauses = find_pauses(seconds)
    began = max(end - int(RATE_WINDOW), *(pause.began + pause.seconds for pause in pauses), seconds[0][0] if seconds else end)
    recent = sum(calls for second, calls, *_ in seconds if began <= second < end)
    return recent / (end - began) if end - began >= ENOUGH else 0.0


def describe_pace(seconds: Seconds, unit: str = "row", limit: str = "") -> list[str]:
    """Return lines with the rate, a plot of it over time, and the longest pauses.

    Args:
        seconds: when calls ended.
        unit: `row`, or `call` where a row may be several.
        limit: the limit of the last run, in requests per second on each channel; empty where it is not known.
    """
    if not seconds:
        return []
    pace = find_pace(seconds)
    apart = f", and {format_duration(pace.paused)} of pauses" if pace.paused else ""
    each = " on a channel" if unit == "call" else ""
    most_allowed = f"; limit {limit}/s{' on each channel' if unit == 'call' else ''}" if limit else ""
    first, last = seconds[0][0], seconds[-1][0]
    step = ceil((last - first + 1) / WIDTH)
    bars = [0] * ((last - first) // step + 1)
    for second, calls, *_ in seconds:
        bars[(second - first) // step] += calls
    most = max(bars)
    plot = "".join(_BARS[ceil(bar * (len(_BARS) - 1) / most)] for bar in bars)
    average = f"{pace.mean:.0f}/s on average, at most {pace.busiest:,}{each} in a second{most_allowed}"
    lines = [
        f"pace: {count_rows(pace.calls, unit)} ended in {format_duration(pace.at_work)} at work{apart}: {average}",
        f"{unit}s a second, {_clock(first)} to {_clock(last)}, a bar is {step} s:",
        f"  {plot}",
    ]
    pauses = sorted(find_pauses(seconds), key=lambda pause: -pause.seconds)
    lines += [
        f"  no {unit} ended for {format_duration(pause.seconds)} from {_clock(pause.began)} on" for pause in pauses[:SHOWN]
    ]
    lines += [f"  and in {len(pauses) - SHOWN:,} shorter pauses"] if len(pauses) > SHOWN else []
    limited = sum(count for *_, count in seconds)
    return lines + ([f"  rate-limited (429) {limited:,} times"] if limited else [])


def _clock(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%H:%M:%S}Z"
