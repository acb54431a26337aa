from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from attrs import define, evolve
from support import sample
from yarl import URL

from teak_async.sandbox import CATEGORY, IDENTIFY, STATUS, Fault, Faults, Sandbox
from teak_async.sandbox import game as game_module
from teak_async.sandbox import server as module
from teak_async.sandbox.endpoints import ENDPOINTS

ONE_CATEGORY = f"{STATUS}/sales"
ADDRESS = {"client_ip": "203.0.113.7"}


@define
class Plain:
    """Speaks to a sandbox as any HTTP client does, without a line of ours."""

    http: aiohttp.ClientSession

    async def raw(self, server: Sandbox, method: str, path: str, **parameters: Any) -> tuple[int, str, bytes]:
        """Make a call with the sandbox's credentials, unless others are given."""
        parameters = {"game_id": server.game_id, "secret_key": server.secret_key, **parameters}
        sent: dict[str, Any] = {"params": parameters} if method == "GET" else {"json": parameters}
        async with self.http.request(method, URL(server.url + path, encoded=True), **sent) as response:
            return response.status, response.content_type, await response.read()

    async def __call__(self, server: Sandbox, method: str, path: str, **parameters: Any) -> tuple[int, Any]:
        status, kind, body = await self.raw(server, method, path, **parameters)
        assert kind == "application/json"
        return status, json.loads(body)


@pytest.fixture
async def ask() -> AsyncIterator[Plain]:
    # A connection for each request, since aiohttp sends again by itself on one that was kept.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        yield Plain(http)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock for the sandbox that moves only when told."""
    told = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: told.now))
    return told


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the sandbox slept, without sleeping."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=sleep))
    return slept


def having(fault: Fault, share: float) -> Faults:
    """So much of one fault."""
    shares: dict[str, Any] = {fault: share}
    return Faults(stall_for=7.0, **shares)


def shape(value: Any) -> Any:
    """A body without its values: the keys, and of what type things are."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return [shape(inner) for inner in value] if isinstance(value, list) else type(value)


@pytest.mark.parametrize(
    ("name", "expected", "method", "path", "parameters"),
    [
        ("identify.201", 201, "POST", IDENTIFY, {"user_id": "new", "deep_link": "teak1:///reward", **ADDRESS}),
        ("identify.201.no_link", 201, "POST", IDENTIFY, {"user_id": "new", **ADDRESS}),
        ("status.get.200", 200, "GET", STATUS, {"user_id": "known"}),
        ("status.set.200", 200, "POST", STATUS, {"user_id": "known", "state": "opt_out"}),
        ("status.category.200", 200, "POST", ONE_CATEGORY, {"user_id": "known", "state": "opt_out"}),
    ],
)
async def test_success(
    sandbox: Sandbox, ask: Plain, name: str, expected: int, method: str, path: str, parameters: dict[str, Any]
) -> None:
    """Each call's success has the status and exactly the keys and types of the recorded response."""
    sandbox.add_player("known")
    status, body = await ask(sandbox, method, path, **parameters)
    assert status == expected
    assert shape(body) == shape(json.loads(sample(name)))


