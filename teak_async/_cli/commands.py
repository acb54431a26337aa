"""Runs the commands: makes a session and a job of the options, and turns an error into one line and an exit code."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any

import typer
from attrs import fields_dict
from yarl import URL

from teak_async._client.retry import RetryPolicy
from teak_async._fleet.ledger import show
from teak_async._journal.history import describe_extent, is_in_use, iter_at_line
from teak_async._limits.session_limits import Limits
from teak_async._session import TeakSession
from teak_async.errors import LedgerUnavailable, Outage, TeakError
from teak_async.models import State

from .dry_run import describe_dry_run, dry_run_job
from .errors import InputError, describe_refusal, fail, fit, name_options, say
from .export import describe_export, describe_in_doubt, export_rows
from .failures import in_doubt_states, rows_of_user
from .files import same_file
from .input import RowReader
from .job import Exit, Job, run_job
from .limits import show_limits
from .lists import write_categories, write_exclusions, write_unsubscriptions
from .options import FileOptions, IdentifyOptions, ReportOptions
from .output import OutputError, check_not_journal, check_replaceable, silence_broken_pipe
from .report import describe_story, read_report, save_picture, story_of
from .schema import (
    CHANNELS,
    RowSchema,
    end_exclusion_schema,
    exclude_schema,
    identify_schema,
    removal_schema,
    state_schema,
    status_schema,
)
from .selection import read_part
from .signals import LISTENER
from .source import Reading, RowSource
from .sql import SqlReader
from .summary import count_rows
from .times import read_span, read_time
from .tls import make_ssl_context

PAIRS = {"--column": "user_id=player_id", "--constant": "country_code=US"}
"""An example of the value of each option."""
CREDENTIALS = {"TEAK_GAME_ID": "Teak App ID", "TEAK_SECRET_KEY": "Teak Server Secret"}
"""The variables that hold the credentials."""
ONLY_OPTIONS = IdentifyOptions()
"""The default options, for commands other than `identify`."""


def run_file(
    label: str,
    options: FileOptions,
    category: str | None = None,
    own: IdentifyOptions = ONLY_OPTIONS,
    *,
    channels: Sequence[str] | None = None,
    until: str | None = None,
    sure: bool = True,
) -> None:
    gc.freeze()  # else each collection visits all imported objects, and blocks the event loop for 20 ms
    try:
        if options.file is None and options.sql is None:
            raise InputError("no input: name a FILE, or - for standard input, or give a query with --sql")
        if own.resend_in_doubt and options.journal is None:
            raise InputError("--resend-in-doubt: rows in doubt are in a journal; name it with --journal")
        if category is not None and "," in category:
            raise InputError("--category: one category for all rows; for several, give each row its own in a column category")
        schema = _schema_of(label, category, channels or CHANNELS[:1], until)
        _check_credentials()
        deadline = _read_moment("--deadline", options.deadline)
        context = make_ssl_context(options.ca_file, options.client_cert, options.client_key)
        limits = Limits() if options.rate is None else Limits(**dict.fromkeys(fields_dict(Limits), options.rate))
        retry = RetryPolicy() if options.outage is None else RetryPolicy(outage=_read_outage(options.outage))
        session = TeakSession(base_url=options.base_url, limits=limits, retry=retry, ssl=context, share=options.share or None)
        job = Job(
            label,
            _open_rows(options, schema, count_repeated=label == "identify" and not own.no_duplicates),
            getattr(limits, schema.limit),
            options.output,
            options.quiet,
            options.journal,
            own.resend_in_doubt,
            deadline,
            options.overwrite,
            options.max_failures,
            options.verbose,
            options.log_file,
            str(URL(options.base_url).with_user(None)).rstrip("/"),
            show(options.share or ""),
            _notes(options.rate, getattr(Limits(), schema.limit), deadline),
        )
        if options.dry_run:
            dry_run = asyncio.run(dry_run_job(job, session.game_id))
            first = "\n".join([*job.notes, job.opening(session.game_id)])
            typer.echo(fit(f"{first}\n{describe_dry_run(dry_run)}", sys.stdout))
            raise typer.Exit(dry_run.exit)
        if not sure:
            _confirm_removal(options, job, session.game_id)
        code, _ = asyncio.run(run_job(job, session))
    except KeyboardInterrupt:
        raise fail("interrupted; nothing was sent", Exit.INTERRUPTED) from None
    except OutputError as error:
        silence_broken_pipe()
        raise fail(str(error)) from None
    except (Outage, LedgerUnavailable) as error:
        raise fail(str(error), Exit.OUTAGE) from None
    except (InputError, ValueError, TeakError) as error:
        raise fail(name_options(str(error))) from None
    except OSError as error:
        raise fail(f"{error.filename}: {describe_refusal(error)}") from None
    raise typer.Exit(code)


def _schema_of(label: str, category: str | None, chosen: Sequence[str], until: str | None) -> RowSchema:
    channels = [channel for channel in CHANNELS if channel in chosen or "all" in chosen]
    match label:
        case "identify":
            return identify_schema()
        case "status":
            return status_schema(channels)
        case "exclude":
            return exclude_schema(_read_moment("--until", until))
        case "end-exclusion":
            return end_exclusion_schema()
        case "remove-players":
            return removal_schema()
        case _:
            return state_schema(State(label.replace("-", "_")), category, channels)


def _confirm_removal(options: FileOptions, job: Job, game_id: str) -> None:
    """Ask the user to confirm a removal, which nothing undoes.

    Raises:
        InputError: when nobody can be asked, or the user declines.
    """
    if options.file == "-" or sys.stdin is None or not sys.stdin.isatty():
        raise InputError("this removes players for ever, and nobody can be asked: look at it with --dry-run, then give --yes")
    total = job.rows.count()
    if total == 0:
        return  # the run says that nothing is there
    rows = "the input" if total is None else count_rows(total)
    say(f"This removes all data of each player in {rows} of {job.rows.name} from game {game_id} at {job.server}, for ever.")
    say("The same command with --dry-run shows whom.")
    try:
        sure = typer.confirm("Remove them?", err=True)
    except typer.Abort:
        sure = False
    if not sure:
        raise InputError("nothing was removed")


def _open_rows(options: FileOptions, schema: RowSchema, *, count_repeated: bool) -> RowSource:
    """Open the input.

    Raises:
        InputError: when the input or an option cannot be used.
    """
    reading = Reading(
        columns=_read_pairs("--column", options.column),
        constants=_read_pairs("--constant", options.constant),
        ignore_extra=options.ignore_extra,
        as_is=options.as_is,
        null_words=frozenset(options.null or ()),
        part=read_part(options.rows),
        once=options.once,
        count_repeated=options.dry_run and count_repeated,
        allow_empty=options.allow_empty,
    )
    if options.sql is None:
        assert options.file is not None
        return RowReader(options.file, schema, options.format, reading)
    if options.file is not None:
        raise InputError(f"{options.file}: a FILE and --sql are two inputs; name the file in the query")
    if options.column:
        raise InputError("--column is for a FILE; in a query, write: SELECT player_id AS user_id")
    if options.format is not None:
        raise InputError("--format is for a FILE; in a query, write: FROM read_csv('players.txt')")
    return SqlReader(options.sql, schema, reading)


def _read_outage(text: str) -> timedelta:
    try:
        return read_span(text)
    except ValueError as error:
        raise InputError(f"--outage: {error}") from None


def _notes(rate: int | None, documented: int, deadline: datetime | None) -> list[str]:
    """Return what to say of the options at first."""
    notes = [] if deadline is None else [f"nothing is sent after {deadline:%Y-%m-%d %H:%M:%S %Z}"]
    if rate is not None and rate > documented:
        notes.append(f"--rate {rate} is more than Teak documents ({documented} a second): right only if Teak allows you more")
    return notes


def _read_pairs(option: str, given: list[str] | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given or ():
        name, sign, value = text.partition("=")
        name = name.strip().casefold()
        if not (name and sign and value.strip()):
            raise InputError(f"{option}: {text!r} is not of the form {PAIRS[option]}")
        if pairs.setdefault(name, value.strip()) != value.strip():
            raise InputError(f"{option}: {name} is given twice; leave one out")
    return pairs


def _check_credentials() -> None:
    """Check the credentials here, since the session's messages name parameters of a program."""
    given = {variable: os.environ.get(variable, "").strip() for variable in CREDENTIALS}
    if missing := [variable for variable, value in given.items() if not value]:
        whats = " and ".join(f"no {CREDENTIALS[variable]}" for variable in missing)
        how = f"set {' and '.join(missing)} in the environment, or in a file that --env-file names"
        raise InputError(f"{whats}: {how}; to try it without a game, begin with: teak-async sandbox")
    for variable, what in CREDENTIALS.items():
        value = given[variable]
        if value.encode(errors="ignore").decode() != value:
            raise InputError(f"no {what}: the value of {variable} in the environment is not UTF-8 text")


