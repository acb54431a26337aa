"""The events that a session emits about its calls and limits, for metrics and logs. Pure.

`TeakSession(on_event=…)` calls its hook with each event; the logger `teak_async` writes each as a line. An event has the line's
`message`, a %-format of its attributes, and its `level`, which the log raises to WARNING for an identify of unknown fate.

Rules of this module:

- An event describes the traffic, never a player: no user id, no address, no email, no text of the server, and never the
  secret. The hook is called in the context of a call's caller: a `contextvars.ContextVar` set before the call identifies it.
- Exactly one of `ResponseReceived` and `AttemptFailed` follows each `AttemptStarted`. Other events lie between or beside.
- Tools group log lines by `message`, so a value is a named placeholder in it.
- Seconds are floats of the running loop's clock. Numbers of calls are unique in the process.
"""

from __future__ import annotations

from logging import DEBUG, INFO, WARNING
from typing import ClassVar, TypeAlias

from attrs import frozen

from .errors import Delivery

_PREFIX = "%(endpoint)s, attempt %(attempt)d of call %(call)d: "


@frozen
class _AttemptEvent:
    """An event of one attempt of one call.

    Attributes:
        endpoint: its name: `identify`, `read status`, `set state`, `set category state`.
        lane: `live`, or `bulk` for the rows of a bulk run.
        call: number of the call, the same for all of its attempts.
        attempt: number of the attempt, from 1.
    """

    endpoint: str
    lane: str
    call: int
    attempt: int


@frozen
class PermitAcquired(_AttemptEvent):
    """The attempt has its permit.

    Attributes:
        wait: seconds for which it waited for the permit.
    """

    message: ClassVar[str] = _PREFIX + "waited %(wait).3f s for its permit (%(lane)s)"
    level: ClassVar[int] = DEBUG

    wait: float


@frozen
class AttemptStarted(_AttemptEvent):
    """The attempt begins.

    Attributes:
        server: the `base_url` that it goes to, without a user or password in it.
    """

    message: ClassVar[str] = _PREFIX + "goes to %(server)s"
    level: ClassVar[int] = DEBUG

    server: str


@frozen
class ResponseReceived(_AttemptEvent):
    """The attempt has a response, a success or not.

    Attributes:
        status: HTTP status.
        delivery: what became of this attempt.
        error: class name of the error that the response means; `None` when it is a success.
        round_trip: seconds from the first byte out to the last byte in; 0 where that is not known.
        on_wire: seconds since the permit was acquired; connecting is part of it.
    """

    status: int
    delivery: Delivery
    error: str | None
    round_trip: float
    on_wire: float

    @property
    def message(self) -> str:
        error = "" if self.error is None else ", %(error)s,"
        return f"{_PREFIX}response %(status)d{error} after %(on_wire).3f s: %(delivery)s"

    @property
    def level(self) -> int:
        if self.error in ("Forbidden", "GameNotFound"):
            return WARNING  # no call will do better before somebody acts
        return INFO if self.error in ("ServerError", "UnexpectedResponse") else DEBUG  # as for an attempt without a response


@frozen
class AttemptFailed(_AttemptEvent):
    """The attempt ended without a response: no connection, a lost one, no time left, or its caller left before the send.

    Attributes:
        delivery: `NOT_SENT`, or `UNKNOWN` when it was sent.
        error: class name: `ConnectFailed`, `ConnectionLost`, `TimedOut`, `SessionClosed`, `CancelledError`.
        on_wire: seconds since the permit was acquired.
    """

    message: ClassVar[str] = _PREFIX + "no response, %(error)s, after %(on_wire).3f s: %(delivery)s"

    delivery: Delivery
    error: str
    on_wire: float

    @property
    def level(self) -> int:
        return DEBUG if self.error == "CancelledError" else INFO


@frozen
class RateLimitHit(_AttemptEvent):
    """The response was 429. Emitted beside `ResponseReceived`.

    Attributes:
        bucket: the limited path.
        retry_after: seconds that the server asked to wait; `None` where it did not say.
        allowance: requests per second that the session now makes on that path at most.
    """

    level: ClassVar[int] = INFO  # hundreds may come at once; `BucketPaused` warns once for all of them

    bucket: str
    retry_after: float | None
    allowance: int

    @property
    def message(self) -> str:
        wait = "" if self.retry_after is None else ", to wait %(retry_after).1f s"
        return f"{_PREFIX}rate-limited (429){wait}; from now on %(allowance)d a second"


@frozen
class RetryScheduled(_AttemptEvent):
    """The attempt failed, and another one follows.

    Attributes:
        error: class name of the error it failed with.
        wait: seconds until the next attempt asks for its permit; 0 after a 429, since the pause of its bucket holds it.
    """

    level: ClassVar[int] = INFO

    error: str
    wait: float

    @property
    def message(self) -> str:
        when = "after the pause of its bucket" if self.error == "RateLimited" else "in %(wait).2f s"
        return f"{_PREFIX}ended with %(error)s and is made again {when}"


@frozen
class BucketPaused:
    """A 429 stops all requests on a path for a while. Emitted when a pause begins, and when it becomes longer.

    Attributes:
        bucket: the limited path.
        pause: seconds from now.
    """

    message: ClassVar[str] = "%(bucket)s: rate-limited (429), nothing is sent for %(pause).1f s"
    level: ClassVar[int] = WARNING

    bucket: str
    pause: float


@frozen
class AllowanceChanged:
    """A 429 lowered the allowance of a path, or the session won a part of it back.

    Attributes:
        bucket: the limited path.
        limit: requests per second that the session may make.
        before: requests per second that it made at most until now.
        allowance: requests per second that it makes at most from now on.
    """

    bucket: str
    limit: int
    before: int
    allowance: int

    @property
    def message(self) -> str:
        why = "rate-limited within the limit, so it takes less" if self.allowance < self.before else "won back"
        return f"%(bucket)s: {why}: %(allowance)d of %(limit)d a second, %(before)d before"

    @property
    def level(self) -> int:
        return WARNING if self.allowance < self.before else INFO


@frozen
class LedgerLost:
    """The ledger of a shared limit cannot be reached. The session goes on with the permits that it holds.

    Attributes:
        ledger: its address, without a user or password.
        reason: why, and what to do.
    """

    message: ClassVar[str] = "the ledger of the shared limit is lost, and calls go on with the permits held here: %(reason)s"
    level: ClassVar[int] = WARNING

    ledger: str
    reason: str


@frozen
class LedgerRegained:
    """The ledger of a shared limit is reached again.

    Attributes:
        ledger: its address, without a user or password.
        away: seconds for which it was not reached.
    """

    message: ClassVar[str] = "%(ledger)s: the ledger of the shared limit is reached again after %(away).1f s"
    level: ClassVar[int] = INFO

    ledger: str
    away: float


Event: TypeAlias = (
    PermitAcquired
    | AttemptStarted
    | ResponseReceived
    | AttemptFailed
    | RateLimitHit
    | RetryScheduled
    | BucketPaused
    | AllowanceChanged
    | LedgerLost
    | LedgerRegained
)
