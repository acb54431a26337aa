from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from math import inf
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from support import FAST, WAIT, fast_sandbox, players_csv, session_on

from teak_async import BulkReport, Forbidden, GameNotFound, Limits, Outage, RetryPolicy, State, TeakSession
from teak_async._cli.counts import Counts
from teak_async._cli.dry_run import DryRun
from teak_async._cli.input import RowReader
from teak_async._cli.job import Exit, Job, exit_code, run_job
from teak_async._cli.schema import RowSchema, identify_schema, state_schema, status_schema
from teak_async._cli.summary import RunEnd
from teak_async.sandbox import IDENTIFY, Faults, Sandbox

Result: TypeAlias = tuple[Exit, BulkReport, list[dict[str, Any]]]


def read(path: Path) -> list[dict[str, Any]]:
    """The results of a run in the input's order."""
    return sorted((json.loads(line) for line in path.read_text("utf-8").splitlines()), key=lambda row: row["index"])


async def run(
    folder: Path,
    session: TeakSession,
    text: str,
    schema: RowSchema | None = None,
    *,
    name: str = "in.csv",
    quiet: bool = False,
    journal: Path | None = None,
) -> Result:
    """Run a job from a file to a file."""
    source, target = folder / name, folder / "out.jsonl"
    source.write_text(text, "utf-8")
    job = Job("some rows", RowReader(str(source), schema or identify_schema()), 200, target, quiet, journal)
    code, report = await asyncio.wait_for(run_job(job, session), WAIT)
    return code, report, read(target)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("in.csv", "user_id,country_code\na,FR\n\nb,DE\n"),
        ("in.jsonl", '\n{"user_id": "a", "country_code": "FR"}\n\n{"user_id": "b", "country_code": "DE"}\n'),
    ],
)
async def test_identify(tmp_path: Path, name: str, text: str) -> None:
    """Every row becomes a session, and a result with its index, its line and what the server said."""
    async with fast_sandbox() as server:
        code, report, rows = await run(tmp_path, session_on(server, limits=FAST), text, name=name)
        assert {user_id: player.sessions for user_id, player in server.players.items()} == {"a": 1, "b": 1}
    assert (code, report.total, report.succeeded) == (Exit.SUCCEEDED, 2, 2)
    assert [(row["index"], row["line"], row["user_id"]) for row in rows] == [(0, 2, "a"), (1, 4, "b")]
    assert [row["response"]["country_code"] for row in rows] == ["FR", "DE"]
    states = {"email": "opt_in", "push": "opt_in", "sms": "opt_in"}
    session_id = rows[0]["response"]["session_id"]
    assert rows[0] == {
        "index": 0,
        "line": 2,
        "state": "succeeded",
        "user_id": "a",
        "delivery": "done",
        "attempts": 1,
        "at": rows[0]["at"],
        "response": {"country_code": "FR", "opt_out_states": states, "session_id": session_id, "deep_link": None},
    }


@pytest.mark.parametrize(
    ("schema", "text", "said"),
    [
        (status_schema(), "user_id\np\n", {"state": "opt_in", "categories": {"sales": "opt_in", "events": "opt_in"}}),
        (state_schema(State.OPT_OUT, None), "user_id\np\n", {"state": "opt_out", "previous_state": "opt_in"}),
        (state_schema(State.OPT_OUT, "sales"), "user_id\np\n", {"category": "sales", "previous_state": "opt_in"}),
        (state_schema(State.OPT_IN, "sales"), "user_id,category\np,a/b\n", {"category": "a/b", "state": "opt_in"}),
    ],
)
async def test_subscriptions(tmp_path: Path, schema: RowSchema, text: str, said: dict[str, Any]) -> None:
    """The other kinds of rows are made as what they are, and their responses are in the results."""
    async with fast_sandbox() as server:
        server.add_player("p")
        code, _, [row] = await run(tmp_path, session_on(server, limits=FAST), text, schema)
    assert (code, row["delivery"]) == (Exit.SUCCEEDED, "done")
    assert row["response"] | said == row["response"]


