"""The permit arithmetic. No clock, no asyncio: `now` is always an argument, in seconds of one monotonic clock.

Theory of operation. The server stamps a request at some moment between our sending it and our having its answer. A permit
is taken before the send and comes back one second after the answer. With L permits, take any L+1 requests stamped within
one second: at the moment the last was stamped, all L+1 permits were out. There are only L. So no one-second window at the
server, fixed or sliding, ever holds more than L, whatever the network does.

The price is throughput: L / (1 s + round trip). The credit wins most of it back. When m is no more than the shortest
time up plus the shortest time down, the permit may come back m earlier and the argument still holds: shift the server's
clock by the shortest time up. No client can know m for sure; `RttCredit` takes the shortest round trip of the last one to two
hundred answers less a margin for what it did not see, and forgets it all when the route may have changed.

Rules of this module:

- The credit of a permit is at most its own round trip, and at most what is known now: an answer that came fast gets no
  credit for slow ones after it, and a credit that shrinks shrinks for the permits that are still out.
- A request that got no answer gives its permit back one second after the failure, without credit.
- A permit whose request was never sent comes back at once.
- A 429 while the client keeps to L means that somebody else spends from the same bucket: the allowance drops at once and is
  won back step by step.
"""

from __future__ import annotations

from collections import deque

SECOND = 1.0
GUARD = 0.001
"""Seconds that a permit stays out longer: covers two clocks whose rates differ by a thousandth, at 0.1 % of throughput."""
MIN_PAUSE = 0.1
"""Seconds. Even where a server asks for no wait, the rate-limited call has to be back at the head of its lane first."""
HOLD = SECOND + GUARD
"""Seconds from an answer, or from a failure, until the permit is back; less the credit."""