def _read_moment(option: str, text: str | None) -> datetime | None:
    """Read a time in the future.

    Raises:
        InputError: when the text is no time, or the time has passed.
    """
    now = datetime.now().astimezone()
    moment = None if text is None else _read_time(option, text, now)
    if moment is not None and moment <= now:
        raise InputError(f"{option}: {text} has passed, it is {now:%Y-%m-%d %H:%M %Z}; name a later time, or 2h30m from now")
    return moment


def _read_past(option: str, text: str) -> datetime:
    """Read a time in the past.

    Raises:
        InputError: when the text is no time, or the time is to come.
    """
    now = datetime.now().astimezone()
    moment = _read_time(option, text, now, past=True)
    if moment > now:
        raise InputError(f"{option}: {text} is to come, it is {now:%Y-%m-%d %H:%M %Z}; name an earlier time, or 2h30m ago")
    return moment


def _read_time(option: str, text: str, now: datetime, *, past: bool = False) -> datetime:
    try:
        return read_time(text, now, past=past)
    except ValueError as error:
        raise InputError(f"{option}: {error}") from None


def run_report(options: ReportOptions) -> None:
    LISTENER.set_exit_message("the report is not complete")
    journal, failed, in_doubt = options.journal, options.failed, options.in_doubt
    if failed is not None and in_doubt is not None and same_file(failed, in_doubt):
        raise fail(f"{failed}: given for both; write the failed rows and those in doubt to two files")
    try:
        _check_alone(options)
        for path in (failed, in_doubt, options.svg):
            if path is not None:
                check_not_journal(path, journal, "write to another file")
                check_replaceable(path, overwrite=options.overwrite)
        if options.row is not None or options.user is not None:
            _print_stories(options)
            return
        report = read_report(journal)
        about = report.summary.about
        if failed is not None:
            say(describe_export(failed, export_rows(journal, report.summary, failed, "failed"), about))
        if in_doubt is not None:
            states = in_doubt_states(running=report.running)
            say(describe_in_doubt(in_doubt, export_rows(journal, report.summary, in_doubt, *states), about, journal))
        if options.svg is not None:
            save_picture(report, options.svg)
    except (InputError, TeakError) as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(f"{error.filename}: {describe_refusal(error)}") from None
    written = [name for name, path in (("failed", failed), ("in_doubt", in_doubt)) if path is not None]
    lines = json.dumps(report.as_dict()) if options.as_json else fit("\n".join(report.lines(written=written)), sys.stdout)
    typer.echo(lines)


