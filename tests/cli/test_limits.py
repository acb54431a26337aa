"""`teak-async limits` and `--share`."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

import pytest
from support import identifies, players_csv, session_on
from typer.testing import CliRunner

from teak_async import Identify
from teak_async._cli.app import app
from teak_async._cli.limits import show_limits
from teak_async.sandbox import GAME_ID, IDENTIFY, SECRET_KEY, Sandbox


async def test_the_members_are_shown(address: str) -> None:
    """Each with its host, its process and what it holds; as a table and as JSON."""
    said: list[str] = []
    async with Sandbox() as server, session_on(server, share=address) as teak:
        await asyncio.sleep(1.1)
        async with teak.bulk(identifies(2000)) as run:
            async for outcome in run:
                if outcome.index == 50:
                    await show_limits(address, said.append, watch=False, as_json=False)
                    await show_limits(address, said.append, watch=False, as_json=True)
                    break
    table, records = said[0], json.loads(said[1])
    (record,) = (record for record in records if record["bucket"].endswith(IDENTIFY))
    (member,) = record["members"]
    assert (record["limit"], member["process"], member["bulk"]) == (200, os.getpid(), True)
    assert 1 < member["held"] <= 200
    assert re.search(rf"{IDENTIFY}: 200 a second; 1 member, \d+ permits held", table)
    assert SECRET_KEY not in table + said[1]


async def test_a_member_that_left_is_shown_no_more(tmp_path: Path) -> None:
    said: list[str] = []
    address = str(tmp_path / "ledger.db")
    async with Sandbox() as server:
        for _ in range(2):
            async with session_on(server, share=address):
                await asyncio.sleep(0.1)
        async with session_on(server, share=address):
            await show_limits(address, said.append, watch=False, as_json=True)
    assert all(len(record["members"]) == 1 for record in json.loads(said[0]))


@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        ("nowhere.db", 2, "no such ledger"),
        ("ftp://host", 2, "--share 'ftp://host' is no address"),
        ("redis://127.0.0.1:1", 75, "cannot be reached"),
    ],
)
def test_a_ledger_that_is_none(address: str, code: int, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(app, ["limits", address])
    assert (ended.exit_code, words in ended.output) == (code, True), ended.output


async def test_a_command_shares_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--share` and `TEAK_SHARE` name the ledger; a wrong one is an error before anything is sent."""
    players = tmp_path / "players.csv"
    players.write_text(players_csv(20))
    monkeypatch.setenv("TEAK_GAME_ID", GAME_ID)
    monkeypatch.setenv("TEAK_SECRET_KEY", SECRET_KEY)
    async with Sandbox() as server:
        arguments = ["identify", str(players), "--base-url", server.url, "--output", str(tmp_path / "out")]
        ledger = tmp_path / "ledger.db"
        ended = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--share", str(ledger)])
        assert (ended.exit_code, ledger.exists()) == (0, True), ended.output
        assert f" at {server.url}, its limit shared by {ledger}; " in ended.stderr
        monkeypatch.setenv("TEAK_SHARE", "redis://127.0.0.1:1")
        ended = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--overwrite"])
        assert ended.exit_code == 75, ended.output
    assert server.seen[IDENTIFY].requests == 20


@pytest.mark.parametrize("bulk", [True, False])
async def test_idle_buckets_take_a_line_each(address: str, bulk: bool) -> None:
    """Only what is in use has a table, also where calls were made since the last sync."""
    said: list[str] = []
    async with Sandbox() as server, session_on(server, share=address) as teak:
        await asyncio.sleep(1.1)
        if bulk:
            await teak.bulk(Identify(f"p{number}", country_code="US") for number in range(50))
        else:
            await asyncio.gather(*(teak.identify(f"p{number}", country_code="US") for number in range(50)))
        await show_limits(address, said.append, watch=False, as_json=False)
    tables, idle = said[0].split("\n\n")
    assert (IDENTIFY in tables, "process" in tables, "process" in idle, len(idle.splitlines()) > 10) == (
        True,
        True,
        False,
        True,
    )
    assert all(line.endswith(", idle") for line in idle.splitlines())


async def test_of_idle_buckets_the_first_says_who_shares_them(address: str) -> None:
    said: list[str] = []
    async with Sandbox() as server, session_on(server, share=address):
        await show_limits(address, said.append, watch=False, as_json=False)
    assert (said[0].count("process"), said[0].count(str(os.getpid())), said[0].count(", idle") > 10) == (1, 1, True)
