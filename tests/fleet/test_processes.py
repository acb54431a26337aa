"""Real processes, a strict sliding server, both ledgers, and the faults of each.

What is judged here holds on a machine that is busy, too: nothing is rate-limited, everybody gets something, and nobody waits
for ever. How much it is, and how soon, is judged in virtual time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from forked import FORKS, context
from support import MANY, ROOT, WAIT, session_on

from benchmarks import members, processes
from benchmarks.fleet import NETWORK, busiest
from benchmarks.members import Done, Member, Valkey, Work
from benchmarks.processes import Setting, served
from teak_async import Identify, Limits
from teak_async._fleet.ledger import LEASE
from teak_async._fleet.member import ledger_at
from teak_async.errors import LedgerUnavailable
from teak_async.sandbox import IDENTIFY, Sandbox

LIMIT = 60
BULK = Work(bulk=True, limit=LIMIT, response=1.0)
LIVE = Work(live=5, limit=LIMIT, response=1.0)
# Leases run out in real time, and a plain run of all tests has two minutes; .ci/run sets CI. Emptied
# ledgers are judged in virtual time by test_shares, stalled members by test_judge, in every run.
many = pytest.mark.skipif(not MANY, reason="leases run out in real time: set CI=1")
one_of_two = pytest.mark.parametrize("address", ["sqlite", "valkey"] if MANY else ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def _forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no process begin by importing what another one has."""
    if FORKS:
        for module in (members, processes):
            monkeypatch.setattr(module, "multiprocessing", SimpleNamespace(get_context=lambda _: context()))


class Fleet:
    """Members at one server and one ledger, ended together."""

    def __init__(self, url: str, share: str) -> None:
        self._url = url
        self._share = share
        self._members: list[Member] = []

    def start(self, *works: Work) -> list[Member]:
        """Start members, and wait until each has had a permit."""
        members = [Member(self._url, self._share, work) for work in works]
        self._members += members
        for member in members:
            member.wait_until_open()
        for member in members:
            member.wait_for("works")
        return members

    def kill(self, member: Member) -> None:
        self._members.remove(member)
        member.kill()

    def kill_all(self) -> None:
        for member in self._members:
            member.kill()

    def leave(self, member: Member) -> Done:
        self._members.remove(member)
        return member.stop()

    def end(self) -> list[Done]:
        """Have all leave; none of their calls failed for want of a permit."""
        for member in self._members:
            member.ask_to_stop()
        done = [member.done() for member in self._members]
        self._members.clear()
        assert not any("LedgerUnavailable" in one.errors for one in done)
        return done


@contextmanager
def fleet_at(share: str) -> Iterator[Fleet]:
    """Run a fleet; at the end nothing was rate-limited."""
    with served(Setting(NETWORK, LIMIT, "sliding")) as server:
        fleet = Fleet(server.url, share)
        try:
            yield fleet
            fleet.end()
        except BaseException:
            fleet.kill_all()
            raise
    assert (server.seen.rate_limited, busiest(server.seen.stamps) <= LIMIT) == (0, True)


@one_of_two
def test_members_come_and_go_within_one_limit(address: str) -> None:
    """Properly, and by a kill."""
    with fleet_at(address) as fleet:
        first, second, _ = fleet.start(BULK, BULK, LIVE)
        fleet.kill(first)
        fleet.start(BULK, LIVE)
        assert fleet.leave(second).ended


def held(share: str) -> list[int]:
    """Read what the members hold, from the ledger."""

    async def read() -> list[int]:
        ledger = ledger_at(share)
        await ledger.open()
        try:
            (state,) = [state for key, state in (await ledger.read()).items() if key.endswith(IDENTIFY)]
        finally:
            await ledger.close()
        return [member["held"] for member in state["members"].values()]

    return asyncio.run(read())


@one_of_two
def test_a_resumed_run_takes_over_from_the_killed_one(address: str, tmp_path: Path) -> None:
    """The journal says who it was; without that it would have its half only, for the lease and the longest response."""
    work = Work(bulk=True, limit=LIMIT, response=WAIT, journal=tmp_path / "run.db")
    with fleet_at(address) as fleet:
        (victim,) = fleet.start(work)
        fleet.kill(victim)
        fleet.start(work)
        resumed = time.monotonic()
        while (holds := held(address)) != [max(holds)] or holds[0] < 0.9 * LIMIT:
            assert time.monotonic() < resumed + LEASE / 1000 + WAIT
            time.sleep(0.1)


