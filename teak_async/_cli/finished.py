"""Rows that an earlier run finished, known by their text before anything is made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from teak_async._bulk.outcomes import FinishedRows
from teak_async._journal.database import FINISHED_CHUNK, read_finished

FINISHED_AT_ONCE = 500
"""Rows given together at most: the count of a run that goes on moves while they are passed over."""


class FinishedSources:
    """The texts of the finished rows of a journal, beside those of the input.

    It reads the journal by connections of its own, in the thread that reads the input.

    Args:
        journal: the journal; `None` for none.
        parts: calls of a row at most.

    Attributes:
        count: rows that were found and not taken yet.
    """

    def __init__(self, journal: Path | None, parts: int = 1) -> None:
        self._journal = journal
        self._parts = parts
        self._sources: Mapping[int, tuple[object, int]] = {}
        self._until = 0
        self.count = self._skipped = self._failed = 0

    def has(self, index: int, source: str, *, selected: bool) -> bool:
        """Note a row that the journal has with the same text, and as finished; say whether it is one."""
        if self._journal is None:
            return False
        if index >= self._until:
            self._sources = read_finished(self._journal, index, self._parts)
            self._until = index + FINISHED_CHUNK
        found, failed = self._sources.get(index, (None, 0))
        if found != source:
            return False  # also where the journal keeps no text: what the row asks is compared then
        self.count += 1
        self._skipped += selected * self._parts
        self._failed += selected * failed
        return True

    def take(self) -> Iterator[FinishedRows]:
        """Give the rows that were found since the last time, if there are any."""
        if self.count:
            yield FinishedRows(self.count, self._skipped, self._failed)
            self.count = self._skipped = self._failed = 0
