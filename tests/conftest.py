"""What several tests share: a sandbox, and a session on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest

from teak_async import Limits, Retry, TeakSession, Timeout
from teak_async.sandbox import Sandbox

pytest_plugins = ["teak_async.testing"]
"""Also where the package is not installed."""

SAMPLES = Path(__file__).parent / "samples"


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
