"""Fixtures that several tests share: a sandbox, a session on it, and a journal's path."""

from __future__ import annotations

import compileall
import gc
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Generator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from hypothesis import HealthCheck, settings
from support import FAST, MANY, ROOT, make_loop, session_on

from teak_async import TeakSession
from teak_async._limits import session_limits
from teak_async.sandbox import Sandbox

patient: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
"""On a busy machine an example takes long, and says nothing."""
settings.register_profile("many", max_examples=150, **patient)
settings.register_profile("few", max_examples=25, **patient)
settings.load_profile("many" if MANY else "few")

# Typer makes the whole command anew for each call of a test.
vars(typer.testing)["_get_command"] = cache(typer.main.get_command)

LOOP = os.environ.get("TEST_LOOP", "asyncio")

pytest_plugins = ["teak_async.testing", "fleet_support"]
"""The first also where the package is not installed."""


def pytest_configure(config: pytest.Config) -> None:
    """Compile once what each worker, and each of hundreds of processes that the tests start, would compile for itself."""
    if hasattr(config, "workerinput"):
        return
    compileall.compile_dir(ROOT / "teak_async", quiet=1)
    whole = config.args == config.getini("testpaths")
    if whole and config.getoption("numprocesses"):
        # Only pytest itself writes the bytecode of tests, whose assertions it rewrites. It lies beside the package's, which is
        # there whatever the environment says of bytecode: each worker would rewrite for three seconds without it.
        stale = [file for file in (ROOT / "tests").rglob("test_*.py") if not _is_compiled(file)]
        collect = sys.executable, "-m", "pytest", "--collect-only", "-qq", "-n0"
        writing = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        halves = [
            subprocess.Popen([*collect, *half], stdout=subprocess.DEVNULL, env=writing)
            for half in (stale[::2], stale[1::2])
            if half
        ]
        for process in halves:
            process.wait()


def _is_compiled(test: Path) -> bool:
    found = (test.parent / "__pycache__").glob(f"{test.stem}.{sys.implementation.cache_tag}-pytest-*.pyc")
    return any(bytecode.stat().st_mtime >= test.stat().st_mtime for bytecode in found)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep thousands of collected tests from being gone through by each collection of garbage, then and later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def _other_servers() -> None:
    """A port that comes again within a second is another test's server, which has counted nothing."""
    session_limits._LEFT.clear()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test's journal is."""
    return tmp_path / "run.db"


if LOOP != "asyncio":

    def pytest_asyncio_loop_factories(config: Any, item: Any) -> dict[str, Any]:
        """Run the tests on the loop that the environment names, with `eager` tasks from Python 3.12 on."""
        return {LOOP: partial(make_loop, LOOP)}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as server:
        yield server


@pytest.fixture
async def teak(sandbox: Sandbox) -> AsyncIterator[TeakSession]:
    async with session_on(sandbox) as session:
        yield session


@pytest.fixture
async def server() -> AsyncIterator[Sandbox]:
    async with Sandbox(identify=100_000, subscription=100_000) as sandbox:
        yield sandbox


@pytest.fixture
async def fast(server: Sandbox) -> AsyncIterator[TeakSession]:
    async with session_on(server, limits=FAST) as session:
        yield session
