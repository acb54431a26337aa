"""Rows that a thread reads, ahead of their use, so that a slow pipe or query does not hold the loop up."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")

READ_AHEAD = 512
"""Rows read ahead of their use at most."""


class _Thread(Generic[Item]):
    """The thread, and what it shares with the loop.

    Attributes:
        ready: items that were read.
        ended: the error that ended the reading, or `None`; empty while it goes on.
        wanted: with so many items the loop is woken; 0 while it does not wait.
        left: whether nobody uses the items any more.
    """

    def __init__(self, items: Iterator[Item], close: Callable[[], None]) -> None:
        self._items = items
        self._close = close
        self._loop = asyncio.get_running_loop()
        self._came = asyncio.Event()
        self._room = threading.Event()
        self._room.set()
        self.ready: deque[Item] = deque()
        self.ended: list[Exception | None] = []
        self.wanted = 0
        self.left = False
        # A daemon: a pipe in which nothing comes any more does not keep an interrupted command alive.
        threading.Thread(target=self._read, name="teak_async rows", daemon=True).start()

    def _read(self) -> None:
        failure: Exception | None = None
        ready, room, most = self.ready, self._room, READ_AHEAD
        try:
            for item in self._items:
                if len(ready) >= most:
                    room.clear()
                    if len(ready) >= most and not self.left:
                        room.wait()
                if self.left:
                    return
                ready.append(item)
                if 0 < self.wanted <= len(ready):
                    self._wake()
        except Exception as error:  # noqa: BLE001 - raised again where the rows are used
            failure = error
        finally:
            self._close()
            self.ended.append(failure)
            self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop is closed, and uses no more rows
            self._loop.call_soon_threadsafe(self._came.set)

    async def wait(self, least: int) -> None:
        """Wait until so many items are there, or there are no more."""
        while len(self.ready) < least and not self.ended:
            self.wanted = least
            # The thread may have added an item, or ended, before it saw that somebody waits.
            if len(self.ready) < least and not self.ended:
                await self._came.wait()
            self.wanted = 0
            self._came.clear()

    def take(self, most: int) -> list[Item]:
        ready = self.ready
        taken = [ready.popleft() for _ in range(min(len(ready), most))]
        if len(ready) <= READ_AHEAD // 2:
            self._room.set()
        return taken

    def leave(self) -> None:
        self.left = True
        self._room.set()


async def read_ahead(items: Iterator[Item], close: Callable[[], None], most: int = 1) -> AsyncGenerator[list[Item], None]:
    """Iterate in a thread, and give what is there.

    Args:
        items: what to iterate.
        close: called in the thread at its end.
        most: items given at once, at most. One is given as soon as it is there; for many it waits until half of them are.
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
        thread.leave()
