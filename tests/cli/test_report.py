from __future__ import annotations

import asyncio
import csv
import json
import os
import re
import shlex
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from support import Ended, fast_sandbox, session_on
from typer.testing import CliRunner

from teak_async import Identify, Limits, SetSubscription, State
from teak_async._cli import text as text_of_files
from teak_async._cli.app import app
from teak_async._cli.pace import Seconds, describe_pace, find_pauses, present_rate
from teak_async._cli.report import read_report
from teak_async._journal.row import id_of
from teak_async.sandbox import GAME_ID, SECRET_KEY, Sandbox

ROWS = "user_id,country_code,timezone_id\n" + "".join(
    f"p{number},{'XYZ' if number % 5 == 1 else 'DE'},{'Mars/P' + str(number) if number % 5 == 2 else 'Europe/Berlin'}\n"
    for number in range(10)
)
"""Of ten rows, two with a wrong country and two with a wrong time zone."""


def invoke(*arguments: object, **variables: str) -> Ended:
    """Run a command inside of this process."""
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments], env=variables, prog_name="teak-async")
    return Ended(ended.exit_code, ended.stdout, ended.stderr)


async def ask(server: Sandbox, *arguments: object, **variables: str) -> Ended:
    """Run a command beside a sandbox on this loop."""
    given = {"TEAK_BASE_URL": server.url, "TEAK_GAME_ID": GAME_ID, "TEAK_SECRET_KEY": SECRET_KEY} | variables
    return await asyncio.to_thread(invoke, *arguments, **given)


async def run(folder: Path, text: str = ROWS, *options: Any, code: int = 1, name: str = "in.csv") -> tuple[Path, str]:
    """Run a file; gives its journal and what was said."""
    source, journal = folder / name, folder / "run.db"
    source.write_text(text)
    async with fast_sandbox() as server:
        ended = await ask(server, "identify", source, "--journal", journal, *options)
    assert ended.code == code, ended.err
    return journal, ended.err


async def test_summary_and_report_have_the_same_words_and_numbers(tmp_path: Path) -> None:
    """The reasons at the end of a run are those of `report`, and those of `report --json`."""
    journal, said = await run(tmp_path)
    told = invoke("report", journal).out
    counts = json.loads(invoke("report", journal, "--json").out)
    found = {line.strip() for line in said.splitlines() if ", first line " in line}
    assert found == {line.strip() for line in told.splitlines() if ", first line " in line}
    assert found == {
        f"{reason['count']} {reason['state']}, first line {reason['first']['line']}: {reason['error']['message']}"
        for reason in counts["reasons"]
    }
    assert {(reason["count"], reason["first"]["line"]) for reason in counts["reasons"]} == {(2, 3), (2, 4)}
    assert "timezone_id: … is not a recognized IANA timezone name" in told
    assert "country_code: must be a two-letter ISO country, not 'XYZ'" in told
    assert "10 rows: 6 succeeded, 4 failed, 0 in doubt" in said
    assert (counts["rows"], counts["succeeded"], counts["failed"], counts["left_to_do"]) == (10, 6, 4, 0)
    assert [re.fullmatch(r"20\S+Z", run) is not None for run in counts["runs"]] == [True]


