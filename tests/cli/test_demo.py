from __future__ import annotations

import asyncio
import csv
import os
import re
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from attrs import evolve
from support import WAIT
from typer.testing import CliRunner

from teak_async._bulk.outcomes import BulkReport
from teak_async._cli import demo
from teak_async._cli.app import app
from teak_async._cli.demo import run_demo, write_players
from teak_async._cli.job import Exit, run_job
from teak_async.models import Identify
from teak_async.sandbox import Faults, Sandbox
from teak_async.sandbox.endpoints import Endpoint
from teak_async.sandbox.game import Call


def table(shown: str) -> dict[str, list[str]]:
    """The rows of the table that is printed: what is counted → what both sides counted."""
    rows = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in shown.splitlines() if "│" in line]
    return {name: counts for name, *counts in rows}


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_write_players(tmp_path: Path) -> None:
    """The made-up players are all different, can be identified, and are the same each time."""
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    write_players(first, 100)
    write_players(second, 100)
    with first.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({Identify(**row).user_id for row in rows}) == 100
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("window", ["sliding", "fixed"])
def test_both_sides_agree(window: str) -> None:
    """The demo ends well, and shows that the client and the server counted the same."""
    ended = CliRunner().invoke(app, ["demo", "--players", "50", "--window", window])
    assert ended.exit_code == 0
    assert f"({window} window)" in ended.stdout
    shown = table(ended.stdout)
    assert shown["calls"] == ["50", "50"]
    assert shown["sessions recorded"] == ["50", "50"]
    assert shown["failed or rate-limited"] == ["0", "0"]
    assert shown["players with two sessions"] == ["", "0"]
    assert re.fullmatch(r"\d+ of 200", shown["busiest second"][1])
    assert "50 rows: 50 succeeded" in ended.stderr


async def test_less_than_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    """What is used of the limit after the first second is not shown where nothing came after it."""
    assert await run_demo(1, "sliding") == 0
    shown = table(capsys.readouterr().out)
    assert shown["calls"] == ["1", "1"]
    assert "limit used after the first second" not in shown


async def test_more_than_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    """Players enough for more than a second show the limit in force, and how much of it is used."""
    assert await run_demo(260, "sliding") == 0
    shown = table(capsys.readouterr().out)
    assert shown["calls"] == ["260", "260"]
    assert shown["failed or rate-limited"] == ["0", "0"]
    assert int(shown["busiest second"][1].partition(" ")[0]) <= 200
    assert shown["limit used after the first second"][1].endswith(" %")


async def test_processes_share_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    """Each has a part of the players, and the table counts all of them."""
    assert await run_demo(41, "sliding", 2) == 0
    shown = table(capsys.readouterr().out)
    assert (shown["calls"], shown["sessions recorded"]) == (["41", "41"], ["41", "41"])


async def test_it_stays_to_be_looked_at(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With `keep` the page can be opened after the end, until a signal comes; the exit code is the same."""
    shown = ""
    async with asyncio.timeout(WAIT), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run_demo(5, "sliding", keep=True))
        while "until Ctrl-C" not in shown:
            await asyncio.sleep(0.01)
            shown += capsys.readouterr().out
        assert table(shown)["calls"] == ["5", "5"]
        (url,) = set(re.findall(r"http://[\d.:]+\d", shown))
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            assert "<h1>Teak sandbox</h1>" in await response.text()
        os.kill(os.getpid(), signal.SIGINT)
    assert running.result() == 0


async def test_an_interrupted_demo_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """One signal is enough to end it, also with `keep`."""

    async def interrupted(*given: Any) -> tuple[Exit, BulkReport]:
        return Exit.INTERRUPTED, (await run_job(*given))[1]

    monkeypatch.setattr(demo, "run_job", interrupted)
    async with asyncio.timeout(WAIT):
        assert await run_demo(5, "sliding", keep=True) == Exit.INTERRUPTED


class Doubling(Sandbox):
    """A server with a player that has two sessions."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_player("somebody").sessions = 2


class Confusing(Sandbox):
    """A server that takes all players for one."""

    def _process(self, endpoint: Endpoint, method: str, call: Call) -> tuple[int, dict[str, Any]]:
        return super()._process(endpoint, method, evolve(call, parameters=call.parameters | {"user_id": "anybody"}))


class Losing(Sandbox):
    """A server whose every response is lost."""

    def __init__(self, **options: Any) -> None:
        super().__init__(faults=Faults(response_lost=1.0), **options)


@pytest.mark.parametrize(
    ("server", "code", "sessions", "doubled"),
    [(Doubling, 1, ["5", "7"], "1"), (Confusing, 1, ["5", "5"], "1"), (Losing, 3, ["0", "5"], "0")],
)
async def test_the_sides_differ(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    server: type[Sandbox],
    code: int,
    sessions: list[str],
    doubled: str,
) -> None:
    """What does not agree is shown as it is, and is no success."""
    monkeypatch.setattr(demo, "Sandbox", server)
    assert await run_demo(5, "sliding") == code
    shown = table(capsys.readouterr().out)
    assert (shown["sessions recorded"], shown["players with two sessions"][1]) == (sessions, doubled)
