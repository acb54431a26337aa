"""The judge of what a response proves: bodies as other software writes them, and no constant of the codec's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from support import each, sample

from teak_async._api.codec import decode
from teak_async._api.endpoints import endpoint_of
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
from teak_async.models import GetSubscription, Identify, Request, Response, SetCategorySubscription, SetSubscription

NOW = 1_792_567_680.0  # Wed, 21 Oct 2026 07:28:00 GMT
IDENTIFY = Identify("example_user", country_code="US")
READ = GetSubscription("example_user")
SET = SetSubscription("example_user", "opt_in")
CATEGORY = SetCategorySubscription("example_user", "sales", "opt_in")
REQUESTS: dict[str, Request] = {"identify": IDENTIFY, "read": READ, "set": SET, "category": CATEGORY}
SAMPLES = {"identify": "identify.201", "read": "status.get.200", "set": "status.set.200", "category": "status.category.200"}
every_request = each("request_name", REQUESTS)

BODIES: dict[str, bytes] = {
    "nothing": b"",
    "nginx": b"<html>\r\n<head><title>403</title></head>\r\n<body><hr><center>nginx</center>\r\n</body>\r\n</html>\r\n",
    "haproxy": b"<html><body><h1>408 Request Time-out</h1>\nYour browser didn't send it in time.\n</body></html>\n",
    "aws alb": b"<html>\r\n<head><title>403 Forbidden</title></head>\r\n<body><center><h1>403</h1></center></body></html>",
    "aws api gateway": b'{"message":"Forbidden"}',
    "aws api gateway, token": b'{"message":"Missing Authentication Token"}',
    "aws waf": b'{"Message":"Request blocked","Type":"User"}',
    "cloudflare": b"<!DOCTYPE html><title>Attention Required! | Cloudflare</title><p>error code: 1020",
    "cloudflare, text": b"error code: 1015",
    "envoy": b"upstream connect error or disconnect/reset before headers. reset reason: connection timeout",
    "envoy, stream": b"stream timeout",
    "istio": b"RBAC: access denied",
    "spring": b'{"timestamp":"2026-10-21T07:28:00.000+00:00","status":404,"error":"Not Found","path":"/v2/identify"}',
    "squid": b"<html><title>ERROR: The requested URL could not be retrieved</title></html>",
    "captive portal": b"<html><body>Log in to the hotel's network</body></html>",
    "kong": b'{"message":"no Route matched with those values","request_id":"5a"}',
    "tyk": b'{"error": "Key not authorised"}',
    "apigee": b'{"fault":{"faultstring":"Not found","detail":{"errorcode":"flow.ApplicationNotFound"}}}',
    "google": b'{"error":{"code":404,"message":"Requested entity was not found.","status":"NOT_FOUND"}}',
    "krakend": b'{"error":{"code":404,"message":"route not matched"}}',
    "azure": b'{"error":{"code":"404","message":"Resource not found"}}',
    "asp.net": b'{"type":"https://tools.ietf.org/html/rfc9110","title":"","status":400,"errors":{"user_id":["is required"]}}',
    "laravel": b'{"message":"The given data was invalid.","errors":{"user_id":["is required"]}}',
    "rails": b'{"errors":{"user_id":["is invalid"]}}',
    "rails, code": b'{"status":400,"error":"Bad Request"}',
    "json:api": b'{"errors":[{"status":"404","title":"Not found"}]}',
    "jsend": b'{"status":"error","message":"Unable to communicate with database"}',
    "jsend, fail": b'{"status":"fail","data":{"user_id":"is required"}}',
    "graphql": b'{"errors":[{"message":"boom"}],"data":null}',
    "fastapi": b'{"detail":"Not Found"}',
    "problem json": b'{"type":"about:blank","title":"Conflict","status":409,"detail":"busy"}',
    "errors as text": b'{"status":"error","errors":"bad"}',
    "errors as list": b'{"status":"error","errors":["bad"]}',
    "no errors": b'{"status":"error","errors":{}}',
    "a message that is no list": b'{"status":"error","errors":{"user_id":"No player with id foo"}}',
    "an empty list": b'{"status":"error","errors":{"user_id":[]}}',
    "objects in the list": b'{"status":"error","errors":{"user_id":[{"code":5}]}}',
    "another word": b'{"status":"failure","errors":{"user_id":["No player with id foo"]}}',
    "a success": b'{"status":"ok","user_id":"example_user"}',
    "a list": b'[{"status":"error","errors":{"user_id":["x"]}}]',
    "cut": b'{"status":"error","errors":{"user_id":["No pl',
    "not utf-8": b'{"status":"error","errors":{"user_id":["\xe9"]}}',
}
"""What stands before a server says, in shapes that are not Teak's."""
TEAK = {
    "authorization": b'{"status":"error","errors":{"authorization":["is invalid"]}}',
    "parameter": b'{"status":"error","errors":{"email":["is not valid"]}}',
    "player": b'{"status":"error","errors":{"user_id":["No player with id foo"]}}',
    "state": b'{"status":"error","errors":{"state":["Unknown state opted_in"]}}',
    "game": b'{"status":"error","errors":{"game_id":["Could not find game with id x"]}}',
    "game, object": b'{"error":{"code":404,"message":"Could not find game with id x"}}',
    "rate limit": b'{"status":"rate_limit","errors":{"rate_limit":["/v2/identify may only be called 200 times per second."]}}',
}
NOT_PROCESSED = {301, 307, 308, 405, 407, 411, 413, 414, 415, 417, 421, 425, 426, 428, 429, 431}
DOUBTFUL = sorted({*range(300, 309), *range(400, 452), 460, 463, 494, 499} - NOT_PROCESSED)
FAILED = [500, 501, 502, 503, 504, 505, 507, 508, 511, 520, 522, 524, 525, 530, 561, 599]


