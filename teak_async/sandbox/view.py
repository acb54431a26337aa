"""What one reader of the page sees, as JSON: a new look holds the counts as they are, and the requests since the last look."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

from attrs import asdict

from .faults import UNCOUNTED
from .game import Address, Game, Subscription
from .minute import SPAN, Minute
from .recording import Exchange, Recording

if TYPE_CHECKING:
    from .server import Received, Sandbox

STEP = 2000
"""Requests counted before others have their turn."""
MAX_TEXT = 2000
"""Characters shown of parameters and of an answer."""
MAX_PLAYERS = 50
"""Players shown."""
MAX_SEARCHED = 10_000
"""Players looked through for one whose id has some letters in it."""
MASK = "•••"


class View:
    """The eyes of one reader.

    Args:
        find: letters of the players to show; the latest where it is empty.
    """

    def __init__(self, sandbox: Sandbox, recording: Recording, find: str = "") -> None:
        self._sandbox = sandbox
        self._recording = recording
        self._find = find
        self._forms = _forms_of(sandbox.secret_key)
        self._minutes: dict[str, Minute] = {}
        self._last: Received | None = None
        self._next = 0

    def count(self, now: float) -> Iterator[None]:
        """Count the requests since the last time, in steps."""
        last = self._last
        since = now - SPAN if last is None else max(now - SPAN, last.stamp)
        requests = self._sandbox.requests
        new = list(takewhile(lambda one: one is not last and one.stamp >= since, reversed(requests)))
        if requests:
            self._last = requests[-1]
        limits = self._sandbox.limits
        for number, received in enumerate(reversed(new), 1):
            limit = limits[received.path]
            if (minute := self._minutes.get(received.path)) is None:
                minute = self._minutes[received.path] = Minute(limit)
            if minute.limit != limit:
                minute.set_limit(limit)
            minute.add(received.stamp, rate_limited=received.status == 429, counted=received.fault not in UNCOUNTED)
            if not number % STEP:
                yield

    def look(self, now: float, epoch: float) -> dict[str, Any]:
        """Return all that the page shows.

        Args:
            now: seconds of the sandbox's clock.
            epoch: what has to be added to them for seconds of the wall clock.
        """
        sandbox = self._sandbox
        new = self._recording.since(self._next)
        self._next = new[-1].number + 1 if new else self._next
        settings = sandbox.settings
        return {
            "now": now + epoch,
            "paths": [self._describe_path(path, now) for path in sandbox.seen],
            "requests": sum(seen.requests for seen in sandbox.seen.values()),
            "failures": self._recording.failures,
            "new": [_describe(one, epoch, sandbox.secret_key, self._forms) for one in new],
            "players": self._describe_players(),
            "settings": {
                "window": settings.window,
                "limits": settings.limits,
                "faults": asdict(settings.faults),
                "python": settings.as_python(),
                "shell": settings.as_shell(),
            },
            "pending": sandbox.pending(),
        }

    def _describe_path(self, path: str, now: float) -> dict[str, Any]:
        seen, minute = self._sandbox.seen[path], self._minutes.get(path)
        entry = {"path": path, "limit": self._sandbox.limits[path], "requests": seen.requests, "busiest": seen.busiest}
        return entry if minute is None else entry | {"rate_limited": seen.rate_limited} | minute.look(now)

    def _describe_players(self) -> dict[str, Any]:
        game = self._sandbox.game
        return {
            "count": len(game.players),
            "excluded": len(game.exclusions),
            "shown": [_describe_player(game, user_id) for user_id in islice(_find_players(game, self._find), MAX_PLAYERS)],
        }


def _find_players(game: Game, find: str) -> Iterator[str]:
    """Name the latest players with some letters, the one of just that name first; and the excluded that are no players."""
    if find in game.players or find in game.exclusions:
        yield find
    strangers = (user_id for user_id in reversed(game.exclusions) if user_id not in game.players)
    for names in (reversed(game.players), strangers):
        yield from (name for name in islice(names, MAX_SEARCHED) if find in name and name != find)


def _describe_player(game: Game, user_id: str) -> dict[str, Any]:
    player = game.players.get(user_id)
    exclusion = game.exclusion_of(user_id)
    entry: dict[str, Any] = {"user_id": user_id, "sessions": 0, "states": []}
    if player is not None:
        subscriptions: dict[str, Subscription | Address] = {**player.channels}
        if player.email is not None and (address := game.addresses.get(player.email.casefold())) is not None:
            subscriptions["email"] = address
        states = [part for channel, one in subscriptions.items() for part in _describe_states(channel, one)]
        entry |= {"sessions": player.sessions, "email": player.email, "states": states}
    if exclusion is not None:
        until = exclusion.expire_at
        entry["excluded"] = "for good" if until is None else f"until {until.isoformat(' ', 'minutes')}"
    return entry


def _describe_states(channel: str, subscription: Subscription | Address) -> Iterator[tuple[str, str]]:
    yield channel, subscription.state
    yield from ((f"{channel}/{name}", state) for name, state in subscription.categories.items() if state != "opt_in")


def _describe(exchange: Exchange, epoch: float, secret: str, known: frozenset[str]) -> dict[str, Any]:
    received, answer = exchange.received, exchange.answer
    sent = exchange.secret
    forms = known if sent == secret or not isinstance(sent, str) else known | _forms_of(sent)
    return {
        "number": exchange.number,
        "when": received.stamp + epoch,
        "call": f"{exchange.method} {received.path}",
        "user_id": _mask(received.user_id or str(received.parameters.get("email", "")), forms),
        "status": None if answer is None else answer[0],
        "done": received.done,
        "fault": received.fault,
        "parameters": _mask(_write(received.parameters), forms),
        "answer": None if answer is None else _mask(answer[1].decode(errors="replace"), forms),
    }


def _write(parameters: dict[str, Any]) -> str:
    try:
        return json.dumps(parameters, ensure_ascii=False)
    except RecursionError:
        return "nested too deep to be shown"


def _forms_of(secret: str) -> frozenset[str]:
    """Return a secret in all forms in which it may stand in JSON."""
    return frozenset(filter(None, (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])))


def _mask(text: str, forms: frozenset[str]) -> str:
    """Take secrets out of a text, and cut what is too long to be read."""
    for form in forms:
        text = text.replace(form, MASK)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} …"
