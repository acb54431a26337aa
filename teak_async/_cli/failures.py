"""Collects the rows that did not succeed: their reasons, and whether too many failed to go on."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from teak_async._api.structure import unstructure
from teak_async._bulk.outcomes import Outcome
from teak_async._bulk.row_call import in_doubt_error
from teak_async._journal.history import PastRow, iter_in_states, iter_of_user
from teak_async.errors import TeakError

from .reasons import Reason, Reasons
from .records import DELIMITERS, read_object
from .summary import count_rows

SAME_AT_FIRST = 100
"""Rows of the default rule: if so many have failed for the same reason before one has succeeded, the run ends, since the rest
would fail, too. Rows that failed for other reasons do not matter: some fail as they are read, before the server responds."""
_CELL_END = re.compile(rf'[{re.escape(DELIMITERS)}"\r\n]')


class Failures:
    """Collects the failures among the outcomes of a run.

    Args:
        most: failed rows that end the run; `None` for the default rule.

    Attributes:
        reasons: the reasons of the rows that did not succeed.
        last: the reason of the last failed row; `None` while there is none.
        too_many: why the run has to end; empty while it may go on.
    """

    def __init__(self, most: int | None) -> None:
        self.reasons = Reasons()
        self.last: Reason | None = None
        self.too_many = ""
        self._most = most
        self._succeeded = self._failed = 0

    def add(self, outcome: Outcome) -> None:
        """Record how a row ended."""
        if outcome.error is None:
            self._succeeded += 1
            return
        values = () if outcome.request is None else [str(value) for value in unstructure(outcome.request).values()]
        reason = self.reasons.add(outcome.state, describe_error(outcome.error), outcome.line, outcome.index, values)
        if outcome.state == "failed":
            self._failed += 1
            self.last = reason
            if self._failed == self._most:
                self.too_many = f"{count_rows(self._failed)} failed (--max-failures {self._most})"
            elif self._most is None and not self._succeeded and reason.kind and reason.count == SAME_AT_FIRST:
                self.too_many = f"{SAME_AT_FIRST} rows failed for the same reason before one succeeded ({reason.message})"


def read_reasons(journal: Path, *, running: bool = False) -> Reasons:
    """Group the rows of a journal that did not succeed by their reasons.

    Args:
        journal: its path.
        running: whether its run goes on. Rows without a result are being sent then.

    Raises:
        JournalError: when the file is no journal.
    """
    reasons = Reasons()
    for row in iter_in_states(journal, "failed", "not_sent", *in_doubt_states(running=running)):
        if (text := why(row, running=running)) is not None:
            reasons.add(state_of(row.state, running=running), text, row.line, row.row, _values_of(row))
    return reasons


def state_of(state: str, *, running: bool) -> str:
    """Return the word for a row's state. A row with an intent is being sent, or in doubt once the run has ended."""
    if state != "intent":
        return state
    return "being_sent" if running else "in_doubt"


def in_doubt_states(*, running: bool) -> tuple[str, ...]:
    """Return the states of rows that are in doubt."""
    return ("in_doubt",) if running else ("in_doubt", "intent")


def rows_of_user(journal: Path, user_id: str) -> list[PastRow]:
    """Return the rows of a player, also those that could not be sent."""
    return [row for row in iter_of_user(journal, user_id) if user_id in _values_of(row)]


def why(row: PastRow, *, running: bool = False) -> str | None:
    """Return class and message of the error of a journal's row; `None` when it has none."""
    if row.state != "intent":
        return row.error
    return None if running else describe_error(in_doubt_error())


def describe_error(error: TeakError) -> str:
    """Return class and message of an error, as a journal keeps them."""
    return f"{type(error).__name__}: {error}"


def _values_of(row: PastRow) -> Collection[str]:
    """Return the row's own values, from CSV or JSON."""
    source = row.source.decode(errors="replace") if isinstance(row.source, bytes) else row.source or ""
    found = read_object(source) if source.startswith("{") else None
    values = map(str, found.values()) if isinstance(found, dict) else map(str.strip, _CELL_END.split(source))
    return {*values, row.user_id or ""}
