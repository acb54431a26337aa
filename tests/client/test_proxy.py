"""Calls that go through a forward proxy, which the environment names."""

from __future__ import annotations

import asyncio
import os
import ssl
import traceback
from typing import Any

import pytest
import trustme
from scripted import Forwarder, Peer, Server, answering, carry, reach, recorded, response, running
from yarl import URL

from teak_async import (
    ConnectFailed,
    ConnectionLost,
    Delivery,
    Identify,
    Limits,
    RetryPolicy,
    TeakError,
    TeakSession,
    TimedOut,
    Timeout,
)
from teak_async._client.proxy import find_proxy
from teak_async.sandbox import Sandbox

ONCE = RetryPolicy(max_attempts=1)
IDENTIFY = "/v2/identify"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy but the test's."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


class Tls:
    """A private CA: what a server has, and what a client trusts."""

    def __init__(self) -> None:
        authority = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(self.server)
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)


@pytest.fixture(scope="module")
def tls() -> Tls:
    return Tls()


def session(url: str, **options: Any) -> TeakSession:
    options.setdefault("limits", Limits(5000, 5000))
    options.setdefault("retry", ONCE)
    options.setdefault("timeout", Timeout(connect=2, response=2))
    return TeakSession("1", "secret", base_url=url, **options)


@pytest.mark.parametrize(
    ("environment", "server", "proxy"),
    [
        ({}, "https://api.example", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://api.example", "http://p:1"),
        ({"https_proxy": "http://p:1"}, "https://api.example", "http://p:1"),
        ({"HTTPS_PROXY": "http://q:1", "https_proxy": "http://p:1"}, "https://api.example", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "http://api.example", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://api.example", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, "http://api.example", None),
        ({"ALL_PROXY": "http://p:1"}, "https://api.example", "http://p:1"),
        ({"all_proxy": "http://p:1"}, "http://api.example", "http://p:1"),
        ({"ALL_PROXY": "http://q:1", "HTTPS_PROXY": "http://p:1"}, "https://api.example", "http://p:1"),
        ({"HTTPS_PROXY": "p:3128"}, "https://api.example", "http://p:3128"),
        ({"HTTPS_PROXY": "https://p:8443"}, "https://api.example", "https://p:8443"),
        ({"HTTPS_PROXY": "http://[::1]:3128"}, "https://api.example", "http://[::1]:3128"),
        ({"HTTPS_PROXY": "http://p:1/"}, "https://api.example", "http://p:1"),
        ({"HTTPS_PROXY": ""}, "https://api.example", None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "*"}, "https://api.example", None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "api.example"}, "https://api.example", None),
        ({"HTTPS_PROXY": "p:1", "no_proxy": "other, .example"}, "https://api.example", None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "*.example"}, "https://api.example", None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "ample"}, "https://api.example", "http://p:1"),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "api.example:8443"}, "https://api.example:8443", None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "api.example:8443"}, "https://api.example", "http://p:1"),
        ({"HTTP_PROXY": "p:1", "NO_PROXY": "10.0.0.0/8,127.0.0.1"}, "http://10.1.2.3:80", None),
        ({"HTTP_PROXY": "p:1", "NO_PROXY": "10.0.0.0/8"}, "http://11.1.2.3", "http://p:1"),
        ({"HTTP_PROXY": "p:1", "NO_PROXY": "::1"}, "http://[::1]:4000", None),
        ({"HTTP_PROXY": "p:1", "NO_PROXY": "[::1]"}, "http://[::1]:4000", None),
    ],
)
def test_the_environment_names_the_proxy(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], server: str, proxy: str | None
) -> None:
    """Upper and lower case, for one scheme or for all, and what goes without."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = find_proxy(URL(server))
    assert (found and str(found.url).rstrip("/")) == proxy


@pytest.mark.parametrize(
    "proxy",
    [
        "socks5://me:sesame@p:1080",
        "socks://p",
        "ftp://me:sesame@p",
        "http://",
        "http://me:sesame@",
        "http://me:sesame@p:port",
        "http://me:sesame@p:99999999",
        "http://me:sesame@[::1",
        "http://me:sesame@a b:1",
        "://sesame",
    ],
)
async def test_what_is_no_proxy_is_told_at_open(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """A session does not open with a proxy that it cannot use, says which variable is wrong, and shows no password."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    teak = session("https://api.example")
    with pytest.raises(ValueError, match="HTTPS_PROXY must be like http://") as failed:
        await teak.open()
    assert "sesame" not in "".join(traceback.format_exception(failed.value))
    monkeypatch.delenv("HTTPS_PROXY")
    await teak.open()
    await teak.close()


