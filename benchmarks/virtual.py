"""A million requests in virtual time: the bucket alone, over random networks, before five limit models.

The loop's seconds take no time, so hours of traffic pass in a minute or two. Only the wire is made up: each way takes its
drawn time, and the request is stamped between the two. Who asks is drawn as well. Bulk workers always want more. Live
callers come in spells: none, a few, many, or half more than the limit. A connection is one of those that are idle or, when
there is none, a new one, which takes a round trip more and counts for no credit.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from attrs import frozen

from teak_async._limits.bucket import Bucket, Lane
from teak_async.sandbox.limit_models import PathStats

from .limit_models import LIMIT_MODELS
from .limits import BEGINNINGS, rate_limited_shares, share
from .processes import LIMIT, alone
from .report import Options, Report, Table, say

CALLS = 1_000_000
SPELLS = (0.0, 0.05, 0.25, 1.5)
"""Live callers in a second, as shares of the limit; each spell lasts a second on average."""

T = TypeVar("T")


class _VirtualSelector(selectors.SelectSelector):
    """Never waits: what the loop would sleep passes at once on a clock of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("deadlock: nothing is scheduled, and everything waits")
        self.now += max(timeout, 1e-9)  # as in life, no turn of the loop takes no time at all
        return []  # nothing here has a socket, so the system need not be asked


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose seconds take no time."""

    def __init__(self) -> None:
        self._virtual = _VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def stall(self, seconds: float) -> None:
        """Let time pass as a callback does that blocks the loop."""
        self._virtual.now += seconds


def run_virtual(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on a virtual loop to its end."""
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(loop))


@frozen
class Network:
    """What each way takes.

    Attributes:
        delay: seconds.
        jitter: up to so many seconds more.
        spikes: the share that takes up to half a second more still.
        changes: seconds after which the route is another one, with a delay of between nothing and twice `delay`; 0 for never.
    """

    delay: float = 0.0
    jitter: float = 0.0
    spikes: float = 0.0
    changes: float = 0.0


NETWORKS = {
    "0 ms": Network(),
    "40 ms": Network(0.02),
    "40 ms, jitter 8 ms each way": Network(0.02, 0.008),
    "120 ms, jitter 8 ms each way": Network(0.06, 0.008),
    "0 ms, jitter 50 ms each way": Network(0.0, 0.05),
    "40 ms, jitter 8 ms, 1 % up to 500 ms more": Network(0.02, 0.008, 0.005),
    "400 ms, jitter 100 ms each way": Network(0.2, 0.1),
    "another every 30 s, 0 to 80 ms, jitter 8 ms each way": Network(0.02, 0.008, changes=30.0),
}
"""Round trips. The last one is beyond the promise: nobody can know of a faster route before its first response."""


class Traffic:
    """All that goes through one bucket over one network."""

    def __init__(self, network: Network, calls: int, seed: int) -> None:
        self.seen = PathStats()
        self.stamps: list[float] = []
        self._network = network
        self._delay = network.delay
        self._calls = calls
        self._draw = random.Random(seed)
        self._idle = 0
        self._bucket = Bucket("/v2/virtual", LIMIT)
        self._loop = asyncio.get_running_loop()

    async def pass_by(self) -> None:
        """Make so many requests."""
        async with asyncio.TaskGroup() as tasks:
            workers = [tasks.create_task(self._worker()) for _ in range(2 * LIMIT)]
            others = [tasks.create_task(self._arrive(tasks)), tasks.create_task(self._change())]
            await asyncio.wait(workers)
            for other in others:
                other.cancel()

    async def _worker(self) -> None:
        while self.seen.requests < self._calls:
            await self._call(Lane.BULK)

    async def _arrive(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            spell = self._draw.choice(SPELLS) * LIMIT
            until = self._loop.time() + self._draw.expovariate(1.0)
            if not spell:
                await asyncio.sleep(until - self._loop.time())
            while self._loop.time() < until:
                await asyncio.sleep(self._draw.expovariate(spell))
                tasks.create_task(self._call(Lane.LIVE))

    async def _change(self) -> None:
        while self._network.changes:
            await asyncio.sleep(self._network.changes)
            self._delay = 2 * self._network.delay * self._draw.random()

    def _way(self) -> float:
        network, draw = self._network, self._draw
        spike = 0.5 * draw.random() if network.spikes and draw.random() < network.spikes else 0.0
        return self._delay + network.jitter * draw.random() + spike

    async def _call(self, lane: Lane) -> None:
        await self._bucket.acquire(lane)
        granted = self._loop.time()
        warm = self._idle > 0
        if warm:
            self._idle -= 1
        else:
            await asyncio.sleep(self._way() + self._way())
        sent = self._loop.time()
        await asyncio.sleep(self._way())
        stamp = self._loop.time()
        self.seen.count(stamp)
        self.stamps.append(stamp)
        await asyncio.sleep(self._way())
        now = self._loop.time()
        self._idle += 1
        self._bucket.release_answered(now - granted, now - sent, warm=warm)


@frozen
class Passed:
    """What became of the traffic over one network: its figures, the virtual seconds, and the real ones."""

    requests: int
    rate_limited: dict[str, float]
    busiest: int
    used: float
    virtual: float
    took: float


def traffic(network: Network, calls: int, seed: int) -> Passed:
    """Let traffic pass over a network, and count what each limit model would have rate-limited."""
    began = time.perf_counter()

    async def main(loop: VirtualLoop) -> tuple[PathStats, list[float], float]:
        made = Traffic(network, calls, seed)
        await made.pass_by()
        return made.seen, made.stamps, loop.time()

    seen, stamps, virtual = run_virtual(main)
    shares = rate_limited_shares(stamps, LIMIT)
    used = seen.rate_after_first_second / LIMIT
    return Passed(seen.requests, shares, seen.busiest, used, virtual, time.perf_counter() - began)


def measure(options: Options) -> Report:
    calls = (options.calls or CALLS) // len(NETWORKS)
    met: dict[str, Passed] = {}
    for seed, (name, network) in enumerate(NETWORKS.items()):
        met[name] = alone(traffic, network, calls, seed)
        say(f"virtual: {name}: {met[name].took:.0f} s")
    rows = [
        (
            name,
            f"{passed.requests:,}",
            *(share(passed.rate_limited[model]) for model in LIMIT_MODELS),
            f"{passed.busiest}",
            f"{passed.used:.1%}",
        )
        for name, passed in met.items()
    ]
    heads = ("round trip", "requests", *(f"rate-limited by {name}" for name in LIMIT_MODELS), "busiest second", "limit used")
    whole = sum(passed.requests for passed in met.values())
    hours = sum(passed.virtual for passed in met.values()) / 3600
    return Report(
        f"virtual: {whole:,} requests through the bucket alone, {hours:.1f} hours of virtual time, both lanes",
        [Table(heads, rows)],
        [f"Counted with {BEGINNINGS} beginnings of the limit models' seconds; their mean is printed, and 0 is 0 in all."],
        {
            name: {
                "requests": passed.requests,
                "rate_limited": passed.rate_limited,
                "busiest": passed.busiest,
                "used": passed.used,
                "virtual_seconds": passed.virtual,
                "took_seconds": passed.took,
            }
            for name, passed in met.items()
        },
    )
