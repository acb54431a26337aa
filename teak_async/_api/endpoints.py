"""One table: what each request is on the wire.

Rules of this module:

- Adding an endpoint is one row here, its request and response in `models`, and one thin method on the session.
- A budget is named by its path, as the server's refusal names it: reading and setting share one, all categories share another.
- `{channel}` and the names of request fields are the placeholders of a path; what is in the path is no parameter.
- `limit` names the figure of `Limits` that the budget has.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

from attrs import field, frozen

from teak_async.models import (
    CategorySubscriptionChange,
    GetSubscription,
    Identify,
    PlayerSession,
    Request,
    Response,
    SetCategorySubscription,
    SetSubscription,
    SubscriptionChange,
    SubscriptionStatus,
)


class Effect(Enum):
    """What processing a call twice would do."""

    READ = "nothing"
    SET = "the same again"
    RECORD = "another one"


@frozen
class Endpoint:
    """One row of the table.

    Attributes:
        name: how logs and messages call it.
        method: HTTP method; parameters go into the body of a `POST` and the query of a `GET`.
        template: path with placeholders.
        limit: which figure of `Limits` holds for its budget.
        effect: decides what may be repeated.
        response: what an answer is decoded into.
        success: the one documented success status.
        channel: fills `{channel}`.
        says_ok: whether the body of a success has `status: ok`.
        budget: the path as the server's refusal names it.
        in_path: the request's fields that are in the path.
    """

    name: str
    method: Literal["GET", "POST"]
    template: str
    limit: Literal["identify", "subscription"]
    effect: Effect
    response: type[Response]
    success: int
    channel: str = ""
    says_ok: bool = True
    bucket: str = field(init=False)
    in_path: tuple[str, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        fields = ("category",) if "{category}" in self.template else ()
        object.__setattr__(self, "in_path", fields)
        object.__setattr__(self, "bucket", self.template.format(channel=self.channel, category=":category_identifier"))


_STATUS = "/v2/{channel}/subscription_status"
_CATEGORY = "/v2/{channel}/subscription_status/{category}"
_PUSH = "desktop_push"

ENDPOINTS: dict[type[Request], Endpoint] = {
    Identify: Endpoint("identify", "POST", "/v2/identify", "identify", Effect.RECORD, PlayerSession, 201, says_ok=False),
    GetSubscription: Endpoint("read status", "GET", _STATUS, "subscription", Effect.READ, SubscriptionStatus, 200, _PUSH),
    SetSubscription: Endpoint("set state", "POST", _STATUS, "subscription", Effect.SET, SubscriptionChange, 200, _PUSH),
    SetCategorySubscription: Endpoint(
        "set category state", "POST", _CATEGORY, "subscription", Effect.SET, CategorySubscriptionChange, 200, _PUSH
    ),
}
