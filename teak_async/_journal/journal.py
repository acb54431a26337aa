"""The journal of a bulk run: a SQLite file that has, for each row, the intent to send it and its result.

A row's *intent* is on disk before the row is sent, its *result* after its response. So a killed run leaves three kinds of rows:
those with a result, those without an intent, and those in between, whose fate only the server knows. `IntentSlots` bounds how
many intents are ahead of their sends, so a kill leaves in doubt the rows on the wire and at most a group more.

Rules of this package:

- A row is known by its place in the input, by its part where it is one of a row's calls, and by a digest of its request. Other
  input for the same journal is an error.
- A row whose attempt certainly did nothing, and that will be sent again, is `not_sent` until its next intent.
- One process at a time: the file beside it that ends in `-lock` is held as long as the journal is open, and stays.
- The secret is not in it. The rows are, so it is as confidential as the input.

To look into it, also while a run goes on; the schema explains each column:

    sqlite3 run.db .schema
    sqlite3 run.db "SELECT state, count(*) FROM rows GROUP BY state"
    sqlite3 run.db "SELECT row, part, user_id, error FROM rows WHERE state = 'failed' LIMIT 20"
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from attrs import evolve

from teak_async._leaving import Decisions, wait_for_end

from .database import describe_run, mark_whole
from .earlier_run import CHUNK, read_known, read_resume_point
from .row import KnownRow, Place, id_of
from .writer import Writer


class Journal:
    """An open journal.

    Attributes:
        last_known: the highest index of an earlier run; -1 for a new journal.
        recently_sent: endpoint's name → calls that an earlier run may have sent in the last moments.
        last_holder: the member of a shared limit that made the earlier run, if that was killed; empty otherwise.
        write: writes how far a row came; see `Writer.write`.
        loop: the one on which it is open.
        ended: done when nothing more is written; its result is the error that prevented it, or `None`.
    """

    def __init__(
        self, writer: Writer, last: int, recently_sent: Counter[str], overtaken: frozenset[Place], holder: str
    ) -> None:
        self._writer = writer
        self.write = writer.write
        self.loop = writer.loop
        self._known: dict[int, KnownRow] = {}
        self._known_until = 0
        self._overtaken = overtaken
        self.last_known = last
        self.recently_sent = recently_sent
        self.last_holder = holder
        self.ended = writer.ended

    @classmethod
    async def open(cls, path: str | Path, about: Mapping[str, Any], holder: str = "") -> Journal:
        """Open a journal or make it.

        Args:
            path: of the SQLite file.
            about: description of the run, kept as text; that of an existing journal has to be the same.
            holder: the member of a shared limit that makes the run, if there is one.

        Raises:
            JournalError: when it is of another run, in use, no journal, or cannot be written.
        """
        writer = Writer(Path(path), describe_run(Path(path), about, holder), asyncio.get_running_loop())
        writer.start()
        try:
            await writer.opened
            resume_point = writer.read(read_resume_point)
            await asyncio.wait({resume_point, writer.ended}, return_when=asyncio.FIRST_COMPLETED)
            if not resume_point.done() and (failure := writer.ended.result()) is not None:
                raise failure
            return cls(writer, *await resume_point)
        except BaseException as error:
            writer.end()
            # Also for a caller who was cancelled: the next run must not find the journal in use.
            await wait_for_end(writer.ended, Decisions(error), lambda: None)
            raise

    def find_loaded_row(self, index: int) -> KnownRow | None:
        """Return what an earlier run wrote of a row's first call, as far as that was loaded for a row before it."""
        return self._known.get(id_of(index))

    async def find_known_row(self, index: int, part: int = 0) -> KnownRow | None:
        """Find what an earlier run wrote of a call of a row; later calls ask about later rows."""
        if index >= self._known_until:
            self._known = await self._writer.read(partial(read_known, index))
            self._known_until = index + CHUNK
        known = self._known.get(id_of(index, part))
        return evolve(known, overtaken=True) if known is not None and (index, part) in self._overtaken else known

    def hurry(self) -> None:
        """Have what was written so far made durable without waiting for more: rows wait for that."""
        self._writer.hurry()

    def mark_whole(self, *, whole: bool) -> None:
        """Write whether the journal has each row of the input; only reports need it, so nobody waits for that."""
        self._writer.read(partial(mark_whole, whole)).add_done_callback(
            lambda written: written.cancelled() or written.exception()
        )

    def end(self) -> None:
        """Have the rest written and the file closed, without waiting for that."""
        self._writer.end()

    async def close(self) -> None:
        """Write the rest and close the file.

        Raises:
            JournalError: when something could not be written.
        """
        self.end()
        failure = await asyncio.shield(self._writer.ended)
        if failure is not None:
            raise failure
