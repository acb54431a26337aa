"""What is measured: clients, the sandbox that counts, and one run of a client against it, each in a process of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
from aiolimiter import AsyncLimiter
from attrs import frozen

from teak_async import Identify, TeakSession
from teak_async.bucket import Lane
from teak_async.sandbox import GAME_ID, IDENTIFY, SECRET_KEY, Faults, Sandbox

from .rows import FREE, Cost, run_rows

LIMIT = 200
LIVE_EVERY = 0.05
"""Seconds between two live calls beside a bulk run: a tenth of the limit."""


@frozen
class Setting:
    """A sandbox's network, and how much is sent over it."""

    calls: int
    faults: Faults
    window: str
    limit: int = LIMIT


@frozen
class Run:
    """What one client did."""

    refused: int
    busiest: int
    used: float
    cpu: float
    waits: list[float]


Client = Callable[[str, int], Coroutine[Any, Any, list[float]]]


async def ours(url: str, calls: int) -> list[float]:
    """One bulk run of this client."""
    async with TeakSession(GAME_ID, SECRET_KEY, base_url=url) as teak:
        await teak.bulk(Identify(f"p{number}", country_code="US") for number in range(calls))
    return []


async def ours_with_live(url: str, calls: int) -> list[float]:
    """The same with live calls beside it; gives the seconds that they waited for their permits."""
    waits: list[float] = []
    async with TeakSession(GAME_ID, SECRET_KEY, base_url=url) as teak:
        bucket = teak.bucket_of(IDENTIFY)
        acquire = bucket.acquire

        async def timed(lane: Lane, ticket: int | None = None) -> int:
            asked = time.perf_counter()
            granted = await acquire(lane, ticket)
            if lane is Lane.LIVE:
                waits.append(time.perf_counter() - asked)
            return granted

        bucket.acquire = timed  # type: ignore[method-assign] # the waits are seen from outside

        async def arrive() -> None:
            async with asyncio.TaskGroup() as arrived:
                while True:
                    await asyncio.sleep(LIVE_EVERY)
                    arrived.create_task(teak.identify("live", country_code="US"))

        arriving = asyncio.create_task(arrive())
        await teak.bulk(Identify(f"p{number}", country_code="US") for number in range(calls))
        arriving.cancel()
        await asyncio.wait({arriving})
    return waits


async def burst_then_bulk(url: str, calls: int) -> list[float]:
    """150 live calls at once on an idle session, then three seconds of bulk; gives each live call's seconds."""
    took: list[float] = []
    async with TeakSession(GAME_ID, SECRET_KEY, base_url=url) as teak:
        began = time.perf_counter()

        async def one(number: int) -> None:
            await teak.identify(f"live{number}", country_code="US")
            took.append(time.perf_counter() - began)

        await asyncio.gather(*(one(number) for number in range(150)))
        await teak.bulk(Identify(f"p{number}", country_code="US") for number in range(calls))
    return took


async def behind(limiter: AsyncLimiter, url: str, calls: int) -> list[float]:
    """What one writes by hand: aiohttp behind a limiter."""
    async with aiohttp.ClientSession() as http:

        async def identify(number: int) -> None:
            async with limiter:
                body = {"game_id": GAME_ID, "secret_key": SECRET_KEY, "user_id": f"p{number}", "country_code": "US"}
                async with http.post(url + IDENTIFY, json=body) as response:
                    await response.json()

        await asyncio.gather(*(identify(number) for number in range(calls)))
    return []


async def bucket_of_200(url: str, calls: int) -> list[float]:
    """A bucket of a second's worth."""
    return await behind(AsyncLimiter(LIMIT, 1), url, calls)


async def bucket_of_1(url: str, calls: int) -> list[float]:
    """A bucket of one."""
    return await behind(AsyncLimiter(1, 1 / LIMIT), url, calls)


CLIENTS: dict[str, Client] = {
    "teak_async": ours,
    "aiohttp + AsyncLimiter(200, 1)": bucket_of_200,
    "aiohttp + AsyncLimiter(1, 1/200)": bucket_of_1,
}


async def _serve(pipe: Connection, setting: Setting) -> None:
    async with Sandbox(window=setting.window, identify=setting.limit, faults=setting.faults) as server:
        pipe.send(server.url)
        await asyncio.to_thread(pipe.recv)
        seen = server.seen[IDENTIFY]
        pipe.send((seen.refused, seen.busiest, seen.rate_after_first_second / LIMIT))


def _server(pipe: Connection, setting: Setting) -> None:
    asyncio.run(_serve(pipe, setting))


def _client(pipe: Connection, client: Client, url: str, calls: int) -> None:
    began = time.process_time()
    waits = asyncio.run(client(url, calls))
    pipe.send(((time.process_time() - began) / calls, waits))


def measure(client: Client, setting: Setting) -> Run:
    """Let one client meet a sandbox of its own."""
    spawn = multiprocessing.get_context("spawn")
    ours_end, servers_end = spawn.Pipe()
    server = spawn.Process(target=_server, args=(servers_end, setting))
    server.start()
    url = ours_end.recv()
    our_end, clients_end = spawn.Pipe()
    process = spawn.Process(target=_client, args=(clients_end, client, url, setting.calls))
    process.start()
    cpu, waits = our_end.recv()
    ours_end.send("done")
    refused, busiest, used = ours_end.recv()
    process.join()
    server.join()
    return Run(refused, busiest, used, cpu, waits)


def _rows(pipe: Connection, url: str, count: int, journal: Path | None) -> None:
    pipe.send(asyncio.run(run_rows(url, count, journal)))


def measure_rows(count: int, *, journal: bool) -> Cost:
    """Let a long run meet a sandbox without a limit."""
    spawn = multiprocessing.get_context("spawn")
    servers_end, server_end = spawn.Pipe()
    server = spawn.Process(target=_server, args=(server_end, Setting(count, Faults(), "sliding", FREE)))
    server.start()
    with tempfile.TemporaryDirectory() as folder:
        ours_end, clients_end = spawn.Pipe()
        path = Path(folder, "run.db") if journal else None
        client = spawn.Process(target=_rows, args=(clients_end, servers_end.recv(), count, path))
        client.start()
        cost: Cost = ours_end.recv()
        client.join()
    servers_end.send("done")
    servers_end.recv()
    server.join()
    return cost
