"""What every input has in common: rows that a thread reads, a part of them selected, an error where there are none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator
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
from .schema import RowSchema
from .selection import ALL, Part, RepeatCounter, SeenPlayers
from .values import NO_VALUES, Findings


@frozen
class Reading:
    """How to read an input.

    Attributes:
        columns: parameter → the column that holds it, where its name is another.
        constants: parameters that all rows have.
        ignore_extra: leave out columns that are unknown.
        as_is: send values that look like none, or changed, all the same.
        null_words: words for no value, beside the usual ones.
        part: the rows to send.
        once: send each player once.
        count_repeated: count the rows of players who were there before.
        allow_empty: take an input without rows.
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
        """Write the options that decide what a row asks, always the same for the same."""
        pairs = [("column", f"{name}={column}") for name, column in self.columns.items()]
        pairs += [("constant", f"{name}={value}") for name, value in self.constants.items()]
        pairs += [("null", word) for word in self.null_words]
        pairs += [("as-is", "")] if self.as_is else []
        pairs += schema.options
        return " ".join(f"--{name} {value}".rstrip() for name, value in sorted(pairs))


class RowSource(ABC):
    """The rows of an input. Iterating gives them as a bulk run takes them.

    Attributes:
        name: what the input is called in messages.
        format: `csv` or `jsonl`, in which the rows' sources are.
        header: of a CSV.
        seen: the players, where they are counted.
        rows: read so far of those that are to be sent; each may be several calls.
        ended: whether all of them, or all that are selected, were given.
        journal: of an earlier run, once it is known to be this input's: rows that it has as they stand, and as finished, are
            given as `FinishedRows`.
    """

    def __init__(self, name: str, schema: RowSchema, reading: Reading, *, in_query: bool = False) -> None:
        self.name = name
        self.format = "jsonl"
        self.header = ""
        self.seen = SeenPlayers() if reading.once else RepeatCounter() if reading.count_repeated else None
        self.journal: Path | None = None
        self.rows = 0
        self._schema = schema
        self._reading = reading
        self._columns = ColumnMap(schema, reading.columns, reading.constants, reading.ignore_extra, in_query)
        self._maker = RowMaker(schema, reading.constants, reading.as_is, NO_VALUES | reading.null_words)
        self._begun = self._closed = self.ended = False

    @property
    def most_calls(self) -> int:
        """Calls of a row at most."""
        return len(self._schema.calls)

    @property
    def findings(self) -> Findings:
        """What is odd about the values that were read so far."""
        return self._maker.findings

    @property
    @abstractmethod
    def recognised(self) -> str:
        """What the input was recognised as, in one sentence without a full stop."""

    @property
    def about(self) -> dict[str, str]:
        """What a journal is to hold of the input: by all of it, the same text is the same request."""
        form, header = ("jsonl", "") if self._schema.only_ids else (self.format, self.header)
        return {"format": form, "header": header, "options": self._reading.describe(self._schema)}

    @abstractmethod
    def count(self) -> int | None:
        """Count the calls of all rows; `None` for an input that cannot be read twice."""

    @abstractmethod
    def is_file(self, path: Path) -> bool:
        """Tell whether the rows are read from this very file."""

    @abstractmethod
    def _records(self) -> Iterator[tuple[int, str, Any]]:
        """Read all records: the number of the line, the text, and what `_make_rows` makes rows of."""

    @abstractmethod
    def _make_rows(self, line: int, source: str, record: Any) -> list[Row]:
        """Make the rows of a record, one for each call."""

    @abstractmethod
    def _release(self) -> None:
        """Close what is read from."""

    def close(self) -> None:
        """End counting, and close the input, unless the thread reads it: the thread closes it when it ends."""
        self._closed = True
        if not self._begun:
            self._release()

    async def __aiter__(self) -> AsyncGenerator[Any, None]:
        async with aclosing(self.batches(1)) as batches:
            async for batch in batches:
                for row in batch:
                    yield row

    async def batches(self, most: int = ahead.READ_AHEAD) -> AsyncGenerator[list[Any], None]:
        """Give the rows that are there, so many at once at most: each a `Row`, or some `FinishedRows` where `journal` is set.

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
        """Give all rows, marked where they are not to be sent, up to the last that may be."""
        part, seen = self._reading.part, self.seen
        # Who counts players has to read each row.
        finished = FinishedSources(self.journal if seen is None else None, len(self._schema.calls))
        found = False
        for index, (line, source, record) in enumerate(self._records()):
            if part.ends_before(index, line):
                yield from finished.take()
                yield REST_LEFT
                break
            selected = part is ALL or part.has(index, line)
            if finished.has(index, source, selected=selected):
                found = found or selected
                self.rows += selected
                if finished.count == FINISHED_AT_ONCE:
                    yield from finished.take()
                continue
            yield from finished.take()
            self.rows += selected
            for row in self._make_rows(line, source, record):
                chosen = selected
                if seen is not None and not isinstance(row.request, InvalidRequest):
                    chosen = (seen.add(_player_of(row.request), row.line) or not self._reading.once) and selected
                found = found or chosen
                kept = None if self._schema.only_ids else row.source
                yield row if chosen and kept is row.source else evolve(row, selected=chosen, source=kept)
        yield from finished.take()
        if not found:
            self.refuse_empty()

    def refuse_empty(self) -> None:
        """End an input without rows, unless that is taken.

        Raises:
            InputError: when it is not.
        """
        if not self._reading.allow_empty:
            whole = self._reading.part is ALL
            missing = "no rows; did the export fail?" if whole else "no rows where --rows says; the input ends before."
            raise InputError(f"{self.name}: {missing} --allow-empty takes it as it is")

    def _end(self) -> None:
        if self.seen is not None:
            self.seen.close()
        self._release()

    @property
    def leaves_out(self) -> bool:
        """Whether there are columns that are not read."""
        return bool(self._columns.left_out)

    def _left_out(self) -> str:
        left = self._columns.left_out
        return (
            f"; left out: {', '.join(repr(name.strip()) if name.strip() else 'the one without a name' for name in left)}"
            if left
            else ""
        )


def _player_of(request: Request) -> str:
    """Name whom, which category and which channel a request is about."""
    parts = (request.subject, getattr(request, "category", None), getattr(request, "channel", None))
    return "\0".join(str(part) for part in parts if part is not None)
