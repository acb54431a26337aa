"""The sandbox over HTTP: it routes by the table, counts against the limits, draws faults, and responds."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Mapping
from ipaddress import ip_address
from types import TracebackType
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import parse_qsl

from aiohttp import web
from attrs import asdict, evolve, field, frozen

from .endpoints import ENDPOINTS, Endpoint
from .faults import Fault, Faults
from .game import Call, CallRejected, Game, Player, Response, error_body
from .limit_models import LIMIT_MODELS, PathStats
from .page import Handler, Page
from .recording import Answer, Recording
from .settings import WINDOW, Settings

if TYPE_CHECKING:
    from typing import Self

LOG = logging.getLogger(__name__)
GAME_ID = "sandbox"
SECRET_KEY = "sandbox-secret"  # noqa: S105 - the stand-in's own, and public
MAX_REQUESTS = 100_000
"""Requests remembered at most; the counts include all."""


@frozen
class Received:
    """One request as the server saw it.

    Attributes:
        path: the endpoint's; the request counts against its limit.
        user_id: the player it names.
        stamp: seconds of the server's monotonic clock.
        status: HTTP status; a fault after the work replaces it in the response.
        done: whether the work was done.
        fault: what went wrong with it.
        parameters: those of path, query and body, without the credentials.
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
        subscription: on each channel, the limit of reading and setting together, and again of all categories together.
        limits: other limits that are not Teak's, by the names of `LIMITS`, such as `{"exclusions": 5}`.
        faults: what goes wrong, and how slow the network is.
        game_id: Teak App ID that it knows.
        secret_key: Teak Server Secret of that game.
        categories: the categories that every player starts with, opted in.
        host: address to listen on.
        port: 0 takes a free one.
        endpoints: the table of what it serves. Default: all that Teak's API has.
        page: whether a web page at its address shows what happens, and lets its reader set limits and faults.

    Attributes:
        url: its address, once it is open.
        game_id: as given.
        secret_key: as given.
        players: by user id.
        addresses: email address in small letters → its state.
        requests: the last 100,000 received.
        seen: path → its counts.
        game: the players and all that is known of them.
        calls: name of one word → path.
        limits: path → requests per second.
    """

    def __init__(
        self,
        *,
        window: str = WINDOW,
        identify: int = 200,
        subscription: int = 300,
        limits: Mapping[str, int] | None = None,
        faults: Faults = Faults(),  # noqa: B008 - frozen, so all may share it
        game_id: str = GAME_ID,
        secret_key: str = SECRET_KEY,
        categories: tuple[str, ...] = ("sales", "events"),
        host: str = "127.0.0.1",
        port: int = 0,
        endpoints: tuple[Endpoint, ...] | None = None,
        page: bool = True,
    ) -> None:
        self.game_id = game_id
        self.secret_key = secret_key
        self.url = ""
        self.game = Game(categories)
        self.players = self.game.players
        self.addresses = self.game.addresses
        self.requests: deque[Received] = deque(maxlen=MAX_REQUESTS)
        self._endpoints = ENDPOINTS if endpoints is None else endpoints
        self.calls = {endpoint.name: endpoint.path for endpoint in self._endpoints}
        self.seen = {endpoint.path: PathStats() for endpoint in self._endpoints}
        self._next: dict[str, deque[Fault]] = {endpoint.path: deque() for endpoint in self._endpoints}
        self.settings = Settings(window, {"identify": identify, "subscription": subscription, **(limits or {})}, faults)
        self.apply(self.settings)
        self._address = (host, port)
        self._recording = Recording() if page else None
        self._own: dict[str, Handler] = {"/sandbox": self._serve_summary, "/sandbox/players": self._serve_players}
        if self._recording is not None:
            self._own |= Page(self, self._recording, host).handlers
        self._runner: web.ServerRunner | None = None

    def __repr__(self) -> str:
        return f"<Sandbox: {self.url or 'not open'}>"

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        host, port = self._address
        await web.TCPSite(self._runner, host, port, backlog=1024).start()
        bound, port = self._runner.addresses[0][:2]
        self.url = f"http://[{bound}]:{port}" if ":" in bound else f"http://{bound}:{port}"
        if not ip_address(bound).is_loopback:
            LOG.warning("%s is open to the network: all who reach it see its players and can set its faults", self.url)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def add_player(self, user_id: str, *, state: str = "opt_in", categories: dict[str, str] | None = None) -> Player:
        """Add a player without a session; its state and categories are those on desktop push."""
        return self.game.add_player(user_id, state, categories)

    def fail_next(self, path: str, *faults: Fault) -> None:
        """Let the next requests on a path go wrong, one after the other.

        Paths go by the keys of `CALLS`, such as `identify` and `push_status`. The faults are those of `Faults` and
        `rate_limited`, a 429 within the limit.
        """
        path = self.calls.get(path, path)
        if path not in self._next:
            raise ValueError(f"{path!r} is none of {', '.join(self.calls)}")
        if wrong := set(faults) - set(get_args(Fault)):
            raise ValueError(f"{', '.join(sorted(wrong))}: faults are {', '.join(get_args(Fault))}")
        self._next[path].extend(faults)

    def pending(self) -> dict[str, list[Fault]]:
        """Return what `fail_next` was asked for and has not come to pass, by the keys of `CALLS`."""
        waiting = {name: list(self._next[path]) for name, path in self.calls.items()}
        return {name: faults for name, faults in waiting.items() if faults}

    def forget_pending(self) -> None:
        """Let nothing of what `fail_next` was asked for come to pass."""
        for faults in self._next.values():
            faults.clear()

    def set_faults(self, faults: Faults) -> None:
        """Draw from these faults from now on, beginning with their seed."""
        self.settings = evolve(self.settings, faults=faults)
        self._faults = faults
        self._random = random.Random(faults.seed)  # noqa: S311 - seeded, so a run can be repeated

    def set_limits(self, *, window: str | None = None, **limits: int) -> None:
        """Count against these limits from now on, and against Teak's where one is left out; earlier requests do not count.

        Args:
            window: the limit model; left out, it stays as it is.
            limits: requests per second, by the names of `LIMITS`, such as `identify=200`.
        """
        self.settings = evolve(self.settings, limits=limits, window=window or self.settings.window)
        self.limits = {endpoint.path: self.settings.limits[endpoint.limit] for endpoint in self._endpoints}
        make = LIMIT_MODELS[self.settings.window]
        self._limit_models = {path: make(limit) for path, limit in self.limits.items()}

    def apply(self, settings: Settings) -> None:
        """Count and fail as these settings say from now on."""
        self.set_limits(window=settings.window, **settings.limits)
        self.set_faults(settings.faults)

    def summary(self) -> dict[str, Any]:
        """Return the counts, ready for JSON. `GET /sandbox` serves them, too, and `GET /sandbox/players` each player."""
        sessions = Counter(player.sessions for player in self.players.values())
        return {
            "paths": {path: seen.as_dict() for path, seen in self.seen.items()},
            "players": len(self.players),
            "sessions": sum(count * players for count, players in sessions.items()),
            "players_by_sessions": {str(count): players for count, players in sorted(sessions.items())},
            "opted_out": self.game.count_opted_out(),
        }

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        own = self._own.get(request.path)
        if own is not None:
            return await own(request)
        body = await request.read()
        raw = request.raw_path.split("?")[0]
        endpoint, in_path = self._route(raw)
        if seconds := self._faults.one_way(self._random):
            await asyncio.sleep(seconds)
        call = Call("" if endpoint is None else endpoint.channel, _read_parameters(request, body) | in_path)
        now = time.monotonic()  # the server has the request now, after the simulated way up
        if endpoint is None:
            fault, (status, content) = None, (404, error_body(path=f"no such path {raw}"))
        else:
            fault = self._draw_fault(endpoint.path)
            status, content = self._judge(endpoint, request.method, call, fault, now)
        answer = _make_answer(status, content, fault)
        parameters = {**call.parameters}
        parameters.pop("game_id", None)
        secret = parameters.pop("secret_key", None)
        path = raw if endpoint is None else endpoint.path
        received = Received(path, call.user_id, now, status, status in (200, 201), fault, parameters)
        if endpoint is not None:
            self.requests.append(received)
        if self._recording is not None:
            self._recording.add(received, request.method, answer, secret)
        return await self._respond(request, answer, fault)

    async def _serve_summary(self, _: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(self.summary())

    async def _serve_players(self, _: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({name: _describe_player(player) for name, player in self.players.items()})

    def _judge(self, endpoint: Endpoint, method: str, call: Call, fault: Fault | None, now: float) -> Response:
        """Count a request, and do its work unless a fault or the limit is in the way."""
        path = endpoint.path
        self.seen[path].count(now)
        if fault in ("reset", "error_before"):
            return 500, {}
        if fault == "rate_limited" or not self._limit_models[path].admits(now):
            self.seen[path].rate_limited += 1
            return 429, _rate_limit_body(path, self.limits[path])
        return self._process(endpoint, method, call)

    def _route(self, raw_path: str) -> tuple[Endpoint | None, dict[str, str]]:
        for endpoint in self._endpoints:
            if (in_path := endpoint.match(raw_path)) is not None:
                return endpoint, in_path
        return None, {}

    def _draw_fault(self, path: str) -> Fault | None:
        if self._next[path]:
            return self._next[path].popleft()
        return self._faults.draw(self._random)

    def _process(self, endpoint: Endpoint, method: str, call: Call) -> Response:
        game_id = call.parameters.get("game_id")
        if game_id != self.game_id:
            return 404, {"error": {"code": 404, "message": f"Could not find game with id {game_id}"}}
        if call.parameters.get("secret_key") != self.secret_key:
            return 403, error_body(authorization="is invalid")
        handler = endpoint.handlers.get(method)
        if handler is None:
            return 404, error_body(path="no such call")
        try:
            return handler(self.game, call)
        except CallRejected as rejected:
            return rejected.response

    async def _respond(self, request: web.BaseRequest, answer: Answer | None, fault: Fault | None) -> web.Response:
        if fault == "stall":
            await asyncio.sleep(self._faults.stall_for)
        if seconds := self._faults.one_way(self._random):
            await asyncio.sleep(seconds)
        if answer is None:
            _cut_connection(request, hard=fault == "reset")
            return web.Response()
        status, body, kind = answer
        return web.Response(status=status, body=body, content_type=kind)


def _make_answer(status: int, content: dict[str, Any], fault: Fault | None) -> Answer | None:
    if fault is None or fault in ("stall", "rate_limited"):
        return status, json.dumps(content).encode(), "application/json"
    if fault in ("error_before", "error_after"):
        return 500 if fault == "error_before" else 502, b"<h1>It broke</h1>", "text/html"
    if fault == "not_json":
        return status, b"<h1>Welcome to the hotel</h1>", "text/html"
    return None


def _describe_player(player: Player) -> dict[str, Any]:
    return {**asdict(player), "state": player.state, "categories": player.categories}


def _read_parameters(request: web.BaseRequest, body: bytes) -> dict[str, Any]:
    if request.method in ("GET", "DELETE"):
        return dict(request.query)
    try:
        parameters = json.loads(body)
    except ValueError:
        return dict(parse_qsl(body.decode(errors="replace")))
    return parameters if isinstance(parameters, dict) else {}


def _rate_limit_body(path: str, limit: int) -> dict[str, Any]:
    message = f"{path} may only be called {limit} times per second. Please wait a second and try again"
    return {"status": "rate_limit", "errors": {"rate_limit": [message]}}


def _cut_connection(request: web.BaseRequest, *, hard: bool) -> None:
    transport = request.transport
    if transport is None:
        return
    if hard:
        # The system sends a reset when a socket with a linger of zero seconds is closed.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
