"""The permit arithmetic. No clock, no asyncio: `now` is always an argument, in seconds of one monotonic clock.

Theory of operation. The server stamps a request at some moment between our sending it and our having its answer. A permit
is taken before the send and comes back one second after the answer. With L permits, take any L+1 requests stamped within
one second: at the moment the last was stamped, all L+1 permits were out. There are only L. So no one-second window at the
server, fixed or sliding, ever holds more than L, whatever the network does.

The price is throughput: L / (1 s + round trip). The credit wins most of it back: see `credit.py`. A permit that comes back
later than it might never breaks the proof, so all else that moves a return moves it to later.

Rules of this module:

- The credit of a permit is at most its own round trip, and at most what is known now: an answer that came fast gets no
  credit for slow ones after it, and a credit that shrinks shrinks for the permits that are still out.
- Permits that come back early do so evenly, never closer together than 1/L, and no later than a second after the answer.
- A request that got no answer gives its permit back a second and a half after the failure, without credit.
- A permit whose request was never sent comes back at once.
- Bulk leaves the permits that live calls will need before others are back.
- A 429 while the client keeps to L means that somebody else spends from the same bucket: see `allowance.py`.
"""

from __future__ import annotations

from collections import deque
from math import exp, inf, sqrt

from .allowance import SECOND, Allowance
from .credit import RttCredit

GUARD = 0.001
"""Seconds that a permit stays out longer: covers two clocks whose rates differ by a thousandth, at 0.1 % of throughput."""
MIN_PAUSE = 0.1
"""Seconds. Even where a server asks for no wait, the rate-limited call has to be back at the head of its lane first."""
HOLD = SECOND + GUARD
"""Seconds from an answer until the permit is back; less the credit."""
LATE = 0.5
"""Seconds after a failure in which the request may still be stamped: a proxy or a busy server may have it in hand."""


