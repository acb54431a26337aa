"""The game behind the sandbox: its players, in memory, and what sessions and push subscriptions do to them.

A player has a subscription on each push channel, and the channel is a value of the call: no handler knows which there are.
"""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import UTC, datetime
from functools import cache
from ipaddress import ip_address
from typing import Any, TypeAlias
from zoneinfo import available_timezones

from attrs import define, field, frozen

DESKTOP_PUSH = "desktop_push"
STATES = ("opt_in", "opt_out")

Response: TypeAlias = tuple[int, dict[str, Any]]
"""Status and body."""


@define
class Subscription:
    """A player's subscription on one channel.

    Attributes:
        state: of the channel as a whole.
        categories: category identifier → state.
    """

    state: str = "opt_in"
    categories: dict[str, str] = field(factory=dict)


@define
class Player:
    """A player as the server knows it.

    Attributes:
        sessions: how many sessions were recorded.
        email: the last one given.
        channels: channel → subscription, created when it is first used.
    """

    sessions: int = 0
    email: str | None = None
    channels: defaultdict[str, Subscription] = field(factory=lambda: defaultdict(Subscription))

    @property
    def state(self) -> str:
        """Subscription state on desktop push."""
        return self.channels[DESKTOP_PUSH].state

    @state.setter
    def state(self, state: str) -> None:
        self.channels[DESKTOP_PUSH].state = state

    @property
    def categories(self) -> dict[str, str]:
        """Category identifier → state on desktop push."""
        return self.channels[DESKTOP_PUSH].categories


@frozen
class Call:
    """A call as a handler gets it.

    Attributes:
        channel: from the path.
        parameters: from the path, and from the query or the body.
    """

    channel: str
    parameters: dict[str, Any]

    @property
    def user_id(self) -> str:
        """The player that the call names."""
        return str(self.parameters.get("user_id", ""))


@define
class Address:
    """An email address as the server knows it; its owner, if it has one, is the player with that `email`.

    Attributes:
        state: `available` until somebody sets another one; `spam_report` resists an opt-out.
        delivery_fault: whether mail came back.
        categories: category identifier → state.
    """

    state: str = "available"
    delivery_fault: bool = False
    categories: dict[str, str] = field(factory=dict)


@frozen
class Exclusion:
    """A player's exclusion from all marketing.

    Attributes:
        created_at: when it was first created.
        expire_at: when it ends; `None` when it does not end by itself.
    """

    created_at: datetime
    expire_at: datetime | None


class CallRejected(Exception):
    """A call that was not done; `response` says why."""

    def __init__(self, status: int, **errors: str) -> None:
        super().__init__(status, errors)
        self.response: Response = status, error_body(**errors)


