"""The command line: `teak-async`, also as `python -m teak_async`.

This module names the commands, `options` has their options, and `commands` has what they do: a command imports that when it
is called, so that the help comes at once. The secret key is read from the environment only, since every user of a machine
sees the arguments.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, redirect_stderr
from pathlib import Path
from typing import Annotated

try:
    import rich  # noqa: F401 - imported to see that the extra is whole
    import typer
except ModuleNotFoundError:
    sys.exit("teak-async: the command needs its extra: pip install 'teak_async[cli]'")

from teak_async._version import __version__

from .options import LIMIT_MODELS, FaultOptions, FileOptions, ServerOptions, expand_options

EPILOG = (
    "Exit codes: 0 all succeeded, 1 some rows failed or were not sent, 2 wrong usage or input, 3 rows in doubt,"
    " 75 the server is out, 130 interrupted."
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Teak's server API from files, at the documented rate limits and never above them. "
    "Credentials are read from TEAK_GAME_ID and TEAK_SECRET_KEY. Start with: teak-async demo",
    epilog=EPILOG,
)

Category = Annotated[str | None, typer.Option(help="Only this category's notifications, not all of them.")]


def run() -> None:
    """The entry point."""
    with ExitStack() as stack:
        if sys.stderr is None:
            # A closed standard error is `None`, and what is printed there would go to standard output, among the results.
            stack.enter_context(redirect_stderr(stack.enter_context(Path(os.devnull).open("w"))))
        app(prog_name="teak-async")


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        typer.echo(f"teak-async {__version__}")
        raise typer.Exit


@app.command(epilog=EPILOG)
@expand_options
def identify(options: FileOptions) -> None:
    """Record a session for each row: user_id and client_ip or country_code; timezone_id, email, deep_link if known.

    Every row that the server processes is a session, so a file that was run must not be run again, but with the same
    --journal: that goes on where the run was.
    """
    from .commands import run_file

    run_file("identify", options)


@app.command("opt-out", epilog=EPILOG)
@expand_options
def opt_out(options: FileOptions, category: Category = None) -> None:
    """Stop desktop push notifications for each row's user_id: all of them, or those of --category or a column category."""
    from .commands import run_file

    run_file("opt-out", options, category)


@app.command("opt-in", epilog=EPILOG)
@expand_options
def opt_in(options: FileOptions, category: Category = None) -> None:
    """Allow desktop push notifications for each row's user_id: all of them, or those of --category or a column category."""
    from .commands import run_file

    run_file("opt-in", options, category)


@app.command(epilog=EPILOG)
@expand_options
def status(options: FileOptions) -> None:
    """Read the desktop push subscription of each row's user_id."""
    from .commands import run_file

    run_file("status", options)


@app.command()
def report(
    journal: Annotated[Path, typer.Argument(metavar="JOURNAL", help="The file that was given as --journal.")],
    failed: Annotated[Path | None, typer.Option(help="Write the failed rows there, in the input's own format.")] = None,
    in_doubt: Annotated[Path | None, typer.Option(help="Write the rows in doubt there, in the input's own format.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
) -> None:
    """Count what a journal says of its run, also while it goes on, and give rows back to be corrected and fed in again."""
    from .commands import run_report

    run_report(journal, failed, in_doubt, as_json=as_json, overwrite=overwrite)


@app.command()
def limits(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", envvar="TEAK_SHARE", help="What was given as --share.")],
    watch: Annotated[bool, typer.Option("--watch", help="Look again every second, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, one line for each look.")] = False,
) -> None:
    """Show who shares a limit: host, process, live or bulk, permits held, rate, last seen."""
    from .commands import run_limits

    run_limits(address, watch=watch, as_json=as_json)


@app.command()
@expand_options
def sandbox(server: ServerOptions, faults: FaultOptions) -> None:
    """Run a stand-in for Teak's server, with its limits and, if asked, its bad days. Ctrl-C ends it with what it saw."""
    from .commands import run_sandbox

    run_sandbox(server, faults)


@app.command()
def demo(
    players: Annotated[int, typer.Option(min=1, help="How many players to identify.")] = 2000,
    window: Annotated[str, typer.Option(help=f"The sandbox's limit model: {', '.join(LIMIT_MODELS)}.")] = "sliding",
    processes: Annotated[int, typer.Option(min=1, help="How many processes do it together, within one limit.")] = 1,
) -> None:
    """Identify a file of made-up players at a sandbox of its own, at the limit, and compare what both sides counted."""
    from .commands import run_demo_of

    run_demo_of(players, window, processes)