class PermitWindow:
    """The permits of one bucket."""

    REMEMBERED = 100
    """Answers over which the mean time on the wire is taken."""
    SWEEP = 64
    """Answers after which permits that are back are looked for, also while there are enough without them: at a very high
    limit this bounds what is kept, and is cheaper than to look every time."""
    SMOOTHING = 10.0
    """Seconds over which the rate of live calls is taken: many calls, and few minutes."""
    DEVIATIONS = 2.0
    """Standard deviations by which live calls may exceed their mean. Three are measured to be no better."""
    ASK_AGAIN = 0.02
    """Seconds after which bulk asks again while permits are kept for live calls."""
    KEPT_FROM = 100
    """Permits from which bulk leaves one at least: it costs bulk 1 % at most."""
    SELDOM = 0.001
    """Live calls a second below which bulk leaves none: the last one is three quarters of a minute ago."""

    __slots__ = (
        "_allowance",
        "_answered",
        "_answers",
        "_cut_at",
        "_gap",
        "_last_back",
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

    def allowance(self, now: float) -> int:
        """How many permits there are: the limit, or less after refusals."""
        if self._whole:
            return self.limit
        since = now - self.paused_until
        if self._allowance.is_proven(since):
            self._allowance.restore()
            self._whole = True
        return self._allowance.after(since)

    def next_step(self, now: float) -> float:
        """When the allowance rises next; infinite when it does not."""
        return inf if self._whole else self.paused_until + self._allowance.next_step(now - self.paused_until)

    def left(self, now: float) -> int | None:
        """What somebody else leaves of the limit; `None` when nobody else seems to spend it."""
        self.allowance(now)
        return self._allowance.level if self._allowance.shared else None

    def rate(self, now: float) -> float:
        """Requests per second that the permits can sustain, going by how long they were away lately."""
        return self.allowance(now) / (HOLD + self._on_wire - self.credit.at(now))

    def in_use(self, now: float) -> int:
        """How many permits are out: on the wire, or not back yet."""
        self._unswept = 0
        answered, lost, passed = self._answered, self._lost, self._passed
        if answered:
            credit, gap, last = self.credit.at(now), self._gap, self._last_back
            while answered and (full := answered[0][0] + HOLD) - credit <= now:
                back = min(full, max(full - min(credit, answered[0][1]), last + gap))
                if back > now:
                    break
                answered.popleft()
                last = back  # not `now`: who looks late must not move the returns that follow
            self._last_back = last
        while lost and lost[0] + HOLD <= now:
            lost.popleft()
        while passed and passed[0] <= now - SECOND:
            passed.popleft()
        return self._out + len(answered) + len(lost)

    def try_acquire(self, now: float) -> bool:
        """Take one permit if there is one."""
        if now < self.paused_until:
            return False
        allowance = self.limit if self._whole else self.allowance(now)
        at_most = self._out + len(self._answered) + len(self._lost)
        if (at_most >= allowance or self._unswept >= self.SWEEP) and self.in_use(now) >= allowance:
            return False
        self._out += 1
        return True

    def try_acquire_bulk(self, now: float) -> bool:
        """Take one permit if live calls leave it."""
        if now < self.paused_until:
            return False
        allowance = self.limit if self._whole else self.allowance(now)
        at_most = self._out + len(self._answered) + len(self._lost)
        # Nothing has to be looked through while there are more than live calls can need in a whole second.
        if allowance - at_most <= self._need(self._live_rate, HOLD) + 1 or self._unswept >= self.SWEEP:
            free = allowance - self.in_use(now)
            if free <= 0 or not self._is_spare(now, free, allowance):
                return False
        self._out += 1
        return True

    def expect_live(self, now: float) -> None:
        """A live call asks for a permit: others may follow."""
        self._live_rate = self._live_rate_at(now) + 1 / self.SMOOTHING
        self._live_at = now

    def _live_rate_at(self, now: float) -> float:
        return self._live_rate * exp((self._live_at - now) / self.SMOOTHING)

    def _need(self, rate: float, seconds: float) -> float:
        """Return how many live calls may come in a time, as arrivals at random scatter."""
        mean = rate * seconds
        return mean + self.DEVIATIONS * sqrt(mean)

    def _is_spare(self, now: float, free: int, allowance: int) -> bool:
        """Return whether live calls leave one of the free permits: at every moment more are free than are needed by then.

        The moments are those after 0, 1, 3, 7, ... returns and after all of them: the need changes little in between.
        """
        rate = self._live_rate_at(now)
        if rate < self.SELDOM:
            return True
        if free <= (allowance >= self.KEPT_FROM):
            return False
        answered, credit, gap, last = self._answered, self.credit.at(now), self._gap, self._last_back
        count, index = len(answered), 0
        enough = self._need(rate, HOLD) - free  # after so many returns there is one for every call that may come
        while index < count:
            if index > enough:
                return True
            at, round_trip = answered[index]
            back = min(at + HOLD, max(at + HOLD - min(credit, round_trip), last + gap * (index + 1), now))
            if self._need(rate, back - now) - index >= free:
                return False
            index = 2 * index + 1
        return self._need(rate, HOLD - credit) - count < free

    def next_chance(self, now: float) -> float | None:
        """When to ask again after `try_acquire` said no; `None` when only an answer can free a permit."""
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
        """When to ask again after `try_acquire_bulk` said no."""
        chance = self.next_chance(now)
        if now >= self.paused_until and self._out + len(self._answered) + len(self._lost) < self.allowance(now):
            # Live calls have the free ones kept. Their need shrinks as the next return comes nearer and as they stay away.
            later = now + self.ASK_AGAIN
            return later if chance is None else min(chance, later)
        return chance

    def release_unused(self) -> None:
        """Give back a permit whose request was never sent."""
        self._out -= 1

    def release_answered(self, now: float, on_wire: float, round_trip: float = 0.0, *, warm: bool = False) -> None:
        """An answer came.

        Args:
            now: when.
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
        """A request that may have been sent got no answer."""
        self._out -= 1
        self._lost.append(now + LATE)
        self.credit.forget()

    def charge(self, now: float, count: int) -> None:
        """An earlier run of the same program may have made so many requests up to now."""
        self._lost.extend([now] * count)

    def record_rate_limit(self, now: float, sent_at: float, wait: float | None) -> None:
        """The response was a 429: pause, and take less. Its permit is released after this, as after any response.

        Args:
            now: when it came.
            sent_at: when its request was sent; one sent before the last cut says nothing about the present allowance.
            wait: seconds that the server asked for; one second where it did not say.
        """
        self.rate_limited += 1
        self.allowance(now)
        if sent_at >= self._cut_at:
            self._allowance.cut(sent_at - self.paused_until, self._count_passed(now))
            self._whole = False
            self._cut_at = now
        self._rate_limited_at.append(now)
        self.paused_until = max(self.paused_until, now + (SECOND if wait is None else max(wait, MIN_PAUSE)))

    def _count_passed(self, now: float) -> int:
        """Return how many of the last second's answers were no 429."""
        limited = self._rate_limited_at
        while limited and limited[0] <= now - SECOND:
            limited.popleft()
        return sum(at > now - SECOND for at in self._passed) - len(limited)
