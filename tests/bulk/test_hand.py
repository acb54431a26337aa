"""Which rows are in hand: a pure model's judge, and whole runs of sorted files in virtual time."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from support import session_on

from benchmarks.virtual import VirtualLoop, run_virtual
from teak_async import GetSubscription, Identify, Limits, RemovePlayer, Request, SetSubscription, TeakSession
from teak_async._api.codec import Message
from teak_async._bulk import hand as module
from teak_async._bulk.hand import MOST_ASKING, Hand, Player
from teak_async._bulk.outcomes import Row, Tally
from teak_async._bulk.players import Players
from teak_async._bulk.results import Results
from teak_async._bulk.row_call import RowCall, RunContext
from teak_async._client.exchange import Exchange
from teak_async._client.transport import RawResponse, Transport
from teak_async._limits.bucket import GRANTS_A_TURN
from teak_async.sandbox import Faults, Sandbox

Serve = Callable[[str], Awaitable[None]]


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Callable[[Serve], None]:
    """Put a made-up server in the place of the network."""

    def put(serve: Serve) -> None:
        async def send(transport: Transport, message: Message, exchange: Exchange) -> RawResponse:
            began = asyncio.get_running_loop().time()
            exchange.sent_at = began
            user_id = json.loads(message.body)["user_id"] if message.body else ""
            await serve(user_id or message.query)
            states = {name: {"state": "opt_in"} for name in ("email", "push", "sms")}
            found = json.dumps({"country_code": "US", "session_id": "1", "opt_out_states": states}).encode()
            return RawResponse(201, CIMultiDict(), found, asyncio.get_running_loop().time() - began, warm=True)

        monkeypatch.setattr(Transport, "send", send)

    return put


def rows(players: int, each: int) -> Iterator[Identify]:
    """A file sorted by player."""
    return (Identify(f"p{player}", country_code="US") for player in range(players) for _ in range(each))


def test_a_sorted_file_uses_the_limit(wire: Callable[[Serve], None]) -> None:
    """A hundred players with fifty rows each, one after the other, take no longer than mixed ones while forty are left."""
    stamps: list[tuple[float, str]] = []

    async def serve(user_id: str) -> None:
        await asyncio.sleep(0.05)
        stamps.append((asyncio.get_running_loop().time(), user_id))
        await asyncio.sleep(0.05)

    async def main(_: VirtualLoop) -> None:
        async with TeakSession("1", "secret", base_url="http://teak.test", limits=Limits(identify=200)) as teak:
            assert (await teak.bulk(rows(100, 50))).succeeded == 5_000

    wire(serve)
    run_virtual(main)
    last = {user_id: place for place, (_, user_id) in enumerate(stamps)}
    # From here on fewer than forty players are left.
    end = sorted(last.values())[-40]
    assert end > 3_000
    assert end / stamps[end][0] >= 0.95 * 200


def test_rows_of_a_player_keep_their_order(wire: Callable[[Serve], None]) -> None:
    """Whatever the input's order, a player's rows are made one after the other, in the input's order."""
    under_way: set[str] = set()

    async def serve(user_id: str) -> None:
        assert user_id not in under_way
        under_way.add(user_id)
        await asyncio.sleep(random.uniform(0.01, 0.3))
        under_way.remove(user_id)

    async def main(_: VirtualLoop) -> None:
        names = [f"p{number}" for number in range(60) for _ in range(40)]
        random.shuffle(names[:1200])
        async with TeakSession("1", "secret", base_url="http://teak.test", limits=Limits(identify=100)) as teak:
            order = defaultdict(list)
            async with teak.bulk(Identify(name, country_code="US") for name in names) as run:
                async for outcome in run:
                    assert outcome.request is not None
                    order[outcome.request.subject].append(outcome.index)
            assert len(order) == 60
            assert all(indices == sorted(indices) for indices in order.values())

    wire(serve)
    run_virtual(main)


