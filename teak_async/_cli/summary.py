"""What a command says of its run: where it goes as it begins, and what became of the rows as it ends. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from teak_async._bulk.outcomes import BulkReport

from .progress import RATE_WINDOW, format_duration

NO_JOURNAL = "no journal: after an interruption only the results tell which rows were sent (--journal FILE keeps one)"


def opening(label: str, server: str, game_id: str, recognised: str, journal: Path | None, *, resumed: bool = False) -> str:
    """Say what is done, at which server and for which game, with which input and journal."""
    kept = NO_JOURNAL if journal is None else f"journal {journal}" + (", which goes on" if resumed else "")
    return f"{label} for game {game_id} at {server}; {recognised}; {kept}"


def summary(
    report: BulkReport, *, interrupted: bool = False, unwritten: int = 0, journal: Path | None = None, rows: int | None = None
) -> str:
    """Count what became of the rows, in one line; of `rows` that are several calls, what became of these."""
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
    """Write a number of rows, or of their calls."""
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
    """Say, line by line, why rows did not succeed, what is left to do, and how to go on.

    Args:
        report: the count of the run.
        total: rows of the input, where they were counted.
        reasons: a line for each.
        journal: the run's.
        identify: whether a repetition would do harm.
        ended_early: whether a signal or its failures ended the run.
        unit: what is counted: `row`, or `call` where a row is several.
    """
    lines = list(reasons)
    left = count_left(total, counts_of(report), identify=identify)
    if left or (left is None and (ended_early or report.not_sent)):
        unsent = f"{count_rows(report.not_sent, unit)} and " if report.not_sent else ""
        known = f"{unsent}what was not read" if left is None else f"{left:,} of {count_rows(total or 0, unit)}"
        lines.append(f"left to do: {known}; {resume_hint(journal)}")
    if report.failed or report.failed_earlier:
        lines.append(f"the failed {unit}s are not sent again: {retry_hint(journal)}")
    if report.in_doubt and identify:
        lines.append(doubt_hint(journal))
    return lines


def doubt_hint(journal: Path | None) -> str:
    """Say what can be done about sessions in doubt."""
    again = "repeat the command with --resend-in-doubt" if journal is not None else "run their lines by themselves"
    return f"those in doubt may be recorded: leave the gap, or {again}"


def counts_of(report: BulkReport) -> dict[str, int]:
    """Return the rows of a run by state."""
    return {"succeeded": report.succeeded + report.skipped, "failed": report.failed, "in_doubt": report.in_doubt}


def count_left(total: int | None, states: Mapping[str, int], *, identify: bool) -> int | None:
    """Count the rows that the next run sends; `None` where nobody knows how many there are.

    Args:
        total: rows of the input.
        states: rows by state. Rows that are being sent are not left.
        identify: whether a repetition would do harm, so that rows in doubt are left as they are.
    """
    ends = ("succeeded", "failed", "being_sent", *(("in_doubt",) if identify else ()))
    return None if total is None else max(total - sum(states.get(state, 0) for state in ends), 0)


def resume_hint(journal: Path | None) -> str:
    """Say how a run goes on."""
    if journal is not None:
        return f"to go on where it was, repeat the command with the same --journal {journal}"
    return "without --journal nothing knows which rows were sent but the results; with one, repeating the command goes on"


def how_to_go_on(journal: Path | None) -> str:
    """Say how a run goes on that was ended by its failures."""
    if journal is None:
        return "to go on in spite of them, begin anew with --rows behind them, or with a larger --max-failures"
    return (
        "repeated as it is, the command goes on behind the failed rows and counts anew; --max-failures N sets how many may fail"
    )


def retry_hint(journal: Path | None) -> str:
    """Say how failed rows are tried once more."""
    if journal is not None:
        return f"teak-async report {journal} --failed failed.csv; correct that file, and run it with a journal of its own"
    return "take their lines out of the input, correct them, and run them by themselves"
