"""Which calls in doubt a resumed run makes again, by what was done for their player since."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import ABOUT, write_durably

from teak_async import (
    ClearDeliveryFault,
    CreateExclusion,
    DeleteExclusion,
    GetSubscription,
    Identify,
    RemoveEmailAddress,
    RemovePlayer,
    Request,
    SetCategorySubscription,
    SetEmailAddress,
    SetEmailCategorySubscription,
    SetEmailSubscription,
    SetSubscription,
)
from teak_async._journal.earlier_run import CHANGES, iter_states
from teak_async._journal.journal import Journal
from teak_async._journal.row import JournalRow, RowState

OUT, OFF = SetSubscription("p1", "opt_out"), SetSubscription("p1", "opt_out", channel="push")
SALES, EVENTS = (SetCategorySubscription("p1", name, "opt_out") for name in ("sales", "events"))
MAIL, BLOCKED, EXCLUDED, REMOVED = "p@example.com", CreateExclusion("p1"), DeleteExclusion("p1"), RemovePlayer("p1")
SESSION = Identify("p1", country_code="US")


@pytest.mark.parametrize(
    ("doubtful", "later", "overtaken"),
    [
        (OUT, SetSubscription("p1", "opt_in"), True),
        (OUT, OFF, False),
        (OUT, SALES, False),
        (OUT, SESSION, False),
        (OUT, SetSubscription("p2", "opt_in"), False),
        (SALES, SetCategorySubscription("p1", "sales", "opt_in"), True),
        (SALES, EVENTS, False),
        (SALES, SetCategorySubscription("p1", "sales", "opt_in", channel="push"), False),
        (SetEmailSubscription(MAIL, "opt_out"), SetEmailSubscription(MAIL.upper(), "opt_in"), True),
        (SetEmailSubscription(MAIL, "opt_out"), SetEmailCategorySubscription(MAIL, "sales", "opt_in"), False),
        (ClearDeliveryFault(MAIL), SetEmailSubscription(MAIL, "opt_in"), False),
        (ClearDeliveryFault(MAIL), ClearDeliveryFault(MAIL), True),
        (SetEmailAddress("p1", MAIL), RemoveEmailAddress("p1"), True),
        (SetEmailAddress("p1", MAIL), SESSION, True),
        (SESSION, SetEmailAddress("p1", MAIL), False),
        (SESSION, SESSION, False),
        (SESSION, REMOVED, True),
        (BLOCKED, EXCLUDED, True),
        (BLOCKED, OUT, False),
        # The data of a player who is there again must not be lost; and a removed one's states are no new player's.
        (REMOVED, SESSION, True),
        (REMOVED, BLOCKED, True),
        (REMOVED, GetSubscription("p1"), False),
        (OUT, REMOVED, True),
    ],
    ids=repr,
)
async def test_what_a_later_call_overtakes(path: Path, doubtful: Request, later: Request, *, overtaken: bool) -> None:
    """A call is made again unless that would undo what was done since; the earlier of two in doubt is made again."""
    journal = await Journal.open(path, ABOUT)
    for index, (request, state) in enumerate([(later, "succeeded"), (doubtful, "in_doubt"), (doubtful, "intent")]):
        await write_durably(journal, JournalRow.of(index, request, None), RowState.of(state))
    await journal.close()
    assert not any(known.overtaken for _, known in iter_states(path))
    journal = await Journal.open(path, ABOUT)
    await write_durably(journal, JournalRow.of(3, later, None), RowState.of("failed", delivery="done"))
    await journal.close()
    assert [known.overtaken for _, known in iter_states(path)] == [False, overtaken, overtaken, False]


def test_every_set_has_a_target() -> None:
    """Else two sets of a new endpoint would count as of different things."""
    assert all((endpoint.target != "") == (endpoint.effect.name == "SET") for endpoint in CHANGES.values())
