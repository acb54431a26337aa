"""Privacy: exclusions, and the removal of a player's data. Requests and responses. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import final

from attrs import field, frozen

from .base import Change, PageRequest, PlayerRequest, Problems, Response, to_optional_time


class ExclusionAction(StrEnum):
    """What a request did to the exclusion of a player."""

    CREATED = "created"
    UPDATED = "updated"


@frozen
class Exclusion:
    """All marketing to a player stops, and Teak forgets how to reach them, until the exclusion ends.

    Attributes:
        user_id: the player.
        created_at: when it was first created.
        expire_at: when it ends; `None` when it does not end by itself.
    """

    user_id: str
    created_at: datetime
    expire_at: datetime | None


@frozen
class ExclusionStatus(Response):
    """The response to `GetExclusion`.

    Attributes:
        exclusion: the player's; `None` when there is none.
    """

    exclusion: Exclusion | None


@frozen
class PurgedChannels:
    """What Teak forgot of a player for an exclusion.

    Attributes:
        push: whether there were tokens for mobile push.
        desktop_push: whether there were tokens for desktop web push.
        sms: whether there was a phone number.
        email: the address that there was; `None` when there was none.
    """

    push: bool
    desktop_push: bool
    sms: bool
    email: str | None = field(repr=False)


@frozen
class ExclusionChange(Change):
    """The response to `CreateExclusion`.

    Attributes:
        exclusion: as it is now.
        action: whether it was created or updated.
        purged_channels: what was forgotten of the player. Nothing when `repeated` and an earlier attempt forgot it.
        previous_expire_at: when it would have ended before it was updated.
        repeated: whether an earlier attempt may have made the change.
    """

    exclusion: Exclusion
    action: ExclusionAction
    purged_channels: PurgedChannels
    previous_expire_at: datetime | None = None


@frozen
class ExclusionEnd(Change):
    """The response to `DeleteExclusion`.

    Attributes:
        exclusion: the one that ended, where the server says it.
        repeated: whether an earlier attempt may have made the change.
    """

    exclusion: Exclusion | None = None


@frozen
class ExclusionPage(Response):
    """The response to `ListExclusions`.

    Attributes:
        exclusions: those of this page; some may have expired.
        after: what the request for the next page says as `after`; `None` after the last page.
    """

    exclusions: tuple[Exclusion, ...]
    after: str | None = None

    def __iter__(self) -> Iterator[Exclusion]:
        return iter(self.exclusions)


@frozen
class PlayerRemoval(Change):
    """The response to `RemovePlayer`.

    Attributes:
        user_id: the player.
        found: whether Teak had data of the player. False when `repeated` and an earlier attempt removed them.
        repeated: whether an earlier attempt may have removed the data.
    """

    user_id: str
    found: bool


@final
@frozen
class GetExclusion(PlayerRequest[ExclusionStatus]):
    """Read a player's exclusion: `GET /v2/exclusions/{user_id}`.

    Teak's page: "Exclusion Management".

    Args:
        user_id: the game's own player id; any but `.` and `..`, which no path can carry.
    """

    def _check(self, problems: Problems) -> None:
        problems.check_segment("user_id", self.user_id)


@final
@frozen
class CreateExclusion(PlayerRequest[ExclusionChange]):
    """Exclude a player from all marketing, or change when that ends: `POST /v2/exclusions`.

    Teak forgets push tokens, address and advertising ids of the player, and they do not come back when it ends.
    Teak's page: "Exclusion Management".

    Args:
        user_id: the game's own player id; a number is taken as its text.
        expire_at: when it ends: a `datetime` with a time zone, or ISO 8601 text with one. Default: it does not end.
    """

    expire_at: str | None = field(default=None, converter=to_optional_time, kw_only=True)

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        if self.expire_at is not None:
            problems.check_time("expire_at", self.expire_at)


@final
@frozen
class DeleteExclusion(PlayerRequest[ExclusionEnd]):
    """End a player's exclusion: `DELETE /v2/exclusions`. Teak's page: "Exclusion Management"."""


@final
@frozen
class ListExclusions(PageRequest[ExclusionPage]):
    """Read a page of the game's exclusions: `GET /v2/exclusions`.

    Teak's page: "Exclusion Management".

    Args:
        limit: entries of a page; the server takes 1 to 10,000. Default: the server's own, 1,000.
        after: of the page before, for the next one. Default: the first page.
    """


@final
@frozen
class RemovePlayer(PlayerRequest[PlayerRemoval]):
    """Remove all data of a player: `DELETE /v2/users`. It cannot be undone. Teak's page: "Player Removal"."""