def _check_alone(options: ReportOptions) -> None:
    """Refuse options of the whole journal beside one of a few rows, and two that choose rows.

    Raises:
        InputError: when there are such options.
    """
    names = ("row", "user", "failed", "in_doubt", "svg")
    first, *others = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) is not None] or [""]
    if others and first in ("--row", "--user"):
        raise InputError(f"{first} only shows rows: leave {' and '.join(others)} out, or give {first} in another command")


def _print_stories(options: ReportOptions) -> None:
    running = is_in_use(options.journal)
    if options.row is not None:
        rows, what = list(iter_at_line(options.journal, options.row)), f"line {options.row:,}"
    else:
        rows, what = rows_of_user(options.journal, options.user or ""), f"the player {options.user}"
    if not rows:
        raise InputError(f"{options.journal}: has nothing on {what}; {describe_extent(options.journal)}")
    for row in rows:
        story = story_of(row, running=running, user_id=options.user)
        typer.echo(json.dumps(story) if options.as_json else describe_story(story))


def run_limits(address: str, *, watch: bool, as_json: bool) -> None:
    try:
        asyncio.run(show_limits(address, typer.echo, watch=watch, as_json=as_json))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except LedgerUnavailable as error:
        raise fail(str(error), Exit.OUTAGE) from None
    except (ValueError, TeakError) as error:
        raise fail(name_options(str(error))) from None


def _run_list(base_url: str, write: Callable[[TeakSession, Callable[[str], object]], Coroutine[Any, Any, None]]) -> None:
    """Write a list of the server's.

    Args:
        base_url: of the server.
        write: writes the list, given a session that is not open yet, by a function that takes lines.
    """
    LISTENER.set_exit_message("nothing was written")
    try:
        _check_credentials()
        asyncio.run(write(TeakSession(base_url=base_url), _write))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        silence_broken_pipe()
        raise typer.Exit(Exit.WRONG_USAGE) from None
    except OSError as error:
        silence_broken_pipe()
        raise fail(f"standard output cannot be written: {describe_refusal(error)}") from None
    except (InputError, ValueError, TeakError) as error:
        raise fail(name_options(str(error))) from None


def run_exclusions(base_url: str, after: str | None) -> None:
    _run_list(base_url, lambda session, write: write_exclusions(session, after, write))


def run_unsubscriptions(base_url: str, after: str | None, since: str) -> None:
    async def write_since(session: TeakSession, write: Callable[[str], object]) -> None:
        moment = _read_past("--since", since)
        say(f"since {moment:%Y-%m-%d %H:%M:%S %Z}")
        await write_unsubscriptions(session, moment, after, write)

    _run_list(base_url, write_since)


def run_categories(base_url: str) -> None:
    _run_list(base_url, write_categories)


def _write(lines: str) -> None:
    sys.stdout.write(f"{lines}\n")
    sys.stdout.flush()
