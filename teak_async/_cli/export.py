"""Writes rows of a journal in the input's format, for people to correct and run again.

Each row is byte by byte as in the input, after two columns that the reader skips: `why` and `line`. They come first, since a
row may have too many cells, or a quote that is not closed. They replace those of an earlier export. A row of which several
calls are given back is one line all the same.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from attrs import frozen

from teak_async._journal.database import JournalSummary
from teak_async._journal.history import PastRow, iter_in_states

from .columns import REPORTED, guess_parameter
from .errors import InputError, describe_refusal
from .failures import why
from .files import free_name
from .reasons import split_error
from .records import CsvReader, find_delimiter, read_object
from .schema import CHANNELS, PARAMETERS
from .summary import count_rows, doubt_hint, resume_hint

_CELL = r'(?:"(?:[^"]|"")*"|[^{0}"]*)(?:{0}|$)'


@frozen
class Export:
    """What was written to a file.

    Attributes:
        rows: how many rows.
        missing: how many rows are missing, since they were too long for the journal.
        channels: the channels of the calls that are given back; empty for a command without channels.
    """

    rows: int
    missing: int
    channels: Sequence[str]


def export_rows(journal: Path, summary: JournalSummary, path: Path, *states: str) -> Export:
    """Write the rows that have a call in some states to a file, without failed calls that were done.

    Raises:
        InputError: when the file cannot be written.
    """
    rows = missing = 0
    options = dict(_read_options(summary.about))
    channels: set[str] = set()
    writer = _CsvRows(summary.about["header"]) if summary.about.get("format") == "csv" else None
    calls = (call for call in iter_in_states(journal, *states) if call.delivery != "done")
    try:
        # Without a buffer a signal leaves whole rows. Half a row could be read as another one.
        with path.open("wb", buffering=0) as file:
            if writer is not None:
                file.write(writer.header.encode() + b"\n")
            for _, group in groupby(calls, lambda call: call.row):
                row = list(group)
                for call in row:
                    # A call without a name could not be made, and may be of any channel.
                    channels.update(
                        [call.channel] if call.channel else () if call.call else options.get("channel", "").split(",")
                    )
                if row[0].source:
                    rows += 1
                    file.write((_add_to_json(row) if writer is None else writer.add(row)) + b"\n")
                else:
                    missing += 1
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {describe_refusal(error)}") from None
    return Export(rows, missing, [name for name in CHANNELS if name in channels])


def describe_in_doubt(path: Path, export: Export, about: Mapping[str, str], journal: Path) -> str:
    """Say what was written, and how to send it again: a command for the file would do so behind the journal's back."""
    again = doubt_hint(journal) if about.get("command") == "identify" else f"these may be done already; {resume_hint(journal)}"
    return _describe_rows(path, export) + (f"; {again}" if export.rows else "")


def _describe_rows(path: Path, export: Export) -> str:
    missing = f"; rows that were too long for the journal are missing: {export.missing:,}" if export.missing else ""
    return f"{path}: {count_rows(export.rows)}{missing}"


def describe_export(path: Path, export: Export, about: Mapping[str, str]) -> str:
    """Say what was written, and with which command to run it, on a line of its own to be copied."""
    said = _describe_rows(path, export)
    if not export.rows or "command" not in about:
        return said
    options = [("channel", name) for name in export.channels]
    options += [(name, value) for name, value in _read_options(about) if name != "channel"]
    words = [word for name, value in options for word in (f"--{name}", value) if word]
    words += ["--ignore-extra"] if _has_extra(about.get("header", ""), options) else []
    command = shlex.join(["teak-async", about["command"], str(path), *words, "-j", free_name("new.db")])
    return f"{said}; to run them, with a new journal:\n    {command}"


def _read_options(about: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return name and value of the options that the journal keeps of its run."""
    options = re.split("(?:^| )--", about.get("options", ""))[1:]
    return [(name, value) for name, _, value in (option.partition(" ") for option in options)]


def _has_extra(header: str, options: Sequence[tuple[str, str]]) -> bool:
    """Tell whether a header has columns that a run takes only with `--ignore-extra`."""
    if not header:
        return False
    names = CsvReader(_delimiter_of(header)).split(header.rpartition("\n")[2])
    mapped = {value.partition("=")[2].casefold() for name, value in options if name == "column"}
    known = {*PARAMETERS, *REPORTED, *mapped}
    return any(name.strip().casefold() not in known for name in names)


def _delimiter_of(header: str) -> str:
    first, _, names = header.rpartition("\n")
    return first[4:] or find_delimiter(names, lambda cells: sum(guess_parameter(cell) is not None for cell in cells))


class _CsvRows:
    """Adds the two columns to rows of CSV.

    Args:
        header: the input's header, after its line `sep=` where it has one.
    """

    def __init__(self, header: str) -> None:
        first, end, names = header.rpartition("\n")
        self._delimiter = _delimiter_of(header)
        two = _CELL.format(re.escape(self._delimiter)) * len(REPORTED)
        before = self._delimiter.join((*REPORTED, ""))
        self._former = re.compile(two) if names.startswith(before) else None
        self.header = f"{first}{end}{before}{names.removeprefix(before)}"

    def add(self, row: Sequence[PastRow]) -> bytes:
        """Return a row with the columns."""
        source = _text_of(row[0])
        if self._former is not None:
            source = self._former.sub("", source, count=1)
        cells = io.StringIO()
        csv.writer(cells, delimiter=self._delimiter, lineterminator="").writerow((*_columns_of(row), ""))
        return (cells.getvalue() + source).encode(errors="surrogateescape")


def _add_to_json(row: Sequence[PastRow]) -> bytes:
    """Return a row of JSON Lines with the columns. A row that is no object stays as it is."""
    source = _text_of(row[0])
    found = read_object(source)
    if not isinstance(found, dict):
        return source.encode(errors="surrogateescape")
    if found.keys() & set(REPORTED):
        source = json.dumps({name: value for name, value in found.items() if name not in REPORTED}, ensure_ascii=False)
    added = json.dumps(dict(zip(REPORTED, _columns_of(row), strict=True)), ensure_ascii=False)
    rest = source.lstrip()[1:].lstrip()
    return f"{added[:-1]}{'' if rest.startswith('}') else ', '}{rest}".encode(errors="surrogateescape")


def _columns_of(row: Sequence[PastRow]) -> tuple[str, int]:
    reasons = [" ".join(split_error(why(call) or call.first_error or "")[1].split()) for call in row]
    return "; ".join(dict.fromkeys(reasons)), row[0].line


def _text_of(row: PastRow) -> str:
    return row.source.decode(errors="surrogateescape") if isinstance(row.source, bytes) else row.source or ""
