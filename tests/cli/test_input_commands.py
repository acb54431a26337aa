"""Inputs of every kind through the whole command: sent, kept in a journal, given back."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from support import Ended, fast_sandbox
from typer.testing import CliRunner

from teak_async._cli.app import app
from teak_async.sandbox import GAME_ID, IDENTIFY, SECRET_KEY, Sandbox

ROWS = [f"p{number},203.0.113.9" for number in range(10)]


async def ask(server: Sandbox, *arguments: object) -> Ended:
    """Run a command inside of this process, beside a sandbox on this loop."""
    variables = {"TEAK_BASE_URL": server.url, "TEAK_GAME_ID": GAME_ID, "TEAK_SECRET_KEY": SECRET_KEY}
    ended = await asyncio.to_thread(CliRunner().invoke, app, [str(one) for one in arguments], env=variables)
    return Ended(ended.exit_code, ended.stdout, ended.stderr)


def sessions(server: Sandbox) -> dict[str, int]:
    return {name: player.sessions for name, player in server.players.items()}


async def test_a_part_and_then_the_rest(tmp_path: Path) -> None:
    """The first rows, lines amid the file, and all: with one journal each player is sent once, and the dry run knows it."""
    source, journal = tmp_path / "in.csv", tmp_path / "run.db"
    source.write_text("\n".join(["user_id,client_ip", *ROWS]))
    async with fast_sandbox() as server:
        first = await ask(server, "identify", source, "--journal", journal, "--rows", "2")
        assert (first.code, list(sessions(server))) == (0, ["p0", "p1"])
        middle = await ask(server, "identify", source, "--journal", journal, "--rows", "6-7")
        assert (middle.code, sorted(sessions(server))) == (0, ["p0", "p1", "p4", "p5"])
        again = await ask(server, "identify", source, "--journal", journal, "--rows", "3")
        assert (again.code, len(again.rows), len(sessions(server))) == (0, 1, 5)
        dry = await ask(server, "identify", source, "--journal", journal, "--dry-run")
        assert "10 rows: 5 to send" in dry.out
        assert "2 rows: 0 to send" in (await ask(server, "identify", source, "-j", journal, "--dry-run", "--rows", "2")).out
        rest = await ask(server, "identify", source, "--journal", journal)
        assert (rest.code, len(rest.rows)) == (0, 5)
    assert sessions(server) == {f"p{number}": 1 for number in range(10)}


async def test_each_player_once(tmp_path: Path) -> None:
    """A player who is there again is not sent again, and a dry run counts such rows without it."""
    source = tmp_path / "in.csv"
    source.write_text("\n".join(["user_id,client_ip", *ROWS, *ROWS[3:]]))
    async with fast_sandbox() as server:
        dry = await ask(server, "identify", source, "--dry-run")
        assert "7 rows repeat a player of an earlier row; the first is line 12" in dry.out
        assert "before; the first" not in (await ask(server, "identify", source, "--dry-run", "--no-duplicates")).out
        ended = await ask(server, "identify", source, "--once")
        source.write_text("user_id,country_code\np1,DE\np1,DE\n" + "p2,DE\n" * 1_000 + "p3,XYZ\n")
        few = await ask(server, "identify", source, "--dry-run", "--rows", 2)
        assert "  1 row repeats a player of an earlier row; the first is line 3" in few.out
        assert "  line 1,004: country_code: must be" in (await ask(server, "identify", source, "--dry-run")).out
    assert (ended.code, len(ended.rows), set(sessions(server).values())) == (0, 10, {1})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("in.csv.gz", gzip.compress("user_id;country_code\r\nnan;DE\r\né;France\r\np1;DE\r\n".encode(), mtime=0)),
        ("in.txt", "sep=;\r\nuser_id;country_code\r\nnan;DE\r\né;France\r\np1;DE\r\n".encode("utf-16")),
        ("in.csv", "user_id;country_code\rnan;DE\ré;France\rp1;DE\r".encode()),
    ],
)
async def test_rows_are_given_back(tmp_path: Path, name: str, data: bytes) -> None:
    """Failed rows of a compressed or UTF-16 file come back as UTF-8, in its own columns, and go in again corrected."""
    source, journal, failed = tmp_path / name, tmp_path / "run.db", tmp_path / "failed.csv"
    source.write_bytes(data)
    async with fast_sandbox() as server:
        ended = await ask(server, "identify", source, "--journal", journal)
        assert (ended.code, list(sessions(server))) == (1, ["p1"])
        assert (await ask(server, "report", journal, "--failed", failed)).code == 0
        text = failed.read_text("utf-8")
        header, first, second = text.splitlines()[-3:]
        assert header == "why;line;user_id;country_code"
        assert (first.endswith(";nan;DE"), second.endswith(";é;France")) == (True, True)
        failed.write_text(text.replace(";nan;", ";p2;").replace("France", "FR"), "utf-8")
        assert (await ask(server, "identify", failed)).code == 0
    assert sessions(server) == {"p1": 1, "p2": 1, "é": 1}


async def test_a_query_with_a_journal(tmp_path: Path) -> None:
    """A journal holds to the query and to what it gave; failed rows come back as JSON Lines."""
    duckdb: Any = pytest.importorskip("duckdb")
    journal, failed, table = tmp_path / "run.db", tmp_path / "failed.jsonl", tmp_path / "t.parquet"

    def write(countries: str) -> None:
        duckdb.sql(f"SELECT unnest({countries}) AS country, 'p' || generate_subscripts({countries}, 1) AS id").write_parquet(
            str(table)
        )

    query = f"SELECT id AS user_id, country AS country_code FROM '{table}'"
    write("['DE', 'France']")
    async with fast_sandbox() as server:
        assert (await ask(server, "identify", "--sql", query, "--journal", journal)).code == 1
        assert (await ask(server, "report", journal, "--failed", failed)).code == 0
        assert [json.loads(line) for line in failed.read_text().splitlines()] == [
            {"why": "country_code: must be a two-letter ISO country", "line": 2, "user_id": "p2", "country_code": "France"}
        ]
        other = await ask(server, "identify", "--sql", f"{query} LIMIT 1", "--journal", journal)
        assert (other.code, "its query is" in other.err) == (2, True)
        write("['FR', 'France']")
        changed = await ask(server, "identify", "--sql", query, "--journal", journal)
        assert (changed.code, "the journal of another input: line 1 is not what it was" in changed.err) == (2, True)
        both = await ask(server, "identify", "--sql", query, "--output", table)
        assert (both.code, "this is the input" in both.err) == (2, True)
        same = await ask(server, "identify", "--sql", query, "--journal", table)
        assert (same.code, "this is the input, and the journal would overwrite it" in same.err) == (2, True)
    assert sessions(server) == {"p1": 1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--sql", "SELECT 1", "FILE"), "a FILE and --sql are two inputs"),
        (("--sql", "SELECT 1", "--column", "a=b"), "--column is for a FILE; in a query, write: SELECT player_id AS user_id"),
        (("--sql", "SELECT 1", "--format", "csv"), "--format is for a FILE"),
        (("FILE", "--column", "user_id"), "--column: 'user_id' is not of the form user_id=player_id"),
        (("FILE", "--constant", "country_code="), "--constant: 'country_code=' is not of the form country_code=US"),
        (("FILE", "--column", "user_id=a", "--column", "USER_ID=b"), "--column: user_id is given twice"),
        (("FILE", "--constant", "level=7"), "--constant: identify has no parameter 'level'"),
        (("FILE", "--constant", "email=a@b.c", "--column", "email=mail"), "email: given by --column and by --constant"),
        (("FILE", "--rows", "ten"), "--rows: 'ten' is neither a count, such as 100, nor lines of the file, such as 5001-6000"),
        (("JOURNAL",), "this is a SQLite database (a journal is one, too)"),
        (("FILE", "--output", "JOURNAL"), "this is a SQLite database, as a journal is one; write the results to another file"),
        (("FILE", "--journal", "FILE"), "this is the input, and the journal would overwrite it"),
        (("FILE", "--output", "FILE"), "this is the input; write the results to another file"),
        (("FILE", "--output", "NEW", "--journal", "NEW"), "this is the journal; write the results to another file"),
        (
            ("FILE", "--output", "NEW", "--journal", "OTHER"),
            "the journal of another run: its command is 'status', not 'identify'",
        ),
        (("EMPTY", "--output", "NEW", "--journal", "NEW2"), "no rows; did the export fail? --allow-empty accepts it"),
    ],
)
async def test_what_cannot_run_touches_nothing(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    """A journal as input or output, one file in two places, an option that makes no sense: no file is made or changed."""
    paths = {name: tmp_path / name for name in ("FILE", "JOURNAL", "NEW", "OTHER", "EMPTY", "NEW2")}
    paths["FILE"].write_text("user_id,client_ip\np1,203.0.113.9\n")
    paths["EMPTY"].write_text("user_id,client_ip\n")
    async with fast_sandbox() as server:
        server.add_player("p1")
        await ask(server, "status", paths["FILE"], "--journal", paths["JOURNAL"])
        await ask(server, "status", paths["FILE"], "--journal", paths["OTHER"])
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        sent = server.seen[IDENTIFY].requests
        ended = await ask(server, "identify", *(paths.get(one, one) for one in arguments))
        assert server.seen[IDENTIFY].requests == sent
    assert (ended.code, said in ended.err) == (2, True), ended.err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
