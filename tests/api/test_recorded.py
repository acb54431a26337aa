"""Each documented body of email, exclusions, removal and categories; and every way in which one field of any answer may be off.

The judge of the fields is a table of its own, written after Teak's pages: it knows nothing of the models or the converter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
from recorded import EVE, RECORDED
from support import sample

from teak_async._api.codec import decode, encode
from teak_async._api.credentials import Credentials
from teak_async._api.endpoints import endpoint_of
from teak_async._api.structure import as_json, unstructure
from teak_async.errors import Delivery, GameNotFound, InvalidRequest, RateLimited, TeakError, UnexpectedResponse
from teak_async.models import (
    ClearDeliveryFault,
    CreateExclusion,
    DeleteExclusion,
    DeliveryFaultCleared,
    EmailAction,
    EmailAddress,
    EmailAddressChange,
    EmailCategoryChange,
    EmailChange,
    EmailState,
    EmailStatus,
    Exclusion,
    ExclusionAction,
    ExclusionChange,
    ExclusionEnd,
    ExclusionPage,
    ExclusionStatus,
    GetEmailAddress,
    GetEmailSubscription,
    GetExclusion,
    GetSubscription,
    ListCategories,
    ListExclusions,
    ListUnsubscriptions,
    OptOutCategories,
    OptOutCategory,
    PlayerRemoval,
    PurgedChannels,
    RemoveEmailAddress,
    RemovePlayer,
    Request,
    Response,
    SetEmailAddress,
    SetEmailCategorySubscription,
    SetEmailSubscription,
    State,
    SubscriptionStatus,
    Unsubscription,
    UnsubscriptionPage,
)

NOW = 1_792_567_680.0
CATEGORIES = {"sales": State.OPT_IN, "events": State.OPT_OUT}
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NEXT_YEAR = datetime(2027, 1, 1, tzinfo=UTC)
FOREVER = Exclusion("example_user", CREATED, None)
CURSOR = "QWZ0ZXI="


def received(request: Request, body: bytes, status: int = 200) -> Response:
    return decode(endpoint_of(request), request, status, {}, body, NOW)


def error_of(request: Request, body: bytes, status: int = 200) -> TeakError:
    with pytest.raises(TeakError) as caught:
        received(request, body, status)
    return caught.value


@pytest.mark.parametrize(
    ("request_", "name", "expected"),
    [
        (
            GetSubscription("example_user", channel="push"),
            "push.status.get.200",
            SubscriptionStatus("example_user", "push", State.OPT_IN, True, CATEGORIES),
        ),
        (GetEmailSubscription(EVE), "email.status.get.200", EmailStatus(EVE, "email", EmailState.AVAILABLE, False, CATEGORIES)),
        (
            SetEmailSubscription(EVE, "opt_in"),
            "email.status.set.200",
            EmailChange(EVE, "email", EmailState.AVAILABLE, EmailState.OPT_IN, False, CATEGORIES),
        ),
        (
            SetEmailSubscription(EVE, "opt_out"),
            "email.status.set.200.spam",
            EmailChange(EVE, "email", EmailState.SPAM_REPORT, EmailState.SPAM_REPORT, False, CATEGORIES),
        ),
        (
            SetEmailCategorySubscription(EVE, "sales", "opt_in"),
            "email.category.200",
            EmailCategoryChange(EVE, "email", EmailState.OPT_OUT, EmailState.OPT_IN, False, "sales"),
        ),
        (ClearDeliveryFault(EVE), "email.fault.200", DeliveryFaultCleared(EVE)),
        (GetEmailAddress("example_user"), "email.address.get.200", EmailAddress(EVE)),
        (GetEmailAddress("example_user"), "email.address.get.200.none", EmailAddress(None)),
        (
            SetEmailAddress("example_user", EVE),
            "email.address.set.200",
            EmailAddressChange(EmailAction.MOVED_AND_CHANGED, "old@example.com", ("player7",)),
        ),
        (SetEmailAddress("example_user", EVE), "email.address.set.200.added", EmailAddressChange(EmailAction.ADDED)),
        (RemoveEmailAddress("example_user"), "email.address.remove.200", EmailAddressChange(EmailAction.REMOVED)),
        (
            ListUnsubscriptions("2026-11-01T00:00:00Z"),
            "email.unsubscriptions.200",
            UnsubscriptionPage(
                (
                    Unsubscription(EVE, {"email": EVE, "unsubscribed_at": "2026-11-01T12:00:00Z"}),
                    Unsubscription("bob@example.com", {"email": "bob@example.com", "unsubscribed_at": "2026-11-02T08:30:00Z"}),
                ),
                CURSOR,
            ),
        ),
        (ListUnsubscriptions("2026-11-01T00:00:00Z"), "email.unsubscriptions.200.last", UnsubscriptionPage(())),
        (
            ListExclusions(),
            "exclusions.list.200",
            ExclusionPage(
                (
                    Exclusion("player7", CREATED, None),
                    Exclusion("player8", datetime(2026, 2, 3, 4, 5, 6, 789_000, tzinfo=UTC), datetime(2027, 2, 3, tzinfo=UTC)),
                ),
                CURSOR,
            ),
        ),
        (ListExclusions(), "exclusions.list.200.last", ExclusionPage(())),
        (GetExclusion("example_user"), "exclusions.get.200", ExclusionStatus(FOREVER)),
        (GetExclusion("example_user"), "exclusions.get.200.none", ExclusionStatus(None)),
        (
            CreateExclusion("example_user", expire_at=NEXT_YEAR),
            "exclusions.create.200",
            ExclusionChange(
                Exclusion("example_user", CREATED, NEXT_YEAR), ExclusionAction.CREATED, PurgedChannels(True, False, False, EVE)
            ),
        ),
        (
            CreateExclusion("example_user"),
            "exclusions.update.200",
            ExclusionChange(FOREVER, ExclusionAction.UPDATED, PurgedChannels(False, False, False, None), NEXT_YEAR),
        ),
        (DeleteExclusion("example_user"), "exclusions.end.200", ExclusionEnd(FOREVER)),
        (RemovePlayer("example_user"), "users.200", PlayerRemoval("example_user", True)),
        (RemovePlayer("example_user"), "users.200.not_found", PlayerRemoval("example_user", False)),
        (
            ListCategories(),
            "categories.200",
            OptOutCategories(
                (
                    OptOutCategory(
                        "sales",
                        "Sales",
                        "Offers in the shop",
                        archived=False,
                        show_badge=True,
                        android_sound_file="chime.ogg",
                        created_at=datetime(2025, 5, 6, 7, 8, 9, tzinfo=UTC),
                        updated_at=datetime(2025, 5, 6, 7, 8, 9, tzinfo=UTC),
                    ),
                )
            ),
        ),
    ],
)
def test_recorded_successes(request_: Request, name: str, expected: Response) -> None:
    """The documented bodies become their responses."""
    assert received(request_, sample(name)) == expected


@pytest.mark.parametrize(
    ("request_", "status", "name", "expected", "message"),
    [
        (SetEmailAddress("p1", "eve"), 422, "email.422", InvalidRequest, "set address: email: is not valid"),
        (
            SetEmailAddress("p1", EVE),
            422,
            "email.422.excluded",
            InvalidRequest,
            "set address: user_id: is under an exclusion",
        ),
        (RemovePlayer("p1"), 422, "users.422", InvalidRequest, "remove player: user_id: must be present"),
        (
            RemovePlayer("p1"),
            404,
            "game.404",
            GameNotFound,
            "remove player: game_id: Unknown app id foo (is the App ID, TEAK_GAME_ID, right?)",
        ),
        (
            GetEmailAddress("p1"),
            429,
            "email.429",
            RateLimited,
            "read address: rate_limit: /v2/email may only be called 300 times per second. Please wait a second and try again",
        ),
        (
            ListExclusions(),
            429,
            "exclusions.429",
            RateLimited,
            (
                "list exclusions: rate_limit: /v2/exclusions may only be called 60 times per second. Please wait a second and"
                " try again"
            ),
        ),
    ],
)
def test_recorded_refusals(request_: Request, status: int, name: str, expected: type[TeakError], message: str) -> None:
    """The documented refusals become their errors."""
    error = error_of(request_, sample(name), status)
    assert (type(error), error.delivery, error.message) == (expected, Delivery.REJECTED, message)


# One field that is off

NAMES: dict[str, tuple[str, ...]] = {
    "state": ("text", "spam_report", "opt_out", "available", "opt_in"),
    "push state": ("text", "opt_out", "opt_in"),
    "action": ("text", "moved_and_changed", "moved", "changed", "added", "removed", "none"),
    "exclusion action": ("text", "created", "updated"),
}
EXCLUSION = {"user_id": "text", "created_at": "instant", "expire_at": "instant or null"}
PAGING = {"cursors": {"after": "text or null"}}
PUSH = {"status": "ok", "user_id": "text", "channel": "text", "state": "push state", "reachable": "flag"}
EMAIL = {"status": "ok", "email": "text", "channel": "text", "state": "state", "delivery_fault": "flag"}
STATES = ("of each key", "push state")
DOCUMENTED: dict[str, dict[str, Any]] = {
    "identify.201": {
        "country_code": "text",
        "opt_out_states": {channel: {"state": "text"} for channel in ("email", "push", "sms")},
        "session_id?": "text or null",
        "deep_link?": "text or null",
    },
    "status.get.200": {**PUSH, "categories": STATES},
    "status.set.200": {**PUSH, "categories": STATES, "previous_state": "push state"},
    "status.category.200": {**PUSH, "category": "text", "previous_state": "push state"},
    "email.status.get.200": {**EMAIL, "categories": STATES},
    "email.status.set.200": {**EMAIL, "categories": STATES, "previous_state": "state"},
    "email.category.200": {**EMAIL, "category": "text", "previous_state": "state"},
    "email.fault.200": {"status": "ok", "email": "text"},
    "email.address.get.200": {"status": "ok", "email": "text or null"},
    "email.address.set.200": {
        "status": "ok",
        "action": "action",
        "previous_email?": "text or null",
        "previous_player_ids?": ["text"],
    },
    "email.address.remove.200": {"status": "ok", "action": "action"},
    "email.unsubscriptions.200": {"status": "ok", "unsubscriptions": [{"email": "text"}], "paging?": PAGING},
    "exclusions.get.200": {"status": "ok", "exclusion": EXCLUSION},
    "exclusions.list.200": {"status": "ok", "exclusions": [EXCLUSION], "paging?": PAGING},
    "exclusions.create.200": {
        "status": "ok",
        "action": "exclusion action",
        "exclusion": EXCLUSION,
        "purged_channels": {"push": "flag", "desktop_push": "flag", "sms": "flag", "email": "false or address"},
    },
    "exclusions.end.200": {"status": "ok", "exclusion?": EXCLUSION},
    "users.200": {"status": "ok or user_not_found", "user_id": "text"},
    "categories.200": {
        "status": "ok",
        "opt_out_categories": [
            {
                "identifier": "text",
                "name": "text",
                "description?": "text or null",
                "ios_sound_file?": "text or null",
                "android_sound_file?": "text or null",
                "show_badge?": "flag or null",
                "archived?": "flag or null",
                "created_at?": "instant or null",
                "updated_at?": "instant or null",
            }
        ],
    },
}
"""What each body has, after Teak's pages: a question mark where a key may be missing, a list for any number of such entries."""
NULLABLE_OBJECTS = {("exclusions.get.200", "exclusion"), ("exclusions.end.200", "exclusion"), ("*", "paging")}
MISSING = object()
WRONG: tuple[Any, ...] = (
    MISSING,
    None,
    True,
    7,
    1.5,
    "",
    "text",
    "ok",
    "2026-01-02T03:04:05Z",
    [],
    ["text"],
    {},
    {"email": "text"},
    {"a": 1},
)