@pytest.mark.parametrize(
    ("name", "expected", "method", "path", "parameters"),
    [
        ("identify.400", 400, "POST", IDENTIFY, {"user_id": "p", "timezone_id": "Mars/Olympus_Mons"}),
        ("identify.403", 403, "POST", IDENTIFY, {"user_id": "p", "secret_key": "wrong", **ADDRESS}),
        ("identify.403", 403, "GET", STATUS, {"user_id": "p", "secret_key": "wrong"}),
        ("identify.403", 403, "POST", ONE_CATEGORY, {"user_id": "p", "secret_key": "wrong"}),
        ("identify.404", 404, "POST", IDENTIFY, {"user_id": "p", "game_id": "unknown_app_id", **ADDRESS}),
        ("identify.404", 404, "GET", STATUS, {"user_id": "p", "game_id": "unknown_app_id"}),
        ("status.404.player", 404, "GET", STATUS, {"user_id": "foo"}),
        ("status.404.player", 404, "POST", STATUS, {"user_id": "foo", "state": "opt_in"}),
        ("status.404.player", 404, "POST", ONE_CATEGORY, {"user_id": "foo", "state": "opt_in"}),
        ("status.404.state", 404, "POST", STATUS, {"user_id": "known", "state": "opted_in"}),
        ("status.404.state", 404, "POST", ONE_CATEGORY, {"user_id": "known", "state": "opted_in"}),
    ],
)
async def test_rejections(
    sandbox: Sandbox, ask: Plain, name: str, expected: int, method: str, path: str, parameters: dict[str, Any]
) -> None:
    """Each documented rejection is the recorded response, word for word, and nothing is done."""
    sandbox.add_player("known")
    assert await ask(sandbox, method, path, **parameters) == (expected, json.loads(sample(name)))
    assert sandbox.summary()["sessions"] == 0
    assert list(sandbox.players) == ["known"]
    assert sandbox.players["known"].state == "opt_in"


async def test_all_invalid_parameters_at_once(sandbox: Sandbox, ask: Plain) -> None:
    """A 400 names every invalid parameter, not just the first."""
    status, body = await ask(sandbox, "POST", IDENTIFY, user_id="", timezone_id=7)
    assert (status, set(body["errors"])) == (400, {"user_id", "location", "timezone_id"})
    assert sandbox.requests[0].status == 400
    assert not sandbox.requests[0].done


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/identity"),
        ("GET", f"{STATUS}/"),
        ("POST", f"{STATUS}/sales/more"),
        ("POST", f"{IDENTIFY}/sales"),
        ("GET", ONE_CATEGORY),
        ("PUT", STATUS),
    ],
)
async def test_no_such_call(sandbox: Sandbox, ask: Plain, method: str, path: str) -> None:
    """What is no call of Teak's is a 404 that names the path."""
    sandbox.add_player("p")
    status, body = await ask(sandbox, method, path, user_id="p", state="opt_out")
    assert (status, set(body["errors"])) == (404, {"path"})
    assert sandbox.players["p"].state == "opt_in"
    assert sum(seen.requests for seen in sandbox.seen.values()) == len(sandbox.requests)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff"])
async def test_a_body_that_is_no_object(sandbox: Sandbox, ask: Plain, body: bytes) -> None:
    """A body that cannot be read is one without a game."""
    async with ask.http.post(sandbox.url + IDENTIFY, data=body) as response:
        assert response.status == 404
        assert "error" in await response.json()


@pytest.mark.parametrize(
    ("parameters", "country"),
    [
        ({"client_ip": "203.0.113.7"}, "US"),
        ({"client_ip": "8.8.8.8", "country_code": "FR"}, "US"),
        ({"client_ip": "2001:4860:4860::8888"}, "US"),
        ({"client_ip": "127.0.0.1", "country_code": "FR"}, ""),
        ({"client_ip": "nowhere"}, ""),
        ({"country_code": "FR"}, "FR"),
    ],
)
async def test_country(sandbox: Sandbox, ask: Plain, parameters: dict[str, str], country: str) -> None:
    """The country is looked up from the address, which wins over the code given, and is empty when that fails."""
    _, body = await ask(sandbox, "POST", IDENTIFY, user_id="p", **parameters)
    assert body["country_code"] == country


@pytest.mark.parametrize(
    ("link", "resolved"),
    [
        ("teak1:///gift?to={{user_id}}&by={{nobody}}", "teak1:///gift?to=p&by="),
        ("https://example.com/{{user_id}}", "https://example.com/{{user_id}}"),
    ],
)
async def test_deep_link(sandbox: Sandbox, ask: Plain, link: str, resolved: str) -> None:
    """A Teak link comes back filled in, any other one as it was."""
    _, body = await ask(sandbox, "POST", IDENTIFY, user_id="p", deep_link=link, **ADDRESS)
    assert body["deep_link"] == resolved


