"""How long live calls wait for a permit beside a bulk run, in virtual time: after a burst, and at a steady rate.

The server admits everything. A wait is the time from asking to the permit; the first ten seconds are left out, in which the
credit is earned. Bulk's requests a second are counted at the server.
"""

from __future__ import annotations

import asyncio
import random
import statistics

from teak_async._limits.bucket import Lane

from .report import Options, Report, Table, say
from .virtual import VirtualLoop
from .world import FRESH, SEEDS, Client, Stamps, evenly_jittered, live_through

SECONDS = 60.0
"""Seconds that each run is watched after the first ten."""
BURST = 150
AFTER = 9.0
"""Seconds after a burst whose live calls are looked at."""
STEADY = ((12, 0.0, 0.0), (12, 0.04, 0.008), (40, 0.04, 0.008), (40, 0.12, 0.0), (40, 0.04, 0.05), (40, 0.12, 0.05))
"""Live calls a second, the round trip, and its jitter, both in seconds."""
Run = tuple[list[float], float]
"""Seconds of each wait, and requests a second."""


def watch(rate: float, round_trip: float, jitter: float, seed: int, *, burst: bool) -> Run:
    """Let live calls come beside a bulk run."""
    draw = random.Random(seed)
    server = Stamps()
    way = evenly_jittered(draw, round_trip / 2, jitter / 2)
    at = 10 + SECONDS / 2 if burst else 10.0
    until = at + AFTER if burst else 10.0 + SECONDS

    async def main(loop: VirtualLoop) -> list[float]:
        client = Client(way, way, server)
        client.want_more(Lane.BULK)
        client.start(client.come_by(draw, rate))
        await asyncio.sleep(at)
        if burst:
            for _ in range(BURST):
                client.start(client.call(Lane.LIVE))
            await asyncio.sleep(1.0)  # what waits in the burst itself waits for its own permits
        begin = loop.time()
        await asyncio.sleep(until - at)
        await client.stop()
        return [wait for asked, wait in client.waits if asked >= begin]

    return live_through(main), server.rate(at, until)


def _percentile(waits: list[float], share: float) -> float:
    return sorted(waits)[min(int(share * len(waits)), len(waits) - 1)] * 1000


def measure(options: Options) -> Report:
    seeds = options.rounds or SEEDS
    rows = []
    figures = {}
    cases = [(*case, False) for case in STEADY] + [(12, 0.04, 0.008, True)]
    for rate, round_trip, jitter, burst in cases:
        runs = [watch(rate, round_trip, jitter, FRESH + seed, burst=burst) for seed in range(seeds)]
        waits = [wait for found, _ in runs for wait in found]
        name = f"{rate} a second, {round_trip * 1000:.0f} ms, jitter {jitter * 1000:.0f} ms"
        name += f", after {BURST} at once" if burst else ""
        p99, p999, most = _percentile(waits, 0.99), _percentile(waits, 0.999), max(waits) * 1000
        all_sent = statistics.median(found for _, found in runs)
        rows.append((name, f"{p99:.1f}", f"{p999:.1f}", f"{most:.1f}", f"{all_sent:.1f}"))
        say(f"waits: {' | '.join(rows[-1])}")
        figures[name] = {"p99": p99, "p999": p999, "most": most, "rate": [found for _, found in runs]}
    return Report(
        f"waits: milliseconds that a live call waits for its permit beside a bulk run; {seeds} seeds from {FRESH}",
        [Table(("live calls", "p99", "p99.9", "most", "all requests a second"), rows)],
        [],
        {"seeds": seeds, "waits": figures},
    )