def conforms(value: Any, wanted: Any, name: str = "", key: str = "") -> bool:
    """Whether a value is one that Teak documents, by the table."""
    if isinstance(wanted, dict):
        if value is None:
            return (name, key) in NULLABLE_OBJECTS or ("*", key) in NULLABLE_OBJECTS
        return isinstance(value, dict) and all(
            conforms(value[plain], inner, name, plain) if plain in value else inner_key.endswith("?")
            for inner_key, inner in wanted.items()
            for plain in [inner_key.removesuffix("?")]
        )
    if isinstance(wanted, tuple):
        return isinstance(value, dict) and all(conforms(entry, wanted[1]) for entry in value.values())
    if isinstance(wanted, list):
        return isinstance(value, list) and all(conforms(entry, wanted[0], name, key) for entry in value)
    if wanted in NAMES:
        return isinstance(value, str) and value in NAMES[wanted][1:]
    match wanted:
        case "false or address":
            return value is False or (isinstance(value, dict) and isinstance(value.get("email"), str))
        case "ok" | "ok or user_not_found":
            return value in wanted.split(" or ")
    kind, _, null = wanted.partition(" or ")
    if value is None:
        return bool(null)
    if kind == "flag":
        return isinstance(value, bool)
    return isinstance(value, str) and (kind == "text" or value[:4].isdigit())


