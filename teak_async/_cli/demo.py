"""The demo: it runs `teak-async identify` on made-up players at a sandbox, and compares the counts of both sides."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import random
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from teak_async._limits.session_limits import Limits
from teak_async._session import TeakSession
from teak_async.sandbox import IDENTIFY, Sandbox

from .input import RowReader
from .job import Exit, Job, run_job
from .schema import identify_schema
from .signals import LISTENER

_ZONES = ("America/New_York", "Europe/Paris", "Asia/Tokyo", "America/Sao_Paulo", "Australia/Sydney")


def name_player(number: int) -> str:
    """Return the user_id of a made-up player."""
    return f"player-{number:06}"


def write_players(path: Path, players: int, first: int = 0) -> None:
    """Write a CSV file of made-up players, numbered from `first` on."""
    draw = random.Random(2026)  # noqa: S311 - seeded, so each demo has the same players
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "client_ip", "timezone_id", "email"])
        for number in range(first, first + players):
            address = f"203.0.113.{draw.randrange(1, 255)}"
            writer.writerow([name_player(number), address, draw.choice(_ZONES), f"player{number}@example.com"])


@asynccontextmanager
async def _start_processes(files: list[Path], server: Sandbox, ledger: Path) -> AsyncIterator[list[Process]]:
    """Start a process of `teak-async identify` for each file. They share the limit; leaving ends those that still run."""
    names = {"TEAK_BASE_URL": server.url, "TEAK_GAME_ID": server.game_id, "TEAK_SECRET_KEY": server.secret_key}
    processes = []
    try:
        for file in files:
            options = ("--share", str(ledger), "--output", str(file.with_suffix(".jsonl")))
            command = (sys.executable, "-m", "teak_async", "identify", str(file), *options)
            processes.append(await asyncio.create_subprocess_exec(*command, env=os.environ | names, stderr=DEVNULL))
        yield processes
    finally:
        for process in processes:
            if process.returncode is None:
                process.terminate()
            await process.wait()


def _count_succeeded(results: Path) -> int:
    if not results.exists():
        return 0
    with results.open(encoding="utf-8") as lines:
        return sum(json.loads(line)["state"] == "succeeded" for line in lines)


@contextmanager
def ended_by_signal() -> Iterator[asyncio.Event]:
    """Give an event that a signal sets, instead of ending the command at once."""
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    with LISTENER.hand_to(lambda _: loop.call_soon_threadsafe(ended.set)):
        yield ended


async def run_demo(players: int, window: str, processes: int = 1, *, keep: bool = False) -> int:
    """Run the demo, print both counts, and return the exit code: 0 when they agree and no request was rate-limited.

    Args:
        players: how many to identify.
        window: how the sandbox counts its limit.
        processes: how many do it together.
        keep: whether the sandbox and its page stay until a signal comes.
    """
    console = Console(highlight=False)
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    # Outside of the run, too, a signal has to remove the folder.
    with (
        LISTENER.hand_to(lambda _: loop.call_soon_threadsafe(task.cancel)),
        tempfile.TemporaryDirectory(prefix="teak-async-") as folder,
    ):
        processes = min(processes, players)
        source, *others = files = [Path(folder, f"players{number or ''}.csv") for number in range(processes)]
        bounds = [players * number // processes for number in range(processes + 1)]
        for file, first, after in zip(files, bounds, bounds[1:], strict=False):
            write_players(file, after - first, first)
        ledger = Path(folder, "ledger.db")
        async with Sandbox(window=window) as server:
            console.print(
                f"A sandbox of Teak's server listens at {server.url}. It responds 429 to all above 200 identifies a second "
                f"({window} window).\nThe page at that address shows what arrives.\n"
                f"Identifying {players:,} players from {source.name}, "
                f"about {max(players / 200, 1):.0f} s at the limit:"
            )
            if others:
                console.print(f"{processes} processes share the limit by {ledger.name}; the output below is that of the first:")
            share = ledger if others else None
            session = TeakSession(server.game_id, server.secret_key, base_url=server.url, share=share)
            rows = RowReader(str(source), identify_schema())
            job = Job("identify", rows, Limits().identify, output=source.with_suffix(".jsonl"), server=server.url)
            async with _start_processes(others, server, ledger) as started:
                code, report = await run_job(job, session)
                for process in started:
                    await process.wait()
            succeeded = report.succeeded + sum(_count_succeeded(file.with_suffix(".jsonl")) for file in others)
            table, agree = _compare(server, players, succeeded)
            console.print(table)
            if keep and code is not Exit.INTERRUPTED:
                with ended_by_signal() as ended:
                    console.print(f"The sandbox and its page stay at {server.url} until Ctrl-C.")
                    await ended.wait()
    return code if code is not Exit.SUCCEEDED or agree else Exit.SOME_FAILED


def _compare(server: Sandbox, players: int, succeeded: int) -> tuple[Table, bool]:
    """Put what both sides counted into a table, and say whether they agree."""
    seen = server.seen[IDENTIFY]
    sessions = sum(player.sessions for player in server.players.values())
    doubled = sum(player.sessions > 1 for player in server.players.values())
    table = Table("", "the client", "the server", title=None)
    table.add_row("calls", f"{players:,}", f"{seen.requests:,}")
    table.add_row("sessions recorded", f"{succeeded:,}", f"{sessions:,}")
    table.add_row("failed or rate-limited", f"{players - succeeded:,}", f"{seen.rate_limited:,}")
    table.add_row("players with two sessions", "", f"{doubled:,}")
    table.add_row("busiest second", "", f"{seen.busiest} of 200")
    if seen.rate_after_first_second:
        table.add_row("limit used after the first second", "", f"{seen.rate_after_first_second / 2:.1f} %")
    return table, succeeded == sessions == seen.requests and not seen.rate_limited and not doubled
