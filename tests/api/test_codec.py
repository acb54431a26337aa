from __future__ import annotations

import html
import json
import math
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import RECORDED
from support import MANY, each, sample

from teak_async._api.codec import Message, decode, encode
from teak_async._api.credentials import MIN_SECRET, Credentials
from teak_async._api.endpoints import ENDPOINTS, endpoint_of
from teak_async._api.refusals import MAX_RETRY_AFTER, retry_after
from teak_async._api.structure import unstructure
from teak_async._journal.row import JournalRow
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
from teak_async.models import (
    CategorySubscriptionChange,
    Channel,
    GetSubscription,
    Identify,
    PlayerSession,
    Request,
    Response,
    SetCategorySubscription,
    SetSubscription,
    State,
    SubscriptionChange,
    SubscriptionStatus,
)

SECRET = "s3cr3t&é/x"
CREDENTIALS = Credentials("game 1", SECRET)
BY_TYPE = {kind: endpoint for (kind, channel), endpoint in ENDPOINTS.items() if channel in (None, Channel.DESKTOP_PUSH)}
REQUESTS: list[type[Request]] = list(BY_TYPE)
SUCCESS = {kind: name for kind, (_, name) in RECORDED.items()}
FIRST: list[type[Request]] = REQUESTS if MANY else [Identify, GetSubscription, SetSubscription, SetCategorySubscription]
"""Those for which every refusal is tried: all only in CI, since refusals differ by nothing but the call's name."""
CATEGORIES = {"sales": State.OPT_IN, "events": State.OPT_OUT}
DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
NOW = 1_792_567_680.0
"""The same instant."""
ASKED = {kind: request for kind, (request, _) in RECORDED.items()}
"""What the recorded responses are to."""


def answer(kind: type[Request], status: int | None = None, body: bytes = b"", **headers: str) -> Response:
    """Decode an answer to a request of some kind; the success status unless another is given."""
    endpoint = BY_TYPE[kind]
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return decode(endpoint, ASKED[kind], endpoint.success if status is None else status, named, body, NOW)


def failure(kind: type[Request], status: int | None = None, body: bytes = b"", **headers: str) -> TeakError:
    """The error that such an answer is."""
    with pytest.raises(TeakError) as caught:
        answer(kind, status, body, **headers)
    return caught.value


def parsed(kind: type[Request]) -> dict[str, Any]:
    """The recorded success of a request, to be spoiled."""
    body: dict[str, Any] = json.loads(sample(SUCCESS[kind]))
    return body


def spoiled(kind: type[Request], **changes: Any) -> bytes:
    """The recorded success with some of its keys changed, those that are told `...` left out."""
    return json.dumps({key: value for key, value in (parsed(kind) | changes).items() if value is not ...}).encode()


# What is sent


def parameters_of(message: Message) -> dict[str, str]:
    """Read a message as a server does."""
    if message.method == "GET":
        assert message.body is None
        return dict(parse_qsl(message.query, keep_blank_values=True, strict_parsing=True, errors="strict"))
    assert message.query == ""
    assert message.body is not None
    parameters: dict[str, str] = json.loads(message.body)
    return parameters


texts = st.text(min_size=1).filter(str.strip)
states = st.sampled_from(State)
requests: st.SearchStrategy[Request] = st.one_of(
    st.builds(
        Identify,
        texts,
        client_ip=st.ip_addresses().map(str),
        country_code=st.none() | st.sampled_from(["US", "fr"]),
        timezone_id=st.none() | texts,
        email=st.none() | texts,
        deep_link=st.none() | texts,
    ),
    st.builds(GetSubscription, texts),
    st.builds(SetSubscription, texts, states),
    st.builds(SetCategorySubscription, texts, texts.filter(lambda text: text not in (".", "..")), states),
)


