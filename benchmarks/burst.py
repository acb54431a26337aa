"""150 live calls at once on an idle session, and three seconds of bulk after them: how soon, and within the limit?"""

from __future__ import annotations

import asyncio
import statistics
import time

from teak_async import Identify, TeakSession
from teak_async.sandbox import GAME_ID, SECRET_KEY

from .limits import run_result, share
from .processes import LIMIT, Setting, alone, served
from .report import Options, Report, Table, spread, times

ROUNDS = 3
CALLS = 600
AT_ONCE = 150


async def burst_then_bulk(url: str, calls: int) -> list[float]:
    """Give each live call's seconds from the beginning to its answer."""
    took: list[float] = []
    async with TeakSession(GAME_ID, SECRET_KEY, base_url=url) as teak:
        began = time.perf_counter()

        async def one(number: int) -> None:
            await teak.identify(f"live{number}", country_code="US")
            took.append(time.perf_counter() - began)

        await asyncio.gather(*(one(number) for number in range(AT_ONCE)))
        await teak.bulk(Identify(f"p{number}", country_code="US") for number in range(calls))
    return took


def run(url: str, calls: int) -> list[float]:
    """In the client's process: all of it."""
    return asyncio.run(burst_then_bulk(url, calls))


def measure(options: Options) -> Report:
    rounds, calls = options.rounds or ROUNDS, options.calls or CALLS
    took, met = [], []
    for _ in range(rounds):
        with served(Setting()) as server:
            took.append(alone(run, server.url, calls))
        met.append(run_result(server.seen, LIMIT))
    heads = ["all answered after", *(f"rate-limited by {name}" for name in met[0].rate_limited), "busiest second"]
    shares = [share(statistics.mean(one.rate_limited[name] for one in met)) for name in met[0].rate_limited]
    slowest = [max(seconds) for seconds in took]
    row = [spread(slowest) + " s", *shares, f"{max(one.busiest for one in met)}"]
    title = f"burst: {AT_ONCE} live calls at once on an idle session, then {calls:,} bulk calls, loopback, {times(rounds)}"
    figures = {
        "seconds_until_all_answered": slowest,
        "rate_limited": [one.rate_limited for one in met],
        "really_rate_limited": [one.really for one in met],
        "busiest": [one.busiest for one in met],
    }
    return Report(title, [Table(heads, [row])], figures=figures)
