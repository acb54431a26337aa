"""Signals, heard from the first line of a command to its last.

Rules of this module:

- Handlers are set before a command imports anything else, so this module imports a little of the standard library only.
- A thread receives the signals: the main thread may stand in a call that returns late or never, such as opening a pipe.
- Until a run takes the signals over, the first one ends the process at once. A kill may come at any time, so that is safe.
- A SIGHUP that is ignored when the command begins, as `nohup` has it, stays ignored.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from math import inf
from select import select
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Signals that end a command, where the system has them."""
INTERRUPTED = 130
"""The exit code of a command that a signal ended."""
SAME_WITHIN = 0.3
"""Seconds within which another SIGHUP is the same one: of a lost terminal the system tells, and then the shell, which may be
slow on a busy machine."""

Reaction = Callable[[int], object]


class SignalListener:
    """Receives the signals of the process and hands each one to what is under way."""

    def __init__(self) -> None:
        self._last_words = "nothing was sent"
        self._reactions: list[Reaction] = []
        self._hung_up = -inf
        self._former: dict[int, Any] = {}
        self._former_descriptor = -1
        self._pipe: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None

    @property
    def began(self) -> bool:
        """Whether it listens."""
        return bool(self._former)

    def begin(self) -> None:
        """Set the handlers; outside of the main thread, which alone may, leave them as they are."""
        if threading.current_thread() is not threading.main_thread():
            return
        if os.name == "posix":
            self._pipe = os.pipe()
            os.set_blocking(self._pipe[1], False)
            # The system's handler writes the number there at once, wherever the main thread stands.
            self._former_descriptor = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        for name in NAMES:
            number = getattr(signal, name, None)
            if number is not None and not (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                self._former[number] = signal.signal(number, self._handle)
        if self._pipe is not None:
            self._thread = threading.Thread(target=self._listen, args=self._pipe[:1], name="teak_async signals", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Set the former handlers again."""
        for number, handler in self._former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: set by something that is not Python
        self._former.clear()
        if self._pipe is not None and self._thread is not None:
            signal.set_wakeup_fd(self._former_descriptor)
            os.close(self._pipe[1])
            self._thread.join()
            self._pipe = self._thread = None

    def ignore(self) -> None:
        """Hear nothing more: in the last milliseconds of the process its exit code stands."""
        for number in self._former:
            signal.signal(number, signal.SIG_IGN)

    def set_last_words(self, words: str) -> None:
        """Say this from now on when a signal ends the process at once."""
        self._last_words = words

    @contextmanager
    def taken_over(self, react: Reaction) -> Iterator[None]:
        """Hand signals to a function, in the thread that receives them; listen, if nobody has begun to."""
        self._reactions.append(react)
        begins = not self.began
        if begins:
            self.begin()
        try:
            yield
        finally:
            if begins:
                self.end()
            self._reactions.remove(react)

    def leave(self) -> None:
        """End the process at once, with one line."""
        # A closed standard error may be any file by now, also the journal; a stuck one must not hold the end up.
        if sys.__stderr__ is not None:
            shown = "\x1b[?25h" if os.name == "posix" and os.isatty(2) and os.environ.get("TERM") != "dumb" else ""
            with suppress(OSError, ValueError):
                if os.name != "posix" or select([], [2], [], 0)[1]:
                    os.write(2, f"{shown}teak-async: interrupted; {self._last_words}\n".encode())
        os._exit(INTERRUPTED)

    def _handle(self, number: int, _: object) -> None:
        if self._pipe is None:
            self._hear(number)

    def _listen(self, descriptor: int) -> None:
        try:
            while numbers := os.read(descriptor, 64):
                for number in numbers:
                    if number in self._former:
                        self._hear(number)
        finally:
            os.close(descriptor)

    def _hear(self, number: int) -> None:
        if number == getattr(signal, "SIGHUP", None):
            before, self._hung_up = self._hung_up, time.monotonic()
            if self._hung_up - before < SAME_WITHIN:
                return
        if not self._reactions:
            self.leave()
        try:
            self._reactions[-1](number)
        except RuntimeError:  # the loop that was to react has ended
            self.leave()


LISTENER = SignalListener()
"""The one of this process."""
