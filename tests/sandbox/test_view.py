from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from teak_async.sandbox import IDENTIFY, STATUS, Faults, Received, Sandbox
from teak_async.sandbox.game import Address, Exclusion
from teak_async.sandbox.recording import KEPT, MAX_BODY, UNSEEN, Recording
from teak_async.sandbox.view import MASK, MAX_PLAYERS, MAX_TEXT, View

EPOCH, LATE = (datetime(year, 1, 1, tzinfo=UTC) for year in (2026, 2099))


class Seen:
    """A sandbox that received what a test tells, without a network."""

    def __init__(self) -> None:
        self.sandbox = Sandbox(secret_key='quite "secret" é')
        self.recording = Recording()

    def receive(self, stamp: float, path: str = IDENTIFY, *, status: int = 201, body: str = "{}", **told: Any) -> None:
        secret, fault = told.pop("secret", None), told.pop("fault", None)
        received = Received(path, str(told.get("user_id", "")), stamp, status, status == 201, fault, told)
        self.sandbox.requests.append(received)
        self.sandbox.seen[path].count(stamp)
        self.recording.add(received, "POST", None if fault == "reset" else (status, body.encode(), "application/json"), secret)

    def view(self, find: str = "") -> View:
        return View(self.sandbox, self.recording, find)


@pytest.fixture
def seen() -> Seen:
    return Seen()


def look(view: View, now: float) -> dict[str, Any]:
    """Look, and see that it can be sent."""
    steps = list(view.count(now))
    assert steps == [None] * len(steps)
    looked = view.look(now, 1_000_000.0)
    assert json.loads(json.dumps(looked)) is not None
    return looked


def path_of(looked: dict[str, Any], path: str) -> dict[str, Any]:
    """What is told of a path."""
    (found,) = (one for one in looked["paths"] if one["path"] == path)
    return dict(found)


def test_each_request_counts_once(seen: Seen) -> None:
    """Whatever comes before the first look or between two, and when nothing comes, the counts are right."""
    view = seen.view()
    for number in range(5):
        seen.receive(1000.0 + number / 10)
    assert path_of(look(view, 1002.0), IDENTIFY)["minute"]["requests"] == 5
    assert path_of(look(view, 1002.0), IDENTIFY)["minute"]["requests"] == 5
    seen.receive(1002.0, status=429)
    seen.receive(1002.0)
    seen.receive(1002.0, STATUS)
    looked = look(view, 1003.0)
    assert path_of(looked, IDENTIFY)["minute"] == {"requests": 7, "rate_limited": 1, "sliding": 0, "fixed": 0}
    assert path_of(looked, STATUS)["plot"][-5:] == [0, 1, 1, 1, 1]
    assert "plot" not in path_of(looked, "/v2/exclusions")
    assert looked["requests"] == 8


@pytest.mark.parametrize(("fault", "refused"), [("stall", 1), ("reset", 0), ("error_before", 0), ("rate_limited", 0)])
def test_faults_that_do_not_count(seen: Seen, fault: str, refused: int) -> None:
    """The limit models leave out what goes wrong before the limit is looked at, as the sandbox does."""
    seen.sandbox.set_limits(identify=1)
    for given in (fault, None):
        seen.receive(1000.0, fault=given)
    assert path_of(look(seen.view(), 1001.0), IDENTIFY)["minute"]["sliding"] == refused


def test_the_first_look_goes_back_a_minute(seen: Seen) -> None:
    """A reader who comes late sees the last minute, and not what was before."""
    for second in range(600):
        seen.receive(1000.0 + second)
    looked = look(seen.view(), 1600.0)
    assert path_of(looked, IDENTIFY)["plot"] == [1] * 240
    assert path_of(looked, IDENTIFY)["requests"] == 600


def test_others_have_their_turn(seen: Seen) -> None:
    """A minute of very many requests is counted in steps."""
    for number in range(10_000):
        seen.receive(1000.0 + number / 1000)
    assert len(list(seen.view().count(1010.0))) == 5


def test_another_limit_meanwhile(seen: Seen) -> None:
    """What the limit models would have said goes by the limit of now."""
    view = seen.view()
    seen.receive(1000.0)
    look(view, 1000.0)
    seen.sandbox.set_limits(identify=1)
    for _ in range(3):
        seen.receive(1000.5)
    told = path_of(look(view, 1002.0), IDENTIFY)
    assert (told["limit"], told["minute"]["sliding"]) == (1, 2)


def test_requests_are_told_once_and_bounded(seen: Seen) -> None:
    """A look has what is new, at most what is kept, and what went wrong outlives the crowd."""
    view = seen.view()
    with seen.recording.watched():
        seen.receive(999.0, fault="reset", status=500)
        for number in range(3 * KEPT):
            seen.receive(1000.0, user_id=f"p{number}")
        looked = look(view, 1001.0)
    assert [one["number"] for one in looked["new"]] == [0, *range(2 * KEPT + 1, 3 * KEPT + 1)]
    assert (looked["new"][0]["status"], looked["new"][0]["fault"], looked["failures"]) == (None, "reset", 1)
    assert look(view, 1001.0)["new"] == []
    seen.receive(1001.0, user_id="late")
    (last,) = look(view, 1002.0)["new"]
    assert (last["user_id"], last["when"], last["call"], last["status"]) == ("late", 1_001_001.0, f"POST {IDENTIFY}", 201)
    assert json.loads(last["parameters"]) == {"user_id": "late"}
    assert len(look(seen.view(), 1002.0)["new"]) == UNSEEN + 1


