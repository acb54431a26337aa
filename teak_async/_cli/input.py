"""Input files: CSV or JSON Lines to requests.

Rules of this module:

- One line is one row, in CSV too: no parameter of Teak's has a line break, and a stray quote spoils one row and not the
  thousand after it.
- A problem of the whole file (an unknown column, no text, nothing in it) is an `InputError` before anything is sent. A
  problem of a row is an `InvalidRequest` in its place, with the line's number.
- A thread reads the lines, so a slow pipe does not hold the loop up, and it reads at most `READ_AHEAD` rows ahead.
- An empty cell means that the parameter is left out.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, suppress
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from attrs import frozen

from teak_async._bulk.outcomes import Row
from teak_async.errors import InvalidRequest
from teak_async.models import GetSubscription, Identify, Request, SetCategorySubscription, SetSubscription, State

MAX_LINE = 1 << 20
"""Bytes of a line at most; a longer one is a failed row."""
STDIN = 0
"""The descriptor of standard input."""
_BLANK = b"\xef\xbb\xbf \t\r\n"
_USER_ID = ("user_id",), "a column user_id"
READ_AHEAD = 512
"""Rows read ahead of their use at most."""


class InputError(Exception):
    """The input as a whole cannot be used; the message names the place and the remedy."""


@frozen
class RowSchema:
    """What a command makes of a row.

    Attributes:
        columns: the parameters a row may have.
        make: turns them into a request.
        needed: columns of which the header needs one, and how a message says so.
        filled: columns in which no cell may be empty.
    """

    columns: tuple[str, ...]
    make: Callable[[dict[str, Any]], Request]
    needed: tuple[tuple[tuple[str, ...], str], ...]
    filled: tuple[str, ...] = ()


def identify_schema() -> RowSchema:
    """Make the schema of rows for `Identify`."""
    columns = ("user_id", "client_ip", "country_code", "timezone_id", "email", "deep_link")
    location = ("client_ip", "country_code"), "a column client_ip or country_code (client_ip 127.0.0.1 where neither is known)"
    return RowSchema(columns, lambda parameters: Identify(**parameters), (_USER_ID, location))


def status_schema() -> RowSchema:
    """Make the schema of rows for `GetSubscription`."""
    return RowSchema(("user_id",), lambda parameters: GetSubscription(**parameters), (_USER_ID,))


def state_schema(state: State, category: str | None) -> RowSchema:
    """Make the schema of rows for `SetSubscription`, or `SetCategorySubscription` where command or row has a category."""

    def make(parameters: dict[str, Any]) -> Request:
        parameters.setdefault("category", category)
        if parameters["category"] is None:
            return SetSubscription(parameters["user_id"], state)
        return SetCategorySubscription(state=state, **parameters)

    # An empty cell in a column of categories is a slip, and must not opt the player out of everything.
    return RowSchema(("user_id", "category"), make, (_USER_ID,), () if category else ("category",))


class RowReader:
    """The rows of a file, or of standard input for `-`. Iterating gives them as a bulk run takes them.

    Raises:
        InputError: when the file as a whole cannot be used.
    """

    def __init__(self, path: str, schema: RowSchema, input_format: str | None = None) -> None:
        self.name = "standard input" if path == "-" else path
        self._path = path
        self._schema = schema
        self._file = _open(path)
        self._lines = _number_lines(self._file, self.name)
        self._reading = self._closed = False
        self.header = ""
        try:
            first = self._read_first_line()
            self.format = input_format or _detect_format(path, first[1])
            if self.format == "csv":
                self._columns = self._parse_header(*first)
                self.header = first[1].decode().rstrip("\r\n")
                self._rows = (self._make_row(line, data, self._parse_csv) for line, data in self._lines)
            else:
                self._rows = (self._make_row(line, data, self._parse_json) for line, data in chain([first], self._lines))
        except InputError:
            self._file.close()
            raise

    def count(self) -> int | None:
        """Count the rows; `None` for an input that cannot be read twice."""
        file = Path(self._path)
        if self._path == "-" or not file.is_file():
            return None
        rows = -(self.format == "csv")
        with file.open("rb") as opened:
            for _, data in _number_lines(opened, self.name):
                if self._closed:  # the caller counts in a thread, and does not wait for the end of it after an interrupt
                    return None
                rows += data is None or bool(data.strip(_BLANK))
        return rows

    def is_file(self, path: Path) -> bool:
        """Tell whether the rows are read from this very file."""
        return os.path.samestat(os.fstat(self._file.fileno()), path.stat())

    def close(self) -> None:
        """End counting, and close the file, unless the thread reads it: the thread closes the file when it ends."""
        self._closed = True
        if not self._reading:
            self._file.close()

    async def __aiter__(self) -> AsyncIterator[Row]:
        self._reading = True
        async with aclosing(_read_in_thread((row for row in self._rows if row is not None), self._file.close)) as rows:
            async for row in rows:
                yield row

    def _read_first_line(self) -> tuple[int, bytes]:
        for line, raw in self._lines:
            if raw is None:
                raise InputError(f"{self.name}, line {line}: longer than {MAX_LINE} bytes; is this CSV or JSON Lines?")
            if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise InputError(f"{self.name}: this is UTF-16 text; save it as UTF-8")
            data = raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw
            if data.strip():
                try:
                    data.decode()
                except UnicodeDecodeError:
                    raise InputError(f"{self.name}, line {line}: this is not UTF-8 text; save it as UTF-8") from None
                return line, data
        raise InputError(f"{self.name}: empty; it needs a header row and a row for each player, or JSON Lines")

    def _parse_header(self, line: int, data: bytes) -> tuple[str, ...]:
        place = f"{self.name}, line {line}"
        try:
            columns = tuple(cell.strip() for cell in _split_cells(data))
        except csv.Error as error:
            raise InputError(f"{place}: the header cannot be read: {error}") from None
        known = ", ".join(self._schema.columns)
        for column in columns:
            if column not in self._schema.columns:
                hint = " Is another separator than the comma in use?" if set(column) & set(";\t|") else ""
                raise InputError(f"{place}: unknown column {column!r}: remove or rename it; known are {known}.{hint}")
            if columns.count(column) > 1:
                raise InputError(f"{place}: the column {column!r} stands there twice")
        for names, message in self._schema.needed:
            if not set(names) & set(columns):
                raise InputError(f"{place}: the header needs {message}; known columns are {known}")
        return columns

    def _make_row(self, line: int, data: bytes | None, parse: Callable[[bytes], Mapping[str, Any]]) -> Row | None:
        if data is not None and not data.strip():
            return None
        # A line that is too long is not kept.
        source = "" if data is None else data.decode(errors="surrogateescape").rstrip("\r\n")
        try:
            if data is None:
                raise InvalidRequest(f"longer than {MAX_LINE} bytes")
            parameters = {name: value for name, value in parse(data).items() if value is not None}
            parameters.setdefault("user_id", "")
            return Row(self._schema.make(parameters), source, line)
        except UnicodeDecodeError:
            problem = InvalidRequest("not UTF-8 text")
        except InvalidRequest as error:
            problem = error
        return Row(InvalidRequest(f"line {line}: {problem}", errors=problem.errors), source, line)

    def _parse_csv(self, data: bytes) -> Mapping[str, Any]:
        try:
            cells = _split_cells(data)
        except csv.Error as error:
            raise InvalidRequest(f"not a CSV row: {error}") from None
        if len(cells) != len(self._columns):
            raise InvalidRequest(f"{len(cells)} cells where the header has {len(self._columns)}")
        row = {name: cell.strip() or None for name, cell in zip(self._columns, cells, strict=True)}
        if empty := [name for name in self._schema.filled if name in row and row[name] is None]:
            raise InvalidRequest(f"the column {empty[0]} is empty here; leave it out of the file to mean all")
        return row

    def _parse_json(self, data: bytes) -> Mapping[str, Any]:
        try:
            row = json.loads(data.decode())
        except (ValueError, RecursionError) as error:
            if isinstance(error, UnicodeDecodeError):
                raise
            raise InvalidRequest(f"not JSON: {error}") from None
        if not isinstance(row, dict):
            raise InvalidRequest("not a JSON object")
        if unknown := [name for name in row if name not in self._schema.columns]:
            raise InvalidRequest(f"unknown {', '.join(map(repr, unknown))}; known are {', '.join(self._schema.columns)}")
        return row


def same_file(path: Path, other: Path) -> bool:
    """Tell whether two names are of one file, also where it does not exist yet."""
    if path.exists() and other.exists():
        return path.samefile(other)
    return os.path.realpath(path) == os.path.realpath(other)


def _open(path: str) -> BinaryIO:
    try:
        # A reader of its own, also for standard input: a read in the thread holds the lock that Python takes at exit.
        return os.fdopen(os.dup(STDIN), "rb") if path == "-" else Path(path).open("rb")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def _detect_format(path: str, first: bytes) -> str:
    if path.endswith((".jsonl", ".ndjson", ".json")):
        return "jsonl"
    return "csv" if path.endswith(".csv") or not first.lstrip().startswith((b"{", b"[")) else "jsonl"


def _split_cells(data: bytes) -> list[str]:
    return next(csv.reader([data.decode().rstrip("\r\n")], strict=True), [])


def _number_lines(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes | None]]:
    """Give lines with their numbers; `None` for one that is too long, of which no more than that is held."""
    number = 0
    try:
        while data := file.readline(MAX_LINE + 1):
            number += 1
            if len(data) > MAX_LINE and not data.endswith(b"\n"):
                while (rest := file.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                    pass
                yield number, None
            else:
                yield number, data
    except OSError as error:
        raise InputError(f"{name}: cannot be read after line {number}: {error.strerror or error}") from None


async def _read_in_thread(items: Iterator[Row], close: Callable[[], None]) -> AsyncGenerator[Row, None]:
    """Iterate in a thread, which closes the file at its end."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Queue[Row | Exception | None] = asyncio.Queue()
    room = threading.Semaphore(READ_AHEAD)
    left = False

    def read() -> None:
        end: Exception | None = None
        try:
            for item in items:
                room.acquire()
                if left:
                    return
                loop.call_soon_threadsafe(ready.put_nowait, item)
        except Exception as error:  # noqa: BLE001 - raised again where the rows are used
            end = error
        finally:
            close()
        with suppress(RuntimeError):  # the loop is closed, and uses no more rows
            loop.call_soon_threadsafe(ready.put_nowait, end)

    # A daemon: a pipe in which nothing comes any more does not keep an interrupted command alive.
    threading.Thread(target=read, name="teak_async rows", daemon=True).start()
    try:
        while (item := await ready.get()) is not None:
            if isinstance(item, Exception):
                raise item
            room.release()
            yield item
    finally:
        left = True
        room.release()
