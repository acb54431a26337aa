"""Turn HTTP responses that are no success into errors. No I/O.

A documented status with a body in Teak's shape proves that a call was not done. Any other response may come from a proxy that
has forwarded the request. Exceptions are the statuses of `NOT_PROCESSED`, which nobody sends for a request that was processed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import orjson
from attrs import frozen

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

from .endpoints import Endpoint

MAX_RETRY_AFTER = 3600.0
"""Seconds. A longer `Retry-After` is cut to this: a wrong clock somewhere must not stop a game for a year."""
MAX_MESSAGE = 500
"""Characters of a server's message that an error quotes."""


@frozen
class NotProcessed:
    """A status that proves by itself, in a proxy's response too, that the request was not processed.

    Attributes:
        reason: why it proves that.
        repeated: whether the next attempt may succeed.
    """

    reason: str
    repeated: bool = False


NOT_PROCESSED: Mapping[int, NotProcessed] = {
    301: NotProcessed("the address is another one, so nothing was done at this one"),
    307: NotProcessed("the same request is to be sent elsewhere, so it was not done here"),
    308: NotProcessed("the same request is always to be sent elsewhere, so it was not done here"),
    405: NotProcessed("no work begins for a method that is not allowed at this path"),
    407: NotProcessed("a proxy wants credentials of its own before it forwards anything"),
    411: NotProcessed("the body is not read without its length"),
    413: NotProcessed("the body is too large to be read"),
    414: NotProcessed("the address is too long to be read"),
    415: NotProcessed("the body is of a type that is not read"),
    417: NotProcessed("an expectation is checked before the request is read"),
    421: NotProcessed("the connection leads to a server that does not serve this host", repeated=True),
    425: NotProcessed("the server does not process what came before the end of the handshake", repeated=True),
    426: NotProcessed("another protocol is wanted before anything is processed"),
    428: NotProcessed("a condition is wanted before anything is processed"),
    429: NotProcessed("the rate limit is checked before the work", repeated=True),
    431: NotProcessed("the headers are too large to be read"),
}
REPEATED = frozenset(status for status, row in NOT_PROCESSED.items() if row.repeated)
"""Statuses of an attempt that did nothing, after which another attempt may succeed."""


def error_of_status(endpoint: Endpoint, status: int, headers: Mapping[str, str], body: bytes, now: float) -> TeakError:
    """Make the error of a status that is not the endpoint's success.

    Args:
        endpoint: the request's.
        status: HTTP status.
        headers: those of the response.
        body: of the response.
        now: this machine's wall clock, in seconds since 1970.
    """
    if 500 <= status < 600:
        # The server may have failed before the work or after it.
        what = f"{endpoint.title}: the server failed with status {status}"
        return ServerError(what, status=status, retry_after=retry_after(headers, now))
    content = parse_object(body) or {}
    if status == 429:
        what = f"{endpoint.title}: {_message_of(content) or 'rate-limited'}"
        return RateLimited(what, retry_after=retry_after(headers, now), status=status)
    error = None if status in NOT_PROCESSED else _documented_error(endpoint, status, content)
    if error is not None:
        return error
    row = NOT_PROCESSED.get(status)
    if 300 <= status < 400:
        target = _without_query(headers.get("Location", ""))
        what = f"a redirect to {target}, which is not followed: it would carry the secret there. Is base_url right?"
    elif status < 400 or status >= 600:
        what = "not the documented success"
    else:
        hint = row.reason if row else "it is not in Teak's shape, so a proxy or firewall may have made it"
        what = f"{words}; {hint}" if (words := _message_of(content)) else hint
    delivery = Delivery.UNKNOWN if row is None else Delivery.REJECTED
    return unexpected_response(endpoint, status, headers, what, delivery, now, spoils_connection=status == 421)


def unexpected_response(
    endpoint: Endpoint,
    status: int,
    headers: Mapping[str, str],
    what: str,
    delivery: Delivery,
    now: float,
    *,
    spoils_connection: bool = False,
) -> UnexpectedResponse:
    """Make the error of a response that is none of the documented ones."""
    kind = headers.get("Content-Type", "no content type").partition(";")[0][:80]
    return UnexpectedResponse(
        f"{endpoint.title}: status {status} ({kind}): {what}",
        delivery=delivery,
        status=status,
        retry_after=retry_after(headers, now),
        spoils_connection=spoils_connection,
    )


