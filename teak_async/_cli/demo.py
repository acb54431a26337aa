"""The demo: a sandbox, a file of made-up players, the job of `teak-async identify`, and the counts of client and server."""

from __future__ import annotations

import asyncio
import csv
import random
import tempfile
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


def write_players(path: Path, players: int) -> None:
    """Write a CSV file of made-up players."""
    draw = random.Random(2026)  # noqa: S311 - seeded, so each demo has the same players
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "client_ip", "timezone_id", "email"])
        for number in range(players):
            address = f"203.0.113.{draw.randrange(1, 255)}"
            writer.writerow([f"player-{number:06}", address, draw.choice(_ZONES), f"player{number}@example.com"])


async def run_demo(players: int, window: str) -> int:
    """Run the demo and print both counts; the exit code is 0 when they agree and no request was rate-limited."""
    console = Console(highlight=False)
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    # Where no run takes the signals over, the first one has to leave the folder removed.
    with (
        LISTENER.taken_over(lambda _: loop.call_soon_threadsafe(task.cancel)),
        tempfile.TemporaryDirectory(prefix="teak-async-") as folder,
    ):
        source = Path(folder, "players.csv")
        write_players(source, players)
        async with Sandbox(window=window) as server:
            console.print(
                f"A sandbox of Teak's server listens at {server.url}. It responds 429 to all above 200 identifies a second "
                f"({window} window).\nIdentifying {players:,} players from {source.name}, "
                f"about {max(players / 200, 1):.0f} s at the limit:"
            )
            session = TeakSession(server.game_id, server.secret_key, base_url=server.url)
            rows = RowReader(str(source), identify_schema())
            job = Job("identify", rows, Limits().identify, output=Path(folder, "results.jsonl"))
            code, report = await run_job(job, session)
            seen = server.seen[IDENTIFY]
            sessions = sum(player.sessions for player in server.players.values())
            doubled = sum(player.sessions > 1 for player in server.players.values())
    table = Table("", "the client", "the server", title=None)
    table.add_row("calls", f"{report.total:,}", f"{seen.requests:,}")
    table.add_row("sessions recorded", f"{report.succeeded:,}", f"{sessions:,}")
    table.add_row("failed or rate-limited", f"{report.failed + report.in_doubt:,}", f"{seen.rate_limited:,}")
    table.add_row("players with two sessions", "", f"{doubled:,}")
    table.add_row("busiest second", "", f"{seen.busiest} of 200")
    if seen.rate_after_first_second:
        table.add_row("limit used after the first second", "", f"{seen.rate_after_first_second / 2:.1f} %")
    console.print(table)
    agree = report.succeeded == sessions == seen.requests and not seen.rate_limited and not doubled
    return code if code is not Exit.SUCCEEDED or agree else Exit.SOME_FAILED
