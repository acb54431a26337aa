"""The game's opt-out categories, as a part of a session."""

from __future__ import annotations

from teak_async._client.deadline import Deadline
from teak_async.models import ListCategories, OptOutCategory

from .part import Part


class Categories(Part):
    """Opt-out categories, as `teak.categories`. Teak's page: "Opt Out Category Management"."""

    async def list(self, *, deadline: Deadline = None) -> tuple[OptOutCategory, ...]:
        """Read the game's opt-out categories: `GET /v2/opt_out_categories`. At most five calls a second."""
        return (await self._session.call(ListCategories(), deadline=deadline)).opt_out_categories