@given(requests, st.builds(Credentials, texts, texts))
def test_encoding_loses_nothing(request: Request, credentials: Credentials) -> None:
    """A server reads just what the request says, with the credentials beside it."""
    endpoint = endpoint_of(request)
    message = encode(endpoint, request, credentials)
    expected = {name: value for name, value in attrs.asdict(request).items() if value is not None and name != "channel"}
    expected |= {"game_id": credentials.game_id, "secret_key": credentials.secret_key}
    found = parameters_of(message)
    if endpoint.in_path:
        above, _, category = message.path.rpartition("/")
        assert above == "/v2/desktop_push/subscription_status"
        found["category"] = unquote(category, errors="strict")
    else:
        assert message.path == endpoint.bucket
    assert found == expected
    assert message.method == endpoint.method


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        (Identify("p1", client_ip="127.0.0.1"), "/v2/identify"),
        (GetSubscription("p1"), "/v2/desktop_push/subscription_status"),
        (SetSubscription("p1", "opt_in"), "/v2/desktop_push/subscription_status"),
        (SetCategorySubscription("p1", "sales", "opt_in"), "/v2/desktop_push/subscription_status/sales"),
    ],
)
def test_paths(asked: Request, path: str) -> None:
    """Each request goes to its documented path."""
    assert encode(endpoint_of(asked), asked, CREDENTIALS).path == path


@pytest.mark.parametrize(
    ("category", "segment"),
    [
        ("a/../../identify?x=1", "a%2F..%2F..%2Fidentify%3Fx%3D1"),
        ("50% off", "50%25%20off"),
        ("%2e%2e", "%252e%252e"),
        ("#1;a", "%231%3Ba"),
        ("é🎮", "%C3%A9%F0%9F%8E%AE"),
        ("a\0b", "a%00b"),
    ],
)
def test_a_category_is_one_segment(category: str, segment: str) -> None:
    """No category can choose another path, a query or a fragment."""
    request = SetCategorySubscription("p1", category, "opt_in")
    message = encode(endpoint_of(request), request, CREDENTIALS)
    assert message.path == f"/v2/desktop_push/subscription_status/{segment}"


def test_what_was_left_out_is_not_sent() -> None:
    """Optional parameters that were not given are absent, not null."""
    request = Identify("p1", country_code="US")
    message = encode(endpoint_of(request), request, CREDENTIALS)
    assert parameters_of(message) == {"user_id": "p1", "country_code": "US", "game_id": "game 1", "secret_key": SECRET}
    assert unstructure(request) == {"user_id": "p1", "country_code": "US"}


@pytest.mark.parametrize(
    ("asked", "digest", "source"),
    [
        (
            Identify("p1", country_code="US"),
            "e84a03154e9db7e75496186aa758e9d3",
            '{"country_code":"US","user_id":"p1"}',
        ),
        (GetSubscription("p1"), "40869154a0e795074310695ba9b0eb7c", '{"user_id":"p1"}'),
        (SetSubscription("p1", "opt_in"), "4b1821fa56ac48cfede3c0643f53dae7", '{"state":"opt_in","user_id":"p1"}'),
        (
            SetCategorySubscription("p1", "sales", "opt_out", channel="desktop_push"),
            "9d47569dd6dbb85c475b156beb2d0162",
            '{"category":"sales","state":"opt_out","user_id":"p1"}',
        ),
    ],
)
def test_existing_journals_know_their_rows_again(asked: Request, digest: str, source: str) -> None:
    """What a journal has of a request stays the same from version to version, or no journal of an earlier one can resume."""
    entry = JournalRow.of(0, asked, None)
    assert (entry.digest, entry.source) == (digest, source)


# The secret


@pytest.mark.parametrize("asked", [GetSubscription("p1"), SetSubscription("p1", "opt_in")])
def test_no_repr_has_the_secret(asked: Request) -> None:
    """Neither credentials nor a message show the secret, in the query or in the body."""
    message = encode(endpoint_of(asked), asked, CREDENTIALS)
    for shown in (repr(message), str(message), repr(CREDENTIALS), str(CREDENTIALS)):
        assert "s3cr3t" not in shown
        assert "secret" not in shown
    assert "s3cr3t" in f"{message.query}{message.body!r}"


