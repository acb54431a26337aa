"""OpenTelemetry, judged by the SDK's own exporters."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from attrs import frozen
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv.attributes import error_attributes, http_attributes, server_attributes, url_attributes
from opentelemetry.semconv.metrics.http_metrics import HTTP_CLIENT_REQUEST_DURATION
from opentelemetry.trace import SpanKind, StatusCode, Tracer
from support import ROOT, internals, session_on

from teak_async import Identify, Limits, RetryPolicy, TeakError, TeakSession, Timeout
from teak_async.errors import Delivery
from teak_async.events import AttemptStarted, LedgerLost, LedgerRegained, PermitAcquired, ResponseReceived
from teak_async.otel import BOUNDARIES, OpenTelemetry
from teak_async.sandbox import IDENTIFY, STATUS, Sandbox


@frozen
class Telemetry:
    """A hook, and what the SDK made of what it told."""

    hook: OpenTelemetry
    tracer: Tracer
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def metrics(self) -> dict[str, Any]:
        """Every metric by its name."""
        data = self.reader.get_metrics_data()
        assert data is not None
        (resource,) = data.resource_metrics
        (scope,) = resource.scope_metrics
        assert scope.scope.name == "teak_async"
        return {metric.name: metric for metric in scope.metrics}

    def points(self, name: str) -> list[HistogramDataPoint | NumberDataPoint]:
        return list(self.metrics()[name].data.data_points)


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    yield Telemetry(OpenTelemetry(tracer_provider=tracers, meter_provider=meters), tracers.get_tracer("test"), exporter, reader)
    tracers.shutdown()
    meters.shutdown()


async def test_a_call_is_a_client_span(telemetry: Telemetry, sandbox: Sandbox) -> None:
    """It has the names of the conventions, lies below the caller's span, and lasts as long as the call was on the wire."""
    async with session_on(sandbox, on_event=telemetry.hook) as teak:
        with telemetry.tracer.start_as_current_span("caller") as caller:
            await teak.identify("p1", country_code="US")
    span, parent = telemetry.spans
    host, port = sandbox.url.removeprefix("http://").split(":")
    assert (span.name, span.kind, span.status.status_code) == (f"POST {IDENTIFY}", SpanKind.CLIENT, StatusCode.UNSET)
    assert dict(span.attributes or {}) == {
        http_attributes.HTTP_REQUEST_METHOD: "POST",
        server_attributes.SERVER_ADDRESS: host,
        server_attributes.SERVER_PORT: int(port),
        url_attributes.URL_FULL: sandbox.url + IDENTIFY,
        "url.template": IDENTIFY,
        http_attributes.HTTP_RESPONSE_STATUS_CODE: 201,
        "teak.delivery": "done",
    }
    assert span.parent is not None
    assert span.parent.span_id == caller.get_span_context().span_id
    assert None not in (span.start_time, span.end_time, parent.start_time, parent.end_time)
    assert parent.start_time < span.start_time < span.end_time < parent.end_time  # type: ignore[operator] # as asserted


async def test_submitted_and_bulk_calls_lie_below_their_callers_span(telemetry: Telemetry, sandbox: Sandbox) -> None:
    """Also where the call goes on in a task of its own."""
    async with session_on(sandbox, on_event=telemetry.hook) as teak:
        with telemetry.tracer.start_as_current_span("caller") as caller:
            teak.submit(Identify("p1", country_code="US"))
            await teak.bulk([Identify("p2", country_code="US")])
    calls = [span for span in telemetry.spans if span.kind is SpanKind.CLIENT]
    assert [span.parent.span_id for span in calls if span.parent] == [caller.get_span_context().span_id] * 2


async def test_every_attempt_is_a_span_with_its_number_of_resends(telemetry: Telemetry, sandbox: Sandbox) -> None:
    """The first has none; each says how it ended."""
    sandbox.add_player("p1")
    sandbox.fail_next("desktop_push_status", "error_before", "response_lost")
    async with session_on(sandbox, on_event=telemetry.hook) as teak:
        await teak.desktop_push.opt_out("p1")
    ended = [
        (
            span.attributes.get(http_attributes.HTTP_REQUEST_RESEND_COUNT),
            span.attributes.get(http_attributes.HTTP_RESPONSE_STATUS_CODE),
            span.attributes.get(error_attributes.ERROR_TYPE),
            span.attributes.get("teak.delivery"),
            span.status.status_code,
        )
        for span in telemetry.spans
        if span.attributes is not None
    ]
    assert ended == [
        (None, 500, "500", "unknown", StatusCode.ERROR),
        (1, None, "ConnectionLost", "unknown", StatusCode.ERROR),
        (2, 200, None, "done", StatusCode.UNSET),
    ]
    retries = telemetry.points("teak.retries")
    assert {dict(point.attributes or {})["error.type"] for point in retries} == {"ServerError", "ConnectionLost"}
    assert [point.value for point in retries if isinstance(point, NumberDataPoint)] == [1, 1]
    assert telemetry.metrics()["teak.retries"].unit == "{retry}"


