"""The rows of a bulk run that can be sent: calls whose intents are in the journal shortly before they are sent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from attrs import define, field, frozen

from teak_async._api.structure import as_json
from teak_async._client.call import Call
from teak_async._client.deadline import DueTime
from teak_async._journal.journal import Journal
from teak_async._journal.row import INTENT, JournalRow, RowState, Write, id_of
from teak_async._limits.bucket import Lane
from teak_async._limits.session_limits import Limits
from teak_async.errors import ConnectionLost, Delivery, InvalidRequest, JournalError, TeakError
from teak_async.models import Request, Response

from .outcomes import Outcome, Row

if TYPE_CHECKING:
    from .hand import Player

MIN_INTENTS = 8
"""Rows with an intent and no permit at first, where the limit is no higher than Teak's."""
INTENT_SECONDS = 0.04
"""Seconds of a higher limit for which rows have an intent at first: as long as a group is gathered and written."""
MAX_INTENTS = 78
"""Rows with an intent and no permit at most. As many results come into a group with them. Fewer make more groups, each with one
or two sleeps of the event loop and some seven of the thread. More make a row no cheaper, and a kill leaves them in doubt."""


class IntentSlots:
    """Slots for rows with a written intent and no permit: after a kill these are in doubt, so they are few. Pure.

    Rows get them in turn. A slot is added each time that rows have to wait for their intents: on a slow disk, at a high limit,
    or behind a slow input.

    Args:
        least: slots at first.
        most: slots at most.
    """

    def __init__(self, least: int = MIN_INTENTS, most: int = MAX_INTENTS) -> None:
        self._size = self._free = least
        self._most = most
        self._waiting: deque[Callable[[], bool]] = deque()
        self._durable = 0

    def use(self, begin: Callable[[], bool]) -> None:
        """Call `begin` when it is its turn for a slot; where it says that it took it, exactly one `release` has to follow."""
        if self._free:
            self._free -= begin()
        else:
            self._waiting.append(begin)

    def mark_durable(self) -> None:
        """Count a row with a durable intent that waits for its permit."""
        self._durable += 1

    def release(self, *, durable: bool) -> bool:
        """Release a slot: the row has its permit, or is left. Return whether the next permit has to wait for an intent."""
        self._free += 1
        self._durable -= durable
        waits = durable and not self._durable
        if waits and self._size < self._most:
            # One by one, since it never shrinks: doubling at each delay of the disk left twice as many rows in doubt.
            self._size += 1
            self._free += 1
        while self._free and self._waiting:
            self._free -= self._waiting.popleft()()
        return waits


def intents_at_first(limits: Limits) -> int:
    """Return how many rows of a run have an intent and no permit at first, by the lower limit of the paths of large runs."""
    return max(MIN_INTENTS, min(int(INTENT_SECONDS * min(limits.identify, limits.subscription)), MAX_INTENTS))


@define
class RunContext:
    """What the rows of one run have in common.

    Attributes:
        deadline: after which nothing is sent any more.
        journal: the journal; `None` for a run without one.
        slots: for rows with an intent and no permit.
        trouble: why a row was last retried, or left; `None` again when a row ends.
        whole: whether every row of the input that was read so far is selected.
    """

    deadline: DueTime | None
    journal: Journal | None = None
    slots: IntentSlots = field(factory=IntentSlots)
    trouble: TeakError | None = None
    whole: bool = True


