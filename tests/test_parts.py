"""The parts of a session at a sandbox: push, email, exclusions, removal, categories."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support import session_on

from teak_async import (
    ClearDeliveryFault,
    CreateExclusion,
    DeleteExclusion,
    Delivery,
    EmailAction,
    EmailState,
    ExclusionAction,
    GetEmailAddress,
    GetEmailSubscription,
    GetExclusion,
    GetSubscription,
    InvalidRequest,
    ListCategories,
    ListExclusions,
    ListUnsubscriptions,
    PlayerNotFound,
    RemoveEmailAddress,
    RemovePlayer,
    Request,
    RetryPolicy,
    SetCategorySubscription,
    SetEmailAddress,
    SetEmailCategorySubscription,
    SetEmailSubscription,
    SetSubscription,
    State,
    TeakSession,
    UnknownState,
)
from teak_async._api.endpoints import ENDPOINTS, Effect
from teak_async.sandbox import LIMITS, Sandbox
from teak_async.sandbox.game import Address

EVE, BOB = "eve@example.com", "bob@example.com"
NO_TEXT: Any = 5
NO_NUMBER: Any = "5"


@pytest.fixture
async def server() -> AsyncIterator[Sandbox]:
    async with Sandbox(limits=dict.fromkeys(LIMITS, 100_000)) as sandbox:
        for name in ("p1", "p2"):
            sandbox.add_player(name)
        yield sandbox


@pytest.fixture
async def teak(server: Sandbox) -> AsyncIterator[TeakSession]:
    async with session_on(server, retry=RetryPolicy(initial_wait=0.01)) as session:
        yield session


async def test_push_is_a_channel_of_its_own(teak: TeakSession, server: Sandbox) -> None:
    """Mobile push has the calls of desktop push, and states and buckets of its own."""
    change = await teak.push.opt_out("p1")
    assert (change.channel, change.previous_state, change.state) == ("push", State.OPT_IN, State.OPT_OUT)
    await teak.push.opt_out("p1", "sales")
    assert (await teak.push.status("p1")).categories["sales"] is State.OPT_OUT
    assert (await teak.desktop_push.status("p1")).state is State.OPT_IN
    assert teak.rates["/v2/push/subscription_status"].in_window == 2
    assert server.seen["/v2/push/subscription_status/:category_identifier"].requests == 1


async def test_the_state_of_an_address(teak: TeakSession, server: Sandbox) -> None:
    """An address has a state whether a player has it or not."""
    assert (await teak.email.status(EVE)).state is EmailState.AVAILABLE
    change = await teak.email.opt_out(EVE)
    assert (change.previous_state, change.state, change.email) == (EmailState.AVAILABLE, EmailState.OPT_OUT, EVE)
    category = await teak.email.opt_out(EVE, "sales")
    assert category.state == "opt_out"
    await teak.email.opt_in(EVE)
    await teak.email.opt_in(EVE, "sales")
    await teak.email.set_state(EVE, EmailState.AVAILABLE)
    status = await teak.email.status("EVE@example.com")
    assert (status.state, status.categories["sales"]) == (EmailState.AVAILABLE, State.OPT_IN)


async def test_a_spam_report_resists(teak: TeakSession, server: Sandbox) -> None:
    """An address that reported spam is out already: opting it out is no failure, and it stays what it was."""
    server.addresses[EVE] = Address("spam_report")
    change = await teak.email.opt_out(EVE)
    assert (change.previous_state, change.state) == (EmailState.SPAM_REPORT, EmailState.SPAM_REPORT)
    with pytest.raises(InvalidRequest, match="state: must be 'opt_out' or 'available' or 'opt_in', not"):
        await teak.email.set_state(EVE, EmailState.SPAM_REPORT)


async def test_an_address_that_bounces(teak: TeakSession, server: Sandbox) -> None:
    """A delivery fault is seen, and cleared."""
    server.addresses[EVE] = Address(delivery_fault=True)
    assert (await teak.email.status(EVE)).delivery_fault
    assert (await teak.email.clear_fault(EVE)).email == EVE
    assert not (await teak.email.status(EVE)).delivery_fault


async def test_an_address_has_one_owner(teak: TeakSession) -> None:
    """An address moves to the player for whom it is set."""
    assert (await teak.email.address("p1")).email is None
    assert (await teak.email.set_address("p1", EVE)).action is EmailAction.ADDED
    assert (await teak.email.set_address("p1", EVE)).action is EmailAction.NONE
    changed = await teak.email.set_address("p1", BOB)
    assert (changed.action, changed.previous_email) == (EmailAction.CHANGED, EVE)
    await teak.email.set_address("p2", EVE)
    moved = await teak.email.set_address("p2", BOB)
    assert (moved.action, moved.previous_email, moved.previous_player_ids) == (EmailAction.MOVED_AND_CHANGED, EVE, ("p1",))
    assert (await teak.email.address("p1")).email is None
    assert (await teak.email.set_address("p1", BOB)).action is EmailAction.MOVED
    assert (await teak.email.remove_address("p1")).action is EmailAction.REMOVED
    assert (await teak.email.remove_address("p1")).action is EmailAction.NONE
    with pytest.raises(PlayerNotFound):
        await teak.email.set_address("nobody", EVE)


async def test_unsubscriptions_page_by_page(teak: TeakSession, server: Sandbox) -> None:
    """The addresses that opted out since an instant, each once, whatever the size of a page."""
    began = datetime.now(UTC)
    for number in range(7):
        await teak.email.opt_out(f"p{number}@example.com")
    for limit in (None, 1, 3, 7):
        found = [one.email async for one in teak.email.unsubscriptions(began, limit=limit)]
        assert found == [f"p{number}@example.com" for number in range(7)]
    page = await teak.call(ListUnsubscriptions(began, limit=3))
    assert page.after is not None
    rest = [one.email async for one in teak.email.unsubscriptions(began.isoformat(), after=page.after)]
    assert [*(one.email for one in page), *rest] == [f"p{number}@example.com" for number in range(7)]
    assert [one async for one in teak.email.unsubscriptions(began + timedelta(hours=1))] == []


async def test_exclusions(teak: TeakSession, server: Sandbox) -> None:
    """An exclusion forgets how to reach the player, says so, and ends."""
    await teak.email.set_address("p1", EVE)
    created = await teak.exclusions.create("p1", expire_at=datetime(2100, 1, 1, tzinfo=UTC))
    assert (created.action, created.purged_channels.email) == (ExclusionAction.CREATED, EVE)
    with pytest.raises(InvalidRequest) as refused:
        await teak.email.set_address("p1", EVE)
    assert (refused.value.status, refused.value.delivery) == (422, Delivery.REJECTED)
    assert (await teak.email.address("p1")).email is None
    updated = await teak.exclusions.create("p1")
    assert (updated.action, updated.purged_channels.email) == (ExclusionAction.UPDATED, None)
    assert updated.previous_expire_at == datetime(2100, 1, 1, tzinfo=UTC)
    for number in range(5):
        await teak.exclusions.create(number)
    found = [one.user_id async for one in teak.exclusions.list(limit=2)]
    assert found == ["0", "1", "2", "3", "4", "p1"]
    assert (await teak.exclusions.delete("p1")).exclusion == updated.exclusion
    assert (await teak.exclusions.get("p1")).exclusion is None
    await teak.exclusions.create("p1", expire_at="2001-01-01T00:00:00Z")
    assert (await teak.exclusions.get("p1")).exclusion is None


async def test_removal_is_final(teak: TeakSession, server: Sandbox) -> None:
    """A player who was removed is known no more."""
    assert (await teak.players.remove("p1")).found
    assert not (await teak.players.remove("p1")).found
    with pytest.raises(PlayerNotFound):
        await teak.push.status("p1")
    assert set(server.players) == {"p2"}


async def test_categories(teak: TeakSession) -> None:
    assert [category.identifier for category in await teak.categories.list()] == ["sales", "events"]


CHANGES: list[tuple[Request, str]] = [
    (SetSubscription("p1", "opt_out", channel="push"), "push_status"),
    (SetCategorySubscription("p1", "sales", "opt_out", channel="push"), "push_category"),
    (SetEmailSubscription(EVE, "opt_out"), "email_status"),
    (SetEmailCategorySubscription(EVE, "sales", "opt_out"), "email_category"),
    (ClearDeliveryFault(EVE), "delivery_fault"),
    (SetEmailAddress("p1", EVE), "address"),
    (RemoveEmailAddress("p1"), "address"),
    (CreateExclusion("p1"), "exclusions"),
    (DeleteExclusion("p1"), "exclusions"),
    (RemovePlayer("p1"), "removals"),
]
READS: list[tuple[Request, str]] = [
    (GetSubscription("p1", channel="push"), "push_status"),
    (GetEmailSubscription(EVE), "email_status"),
    (GetEmailAddress("p1"), "address"),
    (ListUnsubscriptions("2026-01-01T00:00:00Z"), "unsubscriptions"),
    (GetExclusion("p1"), "exclusion"),
    (ListExclusions(), "exclusions"),
    (ListCategories(), "categories"),
]


def test_all_are_here() -> None:
    tried = {type(request) for request, _ in CHANGES + READS}
    assert {kind for (kind, _), endpoint in ENDPOINTS.items() if endpoint.effect is not Effect.RECORD} == tried | {
        GetSubscription,
        SetSubscription,
        SetCategorySubscription,
    }


@pytest.mark.parametrize("fault", ["response_lost", "error_after", "reset"])
@pytest.mark.parametrize(("request_", "call"), CHANGES + READS)
async def test_what_a_repeat_hides_is_told(
    teak: TeakSession, server: Sandbox, request_: Request, call: str, fault: Any
) -> None:
    """A call whose answer was lost is made again, and a change says that the state before it may be its own doing."""
    server.fail_next(call, fault)
    response: Any = await teak.call(request_)
    assert server.seen[server.requests[-1].path].requests == 2
    assert getattr(response, "repeated", True) is True
    again: Any = await teak.call(request_)
    assert getattr(again, "repeated", False) is False


async def test_a_removal_whose_answer_was_lost(teak: TeakSession, server: Sandbox) -> None:
    """The second attempt finds nobody; that is a success, and says why."""
    server.fail_next("removals", "response_lost")
    removal = await teak.players.remove("p1")
    assert (removal.found, removal.repeated) == (False, True)
    assert "p1" not in server.players


async def test_a_purge_whose_answer_was_lost(teak: TeakSession, server: Sandbox) -> None:
    await teak.email.set_address("p1", EVE)
    server.fail_next("exclusions", "response_lost")
    change = await teak.exclusions.create("p1")
    assert (change.action, change.purged_channels.email, change.repeated) == (ExclusionAction.UPDATED, None, True)


@pytest.mark.parametrize(("request_", "call"), CHANGES + READS)
async def test_each_path_has_its_limit(request_: Request, call: str) -> None:
    """The sandbox refuses what exceeds the limit of a call's path, and the client stays under it."""
    async with (
        Sandbox(limits=dict.fromkeys(LIMITS, 2)) as server,
        session_on(server, retry=RetryPolicy(max_attempts=1, max_rate_limited=0)) as teak,
    ):
        server.add_player("p1")
        server.fail_next(call, "rate_limited")
        with pytest.raises(Exception, match="may only be called 2 times per second"):
            await teak.call(request_)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: SetEmailSubscription("", "opt_out"), "email: must not be empty"),
        (lambda: SetEmailSubscription(EVE, "out"), "state: must be 'opt_out' or 'available' or 'opt_in', not 'out'"),
        (lambda: SetEmailCategorySubscription(EVE, "..", "opt_in"), "category: must not be '.' or '..'"),
        (lambda: SetEmailAddress("p1", NO_TEXT), "email: must be text, not int"),
        (lambda: GetExclusion("."), "user_id: must not be '.' or '..'"),
        (lambda: CreateExclusion("p1", expire_at=datetime(2027, 1, 1)), "expire_at: must be a datetime with a time zone"),  # noqa: DTZ001 - what is refused
        (lambda: CreateExclusion("p1", expire_at="tomorrow"), "expire_at: must be a datetime with a time zone"),
        (lambda: ListUnsubscriptions("2027-01-01"), "since: must be a datetime with a time zone"),
        (lambda: ListUnsubscriptions(datetime(2027, 1, 1)), "since: must be a datetime with a time zone"),  # noqa: DTZ001 - as above
        (lambda: ListExclusions(limit=NO_NUMBER), "limit: must be a whole number, not str"),
        (lambda: ListExclusions(after=NO_TEXT), "after: must be text, not int"),
        (lambda: SetSubscription("p1", "opt_out", channel="email"), "channel: must be 'desktop_push' or 'push', not 'email'"),
    ],
)
def test_what_cannot_be_asked(make: Any, problem: str) -> None:
    """A request that no server could do names its problem, and no address."""
    with pytest.raises(InvalidRequest) as invalid:
        make()
    assert problem in invalid.value.message
    assert "example.com" not in repr(invalid.value)


async def test_an_unknown_state(server: Sandbox) -> None:
    """A state that Teak does not know has the error that the push channels have for it."""
    async with session_on(server) as teak:
        request = SetEmailSubscription(EVE, "opt_in")
        object.__setattr__(request, "state", "opted")
        with pytest.raises(UnknownState):
            await teak.call(request)
