"""What a member holds, asks for and gives back, and when it syncs next. Pure.

- A member without bulk work holds what is in use and what waits, and a part of that more while nobody else needs it. It keeps
  one permit, so that it can send without a ledger.
- Members with bulk work hold equal parts of what the others leave, less a reserve, which stays in the pool for live calls.
- A member that is cut off for a lease goes on with its equal part of all, or with what it holds, if that is less.
"""

from __future__ import annotations

from math import ceil, inf, sqrt

from attrs import frozen

from teak_async._limits.allowance import Allowance

from .ledger import ALL, LEASE, Answer, Cut

KEEP = 4
"""Permits per member from which on an idle member keeps one."""
SCATTER = 0.5
"""The reserve, in square roots of the live permits in use: these may grow by so much before bulk work gives any back. With
0.4, six of fourteen half-minutes in virtual time have one live call in a hundred that waits for more than 20 ms."""
APART = 0.5
"""How far apart the early permits of bulk work come back, in parts of 1/L. One that is granted joins at a random moment, and
pushes those behind it, which with 1 make good only a hundredth of each second: that cost 1.5 % of all requests. Without bulk
work a member's permits keep the whole distance, since nothing else makes its requests even."""
AHEAD = 4
"""Permits in need for each one that a member without bulk work asks for beyond. With none, each call that is one more than
those of the last second cost a sync: four members with 25 live calls a second made 230 a second, and with this 10."""
LOW = 5
"""Permits for each one in the pool below which nobody holds any beyond the need: bursts anywhere find theirs there. With 10 one
live call in a hundred waited for 23 ms where 16 members used four fifths of the limit, and with this 5. In other fleets as full
as that both were the same but for 6 ms."""
SMALL = 10
"""Permits for each permit of the reserve at the least."""
SOON = 0.01
"""Seconds until the next sync during bulk work beside live calls elsewhere, for each member with bulk work: one alone gives
back all that live calls need. With 0.03 the same waits took a larger reserve, and 0.3 % of the limit."""
SOON_AT_MOST = 0.02
"""The same where many have bulk work: each gives back a part, and the ledger has to bear the syncs of all."""
SOONER = 0.005
"""Seconds until the next sync while more than half of the reserve is gone, or few live calls wait."""
OFTEN = 0.2
"""Seconds until the next sync during bulk work."""
PAUSED = 0.25
"""Seconds until the next sync while nobody may send."""
ASKING = 0.004
"""Seconds for each live call that waits, until the next sync while the pool is empty. One finds a permit soon; many show that
there are too few, and asking would not help."""
SPARE = 0.01
"""Seconds until the next sync while permits are to be given back, or many live calls wait."""
LOOK = 0.005
"""Seconds until permits that came back are looked for again at the least."""
LOOK_AHEAD = 0.1
"""The same of a member that may hold some beyond its need: nobody misses those soon."""
HOLDER = 0.8
"""Seconds until the next sync of a member that holds more than the permit it keeps, or learns that such a one is missed; the
ledger expects one each second."""
QUIET = 2.0
"""Seconds until the next sync of a member that was idle for a moment."""
IDLE = 15.0
"""Seconds until the next sync of a member that was idle for a minute; the ledger forgets it after a minute."""
SILENCE = 60.0
"""Seconds of that minute."""
UNREACHED = 0.25
"""Seconds until the next sync after one that failed."""
LEASE_SECONDS = LEASE / 1000


@frozen
class Demand:
    """What a member needs of one bucket at one moment.

    Attributes:
        in_use: permits out.
        live: live calls waiting.
        bulk: whether there is bulk work.
        paused: whether nothing may be sent.
    """

    in_use: int = 0
    live: int = 0
    bulk: bool = False
    paused: bool = False


@frozen
class Wish:
    """What a member wants.

    Attributes:
        hold: permits to hold; more than that is given back.
        ask: permits to ask for.
        keep_free: permits that have to stay in the pool.
        short: live calls that wait for want of a permit.
        ahead: permits that it may hold beyond its need, for live calls to come; twice as many are no reason to give any back.
    """

    hold: int
    ask: int = 0
    keep_free: int = 0
    short: int = 0
    ahead: int = 0


def kept(answer: Answer) -> int:
    """Return the permits that an idle member keeps."""
    return 1 if answer.members * KEEP <= answer.allowance else 0


def floor_of(answer: Answer) -> int:
    """Return the permits that a member may use at most without contact: its equal part of all."""
    return answer.allowance // answer.members


