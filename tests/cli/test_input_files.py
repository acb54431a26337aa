"""Exports as programs write them, each a small file in tests/inputs, and exactly what becomes of each.

The files of pandas, Polars, Excel's and SQLite's kind were written by those libraries. Those of Snowflake, BigQuery, Redshift,
Athena, Hive, Google Sheets and LibreOffice follow their documentation.
"""
# ruff: noqa: E501 - messages and values stand here as they are

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from support import ROOT

from teak_async._bulk.outcomes import REST_LEFT, Row
from teak_async._cli.errors import InputError
from teak_async._cli.input import RowReader
from teak_async._cli.schema import RowSchema, identify_schema, state_schema, status_schema
from teak_async._cli.selection import read_part
from teak_async._cli.source import Reading
from teak_async.errors import InvalidRequest
from teak_async.models import State

INPUTS = ROOT / "tests" / "inputs"
SCHEMAS = {"identify": identify_schema(), "status": status_schema(), "opt-out": state_schema(State.OPT_OUT, None)}
PARAMETERS = ("user_id", "client_ip", "country_code", "timezone_id", "email")


def describe(row: Row) -> str:
    """A row in a line: its parameters, or what is wrong."""
    if row is REST_LEFT:
        return "rest left"
    if isinstance(row.request, InvalidRequest):
        return str(row.request)
    values = [repr(value) for name in PARAMETERS if (value := getattr(row.request, name, None)) is not None]
    return f"{row.line}: {' '.join(values)}" + ("" if row.selected else " (not selected)")


async def outcome_of(name: str, schema: RowSchema, reading: Reading | Callable[[], Reading]) -> tuple[str, list[str]]:
    """What the reader says of a file, without its path: what it was recognised as, or the error, and the rows."""
    found: list[str] = []
    rows: RowReader | None = None
    try:
        rows = RowReader(str(INPUTS / name), schema, None, reading() if callable(reading) else reading)
        async for row in rows:
            found.append(describe(row))
        said = rows.description
        found += rows.findings.lines()
    except InputError as error:
        said = str(error)
    finally:
        if rows is not None:
            rows.close()
    return said.replace(str(INPUTS / name), "FILE"), found


