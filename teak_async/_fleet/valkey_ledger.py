"""The ledger in Valkey or Redis, for many hosts: one script a sync, which does what `ledger.apply` does.

Rules of this module:

- The only one that imports `redis`, and only when such a ledger is made.
- Time is the server's.
- The client sends a script once: a second one would be a sync that comes too late.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from attrs import asdict

from teak_async.errors import LedgerError

from .ledger import DEAD, FORGET, GAP, HEARD, LEASE, NEW, RECENT, Answer, LedgerDownError, State, Sync, at, show

if TYPE_CHECKING:
    from redis.asyncio import Redis

KEPT = 86_400_000
"""Milliseconds unused after which the server drops a bucket."""
TIMEOUT = 1.0
"""Seconds that the server may take for a response."""
_CONSTANTS = {
    "LEASE": LEASE,
    "FORGET": FORGET,
    "NEW": NEW,
    "HEARD": HEARD,
    "GAP": GAP,
    "DEAD": DEAD,
    "RECENT": RECENT,
}
SCRIPT = f"local {', '.join(_CONSTANTS)}, KEPT = {', '.join(map(str, _CONSTANTS.values()))}, {KEPT}\n" + (
    files("teak_async._fleet").joinpath("sync.lua").read_text(encoding="utf-8")
)
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
"""The server's name for the script."""


class ValkeyLedger:
    """A ledger at `redis://`, `rediss://` or `unix://`.

    Args:
        address: with user, password and database if needed.
    """

    one_host = False

    def __init__(self, address: str) -> None:
        try:
            from redis import asyncio as client  # noqa: PLC0415 - an extra
            from redis import exceptions  # noqa: PLC0415 - as above
            from redis.asyncio.retry import Retry  # noqa: PLC0415 - as above
            from redis.backoff import NoBackoff  # noqa: PLC0415 - as above
        except ModuleNotFoundError:
            raise LedgerError("share= with Valkey or Redis needs an extra: pip install 'teak_async[redis]'") from None
        self.name = show(address)
        self._errors = exceptions
        try:
            self._client: Redis = client.Redis.from_url(
                address,
                socket_timeout=TIMEOUT,
                socket_connect_timeout=TIMEOUT,
                retry=Retry(NoBackoff(), 0),
                max_connections=4,
                client_name="teak_async",
            )
        except ValueError as error:
            raise ValueError(f"share={self.name!r}: {error}") from None

    async def open(self) -> None:
        async with self._translate():
            try:
                await self._client.script_load(SCRIPT)
            except self._errors.AuthenticationError as error:
                raise LedgerError(f"share={self.name!r}: the password or the user is wrong: {error}") from None
            except self._errors.NoPermissionError as error:
                raise LedgerError(f"share={self.name!r}: the user may not do what is needed: {error}") from None
            except self._errors.InvalidResponse as error:
                raise LedgerError(f"share={self.name!r}: neither Valkey nor Redis: {error}") from None

    async def sync(self, syncs: dict[str, Sync], now: int | None = None) -> dict[str, Answer]:
        """Make a sync of some buckets; see `Ledger.sync`. `now` is for tests."""
        clock = [] if now is None else [now]
        async with self._translate():
            try:
                found = await self._evaluate(syncs, clock)
            except self._errors.NoScriptError:  # a server that was restarted; it has done nothing
                await self._client.script_load(SCRIPT)
                found = await self._evaluate(syncs, clock)
        return {key: Answer(*values) for key, values in zip(syncs, found, strict=True) if values}

    async def _evaluate(self, syncs: dict[str, Sync], clock: list[int]) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        for key, sync in syncs.items():
            pipe.evalsha(SHA, 1, key, json.dumps(asdict(sync)), *clock)
        return await pipe.execute()

    async def read(self) -> dict[str, State]:
        """Read all buckets as they are by now, by their keys."""
        states: dict[str, State] = {}
        async with self._translate():
            seconds, microseconds = await self._client.time()
            now = seconds * 1000 + microseconds // 1000
            async for key in self._client.scan_iter("teak:{*}:*"):
                value: Any = await self._client.get(key)
                if value:
                    states[key.decode()] = at(json.loads(value), now)
        return states

    async def close(self) -> None:
        """Close the connections."""
        with suppress(Exception):
            await self._client.aclose()

    def abandon(self) -> None:
        """Its connections end with it."""

    @asynccontextmanager
    async def _translate(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(TIMEOUT):
                yield
        except (self._errors.RedisError, OSError, TimeoutError) as error:
            what = str(error) or type(error).__name__
            raise LedgerDownError(f"{self.name} cannot be reached: {what}") from None
