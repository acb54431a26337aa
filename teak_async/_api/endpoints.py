"""The endpoints, in one table: what each request is on the wire.

A request's class, and its channel if it has one, select its endpoint.

A new push channel needs:

1. a member of `Channel` in `models/subscriptions.py`: names, paths and buckets follow from it;
2. a property in `_parts/parts.py`;
3. its paths in `sandbox/endpoints.py`, and a test;
4. a line in the README.

A new endpoint needs:

1. its request, `class …(PlayerRequest[ItsResponse])` or another base, and its response in `models`, and both names in
   `models/__init__.py` and in both places of `teak_async/__init__.py`;
2. a row of the table; a limit of its own needs a figure in `Limits` and in the sandbox's `LIMITS`, and the literals of both;
3. a method of a part in `_parts`;
4. its row in `sandbox/endpoints.py`, and a handler beside the others there;
5. a recorded body in `tests/samples`, and a line in `tests/recorded.py`, `tests/test_parts.py` and `tests/test_readme.py`;
6. for input files, a command in `_cli/app.py`, `commands.py` and `schema.py`.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Literal

from attrs import evolve, field, frozen

from teak_async.errors import InvalidRequest
from teak_async.models import (
    CategorySubscriptionChange,
    Channel,
    ClearDeliveryFault,
    CreateExclusion,
    DeleteExclusion,
    DeliveryFaultCleared,
    EmailAddress,
    EmailAddressChange,
    EmailCategoryChange,
    EmailChange,
    EmailStatus,
    ExclusionChange,
    ExclusionEnd,
    ExclusionPage,
    ExclusionStatus,
    GetEmailAddress,
    GetEmailSubscription,
    GetExclusion,
    GetSubscription,
    Identify,
    ListCategories,
    ListExclusions,
    ListUnsubscriptions,
    OptOutCategories,
    PlayerRemoval,
    PlayerSession,
    RemoveEmailAddress,
    RemovePlayer,
    Request,
    Response,
    SetCategorySubscription,
    SetEmailAddress,
    SetEmailCategorySubscription,
    SetEmailSubscription,
    SetSubscription,
    SubscriptionChange,
    SubscriptionRequest,
    SubscriptionStatus,
    UnsubscriptionPage,
)


class Effect(Enum):
    """What processing a call twice would do."""

    READ = "nothing"
    SET = "the same again"
    RECORD = "another one"


EVERYTHING = "everything"
"""The target of a call that undoes whatever was done for a player before."""


@frozen
class Endpoint:
    """One type of request on the wire. A row of the table is for all channels, and `on` makes the endpoint of one.

    Attributes:
        name: its name in logs, traces and journals; no other endpoint has it.
        title: its name in messages, which names the channel always.
        method: HTTP method; parameters go into the body of a `POST`, and into the query of the others.
        template: path with the names of the request's fields as placeholders.
        limit: the figure of `Limits` that holds for its bucket.
        effect: decides when a call may be sent again.
        target: what a set overwrites: the last of the sets of one player, target, channel and category holds.
        response: what a success is decoded into.
        success: the one documented success status.
        statuses: the values of `status` in the body of a success; empty where it has none.
        bucket: the path as the server's 429 names it: reading and setting share one, all categories of a channel another.
        in_path: the request's fields that are in the path, and so in neither body nor query.
    """

    name: str
    method: Literal["GET", "POST", "DELETE"]
    template: str
    limit: Literal["identify", "subscription", "email", "unsubscriptions", "exclusions", "removals", "categories"]
    effect: Effect
    response: type[Response]
    success: int
    statuses: tuple[str, ...] = ("ok",)
    target: str = field(default="", kw_only=True)
    title: str = field(default="", kw_only=True)
    bucket: str = field(init=False)
    in_path: tuple[str, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "title", self.title or self.name)
        object.__setattr__(self, "in_path", tuple(re.findall(r"{(\w+)}", self.template)))
        object.__setattr__(self, "bucket", re.sub(r"{(\w+)}", _placeholder, self.template))

    def on(self, channel: Channel) -> Endpoint:
        """Make the endpoint of one channel."""
        # The first channel keeps the bare names, which existing journals and dashboards have.
        title = f"{self.name} ({channel})"
        name = self.name if channel is Channel.DESKTOP_PUSH else title
        return evolve(self, name=name, title=title, template=self.template.replace("{channel}", channel))


def _placeholder(found: re.Match[str]) -> str:
    """Write a parameter of the path as the server's 429 does."""
    return ":category_identifier" if found[1] == "category" else f":{found[1]}"


