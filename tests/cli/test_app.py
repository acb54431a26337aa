from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import typer.main
from attrs import fields_dict
from forked import command
from support import ROOT, WAIT, Ended, fast_sandbox, players_csv
from typer.testing import CliRunner

from teak_async import __version__, _session
from teak_async._cli import commands
from teak_async._cli.app import app, run
from teak_async._cli.options import API, FaultOptions, LimitModelName
from teak_async._cli.text import MAX_LINE
from teak_async.sandbox import IDENTIFY, Faults, Sandbox, limit_models
from teak_async.sandbox.settings import Settings

SECRET = "not-for-other-eyes"
COMMANDS = (
    "identify",
    "opt-out",
    "opt-in",
    "status",
    "exclude",
    "remove-players",
    "end-exclusion",
    "report",
    "exclusions",
    "unsubscriptions",
    "categories",
    "limits",
    "sandbox",
    "demo",
)
NOWHERE = "http://127.0.0.1:9"


def fast(**options: Any) -> Sandbox:
    """A fast sandbox with a secret worth hiding."""
    return fast_sandbox(secret_key=SECRET, **options)


def credentials(url: str) -> dict[str, str]:
    """The environment of a user of that server."""
    return {"TEAK_BASE_URL": url, "TEAK_GAME_ID": "sandbox", "TEAK_SECRET_KEY": SECRET}


def environment(url: str) -> dict[str, str]:
    """The whole environment of a command of its own; its output is buffered as a user's is."""
    ours = ("TEAK_", "PYTHONUNBUFFERED", "FORCE_COLOR", "TTY_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | credentials(url) | {"TERM": "xterm", "COLUMNS": "120"}


def invoke(*arguments: object, **variables: str | None) -> Ended:
    """Run a command inside of this process."""
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments], env=variables, prog_name="teak-async")
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return Ended(ended.exit_code, ended.stdout, ended.stderr)


async def ask(server: Sandbox, *arguments: object, **variables: str | None) -> Ended:
    """Run a command inside of this process, beside a sandbox on this loop."""
    return await asyncio.to_thread(invoke, *arguments, **(credentials(server.url) | variables))


@asynccontextmanager
async def started(
    url: str, *arguments: object, stderr: int = PIPE, stdout: int = PIPE, **variables: str
) -> AsyncIterator[Process]:
    """Start a command as a process of its own, and see to it that it does not outlive the test."""
    async with command(*map(str, arguments), env=environment(url) | variables, stdout=stdout, stderr=stderr) as process:
        yield process


async def finish(process: Process, data: bytes = b"") -> Ended:
    """Wait for a process to end."""
    out, err = await asyncio.wait_for(process.communicate(data), WAIT)
    return Ended(process.returncode, (out or b"").decode(), (err or b"").decode())


async def requests(server: Sandbox, count: int) -> None:
    """Wait until the server has had so many."""
    async with asyncio.timeout(WAIT):
        while server.seen[IDENTIFY].requests < count:
            await asyncio.sleep(0.005)


def players(folder: Path, count: int) -> Path:
    """A file of players to identify."""
    path = folder / "players.csv"
    path.write_text(players_csv(count))
    return path


@pytest.mark.parametrize(
    ("arguments", "text", "state", "category", "sessions"),
    [
        (("identify",), "user_id,country_code\np,FR\n", "opt_in", "opt_out", 1),
        (("opt-out",), "user_id\np\n", "opt_out", "opt_out", 0),
        (("opt-in",), "user_id\np\n", "opt_in", "opt_out", 0),
        (("opt-out", "--category", "events"), "user_id\np\n", "opt_in", "opt_out", 0),
        (("opt-in", "--category", "events"), "user_id\np\n", "opt_in", "opt_in", 0),
        (("opt-in",), "user_id,category\np,events\n", "opt_in", "opt_in", 0),
        (("status",), "user_id\np\n", "opt_in", "opt_out", 0),
    ],
)
async def test_commands(
    tmp_path: Path, arguments: tuple[str, ...], text: str, state: str, category: str, sessions: int
) -> None:
    """Each command does to the server what its name says, and no more."""
    source = tmp_path / "in.csv"
    source.write_text(text)
    async with fast() as server:
        player = server.add_player("p", categories={"events": "opt_out"})
        ended = await ask(server, *arguments, source)
    assert ended.code == 0, ended.err
    assert [(row["line"], row["user_id"], row["delivery"]) for row in ended.rows] == [(2, "p", "done")]
    assert (player.state, player.categories["events"], player.sessions) == (state, category, sessions)


async def test_status_tells_the_state(tmp_path: Path) -> None:
    """Reading gives the state and the categories, and an unknown player is a failed row of a run that goes on."""
    source = tmp_path / "in.jsonl"
    source.write_text('{"user_id": "nobody"}\n{"user_id": "p"}\n')
    async with fast() as server:
        server.add_player("p", state="opt_out")
        ended = await ask(server, "status", source)
    assert ended.code == 1
    failed, succeeded = ended.rows
    assert failed["error"] == {"type": "PlayerNotFound", "message": failed["error"]["message"], "status": 404}
    assert "No player with id nobody" in failed["error"]["message"]
    assert (succeeded["response"]["state"], set(succeeded["response"]["categories"])) == ("opt_out", {"sales", "events"})


async def test_in_doubt(tmp_path: Path) -> None:
    """A session that may have been recorded is in doubt, and the exit code says so."""
    async with fast() as server:
        server.fail_next("identify", "response_lost")
        ended = await ask(server, "identify", players(tmp_path, 1))
        assert server.players["p0"].sessions == 1
    assert (ended.code, ended.rows[0]["delivery"]) == (3, "unknown")
    assert "1 in doubt" in ended.err


async def test_output(tmp_path: Path) -> None:
    """Results go to a file where one is named, which is then no one's but the results'."""
    target = tmp_path / "out.jsonl"
    target.write_text("from an earlier run\n")
    async with fast() as server:
        ended = await ask(server, "identify", players(tmp_path, 3), "--output", target, "--overwrite")
    assert (ended.code, ended.out) == (0, "")
    assert [row["user_id"] for row in Ended(0, target.read_text(), "").rows] == ["p0", "p1", "p2"]


async def test_format(tmp_path: Path) -> None:
    """A format that is told wins over the file's name."""
    source = tmp_path / "export.csv"
    source.write_text('{"user_id": "p", "country_code": "FR"}\n')
    async with fast() as server:
        ended = await ask(server, "identify", source, "--format", "jsonl")
    assert (ended.code, ended.rows[0]["line"]) == (0, 1)


