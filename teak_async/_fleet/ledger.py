"""A ledger: its one operation, the sync, with its arguments, result and arithmetic; and its addresses. Pure.

Theory of operation. A ledger knows the permits of one bucket for all processes. Each permit is in the pool, or is held by one
member. In a sync a member reports what it holds and asks for more; `apply` grants what the pool can spare. The record of a
member is never less than what it holds: a grant is recorded before the member gets it, and only the member's report lowers it.

- Time is the ledger's own and counts in milliseconds. A ledger that was away for long has missed the syncs of all its members.
  So what is unseen of a member counts by a clock that goes on by `GAP` at most from one sync to the next.
- A member that holds more than the permit it keeps syncs each second, and one that has lost the ledger more often. So when
  syncs came for a `LEASE` without a break, each such member that lives was heard: the silence of the others counts in full.
- A member without contact reduces itself to its `floor` when its lease is over, so the record may follow later.
- A sync that comes after a later one of the same member changes nothing.
- A new ledger grants nothing until all members that use their permits have synced. It reserves one permit for each idle
  member that was known before and has not synced yet.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

from attrs import asdict, frozen

State: TypeAlias = dict[str, Any]
"""The state of one bucket: numbers, and the records of the members by their ids; ready for JSON."""

LEASE = 5_000
"""Milliseconds without a sync after which a member is reduced to its floor."""
FORGET = 60_000
"""Milliseconds without a sync after which a member is gone."""
NEW = 1_000
"""Milliseconds for which a new ledger grants nothing."""
HEARD = 30_000
"""Milliseconds after which idle members have synced with a new ledger, too."""
GAP = 1_500
"""Milliseconds by which the clock advances at most from one sync to the next; more are a break."""
DEAD = 1_500
"""Milliseconds without a sync after which a member with permits is missed, and those of a killed run may be taken over."""
RECENT = 1_000
"""Milliseconds for which it counts how many requests of a member passed."""
ALL = 10**9
"""Permits that stand for the whole limit, whatever that is."""


@frozen
class Cut:
    """A lower allowance after a request was rate-limited; see `Allowance`, whose law it follows.

    Attributes:
        number: of cuts so far, this one included. Of several members that were rate-limited together, the first one's cut is
            taken: the others' requests were sent before that.
        level: where the next cut begins.
        held: the level before.
        hold: milliseconds until the first probe.
        steps: milliseconds after the pause, and permits from each on.
    """

    number: int
    level: int
    held: int
    hold: int
    steps: list[tuple[int, int]]


@frozen
class Sync:
    """The arguments of a sync.

    Attributes:
        member: its id: host, process and a random part, with colons between.
        number: of this sync, counted by the member from 1.
        limit: requests per second of all members together, by this member's `limits=`.
        holding: permits that it may use, after giving back.
        ask: more permits that it wants.
        keep_free: permits that must stay in the pool.
        short: live calls that wait for want of a permit.
        bulk: whether it does bulk work.
        floor: permits that it keeps without contact.
        known: members by its last answer.
        late: milliseconds after its lease until no request of it can arrive any more.
        cooling: for a member that leaves, milliseconds until all that it holds is back; -1 for one that stays.
        heir_of: id of the member whose bulk run was killed, and whose permits this one takes over.
        pause: milliseconds for which nobody may send, since a request was rate-limited.
        cut: what the allowance is to be from now on.
        passed: requests of the last second that were not rate-limited.
    """

    member: str
    number: int
    limit: int
    holding: int = 0
    ask: int = 0
    keep_free: int = 0
    short: int = 0
    bulk: bool = False
    floor: int = 0
    known: int = 0
    late: int = 31_000
    cooling: int = -1
    heir_of: str = ""
    pause: int = 0
    cut: Cut | None = None
    passed: int = 0


@frozen
class Answer:
    """The answer to a sync.

    Attributes:
        granted: permits that the member holds in addition from now on.
        free: permits left in the pool; less than 0 while members hold more than there are.
        allowance: permits that there are: the limit, or less after a request was rate-limited.
        limit: the lowest `limits=` of the members.
        members: how many, this one included, and those that have not synced with a new ledger yet.
        bulk: how many of them do bulk work, this one included.
        place: how many of these come before this one by their ids.
        live_held: permits that the others without bulk work hold.
        idle: how many others without bulk work hold one permit at most.
        short: live calls that wait at the others.
        missed: permits of others that should have synced by now.
        pause: milliseconds until anybody may send.
        passed: requests of the others that passed in the last second.
        cuts: how often the allowance was cut.
        level: of the last cut, as are the next two.
        held: of it.
        hold: of it.
        since: milliseconds since the pause of the last cut.
    """

    granted: int
    free: int
    allowance: int
    limit: int
    members: int
    bulk: int
    place: int
    live_held: int
    idle: int
    short: int
    missed: int
    pause: int
    passed: int
    cuts: int
    level: int
    held: int
    hold: int
    since: int


@frozen
class MemberRecord:
    """One member, for people.

    Attributes:
        host: where it runs.
        process: its process id.
        bulk: whether it does bulk work.
        held: permits.
        rate: requests that passed in the second before its last sync.
        unseen: seconds since its last sync.
    """

    host: str
    process: int
    bulk: bool
    held: int
    rate: int
    unseen: float


@frozen
class BucketRecord:
    """One bucket, for people."""

    bucket: str
    limit: int
    allowance: int
    members: list[MemberRecord]


class LedgerDownError(Exception):
    """The ledger cannot be reached now; the message says why, and what to do."""


class Ledger(Protocol):
    """A ledger that several processes reach.

    Attributes:
        name: where it is, without a user or password.
        one_host: whether all of these are on one host.
    """

    name: str
    one_host: bool

    async def open(self) -> None:
        """Open it.

        Raises:
            LedgerError: when the address is wrong, and waiting does not mend it.
            LedgerDownError: when it cannot be reached now.
        """
        ...

    async def sync(self, syncs: dict[str, Sync]) -> dict[str, Answer]:
        """Make a sync of some buckets, each atomic. A bucket whose sync came too late is left out.

        Raises:
            LedgerDownError: when it cannot be reached, so that nobody knows what it has done.
        """
        ...

    async def read(self) -> dict[str, State]:
        """Read all buckets as they are by now, by their keys."""
        ...

    async def close(self) -> None:
        """Close what is open."""
        ...

    def abandon(self) -> None:
        """Close what can be closed without the loop, which may be gone."""
        ...


def apply(state: State | None, sync: Sync, now: int) -> tuple[State, Answer | None]:
    """Apply one sync to the state of a bucket, which is changed; return the state and the answer.

    Args:
        state: of the bucket; `None` for a new one.
        sync: its arguments.
        now: milliseconds of the clock of whatever holds the ledger.
    """
    new = dict.fromkeys(("time", "clock", "back", "known", "paused", "cuts"), 0)
    state = state or {**new, "last": now, "cut": {}, "members": {}}
    members: dict[str, Any] = state["members"]
    gap = max(now - state["last"], 0)
    time = state["time"] = state["time"] + gap
    clock = state["clock"] = state["clock"] + min(gap, GAP)
    state["last"] = now
    if gap > GAP:
        state["back"] = time
    before = members.get(sync.member)
    if before is not None and before["number"] >= sync.number:
        return state, None
    count = len(members)
    taken_over = _forget(state, sync)
    # Members that left are not waited for, and a member reports only once what it knew of another ledger.
    state["known"] = max(state["known"] - (count - len(members)), 0 if before is not None else sync.known)
    members.pop(sync.member, None)
    limit = min([sync.limit, *(other["limit"] for other in members.values())])
    if sync.pause:
        state["paused"] = max(state["paused"], time + sync.pause)
    if sync.cut is not None and sync.cut.number == state["cuts"] + 1:
        state["cuts"] = sync.cut.number
        state["cut"] = {**asdict(sync.cut), "from": state["paused"]}
    allowance = allowance_of(state, limit)
    unheard = max(state["known"] - len(members) - 1, 0) if clock < HEARD else 0
    free = allowance - sum(other["held"] for other in members.values()) - sync.holding - taken_over - unheard
    granted = taken_over + (max(min(sync.ask, free - sync.keep_free), 0) if clock >= NEW else 0)
    live = [other for other in members.values() if not other["bulk"]]
    bulk = [name for name, other in members.items() if other["bulk"]]
    short = sum(other["short"] for other in members.values())
    missed = sum(other["held"] for other in members.values() if other["held"] > 1 and time - other["at"] >= DEAD)
    passed = sum(other["passed"] for other in members.values() if time - other["at"] < RECENT)
    members[sync.member] = {
        "number": sync.number,
        "held": sync.holding + granted,
        "floor": sync.floor,
        "short": max(sync.short - granted, 0),
        "bulk": sync.bulk,
        "limit": sync.limit,
        "late": sync.late,
        "seen": clock,
        "at": time,
        "until": time + sync.cooling if sync.cooling >= 0 else 0,
        "passed": sync.passed,
    }
    cut = state["cut"]
    return state, Answer(
        granted=granted,
        free=free + taken_over - granted,
        allowance=allowance,
        limit=limit,
        members=len(members) + unheard,
        bulk=len(bulk) + sync.bulk,
        place=sum(name < sync.member for name in bulk),
        live_held=sum(other["held"] for other in live),
        idle=sum(other["held"] < 2 and not other["short"] for other in live),
        short=short,
        missed=missed,
        pause=max(state["paused"] - time, 0),
        passed=passed,
        cuts=state["cuts"],
        level=cut.get("level", 0),
        held=cut.get("held", 0),
        hold=cut.get("hold", 0),
        since=time - cut.get("from", time),
    )


def _forget(state: State, sync: Sync) -> int:
    """Take back the permits of members that are gone, and return how many of them the syncing member takes over."""
    members, time = state["members"], state["time"]
    heard = time - state["back"] >= LEASE
    taken_over = 0
    for name, other in list(members.items()):
        unseen = time - other["at"] if heard and other["held"] > 1 else state["clock"] - other["seen"]
        if name == sync.member:
            continue
        if name == sync.heir_of and other["bulk"] and unseen >= DEAD:
            taken_over += other["held"]
            del members[name]
        elif unseen >= max(FORGET, LEASE + other["late"]) or 0 < other["until"] <= time:
            del members[name]
        elif unseen >= LEASE + other["late"]:
            other["held"] = min(other["held"], max(other["floor"], 0))
    return taken_over


def allowance_of(state: State, limit: int) -> int:
    """Return how many permits there are: the limit, or less after a request was rate-limited."""
    cut = state["cut"]
    if not cut:
        return limit
    since = max(state["time"] - cut["from"], 0)
    there: int = [permits for at, permits in cut["steps"] if at <= since][-1]
    return min(there, limit)


def at(state: State, now: int) -> State:
    """Return a state as of now, without a sync."""
    return {**state, "time": state["time"] + max(now - state["last"], 0), "last": now}


def describe(state: State, bucket: str) -> BucketRecord:
    """Describe the state of a bucket for people."""
    limit = min([other["limit"] for other in state["members"].values()], default=0)
    records = []
    for name, other in sorted(state["members"].items()):
        if other["until"]:
            continue  # it has left, and what it held cools
        host, process, _ = name.rsplit(":", 2)
        unseen = (state["time"] - other["at"]) / 1000
        records.append(MemberRecord(host, int(process), other["bulk"], other["held"], other["passed"], unseen))
    return BucketRecord(bucket, limit, allowance_of(state, limit), records)


def key_of(game_id: str, server: str, bucket: str) -> str:
    """Return the key of the bucket of a game at a server. Keys of two games differ, and show neither game."""
    # The braces keep the buckets of a game on one node of a cluster.
    digest = hashlib.sha256(f"{game_id}\n{server.rstrip('/')}".encode()).hexdigest()[:20]
    return f"teak:{{{digest}}}:{bucket}"


_SLIP = re.compile(r"(rediss?|unix|sqlite):/?(?!/)")


def path_of(address: str) -> Path | None:
    """Return the file that an address names; `None` for the address of a server.

    Raises:
        ValueError: when it is no address of a ledger.
    """
    shown = show(address)
    if not address.strip() or "\0" in address:
        raise ValueError(f"share={shown!r} is no address: give a path, sqlite:///path, redis://host, rediss:// or unix://")
    if (slip := _SLIP.match(address)) is not None:
        raise ValueError(f"share={shown!r} lacks a slash: write {slip[1]}://…")
    scheme = address.partition("://")[0] if "://" in address else ""
    if scheme in ("redis", "rediss", "unix"):
        parts = urlsplit(address)
        if scheme == "unix" and not parts.path:
            raise ValueError(f"share={shown!r} names no socket: write unix:///path/to/socket")
        try:
            _ = parts.port
        except ValueError:
            raise ValueError(f"share={shown!r} has a port that is no number: write redis://host:6379/0") from None
        if scheme != "unix" and not parts.hostname:
            raise ValueError(f"share={shown!r} names no host: write {scheme}://host:6379/0")
        return None
    if scheme == "sqlite":
        rest = address.removeprefix("sqlite://")
        if not rest.startswith("/") or rest == "/":
            raise ValueError(f"share={shown!r} names no file: write sqlite:///folder/file, or the path alone")
        return Path(rest)
    if scheme:
        raise ValueError(
            f"share={shown!r} is no address of a ledger: give a path, sqlite:///path, redis://, rediss:// or unix://"
        )
    return Path(address)


def show(address: str) -> str:
    """Return an address without its user and password."""
    return re.sub(r"(?i)(?<=[?&])(username|password)=[^&]*", r"\1=…", re.sub(r"(?<=://)[^/]*@", "", address))
