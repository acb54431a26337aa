"""What has one plain text is that text everywhere, and what has none is refused with a hint."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from typing import Any
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

import pytest
from support import each

from teak_async import GetSubscription, Identify, InvalidRequest, Request, SetCategorySubscription, SetSubscription, State
from teak_async._api.codec import encode
from teak_async._api.credentials import Credentials
from teak_async._api.endpoints import endpoint_of
from teak_async._journal.row import JournalRow

CREDENTIALS = Credentials("1", "a secret of the game")
UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")


class Text(str):
    """As markupsafe's and numpy's, with an opinion of its own on how it is shown."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"<{super().__str__()}>"

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return str(self)


class Number(int):
    """An integer with an opinion of its own, too."""

    __slots__ = ()

    def __str__(self) -> str:
        return "many"

    __repr__ = __str__


class Int64:
    """As `numpy.int64`, which is no `int`."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value

    def __float__(self) -> float:
        return float(self.value)


class Float32:
    """As `numpy.float32`, which is no `float`."""

    def __float__(self) -> float:
        return 1.0


class bool_:  # noqa: N801 - numpy's name
    """As numpy's, in a release where it counts as a number."""

    def __index__(self) -> int:
        return 1


class Player(str, Enum):  # noqa: UP042 - what people write
    ONE = "p1"
    OUT = "opt_out"


class Plain(Enum):
    ONE = "p1"
    OUT = "opt_out"
    NUMBER = 17
    ID = UUID
    YES = True
    HALF = 0.5


class Short(StrEnum):
    ONE = "p1"
    OUT = "opt_out"


class Count(IntEnum):
    SEVENTEEN = 17


class Bits(IntFlag):
    A = 1
    B = 16


def pytz() -> tzinfo:
    """As a time zone of pytz."""
    kind: Any = type("Pytz", (tzinfo,), {"zone": "Europe/Paris"})
    zone: tzinfo = kind()
    return zone


IDS: list[tuple[Any, str]] = [
    ("p1", "p1"),
    (Text("p1"), "p1"),
    (UUID, str(UUID)),
    (Decimal(17), "17"),
    (Decimal(-17), "-17"),
    (Decimal(10**25 + 1), "10000000000000000000000001"),
    (Fraction(34, 2), "17"),
    (17, "17"),
    (Number(17), "17"),
    (Int64(17), "17"),
    (Int64(2**63 - 1), "9223372036854775807"),
    (Count.SEVENTEEN, "17"),
    (Bits.A | Bits.B, "17"),
    (Player.ONE, "p1"),
    (Plain.ONE, "p1"),
    (Plain.NUMBER, "17"),
    (Plain.ID, str(UUID)),
    (Short.ONE, "p1"),
    (IPv4Address("203.0.113.4"), "203.0.113.4"),
    (IPv6Address("2001:db8:0::1"), "2001:db8::1"),
    (ZoneInfo("Europe/Paris"), "Europe/Paris"),
]
MAKERS: dict[str, Callable[[Any], Request]] = {
    "identify": lambda value: Identify(value, country_code="US"),
    "read": GetSubscription,
    "set": lambda value: SetSubscription(value, "opt_in"),
    "user of a category": lambda value: SetCategorySubscription(value, "sales", "opt_in"),
    "category": lambda value: SetCategorySubscription("p1", value, "opt_in"),
}


def sent(request: Request) -> dict[str, str]:
    """What goes out, as a server reads it."""
    message = encode(endpoint_of(request), request, CREDENTIALS)
    if message.body is None:
        return {name: value for name, (value,) in parse_qs(message.query).items()}
    parameters: dict[str, str] = json.loads(message.body)
    return parameters | {"category": message.path.rpartition("/")[2]}


@each("maker", MAKERS)
@pytest.mark.parametrize(("value", "text"), IDS, ids=[f"{type(value).__name__}-{text}" for value, text in IDS])
def test_one_text_everywhere(maker: str, value: Any, text: str) -> None:
    """In the request, the query or body, the path, and the journal, with the same digest as the text's own."""
    request, plain = MAKERS[maker](value), MAKERS[maker](text)
    assert request == plain
    name = "category" if maker == "category" else "user_id"
    assert type(getattr(request, name)) is str
    assert sent(request) == sent(plain)
    assert sent(request)[name].replace("%2F", "/").replace("%3A", ":") == text
    entry, other = JournalRow.of(0, request, None), JournalRow.of(0, plain, None)
    assert (entry.digest, entry.source, entry.user_id) == (other.digest, other.source, other.user_id)


