"""The text of a command at the start and the end of its run. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from teak_async._bulk.outcomes import BulkReport

from .progress import RATE_WINDOW, format_duration

NO_JOURNAL = "no journal: after an interruption only the results tell which rows were sent (--journal FILE keeps one)"


def opening(label: str, server: str, game_id: str, description: str, journal: Path | None, *, resumed: bool = False) -> str:
    """Return the first line of a run: command, game, server, input and journal."""
    kept = NO_JOURNAL if journal is None else f"journal {journal}" + (", which goes on" if resumed else "")
    return f"{label} for game {game_id} at {server}; {description}; {kept}"


def summary(
    report: BulkReport, *, interrupted: bool = False, unwritten: int = 0, journal: Path | None = None, rows: int | None = None
) -> str:
    """Return the line that counts how the rows ended, or their calls if `rows` is given."""
    counts = f"{report.succeeded:,} succeeded, {report.failed:,} failed, {report.in_doubt:,} in doubt"
    counts += f", {report.not_sent:,} not sent" if report.not_sent else ""
    skipped = f", {report.skipped:,} skipped" if report.skipped else ""
    skipped += f", {report.failed_earlier:,} of which had failed" if report.failed_earlier else ""
    began = "interrupted: " if interrupted else ""
    lost = f"; results not written: {unwritten:,}{' (the journal has them)' if journal else ''}" if unwritten else ""
    rate = f" ({report.rate:.1f}/s)" if report.elapsed >= RATE_WINDOW else ""  # permits may burst in the first second
    whole = count_rows(report.total) if rows is None else f"{count_rows(rows)}, {count_rows(report.total, 'call')}"
    return f"{began}{whole}: {counts}{skipped} in {format_duration(report.elapsed)}{rate}{lost}"


def count_rows(count: int, unit: str = "row") -> str:
    """Return a number of rows, or of their calls, in words."""
    return f"{count:,} {unit}{'' if count == 1 else 's'}"


def closing(
    report: BulkReport,
    total: int | None,
    reasons: Iterable[str],
    journal: Path | None,
    *,
    identify: bool,
    ended_early: bool = False,
    unit: str = "row",
) -> list[str]:
    """Return the lines on why rows did not succeed, what is left to do, and how to go on.

    Args:
        report: the counts of the run.
        total: rows or calls of the input; `None` if they were not counted.
        reasons: a line for each reason.
        journal: the run's journal; `None` for none.
        identify: whether the calls are identifies.
        ended_early: whether a signal or failures ended the run.
        unit: `row`, or `call` where a row may be several.
    """
    lines = list(reasons)
    left = count_left(total, counts_of(report), identify=identify)
    if left or (left is None and (ended_early or report.not_sent)):
        unsent = f"{count_rows(report.not_sent, unit)} and " if report.not_sent else ""
        known = f"{unsent}the rows that were not read" if left is None else f"{left:,} of {count_rows(total or 0, unit)}"
        lines.append(f"left to do: {known}; {resume_hint(journal)}")
    if report.failed or report.failed_earlier:
        lines.append(f"the failed {unit}s are not sent again: {retry_hint(journal)}")
    if report.in_doubt and identify:
        lines.append(doubt_hint(journal))
    return lines


def doubt_hint(journal: Path | None) -> str:
    """Return what to do about sessions in doubt."""
    again = "repeat the command with --resend-in-doubt" if journal is not None else "run their lines by themselves"
    return f"sessions in doubt may be recorded or not: leave them, or {again}"


def counts_of(report: BulkReport) -> dict[str, int]:
    """Return the rows of a run by state."""
    return {"succeeded": report.succeeded + report.skipped, "failed": report.failed, "in_doubt": report.in_doubt}


def count_left(total: int | None, states: Mapping[str, int], *, identify: bool) -> int | None:
    """Count the rows that the next run sends; `None` if the total is not known.

    Args:
        total: rows of the input.
        states: rows by state.
        identify: whether the calls are identifies, which the next run does not send again when they are in doubt.
    """
    ends = ("succeeded", "failed", "being_sent", *(("in_doubt",) if identify else ()))
    return None if total is None else max(total - sum(states.get(state, 0) for state in ends), 0)


def resume_hint(journal: Path | None) -> str:
    """Return how to go on with a run."""
    if journal is not None:
        return f"to go on, repeat the command with the same --journal {journal}"
    return "without --journal only the results tell which rows were sent; with one, repeating the command goes on"


def how_to_go_on(journal: Path | None) -> str:
    """Return how to go on with a run that ended by its failures."""
    if journal is None:
        return "to go on all the same, start again with --rows after the failed rows, or with a larger --max-failures"
    return "the same command goes on after the failed rows and counts from 0; --max-failures N sets how many may fail"


def retry_hint(journal: Path | None) -> str:
    """Return how to send failed rows again."""
    if journal is not None:
        return f"teak-async report {journal} --failed failed.csv; correct that file, and run it with a new journal"
    return "take their lines out of the input, correct them, and run them by themselves"