async def test_without_a_time_zone_database(sandbox: Sandbox, ask: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that knows no time zones takes any."""
    monkeypatch.setattr(game_module, "_time_zones", frozenset)
    status, _ = await ask(sandbox, "POST", IDENTIFY, user_id="p", timezone_id="Mars/Olympus_Mons", **ADDRESS)
    assert status == 201


async def test_every_identify_is_a_session(sandbox: Sandbox, ask: Plain) -> None:
    """The same identify twice is two sessions with ids of their own, and what is known of the player stays."""
    _, first = await ask(sandbox, "POST", IDENTIFY, user_id="p", email="p@example.com", **ADDRESS)
    await ask(sandbox, "POST", STATUS, user_id="p", state="opt_out")
    _, second = await ask(sandbox, "POST", IDENTIFY, user_id="p", **ADDRESS)
    player = sandbox.players["p"]
    assert first["session_id"] != second["session_id"]
    assert (player.sessions, player.email, player.state) == (2, "p@example.com", "opt_out")


async def test_state_is_kept(sandbox: Sandbox, ask: Plain) -> None:
    """A state that was set is what is read, and what the next change reports as the one before."""
    sandbox.add_player("p", state="opt_out")
    sandbox.add_player("other")
    said = [(await ask(sandbox, "POST", STATUS, user_id="p", state=state))[1] for state in ("opt_in", "opt_out", "opt_out")]
    assert [body["previous_state"] for body in said] == ["opt_out", "opt_in", "opt_out"]
    _, read = await ask(sandbox, "GET", STATUS, user_id="p")
    assert (read["state"], read["user_id"]) == ("opt_out", "p")
    assert sandbox.players["other"].state == "opt_in"


async def test_categories_are_kept(ask: Plain) -> None:
    """A category's state is kept beside the player's own and the other categories', new categories too."""
    async with Sandbox(categories=("a", "b")) as server:
        server.add_player("p", categories={"b": "opt_out"})
        changes = [
            (await ask(server, "POST", f"{STATUS}/{category}", user_id="p", state=state))[1]
            for category, state in (("b", "opt_in"), ("new", "opt_out"), ("new", "opt_in"))
        ]
        _, read = await ask(server, "GET", STATUS, user_id="p")
    assert [(body["category"], body["previous_state"]) for body in changes] == [
        ("b", "opt_out"),
        ("new", "opt_in"),
        ("new", "opt_out"),
    ]
    assert read["categories"] == {"a": "opt_in", "b": "opt_in", "new": "opt_in"}
    assert read["state"] == "opt_in"


async def test_a_channel_is_rows_of_the_table(ask: Plain) -> None:
    """Another channel with the same calls has its own states and limits, and counts and faults by its own names."""
    rows = [
        evolve(row, name=row.name.replace("desktop_push", "mobile"), path=row.path.replace("desktop_push", "mobile_push"))
        for row in ENDPOINTS[1:3]
    ]
    mobile, mobile_category = (row.path for row in rows)
    async with Sandbox(subscription=3, endpoints=(*ENDPOINTS, *rows)) as server:
        player = server.add_player("p", state="opt_out")
        server.fail_next("mobile_status", "rate_limited")
        assert (await ask(server, "GET", mobile, user_id="p"))[0] == 429
        _, read = await ask(server, "GET", mobile, user_id="p")
        _, change = await ask(server, "POST", mobile, user_id="p", state="opt_out")
        _, changed = await ask(server, "POST", f"{mobile}/sales", user_id="p", state="opt_out")
        assert await ask(server, "GET", mobile, user_id="foo") == (404, json.loads(sample("status.404.player")))
        status, limited = await ask(server, "POST", mobile, user_id="p", state="opt_in")
        assert (await ask(server, "POST", STATUS, user_id="p", state="opt_in"))[0] == 200
        async with ask.http.get(f"{server.url}/sandbox/players") as response:
            told = (await response.json())["p"]
    assert (read["channel"], read["state"], set(read["categories"])) == ("mobile_push", "opt_in", {"sales", "events"})
    assert (change["channel"], change["previous_state"]) == ("mobile_push", "opt_in")
    assert (changed["channel"], changed["category"], changed["previous_state"]) == ("mobile_push", "sales", "opt_in")
    assert (status, mobile in limited["errors"]["rate_limit"][0]) == (429, True)
    assert (player.state, player.categories["sales"]) == ("opt_in", "opt_in")
    assert told["channels"]["mobile_push"] == {"state": "opt_out", "categories": {"sales": "opt_out", "events": "opt_in"}}
    assert told["channels"]["desktop_push"] == {"state": told["state"], "categories": told["categories"]}
    counts = {path: (seen.requests, seen.rate_limited) for path, seen in server.seen.items() if seen.requests}
    assert counts == {STATUS: (1, 0), mobile: (5, 2), mobile_category: (1, 0)}


async def test_category_is_percent_decoded(sandbox: Sandbox, ask: Plain) -> None:
    """A category is one segment of the path, whatever is encoded in it."""
    sandbox.add_player("p")
    status, body = await ask(sandbox, "POST", f"{STATUS}/a%2Fb%20%C3%A9%3F%25", user_id="p", state="opt_out")
    assert (status, body["category"]) == (200, "a/b é?%")
    assert sandbox.players["p"].categories["a/b é?%"] == "opt_out"
    assert sandbox.requests[0].path == CATEGORY


@pytest.mark.parametrize(
    ("name", "method", "path"),
    [
        ("identify.429", "POST", IDENTIFY),
        ("status.429", "GET", STATUS),
        ("status.429", "POST", STATUS),
        ("status.category.429", "POST", ONE_CATEGORY),
    ],
)
async def test_documented_limits(ask: Plain, clock: SimpleNamespace, name: str, method: str, path: str) -> None:
    """One request more than the documented limit in a second gets the documented 429, and is not done."""
    async with Sandbox() as server:
        server.add_player("p")
        parameters = {"user_id": "p", "state": "opt_out", **ADDRESS}
        bucket = CATEGORY if path == ONE_CATEGORY else path
        limit = server.limits[bucket]
        responses = await asyncio.gather(*(ask(server, method, path, **parameters) for _ in range(limit)))
        assert {status for status, _ in responses} <= {200, 201}
        assert await ask(server, method, path, **parameters) == (429, json.loads(sample(name)))
        assert [received.done for received in server.requests] == [True] * limit + [False]
        assert server.seen[bucket].as_dict() == {
            "requests": limit + 1,
            "rate_limited": 1,
            "busiest": limit + 1,
            "rate_after_first_second": 0.0,
        }


@pytest.mark.parametrize(
    ("window", "later", "statuses"),
    [
        ("sliding", 0.5, [429, 429]),
        ("sliding", 0.999, [429, 429]),
        ("sliding", 1.0, [201, 429]),
        ("fixed", 0.0, [429, 429]),
        ("fixed", 0.25, [201, 429]),
    ],
)
async def test_windows(ask: Plain, clock: SimpleNamespace, window: str, later: float, statuses: list[int]) -> None:
    """A sliding window opens one second after the first request, a fixed one with the clock's next second."""
    async with Sandbox(window=window, identify=1) as server:
        clock.now = 1000.75
        assert (await ask(server, "POST", IDENTIFY, user_id="p", **ADDRESS))[0] == 201
        clock.now += later
        assert [(await ask(server, "POST", IDENTIFY, user_id="p", **ADDRESS))[0] for _ in range(2)] == statuses


async def test_limits_are_independent(ask: Plain, clock: SimpleNamespace) -> None:
    """Reading and setting share a limit, all categories together have another, identify a third."""
    async with Sandbox(identify=1, subscription=2) as server:
        server.add_player("p")
        parameters = {"user_id": "p", "state": "opt_in", **ADDRESS}
        calls = [
            ("GET", STATUS, 200),
            ("POST", STATUS, 200),
            ("GET", STATUS, 429),
            ("POST", ONE_CATEGORY, 200),
            ("POST", f"{STATUS}/events", 200),
            ("POST", f"{STATUS}/third", 429),
            ("POST", IDENTIFY, 201),
            ("POST", IDENTIFY, 429),
        ]
        for method, path, expected in calls:
            assert (method, path, (await ask(server, method, path, **parameters))[0]) == (method, path, expected)
        assert [(seen.requests, seen.rate_limited) for seen in list(server.seen.values())[:3]] == [(2, 1), (3, 1), (3, 1)]


async def test_what_was_received(ask: Plain, clock: SimpleNamespace) -> None:
    """Each request is remembered with its path, player, stamp and fate, and with what it asked but the credentials."""
    async with Sandbox() as server:
        server.fail_next("desktop_push_status", "error_before")
        await ask(server, "POST", IDENTIFY, user_id="p", **ADDRESS)
        clock.now += 1.5
        await ask.raw(server, "GET", STATUS, user_id="q")
        await ask.raw(server, "POST", ONE_CATEGORY, user_id="p", state="opt_out")
        received = [(one.path, one.user_id, one.stamp, one.status, one.done, one.fault) for one in server.requests]
        asked = [one.parameters for one in server.requests]
    assert received == [
        (IDENTIFY, "p", 1000.0, 201, True, None),
        (STATUS, "q", 1001.5, 500, False, "error_before"),
        (CATEGORY, "p", 1001.5, 200, True, None),
    ]
    assert asked == [{"user_id": "p", **ADDRESS}, {"user_id": "q"}, {"user_id": "p", "state": "opt_out", "category": "sales"}]


async def test_summary(ask: Plain, clock: SimpleNamespace) -> None:
    """The summary counts requests and sessions, and `GET /sandbox` gives the same without being counted."""
    async with Sandbox(identify=3) as server:
        server.add_player("silent", state="opt_out")
        for user_id in ("a", "b", "b", "b"):
            await ask(server, "POST", IDENTIFY, user_id=user_id, **ADDRESS)
        async with ask.http.get(f"{server.url}/sandbox") as response:
            told = await response.json()
        assert told == server.summary()
    nothing = {"requests": 0, "rate_limited": 0, "busiest": 0, "rate_after_first_second": 0.0}
    others = {row.path: nothing for row in ENDPOINTS}
    assert told == {
        "paths": {**others, IDENTIFY: {**nothing, "requests": 4, "rate_limited": 1, "busiest": 4}},
        "players": 3,
        "sessions": 3,
        "players_by_sessions": {"0": 1, "1": 1, "2": 1},
        "opted_out": {"desktop_push": 1, "push": 0, "email": 0},
    }


@pytest.mark.parametrize("always", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "kind", "done"),
    [
        ("error_before", 500, "text/html", False),
        ("error_after", 502, "text/html", True),
        ("stall", 201, "application/json", True),
        ("not_json", 201, "text/html", True),
    ],
)
async def test_faulty_responses(
    ask: Plain, sleeps: list[float], fault: Fault, status: int, kind: str, done: bool, always: bool
) -> None:
    """A faulty response is what it is said to be, and the work was done or not as it is said."""
    async with Sandbox(faults=having(fault, float(always))) as server:
        if not always:
            server.fail_next("identify", fault)
        response = await ask.raw(server, "POST", IDENTIFY, user_id="p", **ADDRESS)
        assert response[:2] == (status, kind)
        assert (server.requests[0].fault, server.requests[0].done, "p" in server.players) == (fault, done, done)
        assert sleeps == ([7.0] if fault == "stall" else [])


