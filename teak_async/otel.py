"""OpenTelemetry: the traffic of a session as spans and metrics. Needs the extra: `pip install 'teak_async[otel]'`.

    TeakSession(on_event=OpenTelemetry())

One may be given to several sessions. Names follow OpenTelemetry's semantic conventions for HTTP clients:

- One client span for each try, `POST /v2/identify`, below the span that was current where the call was made. It begins when
  the try has its permit, and ends when its answer is read or given up. A try after the first has its number of resends.
- `http.client.request.duration`, a histogram: the same seconds.
- `teak.permit.wait`, a histogram: seconds for which a try waited for its permit, by `teak.endpoint` and `teak.lane`.
- `teak.refusals` and `teak.repeats`, counters: answers 429, and tries made again with their `error.type`, by `teak.endpoint`.

`error.type` is the status for one of 400 and above, else the class name of the error: `ConnectFailed`, `ConnectionLost`,
`TimedOut`, `UnexpectedResponse`, `SessionClosed`, or `CancelledError` where the caller left before the send.

Rules of this module:

- A try is told when it is over, in one go, and together with a few others: one that ended is held back until `TOGETHER` have,
  or none is under way, or `LATEST` has passed. It is told with the instants at which it happened.
- No user id, no query and no category is in any attribute: `url.full` ends before the query, which has the secret in it.
  An instrumentation of aiohttp itself would write that query down, so leave it out for these calls.
- Only the API of OpenTelemetry is imported. Without its SDK nothing is recorded.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic, time_ns
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

from attrs import define, field
from opentelemetry.context import Context, get_current
from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider, get_tracer

from ._api.endpoints import ENDPOINTS
from ._version import __version__
from .events import AttemptFailed, AttemptStarted, Event, PermitAcquired, RateLimitHit, ResponseReceived, RetryScheduled

SCHEMA = "https://opentelemetry.io/schemas/1.30.0"
BOUNDARIES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds: what the conventions advise for the duration of requests."""
WAITS = (0.001, *BOUNDARIES, 30.0, 60.0)
"""Seconds: most permits are there at once, and a call may wait behind a burst for long."""

TOGETHER = 16
"""Tries told in one go at most. One by one, between calls, OpenTelemetry's code is not in the processor's caches any more: at
200 calls a second telling of one then costs half as much again. More would hold the loop up.
"""
LATEST = 1.0
"""Seconds for which a try that ended is held back at most."""

_ENDPOINTS = {endpoint.name: endpoint for endpoint in ENDPOINTS.values()}

Attributes = Mapping[str, str | int]
FAILED = Status(StatusCode.ERROR)


class _Target:
    """What all tries of one call at one server have in common; the attributes are made once."""

    def __init__(self, endpoint_name: str, server: str) -> None:
        endpoint = _ENDPOINTS[endpoint_name]
        url = urlsplit(server)
        path = url.path + endpoint.template.format(channel=endpoint.channel, category="{category}")
        self.name = f"{endpoint.method} {path}"
        self._of_metric: Attributes = {
            "http.request.method": endpoint.method,
            "server.address": url.hostname or "",
            "server.port": url.port or (443 if url.scheme == "https" else 80),
            "url.template": path,
        }
        self._of_span: Attributes = {**self._of_metric, "url.full": f"{url.scheme}://{url.netloc}{path}"}
        self._waits = {lane: {"teak.endpoint": endpoint_name, "teak.lane": lane} for lane in ("live", "bulk")}
        self._ends: dict[tuple[int | None, str | None, str], tuple[Attributes, Attributes]] = {}

    def waits(self, lane: str) -> Attributes:
        """What the wait of a try for its permit is recorded with."""
        return self._waits[lane]

    def ended(self, status: int | None, error: str | None, delivery: str) -> tuple[Attributes, Attributes]:
        """What the span of a try that ended so has, and what its duration is recorded with."""
        key = status, error, delivery
        if key not in self._ends:
            known: dict[str, str | int] = {} if status is None else {"http.response.status_code": status}
            if error is not None:
                known["error.type"] = error if status is None or status < 400 else str(status)
            self._ends[key] = {**self._of_span, **known, "teak.delivery": delivery}, {**self._of_metric, **known}
        return self._ends[key]


@define
class _Try:
    """One try, from its permit to its end. Instants are in nanoseconds of Unix time."""

    wait: float
    target: _Target = field(init=False)
    parent: Context = field(init=False)
    began: int = field(init=False)
    end: ResponseReceived | AttemptFailed = field(init=False)
    ended: int = field(init=False)


