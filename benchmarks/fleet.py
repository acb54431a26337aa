"""One limit for many processes: does the fleet keep it at the server, use it, and share it evenly, with either ledger?

Each member runs in a process of its own, and so does the sandbox, which counts strictly: at most the limit in any second.
What is counted begins five seconds after the last member was open.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from teak_async.sandbox import Faults

from .members import Done, Member, Work, valkey
from .processes import LIMIT, Setting, served
from .report import Options, Report, Table, say

NETWORK = Faults(delay=0.02, jitter=0.004)
"""40 ms and up to 8 ms more, both ways together."""
WARM_UP = 5.0
SECONDS = 20.0

BULK, IDLE = Work(bulk=True), Work()
SCENARIOS = {
    "16 with bulk work": [BULK] * 16,
    "4 with bulk work": [BULK] * 4,
    "1 with bulk work, 8 live at 3/s, 7 idle": [BULK, *[Work(live=3)] * 8, *[IDLE] * 7],
    "4 with bulk work, 8 live at 6/s": [*[BULK] * 4, *[Work(live=6)] * 8],
    "4 live at 25/s": [Work(live=25)] * 4,
}


@frozen
class Figures:
    """What the server and the members counted.

    Attributes:
        rate_limited: answers 429, in all of the time.
        busiest: requests in the busiest second.
        used: share of the limit that was used.
        unequal: the largest distance of a bulk member from an equal part, as a share of that.
        wait: seconds that a live call waited for its permit, at p99.
    """

    rate_limited: int
    busiest: int
    used: float
    unequal: float
    wait: float


def play(works: list[Work], share: str, seconds: float = SECONDS, warm_up: float = WARM_UP) -> Figures:
    """Have members work together for a time."""
    with served(Setting(NETWORK, LIMIT, "sliding")) as server:
        members = [Member(server.url, share, work) for work in works]
        start = max(member.wait_until_open() for member in members) + warm_up
        end = start + seconds
        time.sleep(end - time.monotonic())
        for member in members:
            member.ask_to_stop()
        found = [member.done() for member in members]
    return summarize(works, found, server.seen.stamps, start, end, server.seen.rate_limited)


def summarize(
    works: list[Work], found: list[Done], stamps: list[float], start: float, end: float, rate_limited: int
) -> Figures:
    """Count what was done between two times."""
    bulk = [done.count(start, end) for work, done in zip(works, found, strict=True) if work.bulk]
    waits = sorted(wait for done in found for at, wait in done.waits if start <= at < end)
    mean = statistics.mean(bulk) if bulk else 0
    return Figures(
        rate_limited,
        busiest(stamps),
        sum(start <= stamp < end for stamp in stamps) / (end - start) / LIMIT,
        max((abs(count - mean) / mean for count in bulk), default=0.0) if mean else 0.0,
        waits[int(len(waits) * 0.99)] if waits else 0.0,
    )


def busiest(stamps: list[float]) -> int:
    """Count the requests of the busiest second."""
    most = first = 0
    for last, stamp in enumerate(stamps):
        while stamps[first] <= stamp - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def measure(options: Options) -> Report:
    rows, figures = [], dict[str, Any]()
    for turn in range(options.rounds or 1):
        for name, works in SCENARIOS.items():
            for ledger in ("SQLite", "Valkey"):
                say(f"{name}, {ledger}")
                with tempfile.TemporaryDirectory() as folder, valkey(Path(folder)) as server:
                    if ledger == "Valkey":
                        server.start()
                    share = server.address if ledger == "Valkey" else str(Path(folder, "ledger.db"))
                    seen = play(works, share, SECONDS, WARM_UP)
                figures[f"{name}, {ledger}, {turn}"] = asdict(seen)
                wait = f"{seen.wait * 1000:.0f} ms" if any(work.live for work in works) else "-"
                counts = (f"{seen.rate_limited}", f"{seen.busiest}", f"{seen.used:.1%}", f"{seen.unequal:.0%}", wait)
                rows.append((name, ledger, *counts))
    heads = ("members", "ledger", "rate-limited", "busiest second", f"used of {LIMIT}", "from an equal part", "live wait, p99")
    return Report("fleet: one limit for many processes", [Table(heads, rows)], figures=figures)
