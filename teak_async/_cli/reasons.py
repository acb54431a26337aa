"""Why rows did not succeed: grouped by the kind of the error, whatever the player and the values. Pure.

Two messages have the same reason when they differ only at places for values: what a message quotes, numbers, and words that are
values of the row itself. A place shows as `…`, unless all messages of the reason have the same there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from attrs import define, field, frozen

MAX_REASONS = 1000
"""Reasons distinguished; all further ones are counted together."""
SHOWN = 10
"""Reasons shown to a person."""
_TOKEN = re.compile(
    r"""status \d+|(?<!\w)'(?:[^'\\]|\\.)*'(?!\w)|(?<!\w)"(?:[^"\\]|\\.)*"(?!\w)|[^\s'"]+|['"]""",
)
_NUMBER = re.compile(r"[+-]?\d+(?:[.,:]\d+)*")
_PLACE = "\0"
_LINE = re.compile(r"line \d+: ")


def split_error(text: str) -> tuple[str, str]:
    """Split an error as a journal keeps it into its class and its message, without the line that the message begins with."""
    kind, _, message = text.partition(": ")
    return kind, _LINE.sub("", message, count=1) if _LINE.match(message) else message


@define
class Reason:
    """One reason for which rows did not succeed.

    Attributes:
        state: of its rows.
        kind: class of the error.
        fixed: the message with a mark for each place.
        places: what stands there; `None` where the messages differ.
        line: the first row's.
        row: the first row's place in the input, from 0.
        count: rows.
    """

    state: str
    kind: str
    fixed: str
    places: list[str | None]
    line: int
    row: int
    count: int = 1

    @property
    def words(self) -> str:
        """The message."""
        parts = self.fixed.split(_PLACE)
        shown = ("…" if place is None else place for place in self.places)
        return "".join(part + place for part, place in zip(parts, (*shown, ""), strict=True))

    @property
    def where(self) -> str:
        """Where the first row stands."""
        return f"line {self.line:,}" if self.line else f"row {self.row:,}"

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, ready for JSON."""
        error, first = {"type": self.kind, "message": self.words}, {"line": self.line, "index": self.row}
        return {"state": self.state, "count": self.count, "error": error, "first": first}

    def add(self, places: Iterable[str], line: int, row: int) -> None:
        """Count one more row."""
        self.count += 1
        self.places = [old if old == new else None for old, new in zip(self.places, places, strict=True)]
        if row < self.row:
            self.line, self.row = line, row


@frozen
class Reasons:
    """The reasons of the rows that did not succeed."""

    _found: dict[tuple[str, str, str], Reason] = field(factory=dict)

    def add(self, state: str, error: str, line: int, row: int, values: Collection[str] = ()) -> Reason:
        """Count a row, and return its reason.

        Args:
            state: the row's.
            error: class and message, as a journal keeps them.
            line: in the input.
            row: its place in the input, from 0.
            values: the row's own.
        """
        kind, message = split_error(error)
        fixed, places = _take_out(message, values)
        key = state, kind, fixed
        if key not in self._found and len(self._found) >= MAX_REASONS:
            key, fixed, places = (state, "", ""), "other reasons", []
        if (reason := self._found.get(key)) is None:
            reason = self._found[key] = Reason(key[0], key[1], fixed, list(places), line, row)
        else:
            reason.add(places, line, row)
        return reason

    def ordered(self) -> list[Reason]:
        """The reasons by state, the most frequent first."""
        order: Mapping[str, int] = {"failed": 0, "in_doubt": 1, "not_sent": 2}
        return sorted(self._found.values(), key=lambda reason: (order.get(reason.state, 3), -reason.count, reason.row))

    def lines(self) -> list[str]:
        """Describe each reason in a line."""
        reasons = self.ordered()
        lines = [
            f"  {reason.count:>9,} {reason.state.replace('_', ' ')}, first {reason.where}: {reason.words}" for reason in reasons
        ]
        more = len(lines) - SHOWN
        return lines if more <= 0 else [*lines[:SHOWN], f"  and {more:,} more reasons: report --json has all of them"]

    def as_list(self) -> list[dict[str, Any]]:
        """Return them as plain data, ready for JSON."""
        return [reason.as_dict() for reason in self.ordered()]


def _take_out(message: str, values: Collection[str]) -> tuple[str, list[str]]:
    """Take the values out of a message."""
    places: list[str] = []

    def replace(found: re.Match[str]) -> str:
        token = found[0]
        core = token if token[0] in "'\"" else token.strip(".,:;()[]")
        if not core or not ((token[0] in "'\"" and len(token) > 1) or core in values or _NUMBER.fullmatch(core)):
            return token
        places.append(core)
        return token.replace(core, _PLACE, 1)

    return _TOKEN.sub(replace, message.replace(_PLACE, " ")), places
