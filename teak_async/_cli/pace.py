"""The rate of a run over time, and its pauses, from the seconds in which its rows were written. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from math import ceil
from typing import Any

from attrs import frozen

from .progress import format_duration

WIDTH = 60
"""Bars of the plot at most."""
PAUSE = 5
"""Seconds without a row from which there was a pause."""
SHOWN = 5
"""Pauses shown to a person, the longest."""
_BARS = " ▁▂▃▄▅▆▇█"

Seconds = Sequence[tuple[int, int, int]]
"""Second in Unix time, rows written in it, how often they were rate-limited; in order."""


@frozen
class Pause:
    """A time in which no row ended."""

    began: int
    seconds: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, ready for JSON."""
        return {"from": datetime.fromtimestamp(self.began, UTC).isoformat().replace("+00:00", "Z"), "seconds": self.seconds}


def find_pauses(seconds: Seconds) -> list[Pause]:
    """Find the times in which no row ended, also those between two runs of a journal."""
    pairs = pairwise(seconds)
    return [Pause(before[0] + 1, after[0] - before[0] - 1) for before, after in pairs if after[0] - before[0] > PAUSE]


def describe_pace(seconds: Seconds) -> list[str]:
    """Plot the rate, and name the longest pauses."""
    if not seconds:
        return []
    first, last = seconds[0][0], seconds[-1][0]
    step = ceil((last - first + 1) / WIDTH)
    bars = [0] * ((last - first) // step + 1)
    for second, rows, _ in seconds:
        bars[(second - first) // step] += rows
    most = max(bars)
    plot = "".join(_BARS[ceil(bar * (len(_BARS) - 1) / most)] for bar in bars)
    lines = [f"rows a second, {_clock(first)} to {_clock(last)}, at most {most / step:.0f}/s:", f"  {plot}"]
    pauses = sorted(find_pauses(seconds), key=lambda pause: -pause.seconds)
    lines += [f"  no row ended for {format_duration(pause.seconds)} from {_clock(pause.began)} on" for pause in pauses[:SHOWN]]
    lines += [f"  and in {len(pauses) - SHOWN:,} shorter pauses"] if len(pauses) > SHOWN else []
    limited = sum(count for *_, count in seconds)
    return lines + ([f"  rate-limited (429) {limited:,} times"] if limited else [])


def _clock(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%H:%M:%S}Z"
