"""One call: its request, its attempts so far, and what is known about them. Pure: time and chance are arguments.

A call is made of attempts. Its outcome is the truth about all of them: an attempt that may have been done leaves the call in
doubt, whatever a later one says, unless that one succeeds.
"""

from __future__ import annotations

from itertools import count

import attrs

from teak_async._api.codec import Message
from teak_async._api.endpoints import Effect, endpoint_of
from teak_async._limits.bucket import Lane
from teak_async.errors import Delivery, LedgerUnavailable, RateLimited, SessionClosed, TeakError, TransportError
from teak_async.models import Change, Request, Response

from .deadline import DueTime
from .retry import RetryPolicy, next_wait

_numbers = count(1)


class Call:
    """One call on its way.

    Args:
        request: the request to send.
        lane: the lane in which its attempts wait.
        deadline: after which nothing is sent any more; that of a live call ends it, too. `None` for no deadline.

    Attributes:
        attempts: attempts so far.
        rate_limited: attempts so far that were rate-limited (429).
        on_wire: whether an attempt of it may be at the server right now.
        stopping: whether to make no further attempt after the present one.
        stopped_before_retry: whether it ended because of `stopping`.
        uncertain: whether an attempt of it may have been done.
        resent: whether an earlier run may have done it. A set is then in doubt until the server responds.
        error: the error with which the call would end now; `None` before its first failure.
        first_error: how its first attempt that failed ended.
        message: the encoded request; `None` before its first attempt.
        number: identifies it in events; unique in the process.
        ticket: of its last permit; a rate-limited attempt keeps it, and with it the place at the head of its lane.
        asked_at: the loop's time at which its present attempt asked for a permit; `None` without a listener.

    Raises:
        InvalidRequest: when the request has no endpoint.
    """

    __slots__ = (
        "asked_at",
        "attempts",
        "deadline",
        "endpoint",
        "error",
        "first_error",
        "lane",
        "message",
        "number",
        "on_wire",
        "rate_limited",
        "request",
        "resent",
        "stopped_before_retry",
        "stopping",
        "ticket",
        "uncertain",
    )

    def __init__(self, request: Request, lane: Lane, deadline: DueTime | None = None) -> None:
        self.request = request
        self.endpoint = endpoint_of(request)
        self.lane = lane
        self.deadline = deadline
        self.attempts = self.rate_limited = 0
        self.on_wire = self.stopping = self.stopped_before_retry = self.uncertain = self.resent = False
        self.error: TeakError | None = None
        self.first_error: TeakError | None = None
        self.message: Message | None = None
        self.number = next(_numbers)
        self.ticket: int | None = None
        self.asked_at: float | None = None

    @property
    def event_fields(self) -> tuple[str, str, int, int]:
        """The fields that identify its present attempt in events."""
        return self.endpoint.name, self.lane.value, self.number, self.attempts

    def next_wait(self, error: TeakError, policy: RetryPolicy, chance: float) -> float:
        """Record how the last attempt failed, and return the seconds until the next one.

        Args:
            error: how it failed; its delivery becomes that of all attempts.
            policy: the retry policy.
            chance: from 0 to 1; spreads the waits of calls that failed together.

        Raises:
            TeakError: the error, when there is no further attempt.
        """
        if isinstance(error, RateLimited):
            self.rate_limited += 1
        else:
            self.ticket = None
        counted = self.attempts - self.rate_limited
        # A live call fails fast. A row that was not sent is never finished: its run waits, or ends, for all of them.
        patient = self.lane is Lane.BULK
        wait = next_wait(policy, self.endpoint.effect, error, counted, self.rate_limited, chance, patient=patient)
        certain = error.delivery is not Delivery.UNKNOWN
        self._take_in(error)
        self.stopped_before_retry = wait is not None and self.stopping
        if wait is None or self.stopping:
            if isinstance(error, TransportError | SessionClosed | LedgerUnavailable):
                # The other errors have Teak's words, and name the call already.
                attempts = f" ({self.attempts} attempts)" if self.attempts > 1 else ""
                error.message = f"{self.endpoint.title}: {error.message}{attempts}"
            if certain and error.delivery is Delivery.UNKNOWN:
                error.message += f"; but an earlier {'attempt' if self.uncertain else 'run'} may have done it"
            error.args = (error.message,)
            raise error
        return wait

    def _take_in(self, error: TeakError) -> None:
        """Make the error of the last attempt say what became of all of them."""
        self.uncertain = self.uncertain or error.delivery is Delivery.UNKNOWN
        doubtful = self.uncertain or (self.resent and error.delivery is Delivery.NOT_SENT)
        if doubtful and self.endpoint.effect is not Effect.READ and error.delivery is not Delivery.DONE:
            error.delivery = Delivery.UNKNOWN
        error.attempts = self.attempts
        self.error = error
        self.first_error = self.first_error or error

    def finish(self, response: Response) -> Response:
        """Return the response; `repeated` if the state before, as it says, may be this call's own."""
        self.message = None  # a row stays until its result is durable, and somebody has read it
        if (self.uncertain or self.resent) and isinstance(response, Change):
            return attrs.evolve(response, repeated=True)
        return response