async def test_a_response_that_is_not_teaks_names_its_error(telemetry: Telemetry, sandbox: Sandbox) -> None:
    """With a status of success `error.type` is the class of the error."""
    sandbox.fail_next("identify", "not_json")
    async with session_on(sandbox, on_event=telemetry.hook) as teak:
        with pytest.raises(TeakError):
            await teak.identify("p1", country_code="US")
    (span,) = telemetry.spans
    assert span.attributes is not None
    assert span.attributes[http_attributes.HTTP_RESPONSE_STATUS_CODE] == 201
    assert span.attributes[error_attributes.ERROR_TYPE] == "UnexpectedResponse"
    assert span.status.status_code is StatusCode.ERROR


async def test_the_duration_is_the_conventions_histogram(telemetry: Telemetry, sandbox: Sandbox) -> None:
    """Seconds, in the advised buckets, by method, server, template, status and error."""
    async with session_on(sandbox, on_event=telemetry.hook) as teak:
        for number in range(3):
            await teak.identify(f"p{number}", country_code="US")
        with pytest.raises(TeakError):
            await teak.desktop_push.status("nobody")
    metric = telemetry.metrics()[HTTP_CLIENT_REQUEST_DURATION]
    assert (metric.unit, metric.description) == ("s", "Duration of HTTP client requests.")
    done, missing = telemetry.points(HTTP_CLIENT_REQUEST_DURATION)
    assert isinstance(done, HistogramDataPoint)
    assert isinstance(missing, HistogramDataPoint)
    assert tuple(done.explicit_bounds) == BOUNDARIES
    assert (done.count, missing.count) == (3, 1)
    assert 0 < done.sum < 1
    host, port = sandbox.url.removeprefix("http://").split(":")
    common = {server_attributes.SERVER_ADDRESS: host, server_attributes.SERVER_PORT: int(port)}
    assert dict(done.attributes or {}) == {
        **common,
        http_attributes.HTTP_REQUEST_METHOD: "POST",
        "url.template": IDENTIFY,
        http_attributes.HTTP_RESPONSE_STATUS_CODE: 201,
    }
    assert dict(missing.attributes or {}) == {
        **common,
        http_attributes.HTTP_REQUEST_METHOD: "GET",
        "url.template": STATUS,
        http_attributes.HTTP_RESPONSE_STATUS_CODE: 404,
        error_attributes.ERROR_TYPE: "404",
    }


async def test_waits_and_rate_limited_attempts_are_counted(telemetry: Telemetry) -> None:
    """What only a client with limits has: the wait for a permit per lane, and the responses 429."""
    async with (
        Sandbox(identify=3) as server,
        session_on(server, limits=Limits(identify=4), on_event=telemetry.hook) as teak,
    ):
        await asyncio.gather(*(teak.identify(f"p{number}", country_code="US") for number in range(4)))
        await teak.bulk([Identify("p5", country_code="US")])
    (limited,) = telemetry.points("teak.rate_limited")
    assert isinstance(limited, NumberDataPoint)
    assert (limited.value, dict(limited.attributes or {})) == (1, {"teak.endpoint": "identify"})
    assert telemetry.metrics()["teak.rate_limited"].unit == "{response}"
    waits = {dict(point.attributes or {})["teak.lane"]: point for point in telemetry.points("teak.permit.wait")}
    counts = {lane: point.count for lane, point in waits.items() if isinstance(point, HistogramDataPoint)}
    assert counts == {"live": 5, "bulk": 1}
    assert telemetry.metrics()["teak.permit.wait"].unit == "s"