@pytest.mark.parametrize(
    "echo",
    [
        SECRET.encode(),
        b"/v2/x?secret_key=s3cr3t%26%C3%A9%2Fx&user_id=p",
        json.dumps({"secret_key": SECRET}).encode(),
        json.dumps({"secret_key": SECRET}, ensure_ascii=False).encode(),
        json.dumps(json.dumps({"secret_key": SECRET})).encode(),
        json.dumps({"secret_key": SECRET}).replace("&", r"\u0026").replace("/", r"\u002F").encode(),
        b"s3cr3t%26%c3%a9/x",
        b"next=%2Fx%3Fsecret_key%3Ds3cr3t%2526%25C3%25A9%252Fx",
        "<p>s3cr3t&amp;é/x</p>".encode(),
        b"s3cr3t&#38;&#xE9;&#047;x",
        "".join(f"\\u{ord(letter):04x}" for letter in SECRET).encode(),
    ],
)
def test_answers_are_cleansed(echo: bytes) -> None:
    """The secret is taken out of an answer that echoes it: plain, percent-encoded, as JSON or HTML, and what mixes these."""
    cleansed = CREDENTIALS.redact(b"before " + echo + b" and " + echo + b" after")
    assert b"s3cr3t" not in cleansed
    assert cleansed.count(b"[secret]") == 2
    assert cleansed.startswith(b"before ")
    assert cleansed.endswith(b" after")


@each("kind", REQUESTS)
def test_answers_without_the_secret_stay(kind: type[Request]) -> None:
    """An answer that does not echo the secret is not changed by cleansing."""
    body = sample(SUCCESS[kind])
    assert CREDENTIALS.redact(body) == body


@pytest.mark.parametrize(("length", "found"), [(MIN_SECRET - 1, True), (MIN_SECRET, False)])
def test_short_secrets(length: int, found: bool) -> None:
    """A word that is too short for a secret is left alone, since replacing it would spoil what else the answer says."""
    word = "opt_in_or_out"[:length]
    assert (word.encode() in Credentials("1", word).redact(b'{"state": "opt_in_or_out"}')) is found


@pytest.mark.parametrize("secret", ["🔑 of the house", "a.b*c[d]$", "line\nbreak\ttab", "back\\slash"])
def test_any_text_can_be_a_secret(secret: str) -> None:
    """Characters that mean something in a pattern, or take more than one unit to write, are known again, too."""
    credentials = Credentials("1", secret)
    for echo in (secret, json.dumps(secret)[1:-1], quote(secret), quote_plus(secret), html.escape(secret)):
        assert credentials.redact(f"<{echo}>".encode()) == b"<[secret]>"
    assert credentials.redact(b"a-b*c[d]$ &") == b"a-b*c[d]$ &"


@pytest.mark.parametrize(
    "echo", ["my+secret+key", "my%20secret%20key", r"my\u0020secret\u0020key", "my&#32;secret&#32;key", "my secret key"]
)
def test_one_mark_of_an_escape_is_enough(echo: str) -> None:
    """Without any of them, and without the secret as it is, the slow search is left out."""
    assert Credentials("1", "my secret key").redact(f"<{echo}>".encode()) == b"<[secret]>"


