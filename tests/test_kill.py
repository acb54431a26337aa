"""The judge: a sandbox in a process of its own, the command in another, and SIGKILL."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
from asyncio.subprocess import DEVNULL
from contextlib import closing, suppress
from pathlib import Path

import aiohttp
from forked import command as start
from forked import sandbox_process
from support import MANY, WAIT, rows_of

from benchmarks.kill import command, killed_until_done, players_at
from teak_async import Limits, TeakError, TeakSession
from teak_async._journal.tables import GROUP
from teak_async.sandbox import GAME_ID, SECRET_KEY

KILLS = 25 if MANY else 2
"""SIGKILLs in one run; many only in CI, since each costs a second."""
ROWS = 240 * KILLS


def count_states(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT state, count(*) FROM rows GROUP BY state"))


async def run_to_the_end(url: str, arguments: list[str]) -> int:
    """Run a command that nobody kills; gives its exit code."""
    names = {"TEAK_BASE_URL": url, "TEAK_GAME_ID": GAME_ID, "TEAK_SECRET_KEY": SECRET_KEY}
    async with start(*arguments, env=os.environ | names, stdin=DEVNULL) as process:
        _, told = await asyncio.wait_for(process.communicate(), 2 * WAIT)
    assert b"Traceback" not in told, told.decode()
    assert process.returncode is not None
    return process.returncode


async def test_sigkill_loses_nothing_and_doubles_nothing(tmp_path: Path, path: Path) -> None:
    """Killed again and again, a backfill ends with one session for every player that is not named in doubt, none twice."""
    draw = random.Random(1)
    source = tmp_path / "players.csv"
    source.write_text("user_id,country_code\n" + "".join(f"p{number},US\n" for number in range(ROWS)))
    arguments = ["identify", str(source), "--journal", str(path), "--output", str(tmp_path / "out"), "--rate", "500"]
    async with sandbox_process("--identify", 500) as url:
        code, left = await killed_until_done(url, arguments, path, draw, KILLS, 1.1)
        players = await players_at(url)
    assert code in (0, 3)
    told = dict(rows_of(path, "user_id, state"))
    assert set(told) == {f"p{number}" for number in range(ROWS)}
    doubtful = {name for name, state in told.items() if state == "in_doubt"}
    assert code == (3 if doubtful else 0)
    assert {name for name, state in told.items() if state == "succeeded"} == set(told) - doubtful
    assert all(players[name]["sessions"] == 1 for name in set(told) - doubtful)
    assert max(player["sessions"] for player in players.values()) == 1
    assert len(left) >= KILLS * 4 // 5
    on_wire = 20  # at most, at this rate on loopback
    assert max(left) <= on_wire + GROUP
    assert len(doubtful) <= sum(left)


async def test_sigkill_with_resending_leaves_no_player_without_a_session(tmp_path: Path, path: Path) -> None:
    """Who prefers a double to a gap gets no gap."""
    draw = random.Random(2)
    rows, kills = (1000, 6) if MANY else (400, 2)
    source = tmp_path / "players.csv"
    source.write_text("user_id,country_code\n" + "".join(f"p{number},US\n" for number in range(rows)))
    arguments = [
        "identify",
        str(source),
        "--journal",
        str(path),
        "--resend-in-doubt",
        "--rate",
        "500",
        "-o",
        str(tmp_path / "o"),
    ]
    async with sandbox_process("--identify", 500) as url:
        code, _ = await killed_until_done(url, arguments, path, draw, kills, 1.1)
        players = await players_at(url)
    assert code == 0
    assert len(players) == rows
    assert all(player["sessions"] >= 1 for player in players.values())


async def test_sigkill_with_sets_ends_in_the_last_state(tmp_path: Path, path: Path) -> None:
    """Killed again and again, nothing is in doubt, and every player's state is what the last row says."""
    draw = random.Random(3)
    names = [f"p{number}" for number in range(ROWS // 2)]
    known = tmp_path / "known.csv"
    known.write_text("user_id,country_code\n" + "".join(f"{name},US\n" for name in names))
    wanted = {name: draw.choice(["sales", "news"]) for name in names}
    source = tmp_path / "rows.csv"
    lines = [f"{name},{wanted[name] if last else 'other'}\n" for last in (False, True) for name in names]
    source.write_text("user_id,category\n" + "".join(lines))
    async with sandbox_process("--identify", 500, "--subscription", 500) as url:
        assert await run_to_the_end(url, ["identify", str(known), "--rate", "500", "-o", str(tmp_path / "o")]) == 0
        arguments = ["opt-out", str(source), "--journal", str(path), "--rate", "500", "-o", str(tmp_path / "out")]
        code, left = await killed_until_done(url, arguments, path, draw, KILLS, 1.1)
        players = await players_at(url)
    assert code == 0
    assert len(left) >= KILLS * 4 // 5
    assert count_states(path) == {"succeeded": ROWS}
    assert all(players[name]["categories"][wanted[name]] == "opt_out" for name in names)


async def test_sigkill_on_all_channels_misses_none(tmp_path: Path, path: Path) -> None:
    """Killed again and again, each player is out on each channel, and each row's calls are in the journal, once each."""
    draw = random.Random(4)
    rows = ROWS // 4
    source = tmp_path / "players.csv"
    addresses = ["" if number % 5 == 0 else f"p{number}@example.com" for number in range(rows)]
    source.write_text("user_id,email\n" + "".join(f"p{number},{address}\n" for number, address in enumerate(addresses)))
    out = "-o", str(tmp_path / "o"), "--overwrite", "--rate", "500"
    async with sandbox_process("--identify", 500, "--subscription", 500) as url:
        known = ["identify", str(source), "--constant", "country_code=US", *out]
        assert await run_to_the_end(url, known) == 0
        arguments = ["opt-out", str(source), "--channel", "all", "--journal", str(path), *out]
        code, left = await killed_until_done(url, arguments, path, draw, KILLS, 1.1)
        players = await players_at(url)
        await run_to_the_end(url, ["status", str(source), "--channel", "email", *out])
    assert code == 0
    assert len(left) >= KILLS * 4 // 5
    assert count_states(path) == {"succeeded": 2 * rows + sum(map(bool, addresses))}
    assert all(player["state"] == player["channels"]["push"]["state"] == "opt_out" for player in players.values())
    assert len(players) == rows
    states = [
        line["response"]["state"] for line in map(json.loads, (tmp_path / "o").read_text().splitlines()) if "response" in line
    ]
    assert states == ["opt_out"] * sum(map(bool, addresses))


SETS = """
import asyncio, json, sys
from teak_async import Limits, RetryPolicy, SetSubscription, TeakSession

async def main(url, rows, journal):
    asked = [SetSubscription(user, state) for user, state in json.load(open(rows))]
    once = RetryPolicy(max_attempts=1, initial_wait=0.01)
    session = TeakSession("sandbox", "sandbox-secret", base_url=url, limits=Limits(2000, 2000), retry=once)
    async with session as teak:
        await teak.bulk(asked, journal=journal)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_the_order_of_a_players_rows_holds_across_runs(tmp_path: Path, path: Path) -> None:
    """With faults of 10 %, killed and resumed again and again, no set that was in doubt undoes a later one that was done."""
    draw = random.Random(4)
    players, sets, kills = (200, 50, 20) if MANY else (40, 20, 2)
    asked = [(f"p{player}", draw.choice(["opt_in", "opt_out"])) for _ in range(sets) for player in range(players)]
    source = tmp_path / "rows.json"
    source.write_text(json.dumps(asked))
    faults = ["--response-lost", "0.03", "--error-before", "0.03", "--error-after", "0.02", "--reset", "0.02"]
    async with sandbox_process("--identify", 5000, "--subscription", 5000, *faults) as url:
        async with TeakSession("sandbox", "sandbox-secret", base_url=url, limits=Limits(5000, 5000)) as teak:
            for player in range(players):
                while f"p{player}" not in await players_at(url):
                    with suppress(TeakError):
                        await teak.identify(f"p{player}", country_code="US")
        for number in range(kills + 3):
            arguments = (sys.executable, "-c", SETS, url, source, path)
            process = await asyncio.create_subprocess_exec(*arguments, stderr=asyncio.subprocess.PIPE)
            if number < kills:
                await asyncio.sleep(draw.uniform(0.6, 1.2))
                if process.returncode is None:
                    process.kill()
            _, err = await process.communicate()
            assert number < kills or process.returncode == 0, err.decode()
        server = await players_at(url)
    fates = dict(rows_of(path, "row, state"))
    assert len(fates) == len(asked)
    for player in range(players):
        rows = [(index, state) for index, (name, state) in enumerate(asked) if name == f"p{player}"]
        last = max((index for index, _ in rows if fates[index] == "succeeded"), default=-1)
        may_be = {state for index, state in rows if index == last or (index > last and fates[index] == "in_doubt")}
        assert server[f"p{player}"]["state"] in (may_be if last >= 0 else may_be | {"opt_in"})
    overtaken = rows_of(path, "row, error")
    assert any("a later row of this player was done since" in (error or "") for _, error in overtaken)


async def test_an_interrupted_command_says_how_to_go_on(tmp_path: Path, path: Path) -> None:
    """Ctrl-C finishes what is on the wire, writes it, and names the journal; repeated, the command does the rest."""
    source = tmp_path / "players.csv"
    source.write_text("user_id,country_code\n" + "".join(f"p{number},US\n" for number in range(400)))
    arguments = ["identify", str(source), "--journal", str(path), "-o", str(tmp_path / "out.jsonl"), "--rate", "200"]
    async with sandbox_process() as url:
        process = await command(url, arguments)
        async with aiohttp.ClientSession() as http, asyncio.timeout(20):
            while (await (await http.get(f"{url}/sandbox")).json())["sessions"] < 20:
                await asyncio.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, told = await process.communicate()
        assert process.returncode == 130
        assert f"the same --journal {path}" in told.decode()
        assert set(count_states(path)) <= {"succeeded", "not_sent"}
        assert await run_to_the_end(url, arguments) == 0
        players = await players_at(url)
    assert {player["sessions"] for player in players.values()} == {1}
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 400
