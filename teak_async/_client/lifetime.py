"""Where a session may be used: from its opening to its closing, on one event loop, in one process."""

from __future__ import annotations

import asyncio
import logging
import os

from teak_async._limits.session_limits import SessionLimits
from teak_async._notify import log
from teak_async.errors import SessionClosed

from .submitted import Backlog
from .transport import Transport


class Lifetime:
    """The life of one session.

    Attributes:
        loop: the loop that it was opened on; `None` before.
    """

    def __init__(self) -> None:
        self._problem = "not opened yet: use `async with TeakSession(...) as teak:` or `await teak.open()`"
        self._pid = 0
        self.loop: asyncio.AbstractEventLoop | None = None

    @property
    def state(self) -> str:
        """`not opened yet`, `open` or `closed`."""
        return self._problem.partition(":")[0] or "open"

    @property
    def ended(self) -> bool:
        """Whether it has not begun, or is over."""
        return bool(self._problem)

    def begin(self) -> None:
        """Begin it on the running loop."""
        self.loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._problem = ""

    def end(self) -> None:
        """End it."""
        self._problem = "closed"

    def check(self) -> None:
        """See that the session may be used here and now.

        Raises:
            SessionClosed: when it may not.
        """
        if self._problem:
            raise SessionClosed(f"the session is {self._problem}")
        self.check_place()

    def check_place(self) -> None:
        """See that the session belongs to this process and to the running loop.

        Raises:
            SessionClosed: when it does not.
        """
        if os.getpid() != self._pid:
            # The child has the parent's sockets: each process would read responses of the other.
            raise SessionClosed(
                "the session was opened before this process was forked: open one in each process, after the fork"
            )
        loop = running_loop()
        if loop is not self.loop:
            ended = self.loop is not None and self.loop.is_closed()
            which = ", which has ended" if ended else ""
            raise SessionClosed(
                f"the session belongs to another event loop{which}: open a session on each loop, and give each its part of the"
                " limits with limits=Limits(...)"
            )


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running loop.

    Raises:
        SessionClosed: where none runs.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise SessionClosed(
            "the session was used outside of its event loop: from another thread, use it in an async function that"
            " asyncio.run_coroutine_threadsafe runs on that loop"
        ) from None


def report_unclosed(transport: Transport, backlog: Backlog, limits: SessionLimits, pid: int) -> None:
    """End what is left of a session that was opened in a process and that nobody closed, and warn of it."""
    if os.getpid() != pid:
        return  # a forked child has a copy of the session, and nothing of it is the child's to lose
    transport.abandon()
    limits.abandon()
    log(
        logging.WARNING,
        "a session for game %s was never closed, and submitted calls were left: %d; use `async with`, or `await teak.close()`",
        limits.game_id,
        backlog.abandoned,
    )
