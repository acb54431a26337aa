"""The limiters that people use, each in the way that its own documentation shows, before the same call on aiohttp.

So only the limiter differs. They are told what a reader of the API's documentation would tell them: 200 a second.
None of them looks at the responses, so none of them acts on a 429.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import aiohttp
from aiolimiter import AsyncLimiter
from attrs import frozen
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, override

from teak_async import Identify, PlayerSession, State, TeakSession
from teak_async.sandbox import GAME_ID, IDENTIFY, SECRET_KEY

from .processes import LIMIT

PATIENCE = 3600.0
"""Seconds that a call may wait for its turn where a limiter asks for a figure."""

Client = Callable[[str, int], Coroutine[Any, Any, None]]


@frozen
class Peer:
    """A client, and the package that its process needs besides our own dependencies."""

    run: Client
    package: str = "aiohttp"

    @property
    def installed(self) -> bool:
        return find_spec(self.package) is not None


def body(number: int) -> dict[str, str]:
    """An identify as one writes it by hand."""
    return {"game_id": GAME_ID, "secret_key": SECRET_KEY, "user_id": f"p{number}", "country_code": "US"}


@asynccontextmanager
async def by_hand(url: str) -> AsyncIterator[Callable[[int], Awaitable[Any]]]:
    """The call by hand, on a default session of aiohttp."""
    async with aiohttp.ClientSession() as http:

        async def identify(number: int) -> Any:
            async with http.post(url + IDENTIFY, json=body(number)) as response:
                return await response.json()

        yield identify


@asynccontextmanager
async def carefully_by_hand(url: str, limit: int = LIMIT) -> AsyncIterator[Callable[[int], Awaitable[PlayerSession]]]:
    """The call by hand, as a careful engineer writes it: arguments checked, paced, and the response read into a class.

    It has no retries, no truth about the delivery, and no answer to a 429.
    """
    limiter = AsyncLimiter(limit, 1)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:

        async def identify(number: int) -> PlayerSession:
            asked = body(number)
            if not asked["user_id"].strip():
                raise ValueError("user_id must not be empty")
            if not re.fullmatch(r"[A-Z]{2}", asked["country_code"]):
                raise ValueError("country_code must be a two-letter ISO country")
            async with limiter, http.post(url + IDENTIFY, json=asked) as response:
                if response.status != 201:
                    raise RuntimeError(f"status {response.status}: {await response.text()}")
                return _CONVERTER.structure(await response.json(), PlayerSession)

        yield identify


def _states(value: dict[str, dict[str, str]], _: object) -> dict[str, State | str]:
    return {channel: State(entry["state"]) for channel, entry in value.items()}


_CONVERTER = Converter()
_CONVERTER.register_structure_hook(
    PlayerSession, make_dict_structure_fn(PlayerSession, _CONVERTER, opt_out_states=override(struct_hook=_states))
)


async def ours(url: str, calls: int) -> None:
    """One bulk run of this client."""
    async with TeakSession(GAME_ID, SECRET_KEY, base_url=url) as teak:
        await teak.bulk(Identify(f"p{number}", country_code="US") for number in range(calls))


async def ours_live(url: str, calls: int) -> None:
    """Each call awaited by a caller of its own, all at once, as the peers' are."""
    async with TeakSession(GAME_ID, SECRET_KEY, base_url=url) as teak:
        await asyncio.gather(*(teak.identify(f"p{number}", country_code="US") for number in range(calls)))


async def aiolimiter(limiter: AsyncLimiter, url: str, calls: int) -> None:
    """`async with limiter:` around each call."""
    async with by_hand(url) as identify:

        async def limited(number: int) -> None:
            async with limiter:
                await identify(number)

        await asyncio.gather(*(limited(number) for number in range(calls)))


async def aiolimiter_200(url: str, calls: int) -> None:
    """A bucket of a second's worth."""
    await aiolimiter(AsyncLimiter(LIMIT, 1), url, calls)


async def aiolimiter_1(url: str, calls: int) -> None:
    """A bucket of one, as its documentation says for no bursts."""
    await aiolimiter(AsyncLimiter(1, 1 / LIMIT), url, calls)


async def aiometer(url: str, calls: int) -> None:
    """Its runner starts the calls."""
    from aiometer import run_on_each

    async with by_hand(url) as identify:
        await run_on_each(identify, range(calls), max_per_second=LIMIT)


async def pyrate_limiter(url: str, calls: int) -> None:
    """Its default, a log of the last second, asked before each call."""
    from pyrate_limiter import Duration, Limiter, Rate

    limiter = Limiter(Rate(LIMIT, Duration.SECOND))
    async with by_hand(url) as identify:

        async def limited(number: int) -> None:
            await limiter.try_acquire_async("identify")
            await identify(number)

        await asyncio.gather(*(limited(number) for number in range(calls)))


async def throttled(url: str, calls: int) -> None:
    """Its cells (GCRA), the algorithm of its example for waiting, asked before each call with a time to wait."""
    from throttled.asyncio import RateLimiterType, Throttled, per_sec

    throttle = Throttled(key="identify", using=RateLimiterType.GCRA.value, quota=per_sec(LIMIT), timeout=PATIENCE)
    async with by_hand(url) as identify:

        async def limited(number: int) -> None:
            async with throttle:
                await identify(number)

        await asyncio.gather(*(limited(number) for number in range(calls)))


OURS = "teak_async, a bulk run"
CLIENTS = {
    OURS: Peer(ours),
    "teak_async, live calls": Peer(ours_live),
    "AsyncLimiter(200, 1)": Peer(aiolimiter_200),
    "AsyncLimiter(1, 1/200)": Peer(aiolimiter_1),
    "aiometer, max_per_second=200": Peer(aiometer, "aiometer"),
    "pyrate-limiter, Rate(200, SECOND)": Peer(pyrate_limiter, "pyrate_limiter"),
    "throttled-py, per_sec(200)": Peer(throttled, "throttled"),
}
"""By the names of the table."""
