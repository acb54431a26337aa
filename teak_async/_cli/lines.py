"""Writes lines in a thread, so that a reader that does not read never blocks the event loop.

- The thread writes each line by itself. A kill can cut off the last line at most. Where a full disk cuts a line off, the
  thread removes the part that is in the file.
- The thread writes to the descriptor. It does not use Python's buffer, whose lock a stuck thread would still hold at exit.
- After an interrupt, the command soon gives up on a stuck thread. The thread is a daemon, so the process ends without it.
"""

from __future__ import annotations

import asyncio
import io
import os
import queue
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from select import select
from typing import TextIO

LOOK_EVERY = 0.02
"""Seconds between two checks of a thread for which the loop waits."""
STUCK_AFTER = 3.0
"""Seconds without progress after which a thread counts as stuck."""
GIVE_UP_AFTER = 1.0
"""Seconds without progress after which an interrupted command drops the rest; half as many after a second interrupt."""
MAX_PIECES = 500
"""Pieces of text that wait for standard error at most. More are dropped: progress that comes late helps nobody."""
ERRORS = "backslashreplace"
"""How a lone surrogate is encoded, which a server may send: as a backslash escape, which JSON allows."""


class Target:
    """The place where lines go: a descriptor, or a test's stream without one."""

    def __init__(self, descriptor: int | None, stream: TextIO | None = None, encoding: str = "utf-8") -> None:
        self.descriptor = descriptor
        self._stream = stream
        self._encoding = encoding

    def write(self, text: str) -> None:
        """Write a text whole. If that fails, remove the part that is in the file."""
        data = text.encode(self._encoding, ERRORS)
        if self.descriptor is None:
            assert self._stream is not None
            self._stream.write(data.decode(self._encoding))
            self._stream.flush()
            return
        left = data
        try:
            while left:
                try:
                    left = left[os.write(self.descriptor, left) :]
                except BlockingIOError:  # another program set this pipe to non-blocking mode
                    select([], [self.descriptor], [])
        except OSError:
            if len(left) < len(data):
                self._take_back(len(data) - len(left))
            raise

    def _take_back(self, count: int) -> None:
        assert self.descriptor is not None
        status = os.fstat(self.descriptor)
        if stat.S_ISREG(status.st_mode):
            with suppress(OSError):
                os.ftruncate(self.descriptor, status.st_size - count)


def target_of(stream: TextIO, encoding: str) -> Target:
    """Return the target of a standard stream."""
    with suppress(OSError, ValueError):
        stream.flush()
    try:
        return Target(stream.fileno(), encoding=encoding)
    except (OSError, ValueError):  # a test's stream
        return Target(None, stream, encoding)


class LineThread(threading.Thread):
    """Opens a target and writes lines to it. The thread calls `run`, and the event loop all other methods.

    Args:
        name: the thread's name.
        open_target: opens the target, in the thread.
        fail: called in the thread, once, when the target cannot be opened or written.

    Attributes:
        target: where lines go; `None` until it is open.
        written: lines written so far.
        failure: the error that ended the thread; `None` while there is none.
        progressed_at: when the thread last made progress or was given work, in seconds of the monotonic clock.
    """

    def __init__(self, name: str, open_target: Callable[[], Target], fail: Callable[[], object]) -> None:
        super().__init__(name=f"teak_async {name}", daemon=True)
        self._open = open_target
        self._fail = fail
        self._queue: queue.SimpleQueue[str | Callable[[Target], None] | None] = queue.SimpleQueue()
        self._abandoned = False
        self._put = 0
        self.target: Target | None = None
        self.written = 0
        self.failure: Exception | None = None
        self.progressed_at = time.monotonic()

    @property
    def waiting(self) -> int:
        """Lines that are not written yet."""
        return self._put - self.written

    @property
    def stuck_for(self) -> float:
        """Seconds since the thread last made progress."""
        return time.monotonic() - self.progressed_at

    def put(self, line: str) -> None:
        """Pass a line to the thread."""
        if not self.waiting:
            self.progressed_at = time.monotonic()
        self._put += 1
        self._queue.put(line)

    def call(self, function: Callable[[Target], None]) -> None:
        """Have the thread call a function with the target, after the lines passed before."""
        self.progressed_at = time.monotonic()
        self._queue.put(function)

    def end(self) -> None:
        """Have the thread end after the lines passed before."""
        if not self.waiting:
            self.progressed_at = time.monotonic()
        self._queue.put(None)

    def abandon(self) -> None:
        """Have the thread end as soon as it can, without the lines that wait."""
        self._abandoned = True
        self._queue.put(None)

    def run(self) -> None:
        try:
            self.target = target = self._open()
            self.progressed_at = time.monotonic()
            while (work := self._queue.get()) is not None and not self._abandoned:
                if callable(work):
                    work(target)
                else:
                    target.write(work)
                    self.written += 1
                    self.progressed_at = time.monotonic()
        except Exception as error:  # noqa: BLE001 - the loop reads it from `failure`
            self.failure = error
            with suppress(RuntimeError):  # the event loop is closed, and nobody waits
                self._fail()


async def wait_for_lines(
    thread: LineThread, most: int, interrupts: list[int], say_stuck: Callable[[], None] | None = None
) -> None:
    """Wait until a thread has written all but so many lines, or has failed; give up on a stuck thread after an interrupt.

    Args:
        thread: the thread.
        most: lines that may still wait; below 0, wait until the thread has ended.
        interrupts: the signals received so far.
        say_stuck: called again and again while the thread is stuck. Default: give up on a stuck thread.
    """
    pause = LOOK_EVERY / 16
    while thread.is_alive() and thread.failure is None and (most < 0 or thread.waiting > most):
        if interrupts and most >= 0:
            return  # the interrupted run sends nothing new, so few lines are still to come
        if interrupts and thread.stuck_for > GIVE_UP_AFTER / len(interrupts):
            thread.abandon()
            return
        if thread.stuck_for > STUCK_AFTER:
            if say_stuck is None:
                thread.abandon()
                return
            say_stuck()
        await asyncio.sleep(pause)
        pause = min(pause * 2, LOOK_EVERY)


class OffLoopStream(io.TextIOBase):
    """Standard error, written by a thread. A reader that does not read blocks nothing, and misses text.

    Args:
        stream: the stream that it replaces.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        target = target_of(stream, stream.encoding or "utf-8")
        self.thread = LineThread("stderr", lambda: target, lambda: None)
        self.thread.start()

    @property
    def encoding(self) -> str:  # type: ignore[override] # typeshed has a variable, as TextIOBase has none that can be set
        """The encoding of the stream."""
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.thread.failure is None and self.thread.waiting < MAX_PIECES:
            self.thread.put(text)
        return len(text)

    async def drain(self, interrupts: list[int]) -> None:
        """Wait until all is written, and end the thread. Give up on a reader that does not read."""
        self.thread.end()
        await wait_for_lines(self.thread, -1, interrupts)