class Game:
    """The players, and a handler for each call about sessions and push subscriptions.

    Args:
        categories: those that every player and address starts with on every channel, opted in.

    Attributes:
        players: by user id.
        addresses: by the address without the case of its letters.
        exclusions: by user id; those that have expired stay in it.
        unsubscriptions: addresses that opted out, with the instant.
    """

    def __init__(self, categories: tuple[str, ...]) -> None:
        self.players: dict[str, Player] = {}
        self.addresses: dict[str, Address] = {}
        self.exclusions: dict[str, Exclusion] = {}
        self.unsubscriptions: list[tuple[datetime, str]] = []
        self.categories = categories
        self._owners: dict[str, str] = {}
        self._sessions = 0

    def count_opted_out(self) -> dict[str, int]:
        """Count those that are opted out of a whole channel: players on push, addresses on email."""
        counts: dict[str, int] = dict.fromkeys((DESKTOP_PUSH, "push"), 0)
        for player in self.players.values():
            for channel, subscription in player.channels.items():
                counts[channel] += subscription.state == "opt_out"
        return {**counts, "email": sum(address.state == "opt_out" for address in self.addresses.values())}

    def exclusion_of(self, user_id: str) -> Exclusion | None:
        """Return a player's exclusion, unless it has expired."""
        found = self.exclusions.get(user_id)
        return None if found is None or (found.expire_at is not None and found.expire_at <= datetime.now(UTC)) else found

    def give_address(self, user_id: str, email: str) -> str | None:
        """Make an address a player's, and return who had it before: it has one owner at a time."""
        before = self._owners.get(email.casefold())
        if before is not None:
            self.take_address(before)
        self.take_address(user_id)
        self._owners[email.casefold()] = user_id
        self.players[user_id].email = email
        return None if before == user_id else before

    def take_address(self, user_id: str) -> str | None:
        """Make a player one without an address, and return it."""
        player = self.players.get(user_id)
        if player is None or player.email is None:
            return None
        email, player.email = player.email, None
        self._owners.pop(email.casefold(), None)
        return email

    def add_player(self, user_id: str, state: str = "opt_in", categories: dict[str, str] | None = None) -> Player:
        """Add a player without a session."""
        initial = dict.fromkeys(self.categories, "opt_in")
        player = self.players[user_id] = Player(channels=defaultdict(lambda: Subscription(categories=dict(initial))))
        player.state = state
        player.categories.update(categories or {})
        return player

    def identify(self, call: Call) -> Response:
        """Record a session."""
        parameters = call.parameters
        errors = {}
        user_id = parameters.get("user_id")
        if not isinstance(user_id, str) or not user_id:
            errors["user_id"] = "must be provided"
        address, country = parameters.get("client_ip"), parameters.get("country_code")
        if not address and not country:
            errors["location"] = "either client_ip or country_code must be provided"
        zone = parameters.get("timezone_id", "UTC")
        if not _is_time_zone(zone):
            errors["timezone_id"] = f"{zone} is not a recognized IANA timezone name"
        if errors or not isinstance(user_id, str):
            raise CallRejected(400, **errors)
        player = self.players.get(user_id) or self.add_player(user_id)
        player.sessions += 1
        if (email := parameters.get("email")) and self.exclusion_of(user_id) is None:
            self.give_address(user_id, str(email))
        self._sessions += 1
        body = {
            "country_code": _find_country(address) if address else str(country),
            "session_id": str(self._sessions),
            "opt_out_states": {channel: {"state": state} for channel, state in self._states_of(player).items()},
        }
        link = parameters.get("deep_link")
        if isinstance(link, str):
            filled = re.sub(r"{{(\w+)}}", lambda match: str(parameters.get(match[1], "")), link)
            body["deep_link"] = filled if link.startswith("teak") else link
        return 201, body

    def _states_of(self, player: Player) -> dict[str, str]:
        """Return the states that the response to an identify has; the sandbox sends nobody a text message."""
        address = self.addresses.get((player.email or "").casefold())
        email = "opt_in" if address is None or address.state == "available" else address.state
        return {"email": email, "push": player.channels.get("push", Subscription()).state, "sms": "opt_in"}

    def read_subscription(self, call: Call) -> Response:
        """Read a player's state on a channel."""
        subscription = self._find_subscription(call)
        return _respond_ok(call, state=subscription.state, categories=subscription.categories)

    def set_subscription(self, call: Call) -> Response:
        """Set a player's state on a channel."""
        subscription, state = self._find_subscription(call), read_state(call, STATES)
        previous, subscription.state = subscription.state, state
        return _respond_ok(call, previous_state=previous, state=state, categories=subscription.categories)

    def set_category(self, call: Call) -> Response:
        """Set a player's state in one category of a channel."""
        subscription, state = self._find_subscription(call), read_state(call, STATES)
        category = call.parameters["category"]
        previous = subscription.categories.get(category, "opt_in")
        subscription.categories[category] = state
        return _respond_ok(call, previous_state=previous, state=state, category=category)

    def _find_subscription(self, call: Call) -> Subscription:
        return self.find_player(call).channels[call.channel]

    def find_player(self, call: Call) -> Player:
        """Find the player that a call names."""
        player = self.players.get(call.user_id)
        if player is None:
            raise CallRejected(404, user_id=f"No player with id {call.user_id}")
        return player


def error_body(**errors: str) -> dict[str, Any]:
    """Make the body of an error: parameter → message."""
    return {"status": "error", "errors": {name: [message] for name, message in errors.items()}}


def _respond_ok(call: Call, **values: Any) -> Response:
    return 200, {"status": "ok", "channel": call.channel, "user_id": call.user_id, "reachable": False, **values}


def read_state(call: Call, states: tuple[str, ...]) -> str:
    """Read the state that a call sets."""
    state = call.parameters.get("state")
    if state not in states:
        raise CallRejected(404, state=f"Unknown state {state}")
    return str(state)


def _find_country(address: str) -> str:
    try:
        return "US" if ip_address(address).is_global or address.startswith("203.0.113.") else ""
    except ValueError:
        return ""


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _is_time_zone(zone: Any) -> bool:
    # Without a time zone database no name can be checked, so every name is accepted.
    return isinstance(zone, str) and (zone in _time_zones() or not _time_zones())