@pytest.mark.parametrize(("arguments", "limit"), [(("identify",), 200), (("status",), 300), (("identify", "--rate", "7"), 7)])
async def test_limit(tmp_path: Path, arguments: tuple[str, ...], limit: int) -> None:
    """The limit is the documented one of the command's call, or the share that was asked for."""
    source = tmp_path / "in.jsonl"
    source.write_text('{"user_id": "p"}\n')
    async with fast() as server:
        ended = await ask(server, *arguments, source)
    assert f"at most {limit}/s, " in ended.err


async def test_quiet(tmp_path: Path) -> None:
    """Quiet is quiet: results, and nothing on standard error."""
    async with fast() as server:
        ended = await ask(server, "identify", players(tmp_path, 3), "--quiet")
    assert (ended.code, ended.err, len(ended.rows)) == (0, "", 3)


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
async def test_wrong_secret(tmp_path: Path, quiet: tuple[str, ...]) -> None:
    """A wrong secret stops the run at once, names what to look at, quiet or not, and is not shown."""
    async with fast() as server:
        wrong = "someone-elses-secret"
        ended = await ask(server, "identify", players(tmp_path, 1000), "--rate", 50, *quiet, TEAK_SECRET_KEY=wrong)
        assert server.seen[IDENTIFY].requests <= 100
        assert server.players == {}
    assert ended.code == 2
    assert "teak-async: stopped, since every row would get the same response" in ended.err
    assert "TEAK_SECRET_KEY" in ended.err
    assert wrong not in ended.out + ended.err


@pytest.mark.parametrize("command", ["identify", "status"])
@pytest.mark.parametrize("fault", ["reset", "response_lost", "error_before", "error_after", "not_json"])
async def test_the_secret_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, fault: str) -> None:
    """Whatever goes wrong, the secret is in no output, though a call that reads has it in its address."""
    monkeypatch.setattr("teak_async._client.call.next_wait", lambda *_, **__: None)  # the first failure is the last
    source = tmp_path / "in.jsonl"
    source.write_text('{"user_id": "p"}\n')
    if command == "identify":
        source = players(tmp_path, 1)
    always: dict[str, Any] = {fault: 1.0}
    async with fast(faults=Faults(**always)) as server:
        server.add_player("p")
        ended = await ask(server, command, source)
    assert ended.code in {1, 3}
    assert ended.rows[0]["error"]["message"]
    assert SECRET not in ended.out + ended.err


@pytest.mark.parametrize(
    ("command", "content", "remedy"),
    [
        ("identify", b"", "empty; it needs a header row and a row for each player, or JSON Lines"),
        ("identify", b"\n\n", "empty; it needs a header row"),
        (
            "identify",
            b"user_id,ip\np,127.0.0.1\n",
            "deep_link. Probably meant: --column client_ip=ip",
        ),
        ("identify", b"user_id;address\np;127.0.0.1\n", "line 1: unknown column 'address'; known are user_id"),
        ("identify", b"client_ip\n127.0.0.1\n", "line 1: the header needs a column user_id"),
        (
            "identify",
            b"user_id\np\n",
            "a column client_ip or country_code (if you know neither: --constant client_ip=127.0.0.1)",
        ),
        ("opt-out", b"category\nsales\n", "line 1: the header needs a column user_id; known columns are user_id, category"),
        (
            "status",
            b"user_id,kind\np,sales\n",
            "unknown column 'kind'; known are user_id. Remove or rename it, or leave it out",
        ),
        ("identify", b"\xe9,client_ip\n", "line 1: this is neither UTF-8 nor UTF-16 text"),
        ("identify", "user_id".encode("utf-16"), "line 1: the header needs a column client_ip or country_code"),
    ],
)
def test_unusable_file(tmp_path: Path, command: str, content: bytes, remedy: str) -> None:
    """A file that cannot be used is one clear line that names the place and the remedy, and nothing is sent."""
    source = tmp_path / "in.csv"
    source.write_bytes(content)
    is_refused(invoke(command, source, **credentials(NOWHERE)), str(source), remedy)


def is_refused(ended: Ended, *said: str) -> None:
    """Wrong usage: exit code 2 and one line of ours."""
    assert (ended.code, ended.out) == (2, "")
    [line] = ended.err.splitlines()
    assert line.startswith("teak-async: ")
    for part in said:
        assert part in line


@pytest.mark.parametrize(
    ("name", "said"),
    [("none.csv", "No such file or directory; name one that is there"), ("", "Is a directory; name a file in it")],
)
def test_no_file(tmp_path: Path, name: str, said: str) -> None:
    """What is no file is one clear line with its name."""
    is_refused(invoke("identify", tmp_path / name, **credentials(NOWHERE)), str(tmp_path / name), said)


@pytest.mark.parametrize("value", ["", "  ", None])
@pytest.mark.parametrize(("variable", "what"), [("TEAK_GAME_ID", "Teak App ID"), ("TEAK_SECRET_KEY", "Teak Server Secret")])
def test_missing_credentials(tmp_path: Path, variable: str, what: str, value: str | None) -> None:
    """Without credentials one line says which are missing and how to give them."""
    given = {**credentials(NOWHERE), variable: value}
    is_refused(invoke("identify", players(tmp_path, 1), **given), f"no {what}: set {variable} in the environment, or in a file")
    none = dict.fromkeys(("TEAK_GAME_ID", "TEAK_SECRET_KEY"), value)
    both = "no Teak App ID and no Teak Server Secret: set TEAK_GAME_ID and TEAK_SECRET_KEY in the environment"
    is_refused(invoke("identify", players(tmp_path, 1), **none), f"{both}, or in a file that --env-file names; to try it")
    is_refused(invoke("exclusions", **none), f"{both}, or in a file that --env-file names; to try it without a game")


def test_how_long_an_outage_is_waited_for(tmp_path: Path) -> None:
    """It is the operator's to say; the run then ends as one that may be repeated."""
    ended = invoke("identify", players(tmp_path, 20), "--outage", "0s", **credentials(NOWHERE))
    assert (ended.code, "20 not sent" in ended.err) == (75, True)
    is_refused(
        invoke("identify", players(tmp_path, 1), "--outage", "long", **credentials(NOWHERE)), "--outage: 'long' is no span"
    )


def test_bad_base_url(tmp_path: Path) -> None:
    """An address that is none is told as such."""
    ended = invoke("identify", players(tmp_path, 1), "--base-url", "gocarrot", **credentials(NOWHERE))
    is_refused(ended, "must be like https://api.gocarrot.com, not 'gocarrot'")


