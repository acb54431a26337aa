"""The README is true: each of its code blocks is run, and has done what it is there to show."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import shlex
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from attrs import fields, frozen
from forked import FORKS, command, ended_by_the_test
from support import ROOT, WAIT, Ended, each, pairs

import teak_async
from teak_async import (
    Categories,
    Channel,
    ClearDeliveryFault,
    ConnectFailed,
    CreateExclusion,
    DeleteExclusion,
    Delivery,
    Email,
    Exclusions,
    GetEmailAddress,
    GetEmailSubscription,
    GetExclusion,
    GetSubscription,
    Identify,
    Limits,
    ListCategories,
    ListExclusions,
    ListUnsubscriptions,
    Players,
    RemoveEmailAddress,
    RemovePlayer,
    Request,
    SessionClosed,
    SetCategorySubscription,
    SetEmailAddress,
    SetEmailCategorySubscription,
    SetEmailSubscription,
    SetSubscription,
    Subscriptions,
    TeakError,
    TeakSession,
    UnexpectedResponse,
)
from teak_async._api.endpoints import ENDPOINTS
from teak_async._cli.demo import name_player
from teak_async._cli.job import Exit
from teak_async.sandbox import Faults, Sandbox

README = (ROOT / "README.md").read_text(encoding="utf-8")


@frozen
class Block:
    """A fenced code block.

    Attributes:
        language: as the fence names it.
        line: of its first line, from 1.
        text: what stands in it.
    """

    language: str
    line: int
    text: str

    def compiled(self, flags: int = 0) -> Any:
        """Python whose tracebacks name the README's lines."""
        return compile("\n" * (self.line - 1) + self.text, "README.md", "exec", flags, dont_inherit=True)

    def run(self) -> dict[str, Any]:
        """Run it as a module that is imported; gives what it defined."""
        names: dict[str, Any] = {"__name__": "readme"}
        exec(self.compiled(), names)  # noqa: S102 - our own README
        return names


def blocks(text: str) -> Iterator[Block]:
    """Find the code blocks of a Markdown text."""
    opened: tuple[str, int] | None = None
    held: list[str] = []
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if not line.startswith("```"):
            held.append(line)
        elif opened is None:
            opened, held = (line[3:].strip(), number + 1), []
        else:
            yield Block(*opened, "".join(held))
            opened = None
    assert opened is None, f"the block at line {opened and opened[1]} is not closed"


BLOCKS = list(blocks(README))


