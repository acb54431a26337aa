"""Makes commands of groups of options, and reads the values of the options.

typer reports a wrong value in the words of a validation library. This module reads each number, choice and switch itself, so
that every message says what the option takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from functools import partial, wraps
from inspect import Parameter, Signature, signature
from math import inf, isfinite
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import typer

Choice = TypeVar("Choice", bound=StrEnum)
SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False, "": False}
"""Values of a switch in the environment."""


def read_number(kind: type[int | float], least: float, most: float, given: object) -> float:
    """Read a number within its bounds.

    Raises:
        BadParameter: when the value is no number, or out of bounds.
    """
    text = str(given).strip()
    if kind is int and re.fullmatch(r"\d{1,3}(,\d{3})+", text):
        text = text.replace(",", "")  # as messages write it
    try:
        number = kind(text)
    except ValueError:
        number = inf
    if not (isfinite(number) and least <= number <= most):
        bounds = "" if least == -inf else f" of at least {least:g}" if most == inf else f" from {least:g} to {most:g}"
        raise typer.BadParameter(f"{str(given)!r} is not a {'whole ' if kind is int else ''}number{bounds}.")
    return number


def read_choice(choices: type[Choice], given: object) -> Choice:
    """Read one of several words.

    Raises:
        BadParameter: when the value is none of them.
    """
    try:
        return choices(str(given))
    except ValueError:
        raise typer.BadParameter(f"{str(given)!r} is none of {', '.join(choices)}.") from None


def read_switch(given: object) -> bool:
    """Read a switch, as a variable of the environment sets it.

    Raises:
        BadParameter: when the value is neither on nor off.
    """
    if (found := SWITCH.get(str(given).strip().lower())) is None:
        raise typer.BadParameter(f"{str(given)!r} is neither 1 nor 0.")
    return found


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each parameter, and for each field of a parameter that is a NamedTuple."""
    groups: dict[str, Any] = {}
    parameters: list[Parameter] = []
    for parameter in signature(command, eval_str=True).parameters.values():
        group: Any = parameter.annotation
        if hasattr(group, "_fields"):
            groups[parameter.name] = group
            defaults = group._field_defaults
            parameters += [
                Parameter(name, Parameter.KEYWORD_ONLY, default=defaults.get(name, Parameter.empty), annotation=hint)
                for name, hint in get_type_hints(group, include_extras=True).items()
            ]
        else:
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))
    for parameter in parameters:
        _set_parser(*get_args(parameter.annotation))

    @wraps(command)
    def run_command(**given: Any) -> None:
        built = {name: group(*(given.pop(field) for field in group._fields)) for name, group in groups.items()}
        command(**built, **given)

    # typer reads both.
    run_command.__signature__ = Signature(parameters)  # type: ignore[attr-defined] # inspect's own protocol, in no stub
    run_command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run_command


def _set_parser(hint: Any, option: Any) -> None:
    """Give an option the reader for its type, if there is one, and a name for its value in the help."""
    kind = next((found for found in get_args(hint) or (hint,) if found is not type(None)), hint)
    if get_origin(kind) is list:
        (kind,) = get_args(kind)
    if kind in (int, float):
        least, most = (bound if given is None else given for bound, given in ((-inf, option.min), (inf, option.max)))
        option.parser = partial(read_number, kind, least, most)
        option.metavar = option.metavar or "N"
        option.min = option.max = None
    elif kind is bool:
        option.parser = read_switch
    elif isinstance(kind, type) and issubclass(kind, StrEnum):
        option.parser = partial(read_choice, kind)
        option.metavar = "|".join(kind)
    else:
        option.metavar = option.metavar or ("FILE" if kind is Path else "TEXT")
