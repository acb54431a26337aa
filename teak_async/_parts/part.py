"""A part of a session, as `teak.email`: methods that make requests and call the session with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from teak_async._session import TeakSession


class Part:
    """A part of a session.

    Each method takes `deadline` and raises errors as `TeakSession.call` does.
    """

    def __init__(self, session: TeakSession) -> None:
        self._session = session

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._session!r}>"


P = TypeVar("P", bound=Part)


class PartProperty(property, Generic[P]):
    """A property of a session: one of its parts."""

    def __init__(self, part: type[P], doc: str, *arguments: Any) -> None:
        super().__init__(lambda session: part(session, *arguments))
        self._part = part
        self.__doc__ = doc  # in some versions of Python the class's own wins over the argument

    # On the class, callers need the members of the part, and not the property.
    @overload  # type: ignore[override] # a property returns itself there
    def __get__(self, session: None, owner: type | None = None, /) -> type[P]: ...

    @overload
    def __get__(self, session: Any, owner: type | None = None, /) -> P: ...

    def __get__(self, session: Any, owner: type | None = None, /) -> P | type[P]:
        """Return the session's part; without a session the class, which `create_autospec` reads."""
        if session is None:
            return self._part
        part: P = super().__get__(session, owner)
        return part
