"""Certificates: whom the client trusts, and what it says when it does not."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from scripted import Peer, Server, answering, recorded, response, running
from support import ROOT

from teak_async import (
    CertificateError,
    ConnectFailed,
    ConnectionLost,
    Delivery,
    Identify,
    Limits,
    RetryPolicy,
    TeakError,
    TeakSession,
    Timeout,
)
from teak_async._api.endpoints import Effect
from teak_async._client.retry import next_wait


def served(authority: trustme.CA, *names: str, **options: Any) -> ssl.SSLContext:
    """A server's side, for some names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **options).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A client's side, which trusts one CA more."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def session(url: str, **options: Any) -> TeakSession:
    options.setdefault("limits", Limits(5000, 5000))
    return TeakSession("1", "secret", base_url=url, timeout=Timeout(connect=2, response=2), **options)


async def test_a_private_ca_is_trusted_by_ssl() -> None:
    """With its CA in the context a server is reached, and without it is not."""
    authority = trustme.CA()
    with running(server := Server(answering, served(authority, "127.0.0.1"))):
        async with session(server.url, ssl=trusting(authority)) as teak:
            assert (await teak.identify("p1", country_code="US")).session_id == "of p1"
        async with session(server.url, ssl=ssl.create_default_context()) as teak:
            with pytest.raises(CertificateError):
                await teak.identify("p2", country_code="US")
    assert server.users == {"p1": 1}


@pytest.mark.parametrize("kind", ["identify", "status", "bulk"])
@pytest.mark.parametrize("wrong", ["unknown CA", "other name", "other address", "expired"])
async def test_a_certificate_that_cannot_be_verified_is_told_at_once(wrong: str, kind: str) -> None:
    """It is no outage: one attempt, nothing sent, and an error that says what to do."""
    authority = trustme.CA()
    names = {"other name": "api.example", "other address": "127.0.0.2"}.get(wrong, "127.0.0.1")
    options: dict[str, Any] = {}
    if wrong == "expired":
        options["not_after"] = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    client = ssl.create_default_context() if wrong == "unknown CA" else trusting(authority)
    began = time.monotonic()
    with running(server := Server(answering, served(authority, names, **options))):
        async with session(server.url, ssl=client) as teak:
            with pytest.raises(CertificateError, match=r"127\.0\.0\.1.*cannot be verified.*ssl= or --ca-file") as failed:
                if kind == "identify":
                    await teak.identify("p1", country_code="US")
                elif kind == "status":
                    await teak.desktop_push.status("p1")
                else:
                    async with teak.bulk([Identify("p1", country_code="US")]) as run:
                        async for outcome in run:
                            assert outcome.error is not None
                            raise outcome.error
    assert isinstance(failed.value, ConnectFailed)
    assert (failed.value.delivery, failed.value.attempts) == (Delivery.NOT_SENT, 1)
    assert (server.users, server.connections) == ({}, 0)
    assert time.monotonic() - began < 3