async def test_port_in_use() -> None:
    """A sandbox whose port is taken says so."""
    async with Sandbox() as server:
        port = server.url.rpartition(":")[2]
        ended = await asyncio.to_thread(invoke, "sandbox", "--port", port)
        is_refused(ended, f"cannot listen at 127.0.0.1:{port}: address already in use; name another --port, 0 for a free one")
    ended = await asyncio.to_thread(invoke, "sandbox", "--host", "192.0.2.1", "--port", 0)
    is_refused(ended, "cannot listen at 192.0.2.1:0: ", "or another --host")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("identify",), "no input: name a FILE, or - for standard input, or give a query with --sql"),
        (("identfy", "x"), "identify"),
        (("identify", "x", "--rat", "4"), "--rate"),
        (("identify", "x", "--rate", "0"), "'--rate' (env var: 'TEAK_RATE'): '0' is not a whole number of at least 1."),
        (("identify", "x", "--format", "xml"), "'--format': 'xml' is none of csv, jsonl."),
        (("identify", "x", "--secret-key", "s"), "No such option"),
        (("sandbox", "--reset", "2"), "'--reset': '2' is not a number from 0 to 1."),
        (("sandbox", "--limit", "exclusions"), "--limit: 'exclusions' is not of the form exclusions=5"),
        (("sandbox", "--limit", "exclusions=0"), "--limit: 'exclusions=0' is not of the form exclusions=5, with"),
        (("sandbox", "--limit", "exclusion=5"), "exclusion: limits are identify, "),
        (("demo", "--window", "hopping"), "'--window': 'hopping' is none of sliding, fixed."),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...], said: str) -> None:
    """A wrong argument is wrong usage, and what is right is named."""
    ended = invoke(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


def test_without_arguments() -> None:
    """Without arguments the help is shown."""
    ended = invoke()
    assert ended.code == 2
    assert "teak-async demo" in " ".join((ended.out + ended.err).split())


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("identify", ("user_id and client_ip or country_code", "run a file again only with the same --journal")),
        ("opt-out", ("Stop desktop web push for each row's user_id", "a column category")),
        ("opt-in", ("Allow desktop web push for each row's user_id", "a column category")),
        ("status", ("Read the desktop web push subscription of each row's user_id",)),
        ("exclude", ("Exclude each row's user_id from all marketing", "do not come back")),
        ("end-exclusion", ("End the exclusion of each row's user_id",)),
        ("sandbox", ("stand-in for Teak's server", "Ctrl-C ends it and shows what it saw", "0 takes a free one")),
        ("demo", ("made-up players", "compare what both sides counted")),
    ],
)
def test_help(command: str, said: tuple[str, ...], option: str) -> None:
    """The help of each command tells what it does and what a row needs."""
    ended = invoke(command, option)
    shown = " ".join(ended.out.split())
    assert ended.code == 0
    if command not in {"sandbox", "demo"}:
        said += (
            "CSV",
            "JSON Lines",
            "- for standard input",
            "TEAK_BASE_URL",
            "3 rows in doubt, and perhaps others failed or not sent: "
            + ("leave those in doubt, or add --resend-in-doubt; 75" if command == "identify" else "repeat the command; 75"),
            "75 the server is out; 130 interrupted by Ctrl-C, SIGTERM or SIGHUP; 137 killed.",
        )
    for part in said:
        assert part in shown
    assert "\\b" not in ended.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_teaches(command: str) -> None:
    """No argument and no option is left without a word, and there is none for the secret; example and exit codes are there."""
    group: Any = typer.main.get_command(app)
    assert tuple(group.commands) == COMMANDS
    for parameter in group.commands[command].params:
        assert parameter.help, parameter.name
        assert "secret" not in parameter.name
    shown = invoke(command, "--help").out.splitlines()
    assert any(re.match(f"  teak-async {command}( |$)", line) for line in shown), (
        "an example is a line of its own, to be copied"
    )
    assert any(line.startswith("  Exit codes: 0 ") for line in shown)
    assert not any(re.match("  -.*<|.*x>=", line) for line in shown), "no type is named as a program names it"


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_values_are_told_in_words_of_the_command(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number, a choice or a switch is not told in the words of what validates it, wherever it comes from."""
    group: Any = typer.main.get_command(app)
    given = {"report": ("run.db",), "limits": ("x.db",), "unsubscriptions": ("--since", "1h")}.get(command, ())
    for parameter in group.commands[command].params:
        if getattr(parameter, "is_bool_flag", False) and parameter.envvar:
            monkeypatch.setenv(parameter.envvar, "perhaps")
            ended = invoke(command, *given)
            monkeypatch.delenv(parameter.envvar)
            assert "'perhaps' is neither 1 nor 0." in ended.err
        elif (parameter.metavar or "") in ("N", "LINE") or "|" in (parameter.metavar or ""):
            ended = invoke(command, *given, parameter.opts[0], "perhaps")
            assert re.search(r"'perhaps' is (not a (whole )?number|none of)", ended.err), parameter.name
        else:
            continue
        assert ended.code == 2
        assert not re.search("Input should|Value error|valid", ended.err.replace("Invalid value for", ""))


def test_general_help() -> None:
    """The first page names the credentials, the demo, every command and the exit codes."""
    ended = invoke("--help")
    shown = " ".join(ended.out.split())
    assert ended.code == 0
    for part in ("TEAK_GAME_ID and TEAK_SECRET_KEY", "Start with: teak-async demo", "Exit codes: 0", *COMMANDS):
        assert part in shown


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The entry point shows the version and ends well."""
    monkeypatch.setattr(sys, "argv", ["teak-async", "--version"])
    with pytest.raises(SystemExit) as left:
        run()
    assert left.value.code == 0
    assert capsys.readouterr().out == f"teak-async {__version__}\n"


async def test_standard_input() -> None:
    """A pipe is read as a file is; results are UTF-8 whatever the machine's encoding, and progress is plain lines."""
    async with fast() as server, started(server.url, "identify", "-", PYTHONIOENCODING="ascii") as process:
        ended = await finish(process, '{"user_id": "Жук", "country_code": "FR"}\n{"user_id": "b"}\n'.encode())
        assert set(server.players) == {"Жук"}
    assert ended.code == 1
    assert [(row["line"], row["delivery"]) for row in ended.rows] == [(1, "done"), (2, "not_sent")]
    assert '"user_id": "Жук"' in ended.out
    assert "\x1b" not in ended.err
    assert [re.sub(r"^\S+Z ", "", line).partition(",")[0] for line in ended.err.splitlines()] == [
        "identify for game sandbox at " + server.url + "; standard input: JSON Lines",
        "identify: 2",
        "2 rows: 1 succeeded",
        "          1 failed",
        "the failed rows are not sent again: take their lines out of the input",
    ]


async def test_interrupted_while_standard_input_stays_open() -> None:
    """Ctrl-C ends a command whose input says nothing more, as any other."""
    async with fast() as server, started(server.url, "identify", "-") as process:
        assert process.stdin is not None
        process.stdin.write(b"user_id,country_code\np,FR\n")
        await requests(server, 1)
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), WAIT) == 130
        ended = await finish(process)
    assert [row["user_id"] for row in ended.rows] == ["p"]
    assert "Fatal" not in ended.err


