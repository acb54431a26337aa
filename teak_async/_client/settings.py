"""The parameters of a session, from its caller or from the environment: check their types, leave out white space."""

from __future__ import annotations

import logging
import os
from math import isfinite

from teak_async._notify import log


def check_type(name: str, value: object, kinds: tuple[type, ...], example: str, number: float = 0) -> None:
    """Raise a `TypeError` that shows how to write it, unless a value is of one of some types.

    Args:
        name: of the parameter.
        value: what was given.
        kinds: the types.
        example: how to write it, with a place for a number.
        number: stands there unless a number was given that can be meant. A float is one if this one is.
    """
    if isinstance(value, kinds):
        return
    what = f"of type {type(value).__name__}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        what = f"the number {value}"
        can_be = isfinite(value) and value > 0 if isinstance(number, float) else isinstance(value, int) and value >= 1
        number = value if can_be else number
    names = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
    raise TypeError(f"{name} must be {names}, not {what}: write {example.format(number)}")


def credential(given: str | int | None, variable: str) -> str:
    """Return a credential, or an empty text if none can be sent. The error is not raised here, in a frame with its value."""
    value = os.environ.get(variable, "") if given is None else given
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    # A key that was read from a file or copied from a mail brings white space along.
    value = value.strip() if isinstance(value, str) else ""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        log(logging.WARNING, "%s begins and ends with a quotation mark: does the mark belong to the value?", variable)
    return value if value.encode(errors="ignore").decode() == value else ""


def check_credential(what: str, name: str, kind: type, *, is_set: bool) -> None:
    """Raise an error that says what to do unless a credential can be sent. Its value stays out of this frame.

    Args:
        what: it is to people.
        name: of the session's parameter.
        kind: the type that was given.
        is_set: whether `credential` returned a text.
    """
    if kind is bool or not issubclass(kind, str | int | None):
        raise TypeError(f"{name} must be text, not {kind.__name__}{'; decode it' if issubclass(kind, bytes) else ''}")
    if not is_set:
        raise ValueError(f"no {what}: set TEAK_{name.upper()} in the environment, or pass {name}=… to TeakSession")


def set_in_environment(variable: str) -> str:
    """Return a variable of the environment without white space around it; an empty text if it is not set."""
    return os.environ.get(variable, "").strip()
