"""How many connections there may be at a time, bounded by the files that the process may open.

Waiting for a place is no part of the connect timeout, and a call that waits is unsent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import monotonic

try:
    import resource
except ImportError:
    resource = None  # type: ignore[assignment] # Windows has no such module


class Places:
    """Places for exchanges with a connection, first come, first served.

    Args:
        size: exchanges at a time.
    """

    RESTORED = 60.0
    """Seconds after which places that were given up come back: other code may have closed its files."""

    def __init__(self, size: float) -> None:
        self.size = self._whole = size
        self.used = 0
        self._shrunk_at = 0.0
        self._ended: Callable[[], Exception] | None = None
        self.waiting: deque[asyncio.Future[None]] = deque()

    def try_take(self) -> bool:
        """Take a place, if there is one and nobody waits."""
        if self.used >= self.size or self.waiting:
            if self.size < self._whole and monotonic() - self._shrunk_at >= self.RESTORED:
                self.size = self._whole
            return False
        self.used += 1
        return True

    async def take(self) -> None:
        """Wait for a place.

        Raises:
            Exception: the one of `end_waiting`, when that was called.
        """
        if self.try_take():
            return
        if self._ended is not None:
            raise self._ended()
        future = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.give()
            raise

    def give(self) -> None:
        """Give a place back."""
        self.used -= 1
        while self.waiting and self.used < self.size:
            future = self.waiting.popleft()
            if not future.done():
                self.used += 1
                future.set_result(None)

    def end_waiting(self, error: Callable[[], Exception]) -> None:
        """End all who wait for a place, or will, each with an error of its own."""
        self._ended = error
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done():
                future.set_exception(error())

    def shrink(self) -> bool:
        """Reduce the places to one less than are used now; return false if that is none."""
        if self.used < 2:
            return False
        self.size = min(self.size, self.used - 1)
        self._shrunk_at = monotonic()
        return True


def places_for(need: int) -> int:
    """Return the connections that the process may have: those needed, or half of the files that it may still open."""
    if resource is None:
        return need
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY or most >= 4 * need:
        return need
    try:
        used = sum(1 for _ in Path("/dev/fd").iterdir())
    except OSError:
        used = 16
    # The other half is for name resolution, connections that are closing, the journal, and the caller's program.
    return max(1, min(need, (most - used) // 2))
