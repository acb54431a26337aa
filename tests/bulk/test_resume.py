"""Runs that are repeated with their journal: what is skipped, sent again, in doubt, or refused."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from support import FAST, identifies, intend_all, internals, rows_of, session_on

from teak_async import (
    ConnectionLost,
    DeadlinePassed,
    Delivery,
    Forbidden,
    Identify,
    InvalidRequest,
    JournalError,
    Limits,
    Outage,
    RetryPolicy,
    Row,
    SetSubscription,
    State,
    SubscriptionChange,
    TeakSession,
)
from teak_async._bulk import resume
from teak_async._journal import tables, writer
from teak_async._journal.row import PARTS, Write, id_of
from teak_async.models import Request
from teak_async.sandbox import GAME_ID, IDENTIFY, STATUS, Sandbox
from teak_async.sandbox.endpoints import Endpoint
from teak_async.sandbox.game import Call


async def test_a_finished_run_is_skipped_when_repeated(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """The same call with the same journal sends nothing twice, and goes on with what is new at the end."""
    first = await fast.bulk(identifies(300), journal=path)
    again = await fast.bulk(identifies(300), journal=path)
    more = await fast.bulk(identifies(350), journal=path)
    assert (first.succeeded, first.skipped) == (300, 0)
    assert (again.total, again.succeeded, again.skipped) == (300, 0, 300)
    assert (more.total, more.succeeded, more.skipped) == (350, 50, 300)
    assert {player.sessions for player in server.players.values()} == {1}
    assert rows_of(path) == [(index, "succeeded") for index in range(350)]


async def test_identifies_cut_off_are_reported_in_doubt(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """An intent without a result may be a session: it is named and not sent, every time, until somebody decides."""
    await intend_all(path, identifies(5))
    for _ in range(2):
        async with fast.bulk(identifies(8), journal=path) as run:
            outcomes = [outcome async for outcome in run]
        doubtful = [outcome for outcome in outcomes if outcome.delivery is Delivery.UNKNOWN]
        assert sorted(outcome.index for outcome in doubtful) == [0, 1, 2, 3, 4]
        assert {type(outcome.error) for outcome in doubtful} == {ConnectionLost}
        assert run.report.in_doubt == 5
        assert run.report.total == 8
    assert set(server.players) == {"p5", "p6", "p7"}
    report = await fast.bulk(identifies(8), journal=path, resend_in_doubt=True)
    assert (report.succeeded, report.skipped, report.in_doubt) == (5, 3, 0)
    assert len(server.players) == 8


async def test_sets_cut_off_are_sent_again(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """What may be repeated is repeated."""
    for number in range(3):
        server.add_player(f"p{number}")
    asked = [SetSubscription(f"p{number}", State.OPT_OUT) for number in range(3)]
    await intend_all(path, iter(asked))
    report = await fast.bulk(asked, journal=path)
    assert report.succeeded == 3
    assert {player.state for player in server.players.values()} == {"opt_out"}


@pytest.mark.parametrize(
    ("again", "options"),
    [
        ("rate_limited", {"retry": RetryPolicy(max_rate_limited=0)}),
        ("forbidden", {"secret_key": "wrong"}),
        ("cut off", {"base_url": "http://127.0.0.1:9", "retry": RetryPolicy(max_attempts=1, outage=0)}),
        ("late", {}),
        ("left", {"base_url": "http://127.0.0.1:9"}),
        ("left before", {"limits": Limits(1, 1)}),
    ],
)
async def test_doubt_outlives_a_resending_that_fails(server: Sandbox, path: Path, again: str, options: dict[str, Any]) -> None:
    """Until an answer says that it was done, an identify that may be a session stays in doubt, however it was sent again."""
    server.fail_next("identify", "response_lost")
    async with session_on(server) as teak:
        assert (await teak.bulk(identifies(1), journal=path)).in_doubt == 1
    if again == "rate_limited":
        server.fail_next("identify", "rate_limited")
    given = {"game_id": server.game_id, "secret_key": server.secret_key, "base_url": server.url, **options}
    async with TeakSession(**given) as teak:
        internals(teak).bucket(IDENTIFY).charge(1 if again == "left before" else 0)
        run = teak.bulk(identifies(1), journal=path, resend_in_doubt=True, deadline=0 if again == "late" else None)
        async with run:
            if again == "left before":
                while not teak.rates[IDENTIFY].waiting_bulk:
                    await asyncio.sleep(0.001)
            elif again == "left":
                while not any(row.call.error for row in run._players._tasks.values()):
                    await asyncio.sleep(0.001)
            else:
                ended = {"forbidden": Forbidden, "cut off": Outage}.get(again)
                with nullcontext() if ended is None else pytest.raises(ended):
                    assert {outcome.delivery async for outcome in run} == {Delivery.UNKNOWN}
    assert run.report.in_doubt == run.report.total == 1
    assert rows_of(path) == [(0, "in_doubt")]
    async with session_on(server) as teak:
        assert (await teak.bulk(identifies(1), journal=path)).in_doubt == 1
        assert server.players["p0"].sessions == 1
        assert (await teak.bulk(identifies(1), journal=path, resend_in_doubt=True)).succeeded == 1


async def test_a_set_cut_off_says_that_it_may_be_repeated(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """What a set of an earlier run may have changed already is marked: the state before it may be our own."""
    server.add_player("p0", state="opt_out")
    asked = SetSubscription("p0", State.OPT_OUT)
    await intend_all(path, iter([asked]))
    async with fast.bulk([asked], journal=path) as run:
        outcomes = [outcome async for outcome in run]
    assert isinstance(outcomes[0].response, SubscriptionChange)
    assert outcomes[0].response.repeated


async def test_a_set_cut_off_ends_with_the_answer_to_its_repetition(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """What may be repeated is not in doubt for ever: the server says what it makes of it now."""
    asked = SetSubscription("nobody", State.OPT_OUT)
    await intend_all(path, iter([asked]))
    async with fast.bulk([asked], journal=path) as run:
        outcomes = [outcome async for outcome in run]
    assert [outcome.delivery for outcome in outcomes] == [Delivery.REJECTED]
    assert rows_of(path) == [(0, "failed")]


async def test_a_set_cut_off_and_too_late_may_have_been_done(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """A deadline that keeps a set from being repeated does not undo it."""
    server.add_player("p0", state="opt_out")
    asked = SetSubscription("p0", State.OPT_OUT)
    await intend_all(path, iter([asked]))
    async with fast.bulk([asked], journal=path, deadline=0) as run:
        outcomes = [outcome async for outcome in run]
    assert [(outcome.delivery, type(outcome.error)) for outcome in outcomes] == [(Delivery.UNKNOWN, DeadlinePassed)]
    assert rows_of(path) == [(0, "in_doubt")]
    assert (await fast.bulk([asked], journal=path)).succeeded == 1


async def test_a_repetition_keeps_why_a_row_is_in_doubt(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """What the server said to it is still there for whoever has to next_wait."""
    server.fail_next("identify", "error_after")
    await fast.bulk(identifies(1), journal=path)
    before = rows_of(path, "*")
    assert (await fast.bulk(identifies(1), journal=path)).in_doubt == 1
    assert rows_of(path, "*") == before


@pytest.mark.parametrize(("channel", "sent"), [("push", 1), ("desktop_push", 0)])
async def test_a_later_set_undoes_those_of_its_channel(
    fast: TeakSession, server: Sandbox, path: Path, channel: str, sent: int
) -> None:
    """A set that may have been done is sent again, unless a later one of the player on the same channel was done."""
    server.add_player("p1")
    asked = [SetSubscription("p1", State.OPT_OUT, channel=channel), SetSubscription("p1", State.OPT_IN)]
    await fast.bulk(asked, journal=path)
    with closing(sqlite3.connect(path)) as journal, journal:
        journal.execute("UPDATE states SET state = 'intent' WHERE id = 0")
    report = await fast.bulk(asked, journal=path)
    assert (report.succeeded, report.in_doubt, report.skipped) == (sent, 1 - sent, 1)
    assert server.players["p1"].state == "opt_in"


async def test_a_set_cut_off_and_left_keeps_its_intent(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """A run that is left before it repeats a set does not say that it was never sent."""
    server.add_player("p0", state="opt_out")
    asked = SetSubscription("p0", State.OPT_OUT)
    await intend_all(path, iter([asked]))
    async with session_on(server, limits=Limits(1, 1)) as teak:
        internals(teak).bucket(STATUS).charge(1)
        async with teak.bulk([asked], journal=path):
            while not teak.rates[STATUS].waiting_bulk:
                await asyncio.sleep(0.001)
    assert rows_of(path) == [(0, "intent")]
    async with fast.bulk([asked], journal=path) as run:
        outcomes = [outcome async for outcome in run]
    assert isinstance(outcomes[0].response, SubscriptionChange)
    assert outcomes[0].response.repeated


@pytest.mark.parametrize(
    ("again", "problem"),
    [
        (lambda: identifies(10), "longer input: 20 rows, and here are 10"),
        (lambda: identifies(21, 1), "another input: row 0"),
        (lambda: [*identifies(19), Identify("other", country_code="US")], "another input: row 19"),
        (lambda: [*identifies(19), "p19"], "another input: row 19"),
    ],
)
async def test_other_input_is_refused_before_anything_is_sent(
    fast: TeakSession, server: Sandbox, path: Path, again: Any, problem: str
) -> None:
    """Not even rows that would have to be sent again go out before all of the earlier input was seen again."""
    await intend_all(path, (SetSubscription(f"q{number}", State.OPT_IN) for number in range(0)))
    await intend_all(path, identifies(20))
    with pytest.raises(JournalError, match=problem):
        await fast.bulk(again(), journal=path, resend_in_doubt=True)
    assert server.seen[IDENTIFY].requests == 0


@pytest.mark.parametrize("bare", [True, False], ids=["requests", "rows"])
@pytest.mark.parametrize("place", [1, 249, 250, 251])
async def test_a_finished_row_that_is_another_one_is_named(
    fast: TeakSession, server: Sandbox, path: Path, place: int, *, bare: bool
) -> None:
    """Wherever it stands among those that are passed over, and in whatever form."""
    await fast.bulk(identifies(260), journal=path)
    other = [*identifies(place), Identify("other", country_code="US"), *identifies(260, place + 1)]
    assert other[place] != list(identifies(260))[place]
    with pytest.raises(JournalError, match=f"another input: row {place} is not what it was; nothing was sent"):
        await fast.bulk(other if bare else map(Row, other), journal=path)
    assert server.seen[IDENTIFY].requests == 260


async def test_finished_rows_are_passed_over_a_turn_at_a_time(fast: TeakSession, path: Path) -> None:
    """The application goes on meanwhile: no turn of the loop passes over more than `TURN` rows."""
    await fast.bulk(identifies(1_300), journal=path)
    passed = Counter[int]()
    turn = 0

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    def requests() -> Iterator[Request]:
        for request in identifies(1_300):
            passed[turn] += 1
            yield request

    counting = asyncio.create_task(count_turns())
    report = await fast.bulk(requests(), journal=path)
    counting.cancel()
    assert (report.skipped, report.succeeded) == (1_300, 0)
    assert max(passed.values()) <= resume.TURN


async def test_a_resumed_run_passes_over_requests_beside_rows_of_parts(fast: TeakSession, server: Sandbox, path: Path) -> None:
    """Each is compared with what the journal has at its own place."""
    requests = list(identifies(7))
    rows: list[Request | Row] = [
        *requests[:2],
        Row(requests[2]),
        Row(requests[3], part=1),
        requests[4],
        Row(requests[5], part=1),
    ]
    first = await fast.bulk(rows, journal=path)
    again = await fast.bulk(rows, journal=path)
    assert (first.succeeded, again.skipped, again.total) == (6, 6, 6)
    for place in (3, 5):
        other = [*rows[:place], Row(requests[6], part=1), *rows[place + 1 :]]
        with pytest.raises(JournalError, match="is not what it was"):
            await fast.bulk(other, journal=path)
    assert {player.sessions for player in server.players.values()} == {1}


async def test_finished_rows_that_are_not_selected_are_not_counted(fast: TeakSession, path: Path) -> None:
    """They only keep their place, as in an input of which a part is chosen."""
    await fast.bulk(identifies(10), journal=path)
    again = await fast.bulk((Row(request, selected=place < 4) for place, request in enumerate(identifies(10))), journal=path)
    assert (again.total, again.skipped) == (4, 4)


async def test_other_input_is_told_apart_with_bounded_memory(
    fast: TeakSession, server: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an earlier run's unfinished rows only so many are held back; what was sent by then is said to be in the journal."""
    await intend_all(path, identifies(50))
    monkeypatch.setattr(resume, "MAX_HELD", 10)
    with pytest.raises(JournalError, match="row 45 is not what it was; what was sent before it is in the journal"):
        await fast.bulk([*identifies(45), *identifies(50, 46)], journal=path, resend_in_doubt=True)
    assert set(server.players) <= {f"p{number}" for number in range(40)}
    report = await fast.bulk(identifies(60), journal=path, resend_in_doubt=True)
    assert (report.total, report.failed, report.in_doubt) == (60, 0, 0)
    assert len(server.players) == 60


