"""What a topic is asked, and what it gives back: tables for people, and every figure for `--json`."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from attrs import field, frozen

from teak_async import __version__

PACKAGES = (
    "aiohttp",
    "aiolimiter",
    "attrs",
    "cattrs",
    "orjson",
    "httpx",
    "aiometer",
    "pyrate-limiter",
    "throttled-py",
    "opentelemetry-sdk",
)
"""Whose versions bear on the figures."""


@frozen
class Options:
    """What was asked for on the command line; `None` leaves it to the topic.

    Attributes:
        rounds: how often every client has its turn.
        calls: requests of one turn.
        times: kills of the topic kill.
        plot: a folder for drawings.
    """

    rounds: int | None = None
    calls: int | None = None
    times: int = 25
    plot: Path | None = None


@frozen
class Table:
    """Rows under their heads."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        lines = [self.heads, ["---"] * len(self.heads), *self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


@frozen
class Report:
    """What a topic found.

    Attributes:
        title: what was done, how often.
        tables: for people.
        notes: what the tables cannot say.
        figures: everything measured, ready for JSON.
    """

    title: str
    tables: list[Table]
    notes: list[str] = field(factory=list)
    figures: dict[str, Any] = field(factory=dict)

    def __str__(self) -> str:
        return "\n\n".join([f"\n## {self.title}", *map(str, self.tables), *self.notes])


def say(what: str) -> None:
    """Tell whoever waits how far it is; not part of the report."""
    print(what, file=sys.stderr, flush=True)


def times(rounds: int) -> str:
    """How often every client had its turn."""
    return f"{rounds} rounds" if rounds > 1 else "one round"


def spread(values: Iterable[float], form: str = "{:.2f}") -> str:
    """The median of some rounds, and the least and the most of them."""
    ordered = sorted(values)
    median = form.format(statistics.median(ordered))
    return median if len(ordered) == 1 else f"{median} ({form.format(ordered[0])} to {form.format(ordered[-1])})"


def quarters(ratios: list[float]) -> str:
    """The median, and between what the middle half of them lies."""
    if len(ratios) < 4:
        return spread(ratios)
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def machine() -> dict[str, Any]:
    """Where the figures come from."""
    versions: dict[str, str | None] = {"teak_async": __version__}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "versions": versions,
    }


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    if told.exists():
        for line in told.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
