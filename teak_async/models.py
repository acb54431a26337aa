"""Requests and responses: frozen values, checked when they are made.

A request's type names the type of its response, so `TeakSession.call` has one signature for all of them.

Rules of this module:

- A request that exists can be sent: one `InvalidRequest` names every problem of one that does not.
- A request is invalid only where Teak documents it as impossible. The server judges what merely looks odd.
- A field of a response is `None` only where the API documents it as optional.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, cast

from attrs import field, frozen

from ._values import PlainText, kind_of_address, problem_of, to_id, to_optional_text, to_text
from .errors import InvalidRequest

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # The default makes `Request` alone a complete type, also for a strict checker. Python's own TypeVar has it from 3.13 on.
    R_co = TypeVar("R_co", bound="Response", covariant=True, default="Response")
else:
    from typing import TypeVar

    R_co = TypeVar("R_co", covariant=True)


class State(StrEnum):
    """A subscription state. `OPT_OUT` means that notifications stop."""

    OPT_IN = "opt_in"
    OPT_OUT = "opt_out"


class Channel(StrEnum):
    """A push channel, on which a player has a subscription of its own."""

    DESKTOP_PUSH = "desktop_push"


STATES: Mapping[str, State] = {state.value: state for state in State}
_CHANNELS: Mapping[str, Channel] = {channel.value: channel for channel in Channel}
_COUNTRY = re.compile("[A-Z]{2}")


@frozen
class Response:
    """The server's response to a call that it has done."""


@frozen
class PlayerSession(Response):
    """The response to `Identify`.

    Attributes:
        session_id: the session's id; `None` when the server did not track it.
        country_code: two letters; empty when the lookup failed.
        opt_out_states: per channel (`email`, `push`, `sms`) its state; text where the server names another state.
        deep_link: the link resolved; `None` when none was sent.
    """

    country_code: str
    opt_out_states: Mapping[str, State | str] = field(hash=False)
    session_id: str | None = None
    deep_link: str | None = None


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
class _Change(Response):
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
class SubscriptionChange(_Change):
    """The response to `SetSubscription`, with `categories` as `SubscriptionStatus` has them.

    `previous_state` is the state before this call. When `repeated`, it may be this call's own, set by an earlier attempt.
    """

    categories: Mapping[str, State] = field(hash=False)
    repeated: bool = False


@frozen
class CategorySubscriptionChange(_Change):
    """The response to `SetCategorySubscription`, with the identifier of the `category`.

    `previous_state` is the state before this call. When `repeated`, it may be this call's own, set by an earlier attempt.
    """

    category: str
    repeated: bool = False


class _Problems(dict[str, tuple[str, ...]]):
    """The problems of one request by parameter, gathered so that one error names all of them."""

    __slots__ = ()

    def add(self, name: str, message: str) -> None:
        self[name] = (message,)

    def check_text(self, name: str, value: object, *, numbers: bool = False) -> str | None:
        """Check a parameter that must be text, or with `numbers` a whole number before its conversion; return a valid one."""
        if type(value) is str and value.isascii() and not value.isspace() and value:  # as most are
            return value
        if not isinstance(value, str):
            self.add(name, problem_of(value, numbers=numbers))
        elif not value.strip():
            self.add(name, "must not be empty")
        elif not value.isascii() and value.encode(errors="ignore").decode() != value:
            self.add(name, "has characters that are no valid Unicode text (a lone surrogate)")
        else:
            return value
        return None

    def check_member(self, name: str, value: object, kind: type[StrEnum]) -> None:
        """Check a parameter that must be a member of an enumeration."""
        if not isinstance(value, kind):
            self.add(name, f"must be {' or '.join(repr(member.value) for member in kind)}, not {value!r}")

    def raise_if_any(self, request: Request) -> None:
        """Raise one error for all problems."""
        if self:
            listed = "; ".join(f"{name}: {message}" for name, (message,) in self.items())
            raise InvalidRequest(f"{type(request).__name__}: {listed}", errors=dict(self))


# A converter returns a value that it cannot convert unchanged, and `__attrs_post_init__` names it with the other problems.


def _to_country(value: PlainText | None) -> str | None:
    text = to_optional_text(value)
    return text.upper() if isinstance(text, str) and text.isascii() else text


