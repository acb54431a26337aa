"""Reads the rows of a CSV or JSON Lines file.

Invariants:

- Each line is a record, in CSV too, except where several lines make a record only together.
- A problem that the beginning of the file shows (an unknown column, no text, no rows) is an `InputError` before anything is
  sent. A later one that spoils the rest of the file, such as damaged data, is an `InputError` after the rows before it.
- A problem of one row is an `InvalidRequest` in its place, with the line's number.
- An empty cell is a parameter that the row does not have. In a column that has to be filled, such as `category`, it is a
  problem of the row.
"""

from __future__ import annotations

import csv
import shlex
from collections.abc import Mapping
from contextlib import closing
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

from attrs import evolve

from teak_async._bulk.outcomes import Row
from teak_async.errors import InvalidRequest

from . import text
from .columns import guess_parameter
from .errors import InputError
from .kinds import find_foreign, how_to_convert, sql_line
from .making import fail
from .records import DELIMITER_NAMES, DELIMITERS, CsvReader, Lines, Records, find_delimiter, json_records, read_object
from .schema import RowSchema
from .source import Reading, RowSource
from .sql import read_columns

RECODE = "if it comes from Windows or Excel: iconv -f windows-1252 -t utf-8 makes it so"
"""What to do about rows that are not UTF-8: of a file, or of the failed rows alone, which `report` gives back byte by byte."""
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zstd")


