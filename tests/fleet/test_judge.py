"""The policy and the ledger's arithmetic, against a counter that shares no code with them."""

from __future__ import annotations

import copy
import random
from typing import Any

from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support import MANY

from teak_async._fleet.ledger import Answer, State, Sync, apply
from teak_async._fleet.policy import Demand
from teak_async._fleet.share import Share

RESPONSE = 3.0
"""Seconds that a request takes at most; the ledger is told one more."""
HOLD = 1.001
CREDIT = 0.04
ALONE = 55.0
"""Seconds that a member that goes on is cut off from a ledger that others reach; the promise holds for a minute."""
BREAK = 1.5
"""Seconds without a sync that pass for a break, in which nobody could reach the ledger."""
BEHIND = 0.9
"""Seconds after a break by which a member that holds permits is back at the ledger later than the others at most: five, less
those in which the requests of one that is killed then may arrive."""
RETRY = 0.3
"""Seconds after a sync that failed until the next one."""


@define
class Permits:
    """A counter of permits, one by one.

    Attributes:
        wire: when each was taken that is on the wire.
        back: when each that was answered is back for good; the member may use it again `CREDIT` earlier.
        free: when each that the member may use is back for good.
    """

    wire: list[float] = field(factory=list)
    back: list[float] = field(factory=list)
    free: list[float] = field(factory=list)

    def in_use(self, now: float) -> int:
        self.end(now)
        return len(self.wire) + len(self.back)

    def end(self, now: float, *, all_of_them: bool = False) -> None:
        """Have the answers of the requests that are due, or of all."""
        for began in list(self.wire):
            if all_of_them or now - began >= RESPONSE:
                self.wire.remove(began)
                self.back.append(min(now, began + RESPONSE) + HOLD)
        self.free += [at for at in self.back if at - CREDIT <= now]
        self.back = [at for at in self.back if at - CREDIT > now]

    def take(self, now: float) -> None:
        """Use the permit that came back last."""
        self.free.sort()
        self.free.pop()
        self.wire.append(now)

    def hold(self, now: float, holding: int) -> None:
        """Have so many from now on: what goes must be back for good, and nobody may still count it."""
        there = len(self.wire) + len(self.back) + len(self.free)
        self.free += [now] * (holding - there)
        for _ in range(there - holding):
            self.free.sort()
            assert self.free
            assert self.free.pop(0) <= now


@define
class Actor:
    """A member, with its own clock and its own requests."""

    share: Share
    permits: Permits
    offset: float
    bulk: bool = False
    waiting: int = 0
    bulk_waiting: int = 0
    alive: bool = True
    left: bool = False
    stalled: bool = False
    cut_off_at: float | None = None
    pending: Sync | None = None
    reached_at: float = 0.0
    heard_at: float = 0.0
    failed_at: float | None = None