async def test_wrong_credentials_finish_no_row(server: Sandbox, path: Path, fast: TeakSession) -> None:
    """Rows refused for the secret's sake are sent when it is right."""
    async with TeakSession(GAME_ID, "wrong-secret", base_url=server.url) as teak:
        with pytest.raises(Forbidden):
            await teak.bulk(identifies(50), journal=path)
    report = await fast.bulk(identifies(50), journal=path)
    assert report.succeeded == 50


async def test_a_deadline_reports_the_rest_as_not_sent(server: Sandbox, path: Path) -> None:
    """After it nothing is sent, every row has an outcome, and a later run sends the rest."""
    async with session_on(server, limits=Limits(100, 100)) as teak:
        async with teak.bulk(identifies(400), journal=path, deadline=0.5) as run:
            outcomes = [outcome async for outcome in run]
        assert len(outcomes) == run.report.total == 400
        late = [outcome for outcome in outcomes if outcome.error is not None]
        assert {type(outcome.error) for outcome in late} == {DeadlinePassed}
        assert {outcome.delivery for outcome in late} == {Delivery.NOT_SENT}
        assert len(server.players) == run.report.succeeded < 150
    async with session_on(server, limits=FAST) as teak:
        report = await teak.bulk(identifies(400), journal=path)
    assert (report.total, report.failed) == (400, 0)
    assert {player.sessions for player in server.players.values()} == {1}
    assert len(server.players) == 400


