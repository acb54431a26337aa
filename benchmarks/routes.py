"""Routes that change while the bucket is in full use, in virtual time: how many requests come too early, and what it costs.

The credit is learnt from the past, so a route that gets faster finds requests on the way that were sent too early. The server
here admits everything and keeps the moments. Its busiest second, and what a sliding window would have rate-limited, are counted
afterwards. A route changes both ways alike, or one way only. Each seed draws the moment of the change and a jitter of up to
2 ms each way.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Callable

from attrs import field, frozen

from teak_async._limits.bucket import Lane

from .report import Options, Report, Table, say
from .virtual import VirtualLoop, run_virtual
from .world import FRESH, SEEDS, Client, Stamps, Way, evenly_jittered

SECONDS = 1.0
"""What all times are multiplied with; a test makes it small."""
LIVE = 40.0
BURST, BURSTS_EVERY = 60, 7.0
"""Live calls at once, and seconds between two of these."""


@frozen
class Route:
    """Seconds of both ways as they change.

    Attributes:
        delays: what the two ways take, one after the other; the last one stays.
        lasts: seconds that each of them lasts; the first one is there for up to five more.
        repeats: whether the first one comes again after the last.
        jitter: seconds more each way at most; `None` for up to 2 ms.
        way: which of the ways changes; `None` for both alike.
        tail: the share of requests that take 300 ms more.
        walks: by how many seconds the route may change in each step.
        seconds: how long it is watched.
    """

    delays: tuple[float, ...]
    lasts: float = 15.0
    repeats: bool = False
    jitter: float | None = None
    way: str | None = None
    tail: float = 0.0
    walks: float = 0.0
    seconds: float = 30.0

    def ways(self, draw: random.Random) -> tuple[Way, Way]:
        """The way up and the way down."""
        first = self.lasts + 5 * draw.random()
        jitter = 0.002 * draw.random() if self.jitter is None else self.jitter
        changes, walked = _Steps(self, first), _Walk(self, draw)

        def way(changing: bool) -> Way:
            around = evenly_jittered(draw, 0.0, jitter)

            def take(now: float) -> float:
                late = 0.3 if self.tail and draw.random() < self.tail / 2 else 0.0
                return (changes.at(now) if changing else max(self.delays)) / 2 + walked.at(now) + around(now) + late

            return take

        return way(self.way != "down"), way(self.way != "up")


class _Steps:
    def __init__(self, route: Route, first: float) -> None:
        self._route, self._first = route, first

    def at(self, now: float) -> float:
        route = self._route
        step = 0 if now < self._first else 1 + int((now - self._first) / route.lasts)
        count = len(route.delays)
        return route.delays[step % count if route.repeats else min(step, count - 1)]


class _Walk:
    def __init__(self, route: Route, draw: random.Random) -> None:
        self._route, self._draw = route, draw
        self._until, self._now = route.lasts, 0.0

    def at(self, now: float) -> float:
        while self._route.walks and now >= self._until:
            self._until += self._route.lasts
            step = self._route.walks * (2 * self._draw.random() - 1)
            self._now = min(max(self._now + step, -self._route.delays[0] / 2), self._route.delays[0])
        return self._now


ROUTES = {
    "60 -> 40 ms": Route((0.06, 0.04)),
    "200 -> 100 ms": Route((0.2, 0.1)),
    "300 -> 20 ms": Route((0.3, 0.02)),
    "60 -> 40 ms, way up only": Route((0.06, 0.02), way="up"),
    "200 -> 100 ms, way up only": Route((0.2, 0.0), way="up"),
    "60 -> 40 ms, way down only": Route((0.06, 0.02), way="down"),
    "200 -> 100 ms, way down only": Route((0.2, 0.0), way="down"),
    "20 -> 60 ms": Route((0.02, 0.06), seconds=60.0),
    "flaps 40/60 ms each 30 s": Route((0.04, 0.06), lasts=30.0, repeats=True, seconds=300.0),
    "flaps 40/60 ms each 2 s": Route((0.04, 0.06), lasts=2.0, repeats=True, seconds=120.0),
    "flaps 40/60 ms, way up only": Route((0.02, 0.06), lasts=30.0, repeats=True, way="up", seconds=300.0),
    "walks around 60 ms": Route((0.06,), lasts=1.0, walks=0.004, seconds=120.0),
    "40 ms, 1 % take 300 ms more": Route((0.04,), tail=0.01, seconds=60.0),
    "40 ms": Route((0.04,), jitter=0.0, seconds=100.0),
    "40 ms, jitter 8 ms each way": Route((0.04,), jitter=0.008, seconds=100.0),
    "0 ms, jitter 50 ms each way": Route((0.0,), jitter=0.05, seconds=100.0),
}
"""Round trips. Where one way only changes, the figure is that of both: of 60 ms it takes 20 ms away."""


def _live(client: Client, draw: random.Random) -> None:  # noqa: ARG001 - one form for all loads
    client.want_more(Lane.LIVE)


def _bulk(client: Client, draw: random.Random) -> None:  # noqa: ARG001 - one form for all loads
    client.want_more(Lane.BULK)


def _mix(client: Client, draw: random.Random) -> None:
    async def bursts() -> None:
        while True:
            await asyncio.sleep(BURSTS_EVERY)
            for _ in range(BURST):
                client.start(client.call(Lane.LIVE))

    client.want_more(Lane.BULK)
    client.start(client.come_by(draw, LIVE))
    client.start(bursts())


LOADS: dict[str, Callable[[Client, random.Random], None]] = {"live lane full": _live, "bulk": _bulk, "bulk, live, bursts": _mix}


@frozen
class Seen:
    """One run: its busiest second, what a sliding window would have rate-limited, and requests a second.

    Attributes:
        rate: from the fifth second on; where the route changes once, up to the change.
    """

    busiest: int
    over: int
    rate: float


@frozen
class Runs:
    """All seeds of one route and load."""

    seen: list[Seen] = field(factory=list)

    def row(self) -> tuple[str, str, str]:
        return (
            f"{max(run.busiest for run in self.seen)}",
            f"{max(run.over for run in self.seen)}",
            f"{statistics.median(run.rate for run in self.seen):.1f}",
        )


def watch(route: Route, load: Callable[[Client, random.Random], None], seed: int) -> Seen:
    """Let a load meet a route."""
    draw = random.Random(seed)
    up, down = route.ways(draw)
    server = Stamps()
    once = len(route.delays) > 1 and not route.repeats and route.delays[0] > route.delays[1]
    seconds = route.seconds * SECONDS

    async def main(_: VirtualLoop) -> None:
        client = Client(up, down, server)
        load(client, draw)
        await asyncio.sleep(seconds)
        await client.stop()

    run_virtual(main)
    begin = min(5.0, seconds / 2)
    return Seen(server.busiest(), server.over(), server.rate(begin, min(route.lasts, seconds) if once else seconds))


def measure(options: Options) -> Report:
    seeds = options.rounds or SEEDS
    rows = []
    figures = {}
    for name, route in ROUTES.items():
        runs = {load: Runs([watch(route, ask, FRESH + seed) for seed in range(seeds)]) for load, ask in LOADS.items()}
        rows.append((name, *(" / ".join(found.row()) for found in runs.values())))
        say(f"routes: {' | '.join(rows[-1])}")
        figures[name] = {
            load: {part: [getattr(run, part) for run in found.seen] for part in ("busiest", "over", "rate")}
            for load, found in runs.items()
        }
    return Report(
        f"routes: busiest second / rate-limited by a sliding window / requests a second; {seeds} seeds from {FRESH}",
        [Table(("round trip", *LOADS), rows)],
        ["The first two are the worst of the seeds, the third is their median; before the change where there is one."],
        {"seeds": seeds, "routes": figures},
    )
