"""Reads the rows of a SQL query by DuckDB: Parquet, JSON of any shape, several files, DuckDB databases, joins.

Invariants:

- A query is one SELECT. DuckDB loads and installs no extension for it, sees no Python object, and writes to the folder for
  temporary files only.
- A thread reads the rows, in the order of the query, and in bounded memory.
- A parameter's column has a type whose values have one text form each. Another type is an `InputError` before the first row.
"""

from __future__ import annotations

import glob
import importlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from threading import Event, Lock
from typing import Any, NoReturn
from uuid import UUID, uuid4

from teak_async._bulk.outcomes import Row

from .errors import InputError
from .schema import RowSchema
from .signals import LISTENER
from .source import Reading, RowSource

MEMORY_LIMIT = "100MiB"
FETCH_SIZE = 512
"""Rows fetched at once."""
CLOSE_TIMEOUT = 5.0
"""Seconds at most for which closing waits until the query has ended."""
_PLAIN = re.compile(
    r"U?(?:TINY|SMALL|BIG|HUGE)?INT(?:EGER)?|BIGNUM|VARINT|VARCHAR|UUID|ENUM\(.*|DECIMAL\(\d+,0\)|\"?NULL\"?", re.DOTALL
)
"""Types whose values have one text form each."""
_CASTS: tuple[tuple[str, str], ...] = (
    (r"FLOAT|DOUBLE|REAL|DECIMAL.*", "CAST({column} AS BIGINT)"),
    (r"TIMESTAMP.*|DATE|TIME.*|INTERVAL", "strftime({column}, '%Y-%m-%d')"),
    (r".*\[\d*\]", "{column}[1]"),
    (r"BLOB", "decode({column})"),
    (r"JSON|VARIANT", "{column} ->> '$'"),
)


class SqlReader(RowSource):
    """The rows of a SELECT.

    Raises:
        InputError: when the query is not one SELECT, fails, or gives columns that cannot be used.
    """

    def __init__(self, query: str, schema: RowSchema, reading: Reading | None = None) -> None:
        super().__init__("--sql", schema, reading or Reading(), in_query=True)
        self._query = query
        self._duckdb = _import_duckdb()
        # DuckDB makes this folder when a sort or a join has no room in memory. Only a kill after that leaves it behind.
        self._spill = Path(tempfile.gettempdir(), f"teak-async-{uuid4()}")
        self._closing, self._released = Lock(), Event()
        self._interrupted = False
        self._connection = _connect(self._duckdb, str(self._spill))
        try:
            self._check_query()
            with LISTENER.hand_to(self._interrupt):
                result = self._execute()
                self._header = [str(column[0]) for column in result.description or ()]
                self._names = self._columns.resolve(self._header, self.name)
                self._check_types([str(column[1]) for column in result.description or ()])
                self._first = self._fetch(0)
            if not self._first:
                self.refuse_empty()
        except (InputError, KeyboardInterrupt):
            self._release()
            raise

    @property
    def description(self) -> str:
        return f"the rows of a query, by DuckDB {self._duckdb.__version__}{self._describe_left_out()}"

    @property
    def about(self) -> dict[str, str]:
        return {**super().about, "query": self._query}

    def count(self) -> int | None:
        return None

    def is_file(self, path: Path) -> bool:
        """Tell whether a string literal of the query names this file, or a pattern that matches it."""
        for literal in re.findall(r"'((?:[^']|'')*)'", self._query):
            with suppress(OSError, ValueError):
                if any(Path(name).samefile(path) for name in glob.iglob(literal.replace("''", "'"), recursive=True)):  # noqa: PTH207 - a pattern may be absolute
                    return True
        return False

    def close(self) -> None:
        super().close()
        # A process that exits while its thread is in DuckDB aborts, and its exit code is lost.
        until = time.monotonic() + CLOSE_TIMEOUT
        while not self._released.is_set() and time.monotonic() < until:
            with self._closing:
                if not self._released.is_set():
                    self._connection.interrupt()
            self._released.wait(0.05)

    def _release(self) -> None:
        with self._closing:  # DuckDB refuses to close a connection that is being interrupted
            self._connection.close()
            self._released.set()
        shutil.rmtree(self._spill, ignore_errors=True)

    def _interrupt(self, _: int) -> None:
        """End the query, whose first row may come in an hour. A second signal ends the process."""
        if self._interrupted:
            LISTENER.exit_process()
        self._interrupted = True
        self._connection.interrupt()

    def _raise_error(self, problem: str, error: Exception) -> NoReturn:
        if self._interrupted:
            raise KeyboardInterrupt
        raise InputError(f"--sql: {problem}{_explain(str(error))}") from None

    def _check_query(self) -> None:
        try:
            statements = self._connection.extract_statements(self._query)
        except self._duckdb.Error as error:
            raise InputError(f"--sql: {_first_lines(error)}") from None
        select = self._duckdb.StatementType.SELECT
        if len(statements) != 1 or statements[0].type != select:
            found = (
                "nothing" if not statements else f"{len(statements)} statements" if len(statements) > 1 else "another statement"
            )
            raise InputError(f"--sql: the query has to be one SELECT, but is {found}")

    def _execute(self) -> Any:
        try:
            return self._connection.execute(self._query)
        except self._duckdb.Error as error:
            self._raise_error("", error)

    def _check_types(self, types: list[str]) -> None:
        for column, name, kind in zip(self._header, self._names, types, strict=True):
            if name is not None and not _PLAIN.fullmatch(kind):
                quoted = column if re.fullmatch(r"\w+", column) else '"' + column.replace('"', '""') + '"'
                pattern = next((cast for pattern, cast in _CASTS if re.fullmatch(pattern, kind)), "CAST({column} AS VARCHAR)")
                cast = f"{pattern.format(column=quoted)} AS {name}"
                raise InputError(
                    f"--sql: the column {column} has the type {kind}, whose values have several text forms; write: {cast}"
                )

    def _records(self) -> Iterator[tuple[int, str, list[str | None]]]:
        index = 0
        fetched, self._first = self._first, []
        while fetched:
            for values in fetched:
                index += 1
                texts = [_text_of(value) for value in values]
                yield index, json.dumps(dict(zip(self._header, texts, strict=True)), ensure_ascii=False), texts
            fetched = self._fetch(index)

    def _make_rows(self, line: int, source: str, record: Any) -> list[Row]:
        given = [(name, text or None) for name, text in zip(self._names, record, strict=True) if name is not None]
        return self._maker.make(line, source, given)

    def _fetch(self, index: int) -> list[tuple[Any, ...]]:
        try:
            found: list[tuple[Any, ...]] = self._connection.fetchmany(FETCH_SIZE)
        except self._duckdb.Error as error:
            if self._closed:
                return []
            self._raise_error(f"cannot be read after row {index}: ", error)
        return found


