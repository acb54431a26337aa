"""Privacy in the sandbox: exclusions, the removal of players, and the list of opt-out categories."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from .game import Call, CallRejected, Exclusion, Game, Response
from .pages import make_page, read_time

EPOCH = datetime(2026, 1, 1, tzinfo=UTC).isoformat()


def list_exclusions(game: Game, call: Call) -> Response:
    """List the exclusions of the game, by player."""
    entries = [_describe(user_id, exclusion) for user_id, exclusion in sorted(game.exclusions.items())]
    return make_page(call, "exclusions", entries)


def read_exclusion(game: Game, call: Call) -> Response:
    """Read a player's exclusion."""
    found = game.exclusion_of(call.user_id)
    return 200, {"status": "ok", "exclusion": None if found is None else _describe(call.user_id, found)}


def create_exclusion(game: Game, call: Call) -> Response:
    """Exclude a player, or change when that ends; what Teak knows to reach the player by is forgotten."""
    user_id = _read_user_id(call)
    before = game.exclusion_of(user_id)
    created_at = datetime.now(UTC) if before is None else before.created_at
    exclusion = game.exclusions[user_id] = Exclusion(created_at, read_time(call, "expire_at"))
    email = game.take_address(user_id)
    body: dict[str, Any] = {
        "status": "ok",
        "action": "created" if before is None else "updated",
        "exclusion": _describe(user_id, exclusion),
        "purged_channels": {
            "push": False,
            "desktop_push": False,
            "sms": False,
            "email": False if email is None else {"email": email},
        },
    }
    if before is not None:
        body["previous_expire_at"] = _written(before.expire_at)
    return 200, body


def end_exclusion(game: Game, call: Call) -> Response:
    """End a player's exclusion. What was forgotten stays so."""
    user_id = _read_user_id(call)
    found = game.exclusion_of(user_id)
    game.exclusions.pop(user_id, None)
    return 200, {"status": "ok", "exclusion": None if found is None else _describe(user_id, found)}


def remove_player(game: Game, call: Call) -> Response:
    """Remove all data of a player, for good."""
    user_id = _read_user_id(call)
    if (email := game.take_address(user_id)) is not None:
        game.addresses.pop(email.casefold(), None)
    player = game.players.pop(user_id, None)
    return 200, {"status": "user_not_found" if player is None else "ok", "user_id": user_id}


def list_categories(game: Game, call: Call) -> Response:
    """List the opt-out categories of the game."""
    entries = [
        {
            "game_id": call.parameters["game_id"],
            "identifier": identifier,
            "name": identifier.capitalize(),
            "description": None,
            "ios_sound_file": None,
            "android_sound_file": None,
            "show_badge": True,
            "archived": False,
            "created_at": EPOCH,
            "updated_at": EPOCH,
        }
        for identifier in game.categories
    ]
    return 200, {"status": "ok", "opt_out_categories": entries}


def _read_user_id(call: Call) -> str:
    if not call.user_id:
        raise CallRejected(422, user_id="must be present")
    return call.user_id


def _describe(user_id: str, exclusion: Exclusion) -> dict[str, Any]:
    return {"user_id": user_id, "created_at": exclusion.created_at.isoformat(), "expire_at": _written(exclusion.expire_at)}


def _written(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()