@pytest.mark.parametrize("running", [False, True])
async def test_counts_and_reasons_add_up_after_a_kill(tmp_path: Path, running: bool) -> None:
    """A row that was about to be sent is in doubt where the run has ended, and is being sent while it goes on."""
    journal, _ = await run(tmp_path, ROWS.replace("Mars/P2", "Europe/Berlin"))
    with closing(sqlite3.connect(journal)) as connection, connection:
        connection.execute(
            f"UPDATE states SET state = 'intent', error = NULL, delivery = NULL WHERE id IN ({id_of(3)}, {id_of(4)})"
        )
        connection.execute(
            f"UPDATE states SET state = 'in_doubt', error = 'TimedOut: late', delivery = 'unknown' WHERE id = {id_of(5)}"
        )
        connection.execute(f"UPDATE states SET delivery = 'done' WHERE id = {id_of(7)}")
    with closing(sqlite3.connect(f"{journal}-lock", isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE" if running else "BEGIN")
        told, counts = invoke("report", journal).out, json.loads(invoke("report", journal, "--json").out)
        story = json.loads(invoke("report", journal, "--row", 5, "--json").out)
        written = invoke("report", journal, "--in-doubt", tmp_path / "doubt.csv").err
    found = {
        words.replace(" ", "_"): int(count)
        for count, words in re.findall(r"^ +(\d+) ([a-z ]+)(?:$|, counted)", told, re.MULTILINE)
    }
    assert found == {name: counts[name] for name in found}
    assert found == {"succeeded": 4, "failed": 3, "failed_but_done": 1, "not_sent": 0} | (
        {"in_doubt": 1, "being_sent": 2} if running else {"in_doubt": 3}
    )
    assert sum(found.values()) - found["failed_but_done"] == counts["rows_read"] == 10
    for state in ("failed", "in_doubt"):
        assert sum(reason["count"] for reason in counts["reasons"] if reason["state"] == state) == counts[state]
    remedy = "leave them, or repeat the command with --resend-in-doubt"
    assert remedy in written
    assert (remedy in told, "teak-async" in written) == (not running, False)
    assert story["state"] == ("being_sent" if running else "in_doubt")
    assert len((tmp_path / "doubt.csv").read_text().splitlines()) == 1 + counts["in_doubt"]


async def test_a_row_that_was_cut_off_keeps_its_reason(tmp_path: Path) -> None:
    """`report` says of it after a kill what the resumed run says, and `report` after that."""
    text = "user_id,country_code\np1,DE\np2,DE\n"
    journal, _ = await run(tmp_path, text, code=0)
    with closing(sqlite3.connect(journal)) as connection, connection:
        connection.execute(f"UPDATE states SET state = 'intent', error = NULL, attempts = 0 WHERE id = {id_of(1)}")
    before = re.search("1 in doubt, first line 3: .*", invoke("report", journal).out)
    _, said = await run(tmp_path, text, code=3)
    assert before is not None
    assert before[0] in said
    assert "  attempts: 0, and perhaps one that was cut off; " in invoke("report", journal, "--row", 3).out
    assert before[0] in invoke("report", journal).out


@pytest.mark.parametrize(("rows", "options"), [(100, ()), (3, ("--max-failures", 3))])
async def test_nothing_is_stopped_where_nothing_is_left(tmp_path: Path, rows: int, options: tuple[str | int, ...]) -> None:
    """All rows may have ended when there are too many failures; then no word is lost on going on."""
    _, said = await run(tmp_path, "user_id,country_code\n" + "p,XYZ\n" * rows, *options)
    assert f"{rows} rows: 0 succeeded, {rows} failed" in said
    assert not re.search("stopped, since|goes on after|left to do", said)


async def test_report_names_the_run(tmp_path: Path) -> None:
    """It says what is run where, of which file, whether it goes on, and what is left to do."""
    journal, said = await run(tmp_path, ROWS, "--max-failures", 1)
    assert "stopped, since 1 row failed (--max-failures 1): " in said
    assert "the same command goes on after the failed rows and counts from 0" in said
    lines = invoke("report", journal).out.splitlines()
    assert re.fullmatch(rf"identify for game sandbox at http://\S+ of {tmp_path}/in.csv", lines[0])
    assert re.fullmatch(r"begun 20\S+Z, last written 20\S+Z; not running", lines[1])
    left = next(line for line in lines if line.startswith("left to do: "))
    assert left.endswith(f" of 10 rows; to go on, repeat the command with the same --journal {journal}")
    assert left in said


async def test_the_report_of_a_program_s_run(tmp_path: Path) -> None:
    """Nothing is left of an input that was read to its end; what is said to be done next is a program's to do."""
    journal, requests = tmp_path / "run.db", [Identify(f"p{number}", country_code="DE") for number in range(40)]

    def told() -> tuple[str, dict[str, Any]]:
        return invoke("report", journal).out, json.loads(invoke("report", journal, "--json").out)

    async with fast_sandbox() as server, session_on(server) as teak:
        server.fail_next("identify", "response_lost")
        async with teak.bulk(requests, journal=journal) as run:
            async for _ in run:
                break
        text, counts = told()
        assert (
            "left to do: rows of the input that the journal does not have, if there are any; to go on, make the run again"
            in text
        )
        assert counts["left_to_do"] is None
        await teak.bulk(requests, journal=journal)
        text, counts = told()
        assert "40 rows in the journal" in text
        assert "left to do" not in text
        assert "or make the run again with resend_in_doubt=True" in text
        doubts = invoke("report", journal, "--in-doubt", tmp_path / "doubt.csv")
        assert ("--in-doubt doubt.csv   # to see which" in text, "# to see which" in doubts.out) == (True, False)
        assert ", 2 runs, last written" in text
        assert (counts["rows"], counts["succeeded"], counts["in_doubt"], counts["left_to_do"]) == (40, 39, 1, 0)
        async with teak.bulk([*requests, *requests], journal=journal) as run:  # rows were added
            async for outcome in run:
                if outcome.error is None:
                    break
        text, counts = told()
        assert f"if there are any; to go on, make the run again with journal='{journal}'" in text
        assert counts["rows"] is None


async def test_what_a_deadline_left_is_left_to_do(tmp_path: Path) -> None:
    """The input was read to its end, and the journal has nothing of rows that were not begun."""
    journal = tmp_path / "run.db"
    async with fast_sandbox() as server, session_on(server, limits=Limits(identify=20)) as teak:
        ended = await teak.bulk(
            (Identify(f"p{number}", country_code="DE") for number in range(100)), journal=journal, deadline=0.3
        )
    assert ended.not_sent
    counts = json.loads(invoke("report", journal, "--json").out)
    assert (counts["rows"], counts["left_to_do"]) == (None, None)
    assert "left to do: rows of the input that the journal does not have" in invoke("report", journal).out


@pytest.mark.parametrize("how", ["deadline", "stopped", "broken"])
async def test_a_longer_input_that_nobody_sent_is_left_to_do(tmp_path: Path, how: str) -> None:
    """Also where the later run wrote nothing: what an earlier one knew of its input says nothing of this one."""
    journal, requests = tmp_path / "run.db", [Identify(f"p{number}", country_code="DE") for number in range(30)]

    def breaking() -> Iterator[Identify]:
        yield from requests[:10]
        raise LookupError("the input ends here")

    async with fast_sandbox() as server, session_on(server) as teak:
        await teak.bulk(requests[:10], journal=journal)
        assert json.loads(invoke("report", journal, "--json").out)["left_to_do"] == 0
        with suppress(LookupError):
            async with teak.bulk(
                breaking() if how == "broken" else requests, journal=journal, deadline=0.0 if how == "deadline" else None
            ) as run:
                if how == "stopped":
                    run.stop()
                async for _ in run:
                    pass
    assert json.loads(invoke("report", journal, "--json").out)["left_to_do"] is None


async def test_a_set_in_doubt_is_no_session(tmp_path: Path) -> None:
    """What a later row of the player settled is in doubt for ever, and nothing is to be done about it."""
    journal = tmp_path / "run.db"
    rows = [SetSubscription("a", State.OPT_OUT), SetSubscription("a", State.OPT_IN)]
    async with fast_sandbox() as server, session_on(server, retry=None) as teak:
        server.add_player("a")
        server.fail_next("desktop_push_status", "response_lost")
        for _ in range(2):
            await teak.bulk(rows, journal=journal)
    told = invoke("report", journal).out
    assert (re.search(r"\b1 in doubt", told) is not None, "session" in told) == (True, False), told
    assert json.loads(invoke("report", journal, "--json").out)["left_to_do"] == 0


async def test_all_channels_of_a_pipe_are_whole(tmp_path: Path) -> None:
    """A row of several calls that an earlier run finished is as whole as another."""
    journal, source = tmp_path / "run.db", "user_id,email\n" + "".join(f"p{number},p{number}@x.io\n" for number in range(20))
    async with fast_sandbox() as server:
        for number in range(20):
            server.add_player(f"p{number}")
        for _ in range(2):
            with pytest.MonkeyPatch.context() as patch:
                reader, writer = os.pipe()
                os.write(writer, source.encode())
                os.close(writer)
                patch.setattr(text_of_files, "STDIN", reader)
                ended = await ask(server, "opt-out", "-", "--channel", "all", "--journal", journal)
                os.close(reader)
            assert ended.code == 0, ended.err
            assert json.loads(invoke("report", journal, "--json").out)["left_to_do"] == 0


async def test_a_part_of_a_file_is_not_the_whole(tmp_path: Path) -> None:
    """Rows that were left out, before or after, are left to do, and so are those of a pipe that was stopped."""
    for part in ("4", "3-11", "6-"):
        (tmp_path / "run.db").unlink(missing_ok=True)
        journal, _ = await run(tmp_path, ROWS, "--rows", part)
        assert "left to do: rows of the input that the journal does not have, if there are any" in invoke("report", journal).out
    await run(tmp_path, ROWS)
    assert "left to do" not in invoke("report", journal).out


async def test_a_run_that_failed_too_often_goes_on_behind_its_failures(tmp_path: Path) -> None:
    """Each repetition counts anew, and the last one is done. More rows than may be in hand, so the first cannot end before."""
    text = "user_id,country_code\n" + "".join(f"p{number},XYZ\n" for number in range(1000)) + "good,DE\n"
    source, journal = tmp_path / "in.csv", tmp_path / "run.db"
    source.write_text(text)
    said: list[str] = []
    async with fast_sandbox() as server:
        while "good" not in server.players:
            ended = await ask(server, "identify", source, "--journal", journal)
            said.append(ended.err)
            assert (ended.code, len(said) <= 10) == (1, True)
    assert "stopped, since 100 rows failed for the same reason before one succeeded (country_code: " in said[0]
    assert "stopped" not in said[-1]
    counts = json.loads(invoke("report", journal, "--json").out)
    assert (counts["succeeded"], counts["failed"], counts["left_to_do"]) == (1, 1000, 0)


@pytest.mark.parametrize("state", ["in_doubt", "intent"])
async def test_rows_left_in_doubt_are_not_among_the_first(tmp_path: Path, state: str) -> None:
    """A resumed run counts anew: what an earlier one left in doubt, or was cut off at, did not end in this one."""
    journal, _ = await run(tmp_path, "user_id,country_code\ngood,DE\n", code=0)
    with closing(sqlite3.connect(journal)) as connection, connection:
        connection.execute("UPDATE states SET state = ?, delivery = 'unknown', error = 'TimedOut: late'", (state,))
    text = "user_id,country_code\ngood,DE\n" + "p,XYZ\n" * 250
    text += "".join(f"last{number},DE\n" for number in range(1_000))
    _, said = await run(tmp_path, text, code=3)
    assert "stopped, since 100 rows failed for the same reason before one succeeded (country_code: " in said


@pytest.mark.parametrize("lost", [0, 2])
@pytest.mark.parametrize("bad", ["broken", "nan,DE", ",DE"])
async def test_rows_that_fail_otherwise_do_not_hide_a_wrong_game(tmp_path: Path, bad: str, lost: int) -> None:
    """They are read, and have failed, before the server says the same of all the others; some of these end otherwise, too."""
    source = tmp_path / "in.csv"
    source.write_text("user_id,country_code\n" + ("p,DE\n" * 9 + f"{bad}\n") * 60 + "p,DE\n" * 3_000)
    async with fast_sandbox() as server:
        for _ in range(lost):
            server.fail_next("desktop_push_status", "response_lost")
        ended = await ask(server, "opt-out", source, "--ignore-extra", "--rate", 1000)
    assert re.search("stopped, since 100 rows failed for the same reason before one succeeded .*No player with id", ended.err)


async def test_a_row_that_succeeded_lets_a_run_go_on(tmp_path: Path) -> None:
    """Then the others may do better, too, however many fail."""
    (tmp_path / "in.csv").write_text("user_id\ngood\n" + "".join(f"p{n}\n" for n in range(300)))
    async with fast_sandbox() as server:
        server.add_player("good")
        ended = await ask(server, "status", tmp_path / "in.csv", "--rate", 1000)
    assert "301 rows: 1 succeeded, 300 failed" in ended.err


async def test_the_story_of_a_row(tmp_path: Path) -> None:
    """By its line or its player, a row tells how it ended, why, and as what it stood in the input."""
    journal, _ = await run(tmp_path)
    failed = invoke("report", journal, "--row", 3).out
    assert failed.startswith(
        "line 3: a row of p1 that cannot be sent: failed, the server never got it\n  attempts: 0; last written 20"
    )
    assert "country_code: must be a two-letter ISO country, not 'XYZ'" in failed
    assert "as it stood in the input: p1,XYZ,Europe/Berlin" in failed
    done = invoke("report", journal, "--user", "p3").out
    assert done.startswith("line 5: identify of p3: succeeded\n  attempts: 1; ")
    plain = json.loads(invoke("report", journal, "--user", "p2", "--json").out)
    assert (plain["line"], plain["state"], plain["delivery"]) == (4, "failed", "rejected")
    assert invoke("report", journal, "--user", "p1").out == failed
    with closing(sqlite3.connect(journal)) as connection, connection:
        connection.execute(f"UPDATE calls SET user_id = NULL WHERE id = {id_of(1)}")
    assert invoke("report", journal, "--user", "p1").out == failed
    nobody = invoke("report", journal, "--row", 99)
    assert (nobody.code, "has nothing on line 99" in nobody.err) == (2, True)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("in.csv", 'user_id;country_code\np"1;X\np2;XYZ\np3;DE;DE;DE\n'),
        ("in.csv", "sep=\t\nuser_id\tcountry_code\np1\tXYZ\n\tDE\np3\n"),
        ("in.jsonl", '{"user_id": "p1", "country_code": "XYZ"}\n{}\n{"user_id": 12.5, "country_code": "DE"}\n'),
    ],
)
async def test_failed_rows_fail_again_as_before(tmp_path: Path, name: str, text: str) -> None:
    """Rows that are given back are read as they were, and may be given back again and again: the columns are replaced."""
    journal, _ = await run(tmp_path, text, name=name)
    given = [tmp_path / f"first.{name}", tmp_path / f"second.{name}"]
    assert invoke("report", journal, "--failed", given[0]).code == 0
    (tmp_path / "again").mkdir()
    again, _ = await run(tmp_path / "again", given[0].read_text(), name=name)
    assert invoke("report", again, "--failed", given[1]).code == 0
    first, second = (path.read_text().splitlines() for path in given)
    for one, other in zip(first, second, strict=True):
        assert one.count("why") == other.count("why") <= 1
        assert re.split(r"\b\d+[,;\t]", one, maxsplit=1)[-1] == re.split(r"\b\d+[,;\t]", other, maxsplit=1)[-1]
    counts = [json.loads(invoke("report", one, "--json").out)["failed"] for one in (journal, again)]
    assert counts == [3, 3]


