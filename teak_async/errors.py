"""What can go wrong, and what became of the call when it did.

Rules of this module:

- Every error is a `TeakError` and carries a `Delivery`: the truth about whether the server did the work.
- An error keeps plain data only (strings, numbers, dicts), never another library's exception, so it pickles, copies and
  cannot carry the secret key that a request's address or body holds.
- `attempts` is how many tries were made on the wire or towards it when the call gave up.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar


class Delivery(StrEnum):
    """What became of a call at the server."""

    NOT_SENT = "not_sent"
    """No byte of it can have been processed."""
    REJECTED = "rejected"
    """The server answered and did not do it."""
    DONE = "done"
    """The server did it."""
    UNKNOWN = "unknown"
    """It may have been done, or not; nobody on this side can tell."""


class TeakError(Exception):
    """Base of every error of this package.

    Attributes:
        message: one sentence for people; never holds the secret key.
        delivery: what became of the call (see `Delivery`).
        status: the HTTP status of the answer, where there was one.
        attempts: how many tries were made before the call gave up; 0 when nothing was tried.
    """

    default_delivery: ClassVar[Delivery] = Delivery.UNKNOWN

    def __init__(self, message: str, *, delivery: Delivery | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.delivery = self.default_delivery if delivery is None else delivery
        self.status = status
        self.attempts = 0

    def __str__(self) -> str:
        return self.message


class InvalidRequest(TeakError, ValueError):
    """A request that cannot be right: found here (`NOT_SENT`), or by the server with a 400 (`REJECTED`).

    Attributes:
        errors: every problem at once, parameter name → messages. A missing country and address is named `location`.
    """

    default_delivery = Delivery.NOT_SENT

    def __init__(
        self,
        message: str,
        *,
        errors: Mapping[str, tuple[str, ...]] | None = None,
        delivery: Delivery | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message, delivery=delivery, status=status)
        self.errors: dict[str, tuple[str, ...]] = dict(errors or {})


class Forbidden(TeakError):
    """403: the secret key is not this game's."""

    default_delivery = Delivery.REJECTED


class NotFound(TeakError):
    """404 of a kind that the API does not document."""

    default_delivery = Delivery.REJECTED


class PlayerNotFound(NotFound):
    """404: no player with this id (subscription calls)."""


class GameNotFound(NotFound):
    """404: no game with this id."""


class UnknownState(NotFound):
    """404: the server does not know this subscription state."""


class RateLimited(TeakError):
    """429: refused and not processed.

    Attributes:
        retry_after: seconds that the server asked to wait, where it said.
    """

    default_delivery = Delivery.REJECTED

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        delivery: Delivery | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message, delivery=delivery, status=status)
        self.retry_after = retry_after


class ServerError(TeakError):
    """5xx: the server, or something before it, failed; the work may have been done."""


class UnexpectedResponse(TeakError):
    """An answer that is none of the documented ones: a redirect, a proxy's page, a body that lacks what is documented."""


class TransportError(TeakError):
    """No answer came."""


class ConnectFailed(TransportError):
    """No connection could be had: name resolution, refusal, TLS, or closed before a byte was written."""

    default_delivery = Delivery.NOT_SENT


class ConnectionLost(TransportError):
    """The connection ended after the request was sent and before its answer was whole."""


class TimedOut(TransportError):
    """The time for connecting (`NOT_SENT`) or for the answer (`UNKNOWN`) ran out."""


class DeadlinePassed(TimedOut):
    """The deadline that the caller gave passed before the call was sent."""

    default_delivery = Delivery.NOT_SENT


class Outage(TeakError):
    """The server was out for longer than a bulk run waits (`RetryPolicy.outage`); what was not sent is left for another run."""

    default_delivery = Delivery.NOT_SENT


class JournalError(TeakError):
    """The journal of a bulk run cannot be used; nothing was sent because of it."""

    default_delivery = Delivery.NOT_SENT


class BacklogFull(TeakError):
    """As many calls as the session takes are submitted and under way; this one was not taken."""

    default_delivery = Delivery.NOT_SENT


class SessionClosed(TeakError):
    """The session is closed, or was never opened; the call was not sent."""

    default_delivery = Delivery.NOT_SENT
