"""The buckets of a session: its own, or those of another session that it shares.

Limits are per game, and a bucket keeps a limit only for the calls that go through it. So two sessions for one game in one
process have to share their buckets, or to split the limits. The log warns of two that do neither.

- Buckets belong to the session that made them, the owner. A sharing session that closes ends its own calls only; when the
  owner closes, no session can make more calls with them.
- What a closed session has sent counts for the next one that this program opens, so that sessions in turn keep the limit, too.
- All sessions that share buckets run on one event loop.
- A `Membership`, which the owner has, says what other processes leave of the limits.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Coroutine, Mapping
from itertools import count
from typing import Any, Protocol
from weakref import WeakSet

from attrs import field, frozen

from teak_async._api.endpoints import ENDPOINTS
from teak_async._notify import Notifier, log
from teak_async._values import whole_from
from teak_async.errors import SessionClosed

from .bucket import Bucket, Lane, Rate
from .permits import HOLD


def _limit(documented: int) -> int:
    return field(default=documented, validator=whole_from(1))


@frozen
class Limits:
    """Requests per second that the session may make, from 1 on. Lower figures leave a part to other clients of the game.

    A figure that is left out is Teak's.

    Attributes:
        identify: for `POST /v2/identify`. Default: 200, as Teak documents.
        subscription: on each channel, for reads and sets, which share one bucket, and again for category sets, which have
            their own. Default: 300, as Teak documents.
        email: for the addresses of players, and again for clearing delivery faults. Default: 300, as Teak documents.
        unsubscriptions: for pages of recent email opt-outs. Default: 50, as Teak documents.
        exclusions: for listing, creating and ending them, and again for reading one. Default: 60, as Teak documents.
        removals: for removing players' data. Default: 60, as Teak documents.
        categories: for listing the opt-out categories. Default: 5, as Teak documents.
    """

    identify: int = _limit(200)
    subscription: int = _limit(300)
    email: int = _limit(300)
    unsubscriptions: int = _limit(50)
    exclusions: int = _limit(60)
    removals: int = _limit(60)
    categories: int = _limit(5)


class BucketHandle:
    """A session's handle on a bucket: closing it ends the session's waiting calls; closing the owner's closes the bucket."""

    __slots__ = ("_owns", "bucket", "closed")

    def __init__(self, bucket: Bucket, *, owns: bool) -> None:
        self.bucket = bucket
        self._owns = owns
        self.closed = False

    def acquire(self, lane: Lane, ticket: int | None = None) -> Coroutine[Any, Any, int]:
        """Wait for a permit; see `Bucket.acquire`. Many calls may wait, so there is no coroutine around that of the bucket."""
        return self.bucket.acquire(lane, ticket, self)

    def closed_error(self) -> SessionClosed:
        """Return the error of a call that was not sent, since this session or the bucket's owner was closed."""
        if self.closed:
            return SessionClosed("the session was closed before this call was sent")
        whose = "the session whose limits this one shares was closed before this call was sent"
        return SessionClosed(f"{whose}; close it last")

    def close(self) -> None:
        """End the session's waiting calls with `SessionClosed`."""
        self.closed = True
        if self._owns:
            self.bucket.close()
        else:
            self.bucket.end_calls_of(self)


class Membership(Protocol):
    """What makes the sessions of several processes keep one limit.

    Attributes:
        name: of this member, which no other has.
    """

    name: str

    async def open(self, buckets: Mapping[str, Bucket]) -> None:
        """Become a member, with what the buckets hold from now on."""
        ...

    async def close(self) -> None:
        """Leave, and give back what is held."""
        ...

    def abandon(self) -> None:
        """Stop, for a session that nobody closed."""
        ...

    def take_over(self, killed: str) -> None:
        """Take over the permits of the member whose bulk run was killed."""
        ...

    def rate(self, path: str, rate: Rate) -> Rate:
        """Add what is known of all members to a bucket's snapshot."""
        ...


