from __future__ import annotations

import asyncio
import random
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from attrs import evolve

from benchmarks.members import Valkey
from teak_async._fleet import sqlite_ledger
from teak_async._fleet.ledger import ALL, LEASE, Cut, Ledger, LedgerDownError, State, Sync, apply, key_of, path_of, show
from teak_async._fleet.member import ledger_at
from teak_async._fleet.sqlite_ledger import SqliteLedger
from teak_async._fleet.valkey_ledger import ValkeyLedger
from teak_async.errors import LedgerError


def draw_cut(draw: random.Random) -> Cut | None:
    """Seldom a cut, numbered from the cuts so far: the next one, one that comes too late, or one that nobody makes."""
    if draw.random() > 0.2:
        return None
    hold = draw.randrange(12_000)
    steps = [(0, draw.randrange(1, 30)), (hold, draw.randrange(1, 30)), (hold + 1000, ALL)]
    return Cut(draw.choice((0, 1, 1, 2)), draw.randrange(30), draw.randrange(30), hold, steps)


def syncs(seed: int, count: int) -> list[tuple[int, Sync]]:
    """Syncs as members make them, with lost ones, late ones, and ones that nobody makes."""
    draw = random.Random(seed)
    now, numbers, made = draw.randrange(10**12), dict.fromkeys("abcdef", 0), []
    for _ in range(count):
        now += draw.choice((0, 1, 30, 200, 900, 1500, 7000)) - (draw.random() < 0.02) * 5000
        letter = draw.choice("abcdef")
        numbers[letter] += draw.choice((1, 1, 1, 0, 3, -2))
        sync = Sync(
            member=f"host-{letter}:{ord(letter)}:x",
            number=numbers[letter],
            limit=draw.choice((20, 20, 20, 33)),
            holding=draw.randrange(8),
            ask=draw.randrange(12),
            keep_free=draw.randrange(4),
            short=draw.randrange(3),
            bulk=draw.random() < 0.5,
            floor=draw.randrange(6),
            known=draw.randrange(9),
            late=draw.choice((1000, 4001, 70_000)),
            cooling=draw.choice((-1, -1, -1, -1, 0, 900)),
            heir_of=draw.choice(("", "", "", "host-b:98:x", "host-c:99:x", "host-c:99")),
            pause=draw.choice((0, 0, 0, 0, 0, draw.randrange(1500))),
            cut=draw_cut(draw),
            passed=draw.randrange(50),
        )
        made.append((now, sync))
    return made


@pytest.mark.parametrize("seed", range(4))
async def test_both_ledgers_give_the_same_answers(seed: int, valkey: Valkey, tmp_path: Path) -> None:
    """The script and the Python say the same to the same syncs, and keep the same of them."""
    one, other = SqliteLedger(tmp_path / "ledger.db"), ValkeyLedger(valkey.address)
    await one.open()
    await other.open()
    granted, cuts = 0, Counter[str]()
    for now, drawn in syncs(seed, 500):
        key = key_of("game", "server", f"/{drawn.limit % 2}")
        cut = drawn.cut and evolve(drawn.cut, number=cuts[key] + drawn.cut.number)
        sync = evolve(drawn, cut=cut)
        answers = await one.sync({key: sync}, now)
        assert await other.sync({key: sync}, now) == answers
        granted += sum(answer.granted for answer in answers.values())
        cuts |= Counter({name: answer.cuts for name, answer in answers.items()})
    states = [{key: {**state, "time": 0, "last": 0} for key, state in (await ledger.read()).items()} for ledger in (one, other)]
    assert states[0] == states[1]
    assert granted > 100
    assert min(cuts.values()) > 5
    await one.close()
    await other.close()


