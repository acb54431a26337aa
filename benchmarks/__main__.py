"""Runs the benchmarks and prints what each topic found: `python -m benchmarks [TOPIC]`.

The sandbox runs in a process of its own and counts for itself; every client runs in a process of its own too. The clients of
one table meet the same kind of sandbox in turn, never two at once, round after round. What a topic measures, and how, is
said at the top of its module.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import aiohttp

from .report import Options, Report, machine

TOPICS = {
    "limits": "does it keep to the limit, and use it, beside other limiters",
    "virtual": "a million requests through the bucket, in virtual time",
    "routes": "routes that change while the bucket is in full use, in virtual time",
    "foreign": "somebody else who spends the same limit, in virtual time",
    "waits": "how long live calls wait beside a bulk run, in virtual time",
    "real": "the scenes of routes, foreign and waits, by real runs",
    "lanes": "how long live calls wait during a bulk run",
    "burst": "150 live calls at once on an idle session",
    "stall": "the loop blocked for a second, on purpose",
    "cpu": "processor time of one call, beside the same call by hand",
    "tells": "what it costs to be told of the traffic; OpenTelemetry",
    "page": "what the sandbox's page costs the sandbox",
    "scale": "a hundred thousand callers waiting at once; import time",
    "journal": "what a journal costs",
    "shares": "one limit for many members, in virtual time",
    "fleet": "one limit for many processes, with either ledger",
    "kill": "a backfill that is killed again and again",
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(["topics:", *(f"  {name:<9}{what}" for name, what in TOPICS.items())]),
    )
    parser.add_argument("topic", nargs="?", choices=TOPICS, metavar="TOPIC", help="all of them when left out")
    parser.add_argument("--rounds", type=int, help="turns of each client; each topic has its own default")
    parser.add_argument("--calls", type=int, help="requests of one turn; each topic has its own default")
    parser.add_argument("--times", type=int, default=25, help="kills of the topic kill")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="draw what the topic limits saw, as rate.svg there")
    asked = parser.parse_args(arguments)
    options = Options(asked.rounds, asked.calls, asked.times, asked.plot)
    print(f"Python {platform.python_version()}, aiohttp {aiohttp.__version__}, {platform.machine()}, {platform.system()}")
    found: dict[str, Any] = {}
    for name in [asked.topic] if asked.topic else TOPICS:
        report: Report = import_module(f"benchmarks.{name}").measure(options)
        print(report, flush=True)
        found[name] = {"title": report.title, **report.figures}
        if asked.json is not None:
            asked.json.write_text(json.dumps({**machine(), "topics": found}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
