from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support import WAIT
from yarl import URL

from teak_async.sandbox import IDENTIFY, Faults, Sandbox
from teak_async.sandbox import page as module
from teak_async.sandbox.view import View
from teak_async.testing import TeakSandbox

STATIC = Path(module.__file__).parent / "static"
CONTROLS, EVENTS = "/sandbox/controls", "/sandbox/events"


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.01)


async def identify(http: aiohttp.ClientSession, server: Sandbox, user_id: str = "p", **told: Any) -> int:
    """Make a call, and return the status of its answer."""
    body = {"game_id": server.game_id, "secret_key": server.secret_key, "user_id": user_id, "country_code": "US", **told}
    async with http.post(server.url + IDENTIFY, json=body) as response:
        return response.status


async def control(http: aiohttp.ClientSession, server: Sandbox, **given: Any) -> tuple[int, str]:
    """Use the page's controls."""
    async with http.post(server.url + CONTROLS, json=given) as response:
        return response.status, await response.text()


@asynccontextmanager
async def events(http: aiohttp.ClientSession, server: Sandbox, **query: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """Read the page's events."""
    async with http.get(server.url + EVENTS, params=query) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")

        async def told() -> AsyncIterator[dict[str, Any]]:
            async for line in response.content:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

        yield told()


async def test_the_page_is_at_the_address(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    """The page and all that it names come from the sandbox, in few bytes, and are no requests of Teak's."""
    async with http.get(sandbox.url) as response:
        assert (response.status, response.content_type) == (200, "text/html")
        page = await response.text()
    kinds = {}
    for path in re.findall(r'(?:href|src)="([^"]*)"', page):
        async with http.get(sandbox.url + path) as response:
            assert response.status == 200
            kinds[path] = response.content_type
    assert kinds == {
        "/sandbox/page.svg": "image/svg+xml",
        "/sandbox/page.css": "text/css",
        "/sandbox/page.js": "text/javascript",
    }
    assert sandbox.summary()["players"] == len(sandbox.requests) == 0
    assert sum(path.stat().st_size for path in STATIC.iterdir()) <= 60_000


@pytest.mark.parametrize("path", [*STATIC.iterdir()], ids=lambda path: path.name)
def test_the_files_name_no_other_address(path: Path) -> None:
    """The page works without a network, and writes nothing as HTML."""
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"\w+://[\w.]+", text)) <= {"http://www.w3.org"}
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|<style| style=|<script>| on\w+=|@import", text
    )


async def test_headers(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    """Every answer of the page allows its own files only, in no frame, and is kept by nobody."""
    for path in ("/", "/sandbox/page.js", EVENTS, CONTROLS):
        async with http.get(sandbox.url + path) as response:
            policy = response.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Cache-Control"] == "no-store"
            assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("path", ["/", "/sandbox/page.js", EVENTS, CONTROLS])
async def test_without_a_page(http: aiohttp.ClientSession, path: str) -> None:
    """A sandbox without the page has nothing there, and keeps nothing for it."""
    async with Sandbox(page=False) as server:
        async with http.get(server.url + path) as response:
            assert response.status == 404
        assert server._recording is None
        assert await identify(http, server) == 201


async def test_the_plugins_server_has_no_page(http: aiohttp.ClientSession, teak_sandbox: TeakSandbox) -> None:
    """A test's server has no page."""
    async with http.get(teak_sandbox.url) as response:
        assert response.status == 404


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:80", "127.0.0.1:8377", "[::1]:8377", "10.0.0.7"])
async def test_own_names(http: aiohttp.ClientSession, sandbox: Sandbox, host: str) -> None:
    """The page opens at localhost and at any address."""
    async with http.get(sandbox.url, headers={"Host": host}) as response:
        assert response.status == 200


@pytest.mark.parametrize("path", ["/", "/sandbox/page.js", EVENTS, CONTROLS])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "::", "a@b:c"])
async def test_other_names(http: aiohttp.ClientSession, sandbox: Sandbox, path: str, host: str) -> None:
    """Under a name that somebody turned to this address nothing is read or changed; a call works under any."""
    method = "POST" if path == CONTROLS else "GET"
    async with http.request(method, sandbox.url + path, headers={"Host": host}, json={"reset": True}) as response:
        assert (response.status, response.content_type) == (403, "text/plain")
    body = {"game_id": sandbox.game_id, "secret_key": sandbox.secret_key, "user_id": "p", "country_code": "US"}
    async with http.post(
        sandbox.url + IDENTIFY, json=body, headers={"Host": host, "Origin": "http://evil.example"}
    ) as response:
        assert response.status == 201


