"""One member's part of one bucket: what it may use, gives back, and sends to the ledger. Pure.

Theory of operation. A permit that is given back must be back for good: no request that used it may still count at the server.
The credit of a permit is earned on this member's way to the server, and says nothing about another member's. So `plan` first
lowers the limit, and the permits that this retires are given back when the credit has gone by, too.

- What a sync gives back is not used any more when the sync goes out, and a grant is used when its answer is there. So a lost
  sync or a lost answer never makes a permit.
- The floor is the lowest of all syncs since the last one that was answered: the ledger may know any of them.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from attrs import evolve, frozen

from teak_async._limits.permits import HOLD, LATE

from .ledger import Answer, Cut, Sync
from .policy import APART, LEASE_SECONDS, LOOK, LOOK_AHEAD, SPARE, Demand, Wish, cut, floor_of, kept, soon, until_next, wish

MARGIN = 0.003
"""Seconds for which permits are kept back longer than their credit."""
COOLING = HOLD + LATE + 0.001
"""Seconds after which all that was in use is back, whatever its credit, and also where no answer came."""
NEVER = float("-inf")


@frozen
class Evidence:
    """A request that was rate-limited: when it was sent, and how many of this member's passed in the last second."""

    sent_at: float
    passed: int


@frozen
class Parting:
    """Permits on their way out: from `at` on, all but `floor` may be given back."""

    at: float
    floor: int


