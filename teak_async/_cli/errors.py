"""What ends a command before it sends anything, and how a command says it."""

from __future__ import annotations

from contextlib import suppress

import typer


class InputError(Exception):
    """The input as a whole cannot be used; the message names the place and the remedy."""


def fail(message: str, code: int = 2) -> typer.Exit:
    """Say what is wrong; give what ends the command with this exit code."""
    say(f"teak-async: {message}")
    return typer.Exit(code)


def say(message: str) -> None:
    """Write a line to standard error."""
    with suppress(OSError):  # the exit code tells it also where standard error has gone, as that of a lost terminal
        typer.echo(message, err=True)
