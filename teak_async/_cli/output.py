"""Where results go: JSON Lines, one for each row, in a file or on standard output."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from teak_async._api.codec import unstructure
from teak_async._bulk.outcomes import Outcome
from teak_async.errors import InvalidRequest

from .input import InputError, RowReader, same_file

ERRORS = "backslashreplace"
"""What becomes of a character that no encoding has, and that a server may send: a backslash escape, which is still JSON."""


class OutputError(Exception):
    """The results cannot be written any more."""


def check_output(path: Path, rows: RowReader, journal: Path | None) -> None:
    """Check that results can be written to a file, and that it is neither the input nor the journal.

    Raises:
        InputError: when it cannot be, or is one of them.
    """
    if path.exists() and rows.is_file(path):
        raise InputError(f"{path}: this is the input; write the results to another file")
    if journal is not None and same_file(path, journal):
        raise InputError(f"{path}: this is the journal; write the results to another file")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"{path}: cannot be written; name a file in a folder that you may write to")


@contextmanager
def open_output(path: Path | None) -> Iterator[TextIO]:
    """Open the file, or standard output for `None`; what stands in the file stays there.

    Raises:
        InputError: when it cannot be opened.
        OutputError: when writing to it fails.
    """
    try:
        if path is None:
            yield _open_standard_output()
        else:
            with _open_file(path) as file:
                yield file
    except OSError as error:
        raise OutputError(f"the results cannot be written: {error.strerror}") from None


def begin_output(file: TextIO, path: Path | None, *, resumed: bool) -> None:
    """Empty the file before the first result; a resumed run adds to it."""
    if path is None or not path.is_file():  # standard output, a pipe
        return
    if not resumed:
        file.truncate(0)
    elif path.stat().st_size:
        with path.open("rb") as written:
            written.seek(-1, os.SEEK_END)
            if written.read() != b"\n":
                file.write("\n")  # a full disk or a kill cut the last line off


def write_result(file: TextIO, outcome: Outcome) -> None:
    """Write one row's line."""
    file.write(json.dumps(result(outcome), ensure_ascii=False) + "\n")


def result(outcome: Outcome) -> dict[str, Any]:
    """Make one row's line of output."""
    line: dict[str, Any] = {"index": outcome.index, "line": outcome.line}
    if outcome.request is not None:
        line["user_id"] = outcome.request.user_id
    line |= {"delivery": outcome.delivery.value, "attempts": outcome.attempts}
    if outcome.response is not None:
        line["response"] = unstructure(outcome.response)
    if outcome.error is not None:
        error: dict[str, Any] = {"type": type(outcome.error).__name__, "message": str(outcome.error)}
        if outcome.error.status is not None:
            error["status"] = outcome.error.status
        if isinstance(outcome.error, InvalidRequest) and outcome.error.errors:
            error["errors"] = outcome.error.errors
        line["error"] = error
    return line


def _open_standard_output() -> TextIO:
    if sys.stdout is None:
        raise InputError("standard output is closed; name a file with --output")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A killed command leaves whole lines, since each is written by itself.
        sys.stdout.reconfigure(encoding="utf-8", errors=ERRORS, line_buffering=True)
    return sys.stdout


def _open_file(path: Path) -> TextIO:
    try:
        return cast(TextIO, path.open("a", encoding="utf-8", errors=ERRORS, buffering=1))  # as above, line by line
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def silence_broken_pipe() -> None:
    """Keep Python from complaining at exit that the reader of standard output has gone."""
    if sys.stdout is not None:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
