"""The columns that each command takes, and the requests that it makes of a row. Pure."""

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
"""The order in which the calls of a row are numbered."""


def describe_partial(channels: Sequence[str]) -> str:
    """Name the rows that are calls on these channels only, since they have no value for the others."""
    return f"rows without {'user_id' if EMAIL in channels else 'email'}, so on {' and '.join(channels)} only"


@frozen
class RowCallSchema:
    """A call that a command makes of a row, if the row has a value for `key`.

    Attributes:
        key: the parameter that names the player or the address.
        make: makes a request of the row's parameters.
    """

    key: str
    make: Callable[[dict[str, Any]], Request]


@frozen
class RowSchema:
    """The columns and calls of a command.

    Attributes:
        command: the command's name.
        columns: the parameters that a row may have.
        calls: the calls of a row; the row gets those for which it has a value.
        needed: groups of columns, each with its words in a message. The header needs one column of each group.
        filled: columns in which no cell may be empty.
        options: name and value of the options that decide what a row asks.
        limit: the figure of `Limits` that holds for each of the calls.
        only_ids: keep nothing of a row but the user_id in the journal and the results.
        channels: the channels of the calls; empty where calls have none.
    """

    command: str
    columns: tuple[str, ...]
    calls: tuple[RowCallSchema, ...]
    needed: tuple[tuple[tuple[str, ...], str], ...]
    filled: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    limit: str = "subscription"
    only_ids: bool = False
    channels: tuple[str, ...] = ()


def identify_schema() -> RowSchema:
    """Return the schema for `Identify`."""
    columns = ("user_id", "client_ip", "country_code", "timezone_id", "email", "deep_link")
    location = (
        ("client_ip", "country_code"),
        "a column client_ip or country_code (if you know neither: --constant client_ip=127.0.0.1)",
    )
    return RowSchema("identify", columns, _of_player(lambda row: Identify(**row)), (_USER_ID, location), limit="identify")


def status_schema(channels: Sequence[str] = CHANNELS[:1]) -> RowSchema:
    """Return the schema for reading subscriptions on some channels."""

    def call_on(channel: str) -> RowCallSchema:
        if channel == EMAIL:
            return RowCallSchema("email", lambda row: GetEmailSubscription(row["email"]))
        return RowCallSchema("user_id", lambda row: GetSubscription(row["user_id"], channel=channel))

    return _subscription_schema("status", channels, call_on)


def state_schema(state: State, category: str | None, channels: Sequence[str] = CHANNELS[:1]) -> RowSchema:
    """Return the schema for setting subscriptions on some channels: those of a category if the command or the row has one."""

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
    # An empty cell in a column of categories is a mistake. It must not opt the player out of everything.
    filled = () if category else ("category",)
    options = (*schema.options, *((("category", category),) if category else ()))
    return evolve(schema, columns=(*schema.columns, "category"), filled=filled, options=options)


def exclude_schema(until: datetime | None) -> RowSchema:
    """Return the schema for `CreateExclusion`. A row's `expire_at` overrides `until`."""
    options = () if until is None else (("until", until.isoformat()),)
    calls = _of_player(lambda row: CreateExclusion(row["user_id"], expire_at=row.get("expire_at", until)))
    return RowSchema("exclude", ("user_id", "expire_at"), calls, (_USER_ID,), options=options, limit="exclusions")


def end_exclusion_schema() -> RowSchema:
    """Return the schema for `DeleteExclusion`."""
    calls = _of_player(lambda row: DeleteExclusion(**row))
    return RowSchema("end-exclusion", ("user_id",), calls, (_USER_ID,), limit="exclusions")


def removal_schema() -> RowSchema:
    """Return the schema for `RemovePlayer`."""
    calls = _of_player(lambda row: RemovePlayer(**row))
    return RowSchema("remove-players", ("user_id",), calls, (_USER_ID,), limit="removals", only_ids=True)


def _of_player(make: Callable[[dict[str, Any]], Request]) -> tuple[RowCallSchema]:
    return (RowCallSchema("user_id", make),)


def _subscription_schema(command: str, channels: Sequence[str], call_on: Callable[[str], RowCallSchema]) -> RowSchema:
    calls = tuple(map(call_on, channels))
    keys = dict.fromkeys(call.key for call in calls)
    options = () if tuple(channels) == CHANNELS[:1] else (("channel", ",".join(channels)),)
    without = " ".join(f"--channel {channel}" for channel in channels if channel != EMAIL)
    email = (("email",), f"a column email (to do without: {without})") if without else _EMAIL
    needed = tuple(email if key == "email" else _USER_ID for key in keys)
    return RowSchema(command, tuple(keys), calls, needed, options=options, channels=tuple(channels))
