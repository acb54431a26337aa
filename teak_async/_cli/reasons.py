"""Groups the rows that did not succeed by their reason. Pure.

Errors have the same reason when they differ in values only: quoted text, numbers, and words that are values of the row
itself. A value shows as `…`, unless it is the same in all messages of the reason.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from attrs import define, field, frozen

MAX_REASONS = 1000
"""Reasons that are counted one by one; further ones are counted together, by state."""
WORDS = {"in_doubt": "in doubt", "not_sent": "of those not sent"}
"""States in words. Of the calls that nobody has sent, most have no reason: the run ended before it came to them."""
SHOWN = 10
"""Reasons shown to a person."""
_TOKEN = re.compile(
    r"""status \d+|(?<!\w)'(?:[^'\\]|\\.)*'(?!\w)|(?<!\w)"(?:[^"\\]|\\.)*"(?!\w)|[^\s'"]+|['"]""",
)
_NUMBER = re.compile(r"[+-]?\d+(?:[.,:]\d+)*")
_MARK = "\0"
_WHOLE = "\1"
_LINE = re.compile(r"line \d+: ")


def split_error(text: str) -> tuple[str, str]:
    """Split an error of a journal into its class and its message, without the line number at the start of the message."""
    kind, _, message = text.partition(": ")
    return kind, _LINE.sub("", message, count=1) if _LINE.match(message) else message


def describe_place(line: int, row: int) -> str:
    """Name a row by its line; by its place, from 0, in an input without lines."""
    return f"line {line:,}" if line else f"row {row:,}"


@define
class Reason:
    """One reason for which rows did not succeed.

    Attributes:
        state: the state of its rows.
        kind: the class of the error.
        template: the message with a mark in place of each value.
        values: the values; `None` for one that differs between messages.
        line: the first row's line; 0 where the input has no lines.
        row: the first row's place in the input, from 0.
        count: how many rows.
    """

    state: str
    kind: str
    template: str
    values: list[str | None]
    line: int
    row: int
    count: int = 1

    @property
    def message(self) -> str:
        """The message, for people."""
        parts = self.template.split(_MARK)
        shown = ("…" if value is None else value for value in self.values)
        return "".join(part + value for part, value in zip(parts, (*shown, ""), strict=True))

    @property
    def where(self) -> str:
        """The first row's line, or its place."""
        return describe_place(self.line, self.row)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, ready for JSON."""
        error, first = {"type": self.kind, "message": self.message}, {"line": self.line, "index": self.row}
        return {"state": self.state, "count": self.count, "error": error, "first": first}

    def add(self, values: Iterable[str], line: int, row: int) -> None:
        """Count one more row."""
        self.count += 1
        self.values = [old if old == new else None for old, new in zip(self.values, values, strict=True)]
        if row < self.row:
            self.line, self.row = line, row


@frozen
class Reasons:
    """The reasons of the rows that did not succeed."""

    _found: dict[tuple[str, str, str], Reason] = field(factory=dict)

    def add(self, state: str, error: str, line: int, row: int, values: Collection[str] = ()) -> Reason:
        """Count a row, and return its reason.

        Args:
            state: the row's state.
            error: class and message, as a journal keeps them.
            line: the row's line; 0 where the input has no lines.
            row: the row's place in the input, from 0.
            values: the row's own values.
        """
        kind, message = split_error(error)
        template, removed = _remove_values(message, values)
        key = state, kind, template
        if key not in self._found and len(self._found) >= MAX_REASONS:
            key, template, removed = (state, "", ""), "other reasons", []
        if (reason := self._found.get(key)) is None:
            reason = self._found[key] = Reason(key[0], key[1], template, list(removed), line, row)
        else:
            reason.add(removed, line, row)
        return reason

    def ordered(self) -> list[Reason]:
        """Return the reasons, the most frequent first."""
        return sorted(self._found.values(), key=lambda reason: (-reason.count, reason.row))

    def lines(self) -> list[str]:
        """Describe the most frequent reasons in a line each. The first of each state is one of them, however rare."""
        reasons = self.ordered()
        firsts = {reason.state: reason for reason in reversed(reasons)}
        shown = sorted(reasons, key=lambda reason: reason is not firsts[reason.state])[:SHOWN]
        lines = [
            f"  {reason.count:>9,} {WORDS.get(reason.state, reason.state)}, first {reason.where}: {reason.message}"
            for reason in reasons
            if any(reason is one for one in shown)
        ]
        more = len(reasons) - len(lines)
        return [*lines, f"  and {more:,} more reason{'s' * (more > 1)}: report --json has all of them"] if more else lines

    def as_list(self) -> list[dict[str, Any]]:
        """Return them as plain data, ready for JSON."""
        return [reason.as_dict() for reason in self.ordered()]


def _remove_values(message: str, values: Collection[str]) -> tuple[str, list[str]]:
    """Return a message with a mark in place of each value, and the values."""
    removed: list[str] = []
    # A value of several tokens, such as an id with a blank, is one value all the same.
    # The cell `why` of an earlier export may be the message itself, and hides nothing of it.
    inside = (value for value in values if value in message and value != message and not _TOKEN.fullmatch(value))
    whole = max(inside, key=len, default="")
    known = {*values, _WHOLE}

    def replace(found: re.Match[str]) -> str:
        token = found[0]
        core = token if token[0] in "'\"" else token.strip(".,:;()[]")
        if not core or not ((token[0] in "'\"" and len(token) > 1) or core in known or _NUMBER.fullmatch(core)):
            return token.replace(_WHOLE, whole)
        removed.append(core.replace(_WHOLE, whole))
        return token.replace(core, _MARK, 1)

    plain = message.replace(_MARK, " ").replace(_WHOLE, " ")
    return _TOKEN.sub(replace, plain.replace(whole, _WHOLE) if whole else plain), removed
