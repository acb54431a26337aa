"""A hundred thousand callers waiting at once, beside as many at a bare `AsyncLimiter`; and what an import takes.

Each crowd is in a process of its own; see there how it is measured. A grant is measured while the number of those who wait
stays the same: whoever got a permit comes again, at the end of the lane. Imports are timed in fresh processes whose
compiled files are there.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from attrs import asdict

from teak_async._limits.bucket import Lane

from .crowd import CROWDS, Crowd, full_bucket
from .processes import alone
from .report import Options, Report, Table, say, spread, times

ROUNDS = 3
CALLERS = 100_000
GRANTS = 2_000
FEW = 10


async def grants(waiting: int) -> tuple[float, bool]:
    """Give permit after permit while so many wait.

    Returns:
        Seconds of processor time for a grant, the waking of its caller included, and whether the order was kept.
    """
    bucket = await full_bucket()
    order: list[int] = []

    async def caller(number: int) -> None:
        while True:
            await bucket.acquire(Lane.LIVE)
            order.append(number)

    callers = [asyncio.create_task(caller(number)) for number in range(waiting)]
    await asyncio.sleep(0)
    began = time.process_time()
    for _ in range(GRANTS):
        bucket.release_unused()
        await asyncio.sleep(0)
    cost = (time.process_time() - began) / GRANTS
    await asyncio.sleep(0)
    for task in callers:
        task.cancel()
    await asyncio.wait(callers)
    return cost, order == list(islice(cycle(range(waiting)), GRANTS))


async def orderly(count: int) -> bool:
    """Whether all callers but the cancelled ones are served, in the order in which they came."""
    bucket = await full_bucket()
    order: list[int] = []

    async def caller(number: int) -> None:
        await bucket.acquire(Lane.LIVE)
        order.append(number)
        bucket.release_unused()

    callers = [asyncio.create_task(caller(number)) for number in range(count)]
    await asyncio.sleep(0)
    for task in callers[::2]:
        task.cancel()
    await asyncio.sleep(0)
    bucket.release_unused()
    await asyncio.wait(callers)
    return order == list(range(1, count, 2)) and bucket.rate().waiting_live == 0


def run(main: Callable[..., Any], *arguments: Any) -> Any:
    """In a process of its own: all of it."""
    return asyncio.run(main(*arguments))


IMPORTS = {
    "import aiohttp": ("", "import aiohttp"),
    "import teak_async": ("", "import teak_async"),
    "import teak_async, after aiohttp": ("import aiohttp", "import teak_async"),
}


def import_times(rounds: int) -> dict[str, list[float]]:
    """Seconds of each import in a fresh process, its compiled files there."""
    times: dict[str, list[float]] = {name: [] for name in IMPORTS}
    with tempfile.TemporaryDirectory() as folder:
        # The first round compiles, and is not counted.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder
        for turn in range(rounds + 1):
            for name, (first, then) in IMPORTS.items():
                code = f"import time\n{first}\nbegan = time.perf_counter()\n{then}\nprint(time.perf_counter() - began)"
                root = Path(__file__).parent.parent
                command = [sys.executable, "-c", code]
                ran = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=True)
                if turn:
                    times[name].append(float(ran.stdout))
    return times


def measure(options: Options) -> Report:
    rounds, callers = options.rounds or ROUNDS, options.calls or CALLERS
    crowds: dict[str, list[Crowd]] = {name: [] for name in CROWDS}
    costs: dict[int, list[float]] = {FEW: [], callers: []}
    kept = True
    for turn in range(rounds):
        for name, main in CROWDS.items():
            crowds[name].append(alone(run, main, callers))
            say(f"scale, round {turn + 1}: {name}: {crowds[name][-1].bytes_each:.0f} bytes")
        for waiting, done in costs.items():
            cost, in_order = alone(run, grants, waiting)
            done.append(cost)
            kept = kept and in_order
        kept = kept and alone(run, orderly, callers)
    imports = import_times(rounds * 3)
    rows = [
        (
            name,
            f"{statistics.median(one.bytes_each for one in found):,.0f} bytes",
            spread(one.lag_coming for one in found) + " s",
            spread(one.cancel for one in found) + " s",
            spread(one.lag_cancelling for one in found) + " s",
            f"{found[0].left:,}",
        )
        for name, found in crowds.items()
    ]
    heads = (
        "who waits",
        "memory each, with its task",
        "loop held up as they come",
        "cancelling every other one takes",
        "loop held up by that",
        "still waiting then",
    )
    grant_rows = [(f"{waiting:,}", spread((cost * 1e6 for cost in done), "{:.1f}") + " µs") for waiting, done in costs.items()]
    import_rows = [(name, spread((seconds * 1e3 for seconds in done), "{:.0f}") + " ms") for name, done in imports.items()]
    order = "kept" if kept else "NOT kept"
    return Report(
        f"scale: {callers:,} callers waiting at once, {times(rounds)}",
        [
            Table(heads, rows),
            Table(("waiting at the bucket", "processor time of one grant"), grant_rows),
            Table(("in a fresh process", "takes"), import_rows),
        ],
        [f"The order in which they came was {order}: in {GRANTS:,} grants, and by all who were left after cancelling half."],
        {
            "callers": callers,
            "crowds": {name: [asdict(one) for one in found] for name, found in crowds.items()},
            "seconds_per_grant": {str(waiting): done for waiting, done in costs.items()},
            "order_kept": kept,
            "import_seconds": imports,
        },
    )
