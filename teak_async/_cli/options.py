"""The options of the commands, with their help. Each is a field of a NamedTuple, which a command takes as one parameter.

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
    """Channels on which a player or an address has a subscription, and `all` for each of them."""

    DESKTOP_PUSH = "desktop_push"
    PUSH = "push"
    EMAIL = "email"
    ALL = "all"


def read_env_file(path: Path | None) -> Path | None:
    """Set the variables that a file names and that are not set yet, before other options read theirs."""
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


EnvFile = Annotated[
    Path | None,
    typer.Option(
        "--env-file",
        metavar="FILE",
        is_eager=True,
        callback=read_env_file,
        help="Read TEAK_… variables from this file, such as a .env: NAME=VALUE on each line. Those that are set stay.",
    ),
]


BaseUrl = Annotated[
    str, typer.Option(metavar="URL", envvar="TEAK_BASE_URL", help="Another server, such as the sandbox's address.")
]


class ServerAddress(NamedTuple):
    """The options of commands that read a list of the server's."""

    base_url: BaseUrl = API
    env_file: EnvFile = None


class FileOptions(NamedTuple):
    """The options of all commands that run a file."""

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
            help='Read the rows of a SELECT in place of FILE, such as "SELECT player_id AS user_id, ip AS client_ip FROM'
            " 'x/*.parquet'\". It reads Parquet, JSON, CSV and DuckDB files, and needs the extra sql.",
        ),
    ] = None
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="PARAMETER=COLUMN",
            help="Read a parameter from a column of another name: user_id=player_id. Repeatable.",
        ),
    ] = None
    constant: Annotated[
        list[str] | None,
        typer.Option("--constant", metavar="PARAMETER=VALUE", help="Give all rows this value: country_code=US. Repeatable."),
    ] = None
    ignore_extra: Annotated[bool, typer.Option("--ignore-extra", help="Leave out unknown columns.")] = False
    as_is: Annotated[
        bool,
        typer.Option(
            "--as-is", help="Send values as they are, also NULL, nan, 12.0 and 1.2E+17, which look like mistakes of an export."
        ),
    ] = False
    null: Annotated[
        list[str] | None,
        typer.Option("--null", metavar="WORD", help="Another word for a missing value, such as '-'. Repeatable."),
    ] = None
    rows: Annotated[
        str | None,
        typer.Option(
            "--rows",
            metavar="PART",
            help="Send these only: 100 for the first hundred rows, 5001-6000 for these lines of the file (a header is line 1),"
            " 5001- for all from there. A later run with the same journal can send the rest.",
        ),
    ] = None
    once: Annotated[bool, typer.Option("--once", help="Send only the first row of each player.")] = False
    allow_empty: Annotated[bool, typer.Option("--allow-empty", help="Accept an input without rows as a success.")] = False
    base_url: BaseUrl = API
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            envvar="TEAK_OUTPUT",
            help="Write the results (JSON Lines, one for each call of a row) to this file, not to standard output. A run that"
            ' goes on adds to its file: a row in doubt that it sends again has another line, with "resent", and the last one'
            " holds. With a journal, rows that were not sent have none.",
        ),
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Let --output replace a file that exists.")] = False
    format: Annotated[
        InputFormat | None, typer.Option("--format", help="The input's format, if its name and its content do not show it.")
    ] = None
    rate: Annotated[
        int | None,
        typer.Option(
            min=1,
            envvar="TEAK_RATE",
            help="Requests per second: a share of the documented limit, or more if Teak allows you more.",
        ),
    ] = None
    share: Annotated[
        str | None,
        typer.Option(
            envvar="TEAK_SHARE",
            metavar="ADDRESS",
            help="Share the limit with all processes that name the same ledger: a file on a local disk, or redis://host.",
        ),
    ] = None
    journal: Annotated[
        Path | None,
        typer.Option(
            "--journal",
            "-j",
            envvar="TEAK_JOURNAL",
            help="Keep a journal (SQLite) in this file. After a kill or an interrupt, the same command goes on from there.",
        ),
    ] = None
    deadline: Annotated[
        str | None,
        typer.Option(
            "--deadline",
            metavar="TIME",
            envvar="TEAK_DEADLINE",
            help="Send nothing after this time, and leave the rest for a later run of the journal: '2026-01-31 18:00' (in this"
            " machine's zone, unless +01:00 or Europe/Berlin follows), 'tomorrow 6:30', 18:00, 2h30m. A day without a time is"
            " its beginning.",
        ),
    ] = None
    outage: Annotated[
        str | None,
        typer.Option(
            "--outage",
            metavar="TIME",
            envvar="TEAK_OUTAGE",
            show_default="10m",
            help="Wait so long while the server is out, then end the run with exit code 75: 30s, 2h.",
        ),
    ] = None
    max_failures: Annotated[
        int | None,
        typer.Option(
            "--max-failures",
            metavar="N",
            min=1,
            envvar="TEAK_MAX_FAILURES",
            show_default="when 100 rows have failed for the same reason before one has succeeded",
            help="End the run when so many rows have failed; those on the wire still end. With its journal, the same"
            " command goes on after them, and counts from 0.",
        ),
    ] = None
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file",
            metavar="FILE",
            envvar="TEAK_CA_FILE",
            help="Trust the certificates in this file (PEM), in place of the machine's.",
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
            help="The certificate's private key (PEM), if it has a file of its own.",
        ),
    ] = None
    env_file: EnvFile = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check everything, say what would be sent, and send nothing.")
    ] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", envvar="TEAK_QUIET", help="Show no progress and no summary.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", envvar="TEAK_VERBOSE", help="Show each retry and pause.")] = False
    log_file: Annotated[
        Path | None,
        typer.Option(
            "--log-file",
            metavar="FILE",
            envvar="TEAK_LOG_FILE",
            help="Add every event of every call to this file, as JSON Lines without players or the secret.",
        ),
    ] = None


