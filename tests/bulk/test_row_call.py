"""The intent slots of a bulk run, and what a row writes before it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from teak_async import ConnectFailed, Identify, InvalidRequest, Limits
from teak_async._bulk.outcomes import Row
from teak_async._bulk.row_call import MAX_INTENTS, MIN_INTENTS, IntentSlots, RowCall, RunContext, intents_at_first
from teak_async._journal import writer
from teak_async._journal.earlier_run import iter_states
from teak_async._journal.journal import Journal


@pytest.mark.parametrize(
    ("limits", "intents"),
    [
        (Limits(), MIN_INTENTS),
        (Limits(1, 1), MIN_INTENTS),
        (Limits(250, 10_000), 10),
        (Limits(10_000, 500), 20),
        (Limits(1_000, 1_000), 40),
        (Limits(1_000_000, 1_000_000), MAX_INTENTS),
    ],
)
def test_a_higher_limit_has_more_intents_at_first(limits: Limits, intents: int) -> None:
    """As many as are needed while a group is gathered and written; at Teak's limits few, since a kill leaves them in doubt."""
    assert intents_at_first(limits) == intents


def use_all(slots: IntentSlots) -> int:
    """Use all slots that are free."""
    count = 0
    waits = False

    def begin() -> bool:
        nonlocal count
        count += not waits
        return not waits  # the one that waits has left by the time that it is its turn

    before = -1
    while before < count:
        before = count
        slots.use(begin)
    waits = True
    return count


def test_there_are_as_many_slots_as_said() -> None:
    """Whoever asks for one more slot waits until one is released, and gets that."""
    slots = IntentSlots(3, 5)
    assert use_all(slots) == 3
    slots.release(durable=False)
    assert use_all(slots) == 1


def test_rows_get_slots_in_turn() -> None:
    """The first that waits is the first to begin, and one that was left meanwhile passes its turn on."""
    slots = IntentSlots(1, 1)
    begun: list[int] = []

    def begin(row: int, *, left: bool) -> bool:
        begun.append(row)
        return not left

    for row in range(4):
        slots.use(partial(begin, row, left=row == 2))
    assert begun == [0]
    slots.release(durable=False)
    assert begun == [0, 1]
    slots.release(durable=False)
    assert begun == [0, 1, 2, 3]
    slots.use(partial(begin, 4, left=False))
    assert begun == [0, 1, 2, 3]


def test_slots_grow_where_sends_wait_for_intents() -> None:
    """A send that leaves no durable intent behind makes a slot more, says so, and there are never more than the most."""
    slots = IntentSlots(3, 5)
    use_all(slots)
    for free in (2, 2, 1, 1):
        slots.mark_durable()
        assert slots.release(durable=True)
        assert use_all(slots) == free


def test_slots_stay_few_where_intents_wait_for_sends() -> None:
    """While durable intents are left at every send, the slots are as many as at first, and nothing has to hurry."""
    slots = IntentSlots(3, 5)
    use_all(slots)
    slots.mark_durable()
    for _ in range(10):
        slots.mark_durable()
        assert not slots.release(durable=True)
        assert use_all(slots) == 1
    assert not slots.release(durable=False)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "run.db", {})
    yield journal
    await journal.close()


def make_context(journal: Journal | None = None) -> RunContext:
    return RunContext(None, journal, IntentSlots(1, 1))


def make_row(context: RunContext, index: int = 0) -> RowCall:
    return RowCall(index, Row(Identify("p1", country_code="US")), context)


async def intend(row: RowCall) -> None:
    intent = row.write_intent()
    assert intent is not None
    await intent


async def test_an_intent_is_durable_before_the_send(journal: Journal, tmp_path: Path) -> None:
    """Once it is, nothing is written again; a row left after that is waiting again, and its slot is free."""
    context = make_context(journal)
    row = make_row(context)
    await intend(row)
    assert row.write_intent() is None
    assert [known.state for _, known in iter_states(tmp_path / "run.db")] == ["intent"]
    assert use_all(context.slots) == 0
    row.call.error = ConnectFailed("no connection")
    row.retract_intent()
    assert context.trouble is row.call.error
    assert use_all(context.slots) == 1
    await journal.close()
    assert [known.state for _, known in iter_states(tmp_path / "run.db")] == ["not_sent"]


async def test_a_slot_is_released_once(journal: Journal) -> None:
    """A row keeps its place in the lead until its permit, and another permit gives none back."""
    context = make_context(journal)
    row = make_row(context)
    await intend(row)
    assert use_all(context.slots) == 0
    row.release_slot()
    row.release_slot()
    assert use_all(context.slots) == 1


async def test_a_permit_hurries_the_intent_that_the_next_one_waits_for(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its group does not wait for more rows, which come only with more permits."""
    monkeypatch.setattr(writer, "GATHER", 3600)
    context = make_context(journal)
    first, second = make_row(context, 0), make_row(context, 1)
    intent = first.write_intent()
    journal.hurry()
    assert intent is not None
    await intent
    waiting = second.write_intent()
    assert waiting is not None
    first.release_slot()
    await waiting


async def test_a_row_that_is_left_before_its_turn_has_no_intent(journal: Journal, tmp_path: Path) -> None:
    """It was never about to be sent, so nothing of it is in doubt, and the next has its slot."""
    context = make_context(journal)
    rows = [make_row(context, index) for index in range(3)]
    await intend(rows[0])
    left, waiting = rows[1].write_intent(), rows[2].write_intent()
    assert left is not None
    assert waiting is not None
    left.cancel()
    rows[0].release_slot()
    await waiting
    assert [place for place, _ in iter_states(tmp_path / "run.db")] == [(0, 0), (2, 0)]


async def test_without_a_journal_nothing_is_intended() -> None:
    """Such a row takes no place in the lead."""
    context = make_context()
    assert make_row(context).write_intent() is None
    assert use_all(context.slots) == 1


async def test_a_row_that_asks_for_nothing_is_no_call() -> None:
    """What cannot be sent is told when the row is taken."""
    with pytest.raises(InvalidRequest, match="not a request: InvalidRequest"):
        RowCall(0, Row(InvalidRequest("line 1: no user_id")), make_context())