@pytest.mark.parametrize(
    ("name", "text", "bad"),
    [
        ("in.csv", "user_id,client_ip\na,203.0.113.9\nb,nowhere\nc,203.0.113.9,x\n,203.0.113.9\nd,203.0.113.9\n", (3, 4, 5)),
        ("in.jsonl", '{"user_id":"a","country_code":"FR"}\n{"user_id":\n[]\n{"user_id":"d","country_code":"FR"}\n', (2, 3)),
    ],
)
async def test_bad_rows(tmp_path: Path, name: str, text: str, bad: tuple[int, ...]) -> None:
    """A row that cannot be read fails in its place with its line's number, and the others go on."""
    async with fast_sandbox() as server:
        code, report, rows = await run(tmp_path, session_on(server, limits=FAST), text, name=name)
        assert set(server.players) == {"a", "d"}
    assert (code, report.failed, report.succeeded) == (Exit.SOME_FAILED, len(bad), 2)
    failed = [row for row in rows if "error" in row]
    assert [row["line"] for row in failed] == list(bad)
    for row in failed:
        assert row["error"]["message"].startswith(f"line {row['line']}: ")
        assert (row["error"]["type"], row["delivery"], row["attempts"]) == ("InvalidRequest", "not_sent", 0)
        assert row.get("user_id") == ("b" if name == "in.csv" and row["line"] == 3 else None)
        assert "response" not in row


async def test_bad_row_names_its_parameters(tmp_path: Path) -> None:
    """What is wrong with a row is told parameter by parameter, found here or by the server."""
    text = "user_id,client_ip,country_code,timezone_id\na,nowhere,france,\nb,203.0.113.9,,Mars/Olympus_Mons\n"
    async with fast_sandbox() as server:
        _, _, rows = await run(tmp_path, session_on(server, limits=FAST), text)
    assert [set(row["error"]["errors"]) for row in rows] == [{"client_ip", "country_code"}, {"timezone_id"}]
    assert [(row["delivery"], row["error"].get("status")) for row in rows] == [("not_sent", None), ("rejected", 400)]


async def test_rows_in_doubt(tmp_path: Path) -> None:
    """An identify whose response was lost is in doubt and not sent again, and the run says so with its exit code."""
    async with fast_sandbox() as server:
        server.fail_next("identify", "response_lost", "reset", "error_after")
        code, report, rows = await run(tmp_path, session_on(server, limits=FAST), players_csv(3))
        assert server.seen[IDENTIFY].requests == 3
    assert (code, report.in_doubt, report.failed) == (Exit.IN_DOUBT, 3, 0)
    assert {row["delivery"] for row in rows} == {"unknown"}
    assert sorted(row["error"]["type"] for row in rows) == ["ConnectionLost", "ConnectionLost", "ServerError"]


async def test_a_repeated_row(tmp_path: Path) -> None:
    """A change is repeated after a lost response; its result counts the attempts and says that it was repeated."""
    async with fast_sandbox() as server:
        server.add_player("p")
        server.fail_next("desktop_push_status", "response_lost")
        code, _, [row] = await run(tmp_path, session_on(server, limits=FAST), "user_id\np\n", state_schema(State.OPT_OUT, None))
    assert (code, row["attempts"]) == (Exit.SUCCEEDED, 2)
    assert (row["response"]["previous_state"], row["response"]["repeated"]) == ("opt_out", True)


@pytest.mark.parametrize(
    ("credentials", "said"),
    [
        (("sandbox", "a-wrong-secret"), "is the Server Secret, TEAK_SECRET_KEY, this game's?"),
        (("no-game", "a-wrong-secret"), "Could not find game with id no-game"),
    ],
)
async def test_wrong_credentials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], credentials: tuple[str, str], said: str
) -> None:
    """Wrong credentials end the run at the first responses, say why once, and never show the secret."""
    async with fast_sandbox() as server:
        session = TeakSession(*credentials, base_url=server.url, limits=Limits(50, 50))
        with pytest.raises((Forbidden, GameNotFound), match="stopped, since every row would get the same response") as stopped:
            await run(tmp_path, session, players_csv(2000))
        assert 0 < server.seen[IDENTIFY].requests <= 100
    assert said in str(stopped.value)
    assert "a-wrong-secret" not in str(stopped.value) + capsys.readouterr().err + (tmp_path / "out.jsonl").read_text()