FILES: list[tuple[str, str, list[str]]] = [
    (
        "array.json",
        "FILE: this is JSON, but not JSON Lines, which have an object on each line; read it with teak-async identify --sql \"SELECT user_id, client_ip FROM 'FILE'\"",
        [],
    ),
    (
        "athena.csv",
        "FILE: CSV separated by commas, UTF-8",
        [
            "2: 'p1' 'DE'",
            "line 3: either client_ip or country_code is needed (client_ip 127.0.0.1 if the place is not known)",
        ],
    ),
    (
        "bigquery.json",
        "FILE: JSON Lines, UTF-8",
        [
            "1: '4873214862074862001' 'DE'",
            "2: '2' 'FR'",
        ],
    ),
    (
        "bzip2.csv.bz2",
        "FILE: CSV separated by commas, UTF-8, bzip2",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
        ],
    ),
    (
        "changed.csv",
        "FILE: CSV separated by commas, UTF-8",
        [
            "line 2: user_id: '12.0': a spreadsheet or pandas has made a decimal of this number; export the column as a whole number or as text",
            "line 3: user_id: '4.873214862074862e+18': a spreadsheet or pandas has rounded this number; export the column as text",
            "line 4: user_id: '1.23457E+17': a spreadsheet or pandas has rounded this number; export the column as text",
            "line 5: user_id: '=\"00123\"': this is a spreadsheet's formula; export the value alone",
            "line 6: user_id: '=\"00123\"': this is a spreadsheet's formula; export the value alone",
            "line 7: user_id: '1,234,567': a spreadsheet has put separators into this number; export it without a number format",
            "8: '12e34567' 'DE'",
            'line 9: user_id: "\'00123": a spreadsheet marks text by this apostrophe; export the value alone',
            "line 10: user_id: '1.234.567': a spreadsheet has put separators into this number; export it without a number format",
            "line 11: user_id: '1 234 567': a spreadsheet has put separators into this number; export it without a number format",
            "line 12: user_id: '1,23457E+17': a spreadsheet or pandas has rounded this number; export the column as text",
            "line 13: user_id: \"b'p1'\": a Python program has written bytes without decoding them; decode the column before the export",
            "14: '00123' 'DE'",
            "15: '-5' 'DE'",
            "a user_id that ends in .0: 1, the first in line 2, user_id '12.0'",
            "a user_id with an exponent: 3, the first in line 3, user_id '4.873214862074862e+18'",
            "a user_id in a spreadsheet's formula: 2, the first in line 5, user_id '=\"00123\"'",
            "a user_id with thousands separators: 3, the first in line 7, user_id '1,234,567'",
            "a user_id behind a spreadsheet's apostrophe: 1, the first in line 9, user_id \"'00123\"",
            "a user_id in Python's notation for bytes: 1, the first in line 13, user_id \"b'p1'\"",
        ],
    ),
    (
        "cr.csv",
        "FILE: CSV separated by commas, UTF-8, lines end with CR",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
        ],
    ),
    (
        "crlf.csv",
        "FILE: CSV separated by commas, UTF-8",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
        ],
    ),
    (
        "cut.csv.gz",
        "FILE: cannot be read after line 150: the gzip data end too early; was the file copied whole?",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
            "line 4: the header again, as in joined files; it is no player",
            "5: 'p1' '203.0.113.1'",
            "6: 'p2' '203.0.113.2'",
            "line 7: the header again, as in joined files; it is no player",
            "8: 'p1' '203.0.113.1'",
            "9: 'p2' '203.0.113.2'",
            "line 10: the header again, as in joined files; it is no player",
            "11: 'p1' '203.0.113.1'",
            "12: 'p2' '203.0.113.2'",
            "line 13: the header again, as in joined files; it is no player",
            "14: 'p1' '203.0.113.1'",
            "15: 'p2' '203.0.113.2'",
            "line 16: the header again, as in joined files; it is no player",
            "17: 'p1' '203.0.113.1'",
            "18: 'p2' '203.0.113.2'",
            "line 19: the header again, as in joined files; it is no player",
            "20: 'p1' '203.0.113.1'",
            "21: 'p2' '203.0.113.2'",
            "line 22: the header again, as in joined files; it is no player",
            "23: 'p1' '203.0.113.1'",
            "24: 'p2' '203.0.113.2'",
            "line 25: the header again, as in joined files; it is no player",
            "26: 'p1' '203.0.113.1'",
            "27: 'p2' '203.0.113.2'",
            "line 28: the header again, as in joined files; it is no player",
            "29: 'p1' '203.0.113.1'",
            "30: 'p2' '203.0.113.2'",
            "line 31: the header again, as in joined files; it is no player",
            "32: 'p1' '203.0.113.1'",
            "33: 'p2' '203.0.113.2'",
            "line 34: the header again, as in joined files; it is no player",
            "35: 'p1' '203.0.113.1'",
            "36: 'p2' '203.0.113.2'",
            "line 37: the header again, as in joined files; it is no player",
            "38: 'p1' '203.0.113.1'",
            "39: 'p2' '203.0.113.2'",
            "line 40: the header again, as in joined files; it is no player",
            "41: 'p1' '203.0.113.1'",
            "42: 'p2' '203.0.113.2'",
            "line 43: the header again, as in joined files; it is no player",
            "44: 'p1' '203.0.113.1'",
            "45: 'p2' '203.0.113.2'",
            "line 46: the header again, as in joined files; it is no player",
            "47: 'p1' '203.0.113.1'",
            "48: 'p2' '203.0.113.2'",
            "line 49: the header again, as in joined files; it is no player",
            "50: 'p1' '203.0.113.1'",
            "51: 'p2' '203.0.113.2'",
            "line 52: the header again, as in joined files; it is no player",
            "53: 'p1' '203.0.113.1'",
            "54: 'p2' '203.0.113.2'",
            "line 55: the header again, as in joined files; it is no player",
            "56: 'p1' '203.0.113.1'",
            "57: 'p2' '203.0.113.2'",
            "line 58: the header again, as in joined files; it is no player",
            "59: 'p1' '203.0.113.1'",
            "60: 'p2' '203.0.113.2'",
            "line 61: the header again, as in joined files; it is no player",
            "62: 'p1' '203.0.113.1'",
            "63: 'p2' '203.0.113.2'",
            "line 64: the header again, as in joined files; it is no player",
            "65: 'p1' '203.0.113.1'",
            "66: 'p2' '203.0.113.2'",
            "line 67: the header again, as in joined files; it is no player",
            "68: 'p1' '203.0.113.1'",
            "69: 'p2' '203.0.113.2'",
            "line 70: the header again, as in joined files; it is no player",
            "71: 'p1' '203.0.113.1'",
            "72: 'p2' '203.0.113.2'",
            "line 73: the header again, as in joined files; it is no player",
            "74: 'p1' '203.0.113.1'",
            "75: 'p2' '203.0.113.2'",
            "line 76: the header again, as in joined files; it is no player",
            "77: 'p1' '203.0.113.1'",
            "78: 'p2' '203.0.113.2'",
            "line 79: the header again, as in joined files; it is no player",
            "80: 'p1' '203.0.113.1'",
            "81: 'p2' '203.0.113.2'",
            "line 82: the header again, as in joined files; it is no player",
            "83: 'p1' '203.0.113.1'",
            "84: 'p2' '203.0.113.2'",
            "line 85: the header again, as in joined files; it is no player",
            "86: 'p1' '203.0.113.1'",
            "87: 'p2' '203.0.113.2'",
            "line 88: the header again, as in joined files; it is no player",
            "89: 'p1' '203.0.113.1'",
            "90: 'p2' '203.0.113.2'",
            "line 91: the header again, as in joined files; it is no player",
            "92: 'p1' '203.0.113.1'",
            "93: 'p2' '203.0.113.2'",
            "line 94: the header again, as in joined files; it is no player",
            "95: 'p1' '203.0.113.1'",
            "96: 'p2' '203.0.113.2'",
            "line 97: the header again, as in joined files; it is no player",
            "98: 'p1' '203.0.113.1'",
            "99: 'p2' '203.0.113.2'",
            "line 100: the header again, as in joined files; it is no player",
            "101: 'p1' '203.0.113.1'",
            "102: 'p2' '203.0.113.2'",
            "line 103: the header again, as in joined files; it is no player",
            "104: 'p1' '203.0.113.1'",
            "105: 'p2' '203.0.113.2'",
            "line 106: the header again, as in joined files; it is no player",
            "107: 'p1' '203.0.113.1'",
            "108: 'p2' '203.0.113.2'",
            "line 109: the header again, as in joined files; it is no player",
            "110: 'p1' '203.0.113.1'",
            "111: 'p2' '203.0.113.2'",
            "line 112: the header again, as in joined files; it is no player",
            "113: 'p1' '203.0.113.1'",
            "114: 'p2' '203.0.113.2'",
            "line 115: the header again, as in joined files; it is no player",
            "116: 'p1' '203.0.113.1'",
            "117: 'p2' '203.0.113.2'",
            "line 118: the header again, as in joined files; it is no player",
            "119: 'p1' '203.0.113.1'",
            "120: 'p2' '203.0.113.2'",
            "line 121: the header again, as in joined files; it is no player",
            "122: 'p1' '203.0.113.1'",
            "123: 'p2' '203.0.113.2'",
            "line 124: the header again, as in joined files; it is no player",
            "125: 'p1' '203.0.113.1'",
            "126: 'p2' '203.0.113.2'",
            "line 127: the header again, as in joined files; it is no player",
            "128: 'p1' '203.0.113.1'",
            "129: 'p2' '203.0.113.2'",
            "line 130: the header again, as in joined files; it is no player",
            "131: 'p1' '203.0.113.1'",
            "132: 'p2' '203.0.113.2'",
            "line 133: the header again, as in joined files; it is no player",
            "134: 'p1' '203.0.113.1'",
            "135: 'p2' '203.0.113.2'",
            "line 136: the header again, as in joined files; it is no player",
            "137: 'p1' '203.0.113.1'",
            "138: 'p2' '203.0.113.2'",
            "line 139: the header again, as in joined files; it is no player",
            "140: 'p1' '203.0.113.1'",
            "141: 'p2' '203.0.113.2'",
            "line 142: the header again, as in joined files; it is no player",
            "143: 'p1' '203.0.113.1'",
            "144: 'p2' '203.0.113.2'",
            "line 145: the header again, as in joined files; it is no player",
            "146: 'p1' '203.0.113.1'",
            "147: 'p2' '203.0.113.2'",
            "line 148: the header again, as in joined files; it is no player",
            "149: 'p1' '203.0.113.1'",
            "150: 'p2' '203.0.113.2'",
        ],
    ),
    (
        "damaged.csv.gz",
        "FILE: cannot be read after line 3: the gzip data are damaged: CRC check failed 0x3020100 != 0x5bda1854",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
        ],
    ),
    (
        "excel_blank_rows.csv",
        "FILE: CSV separated by semicolons, UTF-8",
        [
            "2: 'p1' 'DE'",
            "line 3: user_id: must not be empty; either client_ip or country_code is needed (client_ip 127.0.0.1 if the place is not known)",
        ],
    ),
    (
        "excel_unicode.txt",
        "FILE, line 1: unknown column 'name'; known are user_id, client_ip, country_code, timezone_id, email, deep_link. Remove or rename it, or leave it out with --ignore-extra",
        [],
    ),
    (
        "gzip.csv.gz",
        "FILE: CSV separated by commas, UTF-8, gzip",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
        ],
    ),
    (
        "gzip.jsonl.gz",
        "FILE: JSON Lines, UTF-8, gzip",
        [
            "1: 'p1' '203.0.113.1'",
            "2: 'p2' '203.0.113.2'",
        ],
    ),
    (
        "gzip.txt",
        "FILE: CSV separated by commas, UTF-8, gzip",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
        ],
    ),
    (
        "header_only.csv",
        "FILE: CSV separated by commas, UTF-8",
        [],
    ),
    (
        "hive.tsv",
        "FILE, line 1: unknown columns 'players.user_id', 'players.country_code'; known are user_id, client_ip, country_code, timezone_id, email, deep_link. Probably meant: --column user_id=players.user_id --column country_code=players.country_code",
        [],
    ),
    (
        "identify_for_status.csv",
        "FILE: CSV separated by commas, UTF-8",
        [
            "2: 'p1' '203.0.113.1' 'DE'",
        ],
    ),
    (
        "invisible.csv",
        "FILE: CSV separated by commas, UTF-8",
        [
            "line 2: user_id: has a zero-width character (U+200B, character 2); remove it before the export",
            "line 3: user_id: has a control character (U+0000, character 2); remove it before the export",
            "line 4: user_id: has a zero-width character (U+202E, character 2); remove it before the export",
            "line 5: user_id: has a zero-width character (U+FEFF, character 1); remove it before the export",
            "6: 'p1' 'DE'",
            "line 7: user_id: has a control character (U+007F, character 2); remove it before the export",
            "line 8: user_id: a conversion has lost a character here (U+FFFD); export it again, as UTF-8",
            "control, zero-width or lost characters: 6, the first in line 2, user_id 'p\\u200b1'",
        ],
    ),
    (
        "joined.csv.gz",
        "FILE: CSV separated by commas, UTF-8, gzip",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
            "line 4: the header again, as in joined files; it is no player",
            "5: 'p3' '203.0.113.3'",
        ],
    ),
    (
        "latin1.csv",
        "FILE, line 1: this is neither UTF-8 nor UTF-16 text; if it comes from Windows or Excel: iconv -f windows-1252 -t utf-8 FILE | teak-async identify -",
        [],
    ),
    (
        "libreoffice.csv",
        "FILE: CSV separated by tabs, UTF-8",
        [
            "2: 'p1' 'DE'",
            "3: '1234567890123' 'FR'",
        ],
    ),
    (
        "members.csv.gz",
        "FILE: CSV separated by commas, UTF-8, gzip",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
            "4: 'p3' '203.0.113.3'",
        ],
    ),
    (
        "no_values.csv",
        "FILE: CSV separated by commas, UTF-8",
        [
            "2: 'p1' 'NA'",
            "line 3: user_id: '\\\\N' is a word for a missing value, and no player's id",
            "line 4: user_id: 'nan' is a word for a missing value, and no player's id",
            "line 5: user_id: 'NULL' is a word for a missing value, and no player's id",
            "line 6: user_id: 'None' is a word for a missing value, and no player's id",
            "line 7: user_id: '<NA>' is a word for a missing value, and no player's id",
            "line 8: user_id: 'null' is a word for a missing value, and no player's id",
            "line 9: user_id: 'NaN' is a word for a missing value, and no player's id",
            "line 10: user_id: 'N/A' is a word for a missing value, and no player's id",
            "line 11: user_id: '#N/A' is a word for a missing value, and no player's id",
            "12: 'p2' 'DE'",
            "a word for a missing value, taken as empty: 6, the first in line 2, client_ip '\\\\N'",
            "a user_id that is a word for a missing value: 9, the first in line 3, user_id '\\\\N'",
        ],
    ),
    (
        "page.csv",
        "FILE: this is a web page (HTML); did the download need a login? Export it as CSV",
        [],
    ),
    (
        "pandas_floats.csv",
        "FILE: CSV separated by commas, UTF-8",
        [
            "line 2: user_id: '12.0': a spreadsheet or pandas has made a decimal of this number; export the column as a whole number or as text",
            "line 3: user_id: must not be empty; either client_ip or country_code is needed (client_ip 127.0.0.1 if the place is not known)",
            "a user_id that ends in .0: 1, the first in line 2, user_id '12.0'",
        ],
    ),
    (
        "pandas_index.csv",
        "FILE, line 1: the first column has no name, like the index of a pandas table; write the table with index=False, or leave the column out with --ignore-extra",
        [],
    ),
    (
        "pandas_lines.jsonl",
        "FILE: JSON Lines, UTF-8",
        [
            "line 1: user_id: '1.0': a spreadsheet or pandas has made a decimal of this number; export the column as a whole number or as text",
            "line 2: user_id: '2.0': a spreadsheet or pandas has made a decimal of this number; export the column as a whole number or as text",
            "a user_id that ends in .0: 2, the first in line 1, user_id '1.0'",
        ],
    ),
    (
        "pandas_na.csv",
        "FILE: CSV separated by semicolons, UTF-16",
        [
            "2: 'p1' 'DE'",
            "line 3: either client_ip or country_code is needed (client_ip 127.0.0.1 if the place is not known)",
            "a word for a missing value, taken as empty: 1, the first in line 3, country_code 'nan'",
        ],
    ),
    (
        "pipe.txt",
        "FILE: CSV separated by pipes, UTF-8",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
        ],
    ),
    (
        "player_id.csv",
        "FILE, line 1: unknown columns 'player_id', 'ip'; known are user_id, client_ip, country_code, timezone_id, email, deep_link. Probably meant: --column user_id=player_id --column client_ip=ip",
        [],
    ),
    (
        "players.avro",
        "FILE: this is an Avro file; export it as Parquet, CSV or JSON Lines",
        [],
    ),
    (
        "players.feather",
        "FILE: this is an Arrow (Feather) file; export it as Parquet, CSV or JSON Lines",
        [],
    ),
    (
        "players.lz4",
        "FILE: this is compressed with LZ4; lz4 -dc FILE | teak-async identify -",
        [],
    ),
    (
        "players.orc",
        "FILE: this is an ORC file; export it as Parquet, CSV or JSON Lines",
        [],
    ),
    (
        "players.parquet",
        "FILE: this is a Parquet file; read it with teak-async identify --sql \"SELECT player_id AS user_id, ip AS client_ip FROM 'FILE'\"",
        [],
    ),
    (
        "players.sqlite",
        'FILE: this is a SQLite database (a journal is one, too); sqlite3 -header -csv FILE "SELECT user_id, client_ip FROM players" | teak-async identify -',
        [],
    ),
    (
        "players.tar.gz",
        "FILE: this is a tar archive; tar -xOf FILE | teak-async identify -",
        [],
    ),
    (
        "players.xls",
        "FILE: this is an Excel workbook of the old kind (.xls); save it as CSV UTF-8",
        [],
    ),
    (
        "players.zip",
        "FILE: this is a ZIP archive; unzip -p FILE | teak-async identify -",
        [],
    ),
    (
        "polars.csv",
        "FILE: CSV separated by commas, UTF-8",
        [
            "2: 'p1' 'DE'",
            "line 3: either client_ip or country_code is needed (client_ip 127.0.0.1 if the place is not known)",
        ],
    ),
    (
        "polars.ndjson",
        "FILE: JSON Lines, UTF-8",
        [
            "1: 'p1' 'DE'",
            "line 2: either client_ip or country_code is needed (client_ip 127.0.0.1 if the place is not known)",
        ],
    ),
    (
        "pretty.json",
        "FILE: this is JSON, but not JSON Lines, which have an object on each line; read it with teak-async identify --sql \"SELECT user_id, client_ip FROM 'FILE'\"",
        [],
    ),
    (
        "quotes.csv",
        "FILE: CSV separated by commas, UTF-8",
        [
            "line 2: user_id: has a control character (U+000A, character 3); remove it before the export",
            "line 4: not a CSV row: unexpected end of data",
            "5: 'p3' '203.0.113.3'",
            "6: 'p\"4' '203.0.113.4'",
            "control, zero-width or lost characters: 1, the first in line 2, user_id 'p1\\nx'",
        ],
    ),
    (
        "r.csv",
        "FILE, line 1: the first column has no name, like the index of a pandas table; write the table with index=False, or leave the column out with --ignore-extra",
        [],
    ),
    (
        "redshift_000.zst",
        "FILE: CSV separated by pipes, UTF-8, zstd",
        [
            "2: 'p1' '203.0.113.1' 'Europe/Paris'",
        ],
    ),
    (
        "repeated.csv",
        "FILE: CSV separated by commas, UTF-8",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
            "4: 'p1' '203.0.113.1'",
        ],
    ),
    (
        "reported.csv",
        "FILE: CSV separated by commas, UTF-8; left out: 'why', 'line'",
        [
            "2: 'p1' '203.0.113.1'",
        ],
    ),
    (
        "semicolon.csv",
        "FILE: CSV separated by semicolons, UTF-8",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
        ],
    ),
    (
        "sep.csv",
        "FILE: CSV separated by semicolons, UTF-8",
        [
            "3: 'p1' '203.0.113.1'",
            "4: 'p2' '203.0.113.2'",
        ],
    ),
    (
        "sep_other.csv",
        "FILE, line 1: 'sep=^' names an unknown separator; export the file with commas, semicolons, tabs, pipes",
        [],
    ),
    (
        "sep_quoted.csv",
        "FILE: CSV separated by pipes, UTF-8",
        [
            "3: 'p1' '203.0.113.1'",
            "4: 'p2' '203.0.113.2'",
        ],
    ),
    (
        "sheets.csv",
        "FILE, line 1: unknown column 'Notes'; known are user_id, client_ip, country_code, timezone_id, email, deep_link. Remove or rename it, or leave it out with --ignore-extra",
        [],
    ),
    (
        "snowflake.csv.gz",
        "FILE: CSV separated by commas, UTF-8, gzip",
        [
            "2: 'p1' 'DE'",
            "line 3: country_code: must be a two-letter ISO country, not '\\\\\\\\N'",
            "a word for a missing value, taken as empty: 1, the first in line 2, email '\\\\N'",
        ],
    ),
    (
        "synonyms.jsonl",
        "FILE, line 1: unknown columns 'userid', 'ip_address', 'tz', 'e-mail'; known are user_id, client_ip, country_code, timezone_id, email, deep_link. Probably meant: --column user_id=userid --column client_ip=ip_address --column timezone_id=tz --column email=e-mail",
        [],
    ),
    (
        "tab.tsv",
        "FILE: CSV separated by tabs, UTF-8",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
        ],
    ),
    (
        "trailing_comma.csv",
        "FILE, line 1: the last column has no name: the line ends with a separator; remove it, or leave the column out with --ignore-extra",
        [],
    ),
    (
        "uid.csv",
        "FILE, line 1: unknown columns 'uid', 'country'; known are user_id, client_ip, country_code, timezone_id, email, deep_link. Probably meant: --column user_id=uid --column country_code=country",
        [],
    ),
    (
        "unknown.csv",
        "FILE, line 1: unknown columns 'level', 'guild'; known are user_id, client_ip, country_code, timezone_id, email, deep_link. Remove or rename it, or leave them out with --ignore-extra",
        [],
    ),
    (
        "upper.csv",
        "FILE: CSV separated by commas, UTF-8",
        [
            "2: 'p1' '203.0.113.1'",
        ],
    ),
    (
        "utf16.csv.gz",
        "FILE: CSV separated by commas, UTF-16, gzip",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
        ],
    ),
    (
        "utf16_be.csv",
        "FILE: CSV separated by commas, UTF-16",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
        ],
    ),
    (
        "utf16_le.csv",
        "FILE: CSV separated by commas, UTF-16",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
        ],
    ),
    (
        "utf16_mark.csv",
        "FILE: CSV separated by commas, UTF-16",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
        ],
    ),
    (
        "utf16_tab.txt",
        "FILE: CSV separated by tabs, UTF-16",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
        ],
    ),
    (
        "workbook.xlsx",
        "FILE: this is an Excel workbook; save it as CSV UTF-8, or: soffice --headless --convert-to csv:'Text - txt - csv (StarCalc)':44,34,76 FILE",
        [],
    ),
    (
        "xz.csv.xz",
        "FILE: CSV separated by commas, UTF-8, xz",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
        ],
    ),
    (
        "zstd.csv.zst",
        "FILE: CSV separated by commas, UTF-8, zstd",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
        ],
    ),
]
WITH_OPTIONS: list[tuple[str, str, Callable[[], Reading], str, list[str]]] = [
    (
        "player_id.csv",
        "identify",
        lambda: Reading(columns={"user_id": "player_id", "client_ip": "ip"}),
        "FILE: CSV separated by commas, UTF-8",
        [
            "2: 'p1' '203.0.113.1'",
        ],
    ),
    (
        "player_id.csv",
        "identify",
        lambda: Reading(columns={"user_id": "PLAYER_ID"}, ignore_extra=True, constants={"country_code": "US"}),
        "FILE: CSV separated by commas, UTF-8; left out: 'ip'",
        [
            "2: 'p1' 'US'",
        ],
    ),
    (
        "uid.csv",
        "status",
        lambda: Reading(columns={"user_id": "uid"}),
        "FILE, line 1: unknown column 'country'; known are user_id. Remove or rename it, or leave it out with --ignore-extra",
        [],
    ),
    (
        "uid.csv",
        "status",
        lambda: Reading(columns={"user_id": "gone"}),
        "FILE, line 1: there is no column 'gone' for --column user_id=…; the columns are 'uid', 'country'",
        [],
    ),
    (
        "uid.csv",
        "status",
        lambda: Reading(columns={"email": "uid"}),
        "--column: status has no parameter 'email'; it has user_id",
        [],
    ),
    (
        "synonyms.jsonl",
        "identify",
        lambda: Reading(columns={"user_id": "userid", "client_ip": "ip_address", "timezone_id": "tz", "email": "e-mail"}),
        "FILE: JSON Lines, UTF-8",
        [
            "1: 'p1' '203.0.113.1' 'Europe/Paris' 'a@example.com'",
        ],
    ),
    (
        "hive.tsv",
        "identify",
        lambda: Reading(columns={"user_id": "players.user_id", "country_code": "players.country_code"}),
        "FILE: CSV separated by tabs, UTF-8",
        [
            "2: 'p1' 'DE'",
            "line 3: user_id: 'NULL' is a word for a missing value, and no player's id",
            "a user_id that is a word for a missing value: 1, the first in line 3, user_id 'NULL'",
        ],
    ),
    (
        "unknown.csv",
        "identify",
        lambda: Reading(ignore_extra=True),
        "FILE: CSV separated by commas, UTF-8; left out: 'level', 'guild'",
        [
            "2: 'p1' '203.0.113.1'",
        ],
    ),
    (
        "trailing_comma.csv",
        "identify",
        lambda: Reading(ignore_extra=True),
        "FILE: CSV separated by commas, UTF-8; left out: the one without a name",
        [
            "2: 'p1' '203.0.113.1'",
        ],
    ),
    (
        "pandas_index.csv",
        "identify",
        lambda: Reading(ignore_extra=True),
        "FILE: CSV separated by commas, UTF-8; left out: the one without a name",
        [
            "2: 'p1' 'DE'",
        ],
    ),
    (
        "r.csv",
        "identify",
        lambda: Reading(ignore_extra=True),
        "FILE: CSV separated by commas, UTF-8; left out: the one without a name",
        [
            "2: 'p1' 'NA'",
        ],
    ),
    (
        "sheets.csv",
        "identify",
        lambda: Reading(ignore_extra=True),
        "FILE: CSV separated by commas, UTF-8; left out: 'Notes'",
        [
            "2: 'p1' 'DE'",
            "line 4: either client_ip or country_code is needed (client_ip 127.0.0.1 if the place is not known)",
            "a word for a missing value, taken as empty: 1, the first in line 4, country_code '#N/A'",
        ],
    ),
    (
        "excel_unicode.txt",
        "identify",
        lambda: Reading(ignore_extra=True),
        "FILE: CSV separated by tabs, UTF-16; left out: 'name'",
        [
            "line 2: user_id: '1,23457E+17': a spreadsheet or pandas has rounded this number; export the column as text",
            "a user_id with an exponent: 1, the first in line 2, user_id '1,23457E+17'",
        ],
    ),
    (
        "excel_unicode.txt",
        "identify",
        lambda: Reading(ignore_extra=True, as_is=True),
        "FILE: CSV separated by tabs, UTF-16; left out: 'name'",
        [
            "2: '1,23457E+17' 'DE'",
        ],
    ),
    (
        "identify_for_status.csv",
        "status",
        Reading,
        "FILE: CSV separated by commas, UTF-8; left out: 'client_ip', 'country_code'",
        [
            "2: 'p1'",
        ],
    ),
    (
        "identify_for_status.csv",
        "opt-out",
        Reading,
        "FILE: CSV separated by commas, UTF-8; left out: 'client_ip', 'country_code'",
        [
            "2: 'p1'",
        ],
    ),
    (
        "upper.csv",
        "status",
        Reading,
        "FILE: CSV separated by commas, UTF-8; left out: 'Client_IP'",
        [
            "2: 'p1'",
        ],
    ),
    (
        "changed.csv",
        "identify",
        lambda: Reading(as_is=True),
        "FILE: CSV separated by commas, UTF-8",
        [
            "2: '12.0' 'DE'",
            "3: '4.873214862074862e+18' 'DE'",
            "4: '1.23457E+17' 'DE'",
            "5: '=\"00123\"' 'DE'",
            "6: '=\"00123\"' 'DE'",
            "7: '1,234,567' 'DE'",
            "8: '12e34567' 'DE'",
            "9: \"'00123\" 'DE'",
            "10: '1.234.567' 'DE'",
            "11: '1 234 567' 'DE'",
            "12: '1,23457E+17' 'DE'",
            "13: \"b'p1'\" 'DE'",
            "14: '00123' 'DE'",
            "15: '-5' 'DE'",
        ],
    ),
    (
        "no_values.csv",
        "identify",
        lambda: Reading(as_is=True),
        "FILE: CSV separated by commas, UTF-8",
        [
            "line 2: client_ip: must be one IPv4 or IPv6 address, not a word for no address; give a country_code, or 127.0.0.1 if the place is not known",
            "3: '\\\\N' '203.0.113.1' 'DE'",
            "4: 'nan' '203.0.113.1' 'DE'",
            "5: 'NULL' '203.0.113.1' 'DE'",
            "6: 'None' '203.0.113.1' 'DE'",
            "7: '<NA>' '203.0.113.1' 'DE'",
            "8: 'null' 'DE'",
            "9: 'NaN' 'DE'",
            "10: 'N/A' 'DE'",
            "11: '#N/A' 'DE'",
            "line 12: client_ip: must be one IPv4 or IPv6 address, not a word for no address; give a country_code, or 127.0.0.1 if the place is not known",
        ],
    ),
    (
        "invisible.csv",
        "identify",
        lambda: Reading(as_is=True),
        "FILE: CSV separated by commas, UTF-8",
        [
            "2: 'p\\u200b1' 'DE'",
            "3: 'p\\x001' 'DE'",
            "4: 'p\\u202e1' 'DE'",
            "5: '\\ufeffp1' 'DE'",
            "6: 'p1' 'DE'",
            "7: 'p\\x7f' 'DE'",
            "8: 'p�1' 'DE'",
        ],
    ),
    (
        "pandas_lines.jsonl",
        "identify",
        lambda: Reading(as_is=True),
        "FILE: JSON Lines, UTF-8",
        [
            "1: '1.0' 'DE'",
            "2: '2.0' 'FR'",
        ],
    ),
    (
        "pandas_floats.csv",
        "identify",
        lambda: Reading(as_is=True),
        "FILE: CSV separated by commas, UTF-8",
        [
            "2: '12.0' 'DE'",
            "line 3: user_id: must not be empty; either client_ip or country_code is needed (client_ip 127.0.0.1 if the place is not known)",
        ],
    ),
    (
        "snowflake.csv.gz",
        "identify",
        lambda: Reading(null_words=frozenset({r"\\N"}), constants={"client_ip": "127.0.0.1"}),
        "FILE: CSV separated by commas, UTF-8, gzip",
        [
            "2: 'p1' '127.0.0.1' 'DE'",
            "3: 'p2' '127.0.0.1' 'x@example.com'",
            "a word for a missing value, taken as empty: 2, the first in line 2, email '\\\\N'",
        ],
    ),
    (
        "gzip.csv.gz",
        "identify",
        lambda: Reading(constants={"country_code": "US"}),
        "FILE: CSV separated by commas, UTF-8, gzip",
        [
            "2: 'p1' '203.0.113.1' 'US'",
            "3: 'p2' '203.0.113.2' 'US'",
        ],
    ),
    (
        "gzip.csv.gz",
        "identify",
        lambda: Reading(constants={"client_ip": "127.0.0.1"}),
        "FILE, line 1: the column 'client_ip' and --constant both give client_ip; leave --constant out",
        [],
    ),
    (
        "gzip.csv.gz",
        "identify",
        lambda: Reading(constants={"user_id": "p"}),
        "--constant: with one user_id all rows would be the same player; name the column with --column",
        [],
    ),
    (
        "repeated.csv",
        "identify",
        lambda: Reading(once=True),
        "FILE: CSV separated by commas, UTF-8",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
            "4: 'p1' '203.0.113.1' (not selected)",
        ],
    ),
    (
        "repeated.csv",
        "identify",
        lambda: Reading(part=read_part("2")),
        "FILE: CSV separated by commas, UTF-8",
        [
            "2: 'p1' '203.0.113.1'",
            "3: 'p2' '203.0.113.2'",
            "rest left",
        ],
    ),
    (
        "repeated.csv",
        "identify",
        lambda: Reading(part=read_part("3-4")),
        "FILE: CSV separated by commas, UTF-8",
        [
            "2: 'p1' '203.0.113.1' (not selected)",
            "3: 'p2' '203.0.113.2'",
            "4: 'p1' '203.0.113.1'",
        ],
    ),
    (
        "repeated.csv",
        "identify",
        lambda: Reading(part=read_part("3-4"), once=True),
        "FILE: CSV separated by commas, UTF-8",
        [
            "2: 'p1' '203.0.113.1' (not selected)",
            "3: 'p2' '203.0.113.2'",
            "4: 'p1' '203.0.113.1' (not selected)",
        ],
    ),
    (
        "repeated.csv",
        "identify",
        lambda: Reading(part=read_part("9-"), allow_empty=False),
        "FILE: --rows selects no row of it. --allow-empty accepts it",
        [
            "2: 'p1' '203.0.113.1' (not selected)",
            "3: 'p2' '203.0.113.2' (not selected)",
            "4: 'p1' '203.0.113.1' (not selected)",
        ],
    ),
    (
        "header_only.csv",
        "identify",
        lambda: Reading(allow_empty=False),
        "FILE: no rows; did the export fail? --allow-empty accepts it",
        [],
    ),
]


