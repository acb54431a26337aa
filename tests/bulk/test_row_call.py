"""The intent slots of a bulk run, and what a row writes before it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from teak_async import ConnectFailed, Identify, InvalidRequest
from teak_async._bulk.outcomes import Row
from teak_async._bulk.row_call import IntentSlots, RowCall, RunContext
from teak_async._journal.earlier_run import iter_states
from teak_async._journal.journal import Journal


async def acquire_all(slots: IntentSlots) -> int:
    """Acquire all slots that are free."""
    count = 0
    while True:
        taking = asyncio.create_task(slots.acquire())
        await asyncio.sleep(0)
        if not taking.done():
            taking.cancel()
            return count
        count += 1


async def test_there_are_as_many_slots_as_said() -> None:
    """Whoever asks for one more place waits for one to be given back, and gets that."""
    slots = IntentSlots(3, 5)
    assert await acquire_all(slots) == 3
    slots.release(durable=False)
    assert await acquire_all(slots) == 1


async def test_slots_grow_where_sends_wait_for_intents() -> None:
    """A send that leaves no durable intent behind makes a place more, and there are never more than the most."""
    slots = IntentSlots(3, 5)
    await acquire_all(slots)
    for free in (2, 2, 1, 1):
        slots.mark_durable()
        slots.release(durable=True)
        assert await acquire_all(slots) == free


async def test_slots_stay_few_where_intents_wait_for_sends() -> None:
    """While durable intents are left at every send, the places are as many as at first."""
    slots = IntentSlots(3, 5)
    await acquire_all(slots)
    slots.mark_durable()
    for _ in range(10):
        slots.mark_durable()
        slots.release(durable=True)
        assert await acquire_all(slots) == 1


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "run.db", {})
    yield journal
    await journal.close()


def make_context(journal: Journal | None = None) -> RunContext:
    return RunContext(None, journal, IntentSlots(1, 1))


def make_row(context: RunContext) -> RowCall:
    return RowCall(0, Row(Identify("p1", country_code="US")), context)


async def test_an_intent_is_durable_before_the_send(journal: Journal, tmp_path: Path) -> None:
    """When `write_intent` returns, the file has the intent; a row left after that is waiting again, and its place is free."""
    context = make_context(journal)
    row = make_row(context)
    await row.write_intent()
    await row.write_intent()
    assert [known.state for _, known in iter_states(tmp_path / "run.db")] == ["intent"]
    assert await acquire_all(context.slots) == 0
    row.call.error = ConnectFailed("no connection")
    row.retract_intent()
    assert context.trouble is row.call.error
    assert await acquire_all(context.slots) == 1
    await journal.close()
    assert [known.state for _, known in iter_states(tmp_path / "run.db")] == ["not_sent"]


async def test_a_slot_is_released_once(journal: Journal) -> None:
    """A row keeps its place in the lead until its permit, and another permit gives none back."""
    context = make_context(journal)
    row = make_row(context)
    await row.write_intent()
    assert await acquire_all(context.slots) == 0
    row.release_slot()
    row.release_slot()
    assert await acquire_all(context.slots) == 1


async def test_without_a_journal_nothing_is_intended() -> None:
    """Such a row takes no place in the lead."""
    context = make_context()
    await make_row(context).write_intent()
    assert await acquire_all(context.slots) == 1


async def test_a_row_that_asks_for_nothing_is_no_call() -> None:
    """What cannot be sent is told when the row is taken."""
    with pytest.raises(InvalidRequest, match="not a request: InvalidRequest"):
        RowCall(0, Row(InvalidRequest("line 1: no user_id")), make_context())
