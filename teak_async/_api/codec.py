"""Encode requests as bytes, decode HTTP responses as responses or errors. No I/O.

Only this module and `refusals` know what Teak's server says. What they decode is redacted already.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import orjson
from attrs import field, fields, fields_dict, frozen
from cattrs import transform_error
from cattrs.fns import identity
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.preconf.orjson import make_converter

from teak_async.errors import Delivery
from teak_async.models import (
    STATES,
    CategorySubscriptionChange,
    PlayerSession,
    Request,
    Response,
    SetCategorySubscription,
    SetSubscription,
    State,
    SubscriptionChange,
    SubscriptionStatus,
)

from .credentials import Credentials
from .endpoints import ENDPOINTS, Endpoint
from .refusals import error_of_status, parse_object, unexpected_response


@frozen
class Message:
    """A request as it goes out.

    Attributes:
        method: `GET` or `POST`.
        path: percent-encoded, from the root.
        query: percent-encoded, without the question mark; holds the secret.
        body: JSON; holds the secret.
    """

    method: str
    path: str
    query: str = field(repr=False, default="")
    body: bytes | None = field(repr=False, default=None)


_T = TypeVar("_T")


def _strict(kind: type[_T]) -> Callable[[Any, Any], _T]:
    def check(value: Any, _: Any) -> _T:
        if type(value) is not kind:
            raise TypeError(f"must be {kind.__name__}, not {type(value).__name__}")
        return value

    return check


def _check_optional_text(value: Any, _: Any) -> str | None:
    return None if value is None else _check_text(value, str)


def _structure_opt_out_states(value: Any, _: Any) -> Mapping[str, State | str]:
    states: dict[str, State | str] = {}
    for channel, entry in value.items():
        state = entry.get("state") if isinstance(entry, dict) else None
        if isinstance(state, str):
            states[channel] = STATES.get(state, state)
    for channel in ("email", "push", "sms"):
        if channel not in states:
            raise TypeError(f"{channel}.state must be str")
    return states


_check_text = _strict(str)
_converter = make_converter()
_converter.register_structure_hook(str, _check_text)
# cattrs' own hooks for this union look up the one for `str` each time, which takes longer than all the rest of a request.
_converter.register_structure_hook(str | None, _check_optional_text)
_converter.register_unstructure_hook(str | None, identity)
_converter.register_structure_hook(bool, _strict(bool))
_converter.register_structure_hook(State, lambda value, _: State(value))
_converter.register_structure_hook(
    PlayerSession,
    make_dict_structure_fn(PlayerSession, _converter, opt_out_states=override(struct_hook=_structure_opt_out_states)),
)
for _change in (SubscriptionChange, CategorySubscriptionChange):
    # The client knows whether an attempt was repeated, whatever a response has under that name.
    _converter.register_structure_hook(_change, make_dict_structure_fn(_change, _converter, repeated=override(omit=True)))
_converter.register_unstructure_hook(
    PlayerSession, make_dict_unstructure_fn(PlayerSession, _converter, opt_out_states=override(unstruct_hook=dict))
)
for _request in {request for request, _ in ENDPOINTS}:
    _converter.register_unstructure_hook(_request, make_dict_unstructure_fn(_request, _converter, _cattrs_omit_if_default=True))


_UNSTRUCTURE: dict[type, Callable[[Any], Any]] = {
    kind: _converter.get_unstructure_hook(kind)
    for (request, _), endpoint in ENDPOINTS.items()
    for kind in (request, endpoint.response)
}
"""Request or response → its function to a dict."""


def as_json(value: Request | Response) -> str:
    """Return a request or response as JSON, the same for equal values: a journal knows a row by it."""
    return _to_json(unstructure(value)).decode()


def unstructure(value: Request | Response) -> dict[str, Any]:
    """Return a request or response as a dict, ready for JSON; a request without its default values."""
    plain: dict[str, Any] = _UNSTRUCTURE[type(value)](value)
    return plain


def encode(endpoint: Endpoint, request: Request, credentials: Credentials) -> Message:
    """Encode a request and the credentials for its endpoint."""
    parameters = _converter.unstructure(request)
    parameters.pop("channel", None)  # the endpoint has it in its path
    path = endpoint.bucket
    if endpoint.in_path:
        # Encoded whole, so that no slash or question mark of a value changes the path. The models refuse `.` and `..`.
        path = endpoint.template.format(**{name: quote(parameters.pop(name), safe="") for name in endpoint.in_path})
    parameters["game_id"] = credentials.game_id
    parameters["secret_key"] = credentials.secret_key
    if endpoint.method == "GET":
        return Message("GET", path, query=urlencode(parameters))
    return Message("POST", path, body=_to_json(parameters))


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
        raise error_of_status(endpoint, status, headers, body, now)
    content = parse_object(body)
    if content is None:
        # A proxy may have made it, so nobody knows what became of the call.
        raise unexpected_response(endpoint, status, headers, "its body is no JSON object", Delivery.UNKNOWN, now)
    if (word := content.get("status", "ok")) != "ok" or "errors" in content or "error" in content:
        # It contradicts its own status code: neither Teak's success nor Teak's error.
        what = "its body has an error" if word == "ok" else f"its body says status {repr(word)[:80]}"
        raise unexpected_response(endpoint, status, headers, what, Delivery.UNKNOWN, now)
    if (name := _key_of_another_call(request, content)) is not None:
        # It comes from a desynchronised proxy or a stale cache, and says nothing about this call.
        what = f"the response is to another call, by its {name}"
        raise unexpected_response(endpoint, status, headers, what, Delivery.UNKNOWN, now, spoils_connection=True)
    if endpoint.says_ok and "status" not in content:
        what = "its body lacks the status"
    else:
        try:
            return _STRUCTURE[endpoint.response](content, endpoint.response)
        except Exception as problem:  # noqa: BLE001 - cattrs and the hooks raise several kinds
            what = "; ".join(transform_error(problem, path="body"))
    # With keys that only Teak writes for this endpoint, the call was done, though its response cannot be read. A default
    # backend or a portal writes `{}` or `{"status": "ok"}`, too.
    delivery = Delivery.DONE if _is_success_of(endpoint.response, content) else Delivery.UNKNOWN
    raise unexpected_response(endpoint, status, headers, what, delivery, now)


_STRUCTURE: dict[type[Response], Callable[[Any, Any], Response]] = {
    endpoint.response: _converter.get_structure_hook(endpoint.response) for endpoint in ENDPOINTS.values()
}
"""Type of a response → the hook that makes one from a body."""
_SUCCESSES = frozenset(endpoint.success for endpoint in ENDPOINTS.values())
_KEYS = {
    endpoint.response: frozenset(attribute.name for attribute in fields(endpoint.response)) - {"repeated"}
    for endpoint in ENDPOINTS.values()
}
"""Type of a response → the keys that Teak documents for its body beside `status`."""
_NAMED = {
    request: tuple(name for name in ("user_id", "state", "channel", "category") if name in fields_dict(request))
    for request, _ in ENDPOINTS
}
"""Type of a request → the parameters that its response names again."""


def _is_success_of(response: type[Response], content: dict[str, Any]) -> bool:
    """Return whether a body has two of a response's documented keys, which nobody else would write together."""
    return len(_KEYS[response] & content.keys()) >= 2


