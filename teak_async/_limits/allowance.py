"""How much of a limit to take while another client spends a part of it. No clock: times are seconds since a pause ended.

Theory of operation. A 429 while this client keeps to L means that another client spends from the same bucket. As many requests
as passed in the second before it are known to pass. This client pauses, keeps to that level for a while, the hold, and then
probes: one step a second, each four times as high as the one before, up to the whole limit.

- The hold is long, since a probe that finds no room costs a pause of one second. It doubles, once, after such a probe.
- The first step is small, since most probes find no room, and then few requests are rate-limited.
- The steps are steep, since another client that stops leaves its whole part at once.
"""

from __future__ import annotations

from math import inf

SECOND = 1.0


class Allowance:
    """The requests per second that the client allows itself.

    Attributes:
        level: what the last cut left, from which the probes begin; the limit when no other client is known.
    """

    HOLD = 11.0
    """Seconds before the first probe. With the pause and the steps, the limit is back after 15 s."""
    LONGER = 2
    """Factor of the hold after a probe that found no room."""
    STEPS = 3
    """Steps of a probe, one second each; after them the whole limit is taken."""
    FIRST = 0.02
    STEEP = 4
    """The first step as a share of the limit, and the factor from each step to the next: in sum +2 %, +10 %, +42 %, all."""
    PROVEN = 2.5
    """Seconds at the whole limit after which the other client is forgotten."""
    CUT = 0.85
    """Share of the level that a 429 in the hold leaves at most: across two fixed windows, more than a limit may have passed."""
    OVERSHOT = 0.9
    """Share of the allowance that a 429 after a large step leaves at most."""
    ROOM = 0.05
    """Share of the limit by which a probe has to raise the level; with less it found no room."""
    LARGE = 0.1
    """Share of the limit above which a step is large: the requests that passed then say more than the step before it."""
    LEAST = 0.25
    """Share of the allowance that a cut leaves at least: a session that sent little saw little pass, though more might have."""
    NOTICEABLE = 0.95
    """Share of the limit up to which a level means that another client spends the rest. A route that gets faster may cause a
    429, too, but then nearly the whole limit passed."""

    __slots__ = ("_held", "_hold", "_limit", "level")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._hold = self.HOLD
        self._held = 0
        self.level = limit

    @property
    def memory(self) -> tuple[int, int, float]:
        """What another one of the same limit needs to go on from here; see `recall`."""
        return self.level, self._held, self._hold

    def recall(self, level: int, held: int, hold: float) -> None:
        """Go on where another one was."""
        self.level, self._held, self._hold = min(level, self._limit), held, hold

    @property
    def shared(self) -> bool:
        """Whether another client is known to spend a part of the limit."""
        return self.level <= self._limit * self.NOTICEABLE

    def after(self, since: float) -> int:
        """Return the allowance so many seconds after the pause."""
        if self.level >= self._limit or since >= self._hold + self.STEPS:
            return self._limit
        if since < self._hold:
            return self.level
        step = int(since - self._hold) + 1
        return min(self._limit, self.level + int(self.FIRST * self._limit * (self.STEEP**step - 1) / (self.STEEP - 1)))

    def next_step(self, since: float) -> float:
        """Return the seconds after the pause at which `after` rises next; infinite when it does not."""
        if since < self._hold:
            return self._hold
        return self._hold + int(since - self._hold) + 1 if self.after(since) < self._limit else inf

    def steps(self) -> list[tuple[float, int]]:
        """Seconds after the pause, and how much may be taken from each on; all of the limit from the last one on."""
        return [(at, self.after(at)) for at in (0.0, *(self._hold + step for step in range(self.STEPS + 1)))]

    def is_proven(self, since: float) -> bool:
        """Return whether the whole limit has passed for long enough to forget the other client."""
        return since > self._hold + self.STEPS + self.PROVEN

    def restore(self) -> None:
        """Forget the other client."""
        self.level, self._hold = self._limit, self.HOLD

    def cut(self, since: float, passed: int) -> None:
        """Lower the level after a 429.

        Args:
            since: seconds after the last pause at which the request was sent.
            passed: requests that passed in the last second.
        """
        taken, before, old = self.after(since), self.after(since - SECOND), self.level
        good = max(passed, int(self.LEAST * taken), 1)
        if old >= self._limit:
            self.level = max(1, min(good, self._limit - 1))
            self._held = 0
        elif since < self._hold:
            # The last probe may have raised the level too far, and the level before it is good.
            cut = int(self.CUT * old)
            self.level = max(1, min(good, max(cut, self._held) if self._held < old else cut))
        else:
            if taken - before > self.LARGE * self._limit:
                self.level = max(before, min(good, int(self.OVERSHOT * taken)))
            else:
                # After a small step the 429s may have hit the other client: only the level before the step is good.
                self.level = min(before, good)
            self._held = old
            self._hold = self.HOLD * (1 if self.level - old > self.ROOM * self._limit else self.LONGER)
