"""Callers by the hundred thousand that wait at once, at our bucket and session, or behind an `AsyncLimiter`.

No server is needed: the permits are all out, or the limiter is drained, before the callers come, so each of them waits.
Memory is what the process grows by (resident), the callers' tasks included, which is what a machine sees. The loop's lag is
what a sleep of a millisecond takes longer than that.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from aiolimiter import AsyncLimiter
from attrs import frozen

from teak_async import TeakSession
from teak_async._limits.bucket import Bucket, Lane
from teak_async.sandbox import GAME_ID, IDENTIFY, SECRET_KEY

from .journal import resident
from .peers import body
from .processes import LIMIT

NOWHERE = "http://127.0.0.1:9"
"""A server that is never asked."""
HOURS = 3600.0 * LIMIT
"""Seconds in which a drained limiter gives its tokens back: an hour each, so that nobody gets one."""


@frozen
class Crowd:
    """What so many waiting callers cost.

    Attributes:
        bytes_each: resident memory for one of them, its task included.
        lag_coming: the longest time that the loop was held up while they came.
        cancel: seconds from cancelling half of them until all of these had ended.
        lag_cancelling: the longest time that the loop was held up by that.
        left: those that still waited then.
    """

    bytes_each: float
    lag_coming: float
    cancel: float
    lag_cancelling: float
    left: int


class Lag:
    """The longest time that the loop was held up, since it was last asked."""

    def __init__(self) -> None:
        self._longest = 0.0
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            self._longest = max(self._longest, time.perf_counter() - began - 0.001)

    async def longest(self) -> float:
        await asyncio.sleep(0.01)  # so that what has just ended is seen
        longest, self._longest = self._longest, 0.0
        return longest

    def stop(self) -> None:
        self._task.cancel()


async def crowd(wait: Callable[[int], Awaitable[object]], count: int) -> Crowd:
    """Let so many callers wait, and cancel every other one."""
    gc.collect()
    before = resident()
    lag = Lag()
    callers = [asyncio.ensure_future(wait(number)) for number in range(count)]
    await asyncio.sleep(0)
    coming = await lag.longest()
    each = (resident() - before) / count
    began = time.perf_counter()
    leaving = callers[::2]
    for caller in leaving:
        caller.cancel()
    await asyncio.wait(leaving)
    took = time.perf_counter() - began
    cancelling = await lag.longest()
    left = sum(not caller.done() for caller in callers)
    lag.stop()
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    return Crowd(each, coming, took, cancelling, left)


async def full_bucket() -> Bucket:
    """A bucket of which every permit is out."""
    bucket = Bucket(IDENTIFY, LIMIT)
    for _ in range(LIMIT):
        await bucket.acquire(Lane.LIVE)
    return bucket


async def drained_limiter() -> AsyncLimiter:
    """A limiter of aiolimiter's that has just given all that it had."""
    limiter = AsyncLimiter(LIMIT, HOURS)
    await limiter.acquire(LIMIT)
    return limiter


async def at_nothing(count: int) -> Crowd:
    """What asyncio itself takes: each waits for a future of its own."""
    loop = asyncio.get_running_loop()

    async def wait(_: int) -> None:
        await loop.create_future()

    return await crowd(wait, count)


async def at_bucket(count: int) -> Crowd:
    """Callers of `Bucket.acquire`."""
    bucket = await full_bucket()
    return await crowd(lambda _: bucket.acquire(Lane.LIVE), count)


async def at_limiter(count: int) -> Crowd:
    """Callers of `AsyncLimiter.acquire`."""
    limiter = await drained_limiter()
    return await crowd(lambda _: limiter.acquire(), count)


async def at_session(count: int) -> Crowd:
    """Callers of `TeakSession.identify`: the whole call waits, its body encoded."""
    async with TeakSession(GAME_ID, SECRET_KEY, base_url=NOWHERE) as teak:
        bucket = teak._bucket_of(IDENTIFY)  # noqa: SLF001 - its permits are used up, so that callers wait
        for _ in range(LIMIT):
            await bucket.acquire(Lane.LIVE)
        return await crowd(lambda number: teak.identify(f"p{number}", country_code="US"), count)


async def by_hand_at_limiter(count: int) -> Crowd:
    """The whole call by hand behind a limiter, its body not made yet."""
    limiter = await drained_limiter()
    async with aiohttp.ClientSession() as http:

        async def identify(number: int) -> Any:
            async with limiter, http.post(NOWHERE + IDENTIFY, json=body(number)) as response:
                return await response.json()

        return await crowd(identify, count)


CROWDS: dict[str, Callable[[int], Awaitable[Crowd]]] = {
    "asyncio alone: await a bare future": at_nothing,
    "await bucket.acquire(…)": at_bucket,
    "await AsyncLimiter.acquire()": at_limiter,
    "await teak.identify(…)": at_session,
    "by hand: async with AsyncLimiter, aiohttp": by_hand_at_limiter,
}
