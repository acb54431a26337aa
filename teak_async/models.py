"""Requests and responses: frozen values, checked when they are made.

Rules of this module:

- A request that exists can be sent: whatever is wrong with it is found here, all of it at once, as one `InvalidRequest`.
- Only what Teak documents as impossible is refused. What merely looks odd is the server's to judge.
- Responses are what the server said, in attrs; a field is `None` only where the API documents it as optional.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import ip_address
from typing import TypeAlias, cast

from attrs import field, frozen

from .errors import InvalidRequest


class State(StrEnum):
    """A subscription state. `OPT_OUT` means that notifications stop."""

    OPT_IN = "opt_in"
    OPT_OUT = "opt_out"


class _Problems:
    """Gathers what is wrong with one request, so that its maker hears everything at once."""

    __slots__ = ("found", "request")

    def __init__(self, request: object) -> None:
        self.request = request
        self.found: dict[str, tuple[str, ...]] = {}

    def add(self, name: str, message: str) -> None:
        self.found[name] = (*self.found.get(name, ()), message)

    def text(self, name: str, value: object) -> str | None:
        """Check one parameter that must be text; give it back when it is."""
        if not isinstance(value, str):
            self.add(name, f"must be text, not {type(value).__name__}")
        elif not value.strip():
            self.add(name, "must not be empty")
        elif not value.isascii() and not _encodes(value):
            self.add(name, "has characters that are no valid Unicode text (a lone surrogate)")
        else:
            return value
        return None

    def state(self, value: object) -> None:
        if not isinstance(value, State):
            self.add("state", f"must be 'opt_in' or 'opt_out', not {value!r}")

    def settle(self) -> None:
        """Raise what was found, if anything was."""
        if self.found:
            name = type(self.request).__name__
            listed = "; ".join(f"{key} {message}" for key, messages in self.found.items() for message in messages)
            raise InvalidRequest(f"{name}: {listed}", errors=self.found)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# Converters only help: what they cannot convert stays as it is, for `__attrs_post_init__` to name with the other problems.


def _user_id(value: str | int) -> str:
    # Python writes out no number of thousands of digits, and nobody's player id is one.
    return str(value) if type(value) is int and value.bit_length() < 4096 else cast(str, value)


def _upper(value: str | None) -> str | None:
    return value.upper() if isinstance(value, str) and value.isascii() else value


def _state(value: State | str) -> State:
    return _STATES.get(value, cast(State, value)) if isinstance(value, str) else value


_COUNTRY = re.compile("[A-Z]{2}")
_STATES: dict[str, State] = {state.value: state for state in State}


@frozen
class Identify:
    """A player started a session: `POST /v2/identify`. Every one that the server processes is a new session.

    Args:
        user_id: the game's own player id; a number is taken as its text.
        client_ip: the player's address, for country lookup; wins over `country_code`. `127.0.0.1` when neither is known.
        country_code: two-letter ISO country; in place of `client_ip`.
        timezone_id: IANA name such as `Europe/Paris`; the server takes UTC when left out.
        email: stored for the player.
        deep_link: comes back resolved in the answer.

    Raises:
        InvalidRequest: with every problem in `.errors`.
    """

    user_id: str = field(converter=_user_id)
    client_ip: str | None = field(default=None, kw_only=True)
    country_code: str | None = field(default=None, converter=_upper, kw_only=True)
    timezone_id: str | None = field(default=None, kw_only=True)
    email: str | None = field(default=None, kw_only=True)
    deep_link: str | None = field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        problems = _Problems(self)
        problems.text("user_id", self.user_id)
        if self.client_ip is None and self.country_code is None:
            problems.add("location", "either client_ip or country_code is needed (client_ip='127.0.0.1' when neither is known)")
        if self.client_ip is not None and problems.text("client_ip", self.client_ip):
            try:
                ip_address(self.client_ip)
            except ValueError:
                # Not quoted, as it is a player's, with a port or beside a proxy's, and errors are logged.
                problems.add("client_ip", "must be one IPv4 or IPv6 address and nothing else, such as a port")
        code = self.country_code
        if code is not None and problems.text("country_code", code) and not _COUNTRY.fullmatch(code):
            # Quoted where it is a slip. What is longer may be another column.
            quoted = f", not {code!r}" if len(code) <= 3 else ""
            problems.add("country_code", f"must be a two-letter ISO country{quoted}")
        if self.timezone_id is not None:
            problems.text("timezone_id", self.timezone_id)
        if self.email is not None:
            problems.text("email", self.email)
        if self.deep_link is not None:
            problems.text("deep_link", self.deep_link)
        problems.settle()


@frozen
class GetSubscription:
    """Read a player's push subscription: `GET /v2/desktop_push/subscription_status`."""

    user_id: str = field(converter=_user_id)

    def __attrs_post_init__(self) -> None:
        problems = _Problems(self)
        problems.text("user_id", self.user_id)
        problems.settle()


