"""How the calls of an input ended, in numbers that add up: one meaning for the progress, the summary and the report. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from attrs import frozen

from teak_async._bulk.outcomes import BulkReport


@frozen
class Counts:
    """The calls of an input by how they ended; most commands make one call of a row.

    Attributes:
        succeeded: those with a response.
        failed: those that certainly were not done, or whose response cannot be understood.
        in_doubt: those that may have been done.
        being_sent: those that a running run may have sent just now.
        not_repeated: of those in doubt, calls that no run makes again by itself, where that is known of each.
        kept: those that were not sent, and that the journal or the run has nevertheless: it read them.
        total: calls of the input; `None` if nobody has counted them.
    """

    succeeded: int
    failed: int
    in_doubt: int
    being_sent: int = 0
    not_repeated: int = 0
    kept: int = 0
    total: int | None = None

    @classmethod
    def of_run(cls, report: BulkReport, total: int | None) -> Self:
        """Return the counts of an input as its run knows them."""
        succeeded, failed = report.succeeded + report.skipped - report.failed_earlier, report.failed + report.failed_earlier
        return cls(succeeded, failed, report.in_doubt, kept=report.not_sent, total=total)

    @classmethod
    def of_journal(cls, states: Mapping[str, int], total: int | None, *, running: bool = False, not_repeated: int = 0) -> Self:
        """Return the counts of a journal's rows by state. An intent is being sent, or in doubt once the run has ended."""
        intents = states.get("intent", 0)
        return cls(
            states.get("succeeded", 0),
            states.get("failed", 0),
            states.get("in_doubt", 0) + (0 if running else intents),
            intents if running else 0,
            not_repeated,
            states.get("not_sent", 0),
            total,
        )

    @property
    def ended(self) -> int:
        """Calls that this run, or one before, has sent or given up."""
        return self.succeeded + self.failed + self.in_doubt + self.being_sent

    @property
    def not_sent(self) -> int:
        """Calls of the input that nobody has sent: all that did not end, or the known ones where the length is not known."""
        return self.kept if self.total is None else max(self.total - self.ended, self.kept)

    @property
    def known(self) -> int:
        """All that are counted: those of the input, or those that were read of it."""
        return self.ended + self.not_sent

    def left(self, *, identify: bool) -> int | None:
        """Count the calls that the next run sends; `None` if the length of the input is not known.

        Args:
            identify: whether they are identifies, which are not sent again when they are in doubt.
        """
        return None if self.total is None else self.not_sent + (0 if identify else self.in_doubt - self.not_repeated)

    def describe_ended(self) -> str:
        """Return the counts in words, without what was not sent."""
        counts = f"{self.succeeded:,} succeeded, {self.failed:,} failed, {self.in_doubt:,} in doubt"
        return f"{counts}{f', {self.being_sent:,} being sent' if self.being_sent else ''}"

    def describe(self) -> str:
        """Return the counts in words."""
        return f"{self.describe_ended()}, {self.not_sent:,} not sent"

    def as_dict(self) -> dict[str, int]:
        """Return those that ended by their names in JSON."""
        names = ("succeeded", "failed", "in_doubt", "being_sent")
        return {name: getattr(self, name) for name in names}