@frozen
class Stage:
    """What a driver has: the sandbox that the environment names, an empty folder to be in, and what was printed."""

    server: Sandbox
    folder: Path
    printed: Callable[[], str]

    def sessions(self) -> dict[str, int]:
        """The server's players, each with the sessions that were recorded."""
        return {name: player.sessions for name, player in self.server.players.items()}

    def write(self, name: str, *lines: str) -> None:
        """Put a file into the folder."""
        (self.folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def rows(self, name: str) -> list[Any]:
        """Read a file of JSON lines."""
        return [json.loads(line) for line in (self.folder / name).read_text(encoding="utf-8").splitlines()]

    @asynccontextmanager
    async def started(self, *command: str) -> AsyncIterator[Process]:
        """Start a process in the folder, and see to it that it does not outlive the test."""
        process = await asyncio.create_subprocess_exec(*command, cwd=self.folder, stdout=PIPE, stderr=PIPE)
        async with ended_by_the_test(process):
            yield process

    async def shell(self, line: str) -> Ended:
        """Run a line as a user does, with `teak-async` on the path."""
        words = shlex.split(line, comments=True)
        if FORKS and words[0] == "teak-async" and not set("|<>;&$") & set(line):  # a shell has nothing to do but to start it
            async with command(*words[1:], env=os.environ, cwd=self.folder) as it:
                out, err = await asyncio.wait_for(it.communicate(), WAIT)
            return Ended(it.returncode, out.decode(), err.decode())
        tools = self.folder / "bin"
        tools.mkdir(exist_ok=True)
        tool = tools / "teak-async"
        tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m teak_async "$@"\n')
        tool.chmod(0o755)
        async with self.started(
            "/bin/sh", "-c", f'PATH="{tools}:$PATH" PYTHONPATH="{ROOT}"; export PATH PYTHONPATH; {line}'
        ) as it:
            out, err = await asyncio.wait_for(it.communicate(), WAIT)
        return Ended(it.returncode, out.decode(), err.decode())


Driver = Callable[[Block, Stage], Awaitable[None]]
DRIVERS: dict[str, Driver] = {}
"""What is done with a block, by words that stand in that block and in no other."""


def drives(words: str) -> Callable[[Driver], Driver]:
    """Make a function the driver of the block in which these words stand."""

    def register(driver: Driver) -> Driver:
        DRIVERS[words] = driver
        return driver

    return register


@drives("teak-async demo\n")
@drives("--group test")
async def set_up(block: Block, stage: Stage) -> None:
    """One command line in a shell; .ci/run follows both in a fresh checkout."""
    (line,) = block.text.splitlines()
    assert line.startswith("$ python3 -m venv .venv && ")


@drives("asyncio.run(main())")
async def a_quick_start(block: Block, stage: Stage) -> None:
    """It runs as a script."""
    stage.write("first.py", block.text)
    ended = await stage.shell(f"{sys.executable} first.py")
    assert (ended.code, ended.out, ended.err) == (0, "1 US opt_in\n", "")
    assert stage.sessions() == {"p1": 1}


@drives("async def arrived")
async def a_live_call(block: Block, stage: Stage) -> None:
    """A session is recorded, and each error is told for what it is."""
    names = block.run()
    async with TeakSession() as teak:
        await names["arrived"](teak, "p1", "203.0.113.42")
        assert (stage.sessions(), stage.printed()) == ({"p1": 1}, "")
        stage.server.fail_next("identify", "response_lost")
        await names["arrived"](teak, "p2", "203.0.113.9")
        await names["arrived"](teak, "p3", "nowhere")
    assert stage.sessions() == {"p1": 1, "p2": 1}

    class Odd:
        async def identify(self, *_: object, **__: object) -> None:
            raise UnexpectedResponse("its body lacks a country", delivery=Delivery.DONE)

    await names["arrived"](Odd(), "p4", "203.0.113.9")
    unknown, rejected, done = stage.printed().splitlines()
    assert unknown.startswith("p2: nobody knows whether this session was recorded: ")
    assert rejected.startswith("p3: not recorded: Identify: client_ip")
    assert done == "p4: recorded, with an answer that makes no sense: its body lacks a country"


@drives("async def backfill")
async def a_backfill(block: Block, stage: Stage) -> None:
    """All is sent but the bad row, which is told; done again, nothing is sent twice."""
    names = block.run()
    rows = [{"id": f"p{number}", "country": "FR"} for number in range(20)]
    rows[7]["country"] = "France"
    for _ in range(2):
        await names["backfill"](rows)
        assert stage.sessions() == {f"p{number}": 1 for number in range(20) if number != 7}
    first, report, again = stage.printed().splitlines()
    assert first.startswith("p7 not_sent Identify: country_code")
    assert report.startswith(
        "BulkReport(total=20, succeeded=19, failed=1, in_doubt=0, skipped=0, not_sent=0, failed_earlier=0, sent=19,"
    )
    assert again.startswith("BulkReport(total=20, succeeded=0, failed=0, in_doubt=0, skipped=20, not_sent=0, failed_earlier=1,")


@drives("head -n 100 players.csv | teak-async status -")
async def a_batch_job(block: Block, stage: Stage) -> None:
    """Each line is run in the order in which it stands, and does what its comment says."""
    names = [name_player(number) for number in range(5)]
    players = [stage.server.add_player(name) for name in names]
    make, dry, opt_out, category, identify, report, status = block.text.splitlines()

    assert (await stage.shell(make)).code == 0
    assert (stage.folder / "players.csv").read_text().splitlines() == ["user_id", *map(name_player, range(1000))]
    stage.write("players.csv", "user_id", *names)

    ended = await stage.shell(dry)
    assert (ended.code, ended.err) == (0, "")
    assert "5 rows: 5 to send, in under 1 s" in ended.out
    assert not stage.server.requests

    assert (await stage.shell(opt_out)).code == 0
    assert {player.state for player in players} == {"opt_out"}
    assert [row["response"]["state"] for row in stage.rows("proof.jsonl")] == ["opt_out"] * 5

    assert (await stage.shell(category)).code == 0
    assert {player.categories["sales"] for player in players} == {"opt_out"}

    stage.server.fail_next("identify", "response_lost")
    assert (await stage.shell(identify)).code == Exit.IN_DOUBT
    assert stage.sessions() == dict.fromkeys(names, 1)

    ended = await stage.shell(report)
    assert ended.code == 0
    assert re.search(r" 4 succeeded\n +0 failed\n +1 in doubt\n", ended.out)
    assert [len((stage.folder / name).read_text().splitlines()) - 1 for name in ("failed.csv", "doubt.csv")] == [0, 1]

    ended = await stage.shell(status)
    assert ended.code == 0
    assert {json.loads(line)["response"]["state"] for line in ended.out.splitlines()} == {"opt_out"}


@drives("TEAK_SHARE=/run")
async def a_shared_limit(block: Block, stage: Stage) -> None:
    """The command shares a ledger, in which `limits` finds nobody afterwards; two lines need other programs."""
    stage.write("old.csv", "user_id,country_code", "p1,US")
    web, backfill, kubernetes, limits = block.text.replace("/run/teak/", "").splitlines()
    assert (web.split()[1], kubernetes.split()[0]) == ("uvicorn", "kubectl")
    assert (await stage.shell(backfill)).code == 0
    assert stage.sessions() == {"p1": 1}
    ended = await stage.shell(limits.replace("--watch", ""))
    assert (ended.code, ended.out) == (0, "no members\n"), ended.err


@drives("async def leave_alone")
async def wishes_of_players(block: Block, stage: Stage) -> None:
    """Each player has the wish fulfilled, and the address is as the example says."""
    player = stage.server.add_player("p1")
    names = block.run()
    async with TeakSession() as teak:
        await names["leave_alone"](teak, "p1", "p1@example.com")
        assert (player.state, player.channels["push"].state) == ("opt_out", "opt_out")
        address = stage.server.addresses["p1@example.com"]
        assert address.state == "opt_out"
        address.delivery_fault = True
        await names["bounces"](teak, "p1@example.com")
        assert not address.delivery_fault
        for _ in range(2):
            await names["forget"](teak, "p1")
    assert "p1" not in stage.server.players
    assert stage.printed() == "p1 removed\np1 was not known\n"


@drives("web.AppKey")
async def an_aiohttp_server(block: Block, stage: Stage) -> None:
    """Logins are answered, and the server's end closes the session."""
    names = block.run()
    app, key = names["app"], names["TEAK"]

    async def answer(request: web.Request) -> web.Response:
        try:
            player = await request.app[key].identify(request.match_info["user_id"], client_ip=request.remote)
        except TeakError as error:
            return web.json_response({"session": None, "delivery": error.delivery, "why": str(error)})
        return web.json_response({"session": player.session_id, "delivery": "done"})

    app.router.add_post("/login/{user_id}", answer)
    async with TestClient(TestServer(app)) as client:

        async def login(user_id: str) -> Any:
            return await (await client.post(f"/login/{user_id}")).json()

        await judge_logins(stage, login)
    with pytest.raises(SessionClosed):
        app[key].submit(GetSubscription("p1"))


@drives("FastAPI(lifespan=lifespan)")
async def a_fastapi_server(block: Block, stage: Stage) -> None:
    """The same as with aiohttp."""
    pytest.importorskip("fastapi", reason="no group `rare` here")
    app = block.run()["app"]
    async with lifespan(app):
        await judge_logins(stage, lambda user_id: post(app, f"/login/{user_id}"))
    with pytest.raises(SessionClosed):
        app.state.teak.submit(GetSubscription("p1"))


async def judge_logins(stage: Stage, login: Callable[[str], Awaitable[Any]]) -> None:
    """A login records a session and gets its number, or the truth about it."""
    assert await login("p1") == {"session": "1", "delivery": "done"}
    stage.server.fail_next("identify", "response_lost")
    unknown = await login("p2")
    assert (unknown["session"], unknown["delivery"]) == (None, "unknown")
    assert "the connection was lost" in unknown["why"]
    assert stage.sessions() == {"p1": 1, "p2": 1}


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """Start and end an ASGI application, as its server does."""
    told: asyncio.Queue[Any] = asyncio.Queue()
    said: asyncio.Queue[Any] = asyncio.Queue()
    running = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, told.get, said.put))
    for moment in ("startup", "shutdown"):
        told.put_nowait({"type": f"lifespan.{moment}"})
        assert (await asyncio.wait_for(said.get(), WAIT))["type"] == f"lifespan.{moment}.complete"
        if moment == "startup":
            yield
    await running


