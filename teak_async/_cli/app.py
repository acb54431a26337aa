"""The command line: `teak-async`, also as `python -m teak_async`.

This module names the commands, `options` has their options, and `commands` and `hosting` run them. A command imports those two
only when it is called, so that the help comes at once. The secret key comes from the environment only, since every user of a
machine can see the arguments.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, redirect_stderr
from pathlib import Path
from typing import Annotated

try:
    import rich  # noqa: F401 - imported to check that the extra is installed
    import typer
except ModuleNotFoundError:
    sys.exit("teak-async: the command needs its extra: pip install 'teak_async[cli]'")

from teak_async._version import __version__

from .expand import expand_options
from .options import (
    ChannelName,
    FaultOptions,
    FileOptions,
    IdentifyOptions,
    LimitModelName,
    ReportOptions,
    ServerAddress,
    ServerOptions,
)

EPILOG = (
    "Exit codes: 0 all succeeded; 1 some rows failed or were not sent; 2 wrong usage, input or credentials; 3 rows in doubt,"
    " and perhaps others failed or not sent{remedy}; 75 the server is out; 130 interrupted by Ctrl-C, SIGTERM or SIGHUP;"
    " 137 killed."
)
SEND_EPILOG = EPILOG.format(remedy=": repeat the command")
IDENTIFY_EPILOG = EPILOG.format(remedy=": leave those in doubt, or add --resend-in-doubt")

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Teak's server API from files, at the documented rate limits, or those that you give, and never above them. "
    "Credentials are read from TEAK_GAME_ID and TEAK_SECRET_KEY. Start with: teak-async demo",
    epilog=EPILOG.format(remedy=""),
)

LIST_EPILOG = "Exit codes: 0 the list is complete, 2 wrong usage or no response, 130 interrupted."
Category = Annotated[
    str | None,
    typer.Option(
        metavar="ID",
        help="Only this category's notifications, not all of them. A column category wins over it. The command categories"
        " lists them.",
    ),
]
Channels = Annotated[
    list[ChannelName] | None,
    typer.Option(
        "--channel",
        help="The channel: desktop web push, mobile push, or email, for which a row has a column email. Repeatable, or all:"
        " a row is one call on each channel for which it has a value. Default: desktop_push.",
    ),
]
After = Annotated[
    str | None, typer.Option(metavar="CURSOR", help="Go on after a page, by the cursor that an interrupted command said last.")
]
Since = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help="2026-01-31, which is its beginning, '2026-01-31 18:00' (in this machine's zone, unless +01:00 or Europe/Berlin"
        " follows), yesterday, 18:00 (the last one), or 2h30m (ago).",
    ),
]
Until = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="When the exclusions end: 2030-01-31 (its beginning), or another form that --deadline takes. Default: never.",
    ),
]


def run() -> None:
    """The entry point."""
    with ExitStack() as stack:
        if sys.stderr is None:
            # Standard error is closed. Without this, its text would go to standard output, among the results.
            stack.enter_context(redirect_stderr(stack.enter_context(Path(os.devnull).open("w"))))
        app(prog_name="teak-async")


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        typer.echo(f"teak-async {__version__}")
        raise typer.Exit


@app.command(epilog=IDENTIFY_EPILOG, short_help="Record a session for each row of a file.")
@expand_options
def identify(options: FileOptions, own: IdentifyOptions) -> None:
    """Record a session for each row: user_id and client_ip or country_code; timezone_id, email, deep_link if known.

    Every row that the server processes is a session. So run a file again only with the same --journal: that goes on where
    the run ended.

    \b
    teak-async identify players.csv --dry-run
    teak-async identify players.csv --rows 100 -j run.db -o proof.jsonl
    teak-async identify players.csv -j run.db -o proof.jsonl   # the rest
    teak-async report run.db --failed failed.csv
    """  # noqa: D301 - a backspace is the mark of lines that stay as they are
    from .commands import run_file

    run_file("identify", options, own=own)


@app.command("opt-out", epilog=SEND_EPILOG, short_help="Stop desktop web push, or another --channel, for each row.")
@expand_options
def opt_out(options: FileOptions, category: Category = None, channel: Channels = None) -> None:
    """Stop desktop web push for each row's user_id, or with --channel mobile push, email, or all.

    It stops all notifications on the channel, or those of --category or of a column category. Repeating the command with the
    same --journal sends rows in doubt again, since a second opt-out does no harm.

    \b
    teak-async opt-out players.csv --dry-run
    teak-async opt-out players.csv -j out.db --deadline 'tomorrow 6:30'
    teak-async opt-out players.csv -j sales.db --category sales
    teak-async opt-out players.csv -j all.db -o proof.jsonl --channel all
    """  # noqa: D301 - a backspace is the mark of lines that stay as they are
    from .commands import run_file

    run_file("opt-out", options, category, channels=channel)


@app.command("opt-in", epilog=SEND_EPILOG, short_help="Allow desktop web push, or another --channel, for each row.")
@expand_options
def opt_in(options: FileOptions, category: Category = None, channel: Channels = None) -> None:
    """Allow desktop web push for each row's user_id, or with --channel mobile push, email, or all.

    It allows all notifications on the channel, or those of --category or of a column category.

    \b
    teak-async opt-in players.csv -j in.db -o proof.jsonl
    teak-async opt-in players.csv -j sales.db --category sales
    """  # noqa: D301 - a backspace is the mark of lines that stay as they are
    from .commands import run_file

    run_file("opt-in", options, category, channels=channel)


@app.command(epilog=SEND_EPILOG, short_help="Read desktop web push, or another --channel, for each row.")
@expand_options
def status(options: FileOptions, channel: Channels = None) -> None:
    """Read the desktop web push subscription of each row's user_id, or with --channel mobile push, email, or all.

    \b
    teak-async status players.csv -o states.jsonl
    producer | teak-async status - --column user_id=player
    """  # noqa: D301 - a backspace is the mark of lines that stay as they are
    from .commands import run_file

    run_file("status", options, channels=channel)


@app.command(epilog=SEND_EPILOG, short_help="Exclude each row's player from all marketing.")
@expand_options
def exclude(options: FileOptions, until: Until = None) -> None:
    """Exclude each row's user_id from all marketing, until end-exclusion, --until, or a column expire_at ends it.

    Teak forgets the player's push tokens, email address and advertising ids. They do not come back when the exclusion ends.

    \b
    teak-async exclude players.csv --dry-run
    teak-async exclude players.csv -j excluded.db --until 2030-01-31
    """  # noqa: D301 - a backspace is the mark of lines that stay as they are
    from .commands import run_file

    run_file("exclude", options, until=until)


@app.command("remove-players", epilog=SEND_EPILOG, short_help="Remove all data of each row's player, for ever.")
@expand_options
def remove_players(
    options: FileOptions,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody can answer.")] = False,
) -> None:
    """Remove all data of each row's user_id. Nothing brings them back, so look at a dry run first.

    The journal and the results keep nothing of a player but the id.

    \b
    teak-async remove-players players.csv --dry-run
    teak-async remove-players players.csv -j removed.db -o proof.jsonl
    """  # noqa: D301 - a backspace is the mark of lines that stay as they are
    from .commands import run_file

    run_file("remove-players", options, sure=yes)


@app.command("end-exclusion", epilog=SEND_EPILOG, short_help="End the exclusion of each row's player.")
@expand_options
def end_exclusion(options: FileOptions) -> None:
    """End the exclusion of each row's user_id. The data that Teak forgot do not come back.

    \b
    teak-async end-exclusion players.csv -j ended.db
    """  # noqa: D301 - a backspace is the mark of lines that stay as they are
    from .commands import run_file

    run_file("end-exclusion", options)


@app.command(
    epilog="Exit codes: 0 the journal was read, 2 it cannot be read, or has no such row.",
    short_help="Show how the rows of a run ended, by its journal.",
)
@expand_options
def report(options: ReportOptions) -> None:
    """Show what a journal has on its run, also while it goes on, and write rows that you can correct and run again.

    \b
    teak-async report run.db
    teak-async report run.db --row 4711
    teak-async report run.db --failed failed.csv    # correct it, then:
    teak-async identify failed.csv -j corrected.db
    """  # noqa: D301 - a backspace is the mark of lines that stay as they are
    from .commands import run_report

    run_report(options)


@app.command(epilog=LIST_EPILOG, short_help="List the exclusions of the game.")
@expand_options
def exclusions(server: ServerAddress, after: After = None) -> None:
    """List the exclusions of the game as JSON Lines, page by page.

    \b
    teak-async exclusions > exclusions.jsonl
    """  # noqa: D301 - a backspace is the mark of lines that stay as they are
    from .commands import run_exclusions

    run_exclusions(server.base_url, after)


@app.command(epilog=LIST_EPILOG, short_help="List the email addresses that opted out since a time.")
@expand_options
def unsubscriptions(server: ServerAddress, since: Since, after: After = None) -> None:
    """List the email addresses that opted out since a time as JSON Lines, page by page.

    \b
    teak-async unsubscriptions --since 2026-01-31 > unsubscribed.jsonl
    """  # noqa: D301 - a backspace is the mark of lines that stay as they are
    from .commands import run_unsubscriptions

    run_unsubscriptions(server.base_url, after, since)


@app.command(epilog=LIST_EPILOG, short_help="List the opt-out categories of the game.")
@expand_options
def categories(server: ServerAddress) -> None:
    """List the game's opt-out categories as JSON Lines; --category takes an identifier of them.

    \b
    teak-async categories
    """  # noqa: D301 - a backspace is the mark of lines that stay as they are
    from .commands import run_categories

    run_categories(server.base_url)


@app.command(
    epilog="Exit codes: 0 the ledger was read, 2 there is none, 75 it cannot be reached, 130 interrupted.",
    short_help="Show who shares a limit.",
)
@expand_options
def limits(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", envvar="TEAK_SHARE", help="What was given as --share.")],
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, one line each time.")] = False,
) -> None:
    """Show who shares a limit: host, process, live or bulk, permits held, rate, last seen.

    \b
    teak-async limits /run/teak/ledger.db
    teak-async limits redis://host --watch
    """  # noqa: D301 - a backspace is the mark of lines that stay as they are
    from .commands import run_limits

    run_limits(address, watch=watch, as_json=as_json)


@app.command(
    epilog="Exit codes: 0 ended by Ctrl-C or another signal, 2 wrong usage, or the port is taken.",
    short_help="Run a stand-in for Teak's server.",
)
@expand_options
def sandbox(server: ServerOptions, faults: FaultOptions) -> None:
    """Run a stand-in for Teak's server, with its limits and, if asked, faults. Ctrl-C ends it and shows what it saw.

    The page at its address shows what arrives, and lets you set limits and faults.

    \b
    teak-async sandbox --port 8377
    teak-async sandbox --delay 0.02 --response-lost 0.005 --error-before 0.01
    """  # noqa: D301 - a backspace is the mark of lines that stay as they are
    from .hosting import run_sandbox

    run_sandbox(server, faults)


@app.command(
    epilog="Exit codes: 0 client and server counted the same, 1 they did not, 2 wrong usage, 130 interrupted.",
    short_help="Identify made-up players at a sandbox of its own.",
)
@expand_options
def demo(
    players: Annotated[int, typer.Option(min=1, help="How many players to identify.")] = 2000,
    window: Annotated[LimitModelName, typer.Option(help="How the sandbox counts its limit.")] = LimitModelName.SLIDING,
    processes: Annotated[int, typer.Option(min=1, help="How many processes do it together, within one limit.")] = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Let the sandbox stay until Ctrl-C, to look at its page.")] = False,
) -> None:
    """Identify a file of made-up players at a sandbox of its own, at the limit, and compare what both sides counted.

    \b
    teak-async demo
    teak-async demo --players 10000 --processes 4
    teak-async demo --keep
    """  # noqa: D301 - a backspace is the mark of lines that stay as they are
    from .hosting import run_demo_of

    run_demo_of(players, window.value, processes, keep=keep)
