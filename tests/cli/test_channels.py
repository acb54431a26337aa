"""Opting in and out on each channel, and exclusions, by the commands."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from support import MANY, Ended, fast_sandbox
from typer.testing import CliRunner

from teak_async._cli import commands
from teak_async._cli.app import app
from teak_async.sandbox import GAME_ID, SECRET_KEY, Sandbox
from teak_async.sandbox.game import Address


async def ask(server: Sandbox, *arguments: object) -> Ended:
    """Run a command inside of this process, beside a sandbox on this loop."""
    variables = {"TEAK_BASE_URL": server.url, "TEAK_GAME_ID": GAME_ID, "TEAK_SECRET_KEY": SECRET_KEY}
    given = [str(argument) for argument in arguments]
    ended = await asyncio.to_thread(CliRunner().invoke, app, given, env=variables, prog_name="teak-async")
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return Ended(ended.exit_code, ended.stdout, ended.stderr)


def lines_of(ended: Ended) -> list[dict[str, Any]]:
    return sorted((json.loads(line) for line in ended.out.splitlines()), key=lambda row: (row["index"], row.get("part", 0)))


async def test_mobile_push(tmp_path: Path) -> None:
    """Another channel of the same players, with states and lines of its own."""
    source = tmp_path / "p.csv"
    source.write_text("user_id,category\np1,sales\np2,events\n")
    async with fast_sandbox() as server:
        players = [server.add_player(name) for name in ("p1", "p2")]
        ended = await ask(server, "opt-out", source, "--channel", "push", "--rate", 5000)
        assert ended.code == 0, ended.err
        assert [(row["user_id"], row["channel"], row["response"]["category"]) for row in lines_of(ended)] == [
            ("p1", "push", "sales"),
            ("p2", "push", "events"),
        ]
        assert [player.channels["push"].categories for player in players] == [
            {"sales": "opt_out", "events": "opt_in"},
            {"sales": "opt_in", "events": "opt_out"},
        ]
        assert {player.categories["sales"] for player in players} == {"opt_in"}
        source.write_text("user_id\np1\n")
        seen = await ask(server, "status", source, "--channel", "push")
        assert [row["response"]["categories"]["sales"] for row in lines_of(seen)] == ["opt_out"]


async def test_email(tmp_path: Path) -> None:
    """The rows are about addresses. One that reported spam is out, and no failure; messages and reasons name no address."""
    source = tmp_path / "p.csv"
    source.write_text("user_id,email\np1,eve@example.com\np2,bob@example.com\np3,\np4,nowhere\n")
    async with fast_sandbox() as server:
        server.addresses["bob@example.com"] = Address("spam_report")
        ended = await ask(server, "opt-out", source, "--channel", "email", "-j", tmp_path / "run.db")
        rows = lines_of(ended)
        assert ended.code == 1
        assert [row["state"] for row in rows] == ["succeeded", "succeeded", "failed", "failed"]
        assert [row.get("email") for row in rows] == ["eve@example.com", "bob@example.com", None, "nowhere"]
        assert [row["response"]["state"] for row in rows[:2]] == ["opt_out", "spam_report"]
        assert "email: must not be empty" in rows[2]["error"]["message"]
        assert "email: is not valid" in rows[3]["error"]["message"]
        assert "@" not in ended.err
        assert "nowhere" not in ended.err
        again = await ask(server, "opt-out", source, "--channel", "email", "-j", tmp_path / "run.db")
        assert ": 4 rows: 2 succeeded, 2 failed, 0 in doubt" in again.err
        other = await ask(server, "opt-out", source, "-j", tmp_path / "run.db")
        assert (other.code, "journal of another run" in other.err) == (2, True)


async def test_an_address_keeps_its_order(tmp_path: Path) -> None:
    """Rows of one address are made one after the other, in whichever case it is written."""
    source = tmp_path / "p.csv"
    source.write_text("email,category\n" + "".join(f"{'eve' if n % 2 else 'EVE'}@example.com,c{n}\n" for n in range(40)))
    async with fast_sandbox() as server:
        assert (await ask(server, "opt-out", source, "--channel", "email", "--rate", 5000)).code == 0
        assert [request.parameters["category"] for request in server.requests] == [f"c{n}" for n in range(40)]


async def test_all_channels(tmp_path: Path) -> None:
    """A row is one call on each channel for which it has a value, all of them at once, each with a line of proof."""
    source, path = tmp_path / "p.csv", tmp_path / "run.db"
    count = 10_000 if MANY else 600
    limit = 300 if MANY else 200
    lines = [f"p{n},p{n}@example.com" for n in range(count)] + ["alone,", ",only@example.com", ",", "bad,nowhere"]
    source.write_text("user_id,email\n" + "\n".join(lines) + "\n")
    async with Sandbox(subscription=limit) as server:
        players = [server.add_player(f"p{n}") for n in range(count)] + [server.add_player("alone"), server.add_player("bad")]
        options = "--channel", "all", "-j", path, *(() if MANY else ("--rate", limit))
        dry = await ask(server, "opt-out", source, *options, "--dry-run")
        calls = 3 * count + 2 + 1 + 1 + 3
        assert f"{count + 4:,} rows, {calls:,} calls: {calls - 1:,} to send" in dry.out
        assert f"{limit}/s on each channel" in dry.out
        partial = [
            f"  rows without email, so on desktop_push and push only: 1, the first in line {count + 2:,}",
            f"  rows without user_id, so on email only: 1, the first in line {count + 3:,}",
        ]
        assert [line for line in dry.out.splitlines() if "without" in line and "only" in line] == partial
        ended = await ask(server, "opt-out", source, *options)
        assert ended.code == 1
        assert f"{count + 4:,} rows, {calls:,} calls: {calls - 2:,} succeeded, 2 failed" in ended.err
        rows = lines_of(ended)
        assert len(rows) == calls
        assert {(player.state, player.channels["push"].state) for player in players} == {("opt_out", "opt_out")}
        assert {address.state for address in server.addresses.values()} == {"opt_out"}
        assert len(server.addresses) == count + 1
        paths = [f"/v2/{channel}/subscription_status" for channel in ("desktop_push", "push", "email")]
        assert [server.seen[path].rate_limited for path in paths] == [0, 0, 0]
        # Each has begun, and made most of its calls, before another one has ended.
        last = [max(at for at, request in enumerate(server.requests) if request.path == path) for path in paths]
        assert min(last) > len(server.requests) * 0.9
        story = await ask(server, "report", path, "--row", 2, "--json")
        assert [json.loads(line)["channel"] for line in story.out.splitlines()] == ["desktop_push", "push", "email"]
        told = (await ask(server, "report", path, "--row", 2)).out
        places = re.findall("^line 2: (.*) of p0", told, re.MULTILINE)
        assert places == ["set state on desktop_push", "set state on push", "set state on email"]
        report = json.loads((await ask(server, "report", path, "--json")).out)
        assert (report["rows_read"], report["calls_read"], report["calls"]) == (count + 4, calls, calls)
        assert (report["succeeded"], report["failed"], report["left_to_do"]) == (calls - 2, 2, 0)
        assert sorted(line for line in (await ask(server, "report", path)).out.splitlines() if line in partial) == partial
        again = await ask(server, "opt-out", source, *options)
        assert [line for line in again.err.splitlines() if line in partial] == partial
        assert f"{count + 4:,} rows, {calls:,} calls: {calls - 2:,} succeeded, 2 failed" in again.err
        assert ": this run: 0 calls: 0 succeeded, 0 failed, 0 in doubt, in " in again.err
        assert len(server.requests) == calls - 1


async def test_some_channels(tmp_path: Path) -> None:
    """Those that are named, in whatever order, also for reading; another choice is another run."""
    source, path = tmp_path / "p.jsonl", tmp_path / "run.db"
    source.write_text('{"user_id": "p1", "email": "eve@example.com"}\n{"user_id": "p2"}\n')
    async with fast_sandbox() as server:
        for name in ("p1", "p2"):
            server.add_player(name)
        ended = await ask(server, "status", source, "--channel", "email", "--channel", "push", "-j", path)
        assert ended.code == 0, ended.err
        found = sorted((row["index"], row.get("part", 0), row["channel"]) for row in lines_of(ended))
        assert found == [(0, 0, "push"), (0, 1, "email"), (1, 0, "push")]
        same = await ask(server, "status", source, "--channel", "push", "--channel", "email", "-j", path)
        assert "2 rows, 3 calls: 3 succeeded" in same.err
        other = await ask(server, "status", source, "--channel", "all", "-j", path)
        assert (other.code, "journal of another run" in other.err) == (2, True)


@pytest.mark.parametrize(
    ("bad", "channels"),
    [
        (["ghost,"], ["desktop_push", "push"]),
        (["p1,nowhere"], ["email"]),
        (["ghost,", "p1,nowhere"], ["desktop_push", "push", "email"]),
        (["nan,"], ["desktop_push", "push", "email"]),
    ],
)
async def test_a_row_that_failed_on_several_channels_is_given_back_once(
    tmp_path: Path, bad: list[str], channels: list[str]
) -> None:
    """With all reasons, and with the channels on which it has to be made again."""
    source, path, failed = tmp_path / "p.csv", tmp_path / "run.db", tmp_path / "failed.csv"
    source.write_text("\n".join(["user_id,email", "p0,p0@example.com", *bad, ""]))
    async with fast_sandbox() as server:
        for name in ("p0", "p1"):
            server.add_player(name)
        assert (await ask(server, "opt-out", source, "--channel", "all", "-j", path)).code == 1
        told = await ask(server, "report", path, "--failed", failed)
        for line, row in zip(failed.read_text().splitlines(), ["user_id,email", *bad], strict=True):
            assert line.endswith(f",{row}")
        assert failed.read_text().count("No player with id ghost") == 2 * ("ghost," in bad)
        options = [word for name in channels for word in ("--channel", name)]
        assert f":\n    teak-async opt-out {failed} {' '.join(options)} -j new.db" in told.err
        failed.write_text(re.sub("ghost|nan", "p1", failed.read_text()).replace("nowhere", "p1@example.com"))
        before = len(server.requests)
        assert (await ask(server, "opt-out", failed, *options, "-j", tmp_path / "new.db")).code == 0
        assert len(server.requests) - before <= len(channels) * len(bad)


async def test_a_channel_that_pauses_stops_no_other(tmp_path: Path) -> None:
    """The rows of each channel are bounded by themselves."""
    source = tmp_path / "p.csv"
    source.write_text("user_id,email\n" + "".join(f"p{n},p{n}@example.com\n" for n in range(700)))
    async with fast_sandbox() as server:
        for number in range(700):
            server.add_player(f"p{number}")
        server.fail_next("email_status", "rate_limited", "rate_limited", "rate_limited")
        ended = await ask(server, "opt-out", source, "--channel", "all", "--rate", 2000)
        assert ended.code == 0, ended.err
        emails = [at for at, request in enumerate(server.requests) if "/email/" in request.path and request.status == 200]
        assert emails[-50] > 1200  # most of the two others' 1,400 were done by then


async def test_removal(tmp_path: Path) -> None:
    """It is asked for, and leaves no more of a player than the id, wherever the row had more."""
    source, path = tmp_path / "p.csv", tmp_path / "run.db"
    source.write_text("user_id,name\np1,Eve Canary\np2,Bob Canary\n,Nobody Canary\n")
    arguments = "remove-players", source, "--ignore-extra", "-j", path, "--rate", 5000
    async with fast_sandbox() as server:
        server.add_player("p1")
        asked = await ask(server, *arguments)
        assert (asked.code, "look at it with --dry-run, then give --yes" in asked.err, server.requests) == (2, True, deque())
        assert not path.exists()
        # Somebody is at the terminal, and has second thoughts.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(commands, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
            patch.setattr(typer, "confirm", lambda *_, **__: False)
            declined = await ask(server, *arguments)
            assert (declined.code, "The same command with --dry-run shows whom" in declined.err) == (2, True)
            whom = f"all data of each player in 3 rows of {source} from game {server.game_id} at {server.url}, for ever.\n"
            assert whom in declined.err
            assert ("nothing was removed" in declined.err, server.requests, path.exists()) == (True, deque(), False)
        assert "2 to send" in (await ask(server, *arguments, "--dry-run")).out
        ended = await ask(server, *arguments, "--yes")
        assert ended.code == 1
        assert [(row["state"], row.get("response", {}).get("found")) for row in lines_of(ended)] == [
            ("succeeded", True),
            ("succeeded", False),
            ("failed", None),
        ]
        assert "of those that succeeded, 1 had nothing to remove: Teak knows no such player" in ended.err
        assert not server.players
        kept = b"".join(file.read_bytes() for file in tmp_path.glob("run.db*"))
        assert (b"Canary" in kept, b"p1" in kept) == (False, True)
        assert "Canary" not in ended.out + ended.err + (await ask(server, "report", path, "--row", 2)).out
        again = await ask(server, *arguments, "--yes")
        assert "3 rows: 2 succeeded, 1 failed" in again.err
        assert len(server.requests) == 2


async def test_exclusions(tmp_path: Path) -> None:
    """A row's own end goes before that of the command; ended, nobody is excluded."""
    source = tmp_path / "p.csv"
    source.write_text("user_id,expire_at\np1,\np2,2031-01-01T00:00:00Z\np3,2031-01-01\n")
    async with fast_sandbox() as server:
        ended = await ask(server, "exclude", source, "--until", "2030-01-31T00:00+00:00")
        assert ended.code == 1
        rows = lines_of(ended)
        assert [row["state"] for row in rows] == ["succeeded", "succeeded", "failed"]
        assert "expire_at: must be a datetime with a time zone" in rows[2]["error"]["message"]
        assert {request.user_id: request.parameters["expire_at"] for request in server.requests} == {
            "p1": "2030-01-31T00:00:00Z",
            "p2": "2031-01-01T00:00:00Z",
        }
        source.write_text("user_id\np1\np2\n")
        assert (await ask(server, "end-exclusion", source)).code == 0
        forever = await ask(server, "exclude", source)
        assert [row["response"]["exclusion"]["expire_at"] for row in lines_of(forever)] == [None, None]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("exclude", "IN", "--until", "2001-01-01"), "--until: 2001-01-01 has passed"),
        (("exclude", "IN", "--until", "soon"), "--until: 'soon' cannot be read as a time"),
        (("opt-out", "IN", "--channel", "email"), "the header needs a column email"),
        (("opt-out", "IN", "--channel", "all"), "column email (to do without: --channel desktop_push --channel push)"),
        (("opt-out", "IN", "--category", "sales,news"), "for several, give each row its own in a column category"),
        (("identify", "IN", "--constant", "country_code=USA"), "--constant: country_code: must be a two-letter ISO country"),
        (("identify", "IN", "--constant", "client_ip=nowhere"), "--constant: client_ip: must be"),
        (("exclude", "IN", "--constant", "expire_at=soon"), "--constant: expire_at: "),
        (("status", "IN", "-o", "states.jsonl.gz"), "results are not compressed; leave .gz out of the name"),
        (("opt-out", "IN", "--channel", "sms"), "'sms' is none of desktop_push, push, email, all"),
        (("identify", "IN", "--channel", "push"), "No such option: --channel"),
    ],
)
async def test_what_cannot_be_done(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    source = tmp_path / "p.csv"
    source.write_text("user_id\np1\n")
    async with fast_sandbox() as server:
        ended = await ask(server, *(source if argument == "IN" else argument for argument in arguments))
        assert ended.code == 2
        assert said in " ".join(ended.err.split()), ended.err
        assert server.requests == type(server.requests)()


async def test_a_removal_that_was_repeated_had_something_to_remove(tmp_path: Path) -> None:
    """An earlier attempt may have removed what the last one did not find; and no row is no removal to ask about."""
    source = tmp_path / "p.csv"
    source.write_text("user_id\np1\np2\n")
    async with fast_sandbox() as server:
        server.add_player("p1")
        server.add_player("p2")
        server.fail_next("removals", "response_lost")
        ended = await ask(server, "remove-players", source, "--yes")
        assert (ended.code, "nothing to remove" in ended.err, server.players) == (0, False, {})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(commands, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
            empty = await ask(server, "remove-players", source, "--rows", "100-200")
            assert (empty.code, "selects no row" in empty.err, "for ever" in empty.err) == (2, True, False)

            def leave(*_: Any, **__: Any) -> bool:
                raise typer.Abort

            patch.setattr(typer, "confirm", leave)
            left = await ask(server, "remove-players", source)
            assert (left.code, "nothing was removed" in left.err) == (2, True)


async def test_an_empty_file_makes_no_journal(tmp_path: Path) -> None:
    """The file of the next day has columns, and the journal would be that of another input."""
    source, journal = tmp_path / "p.csv", tmp_path / "run.db"
    async with fast_sandbox() as server:
        server.add_player("p1")
        for content, code in (("", 0), ("user_id\np1\n", 0), ("", 2)):
            source.write_text(content)
            ended = await ask(server, "opt-out", source, "--allow-empty", "-j", journal)
            assert ended.code == code, ended.err
        assert ": empty; " in (await ask(server, "opt-out", source, "--allow-empty")).err


async def test_addresses_that_are_left_out(tmp_path: Path) -> None:
    """Who opts people out by a file with addresses is told that these stay as they are."""
    source = tmp_path / "p.csv"
    source.write_text("user_id,Email,country_code\np1,eve@example.com,US\n")
    async with fast_sandbox() as server:
        server.add_player("p1")
        said = "; left out: 'Email', 'country_code' (addresses are --channel email, or all); "
        assert said in (await ask(server, "opt-out", source)).err
        assert "left out: 'country_code'; " in (await ask(server, "opt-out", source, "--channel", "all")).err
        assert "left out: 'Email', 'country_code'; " in (await ask(server, "exclude", source)).err


async def test_categories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a line, by the identifier that `--category` takes; the credentials may be in a file, as for each list."""
    names = tmp_path / "teak.env"
    async with fast_sandbox() as server:
        names.write_text(f"TEAK_SECRET_KEY={SECRET_KEY}\nTEAK_GAME_ID={GAME_ID}\nTEAK_BASE_URL={server.url}\n")
        for name in ("TEAK_SECRET_KEY", "TEAK_GAME_ID", "TEAK_BASE_URL"):
            monkeypatch.setenv(name, "")  # it is as it was after the test
            monkeypatch.delenv(name)
        ended = await asyncio.to_thread(CliRunner().invoke, app, ["categories", "--env-file", str(names)])
        assert [json.loads(line)["identifier"] for line in ended.stdout.splitlines()] == ["sales", "events"]
        for name in ("exclusions", "unsubscriptions --since yesterday"):
            ended = await asyncio.to_thread(CliRunner().invoke, app, [*name.split(), "--env-file", str(names)])
            assert (ended.exit_code, ended.stdout) == (0, "")


async def test_lists(tmp_path: Path) -> None:
    """All pages are written, each entry once, and an earlier page's cursor goes on behind it."""
    async with fast_sandbox(limits={"exclusions": 5000, "unsubscriptions": 5000}) as server:
        source = tmp_path / "p.csv"
        source.write_text("user_id\n" + "".join(f"p{number:04}\n" for number in range(2_500)))
        assert (await ask(server, "exclude", source, "--rate", 5000)).code == 0
        whole = await ask(server, "exclusions")
        assert [json.loads(line)["user_id"] for line in whole.out.splitlines()] == [f"p{number:04}" for number in range(2_500)]
        rest = await ask(server, "exclusions", "--after", "2000")
        assert len(rest.out.splitlines()) == 500
        source.write_text("email\neve@example.com\n")
        await ask(server, "opt-out", source, "--channel", "email")
        found = await ask(server, "unsubscriptions", "--since", "2026-01-01")
        assert [json.loads(line)["email"] for line in found.out.splitlines()] == ["eve@example.com"]
        for since in ("2h30m", "yesterday 18:00", "00:00"):
            assert (await ask(server, "unsubscriptions", "--since", since)).out == found.out
        none = await ask(server, "unsubscriptions", "--since", "0.001s ago")
        assert (none.code, none.out, none.err[:6]) == (0, "", "since ")
        for to_come in ("2199-01-01", "tomorrow 6:30"):
            ended = await ask(server, "unsubscriptions", "--since", to_come)
            assert (ended.code, f"--since: {to_come} is to come, it is 20" in ended.err) == (2, True)
        wrong = await ask(server, "unsubscriptions", "--since", "lately")
        assert (wrong.code, "--since: 'lately' cannot be read as a time" in wrong.err) == (2, True)
