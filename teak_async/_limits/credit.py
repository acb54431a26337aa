"""How much earlier than one second after its response a permit may come back. No clock: `now` is always an argument.

When m is no more than the shortest time up plus the shortest time down, a permit may come back m earlier and the proof in
`permits.py` still holds. No client can know m for sure. `RttCredit` takes the shortest round trip it has seen, less a margin
for what it did not see.
"""

from __future__ import annotations

from math import inf


class RttCredit:
    """How many seconds earlier than one second after the response a permit may come back.

    Of a generation of samples only count, shortest and sum are kept, so a sample costs no memory.
    """

    GENERATION = 100
    """Samples of a generation, at least."""
    LASTS = 0.5
    """Seconds of a generation, at least: at a high limit a fast moment must not be taken for the network."""
    MOST = 0.5
    """Seconds of credit, at most. No route is longer; a longer round trip is a slow server's, which may get faster."""
    STALE = 10.0
    """Seconds without a sample after which all that was learnt is forgotten."""
    RISE = 0.0001
    """Seconds by which the floor rises per second. A route that flaps between 40 and 60 ms every half minute is taken for
    one of 40 to 46 ms, and the margin covers the difference."""
    SHARE = 0.95
    FIXED = 0.002
    """Share of the floor that is credited, and seconds that are not: found by trials."""
    SPREAD = 1 / 8
    """Share of (mean - shortest) that is not credited. The shortest of 100 sums of two random times lies above the sum of
    the two shortest: by an eighth of the spread, if the times are evenly spread."""

    __slots__ = ("_began", "_count", "_credit", "_earned", "_floor", "_last", "_margin", "_risen_at", "_shortest", "_sum")

    def __init__(self) -> None:
        self._floor = inf
        self._risen_at = 0.0
        self._last = -inf
        self.forget()

    def forget(self) -> None:
        """Drop the credit until it is earned again: the route may have changed. The floor stays, since a low one is safe."""
        self._count = 0
        self._sum = 0.0
        self._shortest = inf
        self._began = 0.0
        self._margin = 0.0
        self._earned = False
        self._credit = 0.0

    def learn(self, now: float, round_trip: float) -> None:
        """Take the round trip of one response on a warm connection."""
        if now - self._last > self.STALE:
            self.forget()
            self._floor = inf
        self._last = now
        if not self._count:
            self._began = now
        self._count += 1
        self._sum += round_trip
        if round_trip < self._shortest:
            self._shortest = round_trip
            if round_trip < self._floor:  # a faster route counts at once
                self._floor = round_trip
                self._update()
        if self._count >= self.GENERATION and now - self._began >= self.LASTS:
            # A slower route counts little by little: it may be fast again before the first fast response shows it.
            self._floor = min(self._shortest, self._floor + self.RISE * (now - self._risen_at))
            self._risen_at = now
            self._margin = self.FIXED + self.SPREAD * (self._sum / self._count - self._shortest)
            self._earned = True
            self._count, self._sum, self._shortest = 0, 0.0, inf
            self._update()

    def at(self, now: float) -> float:
        """Return the credit in seconds; 0 until a whole generation was seen."""
        return 0.0 if now - self._last > self.STALE else self._credit

    def _update(self) -> None:
        if self._earned:
            self._credit = min(max(self.SHARE * self._floor - self._margin, 0.0), self.MOST)