async def test_a_run_says_which_values_it_took_as_empty(tmp_path: Path) -> None:
    """As a dry run does: `nan` may have been an address."""
    _, said = await run(tmp_path, "user_id,country_code,client_ip\np1,DE,nan\np2,DE,\np3,DE,NULL\n", code=0)
    assert "taken as empty" in said
    assert "2, the first in line 2, client_ip 'nan'" in said


async def test_a_file_of_windows(tmp_path: Path) -> None:
    """Where only later lines show it, their rows fail, and the line to type is said once."""
    source = tmp_path / "in.csv"
    source.write_bytes("user_id;country_code\np1;DE\nmüller;DE\nweiß;DE\n".encode("windows-1252"))
    async with fast_sandbox() as server:
        for options in ((), ("--dry-run",)):
            ended = await ask(server, "identify", source, *options)
            how = "if it comes from Windows or Excel: iconv -f windows-1252 -t utf-8 makes it so"
            said = f"not UTF-8 text ({how}): 2, the first in line 3"
            assert (ended.code, (ended.out + ended.err).count(said)) == (1, 1), ended.out + ended.err
        assert list(server.players) == ["p1"]


def test_a_file_without_a_header(tmp_path: Path) -> None:
    """Its first row is no header, and the remedy is not to leave it out."""
    (tmp_path / "in.csv").write_text("player-1,US\nplayer-2,US\n")
    ended = invoke("identify", tmp_path / "in.csv", "--dry-run", TEAK_GAME_ID=GAME_ID, TEAK_SECRET_KEY=SECRET_KEY)
    assert ended.code == 2
    assert ended.err.endswith("If this is a row, the header line is missing: put one before it, such as user_id,client_ip\n")


