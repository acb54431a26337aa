"""Where a secret could come out: every kind of failure is made to happen, and all that anybody could see of it is searched.

The server of these tests is hostile: it says the secret back, in whatever form a server, a proxy or a portal may write it. It
runs in threads of its own, so that what this side logs can be told from what that side does.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import html
import json
import linecache
import logging
import os
import pickle
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, TypeAlias
from unittest.mock import patch
from urllib.parse import quote, quote_plus

import aiohttp
import pytest
import trustme
import typer.main
from attrs import define, field
from support import ROOT, internals, pairs

from teak_async import (
    BacklogFull,
    CertificateError,
    ConnectFailed,
    ConnectionLost,
    DeadlinePassed,
    Forbidden,
    GameNotFound,
    GetSubscription,
    Identify,
    InvalidRequest,
    JournalError,
    Limits,
    NotFound,
    Outage,
    PlayerNotFound,
    RateLimited,
    RemovePlayer,
    Request,
    RetryPolicy,
    ServerError,
    SessionClosed,
    SetCategorySubscription,
    SetEmailAddress,
    SetEmailSubscription,
    SetSubscription,
    TeakError,
    TeakSession,
    TimedOut,
    Timeout,
    TransportError,
    UnexpectedResponse,
    UnknownState,
    errors,
)
from teak_async._api.codec import encode
from teak_async._api.endpoints import endpoint_of
from teak_async._cli.app import app
from teak_async._client.call import Call
from teak_async._limits.bucket import Lane

WORDS = ("sesame7", "tulip9")
"""What a secret here begins and ends with: no encoding changes it, so any piece of a secret is found in any form."""
SECRET = 'sesame7+/="é &<\\%41~tulip9'
SECRETS = {"plain": "sesame7-31-tulip9", "odd": SECRET}
EMAIL, ADDRESS = "mallow@garden.example", "198.51.100.77"
PRIVATE = (*WORDS, "mallow", ADDRESS)

FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "json": lambda secret: json.dumps(secret)[1:-1],
    "json of php": lambda secret: json.dumps(secret)[1:-1].replace("/", "\\/"),
    "json of rails": lambda secret: re.sub("[<>&]", lambda found: f"\\u{ord(found[0]):04x}", json.dumps(secret)[1:-1]),
    "json of .net": lambda secret: re.sub("[<>&+'=]", lambda found: f"\\u{ord(found[0]):04X}", json.dumps(secret)[1:-1]),
    "percent": lambda secret: quote(secret, safe=""),
    "percent, slashes left": quote,
    "percent, lower": lambda secret: re.sub("%..", lambda found: found[0].lower(), quote(secret, safe="")),
    "form": quote_plus,
    "percent twice": lambda secret: quote(quote(secret, safe=""), safe=""),
    "html": lambda secret: json.dumps(html.escape(secret), ensure_ascii=False)[1:-1],
    "html, numbers": lambda secret: "".join(f"&#{ord(letter)};" for letter in secret),
    "escaped all": lambda secret: "".join(f"\\u{ord(letter):04x}" for letter in secret),
}
"""How the secret may stand between the quotation marks of a JSON text."""


def http(status: str, body: bytes = b"", *headers: str, kind: str = "application/json") -> bytes:
    """Write an answer."""
    head = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def errors_with(status: str, name: str = "authorization") -> Callable[[str], bytes]:
    """Make a refusal as Teak writes them, with the secret in the message and as a name."""
    return lambda echo: http(status, f'{{"status":"error","errors":{{"{name}":["no {echo}"],"{echo}":["no"]}}}}'.encode())


def said(status: str, body: str) -> Callable[[str], bytes]:
    """Make an answer of a body in which `@` is the secret."""
    return lambda echo: http(status, body.replace("@", echo).encode())


def moved(where: str) -> Callable[[str], bytes]:
    """Make a redirect."""
    return lambda echo: http("302 Found", b"", f"Location: {where.replace('@', echo)}")


def page(status: str) -> Callable[[str], bytes]:
    """Make a web page."""
    return lambda echo: http(status, f"<h1>{echo}</h1>".encode(), kind=f"text/html; x={echo}")


Kinds: TypeAlias = set[type[TeakError]]

ANSWERS: dict[str, tuple[Callable[[str], bytes], Kinds]] = {
    "400": (errors_with("400 Bad Request"), {InvalidRequest}),
    "403": (errors_with("403 Forbidden"), {Forbidden}),
    "404": (errors_with("404 Not Found"), {NotFound}),
    "404 player": (errors_with("404 Not Found", "user_id"), {PlayerNotFound}),
    "404 state": (errors_with("404 Not Found", "state"), {UnknownState}),
    "404 game": (said("404 Not Found", '{"error":{"code":404,"message":"Could not find game @"}}'), {GameNotFound}),
    "404 route": (said("404 Not Found", '{"error":{"code":404,"message":"no @"}}'), {UnexpectedResponse}),
    "418": (errors_with("418 Teapot"), {UnexpectedResponse}),
    "429": (errors_with("429 Too Many"), {RateLimited}),
    "429, odd pause": (lambda echo: http("429 Too Many", b"", f"Retry-After: {echo}"), {RateLimited}),
    "500": (errors_with("500 Sorry"), {ServerError}),
    "502 page": (page("502 Bad Gateway"), {ServerError}),
    "403 page": (page("403 Forbidden"), {UnexpectedResponse}),
    "200 page": (page("200 OK"), {UnexpectedResponse}),
    "201 page": (page("201 Created"), {UnexpectedResponse}),
    "204": (lambda echo: http("204 No Content", b"", f"X: {echo}"), {UnexpectedResponse}),
    "299": (said("299 @", "{}"), {UnexpectedResponse}),
    "no object": (said("200 OK", '["@"]'), {UnexpectedResponse}),
    "another status": (said("200 OK", '{"status":"@"}'), {UnexpectedResponse}),
    "other types": (said("201 Created", '{"session_id":["@"],"country_code":{"@":"@"},"@":1}'), {UnexpectedResponse}),
    "no such state": (
        said(
            "200 OK",
            '{"status":"ok","user_id":"p","channel":"@","reachable":true,"categories":{"@":"@"},"state":"@","category":"@"}',
        ),
        {UnexpectedResponse},
    ),
    "odd content type": (lambda echo: http("200 OK", b"[]", kind=echo), {UnexpectedResponse}),
    "moved": (moved("https://elsewhere.test/v2?secret_key=@#@"), {UnexpectedResponse}),
    "moved to a path": (moved("/login/@?next=@"), {UnexpectedResponse}),
    "moved to a user": (moved("https://@:@@elsewhere.test/"), {UnexpectedResponse}),
    "moved to a host": (moved("//@.test/x"), {UnexpectedResponse}),
    "moved nowhere": (moved("http://[@"), {UnexpectedResponse}),
    "oversized": (
        lambda echo: http("400 Bad Request", f'{{"errors":{{"x":["{echo * (1 << 17)}"]}}}}'.encode()),
        {UnexpectedResponse},
    ),
    "bad header": (lambda echo: f"HTTP/1.1 200 OK\r\nbad {echo}\r\n\r\n".encode(), {ConnectionLost}),
    "bad status line": (lambda echo: f"{echo}\r\n\r\n".encode(), {ConnectionLost}),
    "bad length": (lambda echo: f"HTTP/1.1 200 OK\r\nContent-Length: {echo}\r\n\r\n".encode(), {ConnectionLost}),
    "bad chunk": (
        lambda echo: f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{echo}\r\n".encode(),
        {ConnectionLost},
    ),
    "half an answer": (lambda echo: http("200 OK", f'{{"status":"{echo}"}}'.encode())[:-3], {ConnectionLost}),
    "no answer": (lambda _: b"", {ConnectionLost}),
}
"""What the server says to a request, and what comes of it."""


class Hostile(ThreadingTCPServer):
    """Answers each request with the same bytes, then closes; `None` says nothing, and an empty list resets.

    A `blunt` one does not wait for the request.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answer: bytes | list[bytes] | None, *, blunt: bool) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.answer = answer
        self.blunt = blunt
        self.over = threading.Event()
        self.came = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Conversation(StreamRequestHandler):
    server: Hostile

    def handle(self) -> None:
        length = 0
        if self.server.blunt:
            self.wfile.write(b"what?\r\n")
            return
        for line in iter(self.rfile.readline, b"\r\n"):
            if not line:
                return
            if line.lower().startswith(b"content-length:"):
                length = int(line[15:])
        self.rfile.read(length)
        self.server.came.set()
        if self.server.answer is None:
            self.server.over.wait(10)
        elif isinstance(self.server.answer, bytes):
            with suppress(OSError):  # the client has read enough
                self.wfile.write(self.server.answer)
        else:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def finish(self) -> None:
        with suppress(OSError):  # the client has gone
            super().finish()


