"""Handles signals from the start of a command to its end.

- The command sets the handlers before it imports anything else, so this module imports only a little of the standard library.
- On POSIX a thread receives the signals, since the main thread may be blocked in a call, such as opening a pipe.
- Until something takes the signals over, the first one ends the process at once. That is safe, as a kill would be.
- A SIGHUP that is ignored when the command begins, as under `nohup`, stays ignored.
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
"""Signals that end a command. No system has all of them."""
INTERRUPTED = 130
"""The exit code of a command that a signal ended."""
SAME_WITHIN = 0.3
"""Seconds within which a second SIGHUP counts as the first. When a terminal is lost, the system sends one and the shell sends
another, late on a busy machine."""

Reaction = Callable[[int], object]


class SignalListener:
    """Receives the signals of the process, and hands each one to the reaction that took them over last."""

    def __init__(self) -> None:
        self._exit_message = "nothing was sent"
        self._reactions: list[Reaction] = []
        # Held while the process ends: what takes the signals over then would begin to send after it was said that nothing was.
        self._lock = threading.RLock()
        self._last_sighup = -inf
        self._former: dict[int, Any] = {}
        self._former_descriptor = -1
        self._pipe: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None

    @property
    def listening(self) -> bool:
        """Whether the handlers are set."""
        return bool(self._former)

    def begin(self) -> None:
        """Set the handlers. Outside of the main thread, where Python forbids that, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            return
        if os.name == "posix":
            self._pipe = os.pipe()
            os.set_blocking(self._pipe[1], False)
            # Python's handler in C writes the number to this pipe at once, whatever the main thread does.
            self._former_descriptor = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        for name in NAMES:
            number = getattr(signal, name, None)
            if number is not None and not (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                self._former[number] = signal.signal(number, self._handle)
        if self._pipe is not None:
            self._thread = threading.Thread(target=self._listen, args=self._pipe[:1], name="teak_async signals", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Restore the former handlers."""
        for number, handler in self._former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: a handler that Python did not set
        self._end_thread()

    def ignore(self) -> None:
        """Ignore further signals, so that they do not change the exit code while the process ends."""
        for number in self._former:
            signal.signal(number, signal.SIG_IGN)
        self._end_thread()

    def _end_thread(self) -> None:
        self._former.clear()
        # If the thread is ending the process, that goes first: the thread must not run while Python takes itself down.
        if self._pipe is not None and self._thread is not None:
            signal.set_wakeup_fd(self._former_descriptor)
            os.close(self._pipe[1])
            self._thread.join()
            self._pipe = self._thread = None

    def set_exit_message(self, message: str) -> None:
        """Set what the process says from now on when a signal ends it at once."""
        self._exit_message = message

    @contextmanager
    def hand_to(self, react: Reaction) -> Iterator[None]:
        """Hand signals to a function, in the thread that receives them. Listen meanwhile if nothing else has begun to."""
        with self._lock:
            self._reactions.append(react)
        begins = not self.listening
        if begins:
            self.begin()
        try:
            yield
        finally:
            if begins:
                self.end()
            with self._lock:
                self._reactions.remove(react)

    def exit_process(self) -> None:
        """End the process at once, with one line on standard error."""
        # If standard error was closed, descriptor 2 may be another file by now, even the journal.
        if sys.__stderr__ is not None:
            show_cursor = "\x1b[?25h" if os.name == "posix" and os.isatty(2) and os.environ.get("TERM") != "dumb" else ""
            with suppress(OSError, ValueError):
                # A write to a full pipe would block.
                if os.name != "posix" or select([], [2], [], 0)[1]:
                    os.write(2, f"{show_cursor}teak-async: interrupted; {self._exit_message}\n".encode())
        os._exit(INTERRUPTED)

    def _handle(self, number: int, _: object) -> None:
        if self._pipe is None:
            self._receive(number)

    def _listen(self, descriptor: int) -> None:
        try:
            while numbers := os.read(descriptor, 64):
                for number in numbers:
                    if number in self._former:
                        self._receive(number)
        finally:
            os.close(descriptor)

    def _receive(self, number: int) -> None:
        if number == getattr(signal, "SIGHUP", None):
            before, self._last_sighup = self._last_sighup, time.monotonic()
            if self._last_sighup - before < SAME_WITHIN:
                return
        with self._lock:
            if not self._reactions:
                self.exit_process()
            react = self._reactions[-1]
        try:
            react(number)
        except RuntimeError:  # the event loop that would react is closed
            self.exit_process()


LISTENER = SignalListener()
"""The listener of this process."""
