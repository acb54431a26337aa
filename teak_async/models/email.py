"""Email: the subscription of an address, and the address of a player. Requests and responses. Pure.

A subscription on email belongs to the address and not to a player, and Teak need not know the address.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, cast, final

from attrs import field, frozen

from teak_async._values import PlainText, to_id, to_text

from .base import AddressRequest, Change, PageRequest, PlayerRequest, Problems, Response, to_member, to_time
from .subscriptions import State


class EmailState(StrEnum):
    """The subscription state of an address.

    `AVAILABLE`: mail may be sent, and the owner has not confirmed. `OPT_IN`: the owner has confirmed. `OPT_OUT` and
    `SPAM_REPORT`: nothing is sent. Only the server sets `SPAM_REPORT`, and it stays when the address is opted out.
    """

    SPAM_REPORT = "spam_report"
    OPT_OUT = "opt_out"
    AVAILABLE = "available"
    OPT_IN = "opt_in"


class EmailAction(StrEnum):
    """What a request did to the address of a player. `MOVED`: another player had it before."""

    MOVED_AND_CHANGED = "moved_and_changed"
    MOVED = "moved"
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"
    NONE = "none"


@frozen
class EmailStatus(Response):
    """The response to `GetEmailSubscription`.

    Attributes:
        email: the address.
        channel: `email`.
        state: of the address.
        delivery_fault: whether mail to it came back. Nothing is sent to it then; see `ClearDeliveryFault`.
        categories: category identifier → state.
    """

    email: str = field(repr=False)
    channel: str
    state: EmailState
    delivery_fault: bool
    categories: Mapping[str, State] = field(hash=False)


@frozen
class _EmailStateChange(Change):
    """The response to a request that sets the state of an address.

    Attributes:
        email: the address.
        channel: `email`.
        previous_state: the state before this call, or, when `repeated`, before its last attempt.
        state: the state after it. `SPAM_REPORT` after an opt-out: the address was out already.
        delivery_fault: whether mail to it came back.
    """

    email: str = field(repr=False)
    channel: str
    previous_state: EmailState
    state: EmailState
    delivery_fault: bool


@frozen
class EmailChange(_EmailStateChange):
    """The response to `SetEmailSubscription`, with `categories` as `EmailStatus` has them.

    `previous_state` is the state before this call. When `repeated`, an earlier attempt may have set it, so it may be this
    call's own.
    """

    categories: Mapping[str, State] = field(hash=False)


@frozen
class EmailCategoryChange(_EmailStateChange):
    """The response to `SetEmailCategorySubscription`, with the identifier of the `category`.

    `previous_state` is the state before this call. When `repeated`, an earlier attempt may have set it, so it may be this
    call's own.
    """

    category: str


@frozen
class DeliveryFaultCleared(Change):
    """The response to `ClearDeliveryFault`, with the `email` address."""

    email: str = field(repr=False)


@frozen
class EmailAddress(Response):
    """The response to `GetEmailAddress`.

    Attributes:
        email: the player's address; `None` when Teak knows none.
    """

    email: str | None = field(repr=False)


@frozen
class EmailAddressChange(Change):
    """The response to `SetEmailAddress` and `RemoveEmailAddress`.

    Attributes:
        action: what was done; `NONE` when nothing was to be done, and also when `repeated` and an earlier attempt did it.
        previous_email: the player's address before, where it changed.
        previous_player_ids: the players that had the address before, where it moved.
        repeated: whether an earlier attempt may have made the change.
    """

    action: EmailAction
    previous_email: str | None = field(default=None, repr=False)
    previous_player_ids: tuple[str, ...] = ()


@frozen
class Unsubscription:
    """One recent opt-out of an address.

    Attributes:
        email: the address.
        details: the whole entry as the server writes it; Teak does not document the other fields.
    """

    email: str = field(repr=False)
    details: Mapping[str, Any] = field(repr=False, hash=False)


@frozen
class UnsubscriptionPage(Response):
    """The response to `ListUnsubscriptions`.

    Attributes:
        unsubscriptions: those of this page.
        after: what the request for the next page says as `after`; `None` after the last page.
    """

    unsubscriptions: tuple[Unsubscription, ...]
    after: str | None = None

    def __iter__(self) -> Iterator[Unsubscription]:
        return iter(self.unsubscriptions)


def _to_state(value: State | PlainText) -> State:
    return cast(State, to_member(value, State))


def _to_email_state(value: EmailState | PlainText) -> EmailState:
    # A `State` is one of these, too.
    return cast(EmailState, to_member(value, EmailState))


SETTABLE = (EmailState.OPT_OUT, EmailState.AVAILABLE, EmailState.OPT_IN)
"""The states that a caller can set."""


@final
@frozen
class GetEmailSubscription(AddressRequest[EmailStatus]):
    """Read the subscription of an address: `GET /v2/email/subscription_status`.

    Teak's page: "Email Address Management".

    Args:
        email: the address.
    """


@final
@frozen
class SetEmailSubscription(AddressRequest[EmailChange]):
    """Set the subscription state of an address: `POST /v2/email/subscription_status`.

    Teak's page: "Email Address Management".

    Args:
        email: the address.
        state: `EmailState` or its text: `opt_out`, `available` or `opt_in`.
    """

    state: EmailState = field(converter=_to_email_state)

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        problems.check_member("state", self.state, SETTABLE)


@final
@frozen
class SetEmailCategorySubscription(AddressRequest[EmailCategoryChange]):
    """Opt an address in or out of one category: `POST /v2/email/subscription_status/{category}`.

    Teak's page: "Email Address Management".

    Args:
        email: the address.
        category: the category's identifier; any text but `.` and `..`, which no path can carry.
        state: `State` or its text.
    """

    category: str = field(converter=to_id)
    state: State = field(converter=_to_state)

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        problems.check_segment("category", self.category)
        problems.check_member("state", self.state, State)


@final
@frozen
class ClearDeliveryFault(AddressRequest[DeliveryFaultCleared]):
    """Have mail sent again to an address from which some came back: `DELETE /v2/email/delivery_fault`.

    Teak's page: "Email Address Management".

    Args:
        email: the address.
    """


@final
@frozen
class GetEmailAddress(PlayerRequest[EmailAddress]):
    """Read a player's address: `GET /v2/email`. Teak's page: "Email Address Management"."""


@final
@frozen
class SetEmailAddress(PlayerRequest[EmailAddressChange]):
    """Set a player's address: `POST /v2/email`. It moves to this player where another one has it.

    Teak's page: "Email Address Management".

    Args:
        user_id: the game's own player id; a number is taken as its text.
        email: the address.
    """

    email: str = field(converter=to_text, repr=False)

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        problems.check_text("email", self.email)


@final
@frozen
class RemoveEmailAddress(PlayerRequest[EmailAddressChange]):
    """Remove a player's address: `DELETE /v2/email`. Teak's page: "Email Address Management"."""


@final
@frozen
class ListUnsubscriptions(PageRequest[UnsubscriptionPage]):
    """Read a page of the addresses that opted out: `GET /v2/email/unsubscriptions`.

    Teak's page: "Email Address Management".

    Args:
        since: a `datetime` with a time zone, or ISO 8601 text with one.
        limit: entries of a page; the server takes 1 to 10,000. Default: the server's own, 1,000.
        after: of the page before, for the next one. Default: the first page.
    """

    since: str = field(converter=to_time)

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        problems.check_time("since", self.since)
