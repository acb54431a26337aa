"""The error of an input that cannot be used, and the way a command reports an error."""

from __future__ import annotations

from contextlib import suppress

import typer


class InputError(Exception):
    """The input as a whole cannot be used; the message names the place and the remedy."""


def fail(message: str, code: int = 2) -> typer.Exit:
    """Report an error; return the exception that ends the command with an exit code."""
    say(f"teak-async: {message}")
    return typer.Exit(code)


def say(message: str) -> None:
    """Write a line to standard error."""
    with suppress(OSError):  # the terminal may be lost; the exit code tells it, too
        typer.echo(message, err=True)
