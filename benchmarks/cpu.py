"""Processor time of one call: this client's beside the same call written by hand, and where this client's goes.

The limit is set so high that nothing waits for a permit. Each client runs in a process of its own; its processor time is taken
inside of that process after a warm-up, so starting, importing and connecting are left out. All of them keep the same number of
calls on the wire, but for a bulk run: it begins four rows in a turn of the loop, so when the server pauses, it has all on the
wire that it may. Each does what it is used for: it sends a JSON body and has the answer's body parsed. The clients take turns,
each round in another order; a ratio is taken within a round, so a slow minute of the machine meets both of its sides.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import teak_async
from teak_async import Identify, Limits, TeakSession
from teak_async.sandbox import GAME_ID, IDENTIFY, SECRET_KEY

from .peers import body, by_hand, carefully_by_hand
from .processes import FREE, Setting, alone, served
from .report import Options, Report, Table, say, spread, times

ROUNDS = 7
CALLS = 4000
WARM = 900
"""Calls before the first one that counts."""
AT_ONCE = 500
"""Of these, calls that are made at once before a bulk run: as many as it has on the wire at most, so each has its connection.
To open one takes 130 us, and how many a run opens would be chance: some hundred, or all, by how long the server pauses."""
WORKERS = 20
"""Calls on the wire at a time: each worker awaits one after the other."""
FREE_LIMITS = Limits(FREE, FREE)
PACKAGE = Path(teak_async.__file__).parent

Call = Callable[[int], Awaitable[object]]
ProgressReporter = Callable[[Call, int], Awaitable[float]]


async def work(call: Call, count: int) -> None:
    """Make so many calls, each worker one after the other."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await call(number)

    async with asyncio.TaskGroup() as workers:
        for _ in range(WORKERS):
            workers.create_task(worker())


async def metered(call: Call, count: int) -> float:
    """Seconds of processor time per call, after a warm-up."""
    await work(call, WARM)
    began = time.process_time()
    await work(call, count)
    return (time.process_time() - began) / count


async def ours(url: str, count: int, meter: ProgressReporter = metered) -> float:
    """Each call awaited: `await teak.identify(...)`."""
    async with TeakSession(GAME_ID, SECRET_KEY, base_url=url, limits=FREE_LIMITS) as teak:
        return await meter(lambda number: teak.identify(f"p{number}", country_code="US"), count)


async def connect(teak: TeakSession) -> None:
    """Open as many connections as a bulk run uses at most."""
    await asyncio.gather(*(teak.identify(f"p{number}", country_code="US") for number in range(AT_ONCE)))


def make_identifies(count: int) -> Iterator[Identify]:
    """Make so many rows, each of another player."""
    return (Identify(f"p{number}", country_code="US") for number in range(count))


async def ours_in_bulk(url: str, count: int) -> float:
    """The rows of one bulk run, which also keeps a player's order, bounds what is in memory, and accounts for each row."""
    async with TeakSession(GAME_ID, SECRET_KEY, base_url=url, limits=FREE_LIMITS) as teak:
        await connect(teak)
        await teak.bulk(make_identifies(WARM - AT_ONCE))
        began = time.process_time()
        report = await teak.bulk(make_identifies(count))
        assert report.succeeded == count
        return (time.process_time() - began) / count


async def ours_with_journal(url: str, count: int) -> float:
    """The same with a journal, on whose disk each row is before it is sent and when it has ended."""
    with TemporaryDirectory() as folder:
        async with TeakSession(GAME_ID, SECRET_KEY, base_url=url, limits=FREE_LIMITS) as teak:
            await connect(teak)
            await teak.bulk(make_identifies(WARM - AT_ONCE), journal=Path(folder, "warm.db"))
            began = time.process_time()
            report = await teak.bulk(make_identifies(count), journal=Path(folder, "run.db"))
            assert report.succeeded == count
            return (time.process_time() - began) / count


async def aiohttp_by_hand(url: str, count: int) -> float:
    """What one writes by hand, on a default session of aiohttp."""
    async with by_hand(url) as identify:
        return await metered(identify, count)


async def aiohttp_carefully(url: str, count: int) -> float:
    """What a careful engineer writes by hand: limiter, checks, and the response read into its class."""
    async with carefully_by_hand(url, FREE) as identify:
        return await metered(identify, count)


async def rows_by_hand(url: str, count: int) -> float:
    """What a careful engineer writes for many rows: a task each, so many at a time, and a queue of how they ended."""
    async with carefully_by_hand(url, FREE) as identify:
        await make_rows(identify, WARM)
        began = time.process_time()
        await make_rows(identify, count)
        return (time.process_time() - began) / count


async def make_rows(call: Call, count: int) -> None:
    """Make a call for each row, and read how each ended."""
    ended: asyncio.Queue[tuple[int, object]] = asyncio.Queue()
    room = asyncio.Semaphore(WORKERS)

    async def make(number: int) -> None:
        try:
            ended.put_nowait((number, await call(number)))
        except Exception as error:  # noqa: BLE001 - how it ended
            ended.put_nowait((number, error))
        finally:
            room.release()

    async def start() -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(count):
                await room.acquire()
                tasks.create_task(make(number))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(start())
        for _ in range(count):
            await ended.get()