@pytest.mark.parametrize("always", [False, True])
@pytest.mark.parametrize(
    ("fault", "error", "done"),
    [("reset", aiohttp.ClientOSError, False), ("response_lost", aiohttp.ServerDisconnectedError, True)],
)
async def test_broken_connections(ask: Plain, fault: Fault, error: type[Exception], done: bool, always: bool) -> None:
    """A reset comes before the work and is one for the system; a lost response is a closed connection after the work."""
    async with Sandbox(faults=having(fault, float(always))) as server:
        if not always:
            server.fail_next("identify", fault)
        with pytest.raises(error) as caught:
            await ask(server, "POST", IDENTIFY, user_id="p", **ADDRESS)
        assert getattr(caught.value, "errno", None) == (errno.ECONNRESET if fault == "reset" else None)
        assert (server.requests[0].fault, server.requests[0].done, "p" in server.players) == (fault, done, done)


async def test_stall_is_late(ask: Plain) -> None:
    """A stalled response does not come while the work has long been done, and keeps nobody from ending the sandbox."""
    async with Sandbox(faults=Faults(stall=1.0, stall_for=600.0)) as server:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(server, "POST", IDENTIFY, user_id="p", **ADDRESS), 0.3)
        assert server.players["p"].sessions == 1


async def test_faults_do_not_spend_the_limit(ask: Plain, clock: SimpleNamespace) -> None:
    """A request that goes wrong before the work is seen but costs nothing; a rate-limited one stays rate-limited."""
    async with Sandbox(identify=1) as server:
        server.fail_next("identify", "error_before")
        server.fail_next(IDENTIFY, "stall", "error_after")
        server._faults = Faults(stall_for=0.0)
        statuses = [(await ask.raw(server, "POST", IDENTIFY, user_id="p", **ADDRESS))[0] for _ in range(4)]
        assert statuses == [500, 201, 502, 429]
        assert [(one.status, one.done) for one in server.requests] == [(500, False), (201, True), (429, False), (429, False)]
        assert server.players["p"].sessions == 1


