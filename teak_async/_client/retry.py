"""Whether a failed try is made again, and after how long. Pure.

Rules of this module:

- Only what cannot do harm is repeated: a try that did nothing, or one whose repetition does nothing new. So an identify
  whose fate is unknown is never repeated.
- A refusal (429) waits in its budget's pause, not here: everybody has to wait then, and in order.
- Chance is an argument.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, gt

from teak_async._api.endpoints import Effect
from teak_async.errors import DeadlinePassed, Delivery, RateLimited, TeakError, TransportError


@frozen
class RetryPolicy:
    """How persistent a session is.

    Attributes:
        max_attempts: tries of one call at most, refusals not counted.
        max_rate_limited: refusals (429) of one call at most; each costs the budget's pause of a second or more.
        initial_wait: seconds before the second try, on average three quarters of it; doubled for each further one.
        max_wait: seconds; no wait is longer.
        outage: seconds for which a row of a bulk run keeps asking for a connection before it fails, however many tries that
            takes: a network cut of minutes must not fail the thousands of rows that come up during it.
    """

    max_attempts: int = field(default=5, validator=ge(1))
    max_rate_limited: int = field(default=30, validator=ge(0))
    initial_wait: float = field(default=0.2, validator=gt(0))
    max_wait: float = field(default=10.0, validator=gt(0))
    outage: float = field(default=600.0, validator=ge(0))


_REPEATED = {
    Delivery.NOT_SENT: frozenset(Effect),
    Delivery.UNKNOWN: frozenset({Effect.READ, Effect.SET}),
    Delivery.DONE: frozenset({Effect.READ}),
    Delivery.REJECTED: frozenset[Effect](),
}


def next_wait(
    retry: RetryPolicy,
    effect: Effect,
    error: TeakError,
    attempts: int,
    refusals: int,
    chance: float,
    cut_off: float | None = None,
) -> float | None:
    """Say how many seconds to wait before the next try, or `None` to give up.

    Args:
        retry: how persistent to be.
        effect: what a second processing of the call would do.
        error: how the last try ended.
        attempts: tries so far that were not refused.
        refusals: tries so far that were.
        chance: from 0 to 1; spreads the waits of calls that failed together.
        cut_off: seconds since the first try that found no connection, for a call that may sit out an outage.
    """
    if isinstance(error, RateLimited):
        return 0.0 if refusals <= retry.max_rate_limited else None
    unconnected = error.delivery is Delivery.NOT_SENT
    if unconnected and (not isinstance(error, TransportError) or isinstance(error, DeadlinePassed)):
        return None
    patient = unconnected and cut_off is not None and cut_off < retry.outage
    if (attempts >= retry.max_attempts and not patient) or effect not in _REPEATED[error.delivery]:
        return None
    return min(retry.initial_wait * 2.0 ** min(attempts - 1, 64), retry.max_wait) * (0.5 + chance / 2)
