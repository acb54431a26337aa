"""Writes results as JSON Lines, one for each row, to a file or standard output."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from teak_async._bulk.outcomes import Outcome

from .errors import InputError
from .files import is_database, same_file
from .lines import LOOK_EVERY, STUCK_AFTER, LineThread, Target, target_of, wait_for_lines
from .source import RowSource

if TYPE_CHECKING:
    from typing import Self

MAX_LINES = 100
"""Lines that wait to be written at most; beyond that the run waits."""
SIDE_FILES = ("-wal", "-shm", "-lock", "-journal")
"""Endings of the files that SQLite and the lock keep beside a journal."""


class OutputError(Exception):
    """The results cannot be written any more."""


def check_not_journal(path: Path, journal: Path, remedy: str) -> None:
    """Check that a file is neither a journal nor one of the files beside it.

    Raises:
        InputError: when it is one of them.
    """
    if same_file(path, journal):
        raise InputError(f"{path}: this is the journal; {remedy}")
    for end in SIDE_FILES:
        if same_file(path, Path(f"{os.path.realpath(journal)}{end}")):
            raise InputError(f"{path}: this is the {end} file of the journal {journal}, a part of it; {remedy}")


def check_replaceable(path: Path, *, overwrite: bool) -> None:
    """Check that a file does not exist yet, is empty, or may be overwritten.

    Raises:
        InputError: when it holds something, such as the results of an earlier run.
    """
    if not overwrite and path.is_file() and path.stat().st_size:
        raise InputError(f"{path}: exists already; name another file, or give --overwrite")


def check_output(path: Path | None, rows: RowSource, journal: Path | None, *, overwrite: bool) -> None:
    """Check that the results can be written, and that no file of the run would overwrite another.

    Args:
        path: the file for results; `None` for standard output.
        rows: the input.
        journal: the run's journal; `None` for none.
        overwrite: whether results may replace those in a file. A run that goes on adds to its file.

    Raises:
        InputError: when the results cannot be written, or input, journal and results are not different files.
    """
    remedy = "write the results to another file"
    if journal is not None:
        for place in (journal, *(Path(f"{os.path.realpath(journal)}{end}") for end in SIDE_FILES)):
            if place.exists() and rows.is_file(place):
                raise InputError(
                    f"{place}: this is the input, and the journal would overwrite it; name another file as journal"
                )
    if path is None:
        stdout = _standard_output_file()
        if stdout is not None and rows.is_file(stdout):
            raise InputError(f"standard output is the input; {remedy}")
        if stdout is not None and journal is not None:
            check_not_journal(stdout, journal, remedy)
        return
    if path.exists() and rows.is_file(path):
        raise InputError(f"{path}: this is the input; {remedy}")
    if journal is not None:
        check_not_journal(path, journal, remedy)
    if path.suffix.lower() in (".gz", ".bz2", ".xz", ".zst", ".zstd"):
        raise InputError(f"{path}: results are not compressed; leave {path.suffix} out of the name")
    if is_database(path):
        raise InputError(f"{path}: this is a SQLite database, as a journal is one; {remedy}")
    if journal is None or not journal.exists():
        check_replaceable(path, overwrite=overwrite)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"{path}: cannot be written; name a file in a folder that you may write to")


def _standard_output_file() -> Path | None:
    """Return the file that standard output goes to, if the system can name it."""
    with suppress(OSError, ValueError, AttributeError):
        descriptor = sys.stdout.fileno()
        place = Path(f"/dev/fd/{descriptor}")
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and place.exists():
            return place
    return None


class ResultWriter:
    """Writes results in a thread. `async with` opens the output, and waits at the end until all is written.

    Args:
        path: the file; `None` for standard output.
        interrupts: the signals received so far. After one, the writer soon gives up on a stuck output.
        say: tells the user, once, that the output is stuck.
        journaled: whether the run has a journal. Its rows that were not sent have no line: the next run sends them.

    Raises:
        InputError: when the output cannot be opened.
    """

    def __init__(self, path: Path | None, interrupts: list[int], say: Callable[[str], None], *, journaled: bool) -> None:
        if path is None and sys.stdout is None:
            raise InputError("standard output is closed; name a file with --output")
        self._path = path
        self._created = path is not None and not path.exists()
        self._name = "standard output" if path is None else str(path)
        self._interrupts = interrupts
        self._say = say
        self._journaled = journaled
        self._said = False
        self._stop: Callable[[], None] = lambda: None
        loop = asyncio.get_running_loop()
        # In UTF-8, whatever the machine's encoding.
        open_target = partial(target_of, sys.stdout, "utf-8") if path is None else partial(_open_file, path)
        self._thread = LineThread("results", open_target, lambda: loop.call_soon_threadsafe(self._fail))

    @property
    def unwritten(self) -> int:
        """How many results are not written."""
        return self._thread.waiting

    @property
    def problem(self) -> str:
        """Why results cannot be written any more; empty while they can."""
        error = self._thread.failure
        return "" if error is None else f"cannot be written: {getattr(error, 'strerror', None) or error}"

    async def __aenter__(self) -> Self:
        self._thread.start()
        while self._thread.target is None:
            if self.problem:
                raise InputError(f"{self._path}: {self.problem}")
            if self._thread.stuck_for > STUCK_AFTER:
                self._say_once(f"nobody reads {self._name}; the run waits for a reader")
            await asyncio.sleep(LOOK_EVERY / 8)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.end()
        await self._wait(-1)
        if self._created and self._path is not None and self._path.is_file() and not self._path.stat().st_size:
            self._path.unlink()  # the run could not begin

    def begin(self, stop: Callable[[], None], *, resumed: bool) -> None:
        """Empty the file before the first result. A resumed run adds to it.

        Args:
            stop: called when results cannot be written any more.
            resumed: whether the run goes on.
        """
        self._stop = stop
        self._created = False
        if self._path is not None and self._path.is_file():  # neither standard output nor a pipe
            self._thread.call(partial(_begin_file, self._path, resumed))

    async def write(self, outcome: Outcome) -> None:
        """Write the line of a row, unless an earlier run has, or the next one will. Wait while too many are not written."""
        if outcome.known or (self._journaled and outcome.state == "not_sent"):
            return
        self._thread.put(json.dumps(outcome.as_dict(), ensure_ascii=False) + "\n")
        if self._thread.waiting > MAX_LINES and not self._interrupts:
            await self._wait(MAX_LINES)

    async def _wait(self, most: int) -> None:
        await wait_for_lines(self._thread, most, self._interrupts, self._say_stuck)

    def _say_stuck(self) -> None:
        stuck = (
            "its disk takes nothing"
            if self._path is not None and self._path.is_file()
            else f"the reader of {self._name} does not read"
        )
        self._say_once(f"the results cannot be written: {stuck}; the run waits")

    def _say_once(self, message: str) -> None:
        if not self._said:
            self._said = True
            self._say(message)

    def _fail(self) -> None:
        self._stop()


def _open_file(path: Path) -> Target:
    return Target(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666))


def _begin_file(path: Path, resumed: bool, target: Target) -> None:
    assert target.descriptor is not None
    if not resumed:
        os.ftruncate(target.descriptor, 0)
    elif path.stat().st_size:
        with path.open("rb") as written:
            written.seek(-1, os.SEEK_END)
            if written.read() != b"\n":
                target.write("\n")  # a kill has cut off the last line


def silence_broken_pipe() -> None:
    """Keep Python from reporting at exit that the reader of standard output is gone."""
    if sys.stdout is not None:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