class OpenTelemetry:
    """To be given to a session as `on_event`.

    Args:
        tracer_provider: whose spans; the global one when left out.
        meter_provider: whose metrics; the global one when left out.
    """

    def __init__(self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None) -> None:
        self._tracer = get_tracer("teak_async", __version__, tracer_provider, SCHEMA)
        meter = get_meter("teak_async", __version__, meter_provider, SCHEMA)
        self._duration = meter.create_histogram(
            "http.client.request.duration",
            "s",
            "Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=BOUNDARIES,
        )
        self._wait = meter.create_histogram(
            "teak.permit.wait",
            "s",
            "Time for which a try waited for its permit.",
            explicit_bucket_boundaries_advisory=WAITS,
        )
        self._refusals = meter.create_counter("teak.refusals", "{refusal}", "Answers 429.")
        self._repeats = meter.create_counter("teak.repeats", "{repeat}", "Tries that failed and were made again.")
        self._targets: dict[tuple[str, str], _Target] = {}
        self._under_way: dict[int, _Try] = {}
        self._over: deque[_Try] = deque()
        self._due = 0.0
        # Not one flag: a loop may end before its timer comes, and another one take over.
        self._watched: WeakSet[AbstractEventLoop] = WeakSet()
        self._hears: dict[type[Event], Callable[[Any], None]] = {
            PermitAcquired: self._waited,
            AttemptStarted: self._started,
            ResponseReceived: self._ended,
            AttemptFailed: self._ended,
            RateLimitHit: self._refused,
            RetryScheduled: self._repeated,
        }

    def __call__(self, event: Event) -> None:
        """Take one event of a session."""
        is_enabled = self._hears.get(type(event))
        if is_enabled is not None:
            is_enabled(event)

    def _waited(self, event: PermitAcquired) -> None:
        self._under_way[event.call] = _Try(event.wait)

    def _started(self, event: AttemptStarted) -> None:
        key = event.endpoint, event.server
        target = self._targets.get(key)
        if target is None:
            target = self._targets[key] = _Target(*key)
        this = self._under_way[event.call]
        this.target = target
        this.parent = get_current()
        this.began = time_ns()

    def _ended(self, event: ResponseReceived | AttemptFailed) -> None:
        this = self._under_way.pop(event.call)
        this.end = event
        this.ended = time_ns()
        self._over.append(this)
        if len(self._over) == 1:
            self._due = monotonic() + LATEST
        if len(self._over) >= TOGETHER or not self._under_way or monotonic() >= self._due:
            self.flush()
        elif (loop := get_running_loop()) not in self._watched:
            self._watch(loop)

    def _watch(self, loop: AbstractEventLoop) -> None:
        self._watched.add(loop)
        loop.call_later(self._due - monotonic(), self._look, loop)

    def _look(self, loop: AbstractEventLoop) -> None:
        """Tell what was held back for long enough; tries that ended since then have their own time."""
        self._watched.discard(loop)
        if self._over and monotonic() < self._due:
            self._watch(loop)
        else:
            self.flush()

    def flush(self) -> None:
        """Tell OpenTelemetry of the tries that ended and were held back.

        It happens by itself within a second, on a running loop.
        """
        failure: Exception | None = None
        while True:
            try:
                this = self._over.popleft()  # sessions of other threads may share this, and do the same
            except IndexError:
                break
            try:
                self._record(this)
            except Exception as error:  # noqa: BLE001 - raised below: one try that cannot be told must not hold up the others
                failure = failure or error
        if failure is not None:
            raise failure

    def _record(self, this: _Try) -> None:
        end = this.end
        status = end.status if isinstance(end, ResponseReceived) else None
        of_span, of_metric = this.target.ended(status, end.error, end.delivery.value)
        if end.attempt > 1:
            of_span = {**of_span, "http.request.resend_count": end.attempt - 1}
        span = self._tracer.start_span(this.target.name, this.parent, SpanKind.CLIENT, of_span, start_time=this.began)
        if end.error is not None:
            span.set_status(FAILED)
        span.end(this.ended)
        self._duration.record(end.on_wire, of_metric, this.parent)
        self._wait.record(this.wait, this.target.waits(end.lane), this.parent)

    def _refused(self, event: RateLimitHit) -> None:
        self._refusals.add(1, {"teak.endpoint": event.endpoint})

    def _repeated(self, event: RetryScheduled) -> None:
        self._repeats.add(1, {"teak.endpoint": event.endpoint, "error.type": event.error})
