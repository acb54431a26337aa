"""What the sandbox's page costs the sandbox: left out, there and closed, and open in one reader.

The three sandboxes are in one process, which does nothing else; its processor time is taken around some hundred requests that
another process makes as fast as they are answered. They take short turns, each time in another order, so a slow moment of the
machine meets all of them; a ratio is taken within a round of many turns. The reader reads what a browser would.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from multiprocessing.connection import Connection

import aiohttp

from teak_async.sandbox import Sandbox
from teak_async.sandbox.page import PAUSE

from .cpu import Call, work
from .peers import by_hand
from .processes import FREE, process
from .report import Options, Report, Table, quarters, say, spread, times

ROUNDS = 30
CALLS = 6000
"""Requests of one round to each."""
PARTS = 15
"""Turns of each in a round: some ten a second."""
WARM = 400
"""Requests of each before the first that counts."""
LEFT_OUT, CLOSED, OPEN = "left out", "closed", "open in one reader"


def _serve(pipe: Connection) -> None:
    asyncio.run(_serve_all(pipe))


async def _serve_all(pipe: Connection) -> None:
    """Give the processor time of the process whenever it is asked for, until the pipe is closed."""
    async with AsyncExitStack() as stack:
        made = {name: Sandbox(identify=FREE, page=name != LEFT_OUT) for name in (LEFT_OUT, CLOSED, OPEN)}
        servers = {name: await stack.enter_async_context(server) for name, server in made.items()}
        pipe.send({name: server.url for name, server in servers.items()})
        with contextlib.suppress(EOFError):
            while True:
                await asyncio.to_thread(pipe.recv)
                pipe.send(time.process_time())


@asynccontextmanager
async def _reader(url: str) -> AsyncIterator[None]:
    """Read the page's events, from a moment between two of them on."""
    async with aiohttp.ClientSession() as http, http.get(f"{url}/sandbox/events") as response:
        assert response.status == 200

        async def read() -> None:
            async for _ in response.content.iter_any():
                pass

        for _ in range(2):  # the second is the first look, which counts the last minute once
            await response.content.readuntil(b"\n\n")
        reading = asyncio.create_task(read())
        await asyncio.sleep(PAUSE * random.random())
        yield
        reading.cancel()


async def _turn(pipe: Connection, url: str, identify: Call, calls: int, *, read: bool) -> float:
    """Seconds of the server's processor time for so many requests."""

    def ask() -> float:
        pipe.send("time")
        return float(pipe.recv())

    async with _reader(url) if read else contextlib.nullcontext():
        before = await asyncio.to_thread(ask)
        await work(identify, calls)
        return await asyncio.to_thread(ask) - before


async def _measure(rounds: int, calls: int) -> dict[str, list[float]]:
    names = [LEFT_OUT, CLOSED, OPEN]
    cost: dict[str, list[float]] = {name: [] for name in names}
    with process(_serve) as pipe:
        urls = pipe.recv()
        async with AsyncExitStack() as stack:
            clients = {name: await stack.enter_async_context(by_hand(urls[name])) for name in names}
            for name in names:
                await _turn(pipe, urls[name], clients[name], WARM, read=False)
            for turn in range(rounds):
                spent = dict.fromkeys(names, 0.0)
                for part in range(PARTS):
                    for name in names[part % 3 :] + names[: part % 3]:
                        spent[name] += await _turn(pipe, urls[name], clients[name], calls // PARTS, read=name == OPEN)
                for name in names:
                    cost[name].append(spent[name] / (calls // PARTS * PARTS))
                say(f"page, round {turn + 1}: " + ", ".join(f"{name} {cost[name][-1] * 1e6:.0f} µs" for name in names))
    return cost


def measure(options: Options) -> Report:
    rounds, calls = options.rounds or ROUNDS, options.calls or CALLS
    cost = asyncio.run(_measure(rounds, calls))
    ratios = {name: [mine / base for mine, base in zip(seconds, cost[LEFT_OUT], strict=True)] for name, seconds in cost.items()}
    rows = [(name, spread((one * 1e6 for one in cost[name]), "{:.0f}") + " µs", quarters(ratios[name])) for name in cost]
    return Report(
        f"page: {calls:,} identifies at the sandbox, as fast as they are answered, {times(rounds)}",
        [Table(("the page", "the sandbox's processor time per request", "to the page left out"), rows)],
        ["Median and, in brackets, least and most of the rounds; of the ratios the middle half of them."],
        {"calls": calls, "seconds_per_request": cost, "ratios": ratios},
    )