CHANGED = "a spreadsheet or pandas may have changed this number"


@each("maker", MAKERS)
@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (1.5, CHANGED),
        (17.0, CHANGED),
        (float("nan"), CHANGED),
        (float("inf"), CHANGED),
        (Float32(), CHANGED),
        (Plain.HALF, CHANGED),
        (Decimal("1.5"), CHANGED),
        (Decimal("17.0"), CHANGED),
        (Decimal("1.23457E+17"), CHANGED),
        (Decimal("1E+999999999"), CHANGED),
        (Decimal("NaN"), CHANGED),
        (Decimal("Infinity"), CHANGED),
        (Fraction(1, 2), CHANGED),
        (b"p1", "decode it"),
        (bytearray(b"p1"), "decode it"),
        (memoryview(b"p1"), "decode it"),
        (True, "must be text or a whole number, not bool"),
        (bool_(), "must be text or a whole number, not bool_"),
        (Plain.YES, "must be text or a whole number, not Plain"),
        (None, "must be text or a whole number, not NoneType"),
        (["p1"], "must be text or a whole number, not list"),
        (("p1", 4), "must be text or a whole number, not tuple"),
        (object(), "must be text or a whole number, not object"),
        (1j, "must be text or a whole number, not complex"),
        (datetime(2026, 10, 21, tzinfo=UTC), "must be text or a whole number, not datetime"),
        (timezone(timedelta(hours=2)), "must be text or a whole number, not timezone"),
        (10**5000, "must be a number of fewer digits"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_plain_text(maker: str, value: Any, hint: str) -> None:
    """It is refused before anything is sent, with what to do."""
    with pytest.raises(InvalidRequest) as caught:
        MAKERS[maker](value)
    ((problem,),) = caught.value.errors.values()
    assert hint in problem


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("client_ip", IPv4Address("203.0.113.4"), "203.0.113.4"),
        ("client_ip", IPv6Address("::1"), "::1"),
        ("client_ip", Text("203.0.113.4"), "203.0.113.4"),
        ("country_code", Text("us"), "US"),
        ("timezone_id", ZoneInfo("Europe/Paris"), "Europe/Paris"),
        ("timezone_id", pytz(), "Europe/Paris"),
        ("timezone_id", UTC, "UTC"),
        ("email", Text("p1@example.com"), "p1@example.com"),
        ("deep_link", Player.ONE, "p1"),
    ],
)
def test_other_parameters(name: str, value: Any, text: str) -> None:
    """They are text, or what has one."""
    request = Identify("p1", **{"country_code": "US", name: value})
    assert (getattr(request, name), type(getattr(request, name))) == (text, str)
    assert sent(request)[name] == text
    assert request == Identify("p1", **{"country_code": "US", name: text})


@pytest.mark.parametrize("name", ["client_ip", "country_code", "timezone_id", "email", "deep_link"])
@pytest.mark.parametrize("value", [5, Int64(5), 1.5, float("nan"), b"US", True, Decimal(5), Count.SEVENTEEN])
def test_a_number_is_no_other_parameter(name: str, value: Any) -> None:
    """A number there is another column's."""
    with pytest.raises(InvalidRequest) as caught:
        Identify("p1", **{"client_ip": "127.0.0.1", name: value})
    assert list(caught.value.errors) == [name]
    assert "must be text, not " in caught.value.errors[name][0]


def test_an_interface_is_no_address() -> None:
    """Its text has the network's length."""
    with pytest.raises(InvalidRequest, match="prefix length"):
        Identify("p1", client_ip=IPv4Interface("203.0.113.4/24"))


@pytest.mark.parametrize("state", [State.OPT_OUT, "opt_out", Text("opt_out"), Player.OUT, Plain.OUT, Short.OUT])
def test_states(state: Any) -> None:
    """A state is `State` however it was given."""
    assert SetSubscription("p1", state).state is State.OPT_OUT
    assert SetCategorySubscription("p1", "sales", state).state is State.OPT_OUT
    assert sent(SetSubscription("p1", state))["state"] == "opt_out"


class Channels(str, Enum):  # noqa: UP042 - what people write
    DESKTOP = "desktop_push"


def test_channels() -> None:
    """A channel is one, too."""
    assert GetSubscription("p1", channel=Channels.DESKTOP) == GetSubscription("p1")
    assert GetSubscription("p1", channel=Text("desktop_push")) == GetSubscription("p1")