async def test_failed_rows_can_be_run_as_the_report_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again: with the option for columns that are left out, under names that are free, and each time with reasons."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.csv").write_text("n,player,country_code,timezone_id\n0,,DE,UTC\n1,p1,DE,Mars/P1\n2,p2,DE,UTC\n")
    options = "--column", "user_id=player", "--ignore-extra", "--journal", "run.db"
    async with fast_sandbox() as server:
        ended = await ask(server, "identify", "in.csv", *options)
        for number in range(3):
            assert ended.code == 1
            assert ended.err.count("user_id: must not be empty") == 1
            assert "Mars/P1 is not a recognized IANA timezone name" in ended.err
            proposed = next(line.split()[1:] for line in ended.err.splitlines() if " --failed " in line)
            told = invoke(*proposed)
            assert (told.code, proposed[-1]) == (0, "failed.csv" if not number else f"failed{number + 1}.csv")
            again = shlex.split(told.err.splitlines()[-1])[1:]
            assert "--ignore-extra" in again
            ended = await ask(server, *again)
    assert {name: player.sessions for name, player in server.players.items()} == {"p2": 1}


async def test_failed_rows_say_why_in_columns_of_their_own(tmp_path: Path) -> None:
    """A spreadsheet shows the reason and the line before the row itself."""
    journal, _ = await run(tmp_path)
    invoke("report", journal, "--failed", tmp_path / "failed.csv")
    with (tmp_path / "failed.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["line"], row["user_id"]) for row in rows] == [("3", "p1"), ("4", "p2"), ("8", "p6"), ("9", "p7")]
    assert rows[0]["why"] == "country_code: must be a two-letter ISO country, not 'XYZ'"


async def test_a_line_that_is_no_object_is_given_back_as_it_was(tmp_path: Path) -> None:
    """There is no place for the reason in it."""
    journal, _ = await run(tmp_path, '{"user_id": "p1", "country_code": "XYZ"}\n["p2"]\n', name="in.jsonl")
    invoke("report", journal, "--failed", tmp_path / "failed.jsonl")
    first, second = (tmp_path / "failed.jsonl").read_text().splitlines()
    assert json.loads(first)["line"] == 1
    assert second == '["p2"]'


@pytest.mark.parametrize("journaled", [True, False])
async def test_what_a_deadline_leaves_has_a_line_where_nothing_else_knows_it(tmp_path: Path, journaled: bool) -> None:
    """With a journal, the next run sends these rows, and each then has one line. Each line says when its row ended."""
    source, results = tmp_path / "in.csv", tmp_path / "proof.jsonl"
    source.write_text("user_id\n" + "".join(f"p{number}\n" for number in range(40)))
    given = ("opt-out", source, "--output", results, *(("-j", tmp_path / "run.db") if journaled else ()))
    begun = time.time()
    async with fast_sandbox() as server:
        for number in range(40):
            server.add_player(f"p{number}")
        ended = await ask(server, *given, "--rate", 5, "--deadline", "2s")
        assert (ended.code, "not sent" in ended.err) == (1, True)
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        assert {line["state"] for line in lines} == {"succeeded"} | ({"not_sent"} if not journaled else set())
        if journaled:
            assert (await ask(server, *given)).code == 0
            lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert sorted(line["index"] for line in lines) == list(range(40))
    for line in lines:
        assert line["at"].endswith("Z")
        assert begun - 1 <= datetime.fromisoformat(line["at"]).timestamp() <= time.time()


async def test_what_was_written_is_said_with_the_command_to_run_it(tmp_path: Path) -> None:
    """It has the options that decide what a row asks; a journal without such rows gives a file without rows, and no command."""
    text = ROWS.replace("user_id", "player id")
    journal, _ = await run(tmp_path, text, "--column", "user_id=player id", "--null", "-")
    failed, doubt = tmp_path / "failed rows.csv", tmp_path / "doubt.csv"
    first, shown, second = invoke("report", journal, "--failed", failed, "--in-doubt", doubt).err.splitlines()
    command = f"teak-async identify '{failed}' --column 'user_id=player id' --null - -j new.db"
    assert (first, shown) == (f"{failed}: 4 rows; to run them, with a new journal:", f"    {command}")
    assert second == f"{doubt}: 0 rows"
    failed.write_text(failed.read_text().replace("XYZ", "DE").replace("Mars/P2", "UTC").replace("Mars/P7", "UTC"))
    async with fast_sandbox() as server:
        ended = await ask(server, *shlex.split(command.replace("new.db", str(tmp_path / "new.db")))[1:])
        assert (ended.code, set(server.players)) == (0, {"p1", "p2", "p6", "p7"}), ended.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--row", 3, "--failed", "NEW"), "--row only shows rows: leave --failed out, or give --row in another command"),
        (("--user", "p1", "--in-doubt", "NEW", "--svg", "NEW2"), "--user only shows rows: leave --in-doubt and --svg out"),
        (("--user", "p1", "--row", 3), "--row only shows rows: leave --user out"),
    ],
)
async def test_what_shows_rows_stands_alone(tmp_path: Path, options: tuple[Any, ...], said: str) -> None:
    """Nothing that was asked for is left out in silence."""
    journal, _ = await run(tmp_path)
    new = {"NEW": tmp_path / "new", "NEW2": tmp_path / "new2"}
    ended = invoke("report", journal, *(new.get(option, option) for option in options))
    assert (ended.code, said in ended.err, ended.out) == (2, True, "")
    assert not any(path.exists() for path in new.values())


