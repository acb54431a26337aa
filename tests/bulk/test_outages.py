"""Runs through outages, played by a server of the tests' own: what it did is its own count, and not the sandbox's."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from support import MANY

from teak_async import (
    BulkReport,
    Delivery,
    Forbidden,
    Identify,
    Limits,
    Outage,
    RetryPolicy,
    SetSubscription,
    TeakError,
    TeakSession,
    Timeout,
)

Weather = Literal["fine", "503", "503 after 4 s", "reset", "page", "portal", "gateway", "silent", "closed"]


class Server:
    """Records a session for each identify in fine weather, and does nothing in any other."""

    def __init__(self, delay: float = 0.0) -> None:
        self.weather: Weather = "fine"
        self.done: Counter[str] = Counter()
        self.states: dict[str, str] = {}
        self.asked: Counter[str] = Counter()
        self.denied: Callable[[str], bool] = lambda _: False
        self.answers: Iterator[int] = iter(())
        self._delay = delay
        self._port = 0
        self._listening: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", self._port, backlog=1024)
        self._port = self._listening.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def set(self, weather: Weather) -> None:
        """Change the weather; `closed` takes the listening socket and every connection away."""
        was, self.weather = self.weather, weather
        if weather == "closed":
            await self.close()
        elif was == "closed":
            await self.listen()

    async def close(self) -> None:
        assert self._listening is not None
        self._listening.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
                )
                asked = json.loads(await reader.readexactly(length))
                await asyncio.sleep(self._delay / 2)
                await self._respond(asked, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _respond(self, asked: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        user = asked["user_id"]
        self.asked[user] += 1
        extra = ""
        match self.weather:
            case "fine":
                status, kind, body = self._process(asked)
            case "503" | "503 after 4 s":
                status, kind, body = 503, "text/plain", "down for maintenance"
                extra = "Retry-After: 4\r\n" if self.weather == "503 after 4 s" else ""
            case "page":
                status, kind, body = 502, "text/html", "<html><h1>502 Bad Gateway</h1>nginx</html>"
            case "portal":
                status, kind, body, extra = 302, "text/html", "", "Location: http://captive.example/login\r\n"
            case "gateway":
                status, kind, body = 401, "application/json", '{"message":"Unauthorized"}'
            case "silent":
                return
            case _:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return
        await asyncio.sleep(self._delay / 2)
        text = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{extra}Content-Length: {len(body)}\r\n\r\n{body}"
        writer.write(text.encode())

    def _process(self, asked: dict[str, Any]) -> tuple[int, str, str]:
        user = asked["user_id"]
        status = next(self.answers, 200)
        if status in (400, 404):
            return status, "application/json", json.dumps({"status": "error", "errors": {"user_id": ["is wrong"]}})
        if status == 403 or self.denied(user):
            said = {"status": "error", "errors": {"authorization": ["is invalid"]}}
            return 403, "application/json", json.dumps(said)
        if "state" in asked:
            before, self.states[user] = self.states.get(user, "opt_in"), asked["state"]
            body = {"status": "ok", "user_id": user, "channel": "desktop_push", "previous_state": before}
            return 200, "application/json", json.dumps(body | {"state": asked["state"], "reachable": True, "categories": {}})
        self.done[user] += 1
        states = {name: {"state": "opt_in"} for name in ("email", "push", "sms")}
        said = {"session_id": str(sum(self.done.values())), "country_code": "US", "opt_out_states": states}
        return 201, "application/json", json.dumps(said)


@asynccontextmanager
async def serving(delay: float = 0.0) -> AsyncIterator[Server]:
    server = Server(delay)
    await server.listen()
    try:
        yield server
    finally:
        await server.close()


def session(server: Server, limit: int, **retry: Any) -> TeakSession:
    return TeakSession(
        "1",
        "s",
        base_url=server.url,
        limits=Limits(limit, limit),
        retry=RetryPolicy(**retry),
        timeout=Timeout(connect=2, response=2),
    )


def players(count: int) -> list[Identify]:
    return [Identify(f"p{number}", country_code="US") for number in range(count)]


@pytest.mark.parametrize("weather", ["503", "reset", "page", "portal", "gateway", "closed"])
async def test_an_outage_puts_a_few_rows_in_doubt_and_not_the_file(weather: Weather) -> None:
    """What was on the wire, five more and one a probe; nobody twice, and all others done."""
    limit, trip = 400, 0.02
    async with serving(trip) as server, session(server, limit) as teak:
        run = teak.bulk(players(600))
        async with run:
            task = asyncio.create_task(drain(run))
            while sum(server.done.values()) < 200:
                await asyncio.sleep(0.005)
            await server.set(weather)
            await asyncio.sleep(1.5)
            await server.set("fine")
            outcomes = await task
    check(server, outcomes, run.report, 600, int(limit * 0.1) + 5 + 2)  # a loaded machine has 0.1 s on the wire


async def test_a_silent_server_puts_at_most_a_window_in_doubt() -> None:
    """Permits come back when the time for the response is over, and no faster."""
    limit = 50
    async with serving(0.01) as server, session(server, limit) as teak:
        run = teak.bulk(players(200))
        async with run:
            task = asyncio.create_task(drain(run))
            while sum(server.done.values()) < 60:
                await asyncio.sleep(0.005)
            await server.set("silent")
            await asyncio.sleep(2.5)
            await server.set("fine")
            outcomes = await task
    check(server, outcomes, run.report, 200, limit + 5 + 2)


async def test_a_run_waits_as_long_as_a_503_asks(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is sent before, and it is said once."""
    async with serving(0.01) as server, session(server, 200) as teak:
        run = teak.bulk(players(200))
        async with run:
            task = asyncio.create_task(drain(run))
            while sum(server.done.values()) < 50:
                await asyncio.sleep(0.005)
            await server.set("503 after 4 s")
            while not run.trouble:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            before = sum(server.asked.values())
            await server.set("fine")
            await asyncio.sleep(3)
            assert sum(server.asked.values()) == before
            outcomes = await task
    check(server, outcomes, run.report, 200, 60)  # 20 on a machine of its own
    assert caplog.text.count("the server is out") == 1


