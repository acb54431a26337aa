"""What each command takes of a row, and what makes a request of it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from attrs import frozen

from teak_async.models import (
    Channel,
    CreateExclusion,
    DeleteExclusion,
    GetEmailSubscription,
    GetSubscription,
    Identify,
    Request,
    SetCategorySubscription,
    SetEmailCategorySubscription,
    SetEmailSubscription,
    SetSubscription,
    State,
)

EMAIL = "email"
"""The channel whose subscriptions belong to addresses, and not to players."""

PARAMETERS = ("user_id", "client_ip", "country_code", "timezone_id", "email", "deep_link", "category", "expire_at")
"""The parameters of all commands."""
_USER_ID = ("user_id",), "a column user_id"
_EMAIL = ("email",), "a column email"


@frozen
class RowSchema:
    """What a command makes of a row.

    Attributes:
        command: its name.
        columns: the parameters a row may have.
        make: turns them into a request.
        needed: columns of which the header needs one, and how a message says so.
        filled: columns in which no cell may be empty.
        options: of the command that decide what a row asks, by their names.
        limit: the figure of `Limits` that holds for its calls.
        key: the parameter that says whom a row is about.
    """

    command: str
    columns: tuple[str, ...]
    make: Callable[[dict[str, Any]], Request]
    needed: tuple[tuple[tuple[str, ...], str], ...]
    filled: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    limit: str = "subscription"
    key: str = "user_id"


def identify_schema() -> RowSchema:
    """Make the schema of rows for `Identify`."""
    columns = ("user_id", "client_ip", "country_code", "timezone_id", "email", "deep_link")
    location = ("client_ip", "country_code"), "a column client_ip or country_code (client_ip 127.0.0.1 where neither is known)"
    return RowSchema("identify", columns, lambda parameters: Identify(**parameters), (_USER_ID, location), limit="identify")


def status_schema(channel: str = Channel.DESKTOP_PUSH) -> RowSchema:
    """Make the schema of rows for reading a subscription on a channel."""
    options = _channel_option(channel)
    if channel == EMAIL:
        return RowSchema("status", ("email",), lambda row: GetEmailSubscription(**row), (_EMAIL,), options=options, key="email")
    return RowSchema("status", ("user_id",), lambda row: GetSubscription(**row, channel=channel), (_USER_ID,), options=options)


def state_schema(state: State, category: str | None, channel: str = Channel.DESKTOP_PUSH) -> RowSchema:
    """Make the schema of rows for setting a state on a channel: that of a category where command or row has one."""
    key, needed = ("email", _EMAIL) if channel == EMAIL else ("user_id", _USER_ID)

    def make(parameters: dict[str, Any]) -> Request:
        whom, named = parameters[key], parameters.get("category", category)
        if channel == EMAIL:
            return SetEmailSubscription(whom, state) if named is None else SetEmailCategorySubscription(whom, named, state)
        if named is None:
            return SetSubscription(whom, state, channel=channel)
        return SetCategorySubscription(whom, named, state, channel=channel)

    # An empty cell in a column of categories is a slip, and must not opt the player out of everything.
    filled = () if category else ("category",)
    options = (*_channel_option(channel), *((("category", category),) if category else ()))
    command = state.value.replace("_", "-")
    return RowSchema(command, (key, "category"), make, (needed,), filled, options, key=key)


def exclude_schema(until: datetime | None) -> RowSchema:
    """Make the schema of rows for `CreateExclusion`; a row may say by itself when its exclusion ends."""
    options = () if until is None else (("until", until.isoformat()),)

    def make(parameters: dict[str, Any]) -> Request:
        return CreateExclusion(parameters["user_id"], expire_at=parameters.get("expire_at", until))

    return RowSchema("exclude", ("user_id", "expire_at"), make, (_USER_ID,), options=options, limit="exclusions")


def end_exclusion_schema() -> RowSchema:
    """Make the schema of rows for `DeleteExclusion`."""
    return RowSchema("end-exclusion", ("user_id",), lambda row: DeleteExclusion(**row), (_USER_ID,), limit="exclusions")


def _channel_option(channel: str) -> tuple[tuple[str, str], ...]:
    return () if channel == Channel.DESKTOP_PUSH else (("channel", channel),)
