"""A file and the journal of an earlier run of it: finished rows are known by their text, and any other input is refused."""

from __future__ import annotations

import gzip
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support import FAST, fast_sandbox, session_on

from teak_async import JournalError
from teak_async._bulk.outcomes import BulkReport
from teak_async._cli import finished, source
from teak_async._cli.input import RowReader
from teak_async._cli.job import Job, run_job
from teak_async._cli.schema import RowSchema, identify_schema, state_schema
from teak_async._cli.selection import read_part
from teak_async._cli.source import Reading
from teak_async._journal import earlier_run
from teak_async._journal.row import id_of
from teak_async.models import State
from teak_async.sandbox import Sandbox

LINES = ["user_id,country_code", *(f"p{number},US" for number in range(300)), "bad,??", "p-last,DE"]
"""The last line but one fails, whenever it is read."""


@pytest.fixture(autouse=True)
def chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is read in chunks of which a file has several."""
    for module in (earlier_run, finished):
        monkeypatch.setattr(module, "FINISHED_CHUNK", 60)
    monkeypatch.setattr(source, "FINISHED_AT_ONCE", 25)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lines of which rows are made."""
    lines: list[int] = []
    make_rows = RowReader._make_rows

    def make(reader: RowReader, line: int, source: str, record: object) -> object:
        lines.append(line)
        return make_rows(reader, line, source, record)

    monkeypatch.setattr(RowReader, "_make_rows", make)
    return lines


async def run(
    server: Sandbox, file: Path, reading: Reading | None = None, schema: RowSchema | None = None, label: str = "identify"
) -> BulkReport:
    rows = RowReader(str(file), schema or identify_schema(), None, reading)
    job = Job(label, rows, 5000, Path(os.devnull), quiet=True, journal=file.parent / "run.db")
    _, report = await run_job(job, session_on(server, limits=FAST))
    return report


def write(file: Path, lines: list[str]) -> Path:
    file.write_text("\n".join(lines) + "\n")
    return file


def without(place: int) -> Callable[[list[str]], list[str]]:
    return lambda lines: lines[:place] + lines[place + 1 :]


async def test_a_finished_file_is_passed_over(tmp_path: Path, made: list[int]) -> None:
    """Nothing is made of rows that are finished; what is new at the end is sent."""
    file = write(tmp_path / "p.csv", LINES)
    async with fast_sandbox() as server:
        first = await run(server, file)
        assert (first.succeeded, first.failed) == (301, 1)
        made.clear()
        again = await run(server, file)
        assert (again.total, again.skipped, again.failed_earlier, made) == (302, 302, 1, [])
        write(file, [*LINES, "new,FR"])
        more = await run(server, file)
        assert (more.succeeded, more.skipped, made) == (1, 302, [len(LINES) + 1])
        assert {player.sessions for player in server.players.values()} == {1}


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        (lambda lines: [*lines[:200], "p199,DE", *lines[201:]], "line 201 is not what it was"),
        (lambda lines: [*lines[:200], "other,US", *lines[201:]], "line 201 is not what it was"),
        (lambda lines: [*lines[:200], "bad,??", *lines[201:]], "line 201 is not what it was"),
        (without(200), "line 201 is not what it was"),
        (lambda lines: [*lines[:200], "one more,US", *lines[200:]], "line 201 is not what it was"),
        (lambda lines: lines[:-1], "the journal of a longer input"),
        (lambda lines: ["user_id,timezone_id", *lines[1:]], "a column client_ip or country_code"),
        (lambda lines: ["country_code,user_id", *lines[1:]], "its header is"),
    ],
)
async def test_another_input(tmp_path: Path, change: Callable[[list[str]], list[str]], refused: str) -> None:
    """A line that was changed, left out or put in is found, and nothing is sent."""
    file = write(tmp_path / "p.csv", LINES)
    async with fast_sandbox() as server:
        await run(server, file)
        sent = len(server.requests)
        write(file, change(LINES))
        with pytest.raises(Exception, match=refused):
            await run(server, file)
        assert len(server.requests) == sent


