"""Somebody else spends the same limit, in virtual time: how much of what is left a bulk run gets, and at what price.

The other one sends by its own pattern whatever is rate-limited. What is left is the limit less what it sends. The server counts
the seconds of its clock or any second, and with every other seed the rate-limited requests, too. Each seed draws the phase of
the pattern, when the other one comes, how long it stays, and a jitter of 8 ms each way around 40 ms. After it has left, the
time is taken until a second holds 95 % of the limit. Then two of our own clients that do not know of each other share a limit.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Callable, Iterator

from attrs import field, frozen

from teak_async._limits.bucket import Lane

from .processes import LIMIT
from .report import Options, Report, Table, say
from .virtual import VirtualLoop, run_virtual
from .world import FRESH, SEEDS, Client, SharedServer, evenly_jittered

COMES = 10.0
"""Seconds before the other one comes; up to one more."""
STAYS = (50.0, 190.0)
"""Seconds that it stays."""
LEFT_ALONE = 40.0
"""Seconds after it has left."""
OTHERS = 100.0
"""Requests a second of the other one, if it does not change."""
MOST = 150.0
"""Requests a second at the end of the ramp."""
RAMP = 60.0
TURN = 30.0
"""Seconds that the other one is on, and off, in turn."""
CLUMP = 10
BACK = 0.95
"""Share of the limit at which it counts as won back."""
TOGETHER = 120.0
"""Seconds that two clients of ours are watched."""
DELAY, JITTER = 0.02, 0.008

Pattern = Callable[[random.Random, float, float], Iterator[float]]
"""Makes the moments between the coming and the leaving."""


def constant(draw: random.Random, begin: float, end: float) -> Iterator[float]:
    now = begin + draw.random() / OTHERS
    while now < end:
        yield now
        now += 1 / OTHERS


def clumps(draw: random.Random, begin: float, end: float) -> Iterator[float]:
    now = begin + draw.random() * CLUMP / OTHERS
    while now < end:
        yield from [now] * CLUMP
        now += CLUMP / OTHERS


def on_and_off(draw: random.Random, begin: float, end: float) -> Iterator[float]:
    return (now for now in constant(draw, begin, end) if (now - begin) % (2 * TURN) < TURN)


def ramp(draw: random.Random, begin: float, end: float) -> Iterator[float]:
    now = begin + draw.random() * 0.1
    while now < end:
        rate = MOST * ((now - begin) % RAMP) / RAMP
        if rate > 1:
            yield now
        now += 1 / max(rate, 10.0)


def poisson(draw: random.Random, begin: float, end: float) -> Iterator[float]:
    now = begin
    while (now := now + draw.expovariate(OTHERS)) < end:
        yield now


PATTERNS: dict[str, Pattern] = {
    "100 a second": constant,
    "100 a second, 10 at once": clumps,
    "100 a second, 30 s on, 30 s off": on_and_off,
    "0 to 150 a second within 60 s": ramp,
    "100 a second, at random": poisson,
}


@frozen
class Seen:
    """One stay of the other one.

    Attributes:
        got: share of what it left.
        rate_limited: share of our requests.
        back: seconds from its leaving until a second holds 95 % of the limit.
    """

    got: float
    rate_limited: float
    back: float


@frozen
class Runs:
    """All seeds of one pattern and way of counting."""

    seen: list[Seen] = field(factory=list)

    def row(self) -> tuple[str, ...]:
        got = sorted(run.got for run in self.seen)
        back = sorted(run.back for run in self.seen)
        limited = sorted(run.rate_limited for run in self.seen)
        return (
            f"{statistics.median(got):.1%} ({got[0]:.1%})",
            f"{statistics.median(limited):.2%} ({limited[-1]:.2%})",
            f"{statistics.median(back):.1f} ({back[-1]:.1f}) s",
        )


def stay(pattern: Pattern, draw: random.Random) -> tuple[float, float]:
    """Draw when somebody else comes, and when it leaves."""
    begin = COMES + draw.random()
    end = begin + (RAMP if pattern is ramp else draw.uniform(*STAYS))
    if pattern is on_and_off:
        # It leaves at the end of a turn.
        end = begin + TURN * (2 * int((end - begin) / (2 * TURN)) + 1)
    return begin, end


def judge(server: SharedServer, begin: float, end: float, others: int) -> Seen:
    """Judge what a shared server saw of us while somebody else made so many requests, and after it left."""
    got = sum(begin <= stamp < end for stamp in server.admitted)
    limited = sum(begin <= stamp < end for stamp in server.rate_limited)
    return Seen(got / (LIMIT * (end - begin) - others), limited / max(got + limited, 1), _back(server.admitted, end))


def watch(pattern: Pattern, seed: int, *, fixed: bool) -> Seen:
    """Let somebody else come and go."""
    draw = random.Random(seed)
    begin, end = stay(pattern, draw)
    others = list(pattern(draw, begin, end))
    server = SharedServer(fixed=fixed, counts_all=bool(seed % 2), others=iter(others))
    way = evenly_jittered(draw, DELAY, JITTER)

    async def main(_: VirtualLoop) -> None:
        client = Client(way, way, server)
        client.want_more(Lane.BULK)
        await asyncio.sleep(end + LEFT_ALONE)
        await client.stop()

    run_virtual(main)
    return judge(server, begin, end, len(others))


def _back(admitted: list[float], end: float) -> float:
    """Return how long after the end a second first holds nearly all of the limit."""
    most = int(BACK * LIMIT)
    for first, last in zip(admitted, admitted[most - 1 :], strict=False):
        if last >= end and last - first < 1.0:
            return last - end
    return LEFT_ALONE


def share_with_own(seed: int, *, fixed: bool) -> tuple[float, float, float]:
    """Let two clients of ours share a limit; return what both got, the smaller one's share, and what was rate-limited."""
    draw = random.Random(seed)
    server = SharedServer(fixed=fixed, counts_all=bool(seed % 2), others=iter(()))
    way = evenly_jittered(draw, DELAY, JITTER)
    begin = draw.random() * COMES

    async def main(_: VirtualLoop) -> list[int]:
        both = [Client(way, way, server) for _ in range(2)]
        for client in both:
            client.want_more(Lane.BULK)
            await asyncio.sleep(begin)
        await asyncio.sleep(TOGETHER)
        for client in both:
            await client.stop()
        return [client.sent - client.bucket.window.rate_limited for client in both]

    got = run_virtual(main)
    limited = len(server.rate_limited)
    return len(server.admitted) / (TOGETHER + 2 * begin), min(got) / sum(got), limited / (len(server.admitted) + limited)


