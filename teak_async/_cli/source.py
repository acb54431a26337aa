"""The base of all inputs: a thread reads the rows, some are selected, and an input without rows is an error."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from teak_async._bulk.outcomes import REST_LEFT, FinishedRows, Row
from teak_async.errors import InvalidRequest
from teak_async.models import Request

from . import ahead
from .columns import ColumnMap
from .errors import InputError
from .finished import FINISHED_AT_ONCE, FinishedSources
from .making import RowMaker
from .reasons import describe_place
from .schema import RowSchema, describe_partial
from .selection import ALL, Part, RepeatCounter, SeenPlayers
from .values import NO_VALUES, Findings


@frozen
class Reading:
    """How to read an input.

    Attributes:
        columns: parameter → column, where the column has another name.
        constants: parameter → its value in all rows.
        ignore_extra: leave out unknown columns.
        as_is: send values unchecked, also words for a missing value.
        null_words: words for a missing value, beside the usual ones.
        part: the rows to send.
        once: send only the first row of each player.
        count_repeated: count the rows that repeat a player.
        allow_empty: accept an input without rows.
    """

    columns: dict[str, str] = field(factory=dict)
    constants: dict[str, str] = field(factory=dict)
    ignore_extra: bool = False
    as_is: bool = False
    null_words: frozenset[str] = frozenset()
    part: Part = ALL
    once: bool = False
    count_repeated: bool = False
    allow_empty: bool = True

    def describe(self, schema: RowSchema) -> str:
        """Return the options that decide what a row asks, in a fixed order."""
        pairs = [("column", f"{name}={column}") for name, column in self.columns.items()]
        pairs += [("constant", f"{name}={value}") for name, value in self.constants.items()]
        pairs += [("null", word) for word in self.null_words]
        pairs += [("as-is", "")] if self.as_is else []
        pairs += schema.options
        return " ".join(f"--{name} {value}".rstrip() for name, value in sorted(pairs))


class RowSource(ABC):
    """The rows of an input, for a bulk run to iterate over.

    Attributes:
        name: the input's name in messages.
        format: `csv` or `jsonl`, the format of each row's source.
        header: the header of a CSV; empty for other formats.
        seen: the players seen so far; `None` unless `reading` says to send each once, or to count repeated ones.
        rows: selected records read so far; each may be several calls.
        partial: of these, those without a value for some channel. Those that fail are left out: their reasons name them.
        ended: whether the source gave all rows, or all that are selected.
        blank: whether it has not even a header, so that nothing is known of the rows that may be there another time.
        journal: the journal of the run that goes on; `None` for a new run. Rows that it has as finished, with the same text,
            are given as `FinishedRows`.
    """

    def __init__(self, name: str, schema: RowSchema, reading: Reading, *, in_query: bool = False) -> None:
        self.name = name
        self.format = "jsonl"
        self.header = ""
        self.seen = SeenPlayers() if reading.once else RepeatCounter() if reading.count_repeated else None
        self.journal: Path | None = None
        self.rows = 0
        self.partial = Findings()
        self._schema = schema
        self._reading = reading
        self._columns = ColumnMap(schema, reading.columns, reading.constants, reading.ignore_extra, in_query)
        self._maker = RowMaker(schema, reading.constants, reading.as_is, NO_VALUES | reading.null_words)
        self._begun = self._closed = self.ended = self.blank = False
        try:
            self._maker.check_constants()
        except InvalidRequest as problem:
            raise InputError(f"--constant: {problem}") from None

    @property
    def most_calls(self) -> int:
        """Calls of a record at most."""
        return len(self._schema.calls)

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels of the calls; empty where calls have none."""
        return self._schema.channels

    @property
    def selects_all(self) -> bool:
        """Whether `--rows` leaves nothing out."""
        return self._reading.part is ALL

    @property
    def findings(self) -> Findings:
        """The odd values that were read so far."""
        return self._maker.findings

    @property
    @abstractmethod
    def description(self) -> str:
        """The input's name, its format and the columns left out, for people."""

    @property
    def about(self) -> dict[str, str]:
        """What the journal keeps of the input. Where it is the same, rows of the same text ask the same."""
        form, header = ("jsonl", "") if self._schema.only_ids else (self.format, self.header)
        return {"format": form, "header": header, "options": self._reading.describe(self._schema)}

    @abstractmethod
    def count(self) -> int | None:
        """Count the calls of the selected rows; `None` for an input that only the run can read."""

    @abstractmethod
    def is_file(self, path: Path) -> bool:
        """Tell whether a path names a file that the rows come from."""

    @abstractmethod
    def _records(self) -> Iterator[tuple[int, str, Any]]:
        """Read all records: line number, text, and the content for `_make_rows`."""

    @abstractmethod
    def _make_rows(self, line: int, source: str, record: Any) -> list[Row]:
        """Make the rows of a record, one for each call."""

    @abstractmethod
    def _release(self) -> None:
        """Close the file or the connection."""

    def close(self) -> None:
        """End counting, and close the input. If a thread reads it, the thread closes it at its own end."""
        self._closed = True
        if not self._begun:
            self._release()

    async def __aiter__(self) -> AsyncGenerator[Any, None]:
        async with aclosing(self.batches(1)) as batches:
            async for batch in batches:
                for row in batch:
                    yield row

    async def batches(self, most: int = ahead.READ_AHEAD) -> AsyncGenerator[list[Any], None]:
        """Yield lists of the rows read so far, each a `Row`, or `FinishedRows` where `journal` is set.

        Args:
            most: rows in a list at most.

        Raises:
            InputError: when the input cannot be read any further, or has no rows.
        """
        self._begun = True
        async with aclosing(ahead.read_ahead(self._select(), self._end, most)) as batches:
            async for batch in batches:
                self.ended = batch[-1] is REST_LEFT
                yield batch
        self.ended = True

    def _select(self) -> Iterator[Row | FinishedRows]:
        """Yield the rows up to the last that may be selected, each marked as selected or not."""
        part, seen = self._reading.part, self.seen
        # Counting players takes the request of each row, also of a finished one.
        finished = FinishedSources(self.journal if seen is None else None, len(self._schema.calls))
        found = False
        # What most inputs do not need is asked for once, and not for each of millions of rows.
        whole, resumes, parts, only_ids = part is ALL, finished.possible, len(self._schema.calls), self._schema.only_ids
        for index, (line, source, record) in enumerate(self._records()):
            if not whole and part.ends_before(index, line):
                yield from finished.take()
                yield REST_LEFT
                break
            selected = whole or part.has(index, line)
            if resumes and finished.has(index, source, selected=selected):
                found = found or selected
                self.rows += selected
                if finished.count == FINISHED_AT_ONCE:
                    yield from finished.take()
                continue
            if resumes:
                yield from finished.take()
            self.rows += selected
            rows = self._make_rows(line, source, record)
            if selected and len(rows) < parts:
                self._count_partial(rows, describe_place(line, index))
            for row in rows:
                chosen = selected
                if seen is not None and not isinstance(row.request, InvalidRequest):
                    chosen = (seen.add(_subject_of(row.request), row.line) or not self._reading.once) and selected
                found = found or chosen
                if chosen and not only_ids:
                    yield row
                else:
                    yield evolve(row, selected=chosen, source=None if only_ids else row.source)
        yield from finished.take()
        if not found:
            self.refuse_empty()

    def _count_partial(self, rows: Sequence[Row], place: str) -> None:
        requests = [row.request for row in rows if not isinstance(row.request, InvalidRequest)]
        if len(requests) == len(rows):
            self.partial.add(describe_partial([str(getattr(request, "channel", "")) for request in requests]), place)

    def refuse_empty(self) -> None:
        """Raise the error of an input without rows, unless the options accept one.

        Raises:
            InputError: when they do not.
        """
        if not self._reading.allow_empty:
            missing = "no rows; did the export fail?" if self.selects_all else "--rows selects no row of it."
            raise InputError(f"{self.name}: {missing} --allow-empty accepts it")

    def _end(self) -> None:
        if self.seen is not None:
            self.seen.close()
        self._release()

    def _describe_left_out(self) -> str:
        left = [name.strip() for name in self._columns.left_out]
        if not left:
            return ""
        # Who opts people out by a file with addresses may take these for opted out, too.
        email = " (addresses are --channel email, or all)" if self.channels and "email" in map(str.casefold, left) else ""
        return f"; left out: {', '.join(repr(name) if name else 'the one without a name' for name in left)}{email}"


def _subject_of(request: Request) -> str:
    """Name what `--once` sends once: the player or address, in a category and on a channel."""
    parts = (request.subject, getattr(request, "category", None), getattr(request, "channel", None))
    return "\0".join(str(part) for part in parts if part is not None)
