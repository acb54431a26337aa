"""Several sessions in one process: sharing limits, and being warned of not sharing them."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from contextlib import nullcontext
from typing import Any

import pytest
from support import FAST, identifies, internals, session_on

from benchmarks.virtual import VirtualLoop, run_virtual
from teak_async import Delivery, Identify, Limits, RetryPolicy, SessionClosed, TeakSession
from teak_async._limits import session_limits as module
from teak_async.events import AllowanceChanged, BucketPaused, Event, RateLimitHit
from teak_async.sandbox import IDENTIFY, STATUS, Faults, Sandbox


async def test_sessions_that_share_keep_the_limit_together(sandbox: Sandbox) -> None:
    """Two sessions, live and in bulk at once, have 200 a second between them, use them, and are never refused."""
    async with session_on(sandbox) as owner, session_on(sandbox, share=owner) as guest:
        calls = [asyncio.create_task(guest.identify(f"g{number}", country_code="US")) for number in range(150)]
        report = await owner.bulk(Identify(f"o{number}", country_code="US") for number in range(350))
        await asyncio.gather(*calls)
    seen = sandbox.seen[IDENTIFY]
    assert report.succeeded == 350
    assert (seen.requests, seen.rate_limited) == (500, 0)
    assert 100 <= seen.busiest <= 200  # a busy machine may be too slow for the limit


async def test_what_is_shared_is_one(sandbox: Sandbox) -> None:
    """Limits, snapshots and permits are the owner's, also for a guest of a guest."""
    limits = Limits(identify=50)
    async with (
        session_on(sandbox, limits=limits) as owner,
        session_on(sandbox, share=owner) as guest,
        session_on(sandbox, share=guest) as guests_guest,
    ):
        for teak in (owner, guest, guests_guest):
            await teak.identify("p1", country_code="US")
        assert owner.limits == guest.limits == guests_guest.limits == limits
        assert {teak.rates[IDENTIFY].in_window for teak in (owner, guest, guests_guest)} == {3}


async def test_a_guest_that_closes_ends_its_own_calls_only(sandbox: Sandbox) -> None:
    """Calls of both wait in one lane: the guest's hear of its closing, and the owner's go on."""
    async with session_on(sandbox, limits=Limits(identify=1)) as owner:
        guest = await session_on(sandbox, share=owner).open()
        await owner.identify("p0", country_code="US")
        theirs = [asyncio.create_task(guest.identify(f"g{number}", country_code="US")) for number in range(3)]
        rows = asyncio.create_task(_drain(guest))
        ours = asyncio.create_task(owner.identify("p1", country_code="US"))
        await asyncio.sleep(0.01)
        assert owner.rates[IDENTIFY].waiting_live == 4
        await guest.close()
        ended = await asyncio.gather(*theirs, rows, return_exceptions=True)
        assert [type(end) for end in ended] == [SessionClosed] * 4
        assert (owner.rates[IDENTIFY].waiting_live, owner.rates[IDENTIFY].waiting_bulk) == (1, 0)
        await ours
        with pytest.raises(SessionClosed, match="the session is closed"):
            await guest.identify("g9", country_code="US")
        await owner.identify("p2", country_code="US")
    assert set(sandbox.players) == {"p0", "p1", "p2"}


async def _drain(teak: TeakSession) -> None:
    await teak.bulk([Identify("b1", country_code="US"), Identify("b2", country_code="US")])


async def test_a_guest_closed_in_the_turn_of_its_grant_gives_the_permit_back(sandbox: Sandbox) -> None:
    """The permit was granted and the call had not gone on yet: nothing is sent, and the permit is free."""
    async with session_on(sandbox, limits=Limits(identify=1)) as owner:
        guest = await session_on(sandbox, share=owner).open()
        bucket = internals(owner).bucket(IDENTIFY)
        assert bucket.window.try_acquire(asyncio.get_running_loop().time())
        call = asyncio.create_task(guest.identify("g1", country_code="US"))
        await asyncio.sleep(0.01)
        bucket.release_unused()
        await guest.close()
        with pytest.raises(SessionClosed):
            await call
        assert owner.rates[IDENTIFY].in_window == 0
    assert sandbox.seen[IDENTIFY].requests == 0


async def test_a_closed_guest_makes_no_second_try(sandbox: Sandbox) -> None:
    """A call between two tries ends when its session closes, though the owner would still grant."""
    async with session_on(sandbox) as owner:
        guest = await session_on(sandbox, share=owner).open()
        sandbox.add_player("p1")
        sandbox.fail_next("desktop_push_status", "reset", "reset", "reset", "reset", "reset")
        call = asyncio.create_task(guest.desktop_push.opt_out("p1"))
        while not sandbox.requests:
            await asyncio.sleep(0.001)
        await guest.close()
        with pytest.raises(SessionClosed) as closed:
            await call
        assert closed.value.delivery is Delivery.UNKNOWN
        assert owner.rates[STATUS].waiting_live == 0


