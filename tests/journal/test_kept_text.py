"""What a journal takes as its place, as what a run says of itself, and as the source of a row."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from support import ABOUT, identifies, rows_of

from teak_async import Identify, InvalidRequest, JournalError, Row, TeakSession
from teak_async._journal import database
from teak_async._journal.database import read_summary
from teak_async._journal.journal import Journal
from teak_async.sandbox import Sandbox


@contextmanager
def pipe(path: Path) -> Iterator[None]:
    os.mkfifo(path)
    yield


@contextmanager
def bound_socket(path: Path) -> Iterator[None]:
    with closing(socket.socket(socket.AF_UNIX)) as one:
        one.bind(os.path.relpath(path))  # the absolute path may be too long for a socket
        yield


@contextmanager
def device(path: Path) -> Iterator[None]:
    path.symlink_to(os.devnull)
    yield


@pytest.mark.parametrize("make", [pipe, bound_socket, device])
@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-lock"])
async def test_what_is_no_regular_file_is_refused(
    fast: TeakSession, server: Sandbox, path: Path, make: Any, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe would hang the run, and a device forgets what is written, under the journal's name as under its log's."""
    monkeypatch.chdir(path.parent)
    with (
        make(path.with_name(f"run.db{end}")),
        pytest.raises(JournalError, match=f"run.db: {f'run.db{end}' if end else 'it'} is no regular file"),
    ):
        await fast.bulk(identifies(1), journal=path)
    assert not server.players


@pytest.mark.parametrize("name", ["a\0b.db", "a\ud83d.db"])
async def test_what_names_no_file_is_refused(fast: TeakSession, tmp_path: Path, name: str) -> None:
    """A path that the system cannot take is named."""
    with pytest.raises(JournalError, match=r"no name of a file: .*; name a file in a folder"):
        await fast.bulk(identifies(1), journal=tmp_path / name)


async def test_a_name_that_is_no_utf8_is_one(fast: TeakSession, tmp_path: Path) -> None:
    """A file system takes any bytes, and so does a journal."""
    path = tmp_path / "caf\udce9.db"
    for skipped in (0, 3):
        assert (await fast.bulk(identifies(3), journal=path)).skipped == skipped
    assert read_summary(path).states == {"succeeded": 3}


async def test_a_folder_without_locks_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLite can share no memory, as on a network file system, it keeps no log, and says so only when it is asked."""
    connect: Any = sqlite3.connect

    def without_locks(file: Any, **options: Any) -> Any:
        return connect(f"{Path(file).as_uri()}?vfs=unix-none", uri=True, **options)

    monkeypatch.setattr(sqlite3, "connect", without_locks)
    with pytest.raises(JournalError, match=r"can hold no log .*; name a file on a local disk"):
        await Journal.open(path, ABOUT)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (True, "True"),
        (2.5, "2.5"),
        (Decimal("0.10"), "0.10"),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (PurePosixPath("a/b"), "a/b"),
        (b"caf\xc3\xa9", "caf\xe9"),
        ("nul\0", "nul\0"),
    ],
)
async def test_what_a_run_says_of_itself_is_text(path: Path, value: Any, text: str) -> None:
    """A value that has one text is kept as that, and is the same when the run is resumed."""
    for _ in range(2):
        await (await Journal.open(path, {**ABOUT, "n": value})).close()
    assert read_summary(path).about["n"] == text
    with pytest.raises(JournalError, match="another run: its n is"):
        await Journal.open(path, {**ABOUT, "n": "else"})


@pytest.mark.parametrize(
    ("about", "problem"),
    [
        ({"n": object()}, r"about\['n'\] is of the type object; give it as text"),
        ({"n": None}, r"about\['n'\] is of the type NoneType; give it as text"),
        ({"n": [1]}, r"about\['n'\] is of the type list; give it as text"),
        ({None: "n"}, r"a name in about= is of the type NoneType"),
        ({"log": "here"}, r"about\['log'\] is the journal's own; give it another name"),
        ({"begun": 1}, r"about\['begun'\] is the journal's own"),
        ({"half": "\ud83d"}, r"about\['half'\] cannot be kept: .*surrogates not allowed"),
        ({"n": b"caf\xe9"}, r"about\['n'\] cannot be kept"),
    ],
)
async def test_what_has_no_text_is_refused(fast: TeakSession, server: Sandbox, path: Path, about: Any, problem: str) -> None:
    """What cannot be compared when the run is resumed is an error before there is a journal."""
    with pytest.raises(JournalError, match=rf"run\.db: {problem}"):
        await fast.bulk(identifies(1), journal=path, about=about)
    assert not path.exists()
    assert not server.players


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        (5, "5"),
        (Decimal("1.50"), "1.50"),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (b"p1,US", "p1,US"),
        (bytearray(b"caf\xe9"), b"caf\xe9"),
        (memoryview(b"nul\0"), "nul\0"),
        ("half \ud83d", r"half \ud83d"),
    ],
)
async def test_a_source_is_kept_as_text(fast: TeakSession, path: Path, source: Any, kept: str | bytes) -> None:
    """A source that is no text is kept as the text that it has, of a row that was sent and of one that could not be read."""
    rows = [Row(Identify("p1", country_code="US"), source), Row(InvalidRequest("no"), source)]
    for skipped in (0, 2):
        assert (await fast.bulk(rows, journal=path)).skipped == skipped
    assert rows_of(path, "source") == [(kept,), (kept,)]


async def test_a_source_without_a_text_names_its_row(fast: TeakSession, path: Path) -> None:
    """The text of an object would be another one in the next run."""
    rows = [Row(Identify("p0", country_code="US")), Row(Identify("p1", country_code="US"), object())]  # type: ignore[arg-type] # what is refused
    with pytest.raises(TypeError, match="the source of row 1 is of the type object; give it as text"):
        await fast.bulk(rows, journal=path)
    assert [state for _, state in rows_of(path)] == ["succeeded"]


async def test_a_journal_of_an_older_page_size_goes_on(fast: TeakSession, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller pages are a new journal's; one that has SQLite's is resumed as it is."""
    monkeypatch.setattr(database, "PAGE_SIZE", 4096)
    await fast.bulk(identifies(5), journal=path)
    monkeypatch.undo()
    assert (await fast.bulk(identifies(9), journal=path)).skipped == 5
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA page_size").fetchone() == (4096,)
