"""Writes rows of a journal in the input's format, for people to correct and run again.

Each row is byte by byte as in the input, after two columns that the reader skips: `why` and `line`. They come first, since a
row may have too many cells, or a quote that is not closed. They replace those of an earlier export.
"""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

from teak_async._journal.database import JournalSummary
from teak_async._journal.history import PastRow, iter_in_states

from .columns import REPORTED, guess_parameter
from .errors import InputError
from .failures import why
from .reasons import split_error
from .records import find_delimiter, read_object

_CELL = r'(?:"(?:[^"]|"")*"|[^{0}"]*)(?:{0}|$)'


def export_rows(journal: Path, summary: JournalSummary, path: Path, *states: str) -> int:
    """Write the rows in some states to a file, without failed ones that were done.

    Returns:
        How many rows are missing, since they were too long for the journal.

    Raises:
        InputError: when the file cannot be written.
    """
    missing = 0
    writer = _CsvRows(summary.about["header"]) if summary.about.get("format") == "csv" else None
    try:
        # Without a buffer a signal leaves whole rows. Half a row could be read as another one.
        with path.open("wb", buffering=0) as file:
            if writer is not None:
                file.write(writer.header.encode() + b"\n")
            for row in iter_in_states(journal, *states):
                if row.delivery == "done":
                    continue
                if row.source:
                    file.write((_add_to_json(row) if writer is None else writer.add(row)) + b"\n")
                else:
                    missing += 1
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    return missing


class _CsvRows:
    """Adds the two columns to rows of CSV.

    Args:
        header: the input's header, after its line `sep=` where it has one.
    """

    def __init__(self, header: str) -> None:
        first, end, names = header.rpartition("\n")
        self._delimiter = first[4:] or find_delimiter(
            names, lambda cells: sum(guess_parameter(cell) is not None for cell in cells)
        )
        two = _CELL.format(re.escape(self._delimiter)) * len(REPORTED)
        before = self._delimiter.join((*REPORTED, ""))
        self._former = re.compile(two) if names.startswith(before) else None
        self.header = f"{first}{end}{before}{names.removeprefix(before)}"

    def add(self, row: PastRow) -> bytes:
        """Return a row with the columns."""
        source = _text_of(row)
        if self._former is not None:
            source = self._former.sub("", source, count=1)
        cells = io.StringIO()
        csv.writer(cells, delimiter=self._delimiter, lineterminator="").writerow((*_columns_of(row), ""))
        return (cells.getvalue() + source).encode(errors="surrogateescape")


def _add_to_json(row: PastRow) -> bytes:
    """Return a row of JSON Lines with the columns. A row that is no object stays as it is."""
    source = _text_of(row)
    found = read_object(source)
    if not isinstance(found, dict):
        return source.encode(errors="surrogateescape")
    if found.keys() & set(REPORTED):
        source = json.dumps({name: value for name, value in found.items() if name not in REPORTED}, ensure_ascii=False)
    added = json.dumps(dict(zip(REPORTED, _columns_of(row), strict=True)), ensure_ascii=False)
    rest = source.lstrip()[1:].lstrip()
    return f"{added[:-1]}{'' if rest.startswith('}') else ', '}{rest}".encode(errors="surrogateescape")


def _columns_of(row: PastRow) -> tuple[str, int]:
    return " ".join(split_error(why(row) or row.first_error or "")[1].split()), row.line


def _text_of(row: PastRow) -> str:
    return row.source.decode(errors="surrogateescape") if isinstance(row.source, bytes) else row.source or ""
