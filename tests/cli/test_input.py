from __future__ import annotations

import asyncio
import io
import json
import os
import re
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, aclosing
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, BinaryIO

import pytest

from teak_async._bulk.outcomes import REST_LEFT, Row
from teak_async._cli import ahead
from teak_async._cli import text as module
from teak_async._cli.errors import InputError
from teak_async._cli.input import RowReader
from teak_async._cli.schema import RowSchema, identify_schema, state_schema, status_schema
from teak_async._cli.selection import read_part
from teak_async._cli.source import Reading
from teak_async.errors import Delivery, InvalidRequest
from teak_async.models import GetSubscription, Identify, Request, SetCategorySubscription, SetSubscription, State

HEADER = "user_id,client_ip\n"
HOME = "127.0.0.1"
P1 = Identify("p1", client_ip=HOME)
P2 = Identify("p2", client_ip=HOME)
OPT_OUT = state_schema(State.OPT_OUT, None)

Feed = Callable[[str | bytes | BinaryIO], None]


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Feed]:
    """Put something on standard input."""

    def put(content: str | bytes | BinaryIO) -> None:
        if isinstance(content, str | bytes):
            file: IO[bytes] = files.enter_context(TemporaryFile())  # noqa: SIM115 - the stack is its context
            file.write(content.encode() if isinstance(content, str) else content)
            file.seek(0)
        elif isinstance(content, Watched):
            monkeypatch.setattr(module, "_open", lambda path: content)
            return
        else:
            file = content
        monkeypatch.setattr(module, "STDIN", file.fileno())

    with ExitStack() as files:
        yield put


async def read(path: str = "-", schema: RowSchema | None = None) -> list[tuple[int, Request | str]]:
    """All rows as pairs of line number and request, or the message of what is wrong with it."""
    rows = RowReader(path, schema or identify_schema())
    found: list[tuple[int, Request | str]] = []
    async for row in rows:
        found.append((row.line, str(row.request) if isinstance(row.request, InvalidRequest) else row.request))
    rows.close()
    return found


def reader(rows: RowReader) -> AsyncGenerator[Row, None]:
    return aiter(rows)


async def ended_threads() -> bool:
    """Whether all threads that read rows come to their end."""
    threads = [thread for thread in threading.enumerate() if thread.name == "teak_async rows"]
    for thread in threads:
        await asyncio.to_thread(thread.join, 10)
    return not any(thread.is_alive() for thread in threads)


# What is read


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("user_id,client_ip\np1,127.0.0.1\np2,127.0.0.1\n", [(2, P1), (3, P2)]),
        ("client_ip,user_id\n127.0.0.1,p1\n", [(2, P1)]),
        ("user_id,client_ip\np1,127.0.0.1", [(2, P1)]),
        ("user_id,client_ip\r\np1,127.0.0.1\r\n", [(2, P1)]),
        ("\ufeffuser_id,client_ip\np1,127.0.0.1\n", [(2, P1)]),
        ('\ufeff"user_id","client_ip"\n"p1","127.0.0.1"\n', [(2, P1)]),
        (" user_id , client_ip \n p1 , 127.0.0.1 \n", [(2, P1)]),
        ("\n \r\n\nuser_id,client_ip\n\np1,127.0.0.1\n \t\n\np2,127.0.0.1\n\n", [(6, P1), (9, P2)]),
        ("\ufeff\nuser_id,client_ip\np1,127.0.0.1\n", [(3, P1)]),
        ('user_id,client_ip\n"a,""b""",127.0.0.1\n', [(2, Identify('a,"b"', client_ip=HOME))]),
        ("user_id,client_ip\n🎮é,127.0.0.1\n", [(2, Identify("🎮é", client_ip=HOME))]),
        ("user_id,client_ip,country_code\np1,,us\n", [(2, Identify("p1", country_code="US"))]),
        ("user_id,country_code\n17,FR\n", [(2, Identify(17, country_code="FR"))]),
        ("user_id,client_ip\n", []),
        ("user_id,client_ip", []),
    ],
)
async def test_csv(feed: Feed, content: str, expected: list[tuple[int, Request]]) -> None:
    """CSV of every usual make is read, each row with the number of its line."""
    feed(content)
    assert await read() == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"user_id": "p1", "client_ip": "127.0.0.1"}\n{"user_id": "p2", "client_ip": "127.0.0.1"}\n', [(1, P1), (2, P2)]),
        ('\ufeff{"user_id": "p1", "client_ip": "127.0.0.1"}', [(1, P1)]),
        ('\r\n\n  {"user_id": "p1", "client_ip": "127.0.0.1"}\r\n\r\n', [(3, P1)]),
        ('{"user_id": 17, "country_code": "us"}', [(1, Identify("17", country_code="US"))]),
        ('{"user_id": "p1", "client_ip": "127.0.0.1", "email": null}', [(1, P1)]),
    ],
)
async def test_json_lines(feed: Feed, content: str, expected: list[tuple[int, Request]]) -> None:
    """JSON Lines are known by their first line and read, each row with the number of its line."""
    feed(content)
    assert await read() == expected


