"""OpenTelemetry: the traffic of a session as spans and metrics. Needs the extra: `pip install 'teak_async[otel]'`.

    TeakSession(on_event=OpenTelemetry())

One may be given to several sessions. Names follow OpenTelemetry's semantic conventions for HTTP clients:

- One client span for each attempt, `POST /v2/identify`, below the span that is current where the call is made. It begins when
  the attempt has its permit, and ends when its response is read or given up. An attempt after the first has the
  number of resends.
- `http.client.request.duration`, a histogram: the same seconds.
- `teak.permit.wait`, a histogram: seconds for which an attempt waited for its permit, by `teak.endpoint` and `teak.lane`.
- `teak.rate_limited`, a counter: 429 responses, by `teak.endpoint`.
- `teak.retries`, a counter: failed attempts that another one follows, by `teak.endpoint` and `error.type`.
- `teak.ledger.losses`, a counter: how often the ledger of a shared limit was lost.
- `teak.ledger.away`, a histogram: seconds until it was reached again.

`error.type` is the status for one of 400 and above, else the class name of the error: `ConnectFailed`, `ConnectionLost`,
`TimedOut`, `UnexpectedResponse`, `SessionClosed`, or `CancelledError` where the caller left before the send.

Rules of this module:

- An attempt is recorded when it ends, in its caller's context.
- No user id, no query and no category is in any attribute: `url.full` ends before the query, which has the secret in it.
  An instrumentation of aiohttp itself would record that query, so leave it out where a session is given as `http=`.
- Only the API of OpenTelemetry is imported. Without its SDK nothing is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import time_ns
from urllib.parse import urlsplit

from attrs import define, field
from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider, get_tracer

from ._api.endpoints import ENDPOINTS
from ._version import __version__
from .events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    LedgerLost,
    LedgerRegained,
    PermitAcquired,
    RateLimitHit,
    ResponseReceived,
    RetryScheduled,
)

SCHEMA = "https://opentelemetry.io/schemas/1.30.0"
BOUNDARIES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds: what the conventions advise for the duration of requests."""
WAITS = (0.001, *BOUNDARIES, 30.0, 60.0)
"""Seconds: most permits are there at once, and a call may wait behind a burst for long."""

_ENDPOINTS = {endpoint.name: endpoint for endpoint in ENDPOINTS.values()}

Attributes = Mapping[str, str | int]
FAILED = Status(StatusCode.ERROR)


class _Target:
    """One endpoint at one server: the attributes that all its attempts share, made once."""

    def __init__(self, endpoint_name: str, server: str) -> None:
        endpoint = _ENDPOINTS[endpoint_name]
        url = urlsplit(server)
        path = url.path + endpoint.template
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

    def wait_attributes(self, lane: str) -> Attributes:
        """Return the attributes of an attempt's wait for its permit."""
        return self._waits[lane]

    def end_attributes(self, status: int | None, error: str | None, delivery: str) -> tuple[Attributes, Attributes]:
        """Return the attributes of an attempt's span and of its duration, for one way to end."""
        key = status, error, delivery
        if key not in self._ends:
            known: dict[str, str | int] = {} if status is None else {"http.response.status_code": status}
            if error is not None:
                known["error.type"] = error if status is None or status < 400 else str(status)
            self._ends[key] = {**self._of_span, **known, "teak.delivery": delivery}, {**self._of_metric, **known}
        return self._ends[key]


@define
class _Attempt:
    """An attempt under way; `began` is in nanoseconds of Unix time."""

    wait: float
    began: int
    target: _Target = field(init=False)


class OpenTelemetry:
    """The `on_event` of a session that reports its traffic to OpenTelemetry.

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
            "Time for which an attempt waited for its permit.",
            explicit_bucket_boundaries_advisory=WAITS,
        )
        self._rate_limited = meter.create_counter("teak.rate_limited", "{response}", "Responses 429.")
        self._retries = meter.create_counter("teak.retries", "{retry}", "Attempts that failed and that another one follows.")
        self._losses = meter.create_counter("teak.ledger.losses", "{loss}", "Times that the ledger of a shared limit was lost.")
        self._away = meter.create_histogram("teak.ledger.away", "s", "Time for which the ledger of a shared limit was lost.")
        self._targets: dict[tuple[str, ...], _Target] = {}
        self._under_way: dict[int, _Attempt] = {}

    def __call__(self, event: Event) -> None:
        """Take one event of a session."""
        match event:
            case PermitAcquired():
                self._under_way[event.call] = _Attempt(event.wait, time_ns())
            case AttemptStarted():
                self._under_way[event.call].target = self._target(event.endpoint, event.server)
            case ResponseReceived() | AttemptFailed():
                self._record(self._under_way.pop(event.call), event)
            case RateLimitHit():
                self._rate_limited.add(1, {"teak.endpoint": event.endpoint})
            case RetryScheduled():
                self._retries.add(1, {"teak.endpoint": event.endpoint, "error.type": event.error})
            case LedgerLost():
                self._losses.add(1)
            case LedgerRegained():
                self._away.record(event.away)

    def _target(self, *key: str) -> _Target:
        if key not in self._targets:
            self._targets[key] = _Target(*key)
        return self._targets[key]

    def _record(self, attempt: _Attempt, end: ResponseReceived | AttemptFailed) -> None:
        status = end.status if isinstance(end, ResponseReceived) else None
        of_span, of_metric = attempt.target.end_attributes(status, end.error, end.delivery.value)
        if end.attempt > 1:
            of_span = {**of_span, "http.request.resend_count": end.attempt - 1}
        span = self._tracer.start_span(attempt.target.name, None, SpanKind.CLIENT, of_span, start_time=attempt.began)
        if end.error is not None:
            span.set_status(FAILED)
        span.end()
        self._duration.record(end.on_wire, of_metric)
        self._wait.record(attempt.wait, attempt.target.wait_attributes(end.lane))