@pytest.mark.parametrize(("name", "said", "rows"), FILES, ids=[name for name, *_ in FILES])
async def test_file(name: str, said: str, rows: list[str]) -> None:
    """It is read as it is, or refused with the one sentence that helps."""
    assert await outcome_of(name, identify_schema(), Reading()) == (said, rows)


@pytest.mark.parametrize(("name", "command", "reading", "said", "rows"), WITH_OPTIONS)
async def test_file_with_options(name: str, command: str, reading: Callable[[], Reading], said: str, rows: list[str]) -> None:
    """What an error proposes does what it says, and each option does no more."""
    assert await outcome_of(name, SCHEMAS[command], reading) == (said, rows)


def test_each_file_is_a_case() -> None:
    """No file lies there untried."""
    assert {name for name, *_ in FILES} == {path.name for path in INPUTS.iterdir()}


@pytest.mark.parametrize(
    "name", ["gzip.csv.gz", "zstd.csv.zst", "cr.csv", "utf16.csv.gz", "members.csv.gz", "sep.csv", "quotes.csv"]
)
async def test_a_file_is_counted_as_it_is_read(name: str) -> None:
    """The count before a run is that of the rows that come."""
    rows = RowReader(str(INPUTS / name), identify_schema())
    count = rows.count()
    assert count == len([row async for row in rows])


@pytest.mark.parametrize("text", ["0", "-5", "x", "0-4", "1.5", "", "1-2-3", "²"])
def test_no_part(text: str) -> None:
    """What names no part is refused, and said back."""
    with pytest.raises(InputError, match=re.escape(f"--rows: {text!r} is neither a count")):
        read_part(text)