@pytest.mark.parametrize(
    ("name", "told", "content", "found"),
    [
        ("a.csv", None, HEADER, "csv"),
        ("a.txt", None, HEADER, "csv"),
        ("a.jsonl", None, "{}", "jsonl"),
        ("a.ndjson", None, "x", "jsonl"),
        ("a.json", None, "x", "jsonl"),
        ("a.txt", None, ' {"user_id": 1}', "jsonl"),
        ("a.csv", "jsonl", "{}", "jsonl"),
        ("a.jsonl", "csv", HEADER, "csv"),
    ],
)
def test_format(tmp_path: Path, name: str, told: str | None, content: str, found: str) -> None:
    """The format is what was told, else what the name says, else what the first line looks like."""
    path = tmp_path / name
    path.write_text(content)
    rows = RowReader(str(path), identify_schema(), told)
    rows.close()
    assert rows.format == found


async def test_file(tmp_path: Path) -> None:
    """A file is read from its path, and closed when told."""
    path = tmp_path / "players.csv"
    path.write_text(HEADER + "p1,127.0.0.1\n")
    assert await read(str(path)) == [(2, P1)]


def test_standard_input_stays_open(feed: Feed) -> None:
    """Closing the rows of standard input does not close it for others."""
    feed(HEADER)
    RowReader("-", identify_schema()).close()
    os.fstat(module.STDIN)