@contextmanager
def hostile(answer: bytes | list[bytes] | None, *, blunt: bool = False) -> Iterator[Hostile]:
    """Run such a server in threads of its own."""
    with Hostile(answer, blunt=blunt) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


@define
class Ear(logging.Handler):
    """Hears all that this thread's side logs and warns of, and keeps what was seen elsewhere."""

    heard: list[str] = field(factory=list)
    public: list[str] = field(factory=list)
    errors: list[BaseException] = field(factory=list)

    def __attrs_pre_init__(self) -> None:
        super().__init__(logging.DEBUG)

    def __hash__(self) -> int:
        return id(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record with all that is in it, exceptions with their locals."""
        if record.threadName != threading.main_thread().name:
            return
        shown = [record.getMessage(), repr(vars(record))]
        if record.exc_info and record.exc_info[1]:
            shown += describe(record.exc_info[1])
        self.heard += shown
        if record.levelno >= logging.INFO:
            self.public += shown[:1]

    def see(self, *things: object) -> None:
        """Keep what somebody sees who prints a thing, or a list of it."""
        self.heard += [text for thing in things for text in (str(thing), repr(thing), repr([thing]), f"{thing}")]

    def catch(self, error: BaseException) -> None:
        """Keep what can be seen of an error, and whatever hangs on it."""
        self.errors.append(error)
        self.heard += describe(error)
        self.public += [str(error)]

    def check(self) -> None:
        """Fail when a piece of a secret was seen, or something of a player's where it should not be."""
        leaks = [text for text in self.heard if any(word in plainly(text) for word in WORDS)]
        assert not leaks, leaks[0]
        private = [text for text in self.public if any(word in text for word in PRIVATE)]
        assert not private, private[0]


def plainly(text: str) -> str:
    """A text without what hides a word in it."""
    if re.search(r"&#|\\\\u00", text):
        text = re.sub(r"\\\\+u(00..)", lambda found: chr(int(found[1], 16)), html.unescape(text))
    return text.lower()


def describe(error: BaseException) -> Iterator[str]:
    """All that a log or an error reporter could show of an error and its chain but the frames of this file."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        assert not type(one).__module__.startswith("aiohttp"), one
        waiting += [other for other in (one.__cause__, one.__context__) if other is not None]
        waiting += [other for other in (*one.args, *vars(one).values()) if isinstance(other, BaseException)]
        frames = one.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
            frames = frames.tb_next
        yield from traceback.TracebackException(type(one), one, frames, capture_locals=True).format()
        yield from (str(one), repr(one), repr(one.args), repr(vars(one)), repr(getattr(one, "__notes__", "")))
        if isinstance(one, TeakError):
            yield from (pickle.dumps(one, protocol).decode("latin-1") for protocol in (0, 5))
            yield from (repr(vars(again)) for again in (copy.copy(one), copy.deepcopy(one)))


@pytest.fixture
def ear() -> Iterator[Ear]:
    """Listens, with every logger at its most talkative, and has all that it heard checked in the end."""
    heard, root = Ear(), logging.getLogger()
    level = root.level
    root.addHandler(heard)
    root.setLevel(logging.DEBUG)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield heard
    root.removeHandler(heard)
    root.setLevel(level)
    heard.see(*(warning.message for warning in warned))
    heard.check()


def listening(work: Awaitable[None]) -> None:
    """Run something on a loop in debug mode, which tells of each of its steps."""

    async def run() -> None:
        asyncio.get_running_loop().slow_callback_duration = 0
        await work

    # Debug mode keeps the stack of each step, and would look on the disk each time whether the source has changed.
    with patch.object(linecache, "checkcache"):
        asyncio.run(run(), debug=True)


def session(secret: str, url: str, **options: Any) -> TeakSession:
    options.setdefault("timeout", Timeout(connect=10, response=10))
    options.setdefault("retry", RetryPolicy(max_attempts=2, max_rate_limited=0, initial_wait=0.001, outage=0))
    return TeakSession("1", secret, base_url=url, limits=Limits(5000, 5000), **options)


def requests() -> list[Request]:
    """One of each kind."""
    return [
        Identify("p1", client_ip=ADDRESS, email=EMAIL),
        GetSubscription("p1"),
        SetSubscription("p1", "opt_out"),
        SetCategorySubscription("p1", "sales", "opt_out"),
        SetEmailSubscription(EMAIL, "opt_out"),
        SetEmailAddress("p1", EMAIL),
        RemovePlayer("p1"),
    ]


async def live(ear: Ear, teak: TeakSession) -> None:
    """Make a call of each kind, and look at whatever is in hand on the way."""
    for request in requests():
        ear.see(encode(endpoint_of(request), request, teak._credentials), Call(request, Lane.LIVE))
        try:
            ear.see(await teak.call(request))
        except TeakError as error:
            ear.catch(error)


async def bulk(ear: Ear, teak: TeakSession, folder: Path) -> None:
    """Make a run of them with a journal, and look into all of that."""
    # One of each bucket, so that a refusal of one does not make another one wait.
    run = teak.bulk([request for request in requests() if not isinstance(request, SetSubscription)], journal=folder / "run.db")
    try:
        async with run:
            async for outcome in run:
                ear.see(outcome)
                if outcome.error is not None:
                    ear.catch(outcome.error)
            read(ear, folder)
    except TeakError as error:
        ear.catch(error)
    read(ear, folder)
    ear.see(run, run.report, teak.rates, *shown_by(teak))


def shown_by(teak: TeakSession) -> list[object]:
    """The parts of a session."""
    return [teak, teak._credentials, teak._transport, teak._transport.begin(), internals(teak).executor, teak.desktop_push]


def read(ear: Ear, folder: Path) -> None:
    """Look into every file."""
    ear.heard += [path.read_bytes().decode("latin-1") for path in folder.iterdir()]


async def failing(ear: Ear, secret: str, url: str, folder: Path, **options: Any) -> None:
    """Make all calls to a server with which something is wrong."""
    async with session(secret, url, **options) as teak:
        await live(ear, teak)
    async with session(secret, url, **options) as teak:
        await bulk(ear, teak, folder)


@pytest.mark.parametrize("name", ANSWERS)
def test_answers(ear: Ear, tmp_path: Path, name: str) -> None:
    """Whatever a server answers, and wherever it puts the secret that it was sent, the secret is not seen again."""
    answer, kinds = ANSWERS[name]
    with hostile(answer(FORMS["plain"](SECRET))) as server:
        listening(failing(ear, SECRET, server.url, tmp_path))
    assert {type(error) for error in ear.errors} - {Outage} == kinds


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["404 game", "another status", "moved to a path"])
def test_forms(ear: Ear, name: str, form: str, secret: str) -> None:
    """The secret is known again in every form in which a server may write it, wherever its words are shown."""

    async def calls() -> None:
        async with session(secret, server.url) as teak:
            with pytest.raises(TeakError) as failed:
                await teak.desktop_push.status("p1")
            ear.catch(failed.value)

    with hostile(ANSWERS[name][0](FORMS[form](secret))) as server:
        listening(calls())


def test_a_success_that_says_it(ear: Ear, tmp_path: Path) -> None:
    """Even an answer that succeeds does not bring the secret into what it becomes, or into a journal."""
    identify = json.dumps(
        {
            "session_id": "@",
            "country_code": "@",
            "deep_link": "@",
            "opt_out_states": {name: {"state": "@"} for name in ("email", "push", "sms", "@")},
        }
    )
    with hostile(said("201 Created", identify)(FORMS["plain"](SECRET))) as server:
        listening(failing(ear, SECRET, server.url, tmp_path))


@pytest.mark.parametrize(
    ("answer", "scheme", "kinds"),
    [
        ([], "http", {ConnectionLost}),
        (None, "http", {TimedOut}),
        (b"", "https", {ConnectFailed}),
        (None, "https", {TimedOut}),
    ],
    ids=["reset", "no answer in time", "TLS to a plain port", "no TLS in time"],
)
@pytest.mark.parametrize("own", [False, True], ids=["our pool", "the caller's"])
def test_connections(ear: Ear, tmp_path: Path, answer: Any, scheme: str, kinds: Kinds, *, own: bool) -> None:
    """However a connection ends, or does not begin, on a pool of ours or of the caller's, nothing tells the secret."""

    async def calls() -> None:
        options: dict[str, Any] = {"timeout": Timeout(connect=0.1, response=0.05)} if kinds == {TimedOut} else {}
        async with aiohttp.ClientSession() as http:
            if own:
                options["http"] = http
            await failing(ear, SECRET, server.url.replace("http", scheme), tmp_path, **options)

    with hostile(answer, blunt=kinds == {ConnectFailed}) as server:
        listening(calls())
    assert {type(error) for error in ear.errors} - {Outage} == kinds


@pytest.mark.parametrize("url", ["http://no-such-host.invalid", "http://127.0.0.1:{port}", "https://127.0.0.1:{port}"])
def test_nobody_there(ear: Ear, tmp_path: Path, url: str) -> None:
    """A name that does not exist and a port where nobody listens are told without the secret."""
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        listening(failing(ear, SECRET, url.format(port=gone.getsockname()[1]), tmp_path))
    assert {type(error) for error in ear.errors} - {Outage} == {ConnectFailed}


def test_a_certificate_that_nobody_vouches_for(ear: Ear, tmp_path: Path) -> None:
    """An error of TLS has nothing of the secret."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)

    async def calls() -> None:
        async with await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0, ssl=tls) as server:
            await failing(ear, SECRET, f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", tmp_path)

    listening(calls())
    assert {type(error) for error in ear.errors} == {CertificateError}


def test_never_sent(ear: Ear, tmp_path: Path) -> None:
    """Errors that are found on this side have nothing of the secret, and do not say a player's address or email back."""

    async def calls() -> None:
        teak = session(SECRET, server.url)
        await live(ear, teak)  # not opened yet
        async with teak:
            for deadline in (0.0, -1.0):
                with pytest.raises(DeadlinePassed) as passed:
                    await teak.identify("p1", country_code="US", deadline=deadline)
                ear.catch(passed.value)
            wrongs: list[dict[str, Any]] = [
                {"client_ip": f"{ADDRESS}:4711"},
                {"client_ip": f"{ADDRESS}, 10.0.0.1"},
                {"country_code": EMAIL},
                {"client_ip": EMAIL},
                {"client_ip": ADDRESS, "email": " "},
            ]
            for wrong in wrongs:
                with pytest.raises(InvalidRequest) as invalid:
                    await teak.identify("p1", **wrong)
                ear.catch(invalid.value)
            (tmp_path / "none.db").write_text("no journal")
            for path in (tmp_path, tmp_path / "none.db", tmp_path / "no" / "run.db"):
                with pytest.raises(JournalError) as unusable:
                    await teak.bulk(requests(), journal=path)
                ear.catch(unusable.value)
        await live(ear, teak)  # closed
        await bulk(ear, teak, tmp_path)
        ear.see(*shown_by(teak))

    with hostile(b"") as server:
        listening(calls())
    assert {type(error) for error in ear.errors} == {SessionClosed, DeadlinePassed, InvalidRequest, JournalError}
    assert not server.came.is_set()


@pytest.mark.parametrize("answer", [None, []], ids=["on the wire", "between two tries"])
@pytest.mark.parametrize("closing", [False, True], ids=["cancelled", "closed meanwhile"])
def test_left(ear: Ear, tmp_path: Path, answer: Any, *, closing: bool) -> None:
    """A call that is cancelled, or whose session is closed meanwhile, leaves no trace of the secret."""

    async def calls() -> None:
        teak = session(SECRET, server.url, retry=RetryPolicy(initial_wait=0.5), timeout=Timeout(connect=1, response=0.2))
        async with teak:
            tasks = [asyncio.create_task(teak.call(request)) for request in requests()]
            while not server.came.is_set():
                await asyncio.sleep(0.001)
            ear.see(*tasks, *asyncio.all_tasks(), *internals(teak).executor.under_way)
            if not closing:
                for task in tasks:
                    task.cancel()
                for ended in await asyncio.gather(*tasks, return_exceptions=True):
                    ear.catch(ended)  # type: ignore[arg-type] # none of them succeeds
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            ear.catch(ended)  # type: ignore[arg-type] # as above
        ear.see(*tasks)

    with hostile(answer) as server:
        listening(calls())


def test_submitted(ear: Ear) -> None:
    """A call that nobody waited for tells its failure without the secret, in the log and in what the session left."""

    async def calls() -> None:
        teak = session(SECRET, server.url, backlog=len(requests()), drain_timeout=0.05)
        async with teak:
            for request in requests():
                teak.submit(request)
            with pytest.raises(BacklogFull) as full:
                teak.submit(requests()[0])
            ear.catch(full.value)
            while teak._backlog.busy:
                await asyncio.sleep(0.01)
            gc.collect()
            for request in requests():
                teak.submit(request)
        ear.see(teak.undelivered)
        for _, error in teak.undelivered:
            ear.catch(error)
        gc.collect()

    with hostile(ANSWERS["moved to a path"][0](FORMS["percent"](SECRET))) as server:
        listening(calls())
    assert BacklogFull in {type(error) for error in ear.errors}


def test_a_session_that_cannot_be_made(ear: Ear) -> None:
    """An error of making a session does not have the secret among the variables of its frames either."""
    makers: list[Callable[[], object]] = [
        lambda: TeakSession("1", SECRET, base_url="nowhere"),
        lambda: TeakSession("", SECRET),
        lambda: TeakSession("1", SECRET.encode()),  # type: ignore[arg-type] # that is what is wrong
        lambda: TeakSession("1", f"{SECRET}\udcff"),
    ]
    for make in makers:
        with pytest.raises((ValueError, TypeError), match=r"base_url|TEAK_|must be text") as failed:
            make()
        ear.catch(failed.value)


def test_no_option_takes_the_secret() -> None:
    """The key is read from the environment only: arguments are seen by every user of a machine, and by its shell's history."""
    root: Any = typer.main.get_command(app)
    for name, command in root.commands.items():
        files = {"client_key"}  # a name is no secret
        words = [
            word for parameter in command.params if parameter.name not in files for word in (parameter.name, *parameter.opts)
        ]
        assert not [word for word in words if re.search("secret|key|password|token|credential", word)], name


def test_every_kind_of_error_was_made_to_happen() -> None:
    """The tests above make every error of the package happen."""
    made = set[type[TeakError]]().union(*(kinds for _, kinds in ANSWERS.values()))
    made |= {BacklogFull, CertificateError, ConnectFailed, TimedOut, SessionClosed, DeadlinePassed, JournalError, Outage}
    made |= {errors.LedgerError, errors.LedgerUnavailable}  # in the tests of a fleet; they know nothing of the secret
    every = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TeakError)}
    assert every - made == {TeakError, TransportError}


