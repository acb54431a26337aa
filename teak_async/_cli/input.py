"""Input files: CSV or JSON Lines to requests.

Rules of this module:

- One line is one row, in CSV too: no parameter of Teak's has a line break in it, and so a stray quote spoils one row and
  not the thousand after it.
- What is wrong with the whole file (no such column, no text, nothing in it) is an `InputError` before anything is sent.
  What is wrong with a row is an `InvalidRequest` in its place, with the line's number.
- Lines are read in a thread of their own, so a slow pipe blocks nobody, and no further ahead than they are used.
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
AHEAD = 512
"""Rows read ahead of their use at most."""


class InputError(Exception):
    """The input as a whole cannot be used; the message names the place and the remedy."""


@frozen
class RowSchema:
    """What a command makes of a row.

    Attributes:
        columns: the parameters a row may have.
        make: turns them into a request.
        check: says what columns are missing, or nothing.
        filled: columns in which no cell may be empty.
    """

    columns: tuple[str, ...]
    make: Callable[[dict[str, Any]], Request]
    check: Callable[[tuple[str, ...]], str | None]
    filled: tuple[str, ...] = ()


def identify_kind() -> RowSchema:
    """Rows for `Identify`."""
    columns = ("user_id", "client_ip", "country_code", "timezone_id", "email", "deep_link")

    def check(found: tuple[str, ...]) -> str | None:
        if missing := _needs_user_id(found):
            return missing
        if "client_ip" not in found and "country_code" not in found:
            return "a column client_ip or country_code (client_ip 127.0.0.1 where neither is known)"
        return None

    return RowSchema(columns, lambda parameters: Identify(**parameters), check)


def status_kind() -> RowSchema:
    """Rows for `GetSubscription`."""
    return RowSchema(("user_id",), lambda parameters: GetSubscription(**parameters), _needs_user_id)


def state_kind(state: State, category: str | None) -> RowSchema:
    """Rows for `SetSubscription`, or for `SetCategorySubscription` where a category is given, here or in the row."""

    def make(parameters: dict[str, Any]) -> Request:
        parameters.setdefault("category", category)
        if parameters["category"] is None:
            return SetSubscription(parameters["user_id"], state)
        return SetCategorySubscription(state=state, **parameters)

    # An empty cell in a column of categories is a slip, and must not opt the player out of everything.
    return RowSchema(("user_id", "category"), make, _needs_user_id, () if category else ("category",))


def _needs_user_id(found: tuple[str, ...]) -> str | None:
    return None if "user_id" in found else "a column user_id"


class RowReader:
    """The rows of a file, or of standard input for `-`. Iterating gives them as a bulk run takes them.

    Raises:
        InputError: when the file as a whole cannot be used.
    """

    def __init__(self, path: str, kind: RowSchema, form: str | None = None) -> None:
        self.name = "standard input" if path == "-" else path
        self._path = path
        self._kind = kind
        self._file = _open(path)
        self._numbered = _numbered(self._file, self.name)
        self._reading = self._closed = False
        self.header = ""
        try:
            first = self._first()
            self.form = form or _form(path, first[1])
            if self.form == "csv":
                self._columns = self._header(*first)
                self.header = first[1].decode().rstrip("\r\n")
                self._rows = (self._row(line, data, self._csv) for line, data in self._numbered)
            else:
                self._rows = (self._row(line, data, self._json) for line, data in chain([first], self._numbered))
        except InputError:
            self._file.close()
            raise

    def count(self) -> int | None:
        """How many rows there are; `None` for what cannot be read twice."""
        file = Path(self._path)
        if self._path == "-" or not file.is_file():
            return None
        rows = -(self.form == "csv")
        with file.open("rb") as opened:
            for _, data in _numbered(opened, self.name):
                if self._closed:  # who counts does it in a thread, and must not wait for that after an interrupt
                    return None
                rows += data is None or bool(data.strip(_BLANK))
        return rows

    def is_file(self, path: Path) -> bool:
        """Whether the rows are read from this very file."""
        return os.path.samestat(os.fstat(self._file.fileno()), path.stat())

    def close(self) -> None:
        """Close the file, unless the rows' thread is reading it: that closes it when it ends. Counting ends, too."""
        self._closed = True
        if not self._reading:
            self._file.close()

    async def __aiter__(self) -> AsyncIterator[Row]:
        self._reading = True
        async with aclosing(_threaded((row for row in self._rows if row is not None), self._file.close)) as rows:
            async for row in rows:
                yield row

    def _first(self) -> tuple[int, bytes]:
        for line, raw in self._numbered:
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

    def _header(self, line: int, data: bytes) -> tuple[str, ...]:
        place = f"{self.name}, line {line}"
        try:
            columns = tuple(cell.strip() for cell in _cells(data))
        except csv.Error as error:
            raise InputError(f"{place}: the header cannot be read: {error}") from None
        known = ", ".join(self._kind.columns)
        for column in columns:
            if column not in self._kind.columns:
                hint = " Is another separator than the comma in use?" if set(column) & set(";\t|") else ""
                raise InputError(f"{place}: unknown column {column!r}: remove or rename it; known are {known}.{hint}")
            if columns.count(column) > 1:
                raise InputError(f"{place}: the column {column!r} stands there twice")
        if missing := self._kind.check(columns):
            raise InputError(f"{place}: the header needs {missing}; known columns are {known}")
        return columns

    def _row(self, line: int, data: bytes | None, read: Callable[[bytes], Mapping[str, Any]]) -> Row | None:
        if data is not None and not data.strip():
            return None
        # A line that is too long is not kept.
        source = "" if data is None else data.decode(errors="surrogateescape").rstrip("\r\n")
        try:
            if data is None:
                raise InvalidRequest(f"longer than {MAX_LINE} bytes")
            parameters = {name: value for name, value in read(data).items() if value is not None}
            parameters.setdefault("user_id", "")
            return Row(self._kind.make(parameters), source, line)
        except UnicodeDecodeError:
            problem = InvalidRequest("not UTF-8 text")
        except InvalidRequest as error:
            problem = error
        return Row(InvalidRequest(f"line {line}: {problem}", errors=problem.errors), source, line)

    def _csv(self, data: bytes) -> Mapping[str, Any]:
        try:
            cells = _cells(data)
        except csv.Error as error:
            raise InvalidRequest(f"not a CSV row: {error}") from None
        if len(cells) != len(self._columns):
            raise InvalidRequest(f"{len(cells)} cells where the header has {len(self._columns)}")
        row = {name: cell.strip() or None for name, cell in zip(self._columns, cells, strict=True)}
        if empty := [name for name in self._kind.filled if name in row and row[name] is None]:
            raise InvalidRequest(f"the column {empty[0]} is empty here; leave it out of the file to mean all")
        return row

    def _json(self, data: bytes) -> Mapping[str, Any]:
        try:
            row = json.loads(data.decode())
        except (ValueError, RecursionError) as error:
            if isinstance(error, UnicodeDecodeError):
                raise
            raise InvalidRequest(f"not JSON: {error}") from None
        if not isinstance(row, dict):
            raise InvalidRequest("not a JSON object")
        if unknown := [name for name in row if name not in self._kind.columns]:
            raise InvalidRequest(f"unknown {', '.join(map(repr, unknown))}; known are {', '.join(self._kind.columns)}")
        return row