async def test_the_owner_that_closes_first_ends_its_guests() -> None:
    """A guest's calls on the wire finish; those that wait, and later ones, hear whose closing it was."""
    async with Sandbox(faults=Faults(delay=0.05)) as server:
        owner = await session_on(server, limits=Limits(identify=1)).open()
        async with session_on(server, share=owner) as guest:
            calls = [asyncio.create_task(guest.identify(f"g{number}", country_code="US")) for number in range(2)]
            while not server.seen[IDENTIFY].requests:
                await asyncio.sleep(0.001)
            await owner.close()
            sent, waited = await asyncio.gather(*calls, return_exceptions=True)
            assert not isinstance(sent, BaseException)
            for failed in (waited, *await asyncio.gather(guest.identify("g3", country_code="US"), return_exceptions=True)):
                assert isinstance(failed, SessionClosed)
                assert "the session whose limits this one shares was closed" in str(failed)
        assert server.seen[IDENTIFY].requests == 1


async def test_refusals_of_guests_are_everybodys() -> None:
    """A refusal is told to the session that was refused; the pause and the lowered limit to the owner, once."""
    heard: dict[str, list[Event]] = {"owner": [], "guest": []}
    async with (
        Sandbox(identify=3) as server,
        session_on(server, limits=Limits(identify=4), on_event=heard["owner"].append) as owner,
        session_on(server, share=owner, on_event=heard["guest"].append) as guest,
    ):
        await asyncio.gather(*(guest.identify(f"g{number}", country_code="US") for number in range(4)))
        assert owner.rates[IDENTIFY].rate_limited == 1
    told = {name: [type(event) for event in events] for name, events in heard.items()}
    assert told["owner"] == [BucketPaused, AllowanceChanged]
    assert RateLimitHit in told["guest"]
    assert not {BucketPaused, AllowanceChanged} & set(told["guest"])


async def test_a_journal_of_a_guest_counts_against_the_shared_limit(sandbox: Sandbox, tmp_path: Any) -> None:
    """A bulk run with a journal goes through a guest as through any session."""
    async with session_on(sandbox) as owner, session_on(sandbox, share=owner) as guest:
        report = await guest.bulk([Identify("p1", country_code="US")], journal=tmp_path / "run.db")
    assert report.succeeded == 1


def test_what_cannot_be_shared_is_refused() -> None:
    """Another game's limits, and limits of one's own beside shared ones, are errors that say what to do."""
    owner = TeakSession("1", "s")
    with pytest.raises(ValueError, match="for game 1, and this one is for game 2: limits are per game, so leave share= out"):
        TeakSession("2", "s", share=owner)
    with pytest.raises(ValueError, match="leave limits= out"):
        TeakSession("1", "s", share=owner, limits=Limits())


async def test_the_owner_has_to_be_open(sandbox: Sandbox) -> None:
    """A guest opened before its owner, or after it was closed, says what to do, and leaves nothing open."""
    owner = session_on(sandbox)
    with pytest.raises(SessionClosed, match="given as share= is not open: open it before this one"):
        await session_on(sandbox, share=owner).open()
    async with owner:
        pass
    with pytest.raises(SessionClosed, match="not open"):
        await session_on(sandbox, share=owner).open()


async def test_limits_are_shared_on_one_loop(sandbox: Sandbox) -> None:
    """A guest on another event loop is refused, with the remedy."""
    async with session_on(sandbox) as owner:
        guest = session_on(sandbox, share=owner)
        with pytest.raises(RuntimeError, match=r"another event loop: .* limits=Limits"):
            await asyncio.to_thread(lambda: asyncio.run(_opened(guest)))