async def test_results_have_one_line_for_a_row_and_state(tmp_path: Path) -> None:
    """A run that goes on adds to its file, but not once more what an earlier run has said of a row in doubt."""
    source, results = tmp_path / "in.csv", tmp_path / "proof.jsonl"
    source.write_text("user_id,country_code\np1,DE\np2,DE\n")
    async with fast_sandbox() as server:
        server.fail_next("identify", "response_lost")
        given = ("identify", source, "--journal", tmp_path / "run.db", "--output", results)
        assert [(await ask(server, *given)).code for _ in range(3)] == [3, 3, 3]
        assert len(results.read_text().splitlines()) == 2
        assert (await ask(server, *given, "--resend-in-doubt")).code == 0
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert sorted((line["user_id"], line["state"], line.get("resent")) for line in lines) == [
        ("p1", "in_doubt", None),
        ("p1", "succeeded", True),
        ("p2", "succeeded", None),
    ]


async def test_a_second_header(tmp_path: Path) -> None:
    """Of joined files it is no player, in any case of its letters; where the columns change places, the run ends there."""
    _, said = await run(tmp_path, "user_id,country_code\np1,DE\nUSER_ID,Country_Code\np2,DE\n")
    assert "1 failed, first line 3: the header again, as in joined files" in said
    (tmp_path / "other").mkdir()
    _, said = await run(tmp_path / "other", "user_id,country_code\np1,DE\ncountry_code,user_id\nDE,p2\n", code=2)
    assert "a second header, as in joined files, has the columns in another order (country_code, user_id)" in said