@contextmanager
def away(server: Valkey) -> Iterator[None]:
    server.kill()
    yield
    server.start()


@contextmanager
def stopped(server: Valkey) -> Iterator[None]:
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    yield
    server.process.send_signal(signal.SIGCONT)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=WAIT)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def read_for_long(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=WAIT)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM bucket").fetchall()
        yield


def outlive(share: str, fault: AbstractContextManager[None]) -> None:
    """Lose the ledger for a time: all who hold permits make calls with them, and get back to it."""
    with fleet_at(share) as fleet:
        members = fleet.start(BULK, BULK, LIVE)
        with fault:
            for member in members:
                member.wait_for("lost")
            lost = time.monotonic()
            time.sleep(10 if MANY else 1.5)
            found = time.monotonic()
        for member in members:
            member.wait_for("regained")
        fleet.start(LIVE)
        assert all(done.count(lost, found) for done in fleet.end()[:2])


@pytest.mark.parametrize("fault", [away, stopped] if MANY else [stopped])
def test_nothing_stops_while_a_server_is_away(fault: Callable[[Valkey], AbstractContextManager[None]], valkey: Valkey) -> None:
    """Members go on with what they hold, and tell who is new what that is."""
    outlive(valkey.address, fault(valkey))


@pytest.mark.parametrize("fault", [locked, read_for_long] if MANY else [locked])
def test_nothing_stops_while_a_file_is_out_of_use(
    fault: Callable[[Path], AbstractContextManager[None]], tmp_path: Path
) -> None:
    """As a server that is away."""
    outlive(str(tmp_path / "ledger.db"), fault(tmp_path / "ledger.db"))


@many
def test_a_ledger_that_was_emptied_hears_of_all(address: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A flushed server and a deleted file are new ledgers, and grant nothing until they know what is held."""
    with fleet_at(address) as fleet:
        fleet.start(BULK, BULK, LIVE)
        if address.startswith("redis"):
            import redis  # noqa: PLC0415 - in the test group

            with closing(redis.Redis.from_url(address)) as client:
                client.flushall()
        else:
            Path(address).unlink()
        time.sleep(3)
        fleet.start(BULK, LIVE)


@many
def test_a_stalled_member_goes_on_with_what_is_left_to_it(address: str) -> None:
    """A process that was stopped as a whole does not use what others have by now."""
    with fleet_at(address) as fleet:
        victim, *_ = fleet.start(BULK, LIVE)
        fleet.start(BULK)
        victim.kill(signal.SIGSTOP)
        time.sleep(LEASE / 1000 + 2 + 3)
        victim.kill(signal.SIGCONT)
        time.sleep(3)
        assert all(done.ended for done in fleet.end())


async def test_a_call_without_a_permit_fails_while_the_ledger_is_away(valkey: Valkey) -> None:
    """It is told that it was not sent, two seconds after the ledger was lost, and does not wait for ever."""
    async with Sandbox() as server:
        sessions = [session_on(server, limits=Limits(identify=3), share=valkey.address) for _ in range(3)]
        for session in sessions:
            await session.open()
        await sessions[0].bulk(Identify(f"p{number}", country_code="US") for number in range(3))
        valkey.kill()
        async with asyncio.timeout(WAIT):
            ended = await asyncio.gather(
                *(session.identify("p", country_code="US") for session in sessions), return_exceptions=True
            )
        failed = [error for error in ended if isinstance(error, BaseException)]
        assert failed
        assert all(isinstance(error, LedgerUnavailable) and error.delivery == "not_sent" for error in failed)
        assert not any(session.rates[IDENTIFY].reached for session in sessions)
        for session in sessions:
            await session.close()
    assert server.seen[IDENTIFY].rate_limited == 0


@one_of_two
async def test_forked_children_are_members_of_their_own(address: str) -> None:
    """The parent's session is an error in a child; a session that the child opens is a new member."""
    program = """
import asyncio, os
from teak_async import Identify, Limits, SessionClosed, TeakSession

async def parent():
    teak = await TeakSession(limits=Limits(identify=80)).open()
    await asyncio.sleep(1.2)
    for _ in range(8):
        if not os.fork():
            return teak
    await teak.bulk(Identify(f"p{number}", country_code="US") for number in range(20))
    await teak.close()
    for _ in range(8):
        assert os.wait()[1] == 0

async def child(teak):
    try:
        await teak.identify("p", country_code="US")
    except SessionClosed:
        pass
    else:
        os._exit(3)
    async with TeakSession(limits=Limits(identify=80)) as own:
        await own.bulk(Identify(f"p{number}", country_code="US") for number in range(20))
    os._exit(0)

runner = asyncio.Runner()
teak = runner.run(parent())
if teak is not None:
    asyncio.set_event_loop(loop := asyncio.new_event_loop())
    loop.run_until_complete(child(teak))
"""
    async with Sandbox(identify=80) as server:
        names = {"TEAK_BASE_URL": server.url, "TEAK_GAME_ID": server.game_id, "TEAK_SECRET_KEY": server.secret_key}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program), env=os.environ | names | {"TEAK_SHARE": address}, cwd=ROOT, stderr=subprocess.PIPE
        )
        _, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    seen = server.seen[IDENTIFY]
    assert (seen.requests, seen.rate_limited) == (180, 0)


