"""The budgets of a session: buckets of its own, or those of another session that it shares.

Limits are per game, and buckets hold them for what goes through them. So two sessions for one game in one process either
share their buckets, or each has to be given its part of the limits. Two that do neither are warned about in the log.

Rules of this module:

- Buckets belong to the session that made them. A guest that closes ends its own calls only; when the owner closes, the
  guests can make no more calls.
- Buckets live on one event loop, and so do all who share them.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TypeAlias
from weakref import WeakSet

from attrs import field, frozen
from attrs.validators import ge, instance_of

from teak_async._api.endpoints import ENDPOINTS
from teak_async._notify import LOG, Notifier
from teak_async.errors import SessionClosed

from .bucket import Bucket, Lane


@frozen
class Limits:
    """Requests per second that the session may make.

    Attributes:
        identify: for `POST /v2/identify`; Teak documents 200.
        subscription: for reading and setting together, and again for all categories together; Teak documents 300 each.

    Lower figures take a share, where others spend from the same game's budget.
    """

    identify: int = field(default=200, validator=[instance_of(int), ge(1)])
    subscription: int = field(default=300, validator=[instance_of(int), ge(1)])


class BucketHandle:
    """A bucket of another session's: the same permits and the same lanes; closing it ends the guest's own calls only."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._waiting: set[asyncio.Future[int]] = set()
        self._closed = False
        self.window = bucket.window
        self.rate = bucket.rate
        self.release_unused = bucket.release_unused
        self.release_answered = bucket.release_answered
        self.release_lost = bucket.release_lost
        self.charge = bucket.charge
        self.record_rate_limit = bucket.record_rate_limit

    async def acquire(self, lane: Lane, ticket: int | None = None) -> int:
        """Wait for a permit; see `Bucket.acquire`.

        Raises:
            SessionClosed: when the guest is or gets closed, or the owner.
        """
        if self._closed:
            raise _closed()
        try:
            ticket = await self._bucket.acquire(lane, ticket, self._waiting)
        except SessionClosed:
            if self._closed:
                raise
            raise SessionClosed(
                "the session whose limits this one shares was closed before this call was sent; close it last"
            ) from None
        if self._closed:
            self.release_unused()
            raise _closed()
        return ticket

    def close(self) -> None:
        """End the guest's waiting calls with `SessionClosed`."""
        self._closed = True
        for future in [future for future in self._waiting if not future.done()]:
            future.set_exception(_closed())


Budget: TypeAlias = Bucket | BucketHandle


class SessionLimits:
    """What one session spends from.

    Args:
        game_id: whose limits they are.
        server: where they are counted.
        limits: requests per second; `None` for what Teak documents, or for what the host has.
        notifier: who hears of them, when they are of its own.
        host: whose buckets to use; `None` for buckets of its own.

    Attributes:
        buckets: by the path as the server's refusal names it; empty before it is opened.
        limits: requests per second.
        own: the buckets themselves, be they the host's.
        loop: where they live; `None` unless open.

    Raises:
        ValueError: when it cannot share with the host.
    """

    def __init__(
        self, game_id: str, server: str, limits: Limits | None, notifier: Notifier, host: SessionLimits | None
    ) -> None:
        if host is not None and limits is not None:
            raise ValueError("limits= and share= together: the limits of the shared session hold; leave limits= out")
        if host is not None and host.game_id != game_id:
            raise ValueError(
                f"share= is a session for game {host.game_id}, and this one is for game {game_id}: limits are per game, so"
                " leave share= out"
            )
        self.game_id: str = game_id
        self.server = server
        self.limits: Limits = host.limits if host is not None else limits or Limits()
        self.buckets: dict[str, Budget] = {}
        self._notifier = notifier
        self._host = host
        self.own: dict[str, Bucket] = {} if host is None else host.own
        self.loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Make the buckets, on the running loop.

        Raises:
            SessionClosed: when the host is not open.
            RuntimeError: when the host is on another loop.
        """
        loop = asyncio.get_running_loop()
        host = self._host
        if host is None:
            for endpoint in ENDPOINTS.values():
                if endpoint.bucket not in self.own:
                    limit: int = getattr(self.limits, endpoint.limit)
                    self.own[endpoint.bucket] = Bucket(endpoint.bucket, limit, self._notifier)
            self.buckets.update(self.own)
            _register(self)
        elif host.loop is None:
            raise SessionClosed("the session given as share= is not open: open it before this one, and close it after")
        elif host.loop is not loop:
            raise RuntimeError(
                "the session given as share= runs on another event loop: limits are shared within one loop; on several,"
                " give each session its part with limits=Limits(...)"
            )
        else:
            self.buckets.update((path, BucketHandle(bucket)) for path, bucket in self.own.items())
        self.loop = loop

    def close(self) -> None:
        """End the calls that wait for a permit."""
        self.loop = None
        for bucket in self.buckets.values():
            bucket.close()
        with _LOCK:
            _OPEN.discard(self)

    @property
    def alive(self) -> bool:
        """Whether it is open, and its loop may still run."""
        return self.loop is not None and not self.loop.is_closed()


_OPEN: WeakSet[SessionLimits] = WeakSet()
"""Those with buckets of their own, of the whole process."""
_LOCK = threading.Lock()
"""Sessions may be opened on loops of several threads."""


def _register(new: SessionLimits) -> None:
    """Note what was opened, and warn when it makes too much together with others."""
    with _LOCK:
        others = [old.limits for old in _OPEN if (old.game_id, old.server) == (new.game_id, new.server) and old.alive]
        _OPEN.add(new)
    if others:
        _warn(new, [*others, new.limits])


def _warn(new: SessionLimits, all_limits: list[Limits]) -> None:
    together = Limits(sum(limits.identify for limits in all_limits), sum(limits.subscription for limits in all_limits))
    most = [Limits(), *all_limits]  # who has split the limits has taken the remedy
    if together.identify <= max(limits.identify for limits in most) and together.subscription <= max(
        limits.subscription for limits in most
    ):
        return
    LOG.warning(
        "%d sessions for game %s at %s are open in this process, and each keeps the limits for itself: together they may make"
        " %d identifies and twice %d subscription calls a second; open the later ones with share=, or give each its part with"
        " limits=Limits(...)",
        len(all_limits),
        new.game_id,
        new.server,
        together.identify,
        together.subscription,
    )


def _closed() -> SessionClosed:
    return SessionClosed("the session was closed before this call was sent")