def test_a_hostile_answer_does_not_hold_us_up() -> None:
    """An answer of the largest size, made to be slow to search, is searched in a moment."""
    began = time.perf_counter()
    for piece in (b"\\", b"%25", b"&amp;", b"s3cr3t&"):
        CREDENTIALS.redact(piece * ((1 << 20) // len(piece)))
    assert time.perf_counter() - began < 5


def test_an_echoed_secret_is_in_no_error() -> None:
    """An error made of a cleansed answer has the secret nowhere."""
    body = json.dumps({"status": "error", "errors": {SECRET: [f"no such key {SECRET}"]}}).encode()
    error = failure(Identify, 400, CREDENTIALS.redact(body))
    assert error.message == "identify: [secret]: no such key [secret]"
    assert "s3cr3t" not in repr(vars(error))


# Successes


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        (
            Identify,
            "identify.201",
            PlayerSession(
                "US",
                {"email": State.OPT_IN, "push": State.OPT_IN, "sms": State.OPT_OUT},
                "12345",
                "teak12345:///reward?level=elite",
            ),
        ),
        (
            Identify,
            "identify.201.no_link",
            PlayerSession("", {"email": State.OPT_IN, "push": State.OPT_OUT, "sms": State.OPT_IN}, "12346"),
        ),
        (
            GetSubscription,
            "status.get.200",
            SubscriptionStatus("example_user", "desktop_push", State.OPT_IN, False, CATEGORIES),
        ),
        (
            SetSubscription,
            "status.set.200",
            SubscriptionChange("example_user", "desktop_push", State.OPT_OUT, State.OPT_IN, False, CATEGORIES),
        ),
        (
            SetCategorySubscription,
            "status.category.200",
            CategorySubscriptionChange("example_user", "desktop_push", State.OPT_OUT, State.OPT_IN, False, "sales"),
        ),
    ],
)
def test_recorded_successes(kind: type[Request], name: str, expected: Response) -> None:
    """The documented bodies become their responses, with states as `State`."""
    response = answer(kind, body=sample(name))
    assert response == expected
    assert all(type(state) is State for state in vars_of(response) if state in ("opt_in", "opt_out"))


def vars_of(response: Response) -> list[Any]:
    """All the plain values in a response, those of its mappings too."""
    values = attrs.asdict(response, recurse=False).values()
    return [plain for value in values for plain in (value.values() if isinstance(value, Mapping) else [value])]


def test_channel_as_the_documentation_describes_it() -> None:
    """The category's answer may call its channel `push`, as one half of the documentation has it."""
    response = answer(SetCategorySubscription, body=spoiled(SetCategorySubscription, channel="push"))
    assert isinstance(response, CategorySubscriptionChange)
    assert response.channel == "push"


def test_untracked_session() -> None:
    """An identify whose session was not tracked has no session id."""
    response = answer(Identify, body=spoiled(Identify, session_id=...))
    assert isinstance(response, PlayerSession)
    assert response.session_id is None


def test_unknown_opt_out_state() -> None:
    """A state of some other channel that we do not know comes as its text, since the session was recorded."""
    told = {channel: {"state": "bounced"} for channel in ("email", "push", "sms")}
    response = answer(Identify, body=spoiled(Identify, opt_out_states=told))
    assert isinstance(response, PlayerSession)
    assert response.opt_out_states == {"email": "bounced", "push": "bounced", "sms": "bounced"}


@each("kind", REQUESTS)
def test_unknown_keys_are_ignored(kind: type[Request]) -> None:
    """Keys that are added to the API one day change nothing."""
    assert answer(kind, body=spoiled(kind, new_key={"a": [1]}, another=None)) == answer(kind, body=sample(SUCCESS[kind]))


flags = st.booleans()
categories = st.dictionaries(st.text(), states)
channels = st.just("desktop_push")
responses: dict[type[Request], st.SearchStrategy[Response]] = {
    Identify: st.builds(
        PlayerSession,
        st.text(),
        st.fixed_dictionaries(dict.fromkeys(["email", "push", "sms"], states | st.text())),
        st.none() | st.text(),
        st.none() | st.text(),
    ),
    GetSubscription: st.builds(SubscriptionStatus, texts, channels, states, flags, categories),
    SetSubscription: st.builds(SubscriptionChange, texts, channels, states, states, flags, categories),
    SetCategorySubscription: st.builds(
        CategorySubscriptionChange,
        texts,
        channels | st.just("push"),
        states,
        states,
        flags,
        texts.filter(lambda text: text not in (".", "..")),
    ),
}


def request_of(kind: type[Request], response: Response) -> Request:
    """What a response is to."""
    if isinstance(response, SubscriptionStatus):
        return GetSubscription(response.user_id)
    if isinstance(response, SubscriptionChange):
        return SetSubscription(response.user_id, response.state)
    if isinstance(response, CategorySubscriptionChange):
        return SetCategorySubscription(response.user_id, response.category, response.state)
    return ASKED[kind]


