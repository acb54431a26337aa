"""A killed run: a sandbox in a process of its own, the command in another, and SIGKILL at random moments."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp

from teak_async.sandbox import GAME_ID, SECRET_KEY

from .report import Options, Report, Table

ROOT = Path(__file__).parent.parent
ROWS_A_KILL = 120
"""Rows of input for each kill, so that the run is still under way at the last one."""


@asynccontextmanager
async def sandbox_process(*options: object) -> AsyncIterator[str]:
    """Run the sandbox command on a free port; gives its address."""
    arguments = (sys.executable, "-m", "teak_async", "sandbox", "--port", "0", *map(str, options))
    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    try:
        yield line.split("at ")[1].split(";")[0]
    finally:
        process.kill()
        await process.communicate()


async def command(url: str, arguments: list[str]) -> asyncio.subprocess.Process:
    """Start a command against a sandbox."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "teak_async", *arguments),
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"TEAK_BASE_URL": url, "TEAK_GAME_ID": GAME_ID, "TEAK_SECRET_KEY": SECRET_KEY},
        cwd=ROOT,
    )


def in_between(journal: Path) -> set[int]:
    """The rows that a journal has an intent of and no result."""
    if not journal.exists():
        return set()
    # Changes nothing: opened to be written, the log would be brought into the file, which is more than a kill does.
    with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as connection:
        try:
            return {index for (index,) in connection.execute("SELECT row FROM rows WHERE state = 'intent'")}
        except sqlite3.OperationalError:  # killed before it had its tables
            return set()


async def killed_until_done(
    url: str, arguments: list[str], journal: Path | None, draw: random.Random, kills: int, longest: float
) -> tuple[int, list[int]]:
    """Run a command, kill it at random moments, repeat it until it ends.

    Returns:
        Its exit code; and for each kill, how many rows it left in between.
    """
    left: list[int] = []
    before: set[int] = set()
    while True:
        process = await command(url, arguments)
        try:
            patience = draw.uniform(0.2, longest) if len(left) < kills else 600
            _, told = await asyncio.wait_for(process.communicate(), patience)
        except TimeoutError:
            process.kill()
            await process.communicate()
            now = set() if journal is None else in_between(journal)
            left.append(len(now - before))
            before = now
        else:
            assert process.returncode is not None
            assert b"Traceback" not in told, told.decode()
            return process.returncode, left


async def players_at(url: str) -> dict[str, Any]:
    """What the sandbox knows of each player."""
    async with aiohttp.ClientSession() as http, http.get(f"{url}/sandbox/players") as response:
        players: dict[str, Any] = await response.json()
        return players


def players_file(folder: Path, count: int) -> Path:
    """Write so many players to be identified."""
    source = folder / "players.csv"
    source.write_text("user_id,country_code\n" + "".join(f"p{number},US\n" for number in range(count)))
    return source


async def kill_many(times: int, seed: int) -> dict[str, int]:
    """Kill one backfill so many times; gives what both sides then say."""
    count = times * ROWS_A_KILL
    with tempfile.TemporaryDirectory() as folder:
        source, journal = players_file(Path(folder), count), Path(folder, "run.db")
        arguments = ["identify", str(source), "--journal", str(journal), "--output", str(Path(folder, "out")), "--rate", "500"]
        arguments.append("--allow-empty")  # with no kill there is no row
        async with sandbox_process("--identify", 500) as url:
            _, left = await killed_until_done(url, arguments, journal, random.Random(seed), times, 1.5)
            players = await players_at(url)
        with closing(sqlite3.connect(journal)) as connection:
            told = dict(connection.execute("SELECT user_id, state FROM rows"))
    doubtful = {name for name, state in told.items() if state == "in_doubt"}
    return {
        "kills": len(left),
        "rows": count,
        "rows not in the report": count - len(told),
        "players with two sessions": sum(player["sessions"] > 1 for player in players.values()),
        "players without a session, not in doubt": sum(name not in players for name in set(told) - doubtful),
        "rows in doubt": len(doubtful),
        "most left in between by one kill": max(left, default=0),
    }


def measure(options: Options) -> Report:
    counted = asyncio.run(kill_many(options.times, seed=1))
    rows = [(name, f"{count:,}") for name, count in counted.items()]
    return Report(
        f"kill: SIGKILL at random moments, {counted['kills']:,} times",
        [Table(("what both sides then say", "count"), rows)],
        figures={**counted},
    )
