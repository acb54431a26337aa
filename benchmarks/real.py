"""What `routes`, `waits` and `foreign` find in virtual time, by real runs: sockets, processes, seconds.

The scenes are theirs, and so are the ways and the servers, which count by themselves. Here a server in a process of its own
plays them before a whole session in another: a request travels up for its time, is stamped, and its response travels down.
Several scenes go on at a time, since each leaves the machine mostly idle. A loop that a busy machine holds up is late with what
it sends and what it learns; the longest hold-up of each client stands beside the figures.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection

from aiohttp import web
from attrs import field, frozen

from teak_async import Identify, TeakError, TeakSession
from teak_async.events import Event, PermitAcquired

from . import foreign, routes, waits
from .processes import LIMIT, alone, process, wait
from .report import Options, Report, Table, say
from .world import FRESH, Server, SharedServer, Stamps, Way, evenly_jittered

RUNS = 3
AT_ONCE = 6
"""Scenes that go on at a time."""
PART = 1.0
"""What all times of a scene are multiplied with; a test makes it small."""
FULL = 400
"""Callers of a full live lane: what is under way at 300 ms, and as many who wait."""
LATE = 1.0
"""Seconds after the last call until the server is asked what it saw."""
TICK = 0.005

ROUTES = ("60 -> 40 ms", "200 -> 100 ms", "300 -> 20 ms", "flaps 40/60 ms each 30 s")
FLAPS = 120.0
"""Seconds of a route that flaps: four of its changes."""
STEADY = 60.0
BURSTS = 3


@frozen
class Scene:
    """One scene, as both processes make it for themselves.

    Attributes:
        kind: the topic that it is of.
        name: its name there.
        load: what the client does.
        fixed: how a server that is shared counts.
        seed: of all draws.
    """

    kind: str
    name: str
    load: str = "bulk"
    fixed: bool = False
    seed: int = FRESH


@frozen
class World:
    """What the server's process plays.

    Attributes:
        up: the way to the server.
        down: the way back.
        server: counts.
        begin: when somebody else comes, in seconds from the first request.
        end: when it has left, or the scene ends.
        others: how many requests somebody else makes.
    """

    up: Way
    down: Way
    server: Server
    begin: float
    end: float
    others: int = 0


def world_of(scene: Scene) -> World:
    """Make what the server's process plays in a scene."""
    draw = random.Random(scene.seed)
    match scene.kind:
        case "routes":
            route = routes.ROUTES[scene.name]
            seconds = (FLAPS if route.repeats else route.seconds) * PART
            return World(*route.ways(draw), Stamps(), 0.0, seconds)
        case "waits":
            way = evenly_jittered(draw, 0.02, 0.008)
            bursts = waits.WARM + BURSTS * 2 * waits.BETWEEN
            return World(way, way, Stamps(), 0.0, (waits.WARM + STEADY if scene.load == "steady" else bursts) * PART)
    pattern = foreign.PATTERNS[scene.name]
    begin, end = (PART * moment for moment in foreign.stay(pattern, draw))
    others = list(pattern(draw, begin, end))
    server = SharedServer(fixed=scene.fixed, counts_all=bool(scene.seed % 2), others=iter(others))
    way = evenly_jittered(draw, foreign.DELAY, foreign.JITTER)
    return World(way, way, server, begin, end, len(others))


def _serve(pipe: Connection, scene: Scene) -> None:
    asyncio.run(_play(pipe, scene))


async def _play(pipe: Connection, scene: Scene) -> None:
    world, loop = world_of(scene), asyncio.get_running_loop()
    began: list[float] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        if not began:
            began.append(loop.time())
        await asyncio.sleep(world.up(loop.time() - began[0]))
        admitted = world.server(loop.time() - began[0])
        await asyncio.sleep(world.down(loop.time() - began[0]))
        if not admitted:
            return web.json_response({"status": "rate_limit", "errors": {"rate_limit": ["too many"]}}, status=429)
        states = {name: {"state": "opt_in"} for name in ("email", "push", "sms")}
        return web.json_response({"country_code": "US", "session_id": "1", "opt_out_states": states}, status=201)

    runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    pipe.send("http://{}:{}".format(*runner.addresses[0][:2]))
    await asyncio.to_thread(wait, pipe)
    await runner.cleanup()
    pipe.send(_figures(scene, world))


