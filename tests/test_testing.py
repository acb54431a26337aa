"""The pytest plugin, as this suite's own plugin and in suites of strangers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from support import ROOT
from typer.testing import CliRunner

from teak_async import (
    ConnectionLost,
    Delivery,
    Identify,
    Limits,
    PlayerNotFound,
    RateLimited,
    RetryPolicy,
    ServerError,
    SessionClosed,
    TeakError,
    TeakSession,
    TimedOut,
    Timeout,
    UnexpectedResponse,
)
from teak_async._cli.app import app
from teak_async.sandbox import IDENTIFY, Fault, Faults
from teak_async.testing import QUICK, SandboxSession, TeakSandbox

NEWCOMER = """
async def test_arrival(teak_session, teak_sandbox):
    player = await teak_session.identify("p1", country_code="US")
    assert player.session_id == "1"
    assert teak_sandbox.players["p1"].sessions == 1

async def test_lost(teak_session, teak_sandbox):
    teak_sandbox.fail_next("identify", "response_lost")
    with pytest.raises(TeakError) as lost:
        await teak_session.identify("p1", country_code="US")
    assert lost.value.delivery == "unknown"
    assert teak_sandbox.players["p1"].sessions == 1

async def test_context(teak_session, teak_sandbox):
    async with teak_session as teak:
        await teak.bulk([Identify(f"p{number}", country_code="US") for number in range(9)])
    assert len(teak_sandbox.players) == 9

def test_synchronous(teak_session, teak_sandbox):
    asyncio.run(teak_session.identify("p1", country_code="US"))
    assert teak_sandbox.players["p1"].sessions == 1

def test_of_ones_own_code(teak_sandbox):
    async def code():
        async with TeakSession() as teak:
            return await teak.identify("p1", country_code="US")
    assert asyncio.run(code()).session_id == "1"

def test_unused(teak_session):
    assert teak_session.rates == {}

def test_afterwards():
    assert not [name for name in os.environ if name.startswith("TEAK_")]
"""
HEAD = """
import asyncio, os
import pytest
from teak_async import Identify, TeakError, TeakSession
"""
ANYIO = """
pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""
RUNS = """
def run(made):
    return functools.wraps(made)(lambda **fixtures: asyncio.run(made(**fixtures)))

globals().update({name: run(made) for name, made in globals().items() if asyncio.iscoroutinefunction(made)})
"""
FIXTURES, TESTS = "asyncio_default_fixture_loop_scope", "asyncio_default_test_loop_scope"
STOPWATCH = """
import time
import pytest

took = []

@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef):
    began = time.perf_counter()
    try:
        return (yield)
    finally:
        if fixturedef.argname == "teak_sandbox":
            took.append(time.perf_counter() - began)

def pytest_terminal_summary(terminalreporter):
    first, *later = took
    terminalreporter.write_line(f"ready: {first * 1000:.1f} {sorted(later)[len(later) // 2] * 1000:.1f}")
"""


