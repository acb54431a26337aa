"""The rows of queries: what is read, what is refused, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import re
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from signal import SIGINT
from typing import Any

import pytest
from forked import command
from support import ROOT, WAIT, fast_sandbox

from teak_async._bulk.outcomes import Row
from teak_async._cli.errors import InputError
from teak_async._cli.input import RowReader
from teak_async._cli.schema import identify_schema, status_schema
from teak_async._cli.source import Reading
from teak_async._cli.sql import SqlReader, _explain
from teak_async.errors import InvalidRequest
from teak_async.models import Identify
from teak_async.sandbox import GAME_ID, SECRET_KEY

duckdb: Any = pytest.importorskip("duckdb")
INPUTS = ROOT / "tests" / "inputs"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Run in an empty folder, in which a query leaves nothing."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    yield tmp_path
    assert list(work.iterdir()) == []


async def read(query: str, reading: Reading | None = None) -> list[Any]:
    rows = SqlReader(query, identify_schema(), reading)
    try:
        return [str(row.request) if isinstance(row.request, InvalidRequest) else row.request async for row in rows]
    finally:
        rows.close()


def players(folder: Path) -> None:
    """Parquet in two files, a DuckDB database, JSON as an array, CSV."""
    with duckdb.connect(str(folder / "all.duckdb")) as connection:
        connection.execute("CREATE TABLE players AS SELECT 'p' || i AS player_id, '203.0.113.9' AS ip FROM range(4) t(i)")
        for number in range(2):
            part = f"(SELECT * FROM players OFFSET {2 * number} LIMIT 2)"
            connection.execute(f"COPY {part} TO '{folder}/part{number}.parquet'")
        connection.execute(f"COPY players TO '{folder}/all.json' (ARRAY true)")
        connection.execute(f"COPY players TO '{folder}/all.csv'")


@pytest.mark.parametrize(
    "source", ["'{0}/*.parquet'", "'{0}/all.json'", "'{0}/all.csv'", "'{0}/all.duckdb'", "read_duckdb('{0}/all.duckdb')"]
)
async def test_what_is_read(folder: Path, source: str) -> None:
    """Parquet by a glob, JSON arrays, CSV and DuckDB databases, in the order of the query."""
    players(folder)
    found = await read(f"SELECT player_id AS user_id, ip AS client_ip FROM {source.format(folder)}")
    assert found == [Identify(f"p{number}", client_ip="203.0.113.9") for number in range(4)]


@pytest.mark.parametrize(
    ("value", "user_id"),
    [
        ("17", "17"),
        ("170141183460469231731687303715884105727::HUGEINT", "170141183460469231731687303715884105727"),
        ("12::DECIMAL(38,0)", "12"),
        ("'9f8b4c1e-0000-4000-8000-00000000000a'::UUID", "9f8b4c1e-0000-4000-8000-00000000000a"),
        ("'p1'::ENUM('p1', 'p2')", "p1"),
        ("' p1 '", "p1"),
        ("decode('p1'::BLOB)", "p1"),
    ],
)
async def test_a_value_is_its_text(value: str, user_id: str) -> None:
    """Whole numbers, UUIDs and text have one text."""
    assert await read(f"SELECT {value} AS USER_ID, 'US' AS country_code, NULL AS email") == [
        Identify(user_id, country_code="US")
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            "1.5::DOUBLE",
            "the column user_id has the type DOUBLE, whose values have several text forms; write: CAST(user_id AS BIGINT)",
        ),
        ("1::FLOAT", "write: CAST(user_id AS BIGINT) AS user_id"),
        ("1::DECIMAL(10,2)", "the type DECIMAL(10,2)"),
        ("TIMESTAMP '2026-01-01'", "write: strftime(user_id, '%Y-%m-%d') AS user_id"),
        ("['a']", "the type VARCHAR[], whose values have several text forms; write: user_id[1] AS user_id"),
        ("'a'::BLOB", "write: decode(user_id) AS user_id"),
        ("'\"a\"'::JSON", "write: user_id ->> '$' AS user_id"),
        ("{'a': 1}", "write: CAST(user_id AS VARCHAR) AS user_id"),
        ("true", "the type BOOLEAN"),
    ],
)
def test_a_column_without_texts(value: str, said: str) -> None:
    """A type of which a value may be written in several ways is refused before the first row, with the cast."""
    with pytest.raises(InputError, match=re.escape(said)):
        SqlReader(f"SELECT {value} AS user_id, 'US' AS country_code", identify_schema())


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "the query has to be one SELECT, but is nothing"),
        ("SELECT 1; SELECT 2", "but is 2 statements"),
        ("COPY (SELECT 1) TO 'x.csv'", "but is another statement"),
        ("ATTACH 'x.db'", "but is another statement"),
        ("INSTALL httpfs", "but is another statement"),
        ("PRAGMA version", "but is another statement"),
        ("CREATE TABLE t (a INT)", "but is another statement"),
        ("SELEC 1", "--sql: Parser Error"),
        ("SELECT * FROM 'absent.parquet'", "No files found"),
        ("SELECT * FROM rows", "Table with name rows does not exist"),
        ("SELECT 'p' AS player_id, '127.0.0.1' AS ip", "Probably meant: SELECT player_id AS user_id, ip AS client_ip"),
        ("SELECT 'p' AS user_id", "the header needs a column client_ip or country_code"),
        ("SELECT 'p' AS user_id, 'US' AS country_code, 1 AS level", "unknown column 'level'"),
        ("SELECT * FROM 'x.xlsx'", "an Excel workbook has to be saved as CSV before"),
        ("SELECT * FROM 'https://example.com/x.parquet'", "extension"),
    ],
)
def test_no_query(folder: Path, query: str, said: str) -> None:
    """What is not one SELECT of the command's columns is refused in one line; a Python object is no table."""
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        SqlReader(query, identify_schema())
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("--sql")