def received(request: Request, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    return decode(endpoint_of(request), request, status, headers or {}, body, NOW)


def error_of(request: Request, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> TeakError:
    with pytest.raises(TeakError) as caught:
        received(request, status, body, headers)
    return caught.value


def changed(name: str, **changes: Any) -> bytes:
    """A recorded success with other values; those that are `...` are left out."""
    body = json.loads(sample(SAMPLES[name])) | changes
    return json.dumps({key: value for key, value in body.items() if value is not ...}).encode()


# Refusals


@every_request
@pytest.mark.parametrize("status", DOUBTFUL)
def test_a_refusal_in_a_foreign_shape_proves_nothing(request_name: str, status: int) -> None:
    """A proxy that has forwarded the request may speak, whatever its status says of an origin server."""
    for body in BODIES.values():
        error = error_of(REQUESTS[request_name], status, body)
        assert type(error) is UnexpectedResponse, body
        assert (error.delivery, error.status) == (Delivery.UNKNOWN, status), body


@every_request
@pytest.mark.parametrize("status", sorted(NOT_PROCESSED))
def test_some_statuses_prove_that_nothing_was_done(request_name: str, status: int) -> None:
    """They mean it in a proxy's mouth, too, in whatever shape."""
    for body in (*BODIES.values(), *TEAK.values()):
        error = error_of(REQUESTS[request_name], status, body)
        assert type(error) is (RateLimited if status == 429 else UnexpectedResponse)
        assert (error.delivery, error.status) == (Delivery.REJECTED, status)


@every_request
@pytest.mark.parametrize("status", FAILED)
def test_a_failed_server_proves_nothing(request_name: str, status: int) -> None:
    """Nor does one that speaks in Teak's shape."""
    for body in (*BODIES.values(), *TEAK.values(), sample(SAMPLES[request_name])):
        error = error_of(REQUESTS[request_name], status, body)
        assert type(error) is ServerError
        assert error.delivery is Delivery.UNKNOWN


@every_request
@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, "parameter", InvalidRequest),
        (400, "player", InvalidRequest),
        (422, "parameter", InvalidRequest),
        (422, "player", InvalidRequest),
        (403, "authorization", Forbidden),
        (404, "player", PlayerNotFound),
        (404, "state", UnknownState),
        (404, "game", GameNotFound),
        (404, "game, object", GameNotFound),
        (404, "parameter", NotFound),
        (429, "rate limit", RateLimited),
    ],
)
def test_teaks_own_words_count(request_name: str, status: int, body: str, expected: type[TeakError]) -> None:
    """The documented status in the documented shape says that nothing was done."""
    error = error_of(REQUESTS[request_name], status, TEAK[body])
    assert type(error) is expected
    assert error.delivery is Delivery.REJECTED


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, "rate limit"),
        (400, "game, object"),
        (422, "game, object"),
        (401, "authorization"),
        (403, "parameter"),
        (403, "rate limit"),
        (403, "game, object"),
        (404, "rate limit"),
        (409, "parameter"),
        (302, "parameter"),
    ],
)
def test_teaks_words_beside_another_status(status: int, body: str) -> None:
    """A shape that is not documented for its status is nobody's word."""
    error = error_of(IDENTIFY, status, TEAK[body])
    assert type(error) is UnexpectedResponse
    assert error.delivery is Delivery.UNKNOWN