async def test_syncs_of_several_buckets_go_together(address: str) -> None:
    """Each bucket has a state of its own."""
    ledger: Ledger = ledger_at(address)
    await ledger.open()
    sync = Sync("h:1:a", 1, 10, holding=3)
    first = await ledger.sync({"teak:{g}:/a": sync, "teak:{g}:/b": evolve(sync, holding=5)})
    assert [answer.free for answer in first.values()] == [7, 5]
    late = await ledger.sync({"teak:{g}:/a": sync, "teak:{g}:/c": sync})
    assert list(late) == ["teak:{g}:/c"]
    assert sorted(await ledger.read()) == ["teak:{g}:/a", "teak:{g}:/b", "teak:{g}:/c"]
    await ledger.close()


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("ledger.db", "ledger.db"),
        ("/run/ledger.db", "/run/ledger.db"),
        ("sqlite:///run/ledger.db", "/run/ledger.db"),
        ("redis://host", None),
        ("rediss://user:word@host:6380/2", None),
        ("unix:///run/valkey.sock?db=1", None),
    ],
)
def test_addresses(address: str, path: str | None) -> None:
    assert path_of(address) == (None if path is None else Path(path))


@pytest.mark.parametrize(
    "address", ["", "  ", "http://host", "sqlite://", "sqlite:///", "redis://", "redis://h:port", "unix://"]
)
def test_wrong_addresses(address: str) -> None:
    """The error names a right one."""
    with pytest.raises(ValueError, match="://"):
        path_of(address)


def test_no_password_is_shown() -> None:
    assert show("rediss://user:word@host:6380/2") == "rediss://host:6380/2"
    assert show("redis://host?db=1&password=word") == "redis://host?db=1&password=…"
    with pytest.raises(ValueError, match="port") as error:
        path_of("redis://user:word@host:port")
    assert "word" not in str(error.value)


def test_games_and_servers_never_meet() -> None:
    """The key is made of both, and tells neither."""
    keys = {key_of(game, server, "/v2/identify") for game in ("1", "2") for server in ("https://a", "https://b/", "https://b")}
    assert len(keys) == 4
    assert not any("https" in key for key in keys)


async def test_a_file_that_is_none(tmp_path: Path) -> None:
    """Files of others are left as they are."""
    text, database, folder = tmp_path / "notes.txt", tmp_path / "other.db", tmp_path / "folder"
    text.write_text("not a database, and long enough to be seen as none" * 20)
    folder.mkdir()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE mine (a)")
        connection.commit()
    before = text.read_bytes(), database.read_bytes()
    for path in (text, database, folder, tmp_path / "nowhere" / "ledger.db", Path("/dev/null")):
        ledger = SqliteLedger(path)
        with pytest.raises(LedgerError, match=r"share='.*: name"):
            await ledger.open()
        await ledger.close()
    assert before == (text.read_bytes(), database.read_bytes())


