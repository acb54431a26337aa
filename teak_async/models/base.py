"""What requests and responses have in common: their base classes, and how parameters are converted and checked. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, NoReturn, cast

from attrs import field, frozen

from teak_async._values import problem_of, to_id, to_text
from teak_async.errors import InvalidRequest

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # The default makes `Request` alone a complete type, also for a strict checker. Python's own TypeVar has it from 3.13 on.
    R_co = TypeVar("R_co", bound="Response", covariant=True, default="Response")
else:
    from typing import TypeVar

    R_co = TypeVar("R_co", covariant=True)


_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
"""An instant after `to_time`."""


@frozen
class Response:
    """The server's response to a call that it has done."""


@frozen
class Change(Response):
    """The server's response to a call that changed something.

    Attributes:
        repeated: whether an earlier attempt may have made the change. What the response says of the time before may then be
            the doing of that attempt.
    """

    repeated: bool = field(default=False, kw_only=True)


class Problems(dict[str, tuple[str, ...]]):
    """The problems of one request by parameter, gathered so that one error names all of them."""

    __slots__ = ()

    def add(self, name: str, message: str) -> None:
        """Add a problem of a parameter."""
        self[name] = (message,)

    def check_text(self, name: str, value: object, *, numbers: bool = False) -> str | None:
        """Check a parameter that must be text, or with `numbers` a whole number before its conversion; return a valid one."""
        if type(value) is str and value.isascii() and not value.isspace() and value:  # as most are
            return value
        if not isinstance(value, str):
            self.add(name, problem_of(value, numbers=numbers))
        elif not value.strip():
            self.add(name, "must not be empty")
        elif not value.isascii() and value.encode(errors="ignore").decode() != value:
            self.add(name, "has characters that are no valid Unicode text (a lone surrogate)")
        else:
            return value
        return None

    def check_segment(self, name: str, value: object) -> None:
        """Check a parameter that is a segment of the path."""
        if self.check_text(name, value, numbers=True) in (".", ".."):
            self.add(name, "must not be '.' or '..': in a path they would name another address")

    def check_member(self, name: str, value: object, members: Iterable[StrEnum]) -> None:
        """Check a parameter that must be one of some members of an enumeration."""
        if value not in (allowed := tuple(members)) or not isinstance(value, StrEnum):
            self.add(name, f"must be {' or '.join(repr(member.value) for member in allowed)}, not {value!r}")

    def check_time(self, name: str, value: object) -> None:
        """Check a parameter that must be an instant."""
        if not isinstance(value, str) or not _INSTANT.fullmatch(value):
            self.add(name, "must be a datetime with a time zone, or such a text: 2027-01-31T00:00:00Z")

    def raise_for(self, request: Request) -> NoReturn:
        """Raise one error for all problems."""
        listed = "; ".join(f"{name}: {message}" for name, (message,) in self.items())
        raise InvalidRequest(f"{type(request).__name__}: {listed}", errors=dict(self))


# A converter returns a value that it cannot convert unchanged, and `__attrs_post_init__` names it with the other problems.


def to_member(value: Any, kind: type[StrEnum]) -> Any:
    """Convert the text of an enumeration's member to the member."""
    if type(value) is kind:
        return value
    try:
        return kind(to_text(value))
    except ValueError:
        return value


def to_time(value: datetime | str) -> str:
    """Convert an instant to its one text, in ISO 8601 and UTC. What has no time zone is none."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(found, datetime) and found.utcoffset() is not None:
            return found.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        pass
    return cast(str, value)


def to_optional_time(value: datetime | str | None) -> str | None:
    """Convert an optional instant."""
    return None if value is None else to_time(value)


@frozen
class Request(Generic[R_co]):
    """A request to the server; `R_co` is the type of its response.

    Raises:
        InvalidRequest: with every problem in `.errors`.
    """

    def __init_subclass__(cls) -> None:
        for base in cls.__mro__[1:]:
            if vars(base).get("__final__"):
                # No endpoint is known for it, and the fields that it adds would be sent as parameters.
                name = base.__name__
                raise TypeError(f"{cls.__name__} cannot be a subclass of {name}: write a function that returns {name}(…)")

    def __attrs_post_init__(self) -> None:
        problems = Problems()
        self._check(problems)
        if problems:
            problems.raise_for(self)

    @property
    def subject(self) -> str:
        """The player or address that it is about: a bulk run makes the requests about one in their order. Empty for none."""
        return ""

    def _check(self, problems: Problems) -> None:
        """Add the problems of the parameters."""


@frozen
class PlayerRequest(Request[R_co]):
    """A request about one player.

    Args:
        user_id: the game's own player id. A value with one plain text is taken as that: a whole number, a `UUID`, an
            enumeration's member by its value. A float is invalid.

    Raises:
        InvalidRequest: with every problem in `.errors`.
    """

    user_id: str = field(converter=to_id)

    @property
    def subject(self) -> str:
        """The player's id."""
        return self.user_id

    def _check(self, problems: Problems) -> None:
        problems.check_text("user_id", self.user_id, numbers=True)


@frozen
class AddressRequest(Request[R_co]):
    """A request about one email address, whichever player has it.

    Args:
        email: the address. It is in no message, log line or event.

    Raises:
        InvalidRequest: with every problem in `.errors`.
    """

    email: str = field(converter=to_text, repr=False)

    @property
    def channel(self) -> str:
        """`email`."""
        return "email"

    @property
    def subject(self) -> str:
        """The address, as mail servers compare it: without the case of its letters."""
        return self.email.casefold()

    def _check(self, problems: Problems) -> None:
        problems.check_text("email", self.email)


@frozen
class PageRequest(Request[R_co]):
    """A request about the game, whose response is a page of a list.

    Args:
        limit: entries of a page; the server takes 1 to 10,000. Default: the server's own, 1,000.
        after: of the page before, for the next one. Default: the first page.
    """

    limit: int | None = field(default=None, kw_only=True)
    after: str | None = field(default=None, kw_only=True)

    def _check(self, problems: Problems) -> None:
        if self.limit is not None and (isinstance(self.limit, bool) or not isinstance(self.limit, int)):
            problems.add("limit", f"must be a whole number, not {type(self.limit).__name__}")
        if self.after is not None:
            problems.check_text("after", self.after)
