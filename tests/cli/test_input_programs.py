"""What pandas and Polars write is read back the same. Both are in the group `rare`."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import pytest

from teak_async._cli.errors import InputError
from teak_async._cli.input import RowReader
from teak_async._cli.schema import identify_schema
from teak_async.models import Identify

IDS = ["p1", 'a"b', "x;y,z|w", "é🎮", "00123", "-7"]
EXPECTED = [Identify(name, country_code="NA") for name in IDS]


def read(path: Path) -> list[Any]:
    rows = RowReader(str(path), identify_schema())
    try:
        return [row.request for record in rows._records() for row in rows._make_rows(*record)]
    finally:
        rows.close()


@pytest.mark.filterwarnings("ignore:.*will not write the byte order mark:UnicodeWarning")
@pytest.mark.parametrize("compression", [None, "gzip", "bz2", "xz", "zstd"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_pandas_csv(tmp_path: Path, encoding: str, compression: str | None) -> None:
    """Each separator, line end and way of quoting, in each encoding and compression."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"user_id": IDS, "country_code": "NA", "email": None})
    if compression == "zstd":
        pytest.importorskip("zstandard")  # what pandas compresses with, before Python 3.14
    for sep, end, quoting in itertools.product(",;\t|", ("\n", "\r\n", "\r"), (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)):
        path = tmp_path / "frame"
        options = {"sep": sep, "lineterminator": end, "quoting": quoting, "na_rep": "nan"}
        frame.to_csv(path, index=False, encoding=encoding, compression=compression, **options)
        assert read(path) == EXPECTED, (sep, end, quoting)


def test_pandas_json(tmp_path: Path) -> None:
    """JSON Lines are read; an array is refused."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"user_id": IDS, "country_code": "NA", "email": None})
    frame.to_json(tmp_path / "lines", orient="records", lines=True)
    assert read(tmp_path / "lines") == EXPECTED
    frame.to_json(tmp_path / "array", orient="records")
    with pytest.raises(InputError, match="not JSON Lines"):
        read(tmp_path / "array")


def test_polars(tmp_path: Path) -> None:
    """Its CSV and its JSON Lines are read."""
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"user_id": IDS, "country_code": ["NA"] * len(IDS), "email": [None] * len(IDS)})
    for number, (separator, mark) in enumerate(itertools.product(",;\t|", (False, True))):
        path = tmp_path / f"{number}.csv"
        frame.write_csv(path, separator=separator, include_bom=mark)
        assert read(path) == EXPECTED
    frame.write_ndjson(tmp_path / "lines")
    assert read(tmp_path / "lines") == EXPECTED