@pytest.mark.parametrize("user", ["", "me:se@same/1+%41", "ué:pä"])
@pytest.mark.parametrize("secure", [True, False], ids=["tunnel", "plain"])
async def test_calls_go_through_the_proxy(monkeypatch: pytest.MonkeyPatch, tls: Tls, user: str, *, secure: bool) -> None:
    """Reads and identifies, with the proxy's user where it wants one, which the server does not see in a tunnel."""
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        while (player := await peer.read()) is not None:
            heads.append(peer.head)
            peer.answer(player)

    proxy = Forwarder(user)
    with running(server := Server(script, tls.server if secure else None), proxy):
        address = URL(proxy.url).with_user(user.partition(":")[0] or None)
        address = address.with_password(user.partition(":")[2]) if user else address
        monkeypatch.setenv("HTTPS_PROXY" if secure else "HTTP_PROXY", str(address))
        async with session(server.url, ssl=tls.client) as teak:
            for number in range(3):
                assert (await teak.identify(f"p{number}", country_code="US")).session_id == f"of p{number}"
            assert (await teak.desktop_push.status("p0")).user_id == "p0"
    assert (server.connections, proxy.connections, len(proxy.heads)) == (1, 1, 1 if secure else 4)
    assert proxy.heads[0].startswith(b"CONNECT 127.0.0.1:" if secure else b"POST http://127.0.0.1:")
    if secure:
        assert not any(b"roxy" in head for head in heads)
        assert b"secret" not in proxy.heads[0]
        assert b"\r\nUser-Agent: teak_async/" in proxy.heads[0]  # by which proxies know what they let through


async def test_a_tunnel_through_a_proxy_over_tls(monkeypatch: pytest.MonkeyPatch, tls: Tls) -> None:
    """A proxy that speaks TLS itself works the same."""
    with running(server := Server(answering, tls.server), proxy := Forwarder(tls=tls.server)):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with session(server.url, ssl=tls.client) as teak:
            assert (await teak.identify("p1", country_code="US")).session_id == "of p1"
    assert proxy.connections == server.connections == 1


REFUSALS = {
    "407": b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
    "502": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops",
    "403": b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\n\r\n<h1>no</h1>",
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: http://portal/\r\nContent-Length: 0\r\n\r\n",
    "201": response(recorded("p1")),
    "no HTTP": b"what?\r\n\r\n",
    "half a head": b"HTTP/1.1 200 Conn",
}


@pytest.mark.parametrize("kind", ["identify", "status"])
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refused_tunnel_is_not_sent(monkeypatch: pytest.MonkeyPatch, refusal: str, kind: str) -> None:
    """Whatever a proxy says instead of making the tunnel, nothing was sent, and the error names the proxy."""
    proxy = Forwarder(refusal=REFUSALS[refusal])
    with running(proxy):
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:sesame@127.0.0.1:{proxy.port}")
        async with session("https://127.0.0.1:9", retry=RetryPolicy(max_attempts=2, initial_wait=0.001)) as teak:
            with pytest.raises(ConnectFailed, match=f"proxy http://127.0.0.1:{proxy.port}") as failed:
                await (teak.identify("p1", country_code="US") if kind == "identify" else teak.desktop_push.status("p1"))
            rates = teak.rates
    assert (failed.value.delivery, failed.value.attempts) == (Delivery.NOT_SENT, 2)
    assert "sesame" not in str(failed.value)
    assert all(rate.in_window == 0 for rate in rates.values())


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_down_is_not_sent(monkeypatch: pytest.MonkeyPatch, unused: int, scheme: str) -> None:
    """No connection to the proxy is no connection."""
    monkeypatch.setenv("ALL_PROXY", f"http://me:sesame@127.0.0.1:{unused}")
    async with session(f"{scheme}://api.example") as teak:
        with pytest.raises(ConnectFailed) as failed:
            await teak.identify("p1", country_code="US")
    assert str(failed.value).startswith(
        f"identify: no connection to the proxy http://127.0.0.1:{unused} (ALL_PROXY): ConnectionRefused"
    )
    assert failed.value.delivery is Delivery.NOT_SENT


@pytest.fixture
async def unused() -> int:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