def places(body: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value in a body."""
    for key, value in body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ():
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of a body with one value replaced, or missing."""
    copy = deepcopy(body)
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    if value is MISSING:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return copy


def outcome(request: Request, body: bytes, status: int) -> str:
    """What becomes of an answer that is as documented: the words of an error, or such words as if all were well."""
    try:
        received(request, body, status)
    except UnexpectedResponse as error:
        return error.message
    return "no answer to another call"


@pytest.mark.parametrize(("request_", "name"), RECORDED.values(), ids=[name for _, name in RECORDED.values()])
def test_one_field_that_is_off(request_: Request, name: str) -> None:
    """With any value missing, null or of another type an answer is as documented or an error, and nothing else is raised."""
    body = json.loads(sample(name))
    status = int(name.split(".")[1]) if name.startswith("identify") else 200
    assert conforms(body, DOCUMENTED[name], name)
    for path in places(body):
        for value in WRONG:
            spoiled = changed(body, path, value)
            encoded = json.dumps(spoiled).encode()
            if conforms(spoiled, DOCUMENTED[name], name):
                # It may name another player, address, state, channel or category than was asked about.
                assert "another call" in outcome(request_, encoded, status), (path, value)
                continue
            error = error_of(request_, encoded, status)
            assert type(error) is UnexpectedResponse, (path, value)
            assert error.delivery in (Delivery.DONE, Delivery.UNKNOWN), (path, value)


@pytest.mark.parametrize(("request_", "name"), RECORDED.values(), ids=[name for _, name in RECORDED.values()])
def test_more_fields(request_: Request, name: str) -> None:
    """Keys that Teak adds one day, anywhere in a body, change nothing."""
    body = json.loads(sample(name))
    status = int(name.split(".")[1]) if name.startswith("identify") else 200
    expected = received(request_, sample(name), status)
    for path in [(), *places(body)]:
        inner = body
        for key in path:
            inner = inner[key]
        if isinstance(inner, dict) and "categories" not in path and name != "email.unsubscriptions.200":
            spoiled = changed(body, (*path, "new_key"), {"a": [1]}) if path else {**body, "new_key": {"a": [1]}}
            assert received(request_, json.dumps(spoiled).encode(), status) == expected


@pytest.mark.parametrize(
    ("request_", "name", "key", "value"),
    [
        (GetEmailSubscription(EVE), "email.status.get.200", "email", "bob@example.com"),
        (SetEmailSubscription(EVE, "opt_in"), "email.status.set.200", "state", "opt_out"),
        (SetEmailSubscription(EVE, "opt_in"), "email.status.set.200", "previous_state", MISSING),
        (SetEmailCategorySubscription(EVE, "sales", "opt_in"), "email.category.200", "category", "events"),
        (GetExclusion("example_user"), "exclusions.get.200", "exclusion", {**EXCLUSION, "user_id": "somebody else"}),
        (RemovePlayer("example_user"), "users.200", "user_id", "somebody else"),
    ],
)
def test_the_answer_to_another_call(request_: Request, name: str, key: str, value: Any) -> None:
    """An answer that names another address, player, state or category says nothing of this call."""
    error = error_of(request_, json.dumps(changed(json.loads(sample(name)), (key,), value)).encode())
    assert isinstance(error, UnexpectedResponse)
    assert (error.delivery, error.spoils_connection) == (Delivery.UNKNOWN, True)


def test_an_address_is_the_same_in_any_case() -> None:
    """A server that writes the address in small letters speaks of the same one."""
    response = received(GetEmailSubscription("Eve@Example.com"), sample("email.status.get.200"))
    assert isinstance(response, EmailStatus)


# What is sent


@pytest.mark.parametrize(
    ("request_", "method", "path", "query", "body"),
    [
        (GetEmailSubscription("a+b@c.d"), "GET", "/v2/email/subscription_status", "email=a%2Bb%40c.d&", None),
        (
            SetEmailSubscription(EVE, "available"),
            "POST",
            "/v2/email/subscription_status",
            "",
            {"email": EVE, "state": "available"},
        ),
        (
            SetEmailCategorySubscription(EVE, "50%/a", State.OPT_OUT),
            "POST",
            "/v2/email/subscription_status/50%25%2Fa",
            "",
            {"email": EVE, "state": "opt_out"},
        ),
        (ClearDeliveryFault(EVE), "DELETE", "/v2/email/delivery_fault", "email=eve%40example.com&", None),
        (RemoveEmailAddress("example_user"), "DELETE", "/v2/email", "user_id=example_user&", None),
        (
            ListUnsubscriptions(datetime(2026, 11, 1, tzinfo=UTC), limit=50, after="a=b"),
            "GET",
            "/v2/email/unsubscriptions",
            "since=2026-11-01T00%3A00%3A00Z&limit=50&after=a%3Db&",
            None,
        ),
        (GetExclusion("a/b?c"), "GET", "/v2/exclusions/a%2Fb%3Fc", "", None),
        (
            CreateExclusion(12, expire_at="2027-01-01T01:00:00+01:00"),
            "POST",
            "/v2/exclusions",
            "",
            {"user_id": "12", "expire_at": "2027-01-01T00:00:00Z"},
        ),
        (RemovePlayer("p1"), "DELETE", "/v2/users", "user_id=p1&", None),
        (ListCategories(), "GET", "/v2/opt_out_categories", "", None),
    ],
)
def test_what_is_sent(request_: Request, method: str, path: str, query: str, body: dict[str, str] | None) -> None:
    """Each request goes to its documented path, with what it asks where its method has it."""
    message = encode(endpoint_of(request_), request_, Credentials("1", "s3cr3t"))
    assert (message.method, message.path) == (method, path)
    if body is None:
        assert message.query == f"{query}game_id=1&secret_key=s3cr3t"
        assert message.body is None
    else:
        assert message.body is not None
        assert json.loads(message.body) == {**body, "game_id": "1", "secret_key": "s3cr3t"}


@pytest.mark.parametrize("words", ["eve@example.com is not valid", "EVE@EXAMPLE.COM", r"eve@example.com", "eve%40example.com"])
def test_no_refusal_has_the_address(words: str) -> None:
    """A server may say the address back; no error does."""
    body = json.dumps({"status": "error", "errors": {"email": [words]}}).encode()
    for escaped in (body, body.replace(b"@", rb"\u0040")):
        error = error_of(SetEmailAddress("p1", EVE), escaped, 422)
        assert isinstance(error, InvalidRequest)
        assert "eve" not in f"{error!r} {error.errors}".lower()


@pytest.mark.parametrize(("request_", "name"), RECORDED.values(), ids=[name for _, name in RECORDED.values()])
def test_each_answer_is_plain_data_again(request_: Request, name: str) -> None:
    """A response is written into results and journals, with any JSON library."""
    status = int(name.split(".")[1]) if name.startswith("identify") else 200
    response = received(request_, sample(name), status)
    assert json.loads(json.dumps(unstructure(response))) == json.loads(as_json(response))
