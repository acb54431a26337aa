"""One table: the endpoints of the sandbox. It drives routing, limits, counts and responses.

Adding an endpoint is one row here and, where the call is a new one, a handler in `game`. Adding a channel is a row for each of
its paths: the channel is the path's second segment, and the handlers take it as a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias
from urllib.parse import unquote

from attrs import field, frozen

from .game import Call, Game, Response

IDENTIFY = "/v2/identify"
STATUS = "/v2/desktop_push/subscription_status"
CATEGORY = "/v2/desktop_push/subscription_status/:category_identifier"

Handler: TypeAlias = Callable[[Game, Call], Response]


@frozen
class Endpoint:
    """One row of the table. All its calls count against one limit.

    Attributes:
        name: one word, as `fail_next` takes it.
        path: with placeholders; also what a 429 and the counts name. `:x_identifier` is one segment, and the parameter `x`.
        limit: which argument of `set_limits` holds.
        handlers: HTTP method → what a call does.
    """

    name: str
    path: str
    limit: Literal["identify", "subscription"]
    handlers: Mapping[str, Handler]
    _pattern: re.Pattern[str] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        pattern = re.sub(r":(\w+)_identifier", r"(?P<\1>[^/]+)", re.escape(self.path))
        object.__setattr__(self, "_pattern", re.compile(pattern))

    @property
    def channel(self) -> str:
        """The path's second segment."""
        return self.path.split("/")[2]

    def match(self, raw_path: str) -> dict[str, str] | None:
        """Give the parameters in a path, decoded; `None` where the path is another endpoint's."""
        found = self._pattern.fullmatch(raw_path)
        return None if found is None else {name: unquote(value) for name, value in found.groupdict().items()}


ENDPOINTS = (
    Endpoint("identify", IDENTIFY, "identify", {"POST": Game.identify}),
    Endpoint("status", STATUS, "subscription", {"GET": Game.read_subscription, "POST": Game.set_subscription}),
    Endpoint("category", CATEGORY, "subscription", {"POST": Game.set_category}),
)

CALLS = {endpoint.name: endpoint.path for endpoint in ENDPOINTS}
"""The paths by a name of one word."""