class RttCredit:
    """How many seconds earlier than one second after the answer a permit may come back.

    The samples are kept as two generations, each as its count, shortest and sum, so a sample costs no memory.
    """

    GENERATION = 100
    """Samples of a generation at least."""
    LASTS = 0.5
    """Seconds that a generation lasts at least, so that a moment's haste at a high limit is not taken for the network."""
    MOST = 0.5
    """Seconds. Nothing in this network is that far away; a longer round trip is a slow server, which may get faster."""
    STALE = 10.0
    """Seconds without a sample after which what was learnt is forgotten."""

    __slots__ = ("_began", "_count", "_earned", "_floor", "_last", "_mean", "_shortest", "_sum")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew: the route may have changed."""
        self._count = 0
        self._sum = 0.0
        self._shortest = self._floor = float("inf")
        self._mean = 0.0
        self._earned = False
        self._began = 0.0
        self._last = float("-inf")

    def learn(self, now: float, round_trip: float) -> None:
        """Take the round trip of one answer on a warm connection."""
        if now - self._last > self.STALE:
            self.forget()
        self._last = now
        if not self._count:
            self._began = now
        self._count += 1
        self._sum += round_trip
        self._shortest = min(self._shortest, round_trip)
        if self._count >= self.GENERATION and now - self._began >= self.LASTS:
            self._mean = self._sum / self._count
            self._floor = self._shortest
            self._earned = True
            self._count, self._sum, self._shortest = 0, 0.0, float("inf")

    def at(self, now: float) -> float:
        """The credit in seconds; 0 until a whole generation was seen."""
        if not self._earned or now - self._last > self.STALE:
            return 0.0
        shortest = min(self._floor, self._shortest)
        # The shortest of a hundred sums of two random times lies above the sum of the two shortest. With times spread
        # evenly it is an eighth of the spread too long; the eighth of (mean - shortest) and the fixed part cover that.
        margin = 0.05 * shortest + 0.002 + (self._mean - self._floor) / 8
        return min(max(shortest - margin, 0.0), self.MOST)


class PermitWindow:
    """The permits of one bucket."""

    CUT = 0.8
    """What a 429 leaves of the allowance."""
    STEPS = 20
    """Steps, one for each second after the pause, in which the whole limit would be won back."""

    REMEMBERED = 100
    """Answers over which the mean time on the wire is taken."""
    SWEEP = 64
    """Answers after which permits that are back are looked for, also while there are enough without them: at a very high
    limit this bounds what is kept, and is cheaper than to look every time."""

    __slots__ = (
        "_answered",
        "_answers",
        "_cut_at",
        "_cut_to",
        "_lost",
        "_on_wire",
        "_out",
        "_unswept",
        "credit",
        "limit",
        "paused_until",
        "rate_limited",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.credit = RttCredit()
        self.paused_until = float("-inf")
        self.rate_limited = 0
        self._out = 0
        self._unswept = 0
        self._on_wire = 0.0
        self._answers = 0
        self._answered: deque[tuple[float, float]] = deque()
        self._lost: deque[float] = deque()
        self._cut_to = limit
        self._cut_at = float("-inf")

    def allowance(self, now: float) -> int:
        """How many permits there are: the limit, or less after refusals."""
        if self._cut_to >= self.limit:
            return self.limit
        steps = max(0, int(now - self.paused_until))
        step = max(1, self.limit // self.STEPS)
        return min(self.limit, self._cut_to + steps * step)

    def rate(self, now: float) -> float:
        """Requests per second that the permits can sustain, going by how long they were away lately."""
        return self.allowance(now) / (HOLD + self._on_wire - self.credit.at(now))

    def in_use(self, now: float) -> int:
        """How many permits are out: on the wire, or not back yet."""
        self._unswept = 0
        answered, lost = self._answered, self._lost
        if answered:
            credit = self.credit.at(now)
            while answered and answered[0][0] + (HOLD - min(credit, answered[0][1])) <= now:
                answered.popleft()
        while lost and lost[0] + HOLD <= now:
            lost.popleft()
        return self._out + len(answered) + len(lost)

    def try_acquire(self, now: float) -> bool:
        """Take one permit if there is one."""
        if now < self.paused_until:
            return False
        allowance = self.limit if self._cut_to >= self.limit else self.allowance(now)
        at_most = self._out + len(self._answered) + len(self._lost)
        if (at_most >= allowance or self._unswept >= self.SWEEP) and self.in_use(now) >= allowance:
            return False
        self._out += 1
        return True

    def next_chance(self, now: float) -> float | None:
        """When to ask again after `try_acquire` said no; `None` when only an answer can free a permit."""
        if now < self.paused_until:
            return self.paused_until
        backs = []
        if self._answered:
            at, most = self._answered[0]
            backs.append(at + (HOLD - min(self.credit.at(now), most)))
        if self._lost:
            backs.append(self._lost[0] + HOLD)
        if self._cut_to < self.limit:
            backs.append(now + SECOND)
        return min(backs, default=None)

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
        self._unswept += 1
        self._answers = min(self._answers + 1, self.REMEMBERED)
        self._on_wire += (min(on_wire, SECOND) - self._on_wire) / self._answers

    def release_lost(self, now: float) -> None:
        """A request that may have been sent got no answer."""
        self._out -= 1
        self._lost.append(now)
        self.credit.forget()

    def charge(self, now: float, count: int) -> None:
        """An earlier run of the same program may have made so many requests up to now."""
        self._lost.extend([now] * count)

    def record_rate_limit(self, now: float, sent_at: float, wait: float | None) -> None:
        """The response was a 429: pause, and take less.

        Args:
            now: when it came.
            sent_at: when its request was sent; one sent before the last cut says nothing about the present allowance.
            wait: seconds that the server asked for; one second where it did not say.
        """
        self.rate_limited += 1
        self.paused_until = max(self.paused_until, now + (SECOND if wait is None else max(wait, MIN_PAUSE)))
        if sent_at >= self._cut_at:
            self._cut_to = max(1, int(self.allowance(now) * self.CUT))
            self._cut_at = now