def test_no_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no standard input, as in a daemon, that is said."""
    monkeypatch.setattr(module, "STDIN", 987)
    with pytest.raises(InputError, match="-: Bad file descriptor"):
        RowReader("-", identify_schema())


@pytest.mark.parametrize("content", ["", "player,ip\n", "\ufeff\n"])
def test_a_file_that_cannot_be_used_is_closed(tmp_path: Path, content: str) -> None:
    """No file stays open behind an error."""
    path = tmp_path / "players.csv"
    path.write_text(content)
    with pytest.raises(InputError):
        RowReader(str(path), identify_schema(), reading=Reading(allow_empty=False))


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff\n", "user_id,client_ip\n"])
async def test_an_input_without_rows_is_accepted(feed: Feed, content: str) -> None:
    """Also one without a header, where the options say so."""
    feed(content)
    rows = RowReader("-", identify_schema(), reading=Reading(allow_empty=True))
    assert [row async for row in rows] == []


async def test_an_empty_cell_is_no_category(feed: Feed) -> None:
    """In a column of categories an empty cell fails the row, where no category was given for all; it does not mean all."""
    feed("user_id,category\np1,sales\np2,\n")
    (_, first), (line, second) = await read(schema=OPT_OUT)
    assert first == SetCategorySubscription("p1", "sales", State.OPT_OUT)
    assert (line, second) == (3, "line 3: the column category is empty here; to mean all, leave the column out of the file")
    feed("user_id,category\np2,\n")
    assert await read(schema=state_schema(State.OPT_OUT, "news")) == [(2, SetCategorySubscription("p2", "news", State.OPT_OUT))]


async def test_a_row_keeps_its_source(feed: Feed) -> None:
    """Each row has the text that it was read from, readable or not, and the header is kept for giving rows back."""
    feed(HEADER + " p1 ,127.0.0.1\r\nnonsense\n")
    rows = RowReader("-", identify_schema())
    assert [(row.line, row.source) async for row in rows] == [(2, " p1 ,127.0.0.1"), (3, "nonsense")]
    assert rows.header == "user_id,client_ip"


@pytest.mark.parametrize(
    ("schema", "content", "expected"),
    [
        (status_schema(), "user_id\np1\n", GetSubscription("p1")),
        (OPT_OUT, "user_id\np1\n", SetSubscription("p1", State.OPT_OUT)),
        (OPT_OUT, "user_id,category\np1,sales\n", SetCategorySubscription("p1", "sales", State.OPT_OUT)),
        (state_schema(State.OPT_IN, "events"), "user_id\np1\n", SetCategorySubscription("p1", "events", State.OPT_IN)),
        (state_schema(State.OPT_IN, "a"), "user_id,category\np1,b\n", SetCategorySubscription("p1", "b", State.OPT_IN)),
    ],
)
async def test_schemas(feed: Feed, schema: RowSchema, content: str, expected: Request) -> None:
    """Each command makes its own requests of a row; a category in the row wins over the command's."""
    feed(content)
    assert await read(schema=schema) == [(2, expected)]


# What is wrong with the whole input


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "standard input: empty; it needs a header row"),
        ("\ufeff", "standard input: empty"),
        ("\n\n \r\n", "standard input: empty"),
        ("client_ip\n", "line 1: the header needs a column user_id; known columns are user_id, client_ip,"),
        ("user_id\n", "line 1: the header needs a column client_ip or country_code"),
        ("\nuser_id,client_ip,name\n", "line 2: unknown column 'name'; known are user_id, client_ip,"),
        ("user_id,client_ip,\n", "line 1: the last column has no name: the line ends with a separator; remove it, or"),
        (b"PAR1\x15\x04\x15PAR1", "standard input: this is a Parquet file; save it to a file, and read that with --sql"),
        ("ORC\nuser_id\n", "line 1: unknown column 'ORC'"),
        ("Unnamed: 0,user_id,client_ip\n", "the index of a pandas table: write the table with index=False, or"),
        ("user_id,client_ip,user_id\n", "two columns hold the parameter user_id"),
        ('"user_id,client_ip\n', "line 1: the header cannot be read: "),
        ("user_id,client_ip,caf\xe9\n".encode("latin-1"), "line 1: this is neither UTF-8 nor UTF-16 text; if it comes from"),
    ],
)
def test_unusable_input(feed: Feed, content: str | bytes, problem: str) -> None:
    """Input that cannot be right as a whole is refused at once, with the place and the remedy."""
    feed(content)
    with pytest.raises(InputError) as caught:
        RowReader("-", identify_schema(), reading=Reading(allow_empty=False))
    assert problem in str(caught.value)
    assert str(caught.value).startswith("standard input")


