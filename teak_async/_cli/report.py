"""The command `report`: what a journal says of its run, in words, as JSON, and as a picture; and the story of a row."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import asdict, frozen
from rich.console import Console
from rich.text import Text

from teak_async._journal.database import JournalSummary, describe_time, read_summary
from teak_async._journal.history import PastRow, is_in_use, read_seconds

from .errors import InputError
from .failures import read_reasons, why
from .pace import Seconds, describe_pace, find_pauses
from .reasons import Reasons
from .summary import count_left, count_rows, doubt_hint, resume_hint, retry_hint

STATES: Mapping[str, str] = {
    "succeeded": "succeeded",
    "failed": "failed",
    "in_doubt": "in doubt",
    "intent": "being sent, or cut off there",
    "not_sent": "not sent",
}
"""The states of a journal's rows, as `report --json` and the text name them."""
PICTURE_WIDTH = 110
"""Columns of the picture."""


@frozen
class RunReport:
    """All that a journal says of its run."""

    journal: Path
    record: JournalSummary
    reasons: Reasons
    seconds: Seconds
    running: bool

    @property
    def total(self) -> int:
        """Rows that the journal has."""
        return sum(self.record.states.values())

    @property
    def length(self) -> int | None:
        """Rows of the input, where they were counted."""
        return int(text) if (text := self.record.about.get("length", "")) else None

    @property
    def left(self) -> int | None:
        """Rows that the next run sends, where it is known how many there are."""
        return count_left(self.length, self.record.states, identify=self.identifies)

    @property
    def identifies(self) -> bool:
        """Whether a repetition would do harm."""
        return self.record.about.get("command") == "identify"

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, ready for JSON."""
        counts = {state: self.record.states.get(state, 0) for state in STATES}
        about = {**self.record.about, "length": self.length, "last_written": self.record.last_written, "running": self.running}
        why = {"reasons": self.reasons.as_list(), "pauses": [pause.as_dict() for pause in find_pauses(self.seconds)]}
        return {**about, "total": self.total, **counts, "failed_done": self.record.failed_done, "left": self.left, **why}

    def lines(self) -> list[str]:
        """Put it into words."""
        about, states = self.record.about, self.record.states
        server = f" at {about['server']}" if "server" in about else ""
        file = f" of {about['file']}" if "file" in about else ""
        length = "" if self.length is None else f" ({count_rows(self.length)})"
        written = f", last written {self.record.last_written}" if self.record.last_written else ""
        member = f", as {about['member']}" if "member" in about else ""
        lines = [
            f"{about.get('command', 'bulk run')} for game {about.get('game_id')}{server}{file}{length}",
            f"begun {about.get('created')}{written}; {f'running{member}' if self.running else 'not running'}",
            f"{self.total:,} rows read:",
        ]
        for state, words in STATES.items():
            lines.append(f"  {states.get(state, 0):>9,} {words}")
            if state == "failed" and self.record.failed_done:
                lines.append(f"  {self.record.failed_done:>9,}   of which were done, with a response that cannot be understood")
        reasons = self.reasons.lines()
        lines += ["why:", *reasons] if reasons else []
        if self.left:
            how = "the run goes on" if self.running else resume_hint(self.journal)
            lines.append(f"left to do: {self.left:,} of {count_rows(self.length or 0)}; {how}")
        elif self.left is None and not self.running:
            lines.append(f"left to do: what is behind these rows, if anything; {resume_hint(self.journal)}")
        if states.get("failed", 0) > self.record.failed_done:
            lines.append(f"the failed rows are not sent again: {retry_hint(self.journal)}")
        if self.identifies and not self.running and states.get("in_doubt", 0) + states.get("intent", 0):
            lines.append(doubt_hint(self.journal))
        return lines + describe_pace(self.seconds)


def read_report(journal: Path) -> RunReport:
    """Read a journal.

    Raises:
        JournalError: when it is none.
    """
    running = is_in_use(journal)  # first: a run that ends meanwhile has written all that is read below
    return RunReport(journal, read_summary(journal), read_reasons(journal, running=running), read_seconds(journal), running)


def save_picture(report: RunReport, path: Path) -> None:
    """Save what the terminal shows as an SVG.

    Raises:
        InputError: when it cannot be written.
    """
    console = Console(record=True, file=io.StringIO(), width=PICTURE_WIDTH, highlight=False)
    for line in report.lines():
        console.print(Text(line))
    try:
        console.save_svg(str(path), title=f"teak-async report {report.journal.name}")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def tell_story(row: PastRow) -> str:
    """Put all that a journal knows of a row into words."""
    where = f"line {row.line:,} (row {row.row:,})" if row.line else f"row {row.row:,}"
    whom = f"{row.call} of {row.user_id}" if row.call else "cannot be sent"
    limited = f", {row.pauses:,} of them rate-limited" if row.pauses else ""
    delivery = f", delivery {row.delivery}" if row.delivery else ""
    source = row.source.decode(errors="replace") if isinstance(row.source, bytes) else row.source
    reason = why(row)
    first = row.first_error if row.first_error != reason else None
    details = [
        ("first failure", first),
        ("why", reason),
        ("response", row.response),
        ("as it stood in the input", source),
    ]
    return "\n".join(
        [
            f"{where}: {whom}: {STATES[row.state]}{delivery}",
            f"  attempts: {row.attempts:,}{limited}; last written {describe_time(row.at)}",
            *(f"  {name}: {text}" for name, text in details if text),
        ]
    )


def story_as_dict(row: PastRow) -> dict[str, Any]:
    """Return all that a journal knows of a row as plain data, ready for JSON."""
    source = row.source.decode(errors="replace") if isinstance(row.source, bytes) else row.source
    return {**asdict(row), "source": source, "at": describe_time(row.at)}