@pytest.fixture
def stranger(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A suite elsewhere that loads no plugin by itself, and finds this package whether it is installed or not."""
    for variable in [variable for variable in os.environ if variable.startswith(("TEAK_", "PYTEST_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return pytester


@pytest.mark.parametrize(
    ("source", "options"),
    [
        (HEAD + NEWCOMER, ("-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=auto", f"-o{FIXTURES}=function")),
        (
            HEAD + NEWCOMER,
            ("-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=auto", f"-o{FIXTURES}=session", f"-o{TESTS}=session"),
        ),
        (HEAD + ANYIO + NEWCOMER, ("-p", "anyio")),
        ("import functools" + HEAD + NEWCOMER + RUNS, ()),
    ],
    ids=["pytest-asyncio", "pytest-asyncio, one loop", "anyio", "pytest only"],
)
def test_in_any_suite(stranger: pytest.Pytester, source: str, options: tuple[str, ...]) -> None:
    """A newcomer's few lines pass under any plugin for asynchronous tests or none, each on a new server, warning of nothing."""
    stranger.makepyfile(source)
    stranger.makeconftest('pytest_plugins = ["teak_async.testing"]')
    ran = stranger.runpytest_subprocess("-W", "error", "-p", "teak_async.testing", "-p", "no:cacheprovider", *options)
    ran.assert_outcomes(passed=7)
    assert ran.stderr.lines == []


ELSEWHERE = """
import pytest
from teak_async import Identify, PlayerNotFound

pytestmark = pytest.mark.anyio
PLAYER = Identify("p1", country_code="US")

async def test_identify(teak_session):
    await teak_session.identify("p1", country_code="US")

async def test_deadline(teak_session):
    await teak_session.call(PLAYER, deadline=2)

async def test_submit(teak_session):
    teak_session.submit(PLAYER, deadline=2)

async def test_subscription(teak_session):
    with pytest.raises(PlayerNotFound):
        await teak_session.desktop_push.opt_out("p1", deadline=2)

async def test_bulk(teak_session):
    await teak_session.bulk([PLAYER])

async def test_bulk_deadline(teak_session):
    await teak_session.bulk([PLAYER], deadline=2)

async def test_bulk_as_stream(teak_session):
    async with teak_session.bulk([PLAYER]) as run:
        assert [outcome.index async for outcome in run] == [0]

async def test_context(teak_session):
    async with teak_session:
        pass

async def test_open(teak_session):
    await teak_session.open()
"""


def test_where_anyio_runs_each_test_on_trio_too(stranger: pytest.Pytester) -> None:
    """Each use of the session on trio says what to set; on asyncio, the same tests pass, and with it set, all do."""
    pytest.importorskip("trio")
    stranger.makepyfile(ELSEWHERE)
    options = ("-p", "teak_async.testing", "-p", "no:cacheprovider", "-p", "anyio")
    ran = stranger.runpytest_subprocess(*options)
    ran.assert_outcomes(passed=9, failed=9)
    said = re.findall(r"^E +RuntimeError: (.*)", ran.stdout.str(), re.MULTILINE)
    assert len(said) == 9
    for message in said:
        assert 'def anyio_backend(): return "asyncio"' in message
    stranger.makeconftest('import pytest\n@pytest.fixture\ndef anyio_backend(): return "asyncio"')
    stranger.runpytest_subprocess(*options).assert_outcomes(passed=9)


def test_it_ends_in_silence(stranger: pytest.Pytester) -> None:
    """Nothing complains at the end of a suite about requests that the server was at when their clients gave up."""
    stranger.makepyfile(
        HEAD
        + """
def test_given_up(teak_session, teak_sandbox):
    teak_sandbox.fail_next("identify", "stall")
    with pytest.raises(TeakError):
        asyncio.run(teak_session.identify("p1", country_code="US", deadline=0.3))
"""
    )
    ran = stranger.runpytest_subprocess("-p", "teak_async.testing", "-p", "no:cacheprovider")
    ran.assert_outcomes(passed=1)
    assert ran.stderr.lines == []


@pytest.mark.parametrize(
    "use",
    [
        lambda teak: teak.identify("p1", country_code="US").send(None),
        lambda teak: teak.call(Identify("p1", country_code="US"), deadline=2).send(None),
        lambda teak: teak.submit(Identify("p1", country_code="US"), deadline=2),
        lambda teak: teak.desktop_push.status("p1").send(None),
        lambda teak: teak.bulk([], deadline=2),
        lambda teak: teak.open().send(None),
        lambda teak: teak.close().send(None),
    ],
)
def test_without_a_loop_of_asyncio(teak_session: SandboxSession, use: Callable[[SandboxSession], object]) -> None:
    """Where another library runs the code, each use says what to set."""
    with pytest.raises(RuntimeError, match=r"needs asyncio.*anyio_backend"):
        use(teak_session)


def test_it_is_ready_at_once(stranger: pytest.Pytester) -> None:
    """A server is there in an instant: no test notices it, not even the first one, for which it is loaded."""
    stranger.makepyfile("import pytest\n@pytest.mark.parametrize('n', range(9))\ndef test_n(n, teak_sandbox): pass\n")
    stranger.makeconftest(STOPWATCH)
    ran = stranger.runpytest_subprocess("-p", "teak_async.testing", "-p", "no:cacheprovider")
    first, later = map(float, re.findall("ready: (.*) (.*)", ran.stdout.str())[0])
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import aiohttp.web"], check=True)
    imported = (time.perf_counter() - began) * 1000
    print(f"ready after {first} ms, and later after {later} ms; what it is loaded with alone takes {imported:.0f} ms")
    assert first < 2 * imported
    assert later < imported


def test_it_is_registered() -> None:
    """Installing the package installs the plugin, by the name by which it can be asked for without being installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"teak_async.testing": "teak_async.testing"}


@pytest.mark.parametrize(
    ("fault", "kind", "delivery", "sessions"),
    [
        ("reset", ConnectionLost, Delivery.UNKNOWN, 0),
        ("response_lost", ConnectionLost, Delivery.UNKNOWN, 1),
        ("error_before", ServerError, Delivery.UNKNOWN, 0),
        ("error_after", ServerError, Delivery.UNKNOWN, 1),
        ("not_json", UnexpectedResponse, Delivery.UNKNOWN, 1),
        ("stall", TimedOut, Delivery.UNKNOWN, 1),
        ("rate_limited", RateLimited, Delivery.REJECTED, 0),
    ],
)
async def test_every_fault_is_a_line(
    teak_sandbox: TeakSandbox, fault: Fault, kind: type[TeakError], delivery: Delivery, sessions: int
) -> None:
    """What is to go wrong next is said in a line, and what became of it at the server is seen in another."""
    teak_sandbox.fail_next("identify", fault)
    teak = teak_sandbox.session(retry=RetryPolicy(max_rate_limited=0), timeout=Timeout(connect=2, response=0.2))
    with pytest.raises(kind) as failed:
        await teak.identify("p1", country_code="US")
    assert failed.value.delivery is delivery
    assert sum(player.sessions for player in teak_sandbox.players.values()) == sessions
    assert [received.fault for received in teak_sandbox.requests] == [fault]


async def test_shares_of_faults_and_limits(teak_sandbox: TeakSandbox) -> None:
    """A server that has time for all can be made strict, or bad, in the middle of a test."""
    teak = teak_sandbox.session(retry=RetryPolicy(max_attempts=1, max_rate_limited=0))
    with pytest.raises(ValueError, match="window must be one of"):
        teak_sandbox.set_limits(window="hopping")
    teak_sandbox.set_limits(window="sliding", identify=1)
    await teak.identify("p1", country_code="US")
    with pytest.raises(RateLimited):
        await teak.identify("p1", country_code="US")
    teak_sandbox.add_player("p2")
    teak_sandbox.set_faults(Faults(error_before=1.0))
    with pytest.raises(ServerError):
        await teak.desktop_push.status("p2")
    assert {name: (seen.requests, seen.rate_limited) for name, seen in teak_sandbox.seen.items() if seen.requests} == {
        "identify": (2, 1),
        "desktop_push_status": (1, 0),
    }


async def test_players(teak_session: SandboxSession, teak_sandbox: TeakSandbox) -> None:
    """Players can be there before the test, and are seen as they are after it."""
    with pytest.raises(PlayerNotFound):
        await teak_session.desktop_push.status("p1")
    teak_sandbox.add_player("p1", state="opt_out", categories={"sales": "opt_out"})
    status = await teak_session.desktop_push.status("p1")
    assert (status.state, status.categories) == ("opt_out", {"sales": "opt_out", "events": "opt_in"})
    await teak_session.desktop_push.opt_in("p1", "sales")
    assert teak_sandbox.players["p1"].categories["sales"] == "opt_in"


async def test_requests(teak_session: SandboxSession, teak_sandbox: TeakSandbox) -> None:
    """What one's code sent is there to be looked at, without the credentials; what was given out does not change."""
    await teak_session.identify("p1", country_code="us", timezone_id="Europe/Paris", email="p1@example.com")
    received = teak_sandbox.requests
    await teak_session.identify("p2", country_code="US")
    [first] = received
    assert (first.path, first.status, first.done) == (IDENTIFY, 201, True)
    parameters = {"user_id": "p1", "country_code": "US", "timezone_id": "Europe/Paris", "email": "p1@example.com"}
    assert first.parameters == parameters
    assert len(teak_sandbox.requests) == 2


async def test_a_submitted_call_may_be_the_first(teak_session: SandboxSession, teak_sandbox: TeakSandbox) -> None:
    """The session opens itself for a call that nobody awaits, too."""
    teak_session.submit(Identify("p1", country_code="US"))
    await teak_session.close()
    assert teak_sandbox.players["p1"].sessions == 1


async def test_fast_by_default(teak_session: SandboxSession, teak_sandbox: TeakSandbox) -> None:
    """Neither side of the default pair holds a test up; a session that keeps to Teak's limits is a line."""
    report = await teak_session.bulk(Identify(f"p{number}", country_code="US") for number in range(600))
    assert (report.succeeded, teak_sandbox.seen["identify"].rate_limited) == (600, 0)
    assert teak_session.limits == QUICK
    assert teak_sandbox.session(limits=Limits()).limits == Limits(200, 300)


def test_the_environment_is_the_servers(teak_sandbox: TeakSandbox, tmp_path: Path) -> None:
    """Code that makes its own session goes to the test's server, and so does the command line."""
    assert TeakSession().game_id == teak_sandbox.game_id
    source = tmp_path / "players.csv"
    source.write_text("user_id,country_code\np1,US\n")
    ran = CliRunner().invoke(app, ["identify", str(source), "--quiet"])
    assert json.loads(ran.stdout)["response"]["session_id"] == "1"
    assert teak_sandbox.players["p1"].sessions == 1


def test_a_session_stays_on_its_loop(teak_session: SandboxSession) -> None:
    """A session whose loop has ended is closed, and says what to do when it is used on another one."""
    asyncio.run(teak_session.identify("p1", country_code="US"))
    with pytest.raises(SessionClosed, match="let a test make all of its calls on one") as closed:
        asyncio.run(teak_session.identify("p1", country_code="US"))
    assert closed.value.delivery is Delivery.NOT_SENT


async def test_a_closed_session_stays_closed(teak_session: SandboxSession) -> None:
    """It opens itself once; closed by the test it says so."""
    async with teak_session:
        pass
    with pytest.raises(SessionClosed, match="the session is closed"):
        await teak_session.identify("p1", country_code="US")


def test_the_end_of_the_test_closes_sessions_on_a_loop_at_rest(teak_sandbox: TeakSandbox) -> None:
    """A loop that is still open, as those of async plugins are, is used once more to close the session."""
    loop = asyncio.new_event_loop()
    session = teak_sandbox.session()
    loop.run_until_complete(session.identify("p1", country_code="US"))
    teak_sandbox.close()
    with pytest.raises(SessionClosed, match="the session is closed"):
        loop.run_until_complete(session.identify("p1", country_code="US"))
    loop.close()


def test_the_end_of_the_test_closes_sessions_on_a_running_loop(teak_sandbox: TeakSandbox) -> None:
    """A loop that runs in another thread closes the session there."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    session = teak_sandbox.session()
    asyncio.run_coroutine_threadsafe(session.identify("p1", country_code="US"), loop).result(10)
    teak_sandbox.close()
    again = asyncio.run_coroutine_threadsafe(session.identify("p1", country_code="US"), loop)
    with pytest.raises(SessionClosed, match="the session is closed"):
        again.result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_from_many_threads(teak_sandbox: TeakSandbox) -> None:
    """A test may look at its server from anywhere while it works; nothing is ever half done."""

    async def calls() -> None:
        async with TeakSession(limits=Limits(5000, 5000)) as teak:
            await teak.bulk(Identify(f"p{number}", country_code="US") for number in range(200))

    threads = [threading.Thread(target=lambda: asyncio.run(calls())) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert len(teak_sandbox.requests) <= teak_sandbox.seen["identify"].requests
        assert all(player.sessions <= 2 for player in teak_sandbox.players.values())
    assert [player.sessions for player in teak_sandbox.players.values()] == [2] * 200


def test_repr(teak_sandbox: TeakSandbox) -> None:
    """A server in a failed assertion is its address."""
    assert repr(teak_sandbox) == f"<TeakSandbox {teak_sandbox.url}>"
