from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import closing
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from support import FAST, identifies, internals, session_on

from teak_async import (
    Delivery,
    Forbidden,
    GetEmailSubscription,
    GetSubscription,
    Identify,
    InvalidRequest,
    Limits,
    Outcome,
    PlayerNotFound,
    Request,
    RetryPolicy,
    Row,
    SessionClosed,
    SetSubscription,
    State,
    TeakSession,
    Timeout,
)
from teak_async._bulk.run import BulkRun
from teak_async.sandbox import IDENTIFY, STATUS, Faults, Sandbox


async def test_awaiting_a_run_gives_its_report(fast: TeakSession, server: Sandbox) -> None:
    """A run that is just awaited is drained, and its counts add up."""
    report = await fast.bulk(identifies(500))
    assert (report.total, report.succeeded, report.failed, report.in_doubt, report.skipped) == (500, 500, 0, 0, 0)
    assert report.rate == pytest.approx(500 / report.elapsed)
    assert len(server.players) == 500


async def test_outcomes_come_as_they_finish(fast: TeakSession) -> None:
    """Every row has one outcome with its index and request, while the run goes on."""
    async with fast.bulk(identifies(100)) as run:
        outcomes = [outcome async for outcome in run]
    assert sorted(outcome.index for outcome in outcomes) == list(range(100))
    assert all(outcome.request == Identify(f"p{outcome.index}", country_code="US") for outcome in outcomes)
    assert {(outcome.delivery, outcome.attempts, outcome.error) for outcome in outcomes} == {(Delivery.DONE, 1, None)}
    assert [outcome async for outcome in run] == []


async def test_async_input_and_mixed_requests(fast: TeakSession, server: Sandbox) -> None:
    """An async iterable with every kind of request is as good as a list."""

    async def rows() -> AsyncIterator[Request]:
        yield Identify("p1", country_code="US")
        yield GetSubscription("p1")
        yield SetSubscription("p1", State.OPT_OUT)

    report = await fast.bulk(rows())
    assert report.succeeded == 3
    assert server.players["p1"].state == "opt_out"


async def test_empty_input_is_an_empty_run(fast: TeakSession) -> None:
    """Nothing in, nothing out."""
    assert (await fast.bulk([])).total == 0


async def test_one_bad_row_is_one_failed_outcome(fast: TeakSession) -> None:
    """Rows that are refused, unreadable or no request at all fail alone."""
    rows: list[Any] = [
        GetSubscription("nobody"),
        InvalidRequest("line 7: not JSON"),
        "p1",
        Identify("p1", country_code="US"),
    ]
    async with fast.bulk(rows) as run:
        outcomes = sorted([outcome async for outcome in run], key=lambda outcome: outcome.index)
    assert [type(outcome.error) for outcome in outcomes] == [PlayerNotFound, InvalidRequest, InvalidRequest, type(None)]
    assert [outcome.delivery for outcome in outcomes] == [
        Delivery.REJECTED,
        Delivery.NOT_SENT,
        Delivery.NOT_SENT,
        Delivery.DONE,
    ]
    assert [outcome.attempts for outcome in outcomes] == [1, 0, 0, 1]
    assert (run.report.succeeded, run.report.failed) == (1, 3)


async def test_rows_of_one_player_keep_their_order() -> None:
    """Each player's states arrive at the server in the input's order, though players overlap."""
    faults = Faults(seed=3, jitter=0.01)
    async with Sandbox(subscription=100_000, faults=faults) as server, session_on(server, limits=FAST) as teak:
        players = [f"p{number}" for number in range(40)]
        for player in players:
            server.add_player(player)
        order: dict[str, list[int]] = {player: [] for player in players}
        rows = [SetSubscription(player, State.OPT_OUT if step % 2 else State.OPT_IN) for step in range(6) for player in players]
        async with teak.bulk(rows) as run:
            async for outcome in run:
                assert outcome.request is not None
                order[outcome.request.subject].append(outcome.index)
        assert all(indices == sorted(indices) and len(indices) == 6 for indices in order.values())
        assert {player.state for player in server.players.values()} == {"opt_out"}


async def test_the_input_is_pulled_only_as_fast_as_it_is_read(fast: TeakSession) -> None:
    """A reader that takes nothing lets no more in hand than the bound, whatever the input's length."""
    pulled = 0

    def endless() -> Iterator[Request]:
        nonlocal pulled
        while True:
            pulled += 1
            yield Identify(f"p{pulled}", country_code="US")

    async with fast.bulk(endless()) as run:
        while run.report.total < 500:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert pulled <= 501
        async for _ in run:
            break


