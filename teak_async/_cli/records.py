"""Makes records of lines: the cells of CSV, or an object of JSON.

Each line is a record, in CSV too, so that a stray quote spoils one row and not the thousand after it. Where a line leaves a
quote open, the reader adds the next lines: if they complete a record, it has a line break in a cell.
"""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from teak_async.errors import InvalidRequest

DELIMITERS = ",;\t|"
DELIMITER_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
MAX_JOINED = 100
"""Lines of one record at most."""
MAX_JOINED_TEXT = 1 << 17
"""Characters at most of a record of several lines."""
Lines = Iterator[tuple[int, str | None]]
Records = Iterator[tuple[int, str, Any]]
"""Line number, text, and its cells or object; an `InvalidRequest` for what is none, `None` for a line that is too long."""


class CsvReader:
    """Reads the records of CSV with one separator."""

    def __init__(self, delimiter: str) -> None:
        self._dialect = csv.reader((), delimiter=delimiter, strict=True).dialect

    def split(self, text: str) -> list[str]:
        """Split a record into cells.

        Raises:
            csv.Error: when the text is no record.
        """
        return next(csv.reader((text,), self._dialect), [])

    def records(self, lines: Lines, width: int, *, only_count: bool = False) -> Records:
        """Yield the record of each line that is not blank.

        Args:
            lines: the lines after the header.
            width: cells of a record.
            only_count: give no cells, which is faster.
        """
        waiting: deque[tuple[int, str | None]] = deque()
        fed: deque[str] = deque()
        # One reader for all lines, fed line by line: to make one for each took a sixth of the time.
        reader = csv.reader(iter(fed.popleft, None), self._dialect)
        while (item := waiting.popleft() if waiting else next(lines, None)) is not None:
            number, text = item
            if text is None:
                yield number, "", None
                continue
            source = text.rstrip("\r\n")
            if not source or source.isspace():
                continue
            if '"' in source and source.count('"') % 2 and (joined := self._join(text, lines, waiting, width)):
                yield number, *joined
                continue
            if only_count:
                yield number, source, ()
                continue
            fed.append(source)
            try:
                cells: Any = next(reader)
            except IndexError:  # it asks for another line: a quote is open
                cells = InvalidRequest("not a CSV row: unexpected end of data")
            except csv.Error as error:
                cells = InvalidRequest(f"not a CSV row: {error}")
            yield number, source, cells

    def _join(self, text: str, lines: Lines, waiting: deque[tuple[int, str | None]], width: int) -> tuple[str, Any] | None:
        """Return the record of a line with an open quote and the lines after it; `None` when they make none.

        A record has an even number of quotes, so only the next line with an odd number can end it. Lines that were read and
        not used stay in `waiting`.
        """
        used = 0
        size = len(text)
        parts = [text]
        for _, more in chain(list(waiting), self._fetch(lines, waiting)):
            used += 1
            if more is None or used >= MAX_JOINED or (size := size + len(more)) > MAX_JOINED_TEXT:
                return None
            parts.append(more)
            if more.count('"') % 2:
                break
        else:
            return None
        source = "".join(parts).rstrip("\r\n")
        try:
            cells = next(csv.reader(parts, self._dialect), [])
        except csv.Error:
            return None
        if len(cells) != width:
            return None
        for _ in range(used):
            waiting.popleft()
        return source, cells

    @staticmethod
    def _fetch(lines: Lines, waiting: deque[tuple[int, str | None]]) -> Lines:
        for item in lines:
            waiting.append(item)
            yield item


def find_delimiter(text: str, score: Callable[[list[str]], int]) -> str:
    """Find the separator of a header: the one that gives the most known columns, and of several the most columns.

    Args:
        text: the header.
        score: counts the known columns.
    """
    found = (0, 0, ",")
    for delimiter in DELIMITERS:
        try:
            cells = CsvReader(delimiter).split(text)
        except csv.Error:
            continue
        if (score(cells), len(cells)) > found[:2]:
            found = score(cells), len(cells), delimiter
    return found[2]


def json_records(lines: Lines, *, as_written: bool) -> Records:
    """Yield the object of each line that is not blank.

    Args:
        lines: the lines of the input.
        as_written: give numbers with a fraction or an exponent as text.
    """
    for number, text in lines:
        if text is None:
            yield number, "", None
            continue
        source = text.rstrip("\r\n")
        if source and not source.isspace():
            yield number, source, read_object(source, as_written=as_written)


def read_object(text: str, *, as_written: bool = False) -> dict[str, Any] | InvalidRequest:
    """Return a JSON object, or why the text is none."""
    try:
        found = json.loads(text, parse_float=str if as_written else None)
    except (ValueError, RecursionError) as error:
        # The line in the record is always the first; that in the file is said before.
        said = f"{error.msg} (char {error.pos})" if isinstance(error, json.JSONDecodeError) else error
        return InvalidRequest(f"not JSON: {said}")
    return found if isinstance(found, dict) else InvalidRequest("not a JSON object")