async def test_rows_that_were_not_sent_are_left_for_the_next_run(tmp_path: Path) -> None:
    """When an outage lasts too long the run ends with what to do, and the resumed run sends what is left."""
    async with serving() as server:
        async with session(server, 500, outage=1.0, initial_wait=0.01) as teak:
            run = teak.bulk(players(400), journal=tmp_path / "run.db")
            async with run:
                task = asyncio.create_task(drain(run))
                while sum(server.done.values()) < 100:
                    await asyncio.sleep(0.005)
                await server.set("closed")
                with pytest.raises(Outage, match="what was not sent is left for another run"):
                    await task
            first = run.report
            assert (first.failed, first.skipped) == (0, 0)
            assert first.not_sent > 0
            assert first.total == first.succeeded + first.in_doubt + first.not_sent
        await server.set("fine")
        async with session(server, 5000) as teak:
            report = await teak.bulk(players(400), journal=tmp_path / "run.db")
        assert report.succeeded + report.skipped + report.in_doubt == 400
        assert report.failed == report.failed_earlier == 0
        assert max(server.done.values()) == 1
        assert len(server.done) >= 400 - report.in_doubt


@pytest.mark.parametrize("weather", ["503", "reset", "portal"])
async def test_live_calls_go_on_failing_fast(weather: Weather) -> None:
    """The outage of a run is the run's: a live call beside it says at once what became of it."""
    async with serving() as server, session(server, 500) as teak:
        run = teak.bulk(players(300))
        async with run:
            await server.set(weather)
            while run.trouble is None and not run.report.in_doubt:
                await asyncio.sleep(0.01)
            began = asyncio.get_running_loop().time()
            with pytest.raises(TeakError) as failed:
                await teak.identify("live", country_code="US")
            assert asyncio.get_running_loop().time() - began < 1
            assert failed.value.delivery is Delivery.UNKNOWN


