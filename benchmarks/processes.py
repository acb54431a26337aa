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
        window: the limit model by which the sandbox responds.
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
    """What the sandbox saw on identify: how many it rate-limited, how many at most in a second, the stamp of each request."""

    rate_limited: int
    busiest: int
    used: float
    stamps: list[float]


class Served:
    """A sandbox at `url`; `seen` is there when it was left."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen = Seen(0, 0, 0.0, [])


@contextmanager
def process(target: Callable[..., object], *arguments: Any) -> Iterator[Connection]:
    """Run a function in a process of its own: its first argument is the other end of the pipe that is given."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    running = spawn.Process(target=target, args=(theirs, *arguments), daemon=True)
    running.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        running.join()


@contextmanager
def served(setting: Setting) -> Iterator[Served]:
    """Run a sandbox in a process of its own."""
    with process(_server, setting) as pipe:
        server = Served(pipe.recv())
        yield server
        pipe.send("done")
        server.seen = pipe.recv()


def alone(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a process of its own, and give what it returns."""
    with process(_call, function, arguments) as pipe:
        returned: T = pipe.recv()
        return returned


def _call(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    pipe.send(function(*arguments))


def _server(pipe: Connection, setting: Setting) -> None:
    asyncio.run(_serve(pipe, setting))


async def _serve(pipe: Connection, setting: Setting) -> None:
    async with Sandbox(window=setting.window, identify=setting.limit, faults=setting.faults) as server:
        pipe.send(server.url)
        freezing = asyncio.create_task(_freeze(setting)) if setting.freeze else None
        await asyncio.to_thread(wait, pipe)
        if freezing is not None:
            freezing.cancel()
        seen = server.seen[IDENTIFY]
        stamps = [received.stamp for received in server.requests if received.path == IDENTIFY]
        pipe.send(Seen(seen.rate_limited, seen.busiest, seen.rate_after_first_second / setting.limit, stamps))


async def _freeze(setting: Setting) -> None:
    while True:
        await asyncio.sleep(setting.freeze_every)
        time.sleep(setting.freeze)  # noqa: ASYNC251 - blocking the loop is the fault simulated


def wait(pipe: Connection) -> None:
    """Wait for a word from the process that started this one."""
    try:
        pipe.recv()
    except EOFError:
        raise SystemExit(1) from None  # the process that started this one is gone
