"""Whether a client keeps to the limit at the server, and how much of it it uses: this client beside its peers, over networks.

The sandbox responds by one limit model, the sliding window, and keeps the stamp of every request. All five limit models then
count the stamps, so one run tells what each of them would have rate-limited. That is fair because of the clients here only
this one acts on a 429, and its stamps are those of a client that met the 429s of the sliding window, if it met any:
`rate-limited by sliding` is what really happened.

A fixed window and a counter depend on where the seconds of the server's clock begin, which no client knows. So the stamps
are counted with ten beginnings, a tenth of a second apart, and the mean of them is printed: 0 is 0 in all.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence

from attrs import frozen

from teak_async.sandbox import Faults

from .limit_models import LIMIT_MODELS
from .peers import CLIENTS, Client
from .plot import rates
from .processes import LIMIT, Seen, Setting, alone, served
from .report import Options, Report, Table, say, spread, times

ROUNDS = 1
CALLS = 2000
BEGINNINGS = 10
DRAWN = "40 ms, jitter 8 ms each way"
"""The network of the drawing."""
NETWORKS = {
    "0 ms": Setting(),
    "40 ms": Setting(Faults(delay=0.02)),
    DRAWN: Setting(Faults(delay=0.02, jitter=0.008)),
    "120 ms, jitter 8 ms each way": Setting(Faults(delay=0.06, jitter=0.008)),
    "40 ms, 1 % take 300 ms more": Setting(Faults(delay=0.02, spike=0.005, spike_for=0.3)),
    "40 ms, every 2 s nothing moves for 0.5 s": Setting(Faults(delay=0.02), freeze=0.5),
}
"""Round trips. A spike is drawn for each way, so half a percent each makes one in a hundred."""


@frozen
class RunResult:
    """What became of one run.

    Attributes:
        rate_limited: by each model, the share of the requests.
        really: requests that the sandbox rate-limited.
        busiest: the most requests in any one second.
        used: requests per second after the first one, as a share of the limit.
        stamps: seconds after the first.
    """

    rate_limited: dict[str, float]
    really: int
    busiest: int
    used: float
    stamps: list[float]


def rate_limited_shares(stamps: Sequence[float], limit: int) -> dict[str, float]:
    """Count what each limit model would have rate-limited of some requests, as a share of them."""
    shares = {}
    for name, kind in LIMIT_MODELS.items():
        count = 0
        for beginning in range(BEGINNINGS):
            model = kind(limit)
            count += sum(not model.admits(stamp + beginning / BEGINNINGS) for stamp in stamps)
        shares[name] = count / BEGINNINGS / len(stamps)
    return shares


def run_result(seen: Seen, limit: int) -> RunResult:
    """Make the result of what the sandbox received."""
    first = seen.stamps[0]
    shares = rate_limited_shares(seen.stamps, limit)
    return RunResult(shares, seen.rate_limited, seen.busiest, seen.used, [stamp - first for stamp in seen.stamps])


def run(client: Client, url: str, calls: int) -> None:
    """In the client's process: all of it."""
    asyncio.run(client(url, calls))


def meet(client: Client, setting: Setting, calls: int) -> RunResult:
    """Let a client meet a sandbox of its own."""
    with served(setting) as server:
        alone(run, client, server.url, calls)
    return run_result(server.seen, setting.limit)


def share(value: float) -> str:
    """A share in percent; a plain 0 says that it is nothing at all."""
    return f"{value:.1%}" if value >= 0.0005 else "< 0.1%" if value else "0"


def measure(options: Options) -> Report:
    rounds, calls = options.rounds or ROUNDS, options.calls or CALLS
    clients = {name: peer for name, peer in CLIENTS.items() if peer.installed}
    names = list(clients)
    found: dict[str, dict[str, list[RunResult]]] = {network: {name: [] for name in names} for network in NETWORKS}
    for turn in range(rounds):
        for network, setting in NETWORKS.items():
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                met = meet(clients[name].run, setting, calls)
                found[network][name].append(met)
                say(f"limits, round {turn + 1}: {network}: {name}: {met.really} rate-limited, {met.used:.1%}")
    ours = [met for by_client in found.values() for name, by_name in by_client.items() if "teak" in name for met in by_name]
    notes = [f"Requests of this client that the sandbox rate-limited, in all of its runs: {sum(met.really for met in ours)}."]
    if len(names) < len(CLIENTS):
        notes.append(f"Not installed, so left out: {', '.join(set(CLIENTS) - set(names))}.")
    if options.plot is not None:
        options.plot.mkdir(parents=True, exist_ok=True)
        series = {name: met[0].stamps for name, met in found[DRAWN].items()}
        where = options.plot / "rate.svg"
        title = f"Requests in the last second at the server; round trip {DRAWN}"
        where.write_text(rates(series, LIMIT, title), encoding="utf-8")
        notes.append(f"Drawn: {where}")
    heads = ["round trip", "client", *(f"rate-limited by {name}" for name in LIMIT_MODELS), "busiest second", "limit used"]
    rows = [_row(network, name, met) for network, by_client in found.items() for name, met in by_client.items()]
    figures = {
        "calls": calls,
        "runs": {
            network: {name: [_figures(run) for run in met] for name, met in by_client.items()}
            for network, by_client in found.items()
        },
    }
    title = f"limits: {calls:,} identifies at {LIMIT} a second, {times(rounds)}"
    return Report(title, [Table(heads, rows)], notes, figures)


def _row(network: str, name: str, met: list[RunResult]) -> list[str]:
    shares = [share(statistics.mean(run.rate_limited[model] for run in met)) for model in LIMIT_MODELS]
    used = spread((run.used * 100 for run in met), "{:.1f}")
    return [network, name, *shares, f"{max(run.busiest for run in met)}", f"{used} %"]


def _figures(run: RunResult) -> dict[str, object]:
    tenths = [0] * (int(run.stamps[-1] * 10) + 1)
    for stamp in run.stamps:
        tenths[int(stamp * 10)] += 1
    return {
        "rate_limited": run.rate_limited,
        "really_rate_limited": run.really,
        "busiest": run.busiest,
        "used": run.used,
        "requests_per_tenth_of_a_second": tenths,
    }
