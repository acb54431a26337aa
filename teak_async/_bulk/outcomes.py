"""What goes into a bulk run and what comes out of it: rows, outcomes, the report."""

from __future__ import annotations

import time
from typing import Any

from attrs import define, field, frozen

from teak_async._api.structure import unstructure
from teak_async._journal.database import describe_time
from teak_async.errors import DeadlinePassed, Delivery, InvalidRequest, TeakError
from teak_async.models import AddressRequest, Request, Response


@frozen
class Row:
    """A request and the text it came from, for runs whose journal should give failed rows back as they were.

    Attributes:
        request: what is asked, or what is wrong with the row.
        source: the row as it stood in the input; the request as JSON when `None`.
        line: its line's number in the input, from 1; 0 where there are no lines.
        user_id: the player, where the request names none: it cannot be sent, or is about an address. `None` where nobody knows.
        part: the place of this call among those of one row of the input, from 0; those from 1 on follow the first.
        selected: whether it is to be sent; a row that is not has its place in the journal's order all the same.
    """

    request: Request | InvalidRequest
    source: str | None = field(default=None, repr=False)
    line: int = 0
    selected: bool = True
    user_id: str | None = None
    part: int = 0


@frozen
class FinishedRows:
    """Rows of the input that the journal of an earlier run has as they stand, and as finished.

    Attributes:
        count: how many, one after the other.
        skipped: how many calls of them are selected.
        failed: how many of the selected ones failed.
        selected: whether all of them are selected.
    """

    count: int
    skipped: int
    failed: int
    selected: bool = True


REST_LEFT = Row(InvalidRequest("the rest of the input is left"), selected=False)
"""What a source gives last when its input goes on behind the last selected row."""


@frozen
class Outcome:
    """How one row ended.

    Attributes:
        index: the row's place in the input, from 0.
        request: what was asked; `None` where the row could not be read.
        response: what the server said, when it succeeded.
        error: why it failed, otherwise.
        delivery: what became of it at the server.
        attempts: how many attempts this run made, rate-limited ones included.
        line: the number of its line in the input, from 1; 0 where there are no lines.
        user_id: the player; `None` where nobody knows.
        known: whether an earlier run of the journal ended this row in the same way, so that its results have it already.
        part: the place of the call among those of its row, from 0.
        resent: whether an earlier run of the journal may have sent it, too.
        at: when it ended, in seconds of Unix time.
    """

    index: int
    request: Request | None
    response: Response | None
    error: TeakError | None
    delivery: Delivery
    attempts: int
    line: int = 0
    known: bool = False
    user_id: str | None = None
    resent: bool = False
    part: int = 0
    at: float = field(factory=time.time, eq=False)

    @property
    def state(self) -> str:
        """Which count of the report it belongs to: `succeeded`, `failed`, `in_doubt` or `not_sent`."""
        if self.error is None:
            return "succeeded"
        if self.delivery is Delivery.UNKNOWN:
            return "in_doubt"
        return "not_sent" if isinstance(self.error, DeadlinePassed) else "failed"

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, ready for JSON: what a command writes for a row."""
        plain: dict[str, Any] = {"index": self.index, "line": self.line, "state": self.state}
        plain |= {"part": self.part} if self.part else {}
        plain |= {} if self.user_id is None else {"user_id": self.user_id}
        plain |= {} if self.request is None else _named(self.request)
        plain |= {"delivery": self.delivery.value, "attempts": self.attempts, "at": describe_time(self.at)}
        if self.resent:
            plain["resent"] = True
        if self.response is not None:
            plain["response"] = unstructure(self.response)
        if self.error is not None:
            error: dict[str, Any] = {"type": type(self.error).__name__, "message": str(self.error)}
            if self.error.status is not None:
                error["status"] = self.error.status
            if isinstance(self.error, InvalidRequest) and self.error.errors:
                error["errors"] = self.error.errors
            plain["error"] = error
        return plain


@frozen
class BulkReport:
    """The count of a run. `succeeded + failed + in_doubt + skipped + not_sent == total`, always.

    Figures that are left out are 0, as for a double in a test.

    Attributes:
        total: rows that were read and accounted for: the sum of the next five.
        succeeded: rows with a response.
        failed: rows with an error that says that they were not done, or were done without a response that can be read.
        in_doubt: rows that end `UNKNOWN`.
        skipped: rows finished in an earlier run; they have no outcome.
        not_sent: rows that were read, and that a deadline, an outage or a stop left unsent; a resumed run sends them.
        failed_earlier: of `skipped`, rows that failed there.
        sent: rows that ended after at least one attempt.
        elapsed: seconds from the first row that was not skipped to the end of the run, or to now.
        rate: `sent` per second, on average; above the limit in a run of a second or two, since permits may burst.
        first_error: the error of the first row that ended without success in this run; `None` while there is none.
    """

    total: int = 0
    succeeded: int = 0
    failed: int = 0
    in_doubt: int = 0
    skipped: int = 0
    not_sent: int = 0
    failed_earlier: int = 0
    sent: int = 0
    elapsed: float = 0.0
    rate: float = 0.0
    first_error: TeakError | None = None


@define
class Tally:
    """Counts the rows of a run as they end. Instants are of the loop's clock; 0 before they come.

    Attributes:
        began: when the first row was started that was not skipped.
        ended: when the run ended.
        retries: attempts beyond the first of each row.
        first_error: how the first row ended that did not succeed.
    """

    succeeded: int = 0
    failed: int = 0
    in_doubt: int = 0
    skipped: int = 0
    not_sent: int = 0
    failed_earlier: int = 0
    sent: int = 0
    retries: int = 0
    began: float = 0.0
    ended: float = 0.0
    first_error: TeakError | None = None

    def add(self, outcome: Outcome) -> None:
        """Count a row that ended."""
        state = outcome.state
        setattr(self, state, getattr(self, state) + 1)
        self.sent += outcome.attempts > 0
        self.retries += max(outcome.attempts - 1, 0)
        self.first_error = self.first_error or outcome.error

    def skip(self, rows: FinishedRows) -> None:
        """Count rows that an earlier run finished."""
        self.skipped += rows.skipped
        self.failed_earlier += rows.failed

    def report(self, now: float) -> BulkReport:
        """Return the count so far."""
        elapsed = (self.ended or now) - self.began if self.began else 0.0
        return BulkReport(
            total=self.succeeded + self.failed + self.in_doubt + self.skipped + self.not_sent,
            succeeded=self.succeeded,
            failed=self.failed,
            in_doubt=self.in_doubt,
            skipped=self.skipped,
            not_sent=self.not_sent,
            failed_earlier=self.failed_earlier,
            sent=self.sent,
            elapsed=elapsed,
            rate=self.sent / elapsed if elapsed > 0 else 0.0,
            first_error=self.first_error,
        )


def _named(request: Request) -> dict[str, str]:
    """Name what a request is about beside the player: an address, and the channel."""
    names = ("email", "channel") if isinstance(request, AddressRequest) else ("channel",)
    return {name: str(getattr(request, name)) for name in names if hasattr(request, name)}