class Fleet(RuleBasedStateMachine):
    """Members that come, work, stall, are cut off, killed and restarted, and a ledger that fails in every way."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.actors: list[Actor] = []
        self.state: State | None = None
        self.down = False
        self.late: list[tuple[Actor, Sync]] = []
        self.delivered_at = self.back_at = self.now
        self.heard = 0.0

    @initialize(limit=st.integers(1, 40), boot=st.integers(0, 10**9))
    def begin(self, limit: int, boot: int) -> None:
        self.limit = limit
        self.boot = boot

    @rule(bulk=st.booleans(), offset=st.floats(-1e6, 1e6))
    @precondition(lambda self: sum(actor.alive for actor in self.actors) < 8)
    def join(self, bulk: bool, offset: float) -> None:
        about = Sync(f"h:{len(self.actors)}:x", 0, self.limit, late=round((RESPONSE + HOLD) * 1000) + 1)
        self.actors.append(Actor(Share(about), Permits(), offset, bulk, reached_at=self.now, heard_at=self.heard))

    def some(self, number: int, *, alive: bool = True) -> Actor | None:
        fit = [actor for actor in self.actors if actor.alive and not actor.left] if alive else self.actors
        return fit[number % len(fit)] if fit else None

    def plan(self, actor: Actor) -> None:
        actor.permits.end(self.now)
        local = self.now + actor.offset
        demand = Demand(actor.permits.in_use(self.now), actor.waiting, actor.bulk)
        actor.share.plan(local, demand, CREDIT)

    def send(self, actor: Actor) -> None:
        """Send all that waits and may go, by the limit and the lease, as the window does."""
        share = actor.share
        local = self.now + actor.offset
        limit = share.limit if local < share.lease_ends else min(share.limit, share.floor)
        actor.permits.end(self.now)
        while (actor.waiting or actor.bulk) and actor.permits.in_use(self.now) < limit:
            actor.waiting = max(actor.waiting - 1, 0)
            actor.permits.take(self.now)

    def deliver(self, sync: Sync) -> Answer | None:
        gap = self.now - self.delivered_at
        self.delivered_at, self.heard = self.now, self.heard + min(gap, BREAK)
        if gap > BREAK:
            self.back_at = self.now
        self.state, answer = apply(copy.deepcopy(self.state), sync, self.boot + int(self.now * 1000))
        return answer

    @rule(number=st.integers(0, 7), fate=st.sampled_from(["well", "well", "well", "well", "answer lost", "late", "lost"]))
    def sync(self, number: int, fate: str) -> None:
        actor = self.some(number)
        if actor is None:
            return
        self.plan(actor)
        sync = self.say(actor)
        if self.down or actor.cut_off_at is not None or fate == "lost":
            actor.failed_at = self.now
            return
        if fate == "late":
            self.late.append((actor, sync))
            actor.failed_at = self.now
            return
        answer = self.reach(actor, sync)
        if fate == "answer lost":
            actor.failed_at = self.now
        elif answer is not None:
            self.take(actor, answer)
            self.plan(actor)
            self.send(actor)

    def reach(self, actor: Actor, sync: Sync) -> Answer | None:
        answer = self.deliver(sync)
        actor.reached_at, actor.heard_at, actor.failed_at = self.now, self.heard, None
        return answer

    def say(self, actor: Actor) -> Sync:
        sync = actor.share.sync(self.now + actor.offset)
        actor.permits.hold(self.now, sync.holding)
        return sync

    def take(self, actor: Actor, answer: Answer) -> None:
        actor.share.take(self.now + actor.offset, answer)
        actor.permits.hold(self.now, actor.share.holding)

    @rule(step=st.sampled_from([0.05, 0.3]), seconds=st.sampled_from([0.3, 1.2, 6.0, 12.0]))
    def all_go_on(self, step: float, seconds: float) -> None:
        """Let time go by in which everybody does what it should."""
        for _ in range(round(seconds / step)):
            self.now += step
            for number in range(len(self.actors)):
                actor = self.actors[number]
                if actor.alive and not actor.left and not actor.stalled:
                    actor.permits.end(self.now, all_of_them=actor.cut_off_at is None)
                    self.plan(actor)
                    due = actor.share.due(self.now + actor.offset) - actor.offset
                    if (due if actor.failed_at is None else actor.failed_at + RETRY) <= self.now:
                        sync = self.say(actor)
                        if self.down or actor.cut_off_at is not None:
                            actor.failed_at = self.now
                        elif (answer := self.reach(actor, sync)) is not None:
                            self.take(actor, answer)
                    self.plan(actor)
                    self.send(actor)
                    self.never_too_many()
                    self.keep_promise_of_a_minute()

    @rule(number=st.integers(0, 7), calls=st.integers(1, 5))
    def want(self, number: int, calls: int) -> None:
        if (actor := self.some(number)) is not None:
            actor.waiting += calls
            self.plan(actor)
            self.send(actor)

    @rule(number=st.integers(0, 7))
    def turn(self, number: int) -> None:
        """Begin or end bulk work."""
        if (actor := self.some(number)) is not None:
            actor.bulk = not actor.bulk
            actor.waiting = 0

    @rule(number=st.integers(0, 7))
    def work(self, number: int) -> None:
        """Wake up, perhaps after a stall, and send before anything else."""
        if (actor := self.some(number)) is not None:
            self.send(actor)

    @rule(number=st.integers(0, 7))
    def answers_come(self, number: int) -> None:
        if (actor := self.some(number)) is not None:
            actor.permits.end(self.now, all_of_them=True)

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.5, 1.0, 3.0, 6.0, 11.0, 20.0]))
    def time_goes_by(self, seconds: float) -> None:
        """Everybody stalls."""
        self.now += seconds
        self.keep_promise_of_a_minute()

    @rule(seconds=st.sampled_from([20.0, 70.0, 300.0]), first=st.integers(0, 7), calls=st.sampled_from([0, 40]))
    def ledger_is_away_for_long(self, seconds: float, first: int, calls: int) -> None:
        """Everybody goes on, and comes back to it; the first one wants more than its part."""
        self.down = True
        self.all_go_on(1.0, seconds)
        self.down = False
        if (actor := self.some(first)) is not None and actor.cut_off_at is None:
            actor.waiting += calls
            self.plan(actor)
            if (answer := self.reach(actor, self.say(actor))) is not None:
                self.take(actor, answer)
            self.plan(actor)
            self.send(actor)
            self.never_too_many()
        self.all_go_on(0.05, 3.0)

    def keep_promise_of_a_minute(self) -> None:
        """A member that would have been cut off for over a minute, and for longer than others, is killed.

        What it does then is not promised. To be heard it has either a minute without breaks, or the first moments after one.
        """
        for actor in self.actors:
            if actor.alive and not actor.left and self.now - actor.reached_at > ALONE:
                behind = self.delivered_at - max(self.back_at, actor.reached_at)
                if behind > BEHIND or self.heard - actor.heard_at > ALONE:
                    self.end(actor)

    @rule(number=st.integers(0, 7))
    def cut_off(self, number: int) -> None:
        if (actor := self.some(number)) is not None:
            actor.cut_off_at = None if actor.cut_off_at is not None else self.now

    @rule(number=st.integers(0, 7))
    def stall(self, number: int) -> None:
        """Stop a process as a whole, while the others go on, or let it go on and send before anything else."""
        if (actor := self.some(number)) is not None:
            actor.stalled = not actor.stalled
            if not actor.stalled:
                self.send(actor)

    def end(self, actor: Actor) -> None:
        """A killed process sends no more; what it sent may arrive yet."""
        actor.alive = False
        actor.waiting = 0

    @rule(number=st.integers(0, 7))
    def kill(self, number: int) -> None:
        if (actor := self.some(number)) is not None:
            self.end(actor)

    @rule(number=st.integers(0, 7), reached=st.booleans())
    def leave(self, number: int, reached: bool) -> None:
        if (actor := self.some(number)) is not None:
            actor.permits.end(self.now, all_of_them=True)
            self.plan(actor)
            back = max(actor.permits.back, default=self.now)
            sync = actor.share.leave(self.now + actor.offset, back + actor.offset)
            actor.left = True
            if reached and not self.down and actor.cut_off_at is None:
                self.deliver(sync)

    @rule(down=st.booleans())
    def outage(self, down: bool) -> None:
        self.down = down

    @rule()
    @precondition(lambda self: self.late)
    def late_sync_arrives(self) -> None:
        _, sync = self.late.pop(random.Random(len(self.late)).randrange(len(self.late)))
        if not self.down:
            self.deliver(sync)

    @rule()
    def ledger_is_emptied(self) -> None:
        """All who use their permits are heard within a second; the test lets the idle ones be, too."""
        self.state = None
        self.late.clear()
        self.down = False
        for actor in self.actors:
            actor.cut_off_at, actor.stalled = None, False
            if not actor.alive or actor.left:
                actor.permits = Permits()  # the ledger knew of these; the new one cannot
        for actor in self.actors:
            if actor.alive and not actor.left:
                self.plan(actor)
                if (answer := self.reach(actor, self.say(actor))) is not None:
                    self.take(actor, answer)

    @invariant()
    def never_too_many(self) -> None:
        """No more permits are out than there are."""
        assert sum(actor.permits.in_use(self.now) for actor in self.actors) <= self.limit

    @invariant()
    def nobody_may_use_too_many(self) -> None:
        """What all may send now, together, is no more than there is."""
        could = 0
        for actor in self.actors:
            use = actor.permits.in_use(self.now)
            if actor.alive and not actor.left:
                share = actor.share
                ended = self.now + actor.offset >= share.lease_ends
                could += max(min(share.holding, share.floor) if ended else share.holding, use)
            else:
                could += use
        assert could <= self.limit


TestFleet: Any = Fleet.TestCase
TestFleet.settings = settings(max_examples=300 if MANY else 20, stateful_step_count=50, deadline=None)