_STATUS = "/v2/{channel}/subscription_status"
_CATEGORY = f"{_STATUS}/{{category}}"
_EMAIL_STATUS = "/v2/email/subscription_status"
_ROWS: dict[type[Request], Endpoint] = {
    Identify: Endpoint("identify", "POST", "/v2/identify", "identify", Effect.RECORD, PlayerSession, 201, ()),
    GetSubscription: Endpoint("read status", "GET", _STATUS, "subscription", Effect.READ, SubscriptionStatus, 200),
    SetSubscription: Endpoint(
        "set state", "POST", _STATUS, "subscription", Effect.SET, SubscriptionChange, 200, target="state"
    ),
    SetCategorySubscription: Endpoint(
        "set category state", "POST", _CATEGORY, "subscription", Effect.SET, CategorySubscriptionChange, 200, target="category"
    ),
    GetEmailSubscription: Endpoint("read status (email)", "GET", _EMAIL_STATUS, "subscription", Effect.READ, EmailStatus, 200),
    SetEmailSubscription: Endpoint(
        "set state (email)", "POST", _EMAIL_STATUS, "subscription", Effect.SET, EmailChange, 200, target="state"
    ),
    SetEmailCategorySubscription: Endpoint(
        "set category state (email)",
        "POST",
        f"{_EMAIL_STATUS}/{{category}}",
        "subscription",
        Effect.SET,
        EmailCategoryChange,
        200,
        target="category",
    ),
    ClearDeliveryFault: Endpoint(
        "clear delivery fault",
        "DELETE",
        "/v2/email/delivery_fault",
        "email",
        Effect.SET,
        DeliveryFaultCleared,
        200,
        target="delivery fault",
    ),
    GetEmailAddress: Endpoint("read address", "GET", "/v2/email", "email", Effect.READ, EmailAddress, 200),
    SetEmailAddress: Endpoint(
        "set address", "POST", "/v2/email", "email", Effect.SET, EmailAddressChange, 200, target="address"
    ),
    RemoveEmailAddress: Endpoint(
        "remove address", "DELETE", "/v2/email", "email", Effect.SET, EmailAddressChange, 200, target="address"
    ),
    ListUnsubscriptions: Endpoint(
        "list unsubscriptions", "GET", "/v2/email/unsubscriptions", "unsubscriptions", Effect.READ, UnsubscriptionPage, 200
    ),
    GetExclusion: Endpoint(
        "read exclusion", "GET", "/v2/exclusions/{user_id}", "exclusions", Effect.READ, ExclusionStatus, 200
    ),
    ListExclusions: Endpoint("list exclusions", "GET", "/v2/exclusions", "exclusions", Effect.READ, ExclusionPage, 200),
    CreateExclusion: Endpoint(
        "create exclusion", "POST", "/v2/exclusions", "exclusions", Effect.SET, ExclusionChange, 200, target="exclusion"
    ),
    DeleteExclusion: Endpoint(
        "end exclusion", "DELETE", "/v2/exclusions", "exclusions", Effect.SET, ExclusionEnd, 200, target="exclusion"
    ),
    RemovePlayer: Endpoint(
        "remove player",
        "DELETE",
        "/v2/users",
        "removals",
        Effect.SET,
        PlayerRemoval,
        200,
        ("ok", "user_not_found"),
        target=EVERYTHING,
    ),
    ListCategories: Endpoint(
        "list categories", "GET", "/v2/opt_out_categories", "categories", Effect.READ, OptOutCategories, 200
    ),
}
ENDPOINTS: dict[tuple[type[Request], Channel | None], Endpoint] = {
    (request, channel): endpoint if channel is None else endpoint.on(channel)
    for request, endpoint in _ROWS.items()
    for channel in (Channel if issubclass(request, SubscriptionRequest) else (None,))
}


def endpoint_of(request: Request) -> Endpoint:
    """Return the endpoint of a request.

    Raises:
        InvalidRequest: for anything that is not a request of the table.
    """
    channel = request.channel if isinstance(request, SubscriptionRequest) else None
    endpoint = ENDPOINTS.get((type(request), channel))
    if endpoint is None:
        kind = type(request).__name__
        raise InvalidRequest(f"not a request: {kind}; make an Identify, GetSubscription or another of teak_async.models")
    return endpoint
