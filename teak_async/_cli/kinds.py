"""Recognises an input by its first bytes: its compression, its encoding, or a format to convert first. Pure."""

from __future__ import annotations

import re
import shlex

COMPRESSIONS: tuple[tuple[bytes, str], ...] = (
    (rb"\x1f\x8b", "gzip"),
    (rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38)", "bzip2"),
    (rb"\xfd7zXZ\x00", "xz"),
    (rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", "zstd"),
)
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_BY_SQL = "read it with {sql}"
_FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (rb"PAR1", "a Parquet file", _BY_SQL),
    (rb".{8}DUCK", "a DuckDB database", _BY_SQL),
    (
        rb"SQLite format 3\0",
        "a SQLite database (a journal is one, too)",
        'sqlite3 -header -csv {path} "SELECT {columns} FROM players" | {command} -',
    ),
    (
        rb"PK\x03\x04.{26}mimetype.*opendocument",
        "a LibreOffice document",
        "soffice --headless --convert-to csv:'Text - txt - csv (StarCalc)':44,34,76 {path}",
    ),
    (
        rb"(?s:PK\x03\x04.*(?:xl/|\[Content_Types\]|_rels/|docProps/))",
        "an Excel workbook",
        "save it as CSV UTF-8, or: soffice --headless --convert-to csv:'Text - txt - csv (StarCalc)':44,34,76 {path}",
    ),
    (rb"PK\x03\x04", "a ZIP archive", "unzip -p {path} | {command} -"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook of the old kind (.xls)", "save it as CSV UTF-8"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "7z e -so {path} | {command} -"),
    (rb"\x04\x22\x4d\x18", "compressed with LZ4", "lz4 -dc {path} | {command} -"),
    (rb"\xff\x06\0\0sNaPpY", "compressed with Snappy", "export it with gzip"),
    (rb"\x1f[\x9d\xa0]", "compressed with compress (.Z)", "zcat {path} | {command} -"),
    (rb"Obj\x01", "an Avro file", "export it as Parquet, CSV or JSON Lines"),
    (rb"ORC", "an ORC file", "export it as Parquet, CSV or JSON Lines"),
    (rb"ARROW1|FEA1", "an Arrow (Feather) file", "export it as Parquet, CSV or JSON Lines"),
    (rb"%PDF-", "a PDF document", "export the table as CSV"),
    (rb"\x80[\x02-\x05]", "a Python pickle", "write it with to_csv(index=False)"),
    (rb"(?s:.{257}ustar)", "a tar archive", "tar -xOf {path} | {command} -"),
    (
        rb"(?i)\s*<(?:!doctype html|html|head|table|body)",
        "a web page (HTML)",
        "did the download need a login? Export it as CSV",
    ),
    (rb"\s*<\?xml", "an XML document", "export it as CSV or JSON Lines"),
)
_ORC_OR_TEXT = re.compile(rb"ORC[\x20-\x7e\r\n\t]*")


def find_compression(head: bytes) -> str:
    """Name the compression of a file; empty for none."""
    return next((name for pattern, name in COMPRESSIONS if re.match(pattern, head)), "")


def find_encoding(head: bytes) -> str:
    """Name the encoding of a text: by its byte order mark, else by its zero bytes, else UTF-8."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if len(head) >= 2 and bool(head[0]) != bool(head[1]):
        wide = "utf-16-le" if head[0] else "utf-16-be"
        return wide.replace("16", "32") if head[:4].count(0) == 3 else wide
    return "utf-32-be" if head[:3] == b"\0\0\0" and len(head) > 3 else "utf-8"


def find_line_end(text: str) -> str:
    """Return the line end of a text, which is the first in it; empty when more text is needed."""
    if (found := re.search(r"\r*\n|\r+(?=[^\r])", text)) is None:
        return ""
    return "\n" if found[0].endswith("\n") else "\r"


def find_foreign(head: bytes) -> tuple[str, str] | None:
    """Name the format of a file that is no text with rows, and how to convert it; `None` for a text."""
    if _ORC_OR_TEXT.fullmatch(head):
        return None
    return next(((what, how) for pattern, what, how in _FOREIGN if re.match(pattern, head, re.DOTALL)), None)


def how_to_convert(how: str, path: str, command: str, columns: str) -> str:
    """Return the command that converts a file."""
    if how == _BY_SQL and path == "-":
        return "save it to a file, and read that with --sql"
    named = "FILE" if path == "-" else shlex.quote(path)
    return how.format(sql=sql_line(path, command, columns), path=named, command=f"teak-async {command}", columns=columns)


def sql_line(path: str, command: str, columns: str) -> str:
    """Return the command that reads a file by SQL."""
    literal = path.replace("'", "''")
    query = f"SELECT {columns} FROM '{literal}'"  # noqa: S608 - shown, not run
    return f"teak-async {command} --sql {_shell_quote(query)}"


def _shell_quote(text: str) -> str:
    r"""Quote by double quotes, since a query has single ones."""
    return '"' + re.sub(r'([\\"$`])', r"\\\1", text) + '"'
