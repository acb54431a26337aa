from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from support import each

from teak_async import errors
from teak_async.errors import Delivery, InvalidRequest, RateLimited, ServerError, TeakError, TransportError, UnexpectedResponse

TREE = {
    "InvalidRequest": (("TeakError", "ValueError"), Delivery.NOT_SENT),
    "Forbidden": (("TeakError",), Delivery.REJECTED),
    "NotFound": (("TeakError",), Delivery.REJECTED),
    "PlayerNotFound": (("NotFound",), Delivery.REJECTED),
    "GameNotFound": (("NotFound",), Delivery.REJECTED),
    "UnknownState": (("NotFound",), Delivery.REJECTED),
    "RateLimited": (("TeakError",), Delivery.REJECTED),
    "ServerError": (("TeakError",), Delivery.UNKNOWN),
    "UnexpectedResponse": (("TeakError",), Delivery.UNKNOWN),
    "TransportError": (("TeakError",), Delivery.UNKNOWN),
    "ConnectFailed": (("TransportError",), Delivery.NOT_SENT),
    "CertificateError": (("ConnectFailed",), Delivery.NOT_SENT),
    "ConnectionLost": (("TransportError",), Delivery.UNKNOWN),
    "TimedOut": (("TransportError", "TimeoutError"), Delivery.UNKNOWN),
    "DeadlinePassed": (("TimedOut",), Delivery.NOT_SENT),
    "Outage": (("TeakError",), Delivery.NOT_SENT),
    "JournalError": (("TeakError",), Delivery.NOT_SENT),
    "LedgerError": (("TeakError",), Delivery.NOT_SENT),
    "LedgerUnavailable": (("TeakError",), Delivery.NOT_SENT),
    "BacklogFull": (("TeakError",), Delivery.NOT_SENT),
    "SessionClosed": (("TeakError",), Delivery.NOT_SENT),
}
"""Each error's bases, and its delivery where nothing else is said."""
KINDS: list[type[TeakError]] = [TeakError, *(getattr(errors, name) for name in TREE)]
OWN_FIELDS: dict[type[TeakError], dict[str, Any]] = {
    InvalidRequest: {"errors": {"user_id": ("must not be empty", "is odd")}},
    RateLimited: {"retry_after": 2.5},
    ServerError: {"retry_after": 4.0},
    UnexpectedResponse: {"retry_after": 0.5, "spoils_connection": True},
}
COPIERS: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    *(lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol)) for protocol in range(6)),  # noqa: S301 - our own
]


def test_tree() -> None:
    """The module defines the documented tree, with no error more or less and each below its documented bases."""
    found = {
        name: tuple(base.__name__ for base in kind.__bases__)
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, TeakError) and kind is not TeakError
    }
    assert found == {name: bases for name, (bases, _) in TREE.items()}


@pytest.mark.parametrize(("name", "delivery"), [(name, delivery) for name, (_, delivery) in TREE.items()])
def test_default_delivery(name: str, delivery: Delivery) -> None:
    """An error that is not told otherwise says what its kind implies about the delivery."""
    assert getattr(errors, name)("what happened").delivery is delivery


@each("kind", KINDS)
@each("delivery", list(Delivery))
def test_told_delivery(kind: type[TeakError], delivery: Delivery) -> None:
    """A delivery that is told wins over the kind's own."""
    assert kind("what happened", delivery=delivery).delivery is delivery


@each("kind", KINDS)
def test_bare(kind: type[TeakError]) -> None:
    """An error needs a message only, prints as that, and claims neither a status nor any tries."""
    error = kind("what happened")
    assert (str(error), error.message, error.status, error.attempts) == ("what happened", "what happened", None, 0)


@each("copied", COPIERS)
@each("kind", KINDS)
def test_copies(kind: type[TeakError], copied: Callable[[TeakError], TeakError]) -> None:
    """Every error pickles and copies with all of its fields."""
    fields = OWN_FIELDS.get(kind, {})
    error = kind("what happened", delivery=Delivery.DONE, status=418, **fields)
    error.attempts = 7
    other = copied(error)
    assert other is not error
    assert type(other) is kind
    assert other.args == ("what happened",)
    told = {"message": "what happened", "delivery": Delivery.DONE, "status": 418, "retry_after": None, "attempts": 7}
    assert vars(other) == told | fields
    assert other == error
    assert {other: "found"}[error] == "found"


@each("kind", KINDS)
def test_equal(kind: type[TeakError]) -> None:
    """Errors of one class with the same public data are equal; a note or a traceback is no part of that."""
    error, other = kind("what happened", status=418), kind("what happened", status=418)
    error.add_note("seen at noon")
    error.__cause__ = ValueError("below")
    assert error == other
    assert hash(error) == hash(other)
    other.attempts = 2
    assert error != other
    assert hash(error) == hash(other)


@each("kind", KINDS)
@pytest.mark.parametrize(
    "other",
    [
        "what happened",
        ValueError("what happened"),
        TransportError("what happened"),
        TeakError("something else"),
        TeakError("what happened", status=418),
        TeakError("what happened", delivery=Delivery.DONE),
        TeakError("what happened", retry_after=1.0),
        InvalidRequest("what happened", errors={"user_id": ("no",)}),
    ],
)
def test_unequal(kind: type[TeakError], other: object) -> None:
    """Another class, or any other public datum, makes another error."""
    error = kind("what happened")
    assert error != other or (type(error) is type(other) and vars(error) == vars(other))
    assert TeakError("what happened") != other


def test_errors_are_its_own() -> None:
    """What is wrong with a request is kept in a dict of the error's own, which later changes elsewhere do not reach."""
    found = {"user_id": ("must not be empty",)}
    error = InvalidRequest("no", errors=found)
    found.clear()
    assert error.errors == {"user_id": ("must not be empty",)}


def test_no_errors() -> None:
    """An invalid request about which nothing more is known has an empty dict, not `None`."""
    assert InvalidRequest("no").errors == {}
