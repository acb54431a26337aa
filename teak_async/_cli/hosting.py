"""Runs the commands that need a sandbox. Only this module imports it, so that the other commands start faster."""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import suppress

import typer

from teak_async.sandbox import GAME_ID, SECRET_KEY, Faults, Sandbox

from .demo import ended_by_signal, name_player, run_demo
from .errors import fail, say
from .logs import log_events
from .options import FaultOptions, ServerOptions
from .signals import LISTENER


def run_sandbox(server_options: ServerOptions, fault_options: FaultOptions) -> None:
    LISTENER.set_exit_message("the sandbox has ended")
    options = server_options._asdict()
    names = map(name_player, range(options.pop("players")))
    try:
        limits = _read_limits(options.pop("limit"))
        server = Sandbox(**options, limits=limits, faults=Faults(**fault_options._asdict()))
        for name in names:
            server.add_player(name)
        with suppress(KeyboardInterrupt):
            asyncio.run(_serve(server))
    except ValueError as error:
        raise fail(str(error)) from None
    except OSError as error:
        reason = re.sub(r"^\[errno \d+\] ", "", str(error.strerror).rpartition(": ")[2])  # from Python 3.13 on
        remedy = "name another --port, 0 for a free one, or another --host"
        raise fail(f"cannot listen at {server_options.host}:{server_options.port}: {reason}; {remedy}") from None
    typer.echo(_describe_traffic(server))


def run_demo_of(players: int, window: str, processes: int, *, keep: bool) -> None:
    try:
        raise typer.Exit(asyncio.run(run_demo(players, window, processes, keep=keep)))
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise fail("interrupted; the demo is not complete", 130) from None


def _read_limits(given: list[str] | None) -> dict[str, int]:
    limits = {}
    for text in given or ():
        name, _, limit = text.partition("=")
        if not limit.isdecimal() or not int(limit):
            raise ValueError(f"--limit: {text!r} is not of the form exclusions=5, with a whole number of at least 1")
        limits[name.strip()] = int(limit)
    return limits


async def _serve(server: Sandbox) -> None:
    with log_events(None, say), ended_by_signal() as ended:
        async with server:
            typer.echo(f"Teak sandbox at {server.url}; open it to see what arrives; Ctrl-C ends it. In another shell:")
            typer.echo(f"  export TEAK_BASE_URL={server.url} TEAK_GAME_ID={GAME_ID} TEAK_SECRET_KEY={SECRET_KEY}")
            sys.stdout.flush()
            await ended.wait()


def _describe_traffic(server: Sandbox) -> str:
    lines = [
        f"{path}: {seen.requests:,} requests, {seen.rate_limited:,} rate-limited, busiest second {seen.busiest:,}"
        for path, seen in server.seen.items()
    ]
    counts = server.summary()
    opted_out = ", ".join(f"{count:,} on {channel}" for channel, count in counts["opted_out"].items())
    return "\n".join([*lines, f"{counts['players']:,} players, {counts['sessions']:,} sessions; opted out: {opted_out}"])