@pytest.mark.parametrize(
    "reading",
    [
        Reading(constants={"timezone_id": "UTC"}),
        Reading(null_words=frozenset({"US"})),
        Reading(as_is=True),
    ],
)
async def test_other_options(tmp_path: Path, reading: Reading) -> None:
    """The same text by other options is another request, which the journal does not have."""
    file = write(tmp_path / "p.csv", LINES)
    async with fast_sandbox() as server:
        await run(server, file)
        with pytest.raises(JournalError, match="the journal of another run: its options are"):
            await run(server, file, reading)


async def test_another_category(tmp_path: Path) -> None:
    file = write(tmp_path / "p.csv", ["user_id", "p1"])
    async with fast_sandbox() as server:
        server.add_player("p1")
        await run(server, file, schema=state_schema(State.OPT_OUT, "sales"), label="opt-out")
        with pytest.raises(JournalError, match="its options are '--category sales', not '--category events'"):
            await run(server, file, schema=state_schema(State.OPT_OUT, "events"), label="opt-out")


@pytest.mark.parametrize(
    "write_again",
    [
        lambda file, text: file.write_bytes(gzip.compress(text.encode())),
        lambda file, text: file.write_bytes(text.encode("utf-16")),
        lambda file, text: file.write_bytes(text.replace("\n", "\r\n").encode()),
        lambda file, text: file.write_text(text.replace("p7,US", 'p7,"US"')),
        lambda file, text: file.write_text(text.replace("p7,US", " p7 , us ")),
    ],
    ids=["gzip", "UTF-16", "CRLF", "quoted", "spaces"],
)
async def test_the_same_input_written_otherwise(tmp_path: Path, write_again: Callable[[Path, str], object]) -> None:
    """What asks for the same is the same, however it is written."""
    file = write(tmp_path / "p.csv", LINES)
    async with fast_sandbox() as server:
        await run(server, file)
        write_again(file, file.read_text())
        report = await run(server, file)
        assert (report.skipped, report.total) == (302, 302)


async def test_rows_between_finished_ones(tmp_path: Path, made: list[int]) -> None:
    """Rows in doubt, rows that were not sent and rows without a text are read, wherever they stand; others are not."""
    file = write(tmp_path / "p.csv", LINES)
    async with fast_sandbox() as server:
        await run(server, file)
        with closing(sqlite3.connect(tmp_path / "run.db")) as journal, journal:
            journal.execute(f"UPDATE states SET state = 'not_sent' WHERE id IN ({id_of(5)}, {id_of(250)})")
            journal.execute(f"UPDATE states SET state = 'in_doubt', delivery = 'unknown' WHERE id = {id_of(70)}")
            journal.execute(f"UPDATE calls SET source = NULL WHERE id = {id_of(100)}")
            for table in ("calls", "states"):
                journal.execute(f"DELETE FROM {table} WHERE id = {id_of(298)}")
        made.clear()
        report = await run(server, file)
        assert (report.succeeded, report.in_doubt, report.skipped) == (3, 1, 298)
        assert made == [7, 72, 102, 252, 300]
        assert sum(player.sessions for player in server.players.values()) == 301 + 3


@pytest.mark.parametrize("part", ["100", "50-149"])
async def test_a_part_of_the_rows(tmp_path: Path, part: str) -> None:
    """A run of some rows counts those only, and a later one of all sends the rest."""
    file = write(tmp_path / "p.csv", LINES)
    async with fast_sandbox() as server:
        for _ in range(2):
            report = await run(server, file, Reading(part=read_part(part)))
            assert report.total == 100
        assert (report.succeeded, report.skipped) == (0, 100)
        report = await run(server, file)
        assert (report.succeeded, report.skipped) == (201, 100)
        report = await run(server, file, Reading(part=read_part(part)))
        assert (report.total, report.skipped) == (100, 100)