@frozen
class SetSubscription:
    """Opt a player in or out of everything: `POST /v2/desktop_push/subscription_status`.

    Args:
        user_id: the game's own player id; a number is taken as its text.
        state: `State` or its text.
    """

    user_id: str = field(converter=_user_id)
    state: State = field(converter=_state)

    def __attrs_post_init__(self) -> None:
        problems = _Problems(self)
        problems.text("user_id", self.user_id)
        problems.state(self.state)
        problems.settle()


@frozen
class SetCategorySubscription:
    """Opt a player in or out of one category: `POST /v2/desktop_push/subscription_status/{category}`.

    Args:
        user_id: the game's own player id; a number is taken as its text.
        category: the category's identifier; any text but `.` and `..`, which no path can carry.
        state: `State` or its text.
    """

    user_id: str = field(converter=_user_id)
    category: str
    state: State = field(converter=_state)

    def __attrs_post_init__(self) -> None:
        problems = _Problems(self)
        problems.text("user_id", self.user_id)
        if problems.text("category", self.category) in (".", ".."):
            problems.add("category", "must not be '.' or '..': in a path they would name another address")
        problems.state(self.state)
        problems.settle()


@frozen
class PlayerSession:
    """What the server says to `Identify`.

    Attributes:
        session_id: the session's id; `None` when the server did not track it.
        country_code: two letters; empty when the lookup failed.
        opt_out_states: per channel (`email`, `push`, `sms`) its state; text as it came where it is no `State` we know.
        deep_link: the link resolved; `None` when none was sent.
    """

    country_code: str
    opt_out_states: Mapping[str, State | str] = field(hash=False)
    session_id: str | None = None
    deep_link: str | None = None


@frozen
class SubscriptionStatus:
    """A player's push subscription.

    Attributes:
        user_id: the player.
        channel: the push channel, `desktop_push`.
        state: across all of the player's desktop devices.
        reachable: whether any desktop device is registered.
        categories: category identifier → state.
    """

    user_id: str
    channel: str
    state: State
    reachable: bool
    categories: Mapping[str, State] = field(hash=False)


@frozen
class SubscriptionChange:
    """What the server says to `SetSubscription`: the status after it, and the state before.

    Attributes:
        previous_state: the state before this call; before an earlier try of it when `repeated`.
        repeated: an earlier try of the same call may have been applied, so `previous_state` may be our own.
    """

    user_id: str
    channel: str
    previous_state: State
    state: State
    reachable: bool
    categories: Mapping[str, State] = field(hash=False)
    repeated: bool = False


@frozen
class CategorySubscriptionChange:
    """What the server says to `SetCategorySubscription`.

    Attributes:
        category: the category's identifier.
        previous_state: the state before this call; before an earlier try of it when `repeated`.
        repeated: an earlier try of the same call may have been applied, so `previous_state` may be our own.
    """

    user_id: str
    channel: str
    previous_state: State
    state: State
    reachable: bool
    category: str
    repeated: bool = False


Request: TypeAlias = Identify | GetSubscription | SetSubscription | SetCategorySubscription
Response: TypeAlias = PlayerSession | SubscriptionStatus | SubscriptionChange | CategorySubscriptionChange