CRASH = (
    "import teak_async._bulk.outcomes as outcomes, teak_async._cli.app as cli;"
    " outcomes.Outcome.as_dict = lambda _: 1 / 0; cli.run()"
)


@pytest.mark.parametrize(
    ("command", "asked"),
    pairs([("-m", "teak_async"), ("-c", CRASH)], [("identify", "400"), ("status", "moved"), ("status", "403")]),
)
def test_commands(ear: Ear, tmp_path: Path, asked: tuple[str, str], command: tuple[str, ...]) -> None:
    """Neither a command's output nor its results nor its journal have the secret, not even in debug mode, not in a crash."""
    call, name = asked
    source = tmp_path / "in.csv"
    source.write_text(f"user_id,client_ip,email\np1,{ADDRESS},{EMAIL}\n" if call == "identify" else "user_id\np1\n")
    kept = {variable: value for variable, value in os.environ.items() if not variable.startswith(("TEAK_", "PYTHONUNBUFF"))}
    with hostile(ANSWERS[name][0](FORMS["percent"](SECRET))) as server:
        ran = subprocess.run(
            [sys.executable, "-X", "dev", *command, call, source, "--journal", "run.db", "--output", "out.jsonl"],
            env=kept | {"TEAK_BASE_URL": server.url, "TEAK_GAME_ID": "1", "TEAK_SECRET_KEY": SECRET, "PYTHONPATH": ROOT},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode in (1, 2, 3)
    assert ("ZeroDivisionError" in ran.stderr) is (command[0] == "-c" and name != "403")
    ear.see(ran.stdout, ran.stderr)
    ear.public += [ran.stderr]
    read(ear, tmp_path)
