"""The counts of a run: whoever is asked, the screen, the report, the results and the server have the same."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from support import FAST, WAIT, fast_sandbox, players_csv, session_on

from teak_async import BulkReport, Limits, Outage, RetryPolicy
from teak_async._cli import progress
from teak_async._cli.counts import Counts
from teak_async._cli.input import RowReader
from teak_async._cli.job import Job, run_job
from teak_async._cli.report import read_report
from teak_async._cli.schema import CHANNELS, identify_schema, state_schema
from teak_async._cli.selection import read_part
from teak_async._cli.source import Reading
from teak_async._cli.summary import RunEnd
from teak_async._journal.row import id_of
from teak_async.models import State
from teak_async.sandbox import IDENTIFY, Faults, Sandbox

STATES = ("succeeded", "failed", "in doubt", "not sent")


def counts_in(line: str) -> dict[str, int]:
    """The counts that a line has, by their words."""
    return {words: int(count.replace(",", "")) for count, words in re.findall(rf"([\d,]+) ({'|'.join(STATES)})", line)}


class Judge:
    """Runs a file in this process, and holds against each other what is said of it."""

    def __init__(self, folder: Path, server: Sandbox, capsys: pytest.CaptureFixture[str], total: int) -> None:
        self.server = server
        self.path, self.journal, self.results = folder / "in.csv", folder / "run.db", folder / "out.jsonl"
        self._capsys = capsys
        self.total = total
        self.said: list[str] = []
        self.schema = identify_schema()

    async def run(self, rate: int = 5000, outage: float = 30.0, **options: Any) -> None:
        """Run the file, to its end or an outage."""
        session = session_on(self.server, limits=Limits(rate, rate), retry=RetryPolicy(initial_wait=0.01, outage=outage))
        rows = RowReader(str(self.path), self.schema)
        job = Job(self.schema.command, rows, rate, self.results, journal=self.journal, overwrite=True, **options)
        broken = ""
        try:
            await run_job(job, session)
        except Outage as error:
            broken = str(error)
        self.said = [*self._capsys.readouterr().err.splitlines(), *broken.splitlines()]

    async def after(self, requests: int, act: Callable[[], object]) -> None:
        """Do something when the server has had so many requests."""
        async with asyncio.timeout(WAIT):
            while sum(seen.requests for seen in self.server.seen.values()) < requests:
                await asyncio.sleep(0.005)
        act()

    def summary(self) -> dict[str, int]:
        """The counts of the line that has all four."""
        return counts_in(next(line for line in self.said if set(counts_in(line)) == set(STATES)))

    def check(self, unit: str = "row") -> dict[str, int]:
        """Hold the summary, the progress, the report, its JSON and the results against each other; return the counts."""
        said = self.summary()
        assert sum(said.values()) == self.total
        report = read_report(self.journal)
        told = counts_in(" ".join(line for line in report.lines() if re.match(r" {2,}[\d,]+ (?!.*first line)", line)))
        assert told == said
        plain = json.loads(json.dumps(report.as_dict()))
        assert {state: plain[state.replace(" ", "_")] for state in STATES} == said
        identify = self.schema.command == "identify"
        left = said["not sent"] + (0 if identify else said["in doubt"])
        assert (plain[f"{unit}s"], plain["left_to_do"]) == (self.total, left)
        parts = f" ({said['not sent']:,} not sent, {said['in doubt']:,} in doubt)" if left != said["not sent"] else ""
        rest = f"left to do: {left:,} of {self.total:,} {unit}s{parts}; "
        assert any(line.startswith(rest) for line in report.lines()) == (left > 0)
        assert any(line.startswith(rest) for line in self.said) == (left > 0) or any(
            line.startswith("the server is out") for line in self.said
        )
        last = {
            (row["index"], row.get("part", 0)): row["state"] for row in map(json.loads, self.results.read_text().splitlines())
        }
        ended = Counter(state for state in last.values() if state != "not_sent")
        assert ended == Counter({state.replace(" ", "_"): said[state] for state in STATES[:3] if said[state]})
        shown = [line for line in self.said if re.match(rf"\S+Z {self.schema.command}: [\d,]+ of ", line)]
        if shown:
            of_input = re.match(r"\S+Z \S+: ([\d,]+) of ([\d,]+)", shown[-1])
            assert of_input is not None
            assert int(of_input[1].replace(",", "")) <= self.total - said["not sent"]
        return said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in.csv").write_text(players_csv(2000) + "broken\n")
    return tmp_path


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


async def test_interrupted_and_resumed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was read ahead and not sent is part of what was not sent, and no progress."""
    async with fast_sandbox(faults=Faults(delay=0.02)) as server:
        judge = Judge(folder, server, capsys, 2001)
        await asyncio.gather(judge.run(100), judge.after(40, interrupt))
        said = judge.check()
        assert said["succeeded"] == len(server.players) == server.seen[IDENTIFY].requests
        shown = [line.partition(" ")[2] for line in judge.said if "Z identify: " in line]
        assert shown[-1].startswith(f"identify: {said['succeeded'] + said['failed']:,} of 2,001, ")
        assert f"{said['not sent']:,} not sent, " in shown[-1]
        assert " to go" not in shown[-1]
        await judge.run()
        assert judge.check() == {"succeeded": 2000, "failed": 1, "in doubt": 0, "not sent": 0}
        assert len(read_report(judge.journal).runs) == 2
        here = next(line for line in judge.said if line.startswith("this run: "))
        assert counts_in(here) == {"succeeded": 2000 - said["succeeded"], "failed": 1 - said["failed"], "in doubt": 0}
        assert f"    teak-async report {judge.journal}" in judge.said


