"""What a long bulk run costs: memory, processor time, and how long it blocks the loop, with and without a journal.

A row's price depends on how busy the loop is: one that sleeps between rows pays for waking up, one that is never idle serves
many rows in a turn, and a run without a limit that waits for its disk is something in between. So runs are compared at the
documented limit, at five times it, and as fast as they go.

Processor time is compared within one process, where shorter runs with a journal and without take turns, so that a slow moment
of the machine meets both. A journal is opened and closed in each turn, which is a part of its price.

Long runs are made twice. In the first their memory and the turns of the loop are taken; in the second the loop also has a
sleeper, whose wake-ups would be a part of those.

Memory is taken after the first ten thousand rows (or half of them) and at the end, so it is growth.

How long the loop is blocked is said in two ways. A turn is what the loop does between two looks at its sockets, in processor
time of its thread. Lateness is how much longer than a millisecond a sleep of that length takes, and a machine that others use
is late by itself, so an idle loop in a process of its own is late at the same time. As the command does, and as any server
should, the run keeps what was imported out of the collector's rounds, which would hold the loop up for 20 ms now and then.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from multiprocessing.connection import Connection
from pathlib import Path

from attrs import asdict, frozen

from teak_async import Identify, Limits, TeakSession
from teak_async.sandbox import GAME_ID, SECRET_KEY

from .processes import FREE, Setting, alone, process, served, wait
from .report import Options, Report, Table, quarters, say, times

ROUNDS = 3
CALLS = 20_000
LIMITS = {"200 a second": (200, 0.1), "1,000 a second": (1_000, 0.25), "as fast as it goes": (FREE, 1.0)}
"""Limits, and the share of the rows that is made at them."""
TURNS = 10
"""Turns of a comparison; one has a quarter of the rows of a long run."""
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
    """Of one long run: memory in MiB, rows per second, and the turns of its loop."""

    growth: float
    rate: float
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


Sleeps = list[tuple[float, float]]
"""When each sleep of a millisecond ended, by a clock that all processes share, and how much longer it took."""


async def sleep_again_and_again(sleeps: Sleeps) -> None:
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        await asyncio.sleep(0.001)
        ended = loop.time()
        sleeps.append((ended, ended - began - 0.001))


def lateness(sleeps: Sleeps) -> Late:
    """Of all these."""
    spans = Spans()
    for _, late in sleeps:
        spans.add(late)
    return spans.late()


async def run_rows(url: str, limit: int, count: int, journal: Path | None, turns: Spans) -> Cost:
    """Make a long run."""
    warm = done = 0
    async with TeakSession(GAME_ID, SECRET_KEY, base_url=url, limits=Limits(limit, limit)) as teak:
        await teak.bulk(Identify(f"w{n}", country_code="US") for n in range(FIRST))
        turns.clear()
        async with teak.bulk((Identify(f"p{n}", country_code="US") for n in range(count)), journal=journal) as run:
            async for _ in run:
                done += 1
                if done == min(WARM, count // 2):
                    warm = resident()
    return Cost((resident() - warm) / 2**20, run.report.rate, turns.late())


async def take_turns(url: str, limit: int, count: int, folder: Path) -> dict[str, list[float]]:
    """Seconds of processor time per row, without a journal and with one, turn by turn."""
    spent: dict[str, list[float]] = {"no": [], "yes": []}
    async with TeakSession(GAME_ID, SECRET_KEY, base_url=url, limits=Limits(limit, limit)) as teak:
        await teak.bulk(Identify(f"w{n}", country_code="US") for n in range(FIRST))
        for turn in range(TURNS):
            for name in sorted(spent, reverse=bool(turn % 2)):
                journal = Path(folder, f"{turn}.db") if name == "yes" else None
                began = time.process_time()
                await teak.bulk((Identify(f"p{n}", country_code="US") for n in range(count)), journal=journal)
                spent[name].append((time.process_time() - began) / count)
    return spent


async def sleep_beside(url: str, limit: int, count: int, journal: Path | None) -> Sleeps:
    """Make the same run with a sleeper beside it, and give what it slept meanwhile."""
    sleeps: Sleeps = []
    async with TeakSession(GAME_ID, SECRET_KEY, base_url=url, limits=Limits(limit, limit)) as teak:
        sleeping = asyncio.create_task(sleep_again_and_again(sleeps))
        await teak.bulk(Identify(f"w{n}", country_code="US") for n in range(FIRST))
        sleeps.clear()
        await teak.bulk((Identify(f"p{n}", country_code="US") for n in range(count)), journal=journal)
        sleeping.cancel()
    return sleeps


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def run(url: str, limit: int, count: int, journal: Path | None) -> Cost:
    """In the client's process: all of it."""
    gc.freeze()
    selector = Watched()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        return runner.run(run_rows(url, limit, count, journal, selector.turns))


