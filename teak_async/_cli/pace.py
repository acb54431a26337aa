"""Plots the rate of a run over time, and finds its pauses. Pure."""

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
"""Seconds without a row that make a pause."""
SHOWN = 5
"""Pauses shown at most: the longest."""
_BARS = " ▁▂▃▄▅▆▇█"

Seconds = Sequence[tuple[int, int, int]]
"""For each second with rows, in order: Unix time, rows written, and how often these were rate-limited."""


@frozen
class Pause:
    """A time in which no row ended."""

    began: int
    seconds: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, ready for JSON."""
        return {"from": datetime.fromtimestamp(self.began, UTC).isoformat().replace("+00:00", "Z"), "seconds": self.seconds}


def find_pauses(seconds: Seconds) -> list[Pause]:
    """Return the pauses, also those between two runs of a journal."""
    pairs = pairwise(seconds)
    return [Pause(before[0] + 1, after[0] - before[0] - 1) for before, after in pairs if after[0] - before[0] > PAUSE]


def describe_pace(seconds: Seconds) -> list[str]:
    """Return lines with a plot of the rate, and the longest pauses."""
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
