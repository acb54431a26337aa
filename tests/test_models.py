from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from attrs.exceptions import FrozenInstanceError

from teak_async._api.endpoints import ENDPOINTS
from teak_async.errors import Delivery, InvalidRequest
from teak_async.models import (
    CategorySubscriptionChange,
    Channel,
    GetSubscription,
    Identify,
    PlayerSession,
    SetCategorySubscription,
    SetSubscription,
    State,
    SubscriptionChange,
    SubscriptionStatus,
)

HOME = "127.0.0.1"
LONE = "a\ud800"
EMPTY = ("must not be empty",)
SURROGATE = ("has characters that are no valid Unicode text (a lone surrogate)",)
STATES = {"email": State.OPT_IN, "push": "bounced", "sms": State.OPT_OUT}

MAKERS: list[Callable[..., Any]] = [
    lambda user_id: Identify(user_id, client_ip=HOME),
    GetSubscription,
    partial(SetSubscription, state=State.OPT_IN),
    partial(SetCategorySubscription, category="sales", state=State.OPT_IN),
]
"""Each request, made for a user; those of a subscription for a channel, too."""
VALUES: list[Any] = [
    *(make("p1") for make in MAKERS),
    Identify("p1", country_code="US", timezone_id="Europe/Paris", email="a@b.c", deep_link="teak1:///x"),
    PlayerSession("US", STATES, "17", "teak1:///x"),
    SubscriptionStatus("p1", "desktop_push", State.OPT_IN, True, {"sales": State.OPT_OUT}),
    SubscriptionChange("p1", "desktop_push", State.OPT_IN, State.OPT_OUT, False, {}, repeated=True),
    CategorySubscriptionChange("p1", "desktop_push", State.OPT_IN, State.OPT_OUT, False, "sales"),
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("user_id", ["p1", " p1 ", "a\0b", "🎮", "Ünï/çødé?x=1&y", ".", "..", "x" * 10_000])
def test_text_is_taken_as_it_is(make: Callable[[Any], Any], user_id: str) -> None:
    """A user id may be any text, odd as it may look, and is not changed."""
    assert make(user_id).user_id == user_id


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("number", "text"), [(0, "0"), (17, "17"), (-3, "-3"), (2**70, "1180591620717411303424")])
def test_number_as_user_id(make: Callable[[Any], Any], number: int, text: str) -> None:
    """A whole number is taken as its text."""
    assert make(number).user_id == text


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    ("user_id", "problem"),
    [
        ("", EMPTY),
        (" \t\n", EMPTY),
        (LONE, SURROGATE),
        (None, ("must be text or a whole number, not NoneType",)),
        (True, ("must be text or a whole number, not bool",)),
        (1.5, ("must be text or a whole number, not float; a spreadsheet or pandas may have changed this number",)),
        (b"p1", ("must be text or a whole number, not bytes; decode it",)),
    ],
)
def test_wrong_user_id(make: Callable[[Any], Any], user_id: object, problem: tuple[str, ...]) -> None:
    """A user id that is no text is refused by every request, before anything is sent."""
    with pytest.raises(InvalidRequest) as caught:
        make(user_id)
    assert caught.value.errors == {"user_id": problem}
    assert caught.value.delivery is Delivery.NOT_SENT
    assert caught.value.status is None


@pytest.mark.parametrize("name", ["client_ip", "country_code", "timezone_id", "email", "deep_link"])
@pytest.mark.parametrize(("value", "problem"), [("", EMPTY), (LONE, SURROGATE), (5, ("must be text, not int",))])
def test_wrong_parameter(name: str, value: object, problem: tuple[str, ...]) -> None:
    """Each parameter of an identify that is given must be text."""
    parameters: dict[str, Any] = {"client_ip": HOME, name: value}
    with pytest.raises(InvalidRequest) as caught:
        Identify("p1", **parameters)
    assert caught.value.errors == {name: problem}


