"""The sandbox's web page over HTTP: its files, what happens as server-sent events, and the controls.

Rules of this module:

- Nothing is computed while nobody looks: each reader is one request, whose handler counts while it is connected.
- A page of another origin, or of a host name that was turned to this address, gets neither page nor events nor controls. An
  address as host name cannot be turned, so each one is let in. The API and the counts in JSON answer everybody, as a server's.
- The page shows what clients sent, so it may run only its own script, which writes text and no HTML.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from aiohttp import web
from attrs import asdict
from yarl import URL

from .endpoints import LIMITS
from .faults import DRAWN, Fault, Faults
from .recording import Recording
from .view import View

if TYPE_CHECKING:
    from .server import Sandbox

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

PAUSE = 0.25
"""Seconds between two events."""
FILES = {
    "/": ("page.html", "text/html"),
    "/sandbox/page.css": ("page.css", "text/css"),
    "/sandbox/page.js": ("page.js", "text/javascript"),
    "/sandbox/page.svg": ("page.svg", "image/svg+xml"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Page:
    """The page of one sandbox.

    Args:
        host: the name by which it may be opened besides `localhost` and addresses.

    Attributes:
        handlers: path → handler.
    """

    def __init__(self, sandbox: Sandbox, recording: Recording, host: str) -> None:
        self._sandbox = sandbox
        self._recording = recording
        self._hosts = {"localhost", host.lower()}  # as a URL has it
        self._run = secrets.token_hex(8)
        self._initial = sandbox.settings
        handlers: Mapping[str, Handler] = {
            **dict.fromkeys(FILES, self._serve_file),
            "/sandbox/events": self._serve_events,
            "/sandbox/controls": self._take_controls,
        }
        self.handlers: Mapping[str, Handler] = {path: partial(self._guard, handler) for path, handler in handlers.items()}

    async def _guard(self, handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        if (refusal := self._refusal(request)) is not None:
            return _respond_text(403, refusal)
        method = "POST" if handler == self._take_controls else "GET"
        if request.method != method:
            return _respond_text(405, f"{request.path} takes {method} only")
        return await handler(request)

    def _refusal(self, request: web.BaseRequest) -> str | None:
        host = request.headers.get("Host", "")
        try:
            name = URL(f"http://{host}").host or ""
        except ValueError:
            name = ""
        if name not in self._hosts and not _is_address(name):
            return f"The page opens at an address or at localhost, not at {name!r}. Give the sandbox that name as its host."
        if request.headers.get("Origin", f"http://{host}") != f"http://{host}":
            return "Another origin may not use the page."
        # A link to the page is no use of it by another origin.
        if request.path != "/" and request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return "Another origin may not use the page."
        return None

    async def _serve_file(self, request: web.BaseRequest) -> web.StreamResponse:
        name, kind = FILES[request.path]
        body = (Path(__file__).parent / "static" / name).read_bytes()
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=HEADERS)

    async def _serve_events(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        view = View(self._sandbox, self._recording, request.query.get("find", ""))
        # What does not change is sent once.
        about = {
            "run": self._run,
            "url": self._sandbox.url,
            "calls": self._sandbox.calls,
            "drawn": DRAWN,
            "faults": get_args(Fault),
            "usual": {"limits": dict(LIMITS), "faults": asdict(Faults())},
        }
        with self._recording.watched(), suppress(ConnectionResetError):
            await response.write(b"retry: 1000\nevent: about\n" + _event(about))
            while True:
                now = time.monotonic()
                for _ in view.count(now):
                    await asyncio.sleep(0)
                await response.write(_event(view.look(now, time.time() - now)))
                await asyncio.sleep(PAUSE)
        return response

    async def _take_controls(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.content_type != "application/json":
            return _respond_text(415, "Controls are JSON.")
        try:
            given = json.loads(await request.read())
            self._control(given)
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            return _respond_text(400, str(error))
        return web.Response(status=204, headers=HEADERS)

    def _control(self, given: Mapping[str, Any]) -> None:
        sandbox, reset = self._sandbox, bool(given.get("reset"))
        changed = (self._initial if reset else sandbox.settings).changed(given.get("settings", {}))
        if reset:
            sandbox.apply(self._initial)
            sandbox.forget_pending()
        if "settings" in given:
            if (changed.limits, changed.window) != (sandbox.settings.limits, sandbox.settings.window):
                sandbox.set_limits(window=changed.window, **changed.limits)
            if changed.faults != sandbox.settings.faults:
                sandbox.set_faults(changed.faults)
        if "fail_next" in given:
            call, fault = given["fail_next"]
            sandbox.fail_next(call, fault)


def _event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def _respond_text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text, headers=HEADERS)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
