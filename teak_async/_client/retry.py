"""Whether there is another attempt after one that failed, and after how long. Pure: chance is an argument."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, gt

from teak_async._api.endpoints import Effect
from teak_async._api.refusals import REPEATED
from teak_async._values import whole_from
from teak_async.errors import CertificateError, DeadlinePassed, Delivery, RateLimited, TeakError, TransportError

from .deadline import seconds_of


@frozen(kw_only=True)
class RetryPolicy:
    """How often and how late a failed attempt is repeated, where that can help and harms nothing.

    Attributes:
        max_attempts: attempts of one call at most, from 1 on. Rate-limited ones (429) do not count. A row of a bulk run that
            finds no connection is attempted until `outage` is over. Default: 5.
        max_rate_limited: how many 429s of one call are each followed by another attempt, from 0 on; one more ends it. Each
            costs the bucket's pause of a second or more. Default: 30.
        initial_wait: seconds above 0, or a `timedelta`, before the second attempt, doubled for each further one. A call waits
            half of it to all of it, by chance. Default: 0.2.
        max_wait: seconds above 0, or a `timedelta`; no wait is longer. Default: 10. A live call waits no longer where a 503
            asks for it (`Retry-After`), since somebody waits for its end; a bulk run does.
        outage: seconds from 0 on, or a `timedelta`, for which a bulk run waits while the server is out; it ends with `Outage`
            after the next probe. Default: 600.
    """

    max_attempts: int = field(default=5, validator=whole_from(1))
    max_rate_limited: int = field(default=30, validator=whole_from(0))
    initial_wait: float = field(default=0.2, converter=seconds_of("initial_wait"), validator=gt(0))  # type: ignore[misc] # mypy knows named ones only
    max_wait: float = field(default=10.0, converter=seconds_of("max_wait"), validator=gt(0))  # type: ignore[misc] # mypy knows named ones only
    outage: float = field(default=600.0, converter=seconds_of("outage"), validator=ge(0))  # type: ignore[misc] # mypy knows named ones only


NO_RETRIES = RetryPolicy(max_attempts=1, max_rate_limited=0, outage=0)
"""One attempt a call, also when it is rate-limited."""

# An attempt is repeated only if it did nothing, or if doing it again changes nothing. So an identify of unknown delivery is
# never repeated.
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
    rate_limited: int,
    chance: float,
    *,
    patient: bool = False,
) -> float | None:
    """Return the seconds to wait before the next attempt, or `None` to give up.

    Args:
        retry: the policy.
        effect: the effect of processing the call twice.
        error: how the last attempt ended.
        attempts: attempts so far that were not rate-limited.
        rate_limited: attempts so far that were.
        chance: from 0 to 1; spreads the waits of calls that failed together.
        patient: whether an unsent attempt is always followed by another one.
    """
    if isinstance(error, RateLimited):
        # The pause of its bucket is its wait, as for all calls, in their order.
        return 0.0 if rate_limited <= retry.max_rate_limited else None
    if isinstance(error, CertificateError):
        # Waiting does not mend a certificate.
        return None
    unconnected = error.delivery is Delivery.NOT_SENT
    if unconnected and (not isinstance(error, TransportError) or isinstance(error, DeadlinePassed)):
        return None
    # After "not on this connection" or "not yet" the attempt did nothing, as one without a connection.
    again = error.delivery is Delivery.REJECTED and error.status in REPEATED
    if attempts >= retry.max_attempts and not (patient and unconnected):
        return None
    if not again and effect not in _REPEATED[error.delivery]:
        return None
    return min(retry.initial_wait * 2.0 ** min(attempts - 1, 64), retry.max_wait) * (0.5 + chance / 2)