def test_interrupted_before_the_first_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the first row is awaited is an interrupt too, in the same words."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("teak_async._cli.commands.RowReader", interrupt)
    assert invoke("identify", "-", **credentials(NOWHERE)) == Ended(130, "", "teak-async: interrupted; nothing was sent\n")


async def test_on_a_terminal(tmp_path: Path) -> None:
    """On a terminal there is a live block with the rate beside the limit, and the results stay clean."""
    leader, follower = pty.openpty()
    drawn: list[bytes] = []
    loop = asyncio.get_running_loop()
    loop.add_reader(leader, lambda: drawn.append(os.read(leader, 1 << 16)))
    async with fast() as server, started(server.url, "identify", players(tmp_path, 3), stderr=follower) as process:
        ended = await finish(process)
    loop.remove_reader(leader)
    while select.select([leader], [], [], 0)[0]:
        drawn.append(os.read(leader, 1 << 16))
    os.close(leader)
    os.close(follower)
    shown = b"".join(drawn).decode()
    assert (ended.code, len(ended.rows)) == (0, 3)
    assert "\x1b[2K" in shown
    assert "identify: 3 of 3" in shown
    assert "at most 200/s" in shown
    assert "3 rows: 3 succeeded" in shown
    assert SECRET not in shown


async def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C sends nothing new, ends what is on the wire, and every session of the server's is in the results."""
    async with (
        fast(faults=Faults(delay=0.1)) as server,
        started(server.url, "identify", players(tmp_path, 2000), "--rate", 100) as process,
    ):
        await requests(server, 20)
        process.send_signal(signal.SIGINT)
        ended = await finish(process)
        assert len(ended.rows) == len(server.players) == server.seen[IDENTIFY].requests < 500
    assert ended.code == 130
    assert {row["delivery"] for row in ended.rows} == {"done"}
    assert "Traceback" not in ended.err
    assert f": {len(ended.rows)} succeeded, 0 failed, 0 in doubt, " in ended.err.splitlines()[-2]
    assert ended.err.splitlines()[-2].startswith("interrupted: ")
    assert re.fullmatch(
        "left to do: 1,[0-9]{3} of 2,000 rows; without --journal only the results tell .*", ended.err.splitlines()[-1]
    )


async def test_interrupted_twice(tmp_path: Path) -> None:
    """A second Ctrl-C leaves at once, though answers are still awaited."""
    async with (
        fast(faults=Faults(stall=1.0, stall_for=600.0)) as server,
        started(server.url, "identify", players(tmp_path, 2000)) as process,
    ):
        await requests(server, 20)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = [await asyncio.wait_for(process.stderr.readline(), WAIT) for _ in range(2)]
        assert b"interrupt again to end without it" in said[-1]
        process.send_signal(signal.SIGINT)
        ended = await finish(process)
    assert ended.code == 130
    assert "Traceback" not in ended.err


async def test_closed_standard_output(tmp_path: Path) -> None:
    """When the reader of the results goes, as `head -1` does, the run ends with one clear line and sends no more."""
    out, into = os.pipe()
    async with fast() as server:
        async with started(server.url, "identify", players(tmp_path, 5000), "--rate", 2000, stdout=into) as process:
            os.close(into)
            with os.fdopen(out, "rb") as reader:
                first = await asyncio.to_thread(reader.readline)
            ended = await finish(process)
        assert 0 < server.summary()["sessions"] < 5000
    assert json.loads(first)["delivery"] == "done"
    assert ended.code == 2
    assert ended.err.splitlines()[-1].startswith("teak-async: the results cannot be written: Broken pipe; ")
    assert "Traceback" not in ended.err
    assert "Exception ignored" not in ended.err


async def test_sandbox(tmp_path: Path) -> None:
    """The sandbox tells how to use it, can be used so, and ends at Ctrl-C with what it saw."""
    async with started(NOWHERE, "sandbox", "--port", 0, "--identify", 5000, "--players", 2) as process:
        assert process.stdout is not None
        said = b"".join([await asyncio.wait_for(process.stdout.readline(), WAIT) for _ in range(2)]).decode()
        told = dict(re.findall(r"(TEAK_\w+)=(\S+)", said))
        assert set(told) == {"TEAK_BASE_URL", "TEAK_GAME_ID", "TEAK_SECRET_KEY"}
        assert f"Teak sandbox at {told['TEAK_BASE_URL']}; open it to see" in said
        used = await asyncio.to_thread(invoke, "identify", players(tmp_path, 3), **told)
        assert (used.code, len(used.rows)) == (0, 3)
        (tmp_path / "made_up.csv").write_text("user_id,email\nplayer-000000,eve@example.com\nplayer-000001,\n")
        used = await asyncio.to_thread(invoke, "opt-out", tmp_path / "made_up.csv", "--channel", "all", **told)
        assert (used.code, len(used.rows)) == (0, 5)
        process.send_signal(signal.SIGINT)
        ended = await finish(process)
    assert (ended.code, ended.err) == (0, "")
    assert f"{IDENTIFY}: 3 requests, 0 rate-limited, busiest second " in ended.out
    opted_out = "2 on desktop_push, 2 on push, 1 on email"
    assert ended.out.splitlines()[-1] == f"5 players, 3 sessions; opted out: {opted_out}"


async def test_a_sandbox_for_others() -> None:
    """A sandbox that listens beyond this machine warns of it."""
    async with started(NOWHERE, "sandbox", "--port", 0, "--host", "0.0.0.0") as process:  # noqa: S104 - what it warns of
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), WAIT)
        process.send_signal(signal.SIGINT)
        ended = await finish(process)
    assert ended.code == 0
    assert re.fullmatch(r"http://0\.0\.0\.0:\d+ is open to the network: all who reach it .*\n", ended.err)


