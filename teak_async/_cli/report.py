"""The command `report`: what a journal has on its run, as text, JSON or a picture, and the story of a row."""

from __future__ import annotations

import io
import json
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from rich.console import Console
from rich.text import Text

from teak_async._journal.database import JournalSummary, describe_time, read_summary
from teak_async._journal.earlier_run import count_not_repeated
from teak_async._journal.history import PastRow, count_whole_rows, is_in_use, read_channels, read_partial_rows, read_seconds

from .counts import Counts
from .errors import InputError, describe_refusal
from .failures import in_doubt_states, read_reasons, state_of, why
from .pace import Pause, Seconds, describe_pace, find_pace, find_pauses, present_rate
from .progress import format_duration
from .reasons import Reasons, describe_place, split_error
from .schema import describe_partial
from .summary import count_rows, doubt_hint, left_to_do, list_doubts, on_channels, resume_hint, retry_hint
from .wrap import wrap

BECAME = {
    "not_sent": "the server never got it",
    "rejected": "the server did not do it",
    "done": "the server did it",
    "unknown": "the server may have done it",
}
"""What became of a call at the server, by its delivery."""
PICTURE_WIDTH = 110
"""Columns of the picture."""


@frozen
class RunReport:
    """All that a journal has on its run.

    Attributes:
        journal: its path.
        summary: the description of the run, and its calls by state.
        reasons: why calls did not succeed.
        seconds: when calls ended.
        running: whether a run goes on.
        now: Unix time.
        channels: the calls of each channel by state, where there are several.
        whole_rows: rows of which every call in the journal succeeded, where a row may be several.
        sessions_in_doubt: identifies in doubt.
        not_repeated: calls in doubt that no run makes again by itself: these, and those that would undo a later one.
        partial_rows: the channels of rows that lack some: names with commas, rows, and line and place of the first.
    """

    journal: Path
    summary: JournalSummary
    reasons: Reasons
    seconds: Seconds
    running: bool
    now: float
    channels: Mapping[str | None, Mapping[str, int]]
    whole_rows: int
    sessions_in_doubt: int
    not_repeated: int
    partial_rows: Sequence[tuple[str, int, int, int]]

    @property
    def unit(self) -> str:
        """What the counts count: `row`, or `call` where a row may be several."""
        return "call" if "calls" in self.summary.about else "row"

    @property
    def total(self) -> int | None:
        """Rows or calls of the input; `None` if the run neither counted them nor read them all."""
        if text := self.summary.about.get(f"{self.unit}s", ""):
            return int(text)
        return self.read if "whole" in self.summary.about else None

    @property
    def counts(self) -> Counts:
        """The calls of the input by how they ended."""
        return Counts.of_journal(self.summary.states, self.total, running=self.running, not_repeated=self.not_repeated)

    @property
    def read(self) -> int:
        """Rows or calls that the journal has."""
        return sum(self.summary.states.values())

    @property
    def left(self) -> int | None:
        """Rows or calls that the next run sends; `None` if the total is not known."""
        return self.counts.left(identify=False)  # what is not repeated is known of each

    @property
    def pauses(self) -> list[Pause]:
        """The times in which no call ended."""
        runs = [int(datetime.fromisoformat(run).timestamp()) for run in self.runs]
        return find_pauses(self.seconds, runs, self.now if self.running else None)

    @property
    def runs(self) -> list[str]:
        """When each run of the journal began, in ISO 8601."""
        return self.summary.about.get("runs", "").split()

    @property
    def seconds_to_go(self) -> float | None:
        """Seconds that a running run takes at its present rate; `None` where nobody can know."""
        rate = present_rate(self.seconds, self.pauses, self.now) if self.running else 0.0
        return self.counts.not_sent / rate if rate and self.total is not None else None

    @property
    def by_program(self) -> bool:
        """Whether a program made the run, and no command."""
        return "command" not in self.summary.about

    @property
    def succeeded_whole(self) -> int | None:
        """Rows of which every call succeeded; `None` while calls may be missing in the journal."""
        return self.whole_rows if self.is_whole else None

    @property
    def is_whole(self) -> bool:
        """Whether rows may be several calls, and the journal has all of them."""
        return self.unit == "call" and self.total == self.read

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, ready for JSON."""
        about, counts = self.summary.about, self.counts
        limit = int(about["limit"]) if about.get("limit") else None
        channels = {name or "": Counts.of_journal(states, None, running=self.running) for name, states in self.channels.items()}
        return {
            **{name: value for name, value in about.items() if name != "whole"},
            "runs": self.runs,
            f"{self.unit}s": self.total,
            "limit": limit,
            "last_written": self.summary.last_written,
            "running": self.running,
            "rows_read": self.summary.rows,
            **({"calls_read": self.read} if self.unit == "call" else {}),
            **counts.as_dict(),
            "not_sent": counts.not_sent,
            "failed_but_done": self.summary.failed_done,
            "not_sent_in_journal": counts.kept,
            "left_to_do": self.left,
            "seconds_to_go": None if self.seconds_to_go is None else round(self.seconds_to_go),
            **({"by_channel": {name: of_one.as_dict() for name, of_one in channels.items()}} if channels else {}),
            **(
                {"rows_succeeded_whole": self.succeeded_whole, "rows_partial": self._list_partial()}
                if self.unit == "call"
                else {}
            ),
            "reasons": self.reasons.as_list(),
            "pace": find_pace(self.seconds, self.pauses).as_dict(),
            "pauses": [pause.as_dict() for pause in self.pauses],
        }

    def lines(self, *, written: Collection[str] = ()) -> list[str]:
        """Return the report as text.

        Args:
            written: the states of rows that were written to a file just now; how to write these is not said.
        """
        about, counts = self.summary.about, self.counts
        server = f" at {about['server']}" if "server" in about else ""
        file = f" of {about['file']}" if "file" in about else ""
        last = f", last written {self.summary.last_written}" if self.summary.last_written else ""
        member = f", as {about['member']}" if "member" in about else ""
        runs = f", {len(self.runs):,} runs" if len(self.runs) > 1 else ""
        channels = on_channels(channels_of(about))
        lines = [
            f"{about.get('command', 'bulk run')}{channels} for game {about.get('game_id')}{server}{file}",
            f"begun {about.get('begun')}{runs}{last}; {f'running{member}' if self.running else 'not running'}",
            f"{self._describe_read()}:",
            f"  {counts.succeeded:>9,} succeeded",
            f"  {counts.failed:>9,} failed",
            f"  {counts.in_doubt:>9,} in doubt",
            f"  {counts.not_sent:>9,} not sent{self._describe_unsent()}",
        ]
        if counts.being_sent:
            lines.insert(-1, f"  {counts.being_sent:>9,} being sent")
        if done := self.summary.failed_done:
            lines.insert(5, f"  {done:>9,} failed but done, counted above: the responses cannot be understood")
        if self.channels:
            lines.append("by channel:")
            lines += [
                f"  {name or 'cannot be sent'}: {Counts.of_journal(states, None, running=self.running).describe_ended()}"
                for name, states in self.channels.items()
            ]
        if self.succeeded_whole is not None:
            lines.append(f"{self.succeeded_whole:,} of {count_rows(self.summary.rows)}: every call succeeded")
        if self.is_whole:
            lines += [
                f"  {describe_partial(channels.split(','))}: {count:,}, the first in {describe_place(line, row)}"
                for channels, count, line, row in self.partial_rows
            ]
        reasons = self.reasons.lines()
        lines += ["why:", *reasons] if reasons else []
        lines += self._describe_rest()
        if counts.failed > self.summary.failed_done and "failed" not in written:
            lines += retry_hint(self.journal, self.unit)
        if self.sessions_in_doubt and not self.running:
            lines.append(doubt_hint(self.journal, by_program=self.by_program))
            lines += [] if "in_doubt" in written else list_doubts(self.journal)
        return lines + describe_pace(self.seconds, self.pauses, self.unit, about.get("limit", ""))

    def _list_partial(self) -> list[dict[str, Any]] | None:
        """Return the rows that lack a channel, ready for JSON; `None` while calls may be missing in the journal."""
        found = [
            {"channels": channels.split(","), "count": count, "first": {"line": line, "index": row}}
            for channels, count, line, row in self.partial_rows
        ]
        return found if self.is_whole else None

    @property
    def _how_to_go_on(self) -> str:
        return resume_hint(self.journal, by_program=self.by_program)

    def _describe_read(self) -> str:
        rows = f"{count_rows(self.summary.rows)}, " if self.unit == "call" else ""
        if self.total is None or self.total <= self.read:
            return f"{rows}{count_rows(self.read, self.unit)} in the journal"
        return f"{count_rows(self.total, self.unit)}, {self.read:,} of them in the journal"

    def _describe_unsent(self) -> str:
        if self.total is None:
            return " of these"
        kept, others = self.counts.kept, self.counts.not_sent - self.counts.kept
        return f" ({kept:,} in the journal, {others:,} not yet)" if kept and others else ""

    def _describe_rest(self) -> list[str]:
        if self.left is None:
            rest = f"left to do: rows of the input that the journal does not have, if there are any; {self._how_to_go_on}"
            return [] if self.running else [rest]
        if not self.left:
            return []
        about = f", for about {format_duration(self.seconds_to_go)} at the present rate" if self.seconds_to_go else ""
        stands = [pause for pause in self.pauses if pause.until == "now"]
        still = f"; nothing has ended for {format_duration(stands[0].seconds)}" if stands else ""
        how = f"the run goes on{about}{still}" if self.running else self._how_to_go_on
        return [left_to_do(self.counts, self.left, self.unit, how)]


def read_report(journal: Path) -> RunReport:
    """Read a journal.

    Raises:
        JournalError: when the file is no journal.
    """
    running = is_in_use(journal)  # first: all that a run has written before its end is read below
    summary = read_summary(journal)
    several = "calls" in summary.about
    channels = read_channels(journal) if several else {}
    if several:
        # Of one read, so that the counts add up while a run goes on.
        summary = evolve(summary, states=sum(map(Counter, channels.values()), Counter[str]()))
    return RunReport(
        journal,
        summary,
        read_reasons(journal, running=running),
        read_seconds(journal),
        running,
        time.time(),
        channels,
        count_whole_rows(journal) if several else 0,
        *count_not_repeated(journal, in_doubt_states(running=running)),
        read_partial_rows(journal, len(channels_of(summary.about))) if several else (),
    )


def channels_of(about: Mapping[str, str]) -> list[str]:
    """Return the channels of a run by its description; none where calls have none."""
    return [name for name in about.get("channels", "").split(",") if name]


def save_picture(report: RunReport, path: Path) -> None:
    """Save the text of a report as an SVG.

    Raises:
        InputError: when the file cannot be written.
    """
    console = Console(record=True, file=io.StringIO(), width=PICTURE_WIDTH, highlight=False)
    for line in report.lines():
        console.print(Text(wrap(line, PICTURE_WIDTH)))
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
    where = describe_place(story["line"], story["index"])
    whom = "" if story["user_id"] is None else f" of {story['user_id']}"
    channel = f" on {story['channel']}" if "channel" in story else ""
    what = f"{story['call'].partition(' (')[0]}{channel}{whom}" if story["call"] else f"a row{whom} that cannot be sent"
    state = story["state"].replace("_", " ")
    became = f", {BECAME[story['delivery']]}" if story["delivery"] in BECAME and state != "succeeded" else ""
    limited = f", {story['rate_limited']:,} of them rate-limited" if story["rate_limited"] else ""
    cut_off = ", and perhaps one that was cut off" if story["state"] == "in_doubt" and not story["attempts"] else ""
    lines = [
        f"{where}: {what}: {state}{became}",
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
