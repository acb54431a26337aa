"""The command `report`: what a journal has on its run, as text, JSON or a picture, and the story of a row."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen
from rich.console import Console
from rich.text import Text

from teak_async._journal.database import JournalSummary, describe_time, read_summary
from teak_async._journal.history import PastRow, is_in_use, read_seconds

from .errors import InputError, describe_refusal
from .failures import read_reasons, state_of, why
from .pace import Seconds, describe_pace, find_pauses
from .reasons import Reasons, split_error
from .summary import count_left, count_rows, doubt_hint, resume_hint, retry_hint

COUNTS = ("succeeded", "failed", "failed_but_done", "in_doubt", "being_sent", "not_sent")
"""The counts of `report`, by their names in JSON. The text writes spaces in place of the underscores."""
ONLY_IF_ANY = {"failed_but_done": ", counted above: the responses cannot be understood", "being_sent": ""}
"""The counts that the text leaves out when they are 0, each with its explanation in the text."""
PICTURE_WIDTH = 110
"""Columns of the picture."""


@frozen
class RunReport:
    """All that a journal has on its run."""

    journal: Path
    summary: JournalSummary
    reasons: Reasons
    seconds: Seconds
    running: bool

    @property
    def counts(self) -> Mapping[str, int]:
        """The rows that were read, by state, and how many of the failed ones were done."""
        counts: dict[str, int] = dict.fromkeys(COUNTS, 0)
        for state, count in self.summary.states.items():
            counts[state_of(state, running=self.running)] += count
        return {**counts, "failed_but_done": self.summary.failed_done}

    @property
    def unit(self) -> str:
        """What the counts count: `row`, or `call` where a row may be several."""
        return "call" if "calls" in self.summary.about else "row"

    @property
    def read(self) -> int:
        """Rows or calls that the journal has."""
        return sum(self.summary.states.values())

    @property
    def total(self) -> int | None:
        """Rows or calls of the input; `None` if the run did not count them."""
        return int(text) if (text := self.summary.about.get(f"{self.unit}s", "")) else None

    @property
    def left(self) -> int | None:
        """Rows or calls that the next run sends; `None` if the total is not known."""
        return count_left(self.total, self.counts, identify=self.identifies)

    @property
    def identifies(self) -> bool:
        """Whether the calls are identifies, which count twice when they are sent twice."""
        return self.summary.about.get("command") == "identify"

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, ready for JSON."""
        about = {**self.summary.about, f"{self.unit}s": self.total}
        now = {"last_written": self.summary.last_written, "running": self.running}
        why = {"reasons": self.reasons.as_list(), "pauses": [pause.as_dict() for pause in find_pauses(self.seconds)]}
        read = {"rows_read": self.summary.rows} | ({"calls_read": self.read} if self.unit == "call" else {})
        return {**about, **now, **read, **self.counts, "left_to_do": self.left, **why}

    def lines(self) -> list[str]:
        """Return the report as text."""
        about, counts = self.summary.about, self.counts
        server = f" at {about['server']}" if "server" in about else ""
        file = f" of {about['file']}" if "file" in about else ""
        length = "" if self.total is None else f" ({count_rows(self.total, self.unit)})"
        written = f", last written {self.summary.last_written}" if self.summary.last_written else ""
        member = f", as {about['member']}" if "member" in about else ""
        lines = [
            f"{about.get('command', 'bulk run')} for game {about.get('game_id')}{server}{file}{length}",
            f"begun {about.get('begun')}{written}; {f'running{member}' if self.running else 'not running'}",
            f"{count_rows(self.summary.rows)} read{'' if self.unit == 'row' else f', {count_rows(self.read, self.unit)}'}:",
        ]
        lines += [
            f"  {count:>9,} {name.replace('_', ' ')}{ONLY_IF_ANY.get(name, '')}"
            for name, count in counts.items()
            if count or name not in ONLY_IF_ANY
        ]
        reasons = self.reasons.lines()
        lines += ["why:", *reasons] if reasons else []
        if self.left:
            how = "the run goes on" if self.running else resume_hint(self.journal)
            lines.append(f"left to do: {self.left:,} of {count_rows(self.total or 0, self.unit)}; {how}")
        elif self.left is None and not self.running:
            lines.append(f"left to do: the rows after these, if there are any; {resume_hint(self.journal)}")
        if counts["failed"] > counts["failed_but_done"]:
            lines.append(f"the failed {self.unit}s are not sent again: {retry_hint(self.journal)}")
        if self.identifies and not self.running and counts["in_doubt"]:
            lines.append(doubt_hint(self.journal))
        return lines + describe_pace(self.seconds)