async def test_sandbox_with_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each option of the sandbox is the fault of its name."""
    made: list[Any] = []
    monkeypatch.setattr("teak_async._cli.hosting.Sandbox", lambda **options: made.append(options))
    names = [name for name in fields_dict(Faults) if name != "seed"]
    options = {name: 0.01 * number for number, name in enumerate(names, 1)}
    arguments = [part for name, share in options.items() for part in (f"--{name.replace('_', '-')}", str(share))]
    monkeypatch.setattr("teak_async._cli.hosting._serve", interrupted)
    monkeypatch.setattr("teak_async._cli.hosting._describe_traffic", lambda server: "seen")
    ended = await asyncio.to_thread(
        invoke,
        "sandbox",
        "--seed",
        7,
        "--window",
        "fixed",
        "--identify",
        2,
        "--subscription",
        3,
        "--port",
        1,
        *arguments,
        "--limit",
        "exclusions=5",
        "--limit",
        "categories=7",
    )
    assert (ended.code, ended.out) == (0, "seen\n")
    assert made == [
        {
            "window": "fixed",
            "identify": 2,
            "subscription": 3,
            "host": "127.0.0.1",
            "port": 1,
            "limits": {"exclusions": 5, "categories": 7},
            "faults": Faults(7, **options),
        }
    ]


async def test_the_pages_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that the page gives to copy starts a sandbox with those settings."""
    made: list[Sandbox] = []

    async def serve(server: Sandbox) -> None:
        made.append(server)

    monkeypatch.setattr("teak_async._cli.hosting._serve", serve)
    names = [name for name in fields_dict(Faults) if name != "seed"]
    faults = Faults(7, **{name: 0.01 * number for number, name in enumerate(names, 1)})
    for settings in (Settings(), Settings("fixed", {"identify": 2, "exclusions": 5}, faults)):
        ended = await asyncio.to_thread(invoke, *shlex.split(settings.as_shell())[1:])
        assert (ended.code, made.pop().settings) == (0, settings)


def test_the_options_name_what_there_is() -> None:
    """The module of options repeats constants and defaults, since the modules that have them take long to import."""
    assert tuple(limit_models.LIMIT_MODELS) == tuple(LimitModelName)
    assert _session.API == API
    assert Faults(**FaultOptions()._asdict()) == Faults()


async def interrupted(_: object) -> None:
    """End as Ctrl-C ends."""
    raise KeyboardInterrupt


async def test_without_typer() -> None:
    """Where the extra is not installed, one line says how to install it."""
    code = "import sys, runpy; sys.modules['typer'] = None; runpy.run_module('teak_async', run_name='__main__')"
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT, timeout=WAIT
    )
    assert Ended(ended.returncode, ended.stdout, ended.stderr) == Ended(
        1, "", "teak-async: the command needs its extra: pip install 'teak_async[cli]'\n"
    )


@pytest.mark.parametrize("to", ["/dev/full", ">/dev/full"])
async def test_a_full_disk_is_said(tmp_path: Path, to: str) -> None:
    """When results cannot be written any more the run stops with one line that counts what was done."""
    options = ["--output", to] if not to.startswith(">") else []
    async with fast() as server:
        full = os.open("/dev/full", os.O_WRONLY)
        stdout = full if to.startswith(">") else PIPE
        async with started(server.url, "identify", players(tmp_path, 5000), *options, stdout=stdout) as process:
            os.close(full)
            ended = await finish(process)
        assert 0 < server.summary()["sessions"] < 5000
    assert ended.code == 2
    assert "cannot be written: No space left on device; " in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err


def test_the_input_is_not_overwritten(tmp_path: Path) -> None:
    """Results written over the input would be the end of it."""
    source = players(tmp_path, 3)
    before = Path(source).read_text()
    is_refused(invoke("identify", source, "--output", source, **credentials(NOWHERE)), "this is the input")
    assert Path(source).read_text() == before


async def test_the_journal_is_not_overwritten(tmp_path: Path) -> None:
    """Neither results nor a report's rows go over the journal, nor the failed rows over those in doubt."""
    source, journal = players(tmp_path, 3), tmp_path / "run.db"
    async with fast() as server:
        is_refused(await ask(server, "identify", source, "--journal", journal, "--output", journal), "this is the journal")
        assert not journal.exists()
        await ask(server, "identify", source, "--journal", journal)
    before = journal.read_bytes()
    for option in ("--failed", "--in-doubt"):
        is_refused(invoke("report", journal, option, tmp_path / "." / "run.db"), "this is the journal")
    other = tmp_path / "other.db"
    other.hardlink_to(journal)
    is_refused(invoke("report", journal, "--failed", other), "this is the journal")
    async with fast() as server:
        is_refused(await ask(server, "identify", source, "--journal", journal, "--output", other), "this is the journal")
    both = tmp_path / "rows.csv"
    is_refused(invoke("report", journal, "--failed", both, "--in-doubt", both), "two files")
    assert journal.read_bytes() == before
    assert not both.exists()


async def test_results_are_kept_until_there_are_others(tmp_path: Path) -> None:
    """A run that cannot begin leaves the results of an earlier one as they are; none replaces them unasked."""
    source, output, nowhere = players(tmp_path, 2), tmp_path / "out.jsonl", tmp_path / "none" / "run.db"
    output.write_text("the proof\n")
    async with fast() as server:
        arguments = ("identify", source, "--journal", nowhere, "--output", output, "--overwrite")
        is_refused(await ask(server, *arguments), "not there; name a file")
        assert output.read_text() == "the proof\n"
        is_refused(await ask(server, "identify", source, "--output", output), "exists already")
        is_refused(await ask(server, "identify", source, "-o", output, "-j", tmp_path / "new.db"), "exists already")
        assert (output.read_text(), server.players) == ("the proof\n", {})
        await ask(server, "identify", source, "--output", output, "--overwrite")
    assert [json.loads(line)["delivery"] for line in output.read_text().splitlines()] == ["done", "done"]


async def test_a_report_replaces_no_file(tmp_path: Path) -> None:
    """Rows that somebody has corrected by hand are not written over, unless that is asked for."""
    source, journal, corrected = players(tmp_path, 2), tmp_path / "run.db", tmp_path / "failed.csv"
    corrected.write_text("user_id\nby hand\n")
    async with fast() as server:
        await ask(server, "identify", source, "--journal", journal)
    for option in ("--failed", "--in-doubt"):
        is_refused(invoke("report", journal, option, corrected), "exists already")
    assert corrected.read_text() == "user_id\nby hand\n"
    assert invoke("report", journal, "--failed", corrected, "--overwrite").code == 0
    assert "by hand" not in corrected.read_text()


async def test_a_resumed_run_begins_a_new_line(tmp_path: Path) -> None:
    """A line that a full disk has cut off spoils no line of the run that goes on."""
    source, output, journal = players(tmp_path, 2), tmp_path / "out.jsonl", tmp_path / "run.db"
    async with fast() as server:
        for kept in ("", '{"index": 0, "li', '{"index": 0}\n'):
            journal.unlink(missing_ok=True)
            journal.touch()
            output.write_text(kept)
            await ask(server, "identify", source, "--journal", journal, "--output", output)
            lines = output.read_text().splitlines()
            assert lines[:-2] == kept.splitlines()
            assert [json.loads(line)["delivery"] for line in lines[-2:]] == ["done", "done"]