async def test_fail_next_is_of_one_path(sandbox: Sandbox, ask: Plain) -> None:
    """Faults asked for come in their order on their path, and only there."""
    sandbox.add_player("p")
    sandbox.fail_next("desktop_push_category", "error_after", "error_before")
    calls = ("POST", STATUS), ("POST", ONE_CATEGORY), ("POST", f"{STATUS}/events"), ("POST", ONE_CATEGORY)
    statuses = [(await ask.raw(sandbox, *call, user_id="p", state="opt_out"))[0] for call in calls]
    assert statuses == [200, 502, 500, 200]
    assert sandbox.players["p"].categories == {"sales": "opt_out", "events": "opt_in"}


async def test_a_429_asked_for(sandbox: Sandbox, ask: Plain) -> None:
    """A request may be rate-limited within the limit, as when another process has spent it, and nothing is done."""
    sandbox.fail_next("identify", "rate_limited")
    statuses = [(await ask(sandbox, "POST", IDENTIFY, user_id="p", **ADDRESS))[0] for _ in range(2)]
    assert statuses == [429, 201]
    assert (sandbox.seen[IDENTIFY].rate_limited, sandbox.players["p"].sessions) == (1, 1)


@pytest.mark.parametrize(
    ("path", "fault", "said"),
    [
        ("identity", "reset", "'identity' is none of identify, desktop_push_status, desktop_push_category"),
        ("identify", "rest", "rest: faults are reset, "),
    ],
)
def test_no_such_fault(path: str, fault: Any, said: str) -> None:
    """A word that is none is an error that names those that are, and not a fault that never comes."""
    with pytest.raises(ValueError, match=said):
        Sandbox().fail_next(path, fault)