class IdentifyOptions(NamedTuple):
    """The options of `identify` alone: each repetition of an identify is another session."""

    resend_in_doubt: Annotated[
        bool,
        typer.Option("--resend-in-doubt", help="Send rows in doubt again, at the risk of recording a session twice."),
    ] = False
    no_duplicates: Annotated[
        bool, typer.Option("--no-duplicates", help="In a dry run, do not count the rows that repeat a player.")
    ] = False


class ReportOptions(NamedTuple):
    """The options of `report`."""

    journal: Annotated[
        Path, typer.Argument(metavar="JOURNAL", envvar="TEAK_JOURNAL", help="The file that was given as --journal.")
    ]
    failed: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the failed rows to this file, in the input's format, after two columns that commands skip: why, line.",
        ),
    ] = None
    in_doubt: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the rows in doubt to this file, in the same way.")
    ] = None
    row: Annotated[
        int | None, typer.Option(min=0, metavar="LINE", help="Show all that is known of the row at this line of the input.")
    ] = None
    user: Annotated[str | None, typer.Option(metavar="ID", help="Show all that is known of this player's rows.")] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the report as a picture in this file.")] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False


class ServerOptions(NamedTuple):
    """The parameters of `Sandbox`, without the faults."""

    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8377
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1"
    window: Annotated[LimitModelName, typer.Option(help="How the limit is counted.")] = LimitModelName.SLIDING
    identify: Annotated[int, typer.Option(min=1, help="Limit of identify, requests per second.")] = 200
    subscription: Annotated[int, typer.Option(min=1, help="Limit of each subscription path.")] = 300
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", metavar="NAME=N", help="Another limit that is not Teak's, as exclusions=5; repeatable."),
    ] = None
    players: Annotated[int, typer.Option(min=0, help="Begin with so many players: player-000000, player-000001 and so on.")] = 0


class FaultOptions(NamedTuple):
    """The parameters of `Faults`."""

    delay: Annotated[float, typer.Option(min=0, help="Seconds each way.")] = 0.0
    jitter: Annotated[float, typer.Option(min=0, help="Up to so many seconds more each way.")] = 0.0
    reset: Annotated[float, typer.Option(min=0, max=1, help="Share reset before the work.")] = 0.0
    response_lost: Annotated[float, typer.Option(min=0, max=1, help="Share whose response is lost after the work.")] = 0.0
    error_before: Annotated[float, typer.Option(min=0, max=1, help="Share that gets a 500 before the work.")] = 0.0
    error_after: Annotated[float, typer.Option(min=0, max=1, help="Share that gets a 502 after the work.")] = 0.0
    stall: Annotated[float, typer.Option(min=0, max=1, help="Share whose response comes late.")] = 0.0
    stall_for: Annotated[float, typer.Option(min=0, help="Seconds by which a stalled response is late.")] = 5.0
    not_json: Annotated[float, typer.Option(min=0, max=1, help="Share whose response is a web page.")] = 0.0
    spike: Annotated[float, typer.Option(min=0, max=1, help="Share that takes longer, each way.")] = 0.0
    spike_for: Annotated[float, typer.Option(min=0, help="Seconds that a spike takes longer.")] = 0.3
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 0
