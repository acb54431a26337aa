"""Requests to bytes, HTTP responses to responses or errors. No I/O.

Every word of Teak's server is understood here and nowhere else. Credentials are parameters of every call.

Rules of this module:

- The secret is in no `repr`. A response is cleansed of it before it is decoded, since a server may echo what it was sent.
- Equal values have equal JSON: a journal knows a row by it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import orjson
from attrs import field, frozen
from cattrs import transform_error
from cattrs.fns import identity
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.preconf.orjson import make_converter

from teak_async.errors import (
    Delivery,
    Forbidden,
    GameNotFound,
    InvalidRequest,
    NotFound,
    PlayerNotFound,
    RateLimited,
    ServerError,
    TeakError,
    UnexpectedResponse,
    UnknownState,
)
from teak_async.models import STATES, CategorySubscriptionChange, PlayerSession, Request, Response, State, SubscriptionChange

from .credentials import Credentials
from .endpoints import ENDPOINTS, Endpoint

MAX_RETRY_AFTER = 3600.0
"""Seconds. A longer `Retry-After` is taken as this: a wrong clock somewhere must not stop a game for a year."""
MAX_WORDS = 500
"""Characters of a server's own message in an error's."""


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


def _strict(kind: type[_T]) -> Any:
    def check(value: Any, _: Any) -> _T:
        if type(value) is not kind:
            raise TypeError(f"must be {kind.__name__}, not {type(value).__name__}")
        return value

    return check


def _opt_out_states(value: Any, _: Any) -> Mapping[str, State | str]:
    states: dict[str, State | str] = {}
    for channel, entry in value.items():
        state = entry.get("state") if isinstance(entry, dict) else None
        if isinstance(state, str):
            states[channel] = STATES.get(state, state)
    for channel in ("email", "push", "sms"):
        if channel not in states:
            raise TypeError(f"{channel}.state must be str")
    return states


_converter = make_converter()
_converter.register_structure_hook(str, _strict(str))
_converter.register_structure_hook(bool, _strict(bool))
_converter.register_structure_hook(State, lambda value, _: State(value))
_converter.register_structure_hook(
    PlayerSession,
    make_dict_structure_fn(PlayerSession, _converter, opt_out_states=override(struct_hook=_opt_out_states)),
)
for _change in (SubscriptionChange, CategorySubscriptionChange):
    # The client knows whether an attempt was repeated, whatever a response has under that name.
    _converter.register_structure_hook(_change, make_dict_structure_fn(_change, _converter, repeated=override(omit=True)))
# A value of `str | None` is JSON already. cattrs' own hook for such a union takes longer than all the rest of a request.
_converter.register_unstructure_hook(str | None, identity)
_converter.register_unstructure_hook(
    PlayerSession, make_dict_unstructure_fn(PlayerSession, _converter, opt_out_states=override(unstruct_hook=dict))
)
for _request in {request for request, _ in ENDPOINTS}:
    _converter.register_unstructure_hook(_request, make_dict_unstructure_fn(_request, _converter, _cattrs_omit_if_default=True))


def as_json(value: Request | Response) -> str:
    """Give a request or response as JSON, always the same for equal values."""
    return _to_json(_converter.unstructure(value)).decode()


def unstructure(value: Request | Response) -> dict[str, Any]:
    """Give a request or response as a plain dict, ready for JSON; a request without what was left out."""
    plain: dict[str, Any] = _converter.unstructure(value)
    return plain


def encode(endpoint: Endpoint, request: Request, credentials: Credentials) -> Message:
    """Turn a request into what is sent to its endpoint."""
    parameters = _converter.unstructure(request)
    parameters.pop("channel", None)  # the endpoint has it in its path
    path = endpoint.bucket
    if endpoint.in_path:
        # Encoded whole: no slash, dot segment or question mark of a user's may choose the path.
        path = endpoint.template.format(**{name: quote(parameters.pop(name), safe="") for name in endpoint.in_path})
    parameters["game_id"] = credentials.game_id
    parameters["secret_key"] = credentials.secret_key
    if endpoint.method == "GET":
        return Message("GET", path, query=urlencode(parameters))
    return Message("POST", path, body=_to_json(parameters))


def decode(endpoint: Endpoint, status: int, headers: Mapping[str, str], body: bytes) -> Response:
    """Turn an HTTP response into the response of an endpoint.

    Raises:
        TeakError: what it means otherwise, with its delivery.
    """
    if status != endpoint.success:
        raise _error_of_status(endpoint, status, headers, body)
    content = _parse_object(body)
    if content is None:
        # A proxy may have made it, so nobody knows what became of the call.
        raise _unexpected_response(endpoint, status, headers, "its body is no JSON object", Delivery.UNKNOWN)
    if endpoint.says_ok and (word := content.get("status")) != "ok":
        # One that says otherwise contradicts its own status code, one that says nothing does not.
        missing = "status" not in content
        what = "its body lacks the status" if missing else f"its body says status {word!r}"
        raise _unexpected_response(endpoint, status, headers, what, Delivery.DONE if missing else Delivery.UNKNOWN)
    try:
        return _converter.structure(content, endpoint.response)
    except Exception as problem:  # noqa: BLE001 - cattrs and the hooks raise several kinds
        what = "; ".join(transform_error(problem, path="body"))
    # The documented status with a JSON object is Teak's own response, so the call was done.
    raise _unexpected_response(endpoint, status, headers, what, Delivery.DONE)


def _error_of_status(endpoint: Endpoint, status: int, headers: Mapping[str, str], body: bytes) -> TeakError:
    if 500 <= status < 600:
        # It says nothing about the work.
        return ServerError(f"{endpoint.name}: the server failed with status {status}", status=status)
    if 300 <= status < 400:
        # This and a 4xx mean that the work was not done.
        target = _without_query(headers.get("Location", ""))
        what = f"a redirect to {target}, which is not followed: it would carry the secret there. Is base_url right?"
        return _unexpected_response(endpoint, status, headers, what, Delivery.REJECTED)
    if not 400 <= status < 500:
        # A proxy may have made it, such as another 2xx.
        return _unexpected_response(endpoint, status, headers, "not the documented success", Delivery.UNKNOWN)
    content = _parse_object(body) or {}
    errors = _messages(content.get("errors"))
    words = _words("; ".join(f"{name} {message}" for name, messages in errors.items() for message in messages))
    if status == 400:
        return InvalidRequest(
            f"{endpoint.name}: {words or 'the server found it invalid'}",
            errors=errors,
            delivery=Delivery.REJECTED,
            status=status,
        )
    if status == 403:
        return Forbidden(f"{endpoint.name}: {words or 'forbidden'} (is TEAK_SECRET_KEY this game's?)", status=status)
    if status == 404:
        kind = NotFound
        if isinstance(content.get("error"), dict):
            kind, words = GameNotFound, _words(str(content["error"].get("message") or ""))
        elif "user_id" in errors:
            kind = PlayerNotFound
        elif "state" in errors:
            kind = UnknownState
        return kind(f"{endpoint.name}: {words or 'not found'}", status=status)
    if status == 429:
        return RateLimited(f"{endpoint.name}: {words or 'rate-limited'}", retry_after=retry_after(headers), status=status)
    return _unexpected_response(endpoint, status, headers, words or "not a documented response", Delivery.REJECTED)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read the seconds that a response asks to wait, or `None`; a date counts from the response's own `Date`."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:10]), MAX_RETRY_AFTER)
    try:
        seconds = (parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("Date", ""))).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _without_query(location: str) -> str:
    """Shorten an address by its query, in which the secret may be."""
    try:
        target = urlsplit(location)
        host = target.hostname
    except ValueError:
        return "nowhere"
    return (f"{target.scheme or 'http'}://{host}{target.path}" if host else target.path or "nowhere")[:200]


def _to_json(plain: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        # Half a character: orjson writes none, JSON can.
        return json.dumps(plain, sort_keys=True).encode()


def _parse_object(body: bytes) -> dict[str, Any] | None:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            # The stricter reader fails on half a character and on NaN; servers write both.
            content = json.loads(body)
        except (ValueError, RecursionError):
            return None
    return content if isinstance(content, dict) else None


def _words(message: str) -> str:
    """Cut a server's message to a length and to characters that any log can take."""
    return message[:MAX_WORDS].encode(errors="backslashreplace").decode()


def _messages(errors: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(errors, dict):
        return {}
    return {
        str(name): tuple(str(message) for message in (messages if isinstance(messages, list) else [messages]))
        for name, messages in errors.items()
    }


def _unexpected_response(
    endpoint: Endpoint, status: int, headers: Mapping[str, str], what: str, delivery: Delivery
) -> UnexpectedResponse:
    kind = headers.get("Content-Type", "no content type").partition(";")[0][:80]
    return UnexpectedResponse(f"{endpoint.name}: status {status} ({kind}): {what}", delivery=delivery, status=status)
