"""What each command takes of a row, and what makes a request of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from attrs import evolve, frozen

from teak_async.models import (
    Channel,
    CreateExclusion,
    DeleteExclusion,
    GetEmailSubscription,
    GetSubscription,
    Identify,
    RemovePlayer,
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


CHANNELS = (Channel.DESKTOP_PUSH.value, Channel.PUSH.value, EMAIL)
"""In the order in which a row's calls on them are numbered."""


@frozen
class RowCallSchema:
    """A call that a command makes of a row, if the row has a value for it.

    Attributes:
        key: the parameter that says whom the call is about.
        make: turns the row's parameters into a request.
    """

    key: str
    make: Callable[[dict[str, Any]], Request]


@frozen
class RowSchema:
    """What a command makes of a row.

    Attributes:
        command: its name.
        columns: the parameters a row may have.
        calls: that it makes of a row; of several, those for which the row has a value.
        needed: columns of which the header needs one, and how a message says so.
        filled: columns in which no cell may be empty.
        options: of the command that decide what a row asks, by their names.
        limit: the figure of `Limits` that holds for each of its calls, which have a bucket of their own.
        only_ids: whether journal and results hold no more of a row than whom it is about.
    """

    command: str
    columns: tuple[str, ...]
    calls: tuple[RowCallSchema, ...]
    needed: tuple[tuple[tuple[str, ...], str], ...]
    filled: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    limit: str = "subscription"
    only_ids: bool = False


def identify_schema() -> RowSchema:
    """Make the schema of rows for `Identify`."""
    columns = ("user_id", "client_ip", "country_code", "timezone_id", "email", "deep_link")
    location = ("client_ip", "country_code"), "a column client_ip or country_code (client_ip 127.0.0.1 where neither is known)"
    return RowSchema("identify", columns, _of_player(lambda row: Identify(**row)), (_USER_ID, location), limit="identify")


def status_schema(channels: Sequence[str] = CHANNELS[:1]) -> RowSchema:
    """Make the schema of rows for reading subscriptions on some channels."""

    def call_on(channel: str) -> RowCallSchema:
        if channel == EMAIL:
            return RowCallSchema("email", lambda row: GetEmailSubscription(row["email"]))
        return RowCallSchema("user_id", lambda row: GetSubscription(row["user_id"], channel=channel))

    return _subscription_schema("status", channels, call_on)


def state_schema(state: State, category: str | None, channels: Sequence[str] = CHANNELS[:1]) -> RowSchema:
    """Make the schema of rows for setting a state on some channels: that of a category where command or row has one."""

    def call_on(channel: str) -> RowCallSchema:
        def make(parameters: dict[str, Any]) -> Request:
            named = parameters.get("category", category)
            if channel == EMAIL:
                whom = parameters["email"]
                return SetEmailSubscription(whom, state) if named is None else SetEmailCategorySubscription(whom, named, state)
            if named is None:
                return SetSubscription(parameters["user_id"], state, channel=channel)
            return SetCategorySubscription(parameters["user_id"], named, state, channel=channel)

        return RowCallSchema("email" if channel == EMAIL else "user_id", make)

    schema = _subscription_schema(state.value.replace("_", "-"), channels, call_on)
    # An empty cell in a column of categories is a slip, and must not opt the player out of everything.
    filled = () if category else ("category",)
    options = (*schema.options, *((("category", category),) if category else ()))
    return evolve(schema, columns=(*schema.columns, "category"), filled=filled, options=options)


def exclude_schema(until: datetime | None) -> RowSchema:
    """Make the schema of rows for `CreateExclusion`; a row may say by itself when its exclusion ends."""
    options = () if until is None else (("until", until.isoformat()),)
    calls = _of_player(lambda row: CreateExclusion(row["user_id"], expire_at=row.get("expire_at", until)))
    return RowSchema("exclude", ("user_id", "expire_at"), calls, (_USER_ID,), options=options, limit="exclusions")


def end_exclusion_schema() -> RowSchema:
    """Make the schema of rows for `DeleteExclusion`."""
    calls = _of_player(lambda row: DeleteExclusion(**row))
    return RowSchema("end-exclusion", ("user_id",), calls, (_USER_ID,), limit="exclusions")


def removal_schema() -> RowSchema:
    """Make the schema of rows for `RemovePlayer`."""
    calls = _of_player(lambda row: RemovePlayer(**row))
    return RowSchema("remove-players", ("user_id",), calls, (_USER_ID,), limit="removals", only_ids=True)


def _of_player(make: Callable[[dict[str, Any]], Request]) -> tuple[RowCallSchema]:
    return (RowCallSchema("user_id", make),)


def _subscription_schema(command: str, channels: Sequence[str], call_on: Callable[[str], RowCallSchema]) -> RowSchema:
    calls = tuple(map(call_on, channels))
    keys = dict.fromkeys(call.key for call in calls)
    options = () if tuple(channels) == CHANNELS[:1] else (("channel", ",".join(channels)),)
    needed = tuple(_EMAIL if key == "email" else _USER_ID for key in keys)
    return RowSchema(command, tuple(keys), calls, needed, options=options)