def reserve(answer: Answer, credit: float) -> int:
    """Return the permits that bulk work leaves in the pool, for live calls of any member.

    Args:
        answer: the ledger's last.
        credit: seconds for which a permit is kept back before it can be given back.
    """
    need = 1
    if answer.bulk < answer.members:
        live = max(answer.live_held - answer.idle, 0)
        # A permit in use is a call of about the last second: so many more come until bulk syncs, and what it frees is back.
        need = 1 + round(SCATTER * sqrt(live) + live * (soon(answer) + credit))
    return min(need, answer.allowance // SMALL)  # bulk work has to go on, however low the limit


def bulk_part(answer: Answer, short: int, keep_free: int) -> int:
    """Return the permits that this member may hold for its bulk work; all parts together are what is left.

    Args:
        answer: the ledger's last, in which this member is one of those with bulk work.
        short: live calls that wait here.
        keep_free: permits that stay in the pool.
    """
    left = max(answer.allowance - keep_free - answer.live_held - answer.short - short, 0)
    each, more = divmod(left, max(answer.bulk, 1))
    return each + (answer.place < more)


def ahead(answer: Answer, need: int, holding: int) -> int:
    """Return the permits that a member without bulk work may ask for beyond its need, for calls to come.

    Args:
        answer: the ledger's last.
        need: permits in use, and live calls that wait.
        holding: permits that it may use.
    """
    low = 0 if answer.members == 1 else answer.allowance // LOW
    if answer.bulk or answer.short or answer.free < low or answer.allowance < answer.limit:
        return 0  # others need what is held here beyond the need, or soon will; or a pause may come, and is heard of by syncs
    spare = answer.free - low + max(holding - need, 0)
    return min(ceil(need / AHEAD), spare // answer.members)


def wish(demand: Demand, holding: int, answer: Answer | None, credit: float) -> Wish:
    """Decide what a member wants of a bucket.

    Args:
        demand: what it needs.
        holding: permits that it may use.
        answer: the ledger's last; `None` before the first.
        credit: see `reserve`.
    """
    if answer is None:
        return Wish(holding, ask=1)
    live = 0 if demand.paused else demand.live
    least = max(kept(answer), demand.in_use + live)
    if not demand.bulk:
        more = ahead(answer, demand.in_use + live, holding)
        if least > holding:
            return Wish(least + more, ask=least + more - holding, short=min(live, least - holding), ahead=more)
        # Twice as much may stay: what is given back at each ebb would have to be asked for at the next flood.
        return Wish(holding if holding <= least + 2 * more else least + more, ahead=more)
    short = max(min(live, demand.in_use + live - holding), 0)
    if not answer.bulk:  # the ledger does not know of this work yet
        return Wish(max(holding, least), ask=short, short=short)
    keep_free = reserve(answer, credit)
    part = bulk_part(answer, short, keep_free) + short
    if short:
        return Wish(max(part, least), ask=short, short=short)
    return Wish(max(part, kept(answer)), ask=max(part - holding, 0), keep_free=keep_free)


def soon(answer: Answer | None) -> float:
    """Return the seconds until the next sync during bulk work beside live calls elsewhere."""
    return SOON if answer is None else min(SOON * max(answer.bulk, 1), SOON_AT_MOST)


def until_next(demand: Demand, wanted: Wish, holding: int, answer: Answer | None, quiet: float, credit: float) -> float:
    """Return the seconds from the last sync to the next one.

    Args:
        demand: what the member needs.
        wanted: what it wants.
        holding: permits that it may use.
        answer: the ledger's last.
        quiet: seconds since the member needed anything.
        credit: see `reserve`.
    """
    if answer is None:
        return SOON
    if wanted.short:
        return _until_asked(wanted.short)
    if demand.bulk:
        if demand.paused:
            return PAUSED
        if answer.short or 2 * answer.free < reserve(answer, credit):
            return max(SOONER, _until_asked(answer.short))
        return soon(answer) if answer.live_held > answer.idle else OFTEN
    if holding < kept(answer):
        return OFTEN
    if holding > wanted.hold:
        return SPARE
    if holding > kept(answer) or answer.missed:
        return HOLDER
    return QUIET if quiet < SILENCE else IDLE


def _until_asked(short: int) -> float:
    return min(ASKING * short, SPARE)


def allowance_at(answer: Answer, since: float) -> Allowance:
    """Return the allowance of all by the ledger, so many seconds after the pause of the last cut."""
    allowance = Allowance(answer.limit)
    if answer.cuts:
        allowance.recall(answer.level, answer.held, answer.hold / 1000)
    if allowance.is_proven(since):
        allowance.restore()
    return allowance


def cut(answer: Answer, since: float, passed: int) -> Cut:
    """Decide the allowance of all after a request was rate-limited.

    Args:
        answer: the ledger's last.
        since: seconds after the pause of the last cut at which the request was sent.
        passed: requests of all that passed in the last second.
    """
    allowance = allowance_at(answer, since)
    allowance.cut(since if answer.cuts else inf, passed)
    level, held, hold = allowance.memory
    *steps, (whole, _) = [(round(at * 1000), permits) for at, permits in allowance.steps()]
    return Cut(answer.cuts + 1, level, held, round(hold * 1000), [*steps, (whole, ALL)])
