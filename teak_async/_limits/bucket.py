"""One token bucket per limited path: who gets the next permit, and when.

Theory of operation. `PermitWindow` says how many permits there are; this module hands them out on the event loop. Calls wait in
two lanes. The live lane goes before the bulk lane, first come first served inside each. The bulk lane has a feeder, which
asks `aiolimiter` for a turn before each permit, at a little less than what the permits can sustain: bulk work becomes an
even stream that seldom takes the last permit, so a live call finds a permit free, or nearly. Live calls skip the pace and
may burst, since the permits keep the limit; the feeder skips as many turns as they took.

- A call that waits gets its permit from `_dispatch`. One that finds a permit and nobody before it does not wait; bulk needs a
  turn for that, too.
- A timer, and for bulk the feeder, run only while calls wait. A second timer runs while the allowance is lowered and
  somebody listens for its rise.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import Enum
from math import ceil, inf

from aiolimiter import AsyncLimiter
from attrs import frozen

from teak_async._notify import Notifier
from teak_async.errors import SessionClosed, TeakError
from teak_async.events import AllowanceChanged, BucketPaused

from .permits import HOLD, MIN_PAUSE, PermitWindow
from .queue import Holder, LaneQueue

PACE = 0.993
"""Bulk's share of the rate that the permits can sustain. The rest is why a live call during bulk finds a permit."""
EVEN_PACE = 1.25
"""The same where the limit is shared and no live call is made here. Those elsewhere find their permits in the pool, so bulk has
only to be even: while it makes no request for 100 ms, it has no permit to give back either. `PACE` cost 1 %."""
SETTLED = 3.0
"""Seconds after bulk work begins at which the faster pace is even enough. What is uneven before is so in each second after."""
PACE_BURST = 0.02
"""Seconds of pace that may be caught up after a timer woke late; event loops sleep in whole milliseconds."""
MIN_PACE = 1.0
"""Requests a second that the pace is made for at least, while a shared limit leaves no permit here."""
PACE_LEAP = 1.25
"""How much more permits have to sustain than the pace at which the feeder waits no longer for its next turn."""
PACE_SPAN = 2.0
"""How many times faster or slower than at first a pace may become before its limiter is made anew: a new one lets a burst pass,
and with one at each change the pace of few permits kept back nothing."""

GRANTS_A_TURN = 4
"""Bulk grants in one turn of the event loop at most. Without a bound, a very high limit made turns of 0.1 s. One turn in a
hundred takes a millisecond with four, 0.6 with two, and 2 with eight; two cost 8 % more processor time than four."""

ANNOUNCE_LATER = 0.005
"""Seconds after a step of the allowance at which it is announced: a timer may wake early, before the step."""


class Lane(Enum):
    """The two queues for permits."""

    LIVE = "live"
    BULK = "bulk"


@frozen
class Rate:
    """A bucket at one moment. The last four say what is known of the processes that share the limit, if any do.

    Attributes:
        limit: requests per second that the session may make, together with those that share the limit.
        allowance: requests per second that they make at most now: `limit`, or less after a 429.
        in_window: permits in use: of requests on the wire, and of those answered within about the last second.
        waiting_live: calls waiting for a permit.
        waiting_bulk: calls of bulk runs waiting for a permit.
        rate_limited: 429 responses since the session was opened.
        credit: seconds, from 0 to 0.5, by which permits come back earlier than one second after the response.
        paused: seconds until anything may be sent again; 0 when nothing is paused.
        shared_with_others: whether another client spends a part of the limit, to judge by a 429 within it.
        left: requests per second that the other client leaves, as far as is known; `limit` when there is none.
        held: permits that this session may use.
        free: permits in the pool, which any of the sessions may get.
        members: sessions that share the limit, including this one.
        reached: whether the ledger answered the last time.
    """

    limit: int
    allowance: int
    in_window: int
    waiting_live: int
    waiting_bulk: int
    rate_limited: int
    credit: float
    paused: float
    shared_with_others: bool
    left: int
    held: int
    free: int = 0
    members: int = 1
    reached: bool = True


