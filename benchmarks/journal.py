"""What a long bulk run costs: memory, processor time, and how long it blocks the loop, with and without a journal.

A row's price depends on how busy the loop is: one that sleeps between rows pays for waking up, one that is never idle serves
many rows in a turn, and a run without a limit that waits for its disk is something in between. So runs are compared at the
documented limit, at five times it, and as fast as they go.

Memory is taken after the first ten thousand rows (or half of them) and at the end, so it is growth; the loop is blocked for
as long as a sleep of a millisecond takes longer than that. As the command does, and as any server should, the run keeps what
was imported out of the collector's rounds, which would hold the loop up for 20 ms now and then.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import tempfile
import time
from pathlib import Path

from attrs import asdict, frozen

from teak_async import Identify, Limits, TeakSession
from teak_async.sandbox import GAME_ID, SECRET_KEY

from .processes import FREE, Setting, alone, served
from .report import Options, Report, Table, say, spread, times

ROUNDS = 3
CALLS = 20_000
LIMITS = {"200 a second": (200, 2_000), "1,000 a second": (1_000, 6_000), "as fast as it goes": (FREE, None)}
"""Limits, and rows at them; `None` is what was asked for."""
WARM = 10_000
"""Rows after which memory is taken for the first time."""
FIRST = 200
"""Rows of a run before that, which makes the connections, and the first of everything."""


@frozen
class Cost:
    """Of one run: memory in MiB, times in seconds, the lag at the 99.9th percentile, rows per second."""

    growth: float
    cpu: float
    rate: float
    lag: float
    longest_lag: float


async def run_rows(url: str, limit: int, count: int, journal: Path | None) -> Cost:
    """Make a long run."""
    lags: list[float] = []

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(0.001)
            lags.append(loop.time() - began - 0.001)

    warm = done = 0
    async with TeakSession(GAME_ID, SECRET_KEY, base_url=url, limits=Limits(limit, limit)) as teak:
        watching = asyncio.create_task(watch())
        await teak.bulk(Identify(f"w{n}", country_code="US") for n in range(FIRST))
        lags.clear()
        began = time.process_time()
        async with teak.bulk((Identify(f"p{n}", country_code="US") for n in range(count)), journal=journal) as run:
            async for _ in run:
                done += 1
                if done == min(WARM, count // 2):
                    warm = resident()
        cpu = (time.process_time() - began) / count
        watching.cancel()
    lags.sort()
    return Cost((resident() - warm) / 2**20, cpu, run.report.rate, lags[int(len(lags) * 0.999)], lags[-1])


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def run(url: str, limit: int, count: int, journal: Path | None) -> Cost:
    """In the client's process: all of it."""
    gc.freeze()
    return asyncio.run(run_rows(url, limit, count, journal))


def measure(options: Options) -> Report:
    rounds, calls = options.rounds or ROUNDS, options.calls or CALLS
    costs: dict[str, dict[str, list[Cost]]] = {pace: {"no": [], "yes": []} for pace in LIMITS}
    for turn in range(rounds):
        for pace, (limit, rows) in LIMITS.items():
            for name in costs[pace] if turn % 2 else reversed(costs[pace]):
                with tempfile.TemporaryDirectory() as folder, served(Setting(limit=FREE)) as server:
                    path = Path(folder, "run.db") if name == "yes" else None
                    costs[pace][name].append(alone(run, server.url, limit, min(rows or calls, calls), path))
                say(f"journal, round {turn + 1}, {pace}: {name}: {costs[pace][name][-1].cpu * 1e6:.0f} µs")
    table = []
    ratios = {}
    for pace, both in costs.items():
        ratios[pace] = [yes.cpu / no.cpu for yes, no in zip(both["yes"], both["no"], strict=True)]
        for name, done in both.items():
            table.append(
                (
                    pace,
                    name,
                    f"{statistics.median(cost.rate for cost in done):,.1f}",
                    spread((cost.cpu * 1e6 for cost in done), "{:.0f}") + " µs",
                    spread(ratios[pace]) if name == "yes" else "",
                    f"{statistics.median(cost.growth for cost in done):.1f} MiB",
                    spread((cost.lag * 1e3 for cost in done), "{:.1f}") + " ms",
                    f"{max(cost.longest_lag for cost in done) * 1e3:.1f} ms",
                )
            )
    heads = ("limit", "journal", "rows a second", "processor time per row", "to without", "memory growth")
    figures = {pace: {name: [asdict(cost) for cost in done] for name, done in both.items()} for pace, both in costs.items()}
    return Report(
        f"journal: {calls:,} identifies at most, loopback, {times(rounds)}",
        [Table((*heads, "loop blocked, p99.9", "longest"), table)],
        [],
        {"calls": calls, "costs": figures, "ratios": ratios},
    )
