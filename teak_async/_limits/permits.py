"""The permit arithmetic. No clock, no asyncio: `now` is always an argument, in seconds of one monotonic clock.

Theory of operation. The server stamps a request at some moment between its send and its response. A permit is taken before
the send and comes back one second after the response. With L permits, take any L+1 requests stamped within
one second: at the moment the last was stamped, all L+1 permits were out. There are only L. So no one-second window at the
server, fixed or sliding, ever holds more than L, whatever the network does.

The price is throughput: L / (1 s + round trip). The credit wins most of it back: see `credit.py`. A permit that comes back
later than it might never breaks the proof, so only the credit makes a return earlier.

- A permit's credit is at most its own round trip, and at most the credit at the moment of asking: a fast response gets no
  credit for slow ones after it, and when the credit shrinks, it shrinks for the permits that are still out.
- Permits that come back early do so evenly, at least 1/L apart, and no later than one second after the response.
- Bulk leaves the permits that live calls will need before others are back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import exp, inf, sqrt

from .allowance import SECOND, Allowance
from .credit import RttCredit

GUARD = 0.001
"""Seconds that a permit stays out longer: covers clocks whose rates differ by 0.1 %, and costs as much throughput."""
MIN_PAUSE = 0.1
"""Seconds. Even where a server asks for no wait, the rate-limited call has to be back at the head of its lane first."""
HOLD = SECOND + GUARD
"""Seconds from a response until its permit is back, less the credit."""
LATE = 0.5
"""Seconds after a failure in which the server may still stamp the request: a proxy or a busy server may hold it."""


class PermitWindow:
    """The permits of one bucket."""

    REMEMBERED = 100
    """Responses over which the mean time on the wire is taken."""
    SWEEP = 64
    """Responses after which permits that are back are swept out, even if enough are free without them: at a very high limit
    this bounds the memory, and costs less than a sweep for each permit."""
    SMOOTHING = 10.0
    """Seconds over which the rate of live calls is averaged."""
    DEVIATIONS = 2.0
    """Standard deviations by which live calls may exceed their mean. Three were measured and are no better."""
    MARGIN = 0.5
    """Share of what the mean leaves that is kept for such calls at most: at a low limit it is all that bulk can get."""
    ASK_AGAIN = 0.02
    """Seconds after which bulk asks again while permits are kept for live calls."""
    KEPT_FROM = 100
    """Allowance from which bulk leaves at least one permit: it costs bulk 1 % at most."""
    SELDOM = 0.001
    """Live calls per second below which bulk leaves none: a single call counts for 46 s."""

    __slots__ = (
        "_allowance",
        "_answered",
        "_answers",
        "_cut_at",
        "_gap",
        "_last_back",
        "_later_limit",
        "_limit_ends",
        "_live_at",
        "_live_rate",
        "_lost",
        "_on_wire",
        "_out",
        "_passed",
        "_rate_limited_at",
        "_unswept",
        "_whole",
        "credit",
        "limit",
        "paused_until",
        "rate_limited",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.credit = RttCredit()
        self.paused_until = -inf
        self.rate_limited = 0
        self._out = 0
        self._unswept = 0
        self._on_wire = 0.0
        self._answers = 0
        self._answered: deque[tuple[float, float]] = deque()
        self._last_back = -inf
        self._gap = SECOND / limit
        self._lost: deque[float] = deque()
        self._live_rate = 0.0
        self._live_at = 0.0
        self._allowance = Allowance(limit)
        self._whole = True
        self._cut_at = -inf
        self._passed: deque[float] = deque()
        self._rate_limited_at: deque[float] = deque()
        self._limit_ends = inf
        self._later_limit = limit

    def resize(self, limit: int, ends: float = inf, later: int = 0, apart: float = 1.0) -> None:
        """Change how many permits there are; those that are out and too many come back and are gone.

        Args:
            limit: permits from now on.
            ends: when there are fewer, if this is not called again before.
            later: permits from then on.
            apart: how far apart permits come back that come early, in parts of 1/L.
        """
        self.limit = limit
        self._gap = apart * SECOND / max(limit, 1)
        self._allowance = Allowance(limit)
        self._whole = True
        self._limit_ends, self._later_limit = ends, later

    def allowance(self, now: float) -> int:
        """Return how many permits there are: the limit, or less after a 429."""
        if self._whole:
            return self.limit
        since = now - self.paused_until
        if self._allowance.is_proven(since):
            self._allowance.restore()
            self._whole = True
        return self._allowance.after(since)

    def next_step(self, now: float) -> float:
        """Return when the allowance rises next; infinite when it does not."""
        return inf if self._whole else self.paused_until + self._allowance.next_step(now - self.paused_until)

    def left(self, now: float) -> int | None:
        """Return what another client leaves of the limit; `None` when no other client is known."""
        self.allowance(now)
        return self._allowance.level if self._allowance.shared else None

    def rate(self, now: float) -> float:
        """Return the requests per second that the permits can sustain, to judge by the recent time on the wire."""
        return self.allowance(now) / (HOLD + self._on_wire - self.credit.at(now))

    def in_use(self, now: float) -> int:
        """Return how many permits are out: on the wire, or not back yet."""
        self._unswept = 0
        answered, lost, passed = self._answered, self._lost, self._passed
        if answered:
            credit, gap, last = self.credit.at(now), self._gap, self._last_back
            while answered and (full := answered[0][0] + HOLD) - credit <= now:
                back = min(full, max(full - min(credit, answered[0][1]), last + gap))
                if back > now:
                    break
                answered.popleft()
                last = back  # not `now`: a late look must not delay the returns that follow
            self._last_back = last
        while lost and lost[0] + HOLD <= now:
            lost.popleft()
        while passed and passed[0] <= now - SECOND:
            passed.popleft()
        return self._out + len(answered) + len(lost)

    def all_back(self, now: float) -> float:
        """When all permits are back if nothing more is sent, whatever the credit."""
        answered = self._answered[-1][0] if self._answered else -inf
        lost = max(self._lost, default=-inf)
        return max(max(answered, lost, now + LATE if self._out else -inf) + HOLD, now)

    def _permits(self, now: float) -> int:
        if now >= self._limit_ends:
            # Here and not by a timer: a loop that was blocked for long sends before its timers have their turn.
            self.resize(min(self.limit, self._later_limit))
        return self.limit if self._whole else self.allowance(now)

    def try_acquire(self, now: float) -> bool:
        """Take one permit if there is one."""
        if now < self.paused_until:
            return False
        allowance = self._permits(now)
        at_most = self._out + len(self._answered) + len(self._lost)
        if (at_most >= allowance or self._unswept >= self.SWEEP) and self.in_use(now) >= allowance:
            return False
        self._out += 1
        return True

    def try_acquire_bulk(self, now: float) -> bool:
        """Take one permit if live calls leave it."""
        if now < self.paused_until:
            return False
        allowance = self._permits(now)
        at_most = self._out + len(self._answered) + len(self._lost)
        # No look is needed while more permits are free than live calls can need in a whole second.
        if allowance - at_most <= self._need(self._live_rate, HOLD) + 1 or self._unswept >= self.SWEEP:
            free = allowance - self.in_use(now)
            if free <= 0 or not self._is_spare(now, free, allowance):
                return False
        self._out += 1
        return True

    def expect_live(self, now: float) -> None:
        """Count a live call that asks for a permit: others may follow."""
        self._live_rate = self._live_rate_at(now) + 1 / self.SMOOTHING
        self._live_at = now

    def expects_live(self, now: float) -> bool:
        """Return whether live calls have been so frequent that bulk leaves permits for more of them."""
        return self._live_rate_at(now) >= self.SELDOM

    def _live_rate_at(self, now: float) -> float:
        return self._live_rate * exp((self._live_at - now) / self.SMOOTHING)

    def _need(self, rate: float, seconds: float, margin: float = inf) -> float:
        """Return how many live calls may come in a time, if they arrive at random and exceed their mean by a margin at most."""
        mean = rate * seconds
        return mean + min(self.DEVIATIONS * sqrt(mean), margin)

    def _is_spare(self, now: float, free: int, allowance: int) -> bool:
        """Return whether live calls can spare a free permit: at every moment more are free than they need by then.

        The moments are those after 0, 1, 3, 7, ... returns and after all of them: the need changes little in between.
        """
        rate = self._live_rate_at(now)
        if rate < self.SELDOM:
            return True
        if free <= (allowance >= self.KEPT_FROM):
            return False
        answered, credit, gap, last = self._answered, self.credit.at(now), self._gap, self._last_back
        count, index = len(answered), 0
        margin = self.MARGIN * max(allowance - rate * HOLD, 0.0)
        enough = self._need(rate, HOLD, margin) - free  # after so many returns every call that may come has a permit
        while index < count:
            if index > enough:
                return True
            at, round_trip = answered[index]
            back = min(at + HOLD, max(at + HOLD - min(credit, round_trip), last + gap * (index + 1), now))
            if self._need(rate, back - now, margin) - index >= free:
                return False
            index = 2 * index + 1
        return self._need(rate, HOLD - credit, margin) - count < free

    def next_chance(self, now: float) -> float | None:
        """Return when to ask again after `try_acquire` failed; `None` when only a response can free a permit."""
        if now < self.paused_until:
            return self.paused_until
        chance = self.next_step(now)
        if self._answered:
            at, round_trip = self._answered[0]
            full = at + HOLD
            even = self._last_back + self._gap
            chance = min(chance, full, max(full - min(self.credit.at(now), round_trip), even))
        if self._lost:
            chance = min(chance, self._lost[0] + HOLD)
        return None if chance == inf else chance

    def next_bulk_chance(self, now: float) -> float | None:
        """Return when to ask again after `try_acquire_bulk` failed."""
        chance = self.next_chance(now)
        if now >= self.paused_until and self._out + len(self._answered) + len(self._lost) < self.allowance(now):
            # The free permits are kept for live calls, whose need shrinks as the next return comes near and as they stay away.
            later = now + self.ASK_AGAIN
            return later if chance is None else min(chance, later)
        return chance

    def release_unused(self) -> None:
        """Give back a permit whose request was never sent."""
        self._out -= 1

    def release_answered(self, now: float, on_wire: float, round_trip: float = 0.0, *, warm: bool = False) -> None:
        """Give back the permit of a request that got its response.

        Args:
            now: when it came.
            on_wire: seconds since the permit was taken.
            round_trip: seconds since the send; 0 where that is not known.
            warm: whether the connection had been used before, so that the round trip says something about the network.
        """
        self._out -= 1
        if warm:
            self.credit.learn(now, round_trip)
        self._answered.append((now, round_trip))
        self._passed.append(now)
        self._unswept += 1
        self._answers = min(self._answers + 1, self.REMEMBERED)
        self._on_wire += (min(on_wire, SECOND) - self._on_wire) / self._answers

    def release_lost(self, now: float) -> None:
        """Give back, 1.5 s from now, the permit of a request that may have been sent and got no response."""
        self._out -= 1
        self._lost.append(now + LATE)
        self.credit.forget()

    def charge(self, instants: Iterable[float]) -> None:
        """Count requests of an earlier run or session that the server may have stamped as late as these instants."""
        self._lost.extend(sorted(instants))

    def latest_stamps(self, now: float) -> list[float]:
        """Return, for each permit that is out, until when the server may have stamped its request."""
        self.in_use(now)  # forgets what is back
        return [*(at for at, _ in self._answered), *self._lost, *[now + LATE] * self._out]

    def record_rate_limit(self, now: float, sent_at: float, wait: float | None, *, alone: bool = True) -> None:
        """Pause, and lower the allowance, after a 429. Its permit is released after this, as after any response.

        Args:
            now: when it came.
            sent_at: when its request was sent; one sent before the last cut says nothing about the present allowance.
            wait: seconds that the server asked for; one second where it did not say.
            alone: whether what is taken is decided here.
        """
        self.rate_limited += 1
        self.allowance(now)
        if alone and sent_at >= self._cut_at:
            self._allowance.cut(sent_at - self.paused_until, self.count_passed(now))
            self._whole = False
            self._cut_at = now
        self._rate_limited_at.append(now)
        self.paused_until = max(self.paused_until, now + (SECOND if wait is None else max(wait, MIN_PAUSE)))

    def count_passed(self, now: float) -> int:
        """Return how many of the last second's responses were no 429."""
        limited, passed = self._rate_limited_at, self._passed
        for instants in (limited, passed):
            while instants and instants[0] <= now - SECOND:
                instants.popleft()
        return len(passed) - len(limited)
