"""What users write, for the type checkers alone: it is never run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import assert_type

from teak_async import (
    BulkReport,
    CategorySubscriptionChange,
    Delivery,
    GetSubscription,
    Identify,
    InvalidRequest,
    Limits,
    Outcome,
    PlayerSession,
    Rate,
    Request,
    Response,
    RetryPolicy,
    SetSubscription,
    State,
    SubscriptionChange,
    SubscriptionStatus,
    TeakError,
    TeakSession,
    Timeout,
)
from teak_async.events import AllowanceChanged, Event
from teak_async.sandbox import Faults, Sandbox


def on_event(event: Event) -> None:
    if isinstance(event, AllowanceChanged):
        assert_type(event.allowance, int)


async def live_calls(teak: TeakSession) -> None:
    player = await teak.identify(4711, country_code="US", deadline=timedelta(seconds=2))
    assert_type(player, PlayerSession)
    assert_type(player.session_id, str | None)
    assert_type(await teak.call(Identify("p1", client_ip="203.0.113.9"), deadline=datetime.now(UTC)), PlayerSession)
    assert_type(await teak.call(GetSubscription("p1")), SubscriptionStatus)
    assert_type(teak.submit(SetSubscription("p1", "opt_out")), asyncio.Future[SubscriptionChange])
    assert_type(await teak.desktop_push.status("p1"), SubscriptionStatus)
    assert_type(await teak.desktop_push.set_state("p1", State.OPT_IN), SubscriptionChange)
    assert_type(await teak.desktop_push.set_category_state("p1", "sales", "opt_in"), CategorySubscriptionChange)
    assert_type(teak.rates, Mapping[str, Rate])
    try:
        await teak.desktop_push.opt_out("p1")
    except InvalidRequest as error:
        assert_type(error.delivery, Delivery)
    except TeakError as error:
        assert_type(error.retry_after, float | None)


def rows() -> Iterator[Identify | InvalidRequest]:
    yield Identify("p1", country_code="US")


async def endless() -> AsyncIterator[SetSubscription]:
    yield SetSubscription("p1", State.OPT_OUT)


async def bulk_runs(teak: TeakSession) -> None:
    async with teak.bulk(rows(), journal="run.db") as run:
        async for outcome in run:
            assert_type(outcome, Outcome)
            assert_type(outcome.response, Response | None)
            assert_type(outcome.error, TeakError | None)
    assert_type(run.report, BulkReport)
    assert_type(await teak.bulk(endless(), resend_in_doubt=True), BulkReport)
    async with asyncio.TaskGroup() as tasks:
        assert_type(tasks.create_task(teak.bulk([Identify("p2", country_code="US")])), asyncio.Task[BulkReport])
    for request, error in teak.undelivered:
        assert_type(request, Request[Response])
        assert_type(error, TeakError)


async def sessions() -> None:
    limits = Limits(identify=50, subscription=75)
    timeout = Timeout(connect=5, response=timedelta(seconds=10))
    async with (
        Sandbox(faults=Faults(response_lost=0.02)) as server,
        TeakSession(server.game_id, server.secret_key, base_url=server.url, limits=limits, timeout=timeout) as teak,
        TeakSession(12345, "secret", retry=RetryPolicy(max_attempts=3), on_event=on_event, share=teak) as other,
        TeakSession(retry=None, backlog=100, drain_timeout=timedelta(seconds=5)),
    ):
        await live_calls(other)
        await bulk_runs(teak)