def interrupt_at(server: Sandbox, requests: int, *numbers: int) -> asyncio.Task[None]:
    """Send ourselves signals, one after the other, as soon as the server has so many requests."""

    async def watch() -> None:
        while server.seen[IDENTIFY].requests < requests:
            await asyncio.sleep(0.005)
        for number in numbers:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.05)

    return asyncio.create_task(watch())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_interrupted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int) -> None:
    """One interrupt sends nothing new, and what is on the wire ends with its result."""
    async with fast_sandbox(faults=Faults(delay=0.1)) as server:
        watch = interrupt_at(server, 20, number)
        code, report, rows = await run(tmp_path, session_on(server, limits=Limits(100, 100)), players_csv(1000))
        await watch
        assert len(server.players) == server.seen[IDENTIFY].requests == len(rows) == report.succeeded
    assert code is Exit.INTERRUPTED
    assert 20 <= report.succeeded == report.total - report.not_sent < 500
    shown = capsys.readouterr().err
    assert "interrupted: finishing what is on the wire; interrupt again to end without it" in shown
    assert (
        f"interrupted: 1,000 rows: {report.succeeded} succeeded, 0 failed, 0 in doubt, {1000 - report.succeeded} not sent"
        in shown
    )


@pytest.mark.parametrize(
    "numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT), (signal.SIGHUP, signal.SIGTERM)]
)
async def test_interrupted_twice(tmp_path: Path, numbers: tuple[int, int]) -> None:
    """A second interrupt leaves at once, and every row that the server may have done is a result in doubt."""
    async with fast_sandbox(faults=Faults(stall=1.0, stall_for=600.0)) as server:
        watch = interrupt_at(server, 20, *numbers)
        session = TeakSession(server.game_id, server.secret_key, base_url=server.url)
        code, report, rows = await run(tmp_path, session, players_csv(1000))
        await watch
        assert len(server.players) >= 20
        assert set(server.players) <= {row["user_id"] for row in rows if row["delivery"] == "unknown"}
    assert code is Exit.INTERRUPTED
    assert (report.succeeded, report.total - report.not_sent) == (0, len(rows))


async def test_interrupted_while_the_input_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt ends a run whose standard input stays open and says nothing more."""
    out, into = os.pipe()
    target = tmp_path / "out.jsonl"
    with os.fdopen(into, "wb", buffering=0) as writer, os.fdopen(out) as reader:
        monkeypatch.setattr("teak_async._cli.text.STDIN", reader.fileno())
        writer.write(players_csv(2).encode())
        async with fast_sandbox() as server:
            watch = interrupt_at(server, 2, signal.SIGINT)
            job = Job("identify", RowReader("-", identify_schema()), 200, target)
            code, report = await asyncio.wait_for(run_job(job, session_on(server)), WAIT)
            await watch
        writer.close()
    assert (code, report.total, len(read(target))) == (Exit.INTERRUPTED, 2, 2)


async def test_signals_are_handed_back(tmp_path: Path) -> None:
    """After a run an interrupt is whose it was before."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    async with fast_sandbox() as server:
        await run(tmp_path, session_on(server), players_csv(1))
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.set_wakeup_fd(-1) == -1


async def test_outside_of_the_main_thread(tmp_path: Path) -> None:
    """A job runs where no signal handlers can be had."""
    async with fast_sandbox() as server:
        session = session_on(server)
        code, _, rows = await asyncio.to_thread(lambda: asyncio.run(run(tmp_path, session, players_csv(2))))
    assert (code, len(rows)) == (Exit.SUCCEEDED, 2)


