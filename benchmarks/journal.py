"""What a long bulk run costs: memory, processor time, and how long it blocks the loop, with and without a journal.

The limit is set so high that it does not matter. Memory is taken after the first ten thousand rows (or half of them) and at
the end, so it is growth; the loop is blocked for as long as a sleep of a millisecond takes longer than that. As the command
does, and as any server should, the run keeps what was imported out of the collector's rounds, which would hold the loop up
for 20 ms now and then.
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
WARM = 10_000
"""Rows after which memory is taken for the first time."""
FIRST = 200
"""Rows of a run before that, which makes the connections, and the first of everything."""


@frozen
class Cost:
    """Of one run: memory in MiB, times in seconds, the lag at the 99.9th percentile."""

    growth: float
    cpu: float
    lag: float
    longest_lag: float


async def run_rows(url: str, count: int, journal: Path | None) -> Cost:
    """Make a long run."""
    lags: list[float] = []

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(0.001)
            lags.append(loop.time() - began - 0.001)

    warm = done = 0
    async with TeakSession(GAME_ID, SECRET_KEY, base_url=url, limits=Limits(FREE, FREE)) as teak:
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
    return Cost((resident() - warm) / 2**20, cpu, lags[int(len(lags) * 0.999)], lags[-1])


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def run(url: str, count: int, journal: Path | None) -> Cost:
    """In the client's process: all of it."""
    gc.freeze()
    return asyncio.run(run_rows(url, count, journal))


def measure(options: Options) -> Report:
    rounds, calls = options.rounds or ROUNDS, options.calls or CALLS
    costs: dict[str, list[Cost]] = {"no": [], "yes": []}
    for turn in range(rounds):
        for name in costs if turn % 2 else reversed(costs):
            with tempfile.TemporaryDirectory() as folder, served(Setting(limit=FREE)) as server:
                path = Path(folder, "run.db") if name == "yes" else None
                costs[name].append(alone(run, server.url, calls, path))
            say(f"journal, round {turn + 1}: {name}: {costs[name][-1].cpu * 1e6:.0f} µs")
    rows = [
        (
            name,
            f"{statistics.median(cost.growth for cost in done):.1f} MiB",
            spread((cost.cpu * 1e6 for cost in done), "{:.0f}") + " µs",
            spread((cost.lag * 1e3 for cost in done), "{:.1f}") + " ms",
            f"{max(cost.longest_lag for cost in done) * 1e3:.1f} ms",
        )
        for name, done in costs.items()
    ]
    ratios = [with_.cpu / without.cpu for with_, without in zip(costs["yes"], costs["no"], strict=True)]
    return Report(
        f"journal: {calls:,} identifies, limit very high, loopback, {times(rounds)}",
        [Table(("journal", "memory growth", "processor time per row", "loop blocked, p99.9", "longest"), rows)],
        [f"Processor time per row with a journal to without: {spread(ratios)}."],
        {"calls": calls, "costs": {name: [asdict(cost) for cost in done] for name, done in costs.items()}, "ratios": ratios},
    )