LONG = "x" * 300


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("identify", "IN", "--output", LONG), "File name too long"),
        (("identify", "IN", "--journal", LONG), "File name too long; give it a shorter name"),
        (("identify", "IN", "--journal", LONG, "--dry-run"), "File name too long"),
        (("identify", "IN", "--journal", "/no/such/run.db", "--dry-run"), "its folder is not there"),
        (("identify", "IN", "--journal", "/proc", "--dry-run"), "a folder; name a file"),
        (("identify", "IN", "--output", "/no/such/out", "--dry-run"), "cannot be written; name a file"),
        (("identify", "IN", "--output", "/proc", "--dry-run"), "cannot be written; name a file"),
        (("report", LONG), "File name too long"),
        (("identify", "IN", "--journal", "LOOP"), "loop"),
        (("identify", "IN", "--journal", "DB", "--output", "LOOP"), "loop"),
        (("report", "DB", "--failed", "LOOP"), "loop"),
        (("report", "DB", "--failed", "/dev/full"), "/dev/full: cannot be written: No space left on device; make room"),
        (("report", "DB", "--failed", "/no/such/folder"), "/no/such/folder: cannot be written: No such file"),
        (("identify", "IN", "--deadline", "0001-01-01T00:00:00"), "--deadline: 0001-01-01 00:00:00 is a time"),
        (("identify", "IN", "--journal", "IN2"), "file is not a database; name the file that a run was given as its journal"),
        (("report", "IN2"), "file is not a database; name the file that a run was given as its journal"),
        (("report", "/no/such.db"), "no such journal; name the file that a run was given as its journal"),
        (("report", "DB", "--row", 1), "has nothing on line 1; the rows that were read are lines 2 to 2 of the input"),
        (("report", "DB", "--user", "p9"), "has nothing on the player p9; the rows that were read are lines 2 to 2"),
        (("identify", "IN", "--rows", "5-2"), "--rows: '5-2' goes backwards; write 2-5"),
        (
            ("identify", "IN", "--constant", "country_code=US", "-j", "DB"),
            "its options are the default, not '--constant country_c",
        ),
        (("identify", "IN", "--resend-in-doubt"), "--resend-in-doubt: rows in doubt are in a journal; name it with --journal"),
        (("limits", "/no/such.db"), "no such ledger; name the one of a command's --share, or of TEAK_SHARE; the first that"),
        (("identify", "IN", "--share", "/no/such/x.db"), "--share '/no/such/x.db' "),
        (("identify", "IN", "--share", "redis:/x"), "--share 'redis:/x' lacks a slash"),
        (("identify", "/proc/self/mem"), "/proc/self/mem: cannot be read after line 0: Input/output error"),
    ],
)
async def test_what_the_system_refuses_is_said(tmp_path: Path, arguments: tuple[Any, ...], said: str) -> None:
    """A file that cannot be had, and a time that there is not, is one line that names it, and nothing is sent."""
    source, journal = tmp_path / "in.csv", tmp_path / "run.db"
    source.write_text("user_id,client_ip\nbroken\n")
    async with fast() as server:
        await ask(server, "identify", source, "--journal", journal)
        loop = tmp_path / "loop"
        loop.symlink_to(loop)
        (other := tmp_path / "other.csv").write_text("user_id,client_ip\n" + "p,1.2.3.4\n" * 200)
        named = {"IN": source, "IN2": other, "DB": journal, "LOOP": loop}
        is_refused(await ask(server, *(named.get(argument, argument) for argument in arguments)), said)
        assert server.seen[IDENTIFY].requests == 0


@pytest.mark.parametrize(
    ("closed", "code", "out", "err"),
    [(1, 2, 0, "teak-async: standard output is closed; name a file with --output\n"), (2, 0, 3, "")],
)
async def test_closed_streams(tmp_path: Path, closed: int, code: int, out: int, err: str) -> None:
    """Without standard output nothing is sent; without standard error nothing that belongs there is among the results."""
    source = players(tmp_path, 3)
    async with fast() as server:
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", f'exec "$@" {closed}>&-', "sh", sys.executable, "-m", "teak_async", "identify", str(source)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=environment(server.url),
            cwd=ROOT,
        )
        ended = await finish(process)
        assert server.seen[IDENTIFY].requests == out
    assert (ended.code, len(ended.rows), ended.err) == (code, out, err)


async def test_a_journal_gives_rows_back_byte_by_byte(tmp_path: Path) -> None:
    """What is no UTF-8 comes back as it stood, for in other letters it is another name; what is too long is missed."""
    source, journal, failed = tmp_path / "in.csv", tmp_path / "run.db", tmp_path / "failed.csv"
    broken = b"user_id,country_code\ncaf\xe9,US\n\xef\xbb\xbf\xf0\x9f\x98\x80\0,USA\n"
    source.write_bytes(broken + b"x" * (MAX_LINE + 1) + b",US\np4,US\n")
    async with fast() as server:
        assert (await ask(server, "identify", source, "--journal", journal)).code == 1
        told = invoke("report", journal, "--failed", failed)
        assert set(server.players) == {"p4"}
    header, *rows = broken.split(b"\n")
    written = failed.read_bytes().split(b"\n")
    assert written[:2] == [
        b"why,line," + header,
        b"not UTF-8 text,2," + rows[0],
    ]
    assert written[2].endswith(b",3," + rows[1])
    assert written[3:] == [b""]
    assert f"{failed}: 2 rows; rows that were too long for the journal are missing: 1; to run them" in told.err