@pytest.mark.parametrize("address", ["203.0.113.42", "::1", "2001:db8::8a2e:370:7334", "::ffff:10.0.0.1"])
def test_address(address: str) -> None:
    """IPv4 and IPv6 addresses are taken."""
    assert Identify("p1", client_ip=address).client_ip == address


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("localhost", "a host name"),
        ("testclient", "a host name"),
        ("player.example.com", "a host name"),
        ("player.example.com:80", "a host name with a port"),
        ("1.2.3", "other numbers with dots"),
        ("256.1.1.1", "other numbers with dots"),
        ("010.0.0.1", "an address with leading zeros"),
        ("10.0.0.01", "an address with leading zeros"),
        ("1.2.3.4:80", "an address with a port"),
        ("[2001:db8::1]:443", "an address with a port"),
        ("[::1]", "an address in brackets"),
        ("2001:db8::1::2", "other digits with colons"),
        ("1.2.3.4, 10.0.0.1", "several addresses; give the player's, mostly the first"),
        ("1.2.3.4 10.0.0.1", "several addresses; give the player's, mostly the first"),
        ("unknown, 1.2.3.4", "several addresses; give the player's, mostly the first"),
        ('for="[2001:db8::1]:47011";proto=https', "a Forwarded header; give the address in it"),
        ("proto=https;for=192.0.2.43", "a Forwarded header; give the address in it"),
        (" 1.2.3.4", "an address or a word with white space around it"),
        ("1.2.3.4\n", "an address or a word with white space around it"),
        ('"1.2.3.4"', "text in quotation marks"),
        ("1.2.3.4/24", "a network, or an address with a prefix length"),
        ("2001:db8::/32", "a network, or an address with a prefix length"),
        ("https://1.2.3.4/", "a URL"),
        ("p1@example.com", "an email address"),
        ("/run/app.sock", "a path"),
        ("3232235777", "a whole number"),
        ("unknown", "a word for no address; give a country_code, or 127.0.0.1 if the place is not known"),
        ("NULL", "a word for no address; give a country_code, or 127.0.0.1 if the place is not known"),
        ("?!", "other text"),
    ],
)
def test_wrong_address(address: str, kind: str) -> None:
    """What is no address is refused by its kind, and not said back: logs are no place for what may be a player's address."""
    with pytest.raises(InvalidRequest) as caught:
        Identify("p1", client_ip=address)
    assert caught.value.errors == {"client_ip": (f"must be one IPv4 or IPv6 address, not {kind}",)}
    assert address not in caught.value.message


@pytest.mark.parametrize("code", ["us", "Us", "uS", "US"])
def test_country(code: str) -> None:
    """A country is sent in capitals, however it was written."""
    assert Identify("p1", country_code=code).country_code == "US"


@pytest.mark.parametrize("code", ["USA", "U", "U1", "U\n", "ÄÖ", "US\n", "🇺🇸"])
def test_wrong_country(code: str) -> None:
    """What is no two-letter country is refused."""
    with pytest.raises(InvalidRequest) as caught:
        Identify("p1", country_code=code)
    shown = code.upper() if code.isascii() else code
    assert caught.value.errors == {"country_code": (f"must be a two-letter ISO country, not {shown!r}",)}


def test_a_country_that_is_something_else() -> None:
    """What is longer than a slip is not said back: it may be an email from another column."""
    with pytest.raises(InvalidRequest) as caught:
        Identify("p1", country_code="p1@example.com")
    assert caught.value.errors == {"country_code": ("must be a two-letter ISO country",)}


def test_address_and_country() -> None:
    """Both ways to tell the place may be given together."""
    request = Identify("p1", client_ip=HOME, country_code="FR")
    assert (request.client_ip, request.country_code) == (HOME, "FR")


def test_all_problems_at_once() -> None:
    """One error names every problem of an identify, in its fields and in its text."""
    with pytest.raises(InvalidRequest) as caught:
        Identify("", country_code="USA", timezone_id=" ", email=LONE, deep_link=5)  # type: ignore[arg-type] # refused
    assert list(caught.value.errors) == ["user_id", "country_code", "timezone_id", "email", "deep_link"]
    assert caught.value.message.startswith("Identify: user_id: must not be empty; country_code: must be a two-letter")
    assert caught.value.message.endswith("deep_link: must be text, not int")


def test_no_location() -> None:
    """Leaving out both address and country is one problem, named as the server names it, beside the others."""
    with pytest.raises(InvalidRequest, match=r"client_ip='127\.0\.0\.1' if the place is not known") as caught:
        Identify("")
    assert list(caught.value.errors) == ["user_id", "location"]


def test_all_problems_of_a_category_request() -> None:
    """One error names every problem of a category request."""
    with pytest.raises(InvalidRequest) as caught:
        SetCategorySubscription("", "", "on")
    assert list(caught.value.errors) == ["user_id", "category", "state"]


@pytest.mark.parametrize("category", ["sales", "a/b", "../x", "...", " . ", "?", "#", "%2e", "🎮", "a\0b"])
def test_category(category: str) -> None:
    """A category may be any text that a path can carry."""
    assert SetCategorySubscription("p1", category, State.OPT_IN).category == category