def run_on_disk(kind: str, folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program with a small disk of its own mounted at a folder, or as it is."""
    command = [sys.executable, "-c", program, str(folder), kind]
    if kind == "full disk":
        mount = 'mount -t tmpfs -o size=64k none "$1" && shift && exec "$@"'
        command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(folder), *command]
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 1)


@pytest.mark.parametrize(("kind", "remedy"), [("full disk", "its disk is full: make room"), ("largest file", "at a limit")])
def test_nothing_stops_while_there_is_no_room(kind: str, remedy: str, tmp_path: Path) -> None:
    """One warning names the remedy; bulk work and live calls go on, and when there is room the ledger is back."""
    program = """
import asyncio, logging, resource, sys
from pathlib import Path
from teak_async import Identify, TeakSession
from teak_async.events import LedgerLost, LedgerRegained
from teak_async.sandbox import Sandbox

disk, told = Path(sys.argv[1]), {LedgerLost: asyncio.Event(), LedgerRegained: asyncio.Event()}

def hear(event):
    if type(event) in told:
        told[type(event)].set()
        print(type(event).__name__, getattr(event, "reason", ""))

def leave_room(bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, resource.RLIM_INFINITY))

def fill():
    if sys.argv[2] == "largest file":
        return leave_room(4096)
    with (disk / "other").open("wb", buffering=0) as other:
        try:
            while other.write(b"x" * 512):
                pass
        except OSError:
            pass

async def main():
    async with Sandbox() as server:
        names = {"base_url": server.url, "game_id": server.game_id, "secret_key": server.secret_key}
        async with TeakSession(**names, share=disk / "ledger.db", on_event=hear) as teak:
            await teak.bulk(Identify(f"a{number}", country_code="US") for number in range(250))
            fill()
            report = await teak.bulk(Identify(f"b{number}", country_code="US") for number in range(250))
            await teak.identify("c", country_code="US")
            await told[LedgerLost].wait()
            (disk / "other").unlink(missing_ok=True)
            leave_room(resource.RLIM_INFINITY)
            await told[LedgerRegained].wait()
            print(report.succeeded, server.summary()["paths"]["/v2/identify"]["rate_limited"])

logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout, level=logging.WARNING)
asyncio.run(asyncio.wait_for(main(), 60))
"""
    if run_on_disk(kind, tmp_path, "").returncode:
        pytest.skip("it mounts a small disk, which this user may not")
    ended = run_on_disk(kind, tmp_path, program)
    assert ended.returncode == 0, ended.stderr
    said = ended.stdout.splitlines()
    assert sorted(line.split()[0] for line in said) == ["250", "LedgerLost", "LedgerRegained", "WARNING"], ended.stdout
    assert all(remedy in line for line in said[:2])
    assert said[-1] == "250 0"