class SessionLimits:
    """The buckets that one session uses.

    Args:
        game_id: whose limits they are.
        server: where they are counted.
        limits: requests per second; `None` for those that Teak documents, or for the owner's.
        notifier: gets the events of the session's own buckets.
        owner: whose buckets to share; `None` for buckets of its own.
        member: of the processes that share the limits; `None` for an owner's, or where this session keeps them for itself.

    Attributes:
        buckets: path, as the server's 429 names it → handle; empty until opened.
        limits: requests per second.
        loop: where the buckets run; `None` unless open.
        member: the membership in the limits of several processes, this session's or the owner's.

    Raises:
        ValueError: when the session cannot share with the owner.
    """

    def __init__(
        self,
        game_id: str,
        server: str,
        limits: Limits | None,
        notifier: Notifier,
        owner: SessionLimits | None,
        member: Membership | None = None,
    ) -> None:
        if owner is not None and limits is not None:
            raise ValueError("limits= and share= together: the limits of the shared session hold; leave limits= out")
        if owner is not None and owner.game_id != game_id:
            raise ValueError(
                f"share= is a session for game {owner.game_id}, and this one is for game {game_id}: limits are per game, so"
                " leave share= out"
            )
        self.game_id: str = game_id
        self.server = server
        self.limits: Limits = owner.limits if owner is not None else limits or Limits()
        self.buckets: dict[str, BucketHandle] = {}
        self._notifier = notifier
        self._owner = owner
        self.member: Membership | None = member if owner is None else owner.member
        self.loop: asyncio.AbstractEventLoop | None = None
        self._number = next(_NUMBERS)

    def open(self) -> None:
        """Make the buckets, or share the owner's, on the running loop.

        Raises:
            SessionClosed: when the owner is not open.
            RuntimeError: when the owner is on another loop.
        """
        loop = asyncio.get_running_loop()
        owner = self._owner
        if owner is None:
            for endpoint in ENDPOINTS.values():
                if endpoint.bucket not in self.buckets:
                    bucket = Bucket(endpoint.bucket, getattr(self.limits, endpoint.limit), self._notifier)
                    self.buckets[endpoint.bucket] = BucketHandle(bucket, owns=True)
            if self.member is None:
                _register(self)
                self._take_up()
        elif owner.loop is None:
            raise SessionClosed("the session given as share= is not open: open it before this one, and close it after")
        elif owner.loop is not loop:
            raise RuntimeError(
                "the session given as share= runs on another event loop: limits are shared within one loop; on several,"
                " give each session its part with limits=Limits(...)"
            )
        else:
            self.buckets.update((path, BucketHandle(handle.bucket, owns=False)) for path, handle in owner.buckets.items())
        self.loop = loop

    async def join(self) -> None:
        """Hold from now on only what the ledger grants, if other processes share the limits; see `Membership.open`."""
        if self.member is not None and self._owner is None:
            await self.member.open({path: handle.bucket for path, handle in self.buckets.items()})

    async def leave(self) -> None:
        """Give back what is held, when no request is on the wire any more."""
        if self._owner is not None:
            return
        if self.member is not None:
            await self.member.close()
        else:
            self._leave_behind(asyncio.get_running_loop())

    def abandon(self) -> None:
        """Stop what runs for a session that nobody closed."""
        if self.member is not None and self._owner is None:
            self.member.abandon()

    def rates(self) -> dict[str, Rate]:
        """A snapshot of each bucket."""
        rates = {path: handle.bucket.rate() for path, handle in self.buckets.items()}
        return {path: self.member.rate(path, rate) for path, rate in rates.items()} if self.member else rates

    def close(self) -> None:
        """End the calls that wait for a permit."""
        if self.loop is not None and self.member is None and self._owner is None:
            self._leave_behind(self.loop)  # again when all is over: until then, requests may be on the wire
        self.loop = None
        for handle in self.buckets.values():
            handle.close()
        with _LOCK:
            _OPEN.discard(self)

    def _leave_behind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Keep what the server may still count, for the sessions that this program opens next."""
        now, system = loop.time(), time.monotonic()
        with _LOCK:
            for key in [key for key, left in _LEFT.items() if left.expires < system]:
                del _LEFT[key]
            for path, handle in self.buckets.items():
                window = handle.bucket.window
                stamps, paused_until = window.latest_stamps(now), window.paused_until
                expires = system + max(paused_until, max(stamps, default=now) + HOLD) - now
                what = self.game_id, self.server, path
                _LEFT[self._number, path] = _Left(what, now - system, expires, stamps, paused_until)

    def _take_up(self) -> None:
        """Count what sessions that were closed, or are being closed, have left at the server."""
        clock = asyncio.get_running_loop().time() - time.monotonic()
        with _LOCK:
            for left in _LEFT.values():
                game_id, server, path = left.what
                if (game_id, server) == (self.game_id, self.server) and abs(left.clock - clock) < SAME_CLOCK:
                    window = self.buckets[path].bucket.window
                    window.charge(left.stamps)
                    window.paused_until = max(window.paused_until, left.paused_until)

    @property
    def alive(self) -> bool:
        """Whether it is open, and its loop may still run."""
        return self.loop is not None and not self.loop.is_closed()


@frozen
class _Left:
    """What a closed session left of a bucket. Instants are of its loop's clock.

    Attributes:
        what: the game, the server and the path.
        clock: that clock less the system's. Most loops have the system's, and keep the time of the step that they are in.
        expires: by the system's clock, when nothing of it counts any more.
        stamps: until when the server may have stamped each request that it still counts.
        paused_until: when the pause ends.
    """

    what: tuple[str, str, str]
    clock: float
    expires: float
    stamps: list[float]
    paused_until: float


SAME_CLOCK = 0.1
"""Seconds by which two loops with one clock may differ."""
_NUMBERS = count()
_LEFT: dict[tuple[int, str], _Left] = {}
"""A session's number, and path → what it left of it."""
_OPEN: WeakSet[SessionLimits] = WeakSet()
"""Those of the process that have buckets of their own."""
_LOCK = threading.Lock()
"""Held around these: sessions may be opened on loops of several threads."""


def _register(new: SessionLimits) -> None:
    """Add an opened session, and warn when the limits of all for its game are together too high."""
    with _LOCK:
        others = [old.limits for old in _OPEN if (old.game_id, old.server) == (new.game_id, new.server) and old.alive]
        _OPEN.add(new)
    if others:
        _warn(new, [*others, new.limits])


def _warn(new: SessionLimits, all_limits: list[Limits]) -> None:
    # Sessions that split these two need no warning: the other figures are for calls that few make.
    identifies, subscriptions = ([getattr(limits, name) for limits in all_limits] for name in ("identify", "subscription"))
    documented = Limits()
    if sum(identifies) <= max(documented.identify, *identifies) and sum(subscriptions) <= max(
        documented.subscription, *subscriptions
    ):
        return
    log(
        logging.WARNING,
        "%d sessions for game %s at %s are open in this process, and each keeps the limits for itself: together they may make"
        " %d identifies and twice %d subscription calls a second; open the later ones with share=, or give each its part with"
        " limits=Limits(...)",
        len(all_limits),
        new.game_id,
        new.server,
        sum(identifies),
        sum(subscriptions),
    )
