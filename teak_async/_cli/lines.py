"""Lines written by a thread of their own, so that a reader that does not read holds the loop up nowhere.

Rules of this module:

- A line is written whole, by itself: a killed command leaves whole lines, and what a full disk cut off is taken back.
- The thread writes to the descriptor and not through Python's buffer, whose lock a stuck thread would keep until the end.
- Nothing waits for a stuck thread: it is a daemon, and is left where it is.
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
"""Seconds between two looks at a thread that has not come as far as it should."""
STUCK_AFTER = 3.0
"""Seconds without a line written after which that is said."""
PATIENCE = 1.0
"""Seconds without a line written after which an interrupted command leaves the rest; half as many after a second interrupt."""
MOST_WORDS = 500
"""Pieces of text that wait for standard error at most; more are dropped, since they are about the moment."""
ERRORS = "backslashreplace"
"""What becomes of a character that no encoding has, and that a server may send: a backslash escape, which is still JSON."""


class Target:
    """Where lines go: a descriptor, or a stream that has none, as in tests."""

    def __init__(self, descriptor: int | None, stream: TextIO | None = None, encoding: str = "utf-8") -> None:
        self.descriptor = descriptor
        self._stream = stream
        self._encoding = encoding

    def write(self, text: str) -> None:
        """Write all of it, or take back what was written of it."""
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
                except BlockingIOError:  # another program that has this pipe, too, does not want to wait
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
    """Find where a standard stream writes."""
    with suppress(OSError, ValueError):
        stream.flush()
    try:
        return Target(stream.fileno(), encoding=encoding)
    except (OSError, ValueError):  # a stream of a test has no descriptor
        return Target(None, stream, encoding)


class LineThread(threading.Thread):
    """Opens a target and writes lines to it. The thread has `run`, the loop all other methods.

    Args:
        name: of the thread.
        opened: opens the target, in the thread.
        fail: called in the thread, once, when the target cannot be written.

    Attributes:
        target: where lines go; `None` until it is open.
        written: lines.
        failure: what prevented the first line that could not be written; nothing is written after it.
        moved: when something was last written, in seconds of the monotonic clock.
    """

    def __init__(self, name: str, opened: Callable[[], Target], fail: Callable[[], object]) -> None:
        super().__init__(name=f"teak_async {name}", daemon=True)
        self._open = opened
        self._fail = fail
        self._queue: queue.SimpleQueue[str | Callable[[Target], None] | None] = queue.SimpleQueue()
        self._left = False
        self._put = 0
        self.target: Target | None = None
        self.written = 0
        self.failure: Exception | None = None
        self.moved = time.monotonic()

    @property
    def waiting(self) -> int:
        """Lines that are not written yet."""
        return self._put - self.written

    @property
    def stuck(self) -> float:
        """Seconds since something was written."""
        return time.monotonic() - self.moved

    def put(self, line: str) -> None:
        """Have a line written."""
        if not self.waiting:
            self.moved = time.monotonic()
        self._put += 1
        self._queue.put(line)

    def call(self, function: Callable[[Target], None]) -> None:
        """Have a function called with the target, after the lines that were put before."""
        self.moved = time.monotonic()
        self._queue.put(function)

    def end(self) -> None:
        """Have the thread end after what was put."""
        self._queue.put(None)

    def leave(self) -> None:
        """Have the thread end as soon as it can."""
        self._left = True
        self._queue.put(None)

    def run(self) -> None:
        try:
            self.target = target = self._open()
            self.moved = time.monotonic()
            while (work := self._queue.get()) is not None and not self._left:
                if callable(work):
                    work(target)
                else:
                    target.write(work)
                    self.written += 1
                    self.moved = time.monotonic()
        except Exception as error:  # noqa: BLE001 - the loop tells it
            self.failure = error
            with suppress(RuntimeError):  # the loop is closed, and nobody waits
                self._fail()


async def wait_for_lines(
    thread: LineThread, most: int, interrupts: list[int], say_stuck: Callable[[], None] | None = None
) -> None:
    """Wait until no more than so many lines of a thread wait, it failed, or an interrupt has left no patience for it.

    Args:
        thread: the thread.
        most: lines that may wait; below zero, the end of the thread is waited for.
        interrupts: the signals heard so far.
        say_stuck: called when nothing was written for a while; without it, the rest is left then.
    """
    pause = LOOK_EVERY / 16
    while thread.is_alive() and thread.failure is None and (most < 0 or thread.waiting > most):
        if interrupts and most >= 0:
            return  # nothing new is sent, so what comes yet is little
        if interrupts and thread.stuck > PATIENCE / len(interrupts):
            thread.leave()
            return
        if thread.stuck > STUCK_AFTER:
            if say_stuck is None:
                thread.leave()
                return
            say_stuck()
        await asyncio.sleep(pause)
        pause = min(pause * 2, LOOK_EVERY)


class OffLoopStream(io.TextIOBase):
    """Standard error, written by a thread: a stuck reader of it holds nothing up, and misses words.

    Args:
        stream: the one that it stands for.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        target = target_of(stream, stream.encoding or "utf-8")
        self.thread = LineThread("words", lambda: target, lambda: None)
        self.thread.start()

    @property
    def encoding(self) -> str:  # type: ignore[override] # typeshed has a variable, as TextIOBase has none that can be set
        """That of the stream."""
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.thread.failure is None and self.thread.waiting < MOST_WORDS:
            self.thread.put(text)
        return len(text)

    async def drain(self, interrupts: list[int]) -> None:
        """Wait until all is written, and end the thread; a reader that does not read misses words."""
        self.thread.end()
        await wait_for_lines(self.thread, -1, interrupts)