async def test_log_file_and_verbose(tmp_path: Path) -> None:
    """The file has every event as a JSON object without the player or the secret; `--verbose` shows what is trouble."""
    source, log = tmp_path / "in.csv", tmp_path / "log.jsonl"
    source.write_text("user_id\nplayer-1\n")
    async with fast_sandbox() as server:
        server.add_player("player-1")
        server.fail_next("desktop_push_status", "error_before")
        ended = await ask(server, "status", source, "--log-file", log, "--verbose")
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"attemptstarted", "responsereceived", "retryscheduled"} <= {event.get("event") for event in events}
    assert not re.search(f"player-1|{SECRET_KEY}", log.read_text())
    assert (ended.code, "is made again in" in ended.err) == (0, True)


async def test_env_file(tmp_path: Path) -> None:
    """Only a file that is named is read, and what the environment says already stays."""
    source, file = tmp_path / "in.csv", tmp_path / ".env"
    source.write_text("user_id,country_code\np1,DE\n")
    async with fast_sandbox() as server:
        file.write_text(
            f"# the sandbox\nexport TEAK_SECRET_KEY='{SECRET_KEY}'\nTEAK_BASE_URL={server.url}\n"
            f"TEAK_GAME_ID={GAME_ID}\nTEAK_RATE=7\n"
        )
        variables: dict[str, Any] = dict.fromkeys(("TEAK_SECRET_KEY", "TEAK_BASE_URL", "TEAK_GAME_ID"))
        with pytest.MonkeyPatch.context() as patch:
            for name in (*variables, "TEAK_RATE"):
                patch.setenv(name, "")
                patch.delenv(name)
            ended = await asyncio.to_thread(invoke, "identify", source, "--env-file", file)
        assert list(server.players) == ["p1"]
    assert "at most 7/s" in ended.err
    for text, said in (("KEY='open\n", "cannot be read: No closing quotation"), (None, "cannot be read: No such file")):
        file.unlink() if text is None else file.write_text(text)
        refused = invoke("identify", source, "--env-file", file)
        assert (refused.code, said in " ".join(refused.err.split())) == (2, True), refused.err
    file.write_text("no sign\n")
    refused = invoke("identify", source, "--env-file", file)
    assert (refused.code, "'no' is not of the form NAME=VALUE" in refused.err) == (2, True)