def _documented_error(endpoint: Endpoint, status: int, content: dict[str, Any]) -> TeakError | None:
    """Make the error of a documented response, or return `None` for any other response."""
    if status == 404 and (words := _read_unknown_game(content)):
        return GameNotFound(_describe_unknown_game(endpoint, words), status=status)
    errors = _read_errors(content)
    if not errors:
        return None
    words = _join_messages(errors)
    what = f"{endpoint.title}: {words}"
    if status in (400, 422):
        return InvalidRequest(what, errors=errors, delivery=Delivery.REJECTED, status=status)
    if status == 403 and "authorization" in errors:
        return Forbidden(f"{what} (is the Server Secret, TEAK_SECRET_KEY, this game's?)", status=status)
    if status == 404:
        if "game_id" in errors:
            return GameNotFound(_describe_unknown_game(endpoint, words), status=status)
        kind = PlayerNotFound if "user_id" in errors else UnknownState if "state" in errors else NotFound
        return kind(what, status=status)
    return None


def _read_errors(content: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Read `{"status": "error", "errors": {name: [message, …]}}`; return an empty dict for any other shape."""
    errors = content.get("errors")
    if content.get("status") != "error" or not isinstance(errors, dict):
        return {}
    for messages in errors.values():
        # Frameworks write other shapes under these names: texts, objects, empty lists.
        if not (isinstance(messages, list) and messages and all(isinstance(message, str) for message in messages)):
            return {}
    return {name: tuple(messages) for name, messages in errors.items()}


def _read_unknown_game(content: dict[str, Any]) -> str | None:
    """Return the message of Teak's other shape of a 404. Gateways use that shape for unknown paths, so the text decides."""
    error = content.get("error")
    if not isinstance(error, dict) or error.get("code") != 404:
        return None
    message = error.get("message")
    return _shorten(message) if isinstance(message, str) and message.startswith("Could not find game") else None


def _describe_unknown_game(endpoint: Endpoint, words: str) -> str:
    return f"{endpoint.title}: {words} (is the App ID, TEAK_GAME_ID, right?)"


def _join_messages(errors: Mapping[str, tuple[str, ...]]) -> str:
    return _shorten("; ".join(f"{name}: {message}" for name, messages in errors.items() for message in messages))


def _message_of(content: dict[str, Any]) -> str:
    """Return the message of an error of any shape, or an empty text."""
    errors = content.get("errors")
    if isinstance(errors, dict):
        listed = {name: tuple(messages if isinstance(messages, list) else [messages]) for name, messages in errors.items()}
        return _join_messages(listed)
    error = content.get("error")
    inner = error.get("message") if isinstance(error, dict) else None
    candidates = (inner, content.get("message"), error, content.get("detail"), content.get("title"))
    return next((_shorten(text) for text in candidates if isinstance(text, str) and text), "")


def _shorten(message: str) -> str:
    """Cut a server's message to a length and to characters that any log can take."""
    return message[:MAX_MESSAGE].encode(errors="backslashreplace").decode()


def _without_query(location: str) -> str:
    """Return the address of a redirect without its query, which may hold the secret."""
    try:
        target = urlsplit(location.partition(", ")[0])  # the first, where a response has several
        host = target.hostname
    except ValueError:
        return "nowhere"
    return (f"{target.scheme or 'http'}://{host}{target.path}" if host else target.path or "nowhere")[:200]


_SECONDS = re.compile(r"\d+(?:\.\d*)?", re.ASCII)
_WEEKDAY = re.compile(r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*", re.IGNORECASE | re.ASCII)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Read the seconds that a response asks to wait, the longest of several, or `None`.

    Args:
        headers: several of one name are joined by commas.
        now: this machine's wall clock; a date counts from it where the response has no `Date` of its own.
    """
    value = headers.get("Retry-After", "")
    if not value:
        return None
    waits = []
    sent = None
    for word in _split_values(value):
        if _SECONDS.fullmatch(word):
            waits.append(float(word))
        elif (until := _read_date(word)) is not None:
            if sent is None:
                date = next(_split_values(headers.get("Date", "")), "")
                sent = now if (own := _read_date(date)) is None else own
            waits.append(max(until - sent, 0.0))
    return min(max(waits), MAX_RETRY_AFTER) if waits else None


def _split_values(value: str) -> Iterator[str]:
    """Split a header at its commas, but not at the one behind a date's weekday."""
    weekday = ""
    for part in value.split(","):
        word = part.strip()
        if _WEEKDAY.fullmatch(word):
            weekday = word
        elif word:
            yield f"{weekday}, {word}" if weekday else word
            weekday = ""


def _read_date(word: str) -> float | None:
    """Read any of HTTP's three formats of a date, in seconds since 1970."""
    try:
        date = parsedate_to_datetime(word)
        # The format of asctime has no zone and means UTC.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def parse_object(body: bytes) -> dict[str, Any] | None:
    """Read a JSON object, or return `None` where the body is none."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            # orjson rejects lone surrogates and NaN; servers write both.
            content = json.loads(body)
        except (ValueError, RecursionError):
            return None
    return content if isinstance(content, dict) else None
