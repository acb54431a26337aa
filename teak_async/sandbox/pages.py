"""Pages of the sandbox's lists, and the instants that calls name."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from .game import Call, CallRejected, Response

MOST = 10_000
DEFAULT = 1_000


def make_page(call: Call, name: str, entries: list[dict[str, Any]]) -> Response:
    """Make one page of a list; the next one begins behind as many entries as `after` says."""
    parameters = call.parameters
    try:
        limit = max(1, min(int(parameters.get("limit", DEFAULT)), MOST))
        start = int(parameters.get("after", 0))
    except ValueError:
        raise CallRejected(422, limit="must be a number, and after what an earlier page said") from None
    body: dict[str, Any] = {"status": "ok", name: entries[start : start + limit]}
    if start + limit < len(entries):
        after = str(start + limit)
        kept = {key: value for key, value in parameters.items() if key not in ("game_id", "secret_key", "after")}
        body["paging"] = {"cursors": {"after": after}, "next": f"/v2/{name}?{urlencode({**kept, 'after': after})}"}
    return 200, body


def read_time(call: Call, name: str) -> datetime | None:
    """Read a parameter that is an instant; `None` where it was left out."""
    given = call.parameters.get(name)
    if given is None:
        return None
    try:
        found = datetime.fromisoformat(given)
    except (ValueError, TypeError):
        raise CallRejected(422, **{name: "is not an ISO 8601 time"}) from None
    return found.astimezone()