async def test_picture(tmp_path: Path) -> None:
    """The picture has the words of the report."""
    journal, _ = await run(tmp_path)
    assert invoke("report", journal, "--svg", tmp_path / "run.svg").code == 0
    picture = (tmp_path / "run.svg").read_text()
    assert picture.startswith("<svg")
    assert "succeeded" in picture
    refused = invoke("report", journal, "--svg", tmp_path / "run.svg")
    assert (refused.code, "exists already" in refused.err) == (2, True)
    refused = invoke("report", journal, "--svg", tmp_path / "nowhere" / "run.svg")
    assert (refused.code, "cannot be written: No such file" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("seconds", "rate"),
    [
        ([(second, 200, 200, 0) for second in range(100)], 200),  # the last second goes on
        ([(second, 200, 200, 0) for second in range(95, 100)], 200),
        ([(98, 200, 200, 0), (99, 50, 50, 0)], 0),
        ([*((second, 200, 200, 0) for second in range(60)), *((second, 100, 100, 0) for second in range(95, 100))], 100),
        ([(second, 200, 200, 0) for second in range(80)], 0),
        ([], 0),
    ],
)
def test_present_rate(seconds: Seconds, rate: float) -> None:
    """It is that of the last ten seconds, or since the last pause; too few seconds say nothing."""
    assert present_rate(seconds, find_pauses(seconds), 99.5) == rate


