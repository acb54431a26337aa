"""One limit for many members, in virtual time: is it kept and used, are the parts even, and how long do live calls wait?

Members, their buckets and the ledger's arithmetic are the client's own code. The wire, the way to the ledger and who asks are
draws, and the server counts by itself. No machine is too busy here: what is missing was lost by the policy.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from unittest.mock import patch

from attrs import field, frozen

from teak_async._fleet.ledger import Answer, LedgerDownError, State, Sync, apply
from teak_async._fleet.member import Member
from teak_async._limits.bucket import Lane
from teak_async._notify import Notifier

from .processes import LIMIT
from .report import Options, Report, Table, say
from .virtual import VirtualLoop, run_virtual
from .world import FRESH, SEEDS, Client, Server, Stamps, Way, evenly_jittered

DELAY, JITTER = 0.02, 0.004
"""Seconds of each way to the server: 40 ms and up to 8 ms more, both ways together."""
LEDGERS = {"one host": (0.0001, 0.002), "many hosts": (0.0005, 0.003)}
"""Seconds of each way to the ledger, and up to so many more."""
WARM_UP = 5.0
SECONDS = 30.0


class MemoryLedger:
    """The ledger's arithmetic, and a way to it that takes time.

    Attributes:
        syncs: made so far.
        down: whether it cannot be reached.
    """

    name = "memory"

    def __init__(self, way: Way, *, one_host: bool) -> None:
        self.one_host = one_host
        self.syncs = 0
        self.down = False
        self._states: dict[str, State] = {}
        self._way = way
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        """There is nothing to open."""

    async def sync(self, syncs: dict[str, Sync]) -> dict[str, Answer]:
        await asyncio.sleep(self._way(self._loop.time()))
        if self.down:
            raise LedgerDownError("it is down")
        answers = {}
        for key, sync in syncs.items():
            self.syncs += 1
            self._states[key], answer = apply(self._states.get(key), sync, int(self._loop.time() * 1000))
            if answer is not None:
                answers[key] = answer
        await asyncio.sleep(self._way(self._loop.time()))
        return answers

    def empty(self) -> None:
        """Forget everything."""
        self._states.clear()

    async def read(self) -> dict[str, State]:
        return self._states

    async def close(self) -> None:
        """There is nothing to close."""

    def abandon(self) -> None:
        """As above."""


class Fleet:
    """Members of one limit before one server.

    Args:
        draw: for all that is drawn.
        kind: of the ledger.
        server: rate-limits; `None` for one that admits everything.

    Attributes:
        ledger: that they share.
        stamps: when their requests came to the server.
    """

    def __init__(self, draw: random.Random, kind: str, server: Server | None = None) -> None:
        delay, jitter = LEDGERS[kind]
        self.ledger = MemoryLedger(evenly_jittered(draw, delay, jitter), one_host=kind == "one host")
        self.stamps = Stamps()
        self.server = server
        self._draw = draw

    async def start(self, *, bulk: bool = False, live: float = 0.0) -> Worker:
        """Have one more member, which does bulk work, or so many live calls a second at random, or both."""
        worker = Worker(self, evenly_jittered(self._draw, DELAY, JITTER))
        # Members are ordered by their ids, which are random: one seed has to give one course of things.
        with patch("uuid.uuid4", lambda: uuid.UUID(int=self._draw.getrandbits(128))):
            await worker.member.open({"/v2/virtual": worker.client.bucket})
        if bulk:
            worker.client.want_more(Lane.BULK)
        if live:
            worker.client.start(worker.client.come_by(self._draw, live))
        return worker


class Worker:
    """A member and what it sends.

    Attributes:
        stamps: when the server counted its requests.
    """

    def __init__(self, fleet: Fleet, way: Way) -> None:
        self.stamps: list[float] = []
        self.client = Client(way, way, self._count)
        self.member = Member(fleet.ledger, "game", "server", 30.0, Notifier(None))
        self._fleet = fleet

    async def stop(self) -> None:
        """Leave as a session does: when nothing is on the wire any more."""
        await self.client.stop()
        await asyncio.sleep(2 * (DELAY + JITTER))
        await self.member.close()

    def rate(self, since: float, until: float) -> float:
        """Requests a second between two moments."""
        return sum(since <= stamp < until for stamp in self.stamps) / (until - since)

    def _count(self, now: float) -> bool:
        self.stamps.append(now)
        self._fleet.stamps(now)
        return self._fleet.server is None or self._fleet.server(now)


@frozen
class Seen:
    """What was counted.

    Attributes:
        busiest: requests in the busiest second.
        used: share of the limit that was used.
        unequal: the largest distance of a bulk member from an equal part, as a share of that.
        waits: seconds that each live call waited for its permit.
        syncs: of all members, a second.
    """

    busiest: int
    used: float
    unequal: float
    waits: list[float] = field(factory=list)
    syncs: float = 0.0


def steady(bulk: int, live: int, rate: float, idle: int, seed: int, kind: str) -> Seen:
    """Have some members with bulk work, some with live calls and some that do nothing work together."""

    async def main(loop: VirtualLoop) -> Seen:
        draw = random.Random(seed)
        fleet = Fleet(draw, kind)
        workers = [await fleet.start(bulk=True) for _ in range(bulk)]
        workers += [await fleet.start(live=rate) for _ in range(live)] + [await fleet.start() for _ in range(idle)]
        await asyncio.sleep(WARM_UP)
        start, before = loop.time(), fleet.ledger.syncs
        await asyncio.sleep(SECONDS)
        rates = [worker.rate(start, start + SECONDS) for worker in workers]
        mean = sum(rates[:bulk]) / max(bulk, 1)
        waits = [wait for worker in workers for asked, wait in worker.client.waits if asked >= start]
        syncs = (fleet.ledger.syncs - before) / SECONDS
        for worker in workers:
            await worker.stop()
        unequal = max((abs(rate - mean) / mean for rate in rates[:bulk]), default=0.0)
        return Seen(fleet.stamps.busiest(), sum(rates) / LIMIT, unequal, waits, syncs)

    return run_virtual(main)


@frozen
class Moved:
    """What became of the permits when a member came and went.

    Attributes:
        joined: requests of the new member, as a share of its equal part, from a second and a half to three and a half after
            it came.
        left: share of the limit that was used in as long after it had gone.
        over: requests that a sliding window would have rate-limited.
    """

    joined: float
    left: float
    over: int


def come_and_go(bulk: int, seed: int, kind: str) -> Moved:
    """Have one more member come to some with bulk work, and go."""

    async def main(loop: VirtualLoop) -> Moved:
        draw = random.Random(seed)
        fleet = Fleet(draw, kind)
        workers = [await fleet.start(bulk=True) for _ in range(bulk)]
        await asyncio.sleep(WARM_UP + draw.random())
        new, came = await fleet.start(bulk=True), loop.time()
        await asyncio.sleep(WARM_UP)
        await new.stop()
        went = loop.time()
        await asyncio.sleep(WARM_UP)
        for worker in workers:
            await worker.stop()
        joined = new.rate(came + 1.5, came + 3.5) * (bulk + 1) / LIMIT
        return Moved(joined, fleet.stamps.rate(went + 1.5, went + 3.5) / LIMIT, fleet.stamps.over())

    return run_virtual(main)


SCENARIOS = {
    "16 with bulk work": (16, 0, 0.0, 0),
    "4 with bulk work": (4, 0, 0.0, 0),
    "1 with bulk work, 8 live at 3/s, 7 idle": (1, 8, 3.0, 7),
    "4 with bulk work, 8 live at 6/s": (4, 8, 6.0, 0),
    "4 live at 25/s": (0, 4, 25.0, 0),
}


def measure(options: Options) -> Report:
    seeds = options.rounds or SEEDS
    rows, figures, moved = [], {}, []
    for name, scenario in SCENARIOS.items():
        for kind in LEDGERS:
            runs = [steady(*scenario, FRESH + seed, kind) for seed in range(seeds)]
            say(f"shares: {name}, {kind}")
            waits = sorted(wait * 1000 for run in runs for wait in run.waits)
            parts = [f"{waits[int(len(waits) * part)]:.0f}" for part in (0.5, 0.99, 0.999)] if waits else ["-"]
            used, unequal = min(run.used for run in runs), max(run.unequal for run in runs)
            syncs = max(run.syncs for run in runs)
            busiest = max(run.busiest for run in runs)
            rows.append((name, kind, f"{busiest}", f"{used:.1%}", f"{unequal:.0%}", " / ".join(parts), f"{syncs:.0f}"))
            figures[f"{name}, {kind}"] = {"busiest": busiest, "used": used, "unequal": unequal, "syncs": syncs}
    for bulk in (1, 3):
        for kind in LEDGERS:
            seen = [come_and_go(bulk, FRESH + seed, kind) for seed in range(seeds)]
            worst = (f"{min(run.joined for run in seen):.0%}", f"{min(run.left for run in seen):.0%}")
            moved.append((f"{bulk}", kind, *worst, f"{max(run.over for run in seen)}"))
    heads = (
        "members",
        "ledger",
        "busiest second",
        f"used of {LIMIT}",
        "from an equal part",
        "live wait, 50/99/99.9 % in ms",
    )
    return Report(
        f"shares: one limit for many members, {seeds} seeds from {FRESH}",
        [
            Table((*heads, "syncs a second"), rows),
            Table(("members before", "ledger", "of its part after it came", "used after it went", "rate-limited"), moved),
        ],
        ["The worst of the seeds; waits of all of them. The second table counts from 1.5 to 3.5 s after the change."],
        figures,
    )