@pytest.mark.parametrize("quiet", [False, True])
async def test_what_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str], quiet: bool) -> None:
    """Progress and summary are plain lines on standard error, and nothing with quiet."""
    async with fast_sandbox() as server:
        await run(tmp_path, session_on(server, limits=FAST), players_csv(3), quiet=quiet)
    captured = capsys.readouterr()
    assert captured.out == ""
    if quiet:
        assert captured.err == ""
    else:
        opening, progress, last = captured.err.splitlines()
        assert opening.endswith(
            "; no journal: after an interruption only the results tell which rows were sent (--journal FILE keeps one)"
        )
        assert re.match(r"\d\d:\d\d:\d\dZ some rows: 3 of 3, ", progress)
        assert progress.endswith("at most 200/s, 0 failed, 0 in doubt")
        assert last.startswith("3 rows: 3 succeeded, 0 failed, 0 in doubt, 0 not sent, in ")


async def test_results_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without an output results are on standard output, and text stays readable."""
    source = tmp_path / "in.csv"
    source.write_text("user_id,country_code\nÉmile,FR\n", "utf-8")
    async with fast_sandbox() as server:
        code, _ = await run_job(Job("identify", RowReader(str(source), identify_schema()), 200), session_on(server))
        assert set(server.players) == {"Émile"}
    assert code is Exit.SUCCEEDED
    assert '"user_id": "Émile"' in capsys.readouterr().out


async def test_total_failure(tmp_path: Path) -> None:
    """Where no server is, no row is finished, and the run ends with what to do."""
    async with fast_sandbox() as server:
        session = session_on(server, limits=FAST, retry=RetryPolicy(max_attempts=2, initial_wait=0.01, outage=0))
    with pytest.raises(Outage, match="calls in a row failed: ConnectFailed: no connection") as outage:
        await run(tmp_path, session, players_csv(3))
    assert "3 rows: 0 succeeded, 0 failed, 0 in doubt, 3 not sent, in " in str(outage.value)
    assert "with one, repeating the command goes on" in str(outage.value)


def counted(**counts: int) -> BulkReport:
    """A report of so many rows in two seconds."""
    parts: dict[str, Any] = {
        "succeeded": 0,
        "failed": 0,
        "in_doubt": 0,
        "skipped": 0,
        "not_sent": 0,
        "failed_earlier": 0,
    } | counts
    total = sum(parts.values()) - parts["failed_earlier"]
    sent = total - parts["skipped"]
    return BulkReport(total=total, sent=sent, elapsed=2.0, rate=sent / 2.0, **parts)


@pytest.mark.parametrize(
    ("report", "ends", "code"),
    [
        (counted(), {}, 0),
        (counted(succeeded=3, skipped=2), {}, 0),
        (counted(succeeded=3, failed=1), {}, 1),
        (counted(failed=1, in_doubt=1), {}, 3),
        (counted(succeeded=3, skipped=2, failed_earlier=1), {}, 1),
        (counted(in_doubt=1, skipped=2, failed_earlier=1), {}, 3),
        (counted(succeeded=3), {"interrupted": True}, 130),
        (counted(failed=1, in_doubt=1), {"interrupted": True}, 130),
    ],
)
def test_verdict(report: BulkReport, ends: dict[str, Any], code: int) -> None:
    """The exit code tells the worst that happened."""
    assert exit_code(report, **ends) == code


def dry_run(**counts: Any) -> DryRun:
    """Nine rows at ten a second, four of them finished, and no deadline."""
    parts: dict[str, Any] = {"invalid": 0, "failed": 0, "in_doubt": 0, "resent": 0, "time_left": inf} | counts
    sends = (9 - 4 - parts["invalid"] - parts["in_doubt"],)
    return DryRun(calls=9, finished=4, sends=sends, first_problems=(), first_rows=(), limit=10, **parts)


@pytest.mark.parametrize(
    ("counts", "code"),
    [
        (dry_run(), 0),
        (dry_run(invalid=1), 1),
        (dry_run(failed=1), 1),
        (dry_run(in_doubt=1), 3),
        (dry_run(invalid=1, failed=1, in_doubt=1), 3),
        (dry_run(time_left=0.1), 1),
        (dry_run(resent=5), 0),
        (dry_run(resent=1, time_left=0.1), 1),
        (dry_run(resent=1, time_left=0), 3),
        (dry_run(resent=5, time_left=0.1), 3),
    ],
)
def test_a_dry_run_ends_as_the_run_would(counts: DryRun, code: int) -> None:
    """The exit code of a dry run is that of the run if all that it sends succeeds; doubt that cannot be ended in time stays."""
    assert counts.exit == code


@pytest.mark.parametrize(("time_left", "late"), [(inf, 0), (0.6, 0), (0.5, 0), (0.49, 1), (0.2, 3), (0, 5), (-5, 5)])
def test_a_dry_run_counts_what_the_deadline_leaves(time_left: float, late: int) -> None:
    """What cannot be sent in time even at the limit is counted, and a deadline that has passed leaves everything."""
    counts = dry_run(time_left=time_left)
    assert (counts.seconds, counts.late) == (0.5, late)


@pytest.mark.parametrize(
    ("end", "lines"),
    [
        (
            RunEnd(counted(succeeded=1500, failed=2), 1502),
            ["1,502 rows: 1,500 succeeded, 2 failed, 0 in doubt, 0 not sent, in 0:02"],
        ),
        (
            RunEnd(counted(succeeded=1, not_sent=17), 100, interrupted=True),
            ["interrupted: 100 rows: 1 succeeded, 0 failed, 0 in doubt, 99 not sent, in 0:02"],
        ),
        (
            RunEnd(counted(succeeded=1, not_sent=17), None, "opt-out on push"),
            ["opt-out on push: 18 rows read: 1 succeeded, 0 failed, 0 in doubt, 17 not sent, in 0:02"],
        ),
        (
            RunEnd(counted(succeeded=1, in_doubt=3, skipped=4), 9, earlier=2, kept=Counts(4, 1, 3, total=9)),
            [
                "this run: 2 rows: 1 succeeded, 0 failed, 1 in doubt, in 0:02",
                "the journal, of all runs: 9 rows: 4 succeeded, 1 failed, 3 in doubt, 1 not sent",
            ],
        ),
    ],
)
def test_summary(end: RunEnd, lines: list[str]) -> None:
    """A run's end is one line that adds up; where a run goes on, one for itself and one for all."""
    assert end.summary() == lines