async def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mount that is nearest to the file counts, also where its name has a blank."""
    mounts, folder = tmp_path / "mounts", tmp_path / "of all"
    folder.mkdir()
    place = str(folder).replace(" ", "\\040")
    table = (("/", "nfs"), (tmp_path, "ext4"), (place, "cifs"), (f"{place}2", "ext4"))
    mounts.write_text("".join(f"device {where} {kind} rw 0 0\n" for where, kind in table))
    monkeypatch.setattr(sqlite_ledger, "MOUNTS", mounts)
    refused, local = SqliteLedger(folder / "ledger.db"), SqliteLedger(tmp_path / "ledger.db")
    with pytest.raises(LedgerError, match=r"a network file system \(cifs\)"):
        await refused.open()
    await local.open()
    mounts.unlink()  # a system that does not say
    await refused.open()
    for ledger in (refused, local):
        await ledger.close()


async def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """What waiting does not mend is an error at once; what it may mend is an outage."""
    (tmp_path / "ledger.db-journal").mkdir()
    other, damaged, long = tmp_path / "other.db", tmp_path / "damaged.db", tmp_path / ("x" * 300)
    ledger = SqliteLedger(other)
    await ledger.open()
    await ledger.close()
    damaged.write_bytes(other.read_bytes()[:4096])
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("PRAGMA user_version = 7")
    for path, error, said in (
        (tmp_path / "ledger.db", LedgerError, "cannot be opened: .* the right to write"),
        (other, LedgerError, r"of another version \(7, this is 1\): name another file"),
        (damaged, LedgerDownError, "it is damaged: delete it"),
        (long, LedgerDownError, "cannot be used: .*too long"),
    ):
        ledger = SqliteLedger(path)
        with pytest.raises(error, match=said):
            await ledger.open()
        await ledger.close()


async def test_another_file_put_in_place_of_a_ledger_is_an_outage(tmp_path: Path) -> None:
    """It is left as it is, and the ledger goes on when its file is back."""
    path, other = tmp_path / "ledger.db", tmp_path / "other.db"
    ledger = SqliteLedger(path)
    await ledger.open()
    await ledger.sync({"k": Sync("h:1:a", 1, 10, holding=3)})
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE mine (a)")
    path.rename(tmp_path / "away.db")
    other.rename(path)
    with pytest.raises(LedgerDownError, match="no ledger: name another file"):
        await ledger.sync({"k": Sync("h:1:a", 2, 10)})
    (tmp_path / "away.db").replace(path)
    (answer,) = (await ledger.sync({"k": Sync("h:1:b", 1, 10)})).values()
    assert answer.members == 2
    await ledger.close()


async def test_a_sync_waits_while_another_holds_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tries again once a moment, and gives up after half a second."""
    path, sync = tmp_path / "ledger.db", {"k": Sync("h:1:a", 1, 10, holding=3)}
    ledger, clock = SqliteLedger(path), [0.0]
    await ledger.open()
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as holder:

        def sleep(seconds: float) -> None:
            clock[0] += seconds
            if clock[0] > sqlite_ledger.BUSY / 2 and holder.in_transaction and not stubborn:
                holder.execute("COMMIT")

        fake = SimpleNamespace(sleep=sleep, monotonic=lambda: clock[0], monotonic_ns=time.monotonic_ns)
        monkeypatch.setattr(sqlite_ledger, "time", fake)
        stubborn = True
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerDownError, match="another program holds its lock: end that"):
            await ledger.sync(sync)
        clock[0], stubborn = 0.0, False
        (answer,) = (await ledger.sync(sync)).values()
    assert answer.free == 7
    assert clock[0] > sqlite_ledger.BUSY / 2
    await ledger.close()


