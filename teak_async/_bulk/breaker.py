"""A circuit breaker: detects an outage of the server, and says when an attempt may probe it. Pure: `now` is an argument.

An identify that is sent into an outage stays in doubt. So after `TRIP` attempts in a row that are in doubt or found no
connection, a run sends nothing but one probe at a time, until one succeeds or the outage lasts too long.
"""

from __future__ import annotations

from attrs import frozen

from teak_async.errors import DeadlinePassed, Delivery, Outage, TeakError, TransportError

TRIP = 5
"""Attempts in a row that open the breaker: if one in ten is lost by chance, this happens once in 100,000 attempts."""
FIRST_WAIT = 1.0
"""Seconds before the first probe, doubled for each further one."""
MAX_WAIT = 60.0
"""Seconds between two probes at most, unless the server asks for more."""


@frozen
class OutageSoFar:
    """An outage that a run waits out.

    Attributes:
        next_probe: seconds until the next probe; 0 while one is under way.
        gives_up: seconds after which the run ends at the next probe that fails; 0 or less when they have passed.
        lasted: seconds since the first of the attempts that failed had.
    """

    next_probe: float
    gives_up: float
    lasted: float


class CircuitBreaker:
    """The state of one run.

    Args:
        outage: seconds that an outage may last.

    Attributes:
        next_probe: when one attempt may be made; `None` while all may.
        error: the error that ends the run when the outage lasts too long; `None` before.
    """

    def __init__(self, outage: float) -> None:
        self._outage = outage
        self._failures = 0
        self._began = 0.0
        self._wait = FIRST_WAIT
        self._probing = False
        self.next_probe: float | None = None
        self.error: Outage | None = None

    @property
    def closed(self) -> bool:
        """Whether attempts may be made freely."""
        return self.next_probe is None

    def outage(self, now: float) -> OutageSoFar | None:
        """Return how long the run still waits; `None` while the server is not out."""
        if self.next_probe is None:
            return None
        return OutageSoFar(max(self.next_probe - now, 0.0), self._began + self._outage - now, now - self._began)

    def admit(self, now: float) -> bool:
        """Say whether an attempt may be made; with an open breaker that one is the probe."""
        if self.next_probe is None:
            return True
        if self._probing or now < self.next_probe:
            return False
        self._probing = True
        return True

    def release_probe(self) -> None:
        """Let another attempt be the probe: this one ended without a result."""
        self._probing = False

    def record(self, result: object, now: float, *, probe: bool) -> None:
        """Record how an attempt ended, with the delivery of that attempt alone."""
        if probe:
            self._probing = False
        if not isinstance(result, TeakError) or result.delivery in (Delivery.REJECTED, Delivery.DONE):
            # An attempt on the wire when the breaker opened may have been done before the outage: only a probe closes it.
            if probe or self.closed:
                self._failures = 0
                self._wait = FIRST_WAIT
                self.next_probe = None
            return
        unconnected = isinstance(result, TransportError) and not isinstance(result, DeadlinePassed)
        if result.delivery is Delivery.NOT_SENT and not unconnected:
            return  # it says nothing about the server
        if not self._failures:
            self._began = now
        self._failures += 1
        asked = getattr(result, "retry_after", None) or 0.0
        if self.next_probe is not None and not probe:
            self.next_probe = max(self.next_probe, now + asked)
        elif self._failures >= TRIP:
            self._schedule_probe(now, asked)
        if not self.closed and (asked > self._outage or (self._failures >= TRIP and now - self._began >= self._outage)):
            self.error = Outage(
                f"the server is out, {self._failures} calls in a row failed: {type(result).__name__}: {result}; what was not"
                " sent is left for another run"
            )

    def _schedule_probe(self, now: float, asked: float) -> None:
        last_chance = max(self._began + self._outage - now, 0.0)
        self.next_probe = now + max(min(self._wait, last_chance), asked)
        self._wait = min(self._wait * 2, MAX_WAIT)
