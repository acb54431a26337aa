"""The error of an input that cannot be used, and the way a command reports an error."""

from __future__ import annotations

import errno
import re
import shutil
import sys
from contextlib import suppress
from typing import TextIO

import typer

from .wrap import wrap

REMEDIES = {
    errno.ENOENT: "name one that is there",
    errno.EISDIR: "name a file in it",
    errno.ENOTDIR: "name one in a folder",
    errno.EACCES: "name one that you may use",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.ELOOP: "name the file itself, since these links lead back to themselves",
    errno.ENOSPC: "make room, or name a place on another disk",
}
"""What to do about a file that the system refuses."""
_PARAMETERS = re.compile(r"\b(share(?==)|base_url)=?(['\"])?")


class InputError(Exception):
    """The input as a whole cannot be used; the message names the place and the remedy."""


def fail(message: str, code: int = 2) -> typer.Exit:
    """Report an error; return the exception that ends the command with an exit code."""
    say(f"teak-async: {message}")
    return typer.Exit(code)


def describe_refusal(error: OSError) -> str:
    """Return why the system refuses a file, and what to do."""
    remedy = REMEDIES.get(error.errno or 0)
    return f"{error.strerror}; {remedy}" if remedy else str(error.strerror)


def name_options(message: str) -> str:
    """Return a message of the library with the options of the command in place of the parameters."""
    return _PARAMETERS.sub(lambda found: f"--{found[1].replace('_', '-')}{' ' if found[2] else ''}{found[2] or ''}", message)


def say(message: str) -> None:
    """Write a line to standard error."""
    with suppress(OSError):  # the terminal may be lost; the exit code tells it, too
        typer.echo(fit(message, sys.stderr), err=True)


def fit(text: str, stream: TextIO | None) -> str:
    """Break lines at blanks where they go to a terminal. In a file a line stays a line."""
    if stream is None or not stream.isatty():
        return text
    return wrap(text, shutil.get_terminal_size().columns - 1)