@pytest.mark.parametrize(
    "error",
    [
        {"code": 404, "message": "route not matched"},
        {"code": 404, "message": ""},
        {"code": 404, "message": None},
        {"code": 404},
        {"code": 404, "message": "We could not find game"},
        {"code": 500, "message": "Could not find game with id x"},
        "Could not find game with id x",
        ["Could not find game with id x"],
        None,
    ],
)
def test_a_gateways_404_is_not_the_games(error: Any) -> None:
    """Teak's shape with other words is a gateway's."""
    assert type(error_of(IDENTIFY, 404, json.dumps({"error": error}).encode())) is UnexpectedResponse


def test_the_messages_say_what_to_look_at() -> None:
    """The wrong game hints at its variable as the wrong key does, and parameters stand before a colon."""
    assert "TEAK_GAME_ID" in str(error_of(IDENTIFY, 404, TEAK["game"]))
    assert "TEAK_GAME_ID" in str(error_of(IDENTIFY, 404, TEAK["game, object"]))
    assert "TEAK_SECRET_KEY" in str(error_of(IDENTIFY, 403, TEAK["authorization"]))
    assert "TEAK_SECRET_KEY" not in str(error_of(IDENTIFY, 403, BODIES["aws alb"]))
    assert "route not matched" in str(error_of(IDENTIFY, 404, BODIES["krakend"]))
    both = b'{"status":"error","errors":{"user_id":["No player with id foo"],"location":["either one"]}}'
    assert str(error_of(IDENTIFY, 400, both)) == "identify: user_id: No player with id foo; location: either one"


# Successes


@every_request
def test_a_success_is_a_success(request_name: str) -> None:
    assert isinstance(received(REQUESTS[request_name], *success_of(request_name)), Response)


def success_of(name: str) -> tuple[int, bytes]:
    return 201 if name == "identify" else 200, sample(SAMPLES[name])


@every_request
@each("body", [*BODIES, *TEAK])
def test_a_foreign_body_is_no_success(request_name: str, body: str) -> None:
    """The documented success status with an error or a page inside is neither success nor refusal."""
    text = BODIES.get(body) or TEAK.get(body, b"")
    error = error_of(REQUESTS[request_name], success_of(request_name)[0], text)
    assert type(error) is UnexpectedResponse
    if body != "a success" or request_name == "identify":
        assert error.delivery is Delivery.UNKNOWN


