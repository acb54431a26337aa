"""Reads rows ahead of their use in a thread, so that a slow pipe or query does not block the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")

READ_AHEAD = 512
"""Rows at most that are read and not used yet."""


class _Thread(Generic[Item]):
    """A thread that reads items, and the state that it shares with the loop.

    Attributes:
        ready: items that were read and not taken yet.
        ended: one entry once the reading has ended: its error, or `None`.
        wanted: the number of items for which the loop waits; 0 while it does not wait.
        abandoned: whether nobody takes items any more.
    """

    def __init__(self, items: Iterator[Item], close: Callable[[], None]) -> None:
        self._items = items
        self._close = close
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._room = threading.Event()
        self._room.set()
        self.ready: deque[Item] = deque()
        self.ended: list[Exception | None] = []
        self.wanted = 0
        self.abandoned = False
        # A daemon, so that a silent pipe does not keep an interrupted command alive.
        threading.Thread(target=self._read, name="teak_async rows", daemon=True).start()

    def _read(self) -> None:
        failure: Exception | None = None
        ready, room, most = self.ready, self._room, READ_AHEAD
        try:
            for item in self._items:
                if len(ready) >= most:
                    room.clear()
                    if len(ready) >= most and not self.abandoned:
                        room.wait()
                if self.abandoned:
                    return
                ready.append(item)
                if 0 < self.wanted <= len(ready):
                    self.wanted = 0  # before the loop wakes: it may take long, and each item would wake it again
                    self._wake()
        except Exception as error:  # noqa: BLE001 - `read_ahead` raises it again
            failure = error
        finally:
            self._close()
            self.ended.append(failure)
            self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop is closed, and takes no more items
            self._loop.call_soon_threadsafe(self._arrived.set)

    async def wait(self, least: int) -> None:
        """Wait until so many items are ready, or the reading has ended."""
        while len(self.ready) < least and not self.ended:
            self.wanted = least
            # The thread may have added an item, or ended, before it could see `wanted`.
            if len(self.ready) < least and not self.ended:
                await self._arrived.wait()
            self.wanted = 0
            self._arrived.clear()

    def take(self, most: int) -> list[Item]:
        """Take up to so many items, and let the thread read on once half of its room is free."""
        ready = self.ready
        taken = [ready.popleft() for _ in range(min(len(ready), most))]
        if len(ready) <= READ_AHEAD // 2:
            self._room.set()
        return taken

    def abandon(self) -> None:
        self.abandoned = True
        self._room.set()


async def read_ahead(items: Iterator[Item], close: Callable[[], None], most: int = 1) -> AsyncGenerator[list[Item], None]:
    """Iterate in a thread, and yield lists of the items.

    Args:
        items: the items; only the thread iterates over them.
        close: called in the thread when it ends.
        most: items in a list at most. A list comes as soon as half as many are ready, or no more follow.
    """
    thread = _Thread(items, close)
    try:
        while True:
            await thread.wait(max(min(most, READ_AHEAD) // 2, 1))
            if not thread.ready:
                break
            yield thread.take(most)
        if thread.ended[0] is not None:
            raise thread.ended[0]
    finally:
        thread.abandon()
