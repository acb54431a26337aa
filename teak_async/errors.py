"""What can go wrong, and what became of the call when it did.

Rules of this module:

- Every error is a `TeakError` and carries a `Delivery`: the truth about whether the server did the work.
- An error keeps plain data only (strings, numbers, dicts), never another library's exception, so it pickles, copies and
  cannot carry the secret key that a request's address or body holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar


class Delivery(StrEnum):
    """What became of a call at the server. A read, which changes nothing, has the delivery of its last attempt alone.

    So a read is `NOT_SENT` if its deadline passed before the next attempt. An error that ends a bulk run has the delivery of
    the rows that were left.

    Attributes:
        NOT_SENT: no byte of it can have been processed.
        REJECTED: the response says that it was not done.
        DONE: the server did it.
        UNKNOWN: it may have been done, or not; nobody on this side can tell.
    """

    NOT_SENT = "not_sent"
    """No byte of it can have been processed."""
    REJECTED = "rejected"
    """The response says that it was not done."""
    DONE = "done"
    """The server did it."""
    UNKNOWN = "unknown"
    """It may have been done, or not; nobody on this side can tell."""


class TeakError(Exception):
    """Base of every error of this package.

    Attributes:
        message: one sentence for people; never holds the secret key.
        delivery: what became of the call (see `Delivery`).
        status: the HTTP status of the response, where there was one.
        retry_after: seconds that the response asked to wait; `None` where it did not say.
        attempts: how many attempts were begun before the call gave up, with those that sent nothing; 0 when there was none.
    """

    default_delivery: ClassVar[Delivery] = Delivery.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        delivery: Delivery | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.delivery = self.default_delivery if delivery is None else delivery
        self.status = status
        self.retry_after = retry_after
        self.attempts = 0

    def __str__(self) -> str:
        return self.message

    def __eq__(self, other: object) -> bool:
        """Compare class and public data, so that an error equals its copy from another process."""
        if not isinstance(other, TeakError):
            return NotImplemented
        return type(self) is type(other) and _public(self) == _public(other)

    def __hash__(self) -> int:
        # Without delivery and attempts, which a call changes as long as it goes on.
        return hash((type(self), self.message, self.status))


def _public(error: TeakError) -> dict[str, Any]:
    return {name: value for name, value in vars(error).items() if not name.startswith("_")}


class InvalidRequest(TeakError, ValueError):
    """A request with a wrong parameter: found by the client (`NOT_SENT`), or by the server with a 400 or 422 (`REJECTED`).

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
    """403 in Teak's shape: the secret key is not this game's."""

    default_delivery = Delivery.REJECTED


class NotFound(TeakError):
    """404 in Teak's shape, of a kind that the API does not document."""

    default_delivery = Delivery.REJECTED


class PlayerNotFound(NotFound):
    """404: no player with this id (subscription calls)."""


class GameNotFound(NotFound):
    """404: no game with this id."""


class UnknownState(NotFound):
    """404: the server does not know this subscription state."""


class RateLimited(TeakError):
    """429: rate-limited and not processed; `retry_after` is how long to wait, where the response says."""

    default_delivery = Delivery.REJECTED


class ServerError(TeakError):
    """5xx: the server, or a proxy before it, failed; the work may have been done."""


class UnexpectedResponse(TeakError):
    """A response that is none of the documented ones: a redirect, a proxy's page, another call's, or one that lacks keys.

    Attributes:
        spoils_connection: whether the connection that brought it must not carry another call: the response is to another
            call, or the connection leads to the wrong server.
    """

    def __init__(
        self,
        message: str,
        *,
        delivery: Delivery | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        spoils_connection: bool = False,
    ) -> None:
        super().__init__(message, delivery=delivery, status=status, retry_after=retry_after)
        self.spoils_connection = spoils_connection


class TransportError(TeakError):
    """No response came."""


class ConnectFailed(TransportError):
    """No connection could be made: name resolution, refusal, TLS, or closed before a byte was written."""

    default_delivery = Delivery.NOT_SENT


class CertificateError(ConnectFailed):
    """The server's certificate cannot be verified or is another host's, or the server refuses the client's: no outage."""


class ConnectionLost(TransportError):
    """The connection ended after the request was sent and before its response was whole."""


class TimedOut(TransportError, TimeoutError):
    """The time for connecting (`NOT_SENT`) or for the response (`UNKNOWN`) ran out."""


class DeadlinePassed(TimedOut):
    """The caller's deadline passed before the call was sent, or sent again.

    A set of which an earlier attempt may have been done is `UNKNOWN`. A read is `NOT_SENT`, whatever came before.
    """

    default_delivery = Delivery.NOT_SENT


class Outage(TeakError):
    """The server was out for longer than a bulk run waits (`RetryPolicy.outage`).

    The rows that were not sent are left for another run. Others may be in doubt: see the run's report and its journal.
    """

    default_delivery = Delivery.NOT_SENT


class JournalError(TeakError):
    """The journal of a bulk run cannot be used. No more rows are sent; those that were sent before are in it, or in doubt."""

    default_delivery = Delivery.NOT_SENT


class LedgerError(TeakError):
    """The ledger of a shared limit cannot be used, now or later: its address or password is wrong, or it is no ledger."""

    default_delivery = Delivery.NOT_SENT


class LedgerUnavailable(TeakError):
    """The ledger of a shared limit cannot be reached, and what this session holds is too little; nothing was sent.

    A session that opens needs the ledger at once. A live call ends with this once the ledger has been away for two seconds,
    if the permits that are held would not reach it within a minute.
    """

    default_delivery = Delivery.NOT_SENT


class BacklogFull(TeakError):
    """As many calls as the session takes are submitted and under way; this one was not taken."""

    default_delivery = Delivery.NOT_SENT


class SessionClosed(TeakError):
    """The session is not open, or belongs to another event loop, thread or process; the call was not sent."""

    default_delivery = Delivery.NOT_SENT
