"""Players' subscriptions on the push channels: requests and responses. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import cast, final

from attrs import field, frozen

from teak_async._values import PlainText, to_id

from .base import Change, PlayerRequest, Problems, R_co, Response, to_member


class State(StrEnum):
    """A subscription state. `OPT_OUT` means that notifications stop."""

    OPT_IN = "opt_in"
    OPT_OUT = "opt_out"


class Channel(StrEnum):
    """A push channel, on which a player has a subscription of its own: desktop browsers, or mobile devices."""

    DESKTOP_PUSH = "desktop_push"
    PUSH = "push"


@frozen
class SubscriptionStatus(Response):
    """The response to `GetSubscription`: a player's push subscription.

    Attributes:
        user_id: the player.
        channel: the push channel as the server names it, such as `desktop_push`.
        state: across all of the player's devices of the channel.
        reachable: whether any such device is registered.
        categories: category identifier → state.
    """

    user_id: str
    channel: str
    state: State
    reachable: bool
    categories: Mapping[str, State] = field(hash=False)


@frozen
class _StateChange(Change):
    """The response to a request that sets a state: the state after it, and the one before.

    Attributes:
        user_id: the player.
        channel: the push channel as the server names it, such as `desktop_push`.
        previous_state: the state before this call, or, when `repeated`, before its last attempt.
        state: the state after it.
        reachable: whether any device of the channel is registered.
    """

    user_id: str
    channel: str
    previous_state: State
    state: State
    reachable: bool


@frozen
class SubscriptionChange(_StateChange):
    """The response to `SetSubscription`, with `categories` as `SubscriptionStatus` has them.

    `previous_state` is the state before this call. When `repeated`, an earlier attempt may have set it, so it may be this
    call's own.
    """

    categories: Mapping[str, State] = field(hash=False)


@frozen
class CategorySubscriptionChange(_StateChange):
    """The response to `SetCategorySubscription`, with the identifier of the `category`.

    `previous_state` is the state before this call. When `repeated`, an earlier attempt may have set it, so it may be this
    call's own.
    """

    category: str


def _to_state(value: State | PlainText) -> State:
    return cast(State, to_member(value, State))


def _to_channel(value: Channel | PlainText) -> Channel:
    return cast(Channel, to_member(value, Channel))


@frozen
class SubscriptionRequest(PlayerRequest[R_co]):
    """A request about a player's subscription on one channel.

    Args:
        user_id: the game's own player id; a number is taken as its text.
        channel: `Channel` or its text; a part of the path.
    """

    channel: Channel = field(default=Channel.DESKTOP_PUSH, converter=_to_channel, kw_only=True)

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        problems.check_member("channel", self.channel, Channel)


@final
@frozen
class GetSubscription(SubscriptionRequest[SubscriptionStatus]):
    """Read a player's push subscription: `GET /v2/{channel}/subscription_status`.

    Teak's page: "Desktop Web Subscription Management".
    """


@final
@frozen
class SetSubscription(SubscriptionRequest[SubscriptionChange]):
    """Opt a player in or out of everything: `POST /v2/{channel}/subscription_status`.

    Teak's page: "Desktop Web Subscription Management".

    Args:
        user_id: the game's own player id; a number is taken as its text.
        state: `State` or its text.
        channel: `Channel` or its text; `desktop_push` when left out.
    """

    state: State = field(converter=_to_state)

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        problems.check_member("state", self.state, State)


@final
@frozen
class SetCategorySubscription(SubscriptionRequest[CategorySubscriptionChange]):
    """Opt a player in or out of one category: `POST /v2/{channel}/subscription_status/{category}`.

    Teak's page: "Desktop Web Subscription Management".

    Args:
        user_id: the game's own player id; a number is taken as its text.
        category: the category's identifier; any text but `.` and `..`, which no path can carry.
        state: `State` or its text.
        channel: `Channel` or its text; `desktop_push` when left out.
    """

    category: str = field(converter=to_id)
    state: State = field(converter=_to_state)

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        problems.check_segment("category", self.category)
        problems.check_member("state", self.state, State)