async def httpx_by_hand(url: str, count: int) -> float:
    """What one writes by hand, on a default client of httpx.

    Its pool looks at all of its connections for each request, which at twenty of them is more than half of the figure.
    """
    import httpx

    async with httpx.AsyncClient() as http:

        async def identify(number: int) -> object:
            response = await http.post(url + IDENTIFY, json=body(number))
            return response.json()

        return await metered(identify, count)


BASE = "aiohttp by hand: session.post(url, json=…), await response.json()"
ROW_BASE = f"rows by hand: the careful call, a task each, {WORKERS} at a time, a queue of how they ended"
CLIENTS: dict[str, Callable[[str, int], Awaitable[float]]] = {
    "teak_async: await teak.identify(…)": ours,
    BASE: aiohttp_by_hand,
    "the same with AsyncLimiter, checks, and the response read into its attrs class": aiohttp_carefully,
    ROW_BASE: rows_by_hand,
    "httpx by hand: client.post(url, json=…), response.json()": httpx_by_hand,
    "teak_async: a row of teak.bulk(…), which also keeps a player's order, the truth and an account": ours_in_bulk,
    "teak_async: a row of teak.bulk(…, journal=…), which survives a kill besides": ours_with_journal,
}


def run(client: Callable[[str, int], Any], url: str, count: int) -> Any:
    """In the client's process: all of it."""
    return asyncio.run(client(url, count))


async def profiled(url: str, count: int) -> dict[str, float]:
    """Where this client's time goes: module → seconds per call, under a profiler."""
    profile = cProfile.Profile()

    async def meter(call: Call, count: int) -> float:
        await work(call, WARM)
        profile.enable()
        await work(call, count)
        profile.disable()
        return 0.0

    await ours(url, count, meter)
    spent: Counter[str] = Counter()
    # What is written in C counts as its caller's; waiting for the network is not work.
    stats: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined] # the stubs leave it out
    for function, (_, _, own, _, callers) in stats.items():
        if "poll" in function[2]:
            continue
        if function[0] != "~" or not callers:
            spent[group(function[0])] += own
            continue
        for caller, (_, _, part, _) in callers.items():
            spent[group(caller[0])] += part
    return {name: seconds / count for name, seconds in spent.most_common()}


def group(file: str) -> str:
    """The line of the profile that a file belongs to: one for each module of ours, one for each other package."""
    if file.startswith("<"):
        return next((name for name in ("cattrs", "attrs") if name in file), "Python")
    path = Path(file)
    for package in (PACKAGE, PACKAGE.parent / "benchmarks"):
        if path.is_relative_to(package):
            return path.relative_to(PACKAGE.parent).as_posix() if package is PACKAGE else package.name
    for name in ("aiohttp", "asyncio", "json", "cattrs", "attr", "attrs", "yarl", "multidict"):
        if name in path.parts:
            return "attrs" if name == "attr" else name
    return "Python"


def measure(options: Options) -> Report:
    rounds, calls = options.rounds or ROUNDS, options.calls or CALLS
    names = [name for name, client in CLIENTS.items() if client is not httpx_by_hand or find_spec("httpx")]
    cost: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            with served(Setting(limit=FREE)) as server:
                cost[name].append(alone(run, CLIENTS[name], server.url, calls))
            assert (len(server.seen.stamps), server.seen.rate_limited) == (calls + WARM, 0), "not every call was made and done"
            say(f"cpu, round {turn + 1}: {name}: {cost[name][-1] * 1e6:.0f} µs")
    ratios = {
        base: {name: [mine / its for mine, its in zip(cost[name], cost[base], strict=True)] for name in names}
        for base in (BASE, ROW_BASE)
    }
    with served(Setting(limit=FREE)) as server:
        profile: dict[str, float] = alone(run, profiled, server.url, calls)
    whole = sum(profile.values())
    rows = [
        (
            name,
            spread((seconds * 1e6 for seconds in cost[name]), "{:.0f}") + " µs",
            *(spread(to[name]) for to in ratios.values()),
        )
        for name in names
    ]
    shares = [
        (name, f"{seconds / whole:.1%}", f"{seconds * 1e6:.0f} µs")
        for name, seconds in profile.items()
        if seconds >= whole / 1000
    ]
    return Report(
        f"cpu: {calls:,} identifies, {WORKERS} at a time, limit very high, loopback, {times(rounds)}",
        [
            Table(("client", "processor time per call", "to aiohttp by hand", "to rows by hand"), rows),
            Table(("where await teak.identify(…) spends it", "share", "per call, under the profiler"), shares),
        ],
        ["Median and, in brackets, least and most of the rounds. A profiler makes small functions look dearer than they are."],
        {
            "calls": calls,
            "seconds_per_call": cost,
            "ratios": ratios[BASE],
            "ratios_to_rows": ratios[ROW_BASE],
            "ratio_medians": {name: statistics.median(values) for name, values in ratios[BASE].items()},
            "profile_seconds_per_call": profile,
        },
    )
