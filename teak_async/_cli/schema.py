"""What each command takes of a row, and what makes a request of it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from teak_async.models import GetSubscription, Identify, Request, SetCategorySubscription, SetSubscription, State

PARAMETERS = ("user_id", "client_ip", "country_code", "timezone_id", "email", "deep_link", "category")
"""The parameters of all commands."""
_USER_ID = ("user_id",), "a column user_id"


@frozen
class RowSchema:
    """What a command makes of a row.

    Attributes:
        command: its name.
        columns: the parameters a row may have.
        make: turns them into a request.
        needed: columns of which the header needs one, and how a message says so.
        filled: columns in which no cell may be empty.
        category: of all rows, where the command has one.
    """

    command: str
    columns: tuple[str, ...]
    make: Callable[[dict[str, Any]], Request]
    needed: tuple[tuple[tuple[str, ...], str], ...]
    filled: tuple[str, ...] = ()
    category: str | None = None


def identify_schema() -> RowSchema:
    """Make the schema of rows for `Identify`."""
    columns = ("user_id", "client_ip", "country_code", "timezone_id", "email", "deep_link")
    location = ("client_ip", "country_code"), "a column client_ip or country_code (client_ip 127.0.0.1 where neither is known)"
    return RowSchema("identify", columns, lambda parameters: Identify(**parameters), (_USER_ID, location))


def status_schema() -> RowSchema:
    """Make the schema of rows for `GetSubscription`."""
    return RowSchema("status", ("user_id",), lambda parameters: GetSubscription(**parameters), (_USER_ID,))


def state_schema(state: State, category: str | None) -> RowSchema:
    """Make the schema of rows for `SetSubscription`, or `SetCategorySubscription` where command or row has a category."""

    def make(parameters: dict[str, Any]) -> Request:
        parameters.setdefault("category", category)
        if parameters["category"] is None:
            return SetSubscription(parameters["user_id"], state)
        return SetCategorySubscription(state=state, **parameters)

    # An empty cell in a column of categories is a slip, and must not opt the player out of everything.
    filled = () if category else ("category",)
    return RowSchema(state.value.replace("_", "-"), ("user_id", "category"), make, (_USER_ID,), filled, category)