async def test_a_journal_gives_failed_rows_back(tmp_path: Path) -> None:
    """What failed and what is in doubt come back under the header as they stood, ready to be corrected and fed in."""
    source, journal = tmp_path / "in.csv", tmp_path / "run.db"
    source.write_text("user_id,client_ip\n p1 ,203.0.113.9\nbroken\np3,nowhere\np4,203.0.113.9\n")
    failed, doubt = tmp_path / "failed.csv", tmp_path / "doubt.csv"
    async with fast() as server:
        server.fail_next("identify", "response_lost", "response_lost")
        ended = await ask(server, "identify", source, "--journal", journal)
        assert ended.code == 3
        again = await ask(server, "identify", source, "--journal", journal)
        assert (again.code, again.rows) == (3, [])
        assert "the journal, of all runs: 4 rows: 0 succeeded, 2 failed, 2 in doubt, 0 not sent" in again.err
        told = invoke("report", journal, "--failed", failed, "--in-doubt", doubt)
        counts = json.loads(invoke("report", journal, "--json").out)
    assert told.code == 0
    assert "\n4 rows in the journal:\n" in told.out
    assert failed.read_text().splitlines() == [
        "why,line,user_id,client_ip",
        "1 cell where the header has 2,3,broken",
        '"client_ip: must be one IPv4 or IPv6 address, not a host name",4,p3,nowhere',
    ]
    header, first, second = doubt.read_text().splitlines()
    assert header == "why,line,user_id,client_ip"
    assert first.endswith(",2, p1 ,203.0.113.9")
    assert second.endswith(",5,p4,203.0.113.9")
    assert {name: counts[name] for name in ("rows_read", "succeeded", "failed", "in_doubt")} == {
        "rows_read": 4,
        "succeeded": 0,
        "failed": 2,
        "in_doubt": 2,
    }
    assert {player.sessions for player in server.players.values()} == {1}