def test_zstandard_needs_its_package(feed: Feed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without it the message says what to install, and what to do instead."""
    path = tmp_path / "in.csv.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd and so on")
    feed(path.read_bytes())
    for name in ("backports.zstd", "compression.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    for given, shown in (("-", "FILE"), (str(path), str(path))):
        with pytest.raises(InputError, match=re.escape(f"missing: pip install 'teak_async[cli]', or: zstd -dc {shown} |")):
            RowReader(given, identify_schema())


def test_no_hint_without_a_reason(feed: Feed) -> None:
    """A plainly unknown column brings no guess about separators."""
    feed("user_id,name\n")
    with pytest.raises(InputError) as caught:
        RowReader("-", identify_schema())
    assert "separator" not in str(caught.value)


@pytest.mark.parametrize(("name", "reason"), [("absent.csv", "No such file or directory"), ("", "Is a directory")])
def test_no_such_file(tmp_path: Path, name: str, reason: str) -> None:
    """A path that cannot be opened is named with the reason."""
    path = str(tmp_path / name)
    with pytest.raises(InputError, match=reason) as caught:
        RowReader(path, identify_schema())
    assert str(caught.value).startswith(path)


def test_header_too_long(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first line without an end is no header, and is not read into memory."""
    monkeypatch.setattr(module, "MAX_LINE", 64)
    feed("x" * 1000)
    with pytest.raises(InputError, match="line 1: longer than 64 characters"):
        RowReader("-", identify_schema())


# What is wrong with one row


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (b'"p1,127.0.0.1', "line 3: not a CSV row: "),
        (b'p"1,127.0.0.1,', "line 3: 3 cells where the header has 2"),
        (b'"p1"x,127.0.0.1', "line 3: not a CSV row: "),
        (b"a\rb,127.0.0.1", "line 3: not a CSV row: "),
        (b"p1", "line 3: 1 cell where the header has 2"),
        (b"p1,127.0.0.1,x", "line 3: 3 cells where the header has 2"),
        (b"caf\xe9,127.0.0.1", "line 3: not UTF-8 text"),
        (b",127.0.0.1", "line 3: user_id: must not be empty"),
        (b"p1,nowhere", "line 3: client_ip: must be one IPv4 or IPv6 address, not a host name"),
        (b"p1,", "line 3: either client_ip or country_code is needed"),
        (b"x" * 200_000 + b",127.0.0.1", "line 3: not a CSV row: field larger than field limit"),
    ],
)
async def test_bad_csv_row(feed: Feed, row: bytes, problem: str) -> None:
    """A bad row is one failed row with the number of its line; those around it are read as if it were good."""
    feed(f"{HEADER}p1,127.0.0.1\n".encode() + row + b"\np2,127.0.0.1\n")
    before, (line, message), after = await read()
    assert (before, line, after) == ((2, P1), 3, (4, P2))
    assert isinstance(message, str)
    assert message.startswith(problem)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (b"p2,127.0.0.1", "line 2: not JSON: "),
        (b'{"user_id": "p2"', "line 2: not JSON: "),
        (b"[" * 100_000, "line 2: not JSON: "),
        (b'{"user_id": ' + b"9" * 5_000 + b"}", "line 2: not JSON: "),
        (b'["p2"]', "line 2: not a JSON object"),
        (b"null", "line 2: not a JSON object"),
        (b'{"user_id": "caf\xe9"}', "line 2: not UTF-8 text"),
        (b'{"user_id": "p2", "name": 1, "age": 2}', "line 2: unknown columns 'name', 'age'; known are user_id, client_ip,"),
        (b'{"client_ip": "127.0.0.1"}', "line 2: user_id: must not be empty"),
        (
            b'{"user_id": "p2", "USER_ID": "p3", "country_code": "US"}',
            "line 2: two names in this object are the same parameter",
        ),
        (b'{"user_id": null, "client_ip": "127.0.0.1"}', "line 2: user_id: must not be empty"),
        (b'{"user_id": true, "client_ip": "127.0.0.1"}', "line 2: user_id: must be text or a whole number, not bool"),
        (
            b'{"user_id": ["p2"], "client_ip": 5}',
            "line 2: user_id: must be text or a whole number, not list; client_ip: ",
        ),
        (b'{"user_id": "\\ud800", "client_ip": "127.0.0.1"}', "line 2: user_id: has characters that are no valid"),
    ],
)
async def test_bad_json_row(feed: Feed, row: bytes, problem: str) -> None:
    """A bad line of JSON is one failed row with its number; those around it are read as if it were good."""
    first, last = (json.dumps({"user_id": name, "client_ip": HOME}).encode() for name in ("p1", "p2"))
    feed(first + b"\n" + row + b"\n" + last + b"\n")
    before, (line, message), after = await read()
    assert (before, line, after) == ((1, P1), 2, (3, P2))
    assert isinstance(message, str)
    assert message.startswith(problem)