async def _opened(teak: TeakSession) -> None:
    await teak.open()


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def test_a_second_session_that_does_not_share_is_warned_of(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """One line names the game, what both may make together, and the remedies; the secret is not in it."""
    async with session_on(sandbox):
        assert warnings_in(caplog) == []
        async with session_on(sandbox):
            (warning,) = warnings_in(caplog)
    assert f"2 sessions for game {sandbox.game_id} at {sandbox.url} are open" in warning
    assert "400 identifies and twice 600 subscription calls" in warning
    assert "share=" in warning
    assert "limits=Limits(" in warning
    assert sandbox.secret_key not in warning


async def test_who_shares_or_has_split_the_limits_is_not_warned(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """Sharing, parts that add up to the limit, another game, another server, and one after the other are all well."""
    async with (
        session_on(sandbox) as owner,
        session_on(sandbox, share=owner),
        TeakSession("other", "s", base_url=sandbox.url),
        TeakSession(sandbox.game_id, "s", base_url="http://elsewhere.test"),
    ):
        pass
    async with session_on(sandbox, limits=Limits(120, 200)), session_on(sandbox, limits=Limits(80, 100)):
        pass
    assert warnings_in(caplog) == []
    async with session_on(sandbox, limits=FAST), session_on(sandbox, limits=Limits(1, 1)):
        assert len(warnings_in(caplog)) == 1


async def test_sessions_left_open_are_forgotten(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """A session that was never closed warns nobody once it, or its loop, is gone."""
    left: list[TeakSession] = []

    def leave_open() -> None:
        left.append(session_on(sandbox))
        loop = asyncio.new_event_loop()
        loop.run_until_complete(_opened(left[0]))
        loop.run_until_complete(left[0]._transport.close())
        loop.close()

    thread = threading.Thread(target=leave_open)
    thread.start()
    thread.join()
    async with session_on(sandbox):
        pass
    kept = weakref.ref(internals(left[0]).limits)
    assert kept() in module._OPEN
    left.clear()
    gc.collect()
    assert kept() is None
    assert [text.partition(",")[0] for text in warnings_in(caplog)] == ["a session for game sandbox was never closed"]


def test_sessions_on_several_threads_are_seen(caplog: pytest.LogCaptureFixture) -> None:
    """Each thread has its loop and its session; those open at the same time are warned of."""
    both = threading.Barrier(2, timeout=10)

    async def opened() -> None:
        async with TeakSession("threads", "s"):
            await asyncio.to_thread(both.wait)

    threads = [threading.Thread(target=lambda: asyncio.run(opened())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(warnings_in(caplog)) == 1


@pytest.mark.parametrize("elsewhere", [False, True], ids=["one loop", "loops of their own"])
@pytest.mark.parametrize("raises", [False, True])
async def test_sessions_in_turn_keep_the_limit(*, elsewhere: bool, raises: bool) -> None:
    """What the session before has sent counts, however it was left."""
    async with Sandbox(identify=100) as server:

        async def use() -> None:
            async with session_on(server, limits=Limits(identify=100)) as teak:
                await teak.bulk(identifies(80))
                if raises:
                    raise LookupError

        for _ in range(2):
            with pytest.raises(LookupError) if raises else nullcontext():
                await (asyncio.to_thread(asyncio.run, use()) if elsewhere else use())
        assert (server.seen[IDENTIFY].requests, server.seen[IDENTIFY].rate_limited) == (160, 0)


async def test_a_pause_outlives_its_session() -> None:
    """The server said when to come back, whoever asks then."""
    async with Sandbox(identify=5) as server:
        async with session_on(
            server, limits=Limits(identify=100), retry=RetryPolicy(max_attempts=1, max_rate_limited=0)
        ) as teak:
            await asyncio.gather(*(teak.identify(f"p{n}", country_code="US") for n in range(7)), return_exceptions=True)
            paused = teak.rates[IDENTIFY].paused
        assert paused > 0
        async with session_on(server) as again:
            assert 0 < again.rates[IDENTIFY].paused <= paused
            assert again.rates[IDENTIFY].in_window == 7
            assert again.rates[STATUS].in_window == 0
        async with Sandbox() as other, session_on(other) as stranger:
            assert stranger.rates[IDENTIFY].in_window == 0


async def test_all_sessions_that_follow_count_what_was_left() -> None:
    """Two that split the limit, and one that opens while the one before closes."""
    async with Sandbox(identify=40) as server:
        async with session_on(server, limits=Limits(identify=40)) as first:
            await first.bulk(identifies(40))
        halves = [session_on(server, limits=Limits(identify=20)) for _ in range(2)]
        async with halves[0], halves[1]:
            await asyncio.gather(*(half.bulk(identifies(100 * n + 20, start=100 * n)) for n, half in enumerate(halves, 1)))
        last = await session_on(server, limits=Limits(identify=40)).open()
        await last.bulk(identifies(330, start=300))
        closing = asyncio.create_task(last.close())
        await asyncio.sleep(0)
        async with session_on(server, limits=Limits(identify=40)) as next_one:
            await next_one.bulk(identifies(440, start=400))
        await closing
        assert (server.seen[IDENTIFY].requests, server.seen[IDENTIFY].rate_limited) == (150, 0)


async def test_another_clock_takes_nothing_up() -> None:
    """A loop with a time of its own cannot read the instants of another one."""

    async def look(_: VirtualLoop) -> int:
        async with session_on(server) as teak:
            return teak.rates[IDENTIFY].in_window

    async with Sandbox() as server:
        async with session_on(server) as teak:
            await teak.bulk(identifies(5))
        assert await asyncio.to_thread(run_virtual, look) == 0
