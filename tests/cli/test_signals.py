"""Signals at processes of their own, and results that nobody reads."""

from __future__ import annotations

import asyncio
import os
import pty
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from forked import command, sandbox_process
from support import MANY, ROOT, WAIT, Ended, fast_sandbox, pairs, players_csv, rows_of

from benchmarks.kill import players_at
from teak_async._cli.signals import SignalListener
from teak_async.sandbox import GAME_ID, IDENTIFY, SECRET_KEY, Faults, Sandbox

MOMENTS = 50 if MANY else 2
"""Signals at one backfill; many only in CI, since each costs a second."""
UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SOME_SIGNALS = SIGNALS if MANY else SIGNALS[:1]
AT_ONCE = 5.0
"""Seconds in which a busy machine ends a process that nothing holds; what these commands wait for never comes."""
NOWHERE = "http://127.0.0.1:9"
COMMAND = (sys.executable, "-m", "teak_async")


def may_unshare() -> bool:
    """Whether a command can be run as PID 1 here."""
    if shutil.which("unshare") is None or not Path("/proc/self/status").exists():
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


def environment(url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TEAK_", "PYTHONUNBUFFERED"))}
    return kept | {"TEAK_BASE_URL": url, "TEAK_GAME_ID": GAME_ID, "TEAK_SECRET_KEY": SECRET_KEY}


@asynccontextmanager
async def started(
    url: str, *arguments: object, before: tuple[str, ...] = (), stdin: int = PIPE, stdout: int = PIPE, stderr: int = PIPE
) -> AsyncIterator[Process]:
    """Start a command as a process of its own, and see to it that it does not outlive the test."""
    begun = command(*map(str, arguments), env=environment(url), before=before, stdin=stdin, stdout=stdout, stderr=stderr)
    async with begun as process:
        yield process


async def finish(process: Process, seconds: float = WAIT) -> Ended:
    """Wait for a process to end, with its input open."""
    reads = [stream.read() if stream is not None else asyncio.sleep(0, b"") for stream in (process.stdout, process.stderr)]
    out, err = await asyncio.wait_for(asyncio.gather(*reads), seconds)
    code = await asyncio.wait_for(process.wait(), WAIT)
    return Ended(code, out.decode(), err.decode())


def hears(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii")
    except OSError:
        return False
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


async def listening(pid: int) -> None:
    """Wait until a process hears all signals; it sets their handlers one after another."""
    async with asyncio.timeout(WAIT):
        while not all(hears(pid, number) for number in SIGNALS):
            await asyncio.sleep(0.0005)


async def child_of(pid: int) -> int:
    """The process that another one has started."""
    async with asyncio.timeout(WAIT):
        while not (children := Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()):
            await asyncio.sleep(0.0005)
    return int(children[0])


async def requests(server: Sandbox, count: int) -> None:
    """Wait until the server has had so many."""
    async with asyncio.timeout(WAIT):
        while server.seen[IDENTIFY].requests < count:
            await asyncio.sleep(0.005)


async def pause(server: Sandbox, seconds: float) -> int:
    """Wait until the server has had no request for so long; give how many it has had."""
    count, since = 0, time.monotonic()
    async with asyncio.timeout(WAIT):
        while time.monotonic() < since + seconds:
            if server.seen[IDENTIFY].requests > count:
                count, since = server.seen[IDENTIFY].requests, time.monotonic()
            await asyncio.sleep(0.05)
    return count


def size_of(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def players(folder: Path, count: int) -> Path:
    path = folder / "players.csv"
    path.write_text(players_csv(count))
    return path


# The system ignores signals to PID 1 that it has no handler for, and nothing else does so. A container or a user without the
# right to make namespaces cannot play it.
@pytest.mark.skipif(not may_unshare(), reason="this machine lets no process be PID 1 of a namespace of its own")
async def test_sigterm_as_pid_1_at_any_moment(tmp_path: Path, path: Path) -> None:
    """Stopped at any moment from its first on, a container's command ends in time with 130, and goes on without a fault."""
    draw = random.Random(15)
    rows = 250 * MOMENTS
    arguments = ("identify", players(tmp_path, rows), "--journal", path, "-o", tmp_path / "out.jsonl", "--rate", 500)
    slowest, before_a_run, codes = 0.0, 0, []
    async with sandbox_process("--identify", 500) as url:
        for number in range(MOMENTS):
            before = size_of(tmp_path / "out.jsonl")
            async with started(url, *arguments, before=UNSHARE) as outer:
                inner = await child_of(outer.pid)
                await listening(inner)
                while number % 2 and size_of(tmp_path / "out.jsonl") == before:
                    await asyncio.sleep(0.005)  # on a slow machine no moment would lie within a run
                await asyncio.sleep(draw.uniform(0, 1 if number % 2 else 0.2))
                os.kill(inner, signal.SIGTERM)
                sent = time.monotonic()
                ended = await finish(outer)
                slowest = max(slowest, time.monotonic() - sent)
                before_a_run += "interrupted; nothing was sent" in ended.err
                codes.append(ended.code)
                assert "Traceback" not in ended.err
        async with started(url, *arguments) as process:
            # At the limit it takes 25 s for the rest; with coverage, on a busy machine, a few minutes.
            assert (await finish(process, WAIT + rows / 50)).code == 0
        sessions = [player["sessions"] for player in (await players_at(url)).values()]
    print(f"{MOMENTS} signals, {before_a_run} before a run, slowest {slowest:.2f} s")
    assert set(codes) == {130}
    assert slowest < 2
    assert 0 < before_a_run < MOMENTS
    assert sessions == [1] * rows
    assert {state for _, state in rows_of(path)} == {"succeeded"}
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == rows


@pytest.mark.parametrize(("moment", "number"), pairs(["input", "output", "header", "report"], SIGNALS))
async def test_before_a_run(tmp_path: Path, number: int, moment: str) -> None:
    """A command that waits for a file, for a reader or for the first line ends at once with one line."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    arguments: dict[str, tuple[Any, ...]] = {
        "input": ("identify", pipe),
        "output": ("identify", players(tmp_path, 3), "-o", pipe),
        "header": ("identify", "-", "--dry-run"),
        "report": ("report", pipe),
    }
    async with fast_sandbox() as server, started(server.url, *arguments[moment]) as process:
        await listening(process.pid)
        if moment != "report":
            await asyncio.sleep(0.7)
        process.send_signal(number)
        sent = time.monotonic()
        ended = await finish(process)
        assert time.monotonic() - sent < AT_ONCE
        assert server.players == {}
    assert (ended.code, ended.out) == (130, "")
    assert ended.err in ("teak-async: interrupted; nothing was sent\n", "teak-async: interrupted; the report is not complete\n")


@pytest.mark.parametrize(
    ("moment", "number"), pairs(["counting", "dry run", "dry run of a journal", "opening", "report"], SIGNALS)
)
async def test_in_long_work_before_a_run(tmp_path: Path, path: Path, number: int, moment: str) -> None:
    """A command that reads a long input or waits for a locked journal ends at once, and leaves all as it was."""
    source = players(tmp_path, 3)
    async with fast_sandbox() as server:
        async with started(server.url, "identify", source, "--journal", path) as process:
            assert (await finish(process)).code == 0
        before = rows_of(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as lock:
            if moment in ("dry run of a journal", "opening", "report"):
                lock.execute("PRAGMA locking_mode = EXCLUSIVE")
                lock.execute("UPDATE run SET value = value")
            else:
                source.write_text("user_id,client_ip\n" + "p1,203.0.113.9\n" * 3_000_000)
            arguments: dict[str, tuple[Any, ...]] = {
                "counting": ("identify", source),
                "dry run": ("identify", source, "--dry-run"),
                "dry run of a journal": ("identify", source, "--journal", path, "--dry-run"),
                "opening": ("identify", source, "--journal", path),
                "report": ("report", path),
            }
            async with started(server.url, *arguments[moment]) as process:
                await listening(process.pid)
                await asyncio.sleep(0.5)
                process.send_signal(number)
                sent = time.monotonic()
                ended = await finish(process)
                assert time.monotonic() - sent < AT_ONCE
        assert server.seen[IDENTIFY].requests == 3
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (130, "", 1)
    assert "teak-async: interrupted; " in ended.err
    assert rows_of(path) == before


async def test_nohup_stays(tmp_path: Path) -> None:
    """A SIGHUP that was ignored at the start is ignored to the end; the other signals are heard."""
    async with (
        fast_sandbox() as server,
        started(server.url, "identify", players(tmp_path, 2000), "--rate", 100, before=("nohup",)) as process,
    ):
        await requests(server, 5)
        assert not hears(process.pid, signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
        await requests(server, 30)
        process.send_signal(signal.SIGTERM)
        ended = await finish(process)
        assert len(ended.rows) == len(server.players)
    assert ended.code == 130


@pytest.mark.parametrize(
    "numbers", [(signal.SIGHUP, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT), (signal.SIGINT,) * 2][: None if MANY else 1]
)
async def test_signals_of_different_kinds_count_together(tmp_path: Path, path: Path, numbers: tuple[int, ...]) -> None:
    """The second leaves what is on the wire, whatever the first was; it is in doubt, and nothing else is."""
    async with fast_sandbox(faults=Faults(stall=1.0, stall_for=600.0)) as server:
        arguments = ("identify", players(tmp_path, 500), "--journal", path)
        async with started(server.url, *arguments) as process:
            await requests(server, 20)
            for number in numbers:
                process.send_signal(number)
                await asyncio.sleep(0.1)
            sent = time.monotonic()
            ended = await finish(process)
            assert time.monotonic() - sent < 2
        assert ended.code == 130
        doubtful = {name for name, state in rows_of(path, "user_id, state") if state in ("in_doubt", "intent")}
        assert set(server.players) <= doubtful
        server.set_faults(Faults())
        async with started(server.url, *arguments) as process:
            ended = await finish(process)
        assert (ended.code, len(server.players)) == (3, 500)
        assert {player.sessions for player in server.players.values()} == {1}


async def test_a_third_signal_ends_the_process(tmp_path: Path, path: Path) -> None:
    """Three at once leave no time for results, and what was on the wire is in doubt when the run is resumed."""
    async with fast_sandbox(faults=Faults(stall=1.0, stall_for=600.0)) as server:
        arguments = ("identify", players(tmp_path, 100), "--journal", path)
        async with started(server.url, *arguments) as process:
            await requests(server, 20)
            for number in SIGNALS:
                process.send_signal(number)
            ended = await finish(process)
        assert ended.code == 130
        server.set_faults(Faults())
        async with started(server.url, *arguments) as process:
            assert (await finish(process)).code == 3
        assert {player.sessions for player in server.players.values()} == {1}
        assert len(rows_of(path)) == 100


async def test_a_lost_terminal_is_one_signal(tmp_path: Path) -> None:
    """The system and the shell both send it; what is on the wire is finished all the same."""
    async with (
        fast_sandbox(faults=Faults(delay=0.1)) as server,
        started(server.url, "identify", players(tmp_path, 2000), "--rate", 100) as process,
    ):
        await requests(server, 20)
        for _ in range(3):
            process.send_signal(signal.SIGHUP)
            await asyncio.sleep(0.002)
        ended = await finish(process)
        assert len(ended.rows) == len(server.players)
    assert ended.code == 130
    assert {row["delivery"] for row in ended.rows} == {"done"}


@pytest.mark.parametrize("number", SOME_SIGNALS)
async def test_the_sandbox_ends_with_what_it_saw(number: int) -> None:
    """Any of the signals ends the sandbox well."""
    async with started(NOWHERE, "sandbox", "--port", 0) as process:
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(number)
        ended = await finish(process)
    assert (ended.code, ended.err) == (0, "")
    assert "0 players, 0 sessions" in ended.out


@pytest.mark.parametrize("number", SIGNALS)
async def test_the_demo_leaves_nothing_behind(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted before its run or in it, the demo removes its folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    async with started(NOWHERE, "demo", "--players", 200_000 if number == signal.SIGHUP else 2000) as process:
        async with asyncio.timeout(WAIT):
            while not list(tmp_path.iterdir()):
                await asyncio.sleep(0.01)
            if number == signal.SIGINT:
                await asyncio.sleep(1)
        process.send_signal(number)
        ended = await finish(process)
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert not list(tmp_path.iterdir())


def stuck_pipe() -> tuple[int, int]:
    """A pipe that is full, as that of a program that has stopped reading."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    while True:
        try:
            os.write(writer, b"\n" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(writer, True)
    return reader, writer


@pytest.mark.parametrize(("number", "both"), pairs([signal.SIGTERM, signal.SIGINT], [False, True])[: None if MANY else 1])
async def test_results_that_nobody_reads(tmp_path: Path, path: Path, number: int, both: bool) -> None:
    """A run waits with a stuck output, says so, hears signals, and loses nothing that a resumed run needs."""
    reader, writer = stuck_pipe()
    source = players(tmp_path, 1500)
    async with fast_sandbox() as server:
        arguments = ("identify", source, "--journal", path, "--rate", 2000)
        async with started(server.url, *arguments, stdout=writer, stderr=writer if both else PIPE) as process:
            await requests(server, 100)
            paused = await pause(server, 4)
            assert paused < 1000
            process.send_signal(number)
            sent = time.monotonic()
            ended = await finish(process)
            assert time.monotonic() - sent < 2.5
        os.close(reader)
        os.close(writer)
        assert ended.code == 130
        states = [state for _, state in rows_of(path)]
        assert states.count("succeeded") == paused == len(server.players)
        if not both:
            assert ended.err.count("the reader of standard output does not read; the run waits") == 1
            assert f"results not written: {paused:,} (the journal has them)" in ended.err
        async with started(server.url, *arguments) as process:
            assert process.stdin is not None
            process.stdin.close()
            ended = await finish(process)
        assert (ended.code, len(server.players)) == (0, 1500)
        assert {player.sessions for player in server.players.values()} == {1}


async def test_results_that_are_read_late(tmp_path: Path) -> None:
    """A run that waited for its reader goes on with it, and every row is a whole line."""
    reader, writer = stuck_pipe()
    async with fast_sandbox() as server:
        arguments = ("identify", players(tmp_path, 1000), "--rate", 2000)
        async with started(server.url, *arguments, stdout=writer) as process:
            os.close(writer)
            await requests(server, 100)
            await asyncio.sleep(1)
            with os.fdopen(reader, "rb") as pipe:
                out = await asyncio.to_thread(pipe.read)
            _, err = await asyncio.wait_for(process.communicate(), WAIT)
    assert process.returncode == 0, err
    rows = Ended(0, out.decode().lstrip("\n"), "").rows
    assert [row["index"] for row in rows] == list(range(1000))


async def test_words_that_nobody_reads(tmp_path: Path) -> None:
    """A stuck standard error holds neither a row nor the exit code up."""
    reader, writer = stuck_pipe()
    async with fast_sandbox() as server:
        arguments = ("identify", players(tmp_path, 1000), "--rate", 2000, "-o", tmp_path / "out")
        async with started(server.url, *arguments, stderr=writer) as process:
            assert (await finish(process)).code == 0
    assert len((tmp_path / "out").read_text().splitlines()) == 1000
    os.close(reader)
    os.close(writer)


async def test_a_pipe_as_output(tmp_path: Path) -> None:
    """A run waits for a reader of its pipe, says so, and sends nothing before."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with fast_sandbox() as server, started(server.url, "identify", players(tmp_path, 20), "-o", pipe) as process:
        assert process.stderr is not None
        said = await asyncio.wait_for(process.stderr.readline(), WAIT)
        assert said.decode() == f"nobody reads {pipe}; the run waits for a reader\n"
        assert not server.players
        out = await asyncio.to_thread(pipe.read_text)
        ended = await finish(process)
    assert (ended.code, len(out.splitlines())) == (0, 20)


@pytest.mark.parametrize("number", [None, *SOME_SIGNALS])
async def test_a_reader_that_goes_while_the_input_says_nothing(tmp_path: Path, number: int | None) -> None:
    """Without a reader a run ends at the first line that fails, though no row comes any more; a signal stays a signal."""
    reader, writer = os.pipe()
    async with fast_sandbox() as server, started(server.url, "identify", "-", stdout=writer) as process:
        os.close(writer)
        assert process.stdin is not None
        process.stdin.write(b"user_id,country_code\np1,US\n")
        await requests(server, 1)
        await asyncio.to_thread(os.read, reader, 1)
        os.close(reader)
        if number is not None:
            process.send_signal(number)
        else:
            process.stdin.write(b"p2,US\n")
        ended = await finish(process)
    assert ended.code == (2 if number is None else 130)
    assert ("Broken pipe" in ended.err) is (number is None)


@pytest.mark.parametrize("watched", [True, False] if MANY else [True])
async def test_a_lost_terminal(tmp_path: Path, path: Path, watched: bool) -> None:
    """When a session on another machine is lost, the run stops well, wherever its results go, and can be resumed."""
    leader, follower = pty.openpty()
    out = tmp_path / "out.jsonl"
    arguments = ["identify", str(players(tmp_path, 500)), "--journal", str(path), "--rate", "200"]
    arguments += [] if watched else ["-o", str(out)]
    async with fast_sandbox() as server:
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, *arguments), preexec_fn=lambda: os.login_tty(follower), env=environment(server.url), cwd=ROOT
        )
        os.close(follower)
        drain = asyncio.create_task(asyncio.to_thread(os.read, leader, 1 << 16))
        await requests(server, 20)
        await drain
        os.close(leader)
        assert await asyncio.wait_for(process.wait(), 5) == 130
        states = [state for _, state in rows_of(path)]
        assert states.count("succeeded") == len(server.players) < 500
        assert set(states) <= {"succeeded", "not_sent"}
        if not watched:
            assert len(out.read_text().splitlines()) == len(server.players)
        async with started(server.url, *arguments[:4], "-o", out, "--rate", 2000) as again:
            assert (await finish(again)).code == 0
        assert [player.sessions for player in server.players.values()] == [1] * 500


@pytest.mark.parametrize("blocks", [1, 3, 8] if MANY else [3])
async def test_a_full_disk_leaves_whole_lines(tmp_path: Path, blocks: int) -> None:
    """What of a line was written before the disk was full is taken back, and the lines that are missing are counted."""
    out = tmp_path / "out.jsonl"
    # What measures coverage writes a file of its own, which would be cut off, too.
    limit = ("sh", "-c", f'unset COVERAGE_PROCESS_CONFIG COVERAGE_PROCESS_START; ulimit -f {blocks}; exec "$@"', "sh")
    async with fast_sandbox() as server:
        async with started(server.url, "identify", players(tmp_path, 500), "-o", out, before=limit) as process:
            ended = await finish(process)
        sessions = len(server.players)
    text = out.read_text()
    lines = Ended(0, text, "").rows
    assert text.endswith("\n")
    assert ended.code == 2
    assert "the results cannot be written: File too large; " in ended.err
    assert f"results not written: {sessions - len(lines)}" in ended.err.splitlines()[-1]


def test_handlers_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What listened before listens again; outside of the main thread nothing is touched."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard: list[int] = []
    listener = SignalListener()
    with listener.hand_to(heard.append):
        for number in SIGNALS:
            os.kill(os.getpid(), number)
        limit = time.monotonic() + WAIT
        while len(heard) < len(SIGNALS) and time.monotonic() < limit:
            time.sleep(0.001)
    assert sorted(heard) == sorted(SIGNALS)
    assert {number: signal.getsignal(number) for number in SIGNALS} == before

    def elsewhere() -> None:
        with SignalListener().hand_to(heard.append):
            assert {number: signal.getsignal(number) for number in SIGNALS} == before

    with ThreadPoolExecutor(1) as threads:
        threads.submit(elsewhere).result()


def test_a_system_without_wakeups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be woken by a signal, as on Windows, the main thread hears it, as soon as it may."""
    heard: list[int] = []
    listener = SignalListener()
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        listener.begin()
    with listener.hand_to(heard.append):
        signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    listener.end()


LATE = """
import asyncio, os, signal, time
from teak_async._cli.signals import LISTENER
loop = asyncio.new_event_loop()
loop.close()
with LISTENER.hand_to(lambda number: loop.call_soon_threadsafe(print, number)):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


def test_a_loop_that_has_ended() -> None:
    """A signal for a run whose loop is closed ends the process."""
    ended = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=WAIT, check=False, cwd=ROOT)
    assert (ended.returncode, ended.stderr) == (130, "teak-async: interrupted; nothing was sent\n")


SLOWLY = """
import os, signal, time
from teak_async._cli.signals import LISTENER
say = os.write
def slowly(*arguments):
    say(*arguments)
    time.sleep(0.5)
os.write = slowly
LISTENER.begin()
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.2)
with LISTENER.hand_to(print):
    print("a row was sent", flush=True)
time.sleep(60)
"""


def test_nothing_is_sent_after_that_was_said() -> None:
    """A signal just before a run takes the signals over ends the process, and the run does not begin meanwhile."""
    ended = subprocess.run([sys.executable, "-c", SLOWLY], capture_output=True, text=True, timeout=WAIT, check=False, cwd=ROOT)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "teak-async: interrupted; nothing was sent\n")


ENDING = """
import os, signal, time
from teak_async._cli import app, main
say = os.write
def slowly(*arguments):
    say(*arguments)
    time.sleep(0.5)
os.write = slowly
def end_meanwhile():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)
app.run = end_meanwhile
main.run()
"""


def test_a_signal_at_the_end_of_a_command() -> None:
    """A signal that is ending the process does so, though the command ends meanwhile."""
    ended = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=WAIT, check=False, cwd=ROOT)
    assert (ended.returncode, ended.stderr) == (130, "teak-async: interrupted; nothing was sent\n")


@pytest.mark.parametrize("number", SOME_SIGNALS)
async def test_while_no_server_is_there(tmp_path: Path, path: Path, number: int) -> None:
    """A run that waits for its server ends as any other, and nothing is failed or in doubt for it."""
    source = players(tmp_path, 300)
    async with started(NOWHERE, "identify", source, "--journal", path) as process:
        await listening(process.pid)
        await asyncio.sleep(2)
        process.send_signal(number)
        sent = time.monotonic()
        ended = await finish(process)
        assert time.monotonic() - sent < 2
    assert (ended.code, ended.out) == (130, "")
    if path.is_file() and path.stat().st_size:  # on a slow machine the journal was not made yet
        assert {state for _, state in rows_of(path)} <= {"not_sent"}, ended.err


NIGHTLY = """
import asyncio, csv, signal, sys
from teak_async import Identify, InvalidRequest, TeakSession

def request(row):
    try:
        return Identify(row["user_id"], country_code=row["country_code"])
    except InvalidRequest as problem:
        return problem

async def nightly(export):
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    with open(export, newline="", encoding="utf-8") as file:
        async with TeakSession() as teak:
            return await teak.bulk(map(request, csv.DictReader(file)), journal=f"{export}.db")

try:
    report = asyncio.run(nightly(sys.argv[1]))
except asyncio.CancelledError:
    sys.exit(130)
print(report.succeeded, report.skipped, report.failed_earlier)
"""


async def test_a_program_that_cancels_its_run(tmp_path: Path) -> None:
    """Told to end in the midst of it, it finishes what is on the wire; the same again does the rest, and knows what failed."""
    source = tmp_path / "export.csv"
    source.write_text("user_id,country_code\np0,France\n" + "".join(f"p{number},FR\n" for number in range(1, 300)))
    async with Sandbox() as server:
        start = (sys.executable, "-c", NIGHTLY, str(source))
        process = await asyncio.create_subprocess_exec(*start, stdout=PIPE, stderr=PIPE, env=environment(server.url), cwd=ROOT)
        await requests(server, 20)
        process.send_signal(signal.SIGTERM)
        ended = await finish(process)
        assert (ended.code, ended.out, ended.err) == (130, "", "")
        before = len(server.players)
        assert 20 <= before < 300
        process = await asyncio.create_subprocess_exec(*start, stdout=PIPE, stderr=PIPE, env=environment(server.url), cwd=ROOT)
        ended = await finish(process)
        assert (ended.code, ended.out) == (0, f"{299 - before} {before + 1} 1\n")
        assert {player.sessions for player in server.players.values()} == {1}
        assert len(server.players) == 299