async def test_a_dry_run_sends_nothing(tmp_path: Path) -> None:
    """It reads everything, and says what would be sent, how long that takes, and what cannot be sent."""
    source, journal = tmp_path / "in.csv", tmp_path / "run.db"
    bad = "".join(f"broken{number}\n" for number in range(7))
    good = "".join(f"p{number},203.0.113.9\n" for number in range(400))
    source.write_text("user_id,client_ip\n" + good[: len(good) // 2].rsplit("\n", 1)[0] + "\n")
    async with fast() as server:
        await ask(server, "identify", source, "--journal", journal)
        sent = server.seen[IDENTIFY].requests
        source.write_text("user_id,client_ip\n" + good + bad)
        ended = await ask(server, "identify", source, "--journal", journal, "--dry-run")
        assert server.seen[IDENTIFY].requests == sent
    assert ended.code == 1
    opening, first, second, *problems = ended.out.splitlines()
    assert opening == f"identify for game sandbox at {server.url}; {source}: CSV separated by commas, UTF-8; journal {journal}"
    assert first == f"407 rows: {400 - sent} to send, in 0:0{round((400 - sent) / 200)} at 200/s"
    assert second == f"  {sent} finished before, 0 in doubt, 7 cannot be sent"
    assert problems[0] == "  line 402: 1 cell where the header has 2"
    assert problems[5:7] == ["  and 2 more", "the first rows as they would be sent, without game_id and secret_key:"]
    request = {"client_ip": "203.0.113.9", "user_id": f"p{sent}"}
    assert problems[7] == f"  line {sent + 2}: POST /v2/identify {json.dumps(request, separators=(',', ':'))}"
    assert problems[-1] == "Nothing was sent."


def test_a_dry_run_says_what_a_deadline_leaves(tmp_path: Path) -> None:
    """Rows that would come too late are counted before anything is sent, and fail the dry run as they would fail the run."""
    source = tmp_path / "in.csv"
    source.write_text("user_id\np1\np2\np3\n")
    ended = invoke("opt-out", source, "--rate", 1, "--deadline", "1s", "--dry-run", **credentials(NOWHERE))
    assert ended.code == 1
    assert "3 rows: 3 to send" in ended.out
    assert re.search("the deadline is too early: it leaves at least [23] of these unsent", ended.out)
    late = invoke("opt-out", source, "--deadline", "2999-01-01", "--dry-run", **credentials(NOWHERE))
    assert late.code == 0
    assert "the deadline is late enough" in late.out


async def test_a_dry_run_says_what_failed_before(tmp_path: Path) -> None:
    """It ends as the run would: a row that failed in an earlier run is failed, and an empty file may become a journal."""
    source, journal = tmp_path / "in.csv", tmp_path / "run.db"
    source.write_text("user_id,country_code\np1,US\np2,France\n")
    journal.touch()
    async with fast() as server:
        before = await ask(server, "identify", source, "--journal", journal, "--dry-run")
        ran = await ask(server, "identify", source, "--journal", journal)
        after = await ask(server, "identify", source, "--journal", journal, "--dry-run")
    assert (before.code, ran.code, after.code) == (1, 1, 1)
    assert "  0 finished before, 0 in doubt, 1 cannot be sent" in before.out
    assert "  2 finished before (1 of which had failed), 0 in doubt, 0 cannot be sent" in after.out


async def test_a_dry_run_says_why_its_exit_code_is_none_of_success(tmp_path: Path) -> None:
    """Rows to be sent again are not counted as in doubt, and the code tells of what no run would change."""
    source, journal = tmp_path / "in.csv", tmp_path / "run.db"
    source.write_text("user_id,country_code\np1,US\np2,France\np3,US\n")
    async with fast() as server:
        server.fail_next("identify", "response_lost")
        await ask(server, "identify", source, "--journal", journal)
        doubtful = await ask(server, "identify", source, "--journal", journal, "--dry-run")
        again = await ask(server, "identify", source, "--journal", journal, "--dry-run", "--resend-in-doubt")
        ran = await ask(server, "identify", source, "--journal", journal, "--resend-in-doubt")
    assert (doubtful.code, again.code, ran.code) == (3, 1, 1)
    assert "  2 finished before (1 of which had failed), 1 in doubt, 0 cannot be sent" in doubtful.out
    said = "even if all that it sends succeeds, the run ends with exit code"
    assert f"\n{said} 3: 1 in doubt, 1 failed before\n" in doubtful.out
    assert "3 rows: 1 to send, in under 1 s at 200/s" in again.out
    assert "  2 finished before (1 of which had failed), 1 in doubt (1 of which is sent again), 0 cannot be sent" in again.out
    assert f"\n{said} 1: 1 failed before\n" in again.out


def test_a_dry_run_knows_another_input(tmp_path: Path) -> None:
    """The journal of other rows, of more rows or of another command is found without sending anything."""
    source, journal = tmp_path / "in.csv", tmp_path / "run.db"

    async def run_once() -> None:
        async with fast() as server:
            await ask(server, "identify", source, "--journal", journal)

    source.write_text("user_id,client_ip\np1,203.0.113.9\np2,203.0.113.9\n")
    asyncio.run(run_once())
    given = credentials(NOWHERE)
    source.write_text("user_id,client_ip\np1,203.0.113.8\np2,203.0.113.9\n")
    is_refused(invoke("identify", source, "--journal", journal, "--dry-run", **given), "line 2 is not what it was")
    source.write_text("user_id,client_ip\np1,203.0.113.9\n")
    is_refused(invoke("identify", source, "--journal", journal, "--dry-run", **given), "a longer input")
    source.write_text("user_id\np1\n")
    refused = invoke("opt-out", source, "--journal", journal, "--dry-run", **given)
    is_refused(refused, "its command is 'identify', not 'opt-out'; give this one its own journal")


def test_what_is_no_journal_is_not_reported(tmp_path: Path) -> None:
    """A name that is none, and a place that cannot be written, are clear errors."""
    is_refused(invoke("report", tmp_path / "none.db"), "no such journal")


async def test_a_deadline_that_has_passed_sends_nothing(tmp_path: Path) -> None:
    """It is refused: nobody means it, and a file of rows that were not sent would look like a result."""
    async with fast() as server:
        ended = await ask(server, "identify", players(tmp_path, 3), "--deadline", "2020-01-01")
        assert server.players == {}
    is_refused(ended, "--deadline: 2020-01-01 has passed", "name a later time")


SIDES = ("", "-wal", "-shm", "-lock", "-journal")


@pytest.mark.parametrize("side", SIDES)
async def test_no_output_goes_over_a_part_of_the_journal(tmp_path: Path, side: str) -> None:
    """The files beside a journal are refused by every name that they have, there or not, and stay as they are."""
    source, journal = players(tmp_path, 3), tmp_path / "run.db"
    async with fast() as server:
        await ask(server, "identify", source, "--journal", journal)
        here, part = tmp_path / "link.db", tmp_path / f"run.db{side}"
        here.symlink_to(journal)
        link, dangling, hard = tmp_path / "link", tmp_path / "to" / "link", tmp_path / "hard"
        link.symlink_to(part)
        dangling.parent.mkdir()
        dangling.symlink_to(link)
        outputs = [part, link, dangling, tmp_path / "to" / ".." / part.name]
        if part.exists():
            hard.hardlink_to(part)
            outputs.append(hard)
        before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        for output in outputs:
            for options in (("--journal", journal), ("--journal", here), ("--journal", here, "--dry-run")):
                ended = await ask(server, "identify", source, "--output", output, *options)
                is_refused(ended, str(output), "the journal", "write the results to another file")
            for option in ("--failed", "--in-doubt"):
                is_refused(invoke("report", here, option, output), str(output), "the journal", "write to another file")
        assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
        await ask(server, "identify", source, "--journal", journal, "--output", tmp_path / "run.db-wal2")


async def test_a_new_journal_has_its_parts_too(tmp_path: Path) -> None:
    """The files beside a journal that is not there yet are refused as well."""
    source = players(tmp_path, 3)
    async with fast() as server:
        for side in SIDES:
            output = tmp_path / f"new.db{side}"
            is_refused(await ask(server, "identify", source, "--journal", tmp_path / "new.db", "-o", output), "the journal")
        assert not server.players
    assert [path.name for path in tmp_path.iterdir()] == ["players.csv"]


@pytest.mark.parametrize("side", ["", "-wal", "-journal"])
def test_no_journal_goes_over_the_input(tmp_path: Path, side: str) -> None:
    """SQLite would take an input of such a name for a part of the journal, and remove it."""
    source = tmp_path / f"run{side}"
    source.write_text(players_csv(3))
    ended = invoke("identify", source, "--journal", tmp_path / "run", **credentials(NOWHERE))
    is_refused(ended, "this is the input, and the journal would overwrite it; name another file as journal")
    assert source.read_text() == players_csv(3)


@pytest.mark.parametrize(
    ("name", "said"), [("players.csv", "is the input"), ("run.db", "is the journal"), ("run.db-lock", "-lock")]
)
async def test_standard_output_goes_over_neither(tmp_path: Path, name: str, said: str) -> None:
    """What a shell appends to is looked at as a named output is."""
    source, journal = players(tmp_path, 3), tmp_path / "run.db"
    async with fast() as server:
        await ask(server, "identify", source, "--journal", journal)
        before = (tmp_path / name).read_bytes()
        descriptor = os.open(tmp_path / name, os.O_WRONLY | os.O_APPEND)
        async with started(server.url, "identify", source, "--journal", journal, stdout=descriptor) as process:
            os.close(descriptor)
            ended = await finish(process)
    assert ended.code == 2
    assert said in ended.err
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("variable", ["TEAK_GAME_ID", "TEAK_SECRET_KEY"])
@pytest.mark.parametrize("value", [None, " \n", "caf\udce9-of-many-letters"])
def test_credentials_are_asked_for_in_words_of_the_command(tmp_path: Path, variable: str, value: str | None) -> None:
    """A person at a shell is told of the environment, and of no parameter."""
    ended = invoke("identify", players(tmp_path, 1), **{**credentials(NOWHERE), variable: value})
    is_refused(ended, variable, "in the environment")
    assert "pass " not in ended.err
    assert "TeakSession" not in ended.err


@pytest.mark.parametrize("text", ["soon", "", "01/02/2026 18:00", "2026-02-30", "90"])
def test_a_deadline_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    """What cannot be read is one line in the command's own words, with what can."""
    ended = invoke("identify", players(tmp_path, 1), "--deadline", text, **credentials(NOWHERE))
    is_refused(ended, "teak-async: --deadline: ", "write 2026-01-31 18:00, ", "or 2h30m")


async def test_what_a_deadline_means_is_said(tmp_path: Path) -> None:
    """Before anything is sent, the time that was understood is named."""
    async with fast() as server:
        ended = await ask(server, "identify", players(tmp_path, 1), "--deadline", "2h")
        assert ended.code == 0
        assert re.match(r"nothing is sent after \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+\n", ended.err)
        assert (await ask(server, "identify", players(tmp_path, 1), "--deadline", "2h", "--quiet")).err == ""
        ended = await ask(server, "opt-out", players(tmp_path, 1), "--rate", 1000)
        assert ended.err.startswith(
            "--rate 1000 is more than Teak documents (300 a second): right only if Teak allows you more\n"
        )


@pytest.mark.parametrize(
    ("arguments", "work", "error", "code"),
    [
        (("exclusions",), "write_exclusions", KeyboardInterrupt, 130),
        (("exclusions",), "write_exclusions", BrokenPipeError, 2),
        (("unsubscriptions", "--since", "2026-01-01"), "write_unsubscriptions", BrokenPipeError, 2),
        (("limits", "ledger.db", "--watch"), "show_limits", KeyboardInterrupt, 130),
    ],
)
def test_a_list_that_is_left(
    arguments: tuple[str, ...], work: str, error: type[BaseException], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an interrupt, or by a reader that has seen enough: there is nothing to say of it."""

    async def leave(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(commands, work, leave)
    ended = invoke(*arguments, **credentials(NOWHERE))
    assert (ended.code, ended.out, ended.err.partition("since 2026-01-01 00:00:00")[0]) == (code, "", "")