async def post(app: Any, path: str) -> Any:
    """Make a request of an ASGI application; gives its answer, which is JSON."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 50000),
    }
    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    await app(scope, receive, send)
    assert said[0]["status"] == 200
    return json.loads(b"".join(message.get("body", b"") for message in said[1:]))


@drives("def tick(")
async def a_tick_loop(block: Block, stage: Stage) -> None:
    """Whoever joins is identified, what is not taken is said, and so is what was left behind."""
    names = block.run()
    address = "203.0.113.9"
    await names["world"]([[("p1", address), ("p2", address)], [], [("p3", "nowhere")]])
    assert stage.sessions() == {"p1": 1, "p2": 1}
    assert stage.printed().startswith("p3 not_sent Identify: client_ip")

    async with TeakSession(backlog=1) as teak:
        stage.server.fail_next("identify", "response_lost")
        names["tick"](teak, [("p4", address), ("p5", address)])
    full, lost = stage.printed().splitlines()
    assert full.startswith("p5 not_sent 1 submitted calls are under way already")
    assert lost.startswith("p4 unknown identify: the connection was lost")

    names["TeakSession"] = lambda **_: TeakSession(limits=Limits(identify=1), drain_timeout=2)  # of two, one is late
    await names["world"]([[("p6", address), ("p7", address)]])
    assert stage.printed().splitlines()[-1] == "left behind: p7 not_sent"
    assert stage.sessions() == dict.fromkeys(["p1", "p2", "p4", "p6"], 1)


@drives("kind: Job")
async def a_job_in_a_container(block: Block, stage: Stage) -> None:
    """Its command is one that can be repeated, and the exit codes at which it stops are those that repeating does not mend."""
    command = json.loads(next(iter(re.findall(r"command: (\[.*\])", block.text))))
    assert {"--journal", "--output"} <= set(command)
    stage.write("0131.csv", "user_id,country_code", "p1,FR", "p2,FR")
    ended = await stage.shell(" ".join([*command, "--dry-run"]).replace("/data/", ""))
    assert (ended.code, ended.err) == (0, "")
    assert "\n2 rows: 2 to send" in ended.out
    stops = json.loads(next(iter(re.findall(r"FailJob.*values: (\[.*?\])", block.text))))
    assert set(stops) == set(Exit) - {Exit.SUCCEEDED, Exit.OUTAGE, Exit.INTERRUPTED}


@drives("async def test_arrival")
async def a_first_test(block: Block, stage: Stage) -> None:
    """It passes as it stands, in a folder with nothing else in it, with whatever plugin runs it."""
    stage.write("test_first.py", block.text)
    for options in ("-o asyncio_mode=auto -o asyncio_default_fixture_loop_scope=function", "-p no:asyncio -o anyio_mode=auto"):
        ended = await stage.shell(
            f"{sys.executable} -m pytest -q -W error -p teak_async.testing -p no:cacheprovider {options} test_first.py"
        )
        assert (ended.code, ended.err) == (0, ""), ended.out
        assert "1 passed" in ended.out


@drives("_cli            the command")
async def the_plan(block: Block, stage: Stage) -> None:
    """Every module is on the plan."""
    modules = {path.stem for path in (ROOT / "teak_async").rglob("*.py")} - {"__init__", "__main__", "_version"}
    assert modules <= set(re.findall(r"\w+", block.text))
    packages = {path.parent.name for path in (ROOT / "teak_async").rglob("__init__.py")} - {"teak_async"}
    assert packages <= set(re.findall(r"^\w+", block.text, re.MULTILINE))


def driver_of(block: Block) -> Driver:
    """Give the driver of a block, of which there has to be exactly one."""
    found = [words for words in DRIVERS if words in block.text]
    assert len(found) == 1, f"README.md, line {block.line}: {found or 'no'} drivers for this block; see DRIVERS"
    return DRIVERS[found[0]]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"line-{block.line}")
async def test_a_block_does_what_it_shows(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run as it stands, beside a sandbox; what its functions did is seen there."""
    driver = driver_of(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    async with Sandbox() as server:
        monkeypatch.setenv("TEAK_BASE_URL", server.url)
        monkeypatch.setenv("TEAK_GAME_ID", server.game_id)
        monkeypatch.setenv("TEAK_SECRET_KEY", server.secret_key)
        await driver(block, Stage(server, tmp_path, lambda: capsys.readouterr().out))


SLOW = Faults(delay=2.5)
"""Five seconds there and back."""
NOWHERE = "http://127.0.0.1:9"
Example = Callable[[Block, Stage, str], Awaitable[None]]


async def quick_start_in(block: Block, stage: Stage, weather: str) -> None:
    """It waits, or ends with an error that names the call, the address and the attempts."""
    stage.write("first.py", block.text)
    ended = await stage.shell(f"{sys.executable} first.py")
    if weather == "slow":
        assert (ended.code, ended.out, ended.err) == (0, "1 US opt_in\n", "")
    else:
        assert ended.err.splitlines()[-1].startswith(f"teak_async.errors.ConnectFailed: identify: no connection to {NOWHERE}: ")
        assert ended.err.endswith(" (5 attempts)\n")


async def live_call_in(block: Block, stage: Stage, weather: str) -> None:
    """It says what became of the call within its deadline."""
    async with TeakSession() as teak, asyncio.timeout(4):
        await block.run()["arrived"](teak, "p1", "203.0.113.42")
    words = "nobody knows whether this session was recorded" if weather == "slow" else "not recorded"
    assert stage.printed().startswith(f"p1: {words}: ")


async def wishes_in(block: Block, stage: Stage, weather: str) -> None:
    """They wait, or raise."""
    stage.server.add_player("p1")
    names = block.run()
    async with TeakSession() as teak:
        if weather == "slow":
            await asyncio.gather(names["forget"](teak, "p1"), names["bounces"](teak, "p2@example.com"))
            assert stage.printed() == "p1 removed\n"
        else:
            with pytest.raises(ConnectFailed, match=r"remove player: no connection to .* \(5 attempts\)"):
                await names["forget"](teak, "p1")


async def backfill_in(block: Block, stage: Stage, weather: str) -> None:
    """It waits; left while it does, it has sent nothing, and the same call goes on."""
    rows = [{"id": f"p{number}", "country": "FR"} for number in range(20)]
    names = block.run()
    if weather == "away":
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await names["backfill"](rows)
        os.environ["TEAK_BASE_URL"] = stage.server.url
    await names["backfill"](rows)
    assert stage.printed().startswith("BulkReport(total=20, succeeded=20, ")
    assert stage.sessions() == {f"p{number}": 1 for number in range(20)}


async def fastapi_in(block: Block, stage: Stage, weather: str) -> None:
    """A login is answered within its deadline."""
    pytest.importorskip("fastapi", reason="no group `rare` here")
    app = block.run()["app"]
    async with lifespan(app):
        async with asyncio.timeout(4):
            login = await post(app, "/login/p1")
    assert (login["session"], login["delivery"]) == (None, "unknown" if weather == "slow" else "not_sent")
    assert ("no response" if weather == "slow" else "no connection to http") in login["why"]


async def tick_loop_in(block: Block, stage: Stage, weather: str) -> None:
    """The ticks go on; what is late is printed, or left behind, with the truth about it."""
    names = block.run()
    began = asyncio.get_running_loop().time()
    await names["world"]([[("p1", "203.0.113.9")], [], []])
    took = asyncio.get_running_loop().time() - began
    said = stage.printed().splitlines()
    if weather == "away":
        assert [line.partition(": ")[0] for line in said] == ["p1 not_sent identify", "left behind"]
    else:
        assert took < 8
        assert said in ([], ["left behind: p1 unknown"])


EXAMPLES: dict[str, Example] = {
    "asyncio.run(main())": quick_start_in,
    "async def arrived": live_call_in,
    "async def leave_alone": wishes_in,
    "async def backfill": backfill_in,
    "FastAPI(lifespan=lifespan)": fastapi_in,
    "def tick(": tick_loop_in,
}


@pytest.mark.parametrize(("words", "weather"), pairs(list(EXAMPLES), ["slow", "away"]))
async def test_an_example_meets_a_server_that(
    words: str, weather: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answers after five seconds, or is not there: each example does what the text beside it says."""
    (block,) = (block for block in BLOCKS if words in block.text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    async with Sandbox(faults=SLOW if weather == "slow" else Faults()) as server:
        monkeypatch.setenv("TEAK_BASE_URL", server.url if weather == "slow" else NOWHERE)
        monkeypatch.setenv("TEAK_GAME_ID", server.game_id)
        monkeypatch.setenv("TEAK_SECRET_KEY", server.secret_key)
        await EXAMPLES[words](block, Stage(server, tmp_path, lambda: capsys.readouterr().out), weather)


def test_every_driver_has_its_block() -> None:
    """A driver whose block has gone, or has changed so that it is not found, drives nothing."""
    alone = {words: [block.line for block in BLOCKS if words in block.text] for words in DRIVERS}
    assert {words: lines for words, lines in alone.items() if len(lines) != 1} == {}


def test_two_lines_set_everything_up() -> None:
    """.ci/run follows the lines that begin with a dollar, and there are exactly two."""
    assert len(re.findall(r"^\$ python3 -m venv", README, re.MULTILINE)) == 2
    assert len(re.findall(r"^\$ ", README, re.MULTILINE)) == 2


def test_every_number_has_its_row() -> None:
    """The table of `teak.rates` explains each number."""
    table = README.partition("| number | what it says")[2].partition("\n\n")[0]
    names = {field.name for field in fields(teak_async.Rate)}
    assert set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines()[2:]))) == names


def test_it_is_short() -> None:
    """Somebody reads it in ten minutes."""
    assert len(README.splitlines()) <= 350


def test_every_error_has_its_row() -> None:
    """The table of errors names each error that a user can meet, with a word on what to do."""
    table = README.partition("| error | when |")[2].partition("\n\n")[0].splitlines()[2:]
    assert all(line.count("|") == 5 and line.split("|")[4].strip() for line in table)
    named = set(re.findall(r"`([A-Z]\w+)`", "".join(line.split("|")[1] for line in table)))
    errors = {name for name in teak_async.__all__ if is_error(getattr(teak_async, name))}
    assert named == errors - {"TeakError", "TransportError"}


def is_error(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


CLASSES = [name for name in teak_async.__all__ if isinstance(getattr(teak_async, name), type)]


@each("name", CLASSES)
def test_what_is_public_is_described(name: str) -> None:
    """Every public class has a docstring of its own, and so has each of its public methods and properties."""
    kind = getattr(teak_async, name)
    members = {
        member: value
        for base in kind.__mro__
        if base.__module__.startswith("teak_async")
        for member, value in vars(base).items()
        if not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, property))
    }
    attrs_own = f"Method generated by attrs for class {name}."
    assert kind.__doc__
    assert kind.__doc__ != attrs_own
    assert [member for member, value in members.items() if not inspect.getdoc(value)] == []


CALLS: dict[type[Request], Callable[..., Any]] = {
    Identify: TeakSession.identify,
    GetSubscription: Subscriptions.status,
    SetSubscription: Subscriptions.set_state,
    SetCategorySubscription: Subscriptions.set_category_state,
    GetEmailSubscription: Email.status,
    SetEmailSubscription: Email.set_state,
    SetEmailCategorySubscription: Email.set_category_state,
    ClearDeliveryFault: Email.clear_fault,
    GetEmailAddress: Email.address,
    SetEmailAddress: Email.set_address,
    RemoveEmailAddress: Email.remove_address,
    ListUnsubscriptions: Email.unsubscriptions,
    GetExclusion: Exclusions.get,
    CreateExclusion: Exclusions.create,
    DeleteExclusion: Exclusions.delete,
    ListExclusions: Exclusions.list,
    RemovePlayer: Players.remove,
    ListCategories: Categories.list,
}


@pytest.mark.parametrize("request_type", CALLS)
def test_a_call_names_its_endpoint(request_type: type[Request]) -> None:
    """Whoever knows Teak's documentation finds the call, and the request, by its method and path."""
    (endpoint, *_) = (endpoint for (kind, _), endpoint in ENDPOINTS.items() if kind is request_type)
    path = f"`{endpoint.method} {endpoint.template.replace(Channel.DESKTOP_PUSH, '{channel}')}`"
    assert path in (CALLS[request_type].__doc__ or "")
    assert path in (request_type.__doc__ or "")


def test_a_block_that_is_left_open() -> None:
    """The reader of blocks finds them by their lines, and says where one is not closed."""
    found = list(blocks("a\n```python\nx = 1\n```\n\n```\ny\n```\n"))
    assert found == [Block("python", 3, "x = 1\n"), Block("", 7, "y\n")]
    with pytest.raises(AssertionError, match="the block at line 2 is not closed"):
        list(blocks("```\nx\n"))
    with pytest.raises(AssertionError, match=r"README\.md, line 3: no drivers"):
        driver_of(found[0])