@pytest.mark.parametrize(
    ("base_url", "address", "port", "full"),
    [
        ("https://api.gocarrot.com", "api.gocarrot.com", 443, "https://api.gocarrot.com/v2/desktop_push"),
        ("http://u:pw@teak.test/pre/", "teak.test", 80, "http://teak.test/pre/v2/desktop_push"),
        ("http://[::1]:81", "::1", 81, "http://[::1]:81/v2/desktop_push"),
    ],
)
async def test_the_address_has_no_query_no_category_and_no_password(
    telemetry: Telemetry, base_url: str, address: str, port: int, full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans of a read and of a category call name the place, and not what or whom it was about."""

    async def fail(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionRefusedError

    monkeypatch.setattr("aiohttp.TCPConnector.connect", fail)
    once = RetryPolicy(max_attempts=1)
    async with TeakSession("1", "canary-secret", base_url=base_url, retry=once, on_event=telemetry.hook) as teak:
        with pytest.raises(TeakError):
            await teak.desktop_push.status("canary-player")
        with pytest.raises(TeakError):
            await teak.desktop_push.opt_out("canary-player", "canary-category")
    read, category = telemetry.spans
    for span, path in ((read, "/subscription_status"), (category, "/subscription_status/{category}")):
        assert span.attributes is not None
        assert span.attributes[url_attributes.URL_FULL] == full + path
        assert span.attributes[server_attributes.SERVER_ADDRESS] == address
        assert span.attributes[server_attributes.SERVER_PORT] == port
        assert span.attributes[error_attributes.ERROR_TYPE] == "ConnectFailed"
    told = "".join(span.to_json() for span in telemetry.spans) + str(telemetry.metrics())
    assert "canary" not in told
    assert "pw" not in told


async def test_nothing_is_kept_of_calls_that_ended(telemetry: Telemetry) -> None:
    """Also of those that timed out, were rate-limited, or whose caller left, on several sessions with one hook."""
    async with (
        Sandbox(identify=3) as server,
        session_on(server, limits=Limits(identify=4), timeout=Timeout(response=1), on_event=telemetry.hook) as teak,
        session_on(server, share=teak, on_event=telemetry.hook) as other,
    ):
        server.fail_next("identify", "stall")
        calls = [asyncio.create_task(by.identify(f"p{n}", country_code="US")) for n in range(3) for by in (teak, other)]
        while server.seen[IDENTIFY].requests < 4:
            await asyncio.sleep(0.01)
        calls[1].cancel()
        await asyncio.wait(calls)
        while internals(teak).executor.under_way or internals(other).executor.under_way:
            await asyncio.sleep(0.01)
    assert len(telemetry.spans) == server.seen[IDENTIFY].requests
    assert telemetry.hook._under_way == {}


def test_the_absence_of_a_ledger_is_counted_and_timed(telemetry: Telemetry) -> None:
    telemetry.hook(LedgerLost("redis://host", "cannot be reached"))
    telemetry.hook(LedgerRegained("redis://host", 2.5))
    (losses,), (away,) = telemetry.points("teak.ledger.losses"), telemetry.points("teak.ledger.away")
    assert isinstance(losses, NumberDataPoint)
    assert isinstance(away, HistogramDataPoint)
    assert (losses.value, away.sum) == (1, 2.5)


def begins(hook: OpenTelemetry, *calls: int) -> None:
    """Tell it of attempts that begin."""
    for call in calls:
        hook(PermitAcquired("identify", "live", call, 1, 0.25))
        hook(AttemptStarted("identify", "live", call, 1, "http://teak.test"))


def ends(hook: OpenTelemetry, *calls: int) -> None:
    """Tell it of their ends."""
    for call in calls:
        hook(ResponseReceived("identify", "live", call, 1, 201, Delivery.DONE, None, 0.05, 0.05))


def test_an_attempt_is_told_when_it_ends(telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, also while others are under way, and with the instants at which it began and ended."""
    now = 1000
    monkeypatch.setattr("teak_async.otel.time_ns", lambda: now)
    monkeypatch.setattr("opentelemetry.sdk.trace.time_ns", lambda: now)
    begins(telemetry.hook, 1, 2)
    now = 2000
    ends(telemetry.hook, 1)
    (span,) = telemetry.spans
    assert (span.start_time, span.end_time) == (1000, 2000)
    assert {point.count for point in telemetry.points("teak.permit.wait")} == {1}  # type: ignore[union-attr] # a histogram


def test_an_attempt_that_cannot_be_told_is_not_kept(telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the SDK raises is raised, and the next attempt is told."""
    hook = telemetry.hook
    begins(hook, 1, 2)
    monkeypatch.setattr(hook._duration, "record", Mock(side_effect=[OSError("full"), None]))
    with pytest.raises(OSError, match="full"):
        ends(hook, 1)
    ends(hook, 2)
    assert len(telemetry.spans) == 2
    assert hook._under_way == {}


def test_without_the_sdk_it_does_nothing() -> None:
    """With the API alone spans and metrics go nowhere, and the SDK is not loaded; and the package loads not even the API."""
    show = """
import asyncio, sys, teak_async
print([name for name in sys.modules if name.startswith("opentelemetry")])
from teak_async.otel import OpenTelemetry
from teak_async.sandbox import Sandbox
async def main():
    async with Sandbox() as server:
        async with teak_async.TeakSession("sandbox", "sandbox-secret", base_url=server.url, on_event=OpenTelemetry()) as teak:
            print((await teak.identify("p1", country_code="US")).session_id)
asyncio.run(main())
print([name for name in sys.modules if name.startswith("opentelemetry.sdk")])
"""
    ran = subprocess.run([sys.executable, "-W", "error", "-c", show], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (ran.stdout.split("\n"), ran.stderr) == (["[]", "1", "[]", ""], "")
