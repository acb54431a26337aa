"""The game's opt-out categories: request and response. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import final

from attrs import frozen

from .base import Request, Response


@frozen
class OptOutCategory:
    """A kind of message that players can opt out of, on each channel by itself.

    Attributes:
        identifier: names it in requests.
        name: as players read it.
        description: as players read it.
        archived: whether it is no longer in use.
        show_badge: whether a message of it shows a badge on the app's icon.
        ios_sound_file: the sound of its messages on iOS.
        android_sound_file: the sound of its messages on Android.
        created_at: when it was created.
        updated_at: when it last changed.
    """

    identifier: str
    name: str
    description: str | None = None
    archived: bool | None = None
    show_badge: bool | None = None
    ios_sound_file: str | None = None
    android_sound_file: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


@frozen
class OptOutCategories(Response):
    """The response to `ListCategories`, with the game's `opt_out_categories`."""

    opt_out_categories: tuple[OptOutCategory, ...]


@final
@frozen
class ListCategories(Request[OptOutCategories]):
    """Read the game's opt-out categories: `GET /v2/opt_out_categories`. Teak's page: "Opt Out Category Management"."""