async def test_bad_row_keeps_its_errors(feed: Feed) -> None:
    """A row that the request refuses has every problem in its error, and was not sent."""
    feed(HEADER + ",nowhere\n")
    (error,) = [row.request async for row in RowReader("-", identify_schema())]
    assert isinstance(error, InvalidRequest)
    assert list(error.errors) == ["user_id", "client_ip"]
    assert error.delivery is Delivery.NOT_SENT


@pytest.mark.parametrize("end", ["\np2,127.0.0.1\n", "\r\np2,127.0.0.1"])
@pytest.mark.parametrize("length", [65, 66, 127, 128, 129, 130, 1000])
async def test_row_too_long(feed: Feed, monkeypatch: pytest.MonkeyPatch, length: int, end: str) -> None:
    """A line that is too long is one failed row, and the next one is found wherever the long one ends."""
    monkeypatch.setattr(module, "MAX_LINE", 64)
    feed(HEADER + "x" * length + end)
    assert await read() == [(2, "line 2: longer than 64 characters"), (3, P2)]


async def test_last_row_too_long(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is too long and never ends is the last row."""
    monkeypatch.setattr(module, "MAX_LINE", 64)
    feed(HEADER + "p1,127.0.0.1\n" + "x" * 1000)
    assert await read() == [(2, P1), (3, "line 3: longer than 64 characters")]


# How it is read


class Watched(io.BytesIO):
    """A file that gives one line at a time and counts them, and fails at one of them."""

    lines = 0
    fails_at = -1

    def read(self, size: int | None = -1, /) -> bytes:
        self.lines += 1
        if self.lines == self.fails_at:
            raise OSError("the disk is gone")
        return self.readline(-1 if size is None else size)

    read1 = read


async def test_no_further_ahead(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the input, only so many rows are read before they are used."""
    monkeypatch.setattr(ahead, "READ_AHEAD", 16)
    file = Watched((HEADER + "p1,127.0.0.1\n" * 2_000).encode())
    feed(file)
    used = 0
    header_and_one_in_hand = 2
    async with asyncio.timeout(60):
        async for _ in RowReader("-", identify_schema()):
            used += 1
            await asyncio.to_thread(bool)
            assert file.lines <= used + 16 + header_and_one_in_hand
    assert used == 2_000


async def test_left_early(feed: Feed) -> None:
    """A reader that is left before its end takes its thread with it, and reads no more."""
    file = Watched((HEADER + "p1,127.0.0.1\n" * 5_000).encode())
    feed(file)
    async with aclosing(reader(RowReader("-", identify_schema()))) as found:
        assert (await anext(found)).request == P1
    assert await ended_threads()
    assert file.lines < 5_000


async def test_read_to_the_end(feed: Feed) -> None:
    """A reader that was read to its end leaves no thread."""
    feed(HEADER + "p1,127.0.0.1\n")
    assert await read() == [(2, P1)]
    assert await ended_threads()


async def test_reading_fails(feed: Feed) -> None:
    """A file that fails amid its rows fails where they are used, after the rows before, and leaves no thread."""
    file = Watched((HEADER + "p1,127.0.0.1\n" * 10).encode())
    file.fails_at = 4
    feed(file)
    async with aclosing(reader(RowReader("-", identify_schema()))) as found:
        assert [(await anext(found)).request, (await anext(found)).request] == [P1, P1]
        with pytest.raises(InputError, match="standard input: cannot be read after line 3: the disk is gone"):
            await anext(found)
    assert await ended_threads()


async def test_a_slow_pipe_blocks_nobody(feed: Feed) -> None:
    """While nothing comes through a pipe the loop goes on, and the row is there once it has come."""
    out, into = os.pipe()
    with os.fdopen(out, "rb") as pipe, os.fdopen(into, "wb", buffering=0) as end:
        end.write(HEADER.encode())
        feed(pipe)
        async with aclosing(reader(RowReader("-", identify_schema()))) as found:
            coming = asyncio.ensure_future(anext(found))
            for _ in range(100):
                await asyncio.to_thread(bool)
            assert not coming.done()
            end.write(b"p1,127.0.0.1\n")
            assert (await coming).request == P1
            end.close()
            assert [row async for row in found] == []
        assert await ended_threads()


def test_a_loop_that_is_gone(feed: Feed) -> None:
    """A loop that ends while the reader waits for input leaves it nobody to tell, and it ends in silence."""
    out, into = os.pipe()
    with os.fdopen(out, "rb") as pipe, os.fdopen(into, "wb", buffering=0) as end:
        end.write(HEADER.encode() + b"p1,127.0.0.1\n")
        feed(pipe)

        async def first() -> None:
            async with aclosing(reader(RowReader("-", identify_schema()))) as found:
                await anext(found)

        asyncio.run(first())
        end.close()
        assert asyncio.run(ended_threads())


# Counting


@pytest.mark.parametrize(
    ("content", "input_format", "count"),
    [
        (HEADER + "p1,127.0.0.1\np2,127.0.0.1", "csv", 2),
        ("\n" + HEADER + "\r\n \np1,127.0.0.1\n\n", "csv", 1),
        (HEADER, "csv", 0),
        ('{"user_id": 1}\n\n{"user_id": 2}\n', "jsonl", 2),
    ],
)
def test_count_rows(tmp_path: Path, content: str, input_format: str, count: int) -> None:
    """The rows of a file are counted beforehand, without its header and blank lines."""
    path = tmp_path / "players"
    path.write_text(content)
    rows = RowReader(str(path), identify_schema(), input_format)
    assert rows.count() == count
    rows.close()


def test_count_is_left(tmp_path: Path) -> None:
    """Closing ends a count that goes on in another thread: an interrupt does not wait until a long file was read."""
    path = tmp_path / "players.csv"
    path.write_text(HEADER + "p1,127.0.0.1\n" * 10)
    rows = RowReader(str(path), identify_schema())
    rows.close()
    assert rows.count() is None


def test_count_what_is_no_file(tmp_path: Path, feed: Feed) -> None:
    """What is no plain file cannot be read twice, so it is not counted."""
    feed(HEADER)
    standard = RowReader("-", identify_schema())
    assert standard.count() is None
    standard.close()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    os.write(writer, HEADER.encode())
    rows = RowReader(str(pipe), identify_schema())
    assert rows.count() is None
    rows.close()
    os.close(writer)


@pytest.mark.parametrize(("part", "taken", "ended"), [(None, 3, False), (None, 9, True), ("2", 9, True), ("2", 1, False)])
async def test_whether_all_rows_were_given(tmp_path: Path, part: str | None, taken: int, ended: bool) -> None:
    """Who leaves an input early, and who has all of it, or all that is selected."""
    source = tmp_path / "in.csv"
    source.write_text("user_id\n" + "p\n" * 4)
    reader = RowReader(str(source), status_schema(), reading=Reading(part=read_part(part)))
    async with aclosing(aiter(reader)) as rows:
        count = 0
        async for row in rows:
            count += 1
            if count == taken or row is REST_LEFT:
                break
    assert reader.ended is ended