def test_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the message says how to install it, also where it is a remedy."""

    def import_module(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("teak_async._cli.sql.importlib.import_module", import_module)
    with pytest.raises(InputError, match=re.escape("--sql needs its extra: pip install 'teak_async[sql]'")):
        SqlReader("SELECT 1", identify_schema())
    monkeypatch.undo()
    monkeypatch.setattr("teak_async._cli.input.find_spec", lambda name: None)
    with pytest.raises(InputError, match=re.escape("that needs: pip install 'teak_async[sql]'")):
        RowReader(str(INPUTS / "players.parquet"), identify_schema())


async def test_a_failure_amid_the_rows() -> None:
    """A query that fails while it is read says behind which row."""
    query = (
        "SELECT i AS user_id, CASE WHEN i < 100000 THEN 'US' ELSE error('broken') END AS country_code FROM range(200000) t(i)"
    )
    with pytest.raises(InputError, match=r"--sql: cannot be read after row \d+: .*broken"):
        await read(query)


SORTED = "SELECT 'player-' || i AS user_id FROM range({}) t(i) ORDER BY hash(i)"
"""A query that has no room in memory."""


async def test_left_early(folder: Path) -> None:
    """A query that is left has ended when it is closed, and its folder for what has no room in memory is gone."""
    rows = SqlReader(SORTED.format(2_000_000), status_schema())
    async with aclosing(aiter(rows)) as given:
        assert isinstance(await anext(given), Row)
        assert list(rows._spill.iterdir())
    rows.close()
    assert rows._released.is_set()
    async with asyncio.timeout(30):
        while rows._spill.exists():
            await asyncio.sleep(0.01)


async def test_a_run_that_ends_amid_its_query(folder: Path) -> None:
    """Its exit code stands: a process that ends while a thread of it is inside of DuckDB would be aborted."""
    sort = SORTED.format(2_000_000)
    async with fast_sandbox() as server, started(folder, server.url, sort, "--max-failures", "3") as process:
        _, err = await process.communicate()
    assert (process.returncode, b"stopped, since 3 rows failed" in err) == (1, True), err
    assert list((folder / "temporary").iterdir()) == []


async def test_interrupted_before_the_first_row(folder: Path) -> None:
    """A signal ends the query as well, and what it has put aside is removed."""
    sort = SORTED.format(300_000_000)
    async with started(folder, "http://127.0.0.1:1", sort) as process, asyncio.timeout(WAIT):
        while not list((folder / "temporary").glob("*/*")):
            await asyncio.sleep(0.01)
        process.send_signal(SIGINT)
        _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"teak-async: interrupted; nothing was sent\n")
    assert list((folder / "temporary").iterdir()) == []


@asynccontextmanager
async def started(folder: Path, url: str, query: str, *options: str) -> AsyncIterator[Process]:
    """Start a command in a process of its own, with a folder of its own for what has no room in memory."""
    temporary = folder / "temporary"
    temporary.mkdir()
    names = {"TEAK_GAME_ID": GAME_ID, "TEAK_SECRET_KEY": SECRET_KEY, "TEAK_BASE_URL": url, "TMPDIR": str(temporary)}
    async with command("status", "--sql", query, *options, env=os.environ | names, stdout=DEVNULL) as process:
        yield process


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        (
            "Out of Memory Error: failed to pin block (99.9 MiB/100.0 MiB used)\nPossible solutions:\n* x",
            "sort and group the rows",
        ),
        ("IO Error: Could not write file: No space left on device", "set TMPDIR to a larger folder"),
    ],
)
def test_no_room(message: str, remedy: str) -> None:
    """Where a query has no room, the message says what to do, in place of DuckDB's advice on settings that are locked."""
    explained = _explain(message)
    assert explained.startswith(message.partition("\n")[0])
    assert remedy in explained
    assert "Possible solutions" not in explained