@pytest.mark.parametrize("category", [".", ".."])
def test_dots_are_no_category(category: str) -> None:
    """The two names that no path can carry are refused as categories."""
    with pytest.raises(InvalidRequest, match=r"must not be '\.' or '\.\.'"):
        SetCategorySubscription("p1", category, State.OPT_IN)


@pytest.mark.parametrize(
    ("given", "state"), [("opt_in", State.OPT_IN), ("opt_out", State.OPT_OUT), (State.OPT_OUT, State.OPT_OUT)]
)
def test_state(given: str, state: State) -> None:
    """A state may be given as its text, and is a `State` afterwards."""
    assert SetSubscription("p1", given).state is state
    assert SetCategorySubscription("p1", "sales", given).state is state


@pytest.mark.parametrize("state", ["OPT_IN", "opted_in", "", " opt_in", LONE, None, True, ["opt_in"], {}])
def test_wrong_state(state: Any) -> None:
    """Anything but the two states is refused, and shown."""
    with pytest.raises(InvalidRequest) as caught:
        SetSubscription("p1", state)
    assert caught.value.errors == {"state": (f"must be 'opt_in' or 'opt_out', not {state!r}",)}


@pytest.mark.parametrize("make", MAKERS[1:])
def test_channel(make: Callable[..., Any]) -> None:
    """A channel may be given as its text, and is a `Channel` afterwards; it is desktop push when left out."""
    for request in (make("p1"), make("p1", channel="desktop_push"), make("p1", channel=Channel.DESKTOP_PUSH)):
        assert request.channel is Channel.DESKTOP_PUSH
        assert request == make("p1")


@pytest.mark.parametrize("make", MAKERS[1:])
@pytest.mark.parametrize("channel", ["carrier_pigeon", "DESKTOP_PUSH", "", None, ["desktop_push"]])
def test_wrong_channel(make: Callable[..., Any], channel: Any) -> None:
    """An unknown channel is refused, shown, and the known ones are named."""
    with pytest.raises(InvalidRequest) as caught:
        make("p1", channel=channel)
    known = " or ".join(f"'{known}'" for known in Channel)
    assert "'desktop_push'" in known
    assert caught.value.errors == {"channel": (f"must be {known}, not {channel!r}",)}


def test_states_are_text() -> None:
    """A state compares, prints and formats as its text."""
    assert [*State] == ["opt_in", "opt_out"]
    assert f"{State.OPT_IN} {State.OPT_OUT!s}" == "opt_in opt_out"


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])  # noqa: S301 - ours
def test_values(value: Any, copied: Callable[[Any], Any]) -> None:
    """Requests and responses copy and pickle to equal values, and can be keys of a dict."""
    other = copied(value)
    assert type(other) is type(value)
    assert {other: "found"}[value] == "found"


@pytest.mark.parametrize("request_", dict.fromkeys(request for request, _ in ENDPOINTS))
def test_a_request_has_no_subclasses(request_: type[Any]) -> None:
    """It is told where the class is written, and not when the first call fails; type checkers say it, too."""
    with pytest.raises(TypeError, match=rf"Mine cannot be a subclass of {request_.__name__}: write a function"):
        type("Mine", (request_,), {})


def test_a_request_is_final_for_type_checkers() -> None:
    """Mypy would complain of a comment that nothing needs."""
    with pytest.raises(TypeError, match="Arrival cannot be a subclass of Identify"):

        class Arrival(Identify):  # type: ignore[misc] # final
            pass


@pytest.mark.parametrize("value", VALUES)
def test_frozen(value: Any) -> None:
    """Requests and responses cannot be changed, nor be given fields that they do not have."""
    for name in (*(field.name for field in value.__attrs_attrs__), "another"):
        with pytest.raises((FrozenInstanceError, AttributeError)):
            setattr(value, name, "changed")


def test_distinct() -> None:
    """Requests of different kinds or for different users are different values."""
    assert len(set(VALUES)) == len(VALUES)
    assert GetSubscription("p1") != GetSubscription("p2")


def test_optional_parts_of_a_session() -> None:
    """What the server may leave out of an identify's answer is `None`."""
    session = PlayerSession("", {})
    assert (session.session_id, session.deep_link) == (None, None)


def test_a_change_is_not_repeated_unless_said() -> None:
    """A change claims to be a repetition only when told so."""
    change = CategorySubscriptionChange("p1", "push", State.OPT_IN, State.OPT_IN, True, "sales")
    assert change.repeated is False