async def test_a_proxy_that_says_nothing_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tunnel is part of the time for connecting."""

    async def silent(peer: Peer) -> None:
        await peer.reader.read()

    with running(proxy := Server(silent)):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with session("https://api.example", timeout=Timeout(connect=0.1, response=2)) as teak:
            with pytest.raises(TimedOut, match=r"no connection within 0\.1 s \(Timeout\.connect\).*proxy") as late:
                await teak.identify("p1", country_code="US")
    assert late.value.delivery is Delivery.NOT_SENT


async def test_a_plain_proxys_own_response_is_in_doubt_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a tunnel a proxy may have forwarded the request before it failed."""
    proxy = Forwarder(refusal=REFUSALS["502"])
    with running(proxy):
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        async with session("http://api.example") as teak:
            with pytest.raises(TeakError) as failed:
                await teak.identify("p1", country_code="US")
    assert failed.value.delivery is Delivery.UNKNOWN


async def test_a_tunnel_cut_after_the_request_is_in_doubt(monkeypatch: pytest.MonkeyPatch, tls: Tls) -> None:
    """A proxy that goes down while a call is out leaves it in doubt; it is sent once."""

    async def script(peer: Peer) -> None:
        await peer.read()
        asyncio.get_running_loop().call_soon(asyncio.ensure_future, proxy.cut())
        await asyncio.sleep(1)

    proxy = Forwarder()
    with running(server := Server(script, tls.server), proxy):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with session(server.url, ssl=tls.client) as teak:
            with pytest.raises(ConnectionLost) as lost:
                await teak.identify("p1", country_code="US")
    assert (lost.value.delivery, server.users) == (Delivery.UNKNOWN, {"p1": 1})


async def test_setting_up_a_tunnel_is_no_part_of_a_round_trip(monkeypatch: pytest.MonkeyPatch, tls: Tls) -> None:
    """The first exchange of a tunnel is not warm, and its time is the request's own."""

    async def slowly(peer: Peer) -> None:
        await asyncio.sleep(0.2)
        await Forwarder._forward(proxy, peer)

    proxy = Forwarder()
    proxy._script = slowly
    seen: list[Any] = []
    with running(server := Server(answering, tls.server), proxy):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with session(server.url, ssl=tls.client) as teak:
            send = teak._transport.send

            async def spying(*args: Any) -> Any:
                seen.append(await send(*args))
                return seen[-1]

            monkeypatch.setattr(teak._transport, "send", spying)
            for number in range(3):
                await teak.identify(f"p{number}", country_code="US")
    assert [raw.warm for raw in seen] == [False, True, True]
    assert all(0 < raw.round_trip < 0.15 for raw in seen)


@pytest.mark.parametrize("secure", [True, False], ids=["tunnel", "plain"])
async def test_a_run_at_the_limit_survives_a_restart_of_its_proxy(
    monkeypatch: pytest.MonkeyPatch, tls: Tls, *, secure: bool
) -> None:
    """Through a proxy that is cut twice, a run keeps to a strict server's limit and tells the truth of every row."""
    limit, rows = 100, 500
    async with Sandbox(window="sliding", identify=limit, subscription=limit) as sandbox:
        plain = URL(sandbox.url).port
        assert plain is not None

        async def terminate(peer: Peer) -> None:
            """End TLS, as a load balancer does, and carry the rest to the sandbox."""
            async with reach("127.0.0.1", plain) as (reader, writer):
                await carry(peer, reader, writer)

        proxy = Forwarder("me:sesame")
        with running(front := Server(terminate, tls.server), proxy) as do:
            monkeypatch.setenv("ALL_PROXY", f"http://me:sesame@127.0.0.1:{proxy.port}")
            url = front.url if secure else sandbox.url
            teak = TeakSession(
                sandbox.game_id,
                sandbox.secret_key,
                base_url=url,
                limits=Limits(limit, limit),
                ssl=tls.client,
                retry=RetryPolicy(initial_wait=0.05, max_wait=0.2),
                timeout=Timeout(connect=2, response=2),
            )
            async with teak, teak.bulk(Identify(f"p{number}", country_code="US") for number in range(rows)) as run:
                told: dict[str, TeakError | None] = {}
                async for outcome in run:
                    assert outcome.request is not None
                    told[outcome.request.subject] = outcome.error
                    if len(told) in (rows // 4, rows // 2):
                        await asyncio.to_thread(do, proxy.cut)
        assert sandbox.seen[IDENTIFY].rate_limited == 0
        assert sandbox.seen[IDENTIFY].busiest <= limit
        for user, error in told.items():
            sessions = sandbox.players[user].sessions if user in sandbox.players else 0
            assert sessions == 1 if error is None else sessions <= 1
            assert error is None or error.delivery is Delivery.UNKNOWN or sessions == 0
        assert len(told) == rows
        assert sum(error is not None for error in told.values()) < limit // 2
        assert proxy.connections > 1
