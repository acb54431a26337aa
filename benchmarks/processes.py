"""A sandbox in a process of its own, and a client in another, so that neither's work counts as the other's."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from attrs import field, frozen

from teak_async.sandbox import IDENTIFY, Faults, Sandbox

LIMIT = 200
"""What Teak documents for identify."""
FREE = 1_000_000
"""A limit so high that it does not matter."""

T = TypeVar("T")


@frozen
class Setting:
    """A sandbox and the network before it.

    Attributes:
        faults: the network.
        limit: of identify.
        window: the model by which the sandbox answers.
        freeze: seconds for which everything stands still, time and again; what comes meanwhile is stamped after it.
        freeze_every: seconds between two of these.
    """

    faults: Faults = field(factory=Faults)
    limit: int = LIMIT
    window: str = "sliding"
    freeze: float = 0.0
    freeze_every: float = 2.0


@frozen
class Seen:
    """What the sandbox saw on identify: how many it refused, the stamp of each request, and how many at most in a second."""

    refused: int
    busiest: int
    used: float
    stamps: list[float]


class Served:
    """A sandbox at `url`; `seen` is there when it was left."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen = Seen(0, 0, 0.0, [])


@contextmanager
def served(setting: Setting) -> Iterator[Served]:
    """Run a sandbox in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_server, args=(theirs, setting), daemon=True)
    process.start()
    theirs.close()
    try:
        server = Served(ours.recv())
        yield server
        ours.send("done")
        server.seen = ours.recv()
    finally:
        ours.close()
        process.join()


def alone(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a process of its own, and give what it returns."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_call, args=(theirs, function, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        returned: T = ours.recv()
    finally:
        ours.close()
        process.join()
    return returned


def _call(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    pipe.send(function(*arguments))


def _server(pipe: Connection, setting: Setting) -> None:
    asyncio.run(_serve(pipe, setting))


async def _serve(pipe: Connection, setting: Setting) -> None:
    async with Sandbox(window=setting.window, identify=setting.limit, faults=setting.faults) as server:
        pipe.send(server.url)
        freezing = asyncio.create_task(_freeze(setting)) if setting.freeze else None
        await asyncio.to_thread(_wait, pipe)
        if freezing is not None:
            freezing.cancel()
        seen = server.seen[IDENTIFY]
        stamps = [received.stamp for received in server.requests if received.path == IDENTIFY]
        pipe.send(Seen(seen.refused, seen.busiest, seen.rate_after_first_second / setting.limit, stamps))


async def _freeze(setting: Setting) -> None:
    while True:
        await asyncio.sleep(setting.freeze_every)
        time.sleep(setting.freeze)  # noqa: ASYNC251 - blocking the loop is the fault simulated


def _wait(pipe: Connection) -> None:
    try:
        pipe.recv()
    except EOFError:
        raise SystemExit(1) from None  # whoever started this is gone
