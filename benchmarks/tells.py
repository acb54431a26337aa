"""What it costs to be told of the traffic: nobody listening, a hook that does nothing, and OpenTelemetry with its SDK.

All of them run in one process and take turns, some hundred calls each time, so a slow moment of the machine meets them all; a
ratio is taken within a round. What a call costs depends on its pace, and so does what a span is a share of: a program that
makes two hundred calls a second, which is what the documented limit allows, wakes up for each of them, and one that makes
thousands serves many at a time.

Telemetry is set up as in production: each span goes into a batch that a thread of the SDK exports (to nowhere), metrics are
kept by a reader, and every trace is sampled unless said otherwise. One span and one duration by the
conventions are made by hand around the same calls, too: the SDK's own functions, with all attributes ready. What
OpenTelemetry's own instrumentation of aiohttp adds to the call by hand stands beside it.

How many questions "does anybody listen?" a call asks is counted, and one of them timed by itself; a difference of two whole
calls would be far below what can be told apart.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
import timeit
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from attrs import frozen

from teak_async import TeakSession
from teak_async._notify import Notifier
from teak_async.events import Event
from teak_async.sandbox import GAME_ID, IDENTIFY, SECRET_KEY, Faults

from .cpu import FREE_LIMITS, WORKERS, work
from .peers import body
from .processes import FREE, LIMIT, Setting, alone, served
from .report import Options, Report, Table, quarters, say, spread, times

ROUNDS = 12
CALLS = 400
"""Calls of one turn."""
WARM = 200
"""Calls of each before the first that counts."""

Call = Callable[[int], Awaitable[object]]


def sdk(sampled: float = 1.0) -> dict[str, Any]:
    """Providers of OpenTelemetry's SDK as a program in production has them, but for where the spans go."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            assert all(isinstance(span, ReadableSpan) for span in spans)
            return SpanExportResult.SUCCESS

    tracers = TracerProvider(sampler=ParentBased(TraceIdRatioBased(sampled)))
    tracers.add_span_processor(BatchSpanProcessor(Nowhere()))
    return {"tracer_provider": tracers, "meter_provider": MeterProvider([InMemoryMetricReader()])}


def telemetry(sampled: float = 1.0) -> Callable[[Event], None]:
    """Ours."""
    from teak_async.otel import OpenTelemetry

    return OpenTelemetry(**sdk(sampled))


@asynccontextmanager
async def ours(url: str, hook: Callable[[Event], object] | None = None) -> AsyncIterator[Call]:
    """`await teak.identify(...)` with somebody who listens."""
    async with TeakSession(GAME_ID, SECRET_KEY, base_url=url, limits=FREE_LIMITS, on_event=hook) as teak:
        yield lambda number: teak.identify(f"p{number}", country_code="US")


@asynccontextmanager
async def least(url: str) -> AsyncIterator[Call]:
    """The same with nobody who listens, and around it one span and one duration by hand."""
    from opentelemetry.trace import SpanKind

    providers = sdk()
    tracer = providers["tracer_provider"].get_tracer("least")
    duration = providers["meter_provider"].get_meter("least").create_histogram("http.client.request.duration", "s")
    of_metric = {
        "http.request.method": "POST",
        "http.response.status_code": 201,
        "server.address": "127.0.0.1",
        "server.port": int(url.rpartition(":")[2]),
        "url.template": IDENTIFY,
    }
    of_span = {**of_metric, "url.full": url + IDENTIFY}
    async with ours(url) as identify:

        async def call(number: int) -> None:
            began = time.perf_counter()
            span = tracer.start_span(IDENTIFY, kind=SpanKind.CLIENT, attributes=of_span)
            await identify(number)
            span.end()
            duration.record(time.perf_counter() - began, of_metric)

        yield call


@asynccontextmanager
async def by_hand(url: str, *, instrumented: bool = False) -> AsyncIterator[Call]:
    """The call on aiohttp by hand, with what OpenTelemetry itself offers for it or without."""
    import aiohttp

    traces = []
    if instrumented:
        from opentelemetry.instrumentation.aiohttp_client import create_trace_config

        traces = [create_trace_config(**sdk())]
    async with aiohttp.ClientSession(trace_configs=traces) as http:

        async def call(number: int) -> object:
            async with http.post(url + IDENTIFY, json=body(number)) as response:
                return await response.json()

        yield call


@frozen
class Way:
    """Somebody who makes calls.

    Attributes:
        calls: gives the call, at an address.
        base: to whom it is compared.
        packages: the distributions that it needs besides ours.
    """

    calls: Callable[[str], AbstractAsyncContextManager[Call]]
    base: str
    packages: tuple[str, ...] = ()