async def test_a_deadline(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run reads all that the deadline left; it is not sent all the same."""
    async with fast_sandbox() as server:
        judge = Judge(folder, server, capsys, 2001)
        await judge.run(100, deadline=timedelta(seconds=1))
        said = judge.check()
        assert said["not sent"] > 1000
        assert said["succeeded"] == len(server.players)


async def test_a_server_that_is_gone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What an outage leaves is counted in the message that ends the run."""
    async with fast_sandbox() as server:
        judge = Judge(folder, server, capsys, 2001)
        running = asyncio.create_task(judge.run(100, outage=0.2))
        await judge.after(40, lambda: None)
        players = server.players
    await running
    said = judge.check()
    assert said["not sent"] > 1000
    assert said["succeeded"] <= len(players) <= said["succeeded"] + said["in doubt"]


async def test_a_server_that_comes_back(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line says how long it was out; what an earlier run left is part of the progress of the next one."""
    monkeypatch.setattr(progress, "PLAIN_EVERY", 0.05)
    async with fast_sandbox() as server:
        judge = Judge(folder, server, capsys, 2001)
        for _ in range(8):
            server.fail_next("identify", "error_after")
        await judge.run(1000)
        said = judge.check()
        assert any(
            re.search(r" not sent, in \d:\d\d, \d:\d\d of it in outages( \(.*/s at work\))?$", line) for line in judge.said
        )
        assert any(re.fullmatch(r"\d\d:\d\d:\d\dZ the server is back after \d:\d\d", line) for line in judge.said)
        await judge.run()
        shown = [line for line in judge.said if "Z identify: " in line][-1]
        assert f", 1 failed, {said['in doubt']} in doubt, " in shown


async def test_a_kill(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a kill cut off is in doubt, once, whichever run is asked."""
    async with fast_sandbox() as server:
        judge = Judge(folder, server, capsys, 2001)
        await asyncio.gather(judge.run(200), judge.after(60, interrupt))
        with closing(sqlite3.connect(judge.journal)) as connection, connection:
            connection.execute(f"UPDATE states SET state = 'intent', delivery = NULL WHERE id < {id_of(7)}")
        lines = [line for line in judge.results.read_text().splitlines() if json.loads(line)["index"] >= 7]
        judge.results.write_text("".join(f"{line}\n" for line in lines))
        for _ in range(2):
            await judge.run()
            assert judge.check() == {"succeeded": 1993, "failed": 1, "in doubt": 7, "not sent": 0}
            here = next(line for line in judge.said if line.startswith("this run: "))
            assert counts_in(here)["in doubt"] == 0
        assert len(server.players) == 2000


async def test_several_channels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Calls are counted, by channel, too; a row counts as whole only when nothing of it can be missing."""
    lines = [f"p{number},{f'p{number}@example.com' if number % 3 else ''}" for number in range(300)]
    (tmp_path / "in.csv").write_text("user_id,email\n" + "\n".join([*lines, "ghost,ghost@example.com"]) + "\n")
    async with fast_sandbox() as server:
        for number in range(300):
            server.add_player(f"p{number}")
        judge = Judge(tmp_path, server, capsys, 803)
        judge.schema = state_schema(State.OPT_OUT, None, CHANNELS)
        await asyncio.gather(judge.run(100), judge.after(100, interrupt))
        judge.check("call")
        unread = read_report(judge.journal).as_dict()
        assert (unread["rows_succeeded_whole"], unread["rows_partial"]) == (None, None)
        assert any("opt-out on desktop_push, push and email" in line for line in judge.said[:1])
        await judge.run()
        assert judge.check("call") == {"succeeded": 801, "failed": 2, "in doubt": 0, "not sent": 0}
        report = read_report(judge.journal)
        plain = report.as_dict()
        assert {name: of_one["succeeded"] for name, of_one in plain["by_channel"].items()} == {
            "desktop_push": 300,
            "push": 300,
            "email": 201,
        }
        assert plain["rows_succeeded_whole"] == 300
        assert "300 of 301 rows: every call succeeded" in report.lines()
        partial = "rows without email, so on desktop_push and push only: 100, the first in line 2"
        assert f"  {partial}" in judge.said
        assert f"  {partial}" in report.lines()
        assert plain["rows_partial"] == [{"channels": ["desktop_push", "push"], "count": 100, "first": {"line": 2, "index": 0}}]
        ghost = next(row for row in map(json.loads, judge.results.read_text().splitlines()) if row["state"] == "failed")
        message = ghost["error"]["message"]
        assert message.startswith(f"set state ({ghost['channel']}): ")
        assert message.replace("ghost", "…") in [
            reason["error"]["message"].replace("ghost", "…") for reason in plain["reasons"]
        ]


async def test_a_part_of_the_input(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The length of a part is not that of a journal, which may have other parts."""
    async with fast_sandbox() as server:
        for part in ("100", "1001-1050"):
            rows = RowReader(str(folder / "in.csv"), identify_schema(), reading=Reading(part=read_part(part)))
            await run_job(
                Job("identify", rows, 5000, folder / "out", journal=folder / "run.db"), session_on(server, limits=FAST)
            )
        said = capsys.readouterr().err
        assert "50 rows: 50 succeeded" in said
        assert "the journal, of all runs: 150 rows: 150 succeeded" in said
        assert read_report(folder / "run.db").as_dict()["left_to_do"] is None


def test_the_rate_is_that_at_work() -> None:
    """What a run waited for its server says nothing about its speed, and has words of its own."""
    end = RunEnd(BulkReport(1_000, 1_000, 0, 0, 0, 0, 0, 1_000, 80.0, 12.5, None), 1_000, waited=60.0, unit="call")
    assert end.summary()[0].endswith(", in 1:20, 1:00 of it in outages (50.0/s at work on all channels together)")
    assert evolve(end, waited=75.0).summary()[0].endswith(", in 1:20, 1:15 of it in outages")
    assert evolve(end, waited=0.0, unit="row").summary()[0].endswith(", in 1:20 (12.5/s at work)")


def test_what_is_left_adds_up() -> None:
    """A set in doubt is sent again, beside what nobody has sent."""
    end = RunEnd(BulkReport(5, 2, 0, 3, 0, 0, 0, 5, 1.0, 5.0, None), 20)
    assert end.closing([])[0].startswith("left to do: 18 of 20 rows (15 not sent, 3 in doubt); ")
    assert evolve(end, identify=True).closing([])[0].startswith("left to do: 15 of 20 rows; ")


def test_counts() -> None:
    """What nobody sent is what the input has more than ended, or what was read where its length is not known."""
    counts = Counts(5, 1, 2, kept=3, total=20)
    assert (counts.not_sent, counts.known, counts.left(identify=True), counts.left(identify=False)) == (12, 20, 12, 14)
    assert Counts(5, 1, 2, not_repeated=2, total=20).left(identify=False) == 12  # no run makes these again
    unknown = Counts(5, 1, 2, kept=3)
    assert (unknown.not_sent, unknown.known, unknown.left(identify=True)) == (3, 11, None)
    assert Counts.of_journal({"intent": 4, "succeeded": 1}, 5, running=True) == Counts(1, 0, 0, being_sent=4, total=5)
    assert Counts.of_journal({"intent": 4, "succeeded": 1}, 5) == Counts(1, 0, 4, total=5)