async def test_other_limits_and_faults_meanwhile(ask: Plain, clock: SimpleNamespace) -> None:
    """Limits and faults can be changed while it runs; what came before does not count against the new limit."""
    async with Sandbox() as server:
        statuses = []
        for limit in (2, 1):
            server.set_limits(identify=limit)
            statuses += [(await ask.raw(server, "POST", IDENTIFY, user_id="p", **ADDRESS))[0] for _ in range(3)]
        server.set_faults(Faults(error_before=1.0))
        statuses += [(await ask.raw(server, "POST", IDENTIFY, user_id="p", **ADDRESS))[0]]
    assert statuses == [201, 201, 429, 201, 429, 429, 500]


async def drawn(ask: Plain, seed: int) -> list[Fault | None]:
    """The faults of sixty requests, a third of them without one."""
    faults = Faults(seed, error_before=0.2, error_after=0.2, not_json=0.2)
    async with Sandbox(faults=faults) as server:
        for _ in range(60):
            await ask.raw(server, "POST", IDENTIFY, user_id="p", **ADDRESS)
        return [received.fault for received in server.requests]


async def test_same_seed_same_faults(ask: Plain) -> None:
    """A seed says which requests go wrong and how; another seed says otherwise."""
    first = await drawn(ask, 1)
    assert set(first) == {None, "error_before", "error_after", "not_json"}
    assert await drawn(ask, 1) == first
    assert await drawn(ask, 2) != first


