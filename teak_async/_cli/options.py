"""The options of the commands, with their help: each is a field of a NamedTuple, which a command takes as one parameter.

This module loads typer and the standard library only, so that the help comes at once.
"""

from __future__ import annotations

import os
import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

API = "https://api.gocarrot.com"


class LimitModelName(StrEnum):
    """Limit models of the sandbox."""

    SLIDING = "sliding"
    FIXED = "fixed"


class InputFormat(StrEnum):
    """Formats of an input."""

    CSV = "csv"
    JSONL = "jsonl"


class ChannelName(StrEnum):
    """Channels on which a player, or an address, has a subscription; `all` of them."""

    DESKTOP_PUSH = "desktop_push"
    PUSH = "push"
    EMAIL = "email"
    ALL = "all"


def read_env_file(path: Path | None) -> Path | None:
    """Set the variables that a file names and that are not set yet, before other options look for theirs."""
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        words = [word for line in lines for word in shlex.split(line.removeprefix("export "), comments=True)]
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    for word in words:
        name, sign, value = word.partition("=")
        if not sign:
            raise typer.BadParameter(f"{path}: {name[:40]!r} is not of the form NAME=VALUE")
        os.environ.setdefault(name, value)
    return path


class FileOptions(NamedTuple):
    """What the commands that run a file have in common."""

    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            show_default=False,
            help="CSV (the header row names the parameters) or JSON Lines, also compressed or in UTF-16; - for standard input.",
        ),
    ] = None
    sql: Annotated[
        str | None,
        typer.Option(
            "--sql",
            metavar="QUERY",
            help='Take the rows of a SELECT in place of FILE, as "SELECT player_id AS user_id, ip AS client_ip FROM'
            " 'x/*.parquet'\": Parquet, JSON, CSV, DuckDB files, several at once. It needs the extra sql.",
        ),
    ] = None
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column", metavar="PARAMETER=COLUMN", help="A column of another name, as user_id=player_id; repeatable."
        ),
    ] = None
    constant: Annotated[
        list[str] | None,
        typer.Option("--constant", metavar="PARAMETER=VALUE", help="What all rows have, as country_code=US; repeatable."),
    ] = None
    ignore_extra: Annotated[bool, typer.Option("--ignore-extra", help="Leave out columns that are unknown.")] = False
    as_is: Annotated[
        bool,
        typer.Option("--as-is", help="Send also values such as NULL, nan, 12.0 and 1.2E+17, which look like an export's slip."),
    ] = False
    null: Annotated[
        list[str] | None, typer.Option("--null", metavar="WORD", help="Another word for no value, as '-'; repeatable.")
    ] = None
    rows: Annotated[
        str | None,
        typer.Option(
            "--rows",
            metavar="PART",
            help="Send these only: 100 for the first hundred rows, 5001-6000 for these lines of the file."
            " The same journal may later run the rest.",
        ),
    ] = None
    once: Annotated[bool, typer.Option("--once", help="Send each player once: the first row of each.")] = False
    allow_empty: Annotated[bool, typer.Option("--allow-empty", help="Take an input without rows as a success.")] = False
    base_url: Annotated[
        str, typer.Option(metavar="URL", envvar="TEAK_BASE_URL", help="Another server, such as the sandbox's address.")
    ] = API
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            envvar="TEAK_OUTPUT",
            help="Write results (JSON Lines, one a row) there, not to standard output. A run that goes on adds to its file:"
            ' a row in doubt that it sends again has another line, with "resent".',
        ),
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Let --output replace a file that is there.")] = False
    format: Annotated[
        InputFormat | None, typer.Option("--format", help="The input's format, where its name and look do not tell.")
    ] = None
    rate: Annotated[
        int | None,
        typer.Option(
            min=1,
            envvar="TEAK_RATE",
            help="Requests per second: a share of the documented limit, or more where Teak allows you more.",
        ),
    ] = None
    share: Annotated[
        str | None,
        typer.Option(
            envvar="TEAK_SHARE",
            metavar="ADDRESS",
            help="Keep the limit together with all that name the same: a file on a local disk, or redis://host for many hosts.",
        ),
    ] = None
    journal: Annotated[
        Path | None,
        typer.Option(
            "--journal",
            "-j",
            envvar="TEAK_JOURNAL",
            help="Keep a journal there (SQLite): repeating the command with it goes on where a killed or interrupted run was.",
        ),
    ] = None
    deadline: Annotated[
        str | None,
        typer.Option(
            "--deadline",
            metavar="TIME",
            envvar="TEAK_DEADLINE",
            help="Send nothing after this time, and report the rest as not sent: '2026-01-31 18:00' (of this machine's zone,"
            " or with +01:00 or Europe/Berlin behind it), 'tomorrow 6:30', 18:00, 2h30m.",
        ),
    ] = None
    max_failures: Annotated[
        int | None,
        typer.Option(
            "--max-failures",
            metavar="N",
            min=1,
            envvar="TEAK_MAX_FAILURES",
            show_default="when the first 100 rows all fail for the same reason",
            help="End the run when so many rows have failed. Repeated with its journal, it goes on behind them, and counts"
            " anew.",
        ),
    ] = None
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file",
            metavar="FILE",
            envvar="TEAK_CA_FILE",
            help="Trust the certificates there (PEM), in place of the machine's.",
        ),
    ] = None
    client_cert: Annotated[
        Path | None,
        typer.Option(
            "--client-cert",
            metavar="FILE",
            envvar="TEAK_CLIENT_CERT",
            help="Show the server this certificate (PEM, with its private key).",
        ),
    ] = None
    client_key: Annotated[
        Path | None,
        typer.Option(
            "--client-key",
            metavar="FILE",
            envvar="TEAK_CLIENT_KEY",
            help="The certificate's private key (PEM), where it has its own file.",
        ),
    ] = None
    env_file: Annotated[
        Path | None,
        typer.Option(
            "--env-file",
            metavar="FILE",
            is_eager=True,
            callback=read_env_file,
            help="Read TEAK_… variables from there, as from a .env: NAME=VALUE in each line. Those that are set stay.",
        ),
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check everything, say what would be sent, send nothing.")
    ] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", envvar="TEAK_QUIET", help="Show no progress and no summary.")] = False
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", envvar="TEAK_VERBOSE", help="Show each retry and pause as it comes.")
    ] = False
    log_file: Annotated[
        Path | None,
        typer.Option(
            "--log-file",
            metavar="FILE",
            envvar="TEAK_LOG_FILE",
            help="Add every event of every call there, as JSON Lines without players or the secret.",
        ),
    ] = None


