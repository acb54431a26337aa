"""Makes rows of the records of an input: checks each value, and builds the requests."""

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
"""The key of an error about `client_ip` and `country_code`, of which one is needed. Its message names both."""
FRACTION = "a user_id that is a number with a fraction"


@define
class RowMaker:
    """Makes the rows of one input.

    Attributes:
        schema: the command's.
        constants: parameter → its value in all rows.
        as_is: take each value unchecked.
        null_words: the words for a missing value.
        findings: the odd values so far.
    """

    schema: RowSchema
    constants: Mapping[str, str] = field(factory=dict)
    as_is: bool = False
    null_words: frozenset[str] = NO_VALUES
    findings: Findings = field(factory=Findings)

    def check_constants(self) -> None:
        """Check the constants by a request of each kind with nothing else: a wrong one would fail every row.

        Raises:
            InvalidRequest: when a constant is wrong, with its problems alone.
        """
        for call in self.schema.calls if self.constants else ():
            try:
                call.make({call.key: "1", **self.constants})
            except InvalidRequest as error:
                wrong = {name: messages for name, messages in error.errors.items() if name in self.constants}
                if wrong:
                    raise _name_columns(InvalidRequest(str(error), errors=wrong)) from None

    def make(self, line: int, source: str, values: Iterable[tuple[str, Any]]) -> list[Row]:
        """Make the rows of a record, one for each call. A problem gives one row that fails.

        Args:
            line: the record's line in the input.
            source: the record's text.
            values: pairs of parameter and value. Texts have no white space around them; `None` is an empty cell.
        """
        parameters: dict[str, Any] = {**self.constants} if self.constants else {}
        problems: dict[str, tuple[str, ...]] = {}
        empty: list[str] = []
        null_words, as_is, maybe_changed = self.null_words, self.as_is, MAYBE_CHANGED.match
        for name, value in values:
            if value is None:
                empty.append(name)
            elif as_is or (
                # Most values pass here, at the price of a few quick checks.
                value.isascii()
                and value.isprintable()
                and value not in null_words
                and (name != "user_id" or not maybe_changed(value))
                if type(value) is str
                else type(value) is not float
            ):
                parameters[name] = value
            elif found := self._check_value(name, value, line):
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
            message = f"the column {unfilled[0]} is empty here; to mean all, leave the column out of the file"
            return [fail(line, source, InvalidRequest(message), parameters.get("user_id"))]
        # A row without an email has no call on that channel.
        calls: Sequence[RowCallSchema] = [call for call in self.schema.calls if call.key in parameters]
        if not calls:
            # A row without any key gets the first call, whose request is invalid.
            calls = self.schema.calls[:1]
            parameters[calls[0].key] = ""
        return [self._make_call(call, line, source, parameters, part) for part, call in enumerate(calls)]

    @staticmethod
    def _make_call(call: RowCallSchema, line: int, source: str, parameters: dict[str, Any], part: int) -> Row:
        try:
            return Row(call.make(parameters), source, line, True, parameters.get("user_id"), part)
        except InvalidRequest as error:
            return fail(line, source, _name_columns(error), parameters.get("user_id"), part)

    def _check_value(self, name: str, value: Any, line: int) -> Finding | None:
        text: str = value if type(value) is str else "NaN" if isnan(value) else repr(value)
        found = find_oddity(name, text, self.null_words)
        if found is not None:
            # Other values, such as an email, are personal.
            shown = f" {text[:60]!r}" if name == "user_id" or found.kind == NO_VALUE else ""
            self.findings.add(found.kind, f"line {line:,}, {name}{shown}")
        elif type(value) is float and name == "user_id":
            self.findings.add(FRACTION, f"line {line:,}, {name} {text}")
        return found


def _name_columns(error: InvalidRequest) -> InvalidRequest:
    """Return an error that names the columns, in place of the request's class and the parameters."""
    listed = "; ".join(f"{'' if name == LOCATION else f'{name}: '}{message}" for name, (message, *_) in error.errors.items())
    return InvalidRequest(listed.replace("client_ip='127.0.0.1'", "client_ip 127.0.0.1") or str(error), errors=error.errors)


def fail(line: int, source: str, problem: InvalidRequest, user_id: object = None, part: int = 0) -> Row:
    """Make the row of a record that cannot be sent. It keeps a user_id that is printable text."""
    known = user_id if isinstance(user_id, str) and user_id and user_id.isprintable() else None
    return Row(InvalidRequest(f"line {line}: {problem}", errors=problem.errors), source, line, user_id=known, part=part)
