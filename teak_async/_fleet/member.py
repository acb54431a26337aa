"""A session as one member of many: a task syncs, and resizes the session's buckets by what the ledger grants.

Rules of this module:

- One sync is under way at a time, for all buckets that are due.
- A live call that has no permit is planned for at once, in its own turn of the loop.
- While the ledger is lost the session goes on with what it holds. A live call fails only where it would wait too long.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial

from attrs import evolve

from teak_async._leaving import Decisions, wait_for_end
from teak_async._limits.bucket import Bucket, Lane, Rate
from teak_async._notify import Notifier, log
from teak_async.errors import LedgerUnavailable
from teak_async.events import AllowanceChanged, LedgerLost, LedgerRegained

from .ledger import Answer, Ledger, LedgerDownError, Sync, key_of, path_of
from .policy import UNREACHED, Demand, allowance_at
from .share import COOLING, Share
from .sqlite_ledger import SqliteLedger
from .valkey_ledger import ValkeyLedger

BULK_LASTS = 0.5
"""Seconds for which bulk work is taken to go on when none of it waits at the moment."""
PATIENCE = 2.0
"""Seconds after the ledger was lost from which on live calls fail that what is held does not reach in time."""
REACH = 60.0
"""Seconds within which it has to reach them: one permit may have hundreds of calls, which would wait for many minutes."""
HEIR = 15.0
"""Seconds for which the permits of a killed run are asked for; the ledger has taken them back by then, or never had them."""
LEAVING = 1.0
"""Seconds for the last sync."""


class _Entry:
    """One bucket of the session, with the share of it that is held here, and when to plan for it again at the latest."""

    def __init__(self, bucket: Bucket, share: Share) -> None:
        self.bucket = bucket
        self.share = share
        self.look_at = float("-inf")
        self.warned = False


def ledger_at(address: str) -> Ledger:
    """Make the ledger that an address names.

    Raises:
        ValueError: when it is no address of a ledger.
        LedgerError: when a package is missing.
    """
    path = path_of(address)
    return ValkeyLedger(address) if path is None else SqliteLedger(path)


class Member:
    """One session's membership.

    Args:
        ledger: shared by the members.
        game_id: whose limits they are.
        server: where they are counted.
        response: seconds from a request's sending within which its response comes, or none any more.
        notifier: emits the events.

    Attributes:
        name: its id in the ledger: host, process and a random part, with colons between.
    """

    def __init__(self, ledger: Ledger, game_id: str, server: str, response: float, notifier: Notifier) -> None:
        self.name = ""
        self._ledger = ledger
        self._game = (game_id, server)
        self._late = round((response + COOLING) * 1000)
        self._notifier = notifier
        self._entries: dict[str, _Entry] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._joining = asyncio.Lock()
        self._lost_at: float | None = None
        self._reason = ""
        self._closing = False
        self._failed_at = float("-inf")
        self._heir_of = ""
        self._heir_until = float("-inf")

    async def open(self, buckets: Mapping[str, Bucket]) -> None:
        """Become a member, on the running loop, with what the buckets hold from now on.

        Raises:
            LedgerError: when the ledger cannot be used.
            LedgerUnavailable: when it cannot be reached now.
        """
        async with self._joining:
            await self._join(buckets)

    async def _join(self, buckets: Mapping[str, Bucket]) -> None:
        self._loop = asyncio.get_running_loop()
        host = socket.gethostname().replace(":", "-") or "localhost"
        self.name = f"{host}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        for path, bucket in buckets.items():
            share = Share(Sync(self.name, 0, bucket.window.limit, late=self._late))
            entry = self._entries[key_of(*self._game, path)] = _Entry(bucket, share)
            bucket.resize(0)
            bucket.on_wait = partial(self._on_wait, entry)
            bucket.on_rate_limit = partial(self._on_rate_limit, entry)
        try:
            await self._ledger.open()
            self._plan_all()
            self._take(await self._ledger.sync(self._syncs(self._entries.items())))
        except LedgerDownError as error:
            await self._ledger.close()
            raise LedgerUnavailable(f"the ledger of the shared limit: {error}") from None
        except BaseException:
            await self._ledger.close()
            raise
        self._task = self._loop.create_task(self._run(), name="teak_async member")

    async def close(self) -> None:
        """Leave: give back what is held, as it comes back; a caller who is cancelled meanwhile waits for that, too."""
        leaving = asyncio.create_task(self._leave())
        cancelled = await wait_for_end(leaving, Decisions(), lambda: None)
        leaving.result()
        if cancelled is not None:
            raise cancelled

    async def _leave(self) -> None:
        async with self._joining:  # a session may be closed while it is opened
            task, self._task = self._task, None
        if task is None:
            return
        # A sync that is under way ends first: a cancelled one may have been applied or not.
        self._closing = True
        self._wake.set()
        _, late = await asyncio.wait({task}, timeout=LEAVING)
        if late:
            task.cancel()
            await asyncio.wait({task}, timeout=LEAVING)
        try:
            now = self._loop.time()
            self._plan_all()
            last = {key: entry.share.leave(now, entry.bucket.window.all_back(now)) for key, entry in self._entries.items()}
            with suppress(LedgerDownError, TimeoutError):
                async with asyncio.timeout(LEAVING):
                    await self._ledger.sync(last)
        finally:
            await self._ledger.close()

    def abandon(self) -> None:
        """Stop, for a session that nobody closed; the ledger takes back its permits."""
        if self._task is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._ledger.abandon()

    def take_over(self, killed: str) -> None:
        """Take over the permits of the member whose bulk run was killed."""
        self._heir_of, self._heir_until = killed, self._loop.time() + HEIR

    def rate(self, path: str, rate: Rate) -> Rate:
        """Add what is known of all members to a bucket's snapshot."""
        share = self._entries[key_of(*self._game, path)].share
        rate = evolve(rate, held=share.holding, reached=self._lost_at is None)
        if (answer := share.answer) is None:
            return rate
        law = allowance_at(answer, answer.since / 1000 + self._loop.time() - share.answered_at)
        return evolve(
            rate,
            limit=answer.limit,
            allowance=answer.allowance,
            shared_with_others=law.shared,
            left=law.level if law.shared else answer.limit,
            free=answer.free,
            members=answer.members,
        )

    async def _run(self) -> None:
        while not self._closing:
            self._wake.clear()
            await asyncio.sleep(0)  # calls that got their permits count as waiting until they have run
            now = self._loop.time()
            lost = self._lost_at is not None
            looked = [(key, entry) for key, entry in self._entries.items() if lost or entry.look_at <= now]
            for _, entry in looked:
                self._plan(entry)
            ready = self._failed_at + UNREACHED * (0.5 + random.random())  # noqa: S311 - members that lost it together spread
            due = [(key, entry) for key, entry in looked if lost or entry.share.due(now) <= now]
            if due and now >= ready:
                await self._sync(due)
                continue
            if self._lost_at is not None and now - self._lost_at >= PATIENCE:
                self._end_live()
            look = min(entry.look_at for entry in self._entries.values())
            if self._lost_at is not None:
                look = max(ready, min(look, now + UNREACHED))
            with suppress(TimeoutError):
                async with asyncio.timeout(max(look - now, 0.001)):
                    await self._wake.wait()

    async def _sync(self, due: Iterable[tuple[str, _Entry]]) -> None:
        syncs = self._syncs(due)
        try:
            answers = await self._ledger.sync(syncs)
        except LedgerDownError as error:
            self._lose(str(error))
        except Exception as error:  # noqa: BLE001 - after any error the session goes on with what it holds
            self._lose(f"{type(error).__name__}: {error}")
        else:
            if self._take(answers):
                self._regain()
            elif self._lost_at is not None:
                self._failed_at = self._loop.time()  # it said nothing, so ask again as late as after an error

    def _syncs(self, due: Iterable[tuple[str, _Entry]]) -> dict[str, Sync]:
        now = self._loop.time()
        if self._heir_of and now > self._heir_until:
            self._heir_of = ""
        syncs = {}
        for key, entry in due:
            window = entry.bucket.window
            more = {"heir_of": self._heir_of, "passed": window.count_passed(now)}
            syncs[key] = entry.share.sync(now, window.paused_until, **more)
        return syncs

    def _take(self, answers: dict[str, Answer]) -> bool:
        for key, answer in answers.items():
            entry = self._entries[key]
            before = entry.share.answer
            entry.share.take(self._loop.time(), answer)
            if answer.pause > 0:
                entry.bucket.pause(answer.pause / 1000)
            self._tell_of(entry, before, answer)
            self._plan(entry)
        return bool(answers)

    def _tell_of(self, entry: _Entry, before: Answer | None, answer: Answer) -> None:
        name = entry.bucket.name
        if before is not None and before.allowance != answer.allowance and before.limit == answer.limit:
            self._notifier.emit(AllowanceChanged(name, answer.limit, before.allowance, answer.allowance))
        if answer.limit < entry.share.told_limit and not entry.warned:
            entry.warned = True
            log(
                logging.WARNING,
                "%s: this session was given limits= of %d a second, and another member %d; the lower one holds for all",
                name,
                entry.share.told_limit,
                answer.limit,
            )

    def _plan_all(self) -> None:
        for entry in self._entries.values():
            self._plan(entry)

    def _plan(self, entry: _Entry) -> None:
        now, bucket, share = self._loop.time(), entry.bucket, entry.share
        window = bucket.window
        bulk = now - bucket.bulk_at < BULK_LASTS
        demand = Demand(window.in_use(now), bucket.waiting(Lane.LIVE), bulk, window.paused_until > now)
        # On one host all members have one way to the server, so the credit of one holds for all of them.
        share.plan(now, demand, 0.0 if self._ledger.one_host else window.credit.at(now), lost=self._lost_at is not None)
        if self._lost_at is None or share.limit != window.limit:  # else what a 429 has left here would be forgotten
            bucket.resize(share.limit, share.lease_ends, share.floor, share.apart)
        entry.look_at = share.next_look(now, window.next_chance(now))

    def _on_wait(self, entry: _Entry, lane: Lane) -> None:
        """Plan for a call that begins to wait."""
        share = entry.share
        known = share.bulk if lane is Lane.BULK else share.wanted.short and share.limit == share.holding
        if known and self._lost_at is None:
            return
        self._plan(entry)
        now = self._loop.time()
        if self._lost_at is not None and now - self._lost_at >= PATIENCE:
            self._end_live()
        elif share.due(now) <= now:
            self._wake.set()

    def _on_rate_limit(self, entry: _Entry, sent_at: float) -> bool:
        entry.share.record_rate_limit(sent_at, entry.bucket.window.count_passed(self._loop.time()))
        entry.look_at = float("-inf")
        self._wake.set()
        return self._lost_at is None

    def _end_live(self) -> None:
        for entry in self._entries.values():
            entry.bucket.end_live(int(entry.share.limit * REACH), self._unavailable)

    def _unavailable(self) -> LedgerUnavailable:
        return LedgerUnavailable(f"no permit within {REACH:g} s, since the ledger of the shared limit is lost ({self._reason})")

    def _lose(self, reason: str) -> None:
        self._failed_at = self._loop.time()
        self._reason = reason
        if self._lost_at is None:
            self._lost_at = self._failed_at
            self._notifier.emit(LedgerLost(self._ledger.name, reason))

    def _regain(self) -> None:
        if self._lost_at is not None:
            away, self._lost_at = self._loop.time() - self._lost_at, None
            self._failed_at = float("-inf")
            self._plan_all()  # what was planned so far was planned for a ledger that is lost
            self._notifier.emit(LedgerRegained(self._ledger.name, away))