def read_columns(path: str) -> list[str]:
    """Return the columns of a file; empty when DuckDB is not installed or cannot read it."""
    try:
        duckdb = importlib.import_module("duckdb")
    except ModuleNotFoundError:
        return []
    literal = path.replace("'", "''")
    with tempfile.TemporaryDirectory(prefix="teak-async-") as spill, closing(_connect(duckdb, spill)) as connection:
        try:
            described = connection.execute(f"SELECT * FROM '{literal}' LIMIT 0").description  # noqa: S608 - quoted above
        except duckdb.Error:
            return []
    return [str(column[0]) for column in described or ()]


def _connect(duckdb: Any, spill: str) -> Any:
    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": spill,
            "preserve_insertion_order": "true",
            "threads": "2",
        },
    )
    connection.execute("SET lock_configuration = true")
    return connection


def _import_duckdb() -> Any:
    try:
        return importlib.import_module("duckdb")
    except ModuleNotFoundError:
        raise InputError("--sql needs its extra: pip install 'teak_async[sql]'") from None


def _text_of(value: Any) -> str | None:
    """Return the text form of a value. A column that is left out may have values of any type."""
    if value is None or type(value) is str:
        return None if value is None else value.strip()
    if isinstance(value, int | Decimal | UUID):
        return str(value)
    return repr(value)


def _explain(message: str) -> str:
    """Return the first lines of DuckDB's message, with a remedy where DuckDB does not know it."""
    first = _first_lines(message)
    if "out of memory" in message.lower():
        remedy = "duckdb -c \"COPY (SELECT …) TO 'players.parquet'\", and read that file"
        problem = first.partition(" Possible solutions")[0]
        return f"{problem}; the command gives a query {MEMORY_LIMIT}; sort and group the rows before: {remedy}"
    if "no space left" in message.lower() or "max_temp_directory_size" in message:
        return f"{first}; DuckDB puts what has no room in memory into {tempfile.gettempdir()}: set TMPDIR to a larger folder"
    if ".xlsx" in message or "excel" in message.lower():
        return f"{first}; an Excel workbook has to be saved as CSV before"
    if "sqlite" in message.lower():
        return f'{first}; a SQLite database has to be exported before: sqlite3 -header -csv FILE "SELECT …"'
    if "extension" in message.lower():
        return f"{first}; the command loads no extensions"
    return first


def _first_lines(error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:400]