class Share:
    """One member's part of one bucket. `now` is in seconds of the member's monotonic clock.

    Args:
        about: a sync with what stays the same: member, limit, late.

    Attributes:
        holding: permits that the member may use.
        limit: those that it does use; the others are about to be given back.
        answer: the ledger's last answer.
        answered_at: when that sync was sent.
        wanted: what the member wants.
    """

    def __init__(self, about: Sync) -> None:
        self.holding = 0
        self.limit = 0
        self.answer: Answer | None = None
        self.wanted = Wish(0)
        self._about = self._sync = about
        self._number = 0
        self._partings: deque[Parting] = deque()
        self._floor = 0
        self.answered_at = NEVER
        self._sent_at = NEVER
        self._needed_at = NEVER
        self._demand = Demand()
        self._hurried = False
        self._credit = 0.0
        self._evidence: Evidence | None = None
        self._pausing = False
        self._unmet = 0
        self._cut: Cut | None = None
        self._cut_at = NEVER

    @property
    def lease_ends(self) -> float:
        """When the member is reduced to its floor if no answer comes before."""
        return self.answered_at + LEASE_SECONDS

    @property
    def floor(self) -> int:
        """Permits that it has from then on."""
        return min(self._floor, self.limit)

    def plan(self, now: float, demand: Demand, credit: float, *, lost: bool = False) -> None:
        """Decide what to use, what to give back and what to ask for.

        Args:
            now: when.
            demand: what the member needs.
            credit: seconds by which permits come back early.
            lost: whether the ledger is lost. What is given back then is not granted again, however many calls come next.
        """
        if demand.bulk or demand.live or demand.in_use:
            self._needed_at = now
        self._demand = demand
        self._credit = credit
        self.wanted = wish(demand, self.holding, self.answer, credit)
        self.limit = self.holding if lost else min(self.holding, self.wanted.hold)
        if now >= self.lease_ends:
            self.limit = min(self.limit, self._floor)
            if now >= self.lease_ends + self._sync.late / 1000:
                # The ledger may have taken back by now what is above the floor, and nothing of that is out any more.
                self.holding = min(self.holding, max(self._floor, demand.in_use))
        self._part(now + credit + MARGIN, max(self.limit, demand.in_use))

    def _part(self, at: float, out: int) -> None:
        """Note that all permits but so many are back; those that were back before keep their time."""
        while self._partings and self._partings[-1].floor <= out:
            at = self._partings.pop().at
        if out < self.holding:
            self._partings.append(Parting(at, out))

    @property
    def bulk(self) -> bool:
        """Whether there was bulk work at the last plan."""
        return self._demand.bulk

    @property
    def apart(self) -> float:
        """How far apart its early permits come back, in parts of 1/L."""
        return APART if self.bulk else 1.0

    @property
    def told_limit(self) -> int:
        """Requests per second of all members together, by this session's `limits=`."""
        return self._sync.limit

    def record_rate_limit(self, sent_at: float, passed: int) -> None:
        """Record that a request was rate-limited; the next sync is due now, since the others have to pause, too.

        Args:
            sent_at: when it was sent. One sent before the last cut was known here says nothing about what that left.
            passed: requests of the last second that were not rate-limited here.
        """
        self._hurried = self._pausing = True
        if self._evidence is None and sent_at >= self._cut_at:
            self._evidence = Evidence(sent_at, passed)

    def due(self, now: float) -> float:
        """Return when the next sync is due, by the last plan."""
        if self._hurried or self._demand.bulk != self._sync.bulk or self.wanted.short > self._unmet:
            return now
        quiet = now - self._needed_at
        due = self._sent_at + until_next(self._demand, self.wanted, self.holding, self.answer, quiet, self._credit)
        if self._partings:
            due = min(due, max(self._partings[0].at, self._sent_at + (soon(self.answer) if self._demand.bulk else SPARE)))
        return due

    def next_look(self, now: float, next_back: float | None) -> float:
        """Return when to plan again at the latest.

        Args:
            now: when it is.
            next_back: when the next permit comes back; no event announces that.
        """
        answer = self.answer
        moving = answer is not None and (self.limit < self.holding or (not self._demand.bulk and self.holding > kept(answer)))
        if not moving or next_back is None:
            return self.due(now)
        return min(self.due(now), max(next_back, now + (LOOK_AHEAD if self.wanted.ahead else LOOK)))

    def sync(self, now: float, paused_until: float = NEVER, **more: Any) -> Sync:
        """Return the sync to send now; what it gives back may not be used any more.

        Args:
            now: when.
            paused_until: when this member may send again.
            more: other fields of the sync.
        """
        pause = max(round((paused_until - now) * 1000), 0) if self._pausing else 0
        while self._partings and now >= self._partings[0].at:
            self.holding = min(self.holding, max(self._partings.popleft().floor, self.limit))
        answer = self.answer
        floor = 1 if answer is None else floor_of(answer)
        self._floor = min(self._floor, floor) if self.answer is not None else floor
        self._number += 1
        self._sent_at = now
        self._hurried = False
        wanted = self.wanted
        self._sync = evolve(
            self._about,
            number=self._number,
            holding=self.holding,
            ask=wanted.ask,
            keep_free=wanted.keep_free,
            short=wanted.short,
            bulk=self._demand.bulk,
            floor=floor,
            known=0 if answer is None else answer.members,
            pause=pause,
            cut=self._cut,
            **more,
        )
        self._pausing, self._cut = False, None
        return self._sync

    def leave(self, now: float, all_back: float) -> Sync:
        """Return the last sync: all permits go to the pool, as soon as they are back here.

        Args:
            now: when.
            all_back: when the last permit is back that is in use.
        """
        self.limit = 0
        self._number += 1
        cooling = round((max(all_back - now, self._credit) + MARGIN) * 1000)
        return evolve(self._about, number=self._number, holding=self.holding, cooling=cooling)

    def take(self, now: float, answer: Answer) -> None:
        """Record the answer to the last sync."""
        if self.answer is None or answer.cuts != self.answer.cuts:
            self._cut_at, self._evidence = now, None
        elif self._evidence is not None and not self._pausing:
            # What the others did in the last second is known now.
            evidence, self._evidence = self._evidence, None
            since = answer.since / 1000 - (now - evidence.sent_at)
            self._cut = cut(answer, since, evidence.passed + answer.passed)
            self._hurried = True
        self.holding += answer.granted
        self._unmet = max(self._sync.short - answer.granted, 0)
        self.answer = answer
        self.answered_at = self._sent_at
        self._floor = self._sync.floor