@given(st.one_of([st.tuples(st.just(kind), made) for kind, made in responses.items()]))
def test_decoding_loses_nothing(made: tuple[type[Request], Response]) -> None:
    """A response that is written as the server would write it is read back as it was."""
    kind, response = made
    endpoint = BY_TYPE[kind]
    body = {name: value for name, value in unstructure(response).items() if value is not None and name != "repeated"}
    if isinstance(response, PlayerSession):
        body["opt_out_states"] = {channel: {"state": state} for channel, state in response.opt_out_states.items()}
    else:
        body["status"] = "ok"
    encoded = json.dumps(body).encode()
    assert decode(endpoint, request_of(kind, response), endpoint.success, {}, encoded, NOW) == response


# Refusals, and what nobody knows


@pytest.mark.parametrize(
    ("kind", "status", "name", "expected", "errors", "message"),
    [
        (
            Identify,
            400,
            "identify.400",
            InvalidRequest,
            {
                "timezone_id": ("Mars/Olympus_Mons is not a recognized IANA timezone name",),
                "location": ("either client_ip or country_code must be provided",),
            },
            (
                "identify: timezone_id: Mars/Olympus_Mons is not a recognized IANA timezone name; "
                "location: either client_ip or country_code must be provided"
            ),
        ),
        (
            Identify,
            403,
            "identify.403",
            Forbidden,
            None,
            "identify: authorization: is invalid (is the Server Secret, TEAK_SECRET_KEY, this game's?)",
        ),
        (
            Identify,
            404,
            "identify.404",
            GameNotFound,
            None,
            "identify: Could not find game with id unknown_app_id (is the App ID, TEAK_GAME_ID, right?)",
        ),
        (
            Identify,
            429,
            "identify.429",
            RateLimited,
            None,
            "identify: rate_limit: /v2/identify may only be called 200 times per second. Please wait a second and try again",
        ),
        (
            GetSubscription,
            404,
            "status.404.player",
            PlayerNotFound,
            None,
            "read status (desktop_push): user_id: No player with id foo",
        ),
        (
            SetSubscription,
            404,
            "status.404.state",
            UnknownState,
            None,
            "set state (desktop_push): state: Unknown state opted_in",
        ),
        (
            SetSubscription,
            429,
            "status.429",
            RateLimited,
            None,
            (
                "set state (desktop_push): rate_limit: /v2/desktop_push/subscription_status may only be called 300 times per "
                "second. Please wait a second and try again"
            ),
        ),
        (
            SetCategorySubscription,
            429,
            "status.category.429",
            RateLimited,
            None,
            (
                "set category state (desktop_push): rate_limit: /v2/desktop_push/subscription_status/:category_identifier "
                "may only be called 300 times per second. Please wait a second and try again"
            ),
        ),
    ],
)
def test_recorded_refusals(
    kind: type[Request],
    status: int,
    name: str,
    expected: type[TeakError],
    errors: dict[str, tuple[str, ...]] | None,
    message: str,
) -> None:
    """The documented refusals become their errors, with the call and the server's own words in the message."""
    error = failure(kind, status, sample(name))
    assert type(error) is expected
    assert (error.delivery, error.status, error.message) == (Delivery.REJECTED, status, message)
    assert getattr(error, "errors", None) == errors


@each("kind", REQUESTS)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("identify.403", Forbidden),
        ("identify.404", GameNotFound),
        ("identify.400", InvalidRequest),
        ("status.429", RateLimited),
    ],
)
def test_refusals_of_every_call(kind: type[Request], name: str, expected: type[TeakError]) -> None:
    """What is documented for one call only is understood on all of them."""
    assert type(failure(kind, int(name.split(".")[1]), sample(name))) is expected


