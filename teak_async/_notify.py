"""Who hears of events: what a session was given as `on_event`, and the logger `teak_async`.

A line of the log has what its event has as fields: `teak_event`, the kind in lower case, and `teak_` before the name of each
attribute: `teak_endpoint`, `teak_attempt`, `teak_wait`, `teak_status`, `teak_allowance` …

Rules of this module:

- Whatever a listener raises ends here: neither a call nor a permit may depend on who listens.
- Whoever would tell an event asks first whether anybody `is_enabled` it, so one that nobody hears is never made.
- The log is silent until the application gives it a handler.
- What needs somebody's attention is a WARNING: a refusal, a limit lowered by it, an identify of unknown fate. What the
  session does about trouble by itself is INFO, and what every call does DEBUG.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from inspect import iscoroutinefunction

from attrs import asdict

from ._api.endpoints import ENDPOINTS, Effect
from .errors import Delivery
from .events import (
    AllowanceChanged,
    AttemptFailed,
    AttemptStarted,
    BucketPaused,
    Event,
    PermitAcquired,
    RateLimitHit,
    ResponseReceived,
    RetryScheduled,
)

LOG = logging.getLogger("teak_async")
LOG.addHandler(logging.NullHandler())

Hook = Callable[[Event], object]

_ROUTINE = {PermitAcquired, AttemptStarted}
"""What every call notifier, whatever becomes of it."""
_RECORDS = {endpoint.name for endpoint in ENDPOINTS.values() if endpoint.effect is Effect.RECORD}


class Notifier:
    """Tells events to all who listen to one session.

    Args:
        hook: called with each event; `None` when only the log listens.

    Raises:
        TypeError: when the hook cannot be called, or would have to be awaited.
    """

    __slots__ = ("_blamed", "_hook")

    def __init__(self, hook: Hook | None) -> None:
        if hook is not None and not callable(hook):
            raise TypeError(f"on_event must be something to call with an event, not {type(hook).__name__}")
        if iscoroutinefunction(hook) or iscoroutinefunction(getattr(hook, "__call__", None)):  # noqa: B004 - may be async itself
            raise TypeError("on_event is called, not awaited: give a plain function, which may start a task")
        self._hook = hook
        self._blamed = False

    def is_enabled(self, level: int = logging.DEBUG) -> bool:
        """Whether anybody would hear an event that is logged at this level."""
        return self._hook is not None or LOG.isEnabledFor(level)

    def emit(self, event: Event) -> None:
        """Tell an event, whoever listens."""
        if self._hook is not None:
            try:
                self._hook(event)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it was, it is not the call's
                self._blame(error, event)
        if type(event) not in _ROUTINE or LOG.isEnabledFor(logging.DEBUG):
            self._log(event)

    def _log(self, event: Event) -> None:
        level = level_of(event)
        if LOG.isEnabledFor(level):
            # A handler or a filter of the application's may raise as well, and then there is nobody left to tell.
            with suppress(Exception):
                LOG.log(level, words_of(event), asdict(event), extra=fields_of(event))

    def _blame(self, error: BaseException, event: Event) -> None:
        """Say once that the hook fails; it may do so thousands of times a second."""
        if self._blamed:
            return
        self._blamed = True
        with suppress(Exception):
            LOG.error(
                "on_event raised %s at %s; calls go on, and this is said once for a session",
                type(error).__name__,
                type(event).__name__,
                exc_info=error,
            )


def level_of(event: Event) -> int:
    """How much attention it needs."""
    match event:
        case ResponseReceived() | AttemptFailed() if event.delivery is Delivery.UNKNOWN and event.endpoint in _RECORDS:
            return logging.WARNING
        case AttemptFailed() if event.error != "CancelledError":
            return logging.INFO
        case PermitAcquired() | AttemptStarted() | ResponseReceived() | AttemptFailed():
            return logging.DEBUG
        case RateLimitHit():
            return logging.WARNING
        case AllowanceChanged():
            return logging.WARNING if event.allowance < event.before else logging.INFO
        case BucketPaused() | RetryScheduled():
            return logging.INFO


def fields_of(event: Event) -> dict[str, object]:
    """The event as fields of a log line."""
    fields: dict[str, object] = {f"teak_{name}": value for name, value in asdict(event).items()}
    fields["teak_event"] = type(event).__name__.lower()
    return fields


_OF_TRY = "%(endpoint)s, try %(attempt)d of call %(call)d: "


def words_of(event: Event) -> str:
    """The event as a sentence, with places for its attributes: tools that group log lines go by it."""
    match event:
        case PermitAcquired():
            return _OF_TRY + "waited %(wait).3f s for its permit (%(lane)s)"
        case AttemptStarted():
            return _OF_TRY + "goes to %(server)s"
        case ResponseReceived(error=None):
            return _OF_TRY + "answered %(status)d after %(on_wire).3f s: %(delivery)s"
        case ResponseReceived():
            return _OF_TRY + "answered %(status)d, %(error)s, after %(on_wire).3f s: %(delivery)s"
        case AttemptFailed():
            return _OF_TRY + "no answer, %(error)s, after %(on_wire).3f s: %(delivery)s"
        case RateLimitHit(retry_after=None):
            return _OF_TRY + "refused (429); from now on %(allowance)d a second"
        case RateLimitHit():
            return _OF_TRY + "refused (429), to wait %(retry_after).1f s; from now on %(allowance)d a second"
        case RetryScheduled():
            return _OF_TRY + "ended with %(error)s and is made again in %(wait).2f s"
        case BucketPaused():
            return "%(bucket)s: nothing is sent for %(pause).1f s"
        case AllowanceChanged():
            why = "refused within the limit, so it takes less" if event.allowance < event.before else "won back"
            return f"%(bucket)s: {why}: %(allowance)d of %(limit)d a second, %(before)d before"