def _figures(scene: Scene, world: World) -> dict[str, float]:
    server = world.server
    if isinstance(server, SharedServer):
        seen = foreign.judge(server, world.begin, world.end, world.others)
        return {"got": seen.got, "rate_limited": seen.rate_limited, "back": seen.back}
    assert isinstance(server, Stamps)
    if scene.kind == "waits":
        return {"rate": server.rate(waits.WARM * PART, world.end)}
    route = routes.ROUTES[scene.name]
    until = world.end if route.repeats else route.lasts * PART
    return {"busiest": server.busiest(), "over": server.over(), "rate": server.rate(min(5.0, until / 2), until)}


class Client:
    """A session before the server, and what it is asked to do.

    Attributes:
        waits: when each live call got its permit, and for how long it had waited.
        held_up: the longest that the loop was late, in seconds.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._draw = random.Random(scene.seed)
        self.waits: list[tuple[float, float]] = []
        self.held_up = 0.0

    async def run(self, url: str) -> None:
        """Do what the scene says until its end."""
        world = world_of(self._scene)
        self._end = world.end + (foreign.LEFT_ALONE * PART if self._scene.kind == "foreign" else 0.0)
        async with TeakSession("1", "secret", base_url=url, on_event=self._note) as teak:
            work: dict[str, Callable[[TeakSession], Awaitable[object]]] = {
                "bulk": lambda teak: teak.bulk(self._rows()),
                "live lane full": lambda teak: asyncio.gather(*(self._ask_again(teak) for _ in range(FULL))),
                "steady": self._steady,
                "bursts": self._bursts,
            }
            ticking = asyncio.create_task(self._tick())
            await work[self._scene.load](teak)
            ticking.cancel()

    @property
    def now(self) -> float:
        return self._loop.time() - self._began

    def _note(self, event: Event) -> None:
        if isinstance(event, PermitAcquired) and event.lane == "live" and event.attempt == 1:
            self.waits.append((self.now, event.wait))

    async def _tick(self) -> None:
        while True:
            due = self._loop.time() + TICK
            await asyncio.sleep(TICK)
            self.held_up = max(self.held_up, self._loop.time() - due)

    def _rows(self) -> Iterator[Identify]:
        while self.now < self._end:
            yield Identify(f"p{self._draw.random()}", country_code="US")

    async def _ask_again(self, teak: TeakSession) -> None:
        while self.now < self._end:
            await self._call(teak)

    async def _call(self, teak: TeakSession) -> None:
        with suppress(TeakError):  # the server counts what was rate-limited
            await teak.identify("live", country_code="US")

    async def _come_by(self, teak: TeakSession, calls: asyncio.TaskGroup, rate: float) -> None:
        while self.now < self._end:
            await asyncio.sleep(self._draw.expovariate(rate))
            calls.create_task(self._call(teak))

    async def _steady(self, teak: TeakSession) -> None:
        async with asyncio.TaskGroup() as calls:
            calls.create_task(self._come_by(teak, calls, 40.0))
            await teak.bulk(self._rows())

    async def _bursts(self, teak: TeakSession) -> None:
        """Burst by burst, each during the bulk run: the calls count that come when nobody waits any more."""
        counted: list[tuple[float, float]] = []
        async with asyncio.TaskGroup() as calls:
            calls.create_task(self._come_by(teak, calls, 12.0))
            bulk = asyncio.create_task(teak.bulk(self._rows()))
            await asyncio.sleep(waits.WARM * PART)
            for _ in range(BURSTS):
                await asyncio.gather(*(self._call(teak) for _ in range(waits.BURST)))
                while teak.rates["/v2/identify"].waiting_live:  # noqa: ASYNC110 - some came during the burst, and wait behind it
                    await asyncio.sleep(0.001)
                began = self.now
                await asyncio.sleep(waits.BETWEEN * PART)
                counted += [(at, waited) for at, waited in self.waits if began < at - waited <= began + waits.AFTER]
            await bulk
        self.waits = counted


def _run(url: str, scene: Scene) -> tuple[list[float], float]:
    async def main() -> tuple[list[float], float]:
        client = Client(scene)
        await client.run(url)
        since = waits.WARM * PART if scene.load == "steady" else 0.0
        return [waited for at, waited in client.waits if at >= since], client.held_up

    return asyncio.run(main())


def meet(scene: Scene) -> dict[str, float]:
    """Play one scene."""
    with process(_serve, scene) as pipe:
        url = pipe.recv()
        waited, held_up = alone(_run, url, scene)
        pipe.send("done")
        figures: dict[str, float] = pipe.recv()
    if scene.kind == "waits":
        figures |= {f"p{part}": waits.percentile(waited, part) for part in (50, 99, 99.9)}
    say(f"real: {scene.kind}, {scene.name}, {scene.load}, {'fixed' if scene.fixed else 'sliding'}: {json.dumps(figures)}")
    return {**figures, "held_up": held_up}


SCENES = (
    *(Scene("routes", name, load) for name in ROUTES for load in ("live lane full", "bulk")),
    Scene("waits", "40 live calls a second, 40 ms, jitter 8 ms each way", "steady"),
    Scene("waits", f"after {waits.BURST} live calls at once during bulk", "bursts"),
    *(Scene("foreign", name, fixed=fixed) for fixed in (False, True) for name in foreign.PATTERNS),
)


@frozen
class Runs:
    """All runs of one scene."""

    scene: Scene
    seen: list[dict[str, float]] = field(factory=list)

    def row(self) -> tuple[str, ...]:
        middle = {name: statistics.median(run[name] for run in self.seen) for name in self.seen[0]}
        worst = {name: max(run[name] for run in self.seen) for name in self.seen[0]}
        match self.scene.kind:
            case "routes":
                found = f"{worst['busiest']:.0f} / {worst['over']:.0f} / {middle['rate']:.1f}"
            case "waits":
                found = f"{middle['p50']:.1f} / {middle['p99']:.1f} / {worst['p99']:.1f} ms, {middle['rate']:.1f} a second"
            case _:
                found = f"{middle['got']:.1%}, {middle['rate_limited']:.2%}, {middle['back']:.1f} ({worst['back']:.1f}) s"
        how = f", {'fixed' if self.scene.fixed else 'sliding'}" if self.scene.kind == "foreign" else f", {self.scene.load}"
        return (f"{self.scene.name}{how}", found, f"{1000 * worst['held_up']:.0f} ms")


def measure(options: Options) -> Report:
    runs = options.rounds or RUNS
    scenes = [Scene(one.kind, one.name, one.load, one.fixed, FRESH + seed) for one in SCENES for seed in range(runs)]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        seen = list(threads.map(meet, scenes))
    found = [Runs(scene, seen[place * runs : (place + 1) * runs]) for place, scene in enumerate(SCENES)]
    heads = {
        "routes": ("routes", "busiest second / rate-limited (worst) / requests a second before the change"),
        "waits": ("waits", "50th / 99th percentile / 99th of the worst run, both lanes"),
        "foreign": ("foreign", "of what is left, rate-limited, 95 % after it left (worst)"),
    }
    return Report(
        f"real: the scenes of routes, waits and foreign by sockets, {runs} runs of each, {AT_ONCE} at a time, {LIMIT} a second",
        [
            Table((*titles, "loop held up"), [one.row() for one in found if one.scene.kind == kind])
            for kind, titles in heads.items()
            if any(one.scene.kind == kind for one in found)
        ],
        figures={f"{one.scene.kind}, {one.row()[0]}": one.seen for one in found},
    )
