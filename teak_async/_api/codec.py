"""Requests to bytes, answers to responses or errors. No I/O.

Rules of this module:

- Everything that Teak's server says is understood here and nowhere else.
- The documented success status with a JSON object is Teak's own answer. Any other 2xx may be a proxy speaking, so nobody
  knows what became of the call. A refusal (3xx, 4xx) means that the work was not done; a 5xx means nothing.
- Credentials are parameters of every call. They stay out of every `repr`, and answers are cleansed of the secret before
  they are read, since a server may echo what it was sent.
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
from teak_async.models import CategorySubscriptionChange, PlayerSession, Request, Response, State, SubscriptionChange

from .credentials import Credentials
from .endpoints import ENDPOINTS, Endpoint

MAX_RETRY_AFTER = 3600.0
"""Seconds. A longer `Retry-After` is taken as this: a wrong clock somewhere must not stop a game for a year."""
MAX_SAID = 500
"""Characters of a server's own words in a message."""


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


def _exactly(kind: type[_T]) -> Any:
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
            states[channel] = _STATES.get(state, state)
    for channel in ("email", "push", "sms"):
        if channel not in states:
            raise TypeError(f"{channel}.state must be str")
    return states


_STATES = {state.value: state for state in State}

_converter = make_converter()
_converter.register_structure_hook(str, _exactly(str))
_converter.register_structure_hook(bool, _exactly(bool))
_converter.register_structure_hook(State, lambda value, _: State(value))
_converter.register_structure_hook(
    PlayerSession,
    make_dict_structure_fn(PlayerSession, _converter, opt_out_states=override(struct_hook=_opt_out_states)),
)
for _change in (SubscriptionChange, CategorySubscriptionChange):
    # Whether a try was repeated is ours to know, whatever an answer has under that name.
    _converter.register_structure_hook(_change, make_dict_structure_fn(_change, _converter, repeated=override(omit=True)))
# A string is one already, and so is a state: to ask of each of them which of the two it is took longer than all the rest.
_converter.register_unstructure_hook(str | None, identity)
_converter.register_unstructure_hook(
    PlayerSession, make_dict_unstructure_fn(PlayerSession, _converter, opt_out_states=override(unstruct_hook=dict))
)
for _request in {request for request, _ in ENDPOINTS}:
    _converter.register_unstructure_hook(_request, make_dict_unstructure_fn(_request, _converter, _cattrs_omit_if_default=True))


def as_json(value: Request | Response) -> str:
    """Give a request or response as JSON, always the same for equal values."""
    return _written(_converter.unstructure(value)).decode()


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
    return Message("POST", path, body=_written(parameters))


def decode(endpoint: Endpoint, status: int, headers: Mapping[str, str], body: bytes) -> Response:
    """Turn an answer into its response.

    Raises:
        TeakError: what the answer means, with its delivery.
    """
    if status == endpoint.success:
        answer = _object(body)
        if answer is None:
            raise _unexpected(endpoint, status, headers, "its body is no JSON object", Delivery.UNKNOWN)
        if endpoint.says_ok and (said := answer.get("status")) != "ok":
            missing = "status" not in answer
            what = "its body lacks the status" if missing else f"its body says status {said!r}"
            raise _unexpected(endpoint, status, headers, what, Delivery.DONE if missing else Delivery.UNKNOWN)
        try:
            return _converter.structure(answer, endpoint.response)
        except Exception as problem:  # noqa: BLE001 - cattrs and the hooks raise several kinds
            what = "; ".join(transform_error(problem, path="body"))
        raise _unexpected(endpoint, status, headers, what, Delivery.DONE)
    raise _error_of_status(endpoint, status, headers, body)


def _error_of_status(endpoint: Endpoint, status: int, headers: Mapping[str, str], body: bytes) -> TeakError:
    if 500 <= status < 600:
        return ServerError(f"{endpoint.name}: the server failed with status {status}", status=status)
    if 300 <= status < 400:
        where = _where(headers.get("Location", ""))
        what = f"a redirect to {where}, which is not followed: it would carry the secret there. Is base_url right?"
        return _unexpected(endpoint, status, headers, what, Delivery.REJECTED)
    if not 400 <= status < 500:
        return _unexpected(endpoint, status, headers, "not the documented success", Delivery.UNKNOWN)
    answer = _object(body) or {}
    errors = _messages(answer.get("errors"))
    said = _words("; ".join(f"{name} {message}" for name, messages in errors.items() for message in messages))
    if status == 400:
        return InvalidRequest(
            f"{endpoint.name}: {said or 'the server found it invalid'}",
            errors=errors,
            delivery=Delivery.REJECTED,
            status=status,
        )
    if status == 403:
        return Forbidden(f"{endpoint.name}: {said or 'forbidden'} (is TEAK_SECRET_KEY this game's?)", status=status)
    if status == 404:
        kind = NotFound
        if isinstance(answer.get("error"), dict):
            kind, said = GameNotFound, _words(str(answer["error"].get("message") or ""))
        elif "user_id" in errors:
            kind = PlayerNotFound
        elif "state" in errors:
            kind = UnknownState
        return kind(f"{endpoint.name}: {said or 'not found'}", status=status)
    if status == 429:
        return RateLimited(f"{endpoint.name}: {said or 'refused'}", retry_after=retry_after(headers), status=status)
    return _unexpected(endpoint, status, headers, said or "not a documented answer", Delivery.REJECTED)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait, or `None`; a date is read against the answer's own `Date`."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:10]), MAX_RETRY_AFTER)
    try:
        seconds = (parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("Date", ""))).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _where(location: str) -> str:
    """An address without its query, in which the secret may be."""
    try:
        target = urlsplit(location)
        host = target.hostname
    except ValueError:
        return "nowhere"
    return (f"{target.scheme or 'http'}://{host}{target.path}" if host else target.path or "nowhere")[:200]


def _written(plain: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        # Half a character: orjson writes none, JSON can.
        return json.dumps(plain, sort_keys=True).encode()


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            # The stricter reader fails on half a character and on NaN; servers write both.
            answer = json.loads(body)
        except (ValueError, RecursionError):
            return None
    return answer if isinstance(answer, dict) else None


def _words(said: str) -> str:
    """A server's own words, of a length and of characters that any log can take."""
    return said[:MAX_SAID].encode(errors="backslashreplace").decode()


def _messages(errors: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(errors, dict):
        return {}
    return {
        str(name): tuple(str(message) for message in (messages if isinstance(messages, list) else [messages]))
        for name, messages in errors.items()
    }


def _unexpected(
    endpoint: Endpoint, status: int, headers: Mapping[str, str], what: str, delivery: Delivery
) -> UnexpectedResponse:
    kind = headers.get("Content-Type", "no content type").partition(";")[0][:80]
    return UnexpectedResponse(f"{endpoint.name}: status {status} ({kind}): {what}", delivery=delivery, status=status)
