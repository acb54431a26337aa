"""What several tests share: a sandbox, a session on it, and a loop whose time is virtual."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import Mock

import aiohttp
import pytest

from teak_async import Limits, Retry, TeakSession, Timeout
from teak_async.sandbox import Sandbox

SAMPLES = Path(__file__).parent / "samples"

T = TypeVar("T")


class _VirtualSelector(selectors.SelectSelector):
    """Never waits: what the loop would sleep passes at once on a clock of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("deadlock: nothing is scheduled, and everything waits")
        self.now += max(timeout, 1e-9)  # as in life, no turn of the loop takes no time at all
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose seconds take no time."""

    def __init__(self) -> None:
        self._virtual = _VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def stall(self, seconds: float) -> None:
        """Let time pass as a callback does that blocks the loop."""
        self._virtual.now += seconds


def run_virtual(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on a virtual loop to its end."""
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(loop))


class Answering(aiohttp.ClientResponse):
    """What aioresponses makes, given the argument that newer releases of aiohttp want."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", Mock(output_size=0))
        super().__init__(*args, **kwargs)


def sample(name: str) -> bytes:
    """A recorded body."""
    return (SAMPLES / f"{name}.json").read_bytes()


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as server:
        yield server


def session_on(server: Sandbox, **options: Any) -> TeakSession:
    """A session on a sandbox, impatient enough for tests."""
    options.setdefault("retry", Retry(wait=0.01, outage=0))
    options.setdefault("timeout", Timeout(connect=2, answer=2))
    return TeakSession(server.game_id, server.secret_key, base_url=server.url, **options)


@pytest.fixture
async def teak(sandbox: Sandbox) -> AsyncIterator[TeakSession]:
    async with session_on(sandbox) as session:
        yield session


FAST = Limits(5000, 5000)


@pytest.fixture
async def server() -> AsyncIterator[Sandbox]:
    async with Sandbox(identify=100_000, subscription=100_000) as sandbox:
        yield sandbox


@pytest.fixture
async def fast(server: Sandbox) -> AsyncIterator[TeakSession]:
    async with session_on(server, limits=FAST) as session:
        yield session
