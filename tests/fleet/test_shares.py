"""Members, their buckets and the ledger's arithmetic in virtual time: what they use, how evenly, how long live calls wait."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest
from support import MANY

from benchmarks.foreign import constant
from benchmarks.processes import LIMIT
from benchmarks.shares import LEDGERS, SCENARIOS, Fleet, Worker, come_and_go, steady
from benchmarks.virtual import VirtualLoop, run_virtual
from benchmarks.world import SharedServer
from teak_async._fleet.ledger import Answer, Sync
from teak_async._fleet.member import Member
from teak_async._limits.bucket import Bucket, Lane
from teak_async._notify import Notifier

USED = dict(zip(SCENARIOS, (0.98, 0.98, 0.92, 0.93, 0.45), strict=True))
"""Share of the limit. Of the third, the seven idle members keep 3.5 %, so that they can send when the ledger is away; of the
last no more is asked for than a half."""
kinds = pytest.mark.parametrize("kind", LEDGERS if MANY else [list(LEDGERS)[-1]])
seeds = pytest.mark.parametrize("seed", range(5) if MANY else [1])


@seeds
@kinds
@pytest.mark.parametrize("name", SCENARIOS if MANY else list(SCENARIOS)[1:3])
def test_the_limit_is_kept_used_and_shared_evenly(name: str, kind: str, seed: int) -> None:
    """And few live calls wait longer for a permit than its way from the ledger: over many seeds, one in a hundred 15 ms."""
    seen = steady(*SCENARIOS[name], seed, kind)
    assert seen.busiest <= LIMIT
    assert seen.used >= USED[name]
    assert seen.unequal < 0.1
    assert not seen.waits or sorted(seen.waits)[int(len(seen.waits) * 0.99)] < 0.03


@seeds
@kinds
@pytest.mark.parametrize(("members", "rate", "most"), [(1, 100.0, 5), (4, 25.0, 25), (16, 5.0, 90)])
def test_live_calls_alone_need_few_syncs(members: int, rate: float, most: int, kind: str, seed: int) -> None:
    """With one for each call more than in the second before it they would make 100, 200 and 200 at the least."""
    seen = steady(0, members, rate, 0, seed, kind)
    assert seen.syncs < most
    assert sorted(seen.waits)[int(len(seen.waits) * 0.99)] < 0.012
    assert seen.busiest <= LIMIT


@seeds
@kinds
def test_a_burst_leaves_its_permits_to_the_next_one_elsewhere(kind: str, seed: int) -> None:
    """Some stay where calls go on, but not as many as a burst had."""

    async def main(loop: VirtualLoop) -> None:
        fleet = Fleet(random.Random(seed), kind)
        workers = [await fleet.start(live=5) for _ in range(4)]
        await asyncio.sleep(5)
        for _ in range(3):
            for worker in workers:
                for _ in range(120):
                    worker.client.start(worker.client.call(Lane.LIVE))
                await asyncio.sleep(1.5)
        assert max(wait for worker in workers for asked, wait in worker.client.waits if asked > 5) < 0.03
        for worker in workers:
            await worker.stop()

    run_virtual(main)


@seeds
@kinds
@pytest.mark.parametrize("bulk", [1, 3])
def test_who_comes_has_its_part_and_who_goes_leaves_it(bulk: int, kind: str, seed: int) -> None:
    """Within a second and a half."""
    moved = come_and_go(bulk, seed, kind)
    assert moved.joined > 0.9
    assert moved.left > 0.95
    assert moved.over == 0


def test_a_rate_limited_member_tells_the_others_at_once() -> None:
    """They have to pause, too; one with no bulk work would sync again after seconds."""

    async def main(loop: VirtualLoop) -> None:
        fleet = Fleet(random.Random(1), "one host")
        worker = await fleet.start()
        await asyncio.sleep(4.5)
        before = fleet.ledger.syncs
        await asyncio.sleep(0.1)
        assert fleet.ledger.syncs == before
        worker.client.bucket.record_rate_limit(loop.time(), 1.0)
        await asyncio.sleep(0.02)
        assert fleet.ledger.syncs > before
        await worker.stop()

    run_virtual(main)


def kill(worker: Worker) -> None:
    """Have it make no more calls and no more syncs; what is on the wire arrives."""
    for task in worker.client.tasks:
        task.cancel()
    worker.member.abandon()


async def two_and_a_victim(seed: int) -> tuple[Fleet, Worker, list[Worker]]:
    """Three with bulk work, of which one is killed."""
    fleet = Fleet(random.Random(seed), "many hosts")
    victim, *others = [await fleet.start(bulk=True) for _ in range(3)]
    await asyncio.sleep(5)
    kill(victim)
    return fleet, victim, others


@seeds
def test_what_a_killed_member_held_comes_back(seed: int) -> None:
    """After its lease and the last response that it might get, all but its equal part of it; that too after a minute."""

    async def main(loop: VirtualLoop) -> None:
        fleet, _, others = await two_and_a_victim(seed)
        killed = loop.time()
        await asyncio.sleep(75)
        assert fleet.stamps.rate(killed + 3, killed + 30) / LIMIT == pytest.approx(0.66, abs=0.04)
        assert fleet.stamps.rate(killed + 62, killed + 75) / LIMIT > 0.95
        assert fleet.stamps.over() == 0
        for worker in others:
            await worker.stop()

    run_virtual(main)


@seeds
@pytest.mark.parametrize("idle", [0, 1])
def test_what_a_killed_member_held_comes_back_in_a_quiet_fleet(idle: int, seed: int) -> None:
    """It was the only one that did anything: who needs its permits later has them, if nobody was there, after a lease."""

    async def main(loop: VirtualLoop) -> None:
        fleet = Fleet(random.Random(seed), "many hosts")
        others = [await fleet.start() for _ in range(idle)]
        victim = await fleet.start(bulk=True)
        await asyncio.sleep(5)
        kill(victim)
        await asyncio.sleep(100)
        came = loop.time()
        others.append(await fleet.start(bulk=True))
        soon = 1.5 if idle else 6.5
        await asyncio.sleep(soon + 2)
        assert others[-1].rate(came + soon, came + soon + 2) / LIMIT > 0.9
        for worker in others:
            await worker.stop()
        assert fleet.stamps.over() == 0

    run_virtual(main)


@seeds
def test_a_ledger_that_was_away_for_long_takes_nothing_from_anybody(seed: int) -> None:
    """All have used their parts all the time, and tell it so before anybody gets more."""

    async def main(loop: VirtualLoop) -> None:
        fleet = Fleet(random.Random(seed), "many hosts")
        workers = [await fleet.start(bulk=True) for _ in range(3)] + [await fleet.start(live=4)]
        for _ in range(3 if MANY else 1):
            await asyncio.sleep(5)
            fleet.ledger.down = True
            await asyncio.sleep(100 if MANY else 70)
            fleet.ledger.down = False
        await asyncio.sleep(7)
        assert fleet.stamps.rate(loop.time() - 3, loop.time()) / LIMIT > 0.9
        for worker in workers:
            await worker.stop()
        assert fleet.stamps.over() == 0

    run_virtual(main)


@seeds
def test_a_resumed_run_has_the_part_of_the_killed_one(seed: int) -> None:
    """Within three seconds."""

    async def main(loop: VirtualLoop) -> None:
        fleet, victim, others = await two_and_a_victim(seed)
        heir = await fleet.start(bulk=True)
        heir.member.take_over(victim.member.name)
        resumed = loop.time()
        await asyncio.sleep(8)
        assert heir.rate(resumed + 3, resumed + 8) * 3 / LIMIT > 0.9
        for worker in (heir, *others):
            await worker.stop()
        assert fleet.stamps.over() == 0

    run_virtual(main)


@seeds
def test_an_outage_costs_bulk_what_the_reserve_is_for_and_live_calls_nothing(seed: int) -> None:
    """For ten seconds, and with an empty ledger afterwards."""

    async def main(loop: VirtualLoop) -> None:
        fleet = Fleet(random.Random(seed), "many hosts")
        workers = [await fleet.start(bulk=True), await fleet.start(bulk=True), await fleet.start(live=3)]
        await asyncio.sleep(5)
        fleet.ledger.down, lost = True, loop.time()
        await asyncio.sleep(10)
        fleet.ledger.empty()
        fleet.ledger.down, back = False, loop.time()
        await asyncio.sleep(10)
        assert fleet.stamps.rate(lost, lost + 5) / LIMIT > 0.9
        assert fleet.stamps.rate(lost + 6, back) / LIMIT > 0.6, "each has its third"
        assert fleet.stamps.rate(back + 3, back + 10) / LIMIT > 0.9
        for worker in workers:
            await worker.stop()
        assert fleet.stamps.over() == 0

    run_virtual(main)


@seeds
def test_random_faults_stop_nobody(seed: int) -> None:
    """Outages, empty ledgers, kills and members that come and go: the server is never without requests for two seconds."""

    async def main(loop: VirtualLoop) -> None:
        draw = random.Random(seed)
        fleet = Fleet(draw, "many hosts")
        workers = [await fleet.start(bulk=True), await fleet.start(bulk=True), await fleet.start(live=4)]
        await asyncio.sleep(3)
        began = loop.time()
        for _ in range(50 if MANY else 15):
            match draw.choice(["outage", "restart", "come", "go", "kill"]):
                case "outage" | "restart" as what:
                    fleet.ledger.down = True
                    await asyncio.sleep(draw.uniform(0.1, 12))
                    if what == "restart":
                        fleet.ledger.empty()
                    fleet.ledger.down = False
                case "come":
                    workers.append(await fleet.start(bulk=draw.random() < 0.5, live=4 * draw.random()))
                case _ if len(workers) < 3:
                    continue
                case "go":  # never the first, so that there is always something to send
                    await workers.pop(draw.randrange(1, len(workers))).stop()
                case "kill":
                    kill(workers.pop(draw.randrange(1, len(workers))))
            await asyncio.sleep(draw.uniform(0.5, 3))
        stamps = [stamp for stamp in fleet.stamps.stamps if began <= stamp]
        for worker in workers:
            await worker.stop()
        assert fleet.stamps.over() == 0
        assert max(after - before for before, after in pairwise(stamps)) < 2

    run_virtual(main)


@seeds
@pytest.mark.parametrize("fixed", [False, True])
def test_members_find_what_somebody_else_leaves(fixed: bool, seed: int) -> None:
    """As one session does, by the same law: little is rate-limited, and most of what is left is used."""

    async def main(loop: VirtualLoop) -> None:
        draw = random.Random(seed)
        others = list(constant(draw, 10.0, 60.0))
        server = SharedServer(fixed=fixed, counts_all=bool(seed % 2), others=iter(others))
        fleet = Fleet(draw, "many hosts", server)
        workers = [await fleet.start(bulk=True) for _ in range(4)]
        await asyncio.sleep(60)
        got = sum(10 <= stamp < 60 for stamp in server.admitted)
        assert got > 0.7 * (LIMIT * 50 - len(others))
        assert len(server.rate_limited) < 0.03 * got
        await asyncio.sleep(35)
        assert sum(stamp > loop.time() - 3 for stamp in server.admitted) > 0.9 * 3 * LIMIT, "it is forgotten that it was there"
        for worker in workers:
            await worker.stop()

    run_virtual(main)


def test_an_idle_session_leaves_the_ledger_in_peace() -> None:
    """With a bucket for each path, some of them used: at most ten syncs a second, and after a while one in ten seconds."""
    paths = [f"/v2/path/{number}" for number in range(14)]

    async def main(loop: VirtualLoop) -> None:
        draw = random.Random(1)
        fleet = Fleet(draw, "many hosts")
        buckets = {path: Bucket(path, LIMIT) for path in paths}
        made: list[float] = []
        sync = fleet.ledger.sync

        async def counted(syncs: dict[str, Sync]) -> dict[str, Answer]:
            made.append(loop.time())
            return await sync(syncs)

        fleet.ledger.sync = counted  # type: ignore[method-assign] # it counts, and hands on
        member = Member(fleet.ledger, "game", "server", 30.0, Notifier(None))
        await member.open(buckets)
        for path in paths[::2]:
            await asyncio.sleep(draw.uniform(0.1, 3.0))
            await buckets[path].acquire(Lane.LIVE)
            buckets[path].release_answered(0.04, 0.04, warm=True)
        used = loop.time()
        await asyncio.sleep(600)
        await member.close()
        soon = [moment for moment in made if used + 5 <= moment < used + 60]
        late = [moment for moment in made if used + 100 <= moment < used + 600]
        assert len(soon) <= 55 * 10
        assert len(late) <= 500 / 10

    run_virtual(main)
