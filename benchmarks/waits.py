"""How long live calls wait for a permit beside a bulk run, in virtual time: steadily, and after a burst of live calls.

Live calls come at random moments, in the steady part for two minutes. For the first burst, the session has had only live calls
until a bulk run and 150 live calls come at the same moment. The burst finds its permits free. The calls of the next second and
a half count: none of the burst's permits is back, and bulk would take the others. For the second burst the bulk run was there
before. Then the burst has to wait itself, and the calls count that come when nobody waits any more.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Sequence

from attrs import frozen

from teak_async._limits.bucket import Lane

from .report import Options, Report, Table, say
from .virtual import VirtualLoop, run_virtual
from .world import FRESH, SEEDS, Client, Stamps, evenly_jittered

SECONDS = 120.0
WARM = 20.0
"""Seconds before anything counts."""
BURST = 150
AFTER = 1.5
"""Seconds after the burst in which calls count."""
BURSTS = 5
"""Bursts of one seed."""
BETWEEN = 10.0
"""Seconds from one burst to the next."""
STEADY = ((12, 0, 0), (12, 40, 8), (40, 40, 8), (40, 120, 0), (40, 40, 50), (40, 120, 50))
"""Live calls a second, round trip and jitter each way in milliseconds."""
WITH_BURST = (12, 40, 8)
"""The same beside bursts. With forty live calls a second, 150 at once are at times more than the limit by themselves."""


@frozen
class Seen:
    """One run: seconds that live calls waited, and all requests a second."""

    waits: list[float]
    rate: float


def _client(draw: random.Random, round_trip: int, jitter: int) -> tuple[Client, Stamps]:
    server = Stamps()
    way = evenly_jittered(draw, round_trip / 2000, jitter / 1000)
    return Client(way, way, server), server


def steady(live: int, round_trip: int, jitter: int, seed: int) -> Seen:
    """Let live calls come by during a bulk run."""
    draw = random.Random(seed)

    async def main(_: VirtualLoop) -> Seen:
        client, server = _client(draw, round_trip, jitter)
        client.start(client.come_by(draw, live))
        client.want_more(Lane.BULK)
        await asyncio.sleep(WARM + SECONDS)
        await client.stop()
        return Seen([wait for at, wait in client.waits if at >= WARM], server.rate(WARM, WARM + SECONDS))

    return run_virtual(main)


def after_a_burst(seed: int, *, bulk_first: bool) -> Seen:
    """Let a burst of live calls come together with a bulk run, or during it, time and again."""
    draw = random.Random(seed)
    live, round_trip, jitter = WITH_BURST

    async def main(loop: VirtualLoop) -> Seen:
        waits: list[float] = []
        rates: list[float] = []
        client, server = _client(draw, round_trip, jitter)
        client.start(client.come_by(draw, live))
        await asyncio.sleep(WARM)
        for _ in range(BURSTS):
            if bulk_first:
                client.want_more(Lane.BULK)
                await asyncio.sleep(BETWEEN)
            burst = [loop.create_task(client.call(Lane.LIVE)) for _ in range(BURST)]
            if bulk_first:
                await asyncio.wait(burst)
                while client.bucket.rate().waiting_live:  # noqa: ASYNC110 - the bucket says it to nobody
                    await asyncio.sleep(0.001)
            else:
                await asyncio.sleep(0)
                client.want_more(Lane.BULK)
            began = loop.time()
            await asyncio.sleep(BETWEEN)
            waits += [wait for at, wait in client.waits if began < at <= began + AFTER]
            rates.append(server.rate(began, began + BETWEEN))
            await client.stop()
            client.start(client.come_by(draw, live))
            await asyncio.sleep(BETWEEN)
        await client.stop()
        return Seen(waits, statistics.mean(rates))

    return run_virtual(main)


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which that part of them lies, in milliseconds."""
    ordered = sorted(values)
    return 1000 * ordered[min(int(len(ordered) * part / 100), len(ordered) - 1)]


def measure(options: Options) -> Report:
    seeds = options.rounds or SEEDS
    rows = []
    figures = {}
    found = {
        f"{live} live calls a second, {round_trip} ms, jitter {jitter} ms each way": [
            steady(live, round_trip, jitter, FRESH + seed) for seed in range(seeds)
        ]
        for live, round_trip, jitter in STEADY
    }
    found[f"after {BURST} live calls at once, bulk begins"] = [
        after_a_burst(FRESH + seed, bulk_first=False) for seed in range(seeds)
    ]
    found[f"after {BURST} live calls at once during bulk"] = [
        after_a_burst(FRESH + seed, bulk_first=True) for seed in range(seeds)
    ]
    for name, runs in found.items():
        waits = [wait for run in runs for wait in run.waits]
        parts = [percentile(waits, part) for part in (50, 99, 99.9)]
        worst = [max(percentile(run.waits, part) for run in runs) for part in (99, 99.9)]
        rate = statistics.median(run.rate for run in runs)
        rows.append(
            (
                name,
                " / ".join(f"{part:.1f}" for part in (*parts, 1000 * max(waits))) + " ms",
                " / ".join(f"{part:.1f}" for part in worst) + " ms",
                f"{rate:.1f}",
            )
        )
        say(f"waits: {' | '.join(rows[-1])}")
        figures[name] = {"p50": parts[0], "p99": parts[1], "p99.9": parts[2], "worst_p99": worst[0], "rate": rate}
    heads = ("", "50th / 99th / 99.9th percentile / longest", "worst seed, 99th / 99.9th", "requests a second, both lanes")
    return Report(
        f"waits: live calls beside a bulk run, until their permit; {seeds} seeds from {FRESH}",
        [Table(heads, rows)],
        figures={"seeds": seeds, "waits": figures},
    )
