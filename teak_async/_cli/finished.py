"""Recognises the rows that an earlier run finished by their text, before a request is made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from teak_async._bulk.outcomes import FinishedRows
from teak_async._journal.earlier_run import FINISHED_CHUNK, read_finished

FINISHED_AT_ONCE = 500
"""Rows in one `FinishedRows` at most, so that the progress of a resumed run moves on."""


class FinishedSources:
    """Compares the input's rows with a journal's finished ones, and counts those that are the same.

    It reads the journal in the thread that reads the input, by connections of its own.

    Args:
        journal: the journal; `None` for none, and so no finished rows.
        parts: calls of a row at most.

    Attributes:
        possible: whether there may be any.
        count: finished rows that were found and not taken yet.
    """

    def __init__(self, journal: Path | None, parts: int = 1) -> None:
        self._journal = journal
        self.possible = journal is not None
        self._parts = parts
        self._sources: Mapping[int, tuple[object, int]] = {}
        self._until = 0
        self.count = self._skipped = self._failed = 0

    def has(self, index: int, source: str, *, selected: bool) -> bool:
        """Return whether the journal has a row as finished, with the same text; count it if so."""
        if self._journal is None:
            return False
        if index >= self._until:
            self._sources = read_finished(self._journal, index, self._parts)
            self._until = index + FINISHED_CHUNK
        found, failed = self._sources.get(index, (None, 0))
        if found != source:
            return False  # also if the journal keeps no text; the run then compares the requests
        self.count += 1
        self._skipped += selected * self._parts
        self._failed += selected * failed
        return True

    def take(self) -> Iterator[FinishedRows]:
        """Yield the rows that were found since the last time, if there are any."""
        if self.count:
            yield FinishedRows(self.count, self._skipped, self._failed, self._skipped == self.count * self._parts)
            self.count = self._skipped = self._failed = 0