def measure(options: Options) -> Report:
    seeds = options.rounds or SEEDS
    rows = []
    figures = {}
    together = []
    for counted in ("sliding", "fixed"):
        fixed = counted == "fixed"
        for name, pattern in PATTERNS.items():
            runs = Runs([watch(pattern, FRESH + seed, fixed=fixed) for seed in range(seeds)])
            rows.append((counted, name, *runs.row()))
            say(f"foreign: {' | '.join(rows[-1])}")
            figures[f"{counted}, {name}"] = {
                part: [getattr(run, part) for run in runs.seen] for part in ("got", "rate_limited", "back")
            }
        both = [share_with_own(FRESH + seed, fixed=fixed) for seed in range(seeds)]
        rates, shares, limited = ([run[part] for run in both] for part in range(3))
        together.append((counted, f"{statistics.median(rates):.0f}", f"{min(shares):.0%}", f"{max(limited):.2%}"))
        figures[f"{counted}, two clients"] = {"rate": rates, "smaller": shares, "rate_limited": limited}
    heads = ("counted", "somebody else", "of what is left", "rate-limited", "95 % of the limit after it left")
    return Report(
        f"foreign: a bulk run beside somebody else's requests, {LIMIT} a second, {seeds} seeds from {FRESH}",
        [
            Table(heads, rows),
            Table(("counted", "two clients, requests a second", "the smaller share", "rate-limited"), together),
        ],
        ["The median of the seeds, and in brackets the worst."],
        {"seeds": seeds, "runs": figures},
    )