async def test_few_players_wait_for_their_first_permit() -> None:
    """What a run makes ahead of the permits is half a second's worth of the limit."""
    async with Sandbox(identify=100_000) as server, session_on(server, limits=Limits(200, 200)) as teak:
        most = 0
        async with teak.bulk(identifies(250)) as run:
            async for _ in run:
                most = max(most, teak.rates[IDENTIFY].waiting_bulk)
        assert run.report.succeeded == 250
    assert 0 < most <= 100  # few where a busy machine lets many permits come back at once


async def test_more_rows_of_one_player_than_may_wait_stop_nobody(fast: TeakSession, server: Sandbox) -> None:
    """A player with hundreds of rows in a row leaves room for those who come after."""
    rows = [Identify("often", country_code="US")] * 300 + [Identify(f"p{n}", country_code="US") for n in range(300)]
    report = await fast.bulk(rows)
    assert report.succeeded == 600
    assert server.players["often"].sessions == 300


def others() -> set[asyncio.Task[Any]]:
    """The tasks that a run may have left: all but the test's own and the server's."""
    ours = (
        task for task in asyncio.all_tasks() if "teak_async" in repr(task.get_coro()) and "Sandbox" not in repr(task.get_coro())
    )
    return {task for task in ours if task is not asyncio.current_task()}


async def test_breaking_out_leaves_nothing_running(fast: TeakSession, server: Sandbox) -> None:
    """After a `break` nothing new is sent, what was sent is finished, and no task is left."""
    async with fast.bulk(identifies(100_000)) as run:
        async for outcome in run:
            if outcome.index > 50:
                break
    assert others() == set()
    sent = server.seen[IDENTIFY].requests
    assert run.report.succeeded == sent
    await asyncio.sleep(0.02)
    assert server.seen[IDENTIFY].requests == sent


async def test_an_error_in_the_loop_leaves_nothing_running(fast: TeakSession) -> None:
    """The reader's own error comes through, and the run is over."""
    with pytest.raises(ZeroDivisionError):
        async with fast.bulk(identifies(100_000)) as run:
            async for _ in run:
                raise ZeroDivisionError
    assert others() == set()


async def test_cancelling_a_run_finishes_what_is_on_the_wire() -> None:
    """Cancelled once, a run waits for the answers under way, sends nothing more, and leaves nothing running."""
    async with Sandbox(faults=Faults(delay=0.05)) as server, session_on(server, limits=Limits(100, 100)) as teak:
        run = teak.bulk(identifies(10_000))
        task = asyncio.ensure_future(run)
        while server.seen[IDENTIFY].requests < 10:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert others() == set()
        assert run.report.succeeded == server.seen[IDENTIFY].requests


async def test_cancelling_twice_leaves_at_once() -> None:
    """The second cancellation does not wait for an answer that takes long."""
    async with Sandbox(faults=Faults(stall=1, stall_for=30)) as server:
        async with session_on(server, timeout=Timeout(response=60)) as teak:
            run = teak.bulk(identifies(10))
            task = asyncio.ensure_future(run)
            while len(server.requests) < 10:
                await asyncio.sleep(0.005)
            task.cancel()
            await asyncio.sleep(0.01)
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert run.report.total == run.report.in_doubt == 10
        assert others() == set()


class NoError(BaseException):
    """As those by which a framework leaves a test."""


@pytest.mark.parametrize("kind", [OSError, NoError])
async def test_a_broken_input_ends_the_run_after_what_was_sent(
    fast: TeakSession, server: Sandbox, kind: type[BaseException]
) -> None:
    """The rows before the break all end, then its error is raised."""

    def breaks() -> Iterator[Request]:
        yield from identifies(20)
        raise kind("disk gone")

    seen: list[Outcome] = []
    with pytest.raises(kind, match="disk gone"):
        async with fast.bulk(breaks()) as run:
            async for outcome in run:
                seen.append(outcome)
    assert len(seen) == 20
    assert len(server.players) == 20


class RowReader:
    """An input that can be iterated in both ways, and writes down when it was left."""

    def __init__(self) -> None:
        self.left = False

    def __iter__(self) -> Generator[Request]:
        try:
            yield from identifies(100_000)
        finally:
            self.left = True

    async def __aiter__(self) -> AsyncIterator[Request]:
        with closing(iter(self)) as rows:
            for row in rows:
                yield row