NO_OBJECT = {
    "nothing": b"",
    "html": b"<html><body>Log in to the hotel's network</body></html>",
    "list": b'[{"status": "ok"}]',
    "text": b'"ok"',
    "number": b"17",
    "null": b"null",
    "NaN": b"NaN",
    "cut": b'{"status": "ok", "chan',
    "not UTF-8": b'{"status": "\xe9"}',
    "endless": b'{"a":' * 100_000,
    "deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep list": b'{"errors":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "long number": b'{"status":' + b"9" * 5_000 + b"}",
}
"""Bodies that hold no JSON object, or none that can be read."""
no_object = each("body", NO_OBJECT.values())


@each("kind", FIRST)
@no_object
def test_success_without_an_object(kind: type[Request], body: bytes) -> None:
    """The success status with no JSON object may be a proxy speaking, so nobody knows what became of the call."""
    error = failure(kind, body=body, Content_Type="text/html")
    assert type(error) is UnexpectedResponse
    assert (error.delivery, error.status) == (Delivery.UNKNOWN, BY_TYPE[kind].success)
    assert "(text/html): its body is no JSON object" in error.message


@each("kind", REQUESTS)
@pytest.mark.parametrize("status", [100, 200, 201, 202, 203, 204, 206, 299, 600, 999])
def test_another_success(kind: type[Request], status: int) -> None:
    """Another status than the documented one is not Teak's own, whatever its body: nobody knows what became of the call."""
    if status == BY_TYPE[kind].success:
        assert isinstance(answer(kind, status, sample(SUCCESS[kind])), BY_TYPE[kind].response)
        return
    error = failure(kind, status, sample(SUCCESS[kind]))
    assert type(error) is UnexpectedResponse
    assert (error.delivery, error.status) == (Delivery.UNKNOWN, status)


@each("kind", REQUESTS)
@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 520, 599])
def test_server_errors(kind: type[Request], status: int) -> None:
    """A 5xx says nothing about the work, even when its body looks like a success."""
    error = failure(kind, status, sample(SUCCESS[kind]))
    assert type(error) is ServerError
    assert (error.delivery, error.status) == (Delivery.UNKNOWN, status)


@each("kind", FIRST)
@pytest.mark.parametrize(
    ("status", "expected", "delivery"),
    [
        (400, UnexpectedResponse, Delivery.UNKNOWN),
        (401, UnexpectedResponse, Delivery.UNKNOWN),
        (403, UnexpectedResponse, Delivery.UNKNOWN),
        (404, UnexpectedResponse, Delivery.UNKNOWN),
        (405, UnexpectedResponse, Delivery.REJECTED),
        (408, UnexpectedResponse, Delivery.UNKNOWN),
        (418, UnexpectedResponse, Delivery.UNKNOWN),
        (422, UnexpectedResponse, Delivery.UNKNOWN),
        (429, RateLimited, Delivery.REJECTED),
        (499, UnexpectedResponse, Delivery.UNKNOWN),
    ],
)
@no_object
def test_refusals_in_no_known_shape(
    kind: type[Request], status: int, expected: type[TeakError], delivery: Delivery, body: bytes
) -> None:
    """A 4xx that is not in Teak's shape proves something only where nobody sends its status for what was processed."""
    error = failure(kind, status, body)
    assert type(error) is expected
    assert (error.delivery, error.status) == (delivery, status)


@pytest.mark.parametrize(
    "errors",
    [
        None,
        "bad",
        ["bad"],
        {},
        {"email": "bad"},
        {"email": []},
        {"email": ["bad", 5, None, {"a": 1}]},
        {"email": None},
    ],
)
def test_errors_in_odd_shapes(errors: Any) -> None:
    """What is nearly Teak's shape is somebody else's."""
    error = failure(Identify, 400, json.dumps({"status": "error", "errors": errors}).encode())
    assert (type(error), error.delivery) == (UnexpectedResponse, Delivery.UNKNOWN)


@pytest.mark.parametrize("body", [b'{"error": "Not Found"}', b'{"error": null}', b'{"errors": {"path": ["unknown"]}}'])
def test_another_404(body: bytes) -> None:
    """A 404 in a shape that is not documented is not Teak's; one in Teak's shape names what it knows."""
    assert type(failure(Identify, 404, body)) is UnexpectedResponse
    assert type(failure(Identify, 404, b'{"status": "error", "errors": {"path": ["unknown"]}}')) is NotFound


