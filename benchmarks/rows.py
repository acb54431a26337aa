"""What a long bulk run costs: memory, processor time, and how long it blocks the loop, with and without a journal."""

from __future__ import annotations

import asyncio
import gc
import time
from pathlib import Path

from attrs import frozen

from teak_async import Identify, Limits, TeakSession
from teak_async.sandbox import GAME_ID, SECRET_KEY

WARM = 10_000
"""Rows after which memory is taken for the first time."""
FREE = 1_000_000
"""A limit so high that it does not matter."""


@frozen
class Cost:
    """Of one run."""

    growth: float
    cpu: float
    lag: float
    longest_lag: float


async def run_rows(url: str, count: int, journal: Path | None, limit: int = FREE) -> Cost:
    """Make a long run; memory in MiB, times in seconds, the lag at the 99.9th percentile.

    As the command does, and as any server should, it keeps what was imported out of the collector's rounds, which would
    hold the loop up for 20 ms now and then.
    """
    gc.freeze()
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
        await teak.bulk(Identify(f"w{n}", country_code="US") for n in range(200))  # connections, and the first of everything
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