async def test_a_system_without_an_id_of_its_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The members of a host share a ledger there, too."""
    monkeypatch.setattr(sqlite_ledger, "BOOT_ID", tmp_path / "none")
    one, other = (SqliteLedger(tmp_path / "ledger.db") for _ in range(2))
    await one.open()
    await other.open()
    await one.sync({"k": Sync("h:1:a", 1, 10, holding=3)})
    (answer,) = (await other.sync({"k": Sync("h:2:b", 1, 10)})).values()
    assert (answer.members, answer.free) == (2, 7)
    await one.close()
    await other.close()


async def test_a_sync_that_fails_changes_nothing(tmp_path: Path) -> None:
    """Not either for the buckets before the one at which it failed, and the next sync goes on."""
    ledger = SqliteLedger(tmp_path / "ledger.db")
    await ledger.open()
    with pytest.raises(TypeError):
        await ledger.sync({"a": Sync("h:1:a", 1, 10, holding=3), "b": Sync("h:1:a", 1, 10, holding=None)})  # type: ignore[arg-type] # it fails
    assert await ledger.read() == {}
    (answer,) = (await ledger.sync({"a": Sync("h:1:b", 1, 10)})).values()
    assert answer.members == 1
    await ledger.close()


def test_a_valkey_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address with a wrong option is told without its password; without the extra the error says how to get it."""
    with pytest.raises(ValueError, match=r"^share='redis://host:1\?socket_timeout=x': Invalid") as error:
        ValkeyLedger("redis://user:word@host:1?socket_timeout=x")
    assert "word" not in str(error.value)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(LedgerError, match=r"pip install 'teak_async\[redis\]'"):
        ValkeyLedger("redis://host")


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (b"-NOPERM User default has no permissions to run the 'script|load' command\r\n", "the user may not do what is needed"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "neither Valkey nor Redis"),
    ],
)
async def test_a_server_that_will_never_do(response: bytes, said: str) -> None:
    """It is an error that waiting does not mend."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(response)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        ledger = ValkeyLedger(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(LedgerError, match=said):
            await ledger.open()
        await ledger.close()


async def test_a_wrong_password_and_no_server(stopped_valkey: Valkey) -> None:
    """A wrong password is an error that waiting does not mend; a server that is not there is an outage."""
    stopped_valkey.options = ("--requirepass", "right")
    ledger = ValkeyLedger(stopped_valkey.address)
    with pytest.raises(LedgerDownError, match="cannot be reached"):
        await ledger.open()
    await ledger.close()
    stopped_valkey.start()
    for user in ("", ":wrong@"):
        ledger = ValkeyLedger(stopped_valkey.address.replace("://", f"://{user}"))
        with pytest.raises(LedgerError, match="password") as error:
            await ledger.open()
        assert "wrong@" not in str(error.value)
        await ledger.close()


async def test_a_file_that_is_deleted_is_another_ledger(tmp_path: Path) -> None:
    """Also for a ledger that has it open; and after a boot the same file is a new one."""
    path = tmp_path / "ledger.db"
    ledger = SqliteLedger(path)
    await ledger.open()
    await ledger.sync({"k": Sync("h:1:a", 1, 10, holding=3)})
    path.unlink()
    (answer,) = (await ledger.sync({"k": Sync("h:1:b", 1, 10)})).values()
    assert (answer.members, answer.free) == (1, 10)
    ledger._boot = "another"
    (answer,) = (await ledger.sync({"k": Sync("h:1:c", 1, 10)})).values()
    assert answer.members == 1
    await ledger.close()


async def test_a_full_disk_is_an_outage(tmp_path: Path) -> None:
    """The error names the remedy; what was known before is still there, and all goes on when there is room."""
    ledger = SqliteLedger(tmp_path / "ledger.db")
    await ledger.open()
    await ledger.sync({"k": Sync("h:1:a", 1, 10, holding=3)})
    connection = ledger._connection
    assert connection is not None
    connection.execute("PRAGMA max_page_count = 1")  # it allows as many as there are
    with pytest.raises(LedgerDownError, match="make room"):
        await ledger.sync({f"k{number}": Sync(f"h:1:{'a' * 400}", 1, 10) for number in range(40)})
    answers = await ledger.sync({"k": Sync("h:1:b", 1, 10), "k0": Sync("h:1:b", 1, 10)})
    assert [answer.members for answer in answers.values()] == [2, 1]
    await ledger.close()


async def test_a_restarted_server_has_no_script(valkey: Valkey) -> None:
    """The ledger loads it again and goes on."""
    ledger = ValkeyLedger(valkey.address)
    await ledger.open()
    valkey.kill()
    with pytest.raises(LedgerDownError):
        await ledger.sync({"k": Sync("h:1:a", 1, 10)})
    valkey.start()
    assert await ledger.sync({"k": Sync("h:1:a", 2, 10)})
    await ledger.close()


def test_a_new_ledger_keeps_a_permit_for_each_idle_member_it_was_told_of() -> None:
    """An idle member syncs seldom, and may use its permit at any moment."""
    state, answer = apply(None, Sync("h:1:a", 1, 20, holding=4, ask=20, known=6), 0)
    assert answer is not None
    assert (answer.granted, answer.members) == (0, 6)
    state, answer = apply(state, Sync("h:1:a", 2, 20, holding=4, ask=20, known=6), 1400)
    assert answer is not None
    assert (answer.granted, answer.free) == (11, 0)
    for number in range(3, 25):
        state, answer = apply(state, Sync("h:1:a", number, 20, holding=15), 1400 + number * 1400)
    assert answer is not None
    assert (answer.members, answer.free) == (1, 5)


def killed_alone(floor: int) -> State:
    """A fleet of one with bulk work, which held all and was just killed."""
    state, _ = apply(None, Sync("h:1:a", 1, 20), 0)
    for number, now in enumerate(range(1000, 5000, 200), 2):
        state, _ = apply(state, Sync("h:1:a", number, 20, holding=20, bulk=True, floor=floor, late=6000), now)
    return state


def granted_within(state: State, since: int, milliseconds: int) -> int:
    """What a new member gets that wants all, and syncs as one whose calls wait."""
    granted = 0
    for now in range(since, since + milliseconds, 10):
        state, answer = apply(state, Sync("h:2:b", now, 20, holding=granted, ask=20 - granted), now)
        assert answer is not None
        granted += answer.granted
    return granted


@pytest.mark.parametrize(("quiet", "free"), [(5_000, 0), (25_000, 15), (75_000, 20), (3_600_000, 20)])
def test_the_silence_of_a_killed_member_counts_while_nobody_syncs(quiet: int, free: int) -> None:
    """Who comes later gets what is due by then: what was above its part after the lease, and all after a minute."""
    assert granted_within(killed_alone(floor=5), 4800 + quiet, LEASE + 50) == free


def test_a_ledger_that_was_away_hears_its_members_first() -> None:
    """They have used their parts all the time, and are given the time in which they come back to it."""
    state = killed_alone(floor=20)
    assert granted_within(state, 80_000, LEASE - 50) == 0
    state, answer = apply(state, Sync("h:1:a", 90, 20, holding=20, bulk=True, floor=20, late=6000), 80_000 + LEASE)
    assert answer is not None
    assert answer.members == 2
    assert granted_within(state, 80_100 + LEASE, LEASE) == 0


@pytest.mark.parametrize(("response", "gone"), [(30_000, 60_100), (100_000, 105_100)])
def test_what_a_killed_member_has_sent_may_arrive_late(response: int, gone: int) -> None:
    """A server may take its time; until then nobody else gets its permits."""
    state, _ = apply(None, Sync("h:1:a", 1, 20, holding=9, floor=5, bulk=True, late=response), 0)
    left = []
    for number, now in enumerate(range(500, 120_000, 500), 1):
        state, answer = apply(state, Sync("h:2:b", number, 20), now)
        assert answer is not None
        left.append(20 - answer.free)
    assert left == [9] * ((LEASE + response) // 500 - 1) + [5] * (left.count(5)) + [0] * left.count(0)
    assert (gone - 500) // 500 <= left.index(0) + 1 <= gone // 500


def test_a_member_that_holds_permits_is_missed_when_it_is_silent() -> None:
    """One that keeps its permit is not."""
    state, _ = apply(None, Sync("h:1:a", 1, 20, holding=9), 0)
    state, _ = apply(state, Sync("h:2:b", 1, 20, holding=1), 0)
    missed = []
    for number, now in enumerate((1000, 2000, 90_000), 1):
        state, answer = apply(state, Sync("h:3:c", number, 20), now)
        assert answer is not None
        missed.append(answer.missed)
    assert missed == [0, 9, 9]


def test_an_idle_member_is_not_forgotten_where_others_sync_often() -> None:
    """Not either where the clock of a server was set forward: the idle one cannot know, and syncs seldom."""
    state, _ = apply(None, Sync("h:1:a", 1, 20, holding=1), 0)
    for number, now in enumerate(range(200_000, 215_000, 100), 1):
        state, answer = apply(state, Sync("h:2:b", number, 20, holding=19, ask=1, bulk=True), now)
    assert answer is not None
    assert (answer.members, answer.granted) == (2, 0)


def test_a_pause_lasts_as_long_as_it_should_where_members_sync_seldom() -> None:
    """The same holds for what cools of a member that has left."""
    state, _ = apply(None, Sync("h:1:a", 1, 20, pause=60_000), 0)
    state, _ = apply(state, Sync("h:2:b", 1, 20, holding=5, cooling=30_000), 0)
    for number, now in enumerate((15_000, 29_000, 31_000, 45_000, 60_000), 2):
        state, answer = apply(state, Sync("h:1:a", number, 20), now)
        assert answer is not None
        assert (answer.pause, answer.members) == (60_000 - now, 2 if now < 30_000 else 1)


def test_only_the_member_that_was_killed_is_taken_over() -> None:
    """Its process may have others, and so may other containers of one host and one process id: they hold on to theirs."""
    state = None
    for name in ("h:1:a", "h:1:b", "h:1:c"):
        state, _ = apply(state, Sync(name, 1, 20, holding=5, bulk=name != "h:1:c"), 0)
    held = []
    for number, heir_of in enumerate(("h:1", "h:1:c", "h:1:b"), 1):
        state, answer = apply(state, Sync("h:2:d", number, 20, heir_of=heir_of), 3000)
        assert answer is not None
        held.append(answer.granted)
    assert held == [0, 0, 5], "one without bulk work makes no run"
