"""Deliver events to the session's `on_event` and to the logger `teak_async`.

A line of the log has the attributes of its event as fields: `teak_event`, the kind in lower case, and `teak_` before the name
of each attribute: `teak_endpoint`, `teak_attempt`, `teak_wait`, `teak_status`, `teak_allowance` …

Rules of this module:

- An error that a listener raises ends here: no call and no permit depends on a listener.
- The caller of `emit` asks `is_enabled` first, so it makes no event without a listener.
- The log is silent until the application gives it a handler.
- WARNING is what needs attention: a pause after a 429, a limit lowered by it, wrong credentials, an identify of unknown fate.
  INFO is what the session does about trouble by itself, and DEBUG what every call does.
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
from .events import AttemptFailed, Event, ResponseReceived

LOG = logging.getLogger("teak_async")
LOG.addHandler(logging.NullHandler())

Hook = Callable[[Event], object]


def log(level: int, message: str, *args: object) -> None:
    """Write a line. An error of the application's handlers and filters must not reach the call."""
    with suppress(Exception):
        LOG.log(level, message, *args)


_RECORDS = {endpoint.name for endpoint in ENDPOINTS.values() if endpoint.effect is Effect.RECORD}


class Notifier:
    """Gives the events of one session to its hook and to the log.

    Args:
        hook: called with each event; `None` when only the log listens.

    Raises:
        TypeError: when the hook cannot be called, or would have to be awaited.
    """

    __slots__ = ("_hook", "_is_reported")

    def __init__(self, hook: Hook | None) -> None:
        if hook is not None and not callable(hook):
            raise TypeError(f"on_event must be something to call with an event, not {type(hook).__name__}")
        if iscoroutinefunction(hook) or iscoroutinefunction(getattr(hook, "__call__", None)):  # noqa: B004 - may be async itself
            raise TypeError("on_event is called, not awaited: give a plain function, which may start a task")
        self._hook = hook
        self._is_reported = False

    def is_enabled(self, level: int = logging.DEBUG) -> bool:
        """Return whether anybody listens to events that are logged at this level."""
        return self._hook is not None or LOG.isEnabledFor(level)

    def emit(self, event: Event) -> None:
        """Give an event to the hook and to the log."""
        if self._hook is not None:
            try:
                self._hook(event)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it must not reach the call
                self._report(error, event)
        match event:
            case ResponseReceived() | AttemptFailed() if event.delivery is Delivery.UNKNOWN and event.endpoint in _RECORDS:
                level = logging.WARNING  # only the table of endpoints knows what sending it again would do
            case _:
                level = event.level
        if LOG.isEnabledFor(level):
            self._log(level, event)

    def _log(self, level: int, event: Event) -> None:
        values = asdict(event)
        fields = {"teak_event": type(event).__name__.lower(), **{f"teak_{name}": value for name, value in values.items()}}
        # A handler or a filter of the application may raise, too, and nobody is left to report that to.
        with suppress(Exception):
            LOG.log(level, event.message, values, extra=fields)

    def _report(self, error: BaseException, event: Event) -> None:
        """Log once that the hook raises; it may do so thousands of times a second."""
        if self._is_reported:
            return
        self._is_reported = True
        with suppress(Exception):
            LOG.error(
                "on_event raised %s at %s; calls go on, and this is said once for a session",
                type(error).__name__,
                type(event).__name__,
                exc_info=error,
            )