@pytest.mark.parametrize("given", [aiter, iter, lambda rows: rows])
async def test_the_input_is_closed(fast: TeakSession, given: Callable[[RowReader], Any]) -> None:
    """A generator gets its `finally` when the run is left early, be it given or made by what is given."""
    rows = RowReader()
    async with fast.bulk(given(rows)) as run:
        async for _ in run:
            break
    assert rows.left


async def test_a_session_closed_under_a_run_ends_it(server: Sandbox) -> None:
    """The run raises, and does not fail the remaining rows one by one."""
    teak = await session_on(server, limits=Limits(50, 50)).open()
    with pytest.raises(SessionClosed):
        async with teak.bulk(identifies(1000)) as run:
            async for outcome in run:
                if outcome.index == 3:
                    await teak.close()
    assert run.report.failed == 0


@pytest.mark.parametrize("journal", [False, True])
async def test_a_run_that_is_stopped_before_it_opens_sends_nothing(
    fast: TeakSession, server: Sandbox, path: Path, *, journal: bool
) -> None:
    """Whenever the stop comes: before the first step, while the journal is opened, or at the first row."""
    for turns in (-1, 0, 1, 2, 5):
        run = fast.bulk(identifies(50), journal=path if journal else None)
        if turns < 0:
            run.stop()
        task = asyncio.create_task(run)
        for _ in range(turns):
            await asyncio.sleep(0)
        run.stop()
        report = await task
        assert report.succeeded == len(server.players)
        assert report.total == 0 or (turns >= 0 and not journal)
        server.players.clear()


async def test_a_run_needs_an_open_session(server: Sandbox, path: Path) -> None:
    """Closed before the run, or while its journal is opened: an input that waits would keep it for ever."""

    async def never() -> AsyncIterator[Identify]:
        await asyncio.Event().wait()
        yield Identify("p1", country_code="US")

    unopened = TeakSession(server.game_id, server.secret_key, base_url=server.url)
    with pytest.raises(SessionClosed, match="not opened yet"):
        await unopened.bulk(never())
    async with session_on(server) as teak:
        run = asyncio.create_task(teak.bulk(never(), journal=path))
        await asyncio.sleep(0)
    with pytest.raises(SessionClosed, match="closed"):
        await run
    with pytest.raises(SessionClosed, match="closed"):
        await teak.bulk([], journal=path)


async def test_each_row_that_was_read_is_counted() -> None:
    """Rows that the server refused for now, as the run was left, and rows refused for wrong credentials."""
    async with Sandbox(identify=5) as server:
        rows = iter(list(identifies(40)))  # a run closes a generator, so what it had not read would not be seen
        async with session_on(server, limits=Limits(identify=100)) as teak, teak.bulk(rows) as run:
            async for _ in run:
                if teak.rates[IDENTIFY].rate_limited:
                    break
        read = 40 - len(list(rows))
        assert (run.report.total, run.report.not_sent) == (read, read - run.report.succeeded)
        async with TeakSession(server.game_id, "wrong", base_url=server.url) as stranger:
            denied = stranger.bulk(identifies(10))
            with pytest.raises(Forbidden):
                await denied
        assert denied.report.total == denied.report.not_sent + denied.report.failed == 10


async def test_a_row_that_may_have_been_done_is_told_when_the_run_is_left(server: Sandbox) -> None:
    """Between two tries of a set, leaving the run counts the row in doubt; a row that was only refused is not told."""
    server.add_player("p1")
    server.fail_next("desktop_push_status", "response_lost")
    teak = session_on(server, retry=RetryPolicy(initial_wait=60, max_wait=60))
    async with teak, teak.bulk([SetSubscription("p1", State.OPT_OUT)]) as run:
        while not (server.requests and not internals(teak).executor.under_way):
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
    assert (run.report.total, run.report.in_doubt) == (1, 1)


async def test_a_row_on_the_wire_is_in_doubt_when_the_run_is_aborted() -> None:
    """Leaving at once does not hide what was sent."""
    stalling = Sandbox(faults=Faults(stall=1, stall_for=30))
    async with stalling as server, session_on(server) as teak, teak.bulk(identifies(3)) as run:
        while len(server.requests) < 3:
            await asyncio.sleep(0.001)
        run.abort()
        outcomes = [outcome async for outcome in run]
    assert {outcome.delivery for outcome in outcomes} == {Delivery.UNKNOWN}
    assert run.report.in_doubt == 3