def test_an_undocumented_refusal_keeps_its_words() -> None:
    """A 4xx that is not documented says what the server said."""
    error = failure(SetSubscription, 409, b'{"errors": {"state": ["is frozen"]}}', Content_Type="application/json")
    assert error.message.startswith(
        "set state (desktop_push): status 409 (application/json): state: is frozen; it is not in Teak's shape"
    )


@each("kind", REQUESTS)
@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
def test_redirects(kind: type[Request], status: int) -> None:
    """A redirect says so and where it points, without what its query holds; three kinds prove that nothing was done here."""
    there = "https://user:s3cr3t@other.example:8443/v2/there?secret_key=s3cr3t#s3cr3t"
    error = failure(kind, status, sample(SUCCESS[kind]), Location=there)
    assert type(error) is UnexpectedResponse
    assert error.status == status
    assert error.delivery is (Delivery.REJECTED if status in (301, 307, 308) else Delivery.UNKNOWN)
    assert "a redirect to https://other.example/v2/there, which is not followed" in error.message
    assert "s3cr3t" not in error.message


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("/v2/there?secret_key=s3cr3t", "/v2/there"),
        ("?secret_key=s3cr3t", "nowhere"),
        ("/v2/there, https://user:s3cr3t@other.example", "/v2/there"),
    ],
)
def test_redirects_without_a_host(place: str, shown: str) -> None:
    """A redirect within the server is shown by its path."""
    error = failure(GetSubscription, 302, Location=place)
    assert f"a redirect to {shown}," in error.message
    assert "s3cr3t" not in error.message


def test_redirect_to_nowhere() -> None:
    """A redirect that does not say where to is an error all the same."""
    assert "a redirect to nowhere," in failure(GetSubscription, 302).message


# Done, but not said as documented


DOCUMENTED = [
    (kind, key)
    for kind, keys in {
        Identify: ["country_code", "opt_out_states"],
        GetSubscription: ["status", "channel", "user_id", "state", "reachable", "categories"],
        SetSubscription: ["status", "channel", "user_id", "previous_state", "state", "reachable", "categories"],
        SetCategorySubscription: ["status", "channel", "user_id", "previous_state", "state", "reachable", "category"],
    }.items()
    for key in keys
]


def is_done(error: TeakError, key: str) -> None:
    assert type(error) is UnexpectedResponse
    assert error.delivery is Delivery.DONE
    assert key in error.message


@each("kind, key", DOCUMENTED)
def test_missing_keys(kind: type[Request], key: str) -> None:
    """A success that lacks a documented key was done, and the error names the key; a read's response is no set's."""
    if (kind, key) == (SetSubscription, "previous_state"):
        assert failure(kind, body=spoiled(kind, **{key: ...})).delivery is Delivery.UNKNOWN
        return
    is_done(failure(kind, body=spoiled(kind, **{key: ...})), key)


@each("kind, key", [(kind, key) for kind, key in DOCUMENTED if key != "status"])
@pytest.mark.parametrize("value", [None, 17, math.nan, [], ["opt_in"], {"sales": 5}, {"push": {"state": "opt_in"}}])
def test_wrong_types(kind: type[Request], key: str, value: Any) -> None:
    """A success in which a documented key has a value of another type was done, unless it is another player's or category's."""
    if value == 17 and key in ("user_id", "category"):
        assert failure(kind, body=spoiled(kind, **{key: value})).delivery is Delivery.UNKNOWN
        return
    is_done(failure(kind, body=spoiled(kind, **{key: value})), key)


@pytest.mark.parametrize("key", ["session_id", "deep_link"])
def test_wrong_types_of_optional_keys(key: str) -> None:
    """An optional key has its type too, when it is there."""
    is_done(failure(Identify, body=spoiled(Identify, **{key: 17})), key)


