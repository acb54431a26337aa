"""A player's subscription on one push channel, as a part of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from teak_async._client.deadline import Deadline
from teak_async.models import (
    CategorySubscriptionChange,
    Channel,
    GetSubscription,
    SetCategorySubscription,
    SetSubscription,
    State,
    SubscriptionChange,
    SubscriptionStatus,
)

from .part import Part

if TYPE_CHECKING:
    from teak_async._session import TeakSession


class Subscriptions(Part):
    """Players' subscriptions on one push channel, as `teak.desktop_push`.

    Each method takes `deadline` and raises errors as `TeakSession.call` does; `PlayerNotFound` says that the player was never
    identified. Reads and sets are idempotent, so the client repeats them. Teak's page: "Desktop Web Subscription Management".
    """

    def __init__(self, session: TeakSession, channel: Channel) -> None:
        super().__init__(session)
        self._channel = channel

    def __repr__(self) -> str:
        return f"<Subscriptions ({self._channel}) of {self._session!r}>"

    async def status(self, user_id: str | int, *, deadline: Deadline = None) -> SubscriptionStatus:
        """Read the status: `GET /v2/{channel}/subscription_status`.

        Args:
            user_id: the game's own player id: text, or a whole number.
            deadline: as for `TeakSession.call`.
        """
        return await self._session.call(GetSubscription(user_id, channel=self._channel), deadline=deadline)

    async def set_state(self, user_id: str | int, state: State | str, *, deadline: Deadline = None) -> SubscriptionChange:
        """Opt a player in or out of everything: `POST /v2/{channel}/subscription_status`.

        Args:
            user_id: the game's own player id: text, or a whole number.
            state: `State.OPT_IN`, `State.OPT_OUT`, or the text `opt_in`, `opt_out`.
            deadline: as for `TeakSession.call`.
        """
        return await self._session.call(SetSubscription(user_id, state, channel=self._channel), deadline=deadline)

    async def set_category_state(
        self, user_id: str | int, category: str, state: State | str, *, deadline: Deadline = None
    ) -> CategorySubscriptionChange:
        """Opt a player in or out of one category: `POST /v2/{channel}/subscription_status/{category}`.

        Args:
            user_id: the game's own player id: text, or a whole number.
            category: the category's identifier.
            state: `State.OPT_IN`, `State.OPT_OUT`, or the text `opt_in`, `opt_out`.
            deadline: as for `TeakSession.call`.
        """
        request = SetCategorySubscription(user_id, category, state, channel=self._channel)
        return await self._session.call(request, deadline=deadline)

    @overload
    async def opt_out(self, user_id: str | int, category: None = None, *, deadline: Deadline = None) -> SubscriptionChange: ...

    @overload
    async def opt_out(self, user_id: str | int, category: str, *, deadline: Deadline = None) -> CategorySubscriptionChange: ...

    async def opt_out(
        self, user_id: str | int, category: str | None = None, *, deadline: Deadline = None
    ) -> SubscriptionChange | CategorySubscriptionChange:
        """Stop notifications: all of them, or those of one `category`. The same as setting the state `opt_out`."""
        return await self._set(user_id, category, State.OPT_OUT, deadline)

    @overload
    async def opt_in(self, user_id: str | int, category: None = None, *, deadline: Deadline = None) -> SubscriptionChange: ...

    @overload
    async def opt_in(self, user_id: str | int, category: str, *, deadline: Deadline = None) -> CategorySubscriptionChange: ...

    async def opt_in(
        self, user_id: str | int, category: str | None = None, *, deadline: Deadline = None
    ) -> SubscriptionChange | CategorySubscriptionChange:
        """Allow notifications: all of them, or those of one `category`. The same as setting the state `opt_in`."""
        return await self._set(user_id, category, State.OPT_IN, deadline)

    async def _set(
        self, user_id: str | int, category: str | None, state: State, deadline: Deadline
    ) -> SubscriptionChange | CategorySubscriptionChange:
        if category is None:
            return await self.set_state(user_id, state, deadline=deadline)
        return await self.set_category_state(user_id, category, state, deadline=deadline)