class Puzzling(Sandbox):
    """Says what no documentation has, of whoever is named `odd`."""

    def _process(self, endpoint: Endpoint, method: str, call: Call) -> tuple[int, dict[str, Any]]:
        status, body = super()._process(endpoint, method, call)
        return status, body | ({"country_code": None} if call.user_id == "odd" else {})


async def test_a_row_that_was_done_is_not_sent_again(path: Path) -> None:
    """An answer that cannot be understood makes a row fail, and its session is one all the same: fed in again it were two."""
    asked: list[Any] = [Identify("odd", country_code="US"), InvalidRequest("line 3: no"), Identify("even", country_code="US")]
    async with Puzzling() as server, session_on(server) as teak:
        first = await teak.bulk(asked, journal=path)
        again = await teak.bulk(asked, journal=path)
        assert server.players["odd"].sessions == 1
    assert (first.succeeded, first.failed, first.failed_earlier) == (1, 2, 0)
    assert (again.skipped, again.failed, again.failed_earlier) == (3, 0, 2)
    assert rows_of(path, "state, delivery") == [("failed", "done"), ("failed", "not_sent"), ("succeeded", "done")]


async def test_a_resumed_run_counts_what_was_just_sent(path: Path) -> None:
    """Killed and started again within a second, a run does not send two seconds' worth in one."""
    async with Sandbox(identify=100) as server:
        for count in (60, 120):
            async with session_on(server, limits=Limits(identify=100)) as teak:
                await teak.bulk(identifies(count), journal=path)
        assert server.seen[IDENTIFY].rate_limited == 0
        assert server.seen[IDENTIFY].busiest <= 100


