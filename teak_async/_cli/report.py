"""What a journal and a dry run say, in words and as files.

Rows are given back byte by byte as they stood in the input, under its header, to be corrected and fed in again. Only rows
that were too long to be kept are missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from teak_async._journal.database import JournalSummary, iter_sources

from .dry_run import DryRun
from .errors import InputError
from .progress import format_duration

STATES: Mapping[str, str] = {
    "succeeded": "succeeded",
    "failed": "failed",
    "in_doubt": "in doubt",
    "intent": "being sent, or cut off there",
    "not_sent": "not sent",
}
"""The states of a journal's rows, as `report --json` and the text name them."""


def count_states(record: JournalSummary) -> dict[str, int | str]:
    """Count the rows of a journal by state, beside what the journal is of."""
    counts = {state: record.states.get(state, 0) for state in STATES}
    about = {**record.about, "last_written": record.last_written}
    return {**about, "total": sum(record.states.values()), **counts, "failed_done": record.failed_done}


def describe_summary(record: JournalSummary) -> str:
    """Put the counts of a journal into words."""
    total = sum(record.states.values())
    times = f"begun {record.about.get('created')}" + (f", last written {record.last_written}" if record.last_written else "")
    lines = [f"{record.about.get('command', 'bulk run')} for game {record.about.get('game_id')}, {times}: {total:,} rows read"]
    lines += [f"  {record.states.get(state, 0):>12,}  {words}" for state, words in STATES.items()]
    if record.failed_done:
        lines.insert(3, f"  {record.failed_done:>12,}    of which were done, with a response that cannot be understood")
    return "\n".join(lines)


def export_rows(journal: Path, record: JournalSummary, path: Path, *states: str) -> int:
    """Write the rows in some states to a file in the input's own format; gives how many could not be, too long to be kept.

    Raises:
        InputError: when that file cannot be written.
    """
    missing = 0
    try:
        # Without a buffer, so that a signal leaves whole rows: half of one would be another row.
        with path.open("wb", buffering=0) as file:
            if record.about.get("form") == "csv":
                file.write(record.about["header"].encode() + b"\n")
            for source in iter_sources(journal, *states):
                if source:
                    file.write((source.encode() if isinstance(source, str) else source) + b"\n")
                else:
                    missing += 1
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    return missing


def describe_dry_run(dry_run: DryRun) -> str:
    """Put what a run would do into words."""
    finished = f"{dry_run.finished:,} finished before"
    finished += f" ({dry_run.failed:,} of which had failed)" if dry_run.failed else ""
    lines = [
        f"{dry_run.rows:,} rows: {dry_run.to_send:,} to send, about {format_duration(dry_run.seconds)} at {dry_run.limit}/s",
        f"  {finished}, {dry_run.in_doubt:,} in doubt, {dry_run.unreadable:,} cannot be sent",
        *(f"  {problem}" for problem in dry_run.first_problems),
    ]
    if dry_run.late:
        lines.insert(1, f"  the deadline is too early: it leaves at least {dry_run.late:,} of these unsent")
    if dry_run.unreadable > len(dry_run.first_problems):
        lines.append(f"  and {dry_run.unreadable - len(dry_run.first_problems):,} more")
    lines += [f"  {finding}" for finding in dry_run.findings]
    if dry_run.repeated:
        lines.append(
            f"  {dry_run.repeated:,} rows of players who were there before; the first is line {dry_run.first_repeated:,}"
        )
    return "\n".join([*([dry_run.recognised] if dry_run.recognised else []), *lines, "Nothing was sent."])
