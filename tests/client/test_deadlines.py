"""Deadlines of single calls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from teak_async import (
    DeadlinePassed,
    Delivery,
    RetryPolicy,
    TeakSession,
)
from teak_async.sandbox import STATUS, Sandbox


async def test_a_deadline_of_a_single_call(fast: TeakSession, server: Sandbox) -> None:
    """A call whose time has passed is not sent; one that has time is; a date without a zone is refused."""
    with pytest.raises(DeadlinePassed) as late:
        await fast.identify("p1", country_code="US", deadline=datetime.now(UTC) - timedelta(seconds=1))
    assert late.value.delivery is Delivery.NOT_SENT
    await fast.identify("p2", country_code="US", deadline=30)
    with pytest.raises(ValueError, match="time zone"):
        await fast.identify("p3", country_code="US", deadline=datetime.now())  # noqa: DTZ005 - what is refused
    assert set(server.players) == {"p2"}
    push = fast.desktop_push
    for late_call in (
        push.status("p2", deadline=0),
        push.opt_out("p2", deadline=0),
        push.opt_in("p2", "sales", deadline=0),
    ):
        with pytest.raises(DeadlinePassed):
            await late_call
    assert server.seen[STATUS].requests == 0


async def test_a_deadline_says_what_kept_a_call_from_being_sent() -> None:
    """Where no connection could be had until the deadline, the error says so."""
    async with TeakSession(
        "g", "s", base_url="http://127.0.0.1:9", retry=RetryPolicy(max_attempts=1000, initial_wait=0.01, max_wait=0.01)
    ) as teak:
        with pytest.raises(DeadlinePassed, match="its last try: ConnectFailed: no connection: ") as late:
            await teak.identify("p1", country_code="US", deadline=0.2)
    assert late.value.delivery is Delivery.NOT_SENT