def _open(path: str) -> BinaryIO:
    try:
        # A reader of our own also for standard input: Python's is locked by whoever reads it, and at exit Python wants it.
        return os.fdopen(os.dup(STDIN), "rb") if path == "-" else Path(path).open("rb")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def _form(path: str, first: bytes) -> str:
    if path.endswith((".jsonl", ".ndjson", ".json")):
        return "jsonl"
    return "csv" if path.endswith(".csv") or not first.lstrip().startswith((b"{", b"[")) else "jsonl"


def _cells(data: bytes) -> list[str]:
    return next(csv.reader([data.decode().rstrip("\r\n")], strict=True), [])


def _numbered(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes | None]]:
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


async def _threaded(items: Iterator[Row], close: Callable[[], None]) -> AsyncGenerator[Row, None]:
    loop = asyncio.get_running_loop()
    ready: asyncio.Queue[Row | Exception | None] = asyncio.Queue()
    room = threading.Semaphore(AHEAD)
    left = False

    def work() -> None:
        end: Exception | None = None
        try:
            for item in items:
                room.acquire()
                if left:
                    return
                loop.call_soon_threadsafe(ready.put_nowait, item)
        except Exception as error:  # noqa: BLE001 - raised again by whoever reads the rows
            end = error
        finally:
            close()
        with suppress(RuntimeError):  # the loop has gone, and with it whoever read
            loop.call_soon_threadsafe(ready.put_nowait, end)

    # A daemon, so that a pipe in which nothing comes any more does not keep an interrupted command alive.
    threading.Thread(target=work, name="teak_async rows", daemon=True).start()
    try:
        while (item := await ready.get()) is not None:
            if isinstance(item, Exception):
                raise item
            room.release()
            yield item
    finally:
        left = True
        room.release()
