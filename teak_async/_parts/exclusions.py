"""Privacy, as parts of a session: exclusions, and the removal of players."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from teak_async._client.deadline import Deadline
from teak_async.models import (
    CreateExclusion,
    DeleteExclusion,
    Exclusion,
    ExclusionChange,
    ExclusionEnd,
    ExclusionStatus,
    GetExclusion,
    ListExclusions,
    PlayerRemoval,
    RemovePlayer,
)

from .part import Part


class Exclusions(Part):
    """Exclusions, as `teak.exclusions`: all marketing to a player stops. Teak's page: "Exclusion Management".

    Each method takes `deadline` and raises errors as `TeakSession.call` does. All of them are idempotent, so the client repeats
    them.
    """

    async def get(self, user_id: str | int, *, deadline: Deadline = None) -> ExclusionStatus:
        """Read a player's exclusion: `GET /v2/exclusions/{user_id}`. Its `exclusion` is `None` when there is none."""
        return await self._session.call(GetExclusion(user_id), deadline=deadline)

    async def create(
        self, user_id: str | int, *, expire_at: datetime | str | None = None, deadline: Deadline = None
    ) -> ExclusionChange:
        """Exclude a player from all marketing, or change when that ends: `POST /v2/exclusions`.

        Teak forgets push tokens, address and advertising ids of the player, and they do not come back when it ends.

        Args:
            user_id: the game's own player id: text, or a whole number.
            expire_at: when it ends: a `datetime` with a time zone, or ISO 8601 text with one. Default: it does not end.
            deadline: as for `TeakSession.call`.
        """
        return await self._session.call(CreateExclusion(user_id, expire_at=expire_at), deadline=deadline)

    async def delete(self, user_id: str | int, *, deadline: Deadline = None) -> ExclusionEnd:
        """End a player's exclusion: `DELETE /v2/exclusions`."""
        return await self._session.call(DeleteExclusion(user_id), deadline=deadline)

    async def list(
        self, *, limit: int | None = None, after: str | None = None, deadline: Deadline = None
    ) -> AsyncIterator[Exclusion]:
        """Iterate over the game's exclusions, page by page: `GET /v2/exclusions`.

        Args:
            limit: entries of a page, 1 to 10,000. Default: the server's own, 1,000.
            after: of an earlier page, to go on behind it; `call(ListExclusions(…))` gives single pages with theirs.
            deadline: of each page, as for `TeakSession.call`.
        """
        while True:
            page = await self._session.call(ListExclusions(limit=limit, after=after), deadline=deadline)
            for exclusion in page:
                yield exclusion
            if (after := page.after) is None:
                return


class Players(Part):
    """Players, as `teak.players`. Teak's page: "Player Removal"."""

    async def remove(self, user_id: str | int, *, deadline: Deadline = None) -> PlayerRemoval:
        """Remove all data of a player: `DELETE /v2/users`. It cannot be undone.

        It is idempotent, so the client repeats it. `found` is false when Teak had no data, and when an earlier attempt without
        a response removed them: `repeated`.
        """
        return await self._session.call(RemovePlayer(user_id), deadline=deadline)