class IdentifyOptions(NamedTuple):
    """What only `identify` has, since every repetition of one is a session."""

    resend_in_doubt: Annotated[
        bool,
        typer.Option("--resend-in-doubt", help="Rather record a session twice than not at all: send rows in doubt again."),
    ] = False
    no_duplicates: Annotated[
        bool, typer.Option("--no-duplicates", help="In a dry run, do not count the players who are there several times.")
    ] = False


class ReportOptions(NamedTuple):
    """What `report` takes."""

    journal: Annotated[
        Path, typer.Argument(metavar="JOURNAL", envvar="TEAK_JOURNAL", help="The file that was given as --journal.")
    ]
    failed: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the failed rows there, in the input's format behind two columns that a command skips: why and line.",
        ),
    ] = None
    in_doubt: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the rows in doubt there, in the same way.")] = (
        None
    )
    row: Annotated[
        int | None, typer.Option(min=0, metavar="LINE", help="Tell all that is known of the row at this line of the input.")
    ] = None
    user: Annotated[str | None, typer.Option(metavar="ID", help="Tell all that is known of this player's rows.")] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the report as a picture there.")] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False


class ServerOptions(NamedTuple):
    """What `Sandbox` takes, but the faults."""

    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8377
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1"
    window: Annotated[LimitModelName, typer.Option(help="How the limit is counted.")] = LimitModelName.SLIDING
    identify: Annotated[int, typer.Option(min=1, help="Limit of identify, requests per second.")] = 200
    subscription: Annotated[int, typer.Option(min=1, help="Limit of each subscription path.")] = 300


class FaultOptions(NamedTuple):
    """What `Faults` takes."""

    delay: Annotated[float, typer.Option(min=0, help="Seconds each way.")] = 0.0
    jitter: Annotated[float, typer.Option(min=0, help="Up to so many seconds more each way.")] = 0.0
    reset: Annotated[float, typer.Option(min=0, max=1, help="Share reset before the work.")] = 0.0
    response_lost: Annotated[float, typer.Option(min=0, max=1, help="Share whose response is lost after the work.")] = 0.0
    error_before: Annotated[float, typer.Option(min=0, max=1, help="Share that gets a 500 before the work.")] = 0.0
    error_after: Annotated[float, typer.Option(min=0, max=1, help="Share that gets a 502 after the work.")] = 0.0
    stall: Annotated[float, typer.Option(min=0, max=1, help="Share whose response comes late.")] = 0.0
    stall_for: Annotated[float, typer.Option(min=0, help="Seconds by which it does.")] = 5.0
    not_json: Annotated[float, typer.Option(min=0, max=1, help="Share whose response is a web page.")] = 0.0
    spike: Annotated[float, typer.Option(min=0, max=1, help="Share that takes longer, each way.")] = 0.0
    spike_for: Annotated[float, typer.Option(min=0, help="Seconds by which it does.")] = 0.3
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0
