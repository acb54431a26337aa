"""The journal of a bulk run: a SQLite file that knows of every row whether it was meant to be sent, and how it ended.

Theory of operation. Before a row is sent its *intent* is on disk, after its answer its *result*. A killed run so leaves
three kinds of rows: ended ones, ones that were never intended, and those in between, whose fate only the server knows.
A thread of its own writes in groups, one transaction and one sync a group (WAL, `synchronous=FULL`), and tells the loop
when a group is durable. Few rows are intended ahead of their send (see `intents.py`), so what is in doubt after a kill is what
was on the wire and no more than a group.

Rules of this module:

- A row is known by its place in the input and by a digest of what it asks. A journal met with other input is an error.
- A row whose try certainly did nothing, and that will be tried again, is `waiting` until its next intent.
- One process at a time: the file beside it that ends in `-lock` is held as long as the journal is open, and stays.
- The secret is not in it. The rows are, so it is as confidential as the input.

To look into it, also while a run goes on:

    sqlite3 run.db "SELECT state, count(*) FROM rows GROUP BY state"
    sqlite3 run.db "SELECT idx, user_id, error FROM rows WHERE state = 'failed' LIMIT 20"

    table run   what the run is, as names and values: game_id, form and header of the input, created (seconds, Unix time),
                log (see store.py)
    table rows  idx       place in the input, from 0
                call      the endpoint's name
                user_id   the player
                digest    of what the row asks
                source    the row as it stood in the input, or as JSON; a blob where it is no UTF-8; empty where it was too long
                state     waiting, intent, done, unread (done, by an answer that cannot be understood), failed, in_doubt
                attempts, delivery, error, response (JSON) of the result
                at        when the state was written, in seconds of Unix time
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from attrs import field, frozen

from teak_async._api.codec import as_json
from teak_async._api.endpoints import ENDPOINTS
from teak_async.models import Request

from .database import CHUNK, KnownRow, Text, Values, read_known, read_resume_point
from .writer import Writer


@frozen
class Entry:
    """A row as the journal names it.

    Attributes:
        index: place in the input, from 0.
        digest: of what it asks.
        source: as it stood in the input, or as JSON.
        call: the endpoint's name; `None` for a row that could not be read.
        user_id: the player.
    """

    index: int
    digest: str
    source: str | None = field(repr=False)
    call: str | None
    user_id: str | None

    @classmethod
    def of(cls, index: int, request: Request | None, source: str | None) -> Entry:
        """Make the entry of a request, or of the source of a row that is none."""
        if request is None:
            return cls(index, _digest("?", source or ""), source, None, None)
        name = ENDPOINTS[type(request)].name
        asked = as_json(request)
        return cls(index, _digest(name, asked), asked if source is None else source, name, request.user_id)


class Result(NamedTuple):
    """What becomes of a row, as it is written."""

    state: str
    attempts: int = 0
    delivery: str | None = None
    error: str | None = None
    response: str | None = None


FINISHED = ("done", "unread", "failed")
"""States of a row that an earlier run finished."""
DOUBTED = ("intent", "in_doubt")
"""States in which an earlier run leaves a row that may have been done."""
INTENT = Result("intent")
WAITING = Result("waiting")


def _digest(name: str, asked: str) -> str:
    return blake2b(f"{name}\0{asked}".encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _values(entry: Entry, result: Result) -> Values:
    state, attempts, delivery, error, response = result
    error = None if error is None else _text(error)  # it may quote what no encoding has
    source = _stored(entry.source)
    return (
        entry.index,
        entry.call,
        entry.user_id,
        entry.digest,
        source,
        state,
        attempts,
        delivery,
        error,
        response,
        time.time(),
    )


def _stored(source: str | None) -> Text:
    if source is None or _text(source) == source:
        return source
    with suppress(UnicodeEncodeError):  # where it has half a character, which no file can have held
        return source.encode(errors="surrogateescape")
    return _text(source)


def _text(message: str) -> str:
    return message.encode(errors="backslashreplace").decode()


class Journal:
    """An open journal.

    Attributes:
        last: the highest index of an earlier run; -1 for a new journal.
        spent: calls by endpoint's name that an earlier run may have sent within the last moments.
        ended: is done when nothing is written any more, with what prevented it.
    """

    def __init__(self, writer: Writer, last: int, spent: Counter[str]) -> None:
        self._writer = writer
        self._known: dict[int, KnownRow] = {}
        self._read = 0
        self.last = last
        self.recently_sent = spent
        self.ended = writer.ended

    @classmethod
    async def open(cls, path: str | Path, about: dict[str, str]) -> Journal:
        """Open a journal or make it.

        Args:
            path: of the SQLite file.
            about: what the run is; an existing journal has to say the same.

        Raises:
            JournalError: when it is another run's, in use, no journal, or cannot be written.
        """
        writer = Writer(Path(path), about, asyncio.get_running_loop())
        writer.start()
        try:
            await writer.opened
            state = writer.read(read_resume_point)
            await asyncio.wait({state, writer.ended}, return_when=asyncio.FIRST_COMPLETED)
            if not state.done() and (failure := writer.ended.result()) is not None:
                raise failure
            last, spent = await state
        except BaseException as error:
            writer.end()
            if isinstance(error, Exception):  # who was cancelled leaves at once
                await asyncio.shield(writer.ended)
            raise
        return cls(writer, last, spent)

    async def known(self, index: int) -> KnownRow | None:
        """What an earlier run wrote of a row; to be asked in the order of the input."""
        while index >= self._read and self._read <= self.last:
            start, self._read = self._read, self._read + CHUNK
            self._known = await self._writer.read(partial(read_known, start))
        return self._known.pop(index, None)

    async def write_intent(self, entry: Entry) -> None:
        """Write that a row is about to be sent; durable on return."""
        await self._writer.written(_values(entry, INTENT))

    def retract_intent(self, entry: Entry) -> None:
        """Write that an intended row was certainly not done, and may be sent again."""
        self._writer.put(_values(entry, WAITING))

    def record_result(self, entry: Entry, result: Result, then: Callable[[Exception | None], None]) -> None:
        """Write how a row ended; `then` is called once that is durable, or with what prevented it."""
        self._writer.put(_values(entry, result), lambda failure, _: then(failure))

    def end(self) -> None:
        """Have what is left written and the file let go of, without waiting for that."""
        self._writer.end()

    async def close(self) -> None:
        """Write what is left and let go of the file.

        Raises:
            JournalError: when what was put could not be written.
        """
        self.end()
        failure = await asyncio.shield(self._writer.ended)
        if failure is not None:
            raise failure
