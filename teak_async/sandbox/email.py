"""Email in the sandbox: the subscriptions of addresses, and the addresses of players."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from .game import STATES, Address, Call, CallRejected, Game, Response, read_state
from .pages import make_page, read_time

SETTABLE = ("opt_out", "available", "opt_in")


def read_subscription(game: Game, call: Call) -> Response:
    """Read the state of an address."""
    email, address = _find_address(game, call)
    return _respond(email, address, categories=address.categories)


def set_subscription(game: Game, call: Call) -> Response:
    """Set the state of an address. One that reported spam stays so when it is opted out."""
    email, address = _find_address(game, call)
    previous, state = address.state, read_state(call, SETTABLE)
    if not (previous == "spam_report" and state == "opt_out"):
        address.state = state
        if state == "opt_out" != previous:
            game.unsubscriptions.append((datetime.now(UTC), email))
    return _respond(email, address, previous_state=previous, categories=address.categories)


def set_category(game: Game, call: Call) -> Response:
    """Set the state of an address in one category."""
    email, address = _find_address(game, call)
    category, state = call.parameters["category"], read_state(call, STATES)
    previous = address.categories.get(category, "opt_in")
    address.categories[category] = state
    return _respond(email, address, previous_state=previous, state=state, category=category)


def clear_fault(game: Game, call: Call) -> Response:
    """Have mail sent again to an address from which some came back."""
    email, address = _find_address(game, call)
    address.delivery_fault = False
    return 200, {"status": "ok", "email": email}


def read_address(game: Game, call: Call) -> Response:
    """Read a player's address."""
    return 200, {"status": "ok", "email": game.find_player(call).email}


def set_address(game: Game, call: Call) -> Response:
    """Set a player's address; another player who has it loses it."""
    email, player = _read_email(call), game.find_player(call)
    if game.exclusion_of(call.user_id) is not None:
        raise CallRejected(422, user_id="is under an exclusion")
    previous = player.email
    before = game.give_address(call.user_id, email)
    changed = previous is not None and previous.casefold() != email.casefold()
    body: dict[str, Any] = {"status": "ok", "action": _name_action(previous, moved=before is not None, changed=changed)}
    if changed:
        body["previous_email"] = previous
    if before is not None:
        body["previous_player_ids"] = [before]
    return 200, body


def remove_address(game: Game, call: Call) -> Response:
    """Remove a player's address."""
    game.find_player(call)
    return 200, {"status": "ok", "action": "none" if game.take_address(call.user_id) is None else "removed"}


def list_unsubscriptions(game: Game, call: Call) -> Response:
    """List the addresses that opted out since an instant, the oldest first."""
    since = read_time(call, "since")
    entries = [
        {"email": email, "unsubscribed_at": at.isoformat()}
        for at, email in game.unsubscriptions
        if since is None or at >= since
    ]
    return make_page(call, "unsubscriptions", entries)


def _find_address(game: Game, call: Call) -> tuple[str, Address]:
    """Find an address; one that is not known becomes known."""
    email = _read_email(call)
    key = email.casefold()
    if key not in game.addresses:
        game.addresses[key] = Address(categories=dict.fromkeys(game.categories, "opt_in"))
    return email, game.addresses[key]


def _read_email(call: Call) -> str:
    email = call.parameters.get("email")
    parts: Sequence[str] = email.split("@") if isinstance(email, str) else ()
    if len(parts) != 2 or not all(parts):
        raise CallRejected(422, email="is not valid")
    return "@".join(parts)


def _name_action(previous: str | None, *, moved: bool, changed: bool) -> str:
    if moved:
        return "moved_and_changed" if changed else "moved"
    if changed:
        return "changed"
    return "added" if previous is None else "none"


def _respond(email: str, address: Address, **values: Any) -> Response:
    common = {"channel": "email", "email": email, "state": address.state, "delivery_fault": address.delivery_fault}
    return 200, {"status": "ok", **common, **values}