def refuse(listener: socket.socket, context: ssl.SSLContext, users: list[str]) -> None:
    """Serve one connection after the other with plain blocking sockets, on which OpenSSL itself sends its alerts."""
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        # The second handle keeps what was not read from resetting the connection before the alert is there.
        with plain, plain.dup() as kept:
            kept.settimeout(0.5)
            plain.settimeout(2)
            with suppress(OSError), context.wrap_socket(plain, server_side=True) as secure:
                data = secure.recv(1 << 16)
                users.append(json.loads(data.partition(b"\r\n\r\n")[2])["user_id"])
                secure.sendall(response(recorded(users[-1]), "201 Created", "Connection: close"))
            with suppress(OSError):
                while kept.recv(1 << 16):
                    pass


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_wants_a_client_certificate(version: ssl.TLSVersion) -> None:
    """With one in the context it is reached; without one the error says so, and nothing was sent."""
    authority = trustme.CA()
    server_side = served(authority, "127.0.0.1")
    server_side.maximum_version = version
    server_side.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server_side)
    ours = trusting(authority)
    authority.issue_cert("client@example.org").configure_cert(ours)
    stranger = trusting(authority)
    trustme.CA().issue_cert("client@example.org").configure_cert(stranger)
    users: list[str] = []
    told: set[type[TeakError]] = set()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=refuse, args=(listener, server_side, users), daemon=True)
        thread.start()
        async with session(url, ssl=ours) as teak:
            await teak.identify("p1", country_code="US")
        for other in (trusting(authority), stranger):
            async with session(url, ssl=other, retry=RetryPolicy(max_attempts=1)) as teak:
                with pytest.raises(TeakError) as failed:
                    await teak.identify("p2", country_code="US")
                # A reset may come before the alert is read; then nobody knows.
                if isinstance(failed.value, CertificateError):
                    assert "client's certificate" in str(failed.value)
                    assert failed.value.delivery is Delivery.NOT_SENT
                else:
                    # TLS 1.2 has a general alert for one that is missing.
                    assert (failed.value.delivery is Delivery.NOT_SENT) is isinstance(failed.value, ConnectFailed)
                told.add(type(failed.value))
        listener.shutdown(socket.SHUT_RDWR)
    assert told <= {CertificateError, ConnectFailed, ConnectionLost}
    assert users == ["p1"]


async def test_another_fault_of_tls_may_pass() -> None:
    """A server that speaks no TLS may be one that is starting: that is tried again."""

    async def starting(peer: Peer) -> None:
        await peer.reader.read(10)
        peer.writer.write(b"HTTP/1.1 503 Starting\r\n\r\n")

    with running(server := Server(starting)):
        retry = RetryPolicy(max_attempts=2, initial_wait=0.001)
        async with session(server.url.replace("http", "https"), retry=retry) as teak:
            with pytest.raises(ConnectFailed) as failed:
                await teak.identify("p1", country_code="US")
    assert not isinstance(failed.value, CertificateError)
    assert failed.value.attempts == 2


@pytest.mark.parametrize("effect", Effect)
def test_no_retry_mends_a_certificate(effect: Effect) -> None:
    """Neither a live call nor a row that may sit out an outage is tried again."""
    assert next_wait(RetryPolicy(), effect, CertificateError("no"), 1, 0, 0.5, patient=True) is None


PROGRAM = """
import asyncio, sys, teak_async
async def main():
    async with teak_async.TeakSession("1", "secret", base_url=sys.argv[1]) as teak:
        print((await teak.identify("p1", country_code="US")).session_id)
asyncio.run(main())
"""


async def test_the_environment_names_a_ca(tmp_path: Path) -> None:
    """`SSL_CERT_FILE` is OpenSSL's own variable, and holds here."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    environment = {**os.environ, "SSL_CERT_FILE": str(tmp_path / "ca.pem"), "PYTHONPATH": str(ROOT)}
    with running(server := Server(answering, served(authority, "127.0.0.1"))):
        arguments = [sys.executable, "-c", PROGRAM, server.url]
        for variables, code in ((environment, 0), ({**environment, "SSL_CERT_FILE": os.devnull}, 1)):
            ran = await asyncio.to_thread(
                subprocess.run, arguments, env=variables, capture_output=True, text=True, check=False, timeout=30
            )
            assert ran.returncode == code, ran.stderr
            assert (ran.stdout == "of p1\n") is not code
            assert ("CertificateError" in ran.stderr) is bool(code)


@pytest.mark.parametrize("wrong", [True, False, "ca.pem", ssl.SSLContext, 1])
def test_ssl_is_a_context(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"ssl must be an ssl\.SSLContext"):
        session("https://api.example", ssl=wrong)


def test_ssl_is_a_clients_context() -> None:
    with pytest.raises(ValueError, match="a client's context"):
        session("https://api.example", ssl=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