async def test_the_name_that_was_given(http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture) -> None:
    """A host that was given names the page, too; one beyond this machine is warned of."""
    async with (
        Sandbox(host="0.0.0.0") as server,  # noqa: S104 - what the warning is about
        http.get(f"http://localhost:{URL(server.url).port}") as response,
    ):
        assert response.status == 200
    (warning,) = caplog.records
    assert (warning.levelno, "open to the network" in warning.message) == (logging.WARNING, True)
    caplog.clear()
    sandbox = Sandbox(host="localhost")
    async with sandbox:
        assert not caplog.records


OTHER_ORIGINS = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", OTHER_ORIGINS, ids=str)
async def test_other_origins(http: aiohttp.ClientSession, sandbox: Sandbox, headers: dict[str, str]) -> None:
    """A page of another origin, be it of this machine, changes and reads nothing."""
    async with http.post(sandbox.url + CONTROLS, json={"fail_next": ["identify", "reset"]}, headers=headers) as response:
        assert response.status == 403
    async with http.get(sandbox.url + EVENTS, headers=headers) as response:
        assert response.status == 403
    assert sandbox.pending() == {}


async def test_own_origin(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    """The page itself may use its controls, and a link to it opens it."""
    headers = {"Origin": sandbox.url, "Sec-Fetch-Site": "same-origin"}
    async with http.post(sandbox.url + CONTROLS, json={"fail_next": ["identify", "error_before"]}, headers=headers) as response:
        assert response.status == 204
    assert await identify(http, sandbox) == 500
    async with http.get(sandbox.url, headers={"Sec-Fetch-Site": "cross-site"}) as response:
        assert response.status == 200


async def test_a_form_is_no_control(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    """What a form of any page could send is no control, nor is what a link asks for."""
    given = json.dumps({"fail_next": ["identify", "reset"]})
    async with http.post(sandbox.url + CONTROLS, data=given, headers={"Content-Type": "text/plain"}) as response:
        assert response.status == 415
    async with http.get(sandbox.url + CONTROLS) as response:
        assert response.status == 405
    async with http.post(sandbox.url) as response:
        assert response.status == 405
    assert sandbox.pending() == {}


async def test_controls(http: aiohttp.ClientSession) -> None:
    """Settings change at once, each leaves the others as they are, and a reset brings back those of the start."""
    async with Sandbox(faults=Faults(delay=0.001)) as server:
        assert await control(http, server, settings={"limits": {"identify": 1}, "window": "fixed"}) == (204, "")
        assert await control(http, server, settings={"faults": {"error_after": 1}}) == (204, "")
        assert server.settings.faults == Faults(delay=0.001, error_after=1)
        assert (server.settings.window, server.settings.limits["identify"]) == ("fixed", 1)
        assert await identify(http, server) == 502
        assert await control(http, server, fail_next=["identify", "stall"]) == (204, "")
        assert await control(http, server, reset=True) == (204, "")
        assert (server.settings.faults, server.settings.limits["identify"]) == (Faults(delay=0.001), 200)
        assert (server.settings.window, server.pending()) == ("sliding", {})
        assert [await identify(http, server) for _ in range(3)] == [201] * 3


async def test_a_fault_leaves_the_limit_counting(http: aiohttp.ClientSession) -> None:
    """A change of the faults does not begin the limit's second anew."""
    async with Sandbox(identify=1) as server:
        assert await identify(http, server) == 201
        await control(http, server, settings={"faults": {"stall_for": 1}})
        assert await identify(http, server) == 429


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"settings": {"faults": {"reset": 2}}}, "more than 1"),
        ({"settings": {"limits": {"identify": "x"}}}, "identify must be a number"),
        ({"settings": 7}, ""),
        ({"settings": {"limits": {"identify": 10**400}}}, ""),
        ({"fail_next": ["identity", "reset"]}, "'identity' is none of"),
        ({"fail_next": ["identify", "rest"]}, "faults are"),
        ({"fail_next": ["identify"]}, ""),
        ({"fail_next": ["identify", ["reset"]]}, ""),
        ([], ""),
        ("x", ""),
    ],
)
async def test_wrong_controls(http: aiohttp.ClientSession, sandbox: Sandbox, given: Any, said: str) -> None:
    """A control that makes no sense is said to be none, and changes nothing."""
    before = sandbox.settings
    async with http.post(sandbox.url + CONTROLS, json=given) as response:
        assert (response.status, said in await response.text()) == (400, True)
    async with http.post(sandbox.url + CONTROLS, data=b"{", headers={"Content-Type": "application/json"}) as response:
        assert response.status == 400
    assert (sandbox.settings, sandbox.pending()) == (before, {})


