"""What a long bulk run costs: memory, processor time, and how long it blocks the loop, with and without a journal.

A row's price depends on how busy the loop is: one that sleeps between rows pays for waking up, one that is never idle serves
many rows in a turn, and a run without a limit that waits for its disk is something in between. So runs are compared at the
documented limit, at five times it, and as fast as they go.

Memory is taken after the first ten thousand rows (or half of them) and at the end, so it is growth.

How long the loop is blocked is said in two ways. A turn is what the loop does between two looks at its sockets, in processor
time of its thread. Lateness is how much longer than a millisecond a sleep of that length takes, and a machine that others use
is late by itself, so an idle loop in a process of its own is late beside it. As the command does, and as any server should,
the run keeps what was imported out of the collector's rounds, which would hold the loop up for 20 ms now and then.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from math import ceil
from multiprocessing.connection import Connection
from pathlib import Path

from attrs import asdict, frozen

from teak_async import Identify, Limits, TeakSession
from teak_async.sandbox import GAME_ID, SECRET_KEY

from .processes import FREE, Setting, alone, process, served, wait
from .report import Options, Report, Table, say, spread, times

ROUNDS = 3
CALLS = 20_000
LIMITS = {"200 a second": (200, 0.1), "1,000 a second": (1_000, 0.5), "as fast as it goes": (FREE, 1.0)}
"""Limits, and the share of the rows that is made at them."""
WARM = 10_000
"""Rows after which memory is taken for the first time."""
FIRST = 200
"""Rows of a run before that, which makes the connections, and the first of everything."""


@frozen
class Late:
    """How long something took, in seconds: at the 99.9th percentile and at worst."""

    most: float
    worst: float


@frozen
class Cost:
    """Of one run: memory in MiB, seconds of processor time per row, rows per second, how late the loop was, and its turns."""

    growth: float
    cpu: float
    rate: float
    late: Late
    turns: Late


class Spans:
    """Counts spans of time by tenths of a millisecond, since a list of them would grow as the run does."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._worst = 0.0

    def add(self, seconds: float) -> None:
        self._counts[round(seconds * 1e4)] += 1
        self._worst = max(self._worst, seconds)

    def clear(self) -> None:
        self._counts.clear()
        self._worst = 0.0

    def late(self) -> Late:
        left = self._counts.total() // 1000
        for tenths, count in sorted(self._counts.items(), reverse=True):
            left -= count
            if left < 0:
                return Late(tenths / 1e4, self._worst)
        return Late(0.0, 0.0)


class Watched(selectors.DefaultSelector):
    """Takes the loop's turns, from one look at its sockets to the next, in processor time of its thread."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = Spans()
        self._began = time.thread_time()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns.add(time.thread_time() - self._began)
        ready = super().select(timeout)
        self._began = time.thread_time()
        return ready


async def sleep_again_and_again(late: Spans) -> None:
    """A millisecond each time, and how much longer it took."""
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        await asyncio.sleep(0.001)
        late.add(loop.time() - began - 0.001)


async def run_rows(url: str, limit: int, count: int, journal: Path | None, turns: Spans) -> Cost:
    """Make a long run."""
    late = Spans()
    warm = done = 0
    async with TeakSession(GAME_ID, SECRET_KEY, base_url=url, limits=Limits(limit, limit)) as teak:
        sleeping = asyncio.create_task(sleep_again_and_again(late))
        await teak.bulk(Identify(f"w{n}", country_code="US") for n in range(FIRST))
        late.clear()
        turns.clear()
        began = time.process_time()
        async with teak.bulk((Identify(f"p{n}", country_code="US") for n in range(count)), journal=journal) as run:
            async for _ in run:
                done += 1
                if done == min(WARM, count // 2):
                    warm = resident()
        cpu = (time.process_time() - began) / count
        sleeping.cancel()
    return Cost((resident() - warm) / 2**20, cpu, run.report.rate, late.late(), turns.late())


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def run(url: str, limit: int, count: int, journal: Path | None) -> Cost:
    """In the client's process: all of it."""
    gc.freeze()
    selector = Watched()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        return runner.run(run_rows(url, limit, count, journal, selector.turns))