class Bucket:
    """The permits of one path.

    Args:
        name: the path as the server's 429 names it.
        limit: requests per second.
        notifier: gets the events of its pauses and of its allowance.

    Attributes:
        loop: the loop on which it grants permits.
        on_wait: called when a call of a lane begins to wait for a permit; `None` where no other process has permits.
        on_rate_limit: called after each 429 with the time at which its request was sent. Returns whether the allowance is
            decided elsewhere. `None` where no other process has permits.
    """

    def __init__(self, name: str, limit: int, notifier: Notifier | None = None) -> None:
        self.name = name
        self.window = PermitWindow(limit)
        self._notifier = Notifier(None) if notifier is None else notifier
        self._announced = limit
        self._recovery: asyncio.TimerHandle | None = None
        self._queues = {lane: LaneQueue() for lane in Lane}
        self._live = self._queues[Lane.LIVE]
        self._bulk = self._queues[Lane.BULK]
        self.loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._timer_due = 0.0
        self._live_turns = 0
        self._turn_at = self._began_at = -inf
        self._make_pace(PACE * limit)
        self._feeder: asyncio.Task[None] | None = None
        self._turn: asyncio.Future[None] | None = None
        self._granted = 0
        self._closed = False
        self.on_wait: Callable[[Lane], None] | None = None
        self.on_rate_limit: Callable[[float], bool] | None = None

    def resize(self, limit: int, ends: float = float("inf"), later: int = 0, apart: float = 1.0) -> None:
        """Change how many permits there are; see `PermitWindow.resize`."""
        more = limit > self.window.limit
        self.window.resize(limit, ends, later, apart)
        self._announced = limit
        if not more:
            return
        # The pace has to follow at once: made for few permits, it may let the next turn wait for a second.
        rate = self._pace_now()
        if self._feeder is not None and self._turn is None and rate > PACE_LEAP * self._pace_rate:
            self._feeder.cancel()
            self._feeder = None
            self._feed()
        self._dispatch()

    def pause(self, seconds: float) -> None:
        """Send nothing for so long, since others who spend from the same limit were rate-limited."""
        self.window.paused_until = max(self.window.paused_until, self.loop.time() + seconds)

    def end_live(self, places: int, error: Callable[[], TeakError]) -> None:
        """End the live calls that wait behind the first places, each with an error of its own."""
        for future, _ in list(self._live.calls())[places:]:
            future.set_exception(error())

    def waiting(self, lane: Lane) -> int:
        """Return how many calls of a lane wait for a permit."""
        return self._queues[lane].waiting

    @property
    def bulk_at(self) -> float:
        """When a bulk call last waited for its permit, or had it at once; infinitely long ago before the first."""
        return self.loop.time() if self._bulk.waiting else self._turn_at

    def rate(self) -> Rate:
        """Return a snapshot for dashboards."""
        now = self.loop.time()
        window = self.window
        left = window.left(now)
        return Rate(
            limit=window.limit,
            allowance=window.allowance(now),
            in_window=window.in_use(now),
            waiting_live=self._live.waiting,
            waiting_bulk=self._bulk.waiting,
            rate_limited=window.rate_limited,
            credit=window.credit.at(now),
            paused=max(0.0, window.paused_until - now),
            shared_with_others=left is not None,
            left=window.limit if left is None else left,
            held=window.limit,
        )

    async def acquire(self, lane: Lane, ticket: int | None = None, holder: Holder | None = None) -> int:
        """Wait for a permit.

        Args:
            lane: where to wait.
            ticket: that of an earlier `acquire` for the same call, whose attempt was rate-limited: the call waits at the head
                of its lane.
            holder: whose call it is; `None` where nobody shares the bucket.

        Returns:
            The ticket of this grant. Exactly one of `release_unused`, `release_answered` and `release_lost` has to follow.

        Raises:
            SessionClosed: when the bucket is or gets closed, or its holder leaves.
        """
        if self._closed or (holder is not None and holder.closed):
            raise _closed_error(holder)
        now = self.loop.time()
        if lane is Lane.LIVE:
            self.window.expect_live(now)
            if not self._live.waiting and self.window.try_acquire(now):
                self._granted += 1
                self._count_live()
                return self._granted if ticket is None else ticket
        elif self._has_turn(now) and self.window.try_acquire_bulk(now):
            await self._pace.acquire(self._turn_size)  # there is room for it, so this does not wait
            self._granted += 1
            return self._granted if ticket is None else ticket
        queue = self._queues[lane]
        future = self.loop.create_future()
        alone = queue.add(future, ticket, holder)
        try:
            if lane is Lane.BULK:
                self._feed()
            if self.on_wait is not None:
                self.on_wait(lane)
            if alone:  # else it changes nothing: the call before it waits, and has set the timer
                self._dispatch()
            granted: int = await future
            if self._closed or (holder is not None and holder.closed):
                self.release_unused()  # closed between the grant and this line
                raise _closed_error(holder)
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.release_unused()  # granted in the instant of the cancellation
            raise
        finally:
            queue.remove(future, ticket)
            if self._feeder is not None and not self._bulk.waiting:
                self._feeder.cancel()
                self._feeder = self._turn = None
        return granted if ticket is None else ticket

    def release_unused(self) -> None:
        """Give back a permit whose request was never sent."""
        self.window.release_unused()
        self._dispatch()

    def release_answered(self, on_wire: float, round_trip: float = 0.0, *, warm: bool = False) -> None:
        """Give back the permit of a request that got its response; see `PermitWindow.release_answered`."""
        self.window.release_answered(self.loop.time(), on_wire, round_trip, warm=warm)
        if self._live.waiting or self._bulk.waiting:
            self._dispatch()

    def release_lost(self) -> None:
        """Give back the permit of a request that may have been sent and gets no response."""
        self.window.release_lost(self.loop.time())
        self._dispatch()

    def charge(self, count: int) -> None:
        """Count requests that a killed run may have made in its last moments."""
        self.window.charge([self.loop.time()] * count)

    def record_rate_limit(self, sent_at: float, wait: float | None) -> None:
        """Record, before `release_answered`, that the response is a 429, which asks for `wait` seconds."""
        now = self.loop.time()
        paused_until = self.window.paused_until
        self._announce_allowance()
        alone = self.on_rate_limit is None or not self.on_rate_limit(sent_at)
        self.window.record_rate_limit(now, sent_at, wait, alone=alone)
        longer = self.window.paused_until - max(paused_until, now)
        # All requests on the wire may come back rate-limited. Each moves the end of the pause a little, which is no news.
        if (paused_until <= now or longer >= MIN_PAUSE) and self._notifier.is_enabled(logging.WARNING):
            self._notifier.emit(BucketPaused(self.name, self.window.paused_until - now))
        self._announce_allowance()

    def _announce_allowance(self) -> None:
        """Emit a change of the allowance, now and at each step until it is the limit again."""
        now, window = self.loop.time(), self.window
        before, self._announced = self._announced, window.allowance(now)
        if self._announced != before and self._notifier.is_enabled(
            logging.WARNING if self._announced < before else logging.INFO
        ):
            self._notifier.emit(AllowanceChanged(self.name, window.limit, before, self._announced))
        if self._recovery is not None:
            self._recovery.cancel()
            self._recovery = None
        if self._announced < window.limit and not self._closed and self._notifier.is_enabled(logging.INFO):
            self._recovery = self.loop.call_at(window.next_step(now) + ANNOUNCE_LATER, self._announce_allowance)

    def close(self) -> None:
        """End every waiting call with `SessionClosed`."""
        self._closed = True
        for timer in (self._timer, self._recovery):
            if timer is not None:
                timer.cancel()
        self._timer = self._recovery = None
        for queue in self._queues.values():
            for future, holder in queue.calls():
                future.set_exception(_closed_error(holder))

    def end_calls_of(self, holder: Holder) -> None:
        """End the waiting calls of one holder with `SessionClosed`."""
        for queue in self._queues.values():
            for future, waiting in queue.calls():
                if waiting is holder:
                    future.set_exception(_closed_error(holder))

    def _dispatch(self) -> None:
        """Grant what can be granted now, and set the timer for the next chance."""
        while True:
            turn = self._turn
            if self._live.head() is not None:
                queue, now = self._live, self.loop.time()
                if not self.window.try_acquire(now):
                    self._wake_at(self.window.next_chance(now))
                    return
                self._count_live()
            elif turn is not None and self._bulk.head() is not None:
                queue, now = self._bulk, self.loop.time()
                if not self.window.try_acquire_bulk(now):
                    self._wake_at(self.window.next_bulk_chance(now))
                    return
                turn.set_result(None)
                self._turn = None
            else:
                return
            self._granted += 1
            queue.grant(self._granted)

    def _wake_at(self, when: float | None) -> None:
        if self._closed or when is None:
            return
        if self._timer is not None:
            # `_timer_due` is kept beside the handle, since uvloop's handle does not know when it is due.
            if self._timer_due <= when:
                return
            self._timer.cancel()
        self._timer, self._timer_due = self.loop.call_at(when, self._wake), when

    def _wake(self) -> None:
        self._timer = None
        self._dispatch()

    def _count_live(self) -> None:
        # At most a burst: a full live lane holds bulk back by itself, and bulk need not skip those turns again.
        self._live_turns = min(self._live_turns + 1, self._burst)

    def _feed(self) -> None:
        if self._feeder is None or self._feeder.done():
            self._feeder = self.loop.create_task(self._feed_bulk())

    def _pace_now(self) -> float:
        now = self.loop.time()
        even = self.on_wait is not None and now - self._began_at > SETTLED and not self.window.expects_live(now)
        return (EVEN_PACE if even else PACE) * self.window.rate(now)

    def _make_pace(self, rate: float) -> None:
        rate = max(rate, MIN_PACE)
        # A turn of the slowest pace must fit into the limiter, too.
        self._burst = max(ceil(PACE_SPAN), ceil(rate * PACE_BURST))
        self._pace = AsyncLimiter(self._burst, self._burst / rate)
        self._made_rate = self._pace_rate = rate
        self._turn_size = 1.0

    def _has_turn(self, now: float) -> bool:
        """Return whether a bulk call need not wait for the feeder: nobody is before it, and the pace has room for it."""
        if self._bulk.waiting or self._live.waiting or self._live_turns:
            return False
        self._keep_pace(now)
        return self._pace.has_capacity(self._turn_size)

    def _keep_pace(self, now: float) -> None:
        """Bring the pace up to date before a turn."""
        if now - self._turn_at > HOLD:
            self._began_at = now  # nearly all permits are free, and will come back as evenly as they are taken now
        self._turn_at = now
        rate = self._pace_rate = max(self._pace_now(), MIN_PACE)
        if not 1 / PACE_SPAN <= rate / self._made_rate <= PACE_SPAN:
            self._make_pace(rate)
        self._turn_size = min(self._made_rate / rate, PACE_SPAN)  # of a slower pace a turn takes more

    async def _feed_bulk(self) -> None:
        fed = 0
        while True:
            self._keep_pace(self.loop.time())
            await self._pace.acquire(self._turn_size)
            if self._live_turns:
                self._live_turns -= 1
                continue
            turn = self._turn = self.loop.create_future()
            self._dispatch()
            await turn
            fed += 1
            if fed % GRANTS_A_TURN == 0:
                await asyncio.sleep(0)


def _closed_error(holder: Holder | None) -> SessionClosed:
    return SessionClosed("the bucket was closed before this call was sent") if holder is None else holder.closed_error()