async def test_a_running_run_says_how_long_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the present rate, for the rows that nobody has sent; one that is not running says how to go on."""
    journal, _ = await run(tmp_path, "user_id,country_code\n" + "".join(f"p{number},DE\n" for number in range(60)), code=0)
    with closing(sqlite3.connect(journal)) as connection, connection:
        connection.execute(f"UPDATE states SET at = 1000000 + id / {id_of(5)}")
        connection.execute("UPDATE run SET value = 460 WHERE name = 'rows'")
        connection.execute("UPDATE run SET value = '1970-01-12T13:46:40Z' WHERE name = 'runs'")
    monkeypatch.setattr("time.time", lambda: 1_000_012.5)
    with closing(sqlite3.connect(f"{journal}-lock", isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        running = read_report(journal)
    assert "left to do: 400 of 460 rows; the run goes on, for about 1:20 at the present rate" in running.lines()
    assert running.as_dict()["seconds_to_go"] == 80
    assert read_report(journal).as_dict()["seconds_to_go"] is None
    still = evolve(running, now=1_000_042.5)
    assert "left to do: 400 of 460 rows; the run goes on; nothing has ended for 0:30" in still.lines()
    assert still.as_dict()["pauses"] == [{"from": "1970-01-12T13:46:52Z", "seconds": 30, "until": "now"}]
    assert running.as_dict()["pace"] == {
        "calls": 60,
        "seconds_at_work": 12,
        "seconds_paused": 0,
        "mean_rate": 5.0,
        "busiest_second": 5,
    }
    assert running.as_dict()["limit"] == 200


def test_pace_and_pauses() -> None:
    """The plot spans the run, and a time without rows is a pause, also between two runs of the journal."""
    seconds = [*((second, 200, 120, 0) for second in range(30)), *((second, 100, 100, 1) for second in range(90, 120))]
    pauses = find_pauses(seconds)
    assert [(pause.began, pause.seconds) for pause in pauses] == [(30, 60)]
    pace, average, head, plot, pause, limited = describe_pace(seconds, pauses, "row", "200")
    assert pace == "pace: 9,000 rows ended after an attempt, in 1:00 at work, and 1:00 of pauses:"
    assert average == "  150/s on average, at most 120 in a second, without repetitions; limit 200/s"
    assert head == "rows a second, 00:00:00Z to 00:01:59Z, a bar is 2 s:"
    assert plot == "  " + "█" * 15 + " " * 30 + "▄" * 15
    assert (pause, limited) == ("  no row ended for 1:00 from 00:00:30Z on", "  rate-limited (429) 30 times")
    assert describe_pace([], []) == []


def test_a_pause_says_what_ended_it() -> None:
    """A time between two runs, however short, is no time at work, and the one that goes on is shown up to now."""
    seconds = [(second, 10, 10, 0) for second in (*range(10), *range(13, 20), *range(50, 60))]
    pauses = find_pauses(seconds, [0, 13, 40], 90.5)
    assert [(pause.began, pause.seconds, pause.until) for pause in pauses] == [
        (10, 3, "run"),
        (20, 20, "run"),
        (40, 10, "call"),
        (60, 30, "now"),
    ]
    pace, _, head, plot, *lines = describe_pace(seconds, pauses, "call")
    assert pace == "pace: 270 calls ended after an attempt, in 0:27 at work, and 1:03 of pauses:"
    assert (head, len(plot)) == ("calls a second, 00:00:00Z to 00:01:29Z, a bar is 2 s:", 2 + 45)
    assert lines == [
        "  no call ended for 0:03 from 00:00:10Z on, until another run began",
        "  no call ended for 0:20 from 00:00:20Z on, until another run began",
        "  no call ended for 0:10 from 00:00:40Z on",
        "  no call ended for 0:30 from 00:01:00Z on, up to now",
    ]