async def test_sets_end_in_their_last_state_through_an_outage() -> None:
    """They may be repeated, so what was in doubt is made again after it."""
    async with serving() as server, session(server, 500, initial_wait=0.01) as teak:
        run = teak.bulk([SetSubscription(f"p{number}", "opt_out") for number in range(300)])
        async with run:
            task = asyncio.create_task(drain(run))
            while len(server.states) < 100:
                await asyncio.sleep(0.005)
            await server.set("page")
            await asyncio.sleep(0.5)
            await server.set("fine")
            outcomes = await task
    assert run.report.succeeded + run.report.in_doubt == len(outcomes) == 300
    assert run.report.in_doubt <= 2
    assert len(server.states) >= 298


async def test_a_firewall_about_some_rows_does_not_end_a_run() -> None:
    """Teak's own words for wrong credentials end a run while nothing has succeeded, or when several in a row say so."""
    async with serving() as server, session(server, 500) as teak:
        server.denied = lambda user: user in ("p50", "p70", "p90")
        report = await teak.bulk(players(120))
        assert (report.succeeded, report.failed) == (117, 3)
        server.denied = lambda _: True
        with pytest.raises(Forbidden):
            await teak.bulk(players(120))


@pytest.mark.parametrize(("between", "failed"), [(200, 3), (400, 5), (404, 5)])
async def test_any_other_answer_says_that_the_credentials_are_right(between: int, failed: int) -> None:
    """Only denials without another answer among them end a run that has succeeded before."""
    sets = [SetSubscription("p1", "opt_out") for _ in range(7)]  # of one player, so one after the other
    async with serving() as server, session(server, 500) as teak:
        server.answers = iter([200, 403, between, 403, between, 403, 200])
        assert (await teak.bulk(sets)).failed == failed
        server.answers = iter([200, 403, 403, between, 403, 403, 403])
        with pytest.raises(Forbidden):
            await teak.bulk(sets)
        assert next(server.answers, None) is None


async def test_credentials_that_are_withdrawn_end_a_run(tmp_path: Path) -> None:
    """Rows that the server denied after that are not finished: corrected, the run goes on."""
    async with serving() as server, session(server, 200) as teak:
        server.denied = lambda user: int(user[1:]) >= 100
        with pytest.raises(Forbidden):
            await teak.bulk(players(300), journal=tmp_path / "run.db")
        server.denied = lambda _: False
        report = await teak.bulk(players(300), journal=tmp_path / "run.db")
        assert report.failed_earlier <= 10  # 2, and more where responses of both kinds come mixed
        assert report.succeeded + report.skipped == 300


# It is the outages above in one run, each for longer. A plain run of all tests has two minutes; .ci/run sets CI.
@pytest.mark.skipif(not MANY, reason="five thousand rows through forty seconds of outages take a minute and a half: set CI=1")
async def test_a_night_of_outages() -> None:
    """Ten seconds of each, at 40 ms and the documented limit."""
    async with serving(0.04) as server, session(server, 200) as teak:
        run = teak.bulk(players(5000))
        async with run:
            task = asyncio.create_task(drain(run))
            weathers: tuple[Weather, ...] = ("503", "reset", "page", "closed")
            for number, weather in enumerate(weathers, 1):
                while sum(server.done.values()) < 1000 * number:
                    await asyncio.sleep(0.01)
                in_doubt = run.report.in_doubt
                await server.set(weather)
                await asyncio.sleep(10)
                await server.set("fine")
                async with asyncio.timeout(20):  # 5 until the next probe, 1 for the rows
                    while sum(server.done.values()) < 1000 * number + 100:
                        await asyncio.sleep(0.01)
                assert run.report.in_doubt - in_doubt <= 80, weather  # 25 on a machine of its own
            outcomes = await task
    check(server, outcomes, run.report, 5000, 160)


async def drain(run: Any) -> list[Any]:
    return [outcome async for outcome in run]


def check(server: Server, outcomes: list[Any], report: BulkReport, rows: int, in_doubt: int) -> None:
    """Compare what the run says with what the server did."""
    assert len(outcomes) == report.total == rows
    assert (report.failed, report.not_sent) == (0, 0)
    assert report.in_doubt <= in_doubt
    done = {outcome.request.user_id for outcome in outcomes if outcome.delivery is Delivery.DONE}
    doubted = {outcome.request.user_id for outcome in outcomes if outcome.delivery is Delivery.UNKNOWN}
    assert max(server.done.values()) == 1
    assert done <= set(server.done) <= done | doubted