@pytest.mark.parametrize(("jitter", "most"), [(0.0, 0.5), (0.25, 0.75)])
async def test_delay(ask: Plain, sleeps: list[float], jitter: float, most: float) -> None:
    """Every request takes the delay each way, and up to the jitter more."""
    async with Sandbox(faults=Faults(delay=0.5, jitter=jitter)) as server:
        for _ in range(10):
            await ask(server, "POST", IDENTIFY, user_id="p", **ADDRESS)
    assert len(sleeps) == 20
    assert all(0.5 <= slept <= most for slept in sleeps)
    assert len(set(sleeps)) == (20 if jitter else 1)


async def test_spikes(ask: Plain, sleeps: list[float]) -> None:
    """Each way of each request may take longer by the spike, as often as its share says."""
    async with Sandbox(faults=Faults(seed=1, delay=0.5, spike=0.3, spike_for=2.0)) as server:
        for _ in range(100):
            await ask(server, "POST", IDENTIFY, user_id="p", **ADDRESS)
    assert set(sleeps) == {0.5, 2.5}
    assert 40 <= sleeps.count(2.5) <= 80


async def test_stamp_is_between_the_two_ways(ask: Plain, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is stamped when it has come up, before its response goes down."""

    async def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=sleep))
    async with Sandbox(faults=Faults(delay=0.5)) as server:
        await ask(server, "POST", IDENTIFY, user_id="p", **ADDRESS)
        assert server.requests[0].stamp == 1000.5
        assert clock.now == 1001.0


async def test_same_port_again(ask: Plain) -> None:
    """A sandbox can be started where another one was, as after an outage."""
    async with Sandbox() as first:
        port = URL(first.url).port
    assert port is not None
    async with Sandbox(port=port) as second:
        assert second.url == first.url
        assert (await ask(second, "POST", IDENTIFY, user_id="p", **ADDRESS))[0] == 201


async def test_an_identify_says_what_a_player_has_set(ask: Plain, sandbox: Sandbox) -> None:
    """On mobile push, and for the address on email."""
    player = {"user_id": "p", "email": "P@example.com", **ADDRESS}
    _, before = await ask(sandbox, "POST", IDENTIFY, **player)
    assert before["opt_out_states"] == {name: {"state": "opt_in"} for name in ("email", "push", "sms")}
    await ask(sandbox, "POST", "/v2/push/subscription_status", user_id="p", state="opt_out")
    await ask(sandbox, "POST", "/v2/email/subscription_status", email="p@example.com", state="opt_out")
    _, after = await ask(sandbox, "POST", IDENTIFY, **player)
    assert {name: value["state"] for name, value in after["opt_out_states"].items()} == {
        "email": "opt_out",
        "push": "opt_out",
        "sms": "opt_in",
    }


async def test_its_repr_has_the_address() -> None:
    """A notebook shows where it is."""
    server = Sandbox()
    assert repr(server) == "<Sandbox: not open>"
    async with server:
        assert repr(server) == f"<Sandbox: {server.url}>"


def test_unknown_window() -> None:
    """A window that does not exist is an error that names the ones that do."""
    with pytest.raises(ValueError, match="window must be one of sliding, fixed, not 'hopping'"):
        Sandbox(window="hopping")