class RowReader(RowSource):
    """The rows of a file, or of standard input for `-`.

    Raises:
        InputError: when the file as a whole cannot be used.
    """

    def __init__(self, path: str, schema: RowSchema, input_format: str | None = None, reading: Reading | None = None) -> None:
        super().__init__("standard input" if path == "-" else path, schema, reading or Reading())
        self._path = path
        self._file = text.TextFile(path)
        try:
            self._check_is_text()
            self._lines: Lines = self._file.lines()
            if (first := self._read_first_line()) is not None:
                self._begin(first, input_format)
            else:
                self.blank = True
        except InputError:
            self._file.close()
            raise

    def _begin(self, first: tuple[int, str], input_format: str | None) -> None:
        self.format = input_format or self._find_format(first[1])
        if self.format == "csv":
            self._read_header(*first)
            if Path(self._path).is_file():  # the first row of a pipe may come in an hour
                self._find_first_row()
        else:
            self._check_first_object(*first)
            self._lines = chain([first], self._lines)

    @property
    def description(self) -> str:
        if self.blank:
            return f"{self.name}: empty"
        kind = f"CSV separated by {DELIMITER_NAMES[self._delimiter]}" if self.format == "csv" else "JSON Lines"
        return f"{self.name}: {kind}, {self._file.description}{self._describe_left_out()}"

    def count(self) -> int | None:
        file = Path(self._path)
        if self._path == "-" or not file.is_file() or self._reading.once:
            return None
        if self.most_calls > 1:
            # Only the values tell how many calls a row is.
            whole = RowReader(self._path, self._schema, self.format, evolve(self._reading, count_repeated=False))
            with closing(whole):
                return sum(isinstance(row, Row) and row.selected for row in whole._select())
        again = text.TextFile(self._path)
        part = self._reading.part
        rows = index = 0
        try:
            lines = again.lines()
            if self.format == "csv":
                for number, _ in lines:
                    if number == self._header_line:
                        break
                records = self._csv.records(lines, self._width, only_count=True)
            else:
                records = ((number, "", None) for number, line in lines if line is None or not _is_blank(line))
            for index, (line, *_) in enumerate(records):
                if self._closed:  # the counting thread of an interrupted command has to end by itself
                    return None
                if part.ends_before(index, line):
                    break
                rows += part.has(index, line)
        finally:
            again.close()
        return rows

    def is_file(self, path: Path) -> bool:
        return self._file.is_file(path)

    def _release(self) -> None:
        self._file.close()

    def _check_is_text(self) -> None:
        if (found := find_foreign(self._file.head)) is not None:
            what, how = found
            wanted = self._selected() if "{sql}" in how else self._wanted()
            remedy = how_to_convert(how, self._path, self._schema.command, wanted)
            raise InputError(f"{self.name}: this is {what}; {remedy}{_needed_for(remedy)}")

    def _wanted(self) -> str:
        """List the columns that the command needs, as for a `SELECT`."""
        return ", ".join(names[0] for names, _ in self._schema.needed)

    def _selected(self) -> str:
        """List the file's columns for a `SELECT`, each with the parameter that it probably holds."""
        names = [] if self._path == "-" else read_columns(self._path)
        return self._columns.propose_query(names) or self._wanted()

    def _read_first_line(self) -> tuple[int, str] | None:
        """Return the first line that is not blank; `None` if there is none, and need not be."""
        for line, data in self._lines:
            if data is None:
                raise InputError(
                    f"{self.name}, line {line}: longer than {text.MAX_LINE} characters; is this CSV or JSON Lines?"
                )
            if not _is_blank(data):
                if _is_broken(data):
                    path = "FILE" if self._path == "-" else shlex.quote(self._path)
                    raise InputError(
                        f"{self.name}, line {line}: this is neither UTF-8 nor UTF-16 text; if it comes from Windows or Excel:"
                        f" iconv -f windows-1252 -t utf-8 {path} | teak-async {self._schema.command} -"
                    )
                return line, data
        if self._reading.allow_empty:
            return None
        raise InputError(f"{self.name}: empty; it needs a header row and a row for each player, or JSON Lines")

    def _find_format(self, first: str) -> str:
        start = first.strip()
        name = self._path.lower()
        for ending in _COMPRESSED:
            name = name.removesuffix(ending)
        if start.startswith("[") or start == "{":
            if self._path == "-":
                remedy = "save it to a file, and read that with --sql"
            else:
                remedy = "read it with " + sql_line(self._path, self._schema.command, self._selected())
                remedy += _needed_for(remedy)
            raise InputError(f"{self.name}: this is JSON, but not JSON Lines, which have an object on each line; {remedy}")
        return "jsonl" if start.startswith("{") or name.endswith((".jsonl", ".ndjson", ".json")) else "csv"

    def _read_header(self, line: int, data: str) -> None:
        delimiter = None
        if (named := data.strip().strip('"').lower()).startswith("sep=") or data.lower().startswith("sep=\t"):
            delimiter = data.strip("\r\n").strip('"')[4:] or ","
            if delimiter not in DELIMITERS:
                listed = ", ".join(DELIMITER_NAMES.values())
                raise InputError(
                    f"{self.name}, line {line}: {named!r} names an unknown separator; export the file with {listed}"
                )
            if (second := self._read_first_line()) is None:
                raise InputError(f"{self.name}: there is no header after its first line")
            line, data = second
        place = f"{self.name}, line {line}"
        source = data.rstrip("\r\n")
        self._header_line = line
        self._delimiter = delimiter or find_delimiter(source, self._count_known)
        self._csv = CsvReader(self._delimiter)
        try:
            self._header = self._csv.split(source)
        except csv.Error as error:
            raise InputError(f"{place}: the header cannot be read: {error}") from None
        self._width = len(self._header)
        self._names = {name.strip().casefold() for name in self._header}
        names = self._columns.resolve(self._header, place)
        self._places = [(place, name) for place, name in enumerate(names) if name is not None]
        self.header = source if delimiter is None else f"sep={delimiter}\n{source}"

    def _find_first_row(self) -> None:
        """Check that there is a row, before the journal is made and anything is sent."""
        for item in self._lines:
            if item[1] is None or not _is_blank(item[1]):
                self._lines = chain([item], self._lines)
                return
        self.refuse_empty()

    def _count_known(self, cells: list[str]) -> int:
        mapped = {column.strip().casefold() for column in self._reading.columns.values()}
        return sum(guess_parameter(cell) is not None or cell.strip().casefold() in mapped for cell in cells)

    def _check_first_object(self, line: int, data: str) -> None:
        """Check the names in the first object. An unknown name in a later one is a problem of its row."""
        found = read_object(data)
        if isinstance(found, dict):
            self._columns.resolve_some(list(found), f"{self.name}, line {line}")

    def _records(self) -> Records:
        if self.format == "csv":
            return self._csv.records(self._lines, self._width)
        return json_records(self._lines, as_written=self._reading.as_is)

    def _make_rows(self, line: int, source: str, record: Any) -> list[Row]:
        if record is None:
            return [fail(line, source, InvalidRequest(f"longer than {text.MAX_LINE} characters"))]
        if not source.isascii() and _is_broken(source):
            self.findings.add(f"not UTF-8 text ({RECODE})", f"line {line:,}")
            return [fail(line, source, InvalidRequest("not UTF-8 text"))]
        if isinstance(record, InvalidRequest):
            return [fail(line, source, record)]
        values = self._csv_values(record) if self.format == "csv" else self._json_values(record)
        return [fail(line, source, values)] if isinstance(values, InvalidRequest) else self._maker.make(line, source, values)

    def _csv_values(self, cells: list[str]) -> list[tuple[str, Any]] | InvalidRequest:
        if len(cells) != self._width:
            return InvalidRequest(f"{len(cells)} {'cell' if len(cells) == 1 else 'cells'} where the header has {self._width}")
        if cells[0].strip().casefold() in self._names and {cell.strip().casefold() for cell in cells} == self._names:
            return self._read_second_header(cells)
        return [(name, cells[place].strip() or None) for place, name in self._places]

    def _read_second_header(self, cells: list[str]) -> InvalidRequest:
        """Return the problem of a header between rows, as joined files have it.

        Raises:
            InputError: when its columns are in another order than the first header's, as are the rows after it.
        """
        if [cell.strip().casefold() for cell in cells] != [name.strip().casefold() for name in self._header]:
            raise InputError(
                f"{self.name}: a second header, as in joined files, has the columns in another order ({', '.join(cells)});"
                " nothing after it was sent: run the files one by one"
            )
        return InvalidRequest("the header again, as in joined files; it is no player")

    def _json_values(self, record: Mapping[str, Any]) -> list[tuple[str, Any]] | InvalidRequest:
        values: list[tuple[str, Any]] = []
        unknown: list[str] = []
        parameter_of = self._columns.parameter_of
        for name, value in record.items():
            try:
                parameter = parameter_of(name)
            except LookupError:
                unknown.append(name)
                continue
            if parameter is not None:
                values.append((parameter, value))
        names = {name for name, _ in values}
        if unknown:
            return InvalidRequest(self._columns.describe_unknown(unknown, list(record), {*names}))
        if len(names) < len(values):
            return InvalidRequest("two names in this object are the same parameter")
        return values


def _needed_for(remedy: str) -> str:
    """Say what to install for a remedy; empty when nothing is missing."""
    missing = "--sql" in remedy and find_spec("duckdb") is None
    return "; that needs: pip install 'teak_async[sql]'" if missing else ""


def _is_blank(data: str) -> bool:
    return not data or data.isspace()


def _is_broken(data: str) -> bool:
    """Tell whether a text has bytes that are not UTF-8."""
    try:
        data.encode()
    except UnicodeEncodeError:
        return True
    return False