def read_report(journal: Path) -> RunReport:
    """Read a journal.

    Raises:
        JournalError: when the file is no journal.
    """
    running = is_in_use(journal)  # first: all that a run has written before its end is read below
    return RunReport(journal, read_summary(journal), read_reasons(journal, running=running), read_seconds(journal), running)


def save_picture(report: RunReport, path: Path) -> None:
    """Save the text of a report as an SVG.

    Raises:
        InputError: when the file cannot be written.
    """
    console = Console(record=True, file=io.StringIO(), width=PICTURE_WIDTH, highlight=False)
    for line in report.lines():
        console.print(Text(line))
    try:
        console.save_svg(str(path), title=f"teak-async report {report.journal.name}")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {describe_refusal(error)}") from None


def story_of(row: PastRow, *, running: bool, user_id: str | None = None) -> dict[str, Any]:
    """Return all that a journal has on a row as plain data, by the names that results use.

    Args:
        row: the row.
        running: whether the run goes on.
        user_id: the player, for a row of which the journal has none.
    """
    reason = why(row, running=running)
    return {
        "index": row.row,
        "line": row.line,
        **({"part": row.part} if row.part else {}),
        "state": state_of(row.state, running=running),
        "call": row.call,
        **({"channel": row.channel} if row.channel else {}),
        "user_id": row.user_id or user_id,
        "delivery": row.delivery,
        "attempts": row.attempts,
        "rate_limited": row.pauses,
        "response": None if row.response is None else json.loads(row.response),
        "error": _error_as_dict(reason),
        "first_error": _error_as_dict(row.first_error if row.first_error != reason else None),
        "source": row.source.decode(errors="replace") if isinstance(row.source, bytes) else row.source,
        "last_written": describe_time(row.at),
    }


def describe_story(story: Mapping[str, Any]) -> str:
    """Return the story of a row as text."""
    where = f"line {story['line']:,}" if story["line"] else f"row {story['index']:,}"
    whom = "" if story["user_id"] is None else f" of {story['user_id']}"
    channel = f" on {story['channel']}" if "channel" in story else ""
    what = f"{story['call']}{channel}{whom}" if story["call"] else f"a row{whom} that cannot be sent"
    state = story["state"].replace("_", " ")
    delivery = "" if story["delivery"] is None else f", delivery {story['delivery'].replace('_', ' ')}"
    limited = f", {story['rate_limited']:,} of them rate-limited" if story["rate_limited"] else ""
    cut_off = ", and perhaps one that was cut off" if story["state"] == "in_doubt" and not story["attempts"] else ""
    lines = [
        f"{where}: {what}: {state}{delivery}",
        f"  attempts: {story['attempts']:,}{limited}{cut_off}; last written {story['last_written']}",
    ]
    errors = {name: story[name] for name in ("first_error", "error") if story[name] is not None}
    lines += [f"  {name.replace('_', ' ')}: {error['type']}: {error['message']}" for name, error in errors.items()]
    if story["response"] is not None:
        lines.append(f"  response: {json.dumps(story['response'], ensure_ascii=False)}")
    return "\n".join([*lines, f"  as it stood in the input: {story['source']}"])


def _error_as_dict(text: str | None) -> dict[str, str] | None:
    """Return an error of a journal in the form that results have."""
    if text is None:
        return None
    kind, message = split_error(text)
    return {"type": kind, "message": message}