@pytest.mark.parametrize("value", ["yes", 1, "true"])
def test_reachable_is_a_boolean(value: Any) -> None:
    """What is merely true is no boolean."""
    is_done(failure(GetSubscription, body=spoiled(GetSubscription, reachable=value)), "reachable")


@pytest.mark.parametrize(
    "told",
    [
        {"email": {"state": "opt_in"}, "push": {"state": "opt_in"}},
        {"email": {"state": "opt_in"}, "push": {"state": "opt_in"}, "sms": {}},
        {"email": {"state": "opt_in"}, "push": {"state": "opt_in"}, "sms": {"state": 5}},
        {"email": {"state": "opt_in"}, "push": {"state": "opt_in"}, "sms": "opt_in"},
    ],
)
def test_incomplete_opt_out_states(told: dict[str, Any]) -> None:
    """An identify whose answer lacks the state of a documented channel was done."""
    is_done(failure(Identify, body=spoiled(Identify, opt_out_states=told)), "opt_out_states")


@pytest.mark.parametrize("kind", [SetSubscription, GetSubscription, SetCategorySubscription])
@pytest.mark.parametrize("key", ["state", "previous_state"])
def test_unknown_subscription_state(kind: type[Request], key: str) -> None:
    """A state of the subscription itself that we do not know is an error, since nobody could act on it; a set asked another."""
    if kind is not GetSubscription and key == "state":
        assert failure(kind, body=spoiled(kind, state="paused")).delivery is Delivery.UNKNOWN
    elif key in parsed(kind):
        is_done(failure(kind, body=spoiled(kind, **{key: "paused"})), key)


@pytest.mark.parametrize("kind", [GetSubscription, SetSubscription, SetCategorySubscription])
@pytest.mark.parametrize("said", ["error", "OK", None, True, {}])
def test_a_success_that_says_otherwise(kind: type[Request], said: Any) -> None:
    """A success whose body does not say `ok` contradicts itself, so nobody knows what became of the call."""
    error = failure(kind, body=spoiled(kind, status=said))
    assert type(error) is UnexpectedResponse
    assert error.delivery is Delivery.UNKNOWN
    assert f"its body says status {said!r}" in error.message


# Retry-After


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("1", 1.0),
        (" 17 ", 17.0),
        ("007", 7.0),
        ("3600", 3600.0),
        ("3601", MAX_RETRY_AFTER),
        ("9" * 5_000, MAX_RETRY_AFTER),
        ("Wed, 21 Oct 2026 07:28:05 GMT", 5.0),
        ("Wed, 21 Oct 2026 09:28:05 +0200", 5.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
        ("Wed, 21 Oct 2099 07:28:00 GMT", MAX_RETRY_AFTER),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", 1.5),
        ("1e3", None),
        ("NaN", None),
        ("inf", None),
        ("²", None),
        ("\u0661", None),
        ("Wed, 99 Oct 2026 07:28:05 GMT", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    """The wait that an answer asks for is read from numbers and dates, bounded, and left alone where it makes no sense."""
    assert retry_after({"Retry-After": value, "Date": DATE}, 0.0) == seconds
    error = failure(Identify, 429, sample("identify.429"), Retry_After=value, Date=DATE)
    assert isinstance(error, RateLimited)
    assert error.retry_after == seconds


@pytest.mark.parametrize("date", [{}, {"Date": "today"}, {"Date": ""}])
def test_retry_after_a_date_without_a_clock(date: dict[str, str]) -> None:
    """A date counts from this machine's clock where the response does not tell its own time."""
    assert retry_after({"Retry-After": DATE, **date}, NOW - 5) == 5.0
    assert retry_after({"Retry-After": DATE, **date}, NOW + 5) == 0.0


def test_no_retry_after() -> None:
    """A response that asks for no wait has none."""
    assert retry_after({}, NOW) is None


@given(st.text() | st.text("0123456789.,: -+GMTWedSunOct"))
def test_any_retry_after(value: str) -> None:
    """Whatever a header holds, it is a bounded wait or none."""
    seconds = retry_after({"Retry-After": value, "Date": value[::-1]}, NOW)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER
