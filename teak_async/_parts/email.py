"""Email, as a part of a session: the subscriptions of addresses, and the addresses of players."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import overload

from teak_async._client.deadline import Deadline
from teak_async.models import (
    ClearDeliveryFault,
    DeliveryFaultCleared,
    EmailAddress,
    EmailAddressChange,
    EmailCategoryChange,
    EmailChange,
    EmailState,
    EmailStatus,
    GetEmailAddress,
    GetEmailSubscription,
    ListUnsubscriptions,
    RemoveEmailAddress,
    SetEmailAddress,
    SetEmailCategorySubscription,
    SetEmailSubscription,
    State,
    Unsubscription,
)

from .part import Part


class Email(Part):
    """Email, as `teak.email`. Teak's page: "Email Address Management".

    A subscription belongs to an address, whichever player has it, and Teak need not know the address. Each method takes
    `deadline` and raises errors as `TeakSession.call` does. All of them are idempotent, so the client repeats them.
    """

    async def status(self, email: str, *, deadline: Deadline = None) -> EmailStatus:
        """Read the subscription of an address: `GET /v2/email/subscription_status`."""
        return await self._session.call(GetEmailSubscription(email), deadline=deadline)

    async def set_state(self, email: str, state: EmailState | str, *, deadline: Deadline = None) -> EmailChange:
        """Set the subscription state of an address: `POST /v2/email/subscription_status`.

        Args:
            email: the address.
            state: `EmailState`, or the text `opt_out`, `available` or `opt_in`. An address that reported spam stays so when it
                is opted out: it gets nothing either way.
            deadline: as for `TeakSession.call`.
        """
        return await self._session.call(SetEmailSubscription(email, state), deadline=deadline)

    async def set_category_state(
        self, email: str, category: str, state: State | str, *, deadline: Deadline = None
    ) -> EmailCategoryChange:
        """Opt an address in or out of one category: `POST /v2/email/subscription_status/{category}`.

        Args:
            email: the address.
            category: the category's identifier.
            state: `State.OPT_IN`, `State.OPT_OUT`, or the text `opt_in`, `opt_out`.
            deadline: as for `TeakSession.call`.
        """
        return await self._session.call(SetEmailCategorySubscription(email, category, state), deadline=deadline)

    @overload
    async def opt_out(self, email: str, category: None = None, *, deadline: Deadline = None) -> EmailChange: ...

    @overload
    async def opt_out(self, email: str, category: str, *, deadline: Deadline = None) -> EmailCategoryChange: ...

    async def opt_out(
        self, email: str, category: str | None = None, *, deadline: Deadline = None
    ) -> EmailChange | EmailCategoryChange:
        """Stop mail to an address: all of it, or that of one `category`. The same as setting the state `opt_out`."""
        if category is None:
            return await self.set_state(email, EmailState.OPT_OUT, deadline=deadline)
        return await self.set_category_state(email, category, State.OPT_OUT, deadline=deadline)

    @overload
    async def opt_in(self, email: str, category: None = None, *, deadline: Deadline = None) -> EmailChange: ...

    @overload
    async def opt_in(self, email: str, category: str, *, deadline: Deadline = None) -> EmailCategoryChange: ...

    async def opt_in(
        self, email: str, category: str | None = None, *, deadline: Deadline = None
    ) -> EmailChange | EmailCategoryChange:
        """Note that an address's owner has confirmed: all mail, or that of one `category`. The same as setting `opt_in`."""
        if category is None:
            return await self.set_state(email, EmailState.OPT_IN, deadline=deadline)
        return await self.set_category_state(email, category, State.OPT_IN, deadline=deadline)

    async def clear_fault(self, email: str, *, deadline: Deadline = None) -> DeliveryFaultCleared:
        """Have mail sent again to an address from which some came back: `DELETE /v2/email/delivery_fault`."""
        return await self._session.call(ClearDeliveryFault(email), deadline=deadline)

    async def address(self, user_id: str | int, *, deadline: Deadline = None) -> EmailAddress:
        """Read a player's address: `GET /v2/email`."""
        return await self._session.call(GetEmailAddress(user_id), deadline=deadline)

    async def set_address(self, user_id: str | int, email: str, *, deadline: Deadline = None) -> EmailAddressChange:
        """Set a player's address: `POST /v2/email`. It moves to this player where another one has it.

        Args:
            user_id: the game's own player id: text, or a whole number.
            email: the address.
            deadline: as for `TeakSession.call`.
        """
        return await self._session.call(SetEmailAddress(user_id, email), deadline=deadline)

    async def remove_address(self, user_id: str | int, *, deadline: Deadline = None) -> EmailAddressChange:
        """Remove a player's address: `DELETE /v2/email`."""
        return await self._session.call(RemoveEmailAddress(user_id), deadline=deadline)

    async def unsubscriptions(
        self, since: datetime | str, *, limit: int | None = None, after: str | None = None, deadline: Deadline = None
    ) -> AsyncIterator[Unsubscription]:
        """Iterate over the addresses that opted out, page by page: `GET /v2/email/unsubscriptions`.

        Args:
            since: a `datetime` with a time zone, or ISO 8601 text with one.
            limit: entries of a page, 1 to 10,000. Default: the server's own, 1,000.
            after: of an earlier page, to go on behind it; `call(ListUnsubscriptions(…))` gives single pages with theirs.
            deadline: of each page, as for `TeakSession.call`.
        """
        while True:
            page = await self._session.call(ListUnsubscriptions(since, limit=limit, after=after), deadline=deadline)
            for unsubscription in page:
                yield unsubscription
            if (after := page.after) is None:
                return