def _to_state(value: State | PlainText) -> State:
    text = value if type(value) is State else to_text(value)
    return STATES.get(text, cast(State, value)) if isinstance(text, str) else cast(State, value)


def _to_channel(value: Channel | PlainText) -> Channel:
    text = value if type(value) is Channel else to_text(value)
    return _CHANNELS.get(text, cast(Channel, value)) if isinstance(text, str) else cast(Channel, value)


@frozen
class Request(Generic[R_co]):
    """A request about one player; `R_co` is the type of its response.

    Args:
        user_id: the game's own player id. A value with one plain text is taken as that: a whole number, a `UUID`, an
            enumeration's member by its value. A float is invalid.

    Raises:
        InvalidRequest: with every problem in `.errors`.
    """

    user_id: str = field(converter=to_id)

    def __attrs_post_init__(self) -> None:
        problems = _Problems()
        problems.check_text("user_id", self.user_id, numbers=True)
        self._check(problems)
        problems.raise_if_any(self)

    def _check(self, problems: _Problems) -> None:
        """Add the problems of the other parameters."""


@frozen
class Identify(Request[PlayerSession]):
    """A player started a session: `POST /v2/identify`. Every one that the server processes is a new session.

    Teak's page: "Server to Server Player Sessions".

    Args:
        user_id: the game's own player id; a number is taken as its text.
        client_ip: the player's address, also as an `ipaddress` object, for country lookup; wins over `country_code`.
            `127.0.0.1` when neither is known.
        country_code: two-letter ISO country; in place of `client_ip`.
        timezone_id: IANA name such as `Europe/Paris`, or a `ZoneInfo`; the server takes UTC when left out.
        email: stored for the player.
        deep_link: comes back resolved in the response.

    Raises:
        InvalidRequest: with every problem in `.errors`.
    """

    client_ip: str | None = field(default=None, converter=to_optional_text, kw_only=True)
    country_code: str | None = field(default=None, converter=_to_country, kw_only=True)
    timezone_id: str | None = field(default=None, converter=to_optional_text, kw_only=True)
    email: str | None = field(default=None, converter=to_optional_text, kw_only=True)
    deep_link: str | None = field(default=None, converter=to_optional_text, kw_only=True)

    def _check(self, problems: _Problems) -> None:
        if self.client_ip is None and self.country_code is None:
            problems.add("location", "either client_ip or country_code is needed (client_ip='127.0.0.1' when neither is known)")
        ip = self.client_ip
        if ip is not None and problems.check_text("client_ip", ip) and (kind := kind_of_address(ip)):
            # Not quoted, since errors are logged and this may be a player's address, with a port or beside a proxy's.
            problems.add("client_ip", f"must be one IPv4 or IPv6 address, not {kind}")
        code = self.country_code
        if code is not None and problems.check_text("country_code", code) and not _COUNTRY.fullmatch(code):
            # Quoted if it is short, as a slip is. A longer text may be of another column.
            quoted = f", not {code!r}" if len(code) <= 3 else ""
            problems.add("country_code", f"must be a two-letter ISO country{quoted}")
        for name in ("timezone_id", "email", "deep_link"):
            if (value := getattr(self, name)) is not None:
                problems.check_text(name, value)


@frozen
class SubscriptionRequest(Request[R_co]):
    """A request about a player's subscription on one channel.

    Args:
        user_id: the game's own player id; a number is taken as its text.
        channel: `Channel` or its text; a part of the path.
    """

    channel: Channel = field(default=Channel.DESKTOP_PUSH, converter=_to_channel, kw_only=True)

    def _check(self, problems: _Problems) -> None:
        problems.check_member("channel", self.channel, Channel)


@frozen
class GetSubscription(SubscriptionRequest[SubscriptionStatus]):
    """Read a player's push subscription: `GET /v2/{channel}/subscription_status`.

    Teak's page: "Desktop Web Subscription Management".
    """


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

    def _check(self, problems: _Problems) -> None:
        super()._check(problems)
        problems.check_member("state", self.state, State)


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

    def _check(self, problems: _Problems) -> None:
        super()._check(problems)
        if problems.check_text("category", self.category, numbers=True) in (".", ".."):
            problems.add("category", "must not be '.' or '..': in a path they would name another address")
        problems.check_member("state", self.state, State)
