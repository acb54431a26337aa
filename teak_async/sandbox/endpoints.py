"""The endpoints of the sandbox in one table. Routing, limits, counts and responses follow from it.

Adding an endpoint is one row here and, where the call is a new one, a handler in `game`, `email` or `privacy`. Adding a push
channel is a row for each of its paths: the channel is the path's second segment, and the handlers take it as a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias
from urllib.parse import unquote

from attrs import field, frozen

from . import email, privacy
from .game import Call, Game, Response

IDENTIFY = "/v2/identify"
STATUS = "/v2/desktop_push/subscription_status"
CATEGORY = "/v2/desktop_push/subscription_status/:category_identifier"

Handler: TypeAlias = Callable[[Game, Call], Response]


Limit: TypeAlias = Literal["identify", "subscription", "email", "unsubscriptions", "exclusions", "removals", "categories"]
LIMITS: Mapping[str, int] = {
    "identify": 200,
    "subscription": 300,
    "email": 300,
    "unsubscriptions": 50,
    "exclusions": 60,
    "removals": 60,
    "categories": 5,
}
"""Requests per second, as Teak documents."""


@frozen
class Endpoint:
    """One row of the table. All its calls count against one limit.

    Attributes:
        name: one word, as `fail_next` takes it.
        path: with placeholders, as a 429 and the counts name it. `:x` or `:x_identifier` stands for one segment, the
            parameter `x`.
        limit: the one of `LIMITS` that holds.
        handlers: HTTP method → handler.
    """

    name: str
    path: str
    limit: Limit
    handlers: Mapping[str, Handler]
    _pattern: re.Pattern[str] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        pattern = re.sub(r":(\w+?)(?:_identifier)?(?=/|$)", r"(?P<\1>[^/]+)", re.escape(self.path))
        object.__setattr__(self, "_pattern", re.compile(pattern))

    @property
    def channel(self) -> str:
        """The path's second segment."""
        return self.path.split("/")[2]

    def match(self, raw_path: str) -> dict[str, str] | None:
        """Return the decoded parameters of a path, or `None` where it is another endpoint's."""
        found = self._pattern.fullmatch(raw_path)
        return None if found is None else {name: unquote(value) for name, value in found.groupdict().items()}


_SUBSCRIPTION: Mapping[str, Handler] = {"GET": Game.read_subscription, "POST": Game.set_subscription}
_ADDRESS: Mapping[str, Handler] = {"GET": email.read_address, "POST": email.set_address, "DELETE": email.remove_address}
_EXCLUSIONS: Mapping[str, Handler] = {
    "GET": privacy.list_exclusions,
    "POST": privacy.create_exclusion,
    "DELETE": privacy.end_exclusion,
}

ENDPOINTS = (
    Endpoint("identify", IDENTIFY, "identify", {"POST": Game.identify}),
    Endpoint("desktop_push_status", STATUS, "subscription", _SUBSCRIPTION),
    Endpoint("desktop_push_category", CATEGORY, "subscription", {"POST": Game.set_category}),
    Endpoint("push_status", STATUS.replace("desktop_", ""), "subscription", _SUBSCRIPTION),
    Endpoint("push_category", CATEGORY.replace("desktop_", ""), "subscription", {"POST": Game.set_category}),
    Endpoint(
        "email_status",
        STATUS.replace("desktop_push", "email"),
        "subscription",
        {"GET": email.read_subscription, "POST": email.set_subscription},
    ),
    Endpoint("email_category", CATEGORY.replace("desktop_push", "email"), "subscription", {"POST": email.set_category}),
    Endpoint("address", "/v2/email", "email", _ADDRESS),
    Endpoint("delivery_fault", "/v2/email/delivery_fault", "email", {"DELETE": email.clear_fault}),
    Endpoint("unsubscriptions", "/v2/email/unsubscriptions", "unsubscriptions", {"GET": email.list_unsubscriptions}),
    Endpoint("exclusions", "/v2/exclusions", "exclusions", _EXCLUSIONS),
    Endpoint("exclusion", "/v2/exclusions/:user_id", "exclusions", {"GET": privacy.read_exclusion}),
    Endpoint("removals", "/v2/users", "removals", {"DELETE": privacy.remove_player}),
    Endpoint("categories", "/v2/opt_out_categories", "categories", {"GET": privacy.list_categories}),
)

CALLS = {endpoint.name: endpoint.path for endpoint in ENDPOINTS}
"""Name of one word → path."""
