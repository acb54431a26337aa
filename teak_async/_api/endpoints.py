"""The endpoints, in one table: what each request is on the wire.

A request's class, and its channel if it has one, select its endpoint.

A new push channel needs:

1. a member of `Channel` in `models.py`: names, paths and buckets follow from it;
2. a `Subscriptions` with it in `TeakSession.__init__`;
3. its paths in the sandbox, and a test there;
4. a line in the README.

A new endpoint needs:

1. its request, `class …(Request[ItsResponse])`, and its response in `models.py`;
2. a row of the table; a limit of its own needs a figure in `Limits`, in `_limits/session_limits.py`'s warning, in the command's
   and the sandbox's options, and in the literals here and in `sandbox/endpoints.py`;
3. a method on `TeakSession` or `Subscriptions`;
4. both names in both places of `teak_async/__init__.py`;
5. its row in `sandbox/endpoints.py`, and a handler in `sandbox/game.py`;
6. a recorded response in `tests/samples`, and its line in the tables of `tests/api`, `test_models.py` and `test_readme.py`;
7. where files should reach it, a command in `_cli/app.py`, `commands.py` and `input.py`.
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
    GetSubscription,
    Identify,
    PlayerSession,
    Request,
    Response,
    SetCategorySubscription,
    SetSubscription,
    SubscriptionChange,
    SubscriptionRequest,
    SubscriptionStatus,
)


class Effect(Enum):
    """What processing a call twice would do."""

    READ = "nothing"
    SET = "the same again"
    RECORD = "another one"


@frozen
class Endpoint:
    """One type of request on the wire. A row of the table is for all channels, and `on` makes the endpoint of one.

    Attributes:
        name: its name in logs, messages, traces and journals; no other endpoint has it.
        method: HTTP method; parameters go into the body of a `POST` and the query of a `GET`.
        template: path with the names of the request's fields as placeholders.
        limit: the figure of `Limits` that holds for its bucket.
        effect: decides when a call may be sent again.
        response: what a success is decoded into.
        success: the one documented success status.
        says_ok: whether the body of a success has `status: ok`.
        bucket: the path as the server's 429 names it: reading and setting share one, all categories of a channel another.
        in_path: the request's fields that are in the path, and so in neither body nor query.
    """

    name: str
    method: Literal["GET", "POST"]
    template: str
    limit: Literal["identify", "subscription"]
    effect: Effect
    response: type[Response]
    success: int
    says_ok: bool = True
    bucket: str = field(init=False)
    in_path: tuple[str, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "in_path", tuple(re.findall(r"{(\w+)}", self.template)))
        object.__setattr__(self, "bucket", self.template.replace("{category}", ":category_identifier"))

    def on(self, channel: Channel) -> Endpoint:
        """Make the endpoint of one channel."""
        # The first channel keeps the bare names, which existing journals and dashboards have.
        name = self.name if channel is Channel.DESKTOP_PUSH else f"{self.name} ({channel})"
        return evolve(self, name=name, template=self.template.replace("{channel}", channel))


_STATUS = "/v2/{channel}/subscription_status"
_CATEGORY = f"{_STATUS}/{{category}}"

_ROWS: dict[type[Request], Endpoint] = {
    Identify: Endpoint("identify", "POST", "/v2/identify", "identify", Effect.RECORD, PlayerSession, 201, says_ok=False),
    GetSubscription: Endpoint("read status", "GET", _STATUS, "subscription", Effect.READ, SubscriptionStatus, 200),
    SetSubscription: Endpoint("set state", "POST", _STATUS, "subscription", Effect.SET, SubscriptionChange, 200),
    SetCategorySubscription: Endpoint(
        "set category state", "POST", _CATEGORY, "subscription", Effect.SET, CategorySubscriptionChange, 200
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
        raise InvalidRequest(f"not a request: {type(request).__name__}; make an Identify, GetSubscription, …")
    return endpoint
