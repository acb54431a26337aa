"""Opting in and out on each channel, and exclusions, by the commands."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from support import Ended, fast_sandbox
from typer.testing import CliRunner

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
    return sorted((json.loads(line) for line in ended.out.splitlines()), key=lambda row: row["index"])


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
        assert "2 of which had failed" in again.err
        other = await ask(server, "opt-out", source, "-j", tmp_path / "run.db")
        assert (other.code, "journal of another run" in other.err) == (2, True)


async def test_an_address_keeps_its_order(tmp_path: Path) -> None:
    """Rows of one address are made one after the other, in whichever case it is written."""
    source = tmp_path / "p.csv"
    source.write_text("email,category\n" + "".join(f"{'eve' if n % 2 else 'EVE'}@example.com,c{n}\n" for n in range(40)))
    async with fast_sandbox() as server:
        assert (await ask(server, "opt-out", source, "--channel", "email", "--rate", 5000)).code == 0
        assert [request.parameters["category"] for request in server.requests] == [f"c{n}" for n in range(40)]


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
        (("opt-out", "IN", "--channel", "sms"), "'sms' is none of desktop_push, push, email"),
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
        none = await ask(server, "unsubscriptions", "--since", "2199-01-01")
        assert (none.code, none.out) == (0, "")
        wrong = await ask(server, "unsubscriptions", "--since", "lately")
        assert (wrong.code, "--since: 'lately' cannot be read as a time" in wrong.err) == (2, True)
