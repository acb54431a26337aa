"""The command line: `teak-async`, also as `python -m teak_async`.

This module has the options and their help; `commands` has what the commands do, and is imported when one is called.
The secret key is read from the environment only, since arguments are seen by every user of a machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr
from datetime import datetime
from enum import StrEnum
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, NamedTuple

try:
    import rich  # noqa: F401 - imported to see that the extra is whole
    import typer
except ModuleNotFoundError:
    sys.exit("teak-async: the command needs its extra: pip install 'teak_async[cli]'")

from teak_async._version import __version__

EPILOG = "Exit codes: 0 all succeeded, 1 some rows failed, 2 wrong usage or input, 3 rows in doubt, 130 interrupted."

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


API = "https://api.gocarrot.com"
LIMIT_MODELS = ("sliding", "fixed", "counter", "gcra", "bucket")


class Form(StrEnum):
    """Formats of an input."""

    CSV = "csv"
    JSONL = "jsonl"


File = Annotated[
    str,
    typer.Argument(metavar="FILE", help="CSV (the header row names the parameters) or JSON Lines; - for standard input."),
]
BaseUrl = Annotated[str, typer.Option(envvar="TEAK_BASE_URL", help="Another server, such as the sandbox's address.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write results (JSON Lines, one a row) there, not to standard output."),
]
Format = Annotated[Form | None, typer.Option("--format", help="The input's format, where its name and look do not tell.")]
MaxRate = Annotated[
    int | None,
    typer.Option(min=1, help="Requests per second: a share of the documented limit, or more where Teak allows you more."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no summary.")]
JournalFile = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        "-j",
        help="Keep a journal there (SQLite): repeating the command with it goes on where a killed or interrupted run was.",
    ),
]
ResendInDoubt = Annotated[
    bool,
    typer.Option("--resend-in-doubt", help="Rather record a session twice than not at all: send rows in doubt again."),
]
By = Annotated[
    datetime | None,
    typer.Option("--deadline", help="Send nothing after this time (of this machine's zone), and report the rest as not sent."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Read and check everything, say what would be sent, send nothing.")]
Category = Annotated[str | None, typer.Option(help="Only this category's notifications, not all of them.")]


class Options(NamedTuple):
    """What the commands that run a file have in common."""

    file: str
    base_url: str
    output: Path | None
    form: Form | None
    rate: int | None
    journal: Path | None
    resend_in_doubt: bool
    deadline: datetime | None
    dry_run: bool
    quiet: bool


def _options(
    file: File,
    base_url: BaseUrl = API,
    output: Output = None,
    form: Format = None,
    rate: MaxRate = None,
    journal: JournalFile = None,
    resend_in_doubt: ResendInDoubt = False,
    deadline: By = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> Options:
    return Options(file, base_url, output, form, rate, journal, resend_in_doubt, deadline, dry_run, quiet)


def _of_file(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of all that run a file, before its own; it gets them as `Options`."""

    @wraps(command)
    def run_command(**given: Any) -> None:
        own = {name: given.pop(name) for name in list(given) if name not in shared}
        command(_options(**given), **own)

    shared = signature(_options, eval_str=True).parameters
    own = [parameter for name, parameter in signature(command, eval_str=True).parameters.items() if name != "options"]
    parameters = [*shared.values(), *own]
    run_command.__signature__ = signature(command).replace(parameters=parameters)  # type: ignore[attr-defined] # typer reads it there
    run_command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run_command


def run() -> None:
    """The entry point."""
    with ExitStack() as stack:
        if sys.stderr is None:
            # Closed. What is said there has nowhere to go, and must not go among the results.
            stack.enter_context(redirect_stderr(stack.enter_context(Path(os.devnull).open("w"))))
        app(prog_name="teak-async")


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        typer.echo(f"teak-async {__version__}")
        raise typer.Exit


@app.command(epilog=EPILOG)
@_of_file
def identify(options: Options) -> None:
    """Record a session for each row: user_id and client_ip or country_code; timezone_id, email, deep_link if known.

    Every row that the server processes is a session, so a file that was run must not be run again, but with the same
    --journal: that goes on where the run was.
    """
    from .commands import run_identify

    run_identify(options)