@pytest.mark.parametrize("parts", [(1,), (0, 2), (0, 1, 1), (0, -1)])
async def test_parts_of_a_row_count_from_0(fast: TeakSession, server: Sandbox, path: Path, parts: tuple[int, ...]) -> None:
    """A journal knows a call by row and part, so two with one part would take each other's state."""
    rows = [Row(Identify(f"p{number}", country_code="US"), part=part) for number, part in enumerate(parts)]
    for _ in (1, 2):
        with pytest.raises(ValueError, match=r"a Row with part=.* parts count 0, 1, 2"):
            await fast.bulk(rows, journal=path)
    assert all(player.sessions == 1 for player in server.players.values())


def test_a_row_has_so_many_parts_at_most() -> None:
    """A part more would be the next row's first for the journal."""
    last = Row(Identify("p", country_code="US"), part=PARTS - 1)
    assert resume._next_part(last, 0, PARTS - 2) == PARTS - 1
    assert id_of(0, PARTS - 1) < id_of(1)
    with pytest.raises(ValueError, match=r"row 0 has more than 1,048,576 parts: give the rest as another row"):
        resume._next_part(evolve(last, part=PARTS), 0, PARTS - 1)


async def test_what_a_row_asks_is_written_once_a_run(fast: TeakSession, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its intent, or with its end where it has none."""
    new: dict[int, list[bool]] = {}

    def note(connection: sqlite3.Connection, rows: list[Write], at: float) -> None:
        for row in rows:
            new.setdefault(row.id, []).append(row.row is not None)
        tables.write(connection, rows, at)

    monkeypatch.setattr(writer, "write", note)
    bad = Row(InvalidRequest("no row"))
    await fast.bulk([Row(Identify("p0", country_code="US")), bad, Row(Identify("p2", country_code="US"))], journal=path)
    assert new == {id_of(0): [True, False], id_of(1): [True], id_of(2): [True, False]}
