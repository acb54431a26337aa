"""The endpoints of the sandbox in one table. Routing, limits, counts and responses follow from it.

Adding an endpoint is one row here and, for a new call, a handler in `game`. Adding a channel is a row for each of its paths:
the channel is the path's second segment, and the handlers get it as a value.
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
        path: with placeholders, as a 429 and the counts name it. `:x_identifier` stands for one segment, the parameter `x`.
        limit: the argument of `set_limits` that holds.
        handlers: HTTP method → handler.
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
        """Return the decoded parameters of a path, or `None` where it is another endpoint's."""
        found = self._pattern.fullmatch(raw_path)
        return None if found is None else {name: unquote(value) for name, value in found.groupdict().items()}


ENDPOINTS = (
    Endpoint("identify", IDENTIFY, "identify", {"POST": Game.identify}),
    Endpoint("status", STATUS, "subscription", {"GET": Game.read_subscription, "POST": Game.set_subscription}),
    Endpoint("category", CATEGORY, "subscription", {"POST": Game.set_category}),
)

CALLS = {endpoint.name: endpoint.path for endpoint in ENDPOINTS}
"""Name of one word → path."""