def _is_success_of_any(content: dict[str, Any]) -> bool:
    return any(_is_success_of(response, content) for response in _KEYS)


def _key_of_another_call(request: Request, content: dict[str, Any]) -> str | None:
    """Return the key that shows that a success belongs to another call, or `None`."""
    for name in _NAMED[type(request)]:
        if (found := content.get(name)) != (asked := getattr(request, name)) and _names_another(request, name, found, asked):
            return name
    if isinstance(request, SetCategorySubscription):
        # A category's response has `category` in place of `categories`.
        return "categories" if "categories" in content and "category" not in content else None
    if "category" in content:
        return "category"
    if isinstance(request, SetSubscription) and "previous_state" not in content:
        # A body with all the keys of a read is the response to one, and says nothing about a set.
        return "lack of previous_state" if _KEYS[SubscriptionStatus] <= content.keys() else None
    return None


def _names_another(request: Request, name: str, found: Any, asked: str) -> bool:
    """Return whether a value that differs from the request's names something else; one of a wrong type names nothing."""
    if not isinstance(found, str):
        # Servers write identifiers as numbers, too.
        return type(found) is int and name in ("user_id", "category") and str(found) != asked
    if name == "state":
        # Teak ignores an opt-out after a spam report: such a player gets nothing anyway.
        return not (found == "spam_report" and asked == "opt_out")
    # Teak's documentation describes a category's channel as `push` and shows it as `desktop_push`.
    return not (name == "channel" and found == "push" and isinstance(request, SetCategorySubscription))


def _to_json(plain: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        # orjson writes no lone surrogate; JSON can.
        return json.dumps(plain, sort_keys=True).encode()
