"""Web servers with four workers, as people start them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path

import aiohttp
import pytest
from support import MANY, ROOT, WAIT

from teak_async.sandbox import IDENTIFY, Faults, Sandbox

APP = """
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request

from teak_async import Limits, TeakSession

@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with TeakSession(limits=Limits(identify=60)) as app.state.teak:
        yield

app = FastAPI(lifespan=lifespan)

@app.post("/players/{name}/arrived")
async def arrived(name: str, request: Request) -> str:
    return (await request.app.state.teak.identify(name, client_ip="203.0.113.9")).session_id
"""


SERVERS = {
    "uvicorn": ("uvicorn", "app:app", "--workers", "4", "--log-level", "warning", "--port", "{port}"),
    "gunicorn": ("gunicorn", "app:app", "-w", "4", "-k", "uvicorn_worker.UvicornWorker", "-b", "127.0.0.1:{port}"),
}


@pytest.mark.parametrize("address", ["sqlite", "valkey"] if MANY else ["sqlite"], indirect=True)
@pytest.mark.parametrize("web", SERVERS if MANY else ["uvicorn"])
async def test_four_workers_keep_one_limit(web: str, address: str, tmp_path: Path) -> None:
    """Nothing of it is in the program: `TEAK_SHARE` is set, and each worker is a member."""
    for needed in ("fastapi", web):
        pytest.importorskip(needed, reason="no group `rare` here")
    (tmp_path / "app.py").write_text(APP)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    limit, seconds = 60, 8.0 if MANY else 2.0
    async with Sandbox(identify=limit, faults=Faults(delay=0.02, jitter=0.004)) as server:
        names = {"TEAK_BASE_URL": server.url, "TEAK_GAME_ID": server.game_id, "TEAK_SECRET_KEY": server.secret_key}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *(option.format(port=port) for option in SERVERS[web])),
            env=os.environ | names | {"TEAK_SHARE": address, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            cwd=tmp_path,
        )
        made = 0

        async def arrive(http: aiohttp.ClientSession) -> None:
            nonlocal made
            while time.monotonic() < until:
                # A connection for each, so that the system spreads them over the workers.
                async with http.post(f"http://127.0.0.1:{port}/players/p{made}/arrived") as response:
                    assert response.status == 200
                made += 1

        try:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
                give_up = time.monotonic() + WAIT
                while time.monotonic() < give_up:
                    try:
                        async with http.post(f"http://127.0.0.1:{port}/players/first/arrived") as response:
                            assert response.status == 200
                            break
                    except aiohttp.ClientConnectorError:
                        await asyncio.sleep(0.1)
                until = time.monotonic() + seconds
                await asyncio.gather(*(arrive(http) for _ in range(2 * limit)))
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()
    seen = server.seen[IDENTIFY]
    assert (seen.rate_limited, seen.busiest <= limit) == (0, True)
    assert made > 0
