"""Records to rows: the cells by their parameters, what is odd about them, and the request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from typing import Any

from attrs import define, field

from teak_async._bulk.outcomes import Row
from teak_async.errors import InvalidRequest

from .schema import RowCallSchema, RowSchema
from .values import MAYBE_CHANGED, NO_VALUE, NO_VALUES, Finding, Findings, find_oddity

LOCATION = "location"
"""What an error calls the two columns of which one is needed; its message names them."""
FRACTION = "a user_id that is a number with a fraction"


@define
class RowMaker:
    """Makes the rows of one input.

    Attributes:
        schema: of the command.
        constants: parameters of all rows.
        as_is: whether to take every value as it is.
        words: those that stand for no value.
        findings: what was odd so far.
    """

    schema: RowSchema
    constants: Mapping[str, str] = field(factory=dict)
    as_is: bool = False
    words: frozenset[str] = NO_VALUES
    findings: Findings = field(factory=Findings)

    def make(self, line: int, source: str, values: Iterable[tuple[str, Any]]) -> list[Row]:
        """Make the rows of a record: one for each call.

        Args:
            line: where it stands.
            source: the record's text.
            values: parameter and value; texts without white space around them, `None` for an empty cell.
        """
        parameters: dict[str, Any] = {**self.constants} if self.constants else {}
        problems: dict[str, tuple[str, ...]] = {}
        empty: list[str] = []
        words, as_is, maybe_changed = self.words, self.as_is, MAYBE_CHANGED.match
        for name, value in values:
            if value is None:
                empty.append(name)
            elif as_is or (
                # A plain text that nothing is odd about takes no further checks, as most values are.
                value.isascii()
                and value.isprintable()
                and value not in words
                and (name != "user_id" or not maybe_changed(value))
                if type(value) is str
                else type(value) is not float
            ):
                parameters[name] = value
            elif found := self._look_at(name, value, line):
                if found.problem is None:
                    empty.append(name)
                else:
                    problems[name] = (found.problem,)
            else:
                parameters[name] = value
        if problems:
            listed = "; ".join(f"{name}: {message}" for name, (message,) in problems.items())
            return [fail(line, source, InvalidRequest(listed, errors=problems), parameters.get("user_id"))]
        if empty and (unfilled := [name for name in self.schema.filled if name in empty]):
            message = f"the column {unfilled[0]} is empty here; leave it out of the file to mean all"
            return [fail(line, source, InvalidRequest(message), parameters.get("user_id"))]
        calls = self._calls_of(parameters)
        if calls[0].key not in parameters:
            parameters[calls[0].key] = ""
        return [self._make_call(call, line, source, parameters, part) for part, call in enumerate(calls)]

    def _calls_of(self, parameters: Mapping[str, Any]) -> Sequence[RowCallSchema]:
        # A row without an address has no call on email. One with neither fails as a row of a single call does.
        given = [call for call in self.schema.calls if call.key in parameters]
        return given or self.schema.calls[:1]

    @staticmethod
    def _make_call(call: RowCallSchema, line: int, source: str, parameters: dict[str, Any], part: int) -> Row:
        try:
            return Row(call.make(parameters), source, line, user_id=parameters.get("user_id"), part=part)
        except InvalidRequest as error:
            return fail(line, source, _in_columns(error), parameters.get("user_id"), part)

    def _look_at(self, name: str, value: Any, line: int) -> Finding | None:
        text: str = value if type(value) is str else "NaN" if isnan(value) else repr(value)
        found = find_oddity(name, text, self.words)
        if found is not None:
            # An address or an email stays out of what is shown.
            shown = f" {text[:60]!r}" if name == "user_id" or found.kind == NO_VALUE else ""
            self.findings.add(found.kind, f"line {line}, {name}{shown}")
        elif type(value) is float and name == "user_id":
            self.findings.add(FRACTION, f"line {line}, {name} {text}")
        return found


def _in_columns(error: InvalidRequest) -> InvalidRequest:
    """Name columns in an error, where the library names the class of the request and its parameters."""
    listed = "; ".join(f"{'' if name == LOCATION else f'{name}: '}{message}" for name, (message, *_) in error.errors.items())
    return InvalidRequest(listed.replace("client_ip='127.0.0.1'", "client_ip 127.0.0.1") or str(error), errors=error.errors)


def fail(line: int, source: str, problem: InvalidRequest, user_id: object = None, part: int = 0) -> Row:
    """Make the row of a record that cannot be sent; its player is known only as text."""
    known = user_id if isinstance(user_id, str) and user_id and user_id.isprintable() else None
    return Row(InvalidRequest(f"line {line}: {problem}", errors=problem.errors), source, line, user_id=known, part=part)