NOBODY = "nobody listens"
HAND = "aiohttp by hand"
SDK = ("opentelemetry-sdk",)
WAYS = {
    NOBODY: Way(ours, NOBODY),
    "a hook that does nothing": Way(lambda url: ours(url, lambda _: None), NOBODY),
    "OpenTelemetry": Way(lambda url: ours(url, telemetry()), NOBODY, SDK),
    "OpenTelemetry, one trace in ten": Way(lambda url: ours(url, telemetry(0.1)), NOBODY, SDK),
    "the SDK by hand: one span and one duration": Way(least, NOBODY, SDK),
    HAND: Way(by_hand, HAND),
    "aiohttp by hand, OpenTelemetry's instrumentation": Way(
        lambda url: by_hand(url, instrumented=True), HAND, (*SDK, "opentelemetry-instrumentation-aiohttp-client")
    ),
}


async def one(call: Call, number: int) -> object:
    """As a coroutine, which is what a task takes."""
    return await call(number)


async def at_pace(call: Call, count: int) -> None:
    """Begin two hundred calls a second, as a game server at the documented limit."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as calls:
        for number in range(count):
            await asyncio.sleep(began + number / LIMIT - loop.time())
            calls.create_task(one(call, number))


SLOW, FAST = "200 a second, 40 ms away", "as fast as it goes"
PACES: dict[str, tuple[Callable[[Call, int], Awaitable[None]], Faults]] = {
    SLOW: (at_pace, Faults(delay=0.02)),
    FAST: (work, Faults()),
}
"""How the calls are made, and the network before the sandbox."""


async def compare(url: str, pace: str, rounds: int, calls: int) -> dict[str, list[float]]:
    """Seconds of processor time per call, by who makes it, round by round."""
    spent: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        made = {name: await stack.enter_async_context(way.calls(url)) for name, way in WAYS.items() if installed(name)}
        for call in made.values():
            await work(call, WARM)
        names = list(made)
        gc.freeze()
        for turn in range(rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                began = time.process_time()
                await PACES[pace][0](made[name], calls)
                spent.setdefault(name, []).append((time.process_time() - began) / calls)
    return spent


def installed(name: str) -> bool:
    """Whether what it needs besides us is there."""
    with suppress(PackageNotFoundError):
        return all(version(package) for package in WAYS[name].packages)
    return False


def run(url: str, pace: str, rounds: int, calls: int) -> dict[str, list[float]]:
    """In the client's process: all of it."""
    return asyncio.run(compare(url, pace, rounds, calls))


async def questions(url: str, calls: int) -> float:
    """How often a call that nobody listens to asks whether somebody does."""
    asked = 0

    class Counted(Notifier):
        def is_enabled(self, *level: int) -> bool:
            nonlocal asked
            asked += 1
            return super().is_enabled(*level)

    async with TeakSession(GAME_ID, SECRET_KEY, base_url=url, limits=FREE_LIMITS) as teak:
        teak._executor._notifier = Counted(None)  # noqa: SLF001 - there is no other place from which to count them
        await work(lambda number: teak.identify(f"p{number}", country_code="US"), calls)
    return asked / calls


def measure(options: Options) -> Report:
    rounds, calls = options.rounds or ROUNDS, options.calls or CALLS
    spent: dict[str, dict[str, list[float]]] = {}
    for pace, (_, faults) in PACES.items():
        with served(Setting(faults, limit=FREE)) as server:
            spent[pace] = alone(run, server.url, pace, rounds, calls)
        say(f"tells, {pace}: {statistics.median(spent[pace][NOBODY]) * 1e6:.0f} µs a call")
    with served(Setting(limit=FREE)) as server:
        asked = asyncio.run(questions(server.url, calls))
    tells = Notifier(None)
    question = min(timeit.repeat(tells.is_enabled, number=100_000)) / 100_000
    ratios = {
        pace: {name: [mine / base for mine, base in zip(of[name], of[WAYS[name].base], strict=True)] for name in of}
        for pace, of in spent.items()
    }
    rows = [
        (pace, name, spread((seconds * 1e6 for seconds in of[name]), "{:.0f}") + " µs", quarters(ratios[pace][name]))
        for pace, of in spent.items()
        for name in of
    ]
    note = (
        f"A call that nobody listens to asks {asked:.1f} times whether somebody does, {question * 1e9:.0f} ns each:"
        f" {asked * question / statistics.median(spent[FAST][NOBODY]):.2%} of a call made as fast as it goes."
    )
    return Report(
        f"tells: {calls:,} identifies a turn, {WORKERS} at a time where there is no pace, loopback, {times(rounds)}",
        [Table(("pace", "who listens", "processor time per call", "to without, and its middle half"), rows)],
        [note],
        {"calls": calls, "seconds_per_call": spent, "ratios": ratios, "questions": asked, "seconds_per_question": question},
    )