@pytest.mark.parametrize("sets", [1, 3])
async def test_calls_of_different_kinds_on_a_player_keep_their_order(sets: int, path: Path) -> None:
    """Who is identified first can be opted out on each channel then, and is removed last."""
    requests: list[Request] = []
    for name in (f"p{number}" for number in range(60)):
        requests += [Identify(name, country_code="US")]
        requests += [SetSubscription(name, "opt_out", channel=channel) for channel in ("push", "desktop_push", "push")[:sets]]
        requests += [RemovePlayer(name)]
    async with Sandbox(faults=Faults(delay=0.005, jitter=0.005)) as server, session_on(server) as teak:
        report = await teak.bulk(requests, journal=path)
    assert (report.succeeded, report.first_error) == (len(requests), None)
    assert server.players == {}


def test_a_slow_reader_slows_the_input(wire: Callable[[Serve], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Outcomes that nobody takes stop the reading: rows of one player at the bound of rows, of many at that of players."""
    monkeypatch.setattr(module, "MOST_ROWS", 300)
    read = Counter[str]()

    async def serve(_: str) -> None:
        await asyncio.sleep(0.01)

    async def source(name: str, players: int) -> AsyncIterator[Identify]:
        for number in range(2_000):
            read[name] += 1
            yield Identify(f"p{number % players}", country_code="US")

    async def main(loop: VirtualLoop) -> None:
        assert loop.time() < 1
        async with TeakSession("1", "secret", base_url="http://teak.test", limits=Limits(identify=100)) as teak:
            for name, players in (("few", 1), ("many", 2_000)):
                async with teak.bulk(source(name, players)) as run:
                    async for _ in run:
                        await asyncio.sleep(60)
                        break

    wire(serve)
    run_virtual(main)
    assert read["few"] <= 302
    assert read["many"] <= 103


@pytest.mark.parametrize("journal", [False, True])
async def test_a_slow_reader_gets_every_outcome(path: Path, *, journal: bool) -> None:
    """Players that wait for room, which only the reader makes, are not left when no row is in flight."""
    names = [f"p{number}" for number in range(15)]
    async with Sandbox(subscription=5) as server, session_on(server, limits=Limits(subscription=5)) as teak:
        for name in names:
            server.add_player(name)
        requests = [SetSubscription(name, "opt_out", channel=one) for name in names for one in ("push", "desktop_push")]
        seen = []
        async with teak.bulk(requests, journal=path if journal else None) as run:
            async for outcome in run:
                seen.append(outcome.index)
                await asyncio.sleep(0.12)
        assert sorted(seen) == list(range(30))
        assert (run.report.total, run.report.succeeded) == (30, 30)
        # One bucket's reader left in the middle: what began is done, and the rest is counted.
        read = 0

        async def source() -> AsyncIterator[Request]:
            nonlocal read
            for request in (*requests[:2], *[SetSubscription("p0", "opt_in") for _ in range(20)]):
                read += 1
                yield request
            await asyncio.Event().wait()

        async with teak.bulk(source()) as left:
            async for _ in left:
                break
        assert left.report.total == read


# The hand alone

LIMITS = Limits(identify=4, subscription=6)


def made(row: tuple[str, int]) -> RowCall:
    kind, player = row
    request: Request = Identify(str(player), country_code="US") if kind == "identify" else GetSubscription(str(player))
    return RowCall(0, Row(request), RunContext(None))


@given(
    st.lists(st.tuples(st.sampled_from(["identify", "status"]), st.integers(0, 9)), max_size=60), st.booleans(), st.randoms()
)
def test_each_row_has_its_turn(asked: list[tuple[str, int]], journal: bool, chance: random.Random) -> None:
    """Played by hand, at random: every row is begun once, a player's in order and one at a time, within the bounds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_ROWS", 12)
        patch.setattr(module, "MOST_ASKING", 1)
        hand = Hand(LIMITS, journal=journal)
        unread = [made(row) for row in asked]
        order = {id(row): place for place, row in enumerate(unread)}
        begun: dict[str, list[int]] = defaultdict(list)
        running: list[Player] = []
        ended: list[RowCall] = []
        while unread or running or ended:
            moves = ["read"] * bool(unread and hand.has_room) + ["end"] * bool(running) + ["take"] * bool(ended)
            assert moves, "nothing can go on"
            match chance.choice(moves):
                case "read":
                    running += [player] if (player := hand.add(unread.pop(0))) is not None else []
                case "end":
                    player = chance.choice(running)
                    row = player.queue.pop(0)
                    begun[player.name].append(order[id(row)])
                    hand.permit(row)
                    ended.append(row)
                    if not player.queue:
                        player.running = False
                    if not player.queue or not hand.go_on(player):
                        running.remove(player)
                case "take":
                    hand.take(ended.pop(chance.randrange(len(ended))))
            running += hand.admit_waiting()
            assert len({player.name for player in running}) == len(running) <= 4 + 6
        assert sorted(place for places in begun.values() for place in places) == list(range(len(asked)))
        assert all(places == sorted(places) for places in begun.values())
        assert hand.unbegun_rows() == []
        assert not hand.has_waiting


def test_a_bucket_that_pauses_stops_no_other() -> None:
    """Rows of one bucket wait in hand, up to the bound, while those of another are begun."""
    hand = Hand(LIMITS)
    blocked = [hand.add(made(("identify", number))) for number in range(10)]
    assert sum(player is not None for player in blocked) == 2
    assert not hand.has_room
    hand = Hand(LIMITS)
    assert hand.add(made(("status", 100))) is not None
    for number in range(10):
        hand.add(made(("identify", number)))
    assert hand.has_room
    assert hand.add(made(("status", 101))) is not None


def test_few_ask_for_a_permit_where_rows_wait_for_their_intents() -> None:
    """With a journal, as much of the input is read as without, and the players begin in its order as others get permits."""
    hand = Hand(Limits(identify=200), journal=True)
    rows = [made(("identify", number)) for number in range(100)]
    begun = [player for row in rows if (player := hand.add(row)) is not None]
    assert len(begun) == MOST_ASKING < len(rows)
    assert not hand.has_room
    for number, row in enumerate(rows[: len(rows) - MOST_ASKING]):
        assert hand.permit(row)
        assert hand.has_room
        assert [player.name for player in hand.admit_waiting()] == [str(MOST_ASKING + number)]
        hand.add(made(("identify", 100 + number)))
        assert not hand.has_room


def test_few_begin_in_one_turn_where_many_get_room_at_once() -> None:
    """Each in its turn, and none is forgotten."""
    hand = Hand(Limits(identify=200), journal=True)
    rows = [made(("identify", number)) for number in range(100)]
    begun = [player for row in rows if (player := hand.add(row)) is not None]
    for row in rows[: len(begun)]:
        hand.permit(row)
    while admitted := hand.admit_waiting():
        assert len(admitted) == min(GRANTS_A_TURN, len(rows) - len(begun))
        begun += admitted
    assert [player.name for player in begun] == [str(number) for number in range(100)]
    assert not hand.has_waiting


async def test_those_that_get_room_at_once_begin_in_the_next_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few in each, though nothing else happens, until all have begun."""
    begun: list[Player] = []
    monkeypatch.setattr(Players, "_start", lambda _, player: begun.append(player))
    hand = Hand(Limits(identify=200), journal=True)
    async with Sandbox() as server, session_on(server) as teak:
        context = RunContext(None)
        players = Players(teak._executor, Results(context, Tally(), lambda: None), hand)
        rows = [made(("identify", number)) for number in range(100)]
        for row in rows:
            players.add(row)
        before = len(begun)
        assert before < len(rows) - 3 * GRANTS_A_TURN
        for row in rows[:before]:
            players._release(row)  # it has its permit
        while before < len(rows):
            assert 0 < len(begun) - before <= GRANTS_A_TURN
            before = len(begun)
            await asyncio.sleep(0)