def test_its_files_are_known(folder: Path) -> None:
    """A journal or an output that the query reads is the input."""
    players(folder)
    rows = SqlReader(f"SELECT player_id AS user_id FROM '{folder}/*.parquet'", status_schema())
    assert rows.is_file(folder / "part1.parquet")
    assert not rows.is_file(folder / "all.csv")
    assert rows.about["query"].startswith("SELECT player_id")
    rows.close()


async def test_the_source_of_a_row() -> None:
    """A row is given back as JSON, with all columns of the query."""
    rows = SqlReader(
        "SELECT 7 AS \"USER_ID\", 'US' AS country_code, 1.5 AS level", identify_schema(), Reading(ignore_extra=True)
    )
    assert [row.source async for row in rows] == ['{"USER_ID": "7", "country_code": "US", "level": "1.5"}']
    assert rows.description.endswith("; left out: 'level'")


@pytest.mark.parametrize(
    ("columns", "query"),
    [
        ("1 AS player_id, 2 AS ip", "SELECT player_id AS user_id, ip AS client_ip FROM"),
        ("1 AS USER_ID, 2 AS country, 3 AS level", "SELECT USER_ID, country AS country_code FROM"),
        ('1 AS id, 2 AS user_id, 3 AS "Client IP"', 'SELECT user_id, \\"Client IP\\" AS client_ip FROM'),
        ("1 AS level", "SELECT user_id, client_ip FROM"),
    ],
)
def test_the_query_to_use(tmp_path: Path, columns: str, query: str) -> None:
    """The error for a Parquet file names the file's own columns, each by what it probably is."""
    path = tmp_path / "x.parquet"
    duckdb.sql(f"SELECT {columns}").write_parquet(str(path))
    with pytest.raises(InputError, match=re.escape(f'this is a Parquet file; read it with teak-async identify --sql "{query}')):
        RowReader(str(path), identify_schema())