@pytest.mark.parametrize("secret", ['quite "secret" é', "another-game's"])
def test_secrets_are_masked(seen: Seen, secret: str) -> None:
    """The sandbox's secret and the one that was sent are nowhere, in whatever form JSON gives them."""
    for body in (json.dumps({"deep_link": f"teak:///{secret}"}), json.dumps({"a": secret}, ensure_ascii=False)):
        seen.receive(1000.0, user_id=secret, body=body, secret=secret, link={secret: [f"x{secret}y"]})
    told = json.dumps(look(seen.view(), 1001.0), ensure_ascii=False)
    assert MASK in told
    for form in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
        assert form not in told
        assert json.dumps(form, ensure_ascii=False)[1:-1] not in told


def test_a_secret_that_is_no_text(seen: Seen) -> None:
    """A client that sends nonsense as its secret is shown all the same."""
    seen.receive(1000.0, secret=["x"])
    seen.receive(1000.0, secret="")
    assert len(look(seen.view(), 1001.0)["new"]) == 2


def test_deep_parameters(seen: Seen) -> None:
    """Parameters that are nested too deep to be written do not end the page."""
    deep: list[Any] = []
    for _ in range(100_000):  # more than any Python takes
        deep = [deep]
    seen.receive(1000.0, user_id="p", deep=deep)
    assert look(seen.view(), 1001.0)["new"][0]["parameters"] == "nested too deep to be shown"


def test_long_texts_are_cut(seen: Seen) -> None:
    """A long answer is kept and shown in part."""
    seen.receive(1000.0, body="x" * 1_000_000, much="y" * 100_000)
    (told,) = look(seen.view(), 1001.0)["new"]
    assert len(told["answer"]) == len(told["parameters"]) == MAX_TEXT + 2
    (kept,) = seen.recording.since(0)
    assert kept.answer is not None
    assert len(kept.answer[1]) == MAX_BODY


def test_players(seen: Seen) -> None:
    """The latest players are shown with sessions, states and exclusions, bounded; a search finds older ones."""
    server, game = seen.sandbox, seen.sandbox.game
    for number in range(1000):
        server.add_player(f"p{number}")
    old = server.players["p7"]
    old.sessions, old.state = 3, "opt_out"
    old.categories["sales"] = "opt_out"
    game.give_address("p7", "P7@example.com")
    game.addresses["p7@example.com"] = Address("spam_report", categories={"sales": "opt_in"})
    game.exclusions |= {"p7": Exclusion(EPOCH, None), "p8": Exclusion(EPOCH, EPOCH), "stranger": Exclusion(EPOCH, LATE)}
    told = look(seen.view(), 1000.0)["players"]
    assert (told["count"], told["excluded"]) == (1000, 3)
    assert [one["user_id"] for one in told["shown"]] == [f"p{999 - number}" for number in range(MAX_PLAYERS)]
    assert told["shown"][0] == {"user_id": "p999", "sessions": 0, "email": None, "states": [("desktop_push", "opt_in")]}
    found = {one["user_id"]: one for one in look(seen.view("p7"), 1000.0)["players"]["shown"]}
    assert [*found] == ["p7", *(f"p{799 - number}" for number in range(MAX_PLAYERS - 1))]
    states = [("desktop_push", "opt_out"), ("desktop_push/sales", "opt_out"), ("email", "spam_report")]
    assert found["p7"] == {"user_id": "p7", "sessions": 3, "email": "P7@example.com", "states": states, "excluded": "for good"}
    assert "excluded" not in look(seen.view("p8"), 1000.0)["players"]["shown"][0]
    (stranger,) = look(seen.view("strang"), 1000.0)["players"]["shown"]
    assert stranger == {"user_id": "stranger", "sessions": 0, "states": [], "excluded": "until 2099-01-01 00:00+00:00"}


def test_an_address_stands_for_its_player(seen: Seen) -> None:
    """A call that names an address and no player is told by that."""
    seen.receive(1000.0, "/v2/email/subscription_status", email="p@example.com")
    assert look(seen.view(), 1001.0)["new"][0]["user_id"] == "p@example.com"


def test_settings(seen: Seen) -> None:
    """The settings of now are told, with their lines, and what is to fail next."""
    seen.sandbox.set_faults(Faults(stall=0.5))
    seen.sandbox.fail_next("identify", "reset", "stall")
    looked = look(seen.view(), 1000.0)
    assert looked["settings"]["faults"]["stall"] == 0.5
    assert (looked["settings"]["python"], looked["settings"]["shell"]) == (
        "Faults(stall=0.5)",
        "teak-async sandbox --stall 0.5",
    )
    assert looked["pending"] == {"identify": ["reset", "stall"]}