async def test_a_cancelled_input_is_no_end_of_input(fast: TeakSession) -> None:
    """An input that was cancelled behind our back does not look complete."""

    async def rows() -> AsyncIterator[Request]:
        yield Identify("p1", country_code="US")
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="cancelled"):
        await fast.bulk(rows())


async def test_rows_refused_again_and_again_end_well() -> None:
    """A run against a bucket that others spend goes on, and no row is lost or doubled."""
    async with Sandbox(identify=20) as server, session_on(server, limits=Limits(identify=40)) as teak:
        report = await teak.bulk(identifies(60))
        assert report.succeeded == 60
        assert server.seen[IDENTIFY].rate_limited > 0
        assert {player.sessions for player in server.players.values()} == {1}


async def test_a_run_sits_out_an_outage(fast: TeakSession) -> None:
    """While no connection can be had rows wait, and when the server is back they all succeed, each sent once."""
    async with Sandbox() as gone:
        port = int(gone.url.rpartition(":")[2])
    teak = TeakSession(
        gone.game_id, gone.secret_key, base_url=gone.url, limits=FAST, retry=RetryPolicy(max_attempts=2, initial_wait=0.01)
    )
    async with teak, teak.bulk(identifies(50)) as run:
        while run.trouble is None:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.2)
        assert run.report.total == 0
        async with Sandbox(port=port, identify=100_000) as back:
            outcomes = [outcome async for outcome in run]
            assert {player.sessions for player in back.players.values()} == {1}
    assert len(outcomes) == run.report.succeeded == 50
    assert run.retries > 0
    assert run.trouble is None


async def test_outcomes_are_plain_data_and_compare(fast: TeakSession, server: Sandbox) -> None:
    """They go to another process and into JSON, and come back equal."""
    invalid = InvalidRequest("line 3: no", errors={"a": ("b",)})
    rows: list[Request | InvalidRequest] = [Identify("p0", country_code="US"), GetSubscription("nobody"), invalid]
    async with fast.bulk(rows) as run:
        outcomes = [outcome async for outcome in run]
    assert len(outcomes) == 3
    for outcome in outcomes:
        assert pickle.loads(pickle.dumps(outcome)) == outcome  # noqa: S301 - our own
        assert copy.deepcopy(outcome) == outcome
        again = json.loads(json.dumps(outcome.as_dict()))
        assert (again["index"], again["delivery"]) == (outcome.index, outcome.delivery)
        assert ("response" in again, "error" in again) == (outcome.error is None, outcome.error is not None)


async def test_a_run_is_shown_with_its_counts(fast: TeakSession) -> None:
    """It shows how far it is."""
    run = fast.bulk([*identifies(2), InvalidRequest("no row")])
    assert repr(run) == "<BulkRun: not begun, 0 rows ended, 0 failed, 0 in doubt>"
    async with run:
        assert repr(run).startswith("<BulkRun: under way, ")
        async for _ in run:
            pass
    assert repr(run) == "<BulkRun: ended, 3 rows ended, 1 failed, 0 in doubt>"


def test_a_row_is_shown_with_its_request() -> None:
    """As a request is: without an address, and without the text it came from, which may hold one."""
    shown = repr(Row(Identify("p1", country_code="US", email="a@b.c"), "p1,US,a@b.c", 7))
    assert "request=Identify(user_id='p1', client_ip=None, country_code='US'" in shown
    assert "a@b.c" not in shown + repr(Row(GetEmailSubscription("a@b.c"), "a@b.c"))


async def test_misuse_is_explained(fast: TeakSession) -> None:
    """What is no input, iterating before opening, and running twice say what to do."""
    for wrong in (5, b"p1", {"p1": "US"}, bytearray(b"p1"), memoryview(b"p1"), StringIO("p1")):
        with pytest.raises(
            TypeError, match=f"must be an iterable or an async iterable of requests, not {type(wrong).__name__}"
        ):
            fast.bulk(wrong)  # type: ignore[arg-type] # what is refused
    for name in ("players.csv", Path("players.csv")):
        with pytest.raises(TypeError, match="the command teak-async reads files"):
            fast.bulk(name)  # type: ignore[arg-type] # what is refused
    run = fast.bulk(identifies(1))
    with pytest.raises(TypeError, match="async with"):
        aiter(run)
    assert run.report.total == 0
    await run
    with pytest.raises(RuntimeError, match="once"):
        await run


