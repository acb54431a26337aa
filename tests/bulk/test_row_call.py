"""The lead of a bulk run, and what a row writes before it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from teak_async import ConnectFailed, Identify, InvalidRequest
from teak_async._bulk.outcomes import Row
from teak_async._bulk.row_call import IntentSlots, RowCall, RunContext
from teak_async._journal.database import iter_states
from teak_async._journal.journal import Journal


async def taken(lead: IntentSlots) -> int:
    """Take all places that are free."""
    count = 0
    while True:
        taking = asyncio.create_task(lead.acquire())
        await asyncio.sleep(0)
        if not taking.done():
            taking.cancel()
            return count
        count += 1


async def test_a_lead_has_as_many_places_as_said() -> None:
    """Whoever asks for one more place waits for one to be given back, and gets that."""
    lead = IntentSlots(3, 5)
    assert await taken(lead) == 3
    lead.release(written=False)
    assert await taken(lead) == 1


async def test_a_lead_grows_where_sends_wait_for_intents() -> None:
    """A send that leaves no durable intent behind makes a place more, and there are never more than the most."""
    lead = IntentSlots(3, 5)
    await taken(lead)
    for free in (2, 2, 1, 1):
        lead.written()
        lead.release(written=True)
        assert await taken(lead) == free


async def test_a_lead_stays_small_where_intents_wait_for_sends() -> None:
    """While durable intents are left at every send, the places are as many as at first."""
    lead = IntentSlots(3, 5)
    await taken(lead)
    lead.written()
    for _ in range(10):
        lead.written()
        lead.release(written=True)
        assert await taken(lead) == 1


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "run.db", {})
    yield journal
    await journal.close()


def a_hand(journal: Journal | None = None) -> RunContext:
    return RunContext(asyncio.Semaphore(1), None, journal, IntentSlots(1, 1))


def a_row(hand: RunContext) -> RowCall:
    return RowCall(0, Row(Identify("p1", country_code="US")), hand)


async def test_an_intent_is_durable_before_the_send(journal: Journal, tmp_path: Path) -> None:
    """When `write_intent` returns, the file has the intent; a row left after that is waiting again, and its place is free."""
    hand = a_hand(journal)
    call = a_row(hand)
    await call.write_intent()
    await call.write_intent()
    assert [known.state for _, known in iter_states(tmp_path / "run.db")] == ["intent"]
    assert await taken(hand.lead) == 0
    call.error = ConnectFailed("no connection")
    call.retract_intent()
    assert hand.trouble is call.error
    assert await taken(hand.lead) == 1
    await journal.close()
    assert [known.state for _, known in iter_states(tmp_path / "run.db")] == ["waiting"]


async def test_a_place_is_given_back_once(journal: Journal) -> None:
    """A row keeps its place in the lead until its permit, and another permit gives none back."""
    hand = a_hand(journal)
    call = a_row(hand)
    await call.write_intent()
    assert await taken(hand.lead) == 0
    call.release_slots()
    call.release_slots()
    assert await taken(hand.lead) == 1


async def test_room_ahead_is_for_the_first_permit() -> None:
    """Only a player's first row in hand waits for room ahead, and only its first permit makes room."""
    hand = a_hand()
    call = a_row(hand)
    await call.reserve_lookahead()
    assert hand.ahead.locked()
    call.release_slots()
    assert not hand.ahead.locked()
    await hand.ahead.acquire()
    call.release_slots()
    assert hand.ahead.locked()


async def test_without_a_journal_nothing_is_intended() -> None:
    """Such a row takes no place in the lead."""
    hand = a_hand()
    await a_row(hand).write_intent()
    assert await taken(hand.lead) == 1


async def test_a_row_that_asks_for_nothing_is_no_call() -> None:
    """What cannot be sent is told when the row is taken."""
    with pytest.raises(InvalidRequest, match="not a request: InvalidRequest"):
        RowCall(0, Row(InvalidRequest("line 1: no user_id")), a_hand())