async def idle(ended: Connection) -> Late:
    """In a process that does nothing else, until told: how late a loop is on this machine anyway."""
    late = Spans()
    sleeping = asyncio.create_task(sleep_again_and_again(late))
    await asyncio.to_thread(wait, ended)
    sleeping.cancel()
    return late.late()


def beside(pipe: Connection) -> None:
    """In the idle process: all of it."""
    pipe.send(asyncio.run(idle(pipe)))


def watched(work: Callable[[], Cost]) -> tuple[Cost, Late]:
    """Do something, and say how late an idle loop was meanwhile."""
    with process(beside) as pipe:
        cost = work()
        pipe.send("done")
        late: Late = pipe.recv()
    return cost, late


def measure(options: Options) -> Report:
    rounds, calls = options.rounds or ROUNDS, options.calls or CALLS
    costs: dict[str, dict[str, list[Cost]]] = {pace: {"no": [], "yes": []} for pace in LIMITS}
    idles: dict[str, dict[str, list[Late]]] = {pace: {"no": [], "yes": []} for pace in LIMITS}
    for turn in range(rounds):
        for pace, (limit, part) in LIMITS.items():
            for name in costs[pace] if turn % 2 else reversed(costs[pace]):
                with tempfile.TemporaryDirectory() as folder, served(Setting(limit=FREE)) as server:
                    path = Path(folder, "run.db") if name == "yes" else None
                    cost, late = watched(partial(alone, run, server.url, limit, ceil(calls * part), path))
                costs[pace][name].append(cost)
                idles[pace][name].append(late)
                say(f"journal, round {turn + 1}, {pace}: {name}: {cost.cpu * 1e6:.0f} µs")
    prices = []
    delays = []
    ratios = {}
    for pace, both in costs.items():
        ratios[pace] = [yes.cpu / no.cpu for yes, no in zip(both["yes"], both["no"], strict=True)]
        for name, done in both.items():
            prices.append(
                (
                    pace,
                    name,
                    f"{statistics.median(cost.rate for cost in done):,.1f}",
                    spread((cost.cpu * 1e6 for cost in done), "{:.0f}") + " µs",
                    spread(ratios[pace]) if name == "yes" else "",
                    f"{statistics.median(cost.growth for cost in done):.1f} MiB",
                )
            )
            delays.append(
                (
                    pace,
                    name,
                    milliseconds(cost.turns for cost in done),
                    milliseconds(cost.late for cost in done),
                    milliseconds(idles[pace][name]),
                )
            )
    figures = {pace: {name: [asdict(cost) for cost in done] for name, done in both.items()} for pace, both in costs.items()}
    idle_figures = {
        pace: {name: [asdict(late) for late in done] for name, done in both.items()} for pace, both in idles.items()
    }
    made = ", ".join(f"{pace}: {ceil(calls * part):,}" for pace, (_, part) in LIMITS.items())
    return Report(
        f"journal: identifies ({made}), loopback, {times(rounds)}",
        [
            Table(("limit", "journal", "rows a second", "processor time per row", "to without", "memory growth"), prices),
            Table(
                ("limit", "journal", "turn of the loop, p99.9 and longest", "lateness of the loop", "of an idle loop"), delays
            ),
        ],
        [],
        {"calls": calls, "costs": figures, "idle": idle_figures, "ratios": ratios},
    )


def milliseconds(found: Iterable[Late]) -> str:
    """The middle one of the percentiles, and the longest of all."""
    lates = list(found)
    return f"{statistics.median(late.most for late in lates) * 1e3:.1f} ms, {max(late.worst for late in lates) * 1e3:.1f} ms"