async def test_bulk_and_live_share_the_limit() -> None:
    """Two runs and live calls at once: nothing refused, all done."""
    async with Sandbox(identify=100, subscription=100) as server, session_on(server, limits=Limits(100, 100)) as teak:

        async def live() -> None:
            for number in range(20):
                await teak.identify(f"live{number}", country_code="US")

        reports = await asyncio.gather(teak.bulk(identifies(60)), teak.bulk(identifies(60)), live())
        assert [report.succeeded for report in reports[:2] if report] == [60, 60]
        assert server.seen[IDENTIFY].rate_limited == 0
        assert server.seen[IDENTIFY].busiest <= 100
        assert server.seen[STATUS].requests == 0


class Stubborn:
    """An input that stalls after 20 rows and swallows its cancellation, as `asyncio.wait_for` may, and then takes its time."""

    def __init__(self, then: float) -> None:
        self.swallowed = asyncio.Event()
        self._then = then

    async def rows(self) -> AsyncIterator[Request]:
        for number in count():
            yield Identify(f"p{number}", country_code="US")
            try:
                await asyncio.sleep(3600 if number == 19 else 0)
            except asyncio.CancelledError:
                self.swallowed.set()
                await asyncio.sleep(self._then)


async def leave_early(run: BulkRun) -> None:
    """Leave a run after its twentieth outcome."""
    async with run:
        async for _ in run:
            if run.report.total == 20:
                return


async def test_an_input_that_swallows_its_cancellation(fast: TeakSession, server: Sandbox) -> None:
    """A run is left when such an input gives its next row, which is not sent."""
    async with asyncio.timeout(10):
        await leave_early(fast.bulk(Stubborn(0.01).rows()))
    assert server.seen[IDENTIFY].requests == 20


async def test_an_input_that_never_comes_back(fast: TeakSession) -> None:
    """Where there is no next row, a run that is aborted is left."""
    stubborn = Stubborn(3600)
    leaving = asyncio.create_task(leave_early(fast.bulk(stubborn.rows())))
    async with asyncio.timeout(10):
        await stubborn.swallowed.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving


@pytest.mark.parametrize("group", [True, False])
async def test_a_run_is_a_coroutine(fast: TeakSession, group: bool) -> None:
    """A task and a task group take it as it is; its result is the report, and cancelling the task leaves the run."""
    if group:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(fast.bulk(identifies(20)))
        assert task.result().succeeded == 20
    task = asyncio.create_task(fast.bulk(identifies(20)))
    assert (await task).succeeded == 20
    run = fast.bulk(identifies(20_000))
    task = asyncio.create_task(run)
    while not run.report.succeeded:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert run.report.total == run.report.succeeded + run.report.not_sent


async def test_a_run_that_nobody_starts_is_dropped_in_peace(fast: TeakSession) -> None:
    """Closed or thrown at before its first step, as by a loop that is cancelled, it sends nothing."""
    fast.bulk(identifies(1)).close()
    with pytest.raises(ZeroDivisionError):
        fast.bulk(identifies(1)).throw(ZeroDivisionError())


async def test_an_outcome_names_its_player_and_a_report_the_first_error(teak: TeakSession) -> None:
    """Also of rows that cannot be sent, where the input names the player, and in a run whose outcomes nobody reads."""
    wrong = InvalidRequest("no country")
    rows: list[Request | InvalidRequest | Row] = [
        Identify("p1", country_code="US"),
        Row(wrong, user_id="p2"),
        GetSubscription("p3"),
        wrong,
    ]
    async with teak.bulk(rows) as run:
        outcomes = {outcome.index: outcome async for outcome in run}
    assert [outcomes[index].user_id for index in range(4)] == ["p1", "p2", "p3", None]
    assert run.report.first_error in (wrong, outcomes[2].error)
    report = await teak.bulk([{"user_id": "p1"}])  # type: ignore[list-item] # a slip that is tried
    assert (report.failed, str(report.first_error)) == (
        1,
        "not a request: dict; make an Identify, GetSubscription or another of teak_async.models",
    )
    assert (await teak.bulk([Identify("p1", country_code="US")])).first_error is None
