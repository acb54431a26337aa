"""Encode requests as bytes, decode HTTP responses as responses or errors. No I/O.

Only this module and `refusals` know what Teak's server says. What they decode is redacted already;
a refusal loses here the email address, too, that was asked about.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from attrs import define, field, fields_dict
from cattrs import transform_error

from teak_async.errors import Delivery
from teak_async.models import Request, Response

from .credentials import Credentials, pattern_of
from .endpoints import ENDPOINTS, Endpoint
from .refusals import error_of_status, parse_object, unexpected_response
from .structure import KEYS, STRUCTURE, to_json, unstructure


@define
class Message:
    """A request as it goes out. Nothing changes one; a frozen one takes three times as long to make.

    Attributes:
        method: `GET`, `POST` or `DELETE`.
        path: percent-encoded, from the root.
        query: percent-encoded, without the question mark; holds the secret.
        body: JSON; holds the secret.
    """

    method: str
    path: str
    query: str = field(repr=False, default="")
    body: bytes | None = field(repr=False, default=None)

    @property
    def target(self) -> str:
        """The path with the query."""
        return f"{self.path}?{self.query}" if self.query else self.path


def encode(endpoint: Endpoint, request: Request, credentials: Credentials) -> Message:
    """Encode a request and the credentials for its endpoint."""
    parameters = unstructure(request)
    parameters.pop("channel", None)  # the endpoint has it in its path
    path = endpoint.bucket
    if endpoint.in_path:
        # Encoded whole, so that no slash or question mark of a value changes the path. The models refuse `.` and `..`.
        path = endpoint.template.format(**{name: quote(parameters.pop(name), safe="") for name in endpoint.in_path})
    parameters["game_id"] = credentials.game_id
    parameters["secret_key"] = credentials.secret_key
    if endpoint.method == "POST":
        return Message("POST", path, body=to_json(parameters))
    return Message(endpoint.method, path, query=urlencode(parameters))


def decode(endpoint: Endpoint, request: Request, status: int, headers: Mapping[str, str], body: bytes, now: float) -> Response:
    """Decode an HTTP response as the response of an endpoint.

    Args:
        endpoint: the request's.
        request: a response that names other values than it does is another call's.
        status: HTTP status.
        headers: those of the response.
        body: of the response.
        now: this machine's wall clock, in seconds since 1970.

    Raises:
        TeakError: for all but a success; its `delivery` says whether the call was done.
    """
    if status != endpoint.success:
        if status in _SUCCESSES and _is_success_of_any(parse_object(body) or {}):
            what = "not the documented success; the response is to another call"
            raise unexpected_response(endpoint, status, headers, what, Delivery.UNKNOWN, now, spoils_connection=True)
        raise error_of_status(endpoint, status, headers, _without_address(request, body), now)
    content = parse_object(body)
    if content is None:
        # A proxy may have made it, so nobody knows what became of the call.
        raise unexpected_response(endpoint, status, headers, "its body is no JSON object", Delivery.UNKNOWN, now)
    statuses = endpoint.statuses or ("ok",)
    if (word := content.get("status", "ok")) not in statuses or "errors" in content or "error" in content:
        # It contradicts its own status code: neither Teak's success nor Teak's error.
        what = "its body has an error" if word in statuses else f"its body says status {repr(word)[:80]}"
        raise unexpected_response(endpoint, status, headers, what, Delivery.UNKNOWN, now)
    if (name := _key_of_another_call(endpoint, request, content)) is not None:
        # It comes from a desynchronised proxy or a stale cache, and says nothing about this call.
        what = f"the response is to another call, by its {name}"
        raise unexpected_response(endpoint, status, headers, what, Delivery.UNKNOWN, now, spoils_connection=True)
    if endpoint.statuses and "status" not in content:
        what = "its body lacks the status"
    else:
        try:
            return STRUCTURE[endpoint.response](content, endpoint.response)
        except Exception as problem:  # noqa: BLE001 - cattrs and the hooks raise several kinds
            what = "; ".join(transform_error(problem, path="body"))
    # With keys that only Teak writes for this endpoint, the call was done, though its response cannot be read. A default
    # backend or a portal writes `{}` or `{"status": "ok"}`, too.
    delivery = Delivery.DONE if _is_success_of(endpoint.response, content) else Delivery.UNKNOWN
    raise unexpected_response(endpoint, status, headers, what, delivery, now)


_SUCCESSES = frozenset(endpoint.success for endpoint in ENDPOINTS.values())
_NAMED = {
    request: tuple(name for name in ("user_id", "state", "channel", "category", "email") if name in fields_dict(request))
    for request, _ in ENDPOINTS
}
"""Type of a request → the parameters that its response names again."""


def _is_success_of(response: type[Response], content: dict[str, Any]) -> bool:
    """Return whether a body has two of a response's documented keys, or its only one: nobody else would write these."""
    return len(KEYS[response] & content.keys()) >= min(2, len(KEYS[response]))


def _is_success_of_any(content: dict[str, Any]) -> bool:
    return any(len(keys) > 1 and _is_success_of(response, content) for response, keys in KEYS.items())


def _key_of_another_call(endpoint: Endpoint, request: Request, content: dict[str, Any]) -> str | None:
    """Return the key that shows that a success belongs to another call, or `None`."""
    exclusion = content.get("exclusion")
    named = {**exclusion, **content} if isinstance(exclusion, dict) else content
    for name in _NAMED[type(request)]:
        if (found := named.get(name)) != (asked := getattr(request, name)) and _names_another(request, name, found, asked):
            return name
    if "category" in _NAMED[type(request)]:
        # A category's response has `category` in place of `categories`.
        return "categories" if "categories" in content and "category" not in content else None
    if "category" in content:
        return "category"
    keys = KEYS[endpoint.response]
    if "previous_state" in keys and "previous_state" not in content and keys - {"previous_state"} <= content.keys():
        # A body with all the keys of a read is the response to one, and says nothing about a set.
        return "lack of previous_state"
    return None


def _names_another(request: Request, name: str, found: Any, asked: str) -> bool:
    """Return whether a value that differs from the request's names something else; one of a wrong type names nothing."""
    if not isinstance(found, str):
        # Servers write identifiers as numbers, too.
        return type(found) is int and name in ("user_id", "category") and str(found) != asked
    if name == "state":
        # Teak ignores an opt-out after a spam report: such a player gets nothing anyway.
        return not (found == "spam_report" and asked == "opt_out")
    if name == "email":
        return found.strip().casefold() != asked.strip().casefold()
    # Teak's documentation describes a category's channel as `push` and shows it as `desktop_push`.
    return not (name == "channel" and found == "push" and "category" in _NAMED[type(request)])


def _without_address(request: Request, body: bytes) -> bytes:
    """Take the email address that was sent out of a refusal, whose words end in messages and logs."""
    email = getattr(request, "email", None)
    return body if email is None or "@" not in email else re.sub(pattern_of(email), b"[email]", body, flags=re.IGNORECASE)
