"""All parts of a session, as its properties."""

from __future__ import annotations

from teak_async.models import Channel

from .categories import Categories
from .email import Email
from .exclusions import Exclusions, Players
from .part import PartProperty
from .subscriptions import Subscriptions


class SessionParts:
    """What a session has for each subject beside sessions of players."""

    desktop_push = PartProperty(
        Subscriptions,
        "Players' desktop web push subscriptions: `status`, `set_state`, `opt_out`, `opt_in` and more.",
        Channel.DESKTOP_PUSH,
    )
    push = PartProperty(Subscriptions, "Players' mobile push subscriptions: the methods of `desktop_push`.", Channel.PUSH)
    email = PartProperty(Email, "Email: the subscriptions of addresses, and the addresses of players.")
    exclusions = PartProperty(Exclusions, "Exclusions of players from all marketing: `get`, `create`, `delete`, `list`.")
    players = PartProperty(Players, "Players: `remove` removes all data of one.")
    categories = PartProperty(Categories, "The game's opt-out categories: `list`.")
