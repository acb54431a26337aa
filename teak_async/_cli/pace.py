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
_UNTIL = {"call": "", "run": ", until another run began", "now": ", up to now"}
_BARS = " ▁▂▃▄▅▆▇█"

Seconds = Sequence[tuple[int, int, int, int]]
"""For each second with calls, in order: Unix time, calls written, those of the endpoint with most, and how often these were
rate-limited."""


@frozen
class Pause:
    """A time in which no call ended.

    Attributes:
        began: Unix time.
        seconds: how long it was, or is up to now.
        until: what ended it: a `call`, or another `run`; `now` for one that goes on.
    """

    began: int
    seconds: int
    until: str = "call"

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, ready for JSON."""
        began = datetime.fromtimestamp(self.began, UTC).isoformat().replace("+00:00", "Z")
        return {"from": began, "seconds": self.seconds, "until": self.until}


def find_pauses(seconds: Seconds, runs: Sequence[int] = (), now: float | None = None) -> list[Pause]:
    """Return the pauses in order. Between two runs of a journal each second without a call is one.

    Args:
        seconds: when calls ended.
        runs: when runs began, in Unix time.
        now: Unix time while a run goes on; else `None`.
    """
    events = [(second, "call") for second, *_ in seconds]
    if events:
        events += [(run, "run") for run in runs if run > events[0][0]]
        events += [] if now is None else [(int(now), "now")]
    # The first call of a run may have ended in the second in which the run began.
    events.sort(key=lambda event: (event[0], event[1] != "run"))
    gaps = [
        Pause(began + (kind == "call"), end - began - (kind == "call"), until)
        for (began, kind), (end, until) in pairwise(events)
    ]
    return [gap for gap in gaps if gap.seconds >= (1 if gap.until == "run" else PAUSE)]


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


def find_pace(seconds: Seconds, pauses: Sequence[Pause]) -> Pace:
    """Return how fast a run was."""
    paused = sum(pause.seconds for pause in pauses)
    spanned = _end_of(seconds, pauses) - seconds[0][0] if seconds else 0
    busiest = max((most for _, _, most, _ in seconds), default=0)
    return Pace(sum(calls for _, calls, *_ in seconds), spanned - paused, paused, busiest)


def present_rate(seconds: Seconds, pauses: Sequence[Pause], now: float) -> float:
    """Return the calls per second that ended in about the last `RATE_WINDOW`; 0 where it is too early to say."""
    end = int(now)  # the second that goes on is not complete
    began = max(end - int(RATE_WINDOW), *(pause.began + pause.seconds for pause in pauses), seconds[0][0] if seconds else end)
    recent = sum(calls for second, calls, *_ in seconds if began <= second < end)
    return recent / (end - began) if end - began >= ENOUGH else 0.0


def describe_pace(seconds: Seconds, pauses: Sequence[Pause], unit: str = "row", limit: str = "") -> list[str]:
    """Return lines with the rate, a plot of it over time, and the longest pauses.

    Args:
        seconds: when calls ended.
        pauses: the pauses between.
        unit: `row`, or `call` where a row may be several.
        limit: the limit of the last run, in requests per second on each channel; empty where it is not known.
    """
    if not seconds:
        return []
    pace = find_pace(seconds, pauses)
    apart = f", and {format_duration(pace.paused)} of pauses" if pace.paused else ""
    together = " on all channels together" if unit == "call" else ""
    each = " on a channel" if unit == "call" else ""
    most_allowed = f"; limit {limit}/s{' on each channel' if unit == 'call' else ''}" if limit else ""
    first, last = seconds[0][0], _end_of(seconds, pauses) - 1
    step = ceil((last - first + 1) / WIDTH)
    bars = [0] * ((last - first) // step + 1)
    for second, calls, *_ in seconds:
        bars[(second - first) // step] += calls
    most = max(bars)
    plot = "".join(_BARS[ceil(bar * (len(_BARS) - 1) / most)] for bar in bars)
    average = f"{pace.mean:.0f}/s on average{together}, at most {pace.busiest:,}{each} in a second, without repetitions"
    lines = [
        f"pace: {count_rows(pace.calls, unit)} ended after an attempt, in {format_duration(pace.at_work)} at work{apart}:",
        f"  {average}{most_allowed}",
        f"{unit}s a second, {_clock(first)} to {_clock(last)}, a bar is {step} s:",
        f"  {plot}",
    ]
    longest = sorted(pauses, key=lambda pause: -pause.seconds)[:SHOWN]
    lines += [
        f"  no {unit} ended for {format_duration(pause.seconds)} from {_clock(pause.began)} on{_UNTIL[pause.until]}"
        for pause in sorted(longest, key=lambda pause: pause.began)
    ]
    lines += [f"  and in {len(pauses) - SHOWN:,} shorter pauses"] if len(pauses) > SHOWN else []
    limited = sum(count for *_, count in seconds)
    return lines + ([f"  rate-limited (429) {limited:,} times"] if limited else [])


def _end_of(seconds: Seconds, pauses: Sequence[Pause]) -> int:
    """Return the Unix time up to which a run is described: its last call, or now in a pause that goes on."""
    return max([seconds[-1][0] + 1, *(pause.began + pause.seconds for pause in pauses)])


def _clock(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%H:%M:%S}Z"
