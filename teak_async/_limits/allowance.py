"""What to take of a limit beside somebody else who spends it, too. No clock: times are given as seconds since the pause.

Theory of operation. A 429 while the client keeps to L means that somebody else spends from the same bucket. What passed in
the second before it is what the other one leaves, and so a level that is known to be good. The client pauses, keeps to that
level for a while, and then probes: one step a second, each four times as high as the one before, up to the whole limit.

- The hold is long, since a probe that finds no room costs a pause of a second. It doubles, once, after such a probe.
- The first step is small, since most probes find no room, and then few requests are rate-limited.
- The steps are steep, since an other one who has left has left altogether.
"""

from __future__ import annotations

from math import inf

SECOND = 1.0


class Allowance:
    """How many requests a second are known to pass.

    Attributes:
        level: of the last cut, from which the probes begin; `limit` when all is well.
    """

    HOLD = 11.0
    """Seconds from the pause to the first probe: with the pause and the steps, the limit is back after 15 s."""
    LONGER = 2
    """By how much the hold is longer after a probe that found no room."""
    STEPS = 3
    """Steps of a probe, a second each; then all of the limit is taken."""
    FIRST = 0.02
    STEEP = 4
    """The first step, as a share of the limit, and what each next one is to the one before: +2 %, +10 %, +42 %, all."""
    PROVEN = 2.5
    """Seconds at the whole limit after which nobody else is thought to be there."""
    CUT = 0.85
    """What a 429 in the hold leaves of the level at most: more than a fixed window allows may have passed in a second."""
    OVERSHOT = 0.9
    """What a 429 after a large step leaves of it at most."""
    ROOM = 0.05
    """Share of the limit by which a probe has to raise the level, or it found no room."""
    LARGE = 0.1
    """A step of more than this share of the limit is large: what passed then says more than the step before it."""
    LEAST = 0.25
    """What a cut leaves at least: a session that asked for little saw little pass, though more might have."""
    NOTICEABLE = 0.95
    """Share of the limit at which the level says that somebody else spends the rest. A route that gets faster may cost a 429,
    too, but then nearly all of the limit passed."""

    __slots__ = ("_held", "_hold", "_limit", "level")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._hold = self.HOLD
        self._held = 0
        self.level = limit

    @property
    def shared(self) -> bool:
        """Whether somebody else spends a part of the limit, as far as is known."""
        return self.level <= self._limit * self.NOTICEABLE

    def after(self, since: float) -> int:
        """How much may be taken so many seconds after the pause."""
        if self.level >= self._limit or since >= self._hold + self.STEPS:
            return self._limit
        if since < self._hold:
            return self.level
        step = int(since - self._hold) + 1
        return min(self._limit, self.level + int(self.FIRST * self._limit * (self.STEEP**step - 1) / (self.STEEP - 1)))

    def next_step(self, since: float) -> float:
        """Seconds after the pause at which `after` rises next; infinite when it does not."""
        if since < self._hold:
            return self._hold
        return self._hold + int(since - self._hold) + 1 if self.after(since) < self._limit else inf

    def is_proven(self, since: float) -> bool:
        """Whether the whole limit has passed for long enough; then it is forgotten that somebody else was there."""
        return since > self._hold + self.STEPS + self.PROVEN

    def restore(self) -> None:
        """Forget that somebody else was there."""
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
            # A level that was raised by the last probe may be too high, and then the one that held before is good.
            cut = int(self.CUT * old)
            self.level = max(1, min(good, max(cut, self._held) if self._held < old else cut))
        else:
            if taken - before > self.LARGE * self._limit:
                self.level = max(before, min(good, int(self.OVERSHOT * taken)))
            else:
                # After a small step the other one may have taken the loss: what passed before the step is good.
                self.level = min(before, good)
            self._held = old
            self._hold = self.HOLD * (1 if self.level - old > self.ROOM * self._limit else self.LONGER)
