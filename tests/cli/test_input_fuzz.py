"""Whatever comes in, the reader ends, with rows or an error that names a place; what programs write is read back the same."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from teak_async._bulk.outcomes import Row
from teak_async._cli import text as module
from teak_async._cli.errors import InputError
from teak_async._cli.input import RowReader
from teak_async._cli.schema import identify_schema, status_schema
from teak_async._cli.source import Reading
from teak_async.errors import InvalidRequest
from teak_async.models import Identify

ONE_FILE = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PIECES = [
    b"user_id,client_ip\n",
    b"user_id;country_code\r\n",
    b'{"user_id": "p", "country_code": "DE"}\n',
    b"sep=;\n",
    b"p1,127.0.0.1\n",
]
PIECES += [
    b'"',
    b'""',
    b",",
    b";",
    b"\t",
    b"|",
    b"\r",
    b"\n",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xfe\xff",
    b"\xe9",
    b"[",
    b"{",
    b"}",
]
PIECES += [
    b"PAR1",
    b"PK\x03\x04",
    b"\x1f\x8b\x08\0",
    b"BZh91AY&SY",
    b"\xfd7zXZ\0",
    b"\x28\xb5\x2f\xfd",
    b"SQLite format 3\0",
    b"x" * 50,
]
COMPRESSED: dict[str, Callable[[bytes], bytes]] = {"": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


def rows_of(path: Path, schema: Any = None, reading: Reading | None = None) -> list[Row]:
    rows = RowReader(str(path), schema or identify_schema(), None, reading)
    try:
        return [row for record in rows._records() for row in rows._make_rows(*record)]
    finally:
        rows.close()


@ONE_FILE
@given(
    data=st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=8)), max_size=30).map(b"".join),
    packed=st.sampled_from(sorted(COMPRESSED)),
    cut=st.integers(0, 12),
    encoding=st.sampled_from(["", "utf-16", "utf-16-le", "utf-32"]),
)
def test_bytes(tmp_path: Path, data: bytes, packed: str, cut: int, encoding: str) -> None:
    """Any bytes, compressed or cut off, end in rows, as many as are counted, or in an error that names the file."""
    if encoding:
        data = data.decode("latin-1").encode(encoding)
    data = COMPRESSED[packed](data)
    path = tmp_path / "any"
    path.write_bytes(data[: len(data) - cut])
    problem = ""
    rows: list[Row] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_LINE", 40)
        try:
            rows = rows_of(path)
            counted = RowReader(str(path), identify_schema())
            assert counted.count() == len(rows)
            counted.close()
        except InputError as error:
            problem = str(error)
    assert problem == "" or problem.startswith(str(path))
    assert [row.line for row in rows] == sorted({row.line for row in rows})
    for row in rows:
        assert not isinstance(row.request, InvalidRequest) or str(row.request).startswith(f"line {row.line}: ")


CELL = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=8)


@ONE_FILE
@given(
    ids=st.lists(CELL, min_size=1, max_size=6),
    delimiter=st.sampled_from(",;\t|"),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]),
    packed=st.sampled_from(sorted(COMPRESSED)),
)
def test_what_csv_writes(
    tmp_path: Path, ids: list[str], delimiter: str, line_end: str, quoting: Any, encoding: str, packed: str
) -> None:
    """What Python's csv module writes in any of the dialects is read back as it was."""
    written = io.StringIO(newline="")
    writer = csv.writer(written, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
    writer.writerow(["user_id", "country_code"])
    writer.writerows([name, "DE"] for name in ids)
    path = tmp_path / "written"
    path.write_bytes(COMPRESSED[packed](written.getvalue().encode(encoding)))
    found = [row.request for row in rows_of(path, reading=Reading(as_is=True))]
    assert found == [Identify(name, country_code="DE") for name in ids]


@ONE_FILE
@given(
    before=st.lists(CELL.filter(lambda text: '"' not in text), max_size=4),
    after=st.lists(CELL.filter(lambda text: '"' not in text), max_size=4),
    row=st.sampled_from(['"p', 'p",', '"p"x', '"p""', '"a,b"c"']),
)
def test_a_stray_quote_spoils_its_line_only(tmp_path: Path, before: list[str], after: list[str], row: str) -> None:
    """The rows around it are read as if it were good."""
    path = tmp_path / "stray"
    lines = ["user_id\tclient_ip", *(f"{name}\t127.0.0.1" for name in before), f"{row}\t127.0.0.1"]
    path.write_text("\n".join([*lines, *(f"{name}\t127.0.0.1" for name in after)]), "utf-8")
    rows = rows_of(path, status_schema(), Reading(as_is=True))
    assert [getattr(one.request, "user_id", None) for one in rows if one.line != len(lines)] == [*before, *after]


def test_a_line_that_never_ends(tmp_path: Path) -> None:
    """A hundred megabytes without a line end, from a small compressed file, are one failed row in little memory."""
    path = tmp_path / "long.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"user_id\n")
        for _ in range(100):
            file.write(b"x" * (1 << 20))
        file.write(b"\np1\n")
    rows = rows_of(path, status_schema())
    assert [row.line for row in rows] == [2, 3]
    assert re.fullmatch("line 2: longer than [0-9]+ characters", str(rows[0].request))
    assert rows[0].source == ""


@pytest.mark.parametrize("quotes", ['"', '"x,1,'])
def test_many_open_quotes(tmp_path: Path, quotes: str) -> None:
    """A file in which every line has an open quote is read in a time that grows with its length only."""
    path = tmp_path / "quotes.csv"
    path.write_text("user_id,country_code\n" + f"{quotes}\n" * 20_001)
    assert len(rows_of(path)) >= 10_000
