"""What a run does with a row that an earlier run met: a table of state, effect and whether doubtful rows are sent again."""

from __future__ import annotations

import pytest

from teak_async._api.endpoints import Effect
from teak_async._bulk.resume import Disposition, disposition
from teak_async._journal.row import KnownRow

SEND, RESEND, SKIP, SKIP_FAILED = Disposition.SEND, Disposition.RESEND, Disposition.SKIP, Disposition.SKIP_FAILED
IN_DOUBT, STILL_IN_DOUBT = Disposition.IN_DOUBT, Disposition.STILL_IN_DOUBT
READ, SET, RECORD = Effect.READ, Effect.SET, Effect.RECORD
TABLE = {
    (None, READ): (SEND, SEND),
    (None, SET): (SEND, SEND),
    (None, RECORD): (SEND, SEND),
    (None, None): (SEND, SEND),
    ("not_sent", READ): (SEND, SEND),
    ("not_sent", SET): (SEND, SEND),
    ("not_sent", RECORD): (SEND, SEND),
    ("intent", READ): (SEND, SEND),
    ("intent", SET): (RESEND, RESEND),
    ("intent", RECORD): (IN_DOUBT, RESEND),
    ("in_doubt", READ): (SEND, SEND),
    ("in_doubt", SET): (RESEND, RESEND),
    ("in_doubt", RECORD): (STILL_IN_DOUBT, RESEND),
    ("succeeded", READ): (SKIP, SKIP),
    ("succeeded", SET): (SKIP, SKIP),
    ("succeeded", RECORD): (SKIP, SKIP),
    ("failed", READ): (SKIP_FAILED, SKIP_FAILED),
    ("failed", SET): (SKIP_FAILED, SKIP_FAILED),
    ("failed", RECORD): (SKIP_FAILED, SKIP_FAILED),
    ("failed", None): (SKIP_FAILED, SKIP_FAILED),
}
"""By the state in the journal and the effect of the row, `None` for no state and no request: without and with resending."""


@pytest.mark.parametrize(("state", "effect"), TABLE)
@pytest.mark.parametrize("resend", [False, True])
def test_disposition(state: str | None, effect: Effect | None, resend: bool) -> None:
    """Nothing that may be recorded is sent again, unless it is asked for; what is finished is never sent again."""
    known = None if state is None else KnownRow("digest", state)
    assert disposition(known, effect, resend_in_doubt=resend) is TABLE[state, effect][resend]


@pytest.mark.parametrize("state", ["intent", "in_doubt"])
@pytest.mark.parametrize("resend", [False, True])
def test_what_was_overtaken_is_never_sent_again(state: str, resend: bool) -> None:
    """It would undo what a later row of its player did."""
    assert disposition(KnownRow("digest", state, overtaken=True), SET, resend_in_doubt=resend) is Disposition.OVERTAKEN