@every_request
@pytest.mark.parametrize(
    "more",
    [
        {"errors": {"user_id": ["No player with id foo"]}},
        {"errors": []},
        {"error": "boom"},
        {"error": {"code": 404, "message": "Could not find game"}},
        {"status": "error"},
        {"status": "rate_limit"},
        {"status": "fail"},
        {"status": 500},
    ],
)
def test_a_success_with_an_error_inside(request_name: str, more: dict[str, Any]) -> None:
    """A body that is whole but for an error in it contradicts itself."""
    error = error_of(REQUESTS[request_name], success_of(request_name)[0], changed(request_name, **more))
    assert type(error) is UnexpectedResponse
    assert error.delivery is Delivery.UNKNOWN


@every_request
@pytest.mark.parametrize("status", [200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 299])
def test_another_2xx_is_no_success(request_name: str, status: int) -> None:
    """Only the one documented status is."""
    if status != success_of(request_name)[0]:
        error = error_of(REQUESTS[request_name], status, success_of(request_name)[1])
        assert (type(error), error.delivery) == (UnexpectedResponse, Delivery.UNKNOWN)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"status":"ok"}',
        b'{"ok":true}',
        b'{"id":5}',
        b'{"status":"ok","message":"healthy"}',
        b'{"session_id":"portal"}',
    ],
)
@every_request
def test_a_success_that_nobody_knows_as_this_calls(request_name: str, body: bytes) -> None:
    """What a default backend or a portal would say, too, proves nothing."""
    error = error_of(REQUESTS[request_name], success_of(request_name)[0], body)
    assert (type(error), error.delivery) == (UnexpectedResponse, Delivery.UNKNOWN)


@pytest.mark.parametrize(
    ("request_name", "changes"),
    [
        ("identify", {"country_code": ...}),
        ("identify", {"opt_out_states": 5}),
        ("identify", {"session_id": 5}),
        ("read", {"reachable": ...}),
        ("read", {"categories": None}),
        ("read", {"state": "paused"}),
        ("set", {"reachable": "yes"}),
        ("set", {"previous_state": "paused"}),
        ("set", {"status": ...}),
        ("category", {"previous_state": ...}),
        ("category", {"channel": None}),
        ("category", {"user_id": ...}),
    ],
)
def test_a_success_that_cannot_be_read_was_done(request_name: str, changes: dict[str, Any]) -> None:
    """It has what only Teak writes and names nothing else than was asked."""
    error = error_of(REQUESTS[request_name], success_of(request_name)[0], changed(request_name, **changes))
    assert (type(error), error.delivery) == (UnexpectedResponse, Delivery.DONE)
    assert not error.spoils_connection  # type: ignore[attr-defined] # of this type


@pytest.mark.parametrize(
    ("request_name", "body"),
    [
        ("read", changed("read", user_id="somebody else")),
        ("read", changed("read", user_id=17)),
        ("read", changed("read", channel="push")),
        ("read", changed("category")),
        ("set", changed("set", user_id="Example_user")),
        ("set", changed("set", state="opt_out")),
        ("set", changed("set", state="paused")),
        ("set", changed("set", state="spam_report")),
        ("set", changed("set", channel="email")),
        ("set", changed("category")),
        ("set", changed("read")),
        ("category", changed("category", user_id="somebody else")),
        ("category", changed("category", category="events")),
        ("category", changed("category", state="opt_out")),
        ("category", changed("category", channel="sms")),
        ("category", changed("set")),
        ("category", changed("read")),
        ("identify", changed("identify", user_id="somebody else")),
        # What cannot be read besides does not make it this call's.
        ("set", changed("set", user_id="somebody else", reachable=...)),
        ("set", changed("set", state="opt_out", status=...)),
    ],
)
def test_a_success_of_another_call(request_name: str, body: bytes) -> None:
    """A desynchronised proxy or a stale cache has sent it: nobody knows of this call, and the connection is spoiled."""
    error = error_of(REQUESTS[request_name], success_of(request_name)[0], body)
    assert isinstance(error, UnexpectedResponse)
    assert error.delivery is Delivery.UNKNOWN
    assert "the response is to another call" in error.message
    assert error.spoils_connection
    assert "somebody" not in error.message


