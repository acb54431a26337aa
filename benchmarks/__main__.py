"""Runs the benchmarks and prints one table a topic: `python -m benchmarks [limits | network | burst | journal | kill | cpu]`.

The sandbox runs in a process of its own and counts for itself; every client runs in a process of its own too, so that its
processor time is its own. The clients of one table meet the same kind of sandbox in turn, round after round; the figures
are medians, the refusals sums.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import statistics

import aiohttp

from teak_async.sandbox import Faults

from . import cpu
from .field import CLIENTS, LIMIT, Run, Setting, burst_then_bulk, measure, measure_rows, ours, ours_with_live
from .kill import kill_many
from .report import Options
from .rows import Cost


def limits(rounds: int, calls: int) -> None:
    """This client beside what one writes by hand, on loopback."""
    print(f"\n## limits: {calls:,} identifies, loopback, sliding window, {rounds} rounds\n")
    print("| client | refused | busiest second | limit used | CPU per call |\n|---|---|---|---|---|")
    runs: dict[str, list[Run]] = {name: [] for name in CLIENTS}
    for _ in range(rounds):
        for name, client in CLIENTS.items():
            runs[name].append(measure(client, Setting(calls, Faults(), "sliding")))
    for name, done in runs.items():
        refused = sum(run.refused for run in done) / calls / rounds
        busiest = max(run.busiest for run in done)
        used = statistics.median(run.used for run in done)
        cpu = statistics.median(run.cpu for run in done)
        print(f"| {name} | {refused:.1%} | {busiest} of {LIMIT} | {used:.1%} | {cpu * 1e6:.0f} µs |")


def network(rounds: int, calls: int) -> None:
    """This client over networks, alone and with live calls beside the bulk run."""
    print(f"\n## network: {calls:,} identifies, sliding window, {rounds} rounds\n")
    print("| round trip | jitter each way | refused | busiest second | limit used | a live call's wait during bulk, p99 |")
    print("|---|---|---|---|---|---|")
    for trip, jitter in ((0, 0), (40, 0), (40, 8), (120, 8), (0, 50)):
        setting = Setting(calls, Faults(delay=trip / 2000, jitter=jitter / 1000), "sliding")
        alone = [measure(ours, setting) for _ in range(rounds)]
        beside = [measure(ours_with_live, setting) for _ in range(rounds)]
        refused = sum(run.refused for run in alone + beside)
        busiest = max(run.busiest for run in alone + beside)
        used = statistics.median(run.used for run in alone)
        waits = sorted(wait for run in beside for wait in run.waits)
        p99 = waits[int(len(waits) * 0.99)] * 1000
        print(f"| {trip} ms | {jitter} ms | {refused} | {busiest} of {LIMIT} | {used:.1%} | {p99:.1f} ms |", flush=True)


def burst(rounds: int, calls: int) -> None:
    """150 live calls at once on an idle session, and load after them."""
    del calls
    print(f"\n## burst: 150 live calls at once on an idle session, then 600 bulk calls, loopback, {rounds} rounds\n")
    print("| all answered after | refused | busiest second |\n|---|---|---|")
    runs = [measure(burst_then_bulk, Setting(600, Faults(), "sliding")) for _ in range(rounds)]
    slowest = statistics.median(max(run.waits) for run in runs)
    print(f"| {slowest:.2f} s | {sum(run.refused for run in runs)} | {max(run.busiest for run in runs)} of {LIMIT} |")


def journal(rounds: int, calls: int) -> None:
    """A long run with the limit set very high, with and without a journal, in turn."""
    count = calls * 10
    print(f"\n## journal: {count:,} identifies, limit very high, loopback, {rounds} rounds\n")
    print("| journal | memory growth | CPU per row | loop lag, p99.9 | longest |\n|---|---|---|---|---|")
    costs: dict[str, list[Cost]] = {"no": [], "yes": []}
    for _ in range(rounds):
        for name, done in costs.items():
            done.append(measure_rows(count, journal=name == "yes"))
    for name, done in costs.items():
        growth, cpu, lag = (statistics.median(getattr(cost, part) for cost in done) for part in ("growth", "cpu", "lag"))
        longest = max(cost.longest_lag for cost in done)
        print(f"| {name} | {growth:.1f} MiB | {cpu * 1e6:.0f} µs | {lag * 1e3:.1f} ms | {longest * 1e3:.1f} ms |")
    ratio = statistics.median(with_.cpu / without.cpu for with_, without in zip(costs["yes"], costs["no"], strict=True))
    print(f"\nCPU per row with a journal to without: {ratio:.2f}")


def kill(rounds: int, calls: int) -> None:
    """A backfill that is killed again and again; `--times` says how often."""
    del rounds, calls
    print(f"\n## kill: SIGKILL at random moments, {TIMES.times} times\n")
    for name, count in asyncio.run(kill_many(TIMES.times, seed=1)).items():
        print(f"- {name}: {count:,}")


def processor(rounds: int, calls: int) -> None:
    """What one call costs, beside the same call written by hand."""
    print(cpu.measure(Options(rounds, calls)))


TIMES = argparse.Namespace(times=25)
TOPICS = {"limits": limits, "network": network, "burst": burst, "journal": journal, "kill": kill, "cpu": processor}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("topic", nargs="?", choices=TOPICS, help="all of them when left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--times", type=int, default=25, help="kills of the topic kill")
    options = parser.parse_args(namespace=TIMES)
    print(f"Python {platform.python_version()}, aiohttp {aiohttp.__version__}, {platform.machine()}, {platform.system()}")
    for name in [options.topic] if options.topic else TOPICS:
        TOPICS[name](options.rounds, options.calls)


if __name__ == "__main__":
    main()