@app.command("opt-out", epilog=EPILOG)
@_of_file
def opt_out(options: Options, category: Category = None) -> None:
    """Stop desktop push notifications for each row's user_id: all of them, or those of --category or a column category."""
    from .commands import run_set_state

    run_set_state("opt-out", "opt_out", category, options)


@app.command("opt-in", epilog=EPILOG)
@_of_file
def opt_in(options: Options, category: Category = None) -> None:
    """Allow desktop push notifications for each row's user_id: all of them, or those of --category or a column category."""
    from .commands import run_set_state

    run_set_state("opt-in", "opt_in", category, options)


@app.command(epilog=EPILOG)
@_of_file
def status(options: Options) -> None:
    """Read the desktop push subscription of each row's user_id."""
    from .commands import run_status

    run_status(options)


@app.command()
def report(
    journal: Annotated[Path, typer.Argument(metavar="JOURNAL", help="The file that was given as --journal.")],
    failed: Annotated[Path | None, typer.Option(help="Write the failed rows there, in the input's own format.")] = None,
    in_doubt: Annotated[Path | None, typer.Option(help="Write the rows in doubt there, in the input's own format.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Count what a journal says of its run, also while it goes on, and give rows back to be corrected and fed in again."""
    from .commands import run_report

    run_report(journal, failed, in_doubt, as_json=as_json)


@app.command()
def sandbox(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8377,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    window: Annotated[str, typer.Option(help=f"How limits are judged: {', '.join(LIMIT_MODELS)}.")] = "sliding",
    identify: Annotated[int, typer.Option(min=1, help="Limit of identify, requests per second.")] = 200,
    subscription: Annotated[int, typer.Option(min=1, help="Limit of each subscription path.")] = 300,
    delay: Annotated[float, typer.Option(min=0, help="Seconds each way.")] = 0.0,
    jitter: Annotated[float, typer.Option(min=0, help="Up to so many seconds more each way.")] = 0.0,
    reset: Annotated[float, typer.Option(min=0, max=1, help="Share reset before the work.")] = 0.0,
    response_lost: Annotated[float, typer.Option(min=0, max=1, help="Share whose answer is lost after the work.")] = 0.0,
    error_before: Annotated[float, typer.Option(min=0, max=1, help="Share answered 500 before the work.")] = 0.0,
    error_after: Annotated[float, typer.Option(min=0, max=1, help="Share answered 502 after the work.")] = 0.0,
    stall: Annotated[float, typer.Option(min=0, max=1, help="Share whose answer comes late.")] = 0.0,
    stall_for: Annotated[float, typer.Option(min=0, help="Seconds by which it does.")] = 5.0,
    not_json: Annotated[float, typer.Option(min=0, max=1, help="Share answered with a web page.")] = 0.0,
    spike: Annotated[float, typer.Option(min=0, max=1, help="Share that takes longer, each way.")] = 0.0,
    spike_for: Annotated[float, typer.Option(min=0, help="Seconds by which it does.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """Run a stand-in for Teak's server, with its limits and, if asked, its bad days. Ctrl-C ends it with what it saw."""
    from .commands import run_sandbox

    run_sandbox(
        {"window": window, "identify": identify, "subscription": subscription, "host": host, "port": port},
        {
            "seed": seed,
            "delay": delay,
            "jitter": jitter,
            "reset": reset,
            "response_lost": response_lost,
            "error_before": error_before,
            "error_after": error_after,
            "stall": stall,
            "stall_for": stall_for,
            "not_json": not_json,
            "spike": spike,
            "spike_for": spike_for,
        },
    )


@app.command()
def demo(
    players: Annotated[int, typer.Option(min=1, help="How many players to identify.")] = 2000,
    window: Annotated[str, typer.Option(help=f"How the sandbox judges limits: {', '.join(LIMIT_MODELS)}.")] = "sliding",
) -> None:
    """Identify a file of made-up players at a sandbox of its own, at the limit, and compare what both sides counted."""
    from .commands import run_demo_of

    run_demo_of(players, window)