@pytest.mark.parametrize(("asked", "answered"), [("identify", "read"), ("read", "identify"), ("set", "identify")])
def test_the_success_of_another_endpoint(asked: str, answered: str) -> None:
    """A whole success under another status is another call's, too."""
    error = error_of(REQUESTS[asked], *success_of(answered))
    assert isinstance(error, UnexpectedResponse)
    assert error.delivery is Delivery.UNKNOWN
    assert error.spoils_connection


@pytest.mark.parametrize(("status", "spoiled"), [(421, True), (425, False), (403, False), (302, False)])
def test_what_else_spoils_a_connection(status: int, spoiled: bool) -> None:
    """A server that a connection should not have led to is asked on another one."""
    error = error_of(READ, status, b"")
    assert isinstance(error, UnexpectedResponse)
    assert error.spoils_connection is spoiled


@pytest.mark.parametrize("state", ["opt_out", "spam_report"])
def test_a_spam_report_stands_for_an_opt_out(state: str) -> None:
    """Teak ignores an opt-out of what was reported as spam: it gets nothing anyway, so the call was done."""
    request = SetSubscription("example_user", "opt_out")
    if state == "opt_out":
        assert received(request, 200, changed("set", state=state))
    else:
        assert error_of(request, 200, changed("set", state=state)).delivery is Delivery.DONE


def test_a_number_that_names_the_player() -> None:
    """A player whose id comes back as a number is the one that was asked for, though the type is wrong."""
    error = error_of(GetSubscription(17), 200, changed("read", user_id=17))
    assert error.delivery is Delivery.DONE


# Retry-After

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
LATER = {
    "IMF-fixdate": "Wed, 21 Oct 2026 07:28:09 GMT",
    "RFC 850": "Wednesday, 21-Oct-26 07:28:09 GMT",
    "asctime": "Wed Oct 21 07:28:09 2026",
    "another zone": "Wed, 21 Oct 2026 09:28:09 +0200",
    "no weekday": "21 Oct 2026 07:28:09 GMT",
}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2", 2.0),
        ("2.5", 2.5),
        ("30.0", 30.0),
        (" 4 ", 4.0),
        ("3, 2", 3.0),
        ("2,3", 3.0),
        ("1, 2.5, 2", 2.5),
        ("3, soon", 3.0),
        (f"3, {LATER['IMF-fixdate']}", 9.0),
        (f"{LATER['RFC 850']}, 30", 30.0),
        (f"{DATE}, {LATER['asctime']}", 9.0),
        ("86400", 3600.0),
        ("9" * 400, 3600.0),
        ("Wed, 21 Oct 2099 07:28:09 GMT", 3600.0),
        ("Wed, 21 Oct 2020 07:28:09 GMT", 0.0),
        ("-1", None),
        ("-2.5", None),
        ("1e3", None),
        ("inf", None),
        ("NaN", None),
        ("2s", None),
        ("soon", None),
        ("", None),
        (",", None),
        ("Wed, 99 Oct 2026 07:28:09 GMT", None),
        ("\u0662", None),
        *((value, 9.0) for value in LATER.values()),
    ],
)
@each("date", [{"Date": DATE}, {}, {"Date": "today"}, {"Date": "Wednesday, 21-Oct-26 07:28:00 GMT"}])
@each("status, kind", [(429, RateLimited), (503, ServerError), (425, UnexpectedResponse)])
def test_how_long_to_wait(value: str, seconds: float | None, date: dict[str, str], status: int, kind: type[TeakError]) -> None:
    """In all its forms, on each status that may have it; against this machine's clock where the response has none."""
    error = error_of(IDENTIFY, status, b"", {"Retry-After": value} | date)
    assert type(error) is kind
    assert error.retry_after == seconds


def test_the_responses_own_clock_is_asked_first() -> None:
    """A server whose clock is wrong means its own time."""
    headers = {"Retry-After": "Mon, 01 Jan 2001 00:00:07 GMT", "Date": "Mon, 01 Jan 2001 00:00:00 GMT"}
    assert error_of(IDENTIFY, 503, b"", headers).retry_after == 7.0
