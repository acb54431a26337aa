"""What a session tells of its calls and limits while it works, for metrics and logs. Pure.

Give `TeakSession(on_event=…)` something to call with each of these; the logger `teak_async` writes the same as lines.

Rules of this module:

- An event is about the traffic, never about a player: no user id, no address, no email, no words of the server, and never
  the secret. Who needs to know whose call it was sets a `contextvars.ContextVar` before it: what is told of a call is told in
  its caller's context.
- Each `AttemptStarted` is followed by exactly one of `ResponseReceived` and `AttemptFailed`. What else is told lies between
  or beside.
- Seconds are floats of the running loop's clock. Numbers of calls are unique in the process.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import frozen

from .errors import Delivery


@frozen
class _OfTry:
    """One try of one call.

    Attributes:
        endpoint: which call: `identify`, `read status`, `set state`, `set category state`.
        lane: `live`, or `bulk` for the rows of a bulk run.
        call: number of the call, the same for all of its tries.
        attempt: number of the try, from 1.
    """

    endpoint: str
    lane: str
    call: int
    attempt: int


@frozen
class PermitAcquired(_OfTry):
    """The try has its permit.

    Attributes:
        wait: seconds for which it waited for the permit.
    """

    wait: float


@frozen
class AttemptStarted(_OfTry):
    """The try is being made.

    Attributes:
        server: the `base_url` that it goes to, without a user or password in it.
    """

    server: str


@frozen
class ResponseReceived(_OfTry):
    """The server answered, whatever it said.

    Attributes:
        status: HTTP status.
        delivery: what became of this try.
        error: class name of the error that the answer means; `None` when it is a success.
        round_trip: seconds from the first byte out to the last byte in; 0 where that is not known.
        on_wire: seconds since the permit was had; connecting is part of it.
    """

    status: int
    delivery: Delivery
    error: str | None
    round_trip: float
    on_wire: float


@frozen
class AttemptFailed(_OfTry):
    """The try ended without an answer: no connection, a lost connection, no time left, or its caller left before the send.

    Attributes:
        delivery: `NOT_SENT`, or `UNKNOWN` when it was sent.
        error: class name: `ConnectFailed`, `ConnectionLost`, `TimedOut`, `SessionClosed`, `CancelledError`.
        on_wire: seconds since the permit was had.
    """

    delivery: Delivery
    error: str
    on_wire: float


@frozen
class RateLimitHit(_OfTry):
    """The answer was a refusal (429). Told beside `ResponseReceived`.

    Attributes:
        bucket: the limited path.
        retry_after: seconds that the server asked to wait; `None` where it did not say.
        allowance: requests a second that the session now makes on that path at most.
    """

    bucket: str
    retry_after: float | None
    allowance: int


@frozen
class RetryScheduled(_OfTry):
    """The try failed, and another one will be made.

    Attributes:
        error: class name of the error it failed with.
        wait: seconds until the next try asks for its permit; 0 after a refusal, which waits for its turn in the pause.
    """

    error: str
    wait: float


@frozen
class BucketPaused:
    """After a refusal nothing is sent on a path for a while. Told when a pause begins, and when it becomes longer.

    Attributes:
        bucket: the limited path.
        pause: seconds from now.
    """

    bucket: str
    pause: float


@frozen
class AllowanceChanged:
    """Refusals lowered what the session takes of a limit, or a part of it was won back.

    Attributes:
        bucket: the limited path.
        limit: requests a second that the session may make when all is well.
        before: what it made at most until now.
        allowance: what it makes at most from now on.
    """

    bucket: str
    limit: int
    before: int
    allowance: int


Event: TypeAlias = (
    PermitAcquired
    | AttemptStarted
    | ResponseReceived
    | AttemptFailed
    | RateLimitHit
    | RetryScheduled
    | BucketPaused
    | AllowanceChanged
)