def test_a_resumed_run_that_ends_at_once_has_all_that_the_journal_has() -> None:
    """It has not read again what an earlier run sent; that is not left to do, and its failures stand."""
    end = RunEnd(
        counted(skipped=500),
        10_000,
        kept=Counts(5_000, 7, 3, total=10_000),
        journal=Path("run.db"),
        interrupted=True,
        identify=True,
    )
    lines = end.closing([], ended_early=True)
    assert lines[0].startswith("left to do: 4,990 of 10,000 rows; to go on, repeat the command")
    assert "    teak-async report run.db --failed failed.csv" in lines
    assert any(line.startswith("sessions in doubt may be recorded or not") for line in lines)
    part = RunEnd(counted(succeeded=40, not_sent=5), 100, kept=Counts(5_040, 0, 0, kept=5))
    assert part.left == 60


async def test_what_failed_in_an_earlier_run_still_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A repeated command that has nothing left to do says that rows had failed, and its exit code does."""
    journal = tmp_path / "run.db"
    rows = "user_id,country_code\np1,US\np2,France\n"
    for _ in range(2):
        async with fast_sandbox() as server:
            code, report, _ = await run(tmp_path, session_on(server, limits=FAST), rows, journal=journal)
        assert code == Exit.SOME_FAILED
    assert (report.skipped, report.failed) == (2, 0)
    shown = capsys.readouterr().err
    assert "this run: 0 rows: 0 succeeded, 0 failed, 0 in doubt, in under 1 s" in shown
    assert "the journal, of all runs: 2 rows: 1 succeeded, 1 failed, 0 in doubt, 0 not sent" in shown
