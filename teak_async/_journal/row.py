"""A row of the journal, and the states that it passes through."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from numbers import Number
from pathlib import PurePath
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from attrs import define

from teak_async._api.endpoints import endpoint_of
from teak_async._api.structure import as_json
from teak_async.errors import JournalError
from teak_async.models import Request

Text = str | bytes | None
"""The source of a row: bytes if it is no UTF-8."""
Place: TypeAlias = tuple[int, int]
"""Of a call: its row in the input, and its part of that row, each from 0."""

PARTS = 1 << 20
"""Calls of a row at most."""
FINISHED = ("succeeded", "failed")
"""States of a row that an earlier run finished."""
MAYBE_DONE = ("intent", "in_doubt")
"""States in which an earlier run leaves a row that may have been done."""


class Note(str):
    """What a run says of itself that the next run of its journal may say otherwise, such as the name of its input."""

    __slots__ = ()


@define
class KnownRow:
    """What an earlier run wrote of a row. Nothing changes one; a frozen one takes three times as long to make."""

    digest: str
    state: str
    overtaken: bool = False
    """Whether it is a set that may have been done, and a later call that it would undo certainly was."""


class JournalRow(NamedTuple):
    """What the table `calls` has before `at`, column by column: where a call of a row stood, and what it asks."""

    id: int
    call: str | None
    channel: str | None
    category: str | None
    user_id: str | None
    digest: str
    source: Text
    line: int

    @classmethod
    def of(
        cls, index: int, request: Request | None, source: Any, line: int = 0, user_id: str | None = None, *, part: int = 0
    ) -> JournalRow:
        """Make the row of a request, or of the source of a row that could not be read.

        Raises:
            TypeError: when the source has no one text.
        """
        if source is not None and type(source) is not str:
            source = text_of(source, f"the source of row {index}")
        if request is None:
            return cls(id_of(index, part), None, None, None, user_id, _digest("?", source or ""), _storable(source), line)
        name = endpoint_of(request).name
        asked = as_json(request)
        channel, category = getattr(request, "channel", None), getattr(request, "category", None)
        kept = _storable(asked if source is None else source)
        what = name, None if channel is None else str(channel), category, request.subject
        return cls(id_of(index, part), *what, _digest(name, asked), kept, line)


class RowState(NamedTuple):
    """What the table `states` has after `id`, column by column: how far a call came.

    Written over an earlier one, it keeps that one's first error, adds its attempts and pauses, and replaces the rest.
    """

    state: str
    attempts: int
    pauses: int
    delivery: str | None
    first_error: str | None
    error: str | None
    response: str | None
    at: float | None = None

    def moment(self, written: float) -> float:
        """Return when it came so far: an intent, when it was written."""
        return written if self.at is None else self.at

    @classmethod
    def of(
        cls,
        state: str,
        *,
        attempts: int = 0,
        pauses: int = 0,
        delivery: str | None = None,
        first_error: Exception | None = None,
        error: Exception | None = None,
        response: str | None = None,
    ) -> RowState:
        """Make the state that a row has from now on; an intent holds from the time at which it is written."""
        last = None if error is None else _describe(error)
        first = last if first_error is None else _describe(first_error)
        return cls(state, attempts, pauses, delivery, first, last, response, None if state == "intent" else time.time())


INTENT = RowState.of("intent")
"""The state of a row that is about to be sent."""


class Write(NamedTuple):
    """A state of a row to write.

    Attributes:
        id: of the row.
        state: the state that it has from now on.
        row: what it asks, where the run has not written that yet; an earlier run may have.
        done: called with `subject` when that is durable, or with the error that prevented it, too; `None` where nobody waits.
        subject: what `done` is about. A function bound to it would be three objects more a row.
    """

    id: int
    state: RowState
    row: JournalRow | None
    done: Callable[[Any, JournalError | None], None] | None = None
    subject: Any = None


def id_of(row: int, part: int = 0) -> int:
    """Return the number by which a journal knows a call: in the order of the input, and each row's one after the other."""
    return row * PARTS + part


def digest_of(request: Request) -> str:
    """Give the digest by which a journal knows a request again.

    Raises:
        InvalidRequest: when it is none that can be sent.
    """
    return _digest(endpoint_of(request).name, as_json(request))


def text_of(value: Any, what: str) -> str:
    """Return the text of a value that has one: of a number its digits, of bytes their characters.

    Raises:
        TypeError: when the value has no one text.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode(errors="surrogateescape")
    if isinstance(value, Number | UUID | PurePath):
        return str(value)
    # The text of any other object may have its memory address, and then a resumed run would take the row for another one.
    raise TypeError(f"{what} is of the type {type(value).__name__}; give it as text")


def _digest(name: str, asked: str) -> str:
    return blake2b(f"{name}\0{asked}".encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _storable(source: str | None) -> Text:
    if source is None or source.isascii() or _escape(source) == source:
        return source
    with suppress(UnicodeEncodeError):  # other lone surrogates come from no file
        return source.encode(errors="surrogateescape")
    return _escape(source)


def _describe(error: Exception) -> str:
    # The message may quote a lone surrogate.
    return _escape(f"{type(error).__name__}: {error}")


def _escape(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
