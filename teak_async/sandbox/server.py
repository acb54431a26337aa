"""A stand-in for Teak's server: the four calls, their limits, and the faults of a real network.

It imports nothing of the client, so that it can be the judge of the client's promises. Everything is in memory.

Rules of this module:

- A request is stamped when the server has it, after the simulated way up; the limit judges by that stamp.
- Requests that the limit let through count against it, refused ones do not; `busiest` counts both.
- Faults are drawn from a seed, one draw a request, so a run can be repeated.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import struct
import time
from collections import Counter, deque
from functools import cache
from ipaddress import ip_address
from types import TracebackType
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import parse_qsl, unquote
from zoneinfo import available_timezones

from aiohttp import web
from attrs import asdict, define, field, frozen

from .faults import Fault, Faults
from .limit_models import LIMIT_MODELS, PathStats

if TYPE_CHECKING:
    from typing import Self

GAME_ID = "sandbox"
SECRET_KEY = "sandbox-secret"  # noqa: S105 - the stand-in's own, and public
IDENTIFY = "/v2/identify"
STATUS = "/v2/desktop_push/subscription_status"
CATEGORY = "/v2/desktop_push/subscription_status/:category_identifier"
MAX_REQUESTS = 100_000
"""Requests remembered at most; the counts go on."""

CALLS = {"identify": IDENTIFY, "status": STATUS, "category": CATEGORY}
"""The paths by a name of one word."""


@define
class Player:
    """A player as the server knows it.

    Attributes:
        sessions: how many sessions were recorded.
        email: the last one given.
        state: subscription state on desktop push.
        categories: category identifier → state.
    """

    sessions: int = 0
    email: str | None = None
    state: str = "opt_in"
    categories: dict[str, str] = field(factory=dict)


@frozen
class Received:
    """One request as the server saw it.

    Attributes:
        path: the budget it counts against.
        user_id: the player it names.
        stamp: seconds of the server's monotonic clock.
        status: the status answered or meant to be answered.
        done: whether the work was done.
        fault: what was made to go wrong with it.
        parameters: what it asked, without the credentials; a category from the path, too.
    """

    path: str
    user_id: str
    stamp: float
    status: int
    done: bool
    fault: Fault | None
    parameters: dict[str, Any] = field(hash=False)


class Sandbox:
    """A Teak server of your own: `async with Sandbox() as server:` and then `TeakSession(..., base_url=server.url)`.

    Args:
        window: the limit model, `sliding` or `fixed`.
        identify: the limit of `/v2/identify`, requests per second.
        subscription: the limit of reading and setting together, and again of all categories together.
        faults: what goes wrong.
        categories: the categories that every player starts with, opted in.
        host: address to listen on.
        port: 0 takes a free one.

    Attributes:
        players: by user id.
        requests: the last hundred thousand received.
        seen: per path, what came.
    """

    def __init__(
        self,
        *,
        window: str = "sliding",
        identify: int = 200,
        subscription: int = 300,
        faults: Faults = Faults(),  # noqa: B008 - frozen, so all may have the same
        game_id: str = GAME_ID,
        secret_key: str = SECRET_KEY,
        categories: tuple[str, ...] = ("sales", "events"),
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        if window not in LIMIT_MODELS:
            raise ValueError(f"window must be one of {', '.join(LIMIT_MODELS)}, not {window!r}")
        self.game_id = game_id
        self.secret_key = secret_key
        self.url = ""
        self.players: dict[str, Player] = {}
        self.requests: deque[Received] = deque(maxlen=MAX_REQUESTS)
        self.seen: dict[str, PathStats] = {IDENTIFY: PathStats(), STATUS: PathStats(), CATEGORY: PathStats()}
        self._window = LIMIT_MODELS[window]
        self.set_limits(identify, subscription)
        self.set_faults(faults)
        self._next: dict[str, deque[Fault]] = {path: deque() for path in self._limits}
        self._categories = categories
        self._address = (host, port)
        self._sessions = 0
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        host, port = self._address
        await web.TCPSite(self._runner, host, port, backlog=1024).start()
        self.url = "http://{}:{}".format(*self._runner.addresses[0][:2])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def add_player(self, user_id: str, *, state: str = "opt_in", categories: dict[str, str] | None = None) -> Player:
        """Make a player known without a session."""
        player = self.players[user_id] = Player(state=state, categories=dict.fromkeys(self._categories, "opt_in"))
        player.categories.update(categories or {})
        return player

    def fail_next(self, path: str, *faults: Fault) -> None:
        """Let the next requests on a path (`identify`, `status`, `category`) go wrong, one after the other.

        The faults are those of `Faults` and `refused`, a 429 within the limit.
        """
        path = CALLS.get(path, path)
        if path not in self._next:
            raise ValueError(f"{path!r} is none of {', '.join(CALLS)}")
        if wrong := set(faults) - set(get_args(Fault)):
            raise ValueError(f"{', '.join(sorted(wrong))}: faults are {', '.join(get_args(Fault))}")
        self._next[path].extend(faults)

    def set_faults(self, faults: Faults) -> None:
        """Let these things go wrong from now on, drawn from their seed."""
        self._faults = faults
        self._random = random.Random(faults.seed)  # noqa: S311 - seeded, so a run can be repeated

    def set_limits(self, identify: int, subscription: int) -> None:
        """Judge by these limits from now on; earlier requests do not count against them."""
        self._limits = {IDENTIFY: identify, STATUS: subscription, CATEGORY: subscription}
        self._judges = {path: self._window(limit) for path, limit in self._limits.items()}

    def summary(self) -> dict[str, Any]:
        """What it saw, ready for JSON; also at `GET /sandbox`, and each player at `GET /sandbox/players`."""
        sessions = Counter(player.sessions for player in self.players.values())
        return {
            "paths": {path: seen.as_dict() for path, seen in self.seen.items()},
            "players": len(self.players),
            "sessions": sum(count * players for count, players in sessions.items()),
            "players_by_sessions": {str(count): players for count, players in sorted(sessions.items())},
        }

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/sandbox":
            return web.json_response(self.summary())
        if request.path == "/sandbox/players":
            return web.json_response({name: asdict(player) for name, player in self.players.items()})
        body = await request.read()
        raw = request.raw_path.split("?")[0]
        path, category = _route(raw)
        await self._travel()
        if path is None:
            return web.json_response({"status": "error", "errors": {"path": [f"no such path {raw}"]}}, status=404)
        parameters = _parameters(request, body)
        fault = self._draw(path)
        now = time.monotonic()
        self.seen[path].count(now)
        status, done = 500, False
        answer: dict[str, Any] = {}
        if fault not in ("reset", "error_before"):
            if fault != "rate_limited" and self._judges[path].admits(now):
                status, answer = self._answer(request.method, path, category, parameters)
                done = status in (200, 201)
            else:
                self.seen[path].rate_limited += 1
                status, answer = 429, _refusal(path, self._limits[path])
        asked = {name: value for name, value in parameters.items() if name not in ("game_id", "secret_key")}
        if path == CATEGORY:
            asked["category"] = category
        self.requests.append(Received(path, str(parameters.get("user_id", "")), now, status, done, fault, asked))
        return await self._reply(request, status, answer, fault)

    async def _travel(self) -> None:
        """Take the time of one way."""
        if seconds := self._faults.one_way(self._random):
            await asyncio.sleep(seconds)

    def _draw(self, path: str) -> Fault | None:
        if self._next[path]:
            return self._next[path].popleft()
        return self._faults.draw(self._random)

    async def _reply(
        self, request: web.BaseRequest, status: int, answer: dict[str, Any], fault: Fault | None
    ) -> web.StreamResponse:
        faults = self._faults
        if fault == "stall":
            await asyncio.sleep(faults.stall_for)
        await self._travel()
        if fault in ("reset", "response_lost"):
            _cut(request, hard=fault == "reset")
        if fault in ("error_before", "error_after"):
            return web.Response(
                status=500 if fault == "error_before" else 502, text="<h1>It broke</h1>", content_type="text/html"
            )
        if fault == "not_json":
            return web.Response(status=status, text="<h1>Welcome to the hotel</h1>", content_type="text/html")
        return web.Response(status=status, body=json.dumps(answer).encode(), content_type="application/json")

    def _answer(self, method: str, path: str, category: str, parameters: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if parameters.get("game_id") != self.game_id:
            message = f"Could not find game with id {parameters.get('game_id')}"
            return 404, {"error": {"code": 404, "message": message}}
        if parameters.get("secret_key") != self.secret_key:
            return 403, _errors(authorization="is invalid")
        if path == IDENTIFY and method == "POST":
            return self._identify(parameters)
        user_id = str(parameters.get("user_id", ""))
        player = self.players.get(user_id)
        if player is None:
            return 404, _errors(user_id=f"No player with id {user_id}")
        if method == "GET" and path == STATUS:
            return 200, {**_push(user_id), "state": player.state, "categories": player.categories}
        if method != "POST":
            return 404, _errors(path="no such call")
        state = parameters.get("state")
        if state not in ("opt_in", "opt_out"):
            return 404, _errors(state=f"Unknown state {state}")
        if path == STATUS:
            previous, player.state = player.state, state
            changed: dict[str, Any] = {"categories": player.categories}
        else:
            previous = player.categories.get(category, "opt_in")
            player.categories[category] = state
            changed = {"category": category}
        return 200, {**_push(user_id), "previous_state": previous, "state": state, **changed}

    def _identify(self, parameters: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        errors = {}
        user_id = parameters.get("user_id")
        if not isinstance(user_id, str) or not user_id:
            errors["user_id"] = "must be provided"
        address, country = parameters.get("client_ip"), parameters.get("country_code")
        if not address and not country:
            errors["location"] = "either client_ip or country_code must be provided"
        zone = parameters.get("timezone_id", "UTC")
        if not _is_zone(zone):
            errors["timezone_id"] = f"{zone} is not a recognized IANA timezone name"
        if errors or not isinstance(user_id, str):
            return 400, _errors(**errors)
        player = self.players.get(user_id) or self.add_player(user_id)
        player.sessions += 1
        player.email = parameters.get("email", player.email)
        self._sessions += 1
        answer = {
            "country_code": _country(address) if address else str(country),
            "session_id": str(self._sessions),
            "opt_out_states": {name: {"state": "opt_in"} for name in ("email", "push", "sms")},
        }
        link = parameters.get("deep_link")
        if isinstance(link, str):
            filled = re.sub(r"{{(\w+)}}", lambda match: str(parameters.get(match[1], "")), link)
            answer["deep_link"] = filled if link.startswith("teak") else link
        return 201, answer


def _route(raw: str) -> tuple[str | None, str]:
    if raw in (IDENTIFY, STATUS):
        return raw, ""
    head, _, category = raw.rpartition("/")
    return (CATEGORY, unquote(category)) if head == STATUS and category else (None, "")


def _parameters(request: web.BaseRequest, body: bytes) -> dict[str, Any]:
    if request.method == "GET":
        return dict(request.query)
    try:
        parameters = json.loads(body)
    except ValueError:
        return dict(parse_qsl(body.decode(errors="replace")))
    return parameters if isinstance(parameters, dict) else {}


def _refusal(path: str, limit: int) -> dict[str, Any]:
    message = f"{path} may only be called {limit} times per second. Please wait a second and try again"
    return {"status": "rate_limit", "errors": {"rate_limit": [message]}}


def _errors(**errors: str) -> dict[str, Any]:
    return {"status": "error", "errors": {name: [message] for name, message in errors.items()}}


def _push(user_id: str) -> dict[str, Any]:
    return {"status": "ok", "channel": "desktop_push", "user_id": user_id, "reachable": False}


def _country(address: str) -> str:
    try:
        return "US" if ip_address(address).is_global or address.startswith("203.0.113.") else ""
    except ValueError:
        return ""


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _is_zone(zone: Any) -> bool:
    # A machine without a time zone database can't tell, and so believes.
    return isinstance(zone, str) and (zone in _zones() or not _zones())


def _cut(request: web.BaseRequest, *, hard: bool) -> None:
    transport = request.transport
    if transport is None:
        return
    if hard:
        # Closing with a linger of zero seconds is what makes the system send a reset.
        plain = transport.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