def compare(url: str, limit: int, count: int, folder: Path) -> dict[str, list[float]]:
    """In the client's process: all of a comparison."""
    gc.freeze()
    return asyncio.run(take_turns(url, limit, count, folder))


def sleep(url: str, limit: int, count: int, journal: Path | None) -> Sleeps:
    """In the client's process: all of the run with a sleeper."""
    gc.freeze()
    return asyncio.run(sleep_beside(url, limit, count, journal))


async def idle(ended: Connection) -> Sleeps:
    """In a process that does nothing else, until told."""
    sleeps: Sleeps = []
    sleeping = asyncio.create_task(sleep_again_and_again(sleeps))
    await asyncio.to_thread(wait, ended)
    sleeping.cancel()
    return sleeps


def beside(pipe: Connection) -> None:
    """In the idle process: all of it."""
    pipe.send(asyncio.run(idle(pipe)))


def delays(limit: int, count: int, *, journal: bool) -> tuple[Late, Late]:
    """How late a run's loop is, and an idle one on this machine in the same seconds."""
    with made(journal=journal) as (url, path), process(beside) as pipe:
        ours = alone(sleep, url, limit, count, path)
        pipe.send("done")
        theirs: Sleeps = pipe.recv()
    return lateness(ours), lateness([slept for slept in theirs if ours and ours[0][0] <= slept[0] <= ours[-1][0]])


@contextmanager
def made(*, journal: bool) -> Iterator[tuple[str, Path | None]]:
    """A sandbox's address, and where a journal may be made."""
    with tempfile.TemporaryDirectory() as folder, served(Setting(limit=FREE)) as server:
        yield server.url, Path(folder, "run.db") if journal else None


def measure(options: Options) -> Report:
    rounds, calls = options.rounds or ROUNDS, options.calls or CALLS
    spent: dict[str, dict[str, list[float]]] = {pace: {"no": [], "yes": []} for pace in LIMITS}
    costs: dict[str, dict[str, list[Cost]]] = {pace: {"no": [], "yes": []} for pace in LIMITS}
    lates: dict[str, dict[str, list[tuple[Late, Late]]]] = {pace: {"no": [], "yes": []} for pace in LIMITS}
    for turn in range(rounds):
        for pace, (limit, part) in LIMITS.items():
            rows = ceil(calls * part)
            with tempfile.TemporaryDirectory() as folder, served(Setting(limit=FREE)) as server:
                for name, found in alone(compare, server.url, limit, ceil(rows / 4), Path(folder)).items():
                    spent[pace][name] += found
            for name in costs[pace] if turn % 2 else reversed(costs[pace]):
                with made(journal=name == "yes") as (url, path):
                    costs[pace][name].append(alone(run, url, limit, rows, path))
                lates[pace][name].append(delays(limit, rows, journal=name == "yes"))
            say(f"journal, round {turn + 1}, {pace}: {costs[pace]['yes'][-1].rate:.1f} rows a second with a journal")
    prices = []
    blocked = []
    ratios = {pace: [yes / no for yes, no in zip(both["yes"], both["no"], strict=True)] for pace, both in spent.items()}
    for pace, both in costs.items():
        for name, done in both.items():
            prices.append(
                (
                    pace,
                    name,
                    f"{statistics.median(cost.rate for cost in done):,.1f}",
                    f"{statistics.median(spent[pace][name]) * 1e6:.0f} µs",
                    quarters(ratios[pace]) if name == "yes" else "",
                    f"{statistics.median(cost.growth for cost in done):.1f} MiB",
                )
            )
            ours, idles = zip(*lates[pace][name], strict=True)
            spans = ([cost.turns for cost in done], ours, idles)
            blocked.append((pace, name, *(milliseconds(found) for found in spans)))
    figures = {pace: {name: [asdict(cost) for cost in done] for name, done in both.items()} for pace, both in costs.items()}
    late_figures = {
        pace: {name: [{"loop": asdict(ours), "idle": asdict(idles)} for ours, idles in found] for name, found in both.items()}
        for pace, both in lates.items()
    }
    counts = ", ".join(f"{pace}: {ceil(calls * part):,}" for pace, (_, part) in LIMITS.items())
    price = "processor time per row"
    return Report(
        f"journal: identifies ({counts}), loopback, {times(rounds)}",
        [
            Table(("limit", "journal", "rows a second", price, "to without, and its middle half", "memory growth"), prices),
            Table(
                ("limit", "journal", "turn of the loop, p99.9 and longest", "lateness of the loop", "of an idle loop"), blocked
            ),
        ],
        [],
        {"calls": calls, "seconds_per_row": spent, "costs": figures, "lateness": late_figures, "ratios": ratios},
    )


def milliseconds(found: Sequence[Late]) -> str:
    """The middle one of the percentiles, and the longest of all."""
    return f"{statistics.median(late.most for late in found) * 1e3:.1f} ms, {max(late.worst for late in found) * 1e3:.1f} ms"
