"""A program that blocks its event loop for a whole second, on purpose, while a bulk run and live calls go on.

After such a stall everything is due at once: responses, timers, callers. What counts is that no limit model rate-limits any of
it, and that every call succeeds.
"""

from __future__ import annotations

import statistics

from teak_async.sandbox import Faults

from .lanes import LIVE, Waits, meet
from .limit_models import LIMIT_MODELS
from .limits import RunResult, share
from .processes import LIMIT, Setting
from .report import Options, Report, Table, say, spread, times

ROUNDS = 2
CALLS = 2000
STALLS = (0.2, 0.45, 0.7)
"""When, as shares of the seconds that the rows take at the limit."""
STALL = 1.0
NETWORKS = {
    "0 ms": Setting(),
    "40 ms, jitter 8 ms each way": Setting(Faults(delay=0.02, jitter=0.008)),
}


def measure(options: Options) -> Report:
    rounds, calls = options.rounds or ROUNDS, options.calls or CALLS
    moments = [part * calls / LIMIT for part in STALLS]
    met: dict[str, list[tuple[Waits, RunResult]]] = {network: [] for network in NETWORKS}
    for turn in range(rounds):
        for network, setting in NETWORKS.items():
            met[network].append(meet(setting, calls, moments, STALL))
            say(f"stall, round {turn + 1}: {network}: {met[network][-1][1].really} rate-limited")
    rows = [
        (
            network,
            *(share(statistics.mean(run.rate_limited[model] for _, run in found)) for model in LIMIT_MODELS),
            f"{max(run.busiest for _, run in found)}",
            spread((run.used * 100 for _, run in found), "{:.1f}") + " %",
            f"{max(max(waits.whole) for waits, _ in found):.2f} s",
        )
        for network, found in met.items()
    ]
    heads = (
        "round trip",
        *(f"rate-limited by {name}" for name in LIMIT_MODELS),
        "busiest second",
        "limit used",
        "longest live call",
    )
    title = (
        f"stall: the loop blocked for {STALL:.0f} s, {len(STALLS)} times, in a bulk run of {calls:,} identifies"
        f" with {LIVE:.0f} live calls a second, {times(rounds)}"
    )
    figures = {
        network: [
            {"rate_limited": run.rate_limited, "really_rate_limited": run.really, "busiest": run.busiest, "used": run.used}
            for _, run in found
        ]
        for network, found in met.items()
    }
    return Report(title, [Table(heads, rows)], figures={"calls": calls, "networks": figures})
