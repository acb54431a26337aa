"""How long live calls wait while a bulk run takes all the limit: for their permit, and until their answer.

The live calls come by a schedule of their own, whatever became of those before: random moments, drawn from a seed before
the moment comes. A call's wait counts from the moment it was meant for, not from when the loop got round to it, so a
stall shows in every call that it held up and not in one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextvars import ContextVar

from attrs import field, frozen

from teak_async import Identify, TeakSession
from teak_async._limits.bucket import Lane
from teak_async._limits.queue import Holder
from teak_async.sandbox import GAME_ID, IDENTIFY, SECRET_KEY, Faults

from .limits import RunResult, run_result, share
from .processes import Setting, alone, served
from .report import Options, Report, Table, say, spread, times

ROUNDS = 2
CALLS = 4000
LIVE = 40.0
"""Live calls a second: a fifth of the limit."""
NETWORKS = {
    "0 ms": Setting(),
    "40 ms": Setting(Faults(delay=0.02)),
    "40 ms, jitter 8 ms each way": Setting(Faults(delay=0.02, jitter=0.008)),
    "120 ms, jitter 8 ms each way": Setting(Faults(delay=0.06, jitter=0.008)),
    "0 ms, jitter 50 ms each way": Setting(Faults(jitter=0.05)),
}
PERCENTILES = (50.0, 99.0, 99.9)


@frozen
class Waits:
    """Seconds of each live call from its moment to its permit, and to its answer."""

    permit: list[float] = field(factory=list)
    whole: list[float] = field(factory=list)


async def bulk_and_live(url: str, calls: int, stalls: Sequence[float] = (), stall: float = 0.0) -> Waits:
    """Make a bulk run with live calls beside it.

    Args:
        url: of the sandbox.
        calls: rows of the bulk run.
        stalls: seconds after the beginning at which the loop is blocked.
        stall: for how many seconds it then is.
    """
    waits = Waits()
    loop = asyncio.get_running_loop()
    meant: ContextVar[float] = ContextVar("meant")
    over = asyncio.Event()
    async with TeakSession(GAME_ID, SECRET_KEY, base_url=url) as teak:
        bucket = teak._bucket_of(IDENTIFY).bucket  # noqa: SLF001 - the one place where permits are acquired
        acquire = bucket.acquire

        async def timed(lane: Lane, ticket: int | None = None, holder: Holder | None = None) -> int:
            granted = await acquire(lane, ticket, holder)
            if lane is Lane.LIVE:
                waits.permit.append(loop.time() - meant.get())
            return granted

        bucket.acquire = timed  # type: ignore[method-assign] # timing stays out of the client

        async def live(moment: float) -> None:
            meant.set(moment)
            await teak.identify("live", country_code="US")
            waits.whole.append(loop.time() - moment)

        async def arrive() -> None:
            draw = random.Random(1)
            moment = loop.time()
            async with asyncio.TaskGroup() as arrived:
                while True:
                    moment += draw.expovariate(LIVE)
                    await asyncio.sleep(moment - loop.time())
                    if over.is_set():
                        return
                    arrived.create_task(live(moment))

        blocks = [loop.call_later(at, time.sleep, stall) for at in stalls]
        async with asyncio.TaskGroup() as both:
            both.create_task(arrive())
            report = await teak.bulk(Identify(f"p{number}", country_code="US") for number in range(calls))
            over.set()
        for block in blocks:
            block.cancel()
    assert report.succeeded == calls
    assert len(waits.permit) >= len(waits.whole), "a live call got its permit past the hook"
    return waits


def run(url: str, calls: int, stalls: Sequence[float], stall: float) -> Waits:
    """In the client's process: all of it."""
    return asyncio.run(bulk_and_live(url, calls, stalls, stall))


def meet(setting: Setting, calls: int, stalls: Sequence[float] = (), stall: float = 0.0) -> tuple[Waits, RunResult]:
    """Let the client meet a sandbox of its own."""
    with served(setting) as server:
        waits: Waits = alone(run, server.url, calls, stalls, stall)
    return waits, run_result(server.seen, setting.limit)


def percentiles(values: Sequence[float]) -> list[float]:
    """The values below which those shares of all of them lie, in milliseconds."""
    ordered = sorted(values)
    return [1000 * ordered[min(int(len(ordered) * part / 100), len(ordered) - 1)] for part in PERCENTILES]


def measure(options: Options) -> Report:
    rounds, calls = options.rounds or ROUNDS, options.calls or CALLS
    met: dict[str, list[tuple[Waits, RunResult]]] = {network: [] for network in NETWORKS}
    for turn in range(rounds):
        for network, setting in NETWORKS.items():
            met[network].append(meet(setting, calls))
            say(f"lanes, round {turn + 1}: {network}: {met[network][-1][1].really} rate-limited")
    rows = []
    figures = {}
    for network, found in met.items():
        permit, whole = [
            percentiles([second for waits, _ in found for second in getattr(waits, part)]) for part in ("permit", "whole")
        ]
        rows.append(
            (
                network,
                f"{sum(len(waits.whole) for waits, _ in found):,}",
                " / ".join(f"{wait:.1f}" for wait in permit) + " ms",
                " / ".join(f"{wait:.1f}" for wait in whole) + " ms",
                share(sum(run.really for _, run in found) / sum(len(run.stamps) for _, run in found)),
                f"{max(run.busiest for _, run in found)}",
                spread((run.used * 100 for _, run in found), "{:.1f}") + " %",
            )
        )
        figures[network] = {
            "permit_ms": dict(zip(map(str, PERCENTILES), permit, strict=True)),
            "whole_ms": dict(zip(map(str, PERCENTILES), whole, strict=True)),
            "longest_ms": [1000 * max(waits.permit) for waits, _ in found],
            "live_calls": [len(waits.whole) for waits, _ in found],
            "rate_limited": [run.rate_limited for _, run in found],
            "really_rate_limited": [run.really for _, run in found],
            "busiest": [run.busiest for _, run in found],
            "used": [run.used for _, run in found],
        }
    named = "50th / 99th / 99.9th percentile"
    heads = (
        "round trip",
        "live calls",
        f"until the permit, {named}",
        f"until the answer, {named}",
        "rate-limited",
        "busiest second",
        "limit used",
    )
    title = f"lanes: {LIVE:.0f} live calls a second beside a bulk run of {calls:,} identifies, {times(rounds)}"
    return Report(title, [Table(heads, rows)], figures={"calls": calls, "networks": figures})