async def test_events(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    """A reader is told what it looks at, and each request once, with all the players."""
    await identify(http, sandbox, "early")
    async with asyncio.timeout(WAIT), events(http, sandbox) as told:
        about = await anext(told)
        assert about["url"] == sandbox.url
        assert about["calls"]["identify"] == IDENTIFY
        first = await anext(told)
        assert [one["user_id"] for one in first["new"]] == ["early"]
        await identify(http, sandbox, "<img src=x onerror=alert(1)>", deep_link="teak:///{{secret_key}}")
        new: list[Any] = []
        while not new:
            looked = await anext(told)
            new = looked["new"]
        assert [one["user_id"] for one in new] == ["<img src=x onerror=alert(1)>"]
        assert sandbox.secret_key not in json.dumps([about, first, looked])
        assert looked["players"]["count"] == looked["requests"] == 2
    async with asyncio.timeout(WAIT), events(http, sandbox, find="ear") as told:
        assert (await anext(told))["run"] == about["run"]
        assert [one["user_id"] for one in (await anext(told))["players"]["shown"]] == ["early"]


async def test_a_call_to_nowhere_is_shown(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    """A call with a wrong path shows up, so that its sender finds out."""
    async with http.get(f"{sandbox.url}/v3/identify?user_id=p") as response:
        assert response.status == 404
    async with asyncio.timeout(WAIT), events(http, sandbox) as told:
        await anext(told)
        (shown,) = (await anext(told))["new"]
    assert (shown["call"], shown["user_id"], shown["status"]) == ("GET /v3/identify", "p", 404)


async def test_nothing_is_computed_while_nobody_looks(
    http: aiohttp.ClientSession, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader who leaves ends what was computed for them."""
    looks = 0
    look = View.look

    def counted(*arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        return look(*arguments)

    monkeypatch.setattr(View, "look", counted)
    await identify(http, sandbox)
    before = len(asyncio.all_tasks())
    assert looks == 0
    async with asyncio.timeout(WAIT), events(http, sandbox) as told:
        for _ in range(3):
            await anext(told)
    async with asyncio.timeout(WAIT):
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.01)
    seen = looks
    await asyncio.sleep(20 * module.PAUSE)
    assert looks == seen >= 2


async def test_a_reader_does_not_hold_up_the_end(http: aiohttp.ClientSession) -> None:
    """The sandbox ends while somebody looks, and its readers learn it."""
    async with asyncio.timeout(WAIT):
        async with Sandbox() as server:
            response = await http.get(server.url + EVENTS)
            await response.content.readline()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