class RowCall:
    """A row that can be sent, and its call.

    Args:
        index: the row's place in the input, from 0.
        row: the row.
        context: what it has in common with the others.

    Attributes:
        player: whose rows this one is sent with; `None` for a row that is not sent.
        on_permit: called with the row when it has its permit; says whether to go on.
        probe: whether its attempt is to show that the server is back.
        journal_row: what it asks, for the journal; `None` without one, and from its intent on.
        user_id: the player; `None` where nobody knows.

    Raises:
        InvalidRequest: when the row's request cannot be sent.
    """

    __slots__ = (
        "_context",
        "_durable",
        "_has_slot",
        "_intended",
        "_intent",
        "call",
        "index",
        "journal_row",
        "line",
        "on_permit",
        "part",
        "player",
        "probe",
        "user_id",
    )
    on_permit: Callable[[RowCall], bool]
    probe: bool

    def __init__(self, index: int, row: Row, context: RunContext) -> None:
        self.call = Call(cast(Request, row.request), Lane.BULK, context.deadline)
        self.index = index
        self.line = row.line
        self.part = row.part
        self.user_id: str | None = getattr(row.request, "user_id", row.user_id)
        self.journal_row: JournalRow | None = None
        if context.journal is not None:
            self.journal_row = JournalRow.of(index, self.call.request, row.source, row.line, part=row.part)
        self._context = context
        self.player: Player | None = None
        self._intent: asyncio.Future[None] | None = None
        self._intended = self._has_slot = self._durable = False

    @property
    def journal_id(self) -> int:
        """By which the journal knows it."""
        return id_of(self.index, self.part)

    @property
    def attempts(self) -> int:
        """Attempts so far."""
        return self.call.attempts

    @property
    def pauses(self) -> int:
        """Attempts so far that were rate-limited."""
        return self.call.rate_limited

    @property
    def first_error(self) -> TeakError | None:
        """How the first attempt that failed ended."""
        return self.call.first_error

    def write_intent(self) -> asyncio.Future[None] | None:
        """Have it written that the row is about to be sent; return a future of that, or `None` where it need not be."""
        journal = self._context.journal
        if journal is None or self._intended:
            return None
        self._intent = journal.loop.create_future()
        self._context.slots.use(self._begin_intent)
        return self._intent

    def _begin_intent(self) -> bool:
        journal, intent = self._context.journal, self._intent
        if journal is None or intent is None or intent.done():
            return False  # it was left while it waited for the slot
        journal.write(Write(self.journal_id, INTENT, self.journal_row, RowCall._end_intent, self))
        self._intended = self._has_slot = True
        self.journal_row = None  # else it would stay in memory until the row has ended
        return True

    def _end_intent(self, failure: JournalError | None) -> None:
        if self._has_slot:
            self._context.slots.mark_durable()
            self._durable = True
        intent, self._intent = self._intent, None
        if intent is None or intent.done():
            return
        if failure is None:
            intent.set_result(None)
        else:
            intent.set_exception(failure)

    def take_permit(self) -> bool:
        """Say whether to go on with the permit."""
        return self.on_permit(self)

    def release_slot(self) -> None:
        """Make room for other rows: this one has its permit, or is left."""
        if self._has_slot:
            waits = self._context.slots.release(durable=self._durable)
            self._has_slot = self._durable = False
            if waits and self._context.journal is not None:
                self._context.journal.hurry()

    def retract_intent(self) -> None:
        """Write that the row was certainly not done, and may be sent by another attempt or a later run."""
        self.release_slot()
        self._context.trouble = self.call.error
        # An intent of an earlier run stays: that one may have sent it.
        if self._context.journal is not None and self._intended and not self.call.resent:
            self._intended = False
            self._context.journal.write(Write(self.journal_id, RowState.of("not_sent", error=self.call.error), None))


@frozen
class InvalidRow:
    """A row without a request that can be sent."""

    index: int
    part: int
    line: int
    error: InvalidRequest
    journal_row: JournalRow | None
    user_id: str | None = None
    attempts: int = 0
    pauses: int = 0
    first_error: TeakError | None = None
    player: None = None

    @property
    def journal_id(self) -> int:
        """By which the journal knows it."""
        return id_of(self.index, self.part)


def outcome_of(row: RowCall | InvalidRow, response: Response | None, error: TeakError | None) -> Outcome:
    """Return how a row ended."""
    delivery = Delivery.DONE if error is None else error.delivery
    request, resent = (row.call.request, row.call.resent) if isinstance(row, RowCall) else (None, False)
    how = response, error, delivery, row.attempts
    return Outcome(row.index, request, *how, row.line, False, row.user_id, resent, row.part)


def result_of(row: RowCall | InvalidRow, outcome: Outcome) -> RowState:
    """Return the state for the journal of a row that has its outcome."""
    return RowState.of(
        outcome.state,
        attempts=row.attempts,
        pauses=row.pauses,
        delivery=outcome.delivery.value,
        first_error=row.first_error,
        error=outcome.error,
        response=None if outcome.response is None else as_json(outcome.response),
    )


def in_doubt_error(why_not_again: str = "") -> ConnectionLost:
    """Return the error of a row that an earlier run may have sent, and that is not sent now."""
    return ConnectionLost(f"an earlier run ended without knowing whether this was done{why_not_again}")
